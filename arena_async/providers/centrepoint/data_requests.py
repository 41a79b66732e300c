"""
Requests for raw and epoch data: asked for, waited for, and brought home.

::

    start ──> wait ──> files ──> a link for each file, made when its turn has come
      │
      └── at most ten are active at a time: whoever comes eleventh waits in line

A start is sent once. When no answer comes, nobody can say whether the service has taken it, since it has no list of the
requests that there are.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any

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
from arena_async.net.pager import Pager
from arena_async.net.polling import Polled, wait_until
from arena_async.options import Clock, PollPolicy, TransferOptions
from arena_async.providers.centrepoint.asking import Asking, ask
from arena_async.providers.centrepoint.auth import DATA_RETRIEVAL
from arena_async.providers.centrepoint.data_fetch import DataFetch, FetchedData, To
from arena_async.providers.centrepoint.data_files import DataFileSet, list_data_files
from arena_async.providers.centrepoint.entries import number, word
from arena_async.providers.centrepoint.models import DataFile, DataRequest
from arena_async.providers.centrepoint.places import MOST_ACTIVE, Places, may_hold_a_place
from arena_async.transfer.events import Observer
from arena_async.wire.decoding import decode, parse_json, read_datetime
from arena_async.wire.messages import Request, join_path, printable

__all__ = ["POLLING", "EpochRequests", "RawRequests"]

#: The service ends a request itself after 6 hours of work, so its own word comes before this wait is over.
POLLING = PollPolicy(every=10.0, slowest=60.0, timeout=7 * 3600.0)

# "There are currently 10 active requests. The maximum concurrent active requests limit is 10."
_NO_PLACE = re.compile(r"(?i)\bactive requests?\b")


def _is_want_of_place(error: ArenaAsyncError) -> bool:
    """Say whether a start was refused because ten requests are active. The page gives the words and no status."""
    if not isinstance(error, ApiError) or error.status is None or not 400 <= error.status < 500:
        return False
    return bool(_NO_PLACE.search(str(error)))


def _moment(value: Any, what: str) -> datetime:
    """Take a moment; text is read as the service writes moments."""
    moment = read_datetime(value) if isinstance(value, str) else value
    if not isinstance(moment, datetime) or moment.tzinfo is None:
        raise ConfigurationError(
            f"{what} is {printable(repr(value))}; it takes a date and time that says its timezone, for instance "
            "2024-02-29T10:00:00Z."
        )
    return moment.astimezone(UTC)


def _span(begin: Any, end: Any) -> dict[str, str]:
    """Give the time asked for by the names of the service."""
    first, last = _moment(begin, "begin"), _moment(end, "end")
    if last <= first:
        raise ConfigurationError(f"The end, {last.isoformat()}, does not lie behind the begin, {first.isoformat()}.")
    names = {"beginTimestampUtc": first, "endTimestampUtc": last}
    return {name: f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03}Z" for name, moment in names.items()}


def _epoch(value: Any) -> int:
    """Take the length of an epoch."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 3600:
        raise ConfigurationError(f"summary_length is {printable(repr(value))}; it takes whole seconds, 1 to 3600.")
    return value


def _tracking_id(request: DataRequest | str) -> str:
    """Give the tracking id."""
    return word(request.id if isinstance(request, DataRequest) else request)


class _Requests:
    """What raw and epoch requests do alike."""

    #: The name of the resource on the wire.
    _resource = ""
    #: What to call it, on the disk and in messages.
    what = ""

    def __init__(
        self,
        asking: Asking,
        *,
        tenant: str,
        places: Places | None = None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._asking = asking
        self.session = asking.session
        self.tenant = tenant
        self._places = places or Places()
        self._sleep = sleep
        self._clock = clock
        self.now = now

    async def get(self, request: DataRequest | str) -> DataRequest:
        """
        Say how a request is doing. One request.

        Args:
            request: What :meth:`start` gave, or its tracking id.

        Raises:
            NotFoundError: There is no such request.
        """
        return await self._ask(_tracking_id(request))

    async def wait(self, request: DataRequest | str, *, poll: PollPolicy = POLLING) -> DataRequest:
        """
        Ask until the files of a request are there.

        A status that is not known counts as not finished.

        Args:
            request: What :meth:`start` gave, or its tracking id.
            poll: How often to ask and how long to wait: every 10 to 60 seconds for 7 hours without it.

        Raises:
            RunFailedError: The service ended the request with an error.
            DeadlineError: The time was up before that; the service goes on.
            NotFoundError: There is no such request.
        """
        tracking_id = _tracking_id(request)
        found = await wait_until(
            lambda: self._ask(tracking_id),
            lambda asked: not asked.is_active,
            poll,
            clock=Clock(monotonic=self._clock, sleep=self._sleep),
            polled=Polled(what=f"{self._shown} {printable(tracking_id)}"),
        )
        if found.is_failed:
            raise RunFailedError(
                f"{self._shown} {printable(tracking_id)}: it ended with an error; the service does not say why (its "
                "webhook data_retrieval_complete does). It ends what it has worked on for 6 hours; ask for a shorter "
                "time.",
                run=found,
            )
        return found

    def data_files(self, request: DataRequest | str) -> Pager[DataFile]:
        """
        List the files of a completed request. One request, whatever their number.

        Args:
            request: What :meth:`start` gave, or its tracking id.
        """
        return list_data_files(self.session, self._path_of(_tracking_id(request)), lambda row: row)

    def files(self, request: DataRequest | str) -> DataFileSet:
        """
        Give the files of a completed request as a set for a ``Downloader`` or ``Mirror``.

        Args:
            request: What :meth:`start` gave, or its tracking id.
        """
        tracking_id = _tracking_id(request)
        return DataFileSet(
            self.session,
            self._path_of(tracking_id),
            request=tracking_id,
            what=self.what,
            tenant=self.tenant,
            now=self.now,
        )

    # Starting

    @property
    def _shown(self) -> str:
        """What to call one of them."""
        return f"{self.what} request"

    def _path_of(self, tracking_id: str) -> str:
        return join_path("/dataretrieval/v3/{resource}/{request}", resource=self._resource, request=tracking_id)

    async def _ask(self, tracking_id: str) -> DataRequest:
        """Ask for the status once, and note whether it is still active."""
        place = (self._resource, tracking_id)
        try:
            request = Request(method="GET", path=self._path_of(tracking_id), scope=DATA_RETRIEVAL)
            found = await ask(self.session, request, DataRequest)
        except NotFoundError:
            self._places.leave(place)
            raise
        self._places.heard(place, found, at=self._clock())
        return found

    async def begin(self, body: Mapping[str, Any], poll: PollPolicy) -> DataRequest:
        """Wait in line for a place, and start one request there; :meth:`start` with a body that is made already."""
        request = Request(
            method="POST", path=f"/dataretrieval/v3/{self._resource}", json=dict(body), scope=DATA_RETRIEVAL
        )
        began = self._clock()

        async def attempt() -> DataRequest | ArenaAsyncError | None:
            try:
                return await self._try(request, poll)
            except ArenaAsyncError as error:
                return error

        found: DataRequest | ArenaAsyncError | None = None
        with contextlib.suppress(TimeoutError, DeadlineError):
            async with self._places.line(poll.timeout):
                left = max(poll.timeout - (self._clock() - began), 0.001)
                found = await wait_until(
                    attempt,
                    lambda answer: answer is not None,
                    attrs.evolve(poll, timeout=left),
                    clock=Clock(monotonic=self._clock, sleep=self._sleep),
                    polled=Polled(what=self._shown),
                )
        if isinstance(found, ArenaAsyncError):
            raise found
        if found is not None:
            return found
        raise DeadlineError(
            f"{request.line}: no place was free for {poll.timeout:g} s; the service works on {MOST_ACTIVE} requests "
            f"at a time, and {self._places.taken} of this client are not known to be finished. Nothing was started; "
            "wait for some of them, or allow more time.",
            request=request.line,
        )

    async def _try(self, request: Request, poll: PollPolicy) -> DataRequest | None:
        """Start a request if there is a place for it, else give None."""
        if self._places.is_full:
            await self._look_for_room(poll.every)
        if self._places.is_full:
            return None
        failure: ArenaAsyncError
        try:
            response = await self.session.send(request)
            created = decode(parse_json(response.body, request=request.line), DataRequest, request=request.line)
        except ArenaAsyncError as error:
            failure = error
        else:
            self._places.note((self._resource, created.id), created, at=self._clock())
            return created
        if _is_want_of_place(failure):
            return None
        raise _unanswered(failure, request)

    async def _look_for_room(self, seconds: float) -> None:
        """Ask about requests that nobody has asked about for so long, until one of them is finished."""
        for resource, tracking_id in self._places.doubtful(before=self._clock() - seconds):
            path = join_path("/dataretrieval/v3/{resource}/{request}", resource=resource, request=tracking_id)
            try:
                request = Request(method="GET", path=path, scope=DATA_RETRIEVAL)
                found = await ask(self.session, request, DataRequest)
                self._places.heard((resource, tracking_id), found, at=self._clock())
            except NotFoundError:
                self._places.leave((resource, tracking_id))
            if not self._places.is_full:
                return


def _unanswered(error: ArenaAsyncError, request: Request) -> ArenaAsyncError:
    """Say of a start that failed whether it may have been taken all the same."""
    if not may_hold_a_place(error):
        return error
    sentence = (
        f"{error} Nobody can say whether the service has taken the request: it may hold one of the {MOST_ACTIVE} "
        "places until it is done, for 6 hours at most, and there is no list to find it in. It was not sent again; "
        "start it again if that does no harm."
    )
    if isinstance(error, ServerError):
        return ServerError(sentence, status=error.status, request=request.line)
    if isinstance(error, DecodeError):
        return DecodeError(sentence, problems=error.problems, request=request.line)
    return TransportError(sentence, request=request.line, sent=True)


class RawRequests(_Requests):
    """
    Requests for raw data; reached as ``client.raw_requests``. Needs the scope ``DataRetrieval``.

    The vendor forbids to fetch the whole history of all subjects this way and recommends day files. Ten requests are
    worked on at a time, those of other programs with the same credentials included.
    """

    _resource = "RawActivityRequests"
    what = "raw"

    async def start(
        self,
        study: int | str,
        subject: int | str,
        *,
        begin: datetime | str,
        end: datetime | str,
        file_format: str = "csv",
        poll: PollPolicy = POLLING,
    ) -> DataRequest:
        """
        Ask for the raw data of a subject. It waits while ten requests are active.

        Args:
            study: The number of the study.
            subject: The number of the subject, or its identifier as text.
            begin: The first moment (aware, or text with a timezone).
            end: The last moment.
            file_format: ``"csv"``, ``"avro"`` or ``"gt3x"``.
            poll: How often to look for a free place, and how long.

        Raises:
            ConfigurationError: An argument cannot be what it should be.
            DeadlineError: No place was free in time; nothing was started.
            TransportError: No answer came. ``sent`` says whether the service may have taken the request, which then
                holds a place; it is never sent twice.
            ApiError: The service refused, or failed; the message says whether it may have taken the request.
        """
        return await self.begin(await self._body(study, subject, begin=begin, end=end, file_format=file_format), poll)

    async def fetch(
        self,
        study: int | str,
        subject: int | str,
        to: To,
        *,
        begin: datetime | str,
        end: datetime | str,
        file_format: str = "csv",
        poll: PollPolicy = POLLING,
        options: TransferOptions | None = None,
        observer: Observer | None = None,
    ) -> FetchedData:
        """
        Ask for the raw data of a subject, wait, and bring the files home, verified.

        The folder remembers the request: the same call after a crash or a deadline waits for it and starts no other.

        Args:
            study: The number of the study.
            subject: The number of the subject, or its identifier as text.
            to: The folder, or an open ``Mirror`` of it.
            begin: The first moment (aware, or text with a timezone).
            end: The last moment.
            file_format: ``"csv"``, ``"avro"`` or ``"gt3x"``.
            poll: How often to ask and how long to wait, for a place and for the files.
            options: How the files are brought home.
            observer: Called with each event of the transfer.

        Raises:
            RunFailedError: The service ended the request with an error.
            DeadlineError: No place was free, or the files are not there yet.
            TransfersFailedError: Not all files are here; the same call fetches the rest.
            ArenaAsyncError: As for :meth:`start`, with its other errors.
        """
        body = await self._body(study, subject, begin=begin, end=end, file_format=file_format)
        return await DataFetch(verbs=self, body=body, poll=poll).bring(to, options=options, observer=observer)

    async def _body(
        self, study: int | str, subject: int | str, *, begin: datetime | str, end: datetime | str, file_format: str
    ) -> dict[str, Any]:
        """Write what is asked for as the page has it."""
        return {
            "fileFormat": word(file_format),
            "studyId": number(study),
            **_span(begin, end),
            "subjectId": await self._asking.resolve(study, subject),
        }


class EpochRequests(_Requests):
    """
    Requests for epoch data; reached as ``client.epoch_requests``. Needs the scope ``DataRetrieval``.

    They share their ten places with raw requests, as far as the vendor says.
    """

    _resource = "EpochRequests"
    what = "epoch"

    async def start(
        self,
        study: int | str,
        subject: int | str,
        *,
        begin: datetime | str,
        end: datetime | str,
        monitor: str,
        summary_length: int = 60,
        include_partial_epochs: bool = False,
        file_format: str = "csv",
        poll: PollPolicy = POLLING,
    ) -> DataRequest:
        """
        Ask for the epochs of a subject. It waits while ten requests are active.

        Args:
            study: The number of the study.
            subject: The number of the subject, or its identifier as text.
            begin: The first moment (aware, or text with a timezone).
            end: The last moment.
            monitor: The serial of the activity monitor.
            summary_length: Seconds of one epoch, 1 to 3600.
            include_partial_epochs: Whether to include epochs that are not full.
            file_format: ``"csv"``, the only one that is documented.
            poll: How often to look for a free place, and how long.

        Raises:
            ConfigurationError: An argument cannot be what it should be.
            DeadlineError: No place was free in time; nothing was started.
            TransportError: No answer came. ``sent`` says whether the service may have taken the request, which then
                holds a place; it is never sent twice.
            ApiError: The service refused, or failed; the message says whether it may have taken the request.
        """
        body = await self._body(
            study,
            subject,
            begin=begin,
            end=end,
            monitor=monitor,
            summary_length=summary_length,
            include_partial_epochs=include_partial_epochs,
            file_format=file_format,
        )
        return await self.begin(body, poll)

    async def fetch(
        self,
        study: int | str,
        subject: int | str,
        to: To,
        *,
        begin: datetime | str,
        end: datetime | str,
        monitor: str,
        summary_length: int = 60,
        include_partial_epochs: bool = False,
        file_format: str = "csv",
        poll: PollPolicy = POLLING,
        options: TransferOptions | None = None,
        observer: Observer | None = None,
    ) -> FetchedData:
        """
        Ask for the epochs of a subject, wait, and bring the files home, verified.

        The folder remembers the request, as for :meth:`RawRequests.fetch` with its other arguments and errors.

        Args:
            study: The number of the study.
            subject: The number of the subject, or its identifier as text.
            to: The folder, or an open ``Mirror`` of it.
            begin: The first moment (aware, or text with a timezone).
            end: The last moment.
            monitor: The serial of the activity monitor.
            summary_length: Seconds of one epoch, 1 to 3600.
            include_partial_epochs: Whether to include epochs that are not full.
            file_format: ``"csv"``, the only one that is documented.
            poll: How often to ask and how long to wait, for a place and for the files.
            options: How the files are brought home.
            observer: Called with each event of the transfer.
        """
        body = await self._body(
            study,
            subject,
            begin=begin,
            end=end,
            monitor=monitor,
            summary_length=summary_length,
            include_partial_epochs=include_partial_epochs,
            file_format=file_format,
        )
        return await DataFetch(verbs=self, body=body, poll=poll).bring(to, options=options, observer=observer)

    async def _body(
        self,
        study: int | str,
        subject: int | str,
        *,
        begin: datetime | str,
        end: datetime | str,
        monitor: str,
        summary_length: int,
        include_partial_epochs: bool,
        file_format: str,
    ) -> dict[str, Any]:
        """Write what is asked for as the page has it."""
        return {
            "fileFormat": word(file_format),
            "summaryLengthSeconds": _epoch(summary_length),
            "includePartialEpochs": include_partial_epochs,
            "activityMonitorSerial": word(monitor),
            "studyId": number(study),
            **_span(begin, end),
            "subjectId": await self._asking.resolve(study, subject),
        }
