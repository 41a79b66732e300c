"""The places that the service has for requests: ten, and whoever comes eleventh waits in line."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from arena_async.errors import ArenaAsyncError, DeadlineError, DecodeError, ServerError, TransportError
from arena_async.providers.centrepoint.models import DataRequest

__all__ = ["MOST_ACTIVE", "Places", "may_hold_a_place"]

#: Requests that the service works on at a time, by its page on raw data; whether raw and epoch ones share that is not
#: said, so they do.
MOST_ACTIVE = 10


class Places:
    """
    The places that the service has for requests, as far as this client takes them; raw and epoch requests share them.

    Args:
        most: How many there are.
    """

    def __init__(self, *, most: int = MOST_ACTIVE) -> None:
        self._most = most
        self._line = asyncio.Lock()
        #: When each request that may still be active was last asked about, by the clock of whoever asked.
        self._asked: dict[tuple[str, str], float] = {}

    @property
    def taken(self) -> int:
        """Requests of this client that may still be active."""
        return len(self._asked)

    @property
    def is_full(self) -> bool:
        """Whether another request would be one too many."""
        return self.taken >= self._most

    @contextlib.asynccontextmanager
    async def line(self, seconds: float) -> AsyncIterator[None]:
        """
        Wait in line, first come, first served, and be the first of it inside.

        Raises:
            TimeoutError: That took longer than ``seconds``.
        """
        async with asyncio.timeout(seconds):
            await self._line.acquire()
        try:
            yield
        finally:
            self._line.release()

    def note(self, place: tuple[str, str], request: DataRequest, *, at: float) -> None:
        """Take down what the service says about a request of this client: that it is active, or not any more."""
        if request.is_active:
            self._asked[place] = at
        else:
            self.leave(place)

    def heard(self, place: tuple[str, str], request: DataRequest, *, at: float) -> None:
        """Take down what the service says about any request; one that this client did not start takes no place here."""
        if place in self._asked:
            self.note(place, request, at=at)

    def leave(self, place: tuple[str, str]) -> None:
        """Give a place back."""
        self._asked.pop(place, None)

    def doubtful(self, *, before: float) -> list[tuple[str, str]]:
        """Give the requests that nobody has asked about since ``before``, the longest unasked one first."""
        return sorted((place for place, at in self._asked.items() if at <= before), key=self._asked.__getitem__)


def may_hold_a_place(error: ArenaAsyncError) -> bool:
    """Say whether the service may have taken a request although its start failed."""
    if isinstance(error, TransportError | DeadlineError):
        return error.sent
    return isinstance(error, ServerError | DecodeError)
