"""
The command line in a process that may have to do without a protection.

``python command_child.py sync arena extracts --to DIR`` is ``arena-async sync arena extracts --to DIR``.
"""

from __future__ import annotations

import os
import sys

from arena_async.__main__ import main

__all__: list[str] = []

if __name__ == "__main__":
    if os.environ.get("MATRIX_SABOTAGE"):
        import sabotage  # it needs pytest, which takes its time

        sabotage.apply_from_environment()
    sys.exit(main())
