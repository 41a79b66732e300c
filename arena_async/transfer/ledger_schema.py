"""The tables of the ledger: layout, migrations, statements about listings, connections that take any text."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import re
import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from arena_async.errors import StorageError
from arena_async.options import MIB

__all__ = [
    "BEGIN_LISTING",
    "COUNT_KNOWN",
    "COUNT_ODD_SCOPES",
    "END_LISTING",
    "FORGET_LISTED",
    "FORGET_SEEN",
    "FORGET_WATERMARKS",
    "HAS_SEVERAL",
    "INSERT_LISTED",
    "LISTED",
    "LISTED_BY_KEY",
    "LISTED_BY_PATH",
    "NEW_SCOPE",
    "NO_TABLE",
    "SCHEMA",
    "SCOPE",
    "SET_WATERMARK",
    "UPSERT_SEEN",
    "ForeignLedgerError",
    "LedgerConnection",
    "decoded",
    "error_code",
    "is_damage",
    "path_hash",
    "prepare",
]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

#: The layout of the tables; a ledger of a later layout is not touched.
_VERSION = 5

_JOBS = """
CREATE TABLE jobs (
    key TEXT PRIMARY KEY, state TEXT NOT NULL, run TEXT NOT NULL, began TEXT, took REAL
) WITHOUT ROWID;
"""

_FACTS = """
CREATE TABLE facts (key TEXT PRIMARY KEY, fact TEXT NOT NULL) WITHOUT ROWID;
"""

# A million rows are to fit on any disk: each key is written once a table, a SHA-256 is 32 bytes, a path is looked up by
# its hash, and `at` is in microseconds since 1970 (rows of an earlier layout keep its text).
_FILES = """
CREATE TABLE files (
    key TEXT PRIMARY KEY, state TEXT NOT NULL, path TEXT NOT NULL, path_hash INTEGER, size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL, change TEXT NOT NULL, sha256 BLOB, md5 TEXT, verified_by TEXT NOT NULL,
    name TEXT NOT NULL,
    partial TEXT NOT NULL, reason TEXT NOT NULL, at INTEGER
) WITHOUT ROWID;
CREATE INDEX files_by_path ON files (path_hash) WHERE path_hash IS NOT NULL;
CREATE INDEX files_committing ON files (key) WHERE state = 'committing';
CREATE TABLE scopes (
    id INTEGER PRIMARY KEY, scope TEXT NOT NULL UNIQUE, generation INTEGER NOT NULL DEFAULT 0,
    ended INTEGER NOT NULL DEFAULT 0, watermark TEXT
);
CREATE TABLE seen (
    scope INTEGER NOT NULL, key TEXT NOT NULL, generation INTEGER NOT NULL, PRIMARY KEY (scope, key)
) WITHOUT ROWID;
"""

_LEASES = """
CREATE TABLE leases (
    id TEXT PRIMARY KEY, scope TEXT NOT NULL, machine TEXT NOT NULL, pid INTEGER NOT NULL, start TEXT NOT NULL,
    beats INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE claims (key TEXT PRIMARY KEY, run TEXT NOT NULL) WITHOUT ROWID;
"""

# A watermark belongs to one list that is walked. That of a whole scope, in `scopes`, is not read any more.
_WATERMARKS = """
CREATE TABLE watermarks (
    scope TEXT NOT NULL, list TEXT NOT NULL, at INTEGER NOT NULL, PRIMARY KEY (scope, list)
) WITHOUT ROWID;
"""

# `run` is what is refused together, `again` when it is due; times are in microseconds since 1970.
_REFUSALS = """
CREATE TABLE refusals (
    key TEXT NOT NULL, account TEXT NOT NULL, scope TEXT NOT NULL, kind TEXT NOT NULL, run TEXT NOT NULL,
    change TEXT NOT NULL, reason TEXT NOT NULL, since INTEGER NOT NULL, tries INTEGER NOT NULL, again INTEGER NOT NULL,
    PRIMARY KEY (key, account, scope)
) WITHOUT ROWID;
CREATE INDEX refusals_by_run ON refusals (account, kind, run, again);
CREATE INDEX refusals_by_scope ON refusals (scope);
"""

#: What the listings of this connection delivered; no later one asks for it, so it goes with the connection.
LISTED = """
CREATE TEMP TABLE listed (
    scope TEXT NOT NULL, generation INTEGER NOT NULL, key TEXT NOT NULL, name TEXT NOT NULL, change TEXT NOT NULL,
    path TEXT NOT NULL, folded TEXT NOT NULL, PRIMARY KEY (scope, generation, key)
) WITHOUT ROWID;
CREATE INDEX listed_by_path ON listed (scope, generation, folded);
"""

_SMALLER = f"""
DROP INDEX IF EXISTS files_by_path;
DROP INDEX IF EXISTS files_committing;
ALTER TABLE files RENAME TO old_files;
ALTER TABLE scopes RENAME TO old_scopes;
ALTER TABLE seen RENAME TO old_seen;
{_FILES}
INSERT INTO files
    SELECT key, state, path, path_hash(folded), size, mtime_ns, change, packed(sha256), md5, verified_by,
        name, partial, reason, at
    FROM old_files;
INSERT INTO scopes (scope, generation, ended, watermark) SELECT scope, generation, ended, watermark FROM old_scopes;
INSERT INTO seen SELECT s.id, o.key, o.generation FROM old_seen o JOIN scopes s ON s.scope = o.scope;
DROP TABLE old_files;
DROP TABLE old_scopes;
DROP TABLE old_seen;
"""  # noqa: S608 - nothing but our own statements

# Listings of changes had a scope of their own, in which their files were never found gone.
_ONE_SCOPE = """
INSERT OR IGNORE INTO seen
    SELECT c.id, s.key, c.generation
    FROM scopes c JOIN scopes d ON d.scope IN (c.scope || ' (changes)', 'plan of ' || c.scope || ' (changes)')
        JOIN seen s ON s.scope = d.id;
DELETE FROM seen WHERE scope IN (SELECT id FROM scopes WHERE scope LIKE '% (changes)');
DELETE FROM scopes WHERE scope LIKE '% (changes)';
"""

#: What leads from each earlier layout to the next one.
_MIGRATIONS = {1: _JOBS, 2: _FACTS, 3: _SMALLER, 4: f"{_LEASES}{_WATERMARKS}{_REFUSALS}{_ONE_SCOPE}"}

SCHEMA = f"{_JOBS}{_FACTS}{_FILES}{_LEASES}{_WATERMARKS}{_REFUSALS}"


# ---- statements about listings

LISTED_BY_KEY = "SELECT key, name, change, path FROM listed WHERE scope = ? AND generation = ? AND key IN (%s)"

LISTED_BY_PATH = "SELECT folded, key FROM listed WHERE scope = ? AND generation = ? AND folded IN (%s)"

INSERT_LISTED = """
INSERT INTO listed (scope, generation, key, name, change, path, folded) VALUES (?, ?, ?, ?, ?, ?, ?)
"""

SCOPE = "SELECT id, generation FROM scopes WHERE scope = ?"

NEW_SCOPE = "INSERT INTO scopes (scope, generation) VALUES (?, ?)"

UPSERT_SEEN = """
INSERT INTO seen (scope, key, generation) VALUES (?, ?, ?)
ON CONFLICT (scope, key) DO UPDATE SET generation = max(generation, excluded.generation)
"""

COUNT_KNOWN = """
SELECT count(*) FROM scopes c CROSS JOIN seen s ON s.scope = c.id CROSS JOIN files f ON f.key = s.key
WHERE c.scope = ? AND f.state <> 'skipped'
"""

BEGIN_LISTING = """
INSERT INTO scopes (scope, generation) VALUES (?, 1) ON CONFLICT (scope) DO UPDATE SET generation = generation + 1
"""

COUNT_ODD_SCOPES = """
SELECT count(*) FROM scopes
WHERE typeof(generation) <> 'integer' OR typeof(ended) <> 'integer' OR ended NOT BETWEEN 0 AND generation
    OR generation > 1000000000000
"""

# What an earlier listing noted may be on its way to the disk still, so it is forgotten one listing later.
FORGET_SEEN = """
DELETE FROM seen WHERE scope = (SELECT id FROM scopes WHERE scope = :scope)
    AND generation < (SELECT min(ended, :generation) FROM scopes WHERE scope = :scope)
    AND NOT EXISTS (SELECT 1 FROM files WHERE files.key = seen.key)
"""

END_LISTING = "UPDATE scopes SET ended = max(ended, ?) WHERE scope = ?"

FORGET_LISTED = "DELETE FROM listed WHERE scope = ? AND generation <= ?"

SET_WATERMARK = """
INSERT INTO watermarks (scope, list, at) VALUES (?, ?, ?)
ON CONFLICT (scope, list) DO UPDATE SET at = max(at, excluded.at)
"""

FORGET_WATERMARKS = """
DELETE FROM watermarks
WHERE scope = ? AND (typeof(list) <> 'text' OR typeof(at) <> 'integer' OR at NOT BETWEEN 0 AND ?)
"""

# The keys of its other rows have a mark behind it, which begins with a tilde.
HAS_SEVERAL = "SELECT EXISTS (SELECT 1 FROM files WHERE key > ? AND key < ? AND length(key) = ?)"


def path_hash(folded: str) -> int | None:
    """Return the number by which a folded path is looked up, or None for no path. Two paths may share one."""
    if not folded:
        return None
    digest = hashlib.blake2b(folded.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def _packed(digest: Any) -> Any:
    """Return the bytes of a digest in hexadecimal, which :func:`decoded` reads back; anything else as it is."""
    try:
        packed = bytes.fromhex(digest)
    except (TypeError, ValueError):
        return digest
    return packed if packed.hex() == digest else digest


#: How the message begins that a table is missing, which a damaged or foreign file leads to.
NO_TABLE = "no such table"


class ForeignLedgerError(sqlite3.DatabaseError):
    """The file holds what this library cannot have written."""


# https://www.sqlite.org/rescode.html
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


def error_code(error: Exception) -> int:
    """Return the primary result code."""
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF


def is_damage(error: Exception) -> bool:
    """Return whether the file is damaged or no ledger; so it is where a table, a number or a text is not ours."""
    if isinstance(error, ForeignLedgerError | OverflowError) or error_code(error) in _DAMAGED:
        return True
    return str(error).startswith((NO_TABLE, "no such column", "Could not decode"))


#: Bytes of one value at most; ours are far smaller.
_MAX_VALUE = 64 * MIB


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
    """Read what :func:`_writable` or :func:`_packed` has written."""
    if isinstance(value, bytes):
        return value.hex()
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
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MAX_VALUE)
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    _check_objects(connection, version)
    if version > _VERSION:
        raise StorageError(
            f"{path}: it was written by a newer version of arena_async (layout {version}, known up to {_VERSION}). "
            "Upgrade arena_async, or choose another folder."
        )
    if version == 0:
        _choose_journal(connection)
    connection.execute("PRAGMA synchronous = FULL")
    connection.create_function("path_hash", 1, lambda folded: path_hash(decoded(folded)))
    connection.create_function("packed", 1, _packed)
    connection.execute("BEGIN IMMEDIATE")
    # Another process may have been quicker.
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    for step in [SCHEMA] if version == 0 else [_MIGRATIONS[layout] for layout in range(version, _VERSION)]:
        for statement in step.split(";"):
            connection.execute(statement)
    if version < _VERSION:
        connection.execute(f"PRAGMA user_version = {_VERSION}")
    if _columns(connection) != _our_columns():
        raise ForeignLedgerError("its tables are not those of a ledger")
    connection.execute("COMMIT")


def _check_objects(connection: sqlite3.Connection, version: int) -> None:
    """
    Insist on tables of rows: a view may be endless, and a trigger does what it likes.

    Raises:
        ForeignLedgerError: There is something else.
    """
    found = connection.execute(
        "SELECT count(*) FROM sqlite_schema WHERE type NOT IN ('table', 'index') OR sql LIKE 'CREATE VIRTUAL%'"
    )
    if version < 0 or found.fetchone() != (0,):
        raise ForeignLedgerError("it holds a view, a trigger or a number that no ledger has")


def _columns(connection: sqlite3.Connection) -> set[tuple[Any, ...]]:
    """Return the columns of our tables: the table, name, and how it is constrained or computed. Its type may vary."""
    found: set[tuple[Any, ...]] = set()
    for table in re.findall("CREATE TABLE ([a-z_]+)", SCHEMA):
        rows = connection.execute(f"PRAGMA table_xinfo({table})")
        found.update((table, name, *rest) for _, name, _, *rest in rows)
    return found


@functools.cache
def _our_columns() -> set[tuple[Any, ...]]:
    """Return the columns as they are made."""
    with contextlib.closing(sqlite3.connect(":memory:")) as made:
        made.executescript(SCHEMA)
        return _columns(made)


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
