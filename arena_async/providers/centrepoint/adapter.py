"""
The pages and error responses of CentrePoint.

Pure. Lists are ``items`` with a real ``totalCount``; ``links.next`` is never followed, since the documented sample
points at another prefix than the list it belongs to. Error responses may be plain text.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from arena_async.errors import (
    ApiError,
    AuthenticationError,
    ConflictError,
    DecodeError,
    NotFoundError,
    PermissionDeniedError,
    ServerError,
    ThrottledError,
)
from arena_async.protocol.adapter import Adapter
from arena_async.protocol.messages import Request, Response, read_http_date, scrub
from arena_async.protocol.pagination import ListShape, Page, PageRequest
from arena_async.protocol.retry import read_retry_after

__all__ = ["MAX_PAGE_SIZE", "CentrePointAdapter", "error_of", "list_shape", "pages_of", "retry_after", "server_text"]

#: Rows of one page at the most, by the pagination page of the vendor.
MAX_PAGE_SIZE = 100

#: No list of a study is longer; a larger number is no count of rows.
_MAX_ROWS = 10**12

_DIGITS = re.compile(r"[0-9]{1,18}\Z", re.ASCII)
_TRANSIENT = frozenset({408, 500, 502, 503, 504})
_CLASSES: Mapping[int, type[ApiError]] = {
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    409: ConflictError,
    429: ThrottledError,
}


def list_shape(*key: str) -> ListShape:
    """
    Return the shape of a CentrePoint list: up to 100 rows a page and a total that is the number of rows in all.

    Args:
        key: The field that identifies a row, or the fields that do so together.
    """
    return ListShape(max_page_size=MAX_PAGE_SIZE, total=True, key=key or None)


def pages_of(rows: int) -> int:
    """Return the number of requests for a list of so many rows: at least one."""
    return max(1, math.ceil(rows / MAX_PAGE_SIZE))


class CentrePointAdapter(Adapter):
    """Reads the pages and errors of every CentrePoint prefix; no header has the remaining quota. It has no state."""

    def page_params(self, requested: PageRequest) -> tuple[tuple[str, str], ...]:
        """Return ``limit`` and ``offset``; both are always sent, since no default is documented."""
        return (("limit", str(requested.limit)), ("offset", str(requested.offset)))

    def read_page(self, payload: Any, requested: PageRequest, shape: ListShape) -> Page:
        """
        Read the rows of a page, or of a bare array where the endpoint is declared to return one.

        Raises:
            DecodeError: It is no page, or its numbers are no numbers of rows.
        """
        if shape.bare:
            return Page(items=tuple(_rows(payload, "$")), offset=requested.offset, limit=requested.limit)
        if not isinstance(payload, dict):
            raise _no_page("$", f"an object with items was expected, got {type(payload).__name__}")
        items = _rows(payload.get("items"), "$.items")
        total = _count(payload, "totalCount")
        if total is None and shape.total:
            raise _no_page("$.totalCount", "is missing")
        return Page(
            items=tuple(items),
            offset=requested.offset,
            limit=requested.limit,
            total=total,
            echoed_offset=_count(payload, "offset"),
            echoed_limit=_count(payload, "limit"),
        )

    def read_error(self, request: Request, response: Response) -> ApiError:
        """Return the typed error of a response; the server's own words are scrubbed and cut."""
        prefix = f"{request.line}: {response.status}{server_text(response)}."
        return error_of(request, response, prefix, {**_MEANINGS, **_meanings_of(request.scope)})


_MEANINGS: Mapping[type[ApiError], str] = {
    NotFoundError: "There is no such object, or it is in a study this client does not see. Check the identifiers.",
    ConflictError: "The state of the object forbids it.",
    ThrottledError: (
        "The service allows 500 requests a minute for one IP address, and other programs behind it count too; "
        "all requests wait, then continue."
    ),
    ServerError: "The service failed; the same request may work later.",
    ApiError: "The service does not accept this request.",
}


def _meanings_of(scope: str | None) -> dict[type[ApiError], str]:
    """Return what errors about a scope mean; a 403 has three causes, which the service does not distinguish."""
    return {
        AuthenticationError: (
            f"The token for scope {scope or 'none'} was not accepted. A new one is requested once; if that is rejected "
            "too, check with ActiGraph that the client is active."
        ),
        PermissionDeniedError: (
            f"The client lacks {f'the scope {scope}' if scope else 'the scope it needs'}, or has no access to this "
            "study, or the address is plain http, which is rejected with the same response. Ask ActiGraph which scopes "
            "and studies the client has."
        ),
    }


def error_of(request: Request, response: Response, prefix: str, meanings: Mapping[type[ApiError], str]) -> ApiError:
    """
    Return the typed error of a response, by its status.

    Args:
        request: The request.
        response: The response.
        prefix: The beginning of the message: what was requested, and the response.
        meanings: What each class of errors means; a class that is missing is an :class:`ApiError`.
    """
    status = response.status
    kind = ServerError if status >= 500 or status in _TRANSIENT else _CLASSES.get(status, ApiError)
    kind = kind if kind in meanings else ApiError
    later = kind in (ServerError, ThrottledError)
    return kind(
        f"{prefix} {meanings[kind]}",
        status=status,
        request=request.line,
        transient=kind is ThrottledError or status in _TRANSIENT,
        stale_login=kind is AuthenticationError,
        retry_after=retry_after(response) if later else None,
    )


def _rows(value: object, path: str) -> list[Any]:
    """Return an array of objects."""
    if not isinstance(value, list):
        raise _no_page(path, f"an array was expected, got {type(value).__name__}")
    for number, row in enumerate(value):
        if not isinstance(row, dict):
            raise _no_page(f"{path}[{number}]", f"an object was expected, got {type(row).__name__}")
    return value


def _count(payload: dict[str, Any], name: str) -> int | None:
    """Read a number of rows; None only where the key is missing."""
    if name not in payload:
        return None
    value = payload[name]
    if isinstance(value, str) and _DIGITS.match(value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MAX_ROWS:
        raise _no_page(f"$.{name}", f"a number of rows was expected, got {scrub(str(value), maximum=40)}")
    return value


def _no_page(path: str, problem: str) -> DecodeError:
    """Return the error for a response that is no page of a list."""
    return DecodeError(
        f"The response is no page of a CentrePoint list ({path}: {problem}). "
        "Check that the base address is the CentrePoint API; nothing of this page was used.",
        problems=(f"{path}: {problem}",),
    )


def retry_after(response: Response) -> float | None:
    """Read ``Retry-After`` in seconds, or None; one that is a date is measured by the server's own clock."""
    values = response.headers.get_all("Retry-After")
    now = read_http_date(response.headers.get("Date")) or read_http_date("".join(values[:1]))
    return read_retry_after(values, now or datetime.fromtimestamp(0, UTC))


def server_text(response: Response) -> str:
    """Return the server's own words as ``" (words)"``, scrubbed and cut, or "" when there are none to read."""
    text = response.body[:65_536].decode("utf-8", "replace").strip()
    if text.startswith(("{", "[", '"')):
        text = _json_text(text)
    if text[:1] == "<":
        return " (a page of markup)"
    words = " ".join(text.split())
    return f" ({scrub(words, maximum=300)})" if words else ""


def _json_text(text: str) -> str:
    """Return the words of a JSON error: the fields that ASP.NET, problem details and OAuth 2 use."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    if isinstance(value, str):
        return value
    if not isinstance(value, dict):
        return text
    names = ("error", "error_description", "title", "detail", "message", "Message")
    found = [value[name] for name in names if isinstance(value.get(name), str)]
    return ": ".join(found) or text
