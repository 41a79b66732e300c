"""What a command tells the shell when it ends."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["Exit"]


class Exit(IntEnum):
    """The exit codes."""

    OK = 0
    FAILED = 1
    USAGE = 2
    SOME_FAILED = 3
    AUTHENTICATION = 4
    QUOTA = 5
    INTERRUPTED = 130
