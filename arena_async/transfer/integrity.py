"""
Whether the content that came is whole and right, by the strongest proof there is, in constant memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import attrs

from arena_async.errors import TransferError

__all__ = ["Caps", "Inspector", "Proof", "Verdict", "choose_proof"]

#: How content was verified, the strongest first. ``"none"`` is not verified.
Proof = Literal["md5", "crc", "length", "none"]
Kind = Literal["gzip", "zip", "avro", "empty", "other"]


@attrs.frozen(kw_only=True)
class Caps:
    """
    What checking compressed content may cost.

    Args:
        ratio: Bytes produced for each byte of content, at the most, once ``floor`` bytes were produced.
        floor: Bytes that may be produced whatever the ratio.
        members: Members of a gzip or zip file, at the most.
        seconds: Seconds of checking, at the most.
    """

    ratio: float = 1100.0
    floor: int = 64 * 1024 * 1024
    members: int = 100_000
    seconds: float = 3600.0


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


def choose_proof(*, kind: Kind, md5: str | None, length: int | None, structure: bool = True) -> Proof:
    """
    Choose the strongest proof there is: the server's MD5, else the CRC of gzip and zip content, else a known length.

    Args:
        kind: What the first bytes say.
        md5: What the server vouches for; anything but 32 hexadecimal digits is no proof.
        length: The whole length, announced or listed, or None.
        structure: Whether the CRCs of this content can be computed (an encrypted zip has none to offer).
    """
    raise NotImplementedError


class Inspector:
    """
    Looks at the content of one file as it comes, block by block, and says in the end whether it is whole.

    Args:
        name: What to call the file in errors.
        extension: The extension of the documented layout: what content is expected; it never chooses the check.
        length: Bytes of the whole file, announced or listed, or None.
        md5: Its MD5 in hexadecimal as the server gives it, or None.
        digest: ``"sha256"`` to compute it for the ledger, or None.
        max_length: Bytes the file may have, at the most, or None.
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
        digest: Literal["sha256"] | None = "sha256",
        max_length: int | None = None,
        caps: Caps = Caps(),
        clock: Callable[[], float] | None = None,
    ) -> None:
        raise NotImplementedError

    @property
    def problem(self) -> TransferError | None:
        """What is wrong already, so that the rest need not be fetched; or None."""
        raise NotImplementedError

    @property
    def length(self) -> int:
        """Bytes seen so far."""
        raise NotImplementedError

    def feed(self, data: memoryview | bytes) -> None:
        """Look at the next block. Never raises for content: see :attr:`problem`. Meant for the thread of the lane."""
        raise NotImplementedError

    def finish(self, read: Callable[[int, int], bytes]) -> Verdict:
        """
        Say what the whole content is worth.

        Args:
            read: Gives up to so many bytes (second argument) from an offset (first) of the staged file, as
                :meth:`Staged.read` does; a zip file is read again here.
        """
        raise NotImplementedError
