"""Runs that share a directory: one run of a query at a time, and each file in one run at a time."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from directory_bench import Bench, many
from disks import Call, FaultyDisk
from filesets import Asked, MemoryFiles, Source, remote
from jumping_loop import Leaps

from arena_async import Action, Finished, Mirror, RemoteFile
from arena_async.errors import ClosedError, ConfigurationError, DestinationBusyError, NotFoundError
from arena_async.transfer.filesystem import machine, start_of
from arena_async.transfer.leases import Lease, Process, Silence, has_ended, pause_after
from arena_async.transfer.ledger import Ledger

HERE = "host boot pids"
US = Process(HERE, 100, "5")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Return a directory."""
    return Bench(tmp_path, durability="off")


class Gate:
    """Holds every request for content until it is opened."""

    def __init__(self, files: MemoryFiles) -> None:
        self.reached = asyncio.Event()
        self.opened = asyncio.Event()
        files.before_open = self._wait

    async def _wait(self, _: Asked) -> None:
        self.reached.set()
        await self.opened.wait()


@contextmanager
def child() -> Iterator[subprocess.Popen[bytes]]:
    """Run a process that does nothing until its stdin is closed."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as made:
        yield made


def dead() -> Process:
    """Return a process of this machine that has ended."""
    with child() as one:
        return Process(machine(), one.pid, start_of(one.pid) or "")


async def leave_lease(
    bench: Bench, process: Process, *, claims: tuple[str, ...] = (), scope: str = "test/files"
) -> None:
    """Leave the lease of a run that was killed."""
    async with bench.mirror():
        pass
    ledger = Ledger(bench.root / ".arena-async" / "ledger.sqlite")
    lease = Lease("left", scope, process)
    ledger.take_lease(lease, ())
    ledger.claim(lease.id, claims)
    ledger.close()


# ---- what has ended


@pytest.mark.parametrize(
    ("process", "silence", "ours", "start", "ended"),
    [
        (US, 0.0, True, "5", False),
        # A lease of ours that no run of this process has: its ledger was copied, or belongs to a run that is over.
        (US, 0.0, False, "5", True),
        (Process(HERE, 7, "5"), 0.0, False, "5", False),
        (Process(HERE, 7, "5"), 59.0, False, "5", False),
        (Process(HERE, 7, "5"), 0.0, False, None, True),
        # The number belongs to another process now.
        (Process(HERE, 7, "5"), 0.0, False, "6", True),
        # Where the start is not known, only silence says so.
        (Process(HERE, 7, ""), 0.0, False, "6", False),
        (Process(HERE, 7, "5"), 0.0, False, "", False),
        (Process(HERE, 7, ""), 60.0, False, "", True),
        # Numbers of other machines, boots and namespaces mean nothing here.
        (Process("host reboot pids", 7, "5"), 59.9, False, None, False),
        (Process("other boot pids", 7, "5"), 60.0, False, "5", True),
        (Process("host boot container", 100, "5"), 0.0, False, None, False),
    ],
)
def test_what_has_ended(process: Process, silence: float, ours: bool, start: str | None, ended: bool) -> None:
    """At once where the process is known to be gone, else after a minute without a count."""
    assert has_ended(process, silence, us=US, ours=ours, start_of=lambda _: start) is ended


def test_a_count_that_moves_ends_the_silence_whatever_the_clocks_say() -> None:
    """The seconds are those of the one that looks, from its first look on."""
    now = [1000.0]
    silence = Silence(lambda: now[0])
    seen = []
    for seconds, count in ((0, 7), (50, 7), (5, 8), (50, 8), (9, 8), (1, 3), (61, 3)):
        now[0] += seconds
        seen.append(silence.of("run", count))

    assert seen == [0, 50, 0, 50, 59, 0, 61]


def test_the_pauses_between_two_looks_grow_from_a_second_to_ten() -> None:
    """None is shorter than a second."""
    assert [round(pause_after(looks), 2) for looks in range(8)] == [1.0, 1.5, 2.25, 3.38, 5.06, 7.59, 10.0, 10.0]
    assert pause_after(10**6) == 10.0


@pytest.mark.skipif(sys.platform != "linux", reason="Only Linux lists the children")
def test_the_start_of_a_process_tells_it_from_another_one_of_its_number() -> None:
    """It stays the same as long as the process lives, and a process that was not waited for yet has ended too."""
    with child() as one:
        first, second = start_of(one.pid), start_of(one.pid)
        one.kill()
        os.waitid(os.P_PID, one.pid, os.WEXITED | os.WNOWAIT)
        ended = start_of(one.pid)

    assert first == second != ""
    assert start_of(os.getpid()) not in ("", first, None)
    assert ended is None
    assert start_of(1 << 40) is None


# ---- the same query twice


@pytest.mark.parametrize("mirrors", [1, 2])
async def test_of_two_syncs_of_one_query_the_second_waits_and_fetches_nothing(bench: Bench, mirrors: int) -> None:
    """In one mirror or in two of a process: each file is requested once, and both report it."""
    files, again = many("a", "b", "c"), many("a", "b", "c")
    gate = Gate(files)
    async with bench.mirror() as first, bench.mirror() as other:
        begun = asyncio.create_task(first.sync(files))
        await gate.reached.wait()
        following = asyncio.create_task((first if mirrors == 1 else other).sync(again))
        while len(bench.waits) < 5:
            await asyncio.sleep(0)
        listed_meanwhile = again.listings
        gate.opened.set()
        one, two = await begun, await following

    assert listed_meanwhile == 0
    assert (one.counts[Action.FETCH], two.counts[Action.FETCH], two.counts[Action.KEEP]) == (3, 0, 3)
    assert again.requested == []
    assert min(bench.waits) >= 1.0
    assert bench.rows("id", table="(SELECT id, '' AS key FROM leases)") == []


async def test_a_sync_that_is_not_to_wait_fails_before_it_lists_anything(bench: Bench) -> None:
    """The error names the process that works on the directory, and what to do."""
    files, again = many("a"), many("a")
    gate = Gate(files)
    async with bench.mirror() as first, Mirror(bench.root, if_running="fail") as second:
        begun = asyncio.create_task(first.sync(files))
        await gate.reached.wait()
        with pytest.raises(DestinationBusyError, match=rf"another run .*process {os.getpid()} on .*--if-running wait"):
            await second.sync(again)
        gate.opened.set()
        await begun
        later = await second.sync(again)

    assert again.listings == 1
    assert later.counts[Action.KEEP] == 1


def test_if_running_is_wait_or_fail(tmp_path: Path) -> None:
    """Anything else is an error of the caller."""
    with pytest.raises(ConfigurationError, match="if_running is 'later'; it takes wait or fail"):
        Mirror(tmp_path, if_running="later")  # type: ignore[arg-type]


async def test_a_run_that_waits_says_so_once_and_can_be_cancelled(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """It leaves nothing behind, and the run that it waited for goes on."""
    files = many("a")
    gate = Gate(files)
    with caplog.at_level(logging.WARNING, "arena_async"):
        async with bench.mirror() as mirror:
            begun = asyncio.create_task(mirror.sync(files))
            await gate.reached.wait()
            waiting = asyncio.create_task(mirror.sync(many("a")))
            while len(bench.waits) < 3:
                await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            held = bench.rows("key", table="(SELECT id AS key FROM leases)")
            gate.opened.set()
            report = await begun

    (record,) = caplog.records
    assert record.getMessage().endswith(
        f": another run of the same query (process {os.getpid()} on {machine().partition(' ')[0]}) works on this "
        "folder; waiting until it has ended."
    )
    assert len(held) == 1
    assert report.counts[Action.FETCH] == 1


async def test_a_directory_that_is_closed_ends_the_run_that_waits(bench: Bench) -> None:
    """The run is over with an error, and leaves no lease."""
    files = many("a")
    gate = Gate(files)
    async with bench.mirror() as mirror:
        begun = asyncio.create_task(mirror.sync(files))
        await gate.reached.wait()
        second = bench.mirror()
        waiting = asyncio.create_task(second.sync(many("a")))
        while not bench.waits:
            await asyncio.sleep(0)
        await second.aclose()
        with pytest.raises(ClosedError):
            await waiting
        gate.opened.set()
        await begun

    assert bench.rows("key", table="(SELECT id AS key FROM leases)") == []


async def test_a_sync_that_is_cancelled_leaves_no_lease_and_no_claim(bench: Bench) -> None:
    """The next one begins at once."""
    files = many("a")
    gate = Gate(files)
    async with bench.mirror() as mirror:
        begun = asyncio.create_task(mirror.sync(files))
        await gate.reached.wait()
        claimed = bench.rows("key", table="claims")
        begun.cancel()
        with pytest.raises(asyncio.CancelledError):
            await begun
        left = bench.rows("key", table="(SELECT id AS key FROM leases UNION ALL SELECT key FROM claims)")
        report = await mirror.sync(many("a"))

    assert claimed == [("test/a",)]
    assert left == []
    assert (report.counts[Action.FETCH], bench.waits) == (1, [])


# ---- runs that were killed, here and elsewhere


@pytest.mark.parametrize("scope", ["test/files", "another query"])
async def test_the_lease_of_a_dead_process_is_void_at_once(bench: Bench, scope: str) -> None:
    """With its claims, and without a wait."""
    await leave_lease(bench, dead(), claims=("test/a",), scope=scope)

    report = await bench.sync(many("a"))

    assert (report.counts[Action.FETCH], bench.waits) == (1, [])
    assert bench.rows("key", table="(SELECT id AS key FROM leases UNION ALL SELECT key FROM claims)") == []


@pytest.mark.skipif(sys.platform != "linux", reason="Only Linux lists the children")
async def test_a_process_that_has_the_number_of_a_dead_one_is_not_waited_for(bench: Bench) -> None:
    """The number is in use again, by a process that started at another time."""
    with child() as other:
        await leave_lease(bench, Process(machine(), other.pid, "1"))
        report = await bench.sync(many("a"))

    assert (report.counts[Action.FETCH], bench.waits) == (1, [])


async def test_a_lease_of_another_machine_is_void_after_a_minute_without_a_count(tmp_path: Path) -> None:
    """As long as it counts it is waited for, by the clock of the one that waits."""
    seconds, beats = [0.0], [0]
    bench = Bench(tmp_path, durability="off", clock=lambda: seconds[0])
    elsewhere = Process("elsewhere boot pids", 1, "1")
    await leave_lease(bench, elsewhere)
    ledger = Ledger(bench.root / ".arena-async" / "ledger.sqlite")

    class Ticking(Bench):
        async def sleep(self, wait: float) -> None:
            self.waits.append(wait)
            seconds[0] += wait
            if seconds[0] < 100:
                beats[0] += 1
                ledger.renew_lease(Lease("left", "test/files", elsewhere, beats[0]), ())

    ticking = Ticking(tmp_path, durability="off", clock=lambda: seconds[0])
    report = await ticking.sync(many("a"))
    ledger.close()

    assert report.counts[Action.FETCH] == 1
    assert 150 <= seconds[0] <= 175
    assert min(ticking.waits) == 1.0
    assert max(ticking.waits) == 10.0


# ---- other queries with the same files


def other_query(*names: str) -> MemoryFiles:
    """Return another query that finds the same files."""
    files = many(*names)
    files.scope = "another query"
    return files


async def until_waiting(bench: Bench, times: int = 3) -> None:
    """Wait until a run has waited for another one some times."""
    while len(bench.waits) < times:
        await asyncio.sleep(0)


async def test_a_file_that_another_query_downloads_is_not_requested_as_well(bench: Bench) -> None:
    """The other files go on meanwhile; then it is here, and kept."""
    first, second = many("a", "b"), other_query("b", "c")
    gate = Gate(first)
    async with bench.mirror() as mirror, bench.mirror() as other:
        begun = asyncio.create_task(mirror.sync(first))
        await gate.reached.wait()
        following = asyncio.create_task(other.sync(second))
        await until_waiting(bench)
        meanwhile = list(second.counts)
        gate.opened.set()
        one, two = await begun, await following

    assert meanwhile == ["test/c"]
    assert (one.counts[Action.FETCH], two.counts[Action.FETCH], two.counts[Action.KEEP]) == (2, 1, 1)
    assert (first.counts, second.counts) == ({"test/a": 1, "test/b": 1}, {"test/c": 1})
    assert two.not_started == 0


async def test_a_file_that_another_query_could_not_download_is_requested_when_that_has_ended(bench: Bench) -> None:
    """Its claim is gone with its lease."""
    first, second = many("a"), other_query("a")
    first.sources["test/a"].faults = [NotFoundError("gone here", status=404)]
    gate = Gate(first)
    async with bench.mirror() as mirror, bench.mirror() as other:
        begun = asyncio.create_task(mirror.sync(first))
        await gate.reached.wait()
        following = asyncio.create_task(other.sync(second, ask_again=True))
        await until_waiting(bench)
        gate.opened.set()
        await begun
        report = await following

    assert report.counts[Action.FETCH] == 1
    assert second.counts == {"test/a": 1}


async def test_a_claim_that_is_given_up_is_free_before_its_run_has_ended(tmp_path: Path) -> None:
    """A run that goes on for hours does not keep the others from a file that it failed."""
    ledger = Ledger(tmp_path / "ledger.sqlite")
    one, two = (Lease(name, name, US) for name in ("one", "two"))
    ledger.take_lease(one, ())
    ledger.take_lease(two, ())

    assert ledger.claim("one", ["a", "b"]) == (set(), {})
    assert ledger.claim("two", ["a", "b", "c"]) == ({"a", "b"}, {})
    ledger.renew_lease(one, ["a", "c"])
    assert ledger.claim("two", ["a", "b", "c"]) == ({"b"}, {})
    assert ledger.claim("one", ["a", "b", "c"]) == ({"a", "c"}, {})
    ledger.end_leases([one])
    assert ledger.claim("two", ["a", "b", "c"]) == (set(), {})
    ledger.close()


async def test_a_lease_that_counted_on_since_it_was_read_is_not_removed(tmp_path: Path) -> None:
    """What looked dead a moment ago may live."""
    ledger = Ledger(tmp_path / "ledger.sqlite")
    ledger.take_lease(Lease("one", "q", US, 3), ())
    (seen,) = ledger.other_leases(but="two")
    ledger.renew_lease(Lease("one", "q", US, 4), ())

    assert ledger.take_lease(Lease("two", "q", US), [seen]) == [Lease("one", "q", US, 4)]
    assert ledger.other_leases(but="one") == []
    ledger.close()


async def test_a_file_that_was_committed_between_a_decision_and_its_claim_is_not_requested(tmp_path: Path) -> None:
    """The other run has it, and has given its claim up; nothing shows it but the ledger."""
    source = Bench(tmp_path / "there", durability="off")
    await source.sync(other_query("a"))
    done: list[Call] = []

    def commit(call: Call) -> None:
        if call.verb == "free" and not done:
            done.append(call)
            shutil.copytree(source.root / "d", bench.root / "d")
            ledger = Ledger(source.root / ".arena-async" / "ledger.sqlite")
            entries = ledger.entries()
            ledger.close()
            ledger = Ledger(bench.root / ".arena-async" / "ledger.sqlite")
            ledger.write(entries)
            ledger.close()

    bench = Bench(tmp_path / "here", durability="off", disk=FaultyDisk(commit))
    files = many("a")
    report = await bench.sync(files)

    assert len(done) == 1
    assert files.requested == []
    assert report.counts[Action.KEEP] == 1


async def test_what_was_claimed_is_free_once_it_is_committed(bench: Bench) -> None:
    """A long run holds few claims at a time."""
    rows = [remote(f"f{number}", extension="") for number in range(300)]
    files = MemoryFiles(rows, {row.key: Source(body=b"x") for row in rows})
    claimed: list[int] = []

    async def count(_: Asked) -> None:
        claimed.append(len(bench.rows("key", table="claims")))

    files.before_open = count
    await bench.sync(files, workers=1)

    assert len(claimed) == 300
    assert claimed[-1] < 150


async def test_two_queries_that_wait_for_each_other_both_end(bench: Bench) -> None:
    """Each has a file that the other one lists later; neither waits with a file in hand."""
    first, second = many("a", "b"), other_query("b", "a")
    gates = [Gate(first), Gate(second)]

    def listed(files: MemoryFiles) -> None:
        row, later = files.rows  # type: ignore[misc]

        async def rows() -> AsyncIterator[RemoteFile]:
            yield row
            for gate in gates:
                await gate.reached.wait()
            yield later

        files.rows = rows

    listed(first)
    listed(second)
    async with bench.mirror() as mirror, bench.mirror() as other, asyncio.timeout(60):
        both = asyncio.gather(mirror.sync(first), other.sync(second))
        await until_waiting(bench, 6)
        for gate in gates:
            gate.opened.set()
        one, two = await both

    assert (first.counts, second.counts) == ({"test/a": 1}, {"test/b": 1})
    assert (one.counts[Action.KEEP], two.counts[Action.KEEP]) == (1, 1)


async def test_a_run_counts_every_ten_seconds_and_gives_up_what_it_failed(bench: Bench) -> None:
    """Also while nothing arrives; a lease that was lost meanwhile is there again."""
    files, second = many("a", "b"), other_query("a")
    files.sources["test/a"].faults = [NotFoundError("not here", status=404)]
    opened = asyncio.Event()

    async def hold(asked: Asked) -> None:
        if asked.key == "test/b":
            await opened.wait()

    files.before_open = hold
    leaps = Leaps()
    async with bench.mirror() as mirror, bench.mirror() as other, asyncio.timeout(60):
        begun = asyncio.create_task(mirror.sync(files))
        while not any(isinstance(event, Finished) for event in bench.events):
            await asyncio.sleep(0)
        before = bench.rows("beats", table="(SELECT id AS key, beats FROM leases)")
        await asyncio.sleep(0.05)
        still = bench.rows("beats", table="(SELECT id AS key, beats FROM leases)")
        bench.change_ledger("DELETE FROM leases")
        leaps.leap(10.5)
        while not (rows := bench.rows("beats", table="(SELECT id AS key, beats FROM leases)")):
            await asyncio.sleep(0)
        report = await other.sync(second, ask_again=True)
        opened.set()
        await begun

    assert (before, still, rows) == ([(0,)], [(0,)], [(1,)])
    assert report.counts[Action.FETCH] == 1
    assert second.counts == {"test/a": 1}
