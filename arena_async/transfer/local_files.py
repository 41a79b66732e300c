"""Files of this machine that are sent to a service: read on a thread, in chunks, again for every attempt."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Self

from arena_async.errors import ConfigurationError, SourceChangedError, StorageError
from arena_async.options import MIB
from arena_async.protocol.messages import printable
from arena_async.transfer.filesystem import PLAIN_FLAGS, FileSystem, again, explained, explaining, kind_of
from arena_async.transfer.models import FileState
from arena_async.transfer.workers import Threads

__all__ = ["LocalFile", "UploadSource"]


class UploadSource:
    """
    A file of this machine that is read in order to be sent.

    It is opened once, so that nobody can put another in its place, and its state tells a change while it is read.

    Args:
        path: Where it lies; links are followed, since the user named it.
        files: The calls to the system.
    """

    def __init__(self, path: str | os.PathLike[str], *, files: FileSystem | None = None) -> None:
        self.path = Path(path)
        self._files = files or FileSystem()
        self._file: int | None = None

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
        seen = self._files.look_open(file)
        if not stat.S_ISREG(seen.st_mode):
            self._files.close(file)
            raise ConfigurationError(f"{shown}: it is {kind_of(seen.st_mode)} and no file; nothing was sent.")
        self._file = file
        return FileState(size=seen.st_size, mtime_ns=seen.st_mtime_ns)

    def state(self) -> FileState:
        """Say how large it is now."""
        seen = self._files.look_open(self._opened())
        return FileState(size=seen.st_size, mtime_ns=seen.st_mtime_ns)

    def read(self, offset: int, size: int) -> bytes:
        """
        Give some bytes; none at the end.

        Raises:
            StorageError: The disk refused.
        """
        with explaining(self.path, "read"):
            return again(self._files.read, self._opened(), size, offset)

    def close(self) -> None:
        """Close it. Safe to call twice."""
        file, self._file = self._file, None
        if file is not None:
            self._files.close(file)

    def _opened(self) -> int:
        """Give the handle."""
        if self._file is None:
            raise StorageError(f"{printable(str(self.path))}: it is not open.")
        return self._file


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
        Give the first bytes, as many as there are up to ``size``.

        Raises:
            StorageError: The disk refused.
        """
        return await self._threads.run(self._source.read, 0, size)

    async def sha256(self) -> str:
        """
        Give the SHA-256 of the whole content in hexadecimal.

        Raises:
            SourceChangedError: The file was changed meanwhile.
            StorageError: The disk refused.
        """
        digest = hashlib.sha256()
        async with aclosing(self.pieces()) as pieces:
            async for piece in pieces:
                await self._threads.run(digest.update, piece)
        return digest.hexdigest()

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """
        Give the content from its beginning, ``size`` bytes in pieces of a megabyte.

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
