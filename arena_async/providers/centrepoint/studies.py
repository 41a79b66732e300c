"""The lists of a study: its sites, its subjects, its milestones, and the programs that make data sets of their data."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing

from arena_async.net.pager import Pager
from arena_async.providers.centrepoint.asking import Asking, Demand
from arena_async.providers.centrepoint.auth import CENTREPOINT, DATA_ACCESS
from arena_async.providers.centrepoint.collection_models import Milestone, SubjectMilestone, TimeZoneChange
from arena_async.providers.centrepoint.models import (
    DatasetSubject,
    Site,
    StaleDataSet,
    Study,
    StudyDataSet,
    StudyProgram,
    Subject,
)
from arena_async.providers.centrepoint.subjects import subjects_of

__all__ = ["Milestones", "Programs", "Sites", "Studies", "Subjects", "dataset_subjects_of", "stale_of"]


def dataset_subjects_of(study: int | str) -> Demand[DatasetSubject]:
    """Give what the list of dataset export subjects of a study is asked for."""
    return Demand(
        template="/dataaccess/v3/studies/{study}/subjects",
        scope=DATA_ACCESS,
        model=DatasetSubject,
        key=("subjectId",),
        study=study,
    )


async def stale_of(subjects: Pager[DatasetSubject]) -> AsyncIterator[StaleDataSet]:
    """Give what is stale of these subjects, as they are listed."""
    async with aclosing(aiter(subjects)) as rows:
        async for subject in rows:
            for stale in subject.stale:
                yield stale


class Studies:
    """The studies this client sees; reached as ``client.studies``. Needs the scope ``CentrePoint``."""

    def __init__(self, asking: Asking) -> None:
        self._asking = asking

    def search(self) -> Pager[Study]:
        """List them."""
        return self._asking.walk(Demand(template="/centrepoint/v3/Studies", scope=CENTREPOINT, model=Study))

    async def get(self, study: int | str) -> Study:
        """
        Give one, by its number.

        Raises:
            NotFoundError: There is no such study, or this client does not see it.
        """
        demand = Demand(template="/centrepoint/v3/Studies/{study}", scope=CENTREPOINT, model=Study, study=study)
        return await self._asking.one(demand)

    def stale(self, study: int | str) -> AsyncIterator[StaleDataSet]:
        """
        Give the data sets that lack data: raw data came after their program last ran for the subject, or it never ran.

        Nobody is told of that by the service, and no file shows it. It costs one request for 100 subjects and needs the
        scope ``DataAccess``.

        Raises:
            ConfigurationError: That is no number of a study; raised at once.
        """
        return stale_of(self._asking.walk(dataset_subjects_of(study)))


class Sites:
    """The sites of a study; reached as ``client.sites``. Needs the scope ``CentrePoint``."""

    def __init__(self, asking: Asking) -> None:
        self._asking = asking

    def search(self, study: int | str) -> Pager[Site]:
        """List them."""
        template = "/centrepoint/v3/Studies/{study}/Sites"
        return self._asking.walk(Demand(template=template, scope=CENTREPOINT, model=Site, study=study))

    async def get(self, study: int | str, site: int | str) -> Site:
        """
        Give one, by its number.

        Raises:
            NotFoundError: There is no such site.
        """
        template = "/centrepoint/v3/Studies/{study}/Sites/{site}"
        demand = Demand(template=template, scope=CENTREPOINT, model=Site, study=study, parts={"site": site})
        return await self._asking.one(demand)


class Subjects:
    """
    The subjects of a study; reached as ``client.subjects``. Needs the scope ``CentrePoint``.

    The service knows subjects by their numbers, people know them by their identifiers. Wherever this library takes a
    subject, it takes either: an ``int`` is the number, text is the identifier. The identifiers of a study are listed
    once for each client and kept.
    """

    def __init__(self, asking: Asking) -> None:
        self._asking = asking

    def search(self, study: int | str) -> Pager[Subject]:
        """List them."""
        return self._asking.walk(subjects_of(study))

    async def get(self, study: int | str, subject: int | str) -> Subject:
        """
        Give one, by its number or its identifier.

        Raises:
            ConfigurationError: The identifier means more than one subject.
            NotFoundError: There is no such subject.
        """
        template = "/centrepoint/v3/Studies/{study}/Subjects/{subject}"
        demand = Demand(template=template, scope=CENTREPOINT, model=Subject, study=study, subject=subject)
        return await self._asking.one(demand)

    async def resolve(self, study: int | str, subject: int | str) -> int:
        """
        Give the number of a subject.

        An ``int`` is the number and costs nothing. Text is an identifier, spelled as the study spells it, and costs the
        list of subjects once for each client and study. Text of digits is looked up as an identifier too, and is taken
        for a number only if no identifier is spelled so and a subject has that number; where it is the identifier of
        one subject and the number of another, that is an error, and no subject is guessed.

        Raises:
            ConfigurationError: It means more than one subject, or nothing that names a subject was given.
            NotFoundError: There is no such subject; the message names what is spelled alike.
        """
        return await self._asking.resolve(study, subject)

    def milestones(self, study: int | str, subject: int | str) -> Pager[SubjectMilestone]:
        """List the milestones that a subject, by number or identifier, has reached."""
        template = "/centrepoint/v3/Studies/{study}/Subjects/{subject}/milestones"
        return self._asking.walk(
            Demand(template=template, scope=CENTREPOINT, model=SubjectMilestone, study=study, subject=subject)
        )

    def time_zones(self, study: int | str, subject: int | str) -> Pager[TimeZoneChange]:
        """List the timezones in which a subject, by number or identifier, has lived, and since when."""
        return self._asking.walk(
            Demand(
                template="/centrepoint/v3/Studies/{study}/Subjects/{subject}/TimezoneHistory",
                scope=CENTREPOINT,
                model=TimeZoneChange,
                key=("subjectId", "timezone", "effectiveDateUtc"),
                study=study,
                subject=subject,
            )
        )


class Milestones:
    """The milestones of a study; reached as ``client.milestones``. Needs the scope ``CentrePoint``."""

    def __init__(self, asking: Asking) -> None:
        self._asking = asking

    def search(self, study: int | str) -> Pager[Milestone]:
        """List them; those of a subject are at :meth:`Subjects.milestones`."""
        template = "/centrepoint/v3/Studies/{study}/Milestones"
        return self._asking.walk(Demand(template=template, scope=CENTREPOINT, model=Milestone, study=study))


class Programs:
    """
    The study programs of a study; reached as ``client.programs``. Needs the scope ``DataAccess``.

    Two programs may have the same name, so they are told apart by their GUID.
    """

    def __init__(self, asking: Asking) -> None:
        self._asking = asking

    def search(self, study: int | str) -> Pager[StudyProgram]:
        """List them; empty where the contract has none."""
        return self._asking.walk(
            Demand(
                template="/dataaccess/v3/Studies/{study}/programs",
                scope=DATA_ACCESS,
                model=StudyProgram,
                key=("studyProgramId",),
                study=study,
            )
        )

    async def get(self, study: int | str, program: str) -> StudyProgram:
        """
        Give one, by its GUID.

        Raises:
            NotFoundError: There is no such program.
        """
        template = "/dataaccess/v3/Studies/{study}/programs/{program}"
        demand = Demand(
            template=template, scope=DATA_ACCESS, model=StudyProgram, study=study, parts={"program": program}
        )
        return await self._asking.one(demand)

    def data_sets(self, study: int | str, program: str) -> Pager[StudyDataSet]:
        """List the data sets that one program makes."""
        return self._asking.walk(
            Demand(
                template="/dataaccess/v3/Studies/{study}/programs/{program}/datasets",
                scope=DATA_ACCESS,
                model=StudyDataSet,
                key=("dataSetName",),
                study=study,
                parts={"program": program},
            )
        )
