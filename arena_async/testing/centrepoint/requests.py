"""
Requests for raw and epoch data at the simulated CentrePoint: created, processed, downloaded by links of two minutes.

Undocumented behavior is chosen as follows: raw and epoch requests share the limit of ten; one too many is a
400 with the documented text; a request has no files before it is completed; files are listed for another month after
they were removed.
"""

from __future__ import annotations

import functools
import io
import json
import math
import zipfile
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid5

import attrs

from arena_async.testing.centrepoint.content import Avro, Lines, SteadyContent, digests
from arena_async.testing.centrepoint.dataset_files import DatasetFiles
from arena_async.testing.centrepoint.lists import plain_text, stamp
from arena_async.testing.centrepoint.storage import NAMESPACE, storage_error
from arena_async.testing.content import Bytes
from arena_async.testing.replies import Call, ErrorReply, Reply

__all__ = ["MAX_ACTIVE", "DataRequestService", "MadeFile", "MadeRequest"]

#: Requests that may be active at a time.
MAX_ACTIVE = 10
_FULL = "There are currently {0} active requests. The maximum concurrent active requests limit is {0}."
_MAX_WORK = 6 * 3600.0
_FILE_LIFE = timedelta(days=30)
_LISTED_AFTERWARDS = timedelta(days=30)
_FORMATS = {"RawActivityRequests": ("gt3x", "csv", "avro"), "EpochRequests": ("csv",)}
_ROOT = "/dataretrieval/v3"
#: Units of 100 ns, for dates with all seven digits.
_SUBSECONDS = 5_082_033


@attrs.frozen(kw_only=True)
class MadeRequest:
    """
    A created request.

    Args:
        id: Its tracking id.
        resource: ``RawActivityRequests`` or ``EpochRequests``.
        requested: The body of its creation.
        made_at: Its creation, in seconds since 1970.
        fails: Whether it ends with an error.
    """

    id: str
    resource: str
    requested: Mapping[str, Any] = attrs.field(eq=False)
    made_at: float
    fails: bool = False


@attrs.frozen(kw_only=True)
class MadeFile:
    """One file of a request: its id, its name, its bytes, and its creation (seconds since 1970)."""

    id: str
    name: str
    content: SteadyContent
    made_at: float

    @property
    def expires(self) -> datetime:
        """When it is removed."""
        return datetime.fromtimestamp(math.floor(self.made_at), UTC) + _FILE_LIFE


class DataRequestService:
    """
    Accepts requests, processes them by the clock, and issues links to their files.

    Args:
        service: The simulator.
        pending: Seconds before it starts to process a request.
        working: Seconds of processing; a request of more than 6 hours ends with an error.
        parts: Files that each request is split into, beside the summary.
        size: Approximate bytes of each of them.
        link_lifetime: Lifetime of a link in seconds.
        max_active: Requests that may be active at a time.
    """

    def __init__(
        self,
        service: DatasetFiles,
        *,
        pending: float = 1.0,
        working: float = 2.0,
        parts: int = 2,
        size: int = 20_000,
        link_lifetime: float = 120.0,
        max_active: int = MAX_ACTIVE,
    ) -> None:
        self.pending = pending
        self.working = working
        self.parts = parts
        self.size = size
        self.link_lifetime = link_lifetime
        self.max_active = max_active
        #: How many of the next requests end with an error.
        self.failing = 0
        #: Every created request, in order.
        self.requests: list[MadeRequest] = []
        self._service = service

    @property
    def active(self) -> int:
        """The number of active requests."""
        return sum(self.status_of(request) in ("pending", "processing") for request in self.requests)

    def status_of(self, request: MadeRequest) -> str:
        """Return the status of a request."""
        passed = self._service.clock() - request.made_at - self.pending
        if passed < 0:
            return "pending"
        if passed < min(self.working, _MAX_WORK):
            return "processing"
        return "error" if request.fails or self.working > _MAX_WORK else "completed"

    def files_of(self, request: MadeRequest) -> list[MadeFile]:
        """Return the files of a request: its parts, and a small summary of them."""
        kind = str(request.requested["fileFormat"]).lower()
        subject, made_at = request.requested["subjectId"], request.made_at + self.pending + self.working
        files = [
            MadeFile(
                id=str(uuid5(NAMESPACE, f"{request.id}/{number}")),
                name=f"{subject}_{_serial(request)}_{1_561_494_008 + number}_{1_561_645_376 + number}_1ab3.{kind}",
                content=_content(request, kind, number, self.size),
                made_at=made_at,
            )
            for number in range(self.parts)
        ]
        summary = json.dumps({"trackingId": request.id, "files": [file.name for file in files]}).encode()
        about = MadeFile(
            id=str(uuid5(NAMESPACE, f"{request.id}/summary")),
            name=f"{subject}_{request.id}-0531.json",
            content=Bytes(summary),
            made_at=made_at,
        )
        return [*files, about]

    # ------------------------------------------------------------------ the table

    def routes(self) -> Iterable[tuple[str, str, Callable[[Call], Reply]]]:
        """Return method, path and handler of the endpoints."""
        for resource in _FORMATS:
            root = f"{_ROOT}/{resource}"
            yield "POST", root, functools.partial(self._make, resource)
            yield "GET", f"{root}/{{request}}", functools.partial(self._status, resource)
            yield "GET", f"{root}/{{request}}/datafiles", functools.partial(self._files, resource)
        yield "GET", f"{_ROOT}/DataFiles/{{file}}", self._file
        yield "GET", f"{_ROOT}/DataFiles/{{file}}/downloadurl", self._link

    def _make(self, resource: str, call: Call) -> Reply:
        requested = self._read_body(resource, call)
        if self.active >= self.max_active:
            return plain_text(400, _FULL.format(self.max_active))
        made = MadeRequest(
            id=str(uuid5(NAMESPACE, f"request {len(self.requests)} of {self._service.study}")),
            resource=resource,
            requested=requested,
            made_at=self._service.clock(),
            fails=self.failing > 0,
        )
        self.failing = max(0, self.failing - 1)
        self.requests.append(made)
        times = ("beginTimestampUtc", "endTimestampUtc")
        capital = {"fileFormat": str(requested["fileFormat"]).capitalize(), "status": "Pending"}
        return Reply.json({**self._show(made), **{name: requested[name] for name in times}, **capital})

    def _read_body(self, resource: str, call: Call) -> dict[str, Any]:
        """Return the requested values, or reject them in plain text."""
        try:
            requested = call.json()
        except ValueError:
            requested = None
        if not isinstance(requested, dict):
            raise ErrorReply(plain_text(400, "The body is not a JSON object."))
        kinds = {"studyId": int, "subjectId": int, "beginTimestampUtc": str, "endTimestampUtc": str, "fileFormat": str}
        if resource == "EpochRequests":
            kinds |= {"summaryLengthSeconds": int, "activityMonitorSerial": str}
        for name, kind in kinds.items():
            if not isinstance(requested.get(name), kind):
                raise ErrorReply(plain_text(400, f"{name} is required."))
        if requested["fileFormat"].lower() not in _FORMATS[resource]:
            raise ErrorReply(plain_text(400, f"fileFormat {requested['fileFormat']} is not supported."))
        if resource == "EpochRequests" and not 1 <= requested["summaryLengthSeconds"] <= 3600:
            raise ErrorReply(plain_text(400, "summaryLengthSeconds must be between 1 and 3600."))
        if requested["studyId"] != self._service.study or requested["subjectId"] not in self._service.subjects:
            raise ErrorReply(plain_text(404, "Study or subject was not found."))
        return requested

    def _show(self, request: MadeRequest) -> dict[str, Any]:
        """Return a request as JSON; keys that do not apply yet are missing."""
        status, requested = self.status_of(request), request.requested
        shown: dict[str, Any] = {"fileFormat": str(requested["fileFormat"]).lower()}
        if request.resource == "EpochRequests":
            shown["summaryLengthSeconds"] = requested["summaryLengthSeconds"]
            shown["includePartialEpochs"] = bool(requested.get("includePartialEpochs", False))
        shown |= {
            "id": request.id,
            "studyId": requested["studyId"],
            "subjectId": requested["subjectId"],
            "status": status,
        }
        shown["createdDateTimeUtc"] = _instant(request.made_at)
        if status != "pending":
            shown["startDateTimeUtc"] = _instant(request.made_at + self.pending)
        if status in ("completed", "error"):
            shown["completedDateTimeUtc"] = _instant(request.made_at + self.pending + min(self.working, _MAX_WORK))
        return shown

    def _status(self, resource: str, call: Call) -> Reply:
        return Reply.json(self._show(self._request_of(resource, call)))

    def _files(self, resource: str, call: Call) -> Reply:
        """Return a bare array."""
        request = self._request_of(resource, call)
        done = self.status_of(request) == "completed"
        files = [file for file in (self.files_of(request) if done else []) if self._is_listed(file)]
        return Reply.json([self._show_file(file) for file in files])

    def _file(self, call: Call) -> Reply:
        return Reply.json(self._show_file(self._file_of(call)))

    def _link(self, call: Call) -> Reply:
        """Return a link that is valid for two minutes."""
        file = self._file_of(call)
        if self._is_removed(file):
            return plain_text(404, "The data file is not available any more.")
        now = self._service.clock()
        timestamp, ends = (datetime.fromtimestamp(math.floor(at), UTC) for at in (now, now + self.link_lifetime))
        path = f"/dataretrieval-study-{self._service.study:010d}/{file.id}"
        link = self._service.storage.link(self._service.file_host, path, now=timestamp, ends=ends)
        return Reply.json({"downloadUrl": link, "expirationDateUtc": stamp(ends, _SUBSECONDS)})

    def blob(self, call: Call) -> Reply:
        """Respond for the file host."""
        self._service.storage.check(call)
        file = self._find(call.vars["name"])
        if file is None or self._is_removed(file):
            return storage_error(404, "BlobNotFound", "The specified blob does not exist.")
        etag = f'"0x8D7{digests(file.content)[0][:12].upper()}"'
        return self._service.storage.serve(call, file.content, etag=etag, modified=file.expires - _FILE_LIFE)

    def _show_file(self, file: MadeFile) -> dict[str, Any]:
        return {
            "id": file.id,
            "fileName": file.name,
            "expirationDateUtc": stamp(file.expires, _SUBSECONDS),
            "fileSizeBytes": file.content.size,
        }

    def _request_of(self, resource: str, call: Call) -> MadeRequest:
        wanted = call.vars["request"].lower()
        for request in self.requests:
            if request.resource == resource and request.id == wanted:
                return request
        raise ErrorReply(plain_text(404, "The request was not found."))

    def _file_of(self, call: Call) -> MadeFile:
        found = self._find(call.vars["file"].lower())
        if found is None or not self._is_listed(found):
            raise ErrorReply(plain_text(404, "The data file was not found."))
        return found

    def _find(self, file_id: str) -> MadeFile | None:
        done = (request for request in self.requests if self.status_of(request) == "completed")
        return next((file for request in done for file in self.files_of(request) if file.id == file_id), None)

    def _is_removed(self, file: MadeFile) -> bool:
        return self._service.clock() >= file.expires.timestamp()

    def _is_listed(self, file: MadeFile) -> bool:
        return self._service.clock() < (file.expires + _LISTED_AFTERWARDS).timestamp()


def _serial(request: MadeRequest) -> str:
    """Return the serial of a monitor."""
    return str(request.requested.get("activityMonitorSerial", "TAS1F39160337"))


def _instant(seconds: float) -> str:
    """Format a time with seven digits of a second."""
    return stamp(datetime.fromtimestamp(math.floor(seconds), UTC), _SUBSECONDS)


def _content(request: MadeRequest, kind: str, number: int, size: int) -> SteadyContent:
    """Return the content of one part."""
    seed = f"{request.id}/{number}"
    if kind == "avro":
        return Avro(seed, size)
    if request.resource == "EpochRequests":
        return Lines(seed, size, "StudyId,SubjectId,DeviceSerial,Timestamp,X,Y,Z,HeartRate,Capsense,Lux,Steps\n")
    heading = f"Serial Number: {_serial(request)}\nStart Date: 2019-06-25\nSample Rate: 30\n"
    table = Lines(seed, size, f"{heading}Timestamp UTC,Accelerometer X,Accelerometer Y,Accelerometer Z\n")
    return _gt3x(table) if kind == "gt3x" else table


def _gt3x(log: Lines) -> Bytes:
    """Return content in a zip, as in this format."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as made:
        made.writestr(zipfile.ZipInfo("info.txt"), b"Sample Rate: 30\n")
        made.writestr(zipfile.ZipInfo("log.bin"), b"".join(log.chunks()))
    return Bytes(archive.getvalue())
