"""Whose turn it is: the lanes of a folder, shared by the sets that are brought there at the same time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from arena_async.options import KIB
from arena_async.transfer.threads import Lane

__all__ = ["Slots", "buffer_size"]

#: Lanes whose buffers are whole. With more of them at work, one takes while others write, and memory counts.
_WHOLE = 8
#: What the others have: a part of that, and not less than so many bytes.
_PART, _LEAST = 4, 256 * KIB


def buffer_size(number: int, *, chunk_size: int) -> int:
    """
    Say how large each buffer of a lane is.

    Args:
        number: Lanes that there were before it.
        chunk_size: What was asked for, in bytes.
    """
    return chunk_size if number < _WHOLE else min(chunk_size, max(_LEAST, chunk_size // _PART))


class Slots:
    """
    The lanes of a folder, shared by the sets that are brought there at the same time.

    Each set that has begun keeps at least one lane within reach, so that a set whose host stalls cannot take the last
    one from the others; beyond that, who asks first is served first.

    Args:
        make: Makes a lane; one is made only when all that there are are taken.
        width: Lanes that are out at a time, at the most.
    """

    def __init__(self, make: Callable[[], Lane], *, width: int) -> None:
        #: Every lane there is.
        self.lanes: list[Lane] = []
        self._make = make
        self._width = width
        self._out = 0
        self._free: list[Lane] = []
        self._held: dict[int, int] = {}
        self._wishes: set[int] = set()
        self._waiting: deque[tuple[int, asyncio.Future[Lane]]] = deque()

    @property
    def free(self) -> int:
        """Lanes that nobody has now and somebody may have."""
        return max(0, self._width - self._out)

    @property
    def wanted(self) -> bool:
        """Whether somebody waits for a lane."""
        return any(not turn.done() for _, turn in self._waiting)

    @property
    def wished(self) -> bool:
        """Whether somebody waits for a lane, or would take more of them for one file."""
        return self.wanted or bool(self._wishes)

    def wish(self, who: object, *, more: bool) -> None:
        """Say whether somebody would take more lanes if there were any, without waiting for them."""
        if more:
            self._wishes.add(id(who))
        else:
            self._wishes.discard(id(who))

    def set_width(self, width: int) -> None:
        """Let so many lanes be out at a time; those that are out beyond that come back when their files are done."""
        self._width = width
        self._hand_out()

    def join(self, files: object) -> None:
        """Say that a set begins."""
        self._held.setdefault(id(files), 0)

    def leave(self, files: object) -> None:
        """Say that a set has ended and holds nothing any more."""
        self._held.pop(id(files), None)
        self._hand_out()

    async def take(self, files: object) -> Lane:
        """Wait for a lane."""
        turn: asyncio.Future[Lane] = asyncio.get_running_loop().create_future()
        self._waiting.append((id(files), turn))
        self._hand_out()
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give(files, turn.result())
            raise

    def spare(self, files: object) -> int:
        """Say how many lanes a set may have beyond its files: those that nobody waits for and no other set may need."""
        without = sum(held == 0 for other, held in self._held.items() if other != id(files))
        return 0 if self.wanted else max(0, self.free - without)

    def take_spare(self, files: object) -> Lane | None:
        """Give a spare lane without waiting, or None."""
        return self._hand(id(files)) if self.spare(files) else None

    def give(self, files: object, lane: Lane) -> None:
        """Put a lane back."""
        # The one used last is taken next: its buffers are still in the cache.
        self._free.append(lane)
        self._out -= 1
        if id(files) in self._held:
            self._held[id(files)] -= 1
        self._hand_out()

    def _hand_out(self) -> None:
        """Give free lanes to those who wait, as long as nobody else's last one would go."""
        passed: deque[tuple[int, asyncio.Future[Lane]]] = deque()
        while self._waiting and self.free:
            key, turn = self._waiting.popleft()
            if turn.done():
                continue
            if not self._within_share(key):
                passed.append((key, turn))
                continue
            turn.set_result(self._hand(key))
        self._waiting.extendleft(reversed(passed))

    def _hand(self, key: int) -> Lane:
        """Give a free lane out, or a new one."""
        if key in self._held:
            self._held[key] += 1
        self._out += 1
        if not self._free:
            self.lanes.append(self._make())
            return self.lanes[-1]
        return self._free.pop()

    def _within_share(self, key: int) -> bool:
        """Say whether enough is left for each other set that holds nothing."""
        without = sum(held == 0 for other, held in self._held.items() if other != key)
        return self.free > without or self._held.get(key, 0) == 0
