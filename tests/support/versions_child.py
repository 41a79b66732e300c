"""
A process that syncs several versions of one file, and may be killed before a call that changes the disk.

``python versions_child.py '{"to": ..., "base_url": ..., "order": [0, 2, 1], "kill_at": 7}'`` prints how many such calls
there were, which of them was the first rename, and the counts of the report.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from typing import Any

import attrs
from disks import CHANGES, Call, RecordingDisk
from filesets import SocketFiles, remote
from inherited import take_over
from internals import rig

from arena_async import Mirror
from arena_async.options import TransferOptions
from arena_async.protocol.files import RemoteFile
from arena_async.protocol.messages import Secret

__all__ = ["version"]


def version(number: int) -> RemoteFile:
    """Return a row of the one key; a higher number is a newer version."""
    return remote("a", name=f"run{number}.csv", change=f"2024-01-{number + 1:02}")


class Versions(SocketFiles):
    """Rows of one key; the content of each lies at ``/<its name>``."""

    def _row(self, row: RemoteFile) -> RemoteFile:
        return attrs.evolve(row, link=Secret(f"/{row.name}"))


async def main(settings: dict[str, Any]) -> None:
    """Sync once."""
    calls = first_rename = 0

    def before(call: Call) -> None:
        nonlocal calls, first_rename
        if call.verb in CHANGES:
            calls += 1
            first_rename = first_rename or (calls if call.verb == "rename" else 0)
            if calls == settings.get("kill_at"):
                os.kill(os.getpid(), signal.SIGKILL)

    files = Versions(settings["base_url"], [version(number) for number in settings["order"]], {})
    options = TransferOptions(durability="off")
    async with rig(Mirror(settings["to"], options=options), disk=RecordingDisk(before)) as mirror:
        report = await mirror.sync(files)
    counts = {action.value: count for action, count in report.counts.items() if count}
    sys.stdout.write(
        json.dumps({"calls": calls, "first_rename": first_rename, "counts": counts, "failures": len(report.failures)})
    )


if __name__ == "__main__":
    take_over()
    asyncio.run(main(json.loads(sys.argv[1])))
