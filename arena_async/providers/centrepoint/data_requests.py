"""
Requests for raw and epoch data: started, waited for, and downloaded.

::

    start ──> wait ──> files ──> a signed URL for each file, requested when it is opened
      │
      └── at most ten are active at a time: another one waits for its turn

A start is recorded before it is sent, and sent once. When no response is received, it is not known whether the service
has accepted it, since the service has no list of requests; then a person decides whether it is sent again.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, ClassVar, Generic, TypeVar

import attrs

from arena_async.errors import (
    ApiError,
    ArenaAsyncError,
    ConfigurationError,
    DeadlineError,
    NotFoundError,
    RunFailedError,
)
from arena_async.http.paginator import ListQuery, Paginator
from arena_async.http.polling import Polled, wait_until
from arena_async.http.session import request_object
from arena_async.options import PollPolicy
from arena_async.protocol.decoding import decode, read_datetime
from arena_async.protocol.messages import Request, join_path, printable
from arena_async.protocol.request_records import RequestRecord, record_name
from arena_async.providers.centrepoint.api import Api
from arena_async.providers.centrepoint.auth import DATA_RETRIEVAL
from arena_async.providers.centrepoint.data_files import SHAPE, DataFileSet, data_files_prefix
from arena_async.providers.centrepoint.identifiers import SERVICE, join_key, named_subject, number, word
from arena_async.providers.centrepoint.models import DataFile, DataRequest
from arena_async.providers.send_once import RequestStore, SendOnce
from arena_async.providers.started_run import Fetched, RunFetch, To

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
        records: What was sent to the service.
    """

    _api: Api
    kind: type[Q]
    _active: ActiveRequests
    _records: RequestStore

    async def start(self, query: Q, *, poll: PollPolicy | None = None, start_anew: bool = False) -> DataRequest:
        """
        Start a request. It waits while ten requests are active.

        Args:
            query: Which data.
            poll: How often to try while ten are active, and how long; None as for :meth:`wait`.
            start_anew: Start it even if it is not known what became of an earlier one: a person has decided so.

        Raises:
            DeadlineError: Ten requests were active all the time; nothing was started.
            TransportError: No response was received, now or by an earlier process. ``sent`` says whether the service
                may have accepted the request, which then counts as active; it is never sent twice.
            ApiError: The service responded with an error; the message says whether it may have accepted the request.
        """
        since = self._records.now()
        once = self._once(await self._body(query), since=since, start_anew=start_anew)
        return await self._begin(once, poll or POLLING)

    async def _begin(self, once: SendOnce[DataRequest], poll: PollPolicy) -> DataRequest:
        """Return the request, once fewer than ten are active; it raises as :meth:`start` does."""
        began = self._api.clock.monotonic()
        found: DataRequest | ArenaAsyncError | None = None
        with contextlib.suppress(TimeoutError, DeadlineError):
            async with asyncio.timeout(poll.timeout) as waiting, self._active.turn:
                waiting.reschedule(None)  # the rest is measured by the clock
                left = max(poll.timeout - (self._api.clock.monotonic() - began), 0.001)
                found = await wait_until(
                    lambda: self._try(once, poll),
                    lambda result: result is not None,
                    attrs.evolve(poll, timeout=left),
                    clock=self._api.clock,
                )
        if isinstance(found, DataRequest):
            return found
        raise found or DeadlineError(
            f"{once.what}: {MAX_ACTIVE} requests were active for {poll.timeout:g} s, which is all that the service "
            f"works on at a time; {self._active.count} of this client are not known to be finished. Nothing was "
            "started; wait for some of them, or allow more time.",
        )

    def _once(
        self, body: dict[str, Any], *, since: datetime, start_anew: bool, resumes: bool = False
    ) -> SendOnce[DataRequest]:
        """Return the start as it is recorded; with ``resumes`` an unfinished request of an earlier call will do."""
        resource, kind = self.kind.resource, self.kind.kind
        request = Request(method="POST", path=f"/dataretrieval/v3/{resource}", json=body, scope=DATA_RETRIEVAL)
        return SendOnce(
            store=self._records,
            scope=f"{SERVICE} {self._api.tenant} {kind}-requests",
            name=record_name(_digest(body)),
            what=f"The start of a {kind} request",
            session=self._api.session,
            clock=self._api.clock,
            since=since,
            send=lambda: self._post(request),
            find=None,
            id_of=lambda run: run.id,
            read=self._resume,
            resumes=resumes,
            doubt=f"It may count as one of the {MAX_ACTIVE} active requests until it is done, for 6 hours at most.",
            start_anew=start_anew,
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

    async def fetch(
        self, query: Q, to: To, *, poll: PollPolicy | None = None, start_anew: bool = False
    ) -> Fetched[DataRequest]:
        """
        Start a request, wait for it, and download and verify its files.

        The request is recorded: the same call after a crash or a deadline waits for it and starts no other. A finished
        one is started again, since a late upload may have added to it.

        Args:
            query: Which data.
            to: The directory, or an open ``Mirror`` of it, with its own options and observer.
            poll: How often to poll and how long to wait, both for the start and for the files; None as for
                :meth:`wait`.
            start_anew: Start one whatever is known about an earlier one: a person has decided so.

        Raises:
            RunFailedError: The service ended the request with an error.
            DeadlineError: Ten requests were active all the time, or the files are not available yet.
            TransfersFailedError: Not all files are here; the same call fetches the rest.
            ArenaAsyncError: As for :meth:`start`, with its other errors.
        """
        api, kind, since = self._api, query.kind, self._records.now()
        body = await self._body(query)

        async def tenant() -> str:
            return api.tenant

        fetch = RunFetch[DataRequest](
            service=SERVICE,
            session=api.session,
            tenant=tenant,
            once=lambda _: self._once(body, since=since, start_anew=start_anew, resumes=True),
            key_of=lambda tenant: join_key(tenant, f"{kind}-request", _digest(body)[:16]),
            prefix_of=lambda tenant, run: data_files_prefix(tenant, kind, run.id),
            begin=lambda once: self._begin(once, poll or POLLING),
            wait=lambda run, _: self.wait(run, poll=poll),
            files_of=self.files,
        )
        return await fetch.fetch(to)

    async def _resume(self, record: RequestRecord) -> DataRequest | None:
        """Return the request that an earlier call started, or None where another one is to be started."""
        if record.at is None or self._api.clock.now() - record.at >= _FILE_LIFE:
            return None
        try:
            return await self.get(record.result)
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

    async def _try(self, once: SendOnce[DataRequest], poll: PollPolicy) -> DataRequest | ArenaAsyncError | None:
        """Send a start, and return the request or the error; None while ten requests are active."""
        try:
            if self._active.is_full:
                await self._check_active(poll.every)
            if self._active.is_full:
                return None
            return await once.step()
        except ArenaAsyncError as error:
            return error

    async def _post(self, request: Request) -> DataRequest | None:
        """Send a start once, and return the request; None while ten requests are active."""
        try:
            created = await request_object(self._api.session, request, DataRequest)
        except ApiError as error:
            if not _is_limit_reached(error):
                raise
            return None
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


def _digest(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _is_limit_reached(error: ArenaAsyncError) -> bool:
    """Return whether a start was rejected because ten requests are active. The page has the words and no status."""
    if not isinstance(error, ApiError) or error.status is None or not 400 <= error.status < 500:
        return False
    return bool(_LIMIT_REACHED.search(str(error)))
