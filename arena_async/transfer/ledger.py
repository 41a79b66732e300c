# ruff: noqa: S608 - every value is bound; what is put into a statement is our own column names and placeholders.
"""
The ledger: what is known about each file of a directory, in SQLite, safe for several processes and threads.

::

    files       one row a key: state, path, size and time on disk, change mark, digests, vendor's name, partial
    seen        which listing (scope, generation) last delivered which key
    scopes      per scope, the last listing begun, the last listing that was complete, and the watermark
    listed      what the listings of this run delivered: name, change mark and target path (a temporary table)
    jobs        per run definition of a service, the run that was started last for this directory
    facts       cached metadata that cannot change at the service any more

    states      committing -> complete        (committing rows are resolved at the next start at the latest)
                skipped                       the service will never deliver it: reason and time

No secret is ever in a row. All methods block and are meant for a thread.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeVar, get_args

import attrs

from arena_async.errors import DiskFullError, StorageError
from arena_async.protocol.filenames import fold
from arena_async.transfer.ledger_schema import (
    LISTED,
    SCHEMA,
    ForeignLedgerError,
    LedgerConnection,
    decoded,
    error_code,
    is_damage,
    is_our_row,
    path_hash,
    prepare,
)
from arena_async.transfer.local_files import create_private, set_aside
from arena_async.transfer.models import (
    PAGE,
    KnownRow,
    LedgerEntry,
    ListingRecord,
    RunState,
    StartedRun,
)
from arena_async.transfer.workers import Lock

__all__ = ["Ledger"]

T = TypeVar("T")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

log = logging.getLogger("arena_async")

_FIELDS = tuple([field.name for field in attrs.fields(LedgerEntry)])
_COLUMNS = ", ".join(_FIELDS)
#: All fields but the time, which is stored as a number.
_values_of = attrgetter(*_FIELDS[:-1])

_LOOK_UP = f"SELECT {_COLUMNS} FROM files WHERE key IN (%s)"

_LISTED_BY_KEY = "SELECT key, name, change, path FROM listed WHERE scope = ? AND generation = ? AND key IN (%s)"

_LISTED_BY_PATH = "SELECT folded, key FROM listed WHERE scope = ? AND generation = ? AND folded IN (%s)"

_INSERT_LISTED = """
INSERT INTO listed (scope, generation, key, name, change, path, folded) VALUES (?, ?, ?, ?, ?, ?, ?)
"""

_UPSERT_SEEN = """
INSERT INTO seen (scope, key, generation) VALUES ((SELECT id FROM scopes WHERE scope = ?), ?, ?)
ON CONFLICT (scope, key) DO UPDATE SET generation = excluded.generation
"""

# The scopes are few and come first; nothing finds a key in all scopes at once.
_MISSING = f"""
SELECT {", ".join(f"f.{column}" for column in _FIELDS)}
FROM seen s JOIN files f ON f.key = s.key
WHERE s.key > ?1 AND s.scope = (SELECT id FROM scopes WHERE scope = ?2) AND s.generation < ?3
    AND f.state <> 'skipped' AND NOT EXISTS (
        SELECT 1 FROM scopes c CROSS JOIN seen o ON o.scope = c.id AND o.key = s.key
        WHERE c.id <> s.scope AND o.generation >= c.ended
    )
ORDER BY s.key LIMIT ?4
"""

_BEGIN_LISTING = """
INSERT INTO scopes (scope, generation) VALUES (?, 1) ON CONFLICT (scope) DO UPDATE SET generation = generation + 1
"""

_COUNT_ODD_SCOPES = """
SELECT count(*) FROM scopes
WHERE typeof(generation) <> 'integer' OR typeof(ended) <> 'integer' OR ended NOT BETWEEN 0 AND generation
    OR generation > 1000000000000
"""

_FORGET_SEEN = """
DELETE FROM seen WHERE scope = (SELECT id FROM scopes WHERE scope = ?) AND generation < ?
    AND NOT EXISTS (SELECT 1 FROM files WHERE files.key = seen.key)
"""

_FORGET_LISTED = "DELETE FROM listed WHERE scope = ? AND generation <= ?"

_SET_WATERMARK = """
INSERT INTO scopes (scope, watermark) VALUES (?, ?) ON CONFLICT (scope) DO UPDATE SET watermark = excluded.watermark
"""

_COMPLETE = "UPDATE files SET state = 'complete', partial = '' WHERE key = ? AND state = 'committing'"

_VALUES = ", ".join(["packed(?)" if field == "sha256" else "?" for field in _FIELDS])
_WRITE = f"INSERT OR REPLACE INTO files ({_COLUMNS}, path_hash) VALUES ({_VALUES}, ?)"

_FREE_PATH = "DELETE FROM files WHERE path_hash = ? AND key <> ?"

_SKIP = f"""
INSERT INTO files ({_COLUMNS}) VALUES (?, 'skipped', '', 0, 0, ?, NULL, NULL, 'none', ?, '', ?, ?)
ON CONFLICT (key) DO UPDATE SET state = 'skipped', change = excluded.change, name = excluded.name,
    reason = excluded.reason, at = excluded.at
"""


def _select(db: sqlite3.Connection, query: str, keys: Sequence[str], *values: object) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of a query for some keys, which are bound behind the other values, a page at a time."""
    for start in range(0, len(keys), PAGE):
        page = keys[start : start + PAGE]
        yield from db.execute(query % ", ".join("?" * len(page)), (*values, *page))


def _has_temporary_directory() -> bool:
    """Return whether SQLite finds a directory for what only serves a listing; in a container it may not."""
    import tempfile  # noqa: PLC0415  # Loaded with the first connection.

    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        return False
    return True


def _dump_time(at: datetime | None) -> str | None:
    return None if at is None else at.astimezone(UTC).isoformat()


def _load_time(value: object) -> datetime | None:
    try:
        # A ledger that was made before times were numbers keeps them as text.
        if isinstance(value, int) or str(value).isdigit():
            at = _EPOCH + timedelta(microseconds=int(str(value)))
        else:
            at = datetime.fromisoformat(str(value))
    except (ValueError, OverflowError):
        return None
    return at if at.tzinfo is not None and 1970 <= at.year < 9000 else None


def _microseconds(at: datetime | None) -> int | None:
    """Return a time as a row of a file has it, in 8 bytes: the microseconds since 1970."""
    return None if at is None else (at - _EPOCH) // timedelta(microseconds=1)


def _load_entries(rows: Iterable[tuple[Any, ...]]) -> Iterator[LedgerEntry]:
    """Yield the entries of rows; one that this library cannot have written counts as unknown."""
    for row in rows:
        if is_our_row(dict(zip(_FIELDS, row, strict=True))):
            fields = dict(zip(_FIELDS, map(decoded, row), strict=True))
            yield LedgerEntry(**{**fields, "at": _load_time(fields["at"])})


def _load_run(row: tuple[Any, ...]) -> StartedRun | None:
    """Read a row; one that this library cannot have written counts as unknown."""
    key, state, run, began, took = map(decoded, row)
    if state not in get_args(RunState) or not (took is None or (isinstance(took, float | int) and 0 <= took < 1e9)):
        return None
    return StartedRun(key=key, state=state, run=str(run), began=_load_time(began), took=took)


class Ledger:
    """
    The ledger of a directory, or a scratch one that remembers nothing but its own listings.

    Args:
        path: Its file in an existing directory; None for a scratch ledger in an unnamed file that the system removes,
            so that the size of a listing takes no memory.

    Attributes:
        set_aside: Where a damaged ledger was moved, or None. Its files are unknown then and downloaded again.
    """

    def __init__(self, path: Path | None) -> None:
        self.set_aside: Path | None = None
        #: Whether it keeps files from one run to the next.
        self.remembers = path is not None
        self._path = path
        self._name = "the notes of this run" if path is None else str(path)
        self._lock = Lock()
        self._connection: sqlite3.Connection | None = None

    def open(self) -> None:
        """
        Open the file and create its tables if they are missing. Other methods do so as needed.

        Raises:
            StorageError: It cannot be opened, or was written by a newer version of this library.
            DiskFullError: No space is left.
        """
        self._query()

    def close(self) -> None:
        """Close it. Safe to call twice."""
        with self._lock:
            self._disconnect()

    # -- files

    def look_up(self, keys: Sequence[str]) -> dict[str, LedgerEntry]:
        """Return the entries of some keys; unknown ones are missing. Best in pages of :data:`PAGE`."""
        return self._run(_look_up, keys)

    def entries(self, *, after: str = "", limit: int = PAGE, committing: bool = False) -> list[LedgerEntry]:
        """Return at most ``limit`` entries of files by key, behind the key ``after`` (or only ``committing`` ones)."""
        # The state stands in the statement: with a bound one SQLite would not use the index of the few such rows.
        which = "state = 'committing'" if committing else "state IN ('complete', 'committing')"
        query = f"SELECT {_COLUMNS} FROM files WHERE key > ? AND {which} ORDER BY key LIMIT ?"
        return self._page(query, (after, limit))

    def _page(self, query: str, values: tuple[Any, ...]) -> list[LedgerEntry]:
        """Return the entries of a page of rows by key; where none of a page is ours, those of a later one."""
        rows: list[tuple[Any, ...]] = [values]
        while rows:
            rows = self._query((query, (rows[-1][0], *values[1:])))
            if found := list(_load_entries(rows)):
                return found
        return []

    def write(self, entries: Sequence[LedgerEntry], *, completed: Sequence[str] = ()) -> None:
        """
        Write entries in one transaction.

        A path belongs to one key: what was known about another key of the same path is forgotten.

        Args:
            entries: Replace what was known about their keys.
            completed: Keys of ``committing`` rows that have their final name now.
        """
        if self.remembers and (entries or completed):
            self._run(_write, entries, completed)

    def skip(self, key: str, reason: str, *, at: datetime, change: str = "", name: str = "") -> None:
        """Remember a permanent rejection; what is known about a file in the directory stays."""
        if self.remembers:
            self._query((_SKIP, (key, change, name, reason, _microseconds(at))))

    def forget(self, keys: Sequence[str]) -> None:
        """Remove the entries of some keys."""
        self._run(lambda db: db.executemany("DELETE FROM files WHERE key = ?", [(key,) for key in keys]))

    # -- listings

    def begin_listing(self, scope: str) -> int:
        """Begin a listing of a scope and return its generation."""
        return self._run(_begin_listing, scope)

    def note_listed(self, scope: str, generation: int, rows: Sequence[ListingRecord]) -> list[KnownRow]:
        """Note a page of a listing and return what is known about each row, in order, in one transaction."""
        # A listing cut off by a power loss starts over, and its end is synced together with all that came before.
        return self._run(_note_listed, scope, generation, rows, synced=False)

    def missing(self, scope: str, generation: int, *, after: str = "", limit: int = PAGE) -> list[LedgerEntry]:
        """
        Return complete files of the scope that its listing of this generation did not deliver, by key.

        A file that the newest complete listing of another scope still delivers is not among them.

        Args:
            scope: The name of the query.
            generation: What :meth:`begin_listing` returned.
            after: The last key of the page before.
            limit: Rows at most.
        """
        return self._page(_MISSING, (after, scope, generation, limit))

    def end_listing(self, scope: str, generation: int) -> None:
        """Note that a listing was complete, and remove rows that only served its own look-ups."""
        forget_listed = (_FORGET_LISTED, (scope, generation))
        if self.remembers:
            ended = ("UPDATE scopes SET ended = ? WHERE scope = ?", (generation, scope))
            self._query(forget_listed, ended, (_FORGET_SEEN, (scope, generation)))
        else:
            self._query(forget_listed, ("DELETE FROM seen", ()))

    def watermark(self, scope: str) -> datetime | None:
        """Return the newest change that a clean run of a scope has seen (aware), or None."""
        rows = self._query(("SELECT watermark FROM scopes WHERE scope = ?", (scope,)))
        return _load_time(rows[0][0]) if rows else None

    def set_watermark(self, scope: str, value: datetime | None) -> None:
        """Write the newest change that a clean run of a scope has seen."""
        self._query((_SET_WATERMARK, (scope, _dump_time(value))))

    # -- runs of the service, cached metadata

    def started_run(self, key: str) -> StartedRun | None:
        """Return what is known about a run that was started, or None."""
        rows = self._query(("SELECT key, state, run, began, took FROM jobs WHERE key = ?", (key,)))
        return _load_run(rows[0]) if rows else None

    def write_started_run(self, run: StartedRun) -> None:
        """Write what is known about a run now; it is on the disk when this returns."""
        row = (run.key, run.state, run.run, _dump_time(run.began), run.took)
        statement = "INSERT OR REPLACE INTO jobs (key, state, run, began, took) VALUES (?, ?, ?, ?, ?)"
        self._query((statement, row))

    def facts(self, keys: Sequence[str]) -> dict[str, str]:
        """Return cached metadata by key; unknown keys are missing."""
        return self._run(lambda db: dict(_select(db, "SELECT key, fact FROM facts WHERE key IN (%s)", keys)))

    def write_facts(self, facts: Mapping[str, str]) -> None:
        """Write cached metadata, in one transaction."""
        statement = "INSERT OR REPLACE INTO facts (key, fact) VALUES (?, ?)"
        self._run(lambda db: db.executemany(statement, list(facts.items())))

    # -- transactions

    def _query(self, *statements: tuple[str, object]) -> list[tuple[Any, ...]]:
        """Execute statements with their values in one transaction, and return the rows of the last one."""
        results = self._run(lambda db: [db.execute(*statement).fetchall() for statement in statements])
        return results[-1] if results else []

    def _run(self, call: Callable[..., T], *args: Any, synced: bool = True) -> T:
        """Run a call in one transaction; a damaged ledger is replaced, and the call repeated."""
        with self._lock:
            for remedy in (self._disconnect, self._replace, None):
                try:
                    return self._transact(call, *args, synced=synced)
                except (sqlite3.Error, OverflowError) as error:
                    if remedy is None or self._path is None or not is_damage(error):
                        raise self._explained(error) from error
                    # First it is opened anew: another process may have moved the damaged one aside already.
                    log.warning("%s: the ledger is damaged (%s).", self._name, error)
                    remedy()
            raise AssertionError

    def _transact(self, call: Callable[..., T], *args: Any, synced: bool) -> T:
        """Run a call in one transaction, whose loss by a power failure must cost nothing where it is not synced."""
        if self._connection is None:
            self._connection = self._connect()
        db = self._connection
        relaxed = not synced and db.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
        if relaxed:
            # https://www.sqlite.org/pragma.html#pragma_synchronous
            db.execute("PRAGMA synchronous = NORMAL")
        try:
            # Taking the write lock at once avoids the deadlock of two readers that both want to write.
            db.execute("BEGIN IMMEDIATE")
            try:
                result = call(db, *args)
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise
        finally:
            if relaxed:
                db.execute("PRAGMA synchronous = FULL")
        return result

    def _connect(self) -> sqlite3.Connection:
        """Open the file and create the tables if they are missing."""
        if self._path is not None:
            create_private(self._path)
        on_disk = _has_temporary_directory()
        connection = sqlite3.connect(
            self._path or ("" if on_disk else ":memory:"),
            timeout=10.0,  # Another process is waited for so long.
            isolation_level=None,
            check_same_thread=False,  # One thread at a time uses it, under the lock.
            factory=LedgerConnection,
        )
        try:
            if self._path is not None:
                prepare(connection, self._path)
            else:
                connection.execute("PRAGMA synchronous = OFF")
                connection.executescript(SCHEMA)
            if not on_disk:
                connection.execute("PRAGMA temp_store = MEMORY")
            connection.executescript(LISTED)
        except BaseException:
            connection.close()
            raise
        return connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _replace(self) -> None:
        """Move a damaged ledger aside, with the files that belong to it; a new one is made at the next use."""
        self._disconnect()
        path = self._path
        if path is None:
            return
        self.set_aside = set_aside(path, ".damaged")
        for companion in ("-wal", "-shm", "-journal"):
            beside = path.with_name(path.name + companion)
            if beside.exists():
                set_aside(beside, ".damaged")
        log.warning(
            "%s: it was set aside as %s. What it knew is unknown now, so files are fetched again.",
            path,
            self.set_aside.name,
        )

    def _explained(self, error: Exception) -> StorageError:
        """Return the typed error for an error of SQLite."""
        code = error_code(error)
        if code == sqlite3.SQLITE_FULL:
            return DiskFullError(f"{self._name}: no room is left for the ledger. Free some space and run again.")
        if code == sqlite3.SQLITE_BUSY:
            return StorageError(
                f"{self._name}: another process holds the ledger for too long. Let it end, or end it, and run again."
            )
        return StorageError(
            f"{self._name}: the ledger could not be read or written ({error}). "
            "Check the disk, and who owns the folder, and run again."
        )


def _look_up(db: sqlite3.Connection, keys: Sequence[str]) -> dict[str, LedgerEntry]:
    return {entry.key: entry for entry in _load_entries(_select(db, _LOOK_UP, keys))}


def _write(db: sqlite3.Connection, entries: Sequence[LedgerEntry], completed: Sequence[str]) -> None:
    rows = [(*_values_of(entry), _microseconds(entry.at), path_hash(fold(entry.path))) for entry in entries]
    db.executemany(_COMPLETE, [(key,) for key in completed])
    db.executemany(_FREE_PATH, [(row[-1], row[0]) for row in rows if row[-1] is not None])
    db.executemany(_WRITE, rows)


def _begin_listing(db: sqlite3.Connection, scope: str) -> int:
    db.execute(_BEGIN_LISTING, (scope,))
    (odd,) = db.execute(_COUNT_ODD_SCOPES).fetchone()
    if odd:
        raise ForeignLedgerError("it numbers its listings as no ledger does")
    (generation,) = db.execute("SELECT generation FROM scopes WHERE scope = ?", (scope,)).fetchone()
    return int(generation)


def _note_listed(db: sqlite3.Connection, scope: str, generation: int, rows: Sequence[ListingRecord]) -> list[KnownRow]:
    entries = _look_up(db, [row.key for row in rows])
    folded = [fold(row.path) for row in rows]
    # What this listing has delivered so far: the first row of each key, and the key of each path.
    found = _select(db, _LISTED_BY_KEY, [row.key for row in rows], scope, generation)
    earlier = {record.key: record for record in (ListingRecord(*map(decoded, row)) for row in found)}
    found = _select(db, _LISTED_BY_PATH, [path for path in folded if path], scope, generation)
    owners = {decoded(path): decoded(key) for path, key in found}
    fresh, known = [], []
    for row, path in zip(rows, folded, strict=True):
        owner = owners.get(path) if path else None
        known.append(KnownRow(entries.get(row.key), earlier.get(row.key), owner if owner != row.key else None))
        if row.key not in earlier:
            earlier[row.key] = row
            fresh.append((scope, generation, row.key, row.name, row.change, row.path, path))
            owners.setdefault(path, row.key)
    # A ledger that was damaged since the listing began does not know the scope any more.
    db.execute("INSERT OR IGNORE INTO scopes (scope, generation) VALUES (?, ?)", (scope, generation))
    db.executemany(_INSERT_LISTED, fresh)
    db.executemany(_UPSERT_SEEN, [(scope, row[2], generation) for row in fresh])
    return known
