"""
Send the requests of lists and objects, and check that the rows of a list are the requested ones.

A service that ignores a filter responds with everything it has, which looks like success, so each row is compared with
the request. A list with response 404 is empty, and not known to be whole, where the study or subject that it belongs to
exists; that costs one request. Otherwise the 404 is raised.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, Generic, TypeVar
from urllib.parse import quote

import attrs

from arena_async.errors import ApiError, ListingError, NotFoundError
from arena_async.http.paginator import AHEAD, ListQuery, Paginator
from arena_async.http.session import Session, request_object
from arena_async.options import Clock
from arena_async.protocol.decoding import decode
from arena_async.protocol.files import FileSet
from arena_async.protocol.messages import Request, join_path, printable
from arena_async.providers.centrepoint.adapter import list_shape
from arena_async.providers.centrepoint.auth import ANALYTICS, CENTREPOINT, DATA_ACCESS
from arena_async.providers.centrepoint.identifiers import named_subject, number
from arena_async.providers.centrepoint.models import Subject
from arena_async.providers.centrepoint.subjects import SubjectDirectory

__all__ = ["SUBJECTS", "Api", "ApiFiles", "ApiService", "Endpoint", "Match", "is_one_of", "read_rows"]

T = TypeVar("T")

#: Returns, after a 404, whether the study or subject that a list belongs to exists.
_OwnerCheck = Callable[[NotFoundError], Awaitable[bool]]
_NO_PARTS: Mapping[str, object] = MappingProxyType({})


_SCOPES = {"analytics": ANALYTICS, "centrepoint": CENTREPOINT, "dataaccess": DATA_ACCESS}


@attrs.frozen(kw_only=True)
class Match:
    """
    What every row of a list must have because it was requested.

    Args:
        requested: What was requested, for messages: ``"subjectId 10821"``.
        holds: Whether a row has it.
        shown: What a row has instead.
    """

    requested: str
    holds: Callable[[Any], bool]
    shown: Callable[[Any], object]


@attrs.frozen
class Endpoint(Generic[T]):
    """
    One list of the service; an object of it is one path segment below.

    Args:
        path: The path, with ``{study}``, ``{subject}`` and further names.
        model: The model of a row.
        key: The fields that identify a row together.
    """

    path: str
    model: type[T]
    key: tuple[str, ...] = attrs.field(default=("id",), kw_only=True)

    @property
    def scope(self) -> str:
        """The scope that the token needs: each API of the service has its own."""
        return _SCOPES[self.path.split("/")[1]]


SUBJECTS = Endpoint("/centrepoint/v3/Studies/{study}/Subjects", Subject)


class Api:
    """
    The lists and objects of the service, for one client.

    Args:
        session: Sends the requests.
        tenant: Origin of the service, and client.
        clock: Time, by the clock of the service, and how to wait.
    """

    def __init__(self, session: Session, *, tenant: str, clock: Clock) -> None:
        self.session = session
        self.tenant = tenant
        self.clock = clock
        self.subjects = SubjectDirectory(session, lambda study: self.list(SUBJECTS, study=study))

    def list(
        self,
        endpoint: Endpoint[T],
        *,
        study: int | str | None = None,
        subject: int | str | None = None,
        parts: Mapping[str, object] = _NO_PARTS,
        params: Sequence[tuple[str, str]] = (),
        matches: Sequence[Match] = (),
    ) -> Paginator[T]:
        """
        Return the paginator of a list.

        Args:
            endpoint: The list.
            study: The number of the study, or None for a list that belongs to none.
            subject: The number or the identifier of the subject, or None.
            parts: Further identifiers in the path.
            params: The query, without offset and limit.
            matches: What every row must have besides its study and subject.

        Raises:
            ConfigurationError: An identifier cannot be one.
        """
        owners: dict[str, object] = {} if study is None else {"study": number(study)}
        wanted = None if subject is None else named_subject(subject)
        # A list below something else than a study or subject would hide a wrong identifier of that.
        empty_if = None if parts else self.belongs_to(study, wanted)

        def query(subject: int | str | None) -> ListQuery[T]:
            template, named = endpoint.path, dict(owners)
            if isinstance(subject, str):
                template = template.replace("{subject}", quote(subject, safe=""))
            elif subject is not None:
                named["subject"] = subject
            path = join_path(template, **named, **parts)
            request = Request(method="GET", path=path, params=params, scope=endpoint.scope)
            whose = [is_one_of(f"{name}Id", partial(_field, f"{name}_id"), value) for name, value in named.items()]
            read = read_rows(endpoint.model, request.line, [*whose, *matches])
            return ListQuery(request, list_shape(*endpoint.key), read, empty_if=empty_if)

        return self.paginate(query, study, wanted)

    def paginate(
        self,
        query: Callable[[int | str | None], ListQuery[T]],
        study: int | str | None,
        subject: int | str | None,
        *,
        start: int = 0,
        ahead: int = AHEAD,
    ) -> Paginator[T]:
        """
        Return the paginator of a list; a subject is looked up by its identifier before the first page.

        Args:
            query: Returns the query for a subject. With an identifier it is only shown.
            study: The study.
            subject: The number or the identifier of the subject, or None.
            start: The offset to begin at.
            ahead: Pages that may be requested in advance.
        """

        async def resolve() -> ListQuery[T]:
            return query(await self._number(study, subject))

        named = resolve if isinstance(subject, str) else None
        return Paginator(self.session, attrs.evolve(query(subject), resolve=named), start=start, ahead=ahead)

    async def get(
        self,
        endpoint: Endpoint[T],
        identifier: object,
        *,
        study: int | str | None = None,
        subject: int | str | None = None,
    ) -> T:
        """
        Return one object of a list.

        Raises:
            NotFoundError: There is no such object, or it is in a study this client does not see.
        """
        named: dict[str, object] = {} if study is None else {"study": number(study)}
        if subject is not None:
            named["subject"] = await self._number(study, subject)
        path = join_path(f"{endpoint.path}/{{identifier}}", **named, identifier=identifier)
        request = Request(method="GET", path=path, scope=endpoint.scope)
        return await request_object(self.session, request, endpoint.model)

    async def _number(self, study: int | str | None, subject: int | str | None) -> int | None:
        return None if study is None or subject is None else await self.subjects.resolve(study, subject)

    def belongs_to(self, study: int | str | None, subject: int | str | None = None) -> _OwnerCheck | None:
        """Return what checks, after a 404, whether the owner of a list exists; None for a list without an owner."""
        if study is None:
            return None

        async def exists(_: NotFoundError) -> bool:
            path = join_path("/centrepoint/v3/Studies/{study}", study=study)
            if subject is not None:
                path += join_path("/Subjects/{subject}", subject=await self.subjects.resolve(study, subject))
            try:
                await self.session.send(Request(method="GET", path=path, scope=CENTREPOINT))
            except ApiError as error:
                if error.transient:
                    raise
                return False
            return True

        return exists


class ApiService:
    """
    Base of the services of a client.

    Args:
        api: Sends the requests.
    """

    def __init__(self, api: Api) -> None:
        self._api = api


class ApiFiles(FileSet):
    """Base of the file sets of a client."""

    _api: Api

    @property
    def _session(self) -> Session:
        """The session, by which a union of sets knows which of them share one."""
        return self._api.session

    @property
    def requests_sent(self) -> int:
        """Metered requests that the session has sent so far."""
        return self._api.session.requests_sent


def read_rows(model: type[T], line: str, matches: Sequence[Match]) -> Callable[[Any], T]:
    """Return the reader of the rows of a list; it raises ListingError for a row that was not requested."""

    def read(item: Any) -> T:
        row = decode(item, model, request=line)
        for match in matches:
            if not match.holds(row):
                shown = printable(str(match.shown(row)))
                raise ListingError(
                    f"{line}: requested {printable(match.requested)}, got a row of {shown}. The service ignores the "
                    "filters, and its response was not used. List without that filter.",
                    request=line,
                )
        return row

    return read


def _field(name: str, row: Any) -> object:
    return getattr(row, name, None)


def is_one_of(name: str, of: Callable[[Any], object], *wanted: object) -> Match:
    """Return the match of an identifier, or of several, in any case of letters. A row that does not state it passes."""
    known = {str(value).casefold() for value in wanted}

    def holds(row: Any) -> bool:
        value = of(row)
        return value in (None, "") or str(value).casefold() in known

    return Match(requested=f"{name} {', '.join(sorted(map(str, wanted)))}", holds=holds, shown=of)
