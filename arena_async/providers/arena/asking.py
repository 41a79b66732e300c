"""One object, or a list of them: the two ways in which everything of the service is asked for."""

from __future__ import annotations

from typing import Any, TypeVar

import attrs

from arena_async.net.asking import ask
from arena_async.net.pager import Pager
from arena_async.net.session import Session
from arena_async.providers.arena.dialect import LIST
from arena_async.wire.decoding import decode
from arena_async.wire.messages import Request
from arena_async.wire.paging import ListShape

__all__ = ["UNPAGED", "ask", "walk"]

T = TypeVar("T")

#: A list for which no page documents offset and limit; it comes whole.
UNPAGED = attrs.evolve(LIST, paged=False)


def walk(
    session: Session,
    request: Request,
    model: type[T],
    *,
    offset: int = 0,
    limit: int | None = None,
    shape: ListShape = LIST,
) -> Pager[T]:
    """
    Give a list, page by page as it is read.

    Args:
        session: Where to send.
        request: What to ask, without offset and limit.
        model: What a row becomes.
        offset: Rows to leave out at the beginning.
        limit: Rows of one page, at most 400; None for as many as the service gives.
        shape: What the endpoint's list is like.
    """

    def read(row: Any) -> T:
        return decode(row, model, request=request.line)

    return Pager(session, request, shape, read, limit=limit, start=offset)
