"""
A local Arena: sessions, the daily quota, extracts, exports, imports, files and items, as the vendor's pages have them.

Where the pages leave something open it is a switch of :class:`ArenaSimulator`; where they contradict each other the
default is what is harder on a client. What they do not say at all is decided here like this: an unknown session is
not metered, because nobody knows whose it is; a guid is well formed with 15 to 24 upper-case letters and digits;
``...From`` of extracts means after, of exports it means from; lists come newest first.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from arena_async.providers.arena import ArenaClient, ArenaCredentials
from arena_async.testing.arena.events import EventEndpoints
from arena_async.testing.arena.exports import ExportEndpoints
from arena_async.testing.arena.extracts import ExtractEndpoints
from arena_async.testing.arena.imports import ImportEndpoints
from arena_async.testing.arena.vault import VaultEndpoints
from arena_async.testing.replies import Route

__all__ = ["ArenaSimulator"]


class ArenaSimulator(ExtractEndpoints, ExportEndpoints, ImportEndpoints, VaultEndpoints, EventEndpoints):
    """
    A local Arena with one workspace; an async context manager.

    By default it holds one extract with a completed run and one zip per run, one export definition and one import
    definition with runs of their own, some vault files (with and without content) and an item.

    Args:
        files: How many extract runs of one zip each there are; or names and sizes of the zips of one single run.
        size: Bytes of a generated file, or a function from its number to that.
        exports: Completed runs of the export definition.
        imports: Completed runs of the import definition.
        quota: Requests a day that the workspace may spend.
        port: The port; 0 for any free one.
        clock: Seconds since 1970; a test hands in one that jumps.
        email: Who may log in.
        password: With what.
        workspace_id: The workspace the login lands in without asking; ``lands_in`` overrides what is asked for.
        lands_in: Log everybody into this workspace, whatever they asked for.
        client_id: The machine user, who trades this and its secret for tokens that end nobody's session.
        client_secret: Its secret.
        token_lifetime: Seconds that its tokens live.
        session_key: The spelling of the session id in the answer to a login.
        count: What ``count`` of a list says: ``"page"`` (rows in this page), ``"total"``, or any value to print as is.
        shape: How rows are wrapped: ``"results"``, ``"Results"``, ``"bare"`` (a list), and for lists without rows also
            ``"null"`` and ``"missing"``.
        paging: ``"honoured"``; ``"limit ignored"`` (20 rows at a time); ``"ignored"`` (all rows every time);
            ``"refused"`` (3200 for lists whose paging only some pages document: runs and their files).
        honours_view: Whether ``view=withFiles`` works on lists of extract runs.
        ignored_filters: Search attributes that are overlooked, so that everything is returned.
        status_names: Other spellings of run states, for instance ``{"Completed": "COMPLETED"}``.
        sizes_as_text: Whether file sizes are written as strings.
        needs_content_type: Whether a request without ``Content-Type: application/json`` is refused with 415.
        quota_headers: On which answers the quota headers come.
        gzipped: Whether JSON is gzipped for clients that accept it.
        etag: The validator of content: none (as documented), ``"strong"`` or ``"weak"``.
        ranges: Whether ``Range`` is honoured on content.
        content_md5: Whether content comes with ``Content-MD5``.
        disposition: Whether content comes with ``Content-Disposition``.
        run_polls: How often a new run is shown unfinished before it is done.
        run_seconds: Seconds until a new run is done; counts instead of ``run_polls``.
    """

    def client(self, **options: Any) -> ArenaClient:
        """
        Make a client for this simulator, its user and its workspace; it logs in with the first request.

        ``options`` are those of :class:`~arena_async.providers.arena.ArenaClient`; ``credentials`` replaces the user.
        """
        credentials = options.pop("credentials", None) or ArenaCredentials(self.email, self.password)
        return ArenaClient(credentials, **{"base_url": self.base_url, "workspace_id": self.workspace_id, **options})

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
