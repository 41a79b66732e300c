"""Data extracts: zip files of CSV tables on a schedule that an administrator has set up."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Final

import attrs

from arena_async.errors import ApiError
from arena_async.http.paginator import Paginator
from arena_async.options import PollPolicy
from arena_async.protocol.messages import printable
from arena_async.providers.arena.api import get_object, make_request, paginate, tenant_of
from arena_async.providers.arena.fetch import Start, Starting, fetch_of
from arena_async.providers.arena.files import FileFacts
from arena_async.providers.arena.models import Extract, ExtractRun, FileAssociation, status_word
from arena_async.providers.arena.queries import ExtractRunQuery
from arena_async.providers.arena.runs import OnStatus, RunService
from arena_async.providers.arena.zip_files import ZipFiles
from arena_async.providers.started_run import Fetched, To

__all__ = ["ExtractFiles", "Extracts"]

_log = logging.getLogger("arena_async")

#: Rejections of a query that an endpoint does not know: unknown attribute, not searchable, no query at all.
_QUERY_REJECTED: Final = frozenset({3004, 3018, 3019, 3096, 3200, 4074})


@attrs.frozen
class Extracts(RunService[Extract, ExtractRun, ExtractRunQuery]):
    """The data extracts of the workspace and their runs."""

    kind = "extract"
    models = (Extract, ExtractRun)

    def search(
        self,
        name: str | None = None,
        *,
        enabled: bool | None = None,
        creator: str | None = None,
        offset: int = 0,
        limit: int | None = None,
    ) -> Paginator[Extract]:
        """
        Return the extracts of the workspace. One request for each 400.

        Args:
            name: Only this name; a trailing ``*`` finds what starts with it.
            enabled: Only those that are, or are not, enabled.
            creator: Only those of the user with this full name.
            offset: Rows to leave out at the beginning.
            limit: Rows of one page, at most 400.
        """
        query = {"name": name, "enabled": enabled, "creator.fullName": creator}
        return paginate(self.session, Extract, "/extracts", query, offset=offset, limit=limit)

    async def latest_run(self, guid: str, *, with_files: bool = False) -> ExtractRun:
        """
        Return the run of an extract that was completed last. One request.

        Args:
            guid: The extract.
            with_files: Request the guids of its files too.
        """
        query = {"view": "withFiles" if with_files else None}
        return await get_object(self.session, ExtractRun, f"{self.path(guid)}/runs/latestCompleted", query)

    def run_files(
        self,
        guid: str,
        run: str,
        *,
        downloaded_from: datetime | None = None,
        downloaded_to: datetime | None = None,
        offset: int = 0,
        limit: int | None = None,
    ) -> Paginator[FileAssociation]:
        """
        Return the files of a run with their names and sizes. One request for each 400.

        Args:
            guid: The extract.
            run: The run.
            downloaded_from: Only those first downloaded then or later (aware).
            downloaded_to: Only those first downloaded then or earlier (aware).
            offset: Rows to leave out at the beginning.
            limit: Rows of one page, at most 400.
        """
        query = {"downloadDateTimeFrom": downloaded_from, "downloadDateTimeTo": downloaded_to}
        path = f"{self.path(guid)}/runs/{{run}}/files"
        return paginate(self.session, FileAssociation, path, query, offset=offset, limit=limit, run=run)

    async def association(self, guid: str, run: str, association: str) -> FileAssociation:
        """Return one file of a run, by the guid of its association. One request."""
        path = f"{self.path(guid)}/runs/{{run}}/files/{{association}}"
        return await get_object(self.session, FileAssociation, path, run=run, association=association)

    def files(
        self,
        guid: str | None = None,
        run: str | None = None,
        *,
        latest: bool = False,
        completed_from: datetime | None = None,
    ) -> ExtractFiles:
        """
        Return the zip files of completed runs, to be downloaded. Sends nothing yet.

        Args:
            guid: The extract; None for all of the workspace.
            run: Only this run.
            latest: Only the run that was completed last. A run of a delta extract contains the changes only.
            completed_from: Only runs completed then or later (aware).

        Raises:
            ConfigurationError: ``run`` together with ``latest`` or ``completed_from``, or without ``guid``.
        """
        return ExtractFiles(self, guid, run=run, latest=latest, completed_from=completed_from)

    async def start(
        self,
        guid: str,
        *,
        poll: PollPolicy | None = None,
        start_anew: bool = False,
        on_status: OnStatus[ExtractRun] | None = None,
    ) -> ExtractRun:
        """
        Start a run of an extract, once. One request, and more only after a failure.

        When the response is lost, also by an earlier process, the run is looked up in the list of runs before anything
        is sent again.

        Args:
            guid: The extract.
            poll: How long to keep trying, and how often; None for the default policy.
            start_anew: Start a run whatever is known about an earlier one: a person has decided so.
            on_status: Called with the state of the run.

        Raises:
            TransportError: The response was lost, and it is not known whether a run was started.
        """
        return await self._start(
            guid, Starting[ExtractRun](poll=poll, start_anew=start_anew, on_status=on_status)
        ).send()

    async def fetch(
        self,
        guid: str,
        to: To,
        *,
        poll: PollPolicy | None = None,
        start_anew: bool = False,
        on_status: OnStatus[ExtractRun] | None = None,
    ) -> Fetched[ExtractRun]:
        """
        Start a run, wait until it is done, and download its files, verified. All of them, or an error.

        The run is recorded from its start: after a crash, or an error, the same call waits for that run and starts no
        other.

        Args:
            guid: The extract.
            to: The directory, or an open :class:`~arena_async.Mirror` of one, with its own options and observer.
            poll: How often to poll and how long to wait; None for the default policy.
            start_anew: Start a run whatever is known about an earlier one: a person has decided so.
            on_status: Called with the state of the run.

        Raises:
            RunFailedError: The run failed; the next call starts another one.
            TransfersFailedError: The run is done, and some of its files are missing; the next call downloads the rest.
            DeadlineError: The run is not done yet; the next call waits on.
            DestinationBusyError: The directory belongs to another workspace.
        """
        wanted = Starting[ExtractRun](poll=poll, start_anew=start_anew, on_status=on_status)
        return await fetch_of(self._start(guid, wanted), self.files(guid)).fetch(to)

    def _start(self, guid: str, wanted: Starting[ExtractRun]) -> Start[ExtractRun]:
        request = make_request("POST", f"{self.path(guid)}/runs", json={})
        return Start(service=self, definition=guid, request=request, wanted=wanted)


@attrs.define(eq=False, repr=False)
class ExtractFiles(ZipFiles[ExtractRun]):
    """The zip files of data extract runs; of all extracts without ``definition``, which costs one more request."""

    _kind = "extracts"
    _fields = ("extract", "run", "association")
    _content_path = "/extracts/{extract}/runs/{run}/files/{association}/content"

    def _listing(self) -> tuple[int, bool]:
        return (1, self._latest) if self.definition is not None else (2, False)

    async def _one_to_find(self, definition: str, run: str) -> ExtractRun:  # noqa: ARG002
        # The list of its files is enough.
        return ExtractRun(guid=run)

    async def _pages(
        self, definition: str, completed_from: datetime | None = None, *, latest: bool = False
    ) -> AsyncIterator[Sequence[ExtractRun]]:
        """
        Return the runs with their files if the endpoint knows that view, else without.

        Only the vendor's collection of example requests uses the view here; the pages document it for the latest run.
        """
        session, path = self._service.session, "/extracts/{extract}/runs"
        query: dict[str, object] = {"view": "withFiles"}
        if latest:
            run = await get_object(session, ExtractRun, f"{path}/latestCompleted", query, extract=definition)
            if "delta" in status_word(run.type):
                _log.warning(
                    "Extract %s: its latest run %s is a delta run, which contains the changes only. Without `latest` "
                    "the last full run and all deltas after it are downloaded.",
                    printable(definition),
                    printable(run.guid),
                )
            yield [run]
            return
        # Whether the service knows the view is a fact about it, which costs a request each time it is found out.
        fact = f"{self._key(await tenant_of(self._service))}?view"
        known = {} if self._facts is None else await self._facts.recall([fact])
        for view in (None,) if known else ("withFiles", None):
            query = {"completionDateTimeFrom": completed_from, "view": view}
            started = False
            try:
                async for page in paginate(session, ExtractRun, path, query, extract=definition).pages():
                    started = True
                    yield page.items
                return
            except ApiError as error:
                if started or view is None or error.code not in _QUERY_REJECTED:
                    raise
            if self._facts is not None:
                await self._facts.keep({fact: "refused"})

    def _listed(self, runs: Sequence[ExtractRun]) -> dict[str, Sequence[FileFacts]]:
        """An empty list counts when another run of the page has files: then the service supports the view."""
        supported = any(run.files for run in runs)
        return {
            run.guid: [_facts_of(association) for association in run.files or ()]
            for run in runs
            if run.files or (supported and run.files is not None)
        }

    async def _request_files(self, definition: str, run: ExtractRun) -> AsyncIterator[FileFacts]:
        session, path = self._service.session, "/extracts/{extract}/runs/{run}/files"
        async for association in paginate(session, FileAssociation, path, extract=definition, run=run.guid):
            yield _facts_of(association)


def _facts_of(association: FileAssociation) -> FileFacts:
    file = association.file
    return FileFacts(association.guid, *((file.name, file.size, file.no_content) if file else ()))
