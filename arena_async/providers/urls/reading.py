"""
Read lists of addresses block by block, each time they are iterated; a list is never completely in memory.

::

    https://example.org/data/day-1.csv                                    one address a line
    # a comment
    {"url": "https://example.org/d?id=7", "name": "day-7.csv", "size": 812, "sha256": "9f86d0..."}
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from functools import partial
from typing import Any

import attrs

from arena_async.errors import ConfigurationError, SourceChangedError
from arena_async.options import KIB
from arena_async.protocol.messages import Secret, printable
from arena_async.providers.urls.links import Link
from arena_async.transfer.local_files import UploadSource
from arena_async.transfer.workers import Threads

__all__ = ["LinkList", "Row", "list_in_file", "list_in_text", "list_of_rows", "open_list", "read_line"]

#: Bytes that are split into lines at a time: some hundred rows, so that the event loop is not blocked for long.
_BLOCK = 16 * KIB
#: Bytes of one line, at the most.
_MAX_LINE = 64 * KIB
#: Rows of one page of a list in memory.
_PAGE = 200
_COLUMNS = ("url", "name", "size", "sha256", "md5", "headers")

#: The number of a row, and what the list has there.
Row = tuple[int, "bytes | str | Secret | Link"]
#: What changes with the content, the rows page by page, and what closes the list.
OpenedList = tuple[object, Iterator[list[Row]], Callable[[], None]]
#: Returns the next page of a list, or None at its end.
NextPage = Callable[[], Awaitable[list[Row] | None]]


@attrs.frozen
class LinkList:
    """
    A list that can be opened any number of times.

    Args:
        noun: What precedes the number of a row in errors.
        open: Opens the list, on a worker thread.
    """

    noun: str
    open: Callable[[], OpenedList]


def list_of_rows(rows: Sequence[str | Secret | Link]) -> LinkList:
    """Return the list of rows in memory."""

    def open_rows() -> OpenedList:
        numbered = enumerate(rows, 1)
        return None, iter(lambda: list(itertools.islice(numbered, _PAGE)), []), lambda: None

    return LinkList("address", open_rows)


def list_in_text(text: str | bytes, name: str) -> LinkList:
    """Return the list in a text, which errors call ``name``."""
    content = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    return LinkList(
        f"{name}, line", lambda: (None, _lines(lambda offset, size: content[offset : offset + size]), lambda: None)
    )


def list_in_file(path: str | os.PathLike[str]) -> LinkList:
    """Return the list in a file. A change while it is read is an error."""
    path = os.fspath(path)
    shown = printable(path)

    def open_file() -> OpenedList:
        source = UploadSource(path)
        state = source.open()

        def pages() -> Iterator[list[Row]]:
            yield from _lines(source.read)
            if source.state() != state:
                raise SourceChangedError(
                    f"{shown}: the list was changed while it was read; what it names now is not known. Run again."
                )

        return state, pages(), source.close

    return LinkList(f"{shown}, line", open_file)


@contextlib.asynccontextmanager
async def open_list(links: LinkList) -> AsyncIterator[tuple[object, NextPage]]:
    """
    Open a list: yield what changes with its content, and what returns its next page, read on a thread.

    Raises:
        SourceChangedError: The list was changed while it was read.
        StorageError: The disk failed.
    """
    threads = Threads(1, name="arena_async-list")
    opened: list[Callable[[], None]] = []

    def start() -> tuple[object, Iterator[list[Row]]]:
        state, pages, close = links.open()
        opened.append(close)  # noted here: a cancelled task does not get what its thread returns
        return state, pages

    try:
        state, pages = await threads.run(start)
        yield state, partial(threads.run, next, pages, None)
    finally:
        try:
            await threads.aclose()
        finally:
            for close in opened:
                close()


def _lines(read: Callable[[int, int], bytes]) -> Iterator[list[Row]]:
    """Yield the numbered lines that end in each block."""
    rest, number = b"", 1
    for at in itertools.count(0, _BLOCK):
        block = read(at, _BLOCK)
        lines = (rest + block).split(b"\n")
        rest = lines.pop() if block else b""
        if len(rest) > _MAX_LINE:
            lines.append(rest)
        if number == 1 and lines:
            lines[0] = lines[0].removeprefix(b"\xef\xbb\xbf")
        yield list(enumerate(lines, number))
        number += len(lines)
        if not block:
            return


def read_line(line: bytes) -> str | Link | None:
    """
    Return the address on a line, or the link; None if the line has neither.

    Raises:
        ConfigurationError: It cannot be one.
    """
    if len(line) > _MAX_LINE:
        raise ConfigurationError(f"The line is longer than {_MAX_LINE} bytes, which no address is.")
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
    return text


def _read_object(text: str) -> Link:
    """Return the link on a line that is a JSON object."""
    fields: Any = None
    with contextlib.suppress(ValueError, RecursionError):
        fields = json.loads(text)
    if not isinstance(fields, dict):
        raise ConfigurationError("The line begins as a JSON object and is none; write one complete object a line.")
    unknown = [name for name in fields if name not in _COLUMNS]
    if unknown:
        raise ConfigurationError(f"{printable(repr(unknown[0]))} is no column; there are {', '.join(_COLUMNS)}.")
    if not isinstance(fields.get("url"), str):
        raise ConfigurationError('The object has no "url" that is text.')
    options = {name: value for name, value in fields.items() if value is not None and name != "url"}
    return Link(fields["url"], **options)
