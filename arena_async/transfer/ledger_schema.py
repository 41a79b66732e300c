"""The tables of the ledger: their layout, migrations, and connections that take any text a service may send."""

from __future__ import annotations

import contextlib
import re
import sqlite3
from pathlib import Path
from typing import Any

from arena_async.errors import StorageError

__all__ = ["SCHEMA", "LedgerConnection", "decoded", "error_code", "is_damage", "prepare"]

#: The layout of the tables; a ledger of a later layout is not touched.
_VERSION = 3

_JOBS = """
CREATE TABLE jobs (
    key TEXT PRIMARY KEY, state TEXT NOT NULL, run TEXT NOT NULL, began TEXT, took REAL
) WITHOUT ROWID;
"""

_FACTS = """
CREATE TABLE facts (key TEXT PRIMARY KEY, fact TEXT NOT NULL) WITHOUT ROWID;
"""

#: What leads from each earlier layout to the next one.
_MIGRATIONS = {1: _JOBS, 2: _FACTS}

SCHEMA = f"""{_JOBS}{_FACTS}
CREATE TABLE files (
    key TEXT PRIMARY KEY, state TEXT NOT NULL, path TEXT NOT NULL, folded TEXT NOT NULL, size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL, change TEXT NOT NULL, sha256 TEXT, md5 TEXT, verified_by TEXT NOT NULL,
    name TEXT NOT NULL,
    partial TEXT NOT NULL, reason TEXT NOT NULL, at TEXT
) WITHOUT ROWID;
CREATE INDEX files_by_path ON files (folded) WHERE folded <> '';
CREATE INDEX files_committing ON files (key) WHERE state = 'committing';
CREATE TABLE seen (
    scope TEXT NOT NULL, key TEXT NOT NULL, generation INTEGER NOT NULL, name TEXT NOT NULL, change TEXT NOT NULL,
    path TEXT NOT NULL, folded TEXT NOT NULL, PRIMARY KEY (scope, key)
) WITHOUT ROWID;
CREATE INDEX seen_by_path ON seen (scope, folded, generation);
CREATE INDEX seen_by_key ON seen (key);
CREATE TABLE scopes (
    scope TEXT PRIMARY KEY, generation INTEGER NOT NULL DEFAULT 0, ended INTEGER NOT NULL DEFAULT 0, watermark TEXT
) WITHOUT ROWID;
"""


# https://www.sqlite.org/rescode.html
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


def error_code(error: sqlite3.Error) -> int:
    """Return the primary result code."""
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF


def is_damage(error: sqlite3.DatabaseError) -> bool:
    """Return whether the file is damaged or no ledger; a missing table or column means the same."""
    return error_code(error) in _DAMAGED or str(error).startswith(("no such table", "no such column"))


#: Half of a surrogate pair, which JSON may hold and UTF-8 may not, and how it is written down here.
_HALF = re.compile("[\ud800-\udfff]")
_HALF_WRITTEN = re.compile("\ufffe(d[89a-f][0-9a-f]{2})")


def _writable(value: Any) -> Any:
    """Return values whose text can be stored; :func:`decoded` reads it back unchanged."""
    if isinstance(value, dict):
        return {name: _writable(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_writable(inner) for inner in value]
    return _HALF.sub(lambda half: f"\ufffe{ord(half[0]):04x}", value) if isinstance(value, str) else value


def decoded(value: Any) -> Any:
    """Read what :func:`_writable` has written."""
    if isinstance(value, str) and "\ufffe" in value:
        return _HALF_WRITTEN.sub(lambda found: chr(int(found[1], 16)), value)
    return value


class LedgerConnection(sqlite3.Connection):
    """A connection that takes any text a service may send, without warnings of its own when it is collected."""

    def __del__(self) -> None:
        """Close it, without the complaint that sqlite3 makes since Python 3.13: the owner makes one."""
        with contextlib.suppress(sqlite3.Error):
            self.close()

    def execute(self, statement: str, values: Any = (), /) -> sqlite3.Cursor:
        """Execute a statement; its values come as positions or by name."""
        try:
            return super().execute(statement, values)
        except UnicodeEncodeError:
            return super().execute(statement, _writable(values))

    def executemany(self, statement: str, rows: Any, /) -> sqlite3.Cursor:
        """Execute a statement for each row; ``rows`` can be walked twice."""
        try:
            return super().executemany(statement, rows)
        except UnicodeEncodeError:
            return super().executemany(statement, _writable(rows))


def prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Make a connection safe for power losses and other processes, and make the tables if there are none."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > _VERSION:
        raise StorageError(
            f"{path}: it was written by a newer version of arena_async (layout {version}, known up to {_VERSION}). "
            "Upgrade arena_async, or choose another folder."
        )
    if version == 0:
        _choose_journal(connection)
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("BEGIN IMMEDIATE")
    # Another process may have been quicker.
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    for step in [SCHEMA] if version == 0 else [_MIGRATIONS[layout] for layout in range(version, _VERSION)]:
        for statement in step.split(";"):
            connection.execute(statement)
    if version < _VERSION:
        connection.execute(f"PRAGMA user_version = {_VERSION}")
    connection.execute("COMMIT")


def _choose_journal(connection: sqlite3.Connection) -> str:
    """Choose the journal that lets readers and a writer go on together, or the plain one where memory is not shared."""
    mode = ""
    for _ in range(20):
        try:
            (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        except sqlite3.OperationalError as error:
            if error_code(error) != sqlite3.SQLITE_BUSY:
                break
        else:
            break
        # Another process is making the same choice; this statement does not wait for it, a transaction does.
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("ROLLBACK")
    if mode != "wal":
        # https://www.sqlite.org/wal.html#noshm
        (mode,) = connection.execute("PRAGMA journal_mode = TRUNCATE").fetchone()
    return str(mode)
