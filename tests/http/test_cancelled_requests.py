"""Requests that are cancelled at any of their awaits leave nothing behind: no booking, no task, no connection."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from cancel_everywhere import HOW, How, cancel_at_every_await
from jumping_loop import Leaps
from leaks import stray_tasks
from plain_provider import new_session
from scripted import RawServer, json_reply, reply

from arena_async.errors import ClosedError
from arena_async.http.session import Session
from arena_async.options import RetryPolicy, Timeouts
from arena_async.protocol.messages import Request
from arena_async.protocol.quota import DailyQuota

THINGS = Request(method="GET", path="/things")


def prepared(server: RawServer) -> Any:
    """Return a session with a server whose allowance is known after the first answer."""
    server.on("POST", "/login", json_reply({"id": "S1"}))
    server.on("PUT", "/logout", reply())
    server.on("GET", "/things", json_reply({}, headers={"X-Remaining": "50"}))
    return new_session(server.base_url, limiter=DailyQuota())


@pytest.mark.parametrize("how", HOW)
async def test_a_cancelled_request_leaves_its_place_to_the_next(how: How) -> None:
    """Wherever it was cancelled: at the gate, in the login, on the wire or in the body."""
    async with RawServer() as server:
        sessions = []

        async def one(_: int) -> None:
            session = prepared(server)
            sessions.append(session)
            await session.send(THINGS)

        async for stopped in cancel_at_every_await(one, how=how):
            async with asyncio.timeout(20):
                answer = await sessions[-1].send(THINGS)
                await sessions[-1].aclose()
            assert answer.status == 200, stopped.at


@pytest.mark.parametrize("how", HOW)
async def test_a_cancelled_body_leaves_its_place_to_the_next(how: How) -> None:
    """Between the request and the last byte."""
    async with RawServer() as server:
        server.on("GET", "/file", reply(body=b"x" * 5000, chunked=True, piece=999))
        sessions = []

        async def one(_: int) -> int:
            session = prepared(server)
            sessions.append(session)
            async with await session.stream(Request(method="GET", path="/file")) as opened:
                return await opened.stream.readinto(memoryview(bytearray(6000)))

        async for _ in cancel_at_every_await(one, how=how):
            async with asyncio.timeout(20):
                answer = await sessions[-1].send(THINGS)
                await sessions[-1].aclose()
            assert answer.status == 200


@pytest.mark.parametrize("how", HOW)
async def test_a_cancelled_close_leaves_no_task_and_no_connection(how: How) -> None:
    """Whoever cancels the closing gives up the logout, not the order."""
    async with RawServer() as server:

        async def used() -> Coroutine[Any, Any, None]:
            session = prepared(server)
            await session.send(THINGS)
            await session.send(Request(method="POST", path="/things", scope=None))
            closing: Coroutine[Any, Any, None] = session.aclose()
            return closing

        server.on("POST", "/things", json_reply({}))
        before = asyncio.all_tasks()
        async for _ in cancel_at_every_await(lambda _: asyncio.ensure_future(used()), how=how):
            assert stray_tasks(before) == []
        await server.drained()


@pytest.mark.parametrize("how", HOW)
async def test_a_cancelled_close_in_the_middle_of_a_login_leaves_none_either(how: How) -> None:
    """The login is ended with it, although its answer never comes."""
    clock, before = Leaps(), asyncio.all_tasks()
    async with RawServer() as server:
        server.on("POST", "/login", reply(before=asyncio.Event()))
        calls: list[asyncio.Task[Any]] = []

        async def used() -> Coroutine[Any, Any, None]:
            # Nothing but the limit of the closing may end it.
            patient = {"timeouts": Timeouts(read=86_400), "retry": RetryPolicy(timeout=86_400)}
            session = new_session(server.base_url, **patient)
            calls.append(asyncio.create_task(session.send(THINGS)))
            await server.arrived(len(calls), "POST /login")
            return closing(session)

        async def closing(session: Session) -> None:
            with clock.each(0.02, 6):
                await session.aclose()

        async for _ in cancel_at_every_await(lambda _: asyncio.ensure_future(used()), how=how):
            assert stray_tasks({*before, *calls}) == []
            with pytest.raises(ClosedError):
                await calls[-1]
