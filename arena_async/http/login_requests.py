"""The requests that log in and out, sent on behalf of a shared login."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import attrs

from arena_async.errors import ApiError, ArenaAsyncError, DeadlineError, DecodeError, TransportError
from arena_async.http.connections import SentRequest
from arena_async.http.exchange import Exchange
from arena_async.http.retries import send_with_retries
from arena_async.options import RetryPolicy
from arena_async.protocol.adapter import Auth, Credential
from arena_async.protocol.messages import Response
from arena_async.protocol.quota import Hold, Quota, Reservation

if TYPE_CHECKING:
    from arena_async.http.login import CachedSession

__all__ = ["check_credential", "log_in", "log_out"]

_LOG = logging.getLogger("arena_async")

#: Bytes of one credential header. Servers reject longer ones, and no session id or token comes near it.
_MAX_VALUE = 8192
#: Logins for one credential, the repeated one after a broken connection included.
_LOGIN_ATTEMPTS = 2
#: Seconds that the service gets to answer a logout.
_LOGOUT_SECONDS = 5.0


def check_credential(credential: Credential, *, request: str) -> Credential:
    """
    Return the credential if its values can be sent as they are.

    Raises:
        DecodeError: A value is empty or too long, or has characters that do not survive being sent in a header, so
            that something else or nothing at all would arrive.
    """
    for name, secret in credential.headers:
        value = secret.reveal()
        if not value or not value.isascii() or not value.isprintable() or len(value) > _MAX_VALUE:
            raise DecodeError(
                f"{request}: the value for the header {name} in the answer is empty, too long, or has characters that"
                " cannot be sent. Nothing was sent with it.",
                problems=[f"{name}: not a header value"],
                request=request,
            )
    return credential


async def log_in(exchange: Exchange, auth: Auth, scope: str, retry: RetryPolicy) -> Credential:
    """Log in, once more after a broken connection, never again after an error response."""
    request = auth.login(scope)
    target = exchange.login_target(request)
    broken = 0

    async def once(sent: SentRequest, seconds: float) -> Credential:
        nonlocal broken
        try:
            response = await exchange.call(sent, target, seconds=seconds)
        except (TransportError, DeadlineError):
            # The service may have made a session that no client knows: once more is enough.
            broken += sent.sent
            sent.final = broken >= _LOGIN_ATTEMPTS
            raise
        if 300 <= response.status < 400:
            raise exchange.error_for(sent, response, exchange.adapter.read_error, None)
        return check_credential(_read_login(exchange, auth, response), request=request.line)

    return await send_with_retries(exchange, attrs.evolve(request, metered=False), once, retry, repeatable=True)


def _read_login(exchange: Exchange, auth: Auth, response: Response) -> Credential:
    try:
        credential = auth.read_login(response)
    except ApiError as error:
        exchange.note_retry_after(error, response)
        raise
    if credential.request_limit is not None:
        exchange.admission.limiter.observe(Quota(limit=credential.request_limit), exchange.admission.timestamp())
    return credential


async def log_out(exchange: Exchange, auth: Auth, held: CachedSession) -> None:
    """
    End a session of the service, once and whatever comes of it: the credential is thrown away in any case.

    Where it counts, it is not worth a request of the reserve, nor waiting for.
    """
    request = auth.logout(held.credential)
    if request is None:
        return
    sent = SentRequest(request, metered=request.metered, held=held, urgent=True)
    try:
        if request.metered:
            answer = exchange.admission.limiter.reserve(exchange.admission.timestamp())
            if isinstance(answer, Hold) and answer.waiting:
                return
            sent.reservation = answer if isinstance(answer, Reservation) else None
        await exchange.call(sent, exchange.target(request), seconds=_LOGOUT_SECONDS)
    except ArenaAsyncError as error:
        _LOG.info("%s The session ends by itself later.", error)
    finally:
        exchange.admission.settle(sent)
