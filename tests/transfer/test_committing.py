"""Groups of files get their names all in order, each with its own result, whoever is cancelled (ST, CC02, CC03, CR)."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import attrs
import pytest
from cancelling import HOW, How, cancel_at_every_await
from disks import Call, DyingDisk, FaultyDisk, Killed, RecordingDisk

from arena_async.errors import ClosedError, DestinationBusyError, DiskFullError, StorageError
from arena_async.options import Durability
from arena_async.transfer.committing import Committed, Committer, Recovered
from arena_async.transfer.filesystem import FileSystem
from arena_async.transfer.ledger import Entry, Ledger, MemoryLedger, SqliteLedger
from arena_async.transfer.storage import Staged, Storage
from arena_async.transfer.threads import wait_to_end


@attrs.define
class Home:
    """A folder with everything that commits to it."""

    root: Path
    storage: Storage
    ledger: SqliteLedger
    committer: Committer

    def staged(self, key: str, body: bytes = b"whole", path: str = "") -> Staged:
        """Stage a whole, verified file."""
        staged = self.storage.stage(key, path or f"d/{key}")
        staged.write(body, 0)
        return staged

    async def bring(self, key: str, body: bytes = b"whole", path: str = "") -> Committed:
        """Stage and commit a file."""
        entry = Entry(
            key=key, change="c", sha256=hashlib.sha256(body).hexdigest(), verified_by="length", name=f"{key}.bin"
        )
        return await self.committer.commit(self.staged(key, body, path), entry)

    async def close(self) -> None:
        """Close all of it."""
        await self.committer.aclose()
        await self.ledger.aclose()
        self.storage.close()


async def home_at(
    root: Path, files: FileSystem | None = None, *, durability: Durability = "group", most: int = 64
) -> Home:
    """Open a folder."""
    storage = Storage(root, files=files, sleep=lambda seconds: None)
    storage.prepare()
    ledger = await SqliteLedger.open(storage.ledger_path)
    return Home(root, storage, ledger, Committer(storage, ledger, durability=durability, most=most))


@pytest.fixture
async def disk() -> FaultyDisk:
    """Give a disk that can misbehave."""
    return FaultyDisk()


@pytest.fixture
async def home(tmp_path: Path, disk: FaultyDisk) -> AsyncIterator[Home]:
    """Give an open folder on it."""
    opened = await home_at(tmp_path / "out", disk)
    yield opened
    await opened.close()


def tree(root: Path) -> dict[str, bytes]:
    """Give the final files of a folder, with their content."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and ".arena-async" not in path.parts
    }


def partials(root: Path) -> list[str]:
    """List what lies among the partial files."""
    return sorted(path.name for path in (root / ".arena-async/partial").iterdir())


async def test_a_committed_file_is_there_and_known(home: Home) -> None:
    """Its name, its row, its size and time; nothing else is left."""
    committed = await home.bring("k", b"abc", "a/b.bin")

    state = home.storage.look("a/b.bin")
    assert state is not None
    assert committed.durable
    assert tree(home.root) == {"a/b.bin": b"abc"}
    assert partials(home.root) == []
    row = attrs.evolve(committed.entry, state="committing", partial="x")
    assert (row.path, row.size, row.mtime_ns, row.change, row.name) == ("a/b.bin", 3, state.mtime_ns, "c", "k.bin")
    assert (committed.entry.state, committed.entry.partial) == ("complete", "")
    known = (await home.ledger.look_up(["k"]))["k"]
    assert attrs.evolve(known, state="complete", partial="") == committed.entry


async def test_the_row_is_written_between_the_content_and_the_name(tmp_path: Path) -> None:
    """ST11, CR05: whoever is killed at the rename leaves a row that says what to do."""
    rows: list[list[Entry]] = []
    disk = RecordingDisk()
    home = await home_at(tmp_path / "out", disk)
    real = home.ledger.write

    async def write(entries: Any, *, completed: Any = ()) -> None:
        rows.append(list(entries))
        disk.calls.append(Call("row", ",".join(entry.partial for entry in entries)))
        await real(entries, completed=completed)

    home.ledger.write = write  # type: ignore[method-assign]
    await home.bring("first")
    disk.calls.clear()
    await home.bring("k", path="d/k")

    name = rows[1][0].partial
    assert disk.lines("write", "sync", "row", "rename", "sync_folder") == [
        f"write {name}",
        f"sync {name}",
        f"row {name}",
        f"rename {name} -> k",
        "sync_folder d",
    ]
    assert rows[1][0].state == "committing"
    await home.close()


async def test_files_that_wait_together_are_committed_together(tmp_path: Path) -> None:
    """One fsync of the folder and one transaction for ten files."""
    disk = RecordingDisk()
    home = await home_at(tmp_path / "out", disk)
    await home.bring("zero")
    disk.calls.clear()

    await asyncio.gather(*(home.bring(f"k{number}") for number in range(10)))

    assert disk.lines("sync_folder") == ["sync_folder d"]
    assert len(tree(home.root)) == 11
    await home.close()


async def test_a_group_is_made_ready_while_the_one_before_gets_its_names(tmp_path: Path) -> None:
    """The names wait for the ledger, and the disk need not idle meanwhile; they are still given in order."""
    synced, asked, go_on = threading.Event(), asyncio.Event(), asyncio.Event()
    disk = RecordingDisk(before=lambda call: synced.set() if call.verb == "sync" and asked.is_set() else None)
    home = await home_at(tmp_path / "out", disk)
    real, rows = home.ledger.write, list[str]()

    async def hold(entries: Any, *, completed: Any = ()) -> None:
        rows.extend(entry.key for entry in entries)
        asked.set()
        await go_on.wait()
        await real(entries, completed=completed)

    home.ledger.write = hold  # type: ignore[method-assign]
    first = asyncio.create_task(home.bring("first"))
    await asked.wait()
    second = asyncio.create_task(home.bring("second"))

    assert await asyncio.to_thread(synced.wait, 10)
    assert rows == ["first"]
    assert tree(home.root) == {}
    go_on.set()
    await asyncio.gather(first, second)
    assert rows[:2] == ["first", "second"]
    assert sorted(tree(home.root)) == ["d/first", "d/second"]
    await home.close()


async def test_cancelled_between_two_groups_nobody_is_left_waiting(tmp_path: Path) -> None:
    """The end of a loop: one group waits for the ledger and the next one for the disk."""
    go_on, asked, flying = threading.Event(), asyncio.Event(), threading.Event()

    def hold(call: Call) -> None:
        if call.verb == "sync" and asked.is_set():
            flying.set()
            go_on.wait(10)

    home = await home_at(tmp_path / "out", RecordingDisk(before=hold))
    real, never = home.ledger.write, asyncio.Event()

    async def stop(entries: Any, *, completed: Any = ()) -> None:
        asked.set()
        await never.wait()

    home.ledger.write = stop  # type: ignore[method-assign]
    tasks = [asyncio.create_task(home.bring("k0"))]
    await asked.wait()
    tasks.append(asyncio.create_task(home.bring("k1")))
    assert await asyncio.to_thread(flying.wait, 10)
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
    go_on.set()
    await asyncio.wait(tasks)

    home.ledger.write = real  # type: ignore[method-assign]
    assert all(task.cancelled() for task in tasks)
    assert tree(home.root) == {}
    await home.close()
    assert not [thread for thread in threading.enumerate() if "arena_async-commit" in thread.name]


async def test_one_by_one_each_file_is_a_group(tmp_path: Path) -> None:
    """``durability="each"``."""
    disk = RecordingDisk()
    home = await home_at(tmp_path / "out", disk, durability="each")
    await home.bring("zero")
    disk.calls.clear()

    done = await asyncio.gather(*(home.bring(f"k{number}") for number in range(5)))

    assert disk.lines("sync_folder") == ["sync_folder d"] * 5
    assert all(each.durable for each in done)
    await home.close()


async def test_switched_off_nothing_is_forced_to_the_disk(tmp_path: Path) -> None:
    """``durability="off"``: names still come last, and the result does not promise anything."""
    disk = RecordingDisk()
    home = await home_at(tmp_path / "out", disk, durability="off")
    await home.bring("zero")
    disk.calls.clear()

    done = await asyncio.gather(*(home.bring(f"k{number}") for number in range(5)))

    assert disk.lines("sync", "sync_data", "sync_folder") == []
    assert not any(each.durable for each in done)
    assert len(tree(home.root)) == 6
    await home.close()


async def test_a_file_system_without_fsync_promises_nothing(home: Home, disk: FaultyDisk) -> None:
    """ST12."""
    disk.fail("sync", errno.EINVAL)
    disk.fail("sync_folder", errno.EINVAL)

    assert (await home.bring("k")).durable is False
    assert tree(home.root) == {"d/k": b"whole"}


async def test_a_folder_that_cannot_be_forced_to_the_disk_costs_only_the_promise(home: Home, disk: FaultyDisk) -> None:
    """The names are given and cannot be taken back."""
    await home.bring("zero")
    disk.fail("sync_folder", errno.EIO)

    assert (await home.bring("k")).durable is False
    assert (home.root / "d/k").read_bytes() == b"whole"


@pytest.mark.parametrize(
    ("verb", "number", "kind", "kept"),
    [
        ("sync", errno.EIO, StorageError, False),
        ("sync", errno.ENOSPC, DiskFullError, False),
        ("chmod", errno.EPERM, StorageError, False),
        ("rename", errno.EACCES, StorageError, True),
        ("rename", errno.ENOSPC, DiskFullError, True),
    ],
)
async def test_a_file_that_fails_fails_alone(
    home: Home, disk: FaultyDisk, verb: str, number: int, kind: type[StorageError], kept: bool
) -> None:
    """ST01, ST03, ST06: the others of its group are committed; what was verified and written down is kept."""
    bad = home.staged("bad")
    disk.fail(verb, number, name=bad.name)

    async def commit(staged: Staged) -> Committed | Exception:
        try:
            return await home.committer.commit(staged, Entry(key=staged.key))
        except StorageError as error:
            return error

    done = await asyncio.gather(*map(commit, [home.staged("a"), home.staged("b"), bad, home.staged("c")]))

    assert [type(each) for each in done] == [Committed, Committed, kind, Committed]
    assert isinstance(done[2], StorageError)
    assert done[2].file == "bad"
    assert sorted(tree(home.root)) == ["d/a", "d/b", "d/c"]
    assert partials(home.root) == ([bad.name] if kept else [])
    assert all(staged.closed for staged in [bad])


async def test_a_taken_name_fails_alone_and_keeps_what_was_verified(home: Home) -> None:
    """ST08: and the next start brings it in once the name is free."""
    staged = home.staged("k")
    (home.root / "d/k").mkdir(parents=True)

    with pytest.raises(DestinationBusyError):
        await home.committer.commit(staged, Entry(key="k"))
    assert partials(home.root) == []

    staged = home.staged("k", path="e/k")
    home.storage.files = RecordingDisk(before=lambda call: taking(call, home.root / "e"))
    with pytest.raises(DestinationBusyError):
        await home.committer.commit(staged, Entry(key="k"))
    assert partials(home.root) == [staged.name]
    assert await home.committer.recover() == Recovered(waiting=1, partials=frozenset({staged.name}))

    (home.root / "e/k").rmdir()
    assert await home.committer.recover() == Recovered(renamed=1)
    assert (home.root / "e/k").read_bytes() == b"whole"


def taking(call: Call, folder: Path) -> None:
    """Take the name away while the group is between its row and its rename."""
    if call.verb == "make_folder" and call.name == folder.name:
        (folder / "k").mkdir(parents=True)


async def test_a_ledger_that_refuses_fails_the_group_and_leaves_no_name(home: Home) -> None:
    """No row, no name; each waiting task gets an error of its own."""

    async def refuse(entries: Any, *, completed: Any = ()) -> None:
        raise DiskFullError("no room for the ledger")

    real, home.ledger.write = home.ledger.write, refuse  # type: ignore[method-assign]
    done = await asyncio.gather(*(home.bring(f"k{number}") for number in range(3)), return_exceptions=True)
    home.ledger.write = real  # type: ignore[method-assign]

    assert [type(each) for each in done] == [DiskFullError] * 3
    assert len({id(each) for each in done}) == 3
    assert tree(home.root) == {}
    assert partials(home.root) == []
    await home.bring("k0")
    assert sorted(tree(home.root)) == ["d/k0"]


async def test_something_unforeseen_is_the_answer_and_not_a_hang(home: Home) -> None:
    """A fault of ours must not leave tasks waiting for ever."""

    async def explode(entries: Any, *, completed: Any = ()) -> None:
        raise ZeroDivisionError

    real, home.ledger.write = home.ledger.write, explode  # type: ignore[method-assign]
    with pytest.raises(ZeroDivisionError):
        await home.bring("k")
    home.ledger.write = real  # type: ignore[method-assign]

    await home.bring("other")
    assert sorted(tree(home.root)) == ["d/other"]


async def test_room_is_made_as_groups_leave(tmp_path: Path) -> None:
    """At most so many finished files wait; the rest keep their slots."""
    go_on, flying = threading.Event(), threading.Event()

    def hold(call: Call) -> None:
        if call.verb == "sync" and call.name.endswith(".part"):
            flying.set()
            go_on.wait(10)

    home = await home_at(tmp_path / "out", RecordingDisk(before=hold), most=2)
    await home.committer.room()
    tasks = [asyncio.create_task(home.bring("k0"))]
    assert await asyncio.to_thread(flying.wait, 10)
    tasks += [asyncio.create_task(home.bring(f"k{number}")) for number in (1, 2)]
    await asyncio.sleep(0)
    waits = asyncio.create_task(home.committer.room())
    for _ in range(10):
        await asyncio.sleep(0)
    assert not waits.done()

    go_on.set()
    await asyncio.gather(waits, *tasks)

    assert len(tree(home.root)) == 3
    await home.close()


# --------------------------------------------------------------------------------------------------------- cancellation


@pytest.mark.parametrize("durability", ["group", "each", "off"])
@pytest.mark.parametrize("how", HOW)
async def test_cancelled_at_every_await_a_file_is_whole_or_absent(
    tmp_path: Path, how: How, durability: Durability
) -> None:
    """CC03: what stays is always explained by the ledger, and others are never harmed."""
    home = await home_at(tmp_path / "out", durability=durability)
    ends = []

    async def job(at: int) -> str:
        neighbour = asyncio.create_task(home.bring(f"neighbour-{at}"))
        try:
            return "done" if await home.bring(f"k{at}") else ""
        finally:
            await wait_to_end(neighbour)

    async for stopped in cancel_at_every_await(job, how=how):
        ends.append("cancelled" if stopped.cancelled else stopped.result)
        assert set(tree(home.root).values()) <= {b"whole"}
        assert f"d/neighbour-{stopped.at}" in tree(home.root)
        known = await home.ledger.look_up([f"k{stopped.at}"])
        assert (f"d/k{stopped.at}" in tree(home.root)) == bool(known)
        assert partials(home.root) == []

    assert ends[-1] == "done"
    assert len(ends) >= 2
    await home.close()


@pytest.mark.parametrize("how", HOW)
async def test_a_cancelled_task_leaves_its_file_in_the_group_and_waits_for_its_end(tmp_path: Path, how: How) -> None:
    """CC03: all or nothing, as seen when the cancellation comes out; a second cancellation changes nothing."""
    go_on, flying = threading.Event(), threading.Event()

    def hold(call: Call) -> None:
        if call.verb == "rename" and call.name.endswith(".part"):
            flying.set()
            go_on.wait(10)

    home = await home_at(tmp_path / "out", RecordingDisk(before=hold))
    scopes: list[anyio.CancelScope] = []

    async def job() -> None:
        with anyio.CancelScope() as scope:
            scopes.append(scope)
            await home.bring("k")

    task = asyncio.create_task(job())
    assert await asyncio.to_thread(flying.wait, 10)
    for _ in range(2):
        task.cancel() if how == "native" else scopes[0].cancel()
        for _ in range(10):
            await asyncio.sleep(0)
    assert not task.done()
    go_on.set()
    await asyncio.wait([task])

    assert task.cancelled() == (how == "native")
    assert tree(home.root) == {"d/k": b"whole"}
    await home.close()


async def test_at_the_end_of_the_event_loop_nobody_is_left_waiting(tmp_path: Path) -> None:
    """The end of a loop cancels every task, the committer's own too: no hang, and nothing that was verified is lost."""
    go_on, flying = threading.Event(), threading.Event()

    def hold(call: Call) -> None:
        if call.verb == "sync" and call.name.endswith(".part"):
            flying.set()
            go_on.wait(10)

    home = await home_at(tmp_path / "out", RecordingDisk(before=hold))
    tasks = [asyncio.create_task(home.bring("k0"))]
    assert await asyncio.to_thread(flying.wait, 10)
    tasks += [asyncio.create_task(home.bring(f"k{number}")) for number in (1, 2)]
    for _ in range(5):
        await asyncio.sleep(0)
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
    go_on.set()
    await asyncio.wait(tasks)

    assert all(task.cancelled() for task in tasks)
    assert tree(home.root) == {}
    assert partials(home.root) == []
    await home.close()


async def test_closing_commits_what_waits_and_settles_the_ledger(tmp_path: Path) -> None:
    """Then every row says complete, no thread is left, and nothing more is taken."""
    home = await home_at(tmp_path / "out")
    tasks = [asyncio.create_task(home.bring(f"k{number}")) for number in range(5)]
    await asyncio.sleep(0)

    await home.committer.aclose()
    await home.committer.aclose()
    await asyncio.gather(*tasks)

    assert [entry.state for entry in await home.ledger.entries()] == ["complete"] * 5
    assert not [thread for thread in threading.enumerate() if "arena_async-commit" in thread.name]
    late = home.staged("late")
    with pytest.raises(ClosedError, match="d/late: the folder was closed"):
        await home.committer.commit(late, Entry(key="late"))
    assert partials(home.root) == []
    await home.close()


# ------------------------------------------------------------------------------------------------------------- crashes


async def run(root: Path, files: FileSystem | None = None) -> None:
    """Do a run: recover, and bring what is not known to be complete, replacing an older file."""
    home = await home_at(root, files)
    try:
        await home.committer.recover()
        home.storage.sweep(keep=[entry.partial for entry in await home.ledger.entries(states=["committing"])])
        for key, body in (("a", b"new a"), ("b", b"new b")):
            known = (await home.ledger.look_up([key])).get(key)
            state = home.storage.look(f"d/{key}")
            if known is None or state is None or (known.size, known.mtime_ns) != (state.size, state.mtime_ns):
                FETCHED.append(key)
                await home.bring(key, body)
    finally:
        await home.close()


FETCHED: list[str] = []


async def test_killed_before_every_step_the_next_run_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    """CR01, CR05, CR06: at the kill each name is the old file or the new one; the rerun is whole and fetches little."""
    died, fetched_again = 0, 0
    for at in range(1, 500):
        root = tmp_path / str(at)
        (root / "d").mkdir(parents=True)
        (root / "d/a").write_bytes(b"old a")
        disk = DyingDisk(at)
        FETCHED.clear()
        try:
            await run(root, disk)
        except (Killed, StorageError):
            assert disk.died
        disk.bury()
        done = {key for key in "ab" if (root / f"d/{key}").exists() and b"new" in (root / f"d/{key}").read_bytes()}
        assert tree(root).get("d/a") in (b"old a", b"new a")
        assert tree(root).get("d/b") in (None, b"new b")

        FETCHED.clear()
        await run(root)

        assert tree(root) == {"d/a": b"new a", "d/b": b"new b"}
        assert partials(root) == []
        assert not done & set(FETCHED)
        fetched_again += len(FETCHED)
        if not disk.died:
            break
        died += 1

    assert died > 15
    assert fetched_again < 2 * died


async def test_a_verified_file_is_not_fetched_again_after_a_kill_at_its_rename(tmp_path: Path) -> None:
    """CR05: the row and the partial file are enough."""
    home = await home_at(tmp_path / "out")
    staged = home.staged("k", path="a/b")
    state, _ = staged.finish()
    row = Entry(
        key="k", state="committing", path="a/b", size=state.size, mtime_ns=state.mtime_ns, partial=staged.name,
        sha256=hashlib.sha256(b"whole").hexdigest(),
    )  # fmt: skip
    await home.ledger.write([row, attrs.evolve(row, key="lost", path="a/lost", partial="lost.part")])
    in_use = await home.committer.recover()
    staged.release()

    again = await home.committer.recover()
    twice = await home.committer.recover()
    known = await home.ledger.look_up(["k", "lost"])
    await home.close()

    assert in_use == Recovered(in_use=1, forgotten=1, partials=frozenset({staged.name}))
    assert (again, twice) == (Recovered(renamed=1), Recovered())
    assert known == {"k": attrs.evolve(row, state="complete", partial="")}
    assert tree(home.root) == {"a/b": b"whole"}


async def test_a_name_that_was_given_before_the_kill_is_complete(tmp_path: Path) -> None:
    """CR05: between the rename and the next transaction."""
    home = await home_at(tmp_path / "out")
    await home.bring("k")
    assert [entry.state for entry in await home.ledger.entries()] == ["committing"]

    assert await home.committer.recover() == Recovered(complete=1)
    assert [entry.state for entry in await home.ledger.entries()] == ["complete"]
    await home.close()


async def test_a_download_without_memory_commits_just_so(tmp_path: Path) -> None:
    """The same engine with a ledger that remembers nothing."""
    storage = Storage(tmp_path / "out")
    storage.prepare()
    ledger: Ledger = await MemoryLedger.open()
    committer = Committer(storage, ledger)
    staged = storage.stage("k", "a")
    staged.write(b"x", 0)

    committed = await committer.commit(staged, Entry(key="k"))

    assert committed.entry.state == "complete"
    assert await committer.recover() == Recovered()
    await committer.aclose()
    await ledger.aclose()
    storage.close()
    assert tree(tmp_path / "out") == {"a": b"x"}
