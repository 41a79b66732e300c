"""
An HTTP server on this machine that responds like a vendor's service, with injected faults.

A simulator is a subclass of :class:`SimulatedService` with a table of :class:`Route`. Its handlers are plain functions
from a :class:`Call` to a :class:`Reply`: they use no socket. Which bytes of a reply are sent, and how, is decided here,
by the reply and by the :class:`~arena_async.testing.faults.Fault` that was injected for the request.
"""

from __future__ import annotations

import asyncio
import re
import socket
import struct
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote

import attrs
from aiohttp import web

from arena_async.testing.content import Bytes, Content, first_bytes, flipped, split
from arena_async.testing.faults import Fault
from arena_async.testing.replies import Call, ErrorReply, Reply, Route, Seen

__all__ = ["SimulatedService"]

_MAX_REQUEST_SIZE = 256 * 1024 * 1024
_WRITES_PER_SECOND = 20


@attrs.define
class _Plan:
    """An injected fault and the requests it applies to."""

    fault: Fault
    pattern: str
    times: int | None
    after: int
    listener: str | None


class SimulatedService:
    """
    A service on loopback: an async context manager (or ``start`` and ``aclose``), without any task group.

    Args:
        listeners: A name per port; the first one is the main one.
        port: The port of the first listener; 0 for any free one. The others are always free ones.
        clock: Returns the time in seconds since 1970; tests may pass their own.
        sleep: Sleeps for some seconds; used by ``trickle``.
        case_blind: Whether paths are matched regardless of case.
    """

    def __init__(
        self,
        *,
        listeners: Sequence[str] = ("api",),
        port: int = 0,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        case_blind: bool = False,
    ) -> None:
        self.listeners = tuple(listeners)
        self.clock = clock
        #: Every request, in the order received.
        self.log: list[Seen] = []
        #: Requests in progress, and their maximum so far, over all listeners.
        self.in_flight = 0
        self.max_in_flight = 0
        self.sleep = sleep
        self._wanted_port = port
        self._case_blind = case_blind
        self._ports: dict[str, int] = {}
        self._runners: list[web.ServerRunner] = []
        self._plans: list[_Plan] = []
        self._table: dict[tuple[str, int], list[tuple[Route, re.Pattern[str]]]] = {}
        self._closing: asyncio.Event | None = None
        self._changed = asyncio.Event()

    # ------------------------------------------------------------------ overridden by a simulator

    def routes(self) -> Iterable[Route]:
        """Return the table of the service."""
        return ()

    def admit(self, call: Call) -> None:
        """Called first for every request, with or without a fault: for metering."""

    def finish(self, call: Call, reply: Reply) -> Reply:  # noqa: ARG002 - for subclasses
        """Return a reply with the common headers; not called for a response that a fault replaces."""
        return reply

    def apply_event(self, event: str, call: Call) -> None:
        """
        Apply an event to the service: ``"change"``, ``"expire_session"`` or ``"expire_links"``.

        Raises:
            NotImplementedError: The service has no such event.
        """
        raise NotImplementedError(f"{type(self).__name__} does not support the event {event}.")

    def unknown(self, call: Call, *, other_method: bool) -> Reply:  # noqa: ARG002 - for subclasses
        """Respond to a path without a route, or without one for this method."""
        return Reply(status=405 if other_method else 404)

    # ------------------------------------------------------------------ used by a test

    def origin(self, listener: str | None = None) -> str:
        """Return ``http://127.0.0.1:<port>`` of a listener (the first one)."""
        name = listener or self.listeners[0]
        if name not in self._ports:
            raise RuntimeError(f"{type(self).__name__} is not running, so it has no port; enter it with `async with`.")
        return f"http://127.0.0.1:{self._ports[name]}"

    def seen(self, pattern: str = "*", *, listener: str | None = None) -> list[Seen]:
        """Return the logged requests whose ``METHOD path`` matches, for instance ``"GET */content"``."""
        return [one for one in self.log if _matches(one, pattern, listener)]

    def inject(
        self, fault: Fault, *, on: str = "*", times: int | None = 1, after: int = 0, listener: str | None = None
    ) -> None:
        """
        Apply ``fault`` to the next ``times`` requests that match ``on`` (None: until :meth:`clear`).

        Args:
            fault: One of :mod:`arena_async.testing.faults`.
            on: ``METHOD path`` with ``*`` and ``?`` as wildcards, regardless of case.
            times: How many requests; at most one fault applies to a request, the one injected first.
            after: How many matching requests are passed over before.
            listener: Only requests to this port.
        """
        self._plans.append(_Plan(fault=fault, pattern=on, times=times, after=after, listener=listener))

    def clear(self) -> None:
        """Remove the log and the faults that are left. The state of the service stays as it is."""
        self.log.clear()
        self._plans.clear()
        self.max_in_flight = self.in_flight

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until ``condition()`` holds; it is checked whenever a request is received or completed."""
        while not condition():
            await self._changed.wait()

    def _notify(self) -> None:
        """Wake the waiters of :meth:`until`."""
        self._changed.set()
        self._changed = asyncio.Event()

    # ------------------------------------------------------------------ start and close

    async def start(self) -> Self:
        """Open the ports."""
        if self._runners:
            return self
        self._closing = asyncio.Event()
        self._table = _index(self.routes(), self.listeners[0], case_blind=self._case_blind)
        try:
            for place, name in enumerate(self.listeners):
                self._ports[name] = await self._listen(name, self._wanted_port if place == 0 else 0)
        except BaseException:
            await self.aclose()
            raise
        return self

    async def aclose(self) -> None:
        """Close the ports and all connections, also those in use. Safe to call twice."""
        if self._closing is not None:
            self._closing.set()
        runners, self._runners = self._runners, []
        self._ports.clear()
        for runner in runners:
            await runner.cleanup()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _listen(self, name: str, port: int) -> int:
        """Open one port and return its number."""

        async def respond(request: web.BaseRequest) -> web.StreamResponse:
            return await self._serve(name, request)

        server = web.Server(respond, access_log=None, handler_cancellation=True)
        runner = web.ServerRunner(server, shutdown_timeout=0.2)
        await runner.setup()
        self._runners.append(runner)
        await web.TCPSite(runner, "127.0.0.1", port, backlog=1024).start()
        return int(runner.addresses[0][1])

    # ------------------------------------------------------------------ one request

    async def _serve(self, listener: str, request: web.BaseRequest) -> web.StreamResponse:
        """Log a request and respond to it."""
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        try:
            seen = await self._read(listener, request)
            place = len(self.log)
            self.log.append(seen)
            call = Call(seen=seen, headers=seen.headers)
            self.admit(call)
            self._notify()
            fault = self._next_fault(seen) or Fault(name="none")
            return await self._respond(_Exchange(self, request, fault, _Entry(self.log, place, seen)), call)
        except ConnectionResetError:
            return _hang_up(request)  # the client has disconnected
        finally:
            self.in_flight -= 1
            self._notify()

    async def _read(self, listener: str, request: web.BaseRequest) -> Seen:
        """Read a request."""
        body = bytearray()
        async for chunk in request.content.iter_any():
            body += chunk
            if len(body) > _MAX_REQUEST_SIZE:
                raise web.HTTPRequestEntityTooLarge(max_size=_MAX_REQUEST_SIZE, actual_size=len(body))
        return Seen(
            listener=listener,
            method=request.method,
            path=request.path,
            target=request.raw_path,
            query=request.query,
            headers=request.headers,
            body=bytes(body),
            at=self.clock(),
            connection=_port_of(request),
        )

    def _next_fault(self, seen: Seen) -> Fault | None:
        """Return the first fault that applies to this request."""
        chosen: _Plan | None = None
        for plan in self._plans:
            if not _matches(seen, plan.pattern, plan.listener):
                continue
            if plan.after > 0:
                plan.after -= 1
            elif chosen is None:
                chosen = plan
        if chosen is None:
            return None
        if chosen.times is not None:
            chosen.times -= 1
            if chosen.times <= 0:
                self._plans.remove(chosen)
        return chosen.fault

    async def _respond(self, exchange: _Exchange, call: Call) -> web.StreamResponse:
        """Apply the fault before, instead of and after the handler."""
        request, fault = exchange.request, exchange.fault
        if fault.until is not None:
            await fault.until.wait()
        if fault.silence == "close":
            return _hang_up(request)
        if fault.silence == "hang":
            await self.until_closed()
            return _hang_up(request)
        if fault.response is not None:
            status, headers, body = fault.response
            return await exchange.send(Reply(status=status, headers=headers, body=body))
        if fault.event is not None:
            self.apply_event(fault.event, self._routed(call)[1])
        reply = self._reply_to(_without_range(call) if fault.without_range else call)
        if fault.silence == "close_after":
            return _hang_up(request)
        if fault.lost is not None:
            reply = reply.lacking(*fault.lost)
        return await exchange.send(reply.adding(dict(fault.headers)))

    def _routed(self, call: Call) -> tuple[Route | None, Call]:
        """Return the route of a request, and the request with the variables of its path."""
        path = call.seen.target.partition("?")[0]
        key = (call.seen.listener, path.count("/"))
        for route, pattern in self._table.get(key, ()):
            found = pattern.fullmatch(path)
            if found is not None and route.method == call.seen.method:
                return route, attrs.evolve(call, vars={name: unquote(text) for name, text in found.groupdict().items()})
        return None, call

    def _reply_to(self, call: Call) -> Reply:
        """Return the reply of the service."""
        route, call = self._routed(call)
        try:
            if route is None:
                path = call.seen.target.partition("?")[0]
                rows = self._table.get((call.seen.listener, path.count("/")), ())
                reply = self.unknown(call, other_method=any(pattern.fullmatch(path) for _, pattern in rows))
            else:
                reply = route.handler(call)
        except ErrorReply as error:
            reply = error.reply
        return self.finish(call, reply)

    async def until_closed(self) -> None:
        """Wait until the service is closed; a client that disconnects ends the wait too."""
        if self._closing is not None:
            await self._closing.wait()


class _Entry:
    """The log entry of a request in progress."""

    def __init__(self, log: list[Seen], place: int, seen: Seen) -> None:
        self._log, self._place, self._seen = log, place, seen

    def set(self, **changes: Any) -> None:
        """Update the entry, unless the log was cleared."""
        before, self._seen = self._seen, attrs.evolve(self._seen, **changes)
        if self._place < len(self._log) and self._log[self._place] is before:
            self._log[self._place] = self._seen

    def add(self, count: int) -> None:
        """Count sent bytes of the response."""
        self.set(sent=self._seen.sent + count)


@attrs.frozen
class _Exchange:
    """One request in progress: its connection, the fault injected for it, and its log entry."""

    service: SimulatedService
    request: web.BaseRequest
    fault: Fault
    entry: _Entry

    async def send(self, reply: Reply) -> web.StreamResponse:
        """Send a reply, changed by the fault."""
        fault = self.fault
        content = reply.body if isinstance(reply.body, Content) else Bytes(reply.body)
        size = content.size if fault.cut_to is None else min(fault.cut_to, content.size)
        chunks = flipped(content.chunks(0, size), fault.flip)
        stop = size if fault.stop_after is None else min(fault.stop_after, size)
        self.entry.set(status=reply.status)
        if fault.framing == "none":
            return await self._send_without_length(reply, first_bytes(chunks, stop))
        response = web.StreamResponse(status=reply.status)
        response.headers.extend(reply.headers)
        if fault.framing == "chunked":
            response.enable_chunked_encoding()
        else:
            response.content_length = size if fault.declared is None else fault.declared
        await response.prepare(self.request)
        if self.request.method == "HEAD":
            return response
        await self._write(response, first_bytes(chunks, stop))
        if fault.stop_after is not None:
            return await self._end_early(response)
        if fault.declared is not None:
            await _flushed(self.request)
            _close(self.request)
        return response

    async def _write(self, response: web.StreamResponse, chunks: Iterator[bytes]) -> None:
        """Write the body, at the rate of the fault, and also beyond the declared length."""
        transport, rate, left = self.request.transport, self.fault.rate, self.fault.declared
        for chunk in chunks if rate is None else split(chunks, max(1, int(rate / _WRITES_PER_SECOND))):
            inside = chunk if left is None else chunk[:left]
            if inside:
                await response.write(inside)
            if len(inside) < len(chunk) and transport is not None:
                transport.write(chunk[len(inside) :])
            left = None if left is None else left - len(inside)
            self.entry.add(len(chunk))
            if rate is not None:
                await self.service.sleep(len(chunk) / rate)

    async def _end_early(self, response: web.StreamResponse) -> web.StreamResponse:
        """End a body before its end."""
        if self.fault.ending == "stall":
            await self.service.until_closed()
        if self.fault.framing == "chunked" and self.request.transport is not None:
            self.request.transport.write(b"400\r\nthis chunk says it is longer")
        await _flushed(self.request)
        if self.fault.ending == "reset":
            _reset(self.request)
        else:
            _close(self.request)
        return response

    async def _send_without_length(self, reply: Reply, chunks: Iterator[bytes]) -> web.StreamResponse:
        """Send a reply that ends where the connection ends."""
        transport = self.request.transport
        if transport is None:
            return web.Response()
        head = "".join(f"{name}: {value}\r\n" for name, value in reply.headers)
        transport.write(f"HTTP/1.1 {reply.status} \r\n{head}Connection: close\r\n\r\n".encode("latin-1"))
        for chunk in chunks:
            transport.write(chunk)
            self.entry.add(len(chunk))
            await _flushed(self.request)
        return _hang_up(self.request)


def _index(
    routes: Iterable[Route], first: str, *, case_blind: bool
) -> dict[tuple[str, int], list[tuple[Route, re.Pattern[str]]]]:
    """Return the routes by listener and number of segments, each with its pattern."""
    table: dict[tuple[str, int], list[tuple[Route, re.Pattern[str]]]] = {}
    for route in routes:
        literal = re.split(r"\{(\w+)\}", route.template)
        text = "".join(f"(?P<{part}>[^/]+)" if place % 2 else re.escape(part) for place, part in enumerate(literal))
        pattern = re.compile(text, re.IGNORECASE if case_blind else 0)
        table.setdefault((route.listener or first, route.template.count("/")), []).append((route, pattern))
    return table


def _matches(seen: Seen, pattern: str, listener: str | None) -> bool:
    """Return whether a request matches ``METHOD path`` with wildcards."""
    if listener is not None and seen.listener != listener:
        return False
    return fnmatchcase(f"{seen.method} {seen.path}".lower(), pattern.lower())


def _without_range(call: Call) -> Call:
    """Return a request without ``Range`` and ``If-Range``."""
    left: Any = call.headers
    kept = left.copy()
    for name in ("Range", "If-Range"):
        kept.pop(name, None)
    return attrs.evolve(call, headers=kept)


def _port_of(request: web.BaseRequest) -> int:
    """Return the port of the client."""
    peer = None if request.transport is None else request.transport.get_extra_info("peername")
    return int(peer[1]) if peer else 0


def _hang_up(request: web.BaseRequest) -> web.StreamResponse:
    """Close the connection; the returned response is never written."""
    _close(request)
    return web.Response()


def _close(request: web.BaseRequest) -> None:
    """Close the connection after everything was written."""
    if request.transport is not None:
        request.transport.close()


def _reset(request: web.BaseRequest) -> None:
    """End the connection with a TCP reset."""
    transport = request.transport
    if transport is None:
        return
    plug = transport.get_extra_info("socket")
    if plug is not None:
        # A linger time of zero turns the close into a reset.
        plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


async def _flushed(request: web.BaseRequest) -> None:
    """Wait until everything was sent, or the client has disconnected."""
    transport = request.transport
    while isinstance(transport, asyncio.WriteTransport) and not transport.is_closing():
        if transport.get_write_buffer_size() == 0:
            return
        await asyncio.sleep(0.001)
