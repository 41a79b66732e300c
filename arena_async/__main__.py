"""The entry point of the command line: ``arena-async`` and ``python -m arena_async``."""

from __future__ import annotations

import importlib.util
import sys

__all__ = ["main"]

_NEEDED = ("cyclopts", "rich")


def main() -> int:
    """Run the command line and give its exit code; 2 with one clear line when the extra ``cli`` is not installed."""
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        sys.stderr.write(
            f"arena-async: the command line needs {' and '.join(missing)}; install it with: "
            "pip install 'arena-async[cli]'\n"
        )
        return 2
    from arena_async.cli.app import run

    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
