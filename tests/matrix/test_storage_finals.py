"""Rows ST08, ST10, ST13 and ST14: what lies under a final name already, who may read it, and times that cannot be."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import time
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import formatdate
from pathlib import Path

import attrs
import pytest
from disks import FaultyDisk
from filesets import content, remote
from matrix import World, row
from offered_files import bodies_at_home, finish, offer, partials, requested, start
from scripted import RawServer, reply
from session_files import ETAG, SessionFiles, download, ranged, session_files

from arena_async.errors import DestinationBusyError
from arena_async.protocol.decoding import read_datetime
from arena_async.protocol.files import Cost, OpenedFile, RemoteFile
from arena_async.transfer.models import Action

BODY = content(200_000, "a")


def _occupy(path: Path, kind: str) -> FaultyDisk:
    """Put something that is no file under a final name, and give a disk that shows it."""
    disk = FaultyDisk()
    path.parent.mkdir(parents=True)
    if kind == "folder":
        path.mkdir()
    elif kind == "FIFO":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as listener:
            here = Path.cwd()
            os.chdir(path.parent)  # The path of a socket may have 100 bytes only.
            try:
                listener.bind(path.name)
            finally:
                os.chdir(here)
    else:
        with suppress(PermissionError):
            os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))
        if not path.exists():  # Only root may make one; then the disk says that the name is taken by one.
            disk.replace("look", lambda real, directory, name: os.stat("/dev/null"), name=path.name)  # noqa: PTH116
    return disk


@row("ST08", protection="only a file is ever replaced by a file")
@pytest.mark.parametrize("kind", ["folder", "FIFO", "socket", "device"])
async def test_what_is_no_file_is_never_opened_or_replaced(world: World, kind: str) -> None:
    """ST08: a typed error before any request, and what is there stays what it is."""
    path = world.root / "files" / "a.bin"
    disk = _occupy(path, kind)
    before = path.lstat() if path.exists() else None
    async with RawServer() as server:
        server.on("GET", "/a", ranged(BODY))
        async with session_files(world, server, remote("a", size=len(BODY))) as files:
            report = await download(world, files, disk=disk)

    error = report.failures[0].error
    assert isinstance(error, DestinationBusyError)
    assert f"taken by a {kind}" in str(error)
    assert server.requests == []
    assert [line for line in disk.lines("create", "open_file") if line.endswith((".bin", ".part"))] == []
    if before is not None:
        after = path.lstat()
        assert (after.st_mode, after.st_ino) == (before.st_mode, before.st_ino)


@row("ST10", protection="that something lies there proves nothing")
@pytest.mark.parametrize(
    "there",
    [
        pytest.param(BODY, id="the same"),
        pytest.param(BODY + b"more", id="longer"),
        pytest.param(content(len(BODY), "other"), id="same size, other bytes"),
        pytest.param(BODY[:1000], id="left by a killed run"),
    ],
)
async def test_only_what_the_ledger_can_prove_is_kept(world: World, there: bytes) -> None:
    """ST10: a file nobody wrote down is fetched over; one that was is kept; one that was touched since is fetched."""
    final = world.allow("files/a.bin", there)
    final.parent.mkdir(parents=True)
    final.write_bytes(there)
    async with RawServer() as server:
        rows = offer(world, server, {"a": BODY})
        async with session_files(world, server, *rows) as files:
            first = await download(world, files, remember=True)
            downloaded = final.read_bytes()
            second = await download(world, files, remember=True)
            touched = world.allow("files/a.bin", content(len(BODY), "touched"))
            touched.write_bytes(content(len(BODY), "touched"))
            third = await download(world, files, remember=True)

    assert (first.counts[Action.FETCH], second.counts[Action.KEEP], third.counts[Action.REFRESH]) == (1, 1, 1)
    assert requested(server, "a") == [None, None]
    assert downloaded == BODY
    assert final.read_bytes() == BODY


MODES = [
    pytest.param(0o000, None, 0o664, id="umask 000"),
    pytest.param(0o077, None, 0o600, id="umask 077"),
    pytest.param(0o000, 0o640, 0o640, id="replaces 0640"),
    pytest.param(0o022, 0o666, 0o664, id="replaces 0666"),
]


@pytest.mark.process
@row("ST13", protection="permissions follow the umask or the file before, and partial files are private")
@pytest.mark.parametrize(("umask", "before", "after"), MODES)
async def test_permissions_follow_the_umask_or_the_file_before(
    world: World, umask: int, before: int | None, after: int
) -> None:
    """ST13: private while it comes; then as the umask or the replaced file says, and never open for all to write."""
    final = world.root / "files" / "a.bin"
    if before is not None:
        world.allow("files/a.bin", b"before")
        final.parent.mkdir(parents=True)
        final.write_bytes(b"before")
        final.chmod(before)
    gate = asyncio.Event()
    async with RawServer() as server:
        offer(world, server, {"a": BODY})
        server.on("GET", "/a", reply(body=BODY, headers=ETAG, piece=100_000, between=gate.wait))
        process = await start(world, base_url=server.base_url, files={"a": len(BODY)}, umask=umask)
        async with asyncio.timeout(20):
            while (await process.stdout.readline()).split(b" ")[0] != b"advanced":
                pass
        on_the_way = [stat.S_IMODE(path.stat().st_mode) for path in partials(world, "*.part")]
        gate.set()
        ended = await finish(world, process)

    assert (ended.code, ended.complaints) == (0, "")
    assert on_the_way == [0o600]
    assert stat.S_IMODE(final.stat().st_mode) == after
    assert final.read_bytes() == BODY
    assert [oct(mode) for mode in _modes(world) if mode & 0o002] == []


def _modes(world: World) -> list[int]:
    return [stat.S_IMODE(path.stat().st_mode) for path in world.root.rglob("*")]


class _Filtering:
    """A set that a service can filter by the time of change."""

    def __init__(self, files: SessionFiles, since: Mapping[str, datetime] | None = None) -> None:
        self.files = files
        self.start = since["all"] if since else None
        self.scope = files.scope
        self.narrowed = bool(since)

    @property
    def requests_sent(self) -> int:
        return self.files.requests_sent

    async def __aiter__(self) -> AsyncIterator[RemoteFile]:
        async for entry in self.files:
            if self.start is None or entry.changed_at is None or entry.changed_at >= self.start:
                yield entry

    async def open(self, file: RemoteFile, *, offset: int = 0, validator: str | None = None) -> OpenedFile:
        return await self.files.open(file, offset=offset, validator=validator)

    async def find(self, keys: Collection[str]) -> list[RemoteFile]:
        return await self.files.find(keys)

    def since(self, watermarks: Mapping[str, datetime]) -> _Filtering:
        return _Filtering(self.files, watermarks)

    def cost(self) -> Cost:
        return self.files.cost()


#: What a listing says about the time of a change, and what the header of the content says.
TIMES = {
    "absent": ("", None),
    "early": ("1600-01-01T00:00:00Z", "Sat, 01 Jan 1600 00:00:00 GMT"),
    "unset": ("0001-01-01T00:00:00", "Mon, 01 Jan 0001 00:00:00 GMT"),
    "late": ("2998-12-31T23:59:59.9999999Z", "Fri, 31 Dec 9999 23:59:59 GMT"),
    "garbage": ("the day before yesterday", "\xff\xfe soon"),
}


@row("ST14", protection="a time in the future moves no watermark")
async def test_times_that_cannot_be_are_tolerated(world: World) -> None:
    """ST14: whatever listing and header say, the file comes, its time is ours, and later changes are not missed."""
    began = time.time()
    bodies = {name: content(1_000, name) for name in (*TIMES, "new")}
    async with RawServer() as server:
        rows = [
            attrs.evolve(row, changed_at=read_datetime(TIMES[row.stem][0]), listed_in="all")
            for row in offer(world, server, bodies)
            if row.stem in TIMES
        ]
        for name, (_, header) in TIMES.items():
            headers = ETAG | ({"Last-Modified": header} if header else {})
            server.on("GET", f"/{name}", reply(body=bodies[name], headers=headers))
        async with session_files(world, server, *rows) as files:
            first = await download(world, _Filtering(files), remember=True)
            files.rows.append(remote("new", size=1_000, changed_at=datetime.now(UTC), listed_in="all"))
            server.on("GET", "/new", reply(body=bodies["new"], headers={"Last-Modified": formatdate(usegmt=True)}))
            second = await download(world, _Filtering(files), remember=True)

    assert (first.failures, first.counts[Action.FETCH]) == ((), 5)
    assert (second.failures, second.counts[Action.FETCH]) == ((), 1)
    assert len(server.requests) == 6
    assert bodies_at_home(world) == {f"files/{name}.bin": body for name, body in bodies.items()}
    times = [path.stat().st_mtime for path in (world.root / "files").iterdir()]
    assert all(began - 5 <= when <= time.time() + 5 for when in times)
