"""
What is told while files come home, and what is said about them in the end.

::

    Started -> Advanced ... -> Retrying -> Advanced ... -> Settled        one file, bytes_done always absolute
    Outcome                                                               what became of one file
    Report                                                                what became of all of them
"""

from __future__ import annotations

import asyncio
import enum
import inspect
import logging
import time
import traceback
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import cast

import attrs

from arena_async.errors import ArenaAsyncError, ConfigurationError, TransferError, TransfersFailedError
from arena_async.transfer.integrity import Proof
from arena_async.transfer.local_files import AsyncBufferedReader, open_for_reading
from arena_async.transfer.threads import Threads, wait_to_end
from arena_async.wire.contracts import RemoteFile
from arena_async.wire.messages import printable, scrub

__all__ = [
    "Action",
    "Advanced",
    "Announcer",
    "Event",
    "Observer",
    "Outcome",
    "Report",
    "Retrying",
    "Settled",
    "Started",
    "as_error",
]

_log = logging.getLogger("arena_async")


class Action(enum.StrEnum):
    """What is done with a file, and why."""

    #: It is not here.
    FETCH = "fetch"
    #: A part of it is here and is continued.
    RESUME = "resume"
    #: It is here, but the service has another one now, or the one here is not what was brought home.
    REFRESH = "refresh"
    #: It is here and the same.
    KEEP = "keep"
    #: The service never gives it.
    SKIP = "skip"
    #: It is here and no longer listed; it stays.
    GONE = "gone"
    #: It was here, is no longer listed, and was removed because that was asked for.
    PRUNE = "prune"


#: What leaves a file where it belongs.
_AT_HOME = frozenset({Action.FETCH, Action.RESUME, Action.REFRESH, Action.KEEP})


@attrs.frozen
class Outcome:
    """
    What became of one file.

    Args:
        file: The file, without its link.
        action: What was done, or was to be done when ``error`` is set.
        path: Where it lies, or would lie; None where there is no such place.
        verified_by: ``"sha256"``, ``"md5"``, ``"crc"``, ``"length"``, or ``"none"``, which is not verified.
        attempts: How often its content was asked for, in requests.
        bytes_written: Bytes written to the disk for it in this run.
        error: Why it is not here, or None.
        reason: Why it was skipped, pruned or reported gone, or something odd about the content; else "".
        sha256: The digest of what lies there, in hexadecimal, or None.
        durable: Whether a power loss cannot undo it.
    """

    file: RemoteFile
    action: Action
    path: Path | None = None
    verified_by: Proof = "none"
    attempts: int = 0
    bytes_written: int = 0
    error: ArenaAsyncError | None = None
    reason: str = ""
    sha256: str | None = None
    durable: bool = False

    @property
    def ok(self) -> bool:
        """Whether the file lies at ``path`` now."""
        return self.error is None and self.path is not None and self.action in _AT_HOME

    def open(self) -> AbstractAsyncContextManager[AsyncBufferedReader]:
        """
        Open the file that was brought home, to read it without holding the event loop up.

        ::

            async with outcome.open() as file:
                while piece := await file.read(1 << 20):
                    await upload(piece)

        Raises:
            ConfigurationError: The file did not come home; ``error`` or ``reason`` says why.
            FileNotFoundError: Somebody took it away since, when it is entered.
        """
        if self.path is None or not self.ok:
            why = self.error or self.reason or f"it was to be {self.action}"
            raise ConfigurationError(f"{printable(self.file.key)}: there is no file to read: {why}")
        return open_for_reading(self.path)


@attrs.frozen(kw_only=True)
class Report:
    """
    What became of all files of a run.

    Args:
        outcomes: One for each file with anything to tell, in the order of the listing; files that were kept are only
            counted.
        counts: How many files ended well, by action. Every action is a key. ``KEEP`` counts what was listed and is
            here: where only changes were listed, that is fewer than are here.
        not_started: Files that were listed and have no outcome, because the run stopped before.
        requests: Metered requests that were sent, the listing included.
        error: Why the run stopped before its end, or None. Not the failure of a single file.
    """

    outcomes: tuple[Outcome, ...] = ()
    counts: Mapping[Action, int] = attrs.field(factory=lambda: dict.fromkeys(Action, 0))
    not_started: int = 0
    requests: int = 0
    error: ArenaAsyncError | None = None

    @property
    def failures(self) -> tuple[Outcome, ...]:
        """The outcomes with an error."""
        return tuple(outcome for outcome in self.outcomes if outcome.error is not None)

    @property
    def bytes_written(self) -> int:
        """Bytes written to the disk, those of files that failed included."""
        return sum(outcome.bytes_written for outcome in self.outcomes)

    def raise_for_failures(self) -> None:
        """
        Raise if anything failed, or if the run stopped before its end.

        Raises:
            TransfersFailedError: It holds one error per file that failed, and the one that stopped the run.
        """
        errors = [outcome.error for outcome in self.failures if outcome.error is not None]
        failed = len(errors)
        if self.error is not None and all(self.error is not error for error in errors):
            errors.append(self.error)
        if not errors:
            return
        left = f" and {self.not_started} were not started" if self.not_started else ""
        raise TransfersFailedError(
            f"{failed} files failed{left}; what is complete stays, and running again takes up the rest", errors
        )


@attrs.frozen(kw_only=True)
class Started:
    """
    The content of a file is about to be asked for.

    Args:
        file: The file, without its link.
        action: What is done with it.
        bytes_done: Bytes that are here already.
        total: Bytes of the whole file, or None while that is not known.
    """

    file: RemoteFile
    action: Action
    bytes_done: int = 0
    total: int | None = None


@attrs.frozen(kw_only=True)
class Advanced:
    """
    Some more bytes of a file came. Told some ten times a second at the most.

    Args:
        file: The file, without its link.
        bytes_done: Bytes that are here, counted from the start of the file; fewer than before after a restart.
        total: Bytes of the whole file, or None while that is not known.
    """

    file: RemoteFile
    bytes_done: int
    total: int | None = None


@attrs.frozen(kw_only=True)
class Retrying:
    """
    A file did not come and is asked for again.

    Args:
        file: The file, without its link.
        attempt: How often its content was asked for so far.
        wait: Seconds until it is asked for again.
        error: What went wrong.
        bytes_done: Bytes that are here and stay.
    """

    file: RemoteFile
    attempt: int
    wait: float
    error: Exception
    bytes_done: int = 0


@attrs.frozen(kw_only=True)
class Settled:
    """
    A file has its outcome. Files that are kept are not told.

    Args:
        outcome: What became of it.
        bytes_done: Bytes that are here.
    """

    outcome: Outcome
    bytes_done: int = 0


Event = Started | Advanced | Retrying | Settled

#: Any callable that takes an event: a plain function or a coroutine function.
Observer = Callable[[Event], object]


def as_error(error: Exception, *, file: str, attempts: int = 0) -> ArenaAsyncError:
    """Give ``error`` if it is one of ours, else wrap it, so that an outcome always holds one of ours."""
    if isinstance(error, TransferError):
        error.file = error.file or file
        error.attempts = error.attempts or attempts
    if isinstance(error, ArenaAsyncError):
        return error
    # Not chained to it: somebody else's error may carry a signed address in its text.
    frames = traceback.extract_tb(error.__traceback__)
    where = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return TransferError(
        f"{printable(file)}: it failed with an unexpected {type(error).__name__}{where}: {scrub(str(error))}. This is "
        "a fault of this library or of a file set: please report it.",
        file=file,
        attempts=attempts,
    )


class Announcer:
    """
    Tells an observer what happens, and keeps the transfer unharmed by whatever it does.

    A plain function is called on the event loop, in the order things happen, so it may touch anything that belongs to
    the loop. It should return at once: one that needs longer than ``patience`` is logged once and called on a thread of
    its own from then on. What a coroutine function returns is awaited by a task of its own, one event after the other.
    An observer that raises is logged once and told the next event all the same. While more than ``most`` events wait,
    :class:`Advanced` events are left out; the absolute ``bytes_done`` of the next one makes up for it.

    Args:
        observer: Whom to tell, or None.
        clock: Seconds that only ever grow.
        patience: Seconds a plain function may take on the event loop.
        most: Events that may wait.
        farewell: Seconds :meth:`aclose` gives an observer that is behind.
    """

    def __init__(
        self,
        observer: Observer | None,
        *,
        clock: Callable[[], float] = time.monotonic,
        patience: float = 0.1,
        most: int = 1000,
        farewell: float = 5.0,
    ) -> None:
        self._observer = observer
        self._clock = clock
        self._patience = patience
        self._most = most
        self._farewell = farewell
        self._waiting: deque[Event | object] = deque()
        self._threads: Threads | None = None
        self._teller: asyncio.Task[None] | None = None
        self._behind = False
        self._blamed = False
        self._closed = False

    def announce(self, event: Event) -> None:
        """Tell the observer, now or as soon as it has time. Never raises, never waits."""
        if self._observer is None or self._closed:
            return
        if self._behind:
            self._enqueue(event)
            return
        began = self._clock()
        try:
            answer = self._observer(event)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the observer's own
            self._blame(error)
            return
        if inspect.isawaitable(answer):
            self._behind = True
            self._enqueue(answer)
        elif self._clock() - began > self._patience:
            _log.warning(
                "The observer took longer than %g seconds for one event and kept the event loop from working; "
                "it is called on a thread of its own from now on.",
                self._patience,
            )
            self._behind = True
            self._threads = Threads(1, name="arena_async-observer")

    def _enqueue(self, item: Event | object) -> None:
        """Put an event in the queue, unless the observer is too far behind."""
        full = len(self._waiting) >= self._most
        if full and (isinstance(item, Advanced) or len(self._waiting) >= 100 * self._most):
            return
        self._waiting.append(item)
        if self._teller is None or self._teller.done():
            self._teller = asyncio.get_running_loop().create_task(self._tell(), name="arena_async observer")

    async def _tell(self) -> None:
        """Work off the queue."""
        while self._waiting:
            item = self._waiting.popleft()
            try:
                await self._deliver(item)
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    raise
                self._blame(RuntimeError("it cancelled itself"))
            except Exception as error:  # noqa: BLE001 - whatever it is, it is the observer's own
                self._blame(error)

    async def _deliver(self, item: Event | object) -> None:
        """Tell one event, or await what telling it gave."""
        if inspect.isawaitable(item):
            await item
            return
        observer = cast("Callable[[object], object]", self._observer)
        answer = await self._threads.run(observer, item) if self._threads is not None else observer(item)
        if inspect.isawaitable(answer):
            await answer

    def _blame(self, error: Exception) -> None:
        """Log the first error of the observer."""
        if not self._blamed:
            self._blamed = True
            _log.warning("The observer failed; the transfers go on, and it is told further events.", exc_info=error)

    async def drain(self) -> None:
        """Wait until everything was told, ``farewell`` seconds at the most."""
        if self._teller is not None and not self._teller.done():
            await asyncio.wait([self._teller], timeout=self._farewell)

    async def aclose(self) -> None:
        """Tell what waits, then stop. Safe to call twice."""
        self._closed = True
        try:
            await self.drain()
        finally:
            self._drop()
            if self._teller is not None:
                self._teller.cancel()
                await wait_to_end(self._teller)
            if self._threads is not None:
                await self._threads.aclose()

    def _drop(self) -> None:
        """Forget what waits; coroutines among it are closed, so that nobody complains that they were never awaited."""
        if self._waiting:
            _log.warning("The observer was %d events behind when the transfers ended.", len(self._waiting))
        while self._waiting:
            item = self._waiting.popleft()
            if inspect.iscoroutine(item):
                item.close()
