"""
Bodies: one attempt, read into the caller's memory, with nothing lost and nothing given to the wrong host.

All of it with both readers: code that reads a body cannot tell them apart.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest
from plain_provider import new_session
from scripted import RawServer, Reply, json_reply, reply

from arena_async.errors import (
    ApiError,
    ArenaAsyncError,
    AuthenticationError,
    ClosedError,
    DeadlineError,
    LinkExpiredError,
    ServerError,
    StalledError,
    TransportError,
    UnsafeUrlError,
)
from arena_async.http.session import Session
from arena_async.options import MIB, Timeouts
from arena_async.protocol.files import BodyHead, ByteStream
from arena_async.protocol.messages import Request, Response

pytestmark = pytest.mark.usefixtures("body_reader")

FILE = Request(method="GET", path="/file", scope=None)
DATA = hashlib.sha512(b"x").digest() * 16_384  # 1 MiB
MD5 = hashlib.md5(DATA, usedforsecurity=False)
MD5_BASE64 = base64.b64encode(MD5.digest()).decode()


@pytest.fixture
async def server() -> AsyncIterator[RawServer]:
    """Yield a server with a login."""
    async with RawServer() as running:
        running.on("POST", "/login", json_reply({"id": "S1"}), json_reply({"id": "S2"}))
        running.on("PUT", "/logout", reply())
        yield running


@pytest.fixture
async def session(server: RawServer) -> AsyncIterator[Session]:
    """Yield a session with that server."""
    running = new_session(server.base_url, timeouts=Timeouts(read=1, slowest_rate=0))
    yield running
    await running.aclose()


async def drain(stream: ByteStream, size: int = 100_000) -> tuple[bytes, BaseException | None]:
    """Read a body to its end or its error, and give both."""
    buffer, found = memoryview(bytearray(size)), bytearray()
    try:
        while count := await stream.readinto(buffer):
            found += buffer[:count]
    except ArenaAsyncError as error:
        return bytes(found), error
    return bytes(found), None


async def fetch(session: Session, request: Request = FILE, **how: Any) -> tuple[BodyHead, bytes, BaseException | None]:
    """Open, read and close."""
    async with await session.stream(request, **how) as opened:
        return opened.head, *await drain(opened.stream)


class TestReading:
    """Reading into the caller's memory."""

    @pytest.mark.parametrize("how", [{}, {"chunked": True}, {"length": None}, {"close": True}, {"version": "HTTP/1.0"}])
    async def test_the_body_comes_whole(self, server: RawServer, session: Session, how: dict[str, Any]) -> None:
        """TR56: with a length, in chunks, up to the end of the connection, and from old servers."""
        server.on("GET", "/file", reply(body=DATA, **how))
        _, data, error = await fetch(session)
        assert error is None
        assert data == DATA

    async def test_a_buffer_is_filled_to_the_brim(self, server: RawServer, session: Session) -> None:
        """Short counts come at the end only."""
        server.on("GET", "/file", reply(body=DATA, chunked=True, piece=777))
        async with await session.stream(FILE) as opened:
            buffer = memoryview(bytearray(300_000))
            counts = [await opened.stream.readinto(buffer) for _ in range(5)]
        assert counts == [300_000, 300_000, 300_000, 148_576, 0]

    async def test_what_came_is_handed_out_after_a_second(self, server: RawServer, session: Session) -> None:
        """A slow body shows progress although the buffer is large."""
        server.on("GET", "/file", reply(body=b"x" * 100, cut=40, stall=True))
        async with await session.stream(FILE) as opened:
            assert await opened.stream.readinto(memoryview(bytearray(1000))) == 40

    async def test_a_read_to_the_end_gives_the_connection_back(self, server: RawServer, session: Session) -> None:
        """The next file comes over the same connection."""
        server.on("GET", "/file", reply(body=DATA))
        for _ in range(3):
            await fetch(session)
        assert (server.connections, len(server.requests)) == (1, 3)

    async def test_a_body_that_was_not_wanted_ends_its_connection(self, server: RawServer, session: Session) -> None:
        """Nobody reads the rest of a file only to keep a connection."""
        server.on("GET", "/file", reply(body=DATA * 20))
        async with await session.stream(FILE) as opened:
            await opened.stream.readinto(memoryview(bytearray(10)))
        await server.drained()
        with pytest.raises(ClosedError):
            await opened.stream.readinto(memoryview(bytearray(10)))
        await opened.stream.aclose()

    async def test_a_cancelled_read_ends_the_connection(self, server: RawServer, session: Session) -> None:
        """What arrives afterwards belongs to nobody."""
        server.on("GET", "/file", reply(body=b"x" * 100, cut=0, stall=True))
        async with await session.stream(FILE) as opened:
            reading = asyncio.create_task(opened.stream.readinto(memoryview(bytearray(10))))
            for _ in range(10):
                await asyncio.sleep(0)
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
            with pytest.raises(ClosedError):
                await opened.stream.readinto(memoryview(bytearray(10)))

    async def test_bytes_are_stored_as_sent(self, server: RawServer, session: Session) -> None:
        """TR09: a stored .csv.gz with a content encoding stays packed."""
        packed = gzip.compress(b"a,b\n" * 1000)
        server.on("GET", "/file", reply(body=packed, headers={"Content-Encoding": "gzip"}))
        head, data, error = await fetch(session)
        assert (data, error, head.encoding, head.length) == (packed, None, "gzip", len(packed))
        assert server.requests[0].header("Accept-Encoding") == "identity"

    async def test_an_empty_body_ends_at_once(self, server: RawServer, session: Session) -> None:
        """TR08: nothing to read is no error here."""
        server.on("GET", "/file", reply())
        head, data, error = await fetch(session)
        assert (head.length, data, error) == (0, b"", None)


class TestBreaking:
    """Bodies that break."""

    @pytest.mark.parametrize(
        "how",
        [
            {"cut": 300_000},
            {"cut": 299_999, "chunked": True},
            {"cut": 297_000, "chunked": True, "piece": 1000},
        ],
    )
    async def test_what_came_before_a_cut_is_delivered_before_the_error(
        self, server: RawServer, session: Session, how: dict[str, Any]
    ) -> None:
        """TR01, TR04: not a byte that arrived is lost."""
        server.on("GET", "/file", reply(body=DATA, **how))
        _, data, error = await fetch(session)
        assert isinstance(error, TransportError)
        assert data == DATA[: how["cut"]]

    async def test_a_slow_reader_loses_nothing_either(self, server: RawServer, session: Session) -> None:
        """The HTTP client's reader would throw away what it has buffered once the connection breaks."""
        server.on("GET", "/file", reply(body=DATA, cut=200_000))
        async with await session.stream(FILE) as opened:
            await server.drained()
            for _ in range(10):
                await asyncio.sleep(0)
            data, error = await drain(opened.stream, 1000)
        assert isinstance(error, TransportError)
        assert data == DATA[:200_000]

    async def test_a_reader_that_paused_the_connection_gets_all_of_it(
        self, server: RawServer, session: Session
    ) -> None:
        """TR43: a whole body, sent fast and half closed while the reader rests, is whole."""
        server.on("GET", "/file", reply(body=DATA * 4, close=True))
        async with await session.stream(FILE) as opened:
            data, error = await drain(opened.stream, 1000)
        assert error is None
        assert data == DATA * 4

    async def test_a_reset_is_an_error_of_the_transport(self, server: RawServer, session: Session) -> None:
        """TR41: what comes of the bytes on the way is the kernel's decision."""
        server.on("GET", "/file", reply(body=DATA, cut=100_000, reset=True))
        _, data, error = await fetch(session)
        assert isinstance(error, TransportError)
        assert DATA.startswith(data)

    async def test_the_error_comes_again_when_asked_again(self, server: RawServer, session: Session) -> None:
        """A broken body does not look like an ended one."""
        server.on("GET", "/file", reply(body=DATA, cut=10))
        async with await session.stream(FILE) as opened:
            await drain(opened.stream)
            with pytest.raises(TransportError):
                await opened.stream.readinto(memoryview(bytearray(10)))

    async def test_a_body_that_stops_is_stalled(self, server: RawServer) -> None:
        """TR37: what came is delivered, then the limit counts."""
        server.on("GET", "/file", reply(body=DATA, cut=1024, stall=True))
        loop, took = asyncio.get_running_loop(), []
        async with aclosing(new_session(server.base_url, timeouts=Timeouts(read=0.05))) as session:
            # A machine that is busy now is not busy each time.
            while len(took) < 5 and min(took, default=1.0) >= 0.9:
                began = loop.time()
                _, data, error = await fetch(session)
                took.append(loop.time() - began)
                assert isinstance(error, StalledError)
                assert data == DATA[:1024]
        # The buffer that might have been filled is not waited for: that would take a second each time.
        assert min(took) < 0.9

    async def test_a_trickle_is_stalled_although_every_byte_is_in_time(self, server: RawServer) -> None:
        """TR38: a byte now and then defeats any limit on single reads, but not the slowest rate."""
        clock = Clock()

        async def between() -> None:
            clock.monotonic += 10.0
            for _ in range(20):
                await asyncio.sleep(0)

        server.on("GET", "/file", reply(body=b"x" * 1000, piece=1, between=between))
        timeouts = Timeouts(slowest_rate=1024, slowest_over=60)
        session = new_session(server.base_url, timeouts=timeouts, clock=clock)
        async with await session.stream(FILE) as opened:
            data, error = await drain(opened.stream, 1)
        await session.aclose()
        assert isinstance(error, StalledError)
        assert len(data) < 100

    async def test_time_in_which_we_are_busy_is_not_held_against_the_body(self, server: RawServer) -> None:
        """TR40: a slow disk does not make a body stalled."""
        clock = Clock()
        server.on("GET", "/file", reply(body=b"x" * 1000))
        session = new_session(server.base_url, timeouts=Timeouts(slowest_rate=1024, slowest_over=60), clock=clock)
        async with await session.stream(FILE) as opened:
            buffer, got = memoryview(bytearray(10)), 0
            while count := await opened.stream.readinto(buffer):
                clock.monotonic += 120.0
                got += count
        await session.aclose()
        assert got == 1000

    async def test_a_head_that_never_comes_ends_in_time(self, server: RawServer) -> None:
        """TR37: and it is not tried again here."""
        server.on("GET", "/file", reply(before=asyncio.Event()))
        session = new_session(server.base_url, timeouts=Timeouts(read=0.05))
        with pytest.raises(DeadlineError):
            await session.stream(FILE)
        await session.aclose()
        assert len(server.requests) == 1

    async def test_a_broken_connection_is_not_tried_again_here(self, server: RawServer, session: Session) -> None:
        """One attempt is one request."""
        server.on("GET", "/file", reply(mute=True))
        with pytest.raises(TransportError) as caught:
            await session.stream(FILE)
        assert not caught.value.unanswered_reuse
        assert len(server.requests) == session.requests_sent == 1

    async def test_a_reused_connection_that_died_says_so(self, server: RawServer, session: Session) -> None:
        """The loop for bodies may try again at once."""
        server.on("GET", "/file", reply(body=b"x"), reply(mute=True))
        await fetch(session)
        with pytest.raises(TransportError) as caught:
            await session.stream(FILE)
        assert caught.value.unanswered_reuse


class TestHeads:
    """What the head says."""

    async def test_a_whole_body(self, server: RawServer, session: Session) -> None:
        """Its length is the file's, and Content-MD5 vouches for the file."""
        headers = {"ETag": '"a"', "Content-MD5": MD5_BASE64, "Content-Type": "application/zip"}
        server.on("GET", "/file", reply(body=DATA, headers=headers))
        head, _, _ = await fetch(session)
        assert head == BodyHead(
            status=200,
            offset=0,
            length=1_048_576,
            total=1_048_576,
            etag='"a"',
            md5=MD5.hexdigest(),
            content_type="application/zip",
        )

    async def test_a_part_of_a_body(self, server: RawServer, session: Session) -> None:
        """TR15: on a part Content-MD5 covers the part, the blob's own MD5 the file."""
        headers = {"Content-Range": "bytes 100-199/1000", "ETag": '"a"', "Content-MD5": "AAAAAAAAAAAAAAAAAAAAAA=="}
        server.on("GET", "/file", reply(206, body=b"x" * 100, headers=headers | {"x-ms-blob-content-md5": MD5_BASE64}))
        server.on("GET", "/part", reply(206, body=b"x" * 100, headers=headers))
        head, _, _ = await fetch(session, offset=100, validator='"a"')
        assert (head.status, head.offset, head.length, head.total) == (206, 100, 100, 1000)
        assert head.md5 == MD5.hexdigest()
        assert (server.requests[0].header("Range"), server.requests[0].header("If-Match")) == ("bytes=100-", '"a"')
        head, _, _ = await fetch(session, Request(method="GET", path="/part", scope=None))
        assert head.md5 is None

    async def test_a_part_with_an_end(self, server: RawServer, session: Session) -> None:
        """The last byte is named, and the answer shows that ranges are known."""
        headers = {"Content-Range": "bytes 100-199/1000", "ETag": '"a"'}
        server.on("GET", "/file", reply(206, body=b"x" * 100, headers=headers))
        head, _, _ = await fetch(session, offset=100, validator='"a"', until=200)
        assert (head.offset, head.length, head.total, head.ranges) == (100, 100, 1000, True)
        assert server.requests[0].header("Range") == "bytes=100-199"

    @pytest.mark.parametrize(("offset", "validator"), [(0, '"a"'), (10, None), (10, 'W/"a"'), (10, "a"), (10, "*")])
    async def test_no_range_without_an_offset_and_a_strong_validator(
        self, server: RawServer, session: Session, offset: int, validator: str | None
    ) -> None:
        """What cannot be joined safely is asked for whole."""
        server.on("GET", "/file", reply(body=b"x"))
        await fetch(session, offset=offset, validator=validator)
        assert (server.requests[0].header("Range"), server.requests[0].header("If-Match")) == (None, None)

    @pytest.mark.parametrize(
        ("answer", "offset", "total"),
        [
            (reply(206, body=b"x"), None, None),
            (reply(206, body=b"x", headers={"Content-Range": "bytes 5-5/9"}), 5, 9),
            (reply(206, body=b"x", headers={"Content-Range": "bytes 5-5/*"}), 5, None),
            (reply(206, body=b"x", headers={"Content-Range": "nonsense"}), None, None),
            (reply(200, body=b"x", headers={"Content-Range": "bytes 5-5/9"}), 5, 9),
            (reply(416, body=b"x", headers={"Content-Range": "bytes */9"}), 0, 9),
            (reply(412, body=b"x"), 0, None),
            (reply(200, body=b"xy", chunked=True), 0, None),
        ],
    )
    async def test_where_a_body_starts_and_how_long_the_file_is(
        self, server: RawServer, session: Session, answer: Reply, offset: int | None, total: int | None
    ) -> None:
        """TR18, TR21, TR22, TR25: the head is read, and judged elsewhere."""
        server.on("GET", "/file", answer)
        head, _, _ = await fetch(session)
        assert (head.status, head.offset, head.total) == (answer.status, offset, total)

    @pytest.mark.parametrize("md5", ["", "not base64!", "YWJj", "é"])
    async def test_an_md5_that_is_none_is_none(self, server: RawServer, session: Session, md5: str) -> None:
        """TR16: a digest that cannot be read proves nothing, and breaks nothing."""
        server.on("GET", "/file", reply(body=b"x", headers={"Content-MD5": md5}))
        head, _, error = await fetch(session)
        assert (head.md5, error) == (None, None)


class TestRefusals:
    """Answers that hold no body."""

    async def test_a_refusal_is_typed_by_the_dialect(self, server: RawServer, session: Session) -> None:
        """TR33: with its body read, and the allowance settled."""
        server.on("GET", "/file", reply(503, headers={"Retry-After": "7", "X-Remaining": "12"}))
        with pytest.raises(ServerError) as caught:
            await session.stream(FILE)
        assert (caught.value.transient, caught.value.retry_after) == (True, 7.0)
        assert session.quota is not None
        assert session.quota.remaining == 12

    async def test_or_by_whoever_knows_the_file_host(self, server: RawServer, session: Session) -> None:
        """TR26: an expired link is no refusal of the API."""
        server.on("GET", "/file", reply(403, body=b"<Code>AuthenticationFailed</Code>"))

        def read_error(request: Request, response: Response) -> Exception:
            return LinkExpiredError(f"{request.line}: {response.status} {len(response.body)}")

        with pytest.raises(LinkExpiredError, match="403 33"):
            await session.stream(FILE, read_error=read_error)

    async def test_a_dead_session_is_renewed_by_the_next_attempt(self, server: RawServer, session: Session) -> None:
        """The first rejection is worth another attempt, the one after a new login is not."""
        server.on("GET", "/file", reply(401))
        request = Request(method="GET", path="/file")
        found = []
        for _ in range(2):
            with pytest.raises(AuthenticationError) as caught:
                await session.stream(request)
            found.append((caught.value.stale_login, caught.value.transient))
        assert found == [(True, True), (True, False)]
        assert server.lines() == ["POST /login", "GET /file"] * 2

    async def test_what_is_no_file_is_not_read_to_its_end(self, server: RawServer, session: Session) -> None:
        """A body of any length may come with a status that holds no file; its beginning is enough for the error."""
        server.on("GET", "/file", reply(203, body=bytes(17 * MIB)))

        with pytest.raises(ApiError, match="unexpected status 203"):
            await fetch(session)

    @pytest.mark.parametrize("status", [204, 300, 304])
    async def test_a_status_that_holds_no_file_is_an_error(
        self, server: RawServer, session: Session, status: int
    ) -> None:
        """TR45: unasked statuses are typed."""
        server.on("GET", "/file", reply(status))
        with pytest.raises(ApiError) as caught:
            await session.stream(FILE)
        assert caught.value.status == status


class TestRedirects:
    """Being sent elsewhere."""

    async def test_another_host_gets_no_credential(self, server: RawServer, session: Session) -> None:
        """TR44, SA26: followed, as a stranger, and also on the way back."""
        request = Request(method="GET", path="/file", headers={"Own": "1"})
        async with RawServer() as other:
            server.on("GET", "/file", reply(302, headers={"Location": f"{other.base_url}/blob?sig=a%2Bb"}))
            other.on("GET", "/blob", reply(307, headers={"Location": f"{server.base_url}/back"}))
            server.on("GET", "/back", reply(body=b"bytes"))
            _, data, _ = await fetch(session, request)
            stranger = other.requests[0]
            assert stranger.target == "/blob?sig=a%2Bb"
            for name in ("Session-Id", "Authorization", "Cookie", "Own"):
                assert stranger.header(name) is None
        first, back = (seen for seen in server.requests if seen.method == "GET")
        assert (first.header("Session-Id"), back.header("Session-Id")) == ("S1", None)
        assert data == b"bytes"

    async def test_a_relative_one_stays_at_home(self, server: RawServer, session: Session) -> None:
        """TR45: the credential stays, and every hop that counts is counted."""
        server.on("GET", "/v/file", reply(302, headers={"Location": "../real?x=%2b"}))
        server.on("GET", "/real", reply(body=b"bytes"))
        _, data, _ = await fetch(session, Request(method="GET", path="/v/file"))
        assert data == b"bytes"
        assert [seen.header("Session-Id") for seen in server.requests] == [None, "S1", "S1"]
        assert server.requests[-1].target == "/real?x=%2b"
        assert session.requests_sent == 2

    async def test_a_loop_ends(self, server: RawServer, session: Session) -> None:
        """TR45: six requests at the most."""
        server.on("GET", "/file", reply(302, headers={"Location": "/file"}))
        with pytest.raises(UnsafeUrlError, match="more than 5"):
            await session.stream(FILE)
        assert len(server.requests) == 6

    @pytest.mark.parametrize(
        "location",
        [
            None,
            "",
            "file:///etc/passwd",
            "http://files.example.com/x",
            "https://user:pw@files.example.com/x",
            "https://10.0.0.1/x",
            "//169.254.169.254/x",
            "https://files.example.com:22/x",
            "http://[::1",
            "https://exa mple.com/",
            "gopher:x",
        ],
    )
    async def test_one_that_leads_nowhere_good_is_not_followed(
        self, server: RawServer, session: Session, location: str | None
    ) -> None:
        """TR45, SE07: one request, a typed error, and no secret in it."""
        headers = {} if location is None else {"Location": location}
        server.on("GET", "/file", reply(302, headers=headers))
        with pytest.raises(UnsafeUrlError) as caught:
            await session.stream(FILE)
        assert len(server.requests) == 1
        assert "pw" not in str(caught.value)


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.monotonic = 0.0

    def __call__(self) -> float:
        return self.monotonic
