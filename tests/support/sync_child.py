"""
A process that syncs files into a folder and may be killed on the way, or has to do with little.

``python sync_child.py '{"to": ..., "base_url": ..., "files": {name: size}, ...}'`` prints one line for each event and
the counts of the report at the end. What else may be said:

=============  =======================================================================================================
``kill_at``    kill yourself before the call of that number to the file system
``die``        ``[verb, pattern, number]``: kill yourself before that call of a verb, on names of a pattern
``exit_at``    leave at once, as ``os._exit`` does, from the observer, when a file has come that far (bytes)
``fsize``      no file may become larger (``RLIMIT_FSIZE``, bytes)
``umask``      the umask
``lies``       the lock is granted to everybody
``workers``    open bodies at the most
=============  =======================================================================================================
"""

from __future__ import annotations

import asyncio
import fnmatch
import json
import os
import signal
import sys
from typing import Any

from disks import Call, FaultyDisk
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


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class _Life:
    """Counts the calls to the file system, and ends where it was told to."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.calls = 0
        self._kill_at = settings.get("kill_at")
        self._verb, self._pattern, self._left = settings.get("die") or ("", "", 0)
        self._exit_at = settings.get("exit_at")

    def before(self, call: Call) -> None:
        """Look at a call before it is made."""
        self.calls += 1
        if self.calls == self._kill_at:
            _kill()
        if call.verb == self._verb and fnmatch.fnmatch(call.name, self._pattern):
            self._left -= 1
            if self._left == 0:
                _kill()

    def say(self, event: Event) -> None:
        """Print what somebody outside may wait for."""
        if isinstance(event, Advanced):
            _print(f"advanced {event.file.stem} {event.bytes_done}")
            if self._exit_at is not None and event.bytes_done >= self._exit_at:
                os._exit(7)
        if isinstance(event, Settled):
            _print(f"settled {event.outcome.file.stem} {type(event.outcome.error).__name__}")


def _limit(settings: dict[str, Any]) -> None:
    """Put the process on a diet."""
    if "fsize" in settings:
        import resource  # noqa: PLC0415 - not on Windows

        resource.setrlimit(resource.RLIMIT_FSIZE, (settings["fsize"], settings["fsize"]))
    if "umask" in settings:
        os.umask(settings["umask"])


async def _main(settings: dict[str, Any]) -> None:
    _limit(settings)
    life = _Life(settings)
    disk = FaultyDisk(life.before)
    if settings.get("lies"):
        disk.replace("lock", lambda real, file: True)
    options = TransferOptions(workers=settings.get("workers", 4), chunk_size=64 * KIB)
    mirror = Mirror(settings["to"], options=options, observer=life.say)
    mirror._destination.storage = Storage(settings["to"], files=disk, flush_unit=64 * KIB)
    async with mirror:
        report = await mirror.sync(fileset(settings["files"], settings.get("base_url")))  # type: ignore[arg-type]
    counts = {action.value: count for action, count in report.counts.items() if count}
    _print(json.dumps({"counts": counts, "failures": len(report.failures), "calls": life.calls}))


if __name__ == "__main__":
    if os.environ.get("MATRIX_SABOTAGE"):
        import sabotage  # it needs pytest, which takes its time

        sabotage.apply_from_environment()
    asyncio.run(_main(json.loads(sys.argv[1])))
