"""Row CR04: the power fails at any moment, and the disk keeps as little or as much as it may."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from filesets import MemoryFiles, Source, content, remote
from internals import rig
from matrix import World, row
from offered_files import age
from powerloss import Crash, TracingDisk
from scripted import RawServer, reply
from session_files import download, ranged, session_files

from arena_async import Finished, Mirror
from arena_async.options import KIB, MIB, TransferOptions
from arena_async.protocol.files import RemoteFile
from arena_async.transfer import ledger_schema
from arena_async.transfer.filesystem import FileSystem

pytestmark = pytest.mark.once

OLD = content(70_000, "old")
NEW = content(150_000, "new")
#: What the file was when its content was begun, and what it is when it is gone on with.
FIRST, LAST = content(150_000, "first"), content(140_000, "last")
LARGE = content(MIB + 100_000, "large")

#: Disks to look at on every push, besides the extremes; every one of them in the long run.
MAXIMUM = int(os.environ.get("POWER_LOSSES", "60"))


def listed(*, later: bool) -> list[RemoteFile]:
    """List one file before; then it is another, and there are more."""
    if not later:
        return [remote("old", size=len(OLD), change="1")]
    return [
        remote("old", size=len(NEW), change="2"),
        remote("begun", change="1"),
        remote("small", size=10, parts=("new", "folders")),
        remote("large", size=len(LARGE)),
    ]


#: What has to be under each final name in the end, and what was there before.
AFTER = {"files/old.bin": NEW, "files/begun.bin": LAST, "new/folders/small.bin": LARGE[:10], "files/large.bin": LARGE}
BEFORE = {"files/old.bin": OLD}


async def record(world: World, patch: pytest.MonkeyPatch, *, before: bool) -> TracingDisk:
    """Bring everything home over sockets, with a file that changes on the way, and write down what the disk is told."""
    if before:
        async with RawServer() as server, session_files(world, server, *listed(later=False)) as files:
            server.on("GET", "/old", ranged(OLD))
            await download(world, files, remember=True)
    async with RawServer() as server:
        server.on("GET", "/old", ranged(NEW, etag='"v2"'))
        # A range is asked for, and the whole of another content comes: the partial file begins anew under its name.
        server.on(
            "GET",
            "/begun",
            reply(body=FIRST, headers={"ETag": '"v1"'}, cut=140_000),
            reply(body=LAST, headers={"ETag": '"v2"'}),
        )
        server.on("GET", "/small", ranged(LARGE[:10]))
        server.on("GET", "/large", ranged(LARGE))
        disk = TracingDisk(world.root.parent)
        disk.watch_ledger(patch, world.root)
        options = TransferOptions(workers=1, chunk_size=64 * KIB)
        mirror = Mirror(world.root, options=options, observer=lambda event: _promise(disk, event))
        rig(mirror, record_every=128 * KIB, disk=disk)

        async with session_files(world, server, *listed(later=True)) as files:
            async with mirror:
                report = await mirror.sync(files)
            world.saw(report)
    assert report.failures == ()
    return disk


def _promise(disk: TracingDisk, event: object) -> None:
    """Note what an outcome claims."""
    if isinstance(event, Finished) and event.outcome.durable and event.outcome.path is not None:
        disk.promise(event.outcome.path)


def finals(root: Path) -> dict[str, bytes]:
    """Return what lies under final names."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and ".arena-async" not in path.relative_to(root).parts
    }


def wrong_at_once(root: Path, crash: Crash, before: dict[str, bytes]) -> list[str]:
    """Return what is not whole, missing although it was there, or missing although it was promised."""
    found = finals(root) if root.exists() else {}
    promised = {path.partition("/")[2] for path in crash.promised}
    return [
        *(f"{path} holds {len(body)} bytes" for path, body in found.items() if body not in _allowed(path, before)),
        *(f"{path} is lost" for path in before if path not in found),
        *(f"{path} was promised" for path in promised if found.get(path) != AFTER[path]),
    ]


def _allowed(path: str, before: dict[str, bytes]) -> list[bytes]:
    return [AFTER[path], *([before[path]] if path in before else [])]


async def wrong_afterwards(root: Path, crash: Crash) -> list[str]:
    """Run again on what was found, and say what is not as it has to be in the end."""
    rows = listed(later=True)
    sources = {row.key: Source(body=body, etag='"v2"') for row, body in zip(rows, AFTER.values(), strict=True)}
    sources["test/small"].etag = sources["test/large"].etag = '"v1"'
    files = MemoryFiles(rows, sources)
    mirror = Mirror(root, options=TransferOptions(workers=1, chunk_size=64 * KIB))
    rig(mirror, record_every=128 * KIB)
    async with mirror:
        report = await mirror.sync(files)
    promised = {path.partition("/")[2] for path in crash.promised}
    requested = {f"{'new/folders' if key == 'test/small' else 'files'}/{key[5:]}.bin" for key in files.counts}
    return [
        *(f"failed: {failure.error}" for failure in report.failures),
        *(f"{path} came twice although it was promised" for path in promised & requested),
        *(["the folder is not as it has to be"] if finals(root) != AFTER else []),
        *(f"left: {path.name}" for path in (root / ".arena-async" / "partial").iterdir()),
    ]


def keep_power_on(patch: pytest.MonkeyPatch) -> None:
    """Let the next runs force nothing to the disk: only what they find is looked at, and the power stays on."""
    for verb in ("sync", "sync_data", "sync_directory"):
        patch.setattr(FileSystem, verb, lambda *_: None)
    execute = ledger_schema.LedgerConnection.execute

    def without_waiting(connection: ledger_schema.LedgerConnection, statement: str, *values: Any) -> Any:
        return execute(connection, statement.replace("synchronous = FULL", "synchronous = OFF"), *values)

    patch.setattr(ledger_schema.LedgerConnection, "execute", without_waiting)


@row("CR04", protection="content is on the disk before its name", seconds=600)
@pytest.mark.parametrize("before", [True, False], ids=["a folder in use", "a new folder"])
async def test_no_power_loss_leaves_a_wrong_byte_or_takes_what_was_promised(
    world: World, monkeypatch: pytest.MonkeyPatch, before: bool
) -> None:
    """
    CR04: each disk that may be found holds old files or whole new ones, and all that was said to be safe.

    The next run ends in the whole folder on every one of them, and fetches nothing of that again. Of the thousands of
    disks that differ, those with everything and with nothing that may be there are looked at, and a sample of the rest
    (the seed is fixed; ``POWER_LOSSES`` says how many, and the long run takes all of them).
    """
    world.memory = 1 << 30  # All versions of everything are held.
    with monkeypatch.context() as patch:
        disk = await record(world, patch, before=before)
    keep_power_on(monkeypatch)
    chance = random.Random(4)
    crashes = await asyncio.to_thread(lambda: list(disk.crashes(chance)))
    sample = [crash for crash in crashes if crash.extreme]
    others = [crash for crash in crashes if not crash.extreme]
    sample += others if len(others) <= MAXIMUM else chance.sample(others, MAXIMUM)
    wrong: list[str] = []
    for number, crash in enumerate(sample):
        place = world.root.parent / f"crash{number}"
        await asyncio.to_thread(crash.put, place)
        root = place / "root"
        found = wrong_at_once(root, crash, BEFORE if before else {})
        age(place)
        found += await wrong_afterwards(root, crash)
        wrong += [f"after {crash.after}: {line}" for line in found]
        await asyncio.to_thread(shutil.rmtree, place)

    assert len(crashes) > 1_000
    assert wrong == []
