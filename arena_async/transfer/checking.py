"""What looking inside content may cost, and how a check says what it found; gzip and zip have their own modules."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from typing import Protocol

import attrs

from arena_async.options import KIB, MIB

__all__ = ["BLOCK", "Caps", "ForeignContent", "Inflater", "Meter", "Read", "TooCostly", "WrongContent", "unpacked"]

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


class Inflater(Protocol):
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


def unpacked(inflater: Inflater, block: bytes) -> Iterator[bytes]:
    """Unpack a block, never more than so much at a time."""
    rest = block
    while not inflater.eof:
        piece = inflater.decompress(rest, BLOCK)
        rest = getattr(inflater, "unconsumed_tail", b"")
        if not piece and not rest:
            return
        yield piece
    if rest and not inflater.unused_data:
        raise zlib.error("data behind the end")
