"""
Dataset files, the primary data of CentrePoint: some of a study, or all of them and what changed since the last run.

The service cannot filter on changes. It lists for which subjects a program ran since, 100 subjects in a request. The
files of a subject and program are listed if it ran since, or if none of them was ever listed: a subject that becomes
visible may have been computed long ago. How they are listed depends on the cost::

    nothing ran ───────────────────────────────▶ nothing to list
    fewer subjects than the list has pages ────▶ the files of each of them, one request for each
    as many or more ───────────────────────────▶ the complete list
    the length of the list is not known ───────▶ its first page shows it, and is the first of the complete list then
    nothing ever ran, by that list ────────────▶ the complete list: that list proves nothing
"""

from __future__ import annotations

import enum
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import aclosing
from datetime import datetime
from typing import Any
from urllib.parse import quote

import attrs

from arena_async.errors import ListingError
from arena_async.http.paginator import AHEAD, Paginator
from arena_async.protocol.files import Cost, Notice, RemoteFile
from arena_async.protocol.messages import Request, join_path
from arena_async.protocol.pagination import Page
from arena_async.providers.centrepoint.adapter import MAX_PAGE_SIZE, list_shape, pages_of
from arena_async.providers.centrepoint.api import Api, Match, read_rows
from arena_async.providers.centrepoint.auth import DATA_ACCESS
from arena_async.providers.centrepoint.identifiers import SERVICE, join_key, split_key, word
from arena_async.providers.centrepoint.linked_files import LinkedFileQuery, LinkedFileSet, linked_file
from arena_async.providers.centrepoint.links import ListedLink, sign
from arena_async.providers.centrepoint.models import DatasetFile, DatasetSubject, StaleDataSet, is_later
from arena_async.providers.centrepoint.studies import DATASET_SUBJECTS
from arena_async.transfer.union import ListFailures

__all__ = [
    "Changes",
    "Choice",
    "DatasetFileSet",
    "DatasetQuery",
    "Datasets",
    "StudyFileSet",
    "choose",
    "file_key",
    "list_name",
    "remote_file",
]

_KIND = "dataset-file"
#: Subjects that are named in a notice.
_MAX_NAMED = 5


@attrs.frozen
class DatasetQuery(LinkedFileQuery[DatasetFile]):
    """
    Which dataset files are requested. What is None is not filtered on.

    Args:
        study: The number of the study.
        subject: The number of a subject as an ``int``, or its identifier as text.
        program: The GUID of a study program, in any case.
        data_set: The name of a data set, in any case.
        legacy: Send the request of the first published page: another path, and the filters in the JSON body of the GET.

    Raises:
        ConfigurationError: One of them cannot be what it should be.
    """

    # File names alone do not identify a row: they collide between data sets. They are part of the key all the same,
    # since the documents do not exclude that several versions of one data set are listed side by side.
    shape = list_shape("studyId", "studyProgramId", "dataSetName", "subjectId", "fileName")
    prefetch = AHEAD

    program: str | None = attrs.field(default=None, kw_only=True, converter=attrs.converters.optional(word))
    data_set: str | None = attrs.field(default=None, kw_only=True, converter=attrs.converters.optional(word))
    legacy: bool = attrs.field(default=False, kw_only=True)

    @property
    def narrowed(self) -> bool:
        """Whether it leaves out files of the study."""
        return not (self.subject is self.program is self.data_set is None)

    @property
    def scope(self) -> str:
        """The name of the query; the same files have the same name whatever case is used."""
        named = isinstance(self.subject, str)
        subject = f"/subject-named-{quote(str(self.subject), safe='')}" if named else ""
        filters = {"subject": None if named else self.subject, "program": self.program, "data-set": self.data_set}
        narrowed = "".join(
            f"/{name}-{quote(str(value).casefold(), safe='')}" for name, value in filters.items() if value is not None
        )
        return f"{SERVICE}/datasets/study-{self.study}{subject}{narrowed}"

    @property
    def request(self) -> Request:
        """The request for the list, page aside. One with an identifier for a subject is for messages only."""
        if self.legacy:
            path = join_path("/studies/{study}/datasetexportfiles", study=self.study)
            return Request(method="GET", path=path, json=self._filters, scope=DATA_ACCESS)
        path = join_path("/dataaccess/v3/studies/{study}/datasetfiles", study=self.study)
        return Request(method="GET", path=path, params=self._filters, scope=DATA_ACCESS)

    @property
    def _filters(self) -> dict[str, Any]:
        """The filters by the names of the service."""
        filters = {"subjectId": self.subject, "studyProgramId": self.program, "dataSetName": self.data_set}
        return {name: value for name, value in filters.items() if value is not None}

    def reader(self, *, any_row: bool = False) -> Callable[[Any], DatasetFile]:
        """Return the reader of the rows; ``any_row`` compares nothing with the filters."""
        requested = ", ".join(f"{name} {value}" for name, value in (("study", self.study), *self._filters.items()))
        match = Match(requested=requested, holds=lambda row: self.covers(_key_fields(row)), shown=_shown)
        return read_rows(DatasetFile, self.request.line, () if any_row else (match,))

    def covers(self, fields: Sequence[str]) -> bool:
        """Return whether the file with these fields of a key is a requested one. Like the service, it ignores case."""
        wanted = (self.study, self.program, self.data_set, self.subject)
        return len(fields) in (4, 5) and all(  # the format may follow
            value is None or str(value).casefold() == field for value, field in zip(wanted, fields, strict=False)
        )


def _shown(row: DatasetFile) -> str:
    return f"study {row.study_id}, subject {row.subject_id}, program {row.study_program_id}, {row.data_set_name}"


def _key_fields(row: DatasetFile) -> tuple[str, str, str, str]:
    """Return study, program, data set and subject as they are in the key."""
    return str(row.study_id), row.study_program_id.casefold(), row.data_set_name.casefold(), str(row.subject_id)


def file_key(tenant: str, row: DatasetFile) -> str:
    """
    Return the permanent key of a dataset file: tenant, study, program, data set and subject.

    The service writes GUIDs and data sets in several cases, which are equal, so the key has one case. ``fileName`` is
    no part of it: it changes with every run, and files of different data sets share one.
    """
    # Only csv is documented. Should the same data set exist in another format too, that is another file.
    other = () if row.file_format.casefold() in ("", "csv") else (row.file_format.casefold(),)
    return join_key(tenant, _KIND, *_key_fields(row), *other)


def remote_file(row: DatasetFile, *, tenant: str, now: datetime, listed: ListedLink | None = None) -> RemoteFile:
    """
    Return the entry of a dataset file.

    Args:
        row: The row of the list.
        tenant: Origin of the service, and client.
        now: When the row was listed (aware), to compare with the end of its URL.
        listed: Where it was listed, or None.
    """
    # One key, one path: the service means the same by every case, and its own paths have the lower one.
    study, program, data_set, subject = _key_fields(row)
    named = {"study": study, "program": program, "subject": subject, "data_set": data_set}
    return linked_file(
        row,
        key=file_key(tenant, row),
        tenant=tenant,
        folders=(f"study-{study}", f"program-{program}", f"subject-{subject}", data_set),
        fields={**named, "format": row.file_format or "csv"},
        link=sign(row.file_url, announced=row.download_url_expires_on, now=now, listed=listed),
    )


class DatasetFileSet(LinkedFileSet[DatasetQuery, DatasetFile]):
    """The dataset files of a study, or some of them; made by :meth:`Datasets.files`."""

    _empty = (
        "Dataset files appear only after ActiGraph has processed the study on request; before that the list is empty, "
        "which is not an error."
    )

    def __init__(self, api: Api, query: DatasetQuery) -> None:
        super().__init__(api, query)
        #: The data sets as the service writes them, by their names in lower case.
        self._written: dict[str, str] = {}

    async def find(self, keys: Collection[str]) -> list[RemoteFile]:
        """
        List again for some keys, with the fewest requests, and return their entries with fresh URLs.

        A key whose URL was rejected is found on its page, listed again for all files on it. Other keys of one subject
        take one request. Keys of several take one for each subject, or the complete list, whichever is less. Two rows
        of one key are both returned; a key that is gone is missing.
        """
        requested = await self._query.resolved(self._api)
        fields = {key: split_key(key, self._api.tenant, _KIND) for key in keys}
        found, missing = await self._renewed([key for key in keys if requested.covers(fields[key])])
        if missing:
            found += await self._find_listed(requested, {key: fields[key][:4] for key in missing})
        return found

    async def _find_listed(self, requested: DatasetQuery, named: Mapping[str, Sequence[str]]) -> list[RemoteFile]:
        """List for some keys, with the fields of each."""
        query = self._narrowed_to(requested, named.values())
        by_subject = [
            attrs.evolve(query, subject=int(subject)) for subject in sorted({row[3] for row in named.values()})
        ]
        left = pages_of(self._total or 0) if query == requested else 0
        found: list[RemoteFile] = []
        failures = ListFailures()
        narrow = 1 < len(by_subject) < left
        if not narrow:
            with failures.collected(ListingError):
                async with aclosing(self._pages_of(query, any_row=True)) as pages:
                    async for page in pages:
                        found += [file for file in page.items if file.key in named]
                        left = pages_of(page.total or 0) - page.offset // MAX_PAGE_SIZE - 1
                        narrow = 1 < len(by_subject) < left
                        if narrow:
                            break
        if narrow:
            found = []
            for one in by_subject:
                found += await self._matching(one, named, failures, any_row=True)
        if not named.keys() <= {file.key for file in found}:
            failures.check()
        return found

    def _narrowed_to(self, query: DatasetQuery, wanted: Iterable[Sequence[str]]) -> DatasetQuery:
        """Return the narrowest query that includes all files with these key fields."""
        _, program, data_set, subject = (set(values) for values in zip(*wanted, strict=True))
        if len(subject) == 1:
            query = attrs.evolve(query, subject=int(subject.pop()))
        if len(program) == 1:
            query = attrs.evolve(query, program=program.pop())
        # A key has the data set in one case only. It is requested as the service itself writes it, or not at all.
        if len(data_set) == 1 and query.data_set is None:
            query = attrs.evolve(query, data_set=self._written.get(data_set.pop()))
        return query

    def _entry(self, row: DatasetFile, listed_at: datetime, listed: ListedLink) -> RemoteFile:
        self._written[row.data_set_name.casefold()] = row.data_set_name
        return remote_file(row, tenant=self._api.tenant, now=listed_at, listed=listed)


class Choice(enum.Enum):
    """How to list what changed."""

    #: Nothing did.
    NOTHING = "nothing"
    #: The files of each subject for which a program ran.
    SUBJECTS = "subjects"
    #: All files.
    WHOLE = "whole"
    #: The first page of all files, to learn how many there are.
    LOOK = "look"


def choose(*, changed: int, pages: int | None, min_pages: int) -> Choice:
    """
    Choose how to list what changed, with the fewest requests. Where both cost the same, all files are listed.

    Args:
        changed: Subjects for which a program ran; one request for each.
        pages: Pages of the complete list that are still to be requested, or None when that is not known.
        min_pages: How many there are at the least.
    """
    if not changed:
        return Choice.NOTHING
    if pages is None:
        return Choice.SUBJECTS if changed < max(min_pages, 2) else Choice.LOOK
    return Choice.SUBJECTS if changed < pages else Choice.WHOLE


def list_name(study: object, subject: object, program: str) -> str:
    """Return the name of the list of the files of one subject and program, under which its watermark is kept."""
    return f"{SERVICE}/study-{study}/subject-{subject}/program-{program.casefold()}"


@attrs.define
class Changes:
    """
    For which subjects which programs ran since some time, read off the dataset export subjects one by one.

    Args:
        since: The time (aware).
        known: The names of those lists of the study (:func:`list_name`) that were listed before; None for all.
        programs: The programs that ran since then, by subject.
        executed: Pairs of subject and program that ever ran; each has one file at the least.
    """

    since: datetime
    known: Collection[str] | None = None
    programs: dict[int, list[str]] = attrs.field(factory=dict)
    executed: int = 0

    def add(self, subject: DatasetSubject) -> None:
        """Count one subject."""
        for execution in subject.study_program_executions:
            ran = execution.last_successful_program_execution
            self.executed += ran is not None
            if ran is not None and (is_later(ran, self.since) or self._is_new(subject, execution.study_program_id)):
                self.programs.setdefault(subject.subject_id, []).append(execution.study_program_id)

    def _is_new(self, subject: DatasetSubject, program: str) -> bool:
        """Return whether no file of a subject and program was ever listed."""
        return self.known is not None and list_name(subject.study_id, subject.subject_id, program) not in self.known

    def choice(self, total: int | None, *, here: int = 0) -> Choice:
        """
        Choose how to list what changed.

        Args:
            total: Files in all, as last seen; None when that is not known.
            here: Pages of the complete list that were received already.
        """
        if not self.executed:
            return Choice.WHOLE
        pages = None if total is None else pages_of(total) - here
        return choose(changed=len(self.programs), pages=pages, min_pages=pages_of(self.executed))

    def queries(self, whole: DatasetQuery) -> list[DatasetQuery]:
        """Return what to list for each subject: one program where only one ran, else all of them."""
        return [
            attrs.evolve(whole, subject=subject, program=programs[0] if len(programs) == 1 else None)
            for subject, programs in self.programs.items()
        ]


@attrs.define
class _StudyState:
    """What was last seen of a study: how many files it has, and which data sets lack data; None where not read."""

    total: int | None = None
    stale: list[StaleDataSet] | None = None


class StudyFileSet(DatasetFileSet):
    """
    All dataset files of a study; made by :meth:`CentrePointClient.study_files`.

    With a ``Mirror`` a later run lists only the files of subjects for which a program ran since, if that is less than
    the complete list. Such a run does not know what is gone; one that lists everything does.

    Args:
        api: Sends the requests.
        query: The study.
        watermarks: Only what ran after the newest of these times (aware), and what is in a list that has none; empty
            for everything.
        seen: What other sets of the same study have seen.
    """

    def __init__(
        self,
        api: Api,
        query: DatasetQuery,
        *,
        watermarks: Mapping[str, datetime] | None = None,
        seen: _StudyState | None = None,
    ) -> None:
        super().__init__(api, query)
        self.scope = f"{SERVICE}/study-{query.study}"
        self._watermarks = watermarks or {}
        self.narrowed = bool(self._watermarks)
        self._seen = seen or _StudyState()

    def __aiter__(self) -> AsyncGenerator[RemoteFile, None]:  # noqa: PYI058 - it can be closed
        """
        List the files, a page of up to 100 at a time.

        Raises:
            ListingError: The list contradicts itself, or has rows that were not requested.
            NotFoundError: There is no such study, or this client does not see it.
        """
        return self._changed_since() if self._watermarks else super().__aiter__()

    def since(self, watermarks: Mapping[str, datetime]) -> StudyFileSet:
        """Return the set of the files of all subjects and programs that ran since, or are not known."""
        if not watermarks and not self._watermarks:
            return self
        return StudyFileSet(self._api, self._query, watermarks=watermarks, seen=self._seen)

    async def stale(self) -> list[StaleDataSet]:
        """
        Return the data sets that lack raw data, as of the last run that began at a watermark, or else as of now.

        It costs nothing after a run that began at a watermark, else one request for 100 subjects.

        Raises:
            ApiError: The subjects could not be listed, as for any list with its other errors.
        """
        if self._seen.stale is None:
            await self._look(Changes(self._api.clock.now()))
        return list(self._seen.stale or ())

    async def notices(self) -> list[Notice]:
        """
        Return the notices for after a sync: which data sets are stale. It costs what :meth:`stale` costs.

        Raises:
            ApiError: The subjects could not be listed, as for any list with its other errors.
        """
        stale = await self.stale()
        if not stale:
            return []
        subjects = list(dict.fromkeys(row.subject_id for row in stale))
        named = ", ".join(map(str, subjects[:_MAX_NAMED])) + (", ..." if len(subjects) > _MAX_NAMED else "")
        text = (
            f"stale: study {self._query.study}: raw data of {len(subjects):,} subject{'s' * (len(subjects) > 1)} "
            f"({named}) was uploaded after a study program last ran, so the data sets lack it. Ask "
            "ActiGraph to process the study; the service sends no notice of it."
        )
        return [Notice(kind="stale", text=text, rows=tuple(stale))]

    def cost(self) -> Cost:
        """Return the cost: the pages of the list; with a watermark at least one, to read where programs ran."""
        return Cost(listing=1, per_file=0) if self._watermarks else super().cost()

    async def _changed_since(self) -> AsyncGenerator[RemoteFile, None]:
        """Read what changed, choose how to list it, and list it; the error of one list comes after all others."""
        # All of them come from the same list of subjects, so that the newest one counts.
        changes = Changes(max(self._watermarks.values()), known=self._watermarks.keys())
        failures = ListFailures()
        with failures.collected(ListingError):
            await self._look(changes)
        choice = changes.choice(self._seen.total)
        if choice in (Choice.WHOLE, Choice.LOOK):
            with failures.collected(ListingError):
                async with aclosing(self._pages_of(self._query)) as listing:
                    async for page in listing:
                        self._note(page)
                        if choice is Choice.LOOK:
                            choice = changes.choice(self._seen.total, here=1)
                        if choice is Choice.SUBJECTS:
                            break
                        for file in page.items:
                            yield file
        if choice is Choice.SUBJECTS:
            async with aclosing(self._of_subjects(changes, failures)) as files:
                async for file in files:
                    yield file
        failures.check()

    async def _of_subjects(self, changes: Changes, failures: ListFailures) -> AsyncGenerator[RemoteFile, None]:
        """List the files of the subjects for which programs ran, and add to the failures what is not whole."""
        for query in changes.queries(self._query):
            with failures.collected():
                async with aclosing(self._pages_of(query)) as pages:
                    async for page in pages:
                        for file in page.items:
                            yield file

    async def _look(self, changes: Changes) -> None:
        """Read for which subjects programs ran, and note what is stale."""
        stale: list[StaleDataSet] = []
        async with aclosing(aiter(self._api.list(DATASET_SUBJECTS, study=self._query.study))) as subjects:
            async for subject in subjects:
                changes.add(subject)
                stale += subject.stale
        self._seen.stale = stale

    def _note(self, page: Page) -> None:
        """Remember how long the complete list is."""
        super()._note(page)
        self._seen.total = page.total

    def _entry(self, row: DatasetFile, listed_at: datetime, listed: ListedLink) -> RemoteFile:
        """Return the entry of a row. Later runs are compared with the time of the run, so it counts here too."""
        file = super()._entry(row, listed_at, listed)
        ran, changed_at = row.last_successful_program_execution, file.changed_at
        if ran is not None and ran.tzinfo is not None and changed_at is not None:
            changed_at = min(ran, changed_at)
        listed_in = list_name(row.study_id, row.subject_id, row.study_program_id)
        return attrs.evolve(file, changed_at=changed_at, listed_in=listed_in)


class Datasets:
    """
    Dataset files of a study; reached as ``client.datasets``. Needs the scope ``DataAccess``.

    Data appears only after ActiGraph was requested by e-mail to process a study; before that every list is empty, which
    is not an error.

    Args:
        api: Sends the requests.
        legacy: Whether requests have the form of the first published page, unless a call overrides it.
    """

    def __init__(self, api: Api, *, legacy: bool = False) -> None:
        self._api = api
        self._legacy = legacy

    def search(
        self,
        study: int | str,
        *,
        subject: int | str | None = None,
        program: str | None = None,
        data_set: str | None = None,
        legacy: bool | None = None,
    ) -> Paginator[DatasetFile]:
        """
        Return the paginator of the dataset files, up to 100 a request.

        Every row is compared with the filters, since a service that ignores them responds with all files.

        Args:
            study: The number of the study.
            subject: Only this subject: its number as an ``int``, or its identifier as text (digits too, see
                :meth:`Subjects.resolve`).
            program: Only this study program, by its GUID, in any case.
            data_set: Only data sets of this name, in any case.
            legacy: Send the request of the first published page (``datasetexportfiles``, filters in the body of the
                GET); None for what the client was made with.

        Raises:
            ConfigurationError: An argument cannot be what it should be; raised at once.
            ListingError: While iterating: the list contradicts itself, or has rows that were not requested.
        """
        legacy = self._legacy if legacy is None else legacy
        query = DatasetQuery(study, subject, program=program, data_set=data_set, legacy=legacy)
        return query.paginator(self._api)

    def files(
        self,
        study: int | str,
        *,
        subject: int | str | None = None,
        program: str | None = None,
        data_set: str | None = None,
        legacy: bool | None = None,
    ) -> DatasetFileSet:
        """
        Return the same files as :meth:`search` as a set for a ``Downloader`` or ``Mirror``.

        Raises:
            ConfigurationError: An argument cannot be what it should be.
        """
        legacy = self._legacy if legacy is None else legacy
        query = DatasetQuery(study, subject, program=program, data_set=data_set, legacy=legacy)
        return DatasetFileSet(self._api, query)

    def subjects(self, study: int | str) -> Paginator[DatasetSubject]:
        """
        Return the paginator of when raw data of each subject was last uploaded, and when each program last ran for it.

        One request covers up to 100 subjects, and shows which of them need a :meth:`search`.
        """
        return self._api.list(DATASET_SUBJECTS, study=study)

    async def subject(self, study: int | str, subject: int | str) -> DatasetSubject:
        """
        Return the same for one subject, by number or identifier.

        Raises:
            NotFoundError: There is no such subject.
        """
        return await self._api.get(DATASET_SUBJECTS, await self._api.subjects.resolve(study, subject), study=study)
