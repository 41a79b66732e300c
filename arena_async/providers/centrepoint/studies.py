"""The lists of a study: its sites, its subjects, and the programs that make data sets of their data."""

from __future__ import annotations

import functools
from typing import TypeVar

from arena_async.net.pager import Pager
from arena_async.net.session import Session
from arena_async.providers.centrepoint.auth import CENTREPOINT, DATA_ACCESS
from arena_async.providers.centrepoint.dialect import list_shape
from arena_async.providers.centrepoint.models import Site, Study, StudyDataSet, StudyProgram, Subject
from arena_async.wire.decoding import decode, parse_json
from arena_async.wire.messages import Request, join_path
from arena_async.wire.paging import ListShape

__all__ = ["Programs", "Sites", "Studies", "Subjects", "listing", "single"]

T = TypeVar("T")


def listing(session: Session, path: str, scope: str, shape: ListShape, model: type[T]) -> Pager[T]:
    """Give the list at ``path`` as models."""
    request = Request(method="GET", path=path, scope=scope)
    return Pager(session, request, shape, functools.partial(_read, model, request.line))


def _read(model: type[T], line: str, item: object) -> T:
    """Read one row."""
    return decode(item, model, request=line)


async def single(session: Session, path: str, scope: str, model: type[T]) -> T:
    """Give the one object at ``path``."""
    response = await session.send(Request(method="GET", path=path, scope=scope))
    return decode(parse_json(response.body, request=response.request), model, request=response.request)


class Studies:
    """The studies this client sees; reached as ``client.studies``. Needs the scope ``CentrePoint``."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def search(self) -> Pager[Study]:
        """List them."""
        return listing(self._session, "/centrepoint/v3/Studies", CENTREPOINT, list_shape("id"), Study)

    async def get(self, study: int | str) -> Study:
        """
        Give one, by its number.

        Raises:
            NotFoundError: There is no such study, or this client does not see it.
        """
        path = join_path("/centrepoint/v3/Studies/{study}", study=study)
        return await single(self._session, path, CENTREPOINT, Study)


class Sites:
    """The sites of a study; reached as ``client.sites``. Needs the scope ``CentrePoint``."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def search(self, study: int | str) -> Pager[Site]:
        """List them."""
        path = join_path("/centrepoint/v3/Studies/{study}/Sites", study=study)
        return listing(self._session, path, CENTREPOINT, list_shape("id"), Site)

    async def get(self, study: int | str, site: int | str) -> Site:
        """
        Give one, by its number.

        Raises:
            NotFoundError: There is no such site.
        """
        path = join_path("/centrepoint/v3/Studies/{study}/Sites/{site}", study=study, site=site)
        return await single(self._session, path, CENTREPOINT, Site)


class Subjects:
    """
    The subjects of a study; reached as ``client.subjects``. Needs the scope ``CentrePoint``.

    The service cannot look a subject up by its identifier; a list has the identifier beside the number.
    """

    def __init__(self, session: Session) -> None:
        self._session = session

    def search(self, study: int | str) -> Pager[Subject]:
        """List them."""
        path = join_path("/centrepoint/v3/Studies/{study}/Subjects", study=study)
        return listing(self._session, path, CENTREPOINT, list_shape("id"), Subject)

    async def get(self, study: int | str, subject: int | str) -> Subject:
        """
        Give one, by its number.

        Raises:
            NotFoundError: There is no such subject.
        """
        path = join_path("/centrepoint/v3/Studies/{study}/Subjects/{subject}", study=study, subject=subject)
        return await single(self._session, path, CENTREPOINT, Subject)


class Programs:
    """
    The study programs of a study; reached as ``client.programs``. Needs the scope ``DataAccess``.

    Two programs may have the same name, so they are told apart by their GUID.
    """

    def __init__(self, session: Session) -> None:
        self._session = session

    def search(self, study: int | str) -> Pager[StudyProgram]:
        """List them; empty where the contract has none."""
        path = join_path("/dataaccess/v3/Studies/{study}/programs", study=study)
        return listing(self._session, path, DATA_ACCESS, list_shape("studyProgramId"), StudyProgram)

    async def get(self, study: int | str, program: str) -> StudyProgram:
        """
        Give one, by its GUID.

        Raises:
            NotFoundError: There is no such program.
        """
        path = join_path("/dataaccess/v3/Studies/{study}/programs/{program}", study=study, program=program)
        return await single(self._session, path, DATA_ACCESS, StudyProgram)

    def data_sets(self, study: int | str, program: str) -> Pager[StudyDataSet]:
        """List the data sets that one program makes."""
        path = join_path("/dataaccess/v3/Studies/{study}/programs/{program}/datasets", study=study, program=program)
        return listing(self._session, path, DATA_ACCESS, list_shape("dataSetName"), StudyDataSet)
