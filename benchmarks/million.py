"""
A million listed files, of which a thousand are new: what plan, sync and prune take, and how much memory.

``python -m benchmarks.million [--scale X] [--json]`` lets a simulator without its limiter offer the files, fills a
folder with empty files and a ledger as an earlier sync would have left them, and then runs each step in a process of
its own. The peak of the memory is judged, times are shown. A million files take about 2 GB of the disk while it lasts.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.contenders import peak_use
from benchmarks.service import serving

if TYPE_CHECKING:
    from arena_async import CentrePointClient, FileSet, Mirror
    from arena_async.transfer.ledger import Entry, Sighting

__all__ = ["STEPS"]

#: One file in so many is new, and as many are gone later.
ONE_IN = 1000

#: Bytes of memory that a process may have at its peak.
MOST_MEMORY = 120_000_000

#: Seconds since 1970 that the files of an earlier sync have for a time.
_THEN = 1_700_000_000

Facts = dict[str, Any]


def _connect(facts: Facts) -> CentrePointClient:
    """Make a client that no pace holds back."""
    from arena_async import CentrePointClient

    return CentrePointClient.from_env(environ=facts["environment"], rate_limit=1_000_000)


async def prepare(facts: Facts, folder: str) -> Facts:
    """Leave the folder as a sync of all files but the new ones would have left it, had every file been empty."""
    from arena_async import Mirror
    from arena_async.transfer.ledger import Entry, Sighting, SqliteLedger
    from arena_async.transfer.planning import place

    async with Mirror(folder):
        pass
    root, now, made, number = Path(folder), datetime.now(UTC), set[Path](), 0
    ledger = await SqliteLedger.open(root / ".arena-async" / "ledger.sqlite")
    async with _connect(facts) as centrepoint:
        files = centrepoint.datasets.files(facts["study"])
        generation = await ledger.begin_listing(files.scope)
        entries: list[Entry] = []
        sightings: list[Sighting] = []

        async def write() -> None:
            await ledger.write(entries)
            await ledger.see(files.scope, generation, sightings)
            entries.clear()
            sightings.clear()

        async for file in files:
            number += 1
            if number % ONE_IN == 0:
                continue
            path = place(file)
            lies = root / path
            if lies.parent not in made:
                lies.parent.mkdir(parents=True, exist_ok=True)
                made.add(lies.parent)
            os.close(os.open(lies, os.O_CREAT | os.O_WRONLY, 0o644))
            os.utime(lies, (_THEN, _THEN))
            key, name, change = file.key, file.name, file.change
            mtime = _THEN * 1_000_000_000
            entries.append(Entry(key=key, path=str(path), mtime_ns=mtime, change=change, name=name, at=now))
            sightings.append(Sighting(key=key, name=name, change=change, path=str(path)))
            if len(entries) == 10_000:
                await write()
        await write()
        await ledger.end_listing(files.scope, generation)
    await ledger.aclose()
    return {"rows": number}


async def _listing(facts: Facts, folder: str) -> Facts:
    """List the files and nothing else."""
    rows = 0
    del folder
    async with _connect(facts) as centrepoint:
        async for _ in centrepoint.datasets.files(facts["study"]):
            rows += 1
    return {"rows": rows}


async def _with_mirror(
    facts: Facts, folder: str, work: Callable[[Mirror, FileSet], Coroutine[Any, Any, Facts]]
) -> Facts:
    from arena_async import Mirror

    async with _connect(facts) as centrepoint, Mirror(folder) as mirror:
        return await work(mirror, centrepoint.datasets.files(facts["study"]))


async def plan(facts: Facts, folder: str) -> Facts:
    """Say what is new."""

    async def work(mirror: Mirror, files: FileSet) -> Facts:
        planned = await mirror.plan(files)
        return {"rows": planned.kept + len(planned.files), "new": len(planned.to_fetch)}

    return await _with_mirror(facts, folder, work)


async def sync(facts: Facts, folder: str, *, prune: bool = False) -> Facts:
    """Bring what is new."""

    async def work(mirror: Mirror, files: FileSet) -> Facts:
        report = await mirror.sync(files, prune=prune)
        report.raise_for_failures()
        counts = {action.name: count for action, count in report.counts.items() if count}
        return {"rows": counts.get("KEEP", 0) + counts.get("FETCH", 0), "counts": counts}

    return await _with_mirror(facts, folder, work)


async def prune(facts: Facts, folder: str) -> Facts:
    """Remove what is no longer listed."""
    return await sync(facts, folder, prune=True)


#: The steps by name; what is handed in are the facts of the service and the folder.
STEPS: dict[str, Callable[[Facts, str], Coroutine[Any, Any, Facts]]] = {
    "prepare": prepare,
    "list": _listing,
    "plan": plan,
    "sync": sync,
    "prune": prune,
}


def run(step: str, facts: Facts, folder: Path) -> Facts:
    """Run a step in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.million", "--step", step, json.dumps(facts), str(folder)]
    before = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    seconds = time.perf_counter() - before
    found: Facts = json.loads(done.stdout)
    return {"step": step, **found, "seconds": round(seconds, 1), "rows_a_second": round(found["rows"] / seconds)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the steps; 1 when a process of ours needed more memory than it may."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.million", description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="a part of the work, for a first look (1.0)")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--folder", type=Path, help="keep the folder here, and use it if it is prepared already")
    parser.add_argument("--steps", nargs="*", default=list(STEPS), help="some of the steps")
    parser.add_argument("--port", type=int, default=0, help="of the simulator; has to be the same for a kept folder")
    given = parser.parse_args(arguments)
    count, broken = int(1_000_000 * given.scale), False
    settings = {"file_size": 1000, "programs": 1, "data_sets": 100, "rate_limit": None}
    with tempfile.TemporaryDirectory(prefix="million-") as temporary:
        folder, port = given.folder or Path(temporary, "warehouse"), given.port
        for step in STEPS:
            if step not in given.steps:
                continue
            files = count - count // ONE_IN if step == "prune" else count
            with serving("centrepoint", files=files, port=port, **settings) as service:
                port = int(service.facts["base_url"].rpartition(":")[2])
                done = run(step, service.facts, folder)
            print(json.dumps(done) if given.json else _shown(done), flush=True)
            broken |= step != "prepare" and done["peak_memory"] > MOST_MEMORY
    return int(broken)


def _shown(done: Facts) -> str:
    """Write one line for people."""
    counts = " ".join(f"{name} {count:,}" for name, count in done.get("counts", {}).items())
    return (
        f"{done['step']:<8} {done['rows']:>9,} rows {done['seconds']:>7.1f} s {done['rows_a_second']:>7,} a second "
        f"{done['cpu_seconds']:>7.1f} CPU s {done['peak_memory'] / 1e6:>5.0f} MB  {counts}"
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--step"]:
        print(json.dumps({**asyncio.run(STEPS[sys.argv[2]](json.loads(sys.argv[3]), sys.argv[4])), **peak_use()}))
        sys.exit(0)
    sys.exit(main())
