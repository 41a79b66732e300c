"""
A directory that is kept equal to what a service lists, with a memory of what is complete.

::

    sync:    listing ──▶ decide by ledger and disk ──▶ download what is missing or changed ──▶ commit
                │
                └──▶ what was known and is no longer listed: gone, reported, kept; removed only on request

    watermark:  when a clean run ends, the newest change it saw in each list; the next walk of that list starts there,
                less an overlap, where the service can filter, and where everything in the ledger is on the disk as it
                was recorded; a list that was never walked is walked whole
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Literal, get_args

import attrs

from arena_async.errors import ArenaAsyncError, ConfigurationError, ListingError, NotFoundError, StorageError
from arena_async.options import Clock, TransferOptions
from arena_async.protocol.filenames import duplicate_key, key_of_file
from arena_async.protocol.files import FileSet, KnowsExpired, RemoteFile
from arena_async.protocol.messages import printable
from arena_async.transfer.context import Context, claim_tenant
from arena_async.transfer.downloader import DirectoryOwner, report_on
from arena_async.transfer.events import Finished, Observer
from arena_async.transfer.final_files import discard, recorded_state
from arena_async.transfer.leases import IfRunning, RunLease
from arena_async.transfer.local_proof import Verification, Verified, compare, drop_copies
from arena_async.transfer.models import (
    PAGE,
    Action,
    FileState,
    LedgerEntry,
    Plan,
    PlannedFile,
    StartedRun,
    account_of,
    can_restore,
)
from arena_async.transfer.outcomes import Outcome, Outcomes, Report, as_error
from arena_async.transfer.planner import is_too_many_gone
from arena_async.transfer.union import PlannedSet

__all__ = ["Mirror"]

#: How far before the watermark a listing starts: services stamp changes before they show them, and clocks differ.
OVERLAP = timedelta(hours=1)

log = logging.getLogger("arena_async")

#: Whether to remove what is gone; ``"force"`` also where that is much of what is here.
Prune = bool | Literal["force"]

_GONE = "it is no longer listed"


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
        if_running: What a sync does while another run of the same query works on the directory, in this process or
            another: ``"wait"`` until it has ended and begin then, or ``"fail"``.
        clock: Time and randomness, for tests.

    Raises:
        ConfigurationError: The directory or an option is not usable. Nothing was touched.
    """

    _remembers = True

    def __init__(
        self,
        to: str | os.PathLike[str],
        *,
        options: TransferOptions | None = None,
        observer: Observer | None = None,
        if_running: IfRunning = "wait",
        clock: Clock | None = None,
    ) -> None:
        super().__init__(to, options=options, observer=observer, clock=clock)
        if if_running not in get_args(IfRunning):
            raise ConfigurationError(f"Mirror.if_running is {if_running!r}; it takes wait or fail.")
        self._if_running = if_running

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
                async for page in _pages(context, context.ledger.missing, files.scope):
                    rows += map(_planned_gone, _not_expired(files, page))
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
        self, files: FileSet, *, plan: Plan | None = None, prune: Prune = False, ask_again: bool = False
    ) -> Report:
        """
        Make the directory equal to the set: download what is missing or changed, keep the rest.

        One run of a query works on a directory at a time; another one waits for it, or fails where ``if_running`` says
        so. A file that a run of another query is downloading is not requested as well, but decided again after it.

        What is known here and no longer listed is reported as gone and stays, unless ``prune`` is set.

        Args:
            files: What to download.
            plan: What :meth:`plan` returned for the same set: only its files are looked up again and downloaded.
            prune: Remove what is gone. Only with a whole listing that is not empty. Where more than 10 files and more
                than a fifth of those known of the set are gone, nothing is removed, and the report says so as its
                error; ``"force"`` removes them.
            ask_again: Request again what was refused or failed for good in earlier runs.

        Raises:
            ConfigurationError: ``prune`` with a set that is narrowed or empty, or a plan of another set.
            DestinationBusyError: The directory belongs to another tenant of this service, or another run of the query
                works on it and ``if_running`` is ``"fail"``.
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
        lease = RunLease.of(context, files.scope)
        self._leases.add(lease)
        try:
            await lease.take(self._if_running)
            await context.run(context.partials.scan)
            sync = partial(self._sync_plan, plan=plan) if plan is not None else self._sync_all
            report = await sync(files, lease, prune=prune, ask_again=ask_again)
            if report.error is None:
                await _copy_ledger(context)
        finally:
            self._leases.discard(lease)
            await lease.aclose()
        if context.emitter.active:
            await context.emitter.drain()
        return attrs.evolve(report, requests=files.requests_sent - before)

    async def _sync_all(self, files: FileSet, lease: RunLease, *, prune: Prune, ask_again: bool) -> Report:
        """List, download, and report what is gone."""
        context, scope = self._context, files.scope
        started = context.clock.now()
        watermarks = {}
        if not (prune or ask_again):
            watermarks = await context.run(context.ledger.watermarks, scope, latest=started + OVERLAP)
        if watermarks and (await _has_unsettled(context, files) or not await _is_untouched(context)):
            # A listing that starts later would not deliver what was refused, or was removed or damaged here.
            watermarks = {}
        listed = files
        if watermarks:
            listed = files.since({name: newest - OVERLAP for name, newest in watermarks.items()})
        stream = self._stream(listed, ask_again=ask_again, lease=lease)
        report, run = await report_on(stream, listed), stream.run
        whole = run.listing.whole and report.error is None
        if whole and not listed.narrowed:
            if prune and not run.listing.count:
                raise ConfigurationError(
                    f"{printable(scope)}: the listing is empty, and pruning would remove everything. Nothing was "
                    "removed; remove the folder by hand if that is meant."
                )
            if run.listing.count:
                report = await self._with_missing(report, listed, prune=prune)
        if whole and not report.failures and not report.not_started:
            newest = {name: min(at, started) for name, at in run.planner.newest.items()}
            await context.run(context.ledger.set_watermarks, scope, newest)
        return report

    async def _sync_plan(self, files: FileSet, lease: RunLease, *, plan: Plan, prune: Prune, ask_again: bool) -> Report:
        """Look the files of a plan up again and download them, and nothing else."""
        context, planned = self._context, PlannedSet(files, plan)
        report = await report_on(self._stream(planned, ask_again=ask_again, lease=lease), planned)
        if report.error is not None:
            return report
        report = await self._with(report, [_lost(row, context.root) for row in planned.lost])
        keys = [file.key for file in plan.files if file.action in (Action.GONE, Action.PRUNE)]
        known = await context.run(context.ledger.look_up, keys)
        gone = [entry for entry in known.values() if entry.state != "skipped"]
        if not prune or not gone:
            return await self._with(report, [_gone_outcome(entry, context.root) for entry in gone])
        removed: list[Outcome] = []
        try:
            await self._check_share(files, len(gone), prune=prune)
            # All at once: a set takes the fewest requests for many.
            rows = await files.find(list(dict.fromkeys(key_of_file(entry.key) for entry in gone)))
            listed = {row.key for row in rows} | {duplicate_key(row.key, row.name) for row in rows}
            gone = _not_expired(files, [entry for entry in gone if entry.key not in listed])
            for at in range(0, len(gone), PAGE):
                removed += await context.run(context.ledger.prune, gone[at : at + PAGE], partial(_discard, context))
        except ArenaAsyncError as error:
            report = attrs.evolve(report, error=error)
        return await self._with(report, removed)

    async def _with_missing(self, report: Report, files: FileSet, *, prune: Prune) -> Report:
        """Return the report of a whole listing with what is gone, which is removed on request, page by page."""
        context, scope = self._context, files.scope
        missing, gone = partial(_pages, context, context.ledger.missing, scope), list[Outcome]()
        if not prune:
            async for page in missing():
                gone += [_gone_outcome(entry, context.root) for entry in _not_expired(files, page)]
            return await self._with(report, gone)
        try:
            count = sum([len(_not_expired(files, page)) async for page in missing()])
            await self._check_share(files, count, prune=prune)
            remove, after = partial(_discard, context, files=files), ""
            while done := await context.run(context.ledger.prune_missing, scope, remove, after=after):
                after = done[-1].file.key
                gone += [one for one in done if one.action is not Action.KEEP]
        except ArenaAsyncError as error:
            report = attrs.evolve(report, error=error)
        return await self._with(report, gone)

    async def _check_share(self, files: FileSet, gone: int, *, prune: Prune) -> None:
        """
        Check that what is to be removed is no large share of what is known of a set.

        Raises:
            ListingError: It is, and nobody said that it is meant.
        """
        known = await self._context.run(self._context.ledger.count_known, files.scope)
        if prune != "force" and is_too_many_gone(gone, known):
            raise ListingError(
                f"{printable(files.scope)}: {gone} of the {known} files that are known of it are no longer listed. "
                "That is more than a fifth, so nothing was removed: the service may have listed too little. Look at "
                'what is gone, and sync with prune="force" if it is to be removed.'
            )

    async def _with(self, report: Report, outcomes: Collection[Outcome]) -> Report:
        """Report some more outcomes."""
        counts, rows = dict(report.counts), report.outcomes
        for outcome in outcomes:
            self._context.emitter.emit(Finished(outcome=outcome))
            counts[outcome.action] += outcome.error is None
            if isinstance(rows, Outcomes):
                rows.add(sys.maxsize, outcome)
        rows = rows.in_order() if isinstance(rows, Outcomes) else (*rows, *outcomes)
        return attrs.evolve(report, outcomes=rows, counts=counts)

    async def verify(self) -> Verification:
        """
        Read every complete file again and compare it with the ledger. Sends nothing.

        Files that are not in order are noted, so that the next sync downloads them, where the ledger can be written and
        no other process has written about them meanwhile. No file is changed.

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
                what, row, state = await context.run_until_cancelled(compare, context, entry)
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
        Return what an earlier version has noted about a run that was started for the directory, or None.

        Raises:
            StorageError: The ledger cannot be read.
            ClosedError: As for :meth:`claim`.
        """
        await self._context.open()
        return await self._context.run(self._context.ledger.started_run, key)

    async def forget_started_run(self, key: str) -> None:
        """
        Remove what an earlier version has noted about a run, once it is recorded elsewhere.

        Raises:
            StorageError: The ledger cannot be written.
            ClosedError: As for :meth:`claim`.
        """
        await self._context.open()
        await self._context.run(self._context.ledger.forget_started_run, key)

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
        log.warning("No copy of the ledger was made: %s", error)


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
    for entry in entries:
        drop_copies(context, entry)
    return False


# ---- gone


def _not_expired(files: FileSet, entries: Sequence[LedgerEntry]) -> list[LedgerEntry]:
    """Return the entries without those that the service only stopped to offer because of their age."""
    return [entry for entry in entries if not (isinstance(files, KnowsExpired) and files.is_expired(entry.key))]


def _discard(context: Context, entry: LedgerEntry, *, files: FileSet | None = None) -> Outcome:
    """Remove a file that is gone if it is the recorded file; an error is its own. For a thread."""
    outcome = _gone_outcome(entry, context.root)
    if files is not None and not _not_expired(files, [entry]):
        return attrs.evolve(outcome, action=Action.KEEP)
    try:
        state = context.directory.state_of(entry.path)
        if entry.state != "complete" or (state is not None and _touched(entry, state)):
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
