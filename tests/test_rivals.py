"""The rivals table can tell harm from none: the loop of the tutorials and we are judged, without the network."""

from __future__ import annotations

import asyncio
import importlib
import re
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.process

ROOT = Path(__file__).parents[1]


@pytest.fixture
def rivals(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the modules of the benchmark, which stand beside the package."""
    monkeypatch.syspath_prepend(ROOT)
    importlib.import_module("benchmarks.rivals.rows")
    return importlib.import_module("benchmarks.rivals.runner"), importlib.import_module("benchmarks.rivals.report")


def field_of(runner: Any, *names: str) -> Any:
    """Line some contenders up that this environment has."""
    contenders = [runner.Contender(name=name, title=name, python=sys.executable) for name in names]
    return runner.Field(contenders=tuple(contenders), versions={"loop": "1"}, ours={"arena-async": "1"})


async def test_the_same_faults_harm_the_loop_and_not_us(rivals: Any, tmp_path: Path) -> None:
    """Wrong bytes, a secret sent elsewhere, text as a file: each is seen with the loop, and with us it is not."""
    runner, report = rivals
    names = ("TR18", "TR44", "TR46", "TR58", "TR60", "ST26", "NM01", "CC30")
    rows = [row for row in sys.modules["benchmarks.rivals.rows"].ROWS if row.id in names]
    field = field_of(runner, "loop", "arena_async")

    async with asyncio.timeout(60):
        played = await runner.play(rows, field, tmp_path)

    marks = {(row.id, contender.name): str(result.mark) for row, contender, result in played}
    assert marks == {
        ("TR18", "loop"): "NO",
        ("TR18", "arena_async"): "yes",
        ("TR44", "loop"): "NO",
        ("TR44", "arena_async"): "yes",
        ("TR46", "loop"): "NO",
        ("TR46", "arena_async"): "yes",
        ("TR58", "loop"): "NO",
        ("TR58", "arena_async"): "yes",
        ("TR60", "loop"): "NO",
        ("TR60", "arena_async"): "yes",
        ("ST26", "loop"): "-",
        ("ST26", "arena_async"): "yes",
        ("NM01", "loop"): "-",
        ("NM01", "arena_async"): "yes",
        ("CC30", "loop"): "NO",
        ("CC30", "arena_async"): "yes",
    }
    page = report.as_page(played, field)
    assert "| TR46 | a captive portal | **NO** | yes |" in page
    assert "| loop | NO | wrong bytes: 87 of 400,053 bytes under the final name, reported as downloaded |" in page


def test_a_claim_that_does_not_hold_is_taken_back(rivals: Any) -> None:
    """Who was said to fail a row and does not stands on the page with that row."""
    runner, report = rivals
    judging = sys.modules["benchmarks.rivals.judging"]
    (row,) = (row for row in sys.modules["benchmarks.rivals.rows"].ROWS if row.id == "TR33")
    field = field_of(runner, "parfive", "pypdl", "pooch")
    marks = [judging.Mark.YES, judging.Mark.YES, judging.Mark.GIVES_UP]
    played = [
        (row, contender, judging.VerificationResult(mark, "as made up"))
        for contender, mark in zip(field.contenders, marks, strict=True)
    ]

    assert report.withdrawn(played) == ["TR33 (503, once): parfive failed before, and does not fail any more."]
    assert "* TR33 (503, once): parfive failed before, and does not fail any more." in report.as_page(played, field)


def test_the_page_in_the_documentation_is_of_these_rows(rivals: Any) -> None:
    """Every row stands in docs/rivals.md, and we survive each."""
    page = (ROOT / "docs" / "rivals.md").read_text(encoding="utf-8")

    shown = re.findall(r"^\| ([A-Z]{2}\d\d) \|.*\| ([^|]+) \|$", page, re.MULTILINE)

    assert shown == [(row.id, "yes") for row in sys.modules["benchmarks.rivals.rows"].ROWS]
