"""
Lists of the simulated CentrePoint: their pages, and the rows of a study.

The rows have the documented fields and the irregularities of the documented samples: optional keys that are
missing, dates of the year 1 for "never", seven digits of a second, and a next page under another path.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import attrs

from arena_async.testing.replies import Call, ErrorReply, Reply

__all__ = [
    "FIRST_RUN",
    "FIRST_SUBJECT",
    "NEVER",
    "StudyState",
    "Table",
    "executed",
    "plain_text",
    "stamp",
    "study_tables",
    "subject_of",
]

NEVER = "0001-01-01T00:00:00+00:00"
FIRST_SUBJECT = 10821
#: The first run of every program: 2024-02-29T10:05:08.0962163Z, in seconds and in units of 100 ns.
FIRST_RUN = datetime(2024, 2, 29, 10, 5, 8, tzinfo=UTC)
_RAN_AT_TICK = 962_163


class StudyState(Protocol):
    """The state of a study that the lists show."""

    study: int
    subjects: list[int]
    programs: list[str]
    data_sets: list[str]
    #: Identifiers of subjects, where they are not the usual ones.
    identifiers: dict[int, str]
    #: Times of the last raw data of subjects, where they are not the usual one.
    raw_uploads: dict[int, datetime]
    filters_ignored: bool

    @property
    def base_url(self) -> str:
        """The address of the API."""
        ...

    def runs_of(self, program: str, subject: int) -> int:
        """Return how often a program ran again for a subject."""
        ...


@attrs.frozen(kw_only=True)
class Table:
    """
    A list of the service and the single reads below it.

    Args:
        path: The path of the list, with named segments in braces.
        scope: The required scope of a token.
        rows: Returns the rows of the list for a request.
        show: Returns one of them as JSON.
        named_by: Returns the id of one of them in the path of a single read; None if there is no such read.
        what: The name of one of them in the error "not found".
    """

    path: str
    scope: str
    rows: Callable[[Call], Sequence[Any]]
    show: Callable[[Any], dict[str, Any]]
    named_by: Callable[[Any], object] | None = None
    what: str = "The object"

    def page(self, base_url: str, call: Call) -> Reply:
        """Return a page of the list, with the total number of rows."""
        limit, offset = _whole(call, "limit", 100), _whole(call, "offset", 0)
        if not 1 <= limit <= 100 or offset < 0:
            return plain_text(400, "limit must be between 1 and 100, and offset must not be negative.")
        rows = self.rows(call)
        links = {}
        # In the documented sample the next page of a list of studies has another prefix; so it has here.
        wrong = f"{base_url}/DataRetrieval/v3/Studies?limit={limit}&offset="
        if offset + limit < len(rows):
            links["next"] = f"{wrong}{offset + limit}"
        if offset > 0:
            links["prev"] = f"{wrong}{max(0, offset - limit)}"
        return Reply.json(
            {
                "items": [self.show(row) for row in rows[offset : offset + limit]],
                "links": links,
                "totalCount": len(rows),
                "limit": limit,
                "offset": offset,
            }
        )

    def one(self, call: Call) -> Reply:
        """Return a single object."""
        wanted = call.vars["one"].lower()
        for row in self.rows(call) if self.named_by is not None else ():
            if self.named_by is not None and str(self.named_by(row)).lower() == wanted:
                return Reply.json(self.show(row))
        raise ErrorReply(plain_text(404, f"{self.what} was not found."))


def study_tables(state: StudyState) -> Iterable[Table]:
    """Return the lists of a study that lead to its data: studies, sites, subjects, programs and data sets."""
    root = "/centrepoint/v3/studies"

    yield Table(
        path=root,
        scope="CentrePoint",
        rows=lambda _: [state.study],
        show=_study,
        named_by=_itself,
        what="Study",
    )
    yield Table(
        path=root + "/{study}/sites",
        scope="CentrePoint",
        rows=lambda _: [1],
        show=lambda site: _site(state.study, site),
        named_by=_itself,
        what="Site",
    )
    yield Table(
        path=root + "/{study}/subjects",
        scope="CentrePoint",
        rows=lambda _: state.subjects,
        show=lambda subject: _subject(state, subject),
        named_by=_itself,
        what="Subject",
    )
    yield from _data_tables(state)


def _data_tables(state: StudyState) -> Iterable[Table]:
    data = "/dataaccess/v3/studies/{study}"
    yield Table(
        path=data + "/subjects",
        scope="DataAccess",
        rows=lambda _: state.subjects,
        show=lambda subject: _dataset_subject(state, subject),
        named_by=_itself,
        what="Subject",
    )
    yield Table(
        path=data + "/programs",
        scope="DataAccess",
        rows=lambda _: state.programs,
        show=lambda program: _program(state, program),
        named_by=_itself,
        what="Study program",
    )
    yield Table(
        path=data + "/programs/{program}/datasets",
        scope="DataAccess",
        rows=lambda call: [(_program_of(state, call), name) for name in state.data_sets],
        show=lambda row: {"studyProgramId": row[0], "dataSetName": row[1]},
    )


def _itself(row: Any) -> object:
    return row


def _study(study: int) -> dict[str, Any]:
    return {
        "id": study,
        "name": "Simulated Study",
        "organizationName": "Simulated Organization",
        "createdDateTime": "2023-11-07T14:02:11.07Z",
        "studyStatus": "Active",
        "defaultWearPosition": "Left Non-Dominant Wrist",
        "wearPositions": ["Left Non-Dominant Wrist", "Waist - Left"],
        "monitorDataCollectionMode": "Raw Only",
    }


def _site(study: int, site: int) -> dict[str, Any]:
    return {
        "id": site,
        "studyId": study,
        "siteName": "Main Site",
        "siteIdentifier": "A",
        "description": "The only site",
        "requireDob": False,
        "requireGender": True,
        "requireWeight": True,
        "requireHeight": False,
        "defaultShipmentCountryCode": "US",
        "depot": False,
        "dateFormat": "MM/dd/yyyy",
        "defaultWeightUnit": "Lbs",
        "defaultHeightUnit": "in",
        "timezone": "(UTC-06:00) Central Time (US & Canada)",
        "requireSiteIdentifier": True,
    }


def _subject(state: StudyState, subject: int) -> dict[str, Any]:
    return {
        "id": subject,
        "studyId": state.study,
        "siteId": 1,
        "siteIdentifier": "A",
        "subjectIdentifier": state.identifiers.get(subject, f"A-{subject - FIRST_SUBJECT + 1:03d}"),
        "gender": "Female",
        "timezone": "America/Chicago",
        "wearPosition": "Left Non-Dominant Wrist",
        "weight": 150.0,
        "weightUnit": "Lbs",
        "assignmentStatus": "Not Assigned",
    }


def _dataset_subject(state: StudyState, subject: int) -> dict[str, Any]:
    executions = [
        {
            "studyProgramId": program,
            "studyProgramName": _program_name(state, program),
            "lastSuccessfulProgramExecutionTimeStamp": executed(state, program, subject),
        }
        for program in state.programs
    ]
    # In the documented sample a subject has executions although nothing was uploaded; here the last one has.
    usual = NEVER if subject == state.subjects[-1] else stamp(FIRST_RUN - timedelta(hours=3), 5_899_754)
    uploaded = stamp(state.raw_uploads[subject], 5_899_754) if subject in state.raw_uploads else usual
    return {
        "studyId": state.study,
        "subjectId": subject,
        "lastRawUploadedTimeStamp": uploaded,
        "studyProgramExecutions": executions,
    }


def executed(state: StudyState, program: str, subject: int) -> str:
    """Return when a program last ran for a subject."""
    return stamp(FIRST_RUN + timedelta(days=state.runs_of(program, subject)), _RAN_AT_TICK)


def _program(state: StudyState, program: str) -> dict[str, Any]:
    return {
        "studyProgramId": program,
        "studyId": state.study,
        "studyProgramName": _program_name(state, program),
    }


def _program_name(state: StudyState, program: str) -> str:
    return "Activity (30)" if program == state.programs[0] else "ParamsAndSubject (31)"


def _program_of(state: StudyState, call: Call) -> str:
    wanted = call.vars["program"].lower()
    for program in state.programs:
        if program.lower() == wanted:
            return program
    raise ErrorReply(plain_text(404, "Study program was not found."))


def subject_of(state: StudyState, call: Call) -> int:
    """
    Return the subject of a path.

    Raises:
        ErrorReply: The study has no such subject.
    """
    text = call.vars["subject"]
    if text.isascii() and text.isdigit() and len(text) < 19 and int(text) in state.subjects:
        return int(text)
    raise ErrorReply(plain_text(404, "Subject was not found."))


def stamp(timestamp: datetime, subseconds: int) -> str:
    """Format a date-time as the service does: up to seven digits of a second, without trailing zeros."""
    fraction = f".{subseconds:07d}".rstrip("0").rstrip(".")
    return f"{timestamp:%Y-%m-%dT%H:%M:%S}{fraction}+00:00"


def plain_text(status: int, words: str) -> Reply:
    """Return an error in plain text, as the service does."""
    return Reply(status=status, headers={"Content-Type": "text/plain; charset=utf-8"}, body=words.encode())


def _whole(call: Call, name: str, default: int) -> int:
    """Return a number of the query; -1 if it is malformed."""
    text = call.query.get(name, str(default))
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else -1
