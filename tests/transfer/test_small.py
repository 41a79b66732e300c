"""Small files go through memory and are written in groups, and nothing that is promised is lost on that way."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from pathlib import Path

import pytest
from directory_bench import Bench, many
from disks import FaultyDisk, RateLimiter, RecordingDisk
from filesets import MemoryFiles, Source, content, remote
from rounds import settled

from arena_async import Downloader, TransferOptions
from arena_async.errors import IntegrityError, StorageError
from arena_async.options import KIB

SMALL = 256 * KIB


@pytest.mark.parametrize("announced", [True, False])
@pytest.mark.parametrize(("size", "small"), [(1, True), (20_480, True), (SMALL, True), (SMALL + 1, False)])
async def test_a_small_file_that_is_not_right_is_never_written(
    tmp_path: Path, size: int, small: bool, announced: bool
) -> None:
    """It is verified in memory, announced or not; only what is larger is written while it comes."""
    disk = RecordingDisk()
    wrong = Source(body=content(size), announced=announced, md5="0" * 32)
    bench = Bench(tmp_path, disk=disk, chunk_size=1024 * KIB)

    outcome = await bench.fetch(MemoryFiles([remote("a")], {"test/a": wrong}))

    assert isinstance(outcome.error, IntegrityError)
    assert (not [call for call in disk.calls if call.verb == "create" and call.name.endswith(".part")]) == small
    assert (bench.partials(), bench.finals()) == ([], {})


async def test_a_wrong_file_does_no_harm_to_the_others_of_its_group(tmp_path: Path) -> None:
    """Each has its own result."""
    files = many("a", "b", "c")
    files.sources["test/b"].md5 = "0" * 32
    bench = Bench(tmp_path)

    report = await bench.sync(files)

    assert [type(outcome.error) for outcome in report.outcomes] == [type(None), IntegrityError, type(None)]
    assert bench.finals() == {"d/a": b"whole", "d/c": b"whole"}
    whole = hashlib.sha256(b"whole").hexdigest()
    assert bench.rows("key", "size", "sha256") == [("test/a", 5, whole), ("test/c", 5, whole)]


@pytest.mark.parametrize("verb", ["create", "write", "chmod", "sync"])
async def test_nothing_stays_of_a_small_file_that_the_disk_refused(tmp_path: Path, verb: str) -> None:
    """Whichever step fails, no partial file is left."""
    disk = FaultyDisk()
    disk.fail(verb, 5, name="*.part")
    bench = Bench(tmp_path, disk=disk)

    outcome = await bench.fetch(many("a"))

    assert isinstance(outcome.error, StorageError)
    assert (bench.partials(), bench.finals()) == ([], {})


async def test_the_disk_begins_with_all_files_of_a_group_before_one_is_waited_for(tmp_path: Path) -> None:
    """Three files are on their way before the first is forced to the disk."""
    gate = RateLimiter("sync")
    disk = RecordingDisk(gate)
    bench, files = Bench(tmp_path, disk=disk, workers=8), many("zero", "a", "b", "c")
    async with bench.mirror() as mirror:
        first = asyncio.create_task(mirror.sync(many("zero")))
        await gate.reached()
        disk.calls.clear()
        others = many("a", "b", "c")
        others.scope = "test/others"
        second = asyncio.create_task(mirror.sync(others))
        await settled(others, minimum=3)
        gate.open()
        await asyncio.gather(first, second)

    assert len(files.sources) == len(bench.finals())
    steps = [call.verb for call in disk.calls if call.verb in ("begin_sync", "sync") and call.name.endswith(".part")]
    assert steps == ["begin_sync"] * 3 + ["sync"] * 3


@pytest.mark.parametrize("announced", [True, False])
@pytest.mark.parametrize("size", [0, 1, 64 * KIB - 1, 64 * KIB, SMALL, SMALL + 1, 2 * SMALL])
async def test_files_of_every_size_come_home_whole(tmp_path: Path, size: int, *, announced: bool) -> None:
    """Below, at and above the size of the buffer and of a small file, announced or not."""
    for chunk in (64 * KIB, 512 * KIB):
        files = MemoryFiles([remote("a")], {"test/a": Source(body=content(size), announced=announced)})
        async with Downloader(tmp_path, options=TransferOptions(workers=1, chunk_size=chunk)) as downloads:
            report = await downloads.run(files)
        assert [outcome.error for outcome in report.outcomes] == [None]
        assert (tmp_path / "files" / "a.bin").read_bytes() == content(size)
        assert report.bytes_written == size


async def test_small_files_wake_no_thread_of_their_worker(tmp_path: Path) -> None:
    """A hop to a thread for each of them would cost more than everything else."""
    files = MemoryFiles([remote(f"f{n}") for n in range(20)], {f"test/f{n}": Source(body=b"x") for n in range(20)})
    callers: set[str] = set()
    disk = RecordingDisk(lambda _: callers.add(threading.current_thread().name))
    # Nothing is synced: how many threads share that depends on the moment.
    bench = Bench(tmp_path, disk=disk, workers=16, durability="off")
    async with bench.downloader() as downloads:
        before = threading.active_count()
        await downloads.run(files)
        after = threading.active_count()

    # The disk is used by the threads of the directory, of which there are few, and by none of a worker's own.
    assert after - before < 10
    assert len(callers) < 10
