"""
What is done on a thread for a share of a group: files are made ready for their final names.

Large files are there already, and are forced to the disk. Small ones come in memory: they are verified and written, all
of them before the first one is waited for, so that the disk can take them in one go.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import PurePosixPath
from typing import Protocol

import attrs

from arena_async.errors import StorageError
from arena_async.options import KIB
from arena_async.transfer.filesystem import FileState
from arena_async.transfer.ledger import Entry
from arena_async.transfer.storage import Near, Staged, Storage

__all__ = ["Committed", "Small", "Waiting", "bring_share", "broken_off", "finish_share", "shares"]

#: Bytes of small files that one thread brings to the disk before another one is worth its while.
_SHARE = 512 * KIB


@attrs.frozen(kw_only=True)
class Committed:
    """
    A file under its final name.

    Args:
        entry: Its row, with size and time as they are on disk.
        durable: Whether a power loss cannot undo it.
    """

    entry: Entry
    durable: bool


class Small(Protocol):
    """A small file that came and is in memory as a whole: nothing of it is on the disk yet."""

    @property
    def path(self) -> PurePosixPath:
        """Where it will go, below the root."""
        ...

    @property
    def size(self) -> int:
        """Bytes."""
        ...

    def bring(self, storage: Storage, near: Near) -> tuple[Staged, Entry]:
        """
        Verify it and write it, on a thread.

        Raises:
            ArenaAsyncError: It is not right, or the disk refused; nothing stays of it.
        """
        ...


def shares(sizes: Sequence[int], most: int) -> int:
    """
    Say on how many threads small files are brought to the disk.

    One thread is enough for the disk as long as the system may begin early with all of them; what takes more than that
    is looking into them, and that grows with their bytes.

    Args:
        sizes: Bytes of each.
        most: Threads there are.
    """
    return min(most, len(sizes), 1 + sum(sizes) // _SHARE)


@attrs.define(eq=False)
class Waiting:
    """One file of a group, and the task that waits for it. A small one is not on the disk before its turn comes."""

    path: PurePosixPath
    done: asyncio.Future[Committed]
    small: Small | None = None
    staged: Staged | None = None
    entry: Entry | None = None
    size: int = 0
    on_disk: bool = False
    has_row: bool = False
    answer: Committed | Exception | None = None

    def made_ready(self, state: FileState, *, on_disk: bool, at: datetime) -> None:
        """Note what it will be under its final name."""
        if self.staged is None or self.entry is None:
            raise broken_off(self)
        self.on_disk = on_disk
        self.entry = attrs.evolve(
            self.entry,
            state="committing",
            path=str(self.path),
            size=state.size,
            mtime_ns=state.mtime_ns,
            partial=self.staged.name,
            at=self.entry.at or at,
        )


def finish_share(share: Sequence[Waiting], *, durable: bool, now: Callable[[], datetime]) -> None:
    """Make some files ready for their names, one after the other."""
    for waiting in share:
        try:
            if waiting.staged is not None:
                state, on_disk = waiting.staged.finish(durable=durable)
                waiting.made_ready(state, on_disk=on_disk, at=now())
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the answer to whoever waits for this file
            waiting.answer = error


def bring_share(share: Sequence[Waiting], storage: Storage, *, durable: bool, now: Callable[[], datetime]) -> None:
    """Verify and write some small files, and then force them to the disk: it has begun with all of them by then."""
    with storage.nearby() as near:
        for waiting in share:
            try:
                if waiting.small is not None:
                    waiting.staged, waiting.entry = waiting.small.bring(storage, near)
            except Exception as error:  # noqa: BLE001 - it is the answer to whoever waits for this file
                waiting.answer = error
            waiting.small = None
    written = [waiting.staged for waiting in share if waiting.staged is not None]
    for staged in written if durable and len(written) > 1 else ():
        staged.begin_sync()
    for waiting in share:
        try:
            if waiting.staged is not None:
                state, on_disk = waiting.staged.secure(durable=durable)
                waiting.made_ready(state, on_disk=on_disk, at=now())
        except Exception as error:  # noqa: BLE001 - it is the answer to whoever waits for this file
            waiting.answer = error


def broken_off(waiting: Waiting) -> StorageError:
    """Make the error of a commit that was not done."""
    return StorageError(
        f"{waiting.path}: its commit was broken off. Run again: what was verified is not fetched again.",
        file=waiting.staged.key if waiting.staged is not None else None,
    )
