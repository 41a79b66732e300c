"""Tokens of CentrePoint: what is sent for one, and which responses have one."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arena_async.errors import (
    ArenaAsyncError,
    AuthenticationError,
    ConfigurationError,
    DecodeError,
    ServerError,
    ThrottledError,
)
from arena_async.protocol.messages import Headers, Response, Secret
from arena_async.providers.centrepoint.auth import CentrePointAuth, CentrePointCredentials

PAYLOADS = Path(__file__).parents[2] / "payloads"
SECRET = "planted-client-secret"
AUTH = CentrePointAuth(
    credentials=CentrePointCredentials("client-7", SECRET), auth_url="https://auth.actigraphcorp.com/connect/token"
)
LINE = "POST https://auth.actigraphcorp.com/connect/token (scope DataAccess)"


def answer(body: object, *, status: int = 200, headers: tuple[tuple[str, str], ...] = ()) -> Response:
    """Return a response of the token endpoint."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Response(status=status, headers=Headers(headers), body=raw, request=LINE)


def token(**changes: Any) -> dict[str, Any]:
    """Return the documented response with some fields changed."""
    return {"access_token": "abc.def.ghi", "expires_in": 3600, "token_type": "Bearer"} | changes


def test_a_token_is_asked_for_with_a_form_for_one_scope() -> None:
    """The form has the four documented fields, and neither the credential nor the limiter takes part."""
    request = AUTH.login("DataAccess")

    assert request.method == "POST"
    assert request.path == "https://auth.actigraphcorp.com/connect/token"
    assert request.form == (
        ("client_id", "client-7"),
        ("client_secret", SECRET),
        ("grant_type", "client_credentials"),
        ("scope", "DataAccess"),
    )
    assert request.scope is None
    assert request.metered is False
    assert request.line == LINE


def test_the_documented_answer_becomes_a_bearer_header() -> None:
    """The sample of the token page is read, and the token shows nowhere."""
    credential = AUTH.read_login(answer((PAYLOADS / "centrepoint_token.json").read_bytes()))

    ((name, secret),) = credential.headers
    assert name == "Authorization"
    assert secret.reveal() == "Bearer eyJhbGciOiJSUzI1NiJ9.eyJzY29wZSI6WyJEYXRhQWNjZXNzIl19.c2lnbmF0dXJl"
    assert credential.lifetime == 3600
    assert "eyJ" not in repr(credential)


@pytest.mark.parametrize(
    ("expires_in", "lifetime"),
    [
        (3600, 3600),
        ("3600", 3600),
        (None, 600),
        (0, 600),
        (-1, 600),
        ("0", 600),
        (5, 120),
        (1e12, 86_400),
        (3599.5, 3599.5),
    ],
)
def test_a_lifetime_is_taken_within_bounds_or_a_default_is(expires_in: object, lifetime: float) -> None:
    """No response causes a token request with every call, and none a permanent token."""
    assert AUTH.read_login(answer(token(expires_in=expires_in))).lifetime == lifetime


def test_a_missing_lifetime_gives_the_default() -> None:
    """``expires_in`` may be absent."""
    assert AUTH.read_login(answer({"access_token": "abc", "token_type": "bearer"})).lifetime == 600


@pytest.mark.parametrize(
    "payload",
    [
        token(expires_in=True),
        token(expires_in="soon"),
        token(expires_in=[3600]),
        token(token_type="mac"),
        token(token_type=None),
        token(access_token=None),
        token(access_token=""),
        token(access_token=12),
        token(access_token="abc\r\nX-Injected: 1"),
        token(access_token="abc def"),
        token(access_token="\udc80abc"),
        token(access_token="x" * 1_000_000),
        {"token_type": "Bearer"},
        [token()],
        "abc",
        None,
    ],
)
def test_an_answer_without_a_usable_bearer_token_is_refused(payload: object) -> None:
    """Nothing that is no token, or that no header can carry, is ever sent on; the error shows nothing of it."""
    with pytest.raises(DecodeError) as caught:
        AUTH.read_login(answer(payload))

    assert "scope DataAccess" in str(caught.value)
    assert "X-Injected" not in str(caught.value)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("body", [b"", b"<html>sign in</html>", b"\xff\xfe", b'{"access_token": '])
def test_an_answer_that_is_no_json_is_refused(body: bytes) -> None:
    """A login page in place of a token is a decode error and no crash."""
    with pytest.raises(DecodeError):
        AUTH.read_login(answer(body))


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("invalid_client", "CENTREPOINT_CLIENT_SECRET"),
        ("invalid_scope", "not allowed that scope"),
        ("unauthorized_client", "not allowed that scope"),
        ("invalid_grant", "No token was issued"),
    ],
)
def test_a_refused_login_names_the_scope_and_what_to_do(name: str, advice: str) -> None:
    """The error names the scope that was requested, since another one may be allowed."""
    with pytest.raises(AuthenticationError) as caught:
        AUTH.read_login(answer({"error": name, "error_description": f"no; client_secret={SECRET}"}, status=400))

    said = str(caught.value)
    assert said.startswith(f"{LINE}: 400 ({name}")
    assert advice in said
    assert SECRET not in said
    assert caught.value.status == 400
    assert not caught.value.transient
    assert not caught.value.stale_login


def test_a_token_endpoint_that_is_away_is_worth_another_try() -> None:
    """5xx says nothing about the credentials."""
    with pytest.raises(ServerError) as caught:
        AUTH.read_login(answer(b"Bad gateway", status=502, headers=(("Retry-After", "7"),)))

    assert caught.value.transient
    assert caught.value.retry_after == 7


def test_a_token_endpoint_that_is_busy_says_how_long_to_wait() -> None:
    """429 is throttling here as everywhere."""
    with pytest.raises(ThrottledError) as caught:
        AUTH.read_login(answer(b"", status=429, headers=(("retry-after", "11"),)))

    assert caught.value.retry_after == 11


def test_there_is_nothing_to_log_out_of() -> None:
    """A token ends by itself."""
    assert AUTH.logout(AUTH.read_login(answer(token()))) is None


def test_credentials_never_show_their_secret() -> None:
    """Not in repr, not in the request, not through a pickle."""
    credentials = CentrePointCredentials("client-7", SECRET)

    assert SECRET not in repr(credentials) + repr(AUTH) + repr(AUTH.login("CentrePoint"))
    assert SECRET.encode() not in pickle.dumps(credentials.client_secret)
    assert CentrePointCredentials("client-7", Secret(SECRET)) == credentials


@pytest.mark.parametrize(
    "pair", [("", "s"), ("c", ""), (" c", "s"), ("c", "s\n"), (None, "s"), ("c", 7), ("c", "\ud800")]
)
def test_credentials_that_cannot_be_sent_are_refused_without_showing_them(pair: tuple[Any, Any]) -> None:
    """An empty or mangled value is noticed before anything is sent."""
    with pytest.raises((ConfigurationError, TypeError)) as caught:
        CentrePointCredentials(*pair)

    assert "s\n" not in str(caught.value)


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(), st.lists))
def test_any_lifetime_gives_a_bounded_number_or_a_typed_error(value: object) -> None:
    """Whatever ``expires_in`` is, the result is between two minutes and a day, or it is our own error."""
    try:
        lifetime = AUTH.read_login(answer(json.dumps(token(expires_in=value)).encode())).lifetime
    except ArenaAsyncError:
        return
    assert lifetime is not None
    assert 120 <= lifetime <= 86_400
