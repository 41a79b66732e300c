"""Imports of spreadsheets: definitions say how to read one, runs read it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, Self

import attrs

from arena_async.errors import ConfigurationError, ConflictError
from arena_async.http.paginator import Paginator
from arena_async.http.session import Session
from arena_async.options import PollPolicy
from arena_async.protocol.files import RemoteFile
from arena_async.protocol.messages import Request
from arena_async.providers.arena.api import make_request, paginate, request_object
from arena_async.providers.arena.files import RunFiles
from arena_async.providers.arena.import_files import (
    IMPORT_PARTS,
    ImportParameters,
    ImportPart,
    Submission,
    same_import_options,
    write_import_options,
)
from arena_async.providers.arena.layout import FileFacts, Key, lay_out
from arena_async.providers.arena.models import ImportDefinition, ImportOptions, ImportRun
from arena_async.providers.arena.queries import ImportQuery, ImportRunQuery
from arena_async.providers.arena.run_service import RunService, check_texts
from arena_async.providers.arena.runs import OnStatus
from arena_async.providers.started_run import Fetched, To

__all__ = ["ImportFiles", "Imports"]

#: The extension of the submitted file; results and errors have the same format.
_EXTENSIONS = {"EXCEL_WORKSHEET": ".xlsx", "CSV": ".csv"}


@attrs.frozen
class Imports(RunService[ImportDefinition, ImportRun]):
    """
    The import definitions of the workspace and their runs.

    Args:
        parameters: How the values that belong to a request are sent: as ``parts`` of a form and in a body, or as a
            ``query``. The vendor documents both.
    """

    parameters: ImportParameters = "parts"
    _kind = "import"
    _models = (ImportDefinition, ImportRun)
    #: Where one run may not be taken for another.
    _skew = timedelta(minutes=1)

    def search(
        self, query: ImportQuery | str | None = None, *, offset: int = 0, limit: int | None = None
    ) -> Paginator[ImportDefinition]:
        """
        Return the import definitions of the workspace. One request for each 400.

        Args:
            query: Only these; a string is a name, where a trailing ``*`` finds what starts with it.
            offset: Rows to leave out at the beginning.
            limit: Rows of one page, at most 400.
        """
        return self._search(query, offset, limit)

    def runs(
        self, guid: str, query: ImportRunQuery | str | None = None, *, offset: int = 0, limit: int | None = None
    ) -> Paginator[ImportRun]:
        """
        Return the runs of a definition. One request for each 400.

        Args:
            guid: The definition.
            query: Only these; a string is a status, for instance ``COMPLETE``.
            offset: Rows to leave out at the beginning.
            limit: Rows of one page, at most 400.
        """
        return self._runs(guid, query, offset, limit)

    def files(self, guid: str, run: str | None = None, *, parts: Iterable[ImportPart] = IMPORT_PARTS) -> ImportFiles:
        """
        Return the contents of completed runs, to be downloaded. Sends nothing yet.

        Args:
            guid: The definition.
            run: Only this run.
            parts: Which of the three: the ``result`` and the ``error`` rows, and the submitted file (``submit``).

        Raises:
            ConfigurationError: ``parts`` is empty or has something else in it.
        """
        return ImportFiles(self.session, guid, reserve=self.reserve, run=run, parts=parts)

    async def define(
        self,
        name: str,
        *,
        resource: str,
        mode: str,
        options: ImportOptions | None = None,
        description: str | None = None,
        reuse: bool = False,
    ) -> ImportDefinition:
        """
        Create an import definition. It cannot be removed afterwards, and only its texts can be changed. One request.

        Args:
            name: Its name, at most 100 characters.
            resource: What a row is: ``ITEM_SPECS``, ``ITEM_BOM``, ``ITEM_FILES`` or ``FILE_SUMMARY``.
            mode: ``CREATE``, ``EDIT``, ``OVERWRITE``, ``REPLACE`` (of a BOM) or ``DELETE``.
            options: How it treats existing objects and values.
            description: What it is for, at most 4,000 characters.
            reuse: Return a definition of this name that does the same, if there is one.

        Raises:
            ConfigurationError: The service would reject it. Nothing was sent.
            TransportError: The response was lost, and the definition is not in the list.
        """
        body: dict[str, Any] = {"name": name, **write_import_options(resource, mode, options)}
        return await self._define(
            body, lambda found: same_import_options(body, found), description=description, reuse=reuse
        )

    async def rename(self, guid: str, *, name: str | None = None, description: str | None = None) -> ImportDefinition:
        """
        Change the texts of a definition; what is None stays. One request.

        Args:
            guid: The definition.
            name: The new name.
            description: The new description.

        Raises:
            ConfigurationError: There is nothing to change, or a text is empty or too long. Nothing was sent.
        """
        check_texts(name, description)
        given = {"name": name, "description": description}
        body = {field: text for field, text in given.items() if text is not None}
        if not body:
            raise ConfigurationError(f"The import {guid} is to be renamed without a new name or description.")
        return await request_object(self.session, attrs.evolve(self._request("PUT", guid), json=body), ImportDefinition)

    async def start(
        self,
        guid: str,
        file: Submission | str | os.PathLike[str],
        *,
        poll: PollPolicy | None = None,
        on_status: OnStatus[ImportRun] | None = None,
    ) -> ImportRun:
        """
        Upload a file and start a run with it, once. One request.

        The file is read while it is sent. When the response is lost, the run is looked up in the list of runs; one that
        commits is never sent again.

        Args:
            guid: The definition.
            file: The path of an XLSX or CSV (UTF-8) file for a dry run, or a :class:`Submission` of one.
            poll: How long to keep trying, and how often; None for the default policy.
            on_status: Called with the state of the run.

        Raises:
            ConfigurationError: There is no such file, or its content does not fit its name. Nothing was sent.
            SourceChangedError: The file was changed while it was sent; the service has not received it.
            TransportError: The response was lost, and it is not known whether a run was started.
        """
        async with Submission.of(file).opened() as opened:
            start = opened.start(self._request("POST", guid, "/runs"), self.parameters)
            return await self._line(guid).start(start, poll=poll, on_status=on_status)

    async def commit(self, guid: str, run: str, *, despite_errors: bool = False) -> ImportRun:
        """
        Let a dry run change the workspace, for good. Two requests: one to check the run, and the commit.

        A run that was committed before is returned as it is, so that it is safe to call this again.

        Args:
            guid: The definition.
            run: The run.
            despite_errors: Commit although rows failed; those that did not are imported.

        Raises:
            ConflictError: The run is not done, or rows of it failed. Nothing was changed.
            TransportError: The response was lost; calling this again shows what was done.
        """
        seen = await self.run(guid, run)
        if seen.commit:
            return seen
        if not seen.done:
            raise ConflictError(
                f"import run {run}: its status is {seen.status}; only a dry run that is done is committed."
            )
        if seen.has_errors and not despite_errors:
            raise ConflictError(
                f"import run {run}: {seen.error_count} of {seen.total_count} rows failed, so it was not committed. "
                "Correct the file and check it again, or commit despite the errors."
            )
        in_query = self.parameters == "query"
        request = self._request("PUT", guid, "/runs/{run}", {"commit": True} if in_query else None, run=run)
        return await request_object(
            self.session, attrs.evolve(request, json=None if in_query else {"commit": True}), ImportRun
        )

    async def complete(self, guid: str, run: str) -> ImportRun:
        """Mark a run as finished. One request."""
        return await request_object(
            self.session, self._request("PUT", guid, "/runs/{run}/complete", run=run), ImportRun
        )

    async def fetch(
        self,
        guid: str,
        file: Submission | str | os.PathLike[str],
        to: To,
        *,
        poll: PollPolicy | None = None,
        fresh: bool = False,
        on_status: OnStatus[ImportRun] | None = None,
    ) -> Fetched[ImportRun]:
        """
        Upload a file, wait until its run is done, and download the results.

        Check ``run.has_errors``, ``run.warnings`` and the error file; then :meth:`commit`. The directory records the
        run by the content of the file: after a crash the same call waits for that run and uploads nothing again.

        Args:
            guid: The definition.
            file: The path of an XLSX or CSV (UTF-8) file for a dry run, or a :class:`Submission` of one.
            to: The directory, or an open :class:`~arena_async.Mirror` of one, with its own options and observer.
            poll: How often to poll and how long to wait; None for the default policy.
            fresh: Start a run even if one with this file is under way.
            on_status: Called with the state of the run.

        Raises:
            ConfigurationError: There is no such file, or its content does not fit its name. Nothing was sent.
            RunFailedError: The service could not read the file.
            TransfersFailedError: The run is done, and some of its files are missing; the next call downloads the rest.
            DeadlineError: The run is not done yet; the next call waits on.
        """
        submission = Submission.of(file)
        async with submission.opened() as opened:
            start = attrs.evolve(
                opened.start(self._request("POST", guid, "/runs"), self.parameters), name=await opened.name()
            )
            files = self.files(guid, parts=submission.parts)
            return await self._fetch(start, files, to, poll=poll, fresh=fresh, on_status=on_status)


class ImportFiles(RunFiles[ImportRun]):
    """
    The files submitted to the runs of an import definition, and their results and errors.

    They are addressed by the run alone, so its completion is their change marker.

    Args:
        session: The session.
        definition: The guid of the definition.
        reserve: Requests that the cost estimate leaves to others.
        run: Only this run.
        parts: Which of the three contents.

    Raises:
        ConfigurationError: ``parts`` is empty or has something else in it.
    """

    kind = "imports"

    def __init__(
        self,
        session: Session,
        definition: str,
        *,
        reserve: int = 0,
        run: str | None = None,
        parts: Iterable[ImportPart] = IMPORT_PARTS,
    ) -> None:
        super().__init__(session, definition, reserve=reserve, run=run)
        given = (parts,) if isinstance(parts, str) else tuple(parts)
        if not given or set(given) - set(IMPORT_PARTS):
            raise ConfigurationError(f"imports: parts is {given!r}; it takes one or more of {', '.join(IMPORT_PARTS)}.")
        self._parts = tuple(part for part in IMPORT_PARTS if part in given)

    @property
    def scope(self) -> str:
        """The name of the query, without any secret. It is stored in the ledger."""
        if self._parts == IMPORT_PARTS:
            return super().scope
        return f"{super().scope}{'&' if self._run is not None else '?'}parts={','.join(self._parts)}"

    @property
    def narrowed(self) -> bool:
        """Whether files that exist may be missing from it."""
        return super().narrowed or self._parts != IMPORT_PARTS

    def since(self, watermark: datetime | None) -> Self:  # noqa: ARG002  the service has no such filter here
        """Return the set itself."""
        return self

    def _listing(self) -> tuple[int, bool]:
        return 1, self._run is not None

    def _content(self, key: Key) -> Request:
        import_, run, part = key.names
        path = "/imports/{import_}/runs/{run}/{part}"
        return make_request("GET", path, import_=import_, run=run, part=f"{part}Content")

    async def _one(self, definition: str, run: str) -> ImportRun:
        request = make_request("GET", "/imports/{import_}/runs/{run}", import_=definition, run=run)
        return await request_object(self._session, request, ImportRun)

    async def _pages(self, definition: str, completed_from: datetime | None) -> AsyncIterator[Sequence[ImportRun]]:  # noqa: ARG002
        request = make_request("GET", "/imports/{import_}/runs", import_=definition)
        async for page in paginate(self._session, request, ImportRun).pages():
            yield page.items

    def _listed(self, runs: Sequence[ImportRun]) -> dict[str, Sequence[FileFacts]]:
        without_errors = "no row of the run failed, so it has no error file"
        return {
            run.guid: [
                FileFacts(part, skip=without_errors if part == "error" and run.error_count == 0 else None)
                for part in self._parts
            ]
            for run in runs
        }

    def _entry(self, tenant: str, definition: str, run: ImportRun, file: FileFacts) -> RemoteFile:
        """Return the entry of a content; a dry run that is committed later gets other results at the same address."""
        completed = run.completed.isoformat() if run.completed is not None else ""
        return lay_out(
            Key(tenant, "imports", (definition, run.guid, file.guid)),
            file,
            extension=_EXTENSIONS.get((run.submit_file_type or "").upper(), ".dat"),
            change=f"{completed} commit={run.commit}",
            changed_at=run.completed,
        )
