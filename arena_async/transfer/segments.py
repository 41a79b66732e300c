"""
One large file over several connections, where each of them alone is held back.

::

    front:      ──── reads the answer to the first request ────┤ then only follows: reads back, hashes, records
    pieces:                                                    [ 1 ][ 2 ][ 3 ][ 4 ] ...  taken in order, each by a
                                                               connection that has a lane of its own

Pieces are written where they belong in the same partial file. The control record speaks of each part that is on the
disk, so that after a stop at any instant only what is missing is asked for; and the file is looked at from the first
byte to the last as if it had come in order, by the front, which reads back what the others wrote.

Whatever goes wrong with a piece is no failure of the file: another connection takes what is missing of it, and if none
is left, the front asks for the rest itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from functools import partial

from arena_async.errors import ArenaAsyncError, IntegrityError, StorageError, TransportError
from arena_async.options import KIB, MIB
from arena_async.transfer.destination import Destination, end_tasks
from arena_async.transfer.pieces import Piece, Pieces, Span, Spread
from arena_async.transfer.storage import Ahead, Staged
from arena_async.transfer.threads import Lane
from arena_async.wire.contracts import FileSet, RemoteFile
from arena_async.wire.ranges import Held, is_piece, judge_head

__all__ = ["Segments"]

_log = logging.getLogger("arena_async")

#: Bytes that are followed to at a time.
_STEP = 4 * MIB
#: Bytes that are waited for before anything else: the sooner something came, the sooner it is known how fast.
_FIRST = 128 * KIB


class Segments:
    """
    The connections of one file beside its front. They end with :meth:`aclose`, before anybody touches the partial file.

    Args:
        file: The file.
        files: The set it comes from.
        destination: The folder: its free lanes are used, and given back as soon as another file wants one.
        staged: The partial file, described already.
        validator: The strong ETag of the content.
        total: Bytes of the whole file.
        service: Whose retries are spent.
    """

    def __init__(
        self,
        file: RemoteFile,
        files: FileSet,
        destination: Destination,
        staged: Staged,
        *,
        validator: str,
        total: int,
        service: str,
    ) -> None:
        self._file = file
        self._files = files
        self._destination = destination
        self._staged = staged
        self._validator = validator
        self._total = total
        self._service = service
        self._how = destination.splitting
        self._spread = Spread(fast=self._how.fast)
        self._over = False
        self._pieces: Pieces | None = None
        if staged.ahead:
            self._begin(staged.ahead[0][0], done=staged.ahead)
        #: Bytes that the connections brought.
        self.count = 0
        #: Whether the front has stopped reading, and only follows.
        self.stopped = False
        self._running: dict[asyncio.Task[None], _Connection] = {}
        self._front = 1
        self._moved = asyncio.Event()
        self._failure: StorageError | None = None
        self._seen = False
        self._measuring = False
        self._since = 0.0
        self._measured = 0
        staged.watch(self._spans)

    def _begin(self, begin: int, *, done: Sequence[Span] = ()) -> None:
        """Leave everything from a byte on to others, but what is written already."""
        least, largest = self._how.least_piece, self._how.largest_piece
        self._pieces = Pieces(begin=begin, total=self._total, least=least, largest=largest, done=done)

    def _spans(self) -> list[Span]:
        """Give the parts that were written here. Called on the thread of the front."""
        pieces = self._pieces
        return pieces.spans() if pieces is not None else []

    # --------------------------------------------------------------------------------------------------- for the front

    def room(self, end: int) -> int:
        """Say how many bytes the front may take now, behind ``end``; 0 when it has to stop reading."""
        if self._pieces is not None and not self._running and not self._pieces.started:
            self._pieces = None
            self._spread.lose()
        # One byte more than there may be is enough for the front to see that there is more.
        limit = self._total + 1 if self._pieces is None else self._pieces.begin
        return limit - end if self._seen else min(limit - end, _FIRST)

    def came(self, count: int, *, end: int) -> None:
        """
        Count bytes that the front brought.

        Args:
            count: How many.
            end: The byte behind the last of them.

        Raises:
            StorageError: The disk refused what another connection brought.
        """
        if self._failure is not None:
            raise self._failure
        self._seen = True
        rate = self._measure(count)
        if rate is None:
            return
        how = self._how
        begin = end + max(how.least_piece, int(rate * how.head_start))
        if (
            self._pieces is None
            and self._total - begin >= how.least_piece
            and self._destination.slots.spare(self._files)
        ):
            self._begin(begin)
        self._judge(rate)

    async def reach(self, end: int) -> int | None:
        """
        Wait until bytes behind ``end`` are written and say up to where; None when no more will come.

        ``end`` itself means that it is time for another record of what lies ahead.

        Raises:
            StorageError: The disk refused.
        """
        self._front, self.stopped = 0, True
        while self._pieces is not None:
            if self._failure is not None:
                raise self._failure
            reached = self._pieces.reach(end)
            if reached > end or (reached < self._total and self._staged.due):
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
        self._destination.slots.wish(self, more=False)
        await end_tasks(*self._running)
        spans = self._spans()
        self._staged.watch(lambda: spans)

    # ------------------------------------------------------------------------------------------------- how many of them

    def _measure(self, count: int) -> float | None:
        """Give the bytes a second of all connections, once each of them has begun and some time has passed since."""
        now = self._destination.timing.clock()
        if not self._measuring:
            self._measuring = all(connection.begun for connection in self._running.values())
            self._since, self._measured = now, 0
            return None
        self._measured += count
        passed = now - self._since
        return self._measured / passed if passed and passed >= self._how.interval else None

    def _judge(self, rate: float) -> None:
        """Have more connections or fewer, by what they bring."""
        before = self._spread.connections
        most = self._front + len(self._running) + self._destination.slots.spare(self._files)
        wanted = 1 if self._pieces is None else self._spread.judge(rate, most=most)
        pieces = self._pieces
        more = pieces is not None and pieces.left and not self._spread.settled and wanted >= most
        self._destination.slots.wish(self, more=more)
        self._measuring = wanted == before
        self._since, self._measured = self._destination.timing.clock(), 0
        self._widen()

    def _widen(self) -> None:
        """Open as many connections as are missing, while there are lanes that nobody wants."""
        while self._pieces is not None and self._pieces.left and not self._over and not self._too_many(1):
            lane = self._destination.slots.take_spare(self._files)
            if lane is None:
                break
            connection = _Connection(self, lane)
            task = asyncio.create_task(connection.run(), name="arena_async segment")
            self._running[task] = connection
            task.add_done_callback(self._note_end)

    def _too_many(self, more: int = 0) -> bool:
        """Whether there are more connections than there should be."""
        return self._front + len(self._running) + more > self._spread.connections

    def _note_end(self, task: asyncio.Task[None]) -> None:
        """Forget a connection that ended; one that was cancelled before its first step could not give its lane back."""
        connection = self._running.pop(task)
        if not connection.entered:
            self.leave(connection.lane, None)
        if not task.cancelled() and task.exception() is not None:
            _log.debug("A connection of %s ended: %s", self._file.key, type(task.exception()).__name__)
        self._moved.set()

    # -------------------------------------------------------------------------------------------------- for connections

    def next_piece(self) -> Piece | None:
        """Give a connection its next piece, or None when it has to end."""
        others = len(self._running) - 1 + self._front
        if self._pieces is None or self._over or self._failure is not None or self._too_many():
            return None
        if others and self._destination.slots.wanted:
            return None
        spare = 0 if self._spread.settled else self._destination.slots.spare(self._files)
        taken = self._pieces.take(max(1, self._spread.connections, others + 1 + spare))
        if taken is None:
            return None
        piece, again = taken
        if again and not self._destination.budget.spend(self._service):
            self._pieces.give_back(piece)
            self._over = True
            return None
        return piece

    def brought(self, count: int) -> None:
        """Count bytes that a connection brought."""
        self.count += count
        self._moved.set()
        rate = self._measure(count)
        if rate is not None:
            self._judge(rate)

    def fail(self, error: Exception, *, brought: bool) -> None:
        """
        Note that a connection failed.

        Args:
            error: How.
            brought: Whether its last piece had begun to come.
        """
        if isinstance(error, StorageError):
            self._failure = self._failure or error
        # One that only broke is replaced; refusals, silence and answers that make no sense are a reason to take less.
        if not (brought and isinstance(error, TransportError)):
            # The last one was refused too: what is to be said about that, the next request of the front will hear.
            self._over = self._over or self._spread.connections == 1
            self._spread.lose()
        self._destination.note_failure(error)
        _log.debug("A piece of %s did not come: %s", self._file.key, type(error).__name__)

    def leave(self, lane: Lane, piece: Piece | None) -> None:
        """Take back the lane of a connection, and what is missing of its piece."""
        if piece is not None and self._pieces is not None:
            self._pieces.give_back(piece)
        self._destination.slots.give(self._files, lane)

    async def fetch(self, piece: Piece, connection: _Connection) -> None:
        """
        Fetch what is missing of a piece.

        Raises:
            IntegrityError: The answer is not that piece, or not all of it.
            ArenaAsyncError: It did not come.
        """
        held = Held(offset=piece.at, validator=self._validator, total=self._total)
        lane, at = connection.lane, piece.at
        async with await self._files.open(
            self._file, offset=piece.at, validator=self._validator, until=piece.until
        ) as opened:
            if not is_piece(opened.head, held, until=piece.until):
                if judge_head(opened.head, held, expected=self._total).ranges_ignored:
                    self._destination.unsplit.add(self._service)
                raise IntegrityError(f"{self._file.key}: the answer is not the piece that was asked for.")
            try:
                while at < piece.until:
                    most = piece.until - at if connection.begun else min(piece.until - at, _FIRST)
                    count = await opened.stream.readinto(lane.buffer()[:most])
                    if not count:
                        raise IntegrityError(f"{self._file.key}: the body of a piece ended early.")
                    await lane.put(partial(connection.write, piece), count)
                    at += count
                    connection.begun = True
                    self.brought(count)
                    await self._destination.take_in(count)
            except ArenaAsyncError:
                await lane.settle()  # What was received is written first, and a disk that refused it is the worse news.
                raise
            await lane.settle()
            self._moved.set()
            # Reading on to the end lets the connection be used again.
            if await opened.stream.readinto(lane.buffer()[:1]):
                raise IntegrityError(f"{self._file.key}: more came than the piece that was asked for.")

    def branch(self) -> Ahead:
        """Open the partial file for a connection."""
        return self._staged.branch()


class _Connection:
    """One connection ahead of the front, with a lane of its own."""

    def __init__(self, owner: Segments, lane: Lane) -> None:
        self.lane = lane
        self.entered = False
        self.begun = False
        self._owner = owner
        self._ahead: Ahead | None = None

    async def run(self) -> None:
        """Fetch piece after piece."""
        self.entered = True
        piece: Piece | None = None
        begin = 0
        try:
            await self.lane.run(self._open)
            while (piece := self._owner.next_piece()) is not None:
                begin = piece.at
                await self._owner.fetch(piece, self)
        except Exception as error:  # noqa: BLE001 - whatever it is, the front goes on without this connection
            self._owner.fail(error, brought=piece is not None and piece.at > begin)
        finally:
            self.begun = True
            try:
                await self.lane.abandon()
            finally:
                try:
                    await self.lane.run(self._close)
                finally:
                    self._owner.leave(self.lane, piece)

    # On the thread of the lane, in order. A cancelled task does not get what its thread returns.

    def _open(self) -> None:
        self._ahead = self._owner.branch()

    def _close(self) -> None:
        if self._ahead is not None:
            self._ahead.close()

    def write(self, piece: Piece, data: memoryview) -> None:
        """Write what came, then say so."""
        if self._ahead is None:
            raise StorageError("A piece came before its file was opened.")
        self._ahead.write(data, piece.at)
        piece.at += len(data)
