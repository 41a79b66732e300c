"""
A whole job in one await: start a run, wait for it, bring its files home, and remember in the folder how far it came.

::

    the ledger of the folder says     then
    nothing, or over                  write "starting", POST, write "started"
    starting                          nobody heard the answer: look for the run in the list before anything is sent
    started                           ask about that run and wait for it; start no other

A run that was begun more than 20 hours ago and is over is of yesterday: a new one is started. One that is still open is
waited for, whatever its age.
"""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, Generic, TypeVar

import attrs

from arena_async.errors import (
    ApiError,
    ArenaAsyncError,
    ConfigurationError,
    NotFoundError,
    PermissionDeniedError,
    RunFailedError,
)
from arena_async.options import PollPolicy, TransferOptions
from arena_async.providers.arena.models import ExportRun, ExtractRun, ImportRun
from arena_async.providers.arena.runs import Line, RunSeen, Start, Watch, may_be_done
from arena_async.providers.arena.sets import keys_of, tenant_of
from arena_async.transfer.events import Observer, Report
from arena_async.transfer.jobs import Job
from arena_async.transfer.mirror import Mirror
from arena_async.wire.contracts import FileSet

__all__ = ["Fetch", "Fetched", "To"]

R = TypeVar("R", ExtractRun, ExportRun, ImportRun)

_log = logging.getLogger("arena_async")

#: A folder, or a mirror of one that is open already.
To = str | os.PathLike[str] | Mirror

#: After that a finished run is not worth having any more: the same job of the next night wants a new one.
_STALE: Final = timedelta(hours=20)


@attrs.frozen(kw_only=True)
class Fetched(Generic[R]):
    """
    A run whose files are on the disk.

    Args:
        run: The run as it was last seen.
        report: What became of its files.
        paths: Where they lie.
        requests: Metered requests that all of it cost: the start, the questions, the listing and the files.
        resumed: Whether the run was started by an earlier process.
    """

    run: R
    report: Report
    paths: tuple[Path, ...]
    requests: int
    resumed: bool = False


@attrs.frozen(kw_only=True, eq=False)
class Fetch(Generic[R]):
    """
    One job: which run to start, and what to bring home of it.

    Args:
        line: The runs of the definition.
        start: How to start one.
        files: The files of a run that is done.
        name: What tells this job from others of the same definition, or "".
        poll: How often to ask and how long to wait; None for the usual policy.
        watch: Whom to tell about the run.
        fresh: Whether to start a run even where one is under way.
    """

    line: Line[R]
    start: Start[R]
    files: Callable[[R], FileSet]
    name: str = ""
    poll: PollPolicy | None = None
    watch: Watch[R] | None = None
    fresh: bool = False

    async def bring(self, to: To, *, options: TransferOptions | None, observer: Observer | None) -> Fetched[R]:
        """
        Do the job.

        Raises:
            RunFailedError: The run ended badly.
            TransfersFailedError: The run is done, and not all of its files are here; the next call fetches the rest.
            DeadlineError: The run is not done yet; the next call waits on.
            DestinationBusyError: The folder belongs to another workspace.
            ConfigurationError: ``to`` is a mirror, and settings for another one were given.
            ApiError: The service refused, or the allowance is used up; the next call goes on where this one stopped.
        """
        before = self.line.session.requests_sent
        async with _opened(to, options, observer) as mirror:
            tenant = await tenant_of(self.line.session)
            await mirror.jobs.claim("arena", tenant)
            job = await self._find_job(mirror, tenant)
            begun = await self._take_up(job)
            resumed = begun is not None
            if begun is None:
                job, begun = await self._begin(mirror, job)
            job = attrs.evolve(job, state="started", run=begun.guid)
            await mirror.jobs.note(job)
            run = await self._wait(mirror, job, begun)
            report = await mirror.sync(self.files(run))
            report.raise_for_failures()
            await mirror.jobs.note(attrs.evolve(job, state="over", took=job.took if run.took is None else run.took))
            return Fetched(
                run=run,
                report=report,
                paths=tuple(await mirror.paths(keys_of(tenant, f"{self.line.kind}s", self.line.definition, run.guid))),
                requests=self.line.session.requests_sent - before,
                resumed=resumed,
            )

    async def _find_job(self, mirror: Mirror, tenant: str) -> Job:
        """Give what the folder remembers about the job."""
        key = keys_of(tenant, f"{self.line.kind}s", self.line.definition) + self.name
        job = await mirror.jobs.find(key) or Job(key=key)
        return attrs.evolve(job, state="over") if self.fresh else job

    async def _take_up(self, job: Job) -> R | None:
        """Give the run that an earlier process has started, or None where a new one is wanted."""
        if job.state == "over" or job.began is None:
            return None
        if job.state == "starting":
            run = await self.line.find(self.start, since=job.began, unlike=job.run)
            how = "found"
        else:
            run, how = await self._look_at(job), "resumed"
        if run is None:
            return None
        if run.over and self.line.timing.now() - job.began > _STALE:
            _log.info("%s run %s is of %s; a new one is started.", self.line.kind, run.guid, _shown(job.began))
            return None
        if self.watch is not None:
            self.watch(RunSeen(how="found" if how == "found" else "resumed", run=run, asked=1))
        return run

    async def _look_at(self, job: Job) -> R | None:
        """Ask about the run that is remembered, or give None where it is not there for this user."""
        try:
            return await self.line.one(job.run)
        except (NotFoundError, PermissionDeniedError) as error:
            _log.warning("%s It is not waited for any more; a new run is started.", error)
        except ApiError as error:
            # The guid is not valid, and so it is none of a run that could be waited for.
            if error.code != 3011:
                raise
        return None

    async def _begin(self, mirror: Mirror, job: Job) -> tuple[Job, R]:
        """Start a run, and leave word of it before and after."""
        began = self.line.timing.now()
        job, before = attrs.evolve(job, state="starting", began=began), job
        await mirror.jobs.note(job)
        try:
            run = await self.line.start(self.start, poll=self.poll, watch=self.watch, since=began, unlike=before.run)
        except ArenaAsyncError as error:
            if not may_be_done(error):
                await mirror.jobs.note(attrs.evolve(before, state="over"))
            raise
        return job, run

    async def _wait(self, mirror: Mirror, job: Job, begun: R) -> R:
        """Wait for the run; one that ended badly is not waited for again."""
        try:
            return await self.line.wait(begun, poll=self.poll, watch=self.watch, expected=job.took)
        except RunFailedError:
            await mirror.jobs.note(attrs.evolve(job, state="over"))
            raise


@asynccontextmanager
async def _opened(to: To, options: TransferOptions | None, observer: Observer | None) -> AsyncIterator[Mirror]:
    """Give a mirror of the folder; one that was handed in stays open."""
    if not isinstance(to, Mirror):
        async with Mirror(to, options=options, observer=observer) as mirror:
            yield mirror
        return
    if options is not None or observer is not None:
        raise ConfigurationError("The mirror that was given has its own options and observer; leave them out here.")
    yield to


def _shown(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M %Z}".strip()
