"""
A run: the files of one set, planned page by page and downloaded by a bounded number of workers.

::

    FileSet ─▶ Listing ─(a page)─▶ planner ─(when few wait)─▶ queue ─▶ workers, each with a permit while it has jobs
                                      │                         ▲         │
                          kept: only counted                    │         ├─ failed: recover, delay, back into the queue
                          skipped, rejected: an outcome         │         ▼
                                      │                         │      committer, a batch at a time
                                      ▼                         └─ content is not right ─┤
                                   outcomes ◀──────────────────────────────────────────┘

Under load a small file has no task, no future and no thread switch of its own: batches cross boundaries, files do not.
Two jobs of one path are never in progress at once, commit included. Only the planner waits for outcomes to be taken.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

from arena_async.errors import ArenaAsyncError, ListingError, QuotaExhaustedError, TransferError
from arena_async.protocol.files import FileSet
from arena_async.transfer.commit import Pending
from arena_async.transfer.context import Context
from arena_async.transfer.download import attempt, put_down
from arena_async.transfer.events import Finished, Retrying, Stopped
from arena_async.transfer.jobs import HeldBack, Job, JobQueue, Listing, Numbered, Source
from arena_async.transfer.models import Action
from arena_async.transfer.outcomes import Outcome, as_error
from arena_async.transfer.page_planner import PagePlanner
from arena_async.transfer.planner import Decision, PlannedRow
from arena_async.transfer.recovery import fail, recover, stop_after
from arena_async.transfer.waiting import RefusedRuns, Step, WaitingJobs
from arena_async.transfer.workers import OwnTasks, end_tasks, is_stray

__all__ = ["TransferRun"]

#: Files beyond two for each worker that may be planned and have no outcome yet.
_WAITING = 64
#: Once no more may be planned, so many have to be done first: workers find several then, and not one at a time.
_REFILL = 32


class TransferRun:
    """
    One pass over a file set. Made by an ``OutcomeStream``, which takes its outcomes.

    Args:
        files: The set.
        context: The directory.
        planner: Plans its pages.

    Attributes:
        listing: What was read of the set.
        planner: What was planned of it.
        queue: Its jobs that have not ended.
        outcomes: Outcomes that were not taken yet.
        kept: Files that are in the directory and unchanged.
        error: Why it stopped before its end, where that is no failed listing; or None.
        failure: What made it fail, or None.
        ended: Whether everything that was listed has been dealt with.

    ``_changed`` is set when an outcome is delivered or taken, when a job or a worker has ended, and at the end.
    """

    def __init__(self, files: FileSet, context: Context, planner: PagePlanner) -> None:
        self.listing = Listing(files)
        self.planner = planner
        self._source = Source(files, context, self)
        self.outcomes: deque[Numbered] = deque()
        self.error: ArenaAsyncError | None = None
        self.failure: BaseException | None = None
        self._context, self._root = context, str(context.root)
        self._max_open = 2 * context.widest + _WAITING
        self.queue, self._held = JobQueue(), HeldBack()
        self._tasks = OwnTasks(self._note_failure)
        self._waiting = WaitingJobs(self.queue, context.clock, self._tasks.start, self._make_ready)
        self.kept = self._delivered = self._committing = self._working = 0
        self._refused = RefusedRuns(planner.probes)
        self._changed = asyncio.Event()
        self.ended = self._begun = self._collecting = self._closing = False

    @property
    def not_started(self) -> int:
        """Files that were listed and have no outcome (yet)."""
        listed = self.listing.count + self.planner.listed_again - self.planner.duplicates.repeated
        return listed - self.kept - self._delivered

    # -- for the stream

    async def next_outcome(self) -> Numbered | None:
        """Wait for an outcome and take it; None at the end, and when it is closed. The first call begins to list."""
        if not self._begun:
            self._begun = True
            self._tasks.start(self._plan(), "planner")
        while not (self.outcomes or self.ended or self._closing):
            self._changed.clear()
            await self._changed.wait()
        if self._closing or not self.outcomes:
            return None
        self._changed.set()
        return self.outcomes.popleft()

    async def close(self) -> None:
        """Stop listing and downloading, and wait until nothing runs any more; what is being committed is committed."""
        self._closing = True
        self._changed.set()
        await self._tasks.end()
        await self._collect()
        await asyncio.gather(*[_stop(job, self._context) for job in list(self.queue.jobs)])
        self._context.permits.leave(self)

    # -- planning

    async def _plan(self) -> None:
        """Plan page after page, and note when everything is done."""
        self._context.permits.join(self)
        try:
            await self._plan_all()
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - raised when all in progress has its outcome
            self.failure = self.failure or _failure_of(error)
        while self.queue.jobs or self._working:
            self._changed.clear()
            await self._changed.wait()
        if self.listing.whole and not (self.planner.dry or self.failure):
            self.failure = await _promote(self.planner)
        self._context.permits.leave(self)
        self.ended = True
        self._changed.set()

    async def _plan_all(self) -> None:
        """List and plan."""
        context, listing, planner = self._context, self.listing, self.planner
        await context.open()
        scope = planner.files.scope
        planner.generation = await context.run(context.ledger.begin_listing, scope)
        reader = asyncio.create_task(listing.run(), name="arena_async reader")
        number, idle = 0, False
        try:
            while "disk" not in self._waiting.stopped and (page := await listing.next_page(full=idle)):
                kept, count = self.kept, len(page)
                planned = await planner.plan_page(page, number)
                page.clear()  # The thread may hold both lists a little longer.
                await self._give_out(planned)
                planned.clear()
                number += count
                idle = self.kept - kept == count
        finally:
            await end_tasks(reader)
        if isinstance(listing.failure, QuotaExhaustedError):
            self.error = self.error or listing.failure
        else:
            self.failure = self.failure or listing.failure
        if listing.whole and "disk" not in self._waiting.stopped:
            await self._give_out(await planner.plan_rest(number))
        for step in self._refused.replace({job.key for job in self.queue.jobs}):
            self._take(step)
        if listing.whole and "disk" not in self._waiting.stopped:
            whole = not planner.files.narrowed
            await context.run(context.ledger.end_listing, scope, planner.generation, whole=whole)
        while not all(self._waiting.is_stopped(row.file) for row in planner.claimed):
            await self._give_out(await planner.plan_claimed())

    async def _give_out(self, planned: Sequence[Step]) -> None:
        """
        Act on the decisions about a page: outcomes at once, jobs into the queue, as many as may be open.

        Files whose outcome is held back do not count, up to as many again, while outcomes are taken in time.
        """
        for planned_step in planned:
            if planned_step[1].action is Action.KEEP:
                self.kept += 1
                continue
            step = self._refused.admit(planned_step, dry=self.planner.dry) if planned_step[1].group else planned_step
            if step is None:
                continue
            room, jobs, outcomes = 1, self.queue.jobs, self.outcomes
            while len(jobs) + len(outcomes) - (not outcomes) * min(self._held.count, _WAITING) > self._max_open - room:
                room = _REFILL
                self._changed.clear()
                await self._changed.wait()
            self._take(step)
            if "disk" in self._waiting.stopped:
                return

    def _take(self, step: Step) -> None:
        """Deliver the outcome of a row that needs no content, or queue its job."""
        row, decision, clear = step
        if row.rejected is None and decision.action is not Action.SKIP and not self.planner.dry:
            if self._waiting.stopped and self._waiting.is_stopped(row.file):
                self.planner.drop(row.key)
            else:
                job = Job(row.number, row.file, row.key, row.path, decision.action, clear, row.several)
                if self.queue.add(job):
                    self._make_ready(job)
            return
        if decision.group:
            self.planner.drop(row.key)
        self._deliver(row.number, _decided(row, decision, self._root), report=not self.planner.dry)

    def _deliver(
        self, number: int, outcome: Outcome, *, done: int = 0, report: bool = True, kept: bool = False
    ) -> None:
        """Report an outcome to the observer, and deliver it unless it is kept: the error is that of the run then."""
        if report and self._context.emitter.active:
            self._context.emitter.emit(Finished(outcome=outcome, bytes_done=done))
        if not kept:
            self._delivered += 1
            self.outcomes.append(Numbered(number, outcome))
        self._changed.set()

    # -- tasks

    def _note_failure(self, error: BaseException) -> None:
        """End the run with the error of a task that failed unexpectedly."""
        self.failure = self.failure or error
        self.queue.jobs.clear()
        self._changed.set()

    def _make_ready(self, job: Job, *, first: bool = False) -> None:
        """Queue a job for the workers; another one is started if more are allowed."""
        (self.queue.ready.appendleft if first else self.queue.ready.append)(job)
        if self._working < self._context.widest and not self._closing:
            self._working += 1
            self._tasks.start(self._work(), "worker")

    async def _work(self) -> None:
        """Serve job after job until none is ready, holding a permit meanwhile."""
        permits, committer, ready = self._context.permits, self._context.committer, self.queue.ready
        holding = False
        try:
            while ready:
                job = ready.popleft()
                if not holding:
                    await permits.acquire(self)
                    holding = True
                while committer.full:
                    await committer.changed()
                await self._serve(job)
                if permits.must_yield(self):
                    holding = False
                    permits.release(self)
        finally:
            if holding:
                permits.release(self)
            self._working -= 1
            self._changed.set()

    async def _serve(self, job: Job) -> None:
        """Take a job one step further: an attempt, or what follows a failed commit."""
        failure, job.failure = job.failure, None
        if failure is None:
            if self._waiting.stopped and self._waiting.ends(job):
                await put_down(job, self._context, keep=True)
                self._end(job)
                return
            if self.queue.paused and self.queue.has_to_wait(job):
                return
            try:
                pending = await attempt(job, self._source)
                self._context.committer.put(pending)
            except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - judged below: nothing is chained to it
                failure = _failure_of(error, job)
            else:
                if self.queue.paused:
                    self._waiting.follow(job)
                self._committing += 1
                if not self._collecting:
                    self._collecting = True
                    self._tasks.start(self._collect(), "collector")
                return
            self._waiting.note_stop(job, stop_after(job, failure, self._context))
        self._context.note_failure(failure)
        await self._recover(job, failure)

    async def _recover(self, job: Job, failure: Exception) -> None:
        """
        Prepare the next attempt of a job, or end it.

        Where the service or the host stopped all requests, that is one error of the run and none of this file.
        """
        context, waiting = self._context, self._waiting
        shared = waiting.note_failure(job, failure)
        try:
            wait = (await recover(job, failure, self._source, shared=shared)).wait
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - it is the outcome of this file alone
            outcome, done, stop = await fail(job, _failure_of(error, job), self._source)
            waiting.note_stop(job, stop)
            self.error = self.error or (outcome.error if stop is not None else None)
            waiting.follow(job, failure, 0.0)
            self._end(job, outcome, done=done, deliver=stop not in ("service", "host"))
            return
        if context.emitter.active:
            context.emitter.emit(_retrying(job, failure, wait))
        waiting.put(job, failure, wait, shared=shared)

    async def _collect(self) -> None:
        """Take what the committer has finished, as long as it has files of this run or some are held back."""
        while self._committing or self._held.rows:
            for job, outcome, done in await self._held.settle(self._context, self._committing, at_once=self._closing):
                if outcome is None:
                    self._make_ready(job, first=True)
                else:
                    self._end(job, outcome, done=done)
            for pending in self._context.committer.take_finished(self):
                self._committing -= 1
                job = pending.job  # type: ignore[assignment]
                job.bytes_written += pending.bytes_written
                if pending.error is not None:
                    job.failure = pending.error
                    self._waiting.note_stop(job, stop_after(job, pending.error, self._context))
                    self._make_ready(job, first=True)
                    continue
                if self._waiting.pages:
                    self._waiting.note_content(job)
                outcome = _committed(job, pending, self._root)
                if job.order is None or pending.entry is None:
                    self._end(job, outcome, done=pending.entry.size if pending.entry else 0)
                else:
                    self._held.put(job.order, job, outcome, pending.entry)
            if self._committing:  # Nothing was awaited since the batches were taken, so that none is missed.
                await self._context.committer.changed()
        self._collecting = False

    def _end(self, job: Job, outcome: Outcome | None = None, *, done: int = 0, deliver: bool = True) -> None:
        """End a job, deliver its outcome, and let the next job of its path begin."""
        if outcome is None or outcome.error is not None:
            self.planner.drop(job.key)
        if (following := self.queue.end(job)) is not None:
            self._make_ready(following)
        if outcome is not None:
            self._deliver(job.number, outcome, done=done, kept=not deliver)
        if self.planner.probes:
            for step in self._refused.end(job.key, delivered=outcome is not None and outcome.error is None):
                self._take(step)
        self._changed.set()


def _failure_of(error: BaseException, job: Job | None = None) -> Exception:
    """Return what has failed, also for a cancellation that this library did not request; others are raised again."""
    if isinstance(error, Exception):
        return error
    if not is_stray(error):
        raise error
    if job is None:
        return ListingError("The listing was cancelled by its own file set; what it lacks is not known. Run again.")
    return TransferError(f"{job.path}: its file set cancelled the request; nobody here did. Run again.", file=job.key)


async def _stop(job: Job, context: Context) -> None:
    """
    Put a job down that did not end, and tell how much of it a later run goes on with.

    All jobs at a time: each may have to be forced to the disk, and a command has little time to end.
    """
    # Without a verifier, no response has come that could have had an ETag.
    resumable = job.validator is not None or job.verifier is None
    kept = await put_down(job, context, keep=True)
    if job.tries.sent and context.emitter.active:
        context.emitter.emit(Stopped(file=job.without_url(), bytes_kept=kept, resumable=resumable))


def _decided(row: PlannedRow, decision: Decision, root: str) -> Outcome:
    """Return the outcome of a row that needs no content."""
    path, error = f"{root}/{row.path}" if row.path else None, row.rejected or decision.error
    shown = row.file if row.file.link is None else row.file.without_link()
    return Outcome(shown, decision.action, path, error=error, reason=decision.reason, again_at=decision.again)


async def _promote(planner: PagePlanner) -> Exception | None:
    """Let the planner move files to their plain paths, and return what made it fail."""
    try:
        if planner.duplicates.expected:
            await planner.context.run(planner.promote)
    except Exception as error:  # noqa: BLE001 - raised like that of a listing
        return error
    return None


def _committed(job: Job, pending: Pending, root: str) -> Outcome:
    """Return the outcome of a committed file."""
    result = pending.result
    return Outcome(
        job.without_url(),
        job.action,
        f"{root}/{job.path}",
        verified_by=result.verified_by if result is not None else "none",
        attempts=job.tries.sent,
        bytes_written=job.bytes_written,
        reason=result.notice if result is not None else "",
        sha256=result.sha256 if result is not None else None,
        durable=pending.durable,
    )


def _retrying(job: Job, failure: Exception, wait: float) -> Retrying:
    """Return the event of a retry."""
    known = as_error(failure, file=job.key, attempts=job.tries.sent)
    return Retrying(file=job.without_url(), attempt=job.tries.sent, wait=wait, error=known, bytes_done=job.end)
