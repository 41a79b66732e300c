"""
A local Arena: sessions, the daily quota, extracts, exports, imports, files and items, as the vendor documents them.

What the documents leave open is a setting of :class:`ArenaSimulator`; where they contradict each other, the
default is what is harder for a client. Undocumented behavior is chosen as follows: an unknown session is
not metered; a guid is well formed with 15 to 24 upper-case letters and digits;
``...From`` of extracts means after, of exports it means from; lists are newest first.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Unpack

from arena_async.http.client import ClientSettings
from arena_async.protocol.messages import Secret
from arena_async.protocol.quota import OnExhausted
from arena_async.providers.arena import ArenaClient, ArenaCredentials, ArenaMachineCredentials, SessionStore
from arena_async.testing.arena.events import EventEndpoints
from arena_async.testing.arena.exports import ExportEndpoints
from arena_async.testing.arena.extracts import ExtractEndpoints
from arena_async.testing.arena.imports import ImportEndpoints
from arena_async.testing.arena.vault import VaultEndpoints
from arena_async.testing.replies import Route

__all__ = ["ArenaClientOptions", "ArenaSimulator"]


class ArenaClientOptions(ClientSettings, total=False):
    """The options of the client of a simulator, which are those of ``ArenaClient``."""

    credentials: ArenaCredentials | ArenaMachineCredentials | None
    base_url: str | None
    session_id: str | Secret | None
    session_store: str | os.PathLike[str] | SessionStore | None
    workspace_id: int | None
    usage_reason: str | None
    quota_reserve: int
    on_exhausted: OnExhausted
    state_directory: str | os.PathLike[str] | None
    allow_http: bool


class ArenaSimulator(ExtractEndpoints, ExportEndpoints, ImportEndpoints, VaultEndpoints, EventEndpoints):
    """
    A local Arena with one workspace; an async context manager.

    By default it has one extract with a completed run and one zip per run, one export definition and one import
    definition with runs of their own, some vault files (with and without content) and an item.

    Args:
        files: How many extract runs of one zip each there are; or names and sizes of the zips of one single run.
        size: Bytes of a generated file, or a function from its number to that.
        exports: Completed runs of the export definition.
        imports: Completed runs of the import definition.
        quota: Requests a day.
        port: The port; 0 for any free one.
        clock: Seconds since 1970; a test may pass its own.
        email: Email address of the default user.
        password: Password of the default user.
        workspace_id: The workspace of a login; ``lands_in`` overrides it.
        lands_in: Log every user into this workspace, whichever was requested.
        client_id: Client id of the machine user; its tokens do not end other sessions.
        client_secret: Client secret of the machine user.
        token_lifetime: Seconds that its tokens live.
        session_key: The name of the session id in the response to a login.
        count: The ``count`` of a list: ``"page"`` (rows in this page), ``"total"``, or any value to print as is.
        shape: How rows are wrapped: ``"results"``, ``"Results"``, ``"bare"`` (a list), and for lists without rows also
            ``"null"`` and ``"missing"``.
        paging: ``"honoured"``; ``"limit ignored"`` (20 rows at a time); ``"ignored"`` (all rows every time);
            ``"refused"`` (3200 for lists whose paging only some documents describe: runs and their files).
        honours_view: Whether ``view=withFiles`` works on lists of extract runs.
        ignored_filters: Search attributes that are ignored, so that all rows are returned.
        status_names: Other names of run statuses, for instance ``{"Completed": "COMPLETED"}``.
        sizes_as_text: Whether file sizes are written as strings.
        needs_content_type: Whether a request without ``Content-Type: application/json`` is rejected with 415.
        quota_headers: Which responses have quota headers.
        gzipped: Whether JSON is gzipped for clients that accept it.
        etag: The validator of content: none (as documented), ``"strong"`` or ``"weak"``.
        ranges: Whether ``Range`` is honoured on content.
        content_md5: Whether content has ``Content-MD5``.
        disposition: Whether content has ``Content-Disposition``.
        import_parameters: Where the values beside the file of an import are read: in the ``"query"`` (a run commits
            unless it says no, and a commit needs it there), in the ``"parts"`` and in a body, or in ``"both"``, of
            which the query counts.
        runs_shown_after: Seconds until a new run is in the list of runs.
        run_polls: Number of polls before a new run is complete.
        run_seconds: Seconds until a new run is complete; used instead of ``run_polls``.
    """

    def client(self, **options: Unpack[ArenaClientOptions]) -> ArenaClient:
        """Return a client for this simulator, its user and its workspace; it logs in with the first request."""
        options.setdefault("base_url", self.base_url)
        options.setdefault("workspace_id", self.workspace_id)
        if options.get("credentials") is None:
            options["credentials"] = ArenaCredentials(self.email, self.password)
        return ArenaClient(**options)

    def routes(self) -> Iterable[Route]:
        """Return the documented endpoints."""
        yield Route("POST", "/v1/login", self._login)
        yield Route("POST", "/oauth2/token", self._token)
        handlers = {
            "PUT /logout": self._logout,
            **self._extract_handlers(),
            **self._export_handlers(),
            **self._import_handlers(),
            **self._vault_handlers(),
            **self._event_handlers(),
        }
        for line, handler in handlers.items():
            method, _, template = line.partition(" ")
            multipart = line == "POST /imports/{import_}/runs"
            yield Route(method, f"/v1{template}", self._guarded(handler, multipart=multipart))
