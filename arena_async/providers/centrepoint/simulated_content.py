"""Made-up content: the bytes of a simulated file, the same every time and never whole in memory."""

from __future__ import annotations

import functools
import hashlib
import random
import zlib
from collections.abc import Hashable, Iterator
from typing import Protocol

import attrs

from arena_async.simulator.server import Content

__all__ = ["CsvGz", "SteadyContent", "digests"]

_GZIP_HEAD = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
_BLOCK = 65_535
_LINE = 60


class SteadyContent(Content, Hashable, Protocol):
    """Content that is a value: equal ones have the same bytes."""


@attrs.frozen
class CsvGz:
    """A made-up CSV in a gzip member of exactly ``size`` bytes; made piece by piece, the same every time."""

    seed: str
    size: int

    def chunks(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Give the bytes from ``start`` up to ``stop`` (the end)."""
        place, end = 0, self.size if stop is None else min(stop, self.size)
        for piece in self._pieces():
            if place >= end:
                return
            if place + len(piece) > start:
                yield piece[max(0, start - place) : end - place]
            place += len(piece)

    def _pieces(self) -> Iterator[bytes]:
        """Give head, stored deflate blocks and trailer."""
        yield _GZIP_HEAD
        # Each block has five bytes of its own: last or not, and its length twice.
        left = self.size - len(_GZIP_HEAD) - 8
        number, length, check = 0, 0, 0
        while left > 0:
            room = min(left, _BLOCK + 5) - 5
            # What is left after this block must hold a block again, or nothing.
            if 0 < left - room - 5 <= 5:
                room -= 6
            left -= room + 5
            text = self._text(number, room)
            number, length, check = number + 1, length + room, zlib.crc32(text, check)
            yield bytes([left == 0]) + room.to_bytes(2, "little") + (room ^ 0xFFFF).to_bytes(2, "little") + text
        yield check.to_bytes(4, "little") + (length & 0xFFFFFFFF).to_bytes(4, "little")

    def _text(self, number: int, room: int) -> bytes:
        """Give the lines of one block."""
        made = random.Random(f"{self.seed}/{number}").randbytes(room // 2 + 1).hex()  # noqa: S311 - repeatable
        lines = "\n".join(
            f"{made[at : at + 20]},{made[at + 20 : at + 40]},{made[at + 40 : at + _LINE]}"
            for at in range(0, len(made), _LINE)
        )
        return f"Timestamp,X,Y\n{lines}"[: room - 1].encode() + b"\n" if room else b""


@functools.lru_cache(maxsize=256)
def digests(content: SteadyContent) -> tuple[str, str]:
    """Give MD5 and SHA-256 of some content, in hexadecimal."""
    md5, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
    for piece in content.chunks():
        md5.update(piece)
        sha256.update(piece)
    return md5.hexdigest(), sha256.hexdigest()
