"""What several tests of the Arena client ask for."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from arena_scripts import arena_client
from fake_clock import FakeTime
from scripted import RawServer

from arena_async.providers.arena import ArenaClient
from arena_async.testing import ArenaSimulator


@pytest.fixture
def time() -> FakeTime:
    """Return a clock that only sleeping moves."""
    return FakeTime()


@pytest.fixture
async def simulator(time: FakeTime) -> AsyncIterator[ArenaSimulator]:
    """Yield an Arena on that clock whose runs take a minute."""
    async with ArenaSimulator(clock=time, run_seconds=60) as running:
        yield running


@pytest.fixture
async def server() -> AsyncIterator[RawServer]:
    """Yield a server that knows nothing yet."""
    async with RawServer() as server:
        yield server


@pytest.fixture
async def arena(server: RawServer) -> AsyncIterator[ArenaClient]:
    """Yield a client of it."""
    async with arena_client(server) as arena:
        yield arena
