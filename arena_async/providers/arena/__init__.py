"""Arena PLM: data extracts, exports and imports behind a session and a daily quota of requests."""

from __future__ import annotations

from arena_async.providers.arena.auth import ArenaCredentials, ArenaMachineCredentials
from arena_async.providers.arena.client import ArenaClient
from arena_async.providers.arena.criteria import (
    ITEM,
    UNCATEGORIZED,
    Criteria,
    Criterion,
    ItemFields,
    all_of,
    any_of,
    items_by_guid,
)
from arena_async.providers.arena.events import (
    EventIntegration,
    EventQueue,
    EventResource,
    Events,
    EventTrigger,
    OutboundEvent,
    PendingEvent,
    Watch,
)
from arena_async.providers.arena.exports import ExportFiles, Exports
from arena_async.providers.arena.extracts import ExtractFiles, Extracts
from arena_async.providers.arena.import_files import ImportPart, Submission
from arena_async.providers.arena.imports import ImportFiles, Imports
from arena_async.providers.arena.items import Files, Items
from arena_async.providers.arena.models import (
    ApiUsage,
    ArenaFile,
    Category,
    Change,
    ExportDefinition,
    ExportFile,
    ExportFileContent,
    ExportOptions,
    ExportRun,
    Extract,
    ExtractRun,
    FileAssociation,
    ImportDefinition,
    ImportMapping,
    ImportOptions,
    ImportRun,
    ImportRunWarning,
    ImportRunWarnings,
    Item,
    LifecyclePhase,
    LifecycleStatus,
    User,
)
from arena_async.providers.arena.queries import (
    EventResourceQuery,
    ExportQuery,
    ExportRunQuery,
    ExtractRunQuery,
    FileQuery,
    ImportQuery,
    ImportRunQuery,
    ItemQuery,
)
from arena_async.providers.arena.runs import RunSeen
from arena_async.providers.arena.sessions import SessionStore
from arena_async.providers.arena.settings import NORTH_AMERICA
from arena_async.providers.arena.stored import ItemFiles, StoredFiles
from arena_async.providers.started_run import Fetched

__all__ = [
    "ITEM",
    "NORTH_AMERICA",
    "UNCATEGORIZED",
    "ApiUsage",
    "ArenaClient",
    "ArenaCredentials",
    "ArenaFile",
    "ArenaMachineCredentials",
    "Category",
    "Change",
    "Criteria",
    "Criterion",
    "EventIntegration",
    "EventQueue",
    "EventResource",
    "EventResourceQuery",
    "EventTrigger",
    "Events",
    "ExportDefinition",
    "ExportFile",
    "ExportFileContent",
    "ExportFiles",
    "ExportOptions",
    "ExportQuery",
    "ExportRun",
    "ExportRunQuery",
    "Exports",
    "Extract",
    "ExtractFiles",
    "ExtractRun",
    "ExtractRunQuery",
    "Extracts",
    "Fetched",
    "FileAssociation",
    "FileQuery",
    "Files",
    "ImportDefinition",
    "ImportFiles",
    "ImportMapping",
    "ImportOptions",
    "ImportPart",
    "ImportQuery",
    "ImportRun",
    "ImportRunQuery",
    "ImportRunWarning",
    "ImportRunWarnings",
    "Imports",
    "Item",
    "ItemFields",
    "ItemFiles",
    "ItemQuery",
    "Items",
    "LifecyclePhase",
    "LifecycleStatus",
    "OutboundEvent",
    "PendingEvent",
    "RunSeen",
    "SessionStore",
    "StoredFiles",
    "Submission",
    "User",
    "Watch",
    "all_of",
    "any_of",
    "items_by_guid",
]
