"""What sets of files behind listed links do alike: they are walked, opened, renewed by their page, and priced."""

from __future__ import annotations

import logging
import math
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import aclosing
from datetime import datetime, timedelta
from typing import Any, Generic, Protocol, TypeVar

from arena_async.net.pager import AHEAD, Pager
from arena_async.net.session import Session
from arena_async.providers.centrepoint.asking import Asking
from arena_async.providers.centrepoint.dialect import LARGEST_PAGE
from arena_async.providers.centrepoint.entries import Converted, Entries
from arena_async.providers.centrepoint.links import Listed
from arena_async.providers.centrepoint.renewing import FreshLinks
from arena_async.wire.contracts import OpenedFile, Price, RemoteFile
from arena_async.wire.paging import Page

__all__ = ["LinkedFileSet", "LinkedQuery"]


class LinkedQuery(Hashable, Protocol):
    """Which files are asked for."""

    @property
    def scope(self) -> str:
        """Its name, without any secret."""
        ...

    @property
    def narrowed(self) -> bool:
        """Whether it leaves out files that exist."""
        ...


Q = TypeVar("Q", bound=LinkedQuery)
R = TypeVar("R")


class LinkedFileSet(ABC, Generic[Q, R]):
    """
    Files behind signed links that a list gives.

    It can be walked any number of times. Its files have no size beforehand. Links that are over are renewed by listing
    their page again, once for all files on it.

    Args:
        asking: Asks for lists.
        query: Which files.
        tenant: Whose files they are: origin of the service and client.
        now: Gives the time (aware), to judge how long a link will live; None for the service's own clock.
    """

    #: What an empty list means, for the log.
    _empty = ""

    def __init__(self, asking: Asking, query: Q, *, tenant: str, now: Callable[[], datetime] | None = None) -> None:
        self._asking = asking
        self._query = query
        self._tenant = tenant
        self._now = now or asking.session.now
        self._total: int | None = None
        self._links = FreshLinks(asking.session, self._list_page, self._now)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.scope}>"

    @property
    def session(self) -> Session:
        """What sends the requests."""
        return self._asking.session

    @property
    def scope(self) -> str:
        """The name of the query, without any secret."""
        return self._query.scope

    @property
    def narrowed(self) -> bool:
        """Whether a filter leaves out files that exist."""
        return self._query.narrowed

    @property
    def requests_sent(self) -> int:
        """Metered requests that the session has sent so far."""
        return self.session.requests_sent

    def __aiter__(self) -> AsyncIterator[RemoteFile]:
        """
        List the files, a page of up to 100 at a time.

        Raises:
            ListingError: The list contradicts itself, or holds what was not asked for.
            NotFoundError: What the list belongs to is not there, or this client does not see it.
            ConfigurationError: The identifier of the subject means more than one.
        """
        return Entries(self._pages_of(self._query), self._note)

    async def open(
        self, file: RemoteFile, *, offset: int = 0, validator: str | None = None, until: int | None = None
    ) -> OpenedFile:
        """
        Ask the file host for the content once, from ``offset`` on if it still matches ``validator``.

        The signed link goes out byte for byte and without any credential of the API. A link that is over, or about to
        be, is not tried: its page is listed again first, unless another file of that page had it listed already.

        Raises:
            LinkExpiredError: The link is over, or not known here, and its page does not list the same version any more;
                :meth:`find` gives a new one.
            SourceChangedError: The content was replaced; :meth:`find` gives the new entry.
            PermissionDeniedError: The file host refuses for another reason.
            ApiError: Another refusal; ``transient`` says whether it may work later.
            TransportError: No usable answer came.
        """
        return await self._links.open(file, offset=offset, validator=validator, until=until)

    def price(self) -> Price:
        """Say what it costs: the pages of the list. Content comes from another host and does not count."""
        return Price(listing=self._pages(), per_file=0, exact=self._total is not None)

    @abstractmethod
    def _pager(self, query: Q, *, any_row: bool, start: int = 0, ahead: int = AHEAD) -> Pager[R]:
        """Give the list of a query; ``any_row`` takes rows that were not asked for too."""

    @abstractmethod
    def _entry(self, row: R, came: datetime, listed: Listed) -> RemoteFile:
        """Give the entry of a row that came at some time."""

    def _pages(self) -> int:
        """Give the pages of the list as it was last seen, else the least there can be."""
        return max(1, math.ceil((self._total or 0) / LARGEST_PAGE))

    def _pages_of(self, query: Q, *, any_row: bool = False) -> Converted:
        """List page by page, as entries."""
        pages = self._pager(query, any_row=any_row).pages()
        return Converted(pages, lambda page: self._entries(page, query, self._links.mint()))

    def _entries(self, page: Page, query: Q, mint: int) -> list[RemoteFile]:
        """Make entries of the rows of a page. Links are of the moment when it came, not when it is read."""
        came, listed = self._now() - timedelta(seconds=page.waited), Listed(query, page.offset, mint)
        return [self._entry(row, came, listed) for row in page.items]

    async def _list_page(self, query: Any, offset: int, mint: int) -> list[RemoteFile]:
        """List one page again, for the links on it. The query is one that a link of this set was listed by."""
        async with aclosing(self._pager(query, any_row=True, start=offset, ahead=1).pages()) as pages:
            page = await anext(pages, None)
        return self._entries(page, query, mint) if page else []

    def _note(self, page: Page) -> None:
        """Remember how long the list is, and say what an empty one means."""
        self._total = page.total
        if page.total == 0:
            logging.getLogger("arena_async").info("%s lists no files. %s", self.scope, self._empty)
