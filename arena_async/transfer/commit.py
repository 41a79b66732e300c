"""
How verified files get their final names: in batches, one at a time.

::

    put()  put()  put()             small files come in memory, large ones as a partial file that was synced on its way
        |      |      |
    verify and write the small ones on one thread, sync them on several
        |      |      |
    one transaction of the ledger: partial and final name of each
    renames, one sync per directory
        |      |      |
    take_finished(): the batch, with an error for each file that failed

A row that names the partial file makes a kill between the transaction and the rename harmless: the next start renames.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime

import attrs

from arena_async.errors import ArenaAsyncError, ClosedError, StorageError, TransportError
from arena_async.options import MIB, Durability
from arena_async.protocol.filenames import duplicate_key, duplicate_path
from arena_async.protocol.files import RemoteFile, ResponseOrder
from arena_async.transfer.directory import ParentCache
from arena_async.transfer.filesystem import MAX_WAITS, WAIT_SECONDS, Proceed, is_out_of_files
from arena_async.transfer.ledger import Ledger
from arena_async.transfer.models import FileState, LedgerEntry
from arena_async.transfer.partial_file import PartialFile
from arena_async.transfer.partial_files import PartialFiles, adopt, finish_move, publish
from arena_async.transfer.processes import max_open_files
from arena_async.transfer.verify import ContentVerifier, VerificationResult
from arena_async.transfer.workers import ThreadPoolExecutor, run_to_end, wait_to_end

__all__ = ["Committer", "Pending", "out_of_step", "recover"]

log = logging.getLogger("arena_async")

#: Files and bytes of small files that may wait for their commit before no further request is sent.
_MAX_FILES, _MAX_BYTES = 64, 4 * MIB
#: A batch takes at most this part of the files that the process may open.
_PART_OF_FILES = 8
#: Threads that sync.
_SYNC_THREADS = 8


@attrs.define(eq=False, kw_only=True)
class Pending:
    """
    A received file on its way to its final name.

    Args:
        run: The run it belongs to.
        job: Its job in that run.
        file: The file as listed.
        key: The key under which it is remembered.
        path: Its final path, below the root.
        verifier: Verifies the content of a small file.
        content: The whole content of a small file, until it is written.
        partial: The partial file of a large one.
        result: How its content was verified.
        order: Shows later whether its content was the response to its own request, or None.
        size: Bytes that are held in memory.
        several: Whether the file of another row of its key, which is at its path, is to be moved aside.
        moving: The row of that file.
        entry: Its row, once its content is on the disk.
        has_row: Whether its row was written.
        durable: Whether it survives a power loss.
        bytes_written: Bytes that were written to the disk for it by the committer.
        error: Why it has no final name.
        waits: How often it waited until other files were closed.
    """

    run: object
    job: object
    file: RemoteFile
    key: str
    path: str
    verifier: ContentVerifier | None = None
    content: bytes | None = None
    partial: PartialFile | None = None
    result: VerificationResult | None = None
    order: ResponseOrder | None = None
    size: int = 0
    several: bool = False
    moving: LedgerEntry | None = None
    entry: LedgerEntry | None = None
    has_row: bool = False
    durable: bool = False
    bytes_written: int = 0
    error: Exception | None = None
    waits: int = 0

    def secure(self, *, durable: bool, at: datetime) -> None:
        """Sync its content if ``durable``, and make its row."""
        partial, result = self.partial, self.result
        if partial is None or result is None:
            raise self.aborted()
        if self.order is not None and self.order.broken:
            partial.drop()
            raise out_of_step(self.path)
        state, self.durable = partial.secure(durable=durable)
        self.entry = LedgerEntry(
            key=self.key,
            state="committing",
            path=self.path,
            size=state.size,
            mtime_ns=state.mtime_ns,
            change=self.file.change,
            sha256=result.sha256,
            md5=result.md5,
            verified_by=result.verified_by,
            name=self.file.name,
            partial=partial.name,
            at=at,
        )

    def aborted(self) -> StorageError:
        """Return the error of a commit that was not done."""
        return StorageError(
            f"{self.path}: its commit was broken off. Run again: what was verified is not fetched again.", file=self.key
        )


class Committer:
    """
    Commits files in batches. It ends with :meth:`aclose`.

    Args:
        partials: The partial files of the directory.
        ledger: Where rows are written.
        durability: ``"group"``, ``"each"`` (batches of one) or ``"off"`` (no fsync at all).
        now: Returns the time of day (aware) for the rows.
    """

    def __init__(
        self, partials: PartialFiles, ledger: Ledger, *, durability: Durability, now: Callable[[], datetime]
    ) -> None:
        self._partials = partials
        self._ledger = ledger
        self._durable = durability != "off"
        self._max_files = min(_MAX_FILES, max(1, max_open_files() // _PART_OF_FILES))
        self._batch_size = 1 if durability == "each" else self._max_files
        self._now = now
        self._loop = asyncio.get_running_loop()
        self._pool = ThreadPoolExecutor(_SYNC_THREADS + 1, thread_name_prefix="arena_async-commit")
        self._completed: list[LedgerEntry] = []
        # Of the event loop:
        self._files = self._bytes = 0
        self._waiting: deque[Pending] = deque()
        self._busy = False
        self._finished: dict[object, list[Pending]] = {}
        self._waiters: list[asyncio.Future[None]] = []
        self._closed = False

    # -- on the event loop

    @property
    def full(self) -> bool:
        """Whether so much waits that no further request should be sent."""
        return self._files >= self._max_files or self._bytes >= _MAX_BYTES

    async def changed(self) -> None:
        """Wait until a batch was finished."""
        waiter = self._loop.create_future()
        self._waiters.append(waiter)
        await waiter

    def put(self, pending: Pending) -> None:
        """
        Take a file, which belongs to the committer from here on. It comes back from :meth:`take_finished`.

        Raises:
            ClosedError: The committer was closed before; the file was dropped.
        """
        if self._closed:
            if pending.partial is not None:
                pending.partial.drop()
            raise ClosedError(f"{pending.path}: the folder was closed while the file was on its way; it was dropped.")
        self._files += 1
        if pending.content is None:
            self._pool.submit(self._secure_large, pending)
        else:
            pending.size = len(pending.content)
            self._bytes += pending.size
            self._join(pending)

    def take_finished(self, run: object) -> list[Pending]:
        """Return the files of a run whose commit ended since the last call, with or without an error."""
        return self._finished.pop(run, [])

    async def aclose(self) -> None:
        """
        Commit what waits, complete the rows, and end the threads. Safe to call twice. Leaves the ledger open.

        Raises:
            StorageError: The ledger failed to complete rows; the next start does it.
        """
        self._closed = True
        try:
            while self._files:
                waiter = self._loop.create_future()
                self._waiters.append(waiter)
                await wait_to_end(waiter)
            completed, self._completed = self._completed, []
            if completed:
                await run_to_end(self._pool, self._ledger.write, (), completed=completed)
        finally:
            self._pool.shutdown()

    def end(self) -> None:
        """Wait for the batch in progress, and leave what waits, where the event loop was closed. On a thread."""
        self._closed = True
        self._pool.shutdown()
        for pending in self._waiting:
            if pending.partial is not None:
                pending.partial.keep()
        if self._completed:
            self._ledger.write((), completed=self._completed)

    def _join(self, *more: Pending) -> None:
        """Add files to those that wait, and commit what waits, one batch at a time: the next one grows meanwhile."""
        self._waiting.extend(more)
        if self._waiting and not self._busy:
            self._busy = True
            count = min(len(self._waiting), self._batch_size)
            self._pool.submit(self._commit, [self._waiting.popleft() for _ in range(count)])

    def _deliver(self, batch: list[Pending], postponed: Sequence[Pending]) -> None:
        """Note a finished batch, and put what has to wait before the rest."""
        self._busy = False
        self._waiting.extendleft(reversed(postponed))
        self._files -= len(batch)
        self._bytes -= sum([pending.size for pending in batch])
        for pending in batch:
            self._finished.setdefault(pending.run, []).append(pending)
        self._join()
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    # -- on the threads

    def _secure_large(self, pending: Pending) -> None:
        """Finish a large file before it joins a batch: its sync takes long."""
        try:
            if pending.partial is None:
                raise pending.aborted()
            pending.partial.finish()
            pending.secure(durable=self._durable, at=self._now())
        except Exception as error:  # noqa: BLE001 - it is the error of this file
            pending.error = error
        with contextlib.suppress(RuntimeError):  # The event loop may be closed.
            self._loop.call_soon_threadsafe(self._join, pending)

    def _commit(self, batch: list[Pending]) -> None:
        """Write small files, sync them, write the rows, and rename: each file has its final name or its error then."""
        postponed: list[Pending] = []
        try:
            small = [pending for pending in batch if pending.content is not None]
            if small:
                postponed = self._write_small(small)
                batch = [pending for pending in batch if pending not in postponed] if postponed else batch
            ready = [pending for pending in batch if pending.error is None]
            if ready and self._write_rows(ready):
                ready = self._move_aside(ready)
                partials = [pending.partial for pending in ready if pending.partial is not None]
                results = publish(self._partials, partials, durable=self._durable)
                for pending, result in zip(ready, results, strict=True):
                    if isinstance(result, bool):
                        pending.durable = pending.durable and result
                        if pending.entry is not None:
                            self._completed.append(pending.entry)
                    else:
                        pending.error = result
        except Exception as error:  # noqa: BLE001 - it is the error of the files that have none yet
            for pending in batch:
                pending.error = pending.error or error
        for pending in batch:
            if pending.error is not None and pending.partial is not None:
                _close(pending.partial, has_row=pending.has_row)
        with contextlib.suppress(RuntimeError):  # The event loop may be closed.
            self._loop.call_soon_threadsafe(self._deliver, batch, postponed)

    def _write_small(self, small: Sequence[Pending]) -> list[Pending]:
        """Verify and write small files, and sync them on several threads; return those that have to wait."""
        postponed: list[Pending] = []
        with ParentCache(self._partials.directory) as parents:
            for pending in small:
                try:
                    self._write_one(pending, parents)
                except Exception as error:  # noqa: BLE001 - it is the error of this file
                    if is_out_of_files(error) and pending.waits < MAX_WAITS:
                        pending.waits += 1
                        postponed.append(pending)
                        continue
                    pending.error = _without_frames(error)
                pending.content = None
        if len(postponed) == len(small):
            self._partials.directory.sleep(WAIT_SECONDS)
        written = [pending for pending in small if pending.partial is not None]
        if self._durable and len(written) > 1:
            for pending in written:
                pending.partial.begin_sync()  # type: ignore[union-attr]
        count = max(1, min(_SYNC_THREADS, len(written))) if self._durable else 1
        others = [self._pool.submit(self._sync, written[start::count]) for start in range(1, count)]
        self._sync(written[::count])
        for other in others:
            other.result()
        return postponed

    def _sync(self, written: Sequence[Pending]) -> None:
        """Sync some small files: the system has begun with all of them by then."""
        now = self._now()
        for pending in written:
            try:
                pending.secure(durable=self._durable, at=now)
            except Exception as error:  # noqa: BLE001 - it is the error of this file
                pending.error = error

    def _write_one(self, pending: Pending, parents: ParentCache) -> None:
        """Verify a small file and write it. What is not right is never written."""
        content, verifier = pending.content, pending.verifier
        if content is None or verifier is None:
            raise pending.aborted()
        if pending.result is None:
            verifier.feed(content)
            pending.result = verifier.finish(lambda offset, size: content[offset : offset + size])
        result = pending.result
        if result.problem is not None:
            raise result.problem
        pending.partial = self._partials.write_small(pending.key, pending.path, content, parents)
        pending.bytes_written = len(content)

    def _write_rows(self, ready: Sequence[Pending]) -> bool:
        """Write the rows, and complete those of the batch before, in one transaction; False when the ledger failed."""
        completed, self._completed = self._completed, []
        several = [pending for pending in ready if pending.several]
        for pending in ready:
            pending.has_row = True
        try:
            if several:
                self._find_older(several)
            moving = [pending.moving for pending in several if pending.moving]
            self._ledger.write([*moving, *[pending.entry for pending in ready if pending.entry]], completed=completed)
        except ArenaAsyncError as error:
            self._completed = completed
            for pending in ready:
                pending.has_row = False
                # Each its own: an error that is raised several times would collect every traceback.
                pending.error = type(error)(str(error))
            return False
        return True

    def _find_older(self, several: Sequence[Pending]) -> None:
        """Find the files of older rows that lie where newer ones of the same key are about to go."""
        known = self._ledger.look_up([pending.key for pending in several])
        for pending in several:
            old, file = known.get(pending.key), pending.file
            # A row of the batch before may not be complete yet; what lies on the disk decides.
            if old is None or old.state == "skipped" or (old.change, old.name) == (file.change, file.name):
                continue
            if self._partials.directory.state_of(old.path) == FileState(size=old.size, mtime_ns=old.mtime_ns):
                pending.moving = attrs.evolve(
                    old,
                    key=duplicate_key(old.key, old.name),
                    path=duplicate_path(pending.path, old.name, file.extension),
                    state="committing",
                    partial=f"/{old.path}",
                )

    def _move_aside(self, ready: Sequence[Pending]) -> list[Pending]:
        """Move the files of older rows aside, and return what can get its name now; the others wait for a start."""
        for pending in ready:
            if pending.moving is not None:
                try:
                    finish_move(self._partials.directory, pending.moving, durable=False)
                    self._completed.append(pending.moving)
                except StorageError as error:
                    pending.error = error
        return [pending for pending in ready if pending.error is None]


def out_of_step(path: str) -> TransportError:
    """Return the error of a file that came over a connection on which something was received that was not requested."""
    return TransportError(
        f"{path}: more was received over its connection than was requested, so that its content may be that of another"
        " file; it is requested again over another connection."
    )


def _without_frames(error: Exception) -> Exception:
    """Drop the frames an error came through: they hold the content of the file."""
    link: BaseException | None = error
    while link is not None:
        link.__traceback__ = None
        link = link.__cause__ or link.__context__
    return error


def _close(partial: PartialFile, *, has_row: bool) -> None:
    """
    Close a file that has no final name.

    One whose row was written keeps its partial name, and the next start tries again. Of the others only what can be
    resumed stays.
    """
    if has_row:
        partial.release()
    else:
        partial.close()


def recover(partials: PartialFiles, ledger: Ledger, *, durable: bool, proceed: Proceed = bool) -> frozenset[str]:
    """
    Finish what an interrupted run had verified, and return the names of partial files to leave alone.

    Called before the first file is planned, on a thread. ``proceed`` is called before each block of a file is read
    again, and raises to end that: what is not finished by then, the next start finishes.

    Raises:
        StorageError: The ledger failed.
    """
    leave: set[str] = set()
    # A file that is to make room is moved before another one gets its name.
    for moves in (True, False):
        after = ""
        while page := ledger.entries(after=after, committing=True):
            after = page[-1].key
            rows = [entry for entry in page if entry.partial.startswith("/") == moves]
            found = [(entry, _finish(partials, entry, durable=durable, proceed=proceed)) for entry in rows]
            leave.update(entry.partial for entry, end in found if end == "in use")
            ledger.write((), completed=[entry for entry, end in found if end == "complete"])
            ledger.replace([(entry, None) for entry, end in found if end == "gone"])
    return frozenset(leave)


def _finish(partials: PartialFiles, entry: LedgerEntry, *, durable: bool, proceed: Proceed) -> str:
    """Finish the commit or the move of a file, as :func:`adopt` does; what fails is tried again at the next start."""
    try:
        if entry.partial.startswith("/"):
            return "complete" if finish_move(partials.directory, entry, durable=durable) else "gone"
        return adopt(partials, entry, durable=durable, proceed=proceed)
    except StorageError as error:
        log.warning("%s: it was verified by an earlier run and cannot get its name yet: %s", entry.path, error)
        return "in use"
