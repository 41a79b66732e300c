"""The partial files of a directory: new ones, those of earlier runs, their renames to final names, and leftovers."""

from __future__ import annotations

import contextlib
import logging
import os
import stat
from collections.abc import Collection, Iterator, Sequence
from typing import Literal

from arena_async.errors import StorageError
from arena_async.transfer.directory import STATE_DIRECTORY, Directory, ParentCache, hash_file, split_path
from arena_async.transfer.filesystem import Handle, again, explained, explaining, read_blocks, read_small, write_all
from arena_async.transfer.models import FileState
from arena_async.transfer.partial_file import (
    ControlRecord,
    FoundPartial,
    PartialFile,
    control_name,
    digest_of_tail,
    drop_partial,
    key_hash,
    owner_of,
)

__all__ = ["PartialFiles", "adopt", "publish"]

log = logging.getLogger("arena_async")

_TRIES = 100
#: Without working locks, a partial file that was written to so recently (seconds) counts as in use.
_RECENT = 3600.0
#: A partial file that was not resumed for so long (seconds) is removed.
_STALE = 30 * 86400.0
#: After so long (seconds), the unfinished replacement of a small file is removed, whatever its lock says.
_ABANDONED = 60.0
#: ERROR_ACCESS_DENIED, ERROR_SHARING_VIOLATION, ERROR_LOCK_VIOLATION: a virus scanner or an editor has it open.
# https://learn.microsoft.com/windows/win32/debug/system-error-codes--0-499-
_SHARING = frozenset({5, 32, 33})
#: Seconds between the attempts of a rename that another program disturbs.
_WAITS = (0.02, 0.04, 0.06, 0.08, 0.1, 0.1, 0.1)


class PartialFiles:
    """
    The partial files of a directory.

    Args:
        directory: The directory, open.
    """

    def __init__(self, directory: Directory) -> None:
        self.directory = directory
        self.files = directory.files

    def scan(self) -> None:
        """
        Note which partial files exist. Called once, after the directory was opened.

        Raises:
            StorageError: Their directory cannot be read.
        """
        self.directory.resumable.update(map(owner_of, self._names()))

    def forget(self, name: str) -> None:
        """Remove the control record of a committed file."""
        self.directory.clear(self.directory.partials, control_name(name))
        self.directory.resumable.discard(owner_of(name))

    def may_resume(self, key: str) -> bool:
        """
        Return whether looking for a partial file of a key is worth it; False costs nothing and is nearly always right.

        What another process leaves while this one has the directory open is seen at the next start.
        """
        return bool(self.directory.resumable) and key_hash(key)[:32] in self.directory.resumable

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
        begin, directory = key_hash(key)[:32], self.directory.partials
        try:
            for _ in range(_TRIES):
                name = f"{begin}-{self.directory.draw_name()}.part"
                try:
                    file = again(self.files.create, directory, name, 0o600)
                except FileExistsError:
                    continue
                if self._claim(file, name):
                    return PartialFile(self.directory, file, key=key, path=path, name=name)
        except OSError as error:
            raise explained(error, path, "created", file=key) from error
        raise StorageError(
            f"{path}: no unused name for its partial file was found. Look into {STATE_DIRECTORY}.", file=key
        )

    def _claim(self, file: int, name: str) -> bool:
        """Lock an open partial file; False, and closed, where another process has locked it or swept its name."""
        mine = False
        try:
            mine = again(self.files.lock, file) and self._is_named(file, self.directory.partials, name)
        finally:
            if not mine:
                self.files.close(file)
        return mine

    def _is_named(self, file: int, directory: Handle, name: str) -> bool:
        """Return whether an open file still has the name it was opened under."""
        opened = self.files.look_open(file)
        return _has_identity(self.directory, directory, name, (opened.st_dev, opened.st_ino))

    # -- those of earlier runs

    def find(self, key: str) -> FoundPartial | None:
        """
        Return the best partial file of a key that can be trusted, and remove its others unless they are in use.

        Raises:
            StorageError: The directory of partial files cannot be read.
        """
        wanted, best = key_hash(key), None
        for name in self._names(f"{wanted[:32]}-"):
            found = self._usable(name, wanted)
            if found == "in use":
                continue
            if found is None or (best is not None and best.held >= found.held):
                drop_partial(self.directory, name)
                continue
            if best is not None:
                drop_partial(self.directory, best.name)
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

    def _usable(self, name: str, owner_hash: str) -> FoundPartial | Literal["in use"] | None:
        """Return what can be resumed of a partial file, None for one that is useless."""
        with self.taken(name) as file:
            if not isinstance(file, int):
                return file
            text = read_small(self.files, self.directory.partials, control_name(name))
            record = None if text is None else ControlRecord.load(text, owner_hash)
            with contextlib.suppress(OSError):
                if record is not None and self._holds(file, 0, record.offset, record.tail):
                    return record.found(name, [part[:2] for part in record.ahead if self._holds(file, *part)])
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
        # Where locks do not work, another process may still be writing to what was written lately.
        recent = not self.directory.locks_work and self.directory.now() - seen.st_mtime < _RECENT
        if not again(self.files.lock, file) or recent:
            return "in use"
        return file if self._is_named(file, directory, name) else None

    def _holds(self, file: int, start: int, until: int, tail: str) -> bool:
        """Return whether the last recorded bytes of a range are there, and were not lost with the power."""
        return digest_of_tail(self.files, file, start, until) == tail

    def resume(self, partial: FoundPartial, key: str, path: str) -> PartialFile | None:
        """
        Open a partial file at its offset, cut back to it; None when another process has taken it.

        Where locks do not work it is copied, so that no other writer can be in the same file.

        Raises:
            DestinationBusyError: The final name is taken by something that is no file.
            DiskFullError: No space is left.
            StorageError: The disk failed.
        """
        self.directory.state_of(path)
        with explaining(path, "opened again", file=key):
            if self.directory.locks_work:
                return self._reopen(partial, key, path)
            return self._copy(partial, key, path)

    def _reopen(self, partial: FoundPartial, key: str, path: str) -> PartialFile | None:
        """Take over a partial file under its lock."""
        try:
            file = again(self.files.open_file, self.directory.partials, partial.name, writable=True)
        except FileNotFoundError:
            return None
        if not self._claim(file, partial.name):
            return None
        try:
            again(self.files.truncate, file, partial.ahead[-1][1] if partial.ahead else partial.offset)
        except BaseException:
            self.files.close(file)
            raise
        resumed = PartialFile(self.directory, file, key=key, path=path, name=partial.name, offset=partial.offset)
        resumed.ranges = lambda: partial.ahead
        resumed._durable = partial.held  # noqa: SLF001 - of the same module
        return resumed

    def _copy(self, partial: FoundPartial, key: str, path: str) -> PartialFile | None:
        """Resume in a new file with the bytes of an old one."""
        copy = self.create(key, path, size=partial.offset)
        try:
            copy.describe(validator=partial.validator, total=partial.total)
            with self.taken(partial.name) as file:
                for block in read_blocks(self.files, file, 0, partial.offset) if isinstance(file, int) else ():
                    copy.write(block, copy.end)
        except BaseException:
            copy.drop()
            raise
        if copy.end < partial.offset:
            copy.drop()
            return None
        copy.checkpoint()  # The old one goes only when the new one can be resumed just as well.
        drop_partial(self.directory, partial.name)
        return copy

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
            found = self._usable(name, owner_of(name))
            if found == "in use" or (found is not None and self._age(self.directory.partials, name) <= _STALE):
                continue
            drop_partial(self.directory, name)
            removed += 1
        for handle in (self.directory.partials, self.directory.state):
            with contextlib.suppress(OSError):
                for name in again(self.files.names, handle):
                    if name.startswith(("new-", "mode-")):
                        self._clear_abandoned(handle, name)
        return removed

    def _age(self, handle: Handle, name: str) -> float:
        """Return the seconds since a file was written to; 0 where it is gone."""
        try:
            return self.directory.now() - again(self.files.look, handle, name).st_mtime
        except OSError:
            return 0.0

    def _clear_abandoned(self, handle: Handle, name: str) -> None:
        """Remove what an interrupted replacement of a small file left, unless another process may be writing it."""
        if self._age(handle, name) > _ABANDONED:
            self.directory.clear(handle, name)
        elif name.startswith("new-"):
            # Locked while it is written: a lock that is free shows that its writer is dead.
            with self.taken(name, within=handle) as file:
                if isinstance(file, int):
                    self.directory.clear(handle, name)


def publish(partials: PartialFiles, files: Sequence[PartialFile], *, durable: bool = True) -> list[bool | StorageError]:
    """
    Rename finished files to their final names, and then sync each directory once.

    Returns:
        For each file whether its name survives a power loss, or why it did not get its name; then it keeps its partial
        name.
    """
    directory = partials.directory
    results: list[bool | StorageError] = []
    with ParentCache(directory, make=True) as parents:
        for partial in files:
            try:
                _publish(partials, partial, parents, durable=durable)
                results.append(True)
            except StorageError as error:
                error.file = partial.key
                results.append(error)
        synced = _sync_names(directory, parents) if durable else {}
    return [
        synced.get(partial.path.rpartition("/")[0], False) if done is True else done
        for partial, done in zip(files, results, strict=True)
    ]


def _publish(partials: PartialFiles, partial: PartialFile, parents: ParentCache, *, durable: bool) -> None:
    """Rename one file."""
    if not durable or not partials.directory.files.renames_open_files:
        # Nothing was synced: on a network file system, closing is what shows that no space is left.
        try:
            partial.release()
        except StorageError:
            drop_partial(partials.directory, partial.name)
            raise
    try:
        _move(partials.directory, partial.name, partial.path, parents, partial.identity)
    except OSError as error:
        raise explained(error, partial.path, "given its name", file=partial.key) from error
    try:
        partial.release()
    except StorageError as error:
        log.debug("%s: closing it failed: %s", partial.path, error)
    if partial.recorded:
        partials.forget(partial.name)


def _move(directory: Directory, name: str, path: str, parents: ParentCache, identity: tuple[int, int] | None) -> None:
    """
    Rename a partial file to its final name.

    A directory that vanished meanwhile is made anew, once; half a second is allowed for a program that has the old file
    open (on Windows).
    """
    parent, final = split_path(directory.root, path)
    waits, made_anew = iter(_WAITS), False
    while True:
        handle = parents[parent]
        if handle is None:
            raise StorageError(f"{path}: its folder could not be made.")
        directory.stat_in(handle, final, path)
        try:
            again(directory.files.rename, directory.partials, name, handle, final)
        except FileNotFoundError:
            # Another process that took it for the file of an interrupted run gave it the very same name.
            if _has_identity(directory, handle, final, identity):
                return
            if made_anew or not directory.mode_of(directory.partials, name):
                raise
            parents.forget(parent)
            made_anew = True
        except OSError as error:
            wait = next(waits, None)
            if wait is None or getattr(error, "winerror", None) not in _SHARING:
                raise
            directory.sleep(wait)
        else:
            return


def _has_identity(directory: Directory, parent: Handle, name: str, identity: tuple[int, int] | None) -> bool:
    """Return whether a name is that of this very file."""
    try:
        seen = again(directory.files.look, parent, name)
    except FileNotFoundError:
        return False
    return identity == (seen.st_dev, seen.st_ino)


def adopt(
    partials: PartialFiles, name: str, path: str, *, state: FileState, sha256: str | None, durable: bool = True
) -> Literal["renamed", "complete", "gone", "in use"]:
    """
    Finish the commit of a file that an interrupted run had verified and written into the ledger.

    Args:
        partials: The partial files.
        name: Its name among them.
        path: Its final path.
        state: Its state according to the ledger.
        sha256: Its digest in hexadecimal according to the ledger, or None.
        durable: Whether to sync the name.

    Returns:
        ``renamed``: it has its name now. ``complete``: it had it already. ``gone``: nothing is left of it. ``in use``:
        another process is committing it.

    Raises:
        StorageError: The disk failed.
    """
    directory = partials.directory
    with explaining(path, "checked again"), partials.taken(name) as file:
        if file == "in use":
            return "in use"
        identity = _identity(directory, file, state, sha256) if isinstance(file, int) else None
    if identity is None:
        return "complete" if directory.state_of(path) == state else "gone"
    with ParentCache(directory, make=True) as parents:
        with explaining(path, "given its name"):
            _move(directory, name, path, parents, identity)
            partials.forget(name)
        if durable:
            _sync_names(directory, parents)
    return "renamed"


def _identity(directory: Directory, file: int, state: FileState, sha256: str | None) -> tuple[int, int] | None:
    """Return the identity of an open file if it is the recorded one: without fsync, its content may be lost."""
    seen = again(directory.files.look_open, file)
    same = (seen.st_size, seen.st_mtime_ns) == (state.size, state.mtime_ns)
    if not same or (sha256 is not None and hash_file(directory, file) != sha256):
        return None
    return seen.st_dev, seen.st_ino


def _sync_names(directory: Directory, parents: ParentCache) -> dict[str, bool]:
    """Sync directories after renames, which cannot be undone: an error only costs durability."""
    synced = dict.fromkeys(parents, False)
    for parent, handle in parents.items():
        try:
            synced[parent] = handle is not None and directory.sync(handle, directory.files.sync_directory)
        except OSError as error:
            log.warning(
                "%s: a folder could not be forced to the disk (%s); a power loss may cost recent files.",
                directory.root,
                error.strerror,
            )
    return synced
