"""
The target directory: its handles, who owns it, and what lies under the final names.

::

    <root>/
    ├── arena/extracts/...           final files; a name is absent, the previous file, or the complete new file
    └── .arena-async/                0700
        ├── ledger.sqlite            what is known about each file (see ledger)
        ├── tenant.json              which tenant of each service this directory belongs to
        ├── lock                     held while tenant.json is written
        └── partial/                 files that are being downloaded (see partial_files)

All functions block and are meant for a thread. Every system call goes through the port in ``transfer.filesystem``.
Below the root no symbolic link is ever followed: directories are opened one inside the other, so that a path cannot be
replaced between a check and a rename. Paths are text with slashes, relative to the root.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import secrets
import stat
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Self

from arena_async.errors import DestinationBusyError, DiskFullError, StorageError, UnsafeNameError
from arena_async.options import MIB
from arena_async.protocol.messages import printable
from arena_async.transfer.filesystem import (
    MAX_WAITS,
    NO_DIRECTORY,
    UNSUPPORTED,
    WAIT_SECONDS,
    FileSystem,
    Handle,
    again,
    explained,
    explaining,
    hash_range,
    is_out_of_files,
    kind_of,
    replace_file,
)
from arena_async.transfer.models import FileState

__all__ = ["STATE_DIRECTORY", "Directory", "ParentCache", "digest", "discard", "permissions", "split_path"]

log = logging.getLogger("arena_async")

#: The name of our own directory below a root.
STATE_DIRECTORY = ".arena-async"

#: What stands for a directory that is not open.
_CLOSED: Handle = -1


def split_path(root: Path, path: str) -> tuple[str, str]:
    """
    Return the parent and the name of a relative path.

    Raises:
        UnsafeNameError: It does not lie inside the root, or is ours.
    """
    parts = path.split("/")
    odd = "" in parts or "." in parts or ".." in parts or "\0" in path
    if odd or (os.name == "nt" and (":" in path or "\\" in path)):
        raise UnsafeNameError(f"{printable(path)!r}: it does not lie inside {root}; nothing was written.")
    if parts[0].casefold() == STATE_DIRECTORY:
        raise UnsafeNameError(f"{printable(path)!r}: {STATE_DIRECTORY} is where the state of the folder is kept.")
    parent, _, name = path.rpartition("/")
    return parent, name


def permissions(mode: int) -> int:
    """Return the permissions of a mode that a downloaded file may have: not writable for others, no special bits."""
    return stat.S_IMODE(mode) & 0o775


class ParentCache(dict[str, Handle | None]):
    """
    The parent directories of a batch of files, each opened once; a context manager that closes them.

    ``parents[path]`` opens a directory below the root; it is None where it is missing and not to be made.
    """

    def __init__(self, directory: Directory, *, make: bool = False) -> None:
        super().__init__()
        self._directory = directory
        self._make = make

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for opened in self.values():
            if opened is not None:
                self._directory.files.close(opened)
        self.clear()

    def __missing__(self, parent: str) -> Handle | None:
        if len(self) >= 64:  # Each is an open file.
            self.forget(next(iter(self)))
        for left in reversed(range(MAX_WAITS)):
            try:
                opened = self[parent] = self._directory.open_directory(parent, make=self._make)
            except StorageError as error:
                if not left or not is_out_of_files(error):
                    raise
                self._directory.sleep(WAIT_SECONDS)
            else:
                return opened
        raise AssertionError

    def forget(self, parent: str) -> None:
        """Close a directory."""
        opened = self.pop(parent)
        if opened is not None:
            self._directory.files.close(opened)


class Directory:
    """
    One target directory.

    Args:
        root: The directory; it is made when it is missing.

    Attributes:
        ledger_path: The path of the ledger.
        files: The system calls.
        draw_name: Returns the part of a name that makes it unique.
        sleep: Waits for some seconds.
        now: Returns the seconds since 1970, as the times of files do.
        clock: Returns seconds that never decrease.
        flush_unit: Bytes after which a resumable file is synced and recorded, whatever the time; where they arrive
            slowly, each second is enough for 8 MiB.
        resumable: The owners of the partial files that existed when it was opened, or were recorded since.
        locks_work: Whether a lock keeps other processes out; on some network file systems it is granted to all.
        mode: The permissions of a new file.
        partials: The open directory of partial files.
        state: The open directory of our own files.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root)
        self.ledger_path = self.root / STATE_DIRECTORY / "ledger.sqlite"
        self.files = FileSystem()
        prefix, numbers = secrets.token_hex(6), itertools.count()
        self.draw_name: Callable[[], str] = lambda: f"{prefix}{next(numbers):04x}"
        self.sleep: Callable[[float], object] = time.sleep
        self.now: Callable[[], float] = time.time
        self.clock: Callable[[], float] = time.monotonic
        self.flush_unit = 32 * MIB
        self.resumable: set[str] = set()
        self.locks_work = False
        self.mode = 0o600
        self.partials: Handle = _CLOSED
        self.state: Handle = _CLOSED
        self._root: Handle = _CLOSED
        self._warned = False

    # -- open and close

    def open(self) -> None:
        """
        Make and open the directories. Everything below needs it. Safe to call twice.

        Raises:
            DiskFullError: No space is left.
            StorageError: The root is not a directory or cannot be written.
        """
        if self._root != _CLOSED:
            return
        try:
            with explaining(self.root, "opened"):
                self._root = again(self.files.open_root, str(self.root))
                self.state = self._private_directory(self._root, STATE_DIRECTORY)
                self.mode = _default_mode(self, self.state)
                self.locks_work = _try_locks(self, self.state)
                self.partials = self._private_directory(self.state, "partial")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the directories. Safe to call twice."""
        opened = [handle for handle in (self.partials, self.state, self._root) if handle != _CLOSED]
        self.partials = self.state = self._root = _CLOSED
        for handle in opened:
            with contextlib.suppress(OSError):
                self.files.close(handle)

    def _private_directory(self, parent: Handle, name: str) -> Handle:
        """Open one of our own directories, which other users may not read."""
        with contextlib.suppress(FileExistsError):
            again(self.files.make_directory, parent, name, 0o700)
            self.sync(parent, self.files.sync_directory)
        handle = again(self.files.open_directory, parent, name)
        if isinstance(handle, int):
            with contextlib.suppress(PermissionError):
                if stat.S_IMODE(again(self.files.look_open, handle).st_mode) != 0o700:
                    again(self.files.chmod, handle, 0o700)
        return handle

    # -- space

    def free_bytes(self) -> int | None:
        """Return how many bytes can still be written, or None where the system does not report it."""
        try:
            return again(self.files.free, self._root)
        except OSError:
            return None

    def check_room(self, path: str, size: int | None) -> None:
        """
        Check that a file can go under a final name, and that ``size`` more bytes fit if that is known.

        Raises:
            DestinationBusyError: The name is taken by something that is no file.
            DiskFullError: They do not fit.
            UnsafeNameError: The path does not lie inside the directory.
            StorageError: The disk failed.
        """
        with ParentCache(self) as parents:
            self.stat(path, parents)
        free = self.free_bytes() if size else None
        if size and free is not None and size > free:
            raise DiskFullError(
                f"{path}: {size} bytes are needed and {free} are free on the disk of {self.root}; "
                "nothing of it was written. Free some space and run again."
            )

    # -- final names

    def state_of(self, path: str) -> FileState | None:
        """
        Return what lies under a final name: None for nothing, or for a symbolic link, which a commit replaces.

        Raises:
            DestinationBusyError: It is a directory, FIFO, device or socket, or a part of its path is no directory.
            UnsafeNameError: The path leaves the root or uses a name that is ours.
            StorageError: The disk failed.
        """
        with ParentCache(self) as parents:
            seen = self.stat(path, parents)
        return None if seen is None else FileState(size=seen.st_size, mtime_ns=seen.st_mtime_ns)

    def states_of(self, paths: Collection[str]) -> dict[str, FileState | Exception | None]:
        """Return :meth:`state_of` for a page of paths; errors are values, so that one file fails alone."""
        found: dict[str, FileState | Exception | None] = {}
        with ParentCache(self) as parents:
            for path in paths:
                try:
                    seen = self.stat(path, parents)
                except StorageError as error:
                    found[path] = error
                else:
                    found[path] = None if seen is None else FileState(size=seen.st_size, mtime_ns=seen.st_mtime_ns)
        return found

    def stat(self, path: str, parents: ParentCache) -> os.stat_result | None:
        """Return the status of a final name, as :meth:`state_of`."""
        parent, name = split_path(self.root, path)
        handle = parents[parent]
        return None if handle is None else self.stat_in(handle, name, path)

    def stat_in(self, parent: Handle, name: str, path: str) -> os.stat_result | None:
        """Return the status of a final name in its directory; None for nothing and for a link."""
        try:
            seen = again(self.files.look, parent, name)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise explained(error, path, "looked at") from error
        if stat.S_ISREG(seen.st_mode):
            return seen
        if stat.S_ISLNK(seen.st_mode):
            return None
        raise DestinationBusyError(
            f"{path}: the name is taken by {kind_of(seen.st_mode)}, so no file can go there; nothing was written. "
            "Move it away and run again."
        )

    def mode_for(self, path: str, parents: ParentCache) -> int:
        """
        Return the permissions of a file that is committed there: those of the file it replaces, else by the umask.

        Raises:
            DestinationBusyError: The name is taken by something that is no file.
            StorageError: The disk failed.
        """
        seen = self.stat(path, parents)
        return self.mode if seen is None else permissions(seen.st_mode)

    def open_directory(self, path: str, *, make: bool) -> Handle | None:
        """
        Open a directory below the root without following links; None where it is missing. The caller closes it.

        Raises:
            DestinationBusyError: A part of the path is no directory.
            StorageError: The disk failed.
        """
        current = self._root
        try:
            # The root itself is opened once more, so that every handle returned is the caller's to close.
            for name in path.split("/") if path else (".",):
                above = current
                try:
                    current = again(self.files.open_directory, above, name)
                except FileNotFoundError:
                    if not make:
                        raise
                    with contextlib.suppress(FileExistsError):
                        again(self.files.make_directory, above, name, 0o775)
                        self.sync(above, self.files.sync_directory)
                    current = again(self.files.open_directory, above, name)
                if above != self._root:
                    self.files.close(above)
        except OSError as error:
            if current != self._root:
                self.files.close(current)
            if isinstance(error, FileNotFoundError) and not make:
                return None
            if error.errno in NO_DIRECTORY:
                raise DestinationBusyError(
                    f"{path}: a part of this path is a file or a symbolic link, which is never followed; nothing "
                    "was written. Move it away, or let the folder itself be the link."
                ) from error
            doing = "made" if isinstance(error, FileNotFoundError) else "opened"
            raise explained(error, path, doing) from error
        return current

    # -- small steps

    def sync(self, opened: Handle, call: Callable[[Any], None]) -> bool:
        """
        Force an open file, or the names in a directory, to the disk; False where the file system cannot.

        Raises ``OSError``. What this file system cannot promise about a power loss is logged once.
        """
        try:
            again(call, opened)
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                raise
        else:
            return True
        if not self._warned:
            self._warned = True
            log.warning(
                "%s: this file system does not support fsync; files are whole, but a power loss may cost recent ones.",
                self.root,
            )
        return False

    def write_record(self, handle: Handle, name: str, content: bytes) -> None:
        """Replace a small file of ours in one step, synced before it gets its name. Raises ``OSError``."""
        if stat.S_ISDIR(self.mode_of(handle, name)):
            self.clear(handle, name)
        replace_file(
            self.files,
            handle,
            name,
            content,
            draw_name=lambda: f"new-{self.draw_name()}",
            sync=lambda file: self.sync(file, self.files.sync),
        )

    def mode_of(self, handle: Handle, name: str) -> int:
        """Return the mode of a name, or 0 where there is nothing."""
        try:
            return again(self.files.look, handle, name).st_mode
        except OSError:
            return 0

    def remove(self, handle: Handle, name: str) -> None:
        """Remove a name if it is there. Raises ``OSError``."""
        with contextlib.suppress(FileNotFoundError):
            again(self.files.unlink, handle, name)

    def clear(self, handle: Handle, name: str) -> None:
        """Remove whatever has a name that is ours, an empty directory included; what cannot be removed stays."""
        try:
            self.remove(handle, name)
        except OSError:
            with contextlib.suppress(OSError):
                again(self.files.remove_directory, handle, name)


def _default_mode(directory: Directory, handle: Handle) -> int:
    """
    Return the permissions of a new file here.

    Only making one shows it: reading the umask means to change it for every thread, and access lists matter too.
    """
    name = f"mode-{directory.draw_name()}"
    file = again(directory.files.create, handle, name, 0o666)
    try:
        return permissions(again(directory.files.look_open, file).st_mode)
    finally:
        directory.files.close(file)
        directory.remove(handle, name)


def _try_locks(directory: Directory, handle: Handle) -> bool:
    """Return whether a second lock on the same file is refused."""
    opened: list[int] = []
    try:
        with contextlib.suppress(FileExistsError):
            opened.append(again(directory.files.create, handle, "lock", 0o600))
        while len(opened) < 2:
            opened.append(again(directory.files.open_file, handle, "lock", writable=True))
        # Another process that tries at the same time makes the first one fail, which shows the same.
        return not (again(directory.files.lock, opened[0]) and again(directory.files.lock, opened[1]))
    finally:
        for file in opened:
            directory.files.close(file)


def digest(directory: Directory, path: str) -> tuple[str, FileState] | None:
    """
    Return the SHA-256 of a final file in hexadecimal and the state it was read in, or None when it is missing.

    Raises:
        DestinationBusyError: It is no file.
        StorageError: The disk failed.
    """
    parent, name = split_path(directory.root, path)
    with ParentCache(directory) as parents:
        handle = parents[parent]
        if handle is None or directory.stat_in(handle, name, path) is None:
            return None
        with explaining(path, "read"):
            try:
                file = again(directory.files.open_file, handle, name)
            except FileNotFoundError:
                return None
            try:
                seen = again(directory.files.look_open, file)
                return hash_range(directory.files, file), FileState(size=seen.st_size, mtime_ns=seen.st_mtime_ns)
            finally:
                directory.files.close(file)


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
