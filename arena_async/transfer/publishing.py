"""Renames of finished partial files to their final names, also of those that an interrupted run left."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Literal

from arena_async.errors import StorageError
from arena_async.transfer.directory import Directory, ParentCache, split_path
from arena_async.transfer.filesystem import Handle, again, explained, explaining
from arena_async.transfer.models import FileState
from arena_async.transfer.partial_files import PartialFile, PartialFiles

__all__ = ["adopt", "publish"]

log = logging.getLogger("arena_async")

#: ERROR_ACCESS_DENIED, ERROR_SHARING_VIOLATION, ERROR_LOCK_VIOLATION: a virus scanner or an editor has it open.
# https://learn.microsoft.com/windows/win32/debug/system-error-codes--0-499-
_SHARING = frozenset({5, 32, 33})
#: Seconds between the attempts of a rename that another program disturbs; None ends them.
_WAITS = (0.02, 0.04, 0.06, 0.08, 0.1, 0.1, 0.1, None)


def publish(partials: PartialFiles, files: Sequence[PartialFile], *, durable: bool = True) -> list[bool | StorageError]:
    """
    Rename finished files to their final names, and then sync each directory once.

    Returns:
        For each file whether its name survives a power loss, or why it did not get its name; then it keeps its partial
        name.
    """
    directory = partials.directory
    results: list[bool | StorageError] = []
    synced: dict[str, bool] = {}
    with ParentCache(directory, make=True) as parents:
        for partial in files:
            try:
                _publish(partials, partial, parents, durable=durable)
                results.append(True)
            except StorageError as error:
                error.file = partial.key
                results.append(error)
        for parent, handle in parents.opened():
            synced[parent] = durable and _sync(directory, handle)
    return [
        synced.get(partial.path.rpartition("/")[0], False) if done is True else done
        for partial, done in zip(files, results, strict=True)
    ]


def _publish(partials: PartialFiles, partial: PartialFile, parents: ParentCache, *, durable: bool) -> None:
    """Rename one file."""
    if not durable or not partials.directory.files.renames_open_files:
        # Nothing was synced: on a network file system, closing is what tells that no space is left.
        try:
            partial.release()
        except StorageError:
            partials.drop(partial.name)
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
    """Rename a partial file to its final name; a directory that vanished meanwhile is made anew, once."""
    parent, final = split_path(directory.root, path)
    for last in (False, True):
        handle = parents.get(parent)
        if handle is None:
            raise StorageError(f"{path}: its folder could not be made.")
        directory.stat_in(handle, final, path)
        try:
            _rename(directory, name, handle, final)
        except FileNotFoundError:
            # Another process that took it for the file of an interrupted run gave it the very same name.
            if _has_identity(directory, handle, final, identity):
                return
            if last or not directory.mode_of(directory.partials, name):
                raise
            parents.forget(parent)
        else:
            return


def _rename(directory: Directory, name: str, parent: Handle, final: str) -> None:
    """Rename; half a second is allowed for a program that has the old file open for a moment (on Windows)."""
    for wait in _WAITS:
        try:
            again(directory.files.rename, directory.partials, name, parent, final)
        except OSError as error:
            if wait is None or getattr(error, "winerror", None) not in _SHARING:
                raise
            directory.sleep(wait)
        else:
            return


def _has_identity(directory: Directory, parent: Handle, final: str, identity: tuple[int, int] | None) -> bool:
    """Return whether a final name is this very file."""
    try:
        seen = again(directory.files.look, parent, final)
    except OSError:
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
        whole = isinstance(file, int) and _is_whole(directory, file, state, sha256)
        seen = directory.files.look_open(file) if whole and isinstance(file, int) else None
    if seen is None:
        return "complete" if directory.state_of(path) == state else "gone"
    with ParentCache(directory, make=True) as parents:
        with explaining(path, "given its name"):
            _move(directory, name, path, parents, (seen.st_dev, seen.st_ino))
            partials.forget(name)
        for _, handle in parents.opened():
            if durable:
                _sync(directory, handle)
    return "renamed"


def _is_whole(directory: Directory, file: int, state: FileState, sha256: str | None) -> bool:
    """Return whether a partial file is the recorded one; without fsync, its content may be lost with the power."""
    seen = again(directory.files.look_open, file)
    if (seen.st_size, seen.st_mtime_ns) != (state.size, state.mtime_ns):
        return False
    return sha256 is None or directory.hash(file) == sha256


def _sync(directory: Directory, handle: Handle) -> bool:
    """Sync the names of a directory after renames: they cannot be undone, so an error only costs durability."""
    try:
        return directory.sync_directory(handle)
    except OSError as error:
        log.warning(
            "%s: a folder could not be forced to the disk (%s); a power loss may cost recent files.",
            directory.root,
            error.strerror,
        )
        return False
