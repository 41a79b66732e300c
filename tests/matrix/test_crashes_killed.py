"""Rows CR01, CR03, CR05, CR06, CR10 and CR12: processes that end without warning, and what the next one finds."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from disks import FaultyDisk
from filesets import content
from lives import Lives
from matrix import World, row
from offered_files import age, bodies_at_home, offer, partials, requested, state
from scripted import RawServer
from session_files import download, session_files

from arena_async.errors import ArenaAsyncError
from arena_async.options import KIB
from arena_async.transfer.models import Action

BODY = content(150_000, "a")

pytestmark = pytest.mark.process


@pytest.fixture
async def lives() -> AsyncIterator[Lives]:
    """Yield a process that lives many times."""
    async with Lives() as found:
        yield found


def finals(root: Path) -> dict[str, bytes]:
    """Return what lies under final names."""
    return {path.name: path.read_bytes() for path in (root / "files").glob("*")}


async def kill_before_every_step(
    lives: Lives, root: Path, steps: range, *, files: dict[str, bytes], base_url: str
) -> list[str]:
    """Kill a life before each of some steps, let another one follow, and say what is not as it has to be."""
    wrong: list[str] = []
    whole = {f"{name}.bin": body for name, body in files.items()}
    settings = {"base_url": base_url, "files": {name: len(body) for name, body in files.items()}, "powered": True}
    for step in steps:
        directory = root / str(step)
        killed = await lives.live(to=str(directory), kill_at=step, **settings)
        # Files that are ready at the same moment share a group, so that one life takes some steps fewer than another.
        came_first = killed.code == 0 and killed.report["steps"] < step
        if killed.code != -signal.SIGKILL and not came_first:
            wrong.append(f"step {step}: it ended by itself: {killed}")
        left = finals(directory)
        if not left.items() <= whole.items():
            wrong.append(f"step {step}: {[(name, len(body)) for name, body in left.items()]} lie under final names")
        age(directory)
        again = await lives.live(to=str(directory), **settings)
        kept = again.report["counts"].get("keep", 0) if again.code == 0 else -1
        if again.code or again.report["failures"] or finals(directory) != whole or kept < len(left):
            wrong.append(f"step {step}: the next run ended with {again}")
    return wrong


@row("CR01", protection="a file gets its final name in one step", seconds=300)
async def test_a_kill_before_any_step_leaves_whole_files_and_a_next_run_that_ends_well(
    world: World, lives: Lives
) -> None:
    """
    CR01: SIGKILL before every call to the file system and every statement of the ledger, in one fresh download.

    At the kill every final name is whole or absent; the next run keeps what is there, and ends in the whole folder with
    nothing left beside it.
    """
    files = {"a": BODY, "b": content(10, "b")}
    async with RawServer() as server, Lives() as others:
        offer(world, server, files)
        sizes = {name: len(body) for name, body in files.items()}
        first = await lives.live(to=str(world.root / "0"), base_url=server.base_url, files=sizes, powered=True)
        steps = first.report["steps"]
        found = await asyncio.gather(
            kill_before_every_step(lives, world.root, range(1, steps, 2), files=files, base_url=server.base_url),
            kill_before_every_step(others, world.root, range(2, steps, 2), files=files, base_url=server.base_url),
        )

    assert steps >= 120
    assert [line for lines in found for line in lines] == []


@row("CR03", protection="what came is recorded while it comes", seconds=300)
async def test_a_chain_of_200_kills_at_random_bytes_ends_well(world: World, lives: Lives) -> None:
    """CR03: each life goes on where the one before had recorded: no more comes than the file and a unit for each."""
    chance, kills, unit, size = random.Random(3), 200, 256 * KIB, 13_000_000
    body = content(size, "a")
    received, world.memory = 0, 8 * size  # The server holds the file, and what it has cut out of it.
    async with RawServer() as server:
        offer(world, server, {"a": body}, piece=128 * KIB, between=_no_pause)
        settings: dict[str, Any] = {"to": str(world.root), "base_url": server.base_url, "files": {"a": size}}
        settings |= {"flush_unit": unit, "workers": 1, "powered": True}
        for _ in range(kills):
            killed = await lives.live(**settings, kill_after=chance.randrange(1, unit * 6 // 5))
            assert killed.code == -signal.SIGKILL, killed
            received += next(int(line.split()[1]) for line in killed.lines if line.startswith("received"))
        last = await lives.live(**settings)

    assert last.report["failures"] == 0
    starts = [0 if requested_for is None else int(requested_for[6:-1]) for requested_for in requested(server, "a")]
    assert len(starts) == kills + 1
    assert starts == sorted(starts)

    assert starts[-1] >= 20 * unit
    assert received + last.report["received"] <= size + kills * unit
    assert bodies_at_home(world) == {"files/a.bin": body}


async def _no_pause() -> None:
    """Let the server send piece by piece, so that little is on its way at a kill."""


@row("CR05", protection="a record without its file is swept away")
async def test_a_kill_between_the_name_and_the_end_of_the_record_costs_nothing(world: World, lives: Lives) -> None:
    """CR05: the file has its name and its control record is still there: nothing is fetched, and the record goes."""
    async with RawServer() as server:
        offer(world, server, {"a": BODY})
        settings = {"to": str(world.root), "base_url": server.base_url, "files": {"a": len(BODY)}}
        killed = await lives.live(**settings, die=["unlink", "*.json", 1])
        left = (bodies_at_home(world), [path.suffix for path in partials(world)])
        again = await lives.live(**settings)

    assert killed.code == -signal.SIGKILL
    assert left == ({"files/a.bin": BODY}, [".json"])
    assert again.report["counts"] == {"keep": 1}
    assert requested(server, "a") == [None]
    assert partials(world) == []


@row("CR06", protection="a control record is replaced in one step")
@pytest.mark.parametrize("verb", ["create", "write", "sync", "rename"])
async def test_a_kill_while_a_record_is_replaced_leaves_the_one_before(world: World, lives: Lives, verb: str) -> None:
    """CR06: wherever it is interrupted, the next run goes on from the older record, after a look at the tail."""
    async with RawServer() as server:
        offer(world, server, {"a": BODY})
        settings = {"to": str(world.root), "base_url": server.base_url, "files": {"a": len(BODY)}}
        # The first small file is tenant.json, the second is the first record.
        killed = await lives.live(**settings, die=[verb, "new-*", 3])
        again = await lives.live(**settings)

    assert killed.code == -signal.SIGKILL
    assert again.report["failures"] == 0
    assert requested(server, "a") == [None, "bytes=65536-"]
    assert bodies_at_home(world) == {"files/a.bin": BODY}


def _cut(journal: bytes) -> bytes:
    return journal[:-1000]


def _garbled(journal: bytes) -> bytes:
    return journal[:-1000] + bytes(byte ^ 0x5A for byte in journal[-1000:])


@row("CR10", protection="the journal of the ledger drops what is torn and keeps the rest")
@pytest.mark.parametrize("tear", [_cut, _garbled], ids=["cut", "garbled"])
async def test_a_torn_end_of_the_journal_costs_only_what_it_said(
    world: World, lives: Lives, tear: Callable[[bytes], bytes]
) -> None:
    """CR10: the last entry is torn: files of the entries before it are kept, and only the others are asked for."""
    bodies = {f"f{number}": content(20_000, str(number)) for number in range(8)}
    async with RawServer() as server:
        offer(world, server, bodies)
        files = {name: len(body) for name, body in bodies.items()}
        settings = {"to": str(world.root), "base_url": server.base_url, "files": files}
        killed = await lives.live(**settings, workers=1, durability="each", die=["rename", "*.part", 6])
        there = sorted(bodies_at_home(world))
        journal = state(world) / "ledger.sqlite-wal"
        if not journal.exists():
            journal = state(world) / "ledger.sqlite"
        journal.write_bytes(tear(journal.read_bytes()))
        before = len(server.requests)
        again = await lives.live(**settings)

    assert killed.code == -signal.SIGKILL
    assert len(there) == 5
    assert again.report["counts"] == {"keep": 5, "fetch": 3}
    missing = {f"/{name}" for name in bodies if f"files/{name}.bin" not in there}
    assert {seen.path for seen in server.requests[before:]} == missing
    assert bodies_at_home(world) == {f"files/{name}.bin": body for name, body in bodies.items()}


@row("CR12", protection="what came is recorded while it comes")
async def test_an_exit_from_a_callback_is_like_a_kill(world: World, lives: Lives) -> None:
    """CR12: the observer ends the process on the spot: nothing under the final name, and the next run goes on."""
    body = content(1_000_000, "a")
    async with RawServer() as server:
        offer(world, server, {"a": body})
        settings = {"to": str(world.root), "base_url": server.base_url, "files": {"a": len(body)}}
        left = await lives.live(**settings, exit_at=400_000)
        home = bodies_at_home(world)
        again = await lives.live(**settings)

    assert (left.code, home) == (7, {})
    assert again.report["counts"] == {"resume": 1}
    first, second = requested(server, "a")
    assert first is None
    assert int((second or "bytes=0-")[6:-1]) >= 300_000 // 65_536 * 65_536
    assert bodies_at_home(world) == {"files/a.bin": body}


@row("CR12", protection="whatever happens to a file is the outcome of that file")
async def test_no_memory_for_one_file_fails_that_file(world: World) -> None:
    """CR12: a MemoryError on the thread of a slot is one failed outcome; the others come, and the next run ends it."""
    bodies = {name: content(100_000, name) for name in "abc"}

    def no_memory(*_: Any) -> int:
        raise MemoryError

    async with RawServer() as server:
        rows = offer(world, server, bodies)
        disk = FaultyDisk()
        disk.replace("write", no_memory, name="*.part", times=1)
        async with session_files(world, server, *rows) as files:
            first = await download(world, files, remember=True, disk=disk, workers=1)
            second = await download(world, files, remember=True)

    (failure,) = first.failures
    assert isinstance(failure.error, ArenaAsyncError)
    assert "MemoryError" in str(failure.error)
    assert first.counts[Action.FETCH] == 2
    assert len(server.requests) == 4
    assert (second.failures, second.counts[Action.KEEP]) == ((), 2)
    assert bodies_at_home(world) == {f"files/{name}.bin": body for name, body in bodies.items()}
