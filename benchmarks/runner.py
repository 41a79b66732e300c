"""How benchmarks are run and compared: shuffled rounds, medians, ratios within a round."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import attrs

from benchmarks.service import serving

__all__ = ["Benchmark", "Bound", "Measured", "Row", "measure"]


@attrs.frozen(kw_only=True)
class Measured:
    """
    One run of one contender.

    Args:
        seconds: From the start of its process to its end.
        facts: What it said it did.
        seen: Requests by method, as its service counted them.
    """

    seconds: float
    facts: Mapping[str, Any]
    seen: Mapping[str, int]


@attrs.frozen(kw_only=True)
class Bound:
    """
    Something that has to hold in every run, whatever the machine.

    Args:
        name: What is bounded.
        value: How it is read from a run.
        maximum: The greatest value allowed.
        minimum: The least value allowed.
    """

    name: str
    value: Callable[[Measured], float]
    maximum: float = float("inf")
    minimum: float = float("-inf")


@attrs.frozen(kw_only=True)
class Benchmark:
    """
    A piece of work that several contenders do.

    Args:
        name: The word for it.
        what: The work in one line.
        service: The simulator, and its settings for a scale.
        ours: The contender that is ours.
        peer: The one it is compared with.
        unit: Which fact counts the work done.
        bounds: What has to hold for ours, for a scale.
    """

    name: str
    what: str
    service: str
    settings: Callable[[float], dict[str, Any]]
    ours: str
    peer: str
    unit: str
    bounds: Callable[[float], tuple[Bound, ...]]


@attrs.frozen(kw_only=True)
class Row:
    """
    One line of the table.

    Args:
        benchmark: Which work.
        contender: Who did it.
        seconds: Median wall time.
        fastest: The shortest one.
        max_interval: The longest one.
        rate: Units of work a second, at the median.
        unit: What the units are.
        cpu_seconds: Median processor time.
        peak_memory: The greatest peak, in bytes.
        requests: Requests of the last run, as the service counted them.
        ratio: Median of the ratios to the peer within each round.
        broken: Bounds that did not hold.
    """

    benchmark: str
    contender: str
    seconds: float
    fastest: float
    max_interval: float
    rate: float
    unit: str
    cpu_seconds: float
    peak_memory: int
    requests: Mapping[str, int]
    ratio: float
    broken: tuple[str, ...] = ()


def run_once(benchmark: Benchmark, contender: str, scale: float, directory: Path) -> Measured:
    """Start a service, let one contender do the work in a process of its own, and stop the service."""
    directory.mkdir()
    with serving(benchmark.service, **benchmark.settings(scale)) as service:
        arguments = json.dumps({"facts": service.facts, "folder": str(directory)})
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.contenders", contender, arguments],
            capture_output=True,
            text=True,
            check=False,
        )
        seconds = time.perf_counter() - started
    if done.returncode:
        raise SystemExit(f"{benchmark.name}: {contender} failed.\n{done.stderr}")
    return Measured(seconds=seconds, facts=json.loads(done.stdout), seen=service.seen)


def measure(
    benchmark: Benchmark, *, rounds: int, scale: float, directory: Path, shuffle: random.Random
) -> Iterator[Row]:
    """Run every contender once in each round, in any order, and give a row for each."""
    runs: dict[str, list[Measured]] = {benchmark.ours: [], benchmark.peer: []}
    for number in range(rounds):
        for contender in shuffle.sample(sorted(runs), len(runs)):
            place = directory / f"{benchmark.name}-{number}-{contender}"
            runs[contender].append(run_once(benchmark, contender, scale, place))
    for contender, measured in runs.items():
        bounds = benchmark.bounds(scale) if contender == benchmark.ours else ()
        yield _row(benchmark, contender, measured, runs[benchmark.peer], bounds)


def _row(
    benchmark: Benchmark, contender: str, runs: list[Measured], peer: list[Measured], bounds: tuple[Bound, ...]
) -> Row:
    seconds = [run.seconds for run in runs]
    return Row(
        benchmark=benchmark.name,
        contender=contender,
        seconds=median(seconds),
        fastest=min(seconds),
        max_interval=max(seconds),
        rate=runs[0].facts[benchmark.unit] / median(seconds),
        unit=benchmark.unit,
        cpu_seconds=median(run.facts["cpu_seconds"] for run in runs),
        peak_memory=max(run.facts["peak_memory"] for run in runs),
        requests=runs[-1].seen,
        ratio=median(run.seconds / other.seconds for run, other in zip(runs, peer, strict=True)),
        broken=tuple(
            f"{bound.name} is {bound.value(run):g}, allowed is {bound.minimum:g} to {bound.maximum:g}"
            for bound in bounds
            for run in runs
            if not bound.minimum <= bound.value(run) <= bound.maximum
        ),
    )
