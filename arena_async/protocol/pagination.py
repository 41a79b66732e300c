"""
How a listing is walked: which page comes next, and when it is whole.

A listing is whole or it is an error. What the two services print beside the rows differs, so each endpoint declares
its :class:`ListShape`:

* Where the printed number is the number of rows in all, the end is judged by the offset alone. A row that is hidden
  leaves a short page, and a short page ends nothing.
* Where the number may be just the page's, it can prolong a walk and never end it. A page shorter than asked ends it. A
  number above that of the rows on its page cannot be the page's: what it says is missing at the end is said on.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Mapping
from typing import Any

import attrs

from arena_async.errors import ConfigurationError, ListingError

__all__ = ["ListShape", "Page", "PageRequest", "Pagination", "PaginationStep"]


@attrs.frozen(kw_only=True)
class ListShape:
    """
    What an endpoint's list is like, declared where the endpoint is declared.

    Args:
        max_page_size: Rows the service gives in one page, at the most.
        default: Rows it gives when no limit is asked for or the limit is ignored; None where the service does not say.
        paged: Whether the endpoint takes offset and limit at all.
        unpaged_if: Numbers of the vendor's for a refusal that says that it does not after all; the list is asked for
            whole then.
        total: Whether the number in the answer is the number of rows in all. False: it may be just the page's.
        bare: Whether the answer is a bare JSON array.
        key: The field that names a row, or the fields that do so together, for noticing repeated rows; None where rows
            have no key.
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
    """Which rows are asked for: ``limit`` rows from the zero-based ``offset``."""

    offset: int
    limit: int


@attrs.frozen(kw_only=True)
class Page:
    """
    One page as the service gave it.

    Args:
        items: The rows, not decoded yet (or decoded, where a :class:`Paginator` hands the page out).
        offset: Where it starts, as asked.
        limit: Rows asked for.
        total: The number the service printed beside the rows; what it means is the :class:`ListShape`'s to say.
        echoed_offset: The offset the service says it answered, or None.
        echoed_limit: The limit the service says it granted, or None.
        whole: Whether it is the whole list, whatever was asked.
        waited: Seconds that it lay here before it was handed out, because it was asked for ahead.
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
    What one page means for the walk.

    Args:
        rows: The rows of it that are new, in their order.
        then: Which page to ask for next, or None at the end of the listing.
        missing: At the end, how many rows the service counted and did not give, where its number is not known to be a
            total: rows that the user may not see, or rows that moved while they were listed.
    """

    rows: tuple[Any, ...] = attrs.field(default=(), repr=False)
    then: PageRequest | None = None
    missing: int = 0


class _PageFingerprints:
    """
    The marks of keys that came: 64 bits of each, side by side, since a long list would fill the memory with its keys.

    They are kept sorted in many short rows, so that a mark is found and put in without moving much.
    """

    _ROWS = 4096

    def __init__(self) -> None:
        self._rows: dict[int, array[int]] = {}

    def __contains__(self, key: object) -> bool:
        mark = hash(key)
        row = self._rows.get(mark % self._ROWS)
        if row is None:
            return False
        at = bisect_left(row, mark)
        return at < len(row) and row[at] == mark

    def add(self, key: object) -> None:
        """Put the mark of a key in."""
        mark = hash(key)
        row = self._rows.setdefault(mark % self._ROWS, array("q"))
        at = bisect_left(row, mark)
        if at == len(row) or row[at] != mark:
            row.insert(at, mark)


class Pagination:
    """
    One pass over a listing: give it each page that came, and it says which rows are new and what to ask for next.

    A row whose key came before is dropped; of two rows of one key on one page the last one counts. Rows without a key
    pass through.

    Args:
        shape: What the list is like.
        limit: Rows to ask for in one page; None for the largest page.
        start: The offset to begin at, for going on with a walk that was interrupted.
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
                f"A page of {wanted} rows was asked for; the service gives 1 to {shape.max_page_size}."
            )
        if start < 0:
            raise ConfigurationError(f"The listing cannot start at {start}; offsets are counted from 0.")
        self._shape = shape
        self._limit = wanted
        self._start = start
        self._request = request
        #: The page that is to be requested now, and where an interrupted pass can be taken up again.
        self.requested = PageRequest(offset=start, limit=wanted)
        self._requested_again = False
        self._total: int | None = None
        self._stride = wanted
        # Two marks that are equal by chance drop a row, which the total betrays at the end.
        self._keys = _PageFingerprints()
        self._first_keys = _PageFingerprints()
        self._last_items: tuple[Any, ...] = ()
        self._delivered = 0
        self._dropped = 0
        self._announced = 0

    def ahead(self, maximum: int, *, stop: int | None = None) -> tuple[PageRequest, ...]:
        """
        Give the pages that are to be asked for if none brings a surprise: :attr:`requested`, and those after it.

        More than one only where the service has said how many rows there are in all, and can be trusted with that.

        Args:
            maximum: Pages at the most.
            stop: The offset at which no further page is wanted, or None for the end of the list.
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
        Take the page that came for :attr:`requested`.

        Raises:
            ListingError: The listing looped, shrank or contradicts itself; its ``cursor`` is the offset of this page.
        """
        if page.whole or not self._shape.paged:
            return self._take_all(page)
        if page.echoed_offset is not None and page.echoed_offset != self.requested.offset:
            return self._ask_again(f"says it starts at {page.echoed_offset}")
        if self._shape.total:
            self._check_total(page)
        elif page.total is not None and page.total > len(page.items):
            self._announced = max(self._announced, page.total)
        if not page.items:
            return self._take_empty(page)
        keys = self._keys_of(page.items)
        self._check_repeats(page, keys)
        rows, offset = self._new_rows(page, keys), self._offset_after(page)
        if offset is None:
            return self._end(rows)
        self._stride = max(1, offset - self.requested.offset)
        self.requested = PageRequest(offset=offset, limit=self._limit)
        self._requested_again = False
        return PaginationStep(rows=rows, then=self.requested)

    def _take_all(self, page: Page) -> PaginationStep:
        """Take the only page of a list that has no pages."""
        if self._shape.total and page.total is not None and page.total > len(page.items):
            raise self._error(f"holds {len(page.items)} rows and says that there are {page.total}")
        return PaginationStep(rows=self._new_rows(page, self._keys_of(page.items)))

    def _take_empty(self, page: Page) -> PaginationStep:
        """
        An empty page ends a list, unless a number that can be trusted says that rows are missing.

        One that cannot be trusted is worth a second look: it may count rows that the user may not see.
        """
        if self._shape.total and self._total is not None and self.requested.offset < self._total:
            return self._ask_again(f"is empty, of {self._total} rows in all")
        if not self._shape.total and page.total is not None and page.total > self.requested.offset:
            return self._end(()) if self._requested_again else self._ask_again("is empty")
        return self._end(())

    def _check_total(self, page: Page) -> None:
        """A total that falls means rows were removed, so that others have moved past the border of a page."""
        if page.total is None:
            return
        if self._total is not None and page.total < self._total:
            raise self._error(f"says that there are {page.total} rows, after {self._total} before; the list shrank")
        self._total = page.total

    def _check_repeats(self, page: Page, keys: list[str | int | None]) -> None:
        """Raise for a service that ignores the offset, or responds with its last page for any offset behind it."""
        first = next((key for key in keys if key is not None), None)
        if first is None:
            if page.items == self._last_items:
                raise self._error("holds the same rows as the page before")
            self._last_items = page.items
            return
        if first in self._first_keys:
            raise self._error("begins with the same row as a page before")
        if all(key is not None and key in self._keys for key in keys):
            raise self._error("holds only rows that came before")
        self._first_keys.add(first)

    def _new_rows(self, page: Page, keys: list[str | int | None]) -> tuple[Any, ...]:
        """Return the rows that did not come before, and remember them."""
        latest: dict[Any, Any] = {}
        for at, (key, row) in enumerate(zip(keys, page.items, strict=True)):
            latest[("", at) if key is None else key] = row
        rows = tuple([row for key, row in latest.items() if isinstance(key, tuple) or key not in self._keys])
        for key in latest:
            if not isinstance(key, tuple):
                self._keys.add(key)
        self._delivered += len(rows)
        self._dropped += len(page.items) - len(rows)
        return rows

    def _keys_of(self, rows: tuple[Any, ...]) -> list[str | int | None]:
        """Return the value that names each row, or None."""
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
        """Say where the next page starts, or None when this one was the last."""
        count, requested = len(page.items), self.requested
        granted = page.echoed_limit if page.echoed_limit and 0 < page.echoed_limit <= requested.limit else None
        if self._shape.total and self._total is not None:
            offset = requested.offset + max(count, granted or 0)
            return offset if offset < self._total else None
        if count > requested.limit:
            return None
        if count >= (granted or requested.limit):
            return requested.offset + count
        # A short page is the last one, unless more is announced or the limit was plainly ignored.
        if page.total is not None and page.total > requested.offset + count:
            return requested.offset + (granted or count)
        if count == self._shape.default and granted is None:
            return requested.offset + count
        return None

    def _end(self, rows: tuple[Any, ...]) -> PaginationStep:
        """Close the books: rows that came twice mean that others never came, where the total can be trusted."""
        if self._shape.total and self._total is not None and self._dropped:
            missing = self._total - self._start - self._delivered
            if missing > 0:
                raise self._error(
                    f"ends the list with {missing} of {self._total} rows missing and {self._dropped} that came twice"
                )
        return PaginationStep(rows=rows, missing=max(0, self._announced - self._start - self._delivered))

    def _ask_again(self, what: str) -> PaginationStep:
        """Ask for the same page a second time, which costs one request and mends what a cache got wrong."""
        if self._requested_again:
            raise self._error(f"{what}, twice in a row")
        self._requested_again = True
        return PaginationStep(then=self.requested)

    def _error(self, what: str) -> ListingError:
        line = self._request or "The listing"
        return ListingError(
            f"{line}: the page at offset {self.requested.offset} {what}. The listing is not known to be whole, so"
            " nothing is concluded from it; list again, or go on from this offset.",
            cursor=self.requested.offset,
            request=self._request,
        )
