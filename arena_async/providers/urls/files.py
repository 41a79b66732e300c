"""Addresses as a set of files: all of them are checked before the first request."""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict
from collections.abc import AsyncGenerator, Collection, Iterable, Mapping, Sequence
from contextlib import aclosing
from datetime import datetime
from typing import Self, Unpack

from arena_async.errors import ConfigurationError, LinkExpiredError
from arena_async.http.client import BaseClient, NetworkSettings, http_options
from arena_async.http.session import Session
from arena_async.protocol.filenames import fold
from arena_async.protocol.files import Cost, FileSet, OpenedFile, RemoteFile
from arena_async.protocol.messages import Request, Secret, printable
from arena_async.protocol.quota import SlidingWindow
from arena_async.protocol.urls import UrlPolicy
from arena_async.providers.urls.adapter import PlainWeb
from arena_async.providers.urls.entries import SERVICE, Address, Names, UrlEntries, digest_of
from arena_async.providers.urls.links import Link
from arena_async.providers.urls.reading import LinkList, list_in_file, list_in_text, list_of_rows, open_list
from arena_async.transfer.models import PlannedFile

__all__ = ["UrlSet", "UrlSettings"]

#: A session has a base for relative paths; no address of a list is one, and this name cannot exist (RFC 2606).
_NOWHERE = "https://urls.invalid"
#: Entries that were opened lately are remembered. More than the files a pool has under way.
_MAX_RECENT = 1024


class UrlSettings(NetworkSettings, total=False):
    """The settings of :class:`UrlSet`."""

    folders: bool
    allow_http: bool
    allow_private: bool


class UrlSet(BaseClient, FileSet):
    """
    Files at any addresses: a set for ``Downloader`` and ``Mirror``, without any account.

    ::

        async with UrlSet(["https://example.org/a.zip"]) as files, Downloader("here") as downloads:
            report = await downloads.run(files)

    All rows are checked before the first request: one that cannot be an address is an error with its position. A few
    bytes of each row are kept for that; a list in a file is read again each time it is iterated. What is missing from a
    list may still be wanted, so nothing is ever marked gone or pruned.

    Args:
        rows: Addresses, or :class:`Link` values with a name, a size, digests or headers.
        folders: Keep host and directories of each address below the directory, where a row has no name.
        allow_http: Allow plain http too, which can be read and changed on the way.
        allow_private: Allow loopback and private networks too.
        settings: Timeouts, TLS, proxy, user agent and connector: :class:`~arena_async.http.client.NetworkSettings`.

    Raises:
        ConfigurationError: A setting cannot be used.
    """

    #: What a list lacks may still be wanted.
    narrowed = True
    scope = SERVICE
    #: A plan is run from the list again, without any request.
    restores = True

    def __init__(
        self,
        rows: Iterable[str | Secret | Link],
        *,
        folders: bool = False,
        allow_http: bool = False,
        allow_private: bool = False,
        **settings: Unpack[NetworkSettings],
    ) -> None:
        if isinstance(rows, str | bytes):
            raise ConfigurationError("UrlSet takes a list of addresses; UrlSet.parse takes a list as one text.")
        policy = UrlPolicy(allow_http=allow_http, allow_private=allow_private, allow_ports=True)
        self._policy, self._folders = policy, folders
        self._use(list_of_rows(tuple(rows)))
        web = PlainWeb()
        session = Session(
            web,
            web,
            SlidingWindow(limit=1),  # Nothing is metered, so it is never used.
            base_url=_NOWHERE,
            urls=policy,
            options=http_options(settings),
        )
        super().__init__(session)
        self._checked: tuple[object] | None = None
        self._checking = asyncio.Lock()
        self._recent: OrderedDict[str, RemoteFile] = OrderedDict()

    @classmethod
    def read(cls, path: str | os.PathLike[str], **settings: Unpack[UrlSettings]) -> Self:
        """
        Return the addresses in a file: one a line, or one JSON object a line; ``#`` begins a comment.

        The file is read when the set is iterated, and once before that.

        Args:
            path: The path of the file.
            settings: The settings of the class.
        """
        files = cls((), **settings)
        files._use(list_in_file(path))
        return files

    @classmethod
    def parse(cls, text: str | bytes, *, name: str = "the list", **settings: Unpack[UrlSettings]) -> Self:
        """
        Return the addresses in a text of the same form as the file that :meth:`read` takes.

        Args:
            text: The text.
            name: What to call it in errors.
            settings: The settings of the class.
        """
        files = cls((), **settings)
        files._use(list_in_text(text, name))
        return files

    def _use(self, links: LinkList) -> None:
        self._links = links
        self._entries = UrlEntries(links, policy=self._policy, folders=self._folders)

    def __repr__(self) -> str:
        return "<UrlSet>"

    @property
    def requests_sent(self) -> int:
        """Requests that were sent so far, those that redirects led to included."""
        return self._session.unmetered_sent

    async def check(self) -> None:
        """
        Check every row, once for the same content. Sends nothing and writes nothing.

        Raises:
            ConfigurationError: A row cannot be an address, two rows would have the same path, or there is none at all;
                the message has the position and no secret.
            StorageError: The disk failed.
        """
        async with self._checking, open_list(self._links) as (state, next_page):
            if self._checked == (state,):
                return
            names = Names()
            while (page := await next_page()) is not None:
                names.add([entry.local_path for _, entry in self._entries.of(page)])
            if not names.count:
                raise ConfigurationError("The list names no address; it takes one a line.")
            doubtful = names.doubtful()
            if doubtful:
                await self._reject_equal_paths(doubtful)
            self._checked = (state,)

    async def __aiter__(self) -> AsyncGenerator[RemoteFile, None]:
        """
        List the files, after :meth:`check`.

        Raises:
            ConfigurationError: A row cannot be an address, as for :meth:`check`.
            SourceChangedError: The list was changed while it was read.
            StorageError: The disk failed.
        """
        await self.check()
        async with open_list(self._links) as (_, next_page):
            while (page := await next_page()) is not None:
                for _, entry in self._entries.of(page):
                    yield entry.remote_file()

    async def open(
        self, file: RemoteFile, *, offset: int = 0, validator: str | None = None, until: int | None = None
    ) -> OpenedFile:
        """
        Request the content once, from ``offset`` on if it still matches ``validator``, and not from ``until`` on.

        Redirects are followed; the headers of a row do not go along to another origin.

        Raises:
            NotFoundError: There is nothing at the address.
            PermissionDeniedError: The server rejects the request.
            ApiError: Another error response; ``transient`` says whether it may work later.
            LinkExpiredError: The entry has lost its address, as in a pickle; :meth:`find` returns it.
            UnsafeUrlError: The address, or one it redirects to, must not be contacted.
            TransportError: No usable response was received.
        """
        link = file.link
        if not isinstance(link, Address):  # a pickle loses it
            raise LinkExpiredError(
                f"{printable(file.name)}: its address is not known here; addresses are never stored. List again.",
                file=file.key,
            )
        self._recent[file.key] = file
        self._recent.move_to_end(file.key)
        if len(self._recent) > _MAX_RECENT:
            self._recent.popitem(last=False)
        headers = [(name, value.reveal()) for name, value in link.headers] if link.headers else ()
        request = Request(method="GET", path=link.reveal(), headers=headers, scope=None, metered=False)
        return await self._session.stream(request, offset=offset, validator=validator, until=until)

    async def find(self, keys: Collection[str]) -> list[RemoteFile]:
        """Return the entries of some keys: of files that were opened lately as they were, of others from the list."""
        found = {key: self._recent[key] for key in keys if key in self._recent}
        missing = set(keys) - set(found)
        if missing:
            async with aclosing(aiter(self)) as files:
                async for file in files:
                    if file.key in missing:
                        found[file.key] = file
                        missing.discard(file.key)
                    if not missing:
                        break
        return list(found.values())

    async def restore(self, rows: Sequence[PlannedFile]) -> list[RemoteFile]:
        """Return the entries of planned files from the list, without any request."""
        return await self.find([row.key for row in rows])

    def since(self, watermarks: Mapping[str, datetime]) -> UrlSet:  # noqa: ARG002  no server lists changes
        """Return the set itself."""
        return self

    def cost(self) -> Cost:
        """Return the cost: a request for each file, which no quota counts."""
        return Cost(listing=0, per_file=1, exact=True, metered=False)

    async def _reject_equal_paths(self, doubtful: Collection[int]) -> None:
        """
        Raise if two rows would have the same path. Equal rows count as one.

        Raises:
            ConfigurationError: There are two.
        """
        first: dict[str, tuple[str, Link]] = {}
        async with open_list(self._links) as (_, next_page):
            while (page := await next_page()) is not None:
                for where, entry in self._entries.of(page):
                    path = entry.local_path
                    if digest_of(path) not in doubtful:
                        continue
                    link = entry.link or Link(entry.url)
                    before = first.setdefault(fold(path), (where, link))
                    if before[1] != link:
                        raise ConfigurationError(
                            f"{where}: its path would be {printable(path)}, as that of {before[0]}. Set names, or "
                            "keep the directories of the addresses (folders, --folders)."
                        )
