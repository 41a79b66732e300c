"""
The settings of a caller, as frozen values that are checked when they are created.

Seconds and bytes everywhere. A wrong value raises :class:`~arena_async.errors.ConfigurationError`
before anything is sent or written; an unknown name raises ``TypeError``.
"""

from __future__ import annotations

import functools
import math
import random as _random
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

import attrs

from arena_async.errors import ConfigurationError

if TYPE_CHECKING:
    from ssl import SSLContext

    from aiohttp import BaseConnector

__all__ = [
    "KIB",
    "MIB",
    "VERSION",
    "Clock",
    "HttpOptions",
    "PollPolicy",
    "RetryPolicy",
    "Timeouts",
    "TransferOptions",
    "copied",
    "shield",
]

#: The version of this library, as in ``pyproject.toml``: reading it from the installed package costs ten milliseconds.
VERSION = "0.1.0"

KIB = 1024
MIB = 1024 * KIB

#: The factor by which each polling interval is longer than the one before.
_WIDENING = 1.5
#: The part of an expected duration that has to pass before the first poll.
_EXPECTED_SHARE = 0.9

_Check = Callable[[Any, "attrs.Attribute[Any]", Any], None]


def _number(minimum: float, *, whole: bool = False, above: bool = False) -> _Check:
    """Return a check that a value is a finite number of at least ``minimum`` (or above it)."""

    def check(owner: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
        kind = int if whole else (int, float)
        right = isinstance(value, kind) and not isinstance(value, bool) and math.isfinite(value)
        if not right or value < minimum or (above and value == minimum):
            wanted = f"a {'whole ' if whole else ''}number {'above' if above else 'of at least'} {minimum:g}"
            raise ConfigurationError(f"{type(owner).__name__}.{attribute.name} is {value!r}; it takes {wanted}.")

    return check


def _one_of(*allowed: object) -> _Check:
    """Return a check that a value is one of some."""

    def check(owner: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
        if value not in allowed:
            choices = ", ".join(map(repr, allowed))
            raise ConfigurationError(
                f"{type(owner).__name__}.{attribute.name} is {value!r}; it takes one of {choices}."
            )

    return check


@attrs.frozen(kw_only=True)
class RetryPolicy:
    """
    How an API request is retried.

    Retried are failed and broken connections, statuses 429, 500, 502, 503, 504, and errors that the vendor documents as
    temporary, but only for requests that are safe to repeat (GET, HEAD); a POST or PUT is repeated only if nothing was
    sent. The wait before attempt *n* is random between 0 and ``wait_initial * wait_exp_base ** (n - 1)`` plus a
    jitter of up to ``wait_jitter``, at most ``wait_max`` seconds; a longer ``Retry-After`` is honoured up to
    ``timeout``.

    Args:
        attempts: Requests in all, including the first one. At least 1.
        timeout: Seconds in all, including waits; for so long a host in trouble is waited for.
        wait_initial: Seconds before the second attempt, at most.
        wait_max: Seconds of a single wait, at most, except for ``Retry-After``.
        wait_jitter: Random additional seconds, at most.
        wait_exp_base: The factor by which each wait may be longer than the one before. At least 1.
    """

    attempts: int = attrs.field(default=5, validator=_number(1, whole=True))
    timeout: float = attrs.field(default=300.0, validator=_number(0, above=True))
    wait_initial: float = attrs.field(default=0.5, validator=_number(0))
    wait_max: float = attrs.field(default=60.0, validator=_number(0))
    wait_jitter: float = attrs.field(default=1.0, validator=_number(0))
    wait_exp_base: float = attrs.field(default=2.0, validator=_number(1))


@attrs.frozen(kw_only=True)
class Timeouts:
    """
    Timeouts of the network. There is no limit on the total time of a download.

    Args:
        connect: Seconds for DNS, TCP and TLS of one connection.
        read: Seconds without any byte of a response: before its headers, and between two chunks of its body.
        pool: Seconds to wait for a free connection.
        slowest_rate: Bytes a second that a body must have on average over ``slowest_over`` seconds of waiting for it. 0
            disables the check. Time spent on the local disk does not count.
        slowest_over: Seconds over which ``slowest_rate`` is measured.
    """

    connect: float = attrs.field(default=15.0, validator=_number(0, above=True))
    read: float = attrs.field(default=60.0, validator=_number(0, above=True))
    pool: float = attrs.field(default=60.0, validator=_number(0, above=True))
    slowest_rate: float = attrs.field(default=1.0 * KIB, validator=_number(0))
    slowest_over: float = attrs.field(default=60.0, validator=_number(0, above=True))


async def _sleep(seconds: float) -> None:
    import asyncio  # noqa: PLC0415  # The values are imported without it.

    await asyncio.sleep(seconds)


_utc_now = functools.partial(datetime.now, UTC)


@attrs.frozen(kw_only=True)
class Clock:
    """
    Time and randomness, as one value that tests can replace.

    Args:
        monotonic: Returns seconds that never jump.
        sleep: Waits for so many seconds.
        random: Returns a random number from 0 up to 1.
        now: Returns the date and time (aware).
    """

    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[object]] = _sleep
    random: Callable[[], float] = _random.random
    now: Callable[[], datetime] = _utc_now


def copied(values: Mapping[str, str]) -> dict[str, str]:
    """Return a copy, so that a frozen value cannot change."""
    return dict(values)


@attrs.frozen(kw_only=True)
class HttpOptions:
    """
    The settings of one HTTP session.

    Args:
        retry: How API requests are retried.
        timeouts: Timeouts of the network.
        headers: Headers of every request to the API.
        ssl: An ``ssl.SSLContext``, or None for the certificates that the system trusts.
        proxy: The URL of an HTTP proxy, or None. The environment is not read.
        user_agent: Text before the name of this library in ``User-Agent``.
        connector: An aiohttp connector of the caller, which is never closed.
        clock: Time and randomness.
    """

    retry: RetryPolicy = attrs.field(factory=RetryPolicy)
    timeouts: Timeouts = attrs.field(factory=Timeouts)
    headers: Mapping[str, str] = attrs.field(factory=dict, converter=copied, repr=False)
    ssl: SSLContext | None = None
    proxy: str | None = attrs.field(default=None, repr=False)
    user_agent: str | None = None
    connector: BaseConnector | None = None
    clock: Clock = attrs.field(factory=Clock)


@attrs.frozen(kw_only=True)
class PollPolicy:
    """
    How often an unfinished run is polled. Every poll is one request.

    Each interval is half as long again as the one before, up to ``max_interval``. With the defaults, a run of 40
    minutes costs at most 18 polls and six hours cost 82; :meth:`max_polls` returns the number for any policy.

    Args:
        every: Seconds between the first two polls.
        max_interval: Seconds between two polls, at most; the interval grows from ``every`` up to this.
        timeout: Seconds to wait in all before :class:`~arena_async.errors.DeadlineError`.
    """

    every: float = attrs.field(default=5.0, validator=_number(0, above=True))
    max_interval: float = attrs.field(default=300.0, validator=_number(0, above=True))
    timeout: float = attrs.field(default=6 * 3600.0, validator=_number(0, above=True))

    def __attrs_post_init__(self) -> None:
        """Raise if the interval would have to shrink."""
        if self.max_interval < self.every:
            raise ConfigurationError(
                f"PollPolicy.max_interval is {self.max_interval:g} s and shorter than every, {self.every:g} s; make "
                "it as long."
            )

    def pause(self, requested: int, *, passed: float = 0.0, expected: float | None = None) -> float:
        """
        Return the seconds to wait after a poll.

        The duration of earlier runs makes a pause longer and never shorter, so that it never costs more polls.

        Args:
            requested: The number of polls so far.
            passed: Seconds that the run has taken so far.
            expected: Seconds that earlier runs took, or None. Most of that passes before the next poll.
        """
        steps = max(requested - 1, 0)
        plain = self.max_interval if steps >= self._steps else min(self.every * _WIDENING**steps, self.max_interval)
        if expected is None:
            return plain
        return max(plain, min(self.max_interval, _EXPECTED_SHARE * expected - passed))

    def max_polls(self, seconds: float | None = None) -> int:
        """
        Return how many polls a wait costs at most, including the first one, which is made at once, and the last one.

        Args:
            seconds: How long the run takes; None for the complete ``timeout``.
        """
        end = self.timeout if seconds is None else min(max(seconds, 0.0), self.timeout)
        passed, requested = 0.0, 1
        while passed < end and requested <= self._steps:
            passed += self.pause(requested)
            requested += 1
        # A remainder that is too short to be divided is one more poll.
        return requested + max(int(passed < end), math.ceil((end - passed) / self.max_interval))

    @property
    def _steps(self) -> int:
        """The number of intervals that are shorter than the longest."""
        return max(0, math.ceil(math.log(self.max_interval / self.every) / math.log(_WIDENING)))


Durability = Literal["group", "each", "off"]


@attrs.frozen(kw_only=True)
class TransferOptions:
    """
    How files are downloaded.

    Peak memory is at most about ``workers * chunk_size * 2`` plus 60 MB, whatever the size or number of the files; with
    ``max_workers``, that number counts. Beyond the eighth open body each uses a quarter of that.

    Args:
        workers: Open bodies, at most, 1 to 256.
        max_workers: Open bodies, at most, if their number adapts, ``workers`` to 256: it starts at ``workers``, grows
            while more of them increase the throughput, and shrinks when the service rejects requests or stalls. None:
            it does not adapt.
        chunk_size: Bytes that are buffered before they are written to disk, 64 KiB to 64 MiB; beyond the eighth open
            body a quarter of it, but at least 256 KiB.
        attempts: How often the content of one file is requested without any progress before it counts as failed.
        durability: When data is fsynced: ``"group"`` (many files at a time, before any of them has its final name),
            ``"each"`` (one by one), ``"off"`` (never: recent files may be lost in a power failure).
        digest: Which digest is stored in the ledger: ``"sha256"`` or None for none.
        layout: A template of identifying fields for the path below the directory, for instance
            ``"{study}/{subject}/{data_set}.csv.gz"``; None for the documented layout of each service.
        max_file_size: Bytes of a single file, at most; None for no limit.
        max_rate: Bytes a second of all files together, at least 1 KiB; None for no limit.
    """

    workers: int = attrs.field(default=8, validator=_number(1, whole=True))
    max_workers: int | None = attrs.field(default=None, validator=attrs.validators.optional(_number(1, whole=True)))
    chunk_size: int = attrs.field(default=MIB, validator=_number(64 * KIB, whole=True))
    attempts: int = attrs.field(default=5, validator=_number(1, whole=True))
    durability: Durability = attrs.field(default="group", validator=_one_of("group", "each", "off"))
    digest: Literal["sha256"] | None = attrs.field(default="sha256", validator=_one_of("sha256", None))
    layout: str | None = None
    max_file_size: int | None = attrs.field(default=None, validator=attrs.validators.optional(_number(0, whole=True)))
    max_rate: float | None = attrs.field(default=None, validator=attrs.validators.optional(_number(KIB)))

    def __attrs_post_init__(self) -> None:
        """Raise if a size would break the limit of memory."""
        for name, maximum in (("workers", 256), ("max_workers", 256), ("chunk_size", 64 * MIB)):
            if (getattr(self, name) or 0) > maximum:
                raise ConfigurationError(f"TransferOptions.{name} is {getattr(self, name)}; at most {maximum}.")
        if self.max_workers is not None and self.max_workers < self.workers:
            raise ConfigurationError(
                f"TransferOptions.max_workers is {self.max_workers} and less than workers, {self.workers}; their"
                " number starts there and only grows. Increase the one or decrease the other."
            )

    @property
    def widest(self) -> int:
        """Open bodies, at most."""
        return self.max_workers or self.workers


def shield() -> AbstractContextManager[object]:
    """Return a shield from a cancelled scope of anyio, which would cancel every wait again."""
    anyio = sys.modules.get("anyio")  # Its scopes exist only in a program that imports it.
    return nullcontext() if anyio is None else anyio.CancelScope(shield=True)
