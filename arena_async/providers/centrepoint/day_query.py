"""Which day files are asked for: the query, what a row of its answer becomes, and the narrowest way to ask again."""

from __future__ import annotations

import calendar
import math
from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta
from typing import Any
from urllib.parse import quote

import attrs

from arena_async.errors import ConfigurationError, DecodeError
from arena_async.net.pager import Pager, Question
from arena_async.providers.centrepoint.asking import Asking, Match, is_same, read_rows
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
from arena_async.providers.centrepoint.links import Listed, sign
from arena_async.providers.centrepoint.models import DayFile
from arena_async.wire.contracts import RemoteFile
from arena_async.wire.messages import Request, join_path, printable

__all__ = ["CATEGORIES", "DayQuery", "day_file", "day_file_key", "narrowest", "read_day_file_key"]

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

# The name is part of it: nothing says that a day is never listed in two versions while it is rebuilt.
_SHAPE = list_shape("date", "fileFormat", "fileName")


def _category(value: Any) -> str:
    """Take the name of a category; the service means the same by every case."""
    return word(value).casefold()


def _format(value: Any) -> str:
    """Take the name of a format."""
    name = word(value).casefold()
    if not (name.isascii() and name.isalnum()):
        raise ConfigurationError(f"{printable(repr(value))} is no format of day files; they come as csv and as avro.")
    return name


def _day(value: Any) -> date:
    """Take a day: a date, or text like ``2021-01-01``."""
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    if isinstance(value, str):
        try:
            return date.fromisoformat(value.strip())
        except ValueError:
            pass
    raise ConfigurationError(
        f"{printable(repr(value))} is no day; it takes a date, or text like 2021-01-01. It is a day of the subject's "
        "own calendar, so it has no time and no timezone."
    )


def _year(value: Any) -> int:
    """Take a year."""
    return _between(value, 1, 9999, "year")


def _month(value: Any) -> int:
    """Take a month of a year."""
    return _between(value, 1, 12, "month")


def _day_of_month(value: Any) -> int:
    """Take a day of a month."""
    return _between(value, 1, 31, "day of a month")


def _between(value: Any, least: int, most: int, what: str) -> int:
    """Take a whole number within bounds."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ConfigurationError(f"{printable(repr(value))} is no {what}; it takes a number, {least} to {most}.")
    return value


@attrs.frozen(kw_only=True)
class DayQuery:
    """
    Which day files are asked for. What is None is not filtered on.

    Args:
        study: The number of the study.
        subject: The number of the subject, or its identifier as text.
        category: The category, in any case: one of :data:`CATEGORIES`, or another that the service knows.
        first_day: The first day, itself included.
        last_day: The last day, itself included.
        year: Only this year.
        month: Only this month of the year.
        day: Only this day of the month.
        file_format: ``"csv"`` or ``"avro"``.
        newest_first: List the last day first.

    Raises:
        ConfigurationError: One of them cannot be what it should be, or they do not go together.
    """

    study: int = attrs.field(converter=number)
    subject: int | str = attrs.field(converter=named_subject)
    category: str = attrs.field(converter=_category)
    first_day: date | None = attrs.field(default=None, converter=attrs.converters.optional(_day))
    last_day: date | None = attrs.field(default=None, converter=attrs.converters.optional(_day))
    year: int | None = attrs.field(default=None, converter=attrs.converters.optional(_year))
    month: int | None = attrs.field(default=None, converter=attrs.converters.optional(_month))
    day: int | None = attrs.field(default=None, converter=attrs.converters.optional(_day_of_month))
    file_format: str | None = attrs.field(default=None, converter=attrs.converters.optional(_format))
    newest_first: bool = False

    def __attrs_post_init__(self) -> None:
        """Refuse what the service has no request for."""
        if self.year is not None and (self.first_day is not None or self.last_day is not None):
            raise ConfigurationError(
                "Day files are asked for by year, month and day, or from a first to a last day, and not by both."
            )
        if (self.month is not None and self.year is None) or (self.day is not None and self.month is None):
            raise ConfigurationError("A month needs its year, and a day its month.")
        if self.year is not None and self.month is not None and self.day is not None:
            most = calendar.monthrange(self.year, self.month)[1]
            if self.day > most:
                raise ConfigurationError(f"{self.year:04}-{self.month:02} has {most} days, and not {self.day}.")
        if self.first_day is not None and self.last_day is not None and self.last_day < self.first_day:
            raise ConfigurationError(f"The last day, {self.last_day}, lies before the first one, {self.first_day}.")
        join_path("/{category}", category=self.category)

    @property
    def narrowed(self) -> bool:
        """Whether it leaves out files of this subject and category."""
        return any(value is not None for value in (self.first_day, self.last_day, self.year, self.file_format))

    @property
    def scope(self) -> str:
        """The name of the query; the same files give the same name whatever case they were asked for in."""
        words = {
            "from": self.first_day,
            "to": self.last_day,
            "in": self.dates,
            "format": self.file_format,
        }
        narrowed = "".join(f"/{name}-{value}" for name, value in words.items() if value)
        # Digits may be the number of one subject and the identifier of another.
        subject = f"-{self.subject}" if isinstance(self.subject, int) else f"={quote(self.subject, safe='')}"
        return f"{SERVICE}/day-files/study-{self.study}/subject{subject}/{quote(self.category, safe='')}{narrowed}"

    @property
    def dates(self) -> str:
        """The year, month or day asked for as the beginning of a date (``2021-01``), or ""."""
        given = [(self.year, 4), (self.month, 2), (self.day, 2)]
        return "-".join(f"{value:0{digits}}" for value, digits in given if value is not None)

    @property
    def request(self) -> Request:
        """The request for the list, page aside. With an identifier for a subject it can only be shown."""
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
            "startDate": f"{self.first_day.isoformat()}T00:00:00" if self.first_day else None,
            "endDate": f"{self.last_day.isoformat()}T00:00:00" if self.last_day else None,
        }
        return Request(method="GET", path=path, params=params, scope=DATA_ACCESS)

    def holds(self, day: str, file_format: str) -> bool:
        """
        Say whether files of this day and format are among those asked for.

        A day beside the range passes: the page does not say in which timezone the range begins.
        """
        return (
            self.file_format in (None, _named(file_format))
            and (not self.dates or day == self.dates or day.startswith(f"{self.dates}-"))
            and (self.first_day is None or date.fromisoformat(day) >= self.first_day - _SLACK)
            and (self.last_day is None or date.fromisoformat(day) <= self.last_day + _SLACK)
        )

    def read(self, item: Any) -> DayFile:
        """
        Read one row, and make sure that it was asked for.

        Raises:
            DecodeError: It is no day file, or does not say of which day it is.
            ListingError: It is of another study, subject, category, day or format: what was asked for was overlooked.
        """
        return self._read(item, [*self._whose, self._when])

    def read_any(self, item: Any) -> DayFile:
        """
        Read one row of any day and format.

        Raises:
            DecodeError: As for :meth:`read`.
            ListingError: It is of another study, subject or category.
        """
        return self._read(item, self._whose)

    def _read(self, item: Any, matches: Sequence[Match]) -> DayFile:
        line = self.request.line
        row: DayFile = read_rows(DayFile, line, matches)(item)
        if row.day:
            return row
        raise DecodeError(
            f"{line}: a file is listed whose date is {printable(repr(row.date_text), most=60)}, which is no day. "
            "Nothing of the list was used; ask ActiGraph about it.",
            problems=("$.date: is no day",),
            request=line,
        )

    @property
    def _whose(self) -> list[Match]:
        """Whose every row must be."""
        return [
            is_same("studyId", self.study, lambda row: row.study_id),
            is_same("subjectId", self.subject, lambda row: row.subject_id),
            is_same("dataCategory", self.category, lambda row: row.data_category),
        ]

    @property
    def _when(self) -> Match:
        """Of which day and format every row must be."""
        return Match(
            asked=self.scope,
            holds=lambda row: not row.day or self.holds(row.day, row.file_format),
            shown=lambda row: f"{row.day} as {_named(row.file_format)}",
        )

    async def settled(self, asking: Asking) -> DayQuery:
        """
        Give the same query with the number of the subject.

        Raises:
            NotFoundError: No subject of the study has this identifier.
            ConfigurationError: Several have it.
        """
        if isinstance(self.subject, int):
            return self
        return attrs.evolve(self, subject=await asking.resolve(self.study, self.subject))

    def pager(self, asking: Asking, *, any_row: bool = False, start: int = 0) -> Pager[DayFile]:
        """
        Give the list, one page at a time: links begin to end when their page is listed.

        Args:
            asking: Asks for it, and for the number of the subject where that is not known.
            any_row: Take days and formats that were not asked for too.
            start: The offset to begin at.
        """

        def question(query: DayQuery) -> Question[DayFile]:
            return Question(request=query.request, read=query.read_any if any_row else query.read)

        async def settle() -> Question[DayFile]:
            return question(await self.settled(asking))

        return Pager(
            asking.session,
            self.request,
            _SHAPE,
            question(self).read,
            start=start,
            ahead=1,
            settle=settle,
            # Where the name of the category may be a mistake, "not found" stays an error.
            empty_if=asking.belongs_to(self.study, self.subject) if self.category in CATEGORIES else None,
        )


def _named(file_format: str) -> str:
    """Give the name of a format as it is compared; a row without one is csv, as its model says."""
    return file_format.casefold() or "csv"


def day_file_key(tenant: str, row: DayFile) -> str:
    """
    Give what names a day file for ever: tenant, study, subject, category, day and format.

    ``fileName`` is no part of it: a day that is rebuilt gets a new one and stays the same day.
    """
    category, kind = row.data_category.casefold(), _named(row.file_format)
    return join_key(tenant, _KIND, str(row.study_id), str(row.subject_id), category, row.day, kind)


def read_day_file_key(key: str, tenant: str, query: DayQuery) -> tuple[str, str] | None:
    """Give day and format of a key of the same tenant that a query may hold, or None."""
    fields = split_key(key, tenant, _KIND)
    if len(fields) != 5 or fields[:3] != (str(query.study), str(query.subject), query.category):
        return None
    day, kind = fields[3:]
    return (day, kind) if query.holds(day, kind) else None


def day_file(row: DayFile, *, tenant: str, now: datetime, listed: Listed | None = None) -> RemoteFile:
    """
    Give the entry of a day file.

    Args:
        row: The row of the list; it has a day.
        tenant: Whose files these are.
        now: When the row was listed (aware), to judge the end of its link.
        listed: Where it was listed, or None.
    """
    category = row.data_category.casefold()
    changed = row.modified_date
    return RemoteFile(
        key=day_file_key(tenant, row),
        service=SERVICE,
        tenant=tenant,
        parts=(SERVICE, "day-files", f"study-{row.study_id}", f"subject-{row.subject_id}", category),
        stem=row.day,
        extension=extension_for(row.file_format, row.file_name),
        name=row.file_name,
        change=f"{row.modified_text}|{row.file_name}" if row.modified_text or row.file_name else "",
        changed_at=changed if changed is not None and changed.tzinfo is not None else None,
        fields={
            "study": str(row.study_id),
            "subject": str(row.subject_id),
            "category": category,
            "date": row.day,
            "format": _named(row.file_format),
        },
        link=sign(row.download_url, announced=row.download_url_expires_on, now=now, listed=listed),
    )


def narrowest(query: DayQuery, wanted: Iterable[tuple[str, str]]) -> list[DayQuery]:
    """
    Give the queries that hold some files with the fewest requests: days, months or years of the same subject.

    A month is one page. A year may be less than its months together: 4 pages of one format, 8 of both.

    Args:
        query: What the files were listed with.
        wanted: Day (``2021-01-01``) and format of each.
    """
    files = list(wanted)
    formats = {kind for _, kind in files}
    only = formats.pop() if len(formats) == 1 else None
    whole = attrs.evolve(query, first_day=None, last_day=None, year=None, month=None, day=None, file_format=only)
    pages_of_a_year = math.ceil(_DAYS_OF_A_YEAR * (1 if only else 2) / LARGEST_PAGE)
    found: list[DayQuery] = []
    days = sorted({tuple(int(part) for part in day.split("-")) for day, _ in files})
    for year in sorted({day[0] for day in days}):
        months = sorted({day[1] for day in days if day[0] == year})
        if len(months) > pages_of_a_year:
            found.append(attrs.evolve(whole, year=year))
            continue
        for month in months:
            (first, *others) = [day[2] for day in days if day[:2] == (year, month)]
            found.append(attrs.evolve(whole, year=year, month=month, day=None if others else first))
    return found
