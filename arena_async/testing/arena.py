"""The Arena simulator with a client that is ready to use."""

from __future__ import annotations

from typing import Any

from arena_async.providers.arena import ArenaClient, ArenaCredentials
from arena_async.providers.arena.simulator import ArenaSimulator as Served

__all__ = ["ArenaSimulator"]


class ArenaSimulator(Served):
    """A local Arena; see :class:`arena_async.providers.arena.simulator.ArenaSimulator` for its settings."""

    def client(self, **options: Any) -> ArenaClient:
        """
        Make a client for this simulator, its user and its workspace; it logs in with the first request.

        ``options`` are those of :class:`~arena_async.providers.arena.ArenaClient`; ``credentials`` replaces the user.
        """
        credentials = options.pop("credentials", None) or ArenaCredentials(self.email, self.password)
        return ArenaClient(credentials, **{"base_url": self.base_url, "workspace_id": self.workspace_id, **options})
