"""
Fixtures for pytest: ``arena_simulator`` and ``centrepoint_simulator``, each running for the length of one test.

They belong to ``pytest-asyncio`` where it is installed (strict and auto mode alike), else to whatever runs plain
asynchronous fixtures, such as anyio's plugin. They live in the event loop of the test, so tests and fixtures need the
same loop scope, which is the default. Nothing but pytest is imported before a test uses one of them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest

from arena_async import testing

if TYPE_CHECKING:
    from arena_async.testing.arena import ArenaSimulator
    from arena_async.testing.centrepoint import CentrePointSimulator

__all__ = ["arena_simulator", "centrepoint_simulator"]


def _fixture(function: Any) -> Any:
    """Register an asynchronous fixture with the plugin that will run it."""
    try:
        fixture = import_module("pytest_asyncio").fixture
    except ImportError:
        fixture = pytest.fixture
    return fixture(function)


@_fixture
async def arena_simulator() -> AsyncIterator[ArenaSimulator]:
    """Return a running Arena simulator with its default content; ``.client()`` is ready to use."""
    kind: type[ArenaSimulator] = testing.ArenaSimulator
    async with kind() as simulator:
        yield simulator


@_fixture
async def centrepoint_simulator() -> AsyncIterator[CentrePointSimulator]:
    """Return a running CentrePoint simulator with its default content; ``.client()`` is ready to use."""
    kind: type[CentrePointSimulator] = testing.CentrePointSimulator
    async with kind() as simulator:
        yield simulator
