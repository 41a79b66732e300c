"""Killed while the service worked: the next process waits for the same run and starts no other."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import attrs
import pytest
from command_line import environment

from arena_async.testing import ArenaSimulator, faults

SUPPORT = Path(__file__).parent.parent / "support"

pytestmark = pytest.mark.process


@attrs.define
class World:
    """The time of a simulated Arena: that of this machine, until the test lets some of it pass."""

    now: float = attrs.field(factory=time.time)

    def __call__(self) -> float:
        return self.now


async def start(simulator: ArenaSimulator, **settings: Any) -> asyncio.subprocess.Process:
    """Start a process that does the job."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        str(SUPPORT / "fetch_child.py"),
        json.dumps(settings),
        env=environment(simulator),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def finish(child: asyncio.subprocess.Process) -> dict[str, Any]:
    """Wait for its end and give what it told."""
    async with asyncio.timeout(30):
        out, err = await child.communicate()
    assert child.returncode == 0, err.decode()
    reported: dict[str, Any] = json.loads(out)
    return reported


async def kill(child: asyncio.subprocess.Process) -> None:
    """End it at once, as ``kill -9`` does."""
    child.kill()
    await child.communicate()


async def test_a_run_that_was_started_is_waited_for_by_the_next_process(tmp_path: Path) -> None:
    """One POST in the log of the server, and the file is the one the service has."""
    world = World()
    async with ArenaSimulator(clock=world, run_seconds=60) as simulator, asyncio.timeout(60):
        child = await start(simulator, definition=simulator.export, to=str(tmp_path))
        await simulator.until(lambda: len(simulator.seen("GET */runs/*")) >= 2)
        await kill(child)
        run = simulator.exports[simulator.export].runs[-1]
        assert run.status == "RUNNING"
        world.now += 61
        reported = await finish(await start(simulator, definition=simulator.export, to=str(tmp_path)))
        posts = simulator.seen("POST */runs")
        (path,) = (Path(one) for one in reported["paths"])
        expected = simulator.sha256[path.relative_to(tmp_path).as_posix()]

    assert (reported["run"], reported["resumed"]) == (run.guid, True)
    assert len(posts) == 1
    assert hashlib.sha256(path.read_bytes()).hexdigest() == expected


async def test_a_start_whose_answer_came_too_late_is_found_by_the_next_process(tmp_path: Path) -> None:
    """The service has carried it out, and the process that asked for it never knew."""
    world = World()
    async with ArenaSimulator(clock=world, run_seconds=60) as simulator, asyncio.timeout(60):
        simulator.inject(faults.stall(), on="POST */runs")
        before = len(simulator.exports[simulator.export].runs)
        child = await start(simulator, definition=simulator.export, to=str(tmp_path))
        await simulator.until(lambda: len(simulator.exports[simulator.export].runs) > before)
        await kill(child)
        run = simulator.exports[simulator.export].runs[-1]
        world.now += 61
        reported = await finish(await start(simulator, definition=simulator.export, to=str(tmp_path)))
        posts, looks = simulator.seen("POST */runs"), simulator.seen("GET */runs")

    assert (reported["run"], reported["resumed"]) == (run.guid, True)
    assert (len(posts), len(looks)) == (1, 1)


async def test_a_start_that_was_never_heard_is_made_by_the_next_process(tmp_path: Path) -> None:
    """It looks at the list for ten minutes first: the second POST is not a blind one."""
    async with ArenaSimulator(run_seconds=0) as simulator, asyncio.timeout(60):
        simulator.inject(faults.hang(), on="POST */runs")
        child = await start(simulator, definition=simulator.export, to=str(tmp_path))
        await simulator.until(lambda: simulator.seen("POST */runs"))
        await kill(child)
        reported = await finish(await start(simulator, definition=simulator.export, to=str(tmp_path), hurried=True))
        order = [seen.method for seen in simulator.log if seen.path.endswith("/runs")]
        runs = [run.guid for run in simulator.exports[simulator.export].runs]

    assert (order[0], order[-1], set(order[1:-1])) == ("POST", "POST", {"GET"})
    assert 10 <= len(order[1:-1]) <= 15
    assert not reported["resumed"]
    assert reported["run"] == runs[-1]


async def test_a_file_that_was_uploaded_is_not_uploaded_again(tmp_path: Path) -> None:
    """A check of an import, killed while the engine worked."""
    sheet = tmp_path / "prices.csv"
    sheet.write_bytes(b"number,price\r\n900-1,5\r\n")
    world = World()
    job = {"file": str(sheet), "to": str(tmp_path / "out")}
    async with ArenaSimulator(clock=world, run_seconds=60) as simulator, asyncio.timeout(60):
        child = await start(simulator, definition=simulator.import_, **job)
        await simulator.until(lambda: len(simulator.seen("GET */runs/*")) >= 2)
        await kill(child)
        world.now += 61
        reported = await finish(await start(simulator, definition=simulator.import_, **job))
        posts = simulator.seen("POST */runs")

    assert reported["resumed"]
    assert len(posts) == 1
    assert [Path(path).name for path in reported["paths"]] == ["result.csv"]


@pytest.mark.parametrize("restored", [False, True], ids=["as it was", "without its directory"])
async def test_an_import_that_commits_is_sent_once_wherever_its_process_is_killed(
    tmp_path: Path, restored: bool
) -> None:
    """Whenever the service does it; a directory that is gone takes no record with it."""
    sheet = tmp_path / "prices.csv"
    sheet.write_bytes(b"number,price\r\n900-1,5\r\n")
    job = {"file": str(sheet), "to": str(tmp_path / "out"), "commit": True, "hurried": True}
    async with ArenaSimulator(run_seconds=0) as simulator, asyncio.timeout(60):
        simulator.inject(faults.hang(), on="POST */runs")
        child = await start(simulator, definition=simulator.import_, **job)
        await simulator.until(lambda: simulator.seen("POST */runs"))
        await kill(child)
        if restored:
            shutil.rmtree(tmp_path / "out")
        child = await start(simulator, definition=simulator.import_, **job)
        _, unknown = await child.communicate()
        # The service carries it out only now.
        run = simulator.add_import_run(errors=0)
        run.created, run.commit = time.time(), True
        reported = await finish(await start(simulator, definition=simulator.import_, **job))
        posts = simulator.seen("POST */runs")

    assert b"It may have been carried out although the service does not show it" in unknown
    assert (reported["run"], reported["resumed"], len(posts)) == (run.guid, True, 1)


async def test_a_commit_is_sent_once_by_two_processes_and_the_one_that_was_killed(tmp_path: Path) -> None:
    """The second finds the record of the first, and the third that of both."""
    async with ArenaSimulator() as simulator, asyncio.timeout(60):
        run = simulator.add_import_run(errors=0)
        run.commit = False
        simulator.inject(faults.hang(), on="PUT */runs/*")
        job = {"definition": simulator.import_, "run": run.guid}
        child = await start(simulator, **job)
        await simulator.until(lambda: simulator.seen("PUT */runs/*"))
        await kill(child)
        others = [await start(simulator, **job) for _ in range(2)]
        await simulator.until(lambda: len(simulator.seen("GET */runs/*")) >= 5)
        run.commit = True
        reported = [await finish(other) for other in others]
        puts = simulator.seen("PUT */runs/*")

    assert [one["commit"] for one in reported] == [True, True]
    assert len(puts) == 1
