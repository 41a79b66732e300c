"""
Day files of the simulated CentrePoint: lists by range, year, month and day, and their content at the file host.

Undocumented behavior is chosen as follows: an unknown subject or category is a 404, one without data an empty
list, and the old link of a day that was rebuilt is invalid.
"""

from __future__ import annotations

import hashlib
import io
import math
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import attrs

from arena_async.providers.centrepoint.day_files import CATEGORIES
from arena_async.testing.centrepoint.content import Avro, CsvGz, SteadyContent, digests
from arena_async.testing.centrepoint.dataset_files import DatasetFiles
from arena_async.testing.centrepoint.lists import Table, plain_text
from arena_async.testing.centrepoint.storage import storage_error
from arena_async.testing.content import Bytes
from arena_async.testing.replies import Call, ErrorReply, Reply

__all__ = ["FIRST_DAY", "DayFiles", "DayKey"]

FIRST_DAY = date(2021, 1, 1)
_ROOT = "/dataaccess/v3/files/studies/{study}/subjects/{subject}/{category}"
_ENDINGS = {"csv": ".csv.gz", "avro": ".avro"}


@attrs.frozen(order=True)
class DayKey:
    """The key of a day file: study, subject, category, day and format."""

    study: int
    subject: int
    category: str
    day: date
    file_format: str

    @property
    def path(self) -> str:
        """The path in the documented layout, below the directory of a mirror."""
        folders = f"centrepoint/day-files/study-{self.study}/subject-{self.subject}/{self.category}"
        return f"{folders}/{self.day.isoformat()}{_ENDINGS[self.file_format]}"


class DayFiles:
    """
    The day files of a service: one for every subject, category, day and format.

    Args:
        service: The simulator.
        categories: The categories with data; the other documented categories are empty.
        days: The number of days.
        first_day: The first day.
        size: Approximate bytes of each file.
        zipped: The content is in a zip, as one sentence of the documents says.
    """

    def __init__(
        self,
        service: DatasetFiles,
        *,
        categories: Sequence[str] = CATEGORIES[:2],
        days: int = 3,
        first_day: date = FIRST_DAY,
        size: int = 20_000,
        zipped: bool = False,
    ) -> None:
        self.categories = [*categories]
        self.days = [first_day + timedelta(days=number) for number in range(days)]
        self.size = size
        self.zipped = zipped
        #: Whether a list without rows is a 404; the documents leave it open.
        self.empty_is_missing = False
        self._service = service
        self._versions: dict[DayKey, int] = {}
        self._renamed: dict[DayKey, int] = {}
        self._removed: set[DayKey] = set()

    def keys(self, subject: int, category: str, *formats: str) -> list[DayKey]:
        """Return the files of a subject in a category, in the order of the list: by day, csv before avro."""
        kinds = formats or tuple(_ENDINGS)
        found = (
            DayKey(self._service.study, subject, category, day, kind)
            for day in (self.days if category in self.categories else ())
            for kind in kinds
        )
        return [key for key in found if key not in self._removed]

    def content(self, key: DayKey) -> bytes:
        """Return the current bytes of a file."""
        return b"".join(self._content(key).chunks())

    def sha256(self, key: DayKey) -> str:
        """Return the current SHA-256 of a file, in hexadecimal."""
        return digests(self._content(key))[1]

    def rebuild(self, key: DayKey, *, rename: bool = True) -> None:
        """
        Rebuild a day, as after a late upload: new content and a new ``modifiedDate``.

        Args:
            key: The file.
            rename: Whether it gets a new name, as at the vendor; then the old link is invalid.
        """
        self._versions[key] = self._versions.get(key, 0) + 1
        self._renamed[key] = self._renamed.get(key, 0) + (1 if rename else 0)

    def remove(self, key: DayKey) -> None:
        """Remove a file from the lists and from the file host."""
        self._removed.add(key)

    # ------------------------------------------------------------------ lists

    def tables(self) -> Iterable[Table]:
        """Return the four lists: all days, and those of a year, a month or a day."""
        for path in ("", "/{year}", "/{year}/{month}", "/{year}/{month}/{day}"):
            yield Table(path=_ROOT + path, scope="DataAccess", rows=self._rows, show=self._show)

    def _rows(self, call: Call) -> list[DayKey]:
        """Return the requested files."""
        category = call.vars["category"].lower()
        if call.vars["subject"] not in map(str, self._service.subjects):
            raise ErrorReply(plain_text(404, "Subject was not found."))
        if category not in (*CATEGORIES, *self.categories):
            raise ErrorReply(plain_text(404, "Data category was not found."))
        found = self.keys(int(call.vars["subject"]), category)
        if not self._service.filters_ignored:
            found = [key for key in found if _requested_for(key, call.query, call.vars)]
        if self.empty_is_missing and not found:
            raise ErrorReply(plain_text(404, "No data files were found."))
        return found[::-1] if call.query.get("sortOrder", "asc").lower() == "desc" else found

    def _show(self, key: DayKey) -> dict[str, Any]:
        now = datetime.fromtimestamp(math.floor(self._service.clock()), UTC)
        ends = now + timedelta(seconds=self._service.link_lifetime)
        # In the documented sample this time is weeks before the link becomes valid.
        said = now - timedelta(days=27) if self._service.expiry_contradicts else ends
        path = f"/{_folders(key)}/{self.file_name(key)}"
        return {
            "studyId": key.study,
            "subjectId": key.subject,
            "dataCategory": key.category,
            "date": f"{key.day.isoformat()}T00:00:00+00:00",
            "fileName": self.file_name(key),
            "fileFormat": key.file_format,
            "modifiedDate": f"{self._modified(key):%Y-%m-%dT%H:%M:%S}+00:00",
            "downloadUrl": self._service.storage.link(self._service.file_host, path, now=now, ends=ends),
            "downloadUrlExpiresOn": f"{said:%Y-%m-%dT%H:%M:%S}+00:00",
        }

    def file_name(self, key: DayKey) -> str:
        """Return the vendor's file name: category, day and a short hash, without study and subject."""
        seed = f"{key.study}/{key.subject}/{key.category}/{key.day}/{self._renamed.get(key, 0)}"
        return f"{key.category}_{key.day.isoformat()}_{zlib.crc32(seed.encode()):08x}{_ENDINGS[key.file_format]}"

    def _modified(self, key: DayKey) -> datetime:
        built = datetime(key.day.year, key.day.month, key.day.day, 20, 43, 57, tzinfo=UTC) + timedelta(days=1)
        return built + timedelta(days=self._versions.get(key, 0))

    # ------------------------------------------------------------------ content

    def blob(self, call: Call) -> Reply:
        """Respond for the file host."""
        self._service.storage.check(call)
        key = self.file_of(call)
        if key in self._removed or call.vars["name"] != self.file_name(key):
            return storage_error(404, "BlobNotFound", "The specified blob does not exist.")
        seed = f"{key}/{self._versions.get(key, 0)}/{self._renamed.get(key, 0)}"
        etag = f'"0x8D9{hashlib.sha256(seed.encode()).hexdigest()[:12].upper()}"'
        return self._service.storage.serve(call, self._content(key), etag=etag, modified=self._modified(key))

    def file_of(self, call: Call) -> DayKey:
        """Return the file of a path at the file host."""
        study, subject, category, *day = (call.vars[name] for name in ("study", "subject", "category", "y", "m", "d"))
        try:
            number = int(subject.removeprefix("subject-"))
            kind = "avro" if call.vars["name"].endswith(".avro") else "csv"
            key = DayKey(self._service.study, number, category, date.fromisoformat("-".join(day)), kind)
        except ValueError:
            key = None
        if key is None or study != f"study-{key.study:010d}" or key not in self.keys(key.subject, category, kind):
            raise ErrorReply(storage_error(404, "BlobNotFound", "The specified blob does not exist."))
        return key

    def _content(self, key: DayKey) -> SteadyContent:
        seed = f"{key}/{self._versions.get(key, 0)}"
        inside = CsvGz(seed, self.size) if key.file_format == "csv" else Avro(seed, self.size)
        return _zipped(self.file_name(key), inside) if self.zipped else inside


def _requested_for(key: DayKey, query: Mapping[str, str], path: Mapping[str, str]) -> bool:
    """Return whether a file matches a request."""
    parts = {"year": key.day.year, "month": key.day.month, "day": key.day.day}
    midnight = datetime(key.day.year, key.day.month, key.day.day, tzinfo=UTC)
    return (
        query.get("fileFormat", key.file_format).lower() == key.file_format
        and all(_number(path[name]) == value for name, value in parts.items() if name in path)
        and midnight >= _timestamp(query.get("startDate"), midnight)
        and midnight <= _timestamp(query.get("endDate"), midnight)
    )


def _number(text: str) -> int:
    """Read a part of a date."""
    if not (text.isascii() and text.isdigit()):
        raise ErrorReply(plain_text(400, "year, month and day must be numbers."))
    return int(text)


def _timestamp(text: str | None, default: datetime) -> datetime:
    """Read a bound of a range; the days of this service begin at its own midnight."""
    if text is None:
        return default
    try:
        timestamp = datetime.fromisoformat(text)
    except ValueError:
        raise ErrorReply(plain_text(400, "startDate and endDate must be dates.")) from None
    return timestamp if timestamp.tzinfo else timestamp.replace(tzinfo=UTC)


def _folders(key: DayKey) -> str:
    """Return the directories of a file at the file host."""
    return f"study-{key.study:010d}/subject-{key.subject:010d}/{key.category}/{key.day:%Y/%m/%d}"


def _zipped(name: str, inside: SteadyContent) -> Bytes:
    """Return content in a zip, uncompressed."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as made:
        made.writestr(zipfile.ZipInfo(name), b"".join(inside.chunks()))
    return Bytes(archive.getvalue())
