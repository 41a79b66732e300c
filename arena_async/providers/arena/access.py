"""
Access to Arena: from the settings and credentials given by the caller to the authentication of the session.

::

    ArenaCredentials          log in with the first request, log out at the end
      with a session store    look for the session of another process first; log out last, or never
      with a session id       use that one; when it has expired, log in
    ArenaMachineCredentials   a bearer token; several processes may have one each
    a session id alone        use that one; when it has expired, that is an error

https://ptc-arena.github.io/arena-dev-help/
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

import attrs

from arena_async.errors import ConfigurationError
from arena_async.http.client import named_by
from arena_async.http.login import Authentication
from arena_async.options import VERSION, Clock
from arena_async.protocol.messages import Secret, printable
from arena_async.protocol.urls import UrlPolicy, origin
from arena_async.providers.arena.adapter import ArenaAdapter
from arena_async.providers.arena.auth import (
    IDLE,
    ArenaCredentials,
    ArenaMachineCredentials,
    LoginClaim,
    MachineAuth,
    PasswordAuth,
    session_credential,
)
from arena_async.providers.arena.sessions import SessionStore, SharedSessions

__all__ = [
    "NORTH_AMERICA",
    "Access",
    "AccessSettings",
    "check_workspace",
    "find_base_url",
    "grant",
    "read_address",
    "read_credentials",
    "read_number",
    "written_reason",
]

_PERSON = ("ARENA_EMAIL", "ARENA_PASSWORD")
_MACHINE = ("ARENA_CLIENT_ID", "ARENA_CLIENT_SECRET")
_MEANING = {
    "ARENA_EMAIL": "the e-mail address of the Arena user",
    "ARENA_PASSWORD": "the password of the Arena user",
    "ARENA_CLIENT_ID": "the client id of the machine user",
    "ARENA_CLIENT_SECRET": "the client secret of the machine user",
}


@attrs.frozen
class _Region:
    """
    One region of the service.

    Args:
        title: The usual name.
        web: The host of the web application.
        api: The API, with its version.
        token_url: The token endpoint of machine users, or None where it is issued with their credentials.
    """

    title: str
    web: str
    api: str
    token_url: str | None = None


#: Every region, by its short name.
_REGIONS: Final = {
    "us": _Region(
        "North America", "app.bom.com", "https://api.arenasolutions.com/v1", "https://oauth.bom.com/oauth2/token"
    ),
    "gov": _Region("GovCloud", "app.arenagov.com", "https://api.arenagov.com/v1"),
    "eu": _Region("Europe", "app.europe.arenaplm.com", "https://api.europe.arenaplm.com/v1"),
    "uk": _Region("United Kingdom", "app.uk.arenaplm.com", "https://api.uk.arenaplm.com/v1"),
    "cn": _Region("China", "app.arenaplm.cn", "https://api.arenaplm.cn/v1"),
}

#: The API of the default region, with its version.
NORTH_AMERICA: Final = _REGIONS["us"].api


def find_base_url(base_url: str | None, region: str | None) -> str:
    """
    Return the base URL of the API.

    Args:
        base_url: The complete URL, or None.
        region: The name of a region, or None. Without either, North America.

    Raises:
        ConfigurationError: Both were given, the region is unknown, or the address is that of the web application.
    """
    if region is not None:
        if base_url is not None:
            raise ConfigurationError(
                f"Both a base URL and the region {printable(str(region))!r} are given; give one of them."
            )
        found = _REGIONS.get(str(region).strip().lower())
        if found is None:
            names = ", ".join(f"{name} ({known.title})" for name, known in _REGIONS.items())
            raise ConfigurationError(f"The region {printable(str(region))!r} is not known; there are {names}.")
        return found.api
    if base_url is None:
        return NORTH_AMERICA
    host = _host(base_url)
    for name, known in _REGIONS.items():
        if host == known.web:
            raise ConfigurationError(
                f"The address {printable(base_url)} is that of the web application of {known.title}; its API is at "
                f"{known.api}. Give that as the base URL, or region={name!r} in its place."
            )
    return base_url


def _host(url: str) -> str:
    """Return the host of an address, with or without its scheme; "" where there is none."""
    try:
        return (urlsplit(url if "//" in url else f"//{url}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def check_workspace(workspace_id: object) -> None:
    """
    Check the number of a workspace.

    Raises:
        ConfigurationError: It is something else.
    """
    if workspace_id is not None and (isinstance(workspace_id, bool) or not isinstance(workspace_id, int)):
        raise ConfigurationError(f"ArenaClient.workspace_id is {workspace_id!r}; it takes the number or None.")


def written_reason(text: str | None) -> str:
    """
    Return the value of the ``Arena-Usage-Reason`` header.

    Raises:
        ConfigurationError: It is not valid in a header.
    """
    if text is None:
        return f"arena_async/{VERSION}"
    if not text.strip() or len(text) > 200 or not (text.isascii() and text.isprintable()):
        raise ConfigurationError(
            f"The usage reason is {printable(text)!r}; it takes 1 to 200 printable ASCII characters, for instance "
            "'Vendor Product/1.0 nightly-sync'."
        )
    return text.strip()


# --- the environment --------------------------------------------------------------------------------------------------


def read_address(variables: Mapping[str, str], *, allow_http: bool) -> str:
    """
    Return the base URL that the environment names.

    Raises:
        ConfigurationError: ``ARENA_BASE_URL`` or ``ARENA_REGION`` is wrong, or both are set.
    """
    base_url = variables.get("ARENA_BASE_URL", "").strip() or None
    region = variables.get("ARENA_REGION", "").strip() or None
    address = named_by("ARENA_BASE_URL" if region is None else "ARENA_REGION", lambda: find_base_url(base_url, region))
    named_by("ARENA_BASE_URL", lambda: UrlPolicy.for_base(address, allow_http=allow_http))
    return address


def read_number(variables: Mapping[str, str], name: str) -> int | None:
    """
    Return a variable that is a number, or None where it is not set.

    Raises:
        ConfigurationError: It is something else.
    """
    text = variables.get(name, "").strip()
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise ConfigurationError(f"{name} is {printable(text)!r}; it takes an integer of at least 0.")
    return int(text)


def read_credentials(variables: Mapping[str, str]) -> ArenaCredentials | ArenaMachineCredentials | None:
    """
    Read the credentials of a person or of a machine user from the environment; None where there is only a session.

    Raises:
        ConfigurationError: There are none, half of them is missing, or both are set; the message names the variables.
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


# --- authentication ---------------------------------------------------------------------------------------------------


def _session_store(store: str | os.PathLike[str] | SessionStore | None) -> SessionStore | None:
    """Return a session store, which is given as it is or by its path."""
    if store is None or isinstance(store, SessionStore):
        return store
    if not os.fspath(store):
        raise ConfigurationError("session_store is empty; it takes the path of a file.")
    return SessionStore(store)


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
    session_store: SessionStore | None = attrs.field(converter=_session_store)
    base_url: str
    workspace_id: int | None
    usage_reason: str


@attrs.frozen(kw_only=True)
class Access:
    """
    The authentication of the session.

    Args:
        login: How to log in.
        user: The e-mail address of the user, or None where it is not known.
        shown: The user and the workspace, for messages.
        claim: The claim of a client that logs in with a password, or None.
    """

    login: Authentication
    user: str | None = None
    shown: str
    claim: LoginClaim | None = None


def grant(requested: AccessSettings, adapter: ArenaAdapter, clock: Clock) -> Access:
    """
    Return the authentication of the session.

    Raises:
        ConfigurationError: The settings exclude each other, or are not enough.
    """
    _check(requested)
    credentials, base_url, workspace_id = requested.credentials, requested.base_url, requested.workspace_id
    workspace = f"workspace {workspace_id}" if workspace_id is not None else "last workspace used"
    where = f"at {origin(base_url)}, {workspace}"
    if isinstance(credentials, ArenaMachineCredentials):
        machine = MachineAuth(
            credentials=credentials,
            adapter=adapter,
            token_url=_token_url(credentials, base_url),
            usage_reason=requested.usage_reason,
            workspace_id=workspace_id,
        )
        return Access(login=Authentication(auth=machine), shown=f"client {credentials.client_id} {where}")
    given = None
    if requested.session_id is not None:
        idle = IDLE if credentials is not None else None
        given = session_credential(requested.session_id, workspace_id, idle_lifetime=idle)
    auth = PasswordAuth(credentials=credentials, adapter=adapter, workspace_id=workspace_id)
    if credentials is None:
        return Access(login=Authentication(auth=auth, given=given, renewable=False), shown=f"a given session {where}")
    email, store, shown = credentials.email, requested.session_store, f"{credentials.email} {where}"
    user = (origin(base_url), email.casefold())
    claim = LoginClaim(user=user, workspace_id=workspace_id, shared=store, shown=shown)
    identity = "\n".join((base_url, email.casefold(), str(workspace_id or "")))
    login = Authentication(
        auth=attrs.evolve(auth, claim=claim),
        given=given,
        store=SharedSessions(store, identity, clock=clock) if store is not None else None,
    )
    return Access(login=login, user=email, shown=shown, claim=claim)


def _check(requested: AccessSettings) -> None:
    """Raise if the settings exclude each other, or are not enough."""
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
    if credentials is None and requested.session_id is None:
        raise ConfigurationError(
            "ArenaClient has no user: give ArenaCredentials(email, password), "
            "ArenaMachineCredentials(client_id, client_secret), or the session_id of a session that is open."
        )


def _token_url(credentials: ArenaMachineCredentials, base_url: str) -> str:
    """Return the token endpoint: that of the credentials, or that of the region."""
    if credentials.token_url is not None:
        return credentials.token_url
    for region in _REGIONS.values():
        if region.token_url is not None and region.api == base_url.rstrip("/"):
            return region.token_url
    raise ConfigurationError(
        f"The token endpoint for {printable(base_url)} is not known here: it is issued with the client id and its "
        "secret. Give it as ArenaMachineCredentials.token_url, or as ARENA_TOKEN_URL."
    )
