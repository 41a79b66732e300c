"""
What a row of a list is to the pool: a file with a key, a place and what it must be like.

========================  =============================================================================================
what it is called         the name that is given, else the last part of the address, below the folder
what names it for ever    the address without its query, what a query without any secret asks for, and the given name
what shows a change       the digest that is given, else the size that is given, else nothing
========================  =============================================================================================

A signature is another one tomorrow, so that a query that bears one names nothing.
"""

from __future__ import annotations

import hashlib
import itertools
from array import array
from collections.abc import Iterable
from urllib.parse import unquote, urlsplit

import attrs

from arena_async.errors import ConfigurationError, UnsafeUrlError
from arena_async.providers.urls.links import Link, bears_secret
from arena_async.providers.urls.reading import Placed
from arena_async.transfer.planning import place
from arena_async.wire.contracts import RemoteFile
from arena_async.wire.messages import Secret, scrub, show_url
from arena_async.wire.names import fold, split_extension
from arena_async.wire.urls import UrlPolicy, origin

__all__ = ["SERVICE", "Address", "Entries", "Names", "called", "mark_of"]

SERVICE = "urls"
#: Origins that are remembered while a list is walked.
_MOST_SEEN = 4096
#: A folder may hold what anybody's lists name.
_TENANT = "any"


class Address(Secret):
    """An address with the headers that belong to it."""

    __slots__ = ("headers",)

    def __init__(self, text: str | None, headers: tuple[tuple[str, Secret], ...] = ()) -> None:
        super().__init__(text)
        self.headers = headers


@attrs.frozen(kw_only=True)
class Entries:
    """
    Makes entries of rows.

    Args:
        policy: Whom we may contact.
        folders: Whether host and folders of an address become folders where no name is given.
    """

    policy: UrlPolicy
    folders: bool
    _seen: dict[str, tuple[str, str | None]] = attrs.field(factory=dict, init=False)

    def of(self, page: Iterable[Placed]) -> list[RemoteFile]:
        """
        Make the entries of some rows.

        Raises:
            ConfigurationError: One of them must not be contacted, or has no name that may be written.
        """
        return [self._entry(where, link) for where, link in page]

    def _entry(self, where: str, link: Link) -> RemoteFile:
        url = link.url.reveal()
        place, path, query = _parts(url)
        host, problem = self._look(place)
        if problem is not None:
            raise ConfigurationError(f"{where}: {problem.replace(place, show_url(url))}")
        *folders, name = link.path
        if self.folders and link.name is None:
            folders = _folders_of(place, path)
            if bears_secret("/".join(folders)):
                raise ConfigurationError(
                    f"{where}: a folder of {show_url(url)} looks like a secret. Say what to call the file: name."
                )
        stem, extension = split_extension(name)
        return RemoteFile(
            key=_key(host, path, query, link.name),
            service=SERVICE,
            tenant=_TENANT,
            parts=tuple(folders),
            stem=stem,
            extension=extension,
            name=name,
            size=link.size,
            change=_change(link),
            sha256=link.sha256,
            md5=link.md5,
            fields={"host": host.partition("://")[2].rpartition(":")[0], "name": name},
            link=Address(url, link.headers),
            host=host,
            as_named=True,
        )

    def _look(self, place: str) -> tuple[str, str | None]:
        """Give the origin of an address, and why it must not be contacted or None; lists have many of the same one."""
        if place not in self._seen:
            if len(self._seen) >= _MOST_SEEN:
                self._seen.clear()
            self._seen[place] = (origin(place), self._refusal(place))
        return self._seen[place]

    def _refusal(self, place: str) -> str | None:
        try:
            self.policy.check(place)
        except UnsafeUrlError as error:
            plain = place[:5].lower() == "http:" and not self.policy.allow_http
            allow = "allow_http (--allow-http)" if plain else "allow_private (--allow-private)"
            return f"{error} If that is meant, allow it with {allow}."
        return None


class Names:
    """Which names were seen, in 8 bytes each."""

    def __init__(self) -> None:
        self.count = 0
        self._marks = [array("Q") for _ in range(256)]

    def add(self, names: Iterable[str]) -> None:
        """Note some."""
        for name in names:
            mark = mark_of(name)
            self._marks[mark & 0xFF].append(mark)
            self.count += 1

    def doubtful(self) -> set[int]:
        """Give the marks that came more than once."""
        return {
            mark for marks in self._marks for mark, following in itertools.pairwise(sorted(marks)) if mark == following
        }


def called(files: Iterable[RemoteFile]) -> list[str]:
    """Give where files go."""
    return [str(place(file)) for file in files]


def mark_of(name: str) -> int:
    """Give a number for a name; two names that some file system takes for one have the same."""
    return int.from_bytes(hashlib.blake2b(fold(name).encode(), digest_size=8).digest(), "big")


def _parts(url: str) -> tuple[str, str, str]:
    """Give scheme and host as they are written, the path, and the query."""
    before, _, query = url.partition("?")
    scheme, _, rest = before.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host}", slash + path, query


def _key(host: str, path: str, query: str, name: str | None) -> str:
    """Give what names a row for ever, without any secret."""
    shown = scrub(path, most=1 << 20) if bears_secret(path) else path
    asked = ""
    if query and not bears_secret(query):
        asked = f"?~{hashlib.sha256(query.encode()).hexdigest()[:16]}"
    return f"{SERVICE} {host}{shown or '/'}{asked}{f' {name}' if name is not None else ''}"


def _change(link: Link) -> str:
    """Give what shows that another content is wanted than before."""
    if link.sha256 is not None:
        return f"sha256:{link.sha256}"
    if link.md5 is not None:
        return f"md5:{link.md5}"
    return "" if link.size is None else f"size:{link.size}"


def _folders_of(place: str, path: str) -> list[str]:
    """Give host and folders of an address."""
    parts = urlsplit(place)
    host = (parts.hostname or "") + (f"_{parts.port}" if parts.port else "")
    return [host, *(unquote(part, errors="replace") for part in path.split("/")[:-1] if part)]
