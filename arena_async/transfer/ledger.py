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
    refusals    which file failed for good, for which account (a salted hash), and when it is due again

    states      committing -> complete        (committing rows are resolved at the next start at the latest)
                skipped                       the listing says that it has no content: reason and time

No secret is ever in a row. All methods block and are meant for a thread.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeVar

from arena_async.errors import DiskFullError, StorageError
from arena_async.protocol.filenames import fold
from arena_async.transfer import leases, ledger_schema
from arena_async.transfer.ledger_copy import copy_ledger, has_copy, restore, set_aside_all
from arena_async.transfer.ledger_listing import begin_listing, note_listed
from arena_async.transfer.ledger_refusals import ACCEPTED, PROBES, UNLISTED, UNSETTLED, find, query, refuse
from arena_async.transfer.ledger_rows import (
    COLUMNS,
    FIELDS,
    load_run,
    load_time,
    look_up,
    microseconds,
    page_of,
    select,
    values_of,
)
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
from arena_async.transfer.local_files import create_private, size_of
from arena_async.transfer.models import PAGE, Action, KnownRow, LedgerEntry, ListingRecord, StartedRun
from arena_async.transfer.outcomes import Outcome
from arena_async.transfer.refusals import DAY, Refusal
from arena_async.transfer.workers import Lock

__all__ = ["Ledger"]

T = TypeVar("T")

log = logging.getLogger("arena_async")

#: The cached facts about the ledger itself: that one was lost, and when it was copied.
_LOST, _COPIED = "arena_async/lost", "arena_async/copied"


# The scopes are few and come first; nothing finds a key in all scopes at once.
_MISSING = f"""
SELECT {", ".join(f"f.{column}" for column in FIELDS)}
FROM scopes c CROSS JOIN seen s ON s.scope = c.id CROSS JOIN files f ON f.key = s.key
WHERE s.key > ? AND c.scope = ? AND s.generation < c.ended
    AND f.state <> 'skipped' AND NOT EXISTS (
        SELECT 1 FROM scopes d CROSS JOIN seen o ON o.scope = d.id AND o.key = s.key
        WHERE d.id <> c.id AND o.generation >= d.ended
    )
ORDER BY s.key LIMIT ?
"""
# The same key may be committed by another process meanwhile, from a partial file of its own.
_COMPLETE = "UPDATE files SET state = 'complete', partial = '' WHERE key = ? AND partial = ? AND state = 'committing'"

_VALUES = ", ".join(["packed(?)" if field == "sha256" else "?" for field in FIELDS])
_WRITE = f"INSERT OR REPLACE INTO files ({COLUMNS}, path_hash) VALUES ({_VALUES}, ?)"

_UNCLAIM = "DELETE FROM claims WHERE key = ?"

_RETIME = """
UPDATE files SET mtime_ns = ?
WHERE key = ? AND state = ? AND path = ? AND size = ? AND mtime_ns = ? AND change = ? AND sha256 IS packed(?)
"""
_unchanged_of = attrgetter("key", "state", "path", "size", "mtime_ns", "change", "sha256")

_FREE_PATH = "DELETE FROM files WHERE path_hash = ? AND key <> ?"


def _has_temporary_directory() -> bool:
    """Return whether SQLite finds a directory for what only serves a listing; in a container it may not."""
    import tempfile  # noqa: PLC0415  # Loaded with the first connection.

    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        return False
    return True


class Ledger:
    """
    The ledger of a directory, or a scratch one that remembers nothing but its own listings.

    Args:
        path: Its file in an existing directory; None for a scratch ledger in an unnamed file that the system removes,
            so that the size of a listing takes no memory.

    Attributes:
        set_aside: Where a damaged ledger was moved, or None. Its copy takes its place.
        adopts: Whether a ledger of this directory was lost once, so that files may be here that are not in it.
    """

    def __init__(self, path: Path | None) -> None:
        self.set_aside: Path | None = None
        self.adopts = False
        #: Whether it keeps files from one run to the next.
        self.remembers = path is not None
        self._path = path
        self._name = "the notes of this run" if path is None else str(path)
        self._lock = Lock()
        #: Whether this object has found that the ledger, or a part of it, is lost.
        self._lost = False
        self._connection: sqlite3.Connection | None = None

    def open(self) -> None:
        """
        Open the file and create its tables if they are missing. Other methods do so as needed.

        Raises:
            StorageError: It cannot be opened, or was written by a newer version of this library.
            DiskFullError: No space is left.
        """
        self.adopts = bool(self.facts([_LOST])) and self.remembers

    def copy(self, proceed: Callable[[], int | None], *, now: datetime) -> None:
        """
        Copy it if the copy is a day old, while it is used.

        Args:
            proceed: Called now and then; raises to end it.
            now: The time (aware).

        Raises:
            StorageError: It could not be copied; the copy of before is still there.
        """
        if self._path is None:
            return
        copied = load_time(self.facts([_COPIED]).get(_COPIED))
        if not has_copy(self._path) or copied is None or not copied <= now < copied + DAY:
            copy_ledger(self._path, proceed)
            self.write_facts({_COPIED: str(microseconds(now))})

    def close(self) -> None:
        """Close it. Safe to call twice."""
        with self._lock:
            self._disconnect()

    # -- files

    def look_up(self, keys: Sequence[str]) -> dict[str, LedgerEntry]:
        """Return the entries of some keys; unknown ones are missing. Best in pages of :data:`PAGE`."""
        return self._run(look_up, keys)

    def entries(self, *, after: str = "", limit: int = PAGE, committing: bool = False) -> list[LedgerEntry]:
        """Return at most ``limit`` entries of files by key, behind the key ``after`` (or only ``committing`` ones)."""
        # The state stands in the statement: with a bound one SQLite would not use the index of the few such rows.
        which = "state = 'committing'" if committing else "state IN ('complete', 'committing')"
        query = f"SELECT {COLUMNS} FROM files WHERE key > ? AND {which} ORDER BY key LIMIT ?"
        return self._run(page_of, query, after, limit)

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

    def retime(self, times: Sequence[tuple[LedgerEntry, int]]) -> None:
        """Write other times (nanoseconds) of files whose rows are as given; a row that has changed since stays."""
        rows = [(mtime_ns, *_unchanged_of(entry)) for entry, mtime_ns in times]
        if rows and self.remembers:
            self._run(lambda db: db.executemany(_RETIME, rows))

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
        return self._run(lambda db: _prune(db, page_of(db, _MISSING, after, scope, PAGE), remove))

    # -- refusals

    def refuse(self, refusal: Refusal, account: str, scope: str, *, now: datetime) -> None:
        """
        Remember a file that failed; what is known about a file in the directory stays.

        Args:
            refusal: What was wrong.
            account: Whose request it was; only a salted hash of it is stored.
            scope: The name of the query that listed it.
            now: The time (aware).
        """
        if self.remembers:
            self._run(refuse, refusal, account, scope, now)

    def refusals(self, keys: Sequence[str], account: str, scope: str) -> dict[str, Refusal]:
        """Return what is remembered about at most a page of listed files that failed; the others are missing."""
        return self._run(find, keys, account, scope) if keys and self.remembers else {}

    def probes(self, account: str, *, now: datetime) -> dict[str, str]:
        """Return by refused run the file that is requested before the others, for the runs that are due."""
        return {run: key for run, key, _ in self._run(query, PROBES, account, now, {})}

    def has_unsettled(self, scope: str, account: str, *, now: datetime) -> bool:
        """Return whether a query lists files that failed and that an account is to request now."""
        return bool(self._run(query, UNSETTLED, account, now, {"scope": scope}))

    # -- listings

    def begin_listing(self, scope: str) -> int:
        """Begin a listing of a scope and return its generation."""
        return self._run(begin_listing, scope)

    def note_listed(self, scope: str, generation: int, rows: Sequence[ListingRecord]) -> list[KnownRow]:
        """Note a page of a listing and return what is known about each row, in order, in one transaction."""
        # A listing cut off by a power loss starts over, and its end is synced together with all that came before.
        return self._run(note_listed, scope, generation, rows, synced=False)

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
        return self._run(page_of, _MISSING, after, scope, limit)

    def count_known(self, scope: str) -> int:
        """Return how many files are here that listings of a scope have ever delivered."""
        return int(self._query((ledger_schema.COUNT_KNOWN, (scope,)))[0][0])

    def end_listing(self, scope: str, generation: int, *, whole: bool = True) -> None:
        """
        Remove rows that only served the look-ups of a listing, and note that it was complete.

        Args:
            scope: The name of the query.
            generation: The number of the listing.
            whole: Whether it was that of the whole query: what it lacks is gone.
        """
        forget_listed = (ledger_schema.FORGET_LISTED, (scope, generation))
        if self.remembers and not whole:
            self._query(forget_listed)
        elif self.remembers:
            forget_seen = (ledger_schema.FORGET_SEEN, {"scope": scope, "generation": generation})
            unlisted = (UNLISTED, {"scope": scope, "generation": generation})
            self._query(forget_listed, forget_seen, (ledger_schema.END_LISTING, (generation, scope)), unlisted)
        else:
            self._query(forget_listed, ("DELETE FROM seen", ()))

    def watermarks(self, scope: str, *, latest: datetime) -> dict[str, datetime]:
        """
        Return the newest change (aware) that a clean run has seen in each list of a scope.

        One after ``latest`` would hide every change; it is forgotten, like one that cannot be read.
        """
        forget = (ledger_schema.FORGET_WATERMARKS, (scope, microseconds(latest)))
        rows = self._query(forget, ("SELECT list, at FROM watermarks WHERE scope = ?", (scope,)))
        return {decoded(name): at for name, value in rows if (at := load_time(value)) is not None}

    def set_watermarks(self, scope: str, newest: Mapping[str, datetime]) -> None:
        """Write the newest change that a clean run has seen in each list of a scope; an older one changes nothing."""
        rows = [(scope, name, microseconds(at)) for name, at in newest.items()]
        self._run(lambda db: db.executemany(ledger_schema.SET_WATERMARK, rows))

    # -- runs of the service, cached metadata

    def started_run(self, key: str) -> StartedRun | None:
        """Return what an earlier version has noted about a run that was started, or None."""
        rows = self._query(("SELECT key, state, run, began, took FROM jobs WHERE key = ?", (key,)))
        return load_run(rows[0]) if rows else None

    def forget_started_run(self, key: str) -> None:
        """Remove what is known about a run."""
        self._query(("DELETE FROM jobs WHERE key = ?", (key,)))

    def facts(self, keys: Sequence[str]) -> dict[str, str]:
        """Return cached metadata by key; unknown keys are missing."""
        return self._run(lambda db: dict(select(db, "SELECT key, fact FROM facts WHERE key IN (%s)", keys)))

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
        return self._run(lambda db: (leases.claim(db, run, keys), look_up(db, keys)), synced=False)

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
            self._restore(self._path)
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
            if self._lost:
                self.adopts = True
                connection.execute("INSERT OR IGNORE INTO facts (key, fact) VALUES (?, '')", (_LOST,))
        except BaseException:
            connection.close()
            raise
        return connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _replace(self) -> None:
        """Move a damaged ledger aside; its copy, or a new one, takes its place at the next use."""
        self._disconnect()
        if self._path is not None:
            self.set_aside, self._lost = set_aside_all(self._path), True

    def _restore(self, path: Path) -> None:
        """Put the copy in the place of a ledger that was set aside, or is gone or empty."""
        if size_of(path) != 0:
            return
        restored = restore(path)
        self._lost = self._lost or restored
        if self._lost:
            aside = f"; it was set aside as {self.set_aside.name}" if self.set_aside is not None else ""
            then = (
                "Its copy takes its place (to begin anew, remove both). Files that came after the copy are read where "
                "the listing can prove them, else fetched again."
                if restored
                else "What it knew is unknown now: files are read where the listing can prove them, else fetched again."
            )
            log.warning("%s: the ledger was damaged, empty or gone%s. %s", path, aside, then)

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


def _write(db: LedgerConnection, entries: Sequence[LedgerEntry], completed: Sequence[LedgerEntry]) -> None:
    rows = [(*values_of(entry), microseconds(entry.at), path_hash(fold(entry.path))) for entry in entries]
    db.executemany(_COMPLETE, [(entry.key, entry.partial) for entry in completed])
    db.executemany(_UNCLAIM, [(entry.key,) for entry in completed])
    db.executemany(_FREE_PATH, [(row[-1], row[0]) for row in rows if row[-1] is not None])
    db.executemany(_WRITE, rows)
    db.executemany(ACCEPTED, [(entry.key,) for entry in entries if entry.state != "skipped"])


def _unchanged(db: LedgerConnection, entries: Sequence[LedgerEntry]) -> list[LedgerEntry]:
    known = look_up(db, [entry.key for entry in entries])
    return [entry for entry in entries if known.get(entry.key) == entry]


def _forget(db: LedgerConnection, keys: Iterable[str]) -> None:
    db.executemany("DELETE FROM files WHERE key = ?", [(key,) for key in keys])


def _replace(db: LedgerConnection, rows: Sequence[tuple[LedgerEntry, LedgerEntry | None]]) -> None:
    same = {entry.key for entry in _unchanged(db, [old for old, _ in rows])}
    _forget(db, [old.key for old, new in rows if new is None and old.key in same])
    _write(db, [new for old, new in rows if new is not None and old.key in same], ())


def _prune(
    db: LedgerConnection, entries: Iterable[LedgerEntry], remove: Callable[[LedgerEntry], Outcome]
) -> list[Outcome]:
    outcomes = [remove(entry) for entry in entries]
    _forget(db, [one.file.key for one in outcomes if one.action is Action.PRUNE and one.error is None])
    return outcomes
