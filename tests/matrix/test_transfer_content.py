"""Rows TR09, TR10, TR12 to TR16, TR46 and TR47: what came is what is stored, or it is not kept."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import struct
import zipfile
from typing import Any

import pytest
from centrepoint_scripts import LISTING, listed_row, script_rows
from filesets import content, zipped
from matrix import World, case, control, row
from scripted import RawServer, reply
from services import CentrePointScript
from session_files import ETAG, download, ranged, remote, session_files

from arena_async.errors import ContentError, IntegrityError, TransferError
from arena_async.transfer.verify import ContentVerifier, VerificationResult

CSV = b"time,x,y,z\n" + b"".join(b"%d,0.01,-0.98,0.12\n" % number for number in range(9000))
STORED = gzip.compress(CSV, mtime=0)
BODY = content(200_000)
HTML = b"<!DOCTYPE html><html><title>Sign in to Airport-WiFi</title></html>"
JSON_ERROR = b'{"error": {"code": "BlobNotFound", "message": "The blob is not there."}}'


ZIP = zipped(CSV, b"", content(3000))


def md5(body: bytes) -> str:
    """Write an MD5 as headers do."""
    return base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()


# ------------------------------------------------------------------------------------------------------ content codings


@row("TR09", protection="bodies are stored as they were sent")
@pytest.mark.parametrize("how", [{}, {"chunked": True}, {"length": None}])
async def test_a_stored_gzip_file_that_is_called_encoded_is_stored_as_it_is(world: World, how: dict[str, Any]) -> None:
    """TR09: the host calls what is stored its encoding; the bytes on the disk are the bytes stored."""
    final = world.allow("files/a.csv.gz", STORED)
    async with RawServer() as server, session_files(world, server, remote("a", extension=".csv.gz")) as files:
        server.on("GET", "/a", reply(body=STORED, headers={**ETAG, "Content-Encoding": "gzip"}, **how))
        report = await download(world, files)

    assert report.failures == ()
    assert final.read_bytes() == STORED
    assert (report.outcomes[0].verified_by, report.outcomes[0].bytes_written) == ("crc", len(STORED))
    assert [seen.header("Accept-Encoding") for seen in server.requests] == ["identity"]


@row("TR09", protection="bodies are stored as they were sent")
async def test_the_bytes_on_the_disk_are_those_of_the_storage_from_listing_to_name(world: World) -> None:
    """TR09: through the client, its listing and a signed link of the file host; a cut body is asked for as a whole."""
    encoded = {**ETAG, "Content-Encoding": "gzip"}
    async with RawServer() as api, RawServer() as host:
        service = CentrePointScript(world, api)
        script_rows(service, listed_row(f"{host.base_url}/a.csv.gz?sig={world.secrets['sig']}"))
        half = reply(body=STORED, headers=encoded, cut=len(STORED) // 2)
        host.on("GET", "/a.csv.gz", half, reply(body=STORED, headers=encoded))
        async with service.client() as client:
            report = await download(world, client.datasets.files(234))

    (outcome,) = report.outcomes
    assert outcome.error is None
    assert outcome.path is not None
    assert outcome.path.read_bytes() == STORED
    assert [seen.header("Range") for seen in host.requests] == [None, None]
    assert len(api.lines(LISTING)) == 1


@row("TR10", protection="an encoding that was not requested is rejected")
@pytest.mark.parametrize(("extension", "body"), [(".zip", ZIP), (".csv", CSV)])
@pytest.mark.parametrize("size", [True, False])
async def test_a_proxy_that_packs_what_it_passes_on_is_refused(
    world: World, extension: str, body: bytes, size: bool
) -> None:
    """TR10: identity was asked for; what came is not what is stored, and nobody has to guess."""
    world.allow(f"files/a{extension}")
    packed = gzip.compress(body, mtime=0)
    listed = remote("a", extension=extension, size=len(packed) if size else None)
    async with RawServer() as server, session_files(world, server, listed) as files:
        server.on("GET", "/a", reply(body=packed, headers={**ETAG, "Content-Encoding": "gzip"}))
        report = await download(world, files)

    assert isinstance(report.outcomes[0].error, ContentError)
    assert len(server.requests) == 1
    assert not (world.root / "files" / f"a{extension}").exists()


@row("TR10", protection="a gzip file that was packed once more is refused")
async def test_a_gzip_file_that_was_packed_once_more_is_refused(world: World) -> None:
    """TR10: a coding of gzip may be the file's own or a proxy's; what is inside tells."""
    world.allow("files/a.csv.gz")
    async with RawServer() as server, session_files(world, server, remote("a", extension=".csv.gz")) as files:
        packed = gzip.compress(STORED, mtime=0)
        server.on("GET", "/a", reply(body=packed, headers={**ETAG, "Content-Encoding": "gzip"}))
        report = await download(world, files)

    assert isinstance(report.outcomes[0].error, ContentError)
    assert "packed once more" in str(report.outcomes[0].error)
    assert not (world.root / "files" / "a.csv.gz").exists()


# ------------------------------------------------------------------------------------------------------ what is inside


def inspected(body: bytes, extension: str) -> VerificationResult:
    """Feed content as a transfer of unknown length does, and give the verdict."""
    verifier = ContentVerifier(name="a", extension=extension)
    for start in range(0, len(body), 1000):
        verifier.feed(memoryview(body)[start : start + 1000])
    return verifier.finish(lambda offset, size: body[offset : offset + size])


def flipped(body: bytes, at: int) -> bytes:
    """Turn one bit."""
    made = bytearray(body)
    made[at] ^= 1
    return bytes(made)


SECOND = gzip.compress(b"second", mtime=0)


@row("TR12", protection="gzip content is followed to its last member")
@pytest.mark.parametrize(
    ("body", "good"),
    [
        case(STORED + SECOND, True, protection="content that is whole is not called damaged"),
        case(STORED + bytes(5000), True, protection="content that is whole is not called damaged"),
        case(STORED + SECOND + bytes(3), True, protection="content that is whole is not called damaged"),
        (STORED + b"junk", False),
        (STORED + SECOND[: len(SECOND) // 2], False),
        (STORED + b"\x1f", False),
        (flipped(STORED, -7), False),
        (flipped(STORED, -2), False),
        (STORED[:-1], False),
    ],
    ids=["two", "zeros", "two and zeros", "junk", "half of two", "a byte of two", "crc", "length", "cut"],
)
def test_gzip_content_is_whole_to_its_last_byte(body: bytes, good: bool) -> None:
    """TR12: several members and padding are right; anything else behind or missing is not."""
    result = inspected(body, ".csv.gz")

    assert result.verified_by == ("crc" if good else "none")
    assert result.problem is None if good else isinstance(result.problem, IntegrityError)


def encrypted() -> bytes:
    """Make a zip whose only member says that it is encrypted."""
    packed, name = content(500), b"secret.csv"
    local = struct.pack("<4sHHHHHIIIHH", b"PK\3\4", 20, 1, 0, 0, 0, 7, len(packed), 488, len(name), 0) + name + packed
    entry = struct.pack(
        "<4sHHHHHHIIIHHHHHII", b"PK\1\2", 20, 20, 1, 0, 0, 0, 7, len(packed), 488, len(name), 0, 0, 0, 0, 0, 0
    )
    end = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 1, 1, len(entry) + len(name), len(local), 0)
    return local + entry + name + end


def with_end_record_64() -> bytes:
    """Return a zip the end record of large ones (APPNOTE 4.3.14), which replaces the numbers of the small one."""
    end = struct.unpack("<4sHHHHIIH", ZIP[-22:])
    record = struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, end[3], end[4], end[5], end[6])
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, len(ZIP) - 22, 1)
    last = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    return ZIP[:-22] + record + locator + last


def wrong_member() -> bytes:
    """Damage the content of the last member, which is stored as it is inside the packing, and nothing else."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr(zipfile.ZipInfo("a"), content(1000))
    return flipped(made.getvalue(), 500)


@row("TR13", protection="every member of a zip is read back")
@pytest.mark.parametrize(
    ("body", "proof"),
    [
        case(ZIP, "crc", protection="content that is whole is not called damaged"),
        case(zipped(CSV, force_zip64=True), "crc", protection="content that is whole is not called damaged"),
        case(with_end_record_64(), "crc", protection="content that is whole is not called damaged"),
        (encrypted(), "length"),
        case(b"PK\5\6" + bytes(18), "crc", protection="content that is whole is not called damaged"),
        (ZIP[:-22], "none"),
        (ZIP[: len(ZIP) // 2], "none"),
        (wrong_member(), "none"),
        (flipped(ZIP, 40), "none"),
        case(b"junk" * 100 + ZIP, "none", protection="an answer that is no file is told by its first bytes"),
        case(b"junk" * 1000 + ZIP, "none", protection="an answer that is no file is told by its first bytes"),
        (b"PK\3\4" + ZIP, "none"),
        (ZIP + b"junk", "none"),
    ],
    ids=[
        "whole",
        "zip64 member",
        "zip64 end",
        "encrypted",
        "empty",
        "no end",
        "half",
        "crc",
        "packed",
        "before",
        "far before",
        "two starts",
        "behind",
    ],
)
def test_a_zip_is_whole_to_its_last_member_and_nothing_else(body: bytes, proof: str) -> None:
    """TR13: what a lenient reader takes, junk before and behind, is not what was stored."""
    result = inspected(body, ".zip")

    assert result.verified_by == proof
    assert result.problem is None if proof != "none" else isinstance(result.problem, TransferError)


@row("TR12", protection="gzip content is followed to its last member")
async def test_a_damaged_gzip_file_is_fetched_once_more_and_never_kept(world: World) -> None:
    """TR12: its announced length is right, and its check sum is not."""
    world.allow("files/a.csv.gz")
    async with RawServer() as server, session_files(world, server, remote("a", extension=".csv.gz")) as files:
        server.on("GET", "/a", reply(body=flipped(STORED, -7), headers=ETAG))
        report = await download(world, files)

    assert isinstance(report.outcomes[0].error, IntegrityError)
    assert len(server.requests) == 2


@row("TR13", protection="every member of a zip is read back")
async def test_a_damaged_zip_is_fetched_once_more(world: World) -> None:
    """TR13: the second answer is right."""
    final = world.allow("files/a.zip", ZIP)
    async with RawServer() as server, session_files(world, server, remote("a", extension=".zip")) as files:
        server.on("GET", "/a", reply(body=flipped(ZIP, 40), headers=ETAG), reply(body=ZIP, headers=ETAG))
        report = await download(world, files)

    assert report.failures == ()
    assert final.read_bytes() == ZIP
    assert len(server.requests) == 2


# ---------------------------------------------------------------------------------------------------------- check sums


@row("TR14", protection="the check sum of the server is compared")
@pytest.mark.parametrize("header", ["Content-MD5", "x-ms-blob-content-md5"])
async def test_a_wrong_check_sum_gets_one_more_chance(world: World, header: str) -> None:
    """TR14: once from zero, then it is believed that the content is wrong; nothing stays."""
    world.allow("files/a.bin")
    async with RawServer() as server, session_files(world, server, remote("a", size=len(BODY))) as files:
        server.on("GET", "/a", reply(body=BODY, headers={**ETAG, header: md5(b"something else")}))
        report = await download(world, files)

    error = report.outcomes[0].error
    assert isinstance(error, IntegrityError)
    assert error.actual == hashlib.md5(BODY, usedforsecurity=False).hexdigest()
    assert [seen.header("Range") for seen in server.requests] == [None, None]


@row("TR15", protection="a check sum of a range is not taken for one of the file")
@pytest.mark.parametrize("blob", [True, False])
@pytest.mark.parametrize("later", [True, case(False, protection="a cut body is taken up where it broke")])
async def test_on_a_range_only_the_check_sum_of_the_file_counts(world: World, blob: bool, later: bool) -> None:
    """TR15: ``Content-MD5`` is that of the range; within the run and in a later one."""
    final = world.allow("files/a.bin", BODY)
    half = len(BODY) // 2
    whole = {"x-ms-blob-content-md5": md5(BODY)} if blob else {}
    rest = ranged(BODY, headers={**whole, "Content-MD5": md5(BODY[half:])})
    async with RawServer() as server, session_files(world, server, remote("a", size=len(BODY))) as files:
        server.on("GET", "/a", reply(body=BODY, headers={**ETAG, **whole}, cut=half), *[reply(501)] * later, rest)
        if later:
            await download(world, files, flush_unit=1)
        report = await download(world, files)

    assert report.failures == ()
    assert report.outcomes[0].verified_by == ("md5" if blob else "length")
    assert final.read_bytes() == BODY
    assert server.requests[-1].header("Range") == f"bytes={half}-"


@row("TR16", protection="a check sum that is none is not believed")
@pytest.mark.parametrize(
    "value",
    [
        control(None, reason="no check sum is there that could be believed"),
        "not base64!",
        base64.b64encode(b"short").decode(),
        "",
        md5(BODY)[:-4],
        "d41d8cd98f00b204",
    ],
)
async def test_what_is_no_check_sum_is_no_proof_and_no_fault(world: World, value: str | None) -> None:
    """TR16: verified by what remains, and said so."""
    final = world.allow("files/a.bin", BODY)
    given = {"Content-MD5": value, "x-ms-blob-content-md5": value} if value is not None else {}
    async with RawServer() as server, session_files(world, server, remote("a")) as files:
        server.on("GET", "/a", reply(body=BODY, headers={**ETAG, **given}))
        report = await download(world, files)

    assert report.failures == ()
    assert report.outcomes[0].verified_by == "length"
    assert final.read_bytes() == BODY
    assert len(server.requests) == 1


# ------------------------------------------------------------------------------------------------ somebody else's words


@row("TR46", protection="an answer that is no file is told by its first bytes")
@pytest.mark.parametrize("extension", [".zip", ".csv.gz", ".csv"])
@pytest.mark.parametrize("body", [HTML, JSON_ERROR], ids=["captive portal", "JSON error"])
async def test_an_answer_that_is_no_file_is_not_kept(world: World, extension: str, body: bytes) -> None:
    """TR46: status 200, and a page or a document about an error where the file should be, after a redirect."""
    world.allow(f"files/a{extension}")
    async with RawServer() as server, session_files(world, server, remote("a", extension=extension)) as files:
        server.on("GET", "/a", reply(302, headers={"Location": "/portal"}))
        server.on("GET", "/portal", reply(body=body, headers={"Content-Type": "application/octet-stream"}))
        report = await download(world, files)

    assert isinstance(report.outcomes[0].error, ContentError)
    # Once more: a page says something about the host, which may be well by then.
    assert [seen.path for seen in server.requests] == ["/a", "/portal"] * 2
    assert not (world.root / "files" / f"a{extension}").exists()


@row("TR47", protection="the check is chosen by the first bytes")
async def test_a_zip_under_the_name_of_a_gzip_file_is_checked_as_a_zip(world: World) -> None:
    """
    TR47: kept, since the vendor's own pages disagree about it, and said so.

    There is no strict mode that refuses it: the design knows one way only.
    """
    final = world.allow("files/a.csv.gz", ZIP)
    async with RawServer() as server, session_files(world, server, remote("a", extension=".csv.gz")) as files:
        server.on("GET", "/a", reply(body=ZIP, headers=ETAG))
        report = await download(world, files)

    assert report.failures == ()
    assert report.outcomes[0].verified_by == "crc"
    assert report.outcomes[0].reason == "the name promises gzip content and it is zip"
    assert final.read_bytes() == ZIP


@row("TR47", protection="every member of a zip is read back")
async def test_a_damaged_zip_under_the_name_of_a_gzip_file_is_not_kept(world: World) -> None:
    """TR47: it is followed as what it is."""
    world.allow("files/a.csv.gz")
    async with RawServer() as server, session_files(world, server, remote("a", extension=".csv.gz")) as files:
        server.on("GET", "/a", reply(body=flipped(ZIP, 40), headers=ETAG))
        report = await download(world, files)

    assert isinstance(report.outcomes[0].error, IntegrityError)
