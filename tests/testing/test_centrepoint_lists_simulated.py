"""The lists of the local CentrePoint beyond its files, spoken to over bare sockets: as contradictory as the pages."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from centrepoint_wire import call

from arena_async.testing.centrepoint.analytics import setting_id
from arena_async.testing.centrepoint.simulator import CentrePointSimulator

ROOT, DATA = "/centrepoint/v3/studies/234", "/analytics/v3/studies/234"
SUBJECT, COMPUTED = f"{ROOT}/subjects/10821", f"{DATA}/subjects/10821"


@pytest.fixture
async def simulator() -> AsyncIterator[CentrePointSimulator]:
    """Yield a small running service: 2 subjects, 2 programs, 6 data sets."""
    async with CentrePointSimulator(subjects=2, data_sets=6, file_size=200) as running:
        yield running


async def get(simulator: CentrePointSimulator, path: str, *, scope: str) -> tuple[int, Any]:
    """Ask for a path with a fresh token of a scope, and give status and JSON, or the text that is none."""
    answer = await call(simulator, path, scope=scope)
    is_json = answer.headers["content-type"].startswith("application/json")
    return answer.status, answer.json if is_json else answer.body.decode()


async def rows(simulator: CentrePointSimulator, path: str, *, scope: str) -> list[dict[str, Any]]:
    """Return the rows of a list of one page."""
    status, page = await get(simulator, path, scope=scope)
    assert status == 200
    assert set(page) == {"items", "links", "totalCount", "limit", "offset"}
    items: list[dict[str, Any]] = page["items"]
    return items


#: The fields of the pages, by list.
FIELDS = {
    f"{ROOT}/ActivityMonitors": """
        serial studyId siteId assignmentId assignmentStatus dataHubSerialNumber
    """,
    f"{ROOT}/Assignments": """
        id activityMonitorSerial subjectId studyId createdDate collectionStartedDate collectionStoppedDate endedDate
        scheduledCollectionStopDate status
    """,
    f"{ROOT}/Milestones": "id studyId name order",
    f"{SUBJECT}/milestones": "id name subjectId studyMilestoneId timestamp timestampSubjectTZ",
    f"{SUBJECT}/TimezoneHistory": "subjectId timezone effectiveDateUtc",
    f"{SUBJECT}/Uploads": """
        id studyId subjectId activityMonitorSerial assignmentId dateUploadedUtc activityMonitorBatteryVoltage
        activityMonitorFirmware activityMonitorSampleRateHz uploadFiles
    """,
    f"{ROOT}/Webhooks": "id studyId url createdDate isDisabled webhookEvents",
    f"{ROOT}/Webhooks/1/history": """
        id webhookId webhookEventId webhookEvent createdDate lastSentDate errorMessage request response
    """,
    "/centrepoint/v3/WebhookEvents": "id name",
    f"{COMPUTED}/DailyStatistics": """
        id subjectId studyId siteId dailyStatisticsSettingId date activityMonitorSerials firstEpochDateTimeUtc
        lastEpochDateTimeUtc firstEpochDateTimeLocal lastEpochDateTimeLocal epochAggregation
    """,
    f"{COMPUTED}/DustinTracySleepPeriods": """
        id subjectId activityMonitorSerial studyId algorithmSettingId inBedTime outBedTime durationMinutes
        timeAsleepMinutes timeAwakeMinutes awakeningCount averageAwakening totalCounts efficiency wakeAfterOnsetMinutes
        sleepFragmentationIndex sleepMovementIndex totalSleepFragmentationIndex
    """,
    f"{COMPUTED}/EventMarkers": """
        id subjectId activityMonitorSerial studyId algorithmSettingId timestampUtc longPressCount pressCount
        releaseCount
    """,
    f"{DATA}/AlgorithmSettings": "id studyId name algorithmType",
    f"{DATA}/MinuteSummarySettings": """
        id studyId wearPeriodSettingId sleepPeriodSettingId epochSummarySettingId cutpointSettingIds stepsSettingId
    """,
    f"{DATA}/DustinTracySleepPeriodSettings": "id studyId name algorithmType settings",
}


@pytest.mark.parametrize("path", FIELDS)
async def test_rows_have_the_fields_of_the_pages(simulator: CentrePointSimulator, path: str) -> None:
    """And each list wants its scope."""
    scope = "Analytics" if path.startswith("/analytics") else "CentrePoint"
    for row in await rows(simulator, path, scope=scope):
        assert set(row) == set(FIELDS[path].split())
    assert (await get(simulator, path, scope="DataRetrieval"))[0] == 403


async def test_what_is_unpleasant_in_the_documents_is_so_here(simulator: CentrePointSimulator) -> None:
    """Never as the year 1, dates without a zone, no order, a part that is missing, and an event by the wrong number."""
    assert (await rows(simulator, f"{ROOT}/Assignments", scope="CentrePoint"))[0]["endedDate"].startswith("0001-01-01")
    uploads = await rows(simulator, f"{SUBJECT}/Uploads", scope="CentrePoint")
    dates = [row["dateUploadedUtc"] for row in uploads]
    assert dates != sorted(dates)
    assert [row["uploadFiles"][0]["recordsInserted"] for row in uploads] == [86_400, 43_200, 86_400]
    assert uploads[0]["uploadFiles"][0]["beginOfData"][-1] != "Z"
    sent, failed = await rows(simulator, f"{ROOT}/Webhooks/1/history", scope="CentrePoint")
    assert (sent["webhookEventId"], sent["webhookEvent"]) == (4, "upload")
    assert json.loads(sent["request"]["headers"])["X-ActiGraph-Event"] == "upload"
    assert failed["response"] is None


async def test_a_minute_has_its_odd_spellings(simulator: CentrePointSimulator) -> None:
    """The setting with one s more, and a group of keys with capitals; 1440 a day, for three days."""
    status, page = await get(simulator, f"{COMPUTED}/MinuteSummaries?limit=2&offset=1440", scope="Analytics")
    first, second = page["items"]
    assert (status, page["totalCount"], page["offset"]) == (200, 4320, 1440)
    assert first["minuteSummarySettingsId"] == setting_id("Minute Summaries")
    assert (first["timestampUtc"], second["timestampUtc"]) == ("2024-02-27T00:00:00Z", "2024-02-27T00:01:00Z")
    assert set(first["GenericCutpointMinuteAggregations"]) == {"AlgorithmName", "CutpointBuckets", "AggregateBuckets"}


@pytest.mark.parametrize(
    ("path", "count"),
    [
        ("MinuteSummaries?fromDate=2024-02-28", 1440),
        ("MinuteSummaries?fromDate=2024-02-26T23:58:00Z&toDate=2024-02-27T00:01:00", 4),
        (f"MinuteSummaries?minuteSummarySettingId={setting_id('Minute Summaries').upper()}", 4320),
        ("MinuteSummaries?minuteSummarySettingId=another", 0),
        ("DailyStatistics?toDate=2024-02-26", 1),
        ("DailyStatistics?dailyStatisticsSettingId=another", 0),
        ("DustinTracySleepPeriods?fromDate=2024-02-27&toDate=2024-02-27", 1),
        ("EventMarkers?algorithmSettingId=another", 0),
    ],
)
async def test_filters_are_heard_unless_they_are_to_be_overlooked(
    simulator: CentrePointSimulator, path: str, count: int
) -> None:
    """Both ends of a span are included."""
    _, page = await get(simulator, f"{COMPUTED}/{path}", scope="Analytics")
    assert page["totalCount"] == count
    simulator.filters_ignored = True
    _, everything = await get(simulator, f"{COMPUTED}/{path}", scope="Analytics")
    assert everything["totalCount"] == (4320 if path.startswith("Minute") else 3)


async def test_several_ids_are_one_key_each(simulator: CentrePointSimulator) -> None:
    """And a type of algorithm is heard in any case."""
    one, other = setting_id("Minute Summaries"), setting_id("Other Minute Summaries")
    both = await rows(simulator, f"{DATA}/MinuteSummarySettings?ids={one}&ids={other.upper()}", scope="Analytics")
    assert [row["id"] for row in both] == [one, other]
    assert len(await rows(simulator, f"{DATA}/MinuteSummarySettings?ids={other}", scope="Analytics")) == 1
    assert len(await rows(simulator, f"{DATA}/AlgorithmSettings?algorithmType=uwf%20STEPS", scope="Analytics")) == 1
    assert (await get(simulator, f"{DATA}/MinuteSummarySettings/{one}", scope="Analytics"))[1]["id"] == one


@pytest.mark.parametrize(
    ("path", "scope"),
    [
        (f"{DATA}/subjects/10822/EventMarkers", "Analytics"),
        (f"{DATA}/subjects/99/DailyStatistics", "Analytics"),
        (f"{ROOT}/subjects/99/Uploads", "CentrePoint"),
        (f"{ROOT}/Assignments/1", "CentrePoint"),
        (f"{DATA}/EventMarkerSettings/x", "Analytics"),
    ],
)
async def test_what_is_not_there_is_not_found_in_plain_text(
    simulator: CentrePointSimulator, path: str, scope: str
) -> None:
    """An unknown subject, and a list of which a known one has nothing: the answer is the same."""
    status, text = await get(simulator, path, scope=scope)
    assert status == 404
    assert isinstance(text, str)


async def test_a_date_that_is_none_is_refused(simulator: CentrePointSimulator) -> None:
    """In plain text."""
    assert (await get(simulator, f"{COMPUTED}/DailyStatistics?fromDate=soon", scope="Analytics"))[0] == 400


async def test_identifiers_and_uploads_can_be_told(simulator: CentrePointSimulator) -> None:
    """For a test of what clashes and of what is stale."""
    simulator.identifiers = {10821: "10822"}
    simulator.upload_raw(10822)
    subjects = await rows(simulator, f"{ROOT}/Subjects", scope="CentrePoint")
    assert [row["subjectIdentifier"] for row in subjects] == ["10822", "A-002"]
    second = (await rows(simulator, "/dataaccess/v3/studies/234/subjects", scope="DataAccess"))[1]
    ran = second["studyProgramExecutions"][0]["lastSuccessfulProgramExecutionTimeStamp"]
    assert second["lastRawUploadedTimeStamp"] > ran


def test_two_data_sets_share_each_name(simulator_names: list[str]) -> None:
    """As in the documented sample, and never more than two."""
    assert sorted(simulator_names.count(name) for name in set(simulator_names)) == [2] * 12


@pytest.fixture
def simulator_names() -> list[str]:
    """Return the file names of 2 subjects, 2 programs and 6 data sets."""
    simulator = CentrePointSimulator(subjects=2, data_sets=6)
    return [simulator.file_name(key) for key in simulator.files]
