"""From a file set to jobs: the listing read ahead, pages planned on a thread, jobs and their queue."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime

import attrs

from arena_async.errors import StorageError
from arena_async.protocol.filenames import duplicate_key
from arena_async.protocol.files import FileSet, RemoteFile
from arena_async.transfer.context import Context, claim_tenant
from arena_async.transfer.directory import Read, read_final, recorded_state
from arena_async.transfer.models import (
    PAGE,
    Action,
    FileState,
    KnownRow,
    LedgerEntry,
    ListingRecord,
    Outcome,
    account_of,
    as_error,
)
from arena_async.transfer.partial_file import PartialFile
from arena_async.transfer.planner import WANTED, Decision, Duplicates, PlannedRow, Tries, decide, may_adopt, new_row
from arena_async.transfer.refusals import Refusal
from arena_async.transfer.verify import ContentVerifier, VerificationResult

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

    @property
    def account(self) -> str:
        """Whose requests they are, or ""."""
        return account_of(self.files)


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


@attrs.define(eq=False)
class JobQueue:
    """
    The jobs of a run that have not ended. Two jobs of one path are never in progress at once.

    Attributes:
        jobs: All of them, wherever they are.
        ready: Those that wait for a worker.
    """

    jobs: set[Job] = attrs.field(factory=set)
    ready: deque[Job] = attrs.field(factory=deque)
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

    Attributes:
        probes: By refused run that is due, the file that is requested before the others.
        unproved: Whether some local files of the page have to be read before it is known what to do.
    """

    source: Source
    scope: str
    dry: bool
    ask_again: bool
    context: Context = attrs.field(init=False, default=attrs.Factory(lambda self: self.source.context, takes_self=True))
    generation: int = 0
    probes: dict[str, str] = attrs.field(factory=dict)
    unproved: bool = False
    _times: list[tuple[LedgerEntry, int]] = attrs.field(factory=list)
    duplicates: Duplicates = attrs.field(factory=Duplicates)
    newest: datetime | None = None
    claimed: set[tuple[str, str]] = attrs.field(factory=set)

    async def plan_page(
        self, page: Sequence[RemoteFile], first: int, *, evicted: bool = False
    ) -> list[tuple[PlannedRow, Decision, bool]]:
        """Return what :meth:`plan` does, on a thread; where the time of a file alone is another one, it is read."""
        planned = await self.context.run(self.plan, page, first, evicted=evicted)
        return await self.context.run_until_cancelled(self.prove, planned) if self.unproved else planned

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
            if row.rejected is None
            and (row.entry is not None or self.context.ledger.adopts or not (self.dry or row.file.skip))
        ]
        directory = self.context.directory
        states = directory.states_of(look) if look else {}
        free = directory.free_bytes() if look else None
        now = self.context.clock.now()
        refused = {} if self.ask_again else self._refusals(rows, now)
        planned = [self._decide(row, states, free, refused, now) for row in rows]
        self.unproved = bool([row for row, decision, _ in planned if decision.proof])
        # What will never be delivered according to the listing itself is remembered, in one transaction.
        skipped = [
            LedgerEntry(
                key=row.key, state="skipped", change=row.file.change, name=row.file.name, reason=decision.reason, at=now
            )
            for row, decision, _ in planned
            if decision.action is Action.SKIP
            and row.file.skip is not None
            and (row.entry is None or row.entry.state != "skipped")
        ]
        if skipped and not self.dry:
            self.context.ledger.write(skipped)
        return planned

    def prove(
        self, proceed: Callable[[], None], planned: Sequence[tuple[PlannedRow, Decision, bool]]
    ) -> list[tuple[PlannedRow, Decision, bool]]:
        """
        Return the rows of a page with those decided again whose local file had to be read.

        Args:
            proceed: Called before each block is read; raises to end it.
            planned: What :meth:`plan` returned.
        """
        self.unproved = False
        proved = [step if not step[1].proof else self._prove(step, proceed) for step in planned]
        self.context.ledger.retime(self._times)
        self._times.clear()
        return proved

    def _prove(
        self, step: tuple[PlannedRow, Decision, bool], proceed: Callable[[], None]
    ) -> tuple[PlannedRow, Decision, bool]:
        """Decide again about one row, by what the local file holds."""
        row, decision, clear = step
        try:
            kept = self._adopt(row, proceed) if decision.proof == "content" else self._is_recorded(row, proceed)
        except StorageError as error:
            # A read that failed proves nothing, and costs no request.
            return attrs.evolve(row, rejected=as_error(error, file=row.key)), Decision(Action.FETCH), False
        if kept:
            return row, Decision(Action.KEEP), clear
        changed = FileState(size=-1, mtime_ns=0)
        return row, decide(row.file, row.entry, changed, path=row.path), clear

    def _is_recorded(self, row: PlannedRow, proceed: Callable[[], None]) -> bool:
        """Return whether the local file has the recorded digest."""
        state = None if row.entry is None else recorded_state(self.context.directory, row.entry, proceed)
        if row.entry is not None and state is not None:
            self._times.append((row.entry, state.mtime_ns))
        return state is not None

    def _adopt(self, row: PlannedRow, proceed: Callable[[], None]) -> bool:
        """Return whether the local file is the listed one by its own content, and write its row then."""
        context, file = self.context, row.file
        verifier = ContentVerifier(
            name=row.path,
            extension=file.extension,
            length=file.size,
            listed_md5=file.md5,
            listed_sha256=file.sha256,
            digest=context.options.digest,
            clock=context.clock.monotonic,
        )

        def verified(blocks: Iterator[bytes], read: Read) -> VerificationResult:
            for block in blocks:
                verifier.feed(block)
            return verifier.finish(read)

        found = read_final(context.directory, row.path, verified, proceed)
        if found is None or found[0].problem is not None or found[0].verified_by in ("length", "none"):
            return False
        result, state = found
        entry = LedgerEntry(
            key=row.key,
            path=row.path,
            size=state.size,
            mtime_ns=state.mtime_ns,
            change=file.change,
            sha256=result.sha256,
            md5=result.md5,
            verified_by=result.verified_by,
            name=file.name,
            at=context.clock.now(),
        )
        context.ledger.write([entry])
        return True

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

    def _refusals(self, rows: Sequence[PlannedRow], now: datetime) -> Mapping[str, Refusal]:
        """Return what is remembered about the rows of a page that failed in earlier runs."""
        ledger, source = self.context.ledger, self.source
        found = ledger.refusals([row.key for row in rows], source.account, source.files.scope)
        if found and not self.probes:
            self.probes.update(ledger.probes(source.account, now=now))
        return found

    def _decide(
        self,
        row: PlannedRow,
        states: Mapping[str, FileState | Exception | None],
        free: int | None,
        refused: Mapping[str, Refusal],
        now: datetime,
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
        decision = decide(row.file, row.entry, state, path=row.path, refusal=refused.get(row.key), now=now)
        if self.context.ledger.adopts and decision in WANTED and may_adopt(row.file, state):
            decision = attrs.evolve(decision, proof="content")
        partials = self.context.partials
        if self.dry and decision.action is Action.FETCH and partials.find(row.key) is not None:
            decision = Decision(Action.RESUME)
        # All files of a page may arrive before the space is checked again.
        fits = row.file.size is None or (free is not None and row.file.size * PAGE <= free)
        return row, decision, fits and known and not partials.may_resume(row.key)
