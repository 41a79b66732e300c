"""
Authentication for Arena: password, machine token, or an existing session.

https://github.com/ptc-arena/arena-restapi-doc - one session per user: a second login ends the first one's session, and
90 minutes without a request end it too. Nothing of that kind is documented for machine users.
"""

from __future__ import annotations

import os
import re
import weakref
from typing import Any, Final

import attrs

from arena_async.errors import ApiError, AuthenticationError, ConfigurationError, DecodeError
from arena_async.protocol.adapter import Auth, Credential
from arena_async.protocol.decoding import decode, parse_json
from arena_async.protocol.messages import Request, Response, Secret, printable, show_url
from arena_async.protocol.oauth import is_unknown_client, is_wrong_scope, read_token
from arena_async.providers.arena.adapter import ArenaAdapter
from arena_async.providers.arena.sessions import SessionStore

__all__ = [
    "IDLE",
    "ArenaCredentials",
    "ArenaMachineCredentials",
    "LoginClaim",
    "MachineAuth",
    "PasswordAuth",
    "session_credential",
]

#: Seconds from the last request after which the service forgets a session.
IDLE: Final = 90 * 60.0
#: Seconds that a token is valid where the response does not state it.
_TOKEN_LIFETIME: Final = 5399.0
_SESSION_HEADER: Final = "arena_session_id"
#: Characters that a header can carry unchanged, and a length far above that of any session id.
_SESSION_ID = re.compile(r"[\x21-\x7e]{1,4096}")


def _secret(value: str | Secret) -> Secret:
    return value if isinstance(value, Secret) else Secret(value)


def _filled(owner: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    """Raise if a value cannot be a login; the value is not shown."""
    text = (value.reveal() if value else "") if isinstance(value, Secret) else value
    if not isinstance(text, str) or not text.strip():
        raise ConfigurationError(
            f"{type(owner).__name__}.{attribute.name} is empty or no text; it takes that of the Arena user."
        )


@attrs.frozen
class ArenaCredentials:
    """
    The user who logs in. The password is masked wherever the value is shown, copied or pickled.

    Args:
        email: The e-mail address of the user. Give every integration a user of its own.
        password: The password, as text or as a :class:`~arena_async.protocol.messages.Secret`.

    Raises:
        ConfigurationError: One of them is empty or no text.
    """

    email: str = attrs.field(validator=_filled)
    password: Secret = attrs.field(converter=_secret, validator=_filled)


@attrs.frozen
class ArenaMachineCredentials:
    """
    A machine user, which several processes can use at the same time. The secret is masked wherever the value is shown.

    Args:
        client_id: The client id that an administrator has created.
        client_secret: Its secret, as text or as a :class:`~arena_async.protocol.messages.Secret`.
        token_url: The complete URL of the token endpoint, issued with the two; None for that of North America.

    Raises:
        ConfigurationError: One of them is empty or no text.
    """

    client_id: str = attrs.field(validator=_filled)
    client_secret: Secret = attrs.field(converter=_secret, validator=_filled)
    token_url: str | None = attrs.field(default=None, validator=attrs.validators.optional(_filled))


@attrs.frozen(kw_only=True)
class _Login:
    """The response to a login. The key of the session id has two documented forms."""

    session_id: Any = attrs.field(default=None, repr=False, metadata={"wire": ("arenaSessionId", "arena_session_id")})
    workspace_id: int | None = None
    workspace_request_limit: int | None = None


@attrs.define(kw_only=True, eq=False)
class LoginClaim:
    """
    The use of a login by one client: another client of the same user in this process would end its session.

    All claims of the process are known, since the service, too, has one session for a user. A claim lives as long as
    its client, and a forked process starts with none.

    Args:
        user: The origin of the API and the e-mail address.
        workspace_id: The workspace; None where the login may select any.
        shared: The session store; clients of one store use one session.
        shown: The client, for messages.
    """

    user: tuple[str, str]
    workspace_id: int | None
    shared: SessionStore | None
    shown: str
    _released: bool = attrs.field(default=False, init=False)

    def take(self) -> None:
        """
        Register the use; do nothing after the release.

        Raises:
            ConfigurationError: Another client of the same user is in use.
        """
        if self._released:
            return
        process = os.getpid()
        for other, owner in list(_CLAIMS.items()):
            if other is not self and owner == process and self._conflicts(other):
                raise ConfigurationError(
                    f"ArenaClient of {printable(self.shown)}: another client of the same user is open in this process, "
                    "and a second login would end its session. Share that client, or close it first."
                )
        _CLAIMS[self] = process

    def release(self) -> None:
        """End the use, for good."""
        self._released = True
        _CLAIMS.pop(self, None)

    def _conflicts(self, other: LoginClaim) -> bool:
        if self.user != other.user or (self.shared is not None and self.shared == other.shared):
            return False
        return self.workspace_id == other.workspace_id or None in (self.workspace_id, other.workspace_id)


_CLAIMS: Final[weakref.WeakKeyDictionary[LoginClaim, int]] = weakref.WeakKeyDictionary()


@attrs.frozen(kw_only=True)
class PasswordAuth:
    """
    Authentication with e-mail address and password.

    Args:
        credentials: The user; None where a session is given that cannot be renewed: then the login is never sent.
        adapter: Reads the errors.
        workspace_id: The workspace to log in to; None for the one that was used last.
        claim: Taken before the login, or None.
    """

    credentials: ArenaCredentials | None
    adapter: ArenaAdapter
    workspace_id: int | None = None
    claim: LoginClaim | None = None

    @property
    def account(self) -> str:
        """The e-mail address; "" where only a session is given."""
        return self.credentials.email.casefold() if self.credentials is not None else ""

    def login(self, scope: str) -> Request:  # noqa: ARG002  the service knows one scope only
        """
        Return the login request. It does not count against the quota.

        Raises:
            ConfigurationError: Another client of the same user is in use in this process.
        """
        if self.claim is not None:
            self.claim.take()
        body: dict[str, Any] = {}
        if self.credentials is not None:
            body = {"email": self.credentials.email, "password": self.credentials.password.reveal()}
        if self.workspace_id is not None:
            body["workspaceId"] = self.workspace_id
        return Request(method="POST", path="/login", json=body, scope=None, metered=False)

    def read_login(self, response: Response) -> Credential:
        """
        Read the response to a login.

        Raises:
            AuthenticationError: It was rejected, or it selected another workspace than requested.
            AccountLockedError: The account is locked for five minutes.
            DecodeError: There is no session id in it that could be sent back in a header.
        """
        request = self.login("")
        if not 200 <= response.status < 300:
            raise self.adapter.read_error(request, response)
        login = decode(parse_json(response.body, request=request.line), _Login, request=request.line)
        session_id = login.session_id
        if not isinstance(session_id, str) or not _SESSION_ID.fullmatch(session_id):
            raise DecodeError(
                f"{request.line}: the response has no usable session id; nothing is sent without one. The service or a "
                "gateway before it may have changed; check the base URL.",
                problems=("$.arenaSessionId: no text that a header can carry",),
                request=request.line,
            )
        selected = login.workspace_id
        if self.workspace_id is not None and selected is not None and selected != self.workspace_id:
            raise AuthenticationError(
                f"{request.line}: the login landed in workspace {selected}, not in {self.workspace_id} as requested, "
                "so nothing else was sent. Check the workspace id, and that the user is a member of that workspace.",
                status=response.status,
                request=request.line,
            )
        workspace = selected if selected is not None else self.workspace_id
        limit = login.workspace_request_limit
        return session_credential(session_id, workspace, idle_lifetime=IDLE, request_limit=limit)

    def logout(self, credential: Credential) -> Request:  # noqa: ARG002  the session adds the header
        """Return the logout request. Whether it counts is not documented, so it is counted."""
        return Request(method="PUT", path="/logout")


def session_credential(
    session_id: str | Secret, workspace_id: int | None, *, idle_lifetime: float | None, request_limit: int | None = None
) -> Credential:
    """
    Return the credential of a session.

    Args:
        session_id: The session id that a login returned.
        workspace_id: The workspace it is in, where that is known.
        idle_lifetime: Idle seconds after which it is renewed; None where it cannot be.
        request_limit: The requests of a day, where that is known.

    Raises:
        ConfigurationError: It is no session id that a header can carry.
    """
    secret = _secret(session_id)
    if not _SESSION_ID.fullmatch(str(secret.reveal()) if secret else ""):
        raise ConfigurationError("The session id that is given is empty, or has characters that no header carries.")
    return Credential(
        headers=((_SESSION_HEADER, secret),),
        idle_lifetime=idle_lifetime,
        workspace="" if workspace_id is None else str(workspace_id),
        request_limit=request_limit,
    )


@attrs.frozen(kw_only=True)
class MachineAuth(Auth):
    """
    Authentication with a bearer token for a client id and its secret. It cannot be revoked, it expires.

    Args:
        credentials: The machine user.
        adapter: Reads the errors that are not about the credentials.
        token_url: The complete URL of the token endpoint.
        usage_reason: What the service notes as the reason.
        workspace_id: The workspace to work in; None for the one that the machine user was granted.
    """

    credentials: ArenaMachineCredentials
    adapter: ArenaAdapter
    token_url: str
    usage_reason: str
    workspace_id: int | None = None

    @property
    def account(self) -> str:
        """The machine user."""
        return f"client {self.credentials.client_id}"

    def login(self, scope: str) -> Request:  # noqa: ARG002  the service knows no scopes
        """Return the token request. It does not count against the quota."""
        return Request(
            method="POST",
            path=self.token_url,
            form={
                "grant_type": "client_credentials",
                "client_id": self.credentials.client_id,
                "client_secret": self.credentials.client_secret.reveal(),
                "workspace_id": self.workspace_id,
                "arena-usage-reason": self.usage_reason,
            },
            headers={"Accept": "application/json"},
            scope=None,
            metered=False,
            shown_as=show_url(self.token_url),
        )

    def read_login(self, response: Response) -> Credential:
        """
        Read the token from the response.

        Raises:
            AuthenticationError: The client was rejected.
            ServerError: The token endpoint failed; it may work later.
            ThrottledError: Too many tokens were requested.
            DecodeError: There is no usable bearer token in it.
        """
        if response.status != 200:
            raise self._rejection(response)
        workspace = f"of client {self.credentials.client_id}" if self.workspace_id is None else str(self.workspace_id)
        advice = "Check that the token URL is the one that was issued with the credentials."
        return read_token(response, lifetime=_TOKEN_LIFETIME, advice=advice, workspace=workspace)

    def _rejection(self, response: Response) -> ApiError:
        """Return the error of a rejected client, or the usual error of the service."""
        if not 400 <= response.status < 500 or response.status in (408, 429):
            return self.adapter.read_error(self.login(""), response)
        if is_unknown_client(response):
            advice = "The client id or its secret is wrong; check them."
        elif is_wrong_scope(response):
            advice = "The machine user is not granted this; an administrator has to grant it."
        else:
            advice = "Check the client id, its secret and the token URL, which differs from region to region."
        line = response.request
        return AuthenticationError(
            f"{line}: {response.status}. No token was returned, and it is not requested again for a while. {advice}",
            status=response.status,
            request=line,
        )
