"""
A folder that files are brought to, open for work: everything its jobs share.

::

    Destination
    ├── storage      the folder
    ├── ledger       what is known about its files
    ├── committer    gives verified files their names
    ├── slots        lanes, each one thread and two buffers, shared by the sets under way
    ├── width        how many of them are out, where that adapts
    ├── desk         one thread for everything that belongs to no slot
    ├── announcer    tells the observer
    ├── rate         how fast all bodies together may be read
    └── budget       retries that all jobs share
"""

from __future__ import annotations

import asyncio
import os
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import attrs

from arena_async.errors import ClosedError, ConfigurationError
from arena_async.options import TransferOptions
from arena_async.transfer.committing import Committer
from arena_async.transfer.events import Announcer, Observer
from arena_async.transfer.ledger import Ledger, MemoryLedger, SqliteLedger
from arena_async.transfer.pacing import INTERVAL, Interval, RateLimit, Splitting, Width
from arena_async.transfer.planning import RetryBudget, is_too_much, layout_problem
from arena_async.transfer.slots import Slots, buffer_size
from arena_async.transfer.storage import Storage
from arena_async.transfer.threads import Lane, Threads, wait_to_end
from arena_async.wire.messages import printable

__all__ = ["Destination", "Timing", "end_tasks"]


def _now() -> datetime:
    return datetime.now(UTC)


@attrs.frozen(kw_only=True)
class Timing:
    """
    Where time and chance come from.

    Args:
        clock: Seconds that only ever grow.
        sleep: Waits for so many seconds.
        random: A number from 0 to 1.
        now: The time of day (aware).
    """

    clock: Callable[[], float]
    sleep: Callable[[float], Awaitable[object]]
    random: Callable[[], float]
    now: Callable[[], datetime] = _now


async def end_tasks(*tasks: asyncio.Task[object] | asyncio.Task[None]) -> None:
    """Cancel tasks and wait until they have ended; a cancellation of the caller is delivered after that."""
    for task in tasks:
        task.cancel()
    if tasks:
        await wait_to_end(asyncio.gather(*tasks, return_exceptions=True))


class _Seen:
    """What was seen of the bodies since their number was last judged."""

    def __init__(self, width: Width, clock: Callable[[], float]) -> None:
        self.count = 0
        self.refusals = 0
        self._width = width
        self._clock = clock
        self._began = clock()

    def judge(self, *, wanted: bool) -> int | None:
        """Judge their number anew when an interval is over, and give it."""
        now = self._clock()
        if now - self._began < INTERVAL:
            return None
        seen = Interval(seconds=now - self._began, count=self.count, refusals=self.refusals, wanted=wanted)
        self.count, self.refusals, self._began = 0, 0, now
        return self._width.judge(seen)


class Destination:
    """
    A folder that is open for work. It is opened by the first job and ended by :meth:`aclose`.

    Args:
        to: The folder.
        options: How files are brought home.
        observer: Whom to tell, or None.
        remember: Whether complete files are remembered, in the ledger of the folder.
        timing: Where time and chance come from.
        owner: What to call it in errors.

    Raises:
        ConfigurationError: The folder or the layout cannot be what is meant.
    """

    def __init__(
        self,
        to: str | os.PathLike[str],
        *,
        options: TransferOptions,
        observer: Observer | None,
        remember: bool,
        timing: Timing,
        owner: str,
    ) -> None:
        if not os.fspath(to):
            raise ConfigurationError(f"{owner} was given an empty folder name; name the folder to bring files to.")
        problem = layout_problem(options.layout) if options.layout is not None else None
        if problem is not None:
            raise ConfigurationError(f"The layout {printable(options.layout or '')!r} cannot be used: {problem}.")
        self.root = Path(to)
        self.options = options
        self.timing = timing
        self.announcer = Announcer(observer, clock=timing.clock)
        self.budget = RetryBudget(first=float(options.attempts * options.workers))
        rate, workers, most = options.max_rate, options.workers, options.most_workers
        self.rate = RateLimit(rate, readers=options.widest) if rate is not None else None
        self._seen = _Seen(Width(start=workers, most=most), timing.clock) if most is not None else None
        self.splitting = Splitting()
        #: Services of which a range was asked and that showed that they do not know how.
        self.rangeless: set[str] = set()
        #: Services that gave something else than the part of a file that was asked for.
        self.unsplit: set[str] = set()
        self.storage = Storage(to)
        self.ledger: Ledger
        self.committer: Committer
        self._remember = remember
        self._owner = owner
        self._desk: Threads | None = None
        self.slots = Slots(self._new_lane, width=workers)
        self._claimed: set[tuple[str, str]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._process = os.getpid()
        self._opening: asyncio.Task[None] | None = None
        self._opened = False
        self._closed = False

    # ------------------------------------------------------------------------------------------------ opening, closing

    async def open(self) -> None:
        """
        Open it, once, however many jobs ask.

        Raises:
            ClosedError: It was closed before, or is used from another event loop or after a fork.
            StorageError: The folder cannot be used.
        """
        self.check_usable()
        if self._opening is None:
            self._loop = asyncio.get_running_loop()
            self._opening = asyncio.create_task(self._open(), name="arena_async opening")
        opening = self._opening
        await wait_to_end(opening)
        if opening.exception() is not None and self._opening is opening:
            self._opening = None
        opening.result()

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
        """Open the folder, settle what an interrupted run left, and make the slots; all of it, or nothing is left."""
        self._desk = Threads(1, name="arena_async-desk")
        try:
            await self._desk.run(self.storage.prepare)
            await self._open_ledger(self._desk)
        except BaseException:
            await self._close_desk()
            raise
        self._opened = True

    async def _open_ledger(self, desk: Threads) -> None:
        """Open the ledger and settle what an interrupted run left."""
        remembers = self.storage.ledger_path.exists()
        if self._remember:
            self.ledger = await SqliteLedger.open(self.storage.ledger_path)
        else:
            self.ledger = await MemoryLedger.open()
        durability, now = self.options.durability, self.timing.now
        self.committer = Committer(self.storage, self.ledger, durability=durability, now=now)
        try:
            recovered = await self.committer.recover()
            if self._remember or not remembers:
                # Where a ledger lies that is not ours, its rows may still name partial files.
                await desk.run(self.storage.sweep, keep=recovered.partials)
        except BaseException:
            await self.committer.aclose()
            await self.ledger.aclose()
            raise

    async def aclose(self) -> None:
        """Commit what is verified, close the folder, end the threads. Safe to call twice, from any task."""
        if self._closed:
            return
        self._closed = True
        if self._opening is None:
            await self._close_desk()
            return
        closing = asyncio.ensure_future(self._close(self._opening))
        await wait_to_end(closing)
        closing.result()

    async def _close(self, opening: asyncio.Task[None]) -> None:
        """Close what was opened, in the order in which it is not needed any more."""
        await asyncio.wait([opening])
        try:
            if self._opened:
                await self.committer.aclose()
            await self.announcer.aclose()
            if self._opened:
                await self.ledger.aclose()
        finally:
            for lane in self.slots.lanes:
                await lane.aclose()
            await self._close_desk()

    async def _close_desk(self) -> None:
        """Close the folder and end the last thread."""
        desk, self._desk = self._desk, None
        if desk is not None:
            try:
                await desk.run(self.storage.close)
            finally:
                await desk.aclose()

    def __del__(self, _warn: Callable[..., None] = warnings.warn) -> None:
        """Complain if it was opened and never closed."""
        if getattr(self, "_desk", None) is not None and not self._closed:
            _warn(f"This {self._owner} was never closed; use it with `async with`.", ResourceWarning, source=self)

    # -------------------------------------------------------------------------------------------------------- for jobs

    @property
    def remembers(self) -> bool:
        """Whether complete files are remembered."""
        return self._remember

    @property
    def desk(self) -> Threads:
        """
        One thread for what belongs to no slot.

        Raises:
            ClosedError: It was closed before.
        """
        if self._desk is None:
            raise ClosedError(f"This {self._owner} was closed before; make a new one.")
        return self._desk

    def _new_lane(self) -> Lane:
        """Make another lane."""
        return Lane(chunk_size=buffer_size(len(self.slots.lanes), chunk_size=self.options.chunk_size))

    @asynccontextmanager
    async def lane(self, files: object) -> AsyncIterator[Lane]:
        """Wait for a slot for a file of a set and leave it at the end, clean for the next file."""
        lane = await self.slots.take(files)
        try:
            yield lane
        finally:
            try:
                await lane.abandon()
            finally:
                self.slots.give(files, lane)

    def note_failure(self, failure: Exception) -> None:
        """Note a request for content that failed; one that says "too much" narrows what is open."""
        if self._seen is not None and is_too_much(failure):
            self._seen.refusals += 1
            self._adapt(self._seen)

    async def take_in(self, count: int) -> None:
        """Count a piece of a body, open more bodies or fewer, and wait as the rate that the caller allows wants it."""
        if self._seen is not None:
            self._seen.count += count
            self._adapt(self._seen)
        wait = self.rate.wait_after(count, now=self.timing.clock()) if self.rate is not None else 0.0
        if wait > 0:
            await self.timing.sleep(wait)

    def _adapt(self, seen: _Seen) -> None:
        """Open more bodies or fewer, by what was seen."""
        width = seen.judge(wanted=self.slots.wished)
        if width is not None:
            self.slots.set_width(width)

    async def claim(self, service: str, tenant: str) -> None:
        """
        Take the folder for a tenant of a service.

        Raises:
            DestinationBusyError: It belongs to another tenant of that service.
        """
        if (service, tenant) not in self._claimed:
            await self.desk.run(self.storage.claim, service, tenant)
            self._claimed.add((service, tenant))
