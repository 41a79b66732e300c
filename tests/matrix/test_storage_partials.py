"""Rows ST17, ST19 to ST21, ST23 and ST30 to ST35: partial files and control records that are not what they seem."""

from __future__ import annotations

import asyncio
import errno
import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import matrix
import pytest
from disks import FaultyDisk
from filesets import content, remote
from internals import rig
from matrix import World, row
from offered_files import bodies_at_home, finish, offer, partials, requested, start, state
from scripted import RawServer, Reply, Seen, reply
from session_files import ETAG, SessionFiles, download, ranged, session_files

from arena_async import Mirror, Stopped, TransferOptions
from arena_async.errors import ApiError
from arena_async.options import KIB

BODY = content(200_000, "a")
#: What the record vouches for after 150,000 bytes came; those before it, after 64 KiB and after 128.
RECORDED = 150_000


async def _broken_off(world: World, server: RawServer, files: SessionFiles) -> tuple[Path, Path]:
    """Bring 150,000 bytes and no more; give the partial file and its record. The next answers are honest."""
    server.on("GET", "/a", reply(body=BODY, headers=ETAG, cut=150_000), reply(503), ranged(BODY))
    report = await download(world, files, attempts=1)
    assert isinstance(report.failures[0].error, ApiError)
    (part,), (record,) = partials(world, "*.part"), partials(world, "*.json")
    assert json.loads(record.read_bytes())["offset"] == RECORDED
    return part, record


def _changed(record: Path, **fields: Any) -> bytes:
    return json.dumps({**json.loads(record.read_bytes()), **fields}).encode()


def _huge(record: Path) -> None:
    with record.open("r+b") as file:
        file.truncate(1 << 30)


def _directory(record: Path) -> None:
    record.unlink()
    record.mkdir()


RECORDS: dict[str, Callable[[Path], object]] = {
    "empty": lambda record: record.write_bytes(b""),
    "cut": lambda record: record.write_bytes(record.read_bytes()[:40]),
    "another version": lambda record: record.write_bytes(_changed(record, version=99)),
    "wrong types": lambda record: record.write_bytes(_changed(record, offset=str(RECORDED), total=None)),
    "of another file": lambda record: record.write_bytes(_changed(record, key="0" * 64)),
    "a list": lambda record: record.write_bytes(b"[" * 30_000),
    "a gigabyte": _huge,
    "a folder": _directory,
}


@row("ST17", protection="a control record is believed only when it is whole and of that file")
@pytest.mark.parametrize("damage", RECORDS)
async def test_a_control_record_that_is_none_is_replaced(world: World, damage: str) -> None:
    """ST17: whatever is wrong with it, the file begins anew, nothing crashes, and nothing of it is left."""
    world.allow("files/a.bin", BODY)
    async with RawServer() as server, session_files(world, server, remote("a", size=len(BODY))) as files:
        _, record = await _broken_off(world, server, files)
        RECORDS[damage](record)
        report = await download(world, files)

    assert report.failures == ()
    assert requested(server, "a")[2:] == [None]
    assert bodies_at_home(world) == {"files/a.bin": BODY}
    assert partials(world) == []


@row("ST19", protection="what lies behind the recorded end of a partial file counts for nothing")
@pytest.mark.parametrize("junk", [1, 18_928, 300_000], ids=["a byte", "what had come", "more than the file has"])
async def test_a_partial_file_is_cut_back_to_its_record(world: World, junk: int) -> None:
    """ST19: bytes behind what was forced to the disk may be anything: the rest is asked for from the record on."""
    world.allow("files/a.bin", BODY)
    async with RawServer() as server, session_files(world, server, remote("a", size=len(BODY))) as files:
        part, _ = await _broken_off(world, server, files)
        part.write_bytes(part.read_bytes()[:RECORDED] + b"?" * junk)
        report = await download(world, files)

    assert report.failures == ()
    assert requested(server, "a")[2:] == [f"bytes={RECORDED}-"]
    assert bodies_at_home(world) == {"files/a.bin": BODY}


def _zeros(content: bytearray) -> None:
    content[RECORDED - 4096 : RECORDED] = bytes(4096)


def _one_bit(content: bytearray) -> None:
    content[RECORDED - 30_000] ^= 1


def _shorter(content: bytearray) -> None:
    del content[RECORDED - 1 :]


def _lost(content: bytearray) -> None:
    content[:] = bytes(len(content))


@row("ST20", protection="the tail of a partial file is read back before it is resumed")
@pytest.mark.parametrize(
    ("damage", "proved"),
    [(_zeros, "bytes=131072-"), (_one_bit, "bytes=65536-"), (_shorter, "bytes=131072-"), (_lost, None)],
    ids=["zeros", "one bit", "shorter", "nothing"],
)
async def test_a_partial_file_whose_end_was_lost_goes_on_where_it_is_proved(
    world: World, damage: Callable[[bytearray], object], proved: str | None
) -> None:
    """ST20: the last block is not what was written: nothing behind an earlier record that holds is trusted."""
    world.allow("files/a.bin", BODY)
    async with RawServer() as server, session_files(world, server, remote("a", size=len(BODY))) as files:
        part, _ = await _broken_off(world, server, files)
        found = bytearray(part.read_bytes())
        damage(found)
        part.write_bytes(found)
        report = await download(world, files)

    assert report.failures == ()
    assert requested(server, "a")[2:] == [proved]
    assert bodies_at_home(world) == {"files/a.bin": BODY}


def _of_somebody_else(part: Path, world: World, disk: FaultyDisk) -> None:
    """Change the owner of a file; without the right to do so, let the disk report another owner."""
    with suppress(PermissionError):
        os.chown(part, 65_534, 65_534)
        return
    disk.replace("look_open", _another_owner, name="*.part", times=1)


def _another_owner(real: Callable[[int], os.stat_result], file: int) -> os.stat_result:
    fields = list(real(file))
    fields[4] += 1
    return os.stat_result(fields)


def _read_only(part: Path, world: World, disk: FaultyDisk) -> None:
    """Forbid writing; to root the system forbids nothing, so the disk does."""
    part.chmod(0o400)
    if os.geteuid() == 0:
        disk.fail("open_file", errno.EACCES, name=part.name, times=1)


def _also_outside(part: Path, world: World, disk: FaultyDisk) -> None:
    """Make it a second name of a file that is none of our business."""
    mine = world.outside / "mine.txt"
    mine.write_bytes(part.read_bytes())
    world._before = matrix._tree(world.outside)
    part.unlink()
    os.link(mine, part)


@row("ST21", protection="only a partial file that is ours alone is resumed")
@pytest.mark.parametrize(
    "make", [_of_somebody_else, _read_only, _also_outside], ids=["another owner", "read-only", "hard link"]
)
async def test_a_partial_file_that_is_not_ours_alone_is_not_written_to(
    world: World, make: Callable[[Path, World, FaultyDisk], None]
) -> None:
    """ST21: a fresh one of our own is made instead, and the bytes of the other stay what they are."""
    world.allow("files/a.bin", BODY)
    disk = FaultyDisk()
    async with RawServer() as server, session_files(world, server, remote("a", size=len(BODY))) as files:
        part, _ = await _broken_off(world, server, files)
        make(part, world, disk)
        with part.open("rb") as other:
            before = other.read()
            report = await download(world, files, disk=disk)
            other.seek(0)
            after = other.read()

    assert report.failures == ()
    assert after == before
    assert requested(server, "a")[2:] == [None]
    assert bodies_at_home(world) == {"files/a.bin": BODY}


@pytest.mark.process
@row("ST23", protection="each partial file has a name of its own")
async def test_a_lock_that_keeps_nobody_out_costs_work_and_no_byte(world: World) -> None:
    """ST23: three processes on a folder whose locks are granted to all: every final name is whole at every look."""
    bodies = {"large": content(300_000, "large")}
    bodies |= {f"f{number}": content(30_000 + number, str(number)) for number in range(12)}
    together = asyncio.Event()

    def once_all_are_here(seen: Seen) -> Reply:
        if len(requested(server, "large")) == 3:
            together.set()
        return reply(body=bodies["large"], headers=ETAG, before_body=together)

    async with RawServer() as server:
        offer(world, server, bodies)
        server.on("GET", "/large", once_all_are_here)
        files = {name: len(body) for name, body in bodies.items()}
        children = [await start(world, base_url=server.base_url, files=files, lies=True) for _ in range(3)]
        ended = await asyncio.gather(*(finish(world, process) for process in children))

    assert [(one.code, one.complaints) for one in ended] == [(0, "")] * 3
    assert [one.report["failures"] for one in ended] == [0, 0, 0]
    assert max(len(requested(server, name)) for name in bodies) <= 3
    assert bodies_at_home(world) == {f"files/{name}.bin": body for name, body in bodies.items()}
    assert partials(world) == []


PASSING = [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO]


@row("ST30", protection="what cannot be looked at is not known to be useless")
@pytest.mark.parametrize("number", PASSING, ids=[errno.errorcode[number] for number in PASSING])
@pytest.mark.parametrize(
    ("verb", "name"),
    [("open_file", "*.part"), ("look_open", "*.part"), ("lock", "*.part"), ("read", "*.part"), ("open_file", "*.json")],
)
async def test_one_error_at_the_start_costs_no_partial_file(world: World, verb: str, name: str, number: int) -> None:
    """ST30: it has passed when the file is wanted, and the file goes on where it stopped."""
    world.allow("files/a.bin", BODY)
    disk = FaultyDisk()
    disk.fail(verb, number, name=name, times=1)
    async with RawServer() as server, session_files(world, server, remote("a", size=len(BODY))) as files:
        await _broken_off(world, server, files)
        report = await download(world, files, disk=disk)

    assert report.failures == ()
    assert requested(server, "a")[2:] == [f"bytes={RECORDED}-"]
    assert bodies_at_home(world) == {"files/a.bin": BODY}


STEM = "0123456789abcdef" * 2 + "-00112233aabbccdd"
THEIRS = {
    "notes.part": b"mine",
    "thesis.json": b"{}",
    f"1{STEM[1:-1]}.part": b"one digit less",
    f"{STEM.upper()}.part": b"capitals",
    f"2{STEM[1:]} (copy).json": b"a copy of somebody",
    "new-idea": b"a note",
    "mode-of-work": b"another note",
    # By its name it is ours, by its record of a later version.
    f"{STEM}.part": b"content",
    f"{STEM}.json": b'{"version": 2, "key": "0"}',
}


@row("ST31", protection="only what has one of our names and is known to be useless is swept away")
async def test_what_is_not_ours_stays_among_the_partial_files_however_old_it_is(world: World) -> None:
    """ST31: names that are nearly ours, and a record of a version that is not known here."""
    world.keeps_partials = True
    world.allow("files/a.bin", BODY)
    async with RawServer() as server, session_files(world, server, *offer(world, server, {"a": BODY})) as files:
        await download(world, files)
        for name, text in THEIRS.items():
            place = state(world) / "partial" / name
            place.write_bytes(text)
            os.utime(place, (0, 0))
        report = await download(world, files)

    assert report.failures == ()
    assert {path.name: path.read_bytes() for path in partials(world)} == THEIRS


@row("ST31", protection="what was swept away is what a killed run left")
async def test_what_a_killed_run_left_is_swept_away(world: World) -> None:
    """ST31: content without a record, a record without content, and what served for a moment only."""
    async with RawServer() as server, session_files(world, server, *offer(world, server, {"a": BODY})) as files:
        await download(world, files)
        for name in (f"{STEM}.part", f"{STEM[:-4]}0000.json", "new-00112233aabbccdd", "mode-00112233aabbccdd"):
            place = state(world) / "partial" / name
            place.write_bytes(b"left")
            os.utime(place, (0, 0))
        report = await download(world, files)

    assert report.failures == ()
    assert partials(world) == []


@row("ST32", protection="what cannot be looked at is not known to be useless")
@pytest.mark.parametrize("number", PASSING, ids=[errno.errorcode[number] for number in PASSING])
@pytest.mark.parametrize("verb", ["open_file", "look_open", "lock", "read"])
async def test_one_error_at_the_start_costs_no_verified_file(world: World, verb: str, number: int) -> None:
    """ST32: a file that was verified and has no name yet gets it at the next start at which nothing fails."""
    world.allow("files/a.bin", BODY)
    refusing, failing = FaultyDisk(), FaultyDisk()
    refusing.fail("rename", errno.EIO, name="*.part")
    failing.fail(verb, number, name="*.part", times=1)
    async with RawServer() as server, session_files(world, server, *offer(world, server, {"a": BODY})) as files:
        await download(world, files, remember=True, disk=refusing)
        async with rig(Mirror(world.root), disk=failing):
            pass
        (left,) = partials(world, "*.part")
        report = await download(world, files, remember=True)

    assert left.suffix == ".part"
    assert report.failures == ()
    assert requested(server, "a") == [None]
    assert bodies_at_home(world) == {"files/a.bin": BODY}
    assert partials(world) == []


async def _stopped(world: World, server: RawServer, files: SessionFiles, *, came: int, seen: list[object]) -> None:
    """Begin a mirror, and stop it when so many bytes must have come."""
    mirror = rig(
        Mirror(world.root, options=TransferOptions(chunk_size=64 * KIB, workers=2), observer=seen.append),
        record_every=1 << 30,
    )
    async with mirror:
        going = asyncio.create_task(mirror.sync(files))
        await server.arrived(1)
        for _ in range(200):
            # Beyond what is written, a piece waits in memory for the rest of it.
            await asyncio.sleep(0.005)
            if came < 64 * KIB or any(path.stat().st_size >= came // (64 * KIB) * 64 * KIB for path in partials(world)):
                break
        for _ in range(20):
            await asyncio.sleep(0.005)
        going.cancel()
        with suppress(asyncio.CancelledError):
            await going


@row("ST33", protection="what has come of a file is recorded when everything is stopped, however little it is")
@pytest.mark.parametrize("came", [1, 40_000, 65_537, 150_001], ids=["a byte", "in memory", "a byte more", "two pieces"])
@pytest.mark.parametrize("length", [60_000, 200_000], ids=["small", "large"])
async def test_a_stop_costs_no_byte_of_a_file_that_can_be_resumed(world: World, length: int, came: int) -> None:
    """ST33: the next run asks for what has not come, and for nothing else; an observer is told what is kept."""
    body = BODY[:length]
    if came > length:
        came = length - 1
    world.allow("files/a.bin", body)
    seen: list[object] = []
    async with RawServer() as server, session_files(world, server, remote("a", size=length)) as files:
        server.on("GET", "/a", reply(body=body[:came], headers=ETAG, length=length, stall=True), ranged(body))
        await _stopped(world, server, files, came=came, seen=seen)
        report = await download(world, files, remember=True)

    assert [(one.bytes_kept, one.resumable) for one in seen if isinstance(one, Stopped)] == [(came, True)]
    assert report.failures == ()
    assert requested(server, "a") == [None, f"bytes={came}-"]
    assert bodies_at_home(world) == {"files/a.bin": body}


@row("ST34", protection="a stop says which files nothing is kept of")
async def test_a_stop_keeps_nothing_of_a_file_without_a_validator(world: World) -> None:
    """ST34: it begins anew, which the observer is told, and no partial file is left."""
    world.allow("files/a.bin", BODY)
    seen: list[object] = []
    async with RawServer() as server, session_files(world, server, remote("a", size=len(BODY))) as files:
        server.on("GET", "/a", reply(body=BODY[:150_000], length=len(BODY), stall=True), ranged(BODY))
        await _stopped(world, server, files, came=150_000, seen=seen)
        left = partials(world)
        report = await download(world, files, remember=True)

    assert [(one.bytes_kept, one.resumable) for one in seen if isinstance(one, Stopped)] == [(0, False)]
    assert left == []
    assert report.failures == ()
    assert requested(server, "a") == [None, None]


@row("ST35", protection="a partial file is resumed at its last proved byte")
@pytest.mark.parametrize("left", [131_071, 100_000, 65_536], ids=["a byte less", "half a piece", "the record before"])
async def test_a_partial_file_that_is_shorter_than_its_record_goes_on_at_the_one_before(
    world: World, left: int
) -> None:
    """ST35: each record proves an end of its own."""
    world.allow("files/a.bin", BODY)
    async with RawServer() as server, session_files(world, server, remote("a", size=len(BODY))) as files:
        part, _ = await _broken_off(world, server, files)
        os.truncate(part, left)
        report = await download(world, files)

    assert report.failures == ()
    assert requested(server, "a")[2:] == ["bytes=65536-"]
    assert bodies_at_home(world) == {"files/a.bin": BODY}
