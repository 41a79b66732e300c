"""What reading all files of a directory again shows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import attrs

from arena_async.transfer.context import Context
from arena_async.transfer.final_files import digest
from arena_async.transfer.models import (
    FileState,
    LedgerEntry,
)

__all__ = ["Verification", "Verified", "compare"]


@attrs.frozen(kw_only=True)
class Verified:
    """
    One file that is not as it was written down.

    Args:
        key: Its key.
        path: Where it lies, or should.
        expected: What the ledger says: SHA-256 in hexadecimal, or a size in bytes.
        actual: What is there, or None.
    """

    key: str
    path: Path
    expected: str | int | None = None
    actual: str | int | None = None


@attrs.frozen(kw_only=True)
class Verification:
    """
    What reading all complete files again has shown.

    Args:
        ok: Files whose digest is the one in the ledger.
        changed: Files with other content. They are fetched again by the next sync.
        missing: Files that are not there. They are fetched again by the next sync.
        unknown: Files that are there and of the right size, without a digest in the ledger to compare with.
    """

    ok: int = 0
    changed: tuple[Verified, ...] = ()
    missing: tuple[Verified, ...] = ()
    unknown: tuple[Verified, ...] = ()

    @property
    def bad(self) -> tuple[Verified, ...]:
        """The changed and the missing ones."""
        return self.changed + self.missing


def compare(
    proceed: Callable[[], None], context: Context, entry: LedgerEntry
) -> tuple[str, Verified, FileState | None]:
    """Read one file and compare it with its entry. For a thread."""
    path = context.root / entry.path
    read = digest(context.directory, entry.path, proceed)
    if read is None:
        return "missing", Verified(key=entry.key, path=path, expected=entry.sha256 or entry.size), None
    actual, state = read
    if state.size != entry.size:
        return "changed", Verified(key=entry.key, path=path, expected=entry.size, actual=state.size), state
    if entry.sha256 is None:
        return "unknown", Verified(key=entry.key, path=path, actual=actual), state
    row = Verified(key=entry.key, path=path, expected=entry.sha256, actual=actual)
    return ("ok" if actual == entry.sha256 else "changed"), row, state
