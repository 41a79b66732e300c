"""Several rows of one key, sync after sync: the newest has the plain path, and no complete file is fetched again."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from filesets import MemoryFiles, Source, remote
from hypothesis import example, given, settings
from hypothesis import strategies as st

from arena_async import Action, Mirror
from arena_async.options import Clock, TransferOptions
from arena_async.protocol.filenames import duplicate_path
from arena_async.protocol.files import RemoteFile
from arena_async.transfer.outcomes import Report

#: More rows than are planned in one go.
MANY = 900

PLAIN = "files/a.bin"


def version(number: int) -> RemoteFile:
    """Return a row of the key; a higher number is a newer version."""
    return remote("a", name=f"run{number}.csv", change=f"2024-01-{number + 1:02}")


def path_of(number: int, newest: int) -> str:
    """Return where a version belongs."""
    return PLAIN if number == newest else duplicate_path(PLAIN, f"run{number}.csv", ".bin")


class Versions(MemoryFiles):
    """Rows of one key, and others in between; each version has its own content."""

    def __init__(self, order: list[int], *, between: int = 0) -> None:
        rows: list[RemoteFile] = []
        for number in order:
            rows += [remote(f"f{len(rows)}-{index}", skip="no content") for index in range(between)]
            rows.append(version(number))
        super().__init__(rows, {})
        self.fetched: list[str] = []

    async def __aiter__(self) -> AsyncIterator[RemoteFile]:
        for row in self.rows:
            yield row

    async def open(self, file: RemoteFile, **how: Any) -> Any:
        self.fetched.append(file.name)
        await asyncio.sleep(0)
        return self._answer(Source(body=file.name.encode()), 0, None, None)


async def sync(to: Path, files: Versions, *, workers: int = 4) -> Report:
    """Sync once, with a mirror of its own."""

    async def no_wait(_: float) -> None:
        await asyncio.sleep(0)

    options = TransferOptions(workers=workers, durability="off")
    async with Mirror(to, options=options, clock=Clock(sleep=no_wait, random=lambda: 0.5)) as mirror:
        return await mirror.sync(files)


def versions_in(to: Path) -> dict[str, str]:
    """Return what lies under the names of the key."""
    return {path.relative_to(to).as_posix(): path.read_text() for path in sorted((to / "files").glob("a*"))}


def expected(order: list[int]) -> dict[str, str]:
    """Return what has to lie there after a sync of these versions."""
    return {path_of(number, max(order)): f"run{number}.csv" for number in order}


@pytest.mark.parametrize("between", [0, MANY])
@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0], [1, 2, 0], [0, 2, 1], [1, 0, 2], [3, 0, 2, 1, 4]])
async def test_each_version_is_fetched_once_in_any_order(order: list[int], between: int, tmp_path: Path) -> None:
    """On one page or over several; the second and third sync fetch nothing, whatever their order."""
    first, second, third = (Versions(rows, between=between) for rows in (order, order[::-1], sorted(order)))
    for files in (first, second, third):
        report = await sync(tmp_path, files)
        assert (report.failures, report.not_started) == ((), 0)
        assert versions_in(tmp_path) == expected(order)

    assert sorted(first.fetched) == [f"run{number}.csv" for number in sorted(order)]
    assert (second.fetched, third.fetched) == ([], [])


@pytest.mark.parametrize("between", [0, MANY])
@pytest.mark.parametrize("order", [[3, 2, 1, 0], [0, 1, 2, 3], [1, 3, 0, 2]])
async def test_a_newer_version_moves_the_others_aside(order: list[int], between: int, tmp_path: Path) -> None:
    """One request for the new one, whether it is listed first or last."""
    await sync(tmp_path, Versions([0, 2, 1]))
    files = Versions(order, between=between)

    await sync(tmp_path, files)

    assert files.fetched == ["run3.csv"]
    assert versions_in(tmp_path) == expected(order)


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
async def test_a_second_version_moves_the_only_one_aside(order: list[int], tmp_path: Path) -> None:
    """On the same page, before it or behind it."""
    await sync(tmp_path, Versions([0]))
    files = Versions(order)

    report = await sync(tmp_path, files)

    assert files.fetched == ["run1.csv"]
    assert (report.counts[Action.KEEP], report.not_started) == (1, 0)
    assert versions_in(tmp_path) == expected(order)


@pytest.mark.parametrize("between", [0, MANY])
@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
async def test_what_is_newest_when_the_newest_is_withdrawn_is_moved_to_the_plain_path(
    order: list[int], between: int, tmp_path: Path
) -> None:
    """It is here already, so it costs no request."""
    await sync(tmp_path, Versions([0, 1, 2]))
    files = Versions(order, between=between)

    await sync(tmp_path, files)

    assert files.fetched == []
    assert versions_in(tmp_path) == expected(order)


async def test_an_older_version_alone_replaces_what_is_here(tmp_path: Path) -> None:
    """A service may go back to it."""
    await sync(tmp_path, Versions([2]))
    files = Versions([1], between=MANY)

    await sync(tmp_path, files)

    assert files.fetched == ["run1.csv"]
    assert versions_in(tmp_path) == {PLAIN: "run1.csv"}


async def test_a_newer_version_alone_replaces_what_is_here(tmp_path: Path) -> None:
    """Nothing is moved aside for a key of one row."""
    await sync(tmp_path, Versions([1]))

    await sync(tmp_path, Versions([2]))

    assert versions_in(tmp_path) == {PLAIN: "run2.csv"}


lists = st.lists(st.integers(0, 4), min_size=1, max_size=5, unique=True)


@settings(max_examples=25, deadline=None)
@given(listings=st.lists(lists, min_size=2, max_size=4), between=st.sampled_from([0, 1, 450]))
@example(listings=[[2], [0, 1, 2], [1, 0]], between=450)
def test_no_sequence_of_listings_puts_a_version_in_the_wrong_place(listings: list[list[int]], between: int) -> None:
    """The plain path has the newest listed; what stays listed is fetched once, but where a second row is new."""
    with tempfile.TemporaryDirectory() as folder:
        before: list[int] = []
        for order in listings:
            files = Versions(order, between=between)
            report = asyncio.run(sync(Path(folder), files))
            found = versions_in(Path(folder))
            assert (report.failures, report.not_started) == ((), 0)
            assert expected(order).items() <= found.items()
            fetched = Counter(files.fetched)
            again = {name for name in fetched if int(name[3]) in before}
            assert max(fetched.values(), default=0) <= 1
            # A newer version on a page before that of the only one that is here replaces it.
            assert not again or (len(before) == 1 and between)
            before = order
