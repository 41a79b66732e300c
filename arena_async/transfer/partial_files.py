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
import hashlib
import json
import logging
import os
import stat
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Literal, TypeGuard

import attrs

from arena_async.errors import StorageError
from arena_async.options import KIB, MIB
from arena_async.transfer.directory import BLOCK, STATE_DIRECTORY, Directory, ParentCache
from arena_async.transfer.filesystem import UNSUPPORTED, FileSystem, Handle, again, explained, explaining, write_all
from arena_async.transfer.models import FileState
from arena_async.transfer.rate import Span, joined, length_of

__all__ = ["FoundPartial", "PartWriter", "PartialFile", "PartialFiles", "control_name"]

log = logging.getLogger("arena_async")

_VERSION = 1
_TAIL = 64 * KIB
#: Bytes after which a resumable file is recorded, whatever the time.
_FLUSH_UNIT = 32 * MIB
#: Bytes after which it is recorded if the last record is older than so many seconds.
_MIN_UNIT, _UNIT_SECONDS = 8 * MIB, 1.0
#: Ranges behind the others that a control record names at most; with as many it stays far below its size limit.
_MAX_RANGES = 200
_TRIES = 100

#: Without working locks, a partial file that was written to so recently (seconds) counts as in use.
_RECENT = 3600.0
#: A partial file that was not resumed for so long (seconds) is removed.
_STALE = 30 * 86400.0
#: After so long (seconds), the unfinished replacement of a small file is removed, whatever its lock says.
_ABANDONED = 60.0


@attrs.frozen(kw_only=True)
class FoundPartial:
    """
    A partial file of an earlier run that can be resumed.

    Args:
        key: The key of its file.
        name: Its name in the directory of partial files.
        validator: The strong ETag of the content.
        offset: Bytes from the start that are known to be on the disk, and were found there.
        total: Bytes of the whole file, or None.
        ahead: Ranges behind ``offset`` of which the same is known.
    """

    key: str
    name: str
    validator: str
    offset: int
    total: int | None = None
    ahead: tuple[Span, ...] = ()

    @property
    def held(self) -> int:
        """Bytes that are known to be on the disk, wherever they are."""
        return self.offset + length_of(self.ahead)


def _key_hash(key: str) -> str:
    """Return what stands for a key in names and records."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def _owner(name: str) -> str:
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

    def dump(self, key: str) -> bytes:
        """Write it down."""
        fields = {"version": _VERSION, "key": _key_hash(key), **attrs.asdict(self)}
        return json.dumps(fields, sort_keys=True).encode()

    @classmethod
    def load(cls, text: bytes, key_hash: str) -> ControlRecord | None:
        """Read it, or give None for anything but a whole record of that key."""
        try:
            fields = json.loads(text)
        except (ValueError, RecursionError):
            return None
        if not isinstance(fields, dict) or fields.get("version") != _VERSION:
            return None
        validator, offset, total, tail = (fields.get(name) for name in ("validator", "offset", "total", "tail"))
        if not str(fields.get("key")).startswith(key_hash) or not isinstance(tail, str):
            return None
        if not isinstance(validator, str) or not validator.startswith('"'):
            return None
        if not _is_count(offset) or offset == 0 or (total is not None and (not _is_count(total) or total < offset)):
            return None
        ahead = _read_parts(fields.get("ahead", []), offset, total)
        if ahead is None:
            return None
        return cls(validator=validator, offset=offset, total=total, tail=tail, ahead=ahead)


def _partial_of(record: ControlRecord, *, key: str, name: str) -> FoundPartial:
    """Give what can be continued according to a record; parts that begin where the others end belong to those."""
    offset, ahead = record.offset, joined([(start, until) for start, until, _ in record.ahead], begin=0)
    if ahead and ahead[0][0] == offset:
        offset, ahead = ahead[0][1], ahead[1:]
    return FoundPartial(key=key, name=name, validator=record.validator, offset=offset, total=record.total, ahead=ahead)


def _read_parts(found: object, offset: int, total: int | None) -> tuple[tuple[int, int, str], ...] | None:
    """Read what a record says of parts behind its offset; None for anything but parts in order, inside the file."""
    if not isinstance(found, list) or len(found) > _MAX_RANGES:
        return None
    parts, end = [], offset
    for part in found:
        if not isinstance(part, list) or len(part) != 3:
            return None
        start, until, tail = part
        if not (_is_count(start) and _is_count(until) and isinstance(tail, str)):
            return None
        if total is None or not end <= start < until <= total:
            return None
        parts.append((start, until, tail))
        end = until
    return tuple(parts)


def _is_count(value: object) -> TypeGuard[int]:
    """Say whether it is a whole number that counts something."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


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

    def __init__(self, owner: PartialFiles, file: int, *, key: str, path: str, name: str, offset: int = 0) -> None:
        self.key = key
        self.path = path
        self.name = name
        self.end = offset
        self.durable_offset = offset
        #: Ranges that parts have written, ahead of ``end`` or behind it; every byte of them was written.
        self.ranges: Callable[[], Iterable[Span]] = tuple
        self._owner = owner
        self._directory = owner.directory
        self._files = owner.directory.files
        self._file: int | None = file
        self._validator: str | None = None
        self._total: int | None = None
        #: Whether it has, or may have, a control record.
        self.recorded = offset > 0
        self._synced_at = 0.0
        self._durable = offset
        #: Device and inode of the file once it was secured: the same under any name.
        self.identity: tuple[int, int] | None = None

    def __repr__(self) -> str:
        return f"<PartialFile {self.path} {self.end} bytes>"

    @property
    def closed(self) -> bool:
        """Whether it was closed, dropped or committed."""
        return self._file is None

    @property
    def ahead(self) -> tuple[Span, ...]:
        """Ranges behind :attr:`end` that are written, in order."""
        return joined(self.ranges(), begin=self.end)

    @property
    def held(self) -> int:
        """Bytes written so far, wherever they are."""
        return self.end + length_of(self.ahead)

    @property
    def due(self) -> bool:
        """Whether so much was written since the last :meth:`checkpoint` that it is time for another."""
        if self._validator is None:
            return False
        return self._owner.is_due(self.held - self._durable, since=self._synced_at)

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
        self._synced_at = self._owner.clock()
        if total is None or total <= MIB:
            return
        try:
            again(self._files.allocate, self._open(), total)
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                raise explained(error, self.path, "given room for", file=self.key) from error

    def write(self, data: memoryview | bytes, offset: int) -> None:
        """
        Write all of ``data`` at ``offset``, and a :meth:`checkpoint` when one is due.

        Raises:
            DiskFullError: No space is left; what is recorded so far stays for the next run.
            StorageError: The disk failed.
        """
        file = self._open()
        if offset > self.end:
            raise StorageError(
                f"{self.path}: bytes from {offset} on came before those from {self.end} on.", file=self.key
            )
        with explaining(self.path, "written", file=self.key):
            at = write_all(self._files, file, data, offset)
        self.reach(at)

    def open_part(self) -> PartWriter:
        """
        Open it once more, for a part that is written ahead of :attr:`end`.

        Raises:
            StorageError: It was removed or replaced, or the disk failed.
        """
        with explaining(self.path, "opened again", file=self.key):
            file = again(self._files.open_file, self._directory.partials, self.name, writable=True)
            try:
                theirs, ours = again(self._files.look_open, file), again(self._files.look_open, self._open())
                if (theirs.st_dev, theirs.st_ino) != (ours.st_dev, ours.st_ino):
                    raise StorageError(f"{self.path}: its partial file is another one now. Run again.", file=self.key)
            except BaseException:
                self._files.close(file)
                raise
        return PartWriter(self._files, file, key=self.key, path=self.path)

    def reach(self, end: int) -> None:
        """
        Note that all bytes before ``end`` were written; they are recorded as those of :meth:`write`.

        Raises:
            DiskFullError: No space is left; what is recorded so far stays for the next run.
            StorageError: The disk failed.
        """
        self.end = max(self.end, end)
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
        with explaining(self.path, "recorded", file=self.key):
            record = ControlRecord(
                validator=self._validator,
                offset=self.end,
                total=self._total,
                tail=self._tail(0, self.end),
                ahead=tuple((start, until, self._tail(start, until)) for start, until in ahead[:_MAX_RANGES]),
            )
            self._directory.write_record(self._directory.partials, control_name(self.name), record.dump(self.key))
        self.recorded = True
        self.durable_offset = self.end
        self._synced_at = self._owner.clock()
        self._durable = self.end + length_of(ahead)
        self._owner.note_resumable(self.name)

    def _tail(self, start: int, until: int) -> str:
        """Return the digest of the end of a range. Raises ``OSError``."""
        return _digest_of_tail(self._files, self._open(), start, until)

    def _sync(self, sync: Callable[[int], None]) -> bool:
        """Sync the file; False where the file system cannot. Data that failed to sync is dropped."""
        try:
            return self._directory.sync_file(self._open(), sync)
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
            again(self._files.truncate, self._open(), 0)
        self.end = self.durable_offset = self._durable = 0
        self.ranges = tuple
        self.recorded = False

    def read(self, offset: int, size: int) -> bytes:
        """
        Read back up to ``size`` bytes; fewer only at the end of what was written.

        Raises:
            StorageError: The disk failed.
        """
        chunks, wanted = [], max(0, min(size, self.end - offset))
        with explaining(self.path, "read back", file=self.key):
            while wanted:
                chunk = again(self._files.read, self._open(), wanted, offset)
                if not chunk:
                    break
                chunks.append(chunk)
                offset, wanted = offset + len(chunk), wanted - len(chunk)
        return b"".join(chunks)

    def replay(self, feed: Callable[[memoryview], object], *, end: int, start: int = 0) -> None:
        """
        Pass the bytes from ``start`` to ``end`` to ``feed``, block by block, for instance to hash a resumed file.

        Raises:
            StorageError: The disk failed, or there are fewer bytes.
        """
        offset = start
        while offset < end:
            block = self.read(offset, min(BLOCK, end - offset))
            if not block:
                raise StorageError(
                    f"{self.path}: only {offset} of {end} bytes could be read back. Run again.", file=self.key
                )
            feed(memoryview(block))
            offset += len(block)

    def finish(self, *, durable: bool = True) -> tuple[FileState, bool]:
        """
        Set its length and permissions and, if ``durable``, sync it: afterwards only the rename is left.

        Returns:
            Its state under its final name, and whether its content survives a power loss.

        Raises:
            DestinationBusyError: The final name is taken by something that is no file.
            DiskFullError: No space is left; the file is dropped.
            StorageError: The disk failed; the file is dropped if its data could not be synced.
        """
        with ParentCache(self._directory) as parents:
            mode = self._directory.mode_for(self.path, parents)
        file = self._open()
        with explaining(self.path, "completed", file=self.key):
            if again(self._files.look_open, file).st_size != self.end:
                again(self._files.truncate, file, self.end)
            again(self._files.chmod, file, mode)
        return self.secure(durable=durable)

    def begin_sync(self) -> None:
        """
        Let the system begin to write it to the disk, so that :meth:`secure` has less to wait for. Never raises.

        What is recorded was synced already, and stays cached for the next reader.
        """
        try:
            self._files.begin_sync(self._open(), self.durable_offset)
        except OSError as error:
            log.debug("%s: the system did not begin to write it: %s", self.path, error)

    def secure(self, *, durable: bool = True) -> tuple[FileState, bool]:
        """
        Sync it if ``durable``, and return its state and whether it survives a power loss.

        Raises:
            DiskFullError: No space is left; the file is dropped.
            StorageError: The disk failed; the file is dropped if its data could not be synced.
        """
        durable = durable and self._sync(self._files.sync)
        try:
            seen = again(self._files.look_open, self._open())
        except OSError as error:
            raise explained(error, self.path, "completed", file=self.key) from error
        self.identity = (seen.st_dev, seen.st_ino)
        return FileState(size=seen.st_size, mtime_ns=seen.st_mtime_ns), durable

    def release(self) -> None:
        """
        Close it and leave everything under its name.

        Raises:
            DiskFullError: Closing showed that no space was left.
            StorageError: Closing failed otherwise; the content is not to be trusted.
        """
        file, self._file = self._file, None
        if file is None:
            return
        try:
            self._files.close(file)
        except OSError as error:
            raise explained(error, self.path, "closed", file=self.key) from error

    def close(self) -> None:
        """Close it. A recorded file stays for the next run, one without a record is removed. Safe to call twice."""
        if self._file is None:
            return
        if not self.recorded:
            self.drop()
            return
        # Recorded bytes were synced before; an error of closing is about bytes that are not recorded.
        with contextlib.suppress(StorageError):
            self.release()

    def keep(self) -> None:
        """Record what was written since the last record, where that is worth a sync, and close it. Safe twice."""
        worth = self._validator is not None and self.held - self._durable >= _MIN_UNIT
        if self._file is not None and worth:
            # Where the disk fails, those bytes are downloaded again.
            with contextlib.suppress(StorageError):
                self.checkpoint()
        self.close()

    def drop(self) -> None:
        """Close and remove it with its control record. Safe to call twice; never raises for what is gone already."""
        if self._file is None:
            return
        with contextlib.suppress(StorageError):
            if not self._files.renames_open_files:
                self.release()
            self._owner.drop(self.name)
            self.release()
        self.recorded = False

    def _open(self) -> int:
        if self._file is None:
            raise StorageError(f"{self.path}: its partial file was closed before. Stage it anew.", file=self.key)
        return self._file


class PartialFiles:
    """
    The partial files of a directory.

    Args:
        directory: The directory, open.
        flush_unit: Bytes after which a resumable file is synced and recorded, whatever the time; where they arrive
            slowly, each second is enough for 8 MiB.
        clock: Seconds that never decrease.
    """

    def __init__(
        self,
        directory: Directory,
        *,
        flush_unit: int = _FLUSH_UNIT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.directory = directory
        self.clock = clock
        self.flush_unit = flush_unit
        self.files = directory.files
        #: The owners of the partial files that existed when the directory was opened, or were recorded since.
        self._resumable: set[str] = set()

    def scan(self) -> None:
        """
        Note which partial files exist. Called once, after the directory was opened.

        Raises:
            StorageError: Their directory cannot be read.
        """
        self._resumable.update(map(_owner, self._names()))

    def is_due(self, count: int, *, since: float) -> bool:
        """Return whether ``count`` bytes written ``since`` are to be recorded, so that a kill costs little."""
        # Each record waits for a sync on the thread that writes: at full speed, 8 MiB are too few for it.
        return count >= self.flush_unit or (count >= _MIN_UNIT and self.clock() - since >= _UNIT_SECONDS)

    def note_resumable(self, name: str) -> None:
        """Note that a partial file can be resumed."""
        self._resumable.add(_owner(name))

    def forget(self, name: str) -> None:
        """Remove the control record of a committed file."""
        self.directory.clear(self.directory.partials, control_name(name))
        self._resumable.discard(_owner(name))

    def may_resume(self, key: str) -> bool:
        """
        Return whether looking for a partial file of a key is worth it; False costs nothing and is nearly always right.

        What another process leaves while this one has the directory open is seen at the next start.
        """
        return bool(self._resumable) and _key_hash(key)[:32] in self._resumable

    # -- new ones

    def create(self, key: str, path: str, *, size: int | None = None) -> PartialFile:
        """
        Open a new, empty partial file.

        Raises:
            DestinationBusyError: The final name is taken by something that is no file; nothing was made.
            DiskFullError: ``size`` bytes do not fit.
            StorageError: The disk failed.
            UnsafeNameError: The path does not lie inside the directory.
        """
        self.directory.state_of(path)
        if size:
            self.directory.check_space(size, path=path)
        return self._create(key, path)

    def write_small(self, key: str, path: str, content: bytes, parents: ParentCache) -> PartialFile:
        """
        Write a small file as a whole: only :meth:`PartialFile.secure` is left to do before its rename.

        Raises:
            DestinationBusyError: The final name is taken by something that is no file; nothing was made.
            DiskFullError: No space is left; nothing stays of it.
            StorageError: The disk failed; nothing stays of it.
            UnsafeNameError: The path does not lie inside the directory.
        """
        mode = self.directory.mode_for(path, parents)
        partial = self._create(key, path)
        file = partial._open()  # noqa: SLF001 - of the same module
        try:
            write_all(self.files, file, content, 0)
            again(self.files.chmod, file, mode)
        except OSError as error:
            partial.drop()
            raise explained(error, path, "written", file=key) from error
        partial.end = len(content)
        return partial

    def _create(self, key: str, path: str) -> PartialFile:
        """Open a new, empty partial file under a name that no other has."""
        begin, directory = _key_hash(key)[:32], self.directory.partials
        try:
            for _ in range(_TRIES):
                name = f"{begin}-{self.directory.draw_name()}.part"
                file = self._create_locked(directory, name)
                if file is not None:
                    return PartialFile(self, file, key=key, path=path, name=name)
        except OSError as error:
            raise explained(error, path, "staged", file=key) from error
        raise StorageError(
            f"{path}: no unused name for its partial file was found. Look into {STATE_DIRECTORY}.", file=key
        )

    def _create_locked(self, directory: Handle, name: str) -> int | None:
        """Make a partial file and lock it; None when the name is taken, or another process swept it in between."""
        files = self.files
        try:
            file = again(files.create, directory, name, 0o600)
        except FileExistsError:
            return None
        try:
            if again(files.lock, file) and self._is_named(file, directory, name):
                return file
        except BaseException:
            files.close(file)
            raise
        files.close(file)
        return None

    def _is_named(self, file: int, directory: Handle, name: str) -> bool:
        """Return whether an open file still has the name it was opened under."""
        opened = self.files.look_open(file)
        try:
            named = self.files.look(directory, name)
        except FileNotFoundError:
            return False
        return (opened.st_dev, opened.st_ino) == (named.st_dev, named.st_ino)

    # -- those of earlier runs

    def find(self, key: str) -> FoundPartial | None:
        """
        Return the best partial file of a key that can be trusted, and remove its others unless they are in use.

        Raises:
            StorageError: The directory of partial files cannot be read.
        """
        key_hash, best = _key_hash(key), None
        for name in self._names(f"{key_hash[:32]}-"):
            record = self._usable(name, key_hash)
            if record == "in use":
                continue
            found = _partial_of(record, key=key, name=name) if record is not None else None
            if found is None or (best is not None and best.held >= found.held):
                self.drop(name)
                continue
            if best is not None:
                self.drop(best.name)
            best = found
        return best

    def _names(self, start: str = "") -> list[str]:
        """Return the names of partial files, those too of which only the control record is left."""
        with explaining(self.directory.root / STATE_DIRECTORY / "partial", "listed"):
            found = again(self.files.names, self.directory.partials)
        stems = {
            name.rsplit(".", 1)[0] for name in found if name.startswith(start) and name.endswith((".part", ".json"))
        }
        return sorted(f"{stem}.part" for stem in stems)

    def _usable(self, name: str, key_hash: str) -> ControlRecord | Literal["in use"] | None:
        """Return the record of a partial file that can be resumed, None for one that is useless."""
        with self.taken(name) as file:
            if not isinstance(file, int):
                return file
            text = self.directory.read_small(self.directory.partials, control_name(name))
            record = None if text is None else ControlRecord.load(text, key_hash)
            with contextlib.suppress(OSError):
                if record is not None and self._holds(file, 0, record.offset, record.tail):
                    return attrs.evolve(record, ahead=tuple(part for part in record.ahead if self._holds(file, *part)))
            return None

    @contextlib.contextmanager
    def taken(self, name: str, *, within: Handle | None = None) -> Iterator[int | Literal["in use"] | None]:
        """Open a partial file that is not in use; None when it is not one of ours (a link, a FIFO, another user's)."""
        directory = self.directory.partials if within is None else within
        file: int | None = None
        found: int | Literal["in use"] | None = None
        try:
            with contextlib.suppress(OSError):
                file = again(self.files.open_file, directory, name, writable=True)
                found = self._judge(file, directory, name)
            yield found
        finally:
            if file is not None:
                with contextlib.suppress(OSError):
                    self.files.close(file)

    def _judge(self, file: int, directory: Handle, name: str) -> int | Literal["in use"] | None:
        """Return an open partial file if it is ours and free. Raises ``OSError``."""
        seen = again(self.files.look_open, file)
        ours = stat.S_ISREG(seen.st_mode) and seen.st_nlink == 1
        if not ours or (hasattr(os, "geteuid") and seen.st_uid != os.geteuid()):
            return None
        if not again(self.files.lock, file) or self._is_recent(seen):
            return "in use"
        return file if self._is_named(file, directory, name) else None

    def _is_recent(self, seen: os.stat_result) -> bool:
        """Return whether another process may still be writing, where locks do not tell."""
        return not self.directory.locks_work and self.directory.now() - seen.st_mtime < _RECENT

    def _holds(self, file: int, start: int, until: int, tail: str) -> bool:
        """Return whether the last recorded bytes of a range are there, and were not lost with the power."""
        return _digest_of_tail(self.files, file, start, until) == tail

    def resume(self, partial: FoundPartial, path: str) -> PartialFile | None:
        """
        Open a partial file at its offset, cut back to it; None when another process has taken it.

        Where locks do not work it is copied, so that no other writer can be in the same file.

        Raises:
            DestinationBusyError: The final name is taken by something that is no file.
            DiskFullError: No space is left.
            StorageError: The disk failed.
        """
        self.directory.state_of(path)
        with explaining(path, "opened again", file=partial.key):
            return self._reopen(partial, path) if self.directory.locks_work else self._copy(partial, path)

    def _reopen(self, partial: FoundPartial, path: str) -> PartialFile | None:
        """Take over a partial file under its lock."""
        directory = self.directory.partials
        try:
            file = again(self.files.open_file, directory, partial.name, writable=True)
        except FileNotFoundError:
            return None
        try:
            mine = again(self.files.lock, file) and self._is_named(file, directory, partial.name)
            if mine:
                again(self.files.truncate, file, partial.ahead[-1][1] if partial.ahead else partial.offset)
        except BaseException:
            self.files.close(file)
            raise
        if not mine:
            self.files.close(file)
            return None
        resumed = PartialFile(self, file, key=partial.key, path=path, name=partial.name, offset=partial.offset)
        resumed.ranges = lambda: partial.ahead
        resumed._durable = partial.held  # noqa: SLF001 - of the same module
        return resumed

    def _copy(self, partial: FoundPartial, path: str) -> PartialFile | None:
        """Resume in a new file with the bytes of an old one."""
        copy = self.create(partial.key, path, size=partial.offset)
        try:
            copy.describe(validator=partial.validator, total=partial.total)
            with self.taken(partial.name) as file:
                while isinstance(file, int) and copy.end < partial.offset:
                    block = again(self.files.read, file, min(BLOCK, partial.offset - copy.end), copy.end)
                    if not block:
                        break
                    copy.write(block, copy.end)
        except BaseException:
            copy.drop()
            raise
        if copy.end < partial.offset:
            copy.drop()
            return None
        copy.checkpoint()  # The old one goes only when the new one can be resumed just as well.
        self.drop(partial.name)
        return copy

    def drop(self, name: str) -> None:
        """Remove a partial file and its control record, the record first. Never raises for what is gone already."""
        self.directory.clear(self.directory.partials, control_name(name))
        self.directory.clear(self.directory.partials, name)

    # -- leftovers

    def sweep(self, *, keep: Collection[str] = ()) -> int:
        """
        Remove partial files that are not in use and cannot be resumed, or were not resumed for 30 days.

        Args:
            keep: Names of partial files to leave alone.

        Returns:
            How many were removed.

        Raises:
            StorageError: The directory of partial files cannot be read.
        """
        removed = 0
        for name in self._names():
            if name in keep:
                continue
            record = self._usable(name, name.split("-", 1)[0])
            if record == "in use" or (record is not None and not self._is_stale(name)):
                continue
            self.drop(name)
            removed += 1
        for handle in (self.directory.partials, self.directory.state):
            with contextlib.suppress(OSError):
                for name in again(self.files.names, handle):
                    if name.startswith(("new-", "mode-")):
                        self._clear_abandoned(handle, name)
        return removed

    def _is_stale(self, name: str) -> bool:
        """Return whether a partial file was not resumed for a long time."""
        try:
            return self.directory.now() - again(self.files.look, self.directory.partials, name).st_mtime > _STALE
        except OSError:
            return False

    def _clear_abandoned(self, handle: Handle, name: str) -> None:
        """Remove what an interrupted replacement of a small file left, unless another process may be writing it."""
        with contextlib.suppress(FileNotFoundError):
            if self.directory.now() - again(self.files.look, handle, name).st_mtime > _ABANDONED:
                self.directory.clear(handle, name)
            elif name.startswith("new-"):
                # Locked while it is written: a lock that is free shows that its writer is dead.
                with self.taken(name, within=handle) as file:
                    if isinstance(file, int):
                        self.directory.clear(handle, name)


class PartWriter:
    """
    A partial file that is open a second time, so that a thread of its own writes to it ahead of what is there.

    It has an open file of its own: whatever becomes of the first one, no byte can go into a file of another name.
    """

    def __init__(self, files: FileSystem, file: int, *, key: str, path: str) -> None:
        self._files = files
        self._file: int | None = file
        self._key = key
        self._path = path

    def write(self, data: memoryview | bytes, offset: int) -> None:
        """
        Write all of ``data`` at ``offset``.

        Raises:
            DiskFullError: No room is left.
            StorageError: The disk refused, or it was closed before.
        """
        if self._file is None:
            raise StorageError(f"{self._path}: its partial file was closed before.", file=self._key)
        with explaining(self._path, "written", file=self._key):
            write_all(self._files, self._file, data, offset)

    def close(self) -> None:
        """Close it. Safe twice; what was written is judged by the sync of the first one."""
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(OSError):
                self._files.close(file)


def _digest_of_tail(files: FileSystem, file: int, start: int, until: int) -> str:
    """Give the digest of the last bytes of a part of a file; of fewer, if fewer are there. Raises ``OSError``."""
    at, digest = max(start, until - _TAIL), hashlib.sha256()
    while at < until and (block := again(files.read, file, until - at, at)):
        digest.update(block)
        at += len(block)
    return digest.hexdigest()
