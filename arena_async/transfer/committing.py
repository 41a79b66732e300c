"""
How verified files get their final names: many at a time, so that safety costs little.

::

    commit()  commit()  commit()        files wait; the next group gathers while one is in flight, no timer
        \\        |        /
    fsync of each file, on several threads
    one transaction of the ledger: partial and final name of each
    renames
    one fsync for each directory
        /        |        \\
    the waiting tasks go on
"""

from __future__ import annotations

import attrs

from arena_async.options import Durability
from arena_async.transfer.ledger import Entry, Ledger
from arena_async.transfer.storage import Storage, Staged

__all__ = ["Committed", "Committer", "Recovered"]


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


@attrs.frozen(kw_only=True)
class Recovered:
    """
    What an interrupted run left, and what became of it.

    Args:
        renamed: Files that were verified and got their final name now.
        complete: Files that had it already.
        forgotten: Files of which nothing is left; they are fetched again.
        in_use: Files that another live process is committing right now.
    """

    renamed: int = 0
    complete: int = 0
    forgotten: int = 0
    in_use: int = 0


class Committer:
    """
    Commits files in groups. Owned by the pool; it ends with :meth:`aclose`.

    Args:
        storage: The destination folder.
        ledger: Where rows go.
        durability: ``"group"``, ``"each"`` (groups of one) or ``"off"`` (no fsync at all).
        threads: Threads that force files to the disk.
        most: Files of one group, and files that may wait before :meth:`room` makes others wait.
    """

    def __init__(
        self,
        storage: Storage,
        ledger: Ledger,
        *,
        durability: Durability = "group",
        threads: int = 8,
        most: int = 64,
    ) -> None:
        raise NotImplementedError

    async def recover(self) -> Recovered:
        """Finish what an interrupted run had verified. Called before the first file is decided on."""
        raise NotImplementedError

    async def room(self) -> None:
        """Wait until fewer than ``most`` files are waiting: to be called before a slot is left."""
        raise NotImplementedError

    async def commit(self, staged: Staged, entry: Entry) -> Committed:
        """
        Give a verified file its final name and its row, with the next group.

        ``staged`` belongs to the committer from here on: afterwards it is closed, whatever happened. ``entry`` carries
        key, change mark, digests, proof and vendor's name; path, size, time, partial and state are filled in here. A
        cancelled caller's file stays in its group, and the cancellation is delivered when the group has ended.

        Raises:
            DestinationBusyError: The final name is taken by something that is no file.
            DiskFullError: No room is left.
            StorageError: The disk or the ledger refused. Only this file failed, unless the ledger refused the group.
            ClosedError: The committer was closed before.
        """
        raise NotImplementedError

    async def aclose(self) -> None:
        """Commit what waits, settle the ledger and end the threads. Safe twice. Does not close ledger or storage."""
        raise NotImplementedError
