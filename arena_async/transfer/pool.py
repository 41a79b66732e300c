"""
Many files at a time: listed lazily, decided on in pages, fetched by a bounded number of slots.

::

    FileSet ──> reader ──(at most 400 wait)──> feeder: decides a page, one hop for the ledger, one for the disk
                                                 │  kept: only counted        skipped, refused: an outcome at once
                                                 ▼
                                  one task a file, at most `workers` with an open body and 64 more that wait for their
                                  group or for their next try
                                                 │
                                                 ▼
                              (at most `workers` outcomes wait) ──> whoever iterates the OutcomeStream

Nothing is held for a file that is done, except by whoever keeps its outcome. A file that fails is an outcome with an
error; a listing that fails is raised when everything listed before has its outcome.
"""

from __future__ import annotations

import asyncio
import os
import random as chance
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from pathlib import PurePosixPath
from types import TracebackType
from typing import Self

import attrs

from arena_async.errors import ArenaAsyncError, ClosedError, DestinationBusyError, QuotaExhaustedError, UnsafeNameError
from arena_async.options import TransferOptions
from arena_async.transfer.destination import Destination, Timing, end_tasks
from arena_async.transfer.events import Action, Observer, Outcome, Report, Settled, as_error
from arena_async.transfer.fetching import Job, fetch_one
from arena_async.transfer.filesystem import FileState
from arena_async.transfer.ledger import PAGE, Entry, Known, Sighting
from arena_async.transfer.planning import Decision, decide, is_newer, place, twin_key, twin_path
from arena_async.transfer.storage import Storage
from arena_async.transfer.threads import wait_to_end
from arena_async.wire.contracts import FileSet, RemoteFile
from arena_async.wire.messages import printable

__all__ = ["Downloader", "Numbered", "OutcomeStream", "report_on"]

#: Files beyond the open ones that may wait for their group, for a slot, or for their next try.
_WAITING = 64


@attrs.frozen(kw_only=True)
class Numbered:
    """An outcome with the place of its file in the listing, from 0."""

    number: int
    outcome: Outcome


@attrs.frozen(kw_only=True)
class _Row:
    """A listed file, where it goes and under which key it is remembered; or why it goes nowhere."""

    number: int
    file: RemoteFile
    key: str
    path: PurePosixPath
    entry: Entry | None = None
    refused: ArenaAsyncError | None = None

    @property
    def sighting(self) -> Sighting:
        """What the ledger notes of it."""
        return Sighting(key=self.key, name=self.file.name, change=self.file.change, path=self.shown_path)

    @property
    def shown_path(self) -> str:
        """The path as text; "" where no safe one can be made."""
        return str(self.path) if self.path.parts else ""

    def as_twin(self) -> _Row:
        """Move it aside, for the newer row of its key."""
        if self.refused is not None:
            return attrs.evolve(self, key=twin_key(self.file.key, self.file.name), entry=None)
        path = twin_path(self.path, self.file.name, self.file.extension)
        return attrs.evolve(self, key=twin_key(self.file.key, self.file.name), path=path, entry=None)

    @property
    def rank(self) -> tuple[str, str]:
        """What tells the newer of two rows."""
        return self.file.change, self.file.name


@attrs.frozen(kw_only=True)
class _Scouted:
    """
    What was seen on the disk for a page of rows.

    Args:
        states: What lies where they go, by path.
        free: Bytes that the disk still takes, or None where nobody knows.
    """

    states: Mapping[str, FileState | Exception | None] = attrs.field(factory=dict)
    free: int | None = None


def _scout(storage: Storage, paths: Sequence[PurePosixPath]) -> _Scouted:
    """Look at the disk for a page of rows, on a thread."""
    return _Scouted(states=storage.look_all(paths), free=storage.free_bytes())


class OutcomeStream:
    """
    Outcomes as they come: an async iterator, and an async context manager that leaves nothing running.

    ::

        async with downloads.stream(files) as outcomes:
            async for outcome in outcomes:
                ...                      # leave whenever you like, by break, return or an exception

    It starts when the first outcome is asked for. Left early without its own ``async with``, it ends with the
    :class:`Downloader` it came from, and meanwhile goes on only as far as its small buffer reaches. After the last
    outcome it raises what stopped it before its end, if anything did: a listing that failed, an allowance used up, a
    disk that is full.
    """

    def __init__(
        self,
        files: FileSet,
        destination: Destination,
        *,
        scope: str | None = None,
        dry: bool = False,
        ask_again: bool = False,
    ) -> None:
        #: Files that were listed so far.
        self.listed = 0
        #: Files that are here and the same.
        self.kept = 0
        #: Whether the listing came to its end.
        self.whole = False
        #: Why it stopped before its end, where that is no failed listing; or None.
        self.error: ArenaAsyncError | None = None
        #: When the newest listed file changed, or None.
        self.newest: datetime | None = None
        #: The number of this listing in the ledger.
        self.generation = 0
        #: Outcomes that nobody had asked for when it was closed.
        self.left_over: list[Numbered] = []
        self._files = files
        self._scope = scope or files.scope
        self._destination = destination
        self._dry = dry
        self._ask_again = ask_again
        self._told = 0
        self._repeated = 0
        self._page: asyncio.Queue[RemoteFile | None] = asyncio.Queue(PAGE)
        self._outcomes: asyncio.Queue[Numbered | None] = asyncio.Queue(destination.options.widest)
        self._room = asyncio.Semaphore(destination.options.widest + _WAITING)
        self._jobs: set[asyncio.Task[None]] = set()
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._stopped: set[str] = set()
        self._newest_rows: dict[str, tuple[str, str]] = {}
        self._evicted: dict[str, set[str]] = {}
        self._failure: BaseException | None = None
        self._reader: asyncio.Task[None] | None = None
        self._feeder: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._ended = False
        self.on_close: Callable[[OutcomeStream], object] = lambda _: None

    # ------------------------------------------------------------------------------------------------------ for callers

    @property
    def not_started(self) -> int:
        """Files that were listed and have no outcome (yet)."""
        return self.listed - self.kept - self._told - self._repeated

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Outcome:
        return (await self.next_numbered()).outcome

    async def next_numbered(self) -> Numbered:
        """
        Give the next outcome with its place in the listing.

        Raises:
            StopAsyncIteration: There is none, and everything listed was done.
            ArenaAsyncError: There is none, and this is what stopped the rest.
            ClosedError: It was closed meanwhile by another task.
        """
        if self._closing is not None:
            raise StopAsyncIteration
        if self._feeder is None:
            self._destination.check_usable()
            self._feeder = asyncio.create_task(self._feed(), name="arena_async feeder")
        numbered = await self._outcomes.get()
        if numbered is not None:
            return numbered
        await self.aclose()
        if not self._ended:
            raise ClosedError("The stream of outcomes was closed by another task; what was under way can be resumed.")
        failure, self._failure = self._failure or self.error, None
        if failure is not None:
            raise failure
        raise StopAsyncIteration

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Stop listing and fetching and wait until nothing runs any more; partial files stay. Safe to call twice."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close(), name="arena_async closing")
        await wait_to_end(self._closing)
        self._closing.result()

    async def _close(self) -> None:
        """End every task, then wake whoever still waits for an outcome."""
        tasks = [task for task in (self._reader, self._feeder, *self._jobs) if task is not None]
        await end_tasks(*tasks)
        self._destination.slots.leave(self._files)
        self.on_close(self)
        while not self._outcomes.empty():
            numbered = self._outcomes.get_nowait()
            if numbered is not None:
                self.left_over.append(numbered)
        self._outcomes.put_nowait(None)

    # ---------------------------------------------------------------------------------------------------------- listing

    async def _read(self) -> None:
        """List the files, as far ahead as there is room."""
        rows = aiter(self._files)
        try:
            try:
                async for file in rows:
                    self.listed += 1
                    await self._page.put(file)
            finally:
                close = getattr(rows, "aclose", None)
                if close is not None:
                    await close()
            self.whole = True
        except QuotaExhaustedError as error:
            self.error = self.error or error
        except Exception as error:  # noqa: BLE001 - raised when everything listed before has its outcome
            self._failure = error
        await self._page.put(None)

    async def _next_page(self, *, whole: bool) -> list[RemoteFile]:
        """
        Give what was listed since, up to a page; empty at the end.

        Args:
            whole: Wait for a whole page: where the one before brought nothing to do, this one will not either, and
                looking things up is cheaper for many rows at a time.
        """
        page: list[RemoteFile] = []
        while len(page) < PAGE:
            file = await self._page.get() if whole or not page else self._page.get_nowait()
            if file is None:
                if page:
                    self._page.put_nowait(None)
                break
            page.append(file)
            if self._page.empty() and not whole:
                break
        return page

    async def _feed(self) -> None:
        """Decide on page after page, give out jobs, and say when all is done."""
        self._destination.slots.join(self._files)
        try:
            await self._destination.open()
            self.generation = await self._destination.ledger.begin_listing(self._scope)
            self._reader = asyncio.create_task(self._read(), name="arena_async reader")
            number, idle = 0, False
            while "disk" not in self._stopped and (page := await self._next_page(whole=idle)):
                kept = self.kept
                await self._act_on(await self._settle_places(page, number))
                number += len(page)
                idle = self.kept - kept == len(page)
            await end_tasks(self._reader)
            if self.whole and self._evicted and "disk" not in self._stopped:
                await self._act_on(await self._settle_places(await self._find_evicted(), number, twins=True))
            if self.whole:
                await self._destination.ledger.end_listing(self._scope, self.generation)
        except Exception as error:  # noqa: BLE001 - raised when everything under way has its outcome
            self._failure = self._failure or error
        if self._reader is not None:
            await end_tasks(self._reader)
        while self._jobs:
            await asyncio.wait(self._jobs)
        self._destination.slots.leave(self._files)
        self._ended = True
        await self._outcomes.put(None)

    # --------------------------------------------------------------------------------------------- which row goes where

    async def _settle_places(self, page: Sequence[RemoteFile], first: int, *, twins: bool = False) -> list[_Row]:
        """
        Say for a page of rows where each goes, and what is known about it. Rows that only repeat another are left out.

        Two rows of one key: the newer one has the plain path, the other a path with a mark of the vendor's name. When
        the older one came first, on an earlier page, it is looked up again at the end of the listing.

        Raises:
            DestinationBusyError: The folder belongs to another tenant.
            ConfigurationError: The layout names a field that these files do not have.
        """
        for service, tenant in dict.fromkeys((file.service, file.tenant) for file in page):
            await self._destination.claim(service, tenant)
        rows = [self._place(number, file) for number, file in enumerate(page, first)]
        if twins:
            rows = [row.as_twin() for row in rows]
        known = await self._see(rows)
        settled: dict[str, _Row] = {}
        aside: list[_Row] = []
        for row, facts in zip(rows, known, strict=True):
            known_row = row if facts.entry is None else attrs.evolve(row, entry=facts.entry)
            await self._settle(known_row, facts, settled, aside)
        for row, facts in zip(aside, await self._see(aside), strict=True):
            if facts.earlier is not None:
                self._repeated += 1
                continue
            settled[row.key] = self._unless_taken(attrs.evolve(row, entry=facts.entry), facts)
        return sorted(settled.values(), key=lambda row: row.number)

    def _place(self, number: int, file: RemoteFile) -> _Row:
        """Say where a row wants to go."""
        if self.newest is None or (file.changed_at is not None and file.changed_at > self.newest):
            self.newest = file.changed_at
        try:
            path = place(file, self._destination.options.layout)
        except UnsafeNameError as error:
            return _Row(number=number, file=file, key=file.key, path=PurePosixPath(), refused=error)
        return _Row(number=number, file=file, key=file.key, path=path)

    async def _see(self, rows: Sequence[_Row]) -> list[Known]:
        """Note rows in the ledger and get what is known about them."""
        if not rows:
            return []
        sightings = [row.sighting for row in rows]
        return await self._destination.ledger.see(self._scope, self.generation, sightings)

    async def _settle(self, row: _Row, facts: Known, settled: dict[str, _Row], aside: list[_Row]) -> None:
        """Give one row its place among those of its key."""
        earlier = facts.earlier
        if earlier is None:
            if await self._was_twin(row):
                aside.append(row.as_twin())
            else:
                settled[row.key] = self._unless_taken(row, facts)
            return
        holder = self._newest_rows.get(row.key, (earlier.change, earlier.name))
        if row.rank == holder:
            self._repeated += 1
            return
        if not is_newer(*row.rank, than=holder):
            self._newest_rows[row.key] = holder
            aside.append(row.as_twin())
            return
        self._newest_rows[row.key] = row.rank
        before = settled.get(row.key)
        if before is not None:
            aside.append(before.as_twin())
        else:
            self._evicted.setdefault(row.key, set()).add(holder[1])
        settled[row.key] = self._unless_taken(row, facts)

    async def _was_twin(self, row: _Row) -> bool:
        """Say whether an earlier run put this row aside for a newer one that will come, or has it here as that one."""
        entry = row.entry
        if entry is None or entry.name == row.file.name or not is_newer(entry.change, entry.name, than=row.rank):
            return False
        key = row.as_twin().key
        found = (await self._destination.ledger.look_up([key])).get(key)
        return found is not None and found.change == row.file.change

    @staticmethod
    def _unless_taken(row: _Row, facts: Known) -> _Row:
        """Refuse a row whose path another key of this listing has taken."""
        if facts.rival is None or row.refused is not None:
            return row
        error = DestinationBusyError(
            f"{printable(str(row.path))}: {printable(facts.rival)} of the same listing goes there already, so "
            f"{printable(row.key)} was not fetched. Use a layout with more identifying fields.",
            file=row.key,
        )
        return attrs.evolve(row, refused=error)

    async def _find_evicted(self) -> list[RemoteFile]:
        """Look up the older rows again whose newer ones came on a later page."""
        found = await self._files.find(list(self._evicted))
        rows = [file for file in found if file.name in self._evicted.get(file.key, ())]
        self.listed += len(rows)
        return rows

    # ----------------------------------------------------------------------------------------------------------- acting

    async def _act_on(self, rows: Sequence[_Row]) -> None:
        """Decide on the rows of a page, remember what will never come, and give out the jobs."""
        scouted = await self._look_at(
            [row for row in rows if row.entry is not None or not (self._dry or row.file.skip)]
        )
        decided = [self._decide(row, scouted.states.get(str(row.path))) for row in rows]
        await self._remember_skips(decided)
        for row, decision in decided:
            await self._act(row, decision, clear=self._is_clear(row, scouted))
            if "disk" in self._stopped:
                return

    def _is_clear(self, row: _Row, scouted: _Scouted) -> bool:
        """Say whether nothing has to be looked at before the content of a row is asked for."""
        path = str(row.path)
        seen = path in scouted.states and not isinstance(scouted.states[path], Exception)
        # All files of a page may come before anybody looks again.
        fits = row.file.size is None or (scouted.free is not None and row.file.size * PAGE <= scouted.free)
        return seen and fits and not self._destination.storage.may_resume(row.key)

    def _decide(self, row: _Row, state: FileState | Exception | None) -> tuple[_Row, Decision]:
        """Decide on one row; what lies where it goes may be a reason to refuse it."""
        if isinstance(state, Exception) and row.entry is not None:
            row, state = attrs.evolve(row, refused=as_error(state, file=row.key)), None
        if row.refused is not None:
            return row, Decision(action=Action.FETCH)
        known = state if row.entry is not None and not isinstance(state, Exception) else None
        return row, decide(row.file, row.entry, known, path=str(row.path), ask_again=self._ask_again)

    async def _remember_skips(self, decided: Sequence[tuple[_Row, Decision]]) -> None:
        """Write down what the listing itself says will never come, in one transaction."""
        now = self._destination.timing.now()
        entries = [
            Entry(
                key=row.key,
                state="skipped",
                change=row.file.change,
                name=row.file.name,
                reason=decision.reason,
                at=now,
            )
            for row, decision in decided
            if decision.action is Action.SKIP and (row.entry is None or row.entry.state != "skipped")
        ]
        if entries and not self._dry:
            await self._destination.ledger.write(entries)

    async def _look_at(self, rows: Sequence[_Row]) -> _Scouted:
        """See what lies where, in one go."""
        paths = [row.path for row in rows if row.refused is None]
        return await self._destination.desk.run(_scout, self._destination.storage, paths) if paths else _Scouted()

    async def _act(self, row: _Row, decision: Decision, *, clear: bool) -> None:
        """Do what is decided about one row."""
        if row.refused is not None:
            await self._tell(row, action=Action.FETCH, error=row.refused)
        elif decision.action is Action.KEEP:
            self.kept += 1
        elif decision.action is Action.SKIP:
            await self._tell(row, action=Action.SKIP, reason=decision.reason)
        elif self._dry:
            await self._tell(row, action=await self._or_resume(row, decision.action))
        else:
            await self._give_out(row, decision.action, clear=clear)

    async def _or_resume(self, row: _Row, action: Action) -> Action:
        """Say that a fetch would go on with a part that is here."""
        if action is not Action.FETCH:
            return action
        partial = await self._destination.desk.run(self._destination.storage.find_partial, row.key)
        return action if partial is None else Action.RESUME

    async def _give_out(self, row: _Row, action: Action, *, clear: bool) -> None:
        """Start the job of one file as soon as there is room; not while another one works on the same path."""
        job = Job(number=row.number, file=row.file, key=row.key, path=row.path, action=action, clear=clear)
        before = self._under_way.get(str(row.path))
        if before is not None:
            await asyncio.wait([before])
        await self._room.acquire()
        if not self._may_start(job):
            self._room.release()
            return
        task = asyncio.create_task(self._bring(job), name="arena_async file")
        self._jobs.add(task)
        self._under_way[str(row.path)] = task
        task.add_done_callback(lambda _: self._put_away(str(row.path), task))

    def _put_away(self, path: str, task: asyncio.Task[None]) -> None:
        """Forget a job that ended."""
        self._room.release()
        self._jobs.discard(task)
        if self._under_way.get(path) is task:
            del self._under_way[path]
        if not task.cancelled() and task.exception() is not None:
            self._failure = self._failure or task.exception()

    def _may_start(self, job: Job) -> bool:
        """Say whether nothing has stopped what this file needs."""
        return "disk" not in self._stopped and _service(job.file) not in self._stopped

    async def _bring(self, job: Job) -> None:
        """Fetch one file and tell what became of it."""

        def on_stop(what: str) -> None:
            self._stopped.add("disk" if what == "disk" else _service(job.file))

        fetched = await fetch_one(
            job, self._files, self._destination, may_start=lambda: self._may_start(job), on_stop=on_stop
        )
        if fetched is None:
            return
        if fetched.stop is not None:
            on_stop(fetched.stop)
            self.error = self.error or fetched.outcome.error
        self._destination.announcer.announce(Settled(outcome=fetched.outcome, bytes_done=fetched.bytes_done))
        # Where the service stopped everybody, that is one error of the run and none of this file.
        if fetched.stop != "service":
            await self._deliver(job.number, fetched.outcome)

    async def _tell(self, row: _Row, *, action: Action, reason: str = "", error: ArenaAsyncError | None = None) -> None:
        """Tell the outcome of a row that needs no content."""
        path = self._destination.root / row.path if row.path.parts else None
        shown = attrs.evolve(row.file, link=None)
        outcome = Outcome(file=shown, action=action, path=path, reason=reason, error=error)
        if not self._dry:
            self._destination.announcer.announce(Settled(outcome=outcome))
        await self._deliver(row.number, outcome)

    async def _deliver(self, number: int, outcome: Outcome) -> None:
        """Hand out an outcome, as soon as there is room for it."""
        await self._outcomes.put(Numbered(number=number, outcome=outcome))
        self._told += 1


def _service(file: RemoteFile) -> str:
    """Name whom a refusal of this file concerns."""
    return f"{file.service} {file.tenant}"


async def report_on(stream: OutcomeStream, files: FileSet, *, fail_fast: bool = False) -> Report:
    """
    Take a stream to its end and sum it up, in the order of the listing.

    Args:
        stream: Not started yet.
        files: What it lists, for the requests that were spent.
        fail_fast: Stop at the first failure.

    Raises:
        ArenaAsyncError: The listing failed. What was listed before is done, as a note on the error says.
    """
    before = files.requests_sent
    rows: list[Numbered] = []
    async with stream:
        try:
            while True:
                numbered = await stream.next_numbered()
                rows.append(numbered)
                if fail_fast and numbered.outcome.error is not None:
                    break
        except StopAsyncIteration:
            pass
        except Exception as error:
            if error is not stream.error:
                done = sum(row.outcome.error is None for row in rows) + stream.kept
                error.add_note(f"{done} of the {stream.listed} files listed before that are done; they stay.")
                raise
    rows += stream.left_over
    counts = dict.fromkeys(Action, 0)
    counts[Action.KEEP] = stream.kept
    for row in rows:
        counts[row.outcome.action] += row.outcome.error is None
    return Report(
        outcomes=tuple(row.outcome for row in sorted(rows, key=lambda row: row.number)),
        counts=counts,
        not_started=stream.not_started,
        requests=files.requests_sent - before,
        error=stream.error,
    )


class Downloader:
    """
    Brings files to a folder: always fetches, replaces atomically, resumes what was cut off.

    It has no memory of complete files; :class:`Mirror` has.

    ::

        async with Downloader("exports/") as downloads:
            report = await downloads.run(files)

    It can be entered in one task and left in another, and may serve several sets at a time; all share its slots.

    Args:
        to: The folder; it is made when it is missing.
        options: How files are brought home.
        observer: Called with each event; a plain function or a coroutine function. It cannot harm a transfer.
        clock: Seconds that only ever grow.
        sleep: Waits for so many seconds.
        random: A number from 0 to 1.

    Raises:
        ConfigurationError: The folder or an option cannot be what is meant. Nothing was touched.
    """

    def __init__(
        self,
        to: str | os.PathLike[str],
        *,
        options: TransferOptions | None = None,
        observer: Observer | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        random: Callable[[], float] = chance.random,
    ) -> None:
        self._destination = Destination(
            to,
            options=options or TransferOptions(),
            observer=observer,
            remember=False,
            timing=Timing(clock=clock, sleep=sleep, random=random),
            owner="Downloader",
        )
        self._streams: set[OutcomeStream] = set()

    async def __aenter__(self) -> Self:
        try:
            await self._destination.open()
        except asyncio.CancelledError:
            # Nobody calls __aexit__ for a block that was never entered.
            await self._destination.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def stream(self, files: FileSet) -> OutcomeStream:
        """
        Give the outcomes of a set as they come. Nothing starts before the first one is asked for.

        Raises:
            ClosedError: It was closed before, or is used from another event loop or after a fork.
        """
        self._destination.check_usable()
        stream = OutcomeStream(files, self._destination)
        stream.on_close = self._streams.discard
        self._streams.add(stream)
        return stream

    async def run(self, files: FileSet, *, fail_fast: bool = False) -> Report:
        """
        Bring all files of a set home and report, in the order of the listing.

        A file that fails is an outcome with an error. When an allowance is used up, a login is refused or the disk is
        full, no further file is begun: ``report.error`` says why and ``report.not_started`` how many are left.

        Args:
            files: What to bring.
            fail_fast: Stop at the first file that fails; what is under way can be resumed.

        Raises:
            ArenaAsyncError: The listing failed, so that nobody knows what is missing. Everything that was listed
                before was brought home first.
            ClosedError: It was closed before, or is used from another event loop or after a fork.
        """
        report = await report_on(self.stream(files), files, fail_fast=fail_fast)
        await self._destination.announcer.drain()
        return report

    async def aclose(self) -> None:
        """Stop everything, commit what is verified, and close the folder. Safe to call twice."""
        try:
            for stream in list(self._streams):
                await stream.aclose()
        finally:
            await self._destination.aclose()
