"""
What the path of a file costs, counted in a process of its own, on all of its threads.

``python path_child.py calls URL`` downloads 300 files from ``URL/<name>`` and then 900, and prints as JSON how many
Python calls one more file takes: ``all``, and those of the package as ``own``. ``python path_child.py functions`` takes
the Arena of the usual environment variables, and prints the functions and modules of the package that one page of a
list passes through (``page``), and its files from the listing to the disk (``files``).
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path
from types import FrameType

import arena_async
from arena_async import ArenaClient, Mirror, UrlSet

__all__: list[str] = []

PACKAGE = f"{Path(arena_async.__file__).parent}/"

#: Calls by file and qualified name.
called: Counter[tuple[str, str]] = Counter()


def _count(frame: FrameType, event: str, _: object) -> None:
    if event == "call":
        code = frame.f_code
        called[code.co_filename, getattr(code, "co_qualname", code.co_name)] += 1


def _own() -> dict[tuple[str, str], int]:
    # A copy at once: other threads go on counting.
    return {key: count for key, count in dict(called).items() if key[0].startswith(PACKAGE)}


async def _sync(url: str, files: int) -> tuple[int, int]:
    rows = [f"{url}/{number:04d}.bin" for number in range(files)]
    with tempfile.TemporaryDirectory() as to:
        async with UrlSet(rows, allow_http=True, allow_private=True) as found, Mirror(to) as mirror:
            called.clear()
            report = await mirror.sync(found)
            counts = sum(dict(called).values()), sum(_own().values())
    report.raise_for_failures()
    return counts


async def _calls(url: str) -> dict[str, float]:
    few, many = await _sync(url, 300), await _sync(url, 900)
    return {"all": (many[0] - few[0]) / 600, "own": (many[1] - few[1]) / 600}


def _passed() -> dict[str, int]:
    named = {key for key in _own() if not key[1].rpartition(".")[2].startswith("<")}
    return {"functions": len(named), "modules": len({file for file, _ in named})}


async def _functions() -> dict[str, dict[str, int]]:
    with tempfile.TemporaryDirectory() as to:
        async with ArenaClient.from_env() as arena, Mirror(to) as mirror:
            await arena.extracts.search().first()
            called.clear()
            await arena.extracts.search().collect()
            page = _passed()
            called.clear()
            report = await mirror.sync(arena.extracts.files())
            files = _passed()
    report.raise_for_failures()
    return {"page": page, "files": files}


if __name__ == "__main__":
    threading.setprofile(_count)
    sys.setprofile(_count)
    result = asyncio.run(_calls(sys.argv[2]) if sys.argv[1] == "calls" else _functions())
    sys.stdout.write(json.dumps(result))
