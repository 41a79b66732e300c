"""
Everything that touches the disk: partial files, their control records, and how a file gets its final name.

::

    <root>/
    ├── arena/extracts/...           final files; a name here is absent, the previous file, or the whole new file
    └── .arena-async/                0700
        ├── ledger.sqlite            what is known about each file (see ledger)
        ├── tenant.json              which tenant of each service this folder belongs to
        ├── lock                     held while tenant.json is written
        └── partial/
            ├── <key hash>-<random>.part      a file on its way; no two ever get the same name
            └── <key hash>-<random>.json      its control record: how far it is known to be on the disk

All functions are synchronous and meant for a thread. Every call to the system goes through the port in
``transfer.filesystem``. Below
the root no symlink is ever followed: folders are opened one inside the other, so that nobody can turn a path around
between a check and a rename. The locks on partial files only save work; what keeps two writers apart is that names are
unique.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import os
import secrets
import stat
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Literal, TypeGuard, TypeVar

import attrs

from arena_async.errors import DestinationBusyError, DiskFullError, StorageError, UnsafeNameError
from arena_async.options import KIB, MIB
from arena_async.transfer.filesystem import (
    NO_FOLDER,
    UNSUPPORTED,
    FileState,
    FileSystem,
    Folder,
    again,
    explained,
    explaining,
    kind_of,
)
from arena_async.transfer.pieces import Span, joined, length_of
from arena_async.wire.messages import printable

__all__ = ["STATE_FOLDER", "Ahead", "Near", "Partial", "Staged", "Storage"]

T = TypeVar("T")

log = logging.getLogger("arena_async")

#: The name of our own folder below a root.
STATE_FOLDER = ".arena-async"

_VERSION = 1
_TAIL = 64 * KIB
_BLOCK = 256 * KIB
#: Bytes after which a file that can be continued is recorded if the last record is older than so many seconds.
_LEAST_UNIT, _UNIT_SECONDS = 8 * MIB, 1.0
_LARGEST_RECORD = 64 * KIB
#: Parts ahead of the others that a control record speaks of, at the most; with as many it stays far below its limit.
_MOST_PARTS = 200
_TRIES = 100

#: Without locks that work, a partial file that was written to this recently (seconds) counts as somebody's.
_RECENT = 3600.0
#: A partial file that nobody came back for (seconds).
_STALE = 30 * 86400.0
#: After so long (seconds), what was to take the place of a small file counts as left, whatever its lock says.
_OVER = 60.0
#: ERROR_ACCESS_DENIED, ERROR_SHARING_VIOLATION, ERROR_LOCK_VIOLATION: a virus scanner or an editor has it open.
# https://learn.microsoft.com/windows/win32/debug/system-error-codes--0-499-
_SHARING = frozenset({5, 32, 33})


@attrs.frozen(kw_only=True)
class Partial:
    """
    A file of an earlier attempt that can be continued.

    Args:
        key: Whose content it is.
        name: Its name in the folder of partial files.
        validator: The strong ETag of the content.
        offset: Bytes that are known to be on the disk, and were found there.
        total: Bytes of the whole file, or None.
        ahead: Parts behind ``offset`` of which the same is known.
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


@attrs.define
class Near:
    """
    The folder that was looked into last.

    Args:
        path: Below the root.
        folder: It, open, or None where there is none.
    """

    path: PurePosixPath | None = None
    folder: Folder | None = None


def _key_hash(key: str) -> str:
    """Give what stands for a key in names and records."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def _name_of(key: str) -> str:
    """Give what the names of the partial files of a key begin with."""
    return _key_hash(key)[:32]


# ---------------------------------------------------------------------------------------------------- a file on its way


@attrs.frozen(kw_only=True)
class _Record:
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
    def load(cls, text: bytes, key_hash: str) -> _Record | None:
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


def _partial_of(record: _Record, *, key: str, name: str) -> Partial:
    """Give what can be continued according to a record; parts that begin where the others end belong to those."""
    offset, ahead = record.offset, joined([(start, until) for start, until, _ in record.ahead], begin=0)
    if ahead and ahead[0][0] == offset:
        offset, ahead = ahead[0][1], ahead[1:]
    return Partial(key=key, name=name, validator=record.validator, offset=offset, total=record.total, ahead=ahead)


def _read_parts(found: object, offset: int, total: int | None) -> tuple[tuple[int, int, str], ...] | None:
    """Read what a record says of parts behind its offset; None for anything but parts in order, inside the file."""
    if not isinstance(found, list) or len(found) > _MOST_PARTS:
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


class Staged:
    """
    A file on its way, open for writing under a name of its own.

    Made by :meth:`Storage.stage` and :meth:`Storage.resume`.

    Attributes:
        key: Whose content it is.
        path: Where it will go, below the root.
        name: Its name in the folder of partial files.
        end: Bytes written so far without a gap.
        durable_offset: Bytes without a gap that the control record vouches for.
    """

    def __init__(
        self,
        storage: Storage,
        file: int,
        *,
        key: str,
        path: PurePosixPath,
        name: str,
        offset: int = 0,
        ahead: Sequence[Span] = (),
    ) -> None:
        self.key = key
        self.path = path
        self.name = name
        self.end = offset
        self.durable_offset = offset
        self._storage = storage
        self._files = storage.files
        self._file: int | None = file
        self._validator: str | None = None
        self._total: int | None = None
        self._recorded = offset > 0
        self._forced_at = storage.clock()
        self._others: Callable[[], Iterable[Span]] = lambda: ahead
        self._durable = offset + length_of(ahead)
        self._identity: tuple[int, int] | None = None

    def __repr__(self) -> str:
        return f"<Staged {self.path} {self.end} bytes>"

    @property
    def closed(self) -> bool:
        """Whether it was closed, dropped or committed."""
        return self._file is None

    @property
    def ahead(self) -> tuple[Span, ...]:
        """Parts behind :attr:`end` that are written, in order."""
        return joined(self._others(), begin=self.end)

    @property
    def held(self) -> int:
        """Bytes written so far, wherever they are."""
        return self.end + length_of(self.ahead)

    @property
    def due(self) -> bool:
        """Whether so much was written since the last :meth:`checkpoint` that it is time for another."""
        if self._validator is None:
            return False
        return self._storage.is_due(self.held - self._durable, since=self._forced_at)

    def watch(self, others: Callable[[], Iterable[Span]]) -> None:
        """
        Say who knows which parts others have written, ahead of :attr:`end` or behind it.

        Args:
            others: Asked on the thread that writes; of the parts that it gives, every byte is written.
        """
        self._others = others

    @property
    def recorded(self) -> bool:
        """Whether it has, or may have, a control record."""
        return self._recorded

    def describe(self, *, validator: str | None, total: int | None) -> None:
        """
        Say what the content is, before its first byte is written.

        Without a strong validator nothing can be continued, so no control record is ever written. A known ``total``
        above 1 MiB is reserved on the disk.

        Raises:
            DiskFullError: There is less room than that.
            StorageError: The disk refused.
        """
        self._validator = validator if validator and validator.startswith('"') else None
        self._total = total
        self._forced_at = self._storage.clock()
        if total is None or total <= MIB:
            return
        try:
            again(self._files.allocate, self._open(), total)
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                raise explained(error, self.path, "given room for", file=self.key) from error

    def write(self, data: memoryview | bytes, offset: int) -> None:
        """
        Write all of ``data`` at ``offset``; when a :meth:`checkpoint` is due, it ends in one.

        Raises:
            DiskFullError: No room is left; what is recorded so far stays for the next run.
            StorageError: The disk refused.
        """
        file = self._open()
        if offset > self.end:
            raise StorageError(
                f"{self.path}: bytes from {offset} on came before those from {self.end} on.", file=self.key
            )
        with explaining(self.path, "written", file=self.key):
            at = _write_all(self._files, file, data, offset)
        self.reach(at)

    def branch(self) -> Ahead:
        """
        Open it once more, to write ahead of :attr:`end` on another thread.

        Raises:
            StorageError: It is not there any more, or the disk refused.
        """
        storage = self._storage
        with explaining(self.path, "opened again", file=self.key):
            file = again(self._files.open_file, storage.partials, self.name, writable=True)
            try:
                theirs, ours = again(self._files.look_open, file), again(self._files.look_open, self._open())
                if (theirs.st_dev, theirs.st_ino) != (ours.st_dev, ours.st_ino):
                    raise StorageError(f"{self.path}: its partial file is another one now. Run again.", file=self.key)
            except BaseException:
                self._files.close(file)
                raise
        return Ahead(self._files, file, key=self.key, path=self.path)

    def reach(self, end: int) -> None:
        """
        Say that all bytes before ``end`` were written, by branches; they are recorded as those of :meth:`write`.

        Raises:
            DiskFullError: No room is left; what is recorded so far stays for the next run.
            StorageError: The disk refused.
        """
        self.end = max(self.end, end)
        if self.due:
            self.checkpoint()

    def checkpoint(self) -> None:
        """
        Force the data to the disk and then, if it can be continued, write down how far it goes, and what lies ahead.

        Raises:
            DiskFullError: No room is left. Data that could not be forced to the disk is not trusted: it is dropped.
            StorageError: The disk refused, with the same consequence.
        """
        # What is written from here on is not vouched for: nobody knows whether the sync still sees it.
        ahead = self.ahead
        self._force(self._files.sync_data)
        if self._validator is None or self.end == 0:
            return
        with explaining(self.path, "recorded", file=self.key):
            tail = self._tail(0, self.end)
            parts = tuple((start, until, self._tail(start, until)) for start, until in ahead[:_MOST_PARTS])
            record = _Record(validator=self._validator, offset=self.end, total=self._total, tail=tail, ahead=parts)
            self._storage.replace_private(self._storage.partials, _control(self.name), record.dump(self.key))
        self._recorded = True
        self.durable_offset = self.end
        self._forced_at = self._storage.clock()
        self._durable = self.end + length_of(ahead)
        self._storage.note_partial(self.name)

    def _tail(self, start: int, until: int) -> str:
        """Give the digest of the end of a part. Raises ``OSError``."""
        return _digest_of_tail(self._files, self._open(), start, until)

    def _force(self, sync: Callable[[int], None]) -> bool:
        """Call one of the syncs; False where the file system has none. Data that failed to sync is dropped."""
        try:
            again(sync, self._open())
        except OSError as error:
            if error.errno in UNSUPPORTED:
                self._storage.warn_not_durable()
                return False
            # After a failed fsync the system forgets which pages were lost: a second one succeeds and proves nothing.
            # https://www.postgresql.org/docs/current/runtime-config-error-handling.html (data_sync_retry)
            self.drop()
            raise explained(error, self.path, "forced to the disk", file=self.key) from error
        return True

    def restart(self) -> None:
        """
        Forget all content and start at byte 0, under the same name.

        Raises:
            StorageError: The disk refused.
        """
        with explaining(self.path, "emptied", file=self.key):
            # The record goes first: it must never speak of bytes that are no longer there.
            self._storage.remove(self._storage.partials, _control(self.name))
            again(self._files.truncate, self._open(), 0)
        self.end = self.durable_offset = self._durable = 0
        self.watch(tuple)
        self._recorded = False

    def read(self, offset: int, size: int) -> bytes:
        """
        Read back up to ``size`` bytes; fewer only at the end of what was written.

        Raises:
            StorageError: The disk refused.
        """
        with explaining(self.path, "read back", file=self.key):
            return self._read(offset, size)

    def _read(self, offset: int, size: int) -> bytes:
        """Read what was written and not what is merely reserved behind it."""
        parts, wanted = [], max(0, min(size, self.end - offset))
        while wanted:
            part = again(self._files.read, self._open(), wanted, offset)
            if not part:
                break
            parts.append(part)
            offset, wanted = offset + len(part), wanted - len(part)
        return b"".join(parts)

    def replay(self, feed: Callable[[memoryview], object], *, end: int, start: int = 0) -> None:
        """
        Hand the bytes from ``start`` to ``end`` to ``feed``, block by block, for instance to hash a file that goes on.

        Raises:
            StorageError: The disk refused, or there are fewer bytes.
        """
        offset = start
        while offset < end:
            block = self.read(offset, min(_BLOCK, end - offset))
            if not block:
                raise StorageError(
                    f"{self.path}: only {offset} of {end} bytes could be read back. Run again.", file=self.key
                )
            feed(memoryview(block))
            offset += len(block)

    def finish(self, *, durable: bool = True) -> tuple[FileState, bool]:
        """
        Make it ready for its final name: its length, who may read it, and, if ``durable``, all of it on the disk.

        Returns:
            What it will be under its final name, and whether its content survives a power loss.

        Raises:
            DestinationBusyError: The final name is taken by something that is no file.
            DiskFullError: No room is left; the file is dropped.
            StorageError: The disk refused; the file is dropped if its data could not be forced to the disk.
        """
        self.complete(self._storage.mode_for(self.path))
        return self.secure(durable=durable)

    def complete(self, mode: int) -> None:
        """
        Give it its length and say who may read and write it: the first half of :meth:`finish`.

        Raises:
            StorageError: The disk refused.
        """
        file = self._open()
        with explaining(self.path, "completed", file=self.key):
            if again(self._files.look_open, file).st_size != self.end:
                again(self._files.truncate, file, self.end)
            again(self._files.chmod, file, mode)

    def begin_sync(self) -> None:
        """
        Let the system begin to write it to the disk, so that :meth:`secure` has less to wait for. Never raises.

        What is recorded is there already, and stays in memory for whoever reads it next.
        """
        with contextlib.suppress(OSError):
            self._files.begin_sync(self._open(), self.durable_offset)

    def secure(self, *, durable: bool = True) -> tuple[FileState, bool]:
        """
        Force it to the disk if ``durable``, and look at it: the second half of :meth:`finish`.

        Raises:
            DiskFullError: No room is left; the file is dropped.
            StorageError: The disk refused; the file is dropped if its data could not be forced to the disk.
        """
        on_disk = self._force(self._files.sync) if durable else False
        with explaining(self.path, "completed", file=self.key):
            seen = again(self._files.look_open, self._open())
        self._identity = (seen.st_dev, seen.st_ino)
        return FileState(size=seen.st_size, mtime_ns=seen.st_mtime_ns), on_disk

    @property
    def identity(self) -> tuple[int, int] | None:
        """Device and number of the file, once it is finished: the same under any name."""
        return self._identity

    def release(self) -> None:
        """
        Close it and leave everything under its name.

        Raises:
            DiskFullError: Closing showed that no room was left.
            StorageError: Closing failed otherwise; the content is not to be trusted.
        """
        file, self._file = self._file, None
        if file is not None:
            with explaining(self.path, "closed", file=self.key):
                self._files.close(file)

    def close(self) -> None:
        """Close it. What is recorded stays for the next run; a file without a control record is removed. Safe twice."""
        if self._file is None:
            return
        if not self._recorded:
            self.drop()
            return
        # What is recorded was forced to the disk before; whatever closing says is about bytes that are not.
        with contextlib.suppress(StorageError):
            self.release()

    def keep(self) -> None:
        """Record what came since the last record, where that is worth a wait for the disk, and close it. Safe twice."""
        worth = self._validator is not None and self.held - self._durable >= _LEAST_UNIT
        if self._file is not None and worth:
            # Where the disk refuses, that much is fetched again.
            with contextlib.suppress(StorageError):
                self.checkpoint()
        self.close()

    def drop(self) -> None:
        """Close and remove it with its control record. Safe twice, never raises for what is gone already."""
        if self._file is None:
            return
        with contextlib.suppress(StorageError):
            if not self._files.renames_open_files:
                self.release()
            self._storage.drop(self.name)
            self.release()
        self._recorded = False

    def _open(self) -> int:
        if self._file is None:
            raise StorageError(f"{self.path}: its partial file was closed before. Stage it anew.", file=self.key)
        return self._file


def _owner(name: str) -> str:
    """Give what stands for the key in the name of a partial file."""
    return name.partition("-")[0]


class Ahead:
    """
    A partial file that is open a second time, so that a thread of its own writes to it ahead of what is there.

    It has an open file of its own: whatever becomes of the first one, no byte can go into a file of another name.
    """

    def __init__(self, files: FileSystem, file: int, *, key: str, path: PurePosixPath) -> None:
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
            _write_all(self._files, self._file, data, offset)

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


def _write_all(files: FileSystem, file: int, data: memoryview | bytes, offset: int) -> int:
    """Write at an offset until everything is written, and say where that ends. Raises ``OSError``."""
    rest, at = memoryview(data).cast("B"), offset
    while rest:
        taken = again(files.write, file, rest, at)
        if taken <= 0:
            raise OSError(errno.EIO, "the system took no bytes")
        rest, at = rest[taken:], at + taken
    return at


def _control(name: str) -> str:
    """Give the name of the control record of a partial file."""
    return f"{name.removesuffix('.part')}.json"


# ----------------------------------------------------------------------------------------------------------- the folder


class Storage:
    """
    One destination folder.

    Args:
        root: The folder; it is made when it is missing.
        files: The calls to the system.
        flush_unit: Bytes after which a file that can be continued is forced to the disk and recorded, whatever the
            time; where they come slowly, each second is enough for 8 MiB.
        draw_name: Gives the random part of a name.
        sleep: Waits so many seconds before a rename that another program disturbed is tried again.
        clock: Seconds that only ever grow.
        now: Gives the seconds since 1970, as the times of files do.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        files: FileSystem | None = None,
        flush_unit: int = 32 * MIB,
        draw_name: Callable[[], str] = lambda: secrets.token_hex(8),
        sleep: Callable[[float], object] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.root = Path(root)
        self.files = files or FileSystem()
        self.flush_unit = flush_unit
        self.clock = clock
        self._draw_name = draw_name
        self._sleep = sleep
        self._now = now
        self._root: Folder | None = None
        self._state: Folder | None = None
        self._partials: Folder | None = None
        self._mode = 0o600
        self._locks_work = False
        self._warned = False
        #: Whose partial files lay here when it was opened, or were recorded since: the beginnings of their names.
        self._left: set[str] = set()

    def __repr__(self) -> str:
        return f"<Storage {self.root}>"

    # --------------------------------------------------------------------------------------------------- open and close

    def is_due(self, count: int, *, since: float) -> bool:
        """Say whether so many bytes that came ``since`` are to be recorded: often enough for a kill to cost little."""
        # Each record waits for the disk, on the thread that takes what comes: at full speed, 8 MiB are too few for it.
        return count >= self.flush_unit or (count >= _LEAST_UNIT and self.clock() - since >= _UNIT_SECONDS)

    def prepare(self) -> None:
        """
        Make the folders and open them. Everything below needs it. Safe twice.

        Raises:
            DiskFullError: No room is left.
            StorageError: The root is not a directory or cannot be written.
        """
        if self._partials is not None:
            return
        try:
            with explaining(self.root, "opened"):
                self._make_root()
                self._root = again(self.files.open_root, str(self.root))
                self._state = self._private_folder(self._root, STATE_FOLDER)
                self._mode = self._usual_mode(self._state)
                self._locks_work = self._try_locks(self._state)
                self._partials = self._private_folder(self._state, "partial")
                self._left.update(map(_owner, again(self.files.names, self._partials)))
        except BaseException:
            self.close()
            raise

    def _make_root(self) -> None:
        """Make the folder and those above it; what was told to be safe in it must not go with its own name."""
        missing, place = [], os.path.abspath(self.root)
        while not os.path.lexists(place) and place != os.path.dirname(place):
            missing.append(place)
            place = os.path.dirname(place)
        refused = None
        try:
            again(self.files.make_root, str(self.root))
        except (FileExistsError, NotADirectoryError, FileNotFoundError) as error:
            refused = error
        if refused is not None:
            raise self._no_folder(place, refused) from refused
        for path in missing:
            # The folder above may belong to somebody else, who lets us make folders in it and no more.
            with contextlib.suppress(OSError):
                above = again(self.files.open_root, os.path.dirname(path))
                try:
                    self._sync_folder(above)
                finally:
                    self.files.close_folder(above)

    def _no_folder(self, there: str, error: OSError) -> StorageError:
        """Make the error of a folder that cannot be, by the last thing on the way to it that is there."""
        shown, what = printable(str(self.root)), printable(there)
        if os.path.isdir(there):
            return StorageError(
                f"{shown}: no folder can be made in {what} ({error.strerror}). Nothing was sent; choose another folder."
            )
        it = "it" if there == os.path.abspath(self.root) else what
        return StorageError(
            f"{shown}: {it} is no folder, so that no files can go there. Nothing was sent; choose another folder."
        )

    def close(self) -> None:
        """Close the folders. Safe twice."""
        opened = [folder for folder in (self._partials, self._state, self._root) if folder is not None]
        self._partials = self._state = self._root = None
        for folder in opened:
            with contextlib.suppress(OSError):
                self.files.close_folder(folder)

    @property
    def partials(self) -> Folder:
        """The folder of partial files."""
        return self._opened(self._partials)

    @property
    def ledger_path(self) -> Path:
        """Where the ledger lies."""
        return self.root / STATE_FOLDER / "ledger.sqlite"

    def _opened(self, folder: Folder | None) -> Folder:
        if folder is None:
            raise StorageError(f"{self.root}: the folder is not open. Call prepare() first.")
        return folder

    def _private_folder(self, parent: Folder, name: str) -> Folder:
        """Open one of our own folders, which nobody else may look into."""
        with contextlib.suppress(FileExistsError):
            again(self.files.make_folder, parent, name, 0o700)
            self._sync_folder(parent)
        folder = again(self.files.open_folder, parent, name)
        if isinstance(folder, int):
            with contextlib.suppress(PermissionError):
                if stat.S_IMODE(again(self.files.look_open, folder).st_mode) != 0o700:
                    again(self.files.chmod, folder, 0o700)
        return folder

    def _usual_mode(self, folder: Folder) -> int:
        """
        Find out who may read and write a new file here.

        Only making one tells: reading the umask means to change it for every thread, and access lists have a say too.
        """
        name = f"mode-{self._draw_name()}"
        file = again(self.files.create, folder, name, 0o666)
        try:
            return _harmless(again(self.files.look_open, file).st_mode)
        finally:
            self.files.close(file)
            self.remove(folder, name)

    def _try_locks(self, folder: Folder) -> bool:
        """Find out whether a lock keeps anybody out: on some network file systems it is granted to everyone."""
        opened: list[int] = []
        try:
            with contextlib.suppress(FileExistsError):
                opened.append(again(self.files.create, folder, "lock", 0o600))
            while len(opened) < 2:
                opened.append(again(self.files.open_file, folder, "lock", writable=True))
            # Another process that tries at this moment makes the first one fail, which shows the same.
            return not (again(self.files.lock, opened[0]) and again(self.files.lock, opened[1]))
        finally:
            for file in opened:
                self.files.close(file)

    def warn_not_durable(self) -> None:
        """Say once that this file system cannot promise that data survive a power loss."""
        if not self._warned:
            self._warned = True
            log.warning(
                "%s: this file system does not support fsync; files are whole, but a power loss may cost recent ones.",
                self.root,
            )

    # ------------------------------------------------------------------------------------------------- the whole folder

    def claim(self, service: str, tenant: str) -> None:
        """
        Take the folder for a tenant of a service, for ever.

        Raises:
            DestinationBusyError: It belongs to another tenant of that service.
            StorageError: ``tenant.json`` cannot be read or written.
        """
        state = self._opened(self._state)
        with self._locked(state):
            tenants = self._read_tenants(state)
            owner = tenants.get(service)
            if owner == tenant:
                return
            if owner is not None:
                raise DestinationBusyError(
                    f"{self.root}: the folder belongs to {printable(owner)} of {service}, and files of "
                    f"{printable(tenant)} were to go there; nothing was written. Choose a folder for each."
                )
            text = json.dumps({**tenants, service: tenant}, sort_keys=True).encode()
            with explaining(self.root / STATE_FOLDER / "tenant.json", "written"):
                self.replace_private(state, "tenant.json", text)
                self._sync_folder(state)

    def _read_tenants(self, state: Folder) -> dict[str, str]:
        """Read which tenant of each service the folder belongs to."""
        place = self.root / STATE_FOLDER / "tenant.json"
        with explaining(place, "read"):
            text = self._read_small(state, "tenant.json")
            if text is None and self._exists(state, "tenant.json"):
                text = b""
        if text is None:
            return {}
        with contextlib.suppress(ValueError, RecursionError):
            tenants = json.loads(text)
            if isinstance(tenants, dict) and all(isinstance(name, str) for name in tenants.values()):
                return tenants
        raise StorageError(
            f"{place}: it is damaged, so it is not known whose files these are; nothing was written. "
            "Remove it if the folder is yours, and run again."
        )

    @contextlib.contextmanager
    def _locked(self, state: Folder) -> Iterator[None]:
        """Hold the lock of the folder for a moment, if it comes within five seconds; it only saves work."""
        with explaining(self.root / STATE_FOLDER / "lock", "opened"):
            file = again(self.files.open_file, state, "lock", writable=True)
        try:
            for _ in range(100):
                with explaining(self.root / STATE_FOLDER / "lock", "locked"):
                    if again(self.files.lock, file):
                        break
                self._sleep(0.05)
            yield
        finally:
            self.files.close(file)

    def free_bytes(self) -> int | None:
        """Say how many bytes the disk still takes, or None where the system does not tell."""
        try:
            return again(self.files.free, self._opened(self._root))
        except OSError:
            return None

    def check_space(self, size: int, *, path: PurePosixPath | str = "") -> None:
        """
        Check that ``size`` more bytes fit.

        Raises:
            DiskFullError: They do not.
        """
        free = self.free_bytes()
        if free is not None and size > free:
            raise DiskFullError(
                f"{path or self.root}: {size} bytes are needed and {free} are free on the disk of {self.root}; "
                "nothing of it was written. Free some space and run again."
            )

    # ------------------------------------------------------------------------------------------------------ final names

    def look(self, path: PurePosixPath | str) -> FileState | None:
        """
        Say what lies under a final name: None when nothing does, or a symlink, which a commit replaces.

        Raises:
            DestinationBusyError: It is a directory, a FIFO, a device or a socket, or one of its folders is no folder.
            UnsafeNameError: The path leaves the folder or uses a name that is ours.
            StorageError: The disk refused.
        """
        seen = self._look(self._checked(path))
        return None if seen is None else FileState(size=seen.st_size, mtime_ns=seen.st_mtime_ns)

    def look_all(self, paths: Collection[PurePosixPath | str]) -> dict[str, FileState | Exception | None]:
        """Do :meth:`look` for a page of paths in one go; errors are values, so that one file fails alone."""
        found: dict[str, FileState | Exception | None] = {}
        with self.nearby() as near:
            for path in paths:
                try:
                    seen = self._look(self._checked(path), near)
                    found[str(path)] = None if seen is None else FileState(size=seen.st_size, mtime_ns=seen.st_mtime_ns)
                except StorageError as error:
                    found[str(path)] = error
        return found

    @contextlib.contextmanager
    def nearby(self) -> Iterator[Near]:
        """Keep the folder that was looked into last open, for many files that lie beside each other."""
        near = Near()
        try:
            yield near
        finally:
            if near.folder is not None:
                self.files.close_folder(near.folder)

    def mode_for(self, path: PurePosixPath, near: Near | None = None) -> int:
        """
        Say who may read and write the file that goes there: as the one it replaces, else as the umask says.

        Raises:
            DestinationBusyError: The name is taken by something that is no file.
            StorageError: The disk refused.
        """
        seen = self._look(path, near)
        return self._mode if seen is None else _harmless(seen.st_mode)

    def _look(self, path: PurePosixPath, near: Near | None = None) -> os.stat_result | None:
        """Look at a final name."""
        if near is None:
            with self._parent(path) as parent:
                return None if parent is None else self._look_in(parent, path)
        if near.folder is None or near.path != path.parent:
            last, near.folder = near.folder, None
            if last is not None:
                self.files.close_folder(last)
            near.path, near.folder = path.parent, self._walk(path.parent, make=False)
        return None if near.folder is None else self._look_in(near.folder, path)

    def _look_in(self, parent: Folder, path: PurePosixPath) -> os.stat_result | None:
        """Look at a final name in its folder; None for nothing and for a link."""
        with explaining(path, "looked at"):
            try:
                seen = again(self.files.look, parent, path.name)
            except FileNotFoundError:
                return None
        if stat.S_ISLNK(seen.st_mode):
            return None
        if not stat.S_ISREG(seen.st_mode):
            raise DestinationBusyError(
                f"{path}: the name is taken by {kind_of(seen.st_mode)}, so no file can go there; nothing was written. "
                "Move it away and run again."
            )
        return seen

    def _checked(self, path: PurePosixPath | str) -> PurePosixPath:
        """Refuse a path that is not below the root, or that is ours."""
        pure = PurePosixPath(path)
        odd = pure.is_absolute() or not pure.parts or any(part in (".", "..") or "\0" in part for part in pure.parts)
        if odd or (os.name == "nt" and any(letter in str(pure) for letter in ":\\")):
            raise UnsafeNameError(f"{printable(str(path))!r}: it does not lie inside {self.root}; nothing was written.")
        if pure.parts[0].casefold() == STATE_FOLDER:
            raise UnsafeNameError(f"{printable(str(path))!r}: {STATE_FOLDER} is where the state of the folder is kept.")
        return pure

    @contextlib.contextmanager
    def _parent(self, path: PurePosixPath) -> Iterator[Folder | None]:
        """Open the folder of a final name, or give None when it is not there."""
        folder = self._walk(path.parent, make=False)
        try:
            yield folder
        finally:
            if folder is not None:
                self.files.close_folder(folder)

    def _walk(self, folders: PurePosixPath, *, make: bool) -> Folder | None:
        """Open folder by folder from the root, without ever following a link; the caller closes the last one."""
        current, opened = self._opened(self._root), []
        try:
            # The root itself is opened once more, so that every folder given away is the caller's to close.
            for name in folders.parts or (".",):
                current = self._step(current, name, make=make)
                opened.append(current)
        except FileNotFoundError as error:
            self._close_all(opened)
            if make:
                raise explained(error, folders, "made") from error
            return None
        except OSError as error:
            self._close_all(opened)
            if error.errno in NO_FOLDER:
                raise DestinationBusyError(
                    f"{folders}: a part of this path is a file or a symbolic link, which is never followed; nothing "
                    "was written. Move it away, or let the folder itself be the link."
                ) from error
            raise explained(error, folders, "opened") from error
        self._close_all(opened[:-1])
        return current

    def _step(self, parent: Folder, name: str, *, make: bool) -> Folder:
        """Open one folder in another, and make it before if asked to."""
        try:
            return again(self.files.open_folder, parent, name)
        except FileNotFoundError:
            if not make:
                raise
        with contextlib.suppress(FileExistsError):
            again(self.files.make_folder, parent, name, 0o775)
            self._sync_folder(parent)
        return again(self.files.open_folder, parent, name)

    def _close_all(self, folders: Sequence[Folder]) -> None:
        for folder in folders:
            self.files.close_folder(folder)

    def digest(self, path: PurePosixPath | str) -> tuple[str, FileState] | None:
        """
        Give the SHA-256 of a final file in hexadecimal and what it was read from, or None when it is missing.

        Raises:
            DestinationBusyError: It is no file.
            StorageError: The disk refused.
        """
        pure = self._checked(path)
        with self._parent(pure) as parent:
            if parent is None or self._look_in(parent, pure) is None:
                return None
            with explaining(pure, "read"):
                try:
                    file = again(self.files.open_file, parent, pure.name)
                except FileNotFoundError:
                    return None
                try:
                    seen = again(self.files.look_open, file)
                    return self._hash(file), FileState(size=seen.st_size, mtime_ns=seen.st_mtime_ns)
                finally:
                    self.files.close(file)

    def _hash(self, file: int) -> str:
        """Give the SHA-256 of an open file."""
        digest, offset = hashlib.sha256(), 0
        while block := again(self.files.read, file, _BLOCK, offset):
            digest.update(block)
            offset += len(block)
        return digest.hexdigest()

    def discard(self, path: PurePosixPath | str) -> bool:
        """
        Remove a final file (pruning) and the folders that it leaves empty; False when it was not there.

        Raises:
            DestinationBusyError: It is no file.
            StorageError: The disk refused.
        """
        pure = self._checked(path)
        with self._parent(pure) as parent:
            if parent is None or self._look_in(parent, pure) is None:
                return False
            with explaining(pure, "removed"):
                removed = self.remove(parent, pure.name)
        for folder in list(pure.parents)[:-1]:
            with self._parent(folder) as above:
                try:
                    if above is not None:
                        again(self.files.remove_folder, above, folder.name)
                except OSError:
                    break
        return removed

    # ---------------------------------------------------------------------------------------------------- partial files

    def stage(self, key: str, path: PurePosixPath | str, *, size: int | None = None) -> Staged:
        """
        Open a new, empty partial file.

        Raises:
            DestinationBusyError: The final name is taken by something that is no file; nothing was made.
            DiskFullError: ``size`` bytes do not fit.
            StorageError: The disk refused.
            UnsafeNameError: The path does not lie inside the folder.
        """
        pure = self._checked(path)
        self._look(pure)
        if size:
            self.check_space(size, path=pure)
        return self._stage(key, pure)

    def take_in(self, key: str, path: PurePosixPath | str, content: bytes, *, near: Near) -> Staged:
        """
        Write a small file that is here as a whole: only :meth:`Staged.secure` is left to do before its final name.

        Raises:
            DestinationBusyError: The final name is taken by something that is no file; nothing was made.
            DiskFullError: No room is left; nothing stays of it.
            StorageError: The disk refused; nothing stays of it.
            UnsafeNameError: The path does not lie inside the folder.
        """
        pure = self._checked(path)
        mode = self.mode_for(pure, near)
        staged = self._stage(key, pure)
        try:
            staged.write(content, 0)
            staged.complete(mode)
        except BaseException:
            staged.drop()
            raise
        return staged

    def _stage(self, key: str, pure: PurePosixPath) -> Staged:
        """Open a new, empty partial file under a name that nobody else has."""
        with explaining(pure, "staged", file=key):
            for _ in range(_TRIES):
                name = f"{_name_of(key)}-{self._draw_name()}.part"
                file = self._create_locked(name)
                if file is not None:
                    return Staged(self, file, key=key, path=pure, name=name)
        raise StorageError(
            f"{pure}: no unused name for its partial file was found. Look into {STATE_FOLDER}.", file=key
        )

    def _create_locked(self, name: str) -> int | None:
        """Make a partial file and lock it; None when the name is taken, or somebody cleaned up in between."""
        try:
            file = again(self.files.create, self.partials, name, 0o600)
        except FileExistsError:
            return None
        try:
            if again(self.files.lock, file) and self._is_named(file, self.partials, name):
                return file
        except BaseException:
            self.files.close(file)
            raise
        self.files.close(file)
        return None

    def _is_named(self, file: int, folder: Folder, name: str) -> bool:
        """Say whether a file of ours still has the name it was opened under."""
        opened = again(self.files.look_open, file)
        try:
            named = again(self.files.look, folder, name)
        except FileNotFoundError:
            return False
        return (opened.st_dev, opened.st_ino) == (named.st_dev, named.st_ino)

    def note_partial(self, name: str) -> None:
        """Note that a partial file may be gone on with."""
        self._left.add(_owner(name))

    def may_resume(self, key: str) -> bool:
        """
        Say whether it is worth looking for a partial file of a key: False costs nothing and is nearly always right.

        What another process leaves while this one has the folder open is seen at the next start.
        """
        return _name_of(key) in self._left

    def find_partial(self, key: str) -> Partial | None:
        """
        Find the best partial file of a key that can be trusted.

        The others of that key are removed, unless they are in use.

        Raises:
            StorageError: The folder of partial files cannot be read.
        """
        start, best = f"{_name_of(key)}-", None
        for name in self._partial_names(start):
            record = self._usable(name, _key_hash(key))
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

    def _partial_names(self, start: str = "") -> list[str]:
        """List partial files, those too of which only the control record is left."""
        with explaining(self.root / STATE_FOLDER / "partial", "listed"):
            found = {name for name in again(self.files.names, self.partials) if name.startswith(start)}
        stems = {name.rsplit(".", 1)[0] for name in found if name.endswith((".part", ".json"))}
        return sorted(f"{stem}.part" for stem in stems)

    def _usable(self, name: str, key_hash: str) -> _Record | Literal["in use"] | None:
        """Judge a partial file: its record if it can be continued, None if it is of no use to anybody."""
        with self._taken(name) as file:
            if not isinstance(file, int):
                return file
            record = self._read_record(name, key_hash)
            with contextlib.suppress(OSError):
                if record is not None and self._holds(file, 0, record.offset, record.tail):
                    return attrs.evolve(record, ahead=tuple(part for part in record.ahead if self._holds(file, *part)))
            return None

    @contextlib.contextmanager
    def _taken(self, name: str, *, within: Folder | None = None) -> Iterator[int | Literal["in use"] | None]:
        """Open a partial file that nobody uses; None when it is not one of ours (a link, a FIFO, somebody else's)."""
        folder = self.partials if within is None else within
        file: int | None = None
        found: int | Literal["in use"] | None = None
        try:
            with contextlib.suppress(OSError):
                file = again(self.files.open_file, folder, name, writable=True)
                found = self._judge(file, folder, name)
            yield found
        finally:
            if file is not None:
                with contextlib.suppress(OSError):
                    self.files.close(file)

    def _judge(self, file: int, folder: Folder, name: str) -> int | Literal["in use"] | None:
        """Say whether an open partial file is ours and free. Raises ``OSError``."""
        seen = again(self.files.look_open, file)
        ours = stat.S_ISREG(seen.st_mode) and seen.st_nlink == 1
        if not ours or (hasattr(os, "geteuid") and seen.st_uid != os.geteuid()):
            return None
        if not again(self.files.lock, file) or self._is_recent(seen):
            return "in use"
        return file if self._is_named(file, folder, name) else None

    def _is_recent(self, seen: os.stat_result) -> bool:
        """Say whether somebody may still be writing, where locks do not tell."""
        return not self._locks_work and self._now() - seen.st_mtime < _RECENT

    def _read_record(self, name: str, key_hash: str) -> _Record | None:
        """Read a control record; None for anything but a whole one of that key."""
        text = self._read_small(self.partials, _control(name))
        return None if text is None else _Record.load(text, key_hash)

    def _holds(self, file: int, start: int, until: int, tail: str) -> bool:
        """Say whether the last bytes of a part that a record vouches for are there, and not lost with the power."""
        return _digest_of_tail(self.files, file, start, until) == tail

    def resume(self, partial: Partial, path: PurePosixPath | str) -> Staged | None:
        """
        Open a partial file to go on at its offset, cut back to it; None when somebody else has taken it.

        Where locks keep nobody out it is copied, so that no other writer can be in the same file.

        Raises:
            DestinationBusyError: The final name is taken by something that is no file.
            DiskFullError: No room is left.
            StorageError: The disk refused.
        """
        pure = self._checked(path)
        self._look(pure)
        with explaining(pure, "opened again", file=partial.key):
            return self._reopen(partial, pure) if self._locks_work else self._copy(partial, pure)

    def _reopen(self, partial: Partial, path: PurePosixPath) -> Staged | None:
        """Take over a partial file under its lock."""
        try:
            file = again(self.files.open_file, self.partials, partial.name, writable=True)
        except FileNotFoundError:
            return None
        try:
            mine = again(self.files.lock, file) and self._is_named(file, self.partials, partial.name)
            if mine:
                again(self.files.truncate, file, partial.ahead[-1][1] if partial.ahead else partial.offset)
        except BaseException:
            self.files.close(file)
            raise
        if not mine:
            self.files.close(file)
            return None
        offset, ahead = partial.offset, partial.ahead
        return Staged(self, file, key=partial.key, path=path, name=partial.name, offset=offset, ahead=ahead)

    def _copy(self, partial: Partial, path: PurePosixPath) -> Staged | None:
        """Go on in a new file with the bytes of an old one."""
        staged = self.stage(partial.key, path, size=partial.offset)
        try:
            staged.describe(validator=partial.validator, total=partial.total)
            with self._taken(partial.name) as file:
                while isinstance(file, int) and staged.end < partial.offset:
                    block = again(self.files.read, file, min(_BLOCK, partial.offset - staged.end), staged.end)
                    if not block:
                        break
                    staged.write(block, staged.end)
        except BaseException:
            staged.drop()
            raise
        if staged.end < partial.offset:
            staged.drop()
            return None
        staged.checkpoint()  # The old one goes only when the new one can be continued just as well.
        self.drop(partial.name)
        return staged

    def sweep(self, *, keep: Collection[str] = ()) -> int:
        """
        Remove partial files nobody uses that cannot be continued, or that nobody came back for in 30 days.

        Args:
            keep: Names of partial files to leave alone.

        Returns:
            How many were removed.

        Raises:
            StorageError: The folder of partial files cannot be read.
        """
        removed = 0
        for name in self._partial_names():
            if name in keep:
                continue
            record = self._usable(name, name.split("-", 1)[0])
            if record == "in use" or (record is not None and not self._is_stale(name)):
                continue
            self.drop(name)
            removed += 1
        self._sweep_odd()
        return removed

    def _is_stale(self, name: str) -> bool:
        """Say whether nobody came back for a partial file for a long time."""
        try:
            return self._now() - again(self.files.look, self.partials, name).st_mtime > _STALE
        except OSError:
            return False

    def _sweep_odd(self) -> None:
        """Remove what an interrupted replacement of a small file has left, once it is certainly over."""
        for folder in (self.partials, self._opened(self._state)):
            with contextlib.suppress(OSError):
                for name in again(self.files.names, folder):
                    if name.startswith(("new-", "mode-")):
                        self._clear_if_over(folder, name)

    def _clear_if_over(self, folder: Folder, name: str) -> None:
        """Remove one of them, unless somebody may be writing it."""
        with contextlib.suppress(FileNotFoundError):
            if self._now() - again(self.files.look, folder, name).st_mtime > _OVER:
                self._clear(folder, name)
            elif name.startswith("new-"):
                # Locked while it is written: a lock that is free says that its writer is dead.
                with self._taken(name, within=folder) as file:
                    if isinstance(file, int):
                        self._clear(folder, name)

    def drop(self, name: str) -> None:
        """Remove a partial file and its control record, the record first. Never raises for what is gone already."""
        self._clear(self.partials, _control(name))
        self._clear(self.partials, name)

    def _clear(self, folder: Folder, name: str) -> None:
        """Remove whatever has a name that is ours, an empty folder included; what cannot be removed stays."""
        try:
            self.remove(folder, name)
        except OSError:
            with contextlib.suppress(OSError):
                again(self.files.remove_folder, folder, name)

    # ------------------------------------------------------------------------------------------------------- publishing

    def publish(self, files: Sequence[Staged], *, durable: bool = True) -> list[bool | StorageError]:
        """
        Give finished files their final names, and then force each folder to the disk once.

        Returns:
            For each file whether its name survives a power loss, or why it did not get its name; then it keeps its
            partial name.
        """
        folders: dict[PurePosixPath, Folder] = {}
        results: list[bool | StorageError] = []
        try:
            for staged in files:
                try:
                    self._publish(staged, folders, durable=durable)
                    results.append(True)
                except StorageError as error:
                    error.file = staged.key
                    results.append(error)
            synced = {parent: durable and self._sync_quietly(folder) for parent, folder in folders.items()}
        finally:
            self._close_all(list(folders.values()))
        return [
            synced[staged.path.parent] if done is True else done for staged, done in zip(files, results, strict=True)
        ]

    def _publish(self, staged: Staged, folders: dict[PurePosixPath, Folder], *, durable: bool) -> None:
        """Give one file its final name."""
        if not durable or not self.files.renames_open_files:
            # Nothing was forced to the disk: on a network file system, closing is what tells that there is no room.
            try:
                staged.release()
            except StorageError:
                self.drop(staged.name)
                raise
        try:
            self._move(staged.name, staged.path, folders, staged.identity)
        except OSError as error:
            raise explained(error, staged.path, "given its name", file=staged.key) from error
        with contextlib.suppress(StorageError):
            staged.release()
        if staged.recorded:
            self._clear(self.partials, _control(staged.name))
            self._left.discard(_owner(staged.name))

    def _move(
        self, name: str, path: PurePosixPath, folders: dict[PurePosixPath, Folder], identity: tuple[int, int] | None
    ) -> None:
        """Rename a partial file to its final name; a folder that vanished meanwhile is made anew, once."""
        for last in (False, True):
            parent = self._folder_of(path, folders)
            self._look_in(parent, path)
            try:
                self._rename(name, parent, path)
            except FileNotFoundError:
                # Another process that finished what it took for an interrupted run gave it the very same name.
                if self._has_identity(parent, path, identity):
                    return
                if last or not self._exists(self.partials, name):
                    raise
                self._close_all([folders.pop(path.parent)])
            else:
                return

    def _folder_of(self, path: PurePosixPath, folders: dict[PurePosixPath, Folder]) -> Folder:
        """Give the open folder of a final name, made if it is missing."""
        if path.parent not in folders:
            folder = self._walk(path.parent, make=True)
            folders[path.parent] = self._opened(folder)
        return folders[path.parent]

    def _rename(self, name: str, parent: Folder, path: PurePosixPath) -> None:
        """Rename; a program that has the old file open for a moment (on Windows) is waited for, half a second long."""
        for wait in (0.02, 0.04, 0.06, 0.08, 0.1, 0.1, 0.1, None):
            try:
                again(self.files.rename, self.partials, name, parent, path.name)
            except OSError as error:
                if wait is None or getattr(error, "winerror", None) not in _SHARING:
                    raise
                self._sleep(wait)
            else:
                return

    def _has_identity(self, parent: Folder, path: PurePosixPath, identity: tuple[int, int] | None) -> bool:
        """Say whether a final name is this very file."""
        try:
            seen = again(self.files.look, parent, path.name)
        except OSError:
            return False
        return identity == (seen.st_dev, seen.st_ino)

    def adopt(
        self, name: str, path: PurePosixPath | str, *, state: FileState, sha256: str | None, durable: bool = True
    ) -> Literal["renamed", "complete", "gone", "in use"]:
        """
        Finish what an interrupted run had verified and written into the ledger.

        Args:
            name: Of the partial file.
            path: Where it was about to go.
            state: What it is according to the ledger.
            sha256: Its digest in hexadecimal according to the ledger, or None.
            durable: Whether to force the name to the disk.

        Raises:
            StorageError: The disk refused.
        """
        pure = self._checked(path)
        with explaining(pure, "checked again"), self._taken(name) as file:
            if file == "in use":
                return "in use"
            seen = self.files.look_open(file) if isinstance(file, int) and self._is_whole(file, state, sha256) else None
        if seen is None:
            return "complete" if self.look(pure) == state else "gone"
        folders: dict[PurePosixPath, Folder] = {}
        try:
            with explaining(pure, "given its name"):
                self._move(name, pure, folders, (seen.st_dev, seen.st_ino))
                self._clear(self.partials, _control(name))
            if durable:
                self._sync_quietly(folders[pure.parent])
        finally:
            self._close_all(list(folders.values()))
        return "renamed"

    def _is_whole(self, file: int, state: FileState, sha256: str | None) -> bool:
        """Say whether a partial file is what the ledger says; without fsync, its content may be lost with the power."""
        seen = again(self.files.look_open, file)
        if (seen.st_size, seen.st_mtime_ns) != (state.size, state.mtime_ns):
            return False
        return sha256 is None or self._hash(file) == sha256

    # ------------------------------------------------------------------------------------------------------ small steps

    def replace_private(self, folder: Folder, name: str, content: bytes) -> None:
        """Write a small file of ours in one step, forced to the disk before it gets its name. Raises ``OSError``."""
        for _ in range(_TRIES):
            new = f"new-{self._draw_name()}"
            file = again(self.files.create, folder, new, 0o600)
            try:
                self._fill(file, content)
                if stat.S_ISDIR(self._mode_of(folder, name)):
                    self._clear(folder, name)
                again(self.files.rename, folder, new, folder, name)
            except BaseException as error:
                if isinstance(error, FileNotFoundError) and not self._exists(folder, new):
                    # Another process swept it away, in the moment before it had its lock or after it gave it back.
                    continue
                self._clear(folder, new)
                raise
            return
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)

    def _fill(self, file: int, content: bytes) -> None:
        """Write a new small file, force it to the disk and close it; its lock tells others that somebody does so."""
        try:
            with contextlib.suppress(OSError):
                again(self.files.lock, file)
            written = 0
            while written < len(content):
                written += again(self.files.write, file, content[written:], written)
            with contextlib.suppress(_Unsupported):
                self._sync(file)
        finally:
            self.files.close(file)

    def _sync(self, file: int) -> None:
        try:
            again(self.files.sync, file)
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                raise
            self.warn_not_durable()
            raise _Unsupported from error

    def _sync_folder(self, folder: Folder) -> bool:
        """Force the names in a folder to the disk; False where the file system cannot. Raises ``OSError``."""
        try:
            again(self.files.sync_folder, folder)
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                raise
            self.warn_not_durable()
            return False
        return True

    def _sync_quietly(self, folder: Folder) -> bool:
        """Do the same after the names are given: they cannot be taken back, so a fault only costs the promise."""
        try:
            return self._sync_folder(folder)
        except OSError as error:
            log.warning(
                "%s: a folder could not be forced to the disk (%s); a power loss may cost recent files.",
                self.root,
                error.strerror,
            )
            return False

    def _mode_of(self, folder: Folder, name: str) -> int:
        """Give the mode of what has a name, or 0."""
        try:
            return again(self.files.look, folder, name).st_mode
        except OSError:
            return 0

    def _exists(self, folder: Folder, name: str) -> bool:
        return self._mode_of(folder, name) != 0

    def remove(self, folder: Folder, name: str) -> bool:
        """Take a name away; False when it was not there. Raises ``OSError``."""
        try:
            again(self.files.unlink, folder, name)
        except FileNotFoundError:
            return False
        return True

    def _read_small(self, folder: Folder, name: str) -> bytes | None:
        """Read a small file of ours; None when it is not there, is no file, or is larger than any of ours."""
        try:
            file = again(self.files.open_file, folder, name)
        except OSError:
            return None
        try:
            seen = again(self.files.look_open, file)
            if not stat.S_ISREG(seen.st_mode) or seen.st_size > _LARGEST_RECORD:
                return None
            return again(self.files.read, file, _LARGEST_RECORD, 0)
        except OSError:
            return None
        finally:
            self.files.close(file)


class _Unsupported(Exception):  # noqa: N818 - it never leaves this module
    """The file system has no such call."""


def _harmless(mode: int) -> int:
    """Give the permissions of a mode, without those that nobody should have on a downloaded file."""
    return stat.S_IMODE(mode) & 0o775
