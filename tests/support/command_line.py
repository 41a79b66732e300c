"""The command line as a child process, pointed at simulators."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

__all__ = ["COMMAND", "Done", "environment", "run", "settings", "start"]

#: What runs the command line.
COMMAND = (sys.executable, "-m", "arena_async")


@attrs.frozen
class Done:
    """How a child ended."""

    code: int
    out: str
    err: str

    @property
    def records(self) -> list[dict[str, Any]]:
        """The JSON objects on stdout, one a line."""
        return [json.loads(line) for line in self.out.splitlines()]


def settings(*simulators: Any) -> dict[str, str]:
    """Give the variables that lead a client to these simulators."""
    given: dict[str, str] = {}
    for simulator in simulators:
        given |= simulator.describe()["environment"]
    return given


def environment(*simulators: Any, **changed: str) -> dict[str, str]:
    """Give a whole environment for a child: this one without settings of ours, plus those of the simulators."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("ARENA_", "CENTREPOINT_", "COV_"))
        and name not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES")
    }
    return {**kept, "TERM": "xterm-256color", "PYTHONWARNINGS": "error", **settings(*simulators), **changed}


async def start(
    *arguments: str,
    env: Mapping[str, str],
    cwd: Path | None = None,
    command: Sequence[str] = COMMAND,
    stdin: int = asyncio.subprocess.DEVNULL,
) -> asyncio.subprocess.Process:
    """Start the command line with pipes for its streams."""
    return await asyncio.create_subprocess_exec(
        *command,
        *arguments,
        env=dict(env),
        cwd=cwd,
        stdin=stdin,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def run(
    *arguments: str, env: Mapping[str, str], cwd: Path | None = None, seconds: float = 30.0, typed: bytes | None = None
) -> Done:
    """Run the command line to its end; what is ``typed`` comes over stdin."""
    stdin = asyncio.subprocess.DEVNULL if typed is None else asyncio.subprocess.PIPE
    child = await start(*arguments, env=env, cwd=cwd, stdin=stdin)
    async with asyncio.timeout(seconds):
        out, err = await child.communicate(typed)
    assert child.returncode is not None
    return Done(child.returncode, out.decode(), err.decode())
