"""Rows PG40 to PG47: what a mirror makes of a listing: where it starts, what is gone, and several rows of one key."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from filesets import remote
from matrix import SECRETS, World, row
from offered_files import SUPPORT, offer
from scripted import RawServer
from session_files import SessionFiles, ranged, session_files
from versions_child import version

from arena_async import Action, FileSet, Mirror, Plan, Report
from arena_async.errors import ListingError
from arena_async.options import TransferOptions
from arena_async.protocol.filenames import duplicate_path
from arena_async.protocol.files import RemoteFile
from arena_async.providers.arena import ArenaClient
from arena_async.testing import ArenaSimulator, CentrePointSimulator, faults

DAY = 86400.0


@asynccontextmanager
async def arena() -> AsyncIterator[tuple[ArenaSimulator, ArenaClient]]:
    """Yield a service and a client of it."""
    async with ArenaSimulator(password=SECRETS["password"], size=2000) as service, service.client() as client:
        yield service, client


async def sync(world: World, files: FileSet, **arguments: Any) -> Report:
    """Sync once, with a mirror of its own."""
    async with Mirror(world.root, options=TransferOptions(durability="off"), observer=world.observe) as mirror:
        report = await mirror.sync(files, **arguments)
    world.saw(report)
    return report


async def planned(world: World, files: FileSet) -> Plan:
    """Plan once, with a mirror of its own."""
    async with Mirror(world.root, options=TransferOptions(durability="off")) as mirror:
        return await mirror.plan(files)


def counted(report: Report) -> dict[str, int]:
    """Return the counts that are not 0."""
    return {action.value: count for action, count in report.counts.items() if count}


@row("PG40", protection="a list that was never walked is walked whole")
async def test_a_definition_that_becomes_visible_brings_its_earlier_runs(world: World) -> None:
    """PG40: its runs were completed before the newest that is here; a plan and a sync agree about them."""
    async with arena() as (service, client):
        await sync(world, client.extracts.files())
        later = service.add_extract("Of another user")
        for age in (9 * DAY, 2 * DAY):
            service.add_extract_run(extract=later.guid, age=age)

        plan = await planned(world, client.extracts.files())
        service.log.clear()
        report = await sync(world, client.extracts.files())
        asked = service.seen("GET */runs")
        starts = {seen.path.split("/")[3]: seen.query.get("completionDateTimeFrom") for seen in asked}
        again = await sync(world, client.extracts.files())

    assert plan.counts[Action.FETCH] == report.counts[Action.FETCH] == 2
    # The list that is known starts at its watermark all the same.
    assert starts[service.extract] is not None
    assert starts[later.guid] is None
    assert again.counts[Action.FETCH] == 0


@row("PG41", protection="a subject of which no file was listed is listed")
async def test_a_subject_that_becomes_visible_brings_what_was_computed_long_ago(world: World) -> None:
    """PG41: its programs ran before the newest run that is here."""
    async with CentrePointSimulator(subjects=12, data_sets=2, file_size=300, rate_limit=None) as service:
        hidden = service.subjects.pop(3)
        files = [key for key in service.files if key.subject == hidden]
        service.files[:] = [key for key in service.files if key.subject != hidden]
        service.change_file(service.files[0])
        async with service.client() as client:
            first = await sync(world, client.study_files(234))
            service.subjects.insert(3, hidden)
            service.files.extend(files)
            second = await sync(world, client.study_files(234))
            third = await sync(world, client.study_files(234))

    assert [report.counts[Action.FETCH] for report in (first, second, third)] == [44, 4, 0]


@asynccontextmanager
async def served(world: World, count: int) -> AsyncIterator[tuple[SessionFiles, RawServer]]:
    """Yield so many small files."""
    async with RawServer() as server:
        rows = offer(world, server, {f"f{number:03}": b"%d" % number for number in range(count)})
        async with session_files(world, server, *rows) as files:
            yield files, server


@row("PG42", protection="a large share is not removed unless that is meant")
@pytest.mark.parametrize("by_plan", [False, True])
async def test_a_listing_that_lacks_more_than_a_fifth_removes_nothing(world: World, by_plan: bool) -> None:
    """PG42: 11 of 50; the report says how many and what to do, and "force" does it."""
    async with served(world, 50) as (files, _):
        await sync(world, files)
        del files.rows[:11]
        plan = await planned(world, files) if by_plan else None

        refused = await sync(world, files, plan=plan, prune=True)
        left = len(list((world.root / "files").iterdir()))
        forced = await sync(world, files, plan=plan, prune="force")

    assert (refused.counts[Action.PRUNE], left) == (0, 50)
    assert isinstance(refused.error, ListingError)
    assert "11 of the 50 files that are known of it are no longer listed" in str(refused.error)
    assert 'prune="force"' in str(refused.error)
    assert (forced.counts[Action.PRUNE], forced.error) == (11, None)
    assert len(list((world.root / "files").iterdir())) == 39


@row("PG43", protection="only the number of the service proves that a file is gone")
@pytest.mark.parametrize("status", [403, 404])
async def test_a_gateway_that_finds_nothing_proves_nothing(world: World, status: int) -> None:
    """PG43: the file of a plan is looked up before it is removed; it is there, but a gateway answers."""
    async with arena() as (service, client):
        files = client.extracts.files(service.extract)
        await sync(world, files)
        run = service.extracts[service.extract].runs.pop(0)
        plan = await planned(world, files)
        service.extracts[service.extract].runs.insert(0, run)
        service.inject(faults.status(status, body="<html>no such page</html>"), on="GET */files", times=None)

        report = await sync(world, files, plan=plan, prune=True)
        service.clear()
        service.extracts[service.extract].runs.pop(0)
        gone = await sync(world, files, plan=plan, prune=True)

    assert plan.counts[Action.GONE] == 1
    assert (report.counts[Action.PRUNE], getattr(report.error, "status", None)) == (0, status)
    assert (gone.counts[Action.PRUNE], gone.error) == (1, None)


@row("PG44", protection="a run that is listed without its files is not gone")
async def test_what_the_service_removed_because_of_its_age_stays_here(world: World) -> None:
    """PG44: the run of an export is listed for ever, its files for 60 days; neither told as gone nor removed."""
    async with arena() as (service, client):
        files = client.exports.files(service.export)
        await sync(world, files)
        here = sorted(path for path in world.root.rglob("*.zip"))
        service.exports[service.export].runs[0].files.clear()

        plan = await planned(world, files)
        report = await sync(world, files, prune=True)
        service.exports[service.export].runs.pop(0)
        gone = await sync(world, files, prune=True)

    assert plan.counts[Action.GONE] == 0
    assert counted(report) == {"keep": len(here) - 1}
    assert counted(gone) == {"keep": len(here) - 1, "prune": 1}


@row("PG47", protection="a listing of changes is one of its query")
@pytest.mark.parametrize("by_plan", [False, True])
async def test_what_a_listing_of_changes_brought_is_gone_when_a_whole_one_lacks_it(world: World, by_plan: bool) -> None:
    """PG47: a run that came after the first sync, from the watermark on or by a plan, and was removed later."""
    async with arena() as (service, client):
        files = client.extracts.files(service.extract)
        await sync(world, files)
        run = service.add_extract_run(extract=service.extract, age=60)
        plan = await planned(world, files) if by_plan else None
        came = await sync(world, files, plan=plan)
        here = len(list(world.root.rglob("*.zip")))
        service.extracts[service.extract].runs.remove(run)

        changes = await sync(world, files)
        gone = (await planned(world, files)).counts[Action.GONE]
        whole = await sync(world, files, prune=True)

    assert came.counts[Action.FETCH] == 1
    assert (changes.counts[Action.GONE], gone) == (0, 1)
    assert counted(whole) == {"keep": here - 1, "prune": 1}


def place(number: int, newest: int) -> str:
    """Return where a version belongs."""
    return "files/a.bin" if number == newest else duplicate_path("files/a.bin", f"run{number}.csv", ".bin")


@row("PG45", protection="an older row waits for the version that is here")
@pytest.mark.parametrize("order", [[0, 1, 2], [1, 0, 2], [0, 2, 1]])
async def test_of_three_rows_the_newest_keeps_its_place_in_every_sync(world: World, order: list[int]) -> None:
    """PG45: over several pages; each is requested once, in the first sync, and none is moved by later ones."""
    rows: list[RemoteFile] = []
    for number in order:
        rows += [version(number), *(remote(f"s{len(rows)}-{n}", skip="no content") for n in range(410))]
    async with RawServer() as server:
        for number in order:
            server.on("GET", f"/run{number}.csv", ranged(b"%d" % number))
        async with session_files(world, server, *rows, link=lambda row, _: f"/{row.name}") as files:
            for _ in range(3):
                async with Mirror(world.root, options=TransferOptions(durability="off")) as mirror:
                    report = await mirror.sync(files)
                assert (report.failures, report.not_started) == ((), 0)
                for number in order:
                    assert (world.root / place(number, 2)).read_bytes() == b"%d" % number

    assert Counter(seen.path for seen in server.requests) == {f"/run{number}.csv": 1 for number in order}


async def life(world: World, to: Path, server: RawServer, order: list[int], **settings: Any) -> tuple[int, Any]:
    """Sync the versions in a process of its own; return how it ended and what it printed."""
    given = {"to": str(to), "base_url": server.base_url, "order": order, **settings}
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(SUPPORT / "versions_child.py"), json.dumps(given), stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    world.saw(out.decode())
    return process.returncode or 0, json.loads(out) if out else {}


@row("PG46", protection="a file that is moved is known under both names until it is there", seconds=120)
@pytest.mark.process
async def test_a_kill_in_the_middle_of_a_move_costs_no_request(world: World) -> None:
    """PG46: SIGKILL before each change of the disk, while a fourth version comes; the three others are not fetched."""
    async with RawServer() as server:
        for number in range(4):
            server.on("GET", f"/run{number}.csv", ranged(b"%d" % number))
        before = world.root / "before"
        await life(world, before, server, [2, 0, 1])
        shutil.copytree(before, world.root / "0")
        _, healthy = await life(world, world.root / "0", server, [0, 3, 1, 2])
        for step in range(healthy["first_rename"], healthy["calls"] + 1):
            to = Path(shutil.copytree(before, world.root / str(step)))
            server.requests.clear()
            code, _ = await life(world, to, server, [0, 3, 1, 2], kill_at=step)
            again, report = await life(world, to, server, [0, 3, 1, 2])
            paths = Counter(seen.path for seen in server.requests)

            assert (code, again, report["failures"]) == (-9, 0, 0), step
            assert paths.keys() == {"/run3.csv"}, step
            assert paths["/run3.csv"] <= 2
            for number in range(4):
                assert (to / place(number, 3)).read_bytes() == b"%d" % number, step
