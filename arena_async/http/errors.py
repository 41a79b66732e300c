"""Errors of aiohttp, the event loop and the system, translated into those of this library."""

from __future__ import annotations

import errno
import os
import ssl

import aiohttp

from arena_async.errors import ArenaAsyncError, ClosedError, DeadlineError, TlsError, TransportError
from arena_async.protocol.messages import printable

__all__ = ["WIRE_ERRORS", "WireFailureError", "explain"]

#: What aiohttp, the event loop and the operating system raise about one exchange.
WIRE_ERRORS = (aiohttp.ClientError, OSError, TimeoutError, RuntimeError, ValueError)


class WireFailureError(Exception):
    """
    Carries an error of the HTTP client past its own code, which would answer some of them by sending a second time.

    Args:
        failure: What the HTTP client raised.
    """

    def __init__(self, failure: BaseException) -> None:
        super().__init__(type(failure).__name__)
        self.failure = failure


def explain(
    failure: BaseException, *, request: str, reused: bool = False, limit: float | None = None, body: bool = False
) -> ArenaAsyncError:
    """
    Return the error for a failed exchange. It has neither cause nor context: those would show whole URLs.

    Args:
        failure: What the HTTP client, the event loop or the system raised.
        request: The line of the request, without its query.
        reused: Whether the connection had been used before, and no byte of a response was received.
        limit: Seconds of the limit that ran out, if one did.
        body: Whether the response headers had been received.
    """
    if isinstance(failure, WireFailureError):
        failure = failure.failure
    if isinstance(failure, ArenaAsyncError):
        return failure
    if (refused := _tls_problem(failure)) is not None:
        return TlsError(
            f"{request}: the certificate or the TLS handshake was refused ({refused}). Nothing was sent. Check the host"
            " name, or hand in an SSL context that trusts the right authority.",
            request=request,
        )
    if isinstance(failure, TimeoutError):
        what = "no connection in time" if limit is None else f"no answer within {limit:g} s"
        return DeadlineError(f"{request}: {what}. Try again later, or allow more time.", request=request)
    if isinstance(failure, RuntimeError | aiohttp.ClientConnectionError) and "is closed" in str(failure):
        return ClosedError(f"{request}: the connections were closed; make a new client.")
    if isinstance(failure, aiohttp.ClientProxyConnectionError | aiohttp.ClientHttpProxyError):
        what = "the proxy refused"
    elif isinstance(failure, aiohttp.ClientConnectorDNSError):
        what = f"the name of the host {printable(failure.host)} was not found"
    elif isinstance(failure, aiohttp.ClientConnectorError):
        what = f"no connection to {printable(failure.host)}, port {failure.port} ({_reason(failure.os_error)})"
    elif isinstance(failure, aiohttp.ClientPayloadError) or body:
        what = "the connection broke in the middle of the body"
    elif isinstance(failure, aiohttp.ClientResponseError):
        what = "what came is not HTTP"
    elif reused:
        what = "a connection that had been idle was closed before any answer came"
    else:
        what = f"the connection broke before an answer came ({_reason(failure)})"
    broke = isinstance(failure, aiohttp.ServerDisconnectedError | OSError)
    unanswered = reused and broke and not body and not isinstance(failure, aiohttp.ClientConnectorError)
    return TransportError(f"{request}: {what}. It can be tried again.", request=request, unanswered_reuse=unanswered)


def _tls_problem(failure: BaseException) -> str | None:
    """Return why TLS was rejected, or None where it was not: a handshake that is merely cut off is a network error."""
    inner: object = failure
    if isinstance(failure, aiohttp.ClientConnectorCertificateError):
        inner = failure.certificate_error
    elif isinstance(failure, aiohttp.ClientConnectorError):
        inner = failure.os_error
    if not isinstance(inner, ssl.SSLError | ssl.CertificateError):
        return None
    if isinstance(inner, ssl.SSLEOFError | ssl.SSLZeroReturnError | ssl.SSLSyscallError):
        return None
    return str(getattr(inner, "verify_message", "") or getattr(inner, "reason", "") or type(inner).__name__)


def _reason(failure: BaseException) -> str:
    """Return the system's text for an error number, or the name of the class; asyncio's own texts hold addresses."""
    number = getattr(failure, "errno", None)
    if isinstance(number, int) and number in errno.errorcode:
        return os.strerror(number)
    return type(failure).__name__
