"""Bodies that come in rounds, so that how many of them are open at a time can be counted."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from filesets import Asked, MemoryFiles

from arena_async import Downloader, TransferOptions
from arena_async.options import KIB, Clock

__all__ = ["Rounds", "in_rounds", "settled"]


async def settled(files: MemoryFiles, *, minimum: int = 0) -> None:
    """
    Wait until no further content is asked for, however often the threads get their turn.

    Args:
        files: The set.
        minimum: Requests that are waited for in any case.
    """
    while len(files.requested) < minimum:
        await asyncio.to_thread(int)
    quiet = 0
    while quiet < 300:
        before = len(files.requested)
        await asyncio.to_thread(int)
        quiet = quiet + 1 if len(files.requested) == before else 0


class Rounds:
    """
    Bodies that come in rounds: each time nothing moves any more, half a second is over and all that wait go on.

    Args:
        files: The set.
        link: Bodies that the line has room for in a round; None for all.
    """

    def __init__(self, files: MemoryFiles, *, link: int | None = None) -> None:
        self.files = files
        self._link = link
        self.passed = 0.0
        self.opened: list[int] = []
        self._waiting: list[asyncio.Future[None]] = []
        files.before_open = self._wait

    async def _wait(self, _: Asked) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        await turn

    async def go(self) -> None:
        """Let rounds pass until it is cancelled."""
        while True:
            await settled(self.files)
            if self._waiting:
                self.opened.append(len(self._waiting))
            self.passed += 0.5
            going, self._waiting = self._waiting[: self._link], self._waiting[self._link :] if self._link else []
            for turn in going:
                turn.set_result(None)


async def in_rounds(to: Path, files: MemoryFiles, *, link: int | None = None, **options: Any) -> list[int]:
    """Download files and return how many bodies were open in each round."""
    rounds = Rounds(files, link=link)
    chosen = TransferOptions(**{"chunk_size": 64 * KIB, "durability": "off", **options})

    async def no_wait(_: float) -> None:
        await asyncio.sleep(0)

    going = asyncio.create_task(rounds.go())
    async with Downloader(
        to, options=chosen, clock=Clock(monotonic=lambda: rounds.passed, sleep=no_wait, random=lambda: 0.5)
    ) as downloads:
        await downloads.run(files)
    going.cancel()
    await asyncio.wait([going])
    return rounds.opened
