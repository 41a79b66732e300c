"""How the protections of the concurrency rows are removed."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import attrs
from sabotage import Patch, protection

from arena_async.errors import ArenaAsyncError


async def _left_behind(work: asyncio.Future[Any]) -> None:
    """Wait as anybody would: a cancellation goes through at once and leaves the work behind."""
    await asyncio.wait([work])


@protection("a cancelled file is put down, and not left where it is")
def _(patch: Patch) -> None:
    async def nothing(*_: object, **__: object) -> None:
        return None

    patch.replace("arena_async.transfer:put_down", nothing)


@protection("a cancellation waits for the thread that is writing")
def _(patch: Patch) -> None:
    patch.replace("arena_async.transfer:wait_to_end", _left_behind)


@protection("a commit is not ended by a cancellation")
def _(patch: Patch) -> None:
    begun: list[Any] = []

    def note(self: Any, pending: Any) -> None:
        begun.append(pending)
        put(self, pending)

    async def drop(self: Any) -> None:
        for pending in begun:
            if pending.partial is not None:
                pending.partial.drop()
        await close(self)

    put = patch.replace("arena_async.transfer:Committer.put", note)
    close = patch.replace("arena_async.transfer:OutcomeStream.aclose", drop)


@protection("the failure of a file is its own")
def _(patch: Patch) -> None:
    def raising(error: Exception, _: object, *, twice: bool) -> None:
        del twice
        raise error

    patch.replace("arena_async.transfer:refusal_kind", raising)


@protection("fail-fast stops at the first failure")
def _(patch: Patch) -> None:
    real = patch.current("arena_async.transfer:report_on")

    async def patient(stream: Any, files: Any, *, fail_fast: bool = False) -> Any:
        async with asyncio.timeout(3):
            return await real(stream, files)

    patch.replace("arena_async.transfer:report_on", patient)


@protection("an observer cannot harm a transfer")
def _(patch: Patch) -> None:
    def unguarded(self: Any, event: Any) -> None:
        if self._observer is not None:
            answer = self._observer(event)
            if asyncio.iscoroutine(answer):
                answer.close()

    patch.replace("arena_async.transfer:EventEmitter.emit", unguarded)


@protection("jobs are pulled as there is room")
def _(patch: Patch) -> None:
    patch.replace("arena_async.transfer:PAGE", 1_000_000)


@protection("each run keeps a permit within reach")
def _(patch: Patch) -> None:
    patch.replace("arena_async.transfer:Permits._available_to", lambda self, _: self.free > 0)


@protection("content is verified on a thread")
def _(patch: Patch) -> None:
    def at_once(self: Any, call: Any, *args: Any, **how: Any) -> Any:
        done = asyncio.get_running_loop().create_future()
        try:
            done.set_result(call(*args, **how))
        except Exception as error:  # noqa: BLE001 - passed to the waiting task
            done.set_exception(error)
        return done

    patch.replace("arena_async.transfer:Threads.start", at_once)


@protection("a wait between two tries can be cancelled")
def _(patch: Patch) -> None:
    def patient(self: Any, *args: Any, **how: Any) -> None:
        given(self, *args, **how)
        sleep = self.clock.sleep

        async def stubborn(seconds: float) -> None:
            with anyio.CancelScope(shield=True):
                work = asyncio.ensure_future(sleep(seconds))
                while not work.done():
                    try:
                        await asyncio.wait([work], timeout=21)
                        work.cancel()
                    except asyncio.CancelledError:
                        continue

        self.clock = attrs.evolve(self.clock, sleep=stubborn)

    given = patch.replace("arena_async.transfer:Context.__init__", patient)


@protection("a permit comes back whatever happens")
def _(patch: Patch) -> None:
    async def unguarded(job: Any, source: Any) -> Any:
        try:
            return await attempt(job, source)
        except ArenaAsyncError:
            raise
        except Exception as error:
            raise _UncaughtError from error

    attempt = patch.replace("arena_async.transfer:attempt", unguarded)


class _UncaughtError(BaseException):
    """An error that nothing catches."""


@protection("outcomes that are not taken hold the workers back")
def _(patch: Patch) -> None:
    patch.replace("arena_async.transfer:_WAITING", 1_000_000)


@protection("a cancellation that nobody asked for is a failure")
def _(patch: Patch) -> None:
    patch.replace("arena_async.transfer:is_stray", lambda error: False)
