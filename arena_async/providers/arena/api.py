"""
Requests to Arena: how one is built, and how an object or a list is read.

https://github.com/ptc-arena/arena-restapi-doc
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import attrs

from arena_async.errors import ConfigurationError
from arena_async.http.paginator import ListQuery, Paginator
from arena_async.http.session import Session, request_object
from arena_async.protocol.decoding import decode, wire_names
from arena_async.protocol.messages import Request, join_path, printable
from arena_async.protocol.urls import origin
from arena_async.providers.arena.adapter import LIST
from arena_async.providers.arena.models import status_word

__all__ = [
    "ArenaService",
    "any_list",
    "get_object",
    "known_word",
    "make_request",
    "paginate",
    "tenant_of",
    "write_datetime",
    "write_fields",
]

T = TypeVar("T")

#: A list that is returned in one response.
_UNPAGED: Final = attrs.evolve(LIST, paged=False)

#: One component of a path: a word of the vendor's, or a guid.
_COMPONENT: Final = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*")
#: Lists for which no page documents offset and limit; some of these endpoints reject any query.
_UNPAGED_PATH: Final = re.compile(
    r"/(?:items/[^/]+/(?:files|bom)|files/[^/]+/editions|settings/recentactivities/apiusages)", re.IGNORECASE
)


@attrs.frozen
class ArenaService:
    """
    Base of the services of a client that have files.

    Args:
        session: The session.
        reserve: Requests of the day that are left to others.
    """

    session: Session = attrs.field(repr=False)
    reserve: int = 0
    #: Origin and path of the API, as they are in the keys of files.
    site: str = attrs.field(init=False, repr=False)

    @site.default
    def _site_of_session(self) -> str:
        base = self.session.base_url
        return f"{origin(base)}{urlsplit(base).path.rstrip('/')}"


async def tenant_of(service: ArenaService) -> str:
    """Return the name of the workspace of the session, after a login where that is not known yet."""
    credential = await service.session.credential()
    workspace = f"workspace {credential.workspace}" if credential.workspace else "last workspace used"
    return f"{service.site} {workspace}"


def make_request(
    method: str, path: str, query: Mapping[str, object] | None = None, *, json: object = None, **identifiers: object
) -> Request:
    """
    Build a request.

    Args:
        method: The method.
        path: The path below the base URL, with names in braces for the identifiers.
        query: The query in the vendor's names; what is None is left out.
        json: The body.
        identifiers: The values of the names in braces.

    Raises:
        ConfigurationError: An identifier is not a single safe path segment, or a date-time has no zone.
    """
    params = {
        name: write_datetime(value, what=name) if isinstance(value, datetime) else value
        for name, value in (query or {}).items()
    }
    return Request(method=method, path=join_path(path, **identifiers), params=params, json=json)


async def get_object(
    session: Session, model: type[T], path: str, query: Mapping[str, object] | None = None, **identifiers: object
) -> T:
    """Return one object; the arguments are those of :func:`make_request`. One request."""
    return await request_object(session, make_request("GET", path, query, **identifiers), model)


def paginate(
    session: Session,
    model: type[T],
    path: str,
    query: Mapping[str, object] | None = None,
    *,
    offset: int = 0,
    limit: int | None = None,
    **identifiers: object,
) -> Paginator[T]:
    """
    Return an iterator over a list; pages are requested as it is read.

    Args:
        session: The session.
        model: The model of a row.
        path: As for :func:`make_request`.
        query: As for :func:`make_request`, without offset and limit.
        offset: Rows to leave out at the beginning.
        limit: Rows of one page, at most 400; None for as many as the service returns.
        identifiers: As for :func:`make_request`.
    """
    request = make_request("GET", path, query, **identifiers)
    shape = _UNPAGED if _UNPAGED_PATH.fullmatch(path) else LIST
    read = partial(decode, model=model, request=request.line)
    return Paginator(session, ListQuery(request, shape, read), limit=limit, start=offset)


def any_list(
    session: Session, path: str, query: Mapping[str, object], *, offset: int, limit: int | None, paged: bool | None
) -> Paginator[dict[str, Any]]:
    """
    Return an iterator over the undecoded rows of a list.

    Args:
        session: The session.
        path: Below the base URL, for instance ``/changes``.
        query: The query in the vendor's names; what is None is left out.
        offset: Rows to leave out at the beginning.
        limit: Rows of one page, at most 400; None for as many as the service returns.
        paged: Whether the list is paged; None for yes, except for the lists that are known not to be.

    Raises:
        ConfigurationError: The path leaves the API, or names content, a login or a logout; or a date-time has no zone.
    """
    _check_list_path(path)
    unpaged = bool(_UNPAGED_PATH.fullmatch(path.rstrip("/"))) if paged is None else not paged
    request = make_request("GET", path, query)
    return Paginator(session, ListQuery(request, _UNPAGED if unpaged else LIST, dict), limit=limit, start=offset)


def _check_list_path(path: str) -> None:
    """Raise if a path is not that of a list of the API: another host, content or a login."""
    shown = printable(path)
    if not path.startswith("/"):
        raise ConfigurationError(f"The list {shown!r} is no path below the base URL; it takes one such as '/changes'.")
    components = path.removesuffix("/")[1:].split("/")
    if not all(_COMPONENT.fullmatch(component) for component in components):
        raise ConfigurationError(
            f"The path {shown!r} has a component that no list of the service has. Give guids as they are, and the "
            "query as arguments of its own."
        )
    if components[-1].lower().endswith("content"):
        raise ConfigurationError(
            f"The path {shown!r} names content and no list; files are downloaded through the files() of their "
            "collection."
        )
    if components[0].lower() in ("login", "logout"):
        raise ConfigurationError(f"The path {shown!r} is that of a session and no list; the client sees to its own.")


def write_fields(value: Any) -> dict[str, Any]:
    """Return the fields of a model or query that are set, by their first documented names, and its unknown keys."""
    written: dict[str, Any] = dict(getattr(value, "unknown", {}))
    for field in attrs.fields(type(value)):
        content = getattr(value, field.name)
        if field.name != "unknown" and content is not None and content != ():
            written[wire_names(field)[0]] = content
    return written


def known_word(what: str, value: object, allowed: Iterable[str]) -> str:
    """
    Return the documented form of a word that is given in any case, with spaces or dashes.

    Raises:
        ConfigurationError: It is none of the allowed words.
    """
    words = {status_word(word): word for word in allowed}
    if not isinstance(value, str) or status_word(value) not in words:
        raise ConfigurationError(f"{what} is {printable(repr(value))}; it takes one of {', '.join(words.values())}.")
    return words[status_word(value)]


def write_datetime(time: datetime, *, what: str) -> str:
    """
    Return a date-time in the format of the service: UTC, whole seconds, ``Z``.

    Raises:
        ConfigurationError: It has no time zone.
    """
    if time.tzinfo is None or time.utcoffset() is None:
        raise ConfigurationError(
            f"{what} is {time.isoformat()} without a time zone; give an aware one, for instance with tzinfo=UTC."
        )
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
