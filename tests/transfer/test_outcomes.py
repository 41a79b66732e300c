"""The outcomes of a run: in the order of the listing, and packed where there are many."""

from __future__ import annotations

import gc
import pickle
import random
import tracemalloc
from collections.abc import Iterable, Sequence

import pytest
from filesets import remote

from arena_async import Action, Outcome, Report
from arena_async.errors import NotFoundError
from arena_async.transfer.outcomes import Outcomes


def outcome(number: int) -> Outcome:
    """Make the outcome of a file; each thousandth has failed."""
    return Outcome(
        remote(f"f{number:06}", change=f"{number * 7919 % 1_000_003:x}" * 4),
        Action.FETCH,
        f"/somewhere/else/files/f{number:06}.bin",
        verified_by="length",
        attempts=1,
        bytes_written=number,
        error=NotFoundError(f"f{number} is gone") if number % 1000 == 0 else None,
        sha256=random.Random(number).randbytes(32).hex(),
    )


def collected(numbers: Iterable[int]) -> Sequence[Outcome]:
    """Collect outcomes as they come."""
    rows = Outcomes()
    for number in numbers:
        rows.add(number, outcome(number))
    return rows.in_order()


def nearly_sorted(count: int) -> list[int]:
    """Return positions in the order in which files are done: each at most some places early or late."""
    places = random.Random(1)
    return sorted(range(count), key=lambda number: number + places.randrange(300))


def test_few_outcomes_are_a_tuple() -> None:
    """In the order of the listing, and nothing of them is packed."""
    rows = collected(nearly_sorted(10_000))

    assert type(rows) is tuple
    assert [row.bytes_written for row in rows] == list(range(10_000))


def test_many_outcomes_are_those_that_were_added() -> None:
    """By index, by slice and one after the other, in the order of the listing."""
    rows = collected(nearly_sorted(12_000))

    assert len(rows) == 12_000
    assert [row.bytes_written for row in rows] == list(range(12_000))
    for number in (1, 255, 256, 1999, 11_999):
        assert rows[number] == outcome(number)
    assert rows[-1] == outcome(11_999)
    assert rows[3:300:100] == (outcome(3), outcome(103), outcome(203))
    with pytest.raises(IndexError):
        rows[12_000]


def test_failures_and_bytes_of_many_outcomes_are_known_without_unpacking_them() -> None:
    """An error is the one that was raised, and not a copy of it."""
    rows = collected(nearly_sorted(12_000))
    report = Report(outcomes=rows)

    assert [row.bytes_written for row in report.failures] == list(range(0, 12_000, 1000))
    assert all(rows[row.bytes_written] is row for row in report.failures)
    assert report.bytes_written == sum(range(12_000))
    assert [row.bytes_written for row in pickle.loads(pickle.dumps(report)).outcomes] == list(range(12_000))


def test_a_report_of_many_files_takes_little_memory() -> None:
    """Beyond the first 10,000 each file takes less than a fifth of what it would."""

    def held(count: int) -> int:
        gc.collect()
        tracemalloc.start()
        try:
            rows = collected(number for number in range(count) if number % 1000)
            gc.collect()
            return tracemalloc.get_traced_memory()[0] if len(rows) else 0
        finally:
            tracemalloc.stop()

    few, many = held(10_000), held(20_000)

    assert many - few < few / 5
