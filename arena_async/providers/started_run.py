"""Start a run at a service, wait for it and download its files, in one call that continues an earlier one."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Generic, Literal, TypeVar

import attrs

from arena_async.errors import RunFailedError
from arena_async.http.session import Session
from arena_async.protocol.files import FileSet
from arena_async.protocol.request_records import RequestRecord
from arena_async.providers.send_once import SendOnce
from arena_async.transfer.mirror import Mirror
from arena_async.transfer.outcomes import Report

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
    What to start, and how a provider starts it once and waits for it.

    Args:
        service: The service whose tenant owns the directory.
        session: The session, which counts the requests.
        tenant: Returns the tenant of the client.
        once: Returns the start for a tenant.
        key_of: Returns the key of the row that an earlier version may have written to the ledger, for a tenant.
        prefix_of: Returns what the keys of all files of a run of a tenant begin with.
        begin: Returns the run: a new one, or that of an earlier call.
        wait: Returns the run once it is finished, given the seconds that the last one took.
        files_of: Returns the files of a finished run.
        duration_of: Returns the seconds that a run took, or None if the service does not tell.
    """

    service: str
    session: Session
    tenant: Callable[[], Awaitable[str]]
    once: Callable[[str], SendOnce[R]]
    key_of: Callable[[str], str]
    prefix_of: Callable[[str, R], str]
    begin: Callable[[SendOnce[R]], Awaitable[R]]
    wait: Callable[[R, float | None], Awaitable[R]]
    files_of: Callable[[R], FileSet]
    duration_of: Callable[[R], float | None] = lambda _: None

    async def fetch(self, to: To) -> Fetched[R]:
        """
        Start the run unless an earlier call did, wait for it, and download its files.

        Raises:
            RunFailedError: The run ended with an error; the next call starts another one, unless it may have changed
                something.
            TransfersFailedError: The run is finished, and not all of its files are here; the next call fetches the
                rest.
            DeadlineError: The run is not finished; the next call waits on.
            DestinationBusyError: The directory belongs to another tenant.
            TransportError: It is not known whether the run was started; the next call looks it up.
            ApiError: The service responded with an error, or the quota is used up; the next call resumes.
        """
        before = self.session.requests_sent
        async with nullcontext(to) if isinstance(to, Mirror) else Mirror(to) as mirror:
            tenant = await self.tenant()
            await mirror.claim(self.service, tenant)
            once = self.once(tenant)
            await _carry_over(mirror, self.key_of(tenant), once)
            run = await self.begin(once)
            try:
                run = await self.wait(run, once.took)
            except RunFailedError:
                if once.repeatable:
                    await once.finish()
                raise
            # Who calls again wants the files, whatever became of them before.
            report = await mirror.sync(self.files_of(run), ask_again=True)
            report.raise_for_failures()
            await once.finish(self.duration_of(run))
            return Fetched(
                run=run,
                report=report,
                paths=tuple(await mirror.paths(self.prefix_of(tenant, run))),
                requests=self.session.requests_sent - before,
                resumed=once.resumed,
            )


async def _carry_over(mirror: Mirror, key: str, once: SendOnce[R]) -> None:
    """Move what an earlier version has written to the ledger of the directory to the records of the user."""
    row = await mirror.started_run(key)
    if row is None:
        return
    state: Literal["sending", "started", "over"] = "sending" if row.state == "starting" else row.state
    await once.adopt(RequestRecord(state=state, at=row.began, result=row.run, took=row.took))
    await mirror.forget_started_run(key)
