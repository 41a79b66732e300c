"""Poll until done, with a bounded number of requests."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import attrs

from arena_async.errors import DeadlineError
from arena_async.options import Clock, PollPolicy

__all__ = ["Polled", "wait_until"]

T = TypeVar("T")

#: Seconds that are too short to wait once more.
_MIN_PAUSE = 0.001


@attrs.frozen(kw_only=True)
class Polled(Generic[T]):
    """
    The subject of polling.

    Args:
        what: What is waited for, for messages.
        known: A known state, so that the first poll is made after the first interval; or None.
        passed: Seconds that it has run before.
        expected: Seconds that earlier runs took, or None; polling begins when most of that has passed.
        on_poll: Called with each state, the number of polls so far, and the seconds to the next one or None.
    """

    what: str = "the run"
    known: T | None = None
    passed: float = 0.0
    expected: float | None = None
    on_poll: Callable[[T, int, float | None], object] | None = None


async def wait_until(
    poll: Callable[[], Awaitable[T]],
    done: Callable[[T], bool],
    policy: PollPolicy,
    *,
    clock: Clock | None = None,
    polled: Polled[T] | None = None,
) -> T:
    """
    Poll at increasing intervals until the state is final, and return it.

    The first poll is made at once, unless a state is known; the last one at the timeout. It costs at
    most :meth:`PollPolicy.max_polls`.

    Args:
        poll: Polls once; every call costs one request.
        done: Whether a state is final.
        policy: The interval and the timeout.
        clock: Time; None for the system clock.
        polled: The subject, and what is known about it.

    Raises:
        DeadlineError: It timed out; the run continues at the service.
    """
    clock, polled = clock or Clock(), polled or Polled()
    began, polls = clock.monotonic(), 0
    state = polled.known
    # A known state replaces the first poll.
    known = state is not None
    if state is None:
        state, polls = await poll(), 1
    while True:
        spent = clock.monotonic() - began
        left = policy.timeout - spent
        pause: float | None = None
        finished = done(state)
        if not finished and left > _MIN_PAUSE:
            passed = polled.passed + spent
            pause = min(policy.pause(polls + known, passed=passed, expected=polled.expected), left)
        if polled.on_poll is not None:
            polled.on_poll(state, polls, pause)
        if finished:
            return state
        if pause is None:
            raise DeadlineError(
                f"{polled.what}: not finished after {policy.timeout:g} s and {polls} polls. It continues at the"
                " service; wait for it again, or allow more time."
            )
        await clock.sleep(pause)
        state, polls = await poll(), polls + 1
