"""Threads are waited for: nothing runs on behind a task that was cancelled."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import threading
from pathlib import Path
from typing import Any

import anyio
import pytest
from cancel_everywhere import HOW, Awaits, How, cancel_at_every_await, counted_tasks
from directory_bench import Bench, one
from disks import FaultyDisk, RateLimiter, RecordingDisk
from filesets import MemoryFiles, Source, content, remote

from arena_async.errors import StorageError
from arena_async.options import KIB, MIB

#: Larger than what goes through memory, in five blocks.
BODY = content(320 * KIB)


def threads() -> list[str]:
    """Return the names of the threads that the library has."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("arena_async")]


@pytest.mark.parametrize("how", HOW)
async def test_a_cancelled_task_waits_for_the_end_of_its_call(tmp_path: Path, how: How) -> None:
    """The thread has ended when the cancellation comes out, and not before; it does not spin meanwhile."""
    gate = RateLimiter("write")
    disk = RecordingDisk(gate)
    scopes: list[anyio.CancelScope] = []
    async with Bench(tmp_path, disk=disk).downloader() as downloads:

        async def job() -> None:
            with anyio.CancelScope() as scope:
                scopes.append(scope)
                await downloads.run(one(Source(body=BODY)))

        with counted_tasks(Awaits()) as awaits:
            task = asyncio.create_task(job())
            await gate.reached()
            task.cancel() if how == "native" else scopes[0].cancel()
            before = awaits.count
            for _ in range(500):
                await asyncio.sleep(0)
            spun = awaits.count - before
            assert not task.done()
            gate.open()
            await asyncio.wait([task])
        done = len(disk.calls)
        await asyncio.to_thread(int)

    assert task.cancelled() == (how == "native")
    assert spun <= 20
    assert "write" not in {call.verb for call in disk.calls[done:]}
    assert threads() == []


@pytest.mark.parametrize("how", ["verify", "sync"])
async def test_a_cancelled_read_ends_at_its_next_block(tmp_path: Path, how: str) -> None:
    """A file of any size is read in blocks, and none after the cancellation."""
    files = one(Source(body=content(4 * MIB)))
    await Bench(tmp_path, durability="off").sync(files)
    (final,) = Bench(tmp_path).finals()
    os.utime(tmp_path / final, (7, 7))
    gate = RateLimiter("read", Path(final).name)
    disk = RecordingDisk(gate)
    async with Bench(tmp_path, disk=disk).mirror() as mirror:
        reading = asyncio.create_task(mirror.verify() if how == "verify" else mirror.sync(files))
        await gate.reached()
        reading.cancel()
        for _ in range(10):
            await asyncio.sleep(0)
        gate.open()
        await asyncio.wait([reading])

    assert reading.cancelled()
    assert [call.verb for call in disk.calls if call.name == Path(final).name].count("read") == 1


async def test_a_time_limit_around_a_run_leaves_no_cancellation_behind(tmp_path: Path) -> None:
    """``asyncio.timeout`` still works as the standard library means it."""
    gate = RateLimiter("write")
    async with Bench(tmp_path, disk=RecordingDisk(gate)).downloader() as downloads:
        opener = threading.Timer(0.05, gate.open)
        opener.start()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await downloads.run(one(Source(body=BODY)))
    opener.join()

    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_after_closing_no_thread_is_left(tmp_path: Path) -> None:
    """Closing waits for what runs, ends the threads, and may be repeated."""
    bench = Bench(tmp_path, workers=4)
    rows = [remote(f"f{number}") for number in range(8)]
    files = MemoryFiles(rows, {row.key: Source(body=BODY) for row in rows})
    mirror = bench.mirror()

    report = await mirror.sync(files)
    during = len(threads())
    await mirror.aclose()
    await mirror.aclose()

    assert report.failures == ()
    assert 0 < during < 32
    assert threads() == []


async def test_one_block_is_received_while_the_one_before_is_written(tmp_path: Path) -> None:
    """Two buffers take turns: the second is filled meanwhile, and no third."""
    gate, received = RateLimiter("write"), 0

    class Noting(MemoryFiles):
        async def open(self, file: Any, **how: Any) -> Any:
            opened = await super().open(file, **how)
            readinto = opened.stream.readinto

            async def noted(buffer: memoryview) -> int:
                nonlocal received
                count = await readinto(buffer)
                received += bool(count)
                return count

            opened.stream.readinto = noted  # type: ignore[method-assign]
            return opened

    files = Noting([remote("a", size=len(BODY))], {"test/a": Source(body=BODY)})
    bench = Bench(tmp_path, disk=RecordingDisk(gate))
    async with bench.downloader() as downloads:
        going = asyncio.create_task(downloads.run(files))
        await gate.reached()
        for _ in range(200):
            await asyncio.to_thread(int)
        held = received
        gate.open()
        report = await going

    assert held == 2
    assert report.failures == ()
    assert bench.finals() == {"files/a.bin": BODY}


async def test_after_a_write_that_failed_no_other_block_is_written(tmp_path: Path) -> None:
    """The error of the thread is that of the file; what was written before is recorded all the same."""
    disk = FaultyDisk()
    disk.fail("write", errno.EIO, name="*.part", skip=1)
    bench = Bench(tmp_path, disk=disk, record_every=1 << 30)

    outcome = await bench.fetch(one(Source(body=BODY)))

    assert isinstance(outcome.error, StorageError)
    assert len([call for call in disk.calls if call.verb == "write" and call.name.endswith(".part")]) == 2
    (record,) = bench.partial.glob("*.json")
    assert json.loads(record.read_bytes())["offset"] == 64 * KIB


@pytest.mark.parametrize("how", HOW)
async def test_cancelled_at_every_await_nothing_is_written_after_its_file_is_closed(tmp_path: Path, how: How) -> None:
    """The calls for one file are in order, so that its close comes after its last block whatever is cancelled."""
    disk = RecordingDisk()
    bench = Bench(tmp_path, disk=disk, durability="off", workers=1)
    async with bench.downloader() as downloads:

        def start(at: int) -> Any:
            file = remote(f"f{at}")
            return downloads.run(MemoryFiles([file], {file.key: Source(body=BODY, etag=None)}))

        count = 0
        async for stopped in cancel_at_every_await(start, how=how, everywhere=True, every=2):
            count += 1
            assert stopped.cancelled == stopped.reached
            calls = [call for call in disk.calls if call.name.endswith(".part")]
            closed = [call.name for call in calls if call.verb == "close"]
            assert {call.name for call in calls if call.verb == "write"} <= set(closed)
            for name in set(closed):
                operations = [call.verb for call in calls if call.name == name]
                assert "write" not in operations[operations.index("close") :]
            disk.calls.clear()
    assert count > 10
    assert threads() == []
