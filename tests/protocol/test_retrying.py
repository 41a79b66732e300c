"""Trying again: what may help, what is safe, and how long to wait."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arena_async.errors import (
    ApiError,
    AuthenticationError,
    ClosedError,
    DeadlineError,
    DecodeError,
    QuotaExhaustedError,
    ServerError,
    ThrottledError,
    TlsError,
    TransportError,
    UnsafeUrlError,
)
from arena_async.options import RetryPolicy
from arena_async.protocol.messages import read_http_date
from arena_async.protocol.retry import (
    MAX_RETRY_AFTER,
    RequestAttempt,
    backoff,
    read_retry_after,
    retry_delay,
)

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
POLICY = RetryPolicy(attempts=3, timeout=100, wait_initial=2, wait_max=60, wait_jitter=1, wait_exp_base=2)
BUSY = ServerError("x", status=503, transient=True)


def half() -> float:
    """Draw the middle."""
    return 0.5


def tried(
    number: int = 1, *, elapsed: float = 0.0, get: bool = True, sent: bool = True, log_in: bool = False
) -> RequestAttempt:
    """Describe a try."""
    return RequestAttempt(number=number, elapsed=elapsed, repeatable=get, sent=sent, may_log_in=log_in)


@pytest.mark.parametrize(
    ("error", "get", "sent", "again"),
    [
        (TransportError("x"), True, True, True),
        (TransportError("x"), False, True, False),
        (TransportError("x"), False, False, True),
        (DeadlineError("x"), True, True, True),
        (DeadlineError("x"), False, True, False),
        (DeadlineError("x"), False, False, True),
        (BUSY, True, True, True),
        (BUSY, False, True, False),
        (ThrottledError("x", status=429), True, True, True),
        (ThrottledError("x", status=429), False, True, True),
        (ApiError("x", status=404), True, True, False),
        (ServerError("x", status=501), True, True, False),
        (QuotaExhaustedError("x", status=429, transient=True), True, True, False),
        (TlsError("x"), True, False, False),
        (UnsafeUrlError("x"), True, False, False),
        (ClosedError("x"), True, False, False),
        (DecodeError("x"), True, True, False),
    ],
)
def test_what_is_tried_again(error: Exception, get: bool, sent: bool, again: bool) -> None:
    """TR33, TR34, TR42: only what may help and does no harm."""
    decision = retry_delay(error, tried(get=get, sent=sent), POLICY, random=half)
    assert (decision is not None) is again


@pytest.mark.parametrize("get", [True, False])
def test_a_rejected_session_is_renewed_where_that_may_help(get: bool) -> None:
    """SA12: also for a POST, because nothing was done; and not for ever."""
    error = AuthenticationError("x", status=401, stale_login=True, transient=True)
    assert retry_delay(error, tried(get=get, log_in=True), POLICY, random=half) == 0.0
    assert retry_delay(error, tried(get=get), POLICY, random=half) is None


def test_the_tries_are_counted() -> None:
    """The third of three is the last."""
    assert retry_delay(BUSY, tried(2), POLICY, random=half) == 2.5
    assert retry_delay(BUSY, tried(3), POLICY, random=half) is None


def test_the_seconds_are_counted_with_the_wait_to_come() -> None:
    """Nobody waits for a try that would come too late."""
    assert retry_delay(BUSY, tried(elapsed=98.5), POLICY, random=half) == 1.5
    assert retry_delay(BUSY, tried(elapsed=98.6), POLICY, random=half) is None


@pytest.mark.parametrize(("requested", "waited"), [(None, 1.5), (0.0, 1.5), (1.0, 1.5), (17.0, 17.0), (99.0, 99.0)])
def test_the_longer_of_both_waits_counts(requested: float | None, waited: float) -> None:
    """QU18: the service's wish never shortens our own pause, and may be longer than our longest."""
    error = ThrottledError("x", status=429, retry_after=requested)
    assert retry_delay(error, tried(), POLICY, random=half) == waited


def test_a_wish_beyond_all_patience_is_an_error() -> None:
    """QU17: the error carries the wish."""
    error = ThrottledError("x", status=429, retry_after=101.0)
    assert retry_delay(error, tried(), POLICY, random=half) is None


def test_a_stale_connection_is_replaced_at_once() -> None:
    """TR56: it counts as a try all the same."""
    error = TransportError("x", unanswered_reuse=True)
    assert retry_delay(error, tried(), POLICY, random=half) == 0.0
    assert retry_delay(error, tried(3), POLICY, random=half) is None
    assert retry_delay(error, tried(get=False), POLICY, random=half) is None


@pytest.mark.parametrize(("attempt", "low", "high"), [(1, 0.0, 3.0), (2, 0.0, 5.0), (3, 0.0, 9.0), (9, 0.0, 60.0)])
def test_the_pause_is_drawn_up_to_an_end_that_grows(attempt: int, low: float, high: float) -> None:
    """TR33: full jitter, and never longer than the longest."""
    assert backoff(POLICY, attempt, lambda: 0.0) == low
    assert backoff(POLICY, attempt, lambda: 1.0) == high


@given(st.integers(1, 10**6), st.floats(1, 1e300), st.floats(0, 1e300), st.floats(0, 1, exclude_max=True))
def test_no_policy_makes_a_pause_that_is_no_number(attempt: int, base: float, initial: float, draw: float) -> None:
    """However large the numbers."""
    policy = RetryPolicy(wait_exp_base=base, wait_initial=initial)
    assert 0 <= backoff(policy, attempt, lambda: draw) <= 60


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, None),
        ("0", 0.0),
        ("17", 17.0),
        (" 17 ", 17.0),
        ("1.5", 1.5),
        ("-1", 0.0),
        ("99999999999", MAX_RETRY_AFTER),
        ("9" * 400, None),
        ("soon", None),
        ("", None),
        ("nan", None),
        ("inf", None),
        ("1e3", None),
        ("٣", None),
        ("Sun, 22 Nov 2026 11:00:00 GMT", 0.0),
        ("Sun, 22 Nov 2026 12:00:17 GMT", 17.0),
        ("Sun, 22 Nov 2026 12:00:17", 17.0),
        ("Sun, 22 Nov 2026 13:00:17 +0100", 17.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", MAX_RETRY_AFTER),
        ("Sun, 99 Nov 2026 12:00:17 GMT", None),
        (("5", "30"), 30.0),
        ("5, 30", 30.0),
        (("soon", "5"), 5.0),
        ((), None),
    ],
)
def test_every_shape_of_retry_after(text: str | tuple[str, ...] | None, seconds: float | None) -> None:
    """QU17: clamped, and never an error."""
    assert read_retry_after(text, NOW) == seconds


@given(st.text())
def test_no_text_breaks_it(text: str) -> None:
    """QU17: any text gives a number in range, or None."""
    found = read_retry_after(text, NOW)
    assert found is None or 0 <= found <= MAX_RETRY_AFTER


@given(st.integers(-(10**9), 10**11))
def test_a_date_is_counted_from_now(seconds: int) -> None:
    """QU17: whole seconds, the past is now."""
    text = format_datetime(NOW + timedelta(seconds=seconds), usegmt=True)
    assert read_retry_after(text, NOW) == min(max(seconds, 0.0), MAX_RETRY_AFTER)


def test_the_draws_are_independent() -> None:
    """One draw for the pause, one for the jitter."""
    draws = itertools.cycle([1.0, 0.0])
    assert backoff(POLICY, 1, lambda: next(draws)) == 2.0


@pytest.mark.parametrize(
    ("text", "timestamp"),
    [
        ("Fri, 01 Mar 2024 12:00:00 GMT", datetime(2024, 3, 1, 12, tzinfo=UTC)),
        ("Friday, 01-Mar-24 12:00:00 GMT", datetime(2024, 3, 1, 12, tzinfo=UTC)),
        ("Fri, 01 Mar 2024 12:00:00", datetime(2024, 3, 1, 12, tzinfo=UTC)),
        ("Fri, 01 Mar 2024 12:00:00 +0200", datetime(2024, 3, 1, 10, tzinfo=UTC)),
        ("Fri, 45 Mar 2024 12:00:00 GMT", None),
        ("soon", None),
        ("", None),
        (None, None),
    ],
)
def test_the_date_of_an_answer_is_read_in_every_form_that_mail_headers_take(
    text: str | None, timestamp: datetime | None
) -> None:
    """TR31: it says what time it is for the service; what is no date says nothing."""
    assert read_http_date(text) == timestamp
