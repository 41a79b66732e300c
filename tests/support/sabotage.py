"""
The protections that rows of the fault matrix depend on, and how each is taken away to see its rows fail.

A module ``sabotage_<group>.py`` beside this one registers them::

    @protection("the start of a range is checked")
    def _(patch: pytest.MonkeyPatch) -> None:
        patch.setattr(ranges, "judge_head", believing)

A row that starts a child process calls :func:`inherited.take_over` in it first.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

__all__ = ["PROTECTIONS", "VARIABLE", "apply_from_environment", "load", "protection"]

#: Names the protection that child processes have to do without.
VARIABLE = "MATRIX_SABOTAGE"

Removal = Callable[[pytest.MonkeyPatch], object]

PROTECTIONS: dict[str, Removal] = {}


def protection(name: str) -> Callable[[Removal], Removal]:
    """Register how a protection is removed."""

    def register(removal: Removal) -> Removal:
        if name in PROTECTIONS:
            raise ValueError(f"the protection {name!r} is registered twice")
        PROTECTIONS[name] = removal
        return removal

    return register


def load() -> dict[str, Removal]:
    """Give all protections of all groups."""
    for path in sorted(Path(__file__).parent.glob("sabotage_*.py")):
        importlib.import_module(path.stem)
    return PROTECTIONS


def apply_from_environment() -> None:
    """Remove in this child process what the parent has to do without, for the life of the process."""
    name = os.environ.get(VARIABLE)
    if name:
        load()[name](pytest.MonkeyPatch())
