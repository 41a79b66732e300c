"""
A directory that is kept equal to what a service lists, with a memory of what is complete.

::

    sync:    listing ──▶ decide by ledger and disk ──▶ download what is missing or changed ──▶ commit
                │
                └──▶ what was known and is no longer listed: gone, reported, kept; removed only on request

    watermark:  when a clean run ends, the newest change it saw; the next listing starts there, less an overlap, where
                the service can filter, and where everything in the ledger is on the disk as it was recorded
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import timedelta
from pathlib import Path, PurePosixPath

import attrs

from arena_async.errors import ArenaAsyncError, ConfigurationError, NotFoundError, StorageError
from arena_async.protocol.filenames import duplicate_key, key_of_file
from arena_async.protocol.files import FileSet, RemoteFile
from arena_async.protocol.messages import printable
from arena_async.transfer.context import Context, claim_tenant
from arena_async.transfer.directory import digest, discard, recorded_state
from arena_async.transfer.downloader import DirectoryOwner, report_on
from arena_async.transfer.events import Finished
from arena_async.transfer.models import (
    PAGE,
    Action,
    FileState,
    LedgerEntry,
    Outcome,
    Plan,
    PlannedFile,
    Report,
    StartedRun,
    account_of,
    as_error,
    can_restore,
)
from arena_async.transfer.union import LOOK_UP_BATCH, PlannedSet

__all__ = ["Mirror", "Verification", "Verified"]

#: How far before the watermark a listing starts: services stamp changes before they show them, and clocks differ.
OVERLAP = timedelta(hours=1)


_log = logging.getLogger("arena_async")

_GONE = "it is no longer listed"


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


class Mirror(DirectoryOwner):
    """
    Keeps a directory equal to what a service lists.

    ::

        async with Mirror("warehouse/") as mirror:
            report = await mirror.sync(files)

    Args:
        to: The directory; it is made when it is missing. It belongs to one tenant of each service.
        options: How files are downloaded.
        observer: Called with each event; a plain function or a coroutine function. It cannot harm a transfer.
        clock: Time and randomness, for tests.

    Raises:
        ConfigurationError: The directory or an option is not usable. Nothing was touched.
    """

    _remembers = True

    async def plan(self, files: FileSet, *, ask_again: bool = False) -> Plan:
        """
        Return what :meth:`sync` would do, for the cost of the listing. No content is requested, no file is touched.

        Args:
            files: What to look at.
            ask_again: Whether to plan for what was refused or failed for good in earlier runs.

        Raises:
            ArenaAsyncError: The listing failed, so that there is no plan.
            ClosedError: It was closed before, or is used from another event loop or after a fork.
        """
        context = self._context
        await context.open()
        now, before = context.clock.now(), files.requests_sent
        async with self._stream(files, dry=True, ask_again=ask_again) as stream:
            rows = [_planned(outcome, context.root) async for outcome in stream]
            run = stream.run
            whole = run.listing.whole and not files.narrowed
            if whole and run.listing.count:
                async for page in _pages(context, context.ledger.missing, files.scope, run.planner.generation):
                    rows += map(_planned_gone, page)
        rows.sort(key=lambda row: (row.path, row.key))
        return Plan(
            scope=files.scope,
            files=tuple(rows),
            kept=run.kept,
            whole=whole,
            cost=files.cost(),
            listing=files.requests_sent - before,
            look_up=0 if can_restore(files) else None,
            made_at=now,
        )

    async def sync(
        self, files: FileSet, *, plan: Plan | None = None, prune: bool = False, ask_again: bool = False
    ) -> Report:
        """
        Make the directory equal to the set: download what is missing or changed, keep the rest.

        What is known here and no longer listed is reported as gone and stays, unless ``prune`` is set.

        Args:
            files: What to download.
            plan: What :meth:`plan` returned for the same set: only its files are looked up again and downloaded.
            prune: Remove what is gone. Only with a whole listing that is not empty.
            ask_again: Request again what was refused or failed for good in earlier runs.

        Raises:
            ConfigurationError: ``prune`` with a set that is narrowed or empty, or a plan of another set.
            DestinationBusyError: The directory belongs to another tenant of this service.
            ArenaAsyncError: The listing failed, so that it is not known what is missing. Everything that was listed
                before was downloaded first.
            ClosedError: It was closed before, or is used from another event loop or after a fork.
        """
        if plan is not None and plan.scope != files.scope:
            raise ConfigurationError(
                f"The plan is for {printable(plan.scope)} and the set is {printable(files.scope)}; plan it anew."
            )
        if prune and (files.narrowed or (plan is not None and not plan.whole)):
            raise ConfigurationError(
                f"{printable(files.scope)}: the set is narrowed, so what it lacks may still exist, and nothing can be "
                "pruned. Sync the whole set, or leave prune off."
            )
        context, before = self._context, files.requests_sent
        await context.open()
        if plan is not None:
            report = await self._sync_plan(files, plan, prune=prune, ask_again=ask_again)
        else:
            report = await self._sync_all(files, prune=prune, ask_again=ask_again)
        if report.error is None:
            await _copy_ledger(context)
        if context.emitter.active:
            await context.emitter.drain()
        return attrs.evolve(report, requests=files.requests_sent - before)

    async def _sync_all(self, files: FileSet, *, prune: bool, ask_again: bool) -> Report:
        """List, download, and report what is gone."""
        context, scope = self._context, files.scope
        started = context.clock.now()
        watermark = None if prune or ask_again else await context.run(context.ledger.watermark, scope)
        if watermark is not None and (await _has_unsettled(context, files) or not await _is_untouched(context)):
            # A listing that starts later would not deliver what was refused, or was removed or damaged here.
            watermark = None
        listed = files.since(watermark - OVERLAP) if watermark is not None else files
        # A listing that starts at a watermark is noted apart: what it lacks must not look gone to other queries.
        noted = scope if listed is files else f"{scope} (changes)"
        stream = self._stream(listed, scope=noted, ask_again=ask_again)
        report, run = await report_on(stream, listed), stream.run
        whole = run.listing.whole and report.error is None
        if whole and not listed.narrowed:
            if prune and not run.listing.count:
                raise ConfigurationError(
                    f"{printable(scope)}: the listing is empty, and pruning would remove everything. Nothing was "
                    "removed; remove the folder by hand if that is meant."
                )
            if run.listing.count:
                gone = _pages(context, context.ledger.missing, scope, run.planner.generation)
                report = await _with_gone(context, report, gone, prune=prune)
        newest = run.planner.newest
        clean = whole and not report.failures and not report.not_started
        if clean and newest is not None and listed.since(started) is not listed:
            newest = min(newest, started)
            await context.run(context.ledger.set_watermark, scope, max(newest, watermark or newest))
        return report

    async def _sync_plan(self, files: FileSet, plan: Plan, *, prune: bool, ask_again: bool) -> Report:
        """Look the files of a plan up again and download them, and nothing else."""
        context, planned = self._context, PlannedSet(files, plan)
        report = await report_on(self._stream(planned, ask_again=ask_again), planned)
        if report.error is not None:
            return report
        lost = [_lost(row, context.root) for row in planned.lost]
        for outcome in lost:
            context.emitter.emit(Finished(outcome=outcome))
        report = attrs.evolve(report, outcomes=(*report.outcomes, *lost))
        keys = [file.key for file in plan.files if file.action in (Action.GONE, Action.PRUNE)]
        return await _with_gone(context, report, _gone_of_plan(context, files, keys, prune=prune), prune=prune)

    async def verify(self) -> Verification:
        """
        Read every complete file again and compare it with the ledger. Sends nothing.

        Files that are not in order are noted, so that the next sync downloads them.

        Raises:
            StorageError: The disk failed.
            ClosedError: It was closed before, or is used from another event loop or after a fork.
        """
        context = self._context
        await context.open()
        ok = 0
        found: dict[str, list[Verified]] = {"changed": [], "missing": [], "unknown": []}
        async for page in _pages(context, context.ledger.entries):
            times: list[tuple[LedgerEntry, int]] = []
            for entry in page:
                what, row, state = await context.run_until_cancelled(_compare, context, entry)
                if what == "ok":
                    ok += 1
                    if entry.provable and state is not None and state.mtime_ns != entry.mtime_ns:
                        times.append((entry, state.mtime_ns))
                    continue
                found[what].append(row)
                if what == "changed":
                    # No file has a time before 1970, so this one is never taken for the recorded file.
                    times.append((entry, -1))
            try:
                await context.run(context.ledger.retime, times)
            except StorageError:
                # That a time is another one costs the next run a read; that a file is wrong has to be written down.
                if any(mtime_ns < 0 for _, mtime_ns in times):
                    raise
        return Verification(ok=ok, **{name: tuple(rows) for name, rows in found.items()})

    async def paths(self, prefix: str) -> list[Path]:
        """
        Return the paths of complete files whose keys begin with a text, in the order of the keys.

        Raises:
            ClosedError: It was closed before, or is used from another event loop or after a fork.
        """
        await self._context.open()
        found: list[Path] = []
        async for page in _pages(self._context, self._context.ledger.entries, after=prefix):
            found += [self._context.root / entry.path for entry in page if entry.key.startswith(prefix)]
            if not page[-1].key.startswith(prefix):
                break
        return found

    async def claim(self, service: str, tenant: str) -> None:
        """
        Reserve the directory for a tenant of a service, before a run is started for it.

        Raises:
            DestinationBusyError: It belongs to another tenant of that service.
            StorageError: The directory is not usable.
            ClosedError: It was closed before, or is used from another event loop or after a fork.
        """
        await self._context.open()
        await self._context.run(claim_tenant, self._context.directory, service, tenant)

    async def started_run(self, key: str) -> StartedRun | None:
        """
        Return what is known about a run that was started for the directory, or None.

        Raises:
            StorageError: The ledger cannot be read.
            ClosedError: As for :meth:`claim`.
        """
        await self._context.open()
        return await self._context.run(self._context.ledger.started_run, key)

    async def write_started_run(self, run: StartedRun) -> None:
        """
        Remember a run that was started for the directory; it is on the disk when this returns.

        Raises:
            StorageError: The ledger cannot be written.
            ClosedError: As for :meth:`claim`.
        """
        await self._context.open()
        await self._context.run(self._context.ledger.write_started_run, run)

    async def entries(self) -> AsyncIterator[LedgerEntry]:
        """
        Yield what the ledger knows about complete files, by key.

        Raises:
            ClosedError: It was closed before, or is used from another event loop or after a fork.
        """
        await self._context.open()
        async for page in _pages(self._context, self._context.ledger.entries):
            for entry in page:
                yield entry


async def _pages(
    context: Context, query: Callable[..., list[LedgerEntry]], *args: object, after: str = ""
) -> AsyncIterator[list[LedgerEntry]]:
    """Yield the entries that a query of the ledger returns, page by page, in the order of the keys."""
    while page := await context.run(query, *args, after=after, limit=PAGE):
        yield page
        after = page[-1].key


async def _copy_ledger(context: Context) -> None:
    """Copy the ledger, once a day; a failure costs nothing today."""
    try:
        await context.run_until_cancelled(context.ledger.copy, now=context.clock.now())
    except StorageError as error:
        _log.warning("No copy of the ledger was made: %s", error)


async def _has_unsettled(context: Context, files: FileSet) -> bool:
    """Return whether the set lists files that failed and are to be requested now."""
    account, now = account_of(files), context.clock.now()
    return await context.run(context.ledger.has_unsettled, files.scope, account, now=now)


async def _is_untouched(context: Context) -> bool:
    """Return whether everything in the ledger is on the disk as it was recorded."""
    async for page in _pages(context, context.ledger.entries):
        if await context.run_until_cancelled(_any_touched, context, page):
            return False
    return True


def _any_touched(proceed: Callable[[], None], context: Context, entries: Sequence[LedgerEntry]) -> bool:
    """Return whether any file is missing or other than recorded; where only the time is, it is read. For a thread."""
    states = context.directory.states_of([entry.path for entry in entries])
    touched = [entry for entry in entries if _touched(entry, states.get(entry.path))]
    times = []
    for entry in touched:
        state = states.get(entry.path)
        if not isinstance(state, FileState) or state.size != entry.size or not entry.provable:
            return True
        proved = recorded_state(context.directory, entry, proceed)
        if proved is None:
            return True
        times.append((entry, proved.mtime_ns))
    context.ledger.retime(times)
    return False


# ---- gone


async def _gone_of_plan(
    context: Context, files: FileSet, keys: Sequence[str], *, prune: bool
) -> AsyncIterator[Sequence[LedgerEntry]]:
    """Yield what a plan calls gone and is known here, page by page; what is to be removed is looked up again."""
    for at in range(0, len(keys), LOOK_UP_BATCH):
        known = await context.run(context.ledger.look_up, keys[at : at + LOOK_UP_BATCH])
        gone = [entry for entry in known.values() if entry.state != "skipped"]
        if prune and gone:
            rows = await files.find(list(dict.fromkeys(key_of_file(entry.key) for entry in gone)))
            listed = {row.key for row in rows} | {duplicate_key(row.key, row.name) for row in rows}
            gone = [entry for entry in gone if entry.key not in listed]
        if gone:
            yield gone


async def _with_gone(
    context: Context, report: Report, gone: AsyncIterator[Sequence[LedgerEntry]], *, prune: bool
) -> Report:
    """Return the report with what is gone, which is removed on request, page by page."""
    outcomes = list(report.outcomes)
    counts = dict(report.counts)
    async for page in gone:
        done = (
            await context.run(_prune, context, page)
            if prune
            else [_gone_outcome(entry, context.root) for entry in page]
        )
        for outcome in done:
            context.emitter.emit(Finished(outcome=outcome))
            counts[outcome.action] += outcome.error is None
            outcomes.append(outcome)
    return attrs.evolve(report, outcomes=tuple(outcomes), counts=counts)


def _prune(context: Context, page: Sequence[LedgerEntry]) -> list[Outcome]:
    """Remove files that are gone, each if it is the recorded file, and forget them in one transaction. For a thread."""
    outcomes = [_discard(context, entry) for entry in page]
    removed = {one.file.key for one in outcomes if one.action is Action.PRUNE and one.error is None}
    try:
        context.ledger.forget(list(removed))
    except ArenaAsyncError as error:
        return [
            attrs.evolve(one, error=as_error(error, file=one.file.key)) if one.file.key in removed else one
            for one in outcomes
        ]
    return outcomes


def _discard(context: Context, entry: LedgerEntry) -> Outcome:
    """Remove a file that is gone if it is the recorded file; an error is its own. For a thread."""
    outcome = _gone_outcome(entry, context.root)
    try:
        state = context.directory.state_of(entry.path)
        if state is not None and _touched(entry, state):
            return attrs.evolve(outcome, reason="it is no longer listed; the local file is not the recorded one")
        discard(context.directory, entry.path)
    except ArenaAsyncError as error:
        return attrs.evolve(outcome, action=Action.PRUNE, error=as_error(error, file=entry.key))
    return attrs.evolve(outcome, action=Action.PRUNE)


def _gone_outcome(entry: LedgerEntry, root: Path) -> Outcome:
    """Return the outcome of a file that is no longer listed."""
    return Outcome(
        file=_unlisted(entry),
        action=Action.GONE,
        path=root / entry.path,
        verified_by=entry.verified_by,
        reason=_GONE,
        sha256=entry.sha256,
    )


# ---- rows


def _planned(outcome: Outcome, root: Path) -> PlannedFile:
    """Return the row of a decision."""
    file = outcome.file
    return PlannedFile(
        key=file.key,
        action=outcome.action,
        path=outcome.path.relative_to(root).as_posix() if outcome.path is not None else "",
        size=file.size,
        name=file.name,
        reason=str(outcome.error) if outcome.error is not None else outcome.reason,
        extension=file.extension,
        change=file.change,
    )


def _planned_gone(entry: LedgerEntry) -> PlannedFile:
    """Return the row of a file that is no longer listed."""
    return PlannedFile(
        key=entry.key, action=Action.GONE, path=entry.path, size=entry.size, name=entry.name, reason=_GONE
    )


def _lost(row: PlannedFile, root: Path) -> Outcome:
    """Return the outcome of a file that a plan names and that is not listed any more."""
    error = NotFoundError(f"{printable(row.path)}: it was planned and is no longer listed. Make the plan anew.")
    return Outcome(file=_unlisted(row), action=row.action, path=root / row.path, error=error)


def _compare(
    proceed: Callable[[], None], context: Context, entry: LedgerEntry
) -> tuple[str, Verified, FileState | None]:
    """Read one file and compare it with its entry. For a thread."""
    path = context.root / entry.path
    read = digest(context.directory, entry.path, proceed)
    if read is None:
        return "missing", Verified(key=entry.key, path=path, expected=entry.sha256 or entry.size), None
    actual, state = read
    if state.size != entry.size:
        return "changed", Verified(key=entry.key, path=path, expected=entry.size, actual=state.size), state
    if entry.sha256 is None:
        return "unknown", Verified(key=entry.key, path=path, actual=actual), state
    row = Verified(key=entry.key, path=path, expected=entry.sha256, actual=actual)
    return ("ok" if actual == entry.sha256 else "changed"), row, state


def _touched(entry: LedgerEntry, state: object) -> bool:
    """Return whether a file is missing or other than written down."""
    return (getattr(state, "size", None), getattr(state, "mtime_ns", None)) != (entry.size, entry.mtime_ns)


def _unlisted(row: LedgerEntry | PlannedFile) -> RemoteFile:
    """Return what can be said about a file that is no longer listed."""
    path = PurePosixPath(row.path)
    return RemoteFile(
        key=row.key,
        service=path.parts[0] if path.parts else "",
        tenant="",
        parts=path.parts[:-1],
        stem=path.name,
        name=row.name,
        size=row.size,
        change=row.change,
    )
