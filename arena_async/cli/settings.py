"""Settings that come from a file, so that no secret ever stands in a command."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from arena_async.errors import ConfigurationError

__all__ = ["read_settings"]

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


def read_settings(path: Path) -> dict[str, str]:
    """
    Read a file of lines ``NAME=value`` or ``export NAME=value``, the form that ``simulate`` prints.

    Values may be quoted as in a shell; nothing is expanded. Empty lines and comments are passed over.

    Raises:
        ConfigurationError: It cannot be read, or a line is something else; the message names the line, not its content.
    """
    try:
        text = path.read_text(encoding="utf-8")
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
