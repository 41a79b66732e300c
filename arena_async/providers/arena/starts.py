"""
Start a run of a definition, once; and fetch: start, wait and download.

::

    POST ──┬─▶ the run
           ├─▶ another export is in progress (3144): wait, then POST again
           └─▶ the response was lost: look the run up in the list ──┬─▶ it is there
                                                                    └─▶ it is not: POST again, or raise

A POST is never repeated blindly.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final, Generic, Literal, TypeVar

import attrs

from arena_async.errors import (
    ApiError,
    ArenaAsyncError,
    ConflictError,
    DeadlineError,
    DecodeError,
    NotFoundError,
    PermissionDeniedError,
    ServerError,
    TransportError,
)
from arena_async.http.polling import Polled, wait_until
from arena_async.options import PollPolicy
from arena_async.protocol.files import FileSet
from arena_async.protocol.messages import Request
from arena_async.providers.arena.api import request_object
from arena_async.providers.arena.files import RunFiles, tenant_of
from arena_async.providers.arena.models import ArenaRun
from arena_async.providers.arena.runs import (
    SETTLING,
    OnStatus,
    RunSeen,
    RunService,
    look_up,
    may_be_done,
    same_user,
    wait_for,
    with_more,
)
from arena_async.providers.started_run import RunFetch
from arena_async.transfer.models import StartedRun

__all__ = ["ArenaFetch", "Start"]

R = TypeVar("R", bound=ArenaRun)

_log = logging.getLogger("arena_async")

#: Another export is in progress.
_IN_LINE = 3144
#: How often a start is sent again after the list has shown that it was not received.
_MAX_REPEATS = 2
#: After that a finished run is stale: the same job of the next night needs a new one.
_STALE: Final = timedelta(hours=20)


def _callback(on_status: OnStatus[Any] | None) -> OnStatus[Any]:
    return on_status or (lambda _: None)


@attrs.define(kw_only=True, eq=False)
class Start(Generic[R]):
    """
    How one run is started.

    Args:
        service: Exports, extracts or imports.
        definition: The guid of the definition.
        request: The POST.
        on_status: Called with the state of the run.
        like: Whether a listed run may be the one that it started.
        alike: Whether either of two runs that it may have started will do.
        repeatable: Whether it does no harm when it is carried out twice.
        name: What distinguishes it from other starts of the same definition, in the ledger of a directory.
    """

    service: RunService[Any, R, Any]
    definition: str
    request: Request
    on_status: OnStatus[R] = attrs.field(converter=_callback)
    like: Callable[[R], bool] = lambda _: True
    alike: bool = True
    repeatable: bool = True
    name: str = ""
    _repeats: int = attrs.field(init=False, default=0)
    _waiting: bool = attrs.field(init=False, default=False)

    async def send(self, poll: PollPolicy | None, *, since: datetime | None = None, unlike: str = "") -> R:
        """
        Start a run, once.

        Args:
            poll: How long to keep trying, and how often; None for the default policy.
            since: When the first request was sent, at the earliest; None for now.
            unlike: The guid of a run that it cannot be.

        Raises:
            ApiError: The service responded with an error.
            DeadlineError: Another export was in progress all the time.
            TransportError: The response was lost, and it is not known whether the run was started.
        """
        poll, clock = poll or PollPolicy(), self.service.timing
        earliest = since or clock.now()
        polled = Polled(what=self._what, on_poll=self._on_poll)
        try:
            run = await wait_until(
                lambda: self._attempt(earliest, unlike), lambda run: run is not None, poll, clock=clock, polled=polled
            )
        except DeadlineError as error:
            # That of a request names it.
            if error.request is not None:
                raise
            run = None
        if run is None:
            raise DeadlineError(
                f"{self._what}: it could not be started within {poll.timeout:g} s, because the service does one export "
                "at a time (code 3144) and another one was in progress. Nothing was started; try again later, or allow "
                "more time."
            )
        return run

    async def find(self, *, since: datetime, unlike: str) -> R | None:
        """
        Find the run that was started since then by this user, or None. Costs a request for each 400 runs.

        Raises:
            ConflictError: There are several, and it may be any of them.
        """
        earliest = since - self.service.skew
        found = [
            run
            async for run in self.service.runs(self.definition)
            if run.guid != unlike and same_user(run.creator, self.service.user) and self.like(run)
            if (run.began >= earliest if run.began is not None else not run.over)
        ]
        if len(found) > 1 and not self.alike:
            guids = ", ".join(run.guid for run in found)
            raise ConflictError(
                f"{self._what}: its response was lost, and several runs may be the one that was started: {guids}. "
                "Check them, and continue with the right one."
            )
        return max(found, key=lambda run: (run.began is None, run.began or earliest), default=None)

    @property
    def _what(self) -> str:
        return f"The start of a run of {self.service.kind} {self.definition}"

    async def _attempt(self, since: datetime, unlike: str) -> R | None:
        """Send the request once and return its run, or None where it is to be sent again."""
        lost: ArenaAsyncError
        self._waiting = False
        try:
            run = await request_object(self.service.session, self.request, self.service.models[1])
        except ConflictError as error:
            if error.code != _IN_LINE:
                raise
            self._waiting = True
            return None
        except (TransportError, DeadlineError, ServerError, DecodeError) as error:
            lost = error
        else:
            return self._reported("started", run)
        self._repeats += 1
        if may_be_done(lost):
            found = await self._look_for(lost, since, unlike)
            if found is not None:
                return self._reported("found", found)
            if self._repeats > _MAX_REPEATS or not self.repeatable:
                raise with_more(lost, self._unknown)
        elif self._repeats > _MAX_REPEATS or not isinstance(lost, ServerError):
            raise lost
        return None

    async def _look_for(self, lost: ArenaAsyncError, since: datetime, unlike: str) -> R | None:
        """Look the run up in the list of runs."""
        await self.service.timing.sleep(SETTLING)
        trouble: ArenaAsyncError
        try:
            run = await self.find(since=since, unlike=unlike)
        except ConflictError:
            raise
        except ArenaAsyncError as error:
            trouble = error
        else:
            found = f"the list shows that it started run {run.guid}" if run else "the list shows no run started by it"
            _log.warning("%s The response to %s was lost; %s.", lost, self.request.line, found)
            return run
        raise with_more(lost, f"{self._unknown} The list of runs could not be read either: {trouble}")

    @property
    def _unknown(self) -> str:
        return (
            f"{self._what}: it was not sent again, since it may have been carried out although the list of runs does "
            "not show it. Look at the list after a while before you start another one."
        )

    def _on_poll(self, _: R | None, tries: int, pause: float | None) -> None:
        """Notify the caller that another export is in progress."""
        if self._waiting:
            self.on_status(RunSeen(how="in line", run=None, polls=tries, again_in=pause))

    def _reported(self, how: Literal["started", "found"], run: R) -> R:
        """Notify the caller of the run, and return it."""
        self.on_status(RunSeen(how=how, run=run))
        return run


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
    keeps_previous = True

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
