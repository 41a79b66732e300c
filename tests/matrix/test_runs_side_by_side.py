"""Rows CC30 to CC35 and SA30 to SA35: runs that share a directory, and processes that share a session."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from command_line import environment, start
from fake_clock import FakeTime
from filesets import Asked, MemoryFiles, Source, content, remote
from matrix import World, row
from offered_files import SUPPORT

from arena_async import Action, Mirror, Report
from arena_async.http.credential_store import LoginTurn, SharedCredential
from arena_async.options import MIB, Clock, RetryPolicy
from arena_async.protocol.adapter import Credential
from arena_async.protocol.messages import Secret
from arena_async.providers.arena import ArenaClient, SessionStore
from arena_async.providers.arena.sessions import SharedSessions
from arena_async.testing import ArenaSimulator, faults
from arena_async.transfer.filesystem import FileSystem, machine, start_of
from arena_async.transfer.leases import Lease, Process
from arena_async.transfer.ledger import Ledger

WAITING = "; waiting until it has ended."


@pytest.fixture
async def started() -> AsyncIterator[list[Any]]:
    """Hold the processes of a row, and end those that it has left."""
    processes: list[Any] = []
    yield processes
    for process in processes:
        if process.returncode is None:
            process.kill()
        await process.communicate()


Started = list[Any]


async def sync(started: Started, to: Path, env: dict[str, str], *words: str) -> Any:
    """Start the command in a process of its own."""
    command = [str(SUPPORT / "command_child.py")]
    words = ("sync", "arena", "extracts", "--workers", "2", "--to", str(to), *words)
    process = await start(*words, env=env, command=command)
    started.append(process)
    return process


async def ended(world: World, process: Any) -> tuple[int, str]:
    """Wait for the end of a command; return its exit code and what it wrote for people."""
    out, err = await process.communicate()
    world.saw(out.decode(), err.decode())
    return process.returncode, err.decode()


async def until_seen(service: ArenaSimulator, what: str, *, count: int = 1) -> None:
    """Wait until the service has seen some requests."""
    async with asyncio.timeout(60):
        while len(service.seen(what)) < count:
            await asyncio.sleep(0.01)


async def offered(world: World, service: ArenaSimulator) -> int:
    """Allow what the service has under its final names, and return how many files that are."""
    world.memory = 100 * MIB  # The simulator makes its content here.
    bodies = await asyncio.to_thread(lambda: {path: maker.read() for path, maker in service.files.items()})
    mine = {path: body for path, body in bodies.items() if path.startswith("arena/extracts/")}
    for path, body in mine.items():
        world.allow(path, body)
    return len(mine)


# ---- two runs on one directory


@pytest.mark.process
@row("CC30", protection="one run of a query works on a directory at a time", seconds=90)
async def test_overlapping_nightly_runs_pay_once(world: World, started: Started) -> None:
    """CC30: the second command waits, lists when the first has ended, and requests no content; both end with 0."""
    async with ArenaSimulator(files=6, size=20_000) as service:
        count, env = await offered(world, service), environment(service, PYTHONPATH=str(SUPPORT))
        go = asyncio.Event()
        service.inject(faults.delay(go), on="GET */content", times=2)
        first = await sync(started, world.root, env)
        await until_seen(service, "GET */content", count=2)
        listed = len(service.seen("GET */extracts"))
        second = await sync(started, world.root, env)
        assert second.stderr is not None
        line = (await second.stderr.readline()).decode()
        meanwhile = len(service.seen("GET */extracts"))
        go.set()
        ends = [await ended(world, process) for process in (first, second)]
        contents = Counter(seen.path for seen in service.seen("GET */content"))

    assert WAITING in line
    assert f"process {first.pid} on " in line
    assert meanwhile == listed
    assert [code for code, _ in ends] == [0, 0]
    assert sorted(contents.values()) == [1] * count


@pytest.mark.process
@row("CC31", protection="a run that is not to wait ends", seconds=90)
async def test_a_command_that_is_not_to_wait_says_so_and_ends(world: World, started: Started) -> None:
    """CC31: `--if-running fail`: exit code 1, one sentence, and not one request."""
    async with ArenaSimulator(files=2, size=20_000) as service:
        await offered(world, service)
        env = environment(service, PYTHONPATH=str(SUPPORT))
        go = asyncio.Event()
        service.inject(faults.delay(go), on="GET */content", times=2)
        first = await sync(started, world.root, env)
        await until_seen(service, "GET */content", count=2)
        before = len(service.log)
        code, lines = await ended(world, await sync(started, world.root, env, "--if-running", "fail"))
        after = len(service.log)
        go.set()
        end, _ = await ended(world, first)

    assert (code, end) == (1, 0)
    assert len(lines.splitlines()) == 1
    assert f"another run of the same query (process {first.pid} on " in lines
    assert after == before


@pytest.mark.process
@row("CC32", protection="a run ends with its process", seconds=90)
async def test_the_run_of_a_killed_process_is_not_waited_for(world: World, started: Started) -> None:
    """CC32: kill -9 in the middle; the next command begins at once, and requests again only what was not done."""
    async with ArenaSimulator(files=4, size=20_000) as service:
        count, env = await offered(world, service), environment(service, PYTHONPATH=str(SUPPORT))
        service.inject(faults.delay(asyncio.Event()), on="GET */content", times=1)
        first = await sync(started, world.root, env)
        await until_seen(service, "GET */content", count=count)
        await until_committed(world, count - 1)
        first.send_signal(signal.SIGKILL)
        await first.wait()
        async with asyncio.timeout(20):
            code, lines = await ended(world, await sync(started, world.root, env))
        contents = Counter(seen.path for seen in service.seen("GET */content"))

    assert code == 0
    assert WAITING not in lines
    assert sorted(contents.values()) == [*[1] * (count - 1), 2]


async def until_committed(world: World, count: int) -> None:
    """Wait until so many files have their final names."""
    async with asyncio.timeout(60):
        while len(list(world.root.rglob("*.zip"))) < count:
            await asyncio.sleep(0.01)


class Held(MemoryFiles):
    """Files whose content is held back until it is let go."""

    def __init__(self, *names: str, scope: str) -> None:
        rows = [remote(name) for name in names]
        super().__init__(rows, {row.key: Source(body=content(100, row.stem)) for row in rows}, scope=scope)
        self.reached, self.go = asyncio.Event(), asyncio.Event()
        self.before_open = self._hold

    async def _hold(self, _: Asked) -> None:
        self.reached.set()
        await self.go.wait()


def mirror_of(world: World, naps: list[float] | None = None) -> Mirror:
    """Return a mirror whose waits take no time, and are written down."""

    async def sleep(seconds: float) -> None:
        if naps is not None:
            naps.append(seconds)
        await asyncio.sleep(0.001)

    return Mirror(world.root, observer=world.observe, clock=Clock(sleep=sleep))


@row("CC33", protection="a file is claimed before it is requested")
async def test_another_query_does_not_request_what_is_on_its_way(world: World) -> None:
    """CC33: two queries that overlap in two of four files: each file is requested once, and each run reports it."""
    for name in "abcd":
        world.allow(f"files/{name}.bin", content(100, name))
    first, second = Held("a", "b", "c", scope="one"), Held("b", "c", "d", scope="other")
    second.go.set()
    naps: list[float] = []
    async with mirror_of(world) as one, mirror_of(world, naps) as other:
        begun = asyncio.create_task(one.sync(first))
        await first.reached.wait()
        following = asyncio.create_task(other.sync(second))
        async with asyncio.timeout(20):
            while len(naps) < 3 and not following.done():
                await asyncio.sleep(0.001)
        meanwhile = dict(second.counts)
        first.go.set()
        reports = [await begun, await following]

    assert meanwhile == {"test/d": 1}
    assert first.counts + second.counts == {f"test/{name}": 1 for name in "abcd"}
    assert [counts(report) for report in reports] == [{"fetch": 3}, {"fetch": 1, "keep": 2}]
    assert min(naps) >= 1


def counts(report: Report) -> dict[str, int]:
    """Return what was done."""
    return {action.value: count for action, count in report.counts.items() if count}


async def left_by(world: World, process: Process) -> Ledger:
    """Leave the lease of a run of another process, and return the ledger."""
    async with mirror_of(world):
        pass
    ledger = Ledger(world.root / ".arena-async" / "ledger.sqlite")
    ledger.take_lease(Lease("left", "one", process), ())
    return ledger


@row("CC34", protection="a process is named by its start too")
@pytest.mark.skipif(sys.platform != "linux", reason="Only Linux lists the children")
async def test_a_process_number_that_is_in_use_again_is_no_run(world: World) -> None:
    """CC34: the process of that number started at another time: nothing is waited for."""
    world.allow("files/a.bin", content(100, "a"))
    parent = os.getppid()
    assert start_of(parent) not in (None, "", "1")
    (await left_by(world, Process(machine(), parent, "1"))).close()
    files, naps = Held("a", scope="one"), list[float]()
    files.go.set()
    async with asyncio.timeout(5), mirror_of(world, naps) as mirror:
        report = await mirror.sync(files)

    assert counts(report) == {"fetch": 1}
    assert naps == []


@row("CC35", protection="a run elsewhere has ended when its count stands still")
async def test_a_run_of_another_machine_is_waited_for_as_long_as_it_counts(world: World) -> None:
    """CC35: whatever its clock says: for ten minutes of counting, and a minute of silence; then it begins."""
    world.allow("files/a.bin", content(100, "a"))
    elsewhere, seconds = Process("elsewhere boot pids", 1, "1"), [0.0]
    ledger = await left_by(world, elsewhere)

    async def sleep(wait: float) -> None:
        seconds[0] += wait
        if seconds[0] < 600:
            ledger.renew_lease(Lease("left", "one", elsewhere, int(seconds[0])), ())

    files = Held("a", scope="one")
    files.go.set()
    async with Mirror(world.root, clock=Clock(monotonic=lambda: seconds[0], sleep=sleep)) as mirror:
        report = await mirror.sync(files)
    ledger.close()

    assert counts(report) == {"fetch": 1}
    assert report.counts[Action.FETCH] == 1
    assert 650 <= seconds[0] <= 680


# ---- one session for the processes of a user


def client(service: ArenaSimulator, store: Path | SessionStore, **options: Any) -> ArenaClient:
    """Build a client that shares its session."""
    return service.client(session_store=store, retry=RetryPolicy(wait_initial=0, wait_jitter=0), **options)


async def use(arena: ArenaClient, service: ArenaSimulator) -> None:
    """Send any request."""
    await arena.extracts.get(service.extract)


def logins(service: ArenaSimulator) -> int:
    """Count the logins."""
    return len(service.seen("POST */login"))


@row("SA30", protection="a login is waited for as long as its process lives", seconds=10)
async def test_a_login_of_an_hour_is_waited_for(world: World, tmp_path: Path) -> None:
    """SA30: no time makes another client believe that it has ended: one login."""
    clock, go, store = FakeTime(), asyncio.Event(), tmp_path / "sessions" / "arena.json"

    async def sleep(_: float) -> None:
        clock.naps.append(1)
        clock.at += 60
        if len(clock.naps) == 60:
            go.set()
        await asyncio.sleep(0.001)

    timing = Clock(monotonic=clock, now=clock.now, sleep=sleep)
    async with ArenaSimulator(files=1) as service:
        service.inject(faults.delay(go), on="POST */login", times=1)
        async with client(service, store, clock=timing) as first, client(service, store, clock=timing) as second:
            begun = asyncio.create_task(use(first, service))
            await until_seen(service, "POST */login")
            await use(second, service)
            await begun
        assert logins(service) == 1


@row("SA31", protection="ages in the session store are not those of the date")
@pytest.mark.parametrize("step", [timedelta(days=-1), timedelta(hours=2)])
async def test_the_date_may_jump_under_a_shared_session(world: World, tmp_path: Path, step: timedelta) -> None:
    """SA31: set back or on between two processes: the session is used, and renewals stay counted."""
    date, store = [FakeTime().now()], tmp_path / "sessions" / "arena.json"
    timing = Clock(now=lambda: date[0])
    async with ArenaSimulator(files=1) as service:
        for _ in range(3):
            async with client(service, store, clock=timing) as arena:
                await use(arena, service)
            date[0] += step
        assert logins(service) == 1
        assert {seen.status for seen in service.log} == {200}


@row("SA32", protection="each user of a session store has a file")
async def test_hundreds_of_users_keep_their_sessions(world: World, tmp_path: Path) -> None:
    """SA32: 200 users log in one after the other; each finds its session again."""
    store, found = SessionStore(tmp_path / "sessions" / "arena.json"), []
    for again in (False, True):
        for number in range(200):
            sessions = SharedSessions(store, f"user {number}", clock=Clock())
            turn = await sessions.take(rejected=None)
            if isinstance(turn, SharedCredential):
                found.append(turn.credential.headers[0][1].reveal())
            elif not again:
                assert turn == LoginTurn()
                headers = (("arena_session_id", Secret(f"s{number}")),)
                await sessions.put(Credential(headers=headers, idle_lifetime=5400.0), relogin=False)
            await sessions.aclose()

    assert found == [f"s{number}" for number in range(200)]


@row("SA33", protection="only the last one logs out")
async def test_only_the_last_one_logs_out_of_a_shared_session(world: World, tmp_path: Path) -> None:
    """SA33: the first to leave sends nothing; the session lives until the other one leaves."""
    store = SessionStore(tmp_path / "sessions" / "arena.json", log_out=True)
    async with ArenaSimulator(files=1) as service:
        async with client(service, store) as first:
            await use(first, service)
            async with client(service, store) as second:
                await use(second, service)
            before = len(service.seen("PUT */logout"))
            await use(first, service)
        assert before == 0
        assert [seen.status for seen in service.seen("PUT */logout")] == [200]
        assert logins(service) == 1


@pytest.mark.process
@row("SA34", protection="commands share the session of a user", seconds=90)
async def test_commands_at_the_same_time_share_one_session(world: World, started: Started, tmp_path: Path) -> None:
    """SA34: two commands into two directories: one login, one logout, and no session is ended under a command."""
    async with ArenaSimulator(files=2, size=20_000) as service:
        await offered(world, service)
        env = environment(service, PYTHONPATH=str(SUPPORT), ARENA_ASYNC_STATE=str(tmp_path / "state"))
        go = asyncio.Event()
        service.inject(faults.delay(go), on="GET */content", times=4)
        commands = [await sync(started, to, env) for to in (world.root, tmp_path / "other")]
        await until_seen(service, "GET */content", count=4)
        go.set()
        ends = [await ended(world, command) for command in commands]
        statuses = {seen.status for seen in service.log}

    assert [code for code, _ in ends] == [0, 0]
    assert (logins(service), len(service.seen("PUT */logout")), statuses) == (1, 1, {200})


@row("SA35", protection="a login that counts goes on, also without locks")
async def test_without_locks_a_login_elsewhere_is_waited_for(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SA35: every lock is granted; a login that counts is waited for, and a minute after its last count no more."""
    monkeypatch.setattr(FileSystem, "lock", lambda self, file: True)
    clock, store = FakeTime(), tmp_path / "sessions" / "arena.json"
    began = clock.at
    claim: dict[str, Any] = {"by": "other", "count": 0, "machine": "elsewhere", "pid": 1, "start": "1"}

    def leave() -> None:
        (path,) = store.parent.glob("arena-*.json")
        path.write_text(json.dumps({**json.loads(path.read_text()), "session": None, "claim": claim}))

    async def sleep(_: float) -> None:
        clock.at += 10
        if clock.at < began + 300:
            claim["count"] += 1
            leave()
        await asyncio.sleep(0)

    async with ArenaSimulator(files=1) as service:
        async with client(service, store) as arena:
            await use(arena, service)
        leave()
        async with client(service, store, clock=Clock(monotonic=clock, sleep=sleep)) as arena:
            await use(arena, service)
        assert logins(service) == 2

    assert 350 <= clock.at - began <= 380
