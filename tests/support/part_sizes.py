"""How rows and children see a file of some kilobytes as a large one, on connections that are each held back."""

from __future__ import annotations

import math
from typing import Any

import attrs
from filesets import MemoryFiles
from session_files import Hours

from arena_async import ByteStream, OpenedFile, RemoteFile
from arena_async.options import KIB
from arena_async.transfer.rate import Splitting

__all__ = ["EAGER", "Ticking", "UnevenFiles"]

#: Everything is split as soon as something came, and no connection is ever fast enough.
EAGER = Splitting(
    min_size=256 * KIB, min_piece=64 * KIB, max_piece=64 * KIB, interval=0.0, head_start=0.0, fast=math.inf
)


class Ticking(Hours):
    """Time that goes on by a millisecond whenever somebody looks."""

    def clock(self) -> float:
        """Seconds since the start."""
        self.passed += 0.001
        return self.passed


class UnevenFiles(MemoryFiles):
    """Files out of memory whose first part arrives in small pieces, so that the parts behind it get ahead of it."""

    _slow = False

    async def open(self, file: RemoteFile, **requested: Any) -> OpenedFile:
        opened = await super().open(file, **requested)
        if self._slow or requested.get("until") is None:
            return opened
        self._slow = True
        return attrs.evolve(opened, stream=_SmallPieces(opened.stream))


class _SmallPieces(ByteStream):
    """A body of which each call returns 256 bytes."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream

    async def readinto(self, buffer: memoryview) -> int:
        return await self._stream.readinto(buffer[:256])

    async def aclose(self) -> None:
        await self._stream.aclose()
