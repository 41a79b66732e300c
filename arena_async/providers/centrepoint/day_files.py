"""Day files: one file for every subject, category, day and format, as the service prepares them."""

from __future__ import annotations

import calendar
import itertools
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from datetime import date, datetime, timedelta
from typing import Any
from urllib.parse import quote

import attrs

from arena_async.errors import ConfigurationError, DecodeError, NotFoundError
from arena_async.http.paginator import Paginator
from arena_async.protocol.files import RemoteFile
from arena_async.protocol.messages import Request, join_path, printable
from arena_async.providers.centrepoint.adapter import list_shape, pages_of
from arena_async.providers.centrepoint.api import ApiService, Match, is_one_of, read_rows
from arena_async.providers.centrepoint.auth import DATA_ACCESS
from arena_async.providers.centrepoint.identifiers import SERVICE, join_key, named_subject, split_key, word
from arena_async.providers.centrepoint.linked_files import LinkedFileQuery, LinkedFileSet, linked_file
from arena_async.providers.centrepoint.links import ListedLink, sign
from arena_async.providers.centrepoint.models import DayFile
from arena_async.transfer.union import ListFailures

__all__ = ["CATEGORIES", "DayFileSet", "DayFiles", "DayQuery", "day_file", "file_key", "narrowest", "read_file_key"]

#: The categories of the vendor's page. All but the first depend on device, firmware, study and contract.
CATEGORIES = (
    "raw-accelerometer",
    "temperature",
    "ppg-green",
    "ppg-green-100-hz",
    "barometer",
    "imu",
    "ppg-red-ir-50-hz",
)

_KIND = "day-file"
_DAYS_OF_A_YEAR = 366
_SLACK = timedelta(days=1)


def _category(value: str) -> str:
    """Return the name of a category; the service means the same by every case."""
    return word(value).casefold()


def _format(value: str) -> str:
    name = word(value).casefold()
    if not (name.isascii() and name.isalnum()):
        raise ConfigurationError(f"{printable(repr(value))} is no format of day files; the formats are csv and avro.")
    return name


def _day(value: date | str) -> date:
    """Return a day: a date, or text like ``2021-01-01``."""
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    if isinstance(value, str):
        with suppress(ValueError):
            return date.fromisoformat(value.strip())
    raise ConfigurationError(
        f"{printable(repr(value))} is no day; it takes a date, or text like 2021-01-01. It is a day of the subject's "
        "own calendar, so it has no time and no timezone."
    )


def _between(low: int, high: int, what: str) -> Callable[[Any, Any, Any], None]:
    """Return the validator of a number that may be None."""

    def check(_: Any, __: Any, value: Any) -> None:
        if value is not None and (type(value) is not int or not low <= value <= high):
            raise ConfigurationError(f"{printable(repr(value))} is no {what}; it takes a number, {low} to {high}.")

    return check


@attrs.frozen
class DayQuery(LinkedFileQuery[DayFile]):
    """
    Which day files are requested. What is None is not filtered on.

    Args:
        study: The number of the study.
        subject: The number of the subject as an ``int``, or its identifier as text.
        category: The category, in any case: one of :data:`CATEGORIES`, or another that the service knows.
        day_from: From this day on, a date or text like ``2021-01-01``.
        day_to: Up to this day, itself included.
        year: Only this year; not together with ``day_from`` or ``day_to``.
        month: Only this month of the year.
        day: Only this day of the month.
        file_format: Only ``"csv"`` or only ``"avro"``.
        newest_first: List the last day first.

    Raises:
        ConfigurationError: One of them cannot be what it should be, or they do not go together.
    """

    # The name is part of the key: the documents do not exclude that a day is listed in two versions during a rebuild.
    shape = list_shape("date", "fileFormat", "fileName")
    # A page is requested when the files before it are used up, since the URLs of a page begin to expire when it is
    # listed.
    prefetch = 1

    subject: int | str = attrs.field(converter=named_subject)
    category: str = attrs.field(converter=_category)
    day_from: date | None = attrs.field(default=None, kw_only=True, converter=attrs.converters.optional(_day))
    day_to: date | None = attrs.field(default=None, kw_only=True, converter=attrs.converters.optional(_day))
    year: int | None = attrs.field(default=None, kw_only=True, validator=_between(1, 9999, "year"))
    month: int | None = attrs.field(default=None, kw_only=True, validator=_between(1, 12, "month"))
    day: int | None = attrs.field(default=None, kw_only=True, validator=_between(1, 31, "day of a month"))
    file_format: str | None = attrs.field(default=None, kw_only=True, converter=attrs.converters.optional(_format))
    newest_first: bool = attrs.field(default=False, kw_only=True)

    def __attrs_post_init__(self) -> None:
        """Reject what the service has no request for."""
        if self.year is not None and (self.day_from is not None or self.day_to is not None):
            raise ConfigurationError(
                "Day files are requested by year, month and day, or from a first to a last day, and not by both."
            )
        if (self.month is not None and self.year is None) or (self.day is not None and self.month is None):
            raise ConfigurationError("A month needs its year, and a day its month.")
        if self.year is not None and self.month is not None and self.day is not None:
            last = calendar.monthrange(self.year, self.month)[1]
            if self.day > last:
                raise ConfigurationError(f"{self.year:04}-{self.month:02} has {last} days, and not {self.day}.")
        if self.day_from is not None and self.day_to is not None and self.day_to < self.day_from:
            raise ConfigurationError(f"The last day, {self.day_to}, is before the first one, {self.day_from}.")
        join_path("/{category}", category=self.category)

    @property
    def narrowed(self) -> bool:
        """Whether it leaves out files of this subject and category."""
        return any(value is not None for value in (self.day_from, self.day_to, self.year, self.file_format))

    @property
    def scope(self) -> str:
        """The name of the query; the same files have the same name whatever case is used."""
        filters = {"from": self.day_from, "to": self.day_to, "in": self.dates, "format": self.file_format}
        narrowed = "".join(f"/{name}-{value}" for name, value in filters.items() if value)
        # Digits may be the number of one subject and the identifier of another.
        subject = f"-{self.subject}" if isinstance(self.subject, int) else f"={quote(self.subject, safe='')}"
        return f"{SERVICE}/day-files/study-{self.study}/subject{subject}/{quote(self.category, safe='')}{narrowed}"

    @property
    def dates(self) -> str:
        """The requested year, month or day as the beginning of a date (``2021-01``), or ""."""
        parts = [(self.year, 4), (self.month, 2), (self.day, 2)]
        return "-".join(f"{value:0{digits}}" for value, digits in parts if value is not None)

    @property
    def request(self) -> Request:
        """The request for the list, page aside. One with an identifier for a subject is for messages only."""
        path = join_path(
            "/dataaccess/v3/files/studies/{study}/subjects/{subject}/{category}",
            study=self.study,
            subject=self.subject,
            category=self.category,
        )
        if self.dates:
            path = f"{path}/{self.dates.replace('-', '/')}"
        # As the page writes them: days begin at the subject's own midnight, so there is no timezone in it, and a day
        # whose midnight is the end is still in the range.
        params = {
            "fileFormat": self.file_format,
            "sortOrder": "desc" if self.newest_first else None,
            "startDate": f"{self.day_from.isoformat()}T00:00:00" if self.day_from else None,
            "endDate": f"{self.day_to.isoformat()}T00:00:00" if self.day_to else None,
        }
        return Request(method="GET", path=path, params=params, scope=DATA_ACCESS)

    def holds(self, day: str, file_format: str) -> bool:
        """
        Return whether files of this day and format are among the requested ones.

        A day next to the range passes: the timezone in which the range begins is not documented.
        """
        return (
            self.file_format in (None, _named(file_format))
            and (not self.dates or day == self.dates or day.startswith(f"{self.dates}-"))
            and (self.day_from is None or date.fromisoformat(day) >= self.day_from - _SLACK)
            and (self.day_to is None or date.fromisoformat(day) <= self.day_to + _SLACK)
        )

    def reader(self, *, any_row: bool = False) -> Callable[[Any], DayFile]:
        """Return the reader of the rows; ``any_row`` takes any day and format of this subject and category."""
        line = self.request.line
        matches = [
            is_one_of("studyId", lambda row: row.study_id, self.study),
            is_one_of("subjectId", lambda row: row.subject_id, self.subject),
            is_one_of("dataCategory", lambda row: row.data_category, self.category),
        ]
        if not any_row:
            matches.append(Match(requested=self.scope, holds=self._has, shown=_shown))
        read_row = read_rows(DayFile, line, matches)

        def read(item: Any) -> DayFile:
            row = read_row(item)
            if row.day:
                return row
            raise DecodeError(
                f"{line}: a file is listed whose date is {printable(repr(row.date_text), maximum=60)}, which "
                "is no day. Nothing of the list was used; report it to ActiGraph.",
                problems=("$.date: is no day",),
                request=line,
            )

        return read

    def _has(self, row: DayFile) -> bool:
        return not row.day or self.holds(row.day, row.file_format)

    @property
    def may_be_empty(self) -> bool:
        """Whether a 404 may mean an empty list; not where the category may be misspelled."""
        return self.category in CATEGORIES


def _shown(row: DayFile) -> str:
    return f"{row.day} as {_named(row.file_format)}"


def _named(file_format: str) -> str:
    """Return the name of a format as it is compared; a row without one is csv, as in its model."""
    return file_format.casefold() or "csv"


def file_key(tenant: str, row: DayFile) -> str:
    """
    Return the permanent key of a day file: tenant, study, subject, category, day and format.

    ``fileName`` is no part of it: a day that is rebuilt gets a new one and stays the same day.
    """
    category, kind = row.data_category.casefold(), _named(row.file_format)
    return join_key(tenant, _KIND, str(row.study_id), str(row.subject_id), category, row.day, kind)


def read_file_key(key: str, tenant: str, query: DayQuery) -> tuple[str, str] | None:
    """Return day and format of a key of the same tenant that a query may include, or None."""
    fields = split_key(key, tenant, _KIND)
    if len(fields) != 5 or fields[:3] != (str(query.study), str(query.subject), query.category):
        return None
    day, kind = fields[3:]
    return (day, kind) if query.holds(day, kind) else None


def day_file(row: DayFile, *, tenant: str, now: datetime, listed: ListedLink | None = None) -> RemoteFile:
    """
    Return the entry of a day file.

    Args:
        row: The row of the list; it has a day.
        tenant: Origin of the service, and client.
        now: When the row was listed (aware), to compare with the end of its URL.
        listed: Where it was listed, or None.
    """
    study, subject, category = str(row.study_id), str(row.subject_id), row.data_category.casefold()
    named = {"study": study, "subject": subject, "category": category, "date": row.day}
    return linked_file(
        row,
        key=file_key(tenant, row),
        tenant=tenant,
        folders=("day-files", f"study-{study}", f"subject-{subject}", category, row.day),
        fields={**named, "format": _named(row.file_format)},
        link=sign(row.download_url, announced=row.download_url_expires_on, now=now, listed=listed),
    )


def narrowest(query: DayQuery, wanted: Iterable[tuple[str, str]]) -> list[DayQuery]:
    """
    Return the queries that list some files with the fewest requests: days, months or years of the same subject.

    A month is one page. A year may be less than its months together: 4 pages of one format, 8 of both.

    Args:
        query: What the files were listed with.
        wanted: Day (``2021-01-01``) and format of each.
    """
    files = list(wanted)
    formats = {kind for _, kind in files}
    only = formats.pop() if len(formats) == 1 else None
    base = attrs.evolve(query, day_from=None, day_to=None, year=None, month=None, day=None, file_format=only)
    pages_of_a_year = pages_of(_DAYS_OF_A_YEAR * (1 if only else 2))
    found: list[DayQuery] = []
    wanted_days = sorted({date.fromisoformat(day) for day, _ in files})
    for year, of_year in itertools.groupby(wanted_days, key=lambda day: day.year):
        months = {month: list(days) for month, days in itertools.groupby(of_year, key=lambda day: day.month)}
        if len(months) > pages_of_a_year:
            found.append(attrs.evolve(base, year=year))
            continue
        for month, days in months.items():
            day = days[0].day if len(days) == 1 else None
            found.append(attrs.evolve(base, year=year, month=month, day=day))
    return found


class DayFileSet(LinkedFileSet[DayQuery, DayFile]):
    """The day files of one subject in one category, or some of them; made by :meth:`DayFiles.files`."""

    _empty = (
        "Apart from raw-accelerometer, categories depend on device, firmware, study set-up and contract; an empty list "
        "is not an error."
    )

    async def find(self, keys: Collection[str]) -> list[RemoteFile]:
        """
        List again for some keys, with the fewest requests, and return their entries with fresh URLs.

        A key whose URL was rejected is found on its page, listed again for all files on it. Of the others, those of one
        day, and those of one month, take one request. A key that is gone is missing.
        """
        requested = await self._query.resolved(self._api)
        named = {key: name for key in keys if (name := read_file_key(key, self._api.tenant, requested)) is not None}
        found, missing = await self._renewed(named)
        failures = ListFailures()
        for query in narrowest(requested, [named[key] for key in missing]):
            with suppress(NotFoundError):  # some empty lists are 404
                found += await self._matching(query, missing, failures)
        if not missing <= {file.key for file in found}:
            failures.check()
        return found

    def _entry(self, row: DayFile, listed_at: datetime, listed: ListedLink) -> RemoteFile:
        return day_file(row, tenant=self._api.tenant, now=listed_at, listed=listed)


class DayFiles(ApiService):
    """
    Day files; reached as ``client.day_files``. Needs the scope ``DataAccess``.

    The vendor recommends them for raw data. The service filters on the day of the data only, and a late upload rebuilds
    an old day.
    """

    def search(self, query: DayQuery) -> Paginator[DayFile]:
        """
        Return the paginator of day files, up to 100 a request.

        Raises:
            ListingError: While iterating: the list contradicts itself, or has rows that were not requested.
            NotFoundError: While iterating: the service knows no such study, subject or category.
        """
        return query.paginator(self._api)

    def files(self, query: DayQuery) -> DayFileSet:
        """Return the same files as :meth:`search` as a set for a ``Downloader`` or ``Mirror``."""
        return DayFileSet(self._api, query)
