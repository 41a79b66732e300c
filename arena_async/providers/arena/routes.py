"""
The endpoints this library knows, each declared once: method, path, and the queries it takes.

https://github.com/ptc-arena/arena-restapi-doc
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import attrs

from arena_async.errors import ConfigurationError
from arena_async.wire.messages import Request, join_path

__all__ = [
    "API_USAGES",
    "EVENT",
    "EVENTS",
    "EVENT_INTEGRATION",
    "EVENT_INTEGRATIONS",
    "EVENT_RECONCILE",
    "EVENT_RESOURCE",
    "EVENT_RESOURCES",
    "EVENT_RESOURCE_RECONCILE",
    "EVENT_TRIGGERS",
    "EXPORT",
    "EXPORTS",
    "EXPORT_ATTRIBUTES",
    "EXPORT_ATTRIBUTES_OLDER",
    "EXPORT_CONTENT",
    "EXPORT_DEFINE",
    "EXPORT_FILE",
    "EXPORT_LATEST_RUN",
    "EXPORT_RUN",
    "EXPORT_RUNS",
    "EXPORT_START",
    "EXTRACT",
    "EXTRACTS",
    "EXTRACT_ASSOCIATION",
    "EXTRACT_CHANGE",
    "EXTRACT_CONTENT",
    "EXTRACT_DEFINE",
    "EXTRACT_LATEST_RUN",
    "EXTRACT_OWNER",
    "EXTRACT_OWNERS",
    "EXTRACT_REMOVE",
    "EXTRACT_RUN",
    "EXTRACT_RUNS",
    "EXTRACT_RUN_FILES",
    "EXTRACT_START",
    "FILE",
    "FILES",
    "FILE_CONTENT",
    "FILE_EDITIONS",
    "FILE_WATERMARK",
    "IMPORT",
    "IMPORTS",
    "IMPORT_COMMIT",
    "IMPORT_COMPLETE",
    "IMPORT_CONTENT",
    "IMPORT_DEFINE",
    "IMPORT_RENAME",
    "IMPORT_RUN",
    "IMPORT_RUNS",
    "IMPORT_START",
    "ITEM",
    "ITEMS",
    "ITEM_FILE",
    "ITEM_FILES",
    "ITEM_FILE_CONTENT",
    "ITEM_FILE_WATERMARK",
    "ITEM_IMAGE",
    "LOGIN",
    "LOGOUT",
    "QUEUES",
    "QUEUE_EVENT",
    "QUEUE_EVENTS",
    "QUEUE_EVENT_RECONCILE",
    "QUEUE_ITEMS",
    "QUEUE_ITEM_GUIDS",
    "ROUTES",
    "TOKEN",
    "Route",
    "write_datetime",
]


@attrs.frozen
class Route:
    """
    One endpoint.

    Args:
        method: The method.
        path: The path below the base URL, with names in braces for identifiers.
        params: The names of its query, in the vendor's spelling, apart from offset and limit.
        calls: What of the client asks it, for the table of endpoints.
        why_not: Why nothing does, where that is so.
    """

    method: str
    path: str
    params: tuple[str, ...] = ()
    calls: tuple[str, ...] = attrs.field(default=(), kw_only=True)
    why_not: str = attrs.field(default="", kw_only=True)

    def request(self, params: Mapping[str, object] | None = None, **identifiers: object) -> Request:
        """
        Build a request; queries that are None are left out.

        Raises:
            ConfigurationError: An identifier is not a single safe path segment, or a date-time has no zone.
        """
        given = dict(params or {})
        if strange := set(given) - set(self.params):
            raise ConfigurationError(f"{self.method} {self.path} takes no query named {', '.join(sorted(strange))}.")
        query = {
            name: write_datetime(value, what=name) if isinstance(value, datetime) else value
            for name, value in given.items()
        }
        return Request(method=self.method, path=join_path(self.path, **identifiers), params=_spelt(query))


def _spelt(query: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Make pairs of what is not None; true and false are spelt in lower case."""
    return tuple(
        (name, str(value).lower() if isinstance(value, bool) else str(value))
        for name, value in query.items()
        if value is not None
    )


def write_datetime(moment: datetime, *, what: str) -> str:
    """
    Write a date-time as the service wants it: UTC, whole seconds, ``Z``.

    Raises:
        ConfigurationError: It has no zone, so that it could mean any hour.
    """
    if moment.tzinfo is None or moment.utcoffset() is None:
        raise ConfigurationError(
            f"{what} is {moment.isoformat()} without a time zone; give an aware one, for instance with tzinfo=UTC."
        )
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


LOGIN: Final = Route("POST", "/login", calls=("ArenaCredentials",))
LOGOUT: Final = Route("PUT", "/logout", calls=("aclose",))
#: At the token endpoint of the region, which is another host.
TOKEN: Final = Route("POST", "/oauth2/token", calls=("ArenaMachineCredentials",))

_CREATOR = ("creator.guid", "creator.email", "creator.fullName")

EXTRACTS: Final = Route("GET", "/extracts", ("name", "enabled", "creator.fullName"), calls=("extracts.search",))
EXTRACT: Final = Route("GET", "/extracts/{extract}", calls=("extracts.get",))
EXTRACT_RUNS: Final = Route(
    "GET",
    "/extracts/{extract}/runs",
    (
        "status",
        "scheduledDateTimeFrom",
        "scheduledDateTimeTo",
        "runDateTimeFrom",
        "runDateTimeTo",
        "completionDateTimeFrom",
        "completionDateTimeTo",
        "downloadDateTimeFrom",
        "downloadDateTimeTo",
        "view",
    ),
    calls=("extracts.runs", "extracts.files"),
)
EXTRACT_START: Final = Route("POST", "/extracts/{extract}/runs", calls=("extracts.start", "extracts.fetch"))
EXTRACT_RUN: Final = Route("GET", "/extracts/{extract}/runs/{run}", calls=("extracts.run", "extracts.wait"))
EXTRACT_LATEST_RUN: Final = Route(
    "GET",
    "/extracts/{extract}/runs/latestCompleted",
    ("view",),
    calls=("extracts.latest_run", "extracts.files(latest=True)"),
)
EXTRACT_RUN_FILES: Final = Route(
    "GET",
    "/extracts/{extract}/runs/{run}/files",
    ("downloadDateTimeFrom", "downloadDateTimeTo"),
    calls=("extracts.run_files",),
)
EXTRACT_ASSOCIATION: Final = Route(
    "GET", "/extracts/{extract}/runs/{run}/files/{association}", calls=("extracts.association",)
)
EXTRACT_CONTENT: Final = Route(
    "GET", "/extracts/{extract}/runs/{run}/files/{association}/content", calls=("extracts.files",)
)

EXTRACT_OWNERS: Final = Route("GET", "/extracts/{extract}/ownerusers", calls=("list",))
EXTRACT_OWNER: Final = Route(
    "GET", "/extracts/{extract}/ownerusers/{user}", why_not="the list of owners says as much in the same request"
)
_SET_UP: Final = "administrators set extracts up in the web application; no page of the vendor documents it"
EXTRACT_DEFINE: Final = Route("POST", "/extracts", why_not=_SET_UP)
EXTRACT_CHANGE: Final = Route("PUT", "/extracts/{extract}", why_not=_SET_UP)
EXTRACT_REMOVE: Final = Route("DELETE", "/extracts/{extract}", why_not=_SET_UP)

EXPORTS: Final = Route("GET", "/exports", ("name", "number", "description", *_CREATOR), calls=("exports.search",))
EXPORT_DEFINE: Final = Route("POST", "/exports", calls=("exports.define",))
EXPORT: Final = Route("GET", "/exports/{export}", ("includeEmptyAdditionalAttributes",), calls=("exports.get",))
EXPORT_RUNS: Final = Route(
    "GET",
    "/exports/{export}/runs",
    ("completionDateTimeFrom", "completionDateTimeTo", "latestCompleted", "number", "status"),
    calls=("exports.runs", "exports.files"),
)
EXPORT_START: Final = Route("POST", "/exports/{export}/runs", calls=("exports.start", "exports.fetch"))
EXPORT_RUN: Final = Route("GET", "/exports/{export}/runs/{run}", calls=("exports.run", "exports.wait"))
EXPORT_FILE: Final = Route("GET", "/exports/{export}/runs/{run}/files/{file}", calls=("exports.file",))
EXPORT_CONTENT: Final = Route("GET", "/exports/{export}/runs/{run}/files/{file}/content", calls=("exports.files",))

EXPORT_LATEST_RUN: Final = Route(
    "GET", "/exports/{export}/runs/latestCompleted", why_not="`exports.runs(latest=True)` tells it and its files"
)
#: The pages disagree about the word; the newer one has the plural.
EXPORT_ATTRIBUTES: Final = Route("GET", "/settings/exports/attributes", calls=("list",))
EXPORT_ATTRIBUTES_OLDER: Final = Route("GET", "/settings/export/attributes", calls=("list",))

IMPORTS: Final = Route(
    "GET", "/imports", ("name", "number", "description", *_CREATOR, "mode", "resource"), calls=("imports.search",)
)
IMPORT_DEFINE: Final = Route("POST", "/imports", calls=("imports.define",))
IMPORT: Final = Route("GET", "/imports/{import_}", calls=("imports.get",))
IMPORT_RENAME: Final = Route("PUT", "/imports/{import_}", calls=("imports.rename",))
IMPORT_RUNS: Final = Route(
    "GET", "/imports/{import_}/runs", (*_CREATOR, "number", "status"), calls=("imports.runs", "imports.files")
)
#: The query is one of two documented ways to say what the file is; the other one is as parts beside it.
IMPORT_START: Final = Route(
    "POST",
    "/imports/{import_}/runs",
    ("submitFileType", "submitWorksheetName", "commit"),
    calls=("imports.start", "imports.fetch"),
)
IMPORT_RUN: Final = Route("GET", "/imports/{import_}/runs/{run}", calls=("imports.run", "imports.wait"))
#: The query is one of two documented ways to commit; the other one is a body.
IMPORT_COMMIT: Final = Route("PUT", "/imports/{import_}/runs/{run}", ("commit",), calls=("imports.commit",))
IMPORT_COMPLETE: Final = Route("PUT", "/imports/{import_}/runs/{run}/complete", calls=("imports.complete",))
#: ``part`` is submitContent, resultContent or errorContent.
IMPORT_CONTENT: Final = Route("GET", "/imports/{import_}/runs/{run}/{part}", calls=("imports.files",))

FILES: Final = Route(
    "GET",
    "/files",
    ("title", "number", "category.guid", "format", "name", "includeChildCategories"),
    calls=("files.search",),
)
FILE: Final = Route("GET", "/files/{file}", calls=("files.get", "files.content"))
FILE_EDITIONS: Final = Route("GET", "/files/{file}/editions", calls=("files.editions",))
FILE_CONTENT: Final = Route("GET", "/files/{file}/content", calls=("files.content",))
_AS_KEPT: Final = "files come home as they are kept, without a mark of who fetched them"
FILE_WATERMARK: Final = Route("GET", "/files/{file}/watermarkcontent", why_not=_AS_KEPT)
ITEM_FILE_WATERMARK: Final = Route("GET", "/items/{item}/files/{association}/watermarkcontent", why_not=_AS_KEPT)
ITEM_IMAGE: Final = Route("GET", "/items/{item}/image/content", why_not="a thumbnail of one of the files of the item")

ITEMS: Final = Route(
    "GET",
    "/items",
    (
        "number",
        "name",
        "description",
        "revisionNumber",
        "category.guid",
        "category.name",
        "includeChildCategories",
        "owner.fullName",
        *_CREATOR,
        "lifecyclePhase.guid",
        "lifecyclePhase.stage",
        "assemblyType",
        "inAssembly",
        "effectiveDateTimeFrom",
        "effectiveDateTimeTo",
        "modifiedBom",
        "modifiedFiles",
        "modifiedSourcing",
        "modifiedSpecs",
        "criteria",
        "responseview",
    ),
    calls=("items.search",),
)
ITEM: Final = Route("GET", "/items/{item}", calls=("items.get",))
ITEM_FILES: Final = Route("GET", "/items/{item}/files", calls=("items.associations", "items.files"))
ITEM_FILE: Final = Route("GET", "/items/{item}/files/{association}", calls=("items.association",))
ITEM_FILE_CONTENT: Final = Route("GET", "/items/{item}/files/{association}/content", calls=("items.files",))
API_USAGES: Final = Route(
    "GET", "/settings/recentactivities/apiusages", ("dateTimeFrom", "dateTimeTo"), calls=("usages",)
)

EVENT_INTEGRATIONS: Final = Route("GET", "/outboundevents", ("name", "enabled"), calls=("events.search",))
EVENT_INTEGRATION: Final = Route("GET", "/outboundevents/{integration}", calls=("events.get",))
EVENT_TRIGGERS: Final = Route("GET", "/outboundevents/{integration}/triggers", calls=("events.triggers",))
EVENTS: Final = Route(
    "GET",
    "/outboundevents/{integration}/events",
    ("resourcesReconciled", "order"),
    calls=("events.every", "events.pending", "events.watch"),
)
EVENT: Final = Route("GET", "/outboundevents/{integration}/events/{event}", calls=("events.event",))
EVENT_RECONCILE: Final = Route(
    "PUT", "/outboundevents/{integration}/events/{event}", calls=("events.reconcile", "events.watch")
)
#: ``kind`` is items, changes, requests or qualityprocesses.
EVENT_RESOURCES: Final = Route(
    "GET",
    "/outboundevents/{integration}/events/{event}/{kind}",
    ("reconciled", "reconciledDateTimeFrom", "reconciledDateTimeTo"),
    calls=("events.resources",),
)
EVENT_RESOURCE: Final = Route(
    "GET", "/outboundevents/{integration}/events/{event}/{kind}/{resource}", calls=("events.resource",)
)
EVENT_RESOURCE_RECONCILE: Final = Route(
    "PUT", "/outboundevents/{integration}/events/{event}/{kind}/{resource}", calls=("events.reconcile_resource",)
)

#: The older generation; the placeholder is called as in the newer one, so that both are asked alike.
QUEUES: Final = Route("GET", "/outboundintegrations", ("name", "enabled"), calls=("event_queue.search",))
QUEUE_EVENTS: Final = Route(
    "GET",
    "/outboundintegrations/{integration}/events",
    ("itemsReconciled", "creationDateTimeFrom", "creationDateTimeTo"),
    calls=("event_queue.every", "event_queue.pending", "event_queue.watch"),
)
QUEUE_EVENT: Final = Route("GET", "/outboundintegrations/{integration}/events/{event}", calls=("event_queue.event",))
QUEUE_EVENT_RECONCILE: Final = Route(
    "PUT", "/outboundintegrations/{integration}/events/{event}", calls=("event_queue.reconcile", "event_queue.watch")
)
QUEUE_ITEMS: Final = Route(
    "GET", "/outboundintegrations/{integration}/events/{event}/items", ("reconciled",), calls=("event_queue.items",)
)
QUEUE_ITEM_GUIDS: Final = Route(
    "GET",
    "/outboundintegrations/{integration}/events/{event}/itemguids",
    ("reconciled",),
    calls=("event_queue.item_guids",),
)

#: Every endpoint that is declared here, in this order.
ROUTES: Final = tuple(value for value in tuple(globals().values()) if isinstance(value, Route))
