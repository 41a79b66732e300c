"""Which day files are requested, and the entry of a row. Plain values, nothing is sent."""

from __future__ import annotations

import json
import pickle
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arena_async.errors import ConfigurationError, DecodeError, ListingError
from arena_async.protocol.decoding import decode
from arena_async.protocol.filenames import target_path as place
from arena_async.protocol.files import RemoteFile
from arena_async.providers.centrepoint import CATEGORIES, DayFile
from arena_async.providers.centrepoint.day_files import (
    DayQuery,
    day_file,
    file_key,
    narrowest,
    read_file_key,
)
from arena_async.providers.centrepoint.links import SignedLink

PAYLOADS = Path(__file__).parents[2] / "payloads"
TENANT = "https://api.actigraphcorp.com:443 client-7"
NOW = datetime(2021, 1, 30, 17, 11, tzinfo=UTC)
ROOT = "/dataaccess/v3/files/studies/652/subjects/47589/raw-accelerometer"


def items() -> list[dict[str, Any]]:
    """Return the rows of the sample page."""
    rows: list[dict[str, Any]] = json.loads((PAYLOADS / "centrepoint_day_files.json").read_text("utf-8"))["items"]
    return rows


def query(**changes: Any) -> DayQuery:
    """Return a query for the files of the sample, narrowed."""
    return DayQuery(**{"study": 652, "subject": 47589, "category": "raw-accelerometer", **changes})


def entry(number: int = 0, *, now: datetime = NOW, **changes: Any) -> RemoteFile:
    """Return the entry of a row of the sample."""
    return day_file(decode(items()[number] | changes, DayFile), tenant=TENANT, now=now)


# What the service says


def test_the_sample_of_day_files_is_read_whole() -> None:
    """Two days, both formats, and an unknown key."""
    first, avro, second, last = decode(items(), list[DayFile])

    assert (first.study_id, first.subject_id, first.data_category) == (652, 47589, "raw-accelerometer")
    assert first.date == datetime(2021, 1, 1, tzinfo=UTC)
    assert (first.date_text, first.day) == ("2021-01-01T00:00:00+00:00", "2021-01-01")
    assert first.file_name == "raw-accelerometer_2021-01-01_7eee8e85.csv.gz"
    assert (first.file_format, avro.file_format) == ("csv", "avro")
    assert first.modified_date == datetime(2021, 1, 2, 20, 43, 57, tzinfo=UTC)
    assert first.modified_text == "2021-01-02T20:43:57+00:00"
    assert first.download_url is not None
    assert first.download_url.reveal() == items()[0]["downloadUrl"]
    assert first.download_url_expires_on == datetime(2021, 1, 3, 3, 45, 32, tzinfo=UTC)
    assert (second.day, last.day) == ("2021-01-02", "2021-01-02")
    assert [row.unknown for row in (first, avro, second, last)] == [{}, {}, {}, {"sampleRate": 64}]
    assert "PLANTED" not in repr(first) + str(first)


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("2021-01-01", "2021-01-01"),
        ("2021-01-01T00:00:00", "2021-01-01"),
        ("2021-01-01T00:00:00+14:00", "2021-01-01"),
        ("2021-01-01T23:59:59.9999999-11:00", "2021-01-01"),
        ("0001-01-01T00:00:00+00:00", "0001-01-01"),
        ("2021-02-30T00:00:00Z", ""),
        ("2021-01-01ish", ""),
        ("01/02/2021", ""),
        ("", ""),
    ],
)
def test_the_day_is_read_off_the_text_and_never_moved(text: str, day: str) -> None:
    """It is a day of the subject's calendar, whatever timezone stands beside it."""
    assert decode(items()[0] | {"date": text}, DayFile).day == day


# What it becomes


def test_a_day_file_is_laid_out_by_what_identifies_it() -> None:
    """Study, subject, category and day make the place; the vendor's file name is only remembered."""
    file, avro = entry(), entry(1)

    assert str(place(file)) == "centrepoint/day-files/study-652/subject-47589/raw-accelerometer/2021-01-01.csv.gz"
    assert str(place(avro)) == "centrepoint/day-files/study-652/subject-47589/raw-accelerometer/2021-01-01.avro"
    assert file.name == "raw-accelerometer_2021-01-01_7eee8e85.csv.gz"
    assert (file.service, file.tenant, file.size, file.skip) == ("centrepoint", TENANT, None, None)
    assert file.changed_at == datetime(2021, 1, 2, 20, 43, 57, tzinfo=UTC)
    assert file.fields == {
        "study": "652",
        "subject": "47589",
        "category": "raw-accelerometer",
        "date": "2021-01-01",
        "format": "csv",
    }


def test_a_day_that_is_rebuilt_stays_the_same_file_and_changes() -> None:
    """A new name and a new date under the key and at the place of the old one."""
    old = entry()
    new = entry(fileName="raw-accelerometer_2021-01-01_00000000.csv.gz", modifiedDate="2021-02-01T00:00:00+00:00")

    assert (new.key, place(new)) == (old.key, place(old))
    assert old.change == "2021-01-02T20:43:57+00:00|raw-accelerometer_2021-01-01_7eee8e85.csv.gz"
    assert new.change == "2021-02-01T00:00:00+00:00|raw-accelerometer_2021-01-01_00000000.csv.gz"
    assert entry(modifiedDate=None, fileName=None).change == ""


@pytest.mark.parametrize(
    "changes",
    [
        {"studyId": 653},
        {"subjectId": 47590},
        {"dataCategory": "imu"},
        {"date": "2021-01-02T00:00:00+00:00"},
        {"fileFormat": "avro"},
    ],
)
def test_each_identifying_field_makes_another_file(changes: dict[str, Any]) -> None:
    """And another place."""
    assert entry(**changes).key != entry().key
    assert place(entry(**changes)) != place(entry())


def test_cases_and_timezones_make_no_other_file() -> None:
    """The service means the same by every case."""
    same = entry(dataCategory="RAW-Accelerometer", fileFormat="CSV", date="2021-01-01")

    assert (same.key, place(same)) == (entry().key, place(entry()))


def test_a_category_nobody_knows_has_a_place_of_its_own() -> None:
    """Also one whose name would not do as a directory."""
    assert str(place(entry(dataCategory="../gait"))).startswith(
        "centrepoint/day-files/study-652/subject-47589/_.._gait~"
    )


def test_the_earlier_of_both_ends_of_a_link_counts_unless_it_was_over_from_the_beginning() -> None:
    """In the sample the announced end lies before the link begins; then the link's own end counts."""
    sample, earlier = entry().link, entry(downloadUrlExpiresOn="2021-01-31T00:00:00+00:00").link
    old = entry(now=datetime(2024, 1, 1, tzinfo=UTC)).link

    assert isinstance(sample, SignedLink)
    assert isinstance(earlier, SignedLink)
    assert isinstance(old, SignedLink)
    assert sample.ends_at == datetime(2021, 2, 1, 1, 10, 52, tzinfo=UTC)
    assert earlier.ends_at == datetime(2021, 1, 31, tzinfo=UTC)
    assert old.ends_at is None


def test_a_link_is_lost_in_a_pickle_and_never_shown() -> None:
    """It is as good as a password."""
    file = entry()

    assert "PLANTED" not in repr(file)
    assert b"PLANTED" not in pickle.dumps(file)


# Which are requested


@pytest.mark.parametrize(
    ("changes", "path", "params"),
    [
        ({}, ROOT, {}),
        ({"category": "IMU"}, ROOT.replace("raw-accelerometer", "imu"), {}),
        ({"category": "gait speed"}, ROOT.replace("raw-accelerometer", "gait%20speed"), {}),
        ({"file_format": "AVRO"}, ROOT, {"fileFormat": "avro"}),
        ({"newest_first": True}, ROOT, {"sortOrder": "desc"}),
        ({"year": 2021}, f"{ROOT}/2021", {}),
        ({"year": 2021, "month": 2, "file_format": "csv"}, f"{ROOT}/2021/02", {"fileFormat": "csv"}),
        ({"year": 2021, "month": 2, "day": 3}, f"{ROOT}/2021/02/03", {}),
        (
            {"day_from": date(2021, 1, 1), "day_to": "2021-01-02"},
            ROOT,
            {"startDate": "2021-01-01T00:00:00", "endDate": "2021-01-02T00:00:00"},
        ),
        ({"day_from": " 2021-01-01 "}, ROOT, {"startDate": "2021-01-01T00:00:00"}),
        ({"day_to": "2021-01-01"}, ROOT, {"endDate": "2021-01-01T00:00:00"}),
    ],
)
def test_each_filter_goes_where_the_page_has_it(changes: dict[str, Any], path: str, params: dict[str, str]) -> None:
    """Year, month and day in the path, a range and a format in the query."""
    request = query(**changes).request

    assert (request.method, request.path, dict(request.params)) == ("GET", path, params)
    assert request.scope == "DataAccess"


@pytest.mark.parametrize(
    "changes",
    [
        {"study": "six"},
        {"study": -1},
        {"subject": 1.5},
        {"subject": " "},
        {"category": ""},
        {"category": "a/b"},
        {"category": ".."},
        {"file_format": "csv.gz"},
        {"file_format": ""},
        {"year": 0},
        {"year": "2021"},
        {"year": True},
        {"month": 1},
        {"year": 2021, "month": 13},
        {"year": 2021, "day": 1},
        {"year": 2021, "month": 2, "day": 29},
        {"year": 2021, "day_from": "2021-01-01"},
        {"year": 2021, "day_to": "2021-01-01"},
        {"day_from": "2021-01-02", "day_to": "2021-01-01"},
        {"day_from": "yesterday"},
        {"day_from": datetime(2021, 1, 1, tzinfo=UTC)},
        {"day_from": 20210101},
    ],
)
def test_what_cannot_be_asked_for_is_refused_at_once(changes: dict[str, Any]) -> None:
    """Before anything is sent."""
    with pytest.raises(ConfigurationError):
        query(**changes)


def test_the_query_is_named_by_what_narrows_it() -> None:
    """The name holds no case, and digits that are an identifier are not the number."""
    assert query(category="Raw-Accelerometer").scope == query().scope
    assert query().scope == "centrepoint/day-files/study-652/subject-47589/raw-accelerometer"
    assert query(subject="47589").scope == "centrepoint/day-files/study-652/subject=47589/raw-accelerometer"
    assert query(subject="A/1").scope == "centrepoint/day-files/study-652/subject=A%2F1/raw-accelerometer"
    assert query(year=2021, month=3, file_format="CSV").scope.endswith("/raw-accelerometer/in-2021-03/format-csv")
    assert query(day_from="2021-01-01", day_to="2021-01-02").scope.endswith("/from-2021-01-01/to-2021-01-02")
    assert query(newest_first=True).scope == query().scope
    assert query().narrowed is query(newest_first=True).narrowed is False
    for narrow in (query(year=2021), query(day_to="2021-01-02"), query(file_format="csv")):
        assert narrow.narrowed is True


@pytest.mark.parametrize(
    ("requested", "came"),
    [
        ({"study": 653}, {}),
        ({"subject": 47590}, {}),
        ({"category": "imu"}, {}),
        ({"file_format": "avro"}, {}),
        ({"year": 2020}, {}),
        ({"year": 2021, "month": 2}, {}),
        ({"year": 2021, "month": 1, "day": 2}, {}),
        ({"day_from": "2021-01-03"}, {}),
        ({"day_to": "2021-01-01"}, {"date": "2021-01-03"}),
    ],
)
def test_a_row_nobody_asked_for_is_an_error(requested: dict[str, Any], came: dict[str, Any]) -> None:
    """All files in the place of some look like success."""
    with pytest.raises(ListingError, match="requested") as caught:
        query(**requested).reader()(items()[0] | came)

    assert "PLANTED" not in str(caught.value)


@pytest.mark.parametrize("requested", [{"day_from": "2021-01-02"}, {"day_to": "2020-12-31"}, {"year": 2021}])
def test_a_day_beside_the_range_passes(requested: dict[str, Any]) -> None:
    """It is not documented in which timezone a range begins."""
    assert query(**requested).reader()(items()[0]).day == "2021-01-01"


def test_a_row_without_a_day_is_no_day_file() -> None:
    """Nothing could name it."""
    with pytest.raises(DecodeError, match="'soon', which is no day"):
        query().reader()(items()[0] | {"date": "soon"})


# The narrowest way to list again


def requested_for(wanted: list[tuple[str, str]], **changes: Any) -> list[tuple[str, str | None]]:
    """Return dates and format of the narrowest queries."""
    return [(found.dates, found.file_format) for found in narrowest(query(**changes), wanted)]


@pytest.mark.parametrize(
    ("wanted", "queries"),
    [
        ([], []),
        ([("2021-01-05", "csv")], [("2021-01-05", "csv")]),
        ([("2021-01-05", "csv"), ("2021-01-05", "avro")], [("2021-01-05", None)]),
        ([("2021-01-05", "csv"), ("2021-01-31", "csv")], [("2021-01", "csv")]),
        ([("2021-01-05", "csv"), ("2021-02-01", "csv")], [("2021-01-05", "csv"), ("2021-02-01", "csv")]),
        ([(f"2021-{month:02}-01", "csv") for month in range(1, 6)], [("2021", "csv")]),
        (
            [(f"2021-{month:02}-01", kind) for month in range(1, 6) for kind in ("csv", "avro")],
            [(f"2021-{month:02}-01", None) for month in range(1, 6)],
        ),
    ],
)
def test_keys_are_looked_up_with_the_fewest_requests(
    wanted: list[tuple[str, str]], queries: list[tuple[str, str | None]]
) -> None:
    """A day or a month is one request, a year four or eight."""
    assert requested_for(wanted) == queries


def test_a_format_asked_for_stays_asked_for() -> None:
    """And a range gives way to the days of the keys."""
    assert requested_for([("2021-01-05", "csv")], day_from="2021-01-01", file_format="csv") == [("2021-01-05", "csv")]


DAYS = st.dates(min_value=date(2019, 1, 1), max_value=date(2023, 12, 31)).map(date.isoformat)


@given(st.lists(st.tuples(DAYS, st.sampled_from(["csv", "avro"])), max_size=40))
def test_the_narrowest_queries_hold_every_file_wanted_and_overlap_nowhere(wanted: list[tuple[str, str]]) -> None:
    """Each file is in exactly one of them, and they are never more than the days are."""
    queries = narrowest(query(), wanted)

    assert [sum(found.holds(*file) for found in queries) for file in wanted] == [1] * len(wanted)
    assert len(queries) <= len({day for day, _ in wanted})


def test_a_key_can_be_read_back_by_its_own_set_only() -> None:
    """Another tenant, subject, category, day or format, and keys of other files, are none of it."""
    key = file_key(TENANT, decode(items()[0], DayFile))

    assert read_file_key(key, TENANT, query()) == ("2021-01-01", "csv")
    for other in (
        query(study=1),
        query(subject=1),
        query(category="imu"),
        query(year=2020),
        query(file_format="avro"),
        query(day_to="2020-01-01"),
    ):
        assert read_file_key(key, TENANT, other) is None
    assert read_file_key(key, "somebody else", query()) is None
    assert read_file_key("centrepoint/x/dataset-file/1/2/3/4", TENANT, query()) is None


def test_the_seven_documented_categories_are_known() -> None:
    """In the order of the page."""
    assert CATEGORIES == (
        "raw-accelerometer",
        "temperature",
        "ppg-green",
        "ppg-green-100-hz",
        "barometer",
        "imu",
        "ppg-red-ir-50-hz",
    )
