"""
What a child process takes over from the row of the fault matrix that starts it.

A child calls :func:`take_over` before anything else.
"""

from __future__ import annotations

import os

__all__ = ["take_over"]


def take_over() -> None:
    """Do without the protection that the row has to do without, and use the reader that its bodies have."""
    # Both import pytest, which takes its time.
    if os.environ.get("MATRIX_SABOTAGE"):
        import sabotage  # noqa: PLC0415

        sabotage.apply_from_environment()
    if os.environ.get("MATRIX_BODY_READER"):
        import body_readers  # noqa: PLC0415

        body_readers.apply_from_environment()
