"""
What is known about each file of a folder, on disk, safe for several processes.

::

    files       one row a key: state, path, size and time on disk, change mark, digests, vendor's name, partial
    seen        which listing (scope, generation) last saw which key, under which name, and where it wants to go
    watermarks  per scope, how far a clean run has come

    states      committing -> complete        (a row that says committing is settled at the next start at the latest)
                skipped                       the service will never give it: reason and time

No secret is ever in a row. All verbs are asynchronous; the work is done on one thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Literal, Protocol

import attrs

from arena_async.transfer.integrity import Proof

__all__ = ["PAGE", "Entry", "Known", "Ledger", "MemoryLedger", "Sighting", "SqliteLedger"]

#: Keys of one look-up.
PAGE = 400

State = Literal["committing", "complete", "skipped"]


@attrs.frozen(kw_only=True)
class Entry:
    """
    What the ledger knows about one file.

    Args:
        key: Names the file for ever.
        state: ``complete``: it was brought home. ``committing``: it was verified and is about to get its name, or has
            it already; compare with what is on disk as for ``complete``. ``skipped``: the service will never give it.
        path: Below the root, with slashes; "" for what was skipped.
        size: Bytes on disk.
        mtime_ns: Time of the file on disk, nanoseconds since 1970.
        change: The change mark of the content.
        sha256: In hexadecimal, or None.
        md5: In hexadecimal, or None.
        verified_by: How the content was verified.
        name: The vendor's own file name.
        partial: The name of its partial file while it is committing, else "".
        reason: Why it was skipped, else "".
        at: When this was written down (aware), or None.
    """

    key: str
    state: State = "complete"
    path: str = ""
    size: int = 0
    mtime_ns: int = 0
    change: str = ""
    sha256: str | None = None
    md5: str | None = None
    verified_by: Proof = "none"
    name: str = ""
    partial: str = ""
    reason: str = ""
    at: datetime | None = None


@attrs.frozen(kw_only=True)
class Sighting:
    """
    One row of a listing.

    Args:
        key: Of the file.
        name: The vendor's name for it.
        change: Its change mark.
        path: Where it wants to go.
    """

    key: str
    name: str = ""
    change: str = ""
    path: str = ""


@attrs.frozen(kw_only=True)
class Known:
    """
    What the ledger answers to one row of a listing.

    Args:
        entry: What is known about the key, or None.
        earlier: The row of the same key that this listing brought before, or None.
        rival: The other key that this listing has already sent to the same path (or one that differs in case or
            composition only), or None.
    """

    entry: Entry | None = None
    earlier: Sighting | None = None
    rival: str | None = None


class Ledger(Protocol):
    """The verbs of every ledger."""

    async def look_up(self, keys: Sequence[str]) -> dict[str, Entry]:
        """Give what is known about some keys; unknown ones are missing. Best in pages of :data:`PAGE`."""
        ...

    async def begin_listing(self, scope: str) -> int:
        """Start a listing of a scope and give its generation."""
        ...

    async def see(self, scope: str, generation: int, rows: Sequence[Sighting]) -> list[Known]:
        """Note a page of a listing and give what is known about each row, in order, in one hop and one transaction."""
        ...

    async def gone(self, scope: str, generation: int, *, after: str = "", limit: int = PAGE) -> list[Entry]:
        """
        Give complete files of the scope that its listing of this generation did not bring, by key, ``limit`` at a time.

        A file that a listing of another scope still brings (in its newest listing) is not among them.

        Args:
            after: The key of the last row of the page before.
        """
        ...

    async def end_listing(self, scope: str, generation: int) -> None:
        """Forget what a listing only noted to answer questions about itself."""
        ...

    async def write(self, entries: Sequence[Entry], *, completed: Sequence[str] = ()) -> None:
        """
        Write entries in one transaction.

        Args:
            entries: Replace what was known about their keys.
            completed: Keys of rows that were ``committing`` and have their final name now.
        """
        ...

    async def skip(self, key: str, reason: str, *, at: datetime, change: str = "", name: str = "") -> None:
        """Remember a refusal that is for ever."""
        ...

    async def forget(self, keys: Sequence[str]) -> None:
        """Forget some keys."""
        ...

    async def entries(
        self, *, after: str = "", limit: int = PAGE, states: Sequence[State] = ("complete", "committing")
    ) -> list[Entry]:
        """Give entries by key, ``limit`` at a time, behind the key ``after``."""
        ...

    async def watermark(self, scope: str) -> datetime | None:
        """Say how far a clean run of a scope has come (aware), or None."""
        ...

    async def set_watermark(self, scope: str, value: datetime | None) -> None:
        """Write down how far a clean run of a scope has come."""
        ...

    async def aclose(self) -> None:
        """Close it. Safe twice."""
        ...


class SqliteLedger:
    """
    The ledger of a folder.

    Attributes:
        set_aside: Where a damaged ledger was put when it was opened, or None. Its files are unknown then: they are
            fetched again and replaced.
    """

    set_aside: Path | None

    @classmethod
    async def open(cls, path: Path, *, busy_timeout: float = 30.0) -> SqliteLedger:
        """
        Open or make the ledger.

        Args:
            path: Its file; the folder exists.
            busy_timeout: Seconds to wait for another process.

        Raises:
            StorageError: It cannot be opened, or was written by a newer version of this library.
            DiskFullError: No room is left.
        """
        raise NotImplementedError


class MemoryLedger:
    """The same verbs without any memory of files: for jobs that always fetch. What a listing noted is on disk, unnamed."""

    @classmethod
    async def open(cls) -> MemoryLedger:
        """Make one."""
        raise NotImplementedError
