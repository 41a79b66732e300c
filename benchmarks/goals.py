"""What we want to reach, line by line, and whether we do: from the laps and figures of one run. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import attrs

from benchmarks.comparing import Spread
from benchmarks.costs import Cost
from benchmarks.loads import GB, MB
from benchmarks.racing import OURS, YARDSTICK, Table

__all__ = ["FIGURES", "GOALS", "NEEDED", "ROUNDS", "Figures", "Goal", "Line", "judged", "needs", "show"]

#: How often everybody runs.
ROUNDS = 5

#: Who has to run with which load, in the order in which the loads are run: the short ones first, so that a run that is
#: cut short has told most. Beside curl and the loop there are those who were the fastest of all when all took part.
NEEDED: Mapping[str, tuple[str, ...]] = {
    "S": ("curl", "same-work", "aria2", "loop", "mirror", "mirror-no-digest"),
    "S-tls": ("curl", "loop", "mirror"),
    "M": ("curl", "same-work", "aria2", "wget2", "rclone", "loop", "mirror", "mirror-no-digest"),
    "M-tls": ("curl", "wget2", "mirror"),
    "S-far": ("curl", "loop", "mirror"),
    "M-far": ("curl", "loop", "mirror"),
    "L": ("curl", "same-work", "aria2", "wget2", "rclone", "loop", "mirror", "mirror-no-digest"),
    "L-tls": ("curl", "wget2", "mirror"),
    "one-far": ("aria2", "mirror"),
    "S15": ("curl", "loop", "mirror"),
    "L-gzip": ("curl", "mirror"),
}

#: Figures that are taken beside the loads, the short ones first.
FIGURES = ("start-up", "digests", "million")

_Take = Callable[["Figures"], tuple[Spread, str] | None]


@attrs.frozen
class Figures:
    """
    What was measured.

    Args:
        tables: The laps, by load.
        costs: The figures that stand for themselves.
    """

    tables: Mapping[str, Table]
    costs: Sequence[Cost]

    def has(self, load: str, *names: str) -> bool:
        """Return whether all of these ran with a load."""
        return load in self.tables and set(names) <= set(self.tables[load].contenders)

    def ratio(self, load: str, ours: str, other: str, field: str = "seconds") -> Spread | None:
        """Return the ratio of our value to another, within the rounds."""
        return self.tables[load].against(ours, other, field) if self.has(load, ours, other) else None

    def column(self, load: str, name: str, field: str) -> list[float]:
        """Return a value of each round."""
        return self.tables[load].column(name, field)

    def cost(self, benchmark: str, what: str) -> float | None:
        """Return a figure whose name ends with some words."""
        found = [cost.value for cost in self.costs if cost.benchmark == benchmark and cost.what.endswith(what)]
        return found[-1] if found else None


@attrs.frozen(kw_only=True)
class Goal:
    """
    One line of what we want.

    Args:
        what: What is looked at.
        maximum: What it may be at the most; None for what is only shown.
        unit: Its unit.
        take: Reads it from what was measured, with a word on what it was compared with; None where it was not measured.
    """

    what: str
    maximum: float | None
    unit: str = "x"
    take: _Take


@attrs.frozen(kw_only=True)
class Line:
    """
    A goal and what became of it.

    Args:
        goal: The goal.
        found: Median and range, or None where it was not measured.
        note: What it was compared with, or "".
    """

    goal: Goal
    found: Spread | None
    note: str = ""

    @property
    def result(self) -> str:
        """Return in words whether the goal was reached, by the median."""
        if self.found is None:
            return "not measured"
        if self.goal.maximum is None:
            return "shown"
        return "reached" if self.found.middle <= self.goal.maximum else "missed"

    @property
    def allowed(self) -> str:
        """The goal in words."""
        return "-" if self.goal.maximum is None else f"<= {self.goal.maximum:g} {self.goal.unit}"

    @property
    def measured(self) -> str:
        """What was found, in words."""
        if self.found is None:
            return "-"
        digits = 0 if self.goal.unit == "MB" else 2
        middle, minimum, maximum = (
            f"{value:.{digits}f}" for value in (self.found.middle, self.found.minimum, self.found.maximum)
        )
        return f"{middle} {self.goal.unit}" + (f" ({minimum}-{maximum})" if minimum != maximum else "")


def _against(load: str, other: str = YARDSTICK, *, ours: str = "mirror", field: str = "seconds") -> _Take:
    """Compare with somebody within the rounds."""

    def take(figures: Figures) -> tuple[Spread, str] | None:
        found = figures.ratio(load, ours, other, field)
        return found and (found, "")

    return take


def _against_fastest(load: str) -> _Take:
    """Compare with whoever is the fastest of the others."""

    def take(figures: Figures) -> tuple[Spread, str] | None:
        if not figures.has(load, "mirror") or set(figures.tables[load].contenders) <= set(OURS):
            return None
        found = figures.tables[load].against_fastest("mirror")
        return found and (found[1], found[0])

    return take


def _beyond(load: str) -> _Take:
    """Return the seconds that we take beyond curl's, within the rounds."""

    def take(figures: Figures) -> tuple[Spread, str] | None:
        if not figures.has(load, "mirror", YARDSTICK):
            return None
        both = zip(figures.column(load, "mirror", "seconds"), figures.column(load, YARDSTICK, "seconds"), strict=True)
        return Spread.of([ours - theirs for ours, theirs in both]), ""

    return take


def _with_hash(load: str) -> _Take:
    """Compare processor time with curl's and that of the hash alone."""

    def take(figures: Figures) -> tuple[Spread, str] | None:
        rate = figures.cost("digests", "SHA-256")
        if rate is None or not figures.has(load, "mirror", YARDSTICK):
            return None
        hashing = rate * figures.tables[load].laps[0].bytes / GB
        fields = (figures.column(load, name, "cpu_seconds") for name in ("mirror", YARDSTICK))
        return Spread.of([ours / (theirs + hashing) for ours, theirs in zip(*fields, strict=True)]), ""

    return take


def _checksum(load: str) -> _Take:
    """Return the processor seconds for a gigabyte that we take beyond curl and the hash, beside zlib's own."""

    def take(figures: Figures) -> tuple[Spread, str] | None:
        hashing, alone = figures.cost("digests", "SHA-256"), figures.cost("digests", "by zlib alone")
        if hashing is None or alone is None or not figures.has(load, "mirror", YARDSTICK):
            return None
        size = figures.tables[load].laps[0].bytes / GB
        fields = (figures.column(load, name, "cpu_seconds") for name in ("mirror", YARDSTICK))
        beyond = [(ours - theirs) / size - hashing for ours, theirs in zip(*fields, strict=True)]
        return Spread.of(beyond), f"zlib alone: {alone:.2f}"

    return take


def _peak(load: str) -> _Take:
    """Return the peak of our memory in each round."""

    def take(figures: Figures) -> tuple[Spread, str] | None:
        if not figures.has(load, "mirror"):
            return None
        return Spread.of([peak / MB for peak in figures.column(load, "mirror", "peak_memory")]), ""

    return take


def _figure(benchmark: str, what: str) -> _Take:
    """Return a figure that stands for itself."""

    def take(figures: Figures) -> tuple[Spread, str] | None:
        value = figures.cost(benchmark, what)
        return None if value is None else (Spread.of([value]), "")

    return take


GOALS = (
    Goal(what="S: wall, against curl", maximum=2.5, take=_against("S")),
    Goal(what="S: wall, against the loop of the tutorials", maximum=1, take=_against("S", "loop")),
    Goal(what="S: wall, against the same work", maximum=2, take=_against("S", "same-work")),
    Goal(what="S: processor time, against the loop", maximum=1, take=_against("S", "loop", field="cpu_seconds")),
    Goal(what="S over TLS: wall, against the loop", maximum=1, take=_against("S-tls", "loop")),
    Goal(what="S, 15,000 files: wall, against the loop", maximum=1, take=_against("S15", "loop")),
    Goal(what="M: wall, against curl", maximum=1, take=_against("M")),
    Goal(what="M: wall, against the loop", maximum=0.9, take=_against("M", "loop")),
    Goal(what="M: wall, against the same work", maximum=0.5, take=_against("M", "same-work")),
    Goal(what="M: wall, against the fastest of the others", maximum=1.3, take=_against_fastest("M")),
    Goal(what="M over TLS: wall, against curl", maximum=0.9, take=_against("M-tls")),
    Goal(what="L: wall, against curl", maximum=0.8, take=_against("L")),
    Goal(what="L: wall, against the loop", maximum=0.7, take=_against("L", "loop")),
    Goal(what="L: wall, against the same work", maximum=0.35, take=_against("L", "same-work")),
    Goal(what="L without a digest: wall, against curl", maximum=0.6, take=_against("L", ours="mirror-no-digest")),
    Goal(what="L: wall, against the fastest of the others", maximum=1.3, take=_against_fastest("L")),
    Goal(what="L: processor time, against curl's and the hash", maximum=1, take=_with_hash("L")),
    Goal(what="L over TLS: wall, against curl", maximum=1.1, take=_against("L-tls")),
    Goal(what="one file far away: wall, against aria2 with 16", maximum=1.1, take=_against("one-far", "aria2")),
    Goal(what="S far away: seconds beyond curl's", maximum=0.3, unit="s", take=_beyond("S-far")),
    Goal(what="M far away: seconds beyond curl's", maximum=0.3, unit="s", take=_beyond("M-far")),
    Goal(what="S: peak memory", maximum=60, unit="MB", take=_peak("S")),
    Goal(what="M: peak memory", maximum=80, unit="MB", take=_peak("M")),
    Goal(what="L: peak memory", maximum=80, unit="MB", take=_peak("L")),
    Goal(what="M over TLS: peak memory", maximum=90, unit="MB", take=_peak("M-tls")),
    Goal(
        what="a long listing, to plan: peak memory", maximum=100, unit="MB", take=_figure("million", "memory of a plan")
    ),
    Goal(
        what="a long listing, to sync: peak memory", maximum=100, unit="MB", take=_figure("million", "memory of a sync")
    ),
    Goal(
        what="a long listing, to prune: peak memory",
        maximum=100,
        unit="MB",
        take=_figure("million", "memory of a prune"),
    ),
    Goal(
        what="a long listing: size of its ledger", maximum=600, unit="MB", take=_figure("million", "size of the ledger")
    ),
    Goal(what="gzip: processor seconds for the checksum of 1 GB", maximum=None, unit="s", take=_checksum("L-gzip")),
    Goal(
        what="arena-async --help, against an empty program",
        maximum=1.5,
        take=_figure("start-up", "--help against the empty program"),
    ),
    Goal(
        what="arena-async get of one file, against import aiohttp",
        maximum=1.6,
        take=_figure("start-up", "get of one file against the import of aiohttp"),
    ),
    Goal(
        what="import arena_async: modules of aiohttp and cattrs",
        maximum=0,
        unit="modules",
        take=_figure("start-up", "modules of aiohttp and cattrs"),
    ),
)


def judged(figures: Figures) -> list[Line]:
    """Return a line for every goal."""
    lines = []
    for goal in GOALS:
        found = goal.take(figures)
        spread, note = found or (None, "")
        lines.append(Line(goal=goal, found=spread, note=note))
    return lines


def show(lines: Sequence[Line]) -> Iterator[str]:
    """Write the lines for a terminal."""
    yield f"{'goal':<52} {'allowed':>14} {'measured':>24}  reached"
    for line in lines:
        note = f"  ({line.note})" if line.note else ""
        yield f"{line.goal.what:<52} {line.allowed:>14} {line.measured:>24}  {line.result}{note}"


def needs(load: str) -> tuple[list[str], list[str]]:
    """Return the others and those of ours that have to run with a load."""
    names = NEEDED[load]
    return [name for name in names if name not in OURS], [name for name in names if name in OURS]
