"""Waiting by asking: at widening intervals, up to a deadline, at a known cost; seen by the service that is asked."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from arena_scripts import arena_client
from fake_clock import FakeTime
from scripted import RawServer, Reply, Seen, json_reply, reply

from arena_async import ArenaClient, Clock, PollPolicy, RetryPolicy
from arena_async.errors import DeadlineError, ServerError
from arena_async.providers.arena import ExportRun

RUN = "/v1/exports/X/runs/R1"


class Run:
    """
    A run of an export that is finished after some seconds, and the client that waits for it.

    ``requested`` holds the seconds after the beginning at which each question came to the service.
    """

    def __init__(self, server: RawServer, finished_at: float) -> None:
        self.server = server
        self.finished_at = finished_at
        self.time = FakeTime()
        self.began = self.time.at
        self.requested: list[float] = []
        server.on("GET", RUN, self.answer)

    def answer(self, _: Seen) -> Reply:
        self.requested.append(self.time.at - self.began)
        return json_reply({"guid": "R1", "status": "COMPLETE" if self.requested[-1] >= self.finished_at else "RUNNING"})

    def begun(self, *, seconds_ago: float = 0) -> ExportRun:
        """Return the run as the answer to its start shows it."""
        return ExportRun(
            guid="R1", status="RUNNING", creation_date_time=self.time.now() - timedelta(seconds=seconds_ago)
        )

    @asynccontextmanager
    async def client(self) -> AsyncIterator[ArenaClient]:
        """Open a client that lives on the time of the run."""
        clock = Clock(monotonic=self.time, sleep=self.time.sleep, now=self.time.now)
        async with arena_client(self.server, clock=clock, retry=RetryPolicy(attempts=1)) as arena:
            yield arena

    async def wait(self, run: str | ExportRun = "R1", *, poll: PollPolicy | None = None, **how: Any) -> ExportRun:
        """Wait for it."""
        async with self.client() as arena:
            return await arena.exports.wait("X", run, poll=poll, **how)


@pytest.fixture
async def server() -> AsyncIterator[RawServer]:
    """Yield a server that is not scripted yet."""
    async with RawServer() as running:
        yield running


def earlier(seconds: float) -> list[ExportRun]:
    """Return three runs that took so long."""
    began = datetime(2026, 3, 1, 12, tzinfo=UTC)
    done = began + timedelta(seconds=seconds)
    return [
        ExportRun(guid=f"E{number}", status="COMPLETE", creation_date_time=began, completion_date_time=done)
        for number in range(3)
    ]


async def test_what_is_finished_already_costs_one_question(server: RawServer) -> None:
    """No waiting before the first one."""
    run = Run(server, 0)
    assert (await run.wait()).done
    assert run.requested == [0.0]


async def test_the_interval_widens_up_to_the_slowest(server: RawServer) -> None:
    """Half as much again each time."""
    run = Run(server, 60)
    assert (await run.wait(poll=PollPolicy(every=4, max_interval=10, timeout=1000))).done
    assert run.requested == [0.0, 4.0, 10.0, 19.0, 29.0, 39.0, 49.0, 59.0, 69.0]


@pytest.mark.parametrize(("seconds", "polls"), [(40 * 60, 18), (6 * 3600, 82)])
async def test_the_cost_of_the_default_policy_is_known(server: RawServer, seconds: float, polls: int) -> None:
    """QU13: forty minutes and six hours."""
    run = Run(server, seconds)
    assert (await run.wait()).done
    assert len(run.requested) == polls


async def test_the_last_question_is_asked_when_the_time_is_up(server: RawServer) -> None:
    """And then it is an error that says what goes on."""
    run = Run(server, 1e9)
    with pytest.raises(DeadlineError, match=r"^export run R1: not finished after 100 s and 5 polls"):
        await run.wait(poll=PollPolicy(every=30, max_interval=30, timeout=100))
    assert run.requested == [0.0, 30.0, 60.0, 90.0, 100.0]


async def test_what_is_known_already_is_not_asked_for(server: RawServer) -> None:
    """The answer to the request that started a run says that it is not finished yet."""
    run = Run(server, 6)
    on_poll: list[tuple[bool, int, float | None]] = []
    found = await run.wait(
        run.begun(),
        poll=PollPolicy(every=4, max_interval=100),
        on_status=lambda seen: on_poll.append((seen.run is not None and seen.run.done, seen.polls, seen.again_in)),
    )

    assert found.done
    assert run.requested == [4.0, 10.0]
    assert on_poll == [(False, 1, 6.0), (True, 2, None)]


async def test_no_question_is_asked_before_most_of_the_usual_time_is_over(server: RawServer) -> None:
    """Earlier runs took a minute: the first question comes after 54 seconds, and then as without that knowledge."""
    run = Run(server, 60)
    await run.wait(run.begun(), poll=PollPolicy(every=4, max_interval=300), earlier=earlier(60))

    assert run.requested == [54.0, 60.0]


async def test_a_run_that_was_waited_for_before_is_that_much_further(server: RawServer) -> None:
    """Forty of the usual sixty seconds are over."""
    run = Run(server, 20)
    await run.wait(run.begun(seconds_ago=40), poll=PollPolicy(every=4, max_interval=300), earlier=earlier(60))

    assert run.requested == [14.0, 20.0]


async def test_an_error_of_a_question_is_the_callers(server: RawServer) -> None:
    """Trying again is the session's business."""
    run = Run(server, 0)
    server.on("GET", RUN, reply(500))

    with pytest.raises(ServerError):
        await run.wait()
    assert server.lines("GET *") == [f"GET {RUN}"]
