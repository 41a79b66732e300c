"""
A local Arena: sessions, the daily quota, extracts, exports, imports, files and items, as the vendor's pages have them.

Where the pages leave something open it is a switch of :class:`ArenaSimulator`; where they contradict each other the
default is what is harder on a client. What they do not say at all is decided here like this: an unknown session is
not metered, because nobody knows whose it is; a guid is well formed with 15 to 24 upper-case letters and digits;
``...From`` of extracts means after, of exports it means from; lists come newest first.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal, TypeVar
from urllib.parse import parse_qsl, unquote

import attrs

from arena_async.providers.arena.simulated import (
    Association,
    Blob,
    EventIntegration,
    Export,
    ExportRun,
    Extract,
    ExtractRun,
    Guids,
    Import,
    ImportRun,
    Item,
    OutboundEvent,
    OutboundResource,
    Session,
    StoredFile,
    User,
    pacific_midnight_after,
    write_reset,
    write_time,
)
from arena_async.simulator.payloads import Payload, payload
from arena_async.simulator.server import Call, Refusal, Reply, Route, SimulatedService, give_content

__all__ = ["ArenaSimulator"]

T = TypeVar("T")
Size = int | Callable[[int], int]
Handler = Callable[[Call, User], Reply]
Match = Callable[[Any, str], bool]

_IDLE = 90 * 60.0
_LOCKED = 5 * 60.0
_REJECTIONS = 5
_RETENTION = 60 * 86400.0
_GOOD_EXPORT = ("COMPLETE", "DOWNLOADED")
_OPEN = ("InProcess", "CREATED", "RUNNING")
_RESOURCE_KINDS = ("items", "changes", "requests", "qualityprocesses")
#: Queries of items that change nothing here.
_ITEM_QUERIES = (
    *("responseview", "criteria", "description", "revisionNumber", "category.guid", "category.name"),
    *("includeChildCategories", "owner.fullName", "creator.fullName", "creator.guid", "creator.email"),
    *("lifecyclePhase.guid", "lifecyclePhase.stage", "assemblyType", "inAssembly"),
    *("effectiveDateTimeFrom", "effectiveDateTimeTo"),
    *("modifiedBom", "modifiedFiles", "modifiedSourcing", "modifiedSpecs"),
)
_MODES = ("CREATE", "EDIT", "OVERWRITE", "REPLACE", "DELETE")
_RESOURCES = ("ITEM_SPECS", "ITEM_BOM", "ITEM_FILES", "FILE_SUMMARY")


class ArenaSimulator(SimulatedService):
    """
    A local Arena with one workspace; an async context manager.

    By default it holds one extract with a completed run and one zip per run, one export definition and one import
    definition with runs of their own, some vault files (with and without content) and an item.

    Args:
        files: How many extract runs of one zip each there are; or names and sizes of the zips of one single run.
        size: Bytes of a generated file, or a function from its number to that.
        exports: Completed runs of the export definition.
        imports: Completed runs of the import definition.
        quota: Requests a day that the workspace may spend.
        port: The port; 0 for any free one.
        clock: Seconds since 1970; a test hands in one that jumps.
        email: Who may log in.
        password: With what.
        workspace_id: The workspace the login lands in without asking; ``lands_in`` overrides what is asked for.
        lands_in: Log everybody into this workspace, whatever they asked for.
        client_id: The machine user, who trades this and its secret for tokens that end nobody's session.
        client_secret: Its secret.
        token_lifetime: Seconds that its tokens live.
        session_key: The spelling of the session id in the answer to a login.
        count: What ``count`` of a list says: ``"page"`` (rows in this page), ``"total"``, or any value to print as is.
        shape: How rows are wrapped: ``"results"``, ``"Results"``, ``"bare"`` (a list), and for lists without rows also
            ``"null"`` and ``"missing"``.
        paging: ``"honoured"``; ``"limit ignored"`` (20 rows at a time); ``"ignored"`` (all rows every time);
            ``"refused"`` (3200 for lists whose paging only some pages document: runs and their files).
        honours_view: Whether ``view=withFiles`` works on lists of extract runs.
        ignored_filters: Search attributes that are overlooked, so that everything is returned.
        status_names: Other spellings of run states, for instance ``{"Completed": "COMPLETED"}``.
        sizes_as_text: Whether file sizes are written as strings.
        needs_content_type: Whether a request without ``Content-Type: application/json`` is refused with 415.
        quota_headers: On which answers the quota headers come.
        gzipped: Whether JSON is gzipped for clients that accept it.
        etag: The validator of content: none (as documented), ``"strong"`` or ``"weak"``.
        ranges: Whether ``Range`` is honoured on content.
        content_md5: Whether content comes with ``Content-MD5``.
        disposition: Whether content comes with ``Content-Disposition``.
        run_polls: How often a new run is shown unfinished before it is done.
        run_seconds: Seconds until a new run is done; counts instead of ``run_polls``.
    """

    def __init__(
        self,
        *,
        files: int | Mapping[str, int] = 3,
        size: Size = 20_000,
        exports: int = 2,
        imports: int = 1,
        quota: int = 10_000,
        port: int = 0,
        clock: Callable[[], float] = time.time,
        email: str = "integration@example.com",
        password: str = "correct horse",  # noqa: S107 - the door of a local stage set
        workspace_id: int = 899_123_456,
        lands_in: int | None = None,
        client_id: str = "0oa1machine",
        client_secret: str = "correct staple",  # noqa: S107 - the door of a local stage set
        token_lifetime: float = 5399.0,
        session_key: Literal["arenaSessionId", "arena_session_id"] = "arenaSessionId",
        count: object = "page",
        shape: Literal["results", "Results", "bare", "null", "missing"] = "results",
        paging: Literal["honoured", "limit ignored", "ignored", "refused"] = "honoured",
        honours_view: bool = True,
        ignored_filters: Iterable[str] = (),
        status_names: Mapping[str, str] | None = None,
        sizes_as_text: bool = False,
        needs_content_type: bool = True,
        quota_headers: Literal["always", "success", "never"] = "always",
        gzipped: bool = False,
        etag: Literal["strong", "weak"] | None = None,
        ranges: bool = False,
        content_md5: bool = False,
        disposition: bool = False,
        run_polls: int = 1,
        run_seconds: float | None = None,
    ) -> None:
        super().__init__(port=port, clock=clock)
        self.email, self.password, self.workspace_id = email, password, workspace_id
        self.client_id, self.client_secret, self.token_lifetime = client_id, client_secret, token_lifetime
        self.quota, self.lands_in, self.session_key = quota, lands_in, session_key
        self.count, self.shape, self.paging, self.honours_view = count, shape, paging, honours_view
        self.ignored_filters, self.status_names = frozenset(ignored_filters), dict(status_names or {})
        self.sizes_as_text, self.needs_content_type = sizes_as_text, needs_content_type
        self.quota_headers, self.gzipped = quota_headers, gzipped
        self.etag, self.ranges, self.content_md5, self.disposition = etag, ranges, content_md5, disposition
        self.run_polls, self.run_seconds = run_polls, run_seconds
        #: How runs that are started from now on end: ``"Failed"``, ``"FAILED"``, ``"ERROR"`` ...; None for well.
        self.run_outcome: str | None = None
        #: How many rows fail of what is imported from now on.
        self.import_errors = 0
        self._guid = Guids()
        self._size = size
        self._spent = 0
        self._resets_at = pacific_midnight_after(clock())
        self._sessions: dict[str, Session] = {}
        self._usage: Counter[tuple[str, str, str, str]] = Counter()
        self._made = 0
        self._fill(files, exports, imports)

    # ------------------------------------------------------------------ the world, and what a test does to it

    def _fill(self, files: int | Mapping[str, int], exports: int, imports: int) -> None:
        """Put the default things into the workspace."""
        self.user = User(self.email, self.password, "Ida Integration", self._guid())
        self.users = {self.email.lower(): self.user}
        self.extracts: dict[str, Extract] = {}
        self.exports: dict[str, Export] = {}
        self.imports: dict[str, Import] = {}
        self.vault: dict[str, StoredFile] = {}
        self.items: dict[str, Item] = {}
        self.integrations: dict[str, EventIntegration] = {}
        self.queues: dict[str, EventIntegration] = {}
        #: The guids of the first extract, export definition and import definition.
        self.extract = self.add_extract().guid
        self.export = self.add_export().guid
        self.import_ = self.add_import().guid
        #: The guids of the first integrations of outbound events, of the newer and of the older generation.
        self.integration = self.add_integration().guid
        self.queue = self.add_integration("ERP integration", queue=True).guid
        if isinstance(files, Mapping):
            self.add_extract_run(files=files)
        else:
            for number in range(files):
                self.add_extract_run(age=3600.0 * (files - number))
        for number in range(exports):
            self.add_export_run(age=3600.0 * (exports - number))
        for number in range(imports):
            self.add_import_run(age=3600.0 * (imports - number))
        drawing = self.add_file("drawing.pdf", size=4000)
        self.add_file("datasheet.html", storage="WEB", location="https://example.com/datasheet.html")
        self.add_file("to come.docx", storage="PLACE_HOLDER")
        self.add_item("900-00001", files=[drawing])

    def add_user(self, email: str, password: str, *, full_name: str = "Olga Other") -> User:
        """Let somebody else log in."""
        made = User(email, password, full_name, self._guid())
        self.users[email.lower()] = made
        return made

    def add_extract(self, name: str = "Nightly extract", *, enabled: bool = True, kind: str = "Full") -> Extract:
        """Add an extract without runs; the default user is its owner."""
        made = Extract(
            guid=self._guid(),
            name=name,
            creator=self.user,
            created=self._past(86400.0 * 365),
            enabled=enabled,
            kind=kind,
            owners=[self.user],
        )
        self.extracts[made.guid] = made
        return made

    def add_extract_run(
        self,
        *,
        files: Mapping[str, int] | int = 1,
        extract: str | None = None,
        status: str = "Completed",
        age: float = 0.0,
        kind: str | None = None,
    ) -> ExtractRun:
        """
        Add a run to an extract (the first one).

        Args:
            files: Names and sizes of its zips, or how many there are under names as the vendor makes them.
            extract: The guid of the extract.
            status: Its state; only a completed one has files.
            age: How many seconds ago it was done.
            kind: ``Full`` or ``Delta``; as the extract by default.
        """
        owner = self.extracts[extract or self.extract]
        done = self._past(age)
        run = ExtractRun(
            guid=self._guid(),
            status=status,
            creator=self.user,
            started=done - 120,
            scheduled=done - 120,
            completed=None if status in _OPEN else done,
            kind=kind or owner.kind,
        )
        if status == "Completed":
            run.files = self._zips(files, done)
        owner.runs.append(run)
        return run

    def add_export(self, name: str = "Released items", *, criteria: Any = "default") -> Export:
        """Add an export definition without runs; ``criteria=None`` leaves them to the run."""
        default = [[{"attribute": "number", "operator": "STARTS_WITH", "value": "900-"}]]
        made = Export(
            guid=self._guid(),
            number=len(self.exports) + 1,
            name=name,
            description="Everything that is released",
            creator=self.user,
            created=self._past(86400.0 * 30),
            criteria=default if criteria == "default" else criteria,
            options={
                "bomLevels": "FULL",
                "exportViews": ["SPECS", "BOM", "FILES"],
                "header": "apiName",
                "format": "csv",
            },
        )
        self.exports[made.guid] = made
        return made

    def add_export_run(
        self,
        *,
        export: str | None = None,
        status: str = "COMPLETE",
        age: float = 0.0,
        size: int | None = None,
        creator: User | None = None,
        files: int = 1,
    ) -> ExportRun:
        """Add a run to an export definition (the first one); of somebody else with ``creator``."""
        owner = self.exports[export or self.export]
        done = self._past(age)
        run = ExportRun(
            guid=self._guid(),
            number=len(owner.runs) + 1,
            status=status,
            creator=creator or self.user,
            created=done - 60,
            completed=None if status in _OPEN else done,
            criteria=owner.criteria,
            matched=12,
        )
        if status in _GOOD_EXPORT:
            run.files = [self._export_zip(owner, done, size) for _ in range(files)]
        owner.runs.append(run)
        return run

    def add_import(self, name: str = "Supplier prices", *, resource: str = "ITEM_SPECS", mode: str = "EDIT") -> Import:
        """Add an import definition without runs."""
        made = Import(
            guid=self._guid(),
            number=len(self.imports) + 1,
            name=name,
            creator=self.user,
            created=self._past(86400.0 * 30),
            resource=resource,
            mode=mode,
            options={"createDuplicates": "ERROR", "mapping": []},
        )
        self.imports[made.guid] = made
        return made

    def add_import_run(
        self,
        *,
        import_: str | None = None,
        status: str = "COMPLETE",
        age: float = 0.0,
        size: int | None = None,
        errors: int = 1,
        creator: User | None = None,
        submit_type: str = "CSV",
    ) -> ImportRun:
        """Add a run to an import definition (the first one). Without ``errors`` there is no error content."""
        owner = self.imports[import_ or self.import_]
        done = self._past(age)
        run = ImportRun(
            guid=self._guid(),
            number=len(owner.runs) + 1,
            status=status,
            creator=creator or self.user,
            created=done - 60,
            completed=None if status in _OPEN else done,
            submit_type=submit_type,
            worksheet="Item Master" if submit_type == "EXCEL_WORKSHEET" else None,
            total=100,
            errors=errors,
        )
        bytes_each = size or self._next_size()
        # A worksheet is a zip inside.
        kind = "csv" if submit_type == "CSV" else "zip"
        run.submitted = payload(f"submit.{kind}", bytes_each, seed=run.guid)
        run.result = payload(f"result.{kind}", bytes_each + 300, seed=run.guid)
        run.error = payload(f"error.{kind}", max(200, bytes_each // 20), seed=run.guid) if errors else None
        owner.runs.append(run)
        return run

    def add_file(
        self,
        name: str,
        *,
        size: int = 1000,
        storage: Literal["FILE", "PLACE_HOLDER", "FTP", "WEB"] = "FILE",
        location: str | None = None,
    ) -> StoredFile:
        """Add a file to the vault."""
        guid = self._guid()
        made = StoredFile(
            guid=guid,
            name=name,
            content=payload(name, size, seed=guid) if storage == "FILE" else None,
            created=self._past(86400.0),
            number=f"FILE-{len(self.vault) + 1:06d}",
            title=name.rpartition(".")[0],
            edition="1",
            storage=storage,
            location=location,
            latest=True,
            author=self.user,
            family=guid,
        )
        self.vault[guid] = made
        return made

    def add_item(self, number: str, *, name: str = "Bracket", files: Iterable[StoredFile] = ()) -> Item:
        """Add an item with some files of the vault."""
        made = Item(guid=self._guid(), number=number, name=name, created=self._past(86400.0))
        made.files = [Association(self._guid(), file, primary=place == 0) for place, file in enumerate(files)]
        self.items[made.guid] = made
        return made

    def add_integration(self, name: str = "Outbound events", *, queue: bool = False) -> EventIntegration:
        """Add an integration without events; ``queue`` makes it one of the older generation."""
        made = EventIntegration(guid=self._guid(), name=name, creator=self.user, created=self._past(86400.0 * 90))
        (self.queues if queue else self.integrations)[made.guid] = made
        return made

    def add_event(
        self, *, items: Sequence[str] = (), kind: str = "items", age: float = 0.0, integration: str | None = None
    ) -> OutboundEvent:
        """
        Add an event that nobody has reconciled to an integration (the first one of the newer generation).

        Args:
            items: The guids of what it is about; one made-up thing if empty.
            kind: ``items``, ``changes``, ``requests`` or ``qualityprocesses``.
            age: How many seconds ago it happened.
            integration: The guid of the integration, of either generation.
        """
        owner = {**self.integrations, **self.queues}[integration or self.integration]
        made = OutboundEvent(guid=self._guid(), created=self._past(age), creator=self.user)
        for about in items or [self._guid()]:
            made.resources.append(OutboundResource(guid=self._guid(), kind=kind, about=about))
        owner.events.append(made)
        return made

    @property
    def token_url(self) -> str:
        """Where machine users get their tokens."""
        return f"{self.origin()}/oauth2/token"

    @property
    def base_url(self) -> str:
        """The base of the API with its version, as clients want it."""
        return f"{self.origin()}/v1"

    @property
    def remaining(self) -> int:
        """Requests that the workspace may still spend today; may be set."""
        self._renew_quota()
        return max(0, self.quota - self._spent)

    @remaining.setter
    def remaining(self, value: int) -> None:
        self._spent = self.quota - value

    @property
    def resets_at(self) -> float:
        """When the quota starts anew, in seconds since 1970."""
        self._renew_quota()
        return self._resets_at

    @property
    def files(self) -> dict[str, Payload | Blob]:
        """Every file that can be had, by its place in the documented layout of a folder."""
        found: dict[str, Payload | Blob] = {}
        for extract in self.extracts.values():
            for extract_run in extract.runs:
                for one in extract_run.files:
                    place = f"arena/extracts/{extract.guid}/{extract_run.guid}/{one.guid}.{one.file.format}"
                    _put(found, place, one.file.content)
        for export in self.exports.values():
            for export_run in export.runs:
                for file in export_run.files if export_run.creator is self.user else ():
                    place = f"arena/exports/{export.guid}/{export_run.guid}/{file.guid}.{file.format}"
                    _put(found, place, file.content)
        for import_ in self.imports.values():
            for run in import_.runs:
                place = f"arena/imports/{import_.guid}/{run.guid}"
                for part, content in (("submit", run.submitted), ("result", run.result), ("error", run.error)):
                    _put(found, f"{place}/{part}.{'csv' if run.submit_type == 'CSV' else 'xlsx'}", content)
        return found

    @property
    def stored_files(self) -> dict[str, Payload | Blob]:
        """Every file of an item or of the vault that has content, by its place in the documented layout of a folder."""
        found: dict[str, Payload | Blob] = {}
        for item in self.items.values():
            for tie in item.files:
                _put(found, f"arena/items/{item.guid}/{tie.guid}.{tie.file.format}", tie.file.content)
        for file in self.vault.values():
            _put(found, f"arena/files/{file.guid}/{file.edition}.{file.format}", file.content)
        return found

    @property
    def sha256(self) -> dict[str, str]:
        """The SHA-256 of every file, by its place in the documented layout of a folder."""
        return {place: content.sha256 for place, content in self.files.items()}

    def stored(self, name: str) -> StoredFile:
        """
        Find a file by its own guid, the guid of its association or of its run, or its name.

        Raises:
            KeyError: There is none.
        """
        ties = [
            (one, (one.guid, run.guid))
            for extract in self.extracts.values()
            for run in extract.runs
            for one in run.files
        ]
        ties += [(one, (one.guid, item.guid)) for item in self.items.values() for one in item.files]
        for one, names in ties:
            if name in (*names, one.file.guid, one.file.name):
                return one.file
        for export in self.exports.values():
            for export_run in export.runs:
                for file in export_run.files:
                    if name in (export_run.guid, file.guid, file.name):
                        return file
        for file in self.vault.values():
            if name in (file.guid, file.name):
                return file
        raise KeyError(name)

    def content(self, name: str) -> bytes:
        """
        Give the whole content of a file, found as :meth:`stored` finds it.

        Raises:
            KeyError: There is none, or it has no content.
        """
        content = self.stored(name).content
        if content is None:
            raise KeyError(name)
        return b"".join(content.chunks())

    def change(self, name: str) -> None:
        """Put other bytes of the same size into a file, found as :meth:`stored` finds it."""
        self.stored(name).change(self.clock())

    def remove(self, name: str) -> None:
        """Let the content of a file be gone while it stays listed."""
        self.stored(name).gone = True

    def end_sessions(self) -> None:
        """End every session, as a login of the same users elsewhere would."""
        for session in self._sessions.values():
            session.alive = False

    def describe(self) -> dict[str, Any]:
        """Give addresses, credentials, guids and the environment to export, for showing to a person."""
        return {
            "service": "arena",
            "base_url": self.base_url,
            "email": self.email,
            "password": self.password,
            "workspace_id": self.workspace_id,
            "extract": self.extract,
            "export": self.export,
            "import": self.import_,
            "files": len(self.files),
            "environment": {
                "ARENA_BASE_URL": self.base_url,
                "ARENA_EMAIL": self.email,
                "ARENA_PASSWORD": self.password,
                "ARENA_WORKSPACE_ID": str(self.workspace_id),
            },
        }

    def _past(self, age: float) -> float:
        """Give a whole second some time ago."""
        return float(int(self.clock() - age))

    def _next_size(self) -> int:
        """Give the size of the next generated file."""
        self._made += 1
        return self._size(self._made - 1) if callable(self._size) else self._size

    def _zips(self, files: Mapping[str, int] | int, at: float) -> list[Association]:
        """Make the files of an extract run."""
        stamp = datetime.fromtimestamp(at, UTC).strftime("%Y%m%d_%H%M%SZ")
        if isinstance(files, int):
            names = [(f"Extract_{stamp}_{self._guid()}.zip", self._next_size()) for _ in range(files)]
        else:
            names = list(files.items())
        made = []
        for name, size in names:
            guid = self._guid()
            file = StoredFile(guid=guid, name=name, content=payload(name, size, seed=guid), created=at)
            made.append(Association(self._guid(), file))
        return made

    def _export_zip(self, export: Export, at: float, size: int | None = None) -> StoredFile:
        """Make the file of an export run."""
        guid = self._guid()
        return StoredFile(
            guid=guid,
            name=f"{export.name} Export Results.zip",
            content=payload("export.zip", size or self._next_size(), seed=guid),
            created=at,
            mime_type="application/zip",
            locked=True,
            author=self.user,
        )

    # ------------------------------------------------------------------ metering and sessions

    def _renew_quota(self) -> None:
        """Start a new day when midnight in California has passed."""
        if self.clock() >= self._resets_at:
            self._spent = 0
            self._resets_at = pacific_midnight_after(self.clock())

    def _session_of(self, call: Call) -> Session | None:
        """Find the session of a request, alive or not; the token of a machine user stands for one."""
        kind, _, token = call.seen.headers.get("Authorization", "").partition(" ")
        name = token if kind.lower() == "bearer" else call.seen.headers.get("arena_session_id", "")
        return self._sessions.get(name)

    def admit(self, call: Call) -> None:
        """Count the request, whatever becomes of it; logins are free, and strangers have no account to book on."""
        session = self._session_of(call)
        if session is None or _is_login(call):
            return
        self._renew_quota()
        self._spent += 1
        day = (write_time(self.clock()) or "")[:10]
        self._usage[(day, call.seen.method, _endpoint(call.seen.path), session.user.email)] += 1

    def dress(self, call: Call, reply: Reply) -> Reply:
        """Add the headers of every documented answer, and gzip it where that is switched on."""
        given: dict[str, str | None] = {"Server": "ArenaSolutions"}
        told = self.quota_headers == "always" or (self.quota_headers == "success" and reply.status < 300)
        if told and self._session_of(call) is not None and not _is_login(call):
            given["X-Arena-Requests-Remaining"] = str(self.remaining)
            given["X-Arena-Next-Request-Limit-Reset"] = write_reset(self.resets_at)
        if self.gzipped and isinstance(reply.body, bytes) and reply.body and _accepts_gzip(call):
            given["Content-Encoding"] = "gzip"
            reply = attrs.evolve(reply, body=gzip.compress(reply.body, mtime=0))
        return reply.adding(given)

    def befall(self, event: str, call: Call) -> None:
        """Let the session of the request be over, or the file that it asks for change."""
        if event == "expire_session":
            session = self._session_of(call)
            if session is not None:
                session.alive = False
        elif event == "change":
            asked = [name for name in call.vars.values() if re.fullmatch(r"[0-9A-Z]{15,24}", name)]
            self.change(asked[-1])
        else:
            super().befall(event, call)

    def unknown(self, call: Call, *, other_method: bool) -> Reply:  # noqa: ARG002 - the path says nothing more
        """Answer what is no end point."""
        code = 405 if other_method else 404
        return _refusal(
            code, code, "The method is not allowed here." if other_method else "There is nothing here."
        ).reply

    def _guarded(self, handler: Handler, *, multipart: bool = False) -> Callable[[Call], Reply]:
        """Put session, quota and media type in front of a handler."""

        def answer(call: Call) -> Reply:
            session = self._session_of(call)
            if session is None or not session.alive or self._is_over(session):
                raise _refusal(401, 401, "There is no session, or it is not valid any more.")
            if self._spent > self.quota:
                limit = f"The limit of {self.quota} requests per day has been reached; it is reset at"
                raise _refusal(429, 4084, f"{limit} {write_time(self.resets_at)}.")
            session.last_action = self.clock()
            self._check_type(call, "multipart/form-data" if multipart else "application/json")
            return handler(call, session.user)

        return answer

    def _is_over(self, session: Session) -> bool:
        """Say whether a session has rested for too long, or a token has reached its end."""
        if session.ends is not None:
            return self.clock() >= session.ends
        return self.clock() - session.last_action > _IDLE

    def _check_type(self, call: Call, wanted: str) -> None:
        """Refuse a request with another media type than documented, GET included."""
        given = call.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if self.needs_content_type and given != wanted:
            raise _refusal(415, 415, f"The content-type must be {wanted}.")

    def _login(self, call: Call) -> Reply:
        """Log in: the session of the same user before it is over."""
        self._check_type(call, "application/json")
        asked = _object(call)
        user = self.users.get(str(asked.get("email", "")).lower())
        rejected = _refusal(400, 4001, "The email, the password or the workspace is not right.")
        if user is None:
            raise rejected
        if self.clock() < user.locked_until:
            raise _refusal(400, 4083, "The account is disabled for five minutes after too many attempts.")
        if asked.get("password") != user.password:
            user.rejected += 1
            if user.rejected >= _REJECTIONS:
                user.rejected, user.locked_until = 0, self.clock() + _LOCKED
                raise _refusal(400, 4083, "The account is disabled for five minutes after too many attempts.")
            raise rejected
        if asked.get("workspaceId", self.workspace_id) != self.workspace_id:
            raise rejected
        user.rejected = 0
        for other in self._sessions.values():
            if other.user is user and other.ends is None:
                other.alive = False
        session = Session(f"v1_{self._guid()}{self._guid()}", user, self.lands_in or self.workspace_id, self.clock())
        self._sessions[session.id] = session
        return Reply.json(
            {
                self.session_key: session.id,
                "workspaceId": session.workspace,
                "workspaceName": "Everyroad GPS",
                "workspaceRequestLimit": self.quota,
            }
        )

    def _token(self, call: Call) -> Reply:
        """Trade the secret of the machine user for a token; nobody's session ends by that."""
        form = dict(parse_qsl(call.body.decode("utf-8", "replace"), keep_blank_values=True))
        if form.get("grant_type") != "client_credentials":
            return Reply.json({"error": "unsupported_grant_type"}, status=400)
        if (form.get("client_id"), form.get("client_secret")) != (self.client_id, self.client_secret):
            return Reply.json({"error": "invalid_client"}, status=401)
        now = self.clock()
        session = Session(
            f"jwt.{self._guid()}.{self._guid()}", self.user, self.workspace_id, now, ends=now + self.token_lifetime
        )
        self._sessions[session.id] = session
        lifetime = int(self.token_lifetime)
        return Reply.json({"access_token": session.id, "expires_in": lifetime, "token_type": "Bearer"})

    def _logout(self, call: Call, _user: User) -> Reply:
        session = self._session_of(call)
        if session is not None:
            session.alive = False
        return Reply()

    # ------------------------------------------------------------------ the table

    def routes(self) -> Iterable[Route]:
        """Give the documented end points."""
        yield Route("POST", "/v1/login", self._login)
        yield Route("POST", "/oauth2/token", self._token)
        for line, handler in {**self._table_of_handlers(), **self._table_of_events()}.items():
            method, _, template = line.partition(" ")
            multipart = line == "POST /imports/{import_}/runs"
            yield Route(method, f"/v1{template}", self._guarded(handler, multipart=multipart))

    def _table_of_handlers(self) -> dict[str, Handler]:
        """Give the end points that need a session; the more particular ones first."""
        return {
            "PUT /logout": self._logout,
            "GET /extracts": self._extracts,
            "GET /extracts/{extract}": self._extract,
            "GET /extracts/{extract}/ownerusers": self._extract_owners,
            "GET /extracts/{extract}/runs": self._extract_runs,
            "POST /extracts/{extract}/runs": self._start_extract,
            "GET /extracts/{extract}/runs/latestCompleted": self._latest_extract_run,
            "GET /extracts/{extract}/runs/{run}": self._one_extract_run,
            "GET /extracts/{extract}/runs/{run}/files": self._extract_files,
            "GET /extracts/{extract}/runs/{run}/files/{file}": self._extract_file,
            "GET /extracts/{extract}/runs/{run}/files/{file}/content": self._extract_content,
            "GET /exports": self._exports,
            "POST /exports": self._define_export,
            "GET /exports/{export}": self._export,
            "GET /exports/{export}/runs": self._export_runs,
            "POST /exports/{export}/runs": self._start_export,
            "GET /exports/{export}/runs/latestCompleted": self._latest_export_run,
            "GET /exports/{export}/runs/{run}": self._one_export_run,
            "GET /exports/{export}/runs/{run}/files/{file}": self._export_file,
            "GET /exports/{export}/runs/{run}/files/{file}/content": self._export_content,
            "GET /imports": self._imports,
            "POST /imports": self._define_import,
            "GET /imports/{import_}": self._import,
            "PUT /imports/{import_}": self._rename_import,
            "GET /imports/{import_}/runs": self._import_runs,
            "POST /imports/{import_}/runs": self._start_import,
            "GET /imports/{import_}/runs/{run}": self._one_import_run,
            "PUT /imports/{import_}/runs/{run}": self._commit_import,
            "PUT /imports/{import_}/runs/{run}/complete": self._complete_import,
            "GET /imports/{import_}/runs/{run}/submitContent": self._submit_content,
            "GET /imports/{import_}/runs/{run}/resultContent": self._result_content,
            "GET /imports/{import_}/runs/{run}/errorContent": self._error_content,
            "GET /files": self._files,
            "GET /files/{file}": self._file,
            "GET /files/{file}/editions": self._editions,
            "GET /files/{file}/content": self._file_content,
            "GET /items": self._items,
            "GET /items/{item}": self._item,
            "GET /items/{item}/files": self._item_files,
            "GET /items/{item}/files/{file}": self._item_file,
            "GET /items/{item}/files/{file}/content": self._item_file_content,
            "GET /settings/recentactivities/apiusages": self._usages,
            "GET /settings/exports/attributes": self._export_attributes,
        }

    def _table_of_events(self) -> dict[str, Handler]:
        """Give the end points of outbound events, of both generations."""
        return {
            "GET /outboundevents": self._integrations,
            "GET /outboundevents/{integration}": self._integration,
            "GET /outboundevents/{integration}/triggers": self._triggers,
            "GET /outboundevents/{integration}/events": self._events,
            "GET /outboundevents/{integration}/events/{event}": self._one_event,
            "PUT /outboundevents/{integration}/events/{event}": self._settle_event,
            "GET /outboundevents/{integration}/events/{event}/{kind}": self._resources,
            "GET /outboundevents/{integration}/events/{event}/{kind}/{resource}": self._resource,
            "PUT /outboundevents/{integration}/events/{event}/{kind}/{resource}": self._settle_resource,
            "GET /outboundintegrations": self._queues,
            "GET /outboundintegrations/{queue}/events": self._queue_events,
            "GET /outboundintegrations/{queue}/events/{event}": self._queue_event,
            "PUT /outboundintegrations/{queue}/events/{event}": self._settle_queue_event,
            "GET /outboundintegrations/{queue}/events/{event}/items": self._queue_items,
            "GET /outboundintegrations/{queue}/events/{event}/itemguids": self._queue_item_guids,
        }

    # ------------------------------------------------------------------ lists

    def _list(
        self,
        call: Call,
        rows: Sequence[T],
        show: Callable[[T], dict[str, Any]],
        *,
        by: Mapping[str, Match] | None = None,
        also: Iterable[str] = (),
        settled: bool = True,
    ) -> Reply:
        """
        Answer with a page of the rows that match the query.

        ``by`` are the searchable attributes, ``also`` other parameters; ``settled`` says that every source documents
        paging.
        """
        searchable = by or {}
        if not settled and self.paging == "refused" and {"offset", "limit"} & set(call.query):
            raise _refusal(400, 3200, "The end point takes no such query parameters.")
        for name in call.query:
            if name not in (*searchable, *also, "offset", "limit") and name not in self.ignored_filters:
                raise _refusal(400, 3019, f"The attribute {json.dumps(name)} is not searchable.")
        wanted = [
            (fits, call.query[name])
            for name, fits in searchable.items()
            if name in call.query and name not in self.ignored_filters
        ]
        left = [row for row in rows if all(fits(row, text) for fits, text in wanted)]
        offset = _whole(call, "offset", 0, least=0, most=None, code=3041)
        limit = _whole(call, "limit", 20, least=1, most=400, code=3220)
        if self.paging == "ignored":
            page = left
        else:
            page = left[offset : offset + (20 if self.paging == "limit ignored" else limit)]
        return self._wrap([show(row) for row in page], total=len(left))

    def _wrap(self, rows: list[dict[str, Any]], *, total: int) -> Reply:
        """Put rows into the envelope."""
        if self.shape == "bare":
            return Reply.json(rows)
        count = len(rows) if self.count == "page" else total if self.count == "total" else self.count
        if not rows and self.shape == "missing":
            return Reply.json({"count": count})
        if not rows and self.shape == "null":
            return Reply.json({"count": count, "results": None})
        return Reply.json({"count": count, "Results" if self.shape == "Results" else "results": rows})

    def _spelt(self, status: str) -> str:
        """Spell a state as switched."""
        return self.status_names.get(status, status)

    def _advance(self, run: ExtractRun | ExportRun | ImportRun) -> None:
        """Let an open run go on: by the clock, or by how often it was looked at."""
        if run.status not in _OPEN or run.done_at is None:
            return
        if self.run_seconds is None:
            run.polls_left -= 1
            due = run.polls_left < 0
        else:
            due = self.clock() >= run.done_at
        if not due:
            run.status = "RUNNING" if run.status == "CREATED" else run.status
            return
        run.status, run.completed = run.outcome, self._past(0)
        if isinstance(run, ExtractRun) and run.outcome == "Completed":
            run.files = self._zips(1, run.completed)
        elif isinstance(run, ExportRun) and run.outcome in _GOOD_EXPORT:
            owner = next(one for one in self.exports.values() if run in one.runs)
            run.files = [self._export_zip(owner, run.completed)]

    def _open_run(self, run: ExtractRun | ExportRun | ImportRun, good: str) -> None:
        """Let a new run take its time."""
        run.polls_left = self.run_polls
        run.done_at = self.clock() + (self.run_seconds or 0.0)
        run.outcome = self.run_outcome or good

    # ------------------------------------------------------------------ extracts

    def _extracts(self, call: Call, _user: User) -> Reply:
        by = {
            "name": _text(lambda one: one.name),
            "enabled": _text(lambda one: str(one.enabled).lower()),
            "creator.fullName": _text(lambda one: one.creator.full_name),
        }
        return self._list(call, list(self.extracts.values()), Extract.as_json, by=by)

    def _extract(self, call: Call, _user: User) -> Reply:
        return Reply.json(_find(call, "extract", self.extracts).as_json())

    def _extract_owners(self, call: Call, _user: User) -> Reply:
        owners = _find(call, "extract", self.extracts).owners
        return self._list(call, owners, lambda one: {"guid": one.guid, "user": one.as_json()})

    def _extract_runs(self, call: Call, _user: User) -> Reply:
        runs = _newest(_find(call, "extract", self.extracts).runs)
        for run in runs:
            self._advance(run)
        with_files = self.honours_view and call.query.get("view") == "withFiles"
        by = {
            "status": _state(lambda one: one.status),
            **_span("scheduledDateTime", lambda one: one.scheduled),
            **_span("runDateTime", lambda one: one.started),
            **_span("completionDateTime", lambda one: one.completed),
            **_span("downloadDateTime", lambda one: next((tie.downloaded for tie in one.files), None)),
        }

        def show(run: ExtractRun) -> dict[str, Any]:
            return run.as_json(self._spelt, with_files=with_files)

        return self._list(call, runs, show, by=by, also=("view",), settled=False)

    def _start_extract(self, call: Call, user: User) -> Reply:
        extract = _find(call, "extract", self.extracts)
        _object(call)
        run = ExtractRun(guid=self._guid(), status="InProcess", creator=user, started=self._past(0), kind=extract.kind)
        self._open_run(run, "Completed")
        extract.runs.append(run)
        return Reply.json(run.as_json(self._spelt, with_files=False), status=201)

    def _latest_extract_run(self, call: Call, _user: User) -> Reply:
        runs = _find(call, "extract", self.extracts).runs
        done = [run for run in runs if run.status == "Completed" and run.completed is not None]
        if not done:
            raise _refusal(400, 3012, "No completed run was found.")
        latest = max(done, key=lambda run: run.completed or 0.0)
        return Reply.json(latest.as_json(self._spelt, with_files=call.query.get("view") == "withFiles"))

    def _extract_run(self, call: Call) -> ExtractRun:
        extract = _find(call, "extract", self.extracts)
        return _find(call, "run", {run.guid: run for run in extract.runs})

    def _one_extract_run(self, call: Call, _user: User) -> Reply:
        run = self._extract_run(call)
        self._advance(run)
        return Reply.json(run.as_json(self._spelt, with_files=call.query.get("view") == "withFiles"))

    def _show_tie(self, one: Association) -> dict[str, Any]:
        """Show what ties a file to an extract run."""
        file = one.file.as_json(size_as_text=self.sizes_as_text)
        return {"downloadDateTime": write_time(one.downloaded), "file": file, "guid": one.guid}

    def _extract_files(self, call: Call, _user: User) -> Reply:
        by = _span("downloadDateTime", lambda one: one.downloaded)
        return self._list(call, self._extract_run(call).files, self._show_tie, by=by, settled=False)

    def _extract_tie(self, call: Call) -> Association:
        return _find(call, "file", {one.guid: one for one in self._extract_run(call).files})

    def _extract_file(self, call: Call, _user: User) -> Reply:
        return Reply.json(self._show_tie(self._extract_tie(call)))

    def _extract_content(self, call: Call, user: User) -> Reply:
        tie = self._extract_tie(call)
        # Only an owner of the extract gets its zip, even where somebody else started the run.
        if user not in _find(call, "extract", self.extracts).owners:
            raise _forbidden()
        reply = self._content(call, tie.file)
        # The stamp is set by the first request for content, whether or not its body arrives.
        tie.downloaded = tie.downloaded or self._past(0)
        return reply

    # ------------------------------------------------------------------ exports

    def _exports(self, call: Call, _user: User) -> Reply:
        return self._list(call, list(self.exports.values()), Export.as_json, by=_DEFINITION)

    def _define_export(self, call: Call, user: User) -> Reply:
        asked = _object(call)
        name = asked.get("name")
        if not isinstance(name, str) or not name:
            raise _refusal(400, 3001, 'The attribute "name" is required.')
        if len(name) > 100:
            raise _refusal(400, 3003, 'The value of the attribute "name" is not valid.')
        options = asked.get("options") or {}
        if options.get("fileContent", {}).get("supplierItem") == "PRIMARY":
            raise _refusal(400, 4073, 'The value of the attribute "supplierItem" is not valid.')
        made = Export(
            guid=self._guid(),
            number=len(self.exports) + 1,
            name=name,
            description=asked.get("description"),
            creator=user,
            created=self._past(0),
            criteria=asked.get("criteria"),
            options=options,
        )
        self.exports[made.guid] = made
        return Reply.json(made.as_json(), status=201)

    def _export(self, call: Call, _user: User) -> Reply:
        return Reply.json(_find(call, "export", self.exports).as_json())

    def _export_runs(self, call: Call, _user: User) -> Reply:
        runs = _newest(_find(call, "export", self.exports).runs)
        for run in runs:
            self._advance(run)
        if call.query.get("latestCompleted", "").lower() == "true":
            done = [run for run in runs if run.status in _GOOD_EXPORT]
            runs = sorted(done, key=lambda run: run.completed or 0.0)[-1:]
        by = {
            **_span("completionDateTime", lambda one: one.completed, inclusive=True),
            "number": _text(lambda one: str(one.number)),
            "status": _state(lambda one: one.status),
        }
        show = _with(self._spelt, ExportRun.as_json)
        return self._list(call, runs, show, by=by, also=("latestCompleted",), settled=False)

    def _start_export(self, call: Call, user: User) -> Reply:
        export = _find(call, "export", self.exports)
        own = _object(call).get("criteria")
        if not own and not export.criteria:
            raise _refusal(400, 3140, "The export has no criteria: neither its definition nor the run gives any.")
        if own and export.criteria:
            raise _refusal(400, 3142, "The definition of the export has criteria already.")
        # Nobody says whether one at a time is meant per user or per workspace; the workspace is the harder reading.
        others = [run for one in self.exports.values() for run in one.runs]
        for run in others if self.run_seconds is not None else ():
            self._advance(run)
        if any(run.status in _OPEN for run in others):
            raise _refusal(400, 3144, "Another export is in progress; only one can run at a time.")
        run = ExportRun(
            guid=self._guid(),
            number=len(export.runs) + 1,
            status="CREATED",
            creator=user,
            created=self._past(0),
            criteria=own or export.criteria,
        )
        self._open_run(run, "COMPLETE")
        export.runs.append(run)
        return Reply.json(run.as_json(self._spelt), status=201)

    def _latest_export_run(self, call: Call, user: User) -> Reply:
        runs = _find(call, "export", self.exports).runs
        done = [run for run in runs if run.status in _GOOD_EXPORT and run.creator is user]
        if not done:
            raise _refusal(400, 3012, "No completed run was found.")
        return Reply.json(max(done, key=lambda run: run.completed or 0.0).as_json(self._spelt))

    def _export_run(self, call: Call, user: User) -> ExportRun:
        """Find a run; the list shows everybody's, but only who started it may look closer."""
        export = _find(call, "export", self.exports)
        run = _find(call, "run", {run.guid: run for run in export.runs})
        if run.creator is not user:
            raise _forbidden()
        return run

    def _one_export_run(self, call: Call, user: User) -> Reply:
        run = self._export_run(call, user)
        self._advance(run)
        return Reply.json(run.as_json(self._spelt))

    def _export_result(self, call: Call, user: User) -> StoredFile:
        run = self._export_run(call, user)
        file = _find(call, "file", {one.guid: one for one in run.files})
        # Results are removed after 60 days; the row of the run stays.
        if run.completed is not None and self.clock() - run.completed > _RETENTION:
            raise _unknown("file", file.guid)
        return file

    def _export_file(self, call: Call, user: User) -> Reply:
        shown = self._export_result(call, user).as_json(size_as_text=self.sizes_as_text)
        # The vendor's sample has a dot in the place of the second colon.
        modified = shown["lastModifiedDateTime"]
        return Reply.json({**shown, "lastModifiedDateTime": f"{modified[:16]}.{modified[17:]}"})

    def _export_content(self, call: Call, user: User) -> Reply:
        reply = self._content(call, self._export_result(call, user))
        self._export_run(call, user).status = "DOWNLOADED"
        return reply

    def _export_attributes(self, call: Call, _user: User) -> Reply:
        """List what criteria of exports may speak about; the pages disagree about the path, this is the newer one."""
        rows = [{"apiName": name, "name": name, "fieldType": "SINGLE_LINE_TEXT"} for name in ("number", "description")]
        also = ("world", "includePossibleValues", "creatableOnly", "editableOnly", "searchableOnly")
        return self._list(call, rows, dict, also=also)

    # ------------------------------------------------------------------ the import engine

    def _imports(self, call: Call, _user: User) -> Reply:
        by = {
            **_DEFINITION,
            "mode": _state(lambda one: one.mode),
            "resource": _state(lambda one: one.resource),
        }
        return self._list(call, list(self.imports.values()), Import.as_json, by=by)

    def _define_import(self, call: Call, user: User) -> Reply:
        asked = _object(call)
        name, mode, resource = asked.get("name"), str(asked.get("mode", "")), str(asked.get("resource", ""))
        for attribute in ("name", "mode", "resource"):
            if not asked.get(attribute):
                raise _refusal(400, 3001, f'The attribute "{attribute}" is required.')
        if mode.upper() not in _MODES or resource.upper() not in _RESOURCES:
            raise _refusal(400, 3003, "The value of an attribute is not valid.")
        made = Import(
            guid=self._guid(),
            number=len(self.imports) + 1,
            name=str(name),
            description=asked.get("description"),
            creator=user,
            created=self._past(0),
            mode=mode.upper(),
            resource=resource.upper(),
            options=asked.get("options") or {},
        )
        self.imports[made.guid] = made
        return Reply.json(made.as_json(), status=201)

    def _import(self, call: Call, _user: User) -> Reply:
        return Reply.json(_find(call, "import_", self.imports).as_json())

    def _rename_import(self, call: Call, _user: User) -> Reply:
        found = _find(call, "import_", self.imports)
        asked = _object(call)
        for attribute in asked:
            if attribute not in ("name", "description"):
                raise _refusal(400, 3032, f"The attribute {json.dumps(attribute)} is not editable.")
        found.name = asked.get("name", found.name)
        found.description = asked.get("description", found.description)
        return Reply.json(found.as_json(), status=201)

    def _import_runs(self, call: Call, _user: User) -> Reply:
        runs = _newest(_find(call, "import_", self.imports).runs)
        for run in runs:
            self._refresh_import(run)
        by = {**_CREATOR, "number": _text(lambda one: str(one.number)), "status": _state(lambda one: one.status)}
        return self._list(call, runs, _with(self._spelt, ImportRun.as_json), by=by, settled=False)

    def _start_import(self, call: Call, user: User) -> Reply:
        """Start a run; the small values come as parts or in the query, since the pages disagree."""
        owner = _find(call, "import_", self.imports)
        parts = {part.name: part for part in call.parts()}
        given = {name: part.body.decode("utf-8", "replace") for name, part in parts.items() if part.filename is None}
        given |= dict(call.query)
        if "submitContent" not in parts:
            raise _refusal(400, 3001, 'The attribute "submitContent" is required.')
        body = parts["submitContent"].body
        kind = given.get("submitFileType", "CSV").upper()
        if kind not in ("CSV", "EXCEL_WORKSHEET"):
            raise _refusal(400, 3003, 'The value of the attribute "submitFileType" is not valid.')
        rows = max(0, len(body.splitlines()) - 1) if kind == "CSV" else 1
        failed = min(self.import_errors, rows)
        bad = b"ERROR,3003,The value is not valid.\r\n" * failed
        run = ImportRun(
            guid=self._guid(),
            number=len(owner.runs) + 1,
            status="CREATED",
            creator=user,
            created=self._past(0),
            submit_type=kind,
            worksheet=given.get("submitWorksheetName", given.get("submitWorsheetName")),
            commit=given.get("commit", "false").lower() == "true",
            total=rows,
            errors=failed,
            submitted=Blob(body),
            result=Blob(b"status,code,message\r\n" + bad + b"SUCCESS,,\r\n" * (rows - failed)),
            error=Blob(b"status,code,message\r\n" + bad) if failed else None,
        )
        # A worksheet is a zip inside; what is none cannot be read.
        readable = kind == "CSV" or body.startswith(b"PK")
        self._open_run(run, "COMPLETE" if readable else "ERROR")
        owner.runs.append(run)
        return Reply.json(run.as_json(self._spelt), status=201)

    def _import_run(self, call: Call) -> ImportRun:
        owner = _find(call, "import_", self.imports)
        return _find(call, "run", {run.guid: run for run in owner.runs})

    def _refresh_import(self, run: ImportRun) -> None:
        """Let a run go on, and forget its results after 60 days."""
        self._advance(run)
        if run.status == "COMPLETE" and run.completed is not None and self.clock() - run.completed > _RETENTION:
            run.status = "PURGED"

    def _one_import_run(self, call: Call, _user: User) -> Reply:
        run = self._import_run(call)
        self._refresh_import(run)
        return Reply.json(run.as_json(self._spelt))

    def _commit_import(self, call: Call, _user: User) -> Reply:
        """Commit, asked for in the body or in the query; there is no way back."""
        run = self._import_run(call)
        asked = str(_object(call).get("commit", call.query.get("commit", ""))).lower()
        if asked != "true":
            raise _refusal(400, 3003, 'The value of the attribute "commit" is not valid.')
        run.commit = True
        return Reply.json(run.as_json(self._spelt), status=201)

    def _complete_import(self, call: Call, _user: User) -> Reply:
        run = self._import_run(call)
        run.status, run.completed = "COMPLETE", run.completed or self._past(0)
        return Reply.json(run.as_json(self._spelt))

    def _import_content(self, call: Call, pick: Callable[[ImportRun], Payload | Blob | None]) -> Reply:
        run = self._import_run(call)
        self._refresh_import(run)
        if run.status == "PURGED":
            raise _unknown("run", run.guid)
        found = pick(run)
        if found is None or run.status in _OPEN:
            raise _refusal(400, 3028, "The file has no content.")
        return self._content(call, StoredFile(guid=run.guid, name="content.csv", content=found, created=run.created))

    def _submit_content(self, call: Call, _user: User) -> Reply:
        return self._import_content(call, lambda run: run.submitted)

    def _result_content(self, call: Call, _user: User) -> Reply:
        return self._import_content(call, lambda run: run.result)

    def _error_content(self, call: Call, _user: User) -> Reply:
        return self._import_content(call, lambda run: run.error)

    # ------------------------------------------------------------------ files, items, activity

    def _show_file(self, file: StoredFile) -> dict[str, Any]:
        return file.as_json(size_as_text=self.sizes_as_text)

    def _files(self, call: Call, _user: User) -> Reply:
        by = {
            "title": _text(lambda one: one.title or ""),
            "number": _text(lambda one: one.number or ""),
            "name": _text(lambda one: one.name),
            "format": _text(lambda one: one.format),
        }
        latest = [file for file in self.vault.values() if file.latest]
        return self._list(call, latest, self._show_file, by=by, also=("includeChildCategories", "category.guid"))

    def _file(self, call: Call, _user: User) -> Reply:
        return Reply.json(self._show_file(_find(call, "file", self.vault)))

    def _editions(self, call: Call, _user: User) -> Reply:
        _without_query(call)
        family = _find(call, "file", self.vault).family
        rows = [self._show_file(file) for file in self.vault.values() if file.family == family]
        return self._wrap(rows, total=len(rows))

    def _file_content(self, call: Call, _user: User) -> Reply:
        return self._content(call, _find(call, "file", self.vault))

    def _items(self, call: Call, _user: User) -> Reply:
        by = {
            "number": _text(lambda one: one.number),
            "name": _text(lambda one: one.name),
            **{guid: _attribute(guid) for guid in call.query if re.fullmatch(r"[0-9A-Z]{15,24}", guid)},
        }
        if {"assemblyType", "inAssembly"} <= set(call.query):
            raise _refusal(400, 3851, "The attributes assemblyType and inAssembly cannot be combined.")
        if "criteria" in call.query:
            _criteria(call.query["criteria"])
        view = call.query.get("responseview", "compact")
        rows = list(self.items.values())
        return self._list(call, rows, lambda one: one.as_json(view=view), by=by, also=_ITEM_QUERIES)

    def _item(self, call: Call, _user: User) -> Reply:
        return Reply.json(_find(call, "item", self.items).as_json())

    def _show_item_file(self, one: Association) -> dict[str, Any]:
        file = self._show_file(one.file)
        return {"guid": one.guid, "primary": one.primary, "latestEditionAssociation": True, "file": file}

    def _item_files(self, call: Call, _user: User) -> Reply:
        _without_query(call)
        rows = [self._show_item_file(one) for one in _find(call, "item", self.items).files]
        return self._wrap(rows, total=len(rows))

    def _item_tie(self, call: Call) -> Association:
        return _find(call, "file", {one.guid: one for one in _find(call, "item", self.items).files})

    def _item_file(self, call: Call, _user: User) -> Reply:
        return Reply.json(self._show_item_file(self._item_tie(call)))

    def _item_file_content(self, call: Call, _user: User) -> Reply:
        return self._content(call, self._item_tie(call).file)

    def _usages(self, call: Call, _user: User) -> Reply:
        """Say who spent the quota; the pages document no paging here, so offset and limit mean nothing."""
        since, until = (call.query.get(f"dateTime{end}") for end in ("From", "To"))
        rows = [
            {
                "date": f"{day}T00:00:00Z",
                "method": method,
                "resource": endpoint.split("/")[1],
                "endpoint": endpoint,
                "count": count,
                "user": self.users[email.lower()].as_json(),
            }
            for (day, method, endpoint, email), count in sorted(self._usage.items())
            if (since is None or day >= since[:10]) and (until is None or day <= until[:10])
        ]
        return self._wrap(rows, total=len(rows))

    # ------------------------------------------------------------------ outbound events, of both generations

    def _integrations(self, call: Call, _user: User) -> Reply:
        by = {"name": _text(lambda one: one.name), "enabled": _flag(lambda one: one.enabled)}
        return self._list(call, list(self.integrations.values()), EventIntegration.as_json, by=by)

    def _integration(self, call: Call, _user: User) -> Reply:
        return Reply.json(_find(call, "integration", self.integrations).as_json())

    def _triggers(self, call: Call, _user: User) -> Reply:
        _find(call, "integration", self.integrations)
        rows = [{"action": "WORKFLOW", "guid": "M4O7Q3OF25GDWFYH0JPT", "name": "Release", "resource": "ITEM"}]
        return self._list(call, rows, dict)

    def _events(self, call: Call, _user: User) -> Reply:
        """List events, the newest first: whoever wants them in order sorts them."""
        rows = _newest(_find(call, "integration", self.integrations).events)
        by = {"resourcesReconciled": _flag(lambda one: one.reconciled)}
        return self._list(call, rows, OutboundEvent.as_json, by=by, also=("order",))

    def _event(self, call: Call) -> OutboundEvent:
        owner = _find(call, "integration", self.integrations)
        return _find(call, "event", {one.guid: one for one in owner.events})

    def _one_event(self, call: Call, _user: User) -> Reply:
        return Reply.json(self._event(call).as_json())

    def _settle_event(self, call: Call, _user: User) -> Reply:
        event = self._event(call)
        event.settle(done=_object(call).get("resourcesReconciled") is True, at=self._past(0))
        return Reply.json(event.as_json())

    def _resources(self, call: Call, _user: User) -> Reply:
        event, kind = self._event(call), call.vars["kind"]
        if kind not in _RESOURCE_KINDS:
            raise _refusal(404, 404, "There is nothing here.")
        rows = [one for one in event.resources if one.kind == kind]
        by = {
            "reconciled": _flag(lambda one: one.reconciled),
            **_span("reconciledDateTime", lambda one: one.reconciled_at, inclusive=True),
        }
        return self._list(call, rows, OutboundResource.as_json, by=by)

    def _resource_of(self, call: Call) -> OutboundResource:
        event = self._event(call)
        kind = call.vars["kind"]
        return _find(call, "resource", {one.guid: one for one in event.resources if one.kind == kind})

    def _resource(self, call: Call, _user: User) -> Reply:
        return Reply.json(self._resource_of(call).as_json())

    def _settle_resource(self, call: Call, _user: User) -> Reply:
        resource = self._resource_of(call)
        resource.reconciled = _object(call).get("reconciled") is True
        resource.reconciled_at = self._past(0) if resource.reconciled else None
        self._event(call).note()
        return Reply.json(resource.as_json())

    def _queues(self, call: Call, _user: User) -> Reply:
        by = {"name": _text(lambda one: one.name), "enabled": _flag(lambda one: one.enabled)}
        return self._list(call, list(self.queues.values()), EventIntegration.as_queue_json, by=by)

    def _queue_events(self, call: Call, _user: User) -> Reply:
        rows = _newest(_find(call, "queue", self.queues).events)
        by = {
            "itemsReconciled": _flag(lambda one: one.reconciled),
            **_span("creationDateTime", lambda one: one.created, inclusive=True),
        }
        return self._list(call, rows, OutboundEvent.as_queue_json, by=by)

    def _queued(self, call: Call) -> OutboundEvent:
        owner = _find(call, "queue", self.queues)
        return _find(call, "event", {one.guid: one for one in owner.events})

    def _queue_event(self, call: Call, _user: User) -> Reply:
        return Reply.json(self._queued(call).as_queue_json())

    def _settle_queue_event(self, call: Call, _user: User) -> Reply:
        event = self._queued(call)
        event.settle(done=_object(call).get("itemsReconciled") is True, at=self._past(0))
        return Reply.json(event.as_queue_json())

    def _queue_items(self, call: Call, _user: User) -> Reply:
        by = {"reconciled": _flag(lambda one: one.reconciled)}
        return self._list(call, self._queued(call).resources, OutboundResource.as_queue_json, by=by)

    def _queue_item_guids(self, call: Call, _user: User) -> Reply:
        """Give bare guids, all at once; without a word about it only those that are not reconciled."""
        wanted = call.query.get("reconciled", "false").lower()
        rows = [one.about for one in self._queued(call).resources if wanted in ("any", str(one.reconciled).lower())]
        return Reply.json({"count": len(rows), "results": rows})

    def _content(self, call: Call, file: StoredFile) -> Reply:
        """Answer with the bytes of a file, with as many proofs as are switched on."""
        if file.storage != "FILE" or file.content is None:
            raise _refusal(400, 3028, f'The file with guid "{file.guid}" has no content.')
        if file.gone:
            raise _refusal(400, 3017, f'The file with guid "{file.guid}" cannot be downloaded at this time.')
        headers: dict[str, str] = {}
        if self.disposition:
            headers["Content-Disposition"] = f'attachment; filename="{file.name}"'
        if self.content_md5:
            headers["Content-MD5"] = _md5(file.content)
        etag = None if self.etag is None else file.etag if self.etag == "strong" else f"W/{file.etag}"
        return give_content(call, file.content, etag=etag, ranges=self.ranges, headers=headers)


# ---------------------------------------------------------------------- refusals


def _refusal(status: int, code: int, message: str) -> Refusal:
    """Make the refusal of the service."""
    return Refusal(Reply.json({"status": status, "errors": [{"code": code, "message": message}]}, status=status))


def _forbidden() -> Refusal:
    """Make the refusal that does not say whether the thing exists."""
    message = "Either you do not have privileges to access the requested data or it does not exist."
    return _refusal(403, 3024, message)


def _unknown(kind: str, guid: str) -> Refusal:
    """Make the refusal for a well-formed guid that names nothing."""
    return _refusal(400, 3012, f'The {kind} with guid "{guid}" was not found.')


def _find(call: Call, name: str, among: Mapping[str, T]) -> T:
    """Find what a part of the path names."""
    guid = call.vars[name]
    if re.fullmatch(r"[0-9A-Z]{15,24}", guid) is None:
        raise _refusal(400, 3011, f'The guid "{guid}" is not valid.')
    found = among.get(guid)
    if found is None:
        raise _unknown(name.strip("_"), guid)
    return found


def _object(call: Call) -> dict[str, Any]:
    """Read a JSON object; no body is an empty one."""
    try:
        payload_ = call.json()
    except ValueError:
        raise _refusal(400, 400, "The request has bad syntax.") from None
    if payload_ is None:
        return {}
    if not isinstance(payload_, dict):
        raise _refusal(400, 400, "The request has bad syntax.")
    return payload_


def _whole(call: Call, name: str, default: int, *, least: int, most: int | None, code: int) -> int:
    """Read offset or limit."""
    text = call.query.get(name)
    if text is None:
        return default
    if re.fullmatch(r"-?[0-9]{1,18}", text) is None or int(text) < least or (most is not None and int(text) > most):
        raise _refusal(400, code, f'The value of "{name}" is not valid.')
    return int(text)


def _without_query(call: Call) -> None:
    """Refuse any query."""
    if call.query:
        raise _refusal(400, 3200, "The end point takes no query parameters.")


# ---------------------------------------------------------------------- search


def _text(read: Callable[[Any], str]) -> Match:
    """Match text as a whole, or its beginning where a ``*`` ends what is searched."""

    def fits(row: Any, wanted: str) -> bool:
        return read(row).startswith(wanted[:-1]) if wanted.endswith("*") else read(row) == wanted

    return fits


def _attribute(guid: str) -> Match:
    """Match the value of a custom attribute."""
    return lambda row, wanted: bool(row.attributes.get(guid) == wanted)


def _criteria(text: str) -> None:
    """Refuse criteria that are no lists of lists; what they say is not carried out."""
    try:
        groups = json.loads(text)
    except ValueError:
        groups = None
    if not isinstance(groups, list) or not all(isinstance(group, list | str) for group in groups):
        raise _refusal(400, 3003, 'The value of the attribute "criteria" is not valid.')


def _flag(read: Callable[[Any], bool]) -> Match:
    """Match true, false, or any."""
    return lambda row, wanted: wanted.lower() in ("any", str(read(row)).lower())


def _state(read: Callable[[Any], str]) -> Match:
    """Match a word of an enumeration in any spelling."""

    def plain(text: str) -> str:
        return re.sub(r"[\s_-]", "", text).lower()

    return lambda row, wanted: plain(read(row)) == plain(wanted)


def _span(name: str, read: Callable[[Any], float | None], *, inclusive: bool = False) -> dict[str, Match]:
    """Match instants after ``...From`` (or from it on) and up to ``...To``; what never happened matches nothing."""

    def after(row: Any, wanted: str) -> bool:
        at, bound = read(row), _instant(wanted)
        return at is not None and (at > bound or (inclusive and at == bound))

    def until(row: Any, wanted: str) -> bool:
        at, bound = read(row), _instant(wanted)
        return at is not None and at <= bound

    return {f"{name}From": after, f"{name}To": until}


def _instant(text: str) -> float:
    """Read an instant; only the documented form in UTC is one."""
    try:
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()
    except ValueError:
        raise _refusal(400, 3003, f"The value {json.dumps(text)} is not a valid date and time.") from None


_CREATOR: dict[str, Match] = {
    "creator.email": _text(lambda one: one.creator.email),
    "creator.fullName": _text(lambda one: one.creator.full_name),
    "creator.guid": _text(lambda one: one.creator.guid),
}
_DEFINITION: dict[str, Match] = {
    "name": _text(lambda one: one.name),
    "number": _text(lambda one: str(one.number)),
    "description": _text(lambda one: one.description or ""),
    **_CREATOR,
}


def _newest(runs: Sequence[T]) -> list[T]:
    """Put the newest first, so that pages shift while runs are added."""
    return list(reversed(runs))


def _with(
    spelt: Callable[[str], str], show: Callable[[T, Callable[[str], str]], dict[str, Any]]
) -> Callable[[T], dict[str, Any]]:
    """Bind the spelling of states to what shows a run."""
    return lambda row: show(row, spelt)


# ---------------------------------------------------------------------- odds


def _is_login(call: Call) -> bool:
    """Tell the requests that are not metered."""
    return call.seen.method == "POST" and call.seen.path in ("/v1/login", "/oauth2/token")


def _accepts_gzip(call: Call) -> bool:
    """Tell whether the client takes a gzipped answer."""
    return "gzip" in call.headers.get("Accept-Encoding", "").lower()


def _endpoint(path: str) -> str:
    """Take the guids out of a path."""
    return re.sub(r"/[0-9A-Z]{15,24}(?=/|$)", "/<GUID>", unquote(path).removeprefix("/v1"))


def _put(found: dict[str, Payload | Blob], place: str, content: Payload | Blob | None) -> None:
    """Note a file that has content."""
    if content is not None:
        found[place] = content


def _md5(content: Payload | Blob) -> str:
    """Write the MD5 of some content as ``Content-MD5`` has it."""
    digest = hashlib.md5(usedforsecurity=False)
    for piece in content.chunks():
        digest.update(piece)
    return base64.b64encode(digest.digest()).decode()
