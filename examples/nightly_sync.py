"""
Mirror both services into one directory. For a scheduler: it prints a summary, and its exit code is 1 after failures.

    python nightly_sync.py warehouse 234

ARENA_EMAIL, ARENA_PASSWORD, ARENA_WORKSPACE_ID, CENTREPOINT_CLIENT_ID and CENTREPOINT_CLIENT_SECRET must be set.
ARENA_QUOTA_RESERVE leaves requests of the day to others.
"""

from __future__ import annotations

import asyncio
import sys

from arena_async import Action, ArenaAsyncError, ArenaClient, CentrePointClient, FileSet, Mirror, QuotaExhaustedError


async def download(mirror: Mirror, files: FileSet) -> bool:
    """Download new and changed files, and return whether all of them succeeded."""
    try:
        report = await mirror.sync(files)
    except ArenaAsyncError as error:
        print(f"{files.scope}: {error}", file=sys.stderr)
        return False
    counts = report.counts
    print(
        f"{files.scope}: {counts[Action.FETCH]} new, {counts[Action.REFRESH]} changed, {counts[Action.KEEP]} kept, "
        f"{len(report.failures)} failed, {report.requests} requests"
    )
    for outcome in report.failures:
        print(outcome.error, file=sys.stderr)
    if isinstance(report.error, QuotaExhaustedError):
        print(
            f"{report.not_started} files are left until the quota resets at {report.error.resets_at}", file=sys.stderr
        )
    return report.error is None and not report.failures


async def main(directory: str, study: int) -> int:
    """Sync both services into one directory; a failure in one does not affect the other."""
    async with (
        ArenaClient.from_env() as arena,
        CentrePointClient.from_env() as centrepoint,
        Mirror(directory) as mirror,
    ):
        done = [await download(mirror, files) for files in (arena.extracts.files(), centrepoint.datasets.files(study))]
    return 0 if all(done) else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1], int(sys.argv[2]))))
