"""The CentrePoint client over real sockets: against the local service, and against servers that play the documents."""

from __future__ import annotations

import json
import traceback
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import attrs
import pytest
from scripted import RawServer, json_reply, reply
from studies import Clock, api_of

from arena_async import union
from arena_async.errors import (
    ArenaAsyncError,
    AuthenticationError,
    ClosedError,
    ConfigurationError,
    LinkExpiredError,
    ListingError,
    NotFoundError,
    PermissionDeniedError,
    ServerError,
    SourceChangedError,
    UnsafeUrlError,
)
from arena_async.options import RetryPolicy
from arena_async.protocol.files import FileSet, OpenedFile, RemoteFile
from arena_async.protocol.messages import Secret
from arena_async.providers.centrepoint import CentrePointClient, CentrePointCredentials, DatasetFileSet
from arena_async.providers.centrepoint.datasets import DatasetQuery
from arena_async.testing import faults
from arena_async.testing.centrepoint.simulator import CentrePointSimulator

PAYLOADS = Path(__file__).parents[2] / "payloads"
PROGRAM = "5b342a11-2fb9-4ad9-a7be-4d410181f51c"
QUICK = RetryPolicy(attempts=3, wait_initial=0, wait_jitter=0, wait_max=0)
LISTS = "GET /dataaccess/*/datasetfiles"


@pytest.fixture
def clock() -> Clock:
    """Return a clock that a test moves."""
    return Clock()


@pytest.fixture
async def simulator(clock: Clock) -> AsyncIterator[CentrePointSimulator]:
    """Yield a running service of 60 subjects x 2 programs x 2 data sets = 240 files."""
    async with CentrePointSimulator(subjects=60, file_size=3000, clock=clock) as running:
        yield running


def client_of(simulator: CentrePointSimulator, *, legacy: bool = False) -> CentrePointClient:
    """Return a client for a simulator."""
    credentials = CentrePointCredentials(simulator.client_id, simulator.client_secret)
    return CentrePointClient(
        credentials, base_url=simulator.base_url, auth_url=simulator.auth_url, legacy=legacy, retry=QUICK
    )


@pytest.fixture
async def client(simulator: CentrePointSimulator) -> AsyncIterator[CentrePointClient]:
    """Yield a client of the running service."""
    async with client_of(simulator) as made:
        yield made


def file_set(client: CentrePointClient, clock: Clock, **filters: Any) -> DatasetFileSet:
    """Return a file set that goes by the clock of the test."""
    return DatasetFileSet(api_of(client, clock.now), DatasetQuery(study=234, **filters))


async def whole(opened: OpenedFile) -> bytes:
    """Read a body to its end."""
    buffer, body = bytearray(1000), b""
    async with opened:
        while count := await opened.stream.readinto(memoryview(buffer)):
            body += buffer[:count]
    return body


def shown(error: BaseException) -> str:
    """Return all that an error shows: its text, its fields, its traceback and its causes."""
    return "".join(traceback.format_exception(error)) + repr(error) + repr(vars(error))


# Lists


async def test_a_list_is_walked_to_its_real_total(client: CentrePointClient, simulator: CentrePointSimulator) -> None:
    """240 files are three requests and one token; ``links.next`` leads elsewhere and is not followed."""
    files = await client.datasets.search(234).collect(max_items=1000)

    assert len({(f.study_program_id, f.data_set_name, f.subject_id) for f in files}) == len(files) == 240
    assert [seen.query["offset"] for seen in simulator.seen(LISTS)] == ["0", "100", "200"]
    assert [seen.query["limit"] for seen in simulator.seen(LISTS)] == ["100", "100", "100"]
    assert len(simulator.log) == 4
    assert simulator.seen("*DataRetrieval*") == []


async def test_every_filter_reaches_the_service(client: CentrePointClient, simulator: CentrePointSimulator) -> None:
    """By number, by GUID and by name, in whatever case."""
    search = client.datasets.search(234, subject=10821, program=PROGRAM.upper(), data_set="activitydaily8")

    found = [file async for file in search]

    assert [(f.subject_id, f.study_program_id, f.data_set_name) for f in found] == [(10821, PROGRAM, "ActivityDaily8")]
    (seen,) = simulator.seen(LISTS)
    assert dict(seen.query) == {
        "subjectId": "10821",
        "studyProgramId": PROGRAM.upper(),
        "dataSetName": "activitydaily8",
        "limit": "100",
        "offset": "0",
    }


@pytest.mark.parametrize("by_client", [True, False])
async def test_the_first_published_form_is_asked_for_on_request(
    simulator: CentrePointSimulator, *, by_client: bool
) -> None:
    """Another path, and the filters in the body of the GET; by a setting of the client or of the call."""
    async with client_of(simulator, legacy=by_client) as client:
        paginator = client.datasets.search(234, program=PROGRAM, legacy=None if by_client else True)
        files = await paginator.collect(max_items=1000)

    assert len(files) == 120
    seen = simulator.seen("GET /studies/234/datasetexportfiles")
    assert [json.loads(one.body) for one in seen] == [{"studyProgramId": PROGRAM}] * 2
    assert [dict(one.query) for one in seen] == [{"limit": "100", "offset": o} for o in ("0", "100")]


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("filters", [{"subject": 10822}, {"program": "x"}, {"data_set": "ActivityEpochs10"}])
async def test_ignored_filters_are_noticed(
    client: CentrePointClient, simulator: CentrePointSimulator, filters: dict[str, Any], *, legacy: bool
) -> None:
    """All files in the place of some is an error, for a list and for a file set."""
    simulator.filters_ignored = True

    with pytest.raises(ListingError, match="ignores the filters"):
        await client.datasets.search(234, legacy=legacy, **filters).collect(max_items=1000)
    with pytest.raises(ListingError, match="ignores the filters"):
        [file async for file in client.datasets.files(234, legacy=legacy, **filters)]


async def test_a_service_that_repeats_its_first_page_is_noticed(
    client: CentrePointClient, simulator: CentrePointSimulator, clock: Clock
) -> None:
    """Rows are told apart by all that identifies them, although names collide and links are signed anew each time."""
    clock.seconds += 1
    again = [simulator._show_file(key) for key in simulator.files[:100]]
    clock.seconds -= 1
    page = {"items": again, "links": {}, "totalCount": 240, "limit": 100, "offset": 100}
    simulator.inject(faults.status(200, body=json.dumps(page)), on=LISTS, after=1)

    with pytest.raises(ListingError, match=r"received before|same row"):
        await client.datasets.search(234).collect(max_items=1000)


async def test_every_list_of_a_study_can_be_read(client: CentrePointClient) -> None:
    """Lists and single reads, each typed."""
    assert [study.id async for study in client.studies.search()] == [234]
    assert (await client.studies.get(234)).study_status == "Active"
    assert [site.site_identifier async for site in client.sites.search(234)] == ["A"]
    assert (await client.sites.get(234, 1)).require_site_identifier is True
    assert len([subject async for subject in client.subjects.search(234)]) == 60
    assert (await client.subjects.get(234, 10822)).subject_identifier == "A-002"
    assert [p.study_program_name async for p in client.programs.search(234)] == [
        "Activity (30)",
        "ParamsAndSubject (31)",
    ]
    assert (await client.programs.get(234, PROGRAM)).study_id == 234
    assert [d.data_set_name async for d in client.programs.data_sets(234, PROGRAM)] == [
        "ActivityDaily8",
        "ActivityEpochs10",
    ]
    last = [subject async for subject in client.datasets.subjects(234)][-1]
    assert last.last_raw_uploaded is None
    assert len(last.study_program_executions) == 2
    assert (await client.datasets.subject(234, 10821)).last_raw_uploaded is not None


@pytest.mark.parametrize("study", [999, "999"])
async def test_an_unknown_study_is_not_found(client: CentrePointClient, study: Any) -> None:
    """The service's plain text is in the message."""
    with pytest.raises(NotFoundError, match=r"404 \(Study 999 was not found.\)"):
        await client.datasets.search(study).first()
    with pytest.raises(NotFoundError):
        await client.studies.get(study)


# Tokens and rejections


async def test_each_scope_has_its_token_and_each_token_is_used_again(
    client: CentrePointClient, simulator: CentrePointSimulator
) -> None:
    """Two scopes are two logins, however many requests there are."""
    for _ in range(3):
        await client.studies.get(234)
        await client.programs.get(234, PROGRAM)

    bodies = [seen.body.decode().rpartition("scope=")[2] for seen in simulator.seen("POST *")]
    assert bodies == ["CentrePoint", "DataAccess"]
    assert client.session.requests_sent == 6


async def test_a_missing_scope_is_named_and_the_others_go_on() -> None:
    """One login for it, and no more."""
    async with CentrePointSimulator(scopes=("DataAccess",)) as simulator, client_of(simulator) as client:
        with pytest.raises(AuthenticationError, match=r"scope CentrePoint.*not allowed that scope"):
            await client.studies.get(234)
        with pytest.raises(AuthenticationError):
            await client.studies.get(234)
        assert await client.datasets.search(234).first() is not None

        assert len(simulator.seen("POST *")) == 2


async def test_none_stands_for_the_default_settings_of_the_network() -> None:
    """As for the other client, so that a caller may hand on what it was given."""
    async with CentrePointSimulator() as simulator:
        credentials = CentrePointCredentials(simulator.client_id, simulator.client_secret)
        urls = {"base_url": simulator.base_url, "auth_url": simulator.auth_url}
        async with CentrePointClient(credentials, **urls, retry=None, timeouts=None) as client:
            assert await client.datasets.search(234).first() is not None
        async with CentrePointClient.from_env(
            environ=simulator.describe()["environment"], retry=None, timeouts=None
        ) as client:
            assert await client.datasets.search(234).first() is not None


async def test_a_wrong_secret_is_sent_once() -> None:
    """And shows nowhere."""
    async with CentrePointSimulator() as simulator:
        credentials = CentrePointCredentials(simulator.client_id, "planted-wrong-secret")
        async with CentrePointClient(
            credentials, base_url=simulator.base_url, auth_url=simulator.auth_url, retry=QUICK
        ) as client:
            with pytest.raises(AuthenticationError, match="invalid_client") as caught:
                await client.datasets.search(234).first()

        assert len(simulator.log) == 1
        assert "planted-wrong-secret" not in shown(caught.value)


async def test_a_token_that_is_over_is_replaced_once(
    client: CentrePointClient, simulator: CentrePointSimulator
) -> None:
    """401 in the middle of a walk: one new token for all pages that met it, each again, nothing lost."""
    simulator.inject(faults.expire_session(), on=LISTS, after=1)

    assert len(await client.datasets.search(234).collect(max_items=1000)) == 240
    assert [seen.status for seen in simulator.seen(LISTS)] == [200, 401, 401, 200, 200]
    assert len(simulator.seen("POST *")) == 2


async def test_a_refusal_of_a_study_names_the_scope(client: CentrePointClient, simulator: CentrePointSimulator) -> None:
    """403 is final: one request."""
    simulator.inject(faults.status(403, body="Forbidden"), on=LISTS)

    with pytest.raises(PermissionDeniedError, match="scope DataAccess"):
        await client.datasets.search(234).first()
    assert len(simulator.seen(LISTS)) == 1


async def test_a_service_that_is_too_busy_is_asked_again(server: RawServer) -> None:
    """429 with Retry-After is a wait and no error; the page comes with the next request."""
    busy = reply(429, body=b"Slow down", headers={"Retry-After": "0"})
    server.on("GET", "*/datasetfiles", busy, json_reply(sample("datasetfiles") | {"totalCount": 1}))

    async with raw_client(server) as client:
        assert await client.datasets.search(234).first() is not None

    assert len(server.lines("GET *")) == 2


def sample(name: str) -> dict[str, Any]:
    """Return a page of the documents."""
    page: dict[str, Any] = json.loads((PAYLOADS / f"centrepoint_{name}.json").read_text("utf-8"))
    return page


def raw_client(server: RawServer) -> CentrePointClient:
    """Return a client for a scripted server that is API and token endpoint."""
    return CentrePointClient(
        CentrePointCredentials("client-7", "planted-secret"),
        base_url=server.base_url,
        auth_url=f"{server.base_url}/token",
        retry=QUICK,
    )


# The documents, played without the simulator


@pytest.fixture
async def server() -> AsyncIterator[RawServer]:
    """Yield a scripted server that knows the token endpoint."""
    async with RawServer() as running:
        running.on(
            "POST", "/token", json_reply({"access_token": "tok.e.n", "expires_in": 3600, "token_type": "Bearer"})
        )
        yield running


@pytest.mark.parametrize(
    ("filters", "body"),
    [
        ({}, {}),
        ({"program": PROGRAM}, {"studyProgramId": PROGRAM}),
        ({"program": PROGRAM, "subject": 10821}, {"studyProgramId": PROGRAM, "subjectId": 10821}),
    ],
)
async def test_the_first_published_page_is_played_as_printed(
    server: RawServer, filters: dict[str, Any], body: dict[str, Any]
) -> None:
    """The request with its body, the bearer token, and both rows of the sample."""
    server.on("GET", "/studies/234/datasetexportfiles", json_reply(sample("datasetexportfiles")))

    async with raw_client(server) as client:
        files = await client.datasets.search(234, legacy=True, **filters).collect()

    assert [file.data_set_name for file in files] == ["ActivityDaily8", "ActivityEpochs10"]
    seen = server.requests[-1]
    assert seen.line == "GET /studies/234/datasetexportfiles?limit=100&offset=0"
    assert seen.json == body
    assert seen.header("Authorization") == "Bearer tok.e.n"
    assert len(server.requests) == 2


async def test_the_current_page_is_played_as_printed(server: RawServer) -> None:
    """The filters in the query; the sample's one row, and a total that says there are more."""
    page = sample("datasetfiles") | {"totalCount": 1}
    server.on("GET", "/dataaccess/v3/studies/234/datasetfiles", json_reply(page))

    async with raw_client(server) as client:
        search = client.datasets.search(234, subject=10821, program=PROGRAM, data_set="ActivityDaily8")
        (file,) = [file async for file in search]

    assert file.study_version == 48
    (seen,) = server.lines("GET *")
    assert seen == (
        f"GET /dataaccess/v3/studies/234/datasetfiles?subjectId=10821&studyProgramId={PROGRAM}"
        "&dataSetName=ActivityDaily8&limit=100&offset=0"
    )


async def test_a_signed_link_is_sent_byte_for_byte_and_nothing_goes_with_it(server: RawServer) -> None:
    """Percent-encoding in any case, order and repeats of the query stay; no token, no cookie."""
    target = "/study-0/a%2Fb/x.csv.gz?sig=a%2bb%2Bc%3D&se=2099-01-01T00%3A00%3A00Z&b=1&b=2&rscd=%E2%82%AC"
    row = sample("datasetexportfiles")["items"][0]
    async with RawServer() as host:
        host.on("GET", "*", reply(body=b"content", headers={"ETag": '"v1"', "Set-Cookie": "a=b"}))
        page = {"items": [row | {"fileUrl": f"{host.base_url}{target}"}], "links": {}, "totalCount": 1}
        server.on("GET", "/dataaccess/v3/studies/234/datasetfiles", json_reply(page))
        async with raw_client(server) as client:
            files = client.datasets.files(234)
            (file,) = [file async for file in files]
            assert await whole(await files.open(file)) == b"content"
            assert await whole(await files.open(file, offset=3, validator='"v1"')) == b"content"

        first, second = host.requests
        assert first.target == second.target == target
        for seen in (first, second):
            assert seen.header("Authorization") is None
            assert seen.header("Cookie") is None
            assert seen.header("Accept-Encoding") == "identity"
        assert first.header("Range") is None
        assert (second.header("Range"), second.header("If-Match")) == ("bytes=3-", '"v1"')
        assert files.requests_sent == 1


# Files


async def test_files_come_whole_from_the_file_host(client: CentrePointClient, simulator: CentrePointSimulator) -> None:
    """Bytes as stored, the proofs of the storage in the head, no credential at the file host, nothing metered."""
    files: FileSet = client.datasets.files(234)
    listed = [file async for file in files]
    key = simulator.files[7]
    file = listed[7]

    opened = await files.open(file)
    assert await whole(opened) == simulator.content(key)
    rest = await files.open(file, offset=1000, validator=opened.head.etag)
    assert (rest.head.status, rest.head.offset, rest.head.total) == (206, 1000, 3000)
    assert await whole(rest) == simulator.content(key)[1000:]
    assert opened.head.md5 == rest.head.md5 is not None
    assert "/".join((*file.parts, file.stem)) + file.extension == key.path
    assert len({one.key for one in listed}) == 240
    assert simulator.breaches == []
    assert files.requests_sent == 3


async def test_a_tenant_is_the_origin_and_the_client(
    client: CentrePointClient, simulator: CentrePointSimulator
) -> None:
    """So that files of another client or service never mix with these."""
    file = await anext(aiter(client.datasets.files(234)))

    assert file.tenant == f"{simulator.base_url} simulated-client"


async def test_changed_content_is_said_and_not_spliced(
    client: CentrePointClient, simulator: CentrePointSimulator
) -> None:
    """Under its name: the head says 412. By another run: the link is dead, and the list has the new entry."""
    files = client.datasets.files(234, subject=10821)
    file = await anext(aiter(files))
    etag = (await files.open(file)).head.etag
    simulator.change_file(simulator.files[0], rename=False)
    changed = await files.open(file, offset=10, validator=etag)
    assert changed.head.status == 412
    await changed.stream.aclose()
    simulator.change_file(simulator.files[0])

    with pytest.raises(SourceChangedError, match="List again") as caught:
        await files.open(file)
    (fresh,) = await files.find([file.key])

    assert "sig" not in shown(caught.value)
    assert fresh.key == file.key
    assert fresh.change != file.change
    assert await whole(await files.open(fresh)) == simulator.content(simulator.files[0])


async def test_an_expired_link_is_renewed_by_listing(
    client: CentrePointClient, simulator: CentrePointSimulator, clock: Clock
) -> None:
    """The error is an expired URL, by the file host's own clock; nothing of the query shows."""
    files = client.datasets.files(234)
    file = await anext(aiter(files))
    clock.seconds += 14_400

    with pytest.raises(LinkExpiredError) as caught:
        await files.open(file)
    error = caught.value
    (fresh,) = await files.find([file.key])

    assert file.link is not None
    for secret in (file.link.reveal().rpartition("sig=")[2], "skoid", "444eeefb"):
        assert secret not in shown(error)
    assert error.__cause__ is None
    assert error.__context__ is None
    assert await whole(await files.open(fresh)) == simulator.content(simulator.files[0])
    assert len(simulator.seen("GET *", listener="files")) == 2


async def test_a_link_that_says_it_is_over_is_not_tried(
    client: CentrePointClient, simulator: CentrePointSimulator, clock: Clock
) -> None:
    """A minute before its end it counts as over: its page is listed again, and the file host sees the new link only."""
    files = file_set(client, clock)
    file = await anext(aiter(files))
    clock.seconds += 14_400 - 61
    await (await files.open(file)).stream.aclose()
    assert len(simulator.seen(LISTS)) == 1
    clock.seconds += 2

    assert await whole(await files.open(file)) == simulator.content(simulator.files[0])

    # The token is over by then as well.
    assert [(seen.query["offset"], seen.status) for seen in simulator.seen(LISTS)] == [
        ("0", 200),
        ("0", 401),
        ("0", 200),
    ]
    first, second = simulator.seen("GET *", listener="files")
    assert (first.status, second.status) == (200, 200)
    assert first.target != second.target


async def test_a_fresh_link_is_tried_whatever_its_dates_say(
    client: CentrePointClient, simulator: CentrePointSimulator, clock: Clock
) -> None:
    """The announced end before the beginning, a life of seconds, or a clock of ours that is a day ahead."""
    simulator.expiry_contradicts = True
    contradicted = file_set(client, clock)
    await (await contradicted.open(await anext(aiter(contradicted)))).stream.aclose()
    simulator.link_lifetime = 3
    short = file_set(client, clock)
    await (await short.open(await anext(aiter(short)))).stream.aclose()
    day_ahead = lambda: clock.now() + timedelta(days=1)  # noqa: E731 - a clock is a function
    ahead = DatasetFileSet(api_of(client, day_ahead), DatasetQuery(study=234))
    await (await ahead.open(await anext(aiter(ahead)))).stream.aclose()

    assert [seen.status for seen in simulator.seen("GET *", listener="files")] == [200, 200, 200]


async def test_a_file_without_its_link_asks_to_be_listed_again(client: CentrePointClient) -> None:
    """As after a plan was written down, or an entry went through a pickle."""
    files = client.datasets.files(234)
    file = await anext(aiter(files))

    for lost in (None, Secret(None)):
        with pytest.raises(LinkExpiredError, match="it is never stored"):
            await files.open(attrs.evolve(file, link=lost))


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (faults.expire_links(), PermissionDeniedError),
        (faults.status(403, body="<Error><Code>AuthorizationFailure</Code></Error>"), PermissionDeniedError),
        (faults.status(503, body="<Error><Code>ServerBusy</Code></Error>"), ServerError),
    ],
)
async def test_other_refusals_of_the_file_host_are_told_apart(
    client: CentrePointClient, simulator: CentrePointSimulator, fault: faults.Fault, kind: type[ArenaAsyncError]
) -> None:
    """One request each: the download decides whether to retry."""
    files = client.datasets.files(234)
    file = await anext(aiter(files))
    simulator.inject(fault, on="GET *datasetexports*")

    with pytest.raises(kind) as caught:
        await files.open(file)

    assert type(caught.value) is kind
    assert "skoid" not in shown(caught.value)
    assert len(simulator.seen("GET *", listener="files")) == 1


@pytest.mark.parametrize(
    "place",
    [
        "http://datafiles.actigraphcorp.com/x",
        "http://127.0.0.1:1/x",
        "https://127.0.0.1/x",
        "https://[::1]/x",
        "https://169.254.169.254/latest",
        "https://10.0.0.7/x",
        "https://u:p@datafiles.actigraphcorp.com/x",
        "file:///etc/passwd",
        "/x",
        "//127.0.0.1/x",
    ],
)
async def test_a_link_into_somebodys_network_is_not_followed(place: str) -> None:
    """The real service has no business there; only a service on loopback may point to loopback."""
    link = Secret(f"{place}?sig=PLANTED")
    file = RemoteFile(key="k", service="centrepoint", tenant="t", parts=("centrepoint",), stem="s", link=link)
    async with CentrePointClient(CentrePointCredentials("c", "s")) as client:
        with pytest.raises(UnsafeUrlError) as caught:
            await client.datasets.files(234).open(file)

    assert "PLANTED" not in shown(caught.value)


# Finding entries again


async def test_keys_of_one_subject_take_one_request(client: CentrePointClient, simulator: CentrePointSimulator) -> None:
    """Narrowed to what the keys share; the data set is requested as the service writes it."""
    files = client.datasets.files(234)
    listed = [file async for file in files]
    simulator.clear()

    assert [file.key for file in await files.find([listed[0].key])] == [listed[0].key]
    assert {file.key for file in await files.find([listed[0].key, listed[2].key])} == {listed[0].key, listed[2].key}
    assert await files.find([]) == []

    queries = [{k: v for k, v in seen.query.items() if k not in ("limit", "offset")} for seen in simulator.log]
    simulator.inject(faults.lose_rows(at=0, count=1), on="GET *datasetfiles", times=2)
    with pytest.raises(ListingError):
        await files.find([listed[0].key, listed[2].key])
    assert [file.key for file in await files.find([listed[2].key])] == [listed[2].key]
    assert queries == [
        {"subjectId": "10821", "studyProgramId": PROGRAM, "dataSetName": "ActivityDaily8"},
        {"subjectId": "10821", "dataSetName": "ActivityDaily8"},
    ]


async def test_a_set_that_was_never_listed_finds_keys_too(
    client: CentrePointClient, simulator: CentrePointSimulator
) -> None:
    """As for a plan that another process made; the spelling of the data set is not known then and not guessed."""
    file = await anext(aiter(client.datasets.files(234)))
    simulator.clear()

    (found,) = await client.datasets.files(234).find([file.key])

    assert found.key == file.key
    assert "dataSetName" not in simulator.log[0].query


async def test_keys_of_several_subjects_take_the_shorter_way(
    client: CentrePointClient, simulator: CentrePointSimulator
) -> None:
    """Subject by subject when they are few, the whole list when they are many."""
    files = client.datasets.files(234)
    keys = [file.key async for file in files]
    simulator.clear()

    assert len(await files.find([keys[0], keys[7]])) == 2
    assert len(simulator.log) == 2
    simulator.clear()
    assert {file.key for file in await files.find(keys)} == set(keys)
    assert len(simulator.log) == 3


async def test_without_a_total_the_first_page_shows_the_way() -> None:
    """One page shows how long the list is; three subjects of 400 are then requested alone."""
    async with CentrePointSimulator(subjects=400, file_size=100) as simulator, client_of(simulator) as client:
        listed = {file.stem: file async for file in client.datasets.files(234, subject=10821)}
        keys = [listed["activitydaily8"].key.rpartition("/")[0] + f"/{subject}" for subject in (10821, 10921, 11020)]
        simulator.clear()

        found = await client.datasets.files(234).find(keys)

        assert {file.key for file in found} == set(keys)
        assert [seen.query.get("subjectId") for seen in simulator.log] == [None, "10821", "10921", "11020"]


async def test_keys_that_are_gone_or_of_others_are_missing(
    client: CentrePointClient, simulator: CentrePointSimulator
) -> None:
    """And a key that cannot be in the set costs no request."""
    files = client.datasets.files(234, subject=10821)
    keys = [file.key async for file in files]
    simulator.remove_file(simulator.files[0])
    simulator.clear()

    assert [file.key for file in await files.find(keys)] == keys[1:]
    assert await files.find([keys[1].replace("10821", "10822"), "nonsense", "a/b/c/d/e/f/g", keys[1] + "/x/y"]) == []
    assert len(simulator.log) == 1


async def test_links_are_renewed_even_where_filters_are_ignored(
    client: CentrePointClient, simulator: CentrePointSimulator
) -> None:
    """Every entry is compared with the keys, so too much does no harm here."""
    file = await anext(aiter(client.datasets.files(234)))
    simulator.filters_ignored = True

    assert [found.key for found in await client.datasets.files(234).find([file.key])] == [file.key]


async def test_two_versions_of_one_file_are_both_given() -> None:
    """Nothing says that they are never listed side by side."""
    row = sample("datasetfiles")["items"][0]
    async with RawServer() as server:
        server.on("POST", "/token", json_reply({"access_token": "a", "token_type": "Bearer"}))
        older = row | {"studyVersion": 47, "fileName": "older.csv.gz"}
        page = {"items": [row, older], "links": {}, "totalCount": 2}
        server.on("GET", "/dataaccess/v3/studies/234/datasetfiles", json_reply(page))
        async with raw_client(server) as client:
            files = client.datasets.files(234)
            first, second = [file async for file in files]
            assert first.key == second.key
            assert [file.name for file in await files.find([first.key])] == [first.name, "older.csv.gz"]


# What a set says of itself


async def test_the_price_is_the_listing(client: CentrePointClient) -> None:
    """At least one page before anything is known, and the pages of the list once it was walked."""
    files = client.datasets.files(234)
    assert (files.cost().listing, files.cost().per_file, files.cost().exact) == (1, 0, False)

    async for _ in files:
        pass

    assert (files.cost().listing, files.cost().per_file, files.cost().exact) == (3, 0, True)


async def test_sets_of_one_client_count_its_requests_once(client: CentrePointClient) -> None:
    """In a union, too: each of them reports what the client has sent."""
    raw = client.raw_requests.files("5b342a11-2fb9-4ad9-a7be-4d410181f51c")
    both = union(client.datasets.files(234), client.datasets.files(234, data_set="ActivityDaily8"), raw)
    await client.studies.search().first()

    assert both.requests_sent == client.requests_sent == 1


def test_a_set_knows_its_name_and_whether_it_is_all() -> None:
    """A filter narrows; there is no filter on time."""
    client = CentrePointClient(CentrePointCredentials("c", "s"))
    files, some = client.datasets.files(234), client.datasets.files("234", data_set="ActivityDaily8")

    assert (files.scope, files.narrowed) == ("centrepoint/datasets/study-234", False)
    assert (some.scope, some.narrowed) == ("centrepoint/datasets/study-234/data-set-activitydaily8", True)
    assert files.since({"all": datetime.now(UTC)}) is files
    assert files.requests_sent == 0


# Settings


def environment(**changes: str | None) -> dict[str, str]:
    """Return a good environment with some changes."""
    good: dict[str, str | None] = {
        "CENTREPOINT_CLIENT_ID": "client-7",
        "CENTREPOINT_CLIENT_SECRET": "planted-secret\n",
    }
    return {name: value for name, value in (good | changes).items() if value is not None}


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"CENTREPOINT_CLIENT_ID": None}, "CENTREPOINT_CLIENT_ID"),
        ({"CENTREPOINT_CLIENT_ID": "  "}, "CENTREPOINT_CLIENT_ID"),
        ({"CENTREPOINT_CLIENT_SECRET": None}, "CENTREPOINT_CLIENT_SECRET"),
        ({"CENTREPOINT_CLIENT_SECRET": "planted-secret\x00x"}, "CENTREPOINT_CLIENT_SECRET"),
        ({"CENTREPOINT_BASE_URL": "api.actigraphcorp.com"}, "CENTREPOINT_BASE_URL"),
        ({"CENTREPOINT_BASE_URL": "http://api.actigraphcorp.com"}, "CENTREPOINT_BASE_URL"),
        ({"CENTREPOINT_BASE_URL": "https://u:planted-secret@api.actigraphcorp.com"}, "CENTREPOINT_BASE_URL"),
        ({"CENTREPOINT_AUTH_URL": "ftp://auth.actigraphcorp.com/connect/token"}, "CENTREPOINT_AUTH_URL"),
        (
            {"CENTREPOINT_AUTH_URL": "https://auth.actigraphcorp.com/connect/token?x=planted-secret"},
            "CENTREPOINT_AUTH_URL",
        ),
    ],
)
def test_a_variable_that_is_missing_or_malformed_is_named(changes: Mapping[str, str | None], name: str) -> None:
    """Before anything is sent, and without showing a secret."""
    with pytest.raises(ConfigurationError) as caught:
        CentrePointClient.from_env(environ=environment(**changes))

    assert str(caught.value).startswith(name)
    assert "planted-secret" not in shown(caught.value)


def test_the_environment_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two variables, and the documented addresses."""
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("CENTREPOINT_BASE_URL", raising=False)
    monkeypatch.delenv("CENTREPOINT_AUTH_URL", raising=False)

    client = CentrePointClient.from_env()

    assert client.session.base_url == "https://api.actigraphcorp.com"
    assert repr(client) == "<CentrePointClient https://api.actigraphcorp.com>"


async def test_the_environment_can_name_another_service(simulator: CentrePointSimulator) -> None:
    """The variables of a running simulator make a client of it."""
    async with CentrePointClient.from_env(environ=simulator.describe()["environment"]) as client:
        assert await client.datasets.search(234).first() is not None


@pytest.mark.parametrize("options", [{"rate_limit": 0}, {"rate_limit": True}, {"base_url": "x"}, {"auth_url": "x"}])
def test_a_setting_that_cannot_be_used_is_refused(options: dict[str, Any]) -> None:
    """When the client is made."""
    with pytest.raises(ConfigurationError):
        CentrePointClient(CentrePointCredentials("c", "s"), **options)


def test_credentials_of_another_kind_are_refused() -> None:
    """A pair is not enough: it would show its secret."""
    with pytest.raises(ConfigurationError) as caught:
        CentrePointClient(("c", "planted-secret"))  # type: ignore[arg-type]

    assert "planted-secret" not in str(caught.value)


async def test_a_client_can_be_closed_twice_and_is_of_no_use_then(
    client: CentrePointClient, simulator: CentrePointSimulator
) -> None:
    """There is nothing to log out of, so closing sends nothing."""
    await client.studies.get(234)
    count = len(simulator.log)
    await client.aclose()
    await client.aclose()

    with pytest.raises(ClosedError):
        await client.studies.get(234)
    assert len(simulator.log) == count
