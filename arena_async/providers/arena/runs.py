"""
Base of exports, imports and extracts: definitions and their runs, polled with a bounded number of requests.

::

    search  get    definitions                        start    start a run, once
    runs    run    runs of a definition               wait     poll until a run is done
    files          the files of completed runs        fetch    start, wait and download; resumes after a crash
    define         a definition (not of extracts)

    wait ──▶ GET at growing intervals ──▶ done, or RunFailedError, or DeadlineError

``fetch.py`` starts runs. A run continues at the service when the wait ends.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Callable, Iterable
from statistics import median
from typing import Any, Final, Generic, Literal, TypeVar

import attrs
from attrs import AttrsInstance

from arena_async.errors import (
    ArenaAsyncError,
    ConfigurationError,
    NotAsRequestedError,
    RunFailedError,
    ServerError,
)
from arena_async.http.paginator import Paginator
from arena_async.http.polling import Polled, wait_until
from arena_async.http.session import request_object
from arena_async.options import Clock, PollPolicy
from arena_async.protocol.messages import join_path, printable
from arena_async.protocol.request_records import MAX_SKEW, RequestRecord, record_name
from arena_async.providers.arena.api import ArenaService, get_object, make_request, paginate, tenant_of
from arena_async.providers.arena.models import ArenaRun, ExportDefinition, Extract, ImportDefinition, User
from arena_async.providers.arena.queries import ExportRunQuery, ExtractRunQuery, ImportRunQuery, write_query
from arena_async.providers.send_once import RequestStore, SendOnce, may_be_done

__all__ = [
    "NOT_BEGUN",
    "OnStatus",
    "RunSeen",
    "RunService",
    "Wanted",
    "check_texts",
    "ended",
    "look_up",
    "run_may_be_begun",
    "same_user",
    "wait_for",
]

D = TypeVar("D", Extract, ExportDefinition, ImportDefinition)
R = TypeVar("R", bound=ArenaRun)
Q = TypeVar("Q", ExtractRunQuery, ExportRunQuery, ImportRunQuery)

#: Could not start, too many running: the service states that nothing was started.
NOT_BEGUN: Final = frozenset({3146, 3514})
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


@attrs.frozen(kw_only=True)
class Wanted:
    """
    How a definition is created.

    Args:
        description: Its description, or None.
        reuse: Return a listed definition that does the same, if there is one.
        start_anew: Create it whatever is remembered about an earlier request.
    """

    description: str | None
    reuse: bool
    start_anew: bool


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
        records: What was sent to the service.
    """

    user: str | None = attrs.field(default=None, repr=False)
    timing: Clock = attrs.field(factory=Clock, repr=False)
    records: RequestStore = attrs.field(repr=False, kw_only=True)
    #: ``export``, ``extract`` or ``import``.
    kind = ""

    @property
    @abstractmethod
    def models(self) -> tuple[type[D], type[R]]:
        """The models of a definition and of a run."""

    async def scope(self, definition: str = "") -> str:
        """Return what the records of a definition are about, after a login where the workspace is not known yet."""
        return " ".join(["arena", await tenant_of(self), f"{self.kind}s", definition]).rstrip()

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
        self, body: dict[str, Any], same: Callable[[D], bool], contradicts: Callable[[D], bool], wanted: Wanted
    ) -> D:
        """
        Create a definition, once: it cannot be removed.

        Args:
            body: The body of the request.
            same: Returns whether a listed definition does the same.
            contradicts: Returns whether a created definition says that it does something else.
            wanted: The description, and what to do with earlier ones.

        Raises:
            NotAsRequestedError: What was created does something else.
            TransportError: It is not known whether it was created.
        """
        name, since = body["name"], self.records.now()
        check_texts(name, wanted.description)
        body |= {"description": wanted.description} if wanted.description is not None else {}
        if wanted.reuse:
            async for found in self._search(name):
                if found.name == name and same(found):
                    return found
        request = make_request("POST", f"/{self.kind}s", json=body)
        once: SendOnce[D] = self._once(
            scope=await self.scope(),
            name=record_name("define", json.dumps(body, sort_keys=True, default=str)),
            what=f"The creation of the {self.kind} definition {printable(name)!r}",
            since=since,
            send=lambda: request_object(self.session, request, self.models[0]),
            find=lambda record, records: self._find_created(
                name, record, lambda found: found.guid not in records.known and found.name == name and same(found)
            ),
            id_of=lambda found: found.guid,
            doubt="A definition cannot be removed; with reuse=True one that turns up is used.",
            start_anew=wanted.start_anew,
        )
        made = await once.step()
        if made is None or (made.name is not None and made.name != name) or contradicts(made):
            raise NotAsRequestedError(
                f"{once.what}: the service has created {made and made.guid}, which differs from what was requested, "
                "and cannot be removed. Compare the two before it is used.",
                result=made,
            )
        return made

    async def _find_created(self, name: str, record: RequestRecord, same: Callable[[D], bool]) -> D | None:
        """Return the definition that was created by this user when a request was sent, or None."""
        earliest = record.at and record.at - MAX_SKEW
        async for found in self._search(name):
            at = found.creation_date_time
            new = at is None or earliest is None or at >= earliest
            if new and same_user(found.creator, self.user) and same(found):
                return found
        return None

    def _once(self, **given: Any) -> SendOnce[Any]:
        """Return a request of this service that is sent once, and never again."""
        return SendOnce(
            store=self.records,
            session=self.session,
            clock=self.timing,
            repeatable=False,
            may_be_done=run_may_be_begun,
            **given,
        )


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


def run_may_be_begun(error: ArenaAsyncError) -> bool:
    """Return whether the service may have carried out a request that has no proper response."""
    return may_be_done(error) and not (isinstance(error, ServerError) and error.code in NOT_BEGUN)


def same_user(creator: User | None, email: str | None) -> bool:
    """Return whether a creator may be the user of this client; without an address of both it may."""
    if creator is None or creator.email is None or email is None:
        return True
    return creator.email.casefold() == email.casefold()


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
