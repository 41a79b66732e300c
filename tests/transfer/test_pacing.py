"""How fast files come: the decisions, over plain values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arena_async.options import KIB, MIB
from arena_async.transfer.pacing import RateLimit


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
