"""What tests of CentrePoint share: a clock for service and client, the samples, and what a folder must hold."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from arena_async import options as library
from arena_async.options import RetryPolicy
from arena_async.providers.centrepoint import CentrePointClient, CentrePointCredentials, DataRequests
from arena_async.providers.centrepoint.api import Api
from arena_async.providers.centrepoint.data_requests import ActiveRequests
from arena_async.providers.send_once import RequestStore
from arena_async.testing.centrepoint.simulator import CentrePointSimulator

__all__ = ["QUICK", "Clock", "SleepersClock", "api_of", "client_of", "is_whole", "naive", "requests_of", "sample_rows"]

#: Tries again at once, so that no test waits.
QUICK = RetryPolicy(attempts=3, wait_initial=0, wait_jitter=0, wait_max=0)
PAYLOADS = Path(__file__).parents[1] / "payloads"


class Clock:
    """A clock that stands until it is moved; the service and a file set may share it."""

    def __init__(self) -> None:
        self.seconds = datetime.now(UTC).replace(microsecond=0).timestamp()

    def __call__(self) -> float:
        return self.seconds

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.seconds, UTC)


class SleepersClock(Clock):
    """A clock that moves by what somebody sleeps."""

    def __init__(self) -> None:
        super().__init__()
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.seconds += seconds
        await asyncio.sleep(0)


def client_of(simulator: CentrePointSimulator) -> CentrePointClient:
    """Make a client of a simulator that tries again at once."""
    return CentrePointClient(
        CentrePointCredentials(simulator.client_id, simulator.client_secret),
        base_url=simulator.base_url,
        auth_url=simulator.auth_url,
        retry=QUICK,
    )


def api_of(client: CentrePointClient, now: Callable[[], datetime]) -> Api:
    """Make the lists and objects of a client that go by the clock of the test."""
    return Api(client.session, tenant="tenant", clock=library.Clock(now=now))


def requests_of(
    client: CentrePointClient, clock: SleepersClock, kind: type[Any], active: ActiveRequests | None = None
) -> Any:
    """Make what starts requests for data, by the clock of the test."""
    timing = library.Clock(monotonic=clock, sleep=clock.sleep, random=lambda: 0.0, now=clock.now)
    records = RequestStore("tenant", now=clock.now)
    return DataRequests(Api(client.session, tenant="tenant", clock=timing), kind, active or ActiveRequests(), records)


def naive(*parts: int) -> datetime:
    """Return a date-time without a zone, as the subject's own clock shows it."""
    return datetime(*parts)  # type: ignore[arg-type,misc]  # noqa: DTZ001 - naive is the point


def sample_rows(name: str) -> list[dict[str, Any]]:
    """Return the rows of a sample page."""
    items: list[dict[str, Any]] = json.loads((PAYLOADS / f"centrepoint_{name}.json").read_text("utf-8"))["items"]
    return items


def is_whole(simulator: CentrePointSimulator, directory: Path) -> bool:
    """Return whether a folder holds exactly the files of the service, under their documented names."""
    found = {
        path.relative_to(directory).as_posix(): path.read_bytes() for path in directory.glob("centrepoint/**/*.gz")
    }
    return found == {key.path: simulator.content(key) for key in simulator.files}
