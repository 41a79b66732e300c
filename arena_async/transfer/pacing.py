"""
How fast files come, decided over plain values.

::

    RateLimit      the bytes a second that the caller allows to all files together
    Width          how many bodies are open at a time, by what more of them bring
    Splitting      from when on, and into what, one file is split
"""

from __future__ import annotations

import attrs

from arena_async.options import KIB, MIB

__all__ = ["INTERVAL", "STRIDE", "WORTH", "Interval", "RateLimit", "Splitting", "Width"]

#: Seconds of which one :class:`Interval` tells, at the least.
INTERVAL = 0.5

#: Seconds for which what is left of the rate may be made up for later.
_CREDIT = 1.0
#: Seconds worth of the rate that all bodies together take at a time.
_BREATH = 0.1
#: Bytes that a body takes at a time, at the least.
_LEAST_PIECE = 4 * KIB

#: What more open bodies must bring, as a part of what they would bring if nothing but their number held them up.
WORTH = 0.3
#: How many times as many connections of one file are tried next.
STRIDE = 8
#: Intervals without growth after more bodies were tried in vain, or refused; each time in vain it is twice as long.
_REST, _LONGEST_REST = 10, 1200
#: Seconds; in an interval that is longer, nothing was fetched for a while, and its rate tells nothing.
_LONGEST_INTERVAL = 5.0


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
        self.piece = max(_LEAST_PIECE, int(rate * _BREATH / readers))
        self._rate = rate
        self._paid_until: float | None = None

    def wait_after(self, count: int, *, now: float) -> float:
        """
        Count bytes that came and give the seconds to wait before more are read.

        Args:
            count: Bytes that came since the last call of anybody.
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
    Says how many bodies are open at a time.

    It doubles them as long as that brings more, goes back to what was enough when it does not, and tries again a little
    wider after ever longer rests. Refusals and stalls make it a quarter narrower at once, down to one.

    Args:
        start: Bodies at the start.
        most: Bodies that are never exceeded.
    """

    def __init__(self, *, start: int, most: int) -> None:
        self.slots = start
        self._most = most
        self._before: tuple[int, float] | None = None
        self._settling = True
        self._careful = False
        self._rest = 0
        self._next_rest = _REST

    def judge(self, seen: Interval) -> int:
        """Say how many bodies may be open from now on."""
        if seen.refusals:
            self._change(max(1, self.slots * 3 // 4), in_vain=True)
        elif self._settling:
            # What was opened or ended in this interval was not there for the whole of it.
            self._settling = False
        elif not seen.wanted or seen.seconds > _LONGEST_INTERVAL:
            self._before = None
        elif self._before is not None and self._was_in_vain(*self._before, seen.rate):
            self._change(self._before[0], in_vain=True)
        else:
            self._go_on(seen.rate)
        return self.slots

    def _was_in_vain(self, slots: int, before: float, rate: float) -> bool:
        """Whether growing from so many slots brought too little."""
        return rate < before * (1 + WORTH * (self.slots / slots - 1))

    def _go_on(self, rate: float) -> None:
        """Grow, unless it rests or may not."""
        self._before = None
        if self._rest > 0:
            self._rest -= 1
        elif self.slots < self._most:
            step = max(1, self.slots // 4) if self._careful else self.slots
            before = (self.slots, rate)
            self._change(min(self._most, self.slots + step), in_vain=False)
            self._before = before

    def _change(self, slots: int, *, in_vain: bool) -> None:
        """Take another number, and rest behind one that was too large."""
        self.slots, self._before, self._settling = slots, None, True
        if in_vain:
            self._careful = True
            self._rest, self._next_rest = self._next_rest, min(2 * self._next_rest, _LONGEST_REST)


@attrs.frozen(kw_only=True)
class Splitting:
    """
    When and how one file is fetched over several connections.

    Args:
        least_size: Bytes that have to be missing of it.
        least_piece: Bytes of a piece, at the least.
        largest_piece: Bytes of a piece, at the most.
        interval: Seconds over which connections are measured.
        head_start: Seconds of its own rate for which the front goes on while the first pieces are asked for.
        fast: Bytes a second; a connection that brings as much is not what holds a file up.
    """

    least_size: int = 64 * MIB
    least_piece: int = 2 * MIB
    largest_piece: int = 64 * MIB
    interval: float = 0.1
    head_start: float = 0.4
    fast: float = 50.0 * MIB
