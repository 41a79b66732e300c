"""What a row of the list becomes: a key, a place, a change mark and a link. Plain values, nothing is sent."""

from __future__ import annotations

import json
import pickle
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from arena_async.errors import ConfigurationError, DecodeError, ListingError
from arena_async.protocol.decoding import decode
from arena_async.protocol.files import RemoteFile
from arena_async.providers.centrepoint.datasets import DatasetQuery, file_key, remote_file
from arena_async.providers.centrepoint.links import SignedLink
from arena_async.providers.centrepoint.models import DatasetFile

PAYLOADS = Path(__file__).parents[2] / "payloads"
PROGRAM = "5b342a11-2fb9-4ad9-a7be-4d410181f51c"
TENANT = "https://api.actigraphcorp.com:443 client-7"
NOW = datetime(2024, 2, 29, 15, 1, tzinfo=UTC)


def item(page: str = "datasetexportfiles", **changes: Any) -> dict[str, Any]:
    """Return the first row of a sample page with some keys changed."""
    row: dict[str, Any] = json.loads((PAYLOADS / f"centrepoint_{page}.json").read_text("utf-8"))["items"][0]
    return row | changes


def entry(page: str = "datasetexportfiles", *, now: datetime = NOW, **changes: Any) -> RemoteFile:
    """Return the entry of such a row."""
    return remote_file(decode(item(page, **changes), DatasetFile), tenant=TENANT, now=now)


def test_a_file_is_laid_out_by_what_identifies_it() -> None:
    """Study, program, subject and data set make the place; the vendor's file name is only remembered."""
    file = entry()

    assert file.service == "centrepoint"
    assert file.tenant == TENANT
    assert file.parts == ("centrepoint", "study-234", f"program-{PROGRAM}", "subject-10821")
    assert (file.stem, file.extension) == ("activitydaily8", ".csv.gz")
    assert file.name == "10821_5e65f4e3-6996-41fe-a5aa-c79210285f7e.csv.gz"
    assert file.size is None
    assert file.changed_at == datetime(2024, 2, 29, 10, 9, 20, 589975, UTC)
    assert file.fields == {
        "study": "234",
        "program": PROGRAM,
        "subject": "10821",
        "data_set": "activitydaily8",
        "format": "csv",
    }


def test_the_change_mark_is_the_raw_text_of_the_date_and_the_name() -> None:
    """The seventh digit of a second is lost in a date-time and kept in the mark."""
    assert entry().change == ("2024-02-29T10:09:20.5899754+00:00|10821_5e65f4e3-6996-41fe-a5aa-c79210285f7e.csv.gz")
    assert entry(modifiedDate="2024-02-29T10:09:20.5899755+00:00").change != entry().change
    assert entry(modifiedDate=None, fileName=None).change == ""


def test_a_date_without_a_zone_is_no_moment() -> None:
    """It still marks a change, but no watermark is built on it."""
    file = entry(modifiedDate="2024-02-29T10:09:20.5")

    assert file.changed_at is None
    assert file.change.startswith("2024-02-29T10:09:20.5|")


def test_the_key_does_not_depend_on_case_name_or_link() -> None:
    """The same data set after another run of the program is the same file."""
    again = entry(
        studyProgramId=PROGRAM.upper(),
        dataSetName="activitydaily8",
        fileName="10821_other.csv.gz",
        fileUrl="https://h.example/x?sig=1",
        modifiedDate="2025-01-01T00:00:00Z",
    )

    assert again.key == entry().key
    assert (again.parts, again.stem, again.fields) == (entry().parts, entry().stem, entry().fields)
    assert again.change != entry().change


@pytest.mark.parametrize(
    "changes",
    [
        {"studyId": 235},
        {"studyProgramId": "0f3d7c5e-6b8a-4e0c-9f1b-2d4a6c8e0b13"},
        {"dataSetName": "ActivityEpochs10"},
        {"subjectId": 10822},
        {"fileFormat": "avro"},
    ],
)
def test_each_identifying_field_makes_another_key(changes: dict[str, Any]) -> None:
    """Two files of one file name, as in the documented sample, are two files."""
    assert entry(**changes).key != entry().key


def test_keys_cannot_be_forged_across_fields() -> None:
    """A name with the separator in it stays inside its field."""
    one = decode(item(dataSetName="a/1", subjectId=2), DatasetFile)
    other = decode(item(dataSetName="a", subjectId=12), DatasetFile)

    assert file_key(TENANT, one) != file_key(TENANT, other)
    assert file_key(TENANT, one).count("/") == file_key(TENANT, other).count("/")
    assert file_key("other tenant", one) != file_key(TENANT, one)


@pytest.mark.parametrize(
    ("kind", "name", "extension"),
    [
        ("csv", "x.csv.gz", ".csv.gz"),
        ("CSV", "x.csv.gz", ".csv.gz"),
        ("", "x", ".csv.gz"),
        (None, "x", ".csv.gz"),
        ("avro", "x.avro", ".avro"),
        ("parquet", "x.parquet.gz", ".parquet.gz"),
        ("../../etc", "x", ".csv.gz"),
    ],
)
def test_the_extension_follows_the_format(kind: str | None, name: str, extension: str) -> None:
    """Only csv is documented; an unknown word is used where it can be one, and nothing else is."""
    assert entry(fileFormat=kind, fileName=name).extension == extension


def test_a_link_is_carried_and_never_shown() -> None:
    """Not in repr, not in the fields, not through a pickle."""
    file = entry()

    assert file.link is not None
    assert file.link.reveal() == item()["fileUrl"]
    assert b"PLANTED" not in pickle.dumps(file)
    assert "PLANTED" not in repr(file) + repr(file.fields) + file.key + file.change


def test_the_earlier_of_two_ends_of_a_link_counts() -> None:
    """``se`` and the announced end contradict each other in the vendor's samples."""
    by_announcement = entry(downloadUrlExpiresOn="2024-02-29T17:00:00Z").link
    by_itself = entry(downloadUrlExpiresOn="2024-02-29T22:00:00Z").link

    assert isinstance(by_announcement, SignedLink)
    assert isinstance(by_itself, SignedLink)
    assert by_announcement.ends_at == datetime(2024, 2, 29, 17, 0, tzinfo=UTC)
    assert by_itself.ends_at == datetime(2024, 2, 29, 19, 0, 51, tzinfo=UTC)


@pytest.mark.parametrize("minutes", [-600, -1, 0])
def test_an_end_that_was_over_when_it_was_listed_is_not_believed(minutes: float) -> None:
    """Else a wrong date or a wrong clock would keep fresh links from ever being tried."""
    end = NOW + timedelta(minutes=minutes)

    link = entry(downloadUrlExpiresOn=end.isoformat()).link

    assert isinstance(link, SignedLink)
    assert link.ends_at == datetime(2024, 2, 29, 19, 0, 51, tzinfo=UTC)


@pytest.mark.parametrize(("life", "spare"), [(14_400, 60), (240, 60), (120, 30), (3, 0.75)])
def test_a_link_is_given_up_a_little_before_its_end(life: float, spare: float) -> None:
    """A minute before, or a quarter of its life where that is less: links of seconds must be of use too."""
    link = entry(
        fileUrl="https://h.example/x?sig=1", downloadUrlExpiresOn=(NOW + timedelta(seconds=life)).isoformat()
    ).link

    assert isinstance(link, SignedLink)
    last = NOW + timedelta(seconds=life - spare)
    assert not link.is_expired(last)
    assert link.is_expired(last + timedelta(milliseconds=1))


def test_a_link_without_any_end_is_used_until_it_is_refused() -> None:
    """No date is invented."""
    link = entry(fileUrl="https://h.example/x?sig=1").link

    assert isinstance(link, SignedLink)
    assert link.ends_at is None
    assert entry(fileUrl=None).link is None


def test_the_current_list_is_asked_for_with_a_query() -> None:
    """All three filters, by the names of the service."""
    query = DatasetQuery(study=234, subject=10821, program=PROGRAM, data_set="ActivityDaily8")

    request = query.request

    assert request.line == "GET /dataaccess/v3/studies/234/datasetfiles"
    assert request.params == (
        ("subjectId", "10821"),
        ("studyProgramId", PROGRAM),
        ("dataSetName", "ActivityDaily8"),
    )
    assert request.json is None
    assert request.scope == "DataAccess"
    assert request.metered


@pytest.mark.parametrize(
    ("filters", "body"),
    [
        ({}, {}),
        ({"program": PROGRAM}, {"studyProgramId": PROGRAM}),
        ({"program": PROGRAM, "subject": 10821}, {"studyProgramId": PROGRAM, "subjectId": 10821}),
        (
            {"program": PROGRAM, "subject": 10821, "data_set": "ActivityDaily8"},
            {"studyProgramId": PROGRAM, "subjectId": 10821, "dataSetName": "ActivityDaily8"},
        ),
    ],
)
def test_the_first_published_list_is_asked_for_with_a_body(filters: dict[str, Any], body: dict[str, Any]) -> None:
    """The four bodies of the page, on a GET."""
    request = DatasetQuery(study=234, legacy=True, **filters).request

    assert request.line == "GET /studies/234/datasetexportfiles"
    assert request.json == body
    assert request.params == ()
    assert request.scope == "DataAccess"


@pytest.mark.parametrize(
    "arguments",
    [
        {"study": "A-017"},
        {"study": -1},
        {"study": True},
        {"study": None},
        {"study": 1.5},
        {"study": "../1"},
        {"study": 1, "program": ""},
        {"study": 1, "program": 7},
        {"study": 1, "data_set": "a\nb"},
        {"study": 1, "data_set": "  "},
    ],
)
def test_an_argument_that_cannot_be_right_is_refused_at_once(arguments: dict[str, Any]) -> None:
    """Nothing is sent for it."""
    with pytest.raises(ConfigurationError):
        DatasetQuery(**arguments)


@pytest.mark.parametrize(
    ("filters", "changes"),
    [
        ({}, {"studyId": 235}),
        ({"subject": 10821}, {"subjectId": 10822}),
        ({"program": PROGRAM}, {"studyProgramId": "0f3d7c5e-6b8a-4e0c-9f1b-2d4a6c8e0b13"}),
        ({"data_set": "ActivityDaily8"}, {"dataSetName": "ActivityEpochs10"}),
    ],
)
def test_a_row_that_was_not_asked_for_is_an_error(filters: dict[str, Any], changes: dict[str, Any]) -> None:
    """A service that ignores filters returns everything, which looks like success."""
    query = DatasetQuery(study=234, **filters)

    with pytest.raises(ListingError, match="ignores the filters") as caught:
        query.reader()(item(**changes))

    assert "PLANTED" not in str(caught.value)
    assert query.reader()(item()).subject_id == 10821


def test_filters_do_not_depend_on_case() -> None:
    """Neither the match nor the name of the set."""
    query = DatasetQuery(study="234", program=PROGRAM.upper(), data_set="ACTIVITYDAILY8")

    assert query.reader()(item()).data_set_name == "ActivityDaily8"
    assert query.scope == f"centrepoint/datasets/study-234/program-{PROGRAM}/data-set-activitydaily8"
    assert DatasetQuery(study=234).scope == "centrepoint/datasets/study-234"


@pytest.mark.parametrize("row", [{}, {"studyId": "x"}, "text", None, {"studyId": 234, "subjectId": 1}])
def test_a_row_that_is_no_dataset_file_is_a_decode_error(row: Any) -> None:
    """What identifies a file is required."""
    with pytest.raises(DecodeError):
        DatasetQuery(study=234).reader()(row)
