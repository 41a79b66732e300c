"""Rows TR33, TR34, TR37 to TR43, TR50 and TR56: failures that pass, failures that stay, and slowness of either side."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import threading
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest
import trustme
from broken_wire import Wire, serving, trusting
from disks import FaultyDisk
from filesets import content
from matrix import World, case, row
from scripted import RawServer, reply, unused_port
from session_files import ETAG, Hours, download, ranged, ranges, remote, session_files

from arena_async.errors import (
    ApiError,
    ArenaAsyncError,
    DeadlineError,
    HostPausedError,
    ServerError,
    StalledError,
    ThrottledError,
    TlsError,
)
from arena_async.options import KIB, MIB, RetryPolicy, Timeouts

BODY = content(300_000)
CUT = 120_000
QUICK = Timeouts(read=0.4, slowest_rate=0)


# ------------------------------------------------------------------------------------------------ refusals and silence


@row("TR33", protection="what may pass is tried again")
@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
async def test_a_refusal_that_passes_is_outlived(world: World, status: int) -> None:
    """TR33: once refused, then given; after a wait that chance has a part in."""
    final = world.allow("files/a.bin", BODY)
    hours = Hours()
    digest = hashlib.md5(BODY, usedforsecurity=False).hexdigest()  # It needs no wait for what else the connection has.
    async with RawServer() as server, session_files(world, server, remote("a", size=len(BODY), md5=digest)) as files:
        server.on("GET", "/a", reply(status), ranged(BODY))
        report = await download(world, files, hours=hours)

    assert report.failures == ()
    assert final.read_bytes() == BODY
    assert len(server.requests) == 2
    assert hours.waits == [0.75]


@row("TR33", protection="attempts come to an end")
@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
@pytest.mark.parametrize(("chance", "waits"), [(0.0, []), (0.5, [0.75, 1.0, 1.5, 2.5]), (1.0, [1.5, 2, 3, 5])])
async def test_a_refusal_that_stays_ends_with_its_status(
    world: World, status: int, chance: float, waits: list[float]
) -> None:
    """TR33: full jitter, so that clients which failed together do not come back together; then the typed error."""
    world.allow("files/a.bin")
    hours = Hours()
    async with RawServer() as server, session_files(world, server, remote("a", size=len(BODY))) as files:
        server.on("GET", "/a", reply(status))
        report = await download(world, files, hours=hours, random=lambda: chance)

    error = report.outcomes[0].error
    assert isinstance(error, ThrottledError if status == 429 else ServerError)
    assert error.status == status
    assert len(server.requests) == 5
    assert hours.waits == waits


@row("TR34", protection="a refusal that stays is believed")
@pytest.mark.parametrize("status", [400, 404, 405, 409, 410, 501])
async def test_a_refusal_for_good_is_asked_for_once(world: World, status: int) -> None:
    """TR34: nothing would change."""
    world.allow("files/a.bin")
    hours = Hours()
    rows = [remote("a", size=len(BODY))]
    async with RawServer() as server, session_files(world, server, *rows, signed=False) as files:
        server.on("GET", "/a", reply(status))
        report = await download(world, files, hours=hours)

    error = report.outcomes[0].error
    assert isinstance(error, ApiError)
    assert error.status == status
    assert len(server.requests) == 1
    assert hours.waits == []


@row("TR34", protection="a refusal that stays is believed")
@pytest.mark.parametrize("status", [400, 404, 405, 409, 410, 501])
async def test_a_signed_link_that_is_refused_for_good_is_not_asked_again(world: World, status: int) -> None:
    """
    TR34: at the file host too; but what is gone there was most likely replaced.

    So for 404 and 410 the listing is asked once for what took its place, and that is asked for once.
    """
    world.allow("files/a.bin")
    gone = status in (404, 410)
    async with RawServer() as server, session_files(world, server, remote("a", size=len(BODY))) as files:
        server.on("GET", "/a", reply(status))
        report = await download(world, files)

    assert report.outcomes[0].error is not None
    assert (len(files.looked_up), len(server.requests)) == ((1, 2) if gone else (0, 1))


@row("TR37", protection="silence has a limit", seconds=15)
@pytest.mark.parametrize(
    ("silence", "kept"),
    [
        ({"before": True}, None),
        ({"stall": True, "cut": 0}, None),
        ({"stall": True, "cut": 1024}, "bytes=1024-"),
        ({"stall": True, "cut": CUT}, f"bytes={CUT}-"),
    ],
    ids=["no head", "no body", "a start", "a part"],
)
async def test_an_answer_that_stops_is_asked_for_again_after_the_limit(
    world: World, silence: dict[str, Any], kept: str | None
) -> None:
    """TR37: the limit is the caller's; what came before the silence is kept."""
    final = world.allow("files/a.bin", BODY)
    how = {"before": asyncio.Event()} if silence.get("before") else silence
    listed = remote("a", size=len(BODY))
    async with RawServer() as server, session_files(world, server, listed, timeouts=QUICK) as files:
        server.on("GET", "/a", reply(body=BODY, headers=ETAG, **how), ranged(BODY))
        report = await download(world, files)

    assert report.failures == ()
    assert final.read_bytes() == BODY
    assert ranges(server) == [None, kept]


@row("TR37", protection="silence has a limit", seconds=15)
@pytest.mark.parametrize(
    ("how", "kind"), [({"before": asyncio.Event}, DeadlineError), ({"stall": True, "cut": 1024}, StalledError)]
)
async def test_an_answer_that_always_stops_ends_in_the_limit_for_each_attempt(
    world: World, how: dict[str, Any], kind: type[ArenaAsyncError]
) -> None:
    """TR37: never longer than the attempts take: without a limit, the row would not end."""
    world.keeps_partials = True
    world.allow("files/a.bin")
    how = {name: value() if callable(value) else value for name, value in how.items()}
    loop = asyncio.get_running_loop()
    listed = remote("a", size=len(BODY))
    async with RawServer() as server, session_files(world, server, listed, timeouts=QUICK) as files:
        server.on("GET", "/a", reply(body=BODY, headers=ETAG, **how))
        began = loop.time()
        report = await download(world, files, attempts=2)
        took = loop.time() - began

    assert isinstance(report.outcomes[0].error, kind)
    assert len(server.requests) == 2
    assert took >= 0.3


# ------------------------------------------------------------------------------------------------------ slow, and how


def passing(hours: Hours, seconds: float) -> Callable[[], Awaitable[None]]:
    """Let time pass while the other side waits for the next piece."""

    async def between() -> None:
        hours.passed += seconds
        for _ in range(10):
            await asyncio.sleep(0)

    return between


@row("TR38", protection="a trickle is no download")
async def test_a_trickle_is_stalled_although_every_byte_is_in_time(world: World) -> None:
    """TR38: a byte every 0.2 seconds defeats any limit on single reads; a minute of it is enough."""
    world.keeps_partials = True
    world.allow("files/a.bin")
    hours = Hours()
    listed = remote("a", size=2000)
    async with RawServer() as server, session_files(world, server, listed, hours=hours) as files:
        server.on("GET", "/a", reply(body=content(2000), headers=ETAG, piece=1, between=passing(hours, 0.2)))
        report = await download(world, files, hours=hours, attempts=2)

    assert isinstance(report.outcomes[0].error, StalledError)
    assert len(server.requests) == 2
    assert 110 < hours.passed - sum(hours.waits) < 180


class Jumping:
    """Lets the clock of the event loop jump, as if that much time had passed: all its timers, the client's too."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.passed = 0.0
        real = self.loop.time
        # For the rest of the loop's life: a clock that goes back would hold up every timer that is set.
        self.loop.time = lambda: real() + self.passed  # type: ignore[method-assign]

    async def twenty_seconds(self) -> None:
        """Let them pass."""
        self.passed += 20
        for _ in range(10):
            await asyncio.sleep(0)


@row("TR39", protection="no limit on the whole of a body", seconds=10_000)
async def test_a_healthy_body_may_take_as_long_as_it_likes(world: World) -> None:
    """TR39: twenty minutes, steadily; every timer of the client ran through them, and none cut it."""
    body = content(60 * 100_000)
    final = world.allow("files/a.bin", body)
    jumping = Jumping()
    listed = remote("a", size=len(body))
    async with RawServer() as server, session_files(world, server, listed, clock=jumping.loop.time) as files:
        server.on("GET", "/a", reply(body=body, headers=ETAG, piece=100_000, between=jumping.twenty_seconds))
        report = await download(world, files)

    assert report.failures == ()
    assert final.read_bytes() == body
    assert ranges(server) == [None]
    assert jumping.passed == 1200


class Stuck:
    """A disk whose first write of content takes until somebody lets it go."""

    def __init__(self) -> None:
        self.disk = FaultyDisk()
        self.waiting, self.free = threading.Event(), threading.Event()
        self.disk.replace("write", self._write, name="*.part", times=1)

    def _write(self, real: Callable[..., Any], *args: Any) -> Any:
        self.waiting.set()
        assert self.free.wait(20)
        return real(*args)

    async def reached(self, still: Callable[[], object]) -> None:
        """Wait until it is stuck, and ``still`` has given the same for a while."""
        before, same = None, 0
        while not self.waiting.is_set() or same < 30:
            await asyncio.sleep(0.002)
            before, same = still(), same + 1 if still() == before else 0


@row("TR40", protection="time in which our disk is slow is not the body's fault")
async def test_a_slow_disk_holds_the_network_back_and_blames_nobody(world: World) -> None:
    """TR40: for two minutes nothing is written; the server is held back, and then goes on with the same answer."""
    block = content(64 * KIB)
    size = 384 * len(block)
    hours, stuck, sent = Hours(), Stuck(), [0]

    async def count() -> None:
        sent[0] += 64 * KIB

    async def go_on() -> None:
        await stuck.reached(lambda: sent[0])
        held_at.append(sent[0])
        hours.passed += 120
        stuck.free.set()

    held_at: list[int] = []
    listed, fast = remote("a", size=size), Timeouts(slowest_rate=64 * KIB, slowest_over=60)
    async with RawServer() as server, session_files(world, server, listed, hours=hours, timeouts=fast) as files:
        server.on("GET", "/a", reply(body=block, times=384, headers=ETAG, piece=len(block), between=count))
        going_on = asyncio.create_task(go_on())
        report = await download(world, files, disk=stuck.disk, flush_unit=MIB)
        await going_on

    assert report.failures == ()
    assert report.outcomes[0].sha256 == hashlib.sha256(block * 384).hexdigest()
    assert ranges(server) == [None]
    assert 0 < held_at[0] < size / 2


@row("TR40", protection="time in which our disk is slow is not the body's fault")
async def test_a_rate_that_the_caller_limits_holds_the_network_back_and_blames_nobody(world: World) -> None:
    """TR40: at 100 KB a second of our own choice, from a host that would be called stalled below a megabyte."""
    hours, body, strict = Hours(), content(400_000), Timeouts(slowest_rate=1_000_000, slowest_over=1)
    final = world.allow("files/a.bin", body)
    listed = remote("a", size=len(body))
    async with RawServer() as server, session_files(world, server, listed, hours=hours, timeouts=strict) as files:
        server.on("GET", "/a", ranged(body))
        report = await download(world, files, hours=hours, max_rate=100_000)

    assert report.failures == ()
    assert final.read_bytes() == body
    assert ranges(server) == [None]
    assert hours.passed == pytest.approx(4.0)
    assert max(hours.waits) <= 0.1


# ----------------------------------------------------------------------------------------------------------- the wire


@row("TR41", protection="what may pass is tried again")
async def test_a_name_that_is_not_found_is_looked_up_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """TR41: the name server is away for a moment."""
    final = world.allow("files/a.bin", BODY)
    loop, looked_up = asyncio.get_running_loop(), []

    async def getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
        looked_up.append(host)
        if len(looked_up) == 1:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
    async with RawServer() as api, RawServer() as host:
        place = f"http://files.localhost:{host.port}/a"
        async with session_files(world, api, remote("a", size=len(BODY)), link=lambda *_: place) as files:
            host.on("GET", "/a", ranged(BODY))
            report = await download(world, files)

    assert report.failures == ()
    assert final.read_bytes() == BODY
    assert looked_up == ["files.localhost"] * 2
    assert len(host.requests) == 1


class Rising(Hours):
    """Time in which a server comes up while somebody waits."""

    def __init__(self, server: RawServer) -> None:
        super().__init__()
        self.server = server

    async def sleep(self, seconds: float) -> None:
        """Wait, and let the server listen from then on."""
        if not self.waits:
            await self.server.__aenter__()
        await super().sleep(seconds)


@row("TR41", protection="what may pass is tried again")
async def test_a_refused_connection_is_tried_again(world: World) -> None:
    """TR41: nobody listens there yet."""
    final = world.allow("files/a.bin", BODY)
    host = RawServer(port=unused_port())
    hours = Rising(host)
    place = f"http://127.0.0.1:{host.port}/a"
    host.on("GET", "/a", ranged(BODY))
    async with RawServer() as api:
        async with session_files(world, api, remote("a", size=len(BODY)), link=lambda *_: place) as files:
            report = await download(world, files, hours=hours)
        await host.__aexit__()

    assert report.failures == ()
    assert final.read_bytes() == BODY
    assert (report.outcomes[0].attempts, len(host.requests)) == (2, 1)


@row("TR41", protection="what may pass is tried again")
@pytest.mark.parametrize(
    ("fault", "requests"), [("reset", 1), (60_000, 2)], ids=["reset in the handshake", "end without a goodbye"]
)
async def test_a_tls_connection_that_breaks_is_made_again(world: World, fault: Any, requests: int) -> None:
    """TR41: cut in the handshake, or ended in the middle of the body without the goodbye of TLS."""
    final = world.allow("files/a.bin", BODY)
    authority = trustme.CA()
    listed = remote("a", size=len(BODY))
    async with (
        RawServer() as api,
        RawServer(ssl_context=serving(authority)) as host,
        Wire(host.port, [fault]) as wire,
        session_files(
            world, api, listed, link=lambda *_: f"https://localhost:{wire.port}/a", ssl=trusting(authority)
        ) as files,
    ):
        host.on("GET", "/a", ranged(BODY))
        report = await download(world, files)

    assert report.failures == ()
    assert final.read_bytes() == BODY
    assert (len(host.requests), wire.connections) == (requests, 2)
    assert [seen.header("Range") is not None for seen in host.requests] == [False, True][:requests]


@row("TR41", protection="what may pass is tried again")
@pytest.mark.parametrize("reset", [True, False])
async def test_a_body_that_is_reset_goes_on_where_it_broke(world: World, reset: bool) -> None:
    """TR41: how many of the bytes on the way arrive is the kernel's decision; those that did are kept."""
    final = world.allow("files/a.bin", BODY)
    async with RawServer() as server, session_files(world, server, remote("a", size=len(BODY))) as files:
        server.on("GET", "/a", reply(body=BODY, headers=ETAG, cut=CUT, reset=reset), ranged(BODY))
        report = await download(world, files)

    assert report.failures == ()
    assert final.read_bytes() == BODY
    start = int((server.requests[1].header("Range") or "bytes=0-")[6:-1])
    assert 0 <= start <= CUT if reset else start == CUT


def certificate(kind: str) -> tuple[Any, Any]:
    """Return the contexts of a server that should not be trusted, and of the client that meets it."""
    ours, theirs = trustme.CA(), trustme.CA()
    if kind == "unknown":
        return serving(theirs), trusting(ours)
    if kind == "expired":
        return serving(ours, ends=datetime(2020, 1, 1, tzinfo=UTC)), trusting(ours)
    return serving(ours, "elsewhere.example"), trusting(ours)


@row("TR42", protection="certificates are checked")
@pytest.mark.parametrize("kind", ["unknown", "expired", "wrong name"])
async def test_a_wrong_certificate_ends_it_at_once(world: World, kind: str) -> None:
    """TR42: one connection, nothing said over it, no other way taken."""
    world.allow("files/a.bin")
    server_side, client_side = certificate(kind)
    async with RawServer() as api, RawServer(ssl_context=server_side) as host:
        place = f"{host.base_url}/a"
        listed = remote("a", size=len(BODY))
        async with session_files(world, api, listed, link=lambda *_: place, ssl=client_side) as files:
            host.on("GET", "/a", ranged(BODY))
            report = await download(world, files)

    assert isinstance(report.outcomes[0].error, TlsError)
    assert report.outcomes[0].attempts == 1
    assert host.requests == []


@row("TR43", protection="what came before a connection ended is read")
@pytest.mark.parametrize("tls", [True, False])
async def test_a_body_that_ended_while_we_were_busy_is_whole(world: World, tls: bool) -> None:
    """TR43: all of it was sent and the connection ended before our disk took the first block."""
    body = content(600_000)
    final = world.allow("files/a.bin", body)
    authority, stuck = trustme.CA(), Stuck()
    async with RawServer(ssl_context=serving(authority) if tls else None) as server:

        async def go_on() -> None:
            await stuck.reached(lambda: server.open)
            stuck.free.set()

        listed = remote("a", size=len(body))
        async with session_files(world, server, listed, ssl=trusting(authority)) as files:
            server.on("GET", "/a", reply(body=body, headers=ETAG, close=True))
            going_on = asyncio.create_task(go_on())
            report = await download(world, files, disk=stuck.disk)
            await going_on

    assert report.failures == ()
    assert final.read_bytes() == body
    assert ranges(server) in ([None], [None, "bytes=600000-"])


@row("TR43", protection="a range behind the last byte is the end")
async def test_a_body_whose_end_alone_is_lost_costs_one_harmless_request(world: World) -> None:
    """TR43: every byte came, only the word that this was all did not; the answer to the rest of nothing settles it."""
    final = world.allow("files/a.bin", BODY)
    head = b'HTTP/1.1 200 OK\r\nETag: "v1"\r\nTransfer-Encoding: chunked\r\n\r\n'
    async with RawServer() as server, session_files(world, server, remote("a")) as files:
        server.on("GET", "/a", reply(raw=head + b"%x\r\n" % len(BODY) + BODY, close=True), ranged(BODY))
        report = await download(world, files)

    assert report.failures == ()
    assert final.read_bytes() == BODY
    assert ranges(server) == [None, f"bytes={len(BODY)}-"]


# ------------------------------------------------------------------------------------------------------ many, and oddly


@row("TR50", protection="a host in trouble is left alone")
@pytest.mark.parametrize("down", [{"status": 503}, {"mute": True}], ids=["refuses", "hangs up"])
async def test_a_host_that_is_down_for_all_is_not_asked_for_each(world: World, down: dict[str, Any]) -> None:
    """TR50: 500 files; those in flight meet it, and one request at a time tries after that."""
    hours = Hours()
    rows = [remote(f"f{number}", size=10) for number in range(500)]
    policy = RetryPolicy(timeout=120)
    async with RawServer() as server, session_files(world, server, *rows, hours=hours, retry=policy) as files:
        server.on("GET", "/*", reply(**down))
        report = await download(world, files, hours=hours, workers=4, shown=False)

    world.saw(report.error)
    assert isinstance(report.error, HostPausedError)
    assert (report.outcomes, report.not_started) == ((), 500)
    assert len(server.requests) <= 4 + 20


@row("TR56", protection="content is asked for without a probe")
@pytest.mark.parametrize(
    "how", [{"version": "HTTP/1.0", "close": True}, {"version": "HTTP/1.0", "length": None}, {"close": True}]
)
async def test_old_and_hasty_servers_are_asked_once(world: World, how: dict[str, Any]) -> None:
    """TR56: HTTP/1.0, with and without a length, and a connection that ends with each answer."""
    names = ("a", "b", "c")
    rows = [remote(name, size=len(BODY)) for name in names]
    finals = [world.allow(f"files/{name}.bin", BODY) for name in names]
    async with RawServer() as server, session_files(world, server, *rows) as files:
        server.on("GET", "/*", reply(body=BODY, headers=ETAG, **how))
        report = await download(world, files, workers=1)

    assert report.failures == ()
    assert [final.read_bytes() for final in finals] == [BODY] * 3
    assert (len(server.requests), server.connections) == (3, 3)


@row("TR56", protection="a request is sent once for each attempt")
@pytest.mark.parametrize("seen", [case(True, protection="content is asked for without a probe"), False])
async def test_an_idle_connection_that_the_server_has_ended_costs_no_hidden_request(world: World, seen: bool) -> None:
    """TR56: between two files; noticed in time, or only by the request that gets no answer, which is booked."""
    rows = [remote(name, size=len(BODY)) for name in "ab"]
    finals = [world.allow(f"files/{name}.bin", BODY) for name in "ab"]
    hours = Hours()
    async with RawServer() as server, session_files(world, server, *rows) as files:
        server.on("GET", "/a", ranged(BODY))
        server.on("GET", "/b", *([] if seen else [reply(mute=True)]), ranged(BODY))
        files.rows = rows[:1]
        first = await download(world, files, hours=hours)
        if seen:
            await server.hang_up()
        files.rows = rows[1:]
        second = await download(world, files, hours=hours)

    assert first.failures == second.failures == ()
    assert [final.read_bytes() for final in finals] == [BODY, BODY]
    assert second.outcomes[0].attempts == len(server.lines("GET /b*")) == (1 if seen else 2)
    assert hours.waits == []
