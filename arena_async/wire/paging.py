"""
How a listing is walked: which page comes next, and when it is whole.
"""

from __future__ import annotations

from typing import Any

import attrs

__all__ = ["ListShape", "Page", "PageRequest"]


@attrs.frozen(kw_only=True)
class ListShape:
    """
    What an endpoint's list is like, declared where the endpoint is declared.

    Args:
        largest: Rows the service gives in one page, at the most.
        default: Rows it gives when no limit is asked for or the limit is ignored; None where the service does not say.
        paged: Whether the endpoint takes offset and limit at all.
        total: Whether the number in the answer is the number of rows in all. False: it may be just the page's.
        bare: Whether the answer is a bare JSON array.
        key: The field that names a row, for noticing repeated rows; None where rows have no key.
    """

    largest: int
    default: int | None = None
    paged: bool = True
    total: bool = False
    bare: bool = False
    key: str | None = "guid"


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
        items: The rows, not decoded yet (or decoded, where a :class:`Pager` hands the page out).
        offset: Where it starts, as asked.
        limit: Rows asked for.
        total: The number the service printed beside the rows; what it means is the :class:`ListShape`'s to say.
        echoed_offset: The offset the service says it answered, or None.
        echoed_limit: The limit the service says it granted, or None.
    """

    items: tuple[Any, ...] = attrs.field(repr=False)
    offset: int
    limit: int
    total: int | None = None
    echoed_offset: int | None = None
    echoed_limit: int | None = None
