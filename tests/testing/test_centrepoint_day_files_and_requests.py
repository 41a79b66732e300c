"""Day files and data requests of the local CentrePoint, spoken to over bare sockets: as the vendor's pages say."""

from __future__ import annotations

import gzip
import io
import json
import struct
import zipfile
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from typing import Any
from urllib.parse import urlsplit

import pytest
from centrepoint_wire import call
from http_streams import Answer, ask
from studies import Clock

from arena_async.testing.centrepoint.simulator import CentrePointSimulator, DayKey

DAYS = "/dataaccess/v3/files/studies/234/subjects/10821/raw-accelerometer"
RAW, EPOCHS = "/dataretrieval/v3/RawActivityRequests", "/dataretrieval/v3/EpochRequests"
BODY = {
    "fileFormat": "csv",
    "studyId": 234,
    "subjectId": 10821,
    "beginTimestampUtc": "2024-02-01T00:00:00.000Z",
    "endTimestampUtc": "2024-02-02T00:00:00.000Z",
}
EPOCHS_ONLY = {"summaryLengthSeconds": 60, "includePartialEpochs": True, "activityMonitorSerial": "CPW1A23190055"}
EPOCH_BODY = {**BODY, **EPOCHS_ONLY}


@pytest.fixture
def clock() -> Clock:
    """Return a clock that a test moves."""
    clock = Clock()
    clock.seconds = 1_709_218_851.0
    return clock


@pytest.fixture
async def simulator(clock: Clock) -> AsyncIterator[CentrePointSimulator]:
    """Yield a small running service with 40 days for each of 2 subjects."""
    async with CentrePointSimulator(subjects=2, days=40, file_size=3000, clock=clock) as running:
        yield running


async def retrieve(simulator: CentrePointSimulator, path: str, *, body: Any = None) -> Answer:
    """Call one of the endpoints of data requests."""
    method = "GET" if body is None else "POST"
    return await call(simulator, path, scope="DataRetrieval", method=method, body=body)


# Day files


async def test_a_row_of_day_files_has_the_fields_of_the_sample(simulator: CentrePointSimulator) -> None:
    """Nine fields, both formats, by day; the name says neither study nor subject."""
    page = (await call(simulator, DAYS)).json

    assert (page["totalCount"], len(page["items"]), page["limit"], page["offset"]) == (80, 80, 100, 0)
    first, second = page["items"][:2]
    assert {name: value for name, value in first.items() if name != "downloadUrl"} == {
        "studyId": 234,
        "subjectId": 10821,
        "dataCategory": "raw-accelerometer",
        "date": "2021-01-01T00:00:00+00:00",
        "fileName": "raw-accelerometer_2021-01-01_e23d1f93.csv.gz",
        "fileFormat": "csv",
        "modifiedDate": "2021-01-02T20:43:57+00:00",
        "downloadUrlExpiresOn": "2024-02-29T19:00:51+00:00",
    }
    assert (second["date"], second["fileFormat"]) == ("2021-01-01T00:00:00+00:00", "avro")
    assert second["fileName"].endswith(".avro")
    path = urlsplit(first["downloadUrl"]).path
    assert path == f"/study-0000000234/subject-0000010821/raw-accelerometer/2021/01/01/{first['fileName']}"


@pytest.mark.parametrize(
    ("path", "days"),
    [
        ("", 40),
        ("/2021", 40),
        ("/2020", 0),
        ("/2021/01", 31),
        ("/2021/2", 9),
        ("/2021/01/31", 1),
        ("/2021/12/31", 0),
        ("?startDate=2021-01-30T00:00:00", 11),
        ("?startDate=2021-01-02T00:00:00&endDate=2021-01-03T00:00:00", 2),
        ("?endDate=2021-01-01T23:59:59Z", 1),
    ],
)
async def test_days_are_listed_by_range_year_month_and_day(
    simulator: CentrePointSimulator, path: str, days: int
) -> None:
    """Both borders of a range are in it, and one format is half of both."""
    both = (await call(simulator, DAYS + path)).json
    joint = "&" if "?" in path else "?"
    one = (await call(simulator, f"{DAYS}{path}{joint}fileFormat=AVRO&sortOrder=desc")).json

    assert both["totalCount"] == 2 * days
    assert one["totalCount"] == days
    dates = [row["date"] for row in one["items"]]
    assert dates == sorted(dates, reverse=True)
    assert {row["fileFormat"] for row in one["items"]} <= {"avro"}


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (DAYS.replace("10821", "1"), 404),
        (DAYS.replace("234", "9"), 404),
        (DAYS.replace("raw-accelerometer", "odour"), 404),
        (DAYS.replace("raw-accelerometer", "IMU"), 200),
        (f"{DAYS}/20x1", 400),
        (f"{DAYS}?startDate=soon", 400),
        (f"{DAYS}?limit=101", 400),
    ],
)
async def test_what_is_unknown_or_malformed_is_refused_in_plain_text(
    simulator: CentrePointSimulator, path: str, status: int
) -> None:
    """A category that is known and has no data is an empty list."""
    answer = await call(simulator, path)

    assert answer.status == status
    if status == 200:
        assert answer.json["totalCount"] == 0
    else:
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"


async def test_filters_may_be_ignored(simulator: CentrePointSimulator) -> None:
    """On order: then all days come whatever was asked for."""
    simulator.filters_ignored = True

    assert (await call(simulator, f"{DAYS}/2021/01/31?fileFormat=csv")).json["totalCount"] == 80


async def rows(simulator: CentrePointSimulator) -> list[dict[str, Any]]:
    """List the two files of the first day."""
    found: list[dict[str, Any]] = (await call(simulator, f"{DAYS}/2021/01/01")).json["items"]
    return found


async def test_a_day_is_gzip_as_csv_and_a_container_as_avro(simulator: CentrePointSimulator) -> None:
    """The content is what the format says, whole and the same every time, also in part."""
    csv, avro = [(await ask(row["downloadUrl"])).body for row in await rows(simulator)]

    day = DayKey(234, 10821, "raw-accelerometer", date(2021, 1, 1), "csv")
    assert csv == simulator.day_files.content(day)
    assert len(csv) == 3000
    assert gzip.decompress(csv).startswith(b"Timestamp,X,Y\n")
    assert read_avro(avro) == [(1_609_459_200 + place, 8) for place in range(16)]
    part = await ask((await rows(simulator))[1]["downloadUrl"], headers={"Range": "bytes=100-"})
    assert (part.status, part.body) == (206, avro[100:])


def read_avro(body: bytes) -> list[tuple[int, int]]:
    """Read a container by the Avro specification: the time of each record, and how many samples it has."""
    stream = io.BytesIO(body)

    def long() -> int:
        value, shift = 0, 0
        while True:
            byte = stream.read(1)[0]
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return (value >> 1) ^ -(value & 1)

    assert stream.read(4) == b"Obj\x01"
    meta = {}
    while count := long():
        for _ in range(count):
            name = stream.read(long()).decode()
            meta[name] = stream.read(long()).decode()
    assert (meta["avro.codec"], json.loads(meta["avro.schema"])["namespace"]) == ("null", "AvroActivity")
    sync, found = stream.read(16), []
    while stream.tell() < len(body):
        count, size = long(), long()
        end = stream.tell() + size
        for _ in range(count):
            at, samples = long(), long()
            numbers = struct.unpack(f"<{3 * samples}d", stream.read(24 * samples))
            assert all(-8 <= number <= 8 for number in numbers)
            assert long() == 0
            found.append((at, samples))
        assert stream.tell() == end
        assert stream.read(16) == sync
    return found


async def test_a_day_that_is_rebuilt_gets_a_new_name_and_the_old_link_is_dead(simulator: CentrePointSimulator) -> None:
    """In place on order: then the old link gives the new content under another ETag."""
    old = (await rows(simulator))[0]
    day = DayKey(234, 10821, "raw-accelerometer", date(2021, 1, 1), "csv")
    etag = (await ask(old["downloadUrl"])).headers["etag"]

    simulator.day_files.rebuild(day, rename=False)
    same = await ask(old["downloadUrl"], headers={"If-Match": etag, "Range": "bytes=1-"})
    simulator.day_files.rebuild(day)
    new = (await rows(simulator))[0]
    gone = await ask(old["downloadUrl"])

    assert (same.status, same.headers["x-ms-error-code"]) == (412, "ConditionNotMet")
    assert (new["fileName"] == old["fileName"], new["modifiedDate"]) == (False, "2021-01-04T20:43:57+00:00")
    assert (gone.status, gone.headers["x-ms-error-code"]) == (404, "BlobNotFound")
    simulator.day_files.remove(day)
    assert [row["fileFormat"] for row in await rows(simulator)] == ["avro"]
    assert (await ask(new["downloadUrl"])).status == 404


async def test_the_content_may_come_in_a_zip_and_the_end_may_contradict_the_link(
    simulator: CentrePointSimulator,
) -> None:
    """As one sentence of the page has it, and as its sample shows it."""
    simulator.day_files.zipped = simulator.expiry_contradicts = True
    row = (await rows(simulator))[0]
    archive = zipfile.ZipFile(io.BytesIO((await ask(row["downloadUrl"])).body))

    assert archive.namelist() == [row["fileName"]]
    assert gzip.decompress(archive.read(row["fileName"])).startswith(b"Timestamp")
    assert row["downloadUrlExpiresOn"] == "2024-02-02T15:00:51+00:00"
    assert "se=2024-02-29T19%3A00%3A51Z" in row["downloadUrl"]


async def test_a_link_to_a_day_is_over_after_its_time(simulator: CentrePointSimulator, clock: Clock) -> None:
    """And no credential of the API may come with it."""
    url = (await rows(simulator))[0]["downloadUrl"]

    assert (await ask(url, headers={"Authorization": "Bearer x"})).status == 400
    assert len(simulator.breaches) == 1
    clock.seconds += 14_400
    over = await ask(url)
    assert (over.status, over.headers["x-ms-error-code"]) == (403, "AuthenticationFailed")


# Requests for raw and epoch data


async def test_a_request_for_epochs_goes_through_its_states(simulator: CentrePointSimulator, clock: Clock) -> None:
    """The answer to making one has capitals, the status has none, and keys come as they apply."""
    made = await retrieve(simulator, EPOCHS, body=EPOCH_BODY)
    path = f"{EPOCHS}/{made.json['id']}"
    shown = []
    for seconds in (0, 1, 2):
        clock.seconds += seconds
        shown.append((await retrieve(simulator, path)).json)

    assert made.status == 200
    assert {name: value for name, value in made.json.items() if name != "id"} == {
        "fileFormat": "Csv",
        "summaryLengthSeconds": 60,
        "includePartialEpochs": True,
        "studyId": 234,
        "subjectId": 10821,
        "status": "Pending",
        "beginTimestampUtc": "2024-02-01T00:00:00.000Z",
        "endTimestampUtc": "2024-02-02T00:00:00.000Z",
        "createdDateTimeUtc": "2024-02-29T15:00:51.5082033+00:00",
    }
    assert [state["status"] for state in shown] == ["pending", "processing", "completed"]
    assert {state["fileFormat"] for state in shown} == {"csv"}
    assert ["startDateTimeUtc" in state for state in shown] == [False, True, True]
    assert ["completedDateTimeUtc" in state for state in shown] == [False, False, True]
    assert "beginTimestampUtc" not in shown[0]


async def test_ten_requests_are_active_at_most(simulator: CentrePointSimulator, clock: Clock) -> None:
    """The eleventh is refused with the words of the page; raw and epoch ones share the places."""
    for number in range(10):
        path, body = (RAW, BODY) if number % 2 else (EPOCHS, EPOCH_BODY)
        assert (await retrieve(simulator, path, body=body)).status == 200

    refused = await retrieve(simulator, RAW, body=BODY)
    assert (refused.status, refused.headers["content-type"]) == (400, "text/plain; charset=utf-8")
    assert refused.body == (
        b"There are currently 10 active requests. The maximum concurrent active requests limit is 10."
    )
    assert simulator.data_requests.active == 10
    clock.seconds += 3
    assert (await retrieve(simulator, RAW, body=BODY)).status == 200


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        (RAW, BODY | {"fileFormat": "xlsx"}, 400),
        (EPOCHS, EPOCH_BODY | {"fileFormat": "avro"}, 400),
        (EPOCHS, EPOCH_BODY | {"summaryLengthSeconds": 3601}, 400),
        (EPOCHS, BODY, 400),
        (RAW, BODY | {"beginTimestampUtc": None}, 400),
        (RAW, BODY | {"subjectId": 1}, 404),
        (RAW, [], 400),
        (f"{RAW}/{'0' * 8}", None, 404),
        ("/dataretrieval/v3/DataFiles/none/downloadurl", None, 404),
    ],
)
async def test_a_request_that_cannot_be_is_refused_in_plain_text(
    simulator: CentrePointSimulator, path: str, body: Any, status: int
) -> None:
    """Before anything is begun."""
    answer = await retrieve(simulator, path, body=body)

    assert (answer.status, answer.headers["content-type"]) == (status, "text/plain; charset=utf-8")
    assert simulator.data_requests.requests == []


async def test_the_token_must_open_data_retrieval(simulator: CentrePointSimulator) -> None:
    """Day files and requests are two scopes."""
    assert (await call(simulator, RAW, method="POST", body=BODY)).status == 403
    assert (await call(simulator, DAYS, scope="DataRetrieval")).status == 403


async def made_and_finished(simulator: CentrePointSimulator, clock: Clock, **changes: Any) -> dict[str, Any]:
    """Make a request for raw data and let it finish."""
    made: dict[str, Any] = (await retrieve(simulator, RAW, body=BODY | changes)).json
    clock.seconds += 3
    return made


async def test_files_are_a_bare_array_with_a_summary_among_them(simulator: CentrePointSimulator, clock: Clock) -> None:
    """Two parts and a small .json, with sizes and the end of their lives; none before the request is completed."""
    made = (await retrieve(simulator, RAW, body=BODY)).json
    path = f"{RAW}/{made['id']}/datafiles"
    before = await retrieve(simulator, path)
    clock.seconds += 3
    files = (await retrieve(simulator, path)).json

    assert before.json == []
    assert [set(file) for file in files] == [{"id", "fileName", "expirationDateUtc", "fileSizeBytes"}] * 3
    assert [file["fileName"].rpartition(".")[2] for file in files] == ["csv", "csv", "json"]
    assert files[0]["expirationDateUtc"] == "2024-03-30T15:00:54.5082033+00:00"
    assert [file["fileSizeBytes"] for file in files[:2]] == [3000, 3000]
    one = (await retrieve(simulator, f"/dataretrieval/v3/DataFiles/{files[2]['id']}")).json
    assert one == files[2]


@pytest.mark.parametrize(
    ("file_format", "start"),
    [("csv", b"Serial Number: TAS1F39160337\nStart Date: "), ("avro", b"Obj\x01"), ("GT3X", b"PK\x03\x04")],
)
async def test_a_link_lives_two_minutes_and_leads_to_the_announced_bytes(
    simulator: CentrePointSimulator, clock: Clock, file_format: str, start: bytes
) -> None:
    """A new one is given for the asking, as long as the file is kept."""
    made = await made_and_finished(simulator, clock, fileFormat=file_format)
    file = (await retrieve(simulator, f"{RAW}/{made['id']}/datafiles")).json[0]
    link = (await retrieve(simulator, f"/dataretrieval/v3/DataFiles/{file['id']}/downloadurl")).json
    body = (await ask(link["downloadUrl"])).body
    clock.seconds += 120
    over = await ask(link["downloadUrl"])
    again = (await retrieve(simulator, f"/dataretrieval/v3/DataFiles/{file['id']}/downloadurl")).json

    assert set(link) == {"downloadUrl", "expirationDateUtc"}
    assert link["expirationDateUtc"] == "2024-02-29T15:02:54.5082033+00:00"
    assert body.startswith(start)
    assert len(body) == file["fileSizeBytes"]
    assert (over.status, over.headers["x-ms-error-code"]) == (403, "AuthenticationFailed")
    assert (await ask(again["downloadUrl"])).body == body


async def test_files_are_removed_after_thirty_days_and_listed_a_while_longer(
    simulator: CentrePointSimulator, clock: Clock
) -> None:
    """The list says when they were removed; a link to them is not given any more."""
    made = await made_and_finished(simulator, clock)
    path = f"{RAW}/{made['id']}/datafiles"
    file = (await retrieve(simulator, path)).json[0]
    clock.seconds += 30 * 86_400
    late = (await retrieve(simulator, path)).json[0]
    refused = await retrieve(simulator, f"/dataretrieval/v3/DataFiles/{file['id']}/downloadurl")

    assert datetime.fromisoformat(late["expirationDateUtc"]) <= datetime.fromtimestamp(clock.seconds + 1, UTC)
    assert refused.status == 404
    clock.seconds += 30 * 86_400
    assert (await retrieve(simulator, path)).json == []


async def test_a_request_may_fail_and_one_that_takes_too_long_is_ended(
    simulator: CentrePointSimulator, clock: Clock
) -> None:
    """``error`` in both cases, without a reason; the place is free again."""
    simulator.data_requests.failing = 1
    failed = await made_and_finished(simulator, clock)
    simulator.data_requests.working = 7 * 3600
    ended = (await retrieve(simulator, RAW, body=BODY)).json
    clock.seconds += 6 * 3600 + 1

    for made in (failed, ended):
        state = (await retrieve(simulator, f"{RAW}/{made['id']}")).json
        assert state["status"] == "error"
        assert "errorMessage" not in state
    assert simulator.data_requests.active == 0
