"""A child process on a terminal of a given size, and what its screen shows in the end."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import re
import struct
import termios
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs
import warm

__all__ = ["Screen", "Seen", "run_on_terminal"]

_SEQUENCE = re.compile(r"\x1b\[([?\d;]*)([A-Za-z])|\x1b.|([\r\n])|([^\x1b\r\n]+)", re.DOTALL)


class Screen:
    """
    As much of a terminal as redrawn lines need: carriage return, line feed, up, erase, colours, cursor on and off.

    Anything else is kept in ``strange``. Long lines wrap as on a real terminal.
    """

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self.lines: list[str] = [""]
        self.row = 0
        self.column = 0
        self.cursor_hidden = False
        self.strange: list[str] = []
        self.wrapped = 0

    def feed(self, text: str) -> None:
        """Show some output."""
        for found in _SEQUENCE.finditer(text):
            parameters, letter, break_, plain = found.groups()
            if letter is not None:
                self._control(parameters, letter)
            elif break_ is not None:
                self._break(break_)
            elif plain is not None:
                self._write(plain)
            else:
                self.strange.append(found[0])

    def text(self) -> list[str]:
        """Return the lines as they stand, without what is empty at the end."""
        lines = [line.rstrip() for line in self.lines]
        while lines and not lines[-1]:
            lines.pop()
        return lines

    def _control(self, parameters: str, letter: str) -> None:
        if letter == "A":
            self.row = max(0, self.row - int(parameters or 1))
        elif letter == "K":
            self.lines[self.row] = "" if parameters == "2" else self.lines[self.row][: self.column]
        elif letter in "hl" and parameters == "?25":
            self.cursor_hidden = letter == "l"
        elif letter != "m":
            self.strange.append(f"{parameters}{letter}")

    def _break(self, which: str) -> None:
        if which == "\r":
            self.column = 0
            return
        self.row += 1
        if self.row == len(self.lines):
            self.lines.append("")

    def _write(self, text: str) -> None:
        for letter in text:
            if self.column == self.columns:
                self.wrapped += 1
                self._break("\n")
                self.column = 0
            line = self.lines[self.row].ljust(self.column)
            self.lines[self.row] = line[: self.column] + letter + line[self.column + 1 :]
            self.column += 1


@attrs.frozen
class Seen:
    """What became of a child: its exit code, every byte it showed, and the screen in the end."""

    code: int
    raw: str
    screen: Screen


async def run_on_terminal(
    arguments: Sequence[str],
    *,
    environment: Mapping[str, str],
    columns: int,
    rows: int,
    cwd: Path,
    type_after: tuple[bytes, str] | None = None,
    seconds: float = 100.0,
) -> Seen:
    """
    Run a child whose three streams are a terminal, to its end. It starts warm, see :mod:`warm`.

    ``type_after`` is what to type once, and the text that must have been shown before.
    """
    primary, secondary = pty.openpty()
    fcntl.ioctl(secondary, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    loop = asyncio.get_running_loop()
    pieces: list[bytes] = []
    waiting = [] if type_after is None else [type_after]
    ended = loop.create_future()

    def read() -> None:
        try:
            piece = os.read(primary, 65536)
        except OSError:  # the other side is closed
            piece = b""
        pieces.append(piece)
        if waiting and waiting[0][1].encode() in b"".join(pieces):
            os.write(primary, waiting.pop()[0])
        if not piece:
            loop.remove_reader(primary)
            ended.set_result(None)

    try:
        child = await warm.start(*arguments, env=environment, cwd=cwd, terminal=secondary)
        os.close(secondary)
        loop.add_reader(primary, read)
        async with asyncio.timeout(seconds):
            await ended
            code = await child.wait()
    finally:
        loop.remove_reader(primary)
        os.close(primary)
    raw = b"".join(pieces).decode()
    screen = Screen(columns)
    screen.feed(raw)
    return Seen(code, raw, screen)
