"""
What a process holds and how long its event loop is held, sampled while it works.

::

    async with Sampler() as sampler:
        ...
    assert sampler.most.descriptors < 100
    assert sampler.longest_hold < 0.1
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Self

import attrs

__all__ = ["Held", "Hold", "Sampler"]


@attrs.frozen(kw_only=True)
class Held:
    """
    What a process holds.

    Args:
        memory: Resident bytes; 0 where the system does not tell.
        descriptors: Open descriptors; 0 where the system does not tell.
        threads: Threads.
        tasks: Tasks of the event loop that are not done.
    """

    memory: int = 0
    descriptors: int = 0
    threads: int = 0
    tasks: int = 0

    @classmethod
    def now(cls) -> Held:
        """Look around; an event loop has to run."""
        memory = descriptors = 0
        if sys.platform == "linux":
            pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
            memory = int(pages) * os.sysconf("SC_PAGE_SIZE")
            descriptors = sum(1 for _ in Path("/proc/self/fd").iterdir())
        return cls(
            memory=memory,
            descriptors=descriptors,
            threads=threading.active_count(),
            tasks=len(asyncio.all_tasks()),
        )

    def or_more(self, other: Held) -> Held:
        """Give the larger of each."""
        return Held(
            memory=max(self.memory, other.memory),
            descriptors=max(self.descriptors, other.descriptors),
            threads=max(self.threads, other.threads),
            tasks=max(self.tasks, other.tasks),
        )


class Hold:
    """
    How long the thread of an event loop is held, and why: measured between two looks at it.

    The time in which it was ready and had no processor is nobody's doing but the machine's.
    """

    def __init__(self) -> None:
        self._began, self._worked, self._queued = time.monotonic(), time.thread_time(), _queued()

    def look(self, *, slept: float) -> tuple[float, float]:
        """
        Look again.

        Args:
            slept: Seconds that were asked to pass since the last look.

        Returns:
            Seconds that the thread was held without waiting for a processor, and seconds in which it worked.
        """
        now, worked, queued = time.monotonic(), time.thread_time(), _queued()
        held = now - self._began - slept - (queued - self._queued)
        busy = worked - self._worked
        self._began, self._worked, self._queued = now, worked, queued
        return max(0.0, held), busy


def _queued() -> float:
    """Give the seconds that this thread has been ready and had no processor; 0 where the system does not tell."""
    # https://docs.kernel.org/scheduler/sched-stats.html: time on the processor, time in the queue, slices.
    with suppress(OSError, ValueError, IndexError), Path("/proc/thread-self/schedstat").open(encoding="ascii") as file:
        return int(file.read().split()[1]) / 1e9
    return 0.0


class Sampler:
    """
    Looks every few milliseconds; an async context manager.

    Attributes:
        most: The most that was held at any look.
        longest_hold: Seconds that the event loop was held at the most, and worked for all that time.
        looks: How often it looked.
    """

    def __init__(self, *, every: float = 0.005) -> None:
        self.most = Held()
        self.longest_hold = 0.0
        self.looks = 0
        self._every = every
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._look_on(), name="sampler")
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    async def _look_on(self) -> None:
        hold = Hold()
        while True:
            await asyncio.sleep(self._every)
            held, busy = hold.look(slept=self._every)
            self.longest_hold = max(self.longest_hold, min(held, busy))
            if self.looks % 20 == 0:
                self.most = self.most.or_more(Held.now())
                hold = Hold()
            self.looks += 1
