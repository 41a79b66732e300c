"""The copy of a ledger: when it is made, what it restores, and what becomes of files that came after it."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from directory_bench import leave_old_ledger
from filesets import MemoryFiles, Source, content, remote, zipped

from arena_async import Action, Mirror, Report
from arena_async.options import KIB, Clock, TransferOptions
from arena_async.transfer.ledger import Ledger

NOW = datetime(2026, 5, 1, 2, tzinfo=UTC)


def state(to: Path, name: str = "ledger.sqlite") -> Path:
    """Return a file of ours."""
    return to / ".arena-async" / name


def zips(*names: str, **fields: Any) -> MemoryFiles:
    """Make a set of zips whose change mark is one of the fields that identify them, as those of runs are."""
    rows = [remote(name, extension=".zip", change=name, **fields) for name in names]
    return MemoryFiles(rows, {row.key: Source(body=zipped(content(4000, row.key))) for row in rows})


async def sync(to: Path, files: MemoryFiles, *, at: timedelta = timedelta(0), **options: Any) -> Report:
    """Sync once, with a mirror of its own, at some time."""
    given = TransferOptions(workers=4, chunk_size=64 * KIB, durability="off", **options)
    async with Mirror(to, options=given, clock=Clock(now=lambda: NOW + at)) as mirror:
        return await mirror.sync(files)


def damage(path: Path, how: str) -> None:
    """Damage a ledger that is closed."""
    body = path.read_bytes()
    if how == "gone":
        path.unlink()
        return
    path.write_bytes(
        {
            "text": b"this is no database, " * 100,
            "half": body[: len(body) // 2],
            "empty": b"",
            "middle": body[:4096] + os.urandom(len(body) - 4096),
        }[how]
    )


def known(path: Path) -> list[str]:
    """Return the keys in a ledger."""
    with closing(sqlite3.connect(path)) as ledger:
        return [key for (key,) in ledger.execute("SELECT key FROM files ORDER BY key")]


@pytest.mark.parametrize("how", ["text", "half", "empty", "middle", "gone"])
async def test_a_damaged_ledger_is_restored_from_its_copy(
    tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is fetched again, whatever happened to it, and it is said."""
    files = MemoryFiles(rows := [remote(f"f{number}") for number in range(300)], {})
    files.sources = {row.key: Source(body=b"whole") for row in rows}
    await sync(tmp_path, files)
    damage(state(tmp_path), how)
    files.requested.clear()

    report = await sync(tmp_path, files)

    assert files.requested == []
    assert report.counts[Action.KEEP] == 300
    assert state(tmp_path, "ledger.sqlite.damaged").exists() == (how not in ("empty", "gone"))
    assert "Its copy takes its place" in caplog.text
    with closing(sqlite3.connect(state(tmp_path))) as ledger:
        assert ledger.execute("PRAGMA journal_mode").fetchone() == ("wal",)


async def test_what_belonged_to_a_lost_ledger_is_not_read_into_the_restored_one(tmp_path: Path) -> None:
    """A write-ahead log of another ledger would change it."""
    files = zips("a")
    await sync(tmp_path, files)
    state(tmp_path).unlink()
    state(tmp_path, "ledger.sqlite-wal").write_bytes(os.urandom(9000))

    report = await sync(tmp_path, files)

    assert report.counts[Action.KEEP] == 1
    assert known(state(tmp_path)) == ["test/a"]


async def test_a_file_that_came_after_the_copy_is_read_and_not_fetched(tmp_path: Path) -> None:
    """Where the listing proves it: the guid is its name, and its check sums hold."""
    await sync(tmp_path, zips("a"))
    files = zips("a", "b", size=len(zipped(content(4000, "test/b"))))
    await sync(tmp_path, files)
    damage(state(tmp_path), "text")
    files.requested.clear()

    report = await sync(tmp_path, files)

    assert files.requested == []
    assert report.counts[Action.KEEP] == 2
    assert known(state(tmp_path)) == ["test/a", "test/b"]


async def test_what_nothing_proves_is_fetched_after_a_loss(tmp_path: Path) -> None:
    """Another change mark than its name, no check sums, another size, or damage."""
    sized = len(zipped(content(4000, "test/size")))
    await sync(tmp_path, zips("a"))
    rows = [
        remote("mark", extension=".zip", change="2"),
        remote("plain", change="plain"),
        remote("size", extension=".zip", change="size", size=sized),
        remote("bytes", extension=".zip", change="bytes"),
        remote("listed", sha256="0" * 64),
        remote("right", extension=".zip", change="right"),
    ]
    files = MemoryFiles(rows, {row.key: Source(body=zipped(content(4000, row.key))) for row in rows}, scope="other")
    files.sources |= {"test/listed": Source(body=b"whole"), "test/plain": Source(body=b"whole")}
    files.rows = rows[:4] + rows[5:]
    await sync(tmp_path, files)
    files.rows = rows
    (tmp_path / "files" / "listed.bin").write_bytes(b"whole")
    with (tmp_path / "files" / "bytes.zip").open("r+b") as opened:
        opened.seek(60)
        opened.write(b"\0\0\0\0")
    with (tmp_path / "files" / "size.zip").open("ab") as opened:
        opened.write(b"\0")
    damage(state(tmp_path), "text")
    files.requested.clear()

    report = await sync(tmp_path, files)

    assert set(files.counts) == {"test/mark", "test/plain", "test/size", "test/bytes", "test/listed"}
    assert report.counts[Action.KEEP] == 1


async def test_a_file_that_no_ledger_knew_is_not_believed_where_none_was_lost(tmp_path: Path) -> None:
    """What lies there may have come by any way."""
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "a.zip").write_bytes(zipped(content(4000, "test/a")))

    report = await sync(tmp_path, zips("a"))

    assert report.counts[Action.FETCH] == 1


@pytest.mark.parametrize(
    ("later", "copied"),
    [
        (timedelta(hours=19), False),
        (timedelta(hours=21), True),
        (timedelta(hours=-1), True),
    ],
)
async def test_a_copy_is_made_once_a_day(tmp_path: Path, later: timedelta, *, copied: bool) -> None:
    """After a clean run; and where the clock was wrong."""
    await sync(tmp_path, zips("a"))

    await sync(tmp_path, zips("a", "b"), at=later)

    assert known(state(tmp_path, "ledger.sqlite.copy")) == (["test/a", "test/b"] if copied else ["test/a"])
    assert stat.S_IMODE(state(tmp_path, "ledger.sqlite.copy").stat().st_mode) == 0o600


async def test_a_copy_that_cannot_be_made_is_a_notice(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The run has done what it was for."""
    state(tmp_path, "ledger.sqlite.copy").mkdir(parents=True, mode=0o700)
    state(tmp_path).parent.chmod(0o700)

    report = await sync(tmp_path, zips("a"))

    assert report.counts[Action.FETCH] == 1
    assert "No copy of the ledger was made" in caplog.text
    assert [path.name for path in state(tmp_path).parent.glob("ledger.sqlite.copy?*")] == []


async def test_a_damaged_copy_is_set_aside_and_the_ledger_begun_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What the listing proves is still not fetched."""
    files = zips("a")
    plain = MemoryFiles([remote("p")], {"test/p": Source(body=b"whole")}, scope="plain")
    await sync(tmp_path, plain)
    await sync(tmp_path, files, at=timedelta(days=1))
    damage(state(tmp_path), "text")
    damage(state(tmp_path, "ledger.sqlite.copy"), "middle")
    files.requested.clear()
    plain.requested.clear()

    await sync(tmp_path, files)
    await sync(tmp_path, plain)

    assert (len(files.requested), len(plain.requested)) == (0, 1)
    assert state(tmp_path, "ledger.sqlite.copy.damaged").exists()
    assert "the copy of the ledger is damaged too" in caplog.text


async def test_a_damaged_ledger_never_replaces_a_good_copy(tmp_path: Path) -> None:
    """What is damaged where no run has read it yet is noticed before the copy gets its name."""
    rows = [remote(f"f{number:04}") for number in range(2000)]
    await sync(tmp_path, MemoryFiles(rows, {row.key: Source(body=b"x") for row in rows}))
    good = state(tmp_path, "ledger.sqlite.copy").read_bytes()
    with state(tmp_path).open("r+b") as ledger:
        ledger.seek(-4096, os.SEEK_END)
        ledger.write(os.urandom(4096))

    empty = MemoryFiles([], {}, scope="nothing")
    await sync(tmp_path, empty, at=timedelta(days=2))

    assert state(tmp_path, "ledger.sqlite.copy").read_bytes() == good


async def test_a_copy_of_an_older_layout_is_brought_up_to_date(tmp_path: Path) -> None:
    """A copy may be older than this version of the library."""
    leave_old_ledger(
        tmp_path,
        "INSERT INTO files VALUES "
        "('k', 'complete', 'a/b.zip', 'a/b.zip', 7, 8, 'c', 'd', NULL, 'crc', 'n', '', '', NULL)",
    ).rename(state(tmp_path, "ledger.sqlite.copy"))

    async with Mirror(tmp_path) as mirror:
        (entry,) = [entry async for entry in mirror.entries()]

    assert (entry.key, entry.path, entry.size) == ("k", "a/b.zip", 7)


async def test_a_row_that_was_being_committed_is_completed_after_a_loss(tmp_path: Path) -> None:
    """A copy is made while the last files of a run may still have such rows."""
    files = zips("a")
    await sync(tmp_path, files)
    with closing(sqlite3.connect(state(tmp_path, "ledger.sqlite.copy"))) as copy:
        states = copy.execute("SELECT state FROM files").fetchall()
    damage(state(tmp_path), "text")
    files.requested.clear()

    report = await sync(tmp_path, files)

    assert states == [("committing",)]
    assert (report.counts[Action.KEEP], files.requested) == (1, [])


async def test_what_a_killed_copy_left_is_removed_by_a_later_one(tmp_path: Path) -> None:
    """Not what another process may be writing."""
    await sync(tmp_path, zips("a"))
    old, new = (state(tmp_path, f"ledger.sqlite.copy.{digit * 16}") for digit in "0f")
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (1, 1))

    await sync(tmp_path, zips("a"), at=timedelta(days=1))

    assert (old.exists(), new.exists()) == (False, True)


async def test_a_cancelled_copy_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends at its next step, and nothing half is left."""
    rows = [remote(f"f{number:04}") for number in range(3000)]
    files = MemoryFiles(rows, {row.key: Source(body=b"x") for row in rows})
    await sync(tmp_path, zips("a"))
    real, loop = sqlite3.connect, asyncio.get_running_loop()
    syncing: list[asyncio.Task[Report]] = []

    def connect(database: Any, *args: Any, **given: Any) -> sqlite3.Connection:
        if ".copy." in str(database):
            asyncio.run_coroutine_threadsafe(cancel(), loop).result(20)
        connection: sqlite3.Connection = real(database, *args, **given)
        return connection

    async def cancel() -> None:
        syncing[0].cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    monkeypatch.setattr(sqlite3, "connect", connect)
    syncing.append(asyncio.create_task(sync(tmp_path, files, at=timedelta(days=1))))
    await asyncio.wait(syncing)
    monkeypatch.undo()

    assert syncing[0].cancelled()
    assert known(state(tmp_path, "ledger.sqlite.copy")) == ["test/a"]
    assert [path.name for path in state(tmp_path).parent.glob("ledger.sqlite.copy?*")] == []


async def test_the_copy_knows_everything(tmp_path: Path) -> None:
    """Cached facts, too."""
    async with Mirror(tmp_path) as mirror:
        await mirror.sync(zips("a"))
        ledger = Ledger(state(tmp_path))
        ledger.write_facts({"run": "its files"})
        ledger.close()
        (state(tmp_path).with_name("ledger.sqlite.copy")).unlink()
        await mirror.sync(zips("a"))
    damage(state(tmp_path), "empty")

    async with Mirror(tmp_path) as mirror:
        await mirror.sync(zips("a"))
    ledger = Ledger(state(tmp_path))
    assert ledger.facts(["run"]) == {"run": "its files"}
    ledger.close()
