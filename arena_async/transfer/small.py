"""
Small files take the short way: through memory and in batches, since a hop to a thread costs more than their writing.

==============================  ===========================================================================
the answer, as far as known     the way
==============================  ===========================================================================
goes on with a part             long: the part lies on the disk
begins, but a part is here      long: the file that is open is emptied and used again
longer than :data:`MOST`        long
at most :data:`MOST` bytes      short: gathered in the buffer of the slot, verified and written with its group
of unknown length               short, until more than :data:`MOST` bytes came; what came is written then
==============================  ===========================================================================

On the long way the thread of the slot writes and hashes while the body comes, and every so many bytes are recorded, so
that even a killed run goes on with them. A small file has no such record on either way: after a stop it is fetched
anew. A body that breaks goes over to the long way with what came, so that within a run only the rest is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import PurePosixPath

from arena_async.options import KIB
from arena_async.transfer.integrity import Inspector, Verdict
from arena_async.transfer.ledger import Entry
from arena_async.transfer.storage import Near, Staged, Storage

__all__ = ["MOST", "SmallFile", "goes_short"]

#: Bytes of a small file, at the most. From here on, what is saved is no longer seen beside the transfer itself.
MOST = 256 * KIB


def goes_short(*, offset: int, has_part: bool, total: int | None, most: int) -> bool:
    """
    Choose the way of a body.

    Args:
        offset: Where it begins.
        has_part: Whether a partial file is open already.
        total: Bytes of the whole file, or None while that is not known.
        most: Bytes that may be gathered in memory.
    """
    return offset == 0 and not has_part and (total is None or total <= most)


class SmallFile:
    """
    The content of a small file, until the thread that commits its group has written it.

    Attributes:
        path: Where it goes, below the root.
        size: Bytes.
        verdict: What it is worth, once it was verified.
        written: Bytes that were written to the disk.

    Args:
        key: Names the file.
        path: Where it goes, below the root.
        content: All of it.
        inspector: Looks at it; it has seen nothing yet.
        entry: Makes its row in the ledger.
    """

    def __init__(
        self,
        key: str,
        path: PurePosixPath,
        content: bytes,
        *,
        inspector: Inspector,
        entry: Callable[[Verdict], Entry],
    ) -> None:
        self.path = path
        self.size = len(content)
        self.verdict: Verdict | None = None
        self.written = 0
        self._key = key
        self._content = content
        self._inspector = inspector
        self._entry = entry

    def __repr__(self) -> str:
        return f"<SmallFile {self.path} {self.size} bytes>"

    def bring(self, storage: Storage, near: Near) -> tuple[Staged, Entry]:
        """
        Verify it and write it, on a thread. What is not right is never written.

        Raises:
            IntegrityError: It is not right.
            ContentError: It is something else.
            StorageError: The disk refused; nothing stays of it.
        """
        try:
            verdict = self._verify()
            if verdict.problem is not None:
                raise verdict.problem
            staged = storage.take_in(self._key, self.path, self._content, near=near)
        finally:
            # Nobody who keeps the error, and with it the frames it came through, is to keep the content as well.
            self._content = b""
        self.verdict, self.written = verdict, self.size
        return staged, self._entry(verdict)

    def _verify(self) -> Verdict:
        """Look at all of it."""
        content = self._content
        self._inspector.feed(content)
        return self._inspector.finish(lambda offset, size: content[offset : offset + size])
