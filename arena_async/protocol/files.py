"""
What a provider hands to the shared machinery, and the values that pass between the rooms.

A provider is an :class:`Auth`, a :class:`Adapter` and some :class:`FileSet` classes. The session knows no provider, the
transfer room knows no session: they know these contracts.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol, Self, runtime_checkable

import attrs

from arena_async.protocol.messages import Secret

__all__ = [
    "BodyHead",
    "ByteStream",
    "Cost",
    "FileSet",
    "MetadataCache",
    "Notice",
    "OpenedFile",
    "RemoteFile",
    "UsesMetadataCache",
]


@attrs.frozen(kw_only=True)
class BodyHead:
    """
    What the head of a content answer says; the resume table decides over it.

    Args:
        status: The HTTP status (200, 206, 412 or 416; everything else is raised).
        offset: The first byte of the file that the body holds, from ``Content-Range``; 0 without one. None when the
            answer says 206 and does not say where it starts.
        length: Bytes the body announces (``Content-Length``), or None.
        total: Bytes of the whole file, from ``Content-Range`` or from ``Content-Length`` of a whole answer, or None.
        etag: The ETag as sent, quotes and ``W/`` included, or None.
        md5: The MD5 of the whole file in hexadecimal, where the answer vouches for it, or None.
        encoding: The ``Content-Encoding``, or None. Bytes are stored as sent, so anything but None or ``identity`` is a
            reason to look twice.
        content_type: The ``Content-Type``, or None.
        ranges: Whether the answer shows that ranges of this file may be asked for (``Accept-Ranges: bytes``, or a 206).
    """

    status: int
    offset: int | None = 0
    length: int | None = None
    total: int | None = None
    etag: str | None = None
    md5: str | None = None
    encoding: str | None = None
    content_type: str | None = None
    ranges: bool = False


@runtime_checkable
class ByteStream(Protocol):
    """
    The body of one response. A subclass has to implement :meth:`readinto` and :meth:`aclose`.

    Attributes:
        at_end: Whether all of it was received, where that is known without another call.
    """

    at_end: bool = False

    async def readinto(self, buffer: memoryview) -> int:
        """
        Fill ``buffer`` and say how many bytes it holds now.

        0 only at the end of the body. Fills the whole buffer unless the body ends, breaks, or a second has passed.
        Bytes received before an error are delivered before it. A cancelled call ends the connection.

        Raises:
            TransportError: The connection broke, or the body is shorter than announced.
            StalledError: Nothing came for too long, or it came too slowly.
        """
        ...

    async def read(self, limit: int) -> bytes:
        """
        Return what is received up to the end of the body, or up to where more than ``limit`` bytes were received.

        Empty only at the end of the body. Bytes received before an error are returned before it is raised. An
        implementation may return any number of bytes; this one returns at most ``limit``.

        Raises:
            TransportError: The connection broke, or the body is shorter than announced.
            StalledError: Nothing was received for too long, or too slowly.
        """
        buffer = memoryview(bytearray(limit))
        return bytes(buffer[: await self.readinto(buffer)])

    async def aclose(self) -> None:
        """Give the connection back if the body is read to its end, else end it. Safe to call twice."""
        ...


@attrs.frozen(kw_only=True)
class OpenedFile:
    """One answer with a body to read: an async context manager that closes the stream."""

    head: BodyHead
    stream: ByteStream

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stream.aclose()


def _copied(fields: Mapping[str, str]) -> dict[str, str]:
    """Take a copy, so that a frozen value stays as it was made."""
    return dict(fields)


@attrs.frozen(kw_only=True)
class RemoteFile:
    """
    One file a service offers.

    Args:
        key: Names the file for ever: service, tenant and identifying fields. Independent of the query that found it.
        service: ``"arena"``, ``"centrepoint"`` and so on.
        tenant: Base origin and workspace or client; one folder belongs to one tenant per service.
        parts: The folders of the documented layout, from identifying fields, not cleaned yet.
        stem: The file name of the documented layout without its extension, not cleaned yet.
        extension: The extension with its dot, for instance ``".zip"`` or ``".csv.gz"``.
        name: The vendor's own file name. It is remembered, never used as a path.
        size: Bytes as listed, or None.
        change: The raw text by which the service shows that the content changed; "" when it shows nothing.
        sha256: The SHA-256 of its content in hexadecimal, as listed, or None.
        md5: The MD5 of its content in hexadecimal, as listed, or None.
        changed_at: When it last changed (aware), for watermarks, or None.
        fields: The identifying fields by name, for layout templates.
        skip: Why the service will never give content for it, or None.
        link: The signed link, where the content has one. Never shown, never stored, lost in a pickle.
        host: Who gives the content, where that is not one and the same for the whole service: files of one host share
            what can be spent on trying again.
        as_named: Whether ``parts`` and the name are what people call them and differ in more than case, so that they
            stay as they are wherever that is safe.
    """

    key: str
    service: str
    tenant: str
    parts: tuple[str, ...]
    stem: str
    extension: str = ""
    name: str = ""
    size: int | None = None
    change: str = ""
    sha256: str | None = None
    md5: str | None = None
    changed_at: datetime | None = None
    fields: Mapping[str, str] = attrs.field(factory=dict, converter=_copied, eq=False)
    skip: str | None = None
    link: Secret | None = attrs.field(default=None, repr=False, eq=False)
    host: str = ""
    as_named: bool = False

    def without_link(self) -> RemoteFile:
        """Return the file without its signed URL, for outcomes and events."""
        return RemoteFile(
            key=self.key,
            service=self.service,
            tenant=self.tenant,
            parts=self.parts,
            stem=self.stem,
            extension=self.extension,
            name=self.name,
            size=self.size,
            change=self.change,
            sha256=self.sha256,
            md5=self.md5,
            changed_at=self.changed_at,
            fields=self.fields,
            skip=self.skip,
            host=self.host,
            as_named=self.as_named,
        )


@attrs.frozen(kw_only=True)
class Cost:
    """
    What a set of files costs in metered requests, before anything is sent.

    Args:
        listing: Requests for one listing, at the least.
        per_file: Metered requests for the content of one file; 0 where downloads do not count.
        exact: Whether ``listing`` is the number, and not just the least.
        metered: Whether an allowance counts what ``per_file`` says. Where none does, a large file may be asked for in
            several parts.
        remaining: Requests the service last said are left, or None while that is not known or not counted.
        reserve: Requests the caller wants left untouched.
        resets_at: When the allowance starts anew (aware), or None.
    """

    listing: int
    per_file: int
    exact: bool = False
    metered: bool = True
    remaining: int | None = None
    reserve: int = 0
    resets_at: datetime | None = None

    def fits(self, requests: int) -> bool | None:
        """Say whether so many metered requests can be sent without touching the reserve; None where nobody knows."""
        return None if self.remaining is None else requests <= self.remaining - self.reserve


@attrs.frozen(kw_only=True)
class Notice:
    """
    What people should hear of besides the files of a set.

    Args:
        kind: What the rows are, in a word.
        text: It, for people; it names what matters and what to do.
        rows: It, for programs: values with the facts.
    """

    kind: str
    text: str
    rows: tuple[Any, ...] = ()


class MetadataCache(Protocol):
    """
    What a folder remembers about a service for ever, because it cannot change: the files of a run that is over.

    Facts are small texts without any secret. They save requests, and nothing else rests on them.
    """

    async def recall(self, keys: Sequence[str]) -> dict[str, str]:
        """Give what is known under some keys; the others are missing."""
        ...

    async def keep(self, facts: Mapping[str, str]) -> None:
        """Remember some."""
        ...


class FileSet(Protocol):
    """
    A query for files that can be walked any number of times.

    ``scope`` names the query (it bounds watermark and pruning only). ``narrowed`` says that the set was filtered by the
    caller or by a watermark, so that what is missing from it may still exist; such a set never prunes.
    """

    @property
    def scope(self) -> str:
        """The name of the query, without any secret."""
        ...

    @property
    def narrowed(self) -> bool:
        """Whether files that exist may be missing from it."""
        ...

    @property
    def requests_sent(self) -> int:
        """Metered requests that its session has sent so far, for the report."""
        ...

    def __aiter__(self) -> AsyncIterator[RemoteFile]:
        """List the files, page by page as they are asked for."""
        ...

    async def open(
        self, file: RemoteFile, *, offset: int = 0, validator: str | None = None, until: int | None = None
    ) -> OpenedFile:
        """
        Ask for the content once, from ``offset`` on if the file still matches ``validator``. Never retries.

        With ``until``, only the bytes before that one are asked for. It is given only where content costs no metered
        request.
        Answers 200, 206, 412 and 416 are returned; everything else is raised as the typed error.
        """
        ...

    async def find(self, keys: Collection[str]) -> list[RemoteFile]:
        """Give fresh entries (and fresh links) for some keys; a key that is gone is missing from the answer."""
        ...

    def since(self, watermark: datetime | None) -> FileSet:
        """Give the set of what changed since then if the service can filter on it, else the set itself."""
        ...

    def cost(self) -> Cost:
        """Say what it costs; pure, no request."""
        ...


@runtime_checkable
class UsesMetadataCache(Protocol):
    """A set of files that asks for less where it may look at what is known already."""

    def recalling(self, facts: MetadataCache) -> FileSet:
        """Give the same set, which recalls and keeps facts when it is listed."""
        ...
