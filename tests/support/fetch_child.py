"""
A process that does a whole job of an Arena simulator and may be killed on the way.

``python fetch_child.py '{"definition": ..., "to": ..., "file": ...}'`` takes its settings from the environment,
fetches an export (or, with a file, checks an import; with ``commit``, commits it; with ``run``, commits that one) and
prints what came of it. With ``hurried`` a wait is over at once, and its clock shows that it has passed.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import inherited

from arena_async.options import Clock, PollPolicy
from arena_async.providers.arena import ArenaClient, Submission

__all__: list[str] = []


class _Hurried:
    """A clock on which waiting takes no time."""

    passed = 0.0

    async def sleep(self, seconds: float) -> None:
        self.passed += seconds
        await asyncio.sleep(0)

    @property
    def clock(self) -> Clock:
        return Clock(
            monotonic=lambda: time.monotonic() + self.passed,
            sleep=self.sleep,
            now=lambda: datetime.now(UTC) + timedelta(seconds=self.passed),
        )


async def _main(settings: dict[str, Any]) -> None:
    poll = PollPolicy(every=0.05, max_interval=0.1, timeout=30)
    clock = None
    if "hurried" in settings:
        clock, poll = _Hurried().clock, PollPolicy()
    async with ArenaClient.from_env(clock=clock) as arena:
        if "run" in settings:
            run = await arena.imports.commit(settings["definition"], settings["run"])
            sys.stdout.write(json.dumps({"run": run.guid, "commit": run.commit}))
            return
        if "file" in settings:
            file = Submission(settings["file"], commit=settings.get("commit", False))
            fetched: Any = await arena.imports.fetch(settings["definition"], file, settings["to"], poll=poll)
        else:
            fetched = await arena.exports.fetch(settings["definition"], settings["to"], poll=poll)
    reported = {"run": fetched.run.guid, "resumed": fetched.resumed, "paths": [str(path) for path in fetched.paths]}
    sys.stdout.write(json.dumps(reported))


if __name__ == "__main__":
    inherited.take_over()
    asyncio.run(_main(json.loads(sys.argv[1])))
