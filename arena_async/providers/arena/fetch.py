"""Fetch: start a run of a definition, wait until it is done, and download its files."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import Final, TypeVar

import attrs

from arena_async.errors import ApiError, ArenaAsyncError, NotFoundError, PermissionDeniedError
from arena_async.options import PollPolicy
from arena_async.protocol.files import FileSet
from arena_async.providers.arena.files import RunFiles, tenant_of
from arena_async.providers.arena.models import ArenaRun
from arena_async.providers.arena.runs import RunSeen, Start, look_up, may_be_done, wait_for
from arena_async.providers.started_run import RunFetch
from arena_async.transfer.models import StartedRun

__all__ = ["ArenaFetch"]

R = TypeVar("R", bound=ArenaRun)

_log = logging.getLogger("arena_async")

#: After that a finished run is stale: the same job of the next night needs a new one.
_STALE: Final = timedelta(hours=20)


@attrs.frozen(eq=False)
class ArenaFetch(RunFetch[R]):
    """
    Which run to start for a directory, and which of its files to download.

    A run that was started more than 20 hours ago and is finished is stale: another one is started. One that is still
    open is waited for, whatever its age.

    Args:
        start: How to start one.
        files: The file set of the definition, of which the files of the run are downloaded.
        poll: How often to poll and how long to wait; None for the default policy.
        fresh: Start a run even if one is under way.
    """

    service = "arena"

    start: Start[R]
    files: RunFiles[R]
    poll: PollPolicy | None
    fresh: bool

    @property
    def requests_sent(self) -> int:
        """Metered requests that the session has sent so far."""
        return self.files.requests_sent

    def now(self) -> datetime:
        """Return the time (aware)."""
        return self.start.service.timing.now()

    async def tenant(self) -> str:
        """Return the workspace of the session."""
        return await tenant_of(self.start.service)

    def key_of(self, tenant: str) -> str:
        """Return the key of the row in the ledger."""
        return self.files.key_prefix(tenant, self.start.definition) + self.start.name

    def prefix_of(self, tenant: str, run: R) -> str:
        """Return what the keys of all files of a run begin with."""
        return self.files.key_prefix(tenant, self.start.definition, run.guid)

    def id_of(self, run: R) -> str:
        """Return the guid of a run."""
        return run.guid

    async def resume_run(self, job: StartedRun) -> R | None:
        """Return the run that an earlier process started, or None where a new one is to be started."""
        if self.fresh or job.state == "over" or job.began is None:
            return None
        found = job.state == "starting"
        if found:
            run = await self.start.find(since=job.began, unlike=job.run)
        else:
            run = await self._read(job.run)
        if run is None:
            return None
        if run.over and self.now() - job.began > _STALE:
            began = f"{job.began:%Y-%m-%d %H:%M %Z}".strip()
            _log.info("%s run %s is of %s; a new one is started.", self.start.service.kind, run.guid, began)
            return None
        self.start.on_status(RunSeen(how="found" if found else "resumed", run=run, polls=1))
        return run

    async def _read(self, guid: str) -> R | None:
        """Return the run that is remembered, or None where this user does not see it."""
        try:
            return await look_up(self.start.service, self.start.definition, guid)
        except (NotFoundError, PermissionDeniedError) as error:
            _log.warning("%s It is not waited for any more; a new run is started.", error)
        except ApiError as error:
            # The guid is not valid, so no run has it.
            if error.code != 3011:
                raise
        return None

    async def start_run(self, job: StartedRun) -> R:
        """Start a run."""
        return await self.start.send(self.poll, since=job.began, unlike=job.run)

    def may_be_started(self, error: ArenaAsyncError) -> bool:
        """Return whether the service may have started the run although the request failed."""
        return may_be_done(error)

    async def wait_for(self, run: R, job: StartedRun) -> R:
        """Return the run once it is finished."""
        start = self.start
        return await wait_for(
            start.service, start.definition, run, poll=self.poll, on_status=start.on_status, expected=job.took
        )

    def files_of(self, run: R) -> FileSet:
        """Return the files of a finished run."""
        return self.files.of(run)

    def duration_of(self, run: R) -> float | None:
        """Return the seconds that a run took."""
        return run.took
