"""What the tests of the network room share."""

from __future__ import annotations

import pytest
import roads

__all__ = ["road"]


@pytest.fixture(params=roads.BODY_READERS)
def road(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Let every body come by one road, then by the other."""
    chosen: str = request.param
    roads.narrow(chosen, monkeypatch)
    return chosen
