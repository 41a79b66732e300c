"""Events as they come: looked for at widening intervals, and reconciled one by one when they were taken over."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Self

from arena_async.errors import DeadlineError
from arena_async.net.polling import Polled, wait_until
from arena_async.options import Clock, PollPolicy
from arena_async.providers.arena.models import OutboundEvent
from arena_async.transfer.destination import Timing
from arena_async.wire.messages import printable

__all__ = ["PendingEvent", "Watch"]

_log = logging.getLogger("arena_async")


class Watch:
    """
    The events of an integration as they come: an async iterator that holds nothing open.

    Args:
        look: Gives the pending events, the oldest first.
        settle: Reconciles one.
        policy: How often to look.
        timing: Where time comes from.
        what: What is watched, for messages.
    """

    def __init__(
        self,
        look: Callable[[], Awaitable[list[OutboundEvent]]],
        settle: Callable[[OutboundEvent], Awaitable[object]],
        policy: PollPolicy,
        timing: Timing,
        *,
        what: str,
    ) -> None:
        self._look = look
        self._settle = settle
        self._policy = policy
        self._timing = timing
        self._what = what
        self._due: deque[OutboundEvent] = deque()
        self._again_at: dict[str, float] = {}
        self._looked = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> PendingEvent:
        if not self._due:
            try:
                await self._wait()
            except DeadlineError:
                raise StopAsyncIteration from None
        event = self._due.popleft()
        self._again_at[event.guid] = self._timing.clock() + self._policy.slowest
        return PendingEvent(event, self._settle)

    async def _wait(self) -> None:
        """Look until something is due, at the intervals of the policy."""
        if self._looked:
            await self._timing.sleep(self._policy.every)
        self._looked = True
        found = await wait_until(
            self._look_for_due,
            bool,
            self._policy,
            clock=Clock(monotonic=self._timing.clock, sleep=self._timing.sleep),
            polled=Polled(what=printable(self._what)),
        )
        self._due.extend(found)

    async def _look_for_due(self) -> list[OutboundEvent]:
        """Give what is pending and was not offered a short while ago."""
        pending = await self._look()
        guids = {event.guid for event in pending}
        self._again_at = {guid: at for guid, at in self._again_at.items() if guid in guids}
        now = self._timing.clock()
        return [event for event in pending if self._again_at.get(event.guid, now) <= now]


class PendingEvent:
    """
    An event that waits to be taken over: an async context manager that reconciles it when its block ends well.

    Args:
        event: The event.
        settle: Reconciles it.
    """

    def __init__(self, event: OutboundEvent, settle: Callable[[OutboundEvent], Awaitable[object]]) -> None:
        #: The event, for a look before the block is entered.
        self.event = event
        self._settle = settle

    def __repr__(self) -> str:
        return f"<PendingEvent {self.event.guid}>"

    async def __aenter__(self) -> OutboundEvent:
        return self.event

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if error is None:
            await self._settle(self.event)
        else:
            _log.info("Event %s stays pending: %s.", printable(self.event.guid), type(error).__name__)
