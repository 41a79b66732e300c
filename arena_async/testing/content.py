"""The content of a reply: its chunks, and iterators that change them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import attrs

__all__ = ["Bytes", "Content", "Slice", "first_bytes", "flipped", "split"]

_CHUNK_SIZE = 256 * 1024


@runtime_checkable
class Content(Protocol):
    """Bytes that need not be in memory."""

    @property
    def size(self) -> int:
        """Bytes in all."""
        ...

    def chunks(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Yield the bytes from ``start`` up to ``stop`` (the end) in chunks of moderate size."""
        ...


@attrs.frozen
class Bytes:
    """Bytes in memory as :class:`Content`."""

    body: bytes = attrs.field(repr=False)

    @property
    def size(self) -> int:
        """The number of bytes."""
        return len(self.body)

    @property
    def sha256(self) -> str:
        """The SHA-256 in hexadecimal."""
        return hashlib.sha256(self.body).hexdigest()

    def chunks(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Yield the bytes from ``start`` up to ``stop`` (the end) in chunks of moderate size."""
        end = len(self.body) if stop is None else min(stop, len(self.body))
        for place in range(start, end, _CHUNK_SIZE):
            yield self.body[place : min(place + _CHUNK_SIZE, end)]


@attrs.frozen
class Slice:
    """A part of some content."""

    whole: Content
    start: int
    stop: int

    @property
    def size(self) -> int:
        """The number of bytes."""
        return self.stop - self.start

    def chunks(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Yield the bytes from ``start`` up to ``stop`` (the end) in chunks of moderate size."""
        end = self.stop if stop is None else min(self.start + stop, self.stop)
        yield from self.whole.chunks(self.start + start, end)


def first_bytes(chunks: Iterator[bytes], count: int) -> Iterator[bytes]:
    """Yield the first ``count`` bytes."""
    for chunk in chunks:
        if count <= 0:
            return
        yield chunk[:count]
        count -= len(chunk)


def flipped(chunks: Iterator[bytes], at: int | None) -> Iterator[bytes]:
    """Yield the chunks with the byte at ``at`` changed."""
    place = 0
    for chunk in chunks:
        if at is not None and place <= at < place + len(chunk):
            inside = at - place
            yield chunk[:inside] + bytes([chunk[inside] ^ 0xFF]) + chunk[inside + 1 :]
        else:
            yield chunk
        place += len(chunk)


def split(chunks: Iterator[bytes], step: int) -> Iterator[bytes]:
    """Yield the chunks in steps of at most ``step`` bytes."""
    for chunk in chunks:
        for place in range(0, len(chunk), step):
            yield chunk[place : place + step]
