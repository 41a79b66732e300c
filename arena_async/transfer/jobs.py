"""From a file set to jobs: the listing read ahead, pages planned on a thread, jobs and their queue."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

import attrs

from arena_async.protocol.filenames import duplicate_key
from arena_async.protocol.files import FileSet, RemoteFile
from arena_async.transfer.context import Context, claim_tenant
from arena_async.transfer.models import PAGE, Action, FileState, KnownRow, LedgerEntry, ListingRecord, Outcome, as_error
from arena_async.transfer.partial_file import PartialFile
from arena_async.transfer.planner import Decision, Duplicates, PlannedRow, Tries, decide, host_of, new_row
from arena_async.transfer.verify import ContentVerifier

__all__ = ["DownloadAttempt", "Job", "JobQueue", "Listing", "Numbered", "PagePlanner", "Source"]

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
    """

    number: int
    file: RemoteFile
    key: str
    path: str
    planned: Action
    clear: bool = False
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
    """Plans a page at a time, on a thread: one query of the ledger, one batch of stats, pure decisions."""

    context: Context
    scope: str
    dry: bool
    ask_again: bool
    generation: int = 0
    duplicates: Duplicates = attrs.field(factory=Duplicates)
    newest: datetime | None = None
    claimed: set[tuple[str, str]] = attrs.field(factory=set)

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
        return planned

    def _claim(self, page: Sequence[RemoteFile]) -> None:
        """Take the directory for the tenants of a page, and note its newest change."""
        for file in page:
            tenant = (file.service, file.tenant)
            if tenant not in self.claimed:
                claim_tenant(self.context.directory, *tenant)
                self.claimed.add(tenant)
            if file.changed_at is not None and (self.newest is None or file.changed_at > self.newest):
                self.newest = file.changed_at

    def _settle(self, page: Sequence[RemoteFile], first: int, *, evicted: bool) -> list[PlannedRow]:
        """Return the rows of a page with their paths and keys. Rows that only repeat another are left out."""
        layout = self.context.options.layout
        rows = [new_row(number, file, layout) for number, file in enumerate(page, first)]
        if evicted:
            rows = [row.as_duplicate() for row in rows]
        known = self._note(rows)
        # What an earlier run may have moved aside for a newer row.
        keys = [
            duplicate_key(row.file.key, row.file.name)
            for row, facts in zip(rows, known, strict=True)
            if facts.entry is not None and facts.entry.name != row.file.name
        ]
        moved = self.context.ledger.look_up(keys) if keys else {}
        settled, aside = self.duplicates.settle(rows, known, moved)
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
