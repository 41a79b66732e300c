"""
Generated files of any size that need no storage: real zips with CSV members, real gzipped CSV, plain CSV, plain bytes.

A :class:`Payload` is a recipe. The same name, size and seed give the same bytes wherever zlib is the same; another seed
gives other bytes. A gigabyte is described by a few kilobytes that repeat, so it is never completely in memory, and any
part of it can be read without the bytes before it. The repeating unit has an odd length, so that content which is
shifted by a multiple of a block is wrong content.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Iterator
from functools import cached_property, lru_cache

import attrs

__all__ = ["Payload", "payload"]

_PIECE = 256 * 1024
_UNIT_ROWS = 250
_UNIT_KINDS = 8
_FULL = 0xFFFFFFFF
_MEMBERS = ("Items_Summary.csv", "Items_BOM.csv", "Items_BOM_Substitutes.csv", "Changes_Summary.csv")
_MIN_MEMBER = 64
#: 1 January 2024, midnight, as a zip writes it.
_ZIP_DATE = ((2024 - 1980) << 9) | (1 << 5) | 1


def payload(name: str, size: int, *, seed: str = "") -> Payload:
    """
    Describe a file of exactly ``size`` bytes whose kind follows from its name.

    ``.zip`` is a zip with several CSV members, ``.gz`` is gzipped CSV, ``.csv`` is CSV, everything else is bytes.

    Raises:
        ValueError: The size is negative, or no file of this kind can be so small (128 bytes for a zip, 28 for a gzip)
            or so large (3 GiB for a zip).
    """
    minimum = 128 if name.endswith(".zip") else 28 if name.endswith(".gz") else 0
    if size < minimum or (name.endswith(".zip") and size > 3 << 30):
        raise ValueError(f"A file called {name!r} of {size} bytes cannot be made; it takes at least {minimum} bytes.")
    return Payload(name=name, size=size, seed=seed)


@attrs.frozen
class _Run:
    """Bytes that repeat."""

    unit: bytes
    times: int = 1

    @property
    def size(self) -> int:
        return len(self.unit) * self.times


@attrs.define(frozen=True, slots=False)
class Payload:
    """
    The recipe of one file; see :func:`payload`.

    Args:
        name: Its name, which decides what kind of file it is.
        size: Bytes in all.
        seed: Distinguishes files of the same name and size.
    """

    name: str
    size: int
    seed: str = ""

    @property
    def _runs(self) -> tuple[_Run, ...]:
        """The runs of bytes it consists of."""
        return _runs_of(self.name, self.size, self.seed)

    def chunks(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Yield the bytes from ``start`` up to ``stop`` (the end), some hundred kilobytes at a time."""
        end = self.size if stop is None else min(stop, self.size)
        begin = 0
        for run in self._runs:
            low, high = max(start, begin), min(end, begin + run.size)
            if low < high:
                yield from _cut(run.unit, low - begin, high - begin)
            begin += run.size

    def read(self) -> bytes:
        """Return all bytes at once."""
        return b"".join(self.chunks())

    @cached_property
    def sha256(self) -> str:
        """Its SHA-256 in hexadecimal."""
        digest = hashlib.sha256()
        for chunk in self.chunks():
            digest.update(chunk)
        return digest.hexdigest()

    @cached_property
    def md5(self) -> bytes:
        """Its MD5, 16 bytes."""
        digest = hashlib.md5(usedforsecurity=False)
        for chunk in self.chunks():
            digest.update(chunk)
        return digest.digest()


def _cut(unit: bytes, start: int, stop: int) -> Iterator[bytes]:
    """Return a part of ``unit`` repeated without end."""
    length = len(unit)
    while start < stop:
        count = min(stop - start, _PIECE)
        inside = start % length
        if inside + count <= length:
            yield unit[inside : inside + count]
        else:
            yield (unit * ((inside + count) // length + 1))[inside : inside + count]
        start += count


@lru_cache(maxsize=64)
def _runs_of(name: str, size: int, seed: str) -> tuple[_Run, ...]:
    """Return the runs of bytes of a file."""
    key = f"{name}|{seed}"
    if name.endswith(".zip"):
        return _zip(key, size)
    if name.endswith(".gz"):
        head = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
        runs, crc, length = _deflated(key, size - len(head) - 8)
        return (_Run(head), *runs, _Run(struct.pack("<II", crc, length & _FULL)))
    if name.endswith(".csv"):
        return (_Run(_rows(key, size)),) if size < _PIECE else _long_text(key, size)
    return (_Run(hashlib.shake_128(key.encode()).digest(min(size, 65521)), max(1, size // 65521)), *_tail(key, size))


def _long_text(key: str, size: int) -> tuple[_Run, ...]:
    """Make a long CSV text: its own rows first, then rows that repeat."""
    text, _, _ = _unit(_kind(key))
    times = (size - 100) // len(text)
    return _Run(_rows(key, size - times * len(text))), _Run(text, times)


def _tail(key: str, size: int) -> tuple[_Run, ...]:
    """Make the rest of plain bytes that do not fill a whole unit."""
    rest = 0 if size < 65521 else size % 65521
    return (_Run(hashlib.shake_128(f"{key}|tail".encode()).digest(rest)),)


def _kind(key: str) -> int:
    """Choose one of a few repeating units."""
    return zlib.crc32(key.encode()) % _UNIT_KINDS


@lru_cache(maxsize=_UNIT_KINDS)
def _unit(kind: int) -> tuple[bytes, bytes, int]:
    """Make a repeating unit: CSV text, the same compressed so that it can follow itself, and the CRC-32 of the text."""
    digits = hashlib.shake_128(b"unit %d" % kind).hexdigest(_UNIT_ROWS * 6)
    rows = [
        f"{digits[12 * row : 12 * row + 12].upper()},900-{row:05d},Bracket,Released\r\n" for row in range(_UNIT_ROWS)
    ]
    text = "".join(rows)
    extra = 0
    while True:
        filler = hashlib.shake_128(b"fill %d" % extra).hexdigest(extra)[:extra]
        raw = f"{text}{filler}\r\n".encode()
        press = zlib.compressobj(9, zlib.DEFLATED, -15)
        packed = press.compress(raw) + press.flush(zlib.Z_FULL_FLUSH)
        if len(packed) % 2 and len(raw) % 2:
            return raw, packed, zlib.crc32(raw)
        extra += 1


def _rows(key: str, size: int) -> bytes:
    """Make CSV text of exactly ``size`` bytes that no other key has."""
    if size < 2:
        return b"\n" * size
    digits = hashlib.shake_128(key.encode()).hexdigest(size // 2 + 1)[: size - 2]
    lines = ["guid,value", *(f"{digits[at : at + 20]},{digits[at + 20 : at + 40]}" for at in range(0, len(digits), 40))]
    text = "\r\n".join(lines)[: size - 2]
    return (text.replace("\r", " ").rstrip("\n").ljust(size - 2) if text.endswith("\r") else text).encode() + b"\r\n"


def _deflated(key: str, size: int) -> tuple[tuple[_Run, ...], int, int]:
    """Make a deflate stream of exactly ``size`` bytes; return it with the CRC-32 and the length of its content."""
    text, packed, text_crc = _unit(_kind(key))
    # The first rows take some space, or the text would begin in the middle of a repetition.
    times = max(0, size - 50) // len(packed)
    room = size - 10 - times * len(packed)
    own = _rows(key, room)
    stored = b"\x00" + struct.pack("<HH", room, room ^ 0xFFFF) + own
    crc = _crc_of_two(zlib.crc32(own), _crc_of_many(text_crc, len(text), times), len(text) * times)
    return (_Run(stored), _Run(packed, times), _Run(b"\x01\x00\x00\xff\xff")), crc, room + len(text) * times


def _zip(key: str, size: int) -> tuple[_Run, ...]:
    """Make a zip of exactly ``size`` bytes."""
    names = _MEMBERS if size >= 1000 else ("A.csv",)
    frames = sum(30 + 46 + 2 * len(name) for name in names)
    left = size - frames - 22
    runs: list[_Run] = []
    directory: list[bytes] = []
    place = 0
    for number, name in enumerate(names):
        share = left if number == len(names) - 1 else max(_MIN_MEMBER, left // 2)
        left -= share
        body, crc, length = _deflated(f"{key}|{name}", share)
        common = struct.pack("<HHHHHIIIHH", 20, 0, 8, 0, _ZIP_DATE, crc, share, length, len(name), 0)
        runs += [_Run(b"PK\x03\x04" + common + name.encode()), *body]
        directory.append(b"PK\x01\x02\x14\x00" + common + struct.pack("<HHHII", 0, 0, 0, 0, place) + name.encode())
        place += 30 + len(name) + share
    listed = b"".join(directory)
    end = struct.pack("<HHHHIIH", 0, 0, len(names), len(names), len(listed), place, 0)
    return (*runs, _Run(listed + b"PK\x05\x06" + end))


# ---------------------------------------------------------------- CRC-32 without reading


@lru_cache(maxsize=1024)
def _crc_of_many(crc: int, length: int, times: int) -> int:
    """Return the CRC-32 of a text that is repeated."""
    result, done = 0, 0
    whole, span = crc, length
    while times:
        if times & 1:
            result, done = _crc_of_two(result, whole, span), done + span
        times >>= 1
        if times:
            whole, span = _crc_of_two(whole, whole, span), span * 2
    return result


def _crc_of_two(first: int, second: int, second_length: int) -> int:
    """Return the CRC-32 of two texts one after the other, from the CRC-32 of each."""
    return _times(_power(8 * second_length), first) ^ second


@lru_cache(maxsize=1024)
def _power(bits: int) -> int:
    """Return x to the power of ``bits`` modulo the CRC-32 polynomial, bits reflected."""
    result, square = 1 << 31, 1 << 30
    while bits:
        if bits & 1:
            result = _times(square, result)
        square = _times(square, square)
        bits >>= 1
    return result


def _times(one: int, other: int) -> int:
    """Multiply two polynomials modulo the CRC-32 polynomial, bits reflected."""
    product = 0
    for bit in range(31, -1, -1):
        if one >> bit & 1:
            product ^= other
        other = (other >> 1) ^ (0xEDB88320 if other & 1 else 0)
    return product
