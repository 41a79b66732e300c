"""
A folder kept equal to what a service lists, with a memory of what is complete.

::

    sync:    listing ──> decide against the ledger and the disk ──> fetch what is missing or changed ──> commit
                │
                └──> what was known and is no longer listed: gone, reported, kept; removed only when asked

    watermark:  when a clean run ends, the newest change it saw; the next listing starts there, less an overlap, where
                the service can filter, and where everything in the ledger is on the disk as it was written down
"""

from __future__ import annotations

import asyncio
import os
import random as chance
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Self

import attrs

from arena_async.errors import ArenaAsyncError, ConfigurationError, NotFoundError
from arena_async.options import TransferOptions
from arena_async.transfer.destination import Destination, Timing
from arena_async.transfer.events import Action, Observer, Outcome, Report, Settled, as_error
from arena_async.transfer.ledger import PAGE, Entry, Job
from arena_async.transfer.planning import Plan, PlannedFile, Restoring, can_restore, twin_key, without_mark
from arena_async.transfer.pool import OutcomeStream, report_on
from arena_async.wire.contracts import FileSet, OpenedFile, Price, Recalling, RemoteFile
from arena_async.wire.messages import printable

__all__ = ["Mirror", "Verification", "Verified"]

#: How far behind the watermark a listing starts: services stamp changes before they show them, and clocks differ.
OVERLAP = timedelta(hours=1)

#: Keys that are looked up again in one go, for a plan.
_BATCH = 100


@attrs.frozen(kw_only=True)
class Verified:
    """
    One file that is not as it was written down.

    Args:
        key: Its key.
        path: Where it lies, or should.
        expected: What the ledger says: SHA-256 in hexadecimal, or a size in bytes.
        actual: What is there, or None.
    """

    key: str
    path: Path
    expected: str | int | None = None
    actual: str | int | None = None


@attrs.frozen(kw_only=True)
class Verification:
    """
    What reading all complete files again has shown.

    Args:
        ok: Files whose digest is the one in the ledger.
        changed: Files with other content. They are fetched again by the next sync.
        missing: Files that are not there. They are fetched again by the next sync.
        unknown: Files that are there and of the right size, without a digest in the ledger to compare with.
    """

    ok: int = 0
    changed: tuple[Verified, ...] = ()
    missing: tuple[Verified, ...] = ()
    unknown: tuple[Verified, ...] = ()

    @property
    def bad(self) -> tuple[Verified, ...]:
        """The changed and the missing ones."""
        return self.changed + self.missing


class Mirror:
    """
    Keeps a folder equal to what a service lists.

    ::

        async with Mirror("warehouse/") as mirror:
            report = await mirror.sync(files)

    Args:
        to: The folder; it is made when it is missing. It belongs to one tenant of each service.
        options: How files are brought home.
        observer: Called with each event; a plain function or a coroutine function. It cannot harm a transfer.
        clock: Seconds that only ever grow.
        sleep: Waits for so many seconds.
        random: A number from 0 to 1.
        now: The time of day (aware).

    Raises:
        ConfigurationError: The folder or an option cannot be what is meant. Nothing was touched.
    """

    def __init__(
        self,
        to: str | os.PathLike[str],
        *,
        options: TransferOptions | None = None,
        observer: Observer | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        random: Callable[[], float] = chance.random,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._destination = Destination(
            to,
            options=options or TransferOptions(),
            observer=observer,
            remember=True,
            timing=Timing(clock=clock, sleep=sleep, random=random, now=now),
            owner="Mirror",
        )
        self._streams: set[OutcomeStream] = set()

    async def __aenter__(self) -> Self:
        try:
            await self._destination.open()
        except BaseException:
            await self.aclose()  # nobody else will: a context that was not entered is not left
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Stop everything, commit what is verified, and close the folder. Safe to call twice."""
        try:
            for stream in list(self._streams):
                await stream.aclose()
        finally:
            await self._destination.aclose()

    # ----------------------------------------------------------------------------------------------------- started runs

    async def claim(self, service: str, tenant: str) -> None:
        """
        Reserve the directory for a tenant of a service, before a run is started for it.

        Raises:
            DestinationBusyError: It belongs to another tenant of that service.
            StorageError: The directory cannot be used.
            ClosedError: It was closed before, or is used from another event loop or after a fork.
        """
        await self._destination.open()
        await self._destination.claim(service, tenant)

    async def job(self, key: str) -> Job | None:
        """
        Return the row of a started run, or None.

        Raises:
            StorageError: The ledger cannot be read.
            ClosedError: As for :meth:`claim`.
        """
        await self._destination.open()
        return await self._destination.ledger.job(key)

    async def note_job(self, job: Job) -> None:
        """
        Write the row of a started run; it is on the disk when this returns.

        Raises:
            StorageError: The ledger cannot be written.
            ClosedError: As for :meth:`claim`.
        """
        await self._destination.open()
        await self._destination.ledger.note_job(job)

    # ------------------------------------------------------------------------------------------------------------ plan

    async def plan(self, files: FileSet, *, ask_again: bool = False) -> Plan:
        """
        Say what :meth:`sync` would do, for the price of the listing. No content is asked for, no file is touched.

        Args:
            files: What to look at.
            ask_again: Whether to plan for what the service refused for ever the last time.

        Raises:
            ArenaAsyncError: The listing failed, so that there is no plan.
            ClosedError: It was closed before, or is used from another event loop or after a fork.
        """
        await self._destination.open()
        now, before = self._destination.timing.now(), files.requests_sent
        rows: list[PlannedFile] = []
        stream = self._stream(self._recalling(files), dry=True, ask_again=ask_again)
        async with stream:
            async for outcome in stream:
                rows.append(self._planned(outcome))  # noqa: PERF401 - a comprehension cannot say what is caught
            whole = stream.whole and not files.narrowed
            if whole and stream.listed:
                async for page in self._gone(files.scope, stream.generation):
                    rows += map(self._planned_gone, page)
        rows.sort(key=lambda row: (row.path, row.key))
        return Plan(
            scope=files.scope,
            files=tuple(rows),
            kept=stream.kept,
            whole=whole,
            price=files.price(),
            listing=files.requests_sent - before,
            look_up=0 if can_restore(files) else None,
            made_at=now,
        )

    def _recalling(self, files: FileSet) -> FileSet:
        """Let a set look at what this folder knows already, if it can."""
        return files.recalling(self._destination.ledger) if isinstance(files, Recalling) else files

    def _planned(self, outcome: Outcome) -> PlannedFile:
        """Make the row of a decision."""
        path = outcome.path.relative_to(self._destination.root).as_posix() if outcome.path is not None else ""
        reason = str(outcome.error) if outcome.error is not None else outcome.reason
        file = outcome.file
        return PlannedFile(
            key=file.key,
            action=outcome.action,
            path=path,
            size=file.size,
            name=file.name,
            reason=reason,
            extension=file.extension,
            change=file.change,
        )

    @staticmethod
    def _planned_gone(entry: Entry) -> PlannedFile:
        """Make the row of a file that is no longer listed."""
        return PlannedFile(
            key=entry.key, action=Action.GONE, path=entry.path, size=entry.size, name=entry.name, reason=_GONE
        )

    # ------------------------------------------------------------------------------------------------------------ sync

    async def sync(
        self, files: FileSet, *, plan: Plan | None = None, prune: bool = False, ask_again: bool = False
    ) -> Report:
        """
        Make the folder equal to the set: fetch what is missing or changed, keep the rest.

        What is known here and no longer listed is reported as gone and stays, unless ``prune`` is given.

        Args:
            files: What to bring.
            plan: What :meth:`plan` gave for the same set: only its files are looked up again and brought.
            prune: Remove what is gone. Only with a whole listing that is not empty.
            ask_again: Ask again for what the service refused for ever the last time.

        Raises:
            ConfigurationError: ``prune`` with a set that is narrowed or empty, or a plan of another set.
            DestinationBusyError: The folder belongs to another tenant of this service.
            ArenaAsyncError: The listing failed, so that nobody knows what is missing. Everything that was listed
                before was brought home first.
            ClosedError: It was closed before, or is used from another event loop or after a fork.
        """
        self._check(files, plan, prune=prune)
        await self._destination.open()
        if plan is not None:
            report = await self._sync_plan(files, plan, prune=prune, ask_again=ask_again)
        else:
            report = await self._sync_all(files, prune=prune, ask_again=ask_again)
        await self._destination.announcer.drain()
        return report

    @staticmethod
    def _check(files: FileSet, plan: Plan | None, *, prune: bool) -> None:
        """Refuse what would remove or fetch something else than was meant."""
        if plan is not None and plan.scope != files.scope:
            raise ConfigurationError(
                f"The plan is for {printable(plan.scope)} and the set is {printable(files.scope)}; plan it anew."
            )
        if prune and (files.narrowed or (plan is not None and not plan.whole)):
            raise ConfigurationError(
                f"{printable(files.scope)}: the set is narrowed, so what it lacks may still exist, and nothing can be "
                "pruned. Sync the whole set, or leave prune off."
            )

    async def _sync_all(self, files: FileSet, *, prune: bool, ask_again: bool) -> Report:
        """List, fetch, and see what is gone."""
        started = self._destination.timing.now()
        ledger = self._destination.ledger
        watermark = None if prune or ask_again else await self._usable_watermark(files.scope)
        listed = files.since(watermark - OVERLAP) if watermark is not None else files
        before = files.requests_sent
        # A listing that starts at a watermark is noted apart: what it lacks must not look gone to other queries.
        scope = files.scope if listed is files else f"{files.scope} (changes)"
        stream = self._stream(self._recalling(listed), scope=scope, ask_again=ask_again)
        report = await report_on(stream, listed)
        if stream.whole and report.error is None and not listed.narrowed:
            if prune and not stream.listed:
                raise ConfigurationError(
                    f"{printable(files.scope)}: the listing is empty, and pruning would remove everything. Nothing was "
                    "removed; remove the folder by hand if that is meant."
                )
            if stream.listed:
                report = await self._with_gone(report, self._gone(files.scope, stream.generation), prune=prune)
        clean = stream.whole and report.error is None and not report.failures and not report.not_started
        if clean and stream.newest is not None and listed.since(started) is not listed:
            newest = min(stream.newest, started)
            await ledger.set_watermark(files.scope, max(newest, watermark or newest))
        return attrs.evolve(report, requests=files.requests_sent - before)

    async def _sync_plan(self, files: FileSet, plan: Plan, *, prune: bool, ask_again: bool) -> Report:
        """Look the files of a plan up again and bring them, and nothing else."""
        planned = _Planned(files, plan)
        before = files.requests_sent
        report = await report_on(self._stream(planned, ask_again=ask_again), planned)
        lost = [] if report.error is not None else [self._lost(row) for row in planned.lost]
        for outcome in lost:
            self._destination.announcer.announce(Settled(outcome=outcome))
        report = attrs.evolve(report, outcomes=(*report.outcomes, *lost))
        if report.error is None:
            keys = [file.key for file in plan.files if file.action in (Action.GONE, Action.PRUNE)]
            gone = self._gone_of_plan(files, keys, prune=prune)
            report = await self._with_gone(report, gone, prune=prune)
        return attrs.evolve(report, requests=files.requests_sent - before)

    async def _gone_of_plan(
        self, files: FileSet, keys: Sequence[str], *, prune: bool
    ) -> AsyncIterator[Sequence[Entry]]:
        """Give what a plan calls gone and is known here, page by page; what is to be removed is looked up again."""
        for at in range(0, len(keys), PAGE):
            known = await self._destination.ledger.look_up(keys[at : at + PAGE])
            gone = [entry for entry in known.values() if entry.state != "skipped"]
            gone = await self._still_gone(files, gone) if prune else gone
            if gone:
                yield gone

    @staticmethod
    async def _still_gone(files: FileSet, gone: Sequence[Entry]) -> list[Entry]:
        """Look up again what a plan calls gone, and leave out what is listed again by now."""
        keys = [without_mark(entry.key) for entry in gone]
        listed: set[str] = set()
        for at in range(0, len(keys), _BATCH):
            rows = await files.find(list(dict.fromkeys(keys[at : at + _BATCH])))
            listed |= {row.key for row in rows} | {twin_key(row.key, row.name) for row in rows}
        return [entry for entry in gone if entry.key not in listed]

    def _stream(
        self, files: FileSet, *, scope: str | None = None, dry: bool = False, ask_again: bool = False
    ) -> OutcomeStream:
        """Make a stream that ends with this object."""
        stream = OutcomeStream(files, self._destination, scope=scope, dry=dry, ask_again=ask_again)
        stream.on_close = self._streams.discard
        self._streams.add(stream)
        return stream

    async def _usable_watermark(self, scope: str) -> datetime | None:
        """
        Give how far a clean run has come, if everything in the ledger is on the disk as it was written down.

        A listing that starts later would not bring what somebody removed or damaged here.
        """
        watermark = await self._destination.ledger.watermark(scope)
        if watermark is None:
            return None
        async for page in self._pages():
            if await self._destination.desk.run(self._any_touched, page):
                return None
        return watermark

    def _any_touched(self, entries: Sequence[Entry]) -> bool:
        """Say whether any file is missing or other than written down. For a thread."""
        states = self._destination.storage.look_all([entry.path for entry in entries])
        return any(_touched(entry, states.get(entry.path)) for entry in entries)

    # ------------------------------------------------------------------------------------------------------------ gone

    async def _gone(self, scope: str, generation: int) -> AsyncIterator[Sequence[Entry]]:
        """Give what is known here and was not in a listing, page by page."""
        after = ""
        while page := await self._destination.ledger.gone(scope, generation, after=after, limit=PAGE):
            yield page
            after = page[-1].key

    async def _with_gone(self, report: Report, gone: AsyncIterator[Sequence[Entry]], *, prune: bool) -> Report:
        """Add what is gone to a report, and remove it where that was asked for, page by page."""
        outcomes = list(report.outcomes)
        counts = dict(report.counts)
        async for page in gone:
            for outcome in await self._prune(page) if prune else map(self._gone_outcome, page):
                self._destination.announcer.announce(Settled(outcome=outcome))
                counts[outcome.action] += outcome.error is None
                outcomes.append(outcome)
        return attrs.evolve(report, outcomes=tuple(outcomes), counts=counts)

    async def _prune(self, page: Sequence[Entry]) -> list[Outcome]:
        """Remove files that are gone, each if what lies there is what was brought, and forget them in one go."""
        removed = await self._destination.desk.run(self._discard_all, page)
        forgotten: ArenaAsyncError | None = None
        try:
            keys = [entry.key for entry, what in zip(page, removed, strict=True) if what is True]
            await self._destination.ledger.forget(keys)
        except ArenaAsyncError as error:
            forgotten = error
        return [
            self._pruned(entry, forgotten if what is True and forgotten is not None else what)
            for entry, what in zip(page, removed, strict=True)
        ]

    def _pruned(self, entry: Entry, what: bool | ArenaAsyncError) -> Outcome:  # noqa: FBT001 - what became of it
        """Make the outcome of a file that was to be removed."""
        if what is False:
            return self._gone_outcome(entry, reason="it is no longer listed; what lies here is not what was brought")
        error = None if what is True else as_error(what, file=entry.key)
        return attrs.evolve(self._gone_outcome(entry), action=Action.PRUNE, error=error)

    def _discard_all(self, entries: Sequence[Entry]) -> list[bool | ArenaAsyncError]:
        """Remove files; errors are values, so that one file fails alone. For a thread."""
        found: list[bool | ArenaAsyncError] = []
        for entry in entries:
            try:
                found.append(self._discard(entry, PurePosixPath(entry.path)))
            except ArenaAsyncError as error:
                found.append(error)
        return found

    def _discard(self, entry: Entry, path: PurePosixPath) -> bool:
        """Remove a file unless somebody has changed it. For a thread."""
        state = self._destination.storage.look(path)
        if state is None:
            return True
        return not _touched(entry, state) and self._destination.storage.discard(path)

    def _gone_outcome(self, entry: Entry, *, reason: str = "") -> Outcome:
        """Make the outcome of a file that is no longer listed."""
        return Outcome(
            file=_unlisted(entry),
            action=Action.GONE,
            path=self._destination.root / entry.path,
            verified_by=entry.verified_by,
            reason=reason or _GONE,
            sha256=entry.sha256,
        )

    def _lost(self, row: PlannedFile) -> Outcome:
        """Make the outcome of a file that a plan names and nobody lists any more."""
        file = RemoteFile(
            key=row.key,
            service="",
            tenant="",
            parts=(),
            stem=PurePosixPath(row.path).name,
            name=row.name,
            size=row.size,
        )
        error = NotFoundError(f"{printable(row.path)}: it was planned and is no longer listed. Make the plan anew.")
        return Outcome(file=file, action=row.action, path=self._destination.root / row.path, error=error)

    # ---------------------------------------------------------------------------------------------------------- looking

    async def verify(self) -> Verification:
        """
        Read every complete file again and compare it with the ledger. Sends nothing.

        Files that are not in order are noted, so that the next sync fetches them.

        Raises:
            StorageError: The disk refused.
            ClosedError: It was closed before, or is used from another event loop or after a fork.
        """
        await self._destination.open()
        ok = 0
        found: dict[str, list[Verified]] = {"changed": [], "missing": [], "unknown": []}
        async for page in self._pages():
            doubtful: list[Entry] = []
            for entry in page:
                verdict, row = await self._destination.desk.run(self._compare, entry)
                if verdict == "ok":
                    ok += 1
                    continue
                found[verdict].append(row)
                if verdict == "changed":
                    # No file has a time before 1970, so this one is never taken for what was brought.
                    doubtful.append(attrs.evolve(entry, mtime_ns=-1))
            await self._destination.ledger.write(doubtful)
        return Verification(ok=ok, **{name: tuple(rows) for name, rows in found.items()})

    def _compare(self, entry: Entry) -> tuple[str, Verified]:
        """Read one file and compare it. For a thread."""
        path = self._destination.root / entry.path
        read = self._destination.storage.digest(entry.path)
        if read is None:
            return "missing", Verified(key=entry.key, path=path, expected=entry.sha256 or entry.size)
        digest, state = read
        if state.size != entry.size:
            return "changed", Verified(key=entry.key, path=path, expected=entry.size, actual=state.size)
        if entry.sha256 is None:
            return "unknown", Verified(key=entry.key, path=path, actual=digest)
        row = Verified(key=entry.key, path=path, expected=entry.sha256, actual=digest)
        return ("ok" if digest == entry.sha256 else "changed"), row

    async def paths(self, prefix: str) -> list[Path]:
        """
        Say where complete files lie whose keys begin with a text, in the order of the keys.

        Raises:
            ClosedError: It was closed before, or is used from another event loop or after a fork.
        """
        await self._destination.open()
        found: list[Path] = []
        after = prefix
        while page := await self._destination.ledger.entries(after=after, limit=PAGE):
            found += [self._destination.root / entry.path for entry in page if entry.key.startswith(prefix)]
            after = page[-1].key
            if not after.startswith(prefix):
                break
        return found

    async def entries(self) -> AsyncIterator[Entry]:
        """
        Give what the ledger knows about complete files, by key.

        Raises:
            ClosedError: It was closed before, or is used from another event loop or after a fork.
        """
        await self._destination.open()
        async for page in self._pages():
            for entry in page:
                yield entry

    async def _pages(self) -> AsyncIterator[list[Entry]]:
        """Walk the ledger."""
        after = ""
        while page := await self._destination.ledger.entries(after=after, limit=PAGE):
            yield page
            after = page[-1].key


_GONE = "it is no longer listed"


def _touched(entry: Entry, state: object) -> bool:
    """Say whether a file is missing or other than written down."""
    return (getattr(state, "size", None), getattr(state, "mtime_ns", None)) != (entry.size, entry.mtime_ns)


def _unlisted(entry: Entry) -> RemoteFile:
    """Make what can be said about a file that is no longer listed."""
    path = PurePosixPath(entry.path)
    return RemoteFile(
        key=entry.key,
        service=path.parts[0] if path.parts else "",
        tenant="",
        parts=path.parts[:-1],
        stem=path.name,
        name=entry.name,
        size=entry.size,
        change=entry.change,
    )


class _Planned:
    """The files of a plan as a set: looked up again by key, some at a time, when their turn comes."""

    def __init__(self, files: FileSet, plan: Plan) -> None:
        self._files = files
        self._plan = plan
        #: Rows that nobody lists any more.
        self.lost: list[PlannedFile] = []

    @property
    def scope(self) -> str:
        """Not the name of the query: what this set lacks is not gone."""
        return f"plan of {self._files.scope}"

    @property
    def narrowed(self) -> bool:
        """It is narrowed to the plan."""
        return True

    @property
    def requests_sent(self) -> int:
        """Metered requests of the session."""
        return self._files.requests_sent

    async def __aiter__(self) -> AsyncIterator[RemoteFile]:
        """Look the files up again."""
        rows = self._plan.to_fetch
        for at in range(0, len(rows), _BATCH):
            batch = rows[at : at + _BATCH]
            found = await self._look_up(batch)
            by_key: dict[str, list[RemoteFile]] = {}
            for file in found:
                by_key.setdefault(file.key, []).append(file)
            for row in batch:
                if row.key not in by_key:
                    self.lost.append(row)
            for files in by_key.values():
                for file in files:
                    yield file

    async def _look_up(self, rows: Sequence[PlannedFile]) -> list[RemoteFile]:
        """Give the entries of planned files; only those that cannot be restored are asked for."""
        found = await self._files.restore(rows) if isinstance(self._files, Restoring) else []
        there = {file.key for file in found}
        missing = [key for key in dict.fromkeys(row.key for row in rows) if key not in there]
        return found + (await self._files.find(missing) if missing else [])

    async def open(
        self, file: RemoteFile, *, offset: int = 0, validator: str | None = None, until: int | None = None
    ) -> OpenedFile:
        """Ask for the content once."""
        return await self._files.open(file, offset=offset, validator=validator, until=until)

    async def find(self, keys: Collection[str]) -> list[RemoteFile]:
        """Look some files up again."""
        return await self._files.find(keys)

    def since(self, watermark: datetime | None) -> _Planned:
        """Give the set itself."""
        del watermark
        return self

    def price(self) -> Price:
        """Say what the whole set costs."""
        return self._files.price()
