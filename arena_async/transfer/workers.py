"""
Threads, writers and permits: what downloads of one directory share to do their work.

::

    Threads       a pool of threads whose calls are never left running; the only place where threads are started
    Writer        two buffers of one download: one is filled while a thread writes the other
    Permits       how many bodies may be open at a time, shared fairly among the runs of a directory
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from mmap import mmap
from typing import Any, Concatenate, ParamSpec, TypeVar

from arena_async.errors import ClosedError
from arena_async.options import shield

__all__ = [
    "Lock",
    "OwnTasks",
    "Permits",
    "ThreadPoolExecutor",
    "Threads",
    "Writer",
    "end_tasks",
    "is_stray",
    "run_to_end",
    "wait_to_end",
]

T = TypeVar("T")
P = ParamSpec("P")

Lock = threading.Lock


async def wait_to_end(work: asyncio.Future[Any]) -> None:
    """
    Wait until ``work`` is done, even if the waiting task is cancelled; ``work`` itself is never cancelled.

    A cancellation (native or anyio's) is delivered after the end; an error of ``work`` counts as retrieved then.
    """
    try:
        if not work.done():
            await asyncio.wait([work])
        elif "anyio" in sys.modules:  # Its scopes exist only in a program that imports it.
            import anyio.lowlevel  # noqa: PLC0415

            await anyio.lowlevel.checkpoint_if_cancelled()
    except asyncio.CancelledError:
        # However often the task is cancelled again. anyio does it at every turn of the loop; the shield keeps this from
        # becoming a busy loop.
        with shield():
            while not work.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait([work])
        if not work.cancelled():
            work.exception()
        raise


async def run_to_end(executor: Executor, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """
    Run ``call`` on a thread of ``executor`` and return its result or raise its error.

    A cancellation (native or anyio's) is delivered after the call has ended; its result is then dropped.
    """
    work = asyncio.get_running_loop().run_in_executor(executor, partial(call, *args, **kwargs))
    await wait_to_end(work)
    return work.result()


class OwnTasks:
    """
    The tasks of one run.

    Args:
        failed: Is given the error of a task that fails unexpectedly.
    """

    def __init__(self, failed: Callable[[BaseException], None]) -> None:
        self._failed = failed
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Start a task."""
        task = asyncio.create_task(work, name=f"arena_async {name}")
        self._tasks.add(task)
        task.add_done_callback(self._note_end)

    async def end(self) -> None:
        """Cancel all of them, and wait until they have ended."""
        await end_tasks(*self._tasks)

    def _note_end(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failed(error)


def is_stray(error: BaseException) -> bool:
    """Return whether an error is a cancellation that was not requested of this task, but raised by other code."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and task is not None and not task.cancelling()


async def end_tasks(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks and wait until they have ended; a cancellation of the caller is delivered after that."""
    for task in tasks:
        task.cancel()
    if tasks:
        await wait_to_end(asyncio.gather(*tasks, return_exceptions=True))


class Threads:
    """
    A thread pool with an owner, which ends it with :meth:`aclose`.

    Args:
        count: Threads at most.
        name: The prefix of the thread names.
    """

    def __init__(self, count: int, *, name: str) -> None:
        self._executor = ThreadPoolExecutor(count, thread_name_prefix=name)
        self._name = name
        self._running: set[asyncio.Future[Any]] = set()
        self._closed = False

    def start(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        """
        Start ``call`` on a thread and return its future, which must be awaited with :func:`wait_to_end`.

        Raises:
            ClosedError: The pool was closed before.
        """
        if self._closed:
            raise ClosedError(f"{self._name}: its threads were ended; work can no longer be given to them.")
        work = asyncio.get_running_loop().run_in_executor(self._executor, partial(call, *args, **kwargs))
        self._running.add(work)
        work.add_done_callback(self._running.discard)
        return work

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """
        Run ``call`` on a thread to its end and return its result.

        Raises:
            ClosedError: The pool was closed before.
        """
        work = self.start(call, *args, **kwargs)
        await wait_to_end(work)
        return work.result()

    async def run_until_cancelled(
        self, call: Callable[Concatenate[Callable[[], None], P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """
        Run ``call`` on a thread and return its result.

        Its first argument is a function without arguments that raises as soon as this task is cancelled.

        Raises:
            ClosedError: The pool was closed before.
        """
        cancelled = False

        def proceed() -> None:
            if cancelled:
                raise ClosedError("The call was cancelled.")

        work = self.start(call, proceed, *args, **kwargs)
        try:
            await asyncio.wait([work])
        except asyncio.CancelledError:
            cancelled = True
            raise
        finally:
            await wait_to_end(work)
            if cancelled:
                work.exception()
        return work.result()

    def end(self) -> None:
        """Wait for the calls in progress, and end the threads, where no event loop waits for them any more."""
        self._closed = True
        self._executor.shutdown()

    async def aclose(self) -> None:
        """End the threads after what they are doing. Safe to call twice."""
        self._closed = True
        try:
            # A copy: a call that has just ended is still in the set until the next turn of the loop.
            for work in list(self._running):
                await wait_to_end(work)
        finally:
            # Every call has ended, unless this task was cancelled while several ran: those are short, and their
            # threads must not outlive this object.
            self._executor.shutdown(wait=True)


class Writer:
    """
    Two buffers for one download at a time, and the calls on threads that empty them, in order.

    ::

        while count := await stream.readinto(writer.buffer()):  # one buffer is filled while the other is written
            await writer.put(write, count)                      # write(memoryview) runs on a thread
        await writer.settle()

    Args:
        threads: Where calls run.
        chunk_size: Bytes of each of the two buffers.
    """

    def __init__(self, threads: Threads, *, chunk_size: int) -> None:
        self._threads = threads
        self._chunk_size = chunk_size
        self._buffers: list[memoryview] = []
        self._turn = 0
        self._pending: asyncio.Future[object] | None = None

    def buffer(self) -> memoryview:
        """Return the buffer that no thread uses, whole. The same one until :meth:`put` is called."""
        if not self._buffers:
            # Pages of a fresh mapping take memory only when they are written to, unlike those of a bytearray.
            self._buffers = [memoryview(mmap(-1, self._chunk_size)) for _ in range(2)]
        return self._buffers[self._turn]

    async def put(self, call: Callable[[memoryview], object], count: int) -> None:
        """
        Start ``call`` on a thread with the first ``count`` bytes of :meth:`buffer`, and switch to the other buffer.

        Waits for the call before and raises its error; then, and after a cancellation, nothing is started.

        Raises:
            ClosedError: The threads were ended before.
        """
        await self.settle()
        self._pending = self._threads.start(call, self.buffer()[:count])
        self._turn = 1 - self._turn

    async def settle(self, *, ignore_error: bool = False) -> None:
        """Wait for the pending call, and raise its error unless that is to be ignored."""
        pending, self._pending = self._pending, None
        if pending is not None:
            await wait_to_end(pending)
            if ignore_error:
                pending.exception()
            else:
                pending.result()

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """
        Run ``call`` on a thread after the pending one, to its end, and return its result.

        Raises:
            ClosedError: The threads were ended before.
        """
        if self._pending is not None:
            await wait_to_end(self._pending)  # Its error stays for settle().
        return await self._threads.run(call, *args, **kwargs)


class Permits:
    """
    The bodies that may be open at a time in one directory, shared by its runs.

    Each active run keeps at least one permit within reach, so that a run whose host stalls cannot hold all of them;
    beyond that, permits go to the worker that waited first. A worker keeps its permit from job to job as long as
    :meth:`must_yield` is false.

    Args:
        width: Permits that are out at most.
    """

    def __init__(self, width: int) -> None:
        self._width = width
        self._out = 0
        self._held: dict[object, int] = {}
        self._wishes: set[int] = set()
        self._waiting: deque[tuple[object, asyncio.Future[None]]] = deque()

    @property
    def free(self) -> int:
        """Permits that are not held."""
        return max(0, self._width - self._out)

    @property
    def contended(self) -> bool:
        """Whether a worker waits for a permit."""
        return any(not turn.done() for _, turn in self._waiting)

    @property
    def wanted(self) -> bool:
        """Whether a worker waits for a permit, or a large file would use more of them."""
        return self.contended or bool(self._wishes)

    def wish(self, download: object, *, more: bool) -> None:
        """Note whether a download of a large file would use more permits, without waiting for them."""
        if more:
            self._wishes.add(id(download))
        else:
            self._wishes.discard(id(download))

    def set_width(self, width: int) -> None:
        """Change how many permits are out at most; those out beyond that come back between two jobs."""
        self._width = width
        self._hand_out()

    def join(self, run: object) -> None:
        """Register a run that begins."""
        self._held.setdefault(run, 0)

    def leave(self, run: object) -> None:
        """Remove a run that has ended and holds no permit."""
        self._held.pop(run, None)
        if self._waiting:
            self._hand_out()

    async def acquire(self, run: object) -> None:
        """Wait for a permit."""
        if not self._waiting and self._available_to(run):
            self._take(run)
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((run, turn))
        self._hand_out()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.release(run)
            raise

    def release(self, run: object) -> None:
        """Return a permit."""
        self._out -= 1
        if run in self._held:
            self._held[run] -= 1
        if self._waiting:
            self._hand_out()

    def must_yield(self, run: object) -> bool:
        """Return whether a worker has to return its permit before its next job."""
        if self._out > self._width:
            return True
        if not self._waiting:
            return False
        mine = self._held.get(run, 0)
        return any(
            other is not run and not turn.done() and self._held.get(other, 0) < mine for other, turn in self._waiting
        )

    def spare(self, run: object) -> int:
        """Return how many permits a run may have beyond its files: those that no worker waits for or may need."""
        return 0 if self.contended else max(0, self.free - self._without(run))

    def take_spare(self, run: object) -> bool:
        """Take a spare permit without waiting; False where there is none."""
        if not self.spare(run):
            return False
        self._take(run)
        return True

    def _without(self, run: object) -> int:
        """Count the other runs that hold no permit."""
        return sum(held == 0 for other, held in self._held.items() if other is not run)

    def _available_to(self, run: object) -> bool:
        """Return whether a permit is free and not the last one within reach of another run."""
        free = self.free
        if len(self._held) < 2 or not free:
            return free > 0
        return free > self._without(run) or self._held.get(run, 0) == 0

    def _take(self, run: object) -> None:
        self._out += 1
        if run in self._held:
            self._held[run] += 1

    def _hand_out(self) -> None:
        """Hand free permits to the waiting workers, in order."""
        passed: deque[tuple[object, asyncio.Future[None]]] = deque()
        while self._waiting and self.free:
            run, turn = self._waiting.popleft()
            if turn.done():
                continue
            if not self._available_to(run):
                passed.append((run, turn))
                continue
            self._take(run)
            turn.set_result(None)
        self._waiting.extendleft(reversed(passed))
