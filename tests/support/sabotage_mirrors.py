"""How the protections of the rows about mirrors and their listings are removed."""

from __future__ import annotations

from typing import Any

from sabotage import Patch, protection


@protection("a list that was never walked is walked whole")
def _(patch: Patch) -> None:
    def newest_of_all(self: Any, _: str) -> Any:
        return max(self._watermarks.values(), default=None)

    patch.replace("arena_async.providers.arena.zip_files:ZipFiles._since", newest_of_all)


@protection("a subject of which no file was listed is listed")
def _(patch: Patch) -> None:
    patch.replace("arena_async.providers.centrepoint.datasets:Changes._is_new", lambda *_: False)


@protection("a large share is not removed unless that is meant")
def _(patch: Patch) -> None:
    patch.replace("arena_async.transfer.planner:is_too_many_gone", lambda *_: False)


@protection("only the number of the service proves that a file is gone")
def _(patch: Patch) -> None:
    patch.replace("arena_async.providers.arena.files:_NOT_FOUND", frozenset({3011, 3012, None}))


@protection("a run that is listed without its files is not gone")
def _(patch: Patch) -> None:
    patch.replace("arena_async.providers.arena.files:RunFiles.is_expired", lambda *_: False)


class _Apart:
    """A listing of changes as a query of its own."""

    def __init__(self, files: Any) -> None:
        self._files = files
        self.scope = f"{files.scope} (changes)"

    def __getattr__(self, name: str) -> Any:
        return getattr(self._files, name)


@protection("a listing of changes is one of its query")
def _(patch: Patch) -> None:
    planner = patch.current("arena_async.transfer.downloader:PagePlanner")

    def apart(files: Any, *rest: Any) -> Any:
        return planner(_Apart(files) if files.narrowed else files, *rest)

    patch.replace("arena_async.transfer.downloader:PagePlanner", apart)


@protection("an older row waits for the version that is here")
def _(patch: Patch) -> None:
    patch.replace("arena_async.transfer.duplicates:Duplicates._waits", lambda *_: False)


@protection("a file that is moved is known under both names until it is there")
def _(patch: Patch) -> None:
    finish = patch.current("arena_async.transfer.commit:_finish")

    def forgetful(partials: Any, entry: Any, **how: Any) -> Any:
        return "gone" if entry.partial.startswith("/") else finish(partials, entry, **how)

    patch.replace("arena_async.transfer.commit:_finish", forgetful)


@protection("a listing lowers no number that a newer one wrote")
def _(patch: Patch) -> None:
    note = patch.current("arena_async.transfer.ledger_listing:note_listed")

    def own_number(db: Any, scope: str, generation: int, rows: Any) -> Any:
        known = note(db, scope, generation, rows)
        db.executemany("UPDATE seen SET generation = ? WHERE key = ?", [(generation, row.key) for row in rows])
        return known

    patch.replace("arena_async.transfer.ledger_listing:note_listed", own_number)


@protection("what verify found is written about the row that it read")
def _(patch: Patch) -> None:
    def whichever(self: Any, times: Any) -> None:
        rows = [(mtime_ns, entry.key) for entry, mtime_ns in times]
        self._run(lambda db: db.executemany("UPDATE files SET mtime_ns = ? WHERE key = ?", rows))

    patch.replace("arena_async.transfer.ledger:Ledger.retime", whichever)
