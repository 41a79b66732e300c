"""
The arithmetic of allowances: what may leave now, what has to wait, and what must not leave at all.

A :class:`RateLimiter` books a request before it is sent::

    reserve ──▶ Ticket ──▶ sent (the head was written: it counts) ──▶ settle (an answer came, or never will)
       │           └─────▶ refund (nothing was written: it never happened)
       ├─────▶ Hold (come back after so many seconds, or when something changed)
       └─────▶ QuotaExhaustedError, or where that is wanted a Hold until the allowance starts anew

Nothing here waits or reads a clock: the time is handed in as a :class:`ClockReading`.
"""

from __future__ import annotations

from collections import deque
from datetime import datetime, timedelta
from typing import Literal, Protocol, get_args

import attrs

from arena_async.errors import ConfigurationError, QuotaExhaustedError

__all__ = ["ClockReading", "DailyQuota", "Hold", "OnExhausted", "Quota", "RateLimiter", "Reservation", "SlidingWindow"]

#: What becomes of a request that finds the allowance used up: it is refused, or it waits for the next allowance.
OnExhausted = Literal["stop", "wait"]


@attrs.frozen(kw_only=True)
class Quota:
    """
    What an answer said about the allowance.

    Args:
        remaining: Requests left, or None when the answer did not say.
        resets_at: When the allowance starts anew (aware, UTC), or None.
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
        monotonic: Seconds of a clock that never jumps; durations are measured on it.
        utc: The date and time (aware); only what the service gives as a date is compared with it.
    """

    monotonic: float
    utc: datetime


@attrs.frozen
class Hold:
    """
    Not now.

    Args:
        seconds: Ask again after so many seconds, or None: ask again when another request has been settled or refunded.
        by_service: Whether the service asked for this wait; otherwise it is our own pace.
        waiting: Whether the allowance is used up and the caller wants to wait for the next one, which may take hours.
    """

    seconds: float | None = None
    by_service: bool = attrs.field(default=False, kw_only=True)
    waiting: bool = attrs.field(default=False, kw_only=True)


@attrs.define(eq=False)
class Reservation:
    """
    A request that was booked. Its holder settles or refunds it exactly once.

    Args:
        booked_at: The ticks at which it counts.
        sent: Whether its head was written.
    """

    booked_at: float
    sent: bool = False


class RateLimiter(Protocol):
    """What stands before every request that counts. Pure: it decides, the session waits and sends."""

    @property
    def quota(self) -> Quota | None:
        """What is known about the allowance, or None."""
        ...

    @property
    def waits(self) -> bool:
        """Whether a request that finds the allowance used up waits for the next one, instead of being refused."""
        ...

    def reserve(self, now: ClockReading) -> Reservation | Hold:
        """
        Book one request, or say how long to hold it back.

        Raises:
            QuotaExhaustedError: It must not leave at all.
        """
        ...

    def sent(self, reservation: Reservation, now: ClockReading) -> None:
        """Note that the head of the request was written: from here on it counts."""
        ...

    def refund(self, reservation: Reservation) -> None:
        """Take a booking back of which nothing was ever written."""
        ...

    def settle(self, reservation: Reservation, quota: Quota | None, now: ClockReading) -> None:
        """Note that the request is over, and what its answer said, if there was one."""
        ...

    def observe(self, quota: Quota, now: ClockReading) -> None:
        """Note what an answer said that was not booked: a login, or a refusal that closes the allowance."""
        ...

    def close_until(self, monotonic: float) -> None:
        """Hold everything back until then; an earlier moment than the one known changes nothing."""
        ...


class DailyQuota:
    """
    The allowance of a day, shared with everybody else of the same company, counted by the service.

    While the remaining number is unknown, one request flies alone. After that, ``remaining - reserve - in flight``
    bounds what leaves. The service's number always wins downwards; within one window it never rises again, and a later
    reset instant opens a new window. Once the reset has passed the number is unknown again, so that one request goes
    first and the others follow when it has brought a number.

    Args:
        reserve: Requests to leave untouched for others.
        on_exhausted: ``"stop"``: what finds the allowance used up is refused. ``"wait"``: it is held back until the
            reset.

    Raises:
        ConfigurationError: ``reserve`` is not a whole number of at least 0, or ``on_exhausted`` is another word.
    """

    #: Reset instants that lie this close together belong to one window.
    SAME_WINDOW = timedelta(seconds=60)
    #: How long an allowance stays closed when nothing says when it opens again: the longest documented window.
    UNKNOWN_RESET = timedelta(hours=24)
    #: A reset further away than this is nonsense, and is not waited for in one go.
    MAX_RESET_DELAY = timedelta(hours=48)
    #: A reset that has just passed, by our clock, is still to come at a service whose clock is late: ask again soon.
    CLOCKS_DIFFER, SOON = timedelta(minutes=5), timedelta(seconds=60)

    def __init__(self, *, reserve: int = 0, on_exhausted: OnExhausted = "stop") -> None:
        if not _is_whole(reserve, minimum=0):
            raise ConfigurationError(f"quota_reserve is {reserve!r}; it takes a whole number of at least 0.")
        if on_exhausted not in get_args(OnExhausted):
            raise ConfigurationError(f"on_exhausted is {on_exhausted!r}; it takes 'stop' or 'wait'.")
        self._reserve = reserve
        self._waits = on_exhausted == "wait"
        self._remaining: int | None = None
        self._resets_at: datetime | None = None
        self._forget_at: datetime | None = None
        self._limit: int | None = None
        self._in_flight = 0
        self._closed_until: float | None = None

    @property
    def quota(self) -> Quota | None:
        """What the service last said, less what was spent since then; None before it said anything."""
        if self._remaining is None and self._limit is None and self._resets_at is None:
            return None
        return Quota(remaining=self._remaining, resets_at=self._resets_at, limit=self._limit)

    @property
    def waits(self) -> bool:
        """Whether a request that finds the allowance used up waits for the next one."""
        return self._waits

    def reserve(self, now: ClockReading) -> Reservation | Hold:
        """Book one request; see :meth:`RateLimiter.reserve`."""
        if self._forget_at is not None and now.utc >= self._forget_at:
            # Its window has ended: the next request is sent alone and brings a new number.
            self._remaining = self._forget_at = self._resets_at = None
        if self._closed_until is not None and now.monotonic < self._closed_until:
            return Hold(self._closed_until - now.monotonic, by_service=True)
        if self._remaining is None:
            if self._in_flight:
                return Hold()
        elif self._remaining - self._reserve <= 0:
            if self._waits and self._forget_at is not None:
                return Hold((self._forget_at - now.utc).total_seconds(), waiting=True)
            raise self._exhausted()
        elif self._remaining - self._reserve - self._in_flight <= 0:
            return Hold()
        self._in_flight += 1
        return Reservation(now.monotonic)

    def sent(self, reservation: Reservation, now: ClockReading) -> None:
        """Note that the request counts now."""
        reservation.sent, reservation.booked_at = True, now.monotonic

    def refund(self, reservation: Reservation) -> None:
        """Take the booking back."""
        if not reservation.sent:
            self._in_flight -= 1

    def settle(self, reservation: Reservation, quota: Quota | None, now: ClockReading) -> None:
        """Note the end of a request; without a number in its answer, one is taken off what was known."""
        self._in_flight -= 1
        has_count = quota is not None and quota.remaining is not None
        if not has_count and reservation.sent and self._remaining is not None:
            self._remaining = max(self._remaining - 1, 0)
        if quota is not None:
            self.observe(quota, now)

    def observe(self, quota: Quota, now: ClockReading) -> None:
        """Take over what the service said, downwards only within one window."""
        if quota.limit is not None:
            self._limit = quota.limit
        told_reset = quota.resets_at
        if told_reset is not None and self._resets_at is not None:
            later = told_reset - self._resets_at
            if later < -self.SAME_WINDOW and told_reset <= now.utc:
                # The response was overtaken by the end of its window.
                return
            if later > self.SAME_WINDOW:
                self._remaining = None
        if told_reset is not None and (self._resets_at is None or abs(told_reset - self._resets_at) > self.SAME_WINDOW):
            self._resets_at = told_reset
        if quota.remaining is None:
            return
        remaining = max(quota.remaining, 0)
        self._remaining = remaining if self._remaining is None else min(self._remaining, remaining)
        self._forget_at = self._next_reset(now)

    def close_until(self, monotonic: float) -> None:
        """Hold everything back until then."""
        self._closed_until = monotonic if self._closed_until is None else max(self._closed_until, monotonic)

    def _next_reset(self, now: ClockReading) -> datetime:
        """
        When the number stops being true.

        An instant that is already past (another clock, or nonsense) must not open the gate at once. One that has just
        passed is asked about again soon; otherwise the window is a day, so the same time of day comes next.
        """
        if self._resets_at is None:
            return now.utc + self.UNKNOWN_RESET
        late = now.utc - self._resets_at
        if late < timedelta(0):
            return min(self._resets_at, now.utc + self.MAX_RESET_DELAY)
        if late < self.CLOCKS_DIFFER:
            return now.utc + self.SOON
        return now.utc + self.UNKNOWN_RESET - late % self.UNKNOWN_RESET

    def _exhausted(self) -> QuotaExhaustedError:
        kept = f", {self._reserve} of them in reserve" if self._reserve else ""
        when = f"until {self._resets_at.isoformat()}" if self._resets_at else "for now; when it resets is not known"
        return QuotaExhaustedError(
            f"The daily allowance has {self._remaining} requests left{kept}. No further request leaves {when}. Go on"
            " after the reset, or ask for a larger allowance.",
            resets_at=self._resets_at,
            remaining=self._remaining,
            reserve=self._reserve,
        )


class SlidingWindow:
    """
    So many requests in any stretch of time, counted by us because the service gives no number.

    Args:
        limit: Requests in any window, at the most.
        seconds: Length of the window.

    Raises:
        ConfigurationError: ``limit`` is below 1, or ``seconds`` is not above 0.
    """

    def __init__(self, *, limit: int, seconds: float = 60.0) -> None:
        if not _is_whole(limit, minimum=1):
            raise ConfigurationError(f"rate_limit is {limit!r}; it takes a whole number of at least 1.")
        if not 0 < seconds < float("inf"):
            raise ConfigurationError(f"The window of the rate limit is {seconds!r}; it takes seconds above 0.")
        self._limit = limit
        self._seconds = seconds
        self._sent: deque[float] = deque()
        self._in_flight: set[Reservation] = set()
        self._closed_until: float | None = None

    @property
    def quota(self) -> Quota | None:
        """None: the service gives no number."""
        return None

    @property
    def waits(self) -> bool:
        """False: it is never used up, it only slows down."""
        return False

    def reserve(self, now: ClockReading) -> Reservation | Hold:
        """Book one request; see :meth:`RateLimiter.reserve`. It never raises."""
        if self._closed_until is not None and now.monotonic < self._closed_until:
            return Hold(self._closed_until - now.monotonic, by_service=True)
        # Written like the Hold below: whoever waits for just that long must find room then, however sums are rounded.
        while self._sent and self._sent[0] + self._seconds <= now.monotonic:
            self._sent.popleft()
        if len(self._sent) + len(self._in_flight) < self._limit:
            reservation = Reservation(now.monotonic)
            self._in_flight.add(reservation)
            return reservation
        if not self._sent:
            return Hold()
        return Hold(max(self._sent[0] + self._seconds - now.monotonic, 0.0))

    def sent(self, reservation: Reservation, now: ClockReading) -> None:
        """Count the request from the moment its head was written, which may be long after it was booked."""
        reservation.sent, reservation.booked_at = True, now.monotonic
        self._in_flight.discard(reservation)
        self._sent.append(now.monotonic)

    def refund(self, reservation: Reservation) -> None:
        """Take the booking back."""
        self._in_flight.discard(reservation)

    def settle(self, reservation: Reservation, quota: Quota | None, now: ClockReading) -> None:
        """Take the booking back unless it was sent; what was sent stays counted until its window is over."""
        self._in_flight.discard(reservation)
        if quota is not None:
            self.observe(quota, now)

    def observe(self, quota: Quota, now: ClockReading) -> None:
        """Nothing to do: no answer gives a number."""

    def close_until(self, monotonic: float) -> None:
        """Hold everything back until then."""
        self._closed_until = monotonic if self._closed_until is None else max(self._closed_until, monotonic)


def _is_whole(value: object, *, minimum: int) -> bool:
    """Whether a caller gave a whole number that is large enough, and not True or False."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= minimum
