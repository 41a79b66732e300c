"""Check the identifiers in arguments, and build the keys of files."""

from __future__ import annotations

import functools
from urllib.parse import quote, unquote

from arena_async.errors import ConfigurationError
from arena_async.protocol.messages import printable

__all__ = ["SERVICE", "join_key", "named_subject", "number", "split_key", "word"]

SERVICE = "centrepoint"


def number(value: int | str) -> int:
    """
    Return an identifying number, from a number or its digits.

    Raises:
        ConfigurationError: It is something else.
    """
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 18:
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ConfigurationError(
            f"{printable(repr(value))} is no number of a study or subject; it takes the number that the service uses, "
            "not a name or identifier."
        )
    return value


def word(value: str) -> str:
    """
    Return an identifying name without the blanks around it.

    Raises:
        ConfigurationError: It is empty, or no text that can be shown.
    """
    if not isinstance(value, str) or not value.strip() or not value.isprintable():  # type: ignore[redundant-expr]
        raise ConfigurationError(f"{printable(repr(value))} is no name; it takes the text that the service uses.")
    return value.strip()


def named_subject(value: int | str) -> int | str:
    """
    Return a subject: its number as an integer, or its identifier as text.

    Text is always an identifier here, digits or not; the look-up decides whether it can be a number after all.

    Raises:
        ConfigurationError: It is something else.
    """
    return word(value) if isinstance(value, str) else number(value)


def join_key(tenant: str, kind: str, *fields: str) -> str:
    """Return the key of a file: service, tenant, what kind of file it is, and the fields that identify it."""
    return "/".join((SERVICE, _quoted_tenant(tenant), kind, *map(_quoted, fields)))


# It is in the key of each row.
@functools.lru_cache(maxsize=8)
def _quoted_tenant(tenant: str) -> str:
    return quote(tenant, safe="")


def _quoted(field: str) -> str:
    """Return a field quoted; most are plain, and a list has a million of them."""
    return field if field.isascii() and field.isalnum() else quote(field, safe="")


def split_key(key: str, tenant: str, kind: str) -> tuple[str, ...]:
    """Return the fields of a key of :func:`join_key`; none for a key of another tenant or kind."""
    parts = [unquote(part) for part in key.split("/")]
    return tuple(parts[3:]) if parts[:3] == [SERVICE, tenant, kind] else ()
