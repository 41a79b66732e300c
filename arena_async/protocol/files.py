"""
The contracts between providers, ``http`` and ``transfer``.

A provider consists of an ``Auth``, an ``Adapter`` and :class:`FileSet` classes. The session depends on no provider, and
``transfer`` on no session: both depend on these contracts.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol, Self, runtime_checkable

import attrs

from arena_async.options import copied
from arena_async.protocol.messages import Secret

__all__ = [
    "BodyHead",
    "ByteStream",
    "Cost",
    "FileSet",
    "KnowsExpired",
    "MetadataCache",
    "Notice",
    "OpenedFile",
    "RemoteFile",
    "ResponseOrder",
    "UsesMetadataCache",
]


@attrs.frozen(kw_only=True)
class BodyHead:
    """
    The headers of a content response, on which the resume table decides.

    Args:
        status: The HTTP status (200, 206, 412 or 416; other statuses are raised).
        offset: The first byte of the file that the body holds, from ``Content-Range``; 0 without one. None for a
            206 that does not state it.
        length: Bytes of the body (``Content-Length``), or None.
        total: Bytes of the complete file, from ``Content-Range`` or the ``Content-Length`` of a complete body, or None.
        etag: The ETag as sent, quotes and ``W/`` included, or None.
        md5: The MD5 of the complete file in hexadecimal, if the headers state it, or None.
        encoding: The ``Content-Encoding``, or None. Bytes are stored as sent, so anything but None or ``identity``
            needs attention.
        content_type: The ``Content-Type``, or None.
        ranges: Whether ranges of this file can be requested (``Accept-Ranges: bytes``, or a 206).
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
        at_end: Whether all of it was received, if that is known without another call.
        filled: Bytes that a cancelled :meth:`readinto` has left in its buffer.
    """

    at_end: bool = False
    filled: int = 0

    async def readinto(self, buffer: memoryview) -> int:
        """
        Fill ``buffer`` and return the number of bytes in it.

        0 only at the end of the body. Fills the whole buffer unless the body ends, breaks, or a second has passed.
        Bytes received before an error are delivered before it. A cancelled call ends the connection.

        Raises:
            TransportError: The connection broke, or the body is shorter than declared.
            StalledError: Nothing was received for too long, or too slowly.
        """
        ...

    async def read(self, limit: int) -> bytes:
        """
        Return what is received up to the end of the body, or up to where more than ``limit`` bytes were received.

        Empty only at the end of the body. Bytes received before an error are returned before it is raised. An
        implementation may return any number of bytes; this one returns at most ``limit``.

        Raises:
            TransportError: The connection broke, or the body is shorter than declared.
            StalledError: Nothing was received for too long, or too slowly.
        """
        buffer = memoryview(bytearray(limit))
        return bytes(buffer[: await self.readinto(buffer)])

    def take(self) -> bytes:
        """Return and forget the bytes that a cancelled :meth:`read` has received."""
        return b""

    async def aclose(self) -> None:
        """Release the connection if the body was read to its end, else close it. Safe to call twice."""
        ...


class ResponseOrder:
    """
    Whether the responses that came over one connection answer the requests that were sent over it.

    After one response too many, each request gets the response to the one before. That it was so shows when something
    arrives that was not requested; that it was not so, when the connection was idle and empty for a while.

    Attributes:
        broken: Whether something arrived that was not requested: the content may be that of another file.
    """

    broken: bool = False

    def check(self) -> float | None:
        """Return None once the order is known, as :attr:`broken` states; else the seconds to wait for that."""
        return None


@attrs.frozen(kw_only=True)
class OpenedFile:
    """
    One response with a body to read: an async context manager that closes the stream.

    Args:
        head: The headers of the response.
        stream: Its body.
        order: Shows later whether it was the response to this request; None where that is known.
        judge: Takes whether the body was content, or a page in its place, which counts against the host; or None.
    """

    head: BodyHead
    stream: ByteStream
    order: ResponseOrder | None = None
    judge: Callable[[bool], None] | None = attrs.field(default=None, eq=False, repr=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stream.aclose()


@attrs.frozen(kw_only=True)
class RemoteFile:
    """
    One file of a service.

    Args:
        key: Identifies the file permanently: service, tenant and identifying fields, independent of the query.
        service: ``"arena"``, ``"centrepoint"`` and so on.
        tenant: Base origin and workspace or client; one directory belongs to one tenant per service.
        parts: The directories of the documented layout, from identifying fields, not cleaned yet.
        stem: The file name of the documented layout without its extension, not cleaned yet.
        extension: The extension with its dot, for instance ``".zip"`` or ``".csv.gz"``.
        name: The vendor's own file name. It is stored, never used as a path.
        size: Bytes as listed, or None.
        change: The raw text that the service changes with the content; "" if there is none.
        sha256: The SHA-256 of its content in hexadecimal, as listed, or None.
        md5: The MD5 of its content in hexadecimal, as listed, or None.
        changed_at: When it last changed (aware), for watermarks, or None.
        listed_in: The list that delivered it, if the service filters that list on the time of change, else "": under
            this name its watermark is kept.
        fields: The identifying fields by name, for layout templates.
        skip: Why the service has no content for it, or None.
        link: The signed URL, if the content has one. Never shown, never stored, lost in a pickle.
        host: The host of the content, if that differs between files: those of one host wait together when it is in
            trouble.
        as_named: Whether ``parts`` and the name are chosen by users and differ in more than case, so that they are kept
            wherever that is safe.
        uploaded: Whether it is kept as people uploaded it: then its length proves it, and what it is inside is theirs.
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
    listed_in: str = ""
    fields: Mapping[str, str] = attrs.field(factory=dict, converter=copied, eq=False)
    skip: str | None = None
    link: Secret | None = attrs.field(default=None, repr=False, eq=False)
    host: str = ""
    as_named: bool = False
    uploaded: bool = False

    def without_link(self) -> RemoteFile:
        """Return the file without its signed URL, for outcomes and events."""
        return attrs.evolve(self, link=None)


@attrs.frozen(kw_only=True)
class Cost:
    """
    The cost of a file set in metered requests, before anything is sent.

    Args:
        listing: Requests for one listing, at least.
        per_file: Metered requests for the content of one file; 0 if downloads do not count.
        exact: Whether ``listing`` is exact and not a minimum.
        metered: Whether ``per_file`` counts against a quota. If not, a large file may be requested in several parts.
        remaining: Requests left as last stated by the service, or None if unknown or not counted.
        reserve: Requests to leave for other clients.
        resets_at: When the quota resets (aware), or None.
    """

    listing: int
    per_file: int
    exact: bool = False
    metered: bool = True
    remaining: int | None = None
    reserve: int = 0
    resets_at: datetime | None = None

    def fits(self, requests: int) -> bool | None:
        """Return whether so many metered requests fit without using the reserve; None if that is unknown."""
        return None if self.remaining is None else requests <= self.remaining - self.reserve


@attrs.frozen(kw_only=True)
class Notice:
    """
    Something to report besides the files of a set.

    Args:
        kind: The kind of the rows, in a word.
        text: The message for users: what matters and what to do.
        rows: The details, as values.
    """

    kind: str
    text: str
    rows: tuple[Any, ...] = ()


class MetadataCache(Protocol):
    """
    Metadata that a directory caches permanently because it cannot change, such as the files of a finished run.

    Entries are short texts without secrets. They only save requests.
    """

    async def recall(self, keys: Sequence[str]) -> dict[str, str]:
        """Return the entries of some keys; unknown ones are missing."""
        ...

    async def keep(self, facts: Mapping[str, str]) -> None:
        """Store some entries."""
        ...


class FileSet(Protocol):
    """
    A query for files that can be listed any number of times.

    ``scope`` names the query and bounds watermark and pruning only. ``narrowed`` is set if the set was filtered by the
    caller or by a watermark, so that missing files may still exist; such a set never prunes.
    """

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.scope}>"

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

    @property
    def account(self) -> str:
        """
        Whose login it uses, in a text that is the same for each session of it; "" where there is none.

        What is refused to one account may be delivered to another. Only a salted hash of it is stored.
        """
        return ""

    def __aiter__(self) -> AsyncIterator[RemoteFile]:
        """List the files; pages are requested as they are read."""
        ...

    async def open(
        self, file: RemoteFile, *, offset: int = 0, validator: str | None = None, until: int | None = None
    ) -> OpenedFile:
        """
        Request the content once, from ``offset`` on if the file still matches ``validator``. Never retries.

        With ``until``, only the bytes before that one are requested; it is passed only if content costs no metered
        request. Statuses 200, 206, 412 and 416 are returned; others are raised as the typed error.
        """
        ...

    async def find(self, keys: Collection[str]) -> list[RemoteFile]:
        """Return fresh entries (with fresh signed URLs) for some keys; a file that is gone is missing."""
        ...

    def since(self, watermarks: Mapping[str, datetime]) -> FileSet:
        """
        Return the set of what changed since then if the service can filter on it, else the set itself.

        Args:
            watermarks: A time (aware) for each list that is known, by :attr:`RemoteFile.listed_in`. A list without one
                is walked whole.
        """
        ...

    def cost(self) -> Cost:
        """Return its cost; pure, no request."""
        ...


@runtime_checkable
class UsesMetadataCache(Protocol):
    """A file set that sends fewer requests with a metadata cache."""

    def recalling(self, facts: MetadataCache) -> FileSet:
        """Return the same set, which uses the cache when it is listed."""
        ...


@runtime_checkable
class KnowsExpired(Protocol):
    """A file set of a service that stops to offer files because of their age, which does not make them gone."""

    def is_expired(self, key: str) -> bool:
        """Return whether the service still lists what a file belongs to, as of the last listing or look-up."""
        ...
