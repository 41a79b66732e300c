"""
Access to Arena: from the credentials given by the caller to the authentication of the session.

::

    ArenaCredentials          log in with the first request, log out at the end
      with a session store    look for the session of another process first; never log out
      with a session id       use that one; when it has expired, log in
    ArenaMachineCredentials   a bearer token; several processes may have one each
    a session id alone        use that one; when it has expired, that is an error
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime

import attrs

from arena_async.errors import ConfigurationError
from arena_async.http.credential_store import CredentialStore
from arena_async.protocol.adapter import Auth, Credential
from arena_async.protocol.messages import Secret, printable
from arena_async.protocol.urls import origin
from arena_async.providers.arena.adapter import ArenaAdapter
from arena_async.providers.arena.auth import (
    IDLE,
    ArenaCredentials,
    ArenaMachineCredentials,
    LoginClaim,
    MachineAuth,
    PasswordAuth,
    given_credential,
)
from arena_async.providers.arena.sessions import SessionStore, SharedSessions
from arena_async.providers.arena.settings import REGIONS

__all__ = ["Access", "AccessSettings", "grant"]


@attrs.frozen
class AccessSettings:
    """
    The settings of the caller.

    Args:
        credentials: The user, or None.
        session_id: An open session, or None.
        session_store: The file through which processes of one user share their session, or None.
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
    The authentication of the session.

    Args:
        auth: How to log in.
        user: The e-mail address of the user, or None where it is not known.
        shown: The user and the workspace, for messages.
        claim: The claim of a client that logs in with a password, or None.
        given: A credential to begin with, or None.
        renewable: Whether there is a way to log in.
        store: Where the credential is shared, or None.
    """

    auth: Auth
    user: str | None = None
    shown: str
    claim: LoginClaim | None = None
    given: Credential | None = None
    renewable: bool = True
    store: CredentialStore | None = None


def grant(requested: AccessSettings, adapter: ArenaAdapter, *, now: Callable[[], datetime]) -> Access:
    """
    Return the authentication of the session.

    Raises:
        ConfigurationError: The settings exclude each other, or are not enough.
    """
    _check(requested)
    workspace_id, session_id = requested.workspace_id, requested.session_id
    workspace = f"workspace {workspace_id}" if workspace_id is not None else "last workspace used"
    where = f"at {origin(requested.base_url)}, {workspace}"
    match requested.credentials:
        case ArenaCredentials() as credentials:
            return _of_person(credentials, requested, adapter, where=where, now=now)
        case ArenaMachineCredentials() as credentials:
            machine = MachineAuth(
                credentials=credentials,
                adapter=adapter,
                token_url=_token_url(credentials, requested.base_url),
                usage_reason=requested.usage_reason,
                workspace_id=workspace_id,
            )
            return Access(auth=machine, shown=f"client {credentials.client_id} {where}")
    if session_id is None:
        raise ConfigurationError(
            "ArenaClient has no user: give ArenaCredentials(email, password), "
            "ArenaMachineCredentials(client_id, client_secret), or the session_id of a session that is open."
        )
    given = given_credential(session_id, workspace_id, idle_lifetime=None)
    auth = PasswordAuth(credentials=None, adapter=adapter, workspace_id=workspace_id)
    return Access(auth=auth, shown=f"a given session {where}", given=given, renewable=False)


def _of_person(
    credentials: ArenaCredentials,
    requested: AccessSettings,
    adapter: ArenaAdapter,
    *,
    where: str,
    now: Callable[[], datetime],
) -> Access:
    """Return the access of a user who logs in with a password."""
    store, email, shown = _store(requested.session_store), credentials.email, f"{credentials.email} {where}"
    workspace_id, session_id = requested.workspace_id, requested.session_id
    user = (origin(requested.base_url), email.casefold())
    claim = LoginClaim(user=user, workspace_id=workspace_id, shared=store, shown=shown)
    identity = "\n".join((requested.base_url, email.casefold(), str(workspace_id or "")))
    return Access(
        auth=PasswordAuth(credentials=credentials, adapter=adapter, workspace_id=workspace_id, claim=claim),
        user=email,
        shown=shown,
        claim=claim,
        given=None if session_id is None else given_credential(session_id, workspace_id, idle_lifetime=IDLE),
        store=None if store is None else SharedSessions(store, identity, now=now),
    )


def _check(requested: AccessSettings) -> None:
    """Raise if the settings exclude each other."""
    credentials, person = requested.credentials, isinstance(requested.credentials, ArenaCredentials)
    if not isinstance(credentials, ArenaCredentials | ArenaMachineCredentials | None):
        raise ConfigurationError(
            "ArenaClient.credentials takes ArenaCredentials(email, password) or "
            "ArenaMachineCredentials(client_id, client_secret)."
        )
    if isinstance(credentials, ArenaMachineCredentials) and requested.session_id is not None:
        raise ConfigurationError("A machine user has a token and no session; leave session_id out.")
    if requested.session_store is not None and not person:
        raise ConfigurationError(
            "A session store is for users who log in with e-mail address and password; machine users may log in as "
            "often as they like. Leave session_store out."
        )
    if requested.session_store is not None and requested.session_id is not None:
        raise ConfigurationError("session_id and session_store exclude each other; give one of them.")


def _store(store: str | os.PathLike[str] | SessionStore | None) -> SessionStore | None:
    if store is None or isinstance(store, SessionStore):
        return store
    if not os.fspath(store):
        raise ConfigurationError("session_store is empty; it takes the path of a file.")
    return SessionStore(store)


def _token_url(credentials: ArenaMachineCredentials, base_url: str) -> str:
    """Return the token endpoint: that of the credentials, or that of the region."""
    if credentials.token_url is not None:
        return credentials.token_url
    for region in REGIONS.values():
        if region.token_url is not None and region.api == base_url.rstrip("/"):
            return region.token_url
    raise ConfigurationError(
        f"The token endpoint for {printable(base_url)} is not known here: it is issued with the client id and its "
        "secret. Give it as ArenaMachineCredentials.token_url, or as ARENA_TOKEN_URL."
    )
