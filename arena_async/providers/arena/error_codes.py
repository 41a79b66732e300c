"""
Errors of Arena: which error a response becomes, by its status, its error numbers and the kind of endpoint.

Error numbers were made unique in the "Winter 2023" release and some moved, while the sample pages still print the old
ones. So nothing is decided on a number alone.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

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
from arena_async.protocol.decoding import parse_json
from arena_async.protocol.messages import Request, Response, scrub

__all__ = ["error_of"]

#: Kinds of endpoint that give one error number different meanings.
Endpoint = Literal["login", "content", "other"]


@attrs.frozen(kw_only=True)
class _Rule:
    """
    What some error numbers mean.

    Args:
        codes: The numbers that mean it everywhere.
        old: Numbers from before the renumbering, which mean something else elsewhere.
        endpoint: The kind of endpoint where ``old`` means it, or None for any.
        status: The HTTP status with which ``old`` means it, or None for any.
        error: The class of the error.
        meaning: What it means and what to do, in sentences.
        transient: Whether the same request may succeed later.
        stale_login: Whether a new login may help.
        retry_after: Seconds to wait before a retry, or None for the default delay.
    """

    codes: Collection[int] = ()
    old: Collection[int] = ()
    endpoint: Endpoint | None = None
    status: int | None = None
    error: type[ApiError] = ApiError
    meaning: str
    transient: bool = False
    stale_login: bool = False
    retry_after: float | None = None

    def fits(self, code: int, status: int, endpoint: Endpoint) -> bool:
        """Return whether the rule is about this error."""
        is_old = code in self.old and self.endpoint in (None, endpoint) and self.status in (None, status)
        return is_old or code in self.codes


#: Requests that reach the file server, by their path: runs, files and their contents.
_FILE_SERVER: Final = re.compile(r"/(?:runs|files)(?:/|$)|content$", re.IGNORECASE)
#: Seconds between requests to the file server when it is down; each costs a request of the day.
_FILE_SERVER_GAP = 60.0
#: https://ptc-arena.github.io/arena-dev-help/ - too many rejected logins lock the account for five minutes.
_LOCKED_FOR = timedelta(minutes=5)

#: Rejected logins: the numbers, the numbers from before the renumbering, and the meaning.
_LOGIN: Final[tuple[tuple[set[int], set[int], str], ...]] = (
    (
        set(),
        {4001},
        "The e-mail address, password, workspace or IP address was not accepted. It is not retried; check them.",
    ),
    ({4079}, {4009}, "The API is not enabled for this workspace. An administrator has to request it from Arena."),
    ({4081}, {4011}, "The password was reset or has expired. Log in to the web application once and set a new one."),
    ({4089}, {4019}, "The web token was renewed, is of another workspace, or is not for integrations."),
    ({4090}, set(), "The Onshape feature, which this kind of login needs, is not enabled for the workspace."),
)
#: Requests that the service does not accept as they are, by their numbers.
_INVALID: Final = {
    (3011,): "No object of this workspace has this guid: check that it is complete, the base URL and the workspace.",
    (3140,): "Neither the definition nor the run has criteria; give them in one of the two.",
    (3142,): "Both the definition and the run have criteria; leave them out of the run.",
    (3145,): "The run belongs to another definition; use the guids of one and the same.",
    (3148,): "The criteria match more than 20,000 items; split them into more exports.",
    (3149,): "With the BOM or files view an export has at most 5,000 lines; split the criteria.",
    (3200,): "This endpoint takes no query at all, not even offset and limit.",
    (3041, 3220, 4328, 4329): "The offset or the limit was not accepted; the limit is at most 400.",
}
_NOT_VISIBLE = "The user may not see this, or it does not exist; the service does not tell them apart."

#: https://ptc-arena.github.io/arena-dev-help/error-codes/ - the first rule that fits wins.
_RULES: Final = (
    _Rule(
        codes={4084},
        old={4014},
        status=429,
        error=QuotaExhaustedError,
        meaning="The workspace has used up its requests of the day; every integration of the company shares them.",
    ),
    _Rule(
        codes={4083},
        old={4013},
        endpoint="login",
        error=AccountLockedError,
        meaning="The account is locked for five minutes after too many rejected logins; check the password first.",
    ),
    *(
        _Rule(codes=codes, old=old, endpoint="login", error=AuthenticationError, meaning=meaning)
        for codes, old, meaning in _LOGIN
    ),
    _Rule(
        codes={3017, 4077},
        old={4007},
        endpoint="content",
        error=ServerError,
        meaning="The file server cannot send this file now; try again after a minute or more.",
        transient=True,
        retry_after=_FILE_SERVER_GAP,
    ),
    _Rule(
        codes={3028, 4078, 3522},
        old={4008},
        endpoint="content",
        error=NotFoundError,
        meaning="The service has no content for this file; do not request it again.",
    ),
    _Rule(codes={3024, 3085, 3086, 3124, 3125, 4082, 4301}, error=PermissionDeniedError, meaning=_NOT_VISIBLE),
    _Rule(codes={3012}, error=NotFoundError, meaning="It does not exist, or not any more; list again."),
    _Rule(
        codes={3144},
        error=ConflictError,
        meaning="Another export is in progress, and only one may be at a time. Start this one when that has ended.",
        transient=True,
    ),
    *(_Rule(codes=codes, meaning=meaning) for codes, meaning in _INVALID.items()),
    _Rule(
        codes={3000, 3146, 3147, 3514, 4085, 4087, 4399, 9002},
        error=ServerError,
        meaning="The service failed for a reason of its own; the same request may succeed later.",
        transient=True,
    ),
)

_BY_STATUS: Final[dict[int, tuple[type[ApiError], str]]] = {
    401: (
        AuthenticationError,
        "The session was ended by 90 minutes without a request, or by another login: give each integration a user.",
    ),
    403: (PermissionDeniedError, _NOT_VISIBLE),
    404: (NotFoundError, "There is nothing at this address; check the guids and that the base URL ends in /v1."),
    405: (ApiError, "The endpoint does not take this method; check the base URL."),
    408: (ServerError, "The service did not receive the request in time."),
    409: (ConflictError, "It is in conflict with something that exists already."),
    410: (NotFoundError, "It does not exist any more."),
    415: (ApiError, "The service wants the header content-type: application/json; a proxy may have removed it."),
}

#: Statuses of a service, or of a gateway before it, that is unavailable for now.
_UNAVAILABLE = frozenset({408, 500, 502, 503, 504})
_TOO_MANY: Final = _Rule(
    error=ThrottledError, meaning="Too many requests in too short a time; send fewer at once.", transient=True
)
_NONE_LEFT: Final = _Rule(error=QuotaExhaustedError, meaning="By the headers, no request of the day is left.")
_FILE_SERVER_DOWN: Final = _Rule(
    error=ServerError,
    meaning="An error about files without a message means that the file server cannot be reached; try again later.",
    transient=True,
    retry_after=_FILE_SERVER_GAP,
)
_OTHERS_RUN = (
    "Only the user who started an export run can see it and download its files: start a run with this user, or log in "
    "as the one who did."
)


def error_of(
    request: Request, response: Response, *, remaining: int | None, resets_at: datetime, now: datetime
) -> ApiError:
    """
    Return the error of a response.

    Args:
        request: The request.
        response: The response, which has no status of success.
        remaining: The remaining requests by its headers, or None.
        resets_at: When the quota is reset.
        now: The time (aware).
    """
    status = response.status
    codes, text = _read_body(response.body)
    rule, code = _find_rule(request, status, codes, silent=not codes and not text)
    if status == 429 and rule.error is not QuotaExhaustedError:
        rule, code = _NONE_LEFT if remaining == 0 else _TOO_MANY, next(iter(codes), None)
    meaning = rule.meaning
    if rule.error is PermissionDeniedError and request.path.startswith("/exports/"):
        meaning = f"{meaning} {_OTHERS_RUN}"
    fields: dict[str, Any] = {
        "transient": rule.transient,
        "stale_login": rule.stale_login,
        # A Retry-After header is read by the session and takes precedence.
        "retry_after": None if "Retry-After" in response.headers else rule.retry_after,
    }
    if rule.error is AccountLockedError:
        fields["retry_at"] = now + _LOCKED_FOR
    if rule.error is QuotaExhaustedError:
        fields |= {"resets_at": resets_at, "remaining": remaining or 0}
        meaning = f"{meaning} They are reset at {resets_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC."
    number = f", code {code}" if code is not None else ""
    quoted = f', "{text}"' if text else ", without a message"
    message = f"{request.line}: status {status}{number}{quoted}. {meaning}"
    return rule.error(message, status=status, code=code, request=request.line, **fields)


def _find_rule(request: Request, status: int, codes: tuple[int, ...], *, silent: bool) -> tuple[_Rule, int | None]:
    """Return the first rule that fits any of the numbers, with that number; else what the status means."""
    endpoint = _endpoint(request)
    for rule in _RULES:
        for number in codes:
            if rule.fits(number, status, endpoint):
                return rule, number
    code = next(iter(codes), None)
    if status == 400 and silent and endpoint != "login" and _FILE_SERVER.search(request.path):
        return _FILE_SERVER_DOWN, code
    error, meaning = _BY_STATUS.get(status, (ApiError, "The service did not accept the request as it is."))
    if status >= 500:
        error, meaning = ServerError, "The service, or a gateway before it, is unavailable or failed."
    if 300 <= status < 400:
        meaning = "By its documentation the API never redirects; check the base URL, this is a web application."
    if status == 401 and endpoint == "login":
        meaning = "The login was not accepted, and is not retried; check the credentials."
    stale_login = status == 401 and endpoint != "login"
    return _Rule(error=error, meaning=meaning, transient=status in _UNAVAILABLE, stale_login=stale_login), code


def _endpoint(request: Request) -> Endpoint:
    if request.path == "/login":
        return "login"
    # content, watermarkcontent, submitContent, resultContent, errorContent
    return "content" if request.path.lower().endswith("content") else "other"


def _read_body(body: bytes) -> tuple[tuple[int, ...], str]:
    """Return the error numbers and the messages of any body."""
    body = body.strip()
    if not body:
        return (), ""
    try:
        payload = parse_json(body)
    except DecodeError:
        return (), _quoted("a page of HTML" if body.startswith(b"<") else body.decode("utf-8", "replace"))
    errors = [entry for entry in _error_entries(payload) if isinstance(entry, dict)]
    codes = tuple(code for code in (_code(entry.get("code")) for entry in errors) if code is not None)
    return codes, _quoted("; ".join(str(entry["message"]) for entry in errors if entry.get("message")))


def _error_entries(payload: Any) -> Iterable[Any]:
    """Return the objects that may have a number and a message."""
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
    """Return a message of the service on one line, scrubbed, for a message of ours."""
    return scrub(" ".join(text.split()), maximum=300).rstrip(".")
