"""
A raw HTTP server that does on order what the world does: cut, reset, stall, lie about lengths, or keep silent.

It speaks over asyncio streams, so the client's own parser and sockets take part, and nothing tidies up what a test
sends::

    async with RawServer() as server:
        server.on("GET", "/pages", json_reply({"count": 0}), reply(503))     # the last reply repeats
        server.on("GET", "/file", reply(body=b"x" * 100, cut=40, reset=True))
        server.on("POST", "/echo", lambda request: reply(body=request.body))
        ...
        assert [seen.line for seen in server.requests] == ["GET /pages?offset=0", ...]
"""

from __future__ import annotations

import asyncio
import contextlib
import fnmatch
import inspect
import json
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Any, Final, Literal, Self

import attrs

__all__ = ["Answer", "RawServer", "Reply", "Seen", "json_reply", "reply", "unused_port"]

#: Announce what the body really has.
RIGHT: Final = "right"
_LINGER_NONE = struct.pack("ii", 1, 0)


@attrs.frozen(kw_only=True)
class Seen:
    """
    One request as it came over the wire.

    Args:
        method: The method.
        target: The request target byte for byte, with its query.
        headers: Pairs in the order they came.
        body: The body, without chunk framing.
        connection: The number of the connection it came over, from 1.
    """

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes = b""
    connection: int = 0

    @property
    def line(self) -> str:
        """Method and target."""
        return f"{self.method} {self.target}"

    @property
    def path(self) -> str:
        """The target without its query, still encoded."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        """The query as sent, still encoded."""
        return self.target.partition("?")[2]

    def header(self, name: str) -> str | None:
        """Return the first value under ``name``, without regard to case, or None."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    @property
    def json(self) -> Any:
        """The body, parsed as JSON."""
        return json.loads(self.body)


@attrs.frozen(kw_only=True)
class Reply:
    """
    What to answer. Build it with :func:`reply` or :func:`json_reply`.

    Args:
        status: The status.
        headers: Pairs; framing and ``Connection`` are added unless they are among them.
        body: The body.
        length: What ``Content-Length`` says: ``"right"``, a number (a lie), or None for no such header.
        chunked: Chunked framing, in chunks of ``piece`` bytes.
        piece: Bytes of one chunk, and of one write when ``between`` is set.
        times: Send the body so many times over, so that it may be larger than memory.
        cut: Stop after so many bytes of the body and end the connection.
        reset: End it with RST where it is cut or closed, and not with FIN.
        stall: After the body, or the part up to ``cut``, send nothing more until the client ends the connection.
        mute: Read the request and close without a byte.
        close: Close after the answer and say so.
        before: Wait for this before the head.
        before_body: Wait for this between head and body.
        between: Called and awaited after each piece, for bodies that trickle.
        raw: Send exactly these bytes in the place of a head and a body.
        version: The version in the status line.
    """

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = attrs.field(default=b"", repr=False)
    length: int | Literal["right"] | None = RIGHT
    chunked: bool = False
    piece: int = 7001
    times: int = 1
    cut: int | None = None
    reset: bool = False
    stall: bool = False
    mute: bool = False
    close: bool = False
    before: asyncio.Event | None = None
    before_body: asyncio.Event | None = None
    between: Callable[[], Awaitable[object]] | None = None
    raw: bytes | None = None
    version: str = "HTTP/1.1"

    @property
    def ends_connection(self) -> bool:
        """Whether nothing more can follow on the connection."""
        return self.close or self.mute or self.cut is not None or (self.length is None and not self.chunked)

    def head(self) -> bytes:
        """Write the status line and the headers."""
        given = {name.lower() for name, _ in self.headers}
        pairs = list(self.headers)
        if self.chunked:
            pairs.append(("Transfer-Encoding", "chunked"))
        elif self.length is not None and "content-length" not in given and self.status not in (204, 304):
            length = len(self.body) * self.times if self.length == RIGHT else self.length
            pairs.append(("Content-Length", str(length)))
        if self.close and "connection" not in given:
            pairs.append(("Connection", "close"))
        lines = [f"{self.version} {self.status} Said", *(f"{name}: {value}" for name, value in pairs), "", ""]
        return "\r\n".join(lines).encode("latin-1")

    def pieces(self) -> Iterable[bytes]:
        """Cut what is to be sent of the body into pieces, chunk framing included."""
        body = self.body if self.cut is None else self.body[: self.cut]
        size = self.piece if self.chunked or self.between else max(len(body), 1)
        for at in (at for _ in range(self.times) for at in range(0, len(body), size)):
            part = body[at : at + size]
            yield b"%x\r\n%s\r\n" % (len(part), part) if self.chunked else part
        if self.chunked and self.cut is None and not self.stall:
            yield b"0\r\n\r\n"


Answer = Reply | Callable[[Seen], "Reply | Awaitable[Reply]"]


def reply(
    status: int = 200, *, body: bytes = b"", headers: Mapping[str, str] | Iterable[tuple[str, str]] = (), **how: Any
) -> Reply:
    """Build a :class:`Reply`; ``how`` takes its other fields."""
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    return Reply(status=status, body=body, headers=tuple(pairs), **how)


def json_reply(payload: Any, status: int = 200, *, headers: Mapping[str, str] | None = None, **how: Any) -> Reply:
    """Build a reply with a JSON body."""
    found = {"Content-Type": "application/json", **(headers or {})}
    return reply(status, body=json.dumps(payload).encode(), headers=found, **how)


def unused_port() -> int:
    """Return a port of 127.0.0.1 where nobody listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@attrs.define
class _Route:
    method: str
    path: str
    answers: list[Answer]

    def matches(self, seen: Seen) -> bool:
        if self.method not in ("*", seen.method):
            return False
        return self.path in (seen.target, seen.path) or fnmatch.fnmatchcase(seen.path, self.path)

    def take(self) -> Answer:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


class RawServer:
    """
    A server on a free port of 127.0.0.1 that answers what it was told to; anything else gets a 404.

    ``requests`` holds every request in the order it was read, ``connections`` counts the accepted ones, ``open`` those
    that are open now and ``max_open`` the most that ever were.
    """

    def __init__(self, *, ssl_context: ssl.SSLContext | None = None, host: str = "127.0.0.1", port: int = 0) -> None:
        self.requests: list[Seen] = []
        self.connections = 0
        self.max_open = 0
        self.port = port
        self._host = host
        self._ssl = ssl_context
        self._routes: list[_Route] = []
        self._server: asyncio.Server | None = None
        self._tasks: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._changed = asyncio.Condition()

    @property
    def base_url(self) -> str:
        """``http://127.0.0.1:port`` or ``https://localhost:port``, without a slash at the end."""
        return f"https://localhost:{self.port}" if self._ssl else f"http://{self._host}:{self.port}"

    @property
    def open(self) -> int:
        """Connections that are open now."""
        return len(self._tasks)

    def on(self, method: str, path: str, *answers: Answer) -> RawServer:
        """
        Answer requests for ``path`` with ``answers``, one after the other; the last one repeats.

        Args:
            method: The method, or ``"*"``.
            path: A path, a whole target with its query, or a pattern with ``*``. The newest match wins.
            answers: Replies, or callables that make one from the request.
        """
        self._routes.insert(0, _Route(method, path, list(answers)))
        return self

    def lines(self, pattern: str = "*") -> list[str]:
        """Return the lines (``"GET /path?query"``) of the requests so far that match ``pattern``."""
        return [seen.line for seen in self.requests if fnmatch.fnmatchcase(seen.line, pattern)]

    async def arrived(self, count: int, pattern: str = "*") -> None:
        """Wait until ``count`` requests that match ``pattern`` have been read; 20 seconds at the most."""
        async with asyncio.timeout(20), self._changed:
            await self._changed.wait_for(lambda: len(self.lines(pattern)) >= count)

    async def drained(self) -> None:
        """Wait until no connection is open any more; 20 seconds at the most."""
        async with asyncio.timeout(20), self._changed:
            await self._changed.wait_for(lambda: not self._tasks)

    async def hang_up(self) -> None:
        """End every open connection, idle ones included, and wait until that is done."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, self._host, self.port, ssl=self._ssl, limit=1 << 20)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        await self.hang_up()
        await self._server.wait_closed()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.create_task(self._serve(reader, writer, self.connections), name="scripted connection")
        self._tasks[task] = writer
        self.max_open = max(self.max_open, len(self._tasks))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                while await self._exchange(reader, writer, number):
                    pass
        finally:
            writer.close()
            task = asyncio.current_task()
            assert task is not None
            del self._tasks[task]
            # Over TLS, a peer that does not answer the end of the stream must not keep us.
            _abort(writer.transport, tries=0 if self._ssl else 20)
            with contextlib.suppress(OSError, asyncio.CancelledError, TimeoutError):
                async with asyncio.timeout(1):
                    await writer.wait_closed()
            async with self._changed:
                self._changed.notify_all()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> bool:
        """Play one request and its answer; say whether the connection goes on."""
        seen = await _read_request(reader, number)
        self.requests.append(seen)
        async with self._changed:
            self._changed.notify_all()
        route = next((route for route in self._routes if route.matches(seen)), None)
        answer: Any = route.take() if route else reply(404)
        if callable(answer):
            answer = answer(seen)
            answer = await answer if inspect.isawaitable(answer) else answer
        await _play(answer, seen, writer)
        if answer.stall:
            await reader.read()
            return False
        return not answer.ends_connection and (seen.header("Connection") or "").lower() != "close"


def _abort(transport: asyncio.WriteTransport, *, tries: int) -> None:
    """End a connection that was closed, as soon as a slow reader has what it was sent."""
    loop = asyncio.get_running_loop()
    if tries and transport.get_write_buffer_size():
        loop.call_later(0.05, partial(_abort, transport, tries=tries - 1))
    else:
        loop.call_later(0.05, transport.abort)


async def _read_request(reader: asyncio.StreamReader, number: int) -> Seen:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.rstrip("\r\n").split("\r\n")
    method, target, _ = first.split(" ", 2)
    pairs = tuple((name, value.strip()) for name, _, value in (line.partition(":") for line in lines))
    seen = Seen(method=method, target=target, headers=pairs, connection=number)
    if (seen.header("Transfer-Encoding") or "").lower() == "chunked":
        return attrs.evolve(seen, body=await _read_chunks(reader))
    return attrs.evolve(seen, body=await reader.readexactly(int(seen.header("Content-Length") or 0)))


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while size := int(await reader.readuntil(b"\r\n"), 16):
        body += (await reader.readexactly(size + 2))[:-2]
    await reader.readuntil(b"\r\n")
    return body


async def _play(answer: Reply, seen: Seen, writer: asyncio.StreamWriter) -> None:
    if answer.before:
        await answer.before.wait()
    if answer.mute:
        _end(answer, writer)
        return
    writer.write(answer.head() if answer.raw is None else answer.raw)
    await writer.drain()
    if answer.before_body:
        await answer.before_body.wait()
    if seen.method != "HEAD" and answer.raw is None:
        for piece in answer.pieces():
            writer.write(piece)
            await writer.drain()
            if answer.between:
                await answer.between()
    if answer.ends_connection and not answer.stall:
        _end(answer, writer)


def _end(answer: Reply, writer: asyncio.StreamWriter) -> None:
    if not answer.reset:
        writer.close()
        return
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NONE)
    writer.transport.abort()
