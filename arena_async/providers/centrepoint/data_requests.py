"""
Requests for raw and epoch data: started, waited for, and downloaded.

::

    start ──> wait ──> files ──> a signed URL for each file, requested when it is opened
      │
      └── at most ten are active at a time: another one waits for its turn

A start is sent once. When no response is received, it is not known whether the service has accepted it, since the
service has no list of requests.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import re
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, ClassVar, Generic, TypeVar

import attrs

from arena_async.errors import (
    ApiError,
    ArenaAsyncError,
    ConfigurationError,
    DeadlineError,
    DecodeError,
    NotFoundError,
    RunFailedError,
    ServerError,
    TransportError,
)
from arena_async.http.paginator import ListQuery, Paginator
from arena_async.http.polling import Polled, wait_until
from arena_async.http.session import request_object
from arena_async.options import PollPolicy
from arena_async.protocol.decoding import decode, read_datetime
from arena_async.protocol.messages import Request, join_path, printable
from arena_async.providers.centrepoint.api import Api
from arena_async.providers.centrepoint.auth import DATA_RETRIEVAL
from arena_async.providers.centrepoint.data_files import SHAPE, DataFileSet, data_files_prefix
from arena_async.providers.centrepoint.identifiers import SERVICE, join_key, named_subject, number, word
from arena_async.providers.centrepoint.models import DataFile, DataRequest
from arena_async.providers.started_run import Fetched, RunFetch, To
from arena_async.transfer.models import StartedRun

__all__ = ["POLLING", "ActiveRequests", "DataRequests", "EpochQuery", "RawQuery"]

_log = logging.getLogger("arena_async")

#: The service ends a request itself after 6 hours of work, before this timeout.
POLLING = PollPolicy(every=10.0, max_interval=60.0, timeout=7 * 3600.0)

#: Requests that the service works on at a time, by its page on raw data. Whether raw and epoch requests share them is
#: not documented, so they do here.
MAX_ACTIVE = 10
#: The service removes the files of a request then.
_FILE_LIFE = timedelta(days=30)
# "There are currently 10 active requests. The maximum concurrent active requests limit is 10."
_LIMIT_REACHED = re.compile(r"(?i)\bactive requests?\b")


def _timestamp(value: datetime | str) -> datetime:
    """Return a time in UTC; text is read as the service writes times."""
    stamp = read_datetime(value) if isinstance(value, str) else value
    if not isinstance(stamp, datetime) or stamp.tzinfo is None:
        raise ConfigurationError(
            f"{printable(repr(value))} is no time; it takes a date and time with its timezone, for instance "
            "2024-02-29T10:00:00Z."
        )
    return stamp.astimezone(UTC)


def _epoch(value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 3600:  # type: ignore[redundant-expr]
        raise ConfigurationError(f"summary_length is {printable(repr(value))}; it takes whole seconds, 1 to 3600.")
    return value


@attrs.frozen
class _DataQuery:
    resource: ClassVar[str]
    #: The kind of data, on the disk and in messages.
    kind: ClassVar[str]

    study: int = attrs.field(converter=number)
    subject: int | str = attrs.field(converter=named_subject)
    time_from: datetime = attrs.field(kw_only=True, converter=_timestamp)
    time_to: datetime = attrs.field(kw_only=True, converter=_timestamp)
    file_format: str = attrs.field(default="csv", kw_only=True, converter=word)

    def __attrs_post_init__(self) -> None:
        """Reject an empty range."""
        if self.time_to <= self.time_from:
            raise ConfigurationError(
                f"The end, {self.time_to.isoformat()}, is not after the begin, {self.time_from.isoformat()}."
            )

    def body(self, subject: int) -> dict[str, Any]:
        """Return the JSON body of the request that starts it."""
        span = {"beginTimestampUtc": self.time_from, "endTimestampUtc": self.time_to}
        return {
            "fileFormat": self.file_format,
            "studyId": self.study,
            **{name: f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03}Z" for name, at in span.items()},
            "subjectId": subject,
        }


@attrs.frozen
class RawQuery(_DataQuery):
    """
    Raw data of a subject.

    The vendor forbids to download the history of all subjects this way and recommends day files.

    Args:
        study: The number of the study.
        subject: The number of the subject as an ``int``, or its identifier as text.
        time_from: The first time (aware, or text with a timezone).
        time_to: The last time.
        file_format: ``"csv"``, ``"avro"`` or ``"gt3x"``.

    Raises:
        ConfigurationError: An argument cannot be what it should be.
    """

    resource = "RawActivityRequests"
    kind = "raw"


@attrs.frozen
class EpochQuery(_DataQuery):
    """
    Epochs of a subject.

    Args:
        study: The number of the study.
        subject: The number of the subject as an ``int``, or its identifier as text.
        time_from: The first time (aware, or text with a timezone).
        time_to: The last time.
        file_format: ``"csv"``, the only one that is documented.
        monitor: The serial of the activity monitor.
        summary_length: Seconds of one epoch, 1 to 3600.
        include_partial_epochs: Whether to include epochs that are not full.

    Raises:
        ConfigurationError: An argument cannot be what it should be.
    """

    resource = "EpochRequests"
    kind = "epoch"

    monitor: str = attrs.field(kw_only=True, converter=word)
    summary_length: int = attrs.field(default=60, kw_only=True, converter=_epoch)
    include_partial_epochs: bool = attrs.field(default=False, kw_only=True)

    def body(self, subject: int) -> dict[str, Any]:
        """Return the JSON body of the request that starts it."""
        return {
            **super().body(subject),
            "summaryLengthSeconds": self.summary_length,
            "includePartialEpochs": self.include_partial_epochs,
            "activityMonitorSerial": self.monitor,
        }


Q = TypeVar("Q", RawQuery, EpochQuery)


class ActiveRequests:
    """
    The requests of this client that may be active. Raw and epoch requests share the limit.

    Args:
        limit: How many may be active.
    """

    def __init__(self, *, limit: int = MAX_ACTIVE) -> None:
        self._limit = limit
        #: The task that starts a request holds it; the others queue.
        self.turn = asyncio.Lock()
        #: When the status of each request was last read, by the clock of the caller.
        self._checked: dict[str, float] = {}

    @property
    def count(self) -> int:
        """Requests of this client that may still be active."""
        return len(self._checked)

    @property
    def is_full(self) -> bool:
        """Whether another request would be one too many."""
        return self.count >= self._limit

    def update(self, path: str, request: DataRequest | None, *, at: float, started: bool = False) -> None:
        """
        Note the status of a request.

        Args:
            path: The path of the request.
            request: Its status, or None where the service does not know it.
            at: When it was read.
            started: Whether this client has just started it; others do not count here.
        """
        if request is None or not request.is_active:
            self._checked.pop(path, None)
        elif started or path in self._checked:
            self._checked[path] = at

    def unchecked(self, *, before: float) -> list[str]:
        """Return the requests whose status was not read since ``before``, the oldest first."""
        return sorted((path for path, at in self._checked.items() if at <= before), key=self._checked.__getitem__)


@attrs.frozen(eq=False, repr=False)
class DataRequests(Generic[Q]):
    """
    Requests for data; reached as ``client.raw_requests`` and ``client.epoch_requests``. Needs ``DataRetrieval``.

    The service works on ten requests at a time, those of other programs with the same credentials included.

    Args:
        api: Sends the requests.
        kind: The class of the queries.
        active: The active requests of the client, which both kinds share.
    """

    _api: Api
    kind: type[Q]
    _active: ActiveRequests

    async def start(self, query: Q, *, poll: PollPolicy | None = None) -> DataRequest:
        """
        Start a request. It waits while ten requests are active.

        Args:
            query: Which data.
            poll: How often to try while ten are active, and how long; None as for :meth:`wait`.

        Raises:
            DeadlineError: Ten requests were active all the time; nothing was started.
            TransportError: No response was received. ``sent`` says whether the service may have accepted the request,
                which then counts as active; it is never sent twice.
            ApiError: The service responded with an error; the message says whether it may have accepted the request.
        """
        poll = poll or POLLING
        path = f"/dataretrieval/v3/{self.kind.resource}"
        request = Request(method="POST", path=path, json=await self._body(query), scope=DATA_RETRIEVAL)
        began = self._api.clock.monotonic()
        found: DataRequest | ArenaAsyncError | None = None
        with contextlib.suppress(TimeoutError, DeadlineError):
            async with asyncio.timeout(poll.timeout) as waiting, self._active.turn:
                waiting.reschedule(None)  # the rest is measured by the clock
                left = max(poll.timeout - (self._api.clock.monotonic() - began), 0.001)
                found = await wait_until(
                    lambda: self._try(request, poll),
                    lambda result: result is not None,
                    attrs.evolve(poll, timeout=left),
                    clock=self._api.clock,
                )
        if isinstance(found, DataRequest):
            return found
        raise found or DeadlineError(
            f"{request.line}: {MAX_ACTIVE} requests were active for {poll.timeout:g} s, which is all that the service "
            f"works on at a time; {self._active.count} of this client are not known to be finished. Nothing was "
            "started; wait for some of them, or allow more time.",
            request=request.line,
        )

    async def get(self, request: DataRequest | str) -> DataRequest:
        """
        Return the status of a request. One request.

        Args:
            request: What :meth:`start` returned, or its tracking id.

        Raises:
            NotFoundError: There is no such request.
        """
        return await self._read(self._path_of(request))

    async def wait(self, request: DataRequest | str, *, poll: PollPolicy | None = None) -> DataRequest:
        """
        Poll until the files of a request are available.

        An unknown status counts as not finished.

        Args:
            request: What :meth:`start` returned, or its tracking id.
            poll: How often to poll and how long to wait; None for every 10 to 60 seconds, for 7 hours.

        Raises:
            RunFailedError: The service ended the request with an error.
            DeadlineError: The time was up before that; the service continues.
            NotFoundError: There is no such request.
        """
        path, shown = self._path_of(request), f"{self.kind.kind} request {printable(_tracking_id(request))}"
        found = await wait_until(
            lambda: self._read(path),
            lambda seen: not seen.is_active,
            poll or POLLING,
            clock=self._api.clock,
            polled=Polled(what=shown),
        )
        if found.is_failed:
            raise RunFailedError(
                f"{shown}: it ended with an error; the service does not state why (its webhook data_retrieval_complete "
                "does). It ends what it has worked on for 6 hours; request a shorter time.",
                run=found,
            )
        return found

    def data_files(self, request: DataRequest | str) -> Paginator[DataFile]:
        """Return the paginator of the files of a completed request. One request, whatever their number."""
        listing = Request(method="GET", path=f"{self._path_of(request)}/datafiles", scope=DATA_RETRIEVAL)
        read = partial(decode, model=DataFile, request=listing.line)
        return Paginator(self._api.session, ListQuery(listing, SHAPE, read))

    def files(self, request: DataRequest | str) -> DataFileSet:
        """Return the files of a completed request as a set for a ``Downloader`` or ``Mirror``."""
        return DataFileSet(self._api, self.data_files(request), request=_tracking_id(request), what=self.kind.kind)

    async def fetch(self, query: Q, to: To, *, poll: PollPolicy | None = None) -> Fetched[DataRequest]:
        """
        Start a request, wait for it, and download and verify its files.

        The directory remembers the request: the same call after a crash or a deadline waits for it and starts no other.
        A finished one is started again, since a late upload may have added to it.

        Args:
            query: Which data.
            to: The directory, or an open ``Mirror`` of it, with its own options and observer.
            poll: How often to poll and how long to wait, both for the start and for the files; None as for
                :meth:`wait`.

        Raises:
            RunFailedError: The service ended the request with an error.
            DeadlineError: Ten requests were active all the time, or the files are not available yet.
            TransfersFailedError: Not all files are here; the same call fetches the rest.
            ArenaAsyncError: As for :meth:`start`, with its other errors.
        """
        api, kind = self._api, query.kind
        digest = hashlib.sha256(json.dumps(await self._body(query), sort_keys=True).encode()).hexdigest()

        async def tenant() -> str:
            return api.tenant

        fetch = RunFetch[DataRequest](
            service=SERVICE,
            session=api.session,
            now=api.clock.now,
            tenant=tenant,
            key_of=lambda tenant: join_key(tenant, f"{kind}-request", digest[:16]),
            prefix_of=lambda tenant, run: data_files_prefix(tenant, kind, run.id),
            id_of=lambda run: run.id,
            resume=self._resume,
            start=lambda _: self.start(query, poll=poll),
            may_be_started=_may_be_accepted,
            wait=lambda run, _: self.wait(run, poll=poll),
            files_of=self.files,
        )
        return await fetch.fetch(to)

    async def _resume(self, job: StartedRun, began: datetime) -> DataRequest | None:
        """Return the request that an earlier call started, or None where another one is to be started."""
        if self._api.clock.now() - began >= _FILE_LIFE:
            return None
        if job.state == "starting":
            _log.warning(
                "%s request of %s: no response to its start was received, and the service has no list that shows it. "
                "It may be active for 6 hours; another one is started.",
                self.kind.kind,
                f"{began:%Y-%m-%d %H:%M} UTC",
            )
            return None
        try:
            return await self.get(job.run)
        except NotFoundError as error:
            _log.warning("%s Another request is started.", error)
            return None

    async def _body(self, query: Q) -> dict[str, Any]:
        return query.body(await self._api.subjects.resolve(query.study, query.subject))

    def _path_of(self, request: DataRequest | str) -> str:
        resource = self.kind.resource
        return join_path("/dataretrieval/v3/{resource}/{request}", resource=resource, request=_tracking_id(request))

    async def _read(self, path: str) -> DataRequest:
        """Read the status once, and note whether the request is still active."""
        try:
            request = Request(method="GET", path=path, scope=DATA_RETRIEVAL)
            found = await request_object(self._api.session, request, DataRequest)
        except NotFoundError:
            self._active.update(path, None, at=self._api.clock.monotonic())
            raise
        self._active.update(path, found, at=self._api.clock.monotonic())
        return found

    async def _try(self, request: Request, poll: PollPolicy) -> DataRequest | ArenaAsyncError | None:
        """Send a start, and return the request or the error; None while ten requests are active."""
        sent = False
        try:
            if self._active.is_full:
                await self._check_active(poll.every)
            if self._active.is_full:
                return None
            sent = True
            created = await request_object(self._api.session, request, DataRequest)
        except ArenaAsyncError as error:
            if not sent:
                return error
            return None if _is_limit_reached(error) else _start_error(error, request)
        self._active.update(self._path_of(created), created, at=self._api.clock.monotonic(), started=True)
        return created

    async def _check_active(self, seconds: float) -> None:
        """Read the status of requests that was not read for so long, until one of them is finished."""
        for path in self._active.unchecked(before=self._api.clock.monotonic() - seconds):
            with contextlib.suppress(NotFoundError):
                await self._read(path)
            if not self._active.is_full:
                return


def _tracking_id(request: DataRequest | str) -> str:
    return word(request.id if isinstance(request, DataRequest) else request)


def _is_limit_reached(error: ArenaAsyncError) -> bool:
    """Return whether a start was rejected because ten requests are active. The page has the words and no status."""
    if not isinstance(error, ApiError) or error.status is None or not 400 <= error.status < 500:
        return False
    return bool(_LIMIT_REACHED.search(str(error)))


def _may_be_accepted(error: ArenaAsyncError) -> bool:
    """Return whether the service may have accepted a request although its start failed."""
    if isinstance(error, TransportError | DeadlineError):
        return error.sent
    return isinstance(error, ServerError | DecodeError)


def _start_error(error: ArenaAsyncError, request: Request) -> ArenaAsyncError:
    """Return the error of a failed start, with what is not known if the request may have been accepted."""
    if not _may_be_accepted(error):
        return error
    message = (
        f"{error} It is not known whether the service has accepted the request: it may count as one of the "
        f"{MAX_ACTIVE} active requests until it is done, for 6 hours at most, and no list shows it. It was not "
        "sent again; start it again if that does no harm."
    )
    if isinstance(error, DeadlineError):
        return TransportError(message, request=request.line, sent=True)
    error.args = (message,)
    return error
