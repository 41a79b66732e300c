"""What the tests of the network room share."""

from __future__ import annotations

import body_readers
import pytest

__all__ = ["body_reader"]


@pytest.fixture(params=body_readers.BODY_READERS)
def body_reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Read every body with one reader, then with the other."""
    chosen: str = request.param
    body_readers.narrow(chosen, monkeypatch)
    return chosen
