"""
Base of exports, imports and extracts: definitions and their runs, polled with a bounded number of requests.

::

    search  get    definitions                        start    start a run, once
    runs    run    runs of a definition               wait     poll until a run is done
    files          the files of completed runs        fetch    start, wait and download; resumes after a crash
    define         a definition (not of extracts)

    start ──▶ POST ──┬─▶ the run
                     ├─▶ another export is in progress (3144): wait, then POST again
                     └─▶ the response was lost: look the run up in the list ──┬─▶ it is there
                                                                              └─▶ it is not: POST again, or raise
    wait ──▶ GET at growing intervals ──▶ done, or RunFailedError, or DeadlineError

A POST is never repeated blindly. A run continues at the service when the wait ends.
"""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from statistics import median
from typing import Any, Final, Generic, Literal, TypeVar

import attrs
from attrs import AttrsInstance

from arena_async.errors import (
    ArenaAsyncError,
    ConfigurationError,
    ConflictError,
    DeadlineError,
    DecodeError,
    RunFailedError,
    ServerError,
    TransportError,
)
from arena_async.http.paginator import Paginator
from arena_async.http.polling import Polled, wait_until
from arena_async.http.session import request_object
from arena_async.options import Clock, PollPolicy
from arena_async.protocol.messages import Request, join_path
from arena_async.providers.arena.api import ArenaService, get_object, make_request, paginate
from arena_async.providers.arena.models import ArenaRun, ExportDefinition, Extract, ImportDefinition, User
from arena_async.providers.arena.queries import ExportRunQuery, ExtractRunQuery, ImportRunQuery, write_query

__all__ = ["OnStatus", "RunSeen", "RunService", "Start", "check_texts", "ended", "look_up", "may_be_done", "wait_for"]

D = TypeVar("D", Extract, ExportDefinition, ImportDefinition)
R = TypeVar("R", bound=ArenaRun)
Q = TypeVar("Q", ExtractRunQuery, ExportRunQuery, ImportRunQuery)

_log = logging.getLogger("arena_async")

#: Could not start, too many running: the service states that nothing was started.
_NOT_BEGUN = frozenset({3146, 3514})
#: Another export is in progress.
_IN_LINE = 3144
#: How often a start is sent again after the list has shown that it was not received.
_MAX_REPEATS = 2
#: Seconds until the lists show what the service has started or created.
_SETTLING: Final = 2.0
#: How far the clocks of this machine and of the service may be apart.
_SKEW: Final = timedelta(minutes=5)
#: Characters that the service accepts.
_MAX_NAME: Final = 100
_MAX_DESCRIPTION: Final = 4000


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


@attrs.frozen
class RunService(ArenaService, Generic[D, R, Q]):
    """
    The definitions of one kind and their runs.

    Every method raises :class:`~arena_async.errors.ApiError` where the service responds with an error,
    :class:`~arena_async.errors.DecodeError` where its response is not as documented, and
    :class:`~arena_async.errors.ConfigurationError` for a guid or a date-time that cannot be sent.

    Args:
        user: The e-mail address of the user, by which a run started by this client is recognized; or None.
        timing: The clock.
    """

    user: str | None = attrs.field(default=None, repr=False)
    timing: Clock = attrs.field(factory=Clock, repr=False)
    #: ``export``, ``extract`` or ``import``.
    kind = ""
    #: How far the clocks of this machine and of the service may be apart.
    skew = _SKEW

    @property
    @abstractmethod
    def models(self) -> tuple[type[D], type[R]]:
        """The models of a definition and of a run."""

    def path(self, guid: str) -> str:
        """Return the path of a definition."""
        return join_path(f"/{self.kind}s/{{{self.kind}}}", **{self.kind: guid})

    async def get(self, guid: str) -> D:
        """Return one definition. One request."""
        return await get_object(self.session, self.models[0], self.path(guid))

    def runs(
        self, guid: str, query: Q | str | None = None, *, offset: int = 0, limit: int | None = None
    ) -> Paginator[R]:
        """
        Return the runs of a definition. One request for each 400.

        Args:
            guid: The definition.
            query: Only these; a string is a status, for instance ``COMPLETE``.
            offset: Rows to leave out at the beginning.
            limit: Rows of one page, at most 400.
        """
        path, params = f"{self.path(guid)}/runs", write_query(query, text="status")
        return paginate(self.session, self.models[1], path, params, offset=offset, limit=limit)

    async def run(self, guid: str, run: str) -> R:
        """
        Return one run of a definition. One request.

        Raises:
            PermissionDeniedError: Another user started the export run, or it does not exist.
        """
        return await get_object(self.session, self.models[1], f"{self.path(guid)}/runs/{{run}}", run=run)

    async def wait(
        self,
        guid: str | D,
        run: str | R,
        *,
        poll: PollPolicy | None = None,
        earlier: Iterable[R] = (),
        on_status: OnStatus[R] | None = None,
    ) -> R:
        """
        Wait until a run is done. Costs at most :meth:`PollPolicy.max_polls` requests.

        An export run that was downloaded already (``DOWNLOADED``) is done, too. An import run is done when the engine
        has finished: look at ``has_errors``, since rows may have failed.

        Args:
            guid: The definition, by its guid or as it was returned.
            run: The run, by its guid or as :meth:`start` returned it, which saves the first request.
            poll: How often to poll and how long to wait; None for the default policy.
            earlier: Runs that were listed before: polling begins when most of the time that they took has passed.
            on_status: Called after each poll.

        Raises:
            RunFailedError: The run failed, or the service has removed its files because of their age.
            DeadlineError: It is not done yet; it continues at the service.
            PermissionDeniedError: Another user started the export run, or it does not exist.
        """
        known = [one.took for one in earlier if one.done and one.took is not None]
        expected = median(known) if known else None
        definition = guid if isinstance(guid, str) else guid.guid
        return await wait_for(self, definition, run, poll=poll, on_status=on_status, expected=expected)

    def _search(self, query: AttrsInstance | str | None, offset: int = 0, limit: int | None = None) -> Paginator[D]:
        params = write_query(query)
        return paginate(self.session, self.models[0], f"/{self.kind}s", params, offset=offset, limit=limit)

    async def _define(
        self, body: dict[str, Any], same: Callable[[D], bool], *, description: str | None, reuse: bool
    ) -> D:
        """
        Create a definition, once: a lost response is looked up in the list, since a definition cannot be removed.

        Args:
            body: The body of the request.
            same: Returns whether a listed definition does the same.
            description: Added to the body.
            reuse: Return a listed definition that does the same, if there is one.

        Raises:
            TransportError: The response was lost, and the definition is not in the list.
        """
        name = body["name"]
        check_texts(name, description)
        body |= {"description": description} if description is not None else {}
        if reuse:
            async for found in self._search(name):
                if found.name == name and same(found):
                    return found
        earliest = self.timing.now() - _SKEW
        request = make_request("POST", f"/{self.kind}s", json=body)
        lost: ArenaAsyncError
        try:
            return await request_object(self.session, request, self.models[0])
        except (TransportError, DeadlineError, ServerError, DecodeError) as error:
            lost = error
        if not may_be_done(lost):
            raise lost
        await self.timing.sleep(_SETTLING)
        async for found in self._search(name):
            new = found.creation_date_time is None or found.creation_date_time >= earliest
            if found.name == name and new and _same_user(found.creator, self.user) and same(found):
                _log.warning(
                    "%s The response to %s was lost; the list shows that it created %s.", lost, request.line, found.guid
                )
                return found
        raise _with_more(
            lost,
            "The list of definitions does not show it. It was not sent again, since a definition cannot be removed; "
            "look at the list after a while, or define it with reuse=True.",
        )


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
            if run.guid != unlike and _same_user(run.creator, self.service.user) and self.like(run)
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
                raise _with_more(lost, self._unknown)
        elif self._repeats > _MAX_REPEATS or not isinstance(lost, ServerError):
            raise lost
        return None

    async def _look_for(self, lost: ArenaAsyncError, since: datetime, unlike: str) -> R | None:
        """Look the run up in the list of runs."""
        await self.service.timing.sleep(_SETTLING)
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
        raise _with_more(lost, f"{self._unknown} The list of runs could not be read either: {trouble}")

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


async def look_up(service: RunService[Any, R, Any], definition: str, guid: str) -> R | None:
    """
    Return one run, or None where it is not there.

    https://github.com/ptc-arena/arena-restapi-doc - the sample of an export run shows a definition and no run. So a
    response with another guid is not accepted, and the run is looked up in the list.
    """
    run = await service.run(definition, guid)
    if service.kind != "export" or (run.guid == guid and run.status is not None):
        return run
    async for listed in service.runs(definition):
        if listed.guid == guid:
            return listed
    return None


async def wait_for(
    service: RunService[Any, R, Any],
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
    what = f"{service.kind} run {guid}"

    async def request() -> R:
        found = await look_up(service, definition, guid)
        if found is None:
            raise RunFailedError(f"{what}: it is not there any more. Start another run.")
        return found

    def on_poll(found: R, polls: int, pause: float | None) -> None:
        if on_status is not None and polls:
            on_status(RunSeen(how="asked", run=found, polls=polls, again_in=pause))

    passed = (service.timing.now() - known.began).total_seconds() if known is not None and known.began else 0.0
    polled = Polled(what=what, known=known, passed=max(passed, 0.0), expected=expected, on_poll=on_poll)
    poll = poll or PollPolicy()
    done = await wait_until(request, lambda found: found.over, poll, clock=service.timing, polled=polled)
    if not ended(done, service.kind):
        raise RunFailedError(
            f"{what}: its status is {done.status}; the service has removed its files. Start another run.", run=done
        )
    return done


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


def _same_user(creator: User | None, email: str | None) -> bool:
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


def _with_more(error: ArenaAsyncError, more: str) -> ArenaAsyncError:
    """Return the same error with another sentence."""
    error.args = (f"{error} {more}",)
    return error


def check_texts(name: str | None, description: str | None) -> None:
    """
    Check the texts of a definition; None is not checked.

    Raises:
        ConfigurationError: One is empty or too long.
    """
    if name is not None and not 0 < len(name.strip()) <= len(name) <= _MAX_NAME:
        raise ConfigurationError(f"The name has {len(name)} characters; it takes 1 to {_MAX_NAME}, not all blank.")
    if description is not None and len(description) > _MAX_DESCRIPTION:
        raise ConfigurationError(
            f"The description has {len(description):,} characters; it takes at most {_MAX_DESCRIPTION:,}."
        )
