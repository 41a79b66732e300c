"""Admission of requests: they are reserved before they are sent, and settled afterwards."""

from __future__ import annotations

import asyncio
import logging

from arena_async.errors import ApiError, ArenaAsyncError, ClosedError, QuotaExhaustedError, ThrottledError
from arena_async.http.connections import SentRequest
from arena_async.options import Clock, shield
from arena_async.protocol.adapter import Adapter
from arena_async.protocol.messages import Headers, Request
from arena_async.protocol.quota import ClockReading, Hold, Quota, RateLimiter, Reservation

__all__ = ["Admission"]

_LOG = logging.getLogger("arena_async")

#: Seconds of one sleep while the quota is used up, so that suspends and changes of the clock are noticed.
_MAX_NAP = 600.0


class Admission:
    """
    Admits requests as the quota allows.

    Args:
        limiter: The quota.
        adapter: Reads the quota of responses.
        clock: The time.
        max_wait: Seconds that the service may request to wait; longer waits are an error.
    """

    def __init__(self, limiter: RateLimiter, adapter: Adapter, clock: Clock, max_wait: float) -> None:
        self.limiter = limiter
        self._adapter = adapter
        self._clock = clock
        self._max_wait = max_wait
        self._waiting: list[asyncio.Future[None]] = []
        self._closed = False

    async def reserve(self, sent: SentRequest) -> None:
        """
        Reserve a request, after waiting for the quota if necessary.

        Raises:
            QuotaExhaustedError: The quota is used up.
            ThrottledError: The service requested too long a wait.
            ClosedError: The session was closed meanwhile.
        """
        began = self._clock.monotonic()
        while not self._closed:
            decision = self.limiter.reserve(self.timestamp())
            if isinstance(decision, Reservation):
                sent.held_back += self._clock.monotonic() - began
                sent.reservation = decision
                return
            await self._hold(decision, sent)
        self.check_open(sent.request)

    def settle(self, sent: SentRequest, headers: Headers | None = None) -> None:
        """
        Settle the reservation of a request if there is one.

        Args:
            sent: The request.
            headers: Those of its response, which may state the quota.
        """
        reservation, sent.reservation = sent.reservation, None
        if reservation is None:
            return
        quota = None if headers is None else self._adapter.read_quota(headers)
        self.limiter.settle(reservation, quota, self.timestamp())
        if self._waiting:
            self._wake()

    def close_after(self, error: ApiError) -> None:
        """Let all requests wait after an error response that concerns all of them."""
        if isinstance(error, QuotaExhaustedError):
            self.limiter.observe(Quota(remaining=0, resets_at=error.resets_at), self.timestamp())
            known = self.limiter.quota
            if error.resets_at is None and known is not None:
                error.resets_at = known.resets_at
        elif isinstance(error, ThrottledError) and error.retry_after:
            self.limiter.close_until(self._clock.monotonic() + error.retry_after)

    def waits_after(self, error: ArenaAsyncError, sent: SentRequest, *, before: bool) -> bool:
        """
        Return whether a request that failed because of the quota waits for the reset and is sent again.

        It goes back to :meth:`reserve`, which lets it wait. If it is rejected again without a wait in between, it is
        not sent again: the service contradicts itself, and further requests would be wasted.

        Args:
            error: The error of the request.
            sent: The request.
            before: Whether it failed in this way before.
        """
        if not (isinstance(error, QuotaExhaustedError) and self.limiter.waits and sent.metered and sent.sent):
            return False
        return not before or sent.waiting

    def timestamp(self) -> ClockReading:
        """Return the current time of our own clock."""
        return ClockReading(self._clock.monotonic(), self._clock.now())

    def check_open(self, request: Request) -> None:
        """
        Raise if the session was closed.

        Raises:
            ClosedError: The session was closed.
        """
        if self._closed:
            raise ClosedError(f"{request.line}: the client is closed; make a new one.")

    def close(self) -> None:
        """Admit no further request, and end all waits."""
        self._closed = True
        self._wake()

    async def _hold(self, hold: Hold, sent: SentRequest) -> None:
        if hold.seconds is None:
            change = asyncio.get_running_loop().create_future()
            self._waiting.append(change)
            await change
            return
        if hold.waiting:
            if not sent.waiting:
                _LOG.warning(
                    "%s: no request is left; it waits %.0f s for the quota to reset.", sent.request.line, hold.seconds
                )
            sent.waiting = True
            await self._nap(min(hold.seconds, _MAX_NAP))
            return
        if hold.by_service and hold.seconds > self._max_wait:
            raise ThrottledError(
                f"{sent.request.line}: the service requests to wait another {hold.seconds:.0f} s, which is longer than"
                f" {self._max_wait:g} s. Nothing was sent; try again later.",
                request=sent.request.line,
                retry_after=hold.seconds,
            )
        await self._clock.sleep(hold.seconds)

    async def _nap(self, seconds: float) -> None:
        """Sleep until the time has passed, the quota has changed, or the session is closed."""
        change = asyncio.get_running_loop().create_future()
        self._waiting.append(change)
        sleeping = asyncio.ensure_future(self._clock.sleep(seconds))
        try:
            await asyncio.wait([sleeping, change], return_when=asyncio.FIRST_COMPLETED)
        finally:
            change.cancel()
            if sleeping.done():
                sleeping.result()
            else:
                sleeping.cancel()
                with shield():
                    await asyncio.wait([sleeping])

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for change in waiting:
            if not change.done():
                change.set_result(None)
