"""Rows TR80 to TR85: whom a refusal concerns, and when what failed is requested again."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import pytest
from fake_clock import FakeTime
from matrix import World, row

from arena_async import Action, ArenaCredentials, Mirror, Report
from arena_async.protocol.files import FileSet
from arena_async.testing import ArenaSimulator, CentrePointSimulator, faults
from arena_async.testing.arena.definitions import ExportRun

CONTENT = "GET */content"
#: The user who started the runs that are refused; the default export has two runs of the usual user.
OTHER = ("other@example.com", "other-Passw0rd")
DAY = 86_400.0


async def sync(world: World, files: FileSet, time: FakeTime, **options: bool) -> Report:
    """Sync once, with a mirror of its own."""
    async with Mirror(world.root, clock=time.timing, observer=world.observe) as mirror:
        report = await mirror.sync(files, **options)
    world.saw(report)
    return report


async def as_user(
    world: World, service: ArenaSimulator, time: FakeTime, *, other: bool = False, **options: bool
) -> tuple[Report, int]:
    """Sync all exports as one of two users; return the report and the requests for content."""
    before = len(service.seen(CONTENT))
    credentials = ArenaCredentials(*OTHER) if other else None
    async with service.client(credentials=credentials, clock=time.timing) as arena:
        report = await sync(world, arena.exports.files(service.export), time, **options)
    return report, len(service.seen(CONTENT)) - before


def add_runs(service: ArenaSimulator, count: int, *, files: int = 1) -> list[ExportRun]:
    """Add runs of the other user, which only that user may read."""
    other = service.users.get(OTHER[0]) or service.add_user(*OTHER)
    return [service.add_export_run(creator=other, files=files) for _ in range(count)]


def grant(service: ArenaSimulator, runs: Sequence[ExportRun]) -> None:
    """Let the usual user read some runs."""
    for run in runs:
        run.creator = service.user


@row("TR80", protection="a refusal is that of an account")
async def test_what_was_refused_to_one_user_is_delivered_to_another(world: World) -> None:
    """TR80: the first run fails, later ones say the count; the other user gets all files the same minute."""
    time = FakeTime()
    async with ArenaSimulator(clock=time) as service:
        add_runs(service, 4)
        first, _ = await as_user(world, service, time)
        again, requested = await as_user(world, service, time)
        other, _ = await as_user(world, service, time, other=True)

    assert len(first.failures) == 4
    assert (again.failures, again.counts[Action.SKIP], requested) == ((), 4, 0)
    assert "3024" in again.outcomes[0].reason
    assert other.counts[Action.FETCH] == 4
    assert len(list(world.root.glob("arena/exports/*/*/*.zip"))) == 6


@row("TR81", protection="one file of a refused run is requested first")
async def test_a_day_later_one_file_of_each_refused_run_is_requested(world: World) -> None:
    """TR81: the others only if it was delivered, and then in the same run."""
    time = FakeTime()
    async with ArenaSimulator(clock=time) as service:
        runs = add_runs(service, 2, files=5)
        await as_user(world, service, time)
        time.at += DAY
        refused, one_each = await as_user(world, service, time)
        grant(service, runs[:1])
        time.at += DAY
        granted, requested = await as_user(world, service, time)
        time.at += DAY / 2
        _, none = await as_user(world, service, time)

    assert (len(refused.failures), refused.counts[Action.SKIP], one_each) == (2, 8, 2)
    assert (granted.counts[Action.FETCH], len(granted.failures), granted.counts[Action.SKIP]) == (5, 1, 4)
    assert (requested, none) == (6, 0)


@row("TR81", protection="one file of a refused run is requested first")
async def test_the_file_to_request_first_is_another_one_each_day(world: World) -> None:
    """TR81: rights may be given for some files of a run only."""
    time = FakeTime()
    async with ArenaSimulator(clock=time) as service:
        add_runs(service, 1, files=3)
        await as_user(world, service, time)
        requested = []
        for _ in range(3):
            time.at += DAY
            before = len(service.seen(CONTENT))
            await as_user(world, service, time)
            requested += [seen.path for seen in service.seen(CONTENT)[before:]]

    assert len(requested) == len(set(requested)) == 3


@row("TR81", protection="a refused run that changed is requested")
async def test_a_file_that_is_not_listed_any_more_keeps_no_other_one_away(world: World) -> None:
    """TR81: then another one is requested first."""
    time = FakeTime()
    async with ArenaSimulator(clock=time) as service:
        (run,) = add_runs(service, 1, files=3)
        await as_user(world, service, time)
        time.at += DAY
        async with service.client(clock=time.timing) as arena, Mirror(world.root, clock=time.timing) as mirror:
            plan = await mirror.plan(arena.exports.files(service.export))
        (first,) = plan.to_fetch
        run.files = [file for file in run.files if file.guid not in first.path]
        grant(service, [run])
        report, requested = await as_user(world, service, time)

    assert (report.counts[Action.FETCH], requested) == (2, 2)


@row("TR82", protection="a rejection without a code is a failure")
@pytest.mark.parametrize("status", [400, 403, 404, 410, 451])
async def test_what_a_gateway_rejects_is_requested_in_the_next_run(world: World, status: int) -> None:
    """TR82: it says nothing about the file."""
    time = FakeTime()
    async with ArenaSimulator(clock=time, files=3) as service:
        service.inject(faults.status(status, body="<h1>gateway</h1>"), on=CONTENT)
        async with service.client(clock=time.timing) as arena:
            first = await sync(world, arena.extracts.files(), time)
            second = await sync(world, arena.extracts.files(), time)

    assert len(first.failures) == 1
    assert (second.failures, second.counts[Action.FETCH]) == ((), 1)


@row("TR83", protection="what fails for long is requested less often")
async def test_what_fails_for_long_is_requested_once_a_week_and_stays_a_failure(world: World) -> None:
    """TR83: 60 nights; what is not requested says since when it fails, and when it is requested again."""
    time = FakeTime()
    async with ArenaSimulator(clock=time, files=1) as service:
        service.inject(faults.status(404), on=CONTENT, times=None)
        nights, reports = [], []
        for night in range(60):
            before = len(service.seen(CONTENT))
            async with service.client(clock=time.timing) as arena:
                reports.append(await sync(world, arena.extracts.files(), time))
            nights += [night] * (len(service.seen(CONTENT)) - before)
            time.at += DAY
        async with service.client(clock=time.timing) as arena:
            before = len(service.seen(CONTENT))
            await sync(world, arena.extracts.files(), time, ask_again=True)
            on_request = len(service.seen(CONTENT)) - before
    waiting = reports[4].outcomes[0]

    assert nights == [0, 1, 2, 3, 5, 8, 12, 18, 25, 32, 39, 46, 53]
    assert all(len(report.failures) == 1 for report in reports)
    assert on_request == 1
    assert waiting.again_at == datetime.fromisoformat("2026-03-07T00:00:00+00:00")
    assert "failed since 2026-03-02, in 4 runs: status 404" in str(waiting.error)


@row("TR84", protection="damaged content is remembered")
async def test_content_that_is_damaged_at_the_service_is_not_paid_for_every_night(world: World) -> None:
    """TR84: it came twice, and neither was right; a later run says so and requests nothing, unless it is asked to."""
    time = FakeTime()
    async with ArenaSimulator(clock=time, files=2) as service:
        service.inject(
            faults.corrupt(at=60),
            on=f"GET */{service.extracts[service.extract].runs[0].files[0].guid}/content",
            times=None,
        )
        async with service.client(clock=time.timing) as arena:
            first = await sync(world, arena.extracts.files(), time)
            requested = [len(service.seen(CONTENT))]
            time.at += 30 * DAY
            later = await sync(world, arena.extracts.files(), time)
            requested.append(len(service.seen(CONTENT)))
            await sync(world, arena.extracts.files(), time, ask_again=True)
            requested.append(len(service.seen(CONTENT)))

    assert (len(first.failures), first.counts[Action.FETCH]) == (1, 1)
    assert (later.failures, later.counts[Action.SKIP]) == ((), 1)
    assert "its content has not been right since 2026-03-02, and is unchanged" in later.outcomes[0].reason
    assert requested == [3, 3, 5]


@row("TR84", protection="damage that differs is that of the network")
async def test_content_that_is_damaged_in_another_way_each_time_is_requested_again(world: World) -> None:
    """TR84: it came twice, and other bytes were wrong each time, so that the file itself may be right: it is."""
    time = FakeTime()
    settings = {"subjects": 1, "data_sets": 1, "file_size": 300, "rate_limit": None}
    async with CentrePointSimulator(clock=time, **settings) as service, service.client(clock=time.timing) as client:
        for at in (60, 61, 62, 63):  # Two for each of the two files.
            service.inject(faults.corrupt(at=at), on="GET *", listener="files")
        files = client.datasets.files(service.study)
        first = await sync(world, files, time)
        second = await sync(world, files, time)

    assert len(first.failures) == 2
    assert (second.failures, second.counts[Action.FETCH]) == ((), 2)


@row("TR84", protection="a page in place of content is no damaged content")
async def test_a_page_in_place_of_content_is_requested_again(world: World) -> None:
    """TR84: a sign-in page came for every file; the next night the files are here."""
    time = FakeTime()
    async with ArenaSimulator(clock=time, files=3) as service:
        service.inject(faults.html_page(), on=CONTENT, times=None)
        async with service.client(clock=time.timing) as arena:
            first = await sync(world, arena.extracts.files(), time)
            service.clear()
            second = await sync(world, arena.extracts.files(), time)

    assert len(first.failures) + first.not_started == 3
    assert (second.failures, second.counts[Action.FETCH]) == ((), 3)


@row("TR85", protection="a watermark hides nothing that is due")
@pytest.mark.parametrize("who", ["other", "later"])
async def test_a_watermark_hides_no_file_that_was_refused(world: World, who: str) -> None:
    """TR85: neither from another user, nor a day later, when the listing would begin behind it."""
    time = FakeTime()
    async with ArenaSimulator(clock=time) as service:
        runs = add_runs(service, 2)
        time.at += DAY
        service.add_export_run()
        await as_user(world, service, time)
        await as_user(world, service, time)  # The watermark is behind what was refused by then.
        if who == "later":
            grant(service, runs)
            time.at += DAY
        report, _ = await as_user(world, service, time, other=who == "other")
        changes, _ = await as_user(world, service, time)

    assert report.counts[Action.FETCH] == 2
    assert changes.counts[Action.KEEP] < 4  # Nothing is due, and only changes were listed.
