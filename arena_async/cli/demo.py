"""``demo``: list, plan, sync, sync again and verify, against simulators of both services on this machine."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
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

__all__ = ["run_demo"]

_FILES = 12
_SIZE = 400_000

#: For each service: the collection that is listed and downloaded, and the columns that are shown.
_COLLECTIONS: dict[Service, tuple[str, tuple[str, ...]]] = {
    "arena": ("extracts", ("guid", "name")),
    "centrepoint": ("datasets", ("subject_id", "data_set_name")),
}


async def run_demo(to: Path | None, output: Output) -> int:
    """Run all steps; every line that is written is the result of one."""
    directory = _empty_directory(to)
    codes = [await _run_service(service, directory, output) for service in _COLLECTIONS]
    async with Mirror(directory) as mirror:
        result = await mirror.verify()
    if not output.json:
        _write(output, "verify", [describe_verification(result)], {})
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
            if not output.json:
                output.heading(f"{PROVIDERS[service].title}, simulated at {simulator.base_url}")
            listed = f"{source}: {len(rows):,}, the first is {'  '.join(cells(rows[0], columns))}"
            _write(output, "list", [listed], {"service": service, "rows": len(rows)})
            files = collection.files(*study)
            async with Mirror(directory) as mirror:
                plan = await mirror.plan(files)
            _write(output, "plan", describe_plan(plan), {"service": service, **cost_record(plan)})
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
    async with ProgressReporter(output, directory) as progress, Mirror(directory, observer=progress) as mirror:
        started = time.monotonic()
        report = await mirror.sync(files)
        seconds = time.monotonic() - started
    received = len(simulator.seen(listener=api)) - before
    line = f"{describe_report(report)}, {received:,} received by the service; {seconds:.1f} s"
    _write(output, step, [line], {"service": service, "requests": report.requests, "requests_seen": received})
    return report_exit_code(report)


def _write_directory(directory: Path, output: Output) -> None:
    """Write the path of the directory and some of its files."""
    files = sorted(path for path in directory.rglob("*") if path.is_file() and ".arena-async" not in path.parts)
    lines = [
        str(directory),
        *(
            f"{show_size(path.stat().st_size):>7}  {path.relative_to(directory).as_posix()}"
            for path in files[:: max(1, len(files) // 4)]
        ),
        f"and so on, {show_count(len(files), 'file')}; the ledger is in .arena-async",
    ]
    _write(output, "folder", lines, {"path": str(directory)})
    if not output.json:
        output.data("Next: arena-async simulate arena (a simulator to try), arena-async --help, README.md")


def _write(output: Output, step: str, lines: Sequence[str], record: Mapping[str, Any]) -> None:
    """Write the result of a step: as JSON if requested, otherwise as lines, the first of them with its name."""
    if output.json:
        output.record({"type": step, **record})
        return
    for number, line in enumerate(lines):
        output.data(f"  {'' if number else step:<7} {line}")
