"""
How fast files come, decided over plain values.

::

    RateLimit      the bytes a second that the caller allows to all files together
"""

from __future__ import annotations

from arena_async.options import KIB

__all__ = ["RateLimit"]

#: Seconds for which what is left of the rate may be made up for later.
_CREDIT = 1.0
#: Seconds worth of the rate that all bodies together take at a time.
_BREATH = 0.1
#: Bytes that a body takes at a time, at the least.
_LEAST_PIECE = 4 * KIB


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
