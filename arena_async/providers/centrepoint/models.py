"""
What CentrePoint tells, as frozen values with the vendor's names in snake case.

Keys that are not known yet are kept in ``unknown``. Date-times with ``Z`` or an offset are aware; one with neither is
in the subject's own timezone and stays naive, by the vendor's page on dates; ``0001-01-01``, "never", is None. Personal
data (birth date, gender, weight, height) is there to read and is never part of a ``repr``, and neither is ``unknown``.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from typing import Any

import attrs

from arena_async.wire.messages import Secret

__all__ = [
    "DataFile",
    "DataFileLink",
    "DataRequest",
    "DatasetFile",
    "DatasetSubject",
    "DayFile",
    "ProgramExecution",
    "Site",
    "StaleDataSet",
    "Study",
    "StudyDataSet",
    "StudyProgram",
    "Subject",
    "is_later",
]

_DAY = re.compile(r"\s*([0-9]{4}-[0-9]{2}-[0-9]{2})(?:[Tt ].*)?\Z")


@attrs.frozen(kw_only=True)
class DatasetFile:
    """
    One dataset file: what one study program made of one subject's data, for one data set.

    (``study_id``, ``study_program_id``, ``data_set_name``, ``subject_id``) names it. ``file_name`` does not: files of
    different data sets may carry the same one, and each run of the program makes a new one.

    Args:
        study_id: The study.
        study_program_id: The study program, a GUID.
        data_set_name: The data set, in mixed case; the service does not tell cases apart.
        subject_id: The subject, by its number.
        file_name: The vendor's own file name.
        file_format: ``"csv"``; the body is gzip.
        modified_date: When the data last changed.
        modified_text: The same as the service wrote it: seven digits of a second do not fit a date-time, so this is
            what tells two versions apart.
        last_successful_program_execution: When the program last ran without an error.
        study_version: Seen in samples only; the vendor does not say what it means.
        file_url: The signed link to the content. It is as good as a password until it expires, so it is masked.
        download_url_expires_on: When the link ends, by the service; the link itself may say otherwise.
        unknown: Keys this library does not know.
    """

    study_id: int
    study_program_id: str
    data_set_name: str
    subject_id: int
    file_name: str = ""
    file_format: str = "csv"
    modified_date: datetime | None = None
    modified_text: str = attrs.field(default="", metadata={"wire": ("modifiedDate",)})
    last_successful_program_execution: datetime | None = attrs.field(
        default=None,
        metadata={"wire": ("lastSuccessfulProgramExecutionTimeStamp", "lastSuccessfulProgramExecutionTimestamp")},
    )
    study_version: int | None = None
    # The dataset page calls the link fileUrl; the pages of day files and of raw requests call it downloadUrl.
    file_url: Secret | None = attrs.field(default=None, metadata={"wire": ("fileUrl", "downloadUrl")})
    download_url_expires_on: datetime | None = None
    unknown: dict[str, Any] = attrs.field(factory=dict, repr=False, eq=False)


@attrs.frozen(kw_only=True)
class DayFile:
    """
    One day file: what the monitors of one subject recorded on one day, in one category and one format.

    (``study_id``, ``subject_id``, ``data_category``, ``day``, ``file_format``) names it. ``file_name`` does not: a day
    that is rebuilt after a late upload gets a new one, and it says neither study nor subject.

    Args:
        study_id: The study.
        subject_id: The subject, by its number.
        data_category: For instance ``"raw-accelerometer"``; other words are let through.
        date: The day of the data as a date-time.
        date_text: The same as the service wrote it.
        file_name: The vendor's own file name.
        file_format: ``"csv"`` (the body is gzip) or ``"avro"``.
        modified_date: When the day was last rebuilt.
        modified_text: The same as the service wrote it, which is what tells two versions apart.
        download_url: The signed link to the content. It is as good as a password until it expires, so it is masked.
        download_url_expires_on: When the link ends, by the service; in the vendor's sample that lies before the link
            begins to be valid.
        unknown: Keys this library does not know.
    """

    study_id: int
    subject_id: int
    data_category: str
    date: datetime | None = None
    date_text: str = attrs.field(default="", metadata={"wire": ("date",)})
    file_name: str = ""
    file_format: str = "csv"
    modified_date: datetime | None = None
    modified_text: str = attrs.field(default="", metadata={"wire": ("modifiedDate",)})
    # As in DatasetFile, by the name of either page.
    download_url: Secret | None = attrs.field(default=None, metadata={"wire": ("downloadUrl", "fileUrl")})
    download_url_expires_on: datetime | None = None
    unknown: dict[str, Any] = attrs.field(factory=dict, repr=False, eq=False)

    @property
    def day(self) -> str:
        """
        The day as ``2021-01-01``, or "" where the service wrote something else.

        It is read off the text and never moved to another timezone: it is a day of the subject's life.
        """
        return _day_of(self.date_text)


def _day_of(text: str) -> str:
    """Read the day off a date or date-time, or give ""."""
    found = _DAY.match(text)
    try:
        return date.fromisoformat(found[1]).isoformat() if found else ""
    except ValueError:
        return ""


@attrs.frozen(kw_only=True)
class DataRequest:
    """
    A request for raw or epoch data, as the service last showed it.

    Args:
        id: The tracking id, a GUID.
        status: ``"pending"``, ``"processing"``, ``"completed"`` or ``"error"``, in any case; other words are let
            through.
        study_id: The study.
        subject_id: The subject, by its number.
        file_format: ``"gt3x"``, ``"csv"`` or ``"avro"``, in any case.
        created: When it was made.
        started: When the service began to work on it, or None.
        completed: When that ended, or None.
        begin: The first moment asked for; not every answer says it.
        end: The last moment asked for; not every answer says it.
        summary_length: Of an epoch request: seconds of one epoch.
        include_partial_epochs: Of an epoch request: whether epochs that are not full are in it.
        unknown: Keys this library does not know.
    """

    id: str
    status: str = ""
    study_id: int | None = None
    subject_id: int | None = None
    file_format: str = ""
    created: datetime | None = attrs.field(default=None, metadata={"wire": ("createdDateTimeUtc",), "zone": UTC})
    started: datetime | None = attrs.field(default=None, metadata={"wire": ("startDateTimeUtc",), "zone": UTC})
    completed: datetime | None = attrs.field(default=None, metadata={"wire": ("completedDateTimeUtc",), "zone": UTC})
    begin: datetime | None = attrs.field(default=None, metadata={"wire": ("beginTimestampUtc",), "zone": UTC})
    end: datetime | None = attrs.field(default=None, metadata={"wire": ("endTimestampUtc",), "zone": UTC})
    summary_length: int | None = attrs.field(default=None, metadata={"wire": ("summaryLengthSeconds",)})
    include_partial_epochs: bool | None = None
    unknown: dict[str, Any] = attrs.field(factory=dict, repr=False, eq=False)

    @property
    def is_completed(self) -> bool:
        """Whether its files are there."""
        return self.status.strip().casefold() == "completed"

    @property
    def is_failed(self) -> bool:
        """Whether it ended without files."""
        return self.status.strip().casefold() == "error"

    @property
    def is_active(self) -> bool:
        """Whether it holds one of the places that the service has for requests; an unknown status counts so."""
        return not (self.is_completed or self.is_failed)


@attrs.frozen(kw_only=True)
class DataFile:
    """
    One file of a request for raw or epoch data. A request may give several, a small summary (``.json``) among them.

    Args:
        id: Its GUID.
        file_name: The vendor's own file name.
        file_size: Bytes.
        expires: When the service removes it, about 30 days after it was made.
        unknown: Keys this library does not know.
    """

    id: str
    file_name: str = ""
    file_size: int | None = attrs.field(default=None, metadata={"wire": ("fileSizeBytes",), "size": True})
    expires: datetime | None = attrs.field(default=None, metadata={"wire": ("expirationDateUtc",), "zone": UTC})
    unknown: dict[str, Any] = attrs.field(factory=dict, repr=False, eq=False)


@attrs.frozen(kw_only=True)
class DataFileLink:
    """
    A signed link to one file of a request, good for about two minutes.

    Args:
        download_url: The link. It is as good as a password until it expires, so it is masked.
        expires: When it ends, by the service.
        unknown: Keys this library does not know.
    """

    download_url: Secret | None = attrs.field(default=None, metadata={"wire": ("downloadUrl", "fileUrl")})
    expires: datetime | None = attrs.field(default=None, metadata={"wire": ("expirationDateUtc",), "zone": UTC})
    unknown: dict[str, Any] = attrs.field(factory=dict, repr=False, eq=False)


@attrs.frozen(kw_only=True)
class ProgramExecution:
    """
    When a study program last ran for a subject.

    Args:
        study_program_id: The study program, a GUID.
        study_program_name: Its name; two programs may have the same one.
        last_successful_program_execution: When it last ran without an error, or None for never.
        unknown: Keys this library does not know.
    """

    study_program_id: str
    study_program_name: str = ""
    last_successful_program_execution: datetime | None = attrs.field(
        default=None,
        metadata={"wire": ("lastSuccessfulProgramExecutionTimeStamp", "lastSuccessfulProgramExecutionTimestamp")},
    )
    unknown: dict[str, Any] = attrs.field(factory=dict, repr=False, eq=False)


@attrs.frozen(kw_only=True)
class DatasetSubject:
    """
    What the dataset export knows of a subject: when raw data last came, and which programs ran since.

    Raw data later than the last execution means that the exported file does not contain it yet.

    Args:
        study_id: The study.
        subject_id: The subject, by its number.
        last_raw_uploaded: When raw data last came, or None for never. A subject may have executions all the same.
        study_program_executions: One entry for each study program.
        unknown: Keys this library does not know.
    """

    study_id: int
    subject_id: int
    last_raw_uploaded: datetime | None = attrs.field(
        default=None, metadata={"wire": ("lastRawUploadedTimeStamp", "lastRawUploadedTimestamp")}
    )
    study_program_executions: tuple[ProgramExecution, ...] = ()
    unknown: dict[str, Any] = attrs.field(factory=dict, repr=False, eq=False)

    @property
    def stale(self) -> tuple[StaleDataSet, ...]:
        """The programs whose data sets of this subject lack raw data that came after they last ran."""
        raw = self.last_raw_uploaded
        if raw is None:
            return ()
        return tuple(
            StaleDataSet(
                study_id=self.study_id,
                subject_id=self.subject_id,
                study_program_id=ran.study_program_id,
                study_program_name=ran.study_program_name,
                last_raw_uploaded=raw,
                last_successful_program_execution=ran.last_successful_program_execution,
            )
            for ran in self.study_program_executions
            if is_later(raw, ran.last_successful_program_execution)
        )


def is_later(moment: datetime, than: datetime | None) -> bool:
    """
    Say whether something happened after something else, or that never happened.

    One of two date-times may lack its zone; both are the same subject's, so the written times are compared then.
    """
    if than is None:
        return True
    if (moment.tzinfo is None) != (than.tzinfo is None):
        moment, than = moment.replace(tzinfo=None), than.replace(tzinfo=None)
    return moment > than


@attrs.frozen(kw_only=True)
class StaleDataSet:
    """
    Data sets of one subject by one program that lack the newest raw data.

    Args:
        study_id: The study.
        subject_id: The subject, by its number.
        study_program_id: The program, a GUID.
        study_program_name: Its name.
        last_raw_uploaded: When raw data last came.
        last_successful_program_execution: When the program last ran for the subject without an error; None for never.
    """

    study_id: int
    subject_id: int
    study_program_id: str
    study_program_name: str = ""
    last_raw_uploaded: datetime
    last_successful_program_execution: datetime | None = None


@attrs.frozen(kw_only=True)
class StudyProgram:
    """
    A study program: what turns raw data into data sets.

    Args:
        study_program_id: A GUID (one page of the vendor says number).
        study_id: The study.
        study_program_name: For instance ``"Activity (30)"``. Two programs of a study may have the same name.
        unknown: Keys this library does not know.
    """

    study_program_id: str
    study_id: int | None = None
    study_program_name: str = ""
    unknown: dict[str, Any] = attrs.field(factory=dict, repr=False, eq=False)


@attrs.frozen(kw_only=True)
class StudyDataSet:
    """
    A data set that a study program makes.

    Args:
        study_program_id: The study program, a GUID.
        data_set_name: For instance ``"LeapAvgBarometer"`` (one page of the vendor says number).
        unknown: Keys this library does not know.
    """

    study_program_id: str
    data_set_name: str
    unknown: dict[str, Any] = attrs.field(factory=dict, repr=False, eq=False)


@attrs.frozen(kw_only=True)
class Study:
    """
    A study.

    Args:
        id: Its number.
        name: Its name.
        organization_name: Who runs it.
        created_date_time: When it was created.
        study_status: For instance ``"Active"``; other words are let through.
        default_wear_position: Where the monitor is worn, unless a subject says otherwise.
        wear_positions: Where it may be worn.
        monitor_data_collection_mode: For instance ``"Raw Only"`` or ``"Epoch+Raw"``.
        unknown: Keys this library does not know.
    """

    id: int
    name: str = ""
    organization_name: str = ""
    created_date_time: datetime | None = None
    study_status: str = ""
    default_wear_position: str = ""
    wear_positions: tuple[str, ...] = ()
    monitor_data_collection_mode: str = ""
    unknown: dict[str, Any] = attrs.field(factory=dict, repr=False, eq=False)


@attrs.frozen(kw_only=True)
class Site:
    """
    A site of a study.

    Args:
        id: Its number.
        study_id: The study.
        site_name: Its name.
        site_identifier: What the subject identifiers of this site start with; may be missing.
        description: Free text.
        require_dob: Whether a birth date is asked for.
        require_gender: Whether the gender is asked for.
        require_weight: Whether the weight is asked for.
        require_height: Whether the height is asked for.
        require_site_identifier: Whether subject identifiers start with the site's.
        default_shipment_country_code: Where monitors are sent.
        depot: Whether it is a store of monitors.
        date_format: How the site writes dates.
        default_weight_unit: ``"Lbs"``, ``"Kg"`` or ``"kg"``.
        default_height_unit: ``"cm"`` or ``"in"``.
        timezone: Text for display, not an IANA name.
        unknown: Keys this library does not know.
    """

    id: int
    study_id: int | None = None
    site_name: str = ""
    site_identifier: str | None = None
    description: str | None = None
    require_dob: bool | None = None
    require_gender: bool | None = None
    require_weight: bool | None = None
    require_height: bool | None = None
    require_site_identifier: bool | None = None
    default_shipment_country_code: str | None = None
    depot: bool | None = None
    date_format: str | None = None
    default_weight_unit: str | None = None
    default_height_unit: str | None = None
    timezone: str | None = None
    unknown: dict[str, Any] = attrs.field(factory=dict, repr=False, eq=False)


@attrs.frozen(kw_only=True)
class Subject:
    """
    A subject of a study.

    Args:
        id: Its number, which every other call wants.
        subject_identifier: The identifier people know; unique within a study only.
        study_id: The study.
        site_id: The site.
        site_identifier: The site's identifier.
        timezone: An IANA name; date-times of the service without a zone are in it.
        wear_position: Where the monitor is worn, as text.
        assignment_status: ``"Assigned"`` or ``"Not Assigned"``.
        assignment_id: The running assignment, or None.
        dob: The birth date as the service writes it, if the study collects it.
        gender: The gender, if the study collects it.
        weight: The weight in ``weight_unit``, if the study collects it.
        weight_unit: ``"Lbs"``, ``"lbs"`` or ``"kg"``.
        height: The height in ``height_unit``, if the study collects it.
        height_unit: ``"cm"`` or ``"in"``.
        unknown: Keys this library does not know.
    """

    id: int
    subject_identifier: str = ""
    study_id: int | None = None
    site_id: int | None = None
    site_identifier: str | None = None
    timezone: str | None = None
    wear_position: str | None = None
    assignment_status: str | None = None
    assignment_id: int | None = None
    dob: str | None = attrs.field(default=None, repr=False)
    gender: str | None = attrs.field(default=None, repr=False)
    weight: float | None = attrs.field(default=None, repr=False)
    weight_unit: str | None = attrs.field(default=None, repr=False)
    height: float | None = attrs.field(default=None, repr=False)
    height_unit: str | None = attrs.field(default=None, repr=False)
    unknown: dict[str, Any] = attrs.field(factory=dict, repr=False, eq=False)
