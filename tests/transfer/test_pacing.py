"""How fast files come: the decisions, over plain values."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arena_async.options import KIB, MIB
from arena_async.transfer.pacing import Interval, RateLimit, Width


@pytest.mark.parametrize(
    ("taken", "waits"),
    [
        ([(100, 0.0)], [1.0]),
        ([(100, 0.0), (100, 0.0), (50, 0.0)], [1.0, 2.0, 2.5]),
        ([(100, 0.0), (100, 1.0)], [1.0, 1.0]),
        ([(100, 0.0), (100, 1.5)], [1.0, 0.5]),
        ([(100, 0.0), (100, 60.0)], [1.0, 0.0]),
        ([(100, 0.0), (300, 60.0)], [1.0, 2.0]),
        ([(0, 0.0)], [0.0]),
    ],
)
def test_each_piece_is_paid_with_time(taken: list[tuple[int, float]], waits: list[float]) -> None:
    """At 100 bytes a second; time in which nothing came makes up for one second and no more."""
    limit = RateLimit(100, readers=1)

    assert [limit.wait_after(count, now=now) for count, now in taken] == waits


@given(
    rate=st.floats(1024, 1e10),
    readers=st.integers(1, 256),
    gaps=st.lists(st.floats(0, 100), min_size=1, max_size=50),
)
def test_over_any_time_no_more_comes_than_the_rate_and_a_second_and_a_piece_of_each(
    rate: float, readers: int, gaps: list[float]
) -> None:
    """However late the bodies come back, and whoever of them reads."""
    limit = RateLimit(rate, readers=readers)
    now, came = 0.0, []
    free = [0.0] * readers
    for number, gap in enumerate(gaps):
        reader = number % readers
        now = max(now, free[reader]) + gap
        came.append((now, limit.piece))
        free[reader] = now + limit.wait_after(limit.piece, now=now)

    for first, (start, _) in enumerate(came):
        for last in range(first, len(came)):
            seconds = came[last][0] - start
            brought = sum(count for _, count in came[first : last + 1])
            assert brought <= (rate * (seconds + 1) + limit.piece * readers) * (1 + 1e-6)


@pytest.mark.parametrize(
    ("rate", "readers", "piece"),
    [(10 * MIB, 1, MIB), (10 * MIB, 8, MIB // 8), (100 * KIB, 1, 10 * KIB), (1024, 8, 4 * KIB)],
)
def test_a_piece_is_a_tenth_of_a_second_of_its_share(rate: float, readers: int, piece: int) -> None:
    """So that a low rate comes evenly; never less than 4 KiB, so that it costs little."""
    assert RateLimit(rate, readers=readers).piece == piece


def over(
    width: Width, seconds: float, *, each: float, link: float = float("inf"), refused_above: int = 999
) -> list[int]:
    """Let a width judge what a host gives that is capped for each connection, and a link for all, every half second."""
    widths = []
    for _ in range(int(seconds * 2)):
        count = int(min(width.slots * each, link) / 2)
        refusals = int(width.slots > refused_above)
        widths.append(width.judge(Interval(seconds=0.5, count=count, refusals=refusals)))
    return widths


def test_bodies_double_while_that_brings_more_and_end_at_the_most() -> None:
    """Each interval of change is followed by one that is judged."""
    assert over(Width(start=8, most=48), 5, each=100)[:8] == [8, 16, 16, 32, 32, 48, 48, 48]


def test_bodies_go_back_to_what_was_enough() -> None:
    """A link that is full with 10 of them: 16 bring a little more than 8, 32 nothing."""
    widths = over(Width(start=8, most=64), 10, each=100, link=1000)

    assert widths[:6] == [8, 16, 16, 8, 8, 8]


def test_refusals_narrow_at_once_and_down_to_one() -> None:
    """A service that refuses everything is asked by one body at a time."""
    width = Width(start=8, most=32)

    assert over(width, 5, each=100, refused_above=0)[:8] == [6, 4, 3, 2, 1, 1, 1, 1]


def test_behind_refusals_the_bodies_come_back_one_step_after_another() -> None:
    """A service that was away for a while is not left to one body for ever."""
    width = Width(start=8, most=8)
    over(width, 5, each=100, refused_above=0)

    widths = over(width, 1000, each=100)

    assert widths[-1] == 8
    assert all(later - before <= max(1, before // 4) for before, later in pairwise(widths))


def test_a_fixed_host_is_not_tried_over_and_over() -> None:
    """In an hour at a full link, a wider try comes ever more rarely."""
    widths = over(Width(start=8, most=64), 3600, each=100, link=800)

    changes = sum(one != other for one, other in pairwise(widths))
    assert set(widths[-1000:]) <= {8, 10}
    assert changes <= 40


@pytest.mark.parametrize("seen", [{"wanted": False}, {"seconds": 60.0}])
def test_nothing_is_learned_while_nobody_waits_or_nothing_was_fetched(seen: dict[str, Any]) -> None:
    """A listing that is slow, or a pause between two runs, is no reason for more bodies."""
    width = Width(start=8, most=32)

    for _ in range(10):
        assert width.judge(Interval(**{"seconds": 0.5, "count": 100, **seen})) == 8


@given(
    start=st.integers(1, 64),
    more=st.integers(0, 192),
    seen=st.lists(
        st.builds(
            Interval,
            seconds=st.floats(0, 20),
            count=st.integers(0, 10**10),
            refusals=st.integers(0, 3),
            wanted=st.booleans(),
        ),
        max_size=100,
    ),
)
def test_never_more_than_allowed_never_less_than_one_and_never_wider_at_a_refusal(
    start: int, more: int, seen: list[Interval]
) -> None:
    """Whatever is seen."""
    width = Width(start=start, most=start + more)
    for interval in seen:
        before = width.slots
        slots = width.judge(interval)
        assert 1 <= slots <= start + more
        if interval.refusals:
            assert slots < before or before == 1
