"""
A simulator in a process of its own.

``python -m benchmarks.service arena|centrepoint '{"files": 3}'`` prints one line of JSON with what a client needs,
serves until standard input ends, and then prints one more with what it has seen.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

__all__ = ["Service", "serving"]


class Service:
    """
    A running simulator.

    Attributes:
        facts: What its ``describe()`` says: addresses, credentials, environment.
        seen: Requests by method, once it has ended.
    """

    def __init__(self, facts: dict[str, Any]) -> None:
        self.facts = facts
        self.seen: dict[str, int] = {}


@contextmanager
def serving(kind: str, **settings: Any) -> Iterator[Service]:
    """Start a simulator with the settings of its class; it ends with the block, and ``seen`` is filled then."""
    command = [sys.executable, "-m", "benchmarks.service", kind, json.dumps(settings)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        service = Service(json.loads(process.stdout.readline()))
        try:
            yield service
        finally:
            process.stdin.close()
            service.seen = json.loads(process.stdout.readline() or "{}")


class _Elsewhere:
    """
    Signs links to files that another server has, one after the other.

    Args:
        base: The address of their folder.
        suffix: What follows the number in the name of each, which is its place in the listing.
    """

    def __init__(self, base: str, suffix: str) -> None:
        self._base, self._suffix = base, suffix
        self._given: dict[str, str] = {}

    def link(self, origin: str, path: str, *, now: datetime, ends: datetime) -> str:
        """Sign a link; the same path has the same file behind it every time."""
        del origin
        name = self._given.setdefault(path, f"{len(self._given):06d}{self._suffix}")
        signature = hashlib.sha256(path.encode()).hexdigest()
        return f"{self._base}/{name}?se={ends:%Y-%m-%dT%H:%M:%SZ}&sp=r&st={now:%Y-%m-%dT%H:%M:%SZ}&sig={signature}"


async def serve(kind: str, settings: dict[str, Any]) -> None:
    """Serve until standard input ends."""
    from arena_async.testing import ArenaSimulator, CentrePointSimulator

    elsewhere = settings.pop("content", None)
    simulator = {"arena": ArenaSimulator, "centrepoint": CentrePointSimulator}[kind](**settings)
    if elsewhere is not None:
        simulator.storage = _Elsewhere(**elsewhere)
    async with simulator:
        facts = simulator.describe()
        if kind == "arena":
            facts["extract"] = simulator.extract
        print(json.dumps(facts), flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        print(json.dumps(Counter(seen.method for seen in simulator.log)), flush=True)


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], json.loads(sys.argv[2])))
