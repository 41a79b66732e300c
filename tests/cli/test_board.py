"""What a running transfer looks like, drawn without any terminal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from arena_async.cli.output import show_count, show_size
from arena_async.cli.progress import Board, fit


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        (None, "-"),
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (1419, "1.4 kB"),
        (99_949, "99.9 kB"),
        (99_950, "100 kB"),
        (999_499, "999 kB"),
        (999_500, "1.0 MB"),
        (199_292_255, "199 MB"),
        (5_000_000_000_000, "5.0 TB"),
    ],
)
def test_a_size_is_written_in_three_digits_and_its_unit(size: int | None, shown: str) -> None:
    """Sizes are short enough for a column and never say 1000 of anything."""
    assert show_size(size) == shown


def test_a_number_agrees_with_its_noun() -> None:
    """One file, two files."""
    assert [show_count(number, "file") for number in (0, 1, 2, 12345)] == [
        "0 files",
        "1 file",
        "2 files",
        "12,345 files",
    ]


def test_a_board_shows_what_is_done_and_what_is_under_way() -> None:
    """The head counts what arrived; a row per open file says how far it is."""
    board = Board()
    board.started("a", "arena/extracts/E/R/A.zip", total=2_000_000)
    board.started("b", "arena/extracts/E/R/B.zip")
    board.advanced("a", 500_000)
    board.advanced("b", 1_000)
    board.started("c", "C.zip", total=10)
    board.settled("c", failed=False)
    board.speed(0.0)

    lines = board.lines(width=80, height=10, now=2.0)

    assert lines == [
        "1 done  2 open  501 kB  0 B/s",
        "  arena/extracts/E/R/A.zip                             ━━━━━╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌  25%",
        "  arena/extracts/E/R/B.zip                                                1.0 kB",
    ]


def test_the_speed_is_that_of_the_last_seconds() -> None:
    """What came long ago does not count, so a stall shows."""
    board = Board()
    board.started("a", "a", total=100)
    board.speed(0.0)
    board.advanced("a", 80)

    speeds = [board.speed(2.0), board.speed(10.0), board.speed(11.0)]

    assert speeds[0] == 40.0
    assert speeds[2] == 0.0


def test_bytes_that_come_again_after_a_restart_are_counted_again() -> None:
    """The board counts what the network brought; a restart begins the file anew."""
    board = Board()
    board.started("a", "a", total=100)
    board.advanced("a", 60)
    board.advanced("a", 0)
    board.advanced("a", 100)

    assert board.lines(width=40, height=2, now=0.0)[0].startswith("0 done  1 open  160 B")


def test_a_file_that_is_held_up_says_why() -> None:
    """A retry takes the place of the bar until bytes come again."""
    board = Board()
    board.started("a", "A.zip", total=100)
    board.retrying("a", "try 2 in 3 s: the connection broke")

    held_up = board.lines(width=80, height=5, now=0.0)[1]
    board.advanced("a", 10)

    assert held_up == "  A.zip: try 2 in 3 s: the connection broke"
    assert board.lines(width=80, height=5, now=0.0)[1].endswith("10%")


def test_more_files_than_lines_are_summed_up() -> None:
    """A small terminal is never scrolled away."""
    board = Board()
    for number in range(20):
        board.started(str(number), f"file-{number}.zip")

    lines = board.lines(width=40, height=6, now=0.0)

    assert len(lines) == 6
    assert lines[-1] == "  and 16 more"


@given(
    labels=st.lists(st.text(max_size=60), max_size=12),
    trouble=st.text(max_size=60),
    width=st.integers(1, 130),
    height=st.integers(1, 12),
)
def test_nothing_is_ever_drawn_outside_the_terminal(labels: list[str], trouble: str, width: int, height: int) -> None:
    """Whatever the names are made of, lines are within the width, few enough, and free of control characters."""
    board = Board()
    for number, label in enumerate(labels):
        board.started(str(number), label, total=number or None)
        board.advanced(str(number), number)
    if labels:
        board.retrying("0", trouble)

    lines = board.lines(width=width, height=height, now=1.0)

    assert 1 <= len(lines) <= height
    assert all(cell_len(line) <= width for line in lines)
    assert all(character.isprintable() for line in lines for character in line)


@pytest.mark.parametrize(
    ("text", "width", "keep_end", "fitted"),
    [
        ("abc", 5, False, "abc  "),
        ("abcdef", 4, False, "abc…"),
        ("abcdef", 4, True, "…def"),
        ("日本語", 4, True, "…語 "),
        ("abc", 1, False, "…"),
        ("abc", 0, False, ""),
    ],
)
def test_text_is_cut_to_cells_not_characters(text: str, width: int, keep_end: bool, fitted: str) -> None:
    """Wide characters take two cells, and a cut shows."""
    assert fit(text, width, keep_end=keep_end) == fitted
