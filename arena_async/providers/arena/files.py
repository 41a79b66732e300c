"""
The files of runs, as sets that can be listed, priced, opened and looked up again.

What is listed is immutable: the zip of an extract or export never changes under its guid, so the guid is the change
mark, whichever query found the file and whether or not that query told its size. The contents of an import run are
addressed by the run alone, so its completion is their change mark.
"""

from __future__ import annotations

import json
import logging
from abc import abstractmethod
from collections.abc import AsyncIterator, Collection, Iterable
from datetime import UTC, datetime, timedelta
from typing import Final, Literal, Self, TypeVar, get_args

import attrs

from arena_async.errors import (
    ApiError,
    ConfigurationError,
    DecodeError,
    PermissionDeniedError,
    RunFailedError,
)
from arena_async.net.session import Session
from arena_async.providers.arena import routes
from arena_async.providers.arena.asking import ask, walk
from arena_async.providers.arena.models import (
    ExportFile,
    ExportRun,
    Extract,
    ExtractRun,
    FileAssociation,
    ImportRun,
    status_word,
)
from arena_async.providers.arena.sets import ArenaFiles, Key, is_gone, lay_out, tenant_of
from arena_async.wire.contracts import Facts, RemoteFile
from arena_async.wire.messages import Request, printable

__all__ = [
    "IMPORT_PARTS",
    "ExportFiles",
    "ExtractFiles",
    "ImportFiles",
    "ImportPart",
    "ended",
    "one_export_run",
]

_log = logging.getLogger("arena_async")

#: https://ptc-arena.github.io/arena-dev-help/ - the files of a run are removed after that, its row stays.
_KEPT: Final = timedelta(days=60)

_Run = TypeVar("_Run", ExtractRun, ExportRun, ImportRun)

ImportPart = Literal["result", "error", "submit"]
#: Every content of an import run.
IMPORT_PARTS: Final[tuple[ImportPart, ...]] = get_args(ImportPart)

#: What the submitted file is called on disk; results and errors are given back in the same form.
_EXTENSIONS = {"EXCEL_WORKSHEET": ".xlsx", "CSV": ".csv"}
#: Refusals of a query that an endpoint does not know: unknown attribute, not searchable, no query at all.
_QUERY_REFUSED = frozenset({3004, 3018, 3019, 3096, 3200, 4074})


@attrs.frozen
class _Told:
    """What is remembered about a file of a completed run."""

    guid: str
    name: str | None = None
    size: int | None = None
    skip: str | None = None


def _load_told(fact: str) -> list[_Told] | None:
    """Read what is remembered; None for what nobody of us can have written."""
    try:
        return [_Told(guid, name, size, skip) for guid, name, size, skip in json.loads(fact)]
    except (ValueError, TypeError):
        return None


class _RunFiles(ArenaFiles):
    """
    What the three kinds of sets have in common.

    Args:
        session: Where to ask.
        reserve: Requests the caller wants left untouched, for the price.
        run: Only this run.
        latest: Only the latest completed run.
        completed_since: Only runs completed since then (aware).

    Raises:
        ConfigurationError: ``run`` together with ``latest``, or a date-time without a zone.
    """

    def __init__(
        self,
        session: Session,
        *,
        reserve: int = 0,
        run: str | None = None,
        latest: bool = False,
        completed_since: datetime | None = None,
    ) -> None:
        if run is not None and latest:
            raise ConfigurationError(f"{self.kind}: run and latest exclude each other; give one of them.")
        if run is not None and completed_since is not None:
            raise ConfigurationError(f"{self.kind}: run and completed_since exclude each other; give one of them.")
        super().__init__(session, reserve=reserve)
        self._run = run
        self._latest = latest
        self._since = _whole_second(completed_since)
        self._watermark: datetime | None = None
        self._seen: ExtractRun | ExportRun | ImportRun | None = None
        self._facts: Facts | None = None

    @property
    def scope(self) -> str:
        """The name of the query, without any secret. A watermark is not part of it."""
        words = [f"run={self._run}"] if self._run is not None else []
        words += ["latest"] if self._latest else []
        words += [f"completed_since={self._since.isoformat()}"] if self._since is not None else []
        return "?".join(filter(None, ("/".join(filter(None, ("arena", self.kind, self._named))), "&".join(words))))

    @property
    def narrowed(self) -> bool:
        """Whether files that exist may be missing from it."""
        return self._run is not None or self._latest or self._from is not None

    async def find(self, keys: Collection[str]) -> list[RemoteFile]:
        """
        Give fresh entries for some keys of this kind, in any order; what is gone is missing.

        Costs one request for a single run of a definition, else as many as its runs have pages.
        """
        if self._facts is not None:
            # Whoever looks something up again wants to know what is there now.
            return await self._changed({"_facts": None}).find(keys)
        tenant = await tenant_of(self._session)
        wanted: dict[str, set[str]] = {}
        for key in self._mine(keys, tenant):
            wanted.setdefault(key.names[0], set()).add(key.names[1])
        asked = frozenset(keys)
        found: dict[str, RemoteFile] = {}
        for definition, runs in wanted.items():
            try:
                async for file in self._again(tenant, definition, frozenset(runs)):
                    if file.key in asked:
                        found[file.key] = file
            except ApiError as error:
                if not is_gone(error):
                    raise
        return list(found.values())

    def recalling(self, facts: Facts) -> Self:
        """Give the same set, which asks for the files of a completed run once and never again."""
        return self._changed({"_facts": facts})

    @property
    @abstractmethod
    def _named(self) -> str:
        """The guid of the definition, or "" for all of them."""

    @abstractmethod
    def _again(self, tenant: str, definition: str, runs: frozenset[str]) -> AsyncIterator[RemoteFile]:
        """List the files of some runs of a definition once more."""

    @property
    def _from(self) -> datetime | None:
        """The completion from which on runs are asked for."""
        return max(filter(None, (self._since, self._watermark)), default=None)

    def _after(self, watermark: datetime | None) -> Self:
        """Give a copy of the set that starts at a watermark."""
        if watermark is None or self._run is not None or self._latest:
            return self
        return self._changed({"_watermark": _whole_second(watermark)})

    def _wanted(self, run: ExtractRun | ExportRun | ImportRun) -> bool:
        """
        Say whether the files of a listed run belong to the set.

        The filter is applied here too, because the service is known to ignore some without a word.
        """
        since = self._from
        return run.done and (since is None or run.completed is None or run.completed >= since)

    def of(self, run: ExtractRun | ExportRun | ImportRun) -> Self:
        """Give the set of the files of one completed run as it was just seen, so that nobody asks for it again."""
        return self._changed({"_run": run.guid, "_seen": run})

    async def _recall(self, tenant: str, definition: str, runs: Iterable[str]) -> dict[str, list[_Told]]:
        """Give what is remembered about the files of some runs, by the guids of the runs."""
        if self._facts is None:
            return {}
        keys = {str(Key(tenant, self.kind, (definition, run))): run for run in runs}
        found = await self._facts.recall(list(keys)) if keys else {}
        return {keys[key]: told for key, fact in found.items() if (told := _load_told(fact)) is not None}

    async def _keep(self, tenant: str, definition: str, run: str, told: list[_Told]) -> None:
        """Remember the files of a completed run; a run without any may yet get some."""
        if self._facts is not None and told:
            fact = json.dumps([attrs.astuple(one) for one in told])
            await self._facts.keep({str(Key(tenant, self.kind, (definition, run))): fact})

    def _known(self, kind: type[_Run]) -> _Run | None:
        """Give the one run of the set, if it was seen already."""
        return self._seen if isinstance(self._seen, kind) else None


def _whole_second(moment: datetime | None) -> datetime | None:
    """Cut to whole seconds, which is what can be asked for."""
    if moment is None:
        return None
    routes.write_datetime(moment, what="completed_since")
    return moment.astimezone(UTC).replace(microsecond=0)


def ended(run: ExtractRun | ExportRun | ImportRun, kind: str) -> bool:
    """
    Say whether a run that was asked for by its guid has files.

    Raises:
        RunFailedError: It never will.
    """
    if run.failed:
        raise RunFailedError(
            f"{kind} run {run.guid}: its status is {run.status}, so it has no files. Start another run.", run=run
        )
    return run.done


class ExtractFiles(_RunFiles):
    """
    The zip files of data extract runs.

    Args:
        session: Where to ask.
        extract: The guid of the extract; None for all of the workspace, which costs a request to look them up.
        reserve: Requests the caller wants left untouched, for the price.
        run: Only this run.
        latest: Only the latest completed run.
        completed_since: Only runs completed since then (aware).

    Raises:
        ConfigurationError: ``run`` together with ``latest`` or without ``extract``, or a date-time without a zone.
    """

    kind = "extracts"

    def __init__(
        self,
        session: Session,
        extract: str | None = None,
        *,
        reserve: int = 0,
        run: str | None = None,
        latest: bool = False,
        completed_since: datetime | None = None,
    ) -> None:
        super().__init__(session, reserve=reserve, run=run, latest=latest, completed_since=completed_since)
        if run is not None and extract is None:
            raise ConfigurationError("extracts: a run is named by the guids of its extract and its own; give both.")
        self._extract = extract

    async def __aiter__(self) -> AsyncIterator[RemoteFile]:
        """List the files of completed runs, page by page as they are asked for."""
        tenant = await tenant_of(self._session)
        if self._extract is not None:
            async for file in self._of_extract(tenant, self._extract):
                yield file
            return
        async for extract in walk(self._session, routes.EXTRACTS.request(), Extract):
            async for file in self._of_extract(tenant, extract.guid):
                yield file

    def since(self, watermark: datetime | None) -> ExtractFiles:
        """Give the set of runs completed since then; the service filters on it."""
        return self._after(watermark)

    @property
    def _named(self) -> str:
        return self._extract or ""

    def _listing(self) -> tuple[int, bool]:
        if self._extract is None:
            return 2, False
        return 1, self._latest

    def _content(self, key: Key) -> Request:
        extract, run, association = key.names
        return routes.EXTRACT_CONTENT.request(extract=extract, run=run, association=association)

    async def _of_extract(self, tenant: str, extract: str) -> AsyncIterator[RemoteFile]:
        """List the files of one extract in the fewest requests."""
        if self._run is not None:
            run = self._known(ExtractRun)
            if run is None:
                request = routes.EXTRACT_RUN.request(extract=extract, run=self._run)
                run = await ask(self._session, request, ExtractRun)
            runs = [run] if ended(run, "extract") else []
        elif self._latest:
            request = routes.EXTRACT_LATEST_RUN.request({"view": "withFiles"}, extract=extract)
            run = await ask(self._session, request, ExtractRun)
            runs = [run] if self._wanted(run) else []
            if "delta" in status_word(run.type):
                _log.warning(
                    "Extract %s: its latest run %s is a delta run, which holds the changes only. Without `latest` the "
                    "last full run and all deltas after it come home.",
                    printable(extract),
                    printable(run.guid),
                )
        else:
            async for page in self._pages(extract, self._from):
                async for file in self._of_runs(tenant, extract, [run for run in page if self._wanted(run)]):
                    yield file
            return
        async for file in self._of_runs(tenant, extract, runs):
            yield file

    async def _pages(self, extract: str, completed_from: datetime | None) -> AsyncIterator[list[ExtractRun]]:
        """
        Walk the runs of an extract with their files, if the endpoint knows that view, else without.

        Only the vendor's collection of example requests uses the view here; the pages document it for the latest run.
        """
        views: tuple[str | None, ...] = ("withFiles", None)
        for view in views:
            params = {"completionDateTimeFrom": completed_from, "view": view}
            started = False
            try:
                pager = walk(self._session, routes.EXTRACT_RUNS.request(params, extract=extract), ExtractRun)
                async for page in pager.pages():
                    started = True
                    yield list(page.items)
                return
            except ApiError as error:
                if started or view is None or error.code not in _QUERY_REFUSED:
                    raise

    async def _of_runs(self, tenant: str, extract: str, runs: list[ExtractRun]) -> AsyncIterator[RemoteFile]:
        """
        Give the files of runs that were listed together, with a request for each run that does not tell its own.

        An empty list is believed when another run beside it has files: then the view was honoured.
        """
        honoured = any(run.files for run in runs)
        silent = [run.guid for run in runs if not (run.files or (honoured and run.files is not None))]
        known = await self._recall(tenant, extract, silent)
        for run in runs:
            if run.guid not in silent:
                told = [_told_of(association) for association in run.files or ()]
            elif not (told := known.get(run.guid, [])):
                request = routes.EXTRACT_RUN_FILES.request(extract=extract, run=run.guid)
                told = [_told_of(one) async for one in walk(self._session, request, FileAssociation)]
                await self._keep(tenant, extract, run.guid, told)
            for one in told:
                yield _extract_file(tenant, extract, run, one)

    async def _again(self, tenant: str, definition: str, runs: frozenset[str]) -> AsyncIterator[RemoteFile]:
        """List the files of some runs once more; for a single one its own list is enough."""
        if len(runs) == 1:
            run = ExtractRun(guid=next(iter(runs)))
            async for file in self._of_runs(tenant, definition, [run]):
                yield file
            return
        missing = set(runs)
        async for page in self._pages(definition, None):
            async for file in self._of_runs(tenant, definition, [run for run in page if run.guid in missing]):
                yield file
            missing -= {run.guid for run in page}
            if not missing:
                return


def _told_of(association: FileAssociation) -> _Told:
    """Take what matters of an association."""
    file = association.file
    return _Told(
        association.guid,
        file.name if file else None,
        file.size if file else None,
        file.no_content if file else None,
    )


def _extract_file(tenant: str, extract: str, run: ExtractRun, told: _Told) -> RemoteFile:
    """Make the entry of one zip file of an extract run."""
    return lay_out(
        Key(tenant, "extracts", (extract, run.guid, told.guid)),
        extension=".zip",
        change=told.guid,
        changed_at=run.completed,
        name=told.name,
        size=told.size,
        skip=told.skip,
    )


class ExportFiles(_RunFiles):
    """
    The zip files of the runs of an export definition.

    Only the user who started a run may fetch its files, and the service keeps them for 60 days.

    Args:
        session: Where to ask.
        export: The guid of the definition.
        reserve: Requests the caller wants left untouched, for the price.
        run: Only this run.
        latest: Only the latest completed run.
        completed_since: Only runs completed since then (aware).

    Raises:
        ConfigurationError: ``run`` together with ``latest``, or a date-time without a zone.
    """

    kind = "exports"

    def __init__(
        self,
        session: Session,
        export: str,
        *,
        reserve: int = 0,
        run: str | None = None,
        latest: bool = False,
        completed_since: datetime | None = None,
    ) -> None:
        super().__init__(session, reserve=reserve, run=run, latest=latest, completed_since=completed_since)
        self._export = export

    async def __aiter__(self) -> AsyncIterator[RemoteFile]:
        """List the files of completed runs, page by page as they are asked for."""
        tenant = await tenant_of(self._session)
        if self._run is not None:
            one = self._known(ExportRun) or await one_export_run(self._session, self._export, self._run)
            runs = [one] if one is not None and ended(one, "export") else []
        elif self._latest:
            # The filter may be ignored, so the newest of what comes is taken.
            request = routes.EXPORT_RUNS.request({"latestCompleted": True}, export=self._export)
            listed = [run async for run in walk(self._session, request, ExportRun) if self._wanted(run)]
            runs = sorted(listed, key=_completion)[-1:]
        else:
            params = {"completionDateTimeFrom": self._from}
            request = routes.EXPORT_RUNS.request(params, export=self._export)
            async for run in walk(self._session, request, ExportRun):
                if self._wanted(run):
                    for file in await self._of_run(tenant, self._export, run):
                        yield file
            return
        for run in runs:
            for file in await self._of_run(tenant, self._export, run):
                yield file

    def since(self, watermark: datetime | None) -> ExportFiles:
        """Give the set of runs completed since then; the service filters on it."""
        return self._after(watermark)

    @property
    def _named(self) -> str:
        return self._export

    def _listing(self) -> tuple[int, bool]:
        return 1, False

    def _content(self, key: Key) -> Request:
        export, run, file = key.names
        return routes.EXPORT_CONTENT.request(export=export, run=run, file=file)

    async def _of_run(self, tenant: str, export: str, run: ExportRun) -> list[RemoteFile]:
        """
        Give the files of a run, with a request more only if the list did not tell them at all.

        Raises:
            DecodeError: It is complete, too young to have lost its files, and not even asked for alone tells them.
            RunFailedError: It has none, and it is the one that was asked for.
        """
        files = run.files
        if files is None:
            known = await self._recall(tenant, export, [run.guid])
            files = tuple(ExportFile(guid=one.guid, name=one.name) for one in known.get(run.guid, ())) or None
        if files is None:
            request = routes.EXPORT_RUN.request(export=export, run=run.guid)
            files = (await ask(self._session, request, ExportRun)).files
            if files is None and not self._is_old(run):
                raise DecodeError(
                    f"{request.line}: run {printable(run.guid)} is complete and does not tell its files, so that some "
                    "may be missing. Run again; if it stays so, the service may have changed: report this.",
                    problems=("$.files: missing",),
                    request=request.line,
                )
            await self._keep(tenant, export, run.guid, [_Told(one.guid, one.name) for one in files or ()])
        if not files and run.guid == self._run:
            raise RunFailedError(
                f"export run {printable(run.guid)}: it is complete and has no files; the service removes them after "
                f"{_KEPT.days} days. Start another run.",
                run=run,
            )
        return [_export_file(tenant, export, run, file) for file in files or ()]

    def _is_old(self, run: ExportRun) -> bool:
        """Say whether the service has removed the files of a run because of their age."""
        return run.completed is not None and run.completed < self._session.now() - _KEPT

    async def _again(self, tenant: str, definition: str, runs: frozenset[str]) -> AsyncIterator[RemoteFile]:
        """List the files of some runs once more; a run of another user is in the list only."""
        missing = set(runs)
        if len(missing) == 1:
            try:
                one = await one_export_run(self._session, definition, next(iter(missing)))
            except PermissionDeniedError:
                one = None
            if one is not None:
                for file in await self._of_run(tenant, definition, one):
                    yield file
                return
        async for run in walk(self._session, routes.EXPORT_RUNS.request(export=definition), ExportRun):
            if run.guid in missing:
                missing.discard(run.guid)
                for file in await self._of_run(tenant, definition, run):
                    yield file
            if not missing:
                return


async def one_export_run(session: Session, export: str, guid: str) -> ExportRun | None:
    """
    Give one run by its guid, or None where it is not there.

    https://github.com/ptc-arena/arena-restapi-doc - the sample of this endpoint shows a definition and no run. An
    answer with another guid is therefore not believed, and the run is looked for in the list.
    """
    run = await ask(session, routes.EXPORT_RUN.request(export=export, run=guid), ExportRun)
    if run.guid == guid and run.status is not None:
        return run
    async for listed in walk(session, routes.EXPORT_RUNS.request(export=export), ExportRun):
        if listed.guid == guid:
            return listed
    return None


def _completion(run: ExportRun) -> datetime:
    """Give what runs are ordered by."""
    return run.completed or datetime.min.replace(tzinfo=UTC)


def _export_file(tenant: str, export: str, run: ExportRun, file: ExportFile) -> RemoteFile:
    """Make the entry of one zip file of an export run."""
    return lay_out(
        Key(tenant, "exports", (export, run.guid, file.guid)),
        extension=".zip",
        change=file.guid,
        changed_at=run.completed,
        name=file.name,
    )


class ImportFiles(_RunFiles):
    """
    What was submitted to the runs of an import definition, and their results and errors.

    Args:
        session: Where to ask.
        import_: The guid of the definition.
        reserve: Requests the caller wants left untouched, for the price.
        run: Only this run.
        parts: Which of the three contents.

    Raises:
        ConfigurationError: ``parts`` is empty or has something else in it.
    """

    kind = "imports"

    def __init__(
        self,
        session: Session,
        import_: str,
        *,
        reserve: int = 0,
        run: str | None = None,
        parts: Iterable[ImportPart] = IMPORT_PARTS,
    ) -> None:
        super().__init__(session, reserve=reserve, run=run)
        given = (parts,) if isinstance(parts, str) else tuple(parts)
        if not given or set(given) - set(IMPORT_PARTS):
            raise ConfigurationError(f"imports: parts is {given!r}; it takes one or more of {', '.join(IMPORT_PARTS)}.")
        self._import = import_
        self._parts = tuple(part for part in IMPORT_PARTS if part in given)

    async def __aiter__(self) -> AsyncIterator[RemoteFile]:
        """List the files of completed runs, page by page as they are asked for."""
        tenant = await tenant_of(self._session)
        if self._run is not None:
            run = self._known(ImportRun)
            if run is None:
                request = routes.IMPORT_RUN.request(import_=self._import, run=self._run)
                run = await ask(self._session, request, ImportRun)
            for file in self._of_run(tenant, self._import, run) if ended(run, "import") else ():
                yield file
            return
        async for run in walk(self._session, routes.IMPORT_RUNS.request(import_=self._import), ImportRun):
            for file in self._of_run(tenant, self._import, run) if self._wanted(run) else ():
                yield file

    @property
    def scope(self) -> str:
        """The name of the query, without any secret."""
        if self._parts == IMPORT_PARTS:
            return super().scope
        return f"{super().scope}{'&' if self._run is not None else '?'}parts={','.join(self._parts)}"

    @property
    def narrowed(self) -> bool:
        """Whether files that exist may be missing from it."""
        return super().narrowed or self._parts != IMPORT_PARTS

    @property
    def _named(self) -> str:
        return self._import

    def _listing(self) -> tuple[int, bool]:
        return 1, self._run is not None

    def _content(self, key: Key) -> Request:
        import_, run, part = key.names
        return routes.IMPORT_CONTENT.request(import_=import_, run=run, part=f"{part}Content")

    def _of_run(self, tenant: str, import_: str, run: ImportRun) -> list[RemoteFile]:
        """Give the contents of a run."""
        return [_import_file(tenant, import_, run, part) for part in self._parts]

    async def _again(self, tenant: str, definition: str, runs: frozenset[str]) -> AsyncIterator[RemoteFile]:
        """List the contents of some runs once more."""
        missing = set(runs)
        if len(missing) == 1:
            request = routes.IMPORT_RUN.request(import_=definition, run=next(iter(missing)))
            run = await ask(self._session, request, ImportRun)
            for file in self._of_run(tenant, definition, run):
                yield file
            return
        async for run in walk(self._session, routes.IMPORT_RUNS.request(import_=definition), ImportRun):
            if run.guid in missing:
                missing.discard(run.guid)
                for file in self._of_run(tenant, definition, run):
                    yield file
            if not missing:
                return


def _import_file(tenant: str, import_: str, run: ImportRun, part: ImportPart) -> RemoteFile:
    """Make the entry of one content of an import run."""
    completed = run.completed.isoformat() if run.completed is not None else ""
    return lay_out(
        Key(tenant, "imports", (import_, run.guid, part)),
        extension=_EXTENSIONS.get((run.submit_file_type or "").upper(), ".dat"),
        # A dry run that is committed later gets other results under the same address.
        change=f"{completed} commit={run.commit}",
        changed_at=run.completed,
        skip="no row of the run failed, so it has no error file" if part == "error" and run.error_count == 0 else None,
    )
