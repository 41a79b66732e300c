# ruff: noqa: S608 - statements of the test itself
"""Rows SE23 to SE26: the state of a folder that another user made, or that somebody has tampered with."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from disks import FaultyDisk
from filesets import content, remote
from matrix import World, control, row
from offered_files import bodies_at_home, offer, partials, requested
from scripted import RawServer, reply
from session_files import ETAG, download, ranged, session_files

from arena_async import Mirror
from arena_async.errors import StorageError
from arena_async.transfer.processes import machine

BODY = content(100_000, "a")
STATE = ".arena-async"
#: Users and a group that this machine has no names for.
ANNA, BERT, LAB = 11_001, 11_002, 12_000


def _look_as(uid: int, gid: int, real: Any, opened: Any) -> os.stat_result:
    fields = list(real(opened))
    fields[4:6] = uid, gid
    return os.stat_result(fields)


def _belongs(place: Path, disk: FaultyDisk, uid: int, gid: int, mode: int) -> None:
    """Give a folder to a user; without the right to do so, let the disk say so."""
    place.chmod(mode)
    try:
        os.chown(place, uid, gid)
        place.chmod(mode)
    except PermissionError:
        disk.replace("look_open", lambda real, opened: _look_as(uid, gid, real, opened), name=place.name)


@row("SE23", protection="what another user made is not believed")
@pytest.mark.parametrize("inner", [False, True], ids=["the state", "the folder of partial files"])
@pytest.mark.parametrize("mode", [0o1777, 0o2777, 0o755, 0o2775], ids=["sticky", "open", "closed", "of a group"])
async def test_a_state_that_another_user_made_is_refused(world: World, mode: int, inner: bool) -> None:
    """SE23: a typed error that names the user, and no request: what lies there may be that user's choice."""
    disk = FaultyDisk()
    place = world.root / STATE / "partial" if inner else world.root / STATE
    place.mkdir(parents=True)
    _belongs(world.root, disk, os.geteuid(), LAB, mode)
    _belongs(place, disk, BERT, BERT, 0o755)
    async with RawServer() as server, session_files(world, server, *offer(world, server, {"a": BODY})) as files:
        with pytest.raises(StorageError, match=rf"{STATE} in it was made by another user \(number {BERT}\)") as caught:
            await download(world, files, disk=disk)

    world.saw(caught.value)
    assert requested(server, "a") == []
    assert bodies_at_home(world) == {}


@row("SE23", protection="those who may write in a folder share its state")
@pytest.mark.parametrize(
    ("owner", "group", "mode", "maker"),
    [(ANNA, ANNA, 0o755, ANNA), (ANNA, LAB, 0o2775, BERT)],
    ids=["the owner of the folder", "a member of its group"],
)
async def test_a_state_of_those_who_share_the_folder_is_used(
    world: World, owner: int, group: int, mode: int, maker: int
) -> None:
    """SE23: whoever owns the folder, and the group that alone may write there, are no strangers."""
    disk = FaultyDisk()
    place = world.root / STATE
    place.mkdir(parents=True)
    _belongs(world.root, disk, owner, group, mode)
    _belongs(place, disk, maker, group, 0o2770)
    async with RawServer() as server, session_files(world, server, *offer(world, server, {"a": BODY})) as files:
        report = await download(world, files, disk=disk, remember=True)

    assert report.failures == ()


async def _brought(world: World) -> Path:
    """Bring one file home, and return the ledger."""
    async with RawServer() as server, session_files(world, server, *offer(world, server, {"a": BODY})) as files:
        report = await download(world, files, remember=True)
    assert report.failures == ()
    return world.root / STATE / "ledger.sqlite"


def _tamper(ledger: Path, *statements: str) -> None:
    with closing(sqlite3.connect(ledger)) as tampered:
        for statement in statements:
            tampered.execute(statement)
        tampered.commit()


def _away(outside: Path, partial: str = "") -> str:
    """Say that a file outside is the verified content of a file of the folder, and about to get its name."""
    seen = outside.stat()
    up = partial or f"../../../outside/{outside.name}"
    return (
        f"UPDATE files SET state = 'committing', partial = '{up}', sha256 = NULL, size = {seen.st_size}, "
        f"mtime_ns = {seen.st_mtime_ns}"
    )


ROWS = {
    "a partial file outside": _away,
    "a path outside": lambda outside: f"UPDATE files SET path = '../outside/{outside.name}'",
    "an absolute path": lambda outside: f"UPDATE files SET path = '{outside}'",
    "a path in the state": lambda outside: "UPDATE files SET path = '.Arena-Async/ledger.sqlite'",
    "a path with a NUL": lambda outside: "UPDATE files SET path = 'files/a' || char(0) || '.bin'",
    "a partial file with a NUL": lambda outside: "UPDATE files SET state = 'committing', partial = 'a' || char(0)",
    "a moved file from outside": lambda outside: _away(outside, f"/../outside/{outside.name}"),
    "a moved file with an absolute path": lambda outside: _away(outside, f"/{outside}"),
    "a moved file of the state": lambda _: "UPDATE files SET state = 'committing', partial = '/.arena-async/lock'",
    "a moved file with a NUL": lambda _: "UPDATE files SET state = 'committing', partial = '/a' || char(0)",
    "a moved file that is complete": lambda _: "UPDATE files SET partial = '/files/b.bin'",
    "a negative size": lambda outside: "UPDATE files SET size = -1",
    "a digest that is a number": lambda outside: "UPDATE files SET sha256 = 7",
    "a key that is no text": lambda outside: "UPDATE files SET key = x'ff00', state = 'committing'",
}


@row("SE24", protection="names in the ledger are checked like those of a server")
@pytest.mark.parametrize(
    "change", [*list(ROWS)[:-1], control(list(ROWS)[-1], reason="without it, the next page is the same one for ever")]
)
async def test_a_row_that_was_tampered_with_moves_and_removes_nothing(world: World, change: str) -> None:
    """SE24: it counts as unknown: the file is fetched anew, and what lies outside stays what and where it is."""
    ledger = await _brought(world)
    (world.outside / "mine.json").write_bytes(b"beside it")
    before = {path.name: path.read_bytes() for path in world.outside.iterdir() if path.is_file()}
    _tamper(ledger, ROWS[change](world.outside / "mine.txt"))

    async with asyncio.timeout(20), Mirror(world.root) as mirror:
        verified = await mirror.verify()
        known = [entry.key async for entry in mirror.entries()]
    async with RawServer() as server, session_files(world, server, *offer(world, server, {"a": BODY})) as files:
        report = await download(world, files, remember=True)
    after = {path.name: path.read_bytes() for path in world.outside.iterdir() if path.is_file()}
    (world.outside / "mine.json").unlink()

    assert (verified.ok, verified.bad, known) == (0, (), [])
    assert after == before
    assert report.failures == ()
    assert requested(server, "a") == [None]
    assert bodies_at_home(world) == {"files/a.bin": BODY}


_ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"
LEDGERS: dict[str, tuple[str, ...]] = {
    "an endless view": (
        "ALTER TABLE files RENAME TO theirs",
        f"CREATE VIEW files AS {_ENDLESS} SELECT t.* FROM n, theirs t",
    ),
    "a trigger": ("CREATE TRIGGER t AFTER INSERT ON files BEGIN DELETE FROM files; END",),
    "other columns": ("ALTER TABLE files DROP COLUMN reason", "ALTER TABLE files ADD COLUMN reason"),
    "a computed column": (
        "ALTER TABLE files DROP COLUMN reason",
        "ALTER TABLE files ADD COLUMN reason TEXT AS (hex(zeroblob(900000000)))",
    ),
    "a virtual table": ("DROP TABLE facts", "CREATE VIRTUAL TABLE facts USING fts5(key, fact)"),
    "a negative version": ("PRAGMA user_version = -3",),
    "a huge generation": ("UPDATE scopes SET generation = 9223372036854775807",),
    "a generation that is no whole number": ("UPDATE scopes SET generation = 1.5e300",),
    "an end behind the last listing": ("UPDATE scopes SET ended = generation + 5",),
    "text that is none": ("UPDATE files SET name = CAST(x'ff' AS TEXT)",),
}


@row("SE25", protection="a ledger has our tables and numbers and nothing else")
@pytest.mark.parametrize("change", LEDGERS)
async def test_a_ledger_that_is_not_ours_is_set_aside(world: World, change: str) -> None:
    """SE25: it takes a bounded time, and the folder is brought up to date all the same."""
    ledger = await _brought(world)
    _tamper(ledger, *LEDGERS[change])

    async with (
        asyncio.timeout(20),
        RawServer() as server,
        session_files(world, server, *offer(world, server, {"a": BODY})) as files,
    ):
        report = await download(world, files, remember=True)

    assert report.failures == ()
    assert (ledger.parent / "ledger.sqlite.damaged").exists()
    assert bodies_at_home(world) == {"files/a.bin": BODY}


LEASES = {
    "a process that is no number": f"INSERT INTO leases VALUES ('a', 'other', '{machine()}', 'x', '', 0)",
    "a count that is no number": f"INSERT INTO leases VALUES ('a', 'other', '{machine()}', {os.getpid()}, '', 'x')",
    "a lease that is no text": f"INSERT INTO leases VALUES (x'ff', x'ff', x'ff', {os.getpid()}, x'ff', 1)",
    "a claim without a lease": "INSERT INTO claims SELECT key, 'nobody' FROM files",
    "a claim of a lease that is none": f"INSERT INTO leases VALUES ('a', 'other', '{machine()}', 'x', '', 0)",
    "a huge process": f"INSERT INTO leases VALUES ('a', 'test/session', '{machine()}', 9223372036854775807, '', 0)",
}


@row("SE25", protection="leases and claims that no run can have written are removed")
@pytest.mark.parametrize(
    "change",
    [
        control("a process that is no number", reason="it is left out where it is not removed"),
        control("a count that is no number", reason="it counts as one that does not move"),
        control("a lease that is no text", reason="its machine is none, and its query nobody's"),
        *list(LEASES)[3:5],
        control("a huge process", reason="there is none of that number"),
    ],
)
async def test_a_lease_or_a_claim_that_no_run_has_written_stops_nobody(world: World, change: str) -> None:
    """SE25: the file is fetched in a bounded time, and what stood in the way is gone; nothing was taken for damage."""
    ledger = await _brought(world)
    (world.root / "files" / "a.bin").unlink()
    claim = "INSERT INTO claims SELECT key, 'a' FROM files"
    _tamper(ledger, LEASES[change], *([claim] if change == "a claim of a lease that is none" else []))

    async with (
        asyncio.timeout(20),
        RawServer() as server,
        session_files(world, server, *offer(world, server, {"a": BODY})) as files,
    ):
        report = await download(world, files, remember=True)

    assert report.failures == ()
    assert bodies_at_home(world) == {"files/a.bin": BODY}
    assert not (ledger.parent / "ledger.sqlite.damaged").exists()
    with closing(sqlite3.connect(ledger)) as left:
        assert left.execute("SELECT count(*) FROM claims").fetchone() == (0,)


@row("SE26", protection="a control record has a validator and numbers that a server can have sent")
@pytest.mark.parametrize(
    "fields",
    [
        control({"validator": '"v1"\r\nCookie: a=b'}, reason="an ETag is looked at once more before it is sent"),
        control({"validator": '"v1'}, reason="as above"),
        {"offset": 10**30, "total": 10**30},
        {"total": 10**30, "ahead": [[150_000, 10**29, "x"]]},
    ],
    ids=["two lines", "half quoted", "huge", "huge part"],
)
async def test_a_control_record_with_odd_values_begins_anew(world: World, fields: dict[str, Any]) -> None:
    """SE26: no header is made of it, and no call to the system; the file comes home from its first byte."""
    world.allow("files/a.bin", BODY)
    async with RawServer() as server, session_files(world, server, remote("a", size=len(BODY))) as files:
        server.on("GET", "/a", reply(body=BODY, headers=ETAG, cut=80_000), reply(503), ranged(BODY))
        await download(world, files, attempts=1)
        (record,) = partials(world, "*.json")
        record.write_text(json.dumps({**json.loads(record.read_bytes()), **fields}))
        report = await download(world, files, remember=True)

    assert report.failures == ()
    assert requested(server, "a")[2:] == [None]
    assert bodies_at_home(world) == {"files/a.bin": BODY}
