"""
How verified files get their final names: many at a time, so that safety costs little.

::

    commit()  commit()  commit()        files wait; the next group gathers while one is in flight, no timer
        |         |         |
    small files, which come in memory: verify and write all of them, on one thread for so many bytes
    fsync of each file: of large ones on several threads, of small ones when the system has begun with all of them
        |         |         |           from here on the next group is made ready beside it
    one transaction of the ledger: partial and final name of each
    renames
    one fsync for each folder
        |         |         |
    the waiting tasks go on

A row that names the partial file makes a kill between the transaction and the rename harmless: the next start renames.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial

import attrs

from arena_async.errors import ArenaAsyncError, ClosedError, StorageError
from arena_async.options import MIB, Durability
from arena_async.transfer.filesystem import FileState
from arena_async.transfer.groups import Committed, Small, Waiting, bring_share, broken_off, finish_share, shares
from arena_async.transfer.ledger import PAGE, Entry, Ledger
from arena_async.transfer.storage import Staged, Storage
from arena_async.transfer.threads import Threads, wait_to_end

__all__ = ["Committed", "Committer", "Recovered"]

log = logging.getLogger("arena_async")

#: Bytes of small files that may wait in memory before :meth:`Committer.room` makes others wait.
_MOST_BYTES = 4 * MIB


@attrs.frozen(kw_only=True)
class Recovered:
    """
    What an interrupted run left, and what became of it.

    Args:
        renamed: Files that were verified and got their final name now.
        complete: Files that had it already.
        forgotten: Files of which nothing is left; they are fetched again.
        in_use: Files that another live process is committing right now.
        waiting: Files that cannot get their name now (see the log); the next start tries again.
        partials: Names of partial files that must be left alone for that.
    """

    renamed: int = 0
    complete: int = 0
    forgotten: int = 0
    in_use: int = 0
    waiting: int = 0
    partials: frozenset[str] = frozenset()


class Committer:
    """
    Commits files in groups. Owned by the pool; it ends with :meth:`aclose`.

    Args:
        storage: The destination folder.
        ledger: Where rows go.
        durability: ``"group"``, ``"each"`` (groups of one) or ``"off"`` (no fsync at all).
        threads: Threads that force files to the disk.
        most: Files of one group, and files that may wait before :meth:`room` makes others wait.
        now: Gives the time of day (aware) for the rows.
    """

    def __init__(
        self,
        storage: Storage,
        ledger: Ledger,
        *,
        durability: Durability = "group",
        threads: int = 8,
        most: int = 64,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._storage = storage
        self._ledger = ledger
        self._durable = durability != "off"
        self._most = most
        self._group_size = 1 if durability == "each" else most
        self._now = now
        self._share = threads
        # One more than bring content to the disk: names are given to one group while the next one is made ready.
        self._threads = Threads(threads + 1, name="arena_async-commit")
        self._waiting: deque[Waiting] = deque()
        self._task: asyncio.Task[None] | None = None
        self._naming: asyncio.Task[None] | None = None
        self._room = asyncio.Event()
        self._room.set()
        self._unsettled: list[str] = []
        self._small_bytes = 0
        self._closed = False

    async def recover(self) -> Recovered:
        """
        Finish what an interrupted run had verified. Called before the first file is decided on.

        Raises:
            StorageError: The ledger refused.
        """
        counts = dict.fromkeys(("renamed", "complete", "gone", "in use", "waiting"), 0)
        partials: set[str] = set()
        after = ""
        while page := await self._ledger.entries(after=after, limit=PAGE, states=("committing",)):
            after = page[-1].key
            found = await self._threads.run(self._adopt, page)
            for entry, what in zip(page, found, strict=True):
                counts[what] += 1
                if what in ("in use", "waiting"):
                    partials.add(entry.partial)
            done = [entry.key for entry, what in zip(page, found, strict=True) if what in ("renamed", "complete")]
            await self._ledger.write((), completed=done)
            await self._ledger.forget([entry.key for entry, what in zip(page, found, strict=True) if what == "gone"])
        return Recovered(
            renamed=counts["renamed"],
            complete=counts["complete"],
            forgotten=counts["gone"],
            in_use=counts["in use"],
            waiting=counts["waiting"],
            partials=frozenset(partials),
        )

    def _adopt(self, page: Sequence[Entry]) -> list[str]:
        """Finish a page of rows and say what became of each."""
        found: list[str] = []
        for entry in page:
            state = FileState(size=entry.size, mtime_ns=entry.mtime_ns)
            try:
                found.append(
                    self._storage.adopt(
                        entry.partial, entry.path, state=state, sha256=entry.sha256, durable=self._durable
                    )
                )
            except StorageError as error:
                log.warning("%s: it was verified by an earlier run and cannot get its name yet: %s", entry.path, error)
                found.append("waiting")
        return found

    async def room(self) -> None:
        """Wait until fewer than ``most`` files are waiting: to be called before a slot is left."""
        await self._room.wait()

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
            ClosedError: The committer was closed before; the file was dropped.
        """
        if self._closed:
            staged.drop()
            raise ClosedError(f"{staged.path}: the folder was closed while the file was on its way; it was dropped.")
        done = asyncio.get_running_loop().create_future()
        return await self._join(Waiting(staged.path, done, staged=staged, entry=entry))

    async def commit_small(self, small: Small) -> Committed:
        """
        Verify and write a small file, and give it its final name and its row, all of it with the next group.

        Raises:
            ArenaAsyncError: It is not right; nothing of it was written, or as for :meth:`commit`.
            ClosedError: The committer was closed before; the file was dropped.
        """
        if self._closed:
            raise ClosedError(f"{small.path}: the folder was closed while the file was on its way; it was dropped.")
        done = asyncio.get_running_loop().create_future()
        self._small_bytes += small.size
        return await self._join(Waiting(small.path, done, small=small, size=small.size))

    async def _join(self, waiting: Waiting) -> Committed:
        """Put a file into the next group and wait for its end."""
        self._waiting.append(waiting)
        self._note_room()
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="arena_async-committer")
        await wait_to_end(waiting.done)
        return waiting.done.result()

    def _next_group(self) -> list[Waiting]:
        """Take files that wait, so many that they cost little time and memory together."""
        group: list[Waiting] = []
        while self._waiting and len(group) < self._group_size:
            waiting = self._waiting.popleft()
            self._small_bytes -= waiting.size
            group.append(waiting)
        self._note_room()
        return group

    async def _run(self) -> None:
        """Make group after group ready until nothing waits; each gets its names when the one before has them."""
        group: list[Waiting] = []
        try:
            while self._waiting:
                group = self._next_group()
                await self._make_ready(group)
                if self._naming is not None:
                    await wait_to_end(self._naming)
                self._naming = asyncio.create_task(self._name(group), name="arena_async-naming")
                self._naming.add_done_callback(partial(self._note_named, group))
                group = []
        finally:
            self._task = None
            # Only when somebody who does not own this task cancelled it, as the end of an event loop does.
            left = [*group, *self._waiting]
            self._waiting.clear()
            self._small_bytes = 0
            self._note_room()
            _break_off(left)

    def _note_room(self) -> None:
        if len(self._waiting) < self._most and self._small_bytes < _MOST_BYTES:
            self._room.set()
        else:
            self._room.clear()

    async def _make_ready(self, group: Sequence[Waiting]) -> None:
        """Bring the content of a group to the disk."""
        try:
            await self._finish(group)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the answer to those who wait
            for waiting in group:
                waiting.answer = waiting.answer or error

    async def _name(self, group: Sequence[Waiting]) -> None:
        """Write the rows of a group and give its files their names; every file of it has its answer in the end."""
        try:
            await self._write_and_publish(group)
            left = [waiting for waiting in group if waiting.staged is not None and not waiting.staged.closed]
            if left:
                await self._threads.run(_close_all, left)
            for waiting in group:
                _answer(waiting, waiting.answer or broken_off(waiting))
        finally:
            # Only when somebody who does not own this task cancelled it, as the end of an event loop does.
            _break_off(group)

    def _note_named(self, group: Sequence[Waiting], task: asyncio.Task[None]) -> None:
        """Forget the task; one that was cancelled before its first step did nothing at all, not even tidy up."""
        if self._naming is task:
            self._naming = None
        _break_off(group)
        if not task.cancelled():
            task.exception()

    async def _write_and_publish(self, group: Sequence[Waiting]) -> None:
        ready = [waiting for waiting in group if waiting.answer is None]
        try:
            if ready and await self._write_rows(ready):
                await self._publish(ready)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the answer to those who wait
            for waiting in group:
                waiting.answer = waiting.answer or error

    async def _finish(self, group: Sequence[Waiting]) -> None:
        """Force the content of each file to the disk, on several threads, each with its share."""
        small = [waiting for waiting in group if waiting.small is not None]
        large = [waiting for waiting in group if waiting.small is None]
        bring = partial(bring_share, storage=self._storage, durable=self._durable, now=self._now)
        finish = partial(finish_share, durable=self._durable, now=self._now)
        count = shares([waiting.size for waiting in small], self._share)
        works = [self._threads.start(bring, small[start::count]) for start in range(count)]
        count = min(self._share, len(large))
        works += [self._threads.start(finish, large[start::count]) for start in range(count)]
        cancelled: asyncio.CancelledError | None = None
        for work in works:
            try:
                await wait_to_end(work)
            except asyncio.CancelledError as reason:
                cancelled = reason
        if cancelled is not None:
            raise cancelled
        for work in works:
            work.result()

    async def _write_rows(self, ready: Sequence[Waiting]) -> bool:
        """Write the rows, and settle those of the group before, in one transaction; False when the ledger refused."""
        settled, self._unsettled = self._unsettled, []
        for waiting in ready:
            waiting.has_row = True
        try:
            entries = [waiting.entry for waiting in ready if waiting.entry is not None]
            await self._ledger.write(entries, completed=settled)
        except ArenaAsyncError as error:
            self._unsettled = settled
            for waiting in ready:
                waiting.has_row = False
                # Each its own: an error that several tasks raise would collect the traceback of all of them.
                waiting.answer = type(error)(str(error))
            return False
        return True

    async def _publish(self, ready: Sequence[Waiting]) -> None:
        """Give the files their names."""
        files = [waiting.staged for waiting in ready if waiting.staged is not None]
        results = await self._threads.run(self._storage.publish, files, durable=self._durable)
        for waiting, result in zip(ready, results, strict=True):
            if isinstance(result, StorageError):
                waiting.answer = result
            elif waiting.entry is not None:
                self._unsettled.append(waiting.entry.key)
                entry = attrs.evolve(waiting.entry, state="complete", partial="")
                waiting.answer = Committed(entry=entry, durable=waiting.on_disk and result)

    async def aclose(self) -> None:
        """
        Commit what waits, settle the ledger and end the threads. Safe twice. Does not close ledger or storage.

        Raises:
            StorageError: The ledger refused to settle; the next start does it.
        """
        self._closed = True
        try:
            if self._task is not None:
                await wait_to_end(self._task)
            if self._naming is not None:
                await wait_to_end(self._naming)
            settled, self._unsettled = self._unsettled, []
            if settled:
                await self._ledger.write((), completed=settled)
        finally:
            await self._threads.aclose()


def _answer(waiting: Waiting, answer: Committed | Exception) -> None:
    """Let the task that waits go on."""
    if waiting.done.done():
        return
    if isinstance(answer, Committed):
        waiting.done.set_result(answer)
    else:
        waiting.done.set_exception(answer)


def _break_off(files: Sequence[Waiting]) -> None:
    """Leave nobody waiting. What has a row keeps its partial file for the next start."""
    left = [waiting for waiting in files if not waiting.done.done()]
    for waiting in left:
        _answer(waiting, broken_off(waiting))
    # The tasks go on at the next turn of the loop, when all is closed.
    _close_all(left)


def _close(waiting: Waiting) -> None:
    """
    Close a file that has no final name.

    One that is written down as verified keeps its partial name, and the next start tries again. Of the others only what
    can be continued stays.
    """
    if waiting.staged is None:
        return
    if not waiting.has_row:
        waiting.staged.close()
        return
    with contextlib.suppress(StorageError):
        waiting.staged.release()


def _close_all(files: Sequence[Waiting]) -> None:
    for waiting in files:
        _close(waiting)
