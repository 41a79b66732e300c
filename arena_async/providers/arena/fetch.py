"""
Start a run once, and fetch one: start it, wait until it is done, and download its files.

::

    step ──▶ POST ──┬─▶ the run
                    ├─▶ another export is in progress (3144): wait, then POST again
                    └─▶ the response was lost: the run is looked up in the list of runs (``providers/send_once.py``)
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final, Generic, TypeVar

import attrs

from arena_async.errors import (
    ApiError,
    ConflictError,
    DeadlineError,
    NotFoundError,
    PermissionDeniedError,
    ServerError,
)
from arena_async.http.polling import Polled, wait_until
from arena_async.http.session import request_object
from arena_async.options import PollPolicy
from arena_async.protocol.messages import Request
from arena_async.protocol.request_records import MAX_SKEW, SHOWN_AFTER, RequestRecord, RequestRecords, record_name
from arena_async.providers.arena.api import tenant_of
from arena_async.providers.arena.files import RunFiles
from arena_async.providers.arena.models import ArenaRun
from arena_async.providers.arena.runs import (
    NOT_BEGUN,
    OnStatus,
    RunSeen,
    RunService,
    look_up,
    run_may_be_begun,
    same_user,
    wait_for,
)
from arena_async.providers.send_once import SendOnce
from arena_async.providers.started_run import RunFetch

__all__ = ["Start", "Starting", "fetch_of"]

R = TypeVar("R", bound=ArenaRun)

_log = logging.getLogger("arena_async")

#: After that a finished run is stale: the same job of the next night needs a new one.
_STALE: Final = timedelta(hours=20)
#: How often a start is sent again after the service has stated that it began nothing.
_MAX_REPEATS: Final = 2
#: The clocks of the service and of this machine, once that of the service is known, are hardly farther apart.
_SURE: Final = timedelta(minutes=1)
#: The longest time from a start to the creation of its run: the upload is between them.
_LONGEST: Final = timedelta(hours=1)


def _callback(on_status: OnStatus[Any] | None) -> OnStatus[Any]:
    return on_status or (lambda _: None)


def _policy(poll: PollPolicy | None) -> PollPolicy:
    return poll or PollPolicy()


async def _not_shown(_: Any) -> bool:
    return False


async def _unchanged(run: R) -> R:
    return run


@attrs.frozen(kw_only=True)
class Starting(Generic[R]):
    """
    How the caller wants a run to be started.

    Args:
        poll: How long to keep trying, how often to poll and how long to wait; None for the default policy.
        start_anew: Whether a person has decided to start a run, whatever is remembered about earlier ones.
        on_status: Called with the state of the run; or None.
    """

    poll: PollPolicy = attrs.field(converter=_policy)
    start_anew: bool
    on_status: OnStatus[R] = attrs.field(converter=_callback)


@attrs.define(kw_only=True, eq=False)
class Start(Generic[R]):
    """
    How one run is started.

    Args:
        service: Exports, extracts or imports.
        definition: The guid of the definition.
        request: The POST.
        wanted: How the caller wants it to be started.
        like: Whether a listed run may be the one that it started.
        wrong: Whether such a run does something else than requested.
        proves: Whether the service shows that such a run was started with this request.
        check: Returns a run that does what was requested, or raises.
        alike: Whether either of two runs that it may have started will do.
        repeatable: Whether it does no harm when it is carried out twice.
        name: What distinguishes it from other starts of the same definition.
    """

    service: RunService[Any, R, Any]
    definition: str
    request: Request
    wanted: Starting[R]
    like: Callable[[R], bool] = lambda _: True
    wrong: Callable[[R], bool] = lambda _: False
    proves: Callable[[R], Awaitable[bool]] = _not_shown
    check: Callable[[R], Awaitable[R]] = _unchanged
    alike: bool = True
    repeatable: bool = True
    name: str = ""
    _refused: int = attrs.field(init=False, default=0)
    _waiting: bool = attrs.field(init=False, default=False)

    async def send(self) -> R:
        """
        Start a run, once.

        Raises:
            ApiError: The service responded with an error.
            DeadlineError: Another export was in progress all the time.
            NotAsRequestedError: The run does something else than requested.
            TransportError: It is not known whether the run was started.
        """
        since = self.service.records.now()
        return await self.begin(self.once(await self.service.scope(self.definition), since=since))

    def once(self, scope: str, *, since: datetime, resumes: bool = False) -> SendOnce[R]:
        """Return the start as it is recorded; with ``resumes`` an unfinished run of an earlier call will do."""
        return SendOnce(
            store=self.service.records,
            scope=scope,
            name=record_name("start", self.name),
            what=self._what,
            session=self.service.session,
            clock=self.service.timing,
            since=since,
            send=self._post,
            find=self.find,
            id_of=lambda run: run.guid,
            check=self.check,
            read=self._resume,
            resumes=resumes,
            repeatable=self.repeatable,
            recorded=not self.repeatable,
            may_be_done=run_may_be_begun,
            start_anew=self.wanted.start_anew,
            seconds=self.wanted.poll.timeout,
        )

    async def begin(self, once: SendOnce[R]) -> R:
        """Return the run: a new one, or that of an earlier call. It raises as :meth:`send` does."""
        poll, clock = self.wanted.poll, self.service.timing
        polled = Polled(what=self._what, on_poll=self._on_poll)
        try:
            run = await wait_until(once.step, lambda run: run is not None, poll, clock=clock, polled=polled)
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
        self.wanted.on_status(RunSeen(how=once.how, run=run, polls=int(once.resumed)))
        return await self.check(run)

    async def find(self, record: RequestRecord, records: RequestRecords) -> R | None:
        """
        Return the run that was started as recorded, by this user, or None.

        Costs a request for each 400 runs, and one more for each run that another request may have started.

        Raises:
            ConflictError: It is not certain which run it is, and that matters.
        """
        at = record.at or self.service.timing.now()
        found = [
            run
            async for run in self.service.runs(self.definition)
            if (run.guid == record.result if record.result else run.guid not in records.known)
            if same_user(run.creator, self.service.user) and self.like(run)
            if (run.began >= at - MAX_SKEW if run.began is not None else not run.over)
        ]
        if self.alike:
            return max(found, key=lambda run: (run.began is None, run.began or at), default=None)
        right = [run for run in found if not self.wrong(run)] or found
        others = [one.at for one in records.records.values() if one.state == "sending" and one != record and one.at]
        sure = [
            run
            for run in right
            if run.began is None or at - _SURE <= run.began <= at + _LONGEST
            if not any(run.began is None or sent - MAX_SKEW <= run.began <= sent + _LONGEST for sent in others)
        ]
        if len(right) > 1 or any(map(self.wrong, right)) or len(sure) < len(right):
            proved = [run for run in right if not self.wrong(run) and await self.proves(run)]
            if len(proved) == 1:
                return proved[0]
            guids = ", ".join(run.guid for run in right)
            raise ConflictError(
                f"{self._what}: its response was lost, and it is not certain which run was started: {guids}. Look at "
                "what they did, and continue with the right one; or start anew (start_anew=True, --start-anew)."
            )
        return right[0] if right else None

    @property
    def _what(self) -> str:
        return f"The start of a run of {self.service.kind} {self.definition}"

    async def _post(self) -> R | None:
        """Send the request once and return its run, or None where nothing was started and it may be sent again."""
        self._waiting = False
        try:
            return await request_object(self.service.session, self.request, self.service.models[1])
        except ConflictError as error:
            if error.code != 3144:
                raise
            self._waiting = True
        except ServerError as error:
            self._refused += 1
            if error.code not in NOT_BEGUN or self._refused > _MAX_REPEATS:
                raise
        return None

    def _on_poll(self, _: R | None, tries: int, pause: float | None) -> None:
        """Notify the caller that another export is in progress."""
        if self._waiting:
            self.wanted.on_status(RunSeen(how="in line", run=None, polls=tries, again_in=pause))

    async def _resume(self, record: RequestRecord) -> R | None:
        """
        Return the run that an earlier call has started, or None where a new one is to be started.

        Raises:
            ApiError: The service does not show it, and may do so later.
        """
        run: R | None = None
        passed = self.service.timing.now() - record.at if record.at is not None else SHOWN_AFTER
        try:
            run = await look_up(self.service, self.definition, record.result)
        except (NotFoundError, PermissionDeniedError) as error:
            if passed < SHOWN_AFTER:
                raise
            _log.warning("%s It is not waited for any more.", error)
        except ApiError as error:
            # The guid is not valid, so no run has it.
            if error.code != 3011 or passed < SHOWN_AFTER:
                raise
        if run is None or record.at is None or not self.repeatable:
            return run
        if run.over and self.service.timing.now() - record.at > _STALE:
            shown = f"{record.at:%Y-%m-%d %H:%M %Z}".strip()
            _log.info("%s run %s is of %s; a new one is started.", self.service.kind, run.guid, shown)
            return None
        return run


def fetch_of(start: Start[R], files: RunFiles[R]) -> RunFetch[R]:
    """
    Return which run to start for a directory, and which of its files to download.

    A run that was started more than 20 hours ago and is finished is stale: another one is started, unless it changed
    the workspace. One that is still open is waited for, whatever its age.

    Args:
        start: How to start one.
        files: The file set of the definition, of which the files of the run are downloaded.
    """
    service, definition, wanted, since = start.service, start.definition, start.wanted, start.service.records.now()

    async def wait(run: R, expected: float | None) -> R:
        done = await wait_for(service, definition, run, poll=wanted.poll, on_status=wanted.on_status, expected=expected)
        return await start.check(done)

    return RunFetch(
        service="arena",
        session=service.session,
        tenant=partial(tenant_of, service),
        once=lambda tenant: start.once(f"arena {tenant} {service.kind}s {definition}", since=since, resumes=True),
        key_of=lambda tenant: files.key_prefix(tenant, definition) + start.name,
        prefix_of=lambda tenant, run: files.key_prefix(tenant, definition, run.guid),
        begin=start.begin,
        wait=wait,
        files_of=files.of,
        duration_of=lambda run: run.took,
    )
