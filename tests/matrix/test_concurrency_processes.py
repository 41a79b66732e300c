"""Rows CC04, CC09, CC10, CC19 and CC36 to CC38: signals, many processes on one folder, dead ones, forgetful ends."""

from __future__ import annotations

import asyncio
import fcntl
import json
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from command_line import environment, start
from filesets import SocketFiles, content
from matrix import SECRETS, World, row
from offered_files import SUPPORT, bodies_at_home, finish, offer, partials, requested, state
from offered_files import start as start_sync
from scripted import RawServer, Seen
from session_files import ranged
from sync_child import fileset

from arena_async import Mirror, Report
from arena_async.cli import running
from arena_async.options import MIB, Clock
from arena_async.testing import ArenaSimulator, faults

pytestmark = pytest.mark.process

BODY = content(1_000_000, "a")
PASSWORD = SECRETS["password"]


async def until(true: Callable[[], object]) -> None:
    """Look again until it is so; a minute at the most, for a busy machine."""
    async with asyncio.timeout(60):
        while not true():
            await asyncio.sleep(0.01)


async def start_command(*arguments: str, env: dict[str, str]) -> Any:
    """Start the command line so that protections can be taken from it."""
    return await start(*arguments, env=env, command=[str(SUPPORT / "command_child.py")])


@pytest.fixture
async def started() -> AsyncIterator[list[Any]]:
    """Hold the processes of a row, and end those that it has left."""
    processes: list[Any] = []
    yield processes
    for process in processes:
        if process.returncode is None:
            process.kill()
        await process.communicate()


Started = list[Any]


@row("CC04", protection="a signal cancels the command and lets it close what is open")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_a_signal_in_the_middle_of_a_batch_ends_quietly_and_costs_nothing(
    world: World, started: Started, number: signal.Signals
) -> None:
    """CC04: out in 2 seconds with 130, one file on its way and the others whole; the next run asks for its rest."""
    world.memory = 100 * MIB  # The simulator makes its content here.
    async with ArenaSimulator(files=4, size=_size, etag="strong", ranges=True, password=PASSWORD) as arena:
        offered = await asyncio.to_thread(lambda: {path: maker.read() for path, maker in arena.files.items()})
        offered = {path: body for path, body in offered.items() if path.startswith("arena/extracts/")}
        finals = [world.allow(path, body) for path, body in offered.items()]
        large = max(offered, key=lambda path: len(offered[path]))
        arena.inject(faults.stall(after_bytes=10_000_000), on=f"GET */{PurePosixPath(large).stem}/content")
        env = environment(arena, PYTHONPATH=str(SUPPORT))
        words = ("sync", "arena", "extracts", arena.extract, "--to", str(world.root))

        child = await start_command(*words, env=env)
        started.append(child)
        await until(lambda: sum(path.exists() for path in finals) == 3 and partials(world, "*.json"))
        began = time.monotonic()
        child.send_signal(number)
        out, err = await child.communicate()
        took = time.monotonic() - began
        left = [path.suffix for path in partials(world)]
        again = await start_command(*words, env=env)
        _, complaints = await again.communicate()
        contents = arena.seen("GET */content")

    world.saw(out.decode(), err.decode(), complaints.decode())
    # What a busy machine adds to that is not ours; the service is silent for good.
    assert running._GRACE_SECONDS < 2
    assert took < 20
    assert child.returncode == 130
    assert out == b""
    reported = [line for line in err.decode().splitlines() if not line.startswith("fetched  ")]
    assert reported[0] == "Stopped: 3 files done, 1 continues. Run it again to continue:"
    assert "Traceback" not in err.decode()
    assert len(reported) <= 2, "there is the hint and the command line to go on with, and nothing else"
    assert left == [".json", ".part"]
    assert again.returncode == 0
    assert len(contents) == 5
    assert int(contents[-1].headers["Range"][6:-1]) >= 8 * MIB
    assert bodies_at_home(world) == offered


def _size(number: int) -> int:
    """Return one file that is recorded on its way, and three small ones."""
    return 20_000 if number else 12_000_000


@row("CC09", protection="no process shows another what is half written")
async def test_six_processes_bring_one_folder_home_and_nobody_sees_half_a_file(world: World, started: Started) -> None:
    """CC09: a seventh hashes the final names all the time; each file comes once; all end well."""
    bodies = {f"f{number:02}": content(20_000 + 9_000 * number, str(number)) for number in range(20)}
    wanted = {str(world.root / "files" / f"{name}.bin"): sha256(body).hexdigest() for name, body in bodies.items()}
    async with RawServer() as server:
        offer(world, server, bodies)
        looking = await asyncio.create_subprocess_exec(
            sys.executable,
            str(SUPPORT / "watching_child.py"),
            json.dumps(wanted),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        started.append(looking)
        assert looking.stdout is not None
        assert await looking.stdout.readline() == b"looking\n"
        files = {name: len(body) for name, body in bodies.items()}
        children = [await start_sync(world, base_url=server.base_url, files=files) for _ in range(6)]
        started.extend(children)
        ends = await asyncio.gather(*(finish(world, child) for child in children))
        seen = json.loads((await looking.communicate(b"."))[0])
        transfers = Counter(request.path for request in server.requests)

    assert seen["wrong"] == []
    assert seen["looks"] >= 20
    assert seen["whole"] == 20
    assert [(end.code, end.complaints) for end in ends] == [(0, "")] * 6
    assert [end.report["failures"] for end in ends] == [0] * 6
    assert set(transfers.values()) == {1}
    assert bodies_at_home(world) == {f"files/{name}.bin": body for name, body in bodies.items()}


@row("CC10", protection="a lock ends with its owner")
async def test_what_a_dead_process_had_locked_is_gone_on_with_at_once(world: World, started: Started) -> None:
    """CC10: the owner of a partial file is killed; the next run takes it over without a wait or a helping hand."""
    async with RawServer() as server:
        offer(world, server, {"a": BODY})
        server.on("GET", "/a", ranged(BODY, cut=700_000, stall=True), ranged(BODY))
        settings: dict[str, Any] = {"base_url": server.base_url, "files": {"a": len(BODY)}}

        owner = await start_sync(world, **settings)
        started.append(owner)
        await until(lambda: partials(world, "*.json"))
        (partial,) = partials(world, "*.part")
        free_before = _is_free(partial)
        owner.send_signal(signal.SIGKILL)
        killed = await finish(world, owner)
        # Nothing names the process, so that another one of the same number changes nothing.
        assert str(owner.pid) not in (state(world) / "lock").read_text()

        again = await finish(world, await start_sync(world, **settings))

    assert killed.code == -signal.SIGKILL
    assert not free_before
    assert (again.code, again.complaints) == (0, "")
    assert again.report["counts"] == {"resume": 1}
    first, second = requested(server, "a")
    assert first is None
    assert int((second or "bytes=0-")[6:-1]) >= 65_536
    assert bodies_at_home(world) == {"files/a.bin": BODY}


def _recorded(world: World) -> list[int]:
    """Return how far partial files are recorded."""
    return [json.loads(path.read_bytes())["offset"] for path in partials(world, "*.json")]


async def _killed_in_the_middle(world: World, owner: Any) -> None:
    """Kill a process that has recorded what came of its file, but for the last piece, which waits for its rest."""
    await until(lambda: _recorded(world) == [10 * 65_536])
    owner.send_signal(signal.SIGKILL)
    assert (await finish(world, owner)).code == -signal.SIGKILL


def _impatient(world: World, naps: list[float]) -> Mirror:
    """Return a mirror whose waits take no time, and are written down."""

    async def sleep(seconds: float) -> None:
        naps.append(seconds)
        await asyncio.sleep(0.001)

    return Mirror(world.root, observer=world.observe, clock=Clock(sleep=sleep))


def _set_of(server: RawServer, *, scope: str = "test/sockets") -> SocketFiles:
    files = fileset({"a": len(BODY)}, server.base_url)
    assert isinstance(files, SocketFiles)
    files.scope = scope
    return files


@row("CC36", protection="a run looks for what those left that it has waited for")
@pytest.mark.parametrize("scope", ["test/sockets", "another query"])
async def test_a_run_goes_on_with_what_the_run_it_waited_for_left(world: World, started: Started, scope: str) -> None:
    """CC36: it had the directory open before the other one began with the file, and fetches only what is missing."""
    begun, go = asyncio.Event(), asyncio.Event()
    naps: list[float] = []

    async def first(seen: Seen) -> Any:
        begun.set()
        await go.wait()
        return ranged(BODY, cut=700_000, stall=True)(seen)

    async with RawServer() as server, _impatient(world, naps) as mirror:
        offer(world, server, {"a": BODY})
        server.on("GET", "/a", first, ranged(BODY))
        owner = await start_sync(world, base_url=server.base_url, files={"a": len(BODY)})
        started.append(owner)
        await begun.wait()
        waiting = asyncio.create_task(mirror.sync(_set_of(server, scope=scope)))
        await until(lambda: naps)
        go.set()
        await _killed_in_the_middle(world, owner)
        report = await waiting

    world.saw(report)
    assert report.failures == ()
    whole, rest = requested(server, "a")
    assert whole is None
    assert rest == "bytes=655360-"
    assert bodies_at_home(world) == {"files/a.bin": BODY}


async def _beside(world: World, started: Started, server: RawServer, mirror: Mirror, body: bytes) -> Report:
    """Sync a file while a downloader in another process is in the middle of it, which is killed after that."""
    offer(world, server, {"a": BODY})
    server.on("GET", "/a", ranged(body, cut=700_000, stall=True, etag='"theirs"'), ranged(BODY))
    owner = await start_sync(world, base_url=server.base_url, files={"a": len(BODY)}, forgets=True)
    started.append(owner)
    await until(lambda: _recorded(world) == [10 * 65_536])
    report = await mirror.sync(_set_of(server))
    await _killed_in_the_middle(world, owner)
    return report


@row("CC37", protection="what is left of a file that is complete goes")
@pytest.mark.parametrize("anew", [True, False], ids=["a new mirror", "the same mirror"])
async def test_a_killed_process_leaves_nothing_of_a_file_that_another_one_completed(
    world: World, started: Started, anew: bool
) -> None:
    """CC37: its partial file goes with the next run that keeps the file, and costs no request."""
    async with RawServer() as server, _impatient(world, []) as mirror:
        await _beside(world, started, server, mirror, BODY)
        left = len(partials(world, "*.part"))
        async with _impatient(world, []) as other:
            report = await (other if anew else mirror).sync(_set_of(server))

    world.saw(report)
    assert left == 1
    assert report.failures == ()
    assert requested(server, "a") == [None, None]
    assert bodies_at_home(world) == {"files/a.bin": BODY}
    assert partials(world) == []


@row("CC38", protection="what is left of another content stays")
async def test_what_a_killed_process_left_of_another_content_stays(world: World, started: Started) -> None:
    """CC38: it may be of a version that is newer than the listing: a later run goes on with it."""
    world.keeps_partials = True
    async with RawServer() as server, _impatient(world, []) as mirror:
        await _beside(world, started, server, mirror, content(len(BODY), "newer"))
        before = partials(world)
        report = await mirror.sync(_set_of(server))

    world.saw(report)
    assert [path.suffix for path in before] == [".json", ".part"]
    assert partials(world) == before
    assert bodies_at_home(world) == {"files/a.bin": BODY}


def _is_free(path: Path) -> bool:
    """Return whether nobody has a file locked."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


@row("CC19", protection="a missing close is warned about once")
@pytest.mark.parametrize(
    ("kind", "reported"),
    [
        ("client", ["client"]),
        ("downloader", ["Downloader"]),
        ("mirror", ["Mirror"]),
        ("under way", ["Mirror", "client"]),
    ],
)
async def test_what_was_never_closed_is_one_warning_at_the_end(
    world: World, started: Started, kind: str, reported: list[str]
) -> None:
    """CC19: the interpreter ends with open clients and folders, in debug mode: one line each, and nothing else."""
    world.keeps_partials = kind == "under way"
    async with ArenaSimulator(files=3, size=3_000_000, password=PASSWORD) as arena:
        if kind == "under way":
            arena.inject(faults.stall(after_bytes=2_000_000), on="GET */content", times=3)
        settings = {"kind": kind, "to": str(world.root), "extract": arena.extract}
        env = environment(arena, PYTHONPATH=str(SUPPORT), PYTHONASYNCIODEBUG="1", PYTHONWARNINGS="always")
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-X",
            "dev",
            str(SUPPORT / "unclosed_child.py"),
            json.dumps(settings),
            env={name: value for name, value in env.items() if name != "PYTHONDEVMODE"},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        started.append(child)
        async with asyncio.timeout(100):
            out, err = await child.communicate()

    world.saw(out.decode(), err.decode())
    assert (child.returncode, out) == (0, b"over\n")
    lines = [line.partition("ResourceWarning: ")[2] for line in err.decode().splitlines() if "Warning: This" in line]
    assert sorted(lines) == [f"This {what} was never closed; use it with `async with`." for what in reported]
    assert "Traceback" not in err.decode()
    assert err.count(b"Warning") - err.count(b"ResourceWarning: Enable tracemalloc") == len(reported), err.decode()
