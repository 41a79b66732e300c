# ruff: noqa: S608, ARG002 - every value is bound; what is put into a statement is our own column names and placeholders.
#                           Both ledgers have the same verbs, and the one without memory needs none of the arguments.
"""
What is known about each file of a folder, on disk, safe for several processes.

::

    files       one row a key: state, path, size and time on disk, change mark, digests, vendor's name, partial
    seen        which listing (scope, generation) last saw which key, under which name, and where it wants to go
    scopes      per scope, the listing begun last, the listing that came to its end last, and the watermark
    jobs        per job of the service whose result is brought here, the run that was started last
    facts       what cannot change any more at the service, so that nobody need ask for it again

    states      committing -> complete        (a row that says committing is settled at the next start at the latest)
                skipped                       the service will never give it: reason and time

No secret is ever in a row. All verbs are asynchronous; the work is done on one thread.
"""

from __future__ import annotations

import contextlib
import logging
import re
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Protocol, Self, TypeVar, get_args

import attrs

from arena_async.errors import DiskFullError, StorageError
from arena_async.transfer.integrity import Proof
from arena_async.transfer.local_files import create_private, set_aside
from arena_async.transfer.threads import Threads
from arena_async.wire.names import fold

__all__ = ["PAGE", "Entry", "Job", "JobState", "Known", "Ledger", "MemoryLedger", "Sighting", "SqliteLedger"]

T = TypeVar("T")

log = logging.getLogger("arena_async")

#: Keys of one look-up.
PAGE = 400

State = Literal["committing", "complete", "skipped"]
JobState = Literal["starting", "started", "over"]


@attrs.frozen(kw_only=True)
class Entry:
    """
    What the ledger knows about one file.

    Args:
        key: Names the file for ever.
        state: ``complete``: it was brought home. ``committing``: it was verified and is about to get its name, or has
            it already; compare with what is on disk as for ``complete``. ``skipped``: the service will never give it.
        path: Below the root, with slashes; "" for what was skipped before it was ever here.
        size: Bytes on disk.
        mtime_ns: Time of the file on disk, nanoseconds since 1970.
        change: The change mark of the content.
        sha256: In hexadecimal, or None.
        md5: In hexadecimal, or None.
        verified_by: How the content was verified.
        name: The vendor's own file name.
        partial: The name of its partial file while it is committing, else "".
        reason: Why it was skipped, else "".
        at: When this was written down (aware), or None.
    """

    key: str
    state: State = "complete"
    path: str = ""
    size: int = 0
    mtime_ns: int = 0
    change: str = ""
    sha256: str | None = None
    md5: str | None = None
    verified_by: Proof = "none"
    name: str = ""
    partial: str = ""
    reason: str = ""
    at: datetime | None = None


@attrs.frozen(kw_only=True)
class Sighting:
    """
    One row of a listing.

    Args:
        key: Of the file.
        name: The vendor's name for it.
        change: Its change mark.
        path: Where it wants to go.
    """

    key: str
    name: str = ""
    change: str = ""
    path: str = ""


@attrs.frozen(kw_only=True)
class Known:
    """
    What the ledger answers to one row of a listing.

    Args:
        entry: What is known about the key, or None.
        earlier: The row of the same key that this listing brought before, or None.
        rival: The other key that this listing has already sent to the same path (or one that differs in case or
            composition only), or None.
    """

    entry: Entry | None = None
    earlier: Sighting | None = None
    rival: str | None = None


@attrs.frozen(kw_only=True)
class Job:
    """
    What is remembered about a job that a service does and whose result is brought here, so that nobody starts it twice.

    Args:
        key: Names the job, whenever it is done: service, tenant, and what is asked for.
        state: ``starting``: it is about to be started, or was, and no answer has come. ``started``: ``run`` was
            started and its result is not here yet. ``over``: nothing is left to do.
        run: What the service calls the run, or "".
        began: When it was started (aware), or None.
        took: Seconds that the last run needed, or None while that is not known.
    """

    key: str
    state: JobState = "over"
    run: str = ""
    began: datetime | None = None
    took: float | None = None


class Ledger(Protocol):
    """The verbs of every ledger."""

    async def look_up(self, keys: Sequence[str]) -> dict[str, Entry]:
        """Give what is known about some keys; unknown ones are missing. Best in pages of :data:`PAGE`."""
        ...

    async def begin_listing(self, scope: str) -> int:
        """Start a listing of a scope and give its generation."""
        ...

    async def see(self, scope: str, generation: int, rows: Sequence[Sighting]) -> list[Known]:
        """Note a page of a listing and give what is known about each row, in order, in one transaction."""
        ...

    async def gone(self, scope: str, generation: int, *, after: str = "", limit: int = PAGE) -> list[Entry]:
        """
        Give complete files of the scope that its listing of this generation did not bring, by key, ``limit`` at a time.

        A file that a listing of another scope still brings (in its newest whole listing) is not among them.

        Args:
            scope: The name of the query.
            generation: What :meth:`begin_listing` gave.
            after: The key of the last row of the page before.
            limit: Rows at the most.
        """
        ...

    async def end_listing(self, scope: str, generation: int) -> None:
        """Note that a listing was whole, and forget what it only noted to answer questions about itself."""
        ...

    async def write(self, entries: Sequence[Entry], *, completed: Sequence[str] = ()) -> None:
        """
        Write entries in one transaction.

        Args:
            entries: Replace what was known about their keys.
            completed: Keys of rows that were ``committing`` and have their final name now.
        """
        ...

    async def skip(self, key: str, reason: str, *, at: datetime, change: str = "", name: str = "") -> None:
        """Remember a refusal that is for ever."""
        ...

    async def forget(self, keys: Sequence[str]) -> None:
        """Forget some keys."""
        ...

    async def entries(
        self, *, after: str = "", limit: int = PAGE, states: Sequence[State] = ("complete", "committing")
    ) -> list[Entry]:
        """Give entries by key, ``limit`` at a time, behind the key ``after``."""
        ...

    async def watermark(self, scope: str) -> datetime | None:
        """Say how far a clean run of a scope has come (aware), or None."""
        ...

    async def set_watermark(self, scope: str, value: datetime | None) -> None:
        """Write down how far a clean run of a scope has come."""
        ...

    async def job(self, key: str) -> Job | None:
        """Give what is known about a job, or None."""
        ...

    async def note_job(self, job: Job) -> None:
        """Write down what is known about a job now."""
        ...

    async def recall(self, keys: Sequence[str]) -> dict[str, str]:
        """Give facts by their keys; unknown ones are missing."""
        ...

    async def keep(self, facts: Mapping[str, str]) -> None:
        """Write facts down, in one transaction."""
        ...

    async def aclose(self) -> None:
        """Close it. Safe twice."""
        ...


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

_SCHEMA = f"""{_JOBS}{_FACTS}
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

_COLUMNS = "key, state, path, size, mtime_ns, change, sha256, md5, verified_by, name, partial, reason, at"

_UPSERT_SEEN = """
INSERT INTO seen (scope, key, generation, name, change, path, folded) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (scope, key) DO UPDATE SET generation = excluded.generation, name = excluded.name,
    change = excluded.change, path = excluded.path, folded = excluded.folded
"""

_GONE = f"""
SELECT {", ".join(f"f.{column}" for column in _COLUMNS.split(", "))}
FROM seen s JOIN files f ON f.key = s.key
WHERE s.scope = :scope AND s.key > :after AND s.generation < :generation AND f.state <> 'skipped'
    AND NOT EXISTS (
        SELECT 1 FROM seen o JOIN scopes c ON c.scope = o.scope
        WHERE o.key = s.key AND o.scope <> s.scope AND o.generation >= c.ended
    )
ORDER BY s.key LIMIT :limit
"""

# https://www.sqlite.org/rescode.html
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


def _code(error: sqlite3.Error) -> int:
    """Give the primary result code."""
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    """Say whether the file is no ledger, or none any more; a missing table or column means the same."""
    return _code(error) in _DAMAGED or str(error).startswith(("no such table", "no such column"))


#: Half of a surrogate pair, which JSON may hold and UTF-8 may not, and how it is written down here.
_HALF = re.compile("[\ud800-\udfff]")
_HALF_WRITTEN = re.compile("\ufffe(d[89a-f][0-9a-f]{2})")


def _writable(value: Any) -> Any:
    """Give a text that can be written down; it reads back as it was."""
    return _HALF.sub(lambda half: f"\ufffe{ord(half[0]):04x}", value) if isinstance(value, str) else value


def _as_it_was(value: Any) -> Any:
    """Read what :func:`_writable` has written."""
    if isinstance(value, str) and "\ufffe" in value:
        return _HALF_WRITTEN.sub(lambda found: chr(int(found[1], 16)), value)
    return value


class _Connection(sqlite3.Connection):
    """A connection that takes any text a service may send, and that leaves complaints to whom it belongs."""

    def __del__(self) -> None:
        """Close it, without the complaint that sqlite3 makes since Python 3.13: the owner makes one."""
        with contextlib.suppress(sqlite3.Error):
            self.close()

    def execute(self, statement: str, values: Any = (), /) -> sqlite3.Cursor:
        """Execute a statement; its values come as positions or by name."""
        try:
            return super().execute(statement, values)
        except UnicodeEncodeError:
            return super().execute(statement, self._writable(values))

    def executemany(self, statement: str, rows: Any, /) -> sqlite3.Cursor:
        """Execute a statement for each row; ``rows`` can be walked twice."""
        try:
            return super().executemany(statement, rows)
        except UnicodeEncodeError:
            return super().executemany(statement, [self._writable(row) for row in rows])

    @staticmethod
    def _writable(values: Any) -> Any:
        if isinstance(values, dict):
            return {name: _writable(value) for name, value in values.items()}
        return tuple(_writable(value) for value in values)


def _marks(values: Sequence[object]) -> str:
    """Give one placeholder for each value."""
    return ", ".join("?" * len(values))


def _dump_time(at: datetime | None) -> str | None:
    return None if at is None else at.astimezone(UTC).isoformat()


def _load_time(text: object) -> datetime | None:
    try:
        return datetime.fromisoformat(str(text)) if text else None
    except ValueError:
        return None


def _load_entry(row: tuple[Any, ...]) -> Entry | None:
    """Read a row; one that nobody of us can have written counts as unknown."""
    fields = dict(zip(_COLUMNS.split(", "), map(_as_it_was, row), strict=True))
    if fields["state"] not in get_args(State) or fields["verified_by"] not in get_args(Proof):
        return None
    if not isinstance(fields["size"], int) or not isinstance(fields["mtime_ns"], int):
        return None
    return Entry(**{**fields, "at": _load_time(fields["at"])})


def _load_job(row: tuple[Any, ...]) -> Job | None:
    """Read a row; one that nobody of us can have written counts as unknown."""
    key, state, run, began, took = map(_as_it_was, row)
    if state not in get_args(JobState) or not isinstance(took, float | int | None):
        return None
    return Job(key=key, state=state, run=str(run), began=_load_time(began), took=took)


def _load_entries(rows: Iterable[tuple[Any, ...]]) -> list[Entry]:
    return [entry for row in rows if (entry := _load_entry(row)) is not None]


def _pages(keys: Sequence[str]) -> Iterable[Sequence[str]]:
    """Cut keys into pages."""
    return (keys[start : start + PAGE] for start in range(0, len(keys), PAGE))


class _Tables:
    """What both ledgers share: one thread with one connection, and the verbs about listings."""

    _replaceable = False

    def __init__(self, *, name: str, connect: Callable[[], sqlite3.Connection]) -> None:
        self._name = name
        self._connect = connect
        self._threads = Threads(1, name="arena_async-ledger")
        self._connection: sqlite3.Connection | None = None

    async def _run(self, call: Callable[..., T], *args: Any) -> T:
        """Do something in one transaction, on the thread."""
        return await self._threads.run(self._guarded, self._transact, call, *args)

    async def _run_lightly(self, call: Callable[..., T], *args: Any) -> T:
        """Do something in one transaction whose loss by a power cut costs nothing: the next forced one forces it."""
        return await self._threads.run(self._guarded, self._transact_lightly, call, *args)

    def _guarded(self, transact: Callable[..., T], call: Callable[..., T], *args: Any) -> T:
        """Give the typed error for what SQLite says; a damaged ledger is replaced, and asked once more."""
        for remedy in (self._disconnect, self._put_aside, None):
            try:
                return transact(call, *args)
            except sqlite3.DatabaseError as error:
                if remedy is None or not self._replaceable or not _is_damage(error):
                    raise self._explained(error) from error
                # First it is opened anew: another process may have put the damaged one aside already.
                log.warning("%s: the ledger is damaged (%s).", self._name, error)
                remedy()
        raise AssertionError

    def _transact(self, call: Callable[..., T], *args: Any) -> T:
        if self._connection is None:
            self._connection = self._connect()
        connection = self._connection
        # Taking the lock for writing at once avoids the dead end of two readers that both want to write.
        connection.execute("BEGIN IMMEDIATE")
        try:
            result = call(connection, *args)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return result

    def _transact_lightly(self, call: Callable[..., T], *args: Any) -> T:
        """Do it without waiting for the disk, where the journal keeps the file whole all the same."""
        if self._connection is None:
            self._connection = self._connect()
        connection = self._connection
        # https://www.sqlite.org/pragma.html#pragma_synchronous
        (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
        if mode != "wal":
            return self._transact(call, *args)
        connection.execute("PRAGMA synchronous = NORMAL")
        try:
            return self._transact(call, *args)
        finally:
            connection.execute("PRAGMA synchronous = FULL")

    def _put_aside(self) -> None:
        """Put a damaged ledger out of the way; a new one is made at the next use."""
        self._disconnect()

    def _explained(self, error: sqlite3.DatabaseError) -> StorageError:
        """Make the typed error of what SQLite says."""
        code = _code(error)
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

    async def look_up(self, keys: Sequence[str]) -> dict[str, Entry]:
        """Give what is known about some keys; unknown ones are missing. Best in pages of :data:`PAGE`."""
        return await self._run(self._look_up, list(keys))

    def _look_up(self, connection: sqlite3.Connection, keys: Sequence[str]) -> dict[str, Entry]:
        found: dict[str, Entry] = {}
        for page in _pages(keys):
            rows = connection.execute(f"SELECT {_COLUMNS} FROM files WHERE key IN ({_marks(page)})", page)
            found.update((entry.key, entry) for entry in _load_entries(rows))
        return found

    async def begin_listing(self, scope: str) -> int:
        """Start a listing of a scope and give its generation."""
        return await self._run(self._begin_listing, scope)

    @staticmethod
    def _begin_listing(connection: sqlite3.Connection, scope: str) -> int:
        connection.execute(
            "INSERT INTO scopes (scope, generation) VALUES (?, 1) "
            "ON CONFLICT (scope) DO UPDATE SET generation = generation + 1",
            (scope,),
        )
        (generation,) = connection.execute("SELECT generation FROM scopes WHERE scope = ?", (scope,)).fetchone()
        return int(generation)

    async def see(self, scope: str, generation: int, rows: Sequence[Sighting]) -> list[Known]:
        """Note a page of a listing and give what is known about each row, in order, in one transaction."""
        # A listing that a power cut ends is walked anew, and its end is forced to the disk with all that came before.
        return await self._run_lightly(self._see, scope, generation, list(rows))

    def _see(
        self, connection: sqlite3.Connection, scope: str, generation: int, rows: Sequence[Sighting]
    ) -> list[Known]:
        entries = self._look_up(connection, [row.key for row in rows])
        earlier, owners = _noted(connection, scope, generation, rows)
        fresh, answers = [], []
        for row in rows:
            folded = fold(row.path)
            owner = owners.get(folded) if row.path else None
            answers.append(
                Known(
                    entry=entries.get(row.key),
                    earlier=earlier.get(row.key),
                    rival=owner if owner != row.key else None,
                )
            )
            if row.key not in earlier:
                earlier[row.key] = row
                fresh.append((scope, row.key, generation, row.name, row.change, row.path, folded))
                owners.setdefault(folded, row.key)
        connection.executemany(_UPSERT_SEEN, fresh)
        return answers

    async def gone(self, scope: str, generation: int, *, after: str = "", limit: int = PAGE) -> list[Entry]:
        """
        Give complete files of the scope that its listing of this generation did not bring, by key, ``limit`` at a time.

        A file that a listing of another scope still brings (in its newest whole listing) is not among them.

        Args:
            scope: The name of the query.
            generation: What :meth:`begin_listing` gave.
            after: The key of the last row of the page before.
            limit: Rows at the most.
        """
        asked = {"scope": scope, "generation": generation, "after": after, "limit": limit}
        return await self._run(lambda connection: _load_entries(connection.execute(_GONE, asked)))

    async def end_listing(self, scope: str, generation: int) -> None:
        """Note that a listing was whole, and forget what it only noted to answer questions about itself."""
        await self._run(self._end_listing, scope, generation)

    @staticmethod
    def _end_listing(connection: sqlite3.Connection, scope: str, generation: int) -> None:
        connection.execute("UPDATE scopes SET ended = ? WHERE scope = ?", (generation, scope))
        connection.execute(
            "DELETE FROM seen WHERE scope = ? AND generation < ? "
            "AND NOT EXISTS (SELECT 1 FROM files WHERE files.key = seen.key)",
            (scope, generation),
        )

    async def aclose(self) -> None:
        """Close it. Safe twice."""
        try:
            if self._connection is not None:
                await self._threads.run(self._disconnect)
        finally:
            await self._threads.aclose()

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def _noted(
    connection: sqlite3.Connection, scope: str, generation: int, rows: Sequence[Sighting]
) -> tuple[dict[str, Sighting], dict[str, str]]:
    """Give what this listing has brought so far: the first row of each key, and whose each path is."""
    earlier: dict[str, Sighting] = {}
    owners: dict[str, str] = {}
    for page in _pages([row.key for row in rows]):
        found = connection.execute(
            f"SELECT key, name, change, path FROM seen WHERE scope = ? AND generation = ? AND key IN ({_marks(page)})",
            (scope, generation, *page),
        )
        earlier.update(
            (key, Sighting(key=key, name=name, change=change, path=path))
            for key, name, change, path in (map(_as_it_was, row) for row in found)
        )
    for page in _pages([fold(row.path) for row in rows if row.path]):
        found = connection.execute(
            f"SELECT folded, key FROM seen WHERE scope = ? AND generation = ? AND folded IN ({_marks(page)})",
            (scope, generation, *page),
        )
        owners.update((_as_it_was(folded), _as_it_was(key)) for folded, key in found)
    return earlier, owners


class SqliteLedger(_Tables):
    """
    The ledger of a folder. Made by :meth:`open`.

    Attributes:
        set_aside: Where a damaged ledger was put, or None. What it knew is unknown then: those files are fetched again
            and replaced.
    """

    _replaceable = True

    def __init__(self, path: Path, *, busy_timeout: float) -> None:
        super().__init__(name=str(path), connect=self._open_file)
        self._path = path
        self._busy_timeout = busy_timeout
        self.set_aside: Path | None = None

    @classmethod
    async def open(cls, path: Path, *, busy_timeout: float = 10.0) -> Self:
        """
        Open or make the ledger.

        Args:
            path: Its file; the folder exists.
            busy_timeout: Seconds to wait for another process.

        Raises:
            StorageError: It cannot be opened, or was written by a newer version of this library.
            DiskFullError: No room is left.
        """
        ledger = cls(path, busy_timeout=busy_timeout)
        try:
            await ledger._run(_nothing)
        except BaseException:
            await ledger.aclose()
            raise
        return ledger

    def _open_file(self) -> sqlite3.Connection:
        """Open the file and make the tables if there are none."""
        create_private(self._path)
        connection = sqlite3.connect(
            self._path,
            timeout=self._busy_timeout,
            isolation_level=None,
            check_same_thread=False,  # It is used on one thread; one that was forgotten may be collected on any.
            factory=_Connection,
        )
        try:
            _prepare(connection, self._path)
        except BaseException:
            connection.close()
            raise
        return connection

    def _put_aside(self) -> None:
        """Put a damaged ledger aside, with the files that belong to it."""
        self._disconnect()
        self.set_aside = set_aside(self._path, ".damaged")
        for companion in ("-wal", "-shm", "-journal"):
            beside = self._path.with_name(self._path.name + companion)
            if beside.exists():
                set_aside(beside, ".damaged")
        log.warning(
            "%s: it was set aside as %s. What it knew is unknown now, so files are fetched again.",
            self._path,
            self.set_aside.name,
        )

    async def write(self, entries: Sequence[Entry], *, completed: Sequence[str] = ()) -> None:
        """
        Write entries in one transaction.

        A path belongs to one key: what was known about another key of the same path is forgotten.

        Args:
            entries: Replace what was known about their keys.
            completed: Keys of rows that were ``committing`` and have their final name now.
        """
        if entries or completed:
            await self._run(self._write, list(entries), list(completed))

    @staticmethod
    def _write(connection: sqlite3.Connection, entries: Sequence[Entry], completed: Sequence[str]) -> None:
        connection.executemany(
            "UPDATE files SET state = 'complete', partial = '' WHERE key = ? AND state = 'committing'",
            [(key,) for key in completed],
        )
        connection.executemany(
            "DELETE FROM files WHERE folded = ? AND folded <> '' AND key <> ?",
            [(fold(entry.path), entry.key) for entry in entries if entry.path],
        )
        connection.executemany(
            f"INSERT OR REPLACE INTO files ({_COLUMNS}, folded) VALUES ({', '.join('?' * 14)})",
            [
                (*attrs.astuple(attrs.evolve(entry, at=None))[:-1], _dump_time(entry.at), fold(entry.path))
                for entry in entries
            ],
        )

    async def skip(self, key: str, reason: str, *, at: datetime, change: str = "", name: str = "") -> None:
        """Remember a refusal that is for ever; what is known about a file that is here already stays."""
        await self._run(
            lambda connection: connection.execute(
                f"INSERT INTO files ({_COLUMNS}, folded) "
                "VALUES (?, 'skipped', '', 0, 0, ?, NULL, NULL, 'none', ?, '', ?, ?, '') "
                "ON CONFLICT (key) DO UPDATE SET state = 'skipped', change = excluded.change, name = excluded.name, "
                "reason = excluded.reason, at = excluded.at",
                (key, change, name, reason, _dump_time(at)),
            )
        )

    async def forget(self, keys: Sequence[str]) -> None:
        """Forget some keys."""
        await self._run(
            lambda connection: connection.executemany("DELETE FROM files WHERE key = ?", [(key,) for key in keys])
        )

    async def entries(
        self, *, after: str = "", limit: int = PAGE, states: Sequence[State] = ("complete", "committing")
    ) -> list[Entry]:
        """Give entries by key, ``limit`` at a time, behind the key ``after``."""
        return await self._run(
            lambda connection: _load_entries(
                connection.execute(
                    f"SELECT {_COLUMNS} FROM files WHERE key > ? AND state IN ({_marks(states)}) ORDER BY key LIMIT ?",
                    (after, *states, limit),
                )
            )
        )

    async def watermark(self, scope: str) -> datetime | None:
        """Say how far a clean run of a scope has come (aware), or None."""
        rows = await self._run(
            lambda connection: connection.execute("SELECT watermark FROM scopes WHERE scope = ?", (scope,)).fetchall()
        )
        return _load_time(rows[0][0]) if rows else None

    async def set_watermark(self, scope: str, value: datetime | None) -> None:
        """Write down how far a clean run of a scope has come."""
        await self._run(
            lambda connection: connection.execute(
                "INSERT INTO scopes (scope, watermark) VALUES (?, ?) "
                "ON CONFLICT (scope) DO UPDATE SET watermark = excluded.watermark",
                (scope, _dump_time(value)),
            )
        )

    async def job(self, key: str) -> Job | None:
        """Give what is known about a job, or None."""
        rows = await self._run(
            lambda connection: connection.execute(
                "SELECT key, state, run, began, took FROM jobs WHERE key = ?", (key,)
            ).fetchall()
        )
        return _load_job(rows[0]) if rows else None

    async def note_job(self, job: Job) -> None:
        """Write down what is known about a job now."""
        row = (job.key, job.state, job.run, _dump_time(job.began), job.took)
        await self._run(
            lambda connection: connection.execute(
                "INSERT OR REPLACE INTO jobs (key, state, run, began, took) VALUES (?, ?, ?, ?, ?)", row
            )
        )

    async def recall(self, keys: Sequence[str]) -> dict[str, str]:
        """Give facts by their keys; unknown ones are missing."""
        return await self._run(self._recall, list(keys))

    @staticmethod
    def _recall(connection: sqlite3.Connection, keys: Sequence[str]) -> dict[str, str]:
        found: dict[str, str] = {}
        for page in _pages(keys):
            found.update(
                connection.execute(f"SELECT key, fact FROM facts WHERE key IN ({_marks(page)})", page).fetchall()
            )
        return found

    async def keep(self, facts: Mapping[str, str]) -> None:
        """Write facts down, in one transaction."""
        rows = list(facts.items())
        await self._run(
            lambda connection: connection.executemany("INSERT OR REPLACE INTO facts (key, fact) VALUES (?, ?)", rows)
        )


def _nothing(_: sqlite3.Connection) -> None:
    """Do nothing, in a transaction."""


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
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
    for step in [_SCHEMA] if version == 0 else [_MIGRATIONS[layout] for layout in range(version, _VERSION)]:
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
            if _code(error) != sqlite3.SQLITE_BUSY:
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


class MemoryLedger(_Tables):
    """
    The same verbs without any memory of files, for jobs that always fetch.

    What a listing notes about itself goes to an unnamed file that the system removes, so that its size costs no memory.
    """

    def __init__(self) -> None:
        super().__init__(name="the notes of this run", connect=self._open_unnamed)

    @classmethod
    async def open(cls) -> Self:
        """Make one."""
        return cls()

    @staticmethod
    def _open_unnamed() -> sqlite3.Connection:
        """Open a database that ends with its connection."""
        connection = sqlite3.connect("", isolation_level=None, check_same_thread=False, factory=_Connection)
        connection.execute("PRAGMA synchronous = OFF")
        for statement in _SCHEMA.split(";"):
            connection.execute(statement)
        return connection

    async def end_listing(self, scope: str, generation: int) -> None:
        """Forget the listing."""
        await self._run(
            lambda connection: connection.execute(
                "DELETE FROM seen WHERE scope = ? AND generation <= ?", (scope, generation)
            )
        )

    async def write(self, entries: Sequence[Entry], *, completed: Sequence[str] = ()) -> None:
        """Remember nothing."""

    async def skip(self, key: str, reason: str, *, at: datetime, change: str = "", name: str = "") -> None:
        """Remember nothing."""

    async def forget(self, keys: Sequence[str]) -> None:
        """Know nothing that could be forgotten."""

    async def entries(
        self, *, after: str = "", limit: int = PAGE, states: Sequence[State] = ("complete", "committing")
    ) -> list[Entry]:
        """Give nothing."""
        return []

    async def watermark(self, scope: str) -> datetime | None:
        """Give None."""
        return None

    async def set_watermark(self, scope: str, value: datetime | None) -> None:
        """Remember nothing."""

    async def job(self, key: str) -> Job | None:
        """Give None."""
        return None

    async def note_job(self, job: Job) -> None:
        """Remember nothing."""

    async def recall(self, keys: Sequence[str]) -> dict[str, str]:
        """Know nothing."""
        return {}

    async def keep(self, facts: Mapping[str, str]) -> None:
        """Remember nothing."""
