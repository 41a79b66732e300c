"""The date and time by the clock of the service."""

from __future__ import annotations

from datetime import datetime, timedelta

import attrs

from arena_async.options import Clock
from arena_async.protocol.retry import read_http_date

__all__ = ["ServerClock"]


@attrs.define(eq=False)
class ServerClock:
    """
    A clock that is set by the ``Date`` of responses: what the service says about times is meant by its own.

    Args:
        local: Our own clock.
        skew: By how much the clock of the service is ahead.
    """

    local: Clock
    skew: timedelta = timedelta()

    def now(self) -> datetime:
        """Return the date and time (aware)."""
        return self.local.now() + self.skew

    def note(self, date: str | None) -> None:
        """Set the clock by the ``Date`` of a response; nonsense changes nothing."""
        theirs = read_http_date(date)
        if theirs is not None:
            self.skew = theirs - self.local.now()
