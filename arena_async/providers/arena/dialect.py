"""
How Arena spells pages, the daily allowance and its refusals.

Error numbers were made unique in the "Winter 2023" release and some moved, while the sample pages still print the old
ones. So nothing is decided on a number alone: status, number and kind of endpoint make the decision, in one table.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, timedelta, timezone
from enum import Enum, auto
from typing import Any, Final

import attrs

from arena_async.errors import (
    AccountLockedError,
    ApiError,
    AuthenticationError,
    ConflictError,
    DecodeError,
    NotFoundError,
    PermissionDeniedError,
    QuotaExhaustedError,
    ServerError,
    ThrottledError,
)
from arena_async.wire.decoding import parse_json, read_datetime
from arena_async.wire.messages import Headers, Request, Response, scrub
from arena_async.wire.paging import ListShape, Page, PageRequest
from arena_async.wire.quota import Quota

__all__ = ["LIST", "ArenaDialect", "next_reset", "read_reset"]

_log = logging.getLogger("arena_async")

#: Every list of the service: 20 rows by default, 400 at the most, and a count that nobody defines. Some take no query
#: at all, and which these are is not documented for each.
LIST: Final = ListShape(largest=400, default=20, unpaged_if=frozenset({3200}))

#: What stands beside the rows of a list; anything else without rows is no list.
_LIST_KEYS = frozenset({"count", "offset", "limit", "total", "results", "Results"})
#: More rows than a workspace can have; a larger number is no count.
_MOST_ROWS = 2**53

# --- refusals ---------------------------------------------------------------------------------------------------------


class _Place(Enum):
    """Kinds of endpoint that give one error number different meanings."""

    LOGIN = auto()
    CONTENT = auto()
    ELSEWHERE = auto()


def _codes(*numbers: int) -> frozenset[int]:
    return frozenset(numbers)


@attrs.frozen(kw_only=True)
class _Rule:
    """
    What some error numbers mean.

    Args:
        codes: The numbers that mean it everywhere.
        old: Numbers from before the renumbering, which mean something else elsewhere.
        place: Where ``old`` means it.
        status: The HTTP status with which ``old`` means it, or None for any.
        error: The class it becomes.
        meaning: What it means and what to do, as whole sentences.
        transient: Whether the same request may succeed later.
        retry_after: Seconds that are worth waiting before that, or None for the ordinary back-off.
    """

    codes: frozenset[int] = frozenset()
    old: frozenset[int] = frozenset()
    place: _Place | None = None
    status: int | None = None
    error: type[ApiError] = ApiError
    meaning: str
    transient: bool = False
    retry_after: float | None = None

    def fits(self, status: int, code: int, place: _Place) -> bool:
        """Say whether the rule speaks about this refusal."""
        if code in self.codes:
            return True
        return code in self.old and self.place in (None, place) and self.status in (None, status)


#: Seconds that are worth waiting for the file server; each try costs a request of the day.
_FILE_SERVER_GAP = 60.0

#: https://ptc-arena.github.io/arena-dev-help/error-codes/ - the first rule that fits wins.
_RULES: Final = (
    _Rule(
        codes=_codes(4084),
        old=_codes(4014),
        status=429,
        error=QuotaExhaustedError,
        meaning="The workspace has used up its requests of the day; every integration of the company shares them.",
    ),
    _Rule(
        old=_codes(4001),
        place=_Place.LOGIN,
        error=AuthenticationError,
        meaning="The e-mail address, the password or the workspace was not accepted, or this IP address may not log "
        "in. It is not tried again, since repeated failures lock the account; check the credentials.",
    ),
    _Rule(
        codes=_codes(4083),
        old=_codes(4013),
        place=_Place.LOGIN,
        error=AccountLockedError,
        meaning="The account is locked for five minutes after too many rejected logins. Check the password before the "
        "next try.",
    ),
    _Rule(
        codes=_codes(4079),
        old=_codes(4009),
        place=_Place.LOGIN,
        error=AuthenticationError,
        meaning="The API is not enabled for this workspace. An administrator has to ask Arena support for it.",
    ),
    _Rule(
        codes=_codes(4081),
        old=_codes(4011),
        place=_Place.LOGIN,
        error=AuthenticationError,
        meaning="The password was reset or has expired. Log in to the web application once and set a new one.",
    ),
    _Rule(
        codes=_codes(4089),
        old=_codes(4019),
        place=_Place.LOGIN,
        error=AuthenticationError,
        meaning="The web token was not accepted: it was renewed, is of another workspace, or is not for integrations.",
    ),
    _Rule(
        codes=_codes(4090),
        error=AuthenticationError,
        meaning="The Onshape feature, which this kind of login needs, is not enabled for the workspace.",
    ),
    _Rule(
        codes=_codes(3017, 4077),
        old=_codes(4007),
        place=_Place.CONTENT,
        error=ServerError,
        meaning="The file server cannot give this file at the moment. It is worth another try after a minute or more.",
        transient=True,
        retry_after=_FILE_SERVER_GAP,
    ),
    _Rule(
        codes=_codes(3028, 4078, 3522),
        old=_codes(4008),
        place=_Place.CONTENT,
        error=NotFoundError,
        meaning="The service holds no content for this file; asking again is no use.",
    ),
    _Rule(
        codes=_codes(3024, 3085, 3086, 3124, 3125, 4082, 4301),
        error=PermissionDeniedError,
        meaning="The user may not see this, or it does not exist; the service does not say which.",
    ),
    _Rule(codes=_codes(3012), error=NotFoundError, meaning="It does not exist, or not any more; list again."),
    _Rule(
        codes=_codes(3011),
        meaning="The guid is not one of this workspace: check that it was copied whole, and that base URL and "
        "workspace are those it comes from.",
    ),
    _Rule(
        codes=_codes(3144),
        error=ConflictError,
        meaning="Another export is in progress, and only one may be at a time. Start this one when that has ended.",
        transient=True,
    ),
    _Rule(codes=_codes(3140), meaning="Neither the definition nor the run has criteria; give them in one of the two."),
    _Rule(codes=_codes(3142), meaning="Both the definition and the run have criteria; leave them out of the run."),
    _Rule(codes=_codes(3145), meaning="The run belongs to another definition; use the guids of one and the same."),
    _Rule(codes=_codes(3148), meaning="The criteria match more than 20,000 items; split them into several exports."),
    _Rule(
        codes=_codes(3149),
        meaning="With the BOM or files view an export has 5,000 lines at the most; split the criteria.",
    ),
    _Rule(codes=_codes(3200), meaning="This endpoint takes no query at all, not even offset and limit."),
    _Rule(
        codes=_codes(3041, 3220, 4328, 4329),
        meaning="The offset or the limit was not accepted; the limit is 400 at the most.",
    ),
    _Rule(
        codes=_codes(3000, 3146, 3147, 3514, 4085, 4087, 4399, 9002),
        error=ServerError,
        meaning="The service failed for a reason of its own; the same request may succeed later.",
        transient=True,
    ),
)

_BY_STATUS: Final[dict[int, tuple[type[ApiError], str]]] = {
    401: (
        AuthenticationError,
        "The session is over: 90 minutes of rest or another login of its user end it; give each integration its own.",
    ),
    403: (
        PermissionDeniedError,
        "The user may not see this, or it does not exist; the service does not say which.",
    ),
    404: (
        NotFoundError,
        "There is nothing at this address; check the guids and that the base URL ends in its version, /v1.",
    ),
    405: (ApiError, "The endpoint does not take this method; check the base URL."),
    408: (ServerError, "The service gave up waiting for the request."),
    409: (ConflictError, "It is in conflict with something that is there already."),
    410: (NotFoundError, "It is not there any more."),
    415: (
        ApiError,
        "The service wants JSON with the header content-type: application/json; a proxy may have removed it.",
    ),
}

#: Statuses of a service, or of a gateway before it, that is away for now.
_AWAY = frozenset({408, 500, 502, 503, 504})
#: https://ptc-arena.github.io/arena-dev-help/ - a rejected login more often than that locks for five minutes.
_LOCKED_FOR = timedelta(minutes=5)

_OTHERS_RUN = (
    "Only the user who started an export run can see it and fetch its files: start a run with this user, or log in as "
    "the one who did."
)
_FILE_SERVER_AWAY = "A refusal of content without a word means that the file server cannot be reached; try again later."


@attrs.frozen
class _Refusal:
    """What a refusing answer says, before it is judged."""

    status: int
    codes: tuple[int, ...]
    text: str
    empty: bool


@attrs.frozen(kw_only=True)
class ArenaDialect:
    """
    How Arena spells things. Pure: the time is handed in.

    Args:
        now: Gives the present time (aware).
    """

    now: Callable[[], datetime] = attrs.field(default=lambda: datetime.now(UTC), eq=False)

    def page_params(self, asked: PageRequest) -> tuple[tuple[str, str], ...]:
        """Give the query that asks for a page."""
        return ("offset", str(asked.offset)), ("limit", str(asked.limit))

    def read_page(self, payload: Any, asked: PageRequest, shape: ListShape) -> Page:  # noqa: ARG002  one shape only
        """
        Read the rows of a page.

        Taken for rows: ``results`` (or ``Results``) as an array, as one object, or as an object that holds objects, a
        bare array, and an object with a guid, which is one row. A page without them has none.

        Raises:
            DecodeError: It is no page.
        """
        count = _count(payload.get("count")) if isinstance(payload, dict) else None
        rows = _rows(payload) if isinstance(payload, dict) else payload
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
        return Page(items=tuple(rows), offset=asked.offset, limit=asked.limit, total=count)

    def read_quota(self, headers: Headers) -> Quota | None:
        """
        Read how many requests are left and when the count starts anew, or None when the answer does not say.

        A reset that cannot be read is taken for the next midnight of the US Pacific coast.
        """
        remaining = _remaining(headers.get_all("X-Arena-Requests-Remaining"))
        stated = headers.get("X-Arena-Next-Request-Limit-Reset")
        if remaining is None and stated is None:
            return None
        resets_at = read_reset(stated) if stated is not None else None
        return Quota(remaining=remaining, resets_at=resets_at or next_reset(self.now()))

    def read_error(self, request: Request, response: Response) -> ApiError:
        """Make the typed error of a refusal, out of its status, its numbers and the kind of endpoint."""
        refusal = _read_refusal(response)
        place = _place(request)
        found = _find_rule(refusal, place)
        if response.status == 429 and (found is None or found[0].error is not QuotaExhaustedError):
            return self._too_many(request, response, refusal)
        if found is None:
            return _by_status(request, refusal, place, told_when="Retry-After" in response.headers)
        rule, code = found
        if rule.error is QuotaExhaustedError:
            return self._exhausted(request, response, refusal, code, rule.meaning)
        meaning = rule.meaning
        if rule.error is PermissionDeniedError and request.path.startswith("/exports/"):
            meaning = f"{meaning} {_OTHERS_RUN}"
        fields: dict[str, Any] = {
            "status": response.status,
            "code": code,
            "request": request.line,
            "transient": rule.transient,
            # What the service itself asks for in a header is read by the session, and wins.
            "retry_after": None if "Retry-After" in response.headers else rule.retry_after,
        }
        if rule.error is AccountLockedError:
            fields["retry_at"] = self.now() + _LOCKED_FOR
        return rule.error(_sentence(request, refusal, code, meaning), **fields)

    def _exhausted(
        self, request: Request, response: Response, refusal: _Refusal, code: int | None, meaning: str
    ) -> QuotaExhaustedError:
        """Make the error of the used-up day."""
        quota = self.read_quota(response.headers) or Quota()
        resets_at = quota.resets_at or next_reset(self.now())
        return QuotaExhaustedError(
            _sentence(
                request, refusal, code, f"{meaning} They start anew at {resets_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC."
            ),
            resets_at=resets_at,
            remaining=0 if quota.remaining is None else quota.remaining,
            status=response.status,
            code=code,
            request=request.line,
        )

    def _too_many(self, request: Request, response: Response, refusal: _Refusal) -> ApiError:
        """Tell the used-up day from a mere pause, where no number does."""
        code = refusal.codes[0] if refusal.codes else None
        quota = self.read_quota(response.headers)
        if quota is not None and quota.remaining == 0:
            return self._exhausted(request, response, refusal, code, "No request of the day is left, the headers say.")
        return ThrottledError(
            _sentence(request, refusal, code, "Too many requests in too short a time; fewer at once are the remedy."),
            status=response.status,
            code=code,
            request=request.line,
            transient=True,
        )


def _place(request: Request) -> _Place:
    """Say what kind of endpoint a request goes to."""
    if request.path == "/login":
        return _Place.LOGIN
    # content, watermarkcontent, submitContent, resultContent, errorContent
    return _Place.CONTENT if request.path.lower().endswith("content") else _Place.ELSEWHERE


def _find_rule(refusal: _Refusal, place: _Place) -> tuple[_Rule, int] | None:
    """Find the first rule that speaks about any of the numbers."""
    for rule in _RULES:
        for code in refusal.codes:
            if rule.fits(refusal.status, code, place):
                return rule, code
    return None


def _by_status(request: Request, refusal: _Refusal, place: _Place, *, told_when: bool) -> ApiError:
    """Make the error of a refusal whose number says nothing, or that has none."""
    status = refusal.status
    error, meaning = _BY_STATUS.get(status, (ApiError, "The service did not accept the request as it is."))
    if status >= 500:
        error, meaning = ServerError, "The service, or a gateway before it, is away or failed."
    if 300 <= status < 400:
        meaning = "The API redirects nowhere by its documentation; check the base URL, a web application answers here."
    if status == 401 and place is _Place.LOGIN:
        meaning = "The login was not accepted, and is not tried again; check the credentials."
    if error is PermissionDeniedError and request.path.startswith("/exports/"):
        meaning = f"{meaning} {_OTHERS_RUN}"
    transient, file_server = status in _AWAY, status == 400 and refusal.empty and place is _Place.CONTENT
    if file_server:
        error, meaning, transient = ServerError, _FILE_SERVER_AWAY, True
    code = refusal.codes[0] if refusal.codes else None
    return error(
        _sentence(request, refusal, code, meaning),
        status=status,
        code=code,
        request=request.line,
        transient=transient,
        stale_login=status == 401 and place is not _Place.LOGIN,
        retry_after=_FILE_SERVER_GAP if file_server and not told_when else None,
    )


def _sentence(request: Request, refusal: _Refusal, code: int | None, meaning: str) -> str:
    """Write what was attempted, what came, what it means, what to do."""
    number = f", code {code}" if code is not None else ""
    said = f', "{refusal.text}"' if refusal.text else ", without a word"
    return f"{request.line}: status {refusal.status}{number}{said}. {meaning}"


def _read_refusal(response: Response) -> _Refusal:
    """Take the numbers and the words out of whatever body came."""
    body = response.body.strip()
    if not body:
        return _Refusal(response.status, (), "", empty=True)
    try:
        payload = parse_json(body)
    except DecodeError:
        text = body.decode("utf-8", "replace")
        shown = "a page of HTML" if body.startswith(b"<") else text
        return _Refusal(response.status, (), _quoted(shown), empty=False)
    errors = [entry for entry in _error_entries(payload) if isinstance(entry, dict)]
    codes = tuple(code for code in (_code(entry.get("code")) for entry in errors) if code is not None)
    texts = [str(entry["message"]) for entry in errors if entry.get("message")]
    return _Refusal(response.status, codes, _quoted("; ".join(texts)), empty=False)


def _error_entries(payload: Any) -> Iterable[Any]:
    """Give the objects that may carry a number and a message."""
    if not isinstance(payload, dict):
        return payload if isinstance(payload, list) else [{"message": payload}]
    errors = payload.get("errors", payload.get("error", payload))
    if isinstance(errors, str):
        return [{"message": errors}]
    if isinstance(errors, dict):
        return [errors]
    return errors if isinstance(errors, list) and errors else [payload]


def _code(value: Any) -> int | None:
    """Read an error number, which may come as text."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value.strip()):
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _quoted(text: str) -> str:
    """Make the service's words fit into a sentence of ours."""
    return scrub(" ".join(text.split()), most=300).rstrip(".")


# --- pages ------------------------------------------------------------------------------------------------------------


def _rows(payload: dict[str, Any]) -> Any:
    """Give what stands for the rows of a page."""
    for name in ("results", "Results"):
        if payload.get(name) is not None:
            return payload[name]
    if "errors" in payload:
        raise _no_page("$.errors: a refusal came with a status of success")
    if "guid" in payload:
        return [payload]
    strange = sorted(set(payload) - _LIST_KEYS)
    if strange:
        raise _no_page("$.results: missing, and the answer is no list")
    return []


def _count(value: Any) -> int | None:
    """Read the count, which may come as text."""
    if value is None:
        return None
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,16}", value):
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MOST_ROWS:
        raise _no_page("$.count: no number of rows")
    return value


def _no_page(*problems: str) -> DecodeError:
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return DecodeError(
        f"The page is no list that the service documents, {problems[0]}{more}. "
        "The service may have changed; update the library, or report the endpoint and this line.",
        problems=problems,
    )


# --- the daily allowance ----------------------------------------------------------------------------------------------


def _remaining(values: tuple[str, ...]) -> int | None:
    """Read how many requests are left; several values must agree."""
    numbers = {value.strip() for value in values}
    if not numbers:
        return None
    text = numbers.pop()
    if numbers or not re.fullmatch(r"[0-9]{1,9}", text):
        _log.warning(
            "X-Arena-Requests-Remaining is %r, which is no single number; the last good one stays.",
            scrub(", ".join(values), most=80),
        )
        return None
    return int(text)


_MONTHS = {
    name: number
    for number, name in enumerate(
        ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"), 1
    )
}
#: "Fri, 02-May-2014 14:22:13 GMT-0700 (PDT)", and the RFC's "Fri, 02 May 2014 21:22:13 GMT".
_DATED = re.compile(
    r"""(?xi) (?: [a-z]+ ,? \s+ )? (?P<day>[0-9]{1,2}) [\ -] (?P<month>[a-z]{3}) [a-z]* [\ -] (?P<year>[0-9]{4}) \s+
        (?P<hour>[0-9]{2}) : (?P<minute>[0-9]{2}) : (?P<second>[0-9]{2})
        \s* (?: gmt | utc | z )? \s* (?P<offset> [+-][0-9]{2} :? [0-9]{2} )? \s* (?: \( [^()]* \) )? """
)
_EPOCH = re.compile(r"(?P<seconds>[0-9]{9,10})(?P<thousandths>[0-9]{3})?(?:\.[0-9]*)?")


def read_reset(text: str) -> datetime | None:
    """
    Read when the count starts anew, in UTC.

    Read are the vendor's own shape, that of RFC 9110, ISO 8601, and seconds or milliseconds since 1970; None for
    anything else.
    """
    text = text.strip()
    if epoch := _EPOCH.fullmatch(text):
        return datetime.fromtimestamp(int(epoch["seconds"]), UTC)
    moment = read_datetime(text)
    if moment is not None:
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    dated = _DATED.fullmatch(text)
    month = _MONTHS.get(dated["month"].lower()) if dated else None
    if dated is None or month is None:
        return None
    offset = (dated["offset"] or "+0000").replace(":", "")
    minutes = int(offset[1:3]) * 60 + int(offset[3:])
    try:
        zone = timezone(timedelta(minutes=-minutes if offset[0] == "-" else minutes))
        day = (int(dated["year"]), month, int(dated["day"]))
        local = datetime(*day, int(dated["hour"]), int(dated["minute"]), int(dated["second"]), tzinfo=zone)
        return local.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def next_reset(now: datetime) -> datetime:
    """
    Give the next midnight of the US Pacific coast, in UTC, which is when the count starts anew by the documentation.

    By the rule of US law since 2007 and not by a time zone database, which Windows and small containers do not have.
    """
    today = (now.astimezone(UTC) - timedelta(hours=8)).date()
    for day in (today, today + timedelta(days=1), today + timedelta(days=2)):
        midnight = datetime(day.year, day.month, day.day, 7 if _summer_midnight(day) else 8, tzinfo=UTC)
        if midnight > now:
            return midnight
    raise AssertionError  # pragma: no cover  the midnight after tomorrow is later than now


def _summer_midnight(day: date) -> bool:
    """Say whether summer time holds as a day of the US begins; the clocks change two hours later."""
    return _sunday(day.year, 3, 2) < day <= _sunday(day.year, 11, 1)


def _sunday(year: int, month: int, number: int) -> date:
    """Give the first, second, ... Sunday of a month."""
    first = date(year, month, 1)
    return first + timedelta(days=(6 - first.weekday()) % 7 + 7 * (number - 1))
