"""
A process on a file system with little room: it fills most of it, syncs, makes room and syncs again.

``real`` says whether the folder is such a file system; else the port refuses when a limit is reached.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from disks import FaultyDisk
from filesets import SocketFiles, remote
from inherited import take_over
from internals import rig

from arena_async import Mirror, Report
from arena_async.options import KIB, TransferOptions
from arena_async.transfer.filesystem import FileSystem

#: Bytes that somebody else has put on the disk.
BALLAST = 400_000
#: What the port lets through where no small file system can be mounted.
ROOM = 250_000


async def _sync(root: Path, base_url: str, disk: FileSystem) -> Report:
    mirror = Mirror(root, options=TransferOptions(workers=1, chunk_size=64 * KIB))
    rig(mirror, disk=disk, record_every=64 * KIB)
    async with mirror:
        return await mirror.sync(SocketFiles(base_url, [remote("a")], {"test/a": "/a"}))


async def _main(settings: dict[str, Any]) -> None:
    root, disk = Path(settings["to"]), FaultyDisk()
    ballast = root / "ballast"
    if settings["real"]:
        ballast.write_bytes(b"x" * BALLAST)
    else:
        disk.fill_up(ROOM)
    first = await _sync(root, settings["base_url"], disk)
    ballast.unlink(missing_ok=True)
    await _sync(root, settings["base_url"], FileSystem())
    found = {
        "first": type(first.error).__name__,
        "whole": {path.name: path.stat().st_size for path in (root / "files").iterdir()},
        "partials": sorted(path.name for path in (root / ".arena-async" / "partial").iterdir()),
    }
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    take_over()
    asyncio.run(_main(json.loads(sys.argv[1])))
