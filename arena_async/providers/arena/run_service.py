"""
Base of exports, imports and extracts: definitions, their runs, and a run from its start to its files on disk.

::

    search  get    definitions                        start    start a run, once
    runs    run    runs of a definition               wait     poll until a run is done
    files          the files of completed runs        fetch    start, wait and download; resumes after a crash
    define         a definition (not of extracts)
"""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any, Final, Generic, TypeVar

import attrs
from attrs import AttrsInstance

from arena_async.errors import (
    ApiError,
    ArenaAsyncError,
    ConfigurationError,
    DeadlineError,
    DecodeError,
    NotFoundError,
    PermissionDeniedError,
    ServerError,
    TransportError,
)
from arena_async.http.paginator import Paginator
from arena_async.http.session import Session
from arena_async.options import Clock, PollPolicy
from arena_async.protocol.files import FileSet
from arena_async.providers.arena.api import make_request, paginate, request_object
from arena_async.providers.arena.files import RunFiles
from arena_async.providers.arena.layout import keys_of, tenant_of
from arena_async.providers.arena.models import ArenaRun, ExportDefinition, Extract, ImportDefinition
from arena_async.providers.arena.queries import ExportRunQuery, ExtractRunQuery, ImportRunQuery, write_query
from arena_async.providers.arena.runs import (
    SETTLING,
    SKEW,
    OnStatus,
    RunApi,
    RunSeen,
    Start,
    may_be_done,
    median_duration,
    same_user,
    with_more,
)
from arena_async.providers.started_run import Fetched, RunFetch, To
from arena_async.transfer.models import StartedRun

__all__ = ["RunService", "check_texts", "guid_of"]

D = TypeVar("D", Extract, ExportDefinition, ImportDefinition)
R = TypeVar("R", bound=ArenaRun)
Q = TypeVar("Q", ExtractRunQuery, ExportRunQuery, ImportRunQuery)

_log = logging.getLogger("arena_async")

#: Characters that the service accepts.
_MAX_NAME: Final = 100
_MAX_DESCRIPTION: Final = 4000
#: After that a finished run is stale: the same job of the next night needs a new one.
_STALE: Final = timedelta(hours=20)


@attrs.frozen
class RunService(Generic[D, R, Q]):
    """
    The definitions of one kind and their runs.

    Every method raises :class:`~arena_async.errors.ApiError` where the service responds with an error,
    :class:`~arena_async.errors.DecodeError` where its response is not as documented, and
    :class:`~arena_async.errors.ConfigurationError` for a guid or a date-time that cannot be sent.

    Args:
        session: The session.
        reserve: Requests of the day that are left to others.
        user: The e-mail address of the user, by which a run started by this client is recognized; or None.
        timing: The clock.
    """

    session: Session = attrs.field(repr=False)
    reserve: int = 0
    user: str | None = attrs.field(default=None, repr=False)
    timing: Clock = attrs.field(factory=Clock, repr=False)
    _kind = ""
    #: How far the clocks of this machine and of the service may be apart.
    _skew = SKEW

    @property
    @abstractmethod
    def _models(self) -> tuple[type[D], type[R]]:
        """The models of a definition and of a run."""

    async def get(self, guid: str) -> D:
        """Return one definition. One request."""
        return await request_object(self.session, self._api.request("GET", guid), self._models[0])

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
        return self._api.list(guid, write_query(query, text="status"), offset=offset, limit=limit)

    async def run(self, guid: str, run: str) -> R:
        """
        Return one run of a definition. One request.

        Raises:
            PermissionDeniedError: Another user started the export run, or it does not exist.
        """
        return await self._api.get(guid, run)

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
        return await self._api.wait(
            guid_of(guid), run, poll=poll, on_status=on_status, expected=median_duration(earlier)
        )

    def _search(self, query: AttrsInstance | str | None, offset: int = 0, limit: int | None = None) -> Paginator[D]:
        request = make_request("GET", f"/{self._kind}s", write_query(query))
        return paginate(self.session, request, self._models[0], offset=offset, limit=limit)

    async def _fetch(
        self,
        start: Start[R],
        files: RunFiles[R],
        to: To,
        *,
        poll: PollPolicy | None,
        fresh: bool,
        on_status: OnStatus[R] | None,
    ) -> Fetched[R]:
        fetch = _Fetch(self._api, files.definition or "", start, files, poll, on_status, fresh)
        return await fetch.fetch(to)

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
        earliest = self.timing.now() - SKEW
        request = make_request("POST", f"/{self._kind}s", json=body)
        lost: ArenaAsyncError
        try:
            return await request_object(self.session, request, self._models[0])
        except (TransportError, DeadlineError, ServerError, DecodeError) as error:
            lost = error
        if not may_be_done(lost):
            raise lost
        await self.timing.sleep(SETTLING)
        async for found in self._search(name):
            new = found.creation_date_time is None or found.creation_date_time >= earliest
            if found.name == name and new and same_user(found.creator, self.user) and same(found):
                _log.warning(
                    "%s The response to %s was lost; the list shows that it created %s.", lost, request.line, found.guid
                )
                return found
        raise with_more(
            lost,
            "The list of definitions does not show it. It was not sent again, since a definition cannot be removed; "
            "look at the list after a while, or define it with reuse=True.",
        )

    @property
    def _api(self) -> RunApi[R]:
        return RunApi(
            kind=self._kind,
            model=self._models[1],
            session=self.session,
            reserve=self.reserve,
            user=self.user,
            timing=self.timing,
            skew=self._skew,
        )


def guid_of(definition: str | D) -> str:
    """Return the guid of a definition, which is given by it or as it was returned."""
    return definition if isinstance(definition, str) else definition.guid


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


@attrs.frozen(eq=False)
class _Fetch(RunFetch[R]):
    """
    Which run to start for a directory, and which of its files to download.

    A run that was started more than 20 hours ago and is finished is stale: another one is started. One that is still
    open is waited for, whatever its age.

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
        """Return the run that an earlier process started, or None where a new one is to be started."""
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
