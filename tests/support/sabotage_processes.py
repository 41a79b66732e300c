"""How the protections of the rows about many processes, signals and the end of the interpreter are removed."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
