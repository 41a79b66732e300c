"""How the protections of the concurrency rows are taken away."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import Any

import anyio
from sabotage import Patch, protection


async def _left_behind(work: asyncio.Future[Any]) -> None:
    """Wait as anybody would: a cancellation goes through at once and leaves the work behind."""
    await asyncio.wait([work])


@protection("a cancelled file is put down, and not left where it is")
def _(patch: Patch) -> None:
    async def nothing(self: Any, *, drop: bool) -> None:
        return None

    patch.replace("arena_async.transfer.fetching:_Download.put_down", nothing)


@protection("a cancellation waits for the thread that is writing")
def _(patch: Patch) -> None:
    patch.replace("arena_async.transfer.workers:wait_to_end", _left_behind)


@protection("a commit is ended by nobody but itself")
def _(patch: Patch) -> None:
    real = patch.current("arena_async.transfer.committing:Committer.commit")

    async def unshielded(self: Any, staged: Any, entry: Any) -> Any:
        work = asyncio.ensure_future(real(self, staged, entry))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            if self._task is not None:
                self._task.cancel()
            staged.drop()
            raise

    patch.replace("arena_async.transfer.committing:Committer.commit", unshielded)


@protection("the failure of a file is its own")
def _(patch: Patch) -> None:
    def raising(error: Exception, _: object) -> bool:
        raise error

    patch.replace("arena_async.transfer.planning:worth_remembering", raising)


@protection("fail-fast stops at the first failure")
def _(patch: Patch) -> None:
    real = patch.current("arena_async.transfer.pool:report_on")

    async def patient(stream: Any, files: Any, *, fail_fast: bool = False) -> Any:
        async with asyncio.timeout(3):
            return await real(stream, files)

    patch.replace("arena_async.transfer.pool:report_on", patient)


@protection("an observer cannot harm a transfer")
def _(patch: Patch) -> None:
    def unguarded(self: Any, event: Any) -> None:
        if self._observer is not None:
            answer = self._observer(event)
            if asyncio.iscoroutine(answer):
                answer.close()

    patch.replace("arena_async.transfer.events:EventEmitter.emit", unguarded)


@protection("jobs are pulled as there is room")
def _(patch: Patch) -> None:
    real = patch.current("arena_async.transfer.pool:OutcomeStream.__init__")

    def boundless(self: Any, *args: Any, **how: Any) -> None:
        real(self, *args, **how)
        self._page = asyncio.Queue()

    patch.replace("arena_async.transfer.pool:OutcomeStream.__init__", boundless)


@protection("each set keeps a lane within reach")
def _(patch: Patch) -> None:
    patch.replace("arena_async.transfer.slots:WorkerPool._within_share", lambda self, key: True)


@protection("content is looked at on the thread of its slot")
def _(patch: Patch) -> None:
    def at_once(self: Any, call: Any, *args: Any, **how: Any) -> Any:
        done = asyncio.get_running_loop().create_future()
        try:
            done.set_result(call(*args, **how))
        except Exception as error:  # noqa: BLE001 - handed to whoever waits
            done.set_exception(error)
        return done

    patch.replace("arena_async.transfer.workers:Threads.start", at_once)


@protection("a wait between two tries can be cancelled")
def _(patch: Patch) -> None:
    real = patch.current("arena_async.transfer.fetching:_Download.recover")

    async def stubborn(self: Any, failure: Exception) -> None:
        with anyio.CancelScope(shield=True):
            work = asyncio.ensure_future(real(self, failure))
            while not work.done():
                try:
                    await asyncio.wait([work], timeout=25)
                    work.cancel()
                except asyncio.CancelledError:
                    continue
        await work

    patch.replace("arena_async.transfer.fetching:_Download.recover", stubborn)


@protection("a slot comes back whatever happens")
def _(patch: Patch) -> None:
    @asynccontextmanager
    async def leaking(self: Any, files: object) -> Any:
        worker = await self.slots.take(files)
        yield worker
        await worker.abandon()
        self.slots.give(files, worker)

    patch.replace("arena_async.transfer.destination:Destination.worker", leaking)


@protection("outcomes that nobody takes hold the pool back")
def _(patch: Patch) -> None:
    real = patch.current("arena_async.transfer.pool:OutcomeStream.__init__")

    def boundless(self: Any, *args: Any, **how: Any) -> None:
        real(self, *args, **how)
        self._outcomes = asyncio.Queue()

    patch.replace("arena_async.transfer.pool:OutcomeStream.__init__", boundless)
