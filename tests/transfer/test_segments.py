"""One large file over several connections: its bytes, its requests, and whatever goes wrong with a part of them."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import json
import shutil
from collections.abc import Callable, Coroutine
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any

import attrs
import pytest
from cancelling import HOW, How, cancel_at_every_await
from disks import CHANGES, Call, FaultyDisk, RecordingDisk
from filesets import Asked, MemoryFiles, Source, content, remote
from hypothesis import given
from hypothesis import strategies as st

from arena_async.errors import (
    ApiError,
    DiskFullError,
    LinkExpiredError,
    NotFoundError,
    PermissionDeniedError,
    StalledError,
    ThrottledError,
    TransportError,
)
from arena_async.options import KIB, MIB, TransferOptions
from arena_async.transfer.destination import Destination, Timing
from arena_async.transfer.events import Action, Advanced, Event
from arena_async.transfer.fetching import Fetched, Job, fetch_one
from arena_async.transfer.filesystem import FileSystem
from arena_async.transfer.pacing import Splitting
from arena_async.transfer.pieces import Pieces, Spread
from arena_async.transfer.segments import Segments
from arena_async.transfer.storage import Storage
from arena_async.wire.contracts import BodyHead, OpenedFile

BODY = content(4 * MIB + 12_345)
SMALL = Splitting(
    least_size=MIB, least_piece=64 * KIB, largest_piece=512 * KIB, interval=0.1, head_start=0.2, fast=100 * MIB
)


# ------------------------------------------------------------------------------------------------------ the decisions


@given(
    begin=st.integers(0, 5000),
    more=st.integers(0, 50_000),
    steps=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 4000), st.booleans()), max_size=150),
    connections=st.integers(1, 40),
)
def test_every_byte_has_one_owner_at_a_time_and_only_what_is_written_without_a_gap_is_reached(
    begin: int, more: int, steps: list[tuple[int, int, bool]], connections: int
) -> None:
    """Whoever takes, writes and gives back in whatever order."""
    pieces = Pieces(begin=begin, total=begin + more, least=100, largest=5000)
    held: dict[int, Any] = {}
    written: set[tuple[int, int]] = set()
    reached = begin
    for who, count, gives_back in steps:
        if who not in held:
            taken = pieces.take(connections)
            if taken is not None:
                held[who] = taken[0]
            continue
        piece = held[who]
        at = min(piece.until, piece.at + count)
        written.add((piece.at, at))
        piece.at = at
        if gives_back or at == piece.until:
            pieces.give_back(held.pop(who))
        whole, end = sorted(written), begin
        for first, last in whole:
            end = max(end, last) if first <= end else end
        now = pieces.reach(reached)
        assert now == end >= reached
        reached = now
        spans = sorted((piece.at, piece.until) for piece in held.values())
        assert all(one[1] <= other[0] for one, other in pairwise(spans))
    while (taken := pieces.take(connections)) is not None:
        taken[0].at = taken[0].until
    for piece in held.values():
        piece.at = piece.until
    assert pieces.reach(reached) == begin + more
    assert not pieces.left


def test_pieces_become_smaller_towards_the_end() -> None:
    """So that all connections have work until then."""
    pieces = Pieces(begin=0, total=10_000, least=500, largest=4000)
    sizes = []
    while (taken := pieces.take(2)) is not None:
        sizes.append(taken[0].until - taken[0].start)

    assert sizes == [3750, 2343, 1465, 915, 572, 500, 455]


def test_what_was_given_back_is_asked_for_first_and_known_as_asked_before() -> None:
    """The first gap is what everybody waits for."""
    pieces = Pieces(begin=0, total=3000, least=1000, largest=1000)
    first, second = pieces.take(1), pieces.take(1)
    assert first is not None
    assert second is not None
    first[0].at, second[0].at = 400, 1500
    pieces.give_back(second[0])
    pieces.give_back(first[0])

    assert pieces.reach(0) == 400
    assert [pieces.take(1), pieces.take(1)] == [(first[0], True), (second[0], True)]
    fresh = pieces.take(1)
    assert fresh is not None
    assert (fresh[0].start, fresh[1]) == (2000, False)


def spread_over(rate: Callable[[int], float], *, most: int, fast: float = 1000) -> list[int]:
    """Say how many connections there are after each judgement."""
    spread = Spread(fast=fast)
    return [spread.judge(rate(spread.connections), most=most) for _ in range(7)]


@pytest.mark.parametrize(
    ("rate", "most", "connections"),
    [
        (lambda n: 20.0 * n, 31, [8, 31, 31, 31, 31, 31, 31]),
        (lambda n: 20.0 * n, 1, [1] * 7),
        (lambda _: 100.0, 31, [8, 1, 1, 1, 1, 1, 8]),
        (lambda n: min(20.0 * n, 120.0), 31, [8, 31, 8, 8, 8, 8, 8]),
        (lambda n: 2000.0 * n, 31, [1] * 7),
        (lambda _: 0.0, 31, [8, 31, 31, 31, 31, 31, 31]),
    ],
)
def test_connections_become_more_as_long_as_they_bring_clearly_more(
    rate: Callable[[int], float], most: int, connections: list[int]
) -> None:
    """A cap of each, no lane, a cap of all, both, a connection that needs no help, and nothing at all."""
    assert spread_over(rate, most=most) == connections


# -------------------------------------------------------------------------------------------------------- the journey


class HeldBack(MemoryFiles):
    """
    A file whose bytes cost no request, from a host that gives each connection a megabyte a second.

    ``spoil`` makes another answer of those for pieces.
    """

    def __init__(self, body: bytes = BODY, *, name: str = "a", **source: Any) -> None:
        super().__init__([remote(name, size=len(body))], {f"test/{name}": Source(body=body, **source)})
        self.per_file = 0
        self.passed = 0.0
        self.brought = 0
        self.spoil: Callable[[Asked, OpenedFile], OpenedFile] = lambda _, opened: opened

    async def open(self, file: Any, **how: Any) -> OpenedFile:
        opened = await super().open(file, **how)
        if self.asked[-1].until is not None:
            opened = self.spoil(self.asked[-1], opened)
        readinto = opened.stream.readinto

        async def slowly(buffer: memoryview) -> int:
            count = await readinto(buffer)
            self.passed += count / MIB / max(1, self.open_bodies)
            self.brought += count
            return count

        opened.stream.readinto = slowly  # type: ignore[method-assign]
        return opened

    @property
    def pieces(self) -> list[Asked]:
        """What was asked for with an end."""
        return [asked for asked in self.asked if asked.until is not None]


class Bench:
    """A folder in which files of a megabyte are large."""

    def __init__(self, root: Path, files: HeldBack, *, disk: FileSystem | None = None, **options: Any) -> None:
        self.root = root
        self.files = files
        self.events: list[Event] = []
        self.final = root / "files" / "a.bin"
        timing = Timing(clock=lambda: self.files.passed, sleep=self.sleep, random=lambda: 0.5)
        self.destination = Destination(
            root,
            options=TransferOptions(**{"chunk_size": 64 * KIB, "workers": 9, **options}),
            observer=self.events.append,
            remember=True,
            timing=timing,
            owner="Bench",
        )
        self.destination.storage = Storage(root, flush_unit=64 * KIB, files=disk)
        self.destination.splitting = SMALL

    async def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.files.passed += seconds
        await asyncio.sleep(0)

    def journey(self, files: HeldBack | None = None) -> Coroutine[Any, Any, Fetched | None]:
        """Bring the file home, or that of another set."""
        files = files or self.files
        assert isinstance(files.rows, list)
        file = files.rows[0]
        path = PurePosixPath(f"files/{file.stem}.bin")
        job = Job(number=0, file=file, key=file.key, path=path, action=Action.FETCH)
        return fetch_one(job, files, self.destination)

    async def fetch(self) -> Fetched:
        """Bring the file home and close the folder."""
        await self.destination.open()
        try:
            fetched = await self.journey()
        finally:
            await self.destination.announcer.drain()
            free = self.destination.slots.free
            await self.destination.aclose()
        assert fetched is not None
        assert free == self.destination.options.workers
        assert self.files.open_bodies == 0
        return fetched

    def partials(self) -> list[str]:
        """Name what lies among the partial files."""
        return sorted(path.name for path in (self.root / ".arena-async" / "partial").iterdir())


async def test_a_file_of_a_host_that_holds_each_connection_back_comes_over_all_free_lanes(tmp_path: Path) -> None:
    """Whole, verified, with every byte asked for and counted once, and told in order."""
    bench = Bench(tmp_path, HeldBack())

    fetched = await bench.fetch()

    outcome, files = fetched.outcome, bench.files
    assert outcome.error is None
    assert (outcome.sha256, outcome.verified_by) == (hashlib.sha256(BODY).hexdigest(), "length")
    assert (outcome.attempts, outcome.bytes_written, fetched.bytes_done) == (1, len(BODY), len(BODY))
    assert bench.final.read_bytes() == BODY
    assert files.asked[0] == Asked(key="test/a", offset=0, validator=None)
    assert {asked.validator for asked in files.pieces} == {'"v1"'}
    assert len(files.asked) == 1 + len(files.pieces)
    spans = sorted((asked.offset, asked.until) for asked in files.pieces)
    assert spans[-1][1] == len(BODY)
    assert [one[1] for one in spans[:-1]] == [other[0] for other in spans[1:]]
    assert files.most_open >= 8
    assert files.passed < 1.5
    done = [event.bytes_done for event in bench.events if isinstance(event, Advanced)]
    assert done == sorted(done)
    assert bench.partials() == []


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
    bench = Bench(tmp_path, files, **options)

    fetched = await bench.fetch()

    assert fetched.outcome.error is None
    assert len(files.asked) == 1
    assert bench.final.read_bytes() == BODY[:size]


async def test_a_connection_that_needs_no_help_has_none(tmp_path: Path) -> None:
    """At a gigabyte a second, more connections would only cost."""
    bench = Bench(tmp_path, HeldBack())
    bench.destination.splitting = attrs.evolve(SMALL, fast=MIB / 2)

    await bench.fetch()

    assert len(bench.files.asked) == 1


def other_head(**fields: Any) -> Callable[[Asked, OpenedFile], OpenedFile]:
    """Answer with another head."""
    return lambda _, opened: attrs.evolve(opened, head=attrs.evolve(opened.head, **fields))


def ignored(_: Asked, opened: OpenedFile) -> OpenedFile:
    """Answer as a host that ignores ranges."""
    return attrs.evolve(opened, head=BodyHead(status=200, length=len(BODY), total=len(BODY), etag='"v1"', ranges=True))


def shifted(asked: Asked, opened: OpenedFile) -> OpenedFile:
    """Answer with what lies one byte further on."""
    return attrs.evolve(opened, head=attrs.evolve(opened.head, offset=asked.offset + 1))


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
    """Give more than was announced."""
    readinto = opened.stream.readinto

    async def more(buffer: memoryview) -> int:
        count = await readinto(buffer)
        if not count:
            buffer[:1] = b"x"
        return count or 1

    opened.stream.readinto = more  # type: ignore[method-assign]
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

    def spoiled(asked: Asked, opened: OpenedFile) -> OpenedFile:
        left[0] -= 1
        return spoil(asked, opened) if left[0] >= 0 else opened

    files.spoil = spoiled
    bench = Bench(tmp_path, files)

    fetched = await bench.fetch()

    assert fetched.outcome.error is None
    assert fetched.outcome.sha256 == hashlib.sha256(BODY).hexdigest()
    assert bench.final.read_bytes() == BODY
    assert fetched.outcome.attempts <= (2 if spoil not in (cut, endless) else 12)
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

    def refuse(asked: Asked, opened: OpenedFile) -> OpenedFile:
        del asked
        left[0] -= 1
        if left[0] >= 0:
            files.open_bodies -= 1
            raise error
        return opened

    files.spoil = refuse
    bench = Bench(tmp_path, files)

    fetched = await bench.fetch()

    assert fetched.outcome.error is None
    assert bench.final.read_bytes() == BODY
    assert len(files.pieces) <= 1000


async def test_retries_of_pieces_come_out_of_what_all_files_may_spend(tmp_path: Path) -> None:
    """With nothing left to spend, what a connection lost is left to the front."""
    files = HeldBack()
    files.spoil = cut
    bench = Bench(tmp_path, files)
    while bench.destination.budget.spend("test here"):
        pass

    fetched = await bench.fetch()

    assert fetched.outcome.error is None
    assert bench.final.read_bytes() == BODY
    asked = [asked.offset for asked in files.pieces]
    assert len(asked) == len(set(asked))


async def test_a_disk_that_is_full_under_a_piece_fails_the_file_at_once(tmp_path: Path) -> None:
    """ST01: no other connection, and no network, can help; what was recorded is continued."""
    full = [False]

    def before(call: Call) -> None:
        if call.verb == "write" and (call.offset or 0) > 2 * MIB:
            full[0] = True
        if full[0] and call.verb == "write":
            raise OSError(errno.ENOSPC, "No space left on device")

    bench = Bench(tmp_path, HeldBack(), disk=RecordingDisk(before))

    fetched = await bench.fetch()

    assert isinstance(fetched.outcome.error, DiskFullError)
    assert fetched.stop == "disk"
    assert not bench.final.exists()

    files = HeldBack()
    again = await Bench(tmp_path, files).fetch()
    assert again.outcome.error is None
    assert bench.final.read_bytes() == BODY
    assert bench.partials() == []


async def test_a_disk_that_loses_data_at_a_sync_is_not_trusted_for_what_others_wrote(tmp_path: Path) -> None:
    """ST03: the partial file goes while connections are ahead; none of their bytes lands anywhere else."""
    disk = FaultyDisk()
    disk.fail("sync_data", errno.EIO, skip=3)
    bench = Bench(tmp_path, HeldBack(), disk=disk)

    fetched = await bench.fetch()

    assert fetched.outcome.error is not None
    assert len(bench.files.pieces) > 1
    assert not bench.final.exists()
    assert bench.partials() == []


async def test_a_connection_that_is_cancelled_before_its_first_step_gives_its_lane_back(tmp_path: Path) -> None:
    """The front fails in the very moment in which more connections were asked for; no lane is lost."""
    bench = Bench(tmp_path, HeldBack(), workers=4)
    await bench.destination.open()
    staged = await bench.destination.desk.run(bench.destination.storage.stage, "test/f", "files/f.bin")
    ahead = Segments(
        remote("f", size=len(BODY)),
        bench.files,
        bench.destination,
        staged,
        validator='"v1"',
        total=len(BODY),
        service="t",
    )
    ahead._begin(0)
    ahead._spread.connections = 4
    ahead._widen()
    taken = 4 - bench.destination.slots.free

    await ahead.aclose()

    assert taken == 3
    assert bench.destination.slots.free == 4
    await bench.destination.desk.run(staged.drop)
    await bench.destination.aclose()


@pytest.mark.parametrize("how", HOW)
async def test_cancelled_at_any_await_nothing_runs_on_and_the_next_run_goes_on(tmp_path: Path, how: How) -> None:
    """CC01: with connections ahead too; what was recorded is continued, and the bytes are right."""
    body = BODY[: 2 * MIB]
    bench = Bench(tmp_path, HeldBack(body), durability="off", workers=4)
    runs: dict[int, HeldBack] = {}
    await bench.destination.open()

    def start(at: int) -> Coroutine[Any, Any, Fetched | None]:
        runs[at] = HeldBack(body, name=f"f{at}")
        bench.files = runs[at]
        return bench.journey()

    runs_split = 0
    async for stopped in cancel_at_every_await(start, how=how):
        final = tmp_path / "files" / f"f{stopped.at}.bin"
        assert not final.exists() or final.read_bytes() == body
        assert stopped.cancelled or (stopped.result is not None and stopped.result.outcome.error is None)
        assert runs[stopped.at].open_bodies == 0
        assert bench.destination.slots.free == 4
        assert "arena_async segment" not in {task.get_name() for task in asyncio.all_tasks()}
        runs_split += stopped.cancelled and bool(runs[stopped.at].pieces)
    for at, files in runs.items():
        bench.files = files
        again = await bench.journey()
        assert again is not None
        assert again.outcome.error is None
        assert (tmp_path / "files" / f"f{at}.bin").read_bytes() == body
    assert bench.partials() == []
    assert runs_split > 5
    await bench.destination.aclose()


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

    fetched = await Bench(root, files, disk=RecordingDisk(before), workers=6).fetch()
    assert fetched.outcome.error is None
    resumed = 0
    ahead = 0
    for number, place in enumerate(stops):
        if not power:
            _scribble(place)
        known = _known(place)
        again = Bench(place, HeldBack(body), workers=1 + number % 3)
        fetched = await again.fetch()
        assert again.files.brought == len(body) - sum(until - start for start, until in known)
        ahead += len(known) > 1
        assert fetched.outcome.error is None
        assert again.final.read_bytes() == body
        assert not any(name.endswith((".part", ".json")) for name in again.partials())
        resumed += fetched.outcome.action is Action.RESUME

    assert len(stops) > 5
    assert resumed > 3
    assert ahead > 3


def _copy(root: Path, to: Path) -> None:
    """Copy the partial files as a process that is killed now leaves them."""
    (to / ".arena-async/partial").mkdir(parents=True)
    for path in (root / ".arena-async/partial").iterdir():
        with contextlib.suppress(FileNotFoundError):
            shutil.copy(path, to / ".arena-async/partial")


def _known(root: Path) -> list[tuple[int, int]]:
    """Give what the record of a partial file that is there speaks of."""
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


async def test_lanes_that_other_files_want_are_given_back(tmp_path: Path) -> None:
    """A file that begins meanwhile waits for a piece at the most, and not for the large file."""
    files = HeldBack()
    bench = Bench(tmp_path, files, workers=4)
    destination = bench.destination
    await destination.open()
    going = asyncio.create_task(bench.journey())
    while len(files.pieces) < 3:
        await asyncio.to_thread(int)
    lane = await destination.slots.take(files)
    others = [asyncio.ensure_future(destination.slots.take(files)) for _ in range(1)]
    lanes = [lane, *[await other for other in others]]
    was_over = going.done()
    for one in lanes:
        destination.slots.give(files, one)
    fetched = await going
    await destination.aclose()

    assert not was_over
    assert fetched is not None
    assert fetched.outcome.error is None
    assert bench.final.read_bytes() == BODY
