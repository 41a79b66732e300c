"""
Imports of spreadsheets: definitions describe how to read one, runs read it.

The file of a run is checked before anything is sent. https://github.com/ptc-arena/arena-restapi-doc documents the
values beside it as parts of the form, the vendor's OpenAPI document documents them as a query, where a run commits by
default. They are sent both ways, and what a response says about the commit is compared with what was requested.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import PurePath
from typing import Any, Final, Literal, Self, get_args

import attrs

from arena_async.errors import (
    ApiError,
    ConfigurationError,
    ConflictError,
    DeadlineError,
    NotAsRequestedError,
    NotFoundError,
    TransportError,
)
from arena_async.http.paginator import Paginator
from arena_async.http.polling import wait_until
from arena_async.http.session import request_object
from arena_async.options import PollPolicy
from arena_async.protocol.files import RemoteFile
from arena_async.protocol.messages import UploadBody, UploadedFile, printable
from arena_async.protocol.request_records import RequestRecord, RequestRecords, record_name
from arena_async.providers.arena.api import known_word, make_request, write_fields
from arena_async.providers.arena.fetch import Start, Starting, fetch_of
from arena_async.providers.arena.files import FileFacts, RunFiles
from arena_async.providers.arena.models import ImportDefinition, ImportOptions, ImportRun, status_word
from arena_async.providers.arena.queries import ImportQuery, ImportRunQuery
from arena_async.providers.arena.runs import OnStatus, RunService, Wanted, check_texts
from arena_async.providers.send_once import SendOnce
from arena_async.providers.started_run import Fetched, To
from arena_async.transfer.local_files import LocalFile

__all__ = ["FileType", "ImportFiles", "ImportPart", "Imports", "Submission"]

ImportPart = Literal["result", "error", "submit"]
#: Every content of an import run.
_IMPORT_PARTS: Final[tuple[ImportPart, ...]] = get_args(ImportPart)
FileType = Literal["EXCEL_WORKSHEET", "CSV"]

#: The extension of the submitted file; results and errors have the same format.
_EXTENSIONS: Final = {"EXCEL_WORKSHEET": ".xlsx", "CSV": ".csv"}
_BY_SUFFIX: Final[dict[str, FileType]] = {".xlsx": "EXCEL_WORKSHEET", ".csv": "CSV"}
_MEDIA: Final = {
    "EXCEL_WORKSHEET": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "CSV": "text/csv",
}
_ZIP, _OLD_EXCEL = b"PK\x03\x04", b"\xd0\xcf\x11\xe0"
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")

#: How a run is looked up that does not say whether it commits.
_SAID: Final = PollPolicy(every=2.0, max_interval=10.0, timeout=20.0)

_RESOURCES: Final = ("ITEM_SPECS", "ITEM_BOM", "ITEM_FILES", "FILE_SUMMARY")
_MODES: Final = ("CREATE", "EDIT", "OVERWRITE", "REPLACE", "DELETE")


@attrs.frozen
class Submission:
    """
    A file for an import run, and what the run does with it.

    Args:
        file: The path of an XLSX or CSV (UTF-8) file.
        worksheet: The name of the worksheet, for an XLSX file.
        commit: Change the workspace at once, for good; a dry run first shows what would happen.
        file_type: ``EXCEL_WORKSHEET`` or ``CSV``, where the file name does not show it.
        content: A file with the physical files that the rows name, for resources that have some.
        parts: Which contents of the run ``fetch`` downloads.
    """

    file: str | os.PathLike[str]
    worksheet: str | None = attrs.field(default=None, kw_only=True)
    commit: bool = attrs.field(default=False, kw_only=True)
    file_type: FileType | None = attrs.field(default=None, kw_only=True)
    content: str | os.PathLike[str] | None = attrs.field(default=None, kw_only=True)
    parts: tuple[ImportPart, ...] = attrs.field(default=("result", "error"), kw_only=True)

    @classmethod
    def of(cls, file: Self | str | os.PathLike[str]) -> Self:
        """Return a submission as it is, or a dry run of a file."""
        return file if isinstance(file, cls) else cls(file)  # type: ignore[arg-type]

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[_Opened]:
        """
        Open and check what is sent.

        Raises:
            ConfigurationError: There is no such file, or it is not what it is called.
        """
        kind = self._kind()
        async with AsyncExitStack() as stack:
            file = await stack.enter_async_context(await LocalFile.open(self.file))
            _check(file.name, kind, await file.head(4))
            content = None
            if self.content is not None:
                content = await stack.enter_async_context(await LocalFile.open(self.content))
            yield _Opened(self, kind, file, content)

    def _kind(self) -> FileType:
        """Return the type of the file."""
        name = PurePath(self.file).name
        if self.file_type is not None and self.file_type not in _MEDIA:
            raise ConfigurationError(f"file_type is {self.file_type!r}; it takes one of {', '.join(_MEDIA)}.")
        kind = self.file_type or _BY_SUFFIX.get(PurePath(self.file).suffix.lower())
        if kind is None:
            raise ConfigurationError(
                f"{printable(name)}: an import takes .xlsx and .csv files. For another name, give file_type."
            )
        if kind == "CSV" and self.worksheet is not None:
            raise ConfigurationError(f"{printable(name)}: a CSV file has no worksheets; leave the worksheet out.")
        return kind


def _check(name: str, kind: FileType, head: bytes) -> None:
    """Raise for a file that the service cannot read, by its first bytes."""
    problem = None
    if not head:
        problem = "it is empty"
    elif head == _OLD_EXCEL:
        problem = "it is an .xls file of an old Excel; save it as .xlsx"
    elif kind == "EXCEL_WORKSHEET" and head != _ZIP:
        problem = "it is no XLSX file"
    elif kind == "CSV" and head == _ZIP:
        problem = "it is an XLSX file, or another kind of zip, and no CSV"
    elif kind == "CSV" and head.startswith(_UTF_16):
        problem = "it is written in UTF-16, and the service reads UTF-8"
    if problem is not None:
        raise ConfigurationError(f"{printable(name)}: {problem}. Nothing was sent.")


@attrs.frozen
class _Opened:
    """An open submission, ready to be sent."""

    requested: Submission
    kind: FileType
    file: LocalFile
    content: LocalFile | None

    async def start(self, service: Imports, guid: str, wanted: Starting[ImportRun]) -> Start[ImportRun]:
        """Return how a run with it is started; one that commits is not sent twice."""
        requested = self.requested
        values = {
            "submitFileType": self.kind,
            "submitWorksheetName": requested.worksheet,
            "commit": str(requested.commit).lower(),
        }
        files = [_part("submitContent", self.file, _MEDIA[self.kind])]
        files += [_part("fileContent", self.content)] if self.content is not None else []
        form = UploadBody(fields=values, files=files)
        request = make_request("POST", f"{service.path(guid)}/runs", values)
        return Start(
            service=service,
            definition=guid,
            request=attrs.evolve(request, upload=form),
            wanted=wanted,
            like=self._like,
            wrong=lambda run: run.commit is not None and run.commit != requested.commit,
            proves=lambda run: self._is_of(service, guid, run),
            check=lambda run: service.checked(guid, run, commit=requested.commit),
            alike=False,
            repeatable=not requested.commit,
            name=await self._name(),
        )

    async def _name(self) -> str:
        """Return what distinguishes this submission from others to the same definition."""
        digests = [await file.sha256() for file in (self.file, self.content) if file is not None]
        return "-".join(
            [*digests, self.kind, "commit" if self.requested.commit else "check", self.requested.worksheet or ""]
        )

    async def _is_of(self, service: Imports, guid: str, run: ImportRun) -> bool:
        """
        Return whether the service shows that this was submitted to a run. One request.

        False with physical files: they are not shown, and two submissions may differ in those alone.
        """
        if self.content is None:
            request = make_request("GET", f"{service.path(guid)}/runs/{{run}}/submitContent", run=run.guid)
            with suppress(ApiError, TransportError):
                async with await service.session.stream(request) as opened:
                    return await self.file.equals(opened.stream.read)
        return False

    def _like(self, run: ImportRun) -> bool:
        """Return whether a run may have been started with this."""
        return run.submit_file_type in (None, self.kind) and run.submit_worksheet_name in (
            None,
            self.requested.worksheet,
        )


def _part(name: str, file: LocalFile, media: str = "application/octet-stream") -> UploadedFile:
    """Return the part of a file; characters that are not valid in a header are replaced in its name."""
    shown = "".join(letter if letter.isprintable() else "_" for letter in file.name)
    return UploadedFile(part=name, name=shown, size=file.size, content_type=media, read=file.pieces)


@attrs.frozen
class Imports(RunService[ImportDefinition, ImportRun, ImportRunQuery]):
    """The import definitions of the workspace and their runs."""

    kind = "import"
    models = (ImportDefinition, ImportRun)

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

    def files(self, guid: str, run: str | None = None, *, parts: Iterable[ImportPart] = _IMPORT_PARTS) -> ImportFiles:
        """
        Return the contents of completed runs, to be downloaded. Sends nothing yet.

        Args:
            guid: The definition.
            run: Only this run.
            parts: Which of the three: the ``result`` and the ``error`` rows, and the submitted file (``submit``).

        Raises:
            ConfigurationError: ``parts`` is empty or has something else in it.
        """
        return ImportFiles(self, guid, run=run, parts=parts)

    async def define(
        self,
        name: str,
        *,
        resource: str,
        mode: str,
        options: ImportOptions | None = None,
        description: str | None = None,
        reuse: bool = False,
        start_anew: bool = False,
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
            start_anew: Create it even if it is not known what became of an earlier request for it.

        Raises:
            ConfigurationError: The service would reject it. Nothing was sent.
            NotAsRequestedError: What was created does something else.
            TransportError: The response was lost, and the definition is not in the list.
        """
        body: dict[str, Any] = {"name": name, **_write_definition(resource, mode, options)}
        wanted = Wanted(description=description, reuse=reuse, start_anew=start_anew)
        return await self._define(
            body, lambda found: _does_the_same(body, found), lambda made: _contradicts(body, made), wanted
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
            NotAsRequestedError: The service shows another text than requested.
        """
        check_texts(name, description)
        given = {"name": name, "description": description}
        body = {field: text for field, text in given.items() if text is not None}
        if not body:
            raise ConfigurationError(f"The import {guid} is to be renamed without a new name or description.")
        found = await request_object(self.session, make_request("PUT", self.path(guid), json=body), ImportDefinition)
        if any(getattr(found, field) is None for field in body):
            found = await self.get(guid)
        if any(getattr(found, field) != text for field, text in body.items()):
            raise NotAsRequestedError(
                f"The import {guid} was to be renamed, and the service shows the name {printable(str(found.name))!r} "
                "and a description that may be another one, too. Look at it, and rename it again.",
                result=found,
            )
        return found

    async def start(
        self,
        guid: str,
        file: Submission | str | os.PathLike[str],
        *,
        poll: PollPolicy | None = None,
        start_anew: bool = False,
        on_status: OnStatus[ImportRun] | None = None,
    ) -> ImportRun:
        """
        Upload a file and start a run with it, once. One request.

        The file is read before, and while it is sent. When the response is lost, also by an earlier process, the run is
        looked up in the list of runs; one that commits is never sent again.

        Args:
            guid: The definition.
            file: The path of an XLSX or CSV (UTF-8) file for a dry run, or a :class:`Submission` of one.
            poll: How long to keep trying, and how often; None for the default policy.
            start_anew: Send it whatever is known about an earlier one: a person has decided so.
            on_status: Called with the state of the run.

        Raises:
            ConfigurationError: There is no such file, or its content does not fit its name. Nothing was sent.
            SourceChangedError: The file was changed while it was sent; the service has not received it.
            StorageError: One that commits could not be recorded before it is sent. Nothing was sent.
            NotAsRequestedError: The service has committed a dry run, or has not committed what was to be committed.
            TransportError: The response was lost, and it is not known whether a run was started.
        """
        async with Submission.of(file).opened() as opened:
            wanted = Starting[ImportRun](poll=poll, start_anew=start_anew, on_status=on_status)
            return await (await opened.start(self, guid, wanted)).send()

    async def commit(self, guid: str, run: str, *, despite_errors: bool = False, start_anew: bool = False) -> ImportRun:
        """
        Apply a dry run to the workspace, permanently. Two requests: one to check the run, and the commit.

        A run that was committed before is returned as it is, so that it is safe to call this again. Where it is not
        known what became of an earlier commit, the run is looked at for ten minutes, and nothing is sent again.

        Args:
            guid: The definition.
            run: The run.
            despite_errors: Commit although rows failed; those that did not are imported.
            start_anew: Send it whatever is known about an earlier one: a person has decided so.

        Raises:
            ConflictError: The run is not done, or rows of it failed. Nothing was changed.
            StorageError: The commit could not be recorded before it is sent. Nothing was sent.
            NotAsRequestedError: The service responds that the run is not committed.
            TransportError: It is not known whether it was committed; calling this again shows what was done.
        """
        since = self.records.now()
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
        request = make_request(
            "PUT", f"{self.path(guid)}/runs/{{run}}", {"commit": "true"}, json={"commit": True}, run=run
        )

        async def committed(_: RequestRecord, __: RequestRecords | None = None) -> ImportRun | None:
            found = await self.run(guid, run)
            return found if found.commit else None

        once: SendOnce[ImportRun] = self._once(
            scope=await self.scope(guid),
            name=record_name("commit", run),
            what=f"The commit of import run {run}",
            since=since,
            send=lambda: request_object(self.session, request, ImportRun),
            find=committed,
            id_of=lambda _: run,
            read=committed,
            resumes=True,
            recorded=True,
            start_anew=start_anew,
        )
        return await self.checked(guid, await once.step(), commit=True)

    async def checked(self, guid: str, run: ImportRun | None, *, commit: bool) -> ImportRun:
        """
        Return a run that does what was requested; one that does not say whether it commits is looked up.

        Raises:
            NotAsRequestedError: It does something else, or does not say.
        """
        seen = run
        if run is not None and run.commit is None:

            async def look() -> ImportRun | None:
                try:
                    return await self.run(guid, run.guid)
                except NotFoundError:
                    return None

            with suppress(DeadlineError):
                seen = await wait_until(
                    look, lambda one: one is not None and one.commit is not None, _SAID, clock=self.timing
                )
        if run is not None and seen is not None and seen.guid == run.guid and seen.commit is commit:
            return seen
        said = None if seen is None else seen.commit
        happened = {
            True: "a dry run was requested, and the service has committed it: the workspace is changed for good",
            False: "it was to be committed, and the service responds that it is not: the workspace seems unchanged",
            None: "the service does not say whether it is committed: the workspace may be changed",
        }[said]
        raise NotAsRequestedError(
            f"import run {run.guid if run is not None else 'of ' + guid}: {happened}. Look at the run and at what it "
            "imported before you send anything else.",
            result=seen,
        )

    async def complete(self, guid: str, run: str) -> ImportRun:
        """Mark a run as finished. One request."""
        request = make_request("PUT", f"{self.path(guid)}/runs/{{run}}/complete", run=run)
        found = await request_object(self.session, request, ImportRun)
        if found.guid != run or (found.status is not None and not found.over):
            raise NotAsRequestedError(
                f"import run {run}: it was to be marked as finished, and the service shows run {found.guid} as "
                f"{found.status}. Look at it.",
                result=found,
            )
        return found

    async def fetch(
        self,
        guid: str,
        file: Submission | str | os.PathLike[str],
        to: To,
        *,
        poll: PollPolicy | None = None,
        start_anew: bool = False,
        on_status: OnStatus[ImportRun] | None = None,
    ) -> Fetched[ImportRun]:
        """
        Upload a file, wait until its run is done, and download the results.

        Check ``run.has_errors``, ``run.warnings`` and the error file; then :meth:`commit`. The run is recorded by the
        content of the file: after a crash the same call waits for that run and uploads nothing again.

        Args:
            guid: The definition.
            file: The path of an XLSX or CSV (UTF-8) file for a dry run, or a :class:`Submission` of one.
            to: The directory, or an open :class:`~arena_async.Mirror` of one, with its own options and observer.
            poll: How often to poll and how long to wait; None for the default policy.
            start_anew: Send it whatever is known about an earlier one: a person has decided so.
            on_status: Called with the state of the run.

        Raises:
            ConfigurationError: There is no such file, or its content does not fit its name. Nothing was sent.
            RunFailedError: The service could not read the file.
            StorageError: One that commits could not be recorded before it is sent. Nothing was sent.
            NotAsRequestedError: The service has committed a dry run, or has not committed what was to be committed.
            TransfersFailedError: The run is done, and some of its files are missing; the next call downloads the rest.
            DeadlineError: The run is not done yet; the next call waits on.
        """
        submission = Submission.of(file)
        async with submission.opened() as opened:
            start = await opened.start(
                self, guid, Starting[ImportRun](poll=poll, start_anew=start_anew, on_status=on_status)
            )
            return await fetch_of(start, self.files(guid, parts=submission.parts)).fetch(to)


def _check_parts(parts: Iterable[ImportPart]) -> tuple[ImportPart, ...]:
    """Return the parts in a fixed order, after a check."""
    given = (parts,) if isinstance(parts, str) else tuple(parts)
    if not given or set(given) - set(_IMPORT_PARTS):
        raise ConfigurationError(f"imports: parts is {given!r}; it takes one or more of {', '.join(_IMPORT_PARTS)}.")
    return tuple(part for part in _IMPORT_PARTS if part in given)


@attrs.define(eq=False, repr=False)
class ImportFiles(RunFiles[ImportRun]):
    """
    The files submitted to the runs of an import definition, and their results and errors.

    They are addressed by the run alone, so its completion is their change marker.

    Args:
        parts: Which of the three contents.

    Raises:
        ConfigurationError: ``parts`` is empty or has something else in it.
    """

    _kind = "imports"
    _fields = ("import", "run", "part")
    _content_path = "/imports/{import}/runs/{run}/{part}Content"

    _parts: tuple[ImportPart, ...] = attrs.field(kw_only=True, converter=_check_parts)

    def __attrs_post_init__(self) -> None:
        """Name the filters."""
        self._filters += [f"parts={','.join(self._parts)}"] if self._parts != _IMPORT_PARTS else []

    def _listing(self) -> tuple[int, bool]:
        return 1, self._run is not None

    async def _of_runs(self, tenant: str, definition: str, runs: Sequence[ImportRun]) -> AsyncIterator[RemoteFile]:
        """List the contents of runs; a dry run that is committed later gets other results at the same addresses."""
        for run in runs:
            completed = run.completed.isoformat() if run.completed is not None else ""
            for part in self._parts:
                no_errors = part == "error" and run.error_count == 0
                skip = "no row of the run failed, so it has no error file" if no_errors else None
                entry = self._entry(
                    tenant,
                    (definition, run.guid, part),
                    FileFacts(part, skip=skip),
                    extension=_EXTENSIONS.get((run.submit_file_type or "").upper(), ".dat"),
                    change=f"{completed} commit={run.commit}",
                    listed=("", run.completed),
                )
                yield attrs.evolve(entry, uploaded=part == "submit")


def _write_definition(resource: str, mode: str, options: ImportOptions | None) -> dict[str, Any]:
    """
    Return what a definition does in the format of the service.

    Raises:
        ConfigurationError: A word is not documented, or the two do not go together.
    """
    written: dict[str, Any] = {
        "resource": known_word("The resource", resource, _RESOURCES),
        "mode": known_word("The mode", mode, _MODES),
    }
    if written["mode"] == "REPLACE" and written["resource"] != "ITEM_BOM":
        raise ConfigurationError(
            "The mode REPLACE goes with the resource ITEM_BOM only; OVERWRITE is the one for others."
        )
    return written if options is None else {**written, "options": _write_options(options)}


def _does_the_same(body: dict[str, Any], found: ImportDefinition) -> bool:
    """Return whether a definition does what is requested; what is not requested may be anything."""
    received = _write_options(found.options) if found.options is not None else {}
    words = all(status_word(getattr(found, word)) == status_word(body[word]) for word in ("resource", "mode"))
    return words and all(received.get(name) == value for name, value in body.get("options", {}).items())


def _contradicts(body: dict[str, Any], made: ImportDefinition) -> bool:
    """Return whether a definition says that it does something else; what it does not say is no proof."""
    received = _write_options(made.options) if made.options is not None else {}
    words = [(getattr(made, word), body[word]) for word in ("resource", "mode")]
    options = [(received.get(name), value) for name, value in body.get("options", {}).items() if name != "mapping"]
    return any(said is not None and status_word(said) != status_word(sent) for said, sent in words) or any(
        said is not None and said != value for said, value in options
    )


def _write_options(options: ImportOptions) -> dict[str, Any]:
    """Return the options that are set, and the unknown keys of a listed definition."""
    written = write_fields(options)
    return written | ({"mapping": [write_fields(row) for row in options.mapping]} if options.mapping else {})
