"""Anything may happen in any order: a restless service, a client that is killed, cancelled, filled up and run again."""

from __future__ import annotations

from pathlib import Path

import pytest
from restless_machine import play, playground

pytestmark = pytest.mark.process


def test_the_promises_hold_in_any_order_of_events(tmp_path: Path) -> None:
    """The same few dozen schedules on every push; `nox -s torture` plays others for as long as it may."""
    with playground(tmp_path) as ground:
        play(ground, 5, schedules=30, shrink=True)
    # What is meant to happen in them does happen.
    assert ground.ends.keys() >= {"well", "killed", "cancelled", "DiskFullError", "QuotaExhaustedError"}
