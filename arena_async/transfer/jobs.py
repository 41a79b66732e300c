"""From a file set to jobs: the listing read ahead, pages planned on a thread, jobs, their queue and outcomes."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from datetime import datetime

import attrs

from arena_async.errors import QuotaExhaustedError
from arena_async.protocol.filenames import duplicate_key
from arena_async.protocol.files import FileSet, RemoteFile
from arena_async.transfer.context import Context, claim_tenant
from arena_async.transfer.models import PAGE, Action, FileState, KnownRow, LedgerEntry, Outcome, as_error
from arena_async.transfer.partial_file import PartialFile
from arena_async.transfer.planner import Decision, Duplicates, PlannedRow, Tries, decide, is_clear, new_row
from arena_async.transfer.verify import ContentVerifier

__all__ = ["DownloadAttempt", "Job", "JobQueue", "Listing", "Numbered", "OutcomeBuffer", "PagePlanner", "Source"]

_NO_TRIES = Tries()


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
    """

    sent: bool = False
    whole: bool = True
    received: int = 0
    buffered: int = 0
    missing: bool = False


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
    """

    number: int
    file: RemoteFile
    key: str
    path: str
    planned: Action
    clear: bool = False
    action: Action = attrs.field(init=False, default=Action.FETCH)
    tries: Tries = attrs.field(init=False, default=_NO_TRIES)
    last: DownloadAttempt | None = attrs.field(init=False, default=None)
    failure: Exception | None = attrs.field(init=False, default=None)
    bytes_written: int = attrs.field(init=False, default=0)
    max_offset: int = attrs.field(init=False, default=0)
    # The partial file
    looked: bool = attrs.field(init=False, default=False)
    partial: PartialFile | None = attrs.field(init=False, default=None)
    verifier: ContentVerifier | None = attrs.field(init=False, default=None)
    validator: str | None = attrs.field(init=False, default=None)
    total: int | None = attrs.field(init=False, default=None)
    recovered: bool = attrs.field(init=False, default=False)
    split_from: int = attrs.field(init=False, default=0)
    event_at: float = attrs.field(init=False, default=0.0)

    @property
    def name(self) -> str:
        """What to call the file in errors."""
        return self.path

    @property
    def budget(self) -> str:
        """What the retries of this file are counted under."""
        return f"{self.file.service} {self.file.host or self.file.tenant}"

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


class JobQueue:
    """
    The jobs of a run that wait for a worker. Two jobs of one path are never in progress at once.

    Attributes:
        jobs: Every job that has not ended, wherever it is.
    """

    def __init__(self) -> None:
        self.jobs: set[Job] = set()
        self._ready: deque[Job] = deque()
        self._same_path: dict[str, deque[Job]] = {}
        self._idle: deque[asyncio.Future[Job | None]] = deque()
        self._drained: asyncio.Future[None] | None = None
        self._finished = False

    def add(self, job: Job) -> bool:
        """Add a new job; False where another one of the same path is in progress, behind which it waits."""
        self.jobs.add(job)
        same_path = self._same_path.get(job.path)
        if same_path is not None:
            same_path.append(job)
            return False
        self._same_path[job.path] = deque()
        return True

    def put(self, job: Job, *, first: bool = False) -> bool:
        """Pass a job to an idle worker and return True, or queue it and return False."""
        while self._idle:
            idle = self._idle.popleft()
            if not idle.done():
                idle.set_result(job)
                return True
        if first:
            self._ready.appendleft(job)
        else:
            self._ready.append(job)
        return False

    def take(self) -> Job | None:
        """Return the next job, or None where a worker has to :meth:`wait`."""
        return self._ready.popleft() if self._ready else None

    async def wait(self) -> Job | None:
        """Wait for a job and return it; None at the end."""
        if self._finished:
            return None
        idle: asyncio.Future[Job | None] = asyncio.get_running_loop().create_future()
        self._idle.append(idle)
        return await idle

    def end(self, job: Job) -> Job | None:
        """Remove a job that ended, and return the next one of its path."""
        self.jobs.discard(job)
        same_path = self._same_path.pop(job.path, None)
        following: Job | None = None
        if same_path:
            following = same_path.popleft()
            self._same_path[job.path] = same_path
        if not self.jobs:
            self.release()
        return following

    def release(self) -> None:
        """Let :meth:`drained` return."""
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    async def drained(self) -> None:
        """Wait until every job has ended, and end idle workers."""
        while self.jobs:
            self._drained = asyncio.get_running_loop().create_future()
            await self._drained
        self._finished = True
        for idle in self._idle:
            if not idle.done():
                idle.set_result(None)


class OutcomeBuffer:
    """
    The outcomes of a run until they are taken, and the credits that bound them.

    Args:
        credits_left: Files that may be planned and have no outcome taken yet.

    Attributes:
        outcomes: Outcomes that were not taken yet.
        delivered: How many there were in all.
    """

    def __init__(self, credits_left: int) -> None:
        self.outcomes: deque[Numbered] = deque()
        self.delivered = 0
        self._credits = credits_left
        self._credit: asyncio.Future[None] | None = None
        self._arrival: asyncio.Future[None] | None = None
        self._over = False

    async def take_credit(self) -> None:
        """Wait for a credit and take it."""
        if self._credits <= 0:
            self._credit = asyncio.get_running_loop().create_future()
            await self._credit
        self._credits -= 1

    def return_credit(self) -> None:
        """Return a credit."""
        self._credits += 1
        if self._credit is not None and not self._credit.done():
            self._credit.set_result(None)

    def put(self, number: int, outcome: Outcome) -> None:
        """Deliver an outcome."""
        self.delivered += 1
        self.outcomes.append(Numbered(number, outcome))
        self._wake()

    async def ready(self) -> None:
        """Wait until an outcome can be taken, or none will come any more."""
        while not self.outcomes and not self._over:
            self._arrival = asyncio.get_running_loop().create_future()
            await self._arrival

    def take(self) -> Numbered:
        """Take an outcome, and return its credit."""
        self.return_credit()
        return self.outcomes.popleft()

    def end(self) -> None:
        """Note that no outcome will come any more."""
        self._over = True
        self._wake()

    def _wake(self) -> None:
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)


class Listing:
    """
    Reads a file set, at most one page ahead.

    Args:
        files: The set.

    Attributes:
        count: Files that were listed so far.
        whole: Whether the listing came to its end.
        quota_error: The quota was exhausted while it was read; or None.
        failure: What made it fail, or None.
    """

    def __init__(self, files: FileSet) -> None:
        self.count = 0
        self.whole = False
        self.quota_error: QuotaExhaustedError | None = None
        self.failure: Exception | None = None
        self._files = files
        self._rows: list[RemoteFile] = []
        self._ended = False
        self._wanted = 1
        self._listed: asyncio.Future[None] | None = None
        self._taken: asyncio.Future[None] | None = None

    async def run(self) -> None:
        """Read the set to its end."""
        rows = aiter(self._files)
        try:
            try:
                async for file in rows:
                    self.count += 1
                    self._rows.append(file)
                    if self._listed is not None and len(self._rows) >= self._wanted:
                        self._wake()
                    if len(self._rows) >= PAGE:
                        self._taken = asyncio.get_running_loop().create_future()
                        await self._taken
            finally:
                close = getattr(rows, "aclose", None)
                if close is not None:
                    await close()
            self.whole = True
        except QuotaExhaustedError as error:
            self.quota_error = error
        except Exception as error:  # noqa: BLE001 - raised when everything listed before has its outcome
            self.failure = error
        self._ended = True
        self._wake()

    def _wake(self) -> None:
        listed, self._listed = self._listed, None
        if listed is not None and not listed.done():
            listed.set_result(None)

    async def next_page(self, *, full: bool) -> list[RemoteFile]:
        """
        Return what was listed since, at most a page; empty at the end.

        Args:
            full: Wait for a full page: where the one before needed no download, batched look-ups are cheaper.
        """
        self._wanted = PAGE if full else 1
        while not self._ended and len(self._rows) < self._wanted:
            self._listed = asyncio.get_running_loop().create_future()
            await self._listed
        page, self._rows = self._rows, []
        taken, self._taken = self._taken, None
        if taken is not None and not taken.done():
            taken.set_result(None)
        return page


@attrs.define
class PagePlanner:
    """Plans a page at a time, on a thread: one query of the ledger, one batch of stats, pure decisions."""

    context: Context
    scope: str
    dry: bool
    ask_again: bool
    generation: int = 0
    duplicates: Duplicates = attrs.field(factory=Duplicates)
    newest: datetime | None = None
    claimed: set[tuple[str, str]] = attrs.field(factory=set)

    def begin(self) -> None:
        """Begin the listing in the ledger."""
        self.generation = self.context.ledger.begin_listing(self.scope)

    def end(self) -> None:
        """End a complete listing in the ledger."""
        self.context.ledger.end_listing(self.scope, self.generation)

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
        self._claim(page)
        rows = self._settle(page, first, evicted=evicted)
        look = [
            row.path
            for row in rows
            if row.rejected is None and (row.entry is not None or not (self.dry or row.file.skip))
        ]
        directory = self.context.directory
        states = directory.states_of(look) if look else {}
        free = directory.free_bytes() if look else None
        planned = [self._decide(row, states, free) for row in rows]
        self._write_skips(planned)
        return planned

    def _claim(self, page: Sequence[RemoteFile]) -> None:
        """Take the directory for the tenants of a page."""
        for tenant in {(file.service, file.tenant): None for file in page}:
            if tenant not in self.claimed:
                claim_tenant(self.context.directory, *tenant)
                self.claimed.add(tenant)
        changes = [file.changed_at for file in page if file.changed_at is not None]
        if changes:
            newest = max(changes)
            self.newest = newest if self.newest is None else max(self.newest, newest)

    def _settle(self, page: Sequence[RemoteFile], first: int, *, evicted: bool) -> list[PlannedRow]:
        """Return the rows of a page with their paths and keys. Rows that only repeat another are left out."""
        layout = self.context.options.layout
        rows = [new_row(number, file, layout) for number, file in enumerate(page, first)]
        if evicted:
            rows = [row.as_duplicate() for row in rows]
        known = self._note(rows)
        settled, aside = self.duplicates.settle(rows, known, self._moved(rows, known))
        return self.duplicates.add_aside(settled, aside, self._note(aside) if aside else ())

    def _note(self, rows: Sequence[PlannedRow]) -> list[KnownRow]:
        return self.context.ledger.note_listed(self.scope, self.generation, [row.record() for row in rows])

    def _moved(self, rows: Sequence[PlannedRow], known: Sequence[KnownRow]) -> Mapping[str, LedgerEntry]:
        """Return the entries of rows that an earlier run may have moved aside for a newer one."""
        keys = [
            duplicate_key(row.file.key, row.file.name)
            for row, facts in zip(rows, known, strict=True)
            if facts.entry is not None and facts.entry.name != row.file.name
        ]
        return self.context.ledger.look_up(keys) if keys else {}

    def _decide(
        self, row: PlannedRow, states: Mapping[str, FileState | Exception | None], free: int | None
    ) -> tuple[PlannedRow, Decision, bool]:
        """Decide about one row; what lies under its final name may be a reason to reject it."""
        state = states.get(row.path)
        if isinstance(state, Exception):
            if row.entry is not None:
                row = attrs.evolve(row, rejected=as_error(state, file=row.key))
            known = None
        else:
            known = state if row.entry is not None else None
        if row.rejected is not None:
            return row, Decision(Action.FETCH), False
        decision = decide(row.file, row.entry, known, path=row.path, ask_again=self.ask_again)
        partials = self.context.partials
        if self.dry and decision.action is Action.FETCH and partials.find(row.key) is not None:
            decision = Decision(Action.RESUME)
        clear = is_clear(row, state, free=free, resumable=partials.may_resume(row.key))
        return row, decision, clear

    def _write_skips(self, planned: Sequence[tuple[PlannedRow, Decision, bool]]) -> None:
        """Remember what will never be delivered according to the listing itself, in one transaction."""
        now = self.context.clock.now()
        entries = [
            LedgerEntry(
                key=row.key, state="skipped", change=row.file.change, name=row.file.name, reason=decision.reason, at=now
            )
            for row, decision, _ in planned
            if decision.action is Action.SKIP and (row.entry is None or row.entry.state != "skipped")
        ]
        if entries and not self.dry:
            self.context.ledger.write(entries)
