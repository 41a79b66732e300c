"""
Filters of lists that have many of them.

A field is named as in the models; what is None is not filtered on. Text filters with a trailing ``*`` find what starts
with the rest. Date-times are aware, and bounds are inclusive.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, Literal, get_args

import attrs

from arena_async.errors import ConfigurationError
from arena_async.protocol.decoding import wire
from arena_async.protocol.messages import printable
from arena_async.providers.arena.api import write_fields
from arena_async.providers.arena.criteria import Criteria

__all__ = [
    "EventResourceQuery",
    "ExportQuery",
    "ExportRunQuery",
    "ExtractRunQuery",
    "FileQuery",
    "ImportQuery",
    "ImportRunQuery",
    "ItemQuery",
    "ItemView",
    "write_query",
]

#: How much of each item a list returns.
ItemView = Literal["minimum", "compact", "full"]
#: The guid of a custom attribute; no documented query looks like it.
_ATTRIBUTE: Final = re.compile(r"[0-9A-Z]{15,24}")


def write_query(query: attrs.AttrsInstance | str | None, *, text: str = "name") -> dict[str, Any]:
    """Return the parameters of a query; one that is a string is the filter called ``text``."""
    if query is None or isinstance(query, str):
        return {text: query}
    params = write_fields(query)
    if isinstance(query, ExtractRunQuery):
        params["view"] = "withFiles" if query.with_files else None
    if (criteria := params.get("criteria")) is not None:
        params["criteria"] = json.dumps(criteria.as_json(), separators=(",", ":"))
    attributes: dict[str, Any] = params.pop("attributes", {})
    return params | attributes


@attrs.frozen(kw_only=True)
class ExportQuery:
    """Filters of export definitions. ``creator`` is a full name; ``name`` need not be unique."""

    name: str | None = None
    number: int | None = None
    description: str | None = None
    creator: str | None = wire("creator.fullName")
    creator_email: str | None = wire("creator.email")
    creator_guid: str | None = wire("creator.guid")


@attrs.frozen(kw_only=True)
class ImportQuery(ExportQuery):
    """Filters of import definitions, for instance ``mode="CREATE"`` and ``resource="ITEM_SPECS"``."""

    mode: str | None = None
    resource: str | None = None


@attrs.frozen(kw_only=True)
class ExtractRunQuery:
    """
    Filters of the runs of an extract.

    ``downloaded_from`` and ``downloaded_to`` bound the first download of a file. ``with_files`` requests the guids of
    the files with each run; not every release of the service honours it.
    """

    status: str | None = None
    scheduled_from: datetime | None = wire("scheduledDateTimeFrom")
    scheduled_to: datetime | None = wire("scheduledDateTimeTo")
    run_from: datetime | None = wire("runDateTimeFrom")
    run_to: datetime | None = wire("runDateTimeTo")
    completed_from: datetime | None = wire("completionDateTimeFrom")
    completed_to: datetime | None = wire("completionDateTimeTo")
    downloaded_from: datetime | None = wire("downloadDateTimeFrom")
    downloaded_to: datetime | None = wire("downloadDateTimeTo")
    with_files: bool = attrs.field(default=False, metadata={"wire": "view"})


@attrs.frozen(kw_only=True)
class ExportRunQuery:
    """Filters of the runs of an export definition; ``latest`` is the run that was completed last."""

    completed_from: datetime | None = wire("completionDateTimeFrom")
    completed_to: datetime | None = wire("completionDateTimeTo")
    latest: bool | None = wire("latestCompleted")
    number: int | None = None
    status: str | None = None


@attrs.frozen(kw_only=True)
class ImportRunQuery:
    """Filters of the runs of an import definition."""

    creator: str | None = wire("creator.fullName")
    creator_email: str | None = wire("creator.email")
    creator_guid: str | None = wire("creator.guid")
    number: int | None = None
    status: str | None = None


@attrs.frozen(kw_only=True)
class FileQuery:
    """Filters of files, for instance ``format="pdf"``; ``include_child_categories`` belongs to ``category_guid``."""

    name: str | None = None
    number: str | None = None
    title: str | None = None
    format: str | None = None
    category_guid: str | None = wire("category.guid")
    include_child_categories: bool | None = None


@attrs.frozen(kw_only=True)
class EventResourceQuery:
    """Filters of the resources of an event."""

    reconciled: bool | None = None
    reconciled_from: datetime | None = wire("reconciledDateTimeFrom")
    reconciled_to: datetime | None = wire("reconciledDateTimeTo")


@attrs.frozen(kw_only=True)
class ItemQuery:
    """
    Filters of items, and how much of each is returned.

    Args:
        assembly_type: ``TOP_LEVEL_ASSEMBLY``, ``SUB_ASSEMBLY`` or ``NOT_AN_ASSEMBLY``.
        in_assembly: Whether it is used in an assembly; not together with ``assembly_type``.
        lifecycle_phase_stage: Only phases of this stage, for instance ``PRODUCTION``.
        modified_bom: Whether the BOM of the working revision was modified; ``modified_files``,
            ``modified_sourcing`` and ``modified_specs`` likewise.
        owner: The full name of the owner.
        attributes: Values of custom attributes, by the guids of the attributes.
        criteria: Conditions that no filter has, as for an export: ``all_of(ITEM.number.contains("900"))``.
        view: ``minimum``, ``compact``, or ``full`` with the custom attributes of each.

    Raises:
        ConfigurationError: ``assembly_type`` together with ``in_assembly``, another word for ``view``, or an attribute
            that is no guid.
    """

    number: str | None = None
    name: str | None = None
    description: str | None = None
    revision_number: str | None = None
    category_guid: str | None = wire("category.guid")
    category_name: str | None = wire("category.name")
    include_child_categories: bool | None = None
    owner: str | None = wire("owner.fullName")
    creator: str | None = wire("creator.fullName")
    creator_guid: str | None = wire("creator.guid")
    creator_email: str | None = wire("creator.email")
    lifecycle_phase_guid: str | None = wire("lifecyclePhase.guid")
    lifecycle_phase_stage: str | None = wire("lifecyclePhase.stage")
    assembly_type: str | None = None
    in_assembly: bool | None = None
    effective_from: datetime | None = wire("effectiveDateTimeFrom")
    effective_to: datetime | None = wire("effectiveDateTimeTo")
    modified_bom: bool | None = None
    modified_files: bool | None = None
    modified_sourcing: bool | None = None
    modified_specs: bool | None = None
    criteria: Criteria | None = None
    view: ItemView | None = wire("responseview")
    attributes: Mapping[str, object] = attrs.field(factory=dict)

    def __attrs_post_init__(self) -> None:
        """Check what goes together."""
        if self.assembly_type is not None and self.in_assembly is not None:
            raise ConfigurationError(
                "items: assembly_type and in_assembly exclude each other at the service (3851); give one of them."
            )
        if self.view is not None and self.view not in get_args(ItemView):
            raise ConfigurationError(f"items: view is {self.view!r}; it takes one of {', '.join(get_args(ItemView))}.")
        for guid in self.attributes:
            if not _ATTRIBUTE.fullmatch(guid):
                raise ConfigurationError(
                    f"items: {printable(guid)!r} is no guid of a custom attribute; the list /settings/items/attributes "
                    "has them."
                )
