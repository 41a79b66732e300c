"""The output of a command: data to stdout, everything else to stderr; values as text and as JSON."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import AsyncIterable, Callable, Mapping, Sequence
from datetime import datetime
from io import TextIOWrapper
from typing import TYPE_CHECKING, Any

import attrs

from arena_async.cli.exit_codes import ExitCode
from arena_async.errors import ArenaAsyncError
from arena_async.protocol.messages import Secret, printable, scrub

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Output", "cells", "error_message", "error_record", "fields_of", "show_count", "show_size", "show_when"]

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def show_size(size: float | None) -> str:
    """Return a size in decimal units, or ``-`` if it is unknown."""
    if size is None:
        return "-"
    amount, unit = float(size), 0
    while amount >= 999.5 and unit < len(_UNITS) - 1:
        amount, unit = amount / 1000, unit + 1
    return f"{amount:.0f} {_UNITS[unit]}" if unit == 0 or amount >= 99.95 else f"{amount:.1f} {_UNITS[unit]}"


def show_count(number: int, what: str) -> str:
    """Return a number with its noun: ``1 file``, ``2 files``."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def show_when(time: datetime | None) -> str:
    """Return a time to the minute with its zone, or ``-`` if it is unknown."""
    return "-" if time is None else time.strftime("%Y-%m-%d %H:%M %Z").strip()


class Output:
    """
    The two streams of a command.

    Args:
        json: Whether data is written as one JSON object a line.
        quiet: Whether notes, progress and summaries are left out. Errors are always shown.
    """

    def __init__(self, *, json: bool = False, quiet: bool = False) -> None:
        self.json = json
        self.quiet = quiet
        #: Shown when the command is interrupted, and the exit code of that.
        self.hint = "Stopped."
        self.stopped = ExitCode.INTERRUPTED
        self.reader_gone = False
        #: Called once when the reader of stdout has closed the pipe.
        self.on_reader_gone: Callable[[], object] = lambda: None
        #: The console that redraws lines on stderr at present; notes are written above them.
        self.live: Console | None = None
        self._stdout = sys.stdout
        self._stderr = sys.stderr
        for stream in (self._stdout, self._stderr):
            if isinstance(stream, TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")  # the locale may not be able to encode a name

    @property
    def data_is_shown(self) -> bool:
        """Whether stdout is a terminal."""
        return self._stdout.isatty()

    @property
    def notes_are_shown(self) -> bool:
        """Whether stderr is a terminal that can redraw lines."""
        return self._stderr.isatty() and os.environ.get("TERM", "") not in ("", "dumb", "unknown")

    def console(self) -> Console:
        """Return a rich console for stderr."""
        from rich.console import Console

        return Console(file=self._stderr, highlight=False, soft_wrap=False)

    def data(self, line: str = "") -> None:
        """Write one line of data."""
        self._write_data(f"{line}\n")

    def heading(self, line: str) -> None:
        """Write one line of data, in bold on a terminal."""
        plain = not self.data_is_shown or "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb"
        self.data(line if plain else f"\x1b[1m{line}\x1b[0m")

    def record(self, values: Mapping[str, Any]) -> None:
        """Write one JSON object on a line of its own."""
        self._write_data(json.dumps(values, default=_plain, ensure_ascii=False) + "\n")

    def result(self, values: Mapping[str, Any], *lines: str) -> None:
        """Write a result: as JSON if requested, otherwise as lines unless ``quiet``."""
        if self.json:
            self.record(values)
        elif not self.quiet:
            for line in lines:
                self.data(line)

    def table(self, columns: Sequence[str], rows: Sequence[Any]) -> None:
        """Write attributes of rows as aligned columns below a heading."""
        table = [columns, *(cells(row, columns) for row in rows)]
        widths = [max(len(cell) for cell in column) for column in zip(*table, strict=True)]
        for row in table:
            self.data("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())

    async def rows(self, rows: AsyncIterable[Any], columns: Sequence[str]) -> ExitCode:
        """Write rows as JSON, or attributes of them as a table on a terminal, or else separated by tabs."""
        table: list[Any] = []
        empty = True
        try:
            async for row in rows:
                empty = False
                if self.json:
                    self.record(fields_of(row))
                elif self.data_is_shown:
                    table.append(row)
                else:
                    self.data("\t".join(cells(row, columns)))
        finally:
            # Those that came before an error, too.
            if table:
                self.table(columns, table)
        if empty:
            self.note("Nothing is listed.")
        return ExitCode.OK

    def note(self, line: str) -> None:
        """Write a line that is not data, unless ``quiet``."""
        if not self.quiet:
            self._write_note(line)

    def error(self, message: str) -> None:
        """Write an error message, also when ``quiet``."""
        self._write_note(f"arena-async: {message}")

    def set_resume_hint(self, stopped: str) -> None:
        """Set what is shown after an interruption: what has stopped, and the command line that continues it."""
        self.hint = f"{stopped} Run it again to continue:\n  {shlex.join(['arena-async', *sys.argv[1:]])}"

    def restore(self) -> None:
        """Show the cursor again if lines are being redrawn."""
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
            return  # stderr is closed, or a signal interrupted the last write

    def _write_data(self, text: str) -> None:
        if self.reader_gone:
            return
        try:
            self._stdout.write(text)
            self._stdout.flush()
        except BrokenPipeError:
            self._close_stdout()

    def _close_stdout(self) -> None:
        """Redirect stdout to the null device, so that the interpreter can flush it at exit."""
        self.reader_gone = True
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self._stdout.fileno())
        os.close(null)
        self.on_reader_gone()


def _plain(value: object) -> object:
    """Return a JSON value for one that JSON does not have."""
    if attrs.has(type(value)):
        return fields_of(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, (set, frozenset, tuple)):
        return list(value)
    return printable(str(value), maximum=1000)


def fields_of(value: Any) -> dict[str, Any]:
    """Return the fields of a value, without secrets and fields that its ``repr`` hides."""
    return {
        field.name: getattr(value, field.name)
        for field in attrs.fields(type(value))
        if field.repr and not isinstance(getattr(value, field.name), Secret)
    }


def cells(row: Any, columns: Sequence[str]) -> list[str]:
    """Return some attributes of a row as text."""
    return [_cell(getattr(row, column)) for column in columns]


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, bool):
        return "yes" if value else "no"
    return printable(str(value))


def error_message(error: BaseException) -> str:
    """Return the message of an error, without secrets."""
    if isinstance(error, ArenaAsyncError):
        return scrub(str(error), maximum=2000)
    return f"unexpected {type(error).__name__}: {scrub(str(error))}. This is a defect of arena_async; please report it."


def error_record(error: BaseException) -> dict[str, str]:
    """Return an error as a JSON object."""
    return {"error": type(error).__name__, "message": error_message(error)}
