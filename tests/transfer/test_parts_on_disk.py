"""Parts of a file ahead of the others: what a control record says of them, and what of that is believed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from filesets import content

from arena_async.transfer.pieces import Pieces, Span, joined, length_of
from arena_async.transfer.storage import Partial, Storage

BODY = content(600_000, "parts")
ETAG = '"v1"'
#: What is written of it: without a gap, and ahead.
END, AHEAD = 100_000, ((200_000, 300_000), (350_000, 500_000))


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Storage]:
    """Give an empty folder."""
    storage = Storage(tmp_path / "out", flush_unit=1 << 20)
    storage.prepare()
    yield storage
    storage.close()


def leave(storage: Storage, ahead: tuple[Span, ...] = AHEAD) -> Path:
    """Leave a file of which some parts are there, and give its control record."""
    staged = storage.stage("k", "a/b.bin")
    staged.describe(validator=ETAG, total=len(BODY))
    staged.write(BODY[:END], 0)
    branch = staged.branch()
    for start, until in ahead:
        branch.write(BODY[start:until], start)
    branch.close()
    staged.watch(lambda: ahead)
    staged.checkpoint()
    staged.close()
    (record,) = (storage.root / ".arena-async/partial").glob("*.json")
    return record


def found(storage: Storage) -> Partial:
    """Give what can be continued."""
    partial = storage.find_partial("k")
    assert partial is not None
    return partial


@pytest.mark.parametrize(
    ("spans", "begin", "expected"),
    [
        ([], 0, ()),
        ([(5, 5)], 0, ()),
        ([(7, 9), (1, 3)], 0, ((1, 3), (7, 9))),
        ([(1, 3), (3, 5), (4, 9)], 0, ((1, 9),)),
        ([(1, 9), (2, 3)], 0, ((1, 9),)),
        ([(1, 9), (12, 15)], 5, ((5, 9), (12, 15))),
        ([(1, 5), (12, 15)], 5, ((12, 15),)),
        ([(1, 9), (2, 12)], 20, ()),
    ],
)
def test_parts_are_joined_where_they_touch(spans: list[Span], begin: int, expected: tuple[Span, ...]) -> None:
    """In order, none of them empty, none before the byte up to which everything is there."""
    assert joined(spans, begin=begin) == expected


def test_bytes_of_parts_are_counted() -> None:
    """Two and three."""
    assert length_of([(0, 2), (10, 13)]) == 5


def test_pieces_leave_out_what_is_written_already() -> None:
    """Nobody is asked for it, and it is reached as soon as all before it is there."""
    pieces = Pieces(begin=100, total=1000, least=200, largest=400, done=[(100, 150), (400, 450), (900, 1000)])
    taken = []
    while (found := pieces.take(1)) is not None:
        taken.append(found[0])

    assert [(piece.start, piece.until) for piece in taken] == [(150, 400), (450, 850), (850, 900)]
    assert pieces.reach(100) == 150
    taken[0].at = 400
    assert pieces.reach(100) == 450
    taken[2].at = 900
    assert joined(pieces.spans(), begin=0) == ((100, 450), (850, 1000))
    taken[1].at = 850
    assert pieces.reach(450) == 1000


def test_what_lies_ahead_is_recorded_and_gone_on_with(storage: Storage) -> None:
    """Each part with a digest of its end; the file is cut back behind the last of them."""
    leave(storage)

    partial = found(storage)
    staged = storage.resume(partial, "a/b.bin")

    assert (partial.offset, partial.ahead, partial.held) == (END, AHEAD, 350_000)
    assert staged is not None
    assert (staged.end, staged.ahead, staged.held) == (END, AHEAD, 350_000)
    path = storage.root / ".arena-async/partial" / staged.name
    assert path.stat().st_size == 500_000
    staged.write(BODY[END:200_000], END)
    staged.reach(300_000)
    assert staged.ahead == AHEAD[1:]
    replayed: list[bytes] = []
    staged.replay(lambda view: replayed.append(bytes(view)), end=300_000)
    assert b"".join(replayed) == BODY[:300_000]
    staged.close()


def test_a_part_that_begins_where_the_others_end_belongs_to_them(storage: Storage) -> None:
    """There is no gap to ask for."""
    leave(storage, ((END, 150_000), (200_000, 210_000)))

    partial = found(storage)

    assert (partial.offset, partial.ahead) == (150_000, ((200_000, 210_000),))


def test_a_part_whose_end_was_lost_with_the_power_is_not_believed(storage: Storage) -> None:
    """ST20: the others are."""
    record = leave(storage)
    with record.with_suffix(".part").open("r+b") as file:
        file.seek(299_000)
        file.write(bytes(1000))

    partial = found(storage)

    assert (partial.offset, partial.ahead) == (END, AHEAD[1:])


def test_parts_that_are_not_there_at_all_are_not_believed(storage: Storage) -> None:
    """The file is shorter than its record says."""
    record = leave(storage)
    with record.with_suffix(".part").open("r+b") as file:
        file.truncate(320_000)

    assert found(storage).ahead == AHEAD[:1]


@pytest.mark.parametrize(
    "ahead",
    [
        None, {}, "x", [1], [[1, 2]], [[200_000, 300_000, None]], [["200000", 300_000, "x"]], [[True, 300_000, "x"]],
        [[300_000, 200_000, "x"]], [[200_000, 200_000, "x"]], [[50_000, 200_000, "x"]], [[-1, 200_000, "x"]],
        [[200_000, 600_001, "x"]], [[300_000, 400_000, "x"], [200_000, 250_000, "x"]],
        [[200_000, 300_000, "x"], [250_000, 400_000, "x"]], [[200_000 + n, 200_001 + n, "x"] for n in range(201)],
    ],
)  # fmt: skip
def test_a_record_that_makes_no_sense_of_its_parts_is_ignored(storage: Storage, ahead: Any) -> None:
    """ST17: none of it is believed then; the file begins anew."""
    record = leave(storage)
    fields = json.loads(record.read_bytes())
    record.write_text(json.dumps({**fields, "ahead": ahead}))

    assert storage.find_partial("k") is None


def test_a_record_without_a_word_about_parts_has_none(storage: Storage) -> None:
    """Those of the release before."""
    record = leave(storage)
    fields = json.loads(record.read_bytes())
    del fields["ahead"]
    record.write_text(json.dumps(fields))

    assert (found(storage).offset, found(storage).ahead) == (END, ())


def test_a_file_that_begins_anew_forgets_its_parts(storage: Storage) -> None:
    """They were of another content."""
    leave(storage)
    staged = storage.resume(found(storage), "a/b.bin")
    assert staged is not None

    staged.restart()

    assert (staged.end, staged.ahead, staged.held) == (0, (), 0)
    staged.close()


def test_a_record_speaks_of_so_many_parts_only_and_is_not_due_for_the_others(storage: Storage) -> None:
    """What it leaves out is asked for again after a stop, and never a reason to write record after record."""
    storage.flush_unit = 1000
    parts = tuple((END + 200 * number + 1, END + 200 * number + 101) for number in range(300))
    record = leave(storage, parts)

    assert found(storage).ahead == parts[:200]
    assert len(record.read_bytes()) < 60_000
