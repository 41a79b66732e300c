"""Fetch: start a run of a definition, wait until it is done, and download its files."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from functools import partial
from typing import Final, TypeVar

from arena_async.errors import ApiError, NotFoundError, PermissionDeniedError
from arena_async.options import PollPolicy
from arena_async.providers.arena.files import RunFiles, tenant_of
from arena_async.providers.arena.models import ArenaRun
from arena_async.providers.arena.runs import RunSeen, Start, look_up, may_be_done, wait_for
from arena_async.providers.started_run import RunFetch
from arena_async.transfer.models import StartedRun

__all__ = ["fetch_of"]

R = TypeVar("R", bound=ArenaRun)

_log = logging.getLogger("arena_async")

#: After that a finished run is stale: the same job of the next night needs a new one.
_STALE: Final = timedelta(hours=20)


def fetch_of(start: Start[R], files: RunFiles[R], poll: PollPolicy | None, *, fresh: bool) -> RunFetch[R]:
    """
    Return which run to start for a directory, and which of its files to download.

    A run that was started more than 20 hours ago and is finished is stale: another one is started. One that is still
    open is waited for, whatever its age.

    Args:
        start: How to start one.
        files: The file set of the definition, of which the files of the run are downloaded.
        poll: How often to poll and how long to wait; None for the default policy.
        fresh: Start a run even if one is under way.
    """
    service, definition, on_status = start.service, start.definition, start.on_status
    return RunFetch(
        service="arena",
        session=service.session,
        now=service.timing.now,
        tenant=lambda: tenant_of(service),
        fresh=fresh,
        keeps_previous=True,
        key_of=lambda tenant: files.key_prefix(tenant, definition) + start.name,
        prefix_of=lambda tenant, run: files.key_prefix(tenant, definition, run.guid),
        id_of=lambda run: run.guid,
        resume=partial(_resume, start),
        start=lambda job: start.send(poll, since=job.began, unlike=job.run),
        may_be_started=may_be_done,
        wait=lambda run, job: wait_for(service, definition, run, poll=poll, on_status=on_status, expected=job.took),
        files_of=files.of,
        duration_of=lambda run: run.took,
    )


async def _resume(start: Start[R], job: StartedRun, began: datetime) -> R | None:
    """Return the run that an earlier process started, or None where a new one is to be started."""
    found = job.state == "starting"
    run = await (start.find(since=began, unlike=job.run) if found else _read(start, job.run))
    if run is None:
        return None
    if run.over and start.service.timing.now() - began > _STALE:
        shown = f"{began:%Y-%m-%d %H:%M %Z}".strip()
        _log.info("%s run %s is of %s; a new one is started.", start.service.kind, run.guid, shown)
        return None
    start.on_status(RunSeen(how="found" if found else "resumed", run=run, polls=1))
    return run


async def _read(start: Start[R], guid: str) -> R | None:
    """Return the run that is remembered, or None where this user does not see it."""
    try:
        return await look_up(start.service, start.definition, guid)
    except (NotFoundError, PermissionDeniedError) as error:
        _log.warning("%s It is not waited for any more; a new run is started.", error)
    except ApiError as error:
        # The guid is not valid, so no run has it.
        if error.code != 3011:
            raise
    return None
