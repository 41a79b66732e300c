"""
Many lives of a process that syncs, each ended by a kill perhaps, in a few milliseconds each.

``python lives.py MODULE`` reads settings, one JSON object a line, gives each to ``live`` of that module in a fork, and
prints how that life ended. Everything is imported once; this process itself has no thread and no event loop.

In a test::

    async with Lives() as lives:
        ended = await lives.live(to=..., base_url=..., files=..., kill_at=7)
        assert ended.code == -signal.SIGKILL
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import json
import os
import sys
import traceback
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Self

import attrs
from inherited import take_over

__all__ = ["Life", "Lives"]


@attrs.frozen(kw_only=True)
class Life:
    """How a life ended: the code (less than 0: the signal), and what it printed."""

    code: int
    lines: tuple[str, ...]

    @property
    def report(self) -> dict[str, Any]:
        """The counts of its report; it has to have come to its end."""
        assert self.code == 0, self.lines
        report: dict[str, Any] = json.loads(self.lines[-1])
        return report


class Lives:
    """
    One process that forks a life at a time; an async context manager.

    Args:
        module: What is lived: a module with a coroutine function ``live`` that takes the settings.
    """

    def __init__(self, module: str = "sync_child") -> None:
        self._module = module
        self._process: asyncio.subprocess.Process | None = None

    async def live(self, **settings: Any) -> Life:
        """Let one life pass, from its start to its end."""
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(settings).encode() + b"\n")
        ended = json.loads(await process.stdout.readline())
        return Life(code=ended["code"], lines=tuple(ended["lines"]))

    async def __aenter__(self) -> Self:
        support = Path(__file__).parent
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(support / "lives.py"),
            self._module,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(support)},
            limit=1 << 24,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()


def _be_born(live: Callable[[dict[str, Any]], Coroutine[Any, Any, None]], settings: dict[str, Any], out: int) -> None:
    """Live in this fork, and never come back."""
    code = 1
    try:
        os.dup2(out, 1)
        os.dup2(out, 2)
        asyncio.run(live(settings))
        sys.stdout.flush()
        code = 0
    except BaseException:  # noqa: BLE001 - whatever it is, it must not reach what the parent does next
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _fork(live: Callable[[dict[str, Any]], Coroutine[Any, Any, None]], settings: dict[str, Any]) -> dict[str, Any]:
    """Fork a life and wait for its end."""
    into, out = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(into)
        _be_born(live, settings, out)
    os.close(out)
    with os.fdopen(into) as pipe:
        lines = pipe.read().splitlines()
    _, status = os.waitpid(child, 0)
    return {"code": os.waitstatus_to_exitcode(status), "lines": lines}


if __name__ == "__main__":
    lived = importlib.import_module(sys.argv[1])
    take_over()
    gc.freeze()
    for line in sys.stdin:
        sys.stdout.write(json.dumps(_fork(lived.live, json.loads(line))) + "\n")
        sys.stdout.flush()
