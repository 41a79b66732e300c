"""Settings in text form: those of a settings file, which keeps secrets out of the command line, and sizes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from arena_async.errors import ConfigurationError
from arena_async.options import KIB, MIB
from arena_async.protocol.messages import printable

__all__ = ["read_settings", "read_size"]

_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,15})?)([kmg]?)(?:i?b)?", re.ASCII | re.IGNORECASE)
_UNITS = {"": 1, "k": KIB, "m": MIB, "g": 1024 * MIB}

#: Bytes of a file of settings at most.
_MAX_SETTINGS = MIB

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


def read_settings(path: Path) -> dict[str, str]:
    """
    Read a file of lines ``NAME=value`` or ``export NAME=value``, the form that ``simulate`` prints.

    Values may be quoted as in a shell; nothing is expanded. Empty lines and comments are passed over.

    Raises:
        ConfigurationError: It cannot be read, or a line is something else; the message names the line, not its content.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_SETTINGS + 1)
        if len(content) > _MAX_SETTINGS:
            raise ConfigurationError(f"{path}: it is no file of settings: it has more than {_MAX_SETTINGS} bytes.")
        text = content.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigurationError(f"{path}: the settings cannot be read ({reason}); check the --env option.") from None
    settings: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, value = _read_line(line, f"{path}, line {number}")
        settings[name] = value
    return settings


def _read_line(line: str, place: str) -> tuple[str, str]:
    name, equals, value = line.strip().removeprefix("export ").strip().partition("=")
    try:
        words = shlex.split(value, comments=True)
    except ValueError:
        words = ["", ""]
    if not equals or not _NAME.match(name) or len(words) > 1:
        raise ConfigurationError(
            f"{place}: not a setting; it takes NAME=value, with quotes around a value with spaces."
        )
    return name, "".join(words)


def read_size(text: str, *, option: str) -> int:
    """
    Read a number of bytes with a unit or without: ``4096``, ``500K``, ``1.5M``, ``2GiB``. A K is 1,024 bytes.

    Raises:
        ConfigurationError: It is something else.
    """
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise ConfigurationError(f"{option} is {printable(text)!r}; it takes bytes, for instance 4096, 500K or 1.5M.")
    return int(float(found[1]) * _UNITS[found[2].lower()])
