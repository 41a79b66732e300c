"""Downloads from a real web server, and what its own log says about them."""

from __future__ import annotations

import asyncio
import gzip
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from filesets import content
from plain_provider import new_session
from served import Nginx, Restart, Served, ServedFiles

from arena_async.errors import TlsError
from arena_async.http.session import Session
from arena_async.options import Clock, TransferOptions
from arena_async.protocol.quota import SlidingWindow
from arena_async.transfer.downloader import Downloader
from arena_async.transfer.models import Action

pytestmark = pytest.mark.real

#: Files come in pieces of this size, and are known to be on the disk piece by piece.
PIECES = TransferOptions(chunk_size=65_536)


@pytest.fixture
async def nginx(tmp_path: Path) -> AsyncIterator[Nginx]:
    """Yield a web server at full speed."""
    async with Nginx(tmp_path) as server:
        yield server


def session_for(server: Nginx, **options: Any) -> Session:
    """Build a session whose allowance is no matter here."""
    return new_session(server.base_url, limiter=SlidingWindow(limit=100_000), **options)


async def test_each_file_costs_one_request(nginx: Nginx, tmp_path: Path) -> None:
    """300 small files: 300 answers in the log of the server, every byte right, on few connections."""
    names = [f"day-{number}.csv" for number in range(300)]
    for name in names:
        (nginx.files / name).write_bytes(content(20_000, seed=name))
    session = session_for(nginx)

    async with Downloader(tmp_path / "here") as downloads:
        report = await downloads.run(ServedFiles(session, names))
    await session.aclose()

    assert report.failures == ()
    assert report.counts[Action.FETCH] == 300
    assert report.requests == 300
    assert sorted(served.path for served in nginx.log) == sorted(f"/{name}" for name in names)
    for name in names:
        assert (tmp_path / "here" / "served" / name).read_bytes() == content(20_000, seed=name)


async def test_bytes_are_stored_as_they_lie_on_the_server(nginx: Nginx, tmp_path: Path) -> None:
    """A server that likes to compress is asked not to, and a file that is compressed stays so."""
    table = b"time,x,y,z\r\n" + b"1,2,3,4\r\n" * 50_000
    (nginx.files / "plain.csv").write_bytes(table)
    (nginx.files / "packed.csv.gz").write_bytes(gzip.compress(table))
    (nginx.files / "empty.csv").write_bytes(b"")
    session = session_for(nginx)

    async with Downloader(tmp_path / "here") as downloads:
        report = await downloads.run(ServedFiles(session, ["plain.csv", "packed.csv.gz", "empty.csv", "moved.csv"]))
    await session.aclose()

    here = tmp_path / "here" / "served"
    assert [(outcome.error, outcome.verified_by) for outcome in report.outcomes] == [
        (None, "length"),
        (None, "crc"),
        (None, "length"),
        (None, "length"),
    ]
    assert (here / "plain.csv").read_bytes() == table
    assert (here / "packed.csv.gz").read_bytes() == (nginx.files / "packed.csv.gz").read_bytes()
    assert (here / "empty.csv").read_bytes() == b""
    assert (here / "moved.csv").read_bytes() == table


async def fetch_through_a_restart(server: Nginx, directory: Path, restart: Restart) -> tuple[bytes, int]:
    """Bring one file home while the server is restarted under it; give its bytes and how often it was asked for."""
    session = session_for(server)

    async def wait(_: float) -> None:
        await asyncio.sleep(0.05)

    async with Downloader(directory, options=PIECES, observer=restart, clock=Clock(sleep=wait)) as downloads:
        report = await downloads.run(ServedFiles(session, ["big.bin"]))
    await session.aclose()
    report.raise_for_failures()
    return (directory / "served" / "big.bin").read_bytes(), report.outcomes[0].attempts


def in_the_log(server: Nginx) -> list[Served]:
    """Return the answers whose end nginx lived to see."""
    return [served for served in server.log if served.path == "/big.bin"]


async def test_a_server_that_goes_away_is_taken_up_where_it_left(tmp_path: Path) -> None:
    """After a restart of the server, the second request asks for the rest of the same file, and only for that."""
    body = content(3_000_000)
    async with Nginx(tmp_path, rate=1_500_000) as nginx:
        (nginx.files / "big.bin").write_bytes(body)

        read, attempts = await fetch_through_a_restart(nginx, tmp_path / "here", Restart(nginx, after=1_000_000))

        (rest,) = in_the_log(nginx)
    assert read == body
    assert attempts >= 2
    assert rest.status == 206
    assert rest.range.startswith("bytes=")
    assert int(rest.range.removeprefix("bytes=").removesuffix("-")) == 3_000_000 - rest.sent >= 1_000_000
    assert rest.if_match not in ("", "-")


async def test_a_file_that_changed_meanwhile_is_fetched_anew(tmp_path: Path) -> None:
    """Two halves of two files never become one: the server says 412, and the new file comes whole."""
    old, new = content(3_000_000, seed="old"), content(2_900_000, seed="new")
    async with Nginx(tmp_path, rate=1_500_000) as nginx:
        (nginx.files / "big.bin").write_bytes(old)

        read, _ = await fetch_through_a_restart(
            nginx, tmp_path / "here", Restart(nginx, after=1_000_000, meanwhile=new)
        )

        answers = in_the_log(nginx)
    assert read == new
    assert [answer.status for answer in answers] == [412, 200]


async def test_a_missing_file_fails_alone(nginx: Nginx, tmp_path: Path) -> None:
    """One answer of 404 is one failed file; it is not asked for again, and the others come."""
    (nginx.files / "a.csv").write_bytes(b"a")
    (nginx.files / "c.csv").write_bytes(b"c")
    session = session_for(nginx)

    async with Downloader(tmp_path / "here") as downloads:
        report = await downloads.run(ServedFiles(session, ["a.csv", "b.csv", "c.csv"]))
    await session.aclose()

    assert [getattr(outcome.error, "status", None) for outcome in report.outcomes] == [None, 404, None]
    assert sorted((served.path, served.status) for served in nginx.log) == [
        ("/a.csv", 200),
        ("/b.csv", 404),
        ("/c.csv", 200),
    ]


async def test_a_certificate_nobody_vouches_for_ends_it(tmp_path: Path) -> None:
    """Over TLS with our own authority the file comes; without it nothing does, after one try."""
    authority = trustme.CA()
    pem = tmp_path / "server.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(pem))
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    async with Nginx(tmp_path, certificate=pem) as nginx:
        (nginx.files / "a.bin").write_bytes(content(2_000_000))
        known, stranger = session_for(nginx, ssl=trusting), session_for(nginx)

        async with Downloader(tmp_path / "here") as downloads:
            good = await downloads.run(ServedFiles(known, ["a.bin"]))
        async with Downloader(tmp_path / "there") as downloads:
            bad = await downloads.run(ServedFiles(stranger, ["a.bin"]))
        await known.aclose()
        await stranger.aclose()

        answers = nginx.log
    assert good.failures == ()
    assert (tmp_path / "here" / "served" / "a.bin").read_bytes() == content(2_000_000)
    assert [type(outcome.error) for outcome in bad.outcomes] == [TlsError]
    assert [answer.status for answer in answers] == [200]
