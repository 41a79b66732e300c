"""Whose turn it is: the workers of a directory, shared by the sets that are downloaded to it at the same time."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from filesets import Asked, MemoryFiles, Source, content, remote
from rounds import settled

from arena_async import Downloader, TransferOptions
from arena_async.options import KIB

BODY = content(300_000)


class Held(MemoryFiles):
    """
    Files whose requests wait until they are let go; the sizes of the buffers that are filled are noted.

    No body comes before so many are to be received ``together``.
    """

    def __init__(self, name: str, count: int, body: bytes = b"x", *, together: int = 0) -> None:
        rows = [remote(f"{name}{number}") for number in range(count)]
        super().__init__(rows, {row.key: Source(body=body) for row in rows}, scope=f"test/{name}")
        self.before_open = self._wait
        self.turns: list[asyncio.Event] = []
        self.buffers: dict[str, int] = {}
        self._together = together

    async def _wait(self, _: Asked) -> None:
        self.turns.append(asyncio.Event())
        await self.turns[-1].wait()

    def go_on(self) -> None:
        """Let all of them go, now and later."""
        self.before_open = None
        for turn in self.turns:
            turn.set()

    async def open(self, file: Any, **how: Any) -> Any:
        opened = await super().open(file, **how)
        readinto = opened.stream.readinto

        async def noted(buffer: memoryview) -> int:
            self.buffers[file.key] = max(len(buffer), self.buffers.get(file.key, 0))
            while len(self.buffers) < self._together:
                await asyncio.to_thread(int)
            return await readinto(buffer)

        opened.stream.readinto = noted  # type: ignore[method-assign]
        return opened


def downloader(to: Path, **options: Any) -> Downloader:
    """Return one with two workers."""
    given = {"workers": 2, "chunk_size": 64 * KIB, "durability": "off", **options}
    return Downloader(to, options=TransferOptions(**given))


async def test_a_set_that_begins_is_served_before_the_next_file_of_one_that_has_all_workers(tmp_path: Path) -> None:
    """CC14: one set takes all it can get, and the other still gets its first."""
    greedy, other = Held("greedy", 10), Held("other", 3)
    async with downloader(tmp_path) as downloads:
        first = asyncio.create_task(downloads.run(greedy))
        await settled(greedy, minimum=2)
        second = asyncio.create_task(downloads.run(other))
        await settled(other)
        before = len(greedy.requested), len(other.requested)
        greedy.turns[0].set()
        await settled(other, minimum=1)
        after = len(greedy.requested), len(other.requested)
        greedy.go_on()
        other.go_on()
        reports = await asyncio.gather(first, second)

    assert (before, after) == ((2, 0), (2, 1))
    assert [report.failures for report in reports] == [(), ()]


async def test_a_set_that_is_held_up_keeps_no_more_workers_than_there_are(tmp_path: Path) -> None:
    """CC14: with another set about to begin, one worker stays within its reach, however many files the first has."""
    greedy, other = Held("greedy", 10), Held("other", 3)
    other.go_on()
    async with downloader(tmp_path, workers=3) as downloads:
        outcomes = downloads.stream(other)
        assert (await anext(outcomes)).error is None
        first = asyncio.create_task(downloads.run(greedy))
        await settled(greedy, minimum=2)
        rest = [outcome.error async for outcome in outcomes]
        greedy.go_on()
        report = await first

    assert rest == [None, None]
    assert report.failures == ()


@pytest.mark.parametrize(
    ("workers", "chunk_size", "sizes"),
    [
        (8, 1024 * KIB, {1024 * KIB: 8}),
        (10, 1024 * KIB, {1024 * KIB: 8, 256 * KIB: 2}),
        (10, 2048 * KIB, {2048 * KIB: 8, 512 * KIB: 2}),
        (10, 512 * KIB, {512 * KIB: 8, 256 * KIB: 2}),
        (10, 64 * KIB, {64 * KIB: 10}),
    ],
)
async def test_beyond_the_eighth_worker_buffers_are_a_quarter(
    tmp_path: Path, workers: int, chunk_size: int, sizes: dict[int, int]
) -> None:
    """Many bodies at a time need no large buffers each; never more than asked for, and 256 KiB where that is less."""
    files = Held("f", workers, body=content(3 * 1024 * KIB), together=workers)
    async with downloader(tmp_path, workers=workers, chunk_size=chunk_size) as downloads:
        going = asyncio.create_task(downloads.run(files))
        while len(files.requested) < workers:
            await asyncio.to_thread(int)
        files.go_on()
        report = await going

    assert report.failures == ()
    found = list(files.buffers.values())
    assert {size: found.count(size) for size in found} == sizes
