"""
One request and its response: reserve, add headers and credential, send, settle, read; and the retry loop around it.

Whether an origin may be contacted is decided once per origin.
"""

from __future__ import annotations

import json
import logging
import ssl as _ssl
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
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
    HostPausedError,
    QuotaExhaustedError,
    ServerError,
    TlsError,
    TransportError,
    UnsafeUrlError,
)
from arena_async.http.admission import Admission
from arena_async.http.connections import MAX_ERROR_BYTES, Connections, SentHeaders, SentRequest
from arena_async.http.upload import Form
from arena_async.options import MIB, VERSION, HttpOptions, RetryPolicy
from arena_async.protocol.adapter import Adapter
from arena_async.protocol.json_steps import TOO_LARGE
from arena_async.protocol.messages import Headers, Request, Response, read_http_date, show_url
from arena_async.protocol.quota import RateLimiter
from arena_async.protocol.retry import RequestAttempt, read_retry_after, retry_delay
from arena_async.protocol.urls import UrlPolicy, authority, host_of, origin

if TYPE_CHECKING:
    from arena_async.http.login import SharedLogin

__all__ = ["REDIRECTS", "Exchange", "ReadError", "send_with_retries"]

_LOG = logging.getLogger("arena_async")

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

#: The headers of a request whose response is read as a whole.
_DECODED = {"Accept-Encoding": "gzip"}

T = TypeVar("T")

ReadError = Callable[[Request, Response], Exception]


@attrs.frozen(repr=False)
class Target:
    """
    Where a request goes.

    Args:
        url: The URL, byte for byte.
        origin: Its origin, as :func:`~arena_async.protocol.urls.origin` writes it.
        ours: Whether it gets the headers and the credential of the API: not once a redirect has left the API.
        away: Whether a redirect has left its first origin, so that the headers of the request itself stay behind.
        redirects: The number of redirects so far.
    """

    url: str
    origin: str
    ours: bool
    away: bool = False
    redirects: int = 0


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
        self.clock = options.clock
        #: How far the clock of the service is ahead.
        self.skew = timedelta()
        self.admission = Admission(limiter, adapter, options.clock, options.retry)
        self._origin = origin(base_url)
        agent = f"{options.user_agent} arena-async/{VERSION}" if options.user_agent else f"arena-async/{VERSION}"
        self._user_agent = checked_headers({"User-Agent": agent})
        self._api_headers = self._user_agent | checked_headers(dict(options.headers))
        #: By their authority as written; a URL that has to be checked on its own has none.
        self._origins: dict[str | None, str] = {}
        if options.ssl is not None and not isinstance(options.ssl, _ssl.SSLContext):
            raise ConfigurationError("ssl takes an ssl.SSLContext or None; certificates are always checked.")
        own_hosts = {host_of(base_url), *map(host_of, self.urls.origins)}
        if options.proxy is not None:
            own_hosts.add(_proxy_host(options.proxy))
        self.connections = Connections(options, self.urls, own_hosts, limiter)

    def target(self, request: Request) -> Target:
        """
        Return where a request goes; an absolute URL stays byte for byte.

        Raises:
            UnsafeUrlError: It must not be contacted.
        """
        relative = request.path.startswith("/")
        url = f"{self.base_url}{request.path}" if relative else request.path
        if request.params:
            try:
                query = urlencode(request.params, quote_via=quote, safe="*")
            except UnicodeEncodeError:
                query = None
            if query is None:
                raise ConfigurationError(f"{request.line}: a parameter has characters that are not valid text.")
            url = f"{url}{'&' if '?' in url else '?'}{query}"
        found = self._origin if relative else self._origins.get(authority(url)) or self._check_origin(url)
        return Target(url, found, ours=found == self._origin)

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
        found = self._origins.get(authority(url)) or self._check_origin(url)
        return Target(
            url.partition("#")[0],
            found,
            ours=target.ours and found == self._origin,
            away=target.away or found != target.origin,
            redirects=target.redirects + 1,
        )

    def login_target(self, request: Request) -> Target:
        """Return where a login goes; its URL is a setting of the caller, never one from a server."""
        url = request.path if request.absolute else f"{self.base_url}{request.path}"
        UrlPolicy.for_base(url, allow_http=self.urls.allow_http)
        self.connections.own_hosts.add(host_of(url))
        found = origin(url)
        return Target(url, found, ours=found == self._origin)

    async def open(
        self,
        sent: SentRequest,
        target: Target,
        extra: Mapping[str, str] = _DECODED,
        *,
        login: SharedLogin | None = None,
        seconds: float | None = None,
    ) -> aiohttp.ClientResponse:
        """
        Reserve, get the credential, and send; return the response as soon as its headers are received.

        The quota in its headers is noted, and its reservation is settled.

        Args:
            sent: The request.
            target: Where it goes.
            extra: Additional headers.
            login: The login whose credential is sent, or None.
            seconds: Timeout in seconds, or None.
        """
        if sent.metered and not sent.urgent:
            await self.admission.reserve(sent)
        sent.origin = target.origin
        try:
            if login is not None:
                # A failed login had its own retries and is not repeated for this request.
                sent.final = True
                sent.held = await login.held()
                sent.final = False
            waited = await self._wait_for_host(sent, login) if self.admission.troubled else 0.0
            request, body = sent.request, None
            # Those of the API are sent only to the API, those of the request only to its first origin.
            headers = SentHeaders(self._api_headers if target.ours else self._user_agent)
            if request.headers and not target.away:
                headers.update(checked_headers(dict(request.headers)))
            headers |= extra if sent.held is None else {**extra, **sent.held.headers}
            if request.json is not None or request.form or request.upload is not None:
                body = _body(sent, headers)
            response = await self.connections.open(sent, target.url, headers, body, seconds and seconds - waited)
        except BaseException as error:
            self.admission.note_broken(sent, error)
            self.admission.settle(sent)
            raise
        if response.status >= 400 or self.admission.troubled:
            self.admission.note_answer(sent, response.status, Headers(response.headers.items()))
        if sent.reservation is not None and response.status != 429:
            # A 429 stays reserved until its body is read: no other request may be sent before.
            self.admission.settle(sent, Headers(response.headers.items()))
        if target.ours and (date := read_http_date(response.headers.get("Date"))) is not None:
            self.skew = date - self.clock.now()
        return response

    async def _wait_for_host(self, sent: SentRequest, login: SharedLogin | None) -> float:
        """Wait until a request may be sent to its host, maybe with a newer credential, and return the seconds."""
        left = sent.host_wait
        # In this order: who has a place has to be sent at once, and a login may need one of its own.
        while (refusal := self.admission.enter(sent)) is not None:
            await self.admission.sit_out(refusal, sent)
            if login is not None:
                sent.held = await login.held()
        return left - sent.host_wait

    async def finish(
        self, response: aiohttp.ClientResponse, sent: SentRequest, *, max_size: int | None = None
    ) -> Response:
        """Read the body of a small response: all of a page, the beginning of an error."""
        line = sent.request.line
        if max_size is None:
            max_size = _MAX_PAGE_BYTES if response.status < 300 else MAX_ERROR_BYTES
        headers = Headers(response.headers.items())
        try:
            body, complete = await self.connections.read(response, sent, max_size=max_size)
        finally:
            self.admission.leave(sent)
            self.admission.settle(sent, headers)
        if not complete and max_size > MAX_ERROR_BYTES:
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
        if response.status == 202:
            wait = read_retry_after(response.headers.get_all("Retry-After"), self.clock.now())
            problem = "status 202. The content is not ready yet, and is requested again"
            return ServerError(f"{line}: {problem}.", status=202, request=line, transient=True, retry_after=wait)
        if response.status < 400:
            return ApiError(
                f"{line}: unexpected status {response.status}.",
                status=response.status,
                request=line,
            )
        error = read_error(sent.request, response)
        if not isinstance(error, ApiError):
            return error
        self.note_error(error, response, sent)
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

    def note_error(self, error: ApiError, response: Response, sent: SentRequest) -> None:
        """Set ``retry_after`` of an error by the headers of its response, unless it is set; a 429 pauses the host."""
        if error.retry_after is None:
            error.retry_after = read_retry_after(response.headers.get_all("Retry-After"), self.clock.now())
        if response.status == 429 and not isinstance(error, QuotaExhaustedError):
            self.admission.note_failure(sent, "status 429", wait=error.retry_after, at_once=True)

    def _check_origin(self, url: str) -> str:
        """Return the origin of a URL that is not cached, or raise if it must not be contacted."""
        found = origin(url)
        if found != self._origin:
            self.urls.check(url)
        key = authority(url)
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

    Time spent waiting for the quota does not count against the timeout; time spent waiting for a host in trouble does.

    Args:
        exchange: Sends it.
        request: The request.
        once: Sends it once, with a timeout in seconds.
        policy: Limits of the retries.
        repeatable: Whether sending it twice has the same effect as sending it once.
    """
    clock = exchange.clock
    began, number, replays, held_back, exhausted = clock.monotonic(), 1, 0, 0.0, False
    last: ArenaAsyncError | None = None
    while True:
        left = policy.timeout - (clock.monotonic() - began - held_back)
        sent = SentRequest(request, metered=request.metered, host_wait=left)
        try:
            return await once(sent, left)
        except ArenaAsyncError as caught:
            error = caught
        paused, held_back = isinstance(error, HostPausedError), held_back + sent.held_back
        error = last or error if paused else error
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
        seconds = None if paused else retry_delay(error, attempt, policy, random=clock.random)
        if seconds is None:
            raise _final(error, number, sent)
        if isinstance(error, ApiError) and error.stale_login:
            replays += 1
        else:
            number, last = number + 1, error
            _LOG.info("%s Again in %.1f s, attempt %d of %d.", error, seconds, number, policy.attempts)
            await clock.sleep(seconds)
        exchange.admission.check_open(request)


def _final(error: ArenaAsyncError, number: int, sent: SentRequest) -> ArenaAsyncError:
    """Return the error of a request that is not sent again, with what is known about its attempts."""
    if isinstance(error, TransportError | TlsError | DeadlineError):
        error.attempts, error.sent = number, sent.sent
    # The frames in which it was raised hold complete URLs and credentials.
    return error.with_traceback(None)


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


def _proxy_host(proxy: str) -> str:
    """Return the host of the URL of a proxy, which may have user information."""
    scheme, mark, rest = proxy.partition("://")
    named, slash, path = rest.partition("/")
    try:
        return host_of(f"{scheme}{mark}{named.rpartition('@')[2]}{slash}{path}")
    except UnsafeUrlError as error:
        problem = str(error)
    raise ConfigurationError(f"The proxy cannot be used. {problem}")
