"""How fast files come: the rate that the caller allows, and how many bodies are open at a time."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from directory_bench import Bench
from filesets import MemoryFiles, Source, content, remote
from rounds import in_rounds

from arena_async.errors import ThrottledError
from arena_async.options import KIB, MIB


class Timed(MemoryFiles):
    """Files whose blocks are noted, with the time at which they came and the room that there was for them."""

    def __init__(self, sizes: list[int], *, change: str = "1") -> None:
        rows = [remote(f"f{number}", change=change) for number in range(len(sizes))]
        super().__init__(rows, {row.key: Source(body=content(size)) for row, size in zip(rows, sizes, strict=True)})
        self.now = 0.0
        self.came: list[tuple[float, int]] = []
        self.buffers: set[int] = set()

    async def open(self, file: Any, **how: Any) -> Any:
        opened = await super().open(file, **how)
        readinto = opened.stream.readinto

        async def noted(buffer: memoryview) -> int:
            self.buffers.add(len(buffer))
            count = await readinto(buffer)
            self.came.append((self.now, count))
            return count

        opened.stream.readinto = noted  # type: ignore[method-assign]
        return opened


def bench_on(to: Path, files: Timed, **options: Any) -> Bench:
    """Return a directory whose time passes while bodies are held back, in the order in which they are due."""
    bench = Bench(to, clock=lambda: files.now, durability="off", **options)
    due: list[float] = []

    async def sleep(seconds: float) -> None:
        until = files.now + seconds
        due.append(until)
        while files.now < until:
            for _ in range(20):
                await asyncio.to_thread(int)
            files.now = max(files.now, min(due))
        due.remove(until)

    bench.sleep = sleep  # type: ignore[method-assign]
    return bench


@pytest.mark.parametrize(("rate", "workers"), [(50 * KIB, 1), (200 * KIB, 3), (4 * MIB, 4)])
async def test_over_any_time_no_more_comes_than_the_rate_and_a_second_and_a_block_of_each(
    tmp_path: Path, rate: int, workers: int
) -> None:
    """However late the bodies come back, and whichever of them is read."""
    files = Timed([rate * 2, rate // 3, 17, rate, rate // 2])

    report = await bench_on(tmp_path, files, max_rate=rate, workers=workers).run(files)

    assert report.failures == ()
    block = max(files.buffers)
    for first, (start, _) in enumerate(files.came):
        downloaded = 0
        for now, count in files.came[first:]:
            downloaded += count
            assert downloaded <= rate * (now - start + 1) + block * workers
    total = sum(count for _, count in files.came)
    assert files.came[-1][0] >= total / rate - 2


@pytest.mark.parametrize(
    ("rate", "workers", "block"),
    [(10 * MIB, 1, MIB), (10 * MIB, 8, MIB // 8), (100 * KIB, 1, 10 * KIB), (1024, 8, 4 * KIB)],
)
async def test_a_block_is_a_tenth_of_a_second_of_its_share(
    tmp_path: Path, rate: float, workers: int, block: int
) -> None:
    """So that a low rate comes evenly; never less than 4 KiB, so that it costs little."""
    files = Timed([2 * block])

    await bench_on(tmp_path, files, max_rate=rate, workers=workers, chunk_size=2 * MIB).run(files)

    assert max(files.buffers) == block


@pytest.mark.parametrize(("idle", "seconds"), [(0.0, 3.0), (0.5, 2.5), (60.0, 2.0)])
async def test_time_in_which_nothing_came_makes_up_for_one_second_and_no_more(
    tmp_path: Path, idle: float, seconds: float
) -> None:
    """At 100 KiB a second: 100 KiB, a pause, then 300 KiB."""
    first, second = Timed([100 * KIB]), Timed([300 * KIB], change="2")
    bench = bench_on(tmp_path, second, max_rate=100 * KIB, workers=1)

    async with bench.downloader() as downloads:
        await downloads.run(first)
        before = second.now
        second.now += idle
        began = second.now
        await downloads.run(second)

    assert before == pytest.approx(1.0)
    assert second.now - began == pytest.approx(seconds)


def many(count: int) -> MemoryFiles:
    """Return a set of files."""
    rows = [remote(f"f{number:05}") for number in range(count)]
    return MemoryFiles(rows, {row.key: Source(body=content(20_000)) for row in rows})


async def test_bodies_go_back_to_what_was_enough(tmp_path: Path) -> None:
    """A line that is full with four of them: eight bring nothing more, so four are open again."""
    opened = await in_rounds(tmp_path, many(120), workers=4, max_workers=32, link=4)

    assert max(opened) == 8
    assert opened[0] == 4
    assert set(opened[6:12]) == {4}


async def test_behind_a_refusal_the_bodies_come_back_one_step_after_another(tmp_path: Path) -> None:
    """A service that said once that it was too much is not left to fewer bodies for ever."""
    files = many(200)
    files.sources["test/f00003"].faults = [ThrottledError("slower", status=429, retry_after=0)]

    *opened, _ = await in_rounds(tmp_path, files, workers=8, max_workers=8)

    assert (opened[0], min(opened), opened[-1]) == (8, 6, 8)
    narrow = opened[opened.index(6) :]
    assert all(later - before in (0, 1) for before, later in pairwise(narrow))
