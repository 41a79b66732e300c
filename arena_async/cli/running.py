"""Running a command: event loop, signals, error messages and exit codes."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from arena_async.cli.exit_codes import ExitCode, exit_code
from arena_async.cli.output import Output, error_message, error_record
from arena_async.protocol.messages import scrub

__all__ = ["run_job"]

#: Seconds that an interrupted command may take to close connections and files.
_GRACE_SECONDS = 1.5
#: And after a second signal: enough to record what has arrived, not to wait for anybody.
_HURRY_SECONDS = 0.3


def run_job(job: Callable[[], Awaitable[int]], output: Output) -> int:
    """
    Run a command and return its exit code.

    SIGINT, SIGTERM and SIGHUP cancel it; it then has 1.5 seconds to record what has arrived and to close connections
    before the process ends. After a second signal it has 0.3 seconds, after a third none.

    Args:
        job: The command.
        output: Its output, with the hint and the exit code of an interruption.
    """
    stop = _Stop(output)
    try:
        with stop.listening(), _warnings_shown(output), asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(stop.run(job))
    except asyncio.CancelledError:
        return stop.leave()
    except Exception as error:  # noqa: BLE001  every error becomes a message and an exit code
        leaf = _leaf(error)
        if output.json:
            output.record({"type": "error", **error_record(leaf)})
        output.error(error_message(leaf))
        return exit_code(leaf)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return the factory of uvloop if it is installed (extra ``fast``), or None for the standard event loop."""
    if sys.platform == "win32":
        return None
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


class _WarningHandler(logging.Handler):
    """Write the warnings of the library as notes."""

    def __init__(self, output: Output) -> None:
        super().__init__(logging.WARNING)
        self._output = output

    def emit(self, record: logging.LogRecord) -> None:
        self._output.note(f"arena-async: {scrub(record.getMessage(), maximum=2000)}")


@contextmanager
def _warnings_shown(output: Output) -> Iterator[None]:
    """Write the warnings of the library to stderr while the context is open."""
    log, handler = logging.getLogger("arena_async"), _WarningHandler(output)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)


def _leaf(error: BaseException) -> BaseException:
    """Return the first error inside groups of errors."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


class _Stop:
    """Stop the command: on a signal, or when stdout is closed by its reader."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._requested = False
        self._signals = 0
        self._cancel: Callable[[], object] = lambda: None
        output.on_reader_gone = self._request_stop

    async def run(self, job: Callable[[], Awaitable[int]]) -> int:
        """Run the job in the current task, which a signal cancels."""
        task = asyncio.current_task()
        if task is None:  # pragma: no cover  a coroutine always runs in a task
            return await job()
        loop = asyncio.get_running_loop()
        self._cancel = lambda: loop.call_soon_threadsafe(task.cancel)
        if self._requested:
            raise asyncio.CancelledError
        return await job()

    @contextmanager
    def listening(self) -> Iterator[None]:
        """
        Handle SIGINT, SIGTERM and SIGHUP while the context is open; a SIGHUP that ``nohup`` ignores stays ignored.

        Plain handlers, not those of the event loop: they also run while a write to a full pipe blocks the loop.
        """
        numbers = [signal.SIGINT, signal.SIGTERM]
        if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            numbers.append(signal.SIGHUP)
        before = {number: signal.signal(number, self._handle) for number in numbers}
        try:
            yield
        finally:
            if hasattr(signal, "setitimer"):
                signal.setitimer(signal.ITIMER_REAL, 0)
            for number, handler in before.items():
                signal.signal(number, handler)

    def leave(self) -> int:
        """Write the hint and return the exit code."""
        self._output.restore()
        if self._output.reader_gone:
            return ExitCode.FAILED
        if self._output.hint:
            self._output.note_stop()
        return self._output.stopped

    def _request_stop(self) -> None:
        self._requested = True
        self._cancel()

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        self._signals += 1
        if self._signals > 2 or (self._signals > 1 and not hasattr(signal, "setitimer")):
            self._end_now()
        if hasattr(signal, "setitimer"):
            signal.signal(signal.SIGALRM, lambda *_: self._end_now())
            left, _ = signal.getitimer(signal.ITIMER_REAL)
            grace = _GRACE_SECONDS if self._signals == 1 else min(left or _HURRY_SECONDS, _HURRY_SECONDS)
            signal.setitimer(signal.ITIMER_REAL, grace)
        self._request_stop()

    def _end_now(self) -> None:
        os._exit(self.leave())
