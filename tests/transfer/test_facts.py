"""What cannot change any more at a service: kept in the ledger, found again, and never in the way."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from arena_async.transfer.ledger import MemoryLedger, SqliteLedger


async def test_facts_are_kept_from_one_process_to_the_next(tmp_path: Path) -> None:
    """Known ones come back, unknown ones are missing, and a later word replaces an earlier one."""
    path = tmp_path / "ledger.sqlite"
    ledger = await SqliteLedger.open(path)
    await ledger.keep({"a": "1", "b": "2"})
    await ledger.keep({"b": "3"})
    await ledger.aclose()

    again = await SqliteLedger.open(path)
    try:
        assert await again.recall(["a", "b", "c"]) == {"a": "1", "b": "3"}
        assert await again.recall([]) == {}
    finally:
        await again.aclose()


async def test_more_facts_than_one_statement_takes_are_found(tmp_path: Path) -> None:
    """They are looked up in pages."""
    ledger = await SqliteLedger.open(tmp_path / "ledger.sqlite")
    facts = {f"key {number}": str(number) for number in range(1500)}
    try:
        await ledger.keep(facts)
        assert await ledger.recall([*facts, "other"]) == facts
    finally:
        await ledger.aclose()


async def test_a_ledger_without_memory_knows_nothing() -> None:
    """Whatever it is told."""
    ledger = await MemoryLedger.open()
    try:
        await ledger.keep({"a": "1"})
        assert await ledger.recall(["a"]) == {}
    finally:
        await ledger.aclose()


@pytest.mark.parametrize("version", [2])
async def test_a_ledger_of_the_layout_before_gets_room_for_facts(tmp_path: Path, version: int) -> None:
    """And keeps what it knows."""
    path = tmp_path / "ledger.sqlite"
    ledger = await SqliteLedger.open(path)
    await ledger.set_watermark("scope", None)
    await ledger.aclose()
    connection = sqlite3.connect(path)
    connection.executescript(f"DROP TABLE facts; PRAGMA user_version = {version}")
    connection.close()

    again = await SqliteLedger.open(path)
    try:
        await again.keep({"a": "1"})
        assert await again.recall(["a"]) == {"a": "1"}
    finally:
        await again.aclose()
    assert again.set_aside is None
