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

How long this library takes to bring files home, beside programs and libraries that only bring files. `python -m
benchmarks --write` writes this page and its picture. Measured on {date} (UTC): {system}, {versions}.

![Wall time of everybody](performance.svg)

nginx with one worker on loopback is the web server. Everybody is a process of its own, measured whole: the start of an
interpreter and its imports count. The order within a round is shuffled; ratios (`x`) are made within a round, and shown
as their median and range. Everybody may have {connections} connections. Times differ by a factor of two between
machines and days; only the ratios mean something, and on loopback they show what the processor has to do: over a real
line everybody waits for the line. Loads called *far* come through a proxy that adds the way and caps each connection.

**We do more than the others.** `mirror` verifies every file, hashes it with SHA-256, forces it to the disk in groups
before it gets its name, and remembers it in a ledger; `mirror-no-digest` leaves the hash out, `mirror-not-durable` does
not force anything to the disk, `downloader` remembers nothing. `mirror-centrepoint` also lists the files from a
simulated CentrePoint, brings them through its signed links, and verifies the MD5 of each; the others are given a list
of addresses. None of the others forces anything to the disk or verifies more than a length. `loop` is what tutorials
show: aiohttp, aiofiles, a semaphore and `gather`. What the time buys is in [Guarantees](guarantees.md), and what the
others do where something goes wrong in [Rivals](rivals.md).
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
    """Give the page."""
    head = _HEAD.format(
        date=at.date,
        system=at.system,
        versions=", ".join(f"{name} {version}" for name, version in at.versions.items()),
        connections=at.connections,
    )
    parts = [head, *_goals(goals), "## What is slower\n", *(f"* {line}" for line in slower(tables)), "\n## Everybody\n"]
    for table in tables:
        parts += _section(table)
    parts += _costs(costs, rows)
    return "\n".join(parts).rstrip() + "\n"


_GOALS = """\
## What we want, and what is reached

`python -m benchmarks --goals` measures these lines and judges them by their medians; ratios are within a round, with
the range of all rounds behind them. They count everything that `mirror` does more than the others.
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
    """Give the picture."""
    panels = {
        _title(table.laps[0]): [(name, table.spread(name, "seconds"), name in OURS) for name in table.contenders]
        for table in tables
    }
    return draw(panels, title="Wall time of a whole process", unit="seconds")


def slower(tables: Sequence[Table]) -> list[str]:
    """Say for each load who is faster than we are, one line each."""
    lines = []
    for table in tables:
        if _FIRST not in table.contenders:
            continue
        ours = table.spread(_FIRST, "seconds").middle
        faster = [name for name in table.contenders if name not in OURS and table.spread(name, "seconds").middle < ours]
        name = _title(table.laps[0])
        if faster:
            named = ", ".join(f"{one} ({_times(table.against(_FIRST, one))})" for one in faster)
            lines.append(f"{name}: `{_FIRST}` takes so many times as long as {named}.")
        else:
            lines.append(f"{name}: nobody here is faster than `{_FIRST}`.")
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
    yield "## What we take beside that\n"
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
