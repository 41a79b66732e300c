"""Day files over real sockets: listed, downloaded, kept equal, and their links renewed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from scripted import RawServer, json_reply
from studies import QUICK, Clock, client_of

import arena_async
from arena_async import Action, Mirror, Report
from arena_async.errors import ListingError, NotFoundError
from arena_async.protocol.files import FileSet
from arena_async.providers.centrepoint import CentrePointClient, CentrePointCredentials, DayFileSet, DayQuery
from arena_async.testing import faults
from arena_async.testing.centrepoint.simulator import CentrePointSimulator, DayKey

PAYLOADS = Path(__file__).parents[2] / "payloads"
RAW = "raw-accelerometer"
LISTS = "GET /dataaccess/v3/files/*"
SUBJECT = 10821


@pytest.fixture
def clock() -> Clock:
    """Return a clock that a test moves."""
    return Clock()


@pytest.fixture
async def simulator(clock: Clock) -> AsyncIterator[CentrePointSimulator]:
    """Yield a running service with 120 days, 240 files, for each of 2 subjects."""
    async with CentrePointSimulator(subjects=2, days=120, file_size=600, clock=clock) as running:
        yield running


@pytest.fixture
async def client(simulator: CentrePointSimulator) -> AsyncIterator[CentrePointClient]:
    """Yield a client of the running service."""
    async with client_of(simulator) as made:
        yield made


def targets(simulator: CentrePointSimulator) -> list[str]:
    """Return the lists that were requested, without what is the same for all of them."""
    return [seen.target.partition("/subjects/10821/")[2] for seen in simulator.seen(LISTS)]


def lies_in(directory: Path) -> dict[str, bytes]:
    """Return what was downloaded."""
    found = [path for path in directory.glob("centrepoint/**/*") if path.is_file()]
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in found}


def offered(simulator: CentrePointSimulator, *formats: str) -> dict[str, bytes]:
    """Return what the service has for one subject and category."""
    keys = simulator.day_files.keys(SUBJECT, RAW, *formats)
    return {key.path: simulator.day_files.content(key) for key in keys}


# Lists


async def test_a_year_of_days_is_listed_a_page_at_a_time(
    client: CentrePointClient, simulator: CentrePointSimulator
) -> None:
    """No page is requested before the rows of the one before are used up: links begin to end when they are listed."""
    rows = client.day_files.search(DayQuery(234, SUBJECT, RAW)).__aiter__()
    for _ in range(101):
        await anext(rows)
    await client.studies.get(234)  # whatever was asked for before has arrived by now
    assert targets(simulator) == [f"{RAW}?limit=100&offset=0", f"{RAW}?limit=100&offset=100"]

    last = [row async for row in rows][-1]

    assert (last.day, last.file_format) == ("2021-04-30", "avro")
    assert targets(simulator)[2:] == [f"{RAW}?limit=100&offset=200"]


@pytest.mark.parametrize(
    ("filters", "target", "count"),
    [
        ({"year": 2021, "month": 2, "file_format": "csv"}, f"{RAW}/2021/02?fileFormat=csv&limit=100&offset=0", 28),
        ({"year": 2021, "month": 2, "day": 3}, f"{RAW}/2021/02/03?limit=100&offset=0", 2),
        (
            {"day_from": "2021-02-01", "day_to": date(2021, 2, 2), "file_format": "avro"},
            f"{RAW}?fileFormat=avro&startDate=2021-02-01T00%3A00%3A00&endDate=2021-02-02T00%3A00%3A00&limit=100&offset=0",
            2,
        ),
    ],
)
async def test_every_filter_reaches_the_service(
    client: CentrePointClient, simulator: CentrePointSimulator, filters: dict[str, Any], target: str, count: int
) -> None:
    """Year, month and day, a range, and the format."""
    rows = await client.day_files.search(DayQuery(234, SUBJECT, RAW, **filters)).collect()

    assert len(rows) == count
    assert targets(simulator) == [target]


async def test_the_last_day_can_come_first(client: CentrePointClient) -> None:
    """In a list, and so in a sync that is stopped early."""
    first = await client.day_files.search(DayQuery(234, SUBJECT, RAW, newest_first=True)).first()
    files = client.day_files.files(DayQuery(234, SUBJECT, RAW, newest_first=True, file_format="csv"))
    days = [file.fields["date"] async for file in files]

    assert first is not None
    assert (first.day, days[0], days[-1], len(days)) == ("2021-04-30", "2021-04-30", "2021-01-01", 120)


async def test_a_subject_is_taken_by_its_identifier(
    client: CentrePointClient, simulator: CentrePointSimulator, tmp_path: Path
) -> None:
    """One list of the study has its number, however often it is requested; links are renewed by the number."""
    files = client.day_files.files(DayQuery(234, "A-001", RAW, year=2021, month=1, file_format="csv"))
    assert (await client.day_files.search(DayQuery(234, "A-001", RAW, year=2021, month=1, day=1)).first()) is not None
    simulator.inject(faults.expire_links(), on="GET /study-*", after=3)

    report = await downloaded(files, tmp_path)

    assert report.counts[Action.FETCH] == 31
    assert all(path.startswith("centrepoint/day-files/study-234/subject-10821/") for path in lies_in(tmp_path))
    assert len(simulator.seen("GET /centrepoint/v3/studies/234/subjects")) == 1
    with pytest.raises(NotFoundError, match="Similar: A-001"):
        await client.day_files.search(DayQuery(234, "a001", RAW)).first()


@pytest.mark.parametrize(
    "filters", [{"file_format": "avro"}, {"year": 2021, "month": 3}, {"day_to": "2021-01-20"}, {"year": 1999}]
)
async def test_ignored_filters_are_noticed(
    client: CentrePointClient, simulator: CentrePointSimulator, filters: dict[str, Any]
) -> None:
    """All days in the place of some is an error, for a list and for a set."""
    simulator.filters_ignored = True

    with pytest.raises(ListingError, match="requested"):
        await client.day_files.search(DayQuery(234, SUBJECT, RAW, **filters)).collect()
    with pytest.raises(ListingError, match="requested"):
        [file async for file in client.day_files.files(DayQuery(234, SUBJECT, RAW, **filters))]


async def test_a_category_without_data_is_empty_and_one_nobody_knows_is_an_error(
    client: CentrePointClient, simulator: CentrePointSimulator, caplog: pytest.LogCaptureFixture
) -> None:
    """The empty list says in the log what it may mean; "not found" is an empty list only for what must exist."""
    caplog.set_level("INFO", logger="arena_async")
    assert [file async for file in client.day_files.files(DayQuery(234, SUBJECT, "imu"))] == []
    assert "categories depend on device" in caplog.text
    with pytest.raises(NotFoundError, match="Data category was not found"):
        await client.day_files.search(DayQuery(234, SUBJECT, "gait")).first()
    with pytest.raises(NotFoundError, match="Subject was not found"):
        await client.day_files.search(DayQuery(234, 7, RAW)).first()

    simulator.day_files.empty_is_missing = True
    for query in (DayQuery(234, SUBJECT, "imu"), DayQuery(234, SUBJECT, RAW, year=1999)):
        with pytest.raises(ListingError, match="taken as an empty list"):
            await client.day_files.search(query).collect()
    with pytest.raises(NotFoundError):
        await client.day_files.search(DayQuery(234, SUBJECT, "gait")).first()


# Files


async def at_once(_: float) -> None:
    """Wait no time."""
    await asyncio.sleep(0)


async def downloaded(files: FileSet, directory: Path) -> Report:
    """Download a set and assert that nothing failed."""
    async with Mirror(directory, clock=arena_async.Clock(sleep=at_once)) as mirror:
        report = await mirror.sync(files)
    report.raise_for_failures()
    return report


async def test_days_are_brought_home_once_and_kept_equal(
    client: CentrePointClient, simulator: CentrePointSimulator, tmp_path: Path
) -> None:
    """A second run costs the listing; after a day was rebuilt, a third fetches that day in the place of the old one."""
    files = client.day_files.files(DayQuery(234, SUBJECT, RAW))
    first = await downloaded(files, tmp_path)
    assert (first.counts[Action.FETCH], first.requests) == (240, 3)
    assert {outcome.verified_by for outcome in first.outcomes} == {"md5"}
    assert lies_in(tmp_path) == offered(simulator)
    simulator.clear()

    second = await downloaded(files, tmp_path)
    assert (second.counts[Action.KEEP], second.requests) == (240, 3)
    assert [seen.listener for seen in simulator.log] == ["api"] * 3

    days = simulator.day_files.keys(SUBJECT, RAW)
    simulator.day_files.rebuild(days[5])
    simulator.day_files.remove(days[9])
    third = await downloaded(files, tmp_path)
    assert (third.counts[Action.REFRESH], third.counts[Action.KEEP], third.counts[Action.GONE]) == (1, 238, 1)
    kept = {days[9].path: simulator.day_files.content(days[9])}
    assert lies_in(tmp_path) == offered(simulator) | kept
    assert simulator.breaches == []


async def test_what_a_file_is_its_bytes_say(
    client: CentrePointClient, simulator: CentrePointSimulator, tmp_path: Path
) -> None:
    """Bare gzip, bare avro, and a zip with either in it: each is checked by what it is, and stored as it came."""
    simulator.content_md5 = False
    bare = await downloaded(
        client.day_files.files(DayQuery(234, SUBJECT, RAW, year=2021, month=1, day=1)), tmp_path / "bare"
    )
    simulator.day_files.zipped = True
    zipped = await downloaded(
        client.day_files.files(DayQuery(234, SUBJECT, RAW, year=2021, month=1, day=1)), tmp_path / "zipped"
    )

    assert [(o.verified_by, o.reason) for o in bare.outcomes] == [("crc", ""), ("length", "")]
    assert [(o.verified_by, o.reason) for o in zipped.outcomes] == [
        ("crc", "the name promises gzip content and it is zip"),
        ("crc", "the name promises avro content and it is zip"),
    ]
    keys = simulator.day_files.keys(SUBJECT, RAW)[:2]
    assert lies_in(tmp_path / "zipped") == {key.path: simulator.day_files.content(key) for key in keys}


async def test_links_whose_announced_end_contradicts_them_are_used(
    client: CentrePointClient, simulator: CentrePointSimulator, tmp_path: Path
) -> None:
    """As in the sample: nothing fails, and no list is requested again."""
    simulator.expiry_contradicts = True

    report = await downloaded(client.day_files.files(DayQuery(234, SUBJECT, RAW, file_format="csv")), tmp_path)

    assert (report.counts[Action.FETCH], report.requests) == (120, 2)
    assert lies_in(tmp_path) == offered(simulator, "csv")


async def test_links_that_end_in_the_middle_are_renewed(
    client: CentrePointClient, simulator: CentrePointSimulator, tmp_path: Path
) -> None:
    """Every file arrives, and no dead link is requested twice."""
    simulator.inject(faults.expire_links(), on="GET /study-*", after=20)

    report = await downloaded(client.day_files.files(DayQuery(234, SUBJECT, RAW, file_format="avro")), tmp_path)

    assert report.counts[Action.FETCH] == 120
    assert lies_in(tmp_path) == offered(simulator, "avro")
    dead = [seen.target for seen in simulator.seen("GET /study-*", listener="files") if seen.status == 403]
    assert len(dead) == len(set(dead)) > 0
    # Two pages, and each of them again: not one list for each file.
    assert len(targets(simulator)) <= 6


async def test_a_day_that_is_cut_off_after_its_link_ended_goes_on_where_it_was(
    simulator: CentrePointSimulator, client: CentrePointClient, tmp_path: Path
) -> None:
    """A new link to the same content, and the rest of it; the bytes that were here are not fetched again."""
    simulator.day_files.size = 400_000
    blob = "GET /study-*"
    simulator.inject(faults.drop(after_bytes=300_000), on=blob)
    simulator.inject(faults.expire_links(), on=blob)

    files = client.day_files.files(DayQuery(234, SUBJECT, RAW, year=2021, month=1, day=1, file_format="csv"))
    report = await downloaded(files, tmp_path)

    assert report.counts[Action.FETCH] == 1
    cut, refused, rest = simulator.seen(blob, listener="files")
    assert (cut.status, refused.status, rest.status) == (200, 403, 206)
    assert refused.headers["Range"] == rest.headers["Range"]
    assert rest.sent < 200_000
    assert rest.headers["If-Match"].startswith('"0x8D9')
    key = simulator.day_files.keys(SUBJECT, RAW)[0]
    assert lies_in(tmp_path)[key.path] == simulator.day_files.content(key)


async def test_a_day_that_is_rebuilt_while_it_is_fetched_comes_new_and_whole(
    simulator: CentrePointSimulator, client: CentrePointClient, tmp_path: Path
) -> None:
    """The old link is dead, the list has the new name: nothing of the old day is joined to the new one."""
    files = client.day_files.files(DayQuery(234, SUBJECT, RAW, year=2021, month=1, day=1, file_format="csv"))
    (listed,) = [file async for file in files]
    day = DayKey(234, SUBJECT, RAW, date(2021, 1, 1), "csv")
    simulator.day_files.rebuild(day)

    class Listed:
        """The set as it was listed before."""

        def __init__(self, inner: DayFileSet) -> None:
            self._inner = inner

        def __getattr__(self, name: str) -> Any:
            return getattr(self._inner, name)

        async def __aiter__(self) -> AsyncIterator[Any]:
            yield listed

    await downloaded(Listed(files), tmp_path)

    assert lies_in(tmp_path) == {day.path: simulator.day_files.content(day)}
    assert [seen.status for seen in simulator.seen("GET /study-*", listener="files")] == [404, 200]


async def test_keys_are_looked_up_by_day_month_and_year(
    client: CentrePointClient, simulator: CentrePointSimulator
) -> None:
    """One day or one month is one request; keys of others cost nothing, and a key that is gone is missing."""
    files = client.day_files.files(DayQuery(234, SUBJECT, RAW))
    listed = [file async for file in files]
    keys = {file.key: file for file in listed}
    simulator.clear()

    one = await files.find([listed[0].key, "arena/else"])
    month = await files.find([listed[0].key, listed[7].key])
    whole = await files.find(list(keys))
    simulator.day_files.remove(simulator.day_files.keys(SUBJECT, RAW)[0])
    gone = await files.find([listed[0].key])

    assert [file.key for file in one] == [listed[0].key]
    assert {file.key for file in month} == {listed[0].key, listed[7].key}
    assert {file.key for file in whole} == set(keys)
    assert gone == []
    assert targets(simulator) == [
        f"{RAW}/2021/01/01?fileFormat=csv&limit=100&offset=0",
        f"{RAW}/2021/01?limit=100&offset=0",
        *(f"{RAW}/2021/{month}?limit=100&offset=0" for month in ("01", "02", "03", "04")),
        f"{RAW}/2021/01/01?fileFormat=csv&limit=100&offset=0",
    ]
    assert await files.find([]) == []


async def test_a_day_that_a_list_lacks_is_not_gone(client: CentrePointClient, simulator: CentrePointSimulator) -> None:
    """What is listed is returned; where one is missing from a month that counts it, that is an error."""
    files = client.day_files.files(DayQuery(234, SUBJECT, RAW))
    keys = [file.key async for file in files]

    simulator.inject(faults.lose_rows(count=1), on="GET /dataaccess/*", times=2)
    with pytest.raises(ListingError):
        await files.find(keys[:2])
    assert len(await files.find(keys[1:3])) == 2


async def test_the_price_is_known_after_the_first_page(client: CentrePointClient) -> None:
    """Only the listing costs; what it costs is exact once the service has said how many there are."""
    files = client.day_files.files(DayQuery(234, SUBJECT, RAW))
    before = files.cost()
    await anext(aiter(files))
    after = files.cost()

    assert (before.listing, before.per_file, before.exact) == (1, 0, False)
    assert (after.listing, after.per_file, after.exact) == (3, 0, True)
    assert files.since({"all": datetime(2024, 1, 1, tzinfo=UTC)}) is files


# The documents, played without the simulator


async def test_the_sample_of_the_page_is_played_as_printed() -> None:
    """The request of the page, and its four rows."""
    async with RawServer() as server:
        server.on("POST", "/token", json_reply({"access_token": "t.o.k", "expires_in": 3600, "token_type": "Bearer"}))
        page = json.loads((PAYLOADS / "centrepoint_day_files.json").read_text("utf-8"))
        server.on("GET", "/dataaccess/v3/files/studies/652/subjects/47589/raw-accelerometer", json_reply(page))
        async with CentrePointClient(
            CentrePointCredentials("client-7", "planted-secret"),
            base_url=server.base_url,
            auth_url=f"{server.base_url}/token",
            retry=QUICK,
        ) as client:
            rows = await client.day_files.search(
                DayQuery(652, 47589, RAW, day_from="2021-01-01", day_to="2021-01-02")
            ).collect()

        assert [(row.day, row.file_format) for row in rows] == [
            ("2021-01-01", "csv"),
            ("2021-01-01", "avro"),
            ("2021-01-02", "csv"),
            ("2021-01-02", "avro"),
        ]
        seen = server.requests[-1]
        assert seen.header("Authorization") == "Bearer t.o.k"
        assert "startDate=2021-01-01T00%3A00%3A00" in seen.target
