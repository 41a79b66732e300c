"""An event loop whose clock leaps on order, so that limits of seconds run out at once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Leaps"]


class Leaps:
    """
    The clock of the running loop from here on, for asyncio's own loops.

    ``seconds`` is how far it is ahead by now. It is not set back: timers that are set already would never come.
    """

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.seconds = 0.0
        self._time = loop.time
        loop.time = self._now  # type: ignore[method-assign]

    def _now(self) -> float:
        return self._time() + self.seconds

    def leap(self, seconds: float) -> None:
        """Let so much time pass at once."""
        self.seconds += seconds

    @contextmanager
    def each(self, timestamp: float, seconds: float) -> Iterator[None]:
        """Leap by ``seconds`` after each real ``timestamp``, until the end of the block."""
        loop = asyncio.get_running_loop()

        def go_on() -> None:
            nonlocal timer
            self.leap(seconds)
            timer = loop.call_later(timestamp, go_on)

        timer = loop.call_later(timestamp, go_on)
        try:
            yield
        finally:
            timer.cancel()
