"""
What a disk may hold after the power failed: a recorder, and an enumerator of legal disks.

The recorder is the port to the file system; it does everything for real and writes down what was changed. The model
behind it is as unkind as the rules of POSIX allow:

* What was written to a file is on the disk after an fsync of the file. Before that, each write, cut or reservation may
  be there or not, in any order; the last one may be torn; the length may be there without the bytes (zeros).
* A name is on the disk after an fsync of its folder, whatever was done to the file. Before that, each new name, lost
  name and replaced name may be there or not; a rename is two of them, which may part company.
* A transaction of the ledger is there when it was committed (SQLite with ``synchronous = FULL`` promises that), and the
  ledger is there when its folder is.

::

    disk = TracingDisk(root)
    with disk.watching_ledger(monkeypatch): ...          # a run that works on `disk`
    for crash in disk.crashes(random.Random(1)):
        crash.put(elsewhere)                             # a folder as it may be found afterwards
"""

from __future__ import annotations

import itertools
import os
import random
import threading
from collections.abc import Callable, Hashable, Iterable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from disks import Call, RecordingDisk

from arena_async.transfer import ledger_schema

__all__ = ["Crash", "TracingDisk"]

#: What a change to a file does to its bytes.
Change = Callable[[bytes], bytes]
_LEDGER = ".arena-async/ledger.sqlite"


@attrs.define(eq=False)
class _File:
    """A file: what is certainly on the disk, and what was changed since, in order."""

    durable: bytes = b""
    pending: list[Change] = attrs.field(factory=list)
    torn: Change | None = None
    mtime_ns: int = 0
    _versions: list[bytes] = attrs.field(factory=list)

    def now(self) -> bytes:
        """Return what a process sees."""
        return _applied(self.durable, self.pending)

    def change(self, change: Change, *, torn: Change | None = None) -> None:
        """Change it, for now."""
        self.pending.append(change)
        self.torn = torn
        self._versions.clear()

    def sync(self, mtime_ns: int) -> None:
        """Make everything certain."""
        self.durable, self.pending, self.torn, self.mtime_ns = self.now(), [], None, mtime_ns
        self._versions.clear()

    def versions(self) -> list[bytes]:
        """Return what may be found after a power loss: first the least, then the most, then everything between."""
        if not self._versions:
            every, count = self.now(), len(self.pending)
            kept = [
                *(self.pending[:end] for end in range(1, count)),
                *(self.pending[:lost] + self.pending[lost + 1 :] for lost in range(count - 1)),
                *([] if self.torn is None else [[*self.pending[:-1], self.torn]]),
            ]
            found = [self.durable, every, *(_applied(self.durable, changes) for changes in kept)]
            if len(every) > len(self.durable):
                found.append(self.durable + bytes(len(every) - len(self.durable)))
            self._versions = list(dict.fromkeys(found))
        return list(self._versions)


@attrs.define(eq=False)
class _Directory:
    """A folder: the names that are certainly on the disk, and what was changed since, in order."""

    durable: dict[str, _Node] = attrs.field(factory=dict)
    pending: list[tuple[str, _Node | None]] = attrs.field(factory=list)

    def now(self) -> dict[str, _Node]:
        """Return what a process sees."""
        return _named(self.durable, self.pending)

    def versions(self) -> list[dict[str, _Node]]:
        """Return what may be found after a power loss: first the least, then the most, then everything between."""
        count = len(self.pending)
        if count <= 4:
            kept: Iterable[tuple[int, ...]] = itertools.chain.from_iterable(
                itertools.combinations(range(count), size) for size in range(count + 1)
            )
        else:
            kept = [
                *(tuple(range(end)) for end in range(count + 1)),
                *(tuple(index for index in range(count) if index != lost) for lost in range(count)),
                *((only,) for only in range(count)),
            ]
        found = [_named(self.durable, [self.pending[index] for index in indexes]) for indexes in kept]
        return [self.durable, self.now(), *found]


_Node = _File | _Directory


def _applied(content: bytes, changes: Iterable[Change]) -> bytes:
    for change in changes:
        content = change(content)
    return content


def _named(names: dict[str, _Node], changes: Iterable[tuple[str, _Node | None]]) -> dict[str, _Node]:
    names = dict(names)
    for name, node in changes:
        if node is None:
            names.pop(name, None)
        else:
            names[name] = node
    return names


def _write(offset: int, data: bytes) -> Change:
    return lambda content: content[:offset].ljust(offset, b"\0") + data + content[offset + len(data) :]


def _cut(size: int) -> Change:
    return lambda content: content[:size].ljust(size, b"\0")


def _reserve(size: int) -> Change:
    return lambda content: content.ljust(size, b"\0")


@attrs.frozen(kw_only=True)
class Crash:
    """
    One disk as it may be found after a power loss.

    Args:
        after: What was done last.
        files: The content by path, below what was recorded.
        links: Further names of the same files: a rename of which one half is there.
        times: When each was written last, as it will be found.
        folders: The folders.
        extreme: Whether everything is there that may be, or nothing that need not be.
        promised: Paths that were reported to survive a power loss.
    """

    after: str
    files: dict[str, bytes]
    links: dict[str, str]
    times: dict[str, int]
    folders: tuple[str, ...]
    promised: frozenset[str]
    extreme: bool

    @property
    def signature(self) -> Hashable:
        """The same for disks on which the same is found, with the same promises."""
        links = frozenset(self.links.items())
        return frozenset(self.files.items()), links, frozenset(self.folders), self.promised

    def put(self, place: Path) -> None:
        """Make a folder as it would be found."""
        place.mkdir(parents=True)
        for directory in sorted(self.folders):
            (place / directory).mkdir(parents=True, exist_ok=True)
        for path, content in self.files.items():
            target = place / path
            target.write_bytes(content)
            if self.times.get(path):
                os.utime(target, ns=(self.times[path], self.times[path]))
        for path, other in self.links.items():
            (place / path).hardlink_to(place / other)


@attrs.frozen(kw_only=True)
class _Moment:
    """Everything that may be found if the power fails right now."""

    after: str
    versions: dict[int, list[Any]]
    nodes: dict[int, _Node]
    times: dict[int, int]
    ledger: tuple[tuple[str, bytes], ...]
    promised: frozenset[str]


class TracingDisk(RecordingDisk):
    """
    The real file system, with a model of what of it is certain.

    Args:
        above: The folder above everything that is looked at; what is in it now is certainly on the disk.
    """

    def __init__(self, above: Path) -> None:
        super().__init__()
        self._above = above
        self._top = _Directory()
        self._opened: dict[int, _Node] = {}
        self._ledger: dict[str, tuple[tuple[str, bytes], ...]] = {}
        self._promised: set[str] = set()
        self._lock = threading.RLock()
        self._moments: list[_Moment] = []
        self._scan(above, self._top)

    def _scan(self, place: Path, directory: _Directory) -> None:
        for path in place.iterdir():
            if path.is_dir():
                directory.durable[path.name] = inner = _Directory()
                self._scan(path, inner)
            elif not path.name.startswith("ledger.sqlite"):
                directory.durable[path.name] = _File(path.read_bytes(), mtime_ns=path.stat().st_mtime_ns)
            elif not path.name.endswith("-shm"):
                key = path.parent.relative_to(self._above).as_posix()
                self._ledger[key] = (*self._ledger.get(key, ()), (path.name, path.read_bytes()))

    # What is done, and what it changes

    def perform(self, call: Call, real: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Do it and write down what it changed."""
        with self._lock:
            result = real(*args, **kwargs)
            note = getattr(self, f"_note_{call.verb}", None)
            if note is not None:
                note(result, *args)
                self._look(str(call))
            return result

    def _look(self, after: str) -> None:
        """Write down what may be found from here on, unless nothing of it is new."""
        nodes = {id(node): node for node in self._walk(self._top)}
        versions = {number: node.versions() for number, node in nodes.items()}
        times = {number: node.mtime_ns for number, node in nodes.items() if isinstance(node, _File)}
        self._moments.append(
            _Moment(
                after=after,
                versions=versions,
                nodes=nodes,
                times=times,
                ledger=tuple((f"{key}/{name}", text) for key, files in self._ledger.items() for name, text in files),
                promised=frozenset(self._promised),
            )
        )

    def _walk(self, directory: _Directory) -> Iterator[_Node]:
        """Yield everything that may be found in a folder, itself included."""
        yield directory
        inside = [*directory.durable.values(), *(node for _, node in directory.pending if node is not None)]
        for node in {id(node): node for node in inside}.values():
            if isinstance(node, _Directory):
                yield from self._walk(node)
            else:
                yield node

    def _note_make_root(self, _: None, path: str) -> None:
        directory = self._top
        for name in Path(path).relative_to(self._above).parts:
            inner = directory.now().get(name)
            if inner is None:
                inner = _Directory()
                directory.pending.append((name, inner))
            assert isinstance(inner, _Directory)
            directory = inner

    def _note_open_root(self, opened: int, path: str) -> None:
        node: _Node = self._top
        for name in Path(path).relative_to(self._above).parts:
            assert isinstance(node, _Directory)
            node = node.now()[name]
        self._opened[opened] = node

    def _directory(self, opened: int) -> _Directory:
        node = self._opened[opened]
        assert isinstance(node, _Directory)
        return node

    def _file(self, opened: int) -> _File:
        node = self._opened[opened]
        assert isinstance(node, _File)
        return node

    def _note_open_directory(self, opened: int, parent: int, name: str) -> None:
        self._opened[opened] = self._directory(parent) if name == "." else self._directory(parent).now()[name]

    def _note_make_directory(self, _: None, parent: int, name: str, mode: int) -> None:
        self._directory(parent).pending.append((name, _Directory()))

    def _note_remove_directory(self, _: None, parent: int, name: str) -> None:
        self._directory(parent).pending.append((name, None))

    def _note_create(self, opened: int, directory: int, name: str, mode: int) -> None:
        made = _File()
        self._directory(directory).pending.append((name, made))
        self._opened[opened] = made

    def _note_open_file(self, opened: int, directory: int, name: str, **_: Any) -> None:
        self._opened[opened] = self._directory(directory).now()[name]

    def _note_write(self, taken: int, opened: int, data: memoryview | bytes, offset: int) -> None:
        written = bytes(data[:taken])
        self._file(opened).change(_write(offset, written), torn=_write(offset, written[: taken // 2]))

    def _note_truncate(self, _: None, opened: int, size: int) -> None:
        self._file(opened).change(_cut(size))

    def _note_allocate(self, _: None, opened: int, size: int) -> None:
        self._file(opened).change(_reserve(size))

    def _note_sync(self, _: None, opened: int) -> None:
        self._file(opened).sync(os.fstat(opened).st_mtime_ns)

    _note_sync_data = _note_sync

    def _note_sync_directory(self, _: None, opened: int) -> None:
        directory = self._directory(opened)
        directory.durable, directory.pending = directory.now(), []

    def _note_rename(self, _: None, directory: int, name: str, to: int, new: str) -> None:
        node = self._directory(directory).now()[name]
        self._directory(to).pending.append((new, node))
        self._directory(directory).pending.append((name, None))

    def _note_unlink(self, _: None, directory: int, name: str) -> None:
        self._directory(directory).pending.append((name, None))

    def watch_ledger(self, patch: pytest.MonkeyPatch, root: Path) -> None:
        """Write down the ledger below a root after each transaction, as SQLite has forced it to the disk."""
        execute = ledger_schema.LedgerConnection.execute
        key = f"{root.relative_to(self._above).as_posix()}/.arena-async"

        def note(connection: ledger_schema.LedgerConnection, statement: str, *values: Any) -> Any:
            result = execute(connection, statement, *values)
            if statement == "COMMIT":
                with self._lock:
                    files = [root / f"{_LEDGER}{end}" for end in ("", "-wal")]
                    self._ledger[key] = tuple((path.name, path.read_bytes()) for path in files if path.exists())
                    self._look("COMMIT")
            return result

        patch.setattr(ledger_schema.LedgerConnection, "execute", note)

    def promise(self, path: Path) -> None:
        """Note that a file was reported to survive a power loss."""
        with self._lock:
            self._promised.add(path.relative_to(self._above).as_posix())
            self._look(f"settled {path.name}")

    # What may be found

    def crashes(self, chance: random.Random, *, guesses: int = 6) -> Iterator[Crash]:
        """
        Yield each disk once that may be found, whenever the power fails.

        For every moment: the least of everything, the most of everything, each version of each file and folder with
        the least and with the most of all others, and some guesses.
        """
        seen: set[Hashable] = set()
        for timestamp in self._moments:
            for number, choice in enumerate(_choices(timestamp, chance, guesses)):
                crash = self._crash(timestamp, choice, extreme=number < 2)
                if crash.signature not in seen:
                    seen.add(crash.signature)
                    yield crash

    def _crash(self, timestamp: _Moment, choice: dict[int, int], *, extreme: bool) -> Crash:
        files: dict[str, bytes] = {}
        links: dict[str, str] = {}
        names: dict[int, str] = {}
        times: dict[str, int] = {}
        folders: list[str] = []

        def put(number: int, path: str) -> None:
            version = timestamp.versions[number][choice[number]]
            if isinstance(timestamp.nodes[number], _File):
                if names.setdefault(number, path) != path:
                    links[path] = names[number]
                    return
                files[path] = version
                times[path] = timestamp.times[number] + (choice[number] > 0) * 1_000_000
                return
            folders.append(path)
            for name, node in version.items():
                put(id(node), f"{path}/{name}" if path else name)

        put(id(self._top), "")
        files.update((path, text) for path, text in timestamp.ledger if path.rpartition("/")[0] in folders)
        return Crash(
            after=timestamp.after,
            files=files,
            links=links,
            times=times,
            folders=tuple(filter(None, folders)),
            promised=timestamp.promised,
            extreme=extreme,
        )


def _choices(timestamp: _Moment, chance: random.Random, guesses: int) -> Iterator[dict[int, int]]:
    """Yield which version of each file and directory is found."""
    counts = {number: len(versions) for number, versions in timestamp.versions.items()}
    minimum = dict.fromkeys(counts, 0)
    maximum = {number: min(1, count - 1) for number, count in counts.items()}
    yield minimum
    yield maximum
    for number, count in counts.items():
        for version in range(
            count if count > 2 or timestamp.versions[number][0] != timestamp.versions[number][-1] else 0
        ):
            yield {**minimum, number: version}
            yield {**maximum, number: version}
    for _ in range(guesses):
        yield {number: chance.randrange(count) for number, count in counts.items()}
