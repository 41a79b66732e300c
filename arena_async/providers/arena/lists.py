"""
Any list of the service, as it comes: for endpoints that this library has no name for.

The path is checked, so that nothing but a list of the API can be asked for: no other host, no content, no login.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from arena_async.errors import ConfigurationError
from arena_async.net.pager import Pager
from arena_async.net.session import Session
from arena_async.providers.arena.asking import UNPAGED
from arena_async.providers.arena.dialect import LIST
from arena_async.providers.arena.routes import write_datetime
from arena_async.wire.messages import Request, printable

__all__ = ["any_list"]

#: One component of a path: a word of the vendor's, or a guid.
_COMPONENT: Final = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*")
#: A session is not a list.
_ACCESS: Final = frozenset({"login", "logout"})
#: Lists for which no page documents offset and limit; some of these endpoints refuse any query.
_WHOLE: Final = re.compile(
    r"/(?:items/[^/]+/(?:files|bom)|files/[^/]+/editions|settings/recentactivities/apiusages)", re.IGNORECASE
)


def any_list(
    session: Session,
    path: str,
    params: Mapping[str, object],
    *,
    offset: int = 0,
    limit: int | None = None,
    paged: bool | None = None,
) -> Pager[dict[str, Any]]:
    """
    Give the rows of a list as they come.

    Args:
        session: Where to ask.
        path: Below the base URL, for instance ``/changes``.
        params: The query in the vendor's spelling; what is None is left out.
        offset: Rows to leave out at the beginning.
        limit: Rows of one page, at most 400; None for as many as the service gives.
        paged: Whether the list is asked for page by page; None for yes, but for those that are known to come whole.

    Raises:
        ConfigurationError: The path leaves the API, or names content, a login or a logout; or a date-time has no zone.
    """
    _check(path)
    whole = bool(_WHOLE.fullmatch(path.rstrip("/"))) if paged is None else not paged
    query = {
        name: write_datetime(value, what=name) if isinstance(value, datetime) else value
        for name, value in params.items()
    }
    request = Request(method="GET", path=path, params=query)
    return Pager(session, request, UNPAGED if whole else LIST, dict, limit=limit, start=offset)


def _check(path: str) -> None:
    """Refuse what is no path of a list."""
    shown = printable(path)
    if not path.startswith("/"):
        raise ConfigurationError(f"The list {shown!r} is no path below the base URL; it takes one such as '/changes'.")
    components = path.removesuffix("/")[1:].split("/")
    if not all(_COMPONENT.fullmatch(component) for component in components):
        raise ConfigurationError(
            f"The path {shown!r} has a component that no list of the service has. Give guids as they are, and the "
            "query as arguments of its own."
        )
    last = components[-1].lower()
    if last.endswith("content"):
        raise ConfigurationError(
            f"The path {shown!r} names content and no list; files come home through the files() of their collection."
        )
    if components[0].lower() in _ACCESS:
        raise ConfigurationError(f"The path {shown!r} is that of a session and no list; the client sees to its own.")
