"""
How CentrePoint spells pages and refusals.

Pure. Lists are ``items`` with a real ``totalCount``; ``links.next`` is never followed, since the documented sample
points at another prefix than the list it belongs to. Refusals may be plain text.
"""

from __future__ import annotations

import json
import re
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
from arena_async.wire.messages import Headers, Request, Response, scrub
from arena_async.wire.paging import ListShape, Page, PageRequest
from arena_async.wire.quota import Quota
from arena_async.wire.retrying import read_http_date, read_retry_after

__all__ = ["LARGEST_PAGE", "CentrePointDialect", "list_shape", "retry_after", "server_text"]

#: Rows of one page at the most, by the pagination page of the vendor.
LARGEST_PAGE = 100

#: No list of a study is longer; a larger number is no count of rows.
_MOST_ROWS = 10**12

_DIGITS = re.compile(r"[0-9]{1,18}\Z", re.ASCII)
_TRANSIENT = frozenset({408, 500, 502, 503, 504})


def list_shape(*key: str) -> ListShape:
    """
    Give the shape of a CentrePoint list: up to 100 rows a page and a total that is the number of rows in all.

    Args:
        key: The field that names a row, or the fields that do so together.
    """
    return ListShape(largest=LARGEST_PAGE, total=True, key=key or None)


class CentrePointDialect:
    """Reads the pages and refusals of every CentrePoint prefix. It has no state."""

    def page_params(self, asked: PageRequest) -> tuple[tuple[str, str], ...]:
        """Give ``limit`` and ``offset``; both are always sent, since no default is documented."""
        return (("limit", str(asked.limit)), ("offset", str(asked.offset)))

    def read_page(self, payload: Any, asked: PageRequest, shape: ListShape) -> Page:
        """
        Read the rows of a page, or of a bare array where the endpoint is declared to give one.

        Raises:
            DecodeError: It is no page, or its numbers are no numbers of rows.
        """
        if shape.bare:
            return Page(items=tuple(_rows(payload, "$")), offset=asked.offset, limit=asked.limit)
        if not isinstance(payload, dict):
            raise _no_page("$", f"an object with items was expected, got {type(payload).__name__}")
        items = _rows(payload.get("items"), "$.items")
        total = _count(payload, "totalCount")
        if total is None and shape.total:
            raise _no_page("$.totalCount", "is missing")
        return Page(
            items=tuple(items),
            offset=asked.offset,
            limit=asked.limit,
            total=total,
            echoed_offset=_count(payload, "offset"),
            echoed_limit=_count(payload, "limit"),
        )

    def read_quota(self, headers: Headers) -> Quota | None:
        """Give None: no header of CentrePoint says what is left."""
        del headers
        return None

    def read_error(self, request: Request, response: Response) -> ApiError:
        """Make the typed error of a refusal; the server's own words are scrubbed and cut."""
        line, status = request.line, response.status
        said = f"{line}: {status}{server_text(response)}."
        if status == 401:
            return AuthenticationError(
                f"{said} The token for scope {request.scope or 'none'} was not accepted. A new one is asked for once; "
                "if that is refused too, check with ActiGraph that the client is active.",
                status=status,
                request=line,
                stale_login=True,
            )
        if status == 403:
            return PermissionDeniedError(f"{said} {_forbidden(request)}", status=status, request=line)
        if status == 404:
            return NotFoundError(
                f"{said} There is no such object, or it is in a study this client does not see. Check the identifiers.",
                status=status,
                request=line,
            )
        if status == 409:
            return ConflictError(f"{said} The state of the object forbids it.", status=status, request=line)
        return _busy_or_wrong(said, line, response)


def _busy_or_wrong(said: str, line: str, response: Response) -> ApiError:
    """Make the error of a refusal that is about the moment, or about the request itself."""
    status = response.status
    if status == 429:
        return ThrottledError(
            f"{said} The service allows 500 requests a minute for one IP address, and other programs behind it count "
            "too; everything waits, then goes on.",
            status=status,
            request=line,
            transient=True,
            retry_after=retry_after(response),
        )
    if status in _TRANSIENT or status >= 500:
        return ServerError(
            f"{said} The service failed; the same request may work later.",
            status=status,
            request=line,
            transient=status in _TRANSIENT,
            retry_after=retry_after(response),
        )
    return ApiError(f"{said} The service does not accept this request.", status=status, request=line)


def _forbidden(request: Request) -> str:
    """Say what a 403 may mean: the service gives the same answer for three causes."""
    scope = f"the scope {request.scope}" if request.scope else "the scope it needs"
    return (
        f"The client lacks {scope}, or has no access to this study, or the address is plain http, which is refused "
        "with the same answer. Ask ActiGraph which scopes and studies the client has."
    )


def _rows(value: object, path: str) -> list[Any]:
    """Take an array of objects."""
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
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MOST_ROWS:
        raise _no_page(f"$.{name}", f"a number of rows was expected, got {scrub(str(value), most=40)}")
    return value


def _no_page(path: str, problem: str) -> DecodeError:
    """Make the error for an answer that is no page of a list."""
    return DecodeError(
        f"The answer is no page of a CentrePoint list ({path}: {problem}). "
        "Check that the base address is the CentrePoint API; nothing of this page was used.",
        problems=(f"{path}: {problem}",),
    )


def retry_after(response: Response) -> float | None:
    """Read ``Retry-After`` in seconds, or None; one that is a date is measured by the server's own clock."""
    values = response.headers.get_all("Retry-After")
    now = read_http_date(response.headers.get("Date")) or read_http_date("".join(values[:1]))
    return read_retry_after(values, now or datetime.fromtimestamp(0, UTC))


def server_text(response: Response) -> str:
    """Give the server's own words as ``" (words)"``, scrubbed and cut, or "" when there are none to read."""
    text = response.body[:65_536].decode("utf-8", "replace").strip()
    if text.startswith(("{", "[", '"')):
        text = _json_text(text)
    if text[:1] == "<":
        return " (a page of markup)"
    words = " ".join(text.split())
    return f" ({scrub(words, most=300)})" if words else ""


def _json_text(text: str) -> str:
    """Pick the words out of a JSON refusal: the fields that ASP.NET, problem details and OAuth 2 use."""
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
