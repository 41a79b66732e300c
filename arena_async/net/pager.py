"""Listings, walked page by page as the rows are asked for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, Generic, TypeVar

import attrs

from arena_async.errors import DecodeError, QuotaExhaustedError
from arena_async.net.session import Session
from arena_async.wire.decoding import parse_json
from arena_async.wire.messages import Request
from arena_async.wire.paging import ListShape, Page, PageRequest, Walk

__all__ = ["Pager"]

T = TypeVar("T")


class Pager(Generic[T]):
    """
    A listing that has not been asked for yet.

    ``async for`` gives the rows; every pass asks anew. A page is asked for when the rows before it are used up, so that
    leaving a loop early costs nothing and leaves nothing running. A listing is whole or it is an error.

    An error in the middle leaves :attr:`cursor` behind: a new ``Pager`` with ``start=cursor`` goes on there, and the
    rows before it are not paid for again.

    Args:
        session: Sends the requests.
        request: The request without offset and limit.
        shape: What the list is like.
        read: Makes an item of a row.
        limit: Rows to ask for in one page; None for the largest page.
        start: The offset to begin at.

    Raises:
        ConfigurationError: ``limit`` or ``start`` is out of range.
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
    ) -> None:
        self._session = session
        self._request = request
        self._shape = shape
        self._read = read
        self._limit = limit
        self._start = start
        self._pass = self._begin(limit)

    def __repr__(self) -> str:
        return f"<Pager {self._request.line}>"

    @property
    def cursor(self) -> int:
        """The offset at which the newest pass can be taken up again: everything before it was given."""
        return self._pass.cursor

    def __aiter__(self) -> AsyncIterator[T]:
        return _Items(self.pages())

    def pages(self) -> AsyncIterator[Page]:
        """
        Give the pages, with decoded items; a page without new rows is left out unless it is the only one.

        Raises:
            ListingError: The listing looped, shrank or contradicts itself.
            DecodeError: A page is not what the service documents, twice in a row.
            ApiError: The service refused, as for :meth:`Session.send` with its other errors.
        """
        self._pass = self._begin(self._limit)
        return self._pass

    async def first(self) -> T | None:
        """Give the first item, or None where there is none; one request."""
        found = await self.collect(at_most=1)
        return found[0] if found else None

    async def collect(self, *, at_most: int | None = None) -> list[T]:
        """
        Give the items as a list, ``at_most`` so many of them where that is not None.

        No page is asked for beyond the one that holds the last of them.
        """
        if at_most is not None and at_most <= 0:
            return []
        largest = self._limit or self._shape.largest
        self._pass = self._begin(largest if at_most is None else min(at_most, largest))
        found: list[T] = []
        items: _Items[T] = _Items(self._pass)
        async for item in items:
            found.append(item)
            if len(found) == at_most:
                break
        return found

    def _begin(self, limit: int | None) -> _Pages[T]:
        walk = Walk(self._shape, limit=limit, start=self._start, request=self._request.line)
        return _Pages(self._session, self._request, self._shape, self._read, walk)


class _Pages(Generic[T]):
    """One pass over the pages. It holds nothing that would have to be closed."""

    def __init__(
        self, session: Session, request: Request, shape: ListShape, read: Callable[[Any], T], walk: Walk
    ) -> None:
        self._session = session
        self._request = request
        self._shape = shape
        self._read = read
        self._walk = walk
        self._next: PageRequest | None = walk.asked
        self._given = 0
        #: The offset of the page that is asked for now, or comes next.
        self.cursor = walk.asked.offset

    def __aiter__(self) -> _Pages[T]:
        return self

    async def __anext__(self) -> Page:
        while (asked := self._next) is not None:
            # An error ends the pass; what follows it is a new pass from the cursor on.
            self._next = None
            page = await self._ask(asked)
            step = self._walk.take(page)
            items = tuple(self._read(row) for row in step.rows)
            self._next = step.then
            self.cursor = self._walk.asked.offset
            if items or (self._next is None and not self._given):
                self._given += 1
                return attrs.evolve(page, items=items)
        raise StopAsyncIteration

    async def _ask(self, asked: PageRequest) -> Page:
        """Ask for one page, a second time where what came cannot be read: it may have been cut on the way."""
        try:
            return await self._ask_once(asked)
        except DecodeError:
            pass
        return await self._ask_once(asked)

    async def _ask_once(self, asked: PageRequest) -> Page:
        try:
            response = await self._session.send(attrs.evolve(self._request, params=self._params(asked)))
        except QuotaExhaustedError as error:
            error.cursor = asked.offset
            raise
        payload = parse_json(response.body, request=self._request.line)
        return self._session.dialect.read_page(payload, asked, self._shape)

    def _params(self, asked: PageRequest) -> tuple[tuple[str, str], ...]:
        """Give the whole query of one page; a list without pages is asked for as it is."""
        given = self._request.params
        return given + self._session.dialect.page_params(asked) if self._shape.paged else given


class _Items(Generic[T]):
    """One pass over the items."""

    def __init__(self, pages: AsyncIterator[Page]) -> None:
        self._pages = pages
        self._items: list[Any] = []

    def __aiter__(self) -> _Items[T]:
        return self

    async def __anext__(self) -> T:
        while not self._items:
            page = await anext(self._pages)
            self._items = list(reversed(page.items))
        item: T = self._items.pop()
        return item
