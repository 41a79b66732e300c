"""Dataset files, the primary data of CentrePoint: the query, the entry of a row, the set, and the service."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import aclosing
from datetime import datetime
from typing import Any
from urllib.parse import quote

import attrs

from arena_async.http.paginator import AHEAD, Paginator
from arena_async.protocol.files import RemoteFile
from arena_async.protocol.messages import Request, join_path
from arena_async.providers.centrepoint.adapter import MAX_PAGE_SIZE, list_shape, pages_of
from arena_async.providers.centrepoint.api import Api, Match, read_rows
from arena_async.providers.centrepoint.auth import DATA_ACCESS
from arena_async.providers.centrepoint.identifiers import SERVICE, join_key, split_key, word
from arena_async.providers.centrepoint.linked_files import LinkedFileQuery, LinkedFileSet, linked_file
from arena_async.providers.centrepoint.links import ListedLink, sign
from arena_async.providers.centrepoint.models import DatasetFile, DatasetSubject
from arena_async.providers.centrepoint.studies import DATASET_SUBJECTS

__all__ = ["DatasetFileSet", "DatasetQuery", "Datasets", "file_key", "remote_file"]

_KIND = "dataset-file"


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
        if not 1 < len(by_subject) < left:
            async with aclosing(self._pages_of(query, any_row=True)) as pages:
                async for page in pages:
                    found += [file for file in page.items if file.key in named]
                    left = pages_of(page.total or 0) - page.offset // MAX_PAGE_SIZE - 1
                    if 1 < len(by_subject) < left:
                        break
                else:
                    return found
        return [file for one in by_subject for file in await self._matching(one, named, any_row=True)]

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
        return await self._api.get(DATASET_SUBJECTS, await self._api.resolve(study, subject), study=study)
