"""The raw server that the other tests stand on does what it was told, seen over bare sockets."""

from __future__ import annotations

import asyncio
import ssl

import pytest
import trustme
from scripted import RawServer, json_reply, reply


async def talk(port: int, *requests: bytes) -> bytes:
    """Send some requests over one connection and give everything that comes until it ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"".join(requests))
    writer.write_eof()
    try:
        return await reader.read()
    finally:
        writer.close()


async def test_replies_come_in_order_and_the_last_one_repeats() -> None:
    """A sequence is played one by one, and its last reply goes on."""
    async with RawServer() as server:
        server.on("GET", "/a", json_reply({"n": 1}), reply(503, headers={"Retry-After": "7"}, body=b"no"))
        one = b"GET /a?x=%2b HTTP/1.1\r\nHost: h\r\nX-One: 1\r\n\r\n"
        got = await talk(server.port, one, one, one)
        assert got.count(b"HTTP/1.1 200") == 1
        assert got.count(b"HTTP/1.1 503") == got.count(b"Retry-After: 7") == 2
        assert server.lines() == ["GET /a?x=%2b"] * 3
        assert (server.connections, server.requests[0].header("x-one")) == (1, "1")


async def test_a_body_is_recorded_and_a_callable_answers_from_it() -> None:
    """The reply may be made from the request, whose body is whole."""
    async with RawServer() as server:
        server.on("POST", "/echo", lambda seen: reply(body=seen.body, close=True))
        got = await talk(server.port, b"POST /echo HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello")
        assert got.endswith(b"\r\n\r\nhello")
        assert server.requests[0].body == b"hello"


async def test_a_cut_body_announces_everything_and_sends_a_part() -> None:
    """Content-Length stays honest about the whole while the connection ends early."""
    async with RawServer() as server:
        server.on("GET", "/cut", reply(body=b"x" * 100, cut=40))
        got = await talk(server.port, b"GET /cut HTTP/1.1\r\n\r\n")
        assert b"Content-Length: 100" in got
        assert got.count(b"x") == 40


async def test_a_reset_reaches_the_peer_as_one() -> None:
    """With reset the connection ends by RST."""
    async with RawServer() as server:
        server.on("GET", "/mute", reply(mute=True, reset=True))
        with pytest.raises(ConnectionResetError):
            await talk(server.port, b"GET /mute HTTP/1.1\r\n\r\n")


async def test_chunked_bodies_are_framed_and_can_lack_their_end() -> None:
    """Chunks are framed; a cut one has no last chunk."""
    async with RawServer() as server:
        server.on("GET", "/c", reply(body=b"abcdef", chunked=True, piece=4, close=True))
        server.on("GET", "/cut", reply(body=b"abcdef", chunked=True, piece=4, cut=4))
        assert (await talk(server.port, b"GET /c HTTP/1.1\r\n\r\n")).endswith(b"4\r\nabcd\r\n2\r\nef\r\n0\r\n\r\n")
        assert (await talk(server.port, b"GET /cut HTTP/1.1\r\n\r\n")).endswith(b"4\r\nabcd\r\n")


async def test_a_stalled_reply_ends_with_the_server() -> None:
    """A stall lasts until the server goes, and leaves no task behind."""
    before = asyncio.all_tasks()
    async with RawServer() as server:
        server.on("GET", "/s", reply(body=b"abc", stall=True))
        talking = asyncio.create_task(talk(server.port, b"GET /s HTTP/1.1\r\n\r\n"))
        await server.arrived(1)
        assert server.open == 1
    assert (await talking).endswith(b"abc")
    assert asyncio.all_tasks() == before


async def test_tls_is_spoken_with_a_context() -> None:
    """With a context the server speaks TLS."""
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    async with RawServer(ssl_context=context) as server:
        reader, writer = await asyncio.open_connection("localhost", server.port, ssl=trusting)
        writer.write(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 404")
        writer.close()
