"""A clock that only sleeping moves, for waits of hours."""

from __future__ import annotations

from datetime import UTC, datetime

import attrs

from arena_async.options import Clock

__all__ = ["FakeTime"]

#: 2026-03-02 12:00 UTC.
_NOON = 1_772_452_800.0


@attrs.define
class FakeTime:
    """
    The time of a test.

    Args:
        at: Seconds since 1970.
    """

    at: float = _NOON
    naps: list[float] = attrs.field(factory=list)

    def __call__(self) -> float:
        """Return the seconds since 1970, for a simulator."""
        return self.at

    async def sleep(self, seconds: float) -> None:
        """Let that much time pass at once."""
        self.naps.append(seconds)
        self.at += seconds

    def now(self) -> datetime:
        """Return the date and time."""
        return datetime.fromtimestamp(self.at, UTC)

    @property
    def timing(self) -> Clock:
        """Return it as the clock of what is tested."""
        return Clock(monotonic=self, sleep=self.sleep, random=lambda: 0.0, now=self.now)
