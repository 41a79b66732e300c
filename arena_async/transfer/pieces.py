"""
The parts of one large file that several connections fetch, decided over plain values.

::

    Pieces     who fetches what
    Spread     how many connections it is worth
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import attrs

from arena_async.transfer.pacing import STRIDE, WORTH

__all__ = ["Piece", "Pieces", "Span", "Spread", "joined", "length_of"]

#: A part of a file: its first byte, and the byte behind its last one.
Span = tuple[int, int]

#: Measurements without a try after more connections were tried in vain; each time in vain it is twice as long.
_REST = 4


def joined(spans: Iterable[Span], *, begin: int) -> tuple[Span, ...]:
    """Give what of some parts lies behind ``begin``, in order, as few parts as possible, none of them empty."""
    found: list[Span] = []
    for start, until in sorted(spans):
        clipped = max(start, begin)
        if until <= clipped:
            continue
        if found and clipped <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], until))
        else:
            found.append((clipped, until))
    return tuple(found)


def length_of(spans: Iterable[Span]) -> int:
    """Count the bytes of parts that do not overlap."""
    return sum(until - start for start, until in spans)


@attrs.define
class Piece:
    """
    A part of a file that one connection fetches.

    Args:
        start: Its first byte.
        until: The byte behind its last one.
        at: The byte behind the last one that was written.
    """

    start: int
    until: int
    at: int


class Pieces:
    """
    Who fetches what of a file.

    Pieces are taken in order and become smaller towards the end, so that all connections have work until then.

    Args:
        begin: The first byte that the front leaves to others.
        total: Bytes of the whole file.
        least: Bytes of a piece, at the least, but for the last one.
        largest: Bytes of a piece, at the most.
        done: Parts that are written already, in order, none before ``begin``.
    """

    def __init__(self, *, begin: int, total: int, least: int, largest: int, done: Sequence[Span] = ()) -> None:
        self._least, self._largest = least, largest
        self._done = tuple(done)
        self._to_pass = list(reversed(self._done))
        self.begin = begin
        self.total = total
        self._next = begin
        self._all: list[Piece] = []
        self._first_open = 0
        self._again: list[Piece] = []
        self._pass_done()

    @property
    def left(self) -> bool:
        """Whether there is a piece to take."""
        return bool(self._again) or self._next < self.total

    @property
    def started(self) -> bool:
        """Whether anything was written that the front need not fetch."""
        return bool(self._done) or any(piece.at > piece.start for piece in self._all)

    def spans(self) -> list[Span]:
        """Give the parts of which every byte is written, in no order. Safe on any thread."""
        return [*self._done, *((piece.start, piece.at) for piece in self._all[self._first_open :])]

    def take(self, connections: int) -> tuple[Piece, bool] | None:
        """
        Give the first piece that nobody fetches, and whether somebody was asked for it before; None when there is none.

        Args:
            connections: How many share the rest.
        """
        if self._again:
            piece = min(self._again, key=lambda piece: piece.start)
            self._again.remove(piece)
            return piece, True
        rest = self.total - self._next
        if rest <= 0:
            return None
        gap = (self._to_pass[-1][0] if self._to_pass else self.total) - self._next
        size = min(gap, self._largest, max(self._least, rest * 3 // (4 * connections)))
        piece = Piece(self._next, self._next + size, self._next)
        self._all.append(piece)
        self._next += size
        self._pass_done()
        return piece, False

    def _pass_done(self) -> None:
        """Leave out what is written already."""
        while self._to_pass and self._to_pass[-1][0] == self._next:
            start, until = self._to_pass.pop()
            self._all.append(Piece(start, until, until))
            self._next = until

    def give_back(self, piece: Piece) -> None:
        """Leave what is missing of a piece to others; nobody writes to it any more."""
        if piece.at < piece.until:
            self._again.append(piece)

    def reach(self, end: int) -> int:
        """Say up to where all bytes are written, if all before ``end`` are."""
        if end < self.begin:
            return end
        while self._first_open < len(self._all) and self._all[self._first_open].until <= end:
            self._first_open += 1
        reached = end
        for piece in self._all[self._first_open :]:
            reached = max(reached, piece.at)
            if piece.at < piece.until:
                break
        return reached


class Spread:
    """
    Says how many connections one file is worth.

    One is measured first; then eight times as many are tried as long as that brings clearly more. When it does not, it
    goes back to what was enough, and tries again after ever longer rests.

    Args:
        fast: Bytes a second; a connection that brings as much is not what holds a file up.
    """

    def __init__(self, *, fast: float) -> None:
        self._fast = fast
        self.connections = 1
        self.settled = False
        self._rest = 0
        self._next_rest = _REST
        self._before: tuple[int, float] | None = None

    def judge(self, rate: float, *, most: int) -> int:
        """
        Say how many connections there should be.

        Args:
            rate: Bytes a second that those there are bring together.
            most: Connections that there may be.
        """
        if self.settled:
            return self.connections
        if self._before is not None:
            connections, before = self._before
            if rate < before * (1 + WORTH * (self.connections / connections - 1)):
                self.connections, self._before = connections, None
                self._rest, self._next_rest = self._next_rest, 2 * self._next_rest
                return self.connections
        self._before = None
        if self._rest > 0:
            self._rest -= 1
            return self.connections
        self.settled = rate >= self._fast * self.connections
        if self.settled or most <= self.connections:
            return self.connections
        self._before = (self.connections, rate)
        self.connections = min(most, STRIDE * self.connections)
        return self.connections

    def lose(self) -> None:
        """Say that one of the connections failed: it is not replaced, and no more are tried."""
        self.connections = max(1, self.connections - 1)
        self.settled = True
