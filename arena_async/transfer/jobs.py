"""The jobs of a run: one for each file that is downloaded, their queue, and the outcomes they end with."""

from __future__ import annotations

import asyncio
from collections import deque

import attrs

from arena_async.protocol.files import FileSet, RemoteFile
from arena_async.transfer.context import Context
from arena_async.transfer.models import Action, Outcome
from arena_async.transfer.partial_file import PartialFile
from arena_async.transfer.planner import Tries
from arena_async.transfer.verify import ContentVerifier

__all__ = ["DownloadAttempt", "Job", "JobQueue", "Numbered", "OutcomeBuffer", "Source"]

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
        """Give a job to an idle worker and return True, or queue it and return False."""
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
        """Wait until every job has ended, and send idle workers home."""
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
