"""The client as a whole: settings, one session per user, and its end."""

from __future__ import annotations

import gc
import pickle
from typing import Any

import pytest
from arena_scripts import CREDENTIALS, QUOTA, arena_client, page_reply
from scripted import RawServer, json_reply, reply

from arena_async.errors import AuthenticationError, ClosedError, ConfigurationError, QuotaExhaustedError
from arena_async.providers.arena import ArenaClient, ArenaCredentials, Extract

COMPLETE = {"ARENA_EMAIL": "robot@everyroadgps.com", "ARENA_PASSWORD": "planted-password"}


async def test_the_user_is_logged_in_with_the_first_request_and_out_at_the_end() -> None:
    """One login however many requests, one logout with its session, however often the client is closed."""
    async with RawServer() as server:
        arena = arena_client(server, usage_reason="Everyroad Sync/2.1 nightly")
        server.on("GET", "/v1/extracts", page_reply({"guid": "E"}))
        async with arena:
            assert server.requests == []
            assert await arena.extracts.search().collect() == [Extract(guid="E")]
            assert await arena.extracts.search().first() == Extract(guid="E")
        await arena.aclose()

        assert [seen.line for seen in server.requests] == [
            "POST /v1/login",
            "GET /v1/extracts?offset=0&limit=400",
            "GET /v1/extracts?offset=0&limit=1",
            "PUT /v1/logout",
        ]
        assert {seen.header("Arena-Usage-Reason") for seen in server.requests} == {"Everyroad Sync/2.1 nightly"}
        assert {seen.header("content-type") for seen in server.requests} == {"application/json"}
        assert server.requests[-1].header("arena_session_id") == "ML4nT3dS3ss10n1dOfAnArenaUser"
        assert arena.session.requests_sent == 3


async def test_a_client_that_was_never_used_sends_nothing_at_its_end() -> None:
    """No login, so no logout."""
    async with RawServer() as server:
        async with arena_client(server):
            pass

        assert server.requests == []


async def test_a_closed_client_says_so() -> None:
    """Before anything is sent."""
    async with RawServer() as server:
        arena = arena_client(server)
        await arena.aclose()

        with pytest.raises(ClosedError):
            await arena.extracts.get("E")
        assert server.requests == []


async def test_a_listing_of_four_thousand_runs_takes_eleven_requests() -> None:
    """Ten full pages, and the empty one that ends the walk."""
    rows = [{"guid": f"R{number:04}"} for number in range(4000)]

    def page(seen: Any) -> Any:
        offset = int(seen.query.split("offset=")[1].split("&")[0])
        return page_reply(*rows[offset : offset + 400])

    async with RawServer() as server, arena_client(server) as arena:
        server.on("GET", "/v1/extracts/E/runs", page)

        found = [run.guid async for run in arena.extracts.runs("E")]

        assert found == [row["guid"] for row in rows]
        assert len(server.lines("GET *")) == 11


async def test_the_reserve_is_never_touched() -> None:
    """QU03: with as many left as are reserved nothing leaves any more."""
    async with RawServer() as server, arena_client(server, quota_reserve=100) as arena:
        server.on("GET", "*", json_reply({"guid": "E"}, headers={**QUOTA, "X-Arena-Requests-Remaining": "100"}))

        await arena.extracts.get("E")
        with pytest.raises(QuotaExhaustedError):
            await arena.extracts.get("E")

        assert len(server.lines("GET *")) == 1
        assert arena.extracts.files("E").cost().reserve == 100


async def test_a_login_into_another_workspace_sends_nothing_else() -> None:
    """SA10: the data of the wrong workspace is never asked for."""
    async with RawServer() as server, arena_client(server, workspace_id=5) as arena:
        with pytest.raises(AuthenticationError, match="landed in workspace 896256783, not in 5"):
            await arena.extracts.get("E")

        assert server.lines("GET *") == []


async def test_a_rejected_login_is_sent_once() -> None:
    """SA06: one POST, whoever asks how often, and no password in the message."""
    rejected = {"status": 400, "errors": [{"code": 4001, "message": "The username is not valid."}]}
    async with RawServer() as server, arena_client(server) as arena:
        server.on("POST", "/v1/login", json_reply(rejected, 400))

        for _ in range(2):
            with pytest.raises(AuthenticationError) as caught:
                await arena.extracts.get("E")
            assert "planted" not in str(caught.value)

        assert server.lines("*") == ["POST /v1/login"]


async def test_a_dead_session_is_renewed_once_and_the_request_repeated() -> None:
    """SA02: 401, one login, the same request with the new session."""
    async with RawServer() as server, arena_client(server) as arena:
        server.on("POST", "/v1/login", *(json_reply({"arenaSessionId": name}) for name in ("first", "second")))
        server.on("GET", "/v1/extracts/E", reply(401, headers=QUOTA), json_reply({"guid": "E"}, headers=QUOTA))

        assert (await arena.extracts.get("E")).guid == "E"

        assert [(seen.line, seen.header("arena_session_id")) for seen in server.requests] == [
            ("POST /v1/login", None),
            ("GET /v1/extracts/E", "first"),
            ("POST /v1/login", None),
            ("GET /v1/extracts/E", "second"),
        ]


# --- one client per user ----------------------------------------------------------------------------------------------


async def test_a_second_client_of_the_same_user_is_refused_at_its_first_use() -> None:
    """Its login would end the session of the first; when that is closed, the second may go on."""
    async with RawServer() as server:
        first, second = arena_client(server), arena_client(server)
        server.on("GET", "*", json_reply({"guid": "E"}, headers=QUOTA))
        await first.extracts.get("E")

        with pytest.raises(ConfigurationError, match="another client of the same user is open in this process"):
            await second.extracts.get("E")
        with pytest.raises(ConfigurationError, match="another client of the same user"):
            await second.__aenter__()
        await first.aclose()
        async with second:
            await second.extracts.get("E")

        assert len(server.lines("POST *")) == 2


async def test_clients_that_cannot_end_each_others_session_may_be_open_together() -> None:
    """Other users and other workspaces; a client that names no workspace may land in any, so it is refused."""
    other = ArenaCredentials("somebody.else@everyroadgps.com", "planted-password")
    async with RawServer() as server, RawServer() as elsewhere:
        base_url = f"{server.base_url}/v1"
        async with (
            ArenaClient(CREDENTIALS, base_url=base_url, workspace_id=1),
            ArenaClient(CREDENTIALS, base_url=base_url, workspace_id=2),
            ArenaClient(CREDENTIALS, base_url=f"{elsewhere.base_url}/v1", workspace_id=1),
            ArenaClient(other, base_url=base_url, workspace_id=1),
        ):
            anywhere = ArenaClient(CREDENTIALS, base_url=base_url)
            shouting = ArenaClient(ArenaCredentials("ROBOT@everyroadgps.com", "x"), base_url=base_url, workspace_id=1)

            for client in (anywhere, shouting):
                assert client.extracts
                with pytest.raises(ConfigurationError, match="another client of the same user"):
                    await client.extracts.get("E")
                await client.aclose()


async def test_the_services_of_a_client_can_be_read_at_any_time() -> None:
    """Whatever else is open, and after the end: it is their requests that fail."""
    services = ("extracts", "exports", "imports", "events", "event_queue", "files", "items", "session")
    async with RawServer() as server, arena_client(server) as open_client:
        second = arena_client(server)
        await second.aclose()

        assert await second.__aenter__() is second
        assert [hasattr(client, name) for client in (open_client, second) for name in services] == [True] * 16
        assert server.requests == []


async def test_a_forgotten_client_does_not_stand_in_the_way() -> None:
    """Who was never closed and is gone holds nothing; who was only built holds nothing either."""
    async with RawServer() as server:
        forgotten = arena_client(server)
        assert await forgotten.__aenter__() is forgotten
        del forgotten
        gc.collect()
        built = arena_client(server)

        async with arena_client(server) as arena:
            assert arena.extracts
        assert built.quota is None


# --- settings ---------------------------------------------------------------------------------------------------------


def test_a_client_is_built_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two variables are enough, and the others are read."""
    for name in ("ARENA_WORKSPACE_ID", "ARENA_BASE_URL", "ARENA_USAGE_REASON", "ARENA_QUOTA_RESERVE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in COMPLETE.items():
        monkeypatch.setenv(name, value)
    plain = ArenaClient.from_env()
    full = ArenaClient.from_env(
        environ=COMPLETE
        | {
            "ARENA_WORKSPACE_ID": " 77 ",
            "ARENA_BASE_URL": "https://api.europe.arenaplm.com/v1",
            "ARENA_USAGE_REASON": "Everyroad Sync/2.1",
            "ARENA_QUOTA_RESERVE": "250",
        }
    )

    assert repr(plain) == (
        "<ArenaClient robot@everyroadgps.com at https://api.arenasolutions.com:443, last workspace used>"
    )
    assert repr(full) == "<ArenaClient robot@everyroadgps.com at https://api.europe.arenaplm.com:443, workspace 77>"
    assert full.extracts.files("E").cost().reserve == 250
    assert full.session.base_url == "https://api.europe.arenaplm.com/v1"


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"ARENA_EMAIL": ""}, "ARENA_EMAIL is not set"),
        ({"ARENA_PASSWORD": "  "}, "ARENA_PASSWORD is not set"),
        ({"ARENA_WORKSPACE_ID": "seven"}, "ARENA_WORKSPACE_ID is 'seven'"),
        ({"ARENA_WORKSPACE_ID": "-1"}, "ARENA_WORKSPACE_ID is '-1'"),
        ({"ARENA_QUOTA_RESERVE": "1.5"}, "ARENA_QUOTA_RESERVE is '1.5'"),
        ({"ARENA_QUOTA_RESERVE": "\u0661"}, "ARENA_QUOTA_RESERVE is"),
        ({"ARENA_BASE_URL": "api.arenasolutions.com"}, "^ARENA_BASE_URL: "),
        ({"ARENA_BASE_URL": "http://api.arenasolutions.com/v1"}, "^ARENA_BASE_URL: .*plain http"),
        ({"ARENA_USAGE_REASON": "a\nb"}, "^ARENA_USAGE_REASON: "),
        ({"ARENA_USAGE_REASON": "\u00fc"}, "^ARENA_USAGE_REASON: "),
    ],
)
def test_a_variable_that_is_missing_or_wrong_is_named(changes: dict[str, str], named: str) -> None:
    """Before any I/O, and without the password."""
    with pytest.raises(ConfigurationError, match=named) as caught:
        ArenaClient.from_env(environ=COMPLETE | changes)

    assert "planted" not in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {"workspace_id": "77"},
        {"workspace_id": True},
        {"quota_reserve": -1},
        {"base_url": "ftp://api.arenasolutions.com/v1"},
        {"base_url": "http://api.arenasolutions.com/v1"},
        {"base_url": "https://user:planted@api.arenasolutions.com/v1"},
        {"usage_reason": ""},
        {"usage_reason": "a\r\nX-Evil: 1"},
        {"credentials": ("robot@everyroadgps.com", "planted")},
    ],
)
def test_a_setting_that_cannot_work_is_refused_at_once(options: dict[str, Any]) -> None:
    """A ConfigurationError, and no secret in it."""
    with pytest.raises(ConfigurationError) as caught:
        ArenaClient(**{"credentials": CREDENTIALS, **options})

    assert "planted" not in str(caught.value)


def test_plain_http_is_allowed_on_request() -> None:
    """For a gateway inside somebody's own network."""
    client = ArenaClient(CREDENTIALS, base_url="http://gateway.internal:8080/v1", allow_http=True)

    assert client.session.base_url == "http://gateway.internal:8080/v1"


def test_nothing_of_a_client_shows_the_password() -> None:
    """Neither the client nor its parts."""
    client = ArenaClient(CREDENTIALS)

    assert "planted" not in repr([client, client.extracts, client.exports, client.imports, client.files, client.items])
    assert b"planted" not in pickle.dumps(CREDENTIALS)
