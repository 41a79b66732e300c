"""
Lists, requested page by page as their items are read.

::

    first page ──▶ is the total known, and can it be trusted?
                      no:  the next page is requested when the items before it are used up
                      yes: up to four pages are requested at once and returned in order; never more than four are kept
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterable, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any, Generic, TypeAlias, TypeVar

import attrs

from arena_async.errors import (
    ApiError,
    ClosedError,
    ConfigurationError,
    DecodeError,
    NotFoundError,
    QuotaExhaustedError,
)
from arena_async.http.session import Session, in_steps
from arena_async.protocol.decoding import json_steps
from arena_async.protocol.json_steps import TOO_LARGE
from arena_async.protocol.messages import Request
from arena_async.protocol.pagination import ListShape, Page, PageRequest, Pagination

__all__ = ["AHEAD", "ListQuery", "PageIterator", "Paginator"]

T = TypeVar("T")

#: One pass over the pages. It may be dropped at any time; ``aclose`` also waits for its requests to end.
PageIterator: TypeAlias = AsyncGenerator[Page, None]

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
    whole or it is an error, which comes after the items that were received.

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
        self._session = session
        self._query = query
        self._limit = limit
        self._start = start
        self._ahead = ahead
        #: That of the newest pass.
        self._paging = Pagination(query.shape, limit=limit, start=start)

    def __repr__(self) -> str:
        return f"<Paginator {self._query.request.line}>"

    @property
    def cursor(self) -> int:
        """The offset at which the newest pass can be continued: all rows before it were returned."""
        return self._paging.cursor

    async def __aiter__(self) -> AsyncGenerator[T, None]:
        async with aclosing(self._pages(self._limit)) as pages:
            async for page in pages:
                for item in page.items:
                    yield item

    def pages(self) -> PageIterator:
        """
        Return the pages, with decoded items; a page without new rows is left out unless it is the only one.

        Raises:
            ListingError: The listing is not known to be whole; raised after all its pages were returned.
            DecodeError: A page is not what the service documents, twice in a row.
            ApiError: The service responded with an error, as for :meth:`Session.send` with its other errors.
        """
        return self._pages(self._limit)

    async def first(self) -> T | None:
        """Return the first item, or None if there is none; one request."""
        found = await self.collect(max_items=1)
        return found[0] if found else None

    async def collect(self, *, max_items: int | None = None) -> list[T]:
        """
        Return the items as a list, at most ``max_items`` if that is not None.

        No page is requested beyond the one with the last of them.
        """
        if max_items is None:
            return [item async for item in self]
        if max_items <= 0:
            return []
        limit = min(max_items, self._limit or self._query.shape.max_page_size)
        found: list[T] = []
        async with aclosing(self._pages(limit, stop=self._start + max_items)) as pages:
            async for page in pages:
                found.extend(page.items)
                if len(found) >= max_items:
                    break
        return found[:max_items]

    async def _pages(self, limit: int | None, *, stop: int | None = None) -> PageIterator:
        """
        Yield the pages of one pass, with new items only.

        Args:
            limit: Rows of one page, or None.
            stop: The offset from which no page is needed, or None for the end of the list.
        """
        query, ahead = self._query, self._ahead
        line = query.request.line
        paging = self._paging = Pagination(query.shape, limit=limit, start=self._start, stop=stop, request=line)
        if query.resolve is not None:
            query = attrs.evolve(await query.resolve(), empty_if=query.empty_if)
        loader = _PageLoader(self._session, query)
        expected: tuple[PageRequest, ...] = (paging.requested,)
        empty = True
        try:
            try:
                page = await loader.page(paging.requested)
            except ApiError as error:
                page = await loader.first_despite(error, paging.requested)
            while True:
                step = paging.take(page)
                items = await in_steps(_read_rows(query.read, step.rows))
                if items or (empty and step.then is None):
                    empty = False
                    yield attrs.evolve(page, items=items)
                if step.error is not None:
                    raise step.error
                if step.then is None:
                    return
                if len(expected) > 1 and step.then.offset > page.offset and step.then != expected[1]:
                    # Its pages are not at the expected offsets; wrong guesses would only cost requests.
                    ahead = 1
                expected = paging.ahead(ahead)
                page = await loader.take(expected)
        except QuotaExhaustedError as error:
            error.cursor = paging.cursor
            raise
        finally:
            if loader.tasks:
                await loader.aclose()


@attrs.define(eq=False)
class _PageLoader:
    """Requests the pages of one pass, and keeps those that were requested before they are needed."""

    session: Session
    query: ListQuery[Any]
    tasks: dict[PageRequest, asyncio.Task[tuple[Page, float]]] = attrs.field(init=False, factory=dict)

    async def first_despite(self, error: ApiError, requested: PageRequest) -> Page:
        """Return the first page if its error means that the list has no pages or is empty; raise the error if not."""
        empty_if, shape = self.query.empty_if, self.query.shape
        if shape.paged and error.code in shape.unpaged_if:
            # Without pages the list is returned completely, with the rows before the offset.
            self.query = attrs.evolve(self.query, shape=attrs.evolve(shape, paged=False))
            return attrs.evolve(await self.page(requested), whole=True)
        if empty_if is None or not isinstance(error, NotFoundError) or not await empty_if(error):
            raise error
        doubt = "is 404, although the object that the list belongs to exists; it is taken as an empty list"
        return Page(items=(), offset=requested.offset, limit=requested.limit, total=0, doubt=doubt)

    async def page(self, requested: PageRequest, *, again: bool = True) -> Page:
        """Request one page, once more if it cannot be read: it may have been cut in transfer."""
        request, shape, adapter = self.query.request, self.query.shape, self.session.adapter
        if shape.paged:
            request = attrs.evolve(request, params=request.params + adapter.page_params(requested))
        try:
            response = await self.session.send(request)
            payload = await in_steps(json_steps(response.body, request=response.request))
            return adapter.read_page(payload, requested, shape)
        except DecodeError as error:
            if not again or any(problem.startswith(TOO_LARGE) for problem in error.problems):
                if error.request is None:
                    error.request, error.args = request.line, (f"{request.line}: {error}",)
                raise
        return await self.page(requested, again=False)

    async def take(self, expected: Sequence[PageRequest]) -> Page:
        """
        Return the first of the expected pages; the others are requested meanwhile, and no more than these.

        Raises:
            ClosedError: The session was closed meanwhile.
        """
        requested = expected[0]
        if len(expected) == 1 and not self.tasks:
            return await self.page(requested)
        _cancel_all([self.tasks.pop(other) for other in list(self.tasks) if other not in expected])
        for wanted in expected:
            if wanted not in self.tasks:
                self.tasks[wanted] = self.session.spawn(partial(self._prefetch, wanted), name="prefetched page")
        task = self.tasks[requested]
        await asyncio.wait([task])
        del self.tasks[requested]
        if task.cancelled():
            raise ClosedError("The client was closed while a list was read from it.")
        page, arrived = task.result()
        return attrs.evolve(page, waited=max(0.0, self.session.clock() - arrived))

    async def aclose(self) -> None:
        """Cancel all requests, and wait for their end."""
        _cancel_all(self.tasks.values())
        await asyncio.wait(self.tasks.values())

    async def _prefetch(self, requested: PageRequest) -> tuple[Page, float]:
        """Request a page, and return it with the time at which it arrived."""
        return await self.page(requested), self.session.clock()


def _read_rows(read: Callable[[Any], T], rows: Sequence[Any]) -> Generator[None, None, tuple[T, ...]]:
    """Decode the rows of a page, one in each step."""
    items = []
    for row in rows:
        items.append(read(row))
        yield
    return tuple(items)


def _cancel_all(tasks: Iterable[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
