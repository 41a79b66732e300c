"""
All dataset files of a study, and what changed since the last run.

The service cannot filter on changes. It lists for which subjects a program ran since, 100 subjects in a request, and
the rest depends on the cost::

    nothing ran ───────────────────────────────▶ nothing to list
    fewer subjects than the list has pages ────▶ the files of each of them, one request for each
    as many or more ───────────────────────────▶ the complete list
    the length of the list is not known ───────▶ its first page shows it, and is the first of the complete list then
    nothing ever ran, by that list ────────────▶ the complete list: that list proves nothing
"""

from __future__ import annotations

import enum
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import datetime

import attrs

from arena_async.protocol.files import Cost, Notice, RemoteFile
from arena_async.protocol.pagination import Page
from arena_async.providers.centrepoint.adapter import pages_of
from arena_async.providers.centrepoint.api import Api
from arena_async.providers.centrepoint.datasets import DatasetFileSet, DatasetQuery
from arena_async.providers.centrepoint.identifiers import SERVICE
from arena_async.providers.centrepoint.links import ListedLink
from arena_async.providers.centrepoint.models import DatasetFile, DatasetSubject, StaleDataSet, is_later
from arena_async.providers.centrepoint.studies import DATASET_SUBJECTS

__all__ = ["Changes", "Choice", "StudyFileSet", "choose"]

#: Subjects that are named in a notice.
_MAX_NAMED = 5


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
    programs: dict[int, list[str]] = attrs.field(factory=dict)
    executed: int = 0

    def add(self, subject: DatasetSubject) -> None:
        """Count one subject."""
        for execution in subject.study_program_executions:
            ran = execution.last_successful_program_execution
            self.executed += ran is not None
            if ran is not None and is_later(ran, self.since):
                self.programs.setdefault(subject.subject_id, []).append(execution.study_program_id)

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
        watermark: Only what ran after this time (aware); None for everything.
        seen: What other sets of the same study have seen.
    """

    def __init__(
        self,
        api: Api,
        query: DatasetQuery,
        *,
        watermark: datetime | None = None,
        seen: _StudyState | None = None,
    ) -> None:
        super().__init__(api, query)
        self._watermark = watermark
        self._seen = seen or _StudyState()

    @property
    def scope(self) -> str:
        """The name of the query, without any secret."""
        return f"{SERVICE}/study-{self._query.study}"

    @property
    def narrowed(self) -> bool:
        """Whether it leaves out what did not change."""
        return self._watermark is not None

    def __aiter__(self) -> AsyncGenerator[RemoteFile, None]:  # noqa: PYI058 - it can be closed
        """
        List the files, a page of up to 100 at a time.

        Raises:
            ListingError: The list contradicts itself, or has rows that were not requested.
            NotFoundError: There is no such study, or this client does not see it.
        """
        return super().__aiter__() if self._watermark is None else self._changed_since(self._watermark)

    def since(self, watermark: datetime | None) -> StudyFileSet:
        """Return the set of the files of all subjects for which a program ran after ``watermark`` (aware)."""
        if watermark is None and self._watermark is None:
            return self
        return StudyFileSet(self._api, self._query, watermark=watermark, seen=self._seen)

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
        return super().cost() if self._watermark is None else Cost(listing=1, per_file=0)

    async def _changed_since(self, watermark: datetime) -> AsyncGenerator[RemoteFile, None]:
        """Read what changed, choose how to list it, and list it."""
        changes = Changes(watermark)
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
            for query in changes.queries(self._query):
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
        ran = row.last_successful_program_execution
        if ran is None or ran.tzinfo is None or file.changed_at is None:
            return file
        return attrs.evolve(file, changed_at=min(ran, file.changed_at))
