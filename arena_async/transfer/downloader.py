"""The public ways to download a file set: ``Downloader``, its outcomes as a stream, and the report over them."""

from __future__ import annotations

import asyncio
import os
from typing import ClassVar, Self

from arena_async.errors import ClosedError
from arena_async.options import Clock, TransferOptions
from arena_async.protocol.files import FileSet, UsesMetadataCache
from arena_async.transfer.context import Context
from arena_async.transfer.events import Observer
from arena_async.transfer.jobs import Numbered
from arena_async.transfer.leases import RunLease
from arena_async.transfer.models import Action
from arena_async.transfer.outcomes import Outcome, Outcomes, Report
from arena_async.transfer.page_planner import PagePlanner
from arena_async.transfer.scheduler import TransferRun
from arena_async.transfer.workers import wait_to_end

__all__ = ["DirectoryOwner", "Downloader", "OutcomeStream", "report_on"]


class OutcomeStream:
    """
    Outcomes as they come: an async iterator, and an async context manager that leaves nothing running.

    ::

        async with downloads.stream(files) as outcomes:
            async for outcome in outcomes:
                ...                      # leave whenever you like, by break, return or an exception

    It starts when the first outcome is requested. Left early without its own ``async with``, it ends with the
    :class:`Downloader` it came from, and meanwhile goes on only as far as its small buffer reaches. After the last
    outcome it raises what stopped it before its end, if anything did: a listing that failed, an exhausted quota, a full
    disk.
    """

    def __init__(self, run: TransferRun, context: Context) -> None:
        #: The run, for the other modules of this package.
        self.run = run
        self._context = context
        self._closing: asyncio.Task[None] | None = None

    @property
    def closed(self) -> bool:
        """Whether it was closed and nothing of it runs any more."""
        return self._closing is not None and self._closing.done()

    @property
    def listed(self) -> int:
        """Files that were listed so far."""
        return self.run.listing.count

    @property
    def kept(self) -> int:
        """Files that are in the directory and unchanged, and have no outcome."""
        return self.run.kept

    @property
    def not_started(self) -> int:
        """Files that were listed and have no outcome (yet)."""
        return self.run.not_started

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Outcome:
        return (await self.next_numbered()).outcome

    async def next_numbered(self) -> Numbered:
        """
        Return the next outcome with its position in the listing.

        Raises:
            StopAsyncIteration: There is none, and everything listed was done.
            ArenaAsyncError: There is none, and this is what stopped the rest.
            ClosedError: It was closed meanwhile by another task.
        """
        run = self.run
        if self._closing is not None:
            raise StopAsyncIteration
        if not run.outcomes:
            self._context.check_usable()
        numbered = await run.next_outcome()
        if numbered is not None:
            return numbered
        await self.aclose()
        if not run.ended:
            raise ClosedError("The stream of outcomes was closed by another task; what was under way can be resumed.")
        failure, run.failure = run.failure or run.error, None
        if failure is not None:
            raise failure
        raise StopAsyncIteration

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Stop listing and downloading and wait until nothing runs any more; partial files stay. Safe to call twice."""
        if self._closing is None:
            self._closing = asyncio.create_task(self.run.close(), name="arena_async closing")
        await wait_to_end(self._closing)
        self._closing.result()


async def report_on(stream: OutcomeStream, files: FileSet, *, fail_fast: bool = False) -> Report:
    """
    Take a stream to its end and return the report, in the order of the listing.

    Args:
        stream: Not started yet.
        files: What it lists, for the requests that were sent.
        fail_fast: Stop at the first failure.

    Raises:
        ArenaAsyncError: The listing failed. What was listed before is done, as a note on the error says.
    """
    before, run = files.requests_sent, stream.run
    rows = Outcomes()
    try:
        while True:
            numbered = await stream.next_numbered()
            rows.add(numbered.number, numbered.outcome)
            if fail_fast and numbered.outcome.error is not None:
                break
    except StopAsyncIteration:
        pass
    except Exception as error:
        if error is not run.error:
            done = sum(rows.counts.values()) + run.kept
            error.add_note(f"{done} of the {run.listing.count} files listed before that are done; they stay.")
            raise
    finally:
        await stream.aclose()
    for numbered in run.outcomes:
        rows.add(numbered.number, numbered.outcome)
    rows.counts[Action.KEEP] += run.kept
    return Report(
        outcomes=rows.in_order(),
        counts=rows.counts,
        not_started=run.not_started,
        requests=files.requests_sent - before,
        error=run.error,
    )


class DirectoryOwner:
    """
    Opens a directory when it is entered or first used, and closes it with everything that runs in it.

    Args:
        to: The directory; it is made when it is missing.
        options: How files are downloaded.
        observer: Called with each event; a plain function or a coroutine function. It cannot harm a transfer.
        clock: Time and randomness, for tests.

    Raises:
        ConfigurationError: The directory or an option is not usable. Nothing was touched.
    """

    #: Whether complete files are remembered.
    _remembers: ClassVar[bool] = False

    def __init__(
        self,
        to: str | os.PathLike[str],
        *,
        options: TransferOptions | None = None,
        observer: Observer | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._context = Context(
            to,
            options=options or TransferOptions(),
            observer=observer,
            remember=self._remembers,
            clock=clock or Clock(),
            owner=type(self).__name__,
        )
        self._streams: list[OutcomeStream] = []
        self._leases: set[RunLease] = set()
        self._closing: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        try:
            await self._context.open()
        except asyncio.CancelledError:
            await self.aclose()  # A context manager that was not entered is not left.
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """
        Stop everything, commit what is verified, and close the directory. Safe to call twice.

        Where the event loop that it was used in was closed, this may be called in a later one.

        Raises:
            ClosedError: It was used in another event loop, which was not closed: close it there.
        """
        # In a task of its own: all streams are closed before the directory, however often this one is cancelled.
        if self._closing is None:
            self._context.check_closable()
            self._closing = asyncio.create_task(self._close(), name="arena_async closing")
        await wait_to_end(self._closing)
        self._closing.result()

    async def _close(self) -> None:
        if self._context.orphaned:
            jobs = [job for stream in self._streams for job in stream.run.queue.jobs]
            await self._context.aclose([job.partial for job in jobs if job.partial is not None])
            return
        try:
            for stream in self._streams:
                await stream.aclose()
            for lease in list(self._leases):
                await lease.aclose()
        finally:
            await self._context.aclose()

    def _stream(
        self, files: FileSet, *, dry: bool = False, ask_again: bool = False, lease: RunLease | None = None
    ) -> OutcomeStream:
        """Return a stream that ends with this object."""
        self._streams = [stream for stream in self._streams if not stream.closed]
        if self._remembers and isinstance(files, UsesMetadataCache):
            files = files.recalling(self._context)
        planner = PagePlanner(files, self._context, dry, ask_again, lease)
        stream = OutcomeStream(TransferRun(files, self._context, planner), self._context)
        self._streams.append(stream)
        return stream


class Downloader(DirectoryOwner):
    """
    Downloads files into a directory: always fetches, replaces atomically, resumes what was cut off.

    It has no memory of complete files; :class:`Mirror` has.

    ::

        async with Downloader("exports/") as downloads:
            report = await downloads.run(files)

    It can be entered in one task and left in another, and may serve several sets at a time; all share its workers.

    Args:
        to: The directory; it is made when it is missing.
        options: How files are downloaded.
        observer: Called with each event; a plain function or a coroutine function. It cannot harm a transfer.
        clock: Time and randomness, for tests.

    Raises:
        ConfigurationError: The directory or an option is not usable. Nothing was touched.
    """

    def stream(self, files: FileSet) -> OutcomeStream:
        """
        Return the outcomes of a set as they come. Nothing starts before the first one is requested.

        Raises:
            ClosedError: It was closed before, or is used from another event loop or after a fork.
        """
        self._context.check_usable()
        return self._stream(files)

    async def run(self, files: FileSet, *, fail_fast: bool = False) -> Report:
        """
        Download all files of a set and return a report, in the order of the listing.

        A file that fails is an outcome with an error. When the quota is exhausted, a login is rejected or the disk is
        full, no further file is begun: ``report.error`` says why and ``report.not_started`` how many are left.

        Args:
            files: What to download.
            fail_fast: Stop at the first file that fails; what is in progress can be resumed.

        Raises:
            ArenaAsyncError: The listing failed, so that it is not known what is missing. Everything that was listed
                before was downloaded first.
            ClosedError: It was closed before, or is used from another event loop or after a fork.
        """
        report = await report_on(self.stream(files), files, fail_fast=fail_fast)
        if self._context.emitter.active:
            await self._context.emitter.drain()
        return report
