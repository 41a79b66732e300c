"""The retry loop for API requests. The one for bodies is in ``transfer``; neither runs inside the other."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from arena_async.errors import ArenaAsyncError, DeadlineError, TlsError, TransportError
from arena_async.http.connections import SentRequest
from arena_async.http.exchange import Exchange
from arena_async.options import RetryPolicy
from arena_async.protocol.messages import Request
from arena_async.protocol.retry import AgainAfter, Attempt, LogInAgain, judge

__all__ = ["send_with_retries"]

_LOG = logging.getLogger("arena_async")

#: Replays of one request with newer credentials, at most.
_MAX_REPLAYS = 3

T = TypeVar("T")


async def send_with_retries(
    exchange: Exchange,
    request: Request,
    once: Callable[[SentRequest, float], Awaitable[T]],
    policy: RetryPolicy,
    *,
    repeatable: bool,
) -> T:
    """
    Send a request until :func:`~arena_async.protocol.retry.judge` ends it. Time spent waiting for the quota is free.

    Args:
        exchange: Sends it.
        request: The request.
        once: Sends it once, and ends within so many seconds.
        policy: How often and how patiently.
        repeatable: Whether sending it twice does no more than sending it once.
    """
    clock = exchange.clock.local
    began, number, replays, held_back, refused = clock.monotonic(), 1, 0, 0.0, False
    while True:
        sent = SentRequest(request, metered=request.metered)
        try:
            return await once(sent, policy.timeout - (clock.monotonic() - began - held_back))
        except ArenaAsyncError as caught:
            error = caught
        held_back += sent.held_back
        if exchange.admission.waits_after(error, sent, before=refused):
            refused = True
            continue
        attempt = Attempt(
            number=number,
            elapsed=clock.monotonic() - began - held_back,
            repeatable=repeatable and not sent.final,
            sent=sent.sent or sent.final,
            may_log_in=sent.may_log_in and replays < _MAX_REPLAYS,
        )
        match judge(error, attempt, policy, random=clock.random):
            case AgainAfter(seconds):
                number += 1
                _LOG.info("%s Again in %.1f s, try %d of %d.", error, seconds, number, policy.attempts)
                await clock.sleep(seconds)
            case LogInAgain():
                replays += 1
            case _:
                if isinstance(error, TransportError | TlsError | DeadlineError):
                    error.attempts, error.sent = number, sent.sent
                # The frames in which it was raised hold whole URLs and credentials.
                raise error.with_traceback(None)
        exchange.admission.check_open(request)
