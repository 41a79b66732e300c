"""Rows TR57 to TR64: responses out of order, bytes that belong to none, and content by whose it is."""

from __future__ import annotations

import asyncio
import errno
import gzip
import math
from collections.abc import Callable
from typing import Any

import pytest
from disks import FaultyDisk
from filesets import content, zipped
from matrix import World, case, control, row
from plain_provider import new_session
from scripted import RawServer, Reply, Seen, reply
from session_files import ETAG, Hours, download, remote, session_files

from arena_async.errors import ContentError
from arena_async.options import RetryPolicy
from arena_async.protocol.files import OpenedFile
from arena_async.protocol.messages import Request
from arena_async.transfer.verify import ContentVerifier

NAMES = "abcdef"
FIRST_BYTES = "an answer that is no file is told by its first bytes"
#: Below and above what is received by the connection itself.
SIZES = [3000, 600_000]


def bodies(size: int) -> dict[str, bytes]:
    """Return files of one size, which nothing but their bytes tells apart."""
    return {name: content(size, name) for name in NAMES}


def whole(body: bytes) -> bytes:
    """Write a response."""
    return f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


# ---------------------------------------------------------------------------------------------------- out of order


@row("TR57", protection="a connection on which something is unread is not used again")
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("rest", ["response", control("garbage", reason="The HTTP client ends the connection itself.")])
async def test_a_response_too_many_on_an_idle_connection_is_nobodys(world: World, size: int, rest: str) -> None:
    """TR57: it arrives between two requests; each file is requested once, the others over another connection."""
    found = bodies(size)
    sent, lets_go = asyncio.Event(), asyncio.Event()
    surplus = whole(content(size, "stale")) if rest == "response" else b"\x00\x01\x02\r\n" * 100

    async def between() -> None:
        await lets_go.wait()
        sent.set()

    rows = [remote(name) for name in NAMES]
    async with RawServer() as server, session_files(world, server, *rows) as files:
        for name, body in found.items():
            world.allow(f"files/{name}.bin", body)
            server.on("GET", f"/{name}", reply(body=body))
        first = reply(body=found["a"] + surplus, length=size, piece=size, between=between)
        server.on("GET", "/a", first)
        plainly = files.open

        async def later(file: Any, **how: Any) -> OpenedFile:
            if file.stem == "b":
                lets_go.set()
                await sent.wait()
                for _ in range(20):
                    await asyncio.sleep(0)
            return await plainly(file, **how)

        files.open = later  # type: ignore[method-assign]
        report = await download(world, files, workers=1)

    assert report.failures == ()
    assert {name: (world.root / f"files/{name}.bin").read_bytes() for name in NAMES} == found
    assert [seen.path for seen in server.requests] == [f"/{name}" for name in NAMES]
    assert server.connections == 2


@row("TR58", protection="a file is reported when its connection was empty")
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("count", [2, 6])
@pytest.mark.parametrize("remember", [False, True])
async def test_a_response_too_many_that_comes_late_is_nobodys(
    world: World, size: int, count: int, remember: bool
) -> None:
    """TR58: after the next request was sent: that one gets it, and all later ones the response before theirs."""
    found = {name: body for name, body in bodies(size).items() if name in NAMES[:count]}
    asked = asyncio.Event()
    stale = content(size, "stale")
    rows = [remote(name) for name in found]
    async with RawServer() as server, session_files(world, server, *rows) as files:
        for name, body in found.items():
            world.allow(f"files/{name}.bin", body, *found.values(), stale)
            server.on("GET", f"/{name}", reply(body=body))
        first = reply(body=found["a"] + whole(stale), length=size, piece=size, between=asked.wait)
        server.on("GET", "/a", first)
        plainly = files.open

        async def at_once(file: Any, **how: Any) -> OpenedFile:
            if file.stem == "b":
                asyncio.get_running_loop().call_soon(asked.set)
            return await plainly(file, **how)

        files.open = at_once  # type: ignore[method-assign]
        report = await download(world, files, workers=1, remember=remember)

    assert report.failures == ()
    assert len(report.outcomes) == count
    assert {name: (world.root / f"files/{name}.bin").read_bytes() for name in found} == found
    assert [seen.path for seen in server.requests].count("/a") == 1
    assert len(server.requests) <= 2 * count


class Coming(Hours):
    """Time in which a response that is late by some seconds is written as soon as these have passed."""

    def __init__(self, late: float) -> None:
        super().__init__()
        self._late, self._due, self._wakes = late, math.inf, asyncio.Event()

    async def response(self) -> None:
        """Wait for the time of the late response."""
        self._due = self.passed + self._late
        await self._wakes.wait()

    async def sleep(self, seconds: float) -> None:
        """Let time pass, and after that the bytes that are on their way arrive."""
        await super().sleep(seconds)
        if self.passed >= self._due:
            self._wakes.set()
        for _ in range(20):
            await asyncio.sleep(0)


@row("TR58", protection="a file is reported when its connection was empty")
@pytest.mark.parametrize("late", [0.1, 0.2, 0.35])
async def test_a_response_that_is_late_may_be_slower_than_those_before(world: World, late: float) -> None:
    """TR58: the slowest one before took 0.2 seconds; the late one is the last one of the run."""
    found = {name: body for name, body in bodies(3000).items() if name in "ab"}
    stale, hours = content(4000, "stale"), Coming(late)

    def slow(seen: Seen) -> Reply:
        hours.passed += 0.2
        return reply(body=found["a"])

    async with RawServer() as server, session_files(world, server, *map(remote, found), hours=hours) as files:
        for name, body in found.items():
            world.allow(f"files/{name}.bin", body, stale)
        server.on("GET", "/a", slow)
        both = reply(body=stale + whole(found["b"]), length=len(stale), piece=len(stale), between=hours.response)
        server.on("GET", "/b", both, reply(body=found["b"]))
        report = await download(world, files, hours=hours, workers=1)

    assert report.failures == ()
    assert {name: (world.root / f"files/{name}.bin").read_bytes() for name in found} == found


@row("TR59", protection="what follows a whole body is not of it", seconds=10)
@pytest.mark.parametrize("size", [3000, control(600_000, reason="The connection itself receives no more than it.")])
@pytest.mark.parametrize("split", [True, False], ids=["head alone", "one segment"])
async def test_a_body_that_came_whole_is_kept_although_more_follows(world: World, size: int, split: bool) -> None:
    """TR59: bytes behind each body; the first file may need a second request, no other one."""
    found = bodies(size)
    rows = [remote(name) for name in NAMES]
    async with RawServer() as server, session_files(world, server, *rows) as files:
        for name, body in found.items():
            world.allow(f"files/{name}.bin", body)
            how: dict[str, Any] = {"between": lambda: asyncio.sleep(0), "piece": size + 100} if split else {}
            raw = None if split else whole(body) + b"no response\r\n"
            server.on("GET", f"/{name}", reply(body=body + b"no response\r\n", length=size, raw=raw, **how))
        report = await download(world, files, workers=1)

    assert report.failures == ()
    assert {name: (world.root / f"files/{name}.bin").read_bytes() for name in NAMES} == found
    assert len(server.requests) <= len(NAMES) + 1


@row("TR63", protection="the end of a compressed page is checked")
@pytest.mark.parametrize("damage", [lambda packed: packed[:-8], lambda packed: packed[:-8] + bytes(8)])
async def test_a_compressed_page_is_whole_to_its_check_sum(world: World, damage: Callable[[bytes], bytes]) -> None:
    """TR63: cut before its check sum, or with a wrong one; the page is requested again."""
    del world
    page, packed = b'{"count": 1}', gzip.compress(b'{"count": 1}', mtime=0)
    coded = {"Content-Encoding": "gzip"}
    async with RawServer() as server:
        server.on("GET", "/page", reply(body=damage(packed), headers=coded), reply(body=packed, headers=coded))
        session = new_session(server.base_url, retry=RetryPolicy(attempts=2))
        response = await session.send(Request(method="GET", path="/page", scope=None))
        await session.aclose()

    assert response.body == page
    assert len(server.requests) == 2


# ------------------------------------------------------------------------------------------------------- whose it is


@row("TR60", protection="text is taken for a table only if it is one")
@pytest.mark.parametrize(
    "body",
    [
        b"Service temporarily unavailable. Please try again later.\n",
        b"Warning: mysql_connect(): Too many connections in /var/www/x.php on line 3",
        b"ERROR: The requested URL could not be retrieved\nAccess Denied.\n",
        b"\n",
        case(
            b"<Error><Code>ServerBusy</Code></Error>", protection="an answer that is no file is told by its first bytes"
        ),
        case(b'[{"error":"x"}]', protection=FIRST_BYTES),
    ],
)
async def test_text_in_the_place_of_gzip_is_no_file(world: World, body: bytes) -> None:
    """TR60: with status 200, an announced length and no type that says so; a page may be gone the second time."""
    world.allow("files/a.csv.gz")
    async with RawServer() as server, session_files(world, server, remote("a", extension=".csv.gz")) as files:
        server.on("GET", "/a", reply(body=body, headers={"Content-Type": "application/octet-stream"}))
        report = await download(world, files)

    assert isinstance(report.outcomes[0].error, ContentError)
    assert not (world.root / "files/a.csv.gz").exists()
    assert len(server.requests) == (2 if body[:1] in (b"<", b"[") else 1)


ZIP = zipped(content(3000), b"")
ODD = {
    ".zip": [ZIP + b"\r\n", ZIP[:1000], b"", b"<html><body>saved page</body></html>"],
    ".gz": [b"\x00\x01binary" * 20, b"plain text\n", gzip.compress(content(3000))[:-9]],
}


@row("TR61", protection="what people uploaded is theirs")
@pytest.mark.parametrize(("extension", "body"), [(kind, body) for kind, odd in ODD.items() for body in odd])
async def test_what_people_uploaded_is_kept_by_its_listed_length(world: World, extension: str, body: bytes) -> None:
    """TR61: part of an archive, a line end behind one, text under the name of a gzip file: kept, with a notice."""
    final = world.allow(f"files/a{extension}", body)
    listed = remote("a", extension=extension, size=len(body), uploaded=True)
    async with RawServer() as server, session_files(world, server, listed) as files:
        server.on("GET", "/a", reply(body=body, headers=ETAG))
        report = await download(world, files)

    assert report.failures == ()
    assert (report.outcomes[0].verified_by, final.read_bytes()) == ("length", body)
    assert report.outcomes[0].reason != ""
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("body", "listed", "kept"),
    [
        (ZIP + b"\r\n", False, True),
        (b"<html></html>", False, False),
        (b'{"error": "expired"}', False, False),
        (b"<html></html>", True, True),
    ],
)
def test_an_announced_length_is_no_proof_of_a_page(body: bytes, listed: bool, kept: bool) -> None:
    """TR61: only a listed one says that a page of HTML is what was uploaded as a zip."""
    verifier = ContentVerifier(name="a", extension=".zip", length=len(body), listed=listed, uploaded=True)
    verifier.feed(body)
    result = verifier.finish(lambda offset, size: body[offset : offset + size])

    assert (result.problem is None) is kept
    assert getattr(result.problem, "page", None) is (None if kept else True)


@row("TR61", protection="a coding is one only if it is registered")
@pytest.mark.parametrize("coding", ["utf-8", "aws-chunked", "none", "binary", "", "application/octet-stream"])
async def test_what_names_no_coding_is_none(world: World, coding: str) -> None:
    """TR61: the bytes are as stored, and a cut one is resumed."""
    final = world.allow("files/a.zip", ZIP)
    async with RawServer() as server, session_files(world, server, remote("a", extension=".zip")) as files:
        server.on("GET", "/a", reply(body=ZIP, headers={**ETAG, "Content-Encoding": coding}))
        report = await download(world, files)

    assert report.failures == ()
    assert (report.outcomes[0].verified_by, final.read_bytes()) == ("crc", ZIP)


@row("TR62", protection="a page is told from a changed file")
@pytest.mark.parametrize("content_type", ["text/html", "application/octet-stream"])
@pytest.mark.parametrize("page", [b"<html>Sign in</html>", b'{"error": "maintenance"}', b"<Error>Busy</Error>"])
async def test_a_page_in_the_place_of_content_is_no_changed_file(world: World, content_type: str, page: bytes) -> None:
    """TR62: its size is not the listed one; it is requested once more and no listing is, and the error says why."""
    world.allow("files/a.bin")
    listed = remote("a", size=30_000)
    async with RawServer() as server, session_files(world, server, listed) as files:
        server.on("GET", "/a", reply(body=page, headers={"Content-Type": content_type}))
        report = await download(world, files)

    error = report.outcomes[0].error
    assert isinstance(error, ContentError)
    assert error.page
    assert (len(server.requests), files.looked_up) == (2, [])


@row("TR62", protection="a page leaves what was received before")
async def test_a_page_in_the_place_of_the_rest_leaves_what_was_received(world: World) -> None:
    """TR62: a later run resumes where the body broke, although a page came meanwhile."""
    body = content(1_000_000)
    world.allow("files/a.bin", body)
    listed = remote("a", size=len(body))
    async with RawServer() as server, session_files(world, server, listed) as files:
        server.on("GET", "/a", reply(body=body, headers=ETAG, cut=600_000), reply(body=b"<html>Sign in</html>"))
        failed = await download(world, files, remember=True)
        server.on("GET", "/a", reply(503))
        await download(world, files, remember=True, attempts=1)

    assert isinstance(failed.outcomes[0].error, ContentError)
    start = server.requests[-1].header("Range") or ""
    assert int(start.removeprefix("bytes=").rstrip("-") or 0) >= 500_000
    world.keeps_partials = True


# ------------------------------------------------------------------------------------------------------- open files


@row("TR64", protection="bodies wait for open files")
@pytest.mark.parametrize(("size", "count"), [(3000, 20), (600_000, 3)])
async def test_too_many_open_files_lose_no_body(world: World, size: int, count: int) -> None:
    """TR64: the limit is reached while bodies are in memory or being received; each is requested once."""
    found = {f"f{number}": content(size, str(number)) for number in range(count)}
    disk = FaultyDisk()
    disk.fail("create", errno.EMFILE, name="*.part", skip=1, times=2)
    async with RawServer() as server, session_files(world, server, *[remote(name) for name in found]) as files:
        for name, body in found.items():
            world.allow(f"files/{name}.bin", body)
            server.on("GET", f"/{name}", reply(body=body))
        report = await download(world, files, disk=disk)

    assert report.failures == ()
    assert {name: (world.root / f"files/{name}.bin").read_bytes() for name in found} == found
    assert len(server.requests) == count
