"""Imports of spreadsheets: definitions say how to read one, runs read it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import attrs

from arena_async.errors import ConfigurationError, ConflictError
from arena_async.net.pager import Pager
from arena_async.net.session import Session
from arena_async.options import PollPolicy, TransferOptions
from arena_async.providers.arena import routes
from arena_async.providers.arena.asking import ask, walk
from arena_async.providers.arena.definitions import check_texts, define
from arena_async.providers.arena.fetches import Fetch
from arena_async.providers.arena.files import IMPORT_PARTS, ImportFiles, ImportPart
from arena_async.providers.arena.import_files import (
    FileType,
    ImportParameters,
    Submission,
    same_import_options,
    write_import_options,
)
from arena_async.providers.arena.models import ImportDefinition, ImportOptions, ImportRun
from arena_async.providers.arena.runs import REAL_TIME, Line, Watch
from arena_async.transfer.destination import Timing
from arena_async.transfer.events import Observer
from arena_async.transfer.started_run import Fetched, To

__all__ = ["Imports"]

#: How far the clocks may be apart where one run may not be taken for another.
_SKEW = timedelta(minutes=1)


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
        user: The e-mail address of the user, by which a run of its own is known again; or None.
        timing: Where time comes from.
        parameters: How the values that belong to a request are sent: as ``parts`` of a form and in a body, or as a
            ``query``. The vendor documents both.
    """

    session: Session = attrs.field(repr=False)
    reserve: int = 0
    user: str | None = attrs.field(default=None, repr=False)
    timing: Timing = attrs.field(default=REAL_TIME, repr=False)
    parameters: ImportParameters = "parts"

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
        Make an import definition. It cannot be removed afterwards, and only its texts can be changed. One request.

        Args:
            name: What it is called, at most 100 characters.
            resource: What a row is: ``ITEM_SPECS``, ``ITEM_BOM``, ``ITEM_FILES`` or ``FILE_SUMMARY``.
            mode: ``CREATE``, ``EDIT``, ``OVERWRITE``, ``REPLACE`` (of a BOM) or ``DELETE``.
            options: How it treats what it meets.
            description: What it is for, at most 4,000 characters.
            reuse: Look for a definition of this name first that does the same, and give that one.

        Raises:
            ConfigurationError: The service would refuse it. Nothing was sent.
            TransportError: The answer was lost, and the definition is not in the list.
        """
        check_texts(name, description)
        body: dict[str, Any] = {"name": name, **write_import_options(resource, mode, options)}
        body |= {"description": description} if description is not None else {}
        return await define(
            self.session,
            attrs.evolve(routes.IMPORT_DEFINE.request(), json=body),
            ImportDefinition,
            listed=lambda: self.search(name),
            same=lambda found: found.name == name and same_import_options(body, found),
            reuse=reuse,
            timing=self.timing,
            user=self.user,
        )

    async def rename(self, guid: str, *, name: str | None = None, description: str | None = None) -> ImportDefinition:
        """
        Change the texts of a definition; what is None stays. One request.

        Args:
            guid: The definition.
            name: What it is called from now on.
            description: What it is said to be for.

        Raises:
            ConfigurationError: There is nothing to change, or a text is empty or too long. Nothing was sent.
        """
        check_texts(name, description)
        given = {"name": name, "description": description}
        body = {word: text for word, text in given.items() if text is not None}
        if not body:
            raise ConfigurationError(f"The import {guid} is to be renamed without a new name or description.")
        request = attrs.evolve(routes.IMPORT_RENAME.request(import_=guid), json=body)
        return await ask(self.session, request, ImportDefinition)

    async def start(
        self,
        guid: str,
        file: str | os.PathLike[str],
        *,
        worksheet: str | None = None,
        commit: bool = False,
        file_type: FileType | None = None,
        content: str | os.PathLike[str] | None = None,
        poll: PollPolicy | None = None,
        watch: Watch[ImportRun] | None = None,
    ) -> ImportRun:
        """
        Upload a file and start a run with it, once: a dry run, unless ``commit`` is given. One request.

        The file is read while it is sent. When the answer is lost, the run is looked for in the list of runs; one that
        commits is never sent again.

        Args:
            guid: The definition.
            file: An XLSX or a CSV (UTF-8) file of this machine.
            worksheet: The name of the worksheet, for an XLSX file.
            commit: Change the workspace at once. There is no way back; a dry run first shows what would happen.
            file_type: What the file is, where its name does not say so: ``EXCEL_WORKSHEET`` or ``CSV``.
            content: A file with the physical files that the rows speak of, for resources that have some.
            poll: How long to go on trying, and how often; None for the usual policy.
            watch: Called with what is seen of the run.

        Raises:
            ConfigurationError: There is no such file, or it is not what it is called. Nothing was sent.
            SourceChangedError: The file was changed while it was sent; the service has not got it.
            TransportError: The answer was lost, and nobody knows whether a run was started.
        """
        submission = Submission(file, worksheet=worksheet, commit=commit, file_type=file_type, content=content)
        async with submission.opened() as opened:
            return await self._line(guid).start(opened.start(guid, self.parameters), poll=poll, watch=watch)

    async def wait(
        self,
        guid: str,
        run: str | ImportRun,
        *,
        poll: PollPolicy | None = None,
        earlier: Iterable[ImportRun] = (),
        watch: Watch[ImportRun] | None = None,
    ) -> ImportRun:
        """
        Wait until a run is done. Costs :meth:`PollPolicy.most_questions` requests at most.

        Done means that the engine has finished: look at ``has_errors``, since rows may have failed.

        Args:
            guid: The definition.
            run: The run, by its guid or as :meth:`start` gave it, which saves the first question.
            poll: How often to ask and how long to wait; None for the usual policy.
            earlier: Runs that you have listed before: asking begins when most of the time is over that they took.
            watch: Called after each question.

        Raises:
            RunFailedError: The service could not read the file, or has removed the results because of their age.
            DeadlineError: It is not done yet; it goes on at the service.
        """
        return await self._line(guid).wait(run, poll=poll, watch=watch, earlier=earlier)

    async def commit(self, guid: str, run: str, *, despite_errors: bool = False) -> ImportRun:
        """
        Let a dry run change the workspace. There is no way back. Two requests: a look at the run, and the commit.

        A run that was committed before is given as it is, so that it is safe to call this again.

        Args:
            guid: The definition.
            run: The run.
            despite_errors: Commit although rows failed; those that did not are imported.

        Raises:
            ConflictError: The run is not done, or rows of it failed. Nothing was changed.
            TransportError: The answer was lost; calling this again shows what was done.
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
                "Mend the file and check it again, or commit despite the errors."
            )
        if self.parameters == "query":
            request = routes.IMPORT_COMMIT.request({"commit": True}, import_=guid, run=run)
        else:
            request = attrs.evolve(routes.IMPORT_COMMIT.request(import_=guid, run=run), json={"commit": True})
        return await ask(self.session, request, ImportRun)

    async def complete(self, guid: str, run: str) -> ImportRun:
        """Mark a run as finished. One request."""
        return await ask(self.session, routes.IMPORT_COMPLETE.request(import_=guid, run=run), ImportRun)

    async def fetch(
        self,
        guid: str,
        file: str | os.PathLike[str],
        to: To,
        *,
        worksheet: str | None = None,
        commit: bool = False,
        file_type: FileType | None = None,
        content: str | os.PathLike[str] | None = None,
        parts: Iterable[ImportPart] = ("result", "error"),
        poll: PollPolicy | None = None,
        fresh: bool = False,
        options: TransferOptions | None = None,
        observer: Observer | None = None,
        watch: Watch[ImportRun] | None = None,
    ) -> Fetched[ImportRun]:
        """
        Upload a file, wait until its run is done, and bring the results home: a dry run, unless ``commit`` is given.

        Look at ``run.has_errors``, at ``run.warnings`` and at the error file; then :meth:`commit`. The folder remembers
        the run by the content of the file: after a crash the same call waits for that run and uploads nothing again.

        Args:
            guid: The definition.
            file: An XLSX or a CSV (UTF-8) file of this machine.
            to: The folder for the results, or a :class:`~arena_async.Mirror` of one.
            worksheet: The name of the worksheet, for an XLSX file.
            commit: Change the workspace at once. There is no way back.
            file_type: What the file is, where its name does not say so: ``EXCEL_WORKSHEET`` or ``CSV``.
            content: A file with the physical files that the rows speak of, for resources that have some.
            parts: Which contents to bring.
            poll: How often to ask and how long to wait; None for the usual policy.
            fresh: Start a run even if one with this file is under way.
            options: How files are brought home.
            observer: Called with each event of the files.
            watch: Called with what is seen of the run.

        Raises:
            ConfigurationError: There is no such file, or it is not what it is called. Nothing was sent.
            RunFailedError: The service could not read the file.
            TransfersFailedError: The run is done, and not all of its files are here; the next call fetches the rest.
            DeadlineError: The run is not done yet; the next call waits on.
        """
        submission = Submission(file, worksheet=worksheet, commit=commit, file_type=file_type, content=content)
        async with submission.opened() as opened:
            fetch = Fetch(
                line=self._line(guid),
                start=opened.start(guid, self.parameters),
                files=self.files(guid, parts=parts).of,
                name=await opened.name(),
                poll=poll,
                watch=watch,
                fresh=fresh,
            )
            return await fetch.fetch(to, options=options, observer=observer)

    def _line(self, guid: str) -> Line[ImportRun]:
        return Line(
            kind="import",
            definition=guid,
            model=ImportRun,
            session=self.session,
            one=lambda run: self.run(guid, run),
            every=lambda: aiter(self.runs(guid)),
            user=self.user,
            timing=self.timing,
            skew=_SKEW,
        )
