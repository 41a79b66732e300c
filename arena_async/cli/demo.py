"""The whole job on this machine, without any account: list, plan, sync, sync again, verify."""

from __future__ import annotations

import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import attrs

from arena_async.cli.costs import Bill, describe
from arena_async.cli.exits import Exit
from arena_async.cli.jobs import Teller, code_of, findings, summarize
from arena_async.cli.output import Output, show_count, show_size
from arena_async.cli.render import View
from arena_async.cli.simulating import open_simulator
from arena_async.cli.values import cells, shown
from arena_async.errors import ConfigurationError
from arena_async.providers.registry import PROVIDERS, Provider
from arena_async.transfer.events import Report
from arena_async.transfer.mirror import Mirror
from arena_async.wire.contracts import FileSet

__all__ = ["demo"]

_FILES = 12
_SIZE = 400_000


@attrs.frozen(kw_only=True)
class _Stage:
    """One simulated service and the files it offers."""

    provider: Provider
    simulator: Any
    client: Any
    words: tuple[Any, ...]
    files: FileSet


async def demo(to: Path | None, output: Output) -> int:
    """Show the whole job; every line that is shown comes from doing it."""
    folder = _folder(to)
    code = Exit.OK
    async with AsyncExitStack() as stack:
        for provider in PROVIDERS.values():
            stage = await stack.enter_async_context(_play(provider))
            await _list(stage, output)
            await _plan(stage, folder, output)
            for what in ("sync", "again"):
                report = await _sync(stage, folder, what, output)
                code = max(code, code_of(report))
    async with Mirror(folder) as mirror:
        found = await mirror.verify()
    _tell(output, "verify", findings(found))
    _show_folder(folder, output)
    return max(code, Exit.FAILED if found.bad else Exit.OK)


def _folder(to: Path | None) -> Path:
    """Give an empty folder; a simulator has another address each time, and no folder serves two of them."""
    if to is None:
        return Path(tempfile.mkdtemp(prefix="arena-async-demo-"))
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise ConfigurationError(f"{to}: the demo wants a new or empty folder; name another one with --to.")
    return to


@asynccontextmanager
async def _play(provider: Provider) -> AsyncIterator[_Stage]:
    """Start a simulator, and a client that knows nothing of it but the settings that lead there."""
    async with open_simulator(provider, files=_FILES, size=_SIZE) as simulator:
        environ = simulator.describe()["environment"]
        async with provider.load_client().from_env(environ=environ) as client:
            words = tuple(getattr(simulator, attribute) for attribute in provider.simulated_words)
            files = provider.sources[0].make(client)(*words)
            yield _Stage(provider=provider, simulator=simulator, client=client, words=words, files=files)


async def _list(stage: _Stage, output: Output) -> None:
    source = stage.provider.sources[0]
    rows = [row async for row in source.rows(stage.client, stage.words)]
    if output.json:
        output.record({"type": "list", "service": stage.provider.name, "rows": len(rows)})
        return
    output.heading(f"{stage.provider.title}, simulated at {stage.simulator.base_url}")
    first = "  ".join(cells(rows[0], source.listings[len(stage.words)].columns[:2]))
    _tell(output, "list", f"{source.name}: {len(rows):,}, the first is {first}")


async def _plan(stage: _Stage, folder: Path, output: Output) -> None:
    async with Mirror(folder) as mirror:
        planned = await mirror.plan(stage.files)
    bill = Bill.of(planned)
    if output.json:
        output.record({"type": "plan", "service": stage.provider.name, **shown(bill)})
        return
    for place, line in enumerate(describe(planned, bill)):
        _tell(output, "" if place else "plan", line)


async def _sync(stage: _Stage, folder: Path, what: str, output: Output) -> Report:
    """Bring everything home, and compare what was counted here with what the service saw."""
    api = stage.simulator.listeners[0]
    before = len(stage.simulator.seen(listener=api))
    async with View(output) as view, Mirror(folder, observer=Teller(output, view, folder)) as mirror:
        began = time.monotonic()
        report = await mirror.sync(stage.files)
        took = time.monotonic() - began
    seen = len(stage.simulator.seen(listener=api)) - before
    if output.json:
        output.record(
            {"type": what, "service": stage.provider.name, "requests": report.requests, "requests_seen": seen}
        )
    _tell(output, what, f"{summarize(report)}, and the service saw {seen:,}; {took:.1f} s")
    return report


def _show_folder(folder: Path, output: Output) -> None:
    """Show where everything lies."""
    if output.json:
        output.record({"type": "folder", "path": str(folder)})
        return
    files = sorted(path for path in folder.rglob("*") if path.is_file() and ".arena-async" not in path.parts)
    _tell(output, "folder", str(folder))
    for path in files[:: max(1, len(files) // 4)]:
        _tell(output, "", f"{show_size(path.stat().st_size):>7}  {path.relative_to(folder).as_posix()}")
    _tell(output, "", f"and so on, {show_count(len(files), 'file')}; what is known about them is in .arena-async")
    output.data("Next: arena-async simulate arena (one service to play with), arena-async --help, README.md")


def _tell(output: Output, what: str, line: str) -> None:
    if not output.json:
        output.data(f"  {what:<7} {line}")
