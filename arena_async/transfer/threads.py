"""
Threads whose work is never left behind.

A cancelled task waits for the call that its thread is in the middle of, so that no thread writes to a file after it was
closed, whichever kind of cancellation it was. This is the one place where threads are made and ended.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from mmap import mmap
from typing import Any, ParamSpec, TypeVar

import anyio
import anyio.lowlevel

from arena_async.errors import ClosedError

__all__ = ["Lane", "Threads", "run_to_end", "wait_to_end"]

T = TypeVar("T")
P = ParamSpec("P")


async def wait_to_end(work: asyncio.Future[Any]) -> None:
    """
    Wait until ``work`` is done, whatever happens to the waiting task; ``work`` itself is never cancelled.

    A cancellation, native or anyio's, is delivered after the end; an error of ``work`` counts as seen then.
    """
    cancelled: asyncio.CancelledError | None = None
    try:
        if work.done():
            await anyio.lowlevel.checkpoint_if_cancelled()
        else:
            await _end_of(work)
    except asyncio.CancelledError as reason:
        cancelled = reason
    if cancelled is not None:
        await _wait_behind_a_shield(work)
        if not work.cancelled():
            work.exception()
        raise cancelled


async def _end_of(work: asyncio.Future[Any]) -> None:
    """Wait as long as nobody cancels: the usual case, which is to cost little, since every call on a thread pays it."""
    ended = work.get_loop().create_future()

    def wake(_: object) -> None:
        if not ended.done():
            ended.set_result(None)

    work.add_done_callback(wake)
    try:
        await ended
    finally:
        work.remove_done_callback(wake)


async def _wait_behind_a_shield(work: asyncio.Future[Any]) -> None:
    """Wait on in a task that was cancelled, however often it is cancelled again."""
    # anyio cancels again at every turn of the loop; behind a shield it waits, instead of making this a busy loop.
    with anyio.CancelScope(shield=True):
        while not work.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([work])


async def run_to_end(executor: Executor, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """
    Run ``call`` on a thread of ``executor`` and give what it returns or raise what it raises.

    A cancellation, native or anyio's, is delivered after the call has ended; its result is then dropped.
    """
    work = asyncio.get_running_loop().run_in_executor(executor, partial(call, *args, **kwargs))
    await wait_to_end(work)
    return work.result()


class Threads:
    """
    A few threads with an owner: it ends them with :meth:`aclose`.

    Args:
        count: Threads at the most.
        name: What they are called.
    """

    def __init__(self, count: int, *, name: str) -> None:
        self._executor = ThreadPoolExecutor(count, thread_name_prefix=name)
        self._name = name
        self._under_way: set[asyncio.Future[Any]] = set()
        self._closed = False

    def start(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        """
        Let a thread run ``call`` and give its future, which must be waited for with :func:`wait_to_end`.

        Raises:
            ClosedError: The threads were ended before.
        """
        if self._closed:
            raise ClosedError(f"{self._name}: its threads were ended; work can no longer be given to them.")
        work = asyncio.get_running_loop().run_in_executor(self._executor, partial(call, *args, **kwargs))
        self._under_way.add(work)
        work.add_done_callback(self._under_way.discard)
        return work

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """
        Run ``call`` on one of the threads, to its end.

        Raises:
            ClosedError: The threads were ended before.
        """
        work = self.start(call, *args, **kwargs)
        await wait_to_end(work)
        return work.result()

    async def aclose(self) -> None:
        """End the threads after what they are doing. Safe to call twice."""
        self._closed = True
        try:
            # Each once: one that has just ended is still in the set until the next turn of the loop.
            for work in list(self._under_way):
                await wait_to_end(work)
        finally:
            # Every call has ended, even when this task was cancelled meanwhile, unless there were several: those are
            # short, and their threads must not outlive this object.
            self._executor.shutdown(wait=True)


class Lane:
    """
    One slot for one file at a time: one thread that does the work in order, and two buffers.

    ::

        while count := await stream.readinto(lane.buffer()):  # one buffer is filled while the other is emptied
            await lane.put(take, count)                       # take(memoryview of what is filled) on the thread
        await lane.settle()

    Args:
        chunk_size: Bytes of each of the two buffers.
        name: What the thread is called.
    """

    def __init__(self, *, chunk_size: int, name: str = "arena_async-lane") -> None:
        self._threads = Threads(1, name=name)
        self._chunk_size = chunk_size
        self._buffers: list[memoryview] = []
        self._turn = 0
        self._pending: asyncio.Future[object] | None = None

    def buffer(self) -> memoryview:
        """Give the whole buffer that the thread is not using. The same one until :meth:`put` was called."""
        if not self._buffers:
            # Pages of a fresh mapping cost nothing until they are written to, so that small files take little memory;
            # a bytearray is written to from end to end when it is made.
            self._buffers = [memoryview(mmap(-1, self._chunk_size)) for _ in range(2)]
        return self._buffers[self._turn]

    async def put(self, call: Callable[[memoryview], object], count: int) -> None:
        """
        Let the thread run ``call`` on the first ``count`` bytes of :meth:`buffer`, and go on with the other buffer.

        Waits for the call before and raises what that one raised; then nothing is handed over. A cancellation is
        delivered when the call before has ended, and then nothing is handed over either.

        Raises:
            ClosedError: The lane was closed before.
        """
        await self.settle()
        self._pending = self._threads.start(call, self.buffer()[:count])
        self._turn = 1 - self._turn

    async def settle(self) -> None:
        """Wait for what was handed over and raise what it raised."""
        pending, self._pending = self._pending, None
        if pending is None:
            return
        await wait_to_end(pending)
        pending.result()

    async def abandon(self) -> None:
        """Wait for what was handed over and forget how it ended: the slot is clean for the next file."""
        pending, self._pending = self._pending, None
        if pending is None:
            return
        await wait_to_end(pending)
        pending.exception()

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """
        Run ``call`` on the thread, behind whatever was handed over, to its end.

        Errors of what was handed over stay for :meth:`settle`.

        Raises:
            ClosedError: The lane was closed before.
        """
        return await self._threads.run(call, *args, **kwargs)

    async def aclose(self) -> None:
        """End the thread after what it is doing. Safe to call twice."""
        try:
            await self.abandon()
        finally:
            await self._threads.aclose()
            self._buffers = []
