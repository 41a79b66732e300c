"""How pages, the daily allowance and refusals of Arena are read."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
from arena_async.protocol.messages import Headers, Request, Response
from arena_async.protocol.pagination import Page, PageRequest
from arena_async.protocol.quota import Quota
from arena_async.providers.arena.adapter import LIST, ArenaAdapter, next_reset, read_reset

NOW = datetime(2026, 5, 2, 12, 0, tzinfo=UTC)
MIDNIGHT = datetime(2026, 5, 3, 7, 0, tzinfo=UTC)
DIALECT = ArenaAdapter(now=lambda: NOW)
FIRST = PageRequest(offset=0, limit=400)

LOGIN = Request(method="POST", path="/login", scope=None)
LOGOUT = Request(method="PUT", path="/logout")
RUNS = Request(method="GET", path="/extracts/E/runs")
CONTENT = Request(method="GET", path="/extracts/E/runs/R/files/A/content")
RESULT = Request(method="GET", path="/imports/I/runs/R/resultContent")
EXPORT_RUN = Request(method="GET", path="/exports/X/runs/R")
START = Request(method="POST", path="/exports/X/runs")


def body(*errors: tuple[Any, str]) -> bytes:
    """Write errors as the service does."""
    return json.dumps({"status": 400, "errors": [{"code": code, "message": text} for code, text in errors]}).encode()


def refusal(request: Request, status: int, content: bytes = b"", **headers: str) -> ApiError:
    """Read a refusal; headers are given with underscores."""
    pairs = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return DIALECT.read_error(request, Response(status=status, headers=Headers(pairs), body=content))


# --- pages ------------------------------------------------------------------------------------------------------------


def test_a_page_is_asked_for_with_offset_and_limit() -> None:
    """Seeds 000: both parameters, in the vendor's spelling."""
    assert DIALECT.page_params(PageRequest(offset=400, limit=400)) == (("offset", "400"), ("limit", "400"))


@pytest.mark.parametrize(
    ("payload", "rows", "total"),
    [
        ({"count": 1, "results": [{"guid": "A"}]}, [{"guid": "A"}], 1),
        ({"count": "500", "results": []}, [], 500),
        ({"count": 500.0, "results": []}, [], 500),
        ({"results": [{"guid": "A"}]}, [{"guid": "A"}], None),
        ({"count": 0}, [], 0),
        ({"count": None, "results": None}, [], None),
        ({}, [], None),
        ({"count": 1, "Results": [{"guid": "A"}]}, [{"guid": "A"}], 1),
        ({"count": 1, "results": None, "Results": [{"guid": "A"}]}, [{"guid": "A"}], 1),
        ([{"guid": "A"}, {"guid": "B"}], [{"guid": "A"}, {"guid": "B"}], None),
        ({"count": 2, "results": {"0": {"guid": "A"}, "1": {"guid": "B"}}}, [{"guid": "A"}, {"guid": "B"}], 2),
        ({"count": 1, "results": {"guid": "A"}}, [{"guid": "A"}], 1),
        ({"guid": "A", "status": "COMPLETE"}, [{"guid": "A", "status": "COMPLETE"}], None),
    ],
)
def test_every_shape_that_stands_for_rows_is_read(payload: Any, rows: list[Any], total: int | None) -> None:
    """Arrays, objects of objects (seed 001), one object, a bare array, and nothing at all."""
    page = DIALECT.read_page(payload, FIRST, LIST)

    assert page == Page(items=tuple(rows), offset=0, limit=400, total=total)


@pytest.mark.parametrize(
    ("payload", "problem"),
    [
        (None, "$.results: no array where one was expected"),
        ("text", "$.results: no array where one was expected"),
        ({"results": "none"}, "$.results: no array where one was expected"),
        ({"results": [{"guid": "A"}, None]}, "$.results[1]: no object where one was expected"),
        ({"results": [["A"]]}, "$.results[0]: no object where one was expected"),
        ({"results": {"count": 2}}, "$.results[0]: no object where one was expected"),
        ({"status": 400, "errors": []}, "$.errors: an error with a status of success"),
        ({"message": "maintenance"}, "$.results: missing, and the response is no list"),
        ({"count": -1, "results": []}, "$.count: no number of rows"),
        ({"count": True, "results": []}, "$.count: no number of rows"),
        ({"count": "many", "results": []}, "$.count: no number of rows"),
        ({"count": 1.5, "results": []}, "$.count: no number of rows"),
        ({"count": 2**63, "results": []}, "$.count: no number of rows"),
    ],
)
def test_what_is_no_list_is_never_taken_for_an_empty_one(payload: Any, problem: str) -> None:
    """PG20 and promise 5: a listing is whole or it is an error."""
    with pytest.raises(DecodeError) as caught:
        DIALECT.read_page(payload, FIRST, LIST)

    assert caught.value.problems == (problem,)


# --- the daily allowance ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Fri, 02-May-2014 14:22:13 GMT-0700 (PDT)", datetime(2014, 5, 2, 21, 22, 13, tzinfo=UTC)),
        ("Sun, 02-Feb-2014 14:22:13 GMT-0800 (PST)", datetime(2014, 2, 2, 22, 22, 13, tzinfo=UTC)),
        ("Fri, 2-May-2014 14:22:13 GMT+0000 (UTC)", datetime(2014, 5, 2, 14, 22, 13, tzinfo=UTC)),
        ("Fri, 02-May-2014 14:22:13 GMT-07:00", datetime(2014, 5, 2, 21, 22, 13, tzinfo=UTC)),
        ("Fri, 02 May 2014 21:22:13 GMT", datetime(2014, 5, 2, 21, 22, 13, tzinfo=UTC)),
        ("02 May 2014 21:22:13 +0000", datetime(2014, 5, 2, 21, 22, 13, tzinfo=UTC)),
        ("2014-05-02T21:22:13Z", datetime(2014, 5, 2, 21, 22, 13, tzinfo=UTC)),
        ("2014-05-02T14:22:13-07:00", datetime(2014, 5, 2, 21, 22, 13, tzinfo=UTC)),
        ("2014-05-02T21:22:13", datetime(2014, 5, 2, 21, 22, 13, tzinfo=UTC)),
        ("1399065733", datetime(2014, 5, 2, 21, 22, 13, tzinfo=UTC)),
        ("1399065733000", datetime(2014, 5, 2, 21, 22, 13, tzinfo=UTC)),
        ("Fri, 42-May-2014 14:22:13 GMT-0700 (PDT)", None),
        ("Fri, 02-Mai-2014 14:22:13 GMT-0700 (PDT)", None),
        ("Fri, 02-May-2014 14:22:13 GMT-9900", None),
        ("tomorrow", None),
        ("60", None),
        ("", None),
        ("9" * 40, None),
    ],
)
def test_the_reset_is_read_in_the_vendors_shape_and_in_every_usual_one(text: str, expected: datetime | None) -> None:
    """QU04: dashes, an offset after GMT, a zone name in brackets; RFC, ISO, epoch; garbage is None."""
    assert read_reset(text) == expected


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (datetime(2026, 1, 15, 12, 0, tzinfo=UTC), datetime(2026, 1, 16, 8, 0, tzinfo=UTC)),
        (datetime(2026, 7, 15, 12, 0, tzinfo=UTC), datetime(2026, 7, 16, 7, 0, tzinfo=UTC)),
        (datetime(2026, 7, 15, 6, 59, tzinfo=UTC), datetime(2026, 7, 15, 7, 0, tzinfo=UTC)),
        (datetime(2026, 7, 15, 7, 0, tzinfo=UTC), datetime(2026, 7, 16, 7, 0, tzinfo=UTC)),
        # The clocks go forward on Sunday 8 March 2026 at two, so that its midnight is still winter's and the next not.
        (datetime(2026, 3, 8, 1, 0, tzinfo=UTC), datetime(2026, 3, 8, 8, 0, tzinfo=UTC)),
        (datetime(2026, 3, 8, 8, 0, tzinfo=UTC), datetime(2026, 3, 9, 7, 0, tzinfo=UTC)),
        # And back on Sunday 1 November 2026.
        (datetime(2026, 11, 1, 1, 0, tzinfo=UTC), datetime(2026, 11, 1, 7, 0, tzinfo=UTC)),
        (datetime(2026, 11, 1, 7, 0, tzinfo=UTC), datetime(2026, 11, 2, 8, 0, tzinfo=UTC)),
        (datetime(2026, 12, 31, 23, 0, tzinfo=UTC), datetime(2027, 1, 1, 8, 0, tzinfo=UTC)),
    ],
)
def test_the_next_reset_is_midnight_on_the_pacific_coast(now: datetime, expected: datetime) -> None:
    """The days on which the clocks change included."""
    assert next_reset(now) == expected


@given(st.datetimes(min_value=datetime(2008, 1, 1), max_value=datetime(2037, 1, 1)))  # noqa: DTZ001  naive bounds
def test_the_rule_agrees_with_the_time_zone_database(naive: datetime) -> None:
    """Where a database is at hand it says the same, for every hour of thirty years."""
    now = naive.replace(tzinfo=UTC)
    pacific = ZoneInfo("America/Los_Angeles")
    tomorrow = now.astimezone(pacific).date() + timedelta(days=1)

    assert next_reset(now) == datetime(tomorrow.year, tomorrow.month, tomorrow.day, tzinfo=pacific)


def test_quota_is_read_from_the_documented_headers() -> None:
    """Whatever the case of their names."""
    headers = Headers(
        [
            ("x-arena-requests-remaining", "2"),
            ("X-ARENA-NEXT-REQUEST-LIMIT-RESET", "Fri, 02-May-2014 14:22:13 GMT-0700 (PDT)"),
        ]
    )

    assert DIALECT.read_quota(headers) == Quota(remaining=2, resets_at=datetime(2014, 5, 2, 21, 22, 13, tzinfo=UTC))


def test_an_answer_without_the_headers_says_nothing_about_the_quota() -> None:
    """QU21: gateways and file servers may leave them out."""
    assert DIALECT.read_quota(Headers([("Date", "today")])) is None


@pytest.mark.parametrize("text", ["", "abc", "-5", "1e3", "٢", "2.0", "9999999999"])
def test_a_remaining_number_that_is_none_leaves_the_last_good_one(text: str, caplog: pytest.LogCaptureFixture) -> None:
    """QU05: a warning, no number, no crash; a reset beside it is read all the same."""
    odd = ("X-Arena-Requests-Remaining", text)
    with caplog.at_level(logging.WARNING, "arena_async"):
        alone = DIALECT.read_quota(Headers([odd]))
        beside = DIALECT.read_quota(Headers([odd, ("X-Arena-Next-Request-Limit-Reset", "2026-05-03T07:00:00Z")]))

    assert alone is None
    assert beside == Quota(remaining=None, resets_at=MIDNIGHT)
    assert "no single number" in caplog.text


def test_two_remaining_numbers_must_agree() -> None:
    """QU05: a header sent twice counts if it says the same twice."""
    name = "X-Arena-Requests-Remaining"

    assert DIALECT.read_quota(Headers([(name, "7"), (name, "7 ")])) == Quota(remaining=7, resets_at=MIDNIGHT)
    assert DIALECT.read_quota(Headers([(name, "7"), (name, "9")])) is None


def test_a_reset_that_cannot_be_read_is_the_next_midnight() -> None:
    """QU04: garbage and absence."""
    headers = [("X-Arena-Requests-Remaining", "5"), ("X-Arena-Next-Request-Limit-Reset", "soon")]

    assert DIALECT.read_quota(Headers(headers)) == Quota(remaining=5, resets_at=MIDNIGHT)


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "status", "code", "error", "transient"),
    [
        (LOGIN, 400, 4001, AuthenticationError, False),
        (LOGIN, 400, 4079, AuthenticationError, False),
        (LOGIN, 400, 4009, AuthenticationError, False),
        (LOGIN, 400, 4081, AuthenticationError, False),
        (LOGIN, 400, 4011, AuthenticationError, False),
        (LOGIN, 400, 4083, AccountLockedError, False),
        (LOGIN, 400, 4013, AccountLockedError, False),
        (LOGIN, 400, 4089, AuthenticationError, False),
        (LOGIN, 400, 4019, AuthenticationError, False),
        (LOGIN, 400, 4090, AuthenticationError, False),
        (LOGIN, 503, 503, ServerError, True),
        # Since the renumbering these numbers speak of changes and lifecycle phases elsewhere.
        (RUNS, 400, 4001, ApiError, False),
        (RUNS, 400, 4007, ApiError, False),
        (RUNS, 400, 4008, ApiError, False),
        (RUNS, 400, 4009, ApiError, False),
        (RUNS, 400, 4011, ApiError, False),
        (RUNS, 400, 4013, ApiError, False),
        (RUNS, 400, 4014, ApiError, False),
        (RUNS, 400, 3011, ApiError, False),
        (RUNS, 400, 3012, NotFoundError, False),
        (RUNS, 404, 404, NotFoundError, False),
        (RUNS, 410, 410, NotFoundError, False),
        (RUNS, 405, 405, ApiError, False),
        (RUNS, 409, 409, ConflictError, False),
        (RUNS, 415, 415, ApiError, False),
        (RUNS, 417, 417, ApiError, False),
        (RUNS, 400, 3041, ApiError, False),
        (RUNS, 400, 3220, ApiError, False),
        (RUNS, 400, 3200, ApiError, False),
        (RUNS, 400, 3000, ServerError, True),
        (RUNS, 500, 3000, ServerError, True),
        (RUNS, 400, 9002, ServerError, True),
        (RUNS, 400, 3514, ServerError, True),
        (RUNS, 400, 4085, ServerError, True),
        (RUNS, 400, 4087, ServerError, True),
        (RUNS, 400, 4399, ServerError, True),
        (RUNS, 417, 9002, ServerError, True),
        (RUNS, 500, 1, ServerError, True),
        (RUNS, 502, 1, ServerError, True),
        (RUNS, 503, 1, ServerError, True),
        (RUNS, 504, 1, ServerError, True),
        (RUNS, 501, 1, ServerError, False),
        (RUNS, 408, 1, ServerError, True),
        (RUNS, 400, 77777, ApiError, False),
        (RUNS, 403, 3024, PermissionDeniedError, False),
        (RUNS, 400, 3024, PermissionDeniedError, False),
        (RUNS, 403, 3085, PermissionDeniedError, False),
        (RUNS, 403, 3086, PermissionDeniedError, False),
        (RUNS, 403, 3124, PermissionDeniedError, False),
        (RUNS, 403, 3125, PermissionDeniedError, False),
        (RUNS, 403, 4082, PermissionDeniedError, False),
        (RUNS, 403, 4301, PermissionDeniedError, False),
        (RUNS, 403, 1, PermissionDeniedError, False),
        (CONTENT, 400, 3017, ServerError, True),
        (CONTENT, 400, 4077, ServerError, True),
        (CONTENT, 400, 4007, ServerError, True),
        (RESULT, 400, 4007, ServerError, True),
        (CONTENT, 400, 3028, NotFoundError, False),
        (CONTENT, 400, 4078, NotFoundError, False),
        (CONTENT, 400, 3522, NotFoundError, False),
        (CONTENT, 400, 4008, NotFoundError, False),
        (START, 400, 3144, ConflictError, True),
        (START, 400, 3140, ApiError, False),
        (START, 400, 3142, ApiError, False),
        (START, 400, 3145, ApiError, False),
        (START, 400, 3146, ServerError, True),
        (START, 400, 3147, ServerError, True),
        (START, 400, 3148, ApiError, False),
        (START, 400, 3149, ApiError, False),
    ],
)
def test_a_refusal_is_judged_by_status_number_and_endpoint(
    request_: Request, status: int, code: int, error: type[ApiError], transient: bool
) -> None:
    """Reference section 10, row by row."""
    made = refusal(request_, status, body((code, "Some words of the service.")))

    assert type(made) is error
    assert (made.status, made.code, made.transient, made.stale_login) == (status, code, transient, False)
    assert made.request == request_.line
    assert str(made).startswith(f'{request_.line}: status {status}, code {code}, "Some words of the service". ')


def test_a_dead_session_asks_for_a_new_login() -> None:
    """401 on anything but the login itself."""
    made = refusal(RUNS, 401, body((401, "No valid token.")))

    assert type(made) is AuthenticationError
    assert (made.stale_login, made.transient, made.status) == (True, False, 401)
    assert refusal(RUNS, 401).stale_login
    assert refusal(LOGOUT, 401).stale_login


def test_a_login_that_is_refused_with_401_is_not_repeated() -> None:
    """A login cannot be mended by a login."""
    made = refusal(LOGIN, 401)

    assert type(made) is AuthenticationError
    assert (made.stale_login, made.transient) == (False, False)


def test_a_locked_account_says_until_when() -> None:
    """SA07: five minutes from now."""
    made = refusal(LOGIN, 400, body((4083, "Disabled for five minutes.")))

    assert isinstance(made, AccountLockedError)
    assert made.retry_at == datetime(2026, 5, 2, 12, 5, tzinfo=UTC)


@pytest.mark.parametrize(("status", "code"), [(429, 4084), (429, 4014), (400, 4084)])
def test_the_used_up_day_says_when_it_starts_anew(status: int, code: int) -> None:
    """QU01 and QU08: the new number and the old one, with the reset from the header."""
    made = refusal(
        RUNS,
        status,
        body((code, "Limit of 10000 reached.")),
        X_Arena_Next_Request_Limit_Reset="Sun, 03-May-2026 00:00:00 GMT-0700 (PDT)",
        X_Arena_Requests_Remaining="0",
    )

    assert isinstance(made, QuotaExhaustedError)
    assert (made.resets_at, made.remaining, made.code, made.transient) == (MIDNIGHT, 0, code, False)
    assert "2026-05-03 07:00 UTC" in str(made)


def test_the_used_up_day_without_a_header_ends_at_the_next_midnight() -> None:
    """The header may be missing on refusals."""
    made = refusal(RUNS, 429, body((4084, "")))

    assert isinstance(made, QuotaExhaustedError)
    assert (made.resets_at, made.remaining) == (MIDNIGHT, 0)


def test_a_pause_is_not_the_used_up_day() -> None:
    """QU07: 429 without the number, while requests are left or nothing is said."""
    left = refusal(RUNS, 429, body((9999, "Slow down.")), X_Arena_Requests_Remaining="12", Retry_After="17")
    silent = refusal(RUNS, 429)

    assert type(left) is ThrottledError
    assert left.transient
    assert type(silent) is ThrottledError


@pytest.mark.parametrize("content", [b"<html>Too many</html>", b"", b"slow down"])
def test_a_429_that_says_nothing_is_the_used_up_day_if_no_request_is_left(content: bytes) -> None:
    """QU09: HTML, an empty body, plain text."""
    made = refusal(RUNS, 429, content, X_Arena_Requests_Remaining="0")

    assert isinstance(made, QuotaExhaustedError)
    assert made.code is None


@pytest.mark.parametrize("silence", [b"", b" \r\n", b"{}", b'{"status": 400, "errors": []}'])
@pytest.mark.parametrize(
    "path",
    [
        "/extracts/E/runs/R/files/A/content",
        "/extracts/E/runs/R/files",
        "/extracts/E/runs",
        "/extracts/E/runs/latestCompleted",
        "/exports/X/runs/R",
        "/exports/X/runs/R/files/F/content",
        "/imports/I/runs/R/resultContent",
        "/items/I/files",
        "/items/I/files/A",
        "/items/I/files/A/content",
        "/files",
        "/files/F",
        "/files/F/editions",
        "/files/F/watermarkcontent",
    ],
)
def test_a_silent_refusal_of_runs_files_and_content_means_that_the_file_server_is_away(
    path: str, silence: bytes
) -> None:
    """400 without a message: it passes, after a minute or more."""
    away = refusal(Request(method="GET", path=path), 400, silence)

    assert (type(away), away.transient, away.retry_after) == (ServerError, True, 60.0)


@pytest.mark.parametrize("path", ["/extracts", "/extracts/E", "/items", "/login", "/outboundevents/E/items"])
def test_elsewhere_a_silent_refusal_is_simply_a_bad_request(path: str) -> None:
    """Nothing of it would change."""
    bad = refusal(Request(method="GET", path=path), 400)

    assert (type(bad), bad.transient) == (ApiError, False)


def test_a_refusal_with_a_word_is_no_silent_one() -> None:
    """It says what is wrong."""
    assert type(refusal(RUNS, 400, b"Bad")) is ApiError
    assert type(refusal(RUNS, 400, body((3011, "No such guid.")))) is ApiError


def test_a_file_that_cannot_be_given_now_is_worth_a_long_wait() -> None:
    """A minute, unless the service itself names a time, which the session reads."""
    assert refusal(CONTENT, 400, body((3017, "Not now."))).retry_after == 60.0
    assert refusal(CONTENT, 400, body((3017, "Not now.")), Retry_After="5").retry_after is None
    assert refusal(CONTENT, 400).retry_after == 60.0
    assert refusal(CONTENT, 400, Retry_After="5").retry_after is None
    assert refusal(Request(method="GET", path="/items"), 400).retry_after is None


def test_an_export_of_somebody_else_is_explained() -> None:
    """Seed 002: only the user who started a run can see it."""
    made = refusal(EXPORT_RUN, 403, body((3024, "Either you do not have privileges.")))

    assert "Only the user who started an export run can see it" in str(made)
    assert "Only the user" not in str(refusal(RUNS, 403, body((3024, "Either you do not have privileges."))))


def test_of_several_errors_the_one_with_a_known_meaning_decides() -> None:
    """All messages are shown; the number is the one that was understood."""
    made = refusal(RUNS, 400, body((77777, "First."), ("3012", "Second.")))

    assert type(made) is NotFoundError
    assert made.code == 3012
    assert '"First.; Second"' in str(made)


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        (b"<html><body>Bad gateway</body></html>", '"a page of HTML"'),
        (b"upstream\r\n\x1b[31mdied", '"upstream \\x1b[31mdied"'),
        (b"\xff\xfe", '"\ufffd\ufffd"'),
        (b'{"error": "invalid"}', '"invalid"'),
        (b'{"errors": {"code": 1, "message": "one"}}', '"one"'),
        (b'{"message": "plain"}', '"plain"'),
        (b'{"errors": []}', "without a message"),
        (b'{"errors": 5}', "without a message"),
        (b'{"errors": [null, 5]}', "without a message"),
        (b'["oops"]', "without a message"),
        (b'"just text"', '"just text"'),
        (b"[" * 100_000, "[[["),
        (b'{"errors": [{"code": true, "message": {"a": 1}}]}', "'a': 1"),
    ],
)
def test_any_body_of_a_refusal_is_survived_and_its_words_are_made_safe(content: bytes, shown: str) -> None:
    """PG18 and QU09: HTML, text, bytes, odd JSON."""
    made = refusal(RUNS, 502, content)

    assert type(made) is ServerError
    assert made.code is None or made.code == 1
    assert shown in str(made)
    assert len(str(made)) < 700


def test_words_of_the_service_never_carry_a_secret_on() -> None:
    """A server that echoes the session id or the password does not get it into our logs."""
    made = refusal(LOGIN, 400, body((4001, 'Bad login: {"password": "planted-secret"} arena_session_id=planted-id')))

    assert "planted" not in str(made)
    assert "***" in str(made)


def test_every_sample_error_of_the_seeds_is_read() -> None:
    """The bodies as the vendor prints them."""
    payloads = Path(__file__).parents[2] / "payloads"
    invalid = refusal(RUNS, 400, (payloads / "arena_error_3011.json").read_bytes())
    later = refusal(CONTENT, 400, (payloads / "arena_error_3017.json").read_bytes())
    others = refusal(EXPORT_RUN, 403, (payloads / "arena_error_3024.json").read_bytes())

    assert (invalid.code, invalid.transient) == (3011, False)
    assert 'The guid "XFWQ0GZGZDJ015J12" is not valid' in str(invalid)
    assert (later.code, later.transient) == (3017, True)
    assert (type(others), others.code) == (PermissionDeniedError, 3024)


@given(st.binary(max_size=300), st.integers(min_value=400, max_value=599))
def test_no_refusal_makes_the_reader_fail(content: bytes, status: int) -> None:
    """Whatever the body and the status, there is a typed error with the status in it."""
    for request in (LOGIN, RUNS, CONTENT):
        made = refusal(request, status, content)

        assert made.status == status
        assert str(made)
