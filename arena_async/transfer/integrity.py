"""
Whether the content that came is whole and right, by the strongest proof there is, in constant memory.

==========  =================================================================================================
``sha256``  the list gave the SHA-256 of the file, and it is that of what came
``md5``     the server or the list gave the MD5 of the file, and it is that of what came
``crc``     the content is gzip or zip, whole to its last byte, and every check sum in it holds
``length``  as many bytes came as were announced or listed; or a zip is whole, and its members are encrypted
``none``    nothing is known; the content may be half a file
==========  =================================================================================================

What the content is, its first bytes say, never the name. Only what the name promises is compared with that: a page of
HTML where a zip is expected is somebody else's answer.
"""

from __future__ import annotations

import bz2
import hashlib
import itertools
import json
import re
import struct
import time
import zlib
from array import array
from collections.abc import Callable, Iterator
from typing import Literal, Protocol

import attrs

from arena_async.errors import ContentError, IntegrityError, TransferError
from arena_async.options import KIB, MIB

__all__ = ["Caps", "Inspector", "Proof", "Verdict", "choose_proof"]

#: How content was verified, the strongest first. ``"none"`` is not verified.
Proof = Literal["sha256", "md5", "crc", "length", "none"]
Kind = Literal["gzip", "zip", "avro", "empty", "other"]


_BLOCK = 256 * KIB
_HEAD = 512
_LARGEST_MESSAGE = 64 * KIB

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


@attrs.frozen(kw_only=True)
class Verdict:
    """
    What is known about content that came to its end.

    Args:
        verified_by: The strongest proof that held.
        length: Bytes.
        sha256: In hexadecimal, or None when it was not asked for.
        md5: In hexadecimal, or None when nobody needed it.
        kind: What the first bytes say it is.
        problem: Why it must not be kept, as a typed error, or None.
        remark: Something odd that is no failure, for instance a zip under the name ``.csv.gz``; or "".
    """

    verified_by: Proof
    length: int
    sha256: str | None = None
    md5: str | None = None
    kind: Kind = "other"
    problem: TransferError | None = None
    remark: str = ""


def choose_proof(
    *, kind: Kind, md5: str | None, length: int | None, sha256: str | None = None, structure: bool = True
) -> Proof:
    """
    Choose the strongest proof there is: SHA-256, else MD5, else the CRC of gzip and zip content, else a known length.

    Args:
        kind: What the first bytes say.
        md5: What the server or the list vouches for; anything but 32 hexadecimal digits is no proof.
        sha256: What the list vouches for; anything but 64 hexadecimal digits is no proof.
        length: The whole length, announced or listed, or None.
        structure: Whether the CRCs of this content can be computed (an encrypted zip has none to offer).
    """
    if _is_digest(sha256, digits=64):
        return "sha256"
    if _is_digest(md5, digits=32):
        return "md5"
    if kind in ("gzip", "zip") and structure:
        return "crc"
    return "none" if length is None else "length"


def _is_digest(text: str | None, *, digits: int) -> bool:
    return text is not None and len(text) == digits and re.fullmatch(r"[0-9a-fA-F]+", text) is not None


# -------------------------------------------------------------------------------------------------------- what it costs


class _Wrong(Exception):  # noqa: N818 - it never leaves this module
    """The content contradicts itself; the sentence says how."""


class _Foreign(Exception):  # noqa: N818 - it never leaves this module
    """The content is not what is stored; the words say what it is."""


class _TooCostly(Exception):  # noqa: N818 - it never leaves this module
    """A cap was reached; the sentence says which."""


class _Meter:
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
            raise _TooCostly(f"it has more than {self._caps.members} members")

    def produced(self, count: int, *, taken: int) -> None:
        """Count bytes produced out of all that was ``taken`` so far."""
        self._produced += count
        if self._produced > max(self._caps.floor, self._caps.ratio * taken):
            raise _TooCostly(f"it holds more than {self._caps.ratio:g} times its size")
        running = self._clock() - self._since if self._since is not None else 0.0
        if self._spent + running > self._caps.seconds:
            raise _TooCostly(f"checking it takes more than {self._caps.seconds:g} s")


# ----------------------------------------------------------------------------------------------------------------- gzip


class _GzipCheck:
    """
    Follows gzip content member by member (RFC 1952); the decompressor compares CRC-32 and length of each.

    Behind a member there may be another, or zeros up to the end, as tapes and some writers leave them.

    Args:
        meter: Stops what costs too much.
        encoded: Whether the answer called itself gzip-encoded. Then gzip inside is a stored gzip file that somebody on
            the way has packed once more.
    """

    def __init__(self, meter: _Meter, *, encoded: bool) -> None:
        self._meter = meter
        self._encoded = encoded
        self._inside = b""
        self._taken = 0
        self._member: zlib._Decompress | None = None
        self._start = b""
        self._members = 0

    def feed(self, data: memoryview) -> None:
        """Look at the next bytes."""
        for start in range(0, len(data), _BLOCK):
            block = data[start : start + _BLOCK]
            self._taken += len(block)
            self._take(bytes(block))

    def _take(self, block: bytes) -> None:
        rest = block
        while rest:
            if self._member is None:
                rest = self._begin(rest)
                continue
            rest = self._inflate(self._member, rest)

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
            raise _Wrong(f"there is something else behind its member {self._members}")
        self._meter.member()
        self._members += 1
        self._member = zlib.decompressobj(wbits=31)
        return rest

    def _inflate(self, member: zlib._Decompress, block: bytes) -> bytes:
        """Inflate a piece, never more than so much at a time, and give what belongs to the next member."""
        rest = block
        while rest and not member.eof:
            try:
                made = member.decompress(rest, _BLOCK)
            except zlib.error as error:
                raise _Wrong(f"its member {self._members} is damaged ({error})") from None
            self._meter.produced(len(made), taken=self._taken)
            self._look_inside(made)
            rest = member.unconsumed_tail
        while not member.eof:
            # What is held back inside comes out without any more input.
            made = member.decompress(b"", _BLOCK)
            self._meter.produced(len(made), taken=self._taken)
            if not made:
                return b""
        self._member = None
        return member.unused_data

    def _look_inside(self, made: bytes) -> None:
        """Notice a file that was packed on the way although it was packed already."""
        if not self._encoded or len(self._inside) >= 2:
            return
        self._inside += made[:2]
        if self._inside.startswith(b"\x1f\x8b"):
            raise _Foreign("gzip content that was packed once more on its way")

    def finish(self) -> None:
        """Check that the content ends where a member ends."""
        if self._member is not None or self._start:
            raise _Wrong(f"it ends in the middle of its member {self._members}")


# ------------------------------------------------------------------------------------------------------------------ zip

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


class _Inflater(Protocol):
    """What decompressors of the standard library have in common."""

    @property
    def eof(self) -> bool:
        """Whether the stream has come to its end."""
        ...

    @property
    def unused_data(self) -> bytes:
        """What came behind the end."""
        ...

    def decompress(self, data: bytes, max_length: int = ...) -> bytes:
        """Give the next piece."""
        ...


class _ZipCheck:
    """
    Reads a zip back from the disk: end record, directory, local headers, and the CRC-32 of every member.

    Args:
        read: Gives bytes of the file.
        length: Bytes of the file.
        meter: Stops what costs too much.
    """

    def __init__(self, read: Read, length: int, meter: _Meter) -> None:
        self._read = read
        self._length = length
        self._meter = meter

    def check(self) -> bool:
        """
        Check all of it; False when some members cannot be checked (encrypted, or packed in an uncommon way).

        Raises:
            _Wrong: It is not whole.
            _TooCostly: A cap was reached.
        """
        directory = self._directory()
        starts, ends, all_checked = array("Q"), array("Q"), True
        for member in self._members(directory):
            self._meter.member()
            data_at = self._open(member)
            if data_at + member.packed > directory.start:
                raise _Wrong(f"its member {member.shown} reaches into the directory")
            starts.append(member.offset)
            ends.append(data_at + member.packed)
            all_checked &= self._content(member, data_at)
        self._no_overlap(starts, ends)
        if (min(starts) if starts else directory.start) != 0:
            raise _Wrong("something else stands before its first member")
        return all_checked

    @staticmethod
    def _no_overlap(starts: array[int], ends: array[int]) -> None:
        """Check that no two members share bytes."""
        order = range(len(starts))
        if any(starts[number] < starts[number - 1] for number in order[1:]):
            order = sorted(order, key=starts.__getitem__)  # type: ignore[assignment]
        for before, number in itertools.pairwise(order):
            if starts[number] < ends[before]:
                raise _Wrong("its members overlap")

    def _bytes(self, offset: int, size: int, what: str) -> bytes:
        data = self._read(offset, size) if 0 <= offset <= self._length else b""
        if len(data) < size:
            raise _Wrong(f"it ends in the middle of {what}")
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
                raise _Wrong("its end record is damaged")
        if disk != 0 or first_disk != 0 or here != entries:
            raise _Wrong("it is one part of several")
        if start + size != at:
            raise _Wrong("its directory is not where its end record says, so something was put before it or cut out")
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
        raise _Wrong("it has no end record, or something else behind it: it is cut off, or was added to")

    def _members(self, directory: _Directory) -> Iterator[_Member]:
        """Walk the central directory, a block at a time."""
        at, end, block, block_at = directory.start, directory.start + directory.size, b"", directory.start
        for _ in range(directory.entries):
            # No entry is longer than its fixed part and three texts of 64 KiB.
            if block_at + len(block) < min(end, at + _CENTRAL.size + 3 * 0xFFFF):
                block, block_at = self._read(at, min(_BLOCK, end - at)), at
            here = at - block_at
            if len(block) < here + _CENTRAL.size or block[here : here + 4] != b"PK\x01\x02":
                raise _Wrong("its directory is damaged")
            _, _, _, flags, method, _, _, crc, packed, size, names, extras, comments, _, _, _, offset = (
                _CENTRAL.unpack_from(block, here)
            )
            name_at = here + _CENTRAL.size
            extra = block[name_at + names : name_at + names + extras]
            size, packed, offset = _wide(extra, size, packed, offset)
            at += _CENTRAL.size + names + extras + comments
            if at > end:
                raise _Wrong("its directory is damaged")
            yield _Member(block[name_at : name_at + names], flags, method, crc, packed, size, offset)
        if at != end:
            raise _Wrong("its directory has more in it than its end record says")

    def _open(self, member: _Member) -> int:
        """Compare the local header of a member with the directory, and give where its data begin."""
        header = self._bytes(member.offset, _LOCAL.size, f"the header of its member {member.shown}")
        mark, _, flags, method, _, _, crc, packed, size, name_length, extra_length = _LOCAL.unpack(header)
        if mark != b"PK\x03\x04":
            raise _Wrong(f"its member {member.shown} is not where the directory says")
        texts = self._bytes(member.offset + _LOCAL.size, name_length + extra_length, "a header")
        size, packed, _ = _wide(texts[name_length:], size, packed, 0)
        if texts[:name_length] != member.name or method != member.method:
            raise _Wrong(f"its member {member.shown} has another name or method in its own header")
        known = not flags & _SIZES_BEHIND and not flags & _ENCRYPTED
        if known and (crc, packed, size) != (member.crc, member.packed, member.size):
            raise _Wrong(f"its member {member.shown} has another size or check sum in its own header")
        return int(member.offset + _LOCAL.size + name_length + extra_length)

    def _content(self, member: _Member, at: int) -> bool:
        """Compare the CRC-32 and the length of a member; False when it cannot be read."""
        if member.flags & _ENCRYPTED or member.method not in (0, 8, 12):
            return False
        if member.method == 0 or (member.packed == 0 and member.size == 0):
            pieces = self._blocks(at, member.packed, member)
        else:
            inflater: _Inflater = zlib.decompressobj(wbits=-15) if member.method == 8 else bz2.BZ2Decompressor()
            pieces = self._inflated(inflater, at, member)
        crc, size = 0, 0
        for piece in pieces:
            crc, size = zlib.crc32(piece, crc), size + len(piece)
            self._meter.produced(len(piece), taken=self._length)
            if size > member.size:
                break
        if size != member.size:
            raise _Wrong(f"its member {member.shown} is not {member.size} bytes long, as it says")
        if crc != member.crc:
            raise _Wrong(f"its member {member.shown} has the check sum {crc:08x} and says {member.crc:08x}")
        return True

    def _blocks(self, at: int, size: int, member: _Member) -> Iterator[bytes]:
        """Read the data of a member as they are."""
        while size:
            block = self._bytes(at, min(_BLOCK, size), f"its member {member.shown}")
            yield block
            at, size = at + len(block), size - len(block)

    def _inflated(self, inflater: _Inflater, at: int, member: _Member) -> Iterator[bytes]:
        """Read the data of a member as they were before packing; they must end where the stream ends."""
        try:
            for block in self._blocks(at, member.packed, member):
                yield from _pieces(inflater, block)
        except (zlib.error, OSError, EOFError) as error:
            raise _Wrong(f"its member {member.shown} is damaged ({error})") from None
        if not inflater.eof or inflater.unused_data:
            raise _Wrong(f"its member {member.shown} does not end where it says")


def _pieces(inflater: _Inflater, block: bytes) -> Iterator[bytes]:
    """Unpack a block, never more than so much at a time."""
    rest = block
    while not inflater.eof:
        piece = inflater.decompress(rest, _BLOCK)
        rest = getattr(inflater, "unconsumed_tail", b"")
        if not piece and not rest:
            return
        yield piece
    if rest and not inflater.unused_data:
        raise zlib.error("data behind the end")


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


# ------------------------------------------------------------------------------------------------------------ the whole

_MAGIC: tuple[tuple[bytes, Kind], ...] = (
    (b"\x1f\x8b", "gzip"),
    (b"PK\x03\x04", "zip"),
    (b"PK\x05\x06", "zip"),
    (b"PK\x06\x06", "zip"),
    (b"Obj\x01", "avro"),
)

_PAGE = re.compile(rb"(?:\xef\xbb\xbf)?\s*<(?:!doctype\s+html|html|head|body|\?xml|!--)", re.IGNORECASE)

#: What an extension promises; of others nothing is expected.
_PROMISES: tuple[tuple[str, Kind], ...] = ((".gz", "gzip"), (".zip", "zip"), (".avro", "avro"), (".csv", "other"))

#: Members of a JSON object that is an error and no data.
_ERROR_WORDS = frozenset(
    {"error", "errors", "message", "code", "status", "statuscode", "detail", "title", "fault", "exception"}
)


@attrs.frozen
class _Vouched:
    """A digest of the whole content that somebody else gives."""

    whose: str
    name: str
    text: str


class Inspector:
    """
    Looks at the content of one file as it comes, block by block, and says in the end whether it is whole.

    Args:
        name: What to call the file in errors.
        extension: The extension of the documented layout: what content is expected; it never chooses the check.
        length: Bytes of the whole file, announced or listed, or None.
        md5: Its MD5 in hexadecimal as the server gives it, or None.
        listed_md5: Its MD5 in hexadecimal as the list gives it, or None.
        listed_sha256: Its SHA-256 in hexadecimal as the list gives it, or None.
        digest: ``"sha256"`` to compute it for the ledger, or None.
        max_length: Bytes the file may have, at the most, or None.
        encoded: Whether the answer says that its body is encoded, so that it may be more than what is stored.
        caps: What the check may cost.
        clock: Seconds that only ever grow.
    """

    def __init__(
        self,
        *,
        name: str,
        extension: str = "",
        length: int | None = None,
        md5: str | None = None,
        listed_md5: str | None = None,
        listed_sha256: str | None = None,
        digest: Literal["sha256"] | None = "sha256",
        max_length: int | None = None,
        encoded: bool = False,
        caps: Caps = Caps(),
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._name = name
        self._encoded = encoded
        self._promise = next((kind for end, kind in _PROMISES if extension.lower().endswith(end)), None)
        self._expected = length
        self._most = max_length
        #: What others say it is, by whose word and which digest.
        self._vouched = [
            _Vouched(whose, name, text.lower())
            for whose, name, text, digits in (
                ("list", "SHA-256", listed_sha256, 64),
                ("list", "MD5", listed_md5, 32),
                ("server", "MD5", md5, 32),
            )
            if text is not None and _is_digest(text, digits=digits)
        ]
        wanted = {vouched.name for vouched in self._vouched}
        self._sha256 = hashlib.sha256() if digest == "sha256" or "SHA-256" in wanted else None
        self._md5 = hashlib.md5(usedforsecurity=False) if "MD5" in wanted else None
        self._meter = _Meter(caps, clock or time.monotonic)
        self._length = 0
        self._head = b""
        self._kind: Kind | None = None
        self._gzip: _GzipCheck | None = None
        self._problem: TransferError | None = None
        self._left_unchecked = ""
        #: Whether a directory in the content vouches for its length.
        self._whole = False

    @property
    def problem(self) -> TransferError | None:
        """What is wrong already, so that the rest need not be fetched; or None."""
        return self._problem

    @property
    def length(self) -> int:
        """Bytes seen so far."""
        return self._length

    def feed(self, data: memoryview | bytes) -> None:
        """Look at the next block. Never raises for content: see :attr:`problem`. Meant for the thread of the lane."""
        view = memoryview(data)
        self._length += len(view)
        if self._sha256 is not None:
            self._sha256.update(view)
        if self._md5 is not None:
            self._md5.update(view)
        if self._too_long():
            return
        if self._kind is None:
            self._head += bytes(view)
            if len(self._head) < _HEAD:
                return
            self._recognize()
            view = memoryview(self._head)
        self._follow(view)

    def _too_long(self) -> bool:
        """Notice a body that does not end where it should."""
        if self._problem is None and self._most is not None and self._length > self._most:
            self._problem = ContentError(
                f"{self._name}: the content is longer than {self._most} bytes, the most a file may have; it was "
                "discarded. Raise max_file_size if that is right."
            )
        if self._problem is None and self._expected is not None and self._length > self._expected:
            self._problem = ContentError(
                f"{self._name}: more than the {self._expected} bytes announced or listed came; they were discarded. "
                "Run again; the source may have changed."
            )
        return self._problem is not None

    def _recognize(self) -> None:
        """Say by the first bytes what it is, and whether it can be what was asked for."""
        self._kind = (
            next((kind for magic, kind in _MAGIC if self._head.startswith(magic)), "other") if self._head else "empty"
        )
        if self._kind == "other" and self._promise is not None and _PAGE.match(self._head):
            self._problem = self._foreign("a web page")
        if self._kind == "gzip" and not self._vouched:
            self._gzip = _GzipCheck(self._meter, encoded=self._encoded)

    def _follow(self, view: memoryview) -> None:
        """Let the check of a compressed stream see the next bytes."""
        if self._gzip is None or self._problem is not None:
            return
        self._guarded(self._gzip.feed, view)

    def _guarded(self, check: Callable[..., object], *args: object) -> object:
        """Run a step of a check: damage becomes the problem, and a cap ends the check."""
        self._meter.start()
        try:
            return check(*args)
        except _Wrong as reason:
            self._problem = self._problem or self._damaged(str(reason))
        except _Foreign as what:
            self._problem = self._problem or self._foreign(str(what))
        except _TooCostly as reason:
            self._gzip = None
            self._left_unchecked = str(reason)
        finally:
            self._meter.stop()
        return False

    def finish(self, read: Read) -> Verdict:
        """
        Say what the whole content is worth.

        Args:
            read: Gives up to so many bytes (second argument) from an offset (first) of the staged file, as
                :meth:`Staged.read` does; a zip file is read again here.
        """
        if self._kind is None and self._problem is None:
            self._recognize()
            self._follow(memoryview(self._head))
        checked = False
        if self._problem is None:
            self._problem = self._wrong_length() or self._wrong_digest() or self._wrong_kind(read)
        if self._problem is None and not self._vouched:
            checked = self._check_structure(read)
        return self._verdict(checked=checked)

    def _check_structure(self, read: Read) -> bool:
        """Check what gzip and zip say about themselves; False when that could not be done completely."""
        if self._kind == "gzip" and self._gzip is not None:
            self._guarded(self._gzip.finish)
            return True
        if self._kind != "zip":
            return False
        whole = self._guarded(_ZipCheck(read, self._length, self._meter).check) is True
        if not whole and self._problem is None and not self._left_unchecked:
            self._left_unchecked = "some of its members are encrypted or packed in an uncommon way"
            self._whole = True
        return whole

    def _wrong_length(self) -> TransferError | None:
        if self._expected is None or self._length == self._expected:
            return None
        return IntegrityError(
            f"{self._name}: {self._length} of {self._expected} bytes came, so it is cut off; it was discarded. "
            "Run again.",
            expected=self._expected,
            actual=self._length,
        )

    def _wrong_digest(self) -> TransferError | None:
        for vouched in self._vouched:
            seen = self._sha256 if vouched.name == "SHA-256" else self._md5
            actual = "" if seen is None else seen.hexdigest()
            if actual != vouched.text:
                doubt = "the list" if vouched.whose == "list" else "the service"
                return IntegrityError(
                    f"{self._name}: its {vouched.name} is {actual} and the {vouched.whose} says {vouched.text}; it was "
                    f"discarded. Run again; if it stays so, ask whoever keeps {doubt} about this file.",
                    expected=vouched.text,
                    actual=actual,
                )
        return None

    def _wrong_kind(self, read: Read) -> TransferError | None:
        """Notice content that cannot be what the name promises."""
        if self._promise is None or self._vouched:
            return None
        if self._kind == "empty" and self._promise != "other":
            return self._damaged("it is empty, and not even an empty one of its kind is")
        if self._kind != "other":
            return None
        if self._length <= _LARGEST_MESSAGE and _is_object(self._head) and _tells_error(read(0, self._length)):
            return self._foreign("a JSON document about an error")
        # The vendor's pages disagree about what .csv.gz holds, so that one may be plain; a zip is never text.
        if self._promise != "other" and not (self._promise == "gzip" and _is_text(self._head)):
            return self._damaged("its first bytes are neither those of gzip nor of zip nor of avro content")
        return None

    def _foreign(self, what: str) -> ContentError:
        return ContentError(
            f"{self._name}: {what} came instead of the file; it was discarded. "
            "Look whether a proxy or a login page answers for the service, and run again."
        )

    def _damaged(self, how: str) -> IntegrityError:
        what = f"{self._kind} content" if self._kind in ("gzip", "zip") else "content"
        return IntegrityError(
            f"{self._name}: the {what} is damaged: {how}; it was discarded. "
            "Run again; if it stays so, ask the service about this file."
        )

    def _verdict(self, *, checked: bool) -> Verdict:
        kind = self._kind or "other"
        proof: Proof = "none"
        if self._problem is None:
            length = self._length if self._whole else self._expected
            vouched = {vouched.name: vouched.text for vouched in self._vouched}
            proof = choose_proof(
                kind=kind, sha256=vouched.get("SHA-256"), md5=vouched.get("MD5"), length=length, structure=checked
            )
        return Verdict(
            verified_by=proof,
            length=self._length,
            sha256=self._sha256.hexdigest() if self._sha256 is not None else None,
            md5=self._md5.hexdigest() if self._md5 is not None else None,
            kind=kind,
            problem=self._problem,
            remark=self._remark(kind),
        )

    def _remark(self, kind: Kind) -> str:
        """Say what is odd about it and no failure."""
        odd = []
        if self._promise not in (None, "other", kind):
            odd.append(f"the name promises {self._promise} content and it is {'plain' if kind == 'other' else kind}")
        if self._left_unchecked:
            odd.append(f"its check sums were not all checked: {self._left_unchecked}")
        return "; ".join(odd)


def _is_text(head: bytes) -> bool:
    """Say whether the beginning of some content is text: no control characters but those of lines and columns."""
    return not any(byte < 32 and byte not in b"\t\n\r\f" for byte in head)


def _is_object(head: bytes) -> bool:
    """Say whether some content may be a JSON object."""
    return _bare(head).startswith(b"{")


def _bare(content: bytes) -> bytes:
    return content.removeprefix(b"\xef\xbb\xbf").strip()


def _tells_error(content: bytes) -> bool:
    """Say whether it is a JSON object that tells about an error."""
    try:
        document = json.loads(_bare(content))
    except (ValueError, RecursionError):
        return False
    return isinstance(document, dict) and any(str(name).lower() in _ERROR_WORDS for name in document)
