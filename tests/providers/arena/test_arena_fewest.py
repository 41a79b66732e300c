"""The fewest requests: what each job costs on the wire, read from the log of the service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from arena_async.errors import NotFoundError
from arena_async.options import TransferOptions
from arena_async.protocol.files import FileSet
from arena_async.providers.arena import ArenaClient
from arena_async.testing import ArenaSimulator
from arena_async.transfer.downloader import Downloader
from arena_async.transfer.mirror import Mirror
from arena_async.transfer.models import Action, Plan
from arena_async.transfer.outcomes import Report
from arena_async.transfer.union import union

HOUR = 3600.0


@pytest.fixture
async def service() -> AsyncIterator[ArenaSimulator]:
    """Yield a service with three runs of its extract, two of its export, one of its import."""
    async with ArenaSimulator() as service:
        yield service


@pytest.fixture
async def arena(service: ArenaSimulator) -> AsyncIterator[ArenaClient]:
    """Yield a client of it."""
    async with service.client() as arena:
        yield arena


def mirror(to: Path) -> Mirror:
    """Make a mirror that does not sync to the disk."""
    return Mirror(to, options=TransferOptions(durability="off", workers=4))


async def sync(to: Path, files: FileSet, **arguments: Any) -> Report:
    """Sync once, with a mirror of its own."""
    async with mirror(to) as home:
        return await home.sync(files, **arguments)


async def planned(to: Path, files: FileSet) -> Plan:
    """Plan once, with a mirror of its own."""
    async with mirror(to) as home:
        return await home.plan(files)


def spent(service: ArenaSimulator) -> list[str]:
    """Return what was asked since the last look, without guids; logins and logouts are free or counted elsewhere."""
    lines = []
    for seen in service.log:
        if seen.path not in ("/v1/login", "/v1/logout"):
            words = ["*" if part.isupper() and len(part) == 20 else part for part in seen.path.split("/")[2:]]
            lines.append(f"{seen.method} /{'/'.join(words)}")
    service.log.clear()
    return lines


def downloaded(directory: Path) -> set[str]:
    """Return the files that are in a folder."""
    return {path.relative_to(directory).as_posix() for path in directory.rglob("arena/**/*.*")}


LATEST = "GET /extracts/*/runs/latestCompleted"
RUNS = "GET /extracts/*/runs"
RUN_FILES = "GET /extracts/*/runs/*/files"
CONTENT = "GET /extracts/*/runs/*/files/*/content"


# --- the jobs of the reference ----------------------------------------------------------------------------------------


async def test_the_newest_zip_of_a_known_extract_costs_two_requests(
    service: ArenaSimulator, arena: ArenaClient, tmp_path: Path
) -> None:
    """The latest run with its files, and the content."""
    report = await sync(tmp_path, arena.extracts.files(service.extract, latest=True))

    assert spent(service) == [LATEST, CONTENT]
    assert (report.requests, report.counts[Action.FETCH]) == (2, 1)


async def test_the_newest_zip_of_an_extract_that_is_looked_up_costs_three_requests(
    service: ArenaSimulator, arena: ArenaClient, tmp_path: Path
) -> None:
    """One more for the list of extracts."""
    await sync(tmp_path, arena.extracts.files(latest=True))

    assert spent(service) == ["GET /extracts", LATEST, CONTENT]


async def test_nothing_new_costs_one_request(service: ArenaSimulator, arena: ArenaClient, tmp_path: Path) -> None:
    """The latest run is the one that is here."""
    files = arena.extracts.files(service.extract, latest=True)
    await sync(tmp_path, files)
    spent(service)

    report = await sync(tmp_path, files)

    assert spent(service) == [LATEST]
    assert (report.requests, report.counts[Action.KEEP]) == (1, 1)


@pytest.mark.parametrize("runs", [0, 1, 3, 7])
async def test_the_runs_since_a_date_cost_one_request_and_one_for_each_run(
    service: ArenaSimulator, arena: ArenaClient, tmp_path: Path, runs: int
) -> None:
    """The list of runs with their files, filtered by the service, and the contents."""
    service.extracts[service.extract].runs.clear()
    for number in range(runs):
        service.add_extract_run(age=HOUR * number)
    service.add_extract_run(age=HOUR * 48)
    since = datetime.now(UTC) - timedelta(hours=24)

    await sync(tmp_path, arena.extracts.files(service.extract, completed_from=since))

    (requested,) = service.seen("GET */runs")
    assert dict(requested.query) == {
        "completionDateTimeFrom": since.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "view": "withFiles",
        "offset": "0",
        "limit": "400",
    }
    assert spent(service) == [RUNS, *[CONTENT] * runs]


async def test_all_runs_of_an_extract_cost_one_request_and_one_for_each_run(
    service: ArenaSimulator, arena: ArenaClient, tmp_path: Path
) -> None:
    """And a second sync starts at the watermark: one request that the service filters."""
    files = arena.extracts.files(service.extract)
    await sync(tmp_path, files)
    assert spent(service) == [RUNS, *[CONTENT] * 3]

    await sync(tmp_path, files)
    (requested,) = service.seen("GET */runs")
    newest = max(run.completed or 0.0 for run in service.extracts[service.extract].runs)
    overlap = datetime.fromtimestamp(newest - HOUR, UTC)

    assert requested.query["completionDateTimeFrom"] == overlap.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert spent(service) == [RUNS]


async def test_a_run_that_was_completed_since_the_last_sync_costs_one_request_more(
    service: ArenaSimulator, arena: ArenaClient, tmp_path: Path
) -> None:
    """The watermark lets nothing slip."""
    files = arena.extracts.files(service.extract)
    await sync(tmp_path, files)
    service.add_extract_run()
    spent(service)

    report = await sync(tmp_path, files)

    assert spent(service) == [RUNS, CONTENT]
    assert report.counts[Action.FETCH] == 1


async def test_the_newest_zip_of_an_export_costs_two_requests(
    service: ArenaSimulator, arena: ArenaClient, tmp_path: Path
) -> None:
    """The runs, which tell their files, and the content; nothing new costs one."""
    files = arena.exports.files(service.export, latest=True)
    await sync(tmp_path, files)
    assert spent(service) == ["GET /exports/*/runs", "GET /exports/*/runs/*/files/*/content"]

    await sync(tmp_path, files)
    assert spent(service) == ["GET /exports/*/runs"]


async def test_all_contents_of_an_import_cost_one_request_and_one_for_each(
    service: ArenaSimulator, arena: ArenaClient, tmp_path: Path
) -> None:
    """What was submitted, the result and the errors of a run; nothing new costs one."""
    files = arena.imports.files(service.import_)
    await sync(tmp_path, files)
    assert sorted(spent(service)) == [
        "GET /imports/*/runs",
        "GET /imports/*/runs/*/errorContent",
        "GET /imports/*/runs/*/resultContent",
        "GET /imports/*/runs/*/submitContent",
    ]

    await sync(tmp_path, files)
    assert spent(service) == ["GET /imports/*/runs"]


# --- where the view is not honoured -----------------------------------------------------------------------------------


@pytest.fixture
async def plain() -> AsyncIterator[ArenaSimulator]:
    """Yield a service that lists runs without their files, whatever it is asked."""
    async with ArenaSimulator(honours_view=False) as service:
        yield service


async def test_where_the_view_is_not_honoured_each_run_is_asked_for_its_files_once_and_never_again(
    plain: ArenaSimulator, tmp_path: Path
) -> None:
    """A completed run does not change, so a rerun pays nothing for the runs it knows; also one of another query."""
    async with plain.client() as arena:
        since = datetime.now(UTC) - timedelta(hours=24)
        await sync(tmp_path, arena.extracts.files(plain.extract, completed_from=since))
        first = spent(plain)
        plain.add_extract_run()
        await sync(tmp_path, arena.extracts.files(plain.extract, completed_from=since))
        second = spent(plain)
        await sync(tmp_path, arena.extracts.files(plain.extract))
        third = spent(plain)

    assert (first[0], sorted(first[1:])) == (RUNS, sorted([RUN_FILES, CONTENT] * 3))
    assert second == [RUNS, RUN_FILES, CONTENT]
    assert third == [RUNS]


async def test_a_plan_learns_for_the_sync_after_it(plain: ArenaSimulator, tmp_path: Path) -> None:
    """What was asked in order to plan is not asked again, by a sync with the plan or without it."""
    async with plain.client() as arena:
        files = arena.extracts.files(plain.extract)
        plan = await planned(tmp_path, files)
        assert spent(plain) == [RUNS, *[RUN_FILES] * 3]
        assert plan.steps == {"listing": 4, "look_up": 0, "content": 3}
        await sync(tmp_path, files)
        assert spent(plain) == [RUNS, *[CONTENT] * 3]


async def test_a_service_that_refuses_pages_of_runs_is_asked_for_them_whole(tmp_path: Path) -> None:
    """Not every release takes offset and limit there; finding out costs one request."""
    async with ArenaSimulator(paging="refused") as service:
        async with service.client() as arena:
            report = await sync(tmp_path, arena.extracts.files(service.extract))

        assert report.counts[Action.FETCH] == 3
        assert spent(service) == [RUNS, RUNS, *[CONTENT] * 3]


async def test_facts_of_several_sets_are_kept_through_a_union(plain: ArenaSimulator, tmp_path: Path) -> None:
    """One mechanism, also where sets are joined."""
    async with plain.client() as arena:
        files = union(arena.extracts.files(plain.extract), arena.exports.files(plain.export))
        await sync(tmp_path, files)
        spent(plain)
        await sync(tmp_path, files)

    assert spent(plain) == [RUNS, "GET /exports/*/runs"]


async def test_a_run_without_files_is_asked_again(plain: ArenaSimulator, tmp_path: Path) -> None:
    """Its file may have been late."""
    run = plain.extracts[plain.extract].runs[-1]
    late, run.files = run.files, []
    async with plain.client() as arena:
        since = datetime.now(UTC) - timedelta(hours=24)
        files = arena.extracts.files(plain.extract, completed_from=since)
        await sync(tmp_path, files)
        spent(plain)
        run.files = late
        report = await sync(tmp_path, files)

    assert spent(plain) == [RUNS, RUN_FILES, CONTENT]
    assert report.counts[Action.FETCH] == 1


async def test_a_folder_without_memory_asks_again(plain: ArenaSimulator, tmp_path: Path) -> None:
    """A downloader remembers nothing, so nothing can be wrong."""
    async with plain.client() as arena:
        for _ in range(2):
            async with Downloader(tmp_path, options=TransferOptions(durability="off")) as downloads:
                await downloads.run(arena.extracts.files(plain.extract, latest=True))

    assert spent(plain) == [LATEST, CONTENT] * 2


# --- plans ------------------------------------------------------------------------------------------------------------


async def test_a_plan_says_what_the_listing_took_and_what_the_rest_will_take(
    service: ArenaSimulator, arena: ArenaClient, tmp_path: Path
) -> None:
    """By step, beside what is left, the reserve and the reset: before anything is fetched."""
    plan = await planned(tmp_path, arena.extracts.files(service.extract))

    assert spent(service) == [RUNS]
    assert plan.steps == {"listing": 1, "look_up": 0, "content": 3}
    assert (plan.requests, plan.remaining, plan.reserve, plan.fits) == (3, 9999, 0, True)
    assert plan.resets_at == datetime.fromtimestamp(service.resets_at, UTC)
    assert plan.bytes_to_fetch is None


@pytest.mark.parametrize(("left", "fits"), [(104, True), (103, False)])
async def test_a_plan_says_whether_it_fits_above_the_reserve(
    service: ArenaSimulator, tmp_path: Path, left: int, fits: bool
) -> None:
    """One for the listing, three for the contents, and a hundred that are somebody else's."""
    service.remaining = left
    async with service.client(quota_reserve=100) as arena:
        plan = await planned(tmp_path, arena.extracts.files(service.extract))

    assert (plan.remaining, plan.reserve, plan.requests, plan.fits) == (left - 1, 100, 3, fits)


@pytest.mark.parametrize("kind", ["extracts", "exports", "imports", "union"])
async def test_a_sync_with_a_plan_spends_what_the_plan_said(
    service: ArenaSimulator, arena: ArenaClient, tmp_path: Path, kind: str
) -> None:
    """The contents and nothing else: not one request to find them again. Also after the plan was written down."""
    sets: dict[str, FileSet] = {
        "extracts": arena.extracts.files(service.extract),
        "exports": arena.exports.files(service.export),
        "imports": arena.imports.files(service.import_),
    }
    files = union(*sets.values()) if kind == "union" else sets[kind]
    plan = Plan.from_json((await planned(tmp_path, files)).to_json())
    spent(service)

    report = await sync(tmp_path, files, plan=plan)

    requested = spent(service)
    assert plan.requests == len(plan.to_fetch) == len(requested) == report.requests
    assert {line.lower().rpartition("content")[1] for line in requested} == {"content"}
    assert report.failures == ()
    assert downloaded(tmp_path) == {name for name in service.files if kind == "union" or f"/{kind}/" in name}
    await sync(tmp_path, files)
    assert not [line for line in spent(service) if "ontent" in line]


async def test_what_has_changed_since_the_plan_is_brought_as_it_is_and_looked_at_again(
    service: ArenaSimulator, arena: ArenaClient, tmp_path: Path
) -> None:
    """A dry run that was committed meanwhile: the next sync sees another change mark and fetches it once more."""
    files = arena.imports.files(service.import_)
    plan = await planned(tmp_path, files)
    (run,) = service.imports[service.import_].runs
    run.commit = True
    await sync(tmp_path, files, plan=plan)

    report = await sync(tmp_path, files)

    assert report.counts[Action.REFRESH] == 3


async def test_what_is_gone_since_the_plan_is_an_error_of_that_file(
    service: ArenaSimulator, arena: ArenaClient, tmp_path: Path
) -> None:
    """The service says so when the content is asked for; the others come."""
    files = arena.extracts.files(service.extract)
    plan = await planned(tmp_path, files)
    del service.extracts[service.extract].runs[0]

    report = await sync(tmp_path, files, plan=plan)

    assert [type(outcome.error) for outcome in report.failures] == [NotFoundError]
    assert report.counts[Action.FETCH] == 2


async def test_a_plan_of_another_workspace_restores_nothing(
    service: ArenaSimulator, arena: ArenaClient, tmp_path: Path
) -> None:
    """Its keys name another tenant."""
    files = arena.extracts.files(service.extract)
    plan = await planned(tmp_path, files)
    foreign = Plan.from_json(plan.to_json().replace(str(service.workspace_id), "5"))
    spent(service)

    report = await sync(tmp_path, files, plan=foreign)

    assert [type(outcome.error) for outcome in report.failures] == [NotFoundError] * 3
    assert spent(service) == []
