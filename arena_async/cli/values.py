"""How a value is shown: as cells of a table, as JSON, never with a secret."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import attrs

from arena_async.wire.messages import Secret, printable

__all__ = ["cells", "shown"]


def shown(value: Any) -> dict[str, Any]:
    """Give the fields of a value that may be shown, nested values included: no secret, nothing its ``repr`` hides."""
    return {
        field.name: _showable(getattr(value, field.name))
        for field in attrs.fields(type(value))
        if field.repr and not isinstance(getattr(value, field.name), Secret)
    }


def _showable(value: Any) -> Any:
    if attrs.has(type(value)):
        return shown(value)
    if isinstance(value, (list, tuple)):
        return [_showable(one) for one in value]
    if isinstance(value, Mapping):
        return {str(name): _showable(one) for name, one in value.items()}
    return value


def cells(row: Any, columns: Sequence[str]) -> list[str]:
    """Write the columns of a row."""
    return [_cell(getattr(row, column)) for column in columns]


def _cell(value: Any) -> str:
    """Write a value into a table."""
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, bool):
        return "yes" if value else "no"
    return printable(str(value))
