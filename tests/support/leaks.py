"""
What a test leaves behind: tasks, threads, open files and sockets, child processes.

::

    before = Holdings.now()
    with watched_tasks() as unfinished:
        ...                                # the test, its event loop and the loop's end
    left = before.leaks() + unfinished

The look costs some microseconds when nothing is left, so every test can afford it.
"""

from __future__ import annotations

import asyncio
import asyncio.runners
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

__all__ = ["Holdings", "stray_tasks", "watched_tasks"]

#: Seconds that threads and children which are on their way out get to be gone.
PATIENCE = 2.0

_cancel_all_tasks = asyncio.runners._cancel_all_tasks  # type: ignore[attr-defined]

_DESCRIPTORS = Path("/proc/self/fd" if sys.platform == "linux" else "/dev/fd")


def _open_files() -> Counter[str]:
    """Count what is open by what it leads to; nothing where the system does not tell."""
    found: Counter[str] = Counter()
    if sys.platform == "win32" or not _DESCRIPTORS.is_dir():
        return found
    for number in os.listdir(_DESCRIPTORS):  # noqa: PTH208 - called for every test: text is enough
        try:
            found[os.readlink(_DESCRIPTORS / number) if sys.platform == "linux" else number] += 1  # noqa: PTH115
        except OSError:
            continue  # The descriptor of the directory itself is closed by now.
    return found


def _children() -> frozenset[int]:
    """Name the child processes; nothing where the system does not tell."""
    found: set[int] = set()
    for task in Path("/proc/self/task").glob("*/children"):
        try:
            found.update(map(int, task.read_text().split()))
        except OSError:
            continue  # The thread ended meanwhile.
    return frozenset(found)


@attrs.frozen(kw_only=True)
class Holdings:
    """What this process holds at one moment."""

    files: Counter[str]
    threads: frozenset[threading.Thread]
    children: frozenset[int]

    @classmethod
    def now(cls) -> Holdings:
        """Look around."""
        return cls(files=_open_files(), threads=frozenset(threading.enumerate()), children=_children())

    def leaks(self, *, patience: float = PATIENCE) -> list[str]:
        """Return what is held now and was not then, one line each; ``patience`` seconds are given to what is ending."""
        deadline = time.monotonic() + patience
        while found := self._compare(Holdings.now()):
            if time.monotonic() > deadline:
                return found
            time.sleep(0.01)
        return []

    def _compare(self, later: Holdings) -> list[str]:
        """List what came since."""
        files = sorted((later.files - self.files).elements())
        threads = sorted(thread.name for thread in later.threads - self.threads)
        children = sorted(later.children - self.children)
        return [
            *(f"open: {file}" for file in files),
            *(f"thread: {name}" for name in threads),
            *(f"child process: {number}" for number in children),
        ]


@contextmanager
def watched_tasks() -> Iterator[list[str]]:
    """
    Note the tasks that are still unfinished when an event loop ends.

    ``asyncio.Runner`` cancels them at that moment, so it is the last one at which they can be seen. Tasks that need no
    more than a few turns of the loop to end are let go. Of nested watches, the inner one sees.
    """
    unfinished: list[str] = []
    before = asyncio.runners._cancel_all_tasks  # type: ignore[attr-defined]

    def look_first(loop: asyncio.AbstractEventLoop) -> None:
        if asyncio.all_tasks(loop):
            loop.run_until_complete(_turns(10))
        unfinished.extend(f"task: {task!r}" for task in asyncio.all_tasks(loop))
        _cancel_all_tasks(loop)

    asyncio.runners._cancel_all_tasks = look_first  # type: ignore[attr-defined]
    try:
        yield unfinished
    finally:
        asyncio.runners._cancel_all_tasks = before  # type: ignore[attr-defined]


def stray_tasks(known: Collection[asyncio.Task[Any]]) -> list[asyncio.Task[Any]]:
    """Return the unfinished tasks of this loop that are neither known nor part of a scripted server."""
    found = asyncio.all_tasks() - {*known}
    return [task for task in found if task is not asyncio.current_task() and task.get_name() != "scripted connection"]


async def _turns(number: int) -> None:
    """Let the loop run some turns."""
    for _ in range(number):
        await asyncio.sleep(0)
