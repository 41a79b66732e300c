"""Files on their way out: announced in full, read while they are sent, and never repeated blindly."""

from __future__ import annotations

import asyncio
import contextlib
import json
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from email.message import Message
from email.parser import BytesParser
from typing import Any

import pytest
from plain_provider import new_session
from scripted import RawServer, Seen, json_reply, reply

from arena_async.errors import ApiError, ConfigurationError, DeadlineError, SourceChangedError, TransportError
from arena_async.options import MIB, RetryPolicy, Timeouts
from arena_async.protocol.messages import Request, UploadBody, UploadedFile

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Source:
    """A file that is read piece by piece and remembers how it was read."""

    def __init__(self, *pieces: bytes, size: int | None = None, error: Exception | None = None) -> None:
        self.pieces = pieces
        self.size = sum(map(len, pieces)) if size is None else size
        self.error = error
        self.begun = 0
        self.ended = 0

    async def read(self) -> AsyncIterator[bytes]:
        self.begun += 1
        try:
            for piece in self.pieces:
                yield piece
            if self.error is not None:
                raise self.error
        finally:
            self.ended += 1

    def request(self, *, scope: str | None = None, name: str = "prices.csv", **fields: str) -> Request:
        file = UploadedFile(part="content", name=name, size=self.size, content_type="text/csv", read=self.read)
        return Request(method="POST", path="/things", scope=scope, upload=UploadBody(fields=fields, files=[file]))


def parts_of(seen: Seen) -> list[tuple[dict[str, Any], bytes]]:
    """Take a form apart with the standard library."""
    head = f"Content-Type: {seen.header('Content-Type')}\r\n\r\n".encode()
    message: Message = BytesParser().parsebytes(head + seen.body)
    assert message.is_multipart()
    return [
        (
            {
                "name": part.get_param("name", header="content-disposition"),
                "filename": part.get_filename(),
                "type": part.get_content_type(),
            },
            part.get_payload(decode=True),
        )
        for part in message.get_payload()
    ]


@contextlib.asynccontextmanager
async def listening(handler: Handler) -> AsyncIterator[str]:
    """Serve each connection by a function."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(OSError):
                await handler(reader, writer)
        finally:
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.create_task(serve(reader, writer)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0, limit=4096)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await asyncio.gather(*tasks)
        await server.wait_closed()


@pytest.fixture
async def server() -> AsyncIterator[RawServer]:
    """Yield a server that takes logins, lists and uploads."""
    async with RawServer() as running:
        running.on("POST", "/login", json_reply({"id": "S1"}), json_reply({"id": "S2"}))
        running.on("PUT", "/logout", reply())
        running.on("GET", "/things", json_reply({"ok": True}))
        running.on("POST", "/things", json_reply({"ok": True}, 201))
        yield running


async def test_a_form_arrives_with_its_values_and_its_file(server: RawServer) -> None:
    """Names, types, the name of the file and every byte, in the order they were given."""
    source = Source(b"number,price\r\n", b"900-1,5\r\n")
    async with aclosing(new_session(server.base_url)) as session:
        await session.send(source.request(kind="CSV", commit="false"))

    assert parts_of(server.requests[0]) == [
        ({"name": "kind", "filename": None, "type": "text/plain"}, b"CSV"),
        ({"name": "commit", "filename": None, "type": "text/plain"}, b"false"),
        ({"name": "content", "filename": "prices.csv", "type": "text/csv"}, b"number,price\r\n900-1,5\r\n"),
    ]


async def test_the_length_is_announced_and_the_type_is_said_once(server: RawServer) -> None:
    """Gateways refuse bodies of unknown length, and two types are none."""
    async with aclosing(new_session(server.base_url, headers={"content-type": "application/json"})) as session:
        await session.send(Source(b"x" * 1000).request())
    (seen,) = server.requests
    names = [name.lower() for name, _ in seen.headers]

    assert seen.header("Content-Length") == str(len(seen.body))
    assert "transfer-encoding" not in names
    assert names.count("content-type") == 1
    assert (seen.header("Content-Type") or "").startswith("multipart/form-data; boundary=")


@pytest.mark.parametrize("name", ["Preise März.csv", 'a "b".csv', "a;b.csv"])
async def test_odd_names_of_files_arrive(server: RawServer, name: str) -> None:
    """A quote or a semicolon does not end the name."""
    async with aclosing(new_session(server.base_url)) as session:
        await session.send(Source(b"x").request(name=name))
    raw = server.requests[0].body.decode("utf-8")

    escaped = name.replace('"', r"\"")
    assert f'filename="{escaped}"' in raw
    assert parts_of(server.requests[0])[0][1] == b"x"


async def test_an_upload_never_takes_an_idle_connection(server: RawServer) -> None:
    """A connection that the server closed meanwhile would leave it open whether anything was done."""
    async with aclosing(new_session(server.base_url)) as session:
        await session.send(Request(method="GET", path="/things", scope=None))
        await session.send(Source(b"x").request())
        await session.send(Request(method="GET", path="/things", scope=None))
    first, upload, last = server.requests

    assert first.connection == last.connection != upload.connection
    assert upload.header("Connection") == "close"


async def test_a_session_that_is_over_is_renewed_and_the_file_read_again(server: RawServer) -> None:
    """A 401 says that nothing was done with what was sent."""
    server.on("POST", "/things", reply(401), json_reply({"ok": True}))
    source = Source(b"one", b"two")
    async with aclosing(new_session(server.base_url)) as session:
        await session.send(source.request(scope=""))
    uploads = [seen for seen in server.requests if seen.path == "/things"]

    assert [seen.header("Session-Id") for seen in uploads] == ["S1", "S2"]
    assert [parts_of(seen)[0][1] for seen in uploads] == [b"onetwo", b"onetwo"]
    assert (source.begun, source.ended) == (2, 2)


async def test_an_upload_that_stays_unanswered_is_not_repeated(server: RawServer) -> None:
    """Nobody knows whether it was taken."""
    server.on("POST", "/things", reply(mute=True))
    async with aclosing(new_session(server.base_url)) as session:
        with pytest.raises(TransportError) as caught:
            await session.send(Source(b"x").request())

    assert caught.value.sent
    assert server.lines("POST /things") == ["POST /things"]


async def test_the_error_of_a_reader_is_the_callers_and_the_upload_ends(server: RawServer) -> None:
    """The connection is broken off, so that the service cannot take the part for the whole."""
    source = Source(b"x" * 100, size=200, error=SourceChangedError("prices.csv changed."))
    async with aclosing(new_session(server.base_url)) as session:
        with pytest.raises(SourceChangedError, match=r"^prices\.csv changed\.$"):
            await session.send(source.request())

    assert server.requests == []
    assert (source.begun, source.ended) == (1, 1)


@pytest.mark.parametrize(("size", "gave"), [(5, "more"), (99, "10")])
async def test_a_reader_that_gives_another_number_of_bytes_is_stopped(server: RawServer, size: int, gave: str) -> None:
    """What was announced is what is sent, or nothing is."""
    async with aclosing(new_session(server.base_url)) as session:
        with pytest.raises(ConfigurationError, match=f"{size} bytes were declared, and its reader returned {gave}"):
            await session.send(Source(b"x" * 10, size=size).request())

    assert server.requests == []


async def test_a_refusal_in_the_middle_of_an_upload_is_told_and_the_reader_is_closed() -> None:
    """A service that does not want the file does not wait for its end."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        while await reader.read(65536):
            pass

    source = Source(*[b"x" * MIB] * 64)
    async with listening(refuse) as url, aclosing(new_session(url)) as session:
        with pytest.raises(ApiError) as caught:
            await session.send(source.request())

    assert caught.value.status == 413
    assert (source.begun, source.ended) == (1, 1)


async def test_an_upload_that_nobody_takes_ends_at_the_time_limit() -> None:
    """The limit counts from the last piece that went out."""
    release = asyncio.Event()

    async def ignore(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
        await release.wait()

    source = Source(*[b"x" * MIB] * 64)
    async with listening(ignore) as url, aclosing(new_session(url, timeouts=Timeouts(read=0.2))) as session:
        with pytest.raises(DeadlineError) as caught:
            await session.send(source.request())
        release.set()

    assert caught.value.sent
    assert (source.begun, source.ended) == (1, 1)


async def test_an_upload_that_goes_on_may_take_longer_than_any_other_request(server: RawServer) -> None:
    """Neither the limit of an answer nor that of all tries counts while pieces go out."""
    loop = asyncio.get_running_loop()

    class Slow(Source):
        async def read(self) -> AsyncIterator[bytes]:
            for piece in self.pieces:
                ready = loop.create_future()
                loop.call_later(0.15, ready.set_result, None)
                await ready
                yield piece

    session = new_session(server.base_url, timeouts=Timeouts(read=0.3), retry=RetryPolicy(timeout=0.2))
    async with aclosing(session):
        answer = await session.send(Slow(b"a", b"b", b"c", b"d").request())

    assert answer.status == 201
    assert parts_of(server.requests[0])[0][1] == b"abcd"


async def test_a_large_upload_needs_no_more_memory_than_a_small_one() -> None:
    """200 MB go out through a few pieces of one."""
    got = 0

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal got
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(
            next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")).split()[1]
        )
        while got < length:
            got += len(await reader.read(65536))
        body = json.dumps({"ok": True}).encode()
        writer.write(b"HTTP/1.1 201 Created\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(body) + body)
        await writer.drain()

    class Huge(Source):
        async def read(self) -> AsyncIterator[bytes]:
            for _ in range(200):
                yield bytes(MIB)

    async with listening(swallow) as url, aclosing(new_session(url)) as session:
        tracemalloc.start()
        try:
            await session.send(Huge(size=200 * MIB).request())
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

    assert got > 200 * MIB
    assert peak < 8 * MIB
