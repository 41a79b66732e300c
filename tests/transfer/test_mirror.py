"""A folder kept equal to a listing: what is fetched, kept, skipped, reported gone, removed, planned and verified."""

from __future__ import annotations

import asyncio
import errno
import gc
import hashlib
import os
import sqlite3
import tracemalloc
import weakref
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import attrs
import pytest
from directory_bench import Bench, connecting
from disks import FaultyDisk
from filesets import Asked, MemoryFiles, Source, content, remote
from internals import rig

from arena_async import Action, Mirror, Plan, Report
from arena_async.errors import (
    ClosedError,
    ConfigurationError,
    DestinationBusyError,
    ListingError,
    NotFoundError,
    QuotaExhaustedError,
    ServerError,
)
from arena_async.options import KIB, Clock, TransferOptions
from arena_async.protocol.files import RemoteFile
from arena_async.protocol.messages import Secret

#: Rows that are decided on in one go.
PAGE = 400
NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


def mirror(to: Path, *, now: datetime = NOW, **options: Any) -> Mirror:
    """Make one that does not wait and does not sync to the disk."""

    async def no_wait(_: float) -> None:
        await asyncio.sleep(0)

    given = {"workers": 4, "chunk_size": 64 * KIB, "durability": "off", **options}
    return Mirror(to, options=TransferOptions(**given), clock=Clock(sleep=no_wait, random=lambda: 0.5, now=lambda: now))


def many(count: int, **fields: Any) -> MemoryFiles:
    """Make a set of files, each with its own content."""
    rows = [remote(f"f{number}", **fields) for number in range(count)]
    return MemoryFiles(rows, {row.key: Source(body=content(5000, row.key)) for row in rows})


async def sync(to: Path, files: MemoryFiles, **arguments: Any) -> Report:
    """Sync once, with a mirror of its own."""
    async with mirror(to) as home:
        return await home.sync(files, **arguments)


def counted(report: Report) -> dict[str, int]:
    """Return the counts that are not 0."""
    return {action.value: count for action, count in report.counts.items() if count}


def replace(files: MemoryFiles, number: int, **fields: Any) -> None:
    """Change a listed row."""
    assert isinstance(files.rows, list)
    files.rows[number] = attrs.evolve(files.rows[number], **fields)


async def test_a_second_sync_fetches_nothing(tmp_path: Path) -> None:
    """It spends the listing, and nothing else."""
    files = many(30)

    first = await sync(tmp_path, files)
    requested = len(files.requested)
    second = await sync(tmp_path, files)

    assert (counted(first), counted(second)) == ({"fetch": 30}, {"keep": 30})
    assert (requested, len(files.requested)) == (30, 30)
    assert (first.requests, second.requests) == (31, 1)
    assert second.outcomes == ()


async def test_only_what_changed_is_fetched_again(tmp_path: Path) -> None:
    """A new change mark at the service, or a file that somebody touched or removed here."""
    files = many(5)
    await sync(tmp_path, files)
    replace(files, 0, change="2")
    files.sources["test/f0"].body = content(6000, "new")
    (tmp_path / "files" / "f1.bin").write_bytes(b"touched by somebody")
    (tmp_path / "files" / "f2.bin").unlink()
    os.utime(tmp_path / "files" / "f3.bin", (1, 1))

    report = await sync(tmp_path, files)

    assert counted(report) == {"refresh": 2, "fetch": 1, "keep": 2}
    assert (tmp_path / "files" / "f0.bin").read_bytes() == content(6000, "new")
    assert (tmp_path / "files" / "f1.bin").read_bytes() == content(5000, "test/f1")


def copied(root: Path, *, whole: bool = True) -> list[Path]:
    """Let the files of a directory have other times, as in a copy of it, and other bytes unless ``whole``."""
    paths = sorted((root / "files").iterdir())
    for number, path in enumerate(paths):
        if not whole:
            path.write_bytes(path.read_bytes()[::-1])
        os.utime(path, ns=(number, 10**9 * (number + 1)))
    return paths


async def test_a_copied_directory_is_read_and_not_fetched_again(tmp_path: Path) -> None:
    """Once: the times of the copy are known after that."""
    files = many(500)
    await sync(tmp_path, files)
    copied(tmp_path)

    report = await sync(tmp_path, files)
    with sqlite3.connect(tmp_path / ".arena-async" / "ledger.sqlite") as ledger:
        times = {row[0] for row in ledger.execute("SELECT mtime_ns FROM files")}
    ledger.close()

    assert counted(report) == {"keep": 500}
    assert len(files.requested) == 500
    assert times == {10**9 * (number + 1) for number in range(500)}


async def test_other_bytes_of_the_same_size_are_fetched_again(tmp_path: Path) -> None:
    """What only has the size of the recorded file is not kept."""
    files = many(3)
    await sync(tmp_path, files)
    copied(tmp_path, whole=False)

    report = await sync(tmp_path, files)

    assert counted(report) == {"refresh": 3}
    assert (tmp_path / "files" / "f1.bin").read_bytes() == content(5000, "test/f1")


async def test_a_copied_directory_without_digests_is_fetched_again(tmp_path: Path) -> None:
    """Nothing proves what it holds."""
    files = many(2)
    async with mirror(tmp_path, digest=None) as home:
        await home.sync(files)
    copied(tmp_path)

    async with mirror(tmp_path, digest=None) as home:
        report = await home.sync(files)

    assert counted(report) == {"refresh": 2}


async def test_a_plan_of_a_copied_directory_keeps_it(tmp_path: Path) -> None:
    """It says what a sync would do."""
    files = many(3)
    await sync(tmp_path, files)
    copied(tmp_path)

    async with mirror(tmp_path) as home:
        plan = await home.plan(files)

    assert (plan.kept, plan.files) == (3, ())


async def test_a_copied_directory_is_still_listed_from_its_watermark(tmp_path: Path) -> None:
    """Where everything is what it was, only changes are listed."""
    files = many(3, changed_at=NOW - timedelta(days=1), listed_in="list")
    files.filters = True
    await sync(tmp_path, files)
    copied(tmp_path)

    await sync(tmp_path, files)

    assert files.watermarks == [{"list": NOW - timedelta(days=1, hours=1)}]
    assert len(files.requested) == 3


async def test_verify_writes_the_times_of_a_copied_directory_down(tmp_path: Path) -> None:
    """The next sync need not read it again: nobody can tell by then but by the time."""
    files = many(3)
    await sync(tmp_path, files)
    paths = copied(tmp_path)

    async with mirror(tmp_path) as home:
        verified = await home.verify()
        times = {entry.path: entry.mtime_ns async for entry in home.entries()}

    assert (verified.ok, verified.bad) == (3, ())
    assert times == {f"files/{path.name}": path.stat().st_mtime_ns for path in paths}


async def test_what_verify_has_found_to_be_wrong_is_fetched_whatever_its_digest(tmp_path: Path) -> None:
    """A file that is marked stays marked."""
    files = many(1)
    await sync(tmp_path, files)
    with sqlite3.connect(tmp_path / ".arena-async" / "ledger.sqlite") as ledger:
        ledger.execute("UPDATE files SET mtime_ns = -1")
    ledger.close()

    async with mirror(tmp_path) as home:
        verified = await home.verify()
        report = await home.sync(files)

    assert verified.ok == 1
    assert counted(report) == {"refresh": 1}


async def test_a_leftover_is_never_taken_for_a_file(tmp_path: Path) -> None:
    """ST10: existence alone proves nothing."""
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "f0.bin").write_bytes(content(5000, "test/f0"))
    files = many(1)

    report = await sync(tmp_path, files)

    assert counted(report) == {"fetch": 1}
    assert len(files.requested) == 1


async def test_a_permanent_refusal_is_remembered_and_asked_again_on_request(tmp_path: Path) -> None:
    """A failure once, then skipped with its reason, not as a failure."""
    files = many(2)
    files.sources["test/f0"].faults = [NotFoundError("no content", status=400, code=3028)]

    first = await sync(tmp_path, files)
    second = await sync(tmp_path, files)
    third = await sync(tmp_path, files, ask_again=True)

    assert (len(first.failures), counted(first)) == (1, {"fetch": 1})
    assert (second.failures, counted(second)) == ((), {"skip": 1, "keep": 1})
    assert second.outcomes[0].reason == "no content"
    assert counted(third) == {"fetch": 1, "keep": 1}


async def test_what_the_listing_calls_without_content_is_skipped(tmp_path: Path) -> None:
    """No request, and remembered."""
    files = many(1, skip="a link to another site")

    report = await sync(tmp_path, files)
    async with mirror(tmp_path) as home:
        assert [entry async for entry in home.entries()] == []

    assert counted(report) == {"skip": 1}
    assert files.requested == []


async def test_what_is_no_longer_listed_is_reported_and_stays(tmp_path: Path) -> None:
    """GONE."""
    files = many(3)
    await sync(tmp_path, files)
    assert isinstance(files.rows, list)
    del files.rows[1]

    report = await sync(tmp_path, files)

    assert counted(report) == {"keep": 2, "gone": 1}
    assert [(row.action, row.file.key, row.path) for row in report.outcomes] == [
        (Action.GONE, "test/f1", tmp_path / "files" / "f1.bin")
    ]
    assert (tmp_path / "files" / "f1.bin").exists()


class Growing(MemoryFiles):
    """Files that are listed one by one, made when their turn comes; what was listed once is remembered by nobody."""

    def __init__(self, count: int) -> None:
        async def listing() -> AsyncIterator[RemoteFile]:
            for number in range(count):
                # Only the reader and the feeder of a stream take turns here.
                await asyncio.sleep(0)
                if number == self.pause_at:
                    await self.go_on.wait()
                yield self.row(number)

        super().__init__(listing, {})
        self.pause_at = -1
        self.go_on = asyncio.Event()
        self.living: weakref.WeakSet[RemoteFile] = weakref.WeakSet()
        self.maximum = 0

    def row(self, number: int) -> RemoteFile:
        """Make a row, and count those that are alive."""
        row = remote(f"f{number}", change="1", size=0)
        self.living.add(row)
        self.maximum = max(self.maximum, len(self.living))
        return row


async def remember(to: Path, numbers: range) -> None:
    """Let a folder have some empty files, as a sync has brought them."""
    async with mirror(to):
        pass
    (to / "files").mkdir(parents=True)
    listed, known = [], []
    for number in numbers:
        key, path = f"test/f{number}", f"files/f{number}.bin"
        (to / path).touch()
        os.utime(to / path, ns=(1, 1))
        listed.append((key,))
        known.append((key, "complete", path, 0, 1, "1", "none", "", "", ""))
    ledger = sqlite3.connect(to / ".arena-async" / "ledger.sqlite")
    ledger.execute("INSERT INTO scopes (id, scope, generation) VALUES (1, 'test/files', 1)")
    ledger.executemany("INSERT INTO seen (scope, key, generation) VALUES (1, ?, 1)", listed)
    ledger.executemany(
        "INSERT INTO files (key, state, path, size, mtime_ns, change, verified_by, name, partial, reason) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        known,
    )
    ledger.commit()
    ledger.close()


@pytest.mark.parametrize("verb", ["plan", "sync", "prune"])
async def test_memory_does_not_grow_with_what_is_here_already(tmp_path: Path, verb: str) -> None:
    """However long a listing is, a few pages of it are held, and nothing of those that were kept."""

    async def held(to: Path, count: int) -> tuple[int, int]:
        """Return the rows that were alive at once, and the bytes beyond them that were held in the end."""
        await remember(to, range(count + 20))
        files = Growing(count)
        gc.collect()
        tracemalloc.start()
        try:
            async with mirror(to) as home:
                if verb == "plan":
                    plan = await home.plan(files)
                    assert (plan.kept, len(plan.files)) == (count, 20)
                else:
                    report = await home.sync(files, prune=verb == "prune")
                    assert counted(report) == {"keep": count, "prune" if verb == "prune" else "gone": 20}
                gc.collect()
                # pathlib interns its parts: the interpreter's own table grows when its time has come.
                ours = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(False, "*pathlib*")])
                return files.maximum, sum(trace.size for trace in ours.traces)
        finally:
            tracemalloc.stop()

    await held(tmp_path / "first", 100)
    (_, few), (maximum, many) = await held(tmp_path / "few", 1000), await held(tmp_path / "many", 3000)

    # A page waits, a page is decided on, and the reader holds a row.
    assert maximum <= 2 * PAGE + 10
    # 2000 rows that are held anywhere are a million bytes.
    assert many < few + 200_000


async def test_what_is_here_already_is_looked_up_in_whole_pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that trickle in are waited for while there is nothing to do, and decided on at once while there is."""
    await remember(tmp_path, range(3, 1003))
    files, transactions = Growing(1003), list[str]()
    files.pause_at = 3
    for number in (0, 1, 2):
        files.sources[f"test/f{number}"] = Source(body=b"")

    async def note(_: Asked) -> None:
        files.go_on.set()

    def trace(statement: str) -> None:
        if statement.startswith("BEGIN"):
            transactions.append(statement)

    files.before_open = note
    connecting(monkeypatch, lambda connection: connection.set_trace_callback(trace))
    async with asyncio.timeout(20):
        report = await sync(tmp_path, files)

    assert counted(report) == {"fetch": 3, "keep": 1000}
    # A few for each of three pages and for each file, and those of the lease of the run.
    assert len(transactions) <= 40


async def test_what_is_gone_is_removed_on_request(tmp_path: Path) -> None:
    """PRUNE: from the disk and from the ledger, so that it is not reported again."""
    files = many(3)
    await sync(tmp_path, files)
    assert isinstance(files.rows, list)
    del files.rows[1]

    report = await sync(tmp_path, files, prune=True)
    again = await sync(tmp_path, files)

    assert counted(report) == {"keep": 2, "prune": 1}
    assert sorted(path.name for path in (tmp_path / "files").iterdir()) == ["f0.bin", "f2.bin"]
    assert counted(again) == {"keep": 2}


async def test_more_than_a_page_is_removed_and_forgotten(tmp_path: Path) -> None:
    """Each is told, those that somebody touched stay, and the rest is not reported again."""
    files = many(450)
    await sync(tmp_path, files)
    (tmp_path / "files" / "f7.bin").write_bytes(b"touched by somebody")
    (tmp_path / "files" / "f8.bin").unlink()
    assert isinstance(files.rows, list)
    del files.rows[:449]

    report = await sync(tmp_path, files, prune="force")
    again = await sync(tmp_path, files)

    assert counted(report) == {"keep": 1, "prune": 448, "gone": 1}
    assert sorted(path.name for path in (tmp_path / "files").iterdir()) == ["f449.bin", "f7.bin"]
    assert [(row.file.key, row.reason) for row in report.outcomes if row.action is Action.GONE] == [
        ("test/f7", "it is no longer listed; the local file is not the recorded one")
    ]
    assert counted(again) == {"keep": 1, "gone": 1}


async def test_pruning_never_removes_what_somebody_else_put_there(tmp_path: Path) -> None:
    """Only what was brought is removed."""
    files = many(2)
    await sync(tmp_path, files)
    assert isinstance(files.rows, list)
    del files.rows[1]
    (tmp_path / "files" / "f1.bin").write_bytes(b"my own notes")

    report = await sync(tmp_path, files, prune=True)

    assert counted(report) == {"keep": 1, "gone": 1}
    assert (tmp_path / "files" / "f1.bin").read_bytes() == b"my own notes"


async def test_pruning_needs_a_whole_listing(tmp_path: Path) -> None:
    """A set that is narrowed is refused before anything is asked; an empty one before anything is removed."""
    files = many(2)
    await sync(tmp_path, files)
    narrowed = MemoryFiles(files.rows, files.sources, narrowed=True)
    empty = MemoryFiles([], {})

    with pytest.raises(ConfigurationError, match="narrowed"):
        await sync(tmp_path, narrowed, prune=True)
    with pytest.raises(ConfigurationError, match="empty"):
        await sync(tmp_path, empty, prune=True)

    assert narrowed.listings == 0
    assert len(list((tmp_path / "files").iterdir())) == 2


async def test_a_listing_that_fails_makes_nothing_gone(tmp_path: Path) -> None:
    """What it did not bring may still exist, pruning or not."""
    files = many(3)
    await sync(tmp_path, files)

    async def broken() -> AsyncIterator[RemoteFile]:
        yield remote("f0")
        raise ListingError("it shrank")

    with pytest.raises(ListingError):
        await sync(tmp_path, MemoryFiles(broken, files.sources), prune=True)

    assert len(list((tmp_path / "files").iterdir())) == 3


async def test_an_empty_listing_makes_nothing_gone(tmp_path: Path) -> None:
    """An empty list is not believed that far."""
    files = many(2)
    await sync(tmp_path, files)

    report = await sync(tmp_path, MemoryFiles([], {}))

    assert counted(report) == {}


async def test_a_narrowed_set_makes_nothing_gone(tmp_path: Path) -> None:
    """It says nothing about the rest."""
    files = many(2)
    await sync(tmp_path, files)

    report = await sync(
        tmp_path, MemoryFiles(list(files)[:0] if False else [remote("f0")], files.sources, narrowed=True)
    )

    assert counted(report) == {"keep": 1}


# ----------------------------------------------------------------------------------------------------------- watermark


def dated(days: int, *, filters: bool = True) -> MemoryFiles:
    """Make a set of one file a day, which the service can filter."""
    rows = [remote(f"f{day}", listed_in="all", changed_at=NOW - timedelta(days=days - day)) for day in range(days)]
    files = MemoryFiles(rows, {row.key: Source(body=content(100, row.key)) for row in rows})
    files.filters = filters
    return files


async def test_a_clean_run_moves_the_watermark(tmp_path: Path) -> None:
    """The next listing starts at the newest change seen, less an hour."""
    files = dated(10)

    await sync(tmp_path, files)
    files.watermarks.clear()
    report = await sync(tmp_path, files)

    assert files.watermarks == [{"all": NOW - timedelta(days=1, hours=1)}]
    assert counted(report) == {"keep": 1}


@pytest.mark.parametrize("at", [7_000_000_000_000_000, -1, 2**63 - 1, "soon", 1.5], ids=str)
async def test_a_watermark_that_no_run_can_have_written_hides_nothing(tmp_path: Path, at: object) -> None:
    """One after now, or one that is no time: everything is listed, and the next run starts where this one ended."""
    files = dated(10)
    await sync(tmp_path, files)
    with closing(sqlite3.connect(tmp_path / ".arena-async" / "ledger.sqlite")) as ledger:
        ledger.execute("UPDATE watermarks SET at = ?", (at,))
        ledger.commit()
    files.watermarks.clear()

    whole = await sync(tmp_path, files)
    await sync(tmp_path, files)

    assert counted(whole) == {"keep": 10}
    assert [mark for mark in files.watermarks if mark] == [{"all": NOW - timedelta(days=1, hours=1)}]


@pytest.mark.parametrize(
    ("whose", "stays"),
    [
        ("f3", False),
        ("f3 of another size", True),
        ("f3 of another content", True),
        ("f3 that cannot be read", True),
        ("a file that is not here", True),
    ],
)
async def test_a_partial_file_of_a_complete_file_goes_although_the_file_is_not_listed(
    tmp_path: Path, whose: str, stays: bool
) -> None:
    """Everything here is compared with the disk before the listing starts late, and so are partial files."""
    files, disk = dated(10), FaultyDisk()
    await sync(tmp_path, files)
    if "read" in whose:
        disk.fail("read", errno.EIO, name="f3.bin")
    record = Bench(tmp_path).leave_partial(
        "test/f3" if whose.startswith("f3") else "test/f33",
        body=content(60, "test/f4" if "another content" in whose else "test/f3"),
        offset=60,
        total=101 if "size" in whose else 100,
    )

    async with rig(mirror(tmp_path), disk=disk) as home:
        report = await home.sync(files)

    assert (record.exists(), record.with_suffix(".part").exists()) == (stays, stays)
    assert report.failures == ()
    assert len(files.requested) == 10


async def test_a_watermark_in_the_future_is_not_believed(tmp_path: Path) -> None:
    """A service whose clock is ahead would hide what comes until then."""
    files = dated(2)
    replace(files, 1, changed_at=NOW + timedelta(days=300))

    await sync(tmp_path, files)
    files.watermarks.clear()
    await sync(tmp_path, files)

    assert files.watermarks == [{"all": NOW - timedelta(hours=1)}]


@pytest.mark.parametrize("trouble", ["failure", "quota", "listing"])
async def test_a_run_that_is_not_clean_moves_nothing(trouble: str, tmp_path: Path) -> None:
    """What failed would never be listed again."""
    files = dated(10)
    if trouble == "failure":
        files.sources["test/f3"].faults = [ServerError("500", status=500)]
    elif trouble == "quota":
        files.sources["test/f3"].faults = [QuotaExhaustedError("used up")]
    else:
        rows = files.rows

        async def broken() -> AsyncIterator[RemoteFile]:
            assert isinstance(rows, list)
            for row in rows:
                yield row
            raise ListingError("it looped")

        files.rows = broken
    try:
        await sync(tmp_path, files)
    except ListingError:
        files.rows = rows
    files.watermarks.clear()
    report = await sync(tmp_path, files)

    assert files.watermarks == []
    assert (tmp_path / "files" / "f3.bin").exists()
    assert sum(counted(report).values()) == 10


async def test_a_file_that_was_removed_here_is_listed_and_fetched_again(tmp_path: Path) -> None:
    """A listing from the watermark on would not bring it."""
    files = dated(10)
    await sync(tmp_path, files)
    (tmp_path / "files" / "f2.bin").unlink()

    report = await sync(tmp_path, files)

    assert counted(report) == {"keep": 9, "fetch": 1}


async def test_a_listing_from_the_watermark_makes_nothing_gone(tmp_path: Path) -> None:
    """Old files are missing from it and exist; the whole listing that pruning takes knows."""
    files = dated(10)
    await sync(tmp_path, files)

    changes = await sync(tmp_path, files)
    whole = await sync(tmp_path, files, prune=True)

    assert counted(changes) == {"keep": 1}
    assert counted(whole) == {"keep": 10}


async def test_a_file_of_two_queries_is_gone_when_both_say_so(tmp_path: Path) -> None:
    """A listing of changes of the one does not make its older files fair game for pruning by the other."""
    one = dated(3)
    two = MemoryFiles([remote("f0"), remote("other")], {**one.sources, "test/other": Source(body=b"x")}, scope="two")
    await sync(tmp_path, one)
    await sync(tmp_path, two)
    await sync(tmp_path, one)
    assert isinstance(two.rows, list)
    del two.rows[0]

    report = await sync(tmp_path, two, prune=True)

    assert counted(report) == {"keep": 1}
    assert (tmp_path / "files" / "f0.bin").exists()


# ---------------------------------------------------------------------------------------------------------------- plan


async def test_a_plan_touches_nothing_and_says_what_a_sync_would_do(tmp_path: Path) -> None:
    """For the price of the listing."""
    files = many(5, size=5000)
    await sync(tmp_path, files)
    assert isinstance(files.rows, list)
    replace(files, 0, change="2")
    (tmp_path / "files" / "f1.bin").unlink()
    replace(files, 2, skip="no content", change="2")
    del files.rows[4]
    files.requested.clear()

    async with mirror(tmp_path) as home:
        plan = await home.plan(files)

    assert [(row.key, row.action) for row in plan.files] == [
        ("test/f0", Action.REFRESH),
        ("test/f1", Action.FETCH),
        ("test/f2", Action.SKIP),
        ("test/f4", Action.GONE),
    ]
    assert (plan.kept, plan.whole, plan.requests, plan.bytes_to_fetch) == (1, True, 2, 10_000)
    assert (plan.scope, plan.made_at) == ("test/files", NOW)
    assert files.requested == []
    assert not (tmp_path / "files" / "f1.bin").exists()


async def test_a_plan_holds_no_link(tmp_path: Path) -> None:
    """It is written down and handed around."""
    files = many(2, link=Secret("https://host/x?sig=secret"))

    async with mirror(tmp_path) as home:
        plan = await home.plan(files)

    assert "secret" not in plan.to_json()
    assert "sig" not in plan.to_json()


async def test_a_sync_by_plan_brings_what_the_plan_says_and_lists_nothing(tmp_path: Path) -> None:
    """It looks its keys up again, in one go, and spends what was planned."""
    files = many(5)
    async with mirror(tmp_path) as home:
        plan = await home.plan(files)
    files.sources["test/later"] = Source(body=b"x")
    assert isinstance(files.rows, list)
    files.rows.append(remote("later"))
    del files.rows[0]

    async with mirror(tmp_path) as home:
        report = await home.sync(files, plan=Plan.from_json(plan.to_json()))

    assert files.listings == 1
    assert files.found == [("test/f0", "test/f1", "test/f2", "test/f3", "test/f4")]
    assert counted(report) == {"fetch": 4}
    assert [type(outcome.error) for outcome in report.failures] == [NotFoundError]
    assert not (tmp_path / "files" / "later.bin").exists()


async def test_pruning_by_plan_looks_again_first(tmp_path: Path) -> None:
    """What is listed again by then stays."""
    files = many(3)
    await sync(tmp_path, files)
    assert isinstance(files.rows, list)
    rows = list(files.rows)
    del files.rows[1:]
    async with mirror(tmp_path) as home:
        plan = await home.plan(files)
        files.rows.append(rows[2])
        report = await home.sync(files, plan=plan, prune=True)

    assert [row.action for row in plan.files] == [Action.GONE, Action.GONE]
    assert counted(report) == {"prune": 1}
    assert sorted(path.name for path in (tmp_path / "files").iterdir()) == ["f0.bin", "f2.bin"]


async def test_a_plan_is_for_its_own_set(tmp_path: Path) -> None:
    """Another set is refused before anything is asked."""
    files = many(1)
    async with mirror(tmp_path) as home:
        plan = await home.plan(files)
        with pytest.raises(ConfigurationError, match="plan is for"):
            await home.sync(MemoryFiles([], {}, scope="other"), plan=plan)


async def test_a_plan_knows_of_a_part_that_is_here(tmp_path: Path) -> None:
    """It would be continued."""
    files = MemoryFiles([remote("a", size=200_000)], {"test/a": Source(body=content(200_000))})
    files.sources["test/a"].faults = [150_000, QuotaExhaustedError("used up")]
    async with mirror(tmp_path) as home:
        rig(home, record_every=64 * KIB)
        await home.sync(files)
        plan = await home.plan(files)

    assert [row.action for row in plan.files] == [Action.RESUME]


# -------------------------------------------------------------------------------------------------------------- verify


async def test_verify_reads_everything_again_and_sends_nothing(tmp_path: Path) -> None:
    """Changed, missing and in order; the next sync fetches the bad ones."""
    files = many(4)
    await sync(tmp_path, files)
    requests = files.requests_sent
    rotten = tmp_path / "files" / "f0.bin"
    state = rotten.stat()
    rotten.write_bytes(b"\0" * 5000)
    os.utime(rotten, ns=(state.st_atime_ns, state.st_mtime_ns))
    (tmp_path / "files" / "f1.bin").unlink()

    async with mirror(tmp_path) as home:
        verification = await home.verify()
        again = await home.verify()
    assert files.requests_sent == requests
    report = await sync(tmp_path, files)

    assert verification.ok == again.ok == 2
    assert [(row.key, row.path) for row in verification.changed] == [("test/f0", rotten)]
    assert verification.changed[0].expected == hashlib.sha256(content(5000, "test/f0")).hexdigest()
    assert verification.changed[0].actual == hashlib.sha256(b"\0" * 5000).hexdigest()
    assert [row.key for row in verification.missing] == ["test/f1"]
    assert verification.bad == verification.changed + verification.missing
    assert counted(report) == {"keep": 2, "refresh": 1, "fetch": 1}
    assert rotten.read_bytes() == content(5000, "test/f0")


async def test_verify_says_what_it_cannot_know(tmp_path: Path) -> None:
    """Without a digest in the ledger there is nothing to compare with but the size."""
    files = many(1)
    async with mirror(tmp_path, digest=None) as home:
        await home.sync(files)
        verification = await home.verify()

    assert (verification.ok, [row.key for row in verification.unknown]) == (0, ["test/f0"])
    assert verification.bad == ()


async def test_entries_say_what_is_here(tmp_path: Path) -> None:
    """By key, with path, size, digest and proof, and without any link."""
    files = many(3, link=Secret("https://host/x?sig=secret"))
    await sync(tmp_path, files)

    async with mirror(tmp_path) as home:
        entries = [entry async for entry in home.entries()]

    assert [(entry.key, entry.path, entry.size, entry.verified_by) for entry in entries] == [
        ("test/f0", "files/f0.bin", 5000, "length"),
        ("test/f1", "files/f1.bin", 5000, "length"),
        ("test/f2", "files/f2.bin", 5000, "length"),
    ]
    assert b"secret" not in b"".join(path.read_bytes() for path in (tmp_path / ".arena-async").glob("ledger*"))


async def test_a_folder_refuses_a_second_tenant(tmp_path: Path) -> None:
    """Their files would be mixed."""
    await sync(tmp_path, many(1))
    other = many(1, tenant="http://127.0.0.1 somebody else")

    with pytest.raises(DestinationBusyError):
        await sync(tmp_path, other)

    assert other.requested == []


async def test_twins_are_kept_by_the_next_sync(tmp_path: Path) -> None:
    """Both rows of one key are known by then, whichever comes first."""
    rows = [remote("a", name="old.bin", change="1|old"), remote("a", name="new.bin", change="2|new")]
    files = MemoryFiles(rows, {"test/a": Source(body=b"x")})

    first = await sync(tmp_path, files)
    second = await sync(tmp_path, files)

    assert first.failures == ()
    assert counted(second) == {"keep": 2}
    assert sorted(path.name for path in (tmp_path / "files").iterdir()) == ["a.bin", "a~b5378022.bin"]


async def test_a_closed_mirror_says_so(tmp_path: Path) -> None:
    """And closing it twice is harmless."""
    home = mirror(tmp_path)
    await home.sync(many(1))
    await home.aclose()
    await home.aclose()

    with pytest.raises(ClosedError):
        await home.sync(many(1))
