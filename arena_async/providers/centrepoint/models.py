"""
The objects of CentrePoint, as frozen values with the vendor's names in snake case.

Keys that are not known yet are kept in ``unknown``. Date-times with ``Z`` or an offset are aware; one with neither is
in the subject's own timezone and stays naive, by the vendor's page on dates; ``0001-01-01``, "never", is None. Personal
data (birth date, gender, weight, height) is there to read and is never part of a ``repr``, and neither is ``unknown``.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import attrs

from arena_async.protocol.decoding import wire
from arena_async.protocol.messages import Secret

__all__ = [
    "ActivityMonitor",
    "Assignment",
    "CentrePointModel",
    "DataFile",
    "DataFileLink",
    "DataRequest",
    "DatasetFile",
    "DatasetSubject",
    "DayFile",
    "ListedFile",
    "Milestone",
    "ProgramExecution",
    "Site",
    "StaleDataSet",
    "Study",
    "StudyDataSet",
    "StudyProgram",
    "StudyRecord",
    "Subject",
    "SubjectMilestone",
    "TimeZoneChange",
    "Upload",
    "UploadFile",
    "Webhook",
    "WebhookDelivery",
    "WebhookEvent",
    "WebhookMessage",
    "is_later",
]

#: The end of a run, as the vendor's pages write it in two ways.
_EXECUTED = ("lastSuccessfulProgramExecutionTimeStamp", "lastSuccessfulProgramExecutionTimestamp")
_DAY = re.compile(r"\s*([0-9]{4}-[0-9]{2}-[0-9]{2})(?:[Tt ].*)?\Z")


@attrs.frozen(kw_only=True)
class CentrePointModel:
    """
    What all models have.

    Args:
        unknown: Keys this library does not know.
    """

    unknown: dict[str, Any] = attrs.field(factory=dict, repr=False, eq=False)


@attrs.frozen(kw_only=True)
class StudyRecord(CentrePointModel):
    """
    What the models of a study have.

    Args:
        study_id: The study.
    """

    study_id: int | None = None


@attrs.frozen(kw_only=True)
class ListedFile(CentrePointModel):
    """
    What all files have that are listed with a signed URL.

    Args:
        study_id: The study.
        subject_id: The subject, by its number.
        file_name: The vendor's own file name.
        file_format: ``"csv"`` (the body is gzip) or ``"avro"``.
        modified_date: When the data last changed.
        modified_text: The same as the service wrote it: seven digits of a second do not fit a date-time, so this is
            what distinguishes two versions.
        download_url_expires_on: When the URL expires, by the service; in the vendor's sample that is before the URL
            begins to be valid, and the URL itself may state another time.
    """

    study_id: int
    subject_id: int
    file_name: str = ""
    file_format: str = "csv"
    modified_date: datetime | None = None
    modified_text: str = wire("modifiedDate", default="")
    download_url_expires_on: datetime | None = None


@attrs.frozen(kw_only=True)
class DatasetFile(ListedFile):
    """
    One dataset file: what one study program made of one subject's data, for one data set.

    (``study_id``, ``study_program_id``, ``data_set_name``, ``subject_id``) names it. ``file_name`` does not: files of
    different data sets may carry the same one, and each run of the program makes a new one.

    Args:
        study_program_id: The study program, a GUID.
        data_set_name: The data set, in mixed case; the service ignores case.
        last_successful_program_execution: When the program last ran without an error.
        study_version: Seen in samples only; its meaning is not documented.
        file_url: The signed URL of the content. It is as good as a password until it expires, so it is masked.
    """

    study_program_id: str
    data_set_name: str
    last_successful_program_execution: datetime | None = wire(*_EXECUTED)
    study_version: int | None = None
    # The dataset page calls the link fileUrl; the pages of day files and of raw requests call it downloadUrl.
    file_url: Secret | None = wire("fileUrl", "downloadUrl")


@attrs.frozen(kw_only=True)
class DayFile(ListedFile):
    """
    One day file: what the monitors of one subject recorded on one day, in one category and one format.

    (``study_id``, ``subject_id``, ``data_category``, ``day``, ``file_format``) names it. ``file_name`` does not: a day
    that is rebuilt after a late upload gets a new one, and it has neither study nor subject.

    Args:
        data_category: For instance ``"raw-accelerometer"``; other words are let through.
        date: The day of the data as a date-time.
        date_text: The same as the service wrote it.
        download_url: The signed URL of the content. It is as good as a password until it expires, so it is masked.
    """

    data_category: str
    date: datetime | None = None
    date_text: str = wire("date", default="")
    # As in DatasetFile, by the name of either page.
    download_url: Secret | None = wire("downloadUrl", "fileUrl")

    @property
    def day(self) -> str:
        """
        The day as ``2021-01-01``, or "" where the service wrote something else.

        It is read off the text and never moved to another timezone: it is a day of the subject's life.
        """
        found = _DAY.match(self.date_text)
        try:
            return datetime.fromisoformat(found[1]).date().isoformat() if found else ""
        except ValueError:
            return ""


@attrs.frozen(kw_only=True)
class DataRequest(StudyRecord):
    """
    A request for raw or epoch data, as the service last showed it.

    Args:
        id: The tracking id, a GUID.
        status: ``"pending"``, ``"processing"``, ``"completed"`` or ``"error"``, in any case; other words are let
            through.
        subject_id: The subject, by its number.
        file_format: ``"gt3x"``, ``"csv"`` or ``"avro"``, in any case.
        created: When it was made.
        started: When the service began to work on it, or None.
        completed: When that ended, or None.
        begin: The first requested time; not every response has it.
        end: The last requested time; not every response has it.
        summary_length: Of an epoch request: seconds of one epoch.
        include_partial_epochs: Of an epoch request: whether epochs that are not full are in it.
    """

    id: str
    status: str = ""
    subject_id: int | None = None
    file_format: str = ""
    created: datetime | None = wire("createdDateTimeUtc", zone=UTC)
    started: datetime | None = wire("startDateTimeUtc", zone=UTC)
    completed: datetime | None = wire("completedDateTimeUtc", zone=UTC)
    begin: datetime | None = wire("beginTimestampUtc", zone=UTC)
    end: datetime | None = wire("endTimestampUtc", zone=UTC)
    summary_length: int | None = wire("summaryLengthSeconds")
    include_partial_epochs: bool | None = None

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
        """Whether it counts as one of the active requests; an unknown status does."""
        return not (self.is_completed or self.is_failed)


@attrs.frozen(kw_only=True)
class DataFile(CentrePointModel):
    """
    One file of a request for raw or epoch data. A request may have several, a small summary (``.json``) among them.

    Args:
        id: Its GUID.
        file_name: The vendor's own file name.
        file_size: Bytes.
        expires: When the service removes it, about 30 days after it was made.
    """

    id: str
    file_name: str = ""
    file_size: int | None = wire("fileSizeBytes", size=True)
    expires: datetime | None = wire("expirationDateUtc", zone=UTC)


@attrs.frozen(kw_only=True)
class DataFileLink(CentrePointModel):
    """
    A signed URL of one file of a request, valid for about two minutes.

    Args:
        download_url: The URL. It is as good as a password until it expires, so it is masked.
        expires: When it expires, by the service.
    """

    download_url: Secret | None = wire("downloadUrl", "fileUrl")
    expires: datetime | None = wire("expirationDateUtc", zone=UTC)


@attrs.frozen(kw_only=True)
class ProgramExecution(CentrePointModel):
    """
    When a study program last ran for a subject.

    Args:
        study_program_id: The study program, a GUID.
        study_program_name: Its name; two programs may have the same one.
        last_successful_program_execution: When it last ran without an error, or None for never.
    """

    study_program_id: str
    study_program_name: str = ""
    last_successful_program_execution: datetime | None = wire(*_EXECUTED)


@attrs.frozen(kw_only=True)
class DatasetSubject(CentrePointModel):
    """
    What the dataset export knows of a subject: when raw data was last uploaded, and which programs ran since.

    Raw data later than the last execution means that the exported file does not contain it yet.

    Args:
        study_id: The study.
        subject_id: The subject, by its number.
        last_raw_uploaded: When raw data was last uploaded, or None for never. Executions may exist nevertheless.
        study_program_executions: One entry for each study program.
    """

    study_id: int
    subject_id: int
    last_raw_uploaded: datetime | None = wire("lastRawUploadedTimeStamp", "lastRawUploadedTimestamp")
    study_program_executions: tuple[ProgramExecution, ...] = ()

    @property
    def stale(self) -> tuple[StaleDataSet, ...]:
        """The programs whose data sets of this subject lack raw data that was uploaded after they last ran."""
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


def is_later(time: datetime, than: datetime | None) -> bool:
    """
    Return whether something happened after something else, or that never happened.

    One of two date-times may lack its zone; both are the same subject's, so the local times are compared then.
    """
    if than is None:
        return True
    if (time.tzinfo is None) != (than.tzinfo is None):
        time, than = time.replace(tzinfo=None), than.replace(tzinfo=None)
    return time > than


@attrs.frozen(kw_only=True)
class StaleDataSet:
    """
    Data sets of one subject by one program that lack the newest raw data.

    Args:
        study_id: The study.
        subject_id: The subject, by its number.
        study_program_id: The program, a GUID.
        study_program_name: Its name.
        last_raw_uploaded: When raw data was last uploaded.
        last_successful_program_execution: When the program last ran for the subject without an error; None for never.
    """

    study_id: int
    subject_id: int
    study_program_id: str
    study_program_name: str = ""
    last_raw_uploaded: datetime
    last_successful_program_execution: datetime | None = None


@attrs.frozen(kw_only=True)
class StudyProgram(StudyRecord):
    """
    A study program: what turns raw data into data sets.

    Args:
        study_program_id: A GUID (one page of the vendor says number).
        study_program_name: For instance ``"Activity (30)"``. Two programs of a study may have the same name.
    """

    study_program_id: str
    study_program_name: str = ""


@attrs.frozen(kw_only=True)
class StudyDataSet(CentrePointModel):
    """
    A data set that a study program makes.

    Args:
        study_program_id: The study program, a GUID.
        data_set_name: For instance ``"LeapAvgBarometer"`` (one page of the vendor says number).
    """

    study_program_id: str
    data_set_name: str


@attrs.frozen(kw_only=True)
class Study(CentrePointModel):
    """
    A study.

    Args:
        id: Its number.
        name: Its name.
        organization_name: Who runs it.
        created_date_time: When it was created.
        study_status: For instance ``"Active"``; other words are let through.
        default_wear_position: Where the monitor is worn, unless a subject has its own.
        wear_positions: Where it may be worn.
        monitor_data_collection_mode: For instance ``"Raw Only"`` or ``"Epoch+Raw"``.
    """

    id: int
    name: str = ""
    organization_name: str = ""
    created_date_time: datetime | None = None
    study_status: str = ""
    default_wear_position: str = ""
    wear_positions: tuple[str, ...] = ()
    monitor_data_collection_mode: str = ""


@attrs.frozen(kw_only=True)
class Site(StudyRecord):
    """
    A site of a study.

    Args:
        id: Its number.
        site_name: Its name.
        site_identifier: What the subject identifiers of this site start with; may be missing.
        description: Free text.
        require_dob: Whether a birth date is required.
        require_gender: Whether the gender is required.
        require_weight: Whether the weight is required.
        require_height: Whether the height is required.
        require_site_identifier: Whether subject identifiers start with the site's.
        default_shipment_country_code: Where monitors are sent.
        depot: Whether it is a store of monitors.
        date_format: How the site writes dates.
        default_weight_unit: ``"Lbs"``, ``"Kg"`` or ``"kg"``.
        default_height_unit: ``"cm"`` or ``"in"``.
        timezone: Text for display, not an IANA name.
    """

    id: int
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


@attrs.frozen(kw_only=True)
class Subject(StudyRecord):
    """
    A subject of a study.

    Args:
        id: Its number, which every other call takes.
        subject_identifier: The identifier people know; unique within a study only.
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
    """

    id: int
    subject_identifier: str = ""
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


@attrs.frozen(kw_only=True)
class ActivityMonitor(StudyRecord):
    """
    A monitor of a study.

    Args:
        serial: Its serial number, which names it.
        site_id: The site that has it.
        assignment_id: The running assignment, or None.
        assignment_status: ``"Assigned"`` or ``"Not Assigned"``.
        data_hub_serial_number: Its data hub.
    """

    serial: str
    site_id: int | None = None
    assignment_id: int | None = None
    assignment_status: str | None = None
    data_hub_serial_number: str | None = None


@attrs.frozen(kw_only=True)
class Assignment(StudyRecord):
    """
    Which monitor a subject wears, and since when.

    Args:
        id: Its number.
        activity_monitor_serial: The monitor.
        subject_id: The subject, by its number.
        created_date: When it was made.
        collection_started_date: When data began to be collected, or None.
        collection_stopped_date: When that stopped, or None.
        ended_date: When it ended, or None.
        scheduled_collection_stop_date: When collection is to stop by itself, or None.
        status: ``"Ended"``, ``"Incomplete Assignment"`` or ``"Collection Stopped"``; other words are let through.
    """

    id: int
    activity_monitor_serial: str | None = None
    subject_id: int | None = None
    created_date: datetime | None = None
    collection_started_date: datetime | None = None
    collection_stopped_date: datetime | None = None
    ended_date: datetime | None = None
    scheduled_collection_stop_date: datetime | None = None
    status: str = ""


@attrs.frozen(kw_only=True)
class UploadFile(CentrePointModel):
    """
    One file of an upload.

    Args:
        id: What names it.
        file_type: ``"RAW"``.
        total_records: Records in it.
        records_inserted: Records that the service has stored so far.
        begin_of_data: When its data begins.
        end_of_data: When its data ends.
    """

    id: str = ""
    file_type: str = ""
    total_records: int | None = None
    records_inserted: int | None = None
    begin_of_data: datetime | None = None
    end_of_data: datetime | None = None


@attrs.frozen(kw_only=True)
class Upload(StudyRecord):
    """
    Data of a monitor that reached the service.

    Args:
        id: Its number.
        subject_id: The subject, by its number.
        activity_monitor_serial: The monitor.
        assignment_id: The assignment it belongs to.
        date_uploaded: When it was received, in UTC.
        battery_voltage: Volts of the monitor's battery then.
        firmware: The monitor's firmware then.
        sample_rate: Samples a second (hertz).
        upload_files: What it consists of.
    """

    id: int
    subject_id: int | None = None
    activity_monitor_serial: str | None = None
    assignment_id: int | None = None
    date_uploaded: datetime | None = wire("dateUploadedUtc", zone=UTC)
    battery_voltage: float | None = wire("activityMonitorBatteryVoltage")
    firmware: str | None = wire("activityMonitorFirmware")
    sample_rate: float | None = wire("activityMonitorSampleRateHz")
    upload_files: tuple[UploadFile, ...] = ()

    @property
    def is_partial(self) -> bool:
        """Whether some file is not completely stored yet."""
        return any(
            file.total_records is not None
            and file.records_inserted is not None
            and file.records_inserted < file.total_records
            for file in self.upload_files
        )


@attrs.frozen(kw_only=True)
class Milestone(StudyRecord):
    """
    A milestone that subjects of a study may reach.

    Args:
        id: Its number.
        name: Its name.
        order: Its position among the others.
    """

    id: int
    name: str = ""
    order: int | None = None


@attrs.frozen(kw_only=True)
class SubjectMilestone(CentrePointModel):
    """
    A milestone that a subject has reached.

    Args:
        id: Its number.
        name: Its name.
        subject_id: The subject, by its number.
        study_milestone_id: The milestone of the study.
        timestamp: When, in UTC.
        timestamp_subject: When, in the subject's own timezone (naive).
    """

    id: int
    name: str = ""
    subject_id: int | None = None
    study_milestone_id: int | None = None
    timestamp: datetime | None = attrs.field(default=None, metadata={"zone": UTC})
    timestamp_subject: datetime | None = wire("timestampSubjectTZ")


@attrs.frozen(kw_only=True)
class TimeZoneChange(CentrePointModel):
    """
    Since when a subject lives in a timezone. Date-times of the service without a zone are in the one of their time.

    Args:
        subject_id: The subject, by its number.
        timezone: An IANA name.
        effective_date: Since when, in UTC.
    """

    subject_id: int | None = None
    timezone: str = ""
    effective_date: datetime | None = wire("effectiveDateUtc", zone=UTC)


@attrs.frozen(kw_only=True)
class WebhookEvent(CentrePointModel):
    """
    An event that webhooks can be sent for. Its number is not the same everywhere; use its name.

    Args:
        id: Its number.
        name: Its name, for instance ``"upload"``.
    """

    id: str = ""
    name: str = wire("name", "event", "webhookEvent", default="")


@attrs.frozen(kw_only=True)
class Webhook(StudyRecord):
    """
    A webhook of a study. They are made and changed in the vendor's portal only.

    Args:
        id: What names it.
        url: Where events are sent. Such an address may hold a credential, so it is not part of the ``repr``.
        created_date: When it was made.
        is_disabled: Whether nothing is sent.
        webhook_events: The events it is sent for, as the service writes them: text, numbers or objects.
    """

    id: str
    url: str | None = attrs.field(default=None, repr=False)
    created_date: datetime | None = None
    is_disabled: bool | None = None
    webhook_events: tuple[Any, ...] = ()


@attrs.frozen(kw_only=True)
class WebhookMessage(CentrePointModel):
    """
    What was sent to a webhook, or its response. It contains signatures and data, so nothing of it is in the ``repr``.

    Args:
        headers: The headers, as a JSON text.
        body: The body, as a JSON text.
    """

    headers: str | None = attrs.field(default=None, repr=False)
    body: str | None = attrs.field(default=None, repr=False)


@attrs.frozen(kw_only=True)
class WebhookDelivery(CentrePointModel):
    """
    One event and its delivery.

    Args:
        id: What names it.
        webhook_id: The webhook.
        webhook_event_id: The number of the event, which does not agree with the list of events; use the name.
        webhook_event: The name of the event.
        created_date: When it happened.
        last_sent_date: When it was last sent, or None.
        error_message: Why it did not arrive, or None.
        request: What was sent.
        response: What was received, or None.
    """

    id: str
    webhook_id: str | None = None
    webhook_event_id: str | None = None
    webhook_event: str = ""
    created_date: datetime | None = None
    last_sent_date: datetime | None = None
    error_message: str | None = None
    request: WebhookMessage | None = None
    response: WebhookMessage | None = None
