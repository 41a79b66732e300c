"""The page and the picture for the documentation, from what was measured. What is slower is said first."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import attrs

from benchmarks.comparing import Spread
from benchmarks.costs import Cost
from benchmarks.drawing import draw
from benchmarks.goals import Line
from benchmarks.loads import LOADS
from benchmarks.racing import OURS, YARDSTICK, Lap, Table

__all__ = ["PAGE", "PICTURE", "Surroundings", "as_page", "as_picture", "slower"]

#: Where they stand, from the root of the checkout.
PAGE, PICTURE = "docs/performance.md", "docs/performance.svg"

#: The one of ours that stands for all where only one is shown.
_FIRST = "mirror"

_HEAD = """\
# Performance

How long downloads with this library take, compared with other programs and libraries. `python -m benchmarks --write`
writes this page and its picture. Measured on {date} (UTC): {system}, {versions}.

![Wall time of all contenders](performance.svg)

The web server is nginx with one worker on loopback. Each contender is a process of its own, measured from start to
end, with the start of the interpreter and its imports. The order within a round is shuffled; ratios (`x`) are
computed within a round, and shown as their median and range. Each contender may open {connections} connections. Times
differ by a factor of two between machines and days; only the ratios are comparable. On loopback they show the
processor time needed; over a real network all contenders wait for the network. Loads called *far* go through a proxy
that adds latency and limits each connection.

**This library does more than the others.** `mirror` verifies every file, hashes it with SHA-256, syncs files in
groups before it renames them, and records them in a ledger; `mirror-no-digest` does not hash, `mirror-not-durable`
does not sync, `downloader` keeps no ledger of complete files. `mirror-centrepoint` also lists the files of a
simulated CentrePoint, downloads them from its signed URLs, and verifies the MD5 of each; the others get a list of
URLs. `same-work` is curl, then `sha256sum` and `sync` of the same files; none of the others syncs files or verifies
more than a length. `loop` is the loop of tutorials: aiohttp, aiofiles, a semaphore and `gather`. What the time is
spent on is in [Guarantees](guarantees.md), and what the others do when something fails in
[Other downloaders](rivals.md).
"""


@attrs.frozen(kw_only=True)
class Surroundings:
    """
    Where it was measured.

    Args:
        date: When, in UTC.
        system: The machine in a few words.
        versions: Of everybody, by name.
        connections: That everybody could have.
    """

    date: str
    system: str
    versions: Mapping[str, str]
    connections: int

    @classmethod
    def here(cls, versions: Mapping[str, str], connections: int) -> Surroundings:
        """Describe this machine."""
        cores = f"{os.cpu_count()} cores"
        system = f"{platform.system()}, {cores}, {platform.python_implementation()} {platform.python_version()}"
        return cls(date=datetime.now(UTC).date().isoformat(), system=system, versions=versions, connections=connections)


def as_page(
    tables: Sequence[Table],
    costs: Sequence[Cost],
    rows: Sequence[Mapping[str, Any]],
    at: Surroundings,
    *,
    goals: Sequence[Line] = (),
) -> str:
    """Return the page."""
    head = _HEAD.format(
        date=at.date,
        system=at.system,
        versions=", ".join(f"{name} {version}" for name, version in at.versions.items()),
        connections=at.connections,
    )
    behind = [f"* {line}" for line in slower(tables)]
    parts = [head, *_goals(goals), "## What is slower\n", *behind, "\n## All contenders\n"]
    for table in tables:
        parts += _section(table)
    parts += _costs(costs, rows)
    return "\n".join(parts).rstrip() + "\n"


_GOALS = """\
## Goals, and results

`python -m benchmarks --goals` measures these lines and compares their medians with the goals; ratios are computed
within a round, with the range of all rounds in parentheses. They include all the additional work of `mirror`.
"""


def _goals(lines: Sequence[Line]) -> Iterator[str]:
    """Write what we want, and what became of it; nothing where none of it was measured."""
    if all(line.found is None for line in lines):
        return
    yield _GOALS
    yield "| | goal | measured | |"
    yield "|---|---|---|---|"
    for line in lines:
        note = f" ({line.note})" if line.note else ""
        word = f"**{line.result}**" if line.result == "missed" else line.result
        yield f"| {line.goal.what}{note} | {line.allowed} | {line.measured} | {word} |"
    yield ""


def as_picture(tables: Sequence[Table]) -> str:
    """Return the picture."""
    panels = {
        _title(table.laps[0]): [(name, table.spread(name, "seconds"), name in OURS) for name in table.contenders]
        for table in tables
    }
    return draw(panels, title="Wall time of a whole process", unit="seconds")


def slower(tables: Sequence[Table]) -> list[str]:
    """Return a line for each load in which another program is faster than this library."""
    lines = []
    for table in tables:
        if _FIRST not in table.contenders:
            continue
        ours = table.spread(_FIRST, "seconds").middle
        faster = [name for name in table.contenders if name not in OURS and table.spread(name, "seconds").middle < ours]
        name = _title(table.laps[0])
        if faster:
            named = ", ".join(f"{one} ({_times(table.against(_FIRST, one))})" for one in faster)
            lines.append(f"{name}: `{_FIRST}` takes this many times as long as {named}.")
        else:
            lines.append(f"{name}: no contender is faster than `{_FIRST}`.")
    return lines


def _times(spread: Spread | None) -> str:
    return f"{spread.middle:.2f}" if spread else "-"


def _title(lap: Lap) -> str:
    """Name a load by what was brought, which may have been a part of it."""
    known = {load.name: load for load in LOADS}
    load = known.get(lap.load)
    whole = load is not None and load.files == lap.files
    return f"{lap.load}: {load.what if load and whole else f'{lap.files} files, {lap.bytes / 1e6:.0f} MB in all'}"


def _section(table: Table) -> Iterator[str]:
    """Write the table of a load."""
    first = table.laps[0]
    rounds = len({lap.round for lap in table.laps})
    yield f"### {_title(first)}\n"
    yield f"{rounds} round{'' if rounds == 1 else 's'}.\n"
    times = f"x {YARDSTICK} | CPU x {YARDSTICK} | x loop"
    yield f"| | wall s | range | MB/s | CPU s | peak MB | {times} | requests a file |"
    yield "|---|---|---|---|---|---|---|---|---|---|"
    for name in table.contenders:
        wall, cpu = table.spread(name, "seconds"), table.spread(name, "cpu_seconds")
        to_curl, cpu_to_curl = table.against(name, YARDSTICK), table.against(name, YARDSTICK, "cpu_seconds")
        to_loop = table.against(name, "loop")
        cells = (
            f"**{name}**" if name in OURS else name,
            f"{wall.middle:.2f}",
            f"{wall.minimum:.2f}-{wall.maximum:.2f}",
            f"{first.bytes / 1e6 / wall.middle:.0f}",
            f"{cpu.middle:.2f}",
            f"{table.spread(name, 'peak_memory').maximum / 1e6:.0f}",
            str(to_curl or "-"),
            f"{cpu_to_curl.middle:.2f}" if cpu_to_curl else "-",
            f"{to_loop.middle:.2f}" if to_loop else "-",
            f"{table.spread(name, 'requests').middle / first.files:.2f}",
        )
        yield f"| {' | '.join(cells)} |"
    fastest = table.against_fastest(_FIRST) if _FIRST in table.contenders else None
    if fastest:
        yield f"\nThe fastest of the others is {fastest[0]}; `{_FIRST}` takes {fastest[1]} of its time."
    yield ""


def _costs(costs: Sequence[Cost], rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Write what stands for itself."""
    if not costs and not rows:
        return
    yield "## Other figures\n"
    yield "| | what | |"
    yield "|---|---|---|"
    for cost in costs:
        yield f"| {cost.benchmark} | {cost.what} | {cost.value:.3g} {cost.unit} |"
    for row in rows:
        requested = ", ".join(f"{count} {method}" for method, count in sorted(row["requests"].items()))
        yield (
            f"| {row['benchmark']} | {row['contender']}: {row['rate']:.0f} {row['unit']} a second | "
            f"{row['seconds']:.2f} s, {row['peak_memory'] / 1e6:.0f} MB, {requested} |"
        )
