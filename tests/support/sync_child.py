"""
A process that syncs files into a folder and may be killed on the way, or has to do with little.

``python sync_child.py '{"to": ..., "base_url": ..., "files": {name: size}, ...}'`` prints one line for each event and
the counts of the report at the end. What else may be said:

=============  =======================================================================================================
``kill_at``    kill yourself before the step of that number: each call to the file system, each statement of the ledger
``kill_after`` kill yourself in the write with which so many bytes of content have been written
``die``        ``[verb, pattern, number]``: kill yourself before that call of a verb, on names of a pattern
``cancel_at``  call :attr:`Life.cancel` before that step
``room``       bytes of content that the disk takes
``exit_at``    leave at once, as ``os._exit`` does, from the observer, when a file has come that far (bytes)
``fsize``      no file may become larger (``RLIMIT_FSIZE``, bytes)
``umask``      the umask
``forgets``    by a downloader, which remembers no file and waits for no run
``lies``       the lock is granted to everybody, and nothing is remembered: no run waits for another one
``workers``    open bodies at the most
``powered``    the power stays on: what forces data to the disk is only counted, and costs no time
``durability`` as in the options
``flush_unit`` bytes after which what came is forced to the disk and recorded
``split``      download each file over all connections, in parts of 64 KiB, whatever its size
=============  =======================================================================================================
"""

from __future__ import annotations

import asyncio
import errno
import fnmatch
import itertools
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

import filesets
from disks import Call, FaultyDisk
from filesets import MemoryFiles, SocketFiles, Source, content, remote
from inherited import take_over
from internals import rig
from part_sizes import EAGER, Ticking, UnevenFiles

from arena_async import Downloader, Event, Finished, Mirror, Progress
from arena_async.options import KIB, Clock, TransferOptions
from arena_async.transfer import ledger_schema

__all__ = ["Life", "fileset", "live"]


def fileset(files: dict[str, int], base_url: str | None, *, split: bool = False) -> MemoryFiles | SocketFiles:
    """Return the set: over sockets from a server of ours, or out of memory."""
    rows = [remote(name, size=size) for name, size in files.items()]
    if base_url is None:
        kind = UnevenFiles if split else MemoryFiles
        return kind(rows, {row.key: Source(body=content(row.size or 0, row.stem)) for row in rows})
    return SocketFiles(base_url, rows, {row.key: f"/{row.stem}" for row in rows})


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Life:
    """Counts the steps and the bytes, and ends or refuses where it was told to."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.steps = 0
        self.written = 0
        self.received = 0
        self.cancel: Callable[[], object] = lambda: None
        self._cancel_at = settings.get("cancel_at")
        self._room = settings.get("room")
        self._lies = settings.get("lies", False)
        self._kill_at = settings.get("kill_at")
        self._kill_after = settings.get("kill_after")
        self._verb, self._pattern, self._left = settings.get("die") or ("", "", 0)
        self._exit_at = settings.get("exit_at")
        self._powered = settings.get("powered", False)

    def step(self) -> None:
        """Count a step before it is made."""
        self.steps += 1
        if self.steps == self._kill_at:
            _kill()
        if self.steps == self._cancel_at:
            self.cancel()

    def disk(self) -> FaultyDisk:
        """Return the disk of this life; from here on everything is counted."""
        disk = FaultyDisk(self.before)
        disk.replace("write", self.write, name="*.part")
        for verb in ("sync", "sync_data", "sync_directory") if self._powered else ():
            disk.replace(verb, lambda real, opened: None)
        if self._lies:
            disk.replace("lock", lambda real, file: True)
        self._look_on()
        return disk

    def before(self, call: Call) -> None:
        """Look at a call before it is made."""
        self.step()
        if call.verb == self._verb and fnmatch.fnmatch(call.name, self._pattern):
            self._left -= 1
            if self._left == 0:
                _kill()

    def write(self, real: Callable[..., int], file: int, data: memoryview, offset: int) -> int:
        """Write content; the last write of this life is cut off where it was told to."""
        left = None if self._kill_after is None else self._kill_after - self.written
        if left is not None and left <= len(data):
            real(file, data[:left], offset)
            _print(f"received {self.received}")
            _kill()
        if self._room is not None and self.written >= self._room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken = real(file, data if self._room is None else data[: self._room - self.written], offset)
        self.written += taken
        return taken

    def _look_on(self) -> None:
        """Look at each statement of the ledger before it is executed, and at what comes over the sockets."""
        execute, receive = ledger_schema.LedgerConnection.execute, filesets._SocketStream._receive

        def step_and_execute(connection: ledger_schema.LedgerConnection, *args: Any) -> Any:
            self.step()
            if self._powered and args[0] == "PRAGMA synchronous = FULL":
                args = ("PRAGMA synchronous = OFF",)
            return execute(connection, *args)

        async def receive_and_count(stream: filesets._SocketStream) -> bytes:
            piece = await receive(stream)
            self.received += len(piece)
            return piece

        ledger_schema.LedgerConnection.execute = step_and_execute  # type: ignore[method-assign]
        filesets._SocketStream._receive = receive_and_count  # type: ignore[method-assign]

    def say(self, event: Event) -> None:
        """Print what another process may wait for."""
        if isinstance(event, Progress):
            _print(f"advanced {event.file.stem} {event.bytes_done}")
            if self._exit_at is not None and event.bytes_done >= self._exit_at:
                os._exit(7)
        if isinstance(event, Finished):
            _print(f"settled {event.outcome.file.stem} {type(event.outcome.error).__name__}")


def _limit(settings: dict[str, Any]) -> None:
    """Put the process on a diet."""
    if "fsize" in settings:
        import resource  # noqa: PLC0415 - not on Windows

        resource.setrlimit(resource.RLIMIT_FSIZE, (settings["fsize"], settings["fsize"]))
    if "umask" in settings:
        os.umask(settings["umask"])


async def live(settings: dict[str, Any]) -> None:
    """Sync once, with what was said."""
    _limit(settings)
    life = Life(settings)
    options = TransferOptions(
        workers=settings.get("workers", 4), chunk_size=64 * KIB, durability=settings.get("durability", "group")
    )
    clock: Callable[[], float] = time.monotonic
    if "exit_at" in settings:  # A clock that jumps lets every event through that is told now and then only.
        clock = itertools.count().__next__
    elif settings.get("split"):  # How many connections a file gets must not depend on how busy the machine is.
        clock = Ticking().clock
    engine = Downloader if settings.get("lies") or settings.get("forgets") else Mirror
    mirror = engine(settings["to"], options=options, observer=life.say, clock=Clock(monotonic=clock))
    rig(mirror, disk=life.disk(), record_every=settings.get("flush_unit", 64 * KIB))
    files = fileset(settings["files"], settings.get("base_url"), split=bool(settings.get("split")))
    if isinstance(files, UnevenFiles):
        files.per_file = 0
        rig(mirror, splitting=EAGER)
    async with mirror:
        report = await (mirror.sync(files) if isinstance(mirror, Mirror) else mirror.run(files))  # type: ignore[arg-type]
    counts = {action.value: count for action, count in report.counts.items() if count}
    _print(
        json.dumps({"counts": counts, "failures": len(report.failures), "steps": life.steps, "received": life.received})
    )


if __name__ == "__main__":
    take_over()
    asyncio.run(live(json.loads(sys.argv[1])))
