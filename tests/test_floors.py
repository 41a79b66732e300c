"""Why the oldest releases that pyproject.toml allows are those and no older ones."""

from __future__ import annotations

import asyncio
from unittest.mock import Mock

from aiohttp.client_proto import ResponseHandler

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 600000\r\n\r\n"


async def test_a_body_that_ended_while_the_reader_was_paused_is_whole() -> None:
    """
    Every byte that came is read, also where the last of them filled the buffer and the connection ended then.

    aiohttp 3.14.0 to 3.14.3 report such a body as cut off (its issue 13348). It happens over TLS, where the goodbye can
    come together with the last bytes; which bodies it hits depends on how the pieces arrive, so they are dealt by hand.
    """
    reader = ResponseHandler(asyncio.get_running_loop())
    reader.connection_made(Mock(spec=asyncio.Transport))
    reader.set_response_params(read_bufsize=2**18)

    reader.data_received(HEAD + b"x" * 262_000)
    reader.data_received(b"x" * 262_000)
    reader.data_received(b"x" * 76_000)
    reader.connection_lost(None)
    _, content = await reader.read()

    assert len(await content.read()) == 600_000
