# ruff: noqa: S608 - every value is bound; what is put into a statement is our own column names and placeholders.
"""
The ledger: what is known about each file of a directory, in SQLite, safe for several processes and threads.

::

    files       one row a key: state, path, size and time on disk, change mark, digests, vendor's name, partial
    seen        per scope and key, the newest listing that had begun when a listing last delivered it; only grows
    scopes      per scope, the last listing begun and the newest listing that was complete; both only grow
    watermarks  per scope and list of it, the newest change that a clean run has seen; only grows
    listed      what the listings of this run delivered: name, change mark and target path (a temporary table)
    jobs        runs that an earlier version has started for this directory; no version since writes rows
    facts       cached metadata that cannot change at the service any more
    leases      the runs that are going on here, each with its query and process
    claims      the keys that they are downloading

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
from arena_async.protocol.filenames import duplicate_key, fold
from arena_async.transfer import leases, ledger_schema
from arena_async.transfer.ledger_schema import (
    LISTED,
    SCHEMA,
    LedgerConnection,
    decoded,
    error_code,
    is_damage,
    path_hash,
    prepare,
)
from arena_async.transfer.local_files import create_private, set_aside
from arena_async.transfer.models import (
    PAGE,
    Action,
    KnownRow,
    LedgerEntry,
    ListingRecord,
    Outcome,
    Proof,
    RunState,
    StartedRun,
    State,
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

# The scopes are few and come first; nothing finds a key in all scopes at once.
_MISSING = f"""
SELECT {", ".join(f"f.{column}" for column in _FIELDS)}
FROM scopes c CROSS JOIN seen s ON s.scope = c.id CROSS JOIN files f ON f.key = s.key
WHERE c.scope = :scope AND s.key > :after AND s.generation < c.ended
    AND f.state <> 'skipped' AND NOT EXISTS (
        SELECT 1 FROM scopes d CROSS JOIN seen o ON o.scope = d.id AND o.key = s.key
        WHERE d.id <> c.id AND o.generation >= d.ended
    )
ORDER BY s.key LIMIT :limit
"""
# The same key may be committed by another process meanwhile, from a partial file of its own.
_COMPLETE = "UPDATE files SET state = 'complete', partial = '' WHERE key = ? AND partial = ? AND state = 'committing'"

_VALUES = ", ".join(["packed(?)" if field == "sha256" else "?" for field in _FIELDS])
_WRITE = f"INSERT OR REPLACE INTO files ({_COLUMNS}, path_hash) VALUES ({_VALUES}, ?)"

_UNCLAIM = "DELETE FROM claims WHERE key = ?"

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
            return _EPOCH + timedelta(microseconds=int(str(value)))
        return datetime.fromisoformat(str(value)) if value else None
    except (ValueError, OverflowError):
        return None


def _microseconds(at: datetime | None) -> int | None:
    """Return a time as a row of a file has it, in 8 bytes: the microseconds since 1970."""
    return None if at is None else (at - _EPOCH) // timedelta(microseconds=1)


def _load_entries(rows: Iterable[tuple[Any, ...]]) -> Iterator[LedgerEntry]:
    """Yield the entries of rows; one that this library cannot have written counts as unknown."""
    for row in rows:
        fields = dict(zip(_FIELDS, map(decoded, row), strict=True))
        known = fields["state"] in get_args(State) and fields["verified_by"] in get_args(Proof)
        if known and isinstance(fields["size"], int) and isinstance(fields["mtime_ns"], int):
            yield LedgerEntry(**{**fields, "at": _load_time(fields["at"])})


def _load_run(row: tuple[Any, ...]) -> StartedRun | None:
    """Read a row; one that this library cannot have written counts as unknown."""
    key, state, run, began, took = map(decoded, row)
    if state not in get_args(RunState) or not isinstance(took, float | int | None):
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
        return list(_load_entries(self._query((query, (after, limit)))))

    def write(self, entries: Sequence[LedgerEntry], *, completed: Sequence[LedgerEntry] = ()) -> None:
        """
        Write entries in one transaction.

        A path belongs to one key: what was known about another key of the same path is forgotten.

        Args:
            entries: Replace what was known about their keys.
            completed: ``committing`` rows that have their final name now; one that was written anew meanwhile stays.
        """
        if self.remembers and (entries or completed):
            self._run(_write, entries, completed)

    def replace(self, rows: Sequence[tuple[LedgerEntry, LedgerEntry | None]]) -> None:
        """Write the second entry of each pair, or forget the row (None), if its row is still the first one."""
        self._run(_replace, rows)

    def prune(self, entries: Sequence[LedgerEntry], remove: Callable[[LedgerEntry], Outcome]) -> list[Outcome]:
        """
        Remove files in one transaction, in which no other process can write a row.

        Args:
            entries: Their rows; of those that are other rows by now nothing is removed.
            remove: Removes one file. Its row is forgotten where the outcome is a file that was removed.
        """
        return self._run(lambda db: _prune(db, _unchanged(db, entries), remove))

    def prune_missing(self, scope: str, remove: Callable[[LedgerEntry], Outcome], *, after: str = "") -> list[Outcome]:
        """Do the same with a page of what :meth:`missing` returns now."""
        return self._run(lambda db: _prune(db, _missing(db, scope, after, PAGE), remove))

    def skip(self, key: str, reason: str, *, at: datetime, change: str = "", name: str = "") -> None:
        """Remember a permanent rejection; what is known about a file in the directory stays."""
        if self.remembers:
            self._query((_SKIP, (key, change, name, reason, _microseconds(at))))

    # -- listings

    def begin_listing(self, scope: str) -> int:
        """Begin a listing of a scope and return its generation."""
        query = "SELECT generation FROM scopes WHERE scope = ?"
        rows = self._query((ledger_schema.BEGIN_LISTING, (scope,)), (query, (scope,)))
        return int(rows[0][0])

    def note_listed(self, scope: str, generation: int, rows: Sequence[ListingRecord]) -> list[KnownRow]:
        """Note a page of a listing and return what is known about each row, in order, in one transaction."""
        # A listing cut off by a power loss starts over, and its end is synced together with all that came before.
        return self._run(_note_listed, scope, generation, rows, synced=False)

    def missing(self, scope: str, *, after: str = "", limit: int = PAGE) -> list[LedgerEntry]:
        """
        Return complete files of the scope that its newest complete listing did not deliver, by key.

        A file that was delivered by another listing after that one had begun is not among them, nor one that the newest
        complete listing of another scope still delivers.

        Args:
            scope: The name of the query.
            after: The last key of the page before.
            limit: Rows at most.
        """
        return self._run(_missing, scope, after, limit)

    def count_known(self, scope: str) -> int:
        """Return how many files are here that listings of a scope have ever delivered."""
        return int(self._query((ledger_schema.COUNT_KNOWN, (scope,)))[0][0])

    def end_listing(self, scope: str, generation: int) -> None:
        """Note that a listing was complete, and remove rows that only served its own look-ups."""
        forget_listed = (ledger_schema.FORGET_LISTED, (scope, generation))
        if self.remembers:
            forget_seen = (ledger_schema.FORGET_SEEN, {"scope": scope, "generation": generation})
            self._query(forget_listed, forget_seen, (ledger_schema.END_LISTING, (generation, scope)))
        else:
            self._query(forget_listed, ("DELETE FROM seen", ()))

    def watermarks(self, scope: str) -> dict[str, datetime]:
        """Return the newest change (aware) that a clean run has seen in each list of a scope."""
        rows = self._query(("SELECT list, at FROM watermarks WHERE scope = ?", (scope,)))
        return {decoded(name): at for name, value in rows if (at := _load_time(value)) is not None}

    def set_watermarks(self, scope: str, newest: Mapping[str, datetime]) -> None:
        """Write the newest change that a clean run has seen in each list of a scope; an older one changes nothing."""
        rows = [(scope, name, _microseconds(at)) for name, at in newest.items()]
        self._run(lambda db: db.executemany(ledger_schema.SET_WATERMARK, rows))

    # -- runs of the service, cached metadata

    def started_run(self, key: str) -> StartedRun | None:
        """Return what an earlier version has noted about a run that was started, or None."""
        rows = self._query(("SELECT key, state, run, began, took FROM jobs WHERE key = ?", (key,)))
        return _load_run(rows[0]) if rows else None

    def forget_started_run(self, key: str) -> None:
        """Remove what is known about a run."""
        self._query(("DELETE FROM jobs WHERE key = ?", (key,)))

    def facts(self, keys: Sequence[str]) -> dict[str, str]:
        """Return cached metadata by key; unknown keys are missing."""
        return self._run(lambda db: dict(_select(db, "SELECT key, fact FROM facts WHERE key IN (%s)", keys)))

    def write_facts(self, facts: Mapping[str, str]) -> None:
        """Write cached metadata, in one transaction."""
        statement = "INSERT OR REPLACE INTO facts (key, fact) VALUES (?, ?)"
        self._run(lambda db: db.executemany(statement, list(facts.items())))

    # -- runs of this directory; what a power failure loses of them ends with their processes

    def other_leases(self, *, but: str) -> list[leases.Lease]:
        """Return the leases of all runs but one."""
        return self._run(leases.select, but, synced=False)

    def take_lease(self, lease: leases.Lease, ended: Sequence[leases.Lease]) -> list[leases.Lease]:
        """Remove leases that have ended, write one if no other run has the same query, and return all others."""
        return self._run(leases.take, lease, ended, synced=False)

    def renew_lease(self, lease: leases.Lease, dropped: Sequence[str]) -> None:
        """Count a lease on, and remove its claims of some keys."""
        self._run(leases.renew, lease, dropped, synced=False)

    def end_leases(self, ended: Sequence[leases.Lease]) -> None:
        """Remove leases with their claims, but those of other runs that have counted on since they were read."""
        self._run(leases.end, ended, synced=False)

    def claim(self, run: str, keys: Sequence[str]) -> tuple[set[str], dict[str, LedgerEntry]]:
        """Claim keys for a run; return those that other runs have claimed, and what is known about all of them."""
        return self._run(lambda db: (leases.claim(db, run, keys), _look_up(db, keys)), synced=False)

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
                except sqlite3.DatabaseError as error:
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

    def _explained(self, error: sqlite3.DatabaseError) -> StorageError:
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


def _write(db: sqlite3.Connection, entries: Sequence[LedgerEntry], completed: Sequence[LedgerEntry]) -> None:
    rows = [(*_values_of(entry), _microseconds(entry.at), path_hash(fold(entry.path))) for entry in entries]
    db.executemany(_COMPLETE, [(entry.key, entry.partial) for entry in completed])
    db.executemany(_UNCLAIM, [(entry.key,) for entry in completed])
    db.executemany(_FREE_PATH, [(row[-1], row[0]) for row in rows if row[-1] is not None])
    db.executemany(_WRITE, rows)


def _unchanged(db: sqlite3.Connection, entries: Sequence[LedgerEntry]) -> list[LedgerEntry]:
    known = _look_up(db, [entry.key for entry in entries])
    return [entry for entry in entries if known.get(entry.key) == entry]


def _forget(db: sqlite3.Connection, keys: Iterable[str]) -> None:
    db.executemany("DELETE FROM files WHERE key = ?", [(key,) for key in keys])


def _replace(db: sqlite3.Connection, rows: Sequence[tuple[LedgerEntry, LedgerEntry | None]]) -> None:
    same = {entry.key for entry in _unchanged(db, [old for old, _ in rows])}
    _forget(db, [old.key for old, new in rows if new is None and old.key in same])
    _write(db, [new for old, new in rows if new is not None and old.key in same], ())


def _missing(db: sqlite3.Connection, scope: str, after: str, limit: int) -> list[LedgerEntry]:
    return list(_load_entries(db.execute(_MISSING, {"scope": scope, "after": after, "limit": limit})))


def _prune(
    db: sqlite3.Connection, entries: Iterable[LedgerEntry], remove: Callable[[LedgerEntry], Outcome]
) -> list[Outcome]:
    outcomes = [remove(entry) for entry in entries]
    _forget(db, [one.file.key for one in outcomes if one.action is Action.PRUNE and one.error is None])
    return outcomes


def _has_several(db: sqlite3.Connection, key: str) -> bool:
    return bool(
        db.execute(ledger_schema.HAS_SEVERAL, (f"{key}~", f"{key}~g", len(duplicate_key(key, "")))).fetchone()[0]
    )


def _note_listed(db: sqlite3.Connection, scope: str, generation: int, rows: Sequence[ListingRecord]) -> list[KnownRow]:
    entries = _look_up(db, [row.key for row in rows])
    folded = [fold(row.path) for row in rows]
    # What this listing has delivered so far: the first row of each key, and the key of each path.
    found = _select(db, ledger_schema.LISTED_BY_KEY, [row.key for row in rows], scope, generation)
    earlier = {record.key: record for record in (ListingRecord(*map(decoded, row)) for row in found)}
    found = _select(db, ledger_schema.LISTED_BY_PATH, [path for path in folded if path], scope, generation)
    owners = {decoded(path): decoded(key) for path, key in found}
    fresh, known = [], []
    for row, path in zip(rows, folded, strict=True):
        owner = owners.get(path) if path else None
        entry = entries.get(row.key)
        several = entry is not None and entry.name != row.name and _has_several(db, row.key)
        known.append(KnownRow(entry, earlier.get(row.key), owner if owner != row.key else None, several))
        if row.key not in earlier:
            earlier[row.key] = row
            fresh.append((scope, generation, row.key, row.name, row.change, row.path, path))
            owners.setdefault(path, row.key)
    db.executemany(ledger_schema.INSERT_LISTED, fresh)
    # What is delivered now is there for every listing that has begun by now: an older one lowers no newer number.
    of_scope = db.execute(ledger_schema.SCOPE, (scope,)).fetchone()
    if of_scope is None:
        of_scope = db.execute(ledger_schema.NEW_SCOPE, (scope, generation)).lastrowid, generation
    db.executemany(ledger_schema.UPSERT_SEEN, [(of_scope[0], row[2], of_scope[1]) for row in fresh])
    return known
