"""A small file for its owner alone, which several processes change in turn."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from disks import FaultyDisk

from arena_async.errors import ConfigurationError, DiskFullError, StorageError
from arena_async.transfer.filesystem import FileSystem
from arena_async.transfer.local_files import PrivateFile

posix = pytest.mark.skipif(os.name != "posix", reason="permissions are those of POSIX")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Return a path in a folder that is closed to others."""
    directory = tmp_path / "closed"
    directory.mkdir(mode=0o700)
    return directory / "sessions.json"


def names(directory: Path) -> list[str]:
    """Return what lies in a folder."""
    return sorted(path.name for path in directory.iterdir())


def put(file: PrivateFile, content: bytes) -> bytes | None:
    """Write something and give what was there before."""
    return file.change(lambda before: (content, before))


def read(file: PrivateFile) -> bytes | None:
    """Read it and leave it as it is."""
    return file.change(lambda before: (None, before))


def test_what_is_written_is_what_the_next_one_reads(place: Path) -> None:
    """And nothing else lies beside it than its lock."""
    file = PrivateFile(place)

    assert put(file, b"one") is None
    assert put(PrivateFile(place), b"two") == b"one"
    assert read(file) == b"two"
    assert names(place.parent) == ["sessions.json", "sessions.json.lock"]


def test_what_a_killed_writer_left_is_removed_by_the_next_one(place: Path) -> None:
    """Once it is a minute old; what is new, or has another name, is not touched, and reading removes nothing."""
    old, new = place.with_name(f"sessions.json.{'a' * 16}"), place.with_name(f"sessions.json.{'b' * 16}")
    others = ["sessions.json.backup", f"other.json.{'a' * 16}", f"sessions.json.{'a' * 17}"]
    put(PrivateFile(place), b"one")
    for path in (old, new, *map(place.with_name, others)):
        path.write_bytes(b"half")
        if path != new:
            os.utime(path, (1, 1))

    read(PrivateFile(place))
    assert old.exists()
    put(PrivateFile(place), b"two")

    assert names(place.parent) == sorted([new.name, *others, "sessions.json", "sessions.json.lock"])
    assert read(PrivateFile(place)) == b"two"


@posix
def test_only_the_owner_may_read_it_and_its_folder(tmp_path: Path) -> None:
    """A folder that is missing is made for the owner alone, whatever the umask says."""
    place = tmp_path / "new" / "deeper" / "sessions.json"
    before = os.umask(0)
    try:
        put(PrivateFile(place), b"secret")
    finally:
        os.umask(before)

    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    assert stat.S_IMODE(place.with_name("sessions.json.lock").stat().st_mode) == 0o600
    assert stat.S_IMODE(place.parent.stat().st_mode) == 0o700


@posix
@pytest.mark.parametrize("mode", [0o755, 0o777, 0o1777, 0o770, 0o704, 0o702])
def test_a_folder_that_others_may_look_into_is_refused(tmp_path: Path, mode: int) -> None:
    """Nothing is written there, and the error says what to do."""
    directory = tmp_path / "open"
    directory.mkdir()
    directory.chmod(mode)

    with pytest.raises(ConfigurationError, match="chmod 700"):
        put(PrivateFile(directory / "sessions.json"), b"secret")

    assert names(directory) == []


@posix
@pytest.mark.parametrize("mode", [0o644, 0o660, 0o606])
def test_a_file_that_others_could_write_or_read_is_not_believed(place: Path, mode: int) -> None:
    """It is replaced by one of ours at the next change."""
    place.write_bytes(b"planted")
    place.chmod(mode)
    file = PrivateFile(place)

    assert read(file) is None
    put(file, b"ours")
    assert (read(file), stat.S_IMODE(place.stat().st_mode)) == (b"ours", 0o600)


@posix
def test_a_link_is_not_followed(place: Path, tmp_path: Path) -> None:
    """Neither to read what somebody points at, nor to write it."""
    other = tmp_path / "other"
    other.write_bytes(b"not yours")
    place.symlink_to(other)

    with pytest.raises(StorageError, match="symbolic link"):
        put(PrivateFile(place), b"x")

    assert other.read_bytes() == b"not yours"


def test_a_file_that_is_far_too_large_is_not_read(place: Path) -> None:
    """It is none of ours."""
    place.write_bytes(b"x" * 70_000)
    place.chmod(0o600)

    assert read(PrivateFile(place)) is None


def test_a_write_that_fails_leaves_what_was_there(place: Path) -> None:
    """And nothing half written beside it."""
    put(PrivateFile(place), b"good")
    full = FaultyDisk()
    full.fail("write", errno.ENOSPC)

    with pytest.raises(DiskFullError):
        put(PrivateFile(place, files=full), b"bad")

    assert read(PrivateFile(place)) == b"good"
    assert names(place.parent) == ["sessions.json", "sessions.json.lock"]


def test_a_lock_that_is_never_given_back_is_an_error(place: Path) -> None:
    """It is waited for a few seconds, and not for ever."""
    naps: list[float] = []

    class Taken(FileSystem):
        def lock(self, file: int) -> bool:
            return False

    with pytest.raises(StorageError, match="holds its lock for too long"):
        put(PrivateFile(place, files=Taken(), sleep=naps.append), b"x")

    assert 4 <= sum(naps) <= 6


def test_twenty_threads_lose_no_change(place: Path) -> None:
    """Each sees what the one before it wrote."""

    def add() -> None:
        PrivateFile(place).change(lambda before: (b"%d" % (int(before or b"0") + 1), None))

    threads = [threading.Thread(target=add) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert read(PrivateFile(place)) == b"20"


@pytest.mark.process
def test_processes_lose_no_change(place: Path) -> None:
    """Four processes, fifty changes each."""
    script = (
        "import sys, pathlib\n"
        "from arena_async.transfer.local_files import PrivateFile\n"
        "file = PrivateFile(pathlib.Path(sys.argv[1]))\n"
        "for _ in range(50):\n"
        "    file.change(lambda before: (b'%d' % (int(before or b'0') + 1), None))\n"
    )
    children = [subprocess.Popen([sys.executable, "-c", script, str(place)]) for _ in range(4)]

    assert [child.wait(60) for child in children] == [0] * 4
    assert read(PrivateFile(place)) == b"200"


def test_a_lock_is_held_by_one_at_a_time_until_it_is_let_go(place: Path) -> None:
    """It has nothing to do with the lock of a change, and taking it twice is taking it once."""
    one, two = PrivateFile(place), PrivateFile(place)

    assert (one.hold(), one.hold(), two.hold()) == (True, True, False)
    assert put(two, b"changed meanwhile") is None
    one.let_go()
    assert (two.hold(), one.hold()) == (True, False)
    two.let_go()
    two.let_go()
    assert one.hold() is True
    one.let_go()


def test_a_lock_ends_with_what_held_it(place: Path) -> None:
    """An owner that was forgotten keeps nobody waiting."""
    forgotten = PrivateFile(place)
    assert forgotten.hold() is True
    del forgotten

    other = PrivateFile(place)
    assert other.hold() is True
    other.let_go()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks on Windows")
@pytest.mark.parametrize("lets_go", [True, False])
def test_a_fork_neither_keeps_a_lock_nor_ends_it(place: Path, lets_go: bool) -> None:
    """The copy in the child is none of its own; when the process lets go, the lock is free although the child lives."""
    one, other = PrivateFile(place), PrivateFile(place)
    assert one.hold() is True
    go, end = os.pipe()
    child = os.fork()
    if child == 0:
        if lets_go:
            one.let_go()
        os.write(end, b".")
        os.kill(os.getpid(), signal.SIGSTOP)
        os._exit(0)
    assert os.read(go, 1) == b"."
    meanwhile = other.hold()
    one.let_go()
    after = other.hold()
    other.let_go()
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(go)
    os.close(end)

    assert (meanwhile, after) == (False, True)


@pytest.mark.parametrize("refusal", [None, OSError(errno.ENOLCK, "no locks"), OSError(errno.EIO, "a fault")])
def test_where_files_cannot_be_locked_no_lock_is_held(place: Path, refusal: OSError | None) -> None:
    """Everyone is granted one, or nobody: both say nothing."""
    disk = FaultyDisk()

    def lock(real: object, file: int) -> bool:
        if refusal is not None:
            raise refusal
        return True

    disk.replace("lock", lock)
    file = PrivateFile(place, files=disk)

    assert file.hold() is None
    file.let_go()
