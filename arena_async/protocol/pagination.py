"""
Pagination: which page is requested next, and when a listing is complete.

A listing is complete or it is an error. The number that the services state beside the rows has no common meaning, so
each endpoint declares its :class:`ListShape`:

* If it is the number of all rows, only the offset decides about the end. A hidden row makes a page short, and a short
  page ends nothing.
* If it may be that of the page, it can prolong a listing and never end it. A page with fewer rows than requested ends
  it. A number above that of the rows on its page cannot be that of the page: rows missing at the end are reported.
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
        waited: Seconds between its arrival and its use, if it was prefetched.
    """

    items: tuple[Any, ...] = attrs.field(repr=False)
    offset: int
    limit: int
    total: int | None = None
    echoed_offset: int | None = None
    echoed_limit: int | None = None
    whole: bool = False
    waited: float = 0.0


@attrs.frozen(kw_only=True)
class PaginationStep:
    """
    The consequence of one page.

    Args:
        rows: Its new rows, in order.
        then: The page to request next, or None at the end of the listing.
        missing: At the end, how many rows the service counted and did not return, if its number is not known to be a
            total: rows that are hidden from the user, or that moved during the listing.
    """

    rows: tuple[Any, ...] = attrs.field(default=(), repr=False)
    then: PageRequest | None = None
    missing: int = 0


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


class Pagination:
    """
    One pass over a listing: takes each received page, and returns its new rows and the next page to request.

    A row whose key was received before is dropped; of two rows with one key on one page the last one counts. Rows
    without a key are always returned.

    Args:
        shape: What the list is like.
        limit: Rows to request in one page; None for the largest page.
        start: The offset to begin at, to continue an interrupted listing.
        request: The line of the request, for error messages.

    Raises:
        ConfigurationError: ``limit`` is not between 1 and the largest page, or ``start`` is negative.
    """

    def __init__(
        self, shape: ListShape, *, limit: int | None = None, start: int = 0, request: str | None = None
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
        self._request = request
        #: The page that is to be requested now, and where an interrupted pass can be continued.
        self.requested = PageRequest(offset=start, limit=wanted)
        self._requested_again = False
        self._total: int | None = None
        self._stride = wanted
        # Two equal fingerprints drop a row, which is noticed at the end if the total is known.
        self._keys = _PageFingerprints()
        self._first_keys: set[str | int] = set()
        self._last_items: tuple[Any, ...] = ()
        self._delivered = 0
        self._dropped = 0
        self._announced = 0

    def ahead(self, maximum: int, *, stop: int | None = None) -> tuple[PageRequest, ...]:
        """
        Return the pages to request as far as that can be foreseen: :attr:`requested`, and those after it.

        More than one only if the total is known and can be trusted.

        Args:
            maximum: Pages, at most.
            stop: The offset from which no page is needed, or None for the end of the list.
        """
        first, total = self.requested.offset, self._total
        if not self._shape.paged or not self._shape.total or total is None:
            return (self.requested,)
        end = total if stop is None else min(total, stop)
        offsets = range(first + self._stride, max(end, first), self._stride)
        return (
            self.requested,
            *(PageRequest(offset=offset, limit=self._limit) for offset in offsets[: max(0, maximum - 1)]),
        )

    def take(self, page: Page) -> PaginationStep:
        """
        Process the page received for :attr:`requested`.

        Raises:
            ListingError: The listing looped, shrank or contradicts itself; its ``cursor`` is the offset of this page.
        """
        if page.whole or not self._shape.paged:
            return self._take_all(page)
        if page.echoed_offset is not None and page.echoed_offset != self.requested.offset:
            return self._request_again(f"says it starts at {page.echoed_offset}")
        if self._shape.total:
            if page.total is not None and self._total is not None and page.total < self._total:
                # Rows were removed, so that others have moved to an earlier page.
                raise self._error(f"states {page.total} rows, after {self._total} before; the list shrank")
            self._total = self._total if page.total is None else page.total
        elif page.total is not None and page.total > len(page.items):
            self._announced = max(self._announced, page.total)
        if not page.items:
            return self._take_empty(page)
        keys = self._keys_of(page.items)
        rows, offset = self._new_rows(page, keys), self._offset_after(page)
        self._check_repeats(page, keys, rows)
        if offset is None:
            return self._end(rows)
        self._stride = max(1, offset - self.requested.offset)
        self.requested = PageRequest(offset=offset, limit=self._limit)
        self._requested_again = False
        return PaginationStep(rows=rows, then=self.requested)

    def _take_all(self, page: Page) -> PaginationStep:
        """Process the only page of a list without pages."""
        if self._shape.total and page.total is not None and page.total > len(page.items):
            raise self._error(f"has {len(page.items)} rows and states {page.total}")
        return PaginationStep(rows=self._new_rows(page, self._keys_of(page.items)))

    def _take_empty(self, page: Page) -> PaginationStep:
        """
        End the list at an empty page, unless a trusted total shows that rows are missing.

        If the number is not trusted, the page is requested once more: it may count rows that are hidden from the user.
        """
        if self._shape.total and self._total is not None and self.requested.offset < self._total:
            return self._request_again(f"is empty, of {self._total} rows")
        if not self._shape.total and page.total is not None and page.total > self.requested.offset:
            return self._end(()) if self._requested_again else self._request_again("is empty")
        return self._end(())

    def _check_repeats(self, page: Page, keys: list[str | int | None], rows: tuple[Any, ...]) -> None:
        """Raise if the service ignores the offset, or responds with its last page to any later offset."""
        first = next((key for key in keys if key is not None), None)
        if first is None:
            if page.items == self._last_items:
                raise self._error("has the same rows as the page before")
            self._last_items = page.items
            return
        if first in self._first_keys:
            raise self._error("begins with the same row as a page before")
        if not rows:
            raise self._error("has only rows that were received before")
        self._first_keys.add(first)

    def _new_rows(self, page: Page, keys: list[str | int | None]) -> tuple[Any, ...]:
        """Return the rows that were not received before, and remember them."""
        latest: dict[Any, Any] = {}
        for at, (key, row) in enumerate(zip(keys, page.items, strict=True)):
            latest[("", at) if key is None else key] = row
        rows = tuple([row for key, row in latest.items() if isinstance(key, tuple) or self._keys.add(key)])
        self._delivered += len(rows)
        self._dropped += len(page.items) - len(rows)
        return rows

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
        """Return where the next page starts, or None after the last one."""
        count, requested = len(page.items), self.requested
        granted = page.echoed_limit if page.echoed_limit and 0 < page.echoed_limit <= requested.limit else None
        if self._shape.total and self._total is not None:
            offset = requested.offset + max(count, granted or 0)
            return offset if offset < self._total else None
        if count > requested.limit:
            return None
        if count >= (granted or requested.limit):
            return requested.offset + count
        # A short page is the last one, unless more rows are stated or the limit was ignored.
        if page.total is not None and page.total > requested.offset + count:
            return requested.offset + (granted or count)
        if count == self._shape.default and granted is None:
            return requested.offset + count
        return None

    def _end(self, rows: tuple[Any, ...]) -> PaginationStep:
        """End the list; with a trusted total, rows received twice mean that others were not received."""
        if self._shape.total and self._total is not None and self._dropped:
            missing = self._total - self._start - self._delivered
            if missing > 0:
                raise self._error(
                    f"ends the list with {missing} of {self._total} rows missing and {self._dropped} received twice"
                )
        return PaginationStep(rows=rows, missing=max(0, self._announced - self._start - self._delivered))

    def _request_again(self, what: str) -> PaginationStep:
        """Request the same page once more: the response may have been that of a stale cache."""
        if self._requested_again:
            raise self._error(f"{what}, twice in a row")
        self._requested_again = True
        return PaginationStep(then=self.requested)

    def _error(self, what: str) -> ListingError:
        line = self._request or "The listing"
        return ListingError(
            f"{line}: the page at offset {self.requested.offset} {what}. The listing is not known to be complete, so"
            " nothing is concluded from it; list again, or continue at this offset.",
            cursor=self.requested.offset,
            request=self._request,
        )
