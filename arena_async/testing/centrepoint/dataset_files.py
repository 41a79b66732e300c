"""Dataset files of the simulated CentrePoint: their keys, lists, content and links."""

from __future__ import annotations

import hashlib
import math
import zlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice, product
from typing import Any
from urllib.parse import quote
from uuid import uuid5

import attrs

from arena_async.testing.centrepoint.content import CsvGz, digests
from arena_async.testing.centrepoint.lists import FIRST_RUN, FIRST_SUBJECT, Table, executed, plain_text, stamp
from arena_async.testing.centrepoint.settings import CentrePointSettings
from arena_async.testing.centrepoint.storage import NAMESPACE, Storage, storage_error
from arena_async.testing.replies import Call, ErrorReply, Reply

__all__ = ["DatasetFiles", "FileKey"]

_SEED_PROGRAM = "5b342a11-2fb9-4ad9-a7be-4d410181f51c"


@attrs.frozen(order=True)
class FileKey:
    """The key of a dataset file: study, study program, data set and subject."""

    study: int
    program: str
    data_set: str
    subject: int

    @property
    def path(self) -> str:
        """The path in the documented layout, below the directory of a mirror."""
        folders = f"centrepoint/study-{self.study}/program-{self.program.lower()}/subject-{self.subject}"
        return f"{folders}/{self.data_set.lower()}.csv.gz"


class DatasetFiles(CentrePointSettings):
    """A study with one file for every subject, study program and data set."""

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        subjects, programs, data_sets = self._subjects, self._programs, self._data_sets
        self.programs = [_program(number) for number in range(programs)] if isinstance(programs, int) else [*programs]
        self.data_sets = _data_set_names(data_sets) if isinstance(data_sets, int) else [*data_sets]
        each = len(self.programs) * len(self.data_sets)
        if self._files is not None and each:
            subjects = max(math.ceil(self._files / each), 0 if isinstance(subjects, int) else len(subjects))
        self.subjects = [*range(FIRST_SUBJECT, FIRST_SUBJECT + subjects)] if isinstance(subjects, int) else [*subjects]
        combined = product(self.subjects, self.programs, self.data_sets)
        #: Every file, in the order of the list.
        self.files: list[FileKey] = [FileKey(self.study, g, d, u) for u, g, d in islice(combined, self._files)]
        #: Identifiers of subjects, where they are not the usual ones.
        self.identifiers: dict[int, str] = {}
        #: Times of the last raw data of subjects, where they are not the usual one; see :meth:`upload_raw`.
        self.raw_uploads: dict[int, datetime] = {}
        #: The file host: it signs links and serves them.
        self.storage = Storage(clock=self.clock, content_md5=self._content_md5)
        self._known = set(self.files)
        self._runs: dict[FileKey, int] = {}
        self._versions: dict[FileKey, int] = {}
        self._listed: dict[tuple[str, str, int, str], FileKey] = {_path_key(key): key for key in self.files}

    def content(self, key: FileKey) -> bytes:
        """Return the current bytes of a file."""
        return b"".join(self._content(key).chunks())

    def sha256(self, key: FileKey) -> str:
        """Return the current SHA-256 of a file, in hexadecimal."""
        return digests(self._content(key))[1]

    def change_file(self, key: FileKey, *, rename: bool = True) -> None:
        """
        Run the program again for a file: new content and a new ``modifiedDate``.

        Args:
            key: The file.
            rename: Whether the run generates a new file name, as the vendor's do; then the old link is invalid.
        """
        self._versions[key] = self._versions.get(key, 0) + 1
        self._runs[key] = self._runs.get(key, 0) + (1 if rename else 0)

    def upload_raw(self, subject: int) -> None:
        """Upload raw data of a subject after all programs ran for it, so that its data sets are stale."""
        runs = max((self.runs_of(program, subject) for program in self.programs), default=0)
        self.raw_uploads[subject] = FIRST_RUN + timedelta(days=runs, hours=5)

    def remove_file(self, key: FileKey) -> None:
        """Remove a file from the lists and from the file host."""
        self.files.remove(key)
        self._known.discard(key)

    def dataset_tables(self) -> Iterable[Table]:
        """Return the lists of dataset files."""
        yield Table(
            path="/dataaccess/v3/studies/{study}/datasetfiles",
            scope="DataAccess",
            rows=lambda call: self._filtered(call.query),
            show=self._show_file,
        )
        yield Table(
            path="/studies/{study}/datasetexportfiles",
            scope="DataAccess",
            rows=self._filtered_by_body,
            show=self._show_file_as_first_published,
        )

    def _filtered_by_body(self, call: Call) -> Sequence[FileKey]:
        """Return the files requested by the body of a GET, as in the first published document."""
        try:
            wanted = call.json() or {}
        except ValueError:
            wanted = None
        if not isinstance(wanted, dict):
            raise ErrorReply(plain_text(400, "The body is not a JSON object."))
        return self._filtered({name: str(value) for name, value in wanted.items() if value is not None})

    def _show_file_as_first_published(self, key: FileKey) -> dict[str, Any]:
        later = ("studyVersion", "downloadUrlExpiresOn")
        return {name: value for name, value in self._show_file(key).items() if name not in later}

    def _filtered(self, wanted: Mapping[str, str]) -> Sequence[FileKey]:
        """Return the matching files, regardless of case."""
        subject, program, data_set = (
            wanted.get(name, "").lower() for name in ("subjectId", "studyProgramId", "dataSetName")
        )
        if self.filters_ignored or not (subject or program or data_set):
            return self.files
        return [
            key
            for key in self.files
            if subject in ("", str(key.subject))
            and program in ("", key.program.lower())
            and data_set in ("", key.data_set.lower())
        ]

    def _show_file(self, key: FileKey) -> dict[str, Any]:
        now = datetime.fromtimestamp(math.floor(self.clock()), UTC)
        ends = now + timedelta(seconds=self.link_lifetime)
        said = now - timedelta(hours=1) if self.expiry_contradicts else ends
        return {
            "studyId": key.study,
            "studyVersion": 48,
            "studyProgramId": key.program,
            "dataSetName": key.data_set,
            "subjectId": key.subject,
            "fileName": self.file_name(key),
            "fileFormat": "csv",
            "modifiedDate": self._modified(key),
            "lastSuccessfulProgramExecutionTimeStamp": executed(self, key.program, key.subject),
            "fileUrl": self._link(key, now, ends),
            "downloadUrlExpiresOn": f"{said:%Y-%m-%dT%H:%M:%S}+00:00",
        }

    def file_name(self, key: FileKey) -> str:
        """Return the vendor's file name. The first runs of a program give two data sets of a subject the same name."""
        run = self._runs.get(key, 0)
        # In the documented sample two data sets share a name; here they do in pairs.
        pair = self.data_sets.index(key.data_set) // 2
        seed = f"{key.study}/{key.program}/{key.subject}" + (f"/{pair}" if pair else "")
        seed += f"/{key.data_set}/{run}" if run else ""
        tail = f"_{key.data_set.lower()}" if self.names_with_data_set else ""
        return f"{key.subject}_{uuid5(NAMESPACE, seed)}{tail}.csv.gz"

    def _modified(self, key: FileKey) -> str:
        version = self._versions.get(key, 0)
        subseconds = zlib.crc32(f"{key}".encode()) % 10_000_000
        return stamp(FIRST_RUN + timedelta(minutes=4, days=version, seconds=subseconds % 60), subseconds)

    def runs_of(self, program: str, subject: int) -> int:
        """Return how often a program ran again for a subject."""
        changed = self._versions.items()
        return max((runs for key, runs in changed if key.program == program and key.subject == subject), default=0)

    def _content(self, key: FileKey) -> CsvGz:
        return CsvGz(f"{key}/{self._versions.get(key, 0)}", self.file_size)

    def _link(self, key: FileKey, now: datetime, ends: datetime) -> str:
        study, subject, program, data_set = _path_names(key)
        path = f"/{study}/{subject}/datasetexports/{program}/{data_set}/{quote(self.file_name(key))}"
        return self.storage.link(self.origin("files"), path, now=now, ends=ends)

    def _blob(self, call: Call) -> Reply:
        """Respond for the file host."""
        self.storage.check(call)
        key = self._file_of(call)
        if key not in self._known or call.vars["name"] != self.file_name(key):
            return storage_error(404, "BlobNotFound", "The specified blob does not exist.")
        modified = FIRST_RUN + timedelta(days=self._versions.get(key, 0))
        return self.storage.serve(call, self._content(key), etag=self._etag(key), modified=modified)

    def _etag(self, key: FileKey) -> str:
        seed = f"{key}/{self._runs.get(key, 0)}/{self._versions.get(key, 0)}"
        return f'"0x8DC{hashlib.sha256(seed.encode()).hexdigest()[:12].upper()}"'

    def _file_of(self, call: Call) -> FileKey:
        """Return the file of a path at the file host."""
        try:
            subject = int(call.vars["subject"].removeprefix("subject-"))
            return self._listed[call.vars["study"], call.vars["program"], subject, call.vars["data_set"]]
        except (KeyError, ValueError):
            raise ErrorReply(storage_error(404, "BlobNotFound", "The specified blob does not exist.")) from None


def _path_names(key: FileKey) -> tuple[str, str, str, str]:
    """Return the directories of a file at the file host."""
    return f"study-{key.study:010d}", f"subject-{key.subject:010d}", key.program, key.data_set.lower()


def _path_key(key: FileKey) -> tuple[str, str, int, str]:
    """Return the parts of a path at the file host that identify a file."""
    study, _, program, data_set = _path_names(key)
    return study, program, key.subject, data_set


def _program(number: int) -> str:
    """Return the GUID of a generated program; the first one is that of the documents."""
    return str(uuid5(NAMESPACE, f"program {number}")) if number else _SEED_PROGRAM


def _data_set_names(count: int) -> list[str]:
    """Return names of data sets."""
    known = ["ActivityDaily8", "ActivityEpochs10", "LeapAvgBarometer", "LeapMinutes", "SleepPeriods2", "WearPeriods3"]
    return (known + [f"MadeUp{number}" for number in range(len(known), count)])[:count]
