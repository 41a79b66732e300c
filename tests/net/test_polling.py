"""Waiting by asking: at widening intervals, up to a deadline, at a known cost."""

from __future__ import annotations

import pytest

from arena_async.errors import DeadlineError, ServerError
from arena_async.net.polling import Polled, wait_until
from arena_async.options import Clock, PollPolicy


class Run:
    """A run that is finished at some time, on a clock that only sleeping moves."""

    def __init__(self, finished_at: float) -> None:
        self.finished_at = finished_at
        self.now = 0.0
        self.asked: list[float] = []
        self.clock = Clock(monotonic=lambda: self.now, sleep=self.sleep)

    async def ask(self) -> bool:
        self.asked.append(self.now)
        return self.now >= self.finished_at

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


async def wait(run: Run, **policy: float) -> bool:
    """Wait for a run."""
    return await wait_until(run.ask, bool, PollPolicy(**policy), clock=run.clock, polled=Polled(what="run R1"))


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


async def test_what_is_known_already_is_not_asked_for() -> None:
    """The answer to the request that started a run says that it is not finished yet."""
    run = Run(6)
    heard: list[tuple[bool, int, float | None]] = []
    found = await wait_until(
        run.ask,
        bool,
        PollPolicy(every=4, slowest=100),
        clock=run.clock,
        polled=Polled(known=False, on_answer=lambda *what: heard.append(what)),
    )

    assert found
    assert run.asked == [4.0, 10.0]
    assert heard == [(False, 0, 4.0), (False, 1, 6.0), (True, 2, None)]


async def test_no_question_is_asked_before_most_of_the_usual_time_is_over() -> None:
    """An earlier run took a minute: the first question comes after 54 seconds, and then as without that knowledge."""
    run = Run(60)
    policy = PollPolicy(every=4, slowest=300)
    await wait_until(run.ask, bool, policy, clock=run.clock, polled=Polled(known=False, expected=60))

    assert run.asked == [54.0, 60.0]


async def test_a_run_that_was_waited_for_before_is_that_much_further() -> None:
    """Forty of the usual sixty seconds are over."""
    run = Run(20)
    policy = PollPolicy(every=4, slowest=300)
    await wait_until(run.ask, bool, policy, clock=run.clock, polled=Polled(known=False, expected=60, passed=40))

    assert run.asked == [14.0, 20.0]


async def test_an_error_of_a_question_is_the_callers() -> None:
    """Trying again is the session's business."""

    async def ask() -> bool:
        raise ServerError("away")

    with pytest.raises(ServerError):
        await wait_until(ask, bool, PollPolicy(), polled=Polled(what="run R1"))
