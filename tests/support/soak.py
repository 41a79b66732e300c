"""
Thousands of small files from a service whose every twentieth answer goes wrong, again and again.

What has to hold at the end: every file is there and right, the requests are fewer than 1.2 for a file, a run more asks
for nothing, and after the first pass, in which whatever is made once is made, no pass leaves more behind: no memory, no
descriptors, no threads, no tasks.

Memory is compared by the bytes that are in use. Those that are resident grow by some hundred for a file although
nothing is kept: what is free lies in pages with something that stays. What counts is the median of what the passes
added: what keeps something of each file adds to every pass, while a table that Python makes twice as large, such as
that of its interned names, does so once.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from statistics import median

import attrs
from failing_service import UnluckyService
from holding import Held, Sampler

from arena_async.options import KIB, MIB, Clock, RetryPolicy, Timeouts, TransferOptions
from arena_async.providers.centrepoint import CentrePointClient, CentrePointCredentials
from arena_async.transfer.mirror import Mirror

__all__ = ["Soaked", "broken_bounds", "soak"]

#: Bytes in use that a later pass may add, whatever number of files it has: connections that happen to be kept.
GROWTH = 128 * KIB
#: Bytes in use that all of them together may add; and resident ones, so many and so many for each file, since the room
#: between what stays is a few hundred bytes for a file.
ALL_GROWTH, ROOM, ROOM_FOR_FILE = 8 * MIB, 64 * MIB, 2 * KIB
#: Passes, at the least: what three of them added has a median.
MIN_PASSES = 4
#: Seconds of work at one stretch on the event loop, as promised.
MAX_HOLD = 0.1
WORKERS = 8
#: Connections that may be kept for later, to the file host and to the API: at rest there are some more or fewer.
IDLE = 2 * WORKERS
SIZE = 2000


@attrs.define(kw_only=True)
class Soaked:
    """
    What a soak has shown.

    Attributes:
        files: Files that were brought home.
        passes: How often all of them were.
        requests: Requests that all this cost.
        faults: Answers that went wrong.
        failures: Outcomes that failed, by their error; the next run brought these files.
        seconds: How long it took.
        rests: What was held after each pass, at rest.
        most: The most that was held.
        max_hold: The longest stretch of work on the event loop, in seconds, collections of all garbage left out.
        max_collection: The longest of those, in seconds.
        wrong: What did not hold, in words.
    """

    files: int = 0
    passes: int = 0
    requests: int = 0
    faults: int = 0
    failures: Counter[str] = attrs.field(factory=Counter)
    seconds: float = 0.0
    rests: list[Held] = attrs.field(factory=list)
    maximum: Held = attrs.field(factory=Held)
    max_hold: float = 0.0
    max_collection: float = 0.0
    wrong: list[str] = attrs.field(factory=list)

    @property
    def growth(self) -> int:
        """Bytes in use that a pass added to those of the pass before, by the median."""
        return int(median(later.in_use - earlier.in_use for earlier, later in pairwise(self.rests)))

    def lines(self) -> Iterator[str]:
        """Yield it in a few lines."""
        first, last = self.rests[0], self.rests[-1]
        yield (
            f"{self.files:,} files in {self.passes} passes, {self.seconds:.0f} s: {self.requests:,} requests"
            f" ({self.requests / max(1, self.files):.3f} for a file), {self.faults:,} answers went wrong,"
            f" {sum(self.failures.values())} failures left to the next run {dict(self.failures) or ''}".rstrip()
        )
        yield (
            f"in use {first.in_use / MIB:.2f} MiB after the first pass, {last.in_use / MIB:.2f} MiB at the end,"
            f" {self.growth:,} bytes more with each; resident {first.memory / MIB:.1f}, {last.memory / MIB:.1f},"
            f" {self.maximum.memory / MIB:.1f} MiB at the most;"
            f" descriptors {first.descriptors}, {last.descriptors},"
            f" {self.maximum.descriptors}; threads {first.threads}, {last.threads}, {self.maximum.threads};"
            f" tasks {first.tasks}, {last.tasks}, {self.maximum.tasks}; the loop was held for"
            f" {self.max_hold * 1000:.0f} ms, by a collection for {self.max_collection * 1000:.0f} ms"
        )


async def soak(directory: Path, *, files: int, seed: int, seconds: float) -> Soaked:
    """
    Bring all files home, again and again for as long as there is time, and :data:`MIN_PASSES` times at the least.

    Args:
        directory: Where to.
        files: How many.
        seed: What the chance of the service is made from.
        seconds: No pass is begun after so many.
    """
    found, began = Soaked(), time.monotonic()
    async with UnluckyService(files=files, file_size=SIZE, share=0.05, seed=seed) as service:
        facts = service.facts
        client = CentrePointClient(
            CentrePointCredentials(facts["client_id"], facts["client_secret"]),
            base_url=facts["base_url"],
            auth_url=facts["auth_url"],
            rate_limit=1_000_000,
            retry=RetryPolicy(wait_initial=0.01, wait_max=0.1, wait_jitter=0.01),
            timeouts=Timeouts(read=1.0),
        )
        async with client:
            while found.passes < MIN_PASSES or time.monotonic() - began < seconds:
                if found.passes:
                    await service.ask("turn")
                await _pass(found, service, client, directory)
                found.seconds = time.monotonic() - began
    found.wrong += broken_bounds(found)
    return found


def _mirror(directory: Path) -> Mirror:
    async def short(seconds: float) -> None:
        await asyncio.sleep(min(seconds, 0.02))

    return Mirror(directory, options=TransferOptions(workers=WORKERS, chunk_size=64 * KIB), clock=Clock(sleep=short))


async def _pass(found: Soaked, service: UnluckyService, client: CentrePointClient, directory: Path) -> None:
    """Bring all files home in two halves, and look at everything."""
    await service.ask("unlucky")
    await service.ask("figures")
    before, missing = client.session.requests_sent, 0
    for program in service.facts["programs"]:
        async with Sampler() as sampler, _mirror(directory) as mirror:
            report = await mirror.sync(client.datasets.files(service.facts["study"], program=program))
        found.max_hold = max(found.max_hold, sampler.max_hold)
        found.max_collection = max(found.max_collection, sampler.max_collection)
        found.maximum = found.maximum.or_more(sampler.maximum)
        found.failures.update(type(outcome.error).__name__ for outcome in report.failures)
        missing += len(report.failures)
        found.files += sum(1 for outcome in report.outcomes if outcome.error is None)
        if report.error is not None:
            found.wrong.append(f"a half ended with {report.error!r}")
        del report, mirror
    await service.ask("calm")
    figures = await service.ask("figures")
    found.requests += figures["api"] + figures["files"]
    found.faults += figures["faults"]
    booked = client.session.requests_sent - before
    if booked != figures["api"]:
        found.wrong.append(f"{booked} requests were booked, the service saw {figures['api']}")
    if figures["breaches"]:
        found.wrong.append(f"credentials came to the file host: {figures['breaches'][:3]}")
    await _look_at_all(found, service, client, directory, missing=missing)
    found.passes += 1
    found.rests.append(Held.at_rest())


async def _look_at_all(
    found: Soaked, service: UnluckyService, client: CentrePointClient, directory: Path, *, missing: int
) -> None:
    """
    Sync once more while nothing goes wrong, and compare every file.

    What was begun by an answer that lied about the length is begun anew, for one request more.
    """
    begun = len(list((directory / ".arena-async" / "partial").glob("*.json")))
    async with _mirror(directory) as mirror:
        report = await mirror.sync(client.datasets.files(service.facts["study"]))
        verified = await mirror.verify()
    figures = await service.ask("figures")
    if report.failures or report.error or not missing <= figures["files"] <= missing + begun:
        found.wrong.append(
            f"{missing} files were missing, {figures['files']} were asked for, {len(report.failures)} failed:"
            f" {report.error!r}"
        )
    found.files += missing
    expected: dict[str, str] = await service.ask("digests")
    there = _digests(directory)
    if there != expected:
        wrong = sorted(path for path in there.keys() | expected.keys() if there.get(path) != expected.get(path))
        found.wrong.append(f"{len(wrong)} files are not what they should be: {wrong[:3]}")
    if verified.ok != len(expected) or verified.bad or verified.unknown:
        found.wrong.append(f"of {len(expected)} files {verified.ok} are verified")
    left = sorted(path.name for path in (directory / ".arena-async" / "partial").iterdir())
    if left:
        found.wrong.append(f"{left[:3]} were left behind")


def _digests(directory: Path) -> dict[str, str]:
    """Digest everything in a folder that is not our own, by its path."""
    return {
        path.relative_to(directory).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (directory / "centrepoint").rglob("*")
        if path.is_file()
    }


def broken_bounds(found: Soaked) -> list[str]:
    """Hold the figures of all passes to their bounds, and say in words which do not keep them."""
    first, last = found.rests[0], found.rests[-1]
    wrong = []
    if found.requests >= 1.2 * found.files:
        wrong.append(f"{found.requests} requests were sent for {found.files} files")
    if found.growth > GROWTH:
        wrong.append(f"each pass left {found.growth:,} bytes behind")
    for name, called, more in (
        ("in_use", "bytes in use", ALL_GROWTH),
        ("memory", "resident bytes", ROOM + ROOM_FOR_FILE * found.files),
        ("descriptors", "descriptors", IDLE),
        ("threads", "threads", 0),
        ("tasks", "tasks", 0),
    ):
        if getattr(last, name) > getattr(first, name) + more:
            wrong.append(f"{called} grew from {getattr(first, name):,} to {getattr(last, name):,}")
    if found.max_hold > MAX_HOLD:
        wrong.append(f"the event loop was held for {found.max_hold:.2f} s")
    return wrong
