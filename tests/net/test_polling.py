"""Waiting by asking: at widening intervals, up to a deadline, at a known cost."""

from __future__ import annotations

import pytest

from arena_async.errors import DeadlineError, ServerError
from arena_async.net.polling import wait_until
from arena_async.options import PollPolicy


class Run:
    """A run that is finished at some time, on a clock that only sleeping moves."""

    def __init__(self, finished_at: float) -> None:
        self.finished_at = finished_at
        self.now = 0.0
        self.asked: list[float] = []

    async def ask(self) -> bool:
        self.asked.append(self.now)
        return self.now >= self.finished_at

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


async def wait(run: Run, **policy: float) -> bool:
    """Wait for a run."""
    return await wait_until(run.ask, bool, PollPolicy(**policy), sleep=run.sleep, clock=run.clock, what="run R1")


async def test_what_is_finished_already_costs_one_question() -> None:
    """No waiting before the first one."""
    run = Run(0)
    assert await wait(run)
    assert run.asked == [0.0]


async def test_the_interval_widens_up_to_the_slowest() -> None:
    """Half as much again each time."""
    run = Run(60)
    assert await wait(run, every=4, slowest=10, timeout=1000)
    assert run.asked == [0.0, 4.0, 10.0, 19.0, 29.0, 39.0, 49.0, 59.0, 69.0]


@pytest.mark.parametrize(("seconds", "questions"), [(40 * 60, 18), (6 * 3600, 82)])
async def test_the_cost_of_the_default_policy_is_known(seconds: float, questions: int) -> None:
    """QU13: forty minutes and six hours."""
    run = Run(seconds)
    assert await wait(run)
    assert len(run.asked) == questions


async def test_the_last_question_is_asked_when_the_time_is_up() -> None:
    """And then it is an error that says what goes on."""
    run = Run(1e9)
    with pytest.raises(DeadlineError, match=r"^run R1: not finished after 100 s and 5 questions"):
        await wait(run, every=30, slowest=30, timeout=100)
    assert run.asked == [0.0, 30.0, 60.0, 90.0, 100.0]


async def test_an_error_of_a_question_is_the_callers() -> None:
    """Trying again is the session's business."""

    async def ask() -> bool:
        raise ServerError("away")

    with pytest.raises(ServerError):
        await wait_until(ask, bool, PollPolicy(), what="run R1")
