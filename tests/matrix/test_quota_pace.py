"""Rows QU07, QU09 to QU15, QU17 and QU18: pauses the service asks for, and requests that nobody decided on."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest
from matrix import World, case, row
from scripted import RawServer, Reply, Seen, json_reply, reply
from services import EXPORT, EXPORT_RUN, FILE, RUN, ArenaScript, CentrePointScript, arena_error, studies, zipped
from session_files import Hours, download, ranged

from arena_async.errors import DeadlineError, HostPausedError, ThrottledError, TransportError, UnsafeUrlError
from arena_async.http.paginator import ListQuery, Paginator
from arena_async.options import KIB, MIB, Clock, PollPolicy, RetryPolicy
from arena_async.protocol import retry
from arena_async.protocol.messages import Request
from arena_async.protocol.quota import ClockReading, Reservation, SlidingWindow
from arena_async.providers.arena.extracts import Extracts
from arena_async.providers.centrepoint.adapter import list_shape
from arena_async.providers.centrepoint.auth import CENTREPOINT
from arena_async.providers.send_once import RequestStore

THINGS = Request(method="GET", path="/things")
LOGIN, THING, LOGOUT = "POST /v1/login", "GET /v1/things", "PUT /v1/logout"
NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


@row("QU07", protection="a pause is not taken for the used-up day")
@pytest.mark.parametrize(
    ("headers", "waits"),
    [
        ({}, [0.75, 1.0, 1.5, 2.5]),
        ({"Retry-After": "2"}, [2.0, 2.0, 2.0, 2.5]),
        ({"Retry-After": "0"}, [0.75, 1, 1.5, 2.5]),
    ],
    ids=["no word", "two seconds", "no seconds"],
)
async def test_too_fast_is_not_used_up(world: World, headers: dict[str, str], waits: list[float]) -> None:
    """QU07: 429 while requests are left: a few patient tries with jitter, then an error; the next request leaves."""
    hours = Hours()
    async with RawServer() as server:
        script = ArenaScript(world, server)
        script.on("GET", "/things", *[arena_error(429, 4085, headers=headers)] * 5, json_reply({}))
        async with script.session(hours, random=lambda: 0.5) as session:
            with pytest.raises(ThrottledError) as caught:
                await session.send(THINGS)
            assert hours.waits == waits
            await asyncio.sleep(0)
            assert (await session.send(THINGS)).status == 200

    world.saw(caught.value)
    assert server.lines() == [LOGIN, *[THING] * 6, LOGOUT]
    assert hours.passed < 60


@row("QU09", protection="of a refusal only the beginning is read")
@pytest.mark.parametrize(
    "what",
    [
        case("HTML", protection="a pause is not taken for the used-up day"),
        case("empty", protection="a pause is not taken for the used-up day"),
        "1 GB",
    ],
)
async def test_the_body_of_a_429_may_be_anything(world: World, what: str) -> None:
    """QU09: a page of HTML, nothing, a gigabyte: the same error, and 64 KiB are read at the most."""
    pieces = 0

    async def count() -> None:
        nonlocal pieces
        pieces += 1

    html = b"<html><body>Too Many Requests</body></html>"
    bodies = {
        "HTML": reply(429, body=html),
        "empty": reply(429),
        "1 GB": reply(429, body=html.ljust(MIB // 4), times=4096, piece=MIB // 4, between=count),
    }
    async with RawServer() as server:
        script = ArenaScript(world, server)
        script.on("GET", "/things", bodies[what], json_reply({}))
        async with script.client(retry=RetryPolicy(attempts=1)) as arena:
            with pytest.raises(ThrottledError) as caught:
                await arena.session.send(THINGS)
            assert (await arena.session.send(THINGS)).status == 200

    world.saw(caught.value)
    assert caught.value.status == 429
    assert len(str(caught.value)) < 1000
    # What the system's own buffers took in is not what we read.
    assert pieces * MIB // 4 <= 32 * MIB
    assert server.lines() == [LOGIN, THING, THING, LOGOUT]


@row("QU11", protection="the HTTP client sends nothing a second time")
@pytest.mark.parametrize("fresh", [True, False], ids=["fresh connection", "used connection"])
async def test_a_request_that_is_not_answered_leaves_as_often_as_was_decided(world: World, fresh: bool) -> None:
    """QU11: the service reads a GET and hangs up: one request on the wire for each try of the policy."""
    hours = Hours()
    async with RawServer() as server:
        script = ArenaScript(world, server)
        script.on("GET", "/things", json_reply({}))
        for attempts in (1, 3):
            policy = RetryPolicy(attempts=attempts, wait_initial=0, wait_jitter=0)
            async with script.session(hours, retry=policy) as session:
                await session.send(THINGS)
                if fresh:
                    await server.hang_up()
                before = len(server.requests)
                server.on("GET", "/v1/other", reply(mute=True))
                with pytest.raises(TransportError) as caught:
                    await session.send(Request(method="GET", path="/other"))
                world.saw(caught.value)
                assert server.lines()[before:] == ["GET /v1/other"] * attempts
                assert caught.value.attempts == attempts


@row("QU12", protection="content is asked for without a probe")
async def test_a_file_costs_one_content_request(world: World) -> None:
    """QU12: twelve files: one request for the run, twelve for content, and nothing else that counts."""
    body = zipped(20 * KIB)
    guids = [f"L3N6P2NE14N3M5V2LZ{number:02}" for number in range(12)]
    async with RawServer() as server:
        script = ArenaScript(world, server)
        script.export(*guids, content=reply(body=body))
        async with script.client() as arena:
            files = arena.exports.files(EXPORT, RUN)
            assert (files.cost().listing, files.cost().per_file) == (1, 1)
            report = await download(world, files)

    report.raise_for_failures()
    assert report.requests == 13
    assert sorted(server.lines()) == sorted(
        [LOGIN, LOGOUT, f"GET /v1{EXPORT_RUN}", *(f"GET /v1{EXPORT_RUN}/files/{guid}/content" for guid in guids)]
    )


@row("QU13", protection="questions come at widening intervals")
async def test_forty_minutes_of_waiting_cost_eighteen_questions(world: World) -> None:
    """QU13: a run that never ends: no more questions than the policy says beforehand, and the caller hears each."""
    hours, poll = Hours(), PollPolicy(timeout=40 * 60)
    on_poll: list[tuple[int, float | None]] = []
    async with RawServer() as server:
        script = ArenaScript(world, server)
        script.on("GET", "/extracts/E/runs/R", json_reply({"guid": "R", "status": "In Progress"}))
        async with script.session(hours) as session:
            timing = Clock(monotonic=hours.clock, sleep=hours.sleep, random=lambda: 0.5)
            extracts = Extracts(session, timing=timing, records=RequestStore("robot", now=timing.now))
            with pytest.raises(DeadlineError) as caught:
                await extracts.wait(
                    "E", "R", poll=poll, on_status=lambda seen: on_poll.append((seen.polls, seen.again_in))
                )

    world.saw(caught.value)
    requested = len(server.lines("GET *"))
    assert 10 <= requested <= 18
    assert poll.max_polls() == 18
    assert hours.passed == 40 * 60
    assert [number for number, _ in on_poll] == list(range(1, requested + 1))
    assert [again for _, again in on_poll] == [*hours.waits, None]
    assert max(hours.waits) == 300


@row("QU14", protection="the requests for one file are bounded")
@pytest.mark.parametrize(
    ("downloaded", "attempts", "requests"),
    [
        case(100 * KIB, 5, 21, protection="a cut body is taken up where it broke"),
        (100 * KIB, 1, 10),
        case(10, 2, 2, protection="attempts come to an end"),
    ],
    ids=["twenty breaks", "too many breaks", "no progress"],
)
async def test_a_transfer_that_breaks_again_and_again_is_booked_and_bounded(
    world: World, downloaded: int, attempts: int, requests: int
) -> None:
    """
    QU14: each continuation is a booked request, and there are ten times as many as attempts without progress at most.

    What came and was made safe stays, and the next run goes on there.
    """
    body = zipped(2 * MIB) if requests < 21 else zipped(2 * MIB + 50 * KIB)
    world.allow(f"arena/exports/{EXPORT}/{RUN}/{FILE}.zip", body)
    content = f"{EXPORT_RUN}/files/{FILE}/content"
    async with RawServer() as server:
        script = ArenaScript(world, server)
        script.export(FILE)
        script.on("GET", content, *[ranged(body, cut=downloaded)] * 20, ranged(body, cut=None))
        async with script.client() as arena:
            report = await download(world, arena.exports.files(EXPORT, RUN), remember=True, attempts=attempts)
            assert len(server.lines(f"GET /v1{content}")) == requests
            assert report.requests == 1 + requests
            if requests < 21:
                (failure,) = report.failures
                assert isinstance(failure.error, TransportError)
                script.on("GET", content, ranged(body))
                report = await download(world, arena.exports.files(EXPORT, RUN), remember=True)
            report.raise_for_failures()

    requested = [seen.header("Range") for seen in server.requests if seen.path == f"/v1{content}"]
    assert requested[:requests] == [None, *(f"bytes={number * downloaded}-" for number in range(1, requests))]
    for later in requested[requests:]:
        begin = int((later or "bytes=0-")[6:-1])
        assert requests * downloaded - 64 * KIB <= begin <= requests * downloaded


def fullest_minute(at: list[float]) -> int:
    """Return how many of these moments lie in the sixty seconds that hold most of them."""
    return max(sum(begin <= timestamp < begin + 60 for timestamp in at) for begin in set(at))


class InStep(Hours):
    """Time that passes only when nothing is on the wire, so that what was sent before a wait arrives before it."""

    server: RawServer
    answered = 0

    async def sleep(self, seconds: float) -> None:
        until = self.passed + seconds
        while self.answered < len(self.server.requests):
            await asyncio.sleep(0)
        self.waits.append(seconds)
        self.passed = max(self.passed, until)


@row("QU15", protection="no minute holds more requests than are allowed")
async def test_no_minute_holds_more_requests_than_are_allowed(world: World) -> None:
    """QU15: 300 pages at 100 a minute, files in between: two minutes of waiting, and files take nothing of them."""
    hours = InStep()
    at: list[float] = []

    def answer(seen: Seen) -> Reply:
        at.append(hours.passed)
        hours.answered = len(hours.server.requests)
        return studies([len(at)], total=300, offset=len(at) - 1, limit=1)

    async with RawServer() as server:
        hours.server = server
        script = CentrePointScript(world, server)
        server.on("GET", "/centrepoint/v3/Studies", answer)
        server.on("GET", "/blob/*", reply(body=b"x"))
        async with script.session(hours, rate_limit=100) as session:
            request = Request(method="GET", path="/centrepoint/v3/Studies", scope=CENTREPOINT)
            link = f"{server.base_url}/blob/a?sig={world.secrets['sig']}"
            blob = Request(method="GET", path=link, scope=None, metered=False)
            paginator = Paginator(
                session, ListQuery(request, list_shape("id"), lambda row: row["id"]), limit=1, ahead=1
            )
            walked = 0
            async for _ in paginator:
                walked += 1
                if walked % 30 == 0:
                    async with await session.stream(blob):
                        hours.answered = len(server.requests)

    assert (walked, len(at)) == (300, 300)
    assert len(server.lines("GET /blob/*")) == 10
    assert fullest_minute(at) == 100
    assert hours.passed == 120


@row("QU15", protection="no minute holds more requests than are allowed")
def test_twelve_hundred_calls_take_their_minutes() -> None:
    """QU15: 1,200 calls at 400 a minute, each 0.1 s after the one before where it may leave at once."""
    window, now, at = SlidingWindow(limit=400), 0.0, []
    while len(at) < 1200:
        answer = window.reserve(ClockReading(now, NOW))
        if isinstance(answer, Reservation):
            window.sent(answer, ClockReading(now, NOW))
            window.settle(answer, None, ClockReading(now, NOW))
            at.append(now)
            now += 0.1
        else:
            assert answer.seconds is not None
            now += answer.seconds
    assert fullest_minute(at) == 400
    assert 120 <= at[-1] <= 161


FAR = retry.MAX_RETRY_AFTER


@row("QU17", protection="what the service asks to wait is read whatever its shape")
@pytest.mark.parametrize(
    ("values", "seconds"),
    [
        case(["0"], 0.0, protection="a service that is away says when to come back"),
        case(["17"], 17.0, protection="a service that is away says when to come back"),
        case(["1.5"], 1.5, protection="a service that is away says when to come back"),
        (["-1"], 0.0),
        (["Fri, 01 May 2026 11:59:00 GMT"], 0.0),
        (["Fri, 01 May 2026 12:01:30 GMT"], 90.0),
        (["Friday, 01-May-26 12:01:30 GMT"], 90.0),
        (["99999999999"], FAR),
        (["9" * 400], None),
        (["soon"], None),
        ([""], None),
        (["5", "17"], 17.0),
        (["5, 17"], 17.0),
        (["Thu, 01 Jan 99999 00:00:00 GMT"], None),
        (["nan"], None),
        (["inf"], None),
    ],
)
def test_any_retry_after_is_a_bounded_number_or_nothing(values: list[str], seconds: float | None) -> None:
    """QU17: never negative, never beyond a year, no error for nonsense; of several values the longest counts."""
    assert retry.read_retry_after(values, NOW) == seconds


@row("QU17", protection="what the service asks to wait is read whatever its shape")
@pytest.mark.parametrize(
    "value",
    [
        "99999999999",
        case("301", protection="a service that is away says when to come back"),
        "Fri, 01 Mar 2030 12:00:00 GMT",
    ],
)
async def test_a_wait_beyond_all_patience_is_an_error_that_says_so(world: World, value: str) -> None:
    """QU17: nobody sleeps for days: the error says how long, and the next request fails here until then."""
    hours = Hours()
    async with RawServer() as server:
        script = ArenaScript(world, server)
        script.on("GET", "/things", arena_error(429, 4085, headers={"Retry-After": value}), json_reply({}))
        async with script.session(hours, retry=RetryPolicy(timeout=300)) as session:
            for _ in range(2):
                with pytest.raises((ThrottledError, HostPausedError)) as caught:
                    await session.send(THINGS)
                world.saw(caught.value)
                assert caught.value.retry_after is not None
                assert 300 < caught.value.retry_after <= FAR
            hours.passed += caught.value.retry_after
            assert (await session.send(THINGS)).status == 200

    assert hours.waits == []
    assert server.lines("GET *") == [THING] * 2


@row("QU18", protection="a service that is away says when to come back")
async def test_a_retry_after_counts_where_something_was_refused_and_nowhere_else(world: World) -> None:
    """QU18: on a 503 it is waited for; on a 200 and on a redirect it means nothing."""
    hours = Hours()
    later = {"Retry-After": "17"}
    async with RawServer() as server:
        script = ArenaScript(world, server)
        elsewhere = {**later, "Location": f"{server.base_url}/v1/things"}
        script.on("GET", "/things", arena_error(503, 9002, headers=later), json_reply({}, headers=later))
        script.on("GET", "/moved", reply(301, headers=elsewhere))
        async with script.session(hours, random=lambda: 0.5) as session:
            assert (await session.send(THINGS)).status == 200
            assert hours.waits == [17.0]
            assert (await session.send(THINGS)).status == 200
            with pytest.raises(UnsafeUrlError) as caught:
                await session.send(Request(method="GET", path="/moved"))
            assert (await session.send(THINGS)).status == 200

    world.saw(caught.value)
    assert hours.waits == [17.0]
    assert server.lines() == [LOGIN, THING, THING, THING, "GET /v1/moved", THING, LOGOUT]
