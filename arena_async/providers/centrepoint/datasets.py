"""Dataset files, the primary data of CentrePoint, and the cheap list that tells for whom they changed."""

from __future__ import annotations

from arena_async.net.pager import Pager
from arena_async.providers.centrepoint.asking import Asking, Demand
from arena_async.providers.centrepoint.auth import DATA_ACCESS
from arena_async.providers.centrepoint.files import DatasetFileSet, DatasetQuery
from arena_async.providers.centrepoint.models import DatasetFile, DatasetSubject
from arena_async.providers.centrepoint.studies import dataset_subjects_of

__all__ = ["Datasets"]


class Datasets:
    """
    Dataset files of a study; reached as ``client.datasets``. Needs the scope ``DataAccess``.

    Data appears only after ActiGraph was asked by e-mail to process a study; before that every list is empty, which is
    not an error.

    Args:
        asking: Asks for lists.
        tenant: Whose files they are: origin of the service and client.
        legacy: Whether lists are asked for in the form of the first published page, unless a call says otherwise.
    """

    def __init__(self, asking: Asking, *, tenant: str, legacy: bool = False) -> None:
        self._asking = asking
        self._tenant = tenant
        self._legacy = legacy

    def search(
        self,
        study: int | str,
        *,
        subject: int | str | None = None,
        program: str | None = None,
        data_set: str | None = None,
        legacy: bool | None = None,
    ) -> Pager[DatasetFile]:
        """
        List dataset files, up to 100 a request.

        Every row is checked against the filters, since a service that ignores them answers with all files.

        Args:
            study: The number of the study.
            subject: Only this subject: its number as an ``int``, or its identifier as text (digits too, see
                :meth:`Subjects.resolve`).
            program: Only this study program, by its GUID, in any case.
            data_set: Only data sets of this name, in any case.
            legacy: Ask in the form of the first published page (``datasetexportfiles``, filters in the body of the
                GET); None for what the client was made with.

        Raises:
            ConfigurationError: An argument cannot be what it should be; raised at once.
            ListingError: While walking: the list contradicts itself, or holds what was not asked for.
        """
        query = DatasetQuery.of(study, subject=subject, program=program, data_set=data_set)
        return query.pager(self._asking, legacy=self._legacy if legacy is None else legacy)

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
        Give the same files as :meth:`search` as a set for a ``Downloader`` or ``Mirror``.

        Raises:
            ConfigurationError: An argument cannot be what it should be.
        """
        query = DatasetQuery.of(study, subject=subject, program=program, data_set=data_set)
        legacy = self._legacy if legacy is None else legacy
        return DatasetFileSet(self._asking, query, tenant=self._tenant, legacy=legacy)

    def subjects(self, study: int | str) -> Pager[DatasetSubject]:
        """
        List when raw data of each subject last came, and when each program last ran for it.

        One request for up to 100 subjects tells which of them are worth a :meth:`search`.
        """
        return self._asking.walk(dataset_subjects_of(study))

    async def subject(self, study: int | str, subject: int | str) -> DatasetSubject:
        """
        Give the same for one subject, by number or identifier.

        Raises:
            NotFoundError: There is no such subject.
        """
        template = "/dataaccess/v3/studies/{study}/subjects/{subject}"
        demand = Demand(template=template, scope=DATA_ACCESS, model=DatasetSubject, study=study, subject=subject)
        return await self._asking.one(demand)
