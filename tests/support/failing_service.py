"""
A simulated CentrePoint in a process of its own whose every so-manieth answer goes wrong.

``python failing_service.py '{"files": 3, "share": 0.05, "seed": 1, ...}'`` prints one line of JSON with what a client
needs, and answers each line it reads with another one::

    {"do": "turn"}                    every program ran again: all files are others, under other names
    {"do": "calm"}                    nothing goes wrong from here on
    {"do": "unlucky"}                 and from here on it does again
    {"do": "figures"}                 requests for content and to the API since the last such line, and what is a breach
    {"do": "digests"}                 the SHA-256 of each file, by its path in a mirror

In a test::

    async with UnluckyService(files=1000, share=0.05, seed=1) as service:
        facts, figures = service.facts, await service.ask("figures")
"""

from __future__ import annotations

import asyncio
import json
import math
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from arena_async.testing import faults
from arena_async.testing.centrepoint.simulator import CentrePointSimulator
from arena_async.testing.centrepoint.storage import storage_error
from arena_async.testing.faults import Fault
from arena_async.testing.replies import Seen

__all__ = ["UnluckyService"]

#: After so many answers all links that were given out are over at once.
EXPIRY = 4000
#: Seconds between two ends of the session, at the least: a client gives up at the third within five minutes, lest it
#: and another one log each other out for ever.
SESSION = 160.0
_OVER = storage_error(403, "AuthenticationFailed", "Signature not valid in the specified time frame.")


def _over() -> Fault:
    """Refuse this one link as one that is over."""
    assert isinstance(_OVER.body, bytes)
    return faults.status(403, body=_OVER.body, headers=dict(_OVER.headers))


class _Unlucky(CentrePointSimulator):
    """A share of its answers goes wrong, by a chance that is the same for the same seed and the same requests."""

    def __init__(self, *, share: float, seed: int, **settings: Any) -> None:
        super().__init__(rate_limit=None, **settings)
        self.share = share
        self.calm = False
        self.met = 0
        self._chance = random.Random(seed)
        self._answers = 0
        self._ended_at = -math.inf

    def _next_fault(self, seen: Seen) -> Fault | None:
        """Let chance choose."""
        if self.calm or seen.listener == "auth":
            return None
        self._answers += 1
        if self._answers % EXPIRY == 0:
            self.met += 1
            return faults.expire_links()
        if self._chance.random() >= self.share:
            return None
        self.met += 1
        at = self._chance.randrange(self.file_size)
        kinds: list[Callable[[], Fault]] = [lambda: faults.status(503), faults.mute, self._end_session]
        if seen.listener == "files":
            kinds = [
                lambda: faults.drop(after_bytes=at),
                lambda: faults.reset(after_bytes=at),
                lambda: faults.stall(after_bytes=at),
                lambda: faults.chunked(drop_after=at),
                lambda: faults.truncate(to=at),
                lambda: faults.corrupt(at=at),
                lambda: faults.wrong_length(self.file_size + 1),
                lambda: faults.with_headers({"Content-Range": f"bytes 0-{at}/{at + 1}"}),
                lambda: faults.status(503),
                lambda: faults.status(500),
                lambda: faults.status(429, headers={"Retry-After": "0"}),
                faults.html_page,
                faults.mute,
                _over,
            ]
        return self._chance.choice(kinds)()

    def _end_session(self) -> Fault:
        """End the session, or refuse this once where one ended a short while ago."""
        now = time.monotonic()
        if now - self._ended_at < SESSION:
            return faults.status(503)
        self._ended_at = now
        return faults.expire_session()

    def carry_out(self, what: str) -> Any:
        """Do what a line says, and give what is answered."""
        if what == "turn":
            for key in self.files:
                self.change_file(key)
        elif what in ("calm", "unlucky"):
            self.calm = what == "calm"
        elif what == "digests":
            return {key.path: self.sha256(key) for key in self.files}
        elif what == "figures":
            counts = {name: len(self.seen(listener=name)) for name in self.listeners}
            found = {**counts, "faults": self.met, "breaches": self.breaches, "max_at_once": self.max_in_flight}
            self.clear()
            self.met = 0
            return found
        return None


class UnluckyService:
    """
    The process; an async context manager.

    Attributes:
        facts: What ``describe()`` of the simulator says, and its programs.
    """

    def __init__(self, **settings: Any) -> None:
        self._settings = settings
        self._process: asyncio.subprocess.Process | None = None
        self.facts: dict[str, Any] = {}

    async def ask(self, what: str) -> Any:
        """Send one line, and give what is answered."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": what}).encode() + b"\n")
        return await self._answer()

    async def _answer(self) -> Any:
        assert self._process is not None
        assert self._process.stdout is not None
        return json.loads(await self._process.stdout.readline())

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(Path(__file__)),
            json.dumps(self._settings),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=1 << 26,
        )
        self.facts = await self._answer()
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()


async def _serve(settings: dict[str, Any]) -> None:
    """Serve until standard input ends."""
    loop = asyncio.get_running_loop()
    async with _Unlucky(**settings) as simulator:
        answer: Any = {**simulator.describe(), "programs": simulator.programs}
        while True:
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()
            line = await loop.run_in_executor(None, sys.stdin.readline)
            if not line:
                return
            answer = simulator.carry_out(json.loads(line)["do"])


if __name__ == "__main__":
    asyncio.run(_serve(json.loads(sys.argv[1])))
