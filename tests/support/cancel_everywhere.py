"""Cancel a coroutine at its k-th await, for every k: what holds then holds under any cancellation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Literal

import anyio
import attrs

__all__ = ["HOW", "Awaits", "CancelAt", "How", "Stopped", "cancel_at_every_await", "counted_tasks"]

How = Literal["native", "anyio"]
HOW: tuple[How, ...] = ("native", "anyio")


class Awaits:
    """
    How often any task has waited so far, counted from outside.

    Args:
        at: At which of them to call ``cancel``.
        cancel: What to call.
    """

    def __init__(self, *, at: int = 0, cancel: Callable[[], object] = lambda: None) -> None:
        self.count = 0
        self.at = at
        self.cancel = cancel

    def waited(self) -> None:
        """Count one more."""
        self.count += 1
        if self.count == self.at:
            self.cancel()


class CancelAt:
    """An awaitable that runs ``job`` and calls ``cancel`` while it waits for the ``at``-th time."""

    def __init__(
        self, job: Coroutine[Any, Any, Any], *, at: int, cancel: Callable[[], object], awaits: Awaits | None = None
    ) -> None:
        self.job = job
        self._awaits = awaits or Awaits()
        self._awaits.at, self._awaits.cancel = at, cancel

    @property
    def awaits(self) -> int:
        """How often it has waited so far."""
        return self._awaits.count

    def __await__(self) -> Generator[Any, Any, Any]:
        """Drive the job by hand, passing on what it waits for."""
        steps = self.job.__await__()
        step: Callable[[], Any] = lambda: next(steps)  # noqa: E731
        while True:
            try:
                waits_for = step()
            except StopIteration as end:
                return end.value
            self._awaits.waited()
            try:
                sent = yield waits_for
            except BaseException as error:  # noqa: BLE001 - handed to the job as it came
                thrown = error
                step = lambda: steps.throw(thrown)  # noqa: E731, B023
            else:
                step = lambda: steps.send(sent)  # noqa: E731, B023


class _Counted(Coroutine[Any, Any, Any]):
    """A coroutine whose every wait is counted."""

    def __init__(self, job: Coroutine[Any, Any, Any], awaits: Awaits) -> None:
        self._job = job
        self._awaits = awaits
        self.__name__ = self.__qualname__ = getattr(job, "__qualname__", "job")

    def _step(self, step: Callable[..., Any], *args: Any) -> Any:
        waits_for = step(*args)
        self._awaits.waited()
        return waits_for

    def send(self, value: Any) -> Any:
        return self._step(self._job.send, value)

    def throw(self, *error: Any) -> Any:
        return self._step(self._job.throw, *error)

    def close(self) -> None:
        self._job.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._job.__await__()


@contextmanager
def counted_tasks(awaits: Awaits) -> Iterator[Awaits]:
    """Count the waits of every task that is created meanwhile, whichever part of the program creates it."""
    loop = asyncio.get_running_loop()
    before = loop.get_task_factory()

    def create(loop: asyncio.AbstractEventLoop, job: Any, **how: Any) -> Any:
        return asyncio.Task(_Counted(job, awaits), loop=loop, **how)

    loop.set_task_factory(create)
    try:
        yield awaits
    finally:
        loop.set_task_factory(before)


@attrs.frozen(kw_only=True)
class Stopped:
    """
    How one run with one cancellation ended.

    Args:
        at: At which await it was cancelled.
        reached: Whether the job waited that often at all.
        result: What it gave, or None.
        error: What it raised, ``CancelledError`` included, or None.
    """

    at: int
    reached: bool
    result: Any = None
    error: BaseException | None = None

    @property
    def cancelled(self) -> bool:
        """Whether the cancellation came out of the job."""
        return isinstance(self.error, asyncio.CancelledError)


async def _stop(job: Coroutine[Any, Any, Any], at: int, how: How, *, everywhere: bool) -> Stopped:
    """Run the job in a task of its own and cancel it once."""
    awaits = Awaits(at=at)

    async def inside() -> Any:
        task = asyncio.current_task()
        assert task is not None
        with anyio.CancelScope() as scope:
            awaits.cancel = task.cancel if how == "native" else scope.cancel
            if everywhere:
                awaits.count = 0  # What came before the job is no wait of it.
                return await job
            return await CancelAt(job, at=at, cancel=awaits.cancel, awaits=awaits)
        raise asyncio.CancelledError  # anyio swallows its own at the edge of the scope

    result, error = None, None
    with counted_tasks(awaits) if everywhere else nullcontext():
        task = asyncio.create_task(inside())
        await asyncio.wait([task])
    try:
        result = task.result()
    except BaseException as reason:  # noqa: BLE001 - this is what is looked at
        error = reason
    return Stopped(at=at, reached=awaits.count >= at, result=result, error=error)


async def cancel_at_every_await(
    make: Callable[[int], Coroutine[Any, Any, Any] | Awaitable[Coroutine[Any, Any, Any]]],
    *,
    how: How = "native",
    maximum: int = 2000,
    everywhere: bool = False,
    every: int = 1,
) -> AsyncIterator[Stopped]:
    """
    Yield how the job ended for each k, from the first await to the last; the last one given was never cancelled.

    Args:
        make: Gives a fresh job for each k.
        how: ``"native"`` (``task.cancel``) or ``"anyio"`` (a cancel scope).
        maximum: Awaits after which the job counts as endless.
        everywhere: Count the awaits of all tasks that begin meanwhile; it is always the job that is cancelled.
        every: Cancel at every so many awaits only.
    """
    for at in range(1, maximum + 1, every):
        made = make(at)
        job = made if asyncio.iscoroutine(made) else await made
        stopped = await _stop(job, at, how, everywhere=everywhere)
        yield stopped
        if not stopped.reached:
            return
    raise AssertionError(f"the job still waits after {maximum} awaits")
