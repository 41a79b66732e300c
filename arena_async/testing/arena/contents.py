"""The contents of the simulated workspace, and the methods that add to them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

from arena_async.testing.arena.definitions import (
    GOOD_EXPORT,
    OPEN,
    EventIntegration,
    Export,
    ExportRun,
    Extract,
    ExtractRun,
    Import,
    ImportRun,
    OutboundEvent,
    OutboundResource,
)
from arena_async.testing.arena.records import (
    Association,
    Guids,
    Item,
    StoredFile,
    User,
)
from arena_async.testing.arena.settings import ArenaSettings
from arena_async.testing.payloads import payload

__all__ = ["Contents"]


class Contents(ArenaSettings):
    """Users, definitions, runs, files, items and events of one workspace."""

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        self._guid = Guids()
        self._made = 0
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

    def add_user(self, email: str, password: str, *, full_name: str = "Olga Other") -> User:
        """Add a user who may log in."""
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
            files: Names and sizes of its zips, or their number; then the names follow the vendor's pattern.
            extract: The guid of the extract.
            status: Its status; only a completed run has files.
            age: Seconds since its completion.
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
        """Add a run to an export definition (the first one); ``creator`` is another user."""
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
        # An .xlsx file is a zip.
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
        Add an event that is not reconciled to an integration (the first one of the newer generation).

        Args:
            items: The guids of its resources; one generated resource if empty.
            kind: ``items``, ``changes``, ``requests`` or ``qualityprocesses``.
            age: Seconds since it happened.
            integration: The guid of the integration, of either generation.
        """
        owner = {**self.integrations, **self.queues}[integration or self.integration]
        made = OutboundEvent(guid=self._guid(), created=self._past(age), creator=self.user)
        for about in items or [self._guid()]:
            made.resources.append(OutboundResource(guid=self._guid(), kind=kind, about=about))
        owner.events.append(made)
        return made

    def _past(self, age: float) -> float:
        """Return the time ``age`` seconds ago, in whole seconds."""
        return float(int(self.clock() - age))

    def _next_size(self) -> int:
        """Return the size of the next generated file."""
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
