"""``demo``: list, plan, sync, sync again and verify, against simulators of both services on this machine."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from arena_async.cli.exit_codes import ExitCode
from arena_async.cli.output import Output, cells, show_count, show_size
from arena_async.cli.progress import ProgressReporter
from arena_async.cli.reports import cost_record, describe_plan, describe_report, describe_verification, report_exit_code
from arena_async.cli.simulator import open_simulator
from arena_async.errors import ConfigurationError
from arena_async.protocol.files import FileSet
from arena_async.providers.registry import PROVIDERS, Service
from arena_async.transfer.mirror import Mirror

__all__ = ["demo"]

_FILES = 12
_SIZE = 400_000

#: For each service: the collection that is listed and downloaded, and the columns that are shown.
_COLLECTIONS: dict[Service, tuple[str, tuple[str, ...]]] = {
    "arena": ("extracts", ("guid", "name")),
    "centrepoint": ("datasets", ("subject_id", "data_set_name")),
}


async def demo(to: Path | None, output: Output) -> int:
    """Run all steps; every line that is written is the result of one."""
    directory = _empty_directory(to)
    codes = [await _run_service(service, directory, output) for service in _COLLECTIONS]
    async with Mirror(directory) as mirror:
        result = await mirror.verify()
    _write(output, "verify", describe_verification(result))
    _write_directory(directory, output)
    return max(*codes, ExitCode.FAILED if result.bad else ExitCode.OK)


def _empty_directory(to: Path | None) -> Path:
    """Return an empty directory: each simulator has another address, and a directory belongs to one."""
    if to is None:
        return Path(tempfile.mkdtemp(prefix="arena-async-demo-"))
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise ConfigurationError(f"{to}: the demo needs a new or empty directory; name another one with --to.")
    return to


async def _run_service(service: Service, directory: Path, output: Output) -> ExitCode:
    """List, plan, sync and sync again, against the simulator of a service; return the exit code."""
    source, columns = _COLLECTIONS[service]
    async with open_simulator(service, files=_FILES, size=_SIZE) as simulator:
        description = simulator.describe()
        study = [description["study"]] if "study" in description else []
        async with PROVIDERS[service].load_client().from_env(environ=description["environment"]) as client:
            collection = getattr(client, source)
            rows = [row async for row in collection.search(*study)]
            if output.json:
                output.record({"type": "list", "service": service, "rows": len(rows)})
            else:
                output.heading(f"{PROVIDERS[service].title}, simulated at {simulator.base_url}")
            _write(output, "list", f"{source}: {len(rows):,}, the first is {'  '.join(cells(rows[0], columns))}")
            files = collection.files(*study)
            async with Mirror(directory) as mirror:
                plan = await mirror.plan(files)
            if output.json:
                output.record({"type": "plan", "service": service, **cost_record(plan)})
            for number, line in enumerate(describe_plan(plan)):
                _write(output, "" if number else "plan", line)
            codes = [
                await _sync(files, simulator, directory, output, service=service, step=step)
                for step in ("sync", "again")
            ]
    return max(codes)


async def _sync(
    files: FileSet, simulator: Any, directory: Path, output: Output, *, service: Service, step: str
) -> ExitCode:
    """Download everything, and compare the counted requests with those that the service received."""
    api = simulator.listeners[0]
    before = len(simulator.seen(listener=api))
    async with (
        ProgressReporter(output, directory) as progress,
        Mirror(directory, observer=progress) as mirror,
    ):
        started = time.monotonic()
        report = await mirror.sync(files)
        seconds = time.monotonic() - started
    received = len(simulator.seen(listener=api)) - before
    if output.json:
        counts = {"requests": report.requests, "requests_seen": received}
        output.record({"type": step, "service": service, **counts})
    _write(output, step, f"{describe_report(report)}, {received:,} received by the service; {seconds:.1f} s")
    return report_exit_code(report)


def _write_directory(directory: Path, output: Output) -> None:
    """Write the path of the directory and some of its files."""
    if output.json:
        output.record({"type": "folder", "path": str(directory)})
        return
    files = sorted(path for path in directory.rglob("*") if path.is_file() and ".arena-async" not in path.parts)
    _write(output, "folder", str(directory))
    for path in files[:: max(1, len(files) // 4)]:
        _write(output, "", f"{show_size(path.stat().st_size):>7}  {path.relative_to(directory).as_posix()}")
    _write(output, "", f"and so on, {show_count(len(files), 'file')}; the ledger is in .arena-async")
    output.data("Next: arena-async simulate arena (a simulator to try), arena-async --help, README.md")


def _write(output: Output, step: str, line: str) -> None:
    if not output.json:
        output.data(f"  {step:<7} {line}")
