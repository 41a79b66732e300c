"""The client of Arena PLM: one user, one workspace, one session."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Mapping
from importlib.metadata import version
from ssl import SSLContext
from typing import Any, ClassVar, Final, Self, TypeVar, get_args

from arena_async.errors import ConfigurationError
from arena_async.net.session import Session
from arena_async.options import RetryPolicy, Timeouts
from arena_async.providers.arena.auth import ArenaCredentials, PasswordAuth
from arena_async.providers.arena.dialect import ArenaDialect
from arena_async.providers.arena.exports import Exports
from arena_async.providers.arena.extracts import Extracts
from arena_async.providers.arena.import_files import ImportParameters
from arena_async.providers.arena.imports import Imports
from arena_async.providers.arena.items import Files, Items
from arena_async.wire.messages import printable
from arena_async.wire.quota import DailyAllowance, Quota
from arena_async.wire.urls import UrlPolicy, origin

__all__ = ["NORTH_AMERICA", "ArenaClient"]

_Part = TypeVar("_Part")

#: The API of the default region, with its version.
NORTH_AMERICA: Final = "https://api.arenasolutions.com/v1"


class _OpenClients:
    """
    Which clients of this process hold a session: two of one user would end each other's, again and again.

    One instance serves the process, since the service, too, knows no smaller unit than the user. It holds no client
    alive, nothing of it is a setting, and a process that was forked starts with none.
    """

    def __init__(self) -> None:
        self._processes: weakref.WeakKeyDictionary[ArenaClient, int] = weakref.WeakKeyDictionary()

    def claim(self, client: ArenaClient) -> None:
        """
        Note that a client is in use.

        Raises:
            ConfigurationError: Another one of the same user is.
        """
        process = os.getpid()
        for other, owner in list(self._processes.items()):
            if other is not client and owner == process and other.same_user(client):
                raise ConfigurationError(
                    f"{client!r}: another client of the same user is open in this process, and a second login would "
                    "end its session. Share that client, or close it first."
                )
        self._processes[client] = process

    def release(self, client: ArenaClient) -> None:
        """Note that a client is not in use any more."""
        self._processes.pop(client, None)


class ArenaClient:
    """
    Everything of one Arena workspace, as one of its users may see it.

    Use it with ``async with``, or call :meth:`aclose`: that logs the user out. The login happens with the first
    request. A second login of the same user, wherever it comes from, ends the session; give every integration a user of
    its own.

    Args:
        credentials: Who logs in.
        base_url: The API of the region, with its version.
        workspace_id: The workspace; None for the one the user was in last, which may be any.
        usage_reason: What the service notes as the reason of every request; None for the name of this library.
        quota_reserve: Requests of the day to leave untouched for everybody else.
        import_parameters: How an import is told what to do with a file: by ``parts`` of the form, or by a ``query``.
            The vendor documents both; try the other one where the service does not understand the first.
        retry: How often and how patiently a request is tried again.
        timeouts: How long the network may keep us waiting.
        ssl: The TLS settings; None for the usual ones.
        proxy: The URL of a proxy, or None.
        user_agent: The ``User-Agent`` header; None for the name of this library.
        connector: An aiohttp connector to share pools, TLS and DNS with; it is not closed.
        allow_http: Allow plain http, which shows the password to the whole network. Loopback needs no permission.

    Raises:
        ConfigurationError: One of them is wrong. Nothing was sent.
    """

    _open: ClassVar[_OpenClients] = _OpenClients()

    def __init__(
        self,
        credentials: ArenaCredentials,
        *,
        base_url: str = NORTH_AMERICA,
        workspace_id: int | None = None,
        usage_reason: str | None = None,
        quota_reserve: int = 0,
        import_parameters: ImportParameters = "parts",
        retry: RetryPolicy | None = None,
        timeouts: Timeouts | None = None,
        ssl: SSLContext | None = None,
        proxy: str | None = None,
        user_agent: str | None = None,
        connector: Any = None,
        allow_http: bool = False,
    ) -> None:
        if not isinstance(credentials, ArenaCredentials):
            raise ConfigurationError("ArenaClient.credentials takes ArenaCredentials(email, password).")
        if workspace_id is not None and (isinstance(workspace_id, bool) or not isinstance(workspace_id, int)):
            raise ConfigurationError(f"ArenaClient.workspace_id is {workspace_id!r}; it takes the number or None.")
        if import_parameters not in get_args(ImportParameters):
            raise ConfigurationError(
                f"ArenaClient.import_parameters is {import_parameters!r}; it takes parts or query."
            )
        urls = UrlPolicy.for_base(base_url, allow_http=allow_http)
        dialect = ArenaDialect()
        self._email = credentials.email
        self._workspace_id = workspace_id
        self._origin = origin(base_url)
        self._closed = False
        self._session = Session(
            PasswordAuth(credentials=credentials, dialect=dialect, workspace_id=workspace_id),
            dialect,
            DailyAllowance(reserve=quota_reserve),
            base_url=base_url,
            headers={"content-type": "application/json", "Arena-Usage-Reason": _usage_reason(usage_reason)},
            retry=retry or RetryPolicy(),
            timeouts=timeouts or Timeouts(),
            urls=urls,
            ssl=ssl,
            proxy=proxy,
            user_agent=user_agent,
            connector=connector,
        )
        self._extracts = Extracts(self._session, quota_reserve, credentials.email)
        self._exports = Exports(self._session, quota_reserve, credentials.email)
        self._imports = Imports(self._session, quota_reserve, credentials.email, parameters=import_parameters)
        self._files = Files(self._session, quota_reserve)
        self._items = Items(self._session, quota_reserve)

    @classmethod
    def from_env(
        cls,
        *,
        environ: Mapping[str, str] | None = None,
        retry: RetryPolicy | None = None,
        timeouts: Timeouts | None = None,
        ssl: SSLContext | None = None,
        proxy: str | None = None,
        user_agent: str | None = None,
        connector: Any = None,
        allow_http: bool = False,
    ) -> Self:
        """
        Build a client from ``ARENA_EMAIL`` and ``ARENA_PASSWORD``, and from these where they are set.

        They are ``ARENA_WORKSPACE_ID``, ``ARENA_BASE_URL``, ``ARENA_USAGE_REASON`` and ``ARENA_QUOTA_RESERVE``. A
        variable that is empty counts as not set.

        Args:
            environ: The variables; None for those of the process.
            retry: As for the class, and so are the rest.
            timeouts: As for the class.
            ssl: As for the class.
            proxy: As for the class.
            user_agent: As for the class.
            connector: As for the class.
            allow_http: As for the class.

        Raises:
            ConfigurationError: One of them is missing or wrong; the message names it. Nothing was sent.
        """
        variables = os.environ if environ is None else environ
        credentials = ArenaCredentials(
            _required(variables, "ARENA_EMAIL", "the e-mail address of the Arena user"),
            _required(variables, "ARENA_PASSWORD", "the password of the Arena user"),
        )
        workspace_id = _number(variables, "ARENA_WORKSPACE_ID")
        quota_reserve = _number(variables, "ARENA_QUOTA_RESERVE")
        base_url = variables.get("ARENA_BASE_URL") or NORTH_AMERICA
        usage_reason = variables.get("ARENA_USAGE_REASON") or None
        _blame("ARENA_BASE_URL", lambda: UrlPolicy.for_base(base_url, allow_http=allow_http))
        _blame("ARENA_USAGE_REASON", lambda: _usage_reason(usage_reason))
        return cls(
            credentials,
            base_url=base_url,
            workspace_id=workspace_id,
            usage_reason=usage_reason,
            quota_reserve=quota_reserve or 0,
            retry=retry,
            timeouts=timeouts,
            ssl=ssl,
            proxy=proxy,
            user_agent=user_agent,
            connector=connector,
            allow_http=allow_http,
        )

    @property
    def session(self) -> Session:
        """The session, for requests of your own: ``session.send(Request(...))``."""
        return self._use(self._session)

    @property
    def quota(self) -> Quota | None:
        """What the service last said about the requests of the day, or None before its first answer."""
        return self._session.quota

    @property
    def extracts(self) -> Extracts:
        """The data extracts of the workspace."""
        return self._use(self._extracts)

    @property
    def exports(self) -> Exports:
        """The export definitions of the workspace and their runs."""
        return self._use(self._exports)

    @property
    def imports(self) -> Imports:
        """The import definitions of the workspace and their runs."""
        return self._use(self._imports)

    @property
    def files(self) -> Files:
        """The files of the workspace."""
        return self._use(self._files)

    @property
    def items(self) -> Items:
        """The items of the workspace."""
        return self._use(self._items)

    def same_user(self, other: ArenaClient) -> bool:
        """
        Say whether a login of one client would end the session of the other.

        A client that names no workspace may land in any.
        """
        workspaces = {self._workspace_id, other._workspace_id}
        return (self._origin, self._email.casefold()) == (other._origin, other._email.casefold()) and (
            len(workspaces) == 1 or None in workspaces
        )

    async def aclose(self) -> None:
        """Log out, which takes 5 seconds at the most and never fails, and end everything. Safe to call twice."""
        self._closed = True
        try:
            await self._session.aclose()
        finally:
            self._open.release(self)

    async def __aenter__(self) -> Self:
        return self._use(self)

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        where = f"workspace {self._workspace_id}" if self._workspace_id is not None else "last workspace used"
        return f"<ArenaClient {printable(self._email)} at {self._origin}, {where}>"

    def _use(self, part: _Part) -> _Part:
        """Give a part of the client, and make sure that no other client of the user is in use."""
        if not self._closed:
            self._open.claim(self)
        return part


def _usage_reason(text: str | None) -> str:
    """
    Give the value of the ``Arena-Usage-Reason`` header.

    Raises:
        ConfigurationError: A header cannot carry it.
    """
    if text is None:
        return f"arena_async/{version('arena-async')}"
    if not text.strip() or len(text) > 200 or not (text.isascii() and text.isprintable()):
        raise ConfigurationError(
            f"The usage reason is {printable(text)!r}; it takes 1 to 200 printable ASCII characters, for instance "
            "'Vendor Product/1.0 nightly-sync'."
        )
    return text.strip()


def _required(variables: Mapping[str, str], name: str, what: str) -> str:
    """Give a variable that must be set."""
    value = variables.get(name, "")
    if not value.strip():
        raise ConfigurationError(f"{name} is not set; it takes {what}.")
    return value


def _number(variables: Mapping[str, str], name: str) -> int | None:
    """Give a variable that is a number, or None where it is not set."""
    text = variables.get(name, "").strip()
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise ConfigurationError(f"{name} is {printable(text)!r}; it takes a whole number of at least 0.")
    return int(text)


def _blame(name: str, check: Callable[[], object]) -> None:
    """Run a check, and name the variable in its complaint."""
    try:
        check()
    except ConfigurationError as error:
        raise ConfigurationError(f"{name}: {error}") from None
