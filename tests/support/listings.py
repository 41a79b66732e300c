"""Reading a listing to its end, whatever that is."""

from __future__ import annotations

from collections.abc import AsyncIterable
from typing import TypeVar

from arena_async.errors import ArenaAsyncError

__all__ = ["take"]

T = TypeVar("T")


async def take(rows: AsyncIterable[T]) -> tuple[list[T], ArenaAsyncError | None]:
    """Read to the end or to the error, and give what came before it."""
    found: list[T] = []
    try:
        async for row in rows:
            found.append(row)  # noqa: PERF401 - what came before the error is wanted
    except ArenaAsyncError as error:
        return found, error
    return found, None
