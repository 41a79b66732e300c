"""
Everything that touches the disk: partial files, their control records, and how a file gets its final name.

::

    <root>/
    ├── arena/extracts/...           final files; a name here is absent, the previous file, or the whole new file
    └── .arena-async/                0700
        ├── ledger.sqlite            what is known about each file (see ledger)
        ├── tenant.json              which tenant of each service this folder belongs to
        ├── lock                     held while somebody cleans up
        └── partial/
            ├── <key hash>-<random>.part      a file on its way; its name is never used twice
            └── <key hash>-<random>.json      its control record: how far it is known to be on the disk

All functions are synchronous and meant for a thread. Every call to the system goes through :class:`FileSystem`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from pathlib import Path, PurePosixPath

import attrs

__all__ = ["FileState", "FileSystem", "Partial", "Staged", "Storage"]

#: A directory that is held open, or its path where the system has no such handles.
Folder = int | str


class FileSystem:
    """The calls to the system, one method each, without any policy. Tests put recorders and faults here."""


@attrs.frozen(kw_only=True)
class FileState:
    """
    What lies under a final name.

    Args:
        size: Bytes.
        mtime_ns: When it was last written, nanoseconds since 1970.
    """

    size: int
    mtime_ns: int


@attrs.frozen(kw_only=True)
class Partial:
    """
    A file of an earlier attempt that can be continued.

    Args:
        key: Whose content it is.
        name: Its name in the folder of partial files.
        validator: The strong ETag of the content.
        offset: Bytes that are known to be on the disk, and were found there.
        total: Bytes of the whole file, or None.
    """

    key: str
    name: str
    validator: str
    offset: int
    total: int | None = None


class Staged:
    """
    A file on its way, open for writing under a name of its own. Made by :meth:`Storage.stage` and :meth:`Storage.resume`.

    Attributes:
        key: Whose content it is.
        path: Where it will go, below the root.
        name: Its name in the folder of partial files.
        end: Bytes written so far without a gap.
        durable_offset: Bytes that the control record vouches for.
    """

    key: str
    path: PurePosixPath
    name: str
    end: int
    durable_offset: int

    def describe(self, *, validator: str | None, total: int | None) -> None:
        """
        Say what the content is, before its first byte is written.

        Without a strong validator nothing can be continued, so no control record is ever written. A known ``total``
        above 1 MiB is reserved on the disk.

        Raises:
            DiskFullError: There is less room than that.
            StorageError: The disk refused.
        """
        raise NotImplementedError

    def write(self, data: memoryview | bytes, offset: int) -> None:
        """
        Write all of ``data`` at ``offset``; every flush unit of bytes ends in a :meth:`checkpoint`.

        Raises:
            DiskFullError: No room is left; what is recorded so far stays for the next run.
            StorageError: The disk refused.
        """
        raise NotImplementedError

    def checkpoint(self) -> None:
        """
        Force the data to the disk and then, if it can be continued, write down how far it goes.

        Raises:
            DiskFullError: No room is left. Data that could not be forced to the disk is not trusted: the file is dropped.
            StorageError: The disk refused, with the same consequence.
        """
        raise NotImplementedError

    def restart(self) -> None:
        """Forget all content and start at byte 0, under the same name."""
        raise NotImplementedError

    def read(self, offset: int, size: int) -> bytes:
        """Read back up to ``size`` bytes; fewer only at the end of the file."""
        raise NotImplementedError

    def replay(self, feed: Callable[[memoryview], object], *, end: int) -> None:
        """Hand the first ``end`` bytes to ``feed``, block by block, for instance to hash a file that is continued."""
        raise NotImplementedError

    def close(self) -> None:
        """Close it. What is recorded stays for the next run; a file without a control record is removed. Safe twice."""
        raise NotImplementedError

    def drop(self) -> None:
        """Close and remove it with its control record. Safe twice, never raises for what is gone already."""
        raise NotImplementedError


class Storage:
    """
    One destination folder.

    Args:
        root: The folder; it is made when it is missing.
        files: The calls to the system.
        flush_unit: Bytes after which a file that can be continued is forced to the disk and recorded.
        draw_name: Gives the random part of a name.
    """

    root: Path

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        files: FileSystem | None = None,
        flush_unit: int = 8 * 1024 * 1024,
        draw_name: Callable[[], str] | None = None,
    ) -> None:
        raise NotImplementedError

    def prepare(self) -> None:
        """
        Make the folders and open them. Everything below needs it.

        Raises:
            StorageError: The root is not a directory or cannot be written.
        """
        raise NotImplementedError

    def claim(self, service: str, tenant: str) -> None:
        """
        Take the folder for a tenant of a service, for ever.

        Raises:
            DestinationBusyError: It belongs to another tenant of that service.
        """
        raise NotImplementedError

    @property
    def ledger_path(self) -> Path:
        """Where the ledger lies."""
        raise NotImplementedError

    def free_bytes(self) -> int | None:
        """Say how many bytes the disk still takes, or None where the system does not tell."""
        raise NotImplementedError

    def check_space(self, size: int, *, path: PurePosixPath | str = "") -> None:
        """
        Check that ``size`` more bytes fit.

        Raises:
            DiskFullError: They do not; nothing was asked from the service for it.
        """
        raise NotImplementedError

    def look(self, path: PurePosixPath | str) -> FileState | None:
        """
        Say what lies under a final name: None when nothing does, or a symlink, which a commit replaces.

        Raises:
            DestinationBusyError: It is a directory, a FIFO, a device or a socket.
            UnsafeNameError: The path leaves the folder or uses a name that is ours.
            StorageError: One of its folders is a symlink or a file.
        """
        raise NotImplementedError

    def look_all(self, paths: Collection[PurePosixPath | str]) -> dict[str, FileState | Exception | None]:
        """Do :meth:`look` for a page of paths in one go; errors are values, so that one file fails alone."""
        raise NotImplementedError

    def digest(self, path: PurePosixPath | str) -> tuple[str, FileState] | None:
        """Give the SHA-256 of a final file in hexadecimal and what it was read from, or None when it is missing."""
        raise NotImplementedError

    def stage(self, key: str, path: PurePosixPath | str, *, size: int | None = None) -> Staged:
        """
        Open a new, empty partial file.

        Raises:
            DestinationBusyError: The final name is taken by something that is no file; nothing was made.
            DiskFullError: ``size`` bytes do not fit.
            StorageError: The disk refused.
        """
        raise NotImplementedError

    def find_partial(self, key: str) -> Partial | None:
        """
        Find the best partial file of a key that can be trusted; the others of that key are removed unless they are in use.
        """
        raise NotImplementedError

    def resume(self, partial: Partial, path: PurePosixPath | str) -> Staged | None:
        """Open a partial file to go on at its offset, cut back to it; None when somebody else has taken it."""
        raise NotImplementedError

    def discard(self, path: PurePosixPath | str) -> bool:
        """Remove a final file (pruning) and the folders that it leaves empty; False when it was not there."""
        raise NotImplementedError

    def sweep(self, *, keep: Collection[str] = ()) -> int:
        """Remove partial files nobody uses that cannot be continued, except those named; say how many."""
        raise NotImplementedError

    def close(self) -> None:
        """Close the folders. Safe twice."""
        raise NotImplementedError
