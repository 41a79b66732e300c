"""Raw and epoch data in one await: requested, waited for, downloaded, and not requested twice."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from studies import SleepersClock, client_of, requests_of

from arena_async import Action, Mirror
from arena_async.errors import (
    ApiError,
    DeadlineError,
    RunFailedError,
    TransfersFailedError,
    TransportError,
)
from arena_async.options import PollPolicy
from arena_async.providers.centrepoint import CentrePointClient, DataRequests, EpochQuery, RawQuery
from arena_async.providers.centrepoint.identifiers import join_key
from arena_async.testing import faults
from arena_async.testing.centrepoint.simulator import CentrePointSimulator

SPAN = {"time_from": "2024-02-01T00:00:00Z", "time_to": "2024-02-02T00:00:00Z"}
STARTS = "POST /dataretrieval/*"
#: Not as long as a request takes in most of these tests.
SHORT = PollPolicy(every=10, max_interval=10, timeout=30)


@pytest.fixture
def clock() -> SleepersClock:
    """Return a clock that moves only when a task sleeps."""
    return SleepersClock()


@pytest.fixture
async def simulator(clock: SleepersClock) -> AsyncIterator[CentrePointSimulator]:
    """Yield a running service whose requests take 101 seconds."""
    async with CentrePointSimulator(
        subjects=2, file_size=3000, clock=clock, rate_limit=None, token_lifetime=1e8
    ) as running:
        running.data_requests.working = 100
        yield running


@pytest.fixture
async def client(simulator: CentrePointSimulator) -> AsyncIterator[CentrePointClient]:
    """Yield a client of the running service."""
    async with client_of(simulator) as made:
        yield made


@pytest.fixture
def raw(client: CentrePointClient, clock: SleepersClock) -> DataRequests[RawQuery]:
    """Return requests for raw data by the clock of the test."""
    found: DataRequests[RawQuery] = requests_of(client, clock, RawQuery)
    return found


async def test_raw_data_comes_home_in_one_await(
    raw: DataRequests[RawQuery], simulator: CentrePointSimulator, tmp_path: Path
) -> None:
    """Start, questions, list and links: what it cost is said, and where everything lies."""
    done = await raw.fetch(RawQuery(234, "A-001", file_format="avro", **SPAN), tmp_path)

    assert (done.run.status, done.resumed) == ("completed", False)
    assert done.report.counts[Action.FETCH] == 3
    assert len(done.paths) == 3
    (made,) = simulator.data_requests.requests
    contents = {b"".join(file.content.chunks()) for file in simulator.data_requests.files_of(made)}
    assert {path.read_bytes() for path in done.paths} == contents
    api = [seen for seen in simulator.log if seen.listener == "api" and "/subjects" not in seen.path.lower()]
    assert done.requests == len(api)


async def test_epochs_come_home_in_one_await(client: CentrePointClient, clock: SleepersClock, tmp_path: Path) -> None:
    """Into a mirror that is open already, too."""
    epochs: DataRequests[EpochQuery] = requests_of(client, clock, EpochQuery)
    async with Mirror(tmp_path) as mirror:
        done = await epochs.fetch(EpochQuery(234, 10821, monitor="CPW1A23190055", summary_length=15, **SPAN), mirror)

    assert done.run.summary_length == 15
    assert all(path.is_relative_to(tmp_path / "centrepoint" / "epoch-requests" / done.run.id) for path in done.paths)


async def test_a_request_that_was_started_is_waited_for_and_not_started_again(
    raw: DataRequests[RawQuery], simulator: CentrePointSimulator, tmp_path: Path
) -> None:
    """After a deadline, and as well after a crash: the directory knows it."""
    with pytest.raises(DeadlineError):
        await raw.fetch(RawQuery(234, 10821, **SPAN), tmp_path, poll=SHORT)

    done = await raw.fetch(RawQuery(234, 10821, **SPAN), tmp_path)

    assert done.resumed is True
    assert len(simulator.seen(STARTS)) == 1
    assert len(done.paths) == 3


async def test_files_that_did_not_come_come_with_the_next_call(
    raw: DataRequests[RawQuery], simulator: CentrePointSimulator, tmp_path: Path
) -> None:
    """The request is done and not made again; what is here is not fetched again."""
    simulator.inject(faults.status(404, body="Gone"), on="GET *downloadurl")
    with pytest.raises(TransfersFailedError):
        await raw.fetch(RawQuery(234, 10821, **SPAN), tmp_path)

    done = await raw.fetch(RawQuery(234, 10821, **SPAN), tmp_path)

    assert (done.report.counts[Action.FETCH], done.report.counts[Action.KEEP]) == (1, 2)
    assert len(simulator.seen(STARTS)) == 1


@pytest.mark.parametrize(
    "changes", [{"time_from": "2024-01-01T00:00:00Z"}, {"file_format": "avro"}, {"time_to": "2024-02-03T00:00:00Z"}]
)
async def test_another_time_or_format_is_another_request(
    raw: DataRequests[RawQuery], simulator: CentrePointSimulator, tmp_path: Path, changes: dict[str, Any]
) -> None:
    """Also in the directory that waits for the first one."""
    with pytest.raises(DeadlineError):
        await raw.fetch(RawQuery(234, 10821, **SPAN), tmp_path, poll=SHORT)

    done = await raw.fetch(RawQuery(234, 10821, **{**SPAN, **changes}), tmp_path)

    assert done.resumed is False
    assert len(simulator.seen(STARTS)) == 2


async def test_what_is_finished_is_asked_for_anew(
    raw: DataRequests[RawQuery], simulator: CentrePointSimulator, tmp_path: Path
) -> None:
    """A late upload may have added to it."""
    first = await raw.fetch(RawQuery(234, 10821, **SPAN), tmp_path)
    second = await raw.fetch(RawQuery(234, 10821, **SPAN), tmp_path)

    assert first.run.id != second.run.id
    assert len(simulator.seen(STARTS)) == 2


async def test_a_request_that_failed_is_made_anew_by_the_next_call(
    raw: DataRequests[RawQuery], simulator: CentrePointSimulator, tmp_path: Path
) -> None:
    """The failure is told once."""
    simulator.data_requests.failing = 1
    with pytest.raises(RunFailedError):
        await raw.fetch(RawQuery(234, 10821, **SPAN), tmp_path)

    done = await raw.fetch(RawQuery(234, 10821, **SPAN), tmp_path)

    assert (done.resumed, len(simulator.seen(STARTS))) == (False, 2)


async def test_a_start_without_an_answer_is_not_made_again_unless_a_person_says_so(
    raw: DataRequests[RawQuery], simulator: CentrePointSimulator, tmp_path: Path
) -> None:
    """The first may be active, and no list shows it: neither another directory nor a start alone sends it again."""
    query = RawQuery(234, 10821, **SPAN)
    simulator.inject(faults.lose_answer(), on=STARTS)
    with pytest.raises(TransportError, match="may count as one of the 10 active requests"):
        await raw.fetch(query, tmp_path / "one")
    with pytest.raises(TransportError, match=r"no response is known.*no list that shows it.*--start-anew"):
        await raw.fetch(query, tmp_path / "two")
    with pytest.raises(TransportError, match="was not sent again"):
        await raw.start(query)
    before = len(simulator.seen(STARTS))

    done = await raw.fetch(query, tmp_path / "two", start_anew=True)

    assert before == 1
    assert (done.resumed, len(simulator.seen(STARTS))) == (False, 2)


async def test_a_start_that_a_directory_of_an_earlier_version_has_noted_is_continued(
    raw: DataRequests[RawQuery], simulator: CentrePointSimulator, tmp_path: Path
) -> None:
    """Its row in the ledger is moved to the records of the user, and does not come back with another directory."""
    begun = await raw.start(RawQuery(234, 10821, **SPAN))
    body = json.loads(simulator.seen(STARTS)[0].body)
    digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:16]
    async with Mirror(tmp_path):
        pass
    with closing(sqlite3.connect(tmp_path / ".arena-async" / "ledger.sqlite")) as ledger:
        row = (join_key("tenant", "raw-request", digest), "started", begun.id, datetime.now(UTC).isoformat(), None)
        ledger.execute("INSERT INTO jobs VALUES (?, ?, ?, ?, ?)", row)
        ledger.commit()
    shutil.rmtree(Path(os.environ["ARENA_ASYNC_STATE"], "requests"))

    done = await raw.fetch(RawQuery(234, 10821, **SPAN), tmp_path)

    assert (done.run.id, done.resumed, len(simulator.seen(STARTS))) == (begun.id, True, 1)
    with closing(sqlite3.connect(tmp_path / ".arena-async" / "ledger.sqlite")) as ledger:
        assert ledger.execute("SELECT * FROM jobs").fetchall() == []


async def test_a_start_that_was_refused_leaves_nothing_behind(
    raw: DataRequests[RawQuery], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The next call knows of no start that might hold a place."""
    for _ in range(2):
        with pytest.raises(ApiError, match="not supported"):
            await raw.fetch(RawQuery(234, 10821, file_format="xlsx", **SPAN), tmp_path)

    assert caplog.text == ""


@pytest.mark.parametrize("days", [29, 31])
async def test_a_request_whose_files_are_gone_is_made_anew(
    raw: DataRequests[RawQuery], simulator: CentrePointSimulator, clock: SleepersClock, tmp_path: Path, days: int
) -> None:
    """They are kept for 30 days."""
    with pytest.raises(DeadlineError):
        await raw.fetch(RawQuery(234, 10821, **SPAN), tmp_path, poll=SHORT)
    clock.seconds += days * 86_400

    done = await raw.fetch(RawQuery(234, 10821, **SPAN), tmp_path)

    assert done.resumed is (days < 30)
    assert done.report.counts[Action.FETCH] == 3


async def test_a_request_that_the_service_has_forgotten_is_made_anew(
    raw: DataRequests[RawQuery], simulator: CentrePointSimulator, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With a warning."""
    with pytest.raises(DeadlineError):
        await raw.fetch(RawQuery(234, 10821, **SPAN), tmp_path, poll=SHORT)
    simulator.data_requests.requests.clear()

    done = await raw.fetch(RawQuery(234, 10821, **SPAN), tmp_path)

    assert done.resumed is False
    assert "Another request is started" in caplog.text
