"""
The command line as a child process, pointed at simulators.

It starts warm, see :mod:`warm`: what importing it costs is the matter of ``tests/test_packaging.py``, and ``README.md``
is run with the installed command.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import warm

__all__ = ["COMMAND", "Done", "environment", "run", "settings", "start"]

#: What stands behind ``python`` to run the command line.
COMMAND = ("-m", "arena_async")


@attrs.frozen
class Done:
    """How a child ended."""

    code: int
    out: str
    err: str
    #: Seconds of the processor that it took; 0 where the system does not tell.
    worked: float

    @property
    def records(self) -> list[dict[str, Any]]:
        """The JSON objects on stdout, one a line."""
        return [json.loads(line) for line in self.out.splitlines()]


def settings(*simulators: Any) -> dict[str, str]:
    """Return the variables that lead a client to these simulators."""
    given: dict[str, str] = {}
    for simulator in simulators:
        given |= simulator.describe()["environment"]
    return given


def environment(*simulators: Any, **changed: str) -> dict[str, str]:
    """Return a whole environment for a child: this one without settings of ours, plus those of the simulators."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name == "ARENA_ASYNC_STATE"
        or (
            not name.startswith(("ARENA_", "CENTREPOINT_", "COV_"))
            and name not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES")
        )
    }
    return {**kept, "TERM": "xterm-256color", "PYTHONWARNINGS": "error", **settings(*simulators), **changed}


async def start(
    *arguments: str,
    env: Mapping[str, str],
    cwd: Path | None = None,
    command: Sequence[str] = COMMAND,
    stdin: int = asyncio.subprocess.DEVNULL,
) -> warm.Child:
    """Start the command line with pipes for its streams."""
    return await warm.start(*command, *arguments, env=env, cwd=cwd, stdin=stdin)


async def run(
    *arguments: str, env: Mapping[str, str], cwd: Path | None = None, seconds: float = 100.0, typed: bytes | None = None
) -> Done:
    """Run the command line to its end; what is ``typed`` comes over stdin."""
    stdin = asyncio.subprocess.DEVNULL if typed is None else asyncio.subprocess.PIPE
    child = await start(*arguments, env=env, cwd=cwd, stdin=stdin)
    async with asyncio.timeout(seconds):
        out, err = await child.communicate(typed)
    assert child.returncode is not None
    return Done(child.returncode, out.decode(), err.decode(), getattr(child, "worked", 0.0))
