"""
One client for the lifetime of a service, shared by all its requests.

The function ``lifespan`` fits FastAPI, Starlette and every framework with ASGI lifespans:

    app = FastAPI(lifespan=lifespan)

    @app.get("/extracts")
    async def names(request: Request) -> list[str]:
        return await extract_names(request.state.arena)
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypedDict

from arena_async import ArenaClient


class State(TypedDict):
    """The attributes of ``request.state``."""

    arena: ArenaClient


@asynccontextmanager
async def lifespan(app: object) -> AsyncIterator[State]:
    """Log in with the first request, log out when the service ends."""
    del app
    async with ArenaClient.from_env() as arena:
        yield {"arena": arena}


async def extract_names(arena: ArenaClient) -> list[str]:
    """Return the names of the enabled data extracts. Any number of requests may call it at once."""
    return [extract.name or extract.guid async for extract in arena.extracts.search(enabled=True)]


async def main() -> None:
    """Enter the lifespan as a framework does, and handle three requests at once."""
    async with lifespan(None) as state:
        responses = await asyncio.gather(*(extract_names(state["arena"]) for _ in range(3)))
    print(responses[0])


if __name__ == "__main__":
    asyncio.run(main())
