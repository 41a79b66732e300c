"""
Bodies on their way in: what is promised to whoever reads one, by whichever road its bytes come.

::

    IncomingBody        fills the caller's memory; patience, progress, cut-offs, the end
      ├── ReaderBody        bodies: out of the HTTP client's own reader, for every kind of answer
      └── HandedOverBody    handover: the connection writes into the caller's memory itself
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable

from arena_async.errors import ArenaAsyncError, ClosedError, StalledError, TransportError
from arena_async.options import Timeouts

__all__ = ["IncomingBody"]

#: Seconds after which a call hands out what it has, full or not, so that progress is seen and a cut costs little.
_FILL_SECONDS = 1.0


class IncomingBody(ABC):
    """
    A body that is read into the caller's memory.

    Args:
        announced: The bytes that the head announces, or None.
        request: The line of the request, for error messages.
        timeouts: How long the body may keep us waiting.
        clock: Seconds that never jump, for the slowest rate.
    """

    def __init__(self, *, announced: int | None, request: str, timeouts: Timeouts, clock: Callable[[], float]) -> None:
        self._announced = announced
        self._line = request
        self._timeouts = timeouts
        self._clock = clock
        self._rest = memoryview(b"")
        self._received = 0
        self._came_at = 0.0
        self._error: ArenaAsyncError | None = None
        self._ended = False
        self._closed = False
        self._silent = 0.0
        self._waited = 0.0
        self._got_while_waiting = 0

    def __repr__(self) -> str:
        return f"<body of {self._line}, {self._received} bytes received>"

    async def readinto(self, buffer: memoryview) -> int:
        """Fill ``buffer``; see :meth:`~arena_async.wire.contracts.ByteStream.readinto`."""
        if self._closed:
            raise ClosedError(f"{self._line}: the body was closed before it was read; open it again.")
        if not len(buffer):
            raise ValueError("readinto needs a buffer with room for at least one byte.")
        loop = asyncio.get_running_loop()
        hand_out_at = loop.time() + _FILL_SECONDS
        filled = self._pour(buffer)
        try:
            while filled < len(buffer) and not self._ended and self._error is None:
                left = hand_out_at - loop.time()
                if filled and left <= 0:
                    break
                filled += await self._receive(buffer[filled:], left if left > 0 else None)
        except asyncio.CancelledError:
            # What arrives from here on could never be told apart from what the caller already has.
            self._end()
            raise
        if not filled and self._error is not None:
            raise self._error
        return filled

    async def aclose(self) -> None:
        """Give the connection back if the body was read to its end, else end it."""
        if not self._closed:
            self._end()

    @abstractmethod
    async def _wait(self, buffer: memoryview, limit: float, *, eager: bool) -> tuple[int, bool]:
        """
        Wait for bytes, note what came in ``_received`` and ``_came_at``, and what happened in ``_ended`` or ``_error``.

        Args:
            buffer: Where they go; what has no room there is kept in ``_rest``.
            limit: Seconds to wait, at the most.
            eager: Whether to be content with the first bytes that come.

        Returns:
            How many bytes ``buffer`` holds now, and whether the time ran out.
        """

    @abstractmethod
    def _give_back(self) -> None:
        """Give the connection back: everything was received."""

    @abstractmethod
    def _break_off(self) -> None:
        """End the connection: something was not received, or nobody wants it."""

    def _end(self) -> None:
        self._closed = True
        self._rest = memoryview(b"")
        if self._ended and self._error is None:
            self._give_back()
        else:
            self._break_off()

    def _pour(self, buffer: memoryview) -> int:
        """Move what was received already into ``buffer``."""
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        # An empty view would hold all of the memory that it is a view of.
        self._rest = self._rest[count:] if count < len(self._rest) else memoryview(b"")
        return count

    async def _receive(self, buffer: memoryview, left: float | None) -> int:
        """Wait for ``left`` seconds, or with None for the first bytes, but no longer than until the body is stalled."""
        # Silence is counted from the last byte on, across the calls that it takes.
        patience_left = self._timeouts.read - self._silent
        limit = patience_left if left is None else min(left, patience_left)
        loop = asyncio.get_running_loop()
        began, began_waiting, before = self._clock(), loop.time(), self._received
        filled, late = await self._wait(buffer, limit, eager=left is None)
        came = self._received - before
        self._silent = loop.time() - self._came_at if came else self._silent + loop.time() - began_waiting
        self._measure(self._clock() - began, came)
        if self._error is not None:
            return filled
        if late and not came and limit == patience_left:
            self._stall(f"nothing came for {self._timeouts.read:g} s")
        elif self._ended and self._announced is not None and self._received != self._announced:
            self._error = self._cut_off()
        return filled

    def _measure(self, waited: float, count: int) -> None:
        """Hold the body to its slowest rate, over time in which it kept us waiting and not the other way round."""
        self._waited += waited
        self._got_while_waiting += count
        if self._waited < self._timeouts.slowest_over:
            return
        rate = self._got_while_waiting / self._waited
        self._waited, self._got_while_waiting = 0.0, 0
        if rate < self._timeouts.slowest_rate and not self._ended and self._error is None:
            self._stall(f"{rate:.0f} bytes a second came over {self._timeouts.slowest_over:g} s")

    def _stall(self, what: str) -> None:
        self._error = StalledError(
            f"{self._line}: {what} after {self._received} bytes of the body. The connection was ended; try again, or"
            " allow a slower body."
        )

    def _cut_off(self) -> TransportError:
        return TransportError(
            f"{self._line}: the body ended after {self._received} of {self._announced} bytes. What came can be"
            " continued or fetched again.",
            request=self._line,
        )
