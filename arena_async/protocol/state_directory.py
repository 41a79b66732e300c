"""Where what belongs to a user and not to one target directory lies on disk, by the conventions of each system."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["user_state_directory"]


def user_state_directory(environ: Mapping[str, str], platform: str) -> str | None:
    """
    Return the path of the directory for the state of a user, or None where the environment names no home.

    ``ARENA_ASYNC_STATE`` names it where it is an absolute path. Otherwise it is ``arena_async`` in ``$XDG_STATE_HOME``
    or ``~/.local/state`` (https://specifications.freedesktop.org/basedir-spec/latest/), in
    ``~/Library/Application Support`` on macOS and in ``%LOCALAPPDATA%`` on Windows. Nothing is read or made.

    Args:
        environ: The environment variables.
        platform: As ``sys.platform``.
    """
    chosen = environ.get("ARENA_ASYNC_STATE", "")
    if _is_absolute(chosen, platform):
        return chosen
    if platform == "win32":
        base, separator = environ.get("LOCALAPPDATA", ""), "\\"
    else:
        home, separator = environ.get("HOME", "").rstrip("/"), "/"
        base = f"{home}/Library/Application Support" if home else ""
        if platform != "darwin":
            base = environ.get("XDG_STATE_HOME", "").rstrip("/")
            base = base if _is_absolute(base, platform) else f"{home}/.local/state" if home else ""
    return f"{base}{separator}arena_async" if _is_absolute(base, platform) else None


def _is_absolute(path: str, platform: str) -> bool:
    """Return whether a path begins at a root."""
    if platform == "win32":
        return path[1:3] in (":\\", ":/") or path.startswith("\\\\")
    return path.startswith("/")
