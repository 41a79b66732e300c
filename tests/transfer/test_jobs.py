"""What a folder remembers about runs that were started for it."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from arena_async.errors import DestinationBusyError
from arena_async.transfer.ledger import Job, MemoryLedger, SqliteLedger
from arena_async.transfer.mirror import Mirror

BEGAN = datetime(2026, 3, 1, 12, 30, 5, tzinfo=UTC)

#: The tables of the layout before this one, in the words in which it made them.
LAYOUT_1 = """
CREATE TABLE files (
    key TEXT PRIMARY KEY, state TEXT NOT NULL, path TEXT NOT NULL, folded TEXT NOT NULL, size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL, change TEXT NOT NULL, sha256 TEXT, md5 TEXT, verified_by TEXT NOT NULL,
    name TEXT NOT NULL,
    partial TEXT NOT NULL, reason TEXT NOT NULL, at TEXT
) WITHOUT ROWID;
CREATE INDEX files_by_path ON files (folded) WHERE folded <> '';
CREATE INDEX files_committing ON files (key) WHERE state = 'committing';
CREATE TABLE seen (
    scope TEXT NOT NULL, key TEXT NOT NULL, generation INTEGER NOT NULL, name TEXT NOT NULL, change TEXT NOT NULL,
    path TEXT NOT NULL, folded TEXT NOT NULL, PRIMARY KEY (scope, key)
) WITHOUT ROWID;
CREATE INDEX seen_by_path ON seen (scope, folded, generation);
CREATE INDEX seen_by_key ON seen (key);
CREATE TABLE scopes (
    scope TEXT PRIMARY KEY, generation INTEGER NOT NULL DEFAULT 0, ended INTEGER NOT NULL DEFAULT 0, watermark TEXT
) WITHOUT ROWID;
PRAGMA user_version = 1;
"""


async def test_a_job_is_remembered_by_the_next_process(tmp_path: Path) -> None:
    """Every field comes back; what is written later replaces what was there."""
    async with Mirror(tmp_path) as mirror:
        assert await mirror.job("arena/W/exports/G") is None
        await mirror.note_job(Job(key="arena/W/exports/G", state="starting", began=BEGAN))
        await mirror.note_job(Job(key="arena/W/exports/G", state="started", run="R", began=BEGAN, took=61.5))
    async with Mirror(tmp_path) as mirror:
        found = await mirror.job("arena/W/exports/G")

    assert found == Job(key="arena/W/exports/G", state="started", run="R", began=BEGAN, took=61.5)


async def test_the_time_of_a_job_is_kept_whatever_its_zone(tmp_path: Path) -> None:
    """A moment is a moment."""
    began = BEGAN.astimezone(timezone(timedelta(hours=5, minutes=45)))
    async with Mirror(tmp_path) as mirror:
        await mirror.note_job(Job(key="k", began=began))
        found = await mirror.job("k")

    assert found is not None
    assert found.began == BEGAN


async def test_a_row_that_makes_no_sense_is_no_job(tmp_path: Path) -> None:
    """A state that nobody writes is not believed."""
    async with Mirror(tmp_path) as mirror:
        await mirror.note_job(Job(key="k", state="started", run="R"))
    with sqlite3.connect(tmp_path / ".arena-async" / "ledger.sqlite") as connection:
        connection.execute("UPDATE jobs SET state = 'dancing'")
    connection.close()
    async with Mirror(tmp_path) as mirror:
        assert await mirror.job("k") is None


async def test_a_ledger_of_the_layout_before_gets_the_new_table_and_keeps_its_rows(tmp_path: Path) -> None:
    """Files that were brought home with an earlier version are not fetched again."""
    path = tmp_path / "ledger.sqlite"
    connection = sqlite3.connect(path)
    connection.executescript(LAYOUT_1)
    connection.execute(
        "INSERT INTO files VALUES "
        "('k', 'complete', 'a/b.zip', 'a/b.zip', 7, 8, 'c', 'd', NULL, 'crc', 'n', '', '', NULL)"
    )
    connection.commit()
    connection.close()

    ledger = await SqliteLedger.open(path)
    try:
        await ledger.note_job(Job(key="j", state="started", run="R"))
        entry = (await ledger.look_up(["k"]))["k"]
        job = await ledger.job("j")
    finally:
        await ledger.aclose()

    assert (entry.path, entry.size, entry.sha256) == ("a/b.zip", 7, "d")
    assert job == Job(key="j", state="started", run="R")
    assert ledger.set_aside is None
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA user_version").fetchone() == (3,)
    connection.close()


async def test_an_old_ledger_has_the_same_tables_as_a_new_one_afterwards(tmp_path: Path) -> None:
    """A migration and a fresh start must not drift apart."""
    old, new = tmp_path / "old.sqlite", tmp_path / "new.sqlite"
    connection = sqlite3.connect(old)
    connection.executescript(LAYOUT_1)
    connection.close()
    shapes = []
    for path in (old, new):
        ledger = await SqliteLedger.open(path)
        await ledger.aclose()
        connection = sqlite3.connect(path)
        shapes.append(sorted(connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")))
        connection.close()

    assert shapes[0] == shapes[1]


async def test_a_ledger_without_memory_remembers_no_job() -> None:
    """It answers, and forgets."""
    ledger = await MemoryLedger.open()
    try:
        await ledger.note_job(Job(key="j", state="started", run="R"))
        assert await ledger.job("j") is None
    finally:
        await ledger.aclose()


async def test_a_folder_of_another_tenant_is_refused_before_anything_is_started(tmp_path: Path) -> None:
    """One folder belongs to one tenant of each service."""
    async with Mirror(tmp_path) as mirror:
        await mirror.claim("arena", "workspace 1")
    async with Mirror(tmp_path) as mirror:
        with pytest.raises(DestinationBusyError):
            await mirror.claim("arena", "workspace 2")
