"""
Sends the requests of one client.

::

    send ──▶ reserve quota ──▶ credential ──▶ exchange ──▶ judge ──┬─▶ Response
               ▲                                                   ├─▶ retry later, or with a newer credential
               └───────────────────────────────────────────────────┘  └─▶ raise the typed error
    stream ──▶ the same once: no loop here, ``transfer`` has the one for bodies

Credentials are sent to the origin of the API only; redirects are followed by hand and only for bodies. The HTTP client
keeps no cookies, reads nothing from the environment and sends nothing a second time on its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import warnings
from collections.abc import Callable, Coroutine, Generator, Mapping
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

from arena_async.errors import ArenaAsyncError, AuthenticationError, ClosedError
from arena_async.http.body import read_head
from arena_async.http.connections import MAX_ERROR_BYTES, SentRequest
from arena_async.http.exchange import REDIRECTS, Exchange, ReadError, send_with_retries
from arena_async.http.login import Authentication, SharedLogin
from arena_async.http.zero_copy import open_body
from arena_async.options import HttpOptions, shield
from arena_async.protocol.adapter import Adapter, Auth, Credential
from arena_async.protocol.files import OpenedFile
from arena_async.protocol.messages import Request, Response
from arena_async.protocol.quota import Quota, RateLimiter
from arena_async.protocol.ranges import strong_etag
from arena_async.protocol.urls import UrlPolicy

__all__ = ["Session", "in_steps", "read_json", "request_object"]

#: Seconds that closing waits for the service.
_CLOSING_SECONDS = 5.0
#: Seconds of a computation after which the event loop does other work.
_STEP_SECONDS = 0.01
_CONTENT = frozenset({200, 206, 412, 416})

T = TypeVar("T")


class Session:
    """
    Sends the requests of one client: reserves quota, adds the credential, sends, retries.

    It belongs to the event loop of its first request and to the process that made it. Connections are opened with the
    first request and closed by :meth:`aclose`.

    Args:
        auth: How to log in; an :class:`~arena_async.http.login.Authentication` to begin with a credential or share one.
        adapter: How the service formats pages, quota and errors.
        limiter: The quota; every metered request is reserved there first.
        base_url: The base of all relative paths, with its version.
        urls: Which URLs may be contacted; None for the rules that follow from ``base_url``.
        options: Timeouts, retries, TLS, proxy and so on; None for the defaults.

    Raises:
        ConfigurationError: A setting is wrong; nothing was sent.
    """

    def __init__(
        self,
        auth: Auth | Authentication,
        adapter: Adapter,
        limiter: RateLimiter,
        *,
        base_url: str,
        urls: UrlPolicy | None = None,
        options: HttpOptions | None = None,
    ) -> None:
        options = options or HttpOptions()
        self._authentication = auth if isinstance(auth, Authentication) else Authentication(auth=auth)
        self._retry = options.retry
        self._exchange = Exchange(adapter, limiter, base_url=base_url, urls=urls, options=options)
        #: The base of all relative paths.
        self.base_url = self._exchange.base_url
        #: How the service formats pages, quota and errors.
        self.adapter = adapter
        self._logins: dict[str, SharedLogin] = {}
        self._beside: set[asyncio.Task[Any]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = os.getpid()
        self._closed = False

    @property
    def quota(self) -> Quota | None:
        """What is known about the quota, or None before the service stated it."""
        return self._exchange.admission.limiter.quota

    @property
    def account(self) -> str:
        """Whose login it uses, as :attr:`FileSet.account`: known before the login, and no secret."""
        return self._authentication.account

    @property
    def requests_sent(self) -> int:
        """Metered requests that were sent so far, repeated ones included."""
        return self._exchange.connections.requests_sent

    @property
    def unmetered_sent(self) -> int:
        """Sent requests that count against no quota: logins, and those to other hosts than the API."""
        return self._exchange.connections.unmetered_sent

    async def send(self, request: Request) -> Response:
        """
        Send a request, with retries, and return its response.

        The body is decoded from any content encoding. A GET or HEAD is repeated after broken connections and temporary
        errors; others only if nothing was sent or the service states that nothing was done.

        Raises:
            ApiError: The service responded with an error, as one of its subclasses; :class:`QuotaExhaustedError` also
                before sending.
            TransportError: No usable response was received.
            TlsError: The certificate was rejected.
            DeadlineError: A time limit ran out.
            DecodeError: The response is larger than 16 MiB, or the response to a login is not what is documented.
            UnsafeUrlError: The URL must not be contacted, or the response is a redirect.
            ClosedError: The session is closed, or used from another event loop or after a fork.
        """
        self._check_usable()
        exchange = self._exchange

        async def once(sent: SentRequest, seconds: float) -> Response:
            target, login = exchange.target(request), None
            if target.ours and request.scope is not None:
                login = self._logins.get(request.scope) or self._new_login(request.scope)
            limit = None if request.upload is not None else seconds
            response = await exchange.finish(await exchange.open(sent, target, login=login, seconds=limit), sent)
            if response.status >= 300:
                raise exchange.error_for(sent, response, self.adapter.read_error, login)
            if sent.held is not None:
                sent.held.accepted = True
            return response

        return await send_with_retries(exchange, request, once, self._retry, repeatable=request.repeatable)

    async def stream(
        self,
        request: Request,
        *,
        offset: int = 0,
        validator: str | None = None,
        until: int | None = None,
        read_error: ReadError | None = None,
    ) -> OpenedFile:
        """
        Request a body once and return it as it is received, without retries.

        Redirects are followed, at most five, without credentials to any origin but the API and without the headers of
        the request itself to another origin than its own. ``Range`` and ``If-Match`` are sent only for an offset above
        0 with a strong validator.

        Args:
            request: The request; an absolute ``path`` is sent byte for byte.
            offset: The byte to begin at, counted from 0.
            validator: The ETag that the earlier bytes came with.
            until: The byte to end before, for a part in the middle; None for all that follows.
            read_error: Returns the error of an error response, if the body is on another host than the API.

        Raises:
            ApiError: The status is not 200, 206, 412 or 416. ``transient`` is set where a newer credential may
                help.
            TransportError: No usable response was received, as for :meth:`send` with its other errors.
            UnsafeUrlError: The URL, or one it redirects to, must not be contacted.
        """
        self._check_usable()
        extra = {"Accept-Encoding": "identity"}
        if not request.headers or not any(name.lower() == "accept" for name, _ in request.headers):
            extra["Accept"] = "*/*"
        if offset > 0 and (etag := strong_etag(validator)) is not None:
            extra |= {"Range": f"bytes={offset}-{'' if until is None else until - 1}", "If-Match": etag}
        exhausted = False
        failure: ArenaAsyncError
        while True:
            sent = SentRequest(request, metered=request.metered)
            try:
                return await self._open_body(sent, extra, read_error or self.adapter.read_error)
            except ArenaAsyncError as error:
                failure = error
            if isinstance(failure, AuthenticationError) and sent.may_log_in and not sent.sent:
                continue  # Its credential became old while it waited for a connection.
            if not self._exchange.admission.waits_after(failure, sent, before=exhausted):
                # The frames in which it was raised hold complete URLs and credentials.
                raise failure.with_traceback(None)
            exhausted = True

    async def credential(self, scope: str = "") -> Credential:
        """
        Return the credential of a scope, logging in if there is no valid one.

        Raises:
            ApiError: The login was rejected.
            DecodeError: The response to it is not what the service documents.
            TransportError: It could not be sent, as for :meth:`send` with its other errors.
        """
        self._check_usable()
        login = self._logins.get(scope) or self._new_login(scope)
        return (await login.held()).credential

    @property
    def clock(self) -> Callable[[], float]:
        """Seconds that never jump, as this session measures them."""
        return self._exchange.clock.monotonic

    def now(self) -> datetime:
        """Return the date and time (aware) of the clock of the service, or of ours before the first response."""
        return self._exchange.clock.now() + self._exchange.skew

    def spawn(self, work: Callable[[], Coroutine[Any, Any, T]], *, name: str) -> asyncio.Task[T]:
        """
        Run ``work`` in a task, independent of the caller; :meth:`aclose` cancels it.

        The caller awaits the task for its result; an error that is never fetched is not reported.

        Raises:
            ClosedError: The session is closed, or used from another event loop or after a fork.
        """
        self._check_usable()
        task = asyncio.create_task(work(), name=f"arena_async {name}")
        self._beside.add(task)
        task.add_done_callback(self._note_end)
        return task

    async def aclose(self) -> None:
        """
        Log out, end what runs and close the connections. Safe to call twice.

        It waits at most 5 seconds for the service and raises no error of a logout. After a fork or from another event
        loop it only marks the session as closed.
        """
        if self._closed:
            return
        self._closed = True
        if self._loop is None or self._is_foreign():
            return
        beside = list(self._beside)
        for task in beside:
            task.cancel()
        self._exchange.admission.close()
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CLOSING_SECONDS):
                    for login in self._logins.values():
                        await login.finish()
        finally:
            # A cancelled scope would cancel each of these short waits as well.
            with shield():
                try:
                    beside += [login_task for login in self._logins.values() if (login_task := login.abandon())]
                    if beside:
                        await asyncio.wait(beside)
                    if self._authentication.store is not None:
                        await self._authentication.store.aclose()
                finally:
                    await self._exchange.connections.aclose()

    def __del__(self, _warn: Callable[..., None] = warnings.warn) -> None:
        """Warn if something was sent and the session was never closed."""
        opened = getattr(self, "_loop", None) is not None and os.getpid() == self._pid
        if opened and not self._closed:
            _warn("This client was never closed; use it with `async with`.", ResourceWarning, source=self)

    async def _open_body(self, sent: SentRequest, extra: Mapping[str, str], read_error: ReadError) -> OpenedFile:
        """Send once, follow redirects, and return the first response that holds the body."""
        exchange, request = self._exchange, sent.request
        target = exchange.target(request)
        while True:
            login = None
            if target.ours and request.scope is not None:
                login = self._logins.get(request.scope) or self._new_login(request.scope)
            if target.redirects or (sent.metered and not target.ours):
                sent = SentRequest(request, metered=request.metered and target.ours)
            response = await exchange.open(sent, target, extra, login=login)
            if response.status in _CONTENT:
                if sent.held is not None:
                    sent.held.accepted = True
                return OpenedFile(
                    head=read_head(response),
                    stream=open_body(response, request, exchange.connections, sent.order),
                    order=None if sent.proved else sent.order,
                    judge=partial(exchange.admission.judge, target.origin),
                )
            finished = await exchange.finish(response, sent, max_size=MAX_ERROR_BYTES)
            if finished.status not in REDIRECTS:
                raise exchange.error_for(sent, finished, read_error, login)
            target = exchange.redirected(request, target, finished)

    def _new_login(self, scope: str) -> SharedLogin:
        login = self._logins[scope] = SharedLogin(self._exchange, self._authentication, scope, self._retry)
        return login

    def _note_end(self, task: asyncio.Task[Any]) -> None:
        """Remove a task that ended, and fetch its error, so that it is not reported."""
        self._beside.discard(task)
        if not task.cancelled():
            task.exception()

    def _check_usable(self) -> None:
        """Raise if the session is closed or belongs to another loop; otherwise bind it to this event loop."""
        if self._closed:
            raise ClosedError("The request: the client is closed; make a new one.")
        if self._loop is None:
            self._loop, self._pid = asyncio.get_running_loop(), os.getpid()
        # In this order: a forked process has no running loop.
        if self._pid != os.getpid() or self._loop is not asyncio.get_running_loop():
            raise ClosedError(
                "The client is used from another event loop or another process than the one it was first used in. Its"
                " connections cannot be shared; make one client per loop."
            )

    def _is_foreign(self) -> bool:
        return os.getpid() != self._pid or self._loop is not asyncio.get_running_loop()


async def request_object(session: Session, request: Request, model: type[T]) -> T:
    """
    Return one object. One request.

    Raises:
        ApiError: The service responded with an error.
        DecodeError: The response is something else.
    """
    from arena_async.protocol.decoding import decode  # noqa: PLC0415  # Downloads of URLs need no models.

    return decode(await read_json(await session.send(request)), model, request=request.line)


async def read_json(response: Response) -> Any:
    """
    Return the parsed body of a response, however large it is.

    Raises:
        DecodeError: It is not JSON.
    """
    from arena_async.protocol.decoding import json_steps  # noqa: PLC0415  # As above.

    return await in_steps(json_steps(response.body, request=response.request))


async def in_steps(steps: Generator[None, None, T]) -> T:
    """Run a long computation to its end, and let the event loop do other work every 10 ms."""
    time = asyncio.get_running_loop().time
    while True:
        pause_at = time() + _STEP_SECONDS
        try:
            while time() < pause_at:
                next(steps)
        except StopIteration as end:
            result: T = end.value
            return result
        await asyncio.sleep(0)
