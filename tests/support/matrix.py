"""
Rows of the fault matrix: what the world does to the library, each with the one protection that saves the user.

::

    @row("TR18", protection="the start of a range is checked")
    async def test_a_range_that_starts_elsewhere_is_never_spliced(world: World) -> None:
        ...                                    # real sockets, real files; the invariants run by themselves afterwards

``nox -s matrix`` prints the table of all rows; ``nox -s matrix -- --sabotage`` runs each test without its protection
and expects it to fail. A case of a parametrized test that depends on another protection says so with :func:`case`,
and one that depends on none with :func:`control`. The invariants,
checked at the end of every row:

==  ====================================================================================================================
I1  A final name is absent, or the whole old file, or the whole new one, whenever it is looked at.
I2  Nothing outside the folder changed.
I3  One partial and one control record for a file at the most, and none after it is done.
I4  No planted secret in any log record, message, event, file name, state file or printed line.
I5  Requests that the server counted are the requests that were booked.
I6  Nothing is left running or open (``tests/conftest.py`` looks after every test).
I7  Memory stays within a bound that does not depend on the size of what was fetched.
I8  The row ends in its time, and the event loop is never held for 100 ms.
I9  A result says how it was verified, and ``none`` is never called verified.
==  ====================================================================================================================
"""

from __future__ import annotations

import asyncio
import functools
import gc
import hashlib
import inspect
import logging
import os
import re
import threading
import time
import traceback
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import attrs
import pytest
import sabotage
from holding import Hold

__all__ = ["ROWS", "SECRETS", "World", "case", "control", "row"]

P = ParamSpec("P")
R = TypeVar("R")

_MISSING = {
    "SA": {4, 8, 14, 18, 21, 29},
    "QU": {10, 16, 22, 23, 27, 28, 29},
    "PG": {8, 9, 13, 15, 37, 38, 39, 48, 49},
    "TR": {6, 11, 20, 23, 30, 32, 48, *range(65, 70), *range(86, 90)},
    "ST": {4, 7, 9, 15, 16, 18, 27, 28, 29},
    "NM": {3, 4},
    "CC": {5, 8, 12, *range(22, 26), 29},
    "CR": {2, 7, 8, 9, 11, 16},
    "SE": {6, 16, 21, 22},
}
_LAST = {"SA": 35, "QU": 32, "PG": 51, "TR": 90, "ST": 37, "NM": 14, "CC": 38, "CR": 22, "SE": 26}
#: Every row there has to be a test for; the numbers that are left out were never given to a row.
ROWS: tuple[str, ...] = tuple(
    f"{group}{number:02}"
    for group, last in _LAST.items()
    for number in range(1, last + 1)
    if number not in _MISSING[group]
)

#: Planted wherever a row needs a secret, so that a leak of one is seen. Each is unmistakable.
SECRETS = {
    "password": "canary-Passw0rd-77f1",
    "session": "canarySession77f2",
    "client_secret": "canary-client-secret-77f3",
    "token": "canary.token.77f4",
    "sig": "canarySig77f5%2Bx%3D",
    "proxy": "canary-proxy-77f6",
}

#: The event loop may not be held longer than this, in seconds of the processor that its thread worked meanwhile; where
#: another program slows the core down at that moment, proportionally longer.
MAX_HOLD = 0.1
#: Steps of an empty loop in a second, on a small machine whose core has nothing else to do.
_USUAL_SPEED = 35_000_000
#: Held this long although it hardly worked, and had a processor to work with: a call that waits was made on the loop.
MAX_WAIT = 1.0
#: A row gets so many times its seconds on a machine that has more to do; not so where it may hang for want of the
#: protection that was taken away.
PATIENCE = 4
#: Bytes that Python may allocate in a row on top of what it began with.
MEMORY = 48 * 1024 * 1024

_STATE = ".arena-async"


def _slowness() -> float:
    """Return how many times as long as usual this processor takes now for the same work; 1 for a faster one."""
    steps, taken = range(50_000), []
    for _ in range(3):
        began = time.thread_time()
        for _step in steps:
            pass
        taken.append(time.thread_time() - began)
    return max(1.0, min(taken) * _USUAL_SPEED / len(steps))


def row(identifier: str, *, protection: str, seconds: float = 30) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """
    Mark a test with its row, and the protection it depends on.

    Args:
        identifier: One of :data:`ROWS`; several tests may belong to one row.
        protection: The name of what ``--sabotage`` removes, as registered with :func:`sabotage.protection`.
        seconds: The deadline, on a machine that has nothing else to do.
    """
    if identifier not in ROWS:
        raise ValueError(f"{identifier} is no row of the matrix")

    def mark(test: Callable[P, R]) -> Callable[P, R]:
        found: Any = _timed(test, seconds) if inspect.iscoroutinefunction(test) else test
        return pytest.mark.row(identifier, protection)(found)  # type: ignore[no-any-return]

    return mark


def case(*values: object, protection: str) -> Any:
    """Return a case of a parametrized row that depends on another protection than the others."""
    return pytest.param(*values, marks=pytest.mark.protection(protection))


def control(*values: object, reason: str) -> Any:
    """Return a case of a parametrized row that passes without the protection, which must not go so far."""
    return pytest.param(*values, marks=pytest.mark.control(reason))


def _timed(test: Callable[..., Any], seconds: float) -> Callable[..., Any]:
    """Hold an asynchronous row to its deadline, and watch the loop and the final names meanwhile."""

    @functools.wraps(test)
    async def run(*args: Any, **kwargs: Any) -> None:
        world: World = kwargs["world"]
        longest = seconds if os.environ.get(sabotage.VARIABLE) else PATIENCE * seconds
        async with asyncio.timeout(longest), world.watched():
            await test(*args, **kwargs)

    return run


@attrs.frozen
class _Version:
    inode: int
    mtime_ns: int
    size: int


class World:
    """
    What a row works with, and what is checked when it is over.

    Attributes:
        root: The folder that files are brought home to.
        outside: A folder beside it that nobody may touch.
        secrets: The planted secrets, by name.
        memory: Bytes that may be allocated; a row that has to hold more itself says so here.
        keeps_partials: Whether partial files may be left at the end: for rows that end with something to resume.
    """

    def __init__(self, directory: Path) -> None:
        self.root = directory / "root"
        self.outside = directory / "outside"
        self.secrets = dict(SECRETS)
        self.memory = MEMORY
        self.keeps_partials = False
        self._allowed: dict[Path, set[str]] = {}
        self._looked: dict[Path, _Version] = {}
        self._shown: list[str] = []
        self._faults: list[str] = []
        self._counts: list[tuple[str, Callable[[], int], Callable[[], int]]] = []
        self._outcomes: list[Any] = []
        self._records = _Records()
        self.outside.mkdir(parents=True)
        (self.outside / "mine.txt").write_bytes(b"not yours")
        (self.outside / "folder").mkdir()
        (self.outside / "folder" / "deep.bin").write_bytes(b"\0" * 100)
        self._before = _tree(self.outside)
        self._listening = False

    # What a row says

    def allow(self, path: Path | str, *contents: bytes) -> Path:
        """Set what may be under a final name besides nothing: the old content, the new one. Return the path."""
        final = self.root / path
        self._allowed.setdefault(final, set()).update(hashlib.sha256(content).hexdigest() for content in contents)
        return final

    def counted(self, *, server: Callable[[], int], client: Callable[[], int], what: str = "requests") -> None:
        """Set which two counts have to agree at the end: what the server saw and what was booked."""
        self._counts.append((what, server, client))

    def observe(self, event: object) -> None:
        """Look at an event; give this as the observer of a downloader or mirror."""
        self.saw(event)

    def saw(self, *values: object) -> None:
        """Look at whatever a user would see: an error, a report, an outcome, a line of output."""
        with self._records.looking():
            for value in values:
                self._show(value)

    def _show(self, value: object) -> None:
        if isinstance(value, BaseException):
            self._shown.extend(_everything_about(value))
            return
        self._shown.append(f"{value!r}\n{value}")
        outcomes = getattr(value, "outcomes", None)
        if outcomes is not None and not callable(outcomes):
            for outcome in outcomes:
                self._show(outcome)
        if hasattr(value, "verified_by") and hasattr(value, "action"):
            self._outcomes.append(value)
        error = getattr(value, "error", None)
        if isinstance(error, BaseException):
            self._show(error)

    # What is watched meanwhile

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Look at the loop and at the final names every few milliseconds."""
        task = asyncio.create_task(self._watch(), name="invariants")
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _watch(self) -> None:
        # By the clock on the wall: a row may let that of its event loop jump.
        hold = Hold()
        while True:
            self._look_at_finals()
            hold.look(slept=0)
            spent = self._records.spent
            await asyncio.sleep(0.005)
            held, busy = hold.look(slept=0.005)
            busy -= self._records.spent - spent
            if (min(held, busy) > MAX_HOLD and min(held, busy) > MAX_HOLD * _slowness()) or held > MAX_WAIT:
                self._faults.append(f"I8: the event loop was held for {held:.2f} s ({busy:.2f} s of it working)")

    def _look_at_finals(self) -> None:
        for path, allowed in self._allowed.items():
            try:
                status = path.stat()
                version = _Version(status.st_ino, status.st_mtime_ns, status.st_size)
                if self._looked.get(path) == version:
                    continue
                content = path.read_bytes()
            except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
                continue
            self._looked[path] = version
            if hashlib.sha256(content).hexdigest() not in allowed:
                self._faults.append(f"I1: {path.name} held {len(content)} bytes, neither the old file nor the new one")

    # What is checked at the end

    def begin(self) -> None:
        """Start listening."""
        # What other tests have left in memory must not cost this one a long walk of the garbage collector on its loop.
        gc.freeze()
        self._records.install()
        tracemalloc.start(1)
        self._listening = True

    def end(self) -> int:
        """Stop listening, and return the most memory that was allocated meanwhile."""
        if not self._listening:
            return 0
        self._listening = False
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        gc.unfreeze()
        self._records.remove()
        return peak

    def check(self, printed: str) -> list[str]:
        """Stop listening and return what does not hold, one line each."""
        peak = self.end()
        self._look_at_finals()
        faults = list(dict.fromkeys(self._faults))
        if _tree(self.outside) != self._before:
            faults.append("I2: something outside the folder changed")
        faults += self._check_partials()
        faults += self._check_secrets(printed)
        for what, server, client in self._counts:
            if server() != client():
                faults.append(f"I5: the server saw {server()} {what}, {client()} were booked")
        if peak > self.memory:
            faults.append(f"I7: {peak:,} bytes were allocated, {self.memory:,} are allowed")
        faults += [
            f"I9: {outcome!r} does not say how it was verified"
            for outcome in self._outcomes
            if outcome.verified_by not in (None, "", "md5", "crc", "length", "none")
        ]
        return faults

    def _check_partials(self) -> list[str]:
        faults = []
        for directory in self.root.parent.rglob(f"{_STATE}/partial"):
            names = [path.name for path in directory.iterdir()]
            kinds: dict[tuple[str, bool], int] = {}
            for name in names:
                key = (name.partition("-")[0], name.endswith(".part"))
                kinds[key] = kinds.get(key, 0) + 1
            faults += [
                f"I3: {count} files of one kind for one key: {sorted(names)}" for count in kinds.values() if count > 1
            ]
            if names and not self.keeps_partials:
                faults.append(f"I3: left in {_STATE}/partial: {sorted(names)}")
        return list(dict.fromkeys(faults))

    def _check_secrets(self, printed: str) -> list[str]:
        places: Iterable[tuple[str, str]] = [
            *(("a log record", text) for text in self._records.texts),
            *(("something shown", text) for text in self._shown),
            ("a printed line", printed),
            *_written(self.root),
        ]
        pattern = re.compile("|".join(re.escape(part) for secret in self.secrets.values() for part in _forms(secret)))
        return list(
            dict.fromkeys(
                f"I4: {place} holds a secret: ...{text[max(0, found.start() - 60) : found.end()]!r}"
                for place, text in places
                if (found := pattern.search(text))
            )
        )


def _forms(secret: str) -> tuple[str, ...]:
    """A secret as it is planted and as it reads after one round of percent-decoding."""
    return (secret, secret.replace("%2B", "+").replace("%3D", "="))


class _Records(logging.Handler):
    """Everything that is logged, formatted with its traceback, from every logger at DEBUG."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.texts: list[str] = []
        #: Seconds of work on the thread of the event loop that went into texts to look at, and are not of the library.
        self.spent = 0.0
        self._levels: dict[str, int] = {}
        self._lock = threading.Lock()

    def install(self) -> None:
        for name in ("", "arena_async", "aiohttp", "aiohttp.client", "asyncio"):
            logger = logging.getLogger(name)
            self._levels[name] = logger.level
            logger.setLevel(logging.DEBUG)
        logging.getLogger().addHandler(self)

    def remove(self) -> None:
        logging.getLogger().removeHandler(self)
        for name, level in self._levels.items():
            logging.getLogger(name).setLevel(level)

    def emit(self, record: logging.LogRecord) -> None:
        with self.looking():
            text = f"{record.getMessage()} {record.args!r}"
            if record.exc_info and record.exc_info[1] is not None:
                text += "\n".join(_everything_about(record.exc_info[1]))
            with self._lock:
                self.texts.append(text)

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Count the work that goes into a look, on the thread of the event loop."""
        began = time.thread_time()
        try:
            yield
        finally:
            if threading.current_thread() is threading.main_thread():
                self.spent += time.thread_time() - began


def _everything_about(error: BaseException) -> list[str]:
    """Show an error as logs and debuggers would: message, arguments, notes, chain and the locals of our frames."""
    texts: list[str] = []
    waiting, seen = [error], set()
    while waiting:
        current = waiting.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        texts.append(
            f"{current!s} {current!r} {current.args!r} {getattr(current, '__notes__', '')!r} {vars(current)!r}"
        )
        shown = traceback.TracebackException.from_exception(current, capture_locals=True)
        texts.extend(
            f"{frame.name}: {frame.locals!r}"
            for frame in shown.stack
            if f"{os.sep}arena_async{os.sep}" in frame.filename and f"{os.sep}simulator" not in frame.filename
        )
        waiting += [more for more in (current.__cause__, current.__context__) if more is not None]
        if isinstance(current, BaseExceptionGroup):
            waiting += current.exceptions
    return texts


def _tree(directory: Path) -> str:
    """Digest a folder: names, kinds and content."""
    digest = hashlib.sha256()
    for path in sorted(directory.rglob("*")):
        digest.update(f"{path.relative_to(directory)} {path.is_symlink()} {path.is_file()}".encode())
        if path.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _written(directory: Path) -> Iterable[tuple[str, str]]:
    """Yield every name below a folder, and what its state files hold."""
    for path in directory.rglob("*"):
        yield "a file name", str(path.relative_to(directory))
        if _STATE in path.parts and path.is_file() and not path.name.endswith(".part"):
            yield f"the state file {path.name}", path.read_bytes().decode("latin-1")
