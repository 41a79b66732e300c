"""
One login for everybody: however many tasks need a credential, one request fetches it.

A credential has a generation. A refusal says which generation was refused, so that of fifty requests that die with the
same session one renews it and the others take what is there::

    none ──held()──▶ logging in ──▶ generation n ──rejected(n)──▶ logging in ──▶ generation n + 1
                        │                 ▲                                        │
                        └─ refused: everybody gets the error, nobody logs in       └─ rejected again, never accepted:
                           again before a while has passed                            that is the answer
"""

from __future__ import annotations

import asyncio
import copy
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

import attrs

from arena_async.errors import (
    AccountLockedError,
    ApiError,
    ArenaAsyncError,
    ClosedError,
    DecodeError,
    SessionDisplacedError,
    UnsafeUrlError,
)
from arena_async.wire.contracts import Credential

__all__ = ["Held", "SharedLogin", "check_credential"]

_LOG = logging.getLogger("arena_async")

#: Bytes of one credential header. Servers refuse longer ones, and no session id or token comes near it.
_LONGEST_VALUE = 8192
#: Seconds in which a refused login is not tried again. Arena locks an account for five minutes (its code 4083).
_COOL_DOWN = 300.0
#: Seconds after which a credential that was never accepted may be replaced by another login after all.
_PATIENCE = 60.0
#: So many logins in so many seconds because a credential was rejected: more than that is two programs at war.
_MOST_RENEWALS, _RENEWAL_SECONDS = 5, 300.0
#: Seconds before its end at which a credential is renewed, at the most.
_LIFE_MARGIN, _IDLE_MARGIN = 60.0, 120.0


@attrs.define(eq=False)
class Held:
    """
    A credential and what became of it.

    Args:
        credential: The credential.
        generation: Its number, counted from 1.
        since: Ticks at which its login began.
        touched: Ticks at which it was last sent.
        renewed: Whether it replaced one that was rejected.
        accepted: Whether any request with it was answered by something else than a rejection.
        stale: Whether it was rejected and given up.
    """

    credential: Credential
    generation: int
    since: float
    touched: float
    renewed: bool = False
    accepted: bool = False
    stale: bool = False


def check_credential(credential: Credential, *, request: str) -> Credential:
    """
    Give the credential back if its values can be sent as they are.

    Raises:
        DecodeError: A value is empty or too long, or has characters that do not survive being sent in a header, so
            that something else or nothing at all would arrive.
    """
    for name, secret in credential.headers:
        value = secret.reveal()
        if not value or not value.isascii() or not value.isprintable() or len(value) > _LONGEST_VALUE:
            raise DecodeError(
                f"{request}: the value for the header {name} in the answer is empty, too long, or has characters that"
                " cannot be sent. Nothing was sent with it.",
                problems=[f"{name}: not a header value"],
                request=request,
            )
    return credential


class SharedLogin:
    """
    The credential of one scope.

    The login runs in a task of this object and not of the first caller, so that a caller who gives up takes nothing
    away from the others. :meth:`finish` and :meth:`abandon` end it.

    Args:
        log_in: Logs in once and gives the credential.
        log_out: Ends the session of a credential.
        clock: Seconds that never jump: lifetimes survive a change of the date.
        now: The date and time (aware), for instants that the service gives.
        line: What is said of the login in messages.
    """

    def __init__(
        self,
        log_in: Callable[[], Awaitable[Credential]],
        log_out: Callable[[Credential], Awaitable[None]],
        *,
        clock: Callable[[], float],
        now: Callable[[], datetime],
        line: str,
    ) -> None:
        self._log_in = log_in
        self._log_out = log_out
        self._clock = clock
        self._now = now
        self._line = line
        self._current: Held | None = None
        self._generation = 0
        self._rejected = False
        self._renewals: deque[float] = deque(maxlen=_MOST_RENEWALS)
        self._refusal: tuple[Exception, float] | None = None
        self._task: asyncio.Task[None] | None = None
        self._outcome: asyncio.Future[Held | Exception] | None = None
        self._closed = False

    async def held(self) -> Held:
        """
        Give a credential that is good as far as is known here, logging in where there is none.

        Raises:
            ApiError: The login was refused, now or a short while ago.
            DecodeError: The answer to the login is not what the service documents.
            TransportError: The login could not be sent.
            ClosedError: The session was closed meanwhile.
        """
        if self._closed:
            raise self._closed_error()
        if self._current is not None and not self._is_over(self._current):
            return self._current
        self._refuse_for_a_while()
        outcome = self._outcome or self._begin()
        found = await asyncio.shield(outcome)
        if isinstance(found, Exception):
            # Everybody gets a copy: one object raised in many tasks would collect the tracebacks of all of them.
            raise copy.copy(found)
        return found

    def touch(self, held: Held) -> None:
        """Note that a request with this credential was sent: an idle limit starts anew."""
        held.touched = self._clock()

    def rejected(self, held: Held, error: ApiError) -> ApiError | None:
        """
        Note that a request with this credential was rejected.

        Returns:
            None if trying again with whatever :meth:`held` gives then may help, else what to raise.
        """
        if held is not self._current:
            return None
        now = self._clock()
        if held.renewed and not held.accepted and now - held.since < _PATIENCE:
            return error
        if len(self._renewals) == _MOST_RENEWALS and now - self._renewals[0] < _RENEWAL_SECONDS:
            return SessionDisplacedError(
                f"{error.request or self._line}: the session was rejected again, after {_MOST_RENEWALS} new logins"
                f" within {_RENEWAL_SECONDS / 60:g} minutes. Another login of the same user seems to end it each time;"
                " use one user per integration.",
                status=error.status,
                code=error.code,
                request=error.request,
                stale_login=True,
            )
        _LOG.info("%s: the credential was rejected; a new login follows", self._line)
        self._renewals.append(now)
        self._current = None
        self._rejected = held.stale = True
        return None

    async def finish(self) -> None:
        """
        Let nobody wait any longer, let a login that is under way arrive, and log out.

        It may take as long as the network does: the caller bounds it, and calls :meth:`abandon` in any case.
        """
        self._closed = True
        if self._outcome is not None and not self._outcome.done():
            self._outcome.set_result(self._closed_error())
        if self._task is not None and not self._task.done():
            await asyncio.wait([self._task])
        held, self._current = self._current, None
        if held is not None and not self._is_over(held):
            await self._log_out(held.credential)

    def abandon(self) -> asyncio.Task[None] | None:
        """End a login that still runs; what is given is to be waited for."""
        self._closed = True
        if self._outcome is not None and not self._outcome.done():
            self._outcome.set_result(self._closed_error())
        if self._task is None or self._task.done():
            return None
        self._task.cancel()
        return self._task

    def _begin(self) -> asyncio.Future[Held | Exception]:
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[Held | Exception] = loop.create_future()
        self._outcome = outcome
        self._task = loop.create_task(self._run(outcome), name="arena_async login")
        return outcome

    async def _run(self, outcome: asyncio.Future[Held | Exception]) -> None:
        """Log in once and hand the outcome to everybody who waits; an error is a value here, so that none is lost."""
        found: Held | Exception = self._closed_error()
        began = self._clock()
        try:
            credential = await self._log_in()
            self._generation += 1
            found = Held(credential, self._generation, since=began, touched=self._clock(), renewed=self._rejected)
            self._current, self._refusal, self._rejected = found, None, False
        except Exception as error:  # noqa: BLE001  # Whatever it is, it belongs to those who wait.
            found = error
            self._remember(error)
        finally:
            self._outcome = None
            if not outcome.done():
                outcome.set_result(found)

    def _is_over(self, held: Held) -> bool:
        """Whether a credential has reached its end, or is so close to it that it may end on the way."""
        now = self._clock()
        life, idle = held.credential.lifetime, held.credential.idle_lifetime
        if life is not None and now - held.since >= life - min(_LIFE_MARGIN, life / 10):
            return True
        return idle is not None and now - held.touched >= idle - min(_IDLE_MARGIN, idle / 10)

    def _remember(self, error: Exception) -> None:
        """Keep a refusal, so that a wrong password is sent once and not until the account is locked."""
        locked = isinstance(error, AccountLockedError)
        if not isinstance(error, ApiError | DecodeError | UnsafeUrlError) or (
            isinstance(error, ApiError) and error.transient and not locked
        ):
            return
        seconds = _COOL_DOWN
        if isinstance(error, AccountLockedError):
            error.retry_at = error.retry_at or self._now() + timedelta(seconds=_COOL_DOWN)
            seconds = max((error.retry_at - self._now()).total_seconds(), 0.0)
        self._refusal = (error, self._clock() + seconds)

    def _refuse_for_a_while(self) -> None:
        """Answer from memory while a refused login must not be repeated."""
        if self._refusal is None:
            return
        error, until = self._refusal
        if self._clock() < until:
            raise copy.copy(error)
        self._refusal = None

    def _closed_error(self) -> ArenaAsyncError:
        return ClosedError(f"{self._line}: the client was closed meanwhile; make a new one.")
