"""What is listed: a file set read a page ahead, and the plan of each page, made in one call on a thread."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime

import attrs

from arena_async.errors import QuotaExhaustedError
from arena_async.protocol.files import FileSet, RemoteFile
from arena_async.protocol.layout import duplicate_key
from arena_async.transfer.context import Context, claim_tenant
from arena_async.transfer.models import PAGE, Action, FileState, KnownRow, LedgerEntry, as_error
from arena_async.transfer.planner import Decision, Duplicates, PlannedRow, decide, is_clear, new_row

__all__ = ["Listing", "PagePlanner"]


class Listing:
    """
    Reads a file set, at most one page ahead.

    Args:
        files: The set.

    Attributes:
        count: Files that were listed so far.
        whole: Whether the listing came to its end.
        quota_error: The quota was exhausted while it was read; or None.
        failure: What made it fail, or None.
    """

    def __init__(self, files: FileSet) -> None:
        self.count = 0
        self.whole = False
        self.quota_error: QuotaExhaustedError | None = None
        self.failure: Exception | None = None
        self._files = files
        self._rows: list[RemoteFile] = []
        self._ended = False
        self._wanted = 1
        self._listed: asyncio.Future[None] | None = None
        self._taken: asyncio.Future[None] | None = None

    async def run(self) -> None:
        """Read the set to its end."""
        rows = aiter(self._files)
        try:
            try:
                async for file in rows:
                    self.count += 1
                    self._rows.append(file)
                    if self._listed is not None and len(self._rows) >= self._wanted:
                        self._wake()
                    if len(self._rows) >= PAGE:
                        self._taken = asyncio.get_running_loop().create_future()
                        await self._taken
            finally:
                close = getattr(rows, "aclose", None)
                if close is not None:
                    await close()
            self.whole = True
        except QuotaExhaustedError as error:
            self.quota_error = error
        except Exception as error:  # noqa: BLE001 - raised when everything listed before has its outcome
            self.failure = error
        self._ended = True
        self._wake()

    def _wake(self) -> None:
        listed, self._listed = self._listed, None
        if listed is not None and not listed.done():
            listed.set_result(None)

    async def next_page(self, *, full: bool) -> list[RemoteFile]:
        """
        Return what was listed since, at most a page; empty at the end.

        Args:
            full: Wait for a full page: where the one before needed no download, batched look-ups are cheaper.
        """
        self._wanted = PAGE if full else 1
        while not self._ended and len(self._rows) < self._wanted:
            self._listed = asyncio.get_running_loop().create_future()
            await self._listed
        page, self._rows = self._rows, []
        taken, self._taken = self._taken, None
        if taken is not None and not taken.done():
            taken.set_result(None)
        return page


@attrs.define
class PagePlanner:
    """Plans a page at a time, on a thread: one query of the ledger, one batch of stats, pure decisions."""

    context: Context
    scope: str
    dry: bool
    ask_again: bool
    generation: int = 0
    duplicates: Duplicates = attrs.field(factory=Duplicates)
    newest: datetime | None = None
    claimed: set[tuple[str, str]] = attrs.field(factory=set)

    def begin(self) -> None:
        """Begin the listing in the ledger."""
        self.generation = self.context.ledger.begin_listing(self.scope)

    def end(self) -> None:
        """End a complete listing in the ledger."""
        self.context.ledger.end_listing(self.scope, self.generation)

    def plan(
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
        self._claim(page)
        rows = self._settle(page, first, evicted=evicted)
        look = [
            row.path
            for row in rows
            if row.rejected is None and (row.entry is not None or not (self.dry or row.file.skip))
        ]
        directory = self.context.directory
        states = directory.states_of(look) if look else {}
        free = directory.free_bytes() if look else None
        planned = [self._decide(row, states, free) for row in rows]
        self._write_skips(planned)
        return planned

    def _claim(self, page: Sequence[RemoteFile]) -> None:
        """Take the directory for the tenants of a page."""
        for tenant in {(file.service, file.tenant): None for file in page}:
            if tenant not in self.claimed:
                claim_tenant(self.context.directory, *tenant)
                self.claimed.add(tenant)
        changes = [file.changed_at for file in page if file.changed_at is not None]
        if changes:
            newest = max(changes)
            self.newest = newest if self.newest is None else max(self.newest, newest)

    def _settle(self, page: Sequence[RemoteFile], first: int, *, evicted: bool) -> list[PlannedRow]:
        """Return the rows of a page with their paths and keys. Rows that only repeat another are left out."""
        layout = self.context.options.layout
        rows = [new_row(number, file, layout) for number, file in enumerate(page, first)]
        if evicted:
            rows = [row.as_duplicate() for row in rows]
        known = self._note(rows)
        settled, aside = self.duplicates.settle(rows, known, self._moved(rows, known))
        return self.duplicates.add_aside(settled, aside, self._note(aside) if aside else ())

    def _note(self, rows: Sequence[PlannedRow]) -> list[KnownRow]:
        return self.context.ledger.note_listed(self.scope, self.generation, [row.record() for row in rows])

    def _moved(self, rows: Sequence[PlannedRow], known: Sequence[KnownRow]) -> Mapping[str, LedgerEntry]:
        """Return the entries of rows that an earlier run may have moved aside for a newer one."""
        keys = [
            duplicate_key(row.file.key, row.file.name)
            for row, facts in zip(rows, known, strict=True)
            if facts.entry is not None and facts.entry.name != row.file.name
        ]
        return self.context.ledger.look_up(keys) if keys else {}

    def _decide(
        self, row: PlannedRow, states: Mapping[str, FileState | Exception | None], free: int | None
    ) -> tuple[PlannedRow, Decision, bool]:
        """Decide about one row; what lies under its final name may be a reason to reject it."""
        state = states.get(row.path)
        if isinstance(state, Exception):
            if row.entry is not None:
                row = attrs.evolve(row, rejected=as_error(state, file=row.key))
            known = None
        else:
            known = state if row.entry is not None else None
        if row.rejected is not None:
            return row, Decision(Action.FETCH), False
        decision = decide(row.file, row.entry, known, path=row.path, ask_again=self.ask_again)
        partials = self.context.partials
        if self.dry and decision.action is Action.FETCH and partials.find(row.key) is not None:
            decision = Decision(Action.RESUME)
        clear = is_clear(row, state, free=free, resumable=partials.may_resume(row.key))
        return row, decision, clear

    def _write_skips(self, planned: Sequence[tuple[PlannedRow, Decision, bool]]) -> None:
        """Remember what will never be delivered according to the listing itself, in one transaction."""
        now = self.context.clock.now()
        entries = [
            LedgerEntry(
                key=row.key, state="skipped", change=row.file.change, name=row.file.name, reason=decision.reason, at=now
            )
            for row, decision, _ in planned
            if decision.action is Action.SKIP and (row.entry is None or row.entry.state != "skipped")
        ]
        if entries and not self.dry:
            self.context.ledger.write(entries)
