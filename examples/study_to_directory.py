"""
Mirror the dataset files of one CentrePoint study into a directory, and read the first rows of some of them.

    python study_to_directory.py 234 study-234

CENTREPOINT_CLIENT_ID and CENTREPOINT_CLIENT_SECRET must be set. It may be interrupted at any time: the same command
resumes. In a notebook, write ``await main(234, "study-234")`` instead of the last two lines.
"""

from __future__ import annotations

import asyncio
import csv
import gzip
import sys
from pathlib import Path

from arena_async import CentrePointClient, Event, Finished, Mirror


def first_rows(path: Path, count: int = 3) -> list[list[str]]:
    """Return the first rows of a gzipped CSV."""
    with gzip.open(path, "rt", newline="") as lines:
        return [row for _, row in zip(range(count), csv.reader(lines), strict=False)]


def show(event: Event) -> None:
    """Print the outcome of a file. An observer runs on the event loop, so it must return at once."""
    match event:
        case Finished(outcome=outcome) if outcome.error is not None:
            print(f"failed: {outcome.error}", file=sys.stderr)
        case Finished(outcome=outcome):
            print(f"{outcome.action}: {outcome.path}, verified by {outcome.verified_by}")


async def main(study: int, directory: str) -> None:
    """Sync the study, then read the first rows of three files."""
    async with CentrePointClient.from_env() as centrepoint, Mirror(directory, observer=show) as mirror:
        report = await mirror.sync(centrepoint.datasets.files(study))
        entries = [entry async for entry in mirror.entries()]
    print(f"{len(entries)} files here, {report.bytes_written:,} bytes fetched")
    for entry in entries[:3]:
        for row in await asyncio.to_thread(first_rows, Path(directory, entry.path)):
            print(row)
    report.raise_for_failures()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
