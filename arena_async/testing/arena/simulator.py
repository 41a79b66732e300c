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
from arena_async.testing.arena.access import Handler
from arena_async.testing.arena.events import OutboundEvents
from arena_async.testing.arena.runs import Runs
from arena_async.testing.arena.vault import Vault
from arena_async.testing.server import Route

__all__ = ["ArenaSimulator"]


class ArenaSimulator(Runs, Vault, OutboundEvents):
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
        """Give the documented end points."""
        yield Route("POST", "/v1/login", self._login)
        yield Route("POST", "/oauth2/token", self._token)
        for line, handler in {**self._table_of_handlers(), **self._table_of_events()}.items():
            method, _, template = line.partition(" ")
            multipart = line == "POST /imports/{import_}/runs"
            yield Route(method, f"/v1{template}", self._guarded(handler, multipart=multipart))

    def _table_of_handlers(self) -> dict[str, Handler]:
        """Give the end points that need a session; the more particular ones first."""
        return {
            "PUT /logout": self._logout,
            "GET /extracts": self._extracts,
            "GET /extracts/{extract}": self._extract,
            "GET /extracts/{extract}/ownerusers": self._extract_owners,
            "GET /extracts/{extract}/runs": self._extract_runs,
            "POST /extracts/{extract}/runs": self._start_extract,
            "GET /extracts/{extract}/runs/latestCompleted": self._latest_extract_run,
            "GET /extracts/{extract}/runs/{run}": self._one_extract_run,
            "GET /extracts/{extract}/runs/{run}/files": self._extract_files,
            "GET /extracts/{extract}/runs/{run}/files/{file}": self._extract_file,
            "GET /extracts/{extract}/runs/{run}/files/{file}/content": self._extract_content,
            "GET /exports": self._exports,
            "POST /exports": self._define_export,
            "GET /exports/{export}": self._export,
            "GET /exports/{export}/runs": self._export_runs,
            "POST /exports/{export}/runs": self._start_export,
            "GET /exports/{export}/runs/latestCompleted": self._latest_export_run,
            "GET /exports/{export}/runs/{run}": self._one_export_run,
            "GET /exports/{export}/runs/{run}/files/{file}": self._export_file,
            "GET /exports/{export}/runs/{run}/files/{file}/content": self._export_content,
            "GET /imports": self._imports,
            "POST /imports": self._define_import,
            "GET /imports/{import_}": self._import,
            "PUT /imports/{import_}": self._rename_import,
            "GET /imports/{import_}/runs": self._import_runs,
            "POST /imports/{import_}/runs": self._start_import,
            "GET /imports/{import_}/runs/{run}": self._one_import_run,
            "PUT /imports/{import_}/runs/{run}": self._commit_import,
            "PUT /imports/{import_}/runs/{run}/complete": self._complete_import,
            "GET /imports/{import_}/runs/{run}/submitContent": self._submit_content,
            "GET /imports/{import_}/runs/{run}/resultContent": self._result_content,
            "GET /imports/{import_}/runs/{run}/errorContent": self._error_content,
            "GET /files": self._files,
            "GET /files/{file}": self._file,
            "GET /files/{file}/editions": self._editions,
            "GET /files/{file}/content": self._file_content,
            "GET /items": self._items,
            "GET /items/{item}": self._item,
            "GET /items/{item}/files": self._item_files,
            "GET /items/{item}/files/{file}": self._item_file,
            "GET /items/{item}/files/{file}/content": self._item_file_content,
            "GET /settings/recentactivities/apiusages": self._usages,
            "GET /settings/exports/attributes": self._export_attributes,
        }

    def _table_of_events(self) -> dict[str, Handler]:
        """Give the end points of outbound events, of both generations."""
        return {
            "GET /outboundevents": self._integrations,
            "GET /outboundevents/{integration}": self._integration,
            "GET /outboundevents/{integration}/triggers": self._triggers,
            "GET /outboundevents/{integration}/events": self._events,
            "GET /outboundevents/{integration}/events/{event}": self._one_event,
            "PUT /outboundevents/{integration}/events/{event}": self._settle_event,
            "GET /outboundevents/{integration}/events/{event}/{kind}": self._resources,
            "GET /outboundevents/{integration}/events/{event}/{kind}/{resource}": self._resource,
            "PUT /outboundevents/{integration}/events/{event}/{kind}/{resource}": self._settle_resource,
            "GET /outboundintegrations": self._queues,
            "GET /outboundintegrations/{queue}/events": self._queue_events,
            "GET /outboundintegrations/{queue}/events/{event}": self._queue_event,
            "PUT /outboundintegrations/{queue}/events/{event}": self._settle_queue_event,
            "GET /outboundintegrations/{queue}/events/{event}/items": self._queue_items,
            "GET /outboundintegrations/{queue}/events/{event}/itemguids": self._queue_item_guids,
        }
