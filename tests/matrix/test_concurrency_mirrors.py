"""Rows CC20 and CC21: two mirrors of one folder at the same time."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing

from disks import Call, RateLimiter, RecordingDisk
from internals import rig
from matrix import World, row
from offered_files import offer
from scripted import RawServer
from session_files import SessionFiles, session_files

from arena_async import Action, Mirror
from arena_async.options import TransferOptions
from arena_async.protocol.files import RemoteFile

OPTIONS = TransferOptions(durability="off")
COUNT = 60


class Paused(SessionFiles):
    """The same files, listed with a pause before the row of a number, or at the end."""

    def __init__(self, files: SessionFiles, at: int, pause: Callable[[], Awaitable[object]]) -> None:
        self.__dict__.update(files.__dict__)
        self._at, self._pause = at, pause

    async def __aiter__(self) -> AsyncIterator[RemoteFile]:
        for file in self.rows[: self._at]:
            yield self.entry(file)
        await self._pause()
        for file in self.rows[self._at :]:
            yield self.entry(file)


@row("CC20", protection="a listing lowers no number that a newer one wrote")
async def test_two_that_prune_at_once_remove_nothing_that_is_listed(world: World) -> None:
    """CC20: the second listing overtakes one that counts as ended, and goes on; both prune."""
    half, noted, pruned = asyncio.Event(), asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def look(call: Call) -> None:
        if (call.verb, call.name) == ("look", f"f{COUNT - 1}.bin"):
            loop.call_soon_threadsafe(noted.set)

    async def overtaken() -> None:
        half.set()
        await noted.wait()

    async with RawServer() as server:
        rows = offer(world, server, {f"f{number}": b"%d" % number for number in range(COUNT)})
        async with (
            session_files(world, server, *rows) as files,
            Mirror(world.root, options=OPTIONS) as first,
            rig(Mirror(world.root, options=OPTIONS), disk=RecordingDisk(look)) as second,
        ):
            await first.sync(files)
            slow = asyncio.create_task(first.sync(Paused(files, COUNT // 2, overtaken), prune="force"), name="slow")
            await half.wait()
            with closing(sqlite3.connect(world.root / ".arena-async" / "ledger.sqlite")) as ledger:
                ledger.execute("DELETE FROM leases")
                ledger.commit()
            fast = asyncio.create_task(second.sync(Paused(files, COUNT, pruned.wait), prune="force"), name="fast")
            slow_report = await slow
            pruned.set()
            fast_report = await fast

    assert [report.counts[Action.KEEP] for report in (slow_report, fast_report)] == [COUNT, COUNT]
    assert [report.counts[Action.PRUNE] for report in (slow_report, fast_report)] == [0, 0]
    assert len(list((world.root / "files").iterdir())) == COUNT
    assert len(server.requests) == COUNT


@row("CC21", protection="what verify found is written about the row that it read")
async def test_verify_beside_a_sync_costs_no_request(world: World) -> None:
    """CC21: another process fetches a damaged file again while verify reads on; that is enough."""
    async with RawServer() as server:
        rows = offer(world, server, {"a": b"first", "b": b"second"})
        async with session_files(world, server, *rows) as files:
            async with Mirror(world.root, options=OPTIONS) as mirror:
                await mirror.sync(files)
            damaged = world.allow("files/a.bin", b"xxxxx")
            damaged.write_bytes(b"xxxxx")
            os.utime(damaged, ns=(1, 1))
            pause = RateLimiter("open_file", "b.bin")
            async with rig(Mirror(world.root, options=OPTIONS), disk=RecordingDisk(pause)) as reading:
                verification = asyncio.create_task(reading.verify(), name="verify")
                await pause.reached()
                async with Mirror(world.root, options=OPTIONS) as other:
                    await other.sync(files)
                pause.open()
                found = await verification
            async with Mirror(world.root, options=OPTIONS) as mirror:
                last = await mirror.sync(files)

    assert [bad.key for bad in found.changed] == ["test/a"]
    assert last.counts[Action.KEEP] == 2
    assert [seen.path for seen in server.requests if seen.path == "/a"] == ["/a", "/a"]
