"""``demo``: list, plan, sync, sync again and verify, against simulators of both services on this machine."""

from __future__ import annotations

import tempfile
import time
from collections.abc import AsyncIterable
from pathlib import Path
from typing import Any

from arena_async.cli.exit_codes import ExitCode
from arena_async.cli.output import Output, cells, show_count, show_size
from arena_async.cli.progress import ProgressReporter
from arena_async.cli.reports import cost_record, describe_plan, describe_report, describe_verification, report_exit_code
from arena_async.cli.simulator import open_simulator
from arena_async.errors import ConfigurationError
from arena_async.protocol.files import FileSet
from arena_async.providers.arena import ArenaClient
from arena_async.providers.centrepoint import CentrePointClient
from arena_async.providers.registry import PROVIDERS, Service
from arena_async.transfer.mirror import Mirror

__all__ = ["demo"]

_FILES = 12
_SIZE = 400_000


async def demo(to: Path | None, output: Output) -> int:
    """Run all steps; every line that is written is the result of one."""
    directory = _empty_directory(to)
    codes = []
    async with (
        open_simulator("arena", files=_FILES, size=_SIZE) as simulator,
        ArenaClient.from_env(environ=simulator.describe()["environment"]) as arena,
    ):
        steps = _Steps("arena", simulator, directory, output)
        await steps.list("extracts", arena.extracts.search(), ("guid", "name"))
        codes.append(await steps.download(arena.extracts.files()))
    async with (
        open_simulator("centrepoint", files=_FILES, size=_SIZE) as simulator,
        CentrePointClient.from_env(environ=simulator.describe()["environment"]) as centrepoint,
    ):
        steps = _Steps("centrepoint", simulator, directory, output)
        rows = centrepoint.datasets.search(simulator.study)
        await steps.list("datasets", rows, ("subject_id", "data_set_name"))
        codes.append(await steps.download(centrepoint.datasets.files(simulator.study)))
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


class _Steps:
    """The steps of one service."""

    def __init__(self, service: Service, simulator: Any, directory: Path, output: Output) -> None:
        self._service = service
        self._simulator = simulator
        self._directory = directory
        self._output = output

    async def list(self, source: str, rows: AsyncIterable[Any], columns: tuple[str, ...]) -> None:
        found = [row async for row in rows]
        if self._output.json:
            self._output.record({"type": "list", "service": self._service, "rows": len(found)})
            return
        self._output.heading(f"{PROVIDERS[self._service].title}, simulated at {self._simulator.base_url}")
        _write(self._output, "list", f"{source}: {len(found):,}, the first is {'  '.join(cells(found[0], columns))}")

    async def download(self, files: FileSet) -> ExitCode:
        """Plan and sync twice; return the exit code."""
        async with Mirror(self._directory) as mirror:
            plan = await mirror.plan(files)
        if self._output.json:
            self._output.record({"type": "plan", "service": self._service, **cost_record(plan)})
        for number, line in enumerate(describe_plan(plan)):
            _write(self._output, "" if number else "plan", line)
        return max(await self._sync(files, "sync"), await self._sync(files, "again"))

    async def _sync(self, files: FileSet, step: str) -> ExitCode:
        """Download everything, and compare the counted requests with those that the service received."""
        api = self._simulator.listeners[0]
        before = len(self._simulator.seen(listener=api))
        async with (
            ProgressReporter(self._output, self._directory) as progress,
            Mirror(self._directory, observer=progress) as mirror,
        ):
            started = time.monotonic()
            report = await mirror.sync(files)
            seconds = time.monotonic() - started
        received = len(self._simulator.seen(listener=api)) - before
        if self._output.json:
            counts = {"requests": report.requests, "requests_seen": received}
            self._output.record({"type": step, "service": self._service, **counts})
        _write(self._output, step, f"{describe_report(report)}, {received:,} received by the service; {seconds:.1f} s")
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
