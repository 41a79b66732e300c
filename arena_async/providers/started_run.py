"""
Start a run at a service, wait for it and download its files, in one call; the ledger of the directory remembers it.

::

    the ledger has      then
    nothing, or over    write "starting", send the request, write "started"
    starting            no response was received: the provider looks for that run, or starts another one
    started             wait for that run; start no other
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from datetime import datetime
from pathlib import Path
from typing import Generic, TypeVar

import attrs

from arena_async.errors import ArenaAsyncError, RunFailedError
from arena_async.http.session import Session
from arena_async.protocol.files import FileSet
from arena_async.transfer.mirror import Mirror
from arena_async.transfer.models import Report, StartedRun

__all__ = ["Fetched", "RunFetch", "To"]

R = TypeVar("R")

#: A directory, or an open mirror of one.
To = str | os.PathLike[str] | Mirror


@attrs.frozen(kw_only=True)
class Fetched(Generic[R]):
    """
    A run whose files are on the disk.

    Args:
        run: The run as it was last seen.
        report: The outcomes of its files.
        paths: Their paths.
        requests: Metered requests of all of it: the start, the polls, the listing and the files.
        resumed: Whether the run was started by an earlier call.
    """

    run: R
    report: Report
    paths: tuple[Path, ...]
    requests: int
    resumed: bool = False


@attrs.frozen(kw_only=True, eq=False)
class RunFetch(Generic[R]):
    """
    What to start, and how a provider starts it, finds it again and waits for it.

    Args:
        service: The service whose tenant owns the directory.
        session: The session, which counts the requests.
        now: Returns the time (aware).
        tenant: Returns the tenant of the client.
        fresh: Start a run even if one is under way.
        keeps_previous: Whether the row names the run before until the new one is started, so that a lost response is
            not looked up as that run.
        key_of: Returns the key of the row in the ledger for a tenant: service, tenant, and what is requested.
        prefix_of: Returns what the keys of all files of a run of a tenant begin with.
        id_of: Returns the identifier of a run.
        resume: Returns the run that an earlier call started at the given time, or None where another one is wanted.
        start: Starts a run, as the row remembers it.
        may_be_started: Whether the service may have started the run although the request failed.
        wait: Returns the run once it is finished.
        files_of: Returns the files of a finished run.
        duration_of: Returns the seconds that a run took, or None if the service does not tell.
    """

    service: str
    session: Session
    now: Callable[[], datetime]
    tenant: Callable[[], Awaitable[str]]
    fresh: bool = False
    keeps_previous: bool = False
    key_of: Callable[[str], str]
    prefix_of: Callable[[str, R], str]
    id_of: Callable[[R], str]
    resume: Callable[[StartedRun, datetime], Awaitable[R | None]]
    start: Callable[[StartedRun], Awaitable[R]]
    may_be_started: Callable[[ArenaAsyncError], bool]
    wait: Callable[[R, StartedRun], Awaitable[R]]
    files_of: Callable[[R], FileSet]
    duration_of: Callable[[R], float | None] = lambda _: None

    async def fetch(self, to: To) -> Fetched[R]:
        """
        Start the run unless an earlier call did, wait for it, and download its files.

        Raises:
            RunFailedError: The run ended with an error; the next call starts another one.
            TransfersFailedError: The run is finished, and not all of its files are here; the next call fetches the
                rest.
            DeadlineError: The run is not finished; the next call waits on.
            DestinationBusyError: The directory belongs to another tenant.
            ApiError: The service responded with an error, or the quota is used up; the next call resumes.
        """
        before = self.session.requests_sent
        async with nullcontext(to) if isinstance(to, Mirror) else Mirror(to) as mirror:
            tenant = await self.tenant()
            await mirror.claim(self.service, tenant)
            key = self.key_of(tenant)
            job = await mirror.started_run(key) or StartedRun(key=key)
            run = None
            if not self.fresh and job.state != "over" and job.began is not None:
                run = await self.resume(job, job.began)
            resumed = run is not None
            if run is None:
                job, run = await self._start(mirror, job)
            job = attrs.evolve(job, state="started", run=self.id_of(run))
            await mirror.write_started_run(job)
            try:
                run = await self.wait(run, job)
            except RunFailedError:
                await mirror.write_started_run(attrs.evolve(job, state="over"))
                raise
            report = await mirror.sync(self.files_of(run))
            report.raise_for_failures()
            took = self.duration_of(run)
            await mirror.write_started_run(attrs.evolve(job, state="over", took=job.took if took is None else took))
            return Fetched(
                run=run,
                report=report,
                paths=tuple(await mirror.paths(self.prefix_of(tenant, run))),
                requests=self.session.requests_sent - before,
                resumed=resumed,
            )

    async def _start(self, mirror: Mirror, job: StartedRun) -> tuple[StartedRun, R]:
        """Start a run, and write to the ledger before and after."""
        previous = job.run if self.keeps_previous else ""
        starting = attrs.evolve(job, state="starting", run=previous, began=self.now())
        await mirror.write_started_run(starting)
        try:
            return starting, await self.start(starting)
        except ArenaAsyncError as error:
            if not self.may_be_started(error):
                await mirror.write_started_run(attrs.evolve(job, state="over"))
            raise
