"""
Partial files: content that is being downloaded, and the control records that let a later run resume it.

::

    partial/
    ├── <key hash>-<random>.part      the content so far; no two ever have the same name
    └── <key hash>-<random>.json      its control record: which bytes are known to be on the disk

A record is written after its bytes were synced, so it never speaks of bytes that may be lost. The locks on partial
files only save work; what keeps two writers apart is that names are unique.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterable

import attrs

from arena_async.errors import StorageError
from arena_async.options import KIB, MIB
from arena_async.protocol.ranges import strong_etag
from arena_async.transfer.directory import Directory, ParentCache
from arena_async.transfer.filesystem import (
    UNSUPPORTED,
    FileSystem,
    Proceed,
    again,
    explained,
    explaining,
    hash_range,
    read_blocks,
    write_all,
)
from arena_async.transfer.models import FileState
from arena_async.transfer.rate import Span, joined, length_of

__all__ = [
    "TAIL",
    "ControlRecord",
    "FoundPartial",
    "PartWriter",
    "PartialFile",
    "control_name",
    "digest_of_tail",
    "drop_partial",
    "key_hash",
    "owner_of",
]

log = logging.getLogger("arena_async")

_VERSION = 1
#: Bytes before an end whose digest proves it.
TAIL = 64 * KIB
#: Bytes after which it is recorded if the last record is older than so many seconds.
_MIN_UNIT, _UNIT_SECONDS = 8 * MIB, 1.0
#: Ranges behind the others that a control record names at most; with as many it stays far below its size limit.
_MAX_RANGES = 200
#: Earlier ends that a control record names at most.
_MAX_MARKS = 64
#: No file system holds a file of so many bytes.
_MAX_SIZE = 1 << 62


#: An offset, and the digest of the last bytes before it.
Mark = tuple[int, str]


@attrs.frozen(kw_only=True)
class FoundPartial:
    """
    A partial file of an earlier run that can be resumed.

    Args:
        name: Its name in the directory of partial files.
        validator: The strong ETag of the content.
        offset: Bytes from the start that are known to be on the disk, and were found there.
        total: Bytes of the whole file, or None.
        ahead: Ranges behind ``offset`` of which the same is known.
        marks: Earlier ends, each with the digest of its tail: what is proved where the last end is not.
    """

    name: str
    validator: str
    offset: int
    total: int | None
    ahead: tuple[Span, ...]
    marks: tuple[Mark, ...] = ()

    @property
    def held(self) -> int:
        """Bytes that are known to be on the disk, wherever they are."""
        return self.offset + length_of(self.ahead)


def key_hash(key: str) -> str:
    """Return what stands for a key in names and records."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def owner_of(name: str) -> str:
    """Return what stands for the key in the name of a partial file."""
    return name.partition("-")[0]


def control_name(name: str) -> str:
    """Return the name of the control record of a partial file."""
    return f"{name.removesuffix('.part')}.json"


@attrs.frozen(kw_only=True)
class ControlRecord:
    """A control record: what is known to be on the disk of a partial file, each part with a digest of its end."""

    validator: str
    offset: int
    total: int | None
    tail: str
    ahead: tuple[tuple[int, int, str], ...] = ()
    marks: tuple[Mark, ...] = ()

    def dump(self, key: str) -> bytes:
        """Write it down."""
        fields = {"version": _VERSION, "key": key_hash(key), **attrs.asdict(self)}
        return json.dumps(fields, sort_keys=True).encode()

    @classmethod
    def load(cls, text: bytes, key_hash: str) -> ControlRecord | None:
        """Read it, or give None for anything but a whole record of that key."""
        try:
            fields = json.loads(text)
            ahead = fields.get("ahead", [])
            record = cls(
                validator=fields["validator"],
                offset=fields["offset"],
                total=fields.get("total"),
                tail=fields["tail"],
                ahead=tuple([(start, until, tail) for start, until, tail in ahead]),
                marks=tuple([(offset, tail) for offset, tail in fields.get("marks", ())]),
            )
            ours = fields["version"] == _VERSION and fields["key"].startswith(key_hash)
            return record if ours and isinstance(ahead, list) and record.is_valid() else None
        except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
            return None

    @staticmethod
    def is_foreign(text: bytes) -> bool:
        """Return whether it is the record of another version of this library, or of another program."""
        try:
            fields = json.loads(text)
        except (RecursionError, ValueError):
            return False
        return isinstance(fields, dict) and fields.get("version") != _VERSION

    def is_valid(self) -> bool:
        """Return whether the fields have their types, and all ranges lie in order within the file."""
        edges = [
            0,
            *[offset for offset, _ in self.marks],
            self.offset,
            *[edge for start, until, _ in self.ahead for edge in (start, until)],
        ]
        if self.total is not None:
            edges.append(self.total)
        texts = [self.validator, self.tail, *[tail for _, _, tail in self.ahead], *[tail for _, tail in self.marks]]
        typed = all(type(edge) is int for edge in edges) and all(isinstance(text, str) for text in texts)
        if not typed or strong_etag(self.validator) is None or (self.ahead and self.total is None):
            return False
        no_range_is_empty = self.offset > 0 and all(start < until for start, until, _ in self.ahead)
        return edges == sorted(edges) and edges[-1] < _MAX_SIZE and no_range_is_empty and len(self.ahead) <= _MAX_RANGES

    def found(self, name: str, holds: Callable[[int, int, str], bool]) -> FoundPartial | None:
        """
        Return what can be resumed, as far as it is proved, or None for nothing.

        Ranges ahead that begin where the others end belong to those.

        Args:
            name: The name of the partial file.
            holds: Given a range and the digest of its end, it says whether that is there.
        """
        marks = [*self.marks, (self.offset, self.tail)]
        while marks and not (marks[-1][0] and holds(0, *marks[-1])):
            marks.pop()
        if not marks:
            return None
        offset, ahead = marks[-1][0], joined([part[:2] for part in self.ahead if holds(*part)], begin=0)
        if ahead and ahead[0][0] == offset:
            offset, ahead = ahead[0][1], ahead[1:]
        return FoundPartial(
            name=name, validator=self.validator, offset=offset, total=self.total, ahead=ahead, marks=tuple(marks)
        )


def drop_partial(directory: Directory, name: str) -> None:
    """Remove a partial file and its control record, the record first. Never raises for what is gone already."""
    directory.clear(directory.partials, control_name(name))
    directory.clear(directory.partials, name)


class PartialFile:
    """
    A partial file that is open for writing. Made by :class:`PartialFiles`.

    Attributes:
        key: The key of its file.
        path: Its final path, below the root.
        name: Its name in the directory of partial files.
        end: Bytes written so far without a gap.
        durable_offset: Bytes without a gap that the control record names.
    """

    def __init__(
        self, directory: Directory, file: int, *, key: str, path: str, name: str, found: FoundPartial | None = None
    ) -> None:
        self.key = key
        self.path = path
        self.name = name
        self.end = self.durable_offset = 0 if found is None else found.offset
        #: Ranges that parts have written, ahead of ``end`` or behind it; every byte of them was written.
        self.ranges: Callable[[], Iterable[Span]] = tuple if found is None else lambda: found.ahead
        self._directory = directory
        self._files = directory.files
        self._file: int | None = file
        self._validator: str | None = None
        self._total: int | None = None
        #: Whether it has, or may have, a control record.
        self.recorded = found is not None
        self._synced_at = 0.0
        self._durable = 0 if found is None else found.held
        self._marks: tuple[Mark, ...] = () if found is None else found.marks
        #: Its status once it was secured, which shows under any name that it is this very file.
        self.status: os.stat_result | None = None

    @property
    def ahead(self) -> tuple[Span, ...]:
        """Ranges behind :attr:`end` that are written, in order."""
        return joined(self.ranges(), begin=self.end)

    @property
    def held(self) -> int:
        """Bytes written so far, wherever they are."""
        return self.end + length_of(self.ahead)

    @property
    def recorded_bytes(self) -> int:
        """Bytes that its control record names, wherever they are."""
        return self._durable if self.recorded else 0

    @property
    def due(self) -> bool:
        """Whether so much was written since the last :meth:`checkpoint` that it is time for another."""
        if self._validator is None:
            return False
        directory, count = self._directory, self.held - self._durable
        # Each record waits for a sync on the thread that writes: at full speed, 8 MiB are too few for it.
        return count >= directory.flush_unit or (
            count >= _MIN_UNIT and directory.clock() - self._synced_at >= _UNIT_SECONDS
        )

    def describe(self, *, validator: str | None, total: int | None) -> None:
        """
        Set what the content is, before its first byte is written.

        Without a strong validator nothing can be resumed, so no control record is ever written. A known ``total``
        above 1 MiB is allocated.

        Raises:
            DiskFullError: There is less space than that.
            StorageError: The disk failed.
        """
        self._validator = validator if validator and validator.startswith('"') else None
        self._total = total
        self._synced_at = self._directory.clock()
        if total is None or total <= MIB:
            return
        try:
            again(self._files.allocate, self.opened(), total)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EFBIG):
                free = self._directory.free_bytes()
                raise self._directory.no_room(self.path, total, free) from None
            if error.errno not in UNSUPPORTED:
                raise explained(error, self.path, "given room for", file=self.key) from error

    def write(self, data: memoryview | bytes) -> None:
        """
        Write all of ``data`` behind :attr:`end`, and a :meth:`checkpoint` when one is due.

        Raises:
            DiskFullError: No space is left; what is recorded so far stays for the next run.
            StorageError: The disk failed.
        """
        with explaining(self.path, "written", file=self.key):
            self.end = write_all(self._files, self.opened(), data, self.end)
        if self.due:
            self.checkpoint()

    def open_part(self) -> PartWriter:
        """
        Open it once more, for a part that is written ahead of :attr:`end`.

        Raises:
            StorageError: It was removed or replaced, or the disk failed.
        """
        with explaining(self.path, "opened again", file=self.key):
            file = again(self._files.open_file, self._directory.partials, self.name, writable=True)
            try:
                theirs, ours = again(self._files.look_open, file), again(self._files.look_open, self.opened())
                if not os.path.samestat(theirs, ours):
                    raise StorageError(f"{self.path}: its partial file is another one now. Run again.", file=self.key)
            except BaseException:
                self._files.close(file)
                raise
        return PartWriter(self._files, file, self.key, self.path)

    def reach(self, end: int) -> None:
        """
        Note that all bytes before ``end`` were written; they are recorded as those of :meth:`write`.

        Raises:
            DiskFullError: No space is left; what is recorded so far stays for the next run.
            StorageError: The disk failed.
        """
        self.end = end
        if self.due:
            self.checkpoint()

    def checkpoint(self) -> None:
        """
        Sync the data and then, if it can be resumed, record how far it goes and which ranges lie ahead.

        Raises:
            DiskFullError: No space is left. Data that could not be synced is not trusted: the file is dropped.
            StorageError: The disk failed, with the same consequence.
        """
        # What is written from here on is not recorded: it is unknown whether the sync still includes it.
        ahead = self.ahead
        self._sync(self._files.sync_data)
        if self._validator is None or self.end == 0:
            return
        file = self.opened()
        with explaining(self.path, "recorded", file=self.key):
            record = ControlRecord(
                validator=self._validator,
                offset=self.end,
                total=self._total,
                tail=digest_of_tail(self._files, file, 0, self.end),
                ahead=tuple([(*span, digest_of_tail(self._files, file, *span)) for span in ahead[:_MAX_RANGES]]),
                marks=self._marks,
            )
            self._directory.write_record(self._directory.partials, control_name(self.name), record.dump(self.key))
        self.recorded = True
        # Where there are many, every other one goes: the largest are then some percent of the file apart.
        self._marks = (*(self._marks[1::2] if len(self._marks) >= _MAX_MARKS else self._marks), (self.end, record.tail))
        self.durable_offset = self.end
        self._synced_at = self._directory.clock()
        self._durable = self.end + length_of(ahead)
        self._directory.resumable.add(owner_of(self.name))

    def _sync(self, sync: Callable[[int], None]) -> bool:
        """Sync the file; False where the file system cannot. Data that failed to sync is dropped."""
        try:
            return self._directory.sync(self.opened(), sync)
        except OSError as error:
            # After a failed fsync the system forgets which pages were lost: a second one succeeds and proves nothing.
            # https://www.postgresql.org/docs/current/runtime-config-error-handling.html (data_sync_retry)
            self.drop()
            raise explained(error, self.path, "forced to the disk", file=self.key) from error

    def restart(self) -> None:
        """
        Drop all content and start at byte 0, under the same name.

        Raises:
            StorageError: The disk failed.
        """
        with explaining(self.path, "emptied", file=self.key):
            # The record goes first: it must never name bytes that are no longer there.
            self._directory.remove(self._directory.partials, control_name(self.name))
            again(self._files.truncate, self.opened(), 0)
        self.end = self.durable_offset = self._durable = 0
        self._marks = ()
        self.ranges = tuple
        self.recorded = False

    def read(self, offset: int, size: int) -> bytes:
        """
        Read back up to ``size`` bytes; fewer only at the end of what was written.

        Raises:
            StorageError: The disk failed.
        """
        with explaining(self.path, "read back", file=self.key):
            return b"".join(read_blocks(self._files, self.opened(), offset, min(offset + size, self.end)))

    def replay(
        self,
        feed: Callable[[memoryview], object],
        *,
        end: int,
        start: int = 0,
        proceed: Proceed = bool,
    ) -> None:
        """
        Pass the bytes from ``start`` to ``end`` to ``feed``, block by block, for instance to hash a resumed file.

        ``proceed`` is called before each block is read, and raises to end it.

        Raises:
            StorageError: The disk failed, or there are fewer bytes.
        """
        offset = start
        with explaining(self.path, "read back", file=self.key):
            for block in read_blocks(self._files, self.opened(), start, end, proceed):
                feed(memoryview(block))
                offset += len(block)
        if offset < end:
            raise StorageError(
                f"{self.path}: only {offset} of {end} bytes could be read back. Run again.", file=self.key
            )

    def finish(self) -> None:
        """
        Set its length and permissions: only :meth:`secure` is left to do before its rename.

        Raises:
            DestinationBusyError: The final name is taken by something that is no file.
            StorageError: The disk failed.
        """
        with ParentCache(self._directory) as parents:
            mode = self._directory.mode_for(self.path, parents)
        file = self.opened()
        with explaining(self.path, "completed", file=self.key):
            if again(self._files.look_open, file).st_size != self.end:
                again(self._files.truncate, file, self.end)
            again(self._files.chmod, file, mode)

    def begin_sync(self) -> None:
        """
        Let the system begin to write it to the disk, so that :meth:`secure` has less to wait for. Never raises.

        What is recorded was synced already, and stays cached for the next reader.
        """
        try:
            self._files.begin_sync(self.opened(), self.durable_offset)
        except OSError as error:
            log.debug("%s: the system did not begin to write it: %s", self.path, error)

    def secure(self, *, durable: bool) -> tuple[FileState, bool]:
        """
        Sync it if ``durable``, and return its state and whether its content survives a power loss.

        Raises:
            DiskFullError: No space is left; the file is dropped.
            StorageError: The disk failed; the file is dropped if its data could not be synced.
        """
        durable = durable and self._sync(self._files.sync)
        try:
            seen = again(self._files.look_open, self.opened())
        except OSError as error:
            raise explained(error, self.path, "completed", file=self.key) from error
        self.status = seen
        return FileState(size=seen.st_size, mtime_ns=seen.st_mtime_ns), durable

    def release(self) -> StorageError | None:
        """Close it, leave everything under its name, and return what went wrong: it concerns what was not synced."""
        file, self._file = self._file, None
        try:
            if file is not None:
                self._files.close(file)
        except OSError as error:
            log.debug("%s: closing it failed: %s", self.path, error)
            return explained(error, self.path, "closed", file=self.key)
        return None

    def close(self) -> None:
        """Close it. A recorded file stays for the next run, one without a record is removed. Safe to call twice."""
        if self.recorded:
            self.release()
        else:
            self.drop()

    def keep(self) -> None:
        """Record what was written since the last record, however little it is, and close it. Safe twice."""
        if self._file is not None and self._validator is not None and self.held > self._durable:
            # Where the disk fails, those bytes are downloaded again.
            with contextlib.suppress(StorageError):
                self.checkpoint()
        self.close()

    def drop(self) -> None:
        """Close and remove it with its control record. Safe to call twice; never raises for what is gone already."""
        if self._file is None:
            return
        if not self._files.renames_open_files:
            self.release()
        drop_partial(self._directory, self.name)
        self.release()
        self.recorded = False

    def opened(self) -> int:
        """Return the open file, to be read and written."""
        if self._file is None:
            raise StorageError(f"{self.path}: its partial file was closed before. Stage it anew.", file=self.key)
        return self._file


@attrs.frozen
class PartWriter:
    """
    A partial file that is open a second time, so that a thread of its own writes to it ahead of what is there.

    It has an open file of its own: whatever becomes of the first one, no byte can go into a file of another name.
    """

    _files: FileSystem
    _file: int
    _key: str
    _path: str

    def write(self, data: memoryview | bytes, offset: int) -> None:
        """
        Write all of ``data`` at ``offset``.

        Raises:
            DiskFullError: No room is left.
            StorageError: The disk failed.
        """
        with explaining(self._path, "written", file=self._key):
            write_all(self._files, self._file, data, offset)

    def close(self) -> None:
        """Close it, once; what was written is judged by the sync of the first one."""
        with contextlib.suppress(OSError):
            self._files.close(self._file)


def digest_of_tail(files: FileSystem, file: int, start: int, until: int) -> str:
    """Return the digest of the last bytes of a range of a file; of fewer, if fewer are there. Raises ``OSError``."""
    return hash_range(files, file, max(start, until - TAIL), until)
