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
    "EXPORT_CONTENT",
    "EXPORT_DEFINE",
    "EXPORT_FILE",
    "EXPORT_RUN",
    "EXPORT_RUNS",
    "EXPORT_START",
    "EXTRACT",
    "EXTRACTS",
    "EXTRACT_ASSOCIATION",
    "EXTRACT_CONTENT",
    "EXTRACT_LATEST_RUN",
    "EXTRACT_RUN",
    "EXTRACT_RUNS",
    "EXTRACT_RUN_FILES",
    "EXTRACT_START",
    "FILE",
    "FILES",
    "FILE_CONTENT",
    "FILE_EDITIONS",
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
    "QUEUES",
    "QUEUE_EVENT",
    "QUEUE_EVENTS",
    "QUEUE_EVENT_RECONCILE",
    "QUEUE_ITEMS",
    "QUEUE_ITEM_GUIDS",
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
    """

    method: str
    path: str
    params: tuple[str, ...] = ()

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


_CREATOR = ("creator.guid", "creator.email", "creator.fullName")

EXTRACTS: Final = Route("GET", "/extracts", ("name", "enabled", "creator.fullName"))
EXTRACT: Final = Route("GET", "/extracts/{extract}")
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
)
EXTRACT_START: Final = Route("POST", "/extracts/{extract}/runs")
EXTRACT_RUN: Final = Route("GET", "/extracts/{extract}/runs/{run}")
EXTRACT_LATEST_RUN: Final = Route("GET", "/extracts/{extract}/runs/latestCompleted", ("view",))
EXTRACT_RUN_FILES: Final = Route(
    "GET", "/extracts/{extract}/runs/{run}/files", ("downloadDateTimeFrom", "downloadDateTimeTo")
)
EXTRACT_ASSOCIATION: Final = Route("GET", "/extracts/{extract}/runs/{run}/files/{association}")
EXTRACT_CONTENT: Final = Route("GET", "/extracts/{extract}/runs/{run}/files/{association}/content")

EXPORTS: Final = Route("GET", "/exports", ("name", "number", "description", *_CREATOR))
EXPORT_DEFINE: Final = Route("POST", "/exports")
EXPORT: Final = Route("GET", "/exports/{export}", ("includeEmptyAdditionalAttributes",))
EXPORT_RUNS: Final = Route(
    "GET",
    "/exports/{export}/runs",
    ("completionDateTimeFrom", "completionDateTimeTo", "latestCompleted", "number", "status"),
)
EXPORT_START: Final = Route("POST", "/exports/{export}/runs")
EXPORT_RUN: Final = Route("GET", "/exports/{export}/runs/{run}")
EXPORT_FILE: Final = Route("GET", "/exports/{export}/runs/{run}/files/{file}")
EXPORT_CONTENT: Final = Route("GET", "/exports/{export}/runs/{run}/files/{file}/content")

IMPORTS: Final = Route("GET", "/imports", ("name", "number", "description", *_CREATOR, "mode", "resource"))
IMPORT_DEFINE: Final = Route("POST", "/imports")
IMPORT: Final = Route("GET", "/imports/{import_}")
IMPORT_RENAME: Final = Route("PUT", "/imports/{import_}")
IMPORT_RUNS: Final = Route("GET", "/imports/{import_}/runs", (*_CREATOR, "number", "status"))
#: The query is one of two documented ways to say what the file is; the other one is as parts beside it.
IMPORT_START: Final = Route("POST", "/imports/{import_}/runs", ("submitFileType", "submitWorksheetName", "commit"))
IMPORT_RUN: Final = Route("GET", "/imports/{import_}/runs/{run}")
#: The query is one of two documented ways to commit; the other one is a body.
IMPORT_COMMIT: Final = Route("PUT", "/imports/{import_}/runs/{run}", ("commit",))
IMPORT_COMPLETE: Final = Route("PUT", "/imports/{import_}/runs/{run}/complete")
#: ``part`` is submitContent, resultContent or errorContent.
IMPORT_CONTENT: Final = Route("GET", "/imports/{import_}/runs/{run}/{part}")

FILES: Final = Route("GET", "/files", ("title", "number", "category.guid", "format", "name", "includeChildCategories"))
FILE: Final = Route("GET", "/files/{file}")
FILE_EDITIONS: Final = Route("GET", "/files/{file}/editions")
FILE_CONTENT: Final = Route("GET", "/files/{file}/content")
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
)
ITEM: Final = Route("GET", "/items/{item}")
ITEM_FILES: Final = Route("GET", "/items/{item}/files")
ITEM_FILE: Final = Route("GET", "/items/{item}/files/{association}")
ITEM_FILE_CONTENT: Final = Route("GET", "/items/{item}/files/{association}/content")
API_USAGES: Final = Route("GET", "/settings/recentactivities/apiusages", ("dateTimeFrom", "dateTimeTo"))

EVENT_INTEGRATIONS: Final = Route("GET", "/outboundevents", ("name", "enabled"))
EVENT_INTEGRATION: Final = Route("GET", "/outboundevents/{integration}")
EVENT_TRIGGERS: Final = Route("GET", "/outboundevents/{integration}/triggers")
EVENTS: Final = Route("GET", "/outboundevents/{integration}/events", ("resourcesReconciled", "order"))
EVENT: Final = Route("GET", "/outboundevents/{integration}/events/{event}")
EVENT_RECONCILE: Final = Route("PUT", "/outboundevents/{integration}/events/{event}")
#: ``kind`` is items, changes, requests or qualityprocesses.
EVENT_RESOURCES: Final = Route(
    "GET",
    "/outboundevents/{integration}/events/{event}/{kind}",
    ("reconciled", "reconciledDateTimeFrom", "reconciledDateTimeTo"),
)
EVENT_RESOURCE: Final = Route("GET", "/outboundevents/{integration}/events/{event}/{kind}/{resource}")
EVENT_RESOURCE_RECONCILE: Final = Route("PUT", "/outboundevents/{integration}/events/{event}/{kind}/{resource}")

#: The older generation; the placeholder is called as in the newer one, so that both are asked alike.
QUEUES: Final = Route("GET", "/outboundintegrations", ("name", "enabled"))
QUEUE_EVENTS: Final = Route(
    "GET",
    "/outboundintegrations/{integration}/events",
    ("itemsReconciled", "creationDateTimeFrom", "creationDateTimeTo"),
)
QUEUE_EVENT: Final = Route("GET", "/outboundintegrations/{integration}/events/{event}")
QUEUE_EVENT_RECONCILE: Final = Route("PUT", "/outboundintegrations/{integration}/events/{event}")
QUEUE_ITEMS: Final = Route("GET", "/outboundintegrations/{integration}/events/{event}/items", ("reconciled",))
QUEUE_ITEM_GUIDS: Final = Route("GET", "/outboundintegrations/{integration}/events/{event}/itemguids", ("reconciled",))
