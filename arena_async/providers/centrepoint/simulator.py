"""
A local CentrePoint: token endpoint, API and file host, each on its own port, as the vendor's pages describe them.

What the pages leave open is decided here like this: a ``limit`` outside 1 to 100 is a 400; a refused request is not
counted by the limiter; a file that was renamed by a later run is gone under its old link (404 ``BlobNotFound``).
"""

from __future__ import annotations

import base64
import binascii
import functools
import hashlib
import hmac
import json
import math
import random
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from itertools import islice, product
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode
from uuid import UUID, uuid5

import attrs

from arena_async.simulator.server import Call, Refusal, Reply, Route, SimulatedService, give_content

__all__ = ["ALL_SCOPES", "CentrePointSimulator", "FileKey"]

ALL_SCOPES = ("CentrePoint", "DataAccess", "Analytics", "DataRetrieval")

_NEVER = "0001-01-01T00:00:00+00:00"
_FIRST_SUBJECT = 10821
_SEED_PROGRAM = "5b342a11-2fb9-4ad9-a7be-4d410181f51c"
_NAMESPACE = UUID("444eeefb-b1cf-4b7b-804f-65129cd5fa9e")
_TENANT = "c004fd6f-8ed9-42bd-9303-191038d839e2"
_STORAGE_VERSION = "2022-11-02"
#: The first run of every program: 2024-02-29T10:05:08.0962163Z, in seconds and in ticks of 100 ns beside them.
_FIRST_RUN = datetime(2024, 2, 29, 10, 5, 8, tzinfo=UTC)
_WINDOW = 60.0
_GZIP_HEAD = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
_BLOCK = 65_535
_LINE = 60


@attrs.frozen(order=True)
class FileKey:
    """What names a dataset file: study, study program, data set and subject."""

    study: int
    program: str
    data_set: str
    subject: int

    @property
    def path(self) -> str:
        """Where the documented layout has it, below the folder of a mirror."""
        folders = f"centrepoint/study-{self.study}/program-{self.program.lower()}/subject-{self.subject}"
        return f"{folders}/{self.data_set.lower()}.csv.gz"


@attrs.frozen
class _CsvGz:
    """A made-up CSV in a gzip member of exactly ``size`` bytes; made piece by piece, the same every time."""

    seed: str
    size: int

    def chunks(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Give the bytes from ``start`` up to ``stop`` (the end)."""
        place, end = 0, self.size if stop is None else min(stop, self.size)
        for piece in self._pieces():
            if place >= end:
                return
            if place + len(piece) > start:
                yield piece[max(0, start - place) : end - place]
            place += len(piece)

    def _pieces(self) -> Iterator[bytes]:
        """Give head, stored deflate blocks and trailer."""
        yield _GZIP_HEAD
        # Each block has five bytes of its own: last or not, and its length twice.
        left = self.size - len(_GZIP_HEAD) - 8
        number, length, check = 0, 0, 0
        while left > 0:
            room = min(left, _BLOCK + 5) - 5
            # What is left after this block must hold a block again, or nothing.
            if 0 < left - room - 5 <= 5:
                room -= 6
            left -= room + 5
            text = self._text(number, room)
            number, length, check = number + 1, length + room, zlib.crc32(text, check)
            yield bytes([left == 0]) + room.to_bytes(2, "little") + (room ^ 0xFFFF).to_bytes(2, "little") + text
        yield check.to_bytes(4, "little") + (length & 0xFFFFFFFF).to_bytes(4, "little")

    def _text(self, number: int, room: int) -> bytes:
        """Give the lines of one block."""
        made = random.Random(f"{self.seed}/{number}").randbytes(room // 2 + 1).hex()  # noqa: S311 - repeatable
        lines = "\n".join(
            f"{made[at : at + 20]},{made[at + 20 : at + 40]},{made[at + 40 : at + _LINE]}"
            for at in range(0, len(made), _LINE)
        )
        return f"Timestamp,X,Y\n{lines}"[: room - 1].encode() + b"\n" if room else b""


class CentrePointSimulator(SimulatedService):
    """
    A CentrePoint of one study, with one file for every subject, study program and data set.

    Args:
        study: The number of the study.
        subjects: How many subjects, or their numbers.
        programs: How many study programs, or their GUIDs. From the second on they share one name, as in the documents.
        data_sets: How many data sets each program makes, or their names.
        files: Files in all; None for one of each combination. More subjects are made where it takes them.
        file_size: Bytes of each file, 100 at the least.
        port: The port of the API; 0 for any free one.
        rate_limit: API requests in any 60 seconds; None switches the limiter off.
        link_lifetime: Seconds a signed link lives.
        token_lifetime: Seconds a token lives.
        scopes: What the client may ask for.
        client_id: Who may ask.
        client_secret: And what proves it.
        filters_ignored: Lists overlook the filters, as a service may that does not read the body of a GET.
        expiry_contradicts: ``downloadUrlExpiresOn`` lies before the link begins, as in the documented sample.
        content_md5: The file host vouches for its files with an MD5.
        names_with_data_set: The vendor's newer file names, which do not collide.
        clock: Gives the time in seconds since 1970.
    """

    def __init__(
        self,
        *,
        study: int = 234,
        subjects: int | Sequence[int] = 5,
        programs: int | Sequence[str] = 2,
        data_sets: int | Sequence[str] = ("ActivityDaily8", "ActivityEpochs10"),
        files: int | None = None,
        file_size: int = 20_000,
        port: int = 0,
        rate_limit: int | None = 500,
        link_lifetime: float = 14_400.0,
        token_lifetime: float = 3600.0,
        scopes: Iterable[str] = ALL_SCOPES,
        client_id: str = "simulated-client",
        client_secret: str = "simulated-secret",  # noqa: S107 - it opens nothing but this simulator
        filters_ignored: bool = False,
        expiry_contradicts: bool = False,
        content_md5: bool = True,
        names_with_data_set: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(listeners=("api", "auth", "files"), port=port, clock=clock, case_blind=True)
        if file_size < 100:
            raise ValueError(f"file_size is {file_size}; a CSV in a gzip member takes at least 100 bytes.")
        self.study = study
        self.programs = [_program(number) for number in range(programs)] if isinstance(programs, int) else [*programs]
        self.data_sets = [*data_sets] if not isinstance(data_sets, int) else _data_sets(data_sets)
        each = len(self.programs) * len(self.data_sets)
        if files is not None and each:
            subjects = max(math.ceil(files / each), len(subjects) if not isinstance(subjects, int) else 0)
        self.subjects = (
            [*range(_FIRST_SUBJECT, _FIRST_SUBJECT + subjects)] if isinstance(subjects, int) else [*subjects]
        )
        combined = (FileKey(study, g, d, u) for u, g, d in product(self.subjects, self.programs, self.data_sets))
        #: Every file there is, in the order they are listed.
        self.files: list[FileKey] = list(islice(combined, files))
        self.file_size = file_size
        self.rate_limit = rate_limit
        self.link_lifetime = link_lifetime
        self.token_lifetime = token_lifetime
        self.scopes = tuple(scopes)
        self.client_id = client_id
        self.client_secret = client_secret
        self.filters_ignored = filters_ignored
        self.expiry_contradicts = expiry_contradicts
        self.content_md5 = content_md5
        self.names_with_data_set = names_with_data_set
        #: Requests that brought a credential to the file host; there must never be one.
        self.breaches: list[str] = []
        self._known = set(self.files)
        self._runs: dict[FileKey, int] = {}
        self._versions: dict[FileKey, int] = {}
        self._window: deque[float] = deque()
        self._dead_tokens: set[str] = set()
        self._tokens = 0
        self._signing_key = b"user delegation key 1"
        self._listed: dict[tuple[str, str, int, str], FileKey] = {_place(key): key for key in self.files}

    # ------------------------------------------------------------------ what a caller needs

    @property
    def base_url(self) -> str:
        """The address of the API."""
        return self.origin("api")

    @property
    def auth_url(self) -> str:
        """The address of the token endpoint."""
        return f"{self.origin('auth')}/connect/token"

    @property
    def file_host(self) -> str:
        """The address of the file host."""
        return self.origin("files")

    def describe(self) -> dict[str, Any]:
        """Give addresses, credentials, the study and the environment variables of a client."""
        return {
            "base_url": self.base_url,
            "auth_url": self.auth_url,
            "file_host": self.file_host,
            "client_id": self.client_id,
            "client_secret": self.client_secret,
            "study": self.study,
            "files": len(self.files),
            "environment": {
                "CENTREPOINT_BASE_URL": self.base_url,
                "CENTREPOINT_AUTH_URL": self.auth_url,
                "CENTREPOINT_CLIENT_ID": self.client_id,
                "CENTREPOINT_CLIENT_SECRET": self.client_secret,
            },
        }

    def content(self, key: FileKey) -> bytes:
        """Give the bytes of a file as they are now."""
        return b"".join(self._content(key).chunks())

    def sha256(self, key: FileKey) -> str:
        """Give the SHA-256 of a file as it is now, in hexadecimal."""
        return _digests(self._content(key))[1]

    def change_file(self, key: FileKey, *, rename: bool = True) -> None:
        """
        Let the program run again for a file: new content and a new ``modifiedDate``.

        Args:
            key: The file.
            rename: Whether the run makes a new file name, as it does at the vendor; the old link is dead then.
        """
        self._versions[key] = self._versions.get(key, 0) + 1
        self._runs[key] = self._runs.get(key, 0) + (1 if rename else 0)

    def remove_file(self, key: FileKey) -> None:
        """Let a file be gone: from the lists and from the file host."""
        self.files.remove(key)
        self._known.discard(key)

    def expire_links(self) -> None:
        """Let every link given out so far be over, as when the key that signed them is revoked."""
        self._signing_key = hashlib.sha256(self._signing_key).digest()

    # ------------------------------------------------------------------ the table

    def routes(self) -> Iterable[Route]:
        """Give what is offered at each port."""
        listings: tuple[tuple[str, str, Callable[[Call], Reply]], ...] = (
            ("/centrepoint/v3/studies", "CentrePoint", self._studies),
            ("/centrepoint/v3/studies/{study}", "CentrePoint", self._one_study),
            ("/centrepoint/v3/studies/{study}/sites", "CentrePoint", self._sites),
            ("/centrepoint/v3/studies/{study}/sites/{site}", "CentrePoint", self._one_site),
            ("/centrepoint/v3/studies/{study}/subjects", "CentrePoint", self._subjects),
            ("/centrepoint/v3/studies/{study}/subjects/{subject}", "CentrePoint", self._one_subject),
            ("/dataaccess/v3/studies/{study}/subjects", "DataAccess", self._dataset_subjects),
            ("/dataaccess/v3/studies/{study}/subjects/{subject}", "DataAccess", self._one_dataset_subject),
            ("/dataaccess/v3/studies/{study}/programs", "DataAccess", self._programs),
            ("/dataaccess/v3/studies/{study}/programs/{program}", "DataAccess", self._one_program),
            ("/dataaccess/v3/studies/{study}/programs/{program}/datasets", "DataAccess", self._program_data_sets),
            ("/dataaccess/v3/studies/{study}/datasetfiles", "DataAccess", self._dataset_files),
            ("/studies/{study}/datasetexportfiles", "DataAccess", self._dataset_export_files),
        )
        for template, scope, handler in listings:
            yield Route("GET", template, functools.partial(self._admitted, scope, handler), "api")
        yield Route("POST", "/connect/token", self._token, "auth")
        yield Route("GET", "/{study}/{subject}/datasetexports/{program}/{data_set}/{name}", self._blob, "files")

    def admit(self, call: Call) -> None:
        """Count the requests of the last minute at the API."""
        if call.seen.listener == "api" and self.rate_limit is not None:
            self._window.append(call.seen.at)

    def dress(self, call: Call, reply: Reply) -> Reply:
        """Add the clock of the service, which may differ from the client's."""
        dressed = reply.adding({"Date": formatdate(self.clock(), usegmt=True)})
        return dressed.adding({"x-ms-version": _STORAGE_VERSION}) if call.seen.listener == "files" else dressed

    def befall(self, event: str, call: Call) -> None:
        """Let content change (in place), the token of a request end, or all links end."""
        if event == "expire_links":
            self.expire_links()
        elif event == "expire_session":
            self._dead_tokens.add(call.headers.get("Authorization", "").removeprefix("Bearer "))
        elif event == "change" and call.seen.listener == "files":
            self.change_file(self._file_of(call), rename=False)
        else:
            super().befall(event, call)

    def unknown(self, call: Call, *, other_method: bool) -> Reply:
        """Answer a path that is not offered in plain text, as the service does."""
        del call
        return _text(405 if other_method else 404, "There is nothing here.")

    # ------------------------------------------------------------------ tokens

    def _token(self, call: Call) -> Reply:
        """Answer the token endpoint."""
        if not call.headers.get("Content-Type", "").startswith("application/x-www-form-urlencoded"):
            return _oauth_error("invalid_request")
        form = dict(parse_qsl(call.body.decode("utf-8", "replace"), keep_blank_values=True))
        if form.get("grant_type") != "client_credentials":
            return _oauth_error("unsupported_grant_type")
        if (form.get("client_id"), form.get("client_secret")) != (self.client_id, self.client_secret):
            return _oauth_error("invalid_client")
        wanted = form.get("scope", "").split()
        if not wanted or not set(wanted) <= set(self.scopes):
            return _oauth_error("invalid_scope")
        self._tokens += 1
        claims = {"client_id": self.client_id, "scope": wanted, "exp": self.clock() + self.token_lifetime}
        signed = f"{_base64({'alg': 'HS256', 'typ': 'JWT'})}.{_base64({**claims, 'jti': self._tokens})}"
        token = f"{signed}.{_mac(self.client_secret.encode(), signed)}"
        return Reply.json({"access_token": token, "expires_in": int(self.token_lifetime), "token_type": "Bearer"})

    def _admitted(self, scope: str, handler: Callable[[Call], Reply], call: Call) -> Reply:
        """Let a request through to its handler: the limiter, the token, its scope, and the study."""
        self._slow_down(call)
        kind, _, token = call.headers.get("Authorization", "").partition(" ")
        claims = self._claims(token) if kind.lower() == "bearer" else None
        if claims is None:
            return Reply(status=401, headers={"WWW-Authenticate": 'Bearer error="invalid_token"'})
        if scope not in claims["scope"]:
            return _text(403, f"The token does not open the scope {scope}.")
        if "study" in call.vars and call.vars["study"] != str(self.study):
            return _text(404, f"Study {call.vars['study']} was not found.")
        return handler(call)

    def _slow_down(self, call: Call) -> None:
        """Refuse what is more than the limit in any 60 seconds."""
        if self.rate_limit is None:
            return
        now = self.clock()
        while self._window and self._window[0] <= now - _WINDOW:
            self._window.popleft()
        if len(self._window) <= self.rate_limit:
            return
        self._window.remove(call.seen.at)
        wait = max(1, math.ceil(self._window[0] + _WINDOW - now))
        raise Refusal(_text(429, "Too many requests.").adding({"Retry-After": str(wait)}))

    def _claims(self, token: str) -> Mapping[str, Any] | None:
        """Read a token of ours that is not over, or give None."""
        signed, _, mac = token.rpartition(".")
        if token in self._dead_tokens or not hmac.compare_digest(
            mac.encode("utf-8", "replace"), _mac(self.client_secret.encode(), signed).encode()
        ):
            return None
        claims: Mapping[str, Any] = json.loads(_unbase64(signed.partition(".")[2]))
        return claims if claims["exp"] > self.clock() else None

    # ------------------------------------------------------------------ lists

    def _page(self, call: Call, rows: Sequence[Any], show: Callable[[Any], Any]) -> Reply:
        """Answer a list: the rows of the page asked for, and how many there are in all."""
        limit, offset = _whole(call, "limit", 100), _whole(call, "offset", 0)
        if not 1 <= limit <= 100 or offset < 0:
            return _text(400, "limit must be between 1 and 100, and offset must not be negative.")
        links = {}
        # In the documented sample the next page of a list of studies lies under another prefix; so it does here.
        wrong = f"{self.base_url}/DataRetrieval/v3/Studies?limit={limit}&offset="
        if offset + limit < len(rows):
            links["next"] = f"{wrong}{offset + limit}"
        if offset > 0:
            links["prev"] = f"{wrong}{max(0, offset - limit)}"
        return Reply.json(
            {
                "items": [show(row) for row in rows[offset : offset + limit]],
                "links": links,
                "totalCount": len(rows),
                "limit": limit,
                "offset": offset,
            }
        )

    def _studies(self, call: Call) -> Reply:
        return self._page(call, [self.study], self._show_study)

    def _one_study(self, call: Call) -> Reply:
        return Reply.json(self._show_study(int(call.vars["study"])))

    def _show_study(self, study: int) -> dict[str, Any]:
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

    def _sites(self, call: Call) -> Reply:
        return self._page(call, [1], self._show_site)

    def _one_site(self, call: Call) -> Reply:
        return Reply.json(self._show_site(_among(call.vars["site"], [1], "Site")))

    def _show_site(self, site: int) -> dict[str, Any]:
        return {
            "id": site,
            "studyId": self.study,
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

    def _subjects(self, call: Call) -> Reply:
        return self._page(call, self.subjects, self._show_subject)

    def _one_subject(self, call: Call) -> Reply:
        return Reply.json(self._show_subject(_among(call.vars["subject"], self.subjects, "Subject")))

    def _show_subject(self, subject: int) -> dict[str, Any]:
        return {
            "id": subject,
            "studyId": self.study,
            "siteId": 1,
            "siteIdentifier": "A",
            "subjectIdentifier": f"A-{subject - _FIRST_SUBJECT + 1:03d}",
            "gender": "Female",
            "timezone": "America/Chicago",
            "wearPosition": "Left Non-Dominant Wrist",
            "weight": 150.0,
            "weightUnit": "Lbs",
            "assignmentStatus": "Not Assigned",
        }

    def _dataset_subjects(self, call: Call) -> Reply:
        return self._page(call, self.subjects, self._show_dataset_subject)

    def _one_dataset_subject(self, call: Call) -> Reply:
        return Reply.json(self._show_dataset_subject(_among(call.vars["subject"], self.subjects, "Subject")))

    def _show_dataset_subject(self, subject: int) -> dict[str, Any]:
        executions = [
            {
                "studyProgramId": program,
                "studyProgramName": self._program_name(program),
                "lastSuccessfulProgramExecutionTimeStamp": self._executed(program, subject),
            }
            for program in self.programs
        ]
        # In the documented sample a subject has executions although nothing was ever uploaded; the last one is such.
        uploaded = _NEVER if subject == self.subjects[-1] else _stamp(_FIRST_RUN - timedelta(hours=3), 5_899_754)
        return {
            "studyId": self.study,
            "subjectId": subject,
            "lastRawUploadedTimeStamp": uploaded,
            "studyProgramExecutions": executions,
        }

    def _programs(self, call: Call) -> Reply:
        return self._page(call, self.programs, self._show_program)

    def _one_program(self, call: Call) -> Reply:
        return Reply.json(self._show_program(self._program_of(call)))

    def _program_data_sets(self, call: Call) -> Reply:
        program = self._program_of(call)
        return self._page(call, self.data_sets, lambda name: {"studyProgramId": program, "dataSetName": name})

    def _program_of(self, call: Call) -> str:
        wanted = call.vars["program"].lower()
        for program in self.programs:
            if program.lower() == wanted:
                return program
        raise Refusal(_text(404, "Study program was not found."))

    def _show_program(self, program: str) -> dict[str, Any]:
        return {
            "studyProgramId": program,
            "studyId": self.study,
            "studyProgramName": self._program_name(program),
        }

    def _program_name(self, program: str) -> str:
        return "Activity (30)" if program == self.programs[0] else "ParamsAndSubject (31)"

    # ------------------------------------------------------------------ dataset files

    def _dataset_files(self, call: Call) -> Reply:
        """Answer the list of the current page, with its filters in the query."""
        return self._page(call, self._filtered(call.query), self._show_file)

    def _dataset_export_files(self, call: Call) -> Reply:
        """Answer the list of the first published page, with its filters in the body of the GET."""
        try:
            wanted = call.json() or {}
        except ValueError:
            wanted = None
        if not isinstance(wanted, dict):
            return _text(400, "The body is not a JSON object.")
        later = ("studyVersion", "downloadUrlExpiresOn")
        return self._page(
            call,
            self._filtered({name: str(value) for name, value in wanted.items() if value is not None}),
            lambda key: {name: value for name, value in self._show_file(key).items() if name not in later},
        )

    def _filtered(self, wanted: Mapping[str, str]) -> Sequence[FileKey]:
        """Give the files that match, without regard to case."""
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
            "lastSuccessfulProgramExecutionTimeStamp": self._executed(key.program, key.subject),
            "fileUrl": self._link(key, now, ends),
            "downloadUrlExpiresOn": f"{said:%Y-%m-%dT%H:%M:%S}+00:00",
        }

    def file_name(self, key: FileKey) -> str:
        """Give the vendor's file name. The first runs of a program name all data sets of a subject alike."""
        run = self._runs.get(key, 0)
        seed = f"{key.study}/{key.program}/{key.subject}" + (f"/{key.data_set}/{run}" if run else "")
        tail = f"_{key.data_set.lower()}" if self.names_with_data_set else ""
        return f"{key.subject}_{uuid5(_NAMESPACE, seed)}{tail}.csv.gz"

    def _modified(self, key: FileKey) -> str:
        version = self._versions.get(key, 0)
        ticks = zlib.crc32(f"{key}".encode()) % 10_000_000
        return _stamp(_FIRST_RUN + timedelta(minutes=4, days=version, seconds=ticks % 60), ticks)

    def _executed(self, program: str, subject: int) -> str:
        ran = max((self._versions.get(FileKey(self.study, program, d, subject), 0) for d in self.data_sets), default=0)
        return _stamp(_FIRST_RUN + timedelta(days=ran), 962_163)

    def _content(self, key: FileKey) -> _CsvGz:
        return _CsvGz(f"{key}/{self._versions.get(key, 0)}", self.file_size)

    # ------------------------------------------------------------------ the file host

    def _link(self, key: FileKey, now: datetime, ends: datetime) -> str:
        """Sign a link as a user delegation key does; the parameters are those of the documented sample."""
        study, subject, program, data_set = _place_names(key)
        path = f"/{study}/{subject}/datasetexports/{program}/{data_set}/{quote(self.file_name(key))}"
        began, until = f"{now:%Y-%m-%dT%H:%M:%SZ}", f"{ends:%Y-%m-%dT%H:%M:%SZ}"
        query = {
            "skoid": str(_NAMESPACE),
            "sktid": _TENANT,
            "skt": began,
            "ske": until,
            "sks": "b",
            "skv": _STORAGE_VERSION,
            "sv": _STORAGE_VERSION,
            "se": until,
            "sr": "b",
            "sp": "r",
        }
        return f"{self.file_host}{path}?{urlencode({**query, 'sig': self._signature(path, query)})}"

    def _signature(self, path: str, query: Mapping[str, str]) -> str:
        text = "\n".join((path, *(f"{name}={query[name]}" for name in sorted(query) if name != "sig")))
        return base64.b64encode(hmac.digest(self._signing_key, text.encode(), "sha256")).decode()

    def _blob(self, call: Call) -> Reply:
        """Answer the file host."""
        for name in ("Authorization", "arena_session_id", "Cookie"):
            if name in call.headers:
                self.breaches.append(f"{call.seen.method} {call.seen.path}: {name}")
                return _storage_error(400, "InvalidAuthenticationInfo", "Another credential came beside the link.")
        query, path = dict(call.query), call.seen.target.partition("?")[0]
        try:
            ends = datetime.fromisoformat(query.get("se", "")).timestamp()
        except ValueError:
            ends = 0.0
        if not hmac.compare_digest(query.get("sig", "").encode(), self._signature(path, query).encode()):
            return _storage_error(403, "AuthenticationFailed", "Signature did not match.")
        if ends <= self.clock():
            said = f"Signed expiry time [{formatdate(ends, usegmt=True)}] must be after now."
            return _storage_error(403, "AuthenticationFailed", said)
        key = self._file_of(call)
        if key not in self._known or call.vars["name"] != self.file_name(key):
            return _storage_error(404, "BlobNotFound", "The specified blob does not exist.")
        return self._give(call, key)

    def _give(self, call: Call, key: FileKey) -> Reply:
        """Answer with a file, whole or in part. ``If-Range`` means nothing to this kind of storage."""
        content = self._content(key)
        md5 = base64.b64encode(bytes.fromhex(_digests(content)[0])).decode() if self.content_md5 else None
        modified = _FIRST_RUN + timedelta(days=self._versions.get(key, 0))
        kept = {name.lower(): value for name, value in call.headers.items() if name.lower() in ("range", "if-match")}
        reply = give_content(
            attrs.evolve(call, headers=_CaseBlind(kept)),
            content,
            etag=self._etag(key),
            ranges=True,
            headers={"Last-Modified": formatdate(modified.timestamp(), usegmt=True)},
        )
        if reply.status == 412:
            return _storage_error(412, "ConditionNotMet", "The condition specified is not met.")
        if reply.status == 416:
            refusal = _storage_error(416, "InvalidRange", "The range specified is invalid.")
            return refusal.adding({"Content-Range": f"bytes */{content.size}"})
        # A 206 has no Content-MD5: that would be the part's. The other header is the whole file's on both.
        return reply.adding(
            {"x-ms-blob-type": "BlockBlob", "x-ms-blob-content-md5": md5}
            | ({"Content-MD5": md5} if reply.status == 200 else {})
        )

    def _etag(self, key: FileKey) -> str:
        seed = f"{key}/{self._runs.get(key, 0)}/{self._versions.get(key, 0)}"
        return f'"0x8DC{hashlib.sha256(seed.encode()).hexdigest()[:12].upper()}"'

    def _file_of(self, call: Call) -> FileKey:
        """Find the file of a path at the file host."""
        try:
            subject = int(call.vars["subject"].removeprefix("subject-"))
            return self._listed[call.vars["study"], call.vars["program"], subject, call.vars["data_set"]]
        except (KeyError, ValueError):
            raise Refusal(_storage_error(404, "BlobNotFound", "The specified blob does not exist.")) from None


class _CaseBlind(dict[str, str]):
    """Headers with names in lower case, looked up without regard to case."""

    def get(self, name: str, default: Any = None) -> Any:
        """Give the value under ``name``, or ``default``."""
        return super().get(name.lower(), default)


@functools.lru_cache(maxsize=256)
def _digests(content: _CsvGz) -> tuple[str, str]:
    """Give MD5 and SHA-256 of some content, in hexadecimal."""
    md5, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
    for piece in content.chunks():
        md5.update(piece)
        sha256.update(piece)
    return md5.hexdigest(), sha256.hexdigest()


def _place_names(key: FileKey) -> tuple[str, str, str, str]:
    """Give the folders of a file at the file host."""
    return f"study-{key.study:010d}", f"subject-{key.subject:010d}", key.program, key.data_set.lower()


def _place(key: FileKey) -> tuple[str, str, int, str]:
    """Give what the path at the file host says about a file."""
    study, _, program, data_set = _place_names(key)
    return study, program, key.subject, data_set


def _program(number: int) -> str:
    """Give the GUID of a made-up program; the first one is that of the documents."""
    return str(uuid5(_NAMESPACE, f"program {number}")) if number else _SEED_PROGRAM


def _data_sets(count: int) -> list[str]:
    """Give some names of data sets."""
    known = ["ActivityDaily8", "ActivityEpochs10", "LeapAvgBarometer", "LeapMinutes", "SleepPeriods2", "WearPeriods3"]
    return (known + [f"MadeUp{number}" for number in range(len(known), count)])[:count]


def _stamp(moment: datetime, ticks: int) -> str:
    """Write a date-time as the service does: up to seven digits of a second, without trailing zeros."""
    fraction = f".{ticks:07d}".rstrip("0").rstrip(".")
    return f"{moment:%Y-%m-%dT%H:%M:%S}{fraction}+00:00"


def _whole(call: Call, name: str, default: int) -> int:
    """Read a number out of the query; nonsense is out of every range."""
    text = call.query.get(name, str(default))
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else -1


def _among(text: str, known: Sequence[int], what: str) -> int:
    """Find a number among those that there are."""
    if text.isascii() and text.isdigit() and int(text) in known:
        return int(text)
    raise Refusal(_text(404, f"{what} was not found."))


def _text(status: int, words: str) -> Reply:
    """Answer in plain text."""
    return Reply(status=status, headers={"Content-Type": "text/plain; charset=utf-8"}, body=words.encode())


def _oauth_error(name: str) -> Reply:
    """Answer as a token endpoint refuses."""
    return Reply.json({"error": name}, status=400)


def _storage_error(status: int, code: str, words: str) -> Reply:
    """Answer as the storage service refuses: XML, and the code in a header too."""
    body = (
        f'\ufeff<?xml version="1.0" encoding="utf-8"?><Error><Code>{code}</Code>'
        f"<Message>Server failed to process the request.</Message>"
        f"<AuthenticationErrorDetail>{words}</AuthenticationErrorDetail></Error>"
    )
    headers = {"Content-Type": "application/xml", "x-ms-error-code": code, "x-ms-request-id": "simulated"}
    return Reply(status=status, headers=headers, body=body.encode())


def _base64(value: object) -> str:
    """Encode a part of a token."""
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def _unbase64(text: str) -> bytes:
    """Decode a part of a token."""
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (ValueError, binascii.Error):
        return b"{}"


def _mac(key: bytes, text: str) -> str:
    """Sign text."""
    return base64.urlsafe_b64encode(hmac.digest(key, text.encode("utf-8", "replace"), "sha256")).rstrip(b"=").decode()
