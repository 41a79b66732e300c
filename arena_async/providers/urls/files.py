"""Addresses as a set of files: looked at as a whole before the first request, then given one by one."""

from __future__ import annotations

import asyncio
import os
import ssl as tls
from collections import OrderedDict
from collections.abc import AsyncGenerator, Collection, Iterable, Sequence
from contextlib import aclosing
from datetime import datetime
from types import TracebackType
from typing import Any, Self

from arena_async.errors import ConfigurationError, LinkExpiredError
from arena_async.net.session import Session
from arena_async.options import HttpOptions, Timeouts
from arena_async.providers.urls.dialect import NoLogin, PlainWeb
from arena_async.providers.urls.entries import SERVICE, Address, Entries, Names, called, mark_of
from arena_async.providers.urls.links import Link
from arena_async.providers.urls.reading import FileList, LinkList, Placed, RowList, TextList, walk
from arena_async.transfer.planning import PlannedFile
from arena_async.wire.contracts import OpenedFile, Price, RemoteFile
from arena_async.wire.messages import Request, Secret, printable
from arena_async.wire.names import fold
from arena_async.wire.quota import SlidingWindow
from arena_async.wire.urls import UrlPolicy

__all__ = ["UrlSet"]

#: A session has a base for relative paths; no address of a list is one, and this name exists nowhere (RFC 2606).
_NOWHERE = "https://urls.invalid"
#: Entries that were opened lately are remembered. More than the files a pool has under way.
_MOST_RECENT = 1024


class UrlSet:
    """
    Files at addresses of your own: a set for ``Downloader`` and ``Mirror``, without any account.

    ::

        async with UrlSet(["https://example.org/a.zip"]) as files, Downloader("here") as downloads:
            report = await downloads.run(files)

    All rows are looked at before the first request: one that cannot be meant is an error that names it. What is kept of
    a row meanwhile are a few bytes; a list in a file is read again each time it is walked. What is missing from a list
    may still be wanted, so that nothing is ever gone or pruned.

    Args:
        rows: Addresses, or :class:`Link` values with a name, a size, digests or headers.
        folders: Keep host and folders of each address below the folder, where no name is given.
        allow_http: Plain http is taken too; whoever is on the way can read and change what comes.
        allow_private: Loopback and private networks are taken too.
        timeouts: How long the network may keep us waiting; None for the defaults.
        ssl: A TLS context, for instance for a company's own authority; None for the system's.
        proxy: The address of an HTTP proxy, or None for none; the environment is not looked at.
        user_agent: What goes before the library's own name in ``User-Agent``.
        connector: An aiohttp connector whose pool, TLS and DNS are shared; whoever made it closes it.

    Raises:
        ConfigurationError: A setting cannot be used.
    """

    #: What a list lacks may still be wanted.
    narrowed = True
    scope = SERVICE
    #: A plan is carried out from the list again, without any request.
    restores = True

    def __init__(
        self,
        rows: Iterable[str | Secret | Link],
        *,
        folders: bool = False,
        allow_http: bool = False,
        allow_private: bool = False,
        timeouts: Timeouts | None = None,
        ssl: tls.SSLContext | None = None,
        proxy: str | None = None,
        user_agent: str | None = None,
        connector: Any = None,
    ) -> None:
        if isinstance(rows, str | bytes):
            raise ConfigurationError("UrlSet takes a list of addresses; UrlSet.parse takes a list as one text.")
        self._links: LinkList = RowList(tuple(rows))
        policy = UrlPolicy(allow_http=allow_http, allow_private=allow_private, allow_ports=True)
        self._entries = Entries(policy=policy, folders=folders)
        self._session = Session(
            NoLogin(),
            PlainWeb(),
            SlidingWindow(limit=1),  # Nothing is metered, so that nobody ever asks it.
            base_url=_NOWHERE,
            urls=policy,
            options=HttpOptions(
                timeouts=timeouts or Timeouts(), ssl=ssl, proxy=proxy, user_agent=user_agent, connector=connector
            ),
        )
        self._checked: tuple[object] | None = None
        self._checking = asyncio.Lock()
        self._recent: OrderedDict[str, RemoteFile] = OrderedDict()

    @classmethod
    def read(cls, path: str | os.PathLike[str], **settings: Any) -> Self:
        """
        Give the addresses in a file: one a line, or one JSON object a line; ``#`` begins a comment.

        The file is read when the set is walked, and once before that.

        Args:
            path: Where it lies.
            settings: The settings of the class.
        """
        files = cls((), **settings)
        files._links = FileList(path)
        return files

    @classmethod
    def parse(cls, text: str | bytes, *, name: str = "the list", **settings: Any) -> Self:
        """
        Give the addresses in a text of the same form as the file that :meth:`read` takes.

        Args:
            text: The text.
            name: What to call it in errors.
            settings: The settings of the class.
        """
        files = cls((), **settings)
        files._links = TextList(text, name=name)
        return files

    def __repr__(self) -> str:
        return "<UrlSet>"

    @property
    def session(self) -> Session:
        """What sends the requests."""
        return self._session

    @property
    def requests_sent(self) -> int:
        """Requests that were sent so far, those that redirects led to included."""
        return self._session.unmetered_sent

    async def check(self) -> None:
        """
        Look at every row, once for the same content. Sends nothing and writes nothing.

        Raises:
            ConfigurationError: A row cannot be meant, two rows would be called the same, or there is none at all; the
                message names the place and shows no secret.
            StorageError: The disk refused.
        """
        async with self._checking:
            seen: list[object] = []

            def is_new(state: object) -> bool:
                seen.append(state)
                return self._checked != (state,)

            names = Names()
            async with aclosing(walk(self._links, is_new)) as pages:
                async for page in pages:
                    names.add(called(self._entries.of(page)))
            if self._checked == tuple(seen):
                return
            if not names.count:
                raise ConfigurationError("The list names no address; it takes one a line.")
            doubtful = names.doubtful()
            if doubtful:
                await self._refuse_two_of_a_name(doubtful)
            self._checked = (seen[0],)

    async def __aiter__(self) -> AsyncGenerator[RemoteFile, None]:
        """
        List the files, after :meth:`check`.

        Raises:
            ConfigurationError: A row cannot be meant, as for :meth:`check`.
            SourceChangedError: The list was changed while it was read.
            StorageError: The disk refused.
        """
        await self.check()
        async with aclosing(walk(self._links)) as pages:
            async for page in pages:
                for file in self._entries.of(page):
                    yield file

    async def open(
        self, file: RemoteFile, *, offset: int = 0, validator: str | None = None, until: int | None = None
    ) -> OpenedFile:
        """
        Ask for the content once, from ``offset`` on if it still matches ``validator``, and not from ``until`` on.

        Redirects are followed; the headers of a row do not go along to another origin.

        Raises:
            NotFoundError: There is nothing at the address.
            PermissionDeniedError: The server does not give it.
            ApiError: Another refusal; ``transient`` says whether it may work later.
            LinkExpiredError: The entry has lost its address, as in a pickle; :meth:`find` gives it.
            UnsafeUrlError: The address, or one it redirects to, must not be contacted.
            TransportError: No usable answer came.
        """
        link = file.link
        if not isinstance(link, Address) or not link:
            raise LinkExpiredError(
                f"{printable(file.name)}: its address is not known here, addresses are never stored. List again.",
                file=file.key,
            )
        self._recent[file.key] = file
        self._recent.move_to_end(file.key)
        if len(self._recent) > _MOST_RECENT:
            self._recent.popitem(last=False)
        headers = [(name, value.reveal()) for name, value in link.headers]
        request = Request(method="GET", path=link.reveal(), headers=headers, scope=None, metered=False)
        return await self._session.stream(request, offset=offset, validator=validator, until=until)

    async def find(self, keys: Collection[str]) -> list[RemoteFile]:
        """Give the entries of some keys: of files that were opened lately as they were, of others from the list."""
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
        """Give the entries of planned files from the list, without any request."""
        return await self.find([row.key for row in rows])

    def since(self, watermark: datetime | None) -> UrlSet:
        """Give the set itself: nobody says what has changed."""
        del watermark
        return self

    def price(self) -> Price:
        """Say what it costs: a request for each file, which no allowance counts."""
        return Price(listing=0, per_file=1, exact=True, metered=False)

    async def aclose(self) -> None:
        """End every request and connection of this set. Safe to call twice."""
        await self._session.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _refuse_two_of_a_name(self, doubtful: Collection[int]) -> None:
        """
        Raise for two rows that would be called the same. Rows that repeat another word for word are one.

        Raises:
            ConfigurationError: There are two.
        """
        first: dict[str, Placed] = {}
        async with aclosing(walk(self._links)) as pages:
            async for page in pages:
                for row, path in zip(page, called(self._entries.of(page)), strict=True):
                    if mark_of(path) not in doubtful:
                        continue
                    before = first.setdefault(fold(path), row)
                    if before[1] != row[1]:
                        raise ConfigurationError(
                            f"{row[0]}: it would be called {printable(path)}, as {before[0]} is. Give them names, or "
                            "keep the folders of the addresses (folders, --folders)."
                        )
