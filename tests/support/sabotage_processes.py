"""How the protections of the rows about many processes, signals and the end of the interpreter are removed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
from sabotage import Patch, protection


@protection("a signal cancels the command and lets it close what is open")
def _(patch: Patch) -> None:
    @contextlib.contextmanager
    def deaf(self: Any) -> Iterator[None]:
        yield

    patch.replace("arena_async.cli.running:_Stop.listening", deaf)


@protection("no process shows another what is half written")
def _(patch: Patch) -> None:
    rename = patch.current("arena_async.transfer.filesystem:FileSystem.rename")

    def move_half_first(self: Any, directory: Any, name: str, to: Any, new: str) -> None:
        file = self.open_file(directory, name, writable=True)
        content = self.read(file, 1 << 24, 0)
        self.truncate(file, len(content) // 2)
        rename(self, directory, name, to, new)
        time.sleep(0.01)
        self.write(file, content[len(content) // 2 :], len(content) // 2)
        self.close(file)

    patch.replace("arena_async.transfer.filesystem:FileSystem.rename", move_half_first)


@protection("a lock ends with its owner")
def _(patch: Patch) -> None:
    take = patch.current("arena_async.transfer.filesystem:FileSystem.lock")
    close = patch.current("arena_async.transfer.filesystem:FileSystem.close")
    held: dict[int, Path] = {}

    def lock(self: Any, file: int) -> bool:
        """Lock as programs do that leave a file behind where they die."""
        beside = Path(f"{Path(f'/proc/self/fd/{file}').readlink()}.held")
        try:
            os.close(os.open(beside, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return False
        held[file] = beside
        return take(self, file)

    def close_and_unlock(self: Any, file: int) -> None:
        beside = held.pop(file, None)
        if beside is not None:
            beside.unlink(missing_ok=True)
        close(self, file)

    patch.replace("arena_async.transfer.filesystem:FileSystem.lock", lock)
    patch.replace("arena_async.transfer.filesystem:FileSystem.close", close_and_unlock)


@protection("a missing close is warned about once")
def _(patch: Patch) -> None:
    patch.remove("arena_async.transfer:Context.__del__")
    patch.remove("arena_async.http.session:Session.__del__")


@protection("one run of a query works on a directory at a time")
def _(patch: Patch) -> None:
    async def at_once(self: Any, if_running: str) -> None:
        pass

    patch.replace("arena_async.transfer.leases:RunLease.take", at_once)
    patch.replace("arena_async.transfer.leases:RunLease.claim", lambda self, entries, **_: set())


@protection("a run that is not to wait ends")
def _(patch: Patch) -> None:
    take = patch.current("arena_async.transfer.leases:RunLease.take")

    async def patient(self: Any, if_running: str) -> None:
        async with asyncio.timeout(3):
            await take(self, "wait")

    patch.replace("arena_async.transfer.leases:RunLease.take", patient)


@protection("a run ends with its process")
def _(patch: Patch) -> None:
    given = patch.current("arena_async.transfer.leases:has_ended")

    def silent(process: Any, silence: float, **how: Any) -> bool:
        return bool(given(process, silence, **{**how, "start_of": lambda _: ""}))

    patch.replace("arena_async.transfer.leases:has_ended", silent)


@protection("a file is claimed before it is requested")
def _(patch: Patch) -> None:
    patch.replace("arena_async.transfer.leases:RunLease.claim", lambda self, entries, **_: set())


@protection("a process is named by its start too")
def _(patch: Patch) -> None:
    given = patch.current("arena_async.transfer.leases:has_ended")

    def by_number(process: Any, silence: float, **how: Any) -> bool:
        return bool(given(attrs.evolve(process, start=""), silence, **how))

    patch.replace("arena_async.transfer.leases:has_ended", by_number)


@protection("a run elsewhere has ended when its count stands still")
def _(patch: Patch) -> None:
    patch.replace("arena_async.transfer.leases:Silence.of", lambda self, counter, count: self._monotonic())


@protection("a run looks for what those left that it has waited for")
def _(patch: Patch) -> None:
    looked: list[Any] = []

    def once(self: Any) -> None:
        if self not in looked:
            looked.append(self)
            scan(self)

    scan = patch.replace("arena_async.transfer:PartialFiles.scan", once)


@protection("what is left of a file that is complete goes")
def _(patch: Patch) -> None:
    patch.replace("arena_async.transfer:drop_copies", lambda context, entry: None)


@protection("what is left of another content stays")
def _(patch: Patch) -> None:
    patch.replace("arena_async.transfer:is_copy", lambda directory, partial, entry: True)
