"""
One login shared by all tasks: however many need a credential, one request gets it.

The credential of a rejected request is known, so that of fifty requests that fail with the same session one renews it
and the others use the newer one::

    none ──held()──▶ logging in ──▶ current ──rejected()──▶ logging in ──▶ a newer one
                        │                                                     │
                        └─ error: raised to all callers, and no login is      └─ rejected without being accepted:
                           sent for a while                                      raised

If several processes of one user share a store (:mod:`arena_async.http.credential_store`), the store is read first: the
credential of another process is used, and if several processes need one at the same time, only one logs in.
"""

from __future__ import annotations

import asyncio
import copy
import hashlib
import logging
import math
from collections import deque
from datetime import timedelta
from typing import TYPE_CHECKING

import attrs

from arena_async.errors import (
    AccountLockedError,
    ApiError,
    ArenaAsyncError,
    AuthenticationError,
    ClosedError,
    ConfigurationError,
    DeadlineError,
    DecodeError,
    SessionDisplacedError,
    StorageError,
    TransportError,
    UnsafeUrlError,
)
from arena_async.http.connections import SentHeaders, SentRequest
from arena_async.http.exchange import Exchange, send_with_retries
from arena_async.options import RetryPolicy, shield
from arena_async.protocol.adapter import Auth, Credential
from arena_async.protocol.quota import Hold, Quota, Reservation

if TYPE_CHECKING:
    from arena_async.http.credential_store import CredentialStore

__all__ = ["MAX_RELOGINS", "RELOGIN_SECONDS", "Authentication", "CachedSession", "SharedLogin", "check_credential"]

_LOG = logging.getLogger("arena_async")

#: Seconds in which a rejected login is not retried. Arena locks an account for five minutes (its code 4083).
_COOL_DOWN = 300.0
#: Seconds after which a credential that was never accepted may be replaced by another login after all.
_GRACE_SECONDS = 60.0
#: Logins after a rejection within so many seconds, at most: more means that two programs end each other's session.
MAX_RELOGINS, RELOGIN_SECONDS = 2, 300.0
#: Seconds between two notes in a store that a credential is in use.
_NOTED_EVERY = 600.0
#: Seconds before its expiry at which a credential is renewed, at most.
_LIFE_MARGIN, _IDLE_MARGIN = 60.0, 120.0
#: Bytes of one credential header, at most. Servers reject longer ones; session ids and tokens are far shorter.
_MAX_VALUE = 8192
#: Logins for one credential, including one after a broken connection.
_LOGIN_ATTEMPTS = 2
#: Timeout of a logout, in seconds.
_LOGOUT_SECONDS = 5.0


@attrs.define(eq=False)
class CachedSession:
    """
    A credential and its use.

    Args:
        credential: The credential.
        since: Monotonic seconds at which its login began.
        touched: Monotonic seconds at which it was last sent.
        ours: Whether it came from a login, so that the last one who uses it logs out: a given one stays.
        renewed: Whether it replaced a rejected one.
        accepted: Whether the service accepted it for any request.
        refused: Whether the service rejected it, so that it is not sent any more.

    Attributes:
        headers: The headers that carry it, as they are sent.
    """

    credential: Credential
    since: float
    touched: float
    ours: bool = True
    renewed: bool = False
    accepted: bool = False
    refused: bool = False
    headers: SentHeaders = attrs.field(init=False)

    @headers.default
    def _reveal(self) -> SentHeaders:
        return SentHeaders((name, value.reveal()) for name, value in self.credential.headers)


@attrs.frozen(kw_only=True)
class Authentication:
    """
    How a session gets its credentials.

    Args:
        auth: How to log in.
        given: An initial credential; it is never logged out.
        renewable: Whether ``auth`` can log in when the given credential has expired.
        store: The store in which several processes share a credential, or None. It says which one logs out.
    """

    auth: Auth
    given: Credential | None = None
    renewable: bool = True
    store: CredentialStore | None = None

    @property
    def account(self) -> str:
        """Whose login it is; for a given session whose user is not known, a digest that only this session has."""
        account: str = getattr(self.auth, "account", "")
        if account or self.given is None:
            return account
        values = "\n".join(str(value.reveal()) for _, value in self.given.headers)
        return hashlib.sha256(values.encode("utf-8", "surrogatepass")).hexdigest()


class SharedLogin:
    """
    The credential of one scope.

    The login runs in a task of this object, so that a cancelled caller does not affect the others. :meth:`finish` and
    :meth:`abandon` end it.

    Args:
        exchange: Sends the requests.
        authentication: How to log in.
        scope: The scope.
        retry: The limits of retries of a login.
    """

    def __init__(self, exchange: Exchange, authentication: Authentication, scope: str, retry: RetryPolicy) -> None:
        self._exchange = exchange
        self._auth = authentication.auth
        self._store = authentication.store
        self._given = given = authentication.given
        self._renewable = authentication.renewable
        self._scope = scope
        self._retry = retry
        clock = exchange.clock
        self._clock, self._now, self._sleep = clock.monotonic, clock.now, clock.sleep
        self._line = self._auth.login(scope).line
        self._current: CachedSession | None = None
        if given is not None:
            self._current = CachedSession(given, since=self._clock(), touched=self._clock(), ours=False)
        self._given_up: Credential | None = None
        self._noted_at = self._clock()
        #: Why the previous credential was rejected, until there is another one.
        self._rejection: ApiError | None = None
        self._relogins: deque[float] = deque(maxlen=MAX_RELOGINS)
        self._refusal: tuple[Exception, float] | None = None
        self._task: asyncio.Task[None] | None = None
        self._outcome: asyncio.Future[CachedSession | Exception] | None = None
        self._closed = False

    async def held(self) -> CachedSession:
        """
        Return a credential that is not known to be invalid, logging in if there is none.

        Raises:
            ApiError: The login was rejected, now or a short while ago.
            DecodeError: The response to the login is not what the service documents.
            TransportError: The login could not be sent.
            ClosedError: The session was closed meanwhile.
        """
        if self._closed:
            raise self._closed_error()
        current = self._current
        if current is not None and not self._is_over(current):
            if self._store is not None:
                await self._note_use(self._store, current)
            return current
        self._refuse_for_a_while()
        outcome = self._outcome or self._begin()
        found = await asyncio.shield(outcome)
        if isinstance(found, Exception):
            # A copy for each caller: one object raised in many tasks would collect the tracebacks of all of them.
            raise copy.copy(found)
        return found

    def rejected(self, held: CachedSession, error: ApiError) -> ApiError | None:
        """
        Note that a request with this credential was rejected.

        Returns:
            None if a retry with the next result of :meth:`held` may help, else the error to raise.
        """
        if held is not self._current:
            return None
        self._current, held.refused = None, True
        if held.renewed and not held.accepted and self._clock() - held.since < _GRACE_SECONDS:
            # Nor is it sent for those that wait meanwhile.
            self._refusal = (error, held.since + _GRACE_SECONDS)
            self._rejection, self._given_up = error, held.credential
            return error
        if held.credential is self._given and not self._renewable:
            final = AuthenticationError(
                f"{error.request or self._line}: the given session is not accepted (any more), and there are no"
                " credentials to log in with. Pass a new one, or credentials.",
                status=error.status,
                code=error.code,
                request=error.request,
            )
            self._refusal = (final, math.inf)
            return final
        _LOG.info("%s: the credential was rejected; a newer one is needed", self._line)
        self._rejection, self._given_up = error, held.credential
        return None

    async def finish(self) -> None:
        """
        End all waits, wait for a running login, and log out.

        The caller limits its time, and calls :meth:`abandon` in any case.
        """
        self._closed = True
        if self._outcome is not None and not self._outcome.done():
            self._outcome.set_result(self._closed_error())
        if self._task is not None and not self._task.done():
            await asyncio.wait([self._task])
        held, self._current = self._current, None
        if self._store is not None:
            held = await self._leave(self._store)
        if held is not None and held.ours and not self._is_over(held):
            await _log_out(self._exchange, self._auth, held)

    def abandon(self) -> asyncio.Task[None] | None:
        """Cancel a running login, and return its task, which the caller awaits."""
        self._closed = True
        if self._outcome is not None and not self._outcome.done():
            self._outcome.set_result(self._closed_error())
        if self._task is None or self._task.done():
            return None
        self._task.cancel()
        return self._task

    def _begin(self) -> asyncio.Future[CachedSession | Exception]:
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[CachedSession | Exception] = loop.create_future()
        self._outcome = outcome
        self._task = loop.create_task(self._run(outcome), name="arena_async login")
        return outcome

    async def _run(self, outcome: asyncio.Future[CachedSession | Exception]) -> None:
        """Get a credential and set the outcome for all callers; an error is a value here, so that none is lost."""
        found: CachedSession | Exception = self._closed_error()
        try:
            found = await (self._log_in_alone() if self._store is None else self._find_or_log_in(self._store))
            self._current, self._refusal, self._rejection = found, None, None
        except Exception as error:  # noqa: BLE001  # It is raised to the callers.
            found = error
            self._remember(error)
        finally:
            self._outcome = None
            if not outcome.done():
                outcome.set_result(found)

    async def _log_in_alone(self, *, relogins: int = 0) -> CachedSession:
        """Log in, unless the session was renewed too often already."""
        began, is_relogin = self._clock(), self._rejection is not None
        if is_relogin:
            self._check_peace(relogins)
            self._relogins.append(began)
        credential = await _log_in(self._exchange, self._auth, self._scope, self._retry)
        return CachedSession(credential, since=began, touched=self._clock(), renewed=is_relogin)

    async def _find_or_log_in(self, store: CredentialStore) -> CachedSession:
        """Return the credential of another process, wait for a login of another process, or log in for all."""
        from arena_async.http.credential_store import LoginPending, LoginTurn, SharedCredential  # noqa: PLC0415

        while not self._closed:
            match await store.take(rejected=self._given_up):
                case SharedCredential(credential=credential, age=age, rest=rest):
                    now = self._clock()
                    return CachedSession(credential, since=now - age, touched=now - rest)
                case LoginTurn(relogins=relogins):
                    return await self._log_in_for_all(store, relogins)
                case LoginPending(seconds=seconds):
                    await self._sleep(seconds)
        raise self._closed_error()

    async def _log_in_for_all(self, store: CredentialStore, relogins: int) -> CachedSession:
        """Log in, and store the result for the other processes, errors included."""
        try:
            held = await self._log_in_alone(relogins=relogins)
            await store.put(held.credential, relogin=held.renewed)
        except Exception as error:
            await store.give_up(error if self._is_lasting(error) else None)
            raise
        except BaseException:
            with shield():
                await store.give_up(None)
            raise
        self._noted_at = self._clock()
        return held

    def _check_peace(self, relogins: int) -> None:
        """
        Stop logging in again when another client keeps ending the session.

        Raises:
            SessionDisplacedError: It was renewed too often, by this process or by all that share the store.
        """
        oldest = self._relogins[0] if len(self._relogins) == MAX_RELOGINS else -math.inf
        if relogins < MAX_RELOGINS and self._clock() - oldest >= RELOGIN_SECONDS:
            return
        error = self._rejection or ApiError()
        raise SessionDisplacedError(
            f"{error.request or self._line}: the session was rejected again, after {MAX_RELOGINS} new logins within"
            f" {RELOGIN_SECONDS / 60:g} minutes. Another login of the same user ends it each time, and ours would end"
            " that one's: use one user per integration, or let all programs of the user share one session.",
            status=error.status,
            code=error.code,
            request=error.request,
            stale_login=True,
        )

    async def _note_use(self, store: CredentialStore, held: CachedSession) -> None:
        """Note in the store from time to time that the credential is in use; a failure is only logged."""
        now = self._clock()
        if now - self._noted_at < _NOTED_EVERY:
            return
        self._noted_at = now
        try:
            await store.note_use(held.credential)
        except StorageError as error:
            _LOG.warning("%s The session is used all the same.", error)

    async def _leave(self, store: CredentialStore) -> CachedSession | None:
        """Leave the store, and return what no other process uses."""
        try:
            credential = await store.leave(rejected=self._given_up)
        except (StorageError, ConfigurationError) as error:
            _LOG.info("%s The session expires later.", error)
            return None
        now = self._clock()
        return None if credential is None else CachedSession(credential, since=now, touched=now)

    def _is_over(self, held: CachedSession) -> bool:
        """Return whether a credential has expired, or may expire before a request with it is received."""
        now = self._clock()
        life, idle = held.credential.lifetime, held.credential.idle_lifetime
        if life is not None and now - held.since >= life - min(_LIFE_MARGIN, life / 10):
            return True
        return idle is not None and now - held.touched >= idle - min(_IDLE_MARGIN, idle / 10)

    def _remember(self, error: Exception) -> None:
        """Keep a rejection, so that a wrong password is sent once and not until the account is locked."""
        if not self._is_lasting(error):
            return
        seconds = RELOGIN_SECONDS if isinstance(error, SessionDisplacedError) else _COOL_DOWN
        if isinstance(error, AccountLockedError):
            error.retry_at = error.retry_at or self._now() + timedelta(seconds=_COOL_DOWN)
            seconds = max((error.retry_at - self._now()).total_seconds(), 0.0)
        self._refusal = (error, self._clock() + seconds)

    @staticmethod
    def _is_lasting(error: Exception) -> bool:
        """Return whether the same login would be rejected again."""
        if isinstance(error, ApiError):
            return not error.transient or isinstance(error, AccountLockedError)
        return isinstance(error, DecodeError | UnsafeUrlError)

    def _refuse_for_a_while(self) -> None:
        """Raise the kept rejection while a rejected login must not be repeated."""
        if self._refusal is None:
            return
        error, until = self._refusal
        if self._clock() < until:
            raise copy.copy(error)
        self._refusal = None

    def _closed_error(self) -> ArenaAsyncError:
        return ClosedError(f"{self._line}: the client was closed meanwhile; make a new one.")


def check_credential(credential: Credential, *, request: str) -> Credential:
    """
    Return the credential if its values can be sent unchanged.

    Raises:
        DecodeError: A value is empty or too long, or has characters that cannot be sent in a header.
    """
    for name, secret in credential.headers:
        value = secret.reveal()
        if not value or not value.isascii() or not value.isprintable() or len(value) > _MAX_VALUE:
            raise DecodeError(
                f"{request}: the value for the header {name} in the response is empty, too long, or has characters that"
                " cannot be sent. Nothing was sent with it.",
                problems=[f"{name}: not a header value"],
                request=request,
            )
    return credential


async def _log_in(exchange: Exchange, auth: Auth, scope: str, retry: RetryPolicy) -> Credential:
    """Log in, once more after a broken connection, never again after an error response."""
    request = auth.login(scope)
    target = exchange.login_target(request)
    broken = 0

    async def once(sent: SentRequest, seconds: float) -> Credential:
        nonlocal broken
        try:
            response = await exchange.finish(await exchange.open(sent, target, seconds=seconds), sent)
        except (TransportError, DeadlineError):
            # The service may have created a session that no client knows: retry only once.
            broken += sent.sent
            sent.final = broken >= _LOGIN_ATTEMPTS
            raise
        if 300 <= response.status < 400:
            raise exchange.error_for(sent, response, exchange.adapter.read_error, None)
        try:
            credential = auth.read_login(response)
        except ApiError as error:
            exchange.note_error(error, response, sent)
            raise
        if credential.request_limit is not None:
            exchange.admission.limiter.observe(Quota(limit=credential.request_limit), exchange.admission.timestamp())
        return check_credential(credential, request=request.line)

    return await send_with_retries(exchange, attrs.evolve(request, metered=False), once, retry, repeatable=True)


async def _log_out(exchange: Exchange, auth: Auth, held: CachedSession) -> None:
    """
    End a session of the service, without retries: the credential is discarded in any case.

    If a logout is metered, it is not sent when that needs a request of the reserve or a wait.
    """
    request = auth.logout(held.credential)
    if request is None:
        return
    sent = SentRequest(request, metered=request.metered, held=held, urgent=True)
    try:
        if request.metered:
            decision = exchange.admission.limiter.reserve(exchange.admission.timestamp())
            if isinstance(decision, Hold) and decision.waiting:
                return
            sent.reservation = decision if isinstance(decision, Reservation) else None
        await exchange.finish(await exchange.open(sent, exchange.target(request), seconds=_LOGOUT_SECONDS), sent)
    except ArenaAsyncError as error:
        _LOG.info("%s The session expires later.", error)
    finally:
        exchange.admission.settle(sent)
