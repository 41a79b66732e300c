"""What every set of files of the service does alike: arguments are checked, keys are made, pages become entries."""

from __future__ import annotations

import functools
import re
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any
from urllib.parse import quote, unquote

import attrs

from arena_async.errors import ConfigurationError
from arena_async.wire.contracts import RemoteFile
from arena_async.wire.messages import printable
from arena_async.wire.paging import Page

__all__ = [
    "SERVICE",
    "Converted",
    "Entries",
    "extension_for",
    "join_key",
    "named_subject",
    "number",
    "split_key",
    "word",
]

SERVICE = "centrepoint"

_FORMAT = re.compile(r"[a-z0-9]{1,16}\Z")


def number(value: Any) -> int:
    """
    Take an identifying number, or its digits as text.

    Raises:
        ConfigurationError: It is something else.
    """
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 18:
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ConfigurationError(
            f"{printable(repr(value))} is no number of a study or subject; it takes the number that the service gave, "
            "not a name or identifier."
        )
    return value


def word(value: Any) -> str:
    """
    Take an identifying name, without the blanks around it.

    Raises:
        ConfigurationError: It is empty, or no text that can be shown.
    """
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise ConfigurationError(f"{printable(repr(value))} is no name; it takes the text that the service gave.")
    return value.strip()


def named_subject(value: Any) -> int | str:
    """
    Take a subject: its number as a whole number, or its identifier as text.

    Text is always an identifier here, digits or not; whoever looks it up decides whether it can be a number after all.

    Raises:
        ConfigurationError: It is something else.
    """
    return word(value) if isinstance(value, str) else number(value)


def join_key(tenant: str, kind: str, *fields: str) -> str:
    """Give the key of a file: service, tenant, what kind of file it is, and the fields that identify it."""
    return "/".join((SERVICE, _quoted_tenant(tenant), kind, *map(_quoted, fields)))


# It is in the key of each row.
@functools.lru_cache(maxsize=8)
def _quoted_tenant(tenant: str) -> str:
    return quote(tenant, safe="")


def _quoted(field: str) -> str:
    """Quote a field; most are plain, and a list has a million of them."""
    return field if field.isascii() and field.isalnum() else quote(field, safe="")


def split_key(key: str, tenant: str, kind: str) -> tuple[str, ...]:
    """Give the fields of a key of :func:`join_key`; none for a key of another tenant or kind."""
    pieces = [unquote(piece) for piece in key.split("/")]
    return tuple(pieces[3:]) if pieces[:3] == [SERVICE, tenant, kind] else ()


def extension_for(file_format: str, file_name: str) -> str:
    """Give the extension: ``.csv.gz`` for csv, whose body is gzip, else what the service calls the format."""
    kind = file_format.casefold()
    if kind in ("", "csv") or not _FORMAT.match(kind):
        return ".csv.gz"
    return f".{kind}.gz" if file_name.casefold().endswith(".gz") else f".{kind}"


class Converted:
    """
    The pages of a list with something else for items. It may be dropped at any time; :meth:`aclose` waits for the end.

    Args:
        pages: The pages.
        convert: Makes the items of a page.
    """

    def __init__(self, pages: AsyncIterator[Page], convert: Callable[[Page], Iterable[Any]]) -> None:
        self._pages = pages
        self._convert = convert

    def __aiter__(self) -> Converted:
        return self

    async def __anext__(self) -> Page:
        page = await anext(self._pages)
        return attrs.evolve(page, items=tuple(self._convert(page)))

    async def aclose(self) -> None:
        """End the pass, and wait until nothing of it runs any more. Safe to call twice."""
        await _end(self._pages)


class Entries:
    """
    One pass over the entries of a set. It may be dropped at any time; :meth:`aclose` waits for what that ends.

    Args:
        pages: The pages of the list, with entries for rows.
        note: Told about each page before its entries are given.
    """

    def __init__(self, pages: AsyncIterator[Page], note: Callable[[Page], object] = lambda _: None) -> None:
        self._pages = pages
        self._note = note
        self._entries: list[RemoteFile] = []

    def __aiter__(self) -> Entries:
        return self

    async def __anext__(self) -> RemoteFile:
        while not self._entries:
            page = await anext(self._pages)
            self._note(page)
            self._entries = list(reversed(page.items))
        return self._entries.pop()

    async def aclose(self) -> None:
        """End the pass, and wait until nothing of it runs any more. Safe to call twice."""
        self._entries.clear()
        await _end(self._pages)


async def _end(pages: AsyncIterator[Page]) -> None:
    """End a pass over pages, where it has anything to end."""
    close = getattr(pages, "aclose", None)
    if close is not None:
        await close()
