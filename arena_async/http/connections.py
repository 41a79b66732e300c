"""
The connections of one session: everything about aiohttp that the session need not know.

A GET may take an idle connection from the pool; any other method gets a new one that is closed afterwards, so that
nothing is ever sent on a connection that the server may be closing.
"""

from __future__ import annotations

import asyncio
import math
import socket
from collections.abc import AsyncGenerator, Callable, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import aiohttp
import attrs
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.connector import Connection
from yarl import URL

from arena_async.errors import UnsafeUrlError
from arena_async.http.errors import WIRE_ERRORS, WireFailureError, explain
from arena_async.http.upload import Form
from arena_async.options import HttpOptions
from arena_async.protocol.messages import Request
from arena_async.protocol.quota import Reservation
from arena_async.protocol.urls import UrlPolicy, host_of

if TYPE_CHECKING:
    from aiohttp.client_proto import ResponseHandler

    from arena_async.http.login import CachedSession

__all__ = ["MAX_ERROR_BYTES", "Connections", "Deadlines", "SentHeaders", "SentRequest", "Waiting", "without_user"]

#: Bytes of an error response, counted after decoding; what comes after them is cut.
MAX_ERROR_BYTES = 64 * 1024
#: More connections than any pool of workers has, and fewer than a process may have files open.
_MAX_CONNECTIONS = 320
#: Seconds between two sweeps, at most.
_SWEEP_SECONDS = 1.0


class Waiting:
    """
    Something that waits for the network.

    Attributes:
        deadline: When the wait ends, on the clock of the event loop; infinite while nothing is waited for.
    """

    deadline: float = math.inf

    def expire(self, now: float) -> None:
        """End the wait, or set a new ``deadline`` if there was progress."""
        raise NotImplementedError


class Deadlines:
    """
    Ends waits whose deadline has passed, with one timer for all of them.

    A deadline that moves while its owner is registered is noticed at the next sweep, at most a second later.
    """

    def __init__(self) -> None:
        #: What waits. The owner of an entry discards it.
        self.entries: set[Waiting] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._next = math.inf

    def add(self, entry: Waiting) -> None:
        """Watch an entry until it is discarded from :attr:`entries`."""
        self.entries.add(entry)
        if self._timer is None or entry.deadline < self._next:
            self._schedule(asyncio.get_running_loop())

    def close(self) -> None:
        """Stop the timer."""
        self.entries.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._next = min(loop.time() + _SWEEP_SECONDS, *(entry.deadline for entry in self.entries))
        self._timer = loop.call_at(self._next, self._sweep, loop)

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        now = loop.time()
        for entry in list(self.entries):
            if entry.deadline <= now:
                entry.deadline = math.inf
                entry.expire(now)
        if self.entries:
            self._schedule(loop)


class SentHeaders(dict[str, str]):
    """Request headers; their values are not shown."""

    def __repr__(self) -> str:
        return f"<headers {', '.join(self)}>"


@attrs.define(eq=False, repr=False, slots=False)
class SentRequest(Waiting):
    """
    One request that is sent, made for one try, and what became of it.

    Args:
        request: What is sent.
        metered: Whether it counts against the quota.
        urgent: Whether it is sent without waiting for the quota.
        reservation: Its reservation, until that is settled.
        held: The credential it carries.
        end: When to give up waiting for the response headers in any case, on the clock of the event loop.
        sent: Whether its headers were written.
        reused: Whether they were written to a connection that had been used before.
        final: Whether a failure is not retried.
        may_log_in: Whether a newer credential may help.
        held_back: Seconds that it waited for the quota.
        waiting: Whether it waited for the next quota window.
        form: The form that is sent with it.
        waits_on: What a passed deadline ends: the connection, or the body of the response.
        read_timeout: Seconds to wait for the response after the last piece of a form.
    """

    request: Request
    metered: bool = False
    urgent: bool = False
    reservation: Reservation | None = None
    held: CachedSession | None = None
    end: float = math.inf
    sent: bool = False
    reused: bool = False
    final: bool = False
    may_log_in: bool = False
    held_back: float = 0.0
    waiting: bool = False
    form: Form | None = None
    waits_on: ResponseHandler | aiohttp.StreamReader | None = None
    read_timeout: float = math.inf

    def __repr__(self) -> str:
        return f"<{self.request.line}>"

    def expire(self, now: float) -> None:
        """End the wait, unless the request body made progress meanwhile."""
        answer_by = min(self.end, self.form.sent_at + self.read_timeout) if self.form is not None else now
        if answer_by > now:
            self.deadline = answer_by
        elif self.waits_on is not None:
            self.waits_on.set_exception(TimeoutError())


class Connections:
    """
    The connections of one session.

    Args:
        options: The settings of the session.
        urls: Which URLs and addresses may be contacted.
        own_hosts: Hosts that the caller named, which are contacted at any address.
        deadlines: Ends waits that take too long.
        on_sent: Called with each request at the moment its headers are written.
    """

    def __init__(
        self,
        options: HttpOptions,
        urls: UrlPolicy,
        own_hosts: set[str],
        deadlines: Deadlines,
        on_sent: Callable[[SentRequest], None],
    ) -> None:
        self.own_hosts = own_hosts
        self._timeouts = options.timeouts
        self._urls = urls
        self._ssl = options.ssl or True
        self._proxy = options.proxy
        self._borrowed: aiohttp.BaseConnector | None = options.connector
        self._deadlines = deadlines
        self._on_sent = on_sent
        self._pooled: aiohttp.ClientSession | None = None
        self._fresh: aiohttp.ClientSession | None = None
        self._used: set[ResponseHandler] = set()
        self._ending: AsyncGenerator[None, None] | None = None
        if self._proxy is not None:
            own_hosts.add(host_of(without_user(self._proxy)))

    async def open(
        self, sent: SentRequest, url: str, headers: SentHeaders, body: bytes | Form | None, seconds: float | None
    ) -> aiohttp.ClientResponse:
        """
        Send one request, once, and return the response as soon as its headers are here.

        Args:
            sent: The request, and what is noted about it.
            url: Where it goes, byte for byte.
            headers: Its headers. The body of the response is decoded unless they ask for ``identity``.
            body: Its body.
            seconds: Seconds after which to give up waiting for the response headers in any case, or None.
        """
        failure: Exception
        options = self._options(sent, headers, url, seconds)
        _SENDING.set((self, sent))
        try:
            client = self._pooled if sent.request.method in ("GET", "HEAD") else self._fresh
            if client is None:
                client = await self._new_client(fresh=sent.request.method not in ("GET", "HEAD"))
            return await client.request(sent.request.method, URL(url, encoded=True), data=body, **options)
        except (*WIRE_ERRORS, WireFailureError, UnsafeUrlError) as error:
            failure = error
        finally:
            # Not a reset by token: a coroutine that is thrown away may end in another context.
            _SENDING.set(None)
            self._deadlines.entries.discard(sent)
        if sent.form is not None and sent.form.failure is not None:
            raise sent.form.failure
        limit = self._timeouts.read if sent.sent else None
        raise explain(failure, request=sent.request.line, reused=sent.reused, limit=limit)

    async def read(self, response: aiohttp.ClientResponse, sent: SentRequest, *, max_size: int) -> tuple[bytes, bool]:
        """
        Read a small body up to ``max_size`` bytes after decoding, and return whether that was all of it.

        Nothing of a page that is too large is returned: no caller may use it, and it would be in memory twice.
        """
        pieces: list[bytes] = []
        size = 0
        content = response.content
        failure: Exception | None = None
        sent.form, sent.waits_on = None, content
        try:
            while size <= max_size:
                piece = content.read_nowait()
                if not piece and not content.at_eof():
                    sent.deadline = asyncio.get_running_loop().time() + self._timeouts.read
                    self._deadlines.add(sent)
                    piece = await content.readany()
                if not piece:
                    return b"".join(pieces), True
                pieces.append(piece)
                size += len(piece)
        except WIRE_ERRORS as error:
            failure = error
        finally:
            self._deadlines.entries.discard(sent)
            response.close()
        if failure is not None:
            raise explain(failure, request=sent.request.line, limit=self._timeouts.read, body=True)
        return b"" if max_size > MAX_ERROR_BYTES else b"".join(pieces)[:max_size], False

    def note_sent(self, sent: SentRequest, protocol: ResponseHandler) -> None:
        """Note that the headers of a request were written, and wait for those of the response from now on."""
        sent.sent, sent.reused = True, protocol in self._used
        if not sent.reused:
            if len(self._used) > 2 * _MAX_CONNECTIONS:
                self._used = {used for used in self._used if used.is_connected()}
            self._used.add(protocol)
        self._on_sent(sent)
        sent.waits_on, sent.read_timeout = protocol, self._timeouts.read
        sent.deadline = min(sent.end, asyncio.get_running_loop().time() + self._timeouts.read)
        self._deadlines.add(sent)

    async def aclose(self) -> None:
        """Close the connections that are ours."""
        self._deadlines.close()
        if self._ending is not None:
            await self._ending.aclose()

    async def _close_at_the_end(self) -> AsyncGenerator[None, None]:
        """
        Wait to be closed, and close the connections then.

        Event loops end the generators that were begun on them, so that a client that is never closed leaves no
        connection open that would complain when it is collected.
        """
        try:
            yield
        finally:
            try:
                if self._pooled is not None:
                    await self._pooled.close()
            finally:
                if self._fresh is not None:
                    await self._fresh.close()

    def _options(self, sent: SentRequest, headers: SentHeaders, url: str, seconds: float | None) -> Mapping[str, Any]:
        """Return the options of one request for aiohttp."""
        options: dict[str, Any] = {
            "headers": headers,
            "allow_redirects": False,
            "auto_decompress": headers["Accept-Encoding"] != "identity",
            "proxy": self._proxy,
            "ssl": self._ssl,
        }
        if seconds is not None:
            if seconds <= 0:
                raise explain(TimeoutError(), request=sent.request.line)
            sent.end = asyncio.get_running_loop().time() + seconds
            if seconds < self._timeouts.pool + self._timeouts.connect:
                options["timeout"] = self._timeout(seconds)
        if self._borrowed is not None and sent.request.method not in ("GET", "HEAD"):
            # Naming the host once more changes nothing but the key in the pool of the caller's connector, so that no
            # idle connection is found; and none is put back there.
            options["headers"] = SentHeaders(headers, Connection="close")
            options["server_hostname"] = URL(url, encoded=True).host
        return options

    def _timeout(self, seconds: float = math.inf) -> aiohttp.ClientTimeout:
        """Return the limits for a connection; those for responses and bodies are kept by the sweep."""
        limits = self._timeouts
        return aiohttp.ClientTimeout(
            total=None,
            connect=min(limits.pool + limits.connect, seconds),
            sock_connect=min(limits.connect, seconds),
            sock_read=None,
        )

    async def _new_client(self, *, fresh: bool) -> aiohttp.ClientSession:
        """Open a client at its first use, on the loop that runs then."""
        if self._ending is None:
            self._ending = self._close_at_the_end()
            await anext(self._ending)
        connector = self._borrowed or aiohttp.TCPConnector(
            resolver=_CheckedResolver(self._urls, self.own_hosts), force_close=fresh, limit=_MAX_CONNECTIONS
        )
        client = aiohttp.ClientSession(
            connector=connector,
            connector_owner=self._borrowed is None,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            request_class=_CountedRequest,
            response_class=_LastResponse if fresh else aiohttp.ClientResponse,
            middlewares=(_never_twice,),
            timeout=self._timeout(),
        )
        if fresh:
            self._fresh = client
        else:
            self._pooled = client
        return client


#: The request that the current task is sending, and by which connections.
_SENDING: ContextVar[tuple[Connections, SentRequest] | None] = ContextVar("arena_async sending", default=None)


class _CheckedResolver(AbstractResolver):
    """
    Resolves names, and returns to the connector only addresses that may be contacted.

    What it returns is what the connector connects to, so that a name cannot point elsewhere a moment later.
    """

    def __init__(self, urls: UrlPolicy, own_hosts: set[str]) -> None:
        self._inner = aiohttp.DefaultResolver()
        self._urls = urls
        self._own_hosts = own_hosts

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the addresses of a host that may be contacted."""
        found = await self._inner.resolve(host, port, family)
        if host.lower() in self._own_hosts:
            return found
        allowed, refusal = [], None
        for address in found:
            try:
                self._urls.check_address(address["host"])
            except UnsafeUrlError as error:
                refusal = error
            else:
                allowed.append(address)
        if refusal is not None and not allowed:
            raise UnsafeUrlError(f"The host {host} is not contacted: {refusal}")
        return allowed

    async def close(self) -> None:
        """Close the resolver below."""
        await self._inner.close()


class _CountedRequest(aiohttp.ClientRequest):
    """A request that notes when its headers are written."""

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        response = await super().send(conn)
        sending, protocol = _SENDING.get(), conn.protocol
        if sending is not None and protocol is not None:
            connections, sent = sending
            connections.note_sent(sent, protocol)
        return response


class _LastResponse(aiohttp.ClientResponse):
    """A response after which its connection is closed, whatever the server says about it."""

    async def start(self, connection: Connection) -> aiohttp.ClientResponse:
        if connection.protocol is not None:
            connection.protocol.force_close()
        return await super().start(connection)


async def _never_twice(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """
    Hide a broken connection from aiohttp.

    It would send every idempotent request a second time, unasked and uncounted, and there is no public switch for that.
    """
    failure: BaseException
    try:
        return await handler(request)
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        failure = error
    raise WireFailureError(failure)


def without_user(url: str) -> str:
    """Return a URL without its user information."""
    scheme, mark, rest = url.partition("://")
    place, slash, path = rest.partition("/")
    return f"{scheme}{mark}{place.rpartition('@')[2]}{slash}{path}"
