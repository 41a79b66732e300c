"""
A directory that is open for work, with everything its runs share.

::

    Context
    ├── directory, partials    the files on disk
    ├── ledger                 what is known about them
    ├── committer              gives verified files their names
    ├── permits                how many bodies are open at a time, adaptive on request
    ├── threads, writers       where blocking calls run
    ├── emitter                calls the observer
    └── rate                   the bytes a second of all bodies together
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import warnings
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from arena_async.errors import ClosedError, ConfigurationError, DestinationBusyError, StorageError
from arena_async.options import KIB, Clock, TransferOptions
from arena_async.protocol.filenames import layout_problem
from arena_async.protocol.messages import printable
from arena_async.transfer.commit import Committer, recover
from arena_async.transfer.directory import STATE_DIRECTORY, Directory
from arena_async.transfer.events import EventEmitter, Observer
from arena_async.transfer.filesystem import (
    MAX_WAITS,
    WAIT_SECONDS,
    Handle,
    again,
    explaining,
    is_out_of_files,
    read_small,
)
from arena_async.transfer.ledger import Ledger
from arena_async.transfer.partial_file import PartialFile
from arena_async.transfer.partial_files import PartialFiles
from arena_async.transfer.planner import is_overload
from arena_async.transfer.processes import max_open_files
from arena_async.transfer.rate import INTERVAL, Interval, RateLimit, Splitting, Width
from arena_async.transfer.workers import Permits, Threads, Writer, wait_to_end

__all__ = ["Context", "claim_tenant"]

T = TypeVar("T")
P = ParamSpec("P")

#: Bytes of a file that is downloaded into memory at most. Beyond it, what is saved is not seen beside the transfer.
_MAX_IN_MEMORY = 256 * KIB
#: Downloads whose buffers have the full chunk size. With more of them, some receive while others write.
_FULL_BUFFERS = 8
#: The buffers of further downloads: this fraction of the chunk size, and at least so many bytes.
_FRACTION, _MIN_BUFFER = 4, 256 * KIB

#: Open files that are none of a body: the ledger, the root, the event loop, the standard streams, directories.
_OTHER_FILES, _FILES_OF_A_BODY = 16, 4


class _Adaptive:
    """Changes the number of permits by what was observed since the last decision."""

    def __init__(self, options: TransferOptions, permits: Permits, clock: Clock) -> None:
        self.count = 0
        self.overloads = 0
        self._width = Width(start=options.workers, maximum=options.widest)
        self._permits = permits
        self._clock = clock.monotonic
        self._began = self._clock()

    def adapt(self) -> None:
        """Decide anew when an interval has passed."""
        now = self._clock()
        if now - self._began < INTERVAL:
            return
        seen = Interval(
            seconds=now - self._began, count=self.count, refusals=self.overloads, wanted=self._permits.wanted
        )
        self.count, self.overloads, self._began = 0, 0, now
        self._permits.set_width(self._width.judge(seen))


class Context:
    """
    A target directory that is open for work. The first run opens it, :meth:`aclose` ends it.

    Args:
        to: The directory.
        options: How files are downloaded.
        observer: Receives the events, or None.
        remember: Whether complete files are remembered, in the ledger of the directory.
        clock: Time and randomness.
        owner: The name of the public object, for errors.

    Raises:
        ConfigurationError: The directory or the layout is not usable.
    """

    # From the opening on:
    committer: Committer
    _threads: Threads
    #: Runs that wait for it to be opened.
    _openers = 0

    def __init__(
        self,
        to: str | os.PathLike[str],
        *,
        options: TransferOptions,
        observer: Observer | None,
        remember: bool,
        clock: Clock,
        owner: str,
    ) -> None:
        _check(to, options, owner)
        self.root = Path(to)
        self.options = options
        # Open bodies, at most: each takes a socket, a file, and later one of those that wait for their commit.
        self.widest = min(options.widest, max(1, (max_open_files() - _OTHER_FILES) // _FILES_OF_A_BODY))
        self.clock = clock
        self.emitter = EventEmitter(observer, clock=clock.monotonic)
        self.rate = None if options.max_rate is None else RateLimit(options.max_rate, readers=self.widest)
        self.permits = Permits(min(options.workers, self.widest))
        self.splitting = Splitting()
        #: Bytes of a file that is downloaded into memory at most.
        self.max_in_memory = min(_MAX_IN_MEMORY, options.chunk_size - 1)
        #: Whether :meth:`note_received` has anything to do.
        self.paced = options.max_rate is not None or options.max_workers is not None
        #: Services that ignored a range request.
        self.no_ranges: set[str] = set()
        #: Services that responded to a request for a part with something else.
        self.no_parts: set[str] = set()
        self.directory = Directory(to)
        self.partials = PartialFiles(self.directory)
        self.ledger = Ledger(self.directory.ledger_path if remember else None)
        self._adaptive = None if options.max_workers is None else _Adaptive(options, self.permits, clock)
        self._owner = owner
        self._writers: list[Writer] = []
        self._writers_made = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._process = os.getpid()
        self._opening: asyncio.Task[None] | None = None
        self._opened = self._closed = False

    # -- open and close

    async def open(self) -> None:
        """
        Open it, once, however many runs begin; where all of them are cancelled, it is left closed.

        Raises:
            ClosedError: It was closed before, or is used from another event loop or after a fork.
            StorageError: The directory is not usable.
        """
        self.check_usable()
        while not self._opened:
            if self._opening is None:
                self._loop = asyncio.get_running_loop()
                self._opening = asyncio.create_task(self._open(), name="arena_async opening")
            opening = self._opening
            self._openers += 1
            try:
                await asyncio.wait([opening])
            except asyncio.CancelledError:
                if self._openers == 1:
                    opening.cancel()
                    await wait_to_end(opening)
                raise
            finally:
                self._openers -= 1
                if opening.done() and self._opening is opening:
                    self._opening = None
            if not opening.cancelled():
                opening.result()
            self.check_usable()

    def check_usable(self) -> None:
        """
        Check that it may be used here.

        Raises:
            ClosedError: It was closed before, or is used from another event loop or after a fork.
        """
        if self._closed:
            raise ClosedError(f"This {self._owner} was closed before; make a new one.")
        if self._loop is not None and self._loop is not asyncio.get_running_loop():
            raise ClosedError(f"This {self._owner} belongs to another event loop; make one in each.")
        if self._process != os.getpid():
            raise ClosedError(f"This {self._owner} was made before a fork; make one in each process.")

    async def _open(self) -> None:
        """Open the directory and resolve what an interrupted run left; all of it, or nothing is left open."""
        # One thread for each body, and one for everything else.
        self._threads = Threads(self.widest + 1, name="arena_async-worker")
        try:
            await self._threads.run_until_cancelled(self._prepare)
        except BaseException:
            await self._close_directory()
            raise
        self.committer = Committer(self.partials, self.ledger, durability=self.options.durability, now=self.clock.now)
        self._opened = True

    def _prepare(self, proceed: Callable[[], None]) -> None:
        """Open directory and ledger, commit what was verified, and sweep. On a thread."""
        with explaining(self.root, "opened"):
            _make_root(self.directory)
        self.directory.open()
        remembered = self.directory.ledger_path.exists()
        self.ledger.open()
        self.partials.scan()
        durable = self.options.durability != "off"
        leave = recover(self.partials, self.ledger, durable=durable, proceed=proceed)
        if self.ledger.remembers or not remembered:
            # The rows of a ledger that is not used here may still name partial files.
            self.partials.sweep(keep=leave)

    @property
    def orphaned(self) -> bool:
        """Whether the event loop that it was opened in was closed, so that nothing of it runs but calls on threads."""
        return self._loop is not None and self._loop.is_closed()

    def check_closable(self) -> None:
        """
        Check that it may be closed here.

        Raises:
            ClosedError: The event loop that it was opened in is another one, and was not closed.
        """
        if self._loop not in (None, asyncio.get_running_loop()) and not self.orphaned:
            raise ClosedError(f"This {self._owner} belongs to another event loop; close it there.")

    async def aclose(self, left: Sequence[PartialFile] = ()) -> None:
        """
        Commit what is verified, close the directory, end the threads. Safe to call twice, from any task.

        Args:
            left: Partial files that are open where it is orphaned.
        """
        if self._closed:
            return
        self._closed = True
        closing = asyncio.ensure_future(self._close_orphan(left) if self.orphaned else self._close())
        await wait_to_end(closing)
        closing.result()

    async def _close(self) -> None:
        """Close everything, in the order in which it is not needed any more."""
        if self._opening is not None:
            await asyncio.wait([self._opening])
        try:
            if self._opened:
                await self.committer.aclose()
            await self.emitter.aclose()
        finally:
            if self._opened:
                await self._close_directory()

    async def _close_orphan(self, left: Sequence[PartialFile]) -> None:
        """Close what an event loop has left that was closed."""
        threads = Threads(1, name="arena_async-closing")
        try:
            if self._opened:
                await threads.run(self._end, left)
        finally:
            await threads.aclose()

    def _end(self, left: Sequence[PartialFile]) -> None:
        """Wait for the threads, record what was received, and close. On a thread of its own."""
        try:
            self._threads.end()
            self.committer.end()
            for partial in left:
                partial.keep()
        finally:
            self._close_files()

    async def _close_directory(self) -> None:
        """Close ledger and directory and end the threads."""
        try:
            await self._threads.run(self._close_files)
        finally:
            await self._threads.aclose()

    def _close_files(self) -> None:
        self.ledger.close()
        self.directory.close()

    def __del__(self, _warn: Callable[..., None] = warnings.warn) -> None:
        """Warn if it was opened and never closed."""
        if getattr(self, "_opened", False) and not self._closed:
            _warn(f"This {self._owner} was never closed; use it with `async with`.", ResourceWarning, source=self)

    # -- for runs

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """
        Run a blocking call on a thread, to its end: also for what is put down while the directory closes.

        Raises:
            ClosedError: The threads were ended.
        """
        return await self._threads.run(call, *args, **kwargs)

    async def run_until_cancelled(
        self, call: Callable[Concatenate[Callable[[], None], P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run a blocking call that reads much, as :meth:`Threads.run_until_cancelled`."""
        return await self._threads.run_until_cancelled(call, *args, **kwargs)

    async def when_files_close(self, run: Callable[[], Awaitable[object]]) -> None:
        """Run a call; where too many files are open, wait for some to be closed: what is received is kept."""
        for left in reversed(range(MAX_WAITS)):
            try:
                await run()
            except StorageError as error:
                if not left or not is_out_of_files(error):
                    raise
            else:
                return
            await self.clock.sleep(WAIT_SECONDS)

    def take_writer(self) -> Writer:
        """Return a writer that no download uses."""
        if self._writers:
            return self._writers.pop()  # The one used last: its buffers are still cached.
        size = self.options.chunk_size
        if self._writers_made >= _FULL_BUFFERS:
            size = min(size, max(_MIN_BUFFER, size // _FRACTION))
        self._writers_made += 1
        return Writer(self._threads, chunk_size=size)

    async def return_writer(self, writer: Writer) -> None:
        """Take a writer back when its pending call has ended."""
        try:
            await writer.settle(ignore_error=True)
        finally:
            self._writers.append(writer)

    async def note_received(self, count: int) -> None:
        """Count received bytes, adapt the number of permits, and wait as the maximum rate requires."""
        if self._adaptive is not None:
            self._adaptive.count += count
            self._adaptive.adapt()
        wait = self.rate.wait_after(count, now=self.clock.monotonic()) if self.rate is not None else 0.0
        if wait > 0:
            await self.clock.sleep(wait)

    async def recall(self, keys: Sequence[str]) -> dict[str, str]:
        """Return the cached metadata under some keys, for the file sets that use it; the others are missing."""
        return await self.run(self.ledger.facts, keys)

    async def keep(self, facts: Mapping[str, str]) -> None:
        """Write cached metadata."""
        await self.run(self.ledger.write_facts, facts)

    def note_failure(self, failure: Exception) -> None:
        """Note a failed request for content; one that shows an overload reduces the number of permits."""
        if self._adaptive is not None and is_overload(failure):
            self._adaptive.overloads += 1
            self._adaptive.adapt()


def claim_tenant(directory: Directory, service: str, tenant: str) -> None:
    """
    Record that a directory belongs to a tenant of a service, permanently.

    Raises:
        DestinationBusyError: It belongs to another tenant of that service.
        StorageError: ``tenant.json`` cannot be read or written.
    """
    state = directory.state
    with _locked(directory, state):
        tenants = _read_tenants(directory, state)
        owner = tenants.get(service)
        if owner == tenant:
            return
        if owner is not None:
            raise DestinationBusyError(
                f"{directory.root}: the folder belongs to {printable(owner)} of {service}, and files of "
                f"{printable(tenant)} were to go there; nothing was written. Choose a folder for each."
            )
        text = json.dumps({**tenants, service: tenant}, sort_keys=True).encode()
        with explaining(directory.root / STATE_DIRECTORY / "tenant.json", "written"):
            directory.write_record(state, "tenant.json", text)
            directory.sync(state, directory.files.sync_directory)


def _read_tenants(directory: Directory, state: Handle) -> dict[str, str]:
    """Return the tenant of each service that the directory belongs to."""
    place = directory.root / STATE_DIRECTORY / "tenant.json"
    with explaining(place, "read"):
        text = read_small(directory.files, state, "tenant.json")
        if text is None and directory.mode_of(state, "tenant.json"):
            text = b""
    if text is None:
        return {}
    with contextlib.suppress(ValueError, RecursionError):
        tenants = json.loads(text)
        if isinstance(tenants, dict) and all(isinstance(name, str) for name in tenants.values()):
            return tenants
    raise StorageError(
        f"{place}: it is damaged, so it is not known whose files these are; nothing was written. "
        "Remove it if the folder is yours, and run again."
    )


@contextlib.contextmanager
def _locked(directory: Directory, state: Handle) -> Iterator[None]:
    """Hold the lock of the directory, if it is granted within five seconds; it only saves work."""
    place, files = directory.root / STATE_DIRECTORY / "lock", directory.files
    with explaining(place, "opened"):
        file = again(files.open_file, state, "lock", writable=True)
    try:
        for _ in range(100):
            with explaining(place, "locked"):
                if again(files.lock, file):
                    break
            directory.sleep(0.05)
        yield
    finally:
        files.close(file)


def _make_root(directory: Directory) -> None:
    """Make the root and its parents, and sync their names, so that committed files survive a power loss."""
    files, root = directory.files, str(directory.root)
    missing, place = [], os.path.abspath(root)
    while not os.path.lexists(place) and place != os.path.dirname(place):
        missing.append(place)
        place = os.path.dirname(place)
    try:
        again(files.make_root, root)
    except (FileExistsError, NotADirectoryError, FileNotFoundError) as error:
        raise _no_directory(root, place, error) from error
    for path in missing:
        # The parent may belong to another user, who allows us to make directories in it and no more.
        with contextlib.suppress(OSError):
            parent = again(files.open_root, os.path.dirname(path))
            try:
                directory.sync(parent, files.sync_directory)
            finally:
                files.close(parent)


def _no_directory(root: str, there: str, error: OSError) -> StorageError:
    """Return the error of a root that cannot be made, by the last existing part of its path."""
    shown, what = printable(root), printable(there)
    if os.path.isdir(there):
        return StorageError(
            f"{shown}: no folder can be made in {what} ({error.strerror}). Nothing was sent; choose another folder."
        )
    it = "it" if there == os.path.abspath(root) else what
    return StorageError(
        f"{shown}: {it} is no folder, so that no files can go there. Nothing was sent; choose another folder."
    )


def _check(to: str | os.PathLike[str], options: TransferOptions, owner: str) -> None:
    """Reject a directory or a layout that is not usable."""
    if not os.fspath(to):
        raise ConfigurationError(f"{owner} was given an empty folder name; name the directory to download to.")
    problem = layout_problem(options.layout) if options.layout is not None else None
    if problem is not None:
        raise ConfigurationError(f"The layout {printable(options.layout or '')!r} cannot be used: {problem}.")
