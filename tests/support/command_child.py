"""
The command line in a process that may have to do without a protection.

``python command_child.py sync arena extracts --to DIR`` is ``arena-async sync arena extracts --to DIR``.
"""

from __future__ import annotations

import sys

from inherited import take_over

from arena_async.__main__ import main

__all__: list[str] = []

if __name__ == "__main__":
    take_over()
    sys.exit(main())
