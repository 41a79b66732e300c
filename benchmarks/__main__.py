"""The door: ``python -m benchmarks [name ...] [--rounds N] [--scale X] [--json]``."""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import attrs

from benchmarks.contenders import WORKERS
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
        what="4,000 runs of an extract",
        service="arena",
        settings=lambda scale: {"files": int(4000 * scale), "size": 200},
        ours="list_runs",
        peer="loop_runs",
        unit="rows",
        bounds=lambda scale: (
            Bound(name="requests", value=requests, least=1, most=int(4000 * scale) // 400 + 1),
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is asked for; 1 when a bound does not hold. Times are shown, never judged."""
    names = [benchmark.name for benchmark in BENCHMARKS]
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", nargs="*", help=f"one of {', '.join(names)}; all when none is named")
    parser.add_argument("--rounds", type=int, default=3, help="how often each contender runs (3)")
    parser.add_argument("--scale", type=float, default=1.0, help="a part of the work, for a first look (1.0)")
    parser.add_argument("--seed", type=int, default=0, help="of the order within the rounds (0)")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    given = parser.parse_args(arguments)
    if unknown := set(given.name) - set(names):
        parser.error(f"there is no benchmark called {', '.join(sorted(unknown))}")

    broken: list[str] = []
    if not given.json:
        print(HEAD)
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
        for benchmark in BENCHMARKS:
            if given.name and benchmark.name not in given.name:
                continue
            rows = measure(
                benchmark,
                rounds=given.rounds,
                scale=given.scale,
                folder=Path(folder),
                shuffle=random.Random(given.seed),
            )
            for row in rows:
                print(json.dumps(attrs.asdict(row)) if given.json else show(row), flush=True)
                broken += row.broken
    for line in broken:
        print(line, file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
