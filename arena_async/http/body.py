"""
Response bodies, read into a buffer of the caller or returned as bytes.

::

    Body             fills a buffer, returns small bodies; timeouts, slowest rate, premature ends
      ├── ReaderBody     reads from aiohttp's own StreamReader: every kind of response
      └── ZeroCopyBody   (zero_copy) large bodies of ordinary responses, received into the buffer of the caller
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import math
from abc import abstractmethod

import aiohttp

from arena_async.errors import ArenaAsyncError, ClosedError, StalledError, TransportError
from arena_async.http.connections import Connections, Waiting
from arena_async.http.errors import WIRE_ERRORS, explain
from arena_async.http.framing import ConnectionOrder
from arena_async.protocol.files import BodyHead
from arena_async.protocol.messages import Request
from arena_async.protocol.ranges import read_content_range

__all__ = ["Body", "ReaderBody", "read_head"]

#: Seconds after which ``readinto`` returns even if the buffer is not full, so that progress is visible.
_FILL_SECONDS = 1.0
_NOTHING = memoryview(b"")


class Body(Waiting):
    """
    The body of one response; see :class:`~arena_async.protocol.files.ByteStream`.

    Args:
        response: The response, of which only the headers have been read.
        request: The request, for error messages.
        connections: The connections of the session, with the settings for all of its bodies.
        order: The responses of the connection, or None.

    Attributes:
        at_end: Whether all of it was received.
    """

    def __init__(
        self,
        response: aiohttp.ClientResponse,
        request: Request,
        connections: Connections,
        order: ConnectionOrder | None = None,
    ) -> None:
        self.at_end = False
        self._order, self._number = order, order.requests if order is not None else 0
        self._response = response
        self._request = request
        self._connections = connections
        self._declared = response.content_length
        self._rest = _NOTHING
        self._kept: list[bytes] = []
        self._received = 0
        self._error: ArenaAsyncError | None = None
        self._closed = False
        # The time without data is counted from the last byte on, across calls, and only while we wait.
        self._silent = self._wait_began = self._clock_began = self._stall_at = 0.0
        self._waited, self._received_while_waiting = 0.0, 0

    def __repr__(self) -> str:
        return f"<body of {self._request.line}, {self._received} bytes received>"

    async def readinto(self, buffer: memoryview) -> int:
        """Fill ``buffer`` and return the number of bytes in it."""
        if self._closed:
            raise self._closed_error()
        if not len(buffer):
            raise ValueError("readinto needs a buffer with room for at least one byte.")
        loop = asyncio.get_running_loop()
        until = loop.time() + _FILL_SECONDS
        filled = self._pour(buffer)
        try:
            while filled < len(buffer) and not self.at_end and self._error is None:
                in_time = loop.time() < until
                if filled and not in_time:
                    break
                filled += await self._fill(buffer[filled:], until if in_time else None)
        except asyncio.CancelledError:
            # Bytes that arrive from here on could not be distinguished from those the caller already has.
            await self.aclose()
            raise
        if not filled and self._error is not None:
            raise self._error
        return filled

    async def read(self, limit: int) -> bytes:
        """
        Return all bytes up to the end of the body, or those received when they exceed ``limit``.

        Bytes received before an error are returned; the next call raises it. A cancelled call keeps what it received
        for :meth:`take` and ends the connection.
        """
        if self._closed:
            raise self._closed_error()
        kept, size = self._kept, 0
        try:
            while not self.at_end and self._error is None and size <= limit:
                chunk = await self._next_chunk()
                kept.append(chunk)
                size += len(chunk)
        except asyncio.CancelledError:
            await self.aclose()
            raise
        if not size and self._error is not None:
            raise self._error
        return self.take()

    def take(self) -> bytes:
        """Return and forget the bytes that a cancelled :meth:`read` has received."""
        kept, self._kept = self._kept, []
        return kept[0] if len(kept) == 1 else b"".join(kept)

    async def aclose(self) -> None:
        """Release the connection if the body was received to its end, else close it. Safe to call twice."""
        if self._closed:
            return
        self._closed = True
        self._rest = _NOTHING
        self._connections.deadlines.entries.discard(self)
        if self.at_end and self._order is not None and self._order.requests == self._number:
            self._order.idle_since = self._connections.clock.monotonic()
        if not self.at_end:
            self._abort()
        elif not self._response.closed:
            # A deadline removed the callback that would have released the connection at the end.
            self._response.release()

    @abstractmethod
    async def _next_chunk(self, until: float | None = None) -> bytes:
        """
        Return the next bytes, after waiting if there are none yet; none at the end of the body or after an error.

        Args:
            until: When to return in any case, on the clock of the event loop, or None.
        """

    async def _fill(self, buffer: memoryview, until: float | None) -> int:
        """
        Receive into ``buffer`` and return the number of bytes in it.

        Args:
            buffer: Where they are written; the rest is kept in ``_rest``.
            until: When to return, on the clock of the event loop; None for after the first bytes.
        """
        self._rest = memoryview(await self._next_chunk(until))
        return self._pour(buffer)

    @abstractmethod
    def _abort(self) -> None:
        """Close the connection: part of the body was not received, or is not needed."""

    def _pour(self, buffer: memoryview) -> int:
        """Move bytes received earlier into ``buffer``."""
        rest = self._rest
        count = min(len(buffer), len(rest))
        if count:
            buffer[:count] = rest[:count]
            # An empty view would keep all of the memory that it is a view of.
            self._rest = rest[count:] if count < len(rest) else _NOTHING
        return count

    def _note_end(self) -> None:
        """Note the end of the body."""
        if self._declared is None or self._received == self._declared:
            self.at_end = True
        else:
            self._error = TransportError(
                f"{self._request.line}: the body ended after {self._received} of {self._declared} bytes. The received"
                " bytes can be resumed or downloaded again.",
                request=self._request.line,
            )

    def _begin_wait(self, until: float | None) -> None:
        """Set the deadline of a wait."""
        now = self._wait_began = asyncio.get_running_loop().time()
        self._clock_began = self._connections.clock.monotonic()
        self._stall_at = now + self._connections.timeouts.read - self._silent
        self.deadline = self._stall_at if until is None else min(self._stall_at, until)
        self._connections.deadlines.add(self)

    def _end_wait(self, count: int, *, late: bool, silent: float = 0.0) -> None:
        """
        Account for a wait, and set the error if the body is too slow.

        Args:
            count: Bytes received during the wait.
            late: Whether the deadline ended the wait.
            silent: Seconds since the last of them.
        """
        self._connections.deadlines.entries.discard(self)
        self.deadline = math.inf
        now = asyncio.get_running_loop().time()
        self._silent = silent if count else self._silent + now - self._wait_began
        self._waited += self._connections.clock.monotonic() - self._clock_began
        if self.at_end or self._error is not None:
            return
        limits = self._connections.timeouts
        if late and not count and now >= self._stall_at:
            self._stall(f"nothing was received for {limits.read:g} s")
        elif self._waited >= limits.slowest_over:
            rate = self._received_while_waiting / self._waited
            self._waited, self._received_while_waiting = 0.0, 0
            if rate < limits.slowest_rate:
                self._stall(f"{rate:.0f} bytes a second were received over {limits.slowest_over:g} s")

    def _stall(self, what: str) -> None:
        self._error = StalledError(
            f"{self._request.line}: {what} after {self._received} bytes of the body. The connection was closed; try"
            " again, or allow a slower body."
        )

    def _closed_error(self) -> ClosedError:
        return ClosedError(f"{self._request.line}: the body was closed before it was read; open it again.")


class ReaderBody(Body):
    """A body that is read from aiohttp's own reader."""

    _expired: TimeoutError | None = None

    async def _next_chunk(self, until: float | None = None) -> bytes:
        content = self._response.content
        failure: Exception | None = None
        chunk, waited = b"", False
        try:
            chunk = content.read_nowait()
            if not chunk and not content.at_eof():
                self._begin_wait(until)
                waited = True
                chunk = await content.readany()
        except WIRE_ERRORS as error:
            failure = error
        expired, self._expired = self._expired, None
        if expired is not None and content.exception() is expired:
            content.set_exception(None)  # type: ignore[arg-type]  # The only public way to reset the error.
        if failure is not None and failure is not expired:
            chunk = self._salvage(failure)
        self._received += len(chunk)
        if failure is None and content.at_eof():
            self._note_end()
        elif self._error is not None and self._received == self._declared:
            # All that was announced came; what broke or followed is not of this body.
            self._error, self.at_end = None, True
            if self._order is not None and not isinstance(failure, OSError | aiohttp.ServerDisconnectedError):
                self._order.note_surplus()
        self._received_while_waiting += len(chunk)
        if waited:
            self._end_wait(len(chunk), late=expired is not None)
        return chunk

    def expire(self, now: float) -> None:
        """Wake the reader."""
        del now
        self._expired = TimeoutError()
        self._response.content.set_exception(self._expired)

    def _salvage(self, failure: Exception) -> bytes:
        """Set the error, and return the bytes received before it, which the reader keeps while it has an error."""
        self._error = explain(failure, request=self._request.line, body=True)
        content = self._response.content
        chunks = []
        for _ in range(2):
            # Reading may call the parser once more, which may set the error again.
            content.set_exception(None)  # type: ignore[arg-type]  # As above.
            try:
                chunks.append(content.read_nowait())
            except WIRE_ERRORS:
                break
        return b"".join(chunks)

    def _abort(self) -> None:
        self._response.close()


def read_head(response: aiohttp.ClientResponse) -> BodyHead:
    """Return the headers of a content response."""
    headers, status, length = response.headers, response.status, response.content_length
    span = headers.get("Content-Range")
    found = read_content_range(span) if span is not None else None
    offset: int | None = 0
    total = length if status == 200 else None
    if found is not None:
        offset, total = found.first or 0, found.total
    elif status == 206:
        offset = None
    # RFC 1864: Content-MD5 covers the sent bytes, so that on a part it is not that of the file.
    digests = [headers.get("x-ms-blob-content-md5")] if status in (200, 206) else []
    if status == 200 and found is None:
        digests.append(headers.get("Content-MD5"))
    return BodyHead(
        status=status,
        offset=offset,
        length=length,
        total=total,
        etag=headers.get("ETag"),
        md5=next((md5 for text in digests if text and (md5 := _hexadecimal(text))), None) if any(digests) else None,
        encoding=headers.get("Content-Encoding"),
        content_type=headers.get("Content-Type"),
        ranges=status == 206 or headers.get("Accept-Ranges", "").strip().lower() == "bytes",
    )


def _hexadecimal(text: str) -> str | None:
    """Return a base64 MD5 in hexadecimal; None if it is not one."""
    try:
        digest = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return digest.hex() if len(digest) == 16 else None
