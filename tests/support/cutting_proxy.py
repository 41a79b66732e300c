"""A door before a server that closes in the middle of what goes through: bytes as they are, TLS or not."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Self
from urllib.parse import urlsplit

__all__ = ["CuttingDoor"]


class CuttingDoor:
    """
    Takes connections on a port of its own and hands them on; an async context manager.

    Args:
        origin: The server behind it, ``https://127.0.0.1:8443`` for instance.
    """

    def __init__(self, origin: str) -> None:
        parts = urlsplit(origin)
        self._scheme = parts.scheme
        self._host, self._port = parts.hostname, parts.port
        self._server: asyncio.Server | None = None
        self._open: dict[asyncio.StreamWriter, asyncio.Task[None] | None] = {}
        #: After how many bytes from the server each of the next connections is cut; what is not in it is not cut.
        self.cuts: list[int] = []

    @property
    def origin(self) -> str:
        """Where it listens."""
        assert self._server is not None
        return f"{self._scheme}://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._take, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        tasks = [task for task in self._open.values() if task is not None]
        for writer in list(self._open):
            writer.transport.abort()
        await asyncio.gather(*tasks)
        await self._server.wait_closed()

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Hand one connection on until either side ends it."""
        self._open[writer] = asyncio.current_task()
        cut = self.cuts.pop(0) if self.cuts else None
        upstream, there = await asyncio.open_connection(self._host, self._port)
        ways = [asyncio.create_task(_pass(reader, there)), asyncio.create_task(_pass(upstream, writer, cut))]
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        for end in (there, writer):
            end.transport.abort()
            with contextlib.suppress(OSError):
                await end.wait_closed()
        del self._open[writer]


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, maximum: int | None = None) -> None:
    """Pass on what one side says, up to so many bytes."""
    passed = 0
    while maximum is None or passed < maximum:
        piece = await reader.read(65_536)
        if not piece:
            return
        writer.write(piece)
        await writer.drain()
        passed += len(piece)
