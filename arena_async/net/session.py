"""
The one place that sends requests to a service.

::

    send ──▶ reserve quota ──▶ credential ──▶ call ──▶ judge ──┬─▶ Response
               ▲                                               ├─▶ again after a while, or with a newer credential
               └───────────────────────────────────────────────┘  └─▶ raise the typed error
    stream ──▶ the same once: no loop here, ``transfer.fetching`` has the one for bodies

Credentials go to the origin of the API only; redirects are followed by hand and only for bodies. The HTTP client keeps
no cookies, reads nothing from the environment and sends nothing a second time on its own.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import json
import logging
import os
import random as _random
import ssl as _ssl
import time
import warnings
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from datetime import UTC, datetime, timedelta
from importlib import metadata
from typing import Any, TypeVar
from urllib.parse import quote, urlencode, urljoin

import aiohttp
import anyio
import attrs

from arena_async.errors import (
    ApiError,
    ArenaAsyncError,
    ClosedError,
    ConfigurationError,
    DeadlineError,
    DecodeError,
    QuotaExhaustedError,
    ThrottledError,
    TlsError,
    TransportError,
    UnsafeUrlError,
)
from arena_async.net.bodies import Form, open_body
from arena_async.net.connections import LARGEST_REFUSAL, Connections, Outgoing, SentHeaders, Trial, without_user
from arena_async.net.login import Held, SharedLogin, check_credential
from arena_async.net.sharing import CredentialStore
from arena_async.options import MIB, RetryPolicy, Timeouts
from arena_async.wire.contracts import Auth, BodyHead, Credential, Dialect, OpenedFile
from arena_async.wire.messages import Headers, Request, Response, show_url
from arena_async.wire.quota import Gate, Hold, Moment, Quota, Ticket
from arena_async.wire.ranges import read_content_range, strong_etag
from arena_async.wire.retrying import AgainAfter, Attempt, LogInAgain, judge, read_http_date, read_retry_after
from arena_async.wire.urls import UrlPolicy, host_of, origin

__all__ = ["TOO_LARGE", "Session"]

_LOG = logging.getLogger("arena_async")

#: The problem that a :class:`DecodeError` names where an answer was not read to its end.
TOO_LARGE = "too large"
#: Bytes of a page, counted after decoding; a larger one is refused.
_LARGEST_PAGE = 16 * MIB
#: Redirects of one body, at the most.
_MOST_HOPS = 5
#: Replays of one request with newer credentials, at the most.
_MOST_REPLAYS = 3
#: Logins for one credential, the repeated one after a broken connection included.
_LOGIN_ATTEMPTS = 2
#: Seconds that closing may take for the sake of the service.
_CLOSING_SECONDS = 5.0
#: Seconds of one nap while the allowance is used up: a machine that slept, or a clock that was set, is noticed then.
_LONGEST_NAP = 600.0
_REDIRECTS = (301, 302, 303, 307, 308)
_CONTENT = (200, 206, 412, 416)

T = TypeVar("T")

_ReadError = Callable[[Request, Response], Exception]


class _Parking:
    """
    Whether a request that was refused for the used-up allowance stays until the next one.

    It goes back to the gate, which holds it back. One that is refused again without having been held back in between is
    given up: the service contradicts itself, and asking on would only spend.
    """

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._refused = False

    def goes_on(self, error: ArenaAsyncError, trial: Trial) -> bool:
        """Say whether the request is sent again when there is an allowance."""
        if not (isinstance(error, QuotaExhaustedError) and self._gate.waits and trial.metered and trial.sent):
            return False
        before, self._refused = self._refused, True
        return not before or trial.parked


class Session:
    """
    Sends the requests of one client: books quota, attaches the credential, calls, judges, tries again.

    It belongs to the event loop of its first request and to the process that made it. Connections are opened with the
    first request and closed by :meth:`aclose`.

    Args:
        auth: How to log in.
        dialect: How pages, quota and refusals are spelt.
        gate: The allowance; every metered request is booked there first.
        base_url: The base of all relative paths, with its version.
        store: Where several processes of one user share their credential, or None.
        given: A credential to begin with; it is never logged out.
        renewable: Whether ``auth`` can log in when the given credential is over.
        headers: Headers of every request to the API.
        retry: How often and how patiently a request is tried again.
        timeouts: How long the network may keep us waiting.
        urls: Whom we may contact; None for the rules that follow from ``base_url``.
        ssl: Whom to trust, where that is not what the system trusts.
        proxy: The URL of a proxy. The environment is never asked for one.
        user_agent: What to say before our own name.
        connector: A connector of the caller, which is used and never closed.
        clock: Seconds that never jump.
        sleep: Waits for so many seconds.
        random: Draws from 0 up to 1.
        now: The date and time (aware).

    Raises:
        ConfigurationError: A setting is wrong; nothing was sent.
    """

    def __init__(
        self,
        auth: Auth,
        dialect: Dialect,
        gate: Gate,
        *,
        base_url: str,
        store: CredentialStore | None = None,
        given: Credential | None = None,
        renewable: bool = True,
        headers: Mapping[str, str] | None = None,
        retry: RetryPolicy | None = None,
        timeouts: Timeouts | None = None,
        urls: UrlPolicy | None = None,
        ssl: _ssl.SSLContext | None = None,
        proxy: str | None = None,
        user_agent: str | None = None,
        connector: aiohttp.BaseConnector | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        random: Callable[[], float] = _random.random,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._urls = urls or UrlPolicy.for_base(base_url)
        self.base_url = base_url.rstrip("/")
        self.dialect = dialect
        self._origin = origin(base_url)
        self._auth = auth
        self._gate = gate
        self._store, self._given, self._renewable = store, given, renewable
        self._retry = retry or RetryPolicy()
        self._timeouts = timeouts or Timeouts()
        self._headers = _checked(dict(headers or {}))
        self._user_agent = _checked({"User-Agent": _user_agent(user_agent)})
        self._clock, self._sleep, self._random, self._now = clock, sleep, random, now
        self._wire = Connections(
            timeouts=self._timeouts,
            urls=self._urls,
            own_hosts={host_of(base_url), *map(host_of, self._urls.origins)},
            ssl=_checked_context(ssl),
            proxy=_checked_proxy(proxy),
            connector=connector,
            on_sent=self._on_sent,
        )
        self._logins: dict[str, SharedLogin] = {}
        self._beside: set[asyncio.Task[Any]] = set()
        self._waiting: list[asyncio.Future[None]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = os.getpid()
        self._closed = False
        self._requests_sent = 0
        self._unmetered_sent = 0
        self._skew = timedelta()

    @property
    def quota(self) -> Quota | None:
        """What is known about the allowance, or None before anything was said about it."""
        return self._gate.quota

    @property
    def requests_sent(self) -> int:
        """Metered requests that left this session so far, repeated ones included."""
        return self._requests_sent

    @property
    def unmetered_sent(self) -> int:
        """Requests that left it and count against no allowance: logins, and those to other hosts than the API."""
        return self._unmetered_sent

    async def send(self, request: Request) -> Response:
        """
        Send a request, again where that may help, and give its answer.

        The body is decoded from any content encoding. A GET or HEAD is repeated after broken connections and temporary
        refusals; anything else only if nothing of it was sent or the service says that nothing was done.

        Raises:
            ApiError: The service refused, as one of its subclasses; :class:`QuotaExhaustedError` also before sending.
            TransportError: No usable answer came.
            TlsError: The certificate was refused.
            DeadlineError: A time limit ran out.
            DecodeError: The answer is larger than 16 MiB, or the answer to a login is not what is documented.
            UnsafeUrlError: The address must not be contacted, or the answer is a redirect.
            ClosedError: The session is closed, or used from another event loop or after a fork.
        """
        self._check_usable()

        async def once(trial: Trial, seconds: float) -> Response:
            url, ours = self._url(request)
            response = await self._call(request, url, trial, ours=ours, seconds=seconds)
            if response.status >= 300:
                raise self._refusal(request, response, trial, self.dialect.read_error)
            self._accepted(trial)
            return response

        return await self._persist(request, once, policy=self._retry, repeatable=request.repeatable)

    async def stream(
        self,
        request: Request,
        *,
        offset: int = 0,
        validator: str | None = None,
        until: int | None = None,
        read_error: _ReadError | None = None,
    ) -> OpenedFile:
        """
        Ask for a body once and give it as it comes. Nothing is tried again here.

        Redirects are followed, five at the most, without credentials to anybody but the API and without the headers of
        the request itself to another origin than its own. ``Range`` and ``If-Match`` are sent only for an offset above
        0 with a strong validator; the head says what the answer is.

        Args:
            request: The request; an absolute ``path`` is sent byte for byte.
            offset: The byte to begin at, counted from 0.
            validator: The ETag that the earlier bytes came with.
            until: The byte to end before, for a part in the middle; None for all that follows.
            read_error: Makes the error of a refusal, where the body lies with somebody else than the API.

        Raises:
            ApiError: The answer is none of 200, 206, 412 and 416. ``transient`` is set where a newer credential may
                help.
            TransportError: No usable answer came, as for :meth:`send` with its other errors.
            UnsafeUrlError: The address, or one it redirects to, must not be contacted.
        """
        self._check_usable()
        extra = {"Accept-Encoding": "identity"}
        if not any(name.lower() == "accept" for name, _ in request.headers):
            extra["Accept"] = "*/*"
        if offset > 0 and (etag := strong_etag(validator)) is not None:
            extra |= {"Range": f"bytes={offset}-{'' if until is None else until - 1}", "If-Match": etag}
        parking = _Parking(self._gate)
        failure: ArenaAsyncError
        while True:
            trial = Trial(request.line, metered=request.metered)
            try:
                return await self._follow(request, extra, trial, read_error or self.dialect.read_error)
            except ArenaAsyncError as error:
                failure = error
            if not parking.goes_on(failure, trial):
                # The frames in which it was raised hold whole URLs and credentials.
                raise failure.with_traceback(None)

    async def credential(self, scope: str = "") -> Credential:
        """
        Give the credential of a scope, logging in if there is none that is good.

        Raises:
            ApiError: The login was refused.
            DecodeError: The answer to it is not what the service documents.
            TransportError: It could not be sent, as for :meth:`send` with its other errors.
        """
        self._check_usable()
        return (await self._login(scope).held()).credential

    @property
    def clock(self) -> Callable[[], float]:
        """Seconds that never jump, as this session measures them."""
        return self._clock

    def now(self) -> datetime:
        """Give the date and time (aware) by the service's own clock as its last answer told it, else by ours."""
        return self._now() + self._skew

    def spawn(self, work: Callable[[], Coroutine[Any, Any, T]], *, name: str) -> asyncio.Task[T]:
        """
        Run ``work`` beside the caller, who may leave before it is done; :meth:`aclose` ends it.

        Whoever wants its result waits for the task; an error that nobody fetches is not reported.

        Raises:
            ClosedError: The session is closed, or used from another event loop or after a fork.
        """
        self._check_usable()
        task = asyncio.create_task(work(), name=f"arena_async {name}")
        self._beside.add(task)
        task.add_done_callback(self._note_end)
        return task

    def _note_end(self, task: asyncio.Task[Any]) -> None:
        """Forget a task that ended, and look at its error, so that nobody complains about one that was not wanted."""
        self._beside.discard(task)
        if not task.cancelled():
            task.exception()

    async def aclose(self) -> None:
        """
        Log out, end what runs and close the connections. Safe to call twice.

        It takes 5 seconds at the most for the sake of the service, and no error of a logout comes out of it. After a
        fork or from another event loop it only marks the session as closed.
        """
        if self._closed:
            return
        self._closed = True
        if self._loop is None or self._is_foreign():
            return
        beside = list(self._beside)
        for task in beside:
            task.cancel()
        self._wake_waiting()
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CLOSING_SECONDS):
                    for login in self._logins.values():
                        await login.finish()
        finally:
            # A scope that is cancelled would cancel these short waits as well, each of them.
            with anyio.CancelScope(shield=True):
                try:
                    beside += [login_task for login in self._logins.values() if (login_task := login.abandon())]
                    if beside:
                        await asyncio.wait(beside)
                    if self._store is not None:
                        await self._store.aclose()
                finally:
                    await self._wire.aclose()

    def __del__(self, _warn: Callable[..., None] = warnings.warn) -> None:
        """Complain if something was sent and it was never closed."""
        opened = getattr(self, "_loop", None) is not None and os.getpid() == self._pid
        if opened and not self._closed:
            _warn("This client was never closed; use it with `async with`.", ResourceWarning, source=self)

    # The request loop

    async def _persist(
        self,
        request: Request,
        once: Callable[[Trial, float], Awaitable[T]],
        *,
        policy: RetryPolicy,
        repeatable: bool,
    ) -> T:
        """Try until :func:`judge` is content. Waiting for the allowance is not counted as time that was lost."""
        began, number, replays, held_back = self._clock(), 1, 0, 0.0
        parking = _Parking(self._gate)
        while True:
            trial = Trial(request.line, metered=request.metered)
            error: ArenaAsyncError
            try:
                return await once(trial, policy.timeout - (self._clock() - began - held_back))
            except ArenaAsyncError as caught:
                error = caught
            held_back += trial.held_back
            if parking.goes_on(error, trial):
                continue
            attempt = Attempt(
                number=number,
                elapsed=self._clock() - began - held_back,
                repeatable=repeatable and not trial.final,
                sent=trial.sent or trial.final,
                may_log_in=isinstance(error, ApiError) and trial.may_log_in and replays < _MOST_REPLAYS,
            )
            match judge(error, attempt, policy, random=self._random):
                case AgainAfter(seconds):
                    _LOG.info("%s Again in %.1f s, try %d of %d.", error, seconds, number + 1, policy.attempts)
                    number += 1
                    await self._sleep(seconds)
                case LogInAgain():
                    replays += 1
                case _:
                    if isinstance(error, TransportError | TlsError | DeadlineError):
                        error.attempts = number
                        error.sent = trial.sent
                    # The frames in which it was raised hold whole URLs and credentials.
                    raise error.with_traceback(None)
            if self._closed:
                raise self._closed_error(request.line)

    async def _follow(
        self, request: Request, extra: Mapping[str, str], trial: Trial, read_error: _ReadError
    ) -> OpenedFile:
        """Send once, follow redirects, and give the first answer that holds the body."""
        (url, at_api), hops, strayed, away = self._url(request), 0, False, False
        start = url
        while True:
            ours = at_api and not strayed
            away = away or (hops > 0 and origin(url) != origin(start))
            if hops or not ours:
                trial = Trial(request.line, metered=request.metered and ours)
            response = await self._open(request, url, trial, extra=extra, ours=ours, away=away)
            if response.status in _CONTENT:
                if trial.ticket is not None:
                    self._settle(trial, Headers(response.headers.items()))
                self._accepted(trial)
                body = open_body(response, request=request.line, timeouts=self._timeouts, clock=self._clock)
                return OpenedFile(head=_read_head(response), stream=body)
            answer = await self._finish(response, request, trial, largest=LARGEST_REFUSAL)
            if answer.status not in _REDIRECTS:
                raise self._refusal(request, answer, trial, read_error)
            # Whoever was sent away from the API comes back as a stranger.
            (url, at_api), hops, strayed = self._redirected(request, url, answer, hops), hops + 1, not ours

    async def _call(self, request: Request, url: str, trial: Trial, *, ours: bool, seconds: float) -> Response:
        """Send once and read the whole answer."""
        extra = {"Accept-Encoding": "gzip"}
        limit = None if request.upload is not None else seconds
        response = await self._open(request, url, trial, extra=extra, ours=ours, seconds=limit)
        largest = _LARGEST_PAGE if response.status < 300 else LARGEST_REFUSAL
        return await self._finish(response, request, trial, largest=largest)

    async def _open(
        self,
        request: Request,
        url: str,
        trial: Trial,
        *,
        extra: Mapping[str, str],
        ours: bool,
        away: bool = False,
        seconds: float | None = None,
    ) -> aiohttp.ClientResponse:
        """Book, take the credential, and send up to the head of the answer."""
        if trial.metered:
            trial.ticket = await self._admit(trial)
        try:
            if ours and request.scope is not None:
                await self._hold_credential(request.scope, trial)
            headers = self._outgoing_headers(request, trial, extra, ours=ours, away=away)
            body = _body(request, headers)
            decode = headers["Accept-Encoding"] != "identity"
            response = await self._wire.open(Outgoing(request.method, url, headers, body, trial, decode), seconds)
        except BaseException:
            self._settle(trial, None)
            raise
        if ours:
            self._note_time(response.headers.get("Date"))
        return response

    def _note_time(self, date: str | None) -> None:
        """Note by how much the clock of the service is ahead of ours; what it says about times is meant by its own."""
        theirs = read_http_date(date)
        if theirs is not None:
            self._skew = theirs - self._now()

    async def _hold_credential(self, scope: str, trial: Trial) -> None:
        """Take the credential; a login that failed has had its own tries and is not begun anew for this request."""
        trial.login = self._login(scope)
        trial.final = True
        trial.held = await trial.login.held()
        trial.final = False

    async def _finish(
        self, response: aiohttp.ClientResponse, request: Request, trial: Trial, *, largest: int
    ) -> Response:
        """Read the body of a small answer, and note what its head says about the allowance."""
        headers = Headers(response.headers.items())
        if response.status != 429:
            self._settle(trial, headers)
        try:
            body, whole = await self._wire.read(response, largest=largest, line=request.line)
        finally:
            # A 429 is booked until it is known what it says: nobody else may try before that.
            self._settle(trial, headers)
        if not whole and response.status < 300:
            raise DecodeError(
                f"{request.line}: the answer is larger than {largest // MIB} MiB and was refused. Ask for less.",
                problems=[TOO_LARGE],
                request=request.line,
            )
        _LOG.debug("%s: %d, %d bytes", request.line, response.status, len(body))
        return Response(status=response.status, headers=headers, body=body, request=request.line)

    # Allowance

    async def _admit(self, trial: Trial) -> Ticket:
        """Wait until the gate lets one more request out."""
        began = self._clock()
        while True:
            if self._closed:
                raise self._closed_error(trial.line)
            answer = self._gate.reserve(self._moment())
            if isinstance(answer, Ticket):
                trial.held_back += self._clock() - began
                return answer
            await self._hold(answer, trial)

    async def _hold(self, hold: Hold, trial: Trial) -> None:
        if hold.seconds is None:
            change = asyncio.get_running_loop().create_future()
            self._waiting.append(change)
            await change
            return
        if hold.parked:
            if not trial.parked:
                _LOG.warning("%s: no request is left; it waits %.0f s for the next ones.", trial.line, hold.seconds)
            trial.parked = True
            await self._nap(min(hold.seconds, _LONGEST_NAP))
            return
        if hold.told and hold.seconds > self._retry.timeout:
            raise ThrottledError(
                f"{trial.line}: the service asked to wait for another {hold.seconds:.0f} s, which is longer than"
                f" {self._retry.timeout:g} s. Nothing was sent; try again later.",
                request=trial.line,
                retry_after=hold.seconds,
            )
        await self._sleep(hold.seconds)

    async def _nap(self, seconds: float) -> None:
        """Sleep until the time is up, or something about the allowance has changed, or the session is closed."""
        change = asyncio.get_running_loop().create_future()
        self._waiting.append(change)
        sleeping = asyncio.ensure_future(self._sleep(seconds))
        try:
            await asyncio.wait([sleeping, change], return_when=asyncio.FIRST_COMPLETED)
        finally:
            change.cancel()
            if sleeping.done():
                sleeping.result()
            else:
                sleeping.cancel()
                with anyio.CancelScope(shield=True):
                    await asyncio.wait([sleeping])

    def _settle(self, trial: Trial, headers: Headers | None) -> None:
        """Close the booking of a request, or take it back if nothing was written."""
        ticket, trial.ticket = trial.ticket, None
        if ticket is None:
            return
        if trial.sent:
            quota = None if headers is None else self.dialect.read_quota(headers)
            self._gate.settle(ticket, quota, self._moment())
        else:
            self._gate.refund(ticket)
        self._wake_waiting()

    def _on_sent(self, trial: Trial) -> None:
        """Count a request at the moment its head is written."""
        if trial.metered:
            self._requests_sent += 1
        else:
            self._unmetered_sent += 1
        if trial.ticket is not None:
            self._gate.sent(trial.ticket, self._moment())
        if trial.login is not None and trial.held is not None:
            trial.login.touch(trial.held)

    def _wake_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        for change in waiting:
            if not change.done():
                change.set_result(None)

    def _moment(self) -> Moment:
        return Moment(self._clock(), self._now())

    # Refusals

    def _refusal(self, request: Request, response: Response, trial: Trial, read_error: _ReadError) -> Exception:
        """Make the error of an answer that is not what was asked for, and draw the consequences for everybody else."""
        if response.status in _REDIRECTS:
            return UnsafeUrlError(
                f"{request.line}: the answer is a redirect to {_target(response)}, which is not followed with"
                " credentials. Check the base URL."
            )
        if response.status < 400:
            return ApiError(
                f"{request.line}: the answer is {response.status}, which nobody asked for.",
                status=response.status,
                request=request.line,
            )
        error = read_error(request, response)
        if not isinstance(error, ApiError):
            return error
        if error.retry_after is None:
            error.retry_after = read_retry_after(response.headers.get_all("Retry-After"), self._now())
        if trial.metered:
            self._close_gate(error)
        if not error.stale_login:
            self._accepted(trial)
        elif trial.login is not None and trial.held is not None:
            final = trial.login.rejected(trial.held, error)
            error.transient = trial.may_log_in = final is None
            return final or error
        return error

    def _close_gate(self, error: ApiError) -> None:
        """Hold everybody back after a refusal that concerns everybody."""
        if isinstance(error, QuotaExhaustedError):
            self._gate.observe(Quota(remaining=0, resets_at=error.resets_at), self._moment())
            known = self._gate.quota
            if error.resets_at is None and known is not None:
                error.resets_at = known.resets_at
        elif isinstance(error, ThrottledError) and error.retry_after:
            self._gate.close_until(self._clock() + error.retry_after)

    @staticmethod
    def _accepted(trial: Trial) -> None:
        if trial.held is not None:
            trial.held.accepted = True

    # Addresses and headers

    def _url(self, request: Request) -> tuple[str, bool]:
        """Write the whole URL, and say whether it is the API's; an absolute one stays byte for byte, and is checked."""
        url = request.path if request.absolute else f"{self.base_url}{request.path}"
        if request.params:
            try:
                query = urlencode(request.params, quote_via=quote, safe="*")
            except UnicodeEncodeError:
                query = None
            if query is None:
                raise ConfigurationError(f"{request.line}: a parameter has characters that are not valid text.")
            url = f"{url}{'&' if '?' in url else '?'}{query}"
        return url, self._check(url)

    def _check(self, url: str) -> bool:
        """Say whether a URL is at the origin of the API; any other has to be one that may be contacted."""
        if origin(url) == self._origin:
            return True
        self._urls.check(url)
        return False

    def _redirected(self, request: Request, url: str, response: Response, seen: int) -> tuple[str, bool]:
        """Say where a redirect of a body leads, if it may be followed, and whether that is the API's origin."""
        location = response.headers.get("Location")
        if not location:
            raise UnsafeUrlError(f"{request.line}: the answer is a redirect that does not say where to.")
        if seen >= _MOST_HOPS:
            raise UnsafeUrlError(f"{request.line}: redirected more than {_MOST_HOPS} times; not followed any further.")
        try:
            target = urljoin(url, location)
        except ValueError:
            target = ""
        at_api = self._check(target)
        return target.partition("#")[0], at_api

    def _outgoing_headers(
        self, request: Request, trial: Trial, extra: Mapping[str, str], *, ours: bool, away: bool = False
    ) -> SentHeaders:
        """Put the headers together: those of the API for the API only, the request's own not beyond its own origin."""
        headers = SentHeaders(self._user_agent)
        if ours:
            headers.update(self._headers)
        if not away:
            headers.update(_checked(dict(request.headers)))
        headers.update(extra)
        if trial.held is not None:
            headers.update((name, value.reveal()) for name, value in trial.held.credential.headers)
        return headers

    # Logging in and out

    def _login(self, scope: str) -> SharedLogin:
        if scope not in self._logins:

            async def log_in() -> Credential:
                return await self._log_in(scope)

            self._logins[scope] = SharedLogin(
                log_in,
                self._log_out,
                clock=self._clock,
                now=self._now,
                sleep=self._sleep,
                line=self._auth.login(scope).line,
                store=self._store,
                given=self._given,
                renewable=self._renewable,
            )
        return self._logins[scope]

    async def _log_in(self, scope: str) -> Credential:
        """Log in, once more after a broken connection, never again after a refusal."""
        request = self._auth.login(scope)
        url = request.path if request.absolute else f"{self.base_url}{request.path}"
        # The address of a login is the caller's own setting, never something a server said.
        UrlPolicy.for_base(url, allow_http=self._urls.allow_http)
        self._wire.own_hosts.add(host_of(url))
        ours = origin(url) == self._origin

        broken = 0

        async def once(trial: Trial, seconds: float) -> Credential:
            nonlocal broken
            try:
                response = await self._call(request, url, trial, ours=ours, seconds=seconds)
            except (TransportError, DeadlineError):
                # The service may have made a session that nobody knows: once more is enough.
                broken += trial.sent
                trial.final = broken >= _LOGIN_ATTEMPTS
                raise
            if 300 <= response.status < 400:
                raise self._refusal(request, response, trial, self.dialect.read_error)
            return check_credential(self._read_login(response), request=request.line)

        return await self._persist(attrs.evolve(request, metered=False), once, policy=self._retry, repeatable=True)

    def _read_login(self, response: Response) -> Credential:
        try:
            credential = self._auth.read_login(response)
        except ApiError as error:
            if error.retry_after is None:
                error.retry_after = read_retry_after(response.headers.get_all("Retry-After"), self._now())
            raise
        if credential.request_limit is not None:
            self._gate.observe(Quota(limit=credential.request_limit), self._moment())
        return credential

    async def _log_out(self, credential: Credential) -> None:
        """
        End a session of the service, once and whatever comes of it: the credential is thrown away in any case.

        Where it counts, it is not worth a request of the reserve, nor waiting for.
        """
        request = self._auth.logout(credential)
        if request is None:
            return
        trial = Trial(request.line, metered=request.metered)
        trial.held = Held(credential, generation=0, since=0.0, touched=0.0)
        headers = self._outgoing_headers(request, trial, {"Accept-Encoding": "gzip"}, ours=True)
        url, _ = self._url(request)
        outgoing = Outgoing(request.method, url, headers, _body(request, headers), trial, decode=True)
        told: Headers | None = None
        try:
            if trial.metered:
                answer = self._gate.reserve(self._moment())
                if isinstance(answer, Hold) and answer.parked:
                    return
                trial.ticket = answer if isinstance(answer, Ticket) else None
            response = await self._wire.open(outgoing, _CLOSING_SECONDS)
            told = Headers(response.headers.items())
            await self._wire.read(response, largest=LARGEST_REFUSAL, line=request.line)
        except ArenaAsyncError as error:
            _LOG.info("%s The session ends by itself later.", error)
        finally:
            self._settle(trial, told)

    # Life

    def _check_usable(self) -> None:
        """Refuse a session that is closed or not ours any more; otherwise bind it to this event loop."""
        if self._closed:
            raise self._closed_error("The request")
        if self._loop is None:
            self._loop, self._pid = asyncio.get_running_loop(), os.getpid()
        if self._is_foreign():
            raise ClosedError(
                "The client is used from another event loop or another process than the one it was first used in. Its"
                " connections cannot be shared; make one client per loop."
            )

    def _is_foreign(self) -> bool:
        return os.getpid() != self._pid or self._loop is not asyncio.get_running_loop()

    @staticmethod
    def _closed_error(line: str) -> ClosedError:
        return ClosedError(f"{line}: the client is closed; make a new one.")


def _read_head(response: aiohttp.ClientResponse) -> BodyHead:
    """Read what the head of a content answer says."""
    given = response.headers
    place = read_content_range(given.get("Content-Range"))
    length = response.content_length
    offset: int | None = 0
    total = length if response.status == 200 else None
    if place is not None:
        offset, total = place.first or 0, place.total
    elif response.status == 206:
        offset = None
    # RFC 1864: Content-MD5 covers what is sent, so that on a part it says nothing about the file.
    whole = response.status == 200 and place is None
    found = _hexadecimal(given.get("x-ms-blob-content-md5")) if response.status in (200, 206) else None
    return BodyHead(
        status=response.status,
        offset=offset,
        length=length,
        total=total,
        etag=given.get("ETag"),
        md5=found or (_hexadecimal(given.get("Content-MD5")) if whole else None),
        encoding=given.get("Content-Encoding"),
        content_type=given.get("Content-Type"),
        ranges=response.status == 206 or given.get("Accept-Ranges", "").strip().lower() == "bytes",
    )


def _hexadecimal(text: str | None) -> str | None:
    """Turn the base64 of an MD5 into hexadecimal digits; None for anything that is not one."""
    if not text:
        return None
    try:
        digest = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return digest.hex() if len(digest) == 16 else None


def _body(request: Request, headers: SentHeaders) -> bytes | Form | None:
    """Write the body of a request and name its type in the headers."""
    problem = None
    try:
        if request.upload is not None:
            form = Form(request.upload)
            headers["Content-Type"] = form.content_type
            return form
        if request.json is not None:
            headers["Content-Type"] = "application/json"
            return json.dumps(request.json, allow_nan=False).encode()
        if request.form:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            return urlencode(request.form).encode("ascii")
    except (TypeError, ValueError) as error:
        problem = type(error).__name__
    if problem is not None:
        raise ConfigurationError(f"{request.line}: the body cannot be written ({problem}); nothing was sent.")
    return None


def _checked(headers: dict[str, str]) -> dict[str, str]:
    """Give headers back if each can be sent as it is; a lone surrogate, for instance, would arrive as nothing."""
    for name, value in headers.items():
        if not value.isprintable() or not name.isascii() or not name.replace("-", "").replace("_", "").isalnum():
            raise ConfigurationError(f"The header {name!r} has characters that cannot be sent in a header.")
    return headers


def _checked_context(context: object) -> _ssl.SSLContext | None:
    """Take nothing for TLS but a context: there is no switch that turns checking off."""
    if context is None or isinstance(context, _ssl.SSLContext):
        return context
    raise ConfigurationError("ssl takes an ssl.SSLContext or None; certificates are always checked.")


def _checked_proxy(proxy: str | None) -> str | None:
    if proxy is None:
        return None
    try:
        origin(without_user(proxy))
    except UnsafeUrlError as error:
        problem = str(error)
    else:
        return proxy
    raise ConfigurationError(f"The proxy cannot be used. {problem}")


def _user_agent(prefix: str | None) -> str:
    """Name this library, after whatever the caller says about itself."""
    try:
        version = metadata.version("arena-async")
    except metadata.PackageNotFoundError:
        version = "0"
    own = f"arena-async/{version}"
    return f"{prefix} {own}" if prefix else own


def _target(response: Response) -> str:
    return show_url(response.headers.get("Location") or "nowhere")
