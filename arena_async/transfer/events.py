"""
Events of downloads, and how an observer receives them.

::

    Started -> Progress ... -> Retrying -> Progress ... -> Finished        one file, bytes_done always absolute
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import cast

import attrs

from arena_async.protocol.files import RemoteFile
from arena_async.transfer.models import Action
from arena_async.transfer.outcomes import Outcome
from arena_async.transfer.workers import Threads, wait_to_end

__all__ = ["Event", "EventEmitter", "Finished", "Observer", "Progress", "Retrying", "Started", "Stopped"]

_log = logging.getLogger("arena_async")


@attrs.frozen(kw_only=True)
class Started:
    """
    The content of a file is about to be requested for the first time.

    Args:
        file: The file, without its link.
        action: What is done with it.
        bytes_done: Bytes that are on the disk already.
        total: Bytes of the whole file, or None while that is not known.
    """

    file: RemoteFile
    action: Action
    bytes_done: int = 0
    total: int | None = None


@attrs.frozen(kw_only=True)
class Progress:
    """
    More bytes of a file were received. Emitted about ten times a second per file at most.

    Args:
        file: The file, without its link.
        bytes_done: Bytes received, counted from the start of the file; fewer than before after a restart.
        total: Bytes of the whole file, or None while that is not known.
    """

    file: RemoteFile
    bytes_done: int
    total: int | None = None


@attrs.frozen(kw_only=True)
class Retrying:
    """
    A request for the content of a file failed and is retried.

    Args:
        file: The file, without its link.
        attempt: Requests sent for its content so far.
        wait: Seconds until the next request.
        error: What went wrong.
        bytes_done: Bytes that are kept.
    """

    file: RemoteFile
    attempt: int
    wait: float
    error: Exception
    bytes_done: int = 0


@attrs.frozen(kw_only=True)
class Finished:
    """
    A file has its outcome. Kept files emit no event.

    Args:
        outcome: What became of it.
        bytes_done: Bytes that are on the disk.
    """

    outcome: Outcome
    bytes_done: int = 0


@attrs.frozen(kw_only=True)
class Stopped:
    """
    A file was put down before its end, because everything was stopped. It has no outcome.

    Args:
        file: The file, without its link.
        bytes_kept: Bytes that the next run does not request again.
        resumable: Whether the server gave a strong ETag, without which nothing can be kept.
    """

    file: RemoteFile
    bytes_kept: int
    resumable: bool


Event = Started | Progress | Retrying | Finished | Stopped

#: Any callable that takes an event: a plain function or a coroutine function.
Observer = Callable[[Event], object]


class EventEmitter:
    """
    Calls an observer with events, and isolates transfers from whatever it does.

    A plain function is called on the event loop, in the order of events, so it may touch anything that belongs to the
    loop. It should return at once: one that needs longer than ``max_seconds`` is logged once and called on its own
    thread from then on. What a coroutine function returns is awaited by a separate task, one event after the other.
    An error of the observer is logged once, and it still receives later events. While more than ``max_waiting`` events
    wait, :class:`Progress` events are dropped; the absolute ``bytes_done`` of the next one makes up for it.

    Args:
        observer: The function to call, or None.
        clock: Seconds that only ever grow.
        max_seconds: Seconds a plain function may take on the event loop.
        max_waiting: Events that may wait for the observer.
        drain_timeout: Seconds that :meth:`aclose` waits for an observer that is behind.
    """

    def __init__(
        self,
        observer: Observer | None,
        *,
        clock: Callable[[], float] = time.monotonic,
        max_seconds: float = 0.1,
        max_waiting: int = 1000,
        drain_timeout: float = 5.0,
    ) -> None:
        #: Whether there is an observer; without one, no event needs to be built.
        self.active = observer is not None
        self._observer = observer
        self._clock = clock
        self._max_seconds = max_seconds
        self._max_waiting = max_waiting
        self._drain_timeout = drain_timeout
        self._waiting: deque[Event | object] = deque()
        self._threads: Threads | None = None
        self._task: asyncio.Task[None] | None = None
        self._behind = False
        self._logged_failure = False
        self._closed = False

    def emit(self, event: Event) -> None:
        """Call the observer, now or as soon as it is ready. Never raises, never waits."""
        if self._observer is None or self._closed:
            return
        if self._behind:
            self._enqueue(event)
            return
        began = self._clock()
        try:
            answer = self._observer(event)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - the observer's errors stay its own
            # Nothing is awaited here, so that a cancellation can only be its own.
            self._log_failure(error)
            return
        if inspect.isawaitable(answer):
            self._behind = True
            self._enqueue(answer)
        elif self._clock() - began > self._max_seconds:
            _log.warning(
                "The observer took longer than %g seconds for one event and kept the event loop from working; "
                "it is called on a thread of its own from now on.",
                self._max_seconds,
            )
            self._behind = True
            self._threads = Threads(1, name="arena_async-observer")

    def _enqueue(self, item: Event | object) -> None:
        """Put an event in the queue, unless the observer is too far behind."""
        full = len(self._waiting) >= self._max_waiting
        if full and (isinstance(item, Progress) or len(self._waiting) >= 100 * self._max_waiting):
            return
        self._waiting.append(item)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._work(), name="arena_async observer")

    async def _work(self) -> None:
        """Deliver the queued events in order, and await what the observer returns."""
        observer = cast("Callable[[object], object]", self._observer)
        while self._waiting:
            item = self._waiting.popleft()
            try:
                if not inspect.isawaitable(item):
                    item = await self._threads.run(observer, item) if self._threads is not None else observer(item)
                if inspect.isawaitable(item):
                    await item
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    raise
                self._log_failure(RuntimeError("it cancelled itself"))
            except Exception as error:  # noqa: BLE001 - the observer's errors stay its own
                self._log_failure(error)

    def _log_failure(self, error: BaseException) -> None:
        """Log the first error of the observer."""
        if not self._logged_failure:
            self._logged_failure = True
            _log.warning("The observer failed; the transfers go on, and it receives further events.", exc_info=error)

    async def drain(self) -> None:
        """Wait until every event was delivered, ``drain_timeout`` seconds at most."""
        if self._task is not None and not self._task.done():
            await asyncio.wait([self._task], timeout=self._drain_timeout)

    async def aclose(self) -> None:
        """Deliver what waits, then stop. Safe to call twice."""
        self._closed = True
        try:
            await self.drain()
        finally:
            if self._waiting:
                _log.warning("The observer was %d events behind when the transfers ended.", len(self._waiting))
            for item in self._waiting:
                if inspect.iscoroutine(item):
                    item.close()  # Which avoids "never awaited" warnings.
            self._waiting.clear()
            if self._task is not None:
                self._task.cancel()
                await wait_to_end(self._task)
            if self._threads is not None:
                await self._threads.aclose()
