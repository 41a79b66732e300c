"""
The options of an export, checked before they are sent.

The service accepts some combinations silently and then writes an empty file. They are rejected here, at no cost. Words
are accepted in any case and sent in the newest documented form.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from arena_async.errors import ConfigurationError
from arena_async.providers.arena.api import known_word
from arena_async.providers.arena.models import ExportFileContent, ExportOptions, status_word

__all__ = ["same_options", "write_export_options"]


_VIEWS: Final = (
    "SPECS",
    "BOM",
    "BOM_SUBSTITUTES",
    "SOURCING",
    "FILES",
    "FILES_FILE_SUMMARY",
    "SOURCING_SUPPLIERITEM_SPECS",
    "SOURCING_SUPPLIERITEM_SUPPLIER_PROFILE",
    "SOURCING_SUPPLIERITEM_FILES",
    "SOURCING_SUPPLIERITEM_FILES_FILE_SUMMARY",
)
#: What the samples print in the place of the documented view.
_OTHER_VIEWS: Final = {status_word("SOURCING_SUPPLIERITEM_SPECS_PROFILE"): "SOURCING_SUPPLIERITEM_SUPPLIER_PROFILE"}
#: The words of the other options. One page lists the files PRIMARY for supplier items as well; the service rejects it
#: (4003, 4073).
_WORDS: Final = {
    "bom_levels": ("NONE", "SINGLE", "FULL"),
    "header": ("apiName", "name"),
    "revision_status": ("LATEST", "WORKING", "POTENTIAL"),
    "format": ("csv", "json"),
    "file_content.item": ("NONE", "PRIMARY", "ALL"),
    "file_content.supplier_item": ("NONE", "ALL"),
}

#: The documented defaults.
_DEFAULTS: Final = {"header": "apiName", "format": "csv"}
#: Views that contain only the physical files.
_OF_FILES: Final = {"FILES", "SOURCING_SUPPLIERITEM_FILES"}


def write_export_options(options: ExportOptions) -> dict[str, Any]:
    """
    Return options in the format of the service.

    Raises:
        ConfigurationError: One of them is not documented, there is no view, or the export would be empty.
    """

    def word(name: str, value: str | None) -> str | None:
        return None if value is None else known_word(f"ExportOptions.{name}", value, _WORDS[name])

    content = options.file_content or ExportFileContent()
    files = {
        "item": word("file_content.item", content.item),
        "supplierItem": word("file_content.supplier_item", content.supplier_item),
    }
    written = _given(
        {
            "exportViews": _views(options.export_views),
            "bomLevels": word("bom_levels", options.bom_levels),
            "fileContent": _given(files) or None,
            "header": word("header", options.header),
            "revisionStatus": word("revision_status", options.revision_status),
            "format": word("format", options.format),
            "enableNotifications": options.enable_notifications,
        }
    )
    _check_not_empty(written)
    return written


def same_options(requested: ExportOptions, received: ExportOptions) -> bool:
    """
    Return whether a definition does what is requested.

    What is not requested is the documented default; where none is documented it may be anything.

    Raises:
        ConfigurationError: The requested options cannot be sent.
    """
    wanted = {**_DEFAULTS, **write_export_options(requested)}
    try:
        found = {**_DEFAULTS, **write_export_options(received)}
    except ConfigurationError:
        return False
    views = set(wanted.pop("exportViews")) == set(found["exportViews"])
    return views and all(found.get(name) == value for name, value in wanted.items())


def _given(values: dict[str, Any]) -> dict[str, Any]:
    """Leave out what is None."""
    return {name: value for name, value in values.items() if value is not None}


def _views(views: Iterable[Any]) -> list[str]:
    """Return views after a check; one that is named twice is written once."""
    words = (_OTHER_VIEWS.get(status_word(view), view) if isinstance(view, str) else view for view in views)
    found = [known_word("ExportOptions.export_views", word, _VIEWS) for word in words]
    if not found:
        raise ConfigurationError("ExportOptions.export_views is empty; name at least one view, for instance 'SPECS'.")
    return list(dict.fromkeys(found))


def _check_not_empty(options: dict[str, Any]) -> None:
    """Raise for what the service writes as an empty JSON file."""
    if options.get("format", _DEFAULTS["format"]) != "json":
        return
    views = set(options["exportViews"])
    if views == {"BOM"} and options.get("bomLevels", "NONE") == "NONE":
        raise _empty("the view BOM alone", "ExportOptions.bom_levels SINGLE or FULL")
    if "BOM_SUBSTITUTES" in views and "BOM" not in views:
        raise _empty("the view BOM_SUBSTITUTES without BOM", "the view BOM")
    if len(views) == 1 and views <= _OF_FILES and not _any_file(options):
        raise _empty(f"the view {views.pop()} alone and without files", "ExportOptions.file_content, or another view")


def _any_file(options: dict[str, Any]) -> bool:
    """Return whether physical files are exported."""
    return any(value != "NONE" for value in options.get("fileContent", {}).values())


def _empty(what: str, remedy: str) -> ConfigurationError:
    return ConfigurationError(f"A JSON export of {what} would be empty; add {remedy}, or write CSV.")
