"""
What CentrePoint tells about the collection of data: monitors, assignments, uploads, milestones, timezones, webhooks.

The rules are those of :mod:`~arena_async.providers.centrepoint.models`: unknown keys are kept and never shown, a
date-time without a zone is in the subject's own timezone and stays naive, unless its name says that it is UTC.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import attrs

__all__ = [
    "ActivityMonitor",
    "Assignment",
    "Milestone",
    "SubjectMilestone",
    "TimeZoneChange",
    "Upload",
    "UploadFile",
    "Webhook",
    "WebhookDelivery",
    "WebhookEvent",
    "WebhookMessage",
]


@attrs.frozen(kw_only=True)
class ActivityMonitor:
    """
    A monitor of a study.

    Args:
        serial: Its serial number, which names it.
        study_id: The study.
        site_id: The site that has it.
        assignment_id: The running assignment, or None.
        assignment_status: ``"Assigned"`` or ``"Not Assigned"``.
        data_hub_serial_number: The data hub that goes with it.
        unknown: Keys this library does not know.
    """

    serial: str
    study_id: int | None = None
    site_id: int | None = None
    assignment_id: int | None = None
    assignment_status: str | None = None
    data_hub_serial_number: str | None = None
    unknown: dict[str, Any] = attrs.field(factory=dict, repr=False, eq=False)


@attrs.frozen(kw_only=True)
class Assignment:
    """
    Which monitor a subject wears, and since when.

    Args:
        id: Its number.
        activity_monitor_serial: The monitor.
        subject_id: The subject, by its number.
        study_id: The study.
        created_date: When it was made.
        collection_started_date: When data began to be collected, or None.
        collection_stopped_date: When that stopped, or None.
        ended_date: When it ended, or None.
        scheduled_collection_stop_date: When collection is to stop by itself, or None.
        status: ``"Ended"``, ``"Incomplete Assignment"`` or ``"Collection Stopped"``; other words are let through.
        unknown: Keys this library does not know.
    """

    id: int
    activity_monitor_serial: str | None = None
    subject_id: int | None = None
    study_id: int | None = None
    created_date: datetime | None = None
    collection_started_date: datetime | None = None
    collection_stopped_date: datetime | None = None
    ended_date: datetime | None = None
    scheduled_collection_stop_date: datetime | None = None
    status: str = ""
    unknown: dict[str, Any] = attrs.field(factory=dict, repr=False, eq=False)


@attrs.frozen(kw_only=True)
class UploadFile:
    """
    One file of an upload.

    Args:
        id: What names it.
        file_type: ``"RAW"``.
        total_records: Records in it.
        records_inserted: Records that the service has taken in so far.
        begin_of_data: When its data begins.
        end_of_data: When its data ends.
        unknown: Keys this library does not know.
    """

    id: str = ""
    file_type: str = ""
    total_records: int | None = None
    records_inserted: int | None = None
    begin_of_data: datetime | None = None
    end_of_data: datetime | None = None
    unknown: dict[str, Any] = attrs.field(factory=dict, repr=False, eq=False)


@attrs.frozen(kw_only=True)
class Upload:
    """
    Data of a monitor that reached the service.

    Args:
        id: Its number.
        study_id: The study.
        subject_id: The subject, by its number.
        activity_monitor_serial: The monitor.
        assignment_id: The assignment it belongs to.
        date_uploaded: When it came, in UTC.
        battery_voltage: Volts of the monitor's battery then.
        firmware: The monitor's firmware then.
        sample_rate: Samples a second (hertz).
        upload_files: What it consists of.
        unknown: Keys this library does not know.
    """

    id: int
    study_id: int | None = None
    subject_id: int | None = None
    activity_monitor_serial: str | None = None
    assignment_id: int | None = None
    date_uploaded: datetime | None = attrs.field(default=None, metadata={"wire": ("dateUploadedUtc",), "zone": UTC})
    battery_voltage: float | None = attrs.field(default=None, metadata={"wire": ("activityMonitorBatteryVoltage",)})
    firmware: str | None = attrs.field(default=None, metadata={"wire": ("activityMonitorFirmware",)})
    sample_rate: float | None = attrs.field(default=None, metadata={"wire": ("activityMonitorSampleRateHz",)})
    upload_files: tuple[UploadFile, ...] = ()
    unknown: dict[str, Any] = attrs.field(factory=dict, repr=False, eq=False)

    @property
    def is_partial(self) -> bool:
        """Whether the service has taken in less than there is of some file."""
        return any(
            file.total_records is not None
            and file.records_inserted is not None
            and file.records_inserted < file.total_records
            for file in self.upload_files
        )


@attrs.frozen(kw_only=True)
class Milestone:
    """
    A milestone that subjects of a study may reach.

    Args:
        id: Its number.
        study_id: The study.
        name: Its name.
        order: Its place among the others.
        unknown: Keys this library does not know.
    """

    id: int
    study_id: int | None = None
    name: str = ""
    order: int | None = None
    unknown: dict[str, Any] = attrs.field(factory=dict, repr=False, eq=False)


@attrs.frozen(kw_only=True)
class SubjectMilestone:
    """
    A milestone that a subject has reached.

    Args:
        id: Its number.
        name: Its name.
        subject_id: The subject, by its number.
        study_milestone_id: The milestone of the study.
        timestamp: When, in UTC.
        timestamp_subject: When, in the subject's own timezone (naive).
        unknown: Keys this library does not know.
    """

    id: int
    name: str = ""
    subject_id: int | None = None
    study_milestone_id: int | None = None
    timestamp: datetime | None = attrs.field(default=None, metadata={"zone": UTC})
    timestamp_subject: datetime | None = attrs.field(default=None, metadata={"wire": ("timestampSubjectTZ",)})
    unknown: dict[str, Any] = attrs.field(factory=dict, repr=False, eq=False)


@attrs.frozen(kw_only=True)
class TimeZoneChange:
    """
    Since when a subject lives in a timezone. Date-times of the service without a zone are in the one of their time.

    Args:
        subject_id: The subject, by its number.
        timezone: An IANA name.
        effective_date: Since when, in UTC.
        unknown: Keys this library does not know.
    """

    subject_id: int | None = None
    timezone: str = ""
    effective_date: datetime | None = attrs.field(default=None, metadata={"wire": ("effectiveDateUtc",), "zone": UTC})
    unknown: dict[str, Any] = attrs.field(factory=dict, repr=False, eq=False)


@attrs.frozen(kw_only=True)
class WebhookEvent:
    """
    An event that webhooks can be told about. Its number is not the same everywhere; go by its name.

    Args:
        id: Its number.
        name: Its name, for instance ``"upload"``.
        unknown: Keys this library does not know.
    """

    id: str = ""
    name: str = attrs.field(default="", metadata={"wire": ("name", "event", "webhookEvent")})
    unknown: dict[str, Any] = attrs.field(factory=dict, repr=False, eq=False)


@attrs.frozen(kw_only=True)
class Webhook:
    """
    A webhook of a study. They are made and changed in the vendor's portal only.

    Args:
        id: What names it.
        study_id: The study.
        url: Where events are sent. Such an address may hold a credential, so it is not part of the ``repr``.
        created_date: When it was made.
        is_disabled: Whether nothing is sent.
        webhook_events: The events it is told about, as the service writes them: text, numbers or objects.
        unknown: Keys this library does not know.
    """

    id: str
    study_id: int | None = None
    url: str | None = attrs.field(default=None, repr=False)
    created_date: datetime | None = None
    is_disabled: bool | None = None
    webhook_events: tuple[Any, ...] = ()
    unknown: dict[str, Any] = attrs.field(factory=dict, repr=False, eq=False)


@attrs.frozen(kw_only=True)
class WebhookMessage:
    """
    What was sent to a webhook, or what it answered. It holds signatures and data, so nothing of it is in the ``repr``.

    Args:
        headers: The headers, as a JSON text.
        body: The body, as a JSON text.
        unknown: Keys this library does not know.
    """

    headers: str | None = attrs.field(default=None, repr=False)
    body: str | None = attrs.field(default=None, repr=False)
    unknown: dict[str, Any] = attrs.field(factory=dict, repr=False, eq=False)


@attrs.frozen(kw_only=True)
class WebhookDelivery:
    """
    One event and what became of sending it.

    Args:
        id: What names it.
        webhook_id: The webhook.
        webhook_event_id: The number of the event, which does not agree with the list of events; go by the name.
        webhook_event: The name of the event.
        created_date: When it happened.
        last_sent_date: When it was last sent, or None.
        error_message: Why it did not arrive, or None.
        request: What was sent.
        response: What came back, or None.
        unknown: Keys this library does not know.
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
    unknown: dict[str, Any] = attrs.field(factory=dict, repr=False, eq=False)
