"""
How a run of Arena is started for a directory, and found again.

A run that was started more than 20 hours ago and is finished is stale: another one is started. One that is still open
is waited for, whatever its age.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import Final, TypeVar

import attrs

from arena_async.errors import ApiError, ArenaAsyncError, NotFoundError, PermissionDeniedError
from arena_async.options import PollPolicy
from arena_async.protocol.files import FileSet
from arena_async.providers.arena.files import RunFiles
from arena_async.providers.arena.layout import keys_of, tenant_of
from arena_async.providers.arena.models import ArenaRun
from arena_async.providers.arena.runs import OnStatus, RunApi, RunSeen, Start, may_be_done
from arena_async.transfer.models import StartedRun
from arena_async.transfer.started_run import RunFetch

__all__ = ["Fetch"]

R = TypeVar("R", bound=ArenaRun)

_log = logging.getLogger("arena_async")

#: After that a finished run is stale: the same job of the next night wants a new one.
_STALE: Final = timedelta(hours=20)


@attrs.frozen(kw_only=True, eq=False)
class Fetch(RunFetch[R]):
    """
    Which run to start, and which of its files to download.

    Args:
        api: The runs of that kind.
        definition: The guid of the definition.
        start: How to start one.
        files: The file set of the definition, of which the files of the run are downloaded.
        poll: How often to poll and how long to wait; None for the default policy.
        on_status: Called with the state of the run.
        fresh: Start a run even if one is under way.
    """

    service = "arena"
    keeps_previous = True

    api: RunApi[R]
    definition: str
    start: Start[R]
    files: RunFiles[R]
    poll: PollPolicy | None
    on_status: OnStatus[R] | None
    fresh: bool

    @property
    def requests_sent(self) -> int:
        """Metered requests that the session has sent so far."""
        return self.api.session.requests_sent

    def now(self) -> datetime:
        """Return the time (aware)."""
        return self.api.timing.now()

    async def tenant(self) -> str:
        """Return the workspace of the session."""
        return await tenant_of(self.api.session)

    def key_of(self, tenant: str) -> str:
        """Return the key of the row in the ledger."""
        return keys_of(tenant, self.files.kind, self.definition) + self.start.name

    def prefix_of(self, tenant: str, run: R) -> str:
        """Return what the keys of all files of a run begin with."""
        return keys_of(tenant, self.files.kind, self.definition, run.guid)

    def id_of(self, run: R) -> str:
        """Return the guid of a run."""
        return run.guid

    async def resume_run(self, job: StartedRun) -> R | None:
        """Return the run that an earlier process started, or None where a new one is wanted."""
        if self.fresh or job.state == "over" or job.began is None:
            return None
        found = job.state == "starting"
        if found:
            run = await self.api.find(self.definition, self.start, since=job.began, unlike=job.run)
        else:
            run = await self._read(job.run)
        if run is None:
            return None
        if run.over and self.now() - job.began > _STALE:
            began = f"{job.began:%Y-%m-%d %H:%M %Z}".strip()
            _log.info("%s run %s is of %s; a new one is started.", self.api.kind, run.guid, began)
            return None
        if self.on_status is not None:
            self.on_status(RunSeen(how="found" if found else "resumed", run=run, polls=1))
        return run

    async def _read(self, guid: str) -> R | None:
        """Return the run that is remembered, or None where this user does not see it."""
        try:
            return await self.api.look_up(self.definition, guid)
        except (NotFoundError, PermissionDeniedError) as error:
            _log.warning("%s It is not waited for any more; a new run is started.", error)
        except ApiError as error:
            # The guid is not valid, so no run has it.
            if error.code != 3011:
                raise
        return None

    async def start_run(self, job: StartedRun) -> R:
        """Start a run."""
        return await self.api.start(
            self.definition, self.start, poll=self.poll, on_status=self.on_status, since=job.began, unlike=job.run
        )

    def may_be_started(self, error: ArenaAsyncError) -> bool:
        """Return whether the service may have started the run although the request failed."""
        return may_be_done(error)

    async def wait_for(self, run: R, job: StartedRun) -> R:
        """Return the run once it is finished."""
        return await self.api.wait(self.definition, run, poll=self.poll, on_status=self.on_status, expected=job.took)

    def files_of(self, run: R) -> FileSet:
        """Return the files of a finished run."""
        return self.files.of(run)

    def duration_of(self, run: R) -> float | None:
        """Return the seconds that a run took."""
        return run.took
