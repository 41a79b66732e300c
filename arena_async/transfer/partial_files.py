"""The partial files of a directory: new ones, those of earlier runs, their renames to final names, and leftovers."""

from __future__ import annotations

import contextlib
import errno
import functools
import logging
import os
import re
import stat
from collections.abc import Collection, Iterator, Sequence
from typing import Literal

from arena_async.errors import StorageError
from arena_async.transfer.directory import STATE_DIRECTORY, Directory, ParentCache, split_path
from arena_async.transfer.filesystem import (
    NO_DIRECTORY,
    FileSystem,
    Handle,
    Proceed,
    again,
    explained,
    explaining,
    hash_range,
    read_blocks,
    read_small,
    write_all,
)
from arena_async.transfer.final_files import recorded_state
from arena_async.transfer.models import FileState, LedgerEntry, is_partial_name
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

__all__ = ["PartialFiles", "adopt", "finish_move", "publish"]

log = logging.getLogger("arena_async")

_TRIES = 100
#: Without working locks, a partial file that was written to so recently (seconds) counts as in use.
_RECENT = 3600.0
#: A partial file that was not resumed for so long (seconds) is removed.
_STALE = 30 * 86400.0
#: After so long (seconds), the unfinished replacement of a small file is removed, whatever its lock says.
_ABANDONED = 60.0
#: A small file that is about to replace another one, and one that shows the permissions of a new file.
_SHORT_LIVED = re.compile(r"(?:new|mode)-[0-9a-f]{16,40}", re.ASCII)
#: ERROR_ACCESS_DENIED, ERROR_SHARING_VIOLATION, ERROR_LOCK_VIOLATION: a virus scanner or an editor has it open.
# https://learn.microsoft.com/windows/win32/debug/system-error-codes--0-499-
_SHARING = frozenset({5, 32, 33})
#: The name is gone, or that of a folder, a link or a pipe, or of a file that we may not write.
_NOT_OURS = NO_DIRECTORY | {errno.ENOENT, errno.EISDIR, errno.ENXIO, errno.EACCES, errno.EPERM}
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
        Note which partial files exist. Called after the directory was opened, and when other processes were waited for.

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

        What another process leaves meanwhile is seen after the next :meth:`scan`.
        """
        return bool(self.directory.resumable) and key_hash(key)[:32] in self.directory.resumable

    # -- new ones

    def create(self, key: str, path: str) -> PartialFile:
        """
        Open a new, empty partial file under a name that no other has.

        Raises:
            DiskFullError: No space is left.
            StorageError: The disk failed.
        """
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
        partial = self.create(key, path)
        file = partial.opened()
        try:
            write_all(self.files, file, content, 0)
            again(self.files.chmod, file, mode)
        except OSError as error:
            partial.drop()
            raise explained(error, path, "written", file=key) from error
        partial.end = len(content)
        return partial

    def _claim(self, file: int, name: str) -> bool:
        """Lock an open partial file; False, and closed, where another process has locked it or swept its name."""
        mine = False
        try:
            if again(self.files.lock, file):
                mine = _has_name(self.files, self.directory.partials, name, self.files.look_open(file))
        finally:
            if not mine:
                self.files.close(file)
        return mine

    # -- those of earlier runs

    def find(self, key: str) -> FoundPartial | None:
        """
        Return the best partial file of a key that can be trusted, and remove its others unless they are in use.

        Raises:
            StorageError: The directory of partial files cannot be read.
        """
        best = None
        for name, found in self.of_key(key):
            if found == "in use":
                continue
            if found is None or (best is not None and best.held >= found.held):
                drop_partial(self.directory, name)
                continue
            if best is not None:
                drop_partial(self.directory, best.name)
            best = found
        return best

    def of_key(self, key: str) -> Iterator[tuple[str, FoundPartial | Literal["in use"] | None]]:
        """
        Yield the names of the partial files of a key with what can be resumed of each, None for one that is useless.

        Raises:
            StorageError: The directory of partial files cannot be read.
        """
        owner = key_hash(key)
        for name in self._names(f"{owner[:32]}-"):
            yield name, self._usable(name, owner)

    def _names(self, start: str = "") -> list[str]:
        """Return the names of partial files, those too of which only the control record is left."""
        with explaining(self.directory.root / STATE_DIRECTORY / "partial", "listed"):
            found = again(self.files.names, self.directory.partials)
        stems = {name.rsplit(".", 1)[0] for name in found if name.startswith(start) and is_partial_name(name)}
        return sorted(f"{stem}.part" for stem in stems)

    def _usable(self, name: str, owner_hash: str) -> FoundPartial | Literal["in use"] | None:
        """Return what can be resumed of a partial file, None for one that is known to be useless."""
        try:
            with self.taken(name) as file:
                if not isinstance(file, int):
                    return file
                text = read_small(self.files, self.directory.partials, control_name(name))
                record = None if text is None else ControlRecord.load(text, owner_hash)
                return None if record is None else record.found(name, functools.partial(self._holds, file))
        except OSError as error:
            # Too many files were open, or memory was short: it may pass, and nothing is known to be useless by it.
            log.warning(
                "%s: a partial file could not be looked at (%s); it stays.", self.directory.root, error.strerror
            )
            return "in use"

    @contextlib.contextmanager
    def taken(self, name: str, *, within: Handle | None = None) -> Iterator[int | Literal["in use"] | None]:
        """
        Open a partial file that is not in use; None when it is not one of ours (a link, a FIFO, another user's).

        Raises ``OSError`` where that cannot be told.
        """
        directory = self.directory.partials if within is None else within
        file: int | None = None
        found: int | Literal["in use"] | None = None
        try:
            try:
                file = again(self.files.open_file, directory, name, writable=True)
                found = self._judge(file, directory, name)
            except OSError as error:
                if error.errno not in _NOT_OURS:
                    raise
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
        return file if _has_name(self.files, directory, name, seen) else None

    def _holds(self, file: int, start: int, until: int, tail: str) -> bool:
        """Return whether the last recorded bytes of a range are there, and were not lost with the power."""
        return digest_of_tail(self.files, file, start, until) == tail

    def resume(self, partial: FoundPartial, key: str, path: str, *, proceed: Proceed = bool) -> PartialFile | None:
        """
        Open a partial file at its offset, cut back to it; None when another process has taken it.

        Where locks do not work it is copied, so that no other writer can be in the same file; ``proceed`` is called
        before each block of it is read, and raises to end that.

        Raises:
            DestinationBusyError: The final name is taken by something that is no file.
            DiskFullError: No space is left.
            StorageError: The disk failed.
        """
        copied = not self.directory.locks_work
        self.directory.check_room(path, partial.offset if copied else None)
        with explaining(path, "opened again", file=key):
            return self._copy(partial, key, path, proceed) if copied else self._reopen(partial, key, path)

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
        return PartialFile(self.directory, file, key=key, path=path, name=partial.name, found=partial)

    def _copy(self, partial: FoundPartial, key: str, path: str, proceed: Proceed) -> PartialFile | None:
        """Resume in a new file with the bytes of an old one."""
        copy = self.create(key, path)
        try:
            copy.describe(validator=partial.validator, total=partial.total)
            with self.taken(partial.name) as file:
                if isinstance(file, int):
                    for block in read_blocks(self.files, file, 0, partial.offset, proceed):
                        copy.write(block)
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

    def sweep(self, *, keep: Collection[str]) -> None:
        """
        Remove partial files of ours that are not in use and cannot be resumed, or were not resumed for 30 days.

        Ours is what has one of our names exactly; what cannot be looked at stays.

        Args:
            keep: Names of partial files to leave alone.

        Raises:
            StorageError: The directory of partial files cannot be read.
        """
        for name in self._names():
            found = "in use" if name in keep or self._is_foreign(name) else self._usable(name, owner_of(name))
            if found is None or (found != "in use" and self._age(self.directory.partials, name) > _STALE):
                drop_partial(self.directory, name)
        for handle in (self.directory.partials, self.directory.state):
            with contextlib.suppress(OSError):
                for name in again(self.files.names, handle):
                    if _SHORT_LIVED.fullmatch(name):
                        self._clear_abandoned(handle, name)

    def _is_foreign(self, name: str) -> bool:
        """Return whether the control record of a partial file is not of this version, or cannot be read now."""
        try:
            text = read_small(self.files, self.directory.partials, control_name(name))
        except OSError:
            return True
        return text is not None and ControlRecord.is_foreign(text)

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
            with contextlib.suppress(OSError), self.taken(name, within=handle) as file:
                if isinstance(file, int):
                    self.directory.clear(handle, name)


def publish(partials: PartialFiles, files: Sequence[PartialFile], *, durable: bool = True) -> list[bool | StorageError]:
    """
    Rename finished files to their final names, and then sync each directory once.

    Returns:
        For each file whether its name survives a power loss, or why it did not get its name; then it keeps its partial
        name.
    """
    with ParentCache(partials.directory, make=True) as parents:
        failures = [_publish(partials, partial, parents, durable=durable) for partial in files]
        synced = _sync_names(partials.directory, parents) if durable else {}
    return [
        failure or synced.get(partial.path.rpartition("/")[0], False)
        for partial, failure in zip(files, failures, strict=True)
    ]


def _publish(
    partials: PartialFiles, partial: PartialFile, parents: ParentCache, *, durable: bool
) -> StorageError | None:
    """Rename one file, and return why it did not get its name."""
    if not durable or not partials.directory.files.renames_open_files:
        # Nothing was synced: on a network file system, closing is what shows that no space is left.
        failure = partial.release()
        if failure is not None:
            drop_partial(partials.directory, partial.name)
            return failure
    try:
        _move(partials.directory, partial.name, partial.path, parents, partial.status)
    except OSError as error:
        return explained(error, partial.path, "given its name", file=partial.key)
    except StorageError as error:
        error.file = partial.key
        return error
    partial.release()
    if partial.recorded:
        partials.forget(partial.name)
    return None


def _move(directory: Directory, name: str, path: str, parents: ParentCache, status: os.stat_result | None) -> None:
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
            if status is not None and _has_name(directory.files, handle, final, status):
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


def _has_name(files: FileSystem, directory: Handle, name: str, status: os.stat_result) -> bool:
    """Return whether a name is that of this very file."""
    try:
        return os.path.samestat(again(files.look, directory, name), status)
    except FileNotFoundError:
        return False


def finish_move(directory: Directory, entry: LedgerEntry, *, durable: bool) -> bool:
    """
    Rename a final file to the path of its row, which names where it was; False where it is at neither place.

    Raises:
        StorageError: The disk failed.
    """
    recorded = FileState(size=entry.size, mtime_ns=entry.mtime_ns)
    if directory.state_of(entry.path) == recorded:
        return True
    if directory.state_of(entry.partial[1:]) != recorded:
        return False
    (here, name), (there, final) = (split_path(directory.root, path) for path in (entry.partial[1:], entry.path))
    with ParentCache(directory, make=True) as parents, explaining(entry.path, "moved", file=entry.key):
        try:
            again(directory.files.rename, parents[here], name, parents[there], final)
        except FileNotFoundError:
            # Another process has taken it for the file of an interrupted run.
            return directory.state_of(entry.path) == recorded
        if durable:
            _sync_names(directory, parents)
    return True


def adopt(
    partials: PartialFiles, entry: LedgerEntry, *, durable: bool = True, proceed: Proceed = bool
) -> Literal["complete", "gone", "in use"]:
    """
    Finish the commit of a file that an interrupted run had verified and written into the ledger.

    Args:
        partials: The partial files.
        entry: Its row, which names its partial file.
        durable: Whether to sync the name.
        proceed: Called before each block is read; raises to end it.

    Returns:
        ``complete``: it has its name. ``gone``: nothing is left of it. ``in use``: another process is committing it.

    Raises:
        StorageError: The disk failed.
    """
    directory, path = partials.directory, entry.path
    with explaining(path, "checked again"), partials.taken(entry.partial) as file:
        if file == "in use":
            return "in use"
        status = _recorded(directory, file, entry, proceed) if isinstance(file, int) else None
    if status is None:
        state = directory.state_of(path)
        if state is None or state.size != entry.size:
            return "gone"
        # In a copied directory only the time is another one.
        same = state.mtime_ns == entry.mtime_ns or (
            entry.provable and recorded_state(directory, entry, proceed) is not None
        )
        return "complete" if same else "gone"
    with ParentCache(directory, make=True) as parents:
        with explaining(path, "given its name"):
            _move(directory, entry.partial, path, parents, status)
            partials.forget(entry.partial)
        if durable:
            _sync_names(directory, parents)
    return "complete"


def _recorded(directory: Directory, file: int, entry: LedgerEntry, proceed: Proceed) -> os.stat_result | None:
    """Return the status of an open file if it is the recorded one: without fsync, its content may be lost."""
    seen = again(directory.files.look_open, file)
    same = (seen.st_size, seen.st_mtime_ns) == (entry.size, entry.mtime_ns)
    if same and entry.sha256 is not None:
        same = hash_range(directory.files, file, proceed=proceed) == entry.sha256
    return seen if same else None


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
