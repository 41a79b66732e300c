"""Groups of files get their names all in order, each with its own result, whoever is cancelled (ST, CC02, CC03, CR)."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from cancel_everywhere import HOW, How, cancel_at_every_await
from directory_bench import Bench, many
from disks import Call, FaultyDisk, RateLimiter, RecordingDisk
from filesets import MemoryFiles
from rounds import settled

from arena_async import Action, Mirror, Report
from arena_async.errors import ClosedError, DestinationBusyError, DiskFullError, StorageError, TransferError
from arena_async.options import Durability
from arena_async.transfer.filesystem import FileSystem


def part_of(key: str) -> str:
    """Return the pattern of the names of a key's partial files."""
    return f"{hashlib.sha256(key.encode()).hexdigest()[:32]}-*.part"


def names(count: int, prefix: str = "k") -> list[str]:
    """Return some names."""
    return [f"{prefix}{number}" for number in range(count)]


async def together(
    bench: Bench, gate: RateLimiter, files: MemoryFiles, before: Callable[[], object] = lambda: None
) -> Report:
    """Sync with all files in one group: they come while another one is held; then do something and let it go on."""
    first = many("zero")
    first.scope = "test/first"
    async with bench.mirror() as mirror:
        await mirror.sync(first)
        first.rows = many("zero", change="2").rows
        gate.arm()
        held = asyncio.create_task(mirror.sync(first))
        await gate.reached()
        going = asyncio.create_task(mirror.sync(files))
        await settled(files, minimum=len(files.sources))
        before()
        gate.open()
        await held
        return await going


async def test_a_committed_file_is_there_and_known(tmp_path: Path) -> None:
    """Its name, its row, its size and time; nothing else is left."""
    bench = Bench(tmp_path)

    outcome = await bench.fetch(many("k", change="c"))

    assert outcome.durable
    assert (bench.finals(), bench.partials()) == ({"d/k": b"whole"}, [])
    columns = ("key", "state", "partial", "path", "size", "mtime_ns", "change", "name", "sha256")
    assert bench.rows(*columns) == [
        (
            "test/k", "complete", "", "d/k", 5, (tmp_path / "d/k").stat().st_mtime_ns, "c",
            "k as the vendor calls it.bin", hashlib.sha256(b"whole").hexdigest(),
        )
    ]  # fmt: skip


async def test_the_row_is_written_between_the_content_and_the_name(tmp_path: Path) -> None:
    """ST11, CR05: whoever is killed at the rename leaves a row that says what to do."""
    steps: list[tuple[str, list[tuple[str, str]]]] = []

    def look(call: Call) -> None:
        if call.name.endswith(".part") and call.verb in ("write", "sync", "rename"):
            steps.append((call.verb, bench.rows("state", "partial")))

    disk = RecordingDisk(look)
    bench = Bench(tmp_path, disk=disk)
    await bench.sync(many("k"))

    (name,) = {call.name for call in disk.calls if call.verb == "write" and call.name.endswith(".part")}
    assert steps == [("write", []), ("sync", []), ("rename", [("committing", name)])]
    assert [
        line for line in disk.lines("write", "sync", "rename", "sync_directory") if name in line or line.endswith(" d")
    ] == [
        f"write {name}",
        f"sync {name}",
        f"rename {name} -> k",
        "sync_directory d",
    ]


async def test_files_that_wait_together_are_committed_together(tmp_path: Path) -> None:
    """One fsync of the folder and one transaction for ten files."""
    gate, seen = RateLimiter("sync", armed=False), list[int]()

    def before(call: Call) -> None:
        gate(call)
        if call.verb == "rename" and call.name.endswith(".part"):
            seen.append(len([state for (state,) in bench.rows("state") if state == "committing"]))

    disk = RecordingDisk(before)
    bench = Bench(tmp_path, disk=disk, workers=16)

    report = await together(bench, gate, many(*names(10)), disk.calls.clear)

    assert report.failures == ()
    assert disk.lines("sync_directory") == [
        "sync_directory d",
        "sync_directory d",
    ]  # The one that was held, and the group.
    assert seen[-10:] == [10] * 10
    assert len(bench.finals()) == 11


async def test_one_by_one_each_file_is_a_group(tmp_path: Path) -> None:
    """``durability="each"``."""
    disk = RecordingDisk()
    bench = Bench(tmp_path, disk=disk, durability="each")
    await bench.sync(many("zero"))
    disk.calls.clear()

    report = await bench.sync(many(*names(5)))

    assert disk.lines("sync_directory").count("sync_directory d") == 5
    assert all(outcome.durable for outcome in report.outcomes if outcome.action is Action.FETCH)


async def test_switched_off_nothing_is_forced_to_the_disk(tmp_path: Path) -> None:
    """``durability="off"``: names still come last, and the result does not promise anything."""
    disk = RecordingDisk()
    bench = Bench(tmp_path, disk=disk, durability="off")
    await bench.sync(many("zero"))
    disk.calls.clear()

    report = await bench.sync(many(*names(5)))

    assert disk.lines("sync", "sync_data", "sync_directory") == []
    assert not any(outcome.durable for outcome in report.outcomes)
    assert len(bench.finals()) == 6
    for name in {call.name for call in disk.calls if call.verb == "write"}:
        # A file is closed before it is named: on a network, closing is what tells that it is full.
        assert [call.verb for call in disk.calls if call.name == name and call.verb in ("close", "rename")] == [
            "close",
            "rename",
        ]


async def test_a_file_system_without_fsync_promises_nothing(tmp_path: Path) -> None:
    """ST12."""
    disk = FaultyDisk()
    disk.fail("sync", errno.EINVAL)
    disk.fail("sync_directory", errno.EINVAL)
    bench = Bench(tmp_path, disk=disk)

    outcome = await bench.fetch(many("k"))

    assert (outcome.error, outcome.durable) == (None, False)
    assert bench.finals() == {"d/k": b"whole"}


async def test_a_folder_that_cannot_be_forced_to_the_disk_costs_only_the_promise(tmp_path: Path) -> None:
    """The names are given and cannot be taken back."""
    await Bench(tmp_path).sync(many("zero"))
    disk = FaultyDisk()
    disk.fail("sync_directory", errno.EIO, name="d")
    bench = Bench(tmp_path, disk=disk)

    report = await bench.sync(many("zero", "k"))

    assert [(outcome.error, outcome.durable) for outcome in report.outcomes] == [(None, False)]
    assert bench.finals()["d/k"] == b"whole"


@pytest.mark.parametrize(
    ("verb", "number", "kind", "kept"),
    [
        ("sync", errno.EIO, StorageError, False),
        ("sync", errno.ENOSPC, DiskFullError, False),
        ("chmod", errno.EPERM, StorageError, False),
        ("rename", errno.EACCES, StorageError, True),
        ("rename", errno.ENOSPC, DiskFullError, True),
    ],
)
async def test_a_file_that_fails_fails_alone(
    tmp_path: Path, verb: str, number: int, kind: type[StorageError], kept: bool
) -> None:
    """ST01, ST03, ST06: the others of its group are committed; what was verified and written down is kept."""
    gate = RateLimiter("sync", armed=False)
    disk = FaultyDisk(gate)
    disk.fail(verb, number, name=part_of("test/bad"))
    bench = Bench(tmp_path, disk=disk, workers=8)

    report = await together(bench, gate, many("a", "b", "bad", "c"))

    assert [type(outcome.error) for outcome in report.outcomes] == [type(None), type(None), kind, type(None)]
    assert report.outcomes[2].error is not None
    assert report.outcomes[2].error.file == "test/bad"
    assert sorted(bench.finals()) == ["d/a", "d/b", "d/c", "d/zero"]
    assert len(bench.partials()) == kept


async def test_a_name_that_is_taken_meanwhile_fails_alone_and_keeps_what_was_verified(tmp_path: Path) -> None:
    """ST08: and the next start brings it in once the name is free."""

    def take(call: Call) -> None:
        if call.verb == "make_directory" and call.name == "d":
            (tmp_path / "d/k").mkdir(parents=True)

    first = await Bench(tmp_path, disk=RecordingDisk(take)).fetch(many("k"))
    bench, files = Bench(tmp_path), many("k")
    (left,) = bench.partials()
    second = await bench.fetch(files)
    still = bench.partials()
    (tmp_path / "d/k").rmdir()
    third = await bench.sync(files)

    assert isinstance(first.error, DestinationBusyError)
    assert isinstance(second.error, DestinationBusyError)
    assert still == [left]
    assert (third.outcomes, third.counts[Action.KEEP], files.requested) == ((), 1, [])
    assert (bench.finals(), bench.partials()) == ({"d/k": b"whole"}, [])


async def test_a_ledger_that_refuses_fails_the_group_and_leaves_no_name(tmp_path: Path) -> None:
    """No row, no name; each file gets an error of its own."""
    gate = RateLimiter("sync", armed=False)
    bench = Bench(tmp_path, disk=RecordingDisk(gate), workers=8)

    def refuse() -> None:
        bench.change_ledger(
            "CREATE TRIGGER refuse BEFORE INSERT ON files WHEN NEW.key LIKE 'test/k%' "
            "BEGIN SELECT RAISE(ABORT, 'no'); END"
        )

    report = await together(bench, gate, many(*names(3)), refuse)
    errors = [outcome.error for outcome in report.outcomes]

    assert all(isinstance(error, StorageError) for error in errors)
    assert len({id(error) for error in errors}) == 3
    assert (sorted(bench.finals()), bench.partials()) == (["d/zero"], [])
    bench.change_ledger("DROP TRIGGER refuse")
    await bench.sync(many(*names(3)))
    assert sorted(bench.finals()) == ["d/k0", "d/k1", "d/k2", "d/zero"]


async def test_something_unforeseen_is_the_answer_and_not_a_hang(tmp_path: Path) -> None:
    """A fault of ours must not leave tasks waiting for ever."""
    disk = FaultyDisk()

    def explode(*_: Any) -> None:
        raise ZeroDivisionError

    disk.replace("sync", explode, name=part_of("test/k"))
    bench = Bench(tmp_path, disk=disk)

    report = await bench.sync(many("k", "other"))

    assert isinstance(report.outcomes[0].error, TransferError)
    assert "ZeroDivisionError" in str(report.outcomes[0].error)
    assert bench.finals() == {"d/other": b"whole"}


async def test_only_so_many_finished_files_wait_for_their_group(tmp_path: Path) -> None:
    """The rest keep their workers: no more is asked for while the disk stands still."""
    gate = RateLimiter("sync")
    files = many(*names(500))
    bench = Bench(tmp_path, disk=RecordingDisk(gate), workers=4)
    async with bench.mirror() as mirror:
        going = asyncio.create_task(mirror.sync(files))
        await gate.reached()
        await settled(files)
        requested = len(files.requested)
        gate.open()
        report = await going

    assert requested <= 1 + 64 + 64 + 4
    assert len(report.outcomes) == 500
    assert report.failures == ()


# --------------------------------------------------------------------------------------------------------- cancellation


async def ended(task: asyncio.Task[Any]) -> bool:
    """Wait for the end of a task, and return whether this was never cancelled meanwhile."""
    undisturbed = True
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            undisturbed = False
    return undisturbed


@pytest.mark.parametrize("durability", ["group", "each", "off"])
@pytest.mark.parametrize("how", HOW)
async def test_cancelled_at_every_await_a_file_is_whole_or_absent(
    tmp_path: Path, how: How, durability: Durability
) -> None:
    """CC03: what stays is always explained by the ledger, or can be resumed, and others are never harmed."""
    bench = Bench(tmp_path, durability=durability)
    ends = []
    async with bench.mirror() as mirror:

        async def job(at: int) -> str:
            beside = many(f"neighbour-{at}")
            beside.scope = "test/beside"
            neighbour = asyncio.create_task(mirror.sync(beside))
            try:
                return "done" if await mirror.sync(many(f"k{at}")) else ""
            finally:
                # A cancellation that comes here is the job's own, and none of the neighbour's.
                with anyio.CancelScope(shield=True):
                    cancelled = not await ended(neighbour)
                assert neighbour.result().failures == ()
                if cancelled:
                    raise asyncio.CancelledError

        async for stopped in cancel_at_every_await(job, how=how, everywhere=True, every=2):
            ends.append("cancelled" if stopped.cancelled else stopped.result)
            finals = bench.finals()
            assert set(finals.values()) <= {b"whole"}
            assert f"d/neighbour-{stopped.at}" in finals
            assert (f"d/k{stopped.at}" in finals) == ((f"test/k{stopped.at}",) in bench.rows("key"))
            keys = [f"k{at}" for at in range(stopped.at + 1) if f"d/k{at}" not in finals]
            assert {name[:32] for name in bench.partials()} <= {part_of(f"test/{key}")[:32] for key in keys}
            assert bench.partials("*.part") == [f"{name[:-5]}.part" for name in bench.partials("*.json")]

    assert ends[-1] == "done"
    assert len(ends) > 10


@pytest.mark.parametrize("how", HOW)
async def test_a_cancelled_task_leaves_its_file_in_the_group_and_waits_for_its_end(tmp_path: Path, how: How) -> None:
    """CC03: all or nothing, as seen when the cancellation comes out; a second cancellation changes nothing."""
    gate = RateLimiter("rename")
    bench = Bench(tmp_path, disk=RecordingDisk(gate))
    scopes: list[anyio.CancelScope] = []
    async with bench.mirror() as mirror:

        async def job() -> None:
            with anyio.CancelScope() as scope:
                scopes.append(scope)
                await mirror.sync(many("k"))

        task = asyncio.create_task(job())
        await gate.reached()
        for _ in range(2):
            task.cancel() if how == "native" else scopes[0].cancel()
            for _ in range(10):
                await asyncio.sleep(0)
        assert not task.done()
        gate.open()
        await asyncio.wait([task])

        assert task.cancelled() == (how == "native")
        assert bench.finals() == {"d/k": b"whole"}


async def test_at_the_end_of_the_event_loop_nobody_is_left_waiting(tmp_path: Path) -> None:
    """The end of a loop cancels every task, our own too: no hang, no thread left, and what was handed over is done."""
    gate = RateLimiter("sync")
    bench, files = Bench(tmp_path, disk=RecordingDisk(gate)), many(*names(3))
    mirror = bench.mirror()
    await mirror.__aenter__()
    task = asyncio.create_task(mirror.sync(files))
    await gate.reached()
    await settled(files, minimum=len(files.sources))
    for each in asyncio.all_tasks() - {asyncio.current_task()}:
        each.cancel()
    gate.open()
    await asyncio.wait([task])
    left = bench.finals()
    await mirror.aclose()

    assert task.cancelled()
    assert left == {"d/k0": b"whole", "d/k1": b"whole", "d/k2": b"whole"}
    assert bench.partials() == []
    assert not [thread for thread in threading.enumerate() if "arena_async" in thread.name]
    await Bench(tmp_path).sync(files)
    assert len(bench.finals()) == 3


async def test_closing_commits_what_waits_and_settles_the_ledger(tmp_path: Path) -> None:
    """Then every row says complete, no thread is left, and nothing more is taken."""
    gate = RateLimiter("sync")
    bench, files = Bench(tmp_path, disk=RecordingDisk(gate)), many(*names(5))
    mirror = bench.mirror()
    task = asyncio.create_task(mirror.sync(files))
    await gate.reached()
    await settled(files, minimum=len(files.sources))
    closing = asyncio.create_task(mirror.aclose())
    await asyncio.sleep(0)
    gate.open()
    await closing
    await mirror.aclose()
    await asyncio.wait([task])

    assert bench.rows("state", "partial") == [("complete", "")] * 5
    assert len(bench.finals()) == 5
    assert not [thread for thread in threading.enumerate() if "arena_async" in thread.name]
    assert isinstance(task.exception(), ClosedError)
    with pytest.raises(ClosedError):
        await mirror.sync(files)
    assert bench.partials() == []


# ------------------------------------------------------------------------------------------------------------- crashes


async def interrupted(bench: Bench, key: str, *, moved: bool) -> str:
    """Take a directory back to where a commit was killed, before its rename or after it; return the partial name."""
    name = part_of(f"test/{key}").replace("*", "0123456789abcdef")
    bench.change_ledger("UPDATE files SET state = 'committing', partial = ? WHERE key = ?", name, f"test/{key}")
    if not moved:
        (bench.root / "d" / key).rename(bench.partial / name)
        (bench.partial / name).chmod(0o600)
    return name


async def test_a_verified_file_is_not_fetched_again_after_a_kill_at_its_rename(tmp_path: Path) -> None:
    """CR05: the row and the partial file are enough; where that is gone too, the file is fetched."""
    bench, files = Bench(tmp_path), many("k", "lost")
    await bench.sync(files)
    await interrupted(bench, "k", moved=False)
    (bench.partial / await interrupted(bench, "lost", moved=False)).unlink()
    files.requested.clear()

    report = await bench.sync(files)

    assert [requested.key for requested in files.requested] == ["test/lost"]
    assert report.counts[Action.KEEP] == 1
    assert bench.finals() == {"d/k": b"whole", "d/lost": b"whole"}
    assert bench.rows("key", "state", "partial") == [("test/k", "complete", ""), ("test/lost", "complete", "")]
    assert bench.partials() == []


async def test_a_verified_file_that_another_process_is_committing_is_left_to_it(tmp_path: Path) -> None:
    """It is locked until it has its name."""
    bench, files = Bench(tmp_path), many("k")
    await bench.sync(files)
    name = await interrupted(bench, "k", moved=False)
    owner = os.open(bench.partial / name, os.O_RDWR)
    assert FileSystem().lock(owner)

    async with bench.mirror():
        during = (bench.partials(), bench.finals())
    os.close(owner)
    report = await bench.sync(files)

    assert during == ([name], {})
    assert (report.counts[Action.KEEP], len(files.requested)) == (1, 1)
    assert (bench.finals(), bench.partials()) == ({"d/k": b"whole"}, [])


@pytest.mark.parametrize("damage", ["cut", "other bytes"])
async def test_a_file_that_is_not_what_the_ledger_says_is_not_named(tmp_path: Path, damage: str) -> None:
    """Without fsync a power loss takes content and leaves names; then the file is fetched again."""
    bench, files = Bench(tmp_path), many("k")
    await bench.sync(files)
    part = bench.partial / await interrupted(bench, "k", moved=False)
    times = part.stat().st_mtime_ns
    part.write_bytes(b"who" if damage == "cut" else b"WHOLE")
    os.utime(part, ns=(times, times))

    async with bench.mirror():
        named = bench.finals()
    await bench.sync(files)

    assert named == {}
    assert len(files.requested) == 2
    assert bench.finals() == {"d/k": b"whole"}


async def test_a_name_that_was_given_before_the_kill_is_complete(tmp_path: Path) -> None:
    """CR05: between the rename and the next transaction."""
    bench, files = Bench(tmp_path), many("k")
    await bench.sync(files)
    await interrupted(bench, "k", moved=True)

    report = await bench.sync(files)

    assert (report.counts[Action.KEEP], len(files.requested)) == (1, 1)
    assert bench.rows("state", "partial") == [("complete", "")]


async def test_a_mirror_that_is_entered_settles_what_was_left(tmp_path: Path) -> None:
    """Before anything is listed."""
    bench, files = Bench(tmp_path), many("k")
    await bench.sync(files)
    await interrupted(bench, "k", moved=False)

    async with Mirror(tmp_path):
        assert bench.finals() == {"d/k": b"whole"}
