"""
Request quotas: which requests may be sent now, which wait, and which are rejected.

A :class:`RateLimiter` reserves a request before it is sent::

    reserve ──▶ Reservation ──▶ sent (headers written: it counts) ──▶ settle (a response, or none any more)
       │             └────────▶ settle (nothing was written: it does not count)
       ├─────▶ Hold (try again after some seconds, or when another request has ended)
       └─────▶ QuotaExhaustedError, or on request a Hold until the quota resets

Nothing here waits or reads a clock: the time is passed in as a :class:`ClockReading`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import deque
from datetime import datetime, timedelta
from typing import Literal, get_args

import attrs

from arena_async.errors import ConfigurationError, QuotaExhaustedError

__all__ = ["ClockReading", "DailyQuota", "Hold", "OnExhausted", "Quota", "RateLimiter", "Reservation", "SlidingWindow"]

#: What happens to a request when the quota is used up: it is rejected, or it waits for the reset.
OnExhausted = Literal["stop", "wait"]


@attrs.frozen(kw_only=True)
class Quota:
    """
    What a response states about the quota.

    Args:
        remaining: Requests left, or None if not stated.
        resets_at: When the quota resets (aware, UTC), or None.
        limit: Requests per window, or None.
    """

    remaining: int | None = None
    resets_at: datetime | None = None
    limit: int | None = None


@attrs.frozen
class ClockReading:
    """
    One point in time, on both clocks.

    Args:
        monotonic: Seconds of a clock that never jumps; durations are measured with it.
        utc: The date and time (aware), compared only with dates from the service.
    """

    monotonic: float
    utc: datetime


@attrs.frozen
class Hold:
    """
    The request must wait.

    Args:
        seconds: Try again after so many seconds, or None: after another request was settled.
        waiting: Whether the quota is used up and the caller chose to wait for the reset, which may take hours.
    """

    seconds: float | None = None
    waiting: bool = attrs.field(default=False, kw_only=True)


@attrs.define(eq=False)
class Reservation:
    """
    A reserved request. It is settled exactly once.

    Args:
        sent: Whether its headers were written.
        sent_at: When, in monotonic seconds.
    """

    sent: bool = False
    sent_at: float = math.inf


class RateLimiter(ABC):
    """
    Decides when a metered request may be sent. Pure: the session waits and sends.

    Attributes:
        waits: Whether a request waits for the reset when the quota is used up, instead of being rejected.
    """

    waits = False

    @property
    def quota(self) -> Quota | None:
        """What is known about the quota, or None."""
        return None

    @abstractmethod
    def reserve(self, now: ClockReading) -> Reservation | Hold:
        """
        Reserve one request, or return how long it has to wait.

        Raises:
            QuotaExhaustedError: It must not be sent at all.
        """

    def sent(self, reservation: Reservation, now: ClockReading) -> None:
        """Note that the headers of the request were written: from here on it counts."""
        reservation.sent, reservation.sent_at = True, now.monotonic

    @abstractmethod
    def settle(self, reservation: Reservation, quota: Quota | None, now: ClockReading) -> None:
        """Note that the request ended, and what its response states, None if there was none; it counts only if sent."""

    def observe(self, quota: Quota, now: ClockReading) -> None:  # noqa: B027  # There may be nothing to note.
        """Note what a response without a reservation states: a login, or an error that concerns all requests."""


class DailyQuota(RateLimiter):
    """
    A daily quota that is counted by the service and shared by all clients of one company.

    Until the quota is known, only one request is sent at a time. After that, ``remaining - reserve - in flight``
    requests may be sent. Within one window the number from the service can only lower ours, unless its request was the
    only one in flight; a later reset time opens a new window. After the reset the number is unknown again.

    A request that was sent and not answered may be counted by the service at any time. It stays subtracted until the
    response to one that was sent a minute later: the number in that has it.

    Args:
        reserve: Requests to leave for other clients.
        on_exhausted: ``"stop"``: requests are rejected when the quota is used up. ``"wait"``: they wait for the reset.

    Raises:
        ConfigurationError: ``reserve`` is not an integer of at least 0, or ``on_exhausted`` is another word.
    """

    #: Reset times that differ by less belong to one window.
    SAME_WINDOW = timedelta(seconds=60)
    #: How long a used-up quota is closed if no reset is known: the longest documented window.
    UNKNOWN_RESET = timedelta(hours=24)
    #: Later resets are not believed.
    MAX_RESET_DELAY = timedelta(hours=48)
    #: A reset that has just passed may still lie ahead if the clock of the service is late: try again soon.
    CLOCKS_DIFFER, SOON = timedelta(minutes=5), timedelta(seconds=60)
    #: Seconds after which the service has counted a request, answered or not.
    COUNTED_AFTER = 60.0

    def __init__(self, *, reserve: int = 0, on_exhausted: OnExhausted = "stop") -> None:
        _check_integer("quota_reserve", reserve, minimum=0)
        if on_exhausted not in get_args(OnExhausted):
            raise ConfigurationError(f"on_exhausted is {on_exhausted!r}; it takes 'stop' or 'wait'.")
        self.waits = on_exhausted == "wait"
        self._reserve = reserve
        self._remaining: int | None = None
        self._resets_at: datetime | None = None
        self._forget_at: datetime | None = None
        self._limit: int | None = None
        self._in_flight = 0
        #: The request that has been the only one in flight so far.
        self._alone: Reservation | None = None
        self._may_rise = False
        #: For each request that no number is known to have: when one has to be sent so that its number has it.
        self._uncounted: list[float] = []

    @property
    def quota(self) -> Quota | None:
        """What the service stated last, less the requests since then; None before the first response."""
        if self._remaining is None and self._limit is None and self._resets_at is None:
            return None
        return Quota(remaining=self._left, resets_at=self._resets_at, limit=self._limit)

    @property
    def _left(self) -> int | None:
        """What is left if the service has counted everything that was sent, but for what is in flight."""
        return None if self._remaining is None else max(self._remaining - len(self._uncounted), 0)

    def reserve(self, now: ClockReading) -> Reservation | Hold:
        """Reserve one request; see :meth:`RateLimiter.reserve`."""
        if self._forget_at is not None and now.utc >= self._forget_at:
            self._remaining = self._forget_at = self._resets_at = None
        left = self._left
        if left is None:
            if self._in_flight:
                return Hold()
            # The next number has these.
            self._uncounted = [time for time in self._uncounted if time > now.monotonic]
        elif left - self._reserve - self._in_flight <= 0:
            if self._in_flight and (self._remaining or 0) > self._reserve:
                return Hold()
            if self.waits and self._forget_at is not None:
                return Hold((self._forget_at - now.utc).total_seconds(), waiting=True)
            raise self._exhausted()
        self._in_flight += 1
        reservation = Reservation()
        self._alone = reservation if self._in_flight == 1 else None
        return reservation

    def settle(self, reservation: Reservation, quota: Quota | None, now: ClockReading) -> None:
        """Note the end of a request; if there is no number for it, it stays subtracted until a later one has it."""
        self._in_flight -= 1
        if quota is not None and quota.remaining is not None:
            if self._uncounted:
                self._uncounted = [time for time in self._uncounted if time > reservation.sent_at]
            self._may_rise = self._alone is reservation and not self._uncounted
        elif reservation.sent:
            self._uncounted.append(reservation.sent_at + self.COUNTED_AFTER if quota is None else now.monotonic)
        if quota is not None:
            self.observe(quota, now)
        self._may_rise = False

    def observe(self, quota: Quota, now: ClockReading) -> None:
        """Take over what the service states; within one window the number only falls while others are in flight."""
        if quota.limit is not None:
            self._limit = quota.limit
        stated, before = quota.resets_at, self._resets_at
        if stated is not None:
            later = None if before is None else stated - before
            if later is not None and later < -self.SAME_WINDOW and stated <= now.utc:
                # The response was overtaken by the end of its window.
                return
            if later is not None and later > self.SAME_WINDOW:
                self._remaining = None
            if later is None or abs(later) > self.SAME_WINDOW:
                self._resets_at = stated
        if quota.remaining is None:
            return
        remaining = max(quota.remaining, 0)
        known = None if self._may_rise else self._remaining
        self._remaining = remaining if known is None else min(known, remaining)
        # A reset time in the past (another clock, or nonsense) must not open the quota at once. One that has just
        # passed is checked again soon; otherwise the same time of the next day is used.
        resets_at = self._resets_at
        if resets_at is None:
            self._forget_at = now.utc + self.UNKNOWN_RESET
        elif now.utc < resets_at:
            self._forget_at = min(resets_at, now.utc + self.MAX_RESET_DELAY)
        elif now.utc - resets_at < self.CLOCKS_DIFFER:
            self._forget_at = now.utc + self.SOON
        else:
            self._forget_at = now.utc + self.UNKNOWN_RESET - (now.utc - resets_at) % self.UNKNOWN_RESET

    def _exhausted(self) -> QuotaExhaustedError:
        kept = f", {self._reserve} of them in reserve" if self._reserve else ""
        when = f"until {self._resets_at.isoformat()}" if self._resets_at else "for now; when it resets is not known"
        return QuotaExhaustedError(
            f"The daily quota has {self._left} requests left{kept}. No further request is sent {when}. Continue"
            " after the reset, or request a larger quota.",
            resets_at=self._resets_at,
            remaining=self._left,
            reserve=self._reserve,
        )


class SlidingWindow(RateLimiter):
    """
    A maximum number of requests in any period of a fixed length, counted here because the service states no number.

    Args:
        limit: Requests in any window, at most.
        seconds: Length of the window.

    Raises:
        ConfigurationError: ``limit`` is below 1, or ``seconds`` is not above 0.
    """

    def __init__(self, *, limit: int, seconds: float = 60.0) -> None:
        _check_integer("rate_limit", limit, minimum=1)
        if not 0 < seconds < float("inf"):
            raise ConfigurationError(f"The window of the rate limit is {seconds!r}; it takes seconds above 0.")
        self._limit = limit
        self._seconds = seconds
        self._sent: deque[float] = deque()
        self._in_flight: set[Reservation] = set()

    def reserve(self, now: ClockReading) -> Reservation | Hold:
        """Reserve one request; see :meth:`RateLimiter.reserve`. It never raises."""
        # The same sum as in the Hold below: after a wait of just that long it must succeed, however sums are rounded.
        while self._sent and self._sent[0] + self._seconds <= now.monotonic:
            self._sent.popleft()
        if len(self._sent) + len(self._in_flight) < self._limit:
            reservation = Reservation()
            self._in_flight.add(reservation)
            return reservation
        return Hold(max(self._sent[0] + self._seconds - now.monotonic, 0.0)) if self._sent else Hold()

    def sent(self, reservation: Reservation, now: ClockReading) -> None:
        """Count the request from the time its headers were written, which may be long after the reservation."""
        super().sent(reservation, now)
        self._in_flight.discard(reservation)
        self._sent.append(now.monotonic)

    def settle(self, reservation: Reservation, quota: Quota | None, now: ClockReading) -> None:  # noqa: ARG002
        """Release the reservation unless it was sent; a sent request counts until its window ends."""
        self._in_flight.discard(reservation)


def _check_integer(name: str, value: object, *, minimum: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
        raise ConfigurationError(f"{name} is {value!r}; it takes a whole number of at least {minimum}.")
