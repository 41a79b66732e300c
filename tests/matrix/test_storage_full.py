"""Rows ST01 to ST03 and ST36: disks that are full, small, read-only or broken."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from typing import Any

import attrs
import pytest
from disks import FaultyDisk
from filesets import content, remote
from matrix import World, row
from offered_files import bodies_at_home, child, offer, partials, requested
from scripted import RawServer, reply
from session_files import ETAG, download, ranged, session_files

from arena_async.errors import DiskFullError, StorageError
from arena_async.options import MIB
from arena_async.transfer.models import Action

LARGE = content(200_000, "a")
#: So many that a pool which goes on is seen to go on.
MANY = {f"s{number:02}": content(3_000, f"s{number:02}") for number in range(30)}


def full(verb: str, pattern: str = "*", *, skip: int = 0) -> FaultyDisk:
    """Return a disk that has no room left for one kind of call."""
    disk = FaultyDisk()
    disk.fail(verb, errno.ENOSPC, name=pattern, skip=skip)
    return disk


@attrs.frozen
class Full:
    """Where there is no room, and what the next run asks for then: None for the whole, "" for nothing at all."""

    verb: str
    pattern: str
    skip: int
    next: str | None
    #: Files that are not begun any more, at the least: the slots go on while a group is committed.
    spared: int = 30


FULL = [
    pytest.param(Full("create", "*.part", 0, None), id="open"),
    pytest.param(Full("write", "*.part", 0, None), id="first write"),
    pytest.param(Full("write", "*.part", 2, "bytes=131072-"), id="mid write"),
    pytest.param(Full("sync_data", "*.part", 1, None), id="fsync on the way"),
    pytest.param(Full("sync", "*.part", 0, None, spared=0), id="fsync at the end"),
    # The first small file of ours that is written is tenant.json.
    pytest.param(Full("write", "new-*", 1, None), id="first control record"),
    pytest.param(Full("write", "new-*", 2, "bytes=65536-"), id="second control record"),
    pytest.param(Full("make_directory", "files", 0, "", spared=0), id="mkdir"),
    pytest.param(Full("rename", "*.part", 0, "", spared=0), id="rename"),
]


@row("ST01", protection="a full disk is no reason to ask the network again")
@pytest.mark.parametrize("where", FULL)
async def test_a_full_disk_stops_the_pool_and_costs_no_request(world: World, where: Full) -> None:
    """ST01: wherever the room ends, nothing is asked for twice, the rest is not begun, and the next run goes on."""
    async with RawServer() as server:
        rows = offer(world, server, {"a": LARGE, **MANY})
        async with session_files(world, server, *rows) as files:
            disk = full(where.verb, where.pattern, skip=where.skip)
            first = await download(world, files, remember=True, workers=1, disk=disk)
            requested_first = [seen.path for seen in server.requests]
            left = bodies_at_home(world)
            second = await download(world, files, remember=True)

    assert isinstance(first.error, DiskFullError)
    assert isinstance(first.failures[0].error, DiskFullError)
    assert len(requested_first) == len(set(requested_first))
    assert first.not_started >= where.spared
    assert len(requested_first) + first.not_started == 31
    assert "files/a.bin" not in left
    assert requested(server, "a")[1:] == ([] if where.next == "" else [where.next])
    assert second.failures == ()
    assert bodies_at_home(world) == {f"files/{name}.bin": body for name, body in {"a": LARGE, **MANY}.items()}


@row("ST01", protection="a full disk is no reason to ask the network again")
async def test_closing_that_tells_of_a_full_disk_leaves_no_name(world: World) -> None:
    """ST01: without fsync, closing is what tells that there was no room, as on network file systems."""
    async with RawServer() as server:
        rows = offer(world, server, {"a": LARGE, **MANY})
        disk = FaultyDisk()
        disk.replace("close", _refuse_after_closing, name="*.part")
        async with session_files(world, server, *rows) as files:
            first = await download(world, files, remember=True, workers=1, disk=disk, durability="off")
            left, waiting = bodies_at_home(world), partials(world)
            second = await download(world, files, remember=True)

    assert isinstance(first.error, DiskFullError)
    assert (left, waiting) == ({}, [])
    assert requested(server, "a") == [None, None]
    assert second.failures == ()


def _refuse_after_closing(real: Any, file: int) -> None:
    real(file)
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@row("ST01", protection="a full disk is no reason to ask the network again")
async def test_a_large_file_without_room_is_noticed_before_its_first_byte(world: World) -> None:
    """ST01: the room for a file above 1 MiB is reserved, so that a full disk is known at its beginning."""
    body = content(2 * MIB, "large")
    async with RawServer() as server:
        rows = offer(world, server, {"a": body, **MANY})
        disk = full("allocate")
        async with session_files(world, server, *rows) as files:
            report = await download(world, files, remember=True, workers=1, disk=disk)

    assert isinstance(report.error, DiskFullError)
    assert (report.bytes_written, partials(world), bodies_at_home(world)) == (0, [], {})
    assert requested(server, "a") == [None]
    assert report.not_started == 30


@row("ST01", protection="what the system says becomes a typed error")
@pytest.mark.parametrize(("verb", "pattern"), [("make_directory", "*"), ("write", "new-*")], ids=["folder", "tenant"])
async def test_a_folder_that_cannot_be_prepared_is_a_typed_error(world: World, verb: str, pattern: str) -> None:
    """ST01: no room for our own folder, or for writing down whose it is: nothing is asked for at all."""
    async with RawServer() as server:
        rows = offer(world, server, {"a": LARGE})
        async with session_files(world, server, *rows) as files:
            with pytest.raises(DiskFullError) as caught:
                await download(world, files, disk=full(verb, pattern))
    world.saw(caught.value)

    assert server.requests == []
    assert "Free some space" in str(caught.value)


@row("ST01", protection="a full disk is no reason to ask the network again")
async def test_a_device_that_is_really_full_is_believed(world: World) -> None:
    """ST01: the system's own refusal of a write, from /dev/full, costs one request and leaves nothing."""
    async with RawServer() as server:
        rows = offer(world, server, {"a": LARGE, **MANY})
        disk = FaultyDisk()
        with _full_device() as device:
            if device is None:
                disk.fail("write", errno.ENOSPC, name="*.part")
            else:
                disk.replace("write", lambda real, file, data, offset: os.write(device, data), name="*.part")
            async with session_files(world, server, *rows) as files:
                report = await download(world, files, workers=1, disk=disk)

    assert isinstance(report.error, DiskFullError)
    assert len(server.requests) + report.not_started == 31
    assert (partials(world), bodies_at_home(world)) == ([], {})


@contextlib.contextmanager
def _full_device() -> Iterator[int | None]:
    """Open the device that is always full, where there is one."""
    try:
        device = os.open("/dev/full", os.O_WRONLY)
    except FileNotFoundError:
        yield None
        return
    try:
        yield device
    finally:
        os.close(device)


@pytest.mark.process
@row("ST01", protection="a full disk is no reason to ask the network again")
async def test_a_limit_on_the_size_of_files_concerns_the_one_that_is_larger(world: World) -> None:
    """ST01: RLIMIT_FSIZE at 800,000 bytes: no final name for that file and no retry; its rest comes later."""
    large, few = content(1_000_000, "a"), dict(list(MANY.items())[:5])
    files = {"a": len(large)} | {name: len(body) for name, body in few.items()}
    async with RawServer() as server:
        offer(world, server, {"a": large, **few})
        settings = {"base_url": server.base_url, "files": files}
        first = await child(world, **settings, workers=1, fsize=800_000)
        requested_first = len(server.requests)
        left = bodies_at_home(world)
        second = await child(world, **settings)

    assert (first.code, first.complaints, second.code, second.complaints) == (0, "", 0, "")
    assert "settled a DiskFullError" in first.lines
    assert (first.report["failures"], requested_first, len(left)) == (1, 6, 5)
    assert requested(server, "a") == [None, "bytes=786432-"]
    assert second.report["failures"] == 0
    assert len(bodies_at_home(world)) == 6


@pytest.mark.process
@row("ST01", protection="a full disk is no reason to ask the network again")
async def test_a_small_disk_that_fills_up_is_gone_on_with_when_there_is_room(world: World) -> None:
    """ST01: a file system of 1 MB with something else on it; after that is removed, only the rest is asked for."""
    body = content(600_000, "a")
    world.allow("files/a.bin", body)
    world.root.mkdir()
    mount = 'mount -t tmpfs -o size=1000k none "$0" && exec "$@"'
    inside = ["unshare", "-Urm", "sh", "-c", mount, str(world.root)]
    async with RawServer() as server:
        # Without a length, nobody can know beforehand that it does not fit.
        server.on("GET", "/a", reply(body=body, headers=ETAG, chunked=True), ranged(body))
        real = await _mounts(inside)
        ended = await child(
            world, script="small_disk_child.py", before=inside if real else (), base_url=server.base_url, real=real
        )

    assert (ended.code, ended.complaints) == (0, "")
    assert ended.report["first"] == "DiskFullError"
    assert ended.report["whole"] == {"a.bin": len(body)}
    assert ended.report["partials"] == []
    ranges = requested(server, "a")
    assert len(ranges) == 2
    assert int((ranges[1] or "bytes=0-")[6:-1]) >= 131_072


async def _mounts(command: list[str]) -> bool:
    """Return whether a small file system can be mounted here."""
    if shutil.which("unshare") is None:
        return False
    process = await asyncio.create_subprocess_exec(*command, "true", stderr=asyncio.subprocess.DEVNULL)
    return await process.wait() == 0


@row("ST02", protection="a size that does not fit is seen before it is asked for")
async def test_a_file_larger_than_the_free_space_is_not_asked_for(world: World) -> None:
    """ST02: 200,000 bytes are listed and 199,999 are free: no request leaves."""
    async with RawServer() as server:
        rows = offer(world, server, {"a": LARGE})
        disk = FaultyDisk()
        disk.replace("free", lambda real, directory: len(LARGE) - 1)
        async with session_files(world, server, *rows) as files:
            report = await download(world, files, disk=disk)

    assert isinstance(report.failures[0].error, DiskFullError)
    assert "199999 are free" in str(report.failures[0].error)
    assert server.requests == []
    assert (partials(world), bodies_at_home(world)) == ([], {})


TYPED = [
    pytest.param("write", errno.EDQUOT, DiskFullError, True, id="quota of the user"),
    pytest.param("write", errno.EFBIG, DiskFullError, False, id="file too large"),
    pytest.param("create", errno.EROFS, StorageError, True, id="read-only"),
    pytest.param("create", errno.EACCES, StorageError, False, id="not allowed"),
    pytest.param("write", errno.EIO, StorageError, True, id="input/output error"),
]


@row("ST03", protection="what the system says becomes a typed error")
@pytest.mark.parametrize(("verb", "number", "kind", "stops"), TYPED)
async def test_what_the_disk_says_reaches_the_caller_with_advice(
    world: World, verb: str, number: int, kind: type[StorageError], stops: bool
) -> None:
    """ST03: a typed error with a sentence and the number of the system behind it; one request, no second one."""
    async with RawServer() as server:
        rows = offer(world, server, {"a": LARGE})
        disk = FaultyDisk()
        disk.fail(verb, number, name="*.part")
        async with session_files(world, server, *rows) as files:
            report = await download(world, files, disk=disk)

    error = report.failures[0].error
    assert type(error) is kind
    assert isinstance(error.__cause__, OSError)
    assert error.__cause__.errno == number
    assert str(error).startswith("files/a.bin: could not be ")
    assert (report.error is error) is stops
    assert requested(server, "a") == [None]
    assert (partials(world), bodies_at_home(world)) == ([], {})


@row("ST03", protection="what could not be forced to the disk is dropped")
@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC], ids=["EIO", "ENOSPC"])
@pytest.mark.parametrize("verb", ["sync_data", "sync"])
async def test_bytes_whose_fsync_failed_are_never_trusted(world: World, verb: str, number: int) -> None:
    """ST03: after a failed fsync nobody knows what is on the disk: the next run asks for the whole."""
    async with RawServer() as server:
        rows = offer(world, server, {"a": LARGE})
        disk = FaultyDisk()
        disk.fail(verb, number, name="*.part", skip=1 if verb == "sync_data" else 0, times=1)
        async with session_files(world, server, *rows) as files:
            first = await download(world, files, disk=disk)
            left = partials(world)
            second = await download(world, files)

    assert isinstance(first.failures[0].error, StorageError)
    assert left == []
    assert requested(server, "a") == [None, None]
    assert (second.failures, second.counts[Action.FETCH]) == ((), 1)
    assert (world.root / "files/a.bin").read_bytes() == LARGE


@row("ST36", protection="a size that does not fit concerns one file")
@pytest.mark.parametrize("listed", [True, False], ids=["listed", "announced"])
async def test_one_size_that_does_not_fit_leaves_the_others(world: World, *, listed: bool) -> None:
    """ST36: the file fails, before its request where the listing says so, and ninety-nine come home."""
    names = [f"f{number}" for number in range(99)]
    huge = 99_999_999_999_999
    async with RawServer() as server:
        rows = offer(world, server, {name: content(1000, name) for name in names})
        rows.insert(5, remote("huge", size=huge if listed else None))
        server.on("GET", "/huge", reply(body=b"a little", headers=ETAG, length=huge))
        async with session_files(world, server, *rows) as files:
            report = await download(world, files)

    assert [(one.file.key, type(one.error)) for one in report.failures] == [("test/huge", DiskFullError)]
    assert (report.error, report.not_started) == (None, 0)
    assert len(requested(server, "huge")) == (0 if listed else 1)
    assert len(bodies_at_home(world)) == 99
