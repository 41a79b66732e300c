"""
The door: ``python -m benchmarks [name ...] [--rounds N] [--scale X] [--peers NAMES] [--json] [--write] ...``.

``--json`` prints one object a line; ``--write --from FILE`` makes the page of the documentation of such lines, so that
a long comparison can be measured in parts. ``--goals`` measures only what the goals need, and judges them; with
``--lines FILE`` it adds to what is in a file, so that it can be stopped at any time and taken up again.
"""

from __future__ import annotations

import argparse
import compileall
import json
import random
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

from benchmarks import goals, report
from benchmarks.contenders import ARENA_PAGE, WORKERS
from benchmarks.costs import COSTS, Cost
from benchmarks.loads import LOADS, Load
from benchmarks.origin import Origin, find_nginx, serving_files
from benchmarks.peers import PEERS, ROOT, Peer, find, install, versions
from benchmarks.racing import OURS, Lap, Table, race
from benchmarks.runner import Benchmark, Bound, Measured, Row, measure

MB = 1_000_000


def requests(run: Measured) -> float:
    """Count what was asked for, logins and logouts apart."""
    return run.seen.get("GET", 0)


BENCHMARKS = (
    Benchmark(
        name="small_files",
        what="10,000 dataset files of 20 KB into an empty folder",
        service="centrepoint",
        settings=lambda scale: {"files": int(10_000 * scale), "file_size": 20_000, "rate_limit": None},
        ours="mirror_datasets",
        peer="loop_datasets",
        unit="files",
        bounds=lambda scale: (
            Bound(name="peak memory in MB", value=lambda run: run.facts["peak_memory"] / MB, maximum=150),
            Bound(name="open bodies", value=lambda run: run.facts["max_open"], maximum=WORKERS),
            Bound(
                name="requests", value=requests, maximum=int(10_000 * scale) + max(1, -(-int(10_000 * scale) // 100))
            ),
        ),
    ),
    Benchmark(
        name="listing",
        what="4,000 runs of an extract, in pages of 400",
        service="arena",
        settings=lambda scale: {"files": int(4000 * scale), "size": 200},
        ours="list_runs",
        peer="loop_runs",
        unit="pages",
        bounds=lambda scale: (
            Bound(name="requests", value=requests, minimum=1, maximum=int(4000 * scale) // ARENA_PAGE + 1),
            Bound(
                name="rows", value=lambda run: run.facts["rows"], minimum=int(4000 * scale), maximum=int(4000 * scale)
            ),
        ),
    ),
)


def show(row: Row) -> str:
    """Write one line of the table."""
    requested = " ".join(f"{method} {count}" for method, count in sorted(row.requests.items()))
    peak = row.peak_memory / MB
    return (
        f"{row.benchmark:<12} {row.contender:<16} {row.seconds:>8.2f} {row.fastest:>7.2f} {row.max_interval:>7.2f} "
        f"{row.rate:>8.0f} {row.unit:<6} {row.cpu_seconds:>7.2f} {peak:>7.0f} {row.ratio:>7.2f}  {requested}"
    )


HEAD = (
    f"{'benchmark':<12} {'contender':<16} {'median s':>8} {'least':>7} {'most':>7} {'a second':>15} {'CPU s':>7} "
    f"{'peak MB':>7} {'x peer':>7}  requests"
)


@attrs.frozen
class Run:
    """
    One run of the suite: what is asked for, and what was measured.

    Args:
        given: What the command line says.
        directory: An empty folder.
    """

    given: argparse.Namespace
    directory: Path
    tables: list[Table] = attrs.field(factory=list)
    laps: list[Lap] = attrs.field(factory=list)
    costs: list[Cost] = attrs.field(factory=list)
    rows: list[Mapping[str, Any]] = attrs.field(factory=list)
    broken: list[str] = attrs.field(factory=list)

    def begin(self) -> report.Surroundings:
        """Print where it is measured, and read the results that exist already."""
        lines = self.given.lines
        at = self.read(lines) if lines and lines.exists() else None
        self.tables.clear()
        if at is None:
            peers = find(self.given.environment, only=self.given.peers)
            at = report.Surroundings.here(versions(peers), self.given.connections)
            self._report("surroundings", attrs.asdict(at), None)
        return at

    def go(self) -> None:
        """Measure everything that is asked for."""
        wanted = [load for load in LOADS if self._is_requested(load.name)]
        if self.given.goals:
            wanted.sort(key=lambda load: list(goals.NEEDED).index(load.name))
        loads = [self._changed(load.scaled(self.given.scale)) for load in wanted]
        if loads and find_nginx() is None:
            if self.given.name:
                raise SystemExit("nginx is not installed; `apt install nginx-light` or `brew install nginx` brings it.")
            print("nginx is not installed: nothing is compared.", file=sys.stderr)
            loads = []
        if loads:
            self._race(loads)
        for benchmark in BENCHMARKS:
            if self._is_requested(benchmark.name):
                self._measure(benchmark)
        for name, take in COSTS.items():
            if self._is_requested(name) and all(cost.benchmark != name for cost in self.costs):
                # Written down when all of it is there, so that a part is never taken for the whole.
                for cost in list(take(self.directory / name, self.given.scale, self.given.rounds)):
                    self.costs.append(cost)
                    self._report("cost", attrs.asdict(cost), str(cost))

    def _is_requested(self, name: str) -> bool:
        if self.given.goals and name not in (*goals.NEEDED, *goals.FIGURES):
            return False
        return not self.given.name or name in self.given.name

    def _changed(self, load: Load) -> Load:
        """Return a load as an argument of the command line."""
        return attrs.evolve(
            load,
            tls=load.tls or self.given.tls,
            rtt=load.rtt if self.given.rtt is None else self.given.rtt / 1000,
            cap=load.cap if self.given.cap is None else self.given.cap,
        )

    def _race(self, loads: Sequence[Load]) -> None:
        """Compare everybody."""
        peers = find(self.given.environment, only=self.given.peers)
        with serving_files(self.directory / "nginx", loads, data=self.given.data) as origin:
            for load in loads:
                table = self._race_one(load, peers, origin)
                self.tables.append(table)
                if not self.given.json:
                    print("\n".join(table.show()), flush=True)

    def _race_one(self, load: Load, peers: Sequence[Peer], origin: Origin) -> Table:
        """Let everybody run as often as is left to run, and give all laps."""
        others, ours = goals.needs(load.name) if self.given.goals else ([], list(OURS))
        peers = [peer for peer in peers if not others or peer.name in others]
        ours = self.given.ours or ours
        earlier = self._take_earlier(load, {*(peer.name for peer in peers), *ours})
        table = race(
            load,
            peers=peers,
            ours=ours,
            rounds=self.given.rounds - len(earlier.rounds),
            connections=self.given.connections,
            origin=origin,
            directory=self.directory / load.name,
            shuffle=random.Random(f"{self.given.seed} {len(earlier.rounds)}"),
            reported=lambda lap: self._report("lap", attrs.asdict(lap), None),
            first=max((lap.round for lap in self.laps if lap.load == load.name), default=-1) + 1,
        )
        return Table(laps=earlier.laps + table.laps)

    def _take_earlier(self, load: Load, everybody: set[str]) -> Table:
        """Return the earlier laps of this load, from rounds in which all contenders ran."""
        laps = [
            lap
            for lap in self.laps
            if (lap.load, lap.files, lap.contender in everybody) == (load.name, load.files, True)
        ]
        return Table.of_whole_rounds(laps, everybody=everybody)

    def _measure(self, benchmark: Benchmark) -> None:
        """Run one of the benchmarks that need a simulator only."""
        if not self.given.json:
            print(HEAD)
        for row in measure(
            benchmark,
            rounds=self.given.rounds,
            scale=self.given.scale,
            directory=self.directory,
            shuffle=random.Random(self.given.seed),
        ):
            self.rows.append(attrs.asdict(row))
            self._report("row", attrs.asdict(row), show(row))
            self.broken.extend(row.broken)

    def _report(self, kind: str, values: Mapping[str, Any], line: str | None) -> None:
        """Print what was measured, and add it to the file that keeps it."""
        if self.given.lines:
            with self.given.lines.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"kind": kind, **values}) + "\n")
        if self.given.json:
            print(json.dumps({"kind": kind, **values}), flush=True)
        elif line is not None:
            print(line, flush=True)

    def read(self, path: Path) -> report.Surroundings | None:
        """Take what an earlier run printed with ``--json``, and give where that was. It replaces earlier figures."""
        at = None
        laps: list[Lap] = []
        costs: list[Cost] = []
        rows: list[Mapping[str, Any]] = []
        for line in path.read_text(encoding="utf-8").splitlines():
            values = json.loads(line)
            match values.pop("kind"):
                case "lap":
                    laps.append(Lap(**values))
                case "cost":
                    costs.append(Cost(**values))
                case "row":
                    rows.append(values)
                case "surroundings":
                    at = report.Surroundings(**values)
        self.laps.extend(laps)
        again = {cost.benchmark for cost in costs}, {row["benchmark"] for row in rows}
        self.costs[:] = [cost for cost in self.costs if cost.benchmark not in again[0]] + costs
        self.rows[:] = [row for row in self.rows if row["benchmark"] not in again[1]] + rows
        for name in dict.fromkeys(lap.load for lap in laps):
            self.tables.append(Table.of_whole_rounds([lap for lap in laps if lap.load == name]))
        return at

    def judged(self) -> list[goals.Line]:
        """Return the results of the goals: of each load the run with the most rounds counts."""
        tables = {table.load: table for table in sorted(self.tables, key=lambda table: len(table.rounds))}
        return goals.judged(goals.Figures(tables, self.costs))

    def shown(self) -> list[Table]:
        """Return the tables to show: of each load the run with the most contenders."""
        tables = {table.load: table for table in sorted(self.tables, key=lambda table: len(table.contenders))}
        return [tables[load.name] for load in LOADS if load.name in tables]


def parser_of(names: Sequence[str]) -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", nargs="*", help=f"one of {', '.join(names)}; all when none is named")
    parser.add_argument(
        "--rounds", type=int, help=f"how often each contender runs (3, or {goals.ROUNDS} for the goals)"
    )
    parser.add_argument("--goals", action="store_true", help="only what the goals need, and whether they are reached")
    parser.add_argument(
        "--lines", type=Path, metavar="FILE", help="add each lap to FILE, and measure only what it lacks"
    )
    parser.add_argument("--scale", type=float, default=1.0, help="a part of the work, for a first look (1.0)")
    parser.add_argument("--seed", type=int, default=0, help="of the order within the rounds (0)")
    parser.add_argument("--connections", type=int, default=32, help="that everybody may have at a time (32)")
    parser.add_argument("--peers", type=_names, default=[], help=f"of {', '.join(PEERS)}; all that are installed")
    parser.add_argument("--ours", type=_names, default=[], help=f"of {', '.join(OURS)}; all when none is named")
    parser.add_argument("--tls", action="store_true", help="over TLS, whatever the load says")
    parser.add_argument("--rtt", type=float, metavar="MS", help="milliseconds away, whatever the load says")
    parser.add_argument(
        "--cap", type=float, metavar="B", help="bytes a second of one connection, whatever the load says"
    )
    parser.add_argument("--data", type=Path, metavar="DIR", help="where to make the content and leave it")
    parser.add_argument("--environment", type=Path, metavar="DIR", help="install the libraries there (from PyPI)")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--write", action="store_true", help=f"write {report.PAGE} and {report.PICTURE}")
    parser.add_argument(
        "--from",
        type=Path,
        action="append",
        default=[],
        dest="read",
        metavar="FILE",
        help="lines of earlier runs with --json: nothing is measured now",
    )
    return parser


def _names(text: str) -> list[str]:
    """Read names that are set apart by commas."""
    words = [word.strip() for word in text.split(",")]
    if unknown := set(words) - {*PEERS, *OURS}:
        raise argparse.ArgumentTypeError(f"there is no {', '.join(sorted(unknown))}")
    return words


@contextmanager
def _passing_directory() -> Iterator[Path]:
    """Yield a folder whose content is deleted at the very end, and not in the way of what is measured."""
    directory = Path(tempfile.mkdtemp(prefix="benchmarks-"))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _compile() -> None:
    """
    Compile what is imported, as pip does where it installs.

    Not every installer does so, and an environment may forbid Python to keep what it compiled: every start would be
    measured with the time that compiling takes then.
    """
    for directory in (sysconfig.get_path("purelib"), ROOT / "arena_async", ROOT / "benchmarks"):
        compileall.compile_dir(directory, quiet=2)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is asked for; 1 when a bound does not hold. Times are shown, never judged."""
    names = [*(one.name for one in LOADS), *(one.name for one in BENCHMARKS), *COSTS]
    parser = parser_of(names)
    given = parser.parse_args(arguments)
    given.rounds = given.rounds or (goals.ROUNDS if given.goals else 3)
    if unknown := set(given.name) - set(names):
        parser.error(f"there is no benchmark called {', '.join(sorted(unknown))}")
    if given.environment and not given.read:
        install(given.environment)

    with _passing_directory() as directory:
        run = Run(given, directory)
        at = None
        for path in given.read:
            at = run.read(path) or at
        if not given.read:
            at = run.begin()
            _compile()
            run.go()
        if given.goals and not given.json:
            print("\n".join(goals.show(run.judged())))
        if given.write:
            if at is None:
                parser.error("these lines do not say where they were measured")
            page = report.as_page(run.shown(), run.costs, run.rows, at, goals=run.judged())
            (ROOT / report.PAGE).write_text(page, encoding="utf-8")
            (ROOT / report.PICTURE).write_text(report.as_picture(run.shown()), encoding="utf-8")
    for line in run.broken:
        print(line, file=sys.stderr)
    return 1 if run.broken else 0


if __name__ == "__main__":
    sys.exit(main())
