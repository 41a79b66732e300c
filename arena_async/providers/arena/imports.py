"""Imports of spreadsheets: definitions say how to read one, runs read it."""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from arena_async.net.pager import Pager
from arena_async.net.session import Session
from arena_async.providers.arena import routes
from arena_async.providers.arena.asking import ask, walk
from arena_async.providers.arena.files import IMPORT_PARTS, ImportFiles, ImportPart
from arena_async.providers.arena.models import ImportDefinition, ImportRun

__all__ = ["Imports"]


@attrs.frozen
class Imports:
    """
    The import definitions of the workspace and their runs.

    Everything here raises :class:`~arena_async.errors.ApiError` where the service refuses,
    :class:`~arena_async.errors.DecodeError` where it answers with something else, and
    :class:`~arena_async.errors.ConfigurationError` for a guid that cannot be sent.

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
        mode: str | None = None,
        resource: str | None = None,
        offset: int = 0,
        limit: int | None = None,
    ) -> Pager[ImportDefinition]:
        """
        Give the import definitions of the workspace. One request for each 400.

        Args:
            name: Only this name; a trailing ``*`` finds what starts with it.
            number: Only this number.
            description: Only this description; a trailing ``*`` finds what starts with it.
            creator: Only those of the user with this full name.
            creator_email: Only those of the user with this e-mail address.
            creator_guid: Only those of the user with this guid.
            mode: Only this mode, for instance ``CREATE``.
            resource: Only this resource, for instance ``ITEM_SPECS``.
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
            "mode": mode,
            "resource": resource,
        }
        return walk(self.session, routes.IMPORTS.request(params), ImportDefinition, offset=offset, limit=limit)

    async def get(self, guid: str) -> ImportDefinition:
        """Give one import definition. One request."""
        return await ask(self.session, routes.IMPORT.request(import_=guid), ImportDefinition)

    def runs(
        self,
        guid: str,
        *,
        creator: str | None = None,
        creator_email: str | None = None,
        creator_guid: str | None = None,
        number: int | None = None,
        status: str | None = None,
        offset: int = 0,
        limit: int | None = None,
    ) -> Pager[ImportRun]:
        """
        Give the runs of a definition. One request for each 400.

        Args:
            guid: The definition.
            creator: Only those of the user with this full name.
            creator_email: Only those of the user with this e-mail address.
            creator_guid: Only those of the user with this guid.
            number: Only the run of this number.
            status: Only this status, for instance ``COMPLETE``.
            offset: Rows to leave out at the beginning.
            limit: Rows of one page, at most 400.
        """
        params = {
            "creator.fullName": creator,
            "creator.email": creator_email,
            "creator.guid": creator_guid,
            "number": number,
            "status": status,
        }
        request = routes.IMPORT_RUNS.request(params, import_=guid)
        return walk(self.session, request, ImportRun, offset=offset, limit=limit)

    async def run(self, guid: str, run: str) -> ImportRun:
        """Give one run of a definition. One request."""
        return await ask(self.session, routes.IMPORT_RUN.request(import_=guid, run=run), ImportRun)

    def files(self, guid: str, run: str | None = None, *, parts: Iterable[ImportPart] = IMPORT_PARTS) -> ImportFiles:
        """
        Give the contents of completed runs, to be brought home. Sends nothing yet.

        Args:
            guid: The definition.
            run: Only this run.
            parts: Which of the three: the ``result`` and the ``error`` rows, and what was submitted (``submit``).

        Raises:
            ConfigurationError: ``parts`` is empty or has something else in it.
        """
        return ImportFiles(self.session, guid, reserve=self.reserve, run=run, parts=parts)
