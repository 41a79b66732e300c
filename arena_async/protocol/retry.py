"""
Whether a request that failed is sent again, and when.

One of the two retry loops is ``net.session`` (requests), the other is ``transfer.fetching`` (bodies); neither runs
inside the other. This module decides for the first of them and lends the second its back-off.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import attrs

from arena_async.errors import ApiError, DeadlineError, QuotaExhaustedError, ThrottledError, TransportError
from arena_async.options import RetryPolicy

__all__ = [
    "MAX_RETRY_AFTER",
    "AgainAfter",
    "Attempt",
    "Done",
    "LogInAgain",
    "Raise",
    "RetryDecision",
    "backoff",
    "judge",
    "read_http_date",
    "read_retry_after",
]

#: Seconds. What a ``Retry-After`` may say at the most; whatever is longer is as good as never.
MAX_RETRY_AFTER = 366 * 86_400.0

_SECONDS = re.compile(r"[+-]?[0-9]{1,30}(?:\.[0-9]*)?", re.ASCII)


@attrs.frozen
class Done:
    """The answer is what was asked for."""


@attrs.frozen
class AgainAfter:
    """
    Send the request again.

    Args:
        seconds: After so many seconds.
    """

    seconds: float


@attrs.frozen
class LogInAgain:
    """Take a newer credential, logging in if there is none yet, and send the request again at once."""


@attrs.frozen
class Raise:
    """
    Give up.

    Args:
        error: What the caller gets.
    """

    error: Exception


RetryDecision = Done | AgainAfter | LogInAgain | Raise


@attrs.frozen(kw_only=True)
class Attempt:
    """
    What happened so far to one request.

    Args:
        number: How many times it was tried, this time included.
        elapsed: Seconds since the first try began, waits included.
        repeatable: Whether sending it twice does no more than sending it once.
        sent: Whether the head of the last try was written.
        may_log_in: Whether a newer credential may help.
    """

    number: int
    elapsed: float
    repeatable: bool
    sent: bool
    may_log_in: bool = False


def judge(
    error: Exception | None, attempt: Attempt, policy: RetryPolicy, *, random: Callable[[], float]
) -> RetryDecision:
    """
    Decide what follows one try.

    Args:
        error: What came of it, or None for an answer that is no refusal.
        attempt: The try and what went before it.
        policy: How often and how patiently.
        random: Draws from 0 up to 1.
    """
    if error is None:
        return Done()
    if isinstance(error, ApiError) and error.stale_login:
        return LogInAgain() if attempt.may_log_in else Raise(error)
    if not _may_help(error, attempt) or attempt.number >= policy.attempts:
        return Raise(error)
    seconds = _pause(error, attempt, policy, random)
    return Raise(error) if attempt.elapsed + seconds > policy.timeout else AgainAfter(seconds)


def _may_help(error: Exception, attempt: Attempt) -> bool:
    """Whether the same request may come to another end, and is safe to send again."""
    if isinstance(error, QuotaExhaustedError):
        return False
    if isinstance(error, ThrottledError):
        # A 429 says that nothing was done, so that even a POST is safe to send again.
        return True
    if isinstance(error, ApiError):
        return error.transient and attempt.repeatable
    if isinstance(error, TransportError | DeadlineError):
        return attempt.repeatable or not attempt.sent
    return False


def _pause(error: Exception, attempt: Attempt, policy: RetryPolicy, random: Callable[[], float]) -> float:
    """How long to wait: not at all after a stale connection, else what the service asks for or our own back-off."""
    if isinstance(error, TransportError) and error.unanswered_reuse:
        return 0.0
    requested = error.retry_after if isinstance(error, ApiError) else None
    return max(backoff(policy, attempt.number, random), requested or 0.0)


def backoff(policy: RetryPolicy, attempt: int, random: Callable[[], float]) -> float:
    """
    Draw the seconds to wait after try number ``attempt``, counted from 1.

    Full jitter: anything between 0 and an upper end that grows with every try, so that clients that failed together do
    not come back together.
    """
    try:
        highest = policy.wait_initial * policy.wait_exp_base ** (attempt - 1)
    except OverflowError:
        highest = policy.wait_max
    return min(random() * min(highest, policy.wait_max) + random() * policy.wait_jitter, policy.wait_max)


def read_retry_after(text: str | Sequence[str] | None, now: datetime) -> float | None:
    """
    Read a ``Retry-After`` as seconds from now, at least 0 and at most :data:`MAX_RETRY_AFTER`.

    Seconds may carry a fraction; a date may be in any form that mail headers take. Of several values the longest
    counts. None for a value that says nothing.

    Args:
        text: The value, or all values where it was sent several times.
        now: The current date and time (aware), for dates.
    """
    if text is None:
        return None
    values = [text] if isinstance(text, str) else list(text)
    found = [seconds for value in values for seconds in _read_one(value.strip(), now)]
    return max(found, default=None)


def _read_one(value: str, now: datetime) -> list[float]:
    """Read one header value, which may be a date, seconds, or seconds that a proxy joined with commas."""
    numbers = [part.strip() for part in value.split(",")]
    if all(_SECONDS.fullmatch(part) for part in numbers):
        return [_clamp(float(part)) for part in numbers]
    timestamp = read_http_date(value)
    return [_clamp((timestamp - now).total_seconds())] if timestamp is not None else []


def read_http_date(text: str | None) -> datetime | None:
    """Read a date (aware) in any form that mail headers take, such as the ``Date`` of an answer; None for no date."""
    try:
        timestamp = parsedate_to_datetime(text or "")
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return timestamp if timestamp.tzinfo else timestamp.replace(tzinfo=UTC)


def _clamp(seconds: float) -> float:
    return min(max(seconds, 0.0), MAX_RETRY_AFTER) if math.isfinite(seconds) else MAX_RETRY_AFTER
