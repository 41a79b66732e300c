"""Exit codes of the command line."""

from __future__ import annotations

from enum import IntEnum

from arena_async.errors import AuthenticationError, ConfigurationError, QuotaExhaustedError

__all__ = ["ExitCode", "exit_code"]


class ExitCode(IntEnum):
    """The exit codes; scripts rely on them."""

    OK = 0
    FAILED = 1
    USAGE = 2
    SOME_FAILED = 3
    AUTHENTICATION = 4
    QUOTA = 5
    INTERRUPTED = 130


def exit_code(error: BaseException) -> ExitCode:
    """Return the exit code for an error."""
    match error:
        case QuotaExhaustedError():
            return ExitCode.QUOTA
        case AuthenticationError():
            return ExitCode.AUTHENTICATION
        case ConfigurationError():
            return ExitCode.USAGE
        case _:
            return ExitCode.FAILED
