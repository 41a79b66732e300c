"""The door: ``python -m benchmarks.rivals [row ...] [--write] [--json] [--environment DIR]``."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.rivals import report
from benchmarks.rivals.judging import Mark
from benchmarks.rivals.rows import ROWS
from benchmarks.rivals.runner import Field, play
from benchmarks.rivals.stage import ROOT


def main(arguments: Sequence[str] | None = None) -> int:
    """Play what is asked for; 1 when we do not survive a row ourselves."""
    names = [row.id for row in ROWS]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rivals", description=__doc__)
    parser.add_argument("row", nargs="*", help=f"one of {', '.join(names)}; all when none is named")
    parser.add_argument("--only", action="append", default=[], help="a contender by its column; all when none is named")
    parser.add_argument("--environment", type=Path, help="where to install the rivals and leave them (a passing place)")
    parser.add_argument("--write", action="store_true", help=f"write {report.PAGE}")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    given = parser.parse_args(arguments)
    if unknown := set(given.row) - set(names):
        parser.error(f"there is no row called {', '.join(sorted(unknown))}")
    if given.write and (given.row or given.only):
        parser.error("only a whole run can be written down")

    with tempfile.TemporaryDirectory(prefix="rivals-") as directory:
        field = Field.gather(given.environment or Path(directory) / "environment", only=given.only)
        if not field.contenders:
            parser.error(f"there is no contender called {', '.join(given.only)}")
        rows = [row for row in ROWS if not given.row or row.id in given.row]
        results = asyncio.run(play(rows, field, Path(directory)))
    if given.json:
        for row, contender, result in results:
            line = {"row": row.id, "contender": contender.title, "mark": result.mark, "seen": result.seen}
            print(json.dumps(line))
    else:
        print(report.as_text(results, field))
    if given.write:
        (ROOT / report.PAGE).write_text(report.as_page(results, field), encoding="utf-8")
    ours = [result for _, contender, result in results if contender.name == "arena_async"]
    return 0 if all(result.mark is Mark.YES for result in ours) else 1


if __name__ == "__main__":
    sys.exit(main())
