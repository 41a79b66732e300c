"""A caller who would rather wait for the next allowance than be refused: parked, one probe first, then the rest."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from leaks import stray_tasks
from plain_provider import new_session
from scripted import RawServer, Reply, Seen, json_reply, reply

from arena_async.errors import ClosedError, ConfigurationError, QuotaExhaustedError
from arena_async.http.session import Session
from arena_async.protocol.messages import Request
from arena_async.protocol.quota import DailyQuota

THINGS = Request(method="GET", path="/things", scope=None)
NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


class Day:
    """A clock on which time passes while somebody sleeps, and not otherwise."""

    def __init__(self) -> None:
        self.now = NOON
        self.naps: list[float] = []

    def clock(self) -> float:
        return self.now.timestamp()

    def date(self) -> datetime:
        return self.now

    async def sleep(self, seconds: float) -> None:
        """Pass the time. Of those who sleep together the last one to fall asleep passes it for all."""
        end = self.now + timedelta(seconds=seconds)
        await asyncio.sleep(0.01)
        self.naps.append(seconds)
        self.now = max(self.now, end)


class Service:
    """A service with an allowance that starts anew at its own time of day."""

    def __init__(self, day: Day, *, left: int, resets_at: datetime, then: int = 1000) -> None:
        self.day = day
        self.left = left
        self.resets_at = resets_at
        self.then = then
        self.at: list[datetime] = []
        self.open = 0
        self.widest = 0

    def things(self, _: Seen) -> Reply:
        self.at.append(self.day.now)
        if self.day.now >= self.resets_at:
            self.left, self.resets_at = self.then, self.resets_at + timedelta(days=1)
        headers = {"X-Remaining": str(max(self.left - 1, 0)), "X-Resets-At": self.resets_at.isoformat()}
        if self.left <= 0:
            return json_reply({"code": 4084}, 429, headers=headers)
        self.left -= 1
        return json_reply({}, headers=headers)


@pytest.fixture
async def server() -> AsyncIterator[RawServer]:
    """Yield a server that knows nothing yet."""
    async with RawServer() as server:
        yield server


def waiting(server: RawServer, day: Day, *, reserve: int = 0, **options: Any) -> Session:
    """Build a session that waits."""
    gate = DailyQuota(reserve=reserve, on_exhausted="wait")
    return new_session(server.base_url, limiter=gate, clock=day.clock, now=day.date, sleep=day.sleep, **options)


async def test_what_finds_the_allowance_used_up_is_sent_after_the_reset(server: RawServer) -> None:
    """QU20: 429 once, then nothing until the reset, then the answer."""
    day = Day()
    service = Service(day, left=0, resets_at=NOON + timedelta(hours=3))
    server.on("GET", "/things", service.things)

    async with aclosing(waiting(server, day)) as session:
        answer = await session.send(THINGS)

    assert answer.status == 200
    assert service.at == [NOON, NOON + timedelta(hours=3)]
    assert sum(day.naps) == 3 * 3600
    assert max(day.naps) == 600


async def test_after_the_reset_one_request_goes_first_and_then_the_rest(server: RawServer) -> None:
    """QU20: the probe is alone on the wire until it has brought a number."""
    day, go = Day(), asyncio.Event()
    resets_at = NOON + timedelta(minutes=5)
    headers = {"X-Remaining": "500", "X-Resets-At": (resets_at + timedelta(days=1)).isoformat()}
    used_up = json_reply({"code": 4084}, 429, headers={"X-Remaining": "0", "X-Resets-At": resets_at.isoformat()})
    server.on("GET", "/things", used_up, json_reply({}, headers=headers, before=go), json_reply({}, headers=headers))

    async with aclosing(waiting(server, day)) as session:
        calls = [asyncio.create_task(session.send(THINGS)) for _ in range(8)]
        await server.arrived(2, "GET /things")
        for _ in range(20):
            await asyncio.sleep(0.002)
        alone = len(server.requests)
        go.set()
        answers = await asyncio.gather(*calls)

    assert alone == 2
    assert [answer.status for answer in answers] == [200] * 8
    assert len(server.requests) == 1 + 8


async def test_a_probe_that_is_refused_parks_everybody_again(server: RawServer) -> None:
    """QU20: still 429 after the reset, so wait for the next one; one request each time."""
    day = Day()
    first, second = NOON + timedelta(hours=1), NOON + timedelta(hours=25)
    refusals = [
        json_reply({"code": 4084}, 429, headers={"X-Remaining": "0", "X-Resets-At": at.isoformat()})
        for at in (first, second)
    ]
    after = {"X-Remaining": "9", "X-Resets-At": (second + timedelta(days=1)).isoformat()}
    server.on("GET", "/things", *refusals, json_reply({}, headers=after))

    async with aclosing(waiting(server, day)) as session:
        await asyncio.gather(*(session.send(THINGS) for _ in range(3)))

    assert len(server.requests) == 2 + 3
    assert day.now >= second


async def test_a_refusal_without_headers_keeps_the_others_back_until_it_is_read(server: RawServer) -> None:
    """The body alone says that the day is over; nobody tries in the meantime."""
    day, go = Day(), asyncio.Event()
    late = json_reply({"code": 4084}, 429, before_body=go)
    server.on("GET", "/things", late, json_reply({}, headers={"X-Remaining": "50"}))

    async with aclosing(waiting(server, day)) as session:
        calls = [asyncio.create_task(session.send(THINGS)) for _ in range(4)]
        await server.arrived(1)
        for _ in range(20):
            await asyncio.sleep(0.002)
        alone = len(server.requests)
        go.set()
        await asyncio.gather(*calls)

    assert alone == 1
    assert len(server.requests) == 1 + 4
    assert day.now >= NOON + timedelta(hours=24)


async def test_the_reserve_is_waited_for_as_well(server: RawServer) -> None:
    """QU03: what is left is somebody else's, so the next day is waited for without a request."""
    day = Day()
    service = Service(day, left=101, resets_at=NOON + timedelta(hours=2))
    server.on("GET", "/things", service.things)

    async with aclosing(waiting(server, day, reserve=100)) as session:
        await session.send(THINGS)
        await session.send(THINGS)

    assert service.at == [NOON, NOON + timedelta(hours=2)]


async def test_a_service_whose_clock_is_late_is_asked_again_a_minute_later(server: RawServer) -> None:
    """A reset that has just passed here is not taken for tomorrow's."""
    day = Day()
    announced = NOON + timedelta(hours=1)
    service = Service(day, left=0, resets_at=announced + timedelta(seconds=20))
    server.on("GET", "/things", lambda seen: _announcing(service.things(seen), announced))

    async with aclosing(waiting(server, day)) as session:
        await session.send(THINGS)

    assert service.at == [NOON, announced, announced + timedelta(seconds=60)]


def _announcing(answer: Reply, at: datetime) -> Reply:
    if answer.status == 200:
        return answer
    return json_reply({"code": 4084}, 429, headers={"X-Remaining": "0", "X-Resets-At": at.isoformat()})


async def test_content_waits_as_well(server: RawServer) -> None:
    """A body that is asked for on a used-up day comes the next one."""
    day = Day()
    service = Service(day, left=0, resets_at=NOON + timedelta(hours=3))
    server.on("GET", "/things", service.things)

    async with aclosing(waiting(server, day)) as session, await session.stream(THINGS) as opened:
        assert opened.head.status == 200

    assert len(service.at) == 2
    assert session.requests_sent == 2


async def test_waiting_is_no_time_that_a_retry_policy_counts(server: RawServer) -> None:
    """A request that was parked for a day still has its tries and its 300 seconds."""
    day = Day()
    service = Service(day, left=0, resets_at=NOON + timedelta(hours=23))
    answers: list[Any] = [service.things, reply(503), service.things]
    server.on("GET", "/things", *answers)

    async with aclosing(waiting(server, day)) as session:
        assert (await session.send(THINGS)).status == 200


async def test_a_service_that_contradicts_itself_is_not_asked_for_ever(server: RawServer) -> None:
    """Refused twice in a row with an allowance left: the second refusal is the answer."""
    day = Day()
    past = {"X-Resets-At": (NOON - timedelta(hours=2)).isoformat()}
    plenty = {"X-Remaining": "500", "X-Resets-At": (NOON + timedelta(hours=9)).isoformat()}
    refusal = json_reply({"code": 4084}, 429, headers={"X-Remaining": "500", **past})
    server.on("GET", "/things", json_reply({}, headers=plenty), refusal)

    async with aclosing(waiting(server, day)) as session:
        await session.send(THINGS)
        with pytest.raises(QuotaExhaustedError):
            await session.send(THINGS)

    assert len(server.requests) == 3


class Nap:
    """A sleep that never ends by itself; ``count`` says how many sleep now."""

    def __init__(self) -> None:
        self.count = 0

    async def __call__(self, _: float) -> None:
        self.count += 1
        try:
            await asyncio.Event().wait()
        finally:
            self.count -= 1

    async def reached(self, count: int) -> None:
        """Wait until so many sleep."""
        async with asyncio.timeout(20):
            while self.count != count:
                await asyncio.sleep(0.001)


async def test_closing_wakes_what_is_parked(server: RawServer) -> None:
    """Nobody waits for a day on a client that is closed."""
    day, nap = Day(), Nap()
    day.sleep = nap  # type: ignore[method-assign]
    server.on("GET", "/things", json_reply({"code": 4084}, 429, headers={"X-Remaining": "0"}))
    session = waiting(server, day)
    calls = [asyncio.create_task(session.send(THINGS)) for _ in range(3)]
    await server.arrived(1)
    await nap.reached(3)
    await session.aclose()

    async with asyncio.timeout(20):
        found = await asyncio.gather(*calls, return_exceptions=True)

    assert [type(error) for error in found] == [ClosedError] * 3


async def test_a_parked_request_can_be_cancelled(server: RawServer) -> None:
    """Its nap ends with it."""
    day, nap, before = Day(), Nap(), asyncio.all_tasks()
    day.sleep = nap  # type: ignore[method-assign]
    server.on("GET", "/things", json_reply({"code": 4084}, 429, headers={"X-Remaining": "0"}))
    async with aclosing(waiting(server, day)) as session:
        call = asyncio.create_task(session.send(THINGS))
        await server.arrived(1)
        await nap.reached(1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    assert nap.count == 0
    assert stray_tasks(before) == []


async def test_without_the_wish_to_wait_nothing_waits(server: RawServer) -> None:
    """QU01: the default is the error, at once."""
    day = Day()
    service = Service(day, left=0, resets_at=NOON + timedelta(hours=3))
    server.on("GET", "/things", service.things)

    session = new_session(server.base_url, clock=day.clock, now=day.date, sleep=day.sleep)
    async with aclosing(session):
        for _ in range(2):
            with pytest.raises(QuotaExhaustedError) as caught:
                await session.send(THINGS)

    assert caught.value.resets_at == NOON + timedelta(hours=3)
    assert (len(service.at), day.naps) == (1, [])


def test_another_word_is_refused() -> None:
    """The two words are stop and wait."""
    with pytest.raises(ConfigurationError, match="'stop' or 'wait'"):
        DailyQuota(on_exhausted="pause")  # type: ignore[arg-type]
