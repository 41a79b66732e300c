"""From a file set to jobs: the listing read ahead, pages planned on a thread, jobs and their queue."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable

import attrs

from arena_async.errors import ListingError
from arena_async.protocol.files import FileSet, RemoteFile, ResponseOrder
from arena_async.transfer.commit import out_of_step
from arena_async.transfer.context import Context
from arena_async.transfer.models import PAGE, Action, LedgerEntry, account_of
from arena_async.transfer.outcomes import Outcome
from arena_async.transfer.partial_file import PartialFile
from arena_async.transfer.planner import Tries, host_of
from arena_async.transfer.verify import ContentVerifier
from arena_async.transfer.workers import is_stray

__all__ = ["DownloadAttempt", "HeldBack", "Job", "JobQueue", "Listing", "Numbered", "Source"]

_NO_TRIES = Tries()
#: Seconds after which outcomes that are held back are looked at again, at most.
_MAX_PAUSE = 0.05


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
    #: What was wrong with its content when it last came whole.
    damage: str = attrs.field(init=False, default="")
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

    def put(self, order: ResponseOrder, job: Job, outcome: Outcome, entry: LedgerEntry) -> None:
        """Hold the outcome of a committed file back."""
        self.rows[order].append((job, outcome, entry))
        self.count += 1

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
            await asyncio.sleep(0)  # A clock whose waits end at once must not keep the loop from all others.
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
        except asyncio.CancelledError as error:
            if not is_stray(error):
                raise
            self.failure = ListingError("The listing was cancelled by its own file set; what it lacks is not known.")
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
