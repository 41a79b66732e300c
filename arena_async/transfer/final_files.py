"""Final files that are read again, and removed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import TypeVar

from arena_async.transfer.directory import Directory, ParentCache, split_path
from arena_async.transfer.filesystem import (
    Proceed,
    again,
    explaining,
    iter_blocks,
)
from arena_async.transfer.models import FileState, LedgerEntry

T = TypeVar("T")

__all__ = ["Read", "digest", "discard", "read_final", "recorded_state"]

#: Returns so many bytes (second argument) of a file from an offset (first).
Read = Callable[[int, int], bytes]


def read_final(
    directory: Directory, path: str, use: Callable[[Iterator[bytes], Read], T], proceed: Proceed
) -> tuple[T, FileState] | None:
    """
    Read a final file, and return what ``use`` makes of it and the state it was read in, or None when it is missing.

    Args:
        directory: The directory.
        path: The file.
        use: Is given its blocks in order, and a function that returns so many bytes (second argument) from an offset.
        proceed: Called before each read; raises to end it.

    Raises:
        DestinationBusyError: It is no file.
        StorageError: The disk failed.
    """
    parent, name = split_path(directory.root, path)
    files = directory.files
    with ParentCache(directory) as parents:
        handle = parents[parent]
        if handle is None or directory.stat_in(handle, name, path) is None:
            return None
        with explaining(path, "read"):
            try:
                file = again(files.open_file, handle, name)
            except FileNotFoundError:
                return None

            def read(offset: int, size: int) -> bytes:
                proceed()
                return again(files.read, file, size, offset)

            try:
                seen = again(files.look_open, file)
                blocks = iter_blocks(read)
                return use(blocks, read), FileState(size=seen.st_size, mtime_ns=seen.st_mtime_ns)
            finally:
                files.close(file)


def digest(
    directory: Directory,
    path: str,
    proceed: Proceed = bool,
    *,
    start: int = 0,
    until: int | None = None,
) -> tuple[str, FileState] | None:
    """
    Return the SHA-256 of a final file in hexadecimal and the state it was read in, or None when it is missing.

    Args:
        directory: The directory.
        path: The file.
        proceed: Called before each block is read; raises to end it.
        start: The first byte of the range to hash.
        until: The byte behind it, or None for all.

    Raises:
        DestinationBusyError: It is no file.
        StorageError: The disk failed.
    """

    def hashed(_: Iterator[bytes], read: Read) -> str:
        sha256 = hashlib.sha256()
        for block in iter_blocks(read, start, until):
            sha256.update(block)
        return sha256.hexdigest()

    return read_final(directory, path, hashed, proceed)


def recorded_state(directory: Directory, entry: LedgerEntry, proceed: Proceed = bool) -> FileState | None:
    """
    Return the state of a final file whose digest is the recorded one, else None.

    Raises:
        StorageError: The disk failed.
    """
    read = digest(directory, entry.path, proceed)
    return read[1] if read is not None and (read[0], read[1].size) == (entry.sha256, entry.size) else None


def discard(directory: Directory, path: str) -> None:
    """
    Remove a final file, if it is there, and the directories that it leaves empty.

    Raises:
        DestinationBusyError: It is no file.
        StorageError: The disk failed.
    """
    parent, name = split_path(directory.root, path)
    with ParentCache(directory) as parents:
        handle = parents[parent]
        if handle is None or directory.stat_in(handle, name, path) is None:
            return
        with explaining(path, "removed"):
            directory.remove(handle, name)
        while parent:
            above, _, name = parent.rpartition("/")
            handle = parents[above]
            try:
                if handle is not None:
                    again(directory.files.remove_directory, handle, name)
            except OSError:
                break
            parent = above
