"""Rows CR13 to CR22 and QU30 to QU32: requests that change a service, each sent once and compared with its response."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Coroutine
from datetime import timedelta
from pathlib import Path
from typing import Any

import attrs
import pytest
from fake_clock import FakeTime
from matrix import SECRETS, World, control, row
from scripted import RawServer, json_reply
from services import ArenaScript, arena_error, page

from arena_async import ArenaClient
from arena_async.errors import (
    ConfigurationError,
    ConflictError,
    NotAsRequestedError,
    NotFoundError,
    RunFailedError,
    StorageError,
    TransportError,
)
from arena_async.options import PollPolicy
from arena_async.providers.arena import ArenaCredentials, ImportRun, Submission
from arena_async.providers.centrepoint import CentrePointClient, CentrePointCredentials, RawQuery
from arena_async.testing import ArenaSimulator, CentrePointSimulator, faults

SHEET = b"number,price\r\n900-1,5\r\n"
PASSWORD = SECRETS["password"]


def client_of(simulator: ArenaSimulator, time: FakeTime, *, ahead: float = 0.0, **options: Any) -> ArenaClient:
    """Return a client whose waits take no time, and whose clock may be ahead of that of the service."""
    arena = simulator.client(credentials=ArenaCredentials(simulator.email, PASSWORD), **options)
    timing = attrs.evolve(time.timing, now=lambda: time.now() + timedelta(seconds=ahead))
    for name in ("exports", "imports"):
        setattr(arena, name, attrs.evolve(getattr(arena, name), timing=timing))
    return arena


def sheet_of(world: World) -> Path:
    """Return a CSV file."""
    path = world.root.parent / "prices.csv"
    path.write_bytes(SHEET)
    return path


def two_submissions(world: World) -> tuple[Submission, Submission]:
    """Return two imports that commit; their files differ."""
    other = world.root.parent / "others.csv"
    other.write_bytes(b"number,price\r\n900-2,7\r\n")
    return Submission(sheet_of(world), commit=True), Submission(other, commit=True)


async def stop_when(simulator: Any, happened: Callable[[], object], work: Coroutine[Any, Any, Any]) -> None:
    """End some work as soon as something has happened, as the end of its process would."""
    task = asyncio.create_task(work)
    await simulator.until(happened)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@row("CR13", protection="what changes the service is recorded before it leaves")
@pytest.mark.parametrize("commit", [True, False])
@pytest.mark.parametrize("ahead", [0.0, 240.0], ids=["in time", "four minutes ahead"])
async def test_a_start_that_was_stopped_is_found_by_the_next_one(world: World, commit: bool, ahead: float) -> None:
    """CR13: the service works on it, the process and the directory are gone: the next one finds the run."""
    time, to = FakeTime(), world.root / "out"
    async with ArenaSimulator(clock=time, run_seconds=1, password=PASSWORD) as simulator:
        runs, before = simulator.imports[simulator.import_].runs, len(simulator.imports[simulator.import_].runs)
        exported = simulator.exports[simulator.export].runs
        simulator.inject(faults.stall(), on="POST */runs")
        file = Submission(sheet_of(world), commit=commit)
        async with client_of(simulator, time) as arena:
            await stop_when(simulator, lambda: len(runs) > before, arena.imports.fetch(simulator.import_, file, to))
        shutil.rmtree(to)
        async with client_of(simulator, time, ahead=ahead) as arena:
            found = await arena.imports.fetch(simulator.import_, file, to)
            simulator.inject(faults.stall(), on="POST */runs")
            before = len(exported)
            await stop_when(simulator, lambda: len(exported) > before, arena.exports.fetch(simulator.export, to))
            export = await arena.exports.fetch(simulator.export, to)
        posts = simulator.seen("POST */runs")

    world.saw(found, export)
    assert (found.run.guid, found.resumed, found.run.commit) == (runs[-1].guid, True, commit)
    assert (export.run.guid, export.resumed) == (exported[-1].guid, True)
    assert len(posts) == 2


@row("CR14", protection="what changes the service is recorded before it leaves")
async def test_a_commit_is_sent_once_by_all_processes(world: World) -> None:
    """CR14: two at once, and one after another that was stopped: one PUT, and each returns the committed run."""
    time = FakeTime()
    async with ArenaSimulator(clock=time, password=PASSWORD) as simulator:
        two = [simulator.add_import_run(errors=0) for _ in range(2)]
        async with client_of(simulator, time) as arena:
            both = await asyncio.gather(*(arena.imports.commit(simulator.import_, two[0].guid) for _ in range(2)))
            simulator.inject(faults.stall(), on="PUT */runs/*")
            await stop_when(simulator, lambda: two[1].commit, arena.imports.commit(simulator.import_, two[1].guid))
        two[1].commit = False  # Another server of the service does not show it yet.
        async with client_of(simulator, time) as arena:
            with pytest.raises(TransportError, match="It may have been carried out") as caught:
                await arena.imports.commit(simulator.import_, two[1].guid)
            two[1].commit = True
            shown = await arena.imports.commit(simulator.import_, two[1].guid)
        puts = [seen.path.rpartition("/")[2] for seen in simulator.seen("PUT */runs/*")]

    world.saw(caught.value)
    assert [run.commit for run in both] == [True, True]
    assert shown.commit
    assert puts == [two[0].guid, two[1].guid]


@row("CR15", protection="a request is looked up for as long as the service may take to show it")
async def test_a_run_that_the_list_shows_minutes_later_is_not_started_twice(world: World) -> None:
    """CR15: the response is lost, and the list shows the run after eight minutes: one start, at most 15 looks."""
    time = FakeTime()
    async with ArenaSimulator(clock=time, run_seconds=1, password=PASSWORD, runs_shown_after=480) as simulator:
        simulator.inject(faults.lose_answer(), on="POST */runs")
        async with client_of(simulator, time) as arena:
            run = await arena.exports.start(simulator.export)
        posts, looks = simulator.seen("POST */runs"), simulator.seen("GET */runs")

    assert run.guid == simulator.exports[simulator.export].runs[-1].guid
    assert len(posts) == 1
    assert len(looks) <= 15


@row("CR17", protection="what changes the service is recorded before it leaves")
async def test_a_request_that_no_list_shows_is_not_sent_again(world: World) -> None:
    """CR17: raw data, whose start was stopped: another process does not start it before a person says so."""
    time = FakeTime()
    query = RawQuery(234, 10821, time_from="2024-02-01T00:00:00Z", time_to="2024-02-02T00:00:00Z")
    async with CentrePointSimulator(subjects=2, rate_limit=None, token_lifetime=1e9) as simulator:
        simulator.inject(faults.stall(), on="POST /dataretrieval/*")
        credentials = CentrePointCredentials(simulator.client_id, simulator.client_secret)

        def client() -> CentrePointClient:
            return CentrePointClient(
                credentials, base_url=simulator.base_url, auth_url=simulator.auth_url, clock=time.timing
            )

        async with client() as one:
            await stop_when(
                simulator, lambda: simulator.data_requests.requests, one.raw_requests.fetch(query, world.root)
            )
        async with client() as other:
            with pytest.raises(TransportError, match="no list that shows it, so it was not sent again") as caught:
                await other.raw_requests.start(query)
            before = len(simulator.seen("POST /dataretrieval/*"))
            await other.raw_requests.start(query, start_anew=True)
        posts = simulator.seen("POST /dataretrieval/*")

    world.saw(caught.value)
    assert (before, len(posts)) == (1, 2)


@row("CR18", protection="a run that another request may have started is not taken")
async def test_a_lost_import_is_not_taken_for_another_one(world: World) -> None:
    """CR18: one was never carried out, of the other only the response is lost: its file tells."""
    time, (one, other) = FakeTime(), two_submissions(world)
    async with ArenaSimulator(clock=time, run_seconds=5, password=PASSWORD) as simulator:
        runs, before = simulator.imports[simulator.import_].runs, len(simulator.imports[simulator.import_].runs)
        simulator.inject(faults.mute(), on="POST */runs")
        simulator.inject(faults.lose_answer(), on="POST */runs")
        async with client_of(simulator, time) as arena:
            with pytest.raises(TransportError, match="It may have been carried out"):
                await arena.imports.start(simulator.import_, one)
            # The service shows no file of a run that is in progress.
            with pytest.raises(ConflictError, match="it is not certain which run was started") as caught:
                await arena.imports.start(simulator.import_, other)
            time.at += 5
            with pytest.raises(ConflictError, match="it is not certain which run was started"):
                await arena.imports.start(simulator.import_, one)
            found = await arena.imports.start(simulator.import_, other)
            with pytest.raises(TransportError, match="so it was not sent again"):
                await arena.imports.start(simulator.import_, one)
        posts = simulator.seen("POST */runs")

    world.saw(caught.value, found)
    assert [run.guid for run in runs[before:]] == [found.guid]
    assert len(posts) == 2


@row("CR18", protection="a request without a response stays recorded when another one takes its place")
async def test_a_run_of_a_request_that_was_replaced_is_not_taken_for_another_one(world: World) -> None:
    """CR18: the service shows a run after it was started anew; one more import that was lost is not taken for it."""
    time, (one, other) = FakeTime(), two_submissions(world)
    async with ArenaSimulator(clock=time, run_seconds=5, password=PASSWORD, runs_shown_after=900) as simulator:
        simulator.inject(faults.mute(), on="POST */runs")
        simulator.inject(faults.lose_answer(), on="POST */runs")
        async with client_of(simulator, time) as arena:
            for file in (one, other):
                with pytest.raises(TransportError, match="It may have been carried out"):
                    await arena.imports.start(simulator.import_, file)
            anew = await arena.imports.start(simulator.import_, other, start_anew=True)
            time.at += 900
            with pytest.raises(ConflictError, match="it is not certain which run was started") as caught:
                await arena.imports.start(simulator.import_, one)

    world.saw(caught.value)
    assert anew.guid not in str(caught.value)


@row("CR19", protection="what is known of other requests is read with each look")
async def test_a_run_that_was_started_during_a_look_up_is_not_taken(world: World) -> None:
    """CR19: another import is started while one that was never carried out is looked up: it is not taken for it."""
    time, (one, other) = FakeTime(), two_submissions(world)
    async with ArenaSimulator(clock=time, run_seconds=1, password=PASSWORD) as simulator:
        simulator.inject(faults.mute(), on="POST */runs")
        async with client_of(simulator, time) as arena:
            meanwhile: list[ImportRun] = []

            async def sleep(seconds: float) -> None:
                await time.sleep(seconds)
                # After the first look, which follows the first sleep.
                if len(time.naps) == 2:
                    meanwhile.append(await arena.imports.start(simulator.import_, other))

            looking = attrs.evolve(arena.imports, timing=attrs.evolve(arena.imports.timing, sleep=sleep))
            with pytest.raises(TransportError, match="so it was not sent again") as caught:
                await looking.start(simulator.import_, one)

    world.saw(caught.value)
    assert [run.commit for run in meanwhile] == [True]


@row("CR20", protection="what a start has done is compared before its record is closed")
@pytest.mark.parametrize("commit", [True, False])
async def test_a_start_that_did_something_else_is_not_sent_again(world: World, commit: bool) -> None:
    """CR20: the service does the opposite; the same call sends nothing, before a person has decided so."""
    run = {"guid": "R", "status": "COMPLETE", "commit": not commit, "submitFileType": "CSV"}
    file = Submission(sheet_of(world), commit=commit)
    async with RawServer() as server:
        script = ArenaScript(world, server)
        script.on("POST", "/imports/I/runs", json_reply(run))
        script.on("GET", "/imports/I/runs", page([{**run, "creationDateTime": None, "status": "RUNNING"}]))
        async with script.client() as arena:
            with pytest.raises(NotAsRequestedError, match="import run R") as caught:
                await arena.imports.start("I", file)
            with pytest.raises(ConflictError, match="it is not certain which run was started: R"):
                await arena.imports.start("I", file)
            before = len(server.lines("POST /v1/imports/*"))
            with pytest.raises(NotAsRequestedError, match="import run R"):
                await arena.imports.start("I", file, start_anew=True)

    world.saw(caught.value)
    assert (before, len(server.lines("POST /v1/imports/*"))) == (1, 2)


@row("CR21", protection="a run that was started is not replaced before the service has to show it")
async def test_a_started_run_that_is_not_shown_yet_is_not_replaced(world: World) -> None:
    """CR21: the service confirms a run, and its next servers do not know it: the same call finds it later."""
    run = {"guid": "R", "status": "RUNNING", "creationDateTime": None}
    poll = PollPolicy(every=0.001, max_interval=0.001)
    async with RawServer() as server:
        script = ArenaScript(world, server)
        script.on("POST", "/exports/E/runs", json_reply(run))
        unknown = arena_error(400, 3012)
        script.on("GET", "/exports/E/runs/R", unknown, unknown, json_reply({**run, "status": "FAILED"}))
        async with script.client() as arena:
            for expected in (NotFoundError, NotFoundError, RunFailedError):
                with pytest.raises(expected) as caught:
                    await arena.exports.fetch("E", world.root, poll=poll)
                world.saw(caught.value)

    assert len(server.lines("POST /v1/exports/*")) == 1


@row("CR22", protection="a request without a response stays recorded when another one takes its place")
async def test_a_lost_request_is_not_sent_again_after_another_call_started_anew(world: World) -> None:
    """CR22: the response to one is lost, and another call starts anew before the first look: each has its run."""
    time = FakeTime()
    async with ArenaSimulator(clock=time, run_seconds=1, password=PASSWORD) as simulator:
        runs, before = simulator.imports[simulator.import_].runs, len(simulator.imports[simulator.import_].runs)
        simulator.inject(faults.lose_answer(), on="POST */runs")
        async with client_of(simulator, time) as arena:
            file, anew = Submission(sheet_of(world), commit=True), list[ImportRun]()

            async def sleep(seconds: float) -> None:
                await time.sleep(seconds)
                if not anew:
                    anew.append(await arena.imports.start(simulator.import_, file, start_anew=True))

            lost = attrs.evolve(arena.imports, timing=attrs.evolve(arena.imports.timing, sleep=sleep))
            found = await lost.start(simulator.import_, file)

    world.saw(found)
    assert [run.guid for run in runs[before:]] == [found.guid, anew[0].guid]


@row("CR22", protection="a request without a response stays recorded when another one takes its place")
async def test_the_run_of_a_start_that_was_replaced_before_its_response_is_known(world: World) -> None:
    """CR22: another call starts anew, then the response to the first one comes; a third that is lost has no run."""
    time, gate = FakeTime(), asyncio.Event()
    async with ArenaSimulator(clock=time, run_seconds=1, password=PASSWORD) as simulator:
        simulator.inject(faults.delay(gate), on="POST */runs")
        file = Submission(sheet_of(world), commit=True)
        async with client_of(simulator, time) as arena:
            # Before the quota is known, one request is sent alone.
            await arena.imports.get(simulator.import_)
            first = asyncio.create_task(arena.imports.start(simulator.import_, file))
            await simulator.until(lambda: simulator.seen("POST */runs"))
            second = await arena.imports.start(simulator.import_, file, start_anew=True)
            gate.set()
            assert (await first).guid != second.guid
            simulator.inject(faults.mute(), on="POST */runs")
            with pytest.raises(TransportError, match="so it was not sent again") as caught:
                await arena.imports.start(simulator.import_, file)

    world.saw(caught.value)


@row("QU30", protection="the values of an import go as a query and as parts")
@pytest.mark.parametrize(
    "read",
    [
        "query",
        control("parts", reason="This service reads no query."),
        control("both", reason="This service reads what is in the form."),
    ],
)
async def test_a_dry_run_changes_nothing_and_a_commit_does_wherever_the_service_reads(world: World, read: Any) -> None:
    """QU30: the vendor's documents contradict each other; by one of them a run commits unless its query says no."""
    time = FakeTime()
    async with (
        ArenaSimulator(clock=time, run_seconds=1, password=PASSWORD, import_parameters=read) as simulator,
        client_of(simulator, time) as arena,
    ):
        checked = await arena.imports.fetch(simulator.import_, sheet_of(world), world.root)
        committed_before = simulator.imports[simulator.import_].runs[-1].commit
        committed = await arena.imports.commit(simulator.import_, checked.run.guid)

    assert (checked.run.commit, committed_before) == (False, False)
    assert committed.commit


@row("QU31", protection="what the service has done is compared with what was requested")
@pytest.mark.parametrize("commit", [True, False])
async def test_a_service_that_does_something_else_is_an_error_and_is_not_asked_again(
    world: World, commit: bool
) -> None:
    """QU31: a dry run that was committed, and a commit that was not: the error says so, also to the next call."""
    run = {"guid": "R", "status": "COMPLETE", "commit": not commit, "submitFileType": "CSV"}
    file = Submission(sheet_of(world), commit=commit)
    async with RawServer() as server:
        script = ArenaScript(world, server)
        script.on("POST", "/imports/I/runs", json_reply(run))
        script.on("GET", "/imports/I/runs/R", json_reply(run))
        async with script.client() as arena:
            for _ in range(2):
                with pytest.raises(NotAsRequestedError, match="import run R") as caught:
                    await arena.imports.fetch("I", file, world.root)
                world.saw(caught.value)

    assert len(server.lines("POST /v1/imports/*")) == 1


@row("QU32", protection="a commit is not sent without a record")
@pytest.mark.parametrize("home", [None, "a file"], ids=["no home", "no directory"])
async def test_a_commit_that_cannot_be_recorded_is_not_sent(
    world: World, monkeypatch: pytest.MonkeyPatch, home: str | None
) -> None:
    """QU32: nothing leaves but what looks at the run, and the error says what to do; a dry run is sent."""
    monkeypatch.delenv("ARENA_ASYNC_STATE")
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.delenv("HOME")
    options = {} if home is None else {"state_directory": sheet_of(world)}
    time = FakeTime()
    async with ArenaSimulator(clock=time, run_seconds=1, password=PASSWORD) as simulator:
        run = simulator.add_import_run(errors=0)
        async with client_of(simulator, time, **options) as arena:
            with pytest.raises((ConfigurationError, StorageError), match=r"Nothing was sent.*ARENA_ASYNC_STATE") as no:
                await arena.imports.commit(simulator.import_, run.guid)
            with pytest.raises((ConfigurationError, StorageError), match="Nothing was sent"):
                await arena.imports.start(simulator.import_, Submission(sheet_of(world), commit=True))
            before = simulator.seen("PUT */runs/*") + simulator.seen("POST */runs")
            dry = await arena.imports.start(simulator.import_, sheet_of(world))

    world.saw(no.value)
    assert before == []
    assert dry.commit is False
