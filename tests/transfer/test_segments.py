"""One large file over several connections: its bytes, its requests, and whatever goes wrong with a part of them."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import json
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import attrs
import pytest
from cancel_everywhere import HOW, How, cancel_at_every_await
from directory_bench import Bench, all_workers_work
from disks import CHANGES, Call, FaultyDisk, RecordingDisk
from filesets import Asked, MemoryFiles, Source, content, remote
from internals import Splitting

from arena_async import Action, Finished, Outcome, Progress, Report
from arena_async.errors import (
    ApiError,
    DiskFullError,
    LinkExpiredError,
    NotFoundError,
    PermissionDeniedError,
    StalledError,
    StorageError,
    ThrottledError,
    TransportError,
)
from arena_async.options import KIB, MIB, TransferOptions
from arena_async.protocol.files import BodyHead, OpenedFile

BODY = content(4 * MIB + 12_345)
SMALL = Splitting(min_size=MIB, min_piece=64 * KIB, max_piece=512 * KIB, interval=0.1, head_start=0.2, fast=100 * MIB)
WORKERS = 9


class HeldBack(MemoryFiles):
    """
    A file whose bytes cost no request, from a host that gives each connection a megabyte a second.

    ``spoil`` makes another answer of those for pieces; ``shared`` is the megabytes a second of all connections
    together, where they have a limit.
    """

    shared: float | None = None

    def __init__(self, body: bytes = BODY, *, name: str = "a", **source: Any) -> None:
        super().__init__([remote(name, size=len(body))], {f"test/{name}": Source(body=body, **source)})
        self.per_file = 0
        self.passed = 0.0
        self.downloaded = 0
        self.spoil: Callable[[Asked, OpenedFile], OpenedFile] = lambda _, opened: opened

    async def open(self, file: Any, **how: Any) -> OpenedFile:
        opened = await super().open(file, **how)
        if self.requested[-1].until is not None:
            opened = self.spoil(self.requested[-1], opened)
        readinto = opened.stream.readinto

        async def slowly(buffer: memoryview) -> int:
            count = await readinto(buffer)
            self.passed += count / MIB / min(max(1, self.open_bodies), self.shared or 1000)
            self.downloaded += count
            return count

        opened.stream.readinto = slowly  # type: ignore[method-assign]
        return opened

    @property
    def pieces(self) -> list[Asked]:
        """What was asked for with an end."""
        return [requested for requested in self.requested if requested.until is not None]


def bench_on(root: Path, files: HeldBack, **how: Any) -> Bench:
    """Return a directory in which files of a megabyte are large, and whose time is that of the host."""
    bench = Bench(root, **{"splitting": SMALL, "clock": lambda: files.passed, "workers": WORKERS, **how})

    async def sleep(seconds: float) -> None:
        files.passed += seconds
        await asyncio.sleep(0)

    bench.sleep = sleep  # type: ignore[method-assign]
    return bench


async def report_on(bench: Bench, files: HeldBack) -> Report:
    """Sync; no body stays open, and all workers can be used afterwards."""
    async with bench.mirror() as mirror:
        report = await mirror.sync(files)
        assert files.open_bodies == 0
        if not any(isinstance(outcome.error, StorageError) for outcome in report.outcomes):
            await all_workers_work(mirror, bench.options["workers"])
    return report


async def fetch(bench: Bench, files: HeldBack) -> Outcome:
    """Sync and return the only outcome."""
    (outcome,) = (await report_on(bench, files)).outcomes
    return outcome


async def test_a_file_of_a_host_that_holds_each_connection_back_comes_over_all_free_lanes(tmp_path: Path) -> None:
    """Whole, verified, with every byte asked for and counted once, and told in order."""
    files = HeldBack()
    bench = bench_on(tmp_path, files)

    outcome = await fetch(bench, files)

    assert outcome.error is None
    assert (outcome.sha256, outcome.verified_by) == (hashlib.sha256(BODY).hexdigest(), "length")
    assert (outcome.attempts, outcome.bytes_written) == (1, len(BODY))
    reported = [event for event in bench.events if isinstance(event, Finished) and event.outcome.file.key == "test/a"]
    assert [event.bytes_done for event in reported] == [len(BODY)]
    assert bench.finals()["files/a.bin"] == BODY
    assert files.requested[0] == Asked(key="test/a", offset=0, validator=None)
    assert {requested.validator for requested in files.pieces} == {'"v1"'}
    assert len(files.requested) == 1 + len(files.pieces)
    spans = sorted((requested.offset, requested.until) for requested in files.pieces)
    assert spans[-1][1] == len(BODY)
    assert [one[1] for one in spans[:-1]] == [other[0] for other in spans[1:]]
    assert files.max_open >= 8
    assert files.passed < 1.5
    done = [event.bytes_done for event in bench.events if isinstance(event, Progress) and event.file.key == "test/a"]
    assert done == sorted(done)
    assert bench.partials() == []


async def test_pieces_become_smaller_towards_the_end(tmp_path: Path) -> None:
    """So that all connections have work until then; none is larger or smaller than it may be."""
    files = HeldBack()

    # The primary connection has more to do than the others together: its end would leave more to each of them.
    await fetch(bench_on(tmp_path, files, splitting=attrs.evolve(SMALL, head_start=0.8)), files)

    sizes = [requested.until - requested.offset for requested in files.pieces if requested.until is not None]
    assert all(one >= other for one, other in pairwise(sizes[:-1]))
    assert max(sizes) <= SMALL.max_piece
    assert min(sizes[:-1]) >= SMALL.min_piece
    assert sizes[0] > 2 * sizes[-2]


@pytest.mark.parametrize(
    ("source", "options", "per_file", "size"),
    [
        ({}, {}, 1, len(BODY)),
        ({}, {}, 0, MIB - 1),
        ({"ranges": False}, {}, 0, len(BODY)),
        ({"etag": 'W/"v1"'}, {}, 0, len(BODY)),
        ({"etag": None}, {}, 0, len(BODY)),
        ({"announced": False}, {}, 0, len(BODY)),
        ({}, {"workers": 1}, 0, len(BODY)),
        ({}, {"max_rate": 100 * MIB}, 0, len(BODY)),
    ],
)
async def test_a_file_is_not_split_where_that_costs_or_proves_or_helps_nothing(
    tmp_path: Path, source: dict[str, Any], options: dict[str, Any], per_file: int, size: int
) -> None:
    """Requests that count, a small file, no ranges, no proof that the parts fit, no length, no lane, a limit."""
    files = HeldBack(BODY[:size], **source)
    files.per_file = per_file
    if not source.get("announced", True):
        files.rows = [remote("a")]
    bench = bench_on(tmp_path, files, **options)

    outcome = await fetch(bench, files)

    assert outcome.error is None
    assert len(files.requested) == 1
    assert bench.finals()["files/a.bin"] == BODY[:size]


async def test_a_connection_that_needs_no_help_has_none(tmp_path: Path) -> None:
    """At a gigabyte a second, more connections would only cost."""
    files = HeldBack()

    await fetch(bench_on(tmp_path, files, splitting=attrs.evolve(SMALL, fast=MIB / 2)), files)

    assert len(files.requested) == 1


async def test_connections_become_fewer_where_more_of_them_bring_nothing(tmp_path: Path) -> None:
    """A line that is full with one of them: more are tried, and given back, and the rest comes over one."""
    files = HeldBack(content(16 * MIB))
    files.shared = 1.0
    beside: list[int] = []

    async def note(_: Asked) -> None:
        beside.append(files.open_bodies)

    files.before_open = note
    outcome = await fetch(bench_on(tmp_path, files), files)

    assert outcome.error is None
    assert max(beside) > 2
    assert sum(count == 0 for count in beside) > len(beside) / 4


def other_head(**fields: Any) -> Callable[[Asked, OpenedFile], OpenedFile]:
    """Answer with another head."""
    return lambda _, opened: attrs.evolve(opened, head=attrs.evolve(opened.head, **fields))


def ignored(_: Asked, opened: OpenedFile) -> OpenedFile:
    """Answer as a host that ignores ranges."""
    return attrs.evolve(opened, head=BodyHead(status=200, length=len(BODY), total=len(BODY), etag='"v1"', ranges=True))


def shifted(requested: Asked, opened: OpenedFile) -> OpenedFile:
    """Answer with what lies one byte further on."""
    return attrs.evolve(opened, head=attrs.evolve(opened.head, offset=requested.offset + 1))


def cut(_: Asked, opened: OpenedFile) -> OpenedFile:
    """End after 100,000 bytes without a word."""
    left, readinto = [100_000], opened.stream.readinto

    async def short(buffer: memoryview) -> int:
        count = await readinto(buffer[: left[0]]) if left[0] else 0
        left[0] -= count
        return count

    opened.stream.readinto = short  # type: ignore[method-assign]
    return opened


def endless(_: Asked, opened: OpenedFile) -> OpenedFile:
    """Return more than was announced."""
    readinto = opened.stream.readinto

    async def more(buffer: memoryview) -> int:
        count = await readinto(buffer)
        if not count:
            buffer[:1] = b"x"
        return count or 1

    opened.stream.readinto = more  # type: ignore[method-assign]
    return opened


def broken(_: Asked, opened: OpenedFile) -> OpenedFile:
    """Break after 100,000 bytes."""
    left, readinto = [100_000], opened.stream.readinto

    async def short(buffer: memoryview) -> int:
        if not left[0]:
            raise TransportError("GET: the connection was cut.")
        count = await readinto(buffer[: left[0]])
        left[0] -= count
        return count

    opened.stream.readinto = short  # type: ignore[method-assign]
    return opened


@pytest.mark.parametrize("times", [1, 3, 1000])
@pytest.mark.parametrize(
    "spoil",
    [
        ignored, shifted, cut, endless, other_head(etag='"v2"'), other_head(etag=None), other_head(etag='W/"v1"'),
        other_head(total=len(BODY) + 1), other_head(total=None), other_head(status=200), other_head(length=None),
        other_head(length=10), other_head(encoding="gzip"), other_head(status=412), other_head(status=416),
        other_head(content_type="multipart/byteranges; boundary=x"),
    ],
)  # fmt: skip
async def test_an_answer_that_is_not_the_piece_costs_at_most_its_connection(
    tmp_path: Path, spoil: Callable[[Asked, OpenedFile], OpenedFile], times: int
) -> None:
    """Once, for three of them, for all: the file is whole in the end, and what is wrong is never taken."""
    files, left = HeldBack(), [times]

    def corrupt(requested: Asked, opened: OpenedFile) -> OpenedFile:
        left[0] -= 1
        return spoil(requested, opened) if left[0] >= 0 else opened

    files.spoil = corrupt
    bench = bench_on(tmp_path, files)

    outcome = await fetch(bench, files)

    assert outcome.error is None
    assert outcome.sha256 == hashlib.sha256(BODY).hexdigest()
    assert bench.finals()["files/a.bin"] == BODY
    assert outcome.attempts <= (2 if spoil not in (cut, endless) else 12)
    assert bench.partials() == []


@pytest.mark.parametrize("times", [1, 4, 1000])
@pytest.mark.parametrize(
    "error",
    [
        TransportError("GET: cut."),
        StalledError("GET: nothing came."),
        ThrottledError("GET: 429.", status=429, retry_after=600),
        ApiError("GET: 500.", status=500),
        NotFoundError("GET: 404.", status=404),
        LinkExpiredError("GET: over."),
        PermissionDeniedError("GET: 403.", status=403),
        RuntimeError("a defect"),
    ],
)
async def test_a_refusal_of_a_piece_is_none_of_the_file(tmp_path: Path, error: Exception, times: int) -> None:
    """The front goes on by itself when all of them are refused; nobody waits for what the pieces were told."""
    files, left = HeldBack(), [times]

    def refuse(requested: Asked, opened: OpenedFile) -> OpenedFile:
        del requested
        left[0] -= 1
        if left[0] >= 0:
            files.open_bodies -= 1
            raise error
        return opened

    files.spoil = refuse
    bench = bench_on(tmp_path, files)

    outcome = await fetch(bench, files)

    assert outcome.error is None
    assert bench.finals()["files/a.bin"] == BODY
    assert len(files.pieces) <= 1000


async def test_retries_of_pieces_are_bounded(tmp_path: Path) -> None:
    """As many as the workers have attempts; what connections lose beyond that is left to the first one."""
    files = HeldBack()
    files.spoil = broken
    bench = bench_on(tmp_path, files, attempts=1)

    async with bench.mirror() as mirror:
        (outcome,) = (await mirror.sync(files)).outcomes

    assert outcome.error is None
    assert bench.finals() == {"files/a.bin": BODY}
    requested = [requested.offset for requested in files.pieces]
    assert len(requested) - len(set(requested)) <= TransferOptions().workers


async def test_a_disk_that_is_full_under_a_piece_fails_the_file_at_once(tmp_path: Path) -> None:
    """ST01: no other connection, and no network, can help; what was recorded is continued."""
    full = [False]

    def before(call: Call) -> None:
        if call.verb == "write" and (call.offset or 0) > 2 * MIB:
            full[0] = True
        if full[0] and call.verb == "write":
            raise OSError(errno.ENOSPC, "No space left on device")

    files = HeldBack()
    report = await report_on(bench_on(tmp_path, files, disk=RecordingDisk(before)), files)

    assert isinstance(report.error, DiskFullError)
    assert [outcome.error for outcome in report.outcomes] == [report.error]

    files = HeldBack()
    bench = bench_on(tmp_path, files)
    assert bench.finals() == {}
    again = await fetch(bench, files)
    assert again.error is None
    assert bench.finals()["files/a.bin"] == BODY
    assert bench.partials() == []


async def test_a_disk_that_loses_data_at_a_sync_is_not_trusted_for_what_others_wrote(tmp_path: Path) -> None:
    """ST03: the partial file goes while connections are ahead; none of their bytes lands anywhere else."""
    disk, files = FaultyDisk(), HeldBack()
    disk.fail("sync_data", errno.EIO, skip=3)
    bench = bench_on(tmp_path, files, disk=disk)

    outcome = await fetch(bench, files)

    assert outcome.error is not None
    assert len(files.pieces) > 1
    assert bench.finals() == {}
    assert bench.partials() == []


class Failing(HeldBack):
    """A host whose first connection fails at a certain block, without another part of the program having its turn."""

    def __init__(self, at: int) -> None:
        super().__init__(name=f"f{at}")
        self.left = at

    async def open(self, file: Any, **how: Any) -> OpenedFile:
        opened = await super().open(file, **how)
        readinto = opened.stream.readinto

        async def failing(buffer: memoryview) -> int:
            self.left -= 1
            if self.left < 0:
                raise ApiError("GET: 400.", status=400)
            # Small, so that there are many of them after the others have begun.
            return await readinto(buffer[: 16 * KIB])

        if how.get("until") is None:
            opened.stream.readinto = failing  # type: ignore[method-assign]
        return opened


async def test_a_first_connection_that_fails_while_others_begin_loses_no_worker(tmp_path: Path) -> None:
    """At each of its blocks, also in the very moment in which more connections were asked for."""
    now = HeldBack()
    bench = bench_on(tmp_path, now, workers=4, clock=lambda: now.passed)
    split = 0
    async with bench.mirror() as mirror:
        for at in range(1, 30):
            now = Failing(at)
            report = await mirror.sync(now)
            assert now.open_bodies == 0
            split += bool(now.pieces) and bool(report.failures)
            await all_workers_work(mirror, 4)
    assert split > 3


@pytest.mark.parametrize("how", HOW)
async def test_cancelled_at_any_await_nothing_runs_on_and_the_next_run_goes_on(tmp_path: Path, how: How) -> None:
    """CC01: with connections ahead too; what was recorded is continued, and the bytes are right."""
    body = BODY[: 2 * MIB]
    now = HeldBack(body)
    bench = bench_on(tmp_path, now, durability="off", workers=4, clock=lambda: now.passed)
    runs: dict[int, HeldBack] = {}
    runs_split = 0
    async with bench.mirror() as mirror:

        def start(at: int) -> Any:
            nonlocal now
            now = runs[at] = HeldBack(body, name=f"f{at}")
            return mirror.sync(runs[at])

        async for stopped in cancel_at_every_await(start, how=how, everywhere=True, every=3):
            final = tmp_path / "files" / f"f{stopped.at}.bin"
            assert not final.exists() or final.read_bytes() == body
            assert stopped.cancelled or (stopped.result is not None and stopped.result.failures == ())
            assert runs[stopped.at].open_bodies == 0
            assert "arena_async part" not in {task.get_name() for task in asyncio.all_tasks()}
            runs_split += stopped.cancelled and bool(runs[stopped.at].pieces)
        await all_workers_work(mirror, 4)
        for at, now in runs.items():
            report = await mirror.sync(now)
            assert report.failures == ()
            assert (tmp_path / "files" / f"f{at}.bin").read_bytes() == body
    assert bench.partials() == []
    assert runs_split > 5


@pytest.mark.parametrize("power", [True, False], ids=["killed", "without power"])
async def test_stopped_before_any_step_the_next_run_takes_no_byte_that_was_ahead(tmp_path: Path, power: bool) -> None:
    """CR01, CR04: what a record vouches for is right, whatever of the pieces behind it was written and not synced."""
    body, root = BODY, tmp_path / "root"
    stops: list[Path] = []
    seen, files = [0], HeldBack(body)

    def before(call: Call) -> None:
        seen[0] += call.verb in CHANGES and bool(files.pieces)
        if call.verb in CHANGES and seen[0] % 3 == 1:
            stops.append(tmp_path / str(len(stops)))
            _copy(root, stops[-1])

    bench = bench_on(root, files, disk=RecordingDisk(before), workers=6)
    async with bench.mirror() as mirror:
        (outcome,) = (await mirror.sync(files)).outcomes
    assert outcome.error is None
    resumed = 0
    ahead = 0
    for number, place in enumerate(stops):
        if not power:
            _scribble(place)
        known = _known(place)
        files = HeldBack(body)
        bench = bench_on(place, files, workers=1 + number % 3)
        outcome = await fetch(bench, files)
        assert files.downloaded == len(body) - sum(until - start for start, until in known)
        ahead += len(known) > 1
        assert outcome.error is None
        assert bench.finals()["files/a.bin"] == body
        assert not any(name.endswith((".part", ".json")) for name in bench.partials())
        resumed += outcome.action is Action.RESUME

    assert len(stops) > 5
    assert resumed > 3
    assert ahead > 3


def _copy(root: Path, to: Path) -> None:
    """Copy the partial files as a process that is killed now leaves them."""
    (to / ".arena-async/partial").mkdir(parents=True)
    # Records first: a record that another thread writes meanwhile would speak of bytes that are not in the copy.
    for path in sorted((root / ".arena-async/partial").iterdir(), key=lambda path: path.suffix == ".part"):
        with contextlib.suppress(FileNotFoundError):
            shutil.copy(path, to / ".arena-async/partial")


def _known(root: Path) -> list[tuple[int, int]]:
    """Return what the record of a partial file that is there speaks of."""
    for record in (root / ".arena-async" / "partial").glob("*.json"):
        if record.with_suffix(".part").exists():
            known = json.loads(record.read_text())
            return [(0, known["offset"]), *((start, until) for start, until, _ in known["ahead"])]
    return []


def _scribble(root: Path) -> None:
    """Spoil everything that no record speaks of, as a power loss may: none of it was promised."""
    for record in (root / ".arena-async" / "partial").glob("*.json"):
        part = record.with_suffix(".part")
        if not part.exists():
            continue
        known = _known(root)
        bytes_there = part.read_bytes()
        spoilt = bytearray(len(bytes_there))
        for start, until in known:
            spoilt[start:until] = bytes_there[start:until]
        part.write_bytes(spoilt)


async def test_workers_that_other_files_want_are_given_back(tmp_path: Path) -> None:
    """Files that begin meanwhile wait for a piece at the most, and not for the large file."""
    files = HeldBack()
    bench = bench_on(tmp_path, files, workers=4)
    async with bench.mirror() as mirror:
        going = asyncio.create_task(mirror.sync(files))
        while len(files.pieces) < 3:
            await asyncio.to_thread(int)
        await all_workers_work(mirror, 3)
        was_over = going.done()
        report = await going

    assert not was_over
    assert report.failures == ()
    assert bench.finals()["files/a.bin"] == BODY
