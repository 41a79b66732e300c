"""
Threads whose work is never left behind.

A cancelled task waits for the call that its thread is in the middle of, so that no thread writes to a file after it was
closed, whichever kind of cancellation it was. This is the one place where threads are made and ended.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from typing import ParamSpec, TypeVar

__all__ = ["Lane", "Threads", "run_to_end"]

T = TypeVar("T")
P = ParamSpec("P")


async def run_to_end(executor: Executor, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """
    Run ``call`` on a thread of ``executor`` and give what it returns or raise what it raises.

    A cancellation, native or anyio's, is delivered after the call has ended; its result is then dropped.
    """
    raise NotImplementedError


class Threads:
    """
    A few threads with an owner: it ends them with :meth:`aclose`.

    Args:
        count: Threads at the most.
        name: What they are called.
    """

    def __init__(self, count: int, *, name: str) -> None:
        raise NotImplementedError

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """
        Run ``call`` on one of the threads, to its end.

        Raises:
            ClosedError: The threads were ended before.
        """
        raise NotImplementedError

    async def aclose(self) -> None:
        """End the threads after what they are doing. Safe to call twice."""
        raise NotImplementedError


class Lane:
    """
    One slot for one file at a time: one thread that does the work in order, and two buffers.

    ::

        while count := await stream.readinto(lane.buffer()):     # fills one buffer while the thread empties the other
            await lane.put(take, count)                          # take(memoryview of the filled part) runs on the thread
        await lane.settle()

    Args:
        chunk_size: Bytes of each of the two buffers.
        name: What the thread is called.
    """

    def __init__(self, *, chunk_size: int, name: str = "arena_async-lane") -> None:
        raise NotImplementedError

    def buffer(self) -> memoryview:
        """Give the whole buffer that the thread is not using. The same one until :meth:`put` was called."""
        raise NotImplementedError

    async def put(self, call: Callable[[memoryview], object], count: int) -> None:
        """
        Let the thread run ``call`` on the first ``count`` bytes of :meth:`buffer`, and go on with the other buffer.

        Waits for the call before and raises what that one raised; then nothing is handed over. A cancellation is
        delivered when the call before has ended, and then nothing is handed over either.
        """
        raise NotImplementedError

    async def settle(self) -> None:
        """Wait for what was handed over and raise what it raised."""
        raise NotImplementedError

    async def abandon(self) -> None:
        """Wait for what was handed over and forget how it ended: the slot is clean for the next file."""
        raise NotImplementedError

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """
        Run ``call`` on the thread, behind whatever was handed over, to its end. Errors of the latter stay for
        :meth:`settle`.

        Raises:
            ClosedError: The lane was closed before.
        """
        raise NotImplementedError

    async def aclose(self) -> None:
        """End the thread after what it is doing. Safe to call twice."""
        raise NotImplementedError
