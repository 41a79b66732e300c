"""
Runs of the service: started once, and polled with a bounded number of requests.

::

    start ──▶ POST ──┬─▶ the run
                     ├─▶ another export is in progress (3144): wait, then POST again
                     └─▶ the response was lost: look the run up in the list ──┬─▶ it is there
                                                                              └─▶ it is not: POST again, or raise
    wait ──▶ GET at growing intervals ──▶ done, or RunFailedError, or DeadlineError

A POST is never repeated blindly. A run continues at the service when the wait ends.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from statistics import median
from typing import Any, Final, Generic, Literal, TypeVar

import attrs

from arena_async.errors import (
    ArenaAsyncError,
    ConflictError,
    DeadlineError,
    DecodeError,
    RunFailedError,
    ServerError,
    TransportError,
)
from arena_async.http.paginator import Paginator
from arena_async.http.polling import Polled, wait_until
from arena_async.http.session import Session
from arena_async.options import Clock, PollPolicy
from arena_async.protocol.messages import Request
from arena_async.providers.arena.api import make_request, paginate, request_object
from arena_async.providers.arena.models import ArenaRun, User

__all__ = [
    "SETTLING",
    "SKEW",
    "OnStatus",
    "RunApi",
    "RunSeen",
    "Start",
    "ended",
    "may_be_done",
    "median_duration",
    "same_user",
    "with_more",
]

R = TypeVar("R", bound=ArenaRun)

_log = logging.getLogger("arena_async")

#: Another export is in progress.
_IN_LINE = 3144
#: Could not start, too many running: the service states that nothing was started.
_NOT_BEGUN = frozenset({3146, 3514})
#: How often a start is sent again after the list has shown that it was not received.
_MAX_REPEATS = 2
#: Seconds until the list shows what the service has started.
SETTLING: Final = 2.0
#: How far the clocks of this machine and of the service may be apart.
SKEW: Final = timedelta(minutes=5)


@attrs.frozen(kw_only=True)
class RunSeen(Generic[R]):
    """
    The state of a run.

    Args:
        how: ``started``: the service has confirmed it. ``found``: the response to its start was lost, and it was in the
            list of runs. ``resumed``: an earlier process had started it. ``asked``: it was polled. ``in line``: another
            export has to end before this one can be started.
        run: The run, or None while another export is in progress.
        polls: The number of polls so far; each cost a request.
        again_in: Seconds to the next poll, or None.
    """

    how: Literal["started", "found", "resumed", "asked", "in line"]
    run: R | None
    polls: int = 0
    again_in: float | None = None


#: Called with the state of a run; it must return at once.
OnStatus = Callable[[RunSeen[R]], object]


@attrs.frozen(kw_only=True)
class Start(Generic[R]):
    """
    How one run is started.

    Args:
        request: The POST.
        like: Whether a listed run may be the one that it started.
        alike: Whether either of two runs that it may have started will do.
        repeatable: Whether it does no harm when it is carried out twice.
        name: What distinguishes it from other starts of the same definition, in the ledger of a directory.
    """

    request: Request
    like: Callable[[R], bool] = lambda _: True
    alike: bool = True
    repeatable: bool = True
    name: str = ""


def same_user(creator: User | None, email: str | None) -> bool:
    """Return whether a creator may be the user of this client; without an address of both it may."""
    if creator is None or creator.email is None or email is None:
        return True
    return creator.email.casefold() == email.casefold()


def may_be_done(error: ArenaAsyncError) -> bool:
    """Return whether the service may have carried out a request that has no proper response."""
    if isinstance(error, TransportError | DeadlineError):
        return error.sent
    if isinstance(error, ServerError):
        return error.code not in _NOT_BEGUN
    return isinstance(error, DecodeError)


def ended(run: ArenaRun, kind: str) -> bool:
    """
    Return whether a run that was requested by its guid has files.

    Raises:
        RunFailedError: It never will.
    """
    if run.failed:
        raise RunFailedError(
            f"{kind} run {run.guid}: its status is {run.status}, so it has no files. Start another run.", run=run
        )
    return run.done


@attrs.frozen(kw_only=True)
class RunApi(Generic[R]):
    """
    The runs of one kind of definition: how one is requested, started, found and waited for.

    Args:
        kind: ``export``, ``extract`` or ``import``.
        model: The model of a run.
        session: The session.
        reserve: Requests of the day that are left to others.
        user: The e-mail address of the user of this client, or None where that is not known.
        timing: The clock.
        skew: How far the clocks of this machine and of the service may be apart.
    """

    kind: str
    model: type[R]
    session: Session = attrs.field(repr=False)
    reserve: int = 0
    user: str | None = attrs.field(default=None, repr=False)
    timing: Clock = attrs.field(factory=Clock, repr=False)
    skew: timedelta = SKEW

    def request(
        self, method: str, definition: str, rest: str = "", query: Mapping[str, object] | None = None, **more: Any
    ) -> Request:
        """Build a request below one definition; ``more`` is as for :func:`make_request`."""
        return make_request(method, f"/{self.kind}s/{{{self.kind}}}{rest}", query, **{self.kind: definition}, **more)

    def list(self, definition: str, query: Mapping[str, object] | None = None, **page: Any) -> Paginator[R]:
        """Return the runs of a definition, with ``offset`` and ``limit``. One request for each 400."""
        return paginate(self.session, self.request("GET", definition, "/runs", query), self.model, **page)

    async def get(self, definition: str, run: str) -> R:
        """Return one run as the service shows it alone. One request."""
        return await request_object(self.session, self.request("GET", definition, "/runs/{run}", run=run), self.model)

    async def look_up(self, definition: str, guid: str) -> R | None:
        """
        Return one run, or None where it is not there.

        https://github.com/ptc-arena/arena-restapi-doc - the sample of an export run shows a definition and no run. So
        a response with another guid is not accepted, and the run is looked up in the list.
        """
        run = await self.get(definition, guid)
        if self.kind != "export" or (run.guid == guid and run.status is not None):
            return run
        async for listed in self.list(definition):
            if listed.guid == guid:
                return listed
        return None

    async def start(
        self,
        definition: str,
        start: Start[R],
        *,
        poll: PollPolicy | None,
        on_status: OnStatus[R] | None,
        since: datetime | None = None,
        unlike: str = "",
    ) -> R:
        """
        Start a run, once.

        ``since`` is when the first request was sent, at the earliest; None for now. ``unlike`` is the guid of a run
        that it cannot be.

        Raises:
            ApiError: The service responded with an error.
            DeadlineError: Another export was in progress all the time.
            TransportError: The response was lost, and it is not known whether the run was started.
        """
        poll, what = poll or PollPolicy(), self.start_of(definition)
        attempts = _Attempts(self, definition, start, on_status, since or self.timing.now(), unlike)
        polled = Polled(what=what, on_poll=attempts.on_poll)
        try:
            run = await wait_until(attempts.once, lambda run: run is not None, poll, clock=self.timing, polled=polled)
        except DeadlineError as error:
            # That of a request names it.
            if error.request is not None:
                raise
            run = None
        if run is None:
            raise DeadlineError(
                f"{what}: it could not be started within {poll.timeout:g} s, because the service does one export at a "
                "time (code 3144) and another one was in progress. Nothing was started; try again later, or allow more "
                "time."
            )
        return run

    async def find(self, definition: str, start: Start[R], *, since: datetime, unlike: str = "") -> R | None:
        """
        Find the run that was started since then by this user, or None. Costs a request for each 400 runs.

        Raises:
            ConflictError: There are several, and it may be any of them.
        """
        earliest = since - self.skew
        found = [
            run
            async for run in self.list(definition)
            if run.guid != unlike and same_user(run.creator, self.user) and start.like(run)
            if (run.began >= earliest if run.began is not None else not run.over)
        ]
        if len(found) > 1 and not start.alike:
            guids = ", ".join(run.guid for run in found)
            raise ConflictError(
                f"{self.start_of(definition)}: its response was lost, and several runs may be the one that was "
                f"started: {guids}. Check them, and continue with the right one."
            )
        return max(found, key=lambda run: (run.began is None, run.began or earliest), default=None)

    def start_of(self, definition: str) -> str:
        """Return the name of a start in messages."""
        return f"The start of a run of {self.kind} {definition}"

    async def wait(
        self,
        definition: str,
        run: str | R,
        *,
        poll: PollPolicy | None,
        on_status: OnStatus[R] | None,
        expected: float | None,
    ) -> R:
        """
        Wait until a run is done.

        A run that is given as it was just seen delays the first poll; so do the ``expected`` seconds of earlier runs.

        Raises:
            RunFailedError: It failed.
            DeadlineError: It is not done yet; it continues at the service.
            ApiError: The service responded with an error, or the quota is used up.
        """
        known, guid = (None, run) if isinstance(run, str) else (run, run.guid)

        async def request() -> R:
            found = await self.look_up(definition, guid)
            if found is None:
                raise RunFailedError(f"{self.kind} run {guid}: it is not there any more. Start another run.")
            return found

        def on_poll(found: R, polls: int, pause: float | None) -> None:
            if on_status is not None and polls:
                on_status(RunSeen(how="asked", run=found, polls=polls, again_in=pause))

        passed = (self.timing.now() - known.began).total_seconds() if known is not None and known.began else 0.0
        what, passed = f"{self.kind} run {guid}", max(passed, 0.0)
        polled = Polled(what=what, known=known, passed=passed, expected=expected, on_poll=on_poll)
        poll = poll or PollPolicy()
        done = await wait_until(request, lambda found: found.over, poll, clock=self.timing, polled=polled)
        if not ended(done, self.kind):
            raise RunFailedError(
                f"{self.kind} run {guid}: its status is {done.status}; the service has removed its files. Start "
                "another run.",
                run=done,
            )
        return done


@attrs.define(eq=False)
class _Attempts(Generic[R]):
    """The attempts to start one run."""

    api: RunApi[R]
    definition: str
    start: Start[R]
    on_status: OnStatus[R] | None
    since: datetime
    unlike: str
    repeats: int = 0
    waiting: bool = False

    async def once(self) -> R | None:
        """Start the run; None where that is to be tried again."""
        lost: ArenaAsyncError
        try:
            run = await request_object(self.api.session, self.start.request, self.api.model)
        except ConflictError as error:
            if error.code != _IN_LINE:
                raise
            self.waiting = True
            return None
        except (TransportError, DeadlineError, ServerError, DecodeError) as error:
            lost = error
        else:
            return self._reported("started", run)
        self.waiting, self.repeats = False, self.repeats + 1
        return await self._recover(lost)

    async def _recover(self, lost: ArenaAsyncError) -> R | None:
        """Return the run whose start has no response, None to try again, or raise the error of the start."""
        done = may_be_done(lost)
        run = await self._look_for(lost) if done else None
        if run is not None:
            return self._reported("found", run)
        if done and (self.repeats > _MAX_REPEATS or not self.start.repeatable):
            raise with_more(lost, self._unknown)
        if self.repeats > _MAX_REPEATS or not (done or isinstance(lost, ServerError)):
            raise lost
        return None

    async def _look_for(self, lost: ArenaAsyncError) -> R | None:
        """Look the run up in the list of runs."""
        await self.api.timing.sleep(SETTLING)
        trouble: ArenaAsyncError
        try:
            run = await self.api.find(self.definition, self.start, since=self.since, unlike=self.unlike)
        except ConflictError:
            raise
        except ArenaAsyncError as error:
            trouble = error
        else:
            found = f"the list shows that it started run {run.guid}" if run else "the list shows no run started by it"
            _log.warning("%s The response to %s was lost; %s.", lost, self.start.request.line, found)
            return run
        raise with_more(lost, f"{self._unknown} The list of runs could not be read either: {trouble}")

    @property
    def _unknown(self) -> str:
        return (
            f"{self.api.start_of(self.definition)}: it was not sent again, since it may have been carried out although "
            "the list of runs does not show it. Look at the list after a while before you start another one."
        )

    def on_poll(self, _: R | None, tries: int, pause: float | None) -> None:
        """Notify the caller that another export is in progress."""
        if self.waiting and self.on_status is not None:
            self.on_status(RunSeen(how="in line", run=None, polls=tries, again_in=pause))

    def _reported(self, how: Literal["started", "found"], run: R) -> R:
        """Notify the caller of the run, and return it."""
        self.waiting = False
        if self.on_status is not None:
            self.on_status(RunSeen(how=how, run=run))
        return run


def median_duration(runs: Iterable[ArenaRun]) -> float | None:
    """Return the median duration of the runs that are done, in seconds, or None."""
    known = [run.took for run in runs if run.done and run.took is not None]
    return median(known) if known else None


def with_more(error: ArenaAsyncError, more: str) -> ArenaAsyncError:
    """Return the same error with another sentence."""
    error.args = (f"{error} {more}",)
    return error
