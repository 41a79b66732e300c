"""
A run: the files of one set, planned page by page and downloaded by a bounded number of workers.

::

    FileSet ─▶ Listing ─(a page)─▶ planner ─(a credit each)─▶ queue ─▶ workers, each with a permit while it has jobs
                                      │                         ▲         │
                          kept: only counted                    │         ├─ failed: recover, delay, back into the queue
                          skipped, rejected: an outcome         │         ▼
                                      │                         │      committer, a batch at a time
                                      ▼                         └─ content is not right ─┤
                                   outcomes ◀──────────────────────────────────────────┘

For a small file there is no task, no future and no thread switch of its own: batches cross boundaries, files do not.
Two jobs of one path are never in progress at once, commit included. Only the planner waits for credits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from arena_async.errors import ArenaAsyncError
from arena_async.protocol.files import FileSet, RemoteFile
from arena_async.transfer.commit import Pending
from arena_async.transfer.context import Context
from arena_async.transfer.download import attempt, put_down
from arena_async.transfer.events import Finished, Retrying
from arena_async.transfer.jobs import Job, JobQueue, Listing, OutcomeBuffer, PagePlanner, Source
from arena_async.transfer.models import Action, Outcome, as_error
from arena_async.transfer.planner import Decision, PlannedRow, service_of
from arena_async.transfer.recovery import fail, recover, stop_after
from arena_async.transfer.workers import end_tasks

__all__ = ["TransferRun"]

#: Files beyond two for each worker that may be planned and have no outcome yet.
_WAITING = 64


class TransferRun:
    """
    One pass over a file set. Made by an ``OutcomeStream``, which takes its outcomes.

    Args:
        files: The set.
        context: The directory.
        scope: The name of the query in the ledger.
        dry: Whether files are only planned.
        ask_again: Whether to request what the service rejected permanently the last time.

    Attributes:
        listing: What was read of the set.
        kept: Files that are in the directory and unchanged.
        error: Why it stopped before its end, where that is no failed listing; or None.
        failure: What made it fail, or None.
        ended: Whether everything that was listed has been dealt with.
        results: The outcomes, until they are taken.
    """

    def __init__(self, files: FileSet, context: Context, *, scope: str, dry: bool, ask_again: bool) -> None:
        self.listing = Listing(files)
        self.kept = 0
        self.error: ArenaAsyncError | None = None
        self.failure: BaseException | None = None
        self.ended = False
        self.results = OutcomeBuffer(2 * context.options.widest + _WAITING)
        self.planner = PagePlanner(context, scope, dry, ask_again)
        self._source = Source(files, context, self)
        self._context = context
        self._root = str(context.root)
        self._dry = dry
        self._queue = JobQueue()
        self._committing = 0
        self._stopped: set[str] = set()
        self._workers: set[asyncio.Task[None]] = set()
        self._delays: set[asyncio.Task[None]] = set()
        self._collector: asyncio.Task[None] | None = None
        self._reader: asyncio.Task[None] | None = None
        self._planning: asyncio.Task[None] | None = None
        self._closing = False

    @property
    def not_started(self) -> int:
        """Files that were listed and have no outcome (yet)."""
        return self.listing.count - self.kept - self.results.delivered - self.planner.duplicates.repeated

    # -- for the stream

    def start(self) -> None:
        """Start listing."""
        if self._planning is None:
            self._planning = asyncio.create_task(self._plan(), name="arena_async planner")

    async def close(self) -> None:
        """Stop listing and downloading, and wait until nothing runs any more; what is being committed is committed."""
        self._closing = True
        tasks = [task for task in (self._reader, self._planning, *self._workers, *self._delays) if task is not None]
        await end_tasks(*tasks)
        while self._committing:
            self._take_committed()
            if self._committing:
                await self._context.committer.changed()
        if self._collector is not None:
            await end_tasks(self._collector)
        for job in list(self._queue.jobs):
            await put_down(job, self._context)
        self._context.permits.leave(self)
        self.results.end()

    # -- planning

    async def _plan(self) -> None:
        """Plan page after page, and note when everything is done."""
        try:
            await self._plan_all()
        except Exception as error:  # noqa: BLE001 - raised when everything in progress has its outcome
            self.failure = self.failure or error
        if self._reader is not None:
            await end_tasks(self._reader)
        await self._queue.drained()
        if self._workers:
            await asyncio.wait(self._workers)
        self._context.permits.leave(self)
        self.ended = True
        self.results.end()

    async def _plan_all(self) -> None:
        """List and plan."""
        context, listing, planner = self._context, self.listing, self.planner
        context.permits.join(self)
        await context.open()
        await context.run(planner.begin)
        self._reader = asyncio.create_task(listing.run(), name="arena_async reader")
        number, idle = 0, False
        while "disk" not in self._stopped and (page := await listing.next_page(full=idle)):
            kept, count = self.kept, len(page)
            planned = await context.run(planner.plan, page, number)
            page.clear()  # The thread may hold both lists for a moment longer.
            await self._give_out(planned)
            planned.clear()
            number += count
            idle = self.kept - kept == count
        await end_tasks(self._reader)
        self.error = self.error or listing.quota_error
        self.failure = self.failure or listing.failure
        evicted = planner.duplicates.evicted
        if listing.whole and evicted and "disk" not in self._stopped:
            found = await self._source.files.find(list(evicted))
            rows = [file for file in found if file.name in evicted.get(file.key, ())]
            listing.count += len(rows)
            await self._give_out(await context.run(planner.plan, rows, number, evicted=True))
        if listing.whole:
            await context.run(planner.end)

    async def _give_out(self, planned: Sequence[tuple[PlannedRow, Decision, bool]]) -> None:
        """Act on the decisions about a page: outcomes at once, jobs into the queue, each with a credit."""
        for row, decision, clear in planned:
            if decision.action is Action.KEEP:
                self.kept += 1
                continue
            await self.results.take_credit()
            if row.rejected is not None or decision.action is Action.SKIP or self._dry:
                self._report(row, decision)
            elif self._stopped and self._is_stopped(row.file):
                self.results.return_credit()
            else:
                job = Job(row.number, row.file, row.key, row.path, decision.action, clear)
                if self._queue.add(job):
                    self._make_ready(job)
            if "disk" in self._stopped:
                return

    def _report(self, row: PlannedRow, decision: Decision) -> None:
        """Deliver the outcome of a row that needs no content."""
        file, path = row.file, f"{self._root}/{row.path}" if row.path else None
        shown = file if file.link is None else file.without_link()
        outcome = Outcome(shown, decision.action, path, error=row.rejected, reason=decision.reason)
        if not self._dry and self._context.emitter.active:
            self._context.emitter.emit(Finished(outcome=outcome))
        self.results.put(row.number, outcome)

    def _is_stopped(self, file: RemoteFile) -> bool:
        """Return whether something has stopped what this file needs."""
        return "disk" in self._stopped or service_of(file) in self._stopped

    # -- workers

    def _make_ready(self, job: Job, *, first: bool = False) -> None:
        """Give a job to a worker; another one is started if all are busy and more are allowed."""
        if self._closing or self._queue.put(job, first=first):
            return
        if len(self._workers) < self._context.options.widest:
            task = asyncio.create_task(self._work(), name="arena_async worker")
            self._workers.add(task)
            task.add_done_callback(self._note_worker_end)

    def _note_worker_end(self, task: asyncio.Task[None]) -> None:
        """Remove a worker; one that failed unexpectedly ends the run with its error."""
        self._workers.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.failure = self.failure or error
            self._queue.jobs.clear()
            self._queue.release()

    async def _work(self) -> None:
        """Serve job after job, holding a permit as long as there are jobs."""
        permits, committer, queue = self._context.permits, self._context.committer, self._queue
        holding = False
        try:
            while True:
                job = queue.take()
                if job is None:
                    if holding:
                        holding = False
                        permits.release(self)
                    job = await queue.wait()
                if job is None:
                    return
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

    async def _serve(self, job: Job) -> None:
        """Take a job one step further: an attempt, or what follows a failed commit."""
        failure, job.failure = job.failure, None
        if failure is None:
            if self._stopped and not job.tries.sent and self._is_stopped(job.file):
                self._end(job)
                return
            try:
                pending = await attempt(job, self._source)
                self._context.committer.put(pending)
            except Exception as error:  # noqa: BLE001 - judged below, outside, so that nothing is chained to it
                failure = error
            else:
                self._committing += 1
                if self._collector is None:
                    self._collector = asyncio.create_task(self._collect(), name="arena_async collector")
                return
            self._note_stop(job, failure)
        self._context.note_failure(failure)
        await self._recover(job, failure)

    def _note_stop(self, job: Job, failure: Exception) -> None:
        """Stop other files at once where a failure shows that their requests would be in vain."""
        stop = stop_after(job, failure, self._context)
        if stop is not None:
            self._stopped.add("disk" if stop == "disk" else service_of(job.file))

    async def _recover(self, job: Job, failure: Exception) -> None:
        """Prepare the next attempt of a job, or end it."""
        context = self._context
        try:
            recovery = await recover(job, failure, self._source)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the outcome of this file alone
            await self._fail(job, error)
            return
        if context.emitter.active:
            context.emitter.emit(_retrying(job, failure, recovery.wait))
        if recovery.wait <= 0:
            self._make_ready(job, first=True)
            return
        task = asyncio.create_task(self._delay(job, recovery.wait), name="arena_async delay")
        self._delays.add(task)
        task.add_done_callback(self._delays.discard)

    async def _delay(self, job: Job, seconds: float) -> None:
        """Let a job wait for its next attempt without a worker."""
        await self._context.clock.sleep(seconds)
        self._make_ready(job)

    async def _fail(self, job: Job, error: Exception) -> None:
        """End a job that failed."""
        outcome, done, stop = await fail(job, error, self._context)
        if stop is not None:
            self._stopped.add("disk" if stop == "disk" else service_of(job.file))
            self.error = self.error or outcome.error
        # Where the service stopped all requests, that is one error of the run and none of this file.
        self._end(job, outcome, done=done, deliver=stop != "service")

    # -- commits

    async def _collect(self) -> None:
        """Take batches from the committer."""
        while True:
            self._take_committed()
            await self._context.committer.changed()

    def _take_committed(self) -> None:
        for pending in self._context.committer.take_finished(self):
            self._committing -= 1
            job: Job = pending.job  # type: ignore[assignment]
            job.bytes_written += pending.bytes_written
            if pending.error is None:
                self._end(job, _committed(job, pending, self._root), done=pending.entry.size if pending.entry else 0)
                continue
            job.failure = pending.error
            self._note_stop(job, pending.error)
            self._make_ready(job, first=True)

    # -- the end of a job

    def _end(self, job: Job, outcome: Outcome | None = None, *, done: int = 0, deliver: bool = True) -> None:
        """End a job, deliver its outcome, and let the next job of its path begin."""
        following = self._queue.end(job)
        if following is not None:
            self._make_ready(following)
        if outcome is not None and self._context.emitter.active:
            self._context.emitter.emit(Finished(outcome=outcome, bytes_done=done))
        if outcome is not None and deliver:
            self.results.put(job.number, outcome)
        else:
            self.results.return_credit()


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
