"""The adapter of Arena: the format of its pages, of its daily quota and of its errors."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any, Final

import attrs

from arena_async.errors import ApiError, DecodeError
from arena_async.protocol.decoding import read_datetime
from arena_async.protocol.messages import Headers, Request, Response, scrub
from arena_async.protocol.pagination import ListShape, Page, PageRequest
from arena_async.protocol.quota import Quota
from arena_async.providers.arena.error_codes import error_of

__all__ = ["LIST", "ArenaAdapter", "next_reset", "read_count", "read_reset"]

_log = logging.getLogger("arena_async")

#: Every list of the service: 20 rows by default, at most 400, and a count whose meaning is not documented. Some lists
#: take no query at all; which ones is documented for a few only.
LIST: Final = ListShape(max_page_size=400, default=20, unpaged_if=frozenset({3200}))

#: The other keys of a list; an object with other keys and without rows is no list.
_LIST_KEYS = frozenset({"count", "offset", "limit", "total", "results", "Results"})
#: More rows than a workspace can have; a larger number is rejected.
_MAX_ROWS = 2**53
#: How many requests are left.
_REMAINING = re.compile(r"[0-9]{1,9}")


@attrs.frozen(kw_only=True)
class ArenaAdapter:
    """
    The formats of Arena. Pure: the time is passed in.

    Args:
        now: Returns the time (aware).
    """

    now: Callable[[], datetime] = attrs.field(default=lambda: datetime.now(UTC), eq=False)

    def page_params(self, requested: PageRequest) -> tuple[tuple[str, str], ...]:
        """Return the query of a page."""
        return ("offset", str(requested.offset)), ("limit", str(requested.limit))

    def read_page(self, payload: Any, requested: PageRequest, shape: ListShape) -> Page:  # noqa: ARG002  one shape only
        """
        Read the rows of a page.

        Accepted as rows: ``results`` (or ``Results``) as an array, as one object, or as an object of objects, a
        bare array, and an object with a guid, which is one row. A page without them has none.

        Raises:
            DecodeError: The payload is no page.
        """
        count, rows = None, payload
        if isinstance(payload, dict):
            count, rows = read_count(payload.get("count")), payload.get("results")
            if rows is None:
                rows = _rows_elsewhere(payload)
        if isinstance(rows, dict):
            rows = [rows] if "guid" in rows else list(rows.values())
        if not isinstance(rows, list):
            raise _no_page("$.results: no array where one was expected")
        wrong = [
            f"$.results[{index}]: no object where one was expected"
            for index, row in enumerate(rows)
            if not isinstance(row, dict)
        ]
        if wrong:
            raise _no_page(*wrong[:20])
        return Page(items=tuple(rows), offset=requested.offset, limit=requested.limit, total=count)

    def read_quota(self, headers: Headers) -> Quota | None:
        """
        Read the remaining requests and the reset, or None where the response does not state them.

        Several numbers must agree. A reset that cannot be read is taken as the next midnight of the US Pacific coast.
        """
        stated = headers.get("X-Arena-Next-Request-Limit-Reset")
        values = [value.strip() for value in headers.get_all("X-Arena-Requests-Remaining")]
        valid = len(set(values)) == 1 and _REMAINING.fullmatch(values[0]) is not None
        remaining = int(values[0]) if valid else None
        if values and not valid:
            _log.warning(
                "X-Arena-Requests-Remaining is %r, which is no single number; the last valid one is kept.",
                scrub(", ".join(values), maximum=80),
            )
        if remaining is None and stated is None:
            return None
        resets_at = read_reset(stated) if stated is not None else None
        return Quota(remaining=remaining, resets_at=resets_at or next_reset(self.now()))

    def read_error(self, request: Request, response: Response) -> ApiError:
        """Return the error of a response, by its status, its error numbers and the kind of endpoint."""
        now = self.now()
        quota = self.read_quota(response.headers) or Quota()
        resets_at = quota.resets_at or next_reset(now)
        return error_of(request, response, remaining=quota.remaining, resets_at=resets_at, now=now)


# --- pages ------------------------------------------------------------------------------------------------------------


def _rows_elsewhere(payload: dict[str, Any]) -> Any:
    """Return the rows of a page without ``results``: under another name, the object itself, or none."""
    if payload.get("Results") is not None:
        return payload["Results"]
    if "errors" in payload:
        raise _no_page("$.errors: an error with a status of success")
    if "guid" in payload:
        return [payload]
    if not payload.keys() <= _LIST_KEYS:
        raise _no_page("$.results: missing, and the response is no list")
    return []


def read_count(value: Any) -> int | None:
    """
    Read the count of a list, which may come as text; None where there is none.

    Raises:
        DecodeError: It is no number of rows.
    """
    if value is None:
        return None
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,16}", value):
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MAX_ROWS:
        raise _no_page("$.count: no number of rows")
    return value


def _no_page(*problems: str) -> DecodeError:
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return DecodeError(
        f"The page is no list that the service documents, {problems[0]}{more}. "
        "The service may have changed; update the library, or report the endpoint and this line.",
        problems=problems,
    )


# --- the daily quota ----------------------------------------------------------------------------------------------


#: The offset in "Fri, 02-May-2014 14:22:13 GMT-0700 (PDT)", with what the vendor writes around it.
_OFFSET = re.compile(r"(?:gmt|utc|z)?\s*([+-][0-9]{2}):?([0-9]{2})\s*(?:\([^()]*\))?$", re.IGNORECASE)
_DATED = re.compile(r".*[0-9]{4}\s+[0-9]{2}:[0-9]{2}:[0-9]{2}\s*(?:[+-][0-9]{4}|gmt|utc|z)?", re.IGNORECASE)
_EPOCH = re.compile(r"(?P<seconds>[0-9]{9,10})(?P<thousandths>[0-9]{3})?(?:\.[0-9]*)?")


@lru_cache(maxsize=16)
def read_reset(text: str) -> datetime | None:
    """
    Read when the quota is reset, in UTC. All responses of a day state the same.

    Accepted are the vendor's own format, that of RFC 9110, ISO 8601, and seconds or milliseconds since 1970; None for
    anything else.
    """
    text = text.strip()
    if epoch := _EPOCH.fullmatch(text):
        return datetime.fromtimestamp(int(epoch["seconds"]), UTC)
    timestamp = read_datetime(text)
    if timestamp is not None:
        return (timestamp if timestamp.tzinfo else timestamp.replace(tzinfo=UTC)).astimezone(UTC)
    plain = _OFFSET.sub(r" \1\2", text)
    if not _DATED.fullmatch(plain):
        return None
    try:
        read = parsedate_to_datetime(plain)
    except (ValueError, OverflowError):
        return None
    return (read if read.tzinfo else read.replace(tzinfo=UTC)).astimezone(UTC)


def next_reset(now: datetime) -> datetime:
    """
    Return the next midnight of the US Pacific coast, in UTC: the documented reset of the quota.

    By the rule of US law since 2007 and not by a time zone database, which Windows and small containers do not have.
    """
    today = (now.astimezone(UTC) - timedelta(hours=8)).date()
    days = [today + timedelta(days=number) for number in range(3)]
    midnights = [datetime(day.year, day.month, day.day, 7 if _summer_midnight(day) else 8, tzinfo=UTC) for day in days]
    return min(midnight for midnight in midnights if midnight > now)


def _summer_midnight(day: date) -> bool:
    """Return whether a day of the US begins in summer time; the clocks change two hours later."""
    return _sunday(day.year, 3, 2) < day <= _sunday(day.year, 11, 1)


def _sunday(year: int, month: int, number: int) -> date:
    """Return the first, second, ... Sunday of a month."""
    first = date(year, month, 1)
    return first + timedelta(days=(6 - first.weekday()) % 7 + 7 * (number - 1))
