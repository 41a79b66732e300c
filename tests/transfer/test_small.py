"""Small files take the short way, and nothing that is promised is lost on it."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

import pytest
from disks import FaultyDisk
from filesets import MemoryFiles, Source, content, remote

from arena_async.errors import IntegrityError, StorageError
from arena_async.options import KIB, TransferOptions
from arena_async.transfer.groups import Waiting, bring_share, shares
from arena_async.transfer.integrity import Inspector, Verdict
from arena_async.transfer.ledger import Entry
from arena_async.transfer.pool import Downloader
from arena_async.transfer.small import MOST, SmallFile, goes_short
from arena_async.transfer.storage import Storage


@pytest.mark.parametrize(
    ("offset", "has_part", "total", "short"),
    [
        (0, False, 0, True),
        (0, False, 20_480, True),
        (0, False, 262_144, True),
        (0, False, 262_145, False),
        (0, False, None, True),
        (0, True, 20_480, False),
        (0, True, None, False),
        (10, True, 20_480, False),
        (10, False, 20_480, False),
    ],
)
def test_which_bodies_go_the_short_way(offset: int, has_part: bool, total: int | None, short: bool) -> None:
    """Those of which nothing is here and that are small, as far as anybody knows."""
    assert goes_short(offset=offset, has_part=has_part, total=total, most=MOST) is short


@pytest.mark.parametrize(
    ("sizes", "threads"),
    [([], 0), ([1], 1), ([20_480] * 20, 1), ([20_480] * 64, 3), ([262_144] * 64, 8), ([262_144] * 3, 2)],
)
def test_threads_grow_with_the_bytes(sizes: list[int], threads: int) -> None:
    """One thread for each half mebibyte, and never more than there are files or threads."""
    assert shares(sizes, 8) == threads


def small(body: bytes, *, expected: int | None = None, path: str = "a.bin") -> SmallFile:
    """Make a small file that came."""

    def entry(verdict: Verdict) -> Entry:
        return Entry(key=path, verified_by=verdict.verified_by, sha256=verdict.sha256)

    inspector = Inspector(name=path, length=len(body) if expected is None else expected)
    return SmallFile(path, PurePosixPath(path), body, inspector=inspector, entry=entry)


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    """Give an open folder on a disk that can be told to fail."""
    made = Storage(tmp_path, files=FaultyDisk())
    made.prepare()
    return made


def bring(storage: Storage, *files: SmallFile) -> list[Waiting]:
    """Bring a share of small files to the disk."""
    share = [Waiting(file.path, None, small=file, size=file.size) for file in files]  # type: ignore[arg-type]
    bring_share(share, storage, durable=True, now=lambda: datetime(2026, 1, 1, tzinfo=UTC))
    return share


def test_what_is_not_right_is_never_written(storage: Storage) -> None:
    """It is verified in memory; no partial file was ever made, and the others of its share are not harmed."""
    wrong, right = bring(storage, small(b"abc", expected=4), small(b"abcd", path="b.bin"))

    assert isinstance(wrong.answer, IntegrityError)
    assert wrong.staged is None
    assert right.answer is None
    assert right.staged is not None
    assert right.entry is not None
    assert (right.entry.size, right.entry.state, right.on_disk) == (4, "committing", True)
    assert len(list((storage.root / ".arena-async" / "partial").iterdir())) == 1
    right.staged.drop()
    storage.close()


@pytest.mark.parametrize("verb", ["create", "write", "chmod", "sync"])
def test_nothing_stays_of_a_small_file_that_the_disk_refused(storage: Storage, verb: str) -> None:
    """Whichever step fails, neither a partial file nor its content is left, not even in the frames of the error."""
    assert isinstance(storage.files, FaultyDisk)
    storage.files.fail(verb, 5, name="*.part")
    file = small(b"abcd")
    (waiting,) = bring(storage, file)

    assert isinstance(waiting.answer, StorageError)
    assert list((storage.root / ".arena-async" / "partial").iterdir()) == []
    assert file._content == b""
    storage.close()


def test_the_disk_begins_with_all_files_before_one_is_waited_for(storage: Storage) -> None:
    """Three files are on their way before the first is forced to the disk."""
    steps: list[str] = []
    disk = storage.files
    assert isinstance(disk, FaultyDisk)
    disk.replace("begin_sync", lambda real, *args: steps.append("begin"))
    disk.replace("sync", lambda real, *args: (steps.append("sync"), real(*args)))
    for waiting in bring(storage, *(small(b"abcd", path=f"{name}.bin") for name in "abc")):
        assert waiting.staged is not None
        waiting.staged.drop()
    storage.close()

    assert steps == ["begin"] * 3 + ["sync"] * 3


@pytest.mark.parametrize("announced", [True, False])
@pytest.mark.parametrize("size", [0, 1, 64 * KIB - 1, 64 * KIB, MOST, MOST + 1, 2 * MOST])
async def test_files_of_every_size_come_home_whole(tmp_path: Path, size: int, *, announced: bool) -> None:
    """Below, at and above the size of the buffer and of a small file, announced or not."""
    for chunk in (64 * KIB, 512 * KIB):
        files = MemoryFiles([remote("a")], {"test/a": Source(body=content(size), announced=announced)})
        async with Downloader(tmp_path, options=TransferOptions(workers=1, chunk_size=chunk)) as downloads:
            report = await downloads.run(files)
        assert [outcome.error for outcome in report.outcomes] == [None]
        assert (tmp_path / "files" / "a.bin").read_bytes() == content(size)
        assert report.bytes_written == size


async def test_small_files_wake_no_thread_of_their_slot(tmp_path: Path) -> None:
    """A hop to a thread for each of them would cost more than everything else."""
    files = MemoryFiles([remote(f"f{n}") for n in range(20)], {f"test/f{n}": Source(body=b"x") for n in range(20)})
    async with Downloader(tmp_path, options=TransferOptions(workers=4)) as downloads:
        await downloads.run(files)
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("arena_async-lane")]
