"""Listings in the ledger: their numbers, and what they have delivered."""

from __future__ import annotations

from collections.abc import Sequence

from arena_async.protocol.filenames import duplicate_key, fold
from arena_async.transfer import ledger_schema
from arena_async.transfer.ledger_rows import look_up, select
from arena_async.transfer.ledger_schema import ForeignLedgerError, LedgerConnection, decoded
from arena_async.transfer.models import KnownRow, ListingRecord

__all__ = ["begin_listing", "note_listed"]


def _has_several(db: LedgerConnection, key: str) -> bool:
    return bool(
        db.execute(ledger_schema.HAS_SEVERAL, (f"{key}~", f"{key}~g", len(duplicate_key(key, "")))).fetchone()[0]
    )


def begin_listing(db: LedgerConnection, scope: str) -> int:
    """Begin a listing of a scope and return its number."""
    db.execute(ledger_schema.BEGIN_LISTING, (scope,))
    (odd,) = db.execute(ledger_schema.COUNT_ODD_SCOPES).fetchone()
    if odd:
        raise ForeignLedgerError("it numbers its listings as no ledger does")
    (generation,) = db.execute("SELECT generation FROM scopes WHERE scope = ?", (scope,)).fetchone()
    return int(generation)


def note_listed(db: LedgerConnection, scope: str, generation: int, rows: Sequence[ListingRecord]) -> list[KnownRow]:
    """Note a page of a listing and return what is known about each row, in order."""
    entries = look_up(db, [row.key for row in rows])
    folded = [fold(row.path) for row in rows]
    # What this listing has delivered so far: the first row of each key, and the key of each path.
    found = select(db, ledger_schema.LISTED_BY_KEY, [row.key for row in rows], scope, generation)
    earlier = {record.key: record for record in (ListingRecord(*map(decoded, row)) for row in found)}
    found = select(db, ledger_schema.LISTED_BY_PATH, [path for path in folded if path], scope, generation)
    owners = {decoded(path): decoded(key) for path, key in found}
    fresh, known = [], []
    for row, path in zip(rows, folded, strict=True):
        owner = owners.get(path) if path else None
        entry = entries.get(row.key)
        several = entry is not None and entry.name != row.name and _has_several(db, row.key)
        known.append(KnownRow(entry, earlier.get(row.key), owner if owner != row.key else None, several))
        if row.key not in earlier:
            earlier[row.key] = row
            fresh.append((scope, generation, row.key, row.name, row.change, row.path, path))
            owners.setdefault(path, row.key)
    db.executemany(ledger_schema.INSERT_LISTED, fresh)
    # What is delivered now is there for every listing that has begun by now: an older one lowers no newer number.
    of_scope = db.execute(ledger_schema.SCOPE, (scope,)).fetchone()
    if of_scope is None:
        of_scope = db.execute(ledger_schema.NEW_SCOPE, (scope, generation)).lastrowid, generation
    db.executemany(ledger_schema.UPSERT_SEEN, [(of_scope[0], row[2], of_scope[1]) for row in fresh])
    return known
