"""The workspace of the simulated Arena: what lies in it, and what a test does to it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

from arena_async.testing.arena.records import (
    GOOD_EXPORT,
    OPEN,
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
)
from arena_async.testing.payloads import Payload, payload
from arena_async.testing.server import SimulatedService

__all__ = ["Size", "Workspace"]

Size = int | Callable[[int], int]


class Workspace(SimulatedService):
    """One workspace; its settings are those of :class:`~arena_async.testing.arena.simulator.ArenaSimulator`."""

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
            completed=None if status in OPEN else done,
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
            completed=None if status in OPEN else done,
            criteria=owner.criteria,
            matched=12,
        )
        if status in GOOD_EXPORT:
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
            completed=None if status in OPEN else done,
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

    def _renew_quota(self) -> None:
        """Start a new day when midnight in California has passed."""
        if self.clock() >= self._resets_at:
            self._spent = 0
            self._resets_at = pacific_midnight_after(self.clock())


def _put(found: dict[str, Payload | Blob], place: str, content: Payload | Blob | None) -> None:
    """Note a file that has content."""
    if content is not None:
        found[place] = content
