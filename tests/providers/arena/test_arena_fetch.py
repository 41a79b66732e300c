"""A whole job in one await: started, waited for, brought home, and remembered in the folder on the way."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import attrs
import pytest
from fake_clock import FakeTime

from arena_async.errors import (
    DeadlineError,
    DestinationBusyError,
    IntegrityError,
    NotFoundError,
    QuotaExhaustedError,
    RunFailedError,
    TransfersFailedError,
    TransportError,
)
from arena_async.options import Clock, PollPolicy, TransferOptions
from arena_async.protocol.request_records import RequestRecord, record_name
from arena_async.providers.arena import ITEM, ArenaClient, all_of
from arena_async.providers.arena.exports import Exports
from arena_async.providers.arena.extracts import Extracts
from arena_async.providers.arena.runs import RunSeen
from arena_async.providers.send_once import RequestStore
from arena_async.testing import ArenaSimulator, faults
from arena_async.transfer.mirror import Mirror

#: What the user of the simulator has sent.
STORE = RequestStore("integration@example.com", now=Clock().now)


@pytest.fixture
async def arena(simulator: ArenaSimulator) -> AsyncIterator[ArenaClient]:
    """Yield a client of it."""
    async with simulator.client() as client:
        yield client


@pytest.fixture
def exports(arena: ArenaClient, time: FakeTime) -> Exports:
    """Return its exports, on the clock of the test."""
    return attrs.evolve(arena.exports, timing=time.timing)


@pytest.fixture
def extracts(arena: ArenaClient, time: FakeTime) -> Extracts:
    """Return its extracts, on the clock of the test."""
    return attrs.evolve(arena.extracts, timing=time.timing)


def lines(simulator: ArenaSimulator) -> list[str]:
    """Return what was asked, with the guids shortened to their kind."""
    shown = []
    for seen in simulator.log:
        line = f"{seen.method} {seen.path.removeprefix('/v1')}"
        for kind, guids in (
            ("X", simulator.exports),
            ("E", simulator.extracts),
            ("R", {run.guid for one in simulator.exports.values() for run in one.runs}),
            ("R", {run.guid for one in simulator.extracts.values() for run in one.runs}),
            ("F", {file.guid for one in simulator.exports.values() for run in one.runs for file in run.files}),
            ("F", {file.guid for one in simulator.extracts.values() for run in one.runs for file in run.files}),
        ):
            for guid in guids:
                line = line.replace(guid, kind)
        shown.append(line)
    return shown


def posts(simulator: ArenaSimulator) -> int:
    """Count the requests that start runs."""
    return len(simulator.seen("POST */runs"))


async def job_of(simulator: ArenaSimulator, name: str = "") -> RequestRecord | None:
    """Return what the user remembers about the export."""
    scope = await scope_of(simulator)
    return await STORE.change(
        scope, lambda records: (None, records.records.get(record_name("start", name))), required=True
    )


async def write_job(simulator: ArenaSimulator, record: RequestRecord) -> None:
    """Let the user remember something else."""
    scope = await scope_of(simulator)
    await STORE.change(
        scope, lambda records: (records.with_record(record_name("start", ""), record), None), required=True
    )


async def scope_of(simulator: ArenaSimulator) -> str:
    """Return what the records of the export are about."""
    return f"arena {simulator.base_url} workspace {simulator.workspace_id} exports {simulator.export}"


def quoted(part: str) -> str:
    """Write a part of a key."""
    return part.replace(":", "%3A").replace("/", "%2F").replace(" ", "%20")


async def test_an_export_comes_home_in_one_await_and_the_fewest_requests(
    simulator: ArenaSimulator, exports: Exports, tmp_path: Path
) -> None:
    """One start, the questions, one content: the run tells its files, so that no listing is asked for."""
    seen: list[RunSeen[Any]] = []
    fetched = await exports.fetch(simulator.export, tmp_path, on_status=seen.append)
    run = simulator.exports[simulator.export].runs[-1]
    (path,) = fetched.paths

    assert path == tmp_path / f"arena/exports/{simulator.export}/{run.guid}/{run.files[0].guid}.zip"
    assert hashlib.sha256(path.read_bytes()).hexdigest() == simulator.sha256[path.relative_to(tmp_path).as_posix()]
    assert fetched.run.guid == run.guid
    assert not fetched.resumed
    assert [one.how for one in seen] == ["started", *["asked"] * 5]
    assert lines(simulator) == [
        "POST /login",
        "POST /exports/X/runs",
        *["GET /exports/X/runs/R"] * 5,
        "GET /exports/X/runs/R/files/F/content",
    ]
    assert fetched.requests == 7
    assert fetched.report.outcomes[0].verified_by == "crc"


async def test_an_extract_comes_home_with_one_listing_of_its_run(
    simulator: ArenaSimulator, extracts: Extracts, tmp_path: Path
) -> None:
    """A single run does not tell its files."""
    fetched = await extracts.fetch(simulator.extract, tmp_path)

    assert len(fetched.paths) == 1
    assert lines(simulator) == [
        "POST /login",
        "POST /extracts/E/runs",
        *["GET /extracts/E/runs/R"] * 5,
        "GET /extracts/E/runs/R/files",
        "GET /extracts/E/runs/R/files/F/content",
    ]


async def test_the_next_fetch_starts_another_run_and_asks_less(
    simulator: ArenaSimulator, exports: Exports, tmp_path: Path
) -> None:
    """The ledger knows that it took a minute: the first question comes after 54 seconds."""
    first = await exports.fetch(simulator.export, tmp_path)
    simulator.clear()
    second = await exports.fetch(simulator.export, tmp_path)

    assert first.run.guid != second.run.guid
    assert posts(simulator) == 1
    assert len(simulator.seen(f"GET */runs/{second.run.guid}")) == 2
    job = await job_of(simulator)
    assert job is not None
    assert (job.state, job.result, job.took) == ("over", second.run.guid, second.run.took)


async def test_a_wait_that_ran_out_of_time_is_taken_up_by_the_next_call(
    simulator: ArenaSimulator, exports: Exports, tmp_path: Path
) -> None:
    """No second run: the same one is asked about at once."""
    with pytest.raises(DeadlineError):
        await exports.fetch(simulator.export, tmp_path, poll=PollPolicy(timeout=20))
    seen: list[RunSeen[Any]] = []
    fetched = await exports.fetch(simulator.export, tmp_path, on_status=seen.append)

    assert posts(simulator) == 1
    assert fetched.resumed
    assert seen[0].how == "resumed"


async def test_an_allowance_that_is_used_up_ends_the_wait_and_the_next_day_goes_on_with_it(
    simulator: ArenaSimulator, time: FakeTime, tmp_path: Path
) -> None:
    """Not one request beyond the reserve, and no second run."""
    simulator.remaining = 14
    async with simulator.client(quota_reserve=10) as arena:
        exports = attrs.evolve(arena.exports, timing=time.timing)
        with pytest.raises(QuotaExhaustedError):
            await exports.fetch(simulator.export, tmp_path)
        assert simulator.remaining == 10
    time.at += 19 * 3600
    async with simulator.client() as arena:
        fetched = await attrs.evolve(arena.exports, timing=time.timing).fetch(simulator.export, tmp_path)

    assert fetched.resumed
    assert posts(simulator) == 1


async def test_a_run_that_ended_badly_is_an_error_once(
    simulator: ArenaSimulator, exports: Exports, tmp_path: Path
) -> None:
    """It carries the run; the next call starts another one."""
    simulator.run_outcome = "FAILED"
    with pytest.raises(RunFailedError) as caught:
        await exports.fetch(simulator.export, tmp_path)
    simulator.run_outcome = None
    fetched = await exports.fetch(simulator.export, tmp_path)

    assert caught.value.run.status == "FAILED"
    assert not fetched.resumed
    assert posts(simulator) == 2


async def test_files_that_did_not_come_whole_are_an_error_and_come_with_the_next_call(
    simulator: ArenaSimulator, exports: Exports, tmp_path: Path
) -> None:
    """The run is not started again for them."""
    simulator.inject(faults.corrupt(at=5000), on="GET */content", times=None)
    with pytest.raises(TransfersFailedError) as caught:
        async with Mirror(tmp_path, options=TransferOptions(attempts=1)) as mirror:
            await exports.fetch(simulator.export, mirror)
    assert isinstance(caught.value.exceptions[0], IntegrityError)
    simulator.clear()
    fetched = await exports.fetch(simulator.export, tmp_path)

    assert fetched.resumed
    assert posts(simulator) == 0
    assert [path.is_file() for path in fetched.paths] == [True]


async def test_files_that_are_here_already_are_not_fetched_again(
    simulator: ArenaSimulator, exports: Exports, tmp_path: Path
) -> None:
    """A process may have ended between the last file and the note that all is over: one question, no content."""
    first = await exports.fetch(simulator.export, tmp_path)
    job = await job_of(simulator)
    assert job is not None
    await write_job(simulator, attrs.evolve(job, state="started"))
    simulator.clear()
    again = await exports.fetch(simulator.export, tmp_path)

    assert again.paths == first.paths
    assert again.requests == 1
    assert lines(simulator) == ["GET /exports/X/runs/R"]


async def noted(to: Path, simulator: ArenaSimulator, exports: Exports, **changes: Any) -> None:
    """Let the user remember something else about the last job."""
    await exports.fetch(simulator.export, to)
    job = await job_of(simulator)
    assert job is not None
    await write_job(simulator, attrs.evolve(job, **changes))
    simulator.clear()


async def test_a_start_whose_answer_nobody_heard_is_looked_for_before_anything_is_sent(
    simulator: ArenaSimulator, exports: Exports, time: FakeTime, tmp_path: Path
) -> None:
    """The process was killed between the request and its answer."""
    await noted(tmp_path, simulator, exports, state="sending", result="", at=time.now())
    run = simulator.add_export_run(status="CREATED")
    simulator._open_run(run, "COMPLETE")
    fetched = await exports.fetch(simulator.export, tmp_path)

    assert fetched.run.guid == run.guid
    assert fetched.resumed
    assert posts(simulator) == 0
    assert lines(simulator)[0] == "GET /exports/X/runs"


async def test_a_start_that_the_service_never_heard_is_made_after_that_look(
    simulator: ArenaSimulator, exports: Exports, time: FakeTime, tmp_path: Path
) -> None:
    """The run of before, which is a minute old, is not taken for it."""
    await noted(tmp_path, simulator, exports, state="sending", result="", at=time.now())
    fetched = await exports.fetch(simulator.export, tmp_path)

    assert not fetched.resumed
    assert lines(simulator)[:15] == ["GET /exports/X/runs"] * 14 + ["POST /exports/X/runs"]


@pytest.mark.parametrize("hours", [19, 21])
async def test_a_run_of_the_night_before_is_not_brought_as_the_one_of_today(
    simulator: ArenaSimulator, exports: Exports, time: FakeTime, tmp_path: Path, hours: int
) -> None:
    """After 20 hours a finished run is asked about, and another one is started."""
    await noted(tmp_path, simulator, exports, state="started", at=time.now() - timedelta(hours=hours))
    fetched = await exports.fetch(simulator.export, tmp_path)

    assert fetched.resumed == (hours < 20)
    assert posts(simulator) == (hours > 20)


async def test_a_run_that_is_still_open_is_waited_for_whatever_its_age(
    simulator: ArenaSimulator, exports: Exports, time: FakeTime, tmp_path: Path
) -> None:
    """Another one would only stand in line behind it."""
    await noted(tmp_path, simulator, exports, state="over")
    run = simulator.add_export_run(status="CREATED")
    simulator._open_run(run, "COMPLETE")
    job = await job_of(simulator)
    assert job is not None
    at = time.now() - timedelta(hours=50)
    await write_job(simulator, attrs.evolve(job, state="started", result=run.guid, at=at))

    assert (await exports.fetch(simulator.export, tmp_path)).run.guid == run.guid


async def test_a_fresh_run_can_be_asked_for(simulator: ArenaSimulator, exports: Exports, tmp_path: Path) -> None:
    """Whatever the folder remembers."""
    await noted(tmp_path, simulator, exports, state="started")
    fetched = await exports.fetch(simulator.export, tmp_path, start_anew=True)

    assert not fetched.resumed
    assert posts(simulator) == 1


@pytest.mark.parametrize("run", ["VDXGURVX8P8O7QH2PO36", "not a guid"])
async def test_a_run_that_is_not_there_any_more_is_replaced(
    simulator: ArenaSimulator, exports: Exports, time: FakeTime, tmp_path: Path, run: str
) -> None:
    """The workspace may have been set back, or the note be of another one; what is newer may not be shown yet."""
    await noted(tmp_path, simulator, exports, state="started", result=run, at=time.now() - timedelta(minutes=10))
    fetched = await exports.fetch(simulator.export, tmp_path)

    assert not fetched.resumed
    assert posts(simulator) == 1


async def test_a_run_of_another_user_is_not_waited_for(
    simulator: ArenaSimulator, exports: Exports, time: FakeTime, tmp_path: Path
) -> None:
    """Only who started a run gets its files."""
    theirs = simulator.add_export_run(creator=simulator.add_user("other@example.com", "pw"))
    at = time.now() - timedelta(minutes=10)
    await noted(tmp_path, simulator, exports, state="started", result=theirs.guid, at=at)

    assert (await exports.fetch(simulator.export, tmp_path)).run.guid != theirs.guid


async def test_runs_with_other_criteria_are_other_jobs(
    simulator: ArenaSimulator, exports: Exports, tmp_path: Path
) -> None:
    """A wait for one is not taken for a wait for the other."""
    definition = simulator.add_export("Without criteria", criteria=None)
    with pytest.raises(DeadlineError):
        await exports.fetch(
            definition.guid, tmp_path, criteria=all_of(ITEM.number.contains("1")), poll=PollPolicy(timeout=1)
        )
    other = await exports.fetch(definition.guid, tmp_path, criteria=all_of(ITEM.number.contains("2")))
    same = await exports.fetch(definition.guid, tmp_path, criteria=all_of(ITEM.number.contains("1")))

    assert not other.resumed
    assert same.resumed
    assert len(definition.runs) == 2


async def test_a_refusal_leaves_nothing_to_look_for(
    simulator: ArenaSimulator, exports: Exports, tmp_path: Path
) -> None:
    """The next call starts at once, without a look at the list."""
    gone = simulator.exports.pop(simulator.export)
    with pytest.raises(NotFoundError):
        await exports.fetch(simulator.export, tmp_path)
    simulator.exports[simulator.export] = gone
    simulator.clear()
    await exports.fetch(simulator.export, tmp_path)

    assert lines(simulator)[0] == "POST /exports/X/runs"


async def test_an_answer_that_was_lost_for_good_is_looked_for_by_the_next_call(
    simulator: ArenaSimulator, exports: Exports, tmp_path: Path
) -> None:
    """Even the list could not be read: the folder remembers that there may be a run."""
    simulator.inject(faults.lose_answer(), on="POST */runs")
    simulator.inject(faults.status(403), on="GET */runs")
    with pytest.raises(TransportError, match="The last look at the service failed"):
        await exports.fetch(simulator.export, tmp_path)
    fetched = await exports.fetch(simulator.export, tmp_path)

    assert fetched.resumed
    assert posts(simulator) == 1


async def test_a_folder_of_another_workspace_is_refused_before_a_run_is_started(
    simulator: ArenaSimulator, exports: Exports, tmp_path: Path
) -> None:
    """A run whose files have no place would be for nothing."""
    async with Mirror(tmp_path) as mirror:
        await mirror.claim("arena", "https://api.example.com/v1 workspace 1")
    with pytest.raises(DestinationBusyError):
        await exports.fetch(simulator.export, tmp_path)

    assert posts(simulator) == 0


async def test_a_mirror_that_is_open_can_be_handed_in(
    simulator: ArenaSimulator, exports: Exports, tmp_path: Path
) -> None:
    """It stays open, and brings its own settings."""
    async with Mirror(tmp_path) as mirror:
        await exports.fetch(simulator.export, mirror)
        assert (await mirror.verify()).ok == 1


async def test_paths_are_those_of_the_run_alone(simulator: ArenaSimulator, exports: Exports, tmp_path: Path) -> None:
    """The folder holds the files of other runs, too."""
    async with Mirror(tmp_path) as mirror:
        first = await exports.fetch(simulator.export, mirror)
        second = await exports.fetch(simulator.export, mirror)
        everything = await mirror.paths("arena/")

    assert len(first.paths) == len(second.paths) == 1
    assert sorted(everything) == sorted(first.paths + second.paths)
