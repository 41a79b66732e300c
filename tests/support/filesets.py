"""
Two honest sets of files for the transfer room: one out of memory, one over real sockets from a `RawServer`.

Both keep every promise of the contracts: one attempt each, bytes before an error, a full buffer unless the body ends or
breaks, typed errors for everything but 200, 206, 412 and 416.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import zipfile
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping
from datetime import datetime
from typing import Any

import attrs

from arena_async.errors import ApiError, LinkExpiredError, NotFoundError, ServerError, TransportError
from arena_async.protocol.files import BodyHead, ByteStream, Cost, OpenedFile, RemoteFile
from arena_async.protocol.messages import Secret
from arena_async.protocol.ranges import read_content_range

__all__ = ["Asked", "MemoryFiles", "SocketFiles", "Source", "content", "remote", "zipped"]


def content(size: int, seed: str = "x") -> bytes:
    """Return bytes that differ everywhere, the same for the same seed."""
    block = hashlib.shake_256(seed.encode()).digest(min(size, 65_536))
    return (block * (size // max(1, len(block)) + 1))[:size]


def zipped(*members: bytes, force_zip64: bool = False) -> bytes:
    """Make a zip of some members, packed."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, member in enumerate(members):
            with archive.open(zipfile.ZipInfo(f"{number}.csv"), "w", force_zip64=force_zip64) as opened:
                opened.write(member)
    return made.getvalue()


def remote(name: str, /, **fields: Any) -> RemoteFile:
    """Make a listed file with a documented layout of ``files/<name>.bin``."""
    given: dict[str, Any] = {
        "key": f"test/{name}",
        "service": "test",
        "tenant": "http://127.0.0.1 client",
        "parts": ("files",),
        "stem": name,
        "extension": ".bin",
        "name": f"{name} as the vendor calls it.bin",
        "change": "1",
        "fields": {"name": name},
    }
    return RemoteFile(**{**given, **fields})


@attrs.frozen(kw_only=True)
class Asked:
    """One request for content."""

    key: str
    offset: int
    validator: str | None
    until: int | None = None


Opening = Callable[[Asked], Awaitable[None]]


@attrs.define(kw_only=True)
class Source:
    """
    One file at the service, and what goes wrong with it.

    Args:
        body: Its bytes now.
        etag: The ETag it is served with, or None.
        announced: Whether the length is announced.
        faults: One for each request, in order: an exception to raise instead of an answer, a number of bytes after
            which the body breaks, or None for nothing.
        md5: What the service vouches for, or None.
        ranges: Whether ranges are known.
    """

    body: bytes
    etag: str | None = '"v1"'
    announced: bool = True
    faults: list[Exception | int | None] = attrs.field(factory=list)
    md5: str | None = None
    ranges: bool = True


class _MemoryStream(ByteStream):
    """A body out of memory that may break off."""

    def __init__(self, body: bytes, *, breaks: bool, files: MemoryFiles) -> None:
        self._body = memoryview(body)
        self._breaks = breaks
        self._files = files
        self._open = True
        files.open_bodies += 1
        files.max_open = max(files.max_open, files.open_bodies)

    async def readinto(self, buffer: memoryview) -> int:
        await asyncio.sleep(0)
        count = min(len(buffer), len(self._body))
        buffer[:count] = self._body[:count]
        self._body = self._body[count:]
        if not count and self._breaks and len(buffer):
            raise TransportError("GET /content: the connection was cut. Running again resumes.")
        return count

    async def aclose(self) -> None:
        if self._open:
            self._open = False
            self._files.open_bodies -= 1


class MemoryFiles:
    """
    Files out of memory.

    ``requested`` holds every request for content in order, ``found`` the keys of each look-up, ``listings`` how often
    it was walked.

    Args:
        rows: What is listed, in order; or a callable that gives it anew each time.
        sources: The content, by key.
    """

    def __init__(
        self,
        rows: Iterable[RemoteFile] | Callable[[], AsyncIterator[RemoteFile]],
        sources: dict[str, Source],
        *,
        scope: str = "test/files",
        narrowed: bool = False,
    ) -> None:
        self.rows = rows if callable(rows) else list(rows)
        self.sources = sources
        self.scope = scope
        self.narrowed = narrowed
        self.requested: list[Asked] = []
        self.found: list[tuple[str, ...]] = []
        self.listings = 0
        self.listed = 0
        self.listings_closed = 0
        self.open_bodies = 0
        self.max_open = 0
        self.watermarks: list[dict[str, datetime]] = []
        self.filters = False
        self.before_open: Callable[[Asked], Awaitable[object]] | None = None
        self.fresh: dict[str, RemoteFile] = {}
        self.per_file = 1

    @property
    def requests_sent(self) -> int:
        return len(self.requested) + self.listings + len(self.found)

    @property
    def counts(self) -> Counter[str]:
        """How often each content was asked for."""
        return Counter(requested.key for requested in self.requested)

    async def __aiter__(self) -> AsyncIterator[RemoteFile]:
        self.listings += 1
        try:
            if callable(self.rows):
                async for row in self.rows():
                    self.listed += 1
                    yield row
                return
            for row in list(self.rows):
                await asyncio.sleep(0)
                self.listed += 1
                yield row
        finally:
            self.listings_closed += 1

    async def open(
        self, file: RemoteFile, *, offset: int = 0, validator: str | None = None, until: int | None = None
    ) -> OpenedFile:
        requested = Asked(key=file.key, offset=offset, validator=validator, until=until)
        self.requested.append(requested)
        await asyncio.sleep(0)
        if self.before_open is not None:
            await self.before_open(requested)
        source = self.sources[file.key]
        fault = source.faults.pop(0) if source.faults else None
        if isinstance(fault, Exception):
            raise fault
        return self._answer(source, offset, validator, fault, until)

    def _answer(
        self, source: Source, offset: int, validator: str | None, breaks_after: int | None, until: int | None = None
    ) -> OpenedFile:
        total = len(source.body)
        if offset and source.ranges:
            if validator != source.etag:
                return self._opened(BodyHead(status=412, etag=source.etag), b"")
            if offset >= total:
                return self._opened(BodyHead(status=416, offset=None, total=total, etag=source.etag), b"")
            rest = source.body[offset:until]
            head = BodyHead(
                status=206, offset=offset, length=len(rest), total=total, etag=source.etag, md5=source.md5, ranges=True
            )
            return self._opened(head, rest, breaks_after)
        length = total if source.announced else None
        head = BodyHead(status=200, length=length, total=length, etag=source.etag, md5=source.md5, ranges=source.ranges)
        return self._opened(head, source.body, breaks_after)

    def _opened(self, head: BodyHead, body: bytes, breaks_after: int | None = None) -> OpenedFile:
        shown = body if breaks_after is None else body[:breaks_after]
        return OpenedFile(head=head, stream=_MemoryStream(shown, breaks=breaks_after is not None, files=self))

    async def find(self, keys: Collection[str]) -> list[RemoteFile]:
        self.found.append(tuple(keys))
        await asyncio.sleep(0)
        rows = [] if callable(self.rows) else self.rows
        return [self.fresh.get(row.key, row) for row in rows if row.key in keys]

    def since(self, watermarks: Mapping[str, datetime]) -> MemoryFiles:
        self.watermarks.append(dict(watermarks))
        if not self.filters or not watermarks:
            return self
        later = MemoryFiles([], self.sources, scope=self.scope, narrowed=True)
        later.__dict__.update({**self.__dict__, "narrowed": True})
        rows = [] if callable(self.rows) else self.rows
        later.rows = [
            row
            for row in rows
            if row.changed_at is None or (mark := watermarks.get(row.listed_in)) is None or row.changed_at >= mark
        ]
        later.requested, later.found = self.requested, self.found
        return later

    def cost(self) -> Cost:
        return Cost(listing=1, per_file=self.per_file, exact=True)


class _SocketStream(ByteStream):
    """The body of one answer over a connection of its own."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, length: int | None, chunked: bool
    ) -> None:
        self._reader, self._writer = reader, writer
        self._left = length
        self._chunked = chunked
        self._kept = b""
        self._error: TransportError | None = None
        self._ended = length == 0

    async def readinto(self, buffer: memoryview) -> int:
        count = 0
        while count < len(buffer):
            piece = await self._piece(len(buffer) - count)
            if not piece:
                break
            buffer[count : count + len(piece)] = piece
            count += len(piece)
        if not count and self._error is not None:
            error, self._error = self._error, None
            raise error
        return count

    async def _piece(self, maximum: int) -> bytes:
        """Return some bytes, or none at the end or where it broke."""
        if not self._kept and not self._ended and self._error is None:
            self._kept = await self._receive()
        piece, self._kept = self._kept[:maximum], self._kept[maximum:]
        return piece

    async def _receive(self) -> bytes:
        try:
            if self._chunked:
                return await self._receive_chunk()
            piece = await self._reader.read(65_536 if self._left is None else min(65_536, self._left))
        except (OSError, asyncio.IncompleteReadError, ValueError):
            piece, self._left = b"", 1
        if self._left is not None:
            self._left -= len(piece)
            self._ended = self._left == 0
        elif not piece:
            self._ended = True
        if not piece and not self._ended:
            self._error = TransportError("GET: the connection was cut off before the end of the body.")
        return piece

    async def _receive_chunk(self) -> bytes:
        size = int(await self._reader.readuntil(b"\r\n"), 16)
        chunk = await self._reader.readexactly(size + 2)
        self._ended = size == 0
        return chunk[:-2]

    async def aclose(self) -> None:
        self._writer.transport.abort()


class SocketFiles:
    """
    Files over real sockets, one connection each.

    A 403 whose body says ``expired`` is a link that is over; everything else is typed by its status. ``links`` gives
    the target of each key; :meth:`find` gives entries whose link is the one there now.

    Args:
        base_url: Where the server listens.
        rows: What is listed.
        links: The target of each key.
    """

    def __init__(self, base_url: str, rows: Iterable[RemoteFile], links: dict[str, str]) -> None:
        self._host, _, port = base_url.removeprefix("http://").partition(":")
        self._port = int(port)
        self.rows = list(rows)
        self.links = links
        self.scope = "test/sockets"
        self.narrowed = False
        self.requests_sent = 0

    def _row(self, row: RemoteFile) -> RemoteFile:
        return attrs.evolve(row, link=Secret(self.links[row.key]))

    async def __aiter__(self) -> AsyncIterator[RemoteFile]:
        self.requests_sent += 1
        for row in self.rows:
            yield self._row(row)

    async def find(self, keys: Collection[str]) -> list[RemoteFile]:
        self.requests_sent += 1
        return [self._row(row) for row in self.rows if row.key in keys]

    def since(self, watermarks: Mapping[str, datetime]) -> SocketFiles:
        del watermarks
        return self

    def cost(self) -> Cost:
        return Cost(listing=1, per_file=0)

    async def open(self, file: RemoteFile, *, offset: int = 0, validator: str | None = None) -> OpenedFile:
        assert file.link is not None
        self.requests_sent += 1
        extra = f"Range: bytes={offset}-\r\nIf-Match: {validator}\r\n" if offset else ""
        try:
            reader, writer = await asyncio.open_connection(self._host, self._port)
        except OSError:
            raise TransportError("GET: the connection was refused.") from None
        try:
            request = f"GET {file.link.reveal()} HTTP/1.1\r\nHost: test\r\nAccept-Encoding: identity\r\n{extra}\r\n"
            writer.write(request.encode())
            status, headers = await _read_head(reader)
            stream = _stream(reader, writer, headers)
            if status not in (200, 206, 412, 416):
                raise await _refusal(status, stream)
        except BaseException:
            writer.transport.abort()
            raise
        return OpenedFile(head=_head(status, headers), stream=stream)


async def _read_head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    try:
        text = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except (OSError, asyncio.IncompleteReadError):
        raise TransportError("GET: the connection ended before an answer.") from None
    first, *lines = text.rstrip("\r\n").split("\r\n")
    pairs = (line.partition(":") for line in lines)
    return int(first.split(" ")[1]), {name.lower(): value.strip() for name, _, value in pairs}


def _stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, headers: dict[str, str]) -> _SocketStream:
    chunked = headers.get("transfer-encoding", "").lower() == "chunked"
    length = int(headers["content-length"]) if "content-length" in headers else None
    return _SocketStream(reader, writer, length, chunked)


async def _refusal(status: int, stream: _SocketStream) -> Exception:
    body = bytearray(1000)
    count = await stream.readinto(memoryview(body))
    if status == 403 and b"expired" in body[:count]:
        return LinkExpiredError("GET: the link is over.")
    if status == 404:
        return NotFoundError("GET: 404.", status=404)
    if status >= 500:
        return ServerError(f"GET: {status}.", status=status, transient=True)
    return ApiError(f"GET: {status}.", status=status)


def _head(status: int, headers: dict[str, str]) -> BodyHead:
    length = int(headers["content-length"]) if "content-length" in headers else None
    part = read_content_range(headers.get("content-range"))
    offset: int | None = None if status == 206 else 0
    total = length if status == 200 else None
    if part is not None:
        offset, total = part.first, part.total
    return BodyHead(
        status=status,
        offset=offset,
        length=length,
        total=total,
        etag=headers.get("etag"),
        encoding=headers.get("content-encoding"),
        content_type=headers.get("content-type"),
    )
