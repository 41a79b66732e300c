"""The client of Arena PLM: one user, one workspace, one session."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Self, Unpack

import attrs

from arena_async.http.client import BaseClient, ClientSettings, http_options, named_by
from arena_async.http.paginator import Paginator
from arena_async.http.session import Session
from arena_async.protocol.messages import Secret, printable
from arena_async.protocol.quota import DailyQuota, OnExhausted
from arena_async.protocol.state_directory import user_state_directory
from arena_async.protocol.urls import UrlPolicy
from arena_async.providers.arena.access import (
    AccessSettings,
    check_workspace,
    find_base_url,
    grant,
    read_address,
    read_credentials,
    read_number,
    written_reason,
)
from arena_async.providers.arena.adapter import ArenaAdapter
from arena_async.providers.arena.api import any_list, paginate
from arena_async.providers.arena.auth import ArenaCredentials, ArenaMachineCredentials
from arena_async.providers.arena.events import EventQueue, Events
from arena_async.providers.arena.exports import Exports
from arena_async.providers.arena.extracts import Extracts
from arena_async.providers.arena.imports import Imports
from arena_async.providers.arena.items import Files, Items
from arena_async.providers.arena.models import ApiUsage
from arena_async.providers.arena.sessions import SessionStore, store_of_user
from arena_async.providers.send_once import RequestStore

__all__ = ["ArenaClient"]


class ArenaClient(BaseClient):
    """
    Client for one Arena workspace, as one of its users may see it.

    Use it with ``async with``, or call :meth:`aclose`: that logs the user out. The login happens with the first
    request. A second login of the same user, wherever it comes from, ends the session; give every integration a user of
    its own, or let its processes share one session through a file.

    Attributes:
        extracts: The data extracts and their runs.
        exports: The export definitions and their runs.
        imports: The import definitions and their runs.
        events: The outbound events.
        event_queue: The outbound events of the older generation.
        files: The files of the vault.
        items: The items.

    Args:
        credentials: Who logs in: a person (:class:`ArenaCredentials`) or a machine user
            (:class:`ArenaMachineCredentials`). None where ``session_id`` is all there is.
        base_url: The API of the region, with its version; None for North America, or for ``region``.
        region: The region by its name in place of ``base_url``: ``us``, ``gov``, ``eu``, ``uk`` or ``cn``.
        session_id: A session that was opened elsewhere. It is never logged out; when it has expired, the credentials
            log in, or without any that is an error.
        session_store: The path of a file through which the processes of one user share their session; its name gets a
            digest of the user. The session is never logged out and expires 90 minutes after its last use, unless a
            :class:`SessionStore` says that the last one logs out. The file can be read by this user only, and is
            rejected in a directory that others may read.
        workspace_id: The workspace; None for the one the user was in last, which may be any.
        usage_reason: What the service notes as the reason of every request; None for the name of this library.
        quota_reserve: Requests of the day that are left to others.
        on_exhausted: What happens when the requests of the day are used up, down to the reserve: ``"stop"`` fails at
            once with :class:`~arena_async.QuotaExhaustedError`; ``"wait"`` waits until the reset, when one request is
            sent first and the others follow.
        state_directory: The directory of the records of what was sent to the service, by which nothing is sent twice;
            None for the state directory of the user.
        allow_http: Allow plain http, which shows the password to the whole network. Loopback needs no permission.
        settings: How it uses the network and tries again: :class:`~arena_async.ClientSettings`.

    Raises:
        ConfigurationError: One of them is wrong. Nothing was sent.
    """

    def __init__(
        self,
        credentials: ArenaCredentials | ArenaMachineCredentials | None = None,
        *,
        base_url: str | None = None,
        region: str | None = None,
        session_id: str | Secret | None = None,
        session_store: str | os.PathLike[str] | SessionStore | None = None,
        workspace_id: int | None = None,
        usage_reason: str | None = None,
        quota_reserve: int = 0,
        on_exhausted: OnExhausted = "stop",
        state_directory: str | os.PathLike[str] | None = None,
        allow_http: bool = False,
        **settings: Unpack[ClientSettings],
    ) -> None:
        check_workspace(workspace_id)
        address, reason = find_base_url(base_url, region), written_reason(usage_reason)
        urls = UrlPolicy.for_base(address, allow_http=allow_http)
        options = http_options(settings, headers={"content-type": "application/json", "Arena-Usage-Reason": reason})
        adapter = ArenaAdapter(now=options.clock.now)
        access = AccessSettings(credentials, session_id, session_store, address, workspace_id, reason)
        self._access = grant(access, adapter, options.clock)
        session = Session(
            self._access.login,
            adapter,
            DailyQuota(reserve=quota_reserve, on_exhausted=on_exhausted),
            base_url=address,
            urls=urls,
            options=options,
        )
        super().__init__(session)
        reserve, user, clock = quota_reserve, self._access.user, options.clock
        records = RequestStore(user or self._access.shown, state_directory, now=clock.now)
        timing = attrs.evolve(clock, now=session.now)
        self.extracts = Extracts(session, reserve, user, timing, records=records)
        self.exports = Exports(session, reserve, user, timing, records=records)
        self.imports = Imports(session, reserve, user, timing, records=records)
        self.events, self.event_queue = Events(session, clock), EventQueue(session, clock)
        self.files, self.items = Files(session, reserve), Items(session, reserve)

    @classmethod
    def from_env(
        cls,
        *,
        environ: Mapping[str, str] | None = None,
        session_store: str | os.PathLike[str] | SessionStore | None = None,
        shared: bool = False,
        on_exhausted: OnExhausted = "stop",
        allow_http: bool = False,
        **settings: Unpack[ClientSettings],
    ) -> Self:
        """
        Build a client from the environment.

        Credentials: ``ARENA_EMAIL`` and ``ARENA_PASSWORD`` for a person, or ``ARENA_CLIENT_ID``,
        ``ARENA_CLIENT_SECRET`` and perhaps ``ARENA_TOKEN_URL`` for a machine user, or ``ARENA_SESSION_ID`` for a
        session that is open already. Address: ``ARENA_REGION`` or ``ARENA_BASE_URL``, and ``ARENA_WORKSPACE_ID``.
        Besides: ``ARENA_USAGE_REASON``, ``ARENA_QUOTA_RESERVE`` and ``ARENA_ASYNC_STATE``, which names the state
        directory. A variable that is empty counts as not set.

        Args:
            environ: The variables; None for those of the process.
            session_store: As for the class.
            shared: Whether a person without a ``session_store`` shares the session with the other processes of this
                user of the machine, and the last one logs out. The store is in the state directory of the user, which
                ``ARENA_ASYNC_STATE`` may name; where that cannot be written, nothing is shared.
            on_exhausted: As for the class.
            allow_http: As for the class.
            settings: As for the class.

        Raises:
            ConfigurationError: One of them is missing or wrong; the message names it. Nothing was sent.
        """
        variables = os.environ if environ is None else environ
        usage_reason = variables.get("ARENA_USAGE_REASON") or None
        named_by("ARENA_USAGE_REASON", lambda: written_reason(usage_reason))
        credentials, session_id = read_credentials(variables), variables.get("ARENA_SESSION_ID", "").strip() or None
        if shared and session_store is None and session_id is None and isinstance(credentials, ArenaCredentials):
            session_store = store_of_user(variables)
        return cls(
            credentials,
            base_url=read_address(variables, allow_http=allow_http),
            session_id=session_id,
            session_store=session_store,
            workspace_id=read_number(variables, "ARENA_WORKSPACE_ID"),
            usage_reason=usage_reason,
            quota_reserve=read_number(variables, "ARENA_QUOTA_RESERVE") or 0,
            on_exhausted=on_exhausted,
            state_directory=user_state_directory(variables, sys.platform),
            allow_http=allow_http,
            **settings,
        )

    def list(
        self, path: str, *, offset: int = 0, limit: int | None = None, paged: bool | None = None, **params: object
    ) -> Paginator[dict[str, Any]]:
        """
        Return the undecoded rows of any list of the service, with the same session, quota and pages as the rest.

        ::

            async for change in arena.list("/changes", **{"lifecycleStatus.type": "OPEN"}):
                ...

        Args:
            path: The path below the base URL.
            offset: Rows to leave out at the beginning.
            limit: Rows of one page, at most 400; None for as many as the service gives.
            paged: Whether to request page by page; None for yes, but for lists that are known to come whole.
            params: The query with the vendor's names; date-times are aware, and what is None is left out.

        Raises:
            ConfigurationError: The path leaves the API, or names content, a login or a logout.
        """
        return any_list(self.session, path, params, offset=offset, limit=limit, paged=paged)

    def usages(self, *, date_from: datetime | None = None, date_to: datetime | None = None) -> Paginator[ApiUsage]:
        """
        Return the requests of the workspace: by day, user and endpoint. One request.

        Args:
            date_from: Only requests sent then or later (aware).
            date_to: Only requests sent then or earlier (aware).
        """
        query = {"dateTimeFrom": date_from, "dateTimeTo": date_to}
        return paginate(self.session, ApiUsage, "/settings/recentactivities/apiusages", query)

    async def aclose(self) -> None:
        """Log out, which takes at most 5 seconds and never fails, and close all connections. Safe to call twice."""
        try:
            await super().aclose()
        finally:
            if self._access.claim is not None:
                self._access.claim.release()

    async def __aenter__(self) -> Self:
        if self._access.claim is not None:
            self._access.claim.take()
        return self

    def __repr__(self) -> str:
        return f"<ArenaClient {printable(self._access.shown)}>"
