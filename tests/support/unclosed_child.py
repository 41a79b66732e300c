"""
A process that never closes what it opened, and ends.

``python unclosed_child.py '{"kind": "mirror", "to": ..., "extract": ...}'`` takes the address and the credentials of
Arena from the environment and prints ``over`` when its event loop has ended. The kinds:

==============  ======================================================================================================
``client``      a client that has listed files
``downloader``  a downloader that has brought them home
``mirror``      a mirror that has
``under way``   a client and a mirror in the middle of a body
==============  ======================================================================================================
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from inherited import take_over

from arena_async import ArenaClient, Downloader, Mirror

__all__: list[str] = []

#: What somebody still holds when the interpreter ends.
HELD: list[object] = []


async def _forget(settings: dict[str, Any]) -> None:
    arena = ArenaClient.from_env()
    files = arena.extracts.files(settings["extract"])
    match settings["kind"]:
        case "client":
            HELD.append(arena)
            assert [file async for file in files]
        case "downloader":
            async with arena:
                downloads = Downloader(settings["to"])
                HELD.append(downloads)
                (await downloads.run(files)).raise_for_failures()
        case "mirror":
            async with arena:
                mirror = Mirror(settings["to"])
                HELD.append(mirror)
                (await mirror.sync(files)).raise_for_failures()
        case "under way":
            begun = asyncio.Event()
            mirror = Mirror(settings["to"], observer=lambda _: begun.set())
            HELD.extend((arena, mirror, asyncio.create_task(mirror.sync(files))))
            await begun.wait()


if __name__ == "__main__":
    take_over()
    asyncio.run(_forget(json.loads(sys.argv[1])))
    sys.stdout.write("over\n")
