"""What waits without a worker: jobs for their next attempt or a host in trouble, files for the first of their run."""

from __future__ import annotations

from collections.abc import Callable, Collection, Coroutine, Iterable
from typing import Any

import attrs

from arena_async.errors import ContentError, HostPausedError
from arena_async.options import Clock
from arena_async.protocol.files import RemoteFile
from arena_async.transfer.jobs import Job, JobQueue
from arena_async.transfer.models import PAGE, Action
from arena_async.transfer.planner import Decision, PlannedRow, host_of, is_of_host, service_of
from arena_async.transfer.refusals import group_of

__all__ = ["RefusedRuns", "Step", "WaitingJobs"]

Step = tuple[PlannedRow, Decision, bool]


class RefusedRuns:
    """
    The refused runs of a listing that are due: one file of each is requested, the others wait for its end.

    Args:
        probes: By run, the file that is requested first; filled as the listing is planned.
    """

    def __init__(self, probes: dict[str, str]) -> None:
        self._probes = probes
        self._delivered: dict[str, bool] = {}
        self._waiting: dict[str, list[Step]] = {}

    def admit(self, step: Step, *, dry: bool) -> Step | None:
        """Return what to do with a file: it is requested, or skipped, or None while it waits."""
        row, decision, _ = step
        group, waiting = decision.group, self._waiting.get(decision.group, [])
        if self._delivered.get(group) or self._probes.get(group) == row.key:
            return step
        if dry or group in self._delivered or group not in self._probes or len(waiting) >= PAGE:
            return _skipped(step)
        self._waiting[group] = [*waiting, step]
        return None

    def end(self, key: str, *, delivered: bool) -> Iterable[Step]:
        """Note how a file ended, and return what to do with those that waited for it."""
        group = group_of(key)
        if self._probes.get(group) != key:
            return ()
        self._delivered[group] = delivered
        waiting = self._waiting.pop(group, ())
        return waiting if delivered else map(_skipped, waiting)

    def replace(self, requested: Collection[str]) -> list[Step]:
        """Return files to request first for the runs whose first file is not listed any more."""
        first = []
        for group, (step, *others) in list(self._waiting.items()):
            if self._probes[group] not in requested:
                self._waiting[group], self._probes[group] = others, step[0].key
                first.append(step)
        return first


def _skipped(step: Step) -> Step:
    """Return the decision to skip a file."""
    row, decision, clear = step
    return row, Decision(Action.SKIP, decision.reason, group=decision.group), clear


@attrs.define(eq=False)
class WaitingJobs:
    """
    What jobs wait for without a worker, their next attempt or a host in trouble; and what no job waits for any more.

    Args:
        queue: The jobs of the run, with those that wait for a host.
        clock: The time.
        start: Starts a task of the run.
        ready: Puts a job back into the queue.

    Attributes:
        stopped: What has stopped: services, hosts, or ``"disk"``.
        pages: Hosts that last sent a page in the place of content.
    """

    _queue: JobQueue
    _clock: Clock
    _start: Callable[[Coroutine[Any, Any, None], str], None]
    _ready: Callable[..., None]
    stopped: set[str] = attrs.field(init=False, factory=set)
    pages: set[str] = attrs.field(init=False, factory=set)
    _left_alone: set[str] = attrs.field(init=False, factory=set)

    def note_failure(self, job: Job, failure: Exception) -> bool:
        """Return whether a job failed because of a host that others wait for; a page is told to who sent for it."""
        if isinstance(failure, ContentError) and failure.page and job.last is not None and job.last.judge is not None:
            self.pages.add(job.host)
            job.last.judge(False)
        return is_of_host(failure) and bool(self._queue.paused.get(job.host))

    def note_content(self, job: Job) -> None:
        """Note that content came whole from a host that had sent a page."""
        if job.host in self.pages and job.last is not None and job.last.judge is not None:
            self.pages.discard(job.host)
            job.last.judge(True)

    def put(self, job: Job, failure: Exception, wait: float, *, shared: bool) -> None:
        """Let a job wait: behind the others for its host, or by itself."""
        if shared or isinstance(failure, HostPausedError):
            self._queue.pause(job)
        elif wait > 0:
            self._start(self._delay(job, wait), "delay")
        else:
            self._ready(job, first=True)
        self.follow(job, failure, wait)

    def follow(self, job: Job, failure: Exception | None = None, wait: float = 0.0) -> None:
        """Let others try the host of a job: two more if the host was at work, else one after a wait."""
        host = job.host
        if failure is None or not is_of_host(failure):
            for following in self._queue.resume(host, 2):
                self._ready(following)
        elif host in self._queue.paused and host not in self._left_alone:
            self._left_alone.add(host)
            self._start(self._leave_alone(host, wait), "pause")

    def note_stop(self, job: Job, stop: str | None) -> None:
        """
        Stop other files at once where a failure shows that their requests would fail as well.

        All jobs that wait for a host go on, and end if they need what has stopped.
        """
        if stop is not None:
            self.stopped.add({"disk": "disk", "host": job.host}.get(stop) or service_of(job.file))
            for host in list(self._queue.paused):
                for waiting in self._queue.resume(host, len(self._queue.jobs)):
                    self._ready(waiting)

    def is_stopped(self, file: RemoteFile) -> bool:
        """Return whether something has stopped what a file needs."""
        return not self.stopped.isdisjoint(("disk", service_of(file), host_of(file)))

    def ends(self, job: Job) -> bool:
        """Return whether a job ends before its next request, the first one or one to a host that is given up."""
        return self.is_stopped(job.file) and (not job.tries.sent or job.host in self.stopped)

    async def _leave_alone(self, host: str, seconds: float) -> None:
        await self._clock.sleep(seconds)
        self._left_alone.discard(host)
        for job in self._queue.resume(host, 1):
            self._ready(job)

    async def _delay(self, job: Job, seconds: float) -> None:
        await self._clock.sleep(seconds)
        self._ready(job)
