"""Errors of aiohttp, the event loop and the system, translated into those of this library."""

from __future__ import annotations

import errno
import os
import ssl

import aiohttp

from arena_async.errors import ArenaAsyncError, ClosedError, DeadlineError, TlsError, TransportError
from arena_async.protocol.messages import printable

__all__ = ["WIRE_ERRORS", "WireFailureError", "explain"]

#: The errors of aiohttp, the event loop and the operating system about one exchange.
WIRE_ERRORS = (aiohttp.ClientError, OSError, TimeoutError, RuntimeError, ValueError)


class WireFailureError(Exception):
    """
    Wraps an error of the HTTP client, which would send the request a second time after some of them.

    Args:
        failure: The error of the HTTP client.
    """

    def __init__(self, failure: BaseException) -> None:
        super().__init__(type(failure).__name__)
        self.failure = failure


def explain(
    failure: BaseException, *, request: str, reused: bool = False, limit: float | None = None, body: bool = False
) -> ArenaAsyncError:
    """
    Return the error for a failed exchange, without cause and context: those would show complete URLs.

    Args:
        failure: The error of the HTTP client, the event loop or the system.
        request: The line of the request, without its query.
        reused: Whether the connection was used before, and no byte of a response was received.
        limit: Seconds of the timeout, if there was one.
        body: Whether the response headers had been received.
    """
    if isinstance(failure, WireFailureError):
        failure = failure.failure
    if isinstance(failure, ArenaAsyncError):
        return failure
    if (rejected := _tls_problem(failure)) is not None:
        return TlsError(
            f"{request}: the certificate or the TLS handshake failed ({rejected}). Nothing was sent. Check the host"
            " name, or pass an SSL context that trusts the right authority.",
            request=request,
        )
    if isinstance(failure, TimeoutError):
        response = "complete response" if body else "response"
        what = "no connection in time" if limit is None else f"no {response} within {limit:g} s"
        return DeadlineError(f"{request}: {what}. Try again later, or allow more time.", request=request)
    if isinstance(failure, RuntimeError | aiohttp.ClientConnectionError) and "is closed" in str(failure):
        return ClosedError(f"{request}: the connections were closed; make a new client.")
    if isinstance(failure, aiohttp.ClientProxyConnectionError | aiohttp.ClientHttpProxyError):
        what = "the proxy rejected the connection"
    elif isinstance(failure, aiohttp.ClientConnectorDNSError):
        what = f"the name of the host {printable(failure.host)} was not found"
    elif isinstance(failure, aiohttp.ClientConnectorError):
        what = f"no connection to {printable(failure.host)}, port {failure.port} ({_reason(failure.os_error)})"
    elif isinstance(failure, aiohttp.ClientPayloadError) or body:
        what = "the connection broke in the middle of the body"
    elif isinstance(failure, aiohttp.ClientResponseError):
        what = "the response is not HTTP"
    elif reused:
        what = "an idle connection was closed before a response was received"
    else:
        what = f"the connection broke before a response was received ({_reason(failure)})"
    broke = isinstance(failure, aiohttp.ServerDisconnectedError | OSError)
    unanswered = reused and broke and not body and not isinstance(failure, aiohttp.ClientConnectorError)
    return TransportError(f"{request}: {what}. It can be tried again.", request=request, unanswered_reuse=unanswered)


def _tls_problem(failure: BaseException) -> str | None:
    """Return why TLS failed, or None if it did not: an interrupted handshake is a network error."""
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
    """Return the system's text for an error number, or the name of the class; asyncio's texts contain addresses."""
    number = getattr(failure, "errno", None)
    if isinstance(number, int) and number in errno.errorcode:
        return os.strerror(number)
    return type(failure).__name__
