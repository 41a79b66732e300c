"""How a load is run: everybody in each round, in any order, each in a process of its own."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import attrs

from benchmarks.comparing import Spread, ratios, ratios_to_fastest
from benchmarks.loads import Load
from benchmarks.measuring import Took, run
from benchmarks.origin import DECLARED, MARK, Origin, directory_name, file_name
from benchmarks.peers import ROOT, Errand, Peer, library
from benchmarks.proxy import farther
from benchmarks.service import serving

__all__ = ["OURS", "Lap", "Table", "race"]

#: Ours, by name: the contender, and the options it is given.
OURS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "mirror": ("mirror_urls", {}),
    "mirror-no-digest": ("mirror_urls", {"digest": None}),
    "mirror-not-durable": ("mirror_urls", {"durability": "off"}),
    "mirror-centrepoint": ("mirror_links", {}),
    "downloader": ("download_urls", {}),
}

#: Who is the yardstick, where it takes part.
YARDSTICK = "curl"

#: Output that is cut to nothing before it is put aside: what is larger would fill the disk and be written out beside
#: the next run.
_LARGE = 1_000_000


@attrs.frozen(kw_only=True)
class Lap:
    """
    One run of one contender.

    Args:
        load: The load.
        contender: Who ran.
        round: In which round.
        seconds: Wall time of the process.
        cpu_seconds: Its processor time.
        peak_memory: Its peak, in bytes.
        requests: What the web server answered meanwhile.
        files: How many files there were to bring.
        bytes: Bytes in all.
    """

    load: str
    contender: str
    round: int
    seconds: float
    cpu_seconds: float
    peak_memory: int
    requests: int
    files: int
    bytes: int


@attrs.frozen(kw_only=True)
class Table:
    """The laps of one load."""

    laps: tuple[Lap, ...]

    @property
    def contenders(self) -> list[str]:
        """Everybody, the fastest first."""
        names = dict.fromkeys(lap.contender for lap in self.laps)
        return sorted(names, key=lambda name: self.spread(name, "seconds").middle)

    @property
    def load(self) -> str:
        """The name of the load."""
        return self.laps[0].load

    @property
    def rounds(self) -> list[int]:
        """The numbers of the rounds."""
        return sorted({lap.round for lap in self.laps})

    @classmethod
    def of_whole_rounds(cls, laps: Sequence[Lap], *, everybody: AbstractSet[str] = frozenset()) -> Table:
        """
        Return the table of some laps without rounds that were cut short.

        Args:
            laps: The laps, of one load.
            everybody: Who ran in a whole round; else whoever ran at all, and then a single broken round is kept.
        """
        rounds: dict[int, set[str]] = {}
        for lap in laps:
            rounds.setdefault(lap.round, set()).add(lap.contender)
        wanted = everybody or set().union(*rounds.values())
        whole = {number for number, names in rounds.items() if names == wanted}
        whole = whole or (set() if everybody else set(rounds))
        return cls(laps=tuple(lap for lap in laps if lap.round in whole))

    def column(self, contender: str, field: str) -> list[float]:
        """Return a value of a contender for each round."""
        return [
            getattr(lap, field) for lap in sorted(self.laps, key=lambda lap: lap.round) if lap.contender == contender
        ]

    def spread(self, contender: str, field: str) -> Spread:
        """Return median and range of a value of a contender."""
        return Spread.of(self.column(contender, field))

    def against(self, contender: str, other: str, field: str = "seconds") -> Spread | None:
        """Return the ratios of a contender to another within each round, or None where one did not take part."""
        both = self.column(contender, field), self.column(other, field)
        return ratios(*both) if all(both) else None

    def against_fastest(self, contender: str) -> tuple[str, Spread] | None:
        """Return the fastest peer and the ratios to it, or None without peers."""
        peers = {name: self.column(name, "seconds") for name in self.contenders if name not in OURS}
        return ratios_to_fastest(self.column(contender, "seconds"), peers) if peers else None

    def show(self) -> Iterator[str]:
        """Write the lines of a table for a terminal."""
        yield (
            f"{'':<9}{'':<21}{'wall s':>8} {'range':>13} {'CPU s':>7} {'peak MB':>8} {'x curl':>20} {'CPU x curl':>10} "
            f"{'x loop':>7} {'requests/file':>13}"
        )
        for name in self.contenders:
            wall, lap = self.spread(name, "seconds"), self.laps[0]
            to_curl, to_loop = self.against(name, YARDSTICK), self.against(name, "loop")
            cpu = self.against(name, YARDSTICK, "cpu_seconds")
            yield (
                f"{lap.load:<9}{name:<21}{wall.middle:>8.2f} {f'{wall.minimum:.2f}-{wall.maximum:.2f}':>13} "
                f"{self.spread(name, 'cpu_seconds').middle:>7.2f} "
                f"{self.spread(name, 'peak_memory').maximum / 1e6:>8.0f} "
                f"{to_curl or '-'!s:>20} {f'{cpu.middle:.2f}' if cpu else '-':>10} "
                f"{f'{to_loop.middle:.2f}' if to_loop else '-':>7} "
                f"{self.spread(name, 'requests').middle / lap.files:>13.3f}"
            )


def race(
    load: Load,
    *,
    peers: Sequence[Peer],
    ours: Sequence[str],
    rounds: int,
    connections: int,
    origin: Origin,
    directory: Path,
    shuffle: random.Random,
    reported: Callable[[Lap], object],
    first: int = 0,
) -> Table:
    """
    Let every contender download a load once in each round.

    Args:
        load: What.
        peers: Who, beside us.
        ours: Which of :data:`OURS`.
        rounds: How often.
        connections: At the most, for each.
        origin: Where the files are.
        directory: An empty folder for the output. What is brought is put aside in it, not deleted: a file system that
            is just deleting thousands of files makes new ones slowly.
        shuffle: Decides the order.
        reported: Is told every lap.
        first: The number of the first round.

    Raises:
        SystemExit: Somebody failed, or brought other bytes than there are.
    """
    directory.mkdir(parents=True)
    wanted = _marks(origin.data / directory_name(load))
    contenders: list[Peer | str] = [*peers, *ours]
    laps = []
    with _reaching(origin, load) as base:
        for number in range(first, first + rounds):
            for one in shuffle.sample(contenders, len(contenders)):
                errand = _errand(load, origin, base, directory / _lap_name(number, one), connections)
                took, requests = _run_one(one, errand, load, origin)
                _look_after(wanted, errand.to, one)
                lap = Lap(
                    load=load.name,
                    contender=_name_of(one),
                    round=number,
                    seconds=took.seconds,
                    cpu_seconds=took.cpu_seconds,
                    peak_memory=took.peak_memory,
                    requests=requests,
                    files=load.files,
                    bytes=sum(size for _, _, size in wanted),
                )
                reported(lap)
                laps.append(lap)
    return Table(laps=tuple(laps))


def _name_of(one: Peer | str) -> str:
    return one if isinstance(one, str) else one.name


def _lap_name(number: int, one: Peer | str) -> str:
    """Return the name of the directory of a lap."""
    return f"{number}-{_name_of(one).replace(', ', '-').replace(' ', '-')}"


def _errand(load: Load, origin: Origin, base: str, directory: Path, connections: int) -> Errand:
    """Create the directories of a lap, and return what its contender has to do."""
    place, to = directory_name(load), directory / "to"
    to.mkdir(parents=True)
    return Errand(
        base=f"{base}/{place}",
        names=[file_name(load, number) for number in range(load.files)],
        to=to,
        executor=directory,
        connections=connections,
        authority=origin.authority if load.tls else None,
        large=load.size > _LARGE,
    )


@contextmanager
def _reaching(origin: Origin, load: Load) -> Iterator[str]:
    """Yield the address of the server, from as far away as the load is."""
    port = origin.tls if load.tls else origin.plain
    with ExitStack() as stack:
        if load.proxied:
            port = stack.enter_context(farther(port, rtt=load.rtt, cap=load.cap)).port
        yield f"{'https' if load.tls else 'http'}://127.0.0.1:{port}"


def _run_one(one: Peer | str, errand: Errand, load: Load, origin: Origin) -> tuple[Took, int]:
    """Run one contender, and count the requests the web server answers meanwhile."""
    # The libraries and rclone trust whom OpenSSL is told to trust.
    env = {"SSL_CERT_FILE": str(errand.authority)} if errand.authority else {}
    with ExitStack() as stack:
        if isinstance(one, Peer):
            command = one.command(errand)
        else:
            contender, options = OURS[one]
            facts: dict[str, Any] = {"options": options}
            if contender == "mirror_links":
                suffix = ".csv.gz" if load.gzip else ".bin"
                base = errand.base.replace(directory_name(load), f"{DECLARED[1:]}/{directory_name(load)}")
                content = {"base": base, "suffix": suffix}
                service = serving("centrepoint", files=load.files, rate_limit=None, content=content)
                facts |= stack.enter_context(service).facts
            command = library(contender, sys.executable)(attrs.evolve(errand, facts=facts))
        # What others left to be written is not for this one to wait for.
        os.sync()
        before = origin.requests()
        took = run(command, cwd=ROOT, env=env)
        return took, origin.requests() - before - 1


Marks = set[tuple[bytes, bytes, int]]


def _marks(directory: Path) -> Marks:
    """Return both ends and the size of every file below a folder, our own state apart."""
    found = set()
    for parent, folders, names in os.walk(directory):
        folders[:] = [name for name in folders if name != ".arena-async"]
        for name in names:
            path = Path(parent, name)
            with path.open("rb") as file:
                size = path.stat().st_size
                first = file.read(4 * MARK)
                file.seek(max(0, size - MARK))
                found.add((first, file.read(), size))
    return found


def _look_after(wanted: Marks, to: Path, one: Peer | str) -> None:
    """See that what was wanted is there and nothing else, and put it out of the way."""
    downloaded = _marks(to)
    if downloaded != wanted:
        name = one if isinstance(one, str) else one.name
        raise SystemExit(
            f"{name} brought {len(downloaded & wanted)} of {len(wanted)} files, and {len(downloaded - wanted)} others."
        )
    for path in to.rglob("*"):
        if path.is_file() and path.stat().st_size > _LARGE:
            os.truncate(path, 0)
    to.rename(to.with_name("parked"))
