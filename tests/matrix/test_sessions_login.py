"""Rows SA01 to SA17, SA27, SA28: one login for everybody, none too many, and nothing sent with what is no session."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest
from matrix import World, row
from scripted import RawServer, Reply, json_reply, reply
from services import EXPORT, EXPORT_RUN, FILE, RUN, ArenaScript, CentrePointScript, arena_error
from session_files import START, Hours, download

from arena_async.errors import (
    AccountLockedError,
    AuthenticationError,
    ClosedError,
    DecodeError,
    PermissionDeniedError,
    TransportError,
    UnsafeUrlError,
)
from arena_async.http import session as sessions
from arena_async.options import RetryPolicy
from arena_async.protocol.messages import Request

THINGS = Request(method="GET", path="/things")
LOGIN, THING, LOGOUT = "POST /v1/login", "GET /v1/things", "PUT /v1/logout"


@row("SA01", protection="one login serves everybody who waits")
async def test_fifty_callers_share_one_login(world: World) -> None:
    """SA01: fifty first calls at once to either service cost one login and get fifty answers."""
    async with RawServer() as server, RawServer() as other:
        arena_script, centrepoint_script = ArenaScript(world, server), CentrePointScript(world, other)
        arena_script.on("GET", "/things", json_reply({}))
        centrepoint_script.studies(1)
        async with arena_script.client() as arena, centrepoint_script.client() as centrepoint:

            async def first_call() -> int:
                await arena.session.credential()
                return (await arena.session.send(THINGS)).status

            assert await asyncio.gather(*(first_call() for _ in range(50))) == [200] * 50
            found = await asyncio.gather(*(centrepoint.studies.search().collect() for _ in range(50)))
            assert [len(rows) for rows in found] == [1] * 50

    assert server.lines() == [LOGIN, *[THING] * 50, LOGOUT]
    assert other.lines("POST *") == ["POST /connect/token"]
    assert len(other.lines("GET *")) == 50


@row("SA02", protection="one login serves everybody who waits")
async def test_fifty_requests_that_die_with_their_session_cost_one_new_login(world: World) -> None:
    """SA02: fifty requests in flight are all refused; one new login, each sent once more, all answered."""
    async with RawServer() as server:
        script, refuse = ArenaScript(world, server), asyncio.Event()
        script.on("GET", "/things/*", json_reply({}))
        async with script.client() as arena:
            await arena.session.send(Request(method="GET", path="/things/0"))
            script.alive = ""

            async def refusing(seen: Any) -> Reply:
                if script.welcomes(seen):
                    return script.finish(json_reply({}))
                await refuse.wait()
                return script.finish(reply(401))

            server.on("GET", "/v1/things/*", refusing)
            calls = [arena.session.send(Request(method="GET", path=f"/things/{n}")) for n in range(1, 51)]
            everybody = asyncio.gather(*calls)
            await server.arrived(51, "GET *")
            refuse.set()
            assert [answer.status for answer in await everybody] == [200] * 50

    assert server.lines("POST *") == [LOGIN] * 2
    for number in range(1, 51):
        assert script.sent_with(f"/v1/things/{number}") == [1, 2]


@row("SA03", protection="a rejection counts against the session it was sent with")
async def test_a_late_rejection_of_an_old_session_takes_the_new_one(world: World) -> None:
    """SA03: the 401 of a request sent with the first session comes when the second one is here: no third login."""
    async with RawServer() as server:
        script, late = ArenaScript(world, server), asyncio.Event()
        script.on("GET", "/things", json_reply({}))
        async with script.client() as arena:
            await arena.session.send(THINGS)
            server.on("GET", "/v1/slow", reply(401, before=late), json_reply({}))
            slow = asyncio.create_task(arena.session.send(Request(method="GET", path="/slow")))
            await server.arrived(1, "GET /v1/slow")
            script.alive = ""
            await arena.session.send(THINGS)
            late.set()
            assert (await slow).status == 200

    assert script.logins == 2
    assert script.sent_with("/v1/slow") == [1, 2]
    assert script.sent_with("/v1/things") == [1, 1, 2]


@row("SA06", protection="a refused login is not tried again for a while")
async def test_a_wrong_password_is_sent_once(world: World) -> None:
    """SA06: code 4001 to a login: one POST, everybody gets the error, and later calls fail without another POST."""
    hours = Hours()
    async with RawServer() as server:
        script = ArenaScript(world, server)
        server.on("POST", "/v1/login", arena_error(400, 4001, "Invalid login"), script.log_in)
        script.on("GET", "/things", json_reply({}))
        async with script.session(hours) as session:
            waiting = (session.credential() for _ in range(10))
            found: list[Any] = await asyncio.gather(*waiting, return_exceptions=True)
            hours.passed += 299
            with pytest.raises(AuthenticationError) as later:
                await session.send(THINGS)
            assert server.lines() == [LOGIN]
            hours.passed += 2
            await session.send(THINGS)

    world.saw(*found, later.value)
    assert [type(error) for error in found] == [AuthenticationError] * 10
    assert len({id(error) for error in found}) == 10
    assert server.lines() == [LOGIN, LOGIN, THING, LOGOUT]
    assert hours.waits == []


@row("SA07", protection="an account that is locked for five minutes is left alone for as long")
async def test_a_locked_account_is_left_alone_until_it_opens(world: World) -> None:
    """SA07: code 4083 to a login: the error says until when, and no POST leaves before that instant."""
    hours = Hours()
    async with RawServer() as server:
        script = ArenaScript(world, server)
        server.on("POST", "/v1/login", arena_error(400, 4083, "Disabled for five minutes"), script.log_in)
        script.on("GET", "/things", json_reply({}))
        async with script.session(hours) as session:
            for passed in (0, 1, 298):
                hours.passed += passed
                with pytest.raises(AccountLockedError) as caught:
                    await session.send(THINGS)
                world.saw(caught.value)
                assert caught.value.retry_at is not None
                assert (caught.value.retry_at - START).total_seconds() == 300
            assert server.lines() == [LOGIN]
            hours.passed += 2
            await session.send(THINGS)

    assert server.lines() == [LOGIN, LOGIN, THING, LOGOUT]


@row("SA09", protection="a session id that cannot be sent is never sent")
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"arenaSessionId": None},
        {"arenaSessionId": ""},
        {"arenaSessionId": 17},
        {"arenaSessionId": "x" * 300_000},
        {"arenaSessionId": "a\r\nEvil: 1"},
        {"arenaSessionId": "\ud800"},
        {"arenaSessionId": "a b"},
    ],
    ids=["missing", "null", "empty", "number", "300 KB", "line end", "lone surrogate", "blank"],
)
async def test_what_is_no_session_id_is_never_sent(world: World, fields: dict[str, Any]) -> None:
    """SA09: the answer to the login is refused, and nothing at all leaves after it, not even a logout."""
    async with RawServer() as server:
        script = ArenaScript(world, server)
        server.on("POST", "/v1/login", json_reply({"workspaceId": 1, **fields}))
        server.on("GET", "/v1/things", json_reply({}))
        async with script.client() as arena:
            with pytest.raises(DecodeError) as caught:
                await arena.session.send(THINGS)

    world.saw(caught.value)
    assert server.lines() == [LOGIN]
    assert len(str(caught.value)) < 1000
    assert "Evil" not in str(caught.value)


@row("SA10", protection="the workspace a login lands in is compared with the one asked for")
async def test_a_login_into_another_workspace_sends_nothing_else(world: World) -> None:
    """SA10: workspace 5 was asked for and 896256783 given: an error that names both, before any other request."""
    async with RawServer() as server:
        script = ArenaScript(world, server)
        script.on("GET", "/things", json_reply({}))
        async with script.client(workspace_id=5) as arena:
            with pytest.raises(AuthenticationError, match="landed in workspace 896256783, not in 5") as caught:
                await arena.session.send(THINGS)

    world.saw(caught.value)
    assert server.lines("GET *") == []
    assert server.lines("POST *") == [LOGIN]
    assert server.requests[0].json["workspaceId"] == 5


@row("SA11", protection="a login has a budget of its own")
async def test_a_login_whose_answer_got_lost_is_tried_once_more(world: World) -> None:
    """SA11: the connection drops after the login was read: a pause, one more login, and one session at the end."""
    hours = Hours()
    async with RawServer() as server:
        script = ArenaScript(world, server)
        server.on("POST", "/v1/login", reply(mute=True), script.log_in)
        script.on("GET", "/things", json_reply({}))
        async with script.session(hours) as session:
            assert (await session.send(THINGS)).status == 200
        assert len(hours.waits) == 1
        assert 0 < hours.waits[0] <= 1.5

        server.on("POST", "/v1/login", reply(mute=True))
        async with script.session(hours) as session:
            with pytest.raises(TransportError) as caught:
                await session.send(THINGS)

    world.saw(caught.value)
    assert server.lines() == [LOGIN, LOGIN, THING, LOGOUT, LOGIN, LOGIN]
    assert script.logins == 1


@row("SA12", protection="a new session that is rejected at once is the end of it")
async def test_a_service_that_rejects_every_session_is_asked_twice(world: World) -> None:
    """SA12: 401 even right after a fresh login: one new login, one replay, then the error."""
    async with RawServer() as server:
        script = ArenaScript(world, server)
        script.on("GET", "/things", reply(401))
        async with script.client() as arena:
            with pytest.raises(AuthenticationError) as caught:
                await arena.session.send(THINGS)

    world.saw(caught.value)
    assert [line for line in server.lines() if line != LOGOUT] == [LOGIN, THING, LOGIN, THING]


@row("SA28", protection="a refused login is not tried again for a while")
async def test_those_who_wait_are_not_sent_with_a_session_that_was_just_rejected(world: World) -> None:
    """SA28: fifty calls wait for the first one; the service rejects every session; two requests leave, and no more."""
    async with RawServer() as server:
        script = ArenaScript(world, server, remaining=None)
        script.on("GET", "/things", reply(401))
        async with script.client() as arena:
            calls = (arena.session.send(THINGS) for _ in range(50))
            found = await asyncio.gather(*calls, return_exceptions=True)

    world.saw(*found)
    assert {type(error) for error in found} == {AuthenticationError}
    assert server.lines(LOGIN) == [LOGIN] * 2
    assert len(server.lines(THING)) <= 4


@row("SA28", protection="a session that was rejected is not sent any more")
async def test_those_who_wait_for_a_connection_are_sent_with_the_newer_session(world: World) -> None:
    """SA28: one connection, fifty calls that wait for it when the session dies: the dead one is sent by few of them."""
    async with RawServer() as server:
        script = ArenaScript(world, server)
        script.on("GET", "/things", json_reply({}))
        connector = aiohttp.TCPConnector(limit=1)
        async with connector, script.client(connector=connector) as arena:
            await arena.session.send(THINGS)
            script.alive = ""
            found = await asyncio.gather(*(arena.session.send(THINGS) for _ in range(50)))

    assert [response.status for response in found] == [200] * 50
    assert server.lines(LOGIN) == [LOGIN] * 2
    sent_with = script.sent_with("/v1/things")
    assert sent_with.count(1) <= 1 + 3
    assert sent_with.count(2) == 50


@row("SA13", protection="a refusal for lack of permission has nothing to do with the session")
async def test_the_file_of_another_users_run_is_asked_for_once(world: World) -> None:
    """SA13: content answers 403 with code 3024: an error that explains it, no login and no second request."""
    async with RawServer() as server:
        script = ArenaScript(world, server)
        script.export(FILE, content=arena_error(403, 3024))
        async with script.client() as arena:
            report = await download(world, arena.exports.files(EXPORT, RUN))

    (failure,) = report.failures
    assert isinstance(failure.error, PermissionDeniedError)
    assert "Only the user who started an export run" in str(failure.error)
    assert server.lines() == [
        LOGIN,
        f"GET /v1{EXPORT_RUN}",
        f"GET /v1{EXPORT_RUN}/files/{FILE}/content",
        LOGOUT,
    ]


class UnhappyError(Exception):
    """What went wrong in the caller's own block."""


@row("SA15", protection="what goes wrong with a logout stays there")
@pytest.mark.parametrize(
    "answer",
    [
        reply(401),
        reply(body=b"<html>Signed out</html>"),
        reply(503),
        reply(mute=True),
        reply(raw=b"no HTTP at all\r\n"),
    ],
    ids=["401", "HTML", "503", "dropped", "no HTTP"],
)
async def test_a_logout_that_fails_masks_nothing(world: World, answer: Reply) -> None:
    """SA15: it is tried once, and the caller's own exception comes out as it was."""
    async with RawServer() as server:
        script = ArenaScript(world, server)
        script.on("GET", "/things", json_reply({}))
        server.on("PUT", "/v1/logout", answer)
        mine = UnhappyError("mine")
        caught: Exception | None = None
        try:
            async with script.client() as arena:
                await arena.session.send(THINGS)
                raise mine
        except Exception as error:  # noqa: BLE001 - whatever comes out is what this is about
            caught = error

    assert caught is mine
    assert (caught.__cause__, caught.__context__) == (None, None)
    assert server.lines() == [LOGIN, THING, LOGOUT]


@row("SA15", protection="closing takes a few seconds at the most", seconds=15)
async def test_a_logout_that_hangs_is_given_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """SA15: the limit is five seconds; a hundredth of that here."""
    assert sessions._CLOSING_SECONDS <= 5 or sessions._CLOSING_SECONDS == 1e6
    monkeypatch.setattr(sessions, "_CLOSING_SECONDS", sessions._CLOSING_SECONDS / 100)
    async with RawServer() as server:
        script = ArenaScript(world, server)
        script.on("GET", "/things", json_reply({}))
        server.on("PUT", "/v1/logout", reply(before=asyncio.Event()))
        async with script.client() as arena:
            await arena.session.send(THINGS)
        assert server.lines() == [LOGIN, THING, LOGOUT]


@row("SA15", protection="a session that was taken away is not logged out")
async def test_a_session_that_was_taken_away_is_not_logged_out(world: World) -> None:
    """SA15: what was rejected is over; to log it out could only end somebody else's."""
    async with RawServer() as server:
        script = ArenaScript(world, server)
        script.on("GET", "/things", json_reply({}))
        async with script.client() as arena:
            await arena.session.send(THINGS)
            script.alive = ""
            server.on("POST", "/v1/login", arena_error(400, 4001))
            with pytest.raises(AuthenticationError):
                await arena.session.send(THINGS)

    assert server.lines() == [LOGIN, THING, THING, LOGIN]


@row("SA16", protection="closing waits for a login that is under way")
async def test_a_login_under_way_at_close_is_logged_out_when_it_arrives(world: World) -> None:
    """SA16: no session is left behind at the service, and who waited for it is told."""
    async with RawServer() as server:
        script, go = ArenaScript(world, server), asyncio.Event()

        async def slow(seen: Any) -> Reply:
            await go.wait()
            return script.log_in(seen)

        server.on("POST", "/v1/login", slow)
        async with script.client() as arena:
            call = asyncio.create_task(arena.session.send(THINGS))
            await server.arrived(1)
            closing = asyncio.create_task(arena.aclose())
            with pytest.raises(ClosedError) as caught:
                await call
            go.set()
            await closing

    world.saw(caught.value)
    assert server.lines() == [LOGIN, LOGOUT]
    assert script.sent_with("/v1/logout") == [1]


@row("SA17", protection="a login belongs to none of those who wait for it")
async def test_a_waiter_that_is_cancelled_takes_nothing_from_the_others(world: World) -> None:
    """SA17: the first of ten gives up; the other nine get the session, from the one login."""
    async with RawServer() as server:
        script, go = CentrePointScript(world, server), asyncio.Event()
        script.studies(1)

        async def slow(seen: Any) -> Reply:
            await go.wait()
            return script.log_in(seen)

        server.on("POST", script.TOKENS, slow)
        async with script.client() as centrepoint:
            calls = [asyncio.create_task(centrepoint.studies.search().collect()) for _ in range(10)]
            await server.arrived(1)
            for _ in range(5):  # until all ten wait for the login
                await asyncio.sleep(0)
            calls[0].cancel()
            with pytest.raises(asyncio.CancelledError):
                await calls[0]
            go.set()
            found = await asyncio.gather(*calls[1:])

    assert [len(rows) for rows in found] == [1] * 9
    assert server.lines("POST *") == ["POST /connect/token"]
    assert len(server.lines("GET *")) == 9


@row("SA27", protection="a redirect of a login is not followed")
async def test_a_login_that_is_redirected_sends_the_password_nowhere_else(world: World) -> None:
    """SA27: 307 to another host: an error, no connection to that host, and the password was sent once."""
    async with RawServer() as server, RawServer() as stranger:
        script = ArenaScript(world, server)
        stranger.on("POST", "/v1/login", json_reply({"arenaSessionId": "x"}))
        server.on("POST", "/v1/login", reply(307, headers={"Location": f"{stranger.base_url}/v1/login"}))
        async with script.client(retry=RetryPolicy(wait_initial=0, wait_jitter=0)) as arena:
            for _ in range(2):
                with pytest.raises(UnsafeUrlError) as caught:
                    await arena.session.send(THINGS)
                world.saw(caught.value)

    assert stranger.connections == 0
    assert server.lines() == [LOGIN]
