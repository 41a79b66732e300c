"""Rows QU01 to QU06, QU08, QU19 to QU21, QU24 to QU26: the allowance of a day, which a whole company shares."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from matrix import World, case, row
from scripted import RawServer, Reply, Seen, json_reply, reply
from services import EXPORT, EXPORT_RUN, FILE, RUN, ArenaScript, CentrePointScript, arena_error, zipped
from session_files import START, Hours, download, ranged

from arena_async.errors import QuotaExhaustedError
from arena_async.protocol.messages import Headers, Request, Response
from arena_async.protocol.quota import ClockReading, DailyQuota, Quota, Reservation
from arena_async.providers.arena.adapter import ArenaAdapter

THINGS = Request(method="GET", path="/things")
LOGIN, THING, LOGOUT = "POST /v1/login", "GET /v1/things", "PUT /v1/logout"
RESETS_AT = datetime(2036, 5, 2, 21, 22, 13, tzinfo=UTC)


def quota_headers(remaining: int, resets_at: datetime) -> dict[str, str]:
    """Write what stands on an answer, the date as ISO."""
    return {
        "X-Arena-Requests-Remaining": str(remaining),
        "X-Arena-Next-Request-Limit-Reset": resets_at.isoformat(),
    }


@row("QU01", protection="what the service says is left is believed")
async def test_a_used_up_day_stops_everything_of_arena_and_nothing_else(world: World) -> None:
    """QU01: one request gets 429 with code 4084; nine that wait, and a download, fail without; CentrePoint goes on."""
    async with RawServer() as server, RawServer() as other:
        script, others = ArenaScript(world, server), CentrePointScript(world, other)
        server.on("*", "/v1/things", arena_error(429, 4084, headers=quota_headers(0, RESETS_AT)))
        others.dataset_file(f"{other.base_url}/blob/a.csv.gz?se=2099-06-04T18%3A31%3A23Z&sig={world.secrets['sig']}")
        other.on("GET", "/blob/a.csv.gz", reply(body=gzip.compress(b"Timestamp\n")))
        async with script.client() as arena, others.client() as centrepoint:
            calls = (arena.session.send(THINGS) for _ in range(10))
            found: list[Any] = await asyncio.gather(*calls, return_exceptions=True)
            stopped = await download(world, arena.exports.files(EXPORT, RUN))
            goes_on = await download(world, centrepoint.datasets.files(234))

    world.saw(*found)
    assert [type(error) for error in found] == [QuotaExhaustedError] * 10
    assert {error.resets_at for error in found} == {RESETS_AT}
    assert server.lines() == [LOGIN, THING]
    assert isinstance(stopped.error, QuotaExhaustedError)
    goes_on.raise_for_failures()
    assert [seen.path for seen in other.requests] == [
        "/connect/token",
        "/dataaccess/v3/studies/234/datasetfiles",
        "/blob/a.csv.gz",
    ]


@row("QU02", protection="what the service says is left is believed")
async def test_the_answer_that_says_zero_is_delivered_and_is_the_last(world: World) -> None:
    """QU02: the reply counts; the next calls fail here, and not even a logout leaves."""
    async with RawServer() as server:
        script = ArenaScript(world, server, remaining=1)
        script.on("GET", "/things", json_reply({"all": "right"}))
        async with script.client() as arena:
            assert (await arena.session.send(THINGS)).body == b'{"all": "right"}'
            for _ in range(3):
                with pytest.raises(QuotaExhaustedError) as caught:
                    await arena.session.send(THINGS)
                world.saw(caught.value)

    assert (caught.value.remaining, caught.value.resets_at, caught.value.status) == (0, RESETS_AT, None)
    assert server.lines() == [LOGIN, THING]


@row("QU03", protection="a request is booked before it leaves")
async def test_the_reserve_is_never_touched(world: World) -> None:
    """QU03: a reserve of 100, 101 left, eight callers at once: exactly one more request leaves, and no logout."""
    async with RawServer() as server:
        script = ArenaScript(world, server, remaining=102)
        script.on("GET", "/things", json_reply({}))
        async with script.client(quota_reserve=100) as arena:
            await arena.session.send(THINGS)
            assert arena.quota == Quota(remaining=101, resets_at=RESETS_AT, limit=10_000)
            calls = (arena.session.send(THINGS) for _ in range(8))
            found: list[Any] = await asyncio.gather(*calls, return_exceptions=True)

    world.saw(*(error for error in found if isinstance(error, Exception)))
    assert sorted(type(answer).__name__ for answer in found) == ["QuotaExhaustedError"] * 7 + ["Response"]
    assert server.lines() == [LOGIN, THING, THING]


@row("QU04", protection="the reset is read in the vendor's own shape")
@pytest.mark.parametrize(
    ("text", "timestamp"),
    [
        ("Fri, 02-May-2014 14:22:13 GMT-0700 (PDT)", datetime(2014, 5, 2, 21, 22, 13, tzinfo=UTC)),
        ("Tue, 02-Dec-2014 14:22:13 GMT-0800 (PST)", datetime(2014, 12, 2, 22, 22, 13, tzinfo=UTC)),
        case(
            "Fri, 02 May 2014 21:22:13 GMT",
            datetime(2014, 5, 2, 21, 22, 13, tzinfo=UTC),
            protection="the reset is read whatever its shape",
        ),
        ("2014-05-02T14:22:13-07:00", datetime(2014, 5, 2, 21, 22, 13, tzinfo=UTC)),
        ("2014-05-02T21:22:13Z", datetime(2014, 5, 2, 21, 22, 13, tzinfo=UTC)),
        ("1399065733", datetime(2014, 5, 2, 21, 22, 13, tzinfo=UTC)),
        ("1399065733000", datetime(2014, 5, 2, 21, 22, 13, tzinfo=UTC)),
    ],
)
def test_a_reset_is_read_in_any_shape_that_was_seen(text: str, timestamp: datetime) -> None:
    """QU04: in UTC, whatever zone it was written in."""
    headers = Headers([("X-Arena-Requests-Remaining", "7"), ("X-Arena-Next-Request-Limit-Reset", text)])
    assert ArenaAdapter().read_quota(headers) == Quota(remaining=7, resets_at=timestamp)


#: The clocks of the US changed on 2026-03-08 and on 2026-11-01, at two in the morning.
MIDNIGHTS = [
    ("2026-01-01T07:59:59", "2026-01-01T08:00:00"),
    ("2026-01-01T08:00:00", "2026-01-02T08:00:00"),
    ("2026-03-07T12:00:00", "2026-03-08T08:00:00"),
    ("2026-03-08T12:00:00", "2026-03-09T07:00:00"),
    ("2026-07-01T06:59:59", "2026-07-01T07:00:00"),
    ("2026-10-31T12:00:00", "2026-11-01T07:00:00"),
    ("2026-11-01T12:00:00", "2026-11-02T08:00:00"),
    ("2026-12-31T23:00:00", "2027-01-01T08:00:00"),
]


@row("QU04", protection="without a date the day ends at midnight on the Pacific coast")
@pytest.mark.parametrize(("now", "midnight"), MIDNIGHTS)
@pytest.mark.parametrize("text", [None, "", "tomorrow", "Fri, 32-May-2014 14:22:13 GMT-0700 (PDT)", "-1"])
def test_a_reset_that_cannot_be_read_is_the_next_pacific_midnight(text: str | None, now: str, midnight: str) -> None:
    """QU04: on garbage and on nothing, on the days on which the clocks change too."""
    at = datetime.fromisoformat(f"{now}+00:00")
    given = [("X-Arena-Requests-Remaining", "7")]
    if text is not None:
        given.append(("X-Arena-Next-Request-Limit-Reset", text))
    quota = ArenaAdapter(now=lambda: at).read_quota(Headers(given))
    assert quota == Quota(remaining=7, resets_at=datetime.fromisoformat(f"{midnight}+00:00"))


@row("QU05", protection="a number that is none is not believed")
async def test_a_number_that_is_none_is_not_believed(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """
    QU05: empty, letters, negative, with an exponent, in other digits, sent twice with different numbers.

    Each is warned of, the last good number stays, and the request itself is taken off it.
    """
    name = "X-Arena-Requests-Remaining"
    wrong: list[list[tuple[str, str]]] = [
        [(name, "")],
        [(name, "abc")],
        [(name, "-5")],
        [(name, "1e3")],
        [(name, "\uff19\uff10".encode().decode("latin-1"))],
        [(name, "12"), (name, "13")],
    ]
    async with RawServer() as server:
        script = ArenaScript(world, server, remaining=51)
        script.on("GET", "/things", json_reply({}), *(reply(headers=headers) for headers in wrong), json_reply({}))
        async with script.client() as arena:
            left = []
            for _ in range(1 + len(wrong)):
                await arena.session.send(THINGS)
                left.append(arena.quota and arena.quota.remaining)
            script.remaining = 21
            await arena.session.send(THINGS)
            left.append(arena.quota and arena.quota.remaining)

    assert left == [50, 49, 48, 47, 46, 45, 44, 20]
    warned = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warned) == len(wrong)
    assert all("no single number" in record.getMessage() for record in warned)


@row("QU06", protection="within one day the number never rises")
def test_answers_that_overtake_each_other_never_give_requests_back() -> None:
    """QU06: 90, 88, 89 leave 88; a later reset opens a new day; an answer of the day before changes nothing."""
    limiter = DailyQuota()
    noon = datetime(2026, 5, 1, 12, tzinfo=UTC)
    tonight, tomorrow = noon + timedelta(hours=19), noon + timedelta(hours=43)
    first = ClockReading(0.0, noon)
    start = limiter.reserve(first)
    assert isinstance(start, Reservation)
    limiter.sent(start, first)
    limiter.settle(start, Quota(remaining=90, resets_at=tonight), first)
    flying = [limiter.reserve(first) for _ in range(3)]
    for number, resets_at in ((88, tonight), (89, tonight), (89, tonight + timedelta(seconds=30))):
        reservation = flying.pop()
        assert isinstance(reservation, Reservation)
        limiter.sent(reservation, first)
        limiter.settle(reservation, Quota(remaining=number, resets_at=resets_at), first)
        assert limiter.quota is not None
        assert limiter.quota.remaining == 88
    reported = [
        (19 * 3600 + 1, 9999, tomorrow, 9999),
        (19 * 3600 + 2, 87, tonight, 9999),
        (19 * 3600 + 3, 9998, tomorrow, 9998),
    ]
    for seconds, remaining, resets_at, left in reported:
        now = ClockReading(float(seconds), noon + timedelta(seconds=seconds))
        reservation = limiter.reserve(now)
        assert isinstance(reservation, Reservation)
        limiter.sent(reservation, now)
        limiter.settle(reservation, Quota(remaining=remaining, resets_at=resets_at), now)
        assert limiter.quota is not None
        assert limiter.quota.remaining == left


@row("QU08", protection="the number from before the renumbering is known")
@pytest.mark.parametrize("code", [case(4084, protection="the number of the used-up day is known"), 4014])
def test_the_old_number_means_the_same(world: World, code: int) -> None:
    """QU08: 4014 with 429 was the used-up day before the winter of 2023; without a header it ends at midnight."""
    body = json.dumps({"status": 429, "errors": [{"code": code, "message": "Limit"}]}).encode()
    format_status = ArenaAdapter(now=lambda: datetime(2026, 7, 1, 12, tzinfo=UTC))
    error = format_status.read_error(THINGS, Response(status=429, body=body))
    world.saw(error)
    assert isinstance(error, QuotaExhaustedError)
    assert (error.code, error.remaining, error.transient) == (code, 0, False)
    assert error.resets_at == datetime(2026, 7, 2, 7, tzinfo=UTC)


@row("QU19", protection="a cut body is taken up where it broke")
async def test_a_file_that_the_day_did_not_suffice_for_is_taken_up_tomorrow(world: World) -> None:
    """QU19: cut after 192 KiB, then no request is left: what came stays, and tomorrow only the rest is asked for."""
    body = zipped(384 * 1024)
    final = world.allow(f"arena/exports/{EXPORT}/{RUN}/{FILE}.zip", body)
    content = f"{EXPORT_RUN}/files/{FILE}/content"
    async with RawServer() as server:
        script = ArenaScript(world, server)
        cut = reply(body=body, cut=192 * 1024, headers={"ETag": '"v1"'})
        used_up = arena_error(429, 4084, headers=quota_headers(0, RESETS_AT))
        script.export(FILE)
        script.on("GET", content, cut, used_up, ranged(body))
        async with script.client() as arena:
            today = await download(world, arena.exports.files(EXPORT, RUN), remember=True)
        async with script.client() as arena:
            tomorrow = await download(world, arena.exports.files(EXPORT, RUN), remember=True)

    assert isinstance(today.error, QuotaExhaustedError)
    assert (today.error.resets_at, today.not_started, today.outcomes) == (RESETS_AT, 1, ())
    tomorrow.raise_for_failures()
    assert final.read_bytes() == body
    requested = [seen.header("Range") for seen in server.requests if seen.path == f"/v1{content}"]
    assert requested == [None, "bytes=196608-", "bytes=196608-"]


class Together(Hours):
    """Time in which those who sleep at once wake at once."""

    async def sleep(self, seconds: float) -> None:
        until = self.passed + seconds
        await asyncio.sleep(0)
        self.passed = max(self.passed, until)


@row("QU20", protection="after the reset one request goes first")
async def test_after_the_reset_one_request_goes_first_and_then_the_rest(world: World) -> None:
    """QU20: eight wait: one probe at the reset, refused once more; the next day one probe, then all the rest."""
    hours, resets = Together(), [START + timedelta(hours=5), START + timedelta(hours=29), START + timedelta(hours=53)]
    at: list[tuple[float, int]] = []
    flying = 0

    async def answer(seen: Seen) -> Reply:
        nonlocal flying
        flying += 1
        at.append((hours.passed / 3600, flying))
        for _ in range(30):
            await asyncio.sleep(0)
        flying -= 1
        day = sum(hours.now() >= reset for reset in resets)
        if day < 2:
            return arena_error(429, 4084, headers=quota_headers(0, resets[day]))
        return json_reply({}, headers=quota_headers(500, resets[2]))

    async with RawServer() as server:
        script = ArenaScript(world, server)
        script.on("GET", "/things", answer)
        async with script.session(hours, on_exhausted="wait") as session:
            answers = await asyncio.gather(*(session.send(THINGS) for _ in range(8)))

    assert [answer.status for answer in answers] == [200] * 8
    assert at[:3] == [(0.0, 1), (5.0, 1), (29.0, 1)]
    assert [hour for hour, _ in at[3:]] == [29.0] * 7
    assert server.lines("GET *") == [THING] * 10
    # A session that rests for hours is over; a new one costs nothing of the allowance.
    assert server.lines("POST *") == [LOGIN] * 3


@row("QU21", protection="an answer without a number costs one")
async def test_content_without_a_number_is_taken_off_what_was_known(world: World) -> None:
    """QU21: three files whose answers do not say what is left cost three; the next answer that says it counts."""
    body = zipped(64)
    async with RawServer() as server:
        script = ArenaScript(world, server, remaining=51)
        script.export("F1", "F2", "F3")
        server.on("GET", f"/v1{EXPORT_RUN}/files/*", reply(body=body))
        script.on("GET", "/things", json_reply({}))
        left: list[int | None] = []
        async with script.client() as arena:

            def look() -> None:
                assert arena.quota is not None
                left.append(arena.quota.remaining)

            watch: Callable[[], None] = look
            await arena.exports.run(EXPORT, RUN)
            watch()
            report = await download(world, arena.exports.files(EXPORT, RUN))
            watch()
            script.remaining = 31
            await arena.session.send(THINGS)
            watch()

    report.raise_for_failures()
    assert left == [50, 46, 30]


@row("QU24", protection="a request without an answer stays subtracted")
async def test_requests_that_were_cancelled_do_not_break_into_the_reserve(world: World) -> None:
    """QU24: the service counts a cancelled one later, and the answers meanwhile do not have it."""
    hold, counted = asyncio.Event(), asyncio.Event()
    async with RawServer() as server:
        script = ArenaScript(world, server, remaining=13)

        async def late(_: Seen) -> Reply:
            counted.set()
            await hold.wait()
            return json_reply({})

        script.on("GET", "/things", json_reply({}))
        script.on("GET", "/late", late)
        async with script.session(Hours(), reserve=10) as session:
            await session.send(THINGS)
            lost = asyncio.create_task(session.send(Request(method="GET", path="/late")))
            await counted.wait()
            lost.cancel()
            await asyncio.gather(lost, return_exceptions=True)
            await session.send(THINGS)
            for _ in range(2):
                with pytest.raises(QuotaExhaustedError) as caught:
                    await session.send(THINGS)
            hold.set()

    world.saw(caught.value)
    assert caught.value.remaining == 10
    assert len(server.lines("GET *")) == 3


@row("QU25", protection="a silent refusal of runs and files passes")
@pytest.mark.parametrize("refused", [reply(400), arena_error(400, 3017)], ids=["silent", "3017"])
async def test_a_file_server_that_is_away_is_outlived_by_lists_of_runs_too(world: World, refused: Reply) -> None:
    """QU25: 400 without a message, and 3017, for the run that lists the files: asked again after a minute."""
    hours = Hours()
    async with RawServer() as server:
        script = ArenaScript(world, server)
        run = {"guid": RUN, "status": "COMPLETE"}
        script.on("GET", EXPORT_RUN, refused, json_reply(run))
        async with script.session(hours) as session:
            response = await session.send(Request(method="GET", path=EXPORT_RUN))

    assert response.status == 200
    assert server.lines("GET *") == [f"GET /v1{EXPORT_RUN}"] * 2
    assert hours.waits == [60.0]


@row("QU26", protection="a view that was refused is not asked for again")
async def test_a_view_that_the_service_refuses_is_asked_for_once(world: World) -> None:
    """QU26: by the first process of a directory; the next ones know."""
    async with RawServer() as server:
        script = ArenaScript(world, server)
        runs = [{"guid": f"R{number}", "status": "COMPLETE"} for number in range(2)]
        listed = json_reply({"count": 2, "results": runs})

        def answer(seen: Seen) -> Reply:
            return arena_error(400, 3004) if "view" in seen.query else listed

        script.on("GET", "/extracts/E/runs", answer)
        script.on("GET", "/extracts/E/runs/*/files", json_reply({"count": 1, "results": [{"guid": "A"}]}))
        script.on("GET", "/extracts/E/runs/*/content", reply(body=zipped(64)))
        for _ in range(3):
            async with script.client() as arena:
                report = await download(world, arena.extracts.files("E"), remember=True)
                report.raise_for_failures()

    asked = [seen for seen in server.requests if seen.path == "/v1/extracts/E/runs"]
    assert ["view" in seen.query for seen in asked] == [True, False, False, False]
