"""
The rows: what the world does, what is owed then, and how an outcome is judged.

Each row is a row of the fault matrix of the tests that downloaders of links can be asked as well, at one point of it.
"""

from __future__ import annotations

from benchmarks.rivals.directories import DIRECTORIES
from benchmarks.rivals.transfers import TRANSFERS

__all__ = ["ROWS"]

ROWS = (*TRANSFERS, *DIRECTORIES)
