"""Whether a zip is whole and its members are what their check sums say, read back from the disk."""

from __future__ import annotations

import bz2
import itertools
import struct
import zlib
from array import array
from collections.abc import Iterator

import attrs

from arena_async.transfer.checking import BLOCK, Inflater, Meter, Read, WrongContent, unpacked

__all__ = ["ZipCheck"]

# https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT sections 4.3.7, 4.3.12, 4.3.14, 4.3.15, 4.3.16
_LOCAL = struct.Struct("<4sHHHHHIIIHH")
_CENTRAL = struct.Struct("<4sHHHHHHIIIHHHHHII")
_END64 = struct.Struct("<4sQHHIIQQQQ")
_LOCATOR64 = struct.Struct("<4sIQI")
_END = struct.Struct("<4sHHHHIIH")
_NO_32, _NO_16 = 0xFFFFFFFF, 0xFFFF
_ENCRYPTED = 0x0001 | 0x0040 | 0x2000
_SIZES_BEHIND = 0x0008


@attrs.frozen
class _Directory:
    """Where the central directory of a zip lies, and how many entries it has."""

    start: int
    size: int
    entries: int


@attrs.frozen
class _Member:
    """One entry of the central directory."""

    name: bytes
    flags: int
    method: int
    crc: int
    packed: int
    size: int
    offset: int

    @property
    def shown(self) -> str:
        """Its name, for a sentence."""
        return ascii(self.name.decode("utf-8", "replace"))[:100]


class ZipCheck:
    """
    Reads a zip back from the disk: end record, directory, local headers, and the CRC-32 of every member.

    Args:
        read: Gives bytes of the file.
        length: Bytes of the file.
        meter: Stops what costs too much.
    """

    def __init__(self, read: Read, length: int, meter: Meter) -> None:
        self._read = read
        self._length = length
        self._meter = meter

    def check(self) -> bool:
        """
        Check all of it; False when some members cannot be checked (encrypted, or packed in an uncommon way).

        Raises:
            WrongContent: It is not whole.
            TooCostly: A cap was reached.
        """
        directory = self._directory()
        starts, ends, all_checked = array("Q"), array("Q"), True
        for member in self._members(directory):
            self._meter.member()
            data_at = self._open(member)
            if data_at + member.packed > directory.start:
                raise WrongContent(f"its member {member.shown} reaches into the directory")
            starts.append(member.offset)
            ends.append(data_at + member.packed)
            all_checked &= self._content(member, data_at)
        self._no_overlap(starts, ends)
        if (min(starts) if starts else directory.start) != 0:
            raise WrongContent("something else stands before its first member")
        return all_checked

    @staticmethod
    def _no_overlap(starts: array[int], ends: array[int]) -> None:
        """Check that no two members share bytes."""
        order = range(len(starts))
        if any(starts[number] < starts[number - 1] for number in order[1:]):
            order = sorted(order, key=starts.__getitem__)  # type: ignore[assignment]
        for before, number in itertools.pairwise(order):
            if starts[number] < ends[before]:
                raise WrongContent("its members overlap")

    def _bytes(self, offset: int, size: int, what: str) -> bytes:
        data = self._read(offset, size) if 0 <= offset <= self._length else b""
        if len(data) < size:
            raise WrongContent(f"it ends in the middle of {what}")
        return data

    def _directory(self) -> _Directory:
        """Find the end record, which must be the very last thing, and what it says about the directory."""
        at, record = self._end_record()
        _, disk, first_disk, here, entries, size, start, _ = record
        located = self._bytes(at - _LOCATOR64.size, _LOCATOR64.size, "its end") if at >= _LOCATOR64.size else b""
        if located.startswith(b"PK\x06\x07"):
            at = _LOCATOR64.unpack(located)[2]
            record64 = self._bytes(at, _END64.size, "its end record")
            mark, rest, _, _, disk, first_disk, here, entries, size, start = _END64.unpack(record64)
            if mark != b"PK\x06\x06" or at + 12 + rest + _LOCATOR64.size + _END.size > self._length:
                raise WrongContent("its end record is damaged")
        if disk != 0 or first_disk != 0 or here != entries:
            raise WrongContent("it is one part of several")
        if start + size != at:
            raise WrongContent(
                "its directory is not where its end record says, so something was put before it or cut out"
            )
        return _Directory(start, size, entries)

    def _end_record(self) -> tuple[int, tuple[bytes, int, int, int, int, int, int, int]]:
        """Find the end record: the comment it announces must end exactly where the file ends."""
        start = max(0, self._length - _END.size - 0xFFFF)
        tail = self._read(start, self._length - start)
        at = tail.rfind(b"PK\x05\x06")
        while at >= 0:
            if at + _END.size <= len(tail):
                record = _END.unpack_from(tail, at)
                if at + _END.size + record[7] == len(tail):
                    return start + at, record
            at = tail.rfind(b"PK\x05\x06", 0, at + 3)
        raise WrongContent("it has no end record, or something else behind it: it is cut off, or was added to")

    def _members(self, directory: _Directory) -> Iterator[_Member]:
        """Walk the central directory, a block at a time."""
        at, end, block, block_at = directory.start, directory.start + directory.size, b"", directory.start
        for _ in range(directory.entries):
            # No entry is longer than its fixed part and three texts of 64 KiB.
            if block_at + len(block) < min(end, at + _CENTRAL.size + 3 * 0xFFFF):
                block, block_at = self._read(at, min(BLOCK, end - at)), at
            here = at - block_at
            if len(block) < here + _CENTRAL.size or block[here : here + 4] != b"PK\x01\x02":
                raise WrongContent("its directory is damaged")
            _, _, _, flags, method, _, _, crc, packed, size, names, extras, comments, _, _, _, offset = (
                _CENTRAL.unpack_from(block, here)
            )
            name_at = here + _CENTRAL.size
            extra = block[name_at + names : name_at + names + extras]
            size, packed, offset = _wide(extra, size, packed, offset)
            at += _CENTRAL.size + names + extras + comments
            if at > end:
                raise WrongContent("its directory is damaged")
            yield _Member(block[name_at : name_at + names], flags, method, crc, packed, size, offset)
        if at != end:
            raise WrongContent("its directory has more in it than its end record says")

    def _open(self, member: _Member) -> int:
        """Compare the local header of a member with the directory, and give where its data begin."""
        header = self._bytes(member.offset, _LOCAL.size, f"the header of its member {member.shown}")
        mark, _, flags, method, _, _, crc, packed, size, name_length, extra_length = _LOCAL.unpack(header)
        if mark != b"PK\x03\x04":
            raise WrongContent(f"its member {member.shown} is not where the directory says")
        texts = self._bytes(member.offset + _LOCAL.size, name_length + extra_length, "a header")
        size, packed, _ = _wide(texts[name_length:], size, packed, 0)
        if texts[:name_length] != member.name or method != member.method:
            raise WrongContent(f"its member {member.shown} has another name or method in its own header")
        known = not flags & _SIZES_BEHIND and not flags & _ENCRYPTED
        if known and (crc, packed, size) != (member.crc, member.packed, member.size):
            raise WrongContent(f"its member {member.shown} has another size or check sum in its own header")
        return int(member.offset + _LOCAL.size + name_length + extra_length)

    def _content(self, member: _Member, at: int) -> bool:
        """Compare the CRC-32 and the length of a member; False when it cannot be read."""
        if member.flags & _ENCRYPTED or member.method not in (0, 8, 12):
            return False
        if member.method == 0 or (member.packed == 0 and member.size == 0):
            pieces = self._blocks(at, member.packed, member)
        else:
            inflater: Inflater = zlib.decompressobj(wbits=-15) if member.method == 8 else bz2.BZ2Decompressor()
            pieces = self._inflated(inflater, at, member)
        crc, size = 0, 0
        for piece in pieces:
            crc, size = zlib.crc32(piece, crc), size + len(piece)
            self._meter.produced(len(piece), taken=self._length)
            if size > member.size:
                break
        if size != member.size:
            raise WrongContent(f"its member {member.shown} is not {member.size} bytes long, as it says")
        if crc != member.crc:
            raise WrongContent(f"its member {member.shown} has the check sum {crc:08x} and says {member.crc:08x}")
        return True

    def _blocks(self, at: int, size: int, member: _Member) -> Iterator[bytes]:
        """Read the data of a member as they are."""
        while size:
            block = self._bytes(at, min(BLOCK, size), f"its member {member.shown}")
            yield block
            at, size = at + len(block), size - len(block)

    def _inflated(self, inflater: Inflater, at: int, member: _Member) -> Iterator[bytes]:
        """Read the data of a member as they were before packing; they must end where the stream ends."""
        try:
            for block in self._blocks(at, member.packed, member):
                yield from unpacked(inflater, block)
        except (zlib.error, OSError, EOFError) as error:
            raise WrongContent(f"its member {member.shown} is damaged ({error})") from None
        if not inflater.eof or inflater.unused_data:
            raise WrongContent(f"its member {member.shown} does not end where it says")


def _wide(extra: bytes, size: int, packed: int, offset: int) -> tuple[int, int, int]:
    """Give the 64-bit values (section 4.5.3) for those that did not fit into 32 bits."""
    at = 0
    while at + 4 <= len(extra):
        tag, length = struct.unpack_from("<HH", extra, at)
        if tag == 0x0001:
            count = min(length, len(extra) - at - 4) // 8
            numbers = iter(struct.unpack_from(f"<{count}Q", extra, at + 4))
            size = next(numbers, size) if size == _NO_32 else size
            packed = next(numbers, packed) if packed == _NO_32 else packed
            offset = next(numbers, offset) if offset == _NO_32 else offset
            break
        at += 4 + length
    return size, packed, offset
