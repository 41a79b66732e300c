"""The lists of a study: sites, subjects, programs, monitors, uploads, webhooks, and what is known of each."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Generic, TypeVar

from arena_async.http.paginator import Paginator
from arena_async.providers.centrepoint import models
from arena_async.providers.centrepoint.api import SUBJECTS, Api, ApiService, Endpoint
from arena_async.providers.centrepoint.identifiers import number

__all__ = [
    "ASSIGNMENTS",
    "DATASET_SUBJECTS",
    "MILESTONES",
    "MONITORS",
    "SITES",
    "Programs",
    "Studies",
    "StudyList",
    "StudyObjects",
    "Subjects",
    "Uploads",
    "Webhooks",
]

T = TypeVar("T")

_STUDIES = Endpoint("/centrepoint/v3/Studies", models.Study)
_STUDY = "/centrepoint/v3/Studies/{study}"
_SUBJECT = f"{_STUDY}/Subjects/{{subject}}"
SITES = Endpoint(f"{_STUDY}/Sites", models.Site)
MILESTONES = Endpoint(f"{_STUDY}/Milestones", models.Milestone)
MONITORS = Endpoint(f"{_STUDY}/ActivityMonitors", models.ActivityMonitor, key=("serial",))
ASSIGNMENTS = Endpoint(f"{_STUDY}/Assignments", models.Assignment)
_UPLOADS = Endpoint(f"{_SUBJECT}/Uploads", models.Upload)
_SUBJECT_MILESTONES = Endpoint(f"{_SUBJECT}/milestones", models.SubjectMilestone)
_TIME_ZONES = Endpoint(
    f"{_SUBJECT}/TimezoneHistory", models.TimeZoneChange, key=("subjectId", "timezone", "effectiveDateUtc")
)
_WEBHOOKS = Endpoint(f"{_STUDY}/Webhooks", models.Webhook)
_DELIVERIES = Endpoint(f"{_STUDY}/Webhooks/{{webhook}}/history", models.WebhookDelivery)
_EVENTS = Endpoint("/centrepoint/v3/WebhookEvents", models.WebhookEvent)
_PROGRAMS = Endpoint("/dataaccess/v3/Studies/{study}/programs", models.StudyProgram, key=("studyProgramId",))
_DATA_SETS = Endpoint(
    "/dataaccess/v3/Studies/{study}/programs/{program}/datasets", models.StudyDataSet, key=("dataSetName",)
)
#: The subjects of a study as the dataset export knows them.
DATASET_SUBJECTS = Endpoint("/dataaccess/v3/studies/{study}/subjects", models.DatasetSubject, key=("subjectId",))


class StudyList(Generic[T]):
    """
    A list of a study.

    Args:
        api: Sends the requests.
        endpoint: The list.
    """

    def __init__(self, api: Api, endpoint: Endpoint[T]) -> None:
        self._api = api
        self._endpoint = endpoint

    def search(self, study: int | str) -> Paginator[T]:
        """Return the paginator of the list."""
        return self._api.list(self._endpoint, study=study)


class StudyObjects(StudyList[T]):
    """A list of a study whose objects can be read one by one."""

    async def get(self, study: int | str, identifier: int | str) -> T:
        """
        Return one object, by its identifying field: the serial of a monitor, the GUID of a program, else the number.

        Raises:
            NotFoundError: There is no such object.
        """
        return await self._api.get(self._endpoint, identifier, study=study)


class Studies(ApiService):
    """The studies that this client sees; reached as ``client.studies``. Needs the scope ``CentrePoint``."""

    def search(self) -> Paginator[models.Study]:
        """Return the paginator of the studies."""
        return self._api.list(_STUDIES)

    async def get(self, study: int | str) -> models.Study:
        """
        Return one study, by its number.

        Raises:
            NotFoundError: There is no such study, or this client does not see it.
        """
        return await self._api.get(_STUDIES, number(study))

    def stale(self, study: int | str) -> AsyncIterator[models.StaleDataSet]:
        """
        Yield the data sets that lack data: raw data was uploaded after their program last ran, or it never ran.

        The service sends no notice of that, and no file shows it. It costs one request for 100 subjects and needs the
        scope ``DataAccess``.

        Raises:
            ConfigurationError: ``study`` is no number of a study; raised at once.
        """
        subjects = self._api.list(DATASET_SUBJECTS, study=study)

        async def stale() -> AsyncIterator[models.StaleDataSet]:
            async with aclosing(aiter(subjects)) as rows:
                async for subject in rows:
                    for data_set in subject.stale:
                        yield data_set

        return stale()


class Subjects(StudyList[models.Subject]):
    """
    The subjects of a study; reached as ``client.subjects``. Needs the scope ``CentrePoint``.

    The service identifies subjects by numbers, people by identifiers. Every method of this library takes either: an
    ``int`` is the number, text is the identifier. The identifiers of a study are listed once for each client and kept.
    """

    def __init__(self, api: Api) -> None:
        super().__init__(api, SUBJECTS)

    async def get(self, study: int | str, subject: int | str) -> models.Subject:
        """
        Return one subject, by its number or its identifier.

        Raises:
            ConfigurationError: The identifier means more than one subject.
            NotFoundError: There is no such subject.
        """
        return await self._api.get(SUBJECTS, await self.resolve(study, subject), study=study)

    async def resolve(self, study: int | str, subject: int | str) -> int:
        """
        Return the number of a subject.

        An ``int`` is the number and costs nothing. Text is an identifier, written as the study writes it, and costs the
        list of subjects once for each client and study. Text of digits is looked up as an identifier too, and is used
        as a number only if it is no identifier and a subject has that number; where it is the identifier of one
        subject and the number of another, that is an error.

        Raises:
            ConfigurationError: It means more than one subject, or it cannot be a subject.
            NotFoundError: There is no such subject; the message names similar identifiers.
        """
        return await self._api.subjects.resolve(study, subject)

    def milestones(self, study: int | str, subject: int | str) -> Paginator[models.SubjectMilestone]:
        """Return the paginator of the milestones that a subject has reached."""
        return self._api.list(_SUBJECT_MILESTONES, study=study, subject=subject)

    def time_zones(self, study: int | str, subject: int | str) -> Paginator[models.TimeZoneChange]:
        """Return the paginator of the timezones in which a subject has lived, and since when."""
        return self._api.list(_TIME_ZONES, study=study, subject=subject)


class Programs(StudyObjects[models.StudyProgram]):
    """
    The study programs of a study; reached as ``client.programs``. Needs the scope ``DataAccess``.

    Two programs may have the same name, so they are identified by their GUID. Some contracts have none.
    """

    def __init__(self, api: Api) -> None:
        super().__init__(api, _PROGRAMS)

    def data_sets(self, study: int | str, program: str) -> Paginator[models.StudyDataSet]:
        """Return the paginator of the data sets that one program makes."""
        return self._api.list(_DATA_SETS, study=study, parts={"program": program})


class Uploads(ApiService):
    """What monitors sent to the service; reached as ``client.uploads``. Needs the scope ``CentrePoint``."""

    def search(self, study: int | str, subject: int | str) -> Paginator[models.Upload]:
        """Return the paginator of the uploads of a subject. The service filters on no dates and promises no order."""
        return self._api.list(_UPLOADS, study=study, subject=subject)

    async def get(self, study: int | str, subject: int | str, upload: int | str) -> models.Upload:
        """
        Return one upload, by its number.

        Raises:
            NotFoundError: There is no such upload.
        """
        return await self._api.get(_UPLOADS, upload, study=study, subject=subject)


class Webhooks(StudyObjects[models.Webhook]):
    """
    The webhooks of a study and what was sent to them; reached as ``client.webhooks``. Needs the scope ``CentrePoint``.

    The API reads only; webhooks are changed in the vendor's portal. Events can be lost for a day or arrive twice, and
    there is none for "a dataset file is ready", so the lists decide.
    """

    def __init__(self, api: Api) -> None:
        super().__init__(api, _WEBHOOKS)

    def events(self) -> Paginator[models.WebhookEvent]:
        """Return the paginator of the events that webhooks can be sent for."""
        return self._api.list(_EVENTS)

    def history(self, study: int | str, webhook: int | str) -> Paginator[models.WebhookDelivery]:
        """Return the paginator of what was sent to a webhook, and of the responses."""
        return self._api.list(_DELIVERIES, study=study, parts={"webhook": webhook})
