"""The progress of a transfer: lines that are redrawn on a terminal, a line per file elsewhere, or JSON."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

import attrs

from arena_async.cli.output import Output, error_message, show_count, show_size
from arena_async.cli.reports import DONE, PRESENT, label_of, outcome_record
from arena_async.protocol.messages import printable
from arena_async.transfer.events import Event, Finished, Progress, Retrying, Started, Stopped
from arena_async.transfer.outcomes import Outcome

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

__all__ = ["Board", "ProgressReporter", "ProgressRow", "fit"]

#: Files in progress that are drawn.
_MAX_ROWS = 8
#: Failed files whose errors are written one by one.
_MAX_ERRORS = 20
#: Seconds over which the speed is averaged, and between two redraws.
_SPEED_INTERVAL = 4.0
_REDRAW_INTERVAL = 0.1
#: Cells that stay free behind each line: a terminal writes ^C there, which must not begin another line.
_ECHO = 5


def fit(text: str, width: int, *, keep_end: bool = False) -> str:
    """Return text in exactly ``width`` cells; an ellipsis replaces what is cut off, at the start if ``keep_end``."""
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
class ProgressRow:
    """A file in progress: its label, received bytes, total bytes or None, and why it is delayed."""

    label: str
    done: int = 0
    total: int | None = None
    trouble: str = ""


@attrs.define
class Board:
    """
    The state of a running transfer, drawn as lines of text. It uses no terminal and no clock.

    Attributes:
        rows: The files in progress, by key, in the order they started.
        finished: Files that were downloaded.
        failed: Files that failed.
        continued: Files that were stopped, of which something is kept.
        anew: Files that were stopped, of which nothing is kept.
        without_etag: Those of them whose servers give nothing by which a file can be continued.
    """

    rows: dict[str, ProgressRow] = attrs.field(factory=dict)
    finished: int = 0
    failed: int = 0
    continued: int = 0
    anew: int = 0
    without_etag: int = 0
    _bytes: int = 0
    _samples: deque[tuple[float, int]] = attrs.field(factory=deque)

    def started(self, key: str, label: str, *, done: int = 0, total: int | None = None) -> None:
        """Add a file, with ``done`` bytes present."""
        self.rows[key] = ProgressRow(printable(label), done, total)

    def advanced(self, key: str, done: int, *, total: int | None = None) -> None:
        """Set the received bytes of a file."""
        row = self.rows.get(key)
        if row is None:
            return
        self._bytes += max(0, done - row.done)
        row.done, row.total, row.trouble = done, total if total is not None else row.total, ""

    def retrying(self, key: str, trouble: str) -> None:
        """Mark a file as delayed."""
        if key in self.rows:
            self.rows[key].trouble = printable(trouble)

    def settled(self, key: str, *, failed: bool) -> None:
        """Remove a file and count it."""
        self.rows.pop(key, None)
        self.failed += failed
        self.finished += not failed

    def stopped(self, key: str, *, kept: int, resumable: bool) -> None:
        """Remove a file that was stopped before its end, and count it."""
        self.rows.pop(key, None)
        self.continued += kept > 0
        self.anew += not kept
        self.without_etag += not kept and not resumable

    def state(self) -> str:
        """Return what is true of the files after a stop: ``2 files done, 5 continue, 1 starts anew``."""
        counts = [
            f"{show_count(self.finished, 'file')} done",
            *([f"{self.failed:,} failed"] if self.failed else []),
            *([f"{self.continued:,} {_verb(self.continued, 'continue')}"] if self.continued else []),
            *([f"{self.anew:,} {_verb(self.anew, 'start')} anew"] if self.anew else []),
        ]
        if self.rows:  # They could not be put down in time.
            counts.append(f"{len(self.rows):,} {_verb(len(self.rows), 'go')} on from what was recorded")
        why = f": the server of {self.without_etag:,} gives no ETag" if self.without_etag else ""
        if self.without_etag == self.anew == 1:
            why = ": its server gives no ETag"
        return ", ".join(counts) + why

    def speed(self, now: float) -> float:
        """Return the bytes per second over the last few seconds."""
        self._samples.append((now, self._bytes))
        while len(self._samples) > 2 and now - self._samples[0][0] > _SPEED_INTERVAL:
            self._samples.popleft()
        then, before = self._samples[0]
        return (self._bytes - before) / (now - then) if now > then else 0.0

    def lines(self, *, width: int, height: int, now: float) -> list[str]:
        """Return at most ``height`` lines of at most ``width`` cells."""
        head = [
            f"{self.finished:,} done",
            f"{len(self.rows):,} open",
            show_size(self._bytes),
            f"{show_size(self.speed(now))}/s",
            *([f"{self.failed:,} failed"] if self.failed else []),
        ]
        shown = list(self.rows.values())[: max(0, min(_MAX_ROWS, height - 2))]
        hidden = len(self.rows) - len(shown)
        lines = [fit("  ".join(head), width), *(_line(row, width) for row in shown)]
        if hidden and height > len(lines):
            lines.append(fit(f"  and {hidden:,} more", width))
        return [fit(line, width).rstrip() for line in lines[: max(1, height)]]


def _line(row: ProgressRow, width: int) -> str:
    """Return one file as a line: label, bar if it is wide enough, share or received bytes."""
    if row.trouble:
        return fit(f"  {row.label}: {row.trouble}", width) if width >= 60 else fit(f"  {row.trouble}", width)
    share = min(1.0, row.done / row.total) if row.total else None
    how_far = f"{share:>4.0%}" if share is not None else f"{show_size(row.done):>7}"
    bar = f" {_bar(share, 20)}" if share is not None and width >= 70 else ""
    return f"  {fit(row.label, max(1, width - 3 - len(how_far) - len(bar)), keep_end=True)}{bar} {how_far}"


def _verb(count: int, verb: str) -> str:
    """Return a verb as it follows a number of files."""
    return verb if count != 1 else f"{verb}es" if verb.endswith("o") else f"{verb}s"


def _bar(share: float, width: int) -> str:
    full = round(share * width)
    return "━" * full + "╌" * (width - full)


class ProgressReporter:
    """
    Shows the events of a transfer: redrawn on a terminal, a line per file elsewhere, as JSON if requested.

    An async context manager; on a terminal it removes the redrawn lines when it is closed. Failures are written as
    error messages, always.

    Args:
        output: The output of the command.
        to: The target directory; paths are shown relative to it.
        clock: Monotonic seconds.
    """

    def __init__(self, output: Output, to: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.board = Board()
        #: Error messages that were written.
        self.messages: set[str] = set()
        self._output = output
        self._to = to
        self._clock = clock
        self._live = output.notes_are_shown and not output.quiet
        self._redrawing: asyncio.Task[None] | None = None
        output.stopped_state = self.board.state

    async def __aenter__(self) -> Self:
        if self._live:
            self._redrawing = asyncio.create_task(self._redraw())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._redrawing is not None:
            self._redrawing.cancel()
            with suppress(asyncio.CancelledError):
                await self._redrawing
        if self.board.failed > _MAX_ERRORS:
            self._output.error(f"{self.board.failed - _MAX_ERRORS:,} more files failed; --json lists them all.")

    def __call__(self, event: Event) -> None:
        """Show an event."""
        match event:
            case Started(file=file):
                self.board.started(file.key, label_of(file), done=event.bytes_done, total=event.total or file.size)
            case Progress(file=file):
                self.board.advanced(file.key, event.bytes_done, total=event.total)
            case Retrying(file=file):
                reason = f"try {event.attempt} failed, next in {event.wait:.0f} s: {error_message(event.error)}"
                self.board.retrying(file.key, reason)
                self._note(f"retrying  {label_of(file)}  {reason}")
            case Stopped(file=file):
                self.board.stopped(file.key, kept=event.bytes_kept, resumable=event.resumable)
            case Finished(outcome=outcome):
                if outcome.again_at is None:  # What failed in earlier runs is one sentence of the report.
                    self.board.settled(outcome.file.key, failed=outcome.error is not None)
                self._show_outcome(outcome)

    def _show_outcome(self, outcome: Outcome) -> None:
        if self._output.json:
            self._output.record(outcome_record(outcome, self._to))
        if outcome.error is not None and outcome.again_at is None:
            if self.board.failed <= _MAX_ERRORS:
                message = error_message(outcome.error)
                self.messages.add(message)
                self._output.error(message)
        elif outcome.action in PRESENT:
            size = show_size(outcome.bytes_written)
            self._note(f"{DONE[outcome.action]}  {label_of(outcome.file)}  {size}  {outcome.verified_by}")

    def _note(self, line: str) -> None:
        if not self._live:
            self._output.note(line)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.segment import Segment

        height = max(1, console.size.height - 1)
        width = max(8, options.max_width - _ECHO)
        for line in self.board.lines(width=width, height=height, now=self._clock()):
            text = line if not options.ascii_only else line.translate({0x2501: "#", 0x254C: "-", 0x2026: "~"})
            yield Segment(text)
            yield Segment.line()

    async def _redraw(self) -> None:
        from rich.live import Live

        console = self._output.console()
        live = Live(
            self, console=console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False
        )
        with live:
            self._output.live = live
            try:
                while True:
                    live.refresh()
                    await asyncio.sleep(_REDRAW_INTERVAL)
            finally:
                self._output.live = None
