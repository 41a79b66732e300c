"""Files on the disk: partial files, what may be continued, and how a final name comes about (ST, SE09-SE11, NM12)."""

from __future__ import annotations

import errno
import json
import logging
import os
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

import pytest
from disks import Call, FaultyDisk, RecordingDisk

from arena_async.errors import DestinationBusyError, DiskFullError, StorageError, UnsafeNameError
from arena_async.options import MIB
from arena_async.transfer.filesystem import FileState, FileSystem
from arena_async.transfer.local_files import create_private, set_aside
from arena_async.transfer.storage import Partial, Staged, Storage

UNIT = 1000
ETAG = '"v1"'
BODY = bytes(range(256)) * 16  # 4,096 bytes


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Give the folder that files are brought to; what is beside it must stay as it is."""
    return tmp_path / "out"


def storage_on(root: Path, files: FileSystem | None = None) -> Storage:
    """Open a storage with small flush units and names that count up."""
    storage = Storage(root, files=files, flush_unit=UNIT, sleep=lambda seconds: None)
    storage.prepare()
    return storage


@pytest.fixture
def storage(root: Path) -> Iterator[Storage]:
    """Give an open storage on the real disk."""
    storage = storage_on(root)
    yield storage
    storage.close()


def leave(storage: Storage, key: str = "k", *, body: bytes = BODY[:2500], validator: str | None = ETAG) -> str:
    """Bring some bytes and stop there, as an interrupted run does; give the name of the partial file."""
    staged = storage.stage(key, "a/b.bin")
    staged.describe(validator=validator, total=len(BODY))
    for offset in range(0, len(body), 500):
        staged.write(body[offset : offset + 500], offset)
    staged.close()
    return staged.name


def bring(storage: Storage, body: bytes = BODY, path: str = "a/b.bin", key: str = "k") -> None:
    """Bring a whole file."""
    staged = storage.stage(key, path)
    staged.write(body, 0)
    staged.finish()
    (result,) = storage.publish([staged])
    if isinstance(result, Exception):
        raise result


def listed(folder: Path) -> list[str]:
    """List the names in a folder."""
    return sorted(path.name for path in folder.iterdir())


def partials(root: Path) -> list[str]:
    """List what lies among the partial files."""
    return listed(root / ".arena-async" / "partial")


# ---------------------------------------------------------------------------------------------------------- the folder


def test_a_new_folder_is_on_the_disk_with_every_folder_above_it_that_is_new(tmp_path: Path) -> None:
    """CR04: what is said to survive a power loss must not go with the name of the folder it lies in."""
    disk = RecordingDisk()
    for _ in range(2):
        storage = storage_on(tmp_path / "new" / "out", disk)
        storage.close()

    assert disk.lines("make_root", "make_folder", "sync_folder") == [
        "make_root out",
        "sync_folder new",
        f"sync_folder {tmp_path.name}",
        "make_folder .arena-async",
        "sync_folder out",
        "make_folder partial",
        "sync_folder .arena-async",
        "make_root out",
        "make_folder .arena-async",
        "make_folder partial",
    ]


def test_the_folders_of_the_state_are_private(root: Path, storage: Storage) -> None:
    """Nobody but their owner may look into them."""
    for folder in (root / ".arena-async", root / ".arena-async" / "partial"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert (listed(root / ".arena-async")) == ["lock", "partial"]


def test_a_state_folder_open_to_others_is_closed_to_them(root: Path) -> None:
    """A folder made by somebody careless becomes private."""
    (root / ".arena-async").mkdir(parents=True, mode=0o755)

    storage_on(root).close()

    assert stat.S_IMODE((root / ".arena-async").stat().st_mode) == 0o700


def test_a_state_folder_that_is_a_link_is_refused(root: Path, tmp_path: Path) -> None:
    """SE11: our own folder is never somewhere else."""
    (tmp_path / "elsewhere").mkdir()
    root.mkdir()
    (root / ".arena-async").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(StorageError, match="could not be opened"):
        storage_on(root)

    assert listed(tmp_path / "elsewhere") == []


def test_a_root_that_is_a_file_is_refused(root: Path) -> None:
    """A typing error in the folder gives a sentence and not a traceback of the system."""
    root.write_bytes(b"x")

    with pytest.raises(StorageError, match=r"out: it is no folder, so that no files can go there\."):
        storage_on(root)
    with pytest.raises(StorageError, match=r"out/a/b: .*out is no folder, so that no files can go there\."):
        storage_on(root / "a" / "b")


@pytest.mark.skipif(
    not Path("/proc/self").exists(), reason="only Linux has a file system in which nobody makes folders"
)
def test_a_root_where_nobody_can_make_a_folder_is_refused() -> None:
    """The sentence says where, and does not speak of something that vanished."""
    with pytest.raises(StorageError, match=r"^/proc/none/out: no folder can be made in /proc \(No such file or dir"):
        storage_on(Path("/proc/none/out"))


def test_a_folder_belongs_to_one_tenant_of_each_service(root: Path, storage: Storage) -> None:
    """The second tenant is refused, the first one and other services are not."""
    storage.claim("arena", "https://a workspace 1")
    storage.claim("centrepoint", "https://c client 9")
    storage.claim("arena", "https://a workspace 1")

    with pytest.raises(DestinationBusyError, match="belongs to https://a workspace 1 of arena"):
        storage.claim("arena", "https://a workspace 2")

    record = root / ".arena-async" / "tenant.json"
    assert json.loads(record.read_text()) == {"arena": "https://a workspace 1", "centrepoint": "https://c client 9"}
    assert stat.S_IMODE(record.stat().st_mode) == 0o600


@pytest.mark.parametrize("damage", [b"", b"[1]", b'{"arena": 1}', b"{", b"[" * 50_000, b"x" * 100_000])
def test_a_damaged_tenant_record_is_not_taken_for_none(root: Path, storage: Storage, damage: bytes) -> None:
    """Not knowing whose folder it is is no licence to write there."""
    record = root / ".arena-async" / "tenant.json"
    record.write_bytes(damage)

    with pytest.raises(StorageError, match=r"tenant\.json: it is damaged"):
        storage.claim("arena", "t")

    assert record.read_bytes() == damage


def test_too_little_room_is_noticed_before_anything_is_made(root: Path) -> None:
    """ST02: nothing of the content is written."""
    disk = FaultyDisk()
    disk.replace("free", lambda real, folder: 1000)
    storage = storage_on(root, disk)

    storage.check_space(1000)
    with pytest.raises(DiskFullError, match=r"a/b\.zip: 1001 bytes are needed and 1000 are free"):
        storage.stage("k", "a/b.zip", size=1001)

    assert partials(root) == []
    storage.close()


def test_an_unopened_storage_says_so(root: Path) -> None:
    """Nothing happens before prepare."""
    with pytest.raises(StorageError, match="not open"):
        Storage(root).stage("k", "a")


# ---------------------------------------------------------------------------------------------------------- final names


@pytest.mark.parametrize(
    "path", ["/etc/x", "../x", "a/../../x", "", ".arena-async/ledger.sqlite", ".Arena-Async/x", "a\0b"]
)
def test_a_path_out_of_the_folder_or_into_ours_is_refused(storage: Storage, path: str) -> None:
    """NM01, NM12: the last line of defence behind the names."""
    with pytest.raises(UnsafeNameError):
        storage.stage("k", path)


def test_looking_tells_size_and_time_or_nothing(root: Path, storage: Storage) -> None:
    """What is needed to keep a file, and no more."""
    bring(storage, b"abc")
    os.utime(root / "a/b.bin", ns=(5, 1_700_000_000_123_456_789))

    assert storage.look("a/b.bin") == FileState(size=3, mtime_ns=1_700_000_000_123_456_789)
    assert storage.look("a/c.bin") is None
    assert storage.look("x/y/z.bin") is None
    assert storage.look_all(["a/b.bin", PurePosixPath("x")]) == {
        "a/b.bin": FileState(size=3, mtime_ns=1_700_000_000_123_456_789),
        "x": None,
    }


@pytest.mark.parametrize("kind", ["folder", "FIFO", "socket"])
def test_a_final_name_that_is_no_file_is_refused_before_anything_is_made(
    root: Path, storage: Storage, kind: str
) -> None:
    """ST08: it is never opened, and the sentence says what it is."""
    taken = root / "a"
    if kind == "folder":
        taken.mkdir()
    elif kind == "FIFO":
        os.mkfifo(taken)
    else:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(os.path.relpath(taken))

    with pytest.raises(DestinationBusyError, match=f"the name is taken by a {kind}"):
        storage.stage("k", "a")

    assert partials(root) == []
    errors = storage.look_all(["a"])
    assert isinstance(errors["a"], DestinationBusyError)


def test_a_name_taken_while_the_file_came_is_not_overwritten(root: Path, storage: Storage) -> None:
    """ST08: the check is made again right before the rename, and the file stays under its partial name."""
    staged = storage.stage("k", "a")
    staged.write(b"abc", 0)
    staged.finish()
    os.mkfifo(root / "a")

    (result,) = storage.publish([staged])
    staged.release()

    assert isinstance(result, DestinationBusyError)
    assert partials(root) == [staged.name]
    assert stat.S_ISFIFO((root / "a").lstat().st_mode)


def test_a_link_at_the_final_name_is_replaced_and_its_target_untouched(
    root: Path, storage: Storage, tmp_path: Path
) -> None:
    """SE09: nothing outside changes."""
    target = tmp_path / "target"
    target.write_bytes(b"outside")
    (root / "link").symlink_to(target)

    assert storage.look("link") is None
    bring(storage, b"new", "link")

    assert target.read_bytes() == b"outside"
    assert not (root / "link").is_symlink()
    assert (root / "link").read_bytes() == b"new"


@pytest.mark.parametrize("when", ["before", "between"])
def test_a_folder_that_is_a_link_is_never_followed(root: Path, storage: Storage, tmp_path: Path, when: str) -> None:
    """SE11: not even when it is swapped between the check and the rename."""
    (tmp_path / "outside").mkdir()
    if when == "between":
        staged = storage.stage("k", "a/b")
        staged.write(b"x", 0)
        staged.finish()
        (root / "a").symlink_to(tmp_path / "outside")
        (result,) = storage.publish([staged])
        staged.release()
        assert isinstance(result, DestinationBusyError)
    else:
        (root / "a").symlink_to(tmp_path / "outside")
        with pytest.raises(DestinationBusyError, match="symbolic link, which is never followed"):
            storage.stage("k", "a/b")

    assert listed(tmp_path / "outside") == []


def test_a_folder_that_is_a_file_is_an_error(root: Path, storage: Storage) -> None:
    """The user's own file is not touched."""
    (root / "a").write_bytes(b"mine")

    with pytest.raises(DestinationBusyError, match="a: a part of this path"):
        storage.stage("k", "a/b")

    assert (root / "a").read_bytes() == b"mine"


@pytest.mark.parametrize(("umask", "mode"), [(0o000, 0o664), (0o022, 0o644), (0o077, 0o600)])
def test_a_new_file_follows_the_umask_and_is_private_on_its_way(root: Path, umask: int, mode: int) -> None:
    """ST13: never writable for everybody."""
    before = os.umask(umask)
    try:
        storage = storage_on(root)
        staged = storage.stage("k", "a/b.bin")
        staged.write(b"x", 0)
        on_its_way = stat.S_IMODE((root / ".arena-async/partial" / staged.name).stat().st_mode)
        staged.finish()
        storage.publish([staged])
        storage.close()
    finally:
        os.umask(before)

    assert on_its_way == 0o600
    assert stat.S_IMODE((root / "a/b.bin").stat().st_mode) == mode
    assert not (root / "a").stat().st_mode & stat.S_IWOTH


def test_a_replaced_file_keeps_its_permissions(root: Path, storage: Storage) -> None:
    """ST13: what the user allowed stays allowed."""
    (root / "a").write_bytes(b"old")
    (root / "a").chmod(0o640)

    bring(storage, b"new", "a")

    assert stat.S_IMODE((root / "a").stat().st_mode) == 0o640
    assert (root / "a").read_bytes() == b"new"


def test_a_whole_file_leaves_nothing_else_behind(root: Path, storage: Storage) -> None:
    """I3: no partial file and no control record, large or small."""
    staged = storage.stage("k", "a/b.bin")
    staged.describe(validator=ETAG, total=len(BODY))
    staged.write(BODY, 0)
    recorded = partials(root)
    state, on_disk = staged.finish()

    assert storage.publish([staged]) == [True]

    assert len(recorded) == 2
    assert partials(root) == []
    assert (root / "a/b.bin").read_bytes() == BODY
    assert (storage.look("a/b.bin"), on_disk) == (state, True)
    assert staged.closed


def test_the_digest_of_a_final_file_is_read_from_the_disk(root: Path, storage: Storage) -> None:
    """For an offline check: digest, size and time of the same file."""
    bring(storage, b"abc")
    state = storage.look("a/b.bin")

    found = storage.digest("a/b.bin")

    assert found == ("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", state)
    assert storage.digest("a/c.bin") is None
    assert storage.digest("z/c.bin") is None


def test_a_pruned_file_takes_its_empty_folders_along(root: Path, storage: Storage) -> None:
    """Folders with something in them stay."""
    bring(storage, b"1", "a/b/c/one")
    bring(storage, b"2", "a/two")

    assert storage.discard("a/b/c/one") is True
    assert storage.discard("a/b/c/one") is False

    assert sorted(str(path.relative_to(root / "a")) for path in (root / "a").rglob("*")) == ["two"]


# ---------------------------------------------------------------------------------------------------------- order


def test_content_is_on_the_disk_before_its_name_and_the_name_before_the_end(root: Path) -> None:
    """ST11: fsync of the content, rename, fsync of the folder, in this order and no other."""
    disk = RecordingDisk()
    storage = storage_on(root, disk)
    bring(storage, b"first", "a/zero")
    disk.calls.clear()

    bring(storage, BODY)

    shown = disk.lines("write", "truncate", "sync", "sync_data", "rename", "sync_folder", "make_folder")
    (name,) = {call.name for call in disk.calls if call.verb == "write"}
    assert shown == [f"write {name}", f"sync {name}", f"rename {name} -> b.bin", "sync_folder a"]
    storage.close()


def test_a_control_record_is_never_ahead_of_the_content(root: Path) -> None:
    """ST11: the content is forced to the disk first, then the record is written whole and replaces the older one."""
    disk = RecordingDisk()
    storage = storage_on(root, disk)
    staged = storage.stage("k", "a/b.bin")
    staged.describe(validator=ETAG, total=None)
    disk.calls.clear()

    staged.write(BODY[:1000], 0)

    name, record = staged.name, staged.name.replace(".part", ".json")
    (new,) = {call.name for call in disk.calls if call.name.startswith("new-")}
    assert disk.lines("write", "sync", "sync_data", "create", "rename") == [
        f"write {name}",
        f"sync_data {name}",
        f"create {new}",
        f"write {new}",
        f"sync {new}",
        f"rename {new} -> {record}",
    ]
    staged.drop()
    storage.close()


@pytest.mark.parametrize(
    ("count", "seconds", "is_due"),
    [
        (32 * MIB, 0.0, True),
        (32 * MIB - 1, 0.9, False),
        (32 * MIB - 1, 1.0, True),
        (8 * MIB, 1.0, True),
        (8 * MIB - 1, 3600.0, False),
    ],
)
def test_a_record_is_due_after_32_mib_or_after_a_second_with_8_mib(
    root: Path, count: int, seconds: float, is_due: bool
) -> None:
    """A kill costs no more than that, and a body at full speed waits for the disk only now and then."""
    storage = Storage(root, clock=lambda: 100.0 + seconds)

    assert storage.is_due(count, since=100.0) is is_due


def test_time_for_the_next_record_runs_from_the_last_one(root: Path) -> None:
    """8 MiB in each second: a record each second, and none for the 8 MiB that came at once."""
    time = [0.0]
    storage = Storage(root, clock=lambda: time[0])
    storage.prepare()
    staged, block = storage.stage("k", "a/b.bin"), bytes(4 * MIB)
    staged.describe(validator=ETAG, total=None)
    recorded = []

    for at in range(6):
        time[0] = [0.5, 1.0, 1.5, 1.9, 2.0, 2.1][at]
        staged.write(block, at * 4 * MIB)
        recorded.append(staged.durable_offset // MIB)

    assert recorded == [0, 8, 8, 8, 20, 20]
    staged.drop()
    storage.close()


@pytest.mark.parametrize(("came", "kept"), [(9 * MIB, 9 * MIB), (8 * MIB, 8 * MIB), (8 * MIB - 1, None)])
def test_a_file_that_is_kept_is_recorded_up_to_its_end_where_that_is_worth_it(
    root: Path, came: int, kept: int | None
) -> None:
    """A file that failed goes on where it was, and a little of it is not worth waiting for the disk."""
    storage = Storage(root, clock=lambda: 0.0)
    storage.prepare()
    staged = storage.stage("k", "a/b.bin")
    staged.describe(validator=ETAG, total=None)
    staged.write(bytes(came), 0)

    staged.keep()
    staged.keep()
    found = storage.find_partial("k")

    assert staged.closed
    assert (found.offset if found is not None else None) == kept
    storage.close()


def test_a_file_that_cannot_be_forced_to_the_disk_is_not_kept(root: Path) -> None:
    """The disk refuses the last of it: that is no news for whoever tells why the file failed; nothing is trusted."""
    disk = FaultyDisk()
    disk.fail("sync_data", errno.EIO, name="*.part")
    storage = storage_on(root, disk)
    staged = storage.stage("k", "a/b.bin")
    staged.describe(validator=ETAG, total=None)
    storage.flush_unit = 32 * MIB
    staged.write(bytes(9 * MIB), 0)

    staged.keep()

    assert storage.find_partial("k") is None
    assert list((root / ".arena-async" / "partial").iterdir()) == []
    storage.close()


def test_the_disk_begins_with_what_is_not_recorded_yet(root: Path) -> None:
    """What is recorded is on the disk, and is not to leave the memory of whoever reads it next."""
    begun: list[int] = []

    class Beginning(FileSystem):
        def begin_sync(self, file: int, offset: int) -> None:
            super().begin_sync(file, offset)
            begun.append(offset)

    storage = storage_on(root, Beginning())
    staged = storage.stage("k", "a/b.bin")
    staged.describe(validator=ETAG, total=None)
    staged.write(BODY[:1500], 0)
    staged.write(BODY[1500:2000], 1500)

    staged.begin_sync()

    assert begun == [1500]
    staged.drop()
    storage.close()


def test_a_group_of_files_costs_one_fsync_for_each_folder(root: Path) -> None:
    """What makes safety cheap for many small files."""
    disk = RecordingDisk()
    storage = storage_on(root, disk)
    files = []
    for number in range(6):
        staged = storage.stage(f"k{number}", f"{'ab'[number % 2]}/{number}")
        staged.write(b"x", 0)
        staged.finish()
        files.append(staged)
    disk.calls.clear()

    assert storage.publish(files) == [True] * 6

    assert disk.lines("sync_folder") == ["sync_folder out", "sync_folder out", "sync_folder a", "sync_folder b"]
    storage.close()


def test_without_durability_nothing_is_forced_to_the_disk(root: Path) -> None:
    """And a file is closed before it is named, since on a network closing is what tells that it is full."""
    disk = RecordingDisk()
    storage = storage_on(root, disk)
    bring(storage, b"x", "a/zero")
    disk.calls.clear()
    staged = storage.stage("k", "a/b")
    staged.write(b"x", 0)

    _, on_disk = staged.finish(durable=False)

    assert (on_disk, storage.publish([staged], durable=False)) == (False, [False])
    assert disk.lines("sync", "sync_data", "sync_folder") == []
    named = [call.verb for call in disk.calls if call.name == staged.name and call.verb in ("close", "rename")]
    assert named == ["close", "rename"]
    storage.close()


def test_a_file_system_without_fsync_is_used_with_a_warning(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    """ST12: one warning, and the result does not promise what nobody can."""
    disk = FaultyDisk()
    for verb in ("sync", "sync_data", "sync_folder"):
        disk.fail(verb, errno.EINVAL)
    storage = storage_on(root, disk)

    with caplog.at_level(logging.WARNING, "arena_async"):
        leave(storage, "other")
        staged = storage.stage("k", "a/b")
        staged.write(b"x", 0)
        _, on_disk = staged.finish()
        results = storage.publish([staged])

    assert (on_disk, results) == (False, [False])
    assert (root / "a/b").read_bytes() == b"x"
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    storage.close()


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
    [("create", "*.part"), ("write", "*"), ("sync", "*.part"), ("rename", "*.part"), ("make_folder", "a")],
)
def test_what_the_disk_says_becomes_a_typed_error(
    root: Path, number: int, kind: type[StorageError], words: str, verb: str, name: str
) -> None:
    """ST01, ST03: at every step, with a sentence, and nothing under the final name."""
    disk = FaultyDisk()
    storage = storage_on(root, disk)
    disk.fail(verb, number, name=name)

    with pytest.raises(StorageError, match=words) as caught:
        bring_or_drop(storage)

    assert type(caught.value) is kind
    assert caught.value.file == "k"
    assert not (root / "a/b.bin").exists()
    storage.close()


def bring_or_drop(storage: Storage) -> None:
    """Bring a file as a transfer does, with what it does at the end of each."""
    staged = storage.stage("k", "a/b.bin")
    try:
        staged.write(BODY, 0)
        staged.finish()
        (result,) = storage.publish([staged])
        if isinstance(result, Exception):
            raise result
    finally:
        staged.close()


def test_a_partial_file_is_found_while_another_thread_is_half_way_through_the_names(storage: Storage) -> None:
    """All threads look through one handle of the folder, and each has a place of its own in it."""
    name = leave(storage)
    with os.scandir(storage.partials) as others:
        next(others)
        found = storage.find_partial("k")

    assert found is not None
    assert found.name == name


def test_a_disk_that_fills_up_keeps_what_was_recorded(root: Path) -> None:
    """ST01: the next run goes on from there."""
    disk = FaultyDisk()
    storage = storage_on(root, disk)
    disk.fill_up(after=3000)
    staged = storage.stage("k", "a/b.bin")
    staged.describe(validator=ETAG, total=len(BODY))

    staged.write(BODY[:2500], 0)
    with pytest.raises(DiskFullError):
        staged.write(BODY[2500:], 2500)
    staged.close()
    found = storage.find_partial("k")

    assert found == Partial(key="k", name=staged.name, validator=ETAG, offset=2500, total=4096)
    storage.close()


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_content_that_could_not_be_forced_to_the_disk_is_never_trusted(root: Path, number: int) -> None:
    """ST03: after a failed fsync the next one succeeds and proves nothing, so the file is dropped."""
    disk = FaultyDisk()
    storage = storage_on(root, disk)
    staged = storage.stage("k", "a/b.bin")
    staged.describe(validator=ETAG, total=len(BODY))
    staged.write(BODY[:1000], 0)
    disk.fail("sync_data", number, times=1)

    with pytest.raises(StorageError):
        staged.write(BODY[1000:2000], 1000)

    assert staged.closed
    assert partials(root) == []
    assert storage.find_partial("k") is None
    storage.close()


@pytest.mark.parametrize("number", [errno.EINTR, errno.EAGAIN])
def test_an_interrupted_call_is_repeated(root: Path, number: int) -> None:
    """ST05: a signal is no fault of the disk."""
    disk = FaultyDisk()
    for verb in (
        "make_root",
        "open_root",
        "create",
        "write",
        "sync",
        "chmod",
        "look",
        "look_open",
        "rename",
        "open_folder",
    ):
        disk.fail(verb, number, times=2)

    storage = storage_on(root, disk)
    bring(storage)

    assert (root / "a/b.bin").read_bytes() == BODY
    storage.close()


def test_short_writes_are_completed(root: Path) -> None:
    """A system that takes seven bytes at a time gets them all."""
    disk = FaultyDisk()
    disk.shorten_writes(7)
    storage = storage_on(root, disk)

    leave(storage)
    bring(storage, BODY, key="other")

    assert (root / "a/b.bin").read_bytes() == BODY
    assert storage.find_partial("k") is not None
    storage.close()


def test_a_disk_that_takes_nothing_does_not_hang(root: Path) -> None:
    """Zero bytes for ever are a fault, not a reason to try for ever."""
    disk = FaultyDisk()
    storage = storage_on(root, disk)
    disk.replace("write", lambda real, file, data, offset: 0)

    with pytest.raises(StorageError, match="written"):
        bring_or_drop(storage)
    storage.close()


@pytest.mark.parametrize(("times", "published"), [(3, True), (50, False)])
def test_a_file_that_another_program_has_open_is_waited_for(root: Path, times: int, published: bool) -> None:
    """ST06: a sharing violation passes within half a second, or the file stays under its partial name."""
    disk = FaultyDisk()
    waits: list[float] = []
    storage = Storage(root, files=disk, sleep=waits.append)
    storage.prepare()
    disk.fail("rename", errno.EACCES, times=times, winerror=32, name="*.part")
    staged = storage.stage("k", "a")
    staged.write(b"x", 0)
    staged.finish()

    (result,) = storage.publish([staged])
    staged.release()

    assert (result is True) == published
    assert (root / "a").exists() == published
    assert partials(root) == ([] if published else [staged.name])
    assert 0 < sum(waits) <= 0.5
    storage.close()


@pytest.mark.parametrize("number", [errno.EACCES, errno.EXDEV])
def test_a_refused_rename_fails_that_file_alone_and_keeps_it(root: Path, number: int) -> None:
    """ST06: no second try, the others get their names, and nothing that was verified is thrown away."""
    disk = FaultyDisk()
    storage = storage_on(root, disk)
    files = [storage.stage(f"k{number}", f"a/{number}") for number in range(3)]
    for staged in files:
        staged.write(b"x", 0)
        staged.finish()
    disk.fail("rename", number, name=files[1].name)

    first, second, third = storage.publish(files)
    files[1].release()

    assert (first, third) == (True, True)
    assert isinstance(second, StorageError)
    assert (listed(root / "a")) == ["0", "2"]
    assert partials(root) == [files[1].name]
    assert len([line for line in disk.lines("rename") if files[1].name in line]) == 1
    storage.close()


def test_a_folder_that_vanishes_meanwhile_is_made_again(root: Path, storage: Storage) -> None:
    """Somebody tidied up between two files of a group."""
    first, second = storage.stage("1", "a/1"), storage.stage("2", "a/2")
    for staged in (first, second):
        staged.write(b"x", 0)
        staged.finish()

    def tidy(call: object) -> None:
        if str(call).startswith(f"rename {second.name}") and (root / "a/1").exists():
            (root / "a/1").unlink()
            (root / "a").rmdir()

    storage.files = RecordingDisk(before=tidy)
    assert storage.publish([first, second]) == [True, True]

    assert listed(root / "a") == ["2"]


def test_a_partial_file_that_vanished_is_an_error_of_that_file(root: Path, storage: Storage) -> None:
    """Somebody removed it; there is nothing to give a name to."""
    staged = storage.stage("k", "a/b")
    staged.write(b"x", 0)
    staged.finish()
    (root / ".arena-async/partial" / staged.name).unlink()

    (result,) = storage.publish([staged])
    staged.release()

    assert isinstance(result, StorageError)
    assert "vanished" in str(result)
    assert not (root / "a/b").exists()


def test_a_file_that_another_process_finished_meanwhile_counts_as_published(root: Path, storage: Storage) -> None:
    """It has its final name, and it is the very same file."""
    staged = storage.stage("k", "a/b")
    staged.write(b"x", 0)
    staged.finish()
    (root / "a").mkdir()
    (root / ".arena-async/partial" / staged.name).rename(root / "a/b")

    assert storage.publish([staged]) == [True]


def test_room_is_reserved_for_large_files_only(root: Path) -> None:
    """Above 1 MiB, when the size is known; a system that cannot is no obstacle."""
    disk = FaultyDisk()
    storage = storage_on(root, disk)
    for key, total in (("small", 2**20), ("large", 2**20 + 1), ("unknown", None)):
        staged = storage.stage(key, key)
        staged.describe(validator=None, total=total)
        staged.drop()
    disk.fail("allocate", errno.EOPNOTSUPP)
    staged = storage.stage("k", "b")
    staged.describe(validator=None, total=2**21)
    staged.write(b"abc", 0)
    staged.finish()
    storage.publish([staged])

    assert [call.size for call in disk.calls if call.verb == "allocate"] == [2**20 + 1, 2**21]
    assert (root / "b").read_bytes() == b"abc"
    storage.close()


def test_reserved_room_that_was_not_needed_is_given_back(root: Path, storage: Storage) -> None:
    """A file is as long as what was written, not as what was announced."""
    staged = storage.stage("k", "b")
    staged.describe(validator=None, total=2**21)
    staged.write(b"abc", 0)
    assert staged.read(0, 100) == b"abc"
    state, _ = staged.finish()
    storage.publish([staged])

    assert state.size == 3
    assert (root / "b").read_bytes() == b"abc"


def test_a_full_disk_is_noticed_when_room_is_reserved(root: Path) -> None:
    """ST02: before the first byte is written."""
    disk = FaultyDisk()
    storage = storage_on(root, disk)
    disk.fail("allocate", errno.ENOSPC)
    staged = storage.stage("k", "b")

    with pytest.raises(DiskFullError, match="given room for"):
        staged.describe(validator=ETAG, total=2**21)
    staged.close()

    assert partials(root) == []
    storage.close()


# ---------------------------------------------------------------------------------------------------------- going on


def test_a_small_file_never_has_a_control_record(root: Path, storage: Storage) -> None:
    """Below the flush unit nothing is forced to the disk and nothing is left of an interrupted file."""
    disk = RecordingDisk()
    storage.files = disk
    leave(storage, body=BODY[:999])

    assert disk.lines("sync", "sync_data", "rename") == []
    assert partials(root) == []


def test_an_interrupted_file_is_continued_where_it_is_known_to_be(root: Path, storage: Storage) -> None:
    """CR06, ST19: at the last recorded byte, and what was written behind it is cut off."""
    name = leave(storage)
    found = storage.find_partial("k")
    assert found == Partial(key="k", name=name, validator=ETAG, offset=2000, total=4096)
    assert (root / ".arena-async/partial" / name).stat().st_size == 2500

    staged = storage.resume(found, "a/b.bin")
    assert staged is not None
    assert (staged.end, staged.durable_offset) == (2000, 2000)
    assert (root / ".arena-async/partial" / name).stat().st_size == 2000
    replayed: list[bytes] = []
    staged.replay(lambda view: replayed.append(bytes(view)), end=2000)
    staged.describe(validator=ETAG, total=4096)
    staged.write(BODY[2000:], 2000)
    staged.finish()

    assert storage.publish([staged]) == [True]
    assert b"".join(replayed) == BODY[:2000]
    assert (root / "a/b.bin").read_bytes() == BODY
    assert partials(root) == []


def test_content_without_a_strong_validator_is_not_continued(root: Path, storage: Storage) -> None:
    """Nobody could say that it is still the same content."""
    for number, validator in enumerate((None, 'W/"v1"', "")):
        leave(storage, f"k{number}", validator=validator)

    assert partials(root) == []


def test_the_record_says_nothing_about_the_file_but_hashes(root: Path, storage: Storage) -> None:
    """I4: no key, no path, no link."""
    leave(storage, "arena|https://x|secret-looking")

    (record,) = (root / ".arena-async/partial").glob("*.json")

    assert sorted(json.loads(record.read_bytes())) == [
        "ahead",
        "key",
        "offset",
        "tail",
        "total",
        "validator",
        "version",
    ]
    assert b"secret" not in record.read_bytes()
    assert stat.S_IMODE(record.stat().st_mode) == 0o600


def damaged_records() -> dict[str, bytes]:
    """Give control records as the world may leave them (ST17)."""
    good = {"version": 1, "key": "", "validator": ETAG, "offset": 2000, "total": 4096, "tail": ""}
    odd: dict[str, dict[str, object]] = {
        "version": {"version": 2},
        "no version": {"version": None},
        "text offset": {"offset": "2000"},
        "true": {"offset": True},
        "negative": {"offset": -1},
        "zero": {"offset": 0},
        "fraction": {"offset": 2000.0},
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
def test_a_malformed_control_record_is_ignored_and_cleaned(root: Path, storage: Storage, damage: str) -> None:
    """ST17: the file starts anew, and nothing of the old one stays."""
    name = leave(storage)
    record = root / ".arena-async/partial" / name.replace(".part", ".json")
    content = damaged_records()[damage]
    if b'"key": ""' in content:
        content = content.replace(
            b'"key": ""', b'"key": ' + json.dumps(json.loads(record.read_bytes())["key"]).encode()
        )
    record.write_bytes(content)

    assert storage.find_partial("k") is None
    assert partials(root) == []


@pytest.mark.parametrize("odd", ["folder", "huge", "link", "missing"])
def test_a_control_record_that_is_none_is_ignored_and_cleaned(
    root: Path, storage: Storage, tmp_path: Path, odd: str
) -> None:
    """ST17, SE10: a folder, a gigabyte, a link to a good one, nothing."""
    name = leave(storage)
    record = root / ".arena-async/partial" / name.replace(".part", ".json")
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

    assert storage.find_partial("k") is None
    assert partials(root) == []
    assert odd != "link" or (tmp_path / "good").read_bytes() == good


@pytest.mark.parametrize("damage", ["zeroed", "flipped", "shorter"])
def test_content_that_is_not_what_was_recorded_is_not_trusted(root: Path, storage: Storage, damage: str) -> None:
    """ST20: the end of what is recorded is compared with its digest."""
    name = leave(storage)
    content = bytearray((root / ".arena-async/partial" / name).read_bytes())
    content[1999] = 0 if damage == "zeroed" else content[1999] ^ 1
    (root / ".arena-async/partial" / name).write_bytes(content[: 1990 if damage == "shorter" else None])

    assert storage.find_partial("k") is None
    assert partials(root) == []


def test_the_best_of_several_partial_files_is_kept(root: Path, storage: Storage) -> None:
    """I3: one for each file; those of other files are not touched."""
    short = leave(storage, body=BODY[:1000])
    best = leave(storage, body=BODY[:3000])
    shorter = leave(storage, body=BODY[:2000])
    other = leave(storage, "other")

    found = storage.find_partial("k")

    assert found is not None
    assert (found.name, found.offset) == (best, 3000)
    assert [name for name in partials(root) if name.endswith(".part")] == sorted([best, other])
    assert len({short, shorter, best}) == 3


def test_a_partial_file_that_is_being_written_is_left_alone(root: Path, storage: Storage) -> None:
    """Another process has it: it is neither continued nor removed."""
    staged = storage.stage("k", "a/b.bin")
    staged.describe(validator=ETAG, total=len(BODY))
    staged.write(BODY[:1000], 0)
    mine = Partial(key="k", name=staged.name, validator=ETAG, offset=1000)

    other = storage_on(root)
    assert other.find_partial("k") is None
    assert other.resume(mine, "a/b.bin") is None
    assert other.sweep() == 0
    other.close()

    staged.write(BODY[1000:], 1000)
    staged.finish()
    assert storage.publish([staged]) == [True]
    assert (root / "a/b.bin").read_bytes() == BODY


@pytest.mark.parametrize("odd", ["link", "FIFO", "hard link", "folder"])
def test_a_partial_name_that_is_something_else_is_cleaned_and_not_touched(
    root: Path, storage: Storage, tmp_path: Path, odd: str
) -> None:
    """SE10, ST21: what it leads to stays as it was."""
    name = leave(storage)
    part = root / ".arena-async/partial" / name
    outside = tmp_path / "outside"
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

    assert storage.find_partial("k") is None
    assert partials(root) == []
    assert outside.read_bytes() == before


def test_a_name_that_was_made_beforehand_is_not_used(root: Path, tmp_path: Path) -> None:
    """SE10: exclusive creation never opens what somebody else put there."""
    names = iter(["mode", "taken", "free"])
    storage = Storage(root, draw_name=lambda: next(names))
    storage.prepare()
    outside = tmp_path / "outside"
    key_hash = "8254c329a92850f6d539dd376f4816ee"  # the first half of the SHA-256 of "k"
    (root / f".arena-async/partial/{key_hash}-taken.part").symlink_to(outside)

    staged = storage.stage("k", "a")
    staged.write(b"x", 0)

    assert staged.name == f"{key_hash}-free.part"
    assert not outside.exists()
    staged.drop()
    storage.close()


def test_where_locks_keep_nobody_out_a_partial_file_is_copied_and_recent_ones_are_left_alone(root: Path) -> None:
    """ST23: two writers are never in the same file; correctness does not rest on the lock."""
    disk = FaultyDisk()
    disk.replace("lock", lambda real, file: True)
    now = [0.0]
    storage = Storage(root, files=disk, flush_unit=UNIT, now=lambda: now[0])
    storage.prepare()
    name = leave(storage)
    written = (root / ".arena-async/partial" / name).stat().st_mtime

    now[0] = written + 3599
    assert storage.find_partial("k") is None
    assert storage.sweep() == 0
    now[0] = written + 3601
    found = storage.find_partial("k")
    assert found is not None
    late = os.open(root / ".arena-async/partial" / name, os.O_WRONLY)
    staged = storage.resume(found, "a/b.bin")
    assert staged is not None
    os.pwrite(late, b"late", 0)  # the first owner was only asleep
    os.close(late)
    assert staged.name != name
    assert staged.read(0, 10_000) == BODY[:2000]
    assert partials(root) == [staged.name.replace(".part", ".json"), staged.name]
    assert staged.durable_offset == 2000
    staged.drop()
    storage.close()


def test_starting_over_forgets_record_and_content(root: Path, storage: Storage) -> None:
    """The record goes first, since it must never speak of bytes that are gone."""
    leave(storage)
    found = storage.find_partial("k")
    assert found is not None
    staged = storage.resume(found, "a/b.bin")
    assert staged is not None

    staged.restart()
    assert partials(root) == [staged.name]
    staged.write(b"new", 0)
    staged.finish()
    storage.publish([staged])

    assert (root / "a/b.bin").read_bytes() == b"new"


def test_bytes_with_a_gap_before_them_are_refused(storage: Storage) -> None:
    """What is behind a gap was never received."""
    staged = storage.stage("k", "a")
    with pytest.raises(StorageError, match="bytes from 10 on came before those from 0 on"):
        staged.write(b"x", 10)
    staged.drop()


def test_a_dropped_file_is_gone_and_can_be_closed_again(root: Path, storage: Storage) -> None:
    """Ends of all kinds may be called in any order."""
    staged = storage.stage("k", "a")
    staged.describe(validator=ETAG, total=None)
    staged.write(BODY, 0)

    staged.drop()
    staged.drop()
    staged.close()
    staged.release()

    assert partials(root) == []
    with pytest.raises(StorageError, match="closed before"):
        staged.write(b"x", 0)


def test_sweeping_removes_what_nobody_can_use(root: Path) -> None:
    """Files without a record, records without a file, leftovers; not what can be continued or is named."""
    clock = [0.0]
    storage = Storage(root, flush_unit=UNIT, now=lambda: clock[0])
    storage.prepare()
    good = leave(storage, "good")
    kept = leave(storage, "kept")
    folder = root / ".arena-async/partial"
    clock[0] = (folder / good).stat().st_mtime + 61
    (folder / kept.replace(".part", ".json")).unlink()
    (folder / "00-00.part").write_bytes(b"x")
    (folder / "00-01.json").write_bytes(b"x")
    (folder / "new-00").write_bytes(b"x")
    (root / ".arena-async/new-01").write_bytes(b"x")

    assert storage.sweep(keep=[kept]) == 2
    assert partials(root) == sorted([good, good.replace(".part", ".json"), kept])
    assert "new-01" not in listed(root / ".arena-async")

    clock[0] += 31 * 86400
    assert storage.sweep(keep=[kept]) == 1
    assert partials(root) == [kept]
    storage.close()


@pytest.mark.skipif(os.name == "nt", reason="locks are not looked at on Windows")
@pytest.mark.parametrize("place", [".arena-async", ".arena-async/partial"])
def test_what_a_killed_replacement_left_is_swept_at_once_and_what_is_being_written_is_not(
    root: Path, place: str
) -> None:
    """CR06: its lock ended with its owner, so that the next run need not wait for a minute; a held one is in use."""
    seen: list[list[str]] = []
    other = storage_on(root)

    def sweep_meanwhile(call: Call) -> None:
        if call.name.startswith("new-") and call.verb in ("write", "sync"):
            other.sweep()
            seen.append([name for name in listed(root / place) if name.startswith("new-")])

    storage = storage_on(root, RecordingDisk(sweep_meanwhile))
    (root / place / "new-00").write_bytes(b"half of a rec")
    folder = storage.partials if place.endswith("partial") else os.open(root / place, os.O_RDONLY)

    storage.replace_private(folder, "small.json", b"{}")

    assert [len(names) for names in seen] == [1, 1], "the one that is being written"
    assert "new-00" not in seen[0]
    assert (root / place / "small.json").read_bytes() == b"{}"
    assert [name for name in listed(root / place) if name.startswith("new-")] == []
    if folder != storage.partials:
        os.close(folder)
    storage.close()
    other.close()


@pytest.mark.skipif(os.name == "nt", reason="locks are not looked at on Windows")
@pytest.mark.parametrize("verb", ["lock", "rename"])
def test_a_small_file_that_is_swept_away_in_between_is_written_again(root: Path, verb: str) -> None:
    """CR06: another process may come before it is locked, or after: it takes the name away, and nothing else."""
    other = storage_on(root)
    moments = []

    def sweep_once(call: Call) -> None:
        if call.verb == verb and call.name.startswith("new-") and not moments:
            moments.append(call.name)
            other.sweep()
            assert call.name not in partials(root)

    storage = storage_on(root, RecordingDisk(sweep_once))

    storage.replace_private(storage.partials, "small.json", b"{}")

    assert len(moments) == 1
    assert partials(root) == ["small.json"]
    storage.close()
    other.close()


def _closed_with(code: int) -> Callable[..., None]:
    """Close a file and say that it went wrong, as network file systems do."""

    def close(real: Callable[..., None], file: int) -> None:
        real(file)
        raise OSError(code, os.strerror(code))

    return close


@pytest.mark.parametrize("verb", ["write", "sync", "close", "rename"])
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOENT, errno.ENOSPC])
def test_a_small_file_that_cannot_be_replaced_leaves_the_old_one_and_nothing_else(
    root: Path, verb: str, code: int
) -> None:
    """ST11: whatever the disk refuses, and wherever: no half of a record, and no second name for it."""
    disk = FaultyDisk()
    storage = storage_on(root, disk)
    storage.replace_private(storage.partials, "small.json", b"old")
    disk.calls.clear()
    if verb == "close":
        disk.replace("close", _closed_with(code), name="new-*")
    else:
        disk.fail(verb, code, name="new-*")

    with pytest.raises(OSError, match=os.strerror(code)):
        storage.replace_private(storage.partials, "small.json", b"new")

    assert listed(root / ".arena-async/partial") == ["small.json"]
    assert (root / ".arena-async/partial/small.json").read_bytes() == b"old"
    assert [call.name for call in disk.calls if call.verb == "create"] == [
        call.name for call in disk.calls if call.verb == "unlink"
    ], "one attempt, which is taken back"
    storage.close()


# ---------------------------------------------------------------------------------------------------------- recovery


def finished(storage: Storage, body: bytes = b"whole") -> tuple[str, FileState]:
    """Leave a file that was verified and written into the ledger, and not named yet."""
    staged = storage.stage("k", "a/b")
    staged.write(body, 0)
    state, _ = staged.finish()
    staged.release()
    return staged.name, state


def test_a_verified_file_gets_its_name_at_the_next_start(root: Path, storage: Storage) -> None:
    """CR05: nothing is fetched twice."""
    name, state = finished(storage)

    assert storage.adopt(name, "a/b", state=state, sha256=None) == "renamed"
    assert storage.adopt(name, "a/b", state=state, sha256=None) == "complete"

    assert (root / "a/b").read_bytes() == b"whole"
    assert partials(root) == []
    assert storage.look("a/b") == state


@pytest.mark.parametrize("damage", ["cut", "other bytes", "removed"])
def test_a_file_that_is_not_what_the_ledger_says_is_not_named(root: Path, storage: Storage, damage: str) -> None:
    """Without fsync a power loss takes content and leaves names; then the file is fetched again."""
    name, state = finished(storage)
    part = root / ".arena-async/partial" / name
    if damage == "removed":
        part.unlink()
    else:
        part.write_bytes(b"who" if damage == "cut" else b"WHOLE")
        os.utime(part, ns=(state.mtime_ns, state.mtime_ns))

    assert storage.adopt(name, "a/b", state=state, sha256="0" * 64) == "gone"

    assert not (root / "a/b").exists()


def test_a_file_that_another_process_is_committing_is_left_to_it(root: Path, storage: Storage) -> None:
    """It is locked until it has its name."""
    staged = storage.stage("k", "a/b")
    staged.write(b"x", 0)
    state, _ = staged.finish()
    other = storage_on(root)

    assert other.adopt(staged.name, "a/b", state=state, sha256=None) == "in use"

    other.close()
    assert storage.publish([staged]) == [True]


def test_private_files_are_made_once_and_set_aside_under_a_free_name(tmp_path: Path) -> None:
    """For the ledger: 0600 from the first moment, and no damaged one is ever overwritten."""
    path = tmp_path / "ledger.sqlite"

    assert (create_private(path), create_private(path)) == (True, False)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert set_aside(path, ".damaged").name == "ledger.sqlite.damaged"
    create_private(path)
    assert set_aside(path, ".damaged").name == "ledger.sqlite.damaged-2"
    with pytest.raises(StorageError, match="set aside"):
        set_aside(path, ".damaged")


def test_what_is_shown_of_a_staged_file_is_its_place(storage: Storage) -> None:
    """For logs and debuggers."""
    staged: Staged = storage.stage("k", "a/b")
    assert repr(staged) == "<Staged a/b 0 bytes>"
    staged.drop()
