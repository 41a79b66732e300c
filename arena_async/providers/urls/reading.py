"""
Lists of addresses, read block by block as often as they are walked, and never held as a whole.

::

    https://example.org/data/day-1.csv                                    one address a line
    # a comment
    {"url": "https://example.org/d?id=7", "name": "day-7.csv", "size": 812, "sha256": "9f86d0..."}
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from arena_async.errors import ConfigurationError, SourceChangedError
from arena_async.options import KIB
from arena_async.providers.urls.links import Link
from arena_async.transfer.local_files import Source
from arena_async.transfer.threads import Threads
from arena_async.wire.messages import Secret, printable

__all__ = ["FileList", "LinkList", "Placed", "RowList", "TextList", "walk"]

#: Bytes that are taken apart in one go: some hundred rows, so that nobody waits long.
_BLOCK = 16 * KIB
#: Bytes of one line, at the most.
_LONGEST = 64 * KIB
#: Rows of one page of rows that are in memory already.
_PAGE = 200
_COLUMNS = ("url", "name", "size", "sha256", "md5", "headers")

#: A row with the words that say where it stands.
Placed = tuple[str, Link]


class LinkList(Protocol):
    """A list that can be opened any number of times."""

    def open(self) -> tuple[object, Iterator[list[Placed]], Callable[[], None]]:
        """
        Give what its content can be told by, its rows page by page, and what closes it. For a thread.

        Raises:
            ConfigurationError: It cannot be read.
        """
        ...


class RowList:
    """
    Rows that the caller holds.

    Args:
        rows: Addresses, or links.
    """

    def __init__(self, rows: Sequence[str | Secret | Link]) -> None:
        self._rows = rows

    def open(self) -> tuple[object, Iterator[list[Placed]], Callable[[], None]]:
        """Give the rows."""
        return None, self._pages(), lambda: None

    def _pages(self) -> Iterator[list[Placed]]:
        for at in range(0, len(self._rows), _PAGE):
            yield [self._row(number) for number in range(at, min(at + _PAGE, len(self._rows)))]

    def _row(self, number: int) -> Placed:
        place, row = f"address {number + 1}", self._rows[number]
        if isinstance(row, Link):
            return place, row
        with _at(place):
            return place, Link(row)


class TextList:
    """
    A list as text.

    Args:
        text: The text.
        name: What to call it in errors.
    """

    def __init__(self, text: str | bytes, *, name: str = "the list") -> None:
        self._content = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
        self._name = name

    def open(self) -> tuple[object, Iterator[list[Placed]], Callable[[], None]]:
        """Give the rows."""
        return None, _pages(self._read, self._name), lambda: None

    def _read(self, offset: int, size: int) -> bytes:
        return self._content[offset : offset + size]


class FileList:
    """
    A list in a file. A change while it is read is an error.

    Args:
        path: Where it lies.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = os.fspath(path)

    def open(self) -> tuple[object, Iterator[list[Placed]], Callable[[], None]]:
        """Open the file and give its rows."""
        source = Source(self._path)
        state = source.open()

        def pages() -> Iterator[list[Placed]]:
            yield from _pages(source.read, printable(self._path))
            if source.state() != state:
                raise SourceChangedError(
                    f"{printable(self._path)}: the list was changed while it was read; what it names now is not known. "
                    "Run again."
                )

        return state, pages(), source.close


async def walk(links: LinkList, note: Callable[[object], bool] = lambda _: True) -> AsyncGenerator[list[Placed], None]:
    """
    Give the rows of a list page by page, read and taken apart on a thread.

    Args:
        links: The list.
        note: Told by what its content can be told, before the first page; nothing is read when it says False.

    Raises:
        ConfigurationError: A row cannot be meant; the message names its place.
        SourceChangedError: The list was changed while it was read.
        StorageError: The disk refused.
    """
    threads = Threads(1, name="arena_async-list")
    opened: list[Callable[[], None]] = []

    def open_list() -> tuple[object, Iterator[list[Placed]]]:
        state, pages, close = links.open()
        opened.append(close)  # noted here: a cancelled task does not get what its thread returns
        return state, pages

    try:
        state, pages = await threads.run(open_list)
        if not note(state):
            return
        while (page := await threads.run(next, pages, None)) is not None:
            yield page
    finally:
        try:
            await threads.aclose()
        finally:
            for close in opened:
                close()


@contextmanager
def _at(place: str) -> Iterator[None]:
    """Put the place before the sentence of a row that cannot be meant."""
    problem = None
    try:
        yield
    except ConfigurationError as error:
        problem = str(error)
    if problem is not None:
        raise ConfigurationError(f"{place}: {problem}")


def _pages(read: Callable[[int, int], bytes], name: str) -> Iterator[list[Placed]]:
    """Read block after block, and give the links on the lines that end in each."""
    rest, number = b"", 1
    for at in itertools.count(0, _BLOCK):
        block = read(at, _BLOCK)
        lines = (rest + block).split(b"\n")
        rest = lines.pop() if block else b""
        if len(rest) > _LONGEST:
            lines.append(rest)
        page = []
        for line in lines:
            place = f"{name}, line {number}"
            with _at(place):
                link = _read_line(line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line)
            if link is not None:
                page.append((place, link))
            number += 1
        if not block:
            yield page
            return
        yield page


def _read_line(line: bytes) -> Link | None:
    """Read one line; None where nothing stands in it."""
    if len(line) > _LONGEST:
        raise ConfigurationError(f"The line is longer than {_LONGEST} bytes, which no address is.")
    try:
        text = line.decode("utf-8").strip(" \t\r")
    except UnicodeDecodeError:
        text = None
    if text is None or "\0" in text:
        raise ConfigurationError("It is not UTF-8 text. Save the list as UTF-8, one address a line.")
    if not text or text.startswith("#"):
        return None
    if text.startswith("{"):
        return _read_object(text)
    if text.startswith("["):
        raise ConfigurationError("That is no address. A list has one address a line, or one JSON object a line.")
    return Link(text)


def _read_object(text: str) -> Link:
    """Read a line that is a JSON object."""
    fields: Any = None
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise ConfigurationError("The line begins as a JSON object and is none; it takes one whole object a line.")
    unknown = [name for name in fields if name not in _COLUMNS]
    if unknown:
        raise ConfigurationError(f"{printable(repr(unknown[0]))} is no column; there are {', '.join(_COLUMNS)}.")
    if not isinstance(fields.get("url"), str):
        raise ConfigurationError('The object has no "url" that is text.')
    given = {name: value for name, value in fields.items() if value is not None and name != "url"}
    return Link(fields["url"], **given)
