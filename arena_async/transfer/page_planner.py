"""Plans the pages of a listing: what becomes of each row, by the ledger, the disk and other runs of the directory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import attrs

from arena_async.protocol.filenames import duplicate_key
from arena_async.protocol.files import FileSet, RemoteFile
from arena_async.transfer.context import Context, claim_tenant
from arena_async.transfer.duplicates import Duplicates
from arena_async.transfer.leases import RunLease, pause_after
from arena_async.transfer.local_proof import drop_copies, prove
from arena_async.transfer.models import PAGE, Action, FileState, KnownRow, LedgerEntry, ListingRecord, account_of
from arena_async.transfer.outcomes import as_error
from arena_async.transfer.partial_files import finish_move
from arena_async.transfer.planner import WANTED, Decision, PlannedRow, decide, may_adopt, new_row
from arena_async.transfer.refusals import Refusal

__all__ = ["PagePlanner"]

_DOWNLOADS = frozenset({Action.FETCH, Action.RESUME, Action.REFRESH})

#: No change is believed to be older.
_EPOCH = datetime(1970, 1, 2, tzinfo=UTC)


@attrs.define
class PagePlanner:
    """
    Plans a page at a time, on a thread: one query of the ledger, one batch of stats, pure decisions.

    Args:
        files: The set, whose account and scope refusals are remembered for.
        context: The directory.
        dry: Whether files are only planned.
        ask_again: Whether to request what was refused or failed for good in earlier runs.
        lease: Claims what is downloaded, where other runs may work on the directory; or None.

    Attributes:
        probes: By refused run that is due, the file that is requested before the others.
        claimed: Rows that another run of the directory is downloading, to be planned again.
        listed_again: Rows that were planned once more, as older ones, at the end of the listing.
    """

    files: FileSet
    context: Context
    dry: bool
    ask_again: bool
    lease: RunLease | None = None
    generation: int = 0
    probes: dict[str, str] = attrs.field(factory=dict)
    duplicates: Duplicates = attrs.field(
        default=attrs.Factory(lambda self: Duplicates(self.context.ledger.remembers), takes_self=True)
    )
    newest: dict[str, datetime] = attrs.field(factory=dict)
    tenants: set[tuple[str, str]] = attrs.field(factory=set)
    claimed: list[PlannedRow] = attrs.field(factory=list)
    listed_again: int = 0
    _looks: int = 0
    _unproved: bool = False

    async def plan_page(
        self, page: Sequence[RemoteFile], first: int, *, evicted: bool = False
    ) -> list[tuple[PlannedRow, Decision, bool]]:
        """
        Return the rows of a page in order, what to do with each, and whether nothing has to be checked before that.

        Args:
            page: What was listed.
            first: The position of its first row in the listing.
            evicted: Whether these are older rows whose newer ones came on a later page.

        Raises:
            DestinationBusyError: The directory belongs to another tenant.
            ConfigurationError: The layout names a field that these files do not have.
            StorageError: The disk or the ledger failed.
        """
        return await self._proved(await self.context.run(self._plan_page, page, first, evicted=evicted))

    async def plan_rest(self, first: int) -> list[tuple[PlannedRow, Decision, bool]]:
        """Return the same at the end of the listing: rows that waited for it, and older ones to be fetched again."""
        held = await self._proved(await self.context.run(self._plan_held)) if self.duplicates.held else []
        evicted = await self._find_evicted() if self.duplicates.evicted else []
        self.listed_again = len(evicted)
        return held + (await self.plan_page(evicted, first, evicted=True) if evicted else [])

    def promote(self) -> None:
        """
        Move the newest row of a key to the plain path, where the newer version that was there is not listed any more.

        Raises:
            StorageError: The disk or the ledger failed.
        """
        ledger, expected = self.context.ledger, self.duplicates.expected
        for key, (change, name) in expected.items():
            beside = duplicate_key(key, name)
            known = ledger.look_up([key, beside])
            old, new = known.get(key), known.get(beside)
            if old is None or new is None or new.state == "skipped" or new.change != change:
                continue
            if self.context.directory.state_of(new.path) != FileState(size=new.size, mtime_ns=new.mtime_ns):
                continue
            moving = attrs.evolve(new, key=key, path=old.path, state="committing", partial=f"/{new.path}")
            ledger.write([moving])
            if finish_move(self.context.directory, moving, durable=self.context.options.durability != "off"):
                ledger.write((), completed=[moving])
                ledger.replace([(new, None)])

    async def plan_claimed(self) -> list[tuple[PlannedRow, Decision, bool]]:
        """Wait a while, and plan again what other runs had claimed: they have it now, or failed, or have ended."""
        await self.context.clock.sleep(pause_after(self._looks))
        self._looks += 1
        rows, self.claimed = self.claimed, []
        return await self._proved(await self.context.run(self._plan_again, rows))

    def drop(self, key: str) -> None:
        """Remove the claim of a file that is not downloaded by this run."""
        if self.lease is not None:
            self.lease.drop(key)

    async def _find_evicted(self) -> list[RemoteFile]:
        """Look older rows up whose newer ones came on a later page."""
        evicted = self.duplicates.evicted
        found = await self.files.find(list(evicted))
        return [file for file in found if file.name in evicted.get(file.key, ())]

    async def _proved(
        self, planned: list[tuple[PlannedRow, Decision, bool]]
    ) -> list[tuple[PlannedRow, Decision, bool]]:
        """Return the decisions, those again for which a local file had to be read."""
        if not self._unproved:
            return planned
        proved = await self.context.run_until_cancelled(prove, self.context, planned)
        for row, decision, _ in proved:
            if decision.action is Action.KEEP:
                self.drop(row.key)
        return proved

    def _plan_page(
        self, page: Sequence[RemoteFile], first: int, *, evicted: bool
    ) -> list[tuple[PlannedRow, Decision, bool]]:
        self._take_directory(page)
        return self._plan(self._settle(page, first, evicted=evicted))

    def _plan_held(self) -> list[tuple[PlannedRow, Decision, bool]]:
        settled, aside = self.duplicates.settle_held()
        return self._plan(self.duplicates.add_aside(settled, aside, self._note(aside)))

    def _plan_again(self, rows: Sequence[PlannedRow]) -> list[tuple[PlannedRow, Decision, bool]]:
        self.context.partials.scan()
        known = self.context.ledger.look_up([row.key for row in rows])
        return self._plan([attrs.evolve(row, entry=known.get(row.key)) for row in rows])

    def _plan(self, rows: Sequence[PlannedRow]) -> list[tuple[PlannedRow, Decision, bool]]:
        """Decide about rows with their paths and keys, and claim what is to be downloaded."""
        look = [
            row.path
            for row in rows
            if row.rejected is None
            and (row.entry is not None or self.context.ledger.adopts or not (self.dry or row.file.skip))
        ]
        directory = self.context.directory
        states = directory.states_of(look) if look else {}
        free = directory.free_bytes() if look else None
        now = self.context.clock.now()
        refused = {} if self.ask_again else self._refusals(rows, now)
        planned = [self._decide(row, states, free, refused, now) for row in rows]
        self._unproved = bool([row for row, decision, _ in planned if decision.proof])
        # What will never be delivered according to the listing itself is remembered, in one transaction.
        skipped = [
            LedgerEntry(
                key=row.key, state="skipped", change=row.file.change, name=row.file.name, reason=decision.reason, at=now
            )
            for row, decision, _ in planned
            if decision.action is Action.SKIP
            and row.file.skip is not None
            and (row.entry is None or row.entry.state != "skipped")
        ]
        if skipped and not self.dry:
            self.context.ledger.write(skipped)
        return planned if self.lease is None else self._claim(planned, self.lease)

    def _claim(
        self, planned: list[tuple[PlannedRow, Decision, bool]], lease: RunLease
    ) -> list[tuple[PlannedRow, Decision, bool]]:
        """Claim what is to be downloaded; what another run has claimed or committed since is set aside."""
        wanted = {
            row.key: row.entry for row, decision, _ in planned if decision.action in _DOWNLOADS and row.rejected is None
        }
        own = {row.key for row, _, _ in planned if row.several}
        again = lease.claim(wanted, own=own) if wanted else ()
        if not again:
            return planned
        self.claimed += [row for row, _, _ in planned if row.key in again]
        return [one for one in planned if one[0].key not in again]

    def _take_directory(self, page: Sequence[RemoteFile]) -> None:
        """Take the directory for the tenants of a page, and note the newest change in each list."""
        for file in page:
            tenant = (file.service, file.tenant)
            if tenant not in self.tenants:
                claim_tenant(self.context.directory, *tenant)
                self.tenants.add(tenant)
            if file.listed_in and file.changed_at is not None and file.changed_at >= _EPOCH:
                newest = self.newest.get(file.listed_in, _EPOCH)
                self.newest[file.listed_in] = max(newest, file.changed_at)

    def _settle(self, page: Sequence[RemoteFile], first: int, *, evicted: bool) -> list[PlannedRow]:
        """Return the rows of a page with their paths and keys. Rows that only repeat another are left out."""
        layout = self.context.options.layout
        rows = [new_row(number, file, layout) for number, file in enumerate(page, first)]
        if evicted:
            rows = [row.as_duplicate() for row in rows]
        known = self._note(rows)
        if not [one for one in known if one.entry is not None or one.earlier is not None or one.conflict is not None]:
            return rows
        settled, aside = self.duplicates.settle(rows, known)
        if vacated := self.duplicates.vacated:
            self.context.ledger.note_listed(self.files.scope, self.generation, vacated)
            self.duplicates.vacated = []
        if not aside:
            return list(settled.values())
        return self.duplicates.add_aside(settled, aside, self._note(aside))

    def _note(self, rows: Sequence[PlannedRow]) -> list[KnownRow]:
        """Note in the ledger that rows were listed, and return what it knows about each."""
        listed = [ListingRecord(row.key, row.file.name, row.file.change, row.path) for row in rows]
        return self.context.ledger.note_listed(self.files.scope, self.generation, listed)

    def _refusals(self, rows: Sequence[PlannedRow], now: datetime) -> Mapping[str, Refusal]:
        """Return what is remembered about the rows of a page that failed in earlier runs."""
        ledger, account = self.context.ledger, account_of(self.files)
        found = ledger.refusals([row.key for row in rows], account, self.files.scope)
        if found and not self.probes:
            self.probes.update(ledger.probes(account, now=now))
        return found

    def _decide(
        self,
        row: PlannedRow,
        states: Mapping[str, FileState | Exception | None],
        free: int | None,
        refused: Mapping[str, Refusal],
        now: datetime,
    ) -> tuple[PlannedRow, Decision, bool]:
        """Decide about one row; what lies under its final name may be a reason to reject it."""
        state = states.get(row.path)
        known = not isinstance(state, Exception)
        if isinstance(state, Exception):
            if row.entry is not None:
                row = attrs.evolve(row, rejected=as_error(state, file=row.key))
            state = None
        if row.rejected is not None:
            return row, Decision(Action.FETCH), False
        decision = decide(row.file, row.entry, state, path=row.path, refusal=refused.get(row.key), now=now)
        if self.context.ledger.adopts and decision in WANTED and may_adopt(row.file, state):
            decision = attrs.evolve(decision, proof="content")
        partials = self.context.partials
        if row.entry is not None and decision.action is Action.KEEP and not decision.proof and not self.dry:
            drop_copies(self.context, row.entry)
        if self.dry and decision.action is Action.FETCH and partials.find(row.key) is not None:
            decision = Decision(Action.RESUME)
        # All files of a page may arrive before the space is checked again.
        fits = row.file.size is None or (free is not None and row.file.size * PAGE <= free)
        return row, decision, fits and known and not partials.may_resume(row.key)
