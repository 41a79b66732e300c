"""What a running transfer looks like: a few lines on a terminal that redraw themselves, plain lines elsewhere."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Self

import attrs

from arena_async.cli.output import Output, show_size
from arena_async.wire.messages import printable

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

__all__ = ["Board", "Row", "View", "align", "fit"]

#: Rows of files under way that are drawn at the most, however many are open.
_MOST_ROWS = 8
#: Seconds over which the speed is measured, and between two drawings.
_SPEED_OVER = 4.0
_REDRAW_EVERY = 0.1


def fit(text: str, width: int, *, keep_end: bool = False) -> str:
    """Cut text to ``width`` cells, with an ellipsis where something is missing, at the start if ``keep_end``."""
    from rich.cells import cell_len, set_cell_size

    if cell_len(text) <= width:
        return set_cell_size(text, width)
    if width <= 1:
        return "…"[:width]
    if not keep_end:
        return set_cell_size(text, width - 1) + "…"
    while cell_len(text) > width - 1:
        text = text[1:]
    return set_cell_size("…" + text, width)


@attrs.define
class Row:
    """One file under way: its label, bytes here, bytes in all or None, and what holds it up."""

    label: str
    done: int = 0
    total: int | None = None
    trouble: str = ""


@attrs.define
class Board:
    """
    What is known about a running transfer, and how it is drawn in lines. Knows no terminal and no clock.

    Attributes:
        rows: The files under way, by key, in the order they began.
        finished: Files that arrived.
        failed: Files that could not be brought home.
    """

    rows: dict[str, Row] = attrs.field(factory=dict)
    finished: int = 0
    failed: int = 0
    _bytes: int = 0
    _samples: deque[tuple[float, int]] = attrs.field(factory=deque)

    def started(self, key: str, label: str, *, done: int = 0, total: int | None = None) -> None:
        """A file began, at byte ``done``."""
        self.rows[key] = Row(printable(label), done, total)

    def advanced(self, key: str, done: int, *, total: int | None = None) -> None:
        """A file has ``done`` bytes here."""
        row = self.rows.get(key)
        if row is None:
            return
        self._bytes += max(0, done - row.done)
        row.done, row.total, row.trouble = done, total if total is not None else row.total, ""

    def retrying(self, key: str, trouble: str) -> None:
        """A file is held up."""
        if key in self.rows:
            self.rows[key].trouble = printable(trouble)

    def settled(self, key: str, *, failed: bool) -> None:
        """A file arrived, or could not be brought home."""
        self.rows.pop(key, None)
        self.failed += failed
        self.finished += not failed

    def speed(self, now: float) -> float:
        """Give the bytes a second over the last few seconds."""
        self._samples.append((now, self._bytes))
        while len(self._samples) > 2 and now - self._samples[0][0] > _SPEED_OVER:
            self._samples.popleft()
        then, before = self._samples[0]
        return (self._bytes - before) / (now - then) if now > then else 0.0

    def lines(self, *, width: int, height: int, now: float) -> list[str]:
        """Draw it in at most ``height`` lines of at most ``width`` cells."""
        head = [
            f"{self.finished:,} done",
            f"{len(self.rows):,} open",
            show_size(self._bytes),
            f"{show_size(self.speed(now))}/s",
            *([f"{self.failed:,} failed"] if self.failed else []),
        ]
        room = max(0, min(_MOST_ROWS, height - 2))
        shown = list(self.rows.values())[:room]
        hidden = len(self.rows) - len(shown)
        lines = [fit("  ".join(head), width), *(_line(row, width) for row in shown)]
        if hidden and height > len(lines):
            lines.append(fit(f"  and {hidden:,} more", width))
        return [fit(line, width).rstrip() for line in lines[: max(1, height)]]


def _line(row: Row, width: int) -> str:
    """Draw one file: its label, a bar where there is room, how far it is."""
    if row.trouble:
        return fit(f"  {row.label}: {row.trouble}", width) if width >= 60 else fit(f"  {row.trouble}", width)
    share = min(1.0, row.done / row.total) if row.total else None
    how_far = f"{share:>4.0%}" if share is not None else f"{show_size(row.done):>7}"
    bar = f" {_bar(share, 20)}" if share is not None and width >= 70 else ""
    return f"  {fit(row.label, max(1, width - 3 - len(how_far) - len(bar)), keep_end=True)}{bar} {how_far}"


def _bar(share: float, width: int) -> str:
    full = round(share * width)
    return "━" * full + "╌" * (width - full)


class View:
    """
    The progress of a transfer on stderr: redrawn on a terminal, a line per file elsewhere, nothing when quiet.

    An async context manager; it leaves no line of its own behind on a terminal.

    Args:
        output: Where it goes.
        clock: Seconds on a steady clock.
    """

    def __init__(self, output: Output, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.board = Board()
        self._output = output
        self._clock = clock
        self._drawing: asyncio.Task[None] | None = None

    @property
    def live(self) -> bool:
        """Whether it redraws itself."""
        return self._output.notes_are_shown and not self._output.quiet

    async def __aenter__(self) -> Self:
        if self.live:
            self._drawing = asyncio.create_task(self._draw())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._drawing is None:
            return
        self._drawing.cancel()
        with suppress(asyncio.CancelledError):
            await self._drawing
        self._drawing = None

    def note(self, line: str) -> None:
        """Write a line about one file where no redrawn lines show it."""
        if not self.live:
            self._output.note(line)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.segment import Segment

        height = max(1, console.size.height - 1)
        for line in self.board.lines(width=max(8, options.max_width - 1), height=height, now=self._clock()):
            text = line if not options.ascii_only else line.translate({0x2501: "#", 0x254C: "-", 0x2026: "~"})
            yield Segment(text)
            yield Segment.line()

    async def _draw(self) -> None:
        from rich.live import Live

        console = self._output.console()
        live = Live(
            self, console=console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False
        )
        with live:
            self._output.live = console
            try:
                while True:
                    live.refresh()
                    await asyncio.sleep(_REDRAW_EVERY)
            finally:
                self._output.live = None


def align(head: Sequence[str], rows: Sequence[Sequence[str]], output: Output) -> None:
    """Write rows as aligned columns under a heading."""
    table = [tuple(head), *map(tuple, rows)]
    widths = [max(len(cell) for cell in column) for column in zip(*table, strict=True)]
    for row in table:
        output.data("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
