"""Waiting for something that only asking can tell, at a cost that is known beforehand."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from arena_async.errors import DeadlineError
from arena_async.options import PollPolicy

__all__ = ["wait_until"]

T = TypeVar("T")

#: How much longer each interval is than the one before. With the intervals of the default policy, 40 minutes of waiting
#: cost 18 requests and six hours cost 82.
_WIDENING = 1.5


async def wait_until(
    ask: Callable[[], Awaitable[T]],
    done: Callable[[T], bool],
    policy: PollPolicy,
    *,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    clock: Callable[[], float] = time.monotonic,
    what: str = "the run",
) -> T:
    """
    Ask at widening intervals until the answer is the one waited for, and give that answer.

    The first question is asked at once, the last one when the time is up.

    Args:
        ask: Asks once; every call costs one request.
        done: Whether an answer ends the waiting.
        policy: How often to ask and how long to wait.
        sleep: Waits for so many seconds.
        clock: Seconds that never jump.
        what: What is waited for, for the message.

    Raises:
        DeadlineError: The time was up before that; what is waited for goes on at the service.
    """
    began, interval, asked = clock(), policy.every, 0
    while True:
        answer = await ask()
        asked += 1
        if done(answer):
            return answer
        left = policy.timeout - (clock() - began)
        if left <= 0:
            raise DeadlineError(
                f"{what}: not finished after {policy.timeout:g} s and {asked} questions. It goes on at the service;"
                " wait for it again, or allow more time."
            )
        await sleep(min(interval, left))
        interval = min(interval * _WIDENING, policy.slowest)
