"""How a command runs and ends: signals, errors as sentences, exit codes."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

from arena_async.cli.exits import Exit
from arena_async.errors import ArenaAsyncError, AuthenticationError, ConfigurationError, QuotaExhaustedError
from arena_async.wire.messages import scrub

if TYPE_CHECKING:
    from arena_async.cli.output import Output

__all__ = ["exit_code", "run_job", "sentence"]

#: Seconds that an interrupted command may spend on closing what is open.
_PATIENCE = 1.5


def exit_code(error: BaseException) -> Exit:
    """Give the exit code that tells scripts about an error."""
    match error:
        case QuotaExhaustedError():
            return Exit.QUOTA
        case AuthenticationError():
            return Exit.AUTHENTICATION
        case ConfigurationError():
            return Exit.USAGE
        case _:
            return Exit.FAILED


def sentence(error: BaseException) -> str:
    """Give what people are told about an error: its own sentence, or what can be said of an unexpected one."""
    if isinstance(error, ArenaAsyncError):
        return scrub(str(error), most=2000)
    return f"unexpected {type(error).__name__}: {scrub(str(error))}. This is a defect of arena_async; please report it."


def run_job(job: Callable[[], Awaitable[int]], output: Output, *, hint: str = "", stopped: Exit | None = None) -> int:
    """
    Run a command to its end and give its exit code.

    SIGINT and SIGTERM cancel it; what is open then has 1.5 seconds to close before the process ends anyway, which costs
    nothing that the next run cannot take up. A second signal ends it at once.

    Args:
        job: The command.
        output: Where its words go.
        hint: What to tell after an interruption.
        stopped: The exit code of a command that is meant to be ended by a signal, instead of 130.
    """
    stop = _Stop(output, hint=hint, code=Exit.INTERRUPTED if stopped is None else stopped)
    try:
        with stop.listening(), _warnings_told(output), asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(stop.watch(job))
    except asyncio.CancelledError:
        return stop.leave()
    except Exception as error:  # noqa: BLE001  a command ends with a sentence and a code, whatever happened
        leaf = _leaf(error)
        if output.json:
            output.record({"type": "error", "error": type(leaf).__name__, "message": sentence(leaf)})
        output.complain(sentence(leaf))
        return exit_code(leaf)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Give what makes uvloop's event loop where that is installed (extra ``fast``), or None for the standard one."""
    if sys.platform == "win32":
        return None
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


class _Telling(logging.Handler):
    """Tells people what the library warns of."""

    def __init__(self, output: Output) -> None:
        super().__init__(logging.WARNING)
        self._output = output

    def emit(self, record: logging.LogRecord) -> None:
        self._output.note(f"arena-async: {scrub(record.getMessage(), most=2000)}")


@contextmanager
def _warnings_told(output: Output) -> Iterator[None]:
    """Show the warnings of the library on stderr while this lasts."""
    log, telling = logging.getLogger("arena_async"), _Telling(output)
    log.addHandler(telling)
    try:
        yield
    finally:
        log.removeHandler(telling)


def _leaf(error: BaseException) -> BaseException:
    """Give the first error inside groups of errors."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


class _Stop:
    """The wish to stop: from a signal, or because nobody reads stdout any more."""

    def __init__(self, output: Output, *, hint: str, code: Exit) -> None:
        self._output = output
        self._hint = hint
        self._code = code
        self._wanted = False
        self._cancel: Callable[[], object] = lambda: None
        output.on_reader_gone = self._ask

    async def watch(self, job: Callable[[], Awaitable[int]]) -> int:
        """Run the job in this task, which the signals cancel."""
        task = asyncio.current_task()
        if task is None:  # pragma: no cover  a coroutine always runs in a task
            return await job()
        loop = asyncio.get_running_loop()
        self._cancel = lambda: loop.call_soon_threadsafe(task.cancel)
        if self._wanted:
            raise asyncio.CancelledError
        return await job()

    @contextmanager
    def listening(self) -> Iterator[None]:
        """
        Take the signals while this lasts.

        Plain handlers, not the loop's: they run even while a write to a full pipe holds the loop up.
        """
        numbers = [signal.SIGINT, signal.SIGTERM]
        before = {number: signal.signal(number, self._take) for number in numbers}
        try:
            yield
        finally:
            if hasattr(signal, "setitimer"):
                signal.setitimer(signal.ITIMER_REAL, 0)
            for number, taker in before.items():
                signal.signal(number, taker)

    def leave(self) -> int:
        """Say that it was interrupted, and give the exit code."""
        self._output.restore()
        if self._output.reader_gone:
            return Exit.FAILED
        if self._hint:
            self._output.note(self._hint)
        return self._code

    def _ask(self) -> None:
        self._wanted = True
        self._cancel()

    def _take(self, _number: int, _frame: FrameType | None) -> None:
        if self._wanted:
            self._end_now()
        if hasattr(signal, "setitimer"):
            signal.signal(signal.SIGALRM, lambda *_: self._end_now())
            signal.setitimer(signal.ITIMER_REAL, _PATIENCE)
        self._ask()

    def _end_now(self) -> None:
        os._exit(self.leave())
