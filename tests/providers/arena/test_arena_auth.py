"""What a login sends, and what is believed of its answer."""

from __future__ import annotations

import copy
import json
import pickle
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs
import pytest

from arena_async.errors import AccountLockedError, AuthenticationError, ConfigurationError, DecodeError
from arena_async.protocol.adapter import Credential
from arena_async.protocol.messages import Request, Response, Secret
from arena_async.providers.arena.adapter import ArenaAdapter
from arena_async.providers.arena.auth import ArenaCredentials, PasswordAuth

PAYLOADS = Path(__file__).parents[2] / "payloads"
CREDENTIALS = ArenaCredentials("robot@everyroadgps.com", "planted-password")
DIALECT = ArenaAdapter(now=lambda: datetime(2026, 5, 2, 12, 0, tzinfo=UTC))


def auth(workspace_id: int | None = 896256783) -> PasswordAuth:
    """Build the login under test."""
    return PasswordAuth(credentials=CREDENTIALS, adapter=DIALECT, workspace_id=workspace_id)


def answer(content: Any, status: int = 200) -> Response:
    """Write an answer to the login."""
    return Response(status=status, body=content if isinstance(content, bytes) else json.dumps(content).encode())


def test_a_login_is_one_unmetered_post_without_a_credential() -> None:
    """Reference 2.1: the key is workspaceId, and the login is free."""
    request = auth().login("")

    assert request == Request(
        method="POST",
        path="/login",
        json={"email": "robot@everyroadgps.com", "password": "planted-password", "workspaceId": 896256783},
        scope=None,
        metered=False,
    )


def test_a_login_without_a_workspace_does_not_name_one() -> None:
    """The service then takes the one the user was in last."""
    assert auth(None).login("").json == {"email": "robot@everyroadgps.com", "password": "planted-password"}


@pytest.mark.parametrize(
    ("name", "session_id", "limit"),
    [
        ("arena_login.json", "ML4nT3dS3ss10n1dOfAnArenaUser", 10000),
        ("arena_login_older.json", "0lD3rSp3ll1ngOfTheSameThing", 1000),
    ],
)
def test_both_spellings_of_the_session_id_are_read(name: str, session_id: str, limit: int) -> None:
    """The pages print one, the live service sends the other."""
    credential = auth().read_login(answer((PAYLOADS / name).read_bytes()))

    assert credential == Credential(
        headers=(("arena_session_id", Secret(session_id)),),
        idle_lifetime=5400.0,
        workspace="896256783",
        request_limit=limit,
    )
    assert session_id not in repr(credential)


def test_without_a_wish_any_workspace_is_taken_and_named() -> None:
    """The caller learns where the login landed."""
    assert auth(None).read_login(answer({"arenaSessionId": "x", "workspaceId": "77"})).workspace == "77"
    assert auth(None).read_login(answer({"arenaSessionId": "x"})).workspace == ""
    assert auth(5).read_login(answer({"arenaSessionId": "x"})).workspace == "5"


@pytest.mark.parametrize(
    "session_id",
    [
        None,
        "",
        12345,
        True,
        [],
        {"id": "x"},
        "x" * 300_000,
        "a\r\nX-Evil: 1",
        "with space",
        "caf\u00e9",
        "\ud800",
        "a\x00",
    ],
)
def test_a_session_id_that_no_header_can_carry_is_refused(session_id: Any) -> None:
    """SA09: nothing is ever sent with such a value, and the error does not show it."""
    with pytest.raises(DecodeError) as caught:
        auth().read_login(answer({"arenaSessionId": session_id, "workspaceId": 896256783}))

    assert caught.value.problems == ("$.arenaSessionId: no text that a header can carry",)
    assert "Evil" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"<html>Sign in</html>", b"[]", b"null", b'{"workspaceId": 896256783}'])
def test_an_answer_that_is_no_login_is_a_decode_error(content: bytes) -> None:
    """A gateway that answers 200 with a page of its own is told apart."""
    with pytest.raises(DecodeError, match=r"^POST /login: "):
        auth().read_login(answer(content))


def test_another_workspace_than_asked_is_refused() -> None:
    """SA10: before any call for data."""
    with pytest.raises(AuthenticationError, match="landed in workspace 7, not in 896256783") as caught:
        auth().read_login(answer({"arenaSessionId": "x", "workspaceId": 7}))

    assert (caught.value.stale_login, caught.value.transient) == (False, False)


def test_a_refused_login_is_the_dialects_error() -> None:
    """SA06 and SA07: rejected and locked, neither of them to be repeated."""
    rejected = json.dumps({"status": 400, "errors": [{"code": 4001, "message": "Not valid."}]}).encode()
    locked = json.dumps({"status": 400, "errors": [{"code": 4083, "message": "Disabled."}]}).encode()

    with pytest.raises(AuthenticationError, match="is not retried"):
        auth().read_login(answer(rejected, 400))
    with pytest.raises(AccountLockedError) as caught:
        auth().read_login(answer(locked, 400))
    assert caught.value.retry_at == datetime(2026, 5, 2, 12, 5, tzinfo=UTC)


def test_a_logout_is_a_put_without_a_body() -> None:
    """Reference 2.1: PUT /logout."""
    credential = Credential(headers=())

    assert auth().logout(credential) == Request(method="PUT", path="/logout")


def test_the_password_is_masked_everywhere() -> None:
    """In repr, in copies, in a dictionary of the value and in a pickle."""
    shown = [
        repr(CREDENTIALS),
        str(CREDENTIALS),
        repr(copy.deepcopy(CREDENTIALS)),
        repr(attrs.asdict(CREDENTIALS)),
        repr(auth()),
        repr(auth().login("")),
        repr(pickle.dumps(CREDENTIALS)),
    ]

    assert not [text for text in shown if "planted" in text]
    assert ArenaCredentials("robot@everyroadgps.com", Secret("planted-password")) == CREDENTIALS


@pytest.mark.parametrize(
    ("email", "password", "named"),
    [
        ("", "x", "email"),
        ("  ", "x", "email"),
        (None, "x", "email"),
        ("a@b", "", "password"),
        ("a@b", None, "password"),
    ],
)
def test_credentials_that_cannot_be_a_login_are_refused_at_once(email: Any, password: Any, named: str) -> None:
    """Before anything is sent, by the name of the argument."""
    with pytest.raises(ConfigurationError, match=named):
        ArenaCredentials(email, password)
