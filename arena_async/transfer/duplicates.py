"""
Which of several rows of one key has the plain path. Pure.

::

    Duplicates.settle(rows, known)    which row of a page gets which path and key
    Duplicates.settle_held()          the same at the end of the listing, for rows that waited for a newer one
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter

import attrs

from arena_async.errors import DestinationBusyError
from arena_async.protocol.filenames import duplicate_key, duplicate_path
from arena_async.protocol.messages import printable
from arena_async.transfer.models import KnownRow, LedgerEntry, ListingRecord
from arena_async.transfer.planner import PlannedRow, Rank

__all__ = ["Duplicates", "is_newer"]

#: Keys whose rows may wait for the end of a listing; further ones are decided on at once.
_MAX_HELD = 4096


def is_newer(change: str, name: str, *, than: Rank) -> bool:
    """Return whether one of two listed rows of a key is the newer one, by change mark and then by the vendor's name."""
    return (change, name) > than


@attrs.define
class Duplicates:
    """
    The rows of one key in a listing: the newest has the plain path, the others a path with a mark of the vendor's name.

    Rows come in any order, over many pages. Until the end of the listing the newest is the newest so far, the version
    that is here included: older rows do not take its path, since it may come on a later page. A newer one takes it; the
    file that is there is moved aside when the newer one is committed, where it is known that the key has several rows.

    Args:
        remembers: Whether complete files are known, so that they can be moved.

    Attributes:
        newest: The newest row of each key that came more than once, or that is here and was not listed yet.
        expected: Keys of which a newer version is here than was listed yet, with the newest row that was put aside.
        held: Rows of keys of which a newer version is here and no other row is known: a service may also have gone back
            to an older one. They are decided on when the newer one comes, or at the end.
        vacated: Rows whose files are moved aside for newer ones, so that they are not fetched once more.
        evicted: Names of older rows that came on an earlier page and cannot be moved, by key: they are looked up at the
            end of the listing.
        repeated: Rows that only repeat another.
    """

    remembers: bool = True
    newest: dict[str, Rank] = attrs.field(factory=dict)
    expected: dict[str, Rank] = attrs.field(factory=dict)
    held: dict[str, list[PlannedRow]] = attrs.field(factory=dict)
    vacated: list[ListingRecord] = attrs.field(factory=list)
    evicted: dict[str, set[str]] = attrs.field(factory=dict)
    repeated: int = 0

    def settle(
        self, rows: Sequence[PlannedRow], known: Sequence[KnownRow]
    ) -> tuple[dict[str, PlannedRow], list[PlannedRow]]:
        """
        Return the rows of a page that have their plain path, by key, and those that are moved aside.

        Args:
            rows: As :func:`new_row` made them.
            known: What the ledger knows about each.
        """
        settled: dict[str, PlannedRow] = {}
        aside: list[PlannedRow] = []
        for listed, facts in zip(rows, known, strict=True):
            row, entry = listed, facts.entry
            if entry is not None:
                row = attrs.evolve(listed, entry=entry, several=facts.several)
            if facts.earlier is not None:
                self._settle_again(row, facts, settled, aside)
            elif entry is not None and entry.name != row.file.name and self._waits(row, entry, aside):
                continue
            else:
                settled[row.key] = row if facts.conflict is None else unless_taken(row, facts)
        return settled, aside

    def _waits(self, row: PlannedRow, entry: LedgerEntry, aside: list[PlannedRow]) -> bool:
        """Take the first row of a key of which another version is here; False where it gets the plain path at once."""
        here = entry.change, entry.name
        if entry.state == "skipped" or not (row.several or is_newer(*here, than=row.rank)):
            return False
        if is_newer(*row.rank, than=here):
            self._vacate(row, here)
            return False
        if not row.several and len(self.held) >= _MAX_HELD:
            return False
        self.newest[row.key] = here
        self.expected[row.key] = row.rank
        if row.several:
            aside.append(row.as_duplicate())
        else:
            self.held[row.key] = [row]
        return True

    def _settle_again(
        self, row: PlannedRow, facts: KnownRow, settled: dict[str, PlannedRow], aside: list[PlannedRow]
    ) -> None:
        """Settle a row whose key this listing has delivered before."""
        key, earlier = row.key, facts.earlier
        holder = self.newest.get(key, (earlier.change, earlier.name) if earlier is not None else ("", ""))
        held = self.held.get(key, [])
        if key in self.expected and not is_newer(*holder, than=row.rank):
            # The version that is here, or a newer one: what waited for it is older.
            aside += [one.as_duplicate() for one in self.held.pop(key, [])]
            del self.expected[key]
            if row.rank != holder:
                self.newest[key] = row.rank
                self._vacate(row, holder)
            settled[key] = unless_taken(attrs.evolve(row, several=True), facts)
        elif row.rank == holder or any(one.rank == row.rank for one in held):
            self.repeated += 1
        elif not is_newer(*row.rank, than=holder):
            self.newest[key] = holder
            if key in self.expected:
                self.expected[key] = max(row.rank, self.expected[key])
            if held:
                held.append(row)
            else:
                self._put_aside(row, settled, aside)
        else:
            self.newest[key] = row.rank
            self._replace(row, holder, settled, aside)
            settled[key] = unless_taken(attrs.evolve(row, several=True), facts)

    def _put_aside(self, row: PlannedRow, settled: dict[str, PlannedRow], aside: list[PlannedRow]) -> None:
        """Put a row aside; one that is at the plain path is moved when the newer one of the same page is committed."""
        newer, entry = settled.get(row.key), row.entry
        if newer is None or entry is None or (entry.change, entry.name) != row.rank:
            aside.append(row.as_duplicate())
            return
        settled[row.key] = attrs.evolve(newer, several=True)
        self._vacate(row, row.rank)
        settled[self.vacated[-1].key] = row

    def _replace(self, row: PlannedRow, holder: Rank, settled: dict[str, PlannedRow], aside: list[PlannedRow]) -> None:
        """Let a newer row take the plain path from an older one that this listing has delivered."""
        before = settled.get(row.key)
        entry = None if before is None else before.entry
        if before is not None and (entry is None or (entry.change, entry.name) != before.rank):
            aside.append(before.as_duplicate())
        elif self.remembers:
            self._vacate(row, holder)
            if before is not None:
                # It is here, so it is decided on where it is, before it is moved.
                settled[self.vacated[-1].key] = before
        else:
            self.evicted.setdefault(row.key, set()).add(holder[1])

    def _vacate(self, row: PlannedRow, older: Rank) -> None:
        """Note that the file of an older row is moved aside for a row."""
        change, name = older
        path = duplicate_path(row.path, name, row.file.extension) if row.path else ""
        self.vacated.append(ListingRecord(duplicate_key(row.key, name), name, change, path))

    def settle_held(self) -> tuple[dict[str, PlannedRow], list[PlannedRow]]:
        """Return the rows that waited for a newer one that did not come, as :meth:`settle` does."""
        settled: dict[str, PlannedRow] = {}
        aside: list[PlannedRow] = []
        for key, rows in self.held.items():
            *older, newest = sorted(rows, key=attrgetter("rank"))
            settled[key] = newest
            aside += [row.as_duplicate() for row in older]
            del self.expected[key]
        self.held.clear()
        return settled, aside

    def add_aside(
        self, settled: dict[str, PlannedRow], aside: Sequence[PlannedRow], known: Sequence[KnownRow]
    ) -> list[PlannedRow]:
        """Return all rows of a page in order, those that were moved aside included unless they only repeat another."""
        for row, facts in zip(aside, known, strict=True):
            if facts.earlier is not None:
                self.repeated += 1
            else:
                settled[row.key] = unless_taken(attrs.evolve(row, entry=facts.entry), facts)
        return sorted(settled.values(), key=attrgetter("number"))


def unless_taken(row: PlannedRow, facts: KnownRow) -> PlannedRow:
    """Return the row, rejected if another key of this listing has its path."""
    if facts.conflict is None or row.rejected is not None:
        return row
    error = DestinationBusyError(
        f"{printable(row.path)}: {printable(facts.conflict)} of the same listing goes there already, so "
        f"{printable(row.key)} was not fetched. Use a layout with more identifying fields.",
        file=row.key,
    )
    return attrs.evolve(row, rejected=error)
