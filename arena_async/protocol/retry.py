"""
Whether a failed request is sent again, and when.

The retry loop of API requests is in ``http``, that of bodies in ``transfer``; neither runs inside the other. This
module decides for the first and provides the backoff of the second.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import attrs

from arena_async.errors import ApiError, DeadlineError, QuotaExhaustedError, ThrottledError, TransportError
from arena_async.options import RetryPolicy
from arena_async.protocol.messages import read_http_date

__all__ = ["MAX_RETRY_AFTER", "RequestAttempt", "backoff", "read_retry_after", "retry_delay"]

#: Seconds that a ``Retry-After`` may state, at most.
MAX_RETRY_AFTER = 366 * 86_400.0

#: Any date after the year 2999.
_FAR = datetime(2999, 12, 31, tzinfo=UTC)
_SECONDS = re.compile(r"[+-]?[0-9]{1,30}(?:\.[0-9]*)?", re.ASCII)


@attrs.frozen(kw_only=True)
class RequestAttempt:
    """
    What happened so far to one request.

    Args:
        number: How many times it was tried, this time included.
        elapsed: Seconds since the first attempt began, waits included.
        repeatable: Whether sending it twice has the same effect as sending it once.
        sent: Whether the headers of the last attempt were written.
        may_log_in: Whether a newer credential may help.
    """

    number: int
    elapsed: float
    repeatable: bool
    sent: bool
    may_log_in: bool = False


def retry_delay(
    error: Exception, attempt: RequestAttempt, policy: RetryPolicy, *, random: Callable[[], float]
) -> float | None:
    """
    Return the seconds to wait before the request is sent again, or None if it is not.

    A request whose session was rejected is sent again at once, with a newer credential.

    Args:
        error: How the attempt failed.
        attempt: The attempt and those before it.
        policy: Limits.
        random: Returns a random number from 0 up to 1.
    """
    if isinstance(error, ApiError) and error.stale_login:
        return 0.0 if attempt.may_log_in else None
    if not _may_help(error, attempt) or attempt.number >= policy.attempts:
        return None
    if isinstance(error, TransportError) and error.unanswered_reuse:
        seconds = 0.0
    else:
        requested = error.retry_after if isinstance(error, ApiError) else None
        seconds = max(backoff(policy, attempt.number, random), requested or 0.0)
    return None if attempt.elapsed + seconds > policy.timeout else seconds


def _may_help(error: Exception, attempt: RequestAttempt) -> bool:
    """Return whether the same request may succeed, and is safe to send again."""
    if isinstance(error, QuotaExhaustedError):
        return False
    if isinstance(error, ThrottledError):
        # After a 429 nothing was done, so even a POST is safe to send again.
        return True
    if isinstance(error, ApiError):
        return error.transient and attempt.repeatable
    if isinstance(error, TransportError | DeadlineError):
        return attempt.repeatable or not attempt.sent
    return False


def backoff(policy: RetryPolicy, attempt: int, random: Callable[[], float]) -> float:
    """
    Return the seconds to wait after attempt number ``attempt``, counted from 1.

    Full jitter: between 0 and a maximum that grows with each attempt, so that clients that failed together do not
    retry together.
    """
    try:
        highest = policy.wait_initial * policy.wait_exp_base ** (attempt - 1)
    except OverflowError:
        highest = policy.wait_max
    return min(random() * min(highest, policy.wait_max) + random() * policy.wait_jitter, policy.wait_max)


def read_retry_after(text: str | Sequence[str] | None, now: datetime) -> float | None:
    """
    Read a ``Retry-After`` as seconds from now, at least 0 and at most :data:`MAX_RETRY_AFTER`.

    Seconds may have a fraction; a date may have any format of mail headers. Of several values the longest counts.
    None if there is none that can be read.

    Args:
        text: The value, or all values where it was sent several times.
        now: The current date and time (aware), for dates.
    """
    values = [text] if isinstance(text, str) else text or ()
    found = [seconds for value in values for seconds in _read_one(value.strip(), now)]
    return min(max(*found, 0.0), MAX_RETRY_AFTER) if found else None


def _read_one(value: str, now: datetime) -> list[float]:
    """Return the seconds of one header value: a date, seconds, or seconds that a proxy joined with commas."""
    numbers = [part.strip() for part in value.split(",")]
    if all(_SECONDS.fullmatch(part) for part in numbers):
        return [float(part) for part in numbers]
    timestamp = read_http_date(value, far=_FAR)
    return [] if timestamp is None else [(timestamp - now).total_seconds()]
