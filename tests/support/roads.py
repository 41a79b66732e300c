"""
The roads that bodies come by, and how a test takes one of them away.

A test that takes the fixture ``road`` runs once on each. ``nox -s matrix -- --road reader|handover|both`` runs the rows
of the fault matrix on one road or on both; without it they run on the ordinary one. A row that starts a child process
calls :func:`inherited.take_over` in it first.
"""

from __future__ import annotations

import os
import sys

import pytest

from arena_async.http import zero_copy
from arena_async.http.body import ReaderBody

__all__ = ["BODY_READERS", "VARIABLE", "apply_from_environment", "narrow", "road_of"]

#: Names the road that child processes have to take.
VARIABLE = "MATRIX_ROAD"
#: The plain reader for every body; and the handover for every body that it can be open for, however small.
BODY_READERS = ("reader", "handover")


def narrow(road: str, patch: pytest.MonkeyPatch) -> None:
    """Let every body come by one road, for as long as ``patch`` lasts."""
    patch.setattr(zero_copy, "MINIMUM", sys.maxsize if road == "reader" else 0)


def road_of(stream: object) -> str:
    """Return the name of the road by which a body comes."""
    kinds = {ReaderBody: "reader", zero_copy.ZeroCopyBody: "handover"}
    return kinds[type(stream)]


def apply_from_environment() -> None:
    """Take in this child process the road that the parent took, for the life of the process."""
    road = os.environ.get(VARIABLE)
    if road:
        narrow(road, pytest.MonkeyPatch())
