"""The lanes of a folder, and who has them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from arena_async.options import KIB
from arena_async.transfer.slots import Slots, buffer_size
from arena_async.transfer.threads import Lane


@pytest.fixture
async def slots() -> AsyncIterator[Slots]:
    """Give two slots."""
    slots = Slots(lambda: Lane(chunk_size=64 * KIB), width=2)
    yield slots
    for lane in slots.lanes:
        await lane.aclose()


async def turns() -> None:
    """Let whoever may go on do so."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_never_more_are_out_than_may_be_and_no_lane_is_made_in_vain(slots: Slots) -> None:
    """The one that came back is given out again."""
    one = await slots.take("a")
    slots.give("a", one)
    again, other = await slots.take("a"), await slots.take("a")
    third = asyncio.ensure_future(slots.take("a"))
    await turns()

    assert again is one
    assert (third.done(), slots.free, slots.wanted) == (False, 0, True)

    slots.give("a", other)
    assert await third is other
    assert slots.lanes == [one, other]
    assert not slots.wanted


async def test_a_wider_pool_serves_who_waits_and_a_narrower_one_waits_for_who_is_out(slots: Slots) -> None:
    """From 2 to 4 to 1."""
    out = [await slots.take("a"), await slots.take("a")]
    waiting = [asyncio.ensure_future(slots.take("a")) for _ in range(3)]
    slots.set_width(4)
    await turns()
    assert [turn.done() for turn in waiting] == [True, True, False]

    slots.set_width(1)
    out += [await waiting[0], await waiting[1]]
    for lane in out[:3]:
        slots.give("a", lane)
    await turns()
    assert (waiting[2].done(), slots.free) == (False, 0)

    slots.give("a", out[3])
    assert await waiting[2] is out[3]
    assert len(slots.lanes) == 4


async def test_a_set_that_has_begun_keeps_a_lane_within_reach_whatever_the_width(slots: Slots) -> None:
    """CC14: one set takes all it can get, wider and wider, and the other still gets its first."""
    first, second = object(), object()
    slots.join(first)
    slots.join(second)
    greedy = [asyncio.ensure_future(slots.take(first)) for _ in range(10)]
    await turns()
    assert sum(turn.done() for turn in greedy) == 1

    slots.set_width(6)
    await turns()
    assert sum(turn.done() for turn in greedy) == 5
    assert not (await asyncio.wait_for(slots.take(second), 1)).buffer().readonly

    for turn in greedy:
        turn.cancel()
    await turns()


async def test_a_lane_that_was_given_to_a_cancelled_task_comes_back(slots: Slots) -> None:
    """Nothing is lost between the giving and the taking."""
    one, other = await slots.take("a"), await slots.take("a")
    third = asyncio.ensure_future(slots.take("a"))
    await turns()
    slots.give("a", one)
    third.cancel()
    await turns()
    slots.give("a", other)

    assert slots.free == 2


@pytest.mark.parametrize(
    ("number", "chunk_size", "size"),
    [
        (0, 1024 * KIB, 1024 * KIB),
        (7, 1024 * KIB, 1024 * KIB),
        (8, 1024 * KIB, 256 * KIB),
        (255, 64 * 1024 * KIB, 16 * 1024 * KIB),
        (8, 512 * KIB, 256 * KIB),
        (8, 64 * KIB, 64 * KIB),
    ],
)
def test_beyond_the_eighth_lane_buffers_are_a_quarter(number: int, chunk_size: int, size: int) -> None:
    """Many lanes at work need no large buffers each; never more than asked for, and 256 KiB where that is less."""
    assert buffer_size(number, chunk_size=chunk_size) == size
