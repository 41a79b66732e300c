"""
The circuit breaker of one host: whether a request may be sent to it now, by what came of the requests before. Pure.

::

    healthy ──three failures in a row, or a 429, or a Retry-After──▶ paused ──the time has passed──▶ one request tries
       ▲                                                               ▲                                    │
       └── enough of them succeeded ── one more may be out for each ◀──┼──────────── it succeeded ◀─────────┤
                                              that succeeded           └──────────── it failed ◀────────────┘
"""

from __future__ import annotations

import math
from collections.abc import Callable

import attrs

from arena_async.options import RetryPolicy
from arena_async.protocol.retry import backoff

__all__ = ["FAILURES", "Breaker", "HostPause"]

#: Failures in a row that pause a host.
FAILURES = 3
#: Requests that may be out once so many have succeeded since the pause: the host is healthy again.
_HEALTHY = 64
#: Seconds to wait for the judgement of a response that may be a page again.
_JUDGE_SECONDS = 1.0
#: Seconds of a pause at least, once a policy without waits has used up its attempts.
_LEAST = 0.1


@attrs.frozen
class HostPause:
    """
    A request must not be sent now.

    Args:
        seconds: Try again after so many seconds, or None: when the request that tries has ended.
        lasting: Whether the host has been away for longer than anybody waits for it.
        why: How the last request failed, in a few words.
    """

    seconds: float | None
    lasting: bool
    why: str


@attrs.define(eq=False)
class Breaker:
    """
    The state of one host that has failed.

    Args:
        policy: Pauses between two tries, and how long an outage is waited for.
        random: Returns a random number from 0 up to 1.

    Attributes:
        healthy: Whether there is nothing left to remember.
        limited: Whether the host is paused, or only some requests may be out: each that may be sent takes a place,
            which :meth:`fail`, :meth:`succeed` or :meth:`leave` with ``placed`` return.
    """

    policy: RetryPolicy
    random: Callable[[], float]
    healthy: bool = attrs.field(init=False, default=False)
    limited: bool = attrs.field(init=False, default=False)
    _row: int = attrs.field(init=False, default=0)
    _pages: int = attrs.field(init=False, default=0)
    _number: int = attrs.field(init=False, default=0)
    _since: float = attrs.field(init=False, default=math.inf)
    _until: float = attrs.field(init=False, default=-math.inf)
    #: Requests that may be out; 0 while it is paused, 1 while one tries.
    _width: int = attrs.field(init=False, default=0)
    _out: int = attrs.field(init=False, default=0)
    _why: str = attrs.field(init=False, default="")

    def enter(self, now: float) -> HostPause | None:
        """Return None if a request may be sent now; it has taken a place if the host is ``limited``."""
        if not self.limited:
            return None
        if now < self._until:
            return HostPause(self._until - now, self._until - self._since > self.policy.timeout, self._why)
        if self._out >= max(self._width, 1):
            return HostPause(None, lasting=False, why=self._why)
        if not self._width:
            self._width = 1
            if now - self._since > self.policy.timeout:
                self._since = now  # A request that comes now waits anew.
        self._out += 1
        return None

    def leave(self) -> None:
        """Return the place of a request that says nothing about the host: it was not sent, or was cancelled."""
        self._out -= 1

    def fail(
        self, now: float, why: str, *, placed: bool = False, wait: float | None = None, at_once: bool = False
    ) -> None:
        """
        Note a request that failed because of the host.

        Args:
            now: The time.
            why: How, in a few words.
            placed: Whether it had taken a place.
            wait: Seconds that the host wants it to wait, or None.
            at_once: Whether one failure is enough, as for a 429; so it is with ``wait``.
        """
        self._out -= placed
        self._row += 1
        self._why = why
        self._since = now if self._since == math.inf else self._since
        if self.limited and (not self._width or not (placed or at_once)):
            # It was sent before the pause: nothing new, unless it states more time.
            self._until = max(self._until, now + (wait or 0.0))
        elif at_once or wait is not None or self._row >= FAILURES or self._width == 1:
            self._pause(now, wait or 0.0)

    def succeed(self, now: float, *, placed: bool = False) -> None:
        """Note a response that shows the host at work; while pages come for content, that is not known yet."""
        self._out -= placed
        if self._pages:
            if placed and self._width == 1:
                self._until = max(self._until, now + _JUDGE_SECONDS)
        elif placed or not self.limited:
            self._recover()

    def judge(self, now: float, *, content: bool) -> None:
        """Note that the body of a response was what was requested, or that a page came in the place of content."""
        if content:
            self._pages = 0
            if self._width == 1 or not self.limited:
                self._until = -math.inf
                self._recover()
        else:
            self._pages += 1
            self.fail(now, "a page came in the place of content", at_once=self._width == 1 or self._pages >= FAILURES)

    def _recover(self) -> None:
        """Let one more request out, or all of them."""
        if self.limited and not self._width:
            return
        self._row, self._number, self._since = 0, 0, math.inf
        self._width += self.limited
        self.healthy = not self.limited or self._width > _HEALTHY

    def _pause(self, now: float, wait: float) -> None:
        """Let nobody send for a while: longer each time that the one that tried has failed."""
        self._number = self._number + 1 if self._number else min(max(self._row, self._pages), FAILURES)
        least = _LEAST if self._number > self.policy.attempts else 0.0
        self.limited, self._width = True, 0
        self._until = now + max(backoff(self.policy, self._number, self.random), wait, least)
