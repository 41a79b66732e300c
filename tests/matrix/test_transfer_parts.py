"""Rows TR17 to TR19, TR41, ST01, CC01, CR03 and CR04 again: one file over several connections, and what breaks one."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import json
import random
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cancel_everywhere import HOW, How, cancel_at_every_await
from directory_bench import all_workers_work
from disks import FaultyDisk
from filesets import MemoryFiles, Source, content, remote
from internals import rig
from lives import Lives
from matrix import World, row
from offered_files import age, bodies_at_home
from part_sizes import EAGER, Ticking
from powerloss import TracingDisk
from scripted import RawServer, Reply, Seen, reply
from session_files import download, ranged, session_files

from arena_async import Action, Mirror, Report
from arena_async.errors import DiskFullError
from arena_async.options import KIB, Clock, TransferOptions
from arena_async.transfer.filesystem import FileSystem

#: Bytes that repeat nowhere: a part that is written in the place of another one shows.
BODY = hashlib.shake_256(b"a").digest(1_500_000)
NEW = hashlib.shake_256(b"another version").digest(1_500_000)
RANGES = {"Accept-Ranges": "bytes"}


def first_and_last(seen: Seen) -> tuple[int, int] | None:
    """Return the bytes that a request for a part asked for; None for the whole, or for all that follows."""
    first, _, last = (seen.header("Range") or "").removeprefix("bytes=").partition("-")
    return (int(first), int(last)) if last else None


def parts(server: RawServer) -> list[tuple[int, int]]:
    """Return what was asked for in parts."""
    return [found for seen in server.requests if (found := first_and_last(seen)) is not None]


def prepare(running: Any) -> None:
    """Let everything be split."""
    rig(running, splitting=EAGER)


async def bring_split(world: World, server: RawServer) -> Report:
    """Bring the file home over as many connections as there are lanes."""
    async with session_files(world, server, remote("a", size=len(BODY))) as files:
        files.metered = False
        return await download(world, files, hours=Ticking(), prepare=prepare, workers=6)


def whole(_: tuple[int, int]) -> Reply:
    """Answer as a host that ignores ranges, whatever it said before."""
    return reply(body=BODY, headers={"ETag": '"v1"', **RANGES})


def shifted(part: tuple[int, int]) -> Reply:
    """Answer with as many bytes from a byte further on."""
    first, last = part
    headers = {"ETag": '"v1"', "Content-Range": f"bytes {first + 1}-{last + 1}/{len(BODY)}"}
    return reply(206, body=BODY[first + 1 : last + 2], headers=headers)


def of_another_version(part: tuple[int, int]) -> Reply:
    """Answer as a host that does not know ``If-Match``, and has another file now."""
    first, last = part
    headers = {"ETag": '"v2"', "Content-Range": f"bytes {first}-{last}/{len(NEW)}"}
    return reply(206, body=NEW[first : last + 1], headers=headers)


def too_short(part: tuple[int, int]) -> Reply:
    """Announce the whole part and break off."""
    first, last = part
    headers = {"ETag": '"v1"', "Content-Range": f"bytes {first}-{last}/{len(BODY)}"}
    return reply(206, body=BODY[first : last + 1], headers=headers, cut=10_000)


@row("TR18", protection="each part of a file has to be the one that was asked for, of the same file")
@pytest.mark.parametrize("spoil", [whole, shifted, of_another_version], ids=["whole", "shifted", "another version"])
async def test_an_answer_that_is_not_the_part_is_not_written(
    world: World, spoil: Callable[[tuple[int, int]], Reply]
) -> None:
    """TR17, TR18, TR19: every second part is answered wrongly; not one byte of that is taken."""
    world.allow("files/a.bin", BODY)
    count = [0]
    honest = ranged(BODY, headers=RANGES)

    def answer(seen: Seen) -> Reply:
        part = first_and_last(seen)
        count[0] += part is not None
        return spoil(part) if part is not None and count[0] % 2 else honest(seen)

    async with RawServer() as server:
        server.on("GET", "/a", answer)
        report = await bring_split(world, server)
        requested = parts(server)

    assert report.failures == ()
    assert bodies_at_home(world) == {"files/a.bin": BODY}
    assert len(requested) >= 2


@row("TR41", protection="what goes wrong with a part is no failure of the file")
@pytest.mark.parametrize(
    "spoil",
    [too_short, lambda _: reply(503), lambda _: reply(429), lambda _: reply(412)],
    ids=["cut", "503", "429", "412"],
)
async def test_a_part_that_breaks_off_or_is_refused_costs_only_what_is_missing(
    world: World, spoil: Callable[[tuple[int, int]], Reply]
) -> None:
    """TR41: the first three parts; what came of them stays, and nobody waits for what a part was told."""
    world.allow("files/a.bin", BODY)
    left = [3]
    honest = ranged(BODY, headers=RANGES)

    def answer(seen: Seen) -> Reply:
        part = first_and_last(seen)
        if part is None or not left[0]:
            return honest(seen)
        left[0] -= 1
        return spoil(part)

    async with RawServer() as server:
        server.on("GET", "/a", answer)
        report = await bring_split(world, server)
        wholes = [seen.header("Range") for seen in server.requests if first_and_last(seen) is None]

    assert report.failures == ()
    assert report.bytes_written == len(BODY)
    assert bodies_at_home(world) == {"files/a.bin": BODY}
    assert wholes.count(None) == 1


@row("TR19", protection="each part of a file has to be the one that was asked for, of the same file")
async def test_a_file_that_changes_between_two_parts_is_never_a_mixture(world: World) -> None:
    """TR19: from the third part on all is of another version, and parts come as if nobody had said ``If-Match``."""
    world.allow("files/a.bin", BODY, NEW)
    count = [0]
    old, new = ranged(BODY, headers=RANGES), ranged(NEW, etag='"v2"', headers=RANGES)

    def answer(seen: Seen) -> Reply:
        part = first_and_last(seen)
        count[0] += part is not None
        if count[0] < 3:
            return old(seen)
        return of_another_version(part) if part is not None else new(seen)

    async with RawServer() as server:
        server.on("GET", "/a", answer)
        report = await bring_split(world, server)

    assert report.failures == ()
    assert bodies_at_home(world)["files/a.bin"] in (BODY, NEW)
    assert count[0] >= 3


@row("ST01", protection="a full disk is no reason to ask the network again")
async def test_a_disk_that_is_full_under_a_part_fails_the_file_and_keeps_what_is_recorded(world: World) -> None:
    """ST01: one error, nothing under the final name; with room again, only what is missing is asked for."""
    world.allow("files/a.bin", BODY)
    disk = FaultyDisk()
    disk.fail("write", errno.ENOSPC, name="*.part", skip=12)
    how: dict[str, Any] = {"hours": Ticking(), "prepare": prepare, "workers": 6, "flush_unit": 16 * KIB}
    async with RawServer() as server, session_files(world, server, remote("a", size=len(BODY))) as files:
        files.metered = False
        server.on("GET", "/a", ranged(BODY, headers=RANGES))
        first = await download(world, files, disk=disk, **how)
        home = bodies_at_home(world)
        sent = len(server.requests)
        second = await download(world, files, **how)
        again = len(server.requests) - sent

    assert [type(failure.error) for failure in first.failures] == [DiskFullError]
    assert home == {}
    assert sent < 20
    assert second.failures == ()
    assert again > 0
    assert bodies_at_home(world) == {"files/a.bin": BODY}


@row("CC01", protection="what others write ahead ends before its file is touched", seconds=120)
@pytest.mark.parametrize("how", HOW)
async def test_cancelled_at_any_await_no_connection_of_a_split_file_runs_on(world: World, how: How) -> None:
    """CC01: all lanes are back and no partial file is open when the task is done; a rerun brings what is missing."""
    body, hours = content(400_000, "a"), Ticking()
    options = TransferOptions(workers=4, chunk_size=64 * KIB)
    rows = [remote(f"f{at}", size=len(body)) for at in range(400)]
    for listed in rows:
        world.allow(f"files/{listed.stem}.bin", body)
    async with RawServer() as server, session_files(world, server, *rows) as files:
        files.metered = False
        server.on("GET", "/f*", ranged(body, headers=RANGES))
        mirror = Mirror(
            world.root, options=options, clock=Clock(monotonic=hours.clock, sleep=hours.sleep, random=lambda: 0.5)
        )
        rig(mirror, splitting=EAGER)

        def start(at: int) -> Any:
            files.rows = [rows[at]]
            return mirror.sync(files)

        cancelled, last = 0, 0
        async with mirror:
            async for stopped in cancel_at_every_await(start, how=how, maximum=390, everywhere=True):
                assert stopped.cancelled or stopped.result.failures == ()
                assert not [task for task in asyncio.all_tasks() if task.get_name() == "arena_async part"]
                cancelled, last = cancelled + stopped.cancelled, stopped.at
            for number in range(4):
                world.allow(f"files/worker{number}.bin", b"x")
            await all_workers_work(mirror, 4)
        assert parts(server)
        files.rows = rows[1 : last + 1]
        report = await download(world, files, remember=True)
    assert cancelled > 10
    assert report.failures == ()
    assert all((world.root / f"files/f{at}.bin").read_bytes() == body for at in range(1, last + 1))


@pytest.mark.process
@row("CR03", protection="what is written ahead is recorded too", seconds=120)
async def test_after_a_kill_in_the_middle_only_what_is_missing_of_each_part_is_asked_for(world: World) -> None:
    """CR03: what a record speaks of is not asked for again, in front and ahead; the file is right in the end."""
    body = content(1_500_000, "a")
    world.allow("files/a.bin", body)
    saved = 0
    async with Lives() as lives:
        for number, kill_after in enumerate((400_000, 700_000, 1_000_000, 1_300_000)):
            directory = world.root / str(number)
            settings = {"files": {"a": len(body)}, "workers": 6, "flush_unit": 16 * KIB, "powered": True}
            killed = await lives.live(to=str(directory), split=True, kill_after=kill_after, **settings)
            assert killed.code == -signal.SIGKILL, killed
            known = known_parts(directory)
            saved += sum(until - start for start, until in known[1:])
            files = MemoryFiles([remote("a", size=len(body))], {"test/a": Source(body=body)})
            files.per_file = 0
            report = await sync_split(directory, files)

            assert report.failures == ()
            assert report.counts[Action.RESUME] == 1
            assert (directory / "files" / "a.bin").read_bytes() == body
            assert report.bytes_written == len(body) - sum(until - start for start, until in known)
            assert not list((directory / ".arena-async" / "partial").iterdir())

    assert saved >= 64 * KIB


def known_parts(directory: Path) -> list[tuple[int, int]]:
    """Return what the record of the only partial file speaks of: what is there without a gap, then what lies ahead."""
    (path,) = (directory / ".arena-async" / "partial").glob("*.json")
    found = json.loads(path.read_text())
    return [(0, found["offset"]), *((start, until) for start, until, _ in found["ahead"])]


async def sync_split(
    directory: Path, files: MemoryFiles, *, disk: FileSystem | None = None, workers: int = 6
) -> Report:
    """Sync into a folder over many lanes."""
    options = TransferOptions(workers=workers, chunk_size=64 * KIB)
    mirror = Mirror(directory, options=options, clock=Clock(monotonic=Ticking().clock))
    rig(mirror, splitting=EAGER, record_every=16 * KIB, disk=disk or FileSystem())
    async with mirror:
        return await mirror.sync(files)


@pytest.mark.once
@row("CR04", protection="what is written ahead is on the disk before it is recorded", seconds=300)
async def test_no_power_loss_makes_a_part_count_that_is_not_on_the_disk(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CR04: whatever of the parts is lost, torn or there in another order, the next run ends in the right bytes."""
    world.memory = 1 << 30  # All versions of everything are held.
    body = content(700_000, "a")

    def files() -> MemoryFiles:
        found = MemoryFiles([remote("a", size=len(body))], {"test/a": Source(body=body)})
        found.per_file = 0
        return found

    disk = TracingDisk(world.root.parent)
    with monkeypatch.context() as patch:
        disk.watch_ledger(patch, world.root)
        report = await sync_split(world.root, files(), disk=disk)
    assert report.failures == ()
    chance, wrong, resumed = random.Random(4), [], 0
    crashes = await asyncio.to_thread(lambda: list(disk.crashes(chance)))
    begun = [crash for crash in crashes if any(path.endswith(".json") and "partial" in path for path in crash.files)]
    for number, crash in enumerate(chance.sample(begun, min(60, len(begun)))):
        place = world.root.parent / f"crash{number}"
        await asyncio.to_thread(crash.put, place)
        root = place / "root"
        age(place)
        found = await sync_split(root, files(), workers=1 + number % 4)
        resumed += found.counts[Action.RESUME]
        if found.failures or (root / "files" / "a.bin").read_bytes() != body:
            wrong.append(crash.after)
        await asyncio.to_thread(shutil.rmtree, place)

    assert resumed > 5
    assert wrong == []
