"""Rows CC01 to CC03, CC06, CC07, CC11, CC13 to CC18, CC26 to CC28: cancellation and neighbours inside one process."""

from __future__ import annotations

import asyncio
import gzip
import io
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from cancel_everywhere import HOW, How, cancel_at_every_await
from directory_bench import all_workers_work
from disks import FaultyDisk
from filesets import content
from internals import rig
from matrix import World, row
from scripted import RawServer, Reply, Seen, reply
from session_files import Hours, download, ranged, remote, session_files

from arena_async import Downloader, Event, Mirror, Progress, Report, Retrying
from arena_async.errors import ListingError, NotFoundError, TransferError
from arena_async.options import KIB, Clock, TransferOptions
from arena_async.protocol.files import OpenedFile, RemoteFile
from arena_async.transfer.filesystem import FileSystem

BODY = content(300_000)


@row("CC01", protection="a cancelled file is put down, and not left where it is", seconds=60)
@pytest.mark.parametrize("how", HOW)
async def test_a_download_cancelled_at_any_await_leaves_a_whole_file_or_a_resumable_part(
    world: World, how: How
) -> None:
    """CC01: every await of one file whose body is cut once; a rerun brings what is missing."""
    hours = Hours()
    options = TransferOptions(workers=1, chunk_size=64 * KIB)
    rows = [remote(f"f{at}", size=len(BODY)) for at in range(400)]
    for listed in rows:
        world.allow(f"files/{listed.stem}.bin", BODY)
    async with RawServer() as server, session_files(world, server, *rows) as files:
        server.on("GET", "/f*", lambda seen: ranged(BODY, cut=None if seen.header("Range") else 200_000)(seen))
        mirror = Mirror(
            world.root, options=options, clock=Clock(monotonic=hours.clock, sleep=hours.sleep, random=lambda: 0.5)
        )
        rig(mirror, record_every=64 * KIB)

        def start(at: int) -> Any:
            files.rows = [rows[at]]
            return mirror.sync(files)

        cancelled, last = 0, 0
        async with mirror:
            async for stopped in cancel_at_every_await(start, how=how, maximum=390, everywhere=True, every=2):
                assert stopped.cancelled or stopped.result.failures == ()
                assert not [name for name in open_files() if name.endswith(".part")]
                cancelled, last = cancelled + stopped.cancelled, stopped.at
            world.allow("files/worker0.bin", b"x")
            await all_workers_work(mirror, 1)
        assert not [name for name in open_files() if name.endswith(".part")]
        files.rows = rows[1 : last + 1]
        report = await download(world, files, remember=True)
    assert cancelled > 15
    assert report.failures == ()
    assert all((world.root / f"files/f{at}.bin").read_bytes() == BODY for at in range(1, last + 1))


def open_files() -> list[str]:
    """Name what this process has open; nothing where the system does not tell."""
    directory = Path("/proc/self/fd")
    return [str(entry.readlink()) for entry in directory.iterdir() if entry.is_symlink()] if directory.is_dir() else []


@row("CC02", protection="a cancellation waits for the thread that is writing")
@pytest.mark.parametrize("how", HOW)
async def test_a_cancelled_file_is_closed_only_when_its_write_has_ended(world: World, how: How) -> None:
    """CC02: the task that was cancelled in the middle of a write is not done before that write is."""
    world.keeps_partials = True
    disk = FaultyDisk()
    writing, go_on = threading.Event(), threading.Event()

    def slow(real: Any, file: int, data: Any, offset: int) -> Any:
        writing.set()
        assert go_on.wait(20)
        return real(file, data, offset)

    disk.replace("write", slow, name="*.part")
    async with RawServer() as server, session_files(world, server, remote("a", size=len(BODY))) as files:
        server.on("GET", "/a", ranged(BODY))

        async def job() -> None:
            with anyio.CancelScope() as scope:
                scopes.append(scope)
                await download(world, files, disk=disk)

        scopes: list[anyio.CancelScope] = []
        task = asyncio.create_task(job())
        await asyncio.get_running_loop().run_in_executor(None, writing.wait, 20)
        calls = len(disk.calls)
        (task if how == "native" else scopes[0]).cancel()
        for _ in range(200):
            await asyncio.sleep(0)
        waiting = not task.done()
        closed_before = [call for call in disk.calls[calls:] if call.verb == "close"]
        go_on.set()
        await asyncio.wait([task])
    assert waiting
    assert closed_before == []
    assert not [name for name in open_files() if name.endswith(".part")]


@row("CC03", protection="a commit is not ended by a cancellation")
@pytest.mark.parametrize("verb", ["sync", "rename"])
async def test_a_second_cancellation_does_not_tear_a_commit(world: World, verb: str) -> None:
    """CC03: cancelled between fsync and rename, and again while that is awaited: it is all there, or resumable."""
    final = world.allow("files/a.bin", BODY)
    disk = FaultyDisk()
    reached, go_on = threading.Event(), threading.Event()

    def slow(real: Any, *args: Any) -> Any:
        reached.set()
        assert go_on.wait(20)
        return real(*args)

    disk.replace(verb, slow, name="*.part")
    async with RawServer() as server, session_files(world, server, remote("a", size=len(BODY))) as files:
        server.on("GET", "/a", ranged(BODY))
        task = asyncio.create_task(download(world, files, disk=disk, remember=True))
        await asyncio.get_running_loop().run_in_executor(None, reached.wait, 20)
        task.cancel()
        for _ in range(50):
            await asyncio.sleep(0)
        task.cancel()
        for _ in range(50):
            await asyncio.sleep(0)
        still_there = not task.done()
        go_on.set()
        await asyncio.wait([task])
        assert task.cancelled()
        requested = len(server.requests)
        report = await download(world, files, remember=True)
        assert len(server.requests) == requested, "the verified file was fetched again"
    assert still_there
    assert report.failures == ()
    assert final.read_bytes() == BODY


@row("CC06", protection="the failure of a file is its own")
async def test_one_that_fails_for_good_leaves_ninety_nine(world: World) -> None:
    """CC06: 99 results and one typed failure, in the order of the listing."""
    rows = [remote(f"f{number:02}", size=1000) for number in range(100)]
    async with RawServer() as server, session_files(world, server, *rows) as files:
        server.on("GET", "/f*", reply(body=content(1000)))
        server.on("GET", "/f37", reply(404))
        report = await download(world, files, workers=8)
        assert len(server.requests) == 101 - 1 + len(server.lines("GET /f37*")) - 1
    assert [outcome.file.stem for outcome in report.outcomes] == [listed.stem for listed in rows]
    assert [outcome.file.stem for outcome in report.failures] == ["f37"]
    assert sum(outcome.error is None for outcome in report.outcomes) == 99


@row("CC07", protection="fail-fast stops at the first failure")
async def test_fail_fast_stops_the_rest_and_keeps_what_can_be_resumed(world: World) -> None:
    """CC07: the one that is under way stays resumable, the others are not begun."""
    world.keeps_partials = True
    rows = [remote(name, size=len(BODY)) for name in ("slow", "bad", *(f"later{n}" for n in range(200)))]
    started = asyncio.Event()
    async with RawServer() as server, session_files(world, server, *rows, signed=False) as files:
        server.on("GET", "/later*", reply(body=BODY, before=asyncio.Event()))
        server.on("GET", "/slow", ranged(BODY, cut=200_000, stall=True))
        server.on("GET", "/bad", reply(404, before=started))
        options = TransferOptions(workers=2, chunk_size=64 * KIB)

        def see(event: Event) -> None:
            world.observe(event)
            if isinstance(event, Progress) and event.file.stem == "slow":
                started.set()

        async with Downloader(world.root, options=options, observer=see) as downloads:
            rig(downloads, record_every=64 * KIB)
            report = await downloads.run(files, fail_fast=True)
        world.saw(report)
        assert len(server.lines("GET /later*")) <= 2
        server.on("GET", "/slow", ranged(BODY))
        files.rows = files.rows[:1]
        again = await download(world, files)
        assert server.requests[-1].header("Range") is not None
    assert [type(outcome.error) for outcome in report.failures] == [NotFoundError]
    assert report.not_started >= 200
    assert again.failures == ()


@row("CC11", protection="an observer cannot harm a transfer")
@pytest.mark.parametrize("kind", ["raises", "blocks", "waits"])
async def test_an_observer_that_misbehaves_harms_nothing(world: World, kind: str) -> None:
    """CC11: one that raises, one that blocks for long, and one that is a coroutine function."""
    rows = [remote(f"f{number}", size=1000) for number in range(8)]
    asleep = threading.Event()
    seen: list[Event] = []
    held: list[Event] = []

    def raises(event: Event) -> None:
        seen.append(event)
        raise ValueError("the observer's own fault")

    def blocks(event: Event) -> None:
        seen.append(event)
        if threading.current_thread() is threading.main_thread():
            held.append(event)
        asleep.wait(0.3)

    async def waits(event: Event) -> None:
        await asyncio.sleep(0)
        seen.append(event)

    observer: Any = {"raises": raises, "blocks": blocks, "waits": waits}[kind]
    async with RawServer() as server, session_files(world, server, *rows) as files:
        server.on("GET", "/f*", reply(body=content(1000)))
        async with Downloader(world.root, observer=observer) as downloads:
            async with downloads.stream(files) as outcomes:
                found = [outcome async for outcome in outcomes]
            asleep.set()
    assert [outcome.error for outcome in found] == [None] * 8
    assert seen
    # One call may hold the loop before it is known to.
    assert len(held) <= 1


@row("CC13", protection="jobs are pulled as there is room")
async def test_a_listing_of_a_hundred_thousand_is_pulled_lazily(world: World) -> None:
    """CC13: after 300 outcomes, no more than a bounded number was listed, and never more than 8 bodies were open."""
    async with RawServer() as server, session_files(world, server) as files:
        server.on("GET", "/*", reply(body=content(500)))
        listed = 0

        async def rows() -> AsyncIterator[RemoteFile]:
            nonlocal listed
            for number in range(100_000):
                listed += 1
                yield files.entry(remote(f"f{number}", size=500))

        class Endless(type(files)):  # type: ignore[misc]
            """The same files, without end."""

            def __aiter__(self) -> AsyncIterator[RemoteFile]:
                return rows()

        endless = Endless(files.session, [], signature=world.secrets["sig"])
        options = TransferOptions(workers=8)
        async with Downloader(world.root, options=options) as downloads, downloads.stream(endless) as outcomes:
            for _ in range(300):
                world.saw(await anext(outcomes))
        assert server.max_open <= 8
        # Beyond the credits of the planner there may be as many files whose outcome is held back.
        assert len(server.requests) <= 300 + 8 + 64 + 8 + 64
    assert listed <= 300 + 2 * 400 + 8 + 64 + 64


@row("CC14", protection="each run keeps a permit within reach", seconds=10)
async def test_a_host_that_stalls_leaves_the_others_their_share(world: World) -> None:
    """CC14: all bodies of one host stall; the 30 files of the other, listed late, come home meanwhile."""
    world.keeps_partials = True
    stalling = [remote(f"s{number}", size=len(BODY)) for number in range(30)]
    healthy = [remote(f"h{number}", size=1000) for number in range(30)]
    async with (
        RawServer() as one,
        RawServer() as other,
        session_files(world, one, *stalling) as slow_files,
        session_files(world, other, *healthy) as good_files,
    ):
        one.on("GET", "/s*", reply(body=BODY, cut=1000, stall=True))
        listed_late, max_open = asyncio.Event(), set()

        def answer(_: Seen) -> Reply:
            max_open.add(one.max_open)
            return reply(body=content(1000))

        other.on("GET", "/h*", answer)

        class Late(type(good_files)):  # type: ignore[misc]
            """The same files, listed when it is time."""

            async def __aiter__(self) -> AsyncIterator[RemoteFile]:
                await listed_late.wait()
                for listed in good_files.rows:
                    yield good_files.entry(listed)

        late = Late(good_files.session, healthy, signature=world.secrets["sig"])
        async with Downloader(world.root, options=TransferOptions(workers=4)) as downloads:
            fine = asyncio.create_task(downloads.run(late))
            await asyncio.sleep(0)
            stuck = asyncio.create_task(downloads.run(slow_files))
            try:
                await one.arrived(3)
                for _ in range(500):
                    await asyncio.sleep(0)
                listed_late.set()
                report = await fine
                assert not stuck.done()
            finally:
                fine.cancel()
                stuck.cancel()
                await asyncio.wait([fine, stuck])
    # As long as the other set goes on: what it leaves behind is for all.
    assert max_open == {3}
    assert report.failures == ()
    assert len(report.outcomes) == 30


@row("CC15", protection="content is verified on a thread")
async def test_the_loop_stays_free_while_much_is_hashed_and_inflated(world: World) -> None:
    """CC15: 300 MB inflated and hashed out of 3 MB; the invariants watch the loop, and the disk who comes to it."""
    writers: set[int] = set()

    class Noting(FileSystem):
        """Notes the threads that write; each piece is looked at where it is written, in the same call."""

        def write(self, file: int, data: memoryview | bytes, offset: int) -> int:
            writers.add(threading.get_ident())
            return super().write(file, data, offset)

    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=1, mtime=0) as pour:
        for number in range(300):
            pour.write(bytes(2**20) + content(8_000, str(number)))
    body = packed.getvalue()
    world.allow("files/a.csv.gz", body)
    async with RawServer() as server, session_files(world, server, remote("a", extension=".csv.gz")) as files:
        server.on("GET", "/a", ranged(body))
        report = await download(world, files, disk=Noting(), chunk_size=4 * 1024 * KIB)
    assert [outcome.verified_by for outcome in report.outcomes] == ["crc"]
    assert writers
    assert threading.get_ident() not in writers


@row("CC16", protection="a wait between two tries can be cancelled")
async def test_a_wait_of_a_minute_is_cancelled_at_once(world: World) -> None:
    """CC16: the service asks for 60 seconds; who cancels meanwhile does not wait for them."""
    waiting = asyncio.Event()
    async with RawServer() as server, session_files(world, server, remote("a", size=len(BODY))) as files:
        server.on("GET", "/a", reply(503, headers={"Retry-After": "60"}))

        def see(event: Event) -> None:
            if isinstance(event, Retrying):
                waiting.set()

        async with Downloader(world.root, observer=see) as downloads:
            task = asyncio.create_task(downloads.run(files))
            await waiting.wait()
            began = time.monotonic()
            task.cancel()
            await asyncio.wait([task])
            took = time.monotonic() - began
    assert task.cancelled()
    assert took < 20


@row("CC17", protection="a permit comes back whatever happens", seconds=20)
async def test_an_exception_in_a_worker_gives_its_slot_back(world: World) -> None:
    """CC17: five files die of something nobody foresaw, on the only slot; the sixth comes home."""
    rows = [remote(f"f{number}", size=1000) for number in range(6)]
    async with RawServer() as server, session_files(world, server, *rows) as files:
        server.on("GET", "/f*", reply(body=content(1000)))
        opening = files.open

        async def unforeseen(file: RemoteFile, **how: Any) -> Any:
            if file.stem != "f5":
                raise ZeroDivisionError("nobody foresaw this")
            return await opening(file, **how)

        files.open = unforeseen  # type: ignore[method-assign]
        report: Report = await download(world, files, workers=1)
    assert [outcome.error is None for outcome in report.outcomes] == [False] * 5 + [True]


@row("CC18", protection="outcomes that are not taken hold the workers back")
async def test_a_consumer_that_stops_taking_stops_the_pool(world: World) -> None:
    """CC18: one outcome is taken and then none; the number of requests comes to rest far below the number of files."""
    rows = [remote(f"f{number}", size=100) for number in range(3000)]
    async with RawServer() as server, session_files(world, server, *rows) as files:
        server.on("GET", "/f*", reply(body=content(100)))
        options = TransferOptions(workers=4)
        async with Downloader(world.root, options=options) as downloads, downloads.stream(files) as outcomes:
            world.saw(await anext(outcomes))
            before = -1
            while before != len(server.requests):  # It has come to rest when nothing came for a while.
                before = len(server.requests)
                await asyncio.sleep(0.3)
        assert len(server.requests) <= 4 + 64 + 4 + 4
    assert server.connections <= 8


class _Cancelling:
    """A file set that raises a cancellation of its own, where it is told to."""

    def __init__(self, files: Any, where: str) -> None:
        self._files, self._where = files, where

    def __getattr__(self, name: str) -> Any:
        return getattr(self._files, name)

    async def __aiter__(self) -> AsyncIterator[RemoteFile]:
        count = 0
        async for file in self._files:
            yield file
            count += 1
            if self._where == "listing" and count == 3:
                raise asyncio.CancelledError

    async def open(self, file: RemoteFile, **how: Any) -> OpenedFile:
        if self._where == "open" and file.key == "test/f1":
            raise asyncio.CancelledError
        opened: OpenedFile = await self._files.open(file, **how)
        return opened


@row("CC26", protection="a cancellation that nobody asked for is a failure", seconds=10)
async def test_a_file_set_that_cancels_a_request_fails_that_file(world: World) -> None:
    """CC26: the others come home, and nothing waits for ever."""
    rows = [remote(f"f{number}", size=1000) for number in range(6)]
    async with RawServer() as server, session_files(world, server, *rows) as files:
        server.on("GET", "/f*", reply(body=content(1000)))
        async with Downloader(world.root) as downloads:
            report = await downloads.run(_Cancelling(files, "open"))  # type: ignore[arg-type]

    assert [(one.file.key, type(one.error)) for one in report.failures] == [("test/f1", TransferError)]
    assert len(report.outcomes) == 6


@row("CC27", protection="a cancellation that nobody asked for is a failure", seconds=10)
async def test_a_file_set_that_cancels_its_listing_is_a_listing_that_failed(world: World) -> None:
    """CC27: what was listed before comes home, and the listing is not called whole."""
    rows = [remote(f"f{number}", size=1000) for number in range(6)]
    async with RawServer() as server, session_files(world, server, *rows) as files:
        server.on("GET", "/f*", reply(body=content(1000)))
        async with Downloader(world.root) as downloads:
            with pytest.raises(ListingError, match="cancelled by its own file set"):
                await downloads.run(_Cancelling(files, "listing"))  # type: ignore[arg-type]

    assert len([path for path in world.root.rglob("*.bin") if path.is_file()]) == 3


@row("CC28", protection="an observer cannot harm a transfer", seconds=20)
async def test_an_observer_that_raises_a_cancellation_harms_nothing(world: World) -> None:
    """CC28: it is an error of the observer as any other."""
    rows = [remote(f"f{number}", size=1000) for number in range(6)]

    def cancels(event: Event) -> None:
        raise asyncio.CancelledError

    async with RawServer() as server, session_files(world, server, *rows) as files:
        server.on("GET", "/f*", reply(body=content(1000)))
        async with Downloader(world.root, observer=cancels) as downloads:
            report = await downloads.run(files)

    assert (len(report.outcomes), report.failures) == (6, ())
