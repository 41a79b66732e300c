"""
A real HTTP service on this machine that answers like a vendor and misbehaves on order.

A simulator is a subclass of :class:`SimulatedService` with a table of :class:`Route`. Its handlers are plain functions
from a :class:`Call` to a :class:`Reply`: they know no socket. Which bytes of a reply arrive, and how, is decided here,
by the reply and by the :class:`~arena_async.testing.faults.Fault` that was injected for the request.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import struct
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from types import TracebackType
from typing import Any, Protocol, Self, runtime_checkable
from urllib.parse import unquote

import attrs
from aiohttp import web

from arena_async.testing.faults import Fault

__all__ = ["Call", "Content", "Part", "Refusal", "Reply", "Route", "Seen", "SimulatedService", "give_content"]

_PIECE = 256 * 1024
_MAX_REQUEST = 256 * 1024 * 1024
_TICKS_A_SECOND = 20


@runtime_checkable
class Content(Protocol):
    """Bytes that need not be held in memory."""

    @property
    def size(self) -> int:
        """Bytes in all."""
        ...

    def chunks(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Give the bytes from ``start`` up to ``stop`` (the end) in pieces of moderate size."""
        ...


@attrs.frozen(kw_only=True)
class Part:
    """One part of a multipart form: ``name``, ``filename`` (or None), ``content_type`` (or None) and ``body``."""

    name: str
    body: bytes = attrs.field(repr=False)
    filename: str | None = None
    content_type: str | None = None


@attrs.frozen(kw_only=True)
class Seen:
    """
    One request as it arrived, in the log of the service.

    Args:
        listener: Which of the service's ports it came to.
        method: Its method.
        path: Its path, decoded, without the query.
        target: Path and query byte for byte as sent.
        query: Its query, decoded; the first value wins on look-up, ``getall`` gives all.
        headers: Its headers, looked up without regard to case.
        body: Its body.
        status: The status it was answered with; None while it is not answered, and for ever if it never was.
        sent: Bytes of the body of the answer that were written.
        at: When it arrived, by the clock of the service.
        connection: The client's port, which shows whether a connection was used again.
    """

    listener: str
    method: str
    path: str
    target: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes = attrs.field(default=b"", repr=False)
    status: int | None = None
    sent: int = 0
    at: float = 0.0
    connection: int = 0


@attrs.frozen(kw_only=True)
class Call:
    """
    A request on its way to a handler: what was :class:`Seen`, and what the route made of it.

    Args:
        seen: The request as it arrived.
        vars: The named parts of the path, decoded.
        headers: The headers the handler goes by (a fault may have taken some away).
    """

    seen: Seen
    vars: Mapping[str, str] = attrs.field(factory=dict)
    headers: Mapping[str, str] = attrs.field(factory=dict)

    @property
    def query(self) -> Mapping[str, str]:
        """The decoded query."""
        return self.seen.query

    @property
    def body(self) -> bytes:
        """The body as sent."""
        return self.seen.body

    def values(self, name: str) -> list[str]:
        """Give every value of a query parameter, in order."""
        many: Any = self.seen.query
        found: list[str] = many.getall(name, [])
        return found

    def json(self) -> Any:
        """
        Parse the body as JSON; an empty one gives None.

        Raises:
            ValueError: It is not JSON.
        """
        return json.loads(self.body) if self.body.strip() else None

    def parts(self) -> list[Part]:
        """Split a multipart body; anything else gives an empty list."""
        found = re.search(r'boundary="?([^";,]+)"?', self.headers.get("Content-Type", ""))
        if found is None:
            return []
        fence = b"--" + found[1].encode("latin-1")
        pieces = (b"\r\n" + self.body).split(b"\r\n" + fence)
        return [_read_part(piece) for piece in pieces[1:] if not piece.startswith(b"--")]


def _pairs(given: Mapping[str, str] | Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Take headers as a mapping or as pairs."""
    return tuple(given.items() if isinstance(given, Mapping) else given)


@attrs.frozen(kw_only=True)
class Reply:
    """What a handler answers: status, headers and a body, as bytes or as :class:`Content`."""

    status: int = 200
    headers: tuple[tuple[str, str], ...] = attrs.field(default=(), converter=_pairs)
    body: bytes | Content = attrs.field(default=b"", repr=False)

    @classmethod
    def json(cls, payload: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
        """Answer with JSON."""
        kind = {"Content-Type": "application/json;charset=UTF-8", **(headers or {})}
        return cls(status=status, headers=kind, body=json.dumps(payload).encode())

    def adding(self, headers: Mapping[str, str | None]) -> Reply:
        """Give the same reply with headers added or replaced; a value None takes one away."""
        touched = {name.lower() for name in headers}
        kept = tuple((name, value) for name, value in self.headers if name.lower() not in touched)
        new = tuple((name, value) for name, value in headers.items() if value is not None)
        return attrs.evolve(self, headers=kept + new)


class Refusal(Exception):  # noqa: N818 - it is an answer of the service, not a failure of ours
    """Raised by a handler to answer at once with ``reply``."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(f"answered with {reply.status}")
        #: The answer.
        self.reply = reply


@attrs.frozen
class Route:
    """
    One row of a service's table.

    Args:
        method: The HTTP method.
        template: The path, with named segments in braces: ``/v1/extracts/{extract}``.
        handler: What answers; it may raise :class:`Refusal`.
        listener: The port it is offered at; None for the first one.
    """

    method: str
    template: str
    handler: Callable[[Call], Reply]
    listener: str | None = None


@attrs.define
class _Plan:
    """An injected fault that waits for its requests."""

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
        clock: Gives the time in seconds since 1970; tests hand in one that jumps.
        sleep: Waits some seconds, for ``trickle``.
        case_blind: Whether paths are matched without regard to case.
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
        #: Every request, in the order they arrived.
        self.log: list[Seen] = []
        #: Requests that are being answered now, and the most there ever were at once, over all listeners.
        self.in_flight = 0
        self.max_in_flight = 0
        self._sleep = sleep
        self._wanted_port = port
        self._case_blind = case_blind
        self._ports: dict[str, int] = {}
        self._runners: list[web.ServerRunner] = []
        self._plans: list[_Plan] = []
        self._table: dict[tuple[str, int], list[tuple[Route, re.Pattern[str]]]] = {}
        self._closing: asyncio.Event | None = None
        self._stirred = asyncio.Event()

    # ------------------------------------------------------------------ what a simulator gives

    def routes(self) -> Iterable[Route]:
        """Give the table of the service."""
        return ()

    def admit(self, call: Call) -> None:
        """See every request first, faults or not: where a service meters."""

    def dress(self, call: Call, reply: Reply) -> Reply:  # noqa: ARG002 - for those who override it
        """Give the reply its common headers; not called for answers that a fault puts in the service's place."""
        return reply

    def befall(self, event: str, call: Call) -> None:
        """
        Let something happen to the service: ``"change"``, ``"expire_session"`` or ``"expire_links"``.

        Raises:
            NotImplementedError: The service has nothing of the kind.
        """
        raise NotImplementedError(f"{type(self).__name__} has nothing that {event} could happen to.")

    def unknown(self, call: Call, *, other_method: bool) -> Reply:  # noqa: ARG002 - for those who override it
        """Answer a path the table does not have, or has with another method only."""
        return Reply(status=405 if other_method else 404)

    # ------------------------------------------------------------------ what a test uses

    def origin(self, listener: str | None = None) -> str:
        """Give ``http://127.0.0.1:<port>`` of a listener (the first one)."""
        name = listener or self.listeners[0]
        if name not in self._ports:
            raise RuntimeError(f"{type(self).__name__} is not running, so it has no port; enter it with `async with`.")
        return f"http://127.0.0.1:{self._ports[name]}"

    def seen(self, pattern: str = "*", *, listener: str | None = None) -> list[Seen]:
        """Give the logged requests whose ``METHOD path`` matches, for instance ``"GET */content"``."""
        return [one for one in self.log if _matches(one, pattern, listener)]

    def inject(
        self, fault: Fault, *, on: str = "*", times: int | None = 1, after: int = 0, listener: str | None = None
    ) -> None:
        """
        Let the next ``times`` requests that match ``on`` meet ``fault`` (None: until :meth:`clear`).

        Args:
            fault: One of :mod:`arena_async.testing.faults`.
            on: ``METHOD path`` with ``*`` and ``?`` as wildcards, without regard to case.
            times: How many requests; a request meets one fault at most, the one injected first.
            after: How many matching requests stay unharmed before.
            listener: Only requests to this port.
        """
        self._plans.append(_Plan(fault=fault, pattern=on, times=times, after=after, listener=listener))

    def clear(self) -> None:
        """Forget the log and every fault that is still waiting. The world of the service stays as it is."""
        self.log.clear()
        self._plans.clear()
        self.max_in_flight = self.in_flight

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until ``condition()`` holds; it is looked at whenever a request arrives or is done with."""
        while not condition():
            await self._stirred.wait()

    def _stir(self) -> None:
        """Let those who wait for a condition look at it again."""
        self._stirred.set()
        self._stirred = asyncio.Event()

    # ------------------------------------------------------------------ life

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
        """Close the ports and every connection, whatever is under way. Safe to call twice."""
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
        """Open one port and give its number."""

        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            return await self._serve(name, request)

        server = web.Server(answer, access_log=None, handler_cancellation=True)
        runner = web.ServerRunner(server, shutdown_timeout=0.2)
        await runner.setup()
        self._runners.append(runner)
        await web.TCPSite(runner, "127.0.0.1", port, backlog=1024).start()
        return int(runner.addresses[0][1])

    # ------------------------------------------------------------------ one request

    async def _serve(self, listener: str, request: web.BaseRequest) -> web.StreamResponse:
        """Log a request, find out what becomes of it, and see to it."""
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        try:
            seen = await self._read(listener, request)
            place = len(self.log)
            self.log.append(seen)
            call = Call(seen=seen, headers=seen.headers)
            self.admit(call)
            self._stir()
            return await self._respond(request, call, self._next_fault(seen), _Entry(self.log, place, seen))
        except ConnectionResetError:
            return _hang_up(request)  # the client left in the middle, as clients do: nobody is to be told
        finally:
            self.in_flight -= 1
            self._stir()

    async def _read(self, listener: str, request: web.BaseRequest) -> Seen:
        """Take a request off the wire."""
        body = bytearray()
        async for piece in request.content.iter_any():
            body += piece
            if len(body) > _MAX_REQUEST:
                raise web.HTTPRequestEntityTooLarge(max_size=_MAX_REQUEST, actual_size=len(body))
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
        """Take the first waiting fault that this request meets."""
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

    async def _respond(
        self, request: web.BaseRequest, call: Call, fault: Fault | None, entry: _Entry
    ) -> web.StreamResponse:
        """Let the fault have its way before, instead of and after the handler."""
        fault = fault or Fault(name="none")
        if fault.until is not None:
            await fault.until.wait()
        if fault.silence == "close":
            return _hang_up(request)
        if fault.silence == "hang":
            await self._until_closed()
            return _hang_up(request)
        if fault.answer is not None:
            status, headers, body = fault.answer
            return await self._send(request, Reply(status=status, headers=headers, body=body), fault, entry)
        if fault.event is not None:
            self.befall(fault.event, self._routed(call)[1])
        reply = self._answer(_without_range(call) if fault.without_range else call)
        if fault.silence == "close_after":
            return _hang_up(request)
        return await self._send(request, reply.adding(dict(fault.headers)), fault, entry)

    def _routed(self, call: Call) -> tuple[Route | None, Call]:
        """Find the row of the table for a request, and name the parts of its path."""
        path = call.seen.target.partition("?")[0]
        key = (call.seen.listener, path.count("/"))
        for route, pattern in self._table.get(key, ()):
            found = pattern.fullmatch(path)
            if found is not None and route.method == call.seen.method:
                return route, attrs.evolve(call, vars={name: unquote(text) for name, text in found.groupdict().items()})
        return None, call

    def _answer(self, call: Call) -> Reply:
        """Ask the service."""
        route, call = self._routed(call)
        try:
            if route is None:
                path = call.seen.target.partition("?")[0]
                rows = self._table.get((call.seen.listener, path.count("/")), ())
                reply = self.unknown(call, other_method=any(pattern.fullmatch(path) for _, pattern in rows))
            else:
                reply = route.handler(call)
        except Refusal as refusal:
            reply = refusal.reply
        return self.dress(call, reply)

    async def _until_closed(self) -> None:
        """Wait until the service is closed; a client that leaves ends the wait too."""
        if self._closing is not None:
            await self._closing.wait()

    # ------------------------------------------------------------------ one answer

    async def _send(self, request: web.BaseRequest, reply: Reply, fault: Fault, entry: _Entry) -> web.StreamResponse:
        """Write an answer as the fault has it."""
        content = reply.body if isinstance(reply.body, Content) else _Bytes(reply.body)
        size = content.size if fault.cut_to is None else min(fault.cut_to, content.size)
        pieces = _flipped(content.chunks(0, size), fault.flip)
        stop = size if fault.stop_after is None else min(fault.stop_after, size)
        entry.set(status=reply.status)
        if fault.framing == "none":
            return await self._send_unannounced(request, reply, _first(pieces, stop), entry)
        response = web.StreamResponse(status=reply.status)
        response.headers.extend(reply.headers)
        if fault.framing == "chunked":
            response.enable_chunked_encoding()
        else:
            response.content_length = size if fault.announced is None else fault.announced
        await response.prepare(request)
        if request.method == "HEAD":
            return response
        await self._write(request, response, _first(pieces, stop), fault, entry)
        if fault.stop_after is not None:
            return await self._end_early(request, response, fault)
        if fault.announced is not None:
            await _flushed(request)
            _close(request)
        return response

    async def _write(
        self,
        request: web.BaseRequest,
        response: web.StreamResponse,
        pieces: Iterator[bytes],
        fault: Fault,
        entry: _Entry,
    ) -> None:
        """Write the pieces, at the rate and beyond the length that the fault asks for."""
        room = fault.announced
        step = None if fault.rate is None else max(1, int(fault.rate / _TICKS_A_SECOND))
        for piece in pieces if step is None else _split(pieces, step):
            inside = piece if room is None else piece[:room]
            if inside:
                await response.write(inside)
            if len(inside) < len(piece) and request.transport is not None:
                request.transport.write(piece[len(inside) :])
            room = None if room is None else room - len(inside)
            entry.add(len(piece))
            if fault.rate is not None:
                await self._sleep(len(piece) / fault.rate)

    async def _end_early(
        self, request: web.BaseRequest, response: web.StreamResponse, fault: Fault
    ) -> web.StreamResponse:
        """End a body before its end."""
        if fault.ending == "stall":
            await self._until_closed()
        if fault.framing == "chunked" and request.transport is not None:
            request.transport.write(b"400\r\nthis chunk says it is longer")
        await _flushed(request)
        if fault.ending == "reset":
            _reset(request)
        else:
            _close(request)
        return response

    async def _send_unannounced(
        self, request: web.BaseRequest, reply: Reply, pieces: Iterator[bytes], entry: _Entry
    ) -> web.StreamResponse:
        """Write an answer whose end is the end of the connection."""
        transport = request.transport
        if transport is None:
            return web.Response()
        head = "".join(f"{name}: {value}\r\n" for name, value in reply.headers)
        transport.write(f"HTTP/1.1 {reply.status} \r\n{head}Connection: close\r\n\r\n".encode("latin-1"))
        for piece in pieces:
            transport.write(piece)
            entry.add(len(piece))
            await _flushed(request)
        return _hang_up(request)


class _Entry:
    """The line of the log that belongs to a request under way."""

    def __init__(self, log: list[Seen], place: int, seen: Seen) -> None:
        self._log, self._place, self._seen = log, place, seen

    def set(self, **changes: Any) -> None:
        """Write down what became of it, unless the log was cleared meanwhile."""
        before, self._seen = self._seen, attrs.evolve(self._seen, **changes)
        if self._place < len(self._log) and self._log[self._place] is before:
            self._log[self._place] = self._seen

    def add(self, count: int) -> None:
        """Count bytes of the answer."""
        self.set(sent=self._seen.sent + count)


@attrs.frozen
class _Bytes:
    """Bytes in memory as :class:`Content`."""

    body: bytes

    @property
    def size(self) -> int:
        return len(self.body)

    def chunks(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        end = len(self.body) if stop is None else min(stop, len(self.body))
        for place in range(start, end, _PIECE):
            yield self.body[place : min(place + _PIECE, end)]


@attrs.frozen
class _Slice:
    """A part of some content."""

    whole: Content
    start: int
    stop: int

    @property
    def size(self) -> int:
        return self.stop - self.start

    def chunks(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        end = self.stop if stop is None else min(self.start + stop, self.stop)
        yield from self.whole.chunks(self.start + start, end)


def give_content(
    call: Call,
    content: Content,
    *,
    etag: str | None = None,
    ranges: bool = False,
    headers: Mapping[str, str] | None = None,
) -> Reply:
    """
    Answer with a file.

    Args:
        call: The request.
        content: The bytes.
        etag: The validator, quotes included; None for none (then ``If-Match`` means nothing to the service).
        ranges: Whether a single ``Range`` is honoured (206, 416) or overlooked (200, as HTTP allows).
        headers: More headers of the answer.
    """
    given = {"Content-Type": "application/octet-stream", **(headers or {})}
    if etag is not None:
        given["ETag"] = etag
        wanted = call.headers.get("If-Match")
        if wanted is not None and wanted.strip() != "*" and etag not in [one.strip() for one in wanted.split(",")]:
            return Reply(status=412, headers=given)
    if ranges:
        given["Accept-Ranges"] = "bytes"
    if_range = call.headers.get("If-Range")
    requested = _read_range(call.headers.get("Range"), content.size) if ranges and if_range in (None, etag) else None
    if requested is None:
        return Reply(headers=given, body=content)
    start, stop = requested
    if start >= stop:
        return Reply(status=416, headers={**given, "Content-Range": f"bytes */{content.size}"})
    given["Content-Range"] = f"bytes {start}-{stop - 1}/{content.size}"
    return Reply(status=206, headers=given, body=_Slice(content, start, stop))


def _read_range(text: str | None, size: int) -> tuple[int, int] | None:
    """Read ``bytes=first-last`` as a half-open span; None for none, for several and for what is no range."""
    found = re.fullmatch(r"bytes=(\d*)-(\d*)", (text or "").strip())
    if found is None or found[0] == "bytes=-":
        return None
    if not found[1]:
        return max(0, size - int(found[2])), size
    start = int(found[1])
    stop = size if not found[2] else min(int(found[2]) + 1, size)
    if found[2] and int(found[2]) < start:
        return None
    return (start, stop) if start < size else (size, size)


def _read_part(piece: bytes) -> Part:
    """Read one part of a multipart body."""
    head, _, body = piece.partition(b"\r\n\r\n")
    lines = head.decode("utf-8", "replace").split("\r\n")
    fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    where = fields.get("content-disposition", "")
    name = re.search(r'[; ]name="([^"]*)"', where)
    file = re.search(r'filename="([^"]*)"', where)
    return Part(
        name=name[1] if name else "",
        body=body,
        filename=file[1] if file else None,
        content_type=fields.get("content-type"),
    )


def _index(
    routes: Iterable[Route], first: str, *, case_blind: bool
) -> dict[tuple[str, int], list[tuple[Route, re.Pattern[str]]]]:
    """Arrange the table by listener and number of segments, each row with its pattern."""
    table: dict[tuple[str, int], list[tuple[Route, re.Pattern[str]]]] = {}
    for route in routes:
        literal = re.split(r"\{(\w+)\}", route.template)
        text = "".join(f"(?P<{part}>[^/]+)" if place % 2 else re.escape(part) for place, part in enumerate(literal))
        pattern = re.compile(text, re.IGNORECASE if case_blind else 0)
        table.setdefault((route.listener or first, route.template.count("/")), []).append((route, pattern))
    return table


def _matches(seen: Seen, pattern: str, listener: str | None) -> bool:
    """Tell whether a request is meant by ``METHOD path`` with wildcards."""
    if listener is not None and seen.listener != listener:
        return False
    return fnmatchcase(f"{seen.method} {seen.path}".lower(), pattern.lower())


def _without_range(call: Call) -> Call:
    """Take ``Range`` and ``If-Range`` away from a request."""
    left: Any = call.headers
    kept = left.copy()
    for name in ("Range", "If-Range"):
        kept.pop(name, None)
    return attrs.evolve(call, headers=kept)


def _first(pieces: Iterator[bytes], count: int) -> Iterator[bytes]:
    """Give the first ``count`` bytes."""
    for piece in pieces:
        if count <= 0:
            return
        yield piece[:count]
        count -= len(piece)


def _flipped(pieces: Iterator[bytes], at: int | None) -> Iterator[bytes]:
    """Change the byte at ``at``."""
    place = 0
    for piece in pieces:
        if at is not None and place <= at < place + len(piece):
            inside = at - place
            yield piece[:inside] + bytes([piece[inside] ^ 0xFF]) + piece[inside + 1 :]
        else:
            yield piece
        place += len(piece)


def _split(pieces: Iterator[bytes], step: int) -> Iterator[bytes]:
    """Cut the pieces into small ones."""
    for piece in pieces:
        for place in range(0, len(piece), step):
            yield piece[place : place + step]


def _port_of(request: web.BaseRequest) -> int:
    """Give the port the client speaks from."""
    peer = None if request.transport is None else request.transport.get_extra_info("peername")
    return int(peer[1]) if peer else 0


def _hang_up(request: web.BaseRequest) -> web.StreamResponse:
    """Close the connection; what is returned is never written, because it is closed."""
    _close(request)
    return web.Response()


def _close(request: web.BaseRequest) -> None:
    """Close the connection in order, after what was written."""
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
    """Wait until all that was written has left for the network, or the client is gone."""
    transport = request.transport
    while isinstance(transport, asyncio.WriteTransport) and not transport.is_closing():
        if transport.get_write_buffer_size() == 0:
            return
        await asyncio.sleep(0.001)
