"""Exports of items: definitions describe them, runs write the files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import attrs

from arena_async.errors import ConfigurationError, DecodeError, PermissionDeniedError, RunFailedError
from arena_async.http.paginator import Paginator
from arena_async.options import PollPolicy
from arena_async.protocol.messages import printable
from arena_async.providers.arena.api import get_object, known_word, make_request
from arena_async.providers.arena.criteria import Criteria
from arena_async.providers.arena.fetch import Start, Starting, fetch_of
from arena_async.providers.arena.files import FileFacts, ZipFiles
from arena_async.providers.arena.models import (
    ArenaFile,
    ExportDefinition,
    ExportFileContent,
    ExportOptions,
    ExportRun,
    status_word,
)
from arena_async.providers.arena.queries import ExportQuery, ExportRunQuery
from arena_async.providers.arena.runs import OnStatus, RunService, Wanted, look_up
from arena_async.providers.started_run import Fetched, To

__all__ = ["ExportFiles", "Exports", "same_options", "write_export_options"]

#: https://ptc-arena.github.io/arena-dev-help/ - the files of a run are removed after that, its row stays.
_KEPT: Final = timedelta(days=60)

_VIEWS: Final = (
    "SPECS",
    "BOM",
    "BOM_SUBSTITUTES",
    "SOURCING",
    "FILES",
    "FILES_FILE_SUMMARY",
    "SOURCING_SUPPLIERITEM_SPECS",
    "SOURCING_SUPPLIERITEM_SUPPLIER_PROFILE",
    "SOURCING_SUPPLIERITEM_FILES",
    "SOURCING_SUPPLIERITEM_FILES_FILE_SUMMARY",
)
#: What the samples print in the place of the documented view.
_OTHER_VIEWS: Final = {status_word("SOURCING_SUPPLIERITEM_SPECS_PROFILE"): "SOURCING_SUPPLIERITEM_SUPPLIER_PROFILE"}
#: The words of the other options. One page lists the files PRIMARY for supplier items as well; the service rejects it
#: (4003, 4073).
_WORDS: Final = {
    "bom_levels": ("NONE", "SINGLE", "FULL"),
    "header": ("apiName", "name"),
    "revision_status": ("LATEST", "WORKING", "POTENTIAL"),
    "format": ("csv", "json"),
    "file_content.item": ("NONE", "PRIMARY", "ALL"),
    "file_content.supplier_item": ("NONE", "ALL"),
}

#: The documented defaults.
_DEFAULTS: Final = {"header": "apiName", "format": "csv"}
#: Views that contain only the physical files.
_OF_FILES: Final = {"FILES", "SOURCING_SUPPLIERITEM_FILES"}


@attrs.frozen
class Exports(RunService[ExportDefinition, ExportRun, ExportRunQuery]):
    """The export definitions of the workspace and their runs."""

    kind = "export"
    models = (ExportDefinition, ExportRun)

    def search(
        self, query: ExportQuery | str | None = None, *, offset: int = 0, limit: int | None = None
    ) -> Paginator[ExportDefinition]:
        """
        Return the export definitions of the workspace. One request for each 400.

        Args:
            query: Only these; a string is a name, where a trailing ``*`` finds what starts with it.
            offset: Rows to leave out at the beginning.
            limit: Rows of one page, at most 400.
        """
        return self._search(query, offset, limit)

    async def get(self, guid: str, *, include_empty_additional_attributes: bool | None = None) -> ExportDefinition:
        """
        Return one export definition. One request.

        Args:
            guid: The definition.
            include_empty_additional_attributes: Whether custom attributes without a value are shown too.
        """
        query = {"includeEmptyAdditionalAttributes": include_empty_additional_attributes}
        return await get_object(self.session, ExportDefinition, self.path(guid), query)

    async def file(self, guid: str, run: str, file: str) -> ArenaFile:
        """Return name, size and the other metadata of one file of a run. One request."""
        path = f"{self.path(guid)}/runs/{{run}}/files/{{file}}"
        return await get_object(self.session, ArenaFile, path, run=run, file=file)

    def files(
        self, guid: str, run: str | None = None, *, latest: bool = False, completed_from: datetime | None = None
    ) -> ExportFiles:
        """
        Return the zip files of completed runs, to be downloaded. Sends nothing yet.

        Only the user who started a run may download its files, and the service keeps them for 60 days.

        Args:
            guid: The definition.
            run: Only this run.
            latest: Only the run that was completed last.
            completed_from: Only runs completed then or later (aware).

        Raises:
            ConfigurationError: ``run`` together with ``latest`` or ``completed_from``.
        """
        return ExportFiles(self, guid, run=run, latest=latest, completed_from=completed_from)

    async def define(
        self,
        name: str,
        *,
        criteria: Criteria | None = None,
        options: ExportOptions,
        description: str | None = None,
        reuse: bool = False,
        start_anew: bool = False,
    ) -> ExportDefinition:
        """
        Create an export definition. It can be neither changed nor removed afterwards. One request.

        Args:
            name: Its name, at most 100 characters; a name need not be unique.
            criteria: Which items it takes; None leaves that to each run.
            options: What it writes.
            description: What it is for, at most 4,000 characters.
            reuse: Return a definition of this name that does the same, if there is one: one more request for a new one,
                and no new definition for each run of a script.
            start_anew: Create it even if it is not known what became of an earlier request for it.

        Raises:
            ConfigurationError: The service would reject it, or the export would be empty. Nothing was sent.
            NotAsRequestedError: What was created does something else.
            TransportError: The response was lost, and the definition is not in the list.
        """
        body: dict[str, Any] = {"name": name, "world": "ITEMS", "options": write_export_options(options)}
        body |= {"criteria": criteria.as_json()} if criteria is not None else {}

        def same(found: ExportDefinition) -> bool:
            agrees = found.options is not None and same_options(options, found.options)
            return agrees and (found.criteria or None) == body.get("criteria")

        def contradicts(made: ExportDefinition) -> bool:
            return made.options is not None and other_options(options, made.options)

        wanted = Wanted(description=description, reuse=reuse, start_anew=start_anew)
        return await self._define(body, same, contradicts, wanted)

    async def start(
        self,
        guid: str | ExportDefinition,
        *,
        criteria: Criteria | None = None,
        poll: PollPolicy | None = None,
        start_anew: bool = False,
        on_status: OnStatus[ExportRun] | None = None,
    ) -> ExportRun:
        """
        Start a run of a definition, once. One request, and more only after a failure.

        The service does one export at a time; while another one is in progress, this one waits, which costs a request
        for each try. When the response is lost, also by an earlier process, the run is looked up in the list of runs
        before anything is sent again.

        Args:
            guid: The definition, by its guid or as it was returned, which is checked for criteria before sending.
            criteria: Which items it takes; exactly one of definition and run has criteria.
            poll: How long to wait for another export, and how often to try; None for the default policy.
            start_anew: Start a run whatever is known about an earlier one: a person has decided so.
            on_status: Called with the state of the run.

        Raises:
            ConfigurationError: Both have criteria, or none.
            DeadlineError: Another export was in progress all the time; nothing was started.
            TransportError: The response was lost, and it is not known whether a run was started.
        """
        wanted = Starting[ExportRun](poll=poll, start_anew=start_anew, on_status=on_status)
        return await self._start(guid, criteria, wanted).send()

    async def fetch(
        self,
        guid: str | ExportDefinition,
        to: To,
        *,
        criteria: Criteria | None = None,
        poll: PollPolicy | None = None,
        start_anew: bool = False,
        on_status: OnStatus[ExportRun] | None = None,
    ) -> Fetched[ExportRun]:
        """
        Start a run, wait until it is done, and download its files, verified. All of them, or an error.

        The run is recorded from its start: after a crash, or an error, the same call waits for that run and starts no
        other.

        Args:
            guid: The definition, by its guid or as it was returned.
            to: The directory, or an open :class:`~arena_async.Mirror` of one, with its own options and observer.
            criteria: Which items it takes; exactly one of definition and run has criteria.
            poll: How often to poll and how long to wait; None for the default policy.
            start_anew: Start a run whatever is known about an earlier one: a person has decided so.
            on_status: Called with the state of the run.

        Raises:
            ConfigurationError: Both the definition and the run have criteria, or none.
            RunFailedError: The run failed; the next call starts another one.
            TransfersFailedError: The run is done, and some of its files are missing; the next call downloads the rest.
            DeadlineError: The run is not done yet, or another one was in progress; the next call continues.
            DestinationBusyError: The directory belongs to another workspace.
        """
        start = self._start(guid, criteria, Starting[ExportRun](poll=poll, start_anew=start_anew, on_status=on_status))
        return await fetch_of(start, self.files(start.definition)).fetch(to)

    def _start(
        self, definition: str | ExportDefinition, criteria: Criteria | None, wanted: Starting[ExportRun]
    ) -> Start[ExportRun]:
        """
        Return how a run is started.

        Raises:
            ConfigurationError: The definition is known, and both it and the run have criteria, or none.
        """
        if isinstance(definition, ExportDefinition) and bool(definition.criteria) == (criteria is not None):
            if criteria is None:
                problem = "Neither it nor the run has criteria (code 3140); give criteria for the run"
            else:
                problem = "Both it and the run have criteria (code 3142); leave them out of the run"
            raise ConfigurationError(f"The export {definition.guid} cannot be run. {problem}.")
        own = criteria.as_json() if criteria is not None else None
        body = {} if own is None else {"criteria": own}
        guid = definition if isinstance(definition, str) else definition.guid
        return Start(
            service=self,
            definition=guid,
            request=make_request("POST", f"{self.path(guid)}/runs", json=body),
            wanted=wanted,
            like=lambda run: own is None or run.criteria in (None, own),
            name="" if own is None else hashlib.sha256(json.dumps(own).encode()).hexdigest()[:16],
        )


@attrs.define(eq=False, repr=False)
class ExportFiles(ZipFiles[ExportRun]):
    """
    The zip files of the runs of an export definition.

    Only the user who started a run may download its files, and the service keeps them for 60 days.
    """

    _kind = "exports"
    _fields = ("export", "run", "file")
    _content_path = "/exports/{export}/runs/{run}/files/{file}/content"

    def _listing(self) -> tuple[int, bool]:
        return 1, False

    async def _one_to_find(self, definition: str, run: str) -> ExportRun | None:
        try:
            return await look_up(self._service, definition, run)
        except PermissionDeniedError:
            # A run of another user is in the list only.
            return None

    def _listed(self, runs: Sequence[ExportRun]) -> dict[str, Sequence[FileFacts]]:
        return {
            run.guid: [FileFacts(file.guid, file.name) for file in run.files] for run in runs if run.files is not None
        }

    async def _request_files(self, definition: str, run: ExportRun) -> AsyncIterator[FileFacts]:
        """
        Request a run alone.

        Raises:
            DecodeError: It is complete, too young to have lost its files, and does not list them here either.
        """
        files = (await self._service.run(definition, run.guid)).files
        if files is None and not self._is_old(run):
            request = make_request("GET", f"{self._service.path(definition)}/runs/{{run}}", run=run.guid)
            raise DecodeError(
                f"{request.line}: run {printable(run.guid)} is complete and does not list its files, so that some "
                "may be missing. Run again; if it stays so, the service may have changed: report this.",
                problems=("$.files: missing",),
                request=request.line,
            )
        for file in files or ():
            yield FileFacts(file.guid, file.name)

    def _check_empty(self, run: ExportRun) -> None:
        if run.guid == self._run:
            raise RunFailedError(
                f"export run {printable(run.guid)}: it is complete and has no files; the service removes them after "
                f"{_KEPT.days} days. Start another run.",
                run=run,
            )

    def _is_old(self, run: ExportRun) -> bool:
        """Return whether the service has removed the files of a run because of their age."""
        return run.completed is not None and run.completed < self._session.now() - _KEPT


# --- the options of a definition --------------------------------------------------------------------------------------
#
# The service accepts some combinations silently and then writes an empty file. They are rejected here, at no cost.
# Words are accepted in any case and sent in the newest documented form.


def write_export_options(options: ExportOptions) -> dict[str, Any]:
    """
    Return options in the format of the service.

    Raises:
        ConfigurationError: One of them is not documented, there is no view, or the export would be empty.
    """

    def word(name: str, value: str | None) -> str | None:
        return None if value is None else known_word(f"ExportOptions.{name}", value, _WORDS[name])

    content = options.file_content or ExportFileContent()
    files = {
        "item": word("file_content.item", content.item),
        "supplierItem": word("file_content.supplier_item", content.supplier_item),
    }
    written = _given(
        {
            "exportViews": _views(options.export_views),
            "bomLevels": word("bom_levels", options.bom_levels),
            "fileContent": _given(files) or None,
            "header": word("header", options.header),
            "revisionStatus": word("revision_status", options.revision_status),
            "format": word("format", options.format),
            "enableNotifications": options.enable_notifications,
        }
    )
    _check_not_empty(written)
    return written


def same_options(requested: ExportOptions, received: ExportOptions) -> bool:
    """
    Return whether a definition does what is requested.

    What is not requested is the documented default; where none is documented it may be anything.

    Raises:
        ConfigurationError: The requested options cannot be sent.
    """
    wanted = {**_DEFAULTS, **write_export_options(requested)}
    try:
        found = {**_DEFAULTS, **write_export_options(received)}
    except ConfigurationError:
        return False
    views = set(wanted.pop("exportViews")) == set(found["exportViews"])
    return views and all(found.get(name) == value for name, value in wanted.items())


def other_options(requested: ExportOptions, received: ExportOptions) -> bool:
    """Return whether a definition says that it does something else than requested; what it does not say is no proof."""
    wanted = write_export_options(requested)
    try:
        found = write_export_options(received)
    except ConfigurationError:
        return False
    views = set(wanted.pop("exportViews")) != set(found.pop("exportViews"))
    return views or any(found.get(name, value) != value for name, value in wanted.items())


def _given(values: dict[str, Any]) -> dict[str, Any]:
    """Leave out what is None."""
    return {name: value for name, value in values.items() if value is not None}


def _views(views: Iterable[Any]) -> list[str]:
    """Return views after a check; one that is named twice is written once."""
    words = (_OTHER_VIEWS.get(status_word(view), view) if isinstance(view, str) else view for view in views)
    found = [known_word("ExportOptions.export_views", word, _VIEWS) for word in words]
    if not found:
        raise ConfigurationError("ExportOptions.export_views is empty; name at least one view, for instance 'SPECS'.")
    return list(dict.fromkeys(found))


def _check_not_empty(options: dict[str, Any]) -> None:
    """Raise for what the service writes as an empty JSON file."""
    if options.get("format", _DEFAULTS["format"]) != "json":
        return
    views = set(options["exportViews"])
    any_file = any(value != "NONE" for value in options.get("fileContent", {}).values())
    if views == {"BOM"} and options.get("bomLevels", "NONE") == "NONE":
        raise _empty("the view BOM alone", "ExportOptions.bom_levels SINGLE or FULL")
    if "BOM_SUBSTITUTES" in views and "BOM" not in views:
        raise _empty("the view BOM_SUBSTITUTES without BOM", "the view BOM")
    if len(views) == 1 and views <= _OF_FILES and not any_file:
        raise _empty(f"the view {views.pop()} alone and without files", "ExportOptions.file_content, or another view")


def _empty(what: str, remedy: str) -> ConfigurationError:
    return ConfigurationError(f"A JSON export of {what} would be empty; add {remedy}, or write CSV.")
