"""Sets of files behind the signed URLs that a list holds: listed, opened, and refreshed by their page."""

from __future__ import annotations

import logging
import math
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Collection
from contextlib import aclosing
from datetime import datetime, timedelta
from typing import Any, ClassVar, Generic, Self, TypeVar

import attrs

from arena_async.http.paginator import ListQuery, Paginator
from arena_async.http.session import Session
from arena_async.protocol.files import Cost, OpenedFile, RemoteFile
from arena_async.protocol.messages import Request
from arena_async.protocol.pagination import ListShape, Page
from arena_async.providers.centrepoint.adapter import MAX_PAGE_SIZE
from arena_async.providers.centrepoint.api import Api, OwnerCheck
from arena_async.providers.centrepoint.identifiers import named_subject, number
from arena_async.providers.centrepoint.link_refresh import FreshLinks
from arena_async.providers.centrepoint.links import ListedLink

__all__ = ["FileQuery", "LinkedFileSet"]

R = TypeVar("R")


@attrs.frozen
class FileQuery(ABC, Generic[R]):
    """
    Which files of a study are requested.

    Args:
        study: The number of the study.
        subject: The number of the subject as an ``int``, its identifier as text, or None for all.
    """

    shape: ClassVar[ListShape]
    #: Pages that may be requested in advance.
    prefetch: ClassVar[int]

    study: int = attrs.field(converter=number)
    subject: int | str | None = attrs.field(default=None, converter=attrs.converters.optional(named_subject))

    @property
    @abstractmethod
    def scope(self) -> str:
        """The name of the query, without any secret."""

    @property
    @abstractmethod
    def narrowed(self) -> bool:
        """Whether it leaves out files that exist."""

    @property
    @abstractmethod
    def request(self) -> Request:
        """The request for the list, page aside."""

    @abstractmethod
    def reader(self, *, any_row: bool = False) -> Callable[[Any], R]:
        """
        Return the reader of the rows of the list. It raises ListingError for a row that was not requested.

        Args:
            any_row: Let rows pass that the filters leave out.
        """

    def known_owner(self, api: Api) -> OwnerCheck | None:
        """Return the check, after a 404, whether the owner of the list exists."""
        return api.belongs_to(self.study, self.subject)

    async def resolved(self, api: Api) -> Self:
        """
        Return the query with the number of the subject instead of its identifier.

        Raises:
            NotFoundError: No subject of the study has this identifier.
            ConfigurationError: Several have it.
        """
        if not isinstance(self.subject, str):
            return self
        return attrs.evolve(self, subject=await api.resolve(self.study, self.subject))

    def paginator(
        self, api: Api, *, any_row: bool = False, start: int = 0, prefetch: int | None = None
    ) -> Paginator[R]:
        """
        Return the paginator of the list.

        Args:
            api: Sends the requests.
            any_row: As for :meth:`reader`.
            start: The offset to begin at.
            prefetch: Pages that may be requested in advance; None for the usual number of this list.
        """

        async def resolve() -> ListQuery[R]:
            query = await self.resolved(api)
            return ListQuery(query.request, self.shape, query.reader(any_row=any_row))

        query = ListQuery(
            self.request,
            self.shape,
            self.reader(any_row=any_row),
            resolve=resolve if isinstance(self.subject, str) else None,
            empty_if=self.known_owner(api),
        )
        return Paginator(api.session, query, start=start, ahead=prefetch or self.prefetch)


Q = TypeVar("Q", bound=FileQuery[Any])


class LinkedFileSet(ABC, Generic[Q, R]):
    """
    Files behind the signed URLs that a list holds.

    It can be iterated any number of times. Its files have no size beforehand. Expired URLs are refreshed by listing
    their page again, once for all files on it.

    Args:
        api: Sends the requests.
        query: Which files.
        tenant: Origin of the service, and client.
        now: Returns the time (aware), to compare with the end of a URL; None for the service's own clock.
    """

    #: What an empty list means, for the log.
    _empty: ClassVar[str]

    def __init__(self, api: Api, query: Q, *, tenant: str, now: Callable[[], datetime] | None = None) -> None:
        self._api = api
        self._query = query
        self._tenant = tenant
        self._now = now or api.session.now
        self._total: int | None = None
        self._links = FreshLinks(api.session, self._list_page, self._now)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.scope}>"

    @property
    def session(self) -> Session:
        """The session that sends the requests."""
        return self._api.session

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

    async def __aiter__(self) -> AsyncGenerator[RemoteFile, None]:
        """
        List the files, a page of up to 100 at a time.

        Raises:
            ListingError: The list contradicts itself, or holds what was not requested.
            NotFoundError: What the list belongs to does not exist, or this client does not see it.
            ConfigurationError: The identifier of the subject means more than one.
        """
        async with aclosing(self._pages_of(self._query)) as pages:
            async for page in pages:
                self._note(page)
                for file in page.items:
                    yield file

    async def open(
        self, file: RemoteFile, *, offset: int = 0, validator: str | None = None, until: int | None = None
    ) -> OpenedFile:
        """
        Request the content once, from ``offset`` on if it still matches ``validator``.

        The signed URL is sent byte for byte and without any credential of the API. One that is expired, or about to
        expire, is not tried: its page is listed again first, unless another file of that page had it listed already.

        Raises:
            LinkExpiredError: The URL is expired, or not known here, and its page does not list the same version any
                more; :meth:`find` returns a new one.
            SourceChangedError: The content was replaced; :meth:`find` returns the new entry.
            PermissionDeniedError: The file host rejects the request for another reason.
            ApiError: Another error response; ``transient`` says whether it may work later.
            TransportError: No usable response was received.
        """
        return await self._links.open(file, offset=offset, validator=validator, until=until)

    @abstractmethod
    async def find(self, keys: Collection[str]) -> list[RemoteFile]:
        """List again for some keys, with the fewest requests, and return their entries with fresh URLs."""

    def since(self, watermark: datetime | None) -> Self:
        """Return the set itself: the service cannot filter on changes."""
        del watermark
        return self

    def cost(self) -> Cost:
        """Return the cost: the pages of the list. Content is served by another host and does not count."""
        return Cost(listing=self._pages(), per_file=0, exact=self._total is not None)

    @abstractmethod
    def _entry(self, row: R, listed_at: datetime, listed: ListedLink) -> RemoteFile:
        """Return the entry of a row."""

    def _pages(self) -> int:
        """Return the number of pages of the list as it was last seen, else the least there can be."""
        return max(1, math.ceil((self._total or 0) / MAX_PAGE_SIZE))

    async def _pages_of(self, query: Q, *, any_row: bool = False) -> AsyncGenerator[Page, None]:
        """Yield the pages of a list, with entries for rows."""
        async with aclosing(query.paginator(self._api, any_row=any_row).pages()) as pages:
            async for page in pages:
                yield attrs.evolve(page, items=tuple(self._entries(page, query, self._links.next_number())))

    async def _renewed(self, keys: Collection[str]) -> tuple[list[RemoteFile], set[str]]:
        """Return the entries of keys whose URL was rejected, from their pages, and the keys that are still to find."""
        files = {key: found for key in keys if (found := await self._links.find(key))}
        return [file for found in files.values() for file in found], set(keys) - set(files)

    def _entries(self, page: Page, query: Q, number: int) -> list[RemoteFile]:
        """Return the entries of the rows of a page. Its URLs date from when it was received, not from now."""
        listed_at, listed = self._now() - timedelta(seconds=page.waited), ListedLink(query, page.offset, number)
        return [self._entry(row, listed_at, listed) for row in page.items]

    async def _list_page(self, query: Any, offset: int, number: int) -> list[RemoteFile]:
        """List one page again, for its URLs. The query is one of this set."""
        paginator = query.paginator(self._api, any_row=True, start=offset, prefetch=1)
        async with aclosing(paginator.pages()) as pages:
            page = await anext(pages, None)
        return self._entries(page, query, number) if page else []

    def _note(self, page: Page) -> None:
        """Remember how long the list is, and log what an empty one means."""
        self._total = page.total
        if page.total == 0:
            logging.getLogger("arena_async").info("%s lists no files. %s", self.scope, self._empty)
