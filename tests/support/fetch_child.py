"""
A process that does a whole job of an Arena simulator and may be killed on the way.

``python fetch_child.py '{"definition": ..., "to": ..., "file": ...}'`` takes its settings from the environment,
fetches an export (or, with a file, checks an import) and prints what came of it.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from arena_async.options import PollPolicy
from arena_async.providers.arena import ArenaClient

__all__: list[str] = []


async def _main(settings: dict[str, Any]) -> None:
    poll = PollPolicy(every=0.05, max_interval=0.1, timeout=30)
    async with ArenaClient.from_env() as arena:
        if "file" in settings:
            fetched: Any = await arena.imports.fetch(
                settings["definition"], settings["file"], settings["to"], poll=poll
            )
        else:
            fetched = await arena.exports.fetch(settings["definition"], settings["to"], poll=poll)
    reported = {"run": fetched.run.guid, "resumed": fetched.resumed, "paths": [str(path) for path in fetched.paths]}
    sys.stdout.write(json.dumps(reported))


if __name__ == "__main__":
    asyncio.run(_main(json.loads(sys.argv[1])))
