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
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from itertools import islice, product
from typing import Any
from urllib.parse import parse_qsl, quote
from uuid import uuid5

import attrs

from arena_async.providers.centrepoint import CentrePointClient, CentrePointCredentials
from arena_async.testing.centrepoint.analytics import analytics_tables
from arena_async.testing.centrepoint.collection import collection_tables
from arena_async.testing.centrepoint.content import CsvGz, digests
from arena_async.testing.centrepoint.days import DayKey, DayShelf
from arena_async.testing.centrepoint.lists import (
    FIRST_RUN,
    FIRST_SUBJECT,
    Table,
    executed,
    plain_text,
    stamp,
    study_tables,
)
from arena_async.testing.centrepoint.requests import DataRequestService
from arena_async.testing.centrepoint.storage import NAMESPACE, STORAGE_VERSION, Storage, storage_error
from arena_async.testing.replies import Call, Refusal, Reply, Route
from arena_async.testing.server import SimulatedService

__all__ = ["ALL_SCOPES", "CentrePointSimulator", "DayKey", "FileKey"]

ALL_SCOPES = ("CentrePoint", "DataAccess", "Analytics", "DataRetrieval")

_SEED_PROGRAM = "5b342a11-2fb9-4ad9-a7be-4d410181f51c"
_WINDOW = 60.0


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


class CentrePointSimulator(SimulatedService):
    """
    A CentrePoint of one study, with one file for every subject, study program and data set.

    It has day files too (:attr:`day_files`), and takes requests for raw and epoch data (:attr:`data_requests`).

    Args:
        study: The number of the study.
        subjects: How many subjects, or their numbers.
        programs: How many study programs, or their GUIDs. From the second on they share one name, as in the documents.
        data_sets: How many data sets each program makes, or their names.
        files: Files in all; None for one of each combination. More subjects are made where it takes them.
        file_size: Bytes of each file, 100 at the least; of day files and data requests, about so many.
        days: How many days each subject has day files for.
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
        days: int = 3,
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
        self.subjects = [*range(FIRST_SUBJECT, FIRST_SUBJECT + subjects)] if isinstance(subjects, int) else [*subjects]
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
        self.names_with_data_set = names_with_data_set
        #: Identifiers of subjects, where they are not the usual ones.
        self.identifiers: dict[int, str] = {}
        #: When raw data of subjects last came, where that is not the usual time; see :meth:`upload_raw`.
        self.raw_uploads: dict[int, datetime] = {}
        #: The file host: it signs links and answers to them.
        self.storage = Storage(clock=clock, content_md5=content_md5)
        self.day_files = DayShelf(self, days=days, size=file_size)
        self.data_requests = DataRequestService(self, size=file_size)
        self._known = set(self.files)
        self._runs: dict[FileKey, int] = {}
        self._versions: dict[FileKey, int] = {}
        self._window: deque[float] = deque()
        self._dead_tokens: set[str] = set()
        self._tokens = 0
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

    @property
    def content_md5(self) -> bool:
        """Whether the file host vouches for its files with an MD5."""
        return self.storage.content_md5

    @content_md5.setter
    def content_md5(self, enabled: bool) -> None:
        self.storage.content_md5 = enabled

    @property
    def breaches(self) -> list[str]:
        """Requests that brought a credential to the file host; there must never be one."""
        return self.storage.breaches

    @property
    def subject(self) -> int:
        """The first subject."""
        return self.subjects[0]

    @property
    def category(self) -> str:
        """The first category that has day files."""
        return self.day_files.categories[0]

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
        return digests(self._content(key))[1]

    def change_file(self, key: FileKey, *, rename: bool = True) -> None:
        """
        Let the program run again for a file: new content and a new ``modifiedDate``.

        Args:
            key: The file.
            rename: Whether the run makes a new file name, as it does at the vendor; the old link is dead then.
        """
        self._versions[key] = self._versions.get(key, 0) + 1
        self._runs[key] = self._runs.get(key, 0) + (1 if rename else 0)

    def upload_raw(self, subject: int) -> None:
        """Let raw data of a subject come after every program ran for it, so that its data sets are stale."""
        runs = max((self.runs_of(program, subject) for program in self.programs), default=0)
        self.raw_uploads[subject] = FIRST_RUN + timedelta(days=runs, hours=5)

    def remove_file(self, key: FileKey) -> None:
        """Let a file be gone: from the lists and from the file host."""
        self.files.remove(key)
        self._known.discard(key)

    def expire_links(self) -> None:
        """Let every link given out so far be over, as when the key that signed them is revoked."""
        self.storage.expire_links()

    # ------------------------------------------------------------------ the table

    def client(self, **options: Any) -> CentrePointClient:
        """
        Make a client for this simulator and its credentials; it requests a token with the first request.

        ``options`` are those of :class:`~arena_async.providers.centrepoint.CentrePointClient`; ``credentials`` replaces
        the ones of the simulator.
        """
        credentials = options.pop("credentials", None) or CentrePointCredentials(self.client_id, self.client_secret)
        return CentrePointClient(credentials, **{"base_url": self.base_url, "auth_url": self.auth_url, **options})

    def routes(self) -> Iterable[Route]:
        """Give what is offered at each port."""
        for table in self.tables():
            yield self._guarded(table.path, table.scope, functools.partial(self._page, table))
            if table.named_by is not None:
                yield self._guarded(f"{table.path}/{{one}}", table.scope, table.one)
        yield Route("POST", "/connect/token", self._token, "auth")
        yield Route("GET", "/{study}/{subject}/datasetexports/{program}/{data_set}/{name}", self._blob, "files")
        yield Route("GET", "/{study}/{subject}/{category}/{y}/{m}/{d}/{name}", self.day_files.blob, "files")
        for method, path, handler in self.data_requests.routes():
            yield self._guarded(path, "DataRetrieval", handler, method=method)
        yield Route("GET", "/{container}/{name}", self.data_requests.blob, "files")

    def tables(self) -> Iterable[Table]:
        """Give the lists of the API."""
        yield from study_tables(self)
        yield from collection_tables(self)
        yield from analytics_tables(self)
        yield from self.day_files.tables()
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

    def _page(self, table: Table, call: Call) -> Reply:
        return table.page(self.base_url, call)

    def _guarded(self, path: str, scope: str, handler: Callable[[Call], Reply], *, method: str = "GET") -> Route:
        """Make a route of the API that wants a token of some scope."""
        return Route(method, path, functools.partial(self._admitted, scope, handler), "api")

    def admit(self, call: Call) -> None:
        """Count the requests of the last minute at the API."""
        if call.seen.listener == "api" and self.rate_limit is not None:
            self._window.append(call.seen.at)

    def dress(self, call: Call, reply: Reply) -> Reply:
        """Add the clock of the service, which may differ from the client's."""
        dressed = reply.adding({"Date": formatdate(self.clock(), usegmt=True)})
        return dressed.adding({"x-ms-version": STORAGE_VERSION}) if call.seen.listener == "files" else dressed

    def befall(self, event: str, call: Call) -> None:
        """Let content change (in place), the token of a request end, or all links end."""
        if event == "expire_links":
            self.expire_links()
        elif event == "expire_session":
            self._dead_tokens.add(call.headers.get("Authorization", "").removeprefix("Bearer "))
        elif event == "change" and "category" in call.vars and "y" in call.vars:
            self.day_files.rebuild(self.day_files.file_of(call), rename=False)
        elif event == "change" and "data_set" in call.vars:
            self.change_file(self._file_of(call), rename=False)
        else:
            super().befall(event, call)

    def unknown(self, call: Call, *, other_method: bool) -> Reply:
        """Answer a path that is not offered in plain text, as the service does."""
        del call
        return plain_text(405 if other_method else 404, "There is nothing here.")

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
            return plain_text(403, f"The token does not open the scope {scope}.")
        if "study" in call.vars and call.vars["study"] != str(self.study):
            return plain_text(404, f"Study {call.vars['study']} was not found.")
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
        raise Refusal(plain_text(429, "Too many requests.").adding({"Retry-After": str(wait)}))

    def _claims(self, token: str) -> Mapping[str, Any] | None:
        """Read a token of ours that is not over, or give None."""
        signed, _, mac = token.rpartition(".")
        if token in self._dead_tokens or not hmac.compare_digest(
            mac.encode("utf-8", "replace"), _mac(self.client_secret.encode(), signed).encode()
        ):
            return None
        claims: Mapping[str, Any] = json.loads(_unbase64(signed.partition(".")[2]))
        return claims if claims["exp"] > self.clock() else None

    # ------------------------------------------------------------------ dataset files

    def _filtered_by_body(self, call: Call) -> Sequence[FileKey]:
        """Give the files that the body of a GET asks for, as the first published page has it."""
        try:
            wanted = call.json() or {}
        except ValueError:
            wanted = None
        if not isinstance(wanted, dict):
            raise Refusal(plain_text(400, "The body is not a JSON object."))
        return self._filtered({name: str(value) for name, value in wanted.items() if value is not None})

    def _show_file_as_first_published(self, key: FileKey) -> dict[str, Any]:
        later = ("studyVersion", "downloadUrlExpiresOn")
        return {name: value for name, value in self._show_file(key).items() if name not in later}

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
            "lastSuccessfulProgramExecutionTimeStamp": executed(self, key.program, key.subject),
            "fileUrl": self._link(key, now, ends),
            "downloadUrlExpiresOn": f"{said:%Y-%m-%dT%H:%M:%S}+00:00",
        }

    def file_name(self, key: FileKey) -> str:
        """Give the vendor's file name. The first runs of a program name two data sets of a subject alike."""
        run = self._runs.get(key, 0)
        # The documented sample has two data sets with one name; so it is here, two by two.
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
        """Say how often a program ran again for a subject."""
        changed = self._versions.items()
        return max((runs for key, runs in changed if key.program == program and key.subject == subject), default=0)

    def _content(self, key: FileKey) -> CsvGz:
        return CsvGz(f"{key}/{self._versions.get(key, 0)}", self.file_size)

    # ------------------------------------------------------------------ the file host

    def _link(self, key: FileKey, now: datetime, ends: datetime) -> str:
        study, subject, program, data_set = _place_names(key)
        path = f"/{study}/{subject}/datasetexports/{program}/{data_set}/{quote(self.file_name(key))}"
        return self.storage.link(self.file_host, path, now=now, ends=ends)

    def _blob(self, call: Call) -> Reply:
        """Answer the file host."""
        self.storage.check(call)
        key = self._file_of(call)
        if key not in self._known or call.vars["name"] != self.file_name(key):
            return storage_error(404, "BlobNotFound", "The specified blob does not exist.")
        modified = FIRST_RUN + timedelta(days=self._versions.get(key, 0))
        return self.storage.give(call, self._content(key), etag=self._etag(key), modified=modified)

    def _etag(self, key: FileKey) -> str:
        seed = f"{key}/{self._runs.get(key, 0)}/{self._versions.get(key, 0)}"
        return f'"0x8DC{hashlib.sha256(seed.encode()).hexdigest()[:12].upper()}"'

    def _file_of(self, call: Call) -> FileKey:
        """Find the file of a path at the file host."""
        try:
            subject = int(call.vars["subject"].removeprefix("subject-"))
            return self._listed[call.vars["study"], call.vars["program"], subject, call.vars["data_set"]]
        except (KeyError, ValueError):
            raise Refusal(storage_error(404, "BlobNotFound", "The specified blob does not exist.")) from None


def _place_names(key: FileKey) -> tuple[str, str, str, str]:
    """Give the folders of a file at the file host."""
    return f"study-{key.study:010d}", f"subject-{key.subject:010d}", key.program, key.data_set.lower()


def _place(key: FileKey) -> tuple[str, str, int, str]:
    """Give what the path at the file host says about a file."""
    study, _, program, data_set = _place_names(key)
    return study, program, key.subject, data_set


def _program(number: int) -> str:
    """Give the GUID of a made-up program; the first one is that of the documents."""
    return str(uuid5(NAMESPACE, f"program {number}")) if number else _SEED_PROGRAM


def _data_sets(count: int) -> list[str]:
    """Give some names of data sets."""
    known = ["ActivityDaily8", "ActivityEpochs10", "LeapAvgBarometer", "LeapMinutes", "SleepPeriods2", "WearPeriods3"]
    return (known + [f"MadeUp{number}" for number in range(len(known), count)])[:count]


def _oauth_error(name: str) -> Reply:
    """Answer as a token endpoint refuses."""
    return Reply.json({"error": name}, status=400)


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
