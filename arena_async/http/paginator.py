"""
Listings, requested page by page as the rows are used.

::

    first page ──▶ is the number of rows known, and can it be trusted?
                      no:  the next page is requested when the rows before it are used up
                      yes: then up to four at once, returned in order; four are held at a time, and no fifth
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

#: Pages that are under way, or here and not used up, at most.
AHEAD = 4


@attrs.frozen(kw_only=True)
class ListQuery(Generic[T]):
    """
    What a listing requests.

    Args:
        request: The request without offset and limit.
        read: Makes an item of a row.
    """

    request: Request
    read: Callable[[Any], T]


class Paginator(Generic[T]):
    """
    A listing that has not been requested yet.

    ``async for`` yields the rows; every pass requests them anew. A page is requested when the rows before it are used
    up, or a few pages earlier where the service says how many rows there are. Leaving a loop early leaves nothing
    running. A listing is complete or it is an error.

    An error in the middle leaves :attr:`cursor` behind: a new ``Paginator`` with ``start=cursor`` continues there, and
    the rows before it are not requested again.

    Args:
        session: Sends the requests.
        request: The request without offset and limit.
        shape: What the list is like.
        read: Makes an item of a row.
        limit: Rows to request in one page; None for the largest page.
        start: The offset to begin at.
        ahead: Pages that may be under way or here at a time. More than one only where the shape says that the total
            is one.
        settle: Returns what is really requested, where that takes a request of its own to know; called once for each
            pass, before its first page. ``request`` is then only shown.
        empty_if: Returns whether "not found" for the first page means an empty list; None where it never does.

    Raises:
        ConfigurationError: ``limit``, ``start`` or ``ahead`` is out of range.
    """

    def __init__(
        self,
        session: Session,
        request: Request,
        shape: ListShape,
        read: Callable[[Any], T],
        *,
        limit: int | None = None,
        start: int = 0,
        ahead: int = AHEAD,
        settle: Callable[[], Awaitable[ListQuery[T]]] | None = None,
        empty_if: Callable[[NotFoundError], Awaitable[bool]] | None = None,
    ) -> None:
        if ahead < 1:
            raise ConfigurationError(f"ahead is {ahead}; it takes a number of pages of at least 1.")
        Pagination(shape, limit=limit, start=start)
        self._session = session
        self._query = ListQuery(request=request, read=read)
        self._shape = shape
        self._limit = limit
        self._start = start
        self._ahead = ahead
        self._settle = settle
        self._empty_if = empty_if
        self._place = _Offset(start)

    def __repr__(self) -> str:
        return f"<Pager {self._query.request.line}>"

    @property
    def cursor(self) -> int:
        """The offset at which the newest pass can be continued: all rows before it were returned."""
        return self._place.offset

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
        """Return the first item, or None where there is none; one request."""
        found = await self.collect(max_items=1)
        return found[0] if found else None

    async def collect(self, *, max_items: int | None = None) -> list[T]:
        """
        Return the items as a list, ``max_items`` so many of them where that is not None.

        No page is requested beyond the one that holds the last of them.
        """
        if max_items is not None and max_items <= 0:
            return []
        max_page_size = self._limit or self._shape.max_page_size
        pages = self._begin(max_page_size if max_items is None else min(max_items, max_page_size), max_items=max_items)
        found: list[T] = []
        async with aclosing(ItemIterator(pages)) as items:
            async for item in items:
                found.append(item)
                if len(found) == max_items:
                    break
        return found

    def _begin(self, limit: int | None, *, max_items: int | None = None) -> PageIterator[T]:
        paging = Pagination(self._shape, limit=limit, start=self._start, request=self._query.request.line)
        self._place = _Offset(self._start)
        return PageIterator(
            loader=_PageLoader(self._session, self._query, self._shape, self._settle, self._empty_if),
            paging=paging,
            next=paging.requested,
            place=self._place,
            ahead=self._ahead,
            stop=None if max_items is None else self._start + max_items,
        )


@attrs.define
class _Offset:
    """How far a pass has come: the offset of the page that is requested now, or comes next."""

    offset: int


@attrs.define(eq=False)
class _PageLoader(Generic[T]):
    """Requests the pages of one pass. It knows nothing of their order."""

    session: Session
    query: ListQuery[T]
    shape: ListShape
    settle: Callable[[], Awaitable[ListQuery[T]]] | None
    empty_if: Callable[[NotFoundError], Awaitable[bool]] | None

    def warn(self, what: str) -> None:
        """Log something about the list that is no error."""
        _LOG.warning("%s: %s", self.query.request.line, what)

    async def first(self, requested: PageRequest) -> Page:
        """Request the first page of the pass, once it is known what to request."""
        if self.settle is not None:
            self.query = await self.settle()
        refusal: ApiError
        try:
            return await self.page(requested)
        except ApiError as error:
            refusal = error
        if self.shape.paged and refusal.code in self.shape.unpaged_if:
            # Without pages it comes whole; what lies before the offset is left out here.
            self.shape = attrs.evolve(self.shape, paged=False)
            page = await self.page(requested)
            return attrs.evolve(page, items=page.items[requested.offset :], whole=True)
        if self.empty_if is None or not isinstance(refusal, NotFoundError) or not await self.empty_if(refusal):
            raise refusal
        self.warn("404. What it belongs to exists, so that this is taken as an empty list.")
        return Page(items=(), offset=requested.offset, limit=requested.limit, total=0 if self.shape.total else None)

    async def page(self, requested: PageRequest, *, again: bool = True) -> Page:
        """Request one page, a second time where it cannot be read: it may have been cut on the way."""
        request, adapter = self.query.request, self.session.adapter
        if self.shape.paged:
            request = attrs.evolve(request, params=request.params + adapter.page_params(requested))
        try:
            response = await self.session.send(request)
            return adapter.read_page(parse_json(response.body, request=response.request), requested, self.shape)
        except QuotaExhaustedError as error:
            error.cursor = requested.offset
            raise
        except DecodeError as error:
            # A page that is too large is as large the second time.
            if not again or TOO_LARGE in error.problems:
                raise
        return await self.page(requested, again=False)


class _Prefetch:
    """
    Pages that were requested ahead, until they are taken.

    Dropping this object ends what is under way: the tasks know the loader, and nothing else.
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
        """Request those of these pages that are not under way, and end the others."""
        for requested in [requested for requested in self._tasks if requested not in pages]:
            self._tasks.pop(requested).cancel()
        for requested in pages:
            if requested not in self._tasks:
                self._tasks[requested] = _start(self._loader, requested)

    def __bool__(self) -> bool:
        return bool(self._tasks)

    async def take(self, requested: PageRequest) -> Page:
        """
        Return a page that was expected, as soon as it is here.

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
        """End what is under way. Safe to call twice."""
        tasks = list(self._tasks.values())
        self._tasks.clear()
        _cancel_all(tasks)
        if tasks:
            await asyncio.wait(tasks)


def _start(loader: _PageLoader[Any], requested: PageRequest) -> asyncio.Task[tuple[Page, float]]:
    async def fetch() -> tuple[Page, float]:
        page = await loader.page(requested)
        return page, loader.session.clock()

    return loader.session.spawn(fetch, name="page ahead")


def _cancel_all(tasks: Sequence[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()


@attrs.define(eq=False, repr=False, kw_only=True)
class PageIterator(Generic[T]):
    """One pass over the pages. It may be dropped at any time; :meth:`aclose` waits for what that ends."""

    _loader: _PageLoader[T]
    _paging: Pagination
    _next: PageRequest | None
    _place: _Offset
    _ahead: int
    _stop: int | None
    _prefetch: _Prefetch | None = attrs.field(init=False, default=None)
    _begun: bool = attrs.field(init=False, default=False)
    _given: int = attrs.field(init=False, default=0)

    def __aiter__(self) -> PageIterator[T]:
        return self

    async def __anext__(self) -> Page:
        try:
            return await self._advance()
        except StopAsyncIteration:
            raise
        except BaseException:
            await self.aclose()
            raise

    async def aclose(self) -> None:
        """End the pass, and wait until nothing of it runs any more. Safe to call twice."""
        self._next = None
        if self._prefetch is not None:
            await self._prefetch.aclose()

    async def _advance(self) -> Page:
        while (requested := self._next) is not None:
            # An error ends the pass; what follows it is a new pass from the cursor on.
            self._next = None
            page = await (self._loader.first(requested) if not self._begun else self._take(requested))
            self._begun = True
            expected = self._paging.ahead(2)[1:]
            step = self._paging.take(page)
            read = self._loader.query.read
            items = tuple([read(row) for row in step.rows])
            self._next = step.then
            if step.missing:
                self._loader.warn(
                    f"the service counts {step.missing} rows more than it gave. It may count rows that this user may"
                    " not see, or rows moved while they were listed; list again where one is missed."
                )
            self._place.offset = self._paging.requested.offset
            if expected and step.then not in (None, requested, *expected):
                # Its pages are not where they should be; guessing on would only cost requests.
                self._ahead = 1
            if items or (self._next is None and not self._given):
                self._given += 1
                return attrs.evolve(page, items=items)
        raise StopAsyncIteration

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
