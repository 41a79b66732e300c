"""Data extracts: zip files of CSV tables that an administrator has scheduled."""

from __future__ import annotations

from datetime import datetime

import attrs

from arena_async.net.pager import Pager
from arena_async.net.session import Session
from arena_async.providers.arena import routes
from arena_async.providers.arena.asking import ask, walk
from arena_async.providers.arena.files import ExtractFiles
from arena_async.providers.arena.models import Extract, ExtractRun, FileAssociation

__all__ = ["Extracts"]


@attrs.frozen
class Extracts:
    """
    The data extracts of the workspace.

    Everything here raises :class:`~arena_async.errors.ApiError` where the service refuses,
    :class:`~arena_async.errors.DecodeError` where it answers with something else, and
    :class:`~arena_async.errors.ConfigurationError` for a guid or a date-time that cannot be sent.

    Args:
        session: Where to ask.
        reserve: Requests the caller wants left untouched.
    """

    session: Session = attrs.field(repr=False)
    reserve: int = 0

    def search(
        self,
        name: str | None = None,
        *,
        enabled: bool | None = None,
        creator: str | None = None,
        offset: int = 0,
        limit: int | None = None,
    ) -> Pager[Extract]:
        """
        Give the extracts of the workspace. One request for each 400.

        Args:
            name: Only this name; a trailing ``*`` finds what starts with it.
            enabled: Only those that are, or are not, enabled.
            creator: Only those of the user with this full name.
            offset: Rows to leave out at the beginning.
            limit: Rows of one page, at most 400.
        """
        request = routes.EXTRACTS.request({"name": name, "enabled": enabled, "creator.fullName": creator})
        return walk(self.session, request, Extract, offset=offset, limit=limit)

    async def get(self, guid: str) -> Extract:
        """Give one extract. One request."""
        return await ask(self.session, routes.EXTRACT.request(extract=guid), Extract)

    def runs(
        self,
        guid: str,
        *,
        status: str | None = None,
        scheduled_from: datetime | None = None,
        scheduled_to: datetime | None = None,
        run_from: datetime | None = None,
        run_to: datetime | None = None,
        completed_from: datetime | None = None,
        completed_to: datetime | None = None,
        downloaded_from: datetime | None = None,
        downloaded_to: datetime | None = None,
        with_files: bool = False,
        offset: int = 0,
        limit: int | None = None,
    ) -> Pager[ExtractRun]:
        """
        Give the runs of an extract. One request for each 400. Date-times are aware.

        Args:
            guid: The extract.
            status: Only this status, for instance ``Completed``.
            scheduled_from: Only those scheduled then or later.
            scheduled_to: Only those scheduled then or earlier.
            run_from: Only those started then or later.
            run_to: Only those started then or earlier.
            completed_from: Only those completed then or later.
            completed_to: Only those completed then or earlier.
            downloaded_from: Only those first fetched then or later.
            downloaded_to: Only those first fetched then or earlier.
            with_files: Ask for the guids of the files with each run; not every service release honours it.
            offset: Rows to leave out at the beginning.
            limit: Rows of one page, at most 400.
        """
        params = {
            "status": status,
            "scheduledDateTimeFrom": scheduled_from,
            "scheduledDateTimeTo": scheduled_to,
            "runDateTimeFrom": run_from,
            "runDateTimeTo": run_to,
            "completionDateTimeFrom": completed_from,
            "completionDateTimeTo": completed_to,
            "downloadDateTimeFrom": downloaded_from,
            "downloadDateTimeTo": downloaded_to,
            "view": "withFiles" if with_files else None,
        }
        request = routes.EXTRACT_RUNS.request(params, extract=guid)
        return walk(self.session, request, ExtractRun, offset=offset, limit=limit)

    async def run(self, guid: str, run: str) -> ExtractRun:
        """Give one run of an extract. One request."""
        return await ask(self.session, routes.EXTRACT_RUN.request(extract=guid, run=run), ExtractRun)

    async def latest_run(self, guid: str, *, with_files: bool = False) -> ExtractRun:
        """
        Give the run of an extract that was completed last. One request.

        Args:
            guid: The extract.
            with_files: Ask for the guids of its files too.
        """
        params = {"view": "withFiles" if with_files else None}
        return await ask(self.session, routes.EXTRACT_LATEST_RUN.request(params, extract=guid), ExtractRun)

    def run_files(
        self,
        guid: str,
        run: str,
        *,
        downloaded_from: datetime | None = None,
        downloaded_to: datetime | None = None,
        offset: int = 0,
        limit: int | None = None,
    ) -> Pager[FileAssociation]:
        """
        Give the files of a run with their names and sizes. One request for each 400.

        Args:
            guid: The extract.
            run: The run.
            downloaded_from: Only those first fetched then or later (aware).
            downloaded_to: Only those first fetched then or earlier (aware).
            offset: Rows to leave out at the beginning.
            limit: Rows of one page, at most 400.
        """
        params = {"downloadDateTimeFrom": downloaded_from, "downloadDateTimeTo": downloaded_to}
        request = routes.EXTRACT_RUN_FILES.request(params, extract=guid, run=run)
        return walk(self.session, request, FileAssociation, offset=offset, limit=limit)

    async def association(self, guid: str, run: str, association: str) -> FileAssociation:
        """Give one file of a run, by the guid of its association. One request."""
        request = routes.EXTRACT_ASSOCIATION.request(extract=guid, run=run, association=association)
        return await ask(self.session, request, FileAssociation)

    def files(
        self,
        guid: str | None = None,
        run: str | None = None,
        *,
        latest: bool = False,
        completed_since: datetime | None = None,
    ) -> ExtractFiles:
        """
        Give the zip files of completed runs, to be brought home. Sends nothing yet.

        Args:
            guid: The extract; None for all of the workspace.
            run: Only this run.
            latest: Only the run that was completed last. A run of a delta extract holds the changes only.
            completed_since: Only runs completed then or later (aware).

        Raises:
            ConfigurationError: ``run`` together with ``latest`` or ``completed_since``, or without ``guid``.
        """
        return ExtractFiles(
            self.session, guid, reserve=self.reserve, run=run, latest=latest, completed_since=completed_since
        )
