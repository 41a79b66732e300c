"""
Everything a study has: the dataset files of all subjects, programs and data sets, and what changed since last night.

The service cannot be asked for what changed. It says for which subjects a program ran since, 100 subjects in a request,
and from there on it is a matter of cost::

    nothing ran ───────────────────────────────▶ nothing to list
    fewer subjects than the list has pages ────▶ the files of each of them, one request for each
    as many or more ───────────────────────────▶ the whole list
    the length of the list is not known ───────▶ its first page tells, and is the first of the whole list then
    nothing ever ran, by that list ────────────▶ the whole list: it says nothing
"""

from __future__ import annotations

import enum
import math
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from datetime import datetime

import attrs

from arena_async.providers.centrepoint.asking import Asking
from arena_async.providers.centrepoint.dialect import LARGEST_PAGE
from arena_async.providers.centrepoint.entries import SERVICE, Entries
from arena_async.providers.centrepoint.files import DatasetFileSet, DatasetQuery
from arena_async.providers.centrepoint.links import Listed
from arena_async.providers.centrepoint.models import DatasetFile, DatasetSubject, StaleDataSet, is_later
from arena_async.providers.centrepoint.studies import dataset_subjects_of
from arena_async.wire.contracts import Price, Remark, RemoteFile
from arena_async.wire.paging import Page

__all__ = ["Changes", "Choice", "StudyFileSet", "choose", "pages_of"]

#: Subjects that are named in a remark.
_MOST_NAMED = 5


class Choice(enum.Enum):
    """How to list what changed."""

    #: Nothing did.
    NOTHING = "nothing"
    #: The files of each subject for which a program ran.
    SUBJECTS = "subjects"
    #: All files.
    WHOLE = "whole"
    #: The first page of all files, to see how many there are.
    LOOK = "look"


def choose(*, changed: int, pages: int | None, least_pages: int) -> Choice:
    """
    Choose how to list what changed, with the fewest requests. Where it is all the same, all files are listed.

    Args:
        changed: Subjects for which a program ran; one request for each.
        pages: Pages of the whole list that are still to be asked for, or None when that is not known.
        least_pages: How many there are at the least.
    """
    if not changed:
        return Choice.NOTHING
    if pages is not None:
        return Choice.SUBJECTS if changed < pages else Choice.WHOLE
    return Choice.SUBJECTS if changed < max(least_pages, 2) else Choice.LOOK


def pages_of(rows: int) -> int:
    """Say in how many requests a list of so many rows comes: one at the least."""
    return max(1, math.ceil(rows / LARGEST_PAGE))


@attrs.define
class Changes:
    """
    For which subjects which programs ran since some time, read off the dataset export subjects one by one.

    Args:
        since: The time (aware).
        programs: The programs that ran since then, by subject.
        executed: Pairs of subject and program that ever ran; each has one file at the least.
    """

    since: datetime
    programs: dict[int, tuple[str, ...]] = attrs.field(factory=dict)
    executed: int = 0

    def take(self, subject: DatasetSubject) -> None:
        """Take one subject into account."""
        ran = [
            (execution.study_program_id, execution.last_successful_program_execution)
            for execution in subject.study_program_executions
            if execution.last_successful_program_execution is not None
        ]
        self.executed += len(ran)
        since = tuple(program for program, when in ran if is_later(when, self.since))
        if since:
            self.programs[subject.subject_id] = since

    def choice(self, total: int | None, *, here: int = 0) -> Choice:
        """
        Choose how to list what changed.

        Args:
            total: Files in all, as last seen; None when that is not known.
            here: Pages of the whole list that are here already.
        """
        if not self.executed:
            return Choice.WHOLE
        pages = None if total is None else pages_of(total) - here
        return choose(changed=len(self.programs), pages=pages, least_pages=pages_of(self.executed))

    def queries(self, study: int) -> list[DatasetQuery]:
        """Give what to list for each subject: one program where only one ran, else all of them."""
        return [
            DatasetQuery(study=study, subject=subject, program=programs[0] if len(programs) == 1 else None)
            for subject, programs in self.programs.items()
        ]


@attrs.define
class _Seen:
    """What was last seen of a study: how many files it has, and which data sets lack data; None where not looked."""

    total: int | None = None
    stale: list[StaleDataSet] | None = None


class StudyFileSet(DatasetFileSet):
    """
    All dataset files of a study; made by :meth:`CentrePointClient.study_files`.

    With a ``Mirror`` a later run lists only the files of subjects for which a program ran since, if that is less than
    the whole list. Such a run cannot tell what is gone; one that lists everything can.

    Args:
        asking: Asks for lists.
        study: The number of the study.
        tenant: Whose files they are: origin of the service and client.
        legacy: Whether the list is asked for in the form of the first published page.
        now: Gives the time (aware), to judge how long a link will live; None for the service's own clock.
        watermark: Only what ran after this time (aware); None for everything.
        seen: What other sets of the same study have seen.
    """

    def __init__(
        self,
        asking: Asking,
        study: int | str,
        *,
        tenant: str,
        legacy: bool = False,
        now: Callable[[], datetime] | None = None,
        watermark: datetime | None = None,
        seen: _Seen | None = None,
    ) -> None:
        super().__init__(asking, DatasetQuery(study=study), tenant=tenant, legacy=legacy, now=now)
        self._watermark = watermark
        self._seen = seen or _Seen()

    @property
    def scope(self) -> str:
        """The name of the query, without any secret."""
        return f"{SERVICE}/study-{self._query.study}"

    @property
    def narrowed(self) -> bool:
        """Whether it leaves out what did not change."""
        return self._watermark is not None

    def __aiter__(self) -> AsyncIterator[RemoteFile]:
        """
        List the files, a page of up to 100 at a time.

        Raises:
            ListingError: The list contradicts itself, or holds what was not asked for.
            NotFoundError: There is no such study, or this client does not see it.
        """
        return super().__aiter__() if self._watermark is None else self._walk(Changes(self._watermark))

    def since(self, watermark: datetime | None) -> StudyFileSet:
        """Give the set of the files of all subjects for which a program ran after ``watermark`` (aware)."""
        if watermark is None and self._watermark is None:
            return self
        return StudyFileSet(
            self._asking,
            self._query.study,
            tenant=self._tenant,
            legacy=self._legacy,
            now=self._now,
            watermark=watermark,
            seen=self._seen,
        )

    async def stale(self) -> list[StaleDataSet]:
        """
        Give the data sets that lack raw data, as it was when the study was last looked at, or else as it is now.

        It costs nothing after a run that began at a watermark, else one request for 100 subjects.

        Raises:
            ApiError: The subjects could not be listed, as for any list with its other errors.
        """
        if self._seen.stale is None:
            await self._look(Changes(self._now()))
        return list(self._seen.stale or ())

    async def remarks(self) -> list[Remark]:
        """
        Give what people should hear of after a sync: which data sets are stale. It costs what :meth:`stale` costs.

        Raises:
            ApiError: The subjects could not be listed, as for any list with its other errors.
        """
        stale = await self.stale()
        if not stale:
            return []
        subjects = list(dict.fromkeys(row.subject_id for row in stale))
        named = ", ".join(map(str, subjects[:_MOST_NAMED])) + (", ..." if len(subjects) > _MOST_NAMED else "")
        text = (
            f"stale: study {self._query.study}: raw data of {len(subjects):,} subject{'s' * (len(subjects) > 1)} "
            f"({named}) came after a study program last ran, so that the data sets do not hold it yet. Ask ActiGraph "
            "to process the study; nobody is told otherwise."
        )
        return [Remark(kind="stale", text=text, rows=tuple(stale))]

    def price(self) -> Price:
        """Say what it costs: the pages of the list; since a time, at the least to see for whom programs ran."""
        return super().price() if self._watermark is None else Price(listing=1, per_file=0)

    async def _walk(self, changes: Changes) -> AsyncIterator[RemoteFile]:
        """See what changed, choose how to list it, and list it."""
        await self._look(changes)
        choice = changes.choice(self._seen.total)
        if choice in (Choice.WHOLE, Choice.LOOK):
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
            for query in changes.queries(self._query.study):
                async with aclosing(Entries(self._pages_of(query))) as files:
                    async for file in files:
                        yield file

    async def _look(self, changes: Changes) -> None:
        """Ask for which subjects programs ran, and note what is stale."""
        stale: list[StaleDataSet] = []
        async with aclosing(aiter(self._asking.walk(dataset_subjects_of(self._query.study)))) as subjects:
            async for subject in subjects:
                changes.take(subject)
                stale += subject.stale
        self._seen.stale = stale

    def _note(self, page: Page) -> None:
        """Remember how long the whole list is."""
        super()._note(page)
        self._seen.total = page.total

    def _entry(self, row: DatasetFile, came: datetime, listed: Listed) -> RemoteFile:
        """Give the entry of a row. The time of the run is what later runs are compared with, so it counts here too."""
        file = super()._entry(row, came, listed)
        ran = row.last_successful_program_execution
        if ran is None or ran.tzinfo is None or file.changed_at is None:
            return file
        return attrs.evolve(file, changed_at=min(ran, file.changed_at))
