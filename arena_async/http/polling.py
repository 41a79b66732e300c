"""Poll until done, with a bounded number of requests."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import attrs

from arena_async.errors import DeadlineError
from arena_async.options import Clock, PollPolicy

__all__ = ["Polled", "wait_until"]

T = TypeVar("T")


@attrs.frozen(kw_only=True)
class Polled(Generic[T]):
    """
    What is polled.

    Args:
        what: What is waited for, for messages.
        known: What is known already, so that the first poll comes after the first interval; or None.
        passed: Seconds for which it has gone on before.
        expected: Seconds it took earlier, or None; the polls begin when most of that is over.
        on_answer: Called with each answer, the number of polls so far, and the seconds to the next one or None.
    """

    what: str = "the run"
    known: T | None = None
    passed: float = 0.0
    expected: float | None = None
    on_answer: Callable[[T, int, float | None], object] | None = None


async def wait_until(
    poll: Callable[[], Awaitable[T]],
    done: Callable[[T], bool],
    policy: PollPolicy,
    *,
    clock: Clock | None = None,
    polled: Polled[T] | None = None,
) -> T:
    """
    Poll at widening intervals until the answer is the one waited for, and return that answer.

    The first poll is made at once, unless an answer is known already; the last one when the time is up. It costs at
    most :meth:`PollPolicy.max_polls`.

    Args:
        poll: Polls once; every call costs one request.
        done: Whether an answer ends the waiting.
        policy: How often to poll and how long to wait.
        clock: Time; None for the real one.
        polled: What is polled, and what is known about it.

    Raises:
        DeadlineError: The time was up before that; what is waited for goes on at the service.
    """
    clock, polled = clock or Clock(), polled or Polled()
    began, polls = clock.monotonic(), 0
    answer = polled.known
    # What is known beforehand stands for the first poll.
    known = answer is not None
    if answer is None:
        answer, polls = await poll(), 1
    while True:
        spent = clock.monotonic() - began
        left = policy.timeout - spent
        pause: float | None = None
        over = done(answer)
        if not over and left > 0:
            passed = polled.passed + spent
            pause = min(policy.pause(polls + known, passed=passed, expected=polled.expected), left)
        if polled.on_answer is not None:
            polled.on_answer(answer, polls, pause)
        if over:
            return answer
        if pause is None:
            raise DeadlineError(
                f"{polled.what}: not finished after {policy.timeout:g} s and {polls} questions. It goes on at the"
                " service; wait for it again, or allow more time."
            )
        await clock.sleep(pause)
        answer, polls = await poll(), polls + 1
