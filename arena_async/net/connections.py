"""
The connections of one session: everything about the HTTP client that the request loop need not know.

A GET may take a connection that is idle; anything else gets one of its own, so that nothing is ever sent into one that
the service may be closing.
"""

from __future__ import annotations

import asyncio
import socket
import ssl as _ssl
from collections.abc import AsyncGenerator, Callable
from types import SimpleNamespace

import aiohttp
import attrs
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.connector import Connection
from yarl import URL

from arena_async.errors import UnsafeUrlError
from arena_async.net.bodies import Form
from arena_async.net.failures import WIRE_ERRORS, WireFailureError, explain
from arena_async.net.login import Held, SharedLogin
from arena_async.options import Timeouts
from arena_async.wire.quota import Ticket
from arena_async.wire.urls import UrlPolicy, host_of

__all__ = ["LARGEST_REFUSAL", "Connections", "Outgoing", "SentHeaders", "Trial", "without_user"]

#: Bytes of a refusal, counted after decoding; what comes after them is cut.
LARGEST_REFUSAL = 64 * 1024
#: More connections than any pool of workers has, and fewer than a process may have files open.
_MOST_CONNECTIONS = 320


class SentHeaders(dict[str, str]):
    """Headers on their way out; what they hold is not shown."""

    def __repr__(self) -> str:
        return f"<headers {', '.join(self)}>"


@attrs.define(eq=False, repr=False)
class Trial:
    """One request on its way: what the hooks of the HTTP client note about it."""

    line: str
    metered: bool = False
    ticket: Ticket | None = None
    held: Held | None = None
    login: SharedLogin | None = None
    patience: asyncio.Timeout | None = None
    end: float | None = None
    sent: bool = False
    reused: bool = False
    final: bool = False
    may_log_in: bool = False
    held_back: float = 0.0
    parked: bool = False


@attrs.frozen(repr=False)
class Outgoing:
    """What goes onto the wire, with its secrets; shown without them."""

    method: str
    url: str
    headers: SentHeaders
    body: bytes | Form | None
    trial: Trial
    decode: bool

    def __repr__(self) -> str:
        return f"<{self.trial.line}>"


class Connections:
    """
    The connections of one session.

    Args:
        timeouts: How long the network may keep us waiting.
        urls: Whom we may contact.
        own_hosts: Hosts that the caller named, which are contacted at whatever address they are.
        ssl: Whom to trust, or None for what the system trusts.
        proxy: The URL of a proxy, or None.
        connector: A connector of the caller, which is used and never closed, or None.
        on_sent: Told of each request at the moment its head is written.
    """

    def __init__(
        self,
        *,
        timeouts: Timeouts,
        urls: UrlPolicy,
        own_hosts: set[str],
        ssl: _ssl.SSLContext | None,
        proxy: str | None,
        connector: aiohttp.BaseConnector | None,
        on_sent: Callable[[Trial], None],
    ) -> None:
        #: Hosts that the caller named, at whatever address they are.
        self.own_hosts = own_hosts
        self._timeouts = timeouts
        self._urls = urls
        self._ssl = ssl
        self._proxy = proxy
        self._borrowed = connector
        self._on_sent = on_sent
        self._pooled: aiohttp.ClientSession | None = None
        self._fresh: aiohttp.ClientSession | None = None
        self._ending: AsyncGenerator[None, None] | None = None
        if proxy is not None:
            own_hosts.add(host_of(without_user(proxy)))

    async def open(self, outgoing: Outgoing, seconds: float | None) -> aiohttp.ClientResponse:
        """
        Send one request, once, and give the answer as soon as its head is there.

        Args:
            outgoing: What to send.
            seconds: Seconds after which to give up in any case, or None.
        """
        trial, failure = outgoing.trial, None
        loop = asyncio.get_running_loop()
        trial.end = None if seconds is None else loop.time() + seconds
        form = outgoing.body if isinstance(outgoing.body, Form) else None
        if form is not None:
            form.moved = lambda: self._expect_answer(trial)
        try:
            async with asyncio.timeout_at(trial.end) as trial.patience:
                return await self._request(outgoing)
        except (*WIRE_ERRORS, WireFailureError, UnsafeUrlError) as error:
            failure = error
        finally:
            trial.patience = None
        if form is not None and form.failure is not None:
            raise form.failure
        limit = self._timeouts.read if trial.sent else None
        raise explain(failure, request=trial.line, reused=trial.reused and trial.sent, limit=limit)

    async def read(self, response: aiohttp.ClientResponse, *, largest: int, line: str) -> tuple[bytes, bool]:
        """
        Read a small body up to ``largest`` bytes after decoding, and say whether that was all of it.

        Of a page that is too large nothing is given, since nobody may use it and it would be in memory twice.
        """
        pieces: list[bytes] = []
        size = 0
        failure: Exception | None = None
        try:
            while size <= largest:
                async with asyncio.timeout(self._timeouts.read):
                    piece = await response.content.readany()
                if not piece:
                    return b"".join(pieces), True
                pieces.append(piece)
                size += len(piece)
        except WIRE_ERRORS as error:
            failure = error
        finally:
            response.close()
        if failure is not None:
            raise explain(failure, request=line, limit=self._timeouts.read, body=True)
        return b"" if largest > LARGEST_REFUSAL else b"".join(pieces)[:largest], False

    async def aclose(self) -> None:
        """Close the connections that are ours."""
        if self._ending is not None:
            await self._ending.aclose()

    async def _close_at_the_end(self) -> AsyncGenerator[None, None]:
        """
        Wait to be closed, and close the connections then.

        Event loops end the generators that were begun on them, so that a client that nobody closes leaves no connection
        open that would complain when it is collected.
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

    async def _request(self, outgoing: Outgoing) -> aiohttp.ClientResponse:
        """Choose the road: a GET may take an idle connection, anything else gets one of its own and closes it."""
        if self._ending is None:
            self._ending = self._close_at_the_end()
            await anext(self._ending)
        url = URL(outgoing.url, encoded=True)
        repeatable = outgoing.method in ("GET", "HEAD")
        headers = outgoing.headers
        lane: str | None = None
        if not repeatable and self._borrowed is not None:
            # Naming the host once more changes nothing but the key in the pool of the caller's connector, so that no
            # idle connection is found; and none is put back there.
            headers, lane = SentHeaders(headers, Connection="close"), url.host
        return await self._session(fresh=not repeatable).request(
            outgoing.method,
            url,
            headers=headers,
            data=outgoing.body,
            allow_redirects=False,
            auto_decompress=outgoing.decode,
            proxy=self._proxy,
            ssl=self._ssl or True,
            server_hostname=lane,
            trace_request_ctx=outgoing.trial,
        )

    def _session(self, *, fresh: bool) -> aiohttp.ClientSession:
        """Open the client at its first use, on the loop that runs then."""
        session = self._fresh if fresh else self._pooled
        if session is None:
            session = self._new_session(self._borrowed or self._new_connector(force_close=fresh), fresh=fresh)
            if fresh:
                self._fresh = session
            else:
                self._pooled = session
        return session

    def _new_connector(self, *, force_close: bool) -> aiohttp.TCPConnector:
        resolver = _CheckedResolver(self._urls, self.own_hosts)
        return aiohttp.TCPConnector(resolver=resolver, force_close=force_close, limit=_MOST_CONNECTIONS)

    def _new_session(self, connector: aiohttp.BaseConnector, *, fresh: bool) -> aiohttp.ClientSession:
        limits = self._timeouts
        return aiohttp.ClientSession(
            connector=connector,
            connector_owner=self._borrowed is None,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            response_class=_LastResponse if fresh else aiohttp.ClientResponse,
            middlewares=(_never_twice,),
            trace_configs=[self._trace()],
            # Seconds for whole bodies are nobody's business here; those between two pieces are measured by the reader.
            timeout=aiohttp.ClientTimeout(
                total=None, connect=limits.pool + limits.connect, sock_connect=limits.connect, sock_read=None
            ),
        )

    def _trace(self) -> aiohttp.TraceConfig:
        trace = aiohttp.TraceConfig()
        trace.on_connection_reuseconn.append(_note_reuse)
        trace.on_connection_create_start.append(_note_creation)
        trace.on_request_headers_sent.append(self._note_sent)
        return trace

    async def _note_sent(self, _: aiohttp.ClientSession, context: SimpleNamespace, __: object) -> None:
        """Count, and start the clock of the answer: until now it was about getting a connection."""
        trial: Trial = context.trace_request_ctx
        trial.sent = True
        self._on_sent(trial)
        self._expect_answer(trial)

    def _expect_answer(self, trial: Trial) -> None:
        """Start the clock of the answer, anew where a long body is on its way."""
        if trial.patience is not None:
            answer_by = asyncio.get_running_loop().time() + self._timeouts.read
            trial.patience.reschedule(answer_by if trial.end is None else min(trial.end, answer_by))


class _CheckedResolver(AbstractResolver):
    """
    Resolves names, and gives the connector only addresses that may be contacted.

    What it gives is what the connector connects to, so that a name cannot point elsewhere a moment later.
    """

    def __init__(self, urls: UrlPolicy, own_hosts: set[str]) -> None:
        self._inner = aiohttp.DefaultResolver()
        self._urls = urls
        self._own_hosts = own_hosts

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Give the addresses of a host that may be contacted."""
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


class _LastResponse(aiohttp.ClientResponse):
    """An answer after which its connection is closed, whatever the server says about it."""

    async def start(self, connection: Connection) -> aiohttp.ClientResponse:
        if connection.protocol is not None:
            connection.protocol.force_close()
        return await super().start(connection)


async def _never_twice(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """
    Hide a broken connection from the HTTP client.

    It would send every idempotent request a second time, unasked and uncounted, and there is no public switch for that.
    """
    failure: BaseException
    try:
        return await handler(request)
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        failure = error
    raise WireFailureError(failure)


async def _note_reuse(_: aiohttp.ClientSession, context: SimpleNamespace, __: object) -> None:
    context.trace_request_ctx.reused = True


async def _note_creation(_: aiohttp.ClientSession, context: SimpleNamespace, __: object) -> None:
    context.trace_request_ctx.reused = False


def without_user(url: str) -> str:
    """Drop the user information of a URL."""
    scheme, mark, rest = url.partition("://")
    place, slash, path = rest.partition("/")
    return f"{scheme}{mark}{place.rpartition('@')[2]}{slash}{path}"
