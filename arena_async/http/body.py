"""
Response bodies, read into memory of the caller or returned as bytes.

::

    Body             fills a buffer, returns small bodies; timeouts, slowest rate, premature ends
      ├── ReaderBody     reads from aiohttp's own StreamReader: every kind of response
      └── ZeroCopyBody   (handover) large bodies of ordinary responses, received into the buffer of the caller
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import math
from abc import ABC, abstractmethod
from collections.abc import Callable

import aiohttp

from arena_async.errors import ArenaAsyncError, ClosedError, StalledError, TransportError
from arena_async.http.connections import Deadlines, Waiting
from arena_async.http.errors import WIRE_ERRORS, explain
from arena_async.options import Timeouts
from arena_async.protocol.files import BodyHead
from arena_async.protocol.messages import Request
from arena_async.protocol.ranges import read_content_range

__all__ = ["Body", "BodyContext", "ReaderBody", "read_head"]

#: Seconds after which ``readinto`` returns what it has, full or not, so that progress is seen and a cut costs little.
_FILL_SECONDS = 1.0
_NOTHING = memoryview(b"")


class BodyContext:
    """
    What all bodies of one session share.

    Args:
        timeouts: How long to wait for the network.
        monotonic: Returns seconds that never jump, for the slowest rate.
        deadlines: Ends waits that take too long.
    """

    __slots__ = ("deadlines", "monotonic", "timeouts")

    def __init__(self, timeouts: Timeouts, monotonic: Callable[[], float], deadlines: Deadlines) -> None:
        self.timeouts, self.monotonic, self.deadlines = timeouts, monotonic, deadlines


class Body(Waiting, ABC):
    """
    The body of one response; see :class:`~arena_async.protocol.files.ByteStream`.

    Args:
        response: The response, of which only the headers have been read.
        request: The request, for error messages.
        context: What all bodies of the session share.

    Attributes:
        at_end: Whether all of it was received.
    """

    def __init__(self, response: aiohttp.ClientResponse, request: Request, context: BodyContext) -> None:
        self.at_end = False
        self._response = response
        self._request = request
        self._context = context
        self._declared = response.content_length
        self._rest = _NOTHING
        self._kept: list[bytes] = []
        self._received = 0
        self._error: ArenaAsyncError | None = None
        self._closed = False
        # Silence is counted from the last byte on, across the calls that it takes, and only while we wait.
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
            # Bytes that arrive from here on could not be told apart from those the caller already has.
            self._end()
            raise
        if not filled and self._error is not None:
            raise self._error
        return filled

    async def read(self, limit: int) -> bytes:
        """
        Return all bytes up to the end of the body, or those received once they are more than ``limit``.

        Bytes received before an error are returned; the next call raises it. A cancelled call keeps what it received
        for :meth:`take` and ends the connection.
        """
        if self._closed:
            raise self._closed_error()
        kept, size = self._kept, 0
        try:
            while not self.at_end and self._error is None and size <= limit:
                piece = self._buffered() or (b"" if self._is_finished() else await self._next_piece())
                kept.append(piece)
                size += len(piece)
        except asyncio.CancelledError:
            self._end()
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
        if not self._closed:
            self._end()

    @abstractmethod
    def _buffered(self) -> bytes:
        """Return bytes that are here already, without waiting."""

    @abstractmethod
    async def _next_piece(self) -> bytes:
        """Wait for bytes and return them; none at the end of the body or after an error."""

    @abstractmethod
    async def _fill(self, buffer: memoryview, until: float | None) -> int:
        """
        Receive into ``buffer`` and return the number of bytes in it.

        Args:
            buffer: Where they go; what has no room there is kept in ``_rest``.
            until: When to return with what there is, on the clock of the event loop; None for after the first bytes.
        """

    @abstractmethod
    def _abort(self) -> None:
        """Close the connection: part of the body was not received, or is not wanted."""

    def _is_finished(self) -> bool:
        return self.at_end or self._error is not None

    def _end(self) -> None:
        self._closed = True
        self._rest = _NOTHING
        self._context.deadlines.entries.discard(self)
        if not self.at_end:
            self._abort()
        elif not self._response.closed:
            # A deadline took the callback with it that would have released the connection at the end.
            self._response.release()

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
        """Note that no more bytes come."""
        if self._declared is None or self._received == self._declared:
            self.at_end = True
        else:
            self._error = TransportError(
                f"{self._request.line}: the body ended after {self._received} of {self._declared} bytes. What came can"
                " be continued or fetched again.",
                request=self._request.line,
            )

    def _begin_wait(self, until: float | None) -> None:
        """Set the deadline of a wait."""
        now = self._wait_began = asyncio.get_running_loop().time()
        self._clock_began = self._context.monotonic()
        self._stall_at = now + self._context.timeouts.read - self._silent
        self.deadline = self._stall_at if until is None else min(self._stall_at, until)
        self._context.deadlines.add(self)

    def _end_wait(self, count: int, *, late: bool, silent: float = 0.0) -> None:
        """
        Account for a wait, and note an error if the body is too slow.

        Args:
            count: Bytes received meanwhile.
            late: Whether the deadline ended the wait.
            silent: Seconds since the last of them.
        """
        self._context.deadlines.entries.discard(self)
        self.deadline = math.inf
        now = asyncio.get_running_loop().time()
        self._silent = silent if count else self._silent + now - self._wait_began
        self._waited += self._context.monotonic() - self._clock_began
        self._received_while_waiting += count
        if self._is_finished():
            return
        limits = self._context.timeouts
        if late and not count and now >= self._stall_at:
            self._stall(f"nothing came for {limits.read:g} s")
        elif self._waited >= limits.slowest_over:
            rate = self._received_while_waiting / self._waited
            self._waited, self._received_while_waiting = 0.0, 0
            if rate < limits.slowest_rate:
                self._stall(f"{rate:.0f} bytes a second came over {limits.slowest_over:g} s")

    def _stall(self, what: str) -> None:
        self._error = StalledError(
            f"{self._request.line}: {what} after {self._received} bytes of the body. The connection was ended; try"
            " again, or allow a slower body."
        )

    def _closed_error(self) -> ClosedError:
        return ClosedError(f"{self._request.line}: the body was closed before it was read; open it again.")


class ReaderBody(Body):
    """A body that is read from aiohttp's own reader."""

    _expired: TimeoutError | None = None

    def _buffered(self) -> bytes:
        content = self._response.content
        failure: Exception | None = None
        try:
            piece = content.read_nowait()
        except WIRE_ERRORS as error:
            failure = error
        if failure is not None:
            piece = self._salvage(failure)
        self._received += len(piece)
        self._received_while_waiting += len(piece)
        if failure is None and content.at_eof():
            self._note_end()
        return piece

    async def _next_piece(self, until: float | None = None) -> bytes:
        content = self._response.content
        failure: Exception | None = None
        piece = b""
        self._begin_wait(until)
        try:
            piece = await content.readany()
        except WIRE_ERRORS as error:
            failure = error
        expired, self._expired = self._expired, None
        if expired is not None and content.exception() is expired:
            content.set_exception(None)  # type: ignore[arg-type]  # The only public way to take the error back.
        if failure is not None and failure is not expired:
            piece = self._salvage(failure)
        self._received += len(piece)
        if failure is None and content.at_eof():
            self._note_end()
        self._end_wait(len(piece), late=expired is not None)
        return piece

    async def _fill(self, buffer: memoryview, until: float | None) -> int:
        piece = self._buffered() or (b"" if self._is_finished() else await self._next_piece(until))
        self._rest = memoryview(piece)
        return self._pour(buffer)

    def expire(self, now: float) -> None:
        """Wake the reader."""
        del now
        self._expired = TimeoutError()
        self._response.content.set_exception(self._expired)

    def _salvage(self, failure: Exception) -> bytes:
        """Note an error, and return what arrived before it, which the reader refuses for as long as it has an error."""
        self._error = explain(failure, request=self._request.line, body=True)
        content = self._response.content
        pieces = []
        for _ in range(2):
            # Reading may feed the parser once more, and that may set the error again.
            content.set_exception(None)  # type: ignore[arg-type]  # As above.
            try:
                pieces.append(content.read_nowait())
            except WIRE_ERRORS:
                break
        return b"".join(pieces)

    def _abort(self) -> None:
        self._response.close()


def read_head(response: aiohttp.ClientResponse) -> BodyHead:
    """Return what the headers of a content response say."""
    given, status, length = response.headers, response.status, response.content_length
    span = given.get("Content-Range")
    place = read_content_range(span) if span is not None else None
    offset: int | None = 0
    total = length if status == 200 else None
    if place is not None:
        offset, total = place.first or 0, place.total
    elif status == 206:
        offset = None
    # RFC 1864: Content-MD5 covers what is sent, so that on a part it says nothing about the file.
    digests = [given.get("x-ms-blob-content-md5")] if status in (200, 206) else []
    if status == 200 and place is None:
        digests.append(given.get("Content-MD5"))
    return BodyHead(
        status=status,
        offset=offset,
        length=length,
        total=total,
        etag=given.get("ETag"),
        md5=next((found for text in digests if text and (found := _hexadecimal(text))), None) if any(digests) else None,
        encoding=given.get("Content-Encoding"),
        content_type=given.get("Content-Type"),
        ranges=status == 206 or given.get("Accept-Ranges", "").strip().lower() == "bytes",
    )


def _hexadecimal(text: str) -> str | None:
    """Turn the base64 of an MD5 into hexadecimal digits; None for anything that is not one."""
    try:
        digest = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return digest.hex() if len(digest) == 16 else None
