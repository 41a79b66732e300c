"""
What a process holds and how long its event loop is held, sampled while it works.

::

    async with Sampler() as sampler:
        ...
    assert sampler.most.descriptors < 100
    assert sampler.max_hold < 0.1
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import mmap
import os
import re
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Self

import attrs

__all__ = ["Held", "Hold", "Sampler", "bytes_in_use"]


@attrs.frozen(kw_only=True)
class Held:
    """
    What a process holds.

    Args:
        memory: Resident bytes; 0 where the system does not tell.
        in_use: Bytes that are in use, at rest; 0 where nobody counted them.
        descriptors: Open descriptors; 0 where the system does not tell.
        threads: Threads.
        tasks: Tasks of the event loop that are not done.
    """

    memory: int = 0
    in_use: int = 0
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

    @classmethod
    def at_rest(cls) -> Held:
        """Look around where nothing is under way, and count the bytes that are in use."""
        in_use = bytes_in_use()
        return attrs.evolve(cls.now(), in_use=in_use)

    def or_more(self, other: Held) -> Held:
        """Return the larger of each."""
        return Held(
            memory=max(self.memory, other.memory),
            in_use=max(self.in_use, other.in_use),
            descriptors=max(self.descriptors, other.descriptors),
            threads=max(self.threads, other.threads),
            tasks=max(self.tasks, other.tasks),
        )


class _HeapFigures(ctypes.Structure):
    """What ``mallinfo2`` of the GNU C library tells."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"
        )
    )  # fmt: skip


def bytes_in_use() -> int:
    """
    Count the bytes of everything that is in use: objects of Python, what C asked for, mapped buffers.

    What a leak takes is among them, and what is free is not: resident memory has room as well that was given back and
    lies between what stays, and grows for a long time though nothing does. Call it at rest: what is about to be thrown
    away counts too. What came back by then is returned to the system, so that resident memory shows the rest.
    """
    gc.collect()
    mapped = sum(len(kept) for kept in gc.get_objects() if type(kept) is mmap.mmap and not kept.closed)
    return _bytes_of_objects() + _bytes_of_the_heap() + mapped


def _bytes_of_objects() -> int:
    """Count the bytes of objects of up to 512 bytes; larger ones are on the heap. 0 where Python does not tell."""
    tell = getattr(sys, "_debugmallocstats", None)
    if tell is None:
        return 0
    # It tells the error output of the process, and nobody else.
    with tempfile.TemporaryFile() as file:
        sys.stderr.flush()
        kept = os.dup(2)
        try:
            os.dup2(file.fileno(), 2)
            tell()
        finally:
            os.dup2(kept, 2)
            os.close(kept)
        file.seek(0)
        found = re.search(rb"# bytes in allocated blocks\s*=\s*([\d,]+)", file.read())
    return int(found[1].replace(b",", b"")) if found else 0


def _bytes_of_the_heap() -> int:
    """Return what is free to the system and count what is not; 0 where the C library does not tell."""
    if sys.platform != "linux":
        return 0
    library = ctypes.CDLL(None)
    # https://man7.org/linux/man-pages/man3/mallinfo.3.html: bytes in use, and those in mappings of their own.
    tell, trim = getattr(library, "mallinfo2", None), getattr(library, "malloc_trim", None)
    if tell is None or trim is None:
        return 0
    trim(0)
    tell.restype = _HeapFigures
    figures = tell()
    return int(figures.uordblks + figures.hblkhd)


class Hold:
    """
    How long the thread of an event loop is held, and why: measured between two looks at it.

    The time in which it was ready and had no processor is nobody's doing but the machine's. That of a collection of all
    garbage is left out too: it grows with everything that the process has, whoever made it.

    Args:
        collecting: Seconds that such collections have taken on this thread so far.
    """

    def __init__(self, collecting: Callable[[], float] = lambda: 0.0) -> None:
        self._collecting, self._collected = collecting, collecting()
        self._began, self._worked, self._queued = time.monotonic(), time.thread_time(), _queued()

    def look(self, *, slept: float) -> tuple[float, float]:
        """
        Look again.

        Args:
            slept: Seconds that were asked to pass since the last look.

        Returns:
            Seconds that the thread was held without waiting for a processor, and seconds in which it worked.
        """
        now, worked, queued, collected = time.monotonic(), time.thread_time(), _queued(), self._collecting()
        left_out = collected - self._collected
        held = now - self._began - slept - (queued - self._queued) - left_out
        busy = worked - self._worked - left_out
        self._began, self._worked, self._queued, self._collected = now, worked, queued, collected
        return max(0.0, held), max(0.0, busy)


class _Collections:
    """
    Counts the seconds of work that collections of all garbage take on the thread that made this.

    Attributes:
        seconds: So far.
        longest: The longest of them.
    """

    def __init__(self) -> None:
        self.seconds = self.longest = 0.0
        self._thread = threading.get_ident()
        self._began = 0.0

    def __call__(self, phase: str, info: dict[str, int]) -> None:
        """Be told by the collector."""
        if info["generation"] < 2 or threading.get_ident() != self._thread:
            return
        if phase == "start":
            self._began = time.thread_time()
        else:
            took = time.thread_time() - self._began
            self.seconds += took
            self.longest = max(self.longest, took)


def _queued() -> float:
    """Return the seconds that this thread has been ready and had no processor; 0 where the system does not tell."""
    # https://docs.kernel.org/scheduler/sched-stats.html: time on the processor, time in the queue, slices.
    with suppress(OSError, ValueError, IndexError), Path("/proc/thread-self/schedstat").open(encoding="ascii") as file:
        return int(file.read().split()[1]) / 1e9
    return 0.0


class Sampler:
    """
    Looks every few milliseconds; an async context manager.

    Attributes:
        most: The most that was held at any look.
        max_hold: Seconds that the event loop was held at the most, and worked for all that time, collections of
            all garbage left out.
        looks: How often it looked.
    """

    def __init__(self, *, every: float = 0.005) -> None:
        self.maximum = Held()
        self.max_hold = 0.0
        self.looks = 0
        self._every = every
        self._task: asyncio.Task[None] | None = None
        self._collections = _Collections()

    @property
    def max_collection(self) -> float:
        """Seconds that a collection of all garbage took at the most."""
        return self._collections.longest

    async def __aenter__(self) -> Self:
        gc.callbacks.append(self._collections)
        self._task = asyncio.create_task(self._look_on(), name="sampler")
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        gc.callbacks.remove(self._collections)

    async def _look_on(self) -> None:
        hold = Hold(lambda: self._collections.seconds)
        while True:
            await asyncio.sleep(self._every)
            held, busy = hold.look(slept=self._every)
            self.max_hold = max(self.max_hold, min(held, busy))
            if self.looks % 20 == 0:
                self.maximum = self.maximum.or_more(Held.now())
                hold = Hold(lambda: self._collections.seconds)
            self.looks += 1
