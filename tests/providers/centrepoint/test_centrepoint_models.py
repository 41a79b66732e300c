"""Every key of the documented samples arrives on a model."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from arena_async.protocol.decoding import decode
from arena_async.providers.centrepoint.models import (
    DatasetFile,
    DatasetSubject,
    ProgramExecution,
    Site,
    Study,
    StudyDataSet,
    StudyProgram,
    Subject,
)

PAYLOADS = Path(__file__).parents[2] / "payloads"
PROGRAM = "5b342a11-2fb9-4ad9-a7be-4d410181f51c"


def rows(name: str) -> list[dict[str, Any]]:
    """Return the rows of a sample page."""
    items: list[dict[str, Any]] = json.loads((PAYLOADS / f"centrepoint_{name}.json").read_text("utf-8"))["items"]
    return items


def test_the_first_published_sample_of_dataset_files_is_read_whole() -> None:
    """Two data sets, one file name; fractions of seven and six digits; no version and no end of the link."""
    items = rows("datasetexportfiles")

    daily, epochs = decode(items, list[DatasetFile])

    assert (daily.study_id, daily.subject_id) == (234, 10821)
    assert daily.study_program_id == PROGRAM
    assert (daily.data_set_name, epochs.data_set_name) == ("ActivityDaily8", "ActivityEpochs10")
    assert daily.file_name == epochs.file_name == "10821_5e65f4e3-6996-41fe-a5aa-c79210285f7e.csv.gz"
    assert daily.file_format == "csv"
    assert daily.modified_date == datetime(2024, 2, 29, 10, 9, 20, 589975, UTC)
    assert daily.modified_text == "2024-02-29T10:09:20.5899754+00:00"
    assert epochs.modified_date == datetime(2024, 2, 29, 10, 9, 22, 374792, UTC)
    assert daily.last_successful_program_execution == datetime(2024, 2, 29, 10, 5, 8, 96216, UTC)
    assert daily.file_url is not None
    assert daily.file_url.reveal() == items[0]["fileUrl"]
    assert daily.study_version is None
    assert daily.download_url_expires_on is None
    assert daily.unknown == epochs.unknown == {}


def test_the_current_sample_of_dataset_files_is_read_whole() -> None:
    """The two keys that only samples show, a ``Z``, a never, and an unknown key."""
    (file,) = decode(rows("datasetfiles"), list[DatasetFile])

    assert file.study_version == 48
    assert file.download_url_expires_on == datetime(2024, 6, 4, 18, 31, 23, tzinfo=UTC)
    assert file.modified_date == datetime(2024, 6, 4, 14, 31, 20, 70000, UTC)
    assert file.last_successful_program_execution is None
    assert file.unknown == {"qualityGrade": "A"}


def test_a_link_is_taken_by_either_name_and_never_shown() -> None:
    """One page calls it fileUrl, two call it downloadUrl."""
    item = {k: v for k, v in rows("datasetfiles")[0].items() if k != "fileUrl"} | {
        "downloadUrl": "https://h/x?sig=PLANTED"
    }

    file = decode(item, DatasetFile)

    assert file.file_url is not None
    assert file.file_url.reveal() == "https://h/x?sig=PLANTED"
    assert "PLANTED" not in repr(file) + str(file)


def test_a_date_without_a_zone_stays_naive() -> None:
    """It is in the subject's own timezone, which this row does not know."""
    file = decode(rows("datasetfiles")[0] | {"modifiedDate": "2024-06-04T14:31:20.07"}, DatasetFile)

    assert file.modified_date == datetime(2024, 6, 4, 14, 31, 20, 70000)  # noqa: DTZ001 - naive is the point
    assert file.modified_text == "2024-06-04T14:31:20.07"


def test_the_sample_of_dataset_subjects_is_read_whole() -> None:
    """Executions although nothing was ever uploaded, and two programs of one name."""
    (subject,) = decode(rows("dataset_subjects"), list[DatasetSubject])

    assert subject == DatasetSubject(
        study_id=234,
        subject_id=10821,
        last_raw_uploaded=None,
        study_program_executions=(
            ProgramExecution(
                study_program_id=PROGRAM,
                study_program_name="ParamsAndSubject (31)",
                last_successful_program_execution=datetime(2024, 3, 4, 9, 12, 41, 500000, UTC),
            ),
            ProgramExecution(
                study_program_id="0f3d7c5e-6b8a-4e0c-9f1b-2d4a6c8e0b13",
                study_program_name="ParamsAndSubject (31)",
                last_successful_program_execution=None,
            ),
        ),
    )
    assert subject.unknown == {}
    assert [execution.unknown for execution in subject.study_program_executions] == [{}, {}]


def test_the_samples_of_programs_and_their_data_sets_are_read_whole() -> None:
    """A GUID and a name, where the tables of the vendor say number."""
    (program,) = decode(rows("programs"), list[StudyProgram])
    (data_set,) = decode(rows("program_datasets"), list[StudyDataSet])

    assert program == StudyProgram(study_program_id=PROGRAM, study_id=234, study_program_name="Activity (30)")
    assert data_set == StudyDataSet(study_program_id=PROGRAM, data_set_name="LeapAvgBarometer")
    assert program.unknown == data_set.unknown == {}


def test_the_sample_of_studies_is_read_whole() -> None:
    """The collection mode is missing in one sample, and so it may be."""
    first, second = decode(rows("studies"), list[Study])

    assert first == Study(
        id=234,
        name="Sleep and Activity",
        organization_name="An Organization",
        created_date_time=datetime(2019, 5, 22, 15, 0, 14, 70000, UTC),
        study_status="Active",
        default_wear_position="Left Non-Dominant Wrist",
        wear_positions=("Left Non-Dominant Wrist", "Waist - Left"),
        monitor_data_collection_mode="Raw Only",
    )
    assert second.monitor_data_collection_mode == ""
    assert second.study_status == "Archived"
    assert second.created_date_time == datetime(2020, 1, 2, 3, 4, 5)  # noqa: DTZ001 - no zone, so naive
    assert first.unknown == second.unknown == {}


def test_the_sample_of_sites_is_read_whole() -> None:
    """A flag that a table calls text, and a site with next to nothing."""
    first, second = decode(rows("sites"), list[Site])

    assert first == Site(
        id=77,
        study_id=234,
        site_name="Main Site",
        site_identifier="A",
        description="The first one",
        require_dob=False,
        require_gender=True,
        require_weight=True,
        require_height=False,
        require_site_identifier=True,
        default_shipment_country_code="US",
        depot=False,
        date_format="MM/dd/yyyy",
        default_weight_unit="Lbs",
        default_height_unit="in",
        timezone="(UTC-06:00) Central Time (US & Canada)",
    )
    assert second == Site(id=78, study_id=234, site_name="Depot", depot=True)
    assert first.unknown == second.unknown == {}


def test_the_sample_of_subjects_is_read_whole_and_shows_nothing_personal() -> None:
    """Birth date, gender, weight and height are there to read, and in no repr."""
    first, second = decode(rows("subjects"), list[Subject])

    assert first == Subject(
        id=10821,
        subject_identifier="A-017",
        study_id=234,
        site_id=77,
        site_identifier="A",
        timezone="America/Chicago",
        wear_position="Left Non-Dominant Wrist",
        assignment_status="Assigned",
        assignment_id=5150,
        dob="1961-04-03",
        gender="Female",
        weight=151.5,
        weight_unit="Lbs",
        height=64.0,
        height_unit="in",
    )
    assert not any(text in repr(first) for text in ("1961", "Female", "151.5", "64"))
    assert (second.assignment_id, second.dob, second.weight) == (None, None, None)
    assert first.unknown == second.unknown == {}
