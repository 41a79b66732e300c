"""Small bodies: returned as bytes, at one await where they are here already, whole up to a limit or a break."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from plain_provider import new_session
from scripted import RawServer, reply

from arena_async.errors import ClosedError, StalledError, TransportError
from arena_async.http.session import Session
from arena_async.options import Timeouts
from arena_async.protocol.files import OpenedFile
from arena_async.protocol.messages import Request

pytestmark = pytest.mark.usefixtures("body_reader")

FILE = Request(method="GET", path="/file", scope=None)
DATA = bytes(range(256)) * 100
LIMIT = 1_000_000


@pytest.fixture
async def server() -> AsyncIterator[RawServer]:
    """Yield a server."""
    async with RawServer() as running:
        yield running


@pytest.fixture
async def session(server: RawServer) -> AsyncIterator[Session]:
    """Yield a session with that server."""
    running = new_session(server.base_url, timeouts=Timeouts(read=1, slowest_rate=0))
    yield running
    await running.aclose()


@pytest.mark.parametrize("how", [{}, {"chunked": True, "piece": 999}, {"length": None}, {"version": "HTTP/1.0"}])
async def test_all_of_it_is_returned_and_the_end_is_known(
    server: RawServer, session: Session, how: dict[str, Any]
) -> None:
    """However its end is marked; another read has nothing more to return."""
    server.on("GET", "/file", reply(body=DATA, **how))
    async with await session.stream(FILE) as opened:
        assert await opened.stream.read(LIMIT) == DATA
        assert opened.stream.at_end
        assert await opened.stream.read(LIMIT) == b""


async def test_an_empty_body_is_at_its_end(server: RawServer, session: Session) -> None:
    """No byte, and no error."""
    server.on("GET", "/file", reply())
    async with await session.stream(FILE) as opened:
        assert await opened.stream.read(LIMIT) == b""
        assert opened.stream.at_end


async def test_a_whole_body_leaves_the_connection_to_the_next(server: RawServer, session: Session) -> None:
    """All of them are received over one."""
    server.on("GET", "/file", reply(body=DATA))
    for _ in range(3):
        async with await session.stream(FILE) as opened:
            assert await opened.stream.read(LIMIT) == DATA
    assert (server.connections, len(server.requests)) == (1, 3)


async def test_a_body_that_is_here_already_needs_no_waiting(server: RawServer, session: Session) -> None:
    """One step of the coroutine, and no turn of the event loop."""
    server.on("GET", "/file", reply(body=DATA, cut=100, close=True))
    server.on("GET", "/whole", reply(body=b"x" * 10))
    async with await session.stream(Request(method="GET", path="/whole", scope=None)) as opened:
        for _ in range(20):
            await asyncio.sleep(0)
        reading = opened.stream.read(LIMIT)
        if "Reader" in type(opened.stream).__name__:
            with pytest.raises(StopIteration) as ended:
                reading.send(None)
            assert ended.value.value == b"x" * 10
        else:
            assert await reading == b"x" * 10


async def test_it_returns_early_once_there_is_more_than_the_limit(server: RawServer, session: Session) -> None:
    """What follows is returned by the next calls; every byte once and in order."""
    server.on("GET", "/file", reply(body=DATA * 40))
    async with await session.stream(FILE) as opened:
        found = [await opened.stream.read(10_000)]
        assert 10_000 < len(found[0]) < len(DATA * 40)
        assert not opened.stream.at_end
        while not opened.stream.at_end:
            found.append(await opened.stream.read(LIMIT))
    assert b"".join(found) == DATA * 40


@pytest.mark.parametrize("how", [{"cut": 9_999}, {"cut": 9_990, "chunked": True, "piece": 999}])
async def test_bytes_before_a_break_are_returned_before_the_error(
    server: RawServer, session: Session, how: dict[str, Any]
) -> None:
    """The next call raises it, and every one after that."""
    server.on("GET", "/file", reply(body=DATA, **how))
    async with await session.stream(FILE) as opened:
        assert await opened.stream.read(LIMIT) == DATA[: how["cut"]]
        assert not opened.stream.at_end
        for _ in range(2):
            with pytest.raises(TransportError):
                await opened.stream.read(LIMIT)


async def test_a_body_that_stops_is_stalled(server: RawServer) -> None:
    """What was received is returned first."""
    server.on("GET", "/file", reply(body=DATA, cut=1000, stall=True))
    session = new_session(server.base_url, timeouts=Timeouts(read=0.05))
    async with await session.stream(FILE) as opened:
        assert await opened.stream.read(LIMIT) == DATA[:1000]
        with pytest.raises(StalledError):
            await opened.stream.read(LIMIT)
    await session.aclose()


async def waiting(opened: OpenedFile) -> asyncio.Task[bytes]:
    """Begin a read, and return once it has received what there is and waits for more."""
    reading = asyncio.ensure_future(opened.stream.read(LIMIT))
    for _ in range(200):
        await asyncio.sleep(0.001)
    return reading


async def test_a_cancelled_read_keeps_what_it_received(server: RawServer, session: Session) -> None:
    """It can be taken once; the connection is ended."""
    server.on("GET", "/file", reply(body=DATA, cut=5_000, stall=True))
    async with await session.stream(FILE) as opened:
        reading = await waiting(opened)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert opened.stream.take() == DATA[:5_000]
        assert opened.stream.take() == b""
        assert not opened.stream.at_end
        with pytest.raises(ClosedError):
            await opened.stream.read(LIMIT)
    await server.drained()
