"""What several tests of the Arena client ask for."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from faketime import FakeTime

from arena_async.testing import ArenaSimulator


@pytest.fixture
def time() -> FakeTime:
    """Give a clock that only sleeping moves."""
    return FakeTime()


@pytest.fixture
async def simulator(time: FakeTime) -> AsyncIterator[ArenaSimulator]:
    """Give an Arena on that clock whose runs take a minute."""
    async with ArenaSimulator(clock=time, run_seconds=60) as running:
        yield running
