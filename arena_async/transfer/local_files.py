"""
Local files that are not downloaded: small private ones, those that are uploaded, and finished ones for reading.

All functions block and are meant for a thread, but for :func:`open_for_reading` and :class:`LocalFile`.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import secrets
import stat
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from arena_async.errors import ConfigurationError, DestinationBusyError, SourceChangedError, StorageError
from arena_async.options import KIB, MIB
from arena_async.protocol.messages import printable
from arena_async.transfer.filesystem import (
    NO_FOLLOW,
    PLAIN_FLAGS,
    UNSUPPORTED,
    FileSystem,
    Handle,
    again,
    explained,
    explaining,
    kind_of,
    replace_file,
)
from arena_async.transfer.models import FileState
from arena_async.transfer.workers import Threads

if TYPE_CHECKING:
    from aiofiles.threadpool.binary import AsyncBufferedReader

__all__ = [
    "LocalFile",
    "PrivateFile",
    "UploadSource",
    "create_private",
    "open_for_reading",
    "publish_private",
    "remove_private",
    "set_aside",
    "size_of",
    "sweep_private",
]

T = TypeVar("T")

log = logging.getLogger("arena_async")

#: Bytes of a private file, at the most; of a durable one, whose rows may have to stay for years.
_MAX_BYTES, _MAX_DURABLE_BYTES = 64 * KIB, MIB
#: How long its lock is waited for: it is held for milliseconds.
_LOCK_TRIES, _LOCK_PAUSE = 200, 0.025
#: Seconds after which no process can still be writing a new one.
_OVER = 60.0


def create_private(path: Path) -> None:
    """
    Make an empty file that only its owner may read, unless there is one.

    Raises:
        DestinationBusyError: There is something that is no file, a link for instance.
        DiskFullError: No room is left.
        StorageError: The disk refused.
    """
    with explaining(path, "made"):
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | NO_FOLLOW, 0o600))
        except FileExistsError:
            seen = os.lstat(path)
            if not stat.S_ISREG(seen.st_mode):
                raise DestinationBusyError(
                    f"{path}: it is {kind_of(seen.st_mode)} and no file. Move it away and run again."
                ) from None
            if os.name == "posix" and stat.S_IMODE(seen.st_mode) != 0o600:
                os.chmod(path, 0o600)


def set_aside(path: Path, suffix: str) -> Path:
    """
    Rename a damaged file out of the way, to a name that is still free, and give that name.

    Raises:
        StorageError: The disk refused.
    """
    with explaining(path, "set aside"):
        aside = next(
            name
            for number in range(1, 10_000)
            if not os.path.lexists(name := path.with_name(f"{path.name}{suffix}{'' if number == 1 else f'-{number}'}"))
        )
        os.replace(path, aside)
    return aside


def size_of(path: Path) -> int:
    """Return the bytes of a file: 0 where there is nothing, -1 for what is no file."""
    try:
        seen = os.lstat(path)
    except OSError:
        return 0
    return seen.st_size if stat.S_ISREG(seen.st_mode) else -1


def publish_private(new: Path, path: Path, *, replace: bool = True) -> None:
    """
    Rename a file that was written completely, after a sync.

    Args:
        new: The file.
        path: Its name.
        replace: Whether it replaces what has that name; else that stays.

    Raises:
        StorageError: The disk refused.
    """
    with explaining(path, "written"):
        file = os.open(new, os.O_RDWR | NO_FOLLOW)
        try:
            os.fsync(file)
        finally:
            os.close(file)
        if not replace:
            try:
                os.link(new, path)
            except FileExistsError:
                return
            except OSError:  # Not every file system has links.
                replace = not os.path.lexists(path)
        if replace:
            os.replace(new, path)


def remove_private(path: Path) -> None:
    """
    Remove a file if there is one.

    Raises:
        StorageError: The disk refused.
    """
    with explaining(path, "removed"), contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def sweep_private(path: Path) -> None:
    """Remove what killed writers of a file have left: its name and 16 digits, an hour old. Ignores errors."""
    left = re.compile(re.escape(path.name) + r"\.[0-9a-f]{16}(-journal)?")
    with contextlib.suppress(OSError):
        for name in os.listdir(path.parent):
            if left.fullmatch(name) and time.time() - os.lstat(path.parent / name).st_mtime > 60 * _OVER:
                os.unlink(path.parent / name)


def open_for_reading(path: Path) -> AbstractAsyncContextManager[AsyncBufferedReader]:
    """
    Open a finished file for a task of the caller.

    Its calls run on the threads of the event loop. A cancelled task may leave one behind: it only reads.
    """
    import aiofiles  # noqa: PLC0415  # A download reads no finished file.

    return aiofiles.open(path, "rb")


class PrivateFile:
    """
    A small file that only its owner may read, and that several processes change in turn.

    It is locked only while it is read and written, and replaced in one step: a reader sees the whole content
    of before or the whole content of after. For a thread.

    Args:
        path: Where it lies. The directory is made when it is missing, and must be closed to other users: no other user
            may be able to read its names or to put another file in the place of this one.
        durable: Whether what is written is on the disk when :meth:`change` returns, and what is there and cannot be
            trusted is an error.
        files: The calls to the system.
        sleep: Waits for so many seconds.
    """

    def __init__(
        self,
        path: Path,
        *,
        durable: bool = False,
        files: FileSystem | None = None,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self.path = path
        self._durable, self._max_bytes = durable, _MAX_DURABLE_BYTES if durable else _MAX_BYTES
        self._files = files or FileSystem()
        self._sleep = sleep
        self._held: tuple[int, int] | None = None

    def change(self, make: Callable[[bytes | None], tuple[bytes | None, T]]) -> T:
        """
        Read the content, let it be changed, and write it, while no other process does.

        Args:
            make: Given the content, or None where there is none that can be trusted, it says what to write, or None to
                leave things as they are, and what to give back. It must be quick.

        Raises:
            ConfigurationError: The folder is open to others.
            DiskFullError: No room is left.
            StorageError: The disk failed, or another process holds the lock for too long.
        """
        directory = self._directory()
        try:
            with self._locked(directory):
                content, result = make(self._read(directory))
                if content is not None:
                    with explaining(self.path, "written"):
                        self._replace(directory, content)
            return result
        finally:
            self._files.close(directory)

    def _directory(self) -> Handle:
        """Open the folder it lies in, made for its owner alone."""
        place = self.path.parent
        with explaining(place, "opened"):
            if not os.path.lexists(place):
                again(self._files.make_root, str(place.parent))
                with contextlib.suppress(FileExistsError):
                    os.mkdir(place, 0o700)
            directory = again(self._files.open_root, str(place))
        if isinstance(directory, int):
            try:
                seen = self._files.look_open(directory)
            except BaseException:
                self._files.close(directory)
                raise
            if seen.st_uid != os.geteuid() or stat.S_IMODE(seen.st_mode) & 0o027:
                self._files.close(directory)
                raise ConfigurationError(
                    f"{printable(str(place))}: others may read or change what lies in this folder, so nothing private "
                    "is kept there; nothing was read or written. Name a folder of its own, which is made for you "
                    "alone, or remove the permissions of all other users (chmod 700)."
                )
        return directory

    def hold(self) -> bool | None:
        """
        Take a lock that is held until :meth:`let_go`, or until this process ends, without waiting.

        Returns:
            Whether it was taken or is held already; None where files cannot be locked: there everyone is granted a
            lock, also a second one of this process.

        Raises:
            ConfigurationError: The folder is open to others.
            StorageError: The disk failed.
        """
        if self._held is not None:
            return True
        directory = self._directory()
        opened: list[int] = []
        try:
            with explaining(self.path, "locked"):
                opened += [self._open_lock(directory, "held") for _ in range(2)]
                with contextlib.suppress(OSError):
                    if not again(self._files.lock, opened[0]):
                        return False
                    if not again(self._files.lock, opened[1]):
                        self._held = opened.pop(0), os.getpid()
                        return True
            return None
        finally:
            for file in opened:
                self._files.close(file)
            self._files.close(directory)

    def let_go(self) -> None:
        """Release the lock of :meth:`hold`, if it is held."""
        held, self._held = self._held, None
        if held is None:
            return
        file, process = held
        if process == os.getpid():  # Not in a fork, which would unlock it for this process as well.
            self._files.unlock(file)
        self._files.close(file)

    def __del__(self) -> None:
        """Release the lock where its owner was abandoned: other processes wait for it."""
        self.let_go()

    def _open_lock(self, directory: Handle, kind: str) -> int:
        """Open a file to lock, which is made where it is missing. Raises ``OSError``."""
        name = f"{self.path.name}.{kind}"
        with contextlib.suppress(FileExistsError):
            self._files.close(again(self._files.create, directory, name, 0o600))
        return again(self._files.open_file, directory, name, writable=True)

    @contextlib.contextmanager
    def _locked(self, directory: Handle) -> Iterator[None]:
        """Hold the lock, which is a file of its own: the other one is replaced while it is held."""
        with explaining(self.path, "locked"):
            file = self._open_lock(directory, "lock")
        try:
            with explaining(self.path, "locked"):
                for _ in range(_LOCK_TRIES):
                    if again(self._files.lock, file):
                        break
                    self._sleep(_LOCK_PAUSE)
                else:
                    raise StorageError(
                        f"{printable(str(self.path))}: another process holds its lock for too long. Let it go on, or "
                        "end it, and run again."
                    )
            yield
        finally:
            self._files.unlock(file)
            self._files.close(file)

    def _read(self, directory: Handle) -> bytes | None:
        """Read it, if no other user can have written or read it."""
        with explaining(self.path, "read"):
            try:
                file = again(self._files.open_file, directory, self.path.name)
            except FileNotFoundError:
                return None
            try:
                seen = self._files.look_open(file)
                trusted = stat.S_ISREG(seen.st_mode) and seen.st_size <= self._max_bytes
                if os.name == "posix":
                    trusted = trusted and seen.st_uid == os.geteuid() and not stat.S_IMODE(seen.st_mode) & 0o077
                if trusted:
                    return again(self._files.read, file, self._max_bytes, 0)
            finally:
                self._files.close(file)
        problem = f"{printable(str(self.path))}: it is no private file of ours; what it says is not believed."
        if self._durable:
            raise StorageError(f"{problem} Look at what it says, and move it away.")
        log.warning("%s", problem)
        return None

    def _replace(self, directory: Handle, content: bytes) -> None:
        """Write a new file and rename it. Raises ``OSError``."""
        prefix, name = f"{self.path.name}.", self.path.name
        replace_file(
            self._files,
            directory,
            name,
            content,
            draw_name=lambda: f"{prefix}{secrets.token_hex(8)}",
            sync=lambda file: self._sync(self._files.sync, file),
        )
        self._sync(self._files.sync_directory, directory)
        self._sweep(directory, self._files.look(directory, self.path.name).st_mtime)

    def _sync(self, call: Callable[[Any], None], opened: Handle) -> None:
        """Force what was written to the disk, where that is wanted and the disk can."""
        try:
            if self._durable:
                again(call, opened)
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                raise

    def _sweep(self, directory: Handle, now: float) -> None:
        """Remove what killed writers left. A writer holds the lock, and this process has it."""
        left = re.compile(re.escape(self.path.name) + r"\.[0-9a-f]{16}")
        with contextlib.suppress(OSError):
            for name in again(self._files.names, directory):
                # The disk's clock is compared with itself. Not every disk can lock, so that a new one may be in use.
                if left.fullmatch(name) and now - self._files.look(directory, name).st_mtime > _OVER:
                    self._files.unlink(directory, name)


class UploadSource:
    """
    A file of this machine that is read in order to be sent.

    It is opened once, so that it cannot be replaced, and its state shows a change while it is read.

    Args:
        path: Where it lies; links are followed, since the user named it.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._files = FileSystem()
        self._file = -1

    def open(self) -> FileState:
        """
        Open it and say how large it is.

        Raises:
            ConfigurationError: There is no file of that name.
            StorageError: The system does not let us read it.
        """
        shown = printable(str(self.path))
        try:
            file = again(os.open, self.path, os.O_RDONLY | PLAIN_FLAGS | getattr(os, "O_NONBLOCK", 0))
        except (FileNotFoundError, ValueError):
            # A path with a zero byte in it names nothing either.
            raise ConfigurationError(f"{shown}: there is no such file; nothing was sent. Check the path.") from None
        except OSError as error:
            raise explained(error, self.path, "read") from error
        self._file = file
        seen = os.fstat(file)
        if not stat.S_ISREG(seen.st_mode):
            self.close()
            raise ConfigurationError(f"{shown}: it is {kind_of(seen.st_mode)} and no file; nothing was sent.")
        return FileState(size=seen.st_size, mtime_ns=seen.st_mtime_ns)

    def state(self) -> FileState:
        """Return its present state."""
        seen = os.fstat(self._file)
        return FileState(size=seen.st_size, mtime_ns=seen.st_mtime_ns)

    def read(self, offset: int, size: int) -> bytes:
        """
        Return the next bytes; none at the end.

        Raises:
            StorageError: The disk refused.
        """
        with explaining(self.path, "read"):
            return again(self._files.read, self._file, size, offset)

    def close(self) -> None:
        """Close it. Safe to call twice."""
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)


class LocalFile:
    """
    A file that is sent: an async context manager, made by :meth:`open`.

    What is sent is what was looked at: the file stays open, and a change while it is read is an error.

    Attributes:
        name: Its name without folders.
        size: Its bytes.
    """

    def __init__(self, source: UploadSource, state: FileState, threads: Threads) -> None:
        self.name = source.path.name
        self.size = state.size
        self._source = source
        self._state = state
        self._threads = threads

    @classmethod
    async def open(cls, path: str | os.PathLike[str]) -> Self:
        """
        Open a file.

        Raises:
            ConfigurationError: There is no such file, or it is a folder.
            StorageError: The system does not let us read it.
        """
        source, threads = UploadSource(path), Threads(1, name="arena_async-upload")
        try:
            return cls(source, await threads.run(source.open), threads)
        except BaseException:
            # A cancellation comes when the call has ended, so that what was opened is closed here.
            await threads.aclose()
            source.close()
            raise

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the file. Safe to call twice."""
        try:
            await self._threads.aclose()
        finally:
            self._source.close()

    async def head(self, size: int) -> bytes:
        """
        Return the first bytes, as many as there are up to ``size``.

        Raises:
            StorageError: The disk refused.
        """
        return await self._threads.run(self._source.read, 0, size)

    async def sha256(self) -> str:
        """
        Return the SHA-256 of the whole content in hexadecimal.

        Raises:
            SourceChangedError: The file was changed meanwhile.
            StorageError: The disk refused.
        """
        digest = hashlib.sha256()
        async with aclosing(self.pieces()) as pieces:
            async for piece in pieces:
                await self._threads.run(digest.update, piece)
        return digest.hexdigest()

    async def equals(self, read: Callable[[int], Awaitable[bytes]]) -> bool:
        """
        Return whether its content is what ``read`` returns, called with the most bytes until it returns none.

        Raises:
            SourceChangedError: The file was changed meanwhile.
            StorageError: The disk refused.
        """
        digest, left = hashlib.sha256(), self.size + 1
        while left and (piece := await read(min(left, MIB))):
            await self._threads.run(digest.update, piece)
            left -= len(piece)
        return digest.hexdigest() == await self.sha256()

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """
        Yield the content from its beginning, ``size`` bytes in pieces of a megabyte.

        Raises:
            SourceChangedError: The file was changed meanwhile; the last piece is held back then.
            StorageError: The disk refused.
        """
        offset = 0
        while offset < self.size:
            piece = await self._threads.run(self._source.read, offset, min(MIB, self.size - offset))
            offset += len(piece)
            if not piece or (offset == self.size and await self._threads.run(self._source.state) != self._state):
                raise SourceChangedError(
                    f"{printable(self.name)}: the file was changed while it was read. Leave it alone until it is sent, "
                    "and start again."
                )
            yield piece
