"""
The two readers of bodies, and how a test has all bodies read by one of them.

A test that takes the fixture ``body_reader`` runs once with each.
``nox -s matrix -- --body-reader reader|handover|both`` runs the rows of the fault matrix with one of them or with both;
without it the product chooses. A row that starts a child process calls :func:`inherited.take_over` in it first.
"""

from __future__ import annotations

import os
import sys

import pytest

from arena_async.http import zero_copy
from arena_async.http.body import ReaderBody

__all__ = ["BODY_READERS", "VARIABLE", "apply_from_environment", "narrow", "reader_of"]

#: Names the reader that child processes use.
VARIABLE = "MATRIX_BODY_READER"
#: The plain reader for every body; and the handover for every body that it can be open for, however small.
BODY_READERS = ("reader", "handover")


def narrow(reader: str, patch: pytest.MonkeyPatch) -> None:
    """Read every body with one reader, for as long as ``patch`` lasts."""
    patch.setattr(zero_copy, "MINIMUM", sys.maxsize if reader == "reader" else 0)


def reader_of(stream: object) -> str:
    """Return the name of the reader of a body."""
    kinds = {ReaderBody: "reader", zero_copy.ZeroCopyBody: "handover"}
    return kinds[type(stream)]


def apply_from_environment() -> None:
    """Use in this child process the reader that the parent uses, for the life of the process."""
    reader = os.environ.get(VARIABLE)
    if reader:
        narrow(reader, pytest.MonkeyPatch())
