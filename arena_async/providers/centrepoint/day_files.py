"""Day files: one file for every subject, category, day and format, as the service prepares them."""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator, Callable, Collection
from datetime import date, datetime

from arena_async.errors import NotFoundError
from arena_async.net.pager import Pager
from arena_async.providers.centrepoint.asking import Asking
from arena_async.providers.centrepoint.day_query import (
    DayQuery,
    day_file,
    narrowest,
    read_day_file_key,
)
from arena_async.providers.centrepoint.dialect import LARGEST_PAGE
from arena_async.providers.centrepoint.entries import Entries
from arena_async.providers.centrepoint.links import open_link
from arena_async.providers.centrepoint.models import DayFile
from arena_async.wire.contracts import OpenedFile, Price, RemoteFile
from arena_async.wire.paging import Page

__all__ = ["DayFileSet", "DayFiles"]


class DayFileSet:
    """
    The day files of one subject in one category, or some of them; made by :meth:`DayFiles.files`.

    It can be walked any number of times, and lists a page only when the files before it are used up, since the links of
    a page begin to end when it is listed. Its files have no size beforehand.

    Args:
        asking: Asks for lists, and for the number of the subject where it is not known.
        query: Which files.
        tenant: Whose files they are: origin of the service and client.
        now: Gives the time (aware), to judge how long a link will live; None for the service's own clock.
    """

    def __init__(
        self,
        asking: Asking,
        query: DayQuery,
        *,
        tenant: str,
        now: Callable[[], datetime] | None = None,
    ) -> None:
        self._asking = asking
        self._query = query
        self._tenant = tenant
        self._now = now or asking.session.now
        self._total: int | None = None

    def __repr__(self) -> str:
        return f"<DayFileSet {self.scope}>"

    @property
    def scope(self) -> str:
        """The name of the query, without any secret."""
        return self._query.scope

    @property
    def narrowed(self) -> bool:
        """Whether a filter leaves out files that exist."""
        return self._query.narrowed

    @property
    def requests_sent(self) -> int:
        """Metered requests that the session has sent so far."""
        return self._asking.session.requests_sent

    def __aiter__(self) -> AsyncIterator[RemoteFile]:
        """
        List the files, a page of up to 100 at a time.

        Raises:
            ListingError: The list contradicts itself, or holds what was not asked for.
            NotFoundError: The service knows no such study, subject or category, or has nothing for it.
        """
        return Entries(self._pages_of(self._query), self._note)

    async def open(self, file: RemoteFile, *, offset: int = 0, validator: str | None = None) -> OpenedFile:
        """
        Ask the file host for the content once, from ``offset`` on if it still matches ``validator``.

        Raises:
            LinkExpiredError: The link is over or not known here; :meth:`find` gives a new one.
            SourceChangedError: The day was rebuilt; :meth:`find` gives the new entry.
            PermissionDeniedError: The file host refuses for another reason.
            ApiError: Another refusal; ``transient`` says whether it may work later.
            TransportError: No usable answer came.
        """
        return await open_link(self._asking.session, file, offset=offset, validator=validator, now=self._now)

    async def find(self, keys: Collection[str]) -> list[RemoteFile]:
        """
        List again for some keys, with the fewest requests, and give their entries with fresh links.

        Keys of one day, and those of one month, take one request. A key that is gone is missing from the answer.
        """
        named = set(keys)
        whole = await self._query.settled(self._asking)
        read = (read_day_file_key(key, self._tenant, whole) for key in named)
        found: list[RemoteFile] = []
        for query in narrowest(whole, [name for name in read if name is not None]):
            try:
                async for page in self._pages_of(query):
                    found += [file for file in page.items if file.key in named]
            except NotFoundError:
                # A list with nothing in it may be answered like this.
                continue
        return found

    def since(self, watermark: datetime | None) -> DayFileSet:
        """Give the set itself: the service filters on the day of the data, and a late upload rebuilds an old day."""
        del watermark
        return self

    def price(self) -> Price:
        """Say what it costs: the pages of the list. Content comes from another host and does not count."""
        pages = max(1, math.ceil((self._total or 0) / LARGEST_PAGE))
        return Price(listing=pages, per_file=0, exact=self._total is not None)

    def _pages_of(self, query: DayQuery) -> AsyncIterator[Page]:
        """List page by page, as entries."""
        return query.pager(self._asking, lambda row: day_file(row, tenant=self._tenant, now=self._now())).pages()

    def _note(self, page: Page) -> None:
        """Remember how long the list is, and say what an empty one means."""
        self._total = page.total
        if page.total == 0:
            logging.getLogger("arena_async").info(
                "%s lists no files. Apart from raw-accelerometer, categories depend on device, firmware, study set-up "
                "and contract; an empty list is not an error.",
                self.scope,
            )


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
        )
        return query.pager(self._asking, lambda row: row)

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
        )
        return DayFileSet(self._asking, query, tenant=self._tenant)
