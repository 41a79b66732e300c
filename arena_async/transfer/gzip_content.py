"""Whether gzip content is whole, as it comes (RFC 1952)."""

from __future__ import annotations

import zlib

from arena_async.transfer.checking import BLOCK, ForeignContent, Meter, WrongContent

__all__ = ["GzipCheck"]


class GzipCheck:
    """
    Follows gzip content member by member (RFC 1952); the decompressor compares CRC-32 and length of each.

    Behind a member there may be another, or zeros up to the end, as tapes and some writers leave them.

    Args:
        meter: Stops what costs too much.
        encoded: Whether the answer called itself gzip-encoded. Then gzip inside is a stored gzip file that somebody on
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
            block = data[start : start + BLOCK]
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
            raise WrongContent(f"there is something else behind its member {self._members}")
        self._meter.member()
        self._members += 1
        self._member = zlib.decompressobj(wbits=31)
        return rest

    def _inflate(self, member: zlib._Decompress, block: bytes) -> bytes:
        """Inflate a piece, never more than so much at a time, and give what belongs to the next member."""
        rest = block
        while rest and not member.eof:
            try:
                made = member.decompress(rest, BLOCK)
            except zlib.error as error:
                raise WrongContent(f"its member {self._members} is damaged ({error})") from None
            self._meter.produced(len(made), taken=self._taken)
            self._look_inside(made)
            rest = member.unconsumed_tail
        while not member.eof:
            # What is held back inside comes out without any more input.
            made = member.decompress(b"", BLOCK)
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
            raise ForeignContent("gzip content that was packed once more on its way")

    def finish(self) -> None:
        """Check that the content ends where a member ends."""
        if self._member is not None or self._start:
            raise WrongContent(f"it ends in the middle of its member {self._members}")
