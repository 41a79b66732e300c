"""Dataset files as a set that can be brought home: which are asked for, what each is called, how it is opened."""

from __future__ import annotations

import functools
import math
from collections.abc import (
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Mapping,
)
from contextlib import aclosing
from datetime import datetime
from typing import Any
from urllib.parse import quote

import attrs

from arena_async.errors import ListingError
from arena_async.net.pager import AHEAD, Pager, Question
from arena_async.providers.centrepoint.asking import Asking
from arena_async.providers.centrepoint.auth import DATA_ACCESS
from arena_async.providers.centrepoint.dialect import LARGEST_PAGE, list_shape
from arena_async.providers.centrepoint.entries import (
    SERVICE,
    extension_for,
    join_key,
    named_subject,
    number,
    split_key,
    word,
)
from arena_async.providers.centrepoint.linked_files import LinkedFileSet
from arena_async.providers.centrepoint.links import Listed, sign
from arena_async.providers.centrepoint.models import DatasetFile
from arena_async.wire.contracts import FileSet, RemoteFile
from arena_async.wire.decoding import decode
from arena_async.wire.messages import Request, join_path, printable

__all__ = ["DatasetFileSet", "DatasetQuery", "file_key", "remote_file"]

_KIND = "dataset-file"

# File names alone do not name a row: they collide between data sets. They are part of its name all the same, since
# nothing says that several versions of one data set are never listed side by side.
_SHAPE = list_shape("studyId", "studyProgramId", "dataSetName", "subjectId", "fileName")


@attrs.frozen(kw_only=True)
class DatasetQuery:
    """
    Which dataset files are asked for. What is None is not filtered on.

    Args:
        study: The number of the study.
        subject: The number of a subject.
        identifier: The identifier of a subject, where its number is not known yet.
        program: The GUID of a study program, in any case.
        data_set: The name of a data set, in any case.

    Raises:
        ConfigurationError: One of them cannot be what it should be.
    """

    study: int = attrs.field(converter=number)
    subject: int | None = attrs.field(default=None, converter=attrs.converters.optional(number))
    identifier: str | None = attrs.field(default=None, converter=attrs.converters.optional(word))
    program: str | None = attrs.field(default=None, converter=attrs.converters.optional(word))
    data_set: str | None = attrs.field(default=None, converter=attrs.converters.optional(word))

    @classmethod
    def of(
        cls, study: int | str, *, subject: int | str | None, program: str | None, data_set: str | None
    ) -> DatasetQuery:
        """Make it of what a caller says, who may call a subject by its number or by its identifier."""
        named = None if subject is None else named_subject(subject)
        return cls(
            study=study,
            subject=named if isinstance(named, int) else None,
            identifier=named if isinstance(named, str) else None,
            program=program,
            data_set=data_set,
        )

    async def settled(self, resolve: Callable[[int | str, int | str], Awaitable[int]]) -> DatasetQuery:
        """Give the query with the number of the subject in the place of its identifier."""
        if self.identifier is None:
            return self
        return attrs.evolve(self, subject=await resolve(self.study, self.identifier), identifier=None)

    @property
    def narrowed(self) -> bool:
        """Whether it leaves out files of the study."""
        return bool(self.filters) or self.identifier is not None

    @property
    def filters(self) -> dict[str, Any]:
        """The filters by the names of the service."""
        named = {"subjectId": self.subject, "studyProgramId": self.program, "dataSetName": self.data_set}
        return {name: value for name, value in named.items() if value is not None}

    @property
    def scope(self) -> str:
        """The name of the query; the same files give the same name whatever case they were asked for in."""
        words = {"subject": self.subject, "program": self.program, "data-set": self.data_set}
        narrowed = "".join(
            f"/{name}-{quote(str(value).casefold(), safe='')}" for name, value in words.items() if value is not None
        )
        named = f"/subject-named-{quote(self.identifier, safe='')}" if self.identifier is not None else ""
        return f"{SERVICE}/datasets/study-{self.study}{named}{narrowed}"

    def request(self, *, legacy: bool = False) -> Request:
        """
        Give the request for the list, page aside.

        Args:
            legacy: The form of the first published page: another path, and the filters in the JSON body of the GET.
        """
        if legacy:
            path = join_path("/studies/{study}/datasetexportfiles", study=self.study)
            return Request(method="GET", path=path, json=self.filters, scope=DATA_ACCESS)
        path = join_path("/dataaccess/v3/studies/{study}/datasetfiles", study=self.study)
        return Request(method="GET", path=path, params=self.filters, scope=DATA_ACCESS)

    @functools.cached_property
    def _line(self) -> str:
        return self.request().line

    def matches(self, row: DatasetFile) -> bool:
        """Say whether a row is one of those asked for. The service does not tell cases apart, so neither does this."""
        return (
            row.study_id == self.study
            and self.subject in (None, row.subject_id)
            and (self.program is None or self.program.casefold() == row.study_program_id.casefold())
            and (self.data_set is None or self.data_set.casefold() == row.data_set_name.casefold())
        )

    def read(self, item: Any) -> DatasetFile:
        """
        Read one row, and make sure that it was asked for.

        Raises:
            DecodeError: It is no dataset file.
            ListingError: It is of another study, subject, program or data set: the filters were ignored.
        """
        row = decode(item, DatasetFile, request=self._line)
        if self.matches(row):
            return row
        came = f"study {row.study_id}, subject {row.subject_id}, program {row.study_program_id}, {row.data_set_name}"
        asked = ", ".join(f"{name} {value}" for name, value in (("study", self.study), *self.filters.items()))
        raise ListingError(
            f"{self._line}: asked for {printable(asked)}, got a file of {printable(came)}. The service "
            "ignores the filters, and its answer was not used. List without filters, or try the other form of the "
            "request (legacy).",
            request=self._line,
        )

    def pager(
        self,
        asking: Asking,
        *,
        legacy: bool = False,
        any_row: bool = False,
        start: int = 0,
        ahead: int = AHEAD,
    ) -> Pager[DatasetFile]:
        """
        Give the list.

        Args:
            asking: Asks for lists.
            legacy: As in :meth:`request`.
            any_row: Take rows that were not asked for too.
            start: The offset to begin at.
            ahead: Pages that may be on their way or here at a time.
        """

        async def settle() -> Question[DatasetFile]:
            query = await self.settled(asking.resolve)
            return Question(request=query.request(legacy=legacy), read=_read_any if any_row else query.read)

        return Pager(
            asking.session,
            self.request(legacy=legacy),
            _SHAPE,
            _read_any if any_row else self.read,
            start=start,
            ahead=ahead,
            settle=None if self.identifier is None else settle,
            empty_if=asking.belongs_to(self.study),
        )


def _read_any(item: Any) -> DatasetFile:
    """Read one row, whatever it is of."""
    return decode(item, DatasetFile)


def file_key(tenant: str, row: DatasetFile) -> str:
    """
    Give what names a dataset file for ever: tenant, study, program, data set and subject.

    The service writes GUIDs and data sets in several cases and means the same, so the key has one case. ``fileName`` is
    no part of it: it changes with every run, and files of different data sets share one.
    """
    fields = [str(row.study_id), row.study_program_id.casefold(), row.data_set_name.casefold(), str(row.subject_id)]
    # Only csv is documented. Should the same data set come in another format too, that is another file.
    if row.file_format.casefold() not in ("", "csv"):
        fields.append(row.file_format.casefold())
    return join_key(tenant, _KIND, *fields)


@attrs.frozen
class _Named:
    """What a key names."""

    study: str
    program: str
    data_set: str
    subject: str


def _read_key(key: str, tenant: str) -> _Named | None:
    """Read a key of :func:`file_key` of the same tenant, or give None."""
    fields = split_key(key, tenant, _KIND)
    return _Named(*fields[:4]) if len(fields) in (4, 5) else None


def remote_file(row: DatasetFile, *, tenant: str, now: datetime, listed: Listed | None = None) -> RemoteFile:
    """
    Give the entry of a dataset file.

    Args:
        row: The row of the list.
        tenant: Whose files these are.
        now: When the row was listed (aware), to judge the end of its link.
        listed: Where it was listed, or None.
    """
    # One key, one place: the service means the same by every case, and its own paths have the lower one.
    program, data_set = row.study_program_id.casefold(), row.data_set_name.casefold()
    fields = {
        "study": str(row.study_id),
        "program": program,
        "subject": str(row.subject_id),
        "data_set": data_set,
        "format": row.file_format or "csv",
    }
    changed = row.modified_date
    return RemoteFile(
        key=file_key(tenant, row),
        service=SERVICE,
        tenant=tenant,
        parts=(SERVICE, f"study-{row.study_id}", f"program-{program}", f"subject-{row.subject_id}"),
        stem=data_set,
        extension=extension_for(row.file_format, row.file_name),
        name=row.file_name,
        size=None,
        change=f"{row.modified_text}|{row.file_name}" if row.modified_text or row.file_name else "",
        changed_at=changed if changed is not None and changed.tzinfo is not None else None,
        fields=fields,
        link=sign(row.file_url, announced=row.download_url_expires_on, now=now, listed=listed),
    )


class DatasetFileSet(LinkedFileSet[DatasetQuery, DatasetFile]):
    """
    The dataset files of a study, or some of them; made by :meth:`Datasets.files`.

    It can be walked any number of times. Its files have no size beforehand. Links that are over are renewed by listing
    their page again, once for all files on it.

    Args:
        asking: Asks for lists.
        query: Which files.
        tenant: Whose files they are: origin of the service and client.
        legacy: Whether the list is asked for in the form of the first published page.
        now: Gives the time (aware), to judge how long a link will live; None for the service's own clock.
    """

    _empty = (
        "Dataset files appear only after ActiGraph has processed the study on request; before that the list is empty, "
        "which is not an error."
    )

    def __init__(
        self,
        asking: Asking,
        query: DatasetQuery,
        *,
        tenant: str,
        legacy: bool = False,
        now: Callable[[], datetime] | None = None,
    ) -> None:
        super().__init__(asking, query, tenant=tenant, now=now)
        self._legacy = legacy
        self._spellings: dict[str, str] = {}

    async def find(self, keys: Collection[str]) -> list[RemoteFile]:
        """
        List again for some keys, with the fewest requests, and give their entries with fresh links.

        A key whose link was refused comes from its page, listed again for all files on it. Other keys of one subject
        take one request. Keys of several take one for each subject, or a walk through the whole list, whichever is
        less. Two rows of one key are both given; a key that is gone is missing.
        """
        asked = await self._query.settled(self._asking.resolve)
        named = {key: name for key in keys if (name := _read_key(key, self._tenant)) and _covers(asked, name)}
        renewed = {key: files for key in named if (files := await self._links.find(key))}
        found = [file for files in renewed.values() for file in files]
        return found + await self._find_anew(asked, {key: name for key, name in named.items() if key not in renewed})

    async def _find_anew(self, asked: DatasetQuery, named: Mapping[str, _Named]) -> list[RemoteFile]:
        """List again for some keys."""
        if not named:
            return []
        query = self._narrowed_to(asked, named.values())
        subjects = sorted({name.subject for name in named.values()})
        if query == asked and 1 < len(subjects) < self._pages():
            return await self._find_by_subject(query, subjects, named)
        found: list[RemoteFile] = []
        async with aclosing(self._pages_of(query, any_row=True)) as pages:
            async for page in pages:
                found += [file for file in page.items if file.key in named]
                left = math.ceil((page.total or 0) / LARGEST_PAGE) - page.offset // LARGEST_PAGE - 1
                if 1 < len(subjects) < left:
                    return await self._find_by_subject(query, subjects, named)
        return found

    def since(self, watermark: datetime | None) -> FileSet:
        """Give the set itself: the service cannot be asked for what changed."""
        del watermark
        return self

    def _narrowed_to(self, query: DatasetQuery, names: Iterable[_Named]) -> DatasetQuery:
        """Give the narrowest query that still holds all of these."""
        wanted = list(names)
        subject, program, data_set = (
            {getattr(name, field) for name in wanted} for field in ("subject", "program", "data_set")
        )
        if len(subject) == 1:
            query = attrs.evolve(query, subject=subject.pop())
        if len(program) == 1:
            query = attrs.evolve(query, program=program.pop())
        # A key has the data set in one case only. It is asked for as the service itself spelled it, or not at all.
        if len(data_set) == 1 and query.data_set is None:
            query = attrs.evolve(query, data_set=self._spellings.get(data_set.pop()))
        return query

    async def _find_by_subject(
        self, query: DatasetQuery, subjects: Iterable[str], named: Collection[str]
    ) -> list[RemoteFile]:
        """List the files of each subject, and give those that were asked for."""
        found: list[RemoteFile] = []
        for subject in subjects:
            async for page in self._pages_of(attrs.evolve(query, subject=subject), any_row=True):
                found += [file for file in page.items if file.key in named]
        return found

    def _pager(self, query: DatasetQuery, *, any_row: bool, start: int = 0, ahead: int = AHEAD) -> Pager[DatasetFile]:
        """Give the list of a query."""
        return query.pager(self._asking, legacy=self._legacy, any_row=any_row, start=start, ahead=ahead)

    def _entry(self, row: DatasetFile, came: datetime, listed: Listed) -> RemoteFile:
        """Give the entry of a row."""
        self._spellings[row.data_set_name.casefold()] = row.data_set_name
        return remote_file(row, tenant=self._tenant, now=came, listed=listed)


def _covers(query: DatasetQuery, name: _Named) -> bool:
    """Say whether a key can be in the set of a query."""
    return (
        name.study == str(query.study)
        and (query.subject is None or name.subject == str(query.subject))
        and (query.program is None or name.program == query.program.casefold())
        and (query.data_set is None or name.data_set == query.data_set.casefold())
    )
