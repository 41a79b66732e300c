"""
A process that uses clients where they must not be used, and prints one line of JSON for each try.

``python misuse_child.py '{"base_url": ..., "password": ...}'``
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from typing import Any

from inherited import take_over

from arena_async.protocol.messages import Request
from arena_async.providers.arena import ArenaClient, ArenaCredentials

THINGS = Request(method="GET", path="/things")


def _say(how: str, error: BaseException | None, seconds: float) -> None:
    line = {"how": how, "error": error and type(error).__name__, "message": str(error), "seconds": seconds}
    sys.stdout.write(f"{json.dumps(line)}\n")
    sys.stdout.flush()


async def _try(how: str, client: ArenaClient) -> None:
    """Send a request and print what came of it, within ten seconds."""
    began, error = time.monotonic(), None
    try:
        async with asyncio.timeout(10):
            await client.session.send(THINGS)
    except Exception as caught:  # noqa: BLE001 - whatever it is, the parent judges it
        error = caught
    _say(how, error, time.monotonic() - began)


def _in_a_fork(work: Any) -> None:
    """Do something in a child, and wait for it."""
    child = os.fork()
    if not child:
        try:
            work()
        finally:
            os._exit(0)
    os.waitpid(child, 0)


async def _fork(client: ArenaClient) -> None:
    await client.session.send(THINGS)

    def same_loop() -> None:
        # The loop that seems to run is the parent's, so nothing can be waited for: it is refused before the first wait.
        began, error = time.monotonic(), None
        try:
            client.session.send(THINGS).send(None)
        except BaseException as caught:  # noqa: BLE001 - as above
            error = caught
        _say("forked, same loop", error, time.monotonic() - began)

    _in_a_fork(same_loop)

    def own_loop() -> None:
        asyncio._set_running_loop(None)
        asyncio.run(_try("forked, own loop", client))

    _in_a_fork(own_loop)
    await _try("parent goes on", client)
    await client.aclose()


def main(settings: dict[str, Any]) -> None:
    """Try a second loop, then a fork."""

    def client(name: str) -> ArenaClient:
        credentials = ArenaCredentials(f"{name}@example.com", settings["password"])
        return ArenaClient(credentials, base_url=settings["base_url"])

    wanderer = client("wanderer")

    async def first_call() -> None:
        await wanderer.session.send(THINGS)

    asyncio.run(first_call())
    asyncio.run(_try("second loop", wanderer))
    booked = wanderer.session.requests_sent
    if hasattr(os, "fork"):
        forked = client("forked")
        asyncio.run(_fork(forked))
        booked += forked.session.requests_sent
    sys.stdout.write(f"{json.dumps({'booked': booked})}\n")


if __name__ == "__main__":
    take_over()
    main(json.loads(sys.argv[1]))
