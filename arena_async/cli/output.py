"""Where the words of a command go: data to stdout, everything else to stderr."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from datetime import datetime
from io import TextIOWrapper
from typing import TYPE_CHECKING, Any, TextIO

from arena_async.wire.messages import printable

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Output", "show_count", "show_size", "show_when"]

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def show_size(size: float | None) -> str:
    """Write a number of bytes for people, in decimal units; ``-`` when it is not known."""
    if size is None:
        return "-"
    amount, unit = float(size), 0
    while amount >= 999.5 and unit < len(_UNITS) - 1:
        amount, unit = amount / 1000, unit + 1
    return f"{amount:.0f} {_UNITS[unit]}" if unit == 0 or amount >= 99.95 else f"{amount:.1f} {_UNITS[unit]}"


def show_count(number: int, what: str) -> str:
    """Write a number with its noun: ``1 file``, ``2 files``."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def show_when(moment: datetime | None) -> str:
    """Write a moment to the minute, with its zone; ``-`` when it is not known."""
    return "-" if moment is None else moment.strftime("%Y-%m-%d %H:%M %Z").strip()


class Output:
    """
    The two streams of a command, and who is reading them.

    Args:
        json: Whether data is written as one JSON object a line.
        quiet: Whether notes, progress and the summary for people are left out. Errors are always shown.
        stdout: The stream for data.
        stderr: The stream for everything else.
    """

    def __init__(
        self, *, json: bool = False, quiet: bool = False, stdout: TextIO | None = None, stderr: TextIO | None = None
    ) -> None:
        self.json = json
        self.quiet = quiet
        self.reader_gone = False
        #: Called once when the reader of stdout has left.
        self.on_reader_gone: Callable[[], object] = lambda: None
        #: The console that redraws lines on stderr right now, above which notes have to go.
        self.live: Console | None = None
        self._stdout = stdout or sys.stdout
        self._stderr = stderr or sys.stderr
        for stream in (self._stdout, self._stderr):
            if isinstance(stream, TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")  # whatever the locale, no name can break a line

    @property
    def data_is_shown(self) -> bool:
        """Whether stdout is a terminal."""
        return self._stdout.isatty()

    @property
    def notes_are_shown(self) -> bool:
        """Whether stderr is a terminal that can redraw lines."""
        return self._stderr.isatty() and os.environ.get("TERM", "") not in ("", "dumb", "unknown")

    def console(self, *, data: bool = False) -> Console:
        """Give a rich console for tables (``data``) or for what is drawn on stderr."""
        from rich.console import Console

        return Console(file=self._stdout if data else self._stderr, highlight=False, soft_wrap=False)

    def data(self, line: str = "") -> None:
        """Write one line of data."""
        self._write_data(f"{line}\n")

    def heading(self, line: str) -> None:
        """Write one line of data that stands out on a terminal."""
        plain = not self.data_is_shown or "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb"
        self.data(line if plain else f"\x1b[1m{line}\x1b[0m")

    def record(self, values: Mapping[str, Any]) -> None:
        """Write one JSON object on a line of its own."""
        self._write_data(json.dumps(values, default=_plain, ensure_ascii=False) + "\n")

    def note(self, line: str) -> None:
        """Tell people something that is not data; left out by ``quiet``."""
        if not self.quiet:
            self._write_note(line)

    def complain(self, sentence: str) -> None:
        """Say what went wrong, always."""
        self._write_note(f"arena-async: {sentence}")

    def restore(self) -> None:
        """Leave the terminal as it was found, in the middle of a drawing too."""
        live, self.live = self.live, None
        if live is not None:
            live.show_cursor()

    def _write_note(self, line: str) -> None:
        try:
            if self.live is not None:
                self.live.print(line, markup=False, highlight=False, soft_wrap=True)
            else:
                self._stderr.write(f"{line}\n")
                self._stderr.flush()
        except (OSError, ValueError, RuntimeError):
            return  # nobody is left to tell, or a signal came in the middle of the last line

    def _write_data(self, text: str) -> None:
        if self.reader_gone:
            return
        try:
            self._stdout.write(text)
            self._stdout.flush()
        except BrokenPipeError:
            self._leave_stdout()

    def _leave_stdout(self) -> None:
        """Point stdout nowhere, so that nothing complains about it at the end of the process either."""
        self.reader_gone = True
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stdout.fileno())
        os.close(nowhere)
        self.on_reader_gone()


def _plain(value: object) -> object:
    """Give what JSON can hold for a value that it cannot."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, (set, frozenset, tuple)):
        return list(value)
    return printable(str(value), most=1000)
