# ruff: noqa: ASYNC240 - a test may look at the disk; nothing else runs meanwhile.
"""Files on the disk: partial files, what may be continued, and how a final name comes about (ST, SE09-SE11, NM12)."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import json
import logging
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from directory_bench import Bench, many, one
from disks import Call, FaultyDisk, RateLimiter, RecordingDisk
from filesets import Asked, MemoryFiles, Source, content, remote

from arena_async import Action
from arena_async.errors import DestinationBusyError, DiskFullError, QuotaExhaustedError, StorageError
from arena_async.options import KIB, MIB

ETAG = '"v1"'
#: Larger than what goes through memory; recorded every 64 KiB.
BODY = content(320_000)
UNIT = 64 * KIB


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return the directory that files are downloaded to; what is beside it must stay as it is."""
    return tmp_path / "out"


@pytest.fixture
def bench(root: Path) -> Bench:
    """Return a directory on the real disk."""
    return Bench(root)


def large(body: bytes = BODY, **source: Any) -> MemoryFiles:
    """Return a set of one large file."""
    return one(Source(body=body, **source))


async def stop(bench: Bench, *, came: int = 160_000, name: str = "a", **source: Any) -> str:
    """Receive some bytes of a file and stop there; return the name of the partial file, or "" where none is left."""
    files = MemoryFiles([remote(name)], {f"test/{name}": Source(body=BODY, **source)})
    files.sources[f"test/{name}"].faults = [came, QuotaExhaustedError("used up")]
    await bench.sync(files)
    start = hashlib.sha256(f"test/{name}".encode()).hexdigest()[:32]
    return next(iter(bench.partials(f"{start}-*.part")), "")


async def first_offset(bench: Bench, **source: Any) -> int:
    """Download the file to its end; return the byte from which on it was asked for."""
    files = large(**source)
    outcome = await bench.fetch(files)
    assert outcome.error is None
    assert bench.finals()["files/a.bin"] == BODY
    assert outcome.sha256 == hashlib.sha256(BODY).hexdigest()
    return files.requested[0].offset


def listed(directory: Path) -> list[str]:
    """List the names in a folder."""
    return sorted(path.name for path in directory.iterdir())


# ---------------------------------------------------------------------------------------------------------- the folder


async def test_a_new_folder_is_on_the_disk_with_every_folder_above_it_that_is_new(tmp_path: Path) -> None:
    """CR04: what is said to survive a power loss must not go with the name of the folder it lies in."""
    disk = RecordingDisk()
    for _ in range(2):
        async with Bench(tmp_path / "new" / "out", disk=disk).mirror():
            pass

    assert disk.lines("make_root", "make_directory", "sync_directory") == [
        "make_root out",
        "sync_directory new",
        f"sync_directory {tmp_path.name}",
        "make_directory .arena-async",
        "sync_directory out",
        "make_directory partial",
        "sync_directory .arena-async",
        "make_root out",
        "make_directory .arena-async",
        "make_directory partial",
    ]


async def test_the_folders_of_the_state_are_private(root: Path, bench: Bench) -> None:
    """Nobody but their owner may look into them, whoever made them."""
    (root / ".arena-async").mkdir(parents=True, mode=0o755)
    async with bench.mirror():
        pass

    for directory in (root / ".arena-async", root / ".arena-async" / "partial"):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert listed(root / ".arena-async") == ["ledger.sqlite", "lock", "partial"]


async def test_a_state_folder_that_is_a_link_is_refused(root: Path, bench: Bench, tmp_path: Path) -> None:
    """SE11: our own folder is never somewhere else."""
    (tmp_path / "elsewhere").mkdir()
    root.mkdir()
    (root / ".arena-async").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(StorageError, match="could not be opened"):
        await bench.sync(many("a"))

    assert listed(tmp_path / "elsewhere") == []


async def test_a_root_that_is_a_file_is_refused(root: Path) -> None:
    """A typing error in the folder gives a sentence and not a traceback of the system."""
    root.write_bytes(b"x")

    with pytest.raises(StorageError, match=r"out: it is no folder, so that no files can go there\."):
        await Bench(root).sync(many("a"))
    with pytest.raises(StorageError, match=r"out/a/b: .*out is no folder, so that no files can go there\."):
        await Bench(root / "a" / "b").sync(many("a"))


@pytest.mark.skipif(
    not Path("/proc/self").exists(), reason="only Linux has a file system in which nobody makes folders"
)
async def test_a_root_where_nobody_can_make_a_folder_is_refused() -> None:
    """The sentence says where, and does not speak of something that vanished."""
    with pytest.raises(StorageError, match=r"^/proc/none/out: no folder can be made in /proc \(No such file or dir"):
        await Bench(Path("/proc/none/out")).sync(many("a"))


async def test_a_folder_belongs_to_one_tenant_of_each_service(root: Path, bench: Bench) -> None:
    """The second tenant is refused, the first one and other services are not."""
    await bench.sync(many("a", service="arena", tenant="https://a workspace 1"))
    await bench.sync(many("b", service="centrepoint", tenant="https://c client 9"))
    await bench.sync(many("c", service="arena", tenant="https://a workspace 1"))

    with pytest.raises(DestinationBusyError, match="belongs to https://a workspace 1 of arena"):
        await bench.sync(many("d", service="arena", tenant="https://a workspace 2"))

    record = root / ".arena-async" / "tenant.json"
    assert json.loads(record.read_text()) == {"arena": "https://a workspace 1", "centrepoint": "https://c client 9"}
    assert stat.S_IMODE(record.stat().st_mode) == 0o600


@pytest.mark.parametrize("damage", [b"", b"[1]", b'{"arena": 1}', b"{", b"[" * 50_000, b"x" * 100_000])
async def test_a_damaged_tenant_record_is_not_taken_for_none(root: Path, bench: Bench, damage: bytes) -> None:
    """Not knowing whose folder it is is no licence to write there."""
    async with bench.mirror():
        pass
    record, files = root / ".arena-async" / "tenant.json", many("a")
    record.write_bytes(damage)
    record.chmod(0o600)

    with pytest.raises(StorageError, match=r"tenant\.json: it is damaged"):
        await bench.sync(files)

    assert record.read_bytes() == damage
    assert files.requested == []


@pytest.mark.parametrize(("size", "fits"), [(1000, True), (1001, False)])
async def test_too_little_room_is_noticed_before_anything_is_made(root: Path, size: int, fits: bool) -> None:
    """ST02: nothing of the content is written."""
    disk = FaultyDisk()
    disk.replace("free", lambda real, directory: 1000)
    bench, files = Bench(root, disk=disk), one(Source(body=content(size)), size=size)

    outcome = await bench.fetch(files)

    assert len(files.requested) == fits
    assert fits or (
        isinstance(outcome.error, DiskFullError) and "1001 bytes are needed and 1000 are free" in str(outcome.error)
    )
    assert bench.partials() == []


# ---------------------------------------------------------------------------------------------------------- final names


@pytest.mark.parametrize("path", ["../x", "d/../../x", ".arena-async/tenant.json", ".Arena-Async/x"])
async def test_a_path_out_of_the_folder_or_into_ours_is_refused(root: Path, bench: Bench, path: str) -> None:
    """NM01, NM12: the last line of defence behind the names; here a ledger that somebody has edited, and pruning."""
    await bench.sync(many("a", "b"))
    victim = root / path
    if not victim.exists():
        victim.parent.mkdir(exist_ok=True)
        victim.write_bytes(b"whole")
    found = victim.stat()
    bench.change_ledger(
        "UPDATE files SET path = ?, size = ?, mtime_ns = ? WHERE key = 'test/b'", path, found.st_size, found.st_mtime_ns
    )

    async with bench.mirror() as mirror:
        await mirror.sync(many("a"), prune=True)

    assert victim.exists()


@pytest.mark.parametrize("kind", ["folder", "FIFO", "socket"])
async def test_a_final_name_that_is_no_file_is_refused_before_anything_is_made(
    root: Path, bench: Bench, kind: str
) -> None:
    """ST08: it is never opened, and the sentence says what it is."""
    taken, files = root / "d" / "a", many("a")
    taken.parent.mkdir(parents=True)
    if kind == "folder":
        taken.mkdir()
    elif kind == "FIFO":
        os.mkfifo(taken)
    else:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(os.path.relpath(taken))

    outcome = await bench.fetch(files)

    assert isinstance(outcome.error, DestinationBusyError)
    assert f"the name is taken by a {kind}" in str(outcome.error)
    assert (bench.partials(), files.requested) == ([], [])


def when(verb: str, act: Callable[[Call], object], name: str = "*.part") -> RecordingDisk:
    """Return a disk that does something else first, before the first call of a verb on a partial file."""
    done: list[Call] = []

    def before(call: Call) -> None:
        if call.verb == verb and Path(call.name).match(name) and not done:
            done.append(call)
            act(call)

    return RecordingDisk(before)


async def test_a_name_taken_while_the_file_came_is_not_overwritten(root: Path) -> None:
    """ST08: the check is made again right before the rename, and the file stays under its partial name."""

    def take(_: Call) -> None:
        (root / "d").mkdir()
        os.mkfifo(root / "d/a")

    bench = Bench(root, disk=when("sync", take))

    outcome = await bench.fetch(many("a"))

    assert isinstance(outcome.error, DestinationBusyError)
    assert len(bench.partials()) == 1
    assert stat.S_ISFIFO((root / "d/a").lstat().st_mode)


async def test_a_link_at_the_final_name_is_replaced_and_its_target_untouched(
    root: Path, bench: Bench, tmp_path: Path
) -> None:
    """SE09: nothing outside changes."""
    target = tmp_path / "target"
    target.write_bytes(b"outside")
    (root / "d").mkdir(parents=True)
    (root / "d/a").symlink_to(target)

    await bench.fetch(many("a"))

    assert target.read_bytes() == b"outside"
    assert not (root / "d/a").is_symlink()
    assert (root / "d/a").read_bytes() == b"whole"


@pytest.mark.parametrize("timestamp", ["before", "between"])
async def test_a_folder_that_is_a_link_is_never_followed(root: Path, tmp_path: Path, timestamp: str) -> None:
    """SE11: not even when it is swapped between the check and the rename."""
    (tmp_path / "outside").mkdir()
    root.mkdir()
    disk = None
    if timestamp == "before":
        (root / "d").symlink_to(tmp_path / "outside")
    else:
        disk = when("sync", lambda _: (root / "d").symlink_to(tmp_path / "outside"))

    outcome = await Bench(root, disk=disk).fetch(many("a"))

    assert isinstance(outcome.error, DestinationBusyError)
    assert timestamp == "between" or "symbolic link, which is never followed" in str(outcome.error)
    assert listed(tmp_path / "outside") == []


async def test_a_folder_that_is_a_file_is_an_error(root: Path, bench: Bench) -> None:
    """The user's own file is not touched."""
    root.mkdir()
    (root / "d").write_bytes(b"mine")

    outcome = await bench.fetch(many("a"))

    assert isinstance(outcome.error, DestinationBusyError)
    assert "d: a part of this path" in str(outcome.error)
    assert (root / "d").read_bytes() == b"mine"


@pytest.mark.parametrize(("umask", "mode"), [(0o000, 0o664), (0o022, 0o644), (0o077, 0o600)])
@pytest.mark.parametrize("body", [b"x", BODY], ids=["small", "large"])
async def test_a_new_file_follows_the_umask_and_is_private_on_its_way(
    root: Path, umask: int, mode: int, body: bytes
) -> None:
    """ST13: never writable for everybody."""
    on_its_way: set[int] = set()

    def look(call: Call) -> None:
        if call.verb == "write" and call.name.endswith(".part"):
            on_its_way.add(stat.S_IMODE((root / ".arena-async/partial" / call.name).stat().st_mode))

    before = os.umask(umask)
    try:
        await Bench(root, disk=RecordingDisk(look)).fetch(large(body))
    finally:
        os.umask(before)

    assert on_its_way == {0o600}
    assert stat.S_IMODE((root / "files/a.bin").stat().st_mode) == mode
    assert not (root / "files").stat().st_mode & stat.S_IWOTH


async def test_a_replaced_file_keeps_its_permissions(root: Path, bench: Bench) -> None:
    """ST13: what the user allowed stays allowed."""
    await bench.fetch(many("a", body=b"old"))
    (root / "d/a").chmod(0o640)

    await bench.fetch(many("a", body=b"new", change="2"))

    assert stat.S_IMODE((root / "d/a").stat().st_mode) == 0o640
    assert (root / "d/a").read_bytes() == b"new"


async def test_a_pruned_file_takes_its_empty_folders_along(root: Path, bench: Bench) -> None:
    """Folders with something in them stay."""
    files = many("one", parts=("a", "b", "c"))
    files.rows = [*files.rows, remote("two", parts=("a",), extension="")]  # type: ignore[misc]
    files.sources["test/two"] = Source(body=b"2")
    await bench.sync(files)
    files.rows = files.rows[1:]

    async with bench.mirror() as mirror:
        await mirror.sync(files, prune=True)

    assert sorted(str(path.relative_to(root / "a")) for path in (root / "a").rglob("*")) == ["two"]


# ---------------------------------------------------------------------------------------------------------- order


async def test_content_is_on_the_disk_before_its_name_and_the_name_before_the_end(root: Path) -> None:
    """ST11: fsync of the content, rename, fsync of the folder, in this order and no other; for a large file too."""
    await Bench(root).sync(one(Source(body=b"first"), change="0"))
    disk = RecordingDisk()

    await Bench(root, disk=disk).fetch(large(etag=None))

    (name,) = {call.name for call in disk.calls if call.verb == "rename" and call.name.endswith(".part")}
    shown = [
        line for line in disk.lines("write", "sync", "sync_data", "rename", "sync_directory")
        if name in line or line == "sync_directory files"
    ]  # fmt: skip
    assert [line for line in shown if not line.startswith("write")] == [
        f"sync {name}",
        f"rename {name} -> a.bin",
        "sync_directory files",
    ]
    assert shown[-4] == f"write {name}"


async def test_a_control_record_is_never_ahead_of_the_content(root: Path) -> None:
    """ST11: the content is forced to the disk first, then the record is written whole and replaces the older one."""
    disk = RecordingDisk()
    bench = Bench(root, disk=disk)

    name = await stop(bench, came=UNIT)

    record = name.replace(".part", ".json")
    (new,) = {call.name for call in disk.calls if call.verb == "rename" and call.new == record}
    shown = [
        line for line in disk.lines("write", "sync", "sync_data", "create", "rename") if name in line or new in line
    ]
    assert shown[1:] == [
        f"write {name}",
        f"sync_data {name}",
        f"create {new}",
        f"write {new}",
        f"sync {new}",
        f"rename {new} -> {record}",
    ]


@pytest.mark.parametrize(
    ("seconds_a_block", "recorded"), [(0.0, [32]), (0.5, [8, 16, 24, 32]), (1.0, [8, 16, 24, 32]), (0.1, [32])]
)
async def test_a_record_is_due_after_32_mib_or_after_a_second_with_8_mib(
    root: Path, seconds_a_block: float, recorded: list[int]
) -> None:
    """A kill costs no more than that, and a body at full speed waits for the disk only now and then."""
    offsets: list[int] = []
    written = [0]

    def before(call: Call) -> None:
        written[0] += call.verb == "write" and call.name.endswith(".part")
        if call.verb == "rename" and call.new.endswith(".json") and "tenant" not in call.new:
            offsets.append(json.loads((root / ".arena-async/partial" / call.name).read_bytes())["offset"] // MIB)

    bench = Bench(
        root, disk=RecordingDisk(before), disk_clock=lambda: written[0] * seconds_a_block, record_every=32 * MIB,
        chunk_size=4 * MIB, workers=1,
    )  # fmt: skip

    outcome = await bench.fetch(large(bytes(36 * MIB)))

    assert outcome.error is None
    assert offsets == recorded


@pytest.mark.parametrize(("came", "kept"), [(9 * MIB, 9 * MIB), (300_001, 300_001)])
async def test_a_file_that_is_kept_is_recorded_up_to_its_end(root: Path, came: int, kept: int) -> None:
    """A file that failed goes on where it was, however little came."""
    bench = Bench(root, record_every=32 * MIB, disk_clock=lambda: 0.0, chunk_size=MIB)
    files = large(bytes(10 * MIB), faults=[came, QuotaExhaustedError("used up")])

    await bench.sync(files)
    await bench.sync(files)

    assert files.requested[-1].offset == kept


async def test_a_file_that_cannot_be_forced_to_the_disk_is_not_kept(root: Path) -> None:
    """The disk refuses the last of it: that is no news for whoever tells why the file failed; nothing is trusted."""
    disk = FaultyDisk()
    disk.fail("sync_data", errno.EIO, name="*.part")
    bench = Bench(root, disk=disk, record_every=32 * MIB, disk_clock=lambda: 0.0)

    report = await bench.sync(large(bytes(10 * MIB), faults=[9 * MIB, QuotaExhaustedError("used up")]))

    assert isinstance(report.error, QuotaExhaustedError)
    assert bench.partials() == []


async def test_a_file_system_without_fsync_is_used_with_a_warning(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    """ST12: one warning, and the result does not promise what nobody can."""
    disk = FaultyDisk()
    for verb in ("sync", "sync_data", "sync_directory"):
        disk.fail(verb, errno.EINVAL)
    bench, files = Bench(root, disk=disk), many("b")
    files.rows = [remote("a"), *files.rows]  # type: ignore[misc]
    files.sources["test/a"] = Source(body=BODY)

    with caplog.at_level(logging.WARNING, "arena_async"):
        report = await bench.sync(files)

    assert [(outcome.error, outcome.durable) for outcome in report.outcomes] == [(None, False)] * 2
    assert bench.finals() == {"files/a.bin": BODY, "d/b": b"whole"}
    assert [record.levelname for record in caplog.records] == ["WARNING"]


# ---------------------------------------------------------------------------------------------------------- faults


@pytest.mark.parametrize(
    ("number", "kind", "words"),
    [
        (errno.ENOSPC, DiskFullError, "no room is left"),
        (errno.EDQUOT, DiskFullError, "quota of this user"),
        (errno.EFBIG, DiskFullError, "larger than the file system"),
        (errno.EROFS, StorageError, "read-only"),
        (errno.EACCES, StorageError, "not allowed"),
        (errno.EIO, StorageError, "reports a fault"),
        (errno.EMFILE, StorageError, "too many files"),
    ],
)
@pytest.mark.parametrize(
    ("verb", "name"),
    [("create", "*.part"), ("write", "*.part"), ("sync", "*.part"), ("rename", "*.part"), ("make_directory", "files")],
)
@pytest.mark.parametrize("body", [b"x", BODY], ids=["small", "large"])
async def test_what_the_disk_says_becomes_a_typed_error(
    root: Path, number: int, kind: type[StorageError], words: str, verb: str, name: str, body: bytes
) -> None:
    """ST01, ST03: at every step, with a sentence, and nothing under the final name."""
    disk = FaultyDisk()
    disk.fail(verb, number, name=name)
    bench = Bench(root, disk=disk, attempts=1)

    outcome = await bench.fetch(large(body))

    assert type(outcome.error) is kind
    assert words in str(outcome.error)
    assert outcome.error is not None
    assert outcome.error.file == "test/a"
    assert bench.finals() == {}


async def test_a_disk_that_fills_up_keeps_what_was_recorded(root: Path) -> None:
    """ST01: the next run goes on from there."""
    disk = FaultyDisk()
    disk.replace(
        "write",
        lambda real, file, data, offset: _full() if offset >= 3 * UNIT else real(file, data, offset),
        name="*.part",
    )

    outcome = await Bench(root, disk=disk).fetch(large())

    assert isinstance(outcome.error, DiskFullError)
    assert await first_offset(Bench(root)) == 3 * UNIT


def _full() -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
async def test_content_that_could_not_be_forced_to_the_disk_is_never_trusted(root: Path, number: int) -> None:
    """ST03: after a failed fsync the next one succeeds and proves nothing, so the file is dropped."""
    disk = FaultyDisk()
    disk.fail("sync_data", number, times=1, skip=1)
    bench = Bench(root, disk=disk, attempts=1)

    outcome = await bench.fetch(large())

    assert isinstance(outcome.error, StorageError)
    assert bench.partials() == []
    assert await first_offset(bench) == 0


@pytest.mark.parametrize("number", [errno.EINTR, errno.EAGAIN])
async def test_an_interrupted_call_is_repeated(root: Path, number: int) -> None:
    """ST05: a signal is no fault of the disk."""
    disk = FaultyDisk()
    for verb in (
        "make_root", "open_root", "create", "write", "sync", "sync_data", "chmod", "look", "look_open", "rename",
        "open_directory",
    ):  # fmt: skip
        disk.fail(verb, number, times=2)

    assert await first_offset(Bench(root, disk=disk)) == 0


async def test_short_writes_are_completed(root: Path) -> None:
    """A system that takes a few bytes at a time gets them all."""
    disk = FaultyDisk()
    disk.shorten_writes(777)
    bench = Bench(root, disk=disk)

    assert await stop(bench)
    assert await first_offset(bench) == 160_000
    await bench.sync(many("b"))
    assert bench.finals()["d/b"] == b"whole"


async def test_a_disk_that_takes_nothing_does_not_hang(root: Path) -> None:
    """Zero bytes for ever are a fault, not a reason to try for ever."""
    disk = FaultyDisk()
    disk.replace("write", lambda real, file, data, offset: 0, name="*.part")

    outcome = await Bench(root, disk=disk, attempts=1).fetch(many("a"))

    assert isinstance(outcome.error, StorageError)
    assert "written" in str(outcome.error)


@pytest.mark.parametrize(("times", "published"), [(3, True), (50, False)])
async def test_a_file_that_another_program_has_open_is_waited_for(root: Path, times: int, published: bool) -> None:
    """ST06: a sharing violation passes within half a second, or the file stays under its partial name."""
    disk = FaultyDisk()
    disk.fail("rename", errno.EACCES, times=times, winerror=32, name="*.part")
    bench = Bench(root, disk=disk)

    outcome = await bench.fetch(many("a"))

    assert (outcome.error is None) == published
    assert (root / "d/a").exists() == published
    assert len(bench.partials()) == (0 if published else 1)
    assert 0 < sum(bench.disk_waits) <= 0.5


@pytest.mark.parametrize("number", [errno.EACCES, errno.EXDEV])
async def test_a_refused_rename_is_not_tried_twice(root: Path, number: int) -> None:
    """ST06: nothing that was verified is thrown away."""
    disk = FaultyDisk()
    disk.fail("rename", number, name="*.part")
    bench = Bench(root, disk=disk)

    outcome = await bench.fetch(many("a"))

    (name,) = bench.partials()
    assert isinstance(outcome.error, StorageError)
    assert len([line for line in disk.lines("rename") if name in line]) == 1


async def test_a_folder_that_vanishes_meanwhile_is_made_again(root: Path) -> None:
    """Somebody tidied up between two files."""
    first = Bench(root)
    await first.sync(many("1"))

    def tidy(_: Call) -> None:
        (root / "d/1").unlink()
        (root / "d").rmdir()

    report = await Bench(root, disk=when("rename", tidy)).sync(many("1", "2"))

    assert report.failures == ()
    assert listed(root / "d") == ["2"]


async def test_a_partial_file_that_vanished_is_an_error_of_that_file(root: Path) -> None:
    """Somebody removed it; there is nothing to give a name to."""
    bench = Bench(root, disk=when("rename", lambda call: (root / ".arena-async/partial" / call.name).unlink()))

    outcome = await bench.fetch(many("a"))

    assert isinstance(outcome.error, StorageError)
    assert "vanished" in str(outcome.error)
    assert bench.finals() == {}


async def test_a_file_that_another_process_finished_meanwhile_counts_as_published(root: Path) -> None:
    """It has its final name, and it is the very same file."""
    await Bench(root).sync(many("zero"))
    disk = when("rename", lambda call: (root / ".arena-async/partial" / call.name).rename(root / "d/a"))

    report = await Bench(root, disk=disk).sync(many("zero", "a"))

    assert report.failures == ()
    assert (root / "d/a").read_bytes() == b"whole"


async def test_room_is_reserved_for_large_files_only(root: Path) -> None:
    """Above 1 MiB, when the size is known; a system that cannot is no obstacle."""
    disk = FaultyDisk()
    rows = [remote("small"), remote("large"), remote("unknown")]
    sources = [Source(body=bytes(MIB)), Source(body=bytes(MIB + 1)), Source(body=bytes(MIB + 2), announced=False)]
    files = MemoryFiles(rows, {row.key: source for row, source in zip(rows, sources, strict=True)})
    await Bench(root, disk=disk).sync(files)
    disk.fail("allocate", errno.EOPNOTSUPP)

    last = await Bench(root, disk=disk).fetch(
        MemoryFiles([remote("k")], {"test/k": Source(body=bytes(2 * MIB))}, scope="k")
    )

    assert [call.size for call in disk.calls if call.verb == "allocate"] == [MIB + 1, 2 * MIB]
    assert last.error is None


async def test_a_full_disk_is_noticed_when_room_is_reserved(root: Path) -> None:
    """ST02: before the first byte is written."""
    disk = FaultyDisk()
    disk.fail("allocate", errno.ENOSPC)
    bench = Bench(root, disk=disk)

    outcome = await bench.fetch(large(bytes(2 * MIB)))

    assert isinstance(outcome.error, DiskFullError)
    assert "2097152 bytes are needed" in str(outcome.error)
    assert bench.partials() == []
    assert [call for call in disk.calls if call.verb == "write" and call.name.endswith(".part")] == []


# ---------------------------------------------------------------------------------------------------------- going on


async def test_a_file_that_stopped_before_its_first_record_is_recorded(root: Path) -> None:
    """What has come of it is forced to the disk once, and the next run goes on behind it."""
    disk = RecordingDisk()
    bench = Bench(root, disk=disk)

    name = await stop(bench, came=UNIT - 1)

    assert disk.lines("sync_data") == [f"sync_data {name}"]
    assert await first_offset(bench) == UNIT - 1


async def test_an_interrupted_file_is_continued_where_it_is_known_to_be(root: Path, bench: Bench) -> None:
    """CR06, ST19: at the last recorded byte, and what was written behind it is cut off."""
    name = await stop(bench)
    assert (bench.partial / name).stat().st_size == 160_000
    with (bench.partial / name).open("r+b") as part:
        part.seek(2 * UNIT)
        part.write(b"x" * 1_000_000)  # Longer than the file, and none of it is vouched for.

    assert await first_offset(bench) == 2 * UNIT
    assert bench.partials() == []


@pytest.mark.parametrize("validator", [None, 'W/"v1"', ""])
async def test_content_without_a_strong_validator_is_not_continued(bench: Bench, validator: str | None) -> None:
    """Nobody could say that it is still the same content."""
    assert await stop(bench, etag=validator) == ""
    assert bench.partials() == []


async def test_the_record_says_nothing_about_the_file_but_hashes(bench: Bench) -> None:
    """I4: no key, no path, no link."""
    await stop(bench, name="secret-looking")

    (record,) = bench.partial.glob("*.json")

    assert sorted(json.loads(record.read_bytes())) == [
        "ahead",
        "key",
        "marks",
        "offset",
        "tail",
        "total",
        "validator",
        "version",
    ]
    assert b"secret" not in record.read_bytes()
    assert stat.S_IMODE(record.stat().st_mode) == 0o600


def damaged_records() -> dict[str, bytes]:
    """Return control records as the world may leave them (ST17)."""
    good = {"version": 1, "key": "", "validator": ETAG, "offset": 131_072, "total": 320_000, "tail": ""}
    odd: dict[str, dict[str, object]] = {
        "version": {"version": 2},
        "no version": {"version": None},
        "text offset": {"offset": "131072"},
        "true": {"offset": True},
        "negative": {"offset": -1},
        "zero": {"offset": 0},
        "fraction": {"offset": 131072.0},
        "weak": {"validator": 'W/"v1"'},
        "no validator": {"validator": None},
        "other key": {"key": "0" * 64},
        "key type": {"key": 7},
        "short": {"total": 10},
        "text total": {"total": "x"},
        "tail": {"tail": 5},
        "beyond": {"offset": 10**15, "total": None},
    }
    made = {name: json.dumps({**good, **change}).encode() for name, change in odd.items()}
    whole = json.dumps(good).encode()
    return {
        **made,
        "empty": b"",
        "cut": whole[:30],
        "list": b"[]",
        "number": b"1",
        "deep": b"[" * 60_000,
        "nul": b"\0" * 300,
        "not utf-8": b"\xff\xfe\xff",
    }


@pytest.mark.parametrize("damage", damaged_records())
async def test_a_malformed_control_record_is_ignored_and_cleaned(bench: Bench, damage: str) -> None:
    """ST17: the file starts anew, and nothing of the old one stays."""
    record = bench.partial / (await stop(bench)).replace(".part", ".json")
    good = json.loads(record.read_bytes())
    content = damaged_records()[damage]
    for field in ("key", "tail"):
        empty = f'"{field}": ""'.encode()
        content = content.replace(empty, f'"{field}": {json.dumps(good[field])}'.encode())
    record.write_bytes(content)

    assert await first_offset(bench) == 0
    assert bench.partials() == []


@pytest.mark.parametrize("odd", ["folder", "huge", "link", "missing"])
async def test_a_control_record_that_is_none_is_ignored_and_cleaned(bench: Bench, tmp_path: Path, odd: str) -> None:
    """ST17, SE10: a folder, a gigabyte, a link to a good one, nothing."""
    record = bench.partial / (await stop(bench)).replace(".part", ".json")
    good = record.read_bytes()
    record.unlink()
    if odd == "folder":
        record.mkdir()
    elif odd == "huge":
        record.write_bytes(good)
        os.truncate(record, 2**30)
    elif odd == "link":
        (tmp_path / "good").write_bytes(good)
        record.symlink_to(tmp_path / "good")

    assert await first_offset(bench) == 0
    assert bench.partials() == []
    assert odd != "link" or (tmp_path / "good").read_bytes() == good


@pytest.mark.parametrize("damage", ["zeroed", "flipped", "shorter"])
async def test_content_that_is_not_what_was_recorded_is_not_trusted(bench: Bench, damage: str) -> None:
    """ST20: the end of what is recorded is compared with its digest."""
    part = bench.partial / await stop(bench)
    content = bytearray(part.read_bytes())
    content[131_071] = 0 if damage == "zeroed" else content[131_071] ^ 1
    part.write_bytes(content[: 131_000 if damage == "shorter" else None])

    assert await first_offset(bench) == UNIT  # The record before proves so much.
    assert bench.partials() == []


async def test_the_best_of_several_partial_files_is_kept(bench: Bench) -> None:
    """I3: one for each file; those of other files are not touched."""
    for name, offset in (("01", 70_000), ("02", 200_000), ("03", 140_000)):
        bench.leave_partial(body=BODY[:offset], offset=offset, total=len(BODY), name=name.rjust(16, "0"))
    other = bench.leave_partial("test/other", body=BODY[:1000], offset=1000)

    assert await first_offset(bench) == 200_000
    assert bench.partials() == sorted([other.name, other.with_suffix(".part").name])


async def test_a_partial_file_that_is_being_written_is_left_alone(root: Path) -> None:
    """Another process has it: it is neither continued nor removed."""
    gate = RateLimiter("write", armed=False)

    def before(call: Call) -> None:
        if call.offset and call.offset >= 2 * UNIT:
            gate(call)

    gate.arm()
    bench, files = Bench(root, disk=RecordingDisk(before)), large()
    async with bench.downloader() as downloads:
        going = asyncio.create_task(downloads.run(files))
        await gate.reached()
        during = bench.partials("*.part")
        assert await first_offset(Bench(root)) == 0
        after = bench.partials("*.part")
        gate.open()
        report = await going

    assert (len(during), after) == (1, during)
    assert report.failures == ()
    assert (bench.finals(), bench.partials()) == ({"files/a.bin": BODY}, [])


@pytest.mark.parametrize("odd", ["link", "FIFO", "hard link", "folder"])
async def test_a_partial_name_that_is_something_else_is_cleaned_and_not_touched(
    bench: Bench, tmp_path: Path, odd: str
) -> None:
    """SE10, ST21: what it leads to stays as it was."""
    part, outside = bench.partial / await stop(bench), tmp_path / "outside"
    outside.write_bytes(part.read_bytes())
    before = outside.read_bytes()
    part.unlink()
    if odd == "link":
        part.symlink_to(outside)
    elif odd == "FIFO":
        os.mkfifo(part)
    elif odd == "hard link":
        part.hardlink_to(outside)
    else:
        part.mkdir()

    assert await first_offset(bench) == 0
    assert bench.partials() == []
    assert outside.read_bytes() == before


@pytest.mark.parametrize("recent", [True, False])
async def test_where_locks_keep_nobody_out_a_partial_file_is_copied_and_recent_ones_are_left_alone(
    root: Path, recent: bool
) -> None:
    """ST23: two writers are never in the same file; correctness does not rest on the lock."""
    disk = FaultyDisk()
    disk.replace("lock", lambda real, file: True)
    bench = Bench(root, disk=disk)
    part = bench.partial / await stop(bench)
    age = 3500 if recent else 3700
    os.utime(part, (part.stat().st_atime - age, part.stat().st_mtime - age))
    late = os.open(part, os.O_WRONLY)
    files = large()

    async def write_late(_: Asked) -> None:
        os.pwrite(late, b"late", 0)  # The first owner was only asleep.

    files.before_open = write_late
    outcome = await bench.fetch(files)
    os.close(late)

    assert outcome.error is None
    assert bench.finals() == {"files/a.bin": BODY}
    assert files.requested[0].offset == (0 if recent else 160_000)
    assert bench.partials("*.part") == ([part.name] if recent else [])


async def test_sweeping_removes_what_nobody_can_use(root: Path, bench: Bench) -> None:
    """Files without a record, records without a file, leftovers; not what can be continued."""
    good = bench.leave_partial("test/good", body=BODY[:1000], offset=1000)
    stale = bench.leave_partial("test/stale", body=BODY[:1000], offset=1000)
    lost = bench.leave_partial("test/lost", body=BODY[:1000], offset=1000)
    lost.unlink()
    (bench.partial / f"{'0' * 32}-{'0' * 16}.part").write_bytes(b"x")
    (bench.partial / f"{'0' * 32}-{'1' * 16}.json").write_bytes(b"x")
    (bench.partial / f"new-{'0' * 16}").write_bytes(b"x")
    (root / f".arena-async/new-{'1' * 16}").write_bytes(b"x")
    now = stale.stat().st_mtime
    os.utime(stale.with_suffix(".part"), (now - 31 * 86400, now - 31 * 86400))

    async with bench.mirror():
        pass

    assert bench.partials() == sorted([good.name, good.with_suffix(".part").name])
    assert f"new-{'1' * 16}" not in listed(root / ".arena-async")


@pytest.mark.skipif(os.name == "nt", reason="locks are not looked at on Windows")
async def test_what_is_being_written_is_not_swept_and_what_a_killed_writer_left_is(root: Path) -> None:
    """CR06: its lock ended with its owner, so that the next run need not wait for a minute; a held one is in use."""
    seen: list[list[str]] = []

    def start_another(call: Call) -> None:
        async def another() -> None:
            async with Bench(root).mirror():
                pass

        if call.name.startswith("new-") and call.verb == "sync":
            (root / ".arena-async/partial/new-0000000000000000").write_bytes(b"half of a rec")
            asyncio.run(another())
            for directory in (root / ".arena-async", root / ".arena-async/partial"):
                seen.append([name for name in listed(directory) if name.startswith("new-")])  # noqa: PERF401

    await stop(Bench(root, disk=RecordingDisk(start_another)))

    # The record of the tenant, then those of the partial file: each was there all the time, and never the other.
    assert len(seen) >= 4
    assert all(len(state) + len(partial) == 1 for state, partial in zip(seen[::2], seen[1::2], strict=True))
    assert not any("new-0000000000000000" in names for names in seen)
    assert [name for name in listed(root / ".arena-async/partial") if name.startswith("new-")] == []


@pytest.mark.skipif(os.name == "nt", reason="locks are not looked at on Windows")
@pytest.mark.parametrize("verb", ["lock", "rename"])
async def test_a_small_file_that_is_swept_away_in_between_is_written_again(root: Path, verb: str) -> None:
    """CR06: another process may come before it is locked, or after: it takes the name away, and nothing else."""
    taken: list[str] = []

    def sweep_once(call: Call) -> None:
        path = root / ".arena-async/partial" / call.name
        if call.verb == verb and call.name.startswith("new-") and not taken and path.exists():
            taken.append(call.name)
            path.unlink()

    bench = Bench(root, disk=RecordingDisk(sweep_once))
    await stop(bench, came=UNIT)

    assert len(taken) == 1
    assert await first_offset(Bench(root)) == UNIT


def _closed_with(code: int) -> Callable[..., None]:
    """Close a file and say that it went wrong, as network file systems do."""

    def close(real: Callable[..., None], file: int) -> None:
        real(file)
        raise OSError(code, os.strerror(code))

    return close


@pytest.mark.parametrize("verb", ["write", "sync", "close", "rename"])
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOENT, errno.ENOSPC])
async def test_a_record_that_cannot_be_replaced_leaves_the_old_one_and_nothing_else(
    root: Path, verb: str, code: int
) -> None:
    """ST11: whatever the disk refuses, and wherever: no half of a record, and no second name for it."""
    await stop(Bench(root), came=UNIT)
    disk = FaultyDisk()
    if verb == "close":
        disk.replace("close", _closed_with(code), name="new-*")
    else:
        disk.fail(verb, code, name="new-*")
    bench = Bench(root, disk=disk, attempts=1)

    outcome = await bench.fetch(large())

    assert isinstance(outcome.error, StorageError)
    assert [name for name in bench.partials() if name.startswith("new-")] == []
    assert [call.name for call in disk.calls if call.verb == "create" and call.name.startswith("new-")] == [
        call.name for call in disk.calls if call.verb == "unlink" and call.name.startswith("new-")
    ], "one attempt, which is taken back"
    files = large()
    again = await Bench(root).fetch(files)
    assert (again.error, again.action, files.requested[0].offset) == (None, Action.RESUME, UNIT)
