"""From a file set to jobs: the listing read ahead, pages planned on a thread, jobs and their queue."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

import attrs

from arena_async.protocol.filenames import duplicate_key
from arena_async.protocol.files import FileSet, RemoteFile, ResponseOrder
from arena_async.transfer.commit import out_of_step
from arena_async.transfer.context import Context, claim_tenant
from arena_async.transfer.duplicates import Duplicates
from arena_async.transfer.leases import RunLease, pause_after
from arena_async.transfer.models import PAGE, Action, FileState, KnownRow, LedgerEntry, ListingRecord, Outcome, as_error
from arena_async.transfer.partial_file import PartialFile
from arena_async.transfer.partial_files import finish_move
from arena_async.transfer.planner import Decision, PlannedRow, Tries, decide, host_of, new_row
from arena_async.transfer.verify import ContentVerifier

__all__ = ["DownloadAttempt", "HeldBack", "Job", "JobQueue", "Listing", "Numbered", "PagePlanner", "Source"]

_NO_TRIES = Tries()
#: Seconds after which outcomes that are held back are looked at again, at most.
_MAX_PAUSE = 0.05

_DOWNLOADS = frozenset({Action.FETCH, Action.RESUME, Action.REFRESH})

#: No change is believed to be older.
_EPOCH = datetime(1970, 1, 2, tzinfo=UTC)


@attrs.frozen
class Source:
    """
    Where the jobs of a run come from and go to.

    Args:
        files: The file set: opens a file, and returns a fresh entry when its URL has expired.
        context: The directory, open.
        run: Identifies the run to permits and committer.
    """

    files: FileSet
    context: Context
    run: object


@attrs.define(eq=False)
class DownloadAttempt:
    """
    One attempt at the content of a file.

    Args:
        whole: Whether the whole file was requested, not a range.
        received: Bytes of content that it received.
        buffered: Bytes of them that are in memory only.
        missing: Whether the body ended early: what was received is right, but incomplete.
        sent: Whether a request was sent.
        judge: Takes whether the response was content, or a page in its place; or None.
    """

    sent: bool = False
    whole: bool = True
    received: int = 0
    buffered: int = 0
    missing: bool = False
    judge: Callable[[bool], None] | None = None


@attrs.define(eq=False)
class Job:
    """
    A file that is to be downloaded, and what is known about it from attempt to attempt.

    Args:
        number: Its position in the listing, from 0.
        file: The file as listed.
        key: The key under which it is remembered; that of the file but for rows whose key a newer row has.
        path: Its final path, below the root.
        planned: Fetch it, or refresh the local file.
        clear: Whether it was checked that no partial file exists, that a file can go there, and that it fits.
        several: Whether the file of another row of its key, which is at its path, is to be moved aside.
    """

    number: int
    file: RemoteFile
    key: str
    path: str
    planned: Action
    clear: bool = False
    several: bool = False
    action: Action = attrs.field(init=False, default=Action.FETCH)
    tries: Tries = attrs.field(init=False, default=_NO_TRIES)
    begun: bool = attrs.field(init=False, default=False)
    last: DownloadAttempt | None = attrs.field(init=False, default=None)
    failure: Exception | None = attrs.field(init=False, default=None)
    bytes_written: int = attrs.field(init=False, default=0)
    max_offset: int = attrs.field(init=False, default=0)
    # The partial file
    looked: bool = attrs.field(init=False, default=False)
    partial: PartialFile | None = attrs.field(init=False, default=None)
    verifier: ContentVerifier | None = attrs.field(init=False, default=None)
    validator: str | None = attrs.field(init=False, default=None)
    order: ResponseOrder | None = attrs.field(init=False, default=None)
    total: int | None = attrs.field(init=False, default=None)
    recovered: bool = attrs.field(init=False, default=False)
    split_from: int = attrs.field(init=False, default=0)
    event_at: float = attrs.field(init=False, default=0.0)

    @property
    def host(self) -> str:
        """The host that serves its content, as far as the listing tells."""
        return host_of(self.file)

    @property
    def end(self) -> int:
        """Bytes received without a gap."""
        if self.partial is not None:
            return self.partial.end
        return self.last.buffered if self.last is not None else 0

    @property
    def held(self) -> int:
        """Bytes received, wherever they belong."""
        if self.partial is not None:
            return self.partial.held
        return self.last.buffered if self.last is not None else 0

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong with the received content so far."""
        return self.verifier is None or self.verifier.problem is None

    def without_url(self) -> RemoteFile:
        """Return the file without its signed URL, for outcomes and events."""
        return self.file if self.file.link is None else self.file.without_link()


@attrs.frozen
class Numbered:
    """An outcome with the position of its file in the listing, from 0."""

    number: int
    outcome: Outcome


@attrs.define(eq=False)
class HeldBack:
    """
    Committed files whose outcome is held back until it is known that their content answered their own request.

    Attributes:
        rows: By connection: each job, its outcome, and its entry in the ledger.
        count: Files.
    """

    rows: defaultdict[ResponseOrder, list[tuple[Job, Outcome, LedgerEntry]]] = attrs.field(
        factory=lambda: defaultdict(list)
    )
    count: int = 0

    async def settle(
        self, context: Context, committing: int, *, at_once: bool
    ) -> list[tuple[Job, Outcome, int] | tuple[Job, None, int]]:
        """
        Return the jobs that are known now, with outcome and size, or with None if the file is to be requested again.

        Args:
            context: The directory.
            committing: Files whose commit will have an end; without any it waits a little if nothing is known.
            at_once: Whether to count those as right of which nothing is known yet.
        """
        known: list[tuple[Job, Outcome, int] | tuple[Job, None, int]] = []
        doubtful, wait = [], _MAX_PAUSE
        for order in list(self.rows):
            rest = order.check()
            if rest is not None and not at_once:
                wait = min(wait, rest)
                continue
            for job, outcome, entry in self.rows.pop(order):
                self.count -= 1
                if not order.broken:
                    known.append((job, outcome, entry.size))
                    continue
                job.failure = out_of_step(job.path)
                known.append((job, None, 0))
                # No file has a time before 1970: should this run end here, the next one requests it.
                doubtful.append(attrs.evolve(entry, state="complete", partial="", mtime_ns=-1))
        if doubtful:
            await context.run(context.ledger.write, doubtful)
        if not (committing or known) and self.rows:
            await context.clock.sleep(wait)
        return known


@attrs.define(eq=False)
class JobQueue:
    """
    The jobs of a run that have not ended. Two jobs of one path are never in progress at once.

    Attributes:
        jobs: All of them, wherever they are.
        ready: Those that wait for a worker.
        paused: Those that wait for a host in trouble, by host.
    """

    jobs: set[Job] = attrs.field(factory=set)
    ready: deque[Job] = attrs.field(factory=deque)
    paused: dict[str, deque[Job]] = attrs.field(factory=dict)
    _trying: set[Job] = attrs.field(factory=set)
    _paths: set[str] = attrs.field(factory=set)
    _behind: list[Job] = attrs.field(factory=list)

    def add(self, job: Job) -> bool:
        """Add a new job; False where another one of the same path is in progress, behind which it waits."""
        self.jobs.add(job)
        if job.path in self._paths:
            self._behind.append(job)
            return False
        self._paths.add(job.path)
        return True

    def pause(self, job: Job) -> None:
        """Let a job wait for its host, and with it all others of that host that are about to begin."""
        self.paused.setdefault(job.host, deque()).append(job)

    def has_to_wait(self, job: Job) -> bool:
        """Return whether others wait for the host of a job, and let it wait behind them, unless it is its turn."""
        if job in self._trying:
            self._trying.discard(job)
            return False
        waiting = self.paused.get(job.host)
        if waiting is not None:
            waiting.append(job)
        return waiting is not None

    def resume(self, host: str, count: int) -> list[Job]:
        """Return the next jobs that may try a host; without any, all of its jobs may begin again."""
        waiting = self.paused.get(host, ())
        jobs = [waiting.popleft() for _ in range(min(count, len(waiting)))] if waiting else []
        if not jobs:
            self.paused.pop(host, None)
        self._trying.update(jobs)
        return jobs

    def end(self, job: Job) -> Job | None:
        """Remove a job that ended, and return the next one of its path."""
        self.jobs.discard(job)
        for following in self._behind:
            if following.path == job.path:
                self._behind.remove(following)
                return following
        self._paths.discard(job.path)
        return None


@attrs.define(eq=False)
class Listing:
    """
    Reads a file set, at most one page ahead.

    Args:
        files: The set.

    Attributes:
        count: Files that were listed so far.
        whole: Whether the listing came to its end.
        failure: What made it fail, or None.
    """

    _files: FileSet
    count: int = 0
    whole: bool = False
    failure: Exception | None = None
    _rows: list[RemoteFile] = attrs.field(factory=list)
    _ended: bool = False
    _wanted: int = 1
    _listed: asyncio.Event = attrs.field(factory=asyncio.Event)
    _taken: asyncio.Event = attrs.field(factory=asyncio.Event)

    async def run(self) -> None:
        """Read the set to its end."""
        rows = aiter(self._files)
        try:
            try:
                async for file in rows:
                    self.count += 1
                    self._rows.append(file)
                    if len(self._rows) == self._wanted:
                        self._listed.set()
                    if len(self._rows) >= PAGE:
                        self._taken.clear()
                        await self._taken.wait()
            finally:
                close = getattr(rows, "aclose", None)
                if close is not None:
                    await close()
            self.whole = True
        except Exception as error:  # noqa: BLE001 - raised when everything listed before has its outcome
            self.failure = error
        self._ended = True
        self._listed.set()

    async def next_page(self, *, full: bool) -> list[RemoteFile]:
        """
        Return what was listed since, at most a page; empty at the end.

        Args:
            full: Wait for a full page: where the one before needed no download, batched look-ups are cheaper.
        """
        self._wanted = PAGE if full else 1
        while not self._ended and len(self._rows) < self._wanted:
            self._listed.clear()
            await self._listed.wait()
        page, self._rows = self._rows, []
        self._taken.set()
        return page


@attrs.define
class PagePlanner:
    """
    Plans a page at a time, on a thread: one query of the ledger, one batch of stats, pure decisions.

    Args:
        context: The directory.
        scope: The name of the query in the ledger.
        dry: Whether files are only planned.
        ask_again: Whether to request what the service rejected permanently the last time.
        lease: Claims what is downloaded, where other runs may work on the directory; or None.

    Attributes:
        claimed: Rows that another run of the directory is downloading, to be planned again.
    """

    context: Context
    scope: str
    dry: bool
    ask_again: bool
    lease: RunLease | None = None
    generation: int = 0
    duplicates: Duplicates = attrs.field(
        default=attrs.Factory(lambda self: Duplicates(self.context.ledger.remembers), takes_self=True)
    )
    newest: dict[str, datetime] = attrs.field(factory=dict)
    tenants: set[tuple[str, str]] = attrs.field(factory=set)
    claimed: list[PlannedRow] = attrs.field(factory=list)
    _looks: int = 0

    def plan(
        self, page: Sequence[RemoteFile], first: int, *, evicted: bool = False
    ) -> list[tuple[PlannedRow, Decision, bool]]:
        """
        Return the rows of a page in order, what to do with each, and whether nothing has to be checked before that.

        Args:
            page: What was listed.
            first: The position of its first row in the listing.
            evicted: Whether these are older rows whose newer ones came on a later page.

        Raises:
            DestinationBusyError: The directory belongs to another tenant.
            ConfigurationError: The layout names a field that these files do not have.
            StorageError: The disk or the ledger failed.
        """
        self._take_directory(page)
        return self._plan(self._settle(page, first, evicted=evicted))

    def plan_held(self) -> list[tuple[PlannedRow, Decision, bool]]:
        """Return the same for the rows that were to be decided on at the end of the listing."""
        settled, aside = self.duplicates.settle_held()
        return self._plan(self.duplicates.add_aside(settled, aside, self._note(aside)))

    def promote(self) -> None:
        """
        Move the newest row of a key to the plain path, where the newer version that was there is not listed any more.

        Raises:
            StorageError: The disk or the ledger failed.
        """
        ledger, expected = self.context.ledger, self.duplicates.expected
        for key, (change, name) in expected.items():
            beside = duplicate_key(key, name)
            known = ledger.look_up([key, beside])
            old, new = known.get(key), known.get(beside)
            if old is None or new is None or new.state == "skipped" or new.change != change:
                continue
            if self.context.directory.state_of(new.path) != FileState(size=new.size, mtime_ns=new.mtime_ns):
                continue
            moving = attrs.evolve(new, key=key, path=old.path, state="committing", partial=f"/{new.path}")
            ledger.write([moving])
            if finish_move(self.context.directory, moving, durable=self.context.options.durability != "off"):
                ledger.write((), completed=[moving])
                ledger.replace([(new, None)])

    async def find_evicted(self, files: FileSet) -> list[RemoteFile]:
        """Look older rows up whose newer ones came on a later page."""
        evicted = self.duplicates.evicted
        found = await files.find(list(evicted))
        return [file for file in found if file.name in evicted.get(file.key, ())]

    async def plan_claimed(self) -> list[tuple[PlannedRow, Decision, bool]]:
        """Wait a while, and plan again what other runs had claimed: they have it now, or failed, or have ended."""
        await self.context.clock.sleep(pause_after(self._looks))
        self._looks += 1
        rows, self.claimed = self.claimed, []
        return await self.context.run(self._plan_again, rows)

    def drop(self, key: str) -> None:
        """Remove the claim of a file that is not downloaded by this run."""
        if self.lease is not None:
            self.lease.drop(key)

    def _plan_again(self, rows: Sequence[PlannedRow]) -> list[tuple[PlannedRow, Decision, bool]]:
        known = self.context.ledger.look_up([row.key for row in rows])
        return self._plan([attrs.evolve(row, entry=known.get(row.key)) for row in rows])

    def _plan(self, rows: Sequence[PlannedRow]) -> list[tuple[PlannedRow, Decision, bool]]:
        """Decide about rows with their paths and keys, and claim what is to be downloaded."""
        look = [
            row.path
            for row in rows
            if row.rejected is None and (row.entry is not None or not (self.dry or row.file.skip))
        ]
        directory = self.context.directory
        states = directory.states_of(look) if look else {}
        free = directory.free_bytes() if look else None
        planned = [self._decide(row, states, free) for row in rows]
        # What will never be delivered according to the listing itself is remembered, in one transaction.
        now = self.context.clock.now()
        skipped = [
            LedgerEntry(
                key=row.key, state="skipped", change=row.file.change, name=row.file.name, reason=decision.reason, at=now
            )
            for row, decision, _ in planned
            if decision.action is Action.SKIP and (row.entry is None or row.entry.state != "skipped")
        ]
        if skipped and not self.dry:
            self.context.ledger.write(skipped)
        return planned if self.lease is None else self._claim(planned, self.lease)

    def _claim(
        self, planned: list[tuple[PlannedRow, Decision, bool]], lease: RunLease
    ) -> list[tuple[PlannedRow, Decision, bool]]:
        """Claim what is to be downloaded; what another run has claimed or committed since is set aside."""
        wanted = {
            row.key: row.entry for row, decision, _ in planned if decision.action in _DOWNLOADS and row.rejected is None
        }
        again = lease.claim(wanted) if wanted else ()
        if not again:
            return planned
        self.claimed += [row for row, _, _ in planned if row.key in again]
        return [one for one in planned if one[0].key not in again]

    def _take_directory(self, page: Sequence[RemoteFile]) -> None:
        """Take the directory for the tenants of a page, and note the newest change in each list."""
        for file in page:
            tenant = (file.service, file.tenant)
            if tenant not in self.tenants:
                claim_tenant(self.context.directory, *tenant)
                self.tenants.add(tenant)
            if file.listed_in and file.changed_at is not None and file.changed_at >= _EPOCH:
                newest = self.newest.get(file.listed_in, _EPOCH)
                self.newest[file.listed_in] = max(newest, file.changed_at)

    def _settle(self, page: Sequence[RemoteFile], first: int, *, evicted: bool) -> list[PlannedRow]:
        """Return the rows of a page with their paths and keys. Rows that only repeat another are left out."""
        layout = self.context.options.layout
        rows = [new_row(number, file, layout) for number, file in enumerate(page, first)]
        if evicted:
            rows = [row.as_duplicate() for row in rows]
        known = self._note(rows)
        if not [one for one in known if one.entry is not None or one.earlier is not None or one.conflict is not None]:
            return rows
        settled, aside = self.duplicates.settle(rows, known)
        if vacated := self.duplicates.vacated:
            self.context.ledger.note_listed(self.scope, self.generation, vacated)
            self.duplicates.vacated = []
        if not aside:
            return list(settled.values())
        return self.duplicates.add_aside(settled, aside, self._note(aside))

    def _note(self, rows: Sequence[PlannedRow]) -> list[KnownRow]:
        """Note in the ledger that rows were listed, and return what it knows about each."""
        listed = [ListingRecord(row.key, row.file.name, row.file.change, row.path) for row in rows]
        return self.context.ledger.note_listed(self.scope, self.generation, listed)

    def _decide(
        self, row: PlannedRow, states: Mapping[str, FileState | Exception | None], free: int | None
    ) -> tuple[PlannedRow, Decision, bool]:
        """Decide about one row; what lies under its final name may be a reason to reject it."""
        state = states.get(row.path)
        known = not isinstance(state, Exception)
        if isinstance(state, Exception):
            if row.entry is not None:
                row = attrs.evolve(row, rejected=as_error(state, file=row.key))
            state = None
        if row.rejected is not None:
            return row, Decision(Action.FETCH), False
        decision = decide(row.file, row.entry, state, path=row.path, ask_again=self.ask_again)
        partials = self.context.partials
        if self.dry and decision.action is Action.FETCH and partials.find(row.key) is not None:
            decision = Decision(Action.RESUME)
        # All files of a page may arrive before the space is checked again.
        fits = row.file.size is None or (free is not None and row.file.size * PAGE <= free)
        return row, decision, fits and known and not partials.may_resume(row.key)
