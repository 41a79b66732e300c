# ruff: noqa: ASYNC240 - a test may look at the disk; nothing else runs meanwhile.
"""The ledger remembers what is here, answers for listings, and survives damage and company."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import attrs
import pytest
from cancelling import HOW, How, cancel_at_every_await

from arena_async.errors import DestinationBusyError, DiskFullError, StorageError
from arena_async.transfer import ledger as ledger_module
from arena_async.transfer.ledger import PAGE, Entry, Job, Known, Ledger, MemoryLedger, Sighting, SqliteLedger

AT = datetime(2024, 2, 29, 12, 0, 0, 123456, tzinfo=UTC)

ENTRY = Entry(
    key="arena|a|1",
    state="complete",
    path="arena/extracts/a/1.zip",
    size=2**40,
    mtime_ns=1_700_000_000_123_456_789,
    change="2024-02-29T00:00:00Z|x",
    sha256="ab" * 32,
    md5="cd" * 16,
    verified_by="md5",
    name="Extract 1.zip",
    at=AT,
)


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[SqliteLedger]:
    """Give an open ledger."""
    opened = await SqliteLedger.open(tmp_path / "ledger.sqlite")
    yield opened
    await opened.aclose()


def entry(key: str, **fields: object) -> Entry:
    """Make an entry with a path of its own."""
    return attrs.evolve(Entry(key=key, path=f"p/{key}"), **fields)


async def test_what_was_written_is_found_again(tmp_path: Path, ledger: SqliteLedger) -> None:
    """Every field, and by another process too."""
    await ledger.write([ENTRY, entry("b")])

    other = await SqliteLedger.open(tmp_path / "ledger.sqlite")
    found = await other.look_up(["arena|a|1", "b", "unknown"])
    await other.aclose()

    assert found == {"arena|a|1": ENTRY, "b": entry("b")}


ODD = "caf\udce9 \ud800"


async def test_text_that_is_no_unicode_is_found_again_as_it_was(ledger: SqliteLedger) -> None:
    """JSON may hold half a surrogate pair, UTF-8 may not: everything comes back, and a listing knows it."""
    written = entry(ODD, name=ODD, change=ODD, reason=ODD)
    seen = Sighting(key=ODD, name=ODD, change=ODD, path=written.path)
    await ledger.write([written, entry("plain")])
    generation = await ledger.begin_listing(ODD)
    (first,) = await ledger.see(ODD, generation, [seen])
    (second,) = await ledger.see(ODD, generation, [seen])
    (rival,) = await ledger.see(ODD, generation, [Sighting(key="other", path=written.path)])
    await ledger.note_job(Job(key=ODD, run=ODD))

    assert await ledger.look_up([ODD, "plain"]) == {ODD: written, "plain": entry("plain")}
    assert [row.key for row in await ledger.entries()] == [ODD, "plain"]
    assert (first.entry, first.earlier, second.earlier, rival.rival) == (written, None, seen, ODD)
    assert await ledger.job(ODD) == Job(key=ODD, run=ODD)
    await ledger.forget([ODD])
    assert await ledger.look_up([ODD]) == {}


async def test_a_newer_entry_replaces_the_older_one(ledger: SqliteLedger) -> None:
    """One row a key."""
    await ledger.write([ENTRY])
    await ledger.write([attrs.evolve(ENTRY, size=1, sha256=None)])

    assert await ledger.look_up([ENTRY.key]) == {ENTRY.key: attrs.evolve(ENTRY, size=1, sha256=None)}


async def test_a_path_belongs_to_one_key(ledger: SqliteLedger) -> None:
    """Who wrote there last; a forgotten owner can never be pruned from under the new one."""
    await ledger.write([entry("old", path="A/File")])
    await ledger.write([entry("new", path="a/file"), entry("x", path=""), entry("y", path="")])

    assert sorted(await ledger.look_up(["old", "new", "x", "y"])) == ["new", "x", "y"]


async def test_a_commit_has_two_halves(ledger: SqliteLedger) -> None:
    """Rows that say committing are settled with the next transaction, in which their key may be committing anew."""
    first = entry("a", state="committing", partial="1.part")
    await ledger.write([first, entry("b", state="committing", partial="2.part")])
    again = attrs.evolve(first, partial="3.part", size=9)

    await ledger.write([again], completed=["a", "b", "unknown"])

    found = await ledger.look_up(["a", "b"])
    assert found["a"] == again
    assert found["b"] == entry("b", state="complete", partial="")
    assert [each.key for each in await ledger.entries(states=["committing"])] == ["a"]


async def test_a_refusal_for_ever_is_remembered_with_its_reason(ledger: SqliteLedger) -> None:
    """What is here already stays known."""
    await ledger.write([ENTRY])
    await ledger.skip(ENTRY.key, "expired after 60 days", at=AT + timedelta(days=1), change="c2", name="n2")
    await ledger.skip("other", "belongs to another user", at=AT, change="c", name="n")

    found = await ledger.look_up([ENTRY.key, "other"])

    assert found[ENTRY.key] == attrs.evolve(
        ENTRY, state="skipped", reason="expired after 60 days", at=AT + timedelta(days=1), change="c2", name="n2"
    )
    assert found["other"] == Entry(
        key="other", state="skipped", reason="belongs to another user", change="c", name="n", at=AT
    )


async def test_entries_come_in_pages_by_key(ledger: SqliteLedger) -> None:
    """Nobody holds a million of them."""
    await ledger.write([entry(f"k{number:04}") for number in range(950)])
    await ledger.skip("k9999", "no", at=AT)

    pages, after = [], ""
    while page := await ledger.entries(after=after, limit=PAGE):
        pages.append(len(page))
        after = page[-1].key

    assert pages == [400, 400, 150]
    await ledger.forget(["k0000", "k0001"])
    assert [each.key for each in await ledger.entries(limit=1)] == ["k0002"]


async def test_a_large_look_up_is_cut_into_pages(ledger: SqliteLedger) -> None:
    """SQLite takes so many values at a time and no more."""
    keys = [f"k{number}" for number in range(40_000)]
    await ledger.write([entry("k0"), entry("k39999")])

    assert sorted(await ledger.look_up(keys)) == ["k0", "k39999"]
    assert await ledger.look_up([]) == {}


async def test_a_watermark_is_remembered_for_each_scope(ledger: SqliteLedger) -> None:
    """With its zone, and it can be taken back."""
    assert await ledger.watermark("s") is None
    await ledger.begin_listing("s")
    assert await ledger.watermark("s") is None

    await ledger.set_watermark("s", AT.astimezone(timezone(timedelta(hours=-7))))
    assert await ledger.watermark("s") == AT
    assert await ledger.watermark("other") is None

    await ledger.set_watermark("s", None)
    assert await ledger.watermark("s") is None


# ------------------------------------------------------------------------------------------------------------ listings


@pytest.fixture(params=["on disk", "in memory"])
async def either(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Ledger]:
    """Give a ledger of each kind: both answer for listings."""
    on_disk = request.param == "on disk"
    opened = await SqliteLedger.open(tmp_path / "l.sqlite") if on_disk else await MemoryLedger.open()
    yield opened
    await opened.aclose()


async def test_a_key_that_comes_twice_in_one_listing_is_noticed(either: Ledger) -> None:
    """In one page or in two, and not across listings."""
    a, b, twin = Sighting(key="a", name="1", path="p/a"), Sighting(key="b"), Sighting(key="a", name="2", path="p/a")
    generation = await either.begin_listing("s")

    first = await either.see("s", generation, [a, b, twin])
    second = await either.see("s", generation, [attrs.evolve(twin, name="3")])
    third = await either.see("s", await either.begin_listing("s"), [twin])

    assert first == [Known(), Known(), Known(earlier=a)]
    assert second == [Known(earlier=a)]
    assert third == [Known()]


async def test_two_keys_that_want_the_same_path_are_noticed(either: Ledger) -> None:
    """NM08: before anything is fetched, also where only case or composition differs."""
    generation = await either.begin_listing("s")

    (first, second) = await either.see(
        "s", generation, [Sighting(key="a", path="x/caf\u00e9"), Sighting(key="b", path="y")]
    )
    (third, fourth) = await either.see(
        "s", generation, [Sighting(key="c", path="X/cafe\u0301"), Sighting(key="a", path="x/caf\u00e9")]
    )
    (other,) = await either.see("other", await either.begin_listing("other"), [Sighting(key="c", path="y")])

    assert (first.rival, second.rival, third.rival, fourth.rival, other.rival) == (None, None, "a", None, None)


async def test_a_page_of_a_listing_brings_what_is_known(ledger: SqliteLedger) -> None:
    """One hop for 400 rows."""
    await ledger.write([ENTRY])
    generation = await ledger.begin_listing("s")

    known = await ledger.see("s", generation, [Sighting(key="new"), Sighting(key=ENTRY.key)])

    assert [each.entry for each in known] == [None, ENTRY]


async def list_all(ledger: Ledger, scope: str, *keys: str) -> int:
    """Walk a listing to its end."""
    generation = await ledger.begin_listing(scope)
    await ledger.see(scope, generation, [Sighting(key=key, path=f"p/{key}") for key in keys])
    await ledger.end_listing(scope, generation)
    return generation


async def test_files_that_are_no_longer_listed_are_known_as_gone(ledger: SqliteLedger) -> None:
    """Those of this scope that are here, at every listing anew, in pages."""
    await list_all(ledger, "s", "a", "b", "c", "never fetched", "refused")
    await ledger.write([entry("a"), entry("b"), entry("c"), entry("of nobody")])
    await ledger.skip("refused", "no", at=AT)

    generation = await list_all(ledger, "s", "b")
    first = await ledger.gone("s", generation, limit=1)
    second = await ledger.gone("s", generation, after=first[-1].key, limit=1)
    third = await ledger.gone("s", generation, after=second[-1].key, limit=1)

    assert [[each.key for each in page] for page in (first, second, third)] == [["a"], ["c"], []]
    again = await list_all(ledger, "s", "b")
    assert [each.key for each in await ledger.gone("s", again)] == ["a", "c"]
    back = await list_all(ledger, "s", "a", "b", "c")
    assert await ledger.gone("s", back) == []


async def test_a_file_that_another_query_still_lists_is_not_gone(ledger: SqliteLedger) -> None:
    """Until that query's own listing comes to its end without it."""
    await list_all(ledger, "all", "a", "b")
    await list_all(ledger, "one subject", "a")
    await ledger.write([entry("a"), entry("b")])

    generation = await list_all(ledger, "all", "x")
    assert [each.key for each in await ledger.gone("all", generation)] == ["b"]

    await ledger.begin_listing("one subject")
    assert [each.key for each in await ledger.gone("all", generation)] == ["b"]
    await list_all(ledger, "one subject")
    assert [each.key for each in await ledger.gone("all", generation)] == ["a", "b"]


async def test_rows_of_files_that_never_came_are_forgotten_later(tmp_path: Path, ledger: SqliteLedger) -> None:
    """The notes about listings do not grow for ever."""
    await list_all(ledger, "s", *[f"k{number}" for number in range(100)])
    await ledger.write([entry("k1")])
    await list_all(ledger, "s", "k2")

    with sqlite3.connect(tmp_path / "ledger.sqlite") as looked:
        rows = sorted(key for (key,) in looked.execute("SELECT key FROM seen"))
    looked.close()
    assert rows == ["k1", "k2"]


async def test_a_ledger_without_memory_knows_no_file(tmp_path: Path) -> None:
    """A download always fetches; only what one listing brought is known for as long as it lasts."""
    ledger = await MemoryLedger.open()
    generation = await ledger.begin_listing("s")
    await ledger.write([ENTRY], completed=["x"])
    await ledger.skip("k", "no", at=AT)
    await ledger.forget(["k"])
    await ledger.set_watermark("s", AT)

    assert await ledger.look_up([ENTRY.key, "k"]) == {}
    assert await ledger.see("s", generation, [Sighting(key=ENTRY.key)]) == [Known()]
    assert await ledger.entries() == []
    assert await ledger.gone("s", generation + 1) == []
    assert await ledger.watermark("s") is None
    await ledger.end_listing("s", generation)
    assert await ledger.see("s", generation, [Sighting(key=ENTRY.key)]) == [Known()]
    await ledger.aclose()
    await ledger.aclose()


# ---------------------------------------------------------------------------------------------------- file and company


async def test_the_file_is_private_and_alone_when_it_is_closed(tmp_path: Path) -> None:
    """0600, also what SQLite keeps beside it, which is gone at the end."""
    path = tmp_path / "ledger.sqlite"
    ledger = await SqliteLedger.open(path)
    await ledger.write([ENTRY])
    modes = {name.name: stat.S_IMODE(name.stat().st_mode) for name in tmp_path.iterdir()}
    await ledger.aclose()
    await ledger.aclose()

    assert modes == {"ledger.sqlite": 0o600, "ledger.sqlite-shm": 0o600, "ledger.sqlite-wal": 0o600}
    assert [name.name for name in tmp_path.iterdir()] == ["ledger.sqlite"]


async def test_a_file_that_others_may_read_is_closed_to_them(tmp_path: Path) -> None:
    """An older or copied one becomes private."""
    path = tmp_path / "ledger.sqlite"
    path.touch(mode=0o644)

    await (await SqliteLedger.open(path)).aclose()

    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_a_link_in_place_of_the_ledger_is_refused(tmp_path: Path) -> None:
    """Nothing outside the folder is written to."""
    (tmp_path / "outside").write_bytes(b"mine")
    (tmp_path / "ledger.sqlite").symlink_to(tmp_path / "outside")

    with pytest.raises(DestinationBusyError, match="a symbolic link and no file"):
        await SqliteLedger.open(tmp_path / "ledger.sqlite")

    assert (tmp_path / "outside").read_bytes() == b"mine"


async def test_writing_is_as_safe_as_sqlite_can_make_it(tmp_path: Path, ledger: SqliteLedger) -> None:
    """Readers and a writer go on together, and every transaction is forced to the disk."""
    journal, synchronous = await ledger._run(
        lambda connection: [
            connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")
        ]
    )

    assert (journal, synchronous) == ("wal", 2)


async def test_only_what_a_listing_notes_of_itself_is_not_forced_to_the_disk(ledger: SqliteLedger) -> None:
    """A listing that a power cut ends is walked anew; what comes after its notes forces them too."""

    def asked(connection: sqlite3.Connection) -> int:
        (synchronous,) = connection.execute("PRAGMA synchronous").fetchone()
        return int(synchronous)

    lightly = await ledger._run_lightly(asked)
    with pytest.raises(StorageError):
        await ledger._run_lightly(lambda connection: connection.execute("SELECT wrong"))

    assert (lightly, await ledger._run(asked)) == (1, 2)


def test_where_memory_is_not_shared_the_plain_journal_is_used(tmp_path: Path) -> None:
    """Some file systems refuse what WAL needs."""
    connection = sqlite3.connect(f"file:{tmp_path / 'l.sqlite'}?vfs=unix-dotfile", uri=True, isolation_level=None)

    assert ledger_module._choose_journal(connection) == "truncate"
    connection.close()


@pytest.mark.parametrize("damage", ["text", "cut", "other tables", "middle"])
async def test_a_damaged_ledger_is_set_aside_and_begun_anew(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What it knew is unknown then, which is said; nothing of the old one is lost."""
    path = tmp_path / "ledger.sqlite"
    ledger = await SqliteLedger.open(path)
    await ledger.write([entry(f"k{number:05}", name="n" * 100) for number in range(2000)])
    await ledger.aclose()
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

    ledger = await SqliteLedger.open(path)
    found = await ledger.look_up(["k00000", "k01999"])
    await ledger.write([ENTRY])
    again = await ledger.look_up([ENTRY.key])
    aside = ledger.set_aside
    await ledger.aclose()

    assert (found, again) == ({}, {ENTRY.key: ENTRY})
    assert aside == tmp_path / "ledger.sqlite.damaged"
    assert aside.exists()
    assert "set aside as ledger.sqlite.damaged" in caplog.text
    assert "fetched again" in caplog.text


async def test_an_empty_file_is_a_new_ledger(tmp_path: Path) -> None:
    """A power loss right after it was made."""
    (tmp_path / "ledger.sqlite").write_bytes(b"")

    ledger = await SqliteLedger.open(tmp_path / "ledger.sqlite")

    assert (await ledger.entries(), ledger.set_aside) == ([], None)
    await ledger.aclose()


async def test_a_row_that_nobody_of_us_wrote_counts_as_unknown(tmp_path: Path, ledger: SqliteLedger) -> None:
    """Somebody edited the file by hand."""
    await ledger.write([entry("a"), entry("b"), entry("c"), entry("d")])
    await ledger._run(lambda connection: connection.execute("UPDATE files SET state = 'perhaps' WHERE key = 'a'"))
    await ledger._run(lambda connection: connection.execute("UPDATE files SET size = 'big' WHERE key = 'b'"))
    await ledger._run(lambda connection: connection.execute("UPDATE files SET at = 'then' WHERE key = 'd'"))

    assert sorted(await ledger.look_up(["a", "b", "c", "d"])) == ["c", "d"]


async def test_a_ledger_of_a_newer_version_is_not_touched(tmp_path: Path) -> None:
    """Not read, not written, not set aside."""
    path = tmp_path / "ledger.sqlite"
    with sqlite3.connect(path) as newer:
        newer.execute("PRAGMA user_version = 99")
    newer.close()
    before = path.read_bytes()

    with pytest.raises(StorageError, match=r"newer version of arena_async \(layout 99"):
        await SqliteLedger.open(path)

    assert path.read_bytes() == before
    assert [name.name for name in tmp_path.iterdir()] == ["ledger.sqlite"]


async def test_a_missing_folder_is_an_error_with_a_sentence(tmp_path: Path) -> None:
    """And leaves no thread behind."""
    with pytest.raises(StorageError, match="could not be made"):
        await SqliteLedger.open(tmp_path / "nowhere" / "ledger.sqlite")


async def test_a_ledger_that_another_process_holds_too_long_is_an_error(tmp_path: Path) -> None:
    """After the time that was given, and nothing is lost."""
    ledger = await SqliteLedger.open(tmp_path / "ledger.sqlite", busy_timeout=0.01)
    holder = sqlite3.connect(tmp_path / "ledger.sqlite", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")

    with pytest.raises(StorageError, match="another process holds the ledger"):
        await ledger.write([ENTRY])
    holder.execute("ROLLBACK")
    holder.close()
    await ledger.write([ENTRY])

    assert await ledger.look_up([ENTRY.key]) == {ENTRY.key: ENTRY}
    await ledger.aclose()


async def test_a_full_disk_is_told_as_such(tmp_path: Path, ledger: SqliteLedger) -> None:
    """ST01: and what was there before is still there."""
    await ledger.write([ENTRY])

    def limit(connection: sqlite3.Connection) -> None:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages + 1}")

    await ledger._run(limit)
    with pytest.raises(DiskFullError, match="no room is left for the ledger"):
        await ledger.write([entry(f"k{number}", name="n" * 500) for number in range(1000)])

    assert await ledger.look_up([ENTRY.key, "k0"]) == {ENTRY.key: ENTRY}


@pytest.mark.parametrize("how", HOW)
async def test_a_write_that_is_cancelled_is_whole_or_nothing(tmp_path: Path, ledger: SqliteLedger, how: How) -> None:
    """At every await."""
    async for stopped in cancel_at_every_await(lambda at: ledger.write([entry(f"{at}-a"), entry(f"{at}-b")]), how=how):
        found = await ledger.look_up([f"{stopped.at}-a", f"{stopped.at}-b"])
        assert len(found) in (0, 2)


WRITER = """
import asyncio, sys
from pathlib import Path
from arena_async.transfer.ledger import Entry, Sighting, SqliteLedger
async def main(path, who):
    ledger = await SqliteLedger.open(Path(path))
    for number in range(30):
        generation = await ledger.begin_listing("s")
        await ledger.see("s", generation, [Sighting(key=f"{who}-{number}")])
        await ledger.write([Entry(key=f"{who}-{number}", path=f"{who}/{number}", size=number)])
    await ledger.aclose()
asyncio.run(main(*sys.argv[1:]))
"""


async def test_several_processes_write_to_one_ledger(tmp_path: Path) -> None:
    """CC09: nothing is lost, nobody fails, not even in making the file."""
    path = tmp_path / "ledger.sqlite"
    writers = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", WRITER, str(path), str(who), stderr=asyncio.subprocess.PIPE
        )
        for who in range(3)
    ]
    ends = [(await writer.communicate())[1].decode() for writer in writers]

    ledger = await SqliteLedger.open(path)
    generation = await ledger.begin_listing("s")
    entries = await ledger.entries(limit=1000)
    await ledger.aclose()

    assert ends == ["", "", ""]
    assert len(entries) == 90
    assert generation == 91
