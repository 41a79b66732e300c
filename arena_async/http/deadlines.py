"""One timer for all requests and bodies that wait for the network."""

from __future__ import annotations

import asyncio
import math

__all__ = ["Deadlines", "Waiting"]

#: Seconds between two sweeps, at most.
_INTERVAL = 1.0


class Waiting:
    """
    Something that waits for the network.

    Attributes:
        deadline: When the wait ends, on the clock of the event loop; infinite while nothing is waited for.
    """

    deadline: float = math.inf

    def expire(self, now: float) -> None:
        """End the wait, or set a new ``deadline`` if there was progress."""
        raise NotImplementedError


class Deadlines:
    """
    Ends waits whose deadline has passed, with one timer for all of them.

    A deadline that moves while its owner is registered is noticed at the next sweep, at most a second later.
    """

    def __init__(self) -> None:
        #: What waits. The owner of an entry discards it.
        self.entries: set[Waiting] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._next = math.inf

    def add(self, entry: Waiting) -> None:
        """Watch an entry until it is discarded from :attr:`entries`."""
        self.entries.add(entry)
        if self._timer is None or entry.deadline < self._next:
            self._schedule(asyncio.get_running_loop())

    def close(self) -> None:
        """Stop the timer."""
        self.entries.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._next = min(loop.time() + _INTERVAL, *(entry.deadline for entry in self.entries))
        self._timer = loop.call_at(self._next, self._sweep, loop)

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        now = loop.time()
        for entry in list(self.entries):
            if entry.deadline <= now:
                entry.deadline = math.inf
                entry.expire(now)
        if self.entries:
            self._schedule(loop)
