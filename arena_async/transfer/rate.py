"""
How fast and over how many connections files are downloaded, decided over plain values. Pure.

::

    RateLimit      the bytes a second that the caller allows to all files together
    Width          how many bodies are open at a time, by the rate that more of them gain
    Splitting      from which size on, and into what parts, one file is split
    FileParts          which connection downloads which part of a file
    Spread         how many connections one file is worth
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import attrs

from arena_async.options import KIB, MIB

__all__ = [
    "INTERVAL",
    "FileParts",
    "Interval",
    "Part",
    "RateLimit",
    "Span",
    "Splitting",
    "Spread",
    "Width",
    "joined",
    "length_of",
]

#: Seconds of one :class:`Interval` at least.
INTERVAL = 0.5

#: Seconds for which what is left of the rate may be made up for later.
_CREDIT = 1.0
#: Seconds worth of the rate that all bodies together take at a time.
_BREATH = 0.1
#: Bytes that a body takes at a time, at the least.
_MIN_PIECE = 4 * KIB

#: The gain in rate that more open bodies must reach, as a fraction of a gain proportional to their number.
MIN_GAIN = 0.3
#: How many times as many connections of one file are tried next.
STRIDE = 8
#: Intervals without growth after more bodies gained nothing, or were rejected; doubled each time.
_REST, _MAX_REST = 10, 1200
#: Seconds; in an interval that is longer, nothing was downloaded for a while, and its rate means nothing.
_MAX_INTERVAL = 5.0


class RateLimit:
    """
    A bucket of bytes that all bodies take from.

    Over any ``t`` seconds no more comes than ``rate * (t + 1)`` and one piece of each body. It only says how long to
    wait: who reads a body waits after each piece, with no call to the body under way, so that no wait of ours counts as
    the silence or the slowness of a server.

    Args:
        rate: Bytes a second.
        readers: Bodies that are read at a time, at the most.
    """

    def __init__(self, rate: float, *, readers: int) -> None:
        #: Bytes that a body should take at a time, so that a low rate comes evenly and no connection idles for long.
        self.piece = max(_MIN_PIECE, int(rate * _BREATH / readers))
        self._rate = rate
        self._paid_until: float | None = None

    def wait_after(self, count: int, *, now: float) -> float:
        """
        Count bytes that came and give the seconds to wait before more are read.

        Args:
            count: Bytes received since the last call.
            now: Seconds that only ever grow.
        """
        begin = now if self._paid_until is None else max(self._paid_until, now - _CREDIT)
        self._paid_until = begin + count / self._rate
        return max(0.0, self._paid_until - now)


@attrs.frozen(kw_only=True)
class Interval:
    """
    What was seen since the last judgement.

    Args:
        seconds: How long that was.
        count: Bytes of content that came.
        refusals: Answers that said "too much" (429, 503) and bodies that stalled.
        wanted: Whether more bodies would have been opened if they might.
    """

    seconds: float
    count: int
    refusals: int = 0
    wanted: bool = True

    @property
    def rate(self) -> float:
        """Bytes a second."""
        return self.count / self.seconds if self.seconds > 0 else 0.0


class Width:
    """
    Decides how many bodies are open at a time.

    It doubles them as long as that raises the rate, goes back when it does not, and tries again a little
    wider after ever longer rests. Refusals and stalls make it a quarter narrower at once, down to one.

    Args:
        start: Bodies at the start.
        maximum: Bodies that are never exceeded.
    """

    def __init__(self, *, start: int, maximum: int) -> None:
        self.slots = start
        self._maximum = maximum
        self._before: tuple[int, float] | None = None
        self._settling = True
        self._careful = False
        self._rest = 0
        self._next_rest = _REST

    def judge(self, seen: Interval) -> int:
        """Return how many bodies may be open from now on."""
        if seen.refusals:
            self._change(max(1, self.slots * 3 // 4), wasted=True)
        elif self._settling:
            # What was opened or ended in this interval was not there for the whole of it.
            self._settling = False
        elif not seen.wanted or seen.seconds > _MAX_INTERVAL:
            self._before = None
        elif self._before is not None and self._was_wasted(*self._before, seen.rate):
            self._change(self._before[0], wasted=True)
        else:
            self._go_on(seen.rate)
        return self.slots

    def _was_wasted(self, slots: int, before: float, rate: float) -> bool:
        """Return whether growing from so many bodies gained too little."""
        return rate < before * (1 + MIN_GAIN * (self.slots / slots - 1))

    def _go_on(self, rate: float) -> None:
        """Grow, unless it rests or may not."""
        self._before = None
        if self._rest > 0:
            self._rest -= 1
        elif self.slots < self._maximum:
            step = max(1, self.slots // 4) if self._careful else self.slots
            before = (self.slots, rate)
            self._change(min(self._maximum, self.slots + step), wasted=False)
            self._before = before

    def _change(self, slots: int, *, wasted: bool) -> None:
        """Take another number, and rest behind one that was too large."""
        self.slots, self._before, self._settling = slots, None, True
        if wasted:
            self._careful = True
            self._rest, self._next_rest = self._next_rest, min(2 * self._next_rest, _MAX_REST)


@attrs.frozen(kw_only=True)
class Splitting:
    """
    When and how one file is fetched over several connections.

    Args:
        min_size: Bytes that have to be missing of it.
        min_piece: Bytes of a piece, at the least.
        max_piece: Bytes of a piece, at the most.
        interval: Seconds over which connections are measured.
        head_start: Seconds of its own rate the primary connection goes on for while the first parts are requested.
        fast: Bytes a second; a connection with this rate is not the bottleneck of a file.
    """

    min_size: int = 64 * MIB
    min_piece: int = 2 * MIB
    max_piece: int = 64 * MIB
    interval: float = 0.1
    head_start: float = 0.4
    fast: float = 50.0 * MIB


#: A part of a file: its first byte, and the byte behind its last one.
Span = tuple[int, int]

#: Measurements without an attempt after more connections gained nothing; doubled each time.
_SPREAD_REST = 4


def joined(spans: Iterable[Span], *, begin: int) -> tuple[Span, ...]:
    """Return the ranges behind ``begin``, in order and merged, none of them empty."""
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
class Part:
    """
    A part of a file that one connection downloads.

    Args:
        start: Its first byte.
        until: The byte behind its last one.
        at: The byte behind the last one that was written.
    """

    start: int
    until: int
    at: int


class FileParts:
    """
    Which connection downloads which part of a file.

    Pieces are taken in order and become smaller towards the end, so that all connections have work until then.

    Args:
        begin: The first byte that the front leaves to others.
        total: Bytes of the whole file.
        min_size: Bytes of a piece, at the min_size, but for the last one.
        max_size: Bytes of a piece, at the most.
        done: FileParts that are written already, in order, none before ``begin``.
    """

    def __init__(self, *, begin: int, total: int, min_size: int, max_size: int, done: Sequence[Span] = ()) -> None:
        self._min_size, self._max_size = min_size, max_size
        self._done = tuple(done)
        self._to_pass = list(reversed(self._done))
        self.begin = begin
        self.total = total
        self._next = begin
        self._all: list[Part] = []
        self._first_open = 0
        self._again: list[Part] = []
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
        """Return the ranges of which every byte is written, in no order. Safe on any thread."""
        return [*self._done, *((piece.start, piece.at) for piece in self._all[self._first_open :])]

    def take(self, connections: int) -> tuple[Part, bool] | None:
        """
        Return the first part that is not in progress, and whether it was requested before; None when there is none.

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
        size = min(gap, self._max_size, max(self._min_size, rest * 3 // (4 * connections)))
        piece = Part(self._next, self._next + size, self._next)
        self._all.append(piece)
        self._next += size
        self._pass_done()
        return piece, False

    def _pass_done(self) -> None:
        """Leave out what is written already."""
        while self._to_pass and self._to_pass[-1][0] == self._next:
            start, until = self._to_pass.pop()
            self._all.append(Part(start, until, until))
            self._next = until

    def return_part(self, piece: Part) -> None:
        """Leave what is missing of a part to others; its connection does not write to it any more."""
        if piece.at < piece.until:
            self._again.append(piece)

    def reach(self, end: int) -> int:
        """Return up to where all bytes are written, if all before ``end`` are."""
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
    Decides how many connections one file is worth.

    One is measured first; then eight times as many are tried as long as that is clearly faster. When it is not, it
    goes back to what was enough, and tries again after ever longer rests.

    Args:
        fast: Bytes a second; a connection with this rate is not the bottleneck of a file.
    """

    def __init__(self, *, fast: float) -> None:
        self._fast = fast
        self.connections = 1
        self.settled = False
        self._rest = 0
        self._next_rest = _SPREAD_REST
        self._before: tuple[int, float] | None = None

    def judge(self, rate: float, *, maximum: int) -> int:
        """
        Return how many connections there should be.

        Args:
            rate: Bytes a second of all of them together.
            maximum: Connections that there may be.
        """
        if self.settled:
            return self.connections
        if self._before is not None:
            connections, before = self._before
            if rate < before * (1 + MIN_GAIN * (self.connections / connections - 1)):
                self.connections, self._before = connections, None
                self._rest, self._next_rest = self._next_rest, 2 * self._next_rest
                return self.connections
        self._before = None
        if self._rest > 0:
            self._rest -= 1
            return self.connections
        self.settled = rate >= self._fast * self.connections
        if self.settled or maximum <= self.connections:
            return self.connections
        self._before = (self.connections, rate)
        self.connections = min(maximum, STRIDE * self.connections)
        return self.connections

    def lose(self) -> None:
        """Note that one of the connections failed: it is not replaced, and no more are tried."""
        self.connections = max(1, self.connections - 1)
        self.settled = True
