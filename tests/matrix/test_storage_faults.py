"""Rows ST05, ST06, ST11, ST12, ST22 and ST37: calls that are interrupted, refused, missing or slow, and their order."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from disks import Call, FaultyDisk, RecordingDisk
from filesets import content, zipped
from internals import rig
from matrix import World, row
from offered_files import bodies_at_home, offer, partials, requested
from scripted import RawServer, reply
from session_files import ETAG, SessionFiles, download, ranged, session_files

from arena_async import Action, Mirror
from arena_async.errors import StorageError
from arena_async.options import KIB

BODY = content(200_000, "a")

#: What a download calls, but for those that must not be repeated: closing frees the number whatever it says.
REPEATED = (
    "make_root", "open_root", "open_directory", "make_directory", "names", "sync_directory", "free", "create",
    "open_file",
    "write", "read", "sync", "sync_data", "chmod", "look", "look_open", "rename", "unlink", "lock",
)  # fmt: skip


@row("ST05", protection="an interrupted call is made again")
@pytest.mark.parametrize("number", [errno.EINTR, errno.EAGAIN], ids=["EINTR", "EAGAIN"])
async def test_interrupted_calls_are_made_again(world: World, number: int) -> None:
    """ST05: each kind of call is interrupted twice; nobody outside sees any of it."""
    async with RawServer() as server:
        rows = offer(world, server, {"a": BODY})
        disk = FaultyDisk()
        for verb in REPEATED:
            disk.fail(verb, number, times=2)
        async with session_files(world, server, *rows) as files:
            report = await download(world, files, remember=True, disk=disk)

    assert {call.verb for call in disk.calls} >= set(REPEATED)
    assert report.failures == ()
    assert requested(server, "a") == [None]
    assert bodies_at_home(world) == {"files/a.bin": BODY}


def _open_elsewhere(disk: FaultyDisk, times: int) -> None:
    """Let renames fail as they do on Windows while another program has the file open."""
    disk.fail("rename", errno.EACCES, name="*.part", times=times, winerror=32)


@row("ST06", protection="a program that has the file open for a moment is waited for")
async def test_a_sharing_violation_of_300_milliseconds_is_waited_for(world: World) -> None:
    """ST06: the rename is refused for a third of a second and then done; no request is sent for that."""
    waits: list[float] = []

    def note_waits(running: Any) -> None:
        rig(running, disk_sleep=waits.append)

    async with RawServer() as server:
        rows = offer(world, server, {"a": BODY})
        disk = FaultyDisk()
        _open_elsewhere(disk, times=5)
        async with session_files(world, server, *rows) as files:
            report = await download(world, files, disk=disk, prepare=note_waits)

    assert report.failures == ()
    assert 0.3 <= sum(waits) <= 0.6
    assert requested(server, "a") == [None]
    assert bodies_at_home(world) == {"files/a.bin": BODY}


@row("ST06", protection="what was verified keeps its partial name until the next start")
@pytest.mark.parametrize("number", [errno.EACCES, errno.EXDEV, -32], ids=["EACCES", "EXDEV", "shared for ever"])
async def test_a_refused_rename_keeps_what_was_verified(world: World, number: int) -> None:
    """ST06: a typed error after a bounded wait; the next run gives the name and asks for nothing."""
    async with RawServer() as server:
        rows = offer(world, server, {"a": BODY})
        disk = FaultyDisk()
        if number < 0:
            _open_elsewhere(disk, times=1_000)
        else:
            disk.fail("rename", number, name="*.part")
        async with session_files(world, server, *rows) as files:
            first = await download(world, files, remember=True, disk=disk, prepare=_no_waits)
            left = [path.suffix for path in partials(world, "*.part")]
            second = await download(world, files, remember=True)

    assert type(first.failures[0].error) is StorageError
    assert disk.lines("rename").count(f"rename {partials_name(disk)} -> a.bin") <= 10
    assert left == [".part"]
    assert requested(server, "a") == [None]
    assert second.counts[Action.KEEP] == 1
    assert bodies_at_home(world) == {"files/a.bin": BODY}


def _no_waits(running: Any) -> None:
    rig(running, disk_sleep=lambda _: None)


def partials_name(disk: RecordingDisk) -> str:
    """Return the name of the partial file that a disk has seen."""
    return next(call.name for call in disk.calls if call.verb == "create" and call.name.endswith(".part"))


@row("ST11", protection="content is on the disk before its name")
async def test_nothing_is_named_before_it_is_on_the_disk(world: World) -> None:
    """ST11: the data before the record that vouches for it, the data before the name, the folder after the name."""
    async with RawServer() as server:
        rows = offer(world, server, {"a": BODY})
        disk = RecordingDisk()
        async with session_files(world, server, *rows) as files:
            report = await download(world, files, remember=True, disk=disk)

    assert report.outcomes[0].durable
    name = partials_name(disk)
    record = f"{name.removesuffix('.part')}.json"
    steps = [step for call in disk.calls if (step := _step(call, name, record))]
    assert "".join(steps) == "wsrwsrwsrwSNF"


def _step(call: Call, partial: str, record: str) -> str:
    """Return a letter for the calls whose order matters: runs of writes are one."""
    letters = {
        ("write", partial): "w",
        ("sync_data", partial): "s",
        ("sync", partial): "S",
        ("sync_directory", "files"): "F",
    }
    if call.verb == "rename":
        return {record: "r", "a.bin": "N"}.get(call.new, "")
    return letters.get((call.verb, call.name), "")


@row("ST12", protection="a file system without fsync is used all the same")
@pytest.mark.parametrize(
    "operations", [("sync", "sync_data"), ("sync_directory",)], ids=["no fsync", "no folder fsync"]
)
async def test_a_file_system_without_fsync_is_used_with_one_warning(
    world: World, operations: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    """ST12: the files come, one warning is logged, and no outcome claims to survive a power loss."""
    bodies = {name: content(100_000, name) for name in "abc"}
    async with RawServer() as server:
        rows = offer(world, server, bodies)
        disk = FaultyDisk()
        for verb in operations:
            disk.fail(verb, errno.EINVAL)
        async with session_files(world, server, *rows) as files:
            report = await download(world, files, remember=True, disk=disk)

    assert report.failures == ()
    assert [outcome.durable for outcome in report.outcomes] == [False, False, False]
    assert [record.levelname for record in caplog.records if "does not support fsync" in record.message] == ["WARNING"]
    assert len(server.requests) == 3
    assert bodies_at_home(world) == {f"files/{name}.bin": body for name, body in bodies.items()}


class _SlowDisk(FaultyDisk):
    """A disk whose write of content takes as long as it is held, ten seconds at the most."""

    def __init__(self) -> None:
        super().__init__()
        self.began, self.go_on = threading.Event(), threading.Event()
        self.replace("write", self._slowly, name="*.part")

    def _slowly(self, real: Callable[..., int], *args: Any) -> int:
        self.began.set()
        self.go_on.wait(10)
        return real(*args)


@row("ST22", protection="the disk is never waited for on the event loop")
async def test_a_write_that_takes_long_holds_nobody_but_its_own_file(world: World) -> None:
    """ST22: while a write hangs the loop is free; a cancelled run ends after it and keeps what came."""
    async with RawServer() as server:
        rows = offer(world, server, {"a": BODY})
        disk = _SlowDisk()
        async with session_files(world, server, *rows) as files:
            task = asyncio.create_task(download(world, files, disk=disk, workers=1))
            while not disk.began.is_set():
                await asyncio.sleep(0)
            task.cancel()
            for _ in range(50):
                await asyncio.sleep(0)
            waits_for_the_write = not task.done()
            disk.go_on.set()
            with suppress(asyncio.CancelledError):
                await task
            report = await download(world, files)

    assert waits_for_the_write
    assert task.cancelled()
    assert [call.size for call in disk.calls if call.verb == "write" and call.name.endswith(".part")] == [65_536] * 2
    assert report.failures == ()
    assert bodies_at_home(world) == {"files/a.bin": BODY}


class _HeldDisk(FaultyDisk):
    """A disk that holds the first read of a whole block until it is let go, and notes the reads of blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.began, self.go_on = threading.Event(), threading.Event()
        self.blocks = 0
        self.replace("read", self._read)

    def _read(self, real: Callable[..., bytes], file: int, size: int, offset: int) -> bytes:
        if size == 256 * KIB:
            self.blocks += 1
            self.began.set()
            assert self.go_on.wait(20)
        return real(file, size, offset)


#: Twelve blocks, of which a disk reads one at a time.
_MANY = zipped(content(3_000_000))
_HOURS_AGO = time.time() - 7200


async def _broken_off(world: World, server: RawServer, files: SessionFiles) -> None:
    """Leave nearly all of the file in a partial file that nothing has touched for two hours."""
    server.on("GET", "/a", reply(body=_MANY, headers=ETAG, cut=2_990_000), reply(503), ranged(_MANY))
    await download(world, files, attempts=1)
    for path in partials(world):
        os.utime(path, (_HOURS_AGO, _HOURS_AGO))


async def _verified_only(world: World, server: RawServer, files: SessionFiles) -> None:
    """Leave the file verified and without its final name."""
    disk = FaultyDisk()
    disk.fail("rename", errno.EIO, name="*.part")
    await download(world, files, remember=True, disk=disk)


async def _copied(world: World, server: RawServer, files: SessionFiles) -> None:
    """Leave the complete file with another time."""
    await download(world, files, remember=True)
    os.utime(world.root / "files/a.bin", (_HOURS_AGO, _HOURS_AGO))


async def _nothing(world: World, server: RawServer, files: SessionFiles) -> None:
    """Leave nothing."""


async def _sync(world: World, files: SessionFiles, disk: FaultyDisk) -> None:
    await download(world, files, remember=True, disk=disk)


async def _sync_without_locks(world: World, files: SessionFiles, disk: FaultyDisk) -> None:
    disk.replace("lock", lambda real, file: True)
    await _sync(world, files, disk)


async def _verify(world: World, files: SessionFiles, disk: FaultyDisk) -> None:
    async with rig(Mirror(world.root), disk=disk) as mirror:
        await mirror.verify()


@row("ST37", protection="a cancellation ends between two blocks that are read")
@pytest.mark.parametrize(
    ("left", "read"),
    [
        (_broken_off, _sync),
        (_broken_off, _sync_without_locks),
        (_nothing, _sync),
        (_verified_only, _sync),
        (_copied, _sync),
        (_copied, _verify),
    ],
    ids=["hash what came", "copy what came", "check an archive", "finish a commit", "keep a copied file", "verify"],
)
async def test_who_cancels_waits_for_no_file_to_be_read(
    world: World, left: Callable[..., Any], read: Callable[..., Any]
) -> None:
    """ST37: whatever a large file is read for, no block is read after the cancellation; the next run does it."""
    async with RawServer() as server:
        rows = offer(world, server, {"a": _MANY})
        async with session_files(world, server, *rows) as files:
            await left(world, server, files)
            disk = _HeldDisk()
            task = asyncio.create_task(read(world, files, disk))
            while not disk.began.is_set():
                await asyncio.sleep(0)
            task.cancel()
            for _ in range(50):
                await asyncio.sleep(0)
            waits_for_the_read = not task.done()
            disk.go_on.set()
            with suppress(asyncio.CancelledError):
                await task
            report = await download(world, files, remember=True)

    assert waits_for_the_read
    assert task.cancelled()
    assert disk.blocks == 1
    assert report.failures == ()
    assert requested(server, "a").count(None) == 1
    assert bodies_at_home(world) == {"files/a.bin": _MANY}
