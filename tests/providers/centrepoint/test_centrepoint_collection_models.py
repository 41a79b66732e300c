"""Every key of the samples about monitors, assignments, uploads, milestones, timezones and webhooks arrives."""

from __future__ import annotations

from datetime import UTC, datetime

from studies import naive, sample_rows

from arena_async.protocol.decoding import decode
from arena_async.providers.centrepoint.models import (
    ActivityMonitor,
    Assignment,
    Milestone,
    SubjectMilestone,
    TimeZoneChange,
    Upload,
    UploadFile,
    Webhook,
    WebhookDelivery,
    WebhookEvent,
    WebhookMessage,
)


def test_the_sample_of_monitors_is_read_whole() -> None:
    """The second one is not assigned, and has an unknown key."""
    first, second = decode(sample_rows("activity_monitors"), list[ActivityMonitor])

    assert first == ActivityMonitor(
        serial="TAS1H30182785",
        study_id=234,
        site_id=77,
        assignment_id=5150,
        assignment_status="Assigned",
        data_hub_serial_number="DH12345678",
    )
    assert second == ActivityMonitor(serial="TAS1H30182786", study_id=234, site_id=77, assignment_status="Not Assigned")
    assert (first.unknown, second.unknown) == ({}, {"firmware": "1.7.2"})


def test_the_sample_of_assignments_is_read_whole() -> None:
    """The year 1 is never, a stop without a zone is the subject's own, and other statuses come through."""
    first, second = decode(sample_rows("assignments"), list[Assignment])

    assert first == Assignment(
        id=5150,
        activity_monitor_serial="TAS1H30182785",
        subject_id=10821,
        study_id=234,
        created_date=datetime(2019, 5, 22, 15, 0, 14, 70000, UTC),
        collection_started_date=datetime(2019, 5, 22, 15, 5, tzinfo=UTC),
        collection_stopped_date=None,
        ended_date=None,
        scheduled_collection_stop_date=naive(2019, 6, 22, 15, 5),
        status="Collection Stopped",
    )
    assert (second.id, second.status, second.subject_id) == (5151, "Forcefully Ended", 10822)
    assert (first.unknown, second.unknown) == ({}, {"endedBy": "somebody"})


def test_the_sample_of_uploads_is_read_whole() -> None:
    """A file that was taken in only in part makes the upload a partial one."""
    first, second = decode(sample_rows("uploads"), list[Upload])

    assert first == Upload(
        id=998877,
        study_id=234,
        subject_id=10821,
        activity_monitor_serial="TAS1H30182785",
        assignment_id=5150,
        date_uploaded=datetime(2019, 6, 1, 12, 30, 0, 374792, UTC),
        battery_voltage=3.98,
        firmware="1.7.2",
        sample_rate=32,
        upload_files=(
            UploadFile(
                id="44",
                file_type="RAW",
                total_records=86_400,
                records_inserted=43_200,
                begin_of_data=naive(2019, 5, 31),
                end_of_data=naive(2019, 5, 31, 23, 59, 59),
            ),
            UploadFile(
                id="45",
                file_type="RAW",
                total_records=10,
                records_inserted=10,
                begin_of_data=datetime(2019, 6, 1, tzinfo=UTC),
            ),
        ),
    )
    assert (first.is_partial, second.is_partial) == (True, False)
    assert [file.unknown for file in first.upload_files] == [{}, {}]
    assert (first.unknown, second.unknown) == ({}, {"source": "hub"})


def test_the_samples_of_milestones_are_read_whole() -> None:
    """Those of the study, and the moment a subject reached one, on two clocks."""
    enrolled, completed = decode(sample_rows("milestones"), list[Milestone])
    (reached,) = decode(sample_rows("subject_milestones"), list[SubjectMilestone])

    assert enrolled == Milestone(id=7, study_id=234, name="Enrolled", order=1)
    assert (completed.order, completed.unknown) == (2, {"color": "green"})
    assert reached == SubjectMilestone(
        id=31,
        name="Enrolled",
        subject_id=10821,
        study_milestone_id=7,
        timestamp=datetime(2019, 5, 22, 15, 0, 14, tzinfo=UTC),
        timestamp_subject=naive(2019, 5, 22, 10, 0, 14),
    )
    assert reached.unknown == {}


def test_the_sample_of_the_timezone_history_is_read_whole() -> None:
    """The date is UTC by its name, zone or not."""
    first, second = decode(sample_rows("timezone_history"), list[TimeZoneChange])

    assert first == TimeZoneChange(
        subject_id=10821,
        timezone="America/Chicago",
        effective_date=datetime(2019, 5, 22, 15, 0, 14, 70000, UTC),
    )
    assert (second.timezone, second.effective_date) == ("Europe/Paris", datetime(2019, 7, 1, tzinfo=UTC))
    assert first.unknown == second.unknown == {}


def test_the_samples_of_webhooks_are_read_whole_and_show_no_address() -> None:
    """An address may hold a key, so it is in no repr."""
    (webhook,) = decode(sample_rows("webhooks"), list[Webhook])
    upload, done = decode(sample_rows("webhook_events"), list[WebhookEvent])

    assert webhook == Webhook(
        id="12",
        study_id=234,
        url="https://hooks.example/in?key=PLANTEDhook",
        created_date=datetime(2022, 2, 1, 12, tzinfo=UTC),
        is_disabled=False,
        webhook_events=("upload", {"id": 5, "name": "raw_processing_complete"}),
    )
    assert webhook.unknown == {}
    assert "PLANTED" not in repr(webhook)
    assert upload == WebhookEvent(id="3", name="upload")
    assert (done.name, done.unknown) == ("data_retrieval_complete", {"description": "a request is done"})


def test_the_sample_of_a_webhook_history_is_read_whole_and_shows_nothing_that_was_sent() -> None:
    """Headers and body are JSON texts with signatures and data in them."""
    sent, failed = decode(sample_rows("webhook_history"), list[WebhookDelivery])

    assert sent == WebhookDelivery(
        id="5f2d1c0b-1111-4222-8333-944455556666",
        webhook_id="12",
        webhook_event_id="4",
        webhook_event="upload",
        created_date=datetime(2022, 2, 2, 12, 0, 0, 589975, UTC),
        last_sent_date=datetime(2022, 2, 2, 12, 0, 1, tzinfo=UTC),
        request=WebhookMessage(headers='{"X-ActiGraph-Signature":"PLANTEDsignature"}', body='{"uploadId":"17"}'),
        response=WebhookMessage(headers="{}", body='"ok"'),
    )
    assert "PLANTED" not in repr(sent)
    assert (failed.last_sent_date, failed.error_message, failed.response) == (None, "Connection refused", None)
    assert (sent.unknown, failed.unknown) == ({}, {"attempts": 3})
