"""Rows SA19 to SA23: bearer tokens, one for each scope, used until shortly before their end and never one a call."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from matrix import World, row
from scripted import RawServer, json_reply, reply
from services import CentrePointScript
from session_files import Hours

from arena_async.errors import AuthenticationError, DecodeError
from arena_async.protocol.messages import Request, Response
from arena_async.providers.centrepoint import auth
from arena_async.providers.centrepoint.auth import CentrePointAuth, CentrePointCredentials

STUDIES = "GET /centrepoint/v3/Studies"


def things(scope: str) -> Request:
    """Build a request that needs a scope."""
    return Request(method="GET", path=f"/things/{scope}", scope=scope)


@row("SA19", protection="one login serves everybody who waits")
async def test_three_scopes_cost_three_tokens(world: World) -> None:
    """SA19: thirty calls at once, in each of three scopes: one token a scope, and each call carries its own."""
    scopes = (auth.CENTREPOINT, auth.DATA_ACCESS, auth.DATA_RETRIEVAL)
    async with RawServer() as server:
        script = CentrePointScript(world, server)
        script.on("GET", "/things/*", json_reply({}))
        async with script.client() as centrepoint:
            for scope in scopes:
                answers = await asyncio.gather(*(centrepoint.session.send(things(scope)) for _ in range(30)))
                assert [answer.status for answer in answers] == [200] * 30

    assert script.scopes == list(scopes)
    for number, scope in enumerate(scopes, 1):
        assert script.sent_with(f"/things/{scope}") == [number] * 30


@row("SA19", protection="a token is used until shortly before its end")
async def test_a_token_is_used_until_a_minute_before_its_end(world: World) -> None:
    """SA19: a token of an hour serves until 59 minutes, however often it is used, and is replaced before it is over."""
    hours = Hours()
    async with RawServer() as server:
        script = CentrePointScript(world, server)
        script.on("GET", "/things/*", json_reply({}))
        async with script.session(hours) as session:
            for seconds in (0, 1, 1800, 3539, 3541, 3542):
                hours.passed = seconds
                await session.send(things(auth.CENTREPOINT))

    assert script.sent_with("/things/*") == [1, 1, 1, 1, 2, 2]


LIFETIMES = [
    ("missing", None, 600.0),
    ("text", "3600", 3600.0),
    ("zero", 0, 600.0),
    ("negative", -1, 600.0),
    ("absurd", 1e12, 86_400.0),
    ("huge text", "9" * 400, 86_400.0),
    ("one second", 1, 120.0),
]


@row("SA20", protection="the lifetime of a token is taken within bounds")
def test_any_lifetime_gives_a_bounded_number(world: World) -> None:
    """
    SA20: a default for what is missing, zero or negative, and bounds for the absurd.

    ``null`` reads as missing: OAuth makes the field optional.
    """
    login = CentrePointAuth(
        credentials=CentrePointCredentials("client", world.secrets["client_secret"]), auth_url="https://a.example/token"
    )
    token = world.secrets["token"]
    for name, value, expected in LIFETIMES:
        said = "" if value is None else f', "expires_in": {value!r}'.replace("'", '"')
        body = f'{{"access_token": "{token}"{said}}}'.encode()
        credential = login.read_login(Response(status=200, body=body))
        world.saw(credential)
        assert credential.lifetime == expected, name
    null = Response(status=200, body=f'{{"access_token": "{token}", "expires_in": null}}'.encode())
    assert login.read_login(null).lifetime == 600.0


@row("SA20", protection="the lifetime of a token is a number")
@pytest.mark.parametrize("value", ["true", '"soon"', "[3600]", '{"seconds": 3600}', '"NaN"'])
def test_what_is_no_lifetime_is_refused(world: World, value: str) -> None:
    """SA20: ``true`` is no second."""
    login = CentrePointAuth(
        credentials=CentrePointCredentials("client", world.secrets["client_secret"]), auth_url="https://a.example/token"
    )
    body = f'{{"access_token": "{world.secrets["token"]}", "expires_in": {value}}}'.encode()
    with pytest.raises(DecodeError, match="expires_in") as caught:
        login.read_login(Response(status=200, body=body, request="POST https://a.example/token"))
    world.saw(str(caught.value), caught.value.problems)


@row("SA20", protection="the lifetime of a token is taken within bounds")
@pytest.mark.parametrize("expires_in", [None, 0, -1, 1])
async def test_a_strange_lifetime_never_costs_a_token_a_call(world: World, expires_in: object) -> None:
    """SA20: twenty calls within a minute and a half, one token."""
    hours = Hours()
    async with RawServer() as server:
        script = CentrePointScript(world, server)
        script.expires_in = expires_in
        script.on("GET", "/things/*", json_reply({}))
        async with script.session(hours) as session:
            for _ in range(20):
                await session.send(things(auth.CENTREPOINT))
                hours.passed += 4.5

    assert len(script.scopes) == 1


@row("SA22", protection="a token that cannot be sent is never sent")
@pytest.mark.parametrize(
    "fields",
    [
        {"token_type": "MAC"},
        {"token_type": 7},
        {"access_token": "one\ntwo"},
        {"access_token": "one\r\nEvil: 1"},
        {"access_token": "x" * 1_000_000},
        {"access_token": ""},
        {"access_token": None},
        {"access_token": "\ud800"},
    ],
    ids=["MAC", "number as type", "newline", "header", "1 MB", "empty", "missing", "lone surrogate"],
)
async def test_what_is_no_bearer_token_is_never_sent(world: World, fields: dict[str, Any]) -> None:
    """SA22: the answer of the token endpoint is refused, and nothing leaves after it."""
    async with RawServer() as server:
        script = CentrePointScript(world, server)
        given = {"access_token": world.secrets["token"], **fields}
        server.on("POST", script.TOKENS, script.token_reply(**given))
        server.on("GET", "/things/*", json_reply({}))
        async with script.client() as centrepoint:
            with pytest.raises(DecodeError) as caught:
                await centrepoint.session.send(things(auth.CENTREPOINT))

    world.saw(caught.value)
    assert server.lines() == ["POST /connect/token"]
    assert len(str(caught.value)) < 1000


@row("SA23", protection="a rejected token is replaced once")
async def test_a_token_that_is_rejected_before_its_end_is_replaced(world: World) -> None:
    """SA23: one new token, the request once more, and the answer."""
    async with RawServer() as server:
        script = CentrePointScript(world, server)
        script.studies(3)
        async with script.client() as centrepoint:
            assert len(await centrepoint.studies.search().collect()) == 3
            script.alive.clear()
            assert len(await centrepoint.studies.search().collect()) == 3

    assert script.sent_with("/centrepoint/v3/Studies*") == [1, 1, 2]
    assert len(server.lines("POST *")) == 2


@row("SA23", protection="a new session that is rejected at once is the end of it")
async def test_a_token_that_is_rejected_at_once_is_the_end(world: World) -> None:
    """SA23: two tokens and two requests in all, then an error that says which scope was not accepted."""
    async with RawServer() as server:
        script = CentrePointScript(world, server)
        script.on("GET", "/centrepoint/v3/Studies", reply(401))
        async with script.client() as centrepoint:
            with pytest.raises(AuthenticationError, match="scope CentrePoint") as caught:
                await centrepoint.studies.search().collect()

    world.saw(caught.value)
    assert script.sent_with("/centrepoint/v3/Studies*") == [1, 2]
    assert len(server.lines("POST *")) == 2
