"""Day files: one file for every subject, category, day and format, as the service prepares them."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import aclosing
from datetime import date, datetime

from arena_async.errors import NotFoundError
from arena_async.net.pager import Pager
from arena_async.providers.centrepoint.asking import Asking
from arena_async.providers.centrepoint.day_query import DayQuery, day_file, narrowest, read_day_file_key
from arena_async.providers.centrepoint.linked_files import LinkedFileSet
from arena_async.providers.centrepoint.links import Listed
from arena_async.providers.centrepoint.models import DayFile
from arena_async.wire.contracts import RemoteFile

__all__ = ["DayFileSet", "DayFiles"]


class DayFileSet(LinkedFileSet[DayQuery, DayFile]):
    """
    The day files of one subject in one category, or some of them; made by :meth:`DayFiles.files`.

    It can be walked any number of times, and lists a page only when the files before it are used up, since the links of
    a page begin to end when it is listed. Those that are over are renewed by listing their page again, once for all
    files on it. Its files have no size beforehand.

    Args:
        asking: Asks for lists, and for the number of the subject where it is not known.
        query: Which files.
        tenant: Whose files they are: origin of the service and client.
        now: Gives the time (aware), to judge how long a link will live; None for the service's own clock.
    """

    _empty = (
        "Apart from raw-accelerometer, categories depend on device, firmware, study set-up and contract; an empty list "
        "is not an error."
    )

    async def find(self, keys: Collection[str]) -> list[RemoteFile]:
        """
        List again for some keys, with the fewest requests, and give their entries with fresh links.

        A key whose link was refused comes from its page, listed again for all files on it. Of the others, those of one
        day, and those of one month, take one request. A key that is gone is missing from the answer.
        """
        whole = await self._query.settled(self._asking)
        named = {key: name for key in keys if (name := read_day_file_key(key, self._tenant, whole)) is not None}
        renewed = {key: files for key in named if (files := await self._links.find(key))}
        found = [file for files in renewed.values() for file in files]
        rest = {key: name for key, name in named.items() if key not in renewed}
        for query in narrowest(whole, rest.values()):
            try:
                async with aclosing(self._pages_of(query)) as pages:
                    found += [file async for page in pages for file in page.items if file.key in rest]
            except NotFoundError:
                # A list with nothing in it may be answered like this.
                continue
        return found

    def since(self, watermark: datetime | None) -> DayFileSet:
        """Give the set itself: the service filters on the day of the data, and a late upload rebuilds an old day."""
        del watermark
        return self

    def _pager(self, query: DayQuery, *, any_row: bool, start: int = 0, ahead: int = 1) -> Pager[DayFile]:
        """Give the list of a query, never a page ahead."""
        del ahead
        return query.pager(self._asking, any_row=any_row, start=start)

    def _entry(self, row: DayFile, came: datetime, listed: Listed) -> RemoteFile:
        """Give the entry of a row."""
        return day_file(row, tenant=self._tenant, now=came, listed=listed)


class DayFiles:
    """
    Day files; reached as ``client.day_files``. Needs the scope ``DataAccess``.

    They are the way to raw data that the vendor recommends.

    Args:
        asking: Asks for lists.
        tenant: Whose files they are: origin of the service and client.
    """

    def __init__(self, asking: Asking, *, tenant: str) -> None:
        self._asking = asking
        self._tenant = tenant

    def search(
        self,
        study: int | str,
        subject: int | str,
        category: str,
        *,
        first_day: date | str | None = None,
        last_day: date | str | None = None,
        year: int | None = None,
        month: int | None = None,
        day: int | None = None,
        file_format: str | None = None,
        newest_first: bool = False,
    ) -> Pager[DayFile]:
        """
        List day files, up to 100 a request.

        Args:
            study: The number of the study.
            subject: The number of the subject, or its identifier as text.
            category: One of :data:`CATEGORIES`, or another that the service knows.
            first_day: From this day on: a date, or text like ``2021-01-01``.
            last_day: Up to this day, itself included.
            year: Only this year; not together with a first or last day.
            month: Only this month of the year.
            day: Only this day of the month.
            file_format: Only ``"csv"`` or only ``"avro"``; both are listed without it.
            newest_first: List the last day first.

        Raises:
            ConfigurationError: An argument cannot be what it should be; raised at once.
            ListingError: While walking: the list contradicts itself, or holds what was not asked for.
            NotFoundError: While walking: the service knows no such study, subject or category.
        """
        query = DayQuery(
            study=study,
            subject=subject,
            category=category,
            first_day=first_day,
            last_day=last_day,
            year=year,
            month=month,
            day=day,
            file_format=file_format,
            newest_first=newest_first,
        )
        return query.pager(self._asking)

    def files(
        self,
        study: int | str,
        subject: int | str,
        category: str,
        *,
        first_day: date | str | None = None,
        last_day: date | str | None = None,
        year: int | None = None,
        month: int | None = None,
        day: int | None = None,
        file_format: str | None = None,
        newest_first: bool = False,
    ) -> DayFileSet:
        """
        Give the same files as :meth:`search` as a set for a ``Downloader`` or ``Mirror``.

        Raises:
            ConfigurationError: An argument cannot be what it should be.
        """
        query = DayQuery(
            study=study,
            subject=subject,
            category=category,
            first_day=first_day,
            last_day=last_day,
            year=year,
            month=month,
            day=day,
            file_format=file_format,
            newest_first=newest_first,
        )
        return DayFileSet(self._asking, query, tenant=self._tenant)
