"""A tiny HTTP speaker over bare streams: it says what arrived and how it ended, and forgives nothing by itself."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import urlsplit

import attrs

__all__ = ["Answer", "ask"]

Ending = Literal["whole", "cut", "reset", "silent", "open"]


@attrs.frozen(kw_only=True)
class Answer:
    """
    What came back.

    Args:
        status: The status; 0 when not even a head came.
        headers: The headers, names in lower case.
        body: The bytes of the body that arrived, unframed.
        ending: ``whole``; ``cut`` (closed before the announced end); ``reset``; ``silent`` (nothing more came within
            the patience, the connection is still open); ``open`` (the end of the connection is the end, and it came).
    """

    status: int = 0
    headers: Mapping[str, str] = attrs.field(factory=dict)
    body: bytes = b""
    ending: Ending = "whole"

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def code(self) -> int:
        """The number of the first error in the body."""
        code: int = self.json["errors"][0]["code"]
        return code


async def ask(
    url: str,
    method: str = "GET",
    *,
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
    patience: float = 5.0,
) -> Answer:
    """Send one request on a connection of its own and read until the answer ends, one way or another."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    given = {"Host": parts.netloc, "Content-Length": str(len(body)), "Connection": "close", **(headers or {})}
    lines = "".join(f"{name}: {value}\r\n" for name, value in given.items())
    try:
        writer.write(f"{method} {target} HTTP/1.1\r\n{lines}\r\n".encode("latin-1") + body)
        return await _read(reader, patience)
    finally:
        writer.transport.abort()
        with _Quiet():
            await writer.wait_closed()


class _Quiet:
    """Overlook that the other side has hung up already."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        return kind is not None and issubclass(kind, OSError)


async def _read(reader: asyncio.StreamReader, patience: float) -> Answer:
    """Read head and body."""
    try:
        async with asyncio.timeout(patience):
            head = await reader.readuntil(b"\r\n\r\n")
    except TimeoutError:
        return Answer(ending="silent")
    except asyncio.IncompleteReadError:
        return Answer(ending="cut")
    except ConnectionError:
        return Answer(ending="reset")
    first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    got = bytearray()
    ending = await _read_body(reader, headers, got, patience)
    return Answer(status=int(first.split(" ")[1]), headers=headers, body=bytes(got), ending=ending)


async def _read_body(
    reader: asyncio.StreamReader, headers: Mapping[str, str], got: bytearray, patience: float
) -> Ending:
    """Read a body in any framing; what came before it broke is kept."""
    try:
        async with asyncio.timeout(patience):
            if headers.get("transfer-encoding") == "chunked":
                while size := int(await reader.readuntil(b"\r\n"), 16):
                    await _take(reader, size, got)
                    await reader.readexactly(2)
                await reader.readuntil(b"\r\n")
                return "whole"
            if "content-length" in headers:
                await _take(reader, int(headers["content-length"]), got)
                return "whole"
            while piece := await reader.read(65536):
                got += piece
    except TimeoutError:
        return "silent"
    except asyncio.IncompleteReadError:
        return "cut"
    except ConnectionError:
        return "reset"
    return "open"


async def _take(reader: asyncio.StreamReader, count: int, got: bytearray) -> None:
    """Read exactly so many bytes, piece by piece."""
    while count:
        piece = await reader.read(min(count, 65536))
        if not piece:
            raise asyncio.IncompleteReadError(b"", count)
        got += piece
        count -= len(piece)
