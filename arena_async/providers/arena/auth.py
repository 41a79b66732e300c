"""
How a user logs in to Arena with e-mail address and password.

https://github.com/ptc-arena/arena-restapi-doc - one session per user: a second login ends the first one's session, and
90 minutes without a request end it too.
"""

from __future__ import annotations

import re
from typing import Any, Final

import attrs

from arena_async.errors import AuthenticationError, ConfigurationError, DecodeError
from arena_async.providers.arena.dialect import ArenaDialect
from arena_async.wire.contracts import Credential
from arena_async.wire.decoding import decode, parse_json
from arena_async.wire.messages import Request, Response, Secret

__all__ = ["ArenaCredentials", "PasswordAuth"]

#: Seconds from the last request after which the service forgets a session.
_IDLE: Final = 90 * 60.0
#: Letters that may stand in a header without changing its meaning, and far more of them than any session id has.
_SESSION_ID = re.compile(r"[\x21-\x7e]{1,4096}")


def _secret(value: str | Secret) -> Secret:
    return value if isinstance(value, Secret) else Secret(value)


def _filled(_: ArenaCredentials, attribute: attrs.Attribute[Any], value: Any) -> None:
    """Refuse what cannot be a login, before anything is sent; the value is not shown."""
    text = (value.reveal() if value else "") if isinstance(value, Secret) else value
    if not isinstance(text, str) or not text.strip():
        raise ConfigurationError(
            f"ArenaCredentials.{attribute.name} is empty or no text; it takes that of the Arena user."
        )


@attrs.frozen
class ArenaCredentials:
    """
    Who logs in. The password is masked wherever the value is shown, copied or pickled.

    Args:
        email: The e-mail address of the user. Give every integration a user of its own.
        password: The password, as text or as a :class:`~arena_async.wire.messages.Secret`.

    Raises:
        ConfigurationError: One of them is empty or no text.
    """

    email: str = attrs.field(validator=_filled)
    password: Secret = attrs.field(converter=_secret, validator=_filled)


@attrs.frozen(kw_only=True)
class _Login:
    """The answer to a login. The key of the session id has two documented spellings."""

    session_id: Any = attrs.field(default=None, repr=False, metadata={"wire": ("arenaSessionId", "arena_session_id")})
    workspace_id: int | None = None
    workspace_request_limit: int | None = None


@attrs.frozen(kw_only=True)
class PasswordAuth:
    """
    Logs in with e-mail address and password. Pure: it says what to send and reads what came.

    Args:
        credentials: Who logs in.
        dialect: Reads the refusals.
        workspace_id: The workspace to land in; None for the one that was used last.
    """

    credentials: ArenaCredentials
    dialect: ArenaDialect
    workspace_id: int | None = None

    def login(self, scope: str) -> Request:  # noqa: ARG002  the service knows one scope only
        """Give the request that logs in. It does not count against the allowance."""
        body: dict[str, Any] = {"email": self.credentials.email, "password": self.credentials.password.reveal()}
        if self.workspace_id is not None:
            body["workspaceId"] = self.workspace_id
        return Request(method="POST", path="/login", json=body, scope=None, metered=False)

    def read_login(self, response: Response) -> Credential:
        """
        Read the answer to a login.

        Raises:
            AuthenticationError: It was refused, or it landed in another workspace than asked.
            AccountLockedError: The account is locked for five minutes.
            DecodeError: There is no session id in it that could be sent back in a header.
        """
        request = self.login("")
        if not 200 <= response.status < 300:
            raise self.dialect.read_error(request, response)
        answer = decode(parse_json(response.body, request=request.line), _Login, request=request.line)
        session_id = answer.session_id
        if not isinstance(session_id, str) or not _SESSION_ID.fullmatch(session_id):
            raise DecodeError(
                f"{request.line}: the answer has no usable session id; nothing is sent without one. The service, or a "
                "gateway before it, may have changed; check the base URL.",
                problems=("$.arenaSessionId: no text that a header can carry",),
                request=request.line,
            )
        landed = answer.workspace_id
        if self.workspace_id is not None and landed is not None and landed != self.workspace_id:
            raise AuthenticationError(
                f"{request.line}: the login landed in workspace {landed}, not in {self.workspace_id} as asked, so "
                "nothing else was sent. Check the workspace id, and that the user is a member of that workspace.",
                status=response.status,
                request=request.line,
            )
        workspace = landed if landed is not None else self.workspace_id
        return Credential(
            headers=(("arena_session_id", Secret(session_id)),),
            idle_lifetime=_IDLE,
            workspace="" if workspace is None else str(workspace),
            request_limit=answer.workspace_request_limit,
        )

    def logout(self, credential: Credential) -> Request:  # noqa: ARG002  the session adds the header
        """Give the request that ends the session. Whether it counts is not documented, so it is counted."""
        return Request(method="PUT", path="/logout")
