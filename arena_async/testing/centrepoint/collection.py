"""
Data collection of the simulated CentrePoint: monitors, assignments, uploads, milestones, webhooks.

Each subject wears one monitor and has three uploads, listed in no order; the last one is inserted only in part.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import timedelta
from typing import Any
from uuid import uuid5

from arena_async.testing.centrepoint.lists import FIRST_RUN, NEVER, StudyState, Table, stamp, subject_of
from arena_async.testing.centrepoint.storage import NAMESPACE

__all__ = ["collection_tables"]

_ROOT = "/centrepoint/v3/studies/{study}"
_SUBJECT = _ROOT + "/subjects/{subject}"
_EVENTS = {3: "upload", 4: "data_retrieval_complete", 5: "raw_processing_complete"}
_MILESTONES = {7: "Enrolled", 8: "Completed"}


def collection_tables(state: StudyState) -> Iterable[Table]:
    """Return the lists."""
    yield Table(
        path=_ROOT + "/activitymonitors",
        scope="CentrePoint",
        rows=lambda _: state.subjects,
        show=lambda subject: _monitor(state, subject),
        named_by=_serial,
        what="Activity monitor",
    )
    yield Table(
        path=_ROOT + "/assignments",
        scope="CentrePoint",
        rows=lambda _: state.subjects,
        show=lambda subject: _assignment(state, subject),
        named_by=_assignment_id,
        what="Assignment",
    )
    yield Table(
        path=_ROOT + "/milestones",
        scope="CentrePoint",
        rows=lambda _: list(_MILESTONES),
        show=lambda milestone: {
            "id": milestone,
            "studyId": state.study,
            "name": _MILESTONES[milestone],
            "order": milestone - 6,
        },
    )
    yield from _subject_tables(state)
    yield from _webhook_tables(state)


def _subject_tables(state: StudyState) -> Iterable[Table]:
    yield Table(
        path=_SUBJECT + "/milestones",
        scope="CentrePoint",
        rows=lambda call: [(subject_of(state, call), 7)],
        show=lambda row: _reached(*row),
    )
    yield Table(
        path=_SUBJECT + "/timezonehistory",
        scope="CentrePoint",
        rows=lambda call: [(subject_of(state, call), 0), (subject_of(state, call), 1)],
        show=lambda row: _timezone(*row),
    )
    yield Table(
        path=_SUBJECT + "/uploads",
        scope="CentrePoint",
        rows=lambda call: [(subject_of(state, call), number) for number in (2, 3, 1)],
        show=lambda row: _upload(state, *row),
        named_by=lambda row: _upload_id(*row),
        what="Upload",
    )


def _webhook_tables(state: StudyState) -> Iterable[Table]:
    yield Table(
        path="/centrepoint/v3/webhookevents",
        scope="CentrePoint",
        rows=lambda _: list(_EVENTS),
        show=lambda event: {"id": event, "name": _EVENTS[event]},
    )
    yield Table(
        path=_ROOT + "/webhooks",
        scope="CentrePoint",
        rows=lambda _: [1],
        show=lambda webhook: _webhook(state, webhook),
        named_by=lambda webhook: webhook,
        what="Webhook",
    )
    yield Table(
        path=_ROOT + "/webhooks/{webhook}/history",
        scope="CentrePoint",
        rows=lambda call: [(int(call.vars["webhook"]), number) for number in (1, 2) if call.vars["webhook"] == "1"],
        show=lambda row: _delivery(*row),
    )


def _serial(subject: int) -> str:
    return f"TAS1H{subject:08d}"


def _assignment_id(subject: int) -> int:
    return 500_000 + subject


def _upload_id(subject: int, number: int) -> int:
    return subject * 10 + number


def _monitor(state: StudyState, subject: int) -> dict[str, Any]:
    return {
        "serial": _serial(subject),
        "studyId": state.study,
        "siteId": 1,
        "assignmentId": _assignment_id(subject),
        "assignmentStatus": "Assigned",
        "dataHubSerialNumber": None,
    }


def _assignment(state: StudyState, subject: int) -> dict[str, Any]:
    return {
        "id": _assignment_id(subject),
        "activityMonitorSerial": _serial(subject),
        "subjectId": subject,
        "studyId": state.study,
        "createdDate": stamp(FIRST_RUN - timedelta(days=30), 0),
        "collectionStartedDate": stamp(FIRST_RUN - timedelta(days=29), 5_000_000),
        "collectionStoppedDate": NEVER,
        "endedDate": NEVER,
        "scheduledCollectionStopDate": None,
        "status": "Collection Stopped" if subject == state.subjects[-1] else "Incomplete Assignment",
    }


def _reached(subject: int, milestone: int) -> dict[str, Any]:
    return {
        "id": subject * 10 + milestone,
        "name": _MILESTONES[milestone],
        "subjectId": subject,
        "studyMilestoneId": milestone,
        "timestamp": "2024-01-30T15:00:00Z",
        "timestampSubjectTZ": "2024-01-30T09:00:00",
    }


def _timezone(subject: int, number: int) -> dict[str, Any]:
    return {
        "subjectId": subject,
        "timezone": ("America/Chicago", "America/New_York")[number],
        "effectiveDateUtc": ("2024-01-30T15:00:00", "2024-02-10T06:00:00")[number],
    }


def _upload(state: StudyState, subject: int, number: int) -> dict[str, Any]:
    last = number == 3
    return {
        "id": _upload_id(subject, number),
        "studyId": state.study,
        "subjectId": subject,
        "activityMonitorSerial": _serial(subject),
        "assignmentId": _assignment_id(subject),
        "dateUploadedUtc": stamp(FIRST_RUN - timedelta(days=4 - number, hours=3), 5_899_754),
        "activityMonitorBatteryVoltage": 3.98,
        "activityMonitorFirmware": "1.7.2",
        "activityMonitorSampleRateHz": 64,
        "uploadFiles": [
            {
                "id": _upload_id(subject, number) * 10,
                "fileType": "RAW",
                "totalRecords": 86_400,
                "recordsInserted": 43_200 if last else 86_400,
                "beginOfData": f"2024-02-{24 + number}T06:00:00",
                "endOfData": f"2024-02-{25 + number}T05:59:59",
            }
        ],
    }


def _webhook(state: StudyState, webhook: int) -> dict[str, Any]:
    return {
        "id": webhook,
        "studyId": state.study,
        "url": "https://hooks.example/centrepoint?key=simulated-hook-key",
        "createdDate": "2022-02-01T12:00:00.5899754+00:00",
        "isDisabled": False,
        "webhookEvents": ["upload"],
    }


def _delivery(webhook: int, number: int) -> dict[str, Any]:
    failed = number == 2
    return {
        "id": str(uuid5(NAMESPACE, f"delivery {webhook} {number}")),
        "webhookId": webhook,
        # The number of another event, as in the documented sample.
        "webhookEventId": 4,
        "webhookEvent": "upload",
        "createdDate": stamp(FIRST_RUN + timedelta(hours=number), 0),
        "lastSentDate": NEVER if failed else stamp(FIRST_RUN + timedelta(hours=number), 1),
        "errorMessage": "Connection refused" if failed else None,
        "request": {
            "headers": json.dumps({"X-ActiGraph-Event": "upload", "X-ActiGraph-Signature": "c2ln"}),
            "body": json.dumps({"status": "completed", "uploadId": "1"}),
        },
        "response": None if failed else {"headers": json.dumps({"Server": "x"}), "body": '"ok"'},
    }
