"""
Make the entries of the rows of a list: a key, a path and what is known beforehand.

========================  =============================================================================================
path                      the ``name`` of the row, else the last part of the address, below the directory
key                       the address without its query, a digest of a query without any secret, and the ``name``
change mark               the digest of the row, else its size, else nothing
========================  =============================================================================================

A signature changes every day, so a query with one is no part of the key.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import re
from array import array
from collections.abc import Iterable, Iterator
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from arena_async.errors import ConfigurationError, UnsafeUrlError
from arena_async.protocol.filenames import fold, safe_name, split_extension
from arena_async.protocol.files import RemoteFile
from arena_async.protocol.messages import Secret, scrub, show_url
from arena_async.protocol.urls import UrlPolicy, origin
from arena_async.providers.urls.links import Link, bears_secret
from arena_async.providers.urls.reading import LinkList, Row, read_line

__all__ = ["SERVICE", "Address", "Names", "UrlEntries", "UrlEntry", "digest_of"]

SERVICE = "urls"

#: Origins that are remembered while a list is iterated.
_MAX_ORIGINS = 4096
#: Digests of names have 8 bytes.
_DIGEST = 0xFFFF_FFFF_FFFF_FFFF
#: A directory may have files of any lists.
_TENANT = "any"
#: Most rows are addresses with nothing to decode, to hide or to check in their path and name.
_PLAIN = re.compile(r"(https?://[A-Za-z0-9.:_-]+)((?:/[A-Za-z0-9._~-]*)*/([A-Za-z0-9][A-Za-z0-9._-]*))").fullmatch
#: What is known about a row that is an address and no more.
_NOTHING_KNOWN = Link("https://urls.invalid/file")


class Address(Secret):
    """An address with the headers that belong to it."""

    __slots__ = ("headers",)

    def __init__(self, text: str | None, headers: tuple[tuple[str, Secret], ...] = ()) -> None:
        self._text = text
        self.headers = headers


class UrlEntry(NamedTuple):
    """A row: its address, origin, path and query, its directories and name, and the link if it is more than that."""

    url: str
    host: str
    path: str
    query: str
    parts: tuple[str, ...]
    link: Link | None = None

    @property
    def local_path(self) -> str:
        """Where the file is put, below the directory."""
        return "/".join(map(safe_name, self.parts))

    def remote_file(self) -> RemoteFile:
        """Return the row as a file of the service."""
        *folders, name = self.parts
        stem, extension = split_extension(name)
        known = self.link or _NOTHING_KNOWN
        return RemoteFile(
            key=f"{SERVICE} {self.host}{self.path}" if self.link is None else _key(self),
            service=SERVICE,
            tenant=_TENANT,
            parts=tuple(folders),
            stem=stem,
            extension=extension,
            name=name,
            size=known.size,
            change="" if self.link is None else _change(known),
            sha256=known.sha256,
            md5=known.md5,
            fields={"host": self.host.partition("://")[2].rpartition(":")[0], "name": name},
            link=Address(self.url, known.headers),
            host=self.host,
            as_named=True,
            uploaded=True,
        )


class UrlEntries:
    """
    Makes the entries of the rows of a list.

    Args:
        links: The list.
        policy: Which addresses are allowed.
        folders: Whether host and directories of an address become directories where the row has no name.
    """

    def __init__(self, links: LinkList, *, policy: UrlPolicy, folders: bool) -> None:
        self._links = links
        self._policy = policy
        self._folders = folders
        # Lists have many addresses of the same origin.
        self._origin = functools.lru_cache(_MAX_ORIGINS)(self._check)

    def of(self, page: Iterable[Row]) -> Iterator[tuple[str, UrlEntry]]:
        """
        Yield the rows that have an address, with their positions for errors.

        Raises:
            ConfigurationError: One of them cannot be an address, or is not allowed; the message has its position.
        """
        problem = None
        for number, row in page:
            where = f"{self._links.noun} {number}"
            try:
                entry = self._parse(row)
            except ConfigurationError as error:
                problem = f"{where}: {error}"
                break
            if entry is not None:
                yield where, entry
        if problem is not None:
            raise ConfigurationError(problem)

    def _parse(self, row: bytes | str | Secret | Link) -> UrlEntry | None:
        """
        Return the parts of a row, or None if it has no address.

        Raises:
            ConfigurationError: It cannot be an address, or is not allowed.
        """
        content = read_line(row) if isinstance(row, bytes) else row
        if content is None:
            return None
        plain = _PLAIN(content) if isinstance(content, str) and not self._folders else None
        if plain is not None:
            base, path, name = plain.groups()
            host, problem = self._origin(base)
            if problem is None:
                return UrlEntry(plain[0], host, path, "", (name,))
        link = content if isinstance(content, Link) else Link(content)
        url = link.url.reveal()
        base, path, query = _parts(url)
        host, problem = self._origin(base)
        if problem is not None:
            raise ConfigurationError(problem.replace(base, show_url(url)))
        parts = link.path
        if self._folders and link.name is None:
            folders = _folders_of(base, path)
            if bears_secret("/".join(folders)):
                raise ConfigurationError(
                    f"a directory of {show_url(url)} looks like a secret. Set the name of the file: name."
                )
            parts = (*folders, parts[-1])
        return UrlEntry(url, host, path, query, parts, link)

    def _check(self, base: str) -> tuple[str, str | None]:
        """Return the origin of an address, and why it is not allowed or None."""
        host = ""
        try:
            host = origin(base)
            self._policy.check(base)
        except UnsafeUrlError as error:
            plain = base[:5].lower() == "http:" and not self._policy.allow_http
            allow = "allow_http (--allow-http)" if plain else "allow_private (--allow-private)"
            return host, f"{error} If that is meant, allow it with {allow}." if host else str(error)
        return host, None


class Names:
    """Which names were seen, in 8 bytes each."""

    def __init__(self) -> None:
        self.count = 0
        self._digests = [array("Q") for _ in range(256)]

    def add(self, names: Iterable[str]) -> None:
        """Note some names."""
        for name in names:
            digest = hash(fold(name)) & _DIGEST
            self._digests[digest & 0xFF].append(digest)
            self.count += 1

    def doubtful(self) -> set[int]:
        """Return the digests that were added more than once."""
        return {
            digest
            for digests in self._digests
            for digest, following in itertools.pairwise(sorted(digests))
            if digest == following
        }


def digest_of(name: str) -> int:
    """Return a number for a name; two names that some file system takes for one have the same."""
    return hash(fold(name)) & _DIGEST


def _parts(url: str) -> tuple[str, str, str]:
    """Return scheme and host as they are written, the path, and the query."""
    before, _, query = url.partition("?")
    scheme, _, rest = before.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host}", slash + path, query


def _key(entry: UrlEntry) -> str:
    """Return the permanent key of a row, without any secret."""
    path, query, link = entry.path, entry.query, entry.link
    shown = scrub(path, maximum=1 << 20) if bears_secret(path) else path
    digest = ""
    if query and not bears_secret(query):
        digest = f"?~{hashlib.sha256(query.encode()).hexdigest()[:16]}"
    name = f" {link.name}" if link is not None and link.name is not None else ""
    return f"{SERVICE} {entry.host}{shown or '/'}{digest}{name}"


def _change(link: Link) -> str:
    """Return the change mark: the strongest fact of the row about its content."""
    for name in ("sha256", "md5", "size"):
        value = getattr(link, name)
        if value is not None:
            return f"{name}:{value}"
    return ""


def _folders_of(base: str, path: str) -> list[str]:
    """Return host and directories of an address."""
    parts = urlsplit(base)
    host = (parts.hostname or "") + (f"_{parts.port}" if parts.port else "")
    return [host, *(unquote(part, errors="replace") for part in path.split("/")[:-1] if part)]
