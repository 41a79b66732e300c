"""Definitions of the simulated Arena: extracts, exports, imports and event integrations, with their runs and events."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from arena_async.testing.arena.records import Association, StoredFile, User, write_time
from arena_async.testing.content import Bytes
from arena_async.testing.payloads import Payload

__all__ = [
    "GOOD_EXPORT",
    "OPEN",
    "EventIntegration",
    "Export",
    "ExportRun",
    "Extract",
    "ExtractRun",
    "Import",
    "ImportRun",
    "OutboundEvent",
    "OutboundResource",
]

#: Statuses of a run in progress, and of an export run that has files.
OPEN = ("InProcess", "CREATED", "RUNNING")
GOOD_EXPORT = ("COMPLETE", "DOWNLOADED")


@attrs.define(eq=False, kw_only=True)
class ExtractRun:
    """One run of a data extract."""

    guid: str
    status: str
    creator: User
    started: float
    completed: float | None = None
    scheduled: float | None = None
    kind: str = "Full"
    files: list[Association] = attrs.field(factory=list)
    polls_left: int = 0
    done_at: float | None = None
    outcome: str = "Completed"

    def as_json(self, format_status: Callable[[str], str], *, with_files: bool) -> dict[str, Any]:
        """Return the run as JSON, deprecated duplicate fields included."""
        shown: dict[str, Any] = {
            "completionDate": write_time(self.completed),
            "completionDateTime": write_time(self.completed),
            "creationDateTime": None,
            "creator": {"fullName": self.creator.full_name},
            "guid": self.guid,
            "runDate": write_time(self.started),
            "runDateTime": write_time(self.started),
            "scheduledDate": write_time(self.scheduled),
            "scheduledDateTime": write_time(self.scheduled),
            "status": format_status(self.status),
            "type": self.kind,
            "viewsExtracted": 4,
        }
        if with_files:
            # The vendor lists no size and no name here.
            shown["files"] = [{"guid": one.guid, "downloadDateTime": write_time(one.downloaded)} for one in self.files]
        return shown


@attrs.define(eq=False, kw_only=True)
class Extract:
    """The definition of a data extract."""

    guid: str
    name: str
    creator: User
    created: float
    enabled: bool = True
    kind: str = "Full"
    owners: list[User] = attrs.field(factory=list)
    runs: list[ExtractRun] = attrs.field(factory=list)

    def as_json(self) -> dict[str, Any]:
        """Show the extract."""
        return {
            "creationDateTime": write_time(self.created),
            "creator": {"fullName": self.creator.full_name},
            "enabled": self.enabled,
            "guid": self.guid,
            "name": self.name,
            "type": self.kind,
        }


@attrs.define(eq=False, kw_only=True)
class ExportRun:
    """One run of an export definition."""

    guid: str
    number: int
    status: str
    creator: User
    created: float
    completed: float | None = None
    criteria: Any = None
    matched: int = 1
    files: list[StoredFile] = attrs.field(factory=list)
    polls_left: int = 0
    done_at: float | None = None
    outcome: str = "COMPLETE"

    def as_json(self, format_status: Callable[[str], str]) -> dict[str, Any]:
        """Show the run."""
        return {
            "completionDateTime": write_time(self.completed),
            "creationDateTime": write_time(self.created),
            "creator": self.creator.as_json(),
            "criteria": self.criteria,
            "criteriaResultsCount": self.matched,
            "files": [{"guid": one.guid, "title": one.title} for one in self.files],
            "guid": self.guid,
            "number": self.number,
            "status": format_status(self.status),
        }


@attrs.define(eq=False, kw_only=True)
class Export:
    """An export definition: it cannot be changed or removed."""

    guid: str
    number: int
    name: str
    creator: User
    created: float
    description: str | None = None
    criteria: Any = None
    options: dict[str, Any] = attrs.field(factory=dict)
    runs: list[ExportRun] = attrs.field(factory=list)

    def as_json(self) -> dict[str, Any]:
        """Show the definition."""
        return {
            "creationDateTime": write_time(self.created),
            "creator": self.creator.as_json(),
            "criteria": self.criteria,
            "description": self.description,
            "guid": self.guid,
            "name": self.name,
            "number": self.number,
            "options": self.options,
            "world": "ITEMS",
        }


@attrs.define(eq=False, kw_only=True)
class ImportRun:
    """One run of an import definition."""

    guid: str
    number: int
    status: str
    creator: User
    created: float
    completed: float | None = None
    submit_type: str = "CSV"
    worksheet: str | None = None
    commit: bool = False
    total: int = 0
    errors: int = 0
    options: dict[str, Any] = attrs.field(factory=dict)
    submitted: Payload | Bytes = attrs.field(factory=lambda: Bytes(b""))
    result: Payload | Bytes | None = None
    error: Payload | Bytes | None = None
    polls_left: int = 0
    done_at: float | None = None
    outcome: str = "COMPLETE"

    def as_json(self, format_status: Callable[[str], str]) -> dict[str, Any]:
        """Show the run."""
        return {
            "guid": self.guid,
            "number": self.number,
            "creationDateTime": write_time(self.created),
            "creator": self.creator.as_json(),
            "submitFileType": self.submit_type,
            "submitWorksheetName": self.worksheet,
            "completionDateTime": write_time(self.completed),
            "status": format_status(self.status),
            "warnings": {"count": 1, "results": [{"code": 331, "message": "Column 'Descrptn' ignored."}]},
            "commit": self.commit,
            "totalCount": self.total,
            "successCount": self.total - self.errors,
            "errorCount": self.errors,
            "options": self.options,
            "changes": [],
        }


@attrs.define(eq=False, kw_only=True)
class Import:
    """An import definition."""

    guid: str
    number: int
    name: str
    creator: User
    created: float
    description: str | None = None
    resource: str = "ITEM_SPECS"
    mode: str = "EDIT"
    options: dict[str, Any] = attrs.field(factory=dict)
    runs: list[ImportRun] = attrs.field(factory=list)

    def as_json(self) -> dict[str, Any]:
        """Show the definition."""
        return {
            "creationDateTime": write_time(self.created),
            "creator": self.creator.as_json(),
            "description": self.description,
            "guid": self.guid,
            "mode": self.mode,
            "name": self.name,
            "number": self.number,
            "options": self.options,
            "resource": self.resource,
        }


@attrs.define(eq=False, kw_only=True)
class OutboundResource:
    """A resource of an event: an item, a change, a request, a quality process."""

    guid: str
    kind: str
    about: str
    reconciled: bool = False
    reconciled_at: float | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the resource as newer events do; ``reconciledDatetime`` has a lower-case t there."""
        named = {"items": "item", "changes": "change", "requests": "request", "qualityprocesses": "qualityProcess"}
        shown: dict[str, Any] = {
            "guid": self.guid,
            named[self.kind]: {"guid": self.about},
            "postEvents": [{"guid": self.about}],
            "preEvents": [],
            "reconciled": self.reconciled,
        }
        if self.reconciled_at is not None:
            shown["reconciledDatetime"] = write_time(self.reconciled_at)
        return shown

    def as_queue_json(self) -> dict[str, Any]:
        """Show the resource as the older queue does."""
        return {"guid": self.guid, "effectiveItemRevision": {"guid": self.about}, "reconciled": self.reconciled}


@attrs.define(eq=False, kw_only=True)
class OutboundEvent:
    """One outbound event."""

    guid: str
    created: float
    creator: User
    resources: list[OutboundResource] = attrs.field(factory=list)
    reconciled: bool = False

    def settle(self, *, done: bool, at: float) -> None:
        """Mark the event and everything in it."""
        self.reconciled = done
        for one in self.resources:
            one.reconciled, one.reconciled_at = done, at if done else None

    def note(self) -> None:
        """Set the status of the event from its resources."""
        self.reconciled = all(one.reconciled for one in self.resources)

    def as_json(self) -> dict[str, Any]:
        """Show the event as the newer generation does."""
        return {
            "creationDateTime": write_time(self.created),
            "creator": self.creator.as_json(),
            "eventType": "OUTBOUND_EVENT",
            "guid": self.guid,
            "resourcesReconciled": self.reconciled,
            "status": "NEEDS_UPDATE",
            "triggers": [{"action": "WORKFLOW", "guid": "M4O7Q3OF25GDWFYH0JPT", "name": "Release", "resource": "ITEM"}],
        }

    def as_queue_json(self) -> dict[str, Any]:
        """Show the event as the older queue does."""
        return {
            "change": {"guid": "WEYH0DYPCFY1K2IIMYQ7", "number": "ECO-000022", "title": "Critical Changes"},
            "creationDateTime": write_time(self.created),
            "eventType": "CHANGE",
            "guid": self.guid,
            "itemsReconciled": self.reconciled,
            "status": "NEEDS_UPDATE",
        }


@attrs.define(eq=False, kw_only=True)
class EventIntegration:
    """An integration that collects events, of either generation."""

    guid: str
    name: str
    creator: User
    created: float
    enabled: bool = True
    events: list[OutboundEvent] = attrs.field(factory=list)

    def as_json(self) -> dict[str, Any]:
        """Show the integration as the newer generation does."""
        return {
            "creationDateTime": write_time(self.created),
            "creator": self.creator.as_json(),
            "enabled": self.enabled,
            "guid": self.guid,
            "lastModifiedDateTime": write_time(self.created),
            "modifyUser": self.creator.as_json(),
            "name": self.name,
            "status": "NEEDS_ATTENTION",
        }

    def as_queue_json(self) -> dict[str, Any]:
        """Show the integration as the older queue does, where the field is named ``enable``."""
        return {
            "enable": self.enabled,
            "guid": self.guid,
            "name": self.name,
            "status": "OUTBOUND_MANAGED",
            "transferType": "ITEM_REVISION",
            "type": "UP_TO_DATE",
        }
