"""What a real web server says when it does not simply give the file, and what its own log says about us."""

from __future__ import annotations

import asyncio
import gzip
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from filesets import content
from plain_provider import new_session
from served import Nginx, Restart, ServedFiles

from arena_async.errors import ContentError, StalledError, TransportError
from arena_async.http.session import Session
from arena_async.options import Clock, Timeouts, TransferOptions
from arena_async.protocol.quota import SlidingWindow
from arena_async.transfer.downloader import Downloader
from arena_async.transfer.outcomes import Report

pytestmark = pytest.mark.real

PIECES = TransferOptions(chunk_size=65_536)


@pytest.fixture
async def nginx(tmp_path: Path) -> AsyncIterator[Nginx]:
    """Yield a web server at full speed."""
    async with Nginx(tmp_path) as server:
        yield server


async def fetch(session: Session, directory: Path, *names: str, attempts: int = 5) -> Report:
    """Bring some names home, waiting no time between two tries."""

    async def at_once(_: float) -> None:
        await asyncio.sleep(0)

    options = TransferOptions(chunk_size=65_536, attempts=attempts)
    async with Downloader(directory, options=options, clock=Clock(sleep=at_once)) as downloads:
        return await downloads.run(ServedFiles(session, names))


def session_for(server: Nginx, *, timeouts: Timeouts | None = None) -> Session:
    """Build a session whose allowance is no matter here."""
    return new_session(server.base_url, limiter=SlidingWindow(limit=100_000), timeouts=timeouts)


def put(server: Nginx, name: str, body: bytes) -> None:
    """Let the server have a file."""
    path = server.files / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(body)


async def test_a_crowded_server_is_waited_for_as_long_as_it_says(nginx: Nginx, tmp_path: Path) -> None:
    """429 with Retry-After: the host is left alone for at least so long, and all files come."""
    names = [f"crowded/day-{number}.csv" for number in range(8)]
    for name in names:
        put(nginx, name, content(300_000, seed=name))
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)
        await asyncio.sleep(0.5)  # until the others are served, which takes the server 0.3 s

    session = session_for(nginx)
    async with Downloader(tmp_path / "here", options=PIECES, clock=Clock(sleep=sleep)) as downloads:
        report = await downloads.run(ServedFiles(session, names))
    await session.aclose()

    report.raise_for_failures()
    statuses = Counter(served.status for served in nginx.log)
    assert statuses[200] == 8
    # All in flight may be refused, and nobody asks again until the time is over: what is left of it is waited for.
    assert 1 <= statuses[429] <= 8
    assert max(waited) >= 7
    assert all(seconds < 70 for seconds in waited)
    for name in names:
        assert (tmp_path / "here" / "served" / name).read_bytes() == content(300_000, seed=name)


async def test_a_server_that_hangs_up_is_asked_as_often_as_is_said(nginx: Nginx, tmp_path: Path) -> None:
    """No answer at all: each try is one request in the server's log, none is hidden, and the other file comes."""
    put(nginx, "whole.csv", b"1,2\n")
    session = session_for(nginx)

    report = await fetch(session, tmp_path / "here", "cut/a.csv", "whole.csv", attempts=3)
    await session.aclose()

    failed, whole = report.outcomes
    assert isinstance(failed.error, TransportError)
    assert whole.error is None
    requested = [served for served in nginx.log if served.path == "/cut/a.csv"]
    assert [served.status for served in requested] == [444] * failed.attempts
    assert 3 <= failed.attempts <= 4
    assert report.requests == failed.attempts + 1


async def test_a_server_without_ranges_is_asked_for_the_whole_again(tmp_path: Path) -> None:
    """A body that broke is begun anew, and comes right."""
    body = content(3_000_000)
    async with Nginx(tmp_path, rate=1_500_000) as nginx:
        put(nginx, "rangeless/big.bin", body)
        session = session_for(nginx)
        restart = Restart(nginx, after=1_000_000)

        async def wait(_: float) -> None:
            await asyncio.sleep(0.05)

        async with Downloader(
            tmp_path / "here", options=PIECES, observer=restart, clock=Clock(sleep=wait)
        ) as downloads:
            report = await downloads.run(ServedFiles(session, ["rangeless/big.bin"]))
        await session.aclose()
        (again,) = nginx.log

    report.raise_for_failures()
    assert (tmp_path / "here" / "served" / "rangeless" / "big.bin").read_bytes() == body
    assert (again.status, again.sent) == (200, 3_000_000)
    assert again.range.startswith("bytes=")


async def test_a_server_that_has_a_packed_twin_gives_the_file_itself(nginx: Nginx, tmp_path: Path) -> None:
    """It is asked not to pack; one that packs all the same is refused, since the bytes would not be the file's."""
    table = b"time,x,y,z\r\n" + b"1,2,3,4\r\n" * 50_000
    for directory in ("packed", "always-packed"):
        put(nginx, f"{directory}/table.csv", table)
        put(nginx, f"{directory}/table.csv.gz", gzip.compress(table))
    session = session_for(nginx)

    report = await fetch(session, tmp_path / "here", "packed/table.csv", "always-packed/table.csv")
    await session.aclose()

    plain, packed = report.outcomes
    assert plain.error is None
    assert (tmp_path / "here" / "served" / "packed" / "table.csv").read_bytes() == table
    assert isinstance(packed.error, ContentError)
    assert not (tmp_path / "here" / "served" / "always-packed").exists()


async def test_a_server_that_is_slower_than_allowed_is_left(nginx: Nginx, tmp_path: Path) -> None:
    """4 KiB a second where at least 64 were wanted: it is left after a second, and the file has failed alone."""
    put(nginx, "slow/day.csv", content(200_000))
    put(nginx, "fast.csv", content(200_000))
    session = session_for(nginx, timeouts=Timeouts(slowest_rate=65_536, slowest_over=1))

    report = await fetch(session, tmp_path / "here", "slow/day.csv", "fast.csv", attempts=1)
    await session.aclose()

    slow, fast = report.outcomes
    assert isinstance(slow.error, StalledError)
    assert fast.error is None
