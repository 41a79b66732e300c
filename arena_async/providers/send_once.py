"""
Send a request that changes a service once, whatever becomes of the process, its response or the clocks.

::

    step ──▶ may it be sent? ──▶ record it ──▶ send ──┬─▶ the result
              │                                       ├─▶ certainly not carried out: forget the record, raise
              │ ◀──────────────────────────────────────┴─ the response was lost
              └─▶ it was sent before: look it up for as long as the service may take to show it ──▶ the result
                                                       └─▶ not there: send it once more, or raise where that may harm

The records are files of the user, not of a target directory: they stay when a directory is removed or restored, and all
processes of the user see them. ``protocol/request_records.py`` decides what a record means.
"""

from __future__ import annotations

import logging
import os
import secrets
import sys
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Generic, Literal, TypeVar

import attrs

from arena_async.errors import (
    ApiError,
    ArenaAsyncError,
    AuthenticationError,
    ConfigurationError,
    ConflictError,
    DeadlineError,
    DecodeError,
    ListingError,
    QuotaExhaustedError,
    ServerError,
    StorageError,
    ThrottledError,
    TlsError,
    TransportError,
    UnsafeUrlError,
)
from arena_async.http.polling import wait_until
from arena_async.http.session import Session
from arena_async.options import Clock, PollPolicy, shield
from arena_async.protocol.messages import printable
from arena_async.protocol.request_records import (
    SHOWN_AFTER,
    RequestRecord,
    RequestRecords,
    load_records,
    may_send,
    record_name,
    replaced_name,
)
from arena_async.protocol.state_directory import user_state_directory
from arena_async.transfer.local_files import PrivateFile
from arena_async.transfer.workers import Threads

__all__ = ["RequestStore", "SendOnce", "may_be_done", "with_more"]

R = TypeVar("R")
T = TypeVar("T")

_log = logging.getLogger("arena_async")

#: Seconds until the lists show most of what the service has carried out.
_SETTLING: Final = 2.0
#: How a request is looked up: 15 times at most.
_LOOK: Final = PollPolicy(every=_SETTLING, max_interval=120.0, timeout=SHOWN_AFTER.total_seconds())
#: What says nothing about whether the request was carried out: another look may.
_PASSING: Final = (TransportError, DeadlineError, ServerError, ThrottledError, DecodeError, ListingError)
#: Seconds to wait for the response that another process may still receive, where the service has no list.
_NO_LIST: Final = 60.0


def may_be_done(error: ArenaAsyncError) -> bool:
    """Return whether the service may have carried out a request that ended with this error."""
    if isinstance(error, TransportError | DeadlineError | TlsError):
        return error.sent
    if isinstance(error, ServerError):
        return True
    if isinstance(error, ApiError):
        return error.status is not None and error.status < 400
    return isinstance(error, DecodeError | UnsafeUrlError)


async def _unchanged(found: R) -> R:
    return found


def with_more(error: ArenaAsyncError, more: str) -> ArenaAsyncError:
    """Return the same error with another sentence."""
    error.args = (f"{error} {more}",)
    return error


class RequestStore:
    """
    The records of one user of a service, in files that all processes share.

    Where there is no directory for them, a request that may be sent twice without harm is remembered by this object
    alone; any other is not sent.

    Args:
        owner: Who sends the requests; only a hash of it is stored.
        directory: The state directory; None for that of the user.
        now: Returns the time of this machine (aware).
    """

    def __init__(
        self, owner: str, directory: str | os.PathLike[str] | None = None, *, now: Callable[[], datetime]
    ) -> None:
        self._owner = owner
        self._directory = directory
        self.now = now
        self._memory: dict[str, RequestRecords] = {}

    async def change(
        self, scope: str, make: Callable[[RequestRecords], tuple[RequestRecords | None, T]], *, required: bool
    ) -> T:
        """
        Change the records of an object in one step, which no other process disturbs.

        Args:
            scope: The object that requests are sent to.
            make: Returns the new records, or None to leave them, and the result.
            required: Whether nothing may be done without a record that outlives the process.

        Raises:
            ConfigurationError: There is no state directory, or others can read it.
            StorageError: It cannot be written, or what is in it is damaged.
        """
        try:
            file, threads = PrivateFile(self._path(scope), durable=True), Threads(1, name="arena_async-records")
            try:
                return await threads.run(file.change, lambda content: _changed(file.path, scope, content, make))
            finally:
                await threads.aclose()
        except (ConfigurationError, StorageError) as error:
            if required:
                raise with_more(
                    error,
                    "Nothing was sent, since it could not be recorded, and might be sent twice. Let the user have a "
                    "state directory, or name one with ARENA_ASYNC_STATE or state_directory.",
                ) from None
            if scope not in self._memory:
                _log.warning("%s What is sent is not recorded: after a crash it may be sent twice.", error)
        records, result = make(self._memory.setdefault(scope, RequestRecords()))
        if records is not None:
            self._memory[scope] = records
        return result

    def _path(self, scope: str) -> Path:
        directory = self._directory or user_state_directory(os.environ, sys.platform)
        if not directory:
            raise ConfigurationError("The environment names no home of the user.")
        return Path(directory) / "requests" / f"{record_name(self._owner, scope)}.json"


def _changed(
    path: Path, scope: str, content: bytes | None, make: Callable[[RequestRecords], tuple[RequestRecords | None, T]]
) -> tuple[bytes | None, T]:
    """Read records, change them, and return their new content and the result."""
    try:
        found = load_records(content)
    except ValueError as error:
        raise StorageError(
            f"{printable(str(path))}: this record of what was sent is damaged ({error}). Look at the service for what "
            "was carried out; then remove the file."
        ) from None
    records, result = make(found)
    return (None if records is None else records.dump(scope)), result


@attrs.define(kw_only=True, eq=False)
class SendOnce(Generic[R]):
    """
    One request that changes the service, for one call.

    Args:
        store: The records.
        scope: The object that it is sent to: service, tenant and definition.
        name: What distinguishes it from other requests to the same object.
        what: What it is, for messages.
        session: The session.
        clock: Time, by the clock of the service as far as that is known.
        since: When the call began, by the clock of the store.
        send: Sends it once, and returns the result, or None where it cannot be carried out now.
        find: Returns the result of a request that was sent, or None where the service shows none, given its record and
            all of the object; None where the service has no list.
        id_of: Returns the identifier of a result.
        check: Returns a result that is as requested, or raises.
        read: Returns a result that is remembered, or None where another one is wanted.
        resumes: Whether the result of an earlier call will do, as long as :meth:`finish` was not called.
        repeatable: Whether it does no harm when it is carried out twice.
        recorded: Whether it is not sent without a record.
        may_be_done: Whether the service may have carried it out although it ended with an error.
        doubt: What it means that this is not known, or "".
        start_anew: Whether a person has decided to send it, whatever is remembered.
        seconds: How long it may be looked up.
    """

    store: RequestStore
    scope: str
    name: str
    what: str
    session: Session
    clock: Clock
    since: datetime
    send: Callable[[], Awaitable[R | None]]
    find: Callable[[RequestRecord, RequestRecords], Awaitable[R | None]] | None
    id_of: Callable[[R], str]
    check: Callable[[R], Awaitable[R]] = _unchanged
    read: Callable[[RequestRecord], Awaitable[R | None]] | None = None
    resumes: bool = False
    repeatable: bool = True
    recorded: bool = False
    may_be_done: Callable[[ArenaAsyncError], bool] = may_be_done
    doubt: str = ""
    start_anew: bool = False
    seconds: float = _LOOK.timeout
    #: How the result was received: by the response, from a list, or from the record of an earlier call.
    how: Literal["started", "found", "resumed"] = attrs.field(init=False, default="started")
    #: Whether an earlier call had sent it.
    resumed: bool = attrs.field(init=False, default=False)
    #: Seconds that the last result needed, or None.
    took: float | None = attrs.field(init=False, default=None)
    _mine: RequestRecord = attrs.field(init=False, factory=RequestRecord)
    _replaces: RequestRecord | None = attrs.field(init=False, default=None)
    _lost: ArenaAsyncError | None = attrs.field(init=False, default=None)
    _repeated: bool = attrs.field(init=False, default=False)

    async def step(self) -> R | None:
        """
        Return the result, or None where the request cannot be carried out now.

        Raises:
            TransportError: It is not known whether it was carried out, and it was not sent again.
            ConfigurationError: It cannot be recorded, as for :meth:`RequestStore.change` with its other errors.
        """
        while True:
            record = await self._claim()
            if record is None:
                found, lost = await self._send()
                if not lost:
                    return found
                continue
            found, changed = await self._earlier(record)
            if found is not None:
                return found
            if not changed:
                self._replaces = record

    async def adopt(self, record: RequestRecord) -> None:
        """
        Remember a request that an earlier version has recorded, unless this one is known.

        Raises:
            ConfigurationError: It cannot be recorded, as for :meth:`RequestStore.change` with its other errors.
        """

        def make(records: RequestRecords) -> tuple[RequestRecords | None, None]:
            known = self.name in records.records
            return (None if known else records.with_record(self.name, record)), None

        await self.store.change(self.scope, make, required=record.state != "over")

    async def finish(self, took: float | None = None) -> None:
        """Note that the result is not wanted any more, and how long it took, if that is known."""
        await self._write(state="over", took=self._mine.took if took is None else took)

    async def _claim(self) -> RequestRecord | None:
        """Record that the request is being sent, or return the record that stands in the way."""
        mine = RequestRecord(
            state="sending", sender=secrets.token_hex(8), at=self.clock.now(), written=self.store.now()
        )

        def make(records: RequestRecords) -> tuple[RequestRecords | None, RequestRecord | None]:
            if not (self.resumes and self.repeatable):
                # Another call may have started anew while the response to this one was lost: each has its own.
                self.name = self._own_name(records)
            record = records.records.get(self.name)
            replaces = record if self.start_anew else self._replaces
            now = self.store.now()
            if not may_send(record, replaces=replaces, resumes=self.resumes, since=self.since, now=now):
                return None, record
            self._mine = attrs.evolve(mine, took=record.took if record is not None else None)
            return records.with_record(self.name, self._mine), None

        claimed = await self.store.change(self.scope, make, required=self.recorded)
        self.start_anew = False
        self.took = (claimed or self._mine).took
        return claimed

    async def _send(self) -> tuple[R | None, bool]:
        """Send the request, and return the result and whether the response was lost."""
        before = self.session.requests_sent
        try:
            found = await self.send()
        except BaseException as error:
            lost = error if isinstance(error, ArenaAsyncError) and self.may_be_done(error) else None
            if self.session.requests_sent == before or (lost is None and isinstance(error, ArenaAsyncError)):
                with shield():
                    await self._write(state="over")
                raise
            if lost is None:
                raise
            self._lost = lost
            return None, True
        if found is None:
            await self._write(state="over")
        else:
            found = await self._keep(found)
        return found, False

    async def _keep(self, found: R) -> R:
        """Record a result. One that no later call would continue with is looked up again until it was checked."""
        if not self.resumes:
            await self._write(result=self.id_of(found))
            found = await self.check(found)
        await self._write(state="started" if self.resumes else "over", result=self.id_of(found))
        return found

    async def _earlier(self, record: RequestRecord) -> tuple[R | None, bool]:
        """Return the result of a request that was sent, or None, and whether its record has changed meanwhile."""
        if record.state != "sending":
            found = None if self.read is None else await self.read(record)
            if found is not None:
                self.how, self.resumed, self._mine = "resumed", True, record
            if found is None and not self.repeatable:
                raise self._unknown(record)
            return found, False
        found, changed = await self._look_up(record)
        if found is not None:
            self.how, self.resumed, self._mine = "found", self._lost is None, record
            _log.warning("%s: no response was received; the service shows %s.", self.what, self.id_of(found))
            found = await self._keep(found)
        return found, changed

    async def _look_up(self, record: RequestRecord) -> tuple[R | None, bool]:
        """
        Look a request up until the service shows it, or would show it if it had been carried out.

        Raises:
            TransportError: That is not known, or it may not be sent again.
        """
        if self._lost is not None and record.sender == self._mine.sender:
            await self.clock.sleep(_SETTLING)
        trouble: list[ArenaAsyncError] = []

        async def look() -> tuple[R | None, bool]:
            trouble.clear()
            try:
                return await self._find(record)
            except _PASSING as error:
                trouble.append(error)
            except (ConflictError, QuotaExhaustedError, AuthenticationError):
                raise
            except ApiError as error:
                raise self._unknown(record, error) from None
            return None, False

        passed = (self.clock.now() - (record.at or self.clock.now())).total_seconds()
        longest = _LOOK.timeout if self.find is not None else _NO_LIST
        left = min(max(longest - passed, 0.001), longest)
        policy = attrs.evolve(_LOOK, timeout=min(left, self.seconds))
        found, changed = None, False
        try:
            found, changed = await wait_until(look, any, policy, clock=self.clock)
        except DeadlineError as error:
            if error.request is not None:
                raise
        if found is None and not changed:
            if trouble or left > self.seconds or not self.repeatable or self._repeated or self.find is None:
                raise self._unknown(record, *trouble)
            self._repeated = True
            shown = f"{self.what}: the service shows nothing of it"
            _log.warning("%s after %.0f s; it is sent once more.", shown, max(passed, 0.0) + policy.timeout)
        return found, changed

    async def _find(self, record: RequestRecord) -> tuple[R | None, bool]:
        """Look once; return the result, or None, and whether the record has changed."""
        while True:
            records = await self._records()
            if records.records.get(self.name) != record:
                return None, True
            found = None if self.find is None else await self.find(record, records)
            # Another process may have sent a request meanwhile whose result this is.
            if found is None or await self._records() == records:
                return found, False

    async def _records(self) -> RequestRecords:
        """Return what is remembered now."""
        return await self.store.change(self.scope, lambda records: (None, records), required=self.recorded)

    async def _write(self, **changes: Any) -> None:
        """Change the record of this call, even if another has its place. What was sent is not undone by errors."""
        changed = attrs.evolve(self._mine, written=self.store.now(), **changes)

        def make(records: RequestRecords) -> tuple[RequestRecords | None, None]:
            name = self._own_name(records)
            current = records.records.get(name)
            mine = current is not None and current.sender == self._mine.sender
            return (records.with_record(name, changed) if mine else None), None

        try:
            await self.store.change(self.scope, make, required=self.recorded)
        except (ConfigurationError, StorageError) as error:
            _log.warning("%s: what became of it could not be recorded. %s", self.what, error)
        self._mine = changed

    def _own_name(self, records: RequestRecords) -> str:
        """Return the name of the record of this call, which may have been replaced while it had no response."""
        own = replaced_name(self.name, self._mine.sender)
        return own if own in records.records else self.name

    def _unknown(self, record: RequestRecord, *trouble: ArenaAsyncError) -> ArenaAsyncError:
        """Return the error of a request of which it is not known whether it was carried out."""
        shown = (
            "although the service does not show it, so it was not sent again. Look at the service after a while; what "
            "it shows then is found by the same call."
        )
        if self.find is None:
            shown = "and the service has no list that shows it, so it was not sent again."
        more = (
            f"It may have been carried out {shown}{self.doubt and ' '}{self.doubt} To send it once more all the same, "
            "start anew (start_anew=True, --start-anew)."
        )
        if trouble:
            more = f"{more} The last look at the service failed: {trouble[0]}"
        if self._lost is not None:
            return with_more(self._lost, f"{self.what}: {more}")
        at = f" at {record.at:%Y-%m-%d %H:%M:%S %Z}" if record.at is not None else ""
        return TransportError(f"{self.what}: it was sent{at}, and no response is known. {more}", sent=True)
