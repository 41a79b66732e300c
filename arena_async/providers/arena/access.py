"""
Who comes in, and how: from what a caller gives to what the session needs.

::

    ArenaCredentials          log in with the first request, log out at the end
      with a session store    look for the session of another process first; nobody logs out
      with a session id       use that one; when it is over, log in
    ArenaMachineCredentials   a bearer token; several processes may have one each
    a session id alone        use that one; when it is over, that is an error
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from datetime import datetime

import attrs

from arena_async.errors import ConfigurationError
from arena_async.net.sharing import CredentialStore
from arena_async.providers.arena.auth import (
    IDLE,
    ArenaCredentials,
    ArenaMachineCredentials,
    GivenSession,
    MachineAuth,
    PasswordAuth,
)
from arena_async.providers.arena.dialect import ArenaDialect
from arena_async.providers.arena.regions import REGIONS
from arena_async.providers.arena.sessions import SessionStore
from arena_async.wire.contracts import Auth, Credential
from arena_async.wire.messages import Secret, printable

__all__ = ["Access", "Asked", "grant", "read_credentials"]


_PERSON = ("ARENA_EMAIL", "ARENA_PASSWORD")
_MACHINE = ("ARENA_CLIENT_ID", "ARENA_CLIENT_SECRET")
_MEANING = {
    "ARENA_EMAIL": "the e-mail address of the Arena user",
    "ARENA_PASSWORD": "the password of the Arena user",
    "ARENA_CLIENT_ID": "the client id of the machine user",
    "ARENA_CLIENT_SECRET": "the client secret of the machine user",
}


@attrs.frozen(kw_only=True)
class Asked:
    """
    What a caller gives.

    Args:
        credentials: Who logs in, or None.
        session_id: A session that somebody else began, or None.
        session_store: Where processes of one user share their session, or None.
        base_url: The API, with its version.
        workspace_id: The workspace, or None.
        usage_reason: What the service notes as the reason of every request.
    """

    credentials: ArenaCredentials | ArenaMachineCredentials | None
    session_id: str | Secret | None
    session_store: str | os.PathLike[str] | SessionStore | None
    base_url: str
    workspace_id: int | None
    usage_reason: str


@attrs.frozen(kw_only=True)
class Access:
    """
    What the session needs.

    Args:
        auth: How to log in.
        user: The e-mail address of the user whose other sessions a login ends, or None where it ends none.
        shown: Who it is, for showing.
        given: A credential to begin with, or None.
        renewable: Whether there is a way to log in.
        store: Where the credential is shared, or None.
        shared: The file of the store, or None.
    """

    auth: Auth
    user: str | None
    shown: str
    given: Credential | None = None
    renewable: bool = True
    store: CredentialStore | None = None
    shared: SessionStore | None = None


def grant(asked: Asked, dialect: ArenaDialect, *, now: Callable[[], datetime]) -> Access:
    """
    Say how to come in.

    Raises:
        ConfigurationError: What is given does not go together, or is not enough.
    """
    _check(asked)
    given = None
    if asked.session_id is not None:
        given = GivenSession(session_id=asked.session_id, workspace_id=asked.workspace_id)
    match asked.credentials:
        case ArenaCredentials(email=email) as credentials:
            auth = PasswordAuth(credentials=credentials, dialect=dialect, workspace_id=asked.workspace_id)
            shared = _shared(asked.session_store)
            identity = "\n".join((asked.base_url, email.casefold(), str(asked.workspace_id or "")))
            return Access(
                auth=auth,
                user=email,
                shown=email,
                given=None if given is None else given.credential(idle_lifetime=IDLE),
                store=None if shared is None else shared.of(identity, now=now),
                shared=shared,
            )
        case ArenaMachineCredentials() as credentials:
            return Access(
                auth=MachineAuth(
                    credentials=credentials,
                    dialect=dialect,
                    token_url=_token_url(credentials, asked.base_url),
                    usage_reason=asked.usage_reason,
                    workspace_id=asked.workspace_id,
                ),
                user=None,
                shown=f"client {credentials.client_id}",
            )
    if given is None:
        raise ConfigurationError(
            "ArenaClient was given nobody to log in: give ArenaCredentials(email, password), "
            "ArenaMachineCredentials(client_id, client_secret), or the session_id of a session that is open."
        )
    credential = given.credential(idle_lifetime=None)
    return Access(auth=given, user=None, shown="a given session", given=credential, renewable=False)


def read_credentials(variables: Mapping[str, str]) -> ArenaCredentials | ArenaMachineCredentials | None:
    """
    Read the credentials of a person or of a machine user from the environment; None where a session stands for them.

    Raises:
        ConfigurationError: There are none, half of them is missing, or both are there; the message names the variables.
    """
    given = {name for name in _MEANING if variables.get(name, "").strip()}
    if given & set(_PERSON) and given & set(_MACHINE):
        raise ConfigurationError(
            "ARENA_EMAIL and ARENA_PASSWORD name a person, ARENA_CLIENT_ID and ARENA_CLIENT_SECRET a machine user; set "
            "one pair of them."
        )
    if not given and not variables.get("ARENA_SESSION_ID", "").strip():
        raise ConfigurationError(
            "ARENA_EMAIL is not set, nor is ARENA_CLIENT_ID or ARENA_SESSION_ID; set ARENA_EMAIL and ARENA_PASSWORD to "
            "those of the Arena user."
        )
    for pair in (_PERSON, _MACHINE):
        missing = [name for name in pair if name not in given]
        if len(missing) == 1:
            raise ConfigurationError(f"{missing[0]} is not set; it takes {_MEANING[missing[0]]}.")
    if given == set(_MACHINE):
        token_url = variables.get("ARENA_TOKEN_URL", "").strip() or None
        client_id, client_secret = (variables[name].strip() for name in _MACHINE)
        return ArenaMachineCredentials(client_id, client_secret, token_url)
    return ArenaCredentials(*(variables[name] for name in _PERSON)) if given == set(_PERSON) else None


def _check(asked: Asked) -> None:
    """Refuse what does not go together."""
    if asked.credentials is not None and not isinstance(asked.credentials, ArenaCredentials | ArenaMachineCredentials):
        raise ConfigurationError(
            "ArenaClient.credentials takes ArenaCredentials(email, password) or "
            "ArenaMachineCredentials(client_id, client_secret)."
        )
    if isinstance(asked.credentials, ArenaMachineCredentials) and asked.session_id is not None:
        raise ConfigurationError("A machine user has a token and no session; leave session_id out.")
    if asked.session_store is None:
        return
    if not isinstance(asked.credentials, ArenaCredentials):
        raise ConfigurationError(
            "A session store is for users who log in with e-mail address and password; machine users may log in as "
            "often as they like. Leave session_store out."
        )
    if asked.session_id is not None:
        raise ConfigurationError("session_id and session_store exclude each other; give one of them.")


def _shared(store: str | os.PathLike[str] | SessionStore | None) -> SessionStore | None:
    if store is None or isinstance(store, SessionStore):
        return store
    if not os.fspath(store):
        raise ConfigurationError("session_store is empty; it takes the path of a file.")
    return SessionStore(store)


def _token_url(credentials: ArenaMachineCredentials, base_url: str) -> str:
    """Give the token endpoint: the one that came with the credentials, or that of the region."""
    if credentials.token_url is not None:
        return credentials.token_url
    for region in REGIONS.values():
        if region.token_url is not None and region.api == base_url.rstrip("/"):
            return region.token_url
    raise ConfigurationError(
        f"The token endpoint for {printable(base_url)} is not known here: it is handed out with the client id and its "
        "secret. Give it as ArenaMachineCredentials.token_url, or as ARENA_TOKEN_URL."
    )
