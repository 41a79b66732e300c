"""
A request for raw or epoch data and its files in one await; the folder remembers the request.

::

    the ledger of the folder says     then
    nothing, or over                  write "starting", POST, write "started"
    starting                          nobody heard the answer: the request may hold a place, and no list shows it; a
                                      warning, and another request
    started                           wait for that request; start no other

Requests are told apart by what they ask for: study, subject, time and format. The service keeps files for 30 days, so a
request that is older than that is made anew.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import attrs

from arena_async.errors import (
    ArenaAsyncError,
    ConfigurationError,
    NotFoundError,
    RunFailedError,
)
from arena_async.net.session import Session
from arena_async.options import PollPolicy, TransferOptions
from arena_async.providers.centrepoint.data_files import DataFileSet, data_files_prefix
from arena_async.providers.centrepoint.entries import SERVICE, join_key
from arena_async.providers.centrepoint.models import DataRequest
from arena_async.providers.centrepoint.places import may_hold_a_place
from arena_async.transfer.events import Observer, Report
from arena_async.transfer.jobs import Job
from arena_async.transfer.mirror import Mirror

__all__ = ["DataFetch", "FetchedData", "To"]

_log = logging.getLogger("arena_async")

#: A folder, or a mirror of one that is open already.
To = str | os.PathLike[str] | Mirror

#: The service removes the files of a request then.
_FILE_LIFE = timedelta(days=30)


@attrs.frozen(kw_only=True)
class FetchedData:
    """
    A request for data whose files are on the disk.

    Args:
        request: The request as it was last seen.
        report: What became of its files.
        paths: Where they lie.
        requests: Metered requests that all of it cost: the start, the questions, the list and the links.
        resumed: Whether the request was started by an earlier call.
    """

    request: DataRequest
    report: Report
    paths: tuple[Path, ...]
    requests: int
    resumed: bool = False


class Verbs(Protocol):
    """What starts requests of one kind, waits for them, and knows their files."""

    @property
    def what(self) -> str:
        """``"raw"`` or ``"epoch"``."""
        ...

    @property
    def tenant(self) -> str:
        """Whose files they are: origin of the service and client."""
        ...

    @property
    def session(self) -> Session:
        """What sends the requests."""
        ...

    @property
    def now(self) -> Callable[[], datetime]:
        """Gives the time (aware)."""
        ...

    async def begin(self, body: Mapping[str, Any], poll: PollPolicy) -> DataRequest:
        """Wait for a place, and start a request there."""
        ...

    async def get(self, request: DataRequest | str) -> DataRequest:
        """Say how a request is doing."""
        ...

    async def wait(self, request: DataRequest | str, *, poll: PollPolicy = ...) -> DataRequest:
        """Wait until the files of a request are there."""
        ...

    def files(self, request: DataRequest | str) -> DataFileSet:
        """Give the files of a request."""
        ...


@attrs.frozen(kw_only=True, eq=False)
class DataFetch:
    """
    One job: what to ask for, and how to wait for it.

    Args:
        verbs: What starts it, waits for it and knows its files.
        body: What is asked for, as it is sent.
        poll: How often to ask and how long to wait, for a place and for the files.
    """

    verbs: Verbs
    body: Mapping[str, Any]
    poll: PollPolicy

    async def bring(self, to: To, *, options: TransferOptions | None, observer: Observer | None) -> FetchedData:
        """
        Do the job.

        Raises:
            ConfigurationError: ``to`` is a mirror, and settings for another one were given.
            RunFailedError: The service ended the request with an error; the next call makes another one.
            DeadlineError: Its files are not there yet; the next call waits on.
            TransfersFailedError: Not all of its files are here; the next call fetches the rest.
            ApiError: The service refused; the next call goes on where this one stopped.
        """
        verbs, spent = self.verbs, self.verbs.session.requests_sent
        async with AsyncExitStack() as stack:
            mirror = await _enter(stack, to, options, observer)
            await mirror.jobs.claim(SERVICE, verbs.tenant)
            job = await self._find_job(mirror)
            request = await self._take_up(job)
            resumed = request is not None
            if request is None:
                job, request = await self._begin(mirror, job)
            try:
                done = await verbs.wait(request, poll=self.poll)
            except RunFailedError:
                await mirror.jobs.note(attrs.evolve(job, state="over"))
                raise
            report = await mirror.sync(verbs.files(done))
            report.raise_for_failures()
            await mirror.jobs.note(attrs.evolve(job, state="over"))
            return FetchedData(
                request=done,
                report=report,
                paths=tuple(await mirror.paths(data_files_prefix(verbs.tenant, verbs.what, done.id))),
                requests=verbs.session.requests_sent - spent,
                resumed=resumed,
            )

    async def _find_job(self, mirror: Mirror) -> Job:
        """Give what the folder remembers about what is asked for."""
        asked = json.dumps(dict(self.body), sort_keys=True).encode()
        key = join_key(self.verbs.tenant, f"{self.verbs.what}-request", hashlib.sha256(asked).hexdigest()[:16])
        return await mirror.jobs.find(key) or Job(key=key)

    async def _take_up(self, job: Job) -> DataRequest | None:
        """Give the request that an earlier call has started, or None where another one is wanted."""
        if job.state == "over" or job.began is None or self.verbs.now() - job.began >= _FILE_LIFE:
            return None
        if job.state == "starting":
            _log.warning(
                "%s request of %s: nobody heard whether it was taken, and the service has no list to find it in. It "
                "may hold a place for 6 hours; another one is started.",
                self.verbs.what,
                f"{job.began:%Y-%m-%d %H:%M} UTC",
            )
            return None
        try:
            return await self.verbs.get(job.run)
        except NotFoundError as error:
            _log.warning("%s Another request is started.", error)
            return None

    async def _begin(self, mirror: Mirror, job: Job) -> tuple[Job, DataRequest]:
        """Start a request, and leave word of it before and after."""
        starting = attrs.evolve(job, state="starting", run="", began=self.verbs.now())
        await mirror.jobs.note(starting)
        try:
            request = await self.verbs.begin(self.body, self.poll)
        except ArenaAsyncError as error:
            if not may_hold_a_place(error):
                await mirror.jobs.note(attrs.evolve(job, state="over"))
            raise
        started = attrs.evolve(starting, state="started", run=request.id)
        await mirror.jobs.note(started)
        return started, request


async def _enter(stack: AsyncExitStack, to: To, options: TransferOptions | None, observer: Observer | None) -> Mirror:
    """Give a mirror of the folder, which is closed with the stack; one that was handed in stays open."""
    if not isinstance(to, Mirror):
        return await stack.enter_async_context(Mirror(to, options=options, observer=observer))
    if options is not None or observer is not None:
        raise ConfigurationError("The mirror brings its own options and observer; give them to it, and not here too.")
    return to
