"""Many files through bounded slots: order, failures, back-pressure, leaving early, and twins."""

from __future__ import annotations

import asyncio
import errno
import gc
import threading
import tracemalloc
import weakref
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import attrs
import pytest
from cancel_everywhere import HOW, How, cancel_at_every_await
from disks import FaultyDisk, RateLimiter, RecordingDisk
from filesets import Asked, MemoryFiles, Source, content, remote
from internals import rig
from rounds import in_rounds, settled

from arena_async import Action, Downloader, Event, Finished, Mirror, Report
from arena_async.errors import (
    ApiError,
    ClosedError,
    ConfigurationError,
    DestinationBusyError,
    DiskFullError,
    ListingError,
    NotFoundError,
    QuotaExhaustedError,
    ServerError,
    StorageError,
    ThrottledError,
)
from arena_async.options import KIB, Clock, TransferOptions
from arena_async.protocol.files import RemoteFile

BODY = content(20_000)


def downloader(to: Path, **options: Any) -> Downloader:
    """Make one that does not wait and does not sync."""

    async def no_wait(_: float) -> None:
        await asyncio.sleep(0)

    given = {"workers": 4, "chunk_size": 64 * KIB, "durability": "off", **options}
    return Downloader(to, options=TransferOptions(**given), clock=Clock(sleep=no_wait, random=lambda: 0.5))


def many(count: int) -> MemoryFiles:
    """Make a set of files."""
    rows = [remote(f"f{number:05}") for number in range(count)]
    return MemoryFiles(rows, {row.key: Source(body=BODY) for row in rows})


def busy() -> set[str]:
    """Name the tasks that are at work beside the test."""
    return {task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task()}


async def test_all_files_come_home_in_one_request_each(tmp_path: Path) -> None:
    """Never more open bodies than workers."""
    files = many(50)

    async with downloader(tmp_path) as downloads:
        report = await downloads.run(files)

    assert report.counts[Action.FETCH] == 50
    assert (report.failures, report.not_started, report.error) == ((), 0, None)
    assert report.requests == 51
    assert report.bytes_written == 50 * len(BODY)
    assert files.max_open <= 4
    assert all((tmp_path / "files" / f"f{number:05}.bin").read_bytes() == BODY for number in range(50))
    assert busy() == set()


async def test_one_that_fails_leaves_the_others_alone_and_the_order_as_listed(tmp_path: Path) -> None:
    """CC06: 99 results and one typed failure, in input order."""
    files = many(100)
    files.sources["test/f00007"].faults = [NotFoundError("gone", status=404)]

    async with downloader(tmp_path) as downloads:
        report = await downloads.run(files)

    assert [outcome.file.key for outcome in report.outcomes] == [f"test/f{number:05}" for number in range(100)]
    assert [outcome.file.key for outcome in report.failures] == ["test/f00007"]
    assert isinstance(report.failures[0].error, NotFoundError)


async def test_fail_fast_stops_at_the_first_failure(tmp_path: Path) -> None:
    """CC07: the rest is cancelled, and what is left is counted."""
    files = many(1000)
    files.sources["test/f00007"].faults = [NotFoundError("gone", status=404)]

    async with downloader(tmp_path) as downloads:
        report = await downloads.run(files, fail_fast=True)

    assert len(report.failures) == 1
    assert len(files.requested) < 200
    assert report.not_started > 0
    assert busy() == set()


async def test_a_stream_gives_outcomes_as_they_finish(tmp_path: Path) -> None:
    """A slow first file does not keep the second one back."""
    files = many(3)
    gate = asyncio.Event()

    async def hold(requested: Asked) -> None:
        if requested.key == "test/f00000":
            await gate.wait()

    files.before_open = hold
    keys = []
    async with downloader(tmp_path) as downloads, downloads.stream(files) as outcomes:
        async for outcome in outcomes:
            keys.append(outcome.file.key)
            if len(keys) == 2:
                gate.set()

    assert keys[-1] == "test/f00000"
    assert len(keys) == 3


async def test_a_stream_that_ended_stays_ended(tmp_path: Path) -> None:
    """Asking once more gives the end again, and does not wait."""
    async with downloader(tmp_path) as downloads:
        outcomes = downloads.stream(many(2))
        assert len([outcome async for outcome in outcomes]) == 2
        async with asyncio.timeout(5):
            assert [outcome async for outcome in outcomes] == []


async def test_leaving_a_stream_early_leaves_nothing_running(tmp_path: Path) -> None:
    """By break, inside its own block."""
    files = many(10_000)

    async with downloader(tmp_path) as downloads:
        async with downloads.stream(files) as outcomes:
            async for _ in outcomes:
                break
        assert busy() == set()
        assert files.listings_closed == 1
        assert files.open_bodies == 0
        with pytest.raises(StopAsyncIteration):
            await anext(outcomes)


async def test_leaving_the_downloader_ends_its_streams(tmp_path: Path) -> None:
    """By break, without a block of the stream's own: back-pressure holds it until then."""
    files = many(10_000)

    async with downloader(tmp_path) as downloads:
        async for _ in downloads.stream(files):
            break
        await settled(files)
        assert len(files.requested) <= 4 + 64 + 4 + 1
    assert busy() == set()
    assert files.listings_closed == 1


async def test_an_exception_of_the_caller_leaves_unchanged(tmp_path: Path) -> None:
    """No group wraps it."""

    async def consume() -> None:
        async with downloader(tmp_path) as downloads:
            async for _ in downloads.stream(many(100)):
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await consume()
    assert busy() == set()


@pytest.mark.parametrize("how", ["native", "timeout", "anyio"])
async def test_a_cancelled_caller_leaves_nothing_running(how: str, tmp_path: Path) -> None:
    """However it is cancelled."""
    files = many(1000)
    began = asyncio.Event()

    async def consume() -> None:
        async with downloader(tmp_path) as downloads:
            async for _ in downloads.stream(files):
                began.set()
                await asyncio.get_running_loop().create_future()

    if how == "native":
        task = asyncio.create_task(consume())
        await began.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    elif how == "timeout":
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await consume()
    else:
        with anyio.move_on_after(0.3) as scope:
            await consume()
        assert scope.cancelled_caught
    assert busy() == set()
    assert files.open_bodies == 0


async def test_a_downloader_may_be_entered_and_left_in_different_tasks(tmp_path: Path) -> None:
    """No task group is held open."""
    downloads = downloader(tmp_path)
    await asyncio.create_task(downloads.__aenter__())
    outcomes = downloads.stream(many(100))

    await asyncio.create_task(outcomes.__anext__())
    await asyncio.create_task(downloads.aclose())

    assert busy() == set()


@pytest.mark.parametrize("how", HOW)
async def test_a_run_cancelled_at_any_await_leaves_nothing_running(how: How, tmp_path: Path) -> None:
    """CC01, for the whole room: opening, listing, fetching, committing and closing."""
    runs: dict[int, MemoryFiles] = {}

    async def whole(at: int) -> int:
        async with downloader(tmp_path / str(at), workers=2) as downloads:
            return len((await downloads.run(runs[at])).outcomes)

    def start(at: int) -> Any:
        runs[at] = many(2)
        return whole(at)

    results = []
    async for stopped in cancel_at_every_await(start, how=how):
        assert busy() == set()
        assert runs[stopped.at].open_bodies == 0
        finals = list((tmp_path / str(stopped.at) / "files").glob("*"))
        assert all(path.read_bytes() == BODY for path in finals)
        assert stopped.cancelled or stopped.result == 2
        results.append(stopped)

    assert len(results) > 5


async def test_a_folder_that_cannot_be_used_leaves_nothing_behind(tmp_path: Path) -> None:
    """No thread, no warning, and the same error again."""
    (tmp_path / "taken").write_bytes(b"")
    downloads = downloader(tmp_path / "taken")

    for _ in range(2):
        with pytest.raises(StorageError):
            await downloads.__aenter__()


async def test_a_cancelled_wait_for_an_outcome_loses_nothing(tmp_path: Path) -> None:
    """A consumer with a time-out gets every file in the end."""
    keys = []
    async with downloader(tmp_path) as downloads:
        outcomes = downloads.stream(many(60))
        while True:
            waiting = asyncio.ensure_future(outcomes.__anext__())
            for _ in range(3):
                await asyncio.sleep(0)
            waiting.cancel()
            try:
                keys.append((await waiting).file.key)
            except asyncio.CancelledError:
                continue
            except StopAsyncIteration:
                break

    assert sorted(keys) == [f"test/f{number:05}" for number in range(60)]


async def test_closing_wakes_a_task_that_waits_for_an_outcome(tmp_path: Path) -> None:
    """It learns that this is not the end of the listing."""
    files = many(3)
    requested, never = asyncio.Event(), asyncio.Event()

    async def hold(_: Asked) -> None:
        requested.set()
        await never.wait()

    files.before_open = hold
    downloads = downloader(tmp_path)
    outcomes = downloads.stream(files)
    waiting = asyncio.create_task(outcomes.__anext__())
    await requested.wait()
    await downloads.aclose()

    with pytest.raises(ClosedError):
        await waiting


async def test_every_set_is_put_down_before_the_directory_closes_however_it_is_cancelled(tmp_path: Path) -> None:
    """No partial file stays open, and none that has no record is left."""
    waiting, never = set[str](), asyncio.Event()

    async def hold(asked: Asked) -> None:
        if asked.offset:
            waiting.add(asked.key)
            await never.wait()

    def broken(key: str) -> MemoryFiles:
        files = MemoryFiles([remote(key, size=1_000_000)], {f"test/{key}": Source(body=content(1_000_000))}, scope=key)
        files.sources[f"test/{key}"].faults.append(600_000)
        files.before_open = hold
        return files

    downloads = downloader(tmp_path)
    runs = [asyncio.create_task(downloads.run(broken(key))) for key in ("a", "b")]
    while len(waiting) < 2:
        await asyncio.sleep(0)
    closing = asyncio.create_task(downloads.aclose())
    for _ in range(2):
        await asyncio.sleep(0)
    closing.cancel()
    async with asyncio.timeout(10):
        ended = await asyncio.gather(closing, *runs, return_exceptions=True)

    assert isinstance(ended[0], asyncio.CancelledError)
    left = [path.name for path in (tmp_path / ".arena-async" / "partial").iterdir()]
    parts = sorted(name for name in left if name.endswith(".part"))
    assert len(parts) == 2
    assert sorted(left) == sorted([*parts, *[name.replace(".part", ".json") for name in parts]])


async def test_a_slow_consumer_holds_the_pool_back(tmp_path: Path) -> None:
    """CC18: outcomes wait in a bounded channel, and so does everything before it."""
    files = many(400)
    seen = 0

    async with downloader(tmp_path) as downloads:
        async for _ in downloads.stream(files):
            seen += 1
            for _ in range(20):
                await asyncio.sleep(0)
            assert len(files.requested) - seen <= 4 + 64 + 4 + 1

    assert seen == 400


async def test_jobs_are_pulled_lazily_from_an_endless_listing(tmp_path: Path) -> None:
    """CC13: the listing is never more than two pages ahead."""

    async def endless() -> AsyncIterator[RemoteFile]:
        number = 0
        while True:
            yield remote(f"f{number}")
            number += 1

    class Any20(dict[str, Source]):
        def __missing__(self, key: str) -> Source:
            return Source(body=b"x")

    files = MemoryFiles(endless, Any20())
    async with downloader(tmp_path) as downloads, downloads.stream(files) as outcomes:
        seen = 0
        async for _ in outcomes:
            seen += 1
            assert files.listed <= seen + 4 + 64 + 4 + 2 * 400 + 2
            if seen == 1000:
                break
    assert busy() == set()
    assert files.listings_closed == 1


async def test_memory_does_not_grow_with_the_listing(tmp_path: Path) -> None:
    """I7: nothing is held for a file that is done."""

    class Any1(dict[str, Source]):
        def __missing__(self, key: str) -> Source:
            return Source(body=b"x")

    async def held(count: int) -> tuple[int, int]:
        """Return the bytes that are held after the last outcome, and the rows that were held at the most."""
        alive = maximum = 0
        rows: deque[weakref.ref[RemoteFile]] = deque()

        def gone(row: weakref.ref[RemoteFile]) -> None:
            nonlocal alive
            alive -= 1
            rows.remove(row)

        async def listing() -> AsyncIterator[RemoteFile]:
            nonlocal alive, maximum
            for number in range(count):
                row = remote(f"f{number}", skip="no content, says the listing")
                rows.append(weakref.ref(row, gone))
                alive += 1
                maximum = max(maximum, alive)
                yield row

        tracemalloc.start()
        try:
            async with downloader(tmp_path) as downloads:
                outcomes = downloads.stream(MemoryFiles(listing, Any1()))
                async for _ in outcomes:
                    pass
                gc.collect()
                # pathlib interns its parts: the interpreter's own table grows when its time has come.
                ours = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(False, "*pathlib*")])
                return sum(trace.size for trace in ours.traces), maximum
        finally:
            tracemalloc.stop()

    await anyio.lowlevel.checkpoint()  # It imports a module when it is first used.
    await held(500)
    (small, _), (large, maximum) = await held(1000), await held(6000)

    # A key alone would be 500,000.
    assert large < small + 300_000
    # The listing may be two pages of 400 ahead; those between it and the outcome are a few more.
    assert maximum < 1_500


async def test_a_listing_that_fails_is_raised_after_what_it_brought(tmp_path: Path) -> None:
    """Never silently short."""

    async def lies() -> AsyncIterator[RemoteFile]:
        for number in range(13):
            yield remote(f"f{number}")
        raise ListingError("the listing shrank")

    sources = {f"test/f{number}": Source(body=BODY) for number in range(13)}
    async with downloader(tmp_path) as downloads:
        with pytest.raises(ListingError, match="shrank") as caught:
            await downloads.run(MemoryFiles(lies, sources))
        outcomes = downloads.stream(MemoryFiles(lies, sources))
        seen = [await anext(outcomes) for _ in range(13)]
        with pytest.raises(ListingError, match="shrank"):
            await anext(outcomes)

    assert caught.value.__notes__ == ["13 of the 13 files listed before that are done; they stay."]
    assert len(list((tmp_path / "files").iterdir())) == 13
    assert len(seen) == 13


async def test_a_used_up_allowance_is_one_error_of_the_report(tmp_path: Path) -> None:
    """QU01: no further file is begun, and how many are left is counted."""
    files = many(500)
    used_up = QuotaExhaustedError("the allowance is used up")

    left = iter(range(10))

    async def spend(_: Asked) -> None:
        if next(left, None) is None:
            raise used_up

    files.before_open = spend
    async with downloader(tmp_path) as downloads:
        report = await downloads.run(files)

    assert report.error is used_up
    assert report.failures == ()
    assert len(report.outcomes) == 10
    assert report.not_started == 490
    assert len(files.requested) <= 10 + 4 + 1


async def test_a_listing_that_runs_out_of_allowance_is_reported_too(tmp_path: Path) -> None:
    """What was listed before is fetched."""

    async def short() -> AsyncIterator[RemoteFile]:
        yield remote("a")
        raise QuotaExhaustedError("used up")

    async with downloader(tmp_path) as downloads:
        report = await downloads.run(MemoryFiles(short, {"test/a": Source(body=BODY)}))
        outcomes = downloads.stream(MemoryFiles(short, {"test/a": Source(body=BODY)}))
        assert (await anext(outcomes)).error is None
        with pytest.raises(QuotaExhaustedError):
            await anext(outcomes)

    assert isinstance(report.error, QuotaExhaustedError)
    assert report.counts[Action.FETCH] == 1


async def test_a_service_that_stopped_does_not_stop_another(tmp_path: Path) -> None:
    """QU01: the other service's files go on."""
    rows = [remote(f"a{number}", service="one") for number in range(200)]
    rows += [remote(f"b{number}", service="two", parts=("other",)) for number in range(20)]
    files = MemoryFiles(rows, {row.key: Source(body=BODY) for row in rows})

    async def refuse(requested: Asked) -> None:
        if requested.key.startswith("test/a"):
            raise QuotaExhaustedError("used up")

    files.before_open = refuse
    async with downloader(tmp_path) as downloads:
        report = await downloads.run(files)

    assert report.counts[Action.FETCH] == 20
    assert report.not_started == 200


async def test_a_full_disk_stops_the_feeding(tmp_path: Path) -> None:
    """ST01: one typed error, and the rest is not started."""
    files = many(500)

    async def fill(_: Asked) -> None:
        while files.listed <= 310:
            await asyncio.sleep(0)
        raise DiskFullError("no room")

    files.before_open = fill
    async with downloader(tmp_path) as downloads:
        report = await downloads.run(files)

    assert isinstance(report.error, DiskFullError)
    assert 1 <= len(report.outcomes) <= 5
    assert report.not_started == files.listed - len(report.outcomes) > 300
    assert len(files.requested) <= 5


async def test_a_full_disk_is_known_before_the_slot_goes_to_the_next_file(tmp_path: Path) -> None:
    """ST01: with one slot, exactly one request is spent on large files, which are written while they come."""
    files, disk = many(50), FaultyDisk()
    for source in files.sources.values():
        source.body = content(256 * KIB + 1)
    disk.fail("write", errno.ENOSPC, name="*.part")
    async with downloader(tmp_path, workers=1) as downloads:
        rig(downloads, disk=disk)
        report = await downloads.run(files)

    assert isinstance(report.error, DiskFullError)
    assert (len(report.outcomes), report.not_started, len(files.requested)) == (1, 49, 1)


async def test_a_full_disk_is_known_before_many_more_small_files_come(tmp_path: Path) -> None:
    """ST01: small files are written with their group, so that only those come in vain that may wait for one."""
    files, disk = many(500), FaultyDisk()
    disk.fail("write", errno.ENOSPC, name="*.part", times=500)
    async with downloader(tmp_path, workers=1) as downloads:
        rig(downloads, disk=disk)
        report = await downloads.run(files)

    assert isinstance(report.error, DiskFullError)
    assert 1 <= len(files.requested) == len(report.outcomes) <= 1 + 64
    assert report.not_started == files.listed - len(report.outcomes) > 300
    assert all(isinstance(outcome.error, DiskFullError) and outcome.attempts == 1 for outcome in report.outcomes)


async def test_a_host_that_wants_a_day_of_rest_leaves_its_files_not_started(tmp_path: Path) -> None:
    """TR72: 429 with a day to wait: one error of the run, and files of other hosts are fetched."""
    files = many(50)
    for number, row in enumerate(list(files.rows)):
        files.rows[number] = attrs.evolve(row, host="other" if number % 2 else "tired")
        if not number % 2:
            files.sources[row.key].faults = [ThrottledError("429", status=429, retry_after=86_400)]

    async with downloader(tmp_path, workers=1) as downloads:
        report = await downloads.run(files)

    assert isinstance(report.error, ThrottledError)
    assert (report.not_started, len(report.outcomes), report.failures) == (25, 25, ())
    assert len(files.requested) == 26


async def test_a_slot_comes_back_whatever_happens(tmp_path: Path) -> None:
    """CC17: a pool of one slot goes on after each kind of failure."""
    files = many(4)
    files.sources["test/f00000"].faults = [KeyError("odd")]
    files.sources["test/f00001"].faults = [ApiError("400", status=400)]

    async with downloader(tmp_path, workers=1) as downloads:
        report = await downloads.run(files)

    assert [outcome.error is None for outcome in report.outcomes] == [False, False, True, True]


async def test_a_waiting_file_leaves_its_slot_to_others(tmp_path: Path) -> None:
    """CC14: a back-off of one file costs the others nothing."""
    files = many(20)
    files.sources["test/f00000"].faults = [ServerError("503", status=503, transient=True)]
    others = asyncio.Event()

    async def wait_for_others(_: float) -> None:
        await others.wait()

    downloads = Downloader(
        tmp_path, options=TransferOptions(workers=1, durability="off"), clock=Clock(sleep=wait_for_others)
    )
    seen = []
    async with downloads:
        async for outcome in downloads.stream(files):
            seen.append(outcome.file.key)
            if len(seen) == 19:
                others.set()

    assert seen[-1] == "test/f00000"


async def test_a_wait_of_a_minute_is_cancelled_at_once(tmp_path: Path) -> None:
    """CC16: leaving does not wait for a back-off."""
    files = many(1)
    files.sources["test/f00000"].faults = [ServerError("503", status=503, transient=True, retry_after=60.0)]

    async with Downloader(tmp_path, options=TransferOptions(workers=1)) as downloads:
        with anyio.move_on_after(0.2) as scope:
            await downloads.run(files)

    assert scope.cancelled_caught
    assert len(files.requested) == 1


# --------------------------------------------------------------------------------------------------------------- twins


def duplicates(order: str, *, between: int = 0) -> MemoryFiles:
    """Make a listing with rows of one key, an old one (o) and a new one (n), in some order, others behind the first."""
    rows = {
        "o": remote("a", name="old.bin", change="2024-01-01|old.bin", size=3),
        "n": remote("a", name="new.bin", change="2024-02-01|new.bin", size=3),
    }
    listed = [rows[order[0]], *(remote(f"f{number}") for number in range(between)), *(rows[key] for key in order[1:])]
    sources = {row.key: Source(body=BODY) for row in listed}
    bodies = {"old.bin": b"OLD", "new.bin": b"NEW"}

    class Duplicates(MemoryFiles):
        async def open(self, file: RemoteFile, *, offset: int = 0, validator: str | None = None) -> Any:
            if file.key == "test/a":
                await asyncio.sleep(0)
                return self._answer(Source(body=bodies[file.name]), 0, None, None)
            return await super().open(file, offset=offset, validator=validator)

    return Duplicates(listed, sources)


@pytest.mark.parametrize("between", [0, 1, 900])
@pytest.mark.parametrize("order", ["on", "no", "non", "oon", "nno"])
async def test_the_newest_of_two_rows_of_one_key_has_the_plain_path(order: str, between: int, tmp_path: Path) -> None:
    """The other one is beside it, and neither the order nor the distance in the listing matters."""
    files = duplicates(order, between=between)

    async with downloader(tmp_path, workers=2) as downloads:
        report = await downloads.run(files)

    found = {path.name: path.read_bytes() for path in (tmp_path / "files").glob("a*")}
    assert found == {"a.bin": b"NEW", "a~b5378022.bin": b"OLD"}
    assert (report.failures, report.not_started) == ((), 0)


async def test_two_keys_for_one_path_are_refused_before_any_transfer(tmp_path: Path) -> None:
    """NM08: the first one listed has it."""
    rows = [remote("a", fields={"day": "1"}), remote("b", fields={"day": "1"}), remote("c", fields={"day": "2"})]
    files = MemoryFiles(rows, {row.key: Source(body=BODY) for row in rows})

    async with downloader(tmp_path, layout="{service}/{day}.bin") as downloads:
        report = await downloads.run(files)

    assert [type(outcome.error) for outcome in report.outcomes] == [type(None), DestinationBusyError, type(None)]
    assert [requested.key for requested in sorted(files.requested, key=lambda requested: requested.key)] == [
        "test/a",
        "test/c",
    ]


async def test_a_layout_that_does_not_fit_the_files_stops_before_any_transfer(tmp_path: Path) -> None:
    """It is a setting, not the fault of a file."""
    files = many(3)

    async with downloader(tmp_path, layout="{subject}.bin") as downloads:
        with pytest.raises(ConfigurationError, match=r"\{subject\}"):
            await downloads.run(files)
    with pytest.raises(ConfigurationError, match="names no field"):
        downloader(tmp_path, layout="x.bin")

    assert files.requested == []


async def test_a_folder_belongs_to_one_tenant_of_a_service(tmp_path: Path) -> None:
    """A second one is refused before anything of it is fetched."""
    async with downloader(tmp_path) as downloads:
        await downloads.run(many(1))
    rows = [remote("other", tenant="http://127.0.0.1 somebody else")]
    files = MemoryFiles(rows, {"test/other": Source(body=BODY)})

    async with downloader(tmp_path) as downloads:
        with pytest.raises(DestinationBusyError):
            await downloads.run(files)

    assert files.requested == []


async def test_the_final_name_may_be_no_folder(tmp_path: Path) -> None:
    """ST08: refused without a request."""
    (tmp_path / "files" / "f00000.bin").mkdir(parents=True)
    files = many(2)

    async with downloader(tmp_path) as downloads:
        report = await downloads.run(files)

    assert [type(outcome.error) for outcome in report.outcomes] == [DestinationBusyError, type(None)]
    assert [requested.key for requested in files.requested] == ["test/f00001"]


async def test_what_the_listing_says_will_never_come_is_skipped(tmp_path: Path) -> None:
    """Without a request, with the reason, and not as a failure."""
    files = MemoryFiles([remote("a", skip="it is a link to another site")], {})

    async with downloader(tmp_path) as downloads:
        report = await downloads.run(files)

    assert report.counts[Action.SKIP] == 1
    assert (report.outcomes[0].reason, report.outcomes[0].error) == ("it is a link to another site", None)
    assert files.requested == []


async def test_two_sets_at_a_time_share_the_slots(tmp_path: Path) -> None:
    """One downloader, never more open bodies than its workers."""
    files = many(40)

    async def run(number: int, downloads: Downloader) -> Any:
        rows = [remote(f"set{number}-{index}") for index in range(20)]
        files.sources.update({row.key: Source(body=BODY) for row in rows})
        part = MemoryFiles(rows, files.sources)
        part.before_open = count
        return await downloads.run(part)

    open_now, maximum = 0, 0

    async def count(_: Asked) -> None:
        nonlocal open_now, maximum
        open_now += 1
        maximum = max(maximum, open_now)
        await asyncio.sleep(0)
        open_now -= 1

    async with downloader(tmp_path) as downloads:
        reports = await asyncio.gather(run(1, downloads), run(2, downloads))

    assert [report.counts[Action.FETCH] for report in reports] == [20, 20]
    assert maximum <= 4


async def test_an_observer_that_raises_or_waits_harms_nothing(tmp_path: Path) -> None:
    """CC11: the report is the same."""
    reported: list[Event] = []

    async def observer(event: Event) -> None:
        reported.append(event)
        raise ZeroDivisionError

    async with Downloader(tmp_path, options=TransferOptions(durability="off"), observer=observer) as downloads:
        report = await downloads.run(many(5))

    assert report.counts[Action.FETCH] == 5
    assert sum(isinstance(event, Finished) for event in reported) == 5


async def test_a_closed_downloader_says_so(tmp_path: Path) -> None:
    """And closing it twice is harmless."""
    downloads = downloader(tmp_path)
    await downloads.run(many(1))
    await downloads.aclose()
    await downloads.aclose()

    with pytest.raises(ClosedError, match="closed before"):
        await downloads.run(many(1))
    with pytest.raises(ClosedError, match="closed before"):
        downloads.stream(many(1))


@pytest.mark.parametrize("cancelled", [{0}, {1}, {0, 1}], ids=["the first", "the second", "both"])
async def test_a_run_that_is_cancelled_while_the_directory_is_opened_takes_it_from_no_other(
    tmp_path: Path, cancelled: set[int]
) -> None:
    """One that begins as the last one is cancelled opens it anew."""
    gate = RateLimiter("make_root", "*")
    downloads = rig(downloader(tmp_path), disk=RecordingDisk(gate))
    runs = [asyncio.create_task(downloads.run(many(1))) for _ in range(2)]
    await gate.reached()
    for number in cancelled:
        runs[number].cancel()
    await asyncio.sleep(0)
    late = asyncio.create_task(downloads.run(many(1)))
    gate.open()
    await asyncio.wait([*runs, late])
    report = late.result()
    await downloads.aclose()

    assert [run.cancelled() for run in runs] == [number in cancelled for number in range(2)]
    assert (report.counts[Action.FETCH], report.failures) == (1, ())


def test_a_downloader_of_another_loop_says_so(tmp_path: Path) -> None:
    """SA25, for the transfer room."""
    downloads = downloader(tmp_path)

    async def use() -> None:
        await downloads.run(many(1))

    async def misuse() -> None:
        with pytest.raises(ClosedError, match="another event loop"):
            await downloads.run(many(1))

    with asyncio.Runner() as runner:
        runner.run(use())
        with asyncio.Runner() as other:
            other.run(misuse())
            with pytest.raises(ClosedError, match="another event loop; close it there"):
                other.run(downloads.aclose())
        runner.run(downloads.aclose())


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="Only Linux lists what is open")
@pytest.mark.parametrize("engine", [Downloader, Mirror])
def test_what_an_ended_loop_has_left_is_closed_in_a_later_one(
    tmp_path: Path, engine: type[Downloader | Mirror]
) -> None:
    """Nothing stays open or running, the next run goes on with what came, and a second call is harmless."""
    given = TransferOptions(workers=1, chunk_size=64 * KIB, durability="off")
    made = engine(tmp_path, options=given)
    rig(made, record_every=64 * KIB)
    body = content(300_000)
    rows = [remote("a"), remote("b")]
    files = MemoryFiles(rows, {row.key: Source(body=body) for row in rows})

    async def use() -> None:
        await (made.sync(files) if isinstance(made, Mirror) else made.run(files))

    async def close() -> None:
        await made.aclose()
        await made.aclose()

    asyncio.run(use())
    open_before = opened_below(tmp_path)
    asyncio.run(close())

    assert open_before
    assert opened_below(tmp_path) == []
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("arena_async")]
    assert (tmp_path / "files/b.bin").read_bytes() == body


def opened_below(directory: Path) -> list[str]:
    """Return what this process has open in a directory."""
    found = [str(entry.readlink()) for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink()]
    return [name for name in found if name.startswith(str(directory))]


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="Only Linux lists what is open")
def test_a_stream_that_an_ended_loop_has_left_can_be_gone_on_with(tmp_path: Path) -> None:
    """What came of its file is recorded when the downloader is closed, in a later loop."""
    downloads = rig(downloader(tmp_path), record_every=1 << 30)
    files = MemoryFiles([remote("a")], {"test/a": Source(body=content(300_000), faults=[200_000])})

    async def leave() -> None:
        held = asyncio.Event()

        async def hold(requested: Asked) -> None:
            if requested.offset:
                held.set()
                await asyncio.Event().wait()

        files.before_open = hold
        taking = asyncio.ensure_future(anext(downloads.stream(files)))
        await held.wait()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:  # As the end of a loop does.
            task.cancel()
        await asyncio.wait(others)
        assert taking.cancelled()

    async def again() -> Report:
        await downloads.aclose()
        files.before_open = None
        async with downloader(tmp_path) as later:
            return await later.run(files)

    asyncio.run(leave())
    open_before = [Path(name).suffix for name in opened_below(tmp_path)]
    report = asyncio.run(again())

    assert ".part" in open_before
    assert opened_below(tmp_path) == []
    assert report.counts[Action.RESUME] == 1
    assert [requested.offset for requested in files.requested] == [0, 200_000, 200_000]


def test_an_empty_folder_name_is_refused() -> None:
    """It would mean the current folder by accident."""
    with pytest.raises(ConfigurationError):
        Downloader("")


async def test_all_files_together_keep_to_the_rate(tmp_path: Path) -> None:
    """Ten files of 20,000 bytes at 50,000 bytes a second take four seconds, whoever of the four bodies reads."""
    files, passed = many(10), [0.0]

    async def wait(seconds: float) -> None:
        until = passed[0] + seconds
        while passed[0] < until:
            for _ in range(50):
                await asyncio.to_thread(int)
            passed[0] = max(passed[0], min(until, passed[0] + 0.01))

    options = TransferOptions(workers=4, chunk_size=64 * KIB, durability="off", max_rate=50_000)
    async with Downloader(tmp_path, options=options, clock=Clock(monotonic=lambda: passed[0], sleep=wait)) as downloads:
        report = await downloads.run(files)

    assert report.failures == ()
    assert passed[0] >= 3.9


async def test_bodies_become_more_while_more_of_them_bring_more(tmp_path: Path) -> None:
    """From 3 to 12 in a few rounds; without leave to grow always 3."""
    grown = await in_rounds(tmp_path / "a", many(90), workers=3, max_workers=12)
    fixed = await in_rounds(tmp_path / "b", many(30), workers=3)

    assert grown[0] == 3
    assert max(grown) == 12
    assert set(fixed) == {3}


async def test_a_service_that_refuses_is_asked_by_fewer_at_a_time(tmp_path: Path) -> None:
    """Forty answers of 429 narrow eight bodies down to one, although nothing comes meanwhile."""
    files = many(40)
    for source in files.sources.values():
        source.faults = [ThrottledError("slower", status=429, retry_after=0)]

    opened = await in_rounds(tmp_path, files, workers=8, max_workers=8)

    assert opened[0] == 8
    assert min(opened[:20]) == 1
