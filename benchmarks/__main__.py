"""
The door: ``python -m benchmarks [name ...] [--rounds N] [--scale X] [--peers NAMES] [--json] [--write] ...``.

``--json`` prints one object a line; ``--write --from FILE`` makes the page of the documentation of such lines, so that
a long comparison can be measured in parts.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

from benchmarks import report
from benchmarks.contenders import ARENA_PAGE, WORKERS
from benchmarks.costs import COSTS, Cost
from benchmarks.loads import LOADS, Load
from benchmarks.origin import find_nginx, serving_files
from benchmarks.peers import PEERS, ROOT, find, install, versions
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
            Bound(name="peak memory in MB", value=lambda run: run.facts["peak_memory"] / MB, most=150),
            Bound(name="open bodies", value=lambda run: run.facts["most_open"], most=WORKERS),
            Bound(name="requests", value=requests, most=int(10_000 * scale) + max(1, -(-int(10_000 * scale) // 100))),
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
            Bound(name="requests", value=requests, least=1, most=int(4000 * scale) // ARENA_PAGE + 1),
            Bound(name="rows", value=lambda run: run.facts["rows"], least=int(4000 * scale), most=int(4000 * scale)),
        ),
    ),
)


def show(row: Row) -> str:
    """Write one line of the table."""
    asked = " ".join(f"{method} {count}" for method, count in sorted(row.requests.items()))
    peak = row.peak_memory / MB
    return (
        f"{row.benchmark:<12} {row.contender:<16} {row.seconds:>8.2f} {row.fastest:>7.2f} {row.slowest:>7.2f} "
        f"{row.rate:>8.0f} {row.unit:<6} {row.cpu_seconds:>7.2f} {peak:>7.0f} {row.ratio:>7.2f}  {asked}"
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
        folder: An empty folder.
    """

    given: argparse.Namespace
    folder: Path
    tables: list[Table] = attrs.field(factory=list)
    costs: list[Cost] = attrs.field(factory=list)
    rows: list[Mapping[str, Any]] = attrs.field(factory=list)
    broken: list[str] = attrs.field(factory=list)

    def go(self) -> None:
        """Measure everything that is asked for."""
        loads = [self._changed(load.scaled(self.given.scale)) for load in LOADS if self._is_asked(load.name)]
        if loads and find_nginx() is None:
            if self.given.name:
                raise SystemExit("nginx is not installed; `apt install nginx-light` or `brew install nginx` brings it.")
            print("nginx is not installed: nothing is compared.", file=sys.stderr)
            loads = []
        if loads:
            self._race(loads)
        for benchmark in BENCHMARKS:
            if self._is_asked(benchmark.name):
                self._measure(benchmark)
        for name, take in COSTS.items():
            if self._is_asked(name):
                for cost in take(self.folder / name, self.given.scale, self.given.rounds):
                    self.costs.append(cost)
                    self._tell("cost", attrs.asdict(cost), str(cost))

    def _is_asked(self, name: str) -> bool:
        return not self.given.name or name in self.given.name

    def _changed(self, load: Load) -> Load:
        """Give a load as the command line wants it."""
        return attrs.evolve(
            load,
            tls=load.tls or self.given.tls,
            rtt=load.rtt if self.given.rtt is None else self.given.rtt / 1000,
            cap=load.cap if self.given.cap is None else self.given.cap,
        )

    def _race(self, loads: Sequence[Load]) -> None:
        """Compare everybody."""
        peers = find(self.given.environment, only=self.given.peers)
        with serving_files(self.folder / "nginx", loads, data=self.given.data) as origin:
            for load in loads:
                table = race(
                    load,
                    peers=peers,
                    ours=self.given.ours or list(OURS),
                    rounds=self.given.rounds,
                    connections=self.given.connections,
                    origin=origin,
                    folder=self.folder / load.name,
                    shuffle=random.Random(self.given.seed),
                    told=lambda lap: self._tell("lap", attrs.asdict(lap), None),
                )
                self.tables.append(table)
                if not self.given.json:
                    print("\n".join(table.show()), flush=True)

    def _measure(self, benchmark: Benchmark) -> None:
        """Run one of the benchmarks that need a simulator only."""
        if not self.given.json:
            print(HEAD)
        for row in measure(
            benchmark,
            rounds=self.given.rounds,
            scale=self.given.scale,
            folder=self.folder,
            shuffle=random.Random(self.given.seed),
        ):
            self.rows.append(attrs.asdict(row))
            self._tell("row", attrs.asdict(row), show(row))
            self.broken.extend(row.broken)

    def _tell(self, kind: str, values: Mapping[str, Any], line: str | None) -> None:
        """Print what was measured."""
        if self.given.json:
            print(json.dumps({"kind": kind, **values}), flush=True)
        elif line is not None:
            print(line, flush=True)

    def read(self, path: Path) -> report.Surroundings | None:
        """Take what an earlier run printed with ``--json``, and give where that was."""
        at, laps = None, []
        for line in path.read_text(encoding="utf-8").splitlines():
            values = json.loads(line)
            match values.pop("kind"):
                case "lap":
                    laps.append(Lap(**values))
                case "cost":
                    self.costs.append(Cost(**values))
                case "row":
                    self.rows.append(values)
                case "surroundings":
                    at = report.Surroundings(**values)
        for name in dict.fromkeys(lap.load for lap in laps):
            self.tables.append(Table.of_whole_rounds([lap for lap in laps if lap.load == name]))
        return at


def parser_of(names: Sequence[str]) -> argparse.ArgumentParser:
    """Give what reads the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", nargs="*", help=f"one of {', '.join(names)}; all when none is named")
    parser.add_argument("--rounds", type=int, default=3, help="how often each contender runs (3)")
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
def _passing_folder() -> Iterator[Path]:
    """Give a folder whose content is deleted at the very end, and not in the way of what is measured."""
    folder = Path(tempfile.mkdtemp(prefix="benchmarks-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is asked for; 1 when a bound does not hold. Times are shown, never judged."""
    names = [*(one.name for one in LOADS), *(one.name for one in BENCHMARKS), *COSTS]
    parser = parser_of(names)
    given = parser.parse_args(arguments)
    if unknown := set(given.name) - set(names):
        parser.error(f"there is no benchmark called {', '.join(sorted(unknown))}")
    if given.environment and not given.read:
        install(given.environment)

    with _passing_folder() as folder:
        run = Run(given, folder)
        at = None
        for path in given.read:
            at = run.read(path) or at
        if not given.read:
            at = report.Surroundings.here(versions(find(given.environment, only=given.peers)), given.connections)
            if given.json:
                print(json.dumps({"kind": "surroundings", **attrs.asdict(at)}), flush=True)
            run.go()
        if given.write:
            if at is None:
                parser.error("these lines do not say where they were measured")
            (ROOT / report.PAGE).write_text(report.as_page(run.tables, run.costs, run.rows, at), encoding="utf-8")
            (ROOT / report.PICTURE).write_text(report.as_picture(run.tables), encoding="utf-8")
    for line in run.broken:
        print(line, file=sys.stderr)
    return 1 if run.broken else 0


if __name__ == "__main__":
    sys.exit(main())
