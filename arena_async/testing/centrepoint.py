"""The CentrePoint simulator with a client that is ready to use."""

from __future__ import annotations

from typing import Any

from arena_async.providers.centrepoint import CentrePointClient, CentrePointCredentials
from arena_async.providers.centrepoint.simulator import CentrePointSimulator as Served

__all__ = ["CentrePointSimulator"]


class CentrePointSimulator(Served):
    """A local CentrePoint; see :class:`arena_async.providers.centrepoint.simulator.CentrePointSimulator`."""

    def client(self, **options: Any) -> CentrePointClient:
        """
        Make a client for this simulator and its credentials; it asks for a token with the first request.

        ``options`` are those of :class:`~arena_async.providers.centrepoint.CentrePointClient`; ``credentials`` replaces
        the ones of the simulator.
        """
        credentials = options.pop("credentials", None) or CentrePointCredentials(self.client_id, self.client_secret)
        return CentrePointClient(credentials, **{"base_url": self.base_url, "auth_url": self.auth_url, **options})
