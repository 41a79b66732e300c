"""What a long run is judged by: a leak is seen, and what comes by chance is not."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import mmap
import sys
import time

import attrs
import pytest
from holding import Held, Sampler, bytes_in_use
from soak import Soaked, broken_bounds

from arena_async.options import MIB

pytestmark = pytest.mark.once

only_gnu = pytest.mark.skipif(sys.platform != "linux", reason="Only the GNU C library tells what is in use.")


def _small() -> object:
    # The largest small ones, which lose the least to rounding.
    return [bytes(479) for _ in range(836)]


def _large() -> object:
    return [bytes(4000) for _ in range(100)]


def _mapped() -> object:
    return mmap.mmap(-1, 400_000)


def _in_a_cycle() -> object:
    ring: list[object] = [bytes(400_000)]
    ring.append(ring)
    return ring


@only_gnu
@pytest.mark.parametrize("take", [_small, _large, _mapped, _in_a_cycle])
def test_what_is_kept_is_counted_to_the_byte(take: object) -> None:
    """Small objects, large ones, mappings: 400,000 bytes are 400,000 and what their objects take."""
    assert callable(take)
    bytes_in_use()
    before = bytes_in_use()
    kept = take()
    with_it = bytes_in_use() - before
    assert kept is not None
    del kept
    assert 400_000 <= with_it < 460_000
    assert abs(bytes_in_use() - before) < 10_000


@only_gnu
def test_what_c_keeps_is_counted_too() -> None:
    """What a library in C asks for is no object of Python."""
    library = ctypes.CDLL(None)
    library.malloc.restype = ctypes.c_void_p
    library.free.argtypes = [ctypes.c_void_p]
    bytes_in_use()
    before = bytes_in_use()
    # Blocks of the heap are up to 16 bytes larger than asked for, those in use before as well.
    kept = library.malloc(400_100)
    assert bytes_in_use() - before >= 400_000
    library.free(kept)


def _rest(in_use: int, **others: int) -> Held:
    return attrs.evolve(
        Held(in_use=12 * MIB + in_use, memory=60 * MIB, descriptors=20, threads=2, tasks=1),
        **others,  # type: ignore[arg-type]
    )


def _soaked(*rests: Held, requests: int = 33_000, max_hold: float = 0.05) -> Soaked:
    return Soaked(files=30_000, requests=requests, passes=len(rests), rests=list(rests), max_hold=max_hold)


@pytest.mark.parametrize(
    ("added", "words"),
    [
        ([0, 3_750_000, 7_500_000, 11_250_000], ["each pass left 3,750,000", "bytes in use grew from 12,582,912 to"]),
        ([0, 225_000, 450_000, 675_000], ["each pass left 225,000 bytes behind"]),
        ([0, 225_000, 1_400_000, 1_390_000, 1_625_000], ["each pass left 230,000 bytes behind"]),
        (
            [0, 3_000_000, 3_000_000, 20_000_000],
            ["each pass left 3,000,000 bytes", "bytes in use grew from 12,582,912"],
        ),
        ([0, 0, 0, 9_000_000], ["bytes in use grew from 12,582,912 to 21,582,912"]),
        ([0, 26_000, 1_006_000, 1_007_000], []),
        ([0, 990_000, 950_000, 1_001_000, 1_000_000], []),
        ([0, -90_000, 40_000, -20_000], []),
    ],
)
def test_a_soak_sees_what_is_kept_of_each_file(added: list[int], words: list[str]) -> None:
    """What every pass adds is a leak; a table that was made larger once is none."""
    wrong = broken_bounds(_soaked(*(_rest(more) for more in added)))
    assert len(wrong) == len(words)
    assert all(said.startswith(begins) for said, begins in zip(wrong, words, strict=True))


@pytest.mark.parametrize(
    ("last", "words"),
    [
        (_rest(0, memory=190 * MIB), ["resident bytes grew from 62,914,560 to 199,229,440"]),
        (_rest(0, memory=110 * MIB), []),
        (_rest(0, descriptors=40), ["descriptors grew from 20 to 40"]),
        (_rest(0, threads=3), ["threads grew from 2 to 3"]),
        (_rest(0, tasks=2), ["tasks grew from 1 to 2"]),
    ],
)
def test_a_soak_sees_what_else_grows(last: Held, words: list[str]) -> None:
    """No thread, no task, no descriptors but those of a few connections; room between what stays is allowed."""
    assert broken_bounds(_soaked(_rest(0), _rest(0), last)) == words


def test_a_soak_sees_what_costs_too_much_and_what_holds_the_loop() -> None:
    """1.2 requests for a file and a tenth of a second are the bounds."""
    assert broken_bounds(_soaked(_rest(0), _rest(0), requests=36_000, max_hold=0.11)) == [
        "36000 requests were sent for 30000 files",
        "the event loop was held for 0.11 s",
    ]


def _work(seconds: float) -> None:
    ends = time.thread_time() + seconds
    while time.thread_time() < ends:
        pass


async def test_work_on_the_event_loop_is_seen_and_a_collection_is_not_taken_for_it() -> None:
    """A tenth of a second of work counts, and just as much of collecting garbage does not."""
    async with Sampler() as sampler:
        await asyncio.sleep(0.01)
        _work(0.1)
        await asyncio.sleep(0.01)
    assert sampler.max_hold >= 0.09

    kept = [[number] for number in range(300_000)]
    async with Sampler() as sampler:
        await asyncio.sleep(0.01)
        gc.collect()
        await asyncio.sleep(0.01)
    assert len(kept) == 300_000
    assert sampler.max_collection > sampler.max_hold
