"""Who comes in and where to: machine users, given sessions, regions, and what does not go together."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from arena_scripts import CREDENTIALS
from fake_clock import FakeTime
from scripted import RawServer, json_reply, reply

from arena_async.errors import AuthenticationError, ConfigurationError, DecodeError, ServerError
from arena_async.options import Clock, RetryPolicy, TransferOptions
from arena_async.protocol.messages import Secret
from arena_async.providers.arena import ArenaClient, ArenaCredentials, ArenaMachineCredentials
from arena_async.testing import ArenaSimulator
from arena_async.transfer.mirror import Mirror
from arena_async.transfer.models import Action

EAGER = RetryPolicy(wait_initial=0, wait_jitter=0)
MACHINE = ArenaMachineCredentials("0oa1machine", "planted-secret", "https://oauth.example.com/oauth2/token")


@pytest.fixture
async def service() -> AsyncIterator[ArenaSimulator]:
    """Yield a service with an extract."""
    async with ArenaSimulator(files=1) as service:
        yield service


def machine(service: ArenaSimulator, **options: Any) -> ArenaClient:
    """Build the client of a machine user."""
    credentials = ArenaMachineCredentials(service.client_id, service.client_secret, service.token_url)
    return service.client(**{"credentials": credentials, "retry": EAGER, **options})


# --- machine users ----------------------------------------------------------------------------------------------------


async def test_a_machine_user_trades_its_secret_for_a_token_once(service: ArenaSimulator) -> None:
    """Reference 2.2: one form to the token endpoint, the token with every request, and nothing to log out of."""
    async with machine(service, usage_reason="Everyroad Sync/2.1") as arena:
        await asyncio.gather(*(arena.extracts.get(service.extract) for _ in range(20)))

    token, *requested = service.log
    assert (token.method, token.path) == ("POST", "/oauth2/token")
    assert token.headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert token.body.decode() == (
        "grant_type=client_credentials&client_id=0oa1machine&client_secret=correct+staple"
        f"&workspace_id={service.workspace_id}&arena-usage-reason=Everyroad+Sync%2F2.1"
    )
    assert {(seen.method, seen.status) for seen in requested} == {("GET", 200)}
    assert len(requested) == 20
    assert len({seen.headers["Authorization"] for seen in requested}) == 1
    assert not [seen for seen in requested if "arena_session_id" in seen.headers]
    assert arena.session.requests_sent == 20


async def test_machine_users_do_not_end_each_others_tokens(service: ArenaSimulator) -> None:
    """Two clients at a time, and one of a person beside them: nobody is refused, nobody logs in twice."""
    async with machine(service) as first, machine(service) as second, service.client() as person:
        for _ in range(3):
            for arena in (first, second, person):
                await arena.extracts.get(service.extract)

    assert len(service.seen("POST */oauth2/token")) == 2
    assert len(service.seen("POST */login")) == 1
    assert {seen.status for seen in service.log} == {200}


async def test_a_token_is_renewed_before_its_end_and_after_a_rejection() -> None:
    """``expires_in`` bounds it; a 401 before that costs one new token."""
    monotonic = [1000.0]
    async with ArenaSimulator(files=1, clock=lambda: monotonic[0]) as service:
        async with machine(service, clock=Clock(monotonic=lambda: monotonic[0])) as arena:
            for passed in (0, 5300, 60):
                monotonic[0] += passed
                await arena.extracts.get(service.extract)
            assert len(service.seen("POST */oauth2/token")) == 2
            service.end_sessions()
            await arena.extracts.get(service.extract)

        assert len(service.seen("POST */oauth2/token")) == 3


@pytest.mark.parametrize(
    ("answer", "expected", "said"),
    [
        (json_reply({"error": "invalid_client"}, 401), AuthenticationError, "client id or its secret is wrong"),
        (json_reply({"error": "unauthorized_client"}, 400), AuthenticationError, "not granted this"),
        (json_reply({"error": "invalid_request"}, 400), AuthenticationError, "differs from region to region"),
        (reply(404, body=b"<html>"), AuthenticationError, "differs from region to region"),
        (reply(503), ServerError, "is unavailable or failed"),
        (json_reply({"token_type": "mac", "access_token": "x"}), DecodeError, "token_type: is not Bearer"),
        (json_reply({"access_token": "a b"}), DecodeError, "access_token: is not text"),
        (json_reply({"access_token": "planted-token", "expires_in": True}), DecodeError, "not a number of seconds"),
    ],
)
async def test_a_token_that_is_not_given_is_an_error_without_a_secret(answer: Any, expected: Any, said: str) -> None:
    """SA22: the cause in plain words; nothing is asked of the API."""
    async with RawServer() as server:
        server.on("POST", "/token", answer)
        credentials = ArenaMachineCredentials("me", "planted-secret", f"{server.base_url}/token")
        client = ArenaClient(credentials, base_url=f"{server.base_url}/v1", retry=EAGER)
        async with client as arena:
            with pytest.raises(expected, match=said) as caught:
                await arena.extracts.get("E")
        assert "planted" not in str(caught.value)
        assert server.lines("GET *") == []


def test_the_token_endpoint_of_north_america_is_known_and_others_come_with_the_credentials() -> None:
    """Reference 2.2: other regions have their own, handed out with the credentials."""
    assert ArenaClient(ArenaMachineCredentials("me", "x")).session
    with pytest.raises(ConfigurationError, match="ARENA_TOKEN_URL"):
        ArenaClient(ArenaMachineCredentials("me", "x"), region="eu")


def test_the_secret_of_a_machine_user_is_masked() -> None:
    """In repr and in a pickle; an empty one is refused by name."""
    assert "planted" not in repr([MACHINE, ArenaClient(MACHINE)])
    assert b"planted" not in pickle.dumps(MACHINE)
    assert ArenaMachineCredentials("0oa1machine", Secret("planted-secret"), MACHINE.token_url) == MACHINE
    with pytest.raises(ConfigurationError, match=r"ArenaMachineCredentials\.client_secret"):
        ArenaMachineCredentials("me", " ")


# --- a session that is open already -----------------------------------------------------------------------------------


async def login(service: ArenaSimulator) -> str:
    """Log in as somebody else would, and give the session id."""
    async with service.client() as arena:
        credential = await arena.session.credential()
        session_id = credential.headers[0][1].reveal()
        service._sessions[session_id].user = service.add_user("somebody@example.com", "x")
    service._sessions[session_id].alive = True
    service.log.clear()
    return session_id


async def test_a_given_session_is_used_as_it_is_and_never_logged_out(service: ArenaSimulator) -> None:
    """No login, no logout; the session lives on."""
    session_id = await login(service)
    for _ in range(2):
        async with ArenaClient(session_id=session_id, base_url=service.base_url) as arena:
            assert (await arena.extracts.search().collect())[0].guid == service.extract

    assert [seen.method for seen in service.log] == ["GET", "GET"]
    assert "a given session" in repr(arena)
    assert session_id not in repr(arena)


async def test_a_given_session_that_is_over_is_an_error_and_asked_for_once(service: ArenaSimulator) -> None:
    """There is nothing to log in with; later calls fail without a request."""
    session_id = await login(service)
    service.end_sessions()
    async with ArenaClient(session_id=Secret(session_id), base_url=service.base_url) as arena:
        for _ in range(3):
            with pytest.raises(AuthenticationError, match="Pass a new one, or credentials") as caught:
                await arena.extracts.get(service.extract)

    assert len(service.log) == 1
    assert session_id not in str(caught.value)


async def test_a_given_session_that_is_over_is_replaced_where_there_are_credentials(service: ArenaSimulator) -> None:
    """One login, and that session is ours to log out of."""
    session_id = await login(service)
    async with service.client(session_id=session_id) as arena:
        await arena.extracts.get(service.extract)
        service.end_sessions()
        await arena.extracts.get(service.extract)

    assert [f"{seen.method} {seen.path.rpartition('/')[2]}" for seen in service.log] == [
        f"GET {service.extract}",
        f"GET {service.extract}",
        "POST login",
        f"GET {service.extract}",
        "PUT logout",
    ]


@pytest.mark.parametrize("session_id", ["", "  ", "a b", "a\r\nEvil: 1", "x" * 5000, "\ud800"])
def test_a_session_id_that_no_header_carries_is_refused_at_once(session_id: str) -> None:
    """SA09: before anything is sent, and without showing it."""
    with pytest.raises(ConfigurationError, match="session id") as caught:
        ArenaClient(session_id=session_id)

    assert "Evil" not in str(caught.value)


# --- regions ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("region", "base_url"),
    [
        ("us", "https://api.arenasolutions.com/v1"),
        ("gov", "https://api.arenagov.com/v1"),
        ("eu", "https://api.europe.arenaplm.com/v1"),
        ("UK", "https://api.uk.arenaplm.com/v1"),
        ("cn", "https://api.arenaplm.cn/v1"),
        (None, "https://api.arenasolutions.com/v1"),
    ],
)
def test_regions_go_by_their_names(region: str | None, base_url: str) -> None:
    """Reference 1."""
    assert ArenaClient(CREDENTIALS, region=region).session.base_url == base_url


@pytest.mark.parametrize(
    ("web", "api", "region"),
    [
        ("https://app.bom.com", "https://api.arenasolutions.com/v1", "us"),
        ("https://app.bom.com/v1", "https://api.arenasolutions.com/v1", "us"),
        ("app.europe.arenaplm.com", "https://api.europe.arenaplm.com/v1", "eu"),
        ("https://APP.arenagov.com/login", "https://api.arenagov.com/v1", "gov"),
        ("http://app.uk.arenaplm.com:443", "https://api.uk.arenaplm.com/v1", "uk"),
        ("https://app.arenaplm.cn./", "https://api.arenaplm.cn/v1", "cn"),
    ],
)
def test_the_address_of_the_web_application_is_recognised(web: str, api: str, region: str) -> None:
    """The right one is in the message."""
    with pytest.raises(ConfigurationError) as caught:
        ArenaClient(CREDENTIALS, base_url=web)

    assert api in str(caught.value)
    assert f"region='{region}'" in str(caught.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"base_url": "https://api.arenagov.com/v1", "region": "gov"}, "give one of them"),
        ({"region": "mars"}, r"there are us \(North America\), gov"),
        ({"region": ""}, "is not known"),
        ({"credentials": None}, "has no user"),
        ({"credentials": MACHINE, "session_id": "abc"}, "leave session_id out"),
        ({"credentials": MACHINE, "session_store": "x.json"}, "Leave session_store out"),
        ({"credentials": None, "session_id": "abc", "session_store": "x.json"}, "Leave session_store out"),
        ({"session_id": "abc", "session_store": "x.json"}, "exclude each other"),
        ({"session_store": ""}, "session_store is empty"),
        ({"on_exhausted": "pause"}, "'stop' or 'wait'"),
    ],
)
def test_what_does_not_go_together_is_refused(options: dict[str, Any], said: str) -> None:
    """Before anything is sent."""
    with pytest.raises(ConfigurationError, match=said):
        ArenaClient(**{"credentials": CREDENTIALS, **options})


# --- the environment --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variables", "shown"),
    [
        (
            {"ARENA_EMAIL": "a@b.example", "ARENA_PASSWORD": "x", "ARENA_REGION": "eu"},
            "<ArenaClient a@b.example at https://api.europe.arenaplm.com:443, last workspace used>",
        ),
        (
            {"ARENA_CLIENT_ID": "0oa1", "ARENA_CLIENT_SECRET": "x", "ARENA_WORKSPACE_ID": "7"},
            "<ArenaClient client 0oa1 at https://api.arenasolutions.com:443, workspace 7>",
        ),
        (
            {
                "ARENA_CLIENT_ID": "0oa1",
                "ARENA_CLIENT_SECRET": "x",
                "ARENA_REGION": "gov",
                "ARENA_TOKEN_URL": "https://oauth.arenagov.example/token",
            },
            "<ArenaClient client 0oa1 at https://api.arenagov.com:443, last workspace used>",
        ),
        (
            {"ARENA_SESSION_ID": "abc"},
            "<ArenaClient a given session at https://api.arenasolutions.com:443, last workspace used>",
        ),
        (
            {"ARENA_SESSION_ID": "abc", "ARENA_EMAIL": "a@b.example", "ARENA_PASSWORD": "x"},
            "<ArenaClient a@b.example at https://api.arenasolutions.com:443, last workspace used>",
        ),
    ],
)
def test_whoever_comes_in_can_stand_in_the_environment(variables: dict[str, str], shown: str) -> None:
    """A person, a machine user, a session, or a session and whoever renews it."""
    assert repr(ArenaClient.from_env(environ=variables)) == shown


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({}, "ARENA_EMAIL is not set, nor is ARENA_CLIENT_ID or ARENA_SESSION_ID"),
        ({"ARENA_CLIENT_ID": "me"}, "ARENA_CLIENT_SECRET is not set"),
        ({"ARENA_CLIENT_SECRET": "planted"}, "ARENA_CLIENT_ID is not set"),
        ({"ARENA_PASSWORD": "planted"}, "ARENA_EMAIL is not set"),
        ({"ARENA_EMAIL": "a@b", "ARENA_CLIENT_ID": "me"}, "set one pair of them"),
        ({"ARENA_SESSION_ID": "a b"}, "session id"),
        ({"ARENA_SESSION_ID": "abc", "ARENA_REGION": "mars"}, "^ARENA_REGION: "),
        ({"ARENA_SESSION_ID": "abc", "ARENA_BASE_URL": "https://app.bom.com"}, "^ARENA_BASE_URL: .*web application"),
        (
            {"ARENA_SESSION_ID": "abc", "ARENA_REGION": "eu", "ARENA_BASE_URL": "https://api.arenagov.com/v1"},
            "^ARENA_REGION: Both",
        ),
        ({"ARENA_CLIENT_ID": "me", "ARENA_CLIENT_SECRET": "planted", "ARENA_REGION": "eu"}, "ARENA_TOKEN_URL"),
    ],
)
def test_an_environment_that_cannot_work_is_refused_by_name(variables: dict[str, str], said: str) -> None:
    """And without showing a secret."""
    with pytest.raises(ConfigurationError, match=said) as caught:
        ArenaClient.from_env(environ=variables)

    assert "planted" not in str(caught.value)


async def test_a_used_up_day_is_waited_for_where_the_client_is_told_to(time: FakeTime) -> None:
    """QU20 through the client: parked until the reset of the service, one probe, then the rest."""
    async with ArenaSimulator(files=1, quota=3, clock=time) as service:
        client = service.client(on_exhausted="wait", clock=Clock(monotonic=time, now=time.now, sleep=time.sleep))
        async with client as arena:
            for _ in range(5):
                await arena.extracts.get(service.extract)

        assert [seen.status for seen in service.seen("GET *")] == [200] * 5
        assert time.at >= service.resets_at - 86_400


async def test_a_sync_that_meets_the_end_of_the_day_goes_on_the_next_one(time: FakeTime, tmp_path: Path) -> None:
    """QU20: every content is asked for once, and the first one of the new day is alone on the wire."""
    async with ArenaSimulator(files=7, quota=4, clock=time) as service:
        client = service.client(on_exhausted="wait", clock=Clock(monotonic=time, now=time.now, sleep=time.sleep))
        options = TransferOptions(durability="off", workers=4)
        async with client as arena, Mirror(tmp_path, options=options) as mirror:
            report = await mirror.sync(arena.extracts.files(service.extract))

        assert (report.counts[Action.FETCH], report.failures, report.error) == (7, (), None)
        assert [seen.status for seen in service.seen("GET *")] == [200] * 8


def test_a_person_still_comes_first() -> None:
    """The old way to build a client is the shortest."""
    assert ArenaClient(ArenaCredentials("a@b.example", "x")).session.base_url == "https://api.arenasolutions.com/v1"
