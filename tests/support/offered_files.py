"""
What rows about disks and names share: files that a server offers honestly, and looks at the folder afterwards.

::

    rows = offer(world, server, {"a": BODY, "b": b"second"})
    async with session_files(world, server, *rows) as files: ...
    assert asked(server, "a") == [None, "bytes=65536-"]
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import attrs
from filesets import remote
from matrix import World
from scripted import RawServer
from session_files import ETAG, ranged

from arena_async.protocol.files import RemoteFile

__all__ = [
    "ETAG",
    "Child",
    "age",
    "bodies_at_home",
    "child",
    "finish",
    "offer",
    "partials",
    "requested",
    "start",
    "state",
]

SUPPORT = Path(__file__).parent


def offer(world: World, server: RawServer, bodies: Mapping[str, bytes], **how: Any) -> list[RemoteFile]:
    """Serve each body at ``/<name>`` with ranges, allow it under its final name, and give the rows of the listing."""
    for name, body in bodies.items():
        server.on("GET", f"/{name}", ranged(body, **how))
        world.allow(f"files/{name}.bin", body)
    return [remote(name, size=len(body)) for name, body in bodies.items()]


def requested(server: RawServer, name: str) -> list[str | None]:
    """Return the ranges that one file was asked for with; None for the whole."""
    return [seen.header("Range") for seen in server.requests if seen.path == f"/{name}"]


def state(world: World) -> Path:
    """Return our own folder below the root."""
    return world.root / ".arena-async"


def partials(world: World, pattern: str = "*") -> list[Path]:
    """Return what lies in the folder of partial files."""
    return sorted((state(world) / "partial").glob(pattern))


def bodies_at_home(world: World) -> dict[str, bytes]:
    """Return everything in the folder that is not ours, by its path."""
    return {
        path.relative_to(world.root).as_posix(): path.read_bytes()
        for path in sorted(world.root.rglob("*"))
        if path.is_file() and ".arena-async" not in path.relative_to(world.root).parts
    }


def age(directory: Path, *, seconds: float = 3600) -> None:
    """Let time pass over everything in a folder."""
    then = time.time() - seconds
    for path in directory.rglob("*"):
        if not path.is_symlink() and path.suffix not in (".part", ".bin"):
            os.utime(path, (then, then))


@attrs.frozen
class Child:
    """How a child ended: its exit code, its report if it came that far, and what it complained about."""

    code: int
    lines: tuple[str, ...]
    complaints: str

    @property
    def report(self) -> dict[str, Any]:
        """The last line, which has to be the report."""
        report: dict[str, Any] = json.loads(self.lines[-1])
        return report


async def start(world: World, *, script: str = "sync_child.py", before: Collection[str] = (), **settings: Any) -> Any:
    """Start a child that syncs into the row's folder; ``before`` is put before the command."""
    return await asyncio.create_subprocess_exec(
        *before,
        sys.executable,
        str(SUPPORT / script),
        json.dumps({"to": str(world.root), **settings}),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(SUPPORT)},
    )


async def finish(world: World, process: Any) -> Child:
    """Wait for the end of a child; what it printed is looked at for secrets."""
    out, err = await process.communicate()
    found = Child(process.returncode, tuple(out.decode().splitlines()), err.decode())
    world.saw(found)
    return found


async def child(world: World, **settings: Any) -> Child:
    """Run a child to its end."""
    return await finish(world, await start(world, **settings))
