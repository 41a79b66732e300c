"""The ledger remembers what is here, answers for listings, and survives damage and company."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from directory_bench import Bench, connecting, many
from filesets import Asked, MemoryFiles, Source, remote

from arena_async import Action, RemoteFile
from arena_async.errors import DestinationBusyError, DiskFullError, NotFoundError, ServerError, StorageError

ODD = "caf\udce9 \ud800"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Return a directory."""
    return Bench(tmp_path, durability="off")


def ledger_of(bench: Bench) -> Path:
    """Return the path of its ledger."""
    return bench.root / ".arena-async" / "ledger.sqlite"


async def test_text_that_is_no_unicode_is_found_again_as_it_was(bench: Bench) -> None:
    """JSON may hold half a surrogate pair, UTF-8 may not: everything comes back, and a listing knows it."""
    kept = remote("a", key=ODD, name=ODD, change=ODD)
    refused = remote("b", key=f"{ODD}b", name=ODD, change=ODD)
    files = MemoryFiles([kept, refused, remote("plain")], {}, scope=ODD)
    files.sources = {
        ODD: Source(body=b"x"),
        f"{ODD}b": Source(body=b"", faults=[NotFoundError(ODD, status=400, code=3028)]),
        "test/plain": Source(body=b"y"),
    }
    await bench.sync(files)

    report = await bench.sync(files)
    async with bench.mirror() as mirror:
        entries = [(entry.key, entry.name, entry.change) async for entry in mirror.entries()]

    assert (report.counts[Action.KEEP], [outcome.reason for outcome in report.outcomes]) == (2, [ODD])
    assert entries == [(ODD, ODD, ODD), ("test/plain", "plain as the vendor calls it.bin", "1")]
    assert len(files.requested) == 3


async def test_a_path_belongs_to_one_key(bench: Bench) -> None:
    """Who wrote there last; a forgotten owner can never be pruned from under the new one."""
    old = MemoryFiles([remote("x", key="old"), remote("y", key="other")], {}, scope="old")
    old.sources = {"old": Source(body=b"old"), "other": Source(body=b"y")}
    new = MemoryFiles([remote("x", key="new")], {"new": Source(body=b"new")}, scope="new")
    await bench.sync(old)
    await bench.sync(new)
    old.rows = old.rows[1:]  # type: ignore[index]

    async with bench.mirror() as mirror:
        report = await mirror.sync(old, prune=True)

    assert bench.rows("key") == [("new",), ("other",)]
    assert report.counts[Action.PRUNE] == 0
    assert bench.finals()["files/x.bin"] == b"new"


async def test_what_a_file_costs_does_not_grow_with_what_is_known(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every look-up uses an index: 40 more files take SQLite about as many steps as the first 40, and opening few."""
    steps = [0]

    def count() -> None:
        steps[0] += 1

    connecting(monkeypatch, lambda connection: connection.set_progress_handler(count, 10))
    taken = []
    for scope, files in (("first", 40), ("others", 600), ("last", 40)):
        steps[0] = 0
        rows = [remote(f"{scope}{number}", extension="") for number in range(files)]
        await bench.sync(MemoryFiles(rows, {row.key: Source(body=b"x") for row in rows}, scope=scope))
        taken.append(steps[0])
    steps[0] = 0
    async with bench.mirror() as mirror:
        await mirror.plan(MemoryFiles([], {}, scope="none"))

    assert taken[2] < 2 * taken[0]
    assert steps[0] < 100


async def test_a_refusal_for_ever_keeps_what_is_known_of_the_file_that_is_here(bench: Bench) -> None:
    """What is here already stays known."""
    await bench.sync(many("k", change="1"))
    before = bench.rows("path", "size", "sha256")
    refused = many("k", change="2")
    refused.sources["test/k"].faults = [NotFoundError("expired after 60 days", status=400, code=3028)]

    await bench.sync(refused)

    assert bench.rows("state", "reason", "change") == [("skipped", "expired after 60 days", "2")]
    assert bench.rows("path", "size", "sha256") == before
    assert bench.finals() == {"d/k": b"whole"}


async def test_rows_of_files_that_never_came_are_forgotten_later(bench: Bench) -> None:
    """The notes about listings do not grow for ever."""
    names = [f"k{number}" for number in range(30)]
    files = many(*names)
    for name in names[1:]:
        files.sources[f"test/{name}"].faults = [ServerError("500", status=500)]
    await bench.sync(files)

    await bench.sync(many("z"))
    # A listing that began before may still bring them.
    assert len(bench.rows("key", table="seen")) == 31
    await bench.sync(many("z"))

    assert bench.rows("key", table="seen") == [("test/k0",), ("test/z",)]


async def test_a_download_without_memory_always_fetches(bench: Bench) -> None:
    """Only what one listing brought is known for as long as it lasts."""
    files = many("a", "b")

    first, second = await bench.run(files), await bench.run(files)

    assert first.counts[Action.FETCH] == second.counts[Action.FETCH] == 2
    assert not ledger_of(bench).exists()


# ---------------------------------------------------------------------------------------------------- file and company


async def test_the_file_is_private_and_alone_when_it_is_closed(bench: Bench) -> None:
    """0600, also what SQLite keeps beside it, which is gone at the end."""
    directory = bench.root / ".arena-async"
    async with bench.mirror() as mirror:
        await mirror.sync(many("k"))
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.glob("ledger*")}
        with sqlite3.connect(ledger_of(bench)) as looked:
            (journal,) = looked.execute("PRAGMA journal_mode").fetchone()
        looked.close()

    assert modes == {"ledger.sqlite": 0o600, "ledger.sqlite-shm": 0o600, "ledger.sqlite-wal": 0o600}
    assert journal == "wal"
    assert [path.name for path in directory.glob("ledger*")] == ["ledger.sqlite"]


async def test_a_file_that_others_may_read_is_closed_to_them(bench: Bench) -> None:
    """An older or copied one becomes private."""
    await bench.sync(many("k"))
    ledger_of(bench).chmod(0o644)

    report = await bench.sync(many("k"))

    assert report.counts[Action.KEEP] == 1
    assert stat.S_IMODE(ledger_of(bench).stat().st_mode) == 0o600


async def test_a_link_in_place_of_the_ledger_is_refused(bench: Bench, tmp_path: Path) -> None:
    """Nothing outside the folder is written to."""
    async with bench.mirror():
        pass
    ledger_of(bench).unlink()
    (tmp_path / "outside").write_bytes(b"mine")
    ledger_of(bench).symlink_to(tmp_path / "outside")

    with pytest.raises(DestinationBusyError, match="a symbolic link and no file"):
        await bench.sync(many("k"))

    assert (tmp_path / "outside").read_bytes() == b"mine"


async def test_where_memory_is_not_shared_the_plain_journal_is_used(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some file systems refuse what WAL needs."""
    connecting(monkeypatch, vfs="unix-dotfile")

    async with bench.mirror() as mirror:
        report = await mirror.sync(many("k"))
        beside = [path.name for path in (bench.root / ".arena-async").glob("ledger.sqlite-*")]

    assert report.failures == ()
    assert beside in ([], ["ledger.sqlite-journal"])


@pytest.mark.parametrize("damage", ["text", "cut", "other tables", "middle"])
async def test_a_damaged_ledger_is_set_aside_and_begun_anew(
    bench: Bench, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What it knew is unknown then, which is said; nothing of an old one is lost or overwritten."""
    files, path = many(*(f"k{number:03}" for number in range(300))), ledger_of(bench)
    await bench.sync(files)
    for aside in ("ledger.sqlite.damaged", "ledger.sqlite.damaged-2"):
        content = path.read_bytes()
        if damage == "text":
            path.write_bytes(b"this is no database, " * 100)
        elif damage == "cut":
            path.write_bytes(content[: len(content) // 2])
        elif damage == "middle":
            path.write_bytes(content[:4096] + os.urandom(len(content) - 4096))
        else:
            path.unlink()
            with sqlite3.connect(path) as other:
                other.execute("CREATE TABLE something (else_)")
                other.execute("PRAGMA user_version = 1")
            other.close()
        files.requested.clear()

        await bench.sync(files)
        again = await bench.sync(files)

        assert len(files.requested) == 300
        assert again.counts[Action.KEEP] == 300
        assert (path.parent / aside).exists()
        assert f"set aside as {aside}" in caplog.text
    assert "fetched again" in caplog.text


@pytest.mark.parametrize("remembers", [True, False])
async def test_without_a_temporary_directory_a_listing_is_in_memory(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, *, remembers: bool
) -> None:
    """A container may have no other writable directory than the target."""

    def none_usable() -> str:
        raise FileNotFoundError

    opened: list[sqlite3.Connection] = []
    stores = []
    files = many("a", "b")

    async def look(_: Asked) -> None:
        stores.append(opened[-1].execute("PRAGMA temp_store").fetchone())

    files.before_open = look
    monkeypatch.setattr(tempfile, "gettempdir", none_usable)
    connecting(monkeypatch, opened.append)
    report = await (bench.sync(files) if remembers else bench.run(files))

    assert report.counts[Action.FETCH] == 2
    assert stores == [(2,), (2,)]


async def test_an_empty_file_is_a_new_ledger(bench: Bench) -> None:
    """A power loss right after it was made."""
    async with bench.mirror():
        pass
    ledger_of(bench).write_bytes(b"")

    await bench.sync(many("k"))

    assert bench.rows("key") == [("test/k",)]
    assert not list((bench.root / ".arena-async").glob("*.damaged*"))


async def test_a_row_that_nobody_of_us_wrote_counts_as_unknown(bench: Bench) -> None:
    """Somebody edited the file by hand."""
    files = many("a", "b", "c", "d")
    await bench.sync(files)
    bench.change_ledger("UPDATE files SET state = 'perhaps' WHERE key = 'test/a'")
    bench.change_ledger("UPDATE files SET size = 'big' WHERE key = 'test/b'")
    bench.change_ledger("UPDATE files SET at = 'then' WHERE key = 'test/d'")
    files.requested.clear()

    report = await bench.sync(files)

    assert report.failures == ()
    assert {"test/a", "test/b"} <= set(files.counts)
    assert "test/c" not in files.counts


async def test_a_ledger_of_a_newer_version_is_not_touched(bench: Bench) -> None:
    """Not read, not written, not set aside."""
    async with bench.mirror():
        pass
    path = ledger_of(bench)
    path.unlink()
    with sqlite3.connect(path) as newer:
        newer.execute("PRAGMA user_version = 99")
    newer.close()
    before = path.read_bytes()

    with pytest.raises(StorageError, match=r"newer version of arena_async \(layout 99"):
        await bench.sync(many("k"))

    assert path.read_bytes() == before
    assert [each.name for each in path.parent.glob("ledger*")] == ["ledger.sqlite"]


async def test_a_ledger_that_another_process_holds_too_long_is_an_error(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the time that was given, and nothing is lost."""
    await bench.sync(many("k"))
    with monkeypatch.context() as patch:
        connecting(patch, timeout=0.01)
        holder = sqlite3.connect(ledger_of(bench), isolation_level=None)
        async with bench.mirror() as mirror:
            holder.execute("BEGIN IMMEDIATE")
            with pytest.raises(StorageError, match="another process holds the ledger"):
                await mirror.sync(many("k", "other"))
            holder.execute("ROLLBACK")
            report = await mirror.sync(many("k", "other"))
        holder.close()

    assert (report.counts[Action.KEEP], report.counts[Action.FETCH]) == (1, 1)


async def test_a_full_disk_is_told_as_such(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """ST01: and what was there before is still there."""
    await bench.sync(many("k"))
    files, ended = many(*(f"k{number}" + "n" * 100 for number in range(1000))), asyncio.Event()
    rows = files.rows

    async def listing() -> AsyncIterator[RemoteFile]:
        try:
            for row in rows:  # type: ignore[union-attr]
                yield row
        finally:
            ended.set()

    # No content comes before the listing has met the full disk.
    files.rows, files.before_open = listing, lambda _: ended.wait()
    with monkeypatch.context() as patch:
        connecting(patch, lambda connection: connection.execute("PRAGMA max_page_count = 14"))
        with pytest.raises(DiskFullError, match="no room is left for the ledger"):
            await bench.sync(files)

    assert ("test/k",) in bench.rows("key")
    assert bench.finals()["d/k"] == b"whole"
