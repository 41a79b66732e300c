"""Threads are waited for: nothing runs on behind a task that was cancelled."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import anyio
import pytest
from cancelling import HOW, How, cancel_at_every_await

from arena_async.errors import ClosedError
from arena_async.transfer.threads import Lane, Threads, run_to_end


async def threads_named(name: str) -> int:
    """Count live threads of a name."""
    return sum(thread.name.startswith(name) for thread in threading.enumerate())


async def test_what_the_call_gives_and_raises_arrives() -> None:
    """Results and errors of the thread are those of the await."""
    threads = Threads(1, name="t-result")

    assert await threads.run(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await threads.run(divmod, 7, 0)

    await threads.aclose()


@pytest.mark.parametrize("how", HOW)
async def test_a_cancelled_task_waits_for_the_end_of_its_call(how: How) -> None:
    """The thread has ended when the cancellation comes out, and not before."""
    threads = Threads(1, name="t-wait")
    go_on, started, ended = threading.Event(), threading.Event(), []

    def call() -> None:
        started.set()
        go_on.wait(5)
        ended.append(time.monotonic())

    async def job() -> None:
        with anyio.CancelScope() as scope:
            scopes.append(scope)
            await threads.run(call)
        out.append(list(ended))

    scopes, out = [], []
    task = asyncio.create_task(job())
    assert await asyncio.to_thread(started.wait, 5)
    task.cancel() if how == "native" else scopes[0].cancel()
    for _ in range(20):
        await asyncio.sleep(0)
    assert not task.done()
    go_on.set()
    await asyncio.wait([task])

    assert len(ended) == 1
    assert task.cancelled() == (how == "native")
    assert out == ([] if how == "native" else [ended])
    await threads.aclose()


async def test_waiting_under_anyio_cancellation_does_not_spin() -> None:
    """A cancelled scope around a long call wakes the task a few times, not thousands of times."""
    threads = Threads(1, name="t-spin")
    go_on = threading.Event()
    wakes = []

    async def job() -> None:
        with anyio.CancelScope() as scope:
            scopes.append(scope)
            await threads.run(go_on.wait, 5)

    scopes = []
    real_wait = asyncio.wait

    async def counted(*args: Any, **kwargs: Any) -> Any:
        wakes.append(1)
        return await real_wait(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("arena_async.transfer.threads.asyncio.wait", counted)
        task = asyncio.create_task(job())
        await asyncio.sleep(0)
        scopes[0].cancel()
        for _ in range(500):
            await asyncio.sleep(0)
        go_on.set()
        await real_wait([task])

    assert len(wakes) <= 3
    await threads.aclose()


async def test_a_time_limit_around_a_call_leaves_no_cancellation_behind() -> None:
    """``asyncio.timeout`` still works as the standard library means it."""
    threads = Threads(1, name="t-limit")

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.001):
            await threads.run(time.sleep, 0.02)

    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    await threads.aclose()


@pytest.mark.parametrize("how", HOW)
async def test_cancelled_at_every_await_no_call_is_cut_short(how: How) -> None:
    """However it is cancelled, a call that was begun has ended when the task has."""
    threads = Threads(1, name="t-every")
    ended = 0

    for_all = []
    begun = []

    def call() -> None:
        begun.append(1)
        for_all.append(1)

    async def job() -> None:
        await threads.run(call)
        await run_to_end(threads._executor, call)

    async for stopped in cancel_at_every_await(lambda _: job(), how=how):
        ended += 1
        assert len(begun) == len(for_all)
        assert stopped.cancelled == stopped.reached

    assert ended >= 3
    await threads.aclose()


async def test_after_closing_no_thread_is_left_and_no_work_is_taken() -> None:
    """Closing waits for what runs, ends the threads, and may be repeated."""
    threads = Threads(2, name="t-close")
    await threads.run(time.sleep, 0)
    assert await threads_named("t-close") == 1

    await threads.aclose()
    await threads.aclose()

    assert await threads_named("t-close") == 0
    with pytest.raises(ClosedError):
        await threads.run(time.sleep, 0)


async def test_closing_in_the_very_turn_in_which_a_call_ends_does_not_spin() -> None:
    """A call that has ended and is not yet forgotten is not waited for again and again."""
    threads = Threads(1, name="test")
    work = threads.start(int)
    threads._executor.shutdown(wait=True)  # The end of the call is now the next thing the loop learns.

    closing = asyncio.create_task(threads.aclose())
    await closing

    assert work.result() == 0


async def test_a_lane_fills_one_buffer_while_the_thread_empties_the_other() -> None:
    """Two buffers of the chunk size take turns, and each call sees exactly the filled part."""
    lane = Lane(chunk_size=8, name="t-lane")
    taken, hold, began = [], threading.Event(), threading.Event()

    def take(view: memoryview) -> None:
        began.set()
        hold.wait(5)
        taken.append(bytes(view))

    first = lane.buffer()
    first[:3] = b"abc"
    await lane.put(take, 3)
    second = lane.buffer()
    assert await asyncio.to_thread(began.wait, 5)
    second[:8] = b"12345678"
    hold.set()
    await lane.put(take, 8)
    await lane.settle()

    assert (len(first), len(second)) == (8, 8)
    assert taken == [b"abc", b"12345678"]
    assert lane.buffer().obj is first.obj
    await lane.aclose()


async def test_an_error_of_handed_over_work_comes_out_at_the_next_put_and_only_there() -> None:
    """The next block is not handed over when the one before failed; a clean-up call still runs."""
    lane = Lane(chunk_size=8, name="t-error")
    taken = []

    def fail(view: memoryview) -> None:
        raise OSError(28, "full")

    await lane.put(fail, 1)
    assert await lane.run(lambda: "closed") == "closed"
    with pytest.raises(OSError, match="full"):
        await lane.put(taken.append, 1)
    await lane.settle()

    assert taken == []
    await lane.put(fail, 1)
    await lane.abandon()
    await lane.settle()
    await lane.aclose()


@pytest.mark.parametrize("how", HOW)
async def test_a_lane_cancelled_at_every_await_writes_nothing_after_its_file_is_closed(how: How) -> None:
    """Work is in order on one thread, so the close comes after the last block whatever is cancelled."""
    lane = Lane(chunk_size=8, name="t-order")

    async for _ in cancel_at_every_await(lambda _: _write_three(lane, []), how=how):
        pass
    late = []
    async for _ in cancel_at_every_await(lambda _: _write_three(lane, late), how=how):
        assert late[-1] == "close"

    await lane.aclose()
    assert await threads_named("t-order") == 0


async def _write_three(lane: Lane, log: list[str]) -> None:
    """Write three blocks and close, as a transfer does."""
    try:
        for _ in range(3):
            await lane.put(lambda view: log.append("write"), 8)
        await lane.settle()
    finally:
        with anyio.CancelScope(shield=True):
            await lane.abandon()
            await lane.run(log.append, "close")


async def test_a_closed_lane_takes_no_work() -> None:
    """Its thread is gone, so is its memory, and using it is an error of ours."""
    lane = Lane(chunk_size=8)
    await lane.put(lambda view: None, 1)

    await lane.aclose()
    await lane.aclose()

    with pytest.raises(ClosedError):
        await lane.run(len, "x")
