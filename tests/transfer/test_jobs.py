"""What a folder remembers about runs that were started for it."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from arena_async import Mirror
from arena_async.errors import DestinationBusyError
from arena_async.transfer.models import StartedRun

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
        assert await mirror.started_run("arena/W/exports/G") is None
        await mirror.write_started_run(StartedRun(key="arena/W/exports/G", state="starting", began=BEGAN))
        await mirror.write_started_run(
            StartedRun(key="arena/W/exports/G", state="started", run="R", began=BEGAN, took=61.5)
        )
    async with Mirror(tmp_path) as mirror:
        found = await mirror.started_run("arena/W/exports/G")

    assert found == StartedRun(key="arena/W/exports/G", state="started", run="R", began=BEGAN, took=61.5)


async def test_the_time_of_a_job_is_kept_whatever_its_zone(tmp_path: Path) -> None:
    """A moment is a moment."""
    began = BEGAN.astimezone(timezone(timedelta(hours=5, minutes=45)))
    async with Mirror(tmp_path) as mirror:
        await mirror.write_started_run(StartedRun(key="k", began=began))
        found = await mirror.started_run("k")

    assert found is not None
    assert found.began == BEGAN


async def test_a_row_that_makes_no_sense_is_no_job(tmp_path: Path) -> None:
    """A state that nobody writes is not believed."""
    async with Mirror(tmp_path) as mirror:
        await mirror.write_started_run(StartedRun(key="k", state="started", run="R"))
    with sqlite3.connect(tmp_path / ".arena-async" / "ledger.sqlite") as connection:
        connection.execute("UPDATE jobs SET state = 'dancing'")
    connection.close()
    async with Mirror(tmp_path) as mirror:
        assert await mirror.started_run("k") is None


def old_ledger(root: Path, *statements: str) -> Path:
    """Leave a ledger of the layout before the first change."""
    state = root / ".arena-async"
    state.mkdir(parents=True, mode=0o700)
    path = state / "ledger.sqlite"
    connection = sqlite3.connect(path)
    connection.executescript(LAYOUT_1)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()
    return path


async def test_a_ledger_of_the_layout_before_gets_the_new_table_and_keeps_its_rows(tmp_path: Path) -> None:
    """Files that were brought home with an earlier version are not fetched again."""
    path = old_ledger(
        tmp_path,
        "INSERT INTO files VALUES "
        "('k', 'complete', 'a/b.zip', 'a/b.zip', 7, 8, 'c', 'd', NULL, 'crc', 'n', '', '', NULL)",
    )

    async with Mirror(tmp_path) as mirror:
        await mirror.write_started_run(StartedRun(key="j", state="started", run="R"))
        (entry,) = [entry async for entry in mirror.entries()]
        job = await mirror.started_run("j")

    assert (entry.path, entry.size, entry.sha256) == ("a/b.zip", 7, "d")
    assert job == StartedRun(key="j", state="started", run="R")
    assert not list(path.parent.glob("*.damaged*"))
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA user_version").fetchone() == (3,)
    connection.close()


async def test_an_old_ledger_has_the_same_tables_as_a_new_one_afterwards(tmp_path: Path) -> None:
    """A migration and a fresh start must not drift apart."""
    old_ledger(tmp_path / "old")
    shapes = []
    for root in (tmp_path / "old", tmp_path / "new"):
        async with Mirror(root):
            pass
        connection = sqlite3.connect(root / ".arena-async" / "ledger.sqlite")
        shapes.append(sorted(connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")))
        connection.close()

    assert shapes[0] == shapes[1]


async def test_a_folder_of_another_tenant_is_refused_before_anything_is_started(tmp_path: Path) -> None:
    """One folder belongs to one tenant of each service."""
    async with Mirror(tmp_path) as mirror:
        await mirror.claim("arena", "workspace 1")
    async with Mirror(tmp_path) as mirror:
        with pytest.raises(DestinationBusyError):
            await mirror.claim("arena", "workspace 2")
