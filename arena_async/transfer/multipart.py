"""
One large file over several connections, where each of them alone is slow.

::

    primary:    ──── reads the response to the first request ──┤ then only follows: reads back, hashes, records
    parts:                                                     [ 1 ][ 2 ][ 3 ][ 4 ] ...  taken in order, each by a
                                                               connection with a permit of its own

Parts are written where they belong in the same partial file. The control record names each range that is on the disk,
so that after a stop at any instant only what is missing is requested; and the file is hashed from the first byte to the
last as if it had been received in order, by the primary connection, which reads back what the others wrote.

A failure of a part is no failure of the file: another connection downloads what is missing of it, and if none is left,
the primary one requests the rest itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from functools import partial

from arena_async.errors import ArenaAsyncError, IntegrityError, StorageError, TransportError
from arena_async.options import KIB, MIB
from arena_async.protocol.files import BodyHead
from arena_async.protocol.ranges import PartialContent, is_piece, judge_head
from arena_async.transfer.context import Context
from arena_async.transfer.jobs import Job, Source
from arena_async.transfer.partial_file import PartialFile, PartWriter
from arena_async.transfer.rate import FileParts, Part, Span, Spread
from arena_async.transfer.workers import end_tasks

__all__ = ["Multipart", "split"]

_log = logging.getLogger("arena_async")

#: Bytes that are followed to at a time.
_STEP = 4 * MIB
#: Bytes of the first chunk of a connection: the sooner something was received, the sooner its rate is known.
_FIRST = 128 * KIB


class Multipart:
    """
    The connections of one file beside its primary one. They end with :meth:`aclose`, before the partial file is closed.

    Args:
        job: The file.
        source: Where it comes from. The spare permits of its directory are used, and returned as soon as another file
            needs one.
        staged: The partial file, described already.
        validator: The strong ETag of the content.
        total: Bytes of the whole file.

    Attributes:
        staged: The partial file.
        count: Bytes that the connections received.
        stopped: Whether the primary connection has stopped reading, and only follows.
    """

    def __init__(self, job: Job, source: Source, staged: PartialFile, *, validator: str, total: int) -> None:
        self.staged = staged
        self.count = 0
        self.stopped = False
        self._job = job
        self._files = source.files
        self._run = source.run
        self._context = source.context
        self._validator = validator
        self._total = total
        self._how = source.context.splitting
        self._spread = Spread(fast=self._how.fast)
        self._over = False
        #: Parts that may be requested once more.
        self._retries = source.context.options.attempts * source.context.options.workers
        self._parts: FileParts | None = None
        ahead = staged.ahead
        if ahead:
            self._begin(ahead[0][0], done=ahead)
        self._running: dict[asyncio.Task[None], _Connection] = {}
        self._primary = 1
        self._moved = asyncio.Event()
        self._failure: StorageError | None = None
        self._seen = False
        self._measuring = False
        self._since = 0.0
        self._measured = 0
        staged.ranges = self._spans

    def _begin(self, begin: int, *, done: Sequence[Span] = ()) -> None:
        """Leave everything from a byte on to parts, but what is written already."""
        min_size, max_size = self._how.min_piece, self._how.max_piece
        self._parts = FileParts(begin=begin, total=self._total, min_size=min_size, max_size=max_size, done=done)

    def _spans(self) -> list[Span]:
        """Return the ranges that were written here. Called on the thread of the primary connection."""
        parts = self._parts
        return parts.spans() if parts is not None else []

    # -- for the primary connection

    def room(self, end: int) -> int:
        """Return how many bytes the primary connection may receive now, behind ``end``; 0 when it has to stop."""
        if self._parts is not None and not self._running and not self._parts.started:
            self._parts = None
            self._spread.lose()
        # One byte more than there may be is enough to see that there is more.
        limit = self._total + 1 if self._parts is None else self._parts.begin
        return limit - end if self._seen else min(limit - end, _FIRST)

    def received(self, count: int, *, end: int) -> None:
        """
        Count bytes that the primary connection received.

        Args:
            count: How many.
            end: The byte behind the last of them.

        Raises:
            StorageError: The disk failed for another connection.
        """
        if self._failure is not None:
            raise self._failure
        self._seen = True
        rate = self._measure(count)
        if rate is None:
            return
        how = self._how
        begin = end + max(how.min_piece, int(rate * how.head_start))
        spare = self._context.permits.spare(self._run)
        if self._parts is None and self._total - begin >= how.min_piece and spare:
            self._begin(begin)
        self._judge(rate)

    async def reach(self, end: int) -> int | None:
        """
        Wait until bytes behind ``end`` are written and return up to where; None when no more will be.

        ``end`` itself means that it is time for another record of what lies ahead.

        Raises:
            StorageError: The disk failed.
        """
        self._primary, self.stopped = 0, True
        while self._parts is not None:
            if self._failure is not None:
                raise self._failure
            reached = self._parts.reach(end)
            if reached > end or (reached < self._total and self.staged.due):
                return min(reached, end + _STEP)
            self._widen()
            if not self._running:
                break
            self._moved.clear()
            await self._moved.wait()
        return None

    async def aclose(self) -> None:
        """End all connections and wait until nothing of them runs any more. Safe to call twice."""
        self._over = True
        self._context.permits.wish(self, more=False)
        await end_tasks(*self._running)
        spans = self._spans()
        self.staged.ranges = lambda: spans

    # -- how many of them

    def _measure(self, count: int) -> float | None:
        """Return the bytes a second of all connections, once each of them has begun and some time has passed since."""
        now = self._context.clock.monotonic()
        if not self._measuring:
            self._measuring = all(connection.begun for connection in self._running.values())
            self._since, self._measured = now, 0
            return None
        self._measured += count
        passed = now - self._since
        return self._measured / passed if passed and passed >= self._how.interval else None

    def _judge(self, rate: float) -> None:
        """Have more connections or fewer, by the rate they reach."""
        before = self._spread.connections
        maximum = self._primary + len(self._running) + self._context.permits.spare(self._run)
        wanted = 1 if self._parts is None else self._spread.judge(rate, maximum=maximum)
        parts = self._parts
        more = parts is not None and parts.left and not self._spread.settled and wanted >= maximum
        self._context.permits.wish(self, more=more)
        self._measuring = wanted == before
        self._since, self._measured = self._context.clock.monotonic(), 0
        self._widen()

    def _widen(self) -> None:
        """Open as many connections as are missing, while there are spare permits."""
        while self._parts is not None and self._parts.left and not self._over and not self._too_many(1):
            if not self._context.permits.take_spare(self._run):
                break
            connection = _Connection(self, self._context)
            task = asyncio.create_task(connection.run(), name="arena_async part")
            self._running[task] = connection
            task.add_done_callback(self._note_end)

    def _too_many(self, more: int = 0) -> bool:
        """Return whether there are more connections than there should be."""
        return self._primary + len(self._running) + more > self._spread.connections

    def _note_end(self, task: asyncio.Task[None]) -> None:
        """Remove a connection that ended, and return its permit, whether or not its task ever ran."""
        self._running.pop(task)
        self._context.permits.release(self._run)
        if not task.cancelled() and task.exception() is not None:
            _log.debug("A connection of %s ended: %s", self._job.file.key, type(task.exception()).__name__)
        self._moved.set()

    # -- for the connections

    def next_part(self) -> Part | None:
        """Return the next part for a connection, or None when it has to end."""
        others = len(self._running) - 1 + self._primary
        if self._parts is None or self._over or self._failure is not None or self._too_many():
            return None
        if others and self._context.permits.contended:
            return None
        spare = 0 if self._spread.settled else self._context.permits.spare(self._run)
        taken = self._parts.take(max(1, self._spread.connections, others + 1 + spare))
        if taken is None:
            return None
        part, again = taken
        self._retries -= again
        if self._retries < 0:
            self._parts.return_part(part)
            self._over = True
            return None
        return part

    def return_part(self, part: Part) -> None:
        """Leave what is missing of a part to others."""
        if self._parts is not None:
            self._parts.return_part(part)

    def note_written(self, count: int) -> None:
        """Count bytes that a connection received."""
        self.count += count
        self._moved.set()
        rate = self._measure(count)
        if rate is not None:
            self._judge(rate)

    def fail(self, error: Exception, *, progressed: bool) -> None:
        """
        Note that a connection failed.

        Args:
            error: Its error.
            progressed: Whether it had received something of its last part.
        """
        if isinstance(error, StorageError):
            self._failure = self._failure or error
        # A connection that only broke is replaced; error responses, stalls and odd responses are a reason to use fewer.
        if not (progressed and isinstance(error, TransportError)):
            # The last one failed too: the next request of the primary connection will show why.
            self._over = self._over or self._spread.connections == 1
            self._spread.lose()
        self._context.note_failure(error)
        _log.debug("A part of %s was not received: %s", self._job.file.key, type(error).__name__)

    async def fetch(self, part: Part, connection: _Connection) -> None:
        """
        Download what is missing of a part.

        Raises:
            IntegrityError: The response is not that part, or not all of it.
            ArenaAsyncError: It was not received.
        """
        held = PartialContent(offset=part.at, validator=self._validator, total=self._total)
        writer, at = connection.writer, part.at
        async with await self._files.open(
            self._job.file, offset=part.at, validator=self._validator, until=part.until
        ) as opened:
            if not is_piece(opened.head, held, until=part.until):
                if judge_head(opened.head, held, expected=self._total).ranges_ignored:
                    self._context.no_parts.add(self._job.host)
                raise IntegrityError(f"{self._job.file.key}: the response is not the part that was requested.")
            try:
                while at < part.until:
                    room = part.until - at if connection.begun else min(part.until - at, _FIRST)
                    count = await opened.stream.readinto(writer.buffer()[:room])
                    if not count:
                        raise IntegrityError(f"{self._job.file.key}: the body of a part ended early.")
                    await writer.put(partial(connection.write, part), count)
                    at += count
                    connection.begun = True
                    self.note_written(count)
                    await self._context.note_received(count)
            except ArenaAsyncError:
                await writer.settle()  # What was received is written first, and an error of the disk takes precedence.
                raise
            await writer.settle()
            self._moved.set()
            # Reading on to the end lets the connection be used again.
            if await opened.stream.readinto(writer.buffer()[:1]):
                raise IntegrityError(f"{self._job.file.key}: more was received than the part that was requested.")


class _Connection:
    """One connection ahead of the primary one, with a writer of its own."""

    def __init__(self, owner: Multipart, context: Context) -> None:
        self.writer = context.take_writer()
        self.begun = False
        self._owner = owner
        self._context = context
        self._file: PartWriter | None = None

    async def run(self) -> None:
        """Download part after part."""
        part: Part | None = None
        begin = 0
        try:
            await self.writer.run(self._open)
            while (part := self._owner.next_part()) is not None:
                begin = part.at
                await self._owner.fetch(part, self)
        except Exception as error:  # noqa: BLE001 - whatever it is, the file goes on without this connection
            self._owner.fail(error, progressed=part is not None and part.at > begin)
        finally:
            self.begun = True
            try:
                await self.writer.settle(ignore_error=True)
            finally:
                try:
                    await self.writer.run(self._close)
                finally:
                    if part is not None:
                        self._owner.return_part(part)
                    await self._context.return_writer(self.writer)

    # On a thread, in order. A cancelled task does not receive the result of its thread.

    def _open(self) -> None:
        self._file = self._owner.staged.open_part()

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def write(self, part: Part, data: memoryview) -> None:
        """Write a chunk, then note that it is written."""
        if self._file is None:
            raise StorageError("A piece came before its file was opened.")
        self._file.write(data, part.at)
        part.at += len(data)


def split(job: Job, head: BodyHead, source: Source) -> Multipart | None:
    """Let spare permits download what is far ahead of a large file, where parts of it may be requested at no cost."""
    staged, total, validator = job.partial, job.total, job.validator
    if staged is None:
        return None
    if total is None or validator is None or not _may_split(job, head, source):
        staged.ranges = tuple  # One request for all the rest, over parts that are downloaded already too.
        return None
    min_size = source.context.splitting.min_size
    if not staged.ahead and (total - job.end < min_size or job.end < job.split_from):
        return None
    # Whatever ended the connections ahead, as much again is received over one before they are tried anew.
    job.split_from = job.end + min_size
    return Multipart(job, source, staged, validator=validator, total=total)


def _may_split(job: Job, head: BodyHead, source: Source) -> bool:
    """Return whether more than one request may be sent for the content, each for a part of it."""
    context, cost = source.context, source.files.cost()
    return (
        head.ranges
        and not (cost.per_file and cost.metered)
        and context.options.max_rate is None
        and context.directory.files.writes_anywhere
        and not job.tries.corrupt
        and job.host not in context.no_ranges | context.no_parts
    )
