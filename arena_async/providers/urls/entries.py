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

import hashlib
import itertools
import re
from array import array
from collections.abc import Iterable, Iterator
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

import attrs

from arena_async.errors import ConfigurationError, UnsafeUrlError
from arena_async.protocol.filenames import fold, safe_name, split_extension
from arena_async.protocol.files import RemoteFile
from arena_async.protocol.messages import Secret, scrub, show_url
from arena_async.protocol.urls import UrlPolicy, origin
from arena_async.providers.urls.links import Link, bears_secret
from arena_async.providers.urls.reading import LinkList, Row, read_line

__all__ = ["SERVICE", "Address", "Names", "UrlEntries", "digest_of"]

SERVICE = "urls"

#: Origins that are remembered while a list is iterated.
_MAX_ORIGINS = 4096
#: Digests of names have 8 bytes.
_DIGEST = 0xFFFF_FFFF_FFFF_FFFF
#: A directory may have files of any lists.
_TENANT = "any"
#: Most rows are addresses with nothing to decode, to hide or to check in their path and name.
_PLAIN = re.compile(r"(https?://[A-Za-z0-9.:_-]+)((?:/[A-Za-z0-9._~-]*)*/([A-Za-z0-9][A-Za-z0-9._-]*))").fullmatch


class _Parsed(NamedTuple):
    """A row: its address, origin, path and query, its directories and name, and the link if it is more than that."""

    url: str
    host: str
    path: str
    query: str
    parts: tuple[str, ...]
    link: Link | None = None


class Address(Secret):
    """An address with the headers that belong to it."""

    __slots__ = ("headers",)

    def __init__(self, text: str | None, headers: tuple[tuple[str, Secret], ...] = ()) -> None:
        self._text = text
        self.headers = headers


@attrs.frozen(eq=False, repr=False)
class UrlEntries:
    """
    Makes the entries of the rows of a list.

    Args:
        links: The list.
        policy: Which addresses are allowed.
        folders: Whether host and directories of an address become directories where the row has no name.
    """

    _links: LinkList
    _policy: UrlPolicy = attrs.field(kw_only=True)
    _folders: bool = attrs.field(kw_only=True)
    _origins: dict[str, tuple[str, str | None]] = attrs.field(factory=dict, init=False)

    def files(self, page: Iterable[Row]) -> list[RemoteFile]:
        """
        Return the entries of some rows.

        Raises:
            ConfigurationError: One of them cannot be an address, or is not allowed; the message has its position.
        """
        return [_remote_file(parsed) for _, parsed in self._parsed(page)]

    def paths(self, page: Iterable[Row]) -> list[str]:
        """
        Return the paths of some rows.

        Raises:
            ConfigurationError: As for :meth:`files`.
        """
        return ["/".join(map(safe_name, parsed.parts)) for _, parsed in self._parsed(page)]

    def named(self, page: Iterable[Row]) -> Iterator[tuple[str, str, Link]]:
        """Yield position, path and link of some rows."""
        for number, parsed in self._parsed(page):
            path = "/".join(map(safe_name, parsed.parts))
            yield f"{self._links.noun} {number}", path, parsed.link or Link(parsed.url)

    def _parsed(self, page: Iterable[Row]) -> Iterator[tuple[int, _Parsed]]:
        """Yield the rows that have an address, with their numbers."""
        problem = None
        for number, row in page:
            try:
                parsed = self._parse(row)
            except ConfigurationError as error:
                problem = f"{self._links.noun} {number}: {error}"
                break
            if parsed is not None:
                yield number, parsed
        if problem is not None:
            raise ConfigurationError(problem)

    def _parse(self, row: bytes | str | Secret | Link) -> _Parsed | None:
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
            return _Parsed(plain[0], self._host(base, plain[0]), path, "", (name,))
        link = content if isinstance(content, Link) else Link(content)
        url = link.url.reveal()
        base, path, query = _parts(url)
        host = self._host(base, url)
        parts = link.path
        if self._folders and link.name is None:
            folders = _folders_of(base, path)
            if bears_secret("/".join(folders)):
                raise ConfigurationError(
                    f"a directory of {show_url(url)} looks like a secret. Set the name of the file: name."
                )
            parts = (*folders, parts[-1])
        return _Parsed(url, host, path, query, parts, link)

    def _host(self, base: str, url: str) -> str:
        """Return the origin of an address; lists have many of the same one."""
        found = self._origins.get(base)
        if found is None:
            if len(self._origins) >= _MAX_ORIGINS:
                self._origins.clear()
            found = self._origins[base] = self._check(base)
        host, problem = found
        if problem is not None:
            raise ConfigurationError(problem.replace(base, show_url(url)))
        return host

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


def _remote_file(parsed: _Parsed) -> RemoteFile:
    url, host, path, query, parts, link = parsed
    *folders, name = parts
    stem, extension = split_extension(name)
    return RemoteFile(
        key=f"{SERVICE} {host}{path}" if link is None else _key(host, path, query, link.name),
        service=SERVICE,
        tenant=_TENANT,
        parts=tuple(folders),
        stem=stem,
        extension=extension,
        name=name,
        size=None if link is None else link.size,
        change="" if link is None else _change(link),
        sha256=None if link is None else link.sha256,
        md5=None if link is None else link.md5,
        fields={"host": host.partition("://")[2].rpartition(":")[0], "name": name},
        link=Address(url, () if link is None else link.headers),
        host=host,
        as_named=True,
    )


def digest_of(name: str) -> int:
    """Return a number for a name; two names that some file system takes for one have the same."""
    return hash(fold(name)) & _DIGEST


def _parts(url: str) -> tuple[str, str, str]:
    """Return scheme and host as they are written, the path, and the query."""
    before, _, query = url.partition("?")
    scheme, _, rest = before.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host}", slash + path, query


def _key(host: str, path: str, query: str, name: str | None) -> str:
    """Return the permanent key of a row, without any secret."""
    shown = scrub(path, maximum=1 << 20) if bears_secret(path) else path
    digest = ""
    if query and not bears_secret(query):
        digest = f"?~{hashlib.sha256(query.encode()).hexdigest()[:16]}"
    return f"{SERVICE} {host}{shown or '/'}{digest}{f' {name}' if name is not None else ''}"


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
