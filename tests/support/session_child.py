"""
A process that asks a service for one thing, with a session that it shares with its siblings.

``python session_child.py '{"base_url": ..., "store": ..., "extract": ..., "times": 3}'`` prints one line when it has
asked, waits for a line on stdin, asks once more and ends.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from arena_async.errors import ArenaAsyncError
from arena_async.options import RetryPolicy
from arena_async.providers.arena import ArenaClient, ArenaCredentials

__all__: list[str] = []


async def _main(settings: dict[str, Any]) -> None:
    client = ArenaClient(
        ArenaCredentials(settings["email"], settings["password"]),
        base_url=settings["base_url"],
        workspace_id=settings["workspace_id"],
        session_store=settings["store"],
        retry=RetryPolicy(wait_initial=0, wait_jitter=0),
    )
    async with client as arena:
        await _request(arena, settings["extract"], settings.get("times", 1))
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        await _request(arena, settings["extract"], 1)


async def _request(arena: ArenaClient, extract: str, times: int) -> None:
    try:
        for _ in range(times):
            await arena.extracts.get(extract)
    except ArenaAsyncError as error:
        print(type(error).__name__, str(error), flush=True)  # noqa: T201 - the parent reads it
    else:
        print("ok", flush=True)  # noqa: T201


if __name__ == "__main__":
    asyncio.run(_main(json.loads(sys.argv[1])))
