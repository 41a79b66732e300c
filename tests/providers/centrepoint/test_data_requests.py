"""Requests for raw and epoch data over real sockets: started once, waited for, and their files downloaded."""

from __future__ import annotations

import asyncio
import json
import pickle
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from scripted import RawServer, json_reply, unused_port
from studies import QUICK, SleepersClock, client_of, requests_of

from arena_async import Action, Mirror, Report
from arena_async.errors import (
    ApiError,
    ConfigurationError,
    DeadlineError,
    DecodeError,
    NotFoundError,
    PermissionDeniedError,
    RunFailedError,
    ServerError,
    TransportError,
)
from arena_async.options import Clock, PollPolicy, TransferOptions
from arena_async.protocol.decoding import decode
from arena_async.protocol.filenames import target_path as place
from arena_async.protocol.files import FileSet
from arena_async.providers.centrepoint import (
    CentrePointClient,
    CentrePointCredentials,
    DataFile,
    DataRequest,
    DataRequests,
    EpochQuery,
    RawQuery,
)
from arena_async.providers.centrepoint.api import Api
from arena_async.providers.centrepoint.data_files import data_file
from arena_async.providers.centrepoint.data_requests import ActiveRequests
from arena_async.providers.centrepoint.models import DataFileLink
from arena_async.providers.send_once import RequestStore
from arena_async.testing import faults
from arena_async.testing.centrepoint.simulator import CentrePointSimulator

PAYLOADS = Path(__file__).parents[2] / "payloads"
SUBJECT = 10821
SPAN = {"time_from": "2024-02-01T00:00:00Z", "time_to": datetime(2024, 2, 2, 1, 30, 0, 417_999, tzinfo=UTC)}
STARTS = "POST /dataretrieval/*"
TENANT = "tenant"


def payload(name: str) -> Any:
    """Return a body of the documents."""
    return json.loads((PAYLOADS / f"centrepoint_{name}.json").read_text("utf-8"))


@pytest.fixture
def clock() -> SleepersClock:
    """Return a clock that moves only when a task sleeps."""
    return SleepersClock()


@pytest.fixture
async def simulator(clock: SleepersClock) -> AsyncIterator[CentrePointSimulator]:
    """Yield a running service without limiter, whose tokens outlive every wait."""
    async with CentrePointSimulator(
        subjects=2, file_size=3000, clock=clock, rate_limit=None, token_lifetime=1e6
    ) as running:
        yield running


def scripted_client(base_url: str, auth_url: str) -> CentrePointClient:
    """Return a client of servers that were scripted."""
    credentials = CentrePointCredentials("client-7", "planted")
    return CentrePointClient(credentials, base_url=base_url, auth_url=auth_url, retry=QUICK)


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


async def downloaded(files: FileSet, directory: Path, *, workers: int = 8) -> Report:
    """Download a set without waiting between attempts."""

    async def at_once(_: float) -> None:
        await asyncio.sleep(0)

    async with Mirror(directory, options=TransferOptions(workers=workers), clock=Clock(sleep=at_once)) as mirror:
        return await mirror.sync(files)


def held(directory: Path) -> list[bytes]:
    """Return the content of a directory, the ledger included."""
    return [path.read_bytes() for path in directory.rglob("*") if path.is_file()]


# What the service says


def test_the_sample_of_a_raw_request_is_read_whole() -> None:
    """Pending, with an unknown key, and without what does not apply yet."""
    found = decode(payload("raw_request_status"), DataRequest)

    assert found == DataRequest(
        id="8b2fbb54-f635-47e6-8cb9-e187d3457b8c",
        status="pending",
        study_id=236,
        subject_id=17896,
        file_format="avro",
        created=datetime(2019, 7, 11, 18, 36, 38, 217164, UTC),
    )
    assert found.unknown == {"queuePosition": 3}
    assert (found.is_active, found.is_completed, found.is_failed) == (True, False, False)


def test_the_samples_of_epoch_requests_are_read_whole() -> None:
    """The response to a start has capitals and the time requested; the status has neither."""
    made = decode(payload("epoch_request_created"), DataRequest)
    done = decode(payload("epoch_request_status"), DataRequest)

    assert made == DataRequest(
        id="4b911d04-45c4-480b-a1c6-e53894f41869",
        status="Pending",
        study_id=1,
        subject_id=123,
        file_format="Csv",
        created=datetime(2019, 10, 21, 14, 13, 33, 508203, UTC),
        begin=datetime(2019, 7, 11, 19, 44, 8, 417000, UTC),
        end=datetime(2019, 7, 11, 19, 44, 8, 417000, UTC),
        summary_length=60,
        include_partial_epochs=False,
    )
    assert done == DataRequest(
        id="9e9df727-ab76-4ed0-be25-22771a8b7e20",
        status="completed",
        study_id=236,
        subject_id=17896,
        file_format="csv",
        created=datetime(2019, 7, 11, 19, 51, 29, 909212, UTC),
        started=datetime(2019, 7, 11, 19, 51, 35, 987035, UTC),
        completed=datetime(2019, 7, 11, 20, 7, 2, 500000, UTC),
        summary_length=60,
        include_partial_epochs=False,
    )
    assert (made.unknown, done.unknown) == ({}, {})
    assert done.is_completed


def test_the_samples_of_files_and_their_links_are_read_whole() -> None:
    """A bare array, and a link that is not shown."""
    table, summary = decode(payload("data_files"), list[DataFile])
    link = decode(payload("data_file_link"), DataFileLink)

    assert table == DataFile(
        id="255037a7-c163-483d-182a-08d7062fed2c",
        file_name="17896_TAS1F39160337_1561494008_1561645376_1ab3.csv",
        file_size=199_292_255,
        expires=datetime(2019, 8, 10, 18, 10, 19, 989585, UTC),
    )
    assert (summary.file_name[-10:], summary.file_size) == ("-0531.json", 296)
    assert (table.unknown, summary.unknown, link.unknown) == ({}, {}, {})
    assert link.download_url is not None
    assert link.download_url.reveal() == payload("data_file_link")["downloadUrl"]
    assert link.expires == datetime(2019, 7, 11, 19, 33, 38, 371648, UTC)
    assert "PLANTED" not in repr(link)


@pytest.mark.parametrize(
    ("status", "active", "completed", "failed"),
    [
        ("Pending", True, False, False),
        ("PROCESSING", True, False, False),
        ("Completed", False, True, False),
        (" completed ", False, True, False),
        ("Error", False, False, True),
        ("Queued", True, False, False),
        ("", True, False, False),
    ],
)
def test_every_spelling_of_a_status_is_understood(status: str, active: bool, completed: bool, failed: bool) -> None:
    """An unknown one counts as active."""
    request = DataRequest(id="x", status=status)

    assert (request.is_active, request.is_completed, request.is_failed) == (active, completed, failed)


def test_a_file_of_a_request_is_laid_out_by_request_and_file() -> None:
    """Its size is known; after its life it is to be skipped, with a reason."""
    table, summary = decode(payload("data_files"), list[DataFile])
    now = datetime(2019, 7, 12, tzinfo=UTC)
    entries = [
        data_file(row, request="8B2F-TRACKING", what="raw", tenant=TENANT, now=at)
        for row, at in ((table, now), (summary, now), (table, now + timedelta(days=40)))
    ]
    file, small, late = entries

    assert str(place(file)) == "centrepoint/raw-requests/8b2f-tracking/255037a7-c163-483d-182a-08d7062fed2c.csv"
    assert str(place(small)) == "centrepoint/raw-requests/8b2f-tracking/19688216-d13b-4403-182b-08d7062fed2c.json"
    assert (file.size, file.name, file.skip) == (199_292_255, table.file_name, None)
    assert file.change == f"{table.file_name}|199292255"
    assert file.fields == {
        "request": "8b2f-tracking",
        "file": "255037a7-c163-483d-182a-08d7062fed2c",
        "kind": "raw",
    }
    assert late.skip == "the service removed it on 2019-08-10; request the same data again"
    assert late.key == file.key
    assert len({file.key, small.key, data_file(table, request="r", what="epoch", tenant=TENANT, now=now).key}) == 3
    assert pickle.loads(pickle.dumps(file)).key == file.key


@pytest.mark.parametrize(
    ("name", "extension"),
    [("a.csv", ".csv"), ("a.csv.gz", ".csv.gz"), ("a.GT3X", ".gt3x"), ("a.avro", ".avro"), ("a", ""), ("", "")],
)
def test_the_extension_is_that_of_the_vendors_name(name: str, extension: str) -> None:
    """Nothing else says what the file is."""
    file = data_file(DataFile(id="1", file_name=name), request="r", what="raw", tenant=TENANT, now=datetime.now(UTC))

    assert file.extension == extension
    assert file.size is None


# Starting


async def test_a_raw_request_is_sent_as_the_page_has_it(
    raw: DataRequests[RawQuery], simulator: CentrePointSimulator
) -> None:
    """One POST, times in UTC with milliseconds."""
    started = await raw.start(RawQuery(234, SUBJECT, file_format="gt3x", **SPAN))

    (seen,) = simulator.seen(STARTS)
    assert seen.path == "/dataretrieval/v3/RawActivityRequests"
    assert json.loads(seen.body) == {
        "fileFormat": "gt3x",
        "studyId": 234,
        "subjectId": SUBJECT,
        "beginTimestampUtc": "2024-02-01T00:00:00.000Z",
        "endTimestampUtc": "2024-02-02T01:30:00.417Z",
    }
    assert (started.status, started.file_format, started.subject_id) == ("Pending", "Gt3x", SUBJECT)


async def test_an_epoch_request_is_sent_as_the_page_has_it(
    client: CentrePointClient, clock: SleepersClock, simulator: CentrePointSimulator
) -> None:
    """The subject may be given by its identifier."""
    epochs: DataRequests[EpochQuery] = requests_of(client, clock, EpochQuery)

    started = await epochs.start(
        EpochQuery("234", "A-002", monitor="CPW1A23190055", summary_length=15, include_partial_epochs=True, **SPAN)
    )

    (seen,) = simulator.seen(STARTS)
    assert seen.path == "/dataretrieval/v3/EpochRequests"
    assert json.loads(seen.body) == {
        "fileFormat": "csv",
        "summaryLengthSeconds": 15,
        "includePartialEpochs": True,
        "activityMonitorSerial": "CPW1A23190055",
        "studyId": 234,
        "subjectId": 10822,
        "beginTimestampUtc": "2024-02-01T00:00:00.000Z",
        "endTimestampUtc": "2024-02-02T01:30:00.417Z",
    }
    assert (started.summary_length, started.include_partial_epochs) == (15, True)


@pytest.mark.parametrize(
    "changes",
    [
        {"time_from": "2024-02-01T00:00:00"},
        {"time_from": datetime(2024, 2, 1)},  # noqa: DTZ001 - naive is the point
        {"time_from": "soon"},
        {"time_from": None},
        {"time_to": "2024-02-01T00:00:00Z"},
        {"time_to": "2024-01-01T00:00:00Z"},
        {"file_format": ""},
        {"monitor": " "},
        {"summary_length": 0},
        {"summary_length": 3601},
        {"summary_length": 1.5},
        {"summary_length": True},
        {"study": "A"},
        {"subject": ""},
        {"subject": None},
    ],
)
async def test_what_cannot_be_asked_for_is_refused_before_anything_is_sent(
    client: CentrePointClient, clock: SleepersClock, simulator: CentrePointSimulator, changes: dict[str, Any]
) -> None:
    """A time without a timezone is ambiguous."""
    epochs: DataRequests[EpochQuery] = requests_of(client, clock, EpochQuery)
    given = {"study": 234, "subject": SUBJECT, "monitor": "M", **SPAN, **changes}

    with pytest.raises(ConfigurationError):
        await epochs.start(EpochQuery(given.pop("study"), given.pop("subject"), **given))

    assert simulator.log == []


@pytest.mark.parametrize("raised", [TransportError, DecodeError, ServerError])
async def test_a_start_without_a_usable_answer_is_never_sent_again(
    raw: DataRequests[RawQuery], simulator: CentrePointSimulator, raised: type[Exception]
) -> None:
    """The service may have taken it: the error says so, and that it may hold a place."""
    fault = {
        TransportError: faults.lose_answer(),
        DecodeError: faults.status(200, body="<html>"),
        ServerError: faults.status(502, body="Bad gateway"),
    }[raised]
    simulator.inject(fault, on=STARTS)

    with pytest.raises(raised, match="may count as one of the 10 active requests until it is done") as caught:
        await raw.start(RawQuery(234, SUBJECT, **SPAN))

    assert getattr(caught.value, "sent", True) is True
    assert len(simulator.seen(STARTS)) == 1


async def test_a_start_that_never_left_holds_nothing(clock: SleepersClock) -> None:
    """The connection is refused: it is retried, and the error does not mention active requests."""
    async with RawServer() as server:
        server.on("POST", "/token", json_reply({"access_token": "t", "expires_in": 3600, "token_type": "Bearer"}))
        async with scripted_client(f"http://127.0.0.1:{unused_port()}", f"{server.base_url}/token") as client:
            with pytest.raises(TransportError) as caught:
                await requests_of(client, clock, RawQuery).start(RawQuery(234, SUBJECT, **SPAN))

    assert (caught.value.sent, caught.value.attempts) == (False, 3)
    assert "active requests" not in str(caught.value)


async def test_a_refusal_is_a_refusal(raw: DataRequests[RawQuery], simulator: CentrePointSimulator) -> None:
    """The words of the service, once; nothing is waited for."""
    with pytest.raises(ApiError, match=r"400 \(fileFormat xlsx is not supported.\)"):
        await raw.start(RawQuery(234, SUBJECT, file_format="xlsx", **SPAN))
    with pytest.raises(NotFoundError):
        await raw.start(RawQuery(234, 7, **SPAN))

    assert len(simulator.seen(STARTS)) == 2


# Ten places


async def test_the_eleventh_waits_in_line_until_one_is_finished(
    raw: DataRequests[RawQuery], simulator: CentrePointSimulator, clock: SleepersClock
) -> None:
    """Of this client never more than ten are active; none is rejected, since it counts itself."""
    simulator.data_requests.working = 100

    started = await asyncio.gather(*(raw.start(RawQuery(234, SUBJECT, **SPAN)) for _ in range(13)))

    assert len({request.id for request in started}) == 13
    assert [seen.status for seen in simulator.seen(STARTS)] == [200] * 13
    assert clock.slept[0] == 10
    assert sum(clock.slept) >= 100


async def test_who_waits_in_line_starts_in_the_order_of_coming(
    raw: DataRequests[RawQuery], simulator: CentrePointSimulator
) -> None:
    """First come, first served."""
    await asyncio.gather(
        *(raw.start(RawQuery(234, SUBJECT, time_from=f"2024-02-{day:02}T00:00:00Z", time_to=SPAN_END)) for day in DAYS)
    )

    begins = [json.loads(seen.body)["beginTimestampUtc"][8:10] for seen in simulator.seen(STARTS)]
    assert begins == [f"{day:02}" for day in DAYS]


DAYS = range(1, 13)
SPAN_END = "2024-03-01T00:00:00Z"


async def test_places_that_others_hold_are_waited_for(
    client: CentrePointClient, simulator: CentrePointSimulator, clock: SleepersClock
) -> None:
    """The rejection of the page is a wait of ten seconds that grows to sixty, and then another try."""
    simulator.data_requests.working = 400
    other, mine = requests_of(client, clock, RawQuery), requests_of(client, clock, EpochQuery)
    for _ in range(10):
        await other.start(RawQuery(234, SUBJECT, **SPAN))
    simulator.clear()
    clock.slept.clear()

    started = await mine.start(EpochQuery(234, SUBJECT, monitor="M", **SPAN))

    assert started.status == "Pending"
    statuses = [seen.status for seen in simulator.seen(STARTS)]
    assert statuses == [400] * (len(statuses) - 1) + [200]
    assert len(statuses) == len(clock.slept) + 1
    assert (clock.slept[0], clock.slept[-1]) == (10, 60)
    assert clock.slept == sorted(clock.slept)


async def test_a_place_that_never_comes_free_is_not_waited_for_for_ever(
    client: CentrePointClient, simulator: CentrePointSimulator, clock: SleepersClock
) -> None:
    """An error that says that nothing was started."""
    simulator.data_requests.working = 20_000
    other, mine = requests_of(client, clock, RawQuery), requests_of(client, clock, RawQuery)
    for _ in range(10):
        await other.start(RawQuery(234, SUBJECT, **SPAN))

    with pytest.raises(DeadlineError, match=r"10 requests were active for 300 s.*Nothing was started"):
        await mine.start(RawQuery(234, SUBJECT, **SPAN), poll=PollPolicy(every=10, max_interval=60, timeout=300))

    assert len(simulator.data_requests.requests) == 10
    assert sum(clock.slept) == pytest.approx(300)


async def test_the_line_itself_is_not_waited_in_for_ever(
    raw: DataRequests[RawQuery], client: CentrePointClient
) -> None:
    """The task before may wait longer than the next one's timeout."""
    active = ActiveRequests()
    behind: DataRequests[RawQuery] = DataRequests(
        Api(client.session, tenant=TENANT, clock=Clock()), RawQuery, active, RequestStore("tenant", now=Clock().now)
    )
    async with active.turn:
        with pytest.raises(DeadlineError, match="Nothing was started"):
            await behind.start(
                RawQuery(234, SUBJECT, **SPAN), poll=PollPolicy(every=0.01, max_interval=0.01, timeout=0.01)
            )
    assert (await behind.start(RawQuery(234, SUBJECT, **SPAN))).is_active


async def test_raw_and_epoch_requests_share_their_places(
    client: CentrePointClient, simulator: CentrePointSimulator, clock: SleepersClock
) -> None:
    """The documents do not exclude it."""
    simulator.data_requests.max_active = 99
    active = ActiveRequests()
    raw = requests_of(client, clock, RawQuery, active=active)
    epochs = requests_of(client, clock, EpochQuery, active=active)
    for _ in range(10):
        await raw.start(RawQuery(234, SUBJECT, **SPAN))
    assert (active.count, active.is_full) == (10, True)

    await epochs.start(EpochQuery(234, SUBJECT, monitor="M", **SPAN))

    assert clock.slept != []
    assert active.count == 10


async def test_a_wait_gives_its_place_back(
    client: CentrePointClient, simulator: CentrePointSimulator, clock: SleepersClock
) -> None:
    """A request that was waited for is not polled again."""
    active = ActiveRequests()
    raw = requests_of(client, clock, RawQuery, active=active)
    started = [await raw.start(RawQuery(234, SUBJECT, **SPAN)) for _ in range(10)]
    for request in started:
        await raw.wait(request)
    simulator.clear()

    await raw.start(RawQuery(234, SUBJECT, **SPAN))

    assert active.count == 1
    assert [seen.method for seen in simulator.log] == ["POST"]


async def test_a_request_the_service_does_not_know_any_more_holds_no_place(
    client: CentrePointClient, simulator: CentrePointSimulator, clock: SleepersClock
) -> None:
    """Not found is as good as finished."""
    active = ActiveRequests(limit=1)
    raw = requests_of(client, clock, RawQuery, active=active)
    started = await raw.start(RawQuery(234, SUBJECT, **SPAN))
    simulator.data_requests.requests.clear()

    with pytest.raises(NotFoundError):
        await raw.get(started)
    assert active.count == 0
    await raw.start(RawQuery(234, SUBJECT, **SPAN))
    simulator.data_requests.requests.clear()
    await raw.start(RawQuery(234, SUBJECT, **SPAN))
    assert active.count == 1


# Waiting


async def test_a_wait_asks_after_ten_seconds_and_then_ever_less_often(
    raw: DataRequests[RawQuery], simulator: CentrePointSimulator, clock: SleepersClock
) -> None:
    """Up to once a minute, until the files are there."""
    simulator.data_requests.working = 600
    started = await raw.start(RawQuery(234, SUBJECT, **SPAN))

    done = await raw.wait(started)

    assert (done.status, done.id) == ("completed", started.id)
    assert clock.slept[0] == 10
    assert clock.slept == sorted(clock.slept)
    assert clock.slept[-1] == 60
    assert 601 <= sum(clock.slept) < 601 + 60
    assert len(simulator.seen("GET /dataretrieval/v3/RawActivityRequests/*")) == len(clock.slept) + 1


async def test_a_request_that_failed_is_an_error_with_the_request(
    raw: DataRequests[RawQuery], simulator: CentrePointSimulator
) -> None:
    """The service does not say why."""
    simulator.data_requests.failing = 1
    started = await raw.start(RawQuery(234, SUBJECT, **SPAN))

    with pytest.raises(RunFailedError, match=r"ended with an error.*request a shorter time") as caught:
        await raw.wait(started.id)

    assert caught.value.run.id == started.id
    assert caught.value.run.is_failed


async def test_what_the_service_ends_itself_after_six_hours_fails(
    raw: DataRequests[RawQuery], simulator: CentrePointSimulator, clock: SleepersClock
) -> None:
    """The wait without a policy of the caller's is long enough to hear it."""
    simulator.data_requests.working = 10 * 3600
    with pytest.raises(RunFailedError):
        await raw.wait(await raw.start(RawQuery(234, SUBJECT, **SPAN)))

    assert 6 * 3600 <= sum(clock.slept) <= 6 * 3600 + 62


async def test_statuses_in_capitals_and_unknown_ones_are_waited_through(clock: SleepersClock) -> None:
    """And a wait that is over says that the service goes on."""
    status = payload("raw_request_status")
    async with RawServer() as server:
        server.on("POST", "/token", json_reply({"access_token": "t", "expires_in": 36000, "token_type": "Bearer"}))
        server.on(
            "GET",
            f"/dataretrieval/v3/RawActivityRequests/{status['id']}",
            *(json_reply(status | {"status": word}) for word in ("Queued", "PENDING", "Processing", "Completed")),
        )
        server.on("GET", "/dataretrieval/v3/RawActivityRequests/odd", json_reply(status | {"status": "Resting"}))
        async with scripted_client(server.base_url, f"{server.base_url}/token") as client:
            raw = requests_of(client, clock, RawQuery)
            done = await raw.wait(status["id"])
            with pytest.raises(DeadlineError, match="raw request odd: not finished after 60 s"):
                await raw.wait("odd", poll=PollPolicy(every=10, max_interval=60, timeout=60))

    assert done.status == "Completed"


# Files


async def finished(raw: Any, clock: SleepersClock, **changes: Any) -> DataRequest:
    """Start a request and wait for it."""
    found: DataRequest = await raw.wait(await raw.start(raw.kind(234, SUBJECT, **SPAN, **changes)))
    return found


@pytest.mark.parametrize(
    ("file_format", "proofs"),
    [("csv", ["length"] * 3), ("avro", ["length"] * 3), ("gt3x", ["crc", "crc", "length"])],
)
async def test_a_request_is_brought_home_from_start_to_file(
    raw: DataRequests[RawQuery],
    simulator: CentrePointSimulator,
    clock: SleepersClock,
    tmp_path: Path,
    file_format: str,
    proofs: list[str],
) -> None:
    """Both parts and the summary, verified; one metered request for the list and one for each link."""
    simulator.content_md5 = False
    done = await finished(raw, clock, file_format=file_format)
    files = raw.files(done)

    report = await downloaded(files, tmp_path)

    report.raise_for_failures()
    assert (report.counts[Action.FETCH], report.requests) == (3, 4)
    assert [outcome.verified_by for outcome in report.outcomes] == proofs
    (made,) = simulator.data_requests.requests
    for made_file in simulator.data_requests.files_of(made):
        end = made_file.name.rpartition(".")[2]
        path = tmp_path / "centrepoint" / "raw-requests" / done.id / f"{made_file.id}.{end}"
        assert path.read_bytes() == b"".join(made_file.content.chunks())
    cost = files.cost()
    assert (cost.listing, cost.per_file, cost.exact) == (1, 1, True)


async def test_epochs_are_brought_home_too_and_only_once(
    client: CentrePointClient, simulator: CentrePointSimulator, clock: SleepersClock, tmp_path: Path
) -> None:
    """A second run costs the list, a plan knows the bytes beforehand."""
    epochs = requests_of(client, clock, EpochQuery)
    done = await finished(epochs, clock, monitor="CPW1A23190055")
    files = epochs.files(done.id)
    async with Mirror(tmp_path) as mirror:
        plan = await mirror.plan(files)
    first = await downloaded(files, tmp_path)
    simulator.clear()
    second = await downloaded(files, tmp_path)

    sizes = [row.file_size for row in await epochs.data_files(done).collect()]
    assert plan.bytes_to_fetch == sum(size for size in sizes if size) == first.bytes_written
    assert (first.counts[Action.FETCH], second.counts[Action.KEEP], second.requests) == (3, 3, 1)
    assert files.scope == f"centrepoint/epoch-requests/{done.id}"
    assert files.narrowed is False
    assert files.since({"all": datetime(2024, 1, 1, tzinfo=UTC)}) is files


async def test_each_link_is_made_when_its_file_is_opened(
    raw: DataRequests[RawQuery], simulator: CentrePointSimulator, clock: SleepersClock, tmp_path: Path
) -> None:
    """Twenty parts one after the other, each a minute: no link of two minutes is over when it is used."""
    simulator.data_requests.parts = 20
    files = raw.files(await finished(raw, clock))
    simulator.clear()

    class Slow:
        """Takes a minute for each file."""

        def __getattr__(self, name: str) -> Any:
            return getattr(files, name)

        def __aiter__(self) -> Any:
            return aiter(files)

        async def open(self, file: Any, **how: Any) -> Any:
            clock.seconds += 60
            return await files.open(file, **how)

    report = await downloaded(Slow(), tmp_path, workers=1)

    report.raise_for_failures()
    assert report.counts[Action.FETCH] == 21
    links, blobs = simulator.seen("GET *downloadurl"), simulator.seen("GET *", listener="files")
    assert [seen.status for seen in blobs] == [200] * 21
    assert len(links) == 21


async def test_a_link_that_was_over_too_early_is_made_anew(
    raw: DataRequests[RawQuery], simulator: CentrePointSimulator, clock: SleepersClock, tmp_path: Path
) -> None:
    """Also in the middle of a file: the rest of the same content comes with the new link."""
    simulator.data_requests.size, simulator.data_requests.parts = 400_000, 1
    files = raw.files(await finished(raw, clock))
    simulator.inject(faults.drop(after_bytes=300_000), on="GET /dataretrieval-study-*")
    simulator.inject(faults.expire_links(), on="GET /dataretrieval-study-*")

    report = await downloaded(files, tmp_path, workers=1)

    report.raise_for_failures()
    seen = simulator.seen("GET /dataretrieval-study-*", listener="files")
    assert sorted(one.status or 0 for one in seen) == [200, 200, 206, 403]
    (rest,) = (one for one in seen if one.status == 206)
    assert rest.sent < 200_000
    assert len({one.target for one in seen}) == 4
    (made,) = simulator.data_requests.requests
    content = b"".join(simulator.data_requests.files_of(made)[0].content.chunks())
    assert content in held(tmp_path)


async def test_files_that_were_removed_are_skipped_with_a_reason(
    raw: DataRequests[RawQuery], clock: SleepersClock, tmp_path: Path
) -> None:
    """What is here already is kept, and stays known."""
    files = raw.files(await finished(raw, clock))
    await downloaded(files, tmp_path / "early")
    clock.seconds += 31 * 86_400

    early, late = await downloaded(files, tmp_path / "early"), await downloaded(files, tmp_path / "late")

    assert (early.counts[Action.KEEP], early.counts[Action.SKIP]) == (3, 0)
    assert (late.counts[Action.SKIP], late.failures) == (3, ())
    assert all("request the same data again" in outcome.reason for outcome in late.outcomes)
    async with Mirror(tmp_path / "early") as mirror:
        assert (await mirror.verify()).ok == 3


async def test_a_file_that_is_gone_before_its_time_fails_alone(
    raw: DataRequests[RawQuery], simulator: CentrePointSimulator, clock: SleepersClock, tmp_path: Path
) -> None:
    """One request for its link; the others come."""
    simulator.inject(faults.status(404, body="Gone"), on="GET *downloadurl")
    files = raw.files(await finished(raw, clock))

    report = await downloaded(files, tmp_path)

    (failed,) = report.failures
    assert isinstance(failed.error, NotFoundError)
    assert report.counts[Action.FETCH] == 2
    assert len(simulator.seen("GET *downloadurl")) == 3


async def test_a_file_host_that_refuses_each_new_link_is_not_given_up_for_ever(
    raw: DataRequests[RawQuery], simulator: CentrePointSimulator, clock: SleepersClock, tmp_path: Path
) -> None:
    """A rule of its network is no reason to skip the file the next time."""
    simulator.data_requests.parts = 0
    files = raw.files(await finished(raw, clock))
    refusal = faults.status(403, body="<Error><Code>AuthorizationPermissionMismatch</Code></Error>")
    simulator.inject(refusal, on="GET /dataretrieval-study-*", times=4)

    first, second = await downloaded(files, tmp_path), await downloaded(files, tmp_path)

    (failed,) = first.failures
    assert isinstance(failed.error, PermissionDeniedError)
    assert second.counts[Action.FETCH] == 1
    blobs = simulator.seen("GET /dataretrieval-study-*", listener="files")
    assert [seen.status for seen in blobs] == [403, 403, 403, 403, 200]


@pytest.mark.parametrize("answer", [{}, {"downloadUrl": None}, {"downloadUrl": "x" * 70_000}])
async def test_an_answer_that_is_no_link_is_an_error(
    clock: SleepersClock, tmp_path: Path, answer: dict[str, Any]
) -> None:
    """Nothing of it is sent anywhere."""
    async with RawServer() as server:
        server.on("POST", "/token", json_reply({"access_token": "t", "expires_in": 3600, "token_type": "Bearer"}))
        row = payload("data_files")[1] | {"expirationDateUtc": None}
        server.on("GET", "/dataretrieval/v3/RawActivityRequests/r/datafiles", json_reply([row]))
        server.on("GET", f"/dataretrieval/v3/DataFiles/{row['id']}/downloadurl", json_reply(answer))
        async with scripted_client(server.base_url, f"{server.base_url}/token") as client:
            report = await downloaded(requests_of(client, clock, RawQuery).files("r"), tmp_path)

        (failed,) = report.failures
        assert isinstance(failed.error, DecodeError)
        assert len(server.lines("GET *")) == 2


async def test_no_link_is_shown_or_stored(
    raw: DataRequests[RawQuery],
    simulator: CentrePointSimulator,
    clock: SleepersClock,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Not in the log, not in an error, not in the directory."""
    caplog.set_level("DEBUG", logger="arena_async")
    files = raw.files(await finished(raw, clock))
    simulator.inject(faults.status(418, body="no"), on="GET /dataretrieval-study-*")

    report = await downloaded(files, tmp_path)

    signatures = [seen.query["sig"] for seen in simulator.seen("GET *", listener="files")]
    assert len(signatures) == 3
    said = caplog.text + "".join(f"{outcome!r} {outcome.error!r}" for outcome in report.outcomes)
    stored = b"".join(held(tmp_path))
    for signature in signatures:
        assert signature not in said
        assert signature.encode() not in stored


async def test_links_are_asked_for_once_by_whoever_opens(
    raw: DataRequests[RawQuery], simulator: CentrePointSimulator, clock: SleepersClock, tmp_path: Path
) -> None:
    """A broken response is retried by the loop over the body, and by nothing else."""
    simulator.data_requests.parts = 0
    files = raw.files(await finished(raw, clock))
    (file,) = [found async for found in files]
    simulator.inject(faults.status(503, body="busy"), on="GET *downloadurl", times=None)

    with pytest.raises(ServerError):
        await files.open(file)
    assert len(simulator.seen("GET *downloadurl")) == 1

    simulator.clear()
    simulator.inject(faults.mute(), on="GET *downloadurl", times=2)
    report = await downloaded(files, tmp_path)
    report.raise_for_failures()
    assert len(simulator.seen("GET *downloadurl")) == 3


async def test_an_unknown_request_has_no_files(raw: DataRequests[RawQuery]) -> None:
    """404 stays an error: nothing vouches for the tracking id."""
    with pytest.raises(NotFoundError):
        [file async for file in raw.files("00000000-0000")]
    with pytest.raises(NotFoundError):
        await raw.wait("00000000-0000")


async def test_files_can_be_found_again_by_key(raw: DataRequests[RawQuery], clock: SleepersClock) -> None:
    """With one request, whatever their number."""
    files = raw.files(await finished(raw, clock))
    listed = [file async for file in files]

    found = await files.find([listed[0].key, listed[2].key, "arena/else"])

    assert [file.key for file in found] == [listed[0].key, listed[2].key]
    assert listed[0].link != listed[0].link.__class__()
    assert "***" in repr(listed[0].link)
