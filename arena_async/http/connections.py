"""
The connections of one session: the use of aiohttp.

A GET may take an idle connection from the pool; any other method gets a new one that is closed afterwards, so that
nothing is sent on a connection that the server may be closing.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
import zlib
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import aiohttp
import attrs
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.connector import Connection
from yarl import URL

from arena_async.errors import AuthenticationError, UnsafeUrlError
from arena_async.http.errors import WIRE_ERRORS, WireFailureError, explain
from arena_async.http.framing import MARGIN, MAX_QUIET, ConnectionOrder, OneResponse, new_inflater
from arena_async.http.upload import Form
from arena_async.options import HttpOptions
from arena_async.protocol.messages import Request
from arena_async.protocol.quota import ClockReading, RateLimiter, Reservation
from arena_async.protocol.urls import UrlPolicy

if TYPE_CHECKING:
    from aiohttp.client_proto import ResponseHandler

    from arena_async.http.login import CachedSession

__all__ = ["MAX_ERROR_BYTES", "Connections", "Deadlines", "SentHeaders", "SentRequest", "Waiting"]

#: Bytes of an error response after decoding; the rest is cut off.
MAX_ERROR_BYTES = 64 * 1024
#: More connections than there are workers, and fewer than the usual limit of open files.
_MAX_CONNECTIONS = 320
#: Responses that may come over a connection before it has to be quiet.
_MAX_UNPROVED = 32
#: Connections that may be remembered before those that have ended are forgotten.
_MAX_ORDERS = 2 * _MAX_CONNECTIONS
#: Turns of the event loop after which bytes that the system had received are parsed.
_TURNS = 3
#: Seconds between two sweeps, at most.
_SWEEP_SECONDS = 1.0


class Waiting(ABC):
    """
    A wait for the network.

    Attributes:
        deadline: When the wait ends, on the clock of the event loop; infinite while there is none.
    """

    deadline: float = math.inf

    @abstractmethod
    def expire(self, now: float) -> None:
        """End the wait, or set a new ``deadline`` if there was progress."""


class Deadlines:
    """
    Ends waits whose deadline has passed, with one timer for all requests and bodies.

    A deadline that changes while its owner is registered is noticed at the next sweep, at most a second later.
    """

    def __init__(self) -> None:
        #: The current waits. The owner of an entry discards it.
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
    One attempt to send a request, and its state.

    Args:
        request: The request.
        metered: Whether it counts against the quota.
        urgent: Whether it is sent without waiting for the quota.
        reservation: Its reservation, until it is settled.
        held: The credential it is sent with.
        end: The deadline of the response headers, on the clock of the event loop.
        sent: Whether its headers were written.
        reused: Whether they were written to a connection that was used before.
        final: Whether a failure is not retried.
        may_log_in: Whether a newer credential may help.
        held_back: Seconds that it waited for the quota.
        origin: Where it goes.
        placed: Whether it has a place among the few requests that a host in trouble may get.
        host_wait: Seconds that it may wait for a host in trouble.
        expired: Whether its time had run out before it was sent.
        waiting: Whether it waited for the next quota window.
        form: The form that is sent with it.
        waits_on: The connection or the response body that a passed deadline ends.
        read_timeout: Seconds to wait for the response after the last chunk of a form.
        order: The responses of the connection it was sent over.
        number: Its number among the requests of that connection.
        proved: Whether its response is the first one of that connection, so that it cannot be that of another request.
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
    origin: str = ""
    placed: bool = False
    host_wait: float = 0.0
    expired: bool = False
    waiting: bool = False
    form: Form | None = None
    waits_on: ResponseHandler | aiohttp.StreamReader | None = None
    read_timeout: float = math.inf
    order: ConnectionOrder | None = None
    number: int = 0
    proved: bool = False

    def __repr__(self) -> str:
        return f"<{self.request.line}>"

    def expire(self, now: float) -> None:
        """End the wait, unless the request body made progress."""
        respond_by = min(self.end, self.form.sent_at + self.read_timeout) if self.form is not None else now
        if respond_by > now:
            self.deadline = respond_by
        elif self.waits_on is not None:
            self.waits_on.set_exception(TimeoutError())


class Connections:
    """
    The connections of one session.

    Args:
        options: The settings of the session.
        urls: The allowed URLs and addresses.
        own_hosts: Hosts that the caller named, allowed at any address.
        limiter: The quota, which counts a request when its headers are written.

    Attributes:
        timeouts: The timeouts of the session.
        clock: Time.
        deadlines: Keeps the timeouts of requests and bodies.
        requests_sent: Metered requests whose headers were written.
        unmetered_sent: All others.
        orders: The responses of each connection.
        surplus_hosts: Hosts that sent bytes that belong to no response.
    """

    def __init__(self, options: HttpOptions, urls: UrlPolicy, own_hosts: set[str], limiter: RateLimiter) -> None:
        self.timeouts = options.timeouts
        #: Seconds in which the body of a page or of an error has to arrive.
        self._body_seconds = options.retry.timeout
        self.clock = options.clock
        self.deadlines = Deadlines()
        self.own_hosts = own_hosts
        self.requests_sent = self.unmetered_sent = 0
        self._limiter = limiter
        self._urls = urls
        #: The options of all requests.
        self._options: dict[str, Any] = {
            "allow_redirects": False,
            "auto_decompress": False,  # It would leave the check sum at the end of a compressed page unread.
            "proxy": options.proxy,
            "ssl": options.ssl or True,
        }
        self._borrowed: aiohttp.BaseConnector | None = options.connector
        self._client: aiohttp.ClientSession | None = None
        self.surplus_hosts: set[str | None] = set()
        self.orders: dict[ResponseHandler, ConnectionOrder] = {}
        self._ending: AsyncGenerator[aiohttp.ClientSession, None] | None = None

    async def open(
        self, sent: SentRequest, url: str, headers: SentHeaders, body: bytes | Form | None, seconds: float | None
    ) -> aiohttp.ClientResponse:
        """
        Send one request, once, and return the response as soon as its headers are received.

        Args:
            sent: The request, whose state is updated.
            url: Its URL, sent byte for byte.
            headers: Its headers. The body of the response is decoded unless they request ``identity``.
            body: Its body.
            seconds: Timeout of the response headers in seconds, or None.
        """
        failure: Exception
        address = URL(url, encoded=True)
        options = dict(self._options)
        if seconds is not None:
            if seconds <= 0:
                sent.expired = True
                raise explain(TimeoutError(), request=sent.request.line)
            sent.end = asyncio.get_running_loop().time() + seconds
            if seconds < self.timeouts.pool + self.timeouts.connect:
                options["timeout"] = self._timeout(seconds)
        if not sent.request.repeatable:
            # The host name only changes the key in the pool, so that no idle connection is found.
            headers, options["server_hostname"] = SentHeaders(headers, Connection="close"), address.raw_host
        _SENDING.set((self, sent))
        response = None
        try:
            client = self._client or await self._new_client()
            while True:
                # Each connection of the pool that must not be used is closed, so that this ends.
                with contextlib.suppress(_NotInStepError):
                    response = await client.request(sent.request.method, address, data=body, headers=headers, **options)
                    if (order := sent.order) is not None:
                        taken = self.clock.monotonic() - order.sent_at
                        order.quiet = min(max(order.quiet, MARGIN * taken), MAX_QUIET)
                    return response
        except (*WIRE_ERRORS, WireFailureError, UnsafeUrlError) as error:
            failure = error
        finally:
            # Not a reset by token: a discarded coroutine may end in another context.
            _SENDING.set(None)
            self.deadlines.entries.discard(sent)
            if sent.order is not None and response is None:
                sent.order.known = True
        if sent.form is not None and sent.form.failure is not None:
            raise sent.form.failure
        limit = self.timeouts.read if sent.sent else None
        raise explain(failure, request=sent.request.line, reused=sent.reused, limit=limit)

    async def read(self, response: aiohttp.ClientResponse, sent: SentRequest, *, max_size: int) -> tuple[bytes, bool]:
        """
        Read a small body up to ``max_size`` bytes after decoding, and return whether it is complete.

        Nothing of a page that is too large is returned, since it would be in memory twice.
        """
        chunks: list[bytes] = []
        size = 0
        content, time = response.content, asyncio.get_running_loop().time
        failure: Exception | None = None
        # A body that drips never stalls, so all of it has one deadline, whatever arrives meanwhile.
        sent.form, sent.waits_on, sent.end = None, content, min(sent.end, time() + self._body_seconds)
        inflater = new_inflater(response.headers.get("Content-Encoding"))
        try:
            while size <= max_size:
                chunk = content.read_nowait()
                if not chunk and not content.at_eof():
                    sent.deadline = min(sent.end, time() + self.timeouts.read)
                    self.deadlines.add(sent)
                    chunk = await content.readany()
                if not chunk:
                    if inflater is not None and not inflater.eof and max_size > MAX_ERROR_BYTES:
                        raise aiohttp.ClientPayloadError
                    if (order := sent.order) is not None and order.requests == sent.number:
                        order.idle_since = self.clock.monotonic()
                    return b"".join(chunks), True
                if inflater is not None:
                    # What would be too large is not unpacked; the check sum is compared where the stream ends.
                    chunk = inflater.decompress(chunk, max_size + 1 - size)
                chunks.append(chunk)
                size += len(chunk)
        except (*WIRE_ERRORS, zlib.error) as error:
            failure = error
        finally:
            self.deadlines.entries.discard(sent)
            response.close()
        if failure is not None:
            limit = self._body_seconds if time() >= sent.end else self.timeouts.read
            raise explain(failure, request=sent.request.line, limit=limit, body=True)
        return b"" if max_size > MAX_ERROR_BYTES else b"".join(chunks)[:max_size], False

    def note_sent(self, sent: SentRequest, protocol: ResponseHandler) -> None:
        """Count a request whose headers were written, and set the deadline of the response."""
        if not sent.request.repeatable:
            # It is not returned to the pool, whatever the headers of the response state.
            protocol.force_close()
        order = sent.order
        if order is not None:
            sent.proved = order.fresh and not order.requests
            order.requests += 1
            sent.number = order.requests
            order.sent_at, order.idle_since = self.clock.monotonic(), math.inf
        sent.sent, sent.reused = True, not sent.proved
        if sent.metered:
            self.requests_sent += 1
        else:
            self.unmetered_sent += 1
        if sent.reservation is not None:
            self._limiter.sent(sent.reservation, ClockReading(self.clock.monotonic(), self.clock.now()))
        if sent.held is not None:
            sent.held.touched = self.clock.monotonic()
        sent.waits_on, sent.read_timeout = protocol, self.timeouts.read
        sent.deadline = min(sent.end, asyncio.get_running_loop().time() + self.timeouts.read)
        self.deadlines.add(sent)

    async def aclose(self) -> None:
        """Close the connections of this session."""
        self.deadlines.close()
        if self._ending is not None:
            await self._ending.aclose()

    def _timeout(self, seconds: float = math.inf) -> aiohttp.ClientTimeout:
        """Return the timeouts of a connection; those of responses and bodies are kept by the sweep."""
        limits = self.timeouts
        return aiohttp.ClientTimeout(
            total=None,
            connect=min(limits.pool + limits.connect, seconds),
            sock_connect=min(limits.connect, seconds),
            sock_read=None,
        )

    async def _new_client(self) -> aiohttp.ClientSession:
        """Create the client at its first use, on the running loop."""
        self._ending = self._open_client()
        self._client = await anext(self._ending)
        return self._client

    async def _open_client(self) -> AsyncGenerator[aiohttp.ClientSession, None]:
        """
        Yield the client, and close it when this generator is closed.

        Event loops close their generators, so that a client that is never closed leaves no open connection, which would
        warn when it is collected.
        """
        connector = self._borrowed or aiohttp.TCPConnector(
            resolver=_CheckedResolver(self._urls, self.own_hosts), limit=_MAX_CONNECTIONS
        )
        async with aiohttp.ClientSession(
            connector=connector,
            connector_owner=self._borrowed is None,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            request_class=_CountedRequest,
            middlewares=(_never_twice,),
            timeout=self._timeout(),
        ) as client:
            yield client


#: The request that the current task sends, and its connections.
_SENDING: ContextVar[tuple[Connections, SentRequest] | None] = ContextVar("arena_async sending", default=None)


class _CheckedResolver(AbstractResolver):
    """
    Resolves names, and returns only addresses that may be contacted.

    The connector connects to exactly these, so that a later DNS response cannot change the address.
    """

    def __init__(self, urls: UrlPolicy, own_hosts: set[str]) -> None:
        self._inner = aiohttp.DefaultResolver()
        self._urls = urls
        self._own_hosts = own_hosts

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the allowed addresses of a host."""
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
        """Close the wrapped resolver."""
        await self._inner.close()


class _CountedRequest(aiohttp.ClientRequest):
    """A request whose connection is checked before, and that notes when its headers are written."""

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        """
        Send it, over a connection on which nothing is unread: the next response answers this request then.

        Raises:
            _NotInStepError: Something is, or the connection has ended; nothing was sent.
            WireFailureError: The credential was rejected while it waited for a connection; nothing was sent.
        """
        sending, protocol = _SENDING.get(), conn.protocol
        if sending is None or protocol is None:
            return await super().send(conn)
        connections, sent = sending
        clock, orders = connections.clock, connections.orders
        order = orders.get(protocol)
        if order is None:
            for ended in [used for used in orders if not used.is_connected()] if len(orders) > _MAX_ORDERS else ():
                del orders[ended]
            order = orders[protocol] = ConnectionOrder(protocol, clock, fresh=True)
        elif order.requests >= _MAX_UNPROVED:
            await clock.sleep(order.quiet)
        turns = _TURNS
        while turns and order.unread(0):
            turns -= 1
            await asyncio.sleep(0)
        if protocol.should_close:
            order.idle_since = 0.0  # The pool has only connections without an open request.
            order.check()
            raise _NotInStepError
        if sent.held is not None and sent.held.refused:
            raise _old_login(sent)
        if order.idle_since + order.quiet <= clock.monotonic():
            order.known = True
            order = orders[protocol] = ConnectionOrder(protocol, clock, quiet=order.quiet, fresh=False)
        sent.order = order
        if self.host in connections.surplus_hosts:
            OneResponse.take_over(protocol, order)
        response = await super().send(conn)
        connections.note_sent(sent, protocol)
        return response


class _NotInStepError(Exception):
    """A connection of the pool must not be used; nothing was sent over it."""


def _old_login(sent: SentRequest) -> WireFailureError:
    """Return the error of a request whose credential was rejected while it waited for a connection."""
    sent.may_log_in, line = True, sent.request.line
    message = f"{line}: nothing was sent, since the session was rejected meanwhile."
    return WireFailureError(AuthenticationError(message, request=line, transient=True, stale_login=True))


async def _never_twice(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """
    Hide a broken connection from aiohttp.

    It would send every idempotent request a second time, uncounted, and has no public option against that.
    """
    failure: BaseException
    try:
        return await handler(request)
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        failure = error
    except aiohttp.ClientResponseError:
        if (sending := _SENDING.get()) is not None:
            sending[0].surplus_hosts.add(request.host)
        raise
    raise WireFailureError(failure)
