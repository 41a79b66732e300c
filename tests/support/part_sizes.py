"""How rows and children see a file of some kilobytes as a large one, on connections that are each held back."""

from __future__ import annotations

import math

from session_files import Hours

from arena_async.options import KIB
from arena_async.transfer.rate import Splitting

__all__ = ["EAGER", "Ticking"]

#: Everything is split as soon as something came, and no connection is ever fast enough.
EAGER = Splitting(
    min_size=256 * KIB, min_piece=64 * KIB, max_piece=64 * KIB, interval=0.0, head_start=0.0, fast=math.inf
)


class Ticking(Hours):
    """Time that goes on by a millisecond whenever somebody looks."""

    def clock(self) -> float:
        """Seconds since the start."""
        self.passed += 0.001
        return self.passed
