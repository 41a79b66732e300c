"""Rows TR35, TR36 and TR52 to TR55: runs of Arena, and what becomes of their content."""

from __future__ import annotations

from typing import Any

import pytest
from arena_runs import EXPORT_PLACE, EXTRACT, EXTRACT_PLACE, FILE, RUN, ZIP, export_of_one, export_run, extract_of_one
from matrix import World, case, row
from scripted import RawServer, Reply, json_reply, reply
from services import ArenaScript, arena_error
from session_files import ETAG, Hours, download, ranged

from arena_async.errors import (
    ApiError,
    DeadlineError,
    DecodeError,
    NotFoundError,
    RunFailedError,
    ServerError,
)
from arena_async.http.polling import wait_until
from arena_async.options import Clock, PollPolicy
from arena_async.providers.arena.models import ExportRun, ExtractRun, ImportRun
from arena_async.transfer.models import Action

CONTENT = f"GET /v1/extracts/{EXTRACT}/*/content"
WHOLE = reply(body=ZIP, headers=ETAG)


@row("TR35", protection="a file server that is away is given time")
@pytest.mark.parametrize(
    "refusal", [reply(400), arena_error(400, 3017), arena_error(400, 4077), arena_error(400, 4007)]
)
async def test_content_that_cannot_be_had_now_is_asked_for_later(world: World, refusal: Reply) -> None:
    """TR35: a 400 without a word, or one of the numbers for it; a minute later it may be there."""
    final = world.allow(EXTRACT_PLACE, ZIP)
    hours = Hours()
    async with RawServer() as server:
        service = ArenaScript(world, server)
        extract_of_one(service, refusal, WHOLE)
        async with service.client(clock=Clock(monotonic=hours.clock, sleep=hours.sleep)) as arena:
            report = await download(world, arena.extracts.files(EXTRACT, latest=True), hours=hours)

    assert report.failures == ()
    assert final.read_bytes() == ZIP
    assert hours.waits == [60.0]
    assert len(server.lines(CONTENT)) == 2


@row("TR35", protection="attempts come to an end")
@pytest.mark.parametrize("refusal", [reply(400), arena_error(400, 3017)])
async def test_content_that_cannot_be_had_at_all_ends_as_something_temporary(world: World, refusal: Reply) -> None:
    """TR35: few requests are spent on it; the error says that later may be better, and nothing is remembered."""
    world.allow(EXTRACT_PLACE, ZIP)
    hours = Hours()
    async with RawServer() as server:
        service = ArenaScript(world, server)
        extract_of_one(service, refusal)
        async with service.client(clock=Clock(monotonic=hours.clock, sleep=hours.sleep)) as arena:
            report = await download(world, arena.extracts.files(EXTRACT), hours=hours, remember=True)
            requested = len(server.lines(CONTENT))
            extract_of_one(service, WHOLE)
            later = await download(world, arena.extracts.files(EXTRACT), remember=True)

    error = report.outcomes[0].error
    assert isinstance(error, ServerError)
    assert error.transient
    assert requested == 5
    assert hours.waits == [60.0] * 4
    assert later.counts[Action.FETCH] == 1


@row("TR36", protection="a refusal that stays is believed")
@pytest.mark.parametrize("code", [3028, 4078, 4008])
async def test_a_file_without_content_is_asked_for_once_for_ever(world: World, code: int) -> None:
    """TR36: no empty file, no second try, and not even a first one in the next run."""
    world.allow(EXTRACT_PLACE)
    async with RawServer() as server:
        service = ArenaScript(world, server)
        extract_of_one(service, arena_error(400, code))
        async with service.client() as arena:
            first = await download(world, arena.extracts.files(EXTRACT), remember=True)
            second = await download(world, arena.extracts.files(EXTRACT), remember=True)

    assert isinstance(first.outcomes[0].error, NotFoundError)
    assert [outcome.action for outcome in second.outcomes] == [Action.SKIP]
    assert second.failures == ()
    assert len(server.lines(CONTENT)) == 1


@row("TR52", protection="a status is understood in every spelling")
@pytest.mark.parametrize(
    ("status", "done", "failed"),
    [
        ("COMPLETED", True, False),
        ("Completed", True, False),
        ("COMPLETE", True, False),
        case("complete", True, False, protection="a run that is complete is done"),
        ("DOWNLOADED", True, False),
        ("Failed", False, True),
        ("FAILED", False, True),
        ("Aborted", False, True),
        ("ABORTED", False, True),
        case("InProcess", False, False, protection="an unknown status is no end"),
        case("IN_PROCESS", False, False, protection="an unknown status is no end"),
        case("in-process", False, False, protection="an unknown status is no end"),
        case("RUNNING", False, False, protection="an unknown status is no end"),
        case("ZEBRA", False, False, protection="an unknown status is no end"),
        case("", False, False, protection="an unknown status is no end"),
        case(None, False, False, protection="an unknown status is no end"),
    ],
)
@pytest.mark.parametrize("kind", [ExtractRun, ExportRun, ImportRun])
def test_a_status_is_understood_in_every_spelling(
    kind: type[Any], status: str | None, done: bool, failed: bool
) -> None:
    """TR52: three spellings of one word, and one for what somebody has fetched already; unknown ones are still open."""
    run = kind(guid="R", status=status)

    assert (run.done, run.failed, run.over) == (done, failed, done or failed)


@row("TR52", protection="a status is understood in every spelling")
@pytest.mark.parametrize(
    "last", ["COMPLETE", "Completed", "DOWNLOADED", "ABORTED", case(None, protection="an unknown status is no end")]
)
async def test_an_unknown_status_is_waited_out_until_the_deadline(world: World, last: str | None) -> None:
    """TR52: something new is no end and no error; what has an end ends the waiting."""
    hours = Hours()
    statuses = iter(["OPEN", "QUANTUM_ENTANGLED", *([last] if last else ["QUANTUM_ENTANGLED"] * 1000)])

    async def ask() -> ExportRun:
        return ExportRun(guid="R", status=next(statuses))

    policy = PollPolicy(every=5, max_interval=300, timeout=3600)
    waiting = wait_until(ask, lambda run: run.over, policy, clock=Clock(monotonic=hours.clock, sleep=hours.sleep))
    if last is not None:
        run = await waiting
        assert (run.done, run.failed) == (last != "ABORTED", last == "ABORTED")
        return
    with pytest.raises(DeadlineError):
        await waiting
    assert hours.passed == 3600


@row("TR53", protection="files that a run does not tell are no empty list")
@pytest.mark.parametrize("alone", [True, False])
async def test_a_complete_run_that_does_not_tell_its_files_is_an_error(world: World, alone: bool) -> None:
    """TR53: neither in the list nor asked for alone; nobody knows what is missing."""
    async with RawServer() as server:
        service = ArenaScript(world, server)
        export_of_one(service, export_run(files=None), WHOLE)
        async with service.client() as arena:
            files = arena.exports.files(EXTRACT, RUN) if alone else arena.exports.files(EXTRACT)
            with pytest.raises(DecodeError) as caught:
                await download(world, files)

    world.saw(caught.value)
    assert server.lines("GET */content") == []
    assert len(server.lines("GET *")) == 2


@row("TR53", protection="files that a run does not tell are no empty list")
async def test_a_run_that_was_asked_for_and_has_no_files_is_an_error(world: World) -> None:
    """TR53: an empty list is believed, and is not what whoever named the run wanted."""
    async with RawServer() as server:
        service = ArenaScript(world, server)
        export_of_one(service, export_run(files=[]), WHOLE)
        async with service.client() as arena:
            with pytest.raises(RunFailedError) as caught:
                await download(world, arena.exports.files(EXTRACT, RUN))
            among_others = await download(world, arena.exports.files(EXTRACT))

    world.saw(caught.value)
    assert among_others.outcomes == ()
    assert server.lines("GET */content") == []


@row("TR53", protection="every file of a run is fetched")
async def test_every_file_of_a_run_comes_home(world: World) -> None:
    """TR53: several files in one run, and a run that is too old to have any besides."""
    names = [FILE, "3L5O2Z35GXG6P8R88MYX", "3L5O2Z35GXG6P8R88MYZ"]
    finals = [world.allow(EXPORT_PLACE.replace(FILE, name), ZIP) for name in names]
    old = export_run(guid="OLD0FCGIT0TL4N6P8RT2", files=None, completionDateTime="2020-01-01T00:00:00Z")
    async with RawServer() as server:
        service = ArenaScript(world, server)
        export_of_one(service, export_run(*names), WHOLE)
        service.on("GET", f"/exports/{EXTRACT}/runs", json_reply({"count": 2, "results": [export_run(*names), old]}))
        service.on("GET", f"/exports/{EXTRACT}/runs/{old['guid']}", json_reply(old))
        for name in names[1:]:
            service.on("GET", f"/exports/{EXTRACT}/runs/{RUN}/files/{name}/content", WHOLE)
        async with service.client() as arena:
            report = await download(world, arena.exports.files(EXTRACT))

    assert report.failures == ()
    assert [final.read_bytes() for final in finals] == [ZIP] * 3
    assert len(server.lines("GET */content")) == 3


@row("TR54", protection="the stamp of the service is not believed")
@pytest.mark.parametrize("kind", ["extract", "export"])
async def test_what_the_service_calls_downloaded_is_fetched_until_it_is_here(world: World, kind: str) -> None:
    """TR54: the first attempt breaks, and counts as a download there; here only what was verified counts."""
    final = world.allow(EXTRACT_PLACE if kind == "extract" else EXPORT_PLACE, ZIP)
    cut = reply(body=ZIP, headers=ETAG, cut=70_000)
    async with RawServer() as server:
        service = ArenaScript(world, server)

        def script(stamped: bool, *answers: Reply) -> None:
            if kind == "extract":
                extract_of_one(service, *answers, downloaded="2026-05-02T06:00:00Z" if stamped else None)
            else:
                export_of_one(service, export_run(status="DOWNLOADED" if stamped else "COMPLETE"), *answers)

        script(False, cut, reply(405))
        async with service.client() as arena:
            files = arena.extracts.files(EXTRACT) if kind == "extract" else arena.exports.files(EXTRACT)
            first = await download(world, files, remember=True)
            script(True, ranged(ZIP))
            second = await download(world, files, remember=True)
            third = await download(world, files, remember=True)

    assert isinstance(first.outcomes[0].error, ApiError)
    assert second.counts[Action.RESUME] == 1
    assert third.counts[Action.KEEP] == 1
    assert final.read_bytes() == ZIP
    assert len(server.lines("GET */content")) == 3


@row("TR55", protection="a refusal that stays is believed")
@pytest.mark.parametrize("refusal", [arena_error(400, 3012), arena_error(400, 3011), arena_error(404, 3012)])
async def test_the_content_of_a_run_that_is_too_old_is_gone(world: World, refusal: Reply) -> None:
    """TR55: 60 days after its end; asked for once, and not again in later runs."""
    world.allow(EXPORT_PLACE)
    hours = Hours()
    async with RawServer() as server:
        service = ArenaScript(world, server)
        export_of_one(service, export_run(), refusal)
        async with service.client(clock=Clock(monotonic=hours.clock, sleep=hours.sleep)) as arena:
            first = await download(world, arena.exports.files(EXTRACT), hours=hours, remember=True)
            second = await download(world, arena.exports.files(EXTRACT), remember=True)

    error = first.outcomes[0].error
    assert isinstance(error, ApiError)
    assert not error.transient
    assert [outcome.action for outcome in second.outcomes] == [Action.SKIP]
    assert len(server.lines("GET */content")) == 1
    assert hours.waits == []
