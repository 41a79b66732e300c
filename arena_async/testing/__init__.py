"""
Simulators for your own tests: local HTTP servers that respond as the services do, with injected faults.

::

    async with ArenaSimulator(files=3) as simulator:
        simulator.inject(faults.drop(after_bytes=1000), on="GET */content")
        async with simulator.client() as arena:
            ...

With pytest the fixtures ``arena_simulator`` and ``centrepoint_simulator`` are there without an import.
Nothing heavy is imported before a name is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from arena_async.testing import faults
    from arena_async.testing.arena import ArenaSimulator
    from arena_async.testing.centrepoint import CentrePointSimulator

__all__ = ["ArenaSimulator", "CentrePointSimulator", "faults"]


def __getattr__(name: str) -> Any:
    """Import a public name on first use."""
    match name:
        case "ArenaSimulator":
            return import_module("arena_async.testing.arena").ArenaSimulator
        case "CentrePointSimulator":
            return import_module("arena_async.testing.centrepoint").CentrePointSimulator
        case "faults":
            return import_module("arena_async.testing.faults")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the public names, imported or not."""
    return sorted(__all__)
