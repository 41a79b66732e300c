"""Rows ST24 to ST26: a ledger that is damaged, what came after its copy, and a directory that was copied."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from fake_clock import FakeTime
from matrix import World, row

from arena_async import Action, Mirror, Report
from arena_async.testing import ArenaSimulator

CONTENT = "GET */content"


async def sync(world: World, service: ArenaSimulator, root: Path | None = None) -> tuple[Report, int]:
    """Sync all extracts; return the report and the requests for content."""
    time, before = FakeTime(), len(service.seen(CONTENT))
    async with (
        service.client(clock=time.timing) as arena,
        Mirror(root or world.root, clock=time.timing, observer=world.observe) as mirror,
    ):
        report = await mirror.sync(arena.extracts.files())
    world.saw(report)
    return report, len(service.seen(CONTENT)) - before


def ledger(world: World) -> Path:
    """Return the path of the ledger."""
    return world.root / ".arena-async" / "ledger.sqlite"


def zips(root: Path) -> list[Path]:
    """Return the files that were downloaded."""
    return sorted(root.rglob("*.zip"))


@row("ST24", protection="a damaged ledger is restored from its copy")
@pytest.mark.parametrize("damage", ["text", "half", "empty", "gone"])
async def test_a_damaged_ledger_costs_no_file(world: World, damage: str) -> None:
    """ST24: it is set aside, and its copy takes its place."""
    async with ArenaSimulator(files=30) as service:
        await sync(world, service)
        path = ledger(world)
        body = path.read_bytes()
        if damage == "gone":
            path.unlink()
        else:
            path.write_bytes({"text": b"no database " * 99, "half": body[:9000], "empty": b""}[damage])
        report, requested = await sync(world, service)

    assert (report.failures, requested) == ((), 0)
    assert len(zips(world.root)) == 30


@row("ST25", protection="what came after the copy is read")
async def test_what_came_after_the_copy_costs_no_request(world: World) -> None:
    """ST25: where the listing proves what lies here."""
    async with ArenaSimulator(files=3) as service:
        await sync(world, service)
        service.add_extract_run(files=4)
        await sync(world, service)
        ledger(world).write_bytes(b"no database " * 99)
        report, requested = await sync(world, service)

    assert (report.failures, requested) == ((), 0)
    assert len(zips(world.root)) == 7


@row("ST25", protection="what nothing proves is fetched")
async def test_what_is_damaged_after_the_copy_is_fetched(world: World) -> None:
    """ST25: a file that lies at its place and is not right is none."""
    async with ArenaSimulator(files=3) as service:
        await sync(world, service)
        before = set(zips(world.root))
        service.add_extract_run(files=1)
        await sync(world, service)
        (late,) = set(zips(world.root)) - before
        whole = late.read_bytes()
        late.write_bytes(whole[:60] + bytes(4) + whole[64:])
        ledger(world).write_bytes(b"no database " * 99)
        report, requested = await sync(world, service)

    assert (report.counts[Action.FETCH], requested) == (1, 1)
    assert late.read_bytes() == whole


@row("ST26", protection="a copied directory is read")
@pytest.mark.parametrize("verified", [False, True])
async def test_a_copied_directory_costs_reading_and_no_request(world: World, *, verified: bool) -> None:
    """ST26: its times are others, its bytes are the same."""
    copy = world.root.with_name("copy")
    async with ArenaSimulator(files=6) as service:
        await sync(world, service)
        shutil.copytree(world.root, copy, copy_function=shutil.copyfile)
        (copy / ".arena-async").chmod(0o700)
        for number, path in enumerate(zips(copy)):
            os.utime(path, (number, number))
        if verified:
            async with Mirror(copy) as mirror:
                assert (await mirror.verify()).ok == 6
        report, requested = await sync(world, service, copy)

    assert (report.failures, requested) == ((), 0)


@row("ST26", protection="other bytes of the same size are fetched")
async def test_other_bytes_of_the_same_size_are_fetched(world: World) -> None:
    """ST26: where a file was changed in a copy, the size proves nothing."""
    async with ArenaSimulator(files=2) as service:
        await sync(world, service)
        path = zips(world.root)[0]
        whole = path.read_bytes()
        path.write_bytes(whole[::-1])
        report, requested = await sync(world, service)

    assert (report.counts[Action.REFRESH], requested) == (1, 1)
    assert path.read_bytes() == whole
