"""
A process that syncs files into a folder and may be killed on the way.

``python sync_child.py '{"to": ..., "base_url": ..., "files": {name: size}, ...}'`` prints one line for each event and
the counts of the report at the end. With ``kill_at``, it kills itself before that call to the file system.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from typing import Any

from disks import Call, RecordingDisk
from filesets import MemoryFiles, SocketFiles, Source, content, remote

from arena_async.options import KIB, TransferOptions
from arena_async.transfer.events import Advanced, Event, Settled
from arena_async.transfer.mirror import Mirror
from arena_async.transfer.storage import Storage

__all__ = ["fileset"]


def fileset(files: dict[str, int], base_url: str | None) -> MemoryFiles | SocketFiles:
    """Give the set: over sockets from a server of ours, or out of memory."""
    rows = [remote(name, size=size) for name, size in files.items()]
    if base_url is None:
        return MemoryFiles(rows, {row.key: Source(body=content(row.size or 0, row.stem)) for row in rows})
    return SocketFiles(base_url, rows, {row.key: f"/{row.stem}" for row in rows})


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _say(event: Event) -> None:
    """Print what somebody outside may wait for."""
    if isinstance(event, Advanced):
        _print(f"advanced {event.file.stem} {event.bytes_done}")
    if isinstance(event, Settled):
        _print(f"settled {event.outcome.file.stem} {type(event.outcome.error).__name__}")


async def _main(settings: dict[str, Any]) -> None:
    calls = 0

    def count(_: Call) -> None:
        nonlocal calls
        calls += 1
        if calls == settings.get("kill_at"):
            os.kill(os.getpid(), signal.SIGKILL)

    options = TransferOptions(workers=settings.get("workers", 4), chunk_size=64 * KIB)
    mirror = Mirror(settings["to"], options=options, observer=_say)
    mirror._destination.storage = Storage(settings["to"], files=RecordingDisk(count), flush_unit=64 * KIB)
    async with mirror:
        report = await mirror.sync(fileset(settings["files"], settings.get("base_url")))  # type: ignore[arg-type]
    counts = {action.value: count for action, count in report.counts.items() if count}
    _print(json.dumps({"counts": counts, "failures": len(report.failures), "calls": calls}))


if __name__ == "__main__":
    asyncio.run(_main(json.loads(sys.argv[1])))
