"""Generated content: the bytes of a simulated file, reproducible and never completely in memory."""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import random
import struct
import zlib
from collections.abc import Hashable, Iterator
from typing import Protocol

import attrs

from arena_async.testing.content import Content

__all__ = ["Avro", "CsvGz", "Lines", "SteadyContent", "digests"]

_GZIP_HEAD = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
_BLOCK = 65_535
_LINE = 60


class SteadyContent(Content, Hashable, Protocol):
    """Content as a value: equal values have the same bytes."""


@attrs.frozen
class CsvGz:
    """A generated CSV in a gzip member of exactly ``size`` bytes; reproducible, in chunks."""

    seed: str
    size: int

    def chunks(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Yield the bytes from ``start`` up to ``stop`` (the end)."""
        return _cut(self._chunks(), start, self.size if stop is None else min(stop, self.size))

    def _chunks(self) -> Iterator[bytes]:
        """Yield header, stored deflate blocks and trailer."""
        yield _GZIP_HEAD
        # Each block has a header of five bytes: whether it is the last, and its length twice.
        left = self.size - len(_GZIP_HEAD) - 8
        number, length, check = 0, 0, 0
        while left > 0:
            room = min(left, _BLOCK + 5) - 5
            # The rest after this block must have the size of a block, or be empty.
            if 0 < left - room - 5 <= 5:
                room -= 6
            left -= room + 5
            text = self._text(number, room)
            number, length, check = number + 1, length + room, zlib.crc32(text, check)
            yield bytes([left == 0]) + room.to_bytes(2, "little") + (room ^ 0xFFFF).to_bytes(2, "little") + text
        yield check.to_bytes(4, "little") + (length & 0xFFFFFFFF).to_bytes(4, "little")

    def _text(self, number: int, room: int) -> bytes:
        """Return the lines of one block."""
        made = random.Random(f"{self.seed}/{number}").randbytes(room // 2 + 1).hex()  # noqa: S311 - repeatable
        lines = "\n".join(
            f"{made[at : at + 20]},{made[at + 20 : at + 40]},{made[at + 40 : at + _LINE]}"
            for at in range(0, len(made), _LINE)
        )
        return f"Timestamp,X,Y\n{lines}"[: room - 1].encode() + b"\n" if room else b""


@attrs.frozen
class Lines:
    """A generated table of exactly ``size`` bytes below some heading lines; reproducible."""

    seed: str
    size: int
    heading: str = ""

    def chunks(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Yield the bytes from ``start`` up to ``stop`` (the end)."""
        return _cut(self._chunks(), start, self.size if stop is None else min(stop, self.size))

    def _chunks(self) -> Iterator[bytes]:
        yield self.heading.encode()
        yield from _endless(self.seed)


_SCHEMA = json.dumps(
    {
        "type": "record",
        "name": "Activity",
        "namespace": "AvroActivity",
        "fields": [
            {"name": "timestamp", "type": "long"},
            {
                "name": "samples",
                "type": {
                    "type": "array",
                    "items": {
                        "type": "record",
                        "name": "Samples",
                        "fields": [{"name": axis, "type": "double"} for axis in "xyz"],
                    },
                },
            },
        ],
    }
)
#: Samples of each record, and records of each block, of a generated Avro file.
_SAMPLES, _RECORDS = 8, 16


@attrs.frozen
class Avro:
    """
    A generated Avro container of activity records, uncompressed, of about ``size`` bytes (at least one block).

    https://avro.apache.org/docs/1.12.0/specification/#object-container-files
    """

    seed: str
    wanted: int

    @property
    def size(self) -> int:
        """Bytes in all."""
        return len(self._head) + self._blocks * len(self._block(0))

    def chunks(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Yield the bytes from ``start`` up to ``stop`` (the end)."""
        return _cut(self._chunks(), start, self.size if stop is None else min(stop, self.size))

    def _chunks(self) -> Iterator[bytes]:
        yield self._head
        for number in range(self._blocks):
            yield self._block(number)

    @property
    def _sync(self) -> bytes:
        return hashlib.md5(self.seed.encode(), usedforsecurity=False).digest()

    @property
    def _head(self) -> bytes:
        texts = ("avro.schema", _SCHEMA, "avro.codec", "null")
        pairs = b"".join(_long(len(text)) + text.encode() for text in texts)
        return b"Obj\x01" + _long(2) + pairs + _long(0) + self._sync

    @property
    def _blocks(self) -> int:
        return max(1, (self.wanted - len(self._head)) // len(self._block(0)))

    def _block(self, number: int) -> bytes:
        """Return one block: number of records, number of bytes, the records, and the sync marker."""
        made = random.Random(f"{self.seed}/{number}")  # noqa: S311 - repeatable
        records = bytearray()
        for place in range(_RECORDS):
            records += _long(1_609_459_200 + number * _RECORDS + place) + _long(_SAMPLES)
            records += struct.pack(f"<{3 * _SAMPLES}d", *(made.uniform(-8, 8) for _ in range(3 * _SAMPLES)))
            records += _long(0)
        return _long(_RECORDS) + _long(len(records)) + bytes(records) + self._sync


def _long(value: int) -> bytes:
    """Encode a number for Avro: zigzag, seven bits a byte."""
    left = (value << 1) ^ (value >> 63)
    written = bytearray()
    while left > 0x7F:
        written.append(left & 0x7F | 0x80)
        left >>= 7
    return bytes([*written, left])


def _endless(seed: str) -> Iterator[bytes]:
    """Yield lines of a table without end, in blocks."""
    for number in itertools.count():
        made = random.Random(f"{seed}/{number}").randbytes(_BLOCK // 2).hex()  # noqa: S311 - repeatable
        rows = (f"{made[at : at + 20]},{made[at + 20 : at + 40]},{made[at + 40 : at + _LINE]}" for at in _STARTS)
        yield ("\n".join(rows) + "\n").encode()


_STARTS = range(0, _BLOCK - _LINE, _LINE)


def _cut(chunks: Iterator[bytes], start: int, end: int) -> Iterator[bytes]:
    """Yield the bytes of some chunks between two offsets."""
    place = 0
    for chunk in chunks:
        if place >= end:
            return
        if place + len(chunk) > start:
            yield chunk[max(0, start - place) : end - place]
        place += len(chunk)


@functools.lru_cache(maxsize=256)
def digests(content: SteadyContent) -> tuple[str, str]:
    """Return the MD5 and SHA-256 of content, in hexadecimal."""
    md5, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
    for chunk in content.chunks():
        md5.update(chunk)
        sha256.update(chunk)
    return md5.hexdigest(), sha256.hexdigest()
