"""
The copy of a ledger beside it: made once a day, put in its place when it is damaged or gone.

A copy is written under another name and renamed, so that there is always a whole one or none. Blocks; for a thread.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import sqlite3
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from arena_async.errors import StorageError
from arena_async.transfer.ledger_schema import NO_TABLE, error_code, is_damage
from arena_async.transfer.local_files import (
    create_private,
    publish_private,
    remove_private,
    set_aside,
    size_of,
    sweep_private,
)

__all__ = ["copy_ledger", "has_copy", "restore", "set_aside_all"]

log = logging.getLogger("arena_async")

#: Pages of the ledger that are copied at a time, and how often a ledger that changes meanwhile is begun anew.
_PAGES, _MAX_PASSES = 1024, 4

#: Steps of SQLite between two looks at whether a check is to go on.
_INSTRUCTIONS = 100_000

#: What SQLite keeps beside a ledger.
_COMPANIONS = ("-wal", "-shm", "-journal")


def _copy_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.copy")


def has_copy(path: Path) -> bool:
    """Return whether there is a copy of a ledger."""
    return size_of(_copy_of(path)) > 0


def copy_ledger(path: Path, proceed: Callable[[], int | None]) -> None:
    """
    Copy a ledger while it is used.

    Args:
        path: The ledger.
        proceed: Called now and then; raises to end it.

    Raises:
        StorageError: The ledger cannot be read, or the copy not be written; the copy of before is still there.
    """
    copy = _copy_of(path)
    sweep_private(copy)
    new = copy.with_name(f"{copy.name}.{secrets.token_hex(8)}")
    try:
        create_private(new)
        with contextlib.closing(sqlite3.connect(path, timeout=10.0, isolation_level=None)) as source:
            if source.execute("PRAGMA journal_mode").fetchone()[0] == "wal":
                # One state of it is copied, and writers go on meanwhile.
                source.execute("BEGIN")
                source.execute("SELECT count(*) FROM sqlite_master").fetchone()
            _copy(source, new, proceed)
        publish_private(new, copy)
    except sqlite3.Error as error:
        raise StorageError(f"{path}: the ledger could not be copied ({error}).") from error
    finally:
        remove_private(new)


def _copy(source: sqlite3.Connection, to: Path, proceed: Callable[[], int | None]) -> None:
    """Copy a database, some pages at a time."""
    steps = 0

    def progress(_status: int, _remaining: int, total: int) -> None:
        nonlocal steps
        steps += 1
        proceed()
        if steps > _MAX_PASSES * (total // _PAGES + 1):
            raise sqlite3.OperationalError("it changes faster than it can be copied")

    with contextlib.closing(sqlite3.connect(to, isolation_level=None)) as target:
        # What is not whole never gets its name.
        target.execute("PRAGMA journal_mode = OFF")
        target.execute("PRAGMA synchronous = OFF")
        source.backup(target, pages=_PAGES, progress=progress)
        target.set_progress_handler(proceed, _INSTRUCTIONS)
        _check(target)


def _check(connection: sqlite3.Connection) -> None:
    """Raise a ``DatabaseError`` that counts as damage if a database is no whole ledger."""
    ((found,),) = connection.execute("PRAGMA quick_check(1)").fetchall()
    ((version,),) = connection.execute("PRAGMA user_version").fetchall()
    if found != "ok" or not version:
        raise sqlite3.DatabaseError(f"{NO_TABLE}: {found if found != 'ok' else 'it is no ledger'}")


def set_aside_all(path: Path) -> Path | None:
    """
    Move a damaged ledger out of the way, with the files that belong to it, and return where to.

    Raises:
        StorageError: The disk refused.
    """
    moved = None
    for suffix in ("", *_COMPANIONS):
        beside = path.with_name(path.name + suffix)
        if size_of(beside) == 0:
            remove_private(beside)
        else:
            aside = set_aside(beside, ".damaged")
            moved = moved or aside
    return moved


def restore(path: Path) -> bool:
    """
    Put the copy in the place of a ledger that is gone or empty; False where there is no copy that is whole.

    A damaged copy is set aside. Where another process has made a ledger meanwhile, that one stays.

    Raises:
        StorageError: The disk failed.
    """
    copy = _copy_of(path)
    if not has_copy(path):
        return False
    new = copy.with_name(f"{copy.name}.{secrets.token_hex(8)}")
    try:
        create_private(new)
        # Nothing writes to a copy; without that, SQLite would make files beside it.
        where = f"file:{quote(str(copy))}?immutable=1"
        with contextlib.closing(sqlite3.connect(where, uri=True, isolation_level=None)) as source:
            _copy(source, new, bool)
        if size_of(path) == 0:
            set_aside_all(path)
        publish_private(new, path, replace=False)
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise StorageError(
                f"{path}: the ledger is damaged, and its copy could not be put in its place ({error}, code "
                f"{error_code(error)}). Free some space, check the disk, and run again."
            ) from error
        log.warning("%s: the copy of the ledger is damaged too (%s); it was set aside.", path, error)
        set_aside(copy, ".damaged")
        return False
    finally:
        remove_private(new)
    return True
