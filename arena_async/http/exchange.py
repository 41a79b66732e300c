"""
One request and its response: reserve, add headers and credential, send, settle, read; and the retry loop around it.

What is the same for all requests to an origin is computed once per origin.
"""

from __future__ import annotations

import json
import logging
import ssl as _ssl
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote, urlencode, urljoin

import aiohttp
import attrs

from arena_async.errors import (
    ApiError,
    ArenaAsyncError,
    ConfigurationError,
    DeadlineError,
    DecodeError,
    TlsError,
    TransportError,
    UnsafeUrlError,
)
from arena_async.http.admission import Admission
from arena_async.http.body import BodyContext
from arena_async.http.connections import MAX_ERROR_BYTES, Connections, Deadlines, SentHeaders, SentRequest, without_user
from arena_async.http.upload import Form
from arena_async.options import MIB, VERSION, Clock, HttpOptions, RetryPolicy
from arena_async.protocol.adapter import Adapter
from arena_async.protocol.messages import Headers, Request, Response, read_http_date, show_url
from arena_async.protocol.quota import RateLimiter
from arena_async.protocol.retry import RequestAttempt, read_retry_after, retry_delay
from arena_async.protocol.urls import UrlPolicy, authority, host_of, origin

if TYPE_CHECKING:
    from arena_async.http.login import SharedLogin

__all__ = ["REDIRECTS", "TOO_LARGE", "Exchange", "ReadError", "send_with_retries"]

_LOG = logging.getLogger("arena_async")

#: The problem that a :class:`DecodeError` names if a response was not read to its end.
TOO_LARGE = "too large"
#: Bytes of a page, counted after decoding; a larger one is an error.
_MAX_PAGE_BYTES = 16 * MIB
#: Origins that are cached.
_MAX_ORIGINS = 1024

#: Statuses that redirect.
REDIRECTS = frozenset({301, 302, 303, 307, 308})
#: Redirects of one body, at most.
_MAX_REDIRECTS = 5
#: Replays of one request with newer credentials, at most.
_MAX_REPLAYS = 3

T = TypeVar("T")

ReadError = Callable[[Request, Response], Exception]


@attrs.frozen
class Origin:
    """
    What is the same for all requests to one origin.

    Args:
        name: Scheme, host and port, as :func:`~arena_async.protocol.urls.origin` writes them.
        is_api: Whether it is the origin of the API.
        headers: The headers of every request to it.
    """

    name: str
    is_api: bool
    headers: Mapping[str, str] = attrs.field(repr=False)


@attrs.frozen(repr=False)
class Target:
    """
    Where a request goes.

    Args:
        url: The URL, byte for byte.
        origin: Its origin.
        ours: Whether it gets the headers and the credential of the API: not once a redirect has left the API.
        start: The origin that the request began at.
        away: Whether a redirect has left that origin, so that the headers of the request itself stay behind.
        redirects: The number of redirects so far.
    """

    url: str
    origin: Origin
    ours: bool
    start: str
    away: bool = False
    redirects: int = 0

    def redirected(self, url: str, origin: Origin) -> Target:
        """Return where a redirect to ``url`` leads."""
        return Target(
            url.partition("#")[0],
            origin,
            ours=self.ours and origin.is_api,
            start=self.start,
            away=self.away or origin.name != self.start,
            redirects=self.redirects + 1,
        )


@attrs.define(eq=False)
class ServerClock:
    """
    A clock that is set by the ``Date`` of responses, for comparison with times from the service.

    Args:
        local: The local clock.
        skew: How far the clock of the service is ahead.
    """

    local: Clock
    skew: timedelta = timedelta()

    def now(self) -> datetime:
        """Return the date and time (aware)."""
        return self.local.now() + self.skew

    def note(self, date: str | None) -> None:
        """Set the clock by the ``Date`` of a response; an invalid one changes nothing."""
        theirs = read_http_date(date)
        if theirs is not None:
            self.skew = theirs - self.local.now()


class Exchange:
    """
    Sends the requests of one session.

    Args:
        adapter: How the service formats quota and errors.
        limiter: The quota.
        base_url: The base of all relative paths, with its version.
        urls: Which URLs may be contacted; None for the rules that follow from ``base_url``.
        options: The settings of the session.

    Raises:
        ConfigurationError: A setting is wrong.
    """

    def __init__(
        self, adapter: Adapter, limiter: RateLimiter, *, base_url: str, urls: UrlPolicy | None, options: HttpOptions
    ) -> None:
        self.urls = urls or UrlPolicy.for_base(base_url)
        self.base_url = base_url.rstrip("/")
        self.adapter = adapter
        self.clock = ServerClock(options.clock)
        self.admission = Admission(limiter, adapter, options.clock, options.retry.timeout)
        self.requests_sent = 0
        self.unmetered_sent = 0
        self._origin = origin(base_url)
        self._user_agent = checked_headers({"User-Agent": _user_agent(options.user_agent)})
        self._api_headers = self._user_agent | checked_headers(dict(options.headers))
        self._origins: dict[str, Origin] = {}
        if options.ssl is not None and not isinstance(options.ssl, _ssl.SSLContext):
            raise ConfigurationError("ssl takes an ssl.SSLContext or None; certificates are always checked.")
        _check_proxy(options.proxy)
        deadlines = Deadlines()
        self.bodies = BodyContext(options.timeouts, options.clock.monotonic, deadlines)
        own_hosts = {host_of(base_url), *map(host_of, self.urls.origins)}
        self._connections = Connections(options, self.urls, own_hosts, deadlines, self._note_sent)

    def target(self, request: Request) -> Target:
        """
        Return where a request goes; an absolute URL stays byte for byte.

        Raises:
            UnsafeUrlError: It must not be contacted.
        """
        url = f"{self.base_url}{request.path}" if request.path.startswith("/") else request.path
        if request.params:
            try:
                query = urlencode(request.params, quote_via=quote, safe="*")
            except UnicodeEncodeError:
                query = None
            if query is None:
                raise ConfigurationError(f"{request.line}: a parameter has characters that are not valid text.")
            url = f"{url}{'&' if '?' in url else '?'}{query}"
        found = self._origin_of(url)
        return Target(url, found, found.is_api, found.name)

    def redirected(self, request: Request, target: Target, response: Response) -> Target:
        """
        Return where a redirect of a body leads.

        Raises:
            UnsafeUrlError: It must not be followed.
        """
        location = response.headers.get("Location")
        if not location:
            raise UnsafeUrlError(f"{request.line}: the response is a redirect without a location.")
        if target.redirects >= _MAX_REDIRECTS:
            raise UnsafeUrlError(f"{request.line}: redirected more than {_MAX_REDIRECTS} times; not followed further.")
        try:
            url = urljoin(target.url, location)
        except ValueError:
            url = ""
        return target.redirected(url, self._origin_of(url))

    def login_target(self, request: Request) -> Target:
        """Return where a login goes; its URL is a setting of the caller, never one from a server."""
        url = request.path if request.absolute else f"{self.base_url}{request.path}"
        UrlPolicy.for_base(url, allow_http=self.urls.allow_http)
        self._connections.own_hosts.add(host_of(url))
        name = origin(url)
        is_api = name == self._origin
        return Target(url, Origin(name, is_api, self._api_headers if is_api else self._user_agent), is_api, name)

    async def open(
        self,
        sent: SentRequest,
        target: Target,
        extra: Mapping[str, str],
        *,
        login: SharedLogin | None = None,
        seconds: float | None = None,
    ) -> aiohttp.ClientResponse:
        """
        Reserve, get the credential, and send; return the response as soon as its headers are received.

        Args:
            sent: The request.
            target: Where it goes.
            extra: Additional headers.
            login: The login whose credential is sent, or None.
            seconds: Timeout in seconds, or None.
        """
        if sent.metered and not sent.urgent:
            await self.admission.reserve(sent)
        try:
            if login is not None:
                # A failed login had its own retries and is not repeated for this request.
                sent.final = True
                sent.held = await login.held()
                sent.final = False
            request, body = sent.request, None
            # Those of the API are sent only to the API, those of the request only to its first origin.
            headers = SentHeaders(target.origin.headers if target.ours else self._user_agent)
            if request.headers and not target.away:
                headers.update(checked_headers(dict(request.headers)))
            headers.update(extra)
            if sent.held is not None:
                headers.update((name, value.reveal()) for name, value in sent.held.credential.headers)
            if request.json is not None or request.form or request.upload is not None:
                body = _body(sent, headers)
            response = await self._connections.open(sent, target.url, headers, body, seconds)
        except BaseException:
            self.admission.settle(sent)
            raise
        if target.ours:
            self.clock.note(response.headers.get("Date"))
        return response

    async def call(
        self, sent: SentRequest, target: Target, *, login: SharedLogin | None = None, seconds: float
    ) -> Response:
        """Send once and read the complete response."""
        limit = None if sent.request.upload is not None else seconds
        response = await self.open(sent, target, {"Accept-Encoding": "gzip"}, login=login, seconds=limit)
        return await self.finish(response, sent, max_size=_MAX_PAGE_BYTES if response.status < 300 else MAX_ERROR_BYTES)

    async def finish(
        self, response: aiohttp.ClientResponse, sent: SentRequest, *, max_size: int = MAX_ERROR_BYTES
    ) -> Response:
        """Read the body of a small response, and note the quota in its headers."""
        line = sent.request.line
        headers = Headers(response.headers.items())
        if response.status != 429:
            self.admission.settle(sent, headers)
        try:
            body, complete = await self._connections.read(response, sent, max_size=max_size)
        finally:
            # A 429 stays reserved until its body is read: no other request may be sent before.
            self.admission.settle(sent, headers)
        if not complete and response.status < 300:
            raise DecodeError(
                f"{line}: the response is larger than {max_size // MIB} MiB and was rejected. Request less.",
                problems=[TOO_LARGE],
                request=line,
            )
        _LOG.debug("%s: %d, %d bytes", line, response.status, len(body))
        return Response(status=response.status, headers=headers, body=body, request=line)

    def error_for(
        self, sent: SentRequest, response: Response, read_error: ReadError, login: SharedLogin | None
    ) -> Exception:
        """Return the error for an unexpected response, and update quota and login by it."""
        line = sent.request.line
        if response.status in REDIRECTS:
            return UnsafeUrlError(
                f"{line}: the response is a redirect to {show_url(response.headers.get('Location') or 'nowhere')}, and"
                " is not followed with credentials. Check the base URL."
            )
        if response.status < 400:
            return ApiError(
                f"{line}: unexpected status {response.status}.",
                status=response.status,
                request=line,
            )
        error = read_error(sent.request, response)
        if not isinstance(error, ApiError):
            return error
        self.note_retry_after(error, response)
        if sent.metered:
            self.admission.close_after(error)
        if sent.held is None:
            return error
        if not error.stale_login:
            sent.held.accepted = True
        elif login is not None:
            final = login.rejected(sent.held, error)
            error.transient = sent.may_log_in = final is None
            return final or error
        return error

    def note_retry_after(self, error: ApiError, response: Response) -> None:
        """Set ``retry_after`` of an error by the headers of its response, unless it is set."""
        if error.retry_after is None:
            error.retry_after = read_retry_after(response.headers.get_all("Retry-After"), self.clock.local.now())

    async def aclose(self) -> None:
        """Close the connections."""
        await self._connections.aclose()

    def _note_sent(self, sent: SentRequest) -> None:
        """Count a request when its headers are written."""
        if sent.metered:
            self.requests_sent += 1
        else:
            self.unmetered_sent += 1
        if sent.reservation is not None:
            self.admission.limiter.sent(sent.reservation, self.admission.timestamp())
        if sent.held is not None:
            sent.held.touched = self.clock.local.monotonic()

    def _origin_of(self, url: str) -> Origin:
        """Return the origin of a URL, or raise if it must not be contacted."""
        key = authority(url)
        found = self._origins.get(key) if key is not None else None
        if found is None:
            name = origin(url)
            is_api = name == self._origin
            if not is_api:
                self.urls.check(url)
            found = Origin(name, is_api, self._api_headers if is_api else self._user_agent)
            if key is not None and len(self._origins) < _MAX_ORIGINS:
                self._origins[key] = found
        return found


async def send_with_retries(
    exchange: Exchange,
    request: Request,
    once: Callable[[SentRequest, float], Awaitable[T]],
    policy: RetryPolicy,
    *,
    repeatable: bool,
) -> T:
    """
    Send a request, again where :func:`~arena_async.protocol.retry.retry_delay` says so.

    Time spent waiting for the quota does not count against the timeout.

    Args:
        exchange: Sends it.
        request: The request.
        once: Sends it once, with a timeout in seconds.
        policy: Limits of the retries.
        repeatable: Whether sending it twice has the same effect as sending it once.
    """
    clock = exchange.clock.local
    began, number, replays, held_back, exhausted = clock.monotonic(), 1, 0, 0.0, False
    while True:
        sent = SentRequest(request, metered=request.metered)
        try:
            return await once(sent, policy.timeout - (clock.monotonic() - began - held_back))
        except ArenaAsyncError as caught:
            error = caught
        held_back += sent.held_back
        if exchange.admission.waits_after(error, sent, before=exhausted):
            exhausted = True
            continue
        attempt = RequestAttempt(
            number=number,
            elapsed=clock.monotonic() - began - held_back,
            repeatable=repeatable and not sent.final,
            sent=sent.sent or sent.final,
            may_log_in=sent.may_log_in and replays < _MAX_REPLAYS,
        )
        seconds = retry_delay(error, attempt, policy, random=clock.random)
        if seconds is None:
            if isinstance(error, TransportError | TlsError | DeadlineError):
                error.attempts, error.sent = number, sent.sent
            # The frames in which it was raised hold complete URLs and credentials.
            raise error.with_traceback(None)
        if isinstance(error, ApiError) and error.stale_login:
            replays += 1
        else:
            number += 1
            _LOG.info("%s Again in %.1f s, attempt %d of %d.", error, seconds, number, policy.attempts)
            await clock.sleep(seconds)
        exchange.admission.check_open(request)


def _body(sent: SentRequest, headers: SentHeaders) -> bytes | Form | None:
    """Return the body of a request, and set its type in the headers."""
    request = sent.request
    problem = None
    try:
        if request.upload is not None:
            sent.form = Form(request.upload)
            headers["Content-Type"] = sent.form.content_type
            return sent.form
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


def checked_headers(headers: dict[str, str]) -> dict[str, str]:
    """Return headers if each can be sent unchanged; a lone surrogate, for instance, would be lost."""
    for name, value in headers.items():
        if not value.isprintable() or not name.isascii() or not name.replace("-", "").replace("_", "").isalnum():
            raise ConfigurationError(f"The header {name!r} has characters that cannot be sent in a header.")
    return headers


def _check_proxy(proxy: str | None) -> None:
    if proxy is None:
        return
    problem = None
    try:
        origin(without_user(proxy))
    except UnsafeUrlError as error:
        problem = str(error)
    if problem is not None:
        raise ConfigurationError(f"The proxy cannot be used. {problem}")


def _user_agent(prefix: str | None) -> str:
    """Return the name of this library, after that of the caller."""
    own = f"arena-async/{VERSION}"
    return f"{prefix} {own}" if prefix else own
