"""Bodies: by which road one comes in, and how one goes out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from typing import NoReturn, Protocol, Self

import aiohttp
from aiohttp.abc import AbstractStreamWriter

from arena_async.errors import ArenaAsyncError, ConfigurationError
from arena_async.net.failures import WIRE_ERRORS, explain
from arena_async.net.handover import HandedOverBody
from arena_async.net.receiving import IncomingBody
from arena_async.options import Timeouts
from arena_async.wire.contracts import ByteStream
from arena_async.wire.messages import Upload, UploadedFile

__all__ = ["ROADS", "Form", "ReaderBody", "Road", "open_body"]


class ReaderBody(IncomingBody):
    """
    A body that comes through the HTTP client's own reader: open to every kind of answer, at the cost of a copy.

    Args:
        response: The answer, of which only the head has been read.
        request: The line of the request, for error messages.
        timeouts: How long the body may keep us waiting.
        clock: Seconds that never jump, for the slowest rate.
    """

    def __init__(
        self, response: aiohttp.ClientResponse, *, request: str, timeouts: Timeouts, clock: Callable[[], float]
    ) -> None:
        super().__init__(announced=response.content_length, request=request, timeouts=timeouts, clock=clock)
        self._response = response
        self._content = response.content

    @classmethod
    def open(
        cls, response: aiohttp.ClientResponse, *, request: str, timeouts: Timeouts, clock: Callable[[], float]
    ) -> Self:
        """Give the body of any answer."""
        return cls(response, request=request, timeouts=timeouts, clock=clock)

    async def _wait(self, buffer: memoryview, limit: float, *, eager: bool) -> tuple[int, bool]:
        """Take the next piece of the reader, whatever there is of it."""
        del eager
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
            self._error = explain(failure, request=self._line, body=True)
        self._came_at = asyncio.get_running_loop().time()
        self._rest = memoryview(piece)
        self._received += len(piece)
        return self._pour(buffer), late

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

    def _give_back(self) -> None:
        self._response.release()

    def _break_off(self) -> None:
        self._response.close()


class Road(Protocol):
    """A way for a body to come in."""

    def open(
        self, response: aiohttp.ClientResponse, *, request: str, timeouts: Timeouts, clock: Callable[[], float]
    ) -> ByteStream | None:
        """Give the body of an answer, or None where this road is not open for it."""
        ...


#: The roads, the fastest one first; the last one is open for everything.
ROADS: tuple[Road, ...] = (HandedOverBody, ReaderBody)


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
    bodies = (road.open(response, request=request, timeouts=timeouts, clock=clock) for road in ROADS)
    return next(body for body in bodies if body is not None)


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
