"""
Pagination: which page is requested next, and whether a listing is whole.

A listing is whole only if nothing that the service stated contradicts it. One that is not delivers its rows, and an
error comes after them. The number beside the rows has no common meaning, so each endpoint declares its
:class:`ListShape`:

* If it is the number of all rows, the offset decides about the end, and as many rows have to come.
* If it may be that of the page, it can prolong a listing and never end it. A page with fewer rows than requested ends
  it, and a page with more is the whole list. A number that is not that of the rows on its page has to be that of all.

Rows that move to an earlier page meanwhile would be missed. Where that costs no further request, a page begins with the
last row of the one before, which shows that none moved. A list that moved is walked once more, from its beginning.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Mapping
from typing import Any

import attrs

from arena_async.errors import ConfigurationError, ListingError

__all__ = ["ListShape", "Page", "PageRequest", "Pagination", "PaginationStep"]


#: The number of arrays of a set of fingerprints.
_ARRAYS = 4096
#: From this size on a page may begin with the last row of the one before although the number of rows is not known: that
#: takes a further request for one list in a hundred at the most.
_MIN_SHARED = 100


@attrs.frozen(kw_only=True)
class ListShape:
    """
    The properties of a list, declared with its endpoint.

    Args:
        max_page_size: Rows in one page, at most.
        default: Rows of a page without a limit, or if the limit is ignored; None if not documented.
        paged: Whether the endpoint accepts offset and limit.
        unpaged_if: Vendor error codes which mean that it does not; the complete list is requested then.
        total: Whether the stated number is that of all rows. False: it may be that of the page.
        bare: Whether the response is a bare JSON array.
        key: The field or fields that identify a row, for detecting repeated rows; None if there are none.
    """

    max_page_size: int
    default: int | None = None
    paged: bool = True
    unpaged_if: frozenset[int] = frozenset()
    total: bool = False
    bare: bool = False
    key: str | tuple[str, ...] | None = "guid"


@attrs.frozen(kw_only=True)
class PageRequest:
    """The rows to request: ``limit`` rows from the zero-based ``offset``."""

    offset: int
    limit: int


@attrs.frozen(kw_only=True)
class Page:
    """
    One page as received.

    Args:
        items: The rows, not decoded yet (or decoded, if returned by a ``Paginator``).
        offset: Where it starts, as requested.
        limit: Rows requested.
        total: The number beside the rows; :class:`ListShape` declares its meaning.
        echoed_offset: The offset stated in the response, or None.
        echoed_limit: The limit stated in the response, or None.
        whole: Whether it is the complete list, whatever was requested.
        doubt: Why the list is not known to be whole although there is no other page, or "".
        waited: Seconds between its arrival and its use, if it was prefetched.
    """

    items: tuple[Any, ...] = attrs.field(repr=False)
    offset: int
    limit: int
    total: int | None = None
    echoed_offset: int | None = None
    echoed_limit: int | None = None
    whole: bool = False
    doubt: str = ""
    waited: float = 0.0


@attrs.frozen(kw_only=True)
class PaginationStep:
    """
    The consequence of one page.

    Args:
        rows: Its new rows, in order.
        then: The page to request next, or None at the end of the listing.
        error: At the end, why the listing is not whole; to be raised after its rows were delivered. None if it is.
    """

    rows: tuple[Any, ...] = attrs.field(default=(), repr=False)
    then: PageRequest | None = None
    error: ListingError | None = None


@attrs.define(eq=False)
class _PageFingerprints:
    """
    A set of fingerprints of keys, 64 bits each, since the keys of a long list would fill the memory.

    They are kept sorted in many short arrays, so that one is found and inserted without moving much.
    """

    _rows: dict[int, array[int]] = attrs.field(init=False, factory=dict)

    def add(self, key: object) -> bool:
        """Add the fingerprint of a key, and return whether it is new."""
        fingerprint = hash(key)
        row = self._rows.setdefault(fingerprint % _ARRAYS, array("q"))
        at = bisect_left(row, fingerprint)
        if at < len(row) and row[at] == fingerprint:
            return False
        row.insert(at, fingerprint)
        return True


@attrs.define(eq=False)
class _Walk:
    """
    What is known of one walk through a list.

    Attributes:
        seen: The keys of its rows.
        stride: Rows from one page to the next.
        rows: The number of rows received, those that came again not counted.
        total: The number of all rows, as last stated.
        last_key: The key of the last row received.
        shares: Whether the requested page begins with that row.
        moved: What shows that rows moved meanwhile, or "".
    """

    seen: _PageFingerprints
    stride: int
    rows: int = 0
    total: int | None = None
    last_key: str | int | None = None
    shares: bool = False
    moved: str = ""
    first_keys: set[str | int] = attrs.field(factory=set)
    last_items: tuple[Any, ...] = ()


class Pagination:
    """
    One pass over a listing: takes each received page, and returns its new rows and the next page to request.

    A row whose key was received before is dropped; of two rows with one key on one page the last one counts. Rows
    without a key are always returned, and a list with such rows is never walked again.

    Args:
        shape: What the list is like.
        limit: Rows to request in one page; None for the largest page.
        start: The offset to begin at, to continue an interrupted listing.
        stop: The offset from which no row is needed, or None for the end of the list.
        request: The line of the request, for error messages.

    Raises:
        ConfigurationError: ``limit`` is not between 1 and the largest page, or ``start`` is negative.
    """

    def __init__(
        self,
        shape: ListShape,
        *,
        limit: int | None = None,
        start: int = 0,
        stop: int | None = None,
        request: str | None = None,
    ) -> None:
        wanted = shape.max_page_size if limit is None else limit
        if not 1 <= wanted <= shape.max_page_size:
            raise ConfigurationError(
                f"A page of {wanted} rows was requested; the service returns 1 to {shape.max_page_size}."
            )
        if start < 0:
            raise ConfigurationError(f"The listing cannot start at {start}; offsets are counted from 0.")
        self._shape = shape
        self._limit = wanted
        self._start = start
        self._stop = stop
        self._request = request
        #: The page that is to be requested now.
        self.requested = PageRequest(offset=start, limit=wanted)
        self._requested_again = False
        # Two equal fingerprints drop a row, which is noticed at the end if the total is known.
        self._delivered = _PageFingerprints()
        self._walk = _Walk(self._delivered, wanted)
        self._may_walk_again = True

    @property
    def cursor(self) -> int:
        """The offset at which an interrupted pass can be continued: all rows before it were returned."""
        return self.requested.offset + self._walk.shares

    def ahead(self, maximum: int) -> tuple[PageRequest, ...]:
        """
        Return the pages to request as far as that can be foreseen: :attr:`requested`, and those after it.

        More than one only if the total is known and can be trusted.

        Args:
            maximum: Pages, at most.
        """
        first, total = self.requested.offset, self._walk.total
        if not self._shape.paged or not self._shape.total or total is None:
            return (self.requested,)
        end = total if self._stop is None else min(total, self._stop)
        offsets = range(first + self._walk.stride, max(end, first), self._walk.stride)
        return (
            self.requested,
            *(PageRequest(offset=offset, limit=self._limit) for offset in offsets[: max(0, maximum - 1)]),
        )

    def take(self, page: Page) -> PaginationStep:
        """Process the page received for :attr:`requested`."""
        if page.doubt:
            return self._fail(page.doubt, (), cursor=None)
        if page.whole or not self._shape.paged:
            return self._take_all(page)
        if page.echoed_offset is not None and page.echoed_offset != self.requested.offset:
            return self._request_again(f"says it starts at {page.echoed_offset}")
        self._note_total(page)
        if not page.items:
            return self._take_empty()
        keys = self._keys_of(page.items)
        rows, new = self._new_rows(page, keys)
        if loop := self._find_loop(page, keys, new):
            return self._fail(loop, rows, cursor=self.cursor)
        if self._walk.moved and self._may_walk_again:
            return self._walk_again(rows)
        offset = self._offset_after(page)
        if offset is None:
            return self._end(rows)
        self._walk.stride = max(1, offset - self.requested.offset)
        self._walk.last_key = keys[-1]
        self._walk.shares = self._can_share(page, offset)
        self.requested = PageRequest(offset=offset - self._walk.shares, limit=self._limit)
        self._requested_again = False
        return PaginationStep(rows=rows, then=self.requested)

    def _take_all(self, page: Page) -> PaginationStep:
        """Process the only page of a list without pages; rows before the start are left out here."""
        page = attrs.evolve(page, items=page.items[self._start :], total=self._claim(page))
        rows, _ = self._new_rows(page, self._keys_of(page.items))
        if page.total is not None:
            had = self._start + len(page.items)
            return self._fail(f"is the complete list and has {had} of {page.total} rows", rows, cursor=None)
        return PaginationStep(rows=rows)

    def _take_empty(self) -> PaginationStep:
        """Process an empty page: the end, unless there have to be more rows. Then it is requested once more."""
        walk = self._walk
        if walk.shares:
            walk.moved = "is empty, and should begin with the last row of the page before"
        if walk.moved and self._may_walk_again:
            return self._walk_again(())
        if walk.total is not None and self.requested.offset < walk.total and not walk.moved:
            return self._request_again(f"is empty, of {walk.total} rows")
        return self._end(())

    def _claim(self, page: Page) -> int | None:
        """Return the number of all rows as a page states it; None if it states none, or that of its own rows."""
        return page.total if self._shape.total or page.total != len(page.items) else None

    def _note_total(self, page: Page) -> None:
        """Note the number of all rows. A number that changed shows that rows came or went, and so may have moved."""
        walk, total = self._walk, self._claim(page)
        if total is None:
            return
        if walk.total is not None and (total < walk.total or (total > walk.total and self._may_walk_again)):
            walk.moved = f"states {total} rows, after {walk.total} before"
        walk.total = total

    def _new_rows(self, page: Page, keys: list[str | int | None]) -> tuple[tuple[Any, ...], int]:
        """Return the rows to deliver, and the number of those that did not come before in this walk."""
        walk, delivered = self._walk, self._delivered
        latest: dict[Any, Any] = {}
        for at, (key, row) in enumerate(zip(keys, page.items, strict=True)):
            latest[("", at) if key is None else key] = row
        self._may_walk_again &= None not in keys
        new = [key for key in latest if isinstance(key, tuple) or walk.seen.add(key)]
        again = len(latest) - len(new)
        if walk.shares and keys[0] != walk.last_key:
            walk.moved = "does not begin with the last row of the page before"
        elif again > walk.shares:
            walk.moved = f"repeats {again - walk.shares} of the rows received before"
        walk.rows += len(page.items) - again
        if walk.seen is not delivered:
            return tuple([latest[key] for key in new if isinstance(key, tuple) or delivered.add(key)]), len(new)
        return tuple([latest[key] for key in new]), len(new)

    def _find_loop(self, page: Page, keys: list[str | int | None], new: int) -> str:
        """Return what shows that the service ignores the offset, or responds with its last page to any later one."""
        walk = self._walk
        first = next((key for key in keys if key is not None), None)
        if first is None:
            same, walk.last_items = page.items == walk.last_items, page.items
            return "has the same rows as the page before" if same else ""
        if first in walk.first_keys:
            return "begins with the same row as a page before"
        walk.first_keys.add(first)
        only_shared = walk.shares and len(page.items) == 1 and first == walk.last_key
        return "" if new or only_shared else "has only rows that were received before"

    def _keys_of(self, rows: tuple[Any, ...]) -> list[str | int | None]:
        """Return the value that identifies each row, or None."""
        names = self._shape.key
        if names is None:
            return [None] * len(rows)
        parts = (names,) if isinstance(names, str) else names
        keys: list[str | int | None] = []
        for row in rows:
            values = [row.get(name) for name in parts] if isinstance(row, Mapping) else [None]
            if not values or not all(isinstance(value, str | int) and value != "" for value in values):
                keys.append(None)
            else:
                keys.append(values[0] if len(values) == 1 else "\n".join(map(str, values)))
        return keys

    def _offset_after(self, page: Page) -> int | None:
        """Return where the rows after a page begin, or None after the last one."""
        count, requested, total = len(page.items), self.requested, self._walk.total
        granted = page.echoed_limit if page.echoed_limit and 0 < page.echoed_limit <= requested.limit else None
        if self._shape.total and total is not None:
            offset = requested.offset + max(count, granted or 0)
            return offset if offset < total else None
        # Where the default comes instead of the limit, that was ignored, and there may be more.
        if count == self._shape.default and granted is None:
            return requested.offset + count
        if count > requested.limit:
            return None
        if count >= (granted or requested.limit):
            return requested.offset + count
        # A short page is the last one, unless more rows are stated.
        if total is not None and total > requested.offset + count:
            return requested.offset + (granted or count)
        return None

    def _can_share(self, page: Page, offset: int) -> bool:
        """Return whether the next page may begin with the last row of this one, since that takes no further request."""
        walk, limit = self._walk, self.requested.limit
        if self._shape.total or len(page.items) != limit or limit == 1 or walk.last_key is None:
            return False
        if self._stop is not None and (self._stop - offset) % limit == 0:
            return False
        if walk.total is not None and walk.total > offset:
            return (walk.total - offset + 1) % limit != 0
        return limit >= _MIN_SHARED

    def _end(self, rows: tuple[Any, ...]) -> PaginationStep:
        """End the list, with an error if what the service stated contradicts it."""
        walk = self._walk
        if walk.moved:
            return self._fail(f"{walk.moved}, so that rows may have moved past it", rows, cursor=None)
        if walk.total is not None and walk.rows != max(0, walk.total - self._start):
            had = self._start + walk.rows
            return self._fail(f"ends the list with {had} of {walk.total} rows", rows, cursor=None)
        return PaginationStep(rows=rows)

    def _walk_again(self, rows: tuple[Any, ...]) -> PaginationStep:
        """Begin the list once more, since rows moved; those that were delivered are not delivered again."""
        self._may_walk_again = self._requested_again = False
        self._walk = _Walk(_PageFingerprints(), self._limit)
        self.requested = PageRequest(offset=self._start, limit=self._limit)
        return PaginationStep(rows=rows, then=self.requested)

    def _request_again(self, what: str) -> PaginationStep:
        """Request the same page once more: the response may have been that of a stale cache."""
        if self._requested_again:
            return self._fail(f"{what}, twice in a row", (), cursor=self.cursor)
        self._requested_again = True
        return PaginationStep(then=self.requested)

    def _fail(self, what: str, rows: tuple[Any, ...], *, cursor: int | None) -> PaginationStep:
        """End the list with an error, which comes after these rows; with a cursor where it can be continued."""
        line = self._request or "The listing"
        then = "List again." if cursor is None else "List again, or continue at this offset."
        error = ListingError(
            f"{line}: the page at offset {self.requested.offset} {what}. The listing is not known to be whole: rows may"
            f" be missing, so nothing is concluded from their absence. {then}",
            cursor=cursor,
            request=self._request,
        )
        return PaginationStep(rows=rows, error=error)
