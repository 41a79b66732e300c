"""Cancel a coroutine at its k-th await, for every k: what holds then holds under any cancellation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator
from typing import Any, Literal

import anyio
import attrs

__all__ = ["HOW", "CancelAt", "How", "Stopped", "cancel_at_every_await"]

How = Literal["native", "anyio"]
HOW: tuple[How, ...] = ("native", "anyio")


class CancelAt:
    """
    An awaitable that runs ``job`` and calls ``cancel`` while it waits for the ``at``-th time.

    ``awaits`` says how often it has waited so far.
    """

    def __init__(self, job: Coroutine[Any, Any, Any], *, at: int, cancel: Callable[[], object]) -> None:
        self.job = job
        self.at = at
        self.cancel = cancel
        self.awaits = 0

    def __await__(self) -> Generator[Any, Any, Any]:
        """Drive the job by hand, passing on what it waits for."""
        steps = self.job.__await__()
        step: Callable[[], Any] = lambda: next(steps)  # noqa: E731
        while True:
            try:
                waits_for = step()
            except StopIteration as end:
                return end.value
            self.awaits += 1
            if self.awaits == self.at:
                self.cancel()
            try:
                sent = yield waits_for
            except BaseException as error:  # noqa: BLE001 - handed to the job as it came
                thrown = error
                step = lambda: steps.throw(thrown)  # noqa: E731, B023
            else:
                step = lambda: steps.send(sent)  # noqa: E731, B023


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


async def _stop(job: Coroutine[Any, Any, Any], at: int, how: How) -> Stopped:
    """Run the job in a task of its own and cancel it once."""
    ran: list[CancelAt] = []

    async def inside() -> Any:
        task = asyncio.current_task()
        assert task is not None
        with anyio.CancelScope() as scope:
            cancel: Callable[[], object] = task.cancel if how == "native" else scope.cancel
            ran.append(CancelAt(job, at=at, cancel=cancel))
            return await ran[0]
        raise asyncio.CancelledError  # anyio swallows its own at the edge of the scope

    result, error = None, None
    task = asyncio.create_task(inside())
    await asyncio.wait([task])
    try:
        result = task.result()
    except BaseException as reason:  # noqa: BLE001 - this is what is looked at
        error = reason
    return Stopped(at=at, reached=ran[0].awaits >= at, result=result, error=error)


async def cancel_at_every_await(
    make: Callable[[int], Coroutine[Any, Any, Any] | Awaitable[Coroutine[Any, Any, Any]]],
    *,
    how: How = "native",
    most: int = 2000,
) -> AsyncIterator[Stopped]:
    """
    Give how the job ended for each k, from the first await to the last; the last one given was never cancelled.

    Args:
        make: Gives a fresh job for each k.
        how: ``"native"`` (``task.cancel``) or ``"anyio"`` (a cancel scope).
        most: Awaits after which the job counts as endless.
    """
    for at in range(1, most + 1):
        made = make(at)
        stopped = await _stop(made if asyncio.iscoroutine(made) else await made, at, how)
        yield stopped
        if not stopped.reached:
            return
    raise AssertionError(f"the job still waits after {most} awaits")
