"""Who takes part, in which versions, and how the rows are played to them."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import attrs

from benchmarks.rivals.judging import Mark, Row, VerificationResult
from benchmarks.rivals.stage import ROOT, Contender, Stage, scripted

__all__ = ["Field", "Played", "play"]

RIVALS = ("parfive", "pypdl", "pooch")
#: What the others stand on, and what the loop is made of.
BELOW = ("aiohttp", "requests")

Played = tuple[Row, Contender, VerificationResult]

_VERSIONS = (
    "import json, sys; from importlib.metadata import version; "
    "print(json.dumps({name: version(name) for name in sys.argv[1:]}))"
)


@attrs.frozen(kw_only=True)
class Field:
    """
    Everybody who takes part.

    Args:
        contenders: In the order of the columns.
        versions: Of the rivals and of what they stand on, by name.
        ours: What we ran on, by name.
    """

    contenders: tuple[Contender, ...]
    versions: dict[str, str]
    ours: dict[str, str]

    @classmethod
    def gather(cls, environment: Path, *, only: Sequence[str] = ()) -> Self:
        """
        Install the newest releases of the rivals, and line everybody up.

        Args:
            environment: Where to; it is used again when it is there, and brought up to date.
            only: Columns, or nothing for all.
        """
        # The contenders have a working directory of their own, where a relative path is another one.
        python = str(environment.absolute() / "bin" / "python")
        contenders = [
            Contender(name=name, title=f"{name}{', digest known' if careful else ''}", python=python, careful=careful)
            for name in RIVALS
            for careful in (False, True)
        ]
        contenders.append(Contender(name="loop", title="aiohttp loop", python=python))
        contenders.append(Contender(name="arena_async", title="arena_async", python=sys.executable))
        chosen = tuple(one for one in contenders if not only or one.title in only)
        strangers = any(one.python == python for one in chosen)
        if strangers:
            _install(environment, python)
        return cls(
            contenders=chosen,
            versions=_ask_versions(python, *RIVALS, *BELOW) if strangers else {},
            ours=_ask_versions(sys.executable, "arena-async", "aiohttp"),
        )


def _install(environment: Path, python: str) -> None:
    """Make an environment with the newest releases, or bring it up to date."""
    if not Path(python).exists():
        venv.create(environment, with_pip=True, symlinks=True)
    quietly = ("--quiet", "--disable-pip-version-check", "--upgrade", "--upgrade-strategy", "eager")
    subprocess.run([python, "-m", "pip", "install", *quietly, *RIVALS, *BELOW], check=True, timeout=600)


def _ask_versions(python: str, *names: str) -> dict[str, str]:
    """Ask an interpreter which releases it has."""
    requested = subprocess.run(
        [python, "-c", _VERSIONS, *names], capture_output=True, text=True, check=True, timeout=60, cwd=ROOT
    )
    return dict(json.loads(requested.stdout))


async def play(rows: Sequence[Row], field: Field, directory: Path) -> list[Played]:
    """Play each row to everybody, a few at a time, each on a stage of its own."""
    free = asyncio.Semaphore(os.cpu_count() or 2)

    async def one(row: Row, contender: Contender) -> Played:
        if contender.name in row.unasked:
            return row, contender, VerificationResult(Mark.UNASKED, row.unasked[contender.name])
        place = directory / f"{row.id}-{contender.title.replace(', ', '-').replace(' ', '-')}"
        async with free, scripted.RawServer() as server, scripted.RawServer() as other:
            result = await row.play(Stage(contender, place, server, other))
        print(f"{row.id}  {contender.title:<22} {result.mark:<8}  {result.seen}", file=sys.stderr, flush=True)
        return row, contender, result

    return list(await asyncio.gather(*(one(row, contender) for row in rows for contender in field.contenders)))
