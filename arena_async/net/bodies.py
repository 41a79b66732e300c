"""Bodies, read into memory that the caller owns or sent from it; and what the wire did, said in our own words."""

from __future__ import annotations

import asyncio
import errno
import os
import ssl
import time
from collections.abc import AsyncGenerator, Callable
from typing import NoReturn

import aiohttp
from aiohttp.abc import AbstractStreamWriter

from arena_async.errors import (
    ArenaAsyncError,
    ClosedError,
    ConfigurationError,
    DeadlineError,
    StalledError,
    TlsError,
    TransportError,
)
from arena_async.options import Timeouts
from arena_async.wire.contracts import ByteStream
from arena_async.wire.messages import Upload, UploadedFile, printable

__all__ = ["WIRE_ERRORS", "Form", "WireFailureError", "explain", "open_body"]

#: Seconds after which a call hands out what it has, full or not, so that progress is seen and a cut costs little.
_FILL_SECONDS = 1.0

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


def open_body(
    response: aiohttp.ClientResponse,
    *,
    request: str,
    timeouts: Timeouts,
    clock: Callable[[], float] = time.monotonic,
) -> ByteStream:
    """
    Give the body of an answer by the fastest road that is open for it.

    Args:
        response: The answer, of which only the head has been read.
        request: The line of the request, for error messages.
        timeouts: How long the body may keep us waiting.
        clock: Seconds that never jump, for the slowest rate.
    """
    return _ReaderBody(response, request=request, timeouts=timeouts, clock=clock)


class _ReaderBody:
    """A body that comes through the HTTP client's own reader: open to every kind of answer, at the cost of a copy."""

    def __init__(
        self, response: aiohttp.ClientResponse, *, request: str, timeouts: Timeouts, clock: Callable[[], float]
    ) -> None:
        self._response = response
        self._content = response.content
        self._announced = response.content_length
        self._line = request
        self._timeouts = timeouts
        self._clock = clock
        self._rest = memoryview(b"")
        self._received = 0
        self._error: ArenaAsyncError | None = None
        self._ended = False
        self._closed = False
        self._silent = 0.0
        self._waited = 0.0
        self._got_while_waiting = 0

    def __repr__(self) -> str:
        return f"<body of {self._line}, {self._received} bytes received>"

    async def readinto(self, buffer: memoryview) -> int:
        """Fill ``buffer``; see :meth:`~arena_async.wire.contracts.ByteStream.readinto`."""
        if self._closed:
            raise ClosedError(f"{self._line}: the body was closed before it was read; open it again.")
        if not len(buffer):
            raise ValueError("readinto needs a buffer with room for at least one byte.")
        began = asyncio.get_running_loop().time()
        filled = self._pour(buffer)
        try:
            while filled < len(buffer) and not self._ended and self._error is None:
                left = _FILL_SECONDS - (asyncio.get_running_loop().time() - began) if filled else None
                if left is not None and left <= 0:
                    break
                await self._receive(left)
                filled += self._pour(buffer[filled:])
        except asyncio.CancelledError:
            # What arrives from here on could never be told apart from what the caller already has.
            self._end()
            raise
        if not filled and self._error is not None:
            raise self._error
        return filled

    async def aclose(self) -> None:
        """Give the connection back if the body was read to its end, else end it."""
        if not self._closed:
            self._end()

    def _end(self) -> None:
        self._closed = True
        self._rest = memoryview(b"")
        if self._ended and self._error is None:
            self._response.release()
        else:
            self._response.close()

    def _pour(self, buffer: memoryview) -> int:
        """Move what was received already into ``buffer``."""
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    async def _receive(self, left: float | None) -> None:
        """Wait for the next piece: until the body is called stalled, or ``left`` seconds where bytes are in hand."""
        # Silence is counted from the last byte on, across the calls that it takes.
        patience_left = self._timeouts.read - self._silent
        limit = patience_left if left is None else min(left, patience_left)
        loop = asyncio.get_running_loop()
        began, began_waiting = self._clock(), loop.time()
        failure: Exception | None = None
        piece = b""
        late = False
        try:
            piece = self._content.read_nowait()
            if not piece:
                async with asyncio.timeout(limit) as patience:
                    piece = await self._content.readany()
                self._ended = not piece
        except TimeoutError as error:
            late = patience.expired()
            failure = None if late else error
        except WIRE_ERRORS as error:
            failure = error
        if failure is not None:
            piece = self._salvage()
        self._take(piece)
        self._silent = 0.0 if piece else self._silent + loop.time() - began_waiting
        self._measure(self._clock() - began, len(piece))
        if failure is not None:
            self._error = explain(failure, request=self._line, body=True)
        elif late and limit == patience_left:
            self._stall(f"nothing came for {self._timeouts.read:g} s")
        elif self._ended and self._announced is not None and self._received != self._announced:
            self._error = self._cut_off()

    def _take(self, piece: bytes) -> None:
        self._rest = memoryview(piece)
        self._received += len(piece)

    def _salvage(self) -> bytes:
        """Get out what arrived before the error: the reader refuses its own buffer for as long as it has one."""
        pieces = []
        for _ in range(2):
            # Reading may feed the parser once more, and that may set the error again.
            self._content.set_exception(None)  # type: ignore[arg-type]  # The only public way to take the error back.
            try:
                pieces.append(self._content.read_nowait())
            except WIRE_ERRORS:
                break
        return b"".join(pieces)

    def _measure(self, waited: float, count: int) -> None:
        """Hold the body to its slowest rate, over time in which it kept us waiting and not the other way round."""
        self._waited += waited
        self._got_while_waiting += count
        if self._waited < self._timeouts.slowest_over:
            return
        rate = self._got_while_waiting / self._waited
        self._waited, self._got_while_waiting = 0.0, 0
        if rate < self._timeouts.slowest_rate and not self._ended and self._error is None:
            self._stall(f"{rate:.0f} bytes a second came over {self._timeouts.slowest_over:g} s")

    def _stall(self, what: str) -> None:
        self._error = StalledError(
            f"{self._line}: {what} after {self._received} bytes of the body. The connection was ended; try again, or"
            " allow a slower body."
        )

    def _cut_off(self) -> TransportError:
        return TransportError(
            f"{self._line}: the body ended after {self._received} of {self._announced} bytes. What came can be"
            " continued or fetched again.",
            request=self._line,
        )


class Form(aiohttp.MultipartWriter):
    """
    A multipart body on its way out. Its length is announced; its files are read while they are sent.

    Args:
        upload: What is sent.
    """

    def __init__(self, upload: Upload) -> None:
        super().__init__("form-data")
        #: Why a file could not be read, or None. The HTTP client only says that the connection broke then.
        self.failure: Exception | None = None
        #: Called whenever another piece has gone out.
        self.moved: Callable[[], object] = lambda: None
        for name, value in upload.fields:
            part = aiohttp.StringPayload(value)
            part.set_content_disposition("form-data", name=name)
            self.append_payload(part)
        for file in upload.files:
            content = _FilePart(file, self)
            content.set_content_disposition("form-data", quote_fields=False, name=file.part, filename=file.name)
            self.append_payload(content)


class _FilePart(aiohttp.Payload):
    """One file of a form."""

    def __init__(self, file: UploadedFile, form: Form) -> None:
        super().__init__(None, content_type=file.content_type)
        self._file = file
        self._form = form
        self._size = file.size

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> NoReturn:  # noqa: ARG002 - as in the base
        """Refuse: nobody wants a whole file in memory."""
        raise TypeError("The content of a file is sent piece by piece and never held as a whole.")

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Send the pieces, as many bytes as were announced and not one more."""
        pieces = self._file.read()
        sent = 0
        try:
            async for piece in pieces:
                sent += len(piece)
                if sent > self._file.size:
                    break
                await writer.write(piece)
                self._form.moved()
            if sent != self._file.size:
                raise ConfigurationError(
                    f"{self._file.name}: {self._file.size} bytes were announced, and its reader gave"
                    f" {'more' if sent > self._file.size else sent}. The upload was broken off."
                )
        except Exception as error:
            self._form.failure = error if isinstance(error, ArenaAsyncError) else None
            raise
        finally:
            if isinstance(pieces, AsyncGenerator):
                await pieces.aclose()


def explain(
    failure: BaseException, *, request: str, reused: bool = False, limit: float | None = None, body: bool = False
) -> ArenaAsyncError:
    """
    Say what the wire did. The result has neither cause nor context: those would show whole URLs.

    Args:
        failure: What the HTTP client, the event loop or the system raised.
        request: The line of the request, without its query.
        reused: Whether the connection had been used before, and no byte of an answer came.
        limit: Seconds of the limit that ran out, if one did.
        body: Whether the head of the answer had come.
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
    """Say why TLS was refused, or None where it was not: a handshake that is merely cut off is the network's doing."""
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
    """Give the system's own words for an error number, or the name of the class; asyncio puts addresses among them."""
    number = getattr(failure, "errno", None)
    if isinstance(number, int) and number in errno.errorcode:
        return os.strerror(number)
    return type(failure).__name__
