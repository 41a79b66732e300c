"""What lies below HTTP: certificates for a test, and a wire that breaks on order whatever is spoken over it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import Iterable
from datetime import datetime
from typing import Literal, Self

import trustme

__all__ = ["Wire", "serving", "trusting"]

Fault = Literal["reset"] | int | None


def serving(authority: trustme.CA, name: str = "localhost", *, ends: datetime | None = None) -> ssl.SSLContext:
    """Make the context of a server with a certificate for ``name`` that ends at ``ends``."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name, not_after=ends).configure_cert(context)
    return context


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    """Make the context of a client that trusts an authority."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


class Wire:
    """
    A forwarder on a port of its own, in front of a server on 127.0.0.1.

    Args:
        port: The server's.
        faults: One for each connection, in order, then none: ``"reset"`` ends it with RST when the client has said
            something; a number ends it with FIN, and without any goodbye of TLS, after so many bytes of the server.
    """

    def __init__(self, port: int, faults: Iterable[Fault] = ()) -> None:
        self.connections = 0
        self.port = 0
        self._behind = port
        self._faults = list(faults)
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        fault = self._faults.pop(0) if self._faults else None
        task = asyncio.create_task(self._forward(reader, writer, fault), name="wire")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, fault: Fault) -> None:
        if fault == "reset":
            await reader.read(1)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
            return
        behind, ahead = await asyncio.open_connection("127.0.0.1", self._behind)
        up = asyncio.create_task(_copy(reader, ahead), name="wire up")
        try:
            await _copy(behind, writer, maximum=fault if isinstance(fault, int) else None)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        finally:
            up.cancel()
            await asyncio.gather(up, return_exceptions=True)
            for end in (ahead, writer):
                end.transport.abort()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, maximum: int | None = None) -> None:
    """Pass bytes on until one side ends, or ``maximum`` of them have passed."""
    passed = 0
    with contextlib.suppress(OSError):
        while piece := await reader.read(65_536 if maximum is None else min(65_536, maximum - passed)):
            passed += len(piece)
            writer.write(piece)
            await writer.drain()
