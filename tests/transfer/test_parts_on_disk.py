"""Parts of a file ahead of the others: what a control record says of them, and what of that is believed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from directory_bench import Bench
from filesets import MemoryFiles, Source, content, remote
from internals import Splitting

from arena_async import Action, OpenedFile, Outcome
from arena_async.options import KIB

BODY = content(600_000, "parts")
#: What is written of it: without a gap, and ahead.
END, AHEAD = 100_000, ((200_000, 300_000), (350_000, 500_000))


class Counting(MemoryFiles):
    """A file whose bytes cost no request; those that were sent are counted."""

    def __init__(self, etag: str = '"v1"', body: bytes = BODY) -> None:
        super().__init__([remote("a", size=len(body))], {"test/a": Source(body=body, etag=etag)})
        self.per_file = 0
        self.sent = 0

    async def open(self, file: Any, **how: Any) -> OpenedFile:
        opened = await super().open(file, **how)
        readinto = opened.stream.readinto

        async def counted(buffer: memoryview) -> int:
            count = await readinto(buffer)
            self.sent += count
            return count

        opened.stream.readinto = counted  # type: ignore[method-assign]
        return opened


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Return an empty directory in which small files are split."""
    splitting = Splitting(min_size=64 * KIB, min_piece=16 * KIB, max_piece=64 * KIB)
    return Bench(tmp_path / "out", splitting=splitting, workers=4, record_every=1 << 20)


def written(*spans: tuple[int, int]) -> bytes:
    """Return a partial file in which only some parts have their bytes."""
    found = bytearray(max(until for _, until in spans))
    for start, until in spans:
        found[start:until] = BODY[start:until]
    return bytes(found)


def leave(bench: Bench, ahead: tuple[tuple[int, int], ...] = AHEAD, **fields: Any) -> Path:
    """Leave a file of which some parts are there, and return its control record."""
    return bench.leave_partial(body=written((0, END), *ahead), offset=END, ahead=ahead, total=len(BODY), **fields)


async def finish(bench: Bench, files: Counting) -> Outcome:
    """Sync; the file is whole, and nothing else is left."""
    outcome = await bench.fetch(files)
    assert outcome.error is None
    assert bench.finals() == {"files/a.bin": BODY}
    assert bench.partials() == []
    assert outcome.bytes_written == files.sent
    return outcome


async def test_what_lies_ahead_is_not_asked_for_again(bench: Bench) -> None:
    """The gaps are, and the whole of the file is hashed."""
    leave(bench)
    files = Counting()

    outcome = await finish(bench, files)

    assert outcome.action is Action.RESUME
    assert (files.requested[0].offset, files.sent) == (END, len(BODY) - 350_000)


async def test_a_part_that_begins_where_the_others_end_belongs_to_them(bench: Bench) -> None:
    """There is no gap to ask for."""
    leave(bench, ((END, 150_000), (200_000, 210_000)))
    files = Counting()

    await finish(bench, files)

    assert (files.requested[0].offset, files.sent) == (150_000, len(BODY) - 160_000)


async def test_a_part_whose_end_was_lost_with_the_power_is_not_believed(bench: Bench) -> None:
    """ST20: the others are."""
    with leave(bench).with_suffix(".part").open("r+b") as file:
        file.seek(299_000)
        file.write(bytes(1000))
    files = Counting()

    await finish(bench, files)

    assert (files.requested[0].offset, files.sent) == (END, len(BODY) - END - 150_000)


async def test_parts_that_are_not_there_at_all_are_not_believed(bench: Bench) -> None:
    """The file is shorter than its record says."""
    with leave(bench).with_suffix(".part").open("r+b") as file:
        file.truncate(320_000)
    files = Counting()

    await finish(bench, files)

    assert files.sent == len(BODY) - END - 100_000


@pytest.mark.parametrize(
    "ahead",
    [
        None, {}, "x", [1], [[1, 2]], [[200_000, 300_000, None]], [["200000", 300_000, "x"]], [[True, 300_000, "x"]],
        [[300_000, 200_000, "x"]], [[200_000, 200_000, "x"]], [[50_000, 200_000, "x"]], [[-1, 200_000, "x"]],
        [[200_000, 600_001, "x"]], [[300_000, 400_000, "x"], [200_000, 250_000, "x"]],
        [[200_000, 300_000, "x"], [250_000, 400_000, "x"]], [[200_000 + n, 200_001 + n, "x"] for n in range(201)],
    ],
)  # fmt: skip
async def test_a_record_that_makes_no_sense_of_its_parts_is_ignored(bench: Bench, ahead: Any) -> None:
    """ST17: none of it is believed then; the file begins anew."""
    record = leave(bench)
    record.write_text(json.dumps({**json.loads(record.read_bytes()), "ahead": ahead}))
    files = Counting()

    outcome = await finish(bench, files)

    assert outcome.action is Action.FETCH
    assert (files.requested[0].offset, files.sent) == (0, len(BODY))


async def test_a_record_without_a_word_about_parts_has_none(bench: Bench) -> None:
    """Those of the release before."""
    record = leave(bench)
    fields = json.loads(record.read_bytes())
    del fields["ahead"]
    record.write_text(json.dumps(fields))
    files = Counting()

    await finish(bench, files)

    assert (files.requested[0].offset, files.sent) == (END, len(BODY) - END)


async def test_a_file_that_begins_anew_forgets_its_parts(bench: Bench) -> None:
    """They were of another content."""
    leave(bench, validator='"v0"')
    files = Counting()

    await finish(bench, files)

    assert [requested.offset for requested in files.requested[:2]] == [END, 0]
    assert files.sent == len(BODY)
