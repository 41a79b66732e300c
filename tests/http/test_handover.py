"""
The handover of a connection to our own protocol: when it is made, what it may never do, and what it leaves behind.

What a reader of bodies may rely on is in ``test_stream.py``, for both readers. Here everything runs on each event loop
and on each kind of connection that is handed over.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from asyncio.selector_events import _SelectorSocketTransport
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, aclosing
from functools import partial
from itertools import cycle
from typing import Any

import aiohttp
import attrs
import pytest
import trustme
import uvloop
from aiohttp.client_proto import ResponseHandler
from body_readers import reader_of
from broken_wire import Wire, serving, trusting
from plain_provider import new_session
from scripted import RawServer, json_reply, reply

from arena_async.errors import ArenaAsyncError, TransportError
from arena_async.http.session import Session
from arena_async.options import Timeouts
from arena_async.protocol.files import ByteStream
from arena_async.protocol.messages import Request

FILE = Request(method="GET", path="/file", scope=None)
LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}
# libuv keeps a pipe of its own from the first loop that runs to the end of the process: no test has left that behind.
uvloop.run(asyncio.sleep(0))


def content(size: int) -> bytes:
    """Bytes that differ everywhere."""
    return hashlib.shake_256(b"handover").digest(size)


@attrs.frozen
class Place:
    """A server, and a session that reaches it."""

    server: RawServer
    session: Session

    async def read(self, *sizes: int) -> bytes:
        """Read the file over a connection that is handed over, into buffers of these sizes in turn."""
        async with await self.session.stream(FILE) as opened:
            assert reader_of(opened.stream) == "handover"
            data, error = await drain(opened.stream, *sizes)
        assert error is None
        return data


Scenario = Callable[[Place], Awaitable[None]]
Run = Callable[[Scenario], None]


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Return an authority that signs for localhost."""
    return trustme.CA()


@pytest.fixture(params=["asyncio plain", "asyncio tls", "uvloop plain", "uvloop tls"])
def run(request: pytest.FixtureRequest, authority: trustme.CA) -> Run:
    """Run a scenario on an event loop, over a kind of connection."""
    loop, kind = request.param.split()
    encrypted = kind == "tls"

    async def play(scenario: Scenario) -> None:
        async with AsyncExitStack() as stack:
            server = RawServer(ssl_context=serving(authority) if encrypted else None)
            await stack.enter_async_context(server)
            session = new_session(
                server.base_url,
                timeouts=Timeouts(read=20, slowest_rate=0),
                ssl=trusting(authority) if encrypted else None,
            )
            stack.push_async_callback(session.aclose)
            await scenario(Place(server, session))

    def run_scenario(scenario: Scenario) -> None:
        with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
            runner.run(asyncio.wait_for(play(scenario), 30))

    return run_scenario


async def drain(stream: ByteStream, *sizes: int, rest: int = 0) -> tuple[bytes, BaseException | None]:
    """Read a body to its end or its error, into buffers of these sizes in turn, and rest in between."""
    found = bytearray()
    try:
        for size in cycle(sizes):
            buffer = memoryview(bytearray(size))
            count = await stream.readinto(buffer)
            if not count:
                break
            found += buffer[:count]
            for _ in range(rest):
                await asyncio.sleep(0)
    except ArenaAsyncError as error:
        return bytes(found), error
    return bytes(found), None


class TestReading:
    """Whole bodies, and the connection after them."""

    @pytest.mark.parametrize("sizes", [(100_000,), (1_000_001,), (3_000_000,), (7, 300_000, 1), (3_000_000 // 3,)])
    def test_the_body_comes_whole_and_the_connection_stays(self, run: Run, sizes: tuple[int, ...]) -> None:
        """Whatever the buffers are, all files come over one connection, small ones and large ones in turn."""
        data = content(3_000_000)

        async def scenario(place: Place) -> None:
            place.server.on("GET", "/file", reply(body=data))
            place.server.on("GET", "/page", json_reply({"a": 1}))
            for _ in range(2):
                assert await place.read(*sizes) == data
                page = await place.session.send(Request(method="GET", path="/page", scope=None))
                assert page.body == b'{"a": 1}'
            assert (place.server.connections, len(place.server.requests)) == (1, 4)

        run(scenario)

    @pytest.mark.parametrize("seed", range(6))
    def test_nothing_depends_on_how_the_pieces_come(self, run: Run, seed: int) -> None:
        """Pieces and buffers of any size, the reader faster or slower than the server."""
        dice = random.Random(seed)
        data = content(dice.randrange(300_000, 900_000))
        sizes = [dice.choice([1, 1000, 40_000, 300_000, 1_000_000]) for _ in range(5)] + [300_000]

        async def between() -> None:
            for _ in range(dice.randrange(4)):
                await asyncio.sleep(0)

        async def scenario(place: Place) -> None:
            place.server.on("GET", "/file", reply(body=data, piece=dice.choice([5_000, 70_000]), between=between))
            for _ in range(3):
                assert await place.read(*sizes) == data
            assert place.server.connections == 1

        run(scenario)

    def test_a_connection_that_ends_with_the_body_loses_nothing(self, run: Run) -> None:
        """TR43: the goodbye may come before the reader has asked for the last bytes, and over TLS among them."""
        data = content(900_000)

        async def scenario(place: Place) -> None:
            place.server.on("GET", "/file", reply(body=data, close=True))
            for sizes in [(1000,), (100_000,), (900_000,), (2_000_000,)]:
                assert await place.read(*sizes) == data
            assert place.server.connections == 4

        run(scenario)

    def test_the_connection_is_handed_over_for_a_part_of_a_file_too(self, run: Run) -> None:
        """A resumed download is as large."""
        data = content(400_000)

        async def scenario(place: Place) -> None:
            headers = {"Content-Range": "bytes 100-400099/400100", "ETag": '"a"'}
            place.server.on("GET", "/file", reply(206, body=data, headers=headers))
            assert await place.read(1_000_000) == data

        run(scenario)


class TestMemory:
    """The caller's memory is the caller's."""

    def test_nothing_is_written_while_nobody_reads(self, run: Run) -> None:
        """The buffer is hashed and written to the disk then."""

        async def scenario(place: Place) -> None:
            more = reply(body=content(900_000), piece=100_000, between=lambda: asyncio.sleep(0))
            place.server.on("GET", "/file", more)
            async with await place.session.stream(FILE) as opened:
                buffer = memoryview(bytearray(200_000))
                await opened.stream.readinto(buffer)
                before = bytes(buffer)
                for _ in range(50):
                    await asyncio.sleep(0)
                assert bytes(buffer) == before == content(900_000)[:200_000]

        run(scenario)

    def test_nothing_is_written_after_a_cancelled_read(self, run: Run) -> None:
        """The slot has its next file in it by then; and the connection is over."""

        async def scenario(place: Place) -> None:
            gate = asyncio.Event()

            async def between() -> None:
                await gate.wait()

            place.server.on("GET", "/file", reply(body=content(900_000), piece=300_000, between=between))
            async with await place.session.stream(FILE) as opened:
                buffer = memoryview(bytearray(800_000))
                reading = asyncio.create_task(opened.stream.readinto(buffer))
                while not any(buffer[250_000:300_000]):
                    await asyncio.sleep(0)
                reading.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await reading
                before = bytes(buffer)
                gate.set()
                await place.server.drained()
                assert bytes(buffer) == before

        run(scenario)

    def test_a_session_that_closes_ends_a_body_that_is_read(self, run: Run) -> None:
        """Nobody waits for ever, and the connection is gone."""

        async def scenario(place: Place) -> None:
            place.server.on("GET", "/file", reply(body=content(900_000), cut=300_000, stall=True))
            async with await place.session.stream(FILE) as opened:
                reading = asyncio.create_task(drain(opened.stream, 1_000_000))
                for _ in range(20):
                    await asyncio.sleep(0)
                await place.session.aclose()
                _, error = await reading
                assert isinstance(error, TransportError)

        run(scenario)


class TestBreaking:
    """Bodies that break, and servers that say more than they announced."""

    @pytest.mark.parametrize("sizes", [(1000,), (100_000,), (2_000_000,)])
    def test_what_came_before_a_cut_is_delivered(self, run: Run, sizes: tuple[int, ...]) -> None:
        """TR01: not a byte that arrived is lost, however slowly it is read."""
        data = content(900_000)

        async def scenario(place: Place) -> None:
            place.server.on("GET", "/file", reply(body=data, cut=700_001))
            async with await place.session.stream(FILE) as opened:
                assert reader_of(opened.stream) == "handover"
                found, error = await drain(opened.stream, *sizes)
            assert isinstance(error, TransportError)
            assert (error.__cause__, error.__context__) == (None, None)
            assert found == data[:700_001]

        run(scenario)

    @pytest.mark.parametrize("sizes", [(400_000,), (100_000,), (1_000_000,)])
    def test_what_comes_behind_the_body_reaches_nobody(self, run: Run, sizes: tuple[int, ...]) -> None:
        """A body that is longer than announced, as another answer even: the connection is not used again."""
        data = content(400_000)
        smuggled = reply(body=b"not asked for").head() + b"not asked for"

        async def scenario(place: Place) -> None:
            place.server.on("GET", "/file", reply(body=data + smuggled, length=len(data)))
            place.server.on("GET", "/page", json_reply({"a": 1}))
            for number in range(1, 4):
                assert await place.read(*sizes) == data
                page = await place.session.send(Request(method="GET", path="/page", scope=None))
                assert page.body == b'{"a": 1}'
                assert place.server.connections == number + 1

        run(scenario)

    def test_a_wire_that_is_cut_without_a_goodbye(self, authority: trustme.CA) -> None:
        """TR01: over TLS, what was decrypted before is there."""
        data = content(900_000)

        async def scenario() -> None:
            async with RawServer(ssl_context=serving(authority)) as server, Wire(server.port, [600_000]) as wire:
                server.on("GET", "/file", reply(body=data))
                made = new_session(f"https://localhost:{wire.port}", ssl=trusting(authority))
                async with aclosing(made) as session, await session.stream(FILE) as opened:
                    assert reader_of(opened.stream) == "handover"
                    found, error = await drain(opened.stream, 50_000)
            assert isinstance(error, TransportError)
            assert len(found) > 500_000
            assert data.startswith(found)

        asyncio.run(scenario())


class TestChoice:
    """When the connection is handed over."""

    def test_the_installed_client_is_one_that_is_known(self, run: Run) -> None:
        """
        The connection of a large body is handed over with the HTTP client that is installed.

        Where this fails after an update of aiohttp: read what became of its ``ResponseHandler`` and ``StreamReader``,
        run this file and the fault matrix with ``--body-reader both``, and add the release to those that were tried.
        """
        assert aiohttp.__version__.rpartition(".")[0] == "3.14", "not tried with this release"

        async def scenario(place: Place) -> None:
            place.server.on("GET", "/file", reply(body=content(300_000)))
            async with await place.session.stream(FILE) as opened:
                assert reader_of(opened.stream) == "handover", f"aiohttp {aiohttp.__version__}"

        run(scenario)

    @pytest.mark.parametrize(
        "how",
        [
            {"chunked": True},
            {"length": None},
            {"headers": {"Content-Encoding": "gzip"}},
            {"version": "HTTP/1.0", "length": None},
            {"body": content(262_143)},
        ],
    )
    async def test_anything_unusual_goes_through_the_reader(self, how: dict[str, Any]) -> None:
        """Whatever does not end where its length says, or is too small to pay."""
        async with RawServer() as server:
            server.on("GET", "/file", reply(**{"body": content(600_000), **how}))
            async with aclosing(new_session(server.base_url)) as session, await session.stream(FILE) as opened:
                assert reader_of(opened.stream) == "reader"
                data, _ = await drain(opened.stream, 100_000)
        assert data == how.get("body", content(600_000))

    @pytest.mark.parametrize("unknown", ["transport", "protocol"])
    def test_a_client_that_is_not_known_goes_through_the_reader(self, unknown: str) -> None:
        """A later release is used as it is meant to be, and nobody notices but by the time it takes."""

        async def scenario() -> None:
            connector = aiohttp.TCPConnector()
            if unknown == "protocol":
                connector._factory = partial(OtherHandler, loop=asyncio.get_running_loop())
            async with RawServer() as server, connector:
                server.on("GET", "/file", reply(body=content(600_000)))
                made = new_session(server.base_url, connector=connector)
                async with aclosing(made) as session, await session.stream(FILE) as opened:
                    assert reader_of(opened.stream) == "reader"
                    assert await drain(opened.stream, 100_000) == (content(600_000), None)

        new_loop = OtherLoop if unknown == "transport" else asyncio.new_event_loop
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(asyncio.wait_for(scenario(), 30))


class OtherHandler(ResponseHandler):
    """A connection of a release that nobody has looked at."""


class OtherTransport(_SelectorSocketTransport):
    """A transport that nobody has looked at."""


class OtherLoop(asyncio.SelectorEventLoop):
    """An event loop with transports of its own."""

    kind: type[_SelectorSocketTransport] = OtherTransport

    def _make_socket_transport(
        self, sock: Any, protocol: Any, waiter: Any = None, **how: Any
    ) -> _SelectorSocketTransport:
        return self.kind(self, sock, protocol, waiter, **how)


class HastyTransport(_SelectorSocketTransport):
    """A transport that goes on when it is told to pause, as some do with what they have decrypted."""

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


# It is taken for what it is made of.
HastyTransport.__module__ = _SelectorSocketTransport.__module__


class HastyLoop(OtherLoop):
    """An event loop whose transports do not do as they are told."""

    kind = HastyTransport


class TestTransport:
    """The handover over a transport that does not do as it is told."""

    @pytest.mark.parametrize("sizes", [(1000,), (50_000, 7), (300_000,)])
    def test_bytes_that_come_in_spite_of_the_pause_stay_in_order(self, sizes: tuple[int, ...]) -> None:
        """They are kept until the next read, and before what comes then."""
        data = content(900_000)

        async def scenario() -> None:
            async with RawServer() as server:
                server.on("GET", "/file", reply(body=data, piece=3000, between=lambda: asyncio.sleep(0)))
                async with aclosing(new_session(server.base_url)) as session:
                    for _ in range(2):
                        async with await session.stream(FILE) as opened:
                            assert reader_of(opened.stream) == "handover"
                            assert await drain(opened.stream, *sizes, rest=5) == (data, None)
                    assert server.connections == 1

        with asyncio.Runner(loop_factory=HastyLoop) as runner:
            runner.run(asyncio.wait_for(scenario(), 30))
