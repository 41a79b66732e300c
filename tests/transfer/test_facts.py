"""What cannot change any more at a service: kept in the ledger, found again, and never in the way."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from directory_bench import Bench, leave_old_ledger
from filesets import MemoryFiles

from arena_async import RemoteFile


class Recaller(MemoryFiles):
    """A set that lists nothing, looks for some facts and keeps others."""

    def __init__(self, look_for: list[str], keep: dict[str, str]) -> None:
        super().__init__(self._list, {})
        self.look_for, self.keep = look_for, keep
        self.facts: Any = None
        self.found_facts: dict[str, str] = {}

    def recalling(self, facts: Any) -> Recaller:
        """Be told where facts are kept."""
        self.facts = facts
        return self

    async def _list(self) -> AsyncIterator[RemoteFile]:
        self.found_facts = await self.facts.recall(self.look_for)
        await self.facts.keep(self.keep)
        for row in ():
            yield row


async def recall(bench: Bench, *look_for: str, **keep: str) -> dict[str, str]:
    """Sync once, and return what was known."""
    files = Recaller(list(look_for), keep)
    await bench.sync(files)
    return files.found_facts


async def test_facts_are_kept_from_one_process_to_the_next(tmp_path: Path) -> None:
    """Known ones come back, unknown ones are missing, and a later word replaces an earlier one."""
    bench = Bench(tmp_path)
    await recall(bench, a="1", b="2")
    await recall(bench, b="3")

    assert await recall(bench, "a", "b", "c") == {"a": "1", "b": "3"}
    assert await recall(bench) == {}


async def test_more_facts_than_one_statement_takes_are_found(tmp_path: Path) -> None:
    """They are looked up in pages."""
    bench = Bench(tmp_path)
    facts = {f"key {number}": str(number) for number in range(1500)}
    await recall(bench, **facts)

    assert await recall(bench, *facts, "other") == facts


@pytest.mark.parametrize("version", [2])
async def test_a_ledger_of_the_layout_before_gets_room_for_facts(tmp_path: Path, version: int) -> None:
    """And keeps what it knows."""
    jobs = "CREATE TABLE jobs (key TEXT PRIMARY KEY, state TEXT NOT NULL, run TEXT NOT NULL, began TEXT, took REAL)"
    leave_old_ledger(tmp_path, f"{jobs} WITHOUT ROWID", f"PRAGMA user_version = {version}")
    bench = Bench(tmp_path)

    await recall(bench, a="1")

    assert await recall(bench, "a") == {"a": "1"}
    assert not list((tmp_path / ".arena-async").glob("*.damaged*"))
