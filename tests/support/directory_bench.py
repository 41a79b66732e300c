"""
A directory, and engines on it whose waits take no time and are written down.

::

    bench = Bench(tmp_path / "out", disk=FaultyDisk())
    outcome = await bench.fetch(one(Source(body=BODY)))
    assert bench.finals() == {"files/a.bin": BODY}
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from filesets import Asked, MemoryFiles, Source, remote
from internals import rig

from arena_async import Downloader, Event, Mirror, Outcome, Report, TransferOptions
from arena_async.options import KIB, Clock
from arena_async.transfer.filesystem import FileSystem
from arena_async.transfer.rate import Splitting

__all__ = ["LAYOUTS", "Bench", "all_workers_work", "connecting", "leave_old_ledger", "many", "one", "tail"]


def one(source: Source, **fields: Any) -> MemoryFiles:
    """Return a set of one file."""
    return MemoryFiles([remote("a", **fields)], {"test/a": source})


def many(*names: str, body: bytes = b"whole", parts: tuple[str, ...] = ("d",), **fields: Any) -> MemoryFiles:
    """Return a set of files with the same content."""
    rows = [remote(name, parts=parts, extension="", **fields) for name in names]
    return MemoryFiles(rows, {row.key: Source(body=body) for row in rows})


#: The tables of the first layout, in the words in which it made them.
_LAYOUT_1 = """
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
PRAGMA user_version = 1;
"""


#: What each layout that came in some other words has more than the one before; the fourth made its tables anew.
LAYOUTS = {
    2: """
CREATE TABLE jobs (
    key TEXT PRIMARY KEY, state TEXT NOT NULL, run TEXT NOT NULL, began TEXT, took REAL
) WITHOUT ROWID;
PRAGMA user_version = 2;
""",
    3: """
CREATE TABLE facts (key TEXT PRIMARY KEY, fact TEXT NOT NULL) WITHOUT ROWID;
PRAGMA user_version = 3;
""",
    4: """
DROP TABLE files;
DROP TABLE seen;
DROP TABLE scopes;
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
PRAGMA user_version = 4;
""",
}


def leave_old_ledger(root: Path, *statements: str) -> Path:
    """Leave a ledger of the first layout, changed by some statements."""
    state = root / ".arena-async"
    state.mkdir(parents=True, mode=0o700)
    path = state / "ledger.sqlite"
    connection = sqlite3.connect(path)
    connection.executescript(_LAYOUT_1)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()
    return path


def tail(body: bytes, start: int, until: int) -> str:
    """Return the digest of the end of a part, as a control record holds it."""
    return hashlib.sha256(body[max(start, until - 64 * KIB) : until]).hexdigest()


_calls = count()


class Bench:
    """
    A directory with a clock that stands still.

    Args:
        root: The directory.
        disk: The calls to the system.
        record_every: Bytes after which a partial file is recorded.
        splitting: When and how one file is fetched over several connections.
        clock: Seconds that only ever grow.
        disk_clock: Seconds by which records become due.
        options: Fields of the transfer options.
    """

    def __init__(
        self,
        root: Path,
        *,
        disk: FileSystem | None = None,
        record_every: int = 64 * KIB,
        splitting: Splitting | None = None,
        clock: Callable[[], float] = lambda: 0.0,
        disk_clock: Callable[[], float] | None = None,
        **options: Any,
    ) -> None:
        self.root = root
        self.waits: list[float] = []
        self.disk_waits: list[float] = []
        self.events: list[Event] = []
        self.disk = disk
        self.record_every = record_every
        self.splitting = splitting
        self.clock = clock
        self.disk_clock = disk_clock
        self.draw_name: Callable[[], str] | None = None
        self.options = {"chunk_size": 64 * KIB, **options}

    async def sleep(self, seconds: float) -> None:
        """Write the wait down."""
        self.waits.append(seconds)
        await asyncio.sleep(0)

    def _arguments(self, options: dict[str, Any]) -> dict[str, Any]:
        return {
            "options": TransferOptions(**{**self.options, **options}),
            "observer": self.events.append,
            "clock": Clock(monotonic=self.clock, sleep=self.sleep, random=lambda: 0.5),
        }

    def _rig(self, engine: Any) -> Any:
        return rig(
            engine,
            disk=self.disk,
            record_every=self.record_every,
            splitting=self.splitting,
            draw_name=self.draw_name,
            disk_clock=self.disk_clock,
            disk_sleep=self.disk_waits.append,
        )

    def mirror(self, **options: Any) -> Mirror:
        """Return a mirror of the directory."""
        made: Mirror = self._rig(Mirror(self.root, **self._arguments(options)))
        return made

    def downloader(self, **options: Any) -> Downloader:
        """Return a downloader into the directory."""
        made: Downloader = self._rig(Downloader(self.root, **self._arguments(options)))
        return made

    async def sync(self, files: Any, **options: Any) -> Report:
        """Sync once, with a mirror of its own."""
        async with self.mirror(**options) as mirror:
            return await mirror.sync(files)

    async def run(self, files: Any, **options: Any) -> Report:
        """Download once, with a downloader of its own."""
        async with self.downloader(**options) as downloads:
            return await downloads.run(files)

    async def fetch(self, files: Any, **options: Any) -> Outcome:
        """Sync once and return the only outcome."""
        (outcome,) = (await self.sync(files, **options)).outcomes
        return outcome

    def leave_partial(
        self,
        key: str = "test/a",
        *,
        body: bytes,
        offset: int,
        ahead: Iterable[tuple[int, int]] = (),
        total: int | None = None,
        validator: object = '"v1"',
        name: str = "00112233aabbccdd",
        **fields: object,
    ) -> Path:
        """
        Write a partial file and its control record as an interrupted run leaves them, and return the record's path.

        Args:
            key: Whose content it is.
            body: What is in the partial file.
            offset: Bytes that the record speaks of.
            ahead: Parts behind them that it speaks of.
            total: Bytes of the whole file.
            validator: The ETag in the record.
            name: The random part of the name.
            fields: What else the record says, or instead.
        """
        self.partial.mkdir(parents=True, exist_ok=True)
        for directory in (self.partial.parent, self.partial):
            directory.chmod(0o700)
        digest = hashlib.sha256(key.encode()).hexdigest()
        record: dict[str, object] = {
            "version": 1,
            "key": digest,
            "validator": validator,
            "offset": offset,
            "total": total,
            "tail": tail(body, 0, offset),
            "ahead": [[start, until, tail(body, start, until)] for start, until in ahead],
            **fields,
        }
        path = self.partial / f"{digest[:32]}-{name}.json"
        path.with_suffix(".part").write_bytes(body)
        path.write_text(json.dumps(record))
        for each in (path, path.with_suffix(".part")):
            each.chmod(0o600)
        return path

    @property
    def partial(self) -> Path:
        """The directory of partial files."""
        return self.root / ".arena-async" / "partial"

    def partials(self, pattern: str = "*") -> list[str]:
        """Return the names of what lies among the partial files."""
        return sorted(path.name for path in self.partial.glob(pattern))

    def finals(self) -> dict[str, bytes]:
        """Return the final files with their content, by path."""
        return {
            path.relative_to(self.root).as_posix(): path.read_bytes()
            for path in self.root.rglob("*")
            if path.is_file() and ".arena-async" not in path.relative_to(self.root).parts
        }

    def rows(self, *columns: str, table: str = "files") -> list[tuple[Any, ...]]:
        """Return columns of the rows of the ledger, by key; a SHA-256, which is bytes there, in hexadecimal."""
        with contextlib.closing(sqlite3.connect(self.root / ".arena-async" / "ledger.sqlite")) as ledger:
            rows = ledger.execute(f"SELECT {', '.join(columns)} FROM {table} ORDER BY key").fetchall()  # noqa: S608
        return [tuple(value.hex() if isinstance(value, bytes) else value for value in row) for row in rows]

    def change_ledger(self, statement: str, *values: Any) -> None:
        """Change the ledger as another program would."""
        with contextlib.closing(sqlite3.connect(self.root / ".arena-async" / "ledger.sqlite")) as ledger:
            ledger.execute(statement, values)
            ledger.commit()


async def all_workers_work(engine: Downloader | Mirror, workers: int, *, body: bytes = b"x") -> None:
    """Check that as many bodies as workers can be open at once: none of them was lost on the way."""
    rows = [remote(f"worker{number}", change=str(next(_calls))) for number in range(workers)]
    files = MemoryFiles(rows, {row.key: Source(body=body) for row in rows}, scope="test/workers")
    here, all_here = 0, asyncio.Event()

    async def meet(_: Asked) -> None:
        nonlocal here
        here += 1
        if here == workers:
            all_here.set()
        await all_here.wait()

    files.before_open = meet
    async with asyncio.timeout(20):
        report = await (engine.sync(files) if isinstance(engine, Mirror) else engine.run(files))
    assert report.failures == ()
    assert len(report.outcomes) == workers


def connecting(
    patch: pytest.MonkeyPatch, then: Callable[[sqlite3.Connection], object] = lambda _: None, **how: Any
) -> None:
    """Let every connection to a database be made in another way."""
    real = sqlite3.connect

    def connect(database: Any, *args: Any, **given: Any) -> sqlite3.Connection:
        vfs = how.get("vfs")
        if vfs is not None and str(database).endswith("ledger.sqlite"):
            database, given["uri"] = f"file:{database}?vfs={vfs}", True
        if "timeout" in how:
            given["timeout"] = how["timeout"]
        connection = real(database, *args, **given)
        then(connection)
        return connection

    patch.setattr(sqlite3, "connect", connect)
