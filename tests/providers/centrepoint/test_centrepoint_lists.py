"""Every list of a study over real sockets: what is requested, what is returned, and rows that were not requested."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest
from listings import take

from arena_async.errors import (
    AuthenticationError,
    ConfigurationError,
    ListingError,
    NotFoundError,
    PermissionDeniedError,
    ServerError,
)
from arena_async.http.paginator import Paginator
from arena_async.options import RetryPolicy
from arena_async.providers.centrepoint import CentrePointClient, CentrePointCredentials
from arena_async.providers.centrepoint.analytics import during, read_day, wire_date
from arena_async.providers.centrepoint.models import DatasetSubject, ProgramExecution, is_later
from arena_async.testing import CentrePointSimulator, faults
from arena_async.testing.centrepoint.analytics import FIRST_DAY, LAST_DAY, setting_id

STUDY = 234
SECOND_DAY = FIRST_DAY + timedelta(days=1)
List = Callable[[CentrePointClient], Paginator[Any]]


@pytest.fixture
async def simulator() -> AsyncIterator[CentrePointSimulator]:
    """Yield a running service of 5 subjects, A-001 to A-005."""
    async with CentrePointSimulator(file_size=200) as running:
        yield running


@pytest.fixture
async def client(simulator: CentrePointSimulator) -> AsyncIterator[CentrePointClient]:
    """Yield a client of it."""
    async with simulator.client() as made:
        yield made


#: Every list, by its path at the service and how many rows the local service has.
LISTS: dict[str, tuple[List, int]] = {
    "/centrepoint/v3/Studies": (lambda c: c.studies.search(), 1),
    "/centrepoint/v3/Studies/234/Sites": (lambda c: c.sites.search(STUDY), 1),
    "/centrepoint/v3/Studies/234/Subjects": (lambda c: c.subjects.search(STUDY), 5),
    "/centrepoint/v3/Studies/234/Milestones": (lambda c: c.milestones.search(STUDY), 2),
    "/centrepoint/v3/Studies/234/Subjects/10821/milestones": (lambda c: c.subjects.milestones(STUDY, 10821), 1),
    "/centrepoint/v3/Studies/234/Subjects/10821/TimezoneHistory": (lambda c: c.subjects.time_zones(STUDY, 10821), 2),
    "/centrepoint/v3/Studies/234/ActivityMonitors": (lambda c: c.activity_monitors.search(STUDY), 5),
    "/centrepoint/v3/Studies/234/Assignments": (lambda c: c.assignments.search(STUDY), 5),
    "/centrepoint/v3/Studies/234/Subjects/10821/Uploads": (lambda c: c.uploads.search(STUDY, 10821), 3),
    "/centrepoint/v3/WebhookEvents": (lambda c: c.webhooks.events(), 3),
    "/centrepoint/v3/Studies/234/Webhooks": (lambda c: c.webhooks.search(STUDY), 1),
    "/centrepoint/v3/Studies/234/Webhooks/1/history": (lambda c: c.webhooks.history(STUDY, 1), 2),
    "/dataaccess/v3/Studies/234/programs": (lambda c: c.programs.search(STUDY), 2),
    "/dataaccess/v3/studies/234/subjects": (lambda c: c.datasets.subjects(STUDY), 5),
    "/dataaccess/v3/studies/234/datasetfiles": (lambda c: c.datasets.search(STUDY), 20),
    "/analytics/v3/Studies/234/Subjects/10821/MinuteSummaries": (
        lambda c: c.minute_summaries.search(STUDY, 10821),
        3 * 1440,
    ),
    "/analytics/v3/Studies/234/Subjects/10821/DailyStatistics": (lambda c: c.daily_statistics.search(STUDY, 10821), 3),
    "/analytics/v3/Studies/234/Subjects/10821/DustinTracySleepPeriods": (
        lambda c: c.sleep_periods.search(STUDY, 10821),
        3,
    ),
    "/analytics/v3/Studies/234/Subjects/10821/EventMarkers": (lambda c: c.event_markers.search(STUDY, 10821), 3),
    "/analytics/v3/Studies/234/AlgorithmSettings": (lambda c: c.algorithm_settings.search(STUDY), 5),
    "/analytics/v3/Studies/234/MinuteSummarySettings": (lambda c: c.minute_summaries.settings(STUDY), 2),
    "/analytics/v3/Studies/234/DailyStatisticsSettings": (lambda c: c.daily_statistics.settings(STUDY), 1),
    "/analytics/v3/Studies/234/DustinTracySleepPeriodSettings": (lambda c: c.sleep_periods.settings(STUDY), 1),
    "/analytics/v3/Studies/234/EventMarkerSettings": (lambda c: c.event_markers.settings(STUDY), 1),
}


@pytest.mark.parametrize("path", LISTS)
async def test_every_list_is_asked_for_where_it_is_and_read_whole(
    client: CentrePointClient, simulator: CentrePointSimulator, path: str
) -> None:
    """In pages of a hundred, by one token of its scope, and with nothing in it that is not known."""
    make, count = LISTS[path]

    rows = await make(client).collect()

    assert len(rows) == count
    assert all(row.unknown == {} for row in rows)
    requested = simulator.seen(listener="api")
    assert {seen.path for seen in requested} == {path}
    assert sorted(int(seen.query["offset"]) for seen in requested) == list(range(0, count, 100))
    assert len(simulator.seen(listener="auth")) == 1


async def test_single_objects_are_read_by_what_names_them(client: CentrePointClient) -> None:
    """One request each; what is not there is not found."""
    assert (await client.activity_monitors.get(STUDY, "TAS1H00010822")).assignment_id == 510822
    assert (await client.assignments.get(STUDY, 510822)).subject_id == 10822
    assert (await client.uploads.get(STUDY, 10822, 108223)).is_partial
    assert (await client.webhooks.get(STUDY, 1)).webhook_events == ("upload",)
    minute, daily = setting_id("Minute Summaries"), setting_id("Daily Statistics")
    assert (await client.minute_summaries.setting(STUDY, minute)).id == minute
    assert (await client.daily_statistics.setting(STUDY, daily)).id == daily
    sleep = await client.sleep_periods.setting(STUDY, setting_id("Dustin Tracy Sleep Periods"))
    assert sleep.settings is not None
    assert sleep.settings.block_length_in_minutes == 30
    assert (await client.event_markers.setting(STUDY, setting_id("Event Markers"))).name == "Event Markers 1"
    with pytest.raises(NotFoundError):
        await client.assignments.get(STUDY, 1)


# Filters


async def test_the_filters_of_computed_results_reach_the_service(
    client: CentrePointClient, simulator: CentrePointSimulator
) -> None:
    """A day as a day, a moment in UTC, the setting by the name of the query, ids once for each."""
    setting = setting_id("Minute Summaries")
    begin = datetime(2024, 2, 26, 23, 58, tzinfo=timezone(timedelta(hours=-6)))
    minutes = await client.minute_summaries.search(
        STUDY, 10821, setting=setting.upper(), day_from=begin, day_to=date(2024, 2, 27)
    ).collect()
    assert [minutes[0].timestamp, minutes[-1].timestamp] == [
        datetime(2024, 2, 27, 5, 58, tzinfo=UTC),
        datetime(2024, 2, 27, 23, 59, tzinfo=UTC),
    ]
    assert len(await client.sleep_periods.search(STUDY, 10821, day_from=SECOND_DAY).collect()) == 2
    local = datetime(2024, 2, 27, 12, 30)  # noqa: DTZ001 - on the subject's own clock
    assert len(await client.daily_statistics.search(STUDY, 10821, day_to=local).collect()) == 2
    ids = [setting_id("Minute Summaries"), setting_id("Other Minute Summaries")]
    assert [row.id for row in await client.minute_summaries.settings(STUDY, ids=ids[1:]).collect()] == ids[1:]
    assert len(await client.minute_summaries.settings(STUDY, ids=ids).collect()) == 2
    assert len(await client.algorithm_settings.search(STUDY, algorithm_type="uwf steps").collect()) == 1

    queries = [
        {name: value for name, value in seen.query.items() if name not in ("limit", "offset")}
        for seen in simulator.seen(listener="api")
        if seen.query["offset"] == "0"
    ]
    assert queries == [
        {"minuteSummarySettingId": setting.upper(), "fromDate": "2024-02-27T05:58:00Z", "toDate": "2024-02-27"},
        {"fromDate": "2024-02-27"},
        {"toDate": "2024-02-27T12:30:00"},
        {"ids": ids[1]},
        {"ids": ids[1]},
        {"algorithmType": "uwf steps"},
    ]
    assert simulator.seen("*MinuteSummarySettings")[1].target.count("ids=") == 2


FILTERED: dict[str, List] = {
    "minutes by day": lambda c: c.minute_summaries.search(STUDY, 10821, day_from=LAST_DAY + timedelta(days=2)),
    "minutes by setting": lambda c: c.minute_summaries.search(STUDY, 10821, setting="another"),
    "days": lambda c: c.daily_statistics.search(STUDY, 10821, day_to=FIRST_DAY - timedelta(days=3)),
    "days by setting": lambda c: c.daily_statistics.search(STUDY, 10821, setting="another"),
    "nights": lambda c: c.sleep_periods.search(STUDY, 10821, day_from=LAST_DAY + timedelta(days=4)),
    "nights by setting": lambda c: c.sleep_periods.search(STUDY, 10821, setting="another"),
    "presses": lambda c: c.event_markers.search(STUDY, 10821, day_to=FIRST_DAY - timedelta(days=2)),
    "presses by setting": lambda c: c.event_markers.search(STUDY, 10821, setting="another"),
    "algorithms": lambda c: c.algorithm_settings.search(STUDY, algorithm_type="Choi Wear Periods"),
    "minute settings": lambda c: c.minute_summaries.settings(STUDY, ids=[setting_id("Other Minute Summaries")]),
    "daily settings": lambda c: c.daily_statistics.settings(STUDY, ids=["another"]),
    "sleep settings": lambda c: c.sleep_periods.settings(STUDY, ids=["another"]),
    "press settings": lambda c: c.event_markers.settings(STUDY, ids=["another"]),
    "files": lambda c: c.datasets.search(STUDY, data_set="ActivityEpochs10"),
}


@pytest.mark.parametrize("name", FILTERED)
async def test_a_filter_that_is_overlooked_is_noticed(
    client: CentrePointClient, simulator: CentrePointSimulator, name: str
) -> None:
    """All rows in the place of some is an error, and no wrong row is given."""
    honest = await FILTERED[name](client).collect()
    simulator.filters_ignored = True
    rows = aiter(FILTERED[name](client))

    with pytest.raises(ListingError, match=r"overlook|ignores"):
        await anext(rows)
    with pytest.raises(StopAsyncIteration):
        await anext(rows)

    assert len(honest) in (0, 1, 10)


@pytest.mark.parametrize(
    ("make", "row"),
    [
        (lambda c: c.uploads.search(STUDY, 10821), {"id": 1, "studyId": 234, "subjectId": 10822}),
        (lambda c: c.uploads.search(STUDY, "A-001"), {"id": 1, "studyId": 234, "subjectId": 10822}),
        (lambda c: c.sites.search(STUDY), {"id": 1, "studyId": 235}),
        (lambda c: c.subjects.search(STUDY), {"id": 1, "studyId": 235}),
        (lambda c: c.datasets.subjects(STUDY), {"studyId": 235, "subjectId": 1}),
        (lambda c: c.daily_statistics.search(STUDY, 10821), {"id": "1", "subjectId": 10822}),
    ],
)
async def test_rows_of_another_study_or_subject_are_noticed(
    client: CentrePointClient, simulator: CentrePointSimulator, make: List, row: dict[str, Any]
) -> None:
    """As from a cache that looks at half of the address."""
    await client.subjects.resolve(STUDY, "A-001")
    body = json.dumps({"items": [row], "links": {}, "totalCount": 1, "limit": 100, "offset": 0})
    simulator.inject(faults.status(200, body=body), on="GET *")

    with pytest.raises(ListingError, match="got a row of"):
        await make(client).collect()


@pytest.mark.parametrize(
    ("first", "last", "begins", "ends", "holds"),
    [
        (date(2024, 3, 1), date(2024, 3, 2), "2024-03-01T00:00", None, True),
        (date(2024, 3, 1), date(2024, 3, 2), "2024-02-29T00:00", None, True),
        (date(2024, 3, 1), date(2024, 3, 2), "2024-02-28T23:59", None, False),
        (date(2024, 3, 1), date(2024, 3, 2), "2024-03-03T23:59", None, True),
        (date(2024, 3, 1), date(2024, 3, 2), "2024-03-04T00:00", None, False),
        (date(2024, 3, 1), None, "2030-01-01T00:00", None, True),
        (None, date(2024, 3, 1), "2020-01-01T00:00", None, True),
        (date(2024, 3, 1), date(2024, 3, 1), "2024-02-28T22:30", "2024-02-29T06:30", True),
        (date(2024, 3, 1), date(2024, 3, 1), "2024-02-27T22:30", "2024-02-28T06:30", False),
        (datetime(2024, 3, 1, 12, tzinfo=UTC), None, "2024-02-29T11:59+00:00", None, False),
        (datetime(2024, 3, 1, 12, tzinfo=UTC), None, "2024-02-29T12:00+00:00", None, True),
    ],
)
def test_a_row_may_lie_a_day_outside_of_what_was_asked_for(
    first: date | None, last: date | None, begins: str, ends: str | None, holds: bool
) -> None:
    """It is not documented in which timezone the days begin; weeks outside are another matter."""
    (match,) = during(first, last, lambda row: row)
    row = [datetime.fromisoformat(text) for text in (begins, ends) if text is not None]
    assert match.holds(row) is holds
    assert match.holds([None]) is True


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, None),
        (date(2024, 3, 1), "2024-03-01"),
        (datetime(2024, 3, 1, 2, 3), "2024-03-01T02:03:00"),  # noqa: DTZ001 - on the subject's own clock
        (datetime(2024, 3, 1, 2, 3, tzinfo=timezone(timedelta(hours=2))), "2024-03-01T00:03:00Z"),
    ],
)
def test_days_and_moments_are_written_as_the_service_takes_them(value: date | None, text: str | None) -> None:
    """A zone is resolved, and none is made up."""
    assert wire_date(value) == text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (" 2024-03-01 ", date(2024, 3, 1)),
        ("2024-03-01T02:03:00", datetime(2024, 3, 1, 2, 3)),  # noqa: DTZ001 - on the subject's own clock
        ("2024-03-01T02:03:00Z", datetime(2024, 3, 1, 2, 3, tzinfo=UTC)),
    ],
)
def test_days_and_times_may_be_text(text: str, value: date) -> None:
    """As in the queries for day files and for raw data."""
    assert read_day(text, name="day_from") == value


@pytest.mark.parametrize(
    "how", [{"day_from": "1 March 2024"}, {"day_from": date(2024, 3, 2), "day_to": date(2024, 3, 1)}]
)
def test_a_span_that_cannot_be_meant_is_refused_at_once(how: dict[str, Any]) -> None:
    """Nothing is sent for it."""
    with pytest.raises(ConfigurationError):
        CentrePointClient(CentrePointCredentials("c", "s")).event_markers.search(1, 2, **how)


# What minutes cost


@pytest.mark.parametrize(
    ("first", "last", "subjects", "requests"),
    [
        (date(2024, 3, 1), date(2024, 3, 1), 1, 15),
        (date(2024, 3, 1), date(2024, 3, 1), 100, 1500),
        (date(2024, 3, 1), date(2024, 3, 30), 1, 432),
        (date(2024, 3, 1), date(2024, 3, 30), 100, 43_200),
        (datetime(2024, 3, 1, 0, tzinfo=UTC), datetime(2024, 3, 1, 1, 39, tzinfo=UTC), 1, 1),
        (datetime(2024, 3, 1, 0, tzinfo=UTC), datetime(2024, 3, 1, 1, 40, tzinfo=UTC), 1, 2),
        (date(2024, 3, 1), datetime(2024, 3, 1, 23, 59, tzinfo=UTC), 1, 15),
        (date(2024, 3, 1), date(2024, 3, 1), 0, 0),
    ],
)
def test_the_price_of_minutes_is_said_before_anything_is_sent(
    first: date, last: date, subjects: int, requests: int
) -> None:
    """1440 rows a day and a hundred in a request."""
    client = CentrePointClient(CentrePointCredentials("c", "s"))
    cost = client.minute_summaries.cost(first, last, subjects=subjects)
    assert (cost.listing, cost.per_file) == (requests, 0)


async def test_minutes_cost_what_was_said(client: CentrePointClient, simulator: CentrePointSimulator) -> None:
    """A full day of one subject is 15 requests on the wire."""
    cost = client.minute_summaries.cost(FIRST_DAY, FIRST_DAY)
    rows = await client.minute_summaries.search(STUDY, 10821, day_from=FIRST_DAY, day_to=FIRST_DAY).collect()
    assert len(rows) == 1440
    assert len(simulator.seen(listener="api")) == cost.listing == 15


# Lists that are not found


async def test_a_list_of_a_subject_that_is_not_found_is_empty_if_the_subject_is_there(
    client: CentrePointClient, simulator: CentrePointSimulator
) -> None:
    """The last subject never pressed the button. One request more; it is empty, and not known to be whole."""
    rows, error = await take(client.event_markers.search(STUDY, "A-005"))
    assert rows == []
    assert isinstance(error, ListingError)
    assert "taken as an empty list" in str(error)
    assert [seen.path for seen in simulator.seen("GET */10825*")] == [
        "/analytics/v3/Studies/234/Subjects/10825/EventMarkers",
        "/centrepoint/v3/Studies/234/Subjects/10825",
    ]


@pytest.mark.parametrize(
    "make",
    [
        lambda c: c.event_markers.search(STUDY, 99),
        lambda c: c.sites.search(999),
        lambda c: c.datasets.search(999),
        lambda c: c.programs.data_sets(STUDY, "no-such-program"),
        lambda c: c.uploads.search(999, 10821),
    ],
)
async def test_a_list_of_something_that_is_not_there_is_an_error(
    client: CentrePointClient, caplog: pytest.LogCaptureFixture, make: List
) -> None:
    """A mistyped number must not look like a study without data."""
    with pytest.raises(NotFoundError):
        await make(client).collect()
    assert "empty list" not in caplog.text


async def test_a_study_whose_list_of_files_is_not_found_has_none(
    client: CentrePointClient, simulator: CentrePointSimulator
) -> None:
    """For a list and for a set of files."""
    simulator.inject(faults.status(404, body="No files."), on="GET *datasetfiles", times=2)
    for rows in (client.datasets.search(STUDY), client.datasets.files(STUDY)):
        with pytest.raises(ListingError, match="taken as an empty list"):
            [row async for row in rows]


@pytest.mark.parametrize("scopes", [("DataAccess",), ("CentrePoint", "DataAccess")])
async def test_where_nobody_can_tell_whether_the_owner_is_there_it_stays_an_error(scopes: tuple[str, ...]) -> None:
    """A client may lack the scope for that, or be rejected."""
    async with CentrePointSimulator(scopes=scopes) as simulator, simulator.client() as client:
        simulator.inject(faults.status(404), on="GET *datasetfiles")
        simulator.inject(faults.status(403), on="GET /centrepoint*")
        with pytest.raises(NotFoundError):
            await client.datasets.search(STUDY).collect()


async def test_trouble_on_the_way_to_the_owner_is_no_answer(simulator: CentrePointSimulator) -> None:
    """A service that is away has not said that the study is not there."""
    simulator.inject(faults.status(404), on="GET *datasetfiles")
    simulator.inject(faults.status(503), on="GET /centrepoint*", times=None)
    async with simulator.client(retry=RetryPolicy(attempts=2, wait_initial=0, wait_jitter=0)) as client:
        with pytest.raises(ServerError):
            await client.datasets.search(STUDY).collect()


async def test_a_refused_scope_is_the_error_of_the_list(simulator: CentrePointSimulator) -> None:
    """Asked for alone, so that the one that is missing is named."""
    simulator.scopes = ("CentrePoint",)
    async with simulator.client() as client:
        assert len(await client.subjects.search(STUDY).collect()) == 5
        with pytest.raises(AuthenticationError, match="scope Analytics"):
            await client.algorithm_settings.search(STUDY).collect()
    simulator.inject(faults.status(403), on="GET /centrepoint*")
    async with simulator.client() as client:
        with pytest.raises(PermissionDeniedError, match="scope CentrePoint"):
            await client.uploads.search(STUDY, 10821).collect()


# What lacks data


def subject_row(raw: datetime | None, *ran: datetime | None) -> DatasetSubject:
    """Return a subject whose raw data came then, and its programs with their last runs."""
    executions = tuple(
        ProgramExecution(study_program_id=f"P{n}", last_successful_program_execution=when) for n, when in enumerate(ran)
    )
    return DatasetSubject(study_id=234, subject_id=1, last_raw_uploaded=raw, study_program_executions=executions)


NOON, LATER = datetime(2024, 3, 1, 12, tzinfo=UTC), datetime(2024, 3, 1, 12, 0, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("row", "programs"),
    [
        (subject_row(LATER, NOON), ["P0"]),
        (subject_row(NOON, NOON), []),
        (subject_row(NOON, LATER), []),
        (subject_row(NOON, None), ["P0"]),
        (subject_row(None, None, NOON), []),
        (subject_row(LATER, NOON, LATER, None), ["P0", "P2"]),
        (subject_row(LATER.replace(tzinfo=None), NOON), ["P0"]),
        (subject_row(LATER), []),
    ],
)
def test_data_sets_are_stale_when_raw_data_came_after_the_last_run(row: DatasetSubject, programs: list[str]) -> None:
    """Or when there is raw data and no run at all; a subject without raw data has nothing to lack."""
    assert [stale.study_program_id for stale in row.stale] == programs
    assert all(stale.last_raw_uploaded == row.last_raw_uploaded for stale in row.stale)


def test_moments_are_compared_with_and_without_a_zone() -> None:
    """Both are the same subject's."""
    assert is_later(LATER, NOON)
    assert not is_later(NOON, NOON)
    assert is_later(NOON, None)
    assert is_later(LATER, NOON.replace(tzinfo=None))


async def test_what_is_stale_in_a_study_is_told(client: CentrePointClient, simulator: CentrePointSimulator) -> None:
    """For one request per hundred subjects, and lazily."""
    assert [row async for row in client.studies.stale(STUDY)] == []
    simulator.upload_raw(10822)

    stale = [row async for row in client.studies.stale(STUDY)]

    assert [(row.subject_id, row.study_program_id) for row in stale] == [(10822, p) for p in simulator.programs]
    assert stale[0].last_successful_program_execution is not None
    assert stale[0].last_raw_uploaded > stale[0].last_successful_program_execution
    assert len(simulator.seen(listener="api")) == 2
    with pytest.raises(ConfigurationError):
        client.studies.stale("x")
