"""What a folder remembers about runs that were started for it."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from directory_bench import LAYOUTS, Bench, leave_old_ledger, many
from filesets import MemoryFiles, Source, remote

from arena_async import Action, Mirror
from arena_async.errors import DestinationBusyError, PermissionDeniedError
from arena_async.transfer.models import StartedRun

BEGAN = datetime(2026, 3, 1, 12, 30, 5, tzinfo=UTC)


def leave(to: Path, *values: object) -> None:
    """Leave the row of a run, as an earlier version wrote it."""
    with closing(sqlite3.connect(to / ".arena-async" / "ledger.sqlite")) as ledger:
        ledger.execute("INSERT INTO jobs (key, state, run, began, took) VALUES (?, ?, ?, ?, ?)", values)
        ledger.commit()


async def test_a_run_that_an_earlier_version_has_noted_is_known_until_it_is_forgotten(tmp_path: Path) -> None:
    """Every field comes back, and a time of any zone is the same time."""
    began = BEGAN.astimezone(timezone(timedelta(hours=5, minutes=45)))
    async with Mirror(tmp_path) as mirror:
        assert await mirror.started_run("arena/W/exports/G") is None
    leave(tmp_path, "arena/W/exports/G", "started", "R", began.isoformat(), 61.5)
    async with Mirror(tmp_path) as mirror:
        found = await mirror.started_run("arena/W/exports/G")
        await mirror.forget_started_run("arena/W/exports/G")
        assert await mirror.started_run("arena/W/exports/G") is None

    assert found == StartedRun(key="arena/W/exports/G", state="started", run="R", began=BEGAN, took=61.5)


async def test_a_row_that_makes_no_sense_is_no_job(tmp_path: Path) -> None:
    """A state that nobody writes is not believed."""
    async with Mirror(tmp_path):
        pass
    leave(tmp_path, "k", "dancing", "R", None, None)
    async with Mirror(tmp_path) as mirror:
        assert await mirror.started_run("k") is None


async def test_a_ledger_of_the_layout_before_gets_the_new_table_and_keeps_its_rows(tmp_path: Path) -> None:
    """Files that were brought home with an earlier version are not fetched again."""
    path = leave_old_ledger(
        tmp_path,
        "INSERT INTO files VALUES "
        "('k', 'complete', 'a/b.zip', 'a/b.zip', 7, 8, 'c', 'd', NULL, 'crc', 'n', '', '', NULL)",
    )

    async with Mirror(tmp_path):
        pass
    leave(tmp_path, "j", "started", "R", None, None)
    async with Mirror(tmp_path) as mirror:
        (entry,) = [entry async for entry in mirror.entries()]
        job = await mirror.started_run("j")

    assert (entry.path, entry.size, entry.sha256) == ("a/b.zip", 7, "d")
    assert job == StartedRun(key="j", state="started", run="R")
    assert not list(path.parent.glob("*.damaged*"))
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA user_version").fetchone() == (5,)
    connection.close()


async def test_an_old_ledger_has_the_same_tables_as_a_new_one_afterwards(tmp_path: Path) -> None:
    """A migration and a fresh start must not drift apart."""
    leave_old_ledger(tmp_path / "old")
    shapes = []
    for root in (tmp_path / "old", tmp_path / "new"):
        async with Mirror(root):
            pass
        connection = sqlite3.connect(root / ".arena-async" / "ledger.sqlite")
        shapes.append(sorted(connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")))
        connection.close()

    assert shapes[0] == shapes[1]


async def test_what_an_earlier_layout_knew_of_listings_and_paths_is_still_known(tmp_path: Path) -> None:
    """A file that is not listed any more is noticed, and a path still belongs to one key."""
    for name in ("here", "gone"):
        (tmp_path / "d").mkdir(exist_ok=True)
        (tmp_path / "d" / name).write_bytes(b"whole")
        os.utime(tmp_path / "d" / name, ns=(8, 8))
    leave_old_ledger(
        tmp_path,
        "INSERT INTO files SELECT 'test/' || name, 'complete', 'd/' || name, 'd/' || name, 5, 8, '1', NULL, NULL, "
        "'none', name, '', '', NULL FROM (SELECT 'here' AS name UNION SELECT 'gone')",
        "INSERT INTO scopes VALUES ('test/files', 4, 4, '2026-03-01T12:30:05+00:00')",
        "INSERT INTO seen SELECT 'test/files', key, 4, name, change, '', '' FROM files",
    )
    bench = Bench(tmp_path)

    report = await bench.sync(many("here"))
    other = remote("here", key="other", parts=("d",), extension="")
    moved = await bench.sync(MemoryFiles([other], {"other": Source(body=b"other")}))

    assert (report.counts[Action.KEEP], report.counts[Action.GONE]) == (1, 1)
    assert moved.counts[Action.FETCH] == 1
    assert bench.rows("key") == [("other",), ("test/gone",)]


async def test_what_an_earlier_layout_skipped_is_requested_once(tmp_path: Path) -> None:
    """Whose request was refused was not written down, and a watermark would hide the file."""
    leave_old_ledger(
        tmp_path,
        "INSERT INTO files VALUES "
        "('test/a', 'skipped', '', '', 0, 0, '1', NULL, NULL, 'none', 'n', '', 'GET: not yours.', NULL)",
        "INSERT INTO scopes VALUES ('test/files', 4, 4, '2099-01-01T00:00:00+00:00')",
        "INSERT INTO seen VALUES ('test/files', 'test/a', 4, 'n', '1', '', '')",
    )
    files = many("a", changed_at=BEGAN)
    files.filters = True
    files.sources["test/a"].faults = [PermissionDeniedError("GET: not yours.", status=403, code=3024)]
    bench = Bench(tmp_path)

    first = await bench.sync(files)
    second = await bench.sync(files)

    assert len(first.failures) == 1
    assert (second.failures, second.counts[Action.SKIP]) == ((), 1)
    assert len(files.requested) == 1


@pytest.mark.parametrize(
    ("layout", "before", "now"),
    [
        (1, "", ""),
        (2, "", ""),
        (3, "", ""),
        (4, "", ""),
        (4, "at INTEGER", "at TEXT"),
        (4, "sha256 BLOB", "sha256 TEXT"),
        (4, "md5 TEXT", "md5 BLOB"),
    ],
)
async def test_a_ledger_of_every_earlier_layout_is_taken_for_ours(
    tmp_path: Path, layout: int, before: str, now: str
) -> None:
    """Also one of layout 4 whose columns have the types of an earlier day: what is here is kept, nothing is lost."""
    (tmp_path / "d").mkdir()
    for name in ("here", "gone"):
        (tmp_path / "d" / name).write_bytes(b"whole")
        os.utime(tmp_path / "d" / name, ns=(8, 8))
    made = "".join(LAYOUTS[number].replace(before, now) for number in range(2, layout + 1))
    path, scope, seen = ("NULL", "1", "") if layout == 4 else ("'d/' || name", "'test/files'", ", name, change, '', ''")
    leave_old_ledger(
        tmp_path,
        *made.split(";"),
        f"INSERT INTO files SELECT 'test/' || name, 'complete', 'd/' || name, {path}, 5, 8, '1', NULL, NULL, "  # noqa: S608
        "'none', name, '', '', NULL FROM (SELECT 'here' AS name UNION SELECT 'gone')",
        "INSERT INTO scopes (scope, generation, ended) VALUES ('test/files', 4, 4)",
        f"INSERT INTO seen SELECT {scope}, key, 4{seen} FROM files",  # noqa: S608
    )
    bench = Bench(tmp_path)

    report = await bench.sync(many("here"))
    again = await bench.sync(many("here", "new"))

    assert (report.counts[Action.KEEP], report.counts[Action.GONE]) == (1, 1)
    assert (again.counts[Action.KEEP], again.counts[Action.FETCH], again.counts[Action.GONE]) == (1, 1, 1)
    assert bench.rows("key") == [("test/gone",), ("test/here",), ("test/new",)]
    assert not list((tmp_path / ".arena-async").glob("*.damaged*"))


async def test_what_an_earlier_layout_listed_apart_is_of_one_query_now(tmp_path: Path) -> None:
    """Layout 4 had a scope for listings of changes, and one for plans; a whole listing says what of theirs is gone."""
    names = ("here", "changed", "planned")
    (tmp_path / "d").mkdir()
    for name in names:
        (tmp_path / "d" / name).write_bytes(b"whole")
        os.utime(tmp_path / "d" / name, ns=(8, 8))
    leave_old_ledger(
        tmp_path,
        *"".join(LAYOUTS[number] for number in (2, 3, 4)).split(";"),
        *[
            f"INSERT INTO files VALUES ('test/{name}', 'complete', 'd/{name}', NULL, 5, 8, '1', NULL, NULL, "  # noqa: S608
            f"'none', '{name}', '', '', NULL)"
            for name in names
        ],
        "INSERT INTO scopes VALUES (1, 'test/files', 4, 4, NULL), (2, 'test/files (changes)', 2, 0, NULL), "
        "(3, 'plan of test/files (changes)', 1, 0, NULL)",
        "INSERT INTO seen VALUES "
        "(1, 'test/here', 4), (2, 'test/here', 2), (2, 'test/changed', 1), (3, 'test/planned', 1)",
    )
    bench = Bench(tmp_path)

    report = await bench.sync(many("here"))

    assert (report.counts[Action.KEEP], report.counts[Action.GONE]) == (1, 2)


async def test_a_digest_takes_half_its_text_in_the_ledger_and_is_still_known(tmp_path: Path) -> None:
    """Those of an earlier layout too; what is no digest stays what it was, and is none of that file."""
    right = "5d5766cf2d78701614200418ee1450690d9af12c84d52545e4802f001ad53099"
    wrong = "8f6e3e88a1f2ffd7fb8e3c8a3e1c1f8d2a3e8f2b0a3f4b6d4b9f5c1f3c2e1a00"
    (tmp_path / "d").mkdir()
    for name in ("odd", "right", "wrong"):
        (tmp_path / "d" / name).write_bytes(b"whole")
    leave_old_ledger(
        tmp_path,
        "INSERT INTO files SELECT 'test/' || name, 'complete', 'd/' || name, 'd/' || name, 5, 8, '1', digest, NULL, "
        "'none', name, '', '', NULL FROM (SELECT 'right' AS name, '{right}' AS digest "
        "UNION SELECT 'wrong', '{wrong}' UNION SELECT 'odd', 'zz')".replace("{right}", right).replace("{wrong}", wrong),
    )
    bench = Bench(tmp_path)
    await bench.sync(many("new"))

    async with bench.mirror() as mirror:
        entries = {entry.key: entry.sha256 async for entry in mirror.entries()}
        verification = await mirror.verify()

    assert entries["test/right"] == right
    assert verification.ok == 2
    assert [(row.key, row.expected) for row in verification.changed] == [("test/odd", "zz"), ("test/wrong", wrong)]
    assert bench.rows("typeof(sha256)", "length(sha256)") == [("blob", 32), ("text", 2), ("blob", 32), ("blob", 32)]


async def test_the_time_of_a_commit_is_known_to_the_microsecond_and_takes_eight_bytes(tmp_path: Path) -> None:
    """That of a row of an earlier layout too; one that cannot be read is unknown."""
    began = datetime.now(UTC)
    leave_old_ledger(
        tmp_path,
        "INSERT INTO files SELECT 'test/' || name, 'complete', 'd/' || name, 'd/' || name, 5, 8, '1', NULL, NULL, "
        "'none', name, '', '', at FROM (SELECT 'old' AS name, '2026-03-01T12:30:05.000125+00:00' AS at "
        "UNION SELECT 'odd', 'then' UNION SELECT 'vast', 9223372036854775807)",
    )
    bench = Bench(tmp_path)
    await bench.sync(many("new"))

    async with bench.mirror() as mirror:
        times = {entry.key: entry.at async for entry in mirror.entries()}

    new = times.pop("test/new")
    assert times == {
        "test/odd": None,
        "test/old": datetime(2026, 3, 1, 12, 30, 5, 125, tzinfo=UTC),
        "test/vast": None,
    }
    assert new is not None
    assert new.utcoffset() == timedelta()
    assert began <= new <= datetime.now(UTC)
    assert bench.rows("key", "typeof(at)") == [
        ("test/new", "integer"),
        ("test/odd", "text"),
        ("test/old", "text"),
        ("test/vast", "integer"),
    ]


async def test_a_time_is_known_where_the_table_keeps_it_as_text(tmp_path: Path) -> None:
    """The table of such a ledger stays as it was made."""
    bench = Bench(tmp_path)
    await bench.sync(many("first"))
    with closing(sqlite3.connect(tmp_path / ".arena-async" / "ledger.sqlite")) as ledger:
        (made,) = ledger.execute("SELECT sql FROM sqlite_master WHERE name = 'files'").fetchone()
        assert "at INTEGER" in made
        ledger.execute("DROP TABLE files")
        ledger.execute(made.replace("at INTEGER", "at TEXT"))
        ledger.commit()
    began = datetime.now(UTC)
    await bench.sync(many("second"))

    async with bench.mirror() as mirror:
        (entry,) = [entry async for entry in mirror.entries()]

    assert bench.rows("typeof(at)") == [("text",)]
    assert entry.at is not None
    assert began <= entry.at <= datetime.now(UTC)


async def test_a_folder_of_another_tenant_is_refused_before_anything_is_started(tmp_path: Path) -> None:
    """One folder belongs to one tenant of each service."""
    async with Mirror(tmp_path) as mirror:
        await mirror.claim("arena", "workspace 1")
    async with Mirror(tmp_path) as mirror:
        with pytest.raises(DestinationBusyError):
            await mirror.claim("arena", "workspace 2")
