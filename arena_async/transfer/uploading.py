"""Files of this machine on their way to a service: read once more for every try, on a thread, and never as a whole."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Self

from arena_async.errors import SourceChangedError
from arena_async.options import MIB
from arena_async.transfer.filesystem import FileState
from arena_async.transfer.local_files import Source
from arena_async.transfer.threads import Threads
from arena_async.wire.messages import printable

__all__ = ["LocalFile"]


class LocalFile:
    """
    A file that is sent: an async context manager, made by :meth:`open`.

    What is sent is what was looked at: the file stays open, and a change while it is read is an error.

    Attributes:
        name: Its name without folders.
        size: Its bytes.
    """

    def __init__(self, source: Source, state: FileState, threads: Threads) -> None:
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
        source, threads = Source(path), Threads(1, name="arena_async-upload")
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
