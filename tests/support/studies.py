"""What tests of CentrePoint share: a clock for service and client, the samples, and what a folder must hold."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from arena_async.providers.centrepoint.simulator import CentrePointSimulator

__all__ = ["Clock", "is_whole", "naive", "sample_rows"]

PAYLOADS = Path(__file__).parents[1] / "payloads"


class Clock:
    """A clock that stands until it is moved; the service and a file set may share it."""

    def __init__(self) -> None:
        self.seconds = datetime.now(UTC).replace(microsecond=0).timestamp()

    def __call__(self) -> float:
        return self.seconds

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.seconds, UTC)


def naive(*parts: int) -> datetime:
    """Give a date-time without a zone, as the subject's own clock shows it."""
    return datetime(*parts)  # type: ignore[arg-type,misc]  # noqa: DTZ001 - naive is the point


def sample_rows(name: str) -> list[dict[str, Any]]:
    """Give the rows of a sample page."""
    items: list[dict[str, Any]] = json.loads((PAYLOADS / f"centrepoint_{name}.json").read_text("utf-8"))["items"]
    return items


def is_whole(simulator: CentrePointSimulator, folder: Path) -> bool:
    """Say whether a folder holds exactly the files of the service, under their documented names."""
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.glob("centrepoint/**/*.gz")}
    return found == {key.path: simulator.content(key) for key in simulator.files}
