"""The local CentrePoint, spoken to over bare sockets: it behaves as the vendor's pages say."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit

import attrs
import pytest

from arena_async.testing import faults
from arena_async.testing.centrepoint.simulator import CentrePointSimulator

PROGRAM = "5b342a11-2fb9-4ad9-a7be-4d410181f51c"
FILES = "/dataaccess/v3/studies/234/datasetfiles"


@attrs.frozen
class Answer:
    """One answer off the wire."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


async def talk(url: str, *, method: str = "GET", headers: Mapping[str, str] | None = None, body: bytes = b"") -> Answer:
    """Send one request over a socket of its own and read what comes until the connection ends."""
    parts = urlsplit(url)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    lines = [f"{method} {target} HTTP/1.1", f"Host: {parts.netloc}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        raw = await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()
    head, _, rest = raw.partition(b"\r\n\r\n")
    first, *pairs = head.decode("latin-1").split("\r\n")
    named = dict(pair.split(": ", 1) for pair in pairs)
    return Answer(int(first.split()[1]), {name.lower(): value for name, value in named.items()}, rest)


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 1_709_218_851.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """Return a clock that a test moves."""
    return Clock()


@pytest.fixture
async def simulator(clock: Clock) -> AsyncIterator[CentrePointSimulator]:
    """Yield a small running service: 2 subjects, 2 programs, 2 data sets."""
    async with CentrePointSimulator(subjects=2, file_size=1000, clock=clock) as running:
        yield running


async def ask_token(simulator: CentrePointSimulator, *, scope: str = "DataAccess", **changes: str) -> Answer:
    """Ask for a token as the token page says."""
    form = {
        "client_id": simulator.client_id,
        "client_secret": simulator.client_secret,
        "grant_type": "client_credentials",
        "scope": scope,
    } | changes
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    return await talk(simulator.auth_url, method="POST", headers=kind, body=urlencode(form).encode())


async def bearer(simulator: CentrePointSimulator, scope: str = "DataAccess") -> dict[str, str]:
    """Return the header of a fresh token."""
    return {"Authorization": f"Bearer {(await ask_token(simulator, scope=scope)).json['access_token']}"}


async def first_file(simulator: CentrePointSimulator) -> dict[str, Any]:
    """Return the first row of the list of dataset files."""
    answer = await talk(f"{simulator.base_url}{FILES}?limit=1", headers=await bearer(simulator))
    row: dict[str, Any] = answer.json["items"][0]
    return row


async def test_a_token_is_given_for_the_form_of_the_documents(simulator: CentrePointSimulator) -> None:
    """Three fields, and the token looks like a JWT."""
    answer = await ask_token(simulator, scope="CentrePoint DataAccess")

    assert answer.status == 200
    assert set(answer.json) == {"access_token", "expires_in", "token_type"}
    assert (answer.json["expires_in"], answer.json["token_type"]) == (3600, "Bearer")
    assert answer.json["access_token"].count(".") == 2


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"client_secret": "wrong"}, "invalid_client"),
        ({"client_id": "wrong"}, "invalid_client"),
        ({"scope": "Everything"}, "invalid_scope"),
        ({"scope": "DataAccess Everything"}, "invalid_scope"),
        ({"scope": ""}, "invalid_scope"),
        ({"grant_type": "password"}, "unsupported_grant_type"),
    ],
)
async def test_a_wrong_form_is_refused_as_oauth_says(
    simulator: CentrePointSimulator, changes: dict[str, str], error: str
) -> None:
    """400 and the name of the error; a combined set fails as a whole."""
    answer = await ask_token(simulator, **changes)

    assert (answer.status, answer.json) == (400, {"error": error})


async def test_a_client_may_lack_a_scope() -> None:
    """Then only that scope is refused."""
    async with CentrePointSimulator(scopes=("DataAccess",)) as simulator:
        assert (await ask_token(simulator, scope="CentrePoint")).json == {"error": "invalid_scope"}
        assert (await ask_token(simulator, scope="DataAccess")).status == 200


async def test_a_request_needs_a_live_token_of_the_right_scope(simulator: CentrePointSimulator, clock: Clock) -> None:
    """401 without, forged or over; 403 in plain text with another scope."""
    url, headers = f"{simulator.base_url}{FILES}", await bearer(simulator)

    assert (await talk(url)).status == 401
    assert (await talk(url, headers={"Authorization": headers["Authorization"][:-2] + "xx"})).status == 401
    assert (await talk(url, headers={"Authorization": "Bearer \xff.\xfe.x"})).status == 401
    wrong = await talk(url, headers=await bearer(simulator, "CentrePoint"))
    assert (wrong.status, wrong.headers["content-type"]) == (403, "text/plain; charset=utf-8")
    assert (await talk(url, headers=headers)).status == 200
    clock.now += 3600
    assert (await talk(url, headers=headers)).status == 401


async def test_a_page_is_the_documented_envelope(simulator: CentrePointSimulator) -> None:
    """A real total, echoes, and a link to the next page that lies under the wrong prefix."""
    answer = await talk(f"{simulator.base_url}{FILES}?limit=3&offset=3", headers=await bearer(simulator))

    page = answer.json
    assert set(page) == {"items", "links", "totalCount", "limit", "offset"}
    assert (page["totalCount"], page["limit"], page["offset"], len(page["items"])) == (8, 3, 3, 3)
    assert urlsplit(page["links"]["next"]).path == "/DataRetrieval/v3/Studies"
    assert urlsplit(page["links"]["prev"]).path == "/DataRetrieval/v3/Studies"


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=x", "limit=1&offset=-1"])
async def test_a_page_out_of_bounds_is_refused_in_plain_text(simulator: CentrePointSimulator, query: str) -> None:
    """1 to 100 rows, from 0 on."""
    answer = await talk(f"{simulator.base_url}{FILES}?{query}", headers=await bearer(simulator))

    assert (answer.status, answer.headers["content-type"]) == (400, "text/plain; charset=utf-8")


async def test_paths_are_matched_without_regard_to_case(simulator: CentrePointSimulator) -> None:
    """The pages and their samples do not agree on it."""
    headers = await bearer(simulator)

    for path in (FILES.upper(), "/DataAccess/v3/Studies/234/dataSetFiles", "/studies/234/dataSetExportFiles"):
        assert (await talk(f"{simulator.base_url}{path}", headers=headers)).status == 200


async def test_an_unknown_study_or_path_is_a_404_in_plain_text(simulator: CentrePointSimulator) -> None:
    """Never JSON."""
    headers = await bearer(simulator)

    for path in ("/dataaccess/v3/studies/999/datasetfiles", "/dataaccess/v3/nothing"):
        answer = await talk(f"{simulator.base_url}{path}", headers=headers)
        assert (answer.status, answer.headers["content-type"]) == (404, "text/plain; charset=utf-8")


async def test_a_row_has_the_fields_of_the_samples_and_names_collide(simulator: CentrePointSimulator) -> None:
    """Eleven fields; the two data sets of one subject and program share a file name."""
    page = (await talk(f"{simulator.base_url}{FILES}", headers=await bearer(simulator))).json
    daily, epochs = page["items"][:2]

    assert set(daily) == {
        "studyId",
        "studyVersion",
        "studyProgramId",
        "dataSetName",
        "subjectId",
        "fileName",
        "fileFormat",
        "modifiedDate",
        "lastSuccessfulProgramExecutionTimeStamp",
        "fileUrl",
        "downloadUrlExpiresOn",
    }
    assert (daily["studyId"], daily["subjectId"], daily["studyProgramId"]) == (234, 10821, PROGRAM)
    assert (daily["dataSetName"], epochs["dataSetName"]) == ("ActivityDaily8", "ActivityEpochs10")
    assert daily["fileName"] == epochs["fileName"]
    assert daily["fileName"].startswith("10821_")
    assert daily["lastSuccessfulProgramExecutionTimeStamp"] == "2024-02-29T10:05:08.0962163+00:00"
    assert daily["downloadUrlExpiresOn"] == "2024-02-29T19:00:51+00:00"
    assert "se=2024-02-29T19%3A00%3A51Z" in daily["fileUrl"]


@pytest.mark.parametrize(
    ("filters", "count"),
    [
        ({}, 8),
        ({"subjectId": 10822}, 4),
        ({"studyProgramId": PROGRAM.upper()}, 4),
        ({"dataSetName": "activitydaily8"}, 4),
        ({"subjectId": 10822, "studyProgramId": PROGRAM, "dataSetName": "ActivityDaily8"}, 1),
        ({"subjectId": 99}, 0),
    ],
)
async def test_both_generations_of_the_list_honour_the_filters(
    simulator: CentrePointSimulator, filters: dict[str, Any], count: int
) -> None:
    """The current one in the query, the first one in the body of the GET."""
    headers = await bearer(simulator)

    now = await talk(f"{simulator.base_url}{FILES}?{urlencode(filters)}", headers=headers)
    kind = headers | {"Content-Type": "application/json"}
    first = await talk(
        f"{simulator.base_url}/studies/234/datasetexportfiles", headers=kind, body=json.dumps(filters).encode()
    )

    assert now.json["totalCount"] == first.json["totalCount"] == count
    assert not any("studyVersion" in row or "downloadUrlExpiresOn" in row for row in first.json["items"])


async def test_filters_can_be_ignored_on_order(simulator: CentrePointSimulator) -> None:
    """As a service does that never looks at the body of a GET."""
    simulator.filters_ignored = True

    answer = await talk(f"{simulator.base_url}{FILES}?subjectId=10822", headers=await bearer(simulator))

    assert answer.json["totalCount"] == 8


async def test_the_limiter_counts_a_sliding_minute(clock: Clock) -> None:
    """The request over the limit is a 429 that says how long to wait, and it is not counted itself."""
    async with CentrePointSimulator(rate_limit=3, clock=clock) as simulator:
        headers, url = await bearer(simulator), f"{simulator.base_url}{FILES}?limit=1"
        for _ in range(3):
            assert (await talk(url, headers=headers)).status == 200
            clock.now += 10
        refused = await talk(url, headers=headers)
        assert (refused.status, refused.headers["retry-after"]) == (429, "30")
        clock.now += 30
        assert (await talk(url, headers=headers)).status == 200
        assert (await talk(url, headers=headers)).status == 429


async def test_the_limiter_can_be_off() -> None:
    """For measuring."""
    async with CentrePointSimulator(rate_limit=None) as simulator:
        headers = await bearer(simulator)
        statuses = {(await talk(f"{simulator.base_url}{FILES}?limit=1", headers=headers)).status for _ in range(20)}

    assert statuses == {200}


@pytest.mark.parametrize(
    ("path", "scope", "count", "first"),
    [
        ("/centrepoint/v3/Studies", "CentrePoint", 1, {"id": 234}),
        ("/centrepoint/v3/Studies/234/Sites", "CentrePoint", 1, {"siteIdentifier": "A"}),
        ("/centrepoint/v3/Studies/234/Subjects", "CentrePoint", 2, {"subjectIdentifier": "A-001", "id": 10821}),
        ("/dataaccess/v3/Studies/234/programs", "DataAccess", 2, {"studyProgramId": PROGRAM}),
        (f"/dataaccess/v3/Studies/234/programs/{PROGRAM}/datasets", "DataAccess", 2, {"dataSetName": "ActivityDaily8"}),
        (
            "/dataaccess/v3/studies/234/subjects",
            "DataAccess",
            2,
            {"lastRawUploadedTimeStamp": "2024-02-29T07:05:08.5899754+00:00"},
        ),
    ],
)
async def test_every_list_has_its_scope_and_its_single_read(
    simulator: CentrePointSimulator, path: str, scope: str, count: int, first: dict[str, Any]
) -> None:
    """A page of rows, and the same row as a bare object under its own path."""
    headers = await bearer(simulator, scope)

    page = (await talk(f"{simulator.base_url}{path}", headers=headers)).json

    assert page["totalCount"] == len(page["items"]) == count
    assert first.items() <= page["items"][0].items()
    if "datasets" not in path:
        row = page["items"][0]
        name = next(row[key] for key in ("id", "studyProgramId", "subjectId") if key in row)
        one = await talk(f"{simulator.base_url}{path}/{name}", headers=headers)
        assert one.json == row
        missing = await talk(f"{simulator.base_url}{path}/4711", headers=headers)
        assert (missing.status, missing.headers["content-type"]) == (404, "text/plain; charset=utf-8")


async def test_a_subject_may_have_executions_and_no_upload(simulator: CentrePointSimulator) -> None:
    """As in the documented sample; never is the first instant of the year 1."""
    page = (
        await talk(f"{simulator.base_url}/dataaccess/v3/studies/234/subjects", headers=await bearer(simulator))
    ).json

    assert page["items"][-1]["lastRawUploadedTimeStamp"] == "0001-01-01T00:00:00+00:00"
    assert len(page["items"][-1]["studyProgramExecutions"]) == 2


async def test_a_link_gives_the_file_with_every_proof_of_the_storage(simulator: CentrePointSimulator) -> None:
    """Strong ETag, both MD5 headers, ranges offered; the bytes are a gzip of the announced size."""
    answer = await talk((await first_file(simulator))["fileUrl"])

    md5 = base64.b64encode(hashlib.md5(answer.body, usedforsecurity=False).digest()).decode()
    assert answer.status == 200
    assert answer.headers["content-length"] == "1000"
    assert answer.headers["etag"].startswith('"0x')
    assert answer.headers["content-md5"] == answer.headers["x-ms-blob-content-md5"] == md5
    assert answer.headers["accept-ranges"] == "bytes"
    assert "last-modified" in answer.headers
    assert gzip.decompress(answer.body).startswith(b"Timestamp,X,Y\n")
    assert hashlib.sha256(answer.body).hexdigest() == simulator.sha256(simulator.files[0])
    assert answer.body == simulator.content(simulator.files[0])


async def test_a_part_of_a_file_is_given_under_its_etag(simulator: CentrePointSimulator) -> None:
    """206 with the MD5 of the whole in the other header only; 412 for another ETag; 416 past the end."""
    url = (await first_file(simulator))["fileUrl"]
    whole = await talk(url)
    tag = whole.headers["etag"]

    part = await talk(url, headers={"Range": "bytes=400-", "If-Match": tag})
    assert (part.status, part.headers["content-range"]) == (206, "bytes 400-999/1000")
    assert part.body == whole.body[400:]
    assert "content-md5" not in part.headers
    assert part.headers["x-ms-blob-content-md5"] == whole.headers["content-md5"]
    changed = await talk(url, headers={"Range": "bytes=400-", "If-Match": '"0xOLD"'})
    assert (changed.status, changed.headers["x-ms-error-code"]) == (412, "ConditionNotMet")
    past = await talk(url, headers={"Range": "bytes=1000-"})
    assert (past.status, past.headers["content-range"]) == (416, "bytes */1000")
    ignored = await talk(url, headers={"Range": "bytes=400-", "If-Range": '"0xOLD"'})
    assert ignored.status == 206


async def test_the_md5_can_be_missing(simulator: CentrePointSimulator) -> None:
    """Nothing promises it."""
    simulator.content_md5 = False

    answer = await talk((await first_file(simulator))["fileUrl"])

    assert not {"content-md5", "x-ms-blob-content-md5"} & set(answer.headers)


async def test_a_link_ends_by_the_clock_of_the_service(simulator: CentrePointSimulator, clock: Clock) -> None:
    """403 with the code in header and XML, and the service's own time in Date."""
    url = (await first_file(simulator))["fileUrl"]
    clock.now += 14_399
    assert (await talk(url)).status == 200
    clock.now += 1

    answer = await talk(url)

    assert answer.status == 403
    assert answer.headers["x-ms-error-code"] == "AuthenticationFailed"
    assert answer.headers["date"] == "Thu, 29 Feb 2024 19:00:51 GMT"
    assert b"<Code>AuthenticationFailed</Code>" in answer.body


@pytest.mark.parametrize("change", [("sig=", "sig=A"), ("sp=r", "sp=rw"), ("se=2024", "se=2034"), ("&sr=b", "")])
async def test_a_link_that_was_touched_opens_nothing(simulator: CentrePointSimulator, change: tuple[str, str]) -> None:
    """Every parameter is signed."""
    answer = await talk((await first_file(simulator))["fileUrl"].replace(*change))

    assert (answer.status, answer.headers["x-ms-error-code"]) == (403, "AuthenticationFailed")


async def test_a_credential_at_the_file_host_is_a_breach(simulator: CentrePointSimulator) -> None:
    """It is refused, and remembered."""
    url = (await first_file(simulator))["fileUrl"]

    for headers in ({"Authorization": "Bearer x"}, {"arena_session_id": "x"}, {"Cookie": "a=b"}):
        assert (await talk(url, headers=headers)).status == 400

    assert [breach.rpartition(": ")[2] for breach in simulator.breaches] == [
        "Authorization",
        "arena_session_id",
        "Cookie",
    ]


async def test_another_run_makes_another_name_and_ends_the_old_link(simulator: CentrePointSimulator) -> None:
    """New date, new name, new content; only that one file."""
    before = await first_file(simulator)
    old = simulator.content(simulator.files[0])
    simulator.change_file(simulator.files[0])

    after = await first_file(simulator)
    gone = await talk(before["fileUrl"])
    fresh = await talk(after["fileUrl"])

    assert after["fileName"] != before["fileName"]
    assert after["modifiedDate"] != before["modifiedDate"]
    assert (gone.status, gone.headers["x-ms-error-code"]) == (404, "BlobNotFound")
    assert fresh.status == 200
    assert fresh.body == simulator.content(simulator.files[0]) != old


async def test_content_can_change_under_its_name(simulator: CentrePointSimulator) -> None:
    """The fault changes it in place: the same link, another ETag."""
    url = (await first_file(simulator))["fileUrl"]
    tag = (await talk(url)).headers["etag"]
    simulator.inject(faults.change(), on="GET *activitydaily8*")

    answer = await talk(url, headers={"Range": "bytes=10-", "If-Match": tag})

    assert answer.status == 412
    assert (await talk(url)).headers["etag"] != tag


async def test_a_removed_file_is_gone_from_list_and_host(simulator: CentrePointSimulator) -> None:
    """It is not listed, and its link is dead."""
    url = (await first_file(simulator))["fileUrl"]
    simulator.remove_file(simulator.files[0])

    page = (await talk(f"{simulator.base_url}{FILES}", headers=await bearer(simulator))).json

    assert page["totalCount"] == 7
    assert (await talk(url)).status == 404


async def test_links_and_tokens_can_end_on_order(simulator: CentrePointSimulator) -> None:
    """The faults end what was given out; what is given afterwards works."""
    url, headers = (await first_file(simulator))["fileUrl"], await bearer(simulator)
    simulator.inject(faults.expire_links(), on="GET *datasetexports*")
    simulator.inject(faults.expire_session(), on="GET */programs")

    assert (await talk(url)).status == 403
    assert (await talk((await first_file(simulator))["fileUrl"])).status == 200
    assert (await talk(f"{simulator.base_url}/dataaccess/v3/studies/234/programs", headers=headers)).status == 401


async def test_the_announced_end_can_contradict_the_link(simulator: CentrePointSimulator) -> None:
    """As in the documented sample it lies before the link begins."""
    simulator.expiry_contradicts = True

    row = await first_file(simulator)

    assert row["downloadUrlExpiresOn"] == "2024-02-29T14:00:51+00:00"
    assert "skt=2024-02-29T15%3A00%3A51Z" in row["fileUrl"]


@pytest.mark.parametrize("size", [100, 117, 65_553, 65_554, 65_557, 65_558, 65_559, 65_560, 65_566, 200_000])
def test_content_has_exactly_the_size_that_was_ordered(size: int) -> None:
    """Whatever the size, it is a whole gzip member, and any part of it is the part of the whole."""
    simulator = CentrePointSimulator(file_size=size)
    content = simulator._content(simulator.files[0])

    whole = b"".join(content.chunks())

    assert len(whole) == size
    assert gzip.decompress(whole).startswith(b"Timestamp,X,Y\n")
    assert b"".join(content.chunks(90, size - 5)) == whole[90 : size - 5]


def test_a_service_can_have_as_many_files_as_are_ordered() -> None:
    """More subjects are made where it takes them; the numbers stay the same."""
    simulator = CentrePointSimulator(files=2_401, programs=2, data_sets=6)

    assert len(simulator.files) == len(set(simulator.files)) == 2_401
    assert len({key.path.casefold() for key in simulator.files}) == 2_401
    assert len(simulator.subjects) == 201
    assert simulator.files[0].path == f"centrepoint/study-234/program-{PROGRAM}/subject-10821/activitydaily8.csv.gz"


async def test_a_description_has_what_a_client_needs(simulator: CentrePointSimulator) -> None:
    """Addresses, credentials, and the variables that carry them."""
    described = simulator.describe()

    assert described["environment"] == {
        "CENTREPOINT_BASE_URL": simulator.base_url,
        "CENTREPOINT_AUTH_URL": simulator.auth_url,
        "CENTREPOINT_CLIENT_ID": "simulated-client",
        "CENTREPOINT_CLIENT_SECRET": "simulated-secret",
    }
    assert len({urlsplit(described[name]).port for name in ("base_url", "auth_url", "file_host")}) == 3
    assert described["files"] == 8
