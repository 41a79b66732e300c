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


async def wait_until(
    ask: Callable[[], Awaitable[T]],
    done: Callable[[T], bool],
    policy: PollPolicy,
    *,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    clock: Callable[[], float] = time.monotonic,
    what: str = "the run",
    answer: T | None = None,
    passed: float = 0.0,
    expected: float | None = None,
    heard: Callable[[T, int, float | None], object] | None = None,
) -> T:
    """
    Ask at widening intervals until the answer is the one waited for, and give that answer.

    The first question is asked at once, unless an answer is there already; the last one when the time is up. It costs
    :meth:`PollPolicy.most_questions` at most.

    Args:
        ask: Asks once; every call costs one request.
        done: Whether an answer ends the waiting.
        policy: How often to ask and how long to wait.
        sleep: Waits for so many seconds.
        clock: Seconds that never jump.
        what: What is waited for, for the message.
        answer: What is known already, so that the first question comes after the first interval; or None.
        passed: Seconds for which it has gone on before.
        expected: Seconds it took earlier, or None; the questions begin when most of that is over.
        heard: Called with each answer, the number of questions so far, and the seconds to the next one or None.

    Raises:
        DeadlineError: The time was up before that; what is waited for goes on at the service.
    """
    began, asked = clock(), 0
    # What is known beforehand stands for the first question.
    known = answer is not None
    if answer is None:
        answer, asked = await ask(), 1
    while True:
        spent = clock() - began
        left = policy.timeout - spent
        pause: float | None = None
        over = done(answer)
        if not over and left > 0:
            pause = min(policy.pause(asked + known, passed=passed + spent, expected=expected), left)
        if heard is not None:
            heard(answer, asked, pause)
        if over:
            return answer
        if pause is None:
            raise DeadlineError(
                f"{what}: not finished after {policy.timeout:g} s and {asked} questions. It goes on at the service;"
                " wait for it again, or allow more time."
            )
        await sleep(pause)
        answer, asked = await ask(), asked + 1
