"""
The calls to the system, one method each, and the sentences that are said where one was refused.

Nothing here decides anything: the order of the calls is in ``transfer.directory`` and the modules above it.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from arena_async.errors import DiskFullError, StorageError
from arena_async.options import KIB
from arena_async.protocol.messages import printable

if sys.platform != "win32":
    import fcntl
    import pwd

__all__ = [
    "MAX_WAITS",
    "NO_DIRECTORY",
    "NO_FOLLOW",
    "PLAIN_FLAGS",
    "UNSUPPORTED",
    "WAIT_SECONDS",
    "FileSystem",
    "Handle",
    "Proceed",
    "again",
    "explained",
    "explaining",
    "hash_range",
    "is_out_of_files",
    "kind_of",
    "read_blocks",
    "read_small",
    "replace_file",
    "write_all",
]

T = TypeVar("T")

#: A directory that is held open, or its path where the system has no such handles.
Handle = int | str

_HANDLES = os.open in os.supports_dir_fd and hasattr(os, "O_DIRECTORY")
#: Flags with which every file is opened: children do not inherit it, and no line ends are changed.
PLAIN_FLAGS = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOINHERIT", 0)
#: And through no link.
NO_FOLLOW = PLAIN_FLAGS | getattr(os, "O_NOFOLLOW", 0)
#: A FIFO must not make us wait for a writer.
_NO_WAIT = NO_FOLLOW | getattr(os, "O_NONBLOCK", 0)

#: Bytes of a control record or of tenant.json at most.
_MAX_RECORD = 64 * KIB
#: Bytes that are read at a time.
_BLOCK = 256 * KIB
#: Called before each block is read; raises to end that.
Proceed = Callable[[], object]
#: Calls that are interrupted again and again are given up after so many tries, and so is a file that others remove.
_TRIES = 100
#: How often, and for how many seconds, something waits for open files to be closed.
MAX_WAITS, WAIT_SECONDS = 100, 0.1

_FULL = frozenset({errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)})
UNSUPPORTED = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})
NO_DIRECTORY = frozenset({errno.ELOOP, errno.ENOTDIR, getattr(errno, "EMLINK", errno.ELOOP)})

_ADVICE = {
    errno.ENOSPC: "no room is left on the disk. Free some space and run again; what was recorded is continued",
    getattr(errno, "EDQUOT", -1): "the disk quota of this user is used up. Free some space and run again",
    errno.EFBIG: "the file is larger than the file system, or a limit of this process, allows. Choose another folder",
    errno.EROFS: "the file system is read-only. Choose another folder, or mount it for writing",
    errno.EACCES: "this user is not allowed to. Check who owns the folder and its permissions",
    errno.EPERM: "this user is not allowed to. Check who owns the folder and its permissions",
    errno.EIO: "the disk reports a fault. Check the disk before running again",
    errno.ENOENT: "a folder or file vanished meanwhile. Leave the folder alone during a run, and run again",
    errno.EXDEV: "it lies on another file system than the rest of the folder. Let the whole folder be on one",
    errno.EMFILE: "too many files are open. Use fewer workers, or raise the limit of open files",
    errno.ENAMETOOLONG: "the path is too long for this file system. Choose a shorter folder or layout",
    errno.ELOOP: "there is a symbolic link on the way, which is never followed below the folder",
    errno.ENOTDIR: "something on the way is not a folder",
}


if sys.platform == "darwin":

    def _force(file: int) -> None:
        """Force an open file or folder to the disk."""
        # fsync of macOS stops at the cache of the drive.
        # https://developer.apple.com/documentation/xcode/reducing-disk-writes
        fcntl.fcntl(file, fcntl.F_FULLFSYNC)

else:
    _force = os.fsync


def _checked_directory(path: str, seen: os.stat_result) -> Handle:
    """Return the path of a directory, which stands for its handle."""
    if not stat.S_ISDIR(seen.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
    return path


class FileSystem:
    """
    The calls to the system, one method each, without any policy. Tests put recorders and faults here.

    Every method raises ``OSError`` as the system does. A folder is what :meth:`open_root` and :meth:`open_directory`
    return: a handle, or a path where the system has no handles of folders.
    """

    #: Whether a file may be renamed or removed while it is open.
    renames_open_files: bool = os.name == "posix"
    #: Whether several threads may write to one file at a time, each at its own offset.
    writes_anywhere: bool = hasattr(os, "pwrite") and os.name == "posix"

    def make_root(self, path: str) -> None:
        """Make a folder and those above it, if they are missing."""
        os.makedirs(path, exist_ok=True)

    def open_root(self, path: str) -> Handle:
        """Open the folder that the user named; links on the way to it are the user's own."""
        if _HANDLES:
            return os.open(path, os.O_RDONLY | os.O_DIRECTORY | PLAIN_FLAGS)
        return _checked_directory(os.path.abspath(path), os.stat(path))

    def open_directory(self, parent: Handle, name: str) -> Handle:
        """Open a folder inside another, and no link to one."""
        if isinstance(parent, str):
            path = os.path.join(parent, name)
            return _checked_directory(path, os.lstat(path))
        return os.open(name, os.O_RDONLY | os.O_DIRECTORY | NO_FOLLOW, dir_fd=parent)

    def make_directory(self, parent: Handle, name: str, mode: int) -> None:
        """Make one folder."""
        if isinstance(parent, str):
            os.mkdir(os.path.join(parent, name), mode)
        else:
            os.mkdir(name, mode, dir_fd=parent)

    def remove_directory(self, parent: Handle, name: str) -> None:
        """Remove an empty folder."""
        if isinstance(parent, str):
            os.rmdir(os.path.join(parent, name))
        else:
            os.rmdir(name, dir_fd=parent)

    def names(self, directory: Handle) -> list[str]:
        """List the names in a folder, in no order. Any number of threads may do so at once."""
        if isinstance(directory, str):
            return os.listdir(directory)
        # All who hold one handle share its place in the folder, and would each get a part of the names.
        own = os.open(".", os.O_RDONLY | os.O_DIRECTORY | NO_FOLLOW, dir_fd=directory)
        try:
            return os.listdir(own)
        finally:
            os.close(own)

    def sync_directory(self, directory: Handle) -> None:
        """Force the names in a folder to the disk. Windows has no such call and does it by itself."""
        if not isinstance(directory, str):
            _force(directory)

    def free(self, directory: Handle) -> int | None:
        """Return how many bytes an ordinary user may still write, or None."""
        if hasattr(os, "statvfs"):
            numbers = os.statvfs(directory)
            return numbers.f_bavail * numbers.f_frsize
        return shutil.disk_usage(directory).free

    def create(self, directory: Handle, name: str, mode: int) -> int:
        """Make a new file, never one that exists, and open it for reading and writing."""
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | NO_FOLLOW
        if isinstance(directory, str):
            return os.open(os.path.join(directory, name), flags, mode)
        return os.open(name, flags, mode, dir_fd=directory)

    def open_file(self, directory: Handle, name: str, *, writable: bool = False) -> int:
        """Open what is there, and no link to it, without blocking."""
        flags = (os.O_RDWR if writable else os.O_RDONLY) | _NO_WAIT
        if isinstance(directory, str):
            return os.open(os.path.join(directory, name), flags)
        return os.open(name, flags, dir_fd=directory)

    def write(self, file: int, data: memoryview | bytes, offset: int) -> int:
        """Write at an offset and say how many bytes were taken."""
        if hasattr(os, "pwrite"):
            return os.pwrite(file, data, offset)
        os.lseek(file, offset, os.SEEK_SET)
        return os.write(file, data)

    def read(self, file: int, size: int, offset: int) -> bytes:
        """Read at an offset."""
        if hasattr(os, "pread"):
            return os.pread(file, size, offset)
        os.lseek(file, offset, os.SEEK_SET)
        return os.read(file, size)

    def allocate(self, file: int, size: int) -> None:
        """Reserve room, and make the file as long."""
        if not hasattr(os, "posix_fallocate"):
            raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))
        os.posix_fallocate(file, 0, size)

    def truncate(self, file: int, size: int) -> None:
        """Cut a file, or make it longer."""
        os.ftruncate(file, size)

    def begin_sync(self, file: int, offset: int) -> None:
        """Let the system begin to write a file to the disk, from an offset on, without waiting. It proves nothing."""
        # Pages that are still to be written are not dropped from the cache by this, only sent on their way; that is
        # what makes it the portable form of sync_file_range(SYNC_FILE_RANGE_WRITE).
        # https://man7.org/linux/man-pages/man2/posix_fadvise.2.html
        if sys.platform == "linux":
            os.posix_fadvise(file, offset, 0, os.POSIX_FADV_DONTNEED)

    def sync(self, file: int) -> None:
        """Force a file to the disk with everything that is known about it."""
        _force(file)

    def sync_data(self, file: int) -> None:
        """Force the content of a file to the disk, and its length, but not its times."""
        if hasattr(os, "fdatasync"):
            os.fdatasync(file)
        else:
            _force(file)

    def close(self, opened: Handle) -> None:
        """Close a file or a folder."""
        if not isinstance(opened, str):
            os.close(opened)

    def chmod(self, file: int, mode: int) -> None:
        """Set who may do what with an open file or folder."""
        if hasattr(os, "fchmod"):
            os.fchmod(file, mode)

    def look(self, directory: Handle, name: str) -> os.stat_result:
        """Look at a name, and at a link itself."""
        if isinstance(directory, str):
            return os.lstat(os.path.join(directory, name))
        return os.stat(name, dir_fd=directory, follow_symlinks=False)

    def look_open(self, file: int) -> os.stat_result:
        """Look at an open file."""
        return os.fstat(file)

    def is_member(self, user: int, group: int, *, unknown: bool) -> bool:
        """Return whether a user is in a group; ``unknown`` where this machine has no name for the user."""
        if sys.platform == "win32":
            return unknown
        try:
            known = pwd.getpwuid(user)
        except KeyError:
            return unknown
        return group in os.getgrouplist(known.pw_name, known.pw_gid)

    def rename(self, directory: Handle, name: str, to: Handle, new: str) -> None:
        """Rename a file atomically, replacing what has that name."""
        if isinstance(directory, int) and isinstance(to, int):
            os.replace(name, new, src_dir_fd=directory, dst_dir_fd=to)
        else:
            os.replace(os.path.join(str(directory), name), os.path.join(str(to), new))

    def unlink(self, directory: Handle, name: str) -> None:
        """Take a name away."""
        if isinstance(directory, str):
            os.unlink(os.path.join(directory, name))
        else:
            os.unlink(name, dir_fd=directory)

    def lock(self, file: int) -> bool:
        """Lock an open file until it is closed, without waiting; False when another process has it locked."""
        if sys.platform == "win32":
            return True
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            return False
        except OSError as error:
            if error.errno in UNSUPPORTED:
                return True
            raise
        return True

    def unlock(self, file: int) -> None:
        """Unlock an open file, also for forked processes that have it open."""
        if sys.platform != "win32":
            with contextlib.suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_UN)


def is_out_of_files(error: Exception) -> bool:
    """Return whether too many files are open: some are closed soon, and the disk is all right."""
    cause = error.__cause__ or error.__context__
    return isinstance(cause, OSError) and cause.errno in (errno.EMFILE, errno.ENFILE)


def explained(error: OSError, place: object, doing: str, *, file: str | None = None) -> StorageError:
    """Make the typed error of what the system said, with a sentence that says what to do."""
    said = error.strerror or type(error).__name__
    advice = _ADVICE.get(error.errno or 0, "fix what the system reports, and run again")
    kind = DiskFullError if error.errno in _FULL else StorageError
    known = kind(f"{printable(str(place))}: could not be {doing} ({said}): {advice}.", file=file)
    known.__cause__ = error  # Where it is returned, and not raised.
    return known


@contextlib.contextmanager
def explaining(place: object, doing: str, *, file: str | None = None) -> Iterator[None]:
    """Turn what the system raises into the typed error."""
    try:
        yield
    except OSError as error:
        raise explained(error, place, doing, file=file) from error


def again(call: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """Repeat a call that was interrupted or would block: that is no error of the disk."""
    for _ in range(_TRIES):
        try:
            return call(*args, **kwargs)
        except (InterruptedError, BlockingIOError):
            continue
    return call(*args, **kwargs)


def write_all(files: FileSystem, file: int, data: memoryview | bytes, offset: int) -> int:
    """Write all of ``data`` at an offset and return where it ends. Raises ``OSError``."""
    rest, at = memoryview(data).cast("B"), offset
    while rest:
        taken = again(files.write, file, rest, at)
        if taken <= 0:
            raise OSError(errno.EIO, "the system took no bytes")
        rest, at = rest[taken:], at + taken
    return at


def read_blocks(
    files: FileSystem, file: int, start: int, until: int | None = None, proceed: Proceed = bool
) -> Iterator[bytes]:
    """
    Return the bytes of a range, block by block, as many as there are. Raises ``OSError``.

    ``proceed`` is called before each block is read, and raises to end it.
    """

    def read(offset: int, size: int) -> bytes:
        proceed()
        return again(files.read, file, size, offset)

    return iter_blocks(read, start, until)


def iter_blocks(read: Callable[[int, int], bytes], start: int = 0, until: int | None = None) -> Iterator[bytes]:
    """Yield the bytes of a range, block by block, from what returns so many bytes (second argument) from an offset."""
    end = sys.maxsize if until is None else until
    while start < end and (block := read(start, min(_BLOCK, end - start))):
        yield block
        start += len(block)


def hash_range(files: FileSystem, file: int, start: int = 0, until: int | None = None, proceed: Proceed = bool) -> str:
    """Return the SHA-256 of a range of an open file, or of as much of it as there is. Raises as :func:`read_blocks`."""
    digest = hashlib.sha256()
    for block in read_blocks(files, file, start, until, proceed):
        digest.update(block)
    return digest.hexdigest()


def kind_of(mode: int) -> str:
    """Return what something is that is no file."""
    kinds = (
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISLNK, "a symbolic link"),
        (stat.S_ISFIFO, "a FIFO"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISCHR, "a device"),
        (stat.S_ISBLK, "a device"),
    )
    return next((name for check, name in kinds if check(mode)), "something that is no file")


def read_small(files: FileSystem, directory: Handle, name: str) -> bytes | None:
    """
    Read a small file of ours; None when it is missing, is no file, or is larger than any of ours.

    Raises ``OSError`` where that is not known.
    """
    try:
        file = again(files.open_file, directory, name)
    except OSError as error:
        if error.errno in NO_DIRECTORY | {errno.ENOENT, errno.ENXIO}:
            return None
        raise
    try:
        seen = again(files.look_open, file)
        if not stat.S_ISREG(seen.st_mode) or seen.st_size > _MAX_RECORD:
            return None
        return again(files.read, file, _MAX_RECORD, 0)
    finally:
        files.close(file)


def replace_file(
    files: FileSystem,
    directory: Handle,
    name: str,
    content: bytes,
    *,
    draw_name: Callable[[], str],
    sync: Callable[[int], object] = lambda _: None,
) -> None:
    """
    Replace a small file in one step: readers see the previous content or the new one. Raises ``OSError``.

    Args:
        files: The system calls.
        directory: Where it lies, open.
        name: Its name.
        content: Its new content.
        draw_name: Returns the name of the new file until it is renamed.
        sync: Called with the open file before it is renamed.
    """
    for _ in range(_TRIES):
        new = draw_name()
        file = again(files.create, directory, new, 0o600)
        try:
            try:
                with contextlib.suppress(OSError):
                    again(files.lock, file)  # It shows other processes that the file is being written.
                write_all(files, file, content, 0)
                sync(file)
            finally:
                files.close(file)
            again(files.rename, directory, new, directory, name)
        except BaseException as error:
            try:
                again(files.unlink, directory, new)
            except FileNotFoundError:
                if isinstance(error, FileNotFoundError):
                    # Another process removed it, before it was locked or after its lock was released.
                    continue
            except OSError:
                pass
            raise
        return
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
