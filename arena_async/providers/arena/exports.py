"""Exports of items: definitions say what to write, runs write it."""

from __future__ import annotations

from datetime import datetime

import attrs

from arena_async.net.pager import Pager
from arena_async.net.session import Session
from arena_async.providers.arena import routes
from arena_async.providers.arena.asking import ask, walk
from arena_async.providers.arena.files import ExportFiles
from arena_async.providers.arena.models import ArenaFile, ExportDefinition, ExportRun

__all__ = ["Exports"]


@attrs.frozen
class Exports:
    """
    The export definitions of the workspace and their runs.

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
        number: int | None = None,
        description: str | None = None,
        creator: str | None = None,
        creator_email: str | None = None,
        creator_guid: str | None = None,
        offset: int = 0,
        limit: int | None = None,
    ) -> Pager[ExportDefinition]:
        """
        Give the export definitions of the workspace. One request for each 400.

        Args:
            name: Only this name, which need not be unique; a trailing ``*`` finds what starts with it.
            number: Only this number.
            description: Only this description; a trailing ``*`` finds what starts with it.
            creator: Only those of the user with this full name.
            creator_email: Only those of the user with this e-mail address.
            creator_guid: Only those of the user with this guid.
            offset: Rows to leave out at the beginning.
            limit: Rows of one page, at most 400.
        """
        params = {
            "name": name,
            "number": number,
            "description": description,
            "creator.fullName": creator,
            "creator.email": creator_email,
            "creator.guid": creator_guid,
        }
        return walk(self.session, routes.EXPORTS.request(params), ExportDefinition, offset=offset, limit=limit)

    async def get(self, guid: str, *, include_empty_additional_attributes: bool | None = None) -> ExportDefinition:
        """
        Give one export definition. One request.

        Args:
            guid: The definition.
            include_empty_additional_attributes: Whether custom attributes without a value are shown too.
        """
        params = {"includeEmptyAdditionalAttributes": include_empty_additional_attributes}
        return await ask(self.session, routes.EXPORT.request(params, export=guid), ExportDefinition)

    def runs(
        self,
        guid: str,
        *,
        completed_from: datetime | None = None,
        completed_to: datetime | None = None,
        latest: bool | None = None,
        number: int | None = None,
        status: str | None = None,
        offset: int = 0,
        limit: int | None = None,
    ) -> Pager[ExportRun]:
        """
        Give the runs of a definition. One request for each 400. Date-times are aware.

        Args:
            guid: The definition.
            completed_from: Only those completed then or later.
            completed_to: Only those completed then or earlier.
            latest: True for the run that was completed last (``latestCompleted``).
            number: Only the run of this number.
            status: Only this status, for instance ``COMPLETE``.
            offset: Rows to leave out at the beginning.
            limit: Rows of one page, at most 400.
        """
        params = {
            "completionDateTimeFrom": completed_from,
            "completionDateTimeTo": completed_to,
            "latestCompleted": latest,
            "number": number,
            "status": status,
        }
        request = routes.EXPORT_RUNS.request(params, export=guid)
        return walk(self.session, request, ExportRun, offset=offset, limit=limit)

    async def run(self, guid: str, run: str) -> ExportRun:
        """
        Give one run of a definition. One request.

        Raises:
            PermissionDeniedError: Another user started it, or it does not exist.
        """
        return await ask(self.session, routes.EXPORT_RUN.request(export=guid, run=run), ExportRun)

    async def file(self, guid: str, run: str, file: str) -> ArenaFile:
        """Give name, size and the other facts of one file of a run. One request."""
        return await ask(self.session, routes.EXPORT_FILE.request(export=guid, run=run, file=file), ArenaFile)

    def files(
        self,
        guid: str,
        run: str | None = None,
        *,
        latest: bool = False,
        completed_since: datetime | None = None,
    ) -> ExportFiles:
        """
        Give the zip files of completed runs, to be brought home. Sends nothing yet.

        Only the user who started a run may fetch its files, and the service keeps them for 60 days.

        Args:
            guid: The definition.
            run: Only this run.
            latest: Only the run that was completed last.
            completed_since: Only runs completed then or later (aware).

        Raises:
            ConfigurationError: ``run`` together with ``latest`` or ``completed_since``.
        """
        return ExportFiles(
            self.session, guid, reserve=self.reserve, run=run, latest=latest, completed_since=completed_since
        )
