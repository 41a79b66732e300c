# ruff: noqa: S608 - every value is bound; what is put into a statement is our own column names and placeholders.
"""
The refusals in the ledger: which file failed for good, for which account, and when it is due again.

There is one row for each query that lists the file: a query that filters on the time of a change lists all while
something of it is due.
"""

from __future__ import annotations

import hashlib
import secrets
import sqlite3
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, get_args

from arena_async.transfer.ledger_rows import load_time, microseconds
from arena_async.transfer.ledger_schema import decoded
from arena_async.transfer.refusals import WEEK, Refusal, RefusalKind, renewed

__all__ = ["ACCEPTED", "PROBES", "UNLISTED", "UNSETTLED", "find", "query", "refuse"]

#: The cached fact that holds the salt of the hashes of accounts.
_SALT = "arena_async/salt"

_COLUMNS = "key, account, kind, run, change, reason, since, tries, again"

_FIND = (
    f"SELECT {_COLUMNS}, max(scope = ?) FROM refusals WHERE account IN (?, '') AND key IN (%s) GROUP BY key, account"
)

_INSERT = f"INSERT OR IGNORE INTO refusals ({_COLUMNS}, scope) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"

_UPDATE = """
UPDATE refusals SET kind = ?, run = ?, change = ?, reason = ?, since = ?, tries = ?, again = ?
WHERE key = ? AND account = ?
"""

ACCEPTED = "DELETE FROM refusals WHERE key = ?"

UNLISTED = """
DELETE FROM refusals WHERE scope = :scope AND NOT EXISTS (
    SELECT 1 FROM seen s WHERE s.scope = (SELECT id FROM scopes WHERE scope = :scope) AND s.key = refusals.key
        AND s.generation >= :generation
)
"""

# Of each refused run of which no file was requested lately, the file that was not requested for the longest time.
PROBES = """
SELECT run, key, min(again) FROM refusals
WHERE account = :account AND kind = 'denied' AND run NOT IN (
    SELECT run FROM refusals WHERE account = :account AND kind = 'denied' AND again > :now AND again <= :far
) GROUP BY run
"""

# What a query lists and this account may get: it is due, or only other accounts have met it.
UNSETTLED = """
SELECT 1 FROM refusals r WHERE r.scope = :scope AND r.kind <> 'damaged' AND CASE r.account
    WHEN :account THEN r.again <= :now OR r.again > :far
    ELSE NOT EXISTS (SELECT 1 FROM refusals own WHERE own.key = r.key AND own.account = :account) END
LIMIT 1
"""


def _hashed(db: sqlite3.Connection, account: str) -> str:
    """Return what stands for an account in this ledger; the salt keeps it from being guessed and compared."""
    if not account:
        return ""
    db.execute("INSERT OR IGNORE INTO facts (key, fact) VALUES (?, ?)", (_SALT, secrets.token_hex(16)))
    ((salt,),) = db.execute("SELECT fact FROM facts WHERE key = ?", (_SALT,)).fetchall()
    digest = hashlib.blake2b(account.encode("utf-8", "surrogatepass"), key=str(salt).encode()[:64], digest_size=16)
    return digest.hexdigest()


def find(db: sqlite3.Connection, keys: Sequence[str], account: str, scope: str) -> dict[str, Refusal]:
    """Return what is remembered about at most a page of keys that a query lists, for an account or for all of them."""
    found: dict[str, Refusal] = {}
    fresh = []
    statement = _FIND % ", ".join("?" * len(keys))
    for *row, noted in db.execute(statement, (scope, _hashed(db, account), *keys)).fetchall():
        if not noted:
            fresh.append((*row, scope))
        key, _, kind, run, change, reason, since, tries, again = map(decoded, row)
        begun, due = load_time(since), load_time(again)
        # A row that this library cannot have written counts as none; a damaged file is damaged for every account.
        known = kind in get_args(RefusalKind) and isinstance(tries, int) and begun is not None and due is not None
        if known and begun and due and (key not in found or kind == "damaged"):
            found[key] = Refusal(
                key=key, kind=kind, group=run, change=change, reason=reason, since=begun, tries=tries, again=due
            )
    if fresh:
        db.executemany(_INSERT, fresh)
    return found


def refuse(db: sqlite3.Connection, refusal: Refusal, account: str, scope: str, now: datetime) -> None:
    """Write down that a file failed."""
    account = "" if refusal.kind == "damaged" else account
    row = renewed(refusal, find(db, [refusal.key], account, scope).get(refusal.key), now=now)
    values = (row.kind, row.group, row.change, row.reason, microseconds(row.since), row.tries, microseconds(row.again))
    whose = (row.key, _hashed(db, account))
    db.execute(_UPDATE, (*values, *whose))
    db.execute(_INSERT, (*whose, *values, scope))


def query(db: sqlite3.Connection, statement: str, account: str, now: datetime, values: Mapping[str, str]) -> list[Any]:
    """Return the rows of a statement about the refusals of an account."""
    times = {"now": microseconds(now), "far": microseconds(now + WEEK)}
    rows = db.execute(statement, {"account": _hashed(db, account), **times, **values}).fetchall()
    return [tuple(map(decoded, row)) for row in rows]
