"""Limits of time: kept by one sweep for all requests and bodies, and by each request for itself."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from functools import partial

import pytest
from plain_provider import new_session
from scripted import RawServer, json_reply, reply

from arena_async.errors import DeadlineError
from arena_async.http import body as bodies
from arena_async.options import RetryPolicy, Timeouts
from arena_async.protocol.messages import Request

FILE = Request(method="GET", path="/file", scope=None)


async def test_a_request_ends_with_the_time_for_all_its_tries() -> None:
    """Although the service could take much longer for a single response."""
    async with RawServer() as server:
        server.on("GET", "/file", reply(before=asyncio.Event()))
        began = asyncio.get_running_loop().time()
        async with aclosing(new_session(server.base_url, retry=RetryPolicy(timeout=0.1))) as session:
            with pytest.raises(DeadlineError) as caught:
                await session.send(FILE)
        assert asyncio.get_running_loop().time() - began < 20
    assert caught.value.sent
    assert caught.value.attempts == 1


async def test_a_page_that_stops_in_the_middle_is_a_deadline() -> None:
    """The limit counts from its last byte on."""
    async with RawServer() as server:
        server.on("GET", "/file", reply(body=b"x" * 1000, cut=10, stall=True))
        policy = RetryPolicy(attempts=1)
        async with aclosing(new_session(server.base_url, timeouts=Timeouts(read=0.05), retry=policy)) as session:
            with pytest.raises(DeadlineError, match=r"no complete response within 0\.05 s"):
                await session.send(FILE)


@pytest.mark.parametrize(
    ("status", "read"), [(200, "page"), (400, "page"), (503, "page"), (400, "body"), (503, "body")]
)
async def test_a_response_that_drips_ends_with_the_time_for_all_its_tries(status: int, read: str) -> None:
    """No read of it waits for long, and yet it would last for minutes: a page, and the error in place of a body."""
    async with RawServer() as server:
        server.on("GET", "/file", reply(status, body=b" " * 10_000_000, piece=1, between=partial(asyncio.sleep, 0)))
        policy = RetryPolicy(timeout=0.2, attempts=5)
        began = asyncio.get_running_loop().time()
        async with aclosing(new_session(server.base_url, retry=policy)) as session:
            with pytest.raises(DeadlineError, match=r"no complete response within 0\.2 s"):
                await (session.send(FILE) if read == "page" else session.stream(FILE))
        assert asyncio.get_running_loop().time() - began < 20
    assert len(server.requests) == 1


async def test_many_waits_end_each_at_their_own_time() -> None:
    """One that waits does not hold up another, and one that ends takes no other along."""
    slow = asyncio.Event()
    async with RawServer() as server:
        server.on("GET", "/file", reply(before=asyncio.Event()))
        server.on("GET", "/slow", reply(before=slow))
        async with (
            aclosing(new_session(server.base_url, timeouts=Timeouts(read=0.1))) as hasty,
            aclosing(new_session(server.base_url)) as patient,
        ):
            waiting = asyncio.ensure_future(patient.stream(Request(method="GET", path="/slow", scope=None)))
            errors = await asyncio.gather(*[hasty.stream(FILE) for _ in range(3)], return_exceptions=True)
            assert [type(error) for error in errors] == [DeadlineError] * 3
            assert not waiting.done()
            slow.set()
            async with await waiting as opened:
                assert opened.head.status == 200


async def test_a_body_that_was_returned_in_parts_leaves_its_connection_to_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A read that returned early because the body was slow does not cost the connection."""
    monkeypatch.setattr(bodies, "_FILL_SECONDS", 0.02)
    go_on = asyncio.Event()
    async with RawServer() as server:
        server.on("GET", "/file", reply(body=b"x" * 100, piece=40, between=go_on.wait))
        server.on("GET", "/page", json_reply({}))
        async with aclosing(new_session(server.base_url)) as session:
            buffer = memoryview(bytearray(1000))
            async with await session.stream(FILE) as opened:
                assert await opened.stream.readinto(buffer) == 40
                go_on.set()
                assert await opened.stream.readinto(buffer) == 60
                assert await opened.stream.readinto(buffer) == 0
            await session.send(Request(method="GET", path="/page", scope=None))
    assert (server.connections, len(server.requests)) == (1, 2)
