"""Rows TR01 to TR08, TR49 and TR51: bodies that end too early, too late, a byte at a time or not at all."""

from __future__ import annotations

import gzip
from typing import Any

import pytest
from filesets import content, zipped
from matrix import World, case, control, row
from scripted import RawServer, Reply, Seen, reply
from session_files import ETAG, Hours, download, ranged, remote, session_files

from arena_async.errors import ContentError, DecodeError, IntegrityError, SourceChangedError
from arena_async.options import KIB, MIB
from arena_async.protocol.decoding import decode
from arena_async.providers.arena.models import FileAssociation

TEN = content(10 * MIB)
BODY = content(300_000)
HALF = len(BODY) // 2
CSV = b"time,x,y,z\n" + b"".join(b"%d,0.01,-0.98,0.12\n" % number for number in range(9000))
GZ = gzip.compress(content(120_000), mtime=0)


@row("TR01", protection="a cut body is taken up where it broke")
async def test_a_cut_body_is_taken_up_where_it_broke(world: World) -> None:
    """TR01: 10 MiB announced, cut after 4 MiB: the second request asks for the rest and nothing before it."""
    final = world.allow("files/a.bin", TEN)
    async with RawServer() as server, session_files(world, server, remote("a", size=len(TEN))) as files:
        server.on("GET", "/a", reply(body=TEN, headers=ETAG, cut=4 * MIB), ranged(TEN))
        report = await download(world, files)

    assert report.failures == ()
    assert final.read_bytes() == TEN
    first, second = server.requests
    assert (first.header("Range"), second.header("If-Match")) == (None, '"v1"')
    start = int((second.header("Range") or "")[6:-1])
    assert 4 * MIB - 64 * KIB <= start <= 4 * MIB
    assert report.bytes_written == len(TEN)


@row("TR01", protection="a cut body is taken up where it broke")
async def test_a_later_run_takes_up_what_an_earlier_one_left(world: World) -> None:
    """TR01: what was flushed by a run that failed is not asked for again by the next one, not even a flush unit."""
    final = world.allow("files/a.bin", TEN)
    async with RawServer() as server, session_files(world, server, remote("a", size=len(TEN))) as files:
        server.on("GET", "/a", reply(body=TEN, headers=ETAG, cut=4 * MIB), reply(501), ranged(TEN))
        failed = await download(world, files, remember=True)
        report = await download(world, files, remember=True)

    assert len(failed.failures) == 1
    assert report.failures == ()
    assert final.read_bytes() == TEN
    assert int((server.requests[-1].header("Range") or "")[6:-1]) >= 4 * MIB - 2 * 64 * KIB
    assert len(server.requests) == 3


@row("TR02", protection="the length that is known beforehand is compared")
async def test_a_body_without_framing_is_held_to_the_listed_size(world: World) -> None:
    """TR02: no length, no chunks, closed at half: the listing knows better, and the rest is fetched."""
    final = world.allow("files/a.bin", BODY)
    async with RawServer() as server, session_files(world, server, remote("a", size=len(BODY))) as files:
        server.on("GET", "/a", reply(body=BODY[:HALF], headers=ETAG, length=None), ranged(BODY))
        report = await download(world, files)

    assert report.failures == ()
    assert final.read_bytes() == BODY
    assert [seen.header("Range") for seen in server.requests] == [None, f"bytes={HALF}-"]


@row("TR03", protection="the structure of content is followed to its end")
@pytest.mark.parametrize("extension", [".gz", ".zip"])
async def test_half_of_a_compressed_file_of_unknown_size_is_seen_by_its_structure(world: World, extension: str) -> None:
    """TR03: nobody knows the size; the end of the content itself is missing, so that it is asked for again."""
    body = GZ if extension == ".gz" else zipped(content(120_000))
    final = world.allow(f"files/a{extension}", body)
    async with RawServer() as server, session_files(world, server, remote("a", extension=extension)) as files:
        server.on("GET", "/a", reply(body=body[: len(body) // 2], length=None), reply(body=body, length=None))
        report = await download(world, files)

    assert report.failures == ()
    assert report.outcomes[0].verified_by == "crc"
    assert final.read_bytes() == body
    assert len(server.requests) == 2


@row("TR03", protection="content without any proof is not called verified")
async def test_half_of_a_plain_file_of_unknown_size_is_not_called_verified(world: World) -> None:
    """TR03: nothing can tell that it is half a file, and the result says just that."""
    world.allow("files/a.csv", CSV[:40_000])
    async with RawServer() as server, session_files(world, server, remote("a", extension=".csv")) as files:
        server.on("GET", "/a", reply(body=CSV[:40_000], length=None))
        report = await download(world, files)

    assert report.failures == ()
    assert report.outcomes[0].verified_by == "none"
    assert len(server.requests) == 1


HEAD = b'HTTP/1.1 200 OK\r\nETag: "v1"\r\nTransfer-Encoding: chunked\r\n\r\n'


@row("TR04", protection="a body that breaks is told from one that ends")
@pytest.mark.parametrize(
    ("raw", "came"),
    [
        (HEAD + b"8000\r\n" + BODY[:0x8000] + b"\r\n8000\r\n" + BODY[0x8000:50_000], 50_000),
        (HEAD + b"8000\r\n" + BODY[:0x8000] + b"\r\n8000\r\n" + BODY[0x8000:0x10000] + b"\r\n", 0x10000),
        (HEAD + b"%x\r\n" % len(BODY) + BODY + b"\r\n", len(BODY)),
        (HEAD + b"%x\r\n" % len(BODY) + BODY + b"\r\n0\r\n", len(BODY)),
        (HEAD + b"8000\r\n" + BODY[:0x8000] + b"\r\n80", 0x8000),
    ],
    ids=["inside a chunk", "between chunks", "no last chunk", "no end of the last chunk", "inside a size"],
)
async def test_a_chunked_body_without_its_end_is_cut_off(world: World, raw: bytes, came: int) -> None:
    """TR04: of unknown size, so that only the chunks tell; everything that came is kept, and only the rest fetched."""
    final = world.allow("files/a.bin", BODY)
    async with RawServer() as server, session_files(world, server, remote("a")) as files:
        server.on("GET", "/a", reply(raw=raw, close=True), ranged(BODY, chunked=True))
        report = await download(world, files)

    assert report.failures == ()
    assert final.read_bytes() == BODY
    assert [seen.header("Range") for seen in server.requests] == [None, f"bytes={came}-"]


@row("TR05", protection="an announced length that contradicts the listing is not believed")
@pytest.mark.parametrize("more", [-1, 1, 100_000])
async def test_a_length_that_contradicts_the_listing_is_looked_up_once(world: World, more: int) -> None:
    """TR05: both ways; the fresh entry says the same, so that the service contradicts itself and nothing is kept."""
    body = content(len(BODY) + more)
    world.allow("files/a.bin")
    async with RawServer() as server, session_files(world, server, remote("a", size=len(BODY))) as files:
        server.on("GET", "/a", reply(body=body, headers=ETAG))
        report = await download(world, files)

    assert isinstance(report.outcomes[0].error, SourceChangedError)
    assert len(files.looked_up) == 1
    assert len(server.requests) == 2
    assert not (world.root / "files" / "a.bin").exists()


@row("TR05", protection="an announced length that contradicts the listing is not believed")
async def test_a_fresh_entry_that_agrees_settles_it(world: World) -> None:
    """TR05: the file was replaced after it had been listed."""
    listed, body = remote("a", size=len(BODY)), content(123_456, "new")
    final = world.allow("files/a.bin", body)
    async with RawServer() as server, session_files(world, server, listed) as files:
        files.fresh[listed.key] = remote("a", size=len(body), change="2")
        server.on("GET", "/a", reply(body=body, headers=ETAG))
        report = await download(world, files)

    assert report.failures == ()
    assert final.read_bytes() == body
    assert (len(files.looked_up), len(server.requests)) == (1, 2)


@row("TR07", protection="a body is stopped where it has to end", seconds=10)
@pytest.mark.parametrize(("size", "maximum"), [(200_000, None), (None, 200_000), (200_000, 500_000)])
async def test_an_endless_body_is_stopped_one_byte_too_far(world: World, size: int | None, maximum: int | None) -> None:
    """TR07: by the listed size, or by the caller's limit; it is not asked for again, and nothing stays."""
    world.allow("files/a.bin")
    sent = [0]

    async def count() -> None:
        sent[0] += 64 * KIB

    block = bytes(64 * KIB)
    async with RawServer() as server, session_files(world, server, remote("a", size=size)) as files:
        # After 16 MiB it is enough for a test that does not end it.
        server.on("GET", "/a", reply(body=block, times=256, headers=ETAG, chunked=True, piece=64 * KIB, between=count))
        report = await download(world, files, max_file_size=maximum)
        await server.drained()

    assert isinstance(report.outcomes[0].error, ContentError)
    assert report.outcomes[0].bytes_written <= 200_000
    assert len(server.requests) == 1
    assert sent[0] < 12 * MIB


@row("TR08", protection="the length that is known beforehand is compared")
async def test_an_empty_body_of_a_file_that_is_not_empty_is_cut_off(world: World) -> None:
    """TR08: without a length it counts as cut off, is tried as often as allowed, and fails."""
    world.allow("files/a.bin")
    async with RawServer() as server, session_files(world, server, remote("a", size=len(BODY))) as files:
        server.on("GET", "/a", reply(length=None, headers=ETAG))
        report = await download(world, files)

    error = report.outcomes[0].error
    assert isinstance(error, IntegrityError)
    assert (error.expected, error.actual) == (len(BODY), 0)
    assert len(server.requests) == 5


@row("TR08", protection="an announced length that contradicts the listing is not believed")
async def test_an_announced_length_of_nothing_contradicts_the_listing(world: World) -> None:
    """
    TR08: with a length of 0 it is the contradiction of TR05.

    The matrix calls this cut off as well; what announces its length is no cut, so the rule about lengths decides.
    """
    world.allow("files/a.bin")
    async with RawServer() as server, session_files(world, server, remote("a", size=len(BODY))) as files:
        server.on("GET", "/a", reply(headers=ETAG))
        report = await download(world, files)

    assert isinstance(report.outcomes[0].error, SourceChangedError)
    assert len(server.requests) == 2


@row("TR08", protection="an empty body is a file only where one can be")
@pytest.mark.parametrize(
    ("extension", "size", "good"),
    [
        case(".bin", 0, True, protection="an empty body is a file where one can be"),
        case(".csv", None, True, protection="an empty body is a file where one can be"),
        (".gz", None, False),
        (".csv.gz", 0, False),
        (".zip", None, False),
    ],
)
async def test_an_empty_file_is_right_only_where_one_can_be(
    world: World, extension: str, size: int | None, good: bool
) -> None:
    """TR08: a really empty file is a file; an empty gzip or zip file is damaged."""
    final = world.allow(f"files/a{extension}", *([b""] if good else []))
    async with (
        RawServer() as server,
        session_files(world, server, remote("a", extension=extension, size=size)) as files,
    ):
        server.on("GET", "/a", reply(headers=ETAG))
        report = await download(world, files)

    error = report.outcomes[0].error
    assert final.exists() is good
    assert error is None if good else isinstance(error, IntegrityError)
    assert report.outcomes[0].verified_by == ("length" if good else "none")
    assert len(server.requests) == (1 if good else 2)


def one_byte_more(body: bytes) -> Any:
    """Serve one byte of what is asked for, and cut."""
    whole = ranged(body)

    def answer(seen: Seen) -> Reply:
        given = whole(seen)
        return reply(given.status, body=given.body, headers=given.headers, cut=1)

    return answer


@row("TR49", protection="a byte is no progress")
@pytest.mark.parametrize("size", [90, 1_000_000])
async def test_one_byte_for_each_request_ends(world: World, size: int) -> None:
    """TR49: each answer brings one byte more; that is no progress, and the attempts run out."""
    world.keeps_partials = True
    world.allow("files/a.bin")
    hours = Hours()
    async with RawServer() as server, session_files(world, server, remote("a", size=size)) as files:
        server.on("GET", "/a", one_byte_more(content(size)))
        report = await download(world, files, hours=hours)

    assert report.outcomes[0].error is not None
    assert [seen.header("Range") for seen in server.requests] == [None, *(f"bytes={at}-" for at in range(1, 5))]
    assert len(hours.waits) == 4


@row("TR51", protection="a size is a number of bytes or nothing")
@pytest.mark.parametrize(
    ("listed", "size"),
    [
        case(1419, 1419, protection="a size that is one is read"),
        case("1419", 1419, protection="a size that is one is read"),
        case(" 1419 ", 1419, protection="a size that is one is read"),
        control(None, None, reason="nothing is listed that could be read as a size"),
        case(0, 0, protection="a size that is one is read"),
        (-1, None),
        ("-1", None),
        case(1419.0, 1419, protection="a size that is one is read"),
        (1419.5, None),
        (True, None),
        ("1,419", None),
        control("", None, reason="nothing is listed that could be read as a size"),
        (2**70, None),
        ([1419], None),
    ],
)
def test_a_listed_size_is_a_number_of_bytes_or_nothing(listed: object, size: int | None) -> None:
    """TR51: what is no size is left aside and not compared with anything; the entry is read all the same."""
    payload = {"guid": "A", "file": {"guid": "F", "name": "a.zip", "size": listed}}

    try:
        association = decode(payload, FileAssociation)
    except DecodeError:
        pytest.fail("a whole listing is lost over one size")

    assert association.file is not None
    assert association.file.size == size
