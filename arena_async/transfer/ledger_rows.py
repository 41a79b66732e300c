"""
The rows of the ledger as values. What this library cannot have written counts as unknown.

The state of a directory is not trusted: others may have written it, or a copy of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Any, get_args

import attrs

from arena_async.protocol.filenames import is_below_root
from arena_async.transfer.ledger_schema import LedgerConnection, decoded
from arena_async.transfer.models import PAGE, LedgerEntry, Proof, RunState, StartedRun, State, is_partial_name

__all__ = [
    "COLUMNS",
    "FIELDS",
    "load_entries",
    "load_run",
    "load_time",
    "look_up",
    "microseconds",
    "page_of",
    "select",
    "values_of",
]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

FIELDS = tuple([field.name for field in attrs.fields(LedgerEntry)])
COLUMNS = ", ".join(FIELDS)
#: All fields but the time, which is stored as a number.
values_of = attrgetter(*FIELDS[:-1])

_LOOK_UP = f"SELECT {COLUMNS} FROM files WHERE key IN (%s)"  # noqa: S608 - our own column names


def load_time(value: object) -> datetime | None:
    """Return a stored time (aware), or None for one that cannot be read or that nothing can be computed with."""
    try:
        # A ledger that was made before times were numbers keeps them as text.
        if isinstance(value, int) or str(value).isdigit():
            at = _EPOCH + timedelta(microseconds=int(str(value)))
        else:
            at = datetime.fromisoformat(str(value))
    except (ValueError, OverflowError):
        return None
    return at if at.tzinfo is not None and 1970 <= at.year < 9000 else None


def microseconds(at: datetime | None) -> int | None:
    """Return a time as a row of a file has it, in 8 bytes: the microseconds since 1970."""
    return None if at is None else (at - _EPOCH) // timedelta(microseconds=1)


def load_entries(rows: Iterable[tuple[Any, ...]]) -> Iterator[LedgerEntry]:
    """Yield the entries of rows; one that this library cannot have written counts as unknown."""
    for row in rows:
        if _is_ours(dict(zip(FIELDS, row, strict=True))):
            fields = dict(zip(FIELDS, map(decoded, row), strict=True))
            yield LedgerEntry(**{**fields, "at": load_time(fields["at"])})


def load_run(row: tuple[Any, ...]) -> StartedRun | None:
    """Read a row; one that this library cannot have written counts as unknown."""
    key, state, run, began, took = map(decoded, row)
    if state not in get_args(RunState) or not (took is None or (isinstance(took, float | int) and 0 <= took < 1e9)):
        return None
    return StartedRun(key=key, state=state, run=str(run), began=load_time(began), took=took)


def _is_ours(fields: Mapping[str, Any]) -> bool:
    """
    Return whether a row may be ours. Its names are checked like those of a server: others may have written it.

    Its values are as stored: bytes that stand for text are not, and would come behind every key.
    """
    texts = (fields["key"], fields["path"], fields["change"], fields["name"], fields["partial"], fields["reason"])
    if fields["state"] not in get_args(State) or fields["verified_by"] not in get_args(Proof):
        return False
    if not all(isinstance(text, str) for text in texts) or type(fields["size"]) is not int or fields["size"] < 0:
        return False
    if not all(isinstance(digest, bytes | str | None) for digest in (fields["sha256"], fields["md5"])):
        return False
    placed = is_below_root(fields["path"]) or (not fields["path"] and fields["state"] == "skipped")
    return placed and type(fields["mtime_ns"]) is int and _is_origin(fields["partial"], fields["state"])


def _is_origin(partial: str, state: State) -> bool:
    """Return whether a row may name a file to be renamed: a partial file, or a slash and a path below the root."""
    moved = partial.startswith("/") and state == "committing" and is_below_root(partial[1:])
    return moved or not partial or is_partial_name(partial)


def select(db: LedgerConnection, query: str, keys: Sequence[str], *values: object) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of a query for some keys, which are bound behind the other values, a page at a time."""
    for start in range(0, len(keys), PAGE):
        page = keys[start : start + PAGE]
        yield from db.execute(query % ", ".join("?" * len(page)), (*values, *page))


def look_up(db: LedgerConnection, keys: Sequence[str]) -> dict[str, LedgerEntry]:
    """Return the entries of some keys; unknown ones are missing."""
    return {entry.key: entry for entry in load_entries(select(db, _LOOK_UP, keys))}


def page_of(db: LedgerConnection, query: str, after: str, *values: object) -> list[LedgerEntry]:
    """Return the entries of a page of rows by key; where none of a page is ours, those of a later one."""
    while rows := db.execute(query, (after, *values)).fetchall():
        if found := list(load_entries(rows)):
            return found
        after = rows[-1][0]
    return []
