"""
Lists, requested page by page as their items are read.

::

    first page ──▶ is the total known, and can it be trusted?
                      no:  the next page is requested when the items before it are used up
                      yes: up to four pages are requested at once and returned in order; never more than four are kept
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Any, Generic, TypeVar

import attrs

from arena_async.errors import (
    ApiError,
    ClosedError,
    ConfigurationError,
    DecodeError,
    NotFoundError,
    QuotaExhaustedError,
)
from arena_async.http.exchange import TOO_LARGE
from arena_async.http.session import Session
from arena_async.protocol.decoding import parse_json
from arena_async.protocol.messages import Request
from arena_async.protocol.pagination import ListShape, Page, PageRequest, Pagination

__all__ = ["AHEAD", "ItemIterator", "ListQuery", "PageIterator", "Paginator"]

_LOG = logging.getLogger("arena_async")

T = TypeVar("T")

#: Pages that are being requested, or received and not used up, at most.
AHEAD = 4


@attrs.frozen
class ListQuery(Generic[T]):
    """
    The query of a list.

    Args:
        request: The request without offset and limit.
        shape: The properties of the list.
        read: Decodes a row.
        resolve: Returns the query to send, if that takes a request of its own; called once for each pass, before its
            first page. ``request`` is then only shown.
        empty_if: Returns whether "not found" for the first page means an empty list; None if it never does.
    """

    request: Request
    shape: ListShape
    read: Callable[[Any], T]
    resolve: Callable[[], Awaitable[ListQuery[T]]] | None = None
    empty_if: Callable[[NotFoundError], Awaitable[bool]] | None = None


class Paginator(Generic[T]):
    """
    A list that has not been requested yet.

    ``async for`` yields the items; every pass requests them again. A page is requested when the items before it are
    used up, or a few pages earlier if the total is known. Leaving a loop early leaves nothing running. A listing is
    complete or it is an error.

    After an error :attr:`cursor` is where it stopped: a new ``Paginator`` with ``start=cursor`` continues there without
    requesting the rows before it again.

    Args:
        session: Sends the requests.
        query: What is requested.
        limit: Rows of one page; None for the largest page.
        start: The offset to begin at.
        ahead: Pages that may be requested or kept at a time. More than one only if the shape declares a total.

    Raises:
        ConfigurationError: ``limit``, ``start`` or ``ahead`` is out of range.
    """

    def __init__(
        self, session: Session, query: ListQuery[T], *, limit: int | None = None, start: int = 0, ahead: int = AHEAD
    ) -> None:
        if ahead < 1:
            raise ConfigurationError(f"ahead is {ahead}; it takes a number of pages of at least 1.")
        Pagination(query.shape, limit=limit, start=start)
        self._session = session
        self._query = query
        self._limit = limit
        self._start = start
        self._ahead = ahead
        self._position = _Position(start)

    def __repr__(self) -> str:
        return f"<Paginator {self._query.request.line}>"

    @property
    def cursor(self) -> int:
        """The offset at which the newest pass can be continued: all rows before it were returned."""
        return self._position.offset

    def __aiter__(self) -> ItemIterator[T]:
        return ItemIterator(self._begin(self._limit))

    def pages(self) -> PageIterator[T]:
        """
        Return the pages, with decoded items; a page without new rows is left out unless it is the only one.

        Raises:
            ListingError: The listing looped, shrank or contradicts itself.
            DecodeError: A page is not what the service documents, twice in a row.
            ApiError: The service responded with an error, as for :meth:`Session.send` with its other errors.
        """
        return self._begin(self._limit)

    async def first(self) -> T | None:
        """Return the first item, or None if there is none; one request."""
        found = await self.collect(max_items=1)
        return found[0] if found else None

    async def collect(self, *, max_items: int | None = None) -> list[T]:
        """
        Return the items as a list, at most ``max_items`` if that is not None.

        No page is requested beyond the one with the last of them.
        """
        if max_items is not None and max_items <= 0:
            return []
        max_page_size = self._limit or self._query.shape.max_page_size
        pages = self._begin(max_page_size if max_items is None else min(max_items, max_page_size), max_items=max_items)
        found: list[T] = []
        async with aclosing(ItemIterator(pages)) as items:
            async for item in items:
                found.append(item)
                if len(found) == max_items:
                    break
        return found

    def _begin(self, limit: int | None, *, max_items: int | None = None) -> PageIterator[T]:
        paging = Pagination(self._query.shape, limit=limit, start=self._start, request=self._query.request.line)
        self._position = _Position(self._start)
        return PageIterator(
            loader=_PageLoader(self._session, self._query),
            paging=paging,
            next=paging.requested,
            position=self._position,
            ahead=self._ahead,
            stop=None if max_items is None else self._start + max_items,
        )


@attrs.define
class _Position:
    """The offset of the page that a pass requests now or next. It does not keep the pass alive."""

    offset: int


@attrs.define(eq=False)
class _PageLoader(Generic[T]):
    """Requests the pages of one pass, in any order."""

    session: Session
    query: ListQuery[T]

    def warn(self, what: str) -> None:
        """Log a warning about the list."""
        _LOG.warning("%s: %s", self.query.request.line, what)

    async def first(self, requested: PageRequest) -> Page:
        """Resolve the query, and request the first page of the pass."""
        empty_if = self.query.empty_if
        if self.query.resolve is not None:
            self.query = await self.query.resolve()
        failure: ApiError
        try:
            return await self.page(requested)
        except ApiError as error:
            failure = error
        shape = self.query.shape
        if shape.paged and failure.code in shape.unpaged_if:
            # Without pages the list is returned completely; rows before the offset are left out here.
            self.query = attrs.evolve(self.query, shape=attrs.evolve(shape, paged=False))
            page = await self.page(requested)
            return attrs.evolve(page, items=page.items[requested.offset :], whole=True)
        if empty_if is None or not isinstance(failure, NotFoundError) or not await empty_if(failure):
            raise failure
        self.warn("404, although the object that the list belongs to exists; it is taken as an empty list.")
        return Page(items=(), offset=requested.offset, limit=requested.limit, total=0 if shape.total else None)

    async def page(self, requested: PageRequest, *, again: bool = True) -> Page:
        """Request one page, once more if it cannot be read: it may have been cut in transfer."""
        request, shape, adapter = self.query.request, self.query.shape, self.session.adapter
        if shape.paged:
            request = attrs.evolve(request, params=request.params + adapter.page_params(requested))
        try:
            response = await self.session.send(request)
            return adapter.read_page(parse_json(response.body, request=response.request), requested, shape)
        except QuotaExhaustedError as error:
            error.cursor = requested.offset
            raise
        except DecodeError as error:
            if not again or TOO_LARGE in error.problems:
                raise
        return await self.page(requested, again=False)


class _Prefetch:
    """
    Prefetched pages, until they are used.

    Dropping this object cancels its requests: the tasks reference the loader only.
    """

    def __init__(self, loader: _PageLoader[Any]) -> None:
        self._loader = loader
        self._tasks: dict[PageRequest, asyncio.Task[tuple[Page, float]]] = {}

    def __del__(self) -> None:
        loops = {task.get_loop() for task in self._tasks.values() if not task.done()}
        for loop in loops:
            if not loop.is_closed():
                # The garbage may be collected in another thread.
                loop.call_soon_threadsafe(_cancel_all, list(self._tasks.values()))

    def expect(self, pages: Sequence[PageRequest]) -> None:
        """Request those of these pages that were not requested yet, and cancel all others."""
        for requested in [requested for requested in self._tasks if requested not in pages]:
            self._tasks.pop(requested).cancel()
        for requested in pages:
            if requested not in self._tasks:
                self._tasks[requested] = _start(self._loader, requested)

    def __bool__(self) -> bool:
        return bool(self._tasks)

    async def take(self, requested: PageRequest) -> Page:
        """
        Return an expected page as soon as it was received.

        Raises:
            ClosedError: The session was closed meanwhile.
        """
        task = self._tasks[requested]
        await asyncio.wait([task])
        del self._tasks[requested]
        if task.cancelled():
            raise ClosedError("The client was closed while a list was read from it.")
        page, arrived = task.result()
        return attrs.evolve(page, waited=max(0.0, self._loader.session.clock() - arrived))

    async def aclose(self) -> None:
        """Cancel all requests, and wait for their end. Safe to call twice."""
        tasks = list(self._tasks.values())
        self._tasks.clear()
        _cancel_all(tasks)
        if tasks:
            await asyncio.wait(tasks)


def _start(loader: _PageLoader[Any], requested: PageRequest) -> asyncio.Task[tuple[Page, float]]:
    async def fetch() -> tuple[Page, float]:
        page = await loader.page(requested)
        return page, loader.session.clock()

    return loader.session.spawn(fetch, name="prefetched page")


def _cancel_all(tasks: Sequence[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()


@attrs.define(eq=False, repr=False, kw_only=True)
class PageIterator(Generic[T]):
    """One pass over the pages. It may be dropped at any time; :meth:`aclose` also waits for its requests to end."""

    _loader: _PageLoader[T]
    _paging: Pagination
    _next: PageRequest | None
    _position: _Position
    _ahead: int
    _stop: int | None
    _prefetch: _Prefetch | None = attrs.field(init=False, default=None)
    _begun: bool = attrs.field(init=False, default=False)
    _given: int = attrs.field(init=False, default=0)

    def __aiter__(self) -> PageIterator[T]:
        return self

    async def __anext__(self) -> Page:
        try:
            while (requested := self._next) is not None:
                # An error ends the pass; it is continued by a new pass from the cursor on.
                self._next = None
                page = await (self._take(requested) if self._begun else self._loader.first(requested))
                self._begun = True
                items = self._read(page, requested)
                if items or not (self._given or self._next):
                    self._given += 1
                    return attrs.evolve(page, items=items)
        except BaseException:
            await self.aclose()
            raise
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """End the pass, and wait until nothing of it runs any more. Safe to call twice."""
        self._next = None
        if self._prefetch is not None:
            await self._prefetch.aclose()

    def _read(self, page: Page, requested: PageRequest) -> tuple[T, ...]:
        """Return the new items of a page, and set the next page."""
        expected = self._paging.ahead(2)[1:]
        step = self._paging.take(page)
        read = self._loader.query.read
        items = tuple([read(row) for row in step.rows])
        self._next = step.then
        if step.missing:
            self._loader.warn(
                f"the service counts {step.missing} rows more than it returned. It may count rows that are hidden from"
                " this user, or rows that moved during the listing; list again if one is missing."
            )
        self._position.offset = self._paging.requested.offset
        if expected and step.then not in (None, requested, *expected):
            # Its pages are not at the expected offsets; wrong guesses would only cost requests.
            self._ahead = 1
        return items

    async def _take(self, requested: PageRequest) -> Page:
        """Return a page after the first one, and request those after it as far as that is allowed."""
        expected = self._paging.ahead(self._ahead, stop=self._stop)
        if len(expected) == 1 and not self._prefetch:
            return await self._loader.page(requested)
        if self._prefetch is None:
            self._prefetch = _Prefetch(self._loader)
        self._prefetch.expect(expected)
        return await self._prefetch.take(requested)


@attrs.define(eq=False, repr=False)
class ItemIterator(Generic[T]):
    """One pass over the items."""

    _pages: PageIterator[T]
    _items: list[Any] = attrs.field(init=False, factory=list)

    def __aiter__(self) -> ItemIterator[T]:
        return self

    async def __anext__(self) -> T:
        while not self._items:
            page = await anext(self._pages)
            self._items = list(reversed(page.items))
        item: T = self._items.pop()
        return item

    async def aclose(self) -> None:
        """End the pass, and wait until nothing of it runs any more. Safe to call twice."""
        self._items.clear()
        await self._pages.aclose()
