"""Runs of extracts and exports as a scripted Arena lists them, with one file unless a row wants it otherwise."""

from __future__ import annotations

import random
from typing import Any

from filesets import zipped
from scripted import Answer, json_reply
from services import ArenaScript, page

__all__ = [
    "EXPORT_PLACE",
    "EXTRACT",
    "EXTRACT_PLACE",
    "FILE",
    "RUN",
    "ZIP",
    "export_of_one",
    "export_run",
    "extract_of_one",
]

EXTRACT, RUN, FILE = "FXH0EBFHS9SK3M5O7QS1", "GYI1FCGIT0TL4N6P8RT2", "3L5O2Z35GXG6P8R88MYW"
#: Where the file comes home to.
EXTRACT_PLACE = f"arena/extracts/{EXTRACT}/{RUN}/{FILE}.zip"
EXPORT_PLACE = f"arena/exports/{EXTRACT}/{RUN}/{FILE}.zip"


ZIP = zipped(random.Random(5).randbytes(100_000))


def extract_of_one(service: ArenaScript, *content_answers: Answer, downloaded: str | None = None) -> None:
    """List one run of an extract with one file, and answer for its content."""
    run = {"guid": RUN, "status": "COMPLETED", "completionDateTime": "2026-05-01T06:00:00Z"}
    association = {"guid": FILE, "downloadDateTime": downloaded}
    service.on("GET", f"/extracts/{EXTRACT}/runs/latestCompleted", json_reply({**run, "files": [association]}))
    service.on("GET", f"/extracts/{EXTRACT}/runs", page([{**run, "files": [association]}]))
    service.on("GET", f"/extracts/{EXTRACT}/runs/{RUN}/files", page([association]))
    service.on("GET", f"/extracts/{EXTRACT}/runs/{RUN}/files/{FILE}/content", *content_answers)


def export_run(*files: str, status: str = "COMPLETE", **changes: Any) -> dict[str, Any]:
    """Write a run of an export; a change to None leaves the field out."""
    run = {
        "guid": RUN,
        "status": status,
        "completionDateTime": "2036-05-01T06:00:00Z",
        "files": [{"guid": file, "title": None} for file in files or (FILE,)],
        **changes,
    }
    return {name: value for name, value in run.items() if value is not None}


def export_of_one(service: ArenaScript, run: dict[str, Any], *content_answers: Answer) -> None:
    """List one run of an export, alone and among its runs, and answer for the content of its first file."""
    service.on("GET", f"/exports/{EXTRACT}/runs", page([run]))
    service.on("GET", f"/exports/{EXTRACT}/runs/{RUN}", json_reply(run))
    service.on("GET", f"/exports/{EXTRACT}/runs/{RUN}/files/{FILE}/content", *content_answers)
