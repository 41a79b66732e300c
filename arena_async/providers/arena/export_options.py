"""
What an export writes, checked before it is sent.

The service accepts some combinations silently and then writes an empty file. They are rejected here, at no cost. Words
are accepted in any case and sent in the newest documented form.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from arena_async.errors import ConfigurationError
from arena_async.protocol.messages import printable
from arena_async.providers.arena.models import ExportOptions, status_word

__all__ = ["same_options", "write_export_options"]


def _words(*words: str) -> dict[str, str]:
    """Return words by the form in which they are compared."""
    return {status_word(word): word for word in words}


_VIEWS: Final = {
    **_words(
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
    ),
    # The samples print this in the place of the one that the table documents.
    status_word("SOURCING_SUPPLIERITEM_SPECS_PROFILE"): "SOURCING_SUPPLIERITEM_SUPPLIER_PROFILE",
}
_LEVELS: Final = _words("NONE", "SINGLE", "FULL")
_ITEM_FILES: Final = _words("NONE", "PRIMARY", "ALL")
# One page lists PRIMARY for supplier items as well; the service refuses it (4003, 4073).
_SUPPLIER_FILES: Final = _words("NONE", "ALL")
_HEADERS: Final = _words("apiName", "name")
_REVISIONS: Final = _words("LATEST", "WORKING", "POTENTIAL")
_FORMATS: Final = _words("csv", "json")

#: What the service takes where an option is left out.
_DEFAULTS: Final = {"header": "apiName", "format": "csv"}
#: Views that have nothing but the physical files to show where they stand alone.
_OF_FILES: Final = {"FILES", "SOURCING_SUPPLIERITEM_FILES"}


def write_export_options(options: ExportOptions) -> dict[str, Any]:
    """
    Return options in the format of the service.

    Raises:
        ConfigurationError: One of them is not documented, there is no view, or the export would come out empty.
    """
    content = options.file_content
    files = {
        "item": _one("file_content.item", content.item, _ITEM_FILES) if content else None,
        "supplierItem": _one("file_content.supplier_item", content.supplier_item, _SUPPLIER_FILES) if content else None,
    }
    written = {
        "exportViews": _views(options.export_views),
        "bomLevels": _one("bom_levels", options.bom_levels, _LEVELS),
        "fileContent": _given(files) or None,
        "header": _one("header", options.header, _HEADERS),
        "revisionStatus": _one("revision_status", options.revision_status, _REVISIONS),
        "format": _one("format", options.format, _FORMATS),
        "enableNotifications": options.enable_notifications,
    }
    written = _given(written)
    _refuse_empty(written)
    return written


def same_options(requested: ExportOptions, came: ExportOptions) -> bool:
    """
    Return whether a definition does what is requested.

    What is not requested is the documented default; where none is documented it may be anything.

    Raises:
        ConfigurationError: The requested options cannot be sent.
    """
    wanted = {**_DEFAULTS, **write_export_options(requested)}
    try:
        found = {**_DEFAULTS, **write_export_options(came)}
    except ConfigurationError:
        return False
    views = set(wanted.pop("exportViews")) == set(found["exportViews"])
    return views and all(found.get(name) == value for name, value in wanted.items())


def _given(values: dict[str, Any]) -> dict[str, Any]:
    """Leave out what is None."""
    return {name: value for name, value in values.items() if value is not None}


def _views(views: Iterable[str]) -> list[str]:
    """Check views; one that is named twice is written once."""
    found = [_one("export_views", view, _VIEWS) for view in views]
    if not found:
        raise ConfigurationError("ExportOptions.export_views is empty; name at least one view, for instance 'SPECS'.")
    return list(dict.fromkeys(filter(None, found)))


def _one(name: str, value: Any, allowed: dict[str, str]) -> str | None:
    """Return the newest documented form of a word."""
    if value is None:
        return None
    found = allowed.get(status_word(value)) if isinstance(value, str) else None
    if found is None:
        choices = ", ".join(dict.fromkeys(allowed.values()))
        raise ConfigurationError(f"ExportOptions.{name} is {printable(repr(value))}; it takes one of {choices}.")
    return found


def _refuse_empty(options: dict[str, Any]) -> None:
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
    return ConfigurationError(f"A JSON export of {what} comes out empty; add {remedy}, or write CSV.")
