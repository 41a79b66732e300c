"""Rows TR70 to TR76, TR78 and TR79: a host in trouble is left alone by everybody; its files wait and do not fail."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
from collections.abc import Callable
from typing import Any

import pytest
from filesets import content
from matrix import World, row
from scripted import RawServer, Reply, Seen, json_reply, reply
from services import EXPORT, EXPORT_RUN, RUN, ArenaScript, arena_error, zipped
from session_files import ETAG, Hours, download, ranged, remote, session_files

from arena_async import Downloader, Retrying
from arena_async.errors import ContentError, HostPausedError, ServerError
from arena_async.options import KIB, Clock, RetryPolicy
from arena_async.protocol.messages import Request
from arena_async.transfer.union import union

BODY = content(10 * KIB)
MD5 = hashlib.md5(BODY, usedforsecurity=False).hexdigest()
PACKED = gzip.compress(b"Timestamp,Value\n" * 500)
PAGE = b"<!DOCTYPE html><html><head><title>Sign in</title></head><body>Please sign in.</body></html>"
WORKERS = 8
#: Requests beyond those in flight that an outage of a few seconds may cost.
FEW = 20
#: Files that may be received and wait for a thread, which sees what came.
UNSEEN = 64


def paced(hours: Hours, *, timeout: float = 300) -> dict[str, Any]:
    """Return the options of a session on a time of the test's own, with the usual waits."""
    return {"hours": hours, "random": lambda: 0.5, "retry": RetryPolicy(timeout=timeout)}


class Together(Hours):
    """
    Time for several who wait at once: when nothing has come for a while, it jumps to the end of the shortest wait.

    Args:
        seen: Counts what has come.
    """

    def __init__(self, seen: Callable[[], int]) -> None:
        super().__init__()
        self.seen = seen
        self._ends: list[float] = []

    async def sleep(self, seconds: float) -> None:
        """Wait for one's turn."""
        end, before, quiet = self.passed + seconds, -1, 0
        self.waits.append(seconds)
        self._ends.append(end)
        while self.passed < end:
            quiet, before = quiet + 1 if self.seen() == before else 0, self.seen()
            if quiet >= 15 and end == min(self._ends):
                self.passed = end
            await asyncio.sleep(0.002)
        self._ends.remove(end)


class Outage:
    """
    A host that is away for some seconds of a test's own time, from its so-manieth request on.

    Attributes:
        met: Requests that met it in its first moment: those that were in flight.
        later: Requests that came into it afterwards.
    """

    def __init__(self, hours: Hours, away: Reply, *, seconds: float = 3, first: int = 0) -> None:
        self.hours, self.away, self.seconds, self.first = hours, away, seconds, first
        self.seen = self.served = self.met = self.later = 0
        self.began: float | None = None
        self.body = BODY

    def answer(self, seen: Seen) -> Reply:
        """Answer one request."""
        self.seen += 1
        if self.served >= self.first and self.began is None:
            self.began = self.hours.passed
        if self.began is not None and self.hours.passed < self.began + self.seconds:
            self.met += self.hours.passed == self.began
            self.later += self.hours.passed > self.began
            return self.away
        self.served += 1
        return reply(body=self.body, headers=ETAG)


@row("TR70", protection="a host in trouble is left alone", seconds=60)
@pytest.mark.parametrize(
    ("away", "count"),
    [
        (reply(503), 3000),
        (reply(mute=True), 300),
        (reply(500), 300),
        (reply(429), 300),
        (reply(503, headers={"Retry-After": "2"}), 300),
    ],
    ids=["503", "hangs up", "500", "429", "503 with a time"],
)
async def test_three_seconds_of_outage_cost_no_file_and_few_requests(world: World, away: Reply, count: int) -> None:
    """TR70: 3,000 files; all of them are here in the end, and hardly anybody asked meanwhile."""
    outage = Outage(Hours(), away, first=count // 6)
    outage.hours = hours = Together(lambda: outage.seen)
    rows = [remote(f"f{number}", size=len(BODY)) for number in range(count)]
    world.memory *= 2
    async with RawServer() as server, session_files(world, server, *rows, **paced(hours)) as files:
        server.on("GET", "/*", outage.answer)
        report = await download(world, files, hours=hours, workers=WORKERS, shown=False)

    assert (report.error, report.failures, report.not_started) == (None, (), 0)
    assert len(report.outcomes) == count
    # Those in flight when the first failed, those sent before the third did, and what idle connections swallowed.
    assert outage.met <= 2 * WORKERS + 2
    assert len(server.requests) <= count + outage.met + FEW
    assert sum(outcome.attempts for outcome in report.outcomes) == len(server.requests)


@row("TR71", protection="a host in trouble is left alone")
@pytest.mark.parametrize("away", [reply(503), reply(mute=True)], ids=["refuses", "hangs up"])
async def test_an_outage_that_does_not_end_leaves_files_not_started(world: World, away: Reply) -> None:
    """TR71: longer than a request waits for anything: one error of the run, and none of a file."""
    hours = Hours()
    rows = [remote(f"f{number}", size=len(BODY)) for number in range(200)]
    async with RawServer() as server, session_files(world, server, *rows, **paced(hours, timeout=60)) as files:
        server.on("GET", "/*", away)
        report = await download(world, files, hours=hours, workers=4)

    assert isinstance(report.error, HostPausedError)
    assert report.error.lasting
    assert (report.outcomes, report.not_started) == ((), 200)
    assert len(server.requests) <= 4 + FEW
    assert 30 < hours.passed < 120


@row("TR71", protection="a host in trouble is left alone")
async def test_a_run_after_a_long_outage_begins_anew(world: World) -> None:
    """TR71: what was given up is asked for again by the next run, and by one request first."""
    hours = Hours()
    rows = [remote(f"f{number}", size=len(BODY)) for number in range(20)]
    async with RawServer() as server, session_files(world, server, *rows, **paced(hours, timeout=10)) as files:
        server.on("GET", "/*", reply(503))
        first = await download(world, files, hours=hours, workers=4)
        before, hours.passed = len(server.requests), hours.passed + 3600
        server.on("GET", "/*", ranged(BODY))
        second = await download(world, files, hours=hours, workers=4)

    assert (len(first.outcomes), first.not_started) == (0, 20)
    assert (second.error, second.failures, len(second.outcomes)) == (None, (), 20)
    assert len(server.requests) - before == 20


@row("TR72", protection="what a host asks to wait counts for all of its files")
@pytest.mark.parametrize("status", [429, 503])
async def test_a_host_that_says_when_to_come_back_is_not_asked_before_by_anybody(world: World, status: int) -> None:
    """TR72: one answer is enough; files of another host have all the workers meanwhile."""
    at: list[tuple[float, str]] = []
    hours = Together(lambda: len(at) + len(other.requests))
    body = ranged(BODY)

    def slow(seen: Seen) -> Reply:
        at.append((hours.passed, seen.path))
        first = len(at) == 1
        return reply(status, headers={"Retry-After": "17"}) if first else body(seen)

    rows = [remote(f"f{number}", size=len(BODY)) for number in range(30)]
    others = [remote(f"g{number}", size=len(BODY), host="other") for number in range(30)]
    async with RawServer() as server, RawServer() as other:
        server.on("GET", "/*", slow)
        other.on("GET", "/*", body)
        async with (
            session_files(world, server, *rows, **paced(hours)) as files,
            session_files(world, other, *others, **paced(hours)) as more,
        ):
            more.scope = "test/other"
            report = await download(world, union(files, more), hours=hours, workers=1)

    assert report.failures == ()
    assert len(report.outcomes) == 60
    assert [passed for passed, _ in at] == [0.0] + [17.0] * 30
    assert hours.passed == 17.0


class Held:
    """A server whose answers wait until they are let go, one by one."""

    def __init__(self) -> None:
        self.waiting: list[asyncio.Event] = []

    async def answer(self, seen: Seen) -> Reply:
        """Wait, then serve."""
        gate = asyncio.Event()
        self.waiting.append(gate)
        await gate.wait()
        return reply(body=BODY, headers=ETAG)

    async def settled(self) -> int:
        """Wait until no more requests come, and count those that wait."""
        before, same = -1, 0
        while same < 25:
            await asyncio.sleep(0.002)
            before, same = len(self.waiting), same + 1 if len(self.waiting) == before else 0
        return before

    def let_go(self) -> None:
        """Answer the oldest."""
        self.waiting.pop(0).set()


@row("TR73", protection="workers come back to a host one by one")
async def test_after_a_pause_workers_come_back_one_by_one(world: World) -> None:
    """TR73: one request tries; then there is one more for each that succeeded, and never eight at once."""
    hours, held, seen = Hours(), Held(), 0
    rows = [remote(f"f{number}", size=len(BODY)) for number in range(40)]

    async def answer(request: Seen) -> Reply:
        nonlocal seen
        seen += 1
        # As many as are in flight when the third of them fails.
        return reply(503) if seen <= WORKERS + 2 else await held.answer(request)

    out = []
    async with RawServer() as server, session_files(world, server, *rows, **paced(hours)) as files:
        server.on("GET", "/*", answer)
        task = asyncio.create_task(download(world, files, hours=hours, workers=WORKERS))
        for _ in range(40):
            while not held.waiting and not task.done():
                await asyncio.sleep(0)
            out.append(await held.settled())
            held.let_go()
        report = await task

    assert report.failures == ()
    assert out[:2] == [1, 2]
    assert all(count <= succeeded + 1 for succeeded, count in enumerate(out))
    assert max(out) == WORKERS


@row("TR74", protection="a page in the place of content counts against its host")
@pytest.mark.parametrize("kind", ["text/html", None], ids=["labelled", "unlabelled"])
async def test_a_page_that_comes_for_every_file_is_waited_out(world: World, kind: str | None) -> None:
    """TR74: a sign-in page with status 200 for five seconds; no file fails, and few are asked for meanwhile."""
    hours = Hours()
    headers = {} if kind is None else {"Content-Type": kind}
    outage = Outage(hours, reply(body=PAGE, headers=headers), seconds=5, first=20)
    rows = [remote(f"f{number}", extension=".csv.gz") for number in range(200)]
    outage.body = PACKED
    async with RawServer() as server, session_files(world, server, *rows, **paced(hours)) as files:
        server.on("GET", "/*", outage.answer)
        report = await download(world, files, hours=hours, workers=4)

    assert (report.error, report.failures, report.not_started) == (None, (), 0)
    assert len(report.outcomes) == 200
    assert len(server.requests) <= 200 + 2 * 4 + UNSEEN + FEW


@row("TR74", protection="a page in the place of content counts against its host")
async def test_a_page_that_belongs_to_one_file_fails_that_file(world: World) -> None:
    """TR74: asked for once more, to see whether it is a page for all; the other files go on."""
    hours = Hours()
    rows = [remote(f"f{number}", extension=".csv.gz") for number in range(30)]
    async with RawServer() as server, session_files(world, server, *rows, **paced(hours)) as files:
        page, body = reply(body=PAGE, headers={"Content-Type": "text/html"}), ranged(PACKED)
        server.on("GET", "/*", lambda seen: page if seen.path == "/f7" else body(seen))
        report = await download(world, files, hours=hours, workers=4)

    (failed,) = report.failures
    assert failed.file.stem == "f7"
    assert isinstance(failed.error, ContentError)
    assert failed.error.page
    assert failed.attempts == 2
    assert len(report.outcomes) == 30


@row("TR75", protection="what belongs to one file pauses nobody", seconds=10)
async def test_a_file_that_cannot_be_sent_now_pauses_nobody(world: World) -> None:
    """TR75: 3017, and 400 without a message: the file waits a minute, its siblings not a moment."""
    body = zipped(20 * KIB)
    guids = [f"L3N6P2NE14N3M5V2LZ{number:02}" for number in range(12)]
    at: list[tuple[float, str]] = []
    refused = [arena_error(400, 3017, "Not now."), reply(400)] * 2
    hours = Together(lambda: len(at))

    def serve(seen: Seen) -> Reply:
        at.append((hours.passed, seen.path))
        return refused.pop() if f"{guids[3]}/" in seen.path and refused else reply(body=body)

    async with RawServer() as server:
        script = ArenaScript(world, server)
        script.export(*guids, content=serve)
        async with script.client() as arena:
            report = await download(world, arena.exports.files(EXPORT, RUN), hours=hours, workers=1)

    assert report.failures == ()
    assert [passed for passed, path in at if f"{guids[3]}/" in path] == [0.0, 60.0, 120.0, 180.0, 240.0]
    assert {passed for passed, path in at if f"{guids[3]}/" not in path} == {0.0}


@row("TR76", protection="content that is not ready is waited for")
@pytest.mark.parametrize(("headers", "waits"), [({"Retry-After": "20"}, [20.0, 20.0]), ({}, [0.75, 1.0])])
async def test_content_that_is_not_ready_is_waited_for(
    world: World, headers: dict[str, str], waits: list[float]
) -> None:
    """TR76: 202 twice, then the content; it is no content, and nobody else waits."""
    hours = Hours()
    finals = [world.allow(f"files/{name}.bin", BODY) for name in "ab"]
    rows = [remote(name, size=len(BODY), md5=MD5) for name in "ab"]
    not_ready = reply(202, body=b"soon", headers=headers)
    async with RawServer() as server, session_files(world, server, *rows, **paced(hours)) as files:
        server.on("GET", "/a", not_ready, not_ready, ranged(BODY))
        server.on("GET", "/b", ranged(BODY))
        report = await download(world, files, hours=hours, workers=1)

    assert report.failures == ()
    assert [final.read_bytes() for final in finals] == [BODY, BODY]
    assert hours.waits == waits
    assert server.lines("GET /*")[:2] != ["GET /a", "GET /a"]


@row("TR78", protection="a host in trouble is left alone")
async def test_calls_of_the_api_wait_for_their_host_together(world: World) -> None:
    """TR78: thirty calls meet an outage: one of them tries at a time, and all of them succeed."""
    at: list[float] = []
    hours = Together(lambda: len(at))

    def away(seen: Seen) -> Reply:
        at.append(hours.passed)
        return reply(503) if hours.passed < 3 else json_reply({})

    async with RawServer() as server, session_files(world, server, **paced(hours)) as files:
        server.on("GET", "/things", away)
        call = Request(method="GET", path="/things", scope=None)
        found = await asyncio.gather(*(files.session.send(call) for _ in range(30)))

    assert [response.status for response in found] == [200] * 30
    in_flight = at.count(0.0)
    assert len(at) <= 30 + in_flight + FEW
    assert len([moment for moment in at if 0 < moment < 3]) <= 4


@row("TR78", protection="a host in trouble is left alone")
async def test_calls_and_content_of_one_host_share_its_pause(world: World) -> None:
    """TR78: what the API met keeps content from being asked for, and the observer is told why."""
    hours = Hours()
    at: list[tuple[float, str]] = []
    body = zipped(20 * KIB)

    def serve(seen: Seen) -> Reply:
        at.append((hours.passed, seen.path.rpartition("/")[2]))
        return reply(503) if hours.passed < 3 else reply(body=body)

    async with RawServer() as server:
        script = ArenaScript(world, server)
        script.export("L3N6P2NE14N3M5V2LZ01", "L3N6P2NE14N3M5V2LZ02", content=serve)
        server.on("GET", "/v1/things", serve)
        async with script.session(hours, random=lambda: 0.5, retry=RetryPolicy(attempts=3)) as session:
            with pytest.raises(ServerError):
                await session.send(Request(method="GET", path="/things"))
            before = len(at)
            with pytest.raises(HostPausedError) as caught:
                await session.stream(Request(method="GET", path=f"{EXPORT_RUN}/files/x/content"))

    assert len(at) == before == 3
    assert caught.value.status is None
    assert caught.value.retry_after == pytest.approx(1.5)
    assert not caught.value.lasting


@row("TR79", protection="a pause is told")
async def test_a_pause_is_told_to_the_observer(world: World) -> None:
    """TR79: as a retry of a file that was not asked for, with the seconds until then."""
    hours, told = Hours(), list[Any]()
    outage = Outage(hours, reply(503), first=2)
    rows = [remote(f"f{number}", size=len(BODY)) for number in range(30)]

    clock = Clock(monotonic=hours.clock, sleep=hours.sleep, random=lambda: 0.5)
    async with RawServer() as server, session_files(world, server, *rows, **paced(hours)) as files:
        server.on("GET", "/*", outage.answer)
        async with Downloader(world.root, observer=told.append, clock=clock) as downloads:
            report = await downloads.run(files)

    pauses = [event for event in told if isinstance(event, Retrying) and isinstance(event.error, HostPausedError)]
    assert report.failures == ()
    assert pauses
    assert pauses[0].wait == pytest.approx(getattr(pauses[0].error, "retry_after", None))
    assert len(pauses) <= FEW
