"""What we take for things that nobody else does, or that are over before a race begins: one figure after the other."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import attrs

from benchmarks.loads import MB, Load
from benchmarks.measuring import run
from benchmarks.origin import directory_name, file_name, serving_files, write_gzip
from benchmarks.peers import ROOT
from benchmarks.proxy import farther
from benchmarks.service import serving

__all__ = ["COSTS", "Cost"]

#: Files that one transaction of the ledger tells of, at the most.
_GROUP = 64
#: Bytes a second while a download is cut: slow enough to stop it in the middle.
_SLOW = 100 * MB

_EMPTY = """
import cyclopts
app = cyclopts.App(name="empty")
@app.default
def nothing() -> None:
    "Do nothing."
app(["--help"])
"""

_LOADED = """
import sys
import arena_async
print(sum(name.partition(".")[0] in ("aiohttp", "cattrs") for name in sys.modules))
"""

_DIGESTS = """
import hashlib, sys, time, zlib
block, path = bytearray(1 << 20), sys.argv[1]
noise = memoryview(block)
began = time.process_time()
digest = hashlib.sha256()
for _ in range(512):
    digest.update(noise)
hashing = (time.process_time() - began) / (512 * len(block) / 1e9)
size, spent = 0, 0.0
with open(path, "rb") as file:
    member = zlib.decompressobj(wbits=31)
    while rest := file.read(1 << 20):
        size += len(rest)
        began = time.process_time()
        while rest:
            member.decompress(rest)
            rest = member.unused_data
            if member.eof:
                member = zlib.decompressobj(wbits=31)
        spent += time.process_time() - began
print(hashing, spent / (size / 1e9))
"""


@attrs.frozen(kw_only=True)
class Cost:
    """
    One figure.

    Args:
        benchmark: What it belongs to.
        what: What it is.
        value: The figure.
        unit: Its unit.
    """

    benchmark: str
    what: str
    value: float
    unit: str

    def __str__(self) -> str:
        return f"{self.benchmark:<12} {self.what:<64} {self.value:>12.3f} {self.unit}"


def _ours(contender: str, facts: Mapping[str, Any], directory: Path) -> list[str]:
    """Return the command of one of our contenders."""
    directory.mkdir(parents=True, exist_ok=True)
    arguments = json.dumps({"facts": facts, "folder": str(directory)})
    return [sys.executable, "-m", "benchmarks.contenders", contender, arguments]


def start_up(directory: Path, scale: float, rounds: int) -> Iterator[Cost]:
    """Take the time of an import, a help page and one small file, beside Python's own and an empty command line."""
    del scale
    load = Load(name="start-up", what="1 file", files=1, size=20_000)
    with serving_files(directory / "nginx", [load]) as origin:
        url = f"http://127.0.0.1:{origin.plain}/{directory_name(load)}/{file_name(load, 0)}"
        took = _start_up_times(directory, url, 1 + 3 * rounds)
    for name, values in took.items():
        yield Cost(benchmark="start-up", what=name, value=1000 * median(values), unit="ms")
    for ours, theirs, what in _START_UP_RATIOS:
        pairs = zip(took[ours], took[theirs], strict=True)
        yield Cost(benchmark="start-up", what=what, value=median(mine / other for mine, other in pairs), unit="x")
    loaded = run([sys.executable, "-c", _LOADED], cwd=directory).output
    yield Cost(
        benchmark="start-up",
        what="import arena_async: modules of aiohttp and cattrs",
        value=float(loaded),
        unit="modules",
    )


_START_UP_RATIOS = (
    (
        "arena-async --help",
        "an empty cyclopts program, --help",
        "arena-async --help against the empty program",
    ),
    (
        "arena-async get of one file",
        "import aiohttp",
        "arena-async get of one file against the import of aiohttp",
    ),
)


def _start_up_times(directory: Path, url: str, rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each command in each round but the first, which fills the caches."""
    empty = directory / "empty.py"
    empty.write_text(_EMPTY)
    program = Path(sys.executable).with_name("arena-async")
    get: list[str | Path] = [program, "get", url, "--allow-http", "--allow-private", "--quiet", "--to"]
    commands: dict[str, list[str | Path]] = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "import arena_async": [sys.executable, "-c", "import arena_async"],
        "import aiohttp": [sys.executable, "-c", "import aiohttp"],
        "an empty cyclopts program, --help": [sys.executable, empty],
        "arena-async --help": [program, "--help"],
        "arena-async get of one file": get,
    }
    took: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(rounds):
        for name, command in commands.items():
            # Each time into a new directory, so that there is a file to download.
            to = [directory / f"{number}"] if command is get else []
            seconds = run([*command, *to], cwd=directory).seconds
            if number:
                took[name].append(seconds)
    return took


def resume(directory: Path, scale: float, rounds: int) -> Iterator[Cost]:
    """Kill a download at its half, and take what it costs to go on."""
    load = Load(name="resume", what="1 file", files=1, size=max(4 * MB, round(400 * MB * scale)))
    with serving_files(directory / "nginx", [load]) as origin:
        again, seconds, whole = [], [], []
        for number in range(rounds):
            with farther(origin.plain, cap=_SLOW, stall=load.size // 2) as proxy:
                executor = directory / f"{number}"
                executor.mkdir()
                urls = executor / "urls.txt"
                urls.write_text(f"http://127.0.0.1:{proxy.port}/{directory_name(load)}/{file_name(load, 0)}\n")
                facts = {"list": str(urls), "connections": 8}
                command = _ours("mirror_urls", facts, executor / "to")
                with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as child:
                    proxy.wait_for_silence()
                    # What has come is about to be written; the rest of this second nothing more comes.
                    time.sleep(1.0)
                    child.kill()
                took = run(command, cwd=ROOT)
                again.append(json.loads(took.output)["bytes"] - (load.size - load.size // 2))
                seconds.append(took.seconds)
                whole.append(run(_ours("mirror_urls", facts, executor / "whole"), cwd=ROOT).seconds)
    half = f"1 file of {load.size // MB} MB killed at its half (100 MB/s a connection)"
    yield Cost(benchmark="resume", what=f"{half}: fetched twice", value=median(again) / MB, unit="MB")
    yield Cost(benchmark="resume", what="to go on, start of Python included", value=median(seconds), unit="s")
    yield Cost(benchmark="resume", what="the whole file undisturbed", value=median(whole), unit="s")


def ledger(directory: Path, scale: float, rounds: int) -> Iterator[Cost]:
    """Take what remembering takes."""
    facts = {"files": max(_GROUP, round(100_000 * scale)), "group": _GROUP}
    runs = [json.loads(run(_ours("ledger_rows", facts, directory / f"{n}"), cwd=ROOT).output) for n in range(rounds)]
    for what, field in (("to write down, 64 in a transaction", "write"), ("to look up, in pages", "look_up")):
        value = median(done[field] for done in runs)
        yield Cost(benchmark="ledger", what=f"{facts['files']} files {what}", value=value, unit="s")


def digests(directory: Path, scale: float, rounds: int) -> Iterator[Cost]:
    """Take what hashing and inflating take without anything else, as processor time."""
    directory.mkdir()
    path = directory / "some.gz"
    write_gzip(path, b"some", max(MB, round(100 * MB * scale)))
    runs = [run([sys.executable, "-c", _DIGESTS, path], cwd=directory).output.split() for _ in range(rounds)]
    hashing, inflating = (median(float(said[column]) for said in runs) for column in (0, 1))
    yield Cost(benchmark="digests", what="1 GB through SHA-256", value=hashing, unit="s")
    yield Cost(benchmark="digests", what="1 GB of gzip inflated by zlib alone", value=inflating, unit="s")


def million(directory: Path, scale: float, rounds: int) -> Iterator[Cost]:
    """Take the memory of a plan, a sync and a prune, each in a process of its own, where nearly everything is here."""
    del rounds
    files = max(1000, round(1_000_000 * scale))
    settings = {"files": files, "file_size": 200, "rate_limit": None, "programs": 10, "data_sets": 100}
    with serving("centrepoint", **settings) as service:
        facts = {**service.facts, "every": 1000, "files": files}
        run(_ours("seed_mirror", facts, directory / "to"), cwd=ROOT, limit=1800)
        size = sum(path.stat().st_size for path in (directory / "to").rglob("ledger.sqlite*"))
        yield Cost(benchmark="million", what=f"{files} listed files: size of the ledger", value=size / MB, unit="MB")
        yield from _of_long_listing(directory / "to", facts, files)


def _of_long_listing(directory: Path, facts: Mapping[str, Any], files: int) -> Iterator[Cost]:
    """Take the figures of a plan, a sync and a prune, each for as many files that are new, new, gone."""
    few = files // 1000
    expected = {"plan": {"FETCH": few}, "sync": {"FETCH": few}, "prune": {"PRUNE": few}}
    for verb, counts in expected.items():
        took = run(_ours("mirror_million", {**facts, "verb": verb}, directory), cwd=ROOT, limit=1800)
        done = json.loads(took.output)["counts"]
        assert {name: done.get(name) for name in counts} == counts, (verb, done)
        what = f"{files} listed files, {few} of them {'gone' if verb == 'prune' else 'new'}"
        yield Cost(benchmark="million", what=f"{what}: peak memory of a {verb}", value=took.peak_memory / MB, unit="MB")
        yield Cost(benchmark="million", what=f"{what}: to {verb}", value=took.seconds, unit="s")


#: By name: what takes the figures, given an empty folder, a scale and a number of rounds.
COSTS: Mapping[str, Callable[[Path, float, int], Iterator[Cost]]] = {
    "start-up": start_up,
    "resume": resume,
    "ledger": ledger,
    "digests": digests,
    "million": million,
}
