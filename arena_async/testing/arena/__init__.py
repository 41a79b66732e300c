"""The Arena simulator: a local Arena, and a client for it that is ready to use."""

from __future__ import annotations

from arena_async.testing.arena.simulator import ArenaClientOptions, ArenaSimulator

__all__ = ["ArenaClientOptions", "ArenaSimulator"]
