"""The table, for a terminal and for the documentation."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from benchmarks.rivals.rows import Mark, Row, VerificationResult
from benchmarks.rivals.runner import Field, Played
from benchmarks.rivals.stage import DEADLINE, Contender

__all__ = ["PAGE", "as_page", "as_text", "withdrawn"]

#: Where the page stands, from the root of the checkout.
PAGE = "docs/rivals.md"

_HEAD = """\
# Rivals

What other downloaders do where the world misbehaves, beside what this library does. `python -m benchmarks.rivals
--write` writes this page, and only a whole run can. It was measured on {date} (UTC) with {versions}
on {system}; ours is arena_async {ours}.

They are good tools with other aims: parfive brings many files with few words, pypdl one file over many connections,
pooch files whose digests a project knows beforehand. What is asked here is what matters with services that announce no
digest, ration requests and sign their links. Each row is one point of a row of the fault matrix (`tests/matrix`), where
this library is asked much more.

{table}

* **yes**: everything that is owed, as the row says below.
* **gives up**: no harm is done and the user is told, but the file that could be had is not there.
* **NO**: wrong bytes under a final name, a failure called a success, a secret handed over or shown, more requests than
  files, or a process that does not end.
* **-**: it cannot be asked.

## How they were asked

Every contender runs in a process of its own against a raw HTTP server on loopback that plays the fault; one that has
not ended after {deadline:.0f} seconds is killed and called running. It is asked as its documentation says, with what it
offers for safety switched on ([contenders.py](../benchmarks/rivals/contenders.py)):

| contender | asked with |
|---|---|
| parfive | `Downloader(max_conn=4)`, and `retry()` three times for what failed |
| pypdl | `Pypdl(max_concurrent=4).start(retries=3)`, segments and the validation of ETags on |
| pooch | `create(retry_if_failed=3)` and `fetch`; `retrieve` where it chooses the name |
| aiohttp loop | ten lines: a session, `gather`, `raise_for_status`, `iter_chunked` into the file, whose name is given |
| arena_async | `Mirror` with the options it comes with, over a set of links; no digest is given to it anywhere |

*Digest known* means that the SHA-256 of every file is handed in beforehand: as `checksum=` (and what failed is enqueued
once more with it, because `retry()` forgets it), in the registry of pooch, or for comparison with the hash that pypdl
computes. Arena and CentrePoint announce none, so the columns without it are what users of these services get; the
others show what the same tool does for those who have digests. QU12 asks parfive and pypdl for files in one piece
(`max_splits=1`, `multisegment=False`), which costs the fewest requests.

To see it again: `python -m benchmarks.rivals`, or `nox -s rivals`, on Linux or macOS. The newest releases are installed
into an environment of their own; after that nothing but loopback is touched. `python -m benchmarks.rivals TR18 --only
parfive` plays one row to one of them.
"""


def as_text(played: Sequence[Played], field: Field) -> str:
    """Give the table for a terminal."""
    titles = [contender.title for contender in field.contenders]
    widths = [max(len(title), len(Mark.GIVES_UP)) for title in titles]
    lines = [_versions(field), "", " " * 6 + "  ".join(map(str.ljust, titles, widths)).rstrip()]
    for row, cells in _by_row(played):
        marks = map(str.ljust, (str(result.mark) for _, result in cells), widths)
        lines.append(f"{row.id:<6}{'  '.join(marks).rstrip()}")
    return "\n".join([*lines, "", *withdrawn(played)])


def as_page(played: Sequence[Played], field: Field) -> str:
    """Give the page for the documentation."""
    head = _HEAD.format(
        date=datetime.now(UTC).date().isoformat(),
        versions=_versions(field),
        system=f"Python {platform.python_version()}, {platform.system()}",
        ours=field.ours["arena-async"],
        table="\n".join(_table(played, field)),
        deadline=DEADLINE,
    )
    parts = [head, "## Claims that do not hold\n", *_claims(played), "\n## What each did\n"]
    for row, cells in _by_row(played):
        parts += _details(row, cells)
    return "\n".join(parts).rstrip() + "\n"


def withdrawn(played: Sequence[Played]) -> list[str]:
    """Say of whom it was said that they fail a row, and who does not, one line each."""
    return [
        f"{row.id} ({row.short}): {contender.title} was said to fail, and does not."
        for row, contender, result in played
        if contender.name in row.said and not contender.careful and result.mark is Mark.YES
    ]


def _claims(played: Sequence[Played]) -> Iterator[str]:
    """Say which earlier claims this run takes back."""
    found = withdrawn(played)
    if not found:
        yield "Everybody who was said to fail a row when it was first measured fails it in this run too."
        return
    yield "Said when the rows were first measured, with other scripts, and taken back by this run:\n"
    yield from (f"* {line}" for line in found)


def _versions(field: Field) -> str:
    return ", ".join(f"{name} {version}" for name, version in field.versions.items())


def _by_row(played: Sequence[Played]) -> Iterator[tuple[Row, list[tuple[Contender, VerificationResult]]]]:
    for row in dict.fromkeys(row.id for row, _, _ in played):
        cells = [(one, contender, result) for one, contender, result in played if one.id == row]
        yield cells[0][0], [(contender, result) for _, contender, result in cells]


def _table(played: Sequence[Played], field: Field) -> Iterator[str]:
    yield "| row | the world | " + " | ".join(contender.title for contender in field.contenders) + " |"
    yield "|---|---|" + "---|" * len(field.contenders)
    for row, cells in _by_row(played):
        marks = (f"**{result.mark}**" if result.mark is Mark.NO else str(result.mark) for _, result in cells)
        yield f"| {row.id} | {row.short} | " + " | ".join(marks) + " |"


def _details(row: Row, cells: Sequence[tuple[Contender, VerificationResult]]) -> Iterator[str]:
    """Write what a row asks and what each did; those who did the same share a line."""
    yield f"### {row.id}: {row.short}\n"
    yield f"The world: {row.world}. Owed: {row.owed}.\n"
    if row.notice:
        yield f"{row.notice}\n"
    yield "| who | | what was seen |"
    yield "|---|---|---|"
    same: dict[VerificationResult, list[str]] = {}
    for contender, result in cells:
        same.setdefault(result, []).append(contender.title)
    for result, titles in same.items():
        yield f"| {'; '.join(titles)} | {result.mark} | {result.seen} |"
    yield ""
