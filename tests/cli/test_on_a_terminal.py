"""What a terminal shows: nothing but what is meant, at any width."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from command_line import COMMAND, environment
from terminal import run_on_terminal

from arena_async.testing import ArenaSimulator, CentrePointSimulator, faults

pytestmark = pytest.mark.process


@pytest.mark.parametrize(("columns", "rows"), [(40, 10), (120, 40)])
async def test_a_sync_redraws_its_lines_and_leaves_the_summary(columns: int, rows: int, tmp_path: Path) -> None:
    """While it runs, files under way are drawn; in the end the screen has the summary and the cursor, nothing else."""
    async with ArenaSimulator(files=10, size=200_000) as arena:
        arena.inject(faults.trickle(bytes_per_second=300_000), on="GET */content", times=3)
        words = (*COMMAND, "sync", "arena", "extracts", "--to", "out")
        env = environment(arena, PWD=str(tmp_path))
        seen = await run_on_terminal(words, environment=env, columns=columns, rows=rows, cwd=tmp_path)

    assert seen.code == 0
    assert seen.screen.strange == []
    assert not seen.screen.cursor_hidden
    assert re.search(r"\d done  \d open  [\d.]+ [kM]?B  [\d.]+ [kM]?B/s", seen.raw)
    assert ".zip" in seen.raw
    assert seen.screen.text() == ["10 fetched  (2.0 MB, 12 requests)", "10 files in out"]
    assert seen.screen.wrapped == 0


async def test_without_colours_there_are_none(tmp_path: Path) -> None:
    """NO_COLOR is honoured; redrawing is not colour."""
    async with ArenaSimulator() as arena:
        env = environment(arena, NO_COLOR="1")
        words = (*COMMAND, "demo", "--to", "demo")
        seen = await run_on_terminal(words, environment=env, columns=100, rows=30, cwd=tmp_path)

    assert seen.code == 0
    assert re.findall(r"\x1b\[[0-9;]*[1-9][0-9;]*m", seen.raw) == []


async def test_a_dumb_terminal_gets_plain_lines(tmp_path: Path) -> None:
    """Where lines cannot be redrawn, there is one per file and no control sequence at all."""
    async with ArenaSimulator(files=3) as arena:
        env = environment(arena, TERM="dumb")
        words = (*COMMAND, "sync", "arena", "extracts", "--to", "out")
        seen = await run_on_terminal(words, environment=env, columns=80, rows=24, cwd=tmp_path)

    assert "\x1b" not in seen.raw
    assert seen.raw.count("fetched  arena/extracts/") == 3


async def test_a_failure_stays_on_the_screen_above_the_summary(tmp_path: Path) -> None:
    """Complaints are written above the lines that are redrawn, and nothing overwrites them."""
    async with ArenaSimulator(files=4, size=200_000) as arena:
        arena.inject(faults.status(404, body='{"status": 404, "errors": []}'), on="GET */content")
        arena.inject(faults.trickle(bytes_per_second=400_000), on="GET */content", times=3)
        words = (*COMMAND, "sync", "arena", "extracts", "--to", "out")
        seen = await run_on_terminal(words, environment=environment(arena), columns=100, rows=24, cwd=tmp_path)

    text = seen.screen.text()
    assert seen.code == 3
    assert text[0].startswith("arena-async: ")
    assert text[-2].startswith("3 fetched, 1 failed  (")
    assert text[-1] == "3 files in out"


async def test_an_interrupted_command_gives_the_cursor_back(tmp_path: Path) -> None:
    """Ctrl-C in the middle of a drawing leaves a usable terminal."""
    async with ArenaSimulator(files=4) as arena:
        arena.inject(faults.stall(after_bytes=100), on="GET */content", times=None)
        words = (*COMMAND, "sync", "arena", "extracts", "--to", "out")
        seen = await run_on_terminal(
            words, environment=environment(arena), columns=80, rows=24, cwd=tmp_path, type_after=(b"\x03", "B/s")
        )

    assert seen.code == 130
    assert not seen.screen.cursor_hidden
    assert "".join(seen.screen.text()).endswith("arena-async sync arena extracts --to out")


async def test_a_listing_is_aligned_under_its_heading(tmp_path: Path) -> None:
    """A person sees columns with names."""
    async with ArenaSimulator(files=2) as arena:
        words = (*COMMAND, "list", "arena", "extracts", arena.extract)
        seen = await run_on_terminal(words, environment=environment(arena), columns=120, rows=24, cwd=tmp_path)

    text = seen.screen.text()
    assert text[0].split() == ["guid", "status", "completed"]
    assert len(text) == 3
    assert len({line.upper().index("COMPLETED") for line in text[1:]}) == 1


async def test_a_table_has_the_rows_that_came_before_an_error(tmp_path: Path) -> None:
    """The list of subjects counts one that it lacks: the others are shown, and then what is wrong."""
    async with CentrePointSimulator(subjects=3) as centrepoint:
        centrepoint.inject(faults.lose_rows(at=2), on="GET */subjects")
        words = (*COMMAND, "list", "centrepoint", "subjects", str(centrepoint.study))
        seen = await run_on_terminal(words, environment=environment(centrepoint), columns=400, rows=20, cwd=tmp_path)

    lines = seen.screen.text()
    assert seen.code == 1
    assert [line.split()[0] for line in lines[1:3]] == ["10821", "10822"]
    assert "2 of 3 rows" in lines[3]
