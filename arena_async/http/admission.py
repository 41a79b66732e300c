"""
Admission of requests: they are reserved before they are sent, and settled afterwards.

The quota concerns the metered requests of the session, a breaker all requests to one host.
"""

from __future__ import annotations

import asyncio
import logging

from arena_async.errors import (
    ApiError,
    ArenaAsyncError,
    ClosedError,
    DeadlineError,
    HostPausedError,
    QuotaExhaustedError,
    TransportError,
)
from arena_async.http.connections import SentRequest
from arena_async.options import Clock, RetryPolicy, shield
from arena_async.protocol.adapter import Adapter
from arena_async.protocol.breaker import Breaker, HostPause
from arena_async.protocol.messages import Headers, Request
from arena_async.protocol.quota import ClockReading, Hold, Quota, RateLimiter, Reservation
from arena_async.protocol.retry import read_retry_after

__all__ = ["Admission"]

_LOG = logging.getLogger("arena_async")

#: Seconds of one sleep while the quota is used up, so that suspends and changes of the clock are noticed.
_MAX_NAP = 600.0
#: Seconds after which a request comes back that found another one trying the host.
_TRYING = 1.0
#: Statuses that, with a ``Retry-After``, are about the host and not about the request, besides 429 and those from 500.
_BUSY = frozenset({408, 425})


class Admission:
    """
    Admits requests as the quota and the state of their host allow.

    Args:
        limiter: The quota.
        adapter: Reads the quota of responses.
        clock: The time.
        retry: The pauses of a host in trouble, and how long an outage is waited for.

    Attributes:
        limiter: The quota.
        troubled: The breakers of hosts that have failed, by origin; a healthy host has none.
    """

    def __init__(self, limiter: RateLimiter, adapter: Adapter, clock: Clock, retry: RetryPolicy) -> None:
        self.limiter = limiter
        self.troubled: dict[str, Breaker] = {}
        self._adapter = adapter
        self._clock = clock
        self._retry = retry
        self._waiting: list[asyncio.Future[None]] = []
        self._closed = False

    async def reserve(self, sent: SentRequest) -> None:
        """
        Reserve a request, after waiting for the quota if necessary.

        Raises:
            QuotaExhaustedError: The quota is used up.
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
        quota = None if headers is None else self._adapter.read_quota(headers) or Quota()
        self.limiter.settle(reservation, quota, self.timestamp())
        if self._waiting:
            self._wake()

    def close_after(self, error: ApiError) -> None:
        """Note the end of the quota after an error response that states it."""
        if isinstance(error, QuotaExhaustedError):
            self.limiter.observe(Quota(remaining=0, resets_at=error.resets_at), self.timestamp())
            known = self.limiter.quota
            if error.resets_at is None and known is not None:
                error.resets_at = known.resets_at

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

    # -- hosts in trouble

    def enter(self, sent: SentRequest) -> HostPause | None:
        """Return None if a request may be sent to its host now."""
        breaker = self.troubled.get(sent.origin)
        if breaker is None:
            return None
        refusal = breaker.enter(self._clock.monotonic())
        sent.placed = refusal is None and breaker.limited
        return refusal

    async def sit_out(self, refusal: HostPause, sent: SentRequest) -> None:
        """
        Wait until the host of a request may be tried again, and subtract the time from what it may wait.

        Raises:
            HostPausedError: That takes longer than the request can wait.
            ClosedError: The session was closed meanwhile.
        """
        seconds = refusal.seconds
        if refusal.lasting or sent.host_wait <= (seconds or 0.0):
            raise _paused_error(refusal, sent)
        began = self._clock.monotonic()
        if seconds is None:
            change = asyncio.get_running_loop().create_future()
            self._waiting.append(change)
            await change
        else:
            await self._clock.sleep(seconds)
        sent.host_wait -= max(self._clock.monotonic() - began, seconds or 0.0)
        self.check_open(sent.request)

    def note_broken(self, sent: SentRequest, error: BaseException) -> None:
        """Note that there was no response: because of the host, unless an idle connection was closed."""
        broken = isinstance(error, TransportError) and not error.unanswered_reuse
        if broken or (isinstance(error, DeadlineError) and (sent.sent or not sent.expired)):
            self.note_failure(sent, "no response")
        else:
            self.leave(sent)

    def note_answer(self, sent: SentRequest, status: int, headers: Headers) -> None:
        """Note a response: what its status says about the host. A 429 is judged with its body."""
        wait = read_retry_after(headers.get_all("Retry-After"), self._clock.now())
        if status >= 500 or (status in _BUSY and wait is not None):
            self.note_failure(sent, f"status {status}", wait=wait)
        elif status != 429 and (breaker := self.troubled.get(sent.origin)) is not None:
            placed, sent.placed = sent.placed, False
            breaker.succeed(self._clock.monotonic(), placed=placed)
            self._tidy(sent.origin, breaker)

    def note_failure(self, sent: SentRequest, why: str, *, wait: float | None = None, at_once: bool = False) -> None:
        """Note that a request failed because of its host."""
        breaker = self.troubled.get(sent.origin) or self._new_breaker(sent.origin)
        placed, sent.placed = sent.placed, False
        breaker.fail(self._clock.monotonic(), why, placed=placed, wait=wait, at_once=at_once)
        self._tidy(sent.origin, breaker)

    def judge(self, origin: str, content: bool) -> None:  # noqa: FBT001  # As OpenedFile.judge takes it.
        """Note whether a body was what was requested, or a page in the place of content."""
        breaker = self.troubled.get(origin)
        if breaker is None and not content:
            breaker = self._new_breaker(origin)
        if breaker is not None:
            breaker.judge(self._clock.monotonic(), content=content)
            self._tidy(origin, breaker)

    def leave(self, sent: SentRequest) -> None:
        """Return the place of a request that says nothing about its host."""
        if sent.placed and (breaker := self.troubled.get(sent.origin)) is not None:
            sent.placed = False
            breaker.leave()
            self._wake()

    def _new_breaker(self, origin: str) -> Breaker:
        breaker = self.troubled[origin] = Breaker(self._retry, self._clock.random)
        return breaker

    def _tidy(self, origin: str, breaker: Breaker) -> None:
        """Forget a host that is healthy again, and let those that wait look anew."""
        if breaker.healthy:
            del self.troubled[origin]
        self._wake()

    # -- the session

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


def _paused_error(refusal: HostPause, sent: SentRequest) -> HostPausedError:
    """Return the error of a request that must not be sent now."""
    seconds = _TRYING if refusal.seconds is None else refusal.seconds
    then = "Run again later." if refusal.lasting else f"It is tried again in {seconds:.0f} s."
    return HostPausedError(
        f"{sent.request.line}: nothing was sent, since its host is in trouble (last: {refusal.why}) and is left alone"
        f" for a while. {then}",
        request=sent.request.line,
        transient=True,
        retry_after=seconds,
        lasting=refusal.lasting,
    )
