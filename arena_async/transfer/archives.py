"""Checks of gzip and zip content: is it whole, and do its check sums hold; in constant memory, within caps."""

from __future__ import annotations

import bz2
import itertools
import struct
import zlib
from array import array
from collections.abc import Callable, Iterator

import attrs

from arena_async.options import KIB, MIB

__all__ = ["Caps", "ForeignContent", "GzipCheck", "Meter", "Read", "TooCostly", "WrongContent", "ZipCheck"]

#: Bytes that are unpacked at a time, at the most.
BLOCK = 256 * KIB

#: Gives so many bytes of a file from an offset on.
Read = Callable[[int, int], bytes]


@attrs.frozen(kw_only=True)
class Caps:
    """
    What checking compressed content may cost.

    Content that costs more is not refused, since nothing is unpacked to the disk: its check sums are left unchecked,
    and the next weaker proof counts.

    Args:
        ratio: Bytes produced for each byte of content, at the most, once ``floor`` bytes were produced.
        floor: Bytes that may be produced whatever the ratio.
        members: Members of a gzip or zip file, at the most.
        seconds: Seconds of checking, at the most.
    """

    ratio: float = 300.0
    floor: int = 64 * MIB
    members: int = 100_000
    seconds: float = 600.0


class WrongContent(Exception):  # noqa: N818 - it never leaves this module
    """The content contradicts itself; the sentence says how."""


class ForeignContent(Exception):  # noqa: N818 - it never leaves this module
    """The content is not what is stored; the words say what it is."""


class TooCostly(Exception):  # noqa: N818 - it never leaves this module
    """A cap was reached; the sentence says which."""


class Meter:
    """Counts what a check produces and takes, and stops it at the caps."""

    def __init__(self, caps: Caps, clock: Callable[[], float]) -> None:
        self._caps = caps
        self._clock = clock
        self._spent = 0.0
        self._since: float | None = None
        self._members = 0
        self._produced = 0

    def start(self) -> None:
        """Count time from here on: only that of the check, not that of the network."""
        self._since = self._clock()

    def stop(self) -> None:
        """Stop counting time."""
        if self._since is not None:
            self._spent += self._clock() - self._since
            self._since = None

    def member(self) -> None:
        """Count a member."""
        self._members += 1
        if self._members > self._caps.members:
            raise TooCostly(f"it has more than {self._caps.members} members")

    def produced(self, count: int, *, taken: int) -> None:
        """Count bytes produced out of all that was ``taken`` so far."""
        self._produced += count
        if self._produced > max(self._caps.floor, self._caps.ratio * taken):
            raise TooCostly(f"it holds more than {self._caps.ratio:g} times its size")
        running = self._clock() - self._since if self._since is not None else 0.0
        if self._spent + running > self._caps.seconds:
            raise TooCostly(f"checking it takes more than {self._caps.seconds:g} s")


def inflated(inflater: zlib._Decompress | bz2.BZ2Decompressor, block: bytes) -> Iterator[bytes]:
    """Inflate a block, never more than so much at a time; what lies behind the end is left in ``unused_data``."""
    rest = block
    while not inflater.eof:
        made = inflater.decompress(rest, BLOCK)
        # bz2 keeps what it has not taken yet inside, as zlib keeps what it has not given yet.
        rest = getattr(inflater, "unconsumed_tail", b"")
        if not made and not rest:
            return
        yield made


class GzipCheck:
    """
    Follows gzip content member by member (RFC 1952); the decompressor compares CRC-32 and length of each.

    Behind a member there may be another, or zeros up to the end, as tapes and some writers leave them.

    Args:
        meter: Stops what costs too much.
        encoded: Whether the response is declared gzip-encoded. Then gzip inside is a stored gzip file that a proxy on
            the way has packed once more.
    """

    def __init__(self, meter: Meter, *, encoded: bool) -> None:
        self._meter = meter
        self._encoded = encoded
        self._inside = b""
        self._taken = 0
        self._member: zlib._Decompress | None = None
        self._start = b""
        self._members = 0

    def feed(self, data: memoryview) -> None:
        """Look at the next bytes."""
        for start in range(0, len(data), BLOCK):
            rest = bytes(data[start : start + BLOCK])
            self._taken += len(rest)
            while rest:
                rest = self._begin(rest) if self._member is None else self._inflate(self._member, rest)

    def _begin(self, block: bytes) -> bytes:
        """Skip zeros behind a member, and begin the next one."""
        rest = self._start + (block.lstrip(b"\0") if self._members and not self._start else block)
        self._start = b""
        if not rest:
            return b""
        if rest == b"\x1f":
            self._start = rest
            return b""
        if not rest.startswith(b"\x1f\x8b"):
            raise WrongContent(f"there is something else behind its member {self._members}")
        self._meter.member()
        self._members += 1
        self._member = zlib.decompressobj(wbits=31)
        return rest

    def _inflate(self, member: zlib._Decompress, block: bytes) -> bytes:
        """Inflate a piece of a member, and return what lies behind its end."""
        try:
            for made in inflated(member, block):
                self._meter.produced(len(made), taken=self._taken)
                self._look_inside(made)
        except zlib.error as error:
            raise WrongContent(f"its member {self._members} is damaged ({error})") from None
        if not member.eof:
            return b""
        self._member = None
        return member.unused_data

    def _look_inside(self, made: bytes) -> None:
        """Notice a file that was packed on the way although it was packed already."""
        if not self._encoded or len(self._inside) >= 2:
            return
        self._inside += made[:2]
        if self._inside.startswith(b"\x1f\x8b"):
            raise ForeignContent("gzip content that was packed once more on its way")

    def finish(self) -> None:
        """Check that the content ends where a member ends."""
        if self._member is not None or self._start:
            raise WrongContent(f"it ends in the middle of its member {self._members}")


# https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT sections 4.3.7, 4.3.12, 4.3.14, 4.3.15, 4.3.16
_LOCAL = struct.Struct("<4sHHHHHIIIHH")
_CENTRAL = struct.Struct("<4sHHHHHHIIIHHHHHII")
_END64 = struct.Struct("<4sQHHIIQQQQ")
_LOCATOR64 = struct.Struct("<4sIQI")
_END = struct.Struct("<4sHHHHIIH")
_NO_32, _NO_16 = 0xFFFFFFFF, 0xFFFF
_ENCRYPTED, _PATCHED = 0x0001 | 0x0040 | 0x2000, 0x0020
_SIZES_BEHIND = 0x0008


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
        begin, size, entries = self._directory()
        starts, ends, all_checked = array("Q"), array("Q"), True
        for member in self._members(begin, begin + size, entries):
            self._meter.member()
            data_at = self._open(member)
            if data_at + member.packed > begin:
                raise WrongContent(f"its member {member.shown} reaches into the directory")
            starts.append(member.offset)
            ends.append(data_at + member.packed)
            all_checked &= self._content(member, data_at)
        self._no_overlap(starts, ends)
        first = min(starts, default=begin)
        # A mark of an archive that was to be split, or members that were deleted from the directory alone.
        marked = first == 4 and self._read(0, 4) in (b"PK00", b"PK\x07\x08")
        if first != 0 and not marked and not self._read(0, 4).startswith(b"PK\x03\x04"):
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

    def _bytes(self, offset: int, size: int, what: str, member: _Member | None = None) -> bytes:
        data = self._read(offset, size) if 0 <= offset <= self._length else b""
        if len(data) < size:
            raise WrongContent(f"it ends in the middle of {what}" + (f" {member.shown}" if member is not None else ""))
        return data

    def _directory(self) -> tuple[int, int, int]:
        """Return start, size and number of entries of the directory by the end record, which must be the last thing."""
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
        return start, size, entries

    def _end_record(self) -> tuple[int, tuple[bytes, int, int, int, int, int, int, int]]:
        """Find the end record: the comment it announces must end where the file ends, but for zeros behind it."""
        start = max(0, self._length - _END.size - 0xFFFF)
        tail = self._read(start, self._length - start)
        padding = len(tail.rstrip(b"\0"))
        at = tail.rfind(b"PK\x05\x06")
        while at >= 0:
            if at + _END.size <= len(tail):
                record = _END.unpack_from(tail, at)
                if padding <= at + _END.size + record[7] <= len(tail):
                    return start + at, record
            at = tail.rfind(b"PK\x05\x06", 0, at + 3)
        raise WrongContent("it has no end record, or something else behind it: it is cut off, or was added to")

    def _members(self, at: int, end: int, entries: int) -> Iterator[_Member]:
        """Walk the central directory, a block at a time."""
        block, block_at = b"", at
        for _ in range(entries):
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
            if _NO_32 in (size, packed, offset):
                size, packed, offset = _wide(extra, size, packed, offset)
            at += _CENTRAL.size + names + extras + comments
            if at > end:
                raise WrongContent("its directory is damaged")
            yield _Member(block[name_at : name_at + names], flags, method, crc, packed, size, offset)
        if at != end:
            raise WrongContent("its directory has more in it than its end record says")

    def _open(self, member: _Member) -> int:
        """Compare the local header of a member with the directory, and give where its data begin."""
        header = self._bytes(member.offset, _LOCAL.size, "the header of its member", member)
        mark, _, flags, method, _, _, crc, packed, size, name_length, extra_length = _LOCAL.unpack(header)
        if mark != b"PK\x03\x04":
            raise WrongContent(f"its member {member.shown} is not where the directory says")
        texts = self._bytes(member.offset + _LOCAL.size, name_length + extra_length, "a header")
        if _NO_32 in (size, packed):
            size, packed, _ = _wide(texts[name_length:], size, packed, 0)
        # Some writers have backslashes in one of the two.
        if texts[:name_length].replace(b"\\", b"/") != member.name.replace(b"\\", b"/") or method != member.method:
            raise WrongContent(f"its member {member.shown} has another name or method in its own header")
        known = not flags & _SIZES_BEHIND and not flags & _ENCRYPTED
        if known and (crc, packed, size) != (member.crc, member.packed, member.size):
            raise WrongContent(f"its member {member.shown} has another size or check sum in its own header")
        return int(member.offset + _LOCAL.size + name_length + extra_length)

    def _content(self, member: _Member, at: int) -> bool:
        """Compare the CRC-32 and the length of a member; False when it cannot be read."""
        if member.flags & (_ENCRYPTED | _PATCHED) or member.method not in (0, 8, 12):
            return False
        pieces = self._blocks(at, member)
        if member.method != 0 and (member.packed or member.size):
            pieces = self._inflated(pieces, member)
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

    def _blocks(self, at: int, member: _Member) -> Iterator[bytes]:
        """Read the data of a member as they are."""
        end = at + member.packed
        for start in range(at, end, BLOCK):
            yield self._bytes(start, min(BLOCK, end - start), "its member", member)

    def _inflated(self, blocks: Iterator[bytes], member: _Member) -> Iterator[bytes]:
        """Read the data of a member as they were before packing; they must end where the stream ends."""
        inflater = zlib.decompressobj(wbits=-15) if member.method == 8 else bz2.BZ2Decompressor()
        surplus = b""
        try:
            for block in blocks:
                surplus = block if inflater.eof else b""
                yield from inflated(inflater, block)
        except (zlib.error, OSError, EOFError) as error:
            raise WrongContent(f"its member {member.shown} is damaged ({error})") from None
        if not inflater.eof or inflater.unused_data or surplus:
            raise WrongContent(f"its member {member.shown} does not end where it says")


def _wide(extra: bytes, size: int, packed: int, offset: int) -> tuple[int, int, int]:
    """Return the 64-bit values (section 4.5.3) for those that did not fit into 32 bits."""
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
