"""The limit of active requests: the service works on ten at a time, and a client starts no eleventh."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from arena_async.providers.centrepoint.models import DataRequest

__all__ = ["MAX_ACTIVE", "ActiveRequests"]

#: Requests that the service works on at a time, by its page on raw data. Whether raw and epoch requests share them is
#: not documented, so they do here.
MAX_ACTIVE = 10


class ActiveRequests:
    """
    The requests of this client that may be active. Raw and epoch requests share the limit.

    Args:
        limit: How many may be active.
    """

    def __init__(self, *, limit: int = MAX_ACTIVE) -> None:
        self._limit = limit
        self._queue = asyncio.Lock()
        #: When the status of each request was last read, by the clock of the caller.
        self._checked: dict[str, float] = {}

    @property
    def count(self) -> int:
        """Requests of this client that may still be active."""
        return len(self._checked)

    @property
    def is_full(self) -> bool:
        """Whether another request would be one too many."""
        return self.count >= self._limit

    @contextlib.asynccontextmanager
    async def turn(self, seconds: float) -> AsyncIterator[None]:
        """
        Wait until no other task starts a request, first come, first served.

        Raises:
            TimeoutError: That took longer than ``seconds``.
        """
        async with asyncio.timeout(seconds):
            await self._queue.acquire()
        try:
            yield
        finally:
            self._queue.release()

    def add(self, path: str, request: DataRequest, *, at: float) -> None:
        """Count a request that this client started, unless it is finished already."""
        self._checked[path] = at
        self.update(path, request, at=at)

    def update(self, path: str, request: DataRequest, *, at: float) -> None:
        """Note the status of a request; one that this client did not start does not count here."""
        if not request.is_active:
            self.remove(path)
        elif path in self._checked:
            self._checked[path] = at

    def remove(self, path: str) -> None:
        """Count a request no more."""
        self._checked.pop(path, None)

    def unchecked(self, *, before: float) -> list[str]:
        """Return the requests whose status was not read since ``before``, the oldest first."""
        return sorted((path for path, at in self._checked.items() if at <= before), key=self._checked.__getitem__)
