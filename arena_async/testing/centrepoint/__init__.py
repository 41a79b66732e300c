"""The CentrePoint simulator: a local CentrePoint, and a client for it that is ready to use."""

from __future__ import annotations

from arena_async.testing.centrepoint.simulator import CentrePointClientOptions, CentrePointSimulator

__all__ = ["CentrePointClientOptions", "CentrePointSimulator"]
