"""Where a file lies below a directory: the documented layout of its service, or a template of the caller. Pure."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from pathlib import PurePosixPath

from arena_async.errors import ConfigurationError
from arena_async.protocol.filenames import collision_suffix, safe_name, safe_path
from arena_async.protocol.files import RemoteFile
from arena_async.protocol.messages import printable

__all__ = ["duplicate_key", "duplicate_path", "key_of_file", "layout_problem", "target_path"]


def layout_problem(layout: str) -> str | None:
    """Return what is wrong with a layout template, or None: only plain ``{field}`` and text, below the folder."""
    try:
        pieces = list(string.Formatter().parse(layout))
    except ValueError as error:
        return f"it cannot be read: {error}"
    for _, field, form, conversion in pieces:
        if field is None:
            continue
        if form or conversion or not field.isidentifier():
            return f"{{{field}}} is more than the name of a field"
    folders = layout.split("/")
    if any(directory.strip() in ("", ".", "..") for directory in folders):
        return "it has an empty folder, or . or .. among them"
    if not any(field is not None for _, field, _, _ in pieces):
        return "it names no field, so that all files would go to one place"
    return None


def target_path(file: RemoteFile, layout: str | None = None) -> str:
    """
    Return where a file lies below the root: the documented layout of its service, or a template of identifying fields.

    Each component is cleaned on its own after its fields were filled in, and no field can add a component.

    Raises:
        ConfigurationError: The template is wrong, or names a field that this file does not have.
        UnsafeNameError: No safe path can be made.
    """
    if layout is None:
        if file.as_named:
            return "/".join((*map(safe_name, file.parts), safe_name(file.stem + file.extension)))
        return str(safe_path(file.parts, file.stem, file.extension))
    problem = layout_problem(layout)
    if problem is not None:
        raise ConfigurationError(f"The layout {printable(layout)!r} cannot be used: {problem}.")
    fields = {"service": file.service, "stem": file.stem, "extension": file.extension, **file.fields}
    *folders, last = (_fill(component, fields, layout) for component in layout.split("/"))
    if file.extension and last.endswith(file.extension):
        return str(safe_path(folders, last[: -len(file.extension)], file.extension))
    return str(safe_path(folders, last))


def _fill(component: str, fields: Mapping[str, str], layout: str) -> str:
    """Return one component of a template with its fields filled in."""
    try:
        return component.format_map(fields)
    except KeyError as error:
        raise ConfigurationError(
            f"The layout {printable(layout)!r} names {{{error.args[0]}}}, which these files do not have; they have "
            f"{', '.join(sorted(fields))}."
        ) from None


def duplicate_path(path: str, name: str, extension: str) -> str:
    """Return the path of a row whose key a newer row of the listing has: a mark of its name before the extension."""
    plain = PurePosixPath(path)
    end = extension if extension and plain.name.endswith(extension) else plain.suffix
    stem = plain.name[: -len(end)] if end else plain.name
    return str(plain.with_name(f"{stem}{collision_suffix(name)}{end}"))


def duplicate_key(key: str, name: str) -> str:
    """Return the key under which such a row is remembered."""
    return f"{key}{collision_suffix(name)}"


def key_of_file(key: str) -> str:
    """Return the key of the file itself, for a key that :func:`duplicate_key` made."""
    return re.sub(r"~[0-9a-f]{8}\Z", "", key)
