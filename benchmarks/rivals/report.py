"""The table, for a terminal and for the documentation."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from benchmarks.rivals.judging import Mark, Row, VerificationResult
from benchmarks.rivals.runner import Field, Played
from benchmarks.rivals.stage import DEADLINE, Contender

__all__ = ["PAGE", "as_page", "as_text", "withdrawn"]

#: Where the page stands, from the root of the checkout.
PAGE = "docs/rivals.md"

_HEAD = """\
# Other downloaders

What other downloaders do with injected faults, compared with this library. `python -m benchmarks.rivals --write`
writes this page; only a complete run can. Measured on {date} (UTC) on {system}, with
{versions}; this library is arena_async {ours}.

They are good tools with other goals: parfive downloads many files with little code, pypdl one file over many
connections, pooch files whose digests a project knows beforehand. The faults here are those that matter with services
that publish no digest, count requests and sign their URLs. Each row is one case of a row of the fault matrix
(`tests/matrix`), which tests this library with many more.

{table}

* **yes**: everything that the row requires.
* **gives up**: no harm is done and the failure is reported, but the file could have been downloaded.
* **NO**: wrong bytes under a final name, a failure reported as success, a secret disclosed, more requests than
  required, or a process that does not end.
* **-**: not applicable.

## Method

Every contender runs in its own process against a raw HTTP server on loopback that injects the fault; one that has not
ended after {deadline:.0f} seconds is killed and reported as running. It is used as its documentation recommends, with
its safety features enabled ([contenders.py](../benchmarks/rivals/contenders.py)):

| contender | call |
|---|---|
| parfive | `Downloader(max_conn=4)`, and `retry()` three times for failed files |
| pypdl | `Pypdl(max_concurrent=4).start(retries=3)`, segments and the validation of ETags enabled |
| pooch | `create(retry_if_failed=3)` and `fetch`; `retrieve` where it chooses the name |
| aiohttp loop | ten lines: a session, `gather`, `raise_for_status`, `iter_chunked` into the file with a given name |
| arena_async | `Mirror` with its default options, over a set of URLs; no digest is given |

*Digest known* means that the SHA-256 of every file is given beforehand: as `checksum=` (and failed files are queued
once more with it, because `retry()` drops it), in the registry of pooch, or for comparison with the hash that pypdl
computes. Arena and CentrePoint publish none, so the columns without it are what users of these services get; the
others show what the same tool does with known digests. TR58, TR70, TR72, QU12, ST26 and CC30 download each file as a
whole with parfive and pypdl (`max_splits=1`, `multisegment=False`), which costs the fewest requests; ST26 and ST33 let
pypdl use what an earlier run left (`overwrite=False`).

To repeat it: `python -m benchmarks.rivals`, or `nox -s rivals`, on Linux or macOS. The newest releases are installed
into an environment of their own; after that only loopback is used. `python -m benchmarks.rivals TR18 --only parfive`
runs one row with one of them.
"""


def as_text(played: Sequence[Played], field: Field) -> str:
    """Return the table for a terminal."""
    titles = [contender.title for contender in field.contenders]
    widths = [max(len(title), len(Mark.GIVES_UP)) for title in titles]
    lines = [_versions(field), "", " " * 6 + "  ".join(map(str.ljust, titles, widths)).rstrip()]
    for row, cells in _by_row(played):
        marks = map(str.ljust, (str(result.mark) for _, result in cells), widths)
        lines.append(f"{row.id:<6}{'  '.join(marks).rstrip()}")
    return "\n".join([*lines, "", *withdrawn(played)])


def as_page(played: Sequence[Played], field: Field) -> str:
    """Return the page for the documentation."""
    head = _HEAD.format(
        date=datetime.now(UTC).date().isoformat(),
        versions=_versions(field),
        system=f"Python {platform.python_version()}, {platform.system()}",
        ours=field.ours["arena-async"],
        table="\n".join(_table(played, field)),
        deadline=DEADLINE,
    )
    parts = [head, "## Claims that do not hold any more\n", *_claims(played), "\n## Results\n"]
    for row, cells in _by_row(played):
        parts += _details(row, cells)
    return "\n".join(parts).rstrip() + "\n"


def withdrawn(played: Sequence[Played]) -> list[str]:
    """Return a line for each downloader that was expected to fail a row and does not."""
    return [
        f"{row.id} ({row.short}): {contender.title} failed before, and does not fail any more."
        for row, contender, result in played
        if contender.name in row.said and not contender.careful and result.mark is Mark.YES
    ]


def _claims(played: Sequence[Played]) -> Iterator[str]:
    """Yield which earlier claims this run takes back."""
    found = withdrawn(played)
    if not found:
        yield "Every contender that failed a row in the first measurement fails it in this run too."
        return
    yield "Failures in the first measurement of a row that this run does not confirm:\n"
    yield from (f"* {line}" for line in found)


def _versions(field: Field) -> str:
    return ", ".join(f"{name} {version}" for name, version in field.versions.items())


def _by_row(played: Sequence[Played]) -> Iterator[tuple[Row, list[tuple[Contender, VerificationResult]]]]:
    for row in dict.fromkeys(row.id for row, _, _ in played):
        cells = [(one, contender, result) for one, contender, result in played if one.id == row]
        yield cells[0][0], [(contender, result) for _, contender, result in cells]


def _table(played: Sequence[Played], field: Field) -> Iterator[str]:
    yield "| row | fault | " + " | ".join(contender.title for contender in field.contenders) + " |"
    yield "|---|---|" + "---|" * len(field.contenders)
    for row, cells in _by_row(played):
        marks = (f"**{result.mark}**" if result.mark is Mark.NO else str(result.mark) for _, result in cells)
        yield f"| {row.id} | {row.short} | " + " | ".join(marks) + " |"


def _details(row: Row, cells: Sequence[tuple[Contender, VerificationResult]]) -> Iterator[str]:
    """Write what a row asks and what each did; those who did the same share a line."""
    yield f"### {row.id}: {row.short}\n"
    yield f"Fault: {row.world}. Required: {row.owed}.\n"
    if row.notice:
        yield f"{row.notice}\n"
    yield "| contender | | observed |"
    yield "|---|---|---|"
    same: dict[VerificationResult, list[str]] = {}
    for contender, result in cells:
        same.setdefault(result, []).append(contender.title)
    for result, titles in same.items():
        yield f"| {'; '.join(titles)} | {result.mark} | {result.seen} |"
    yield ""
