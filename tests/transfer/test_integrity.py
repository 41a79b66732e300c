"""What content is worth: TR08, TR12 to TR16, TR46, TR47, SE13, SE14."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import pickle
import random
import struct
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from arena_async.errors import ContentError, IntegrityError, TransferError
from arena_async.transfer.archives import Caps
from arena_async.transfer.models import Proof
from arena_async.transfer.verify import ContentVerifier, VerificationResult, choose_proof

TEXT = b"time,x,y,z\n" + b"".join(b"%d,0.01,-0.98,0.12\n" % number for number in range(2000))
GZ = gzip.compress(TEXT, mtime=0)


def inspect(
    content: bytes,
    *,
    extension: str = "",
    length: int | None = None,
    md5: str | None = None,
    block: int = 1000,
    caps: Caps | None = None,
    max_length: int | None = None,
    encoded: bool = False,
    clock: Callable[[], float] | None = None,
) -> VerificationResult:
    """Feed content as a transfer does, in blocks, and give the verdict."""
    verifier = ContentVerifier(
        name="a/b.bin",
        extension=extension,
        length=length,
        md5=md5,
        caps=caps or Caps(),
        max_length=max_length,
        encoded=encoded,
        clock=clock,
    )
    for start in range(0, len(content), block):
        verifier.feed(memoryview(content)[start : start + block])
    return verifier.finish(lambda offset, size: content[offset : offset + size])


def zipped(**members: bytes) -> bytes:
    """Make an ordinary zip: deflated members, names and content given."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return made.getvalue()


ZIP = zipped(one=b"first member " * 100, two=b"", three=os.urandom(5000))

EMPTY_ZIP = b"PK\x05\x06" + bytes(18)

# ----------------------------------------------------------------------------------------------------------- the proof


@pytest.mark.parametrize(
    ("kind", "md5", "length", "structure", "proof"),
    [
        ("other", "d41d8cd98f00b204e9800998ecf8427e", 0, True, "md5"),
        ("gzip", "D41D8CD98F00B204E9800998ECF8427E", None, True, "md5"),
        ("gzip", None, 5, True, "crc"),
        ("zip", None, None, True, "crc"),
        ("zip", None, 5, False, "length"),
        ("zip", None, None, False, "none"),
        ("gzip", "1B2M2Y8AsgTpgAmY7PhCfg==", 5, True, "crc"),
        ("gzip", "d41d8cd98f00", None, True, "crc"),
        ("avro", None, 5, True, "length"),
        ("other", "", 5, True, "length"),
        ("other", None, 0, True, "length"),
        ("other", None, None, True, "none"),
        ("empty", None, None, True, "none"),
    ],
)
def test_the_strongest_proof_is_chosen(
    kind: str, md5: str | None, length: int | None, structure: bool, proof: Proof
) -> None:
    """TR16: MD5 if it is one, else CRC, else length; an MD5 that is none is no proof and no fault."""
    assert choose_proof(kind=kind, md5=md5, length=length, structure=structure) == proof  # type: ignore[arg-type]


def test_content_without_any_proof_is_not_called_verified() -> None:
    """I9: it may be half a file."""
    result = inspect(b"some,csv\n1,2\n", extension=".csv")

    assert (result.verified_by, result.problem, result.length) == ("none", None, 13)


def test_digest_and_length_are_those_of_the_content() -> None:
    """What goes into the ledger; no MD5 when nobody asked for one."""
    result = inspect(b"abc", length=3)

    assert result == VerificationResult(
        verified_by="length",
        length=3,
        sha256="ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        kind="other",
    )
    verifier = ContentVerifier(name="x", digest=None)
    verifier.feed(b"abc")
    assert verifier.finish(lambda offset, size: b"").sha256 is None


def test_of_a_large_block_only_the_first_bytes_are_kept() -> None:
    """What tells the kind is kept for each file that is open: half a KiB, not the block that it came in."""
    content = random.Random(0).randbytes(1 << 20)
    verifier = ContentVerifier(name="x", length=len(content))
    tracemalloc.start()
    try:
        verifier.feed(memoryview(content))
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    result = verifier.finish(lambda offset, size: content[offset : offset + size])

    assert kept < 64 * 1024
    assert (result.verified_by, result.sha256) == ("length", hashlib.sha256(content).hexdigest())


def test_the_md5_of_the_server_is_the_strongest_proof() -> None:
    """TR14: right or wrong, nothing else is looked at."""
    right = inspect(GZ[:-4], extension=".csv.gz", md5=hashlib.md5(GZ[:-4], usedforsecurity=False).hexdigest().upper())
    wrong = inspect(b"abc", md5="d41d8cd98f00b204e9800998ecf8427e", length=3)

    assert (right.verified_by, right.problem, right.md5) == ("md5", None, hashlib.md5(GZ[:-4]).hexdigest())  # noqa: S324
    assert wrong.verified_by == "none"
    assert isinstance(wrong.problem, IntegrityError)
    assert (wrong.problem.expected, wrong.problem.actual) == (
        "d41d8cd98f00b204e9800998ecf8427e",
        "900150983cd24fb0d6963f7d28e17f72",
    )


@pytest.mark.parametrize("length", [0, 2, 4])
def test_another_length_than_announced_is_a_failure(length: int) -> None:
    """TR02, TR08: too short is cut off; too long is somebody else's content."""
    result = inspect(b"abc", length=length)

    assert result.verified_by == "none"
    assert type(result.problem) is (IntegrityError if length > 3 else ContentError)
    if length > 3:
        assert isinstance(result.problem, IntegrityError)
        assert (result.problem.expected, result.problem.actual) == (4, 3)


def test_a_body_that_does_not_end_is_noticed_at_once() -> None:
    """TR07: one byte more than expected, or than allowed, is enough."""
    endless = ContentVerifier(name="x", length=100)
    endless.feed(b"x" * 101)
    capped = ContentVerifier(name="x", max_length=100)
    capped.feed(b"x" * 101)

    assert isinstance(endless.problem, ContentError)
    assert isinstance(capped.problem, ContentError)
    assert "max_file_size" in str(capped.problem)
    assert (endless.length, capped.length) == (101, 101)


@pytest.mark.parametrize(
    ("extension", "kind"),
    [
        (".csv.gz", IntegrityError),
        (".zip", IntegrityError),
        (".avro", IntegrityError),
        (".csv", None),
        (".txt", None),
        ("", None),
    ],
)
def test_an_empty_file_is_right_only_where_one_can_be(extension: str, kind: type[TransferError] | None) -> None:
    """TR08: the gzip module accepts no bytes at all as a whole gzip file; we do not."""
    result = inspect(b"", extension=extension, length=0)

    assert type(result.problem) is (kind or type(None))
    assert result.kind == "empty"
    assert result.verified_by == ("none" if kind else "length")


def test_a_problem_can_be_sent_to_another_process() -> None:
    """All errors pickle."""
    problem = inspect(b"abc", length=4).problem

    assert str(pickle.loads(pickle.dumps(problem))) == str(problem)
    assert str(problem) == "a/b.bin: 3 of 4 bytes came, so it is cut off; it was discarded. Run again."


# ---------------------------------------------------------------------------------------------------------------- gzip

BAD_CRC = GZ[:-8] + bytes([GZ[-8] ^ 1]) + GZ[-7:]
BAD_LENGTH = GZ[:-4] + bytes([GZ[-4] ^ 1]) + GZ[-3:]


@pytest.mark.parametrize(
    ("content", "good"),
    [
        (GZ, True),
        (GZ + GZ, True),
        (GZ + gzip.compress(b"", mtime=0) + GZ, True),
        (GZ + bytes(1), True),
        (GZ + bytes(5000), True),
        (GZ + bytes(512) + GZ, True),
        (gzip.compress(b"", mtime=0), True),
        (b"\x1f\x8b\x08\x1e" + bytes(6) + b"\x03\x00abc" + b"name\0comment\0", False),
        (GZ[:-1], False),
        (GZ[:-8], False),
        (GZ[: len(GZ) // 2], False),
        (GZ[:12], False),
        (GZ[:2], False),
        (GZ + GZ[: len(GZ) // 2], False),
        (GZ + GZ[:1], False),
        (GZ + b"\x1f", False),
        (GZ + b"junk", False),
        (GZ + bytes(100) + b"junk", False),
        (BAD_CRC, False),
        (BAD_LENGTH, False),
        (GZ + BAD_CRC, False),
        (GZ[:100] + bytes([GZ[100] ^ 255]) + GZ[101:], False),
    ],
)
@pytest.mark.parametrize("block", [1, 7, 1000, 10**6])
def test_gzip_content_is_whole_to_the_last_member(content: bytes, good: bool, block: int) -> None:
    """TR12, TR03: members, padding, junk, halves, check sums, in blocks of any size and without a known length."""
    result = inspect(content, extension=".csv.gz", block=block)

    assert (result.problem is None) == good
    assert result.verified_by == ("crc" if good else "none")
    assert result.kind == "gzip"
    assert good or isinstance(result.problem, IntegrityError)


@given(st.binary(max_size=300), st.integers(0, 400), st.integers(1, 50))
def test_no_cut_of_a_gzip_file_passes(body: bytes, at: int, block: int) -> None:
    """TR03: wherever it is cut, also when nobody knows its length."""
    whole = gzip.compress(body, mtime=0)
    cut = whole[: min(at, len(whole) - 1)]

    assert inspect(whole, extension=".gz", block=block).verified_by == "crc"
    assert inspect(cut, extension=".gz", block=block).verified_by == "none"
    assert inspect(cut, extension=".gz", block=block).problem is not None


def test_damage_is_noticed_while_the_content_comes() -> None:
    """The rest of a large file need not be fetched then."""
    verifier = ContentVerifier(name="x", extension=".gz")
    verifier.feed(b"\x1f\x8b\x08\x00" + os.urandom(100_000))

    assert isinstance(verifier.problem, IntegrityError)
    assert "member 1 is damaged" in str(verifier.problem)


def test_what_was_inflated_is_not_kept() -> None:
    """SE14: a bomb of 200 MB costs a constant of memory."""
    bomb = gzip.compress(bytes(200 * 2**20), 9, mtime=0)
    tracemalloc.start()
    try:
        result = inspect(bomb, extension=".gz", block=2**16, caps=Caps(ratio=2000), length=len(bomb))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert result.verified_by == "crc"
    assert peak < 4 * 2**20


@pytest.mark.parametrize(
    ("caps", "words"),
    [
        (Caps(ratio=100, floor=2**20), "more than 100 times its size"),
        (Caps(seconds=5), "more than 5 s"),
        (Caps(members=0), "more than 0 members"),
    ],
)
@pytest.mark.parametrize("packed", [gzip.compress, lambda body: zipped(x=body)])
def test_content_that_is_too_costly_to_check_falls_back_to_its_length(
    caps: Caps, words: str, packed: Callable[[bytes], bytes]
) -> None:
    """SE13, SE14: time, ratio and members have caps; the result says what was not checked."""
    bomb = packed(bytes(20 * 2**20))
    seconds = iter(range(10**6))

    known = inspect(bomb, length=len(bomb), caps=caps, clock=lambda: float(next(seconds)))
    unknown = inspect(bomb, caps=caps, clock=lambda: float(next(seconds)))

    assert (known.verified_by, unknown.verified_by) == ("length", "none")
    assert known.problem is None
    assert words in known.notice


# ----------------------------------------------------------------------------------------------------------------- zip


def patched(content: bytes, at: int, *values: int) -> bytes:
    """Replace some bytes."""
    return content[:at] + bytes(values) + content[at + len(values) :]


def directory_at(content: bytes) -> int:
    """Return where the central directory begins."""
    return int.from_bytes(content[-6:-2], "little")


def with_zip64() -> bytes:
    """Make a zip with the end record and sizes of large files."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        with archive.open(zipfile.ZipInfo("large"), "w", force_zip64=True) as member:
            member.write(b"content" * 50)
        archive.writestr("small", b"x")
    content = made.getvalue()
    start, size, end_at = directory_at(content), len(content) - 22 - directory_at(content), len(content) - 22
    record = struct.pack("<4sQHHIIQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, 2, 2, size, start)
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, end_at, 1)
    end = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    return content[:end_at] + record + locator + end


def streamed() -> bytes:
    """Make a zip whose sizes stand behind the members, as a program writes that cannot go back."""

    class Forward(io.RawIOBase):
        def __init__(self) -> None:
            self.parts = bytearray()

        def writable(self) -> bool:
            return True

        def write(self, data: object) -> int:
            self.parts += bytes(data)  # type: ignore[call-overload]
            return len(bytes(data))  # type: ignore[call-overload]

    made = Forward()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:  # type: ignore[arg-type]
        archive.writestr("a/b.csv", TEXT)
        archive.writestr("a/c.csv", TEXT)
    return bytes(made.parts)


def commented() -> bytes:
    """Make a zip with comments everywhere, a folder, a stored and a bzip2 member, and names beyond ASCII."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as archive:
        archive.comment = b"PK\x05\x06 looks like an end and is a comment"
        archive.mkdir("folder")
        archive.writestr("folder/caf\u00e9.csv", TEXT)
        archive.writestr("packed", TEXT, zipfile.ZIP_BZIP2)
        archive.infolist()[1].comment = b"about it"
    return made.getvalue()


def flagged(flag: int) -> bytes:
    """Mark the only member as encrypted (1) or as a patch of another file (32), in both headers."""
    content = zipped(one=b"secret " * 20)
    return patched(patched(content, 6, flag), directory_at(content) + 8, flag)


def overlapping() -> bytes:
    """Make a zip whose two entries are the same bytes."""
    content = zipped(aaaa=b"x" * 1000)
    start = directory_at(content)
    entry = content[start:-22]
    end = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 2, 2, 2 * len(entry), start, 0)
    return content[:start] + entry + entry + end


def out_of_order() -> bytes:
    """Make a zip whose directory names the members backwards."""
    content = zipped(aa=b"one", bb=b"two")
    start = directory_at(content)
    half = (len(content) - 22 - start) // 2
    return content[:start] + content[start + half : -22] + content[start : start + half] + content[-22:]


START = directory_at(ZIP)


def spanned(mark: bytes) -> bytes:
    """Put the mark of an archive that was to be split before a zip; its offsets count from the mark on."""
    made = io.BytesIO(mark)
    made.seek(0, io.SEEK_END)
    with zipfile.ZipFile(made, "a") as archive:
        archive.writestr("one", b"first")
    return made.getvalue()


def backslashed() -> bytes:
    """Write the directory of a zip with a slash, and the header of its member with a backslash."""
    content = zipped(**{"dir/name": b"one"})
    return content.replace(b"dir/name", b"dir\\name", 1)


def deleted() -> bytes:
    """Take the first member out of the directory of a zip, as tools do that leave its data."""
    content = zipped(aa=b"gone", bb=b"here")
    start = directory_at(content)
    half = (len(content) - 22 - start) // 2
    end = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 1, 1, half, start, 0)
    return content[:start] + content[start + half : -22] + end


@pytest.mark.parametrize(
    ("content", "proof"),
    [
        (ZIP, "crc"),
        (EMPTY_ZIP, "crc"),
        (EMPTY_ZIP[:-2] + b"\x03\x00abc", "crc"),
        (with_zip64(), "crc"),
        (ZIP + bytes(5000), "crc"),
        (spanned(b"PK00"), "crc"),
        (spanned(b"PK\x07\x08"), "crc"),
        (backslashed(), "crc"),
        (deleted(), "crc"),
        (streamed(), "crc"),
        (commented(), "crc"),
        (out_of_order(), "crc"),
        (zipped(**{f"file {number}": b"%d" % number for number in range(3000)}), "crc"),
        (flagged(1), "length"),
        (flagged(32), "length"),
    ],
    ids=[
        *("plain", "empty", "empty with comment", "zip64", "padded", "spanned", "spanned so", "backslashes", "deleted"),
        *("streamed", "commented", "out of order", "many"),
        *("encrypted", "patch"),
    ],
)
@pytest.mark.parametrize("block", [13, 10**6])
def test_a_whole_zip_is_recognized(content: bytes, proof: Proof, block: int) -> None:
    """TR13: all lawful shapes, with and without check sums that can be computed."""
    result = inspect(content, extension=".zip", block=block)

    assert result.problem is None
    assert (result.verified_by, result.kind) == (proof, "zip")
    assert ("encrypted" in result.notice) == (proof == "length")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (ZIP[:-1], "no end record"),
        (ZIP[:-22], "no end record"),
        (ZIP[: len(ZIP) // 2], "no end record"),
        (ZIP[:4], "no end record"),
        (ZIP + b"junk", "no end record"),
        (ZIP + b"\n" * 70_000, "no end record"),
        (ZIP[:100] + ZIP[110:], "its directory is not where"),
        (ZIP[:100] + b"0123456789" + ZIP[100:], "its directory is not where"),
        (ZIP + ZIP, "its directory is not where"),
        (patched(ZIP, 14, ZIP[14] ^ 1), "size or check sum in its own header"),
        (patched(ZIP, 30, ord("O")), "another name or method"),
        (patched(ZIP, 0, 0x50, 0x4B, 0x03, 0x04, 0x14, 0, 0, 0, 0), "another name or method"),
        (patched(ZIP, START + 16, ZIP[START + 16] ^ 1), "size or check sum in its own header"),
        (patched(ZIP, START, 0), "directory is damaged"),
        (patched(ZIP, START + 42, 5), "not where the directory says"),
        (patched(ZIP, START + 43, 0xFF, 0xFF, 0x7F), "ends in the middle"),
        (patched(ZIP, len(ZIP) - 14, 2, 0, 2, 0), "more in it than its end record says"),
        (patched(ZIP, len(ZIP) - 14, 9, 0, 9, 0), "directory is damaged"),
        (patched(ZIP, len(ZIP) - 18, 1), "one part of several"),
        (patched(ZIP, 40, ZIP[40] ^ 0x55), "member 'one'"),
        (patched(ZIP, START - 10, ZIP[START - 10] ^ 0x55), "member 'three'"),
        (patched(streamed(), directory_at(streamed()) + 16, 0), "check sum"),
        (overlapping(), "overlap"),
        (b"PK\x05\x06" + bytes(17), "no end record"),
        (patched(with_zip64(), len(with_zip64()) - 98, 0), "damaged"),
        (patched(with_zip64(), len(with_zip64()) - 34, 0xFF, 0xFF), "ends in the middle"),
    ],
)
def test_a_zip_that_is_not_whole_or_was_added_to_is_refused(content: bytes, words: str) -> None:
    """TR13, SE13: a lenient reader would take some of these."""
    result = inspect(content, extension=".zip", length=len(content))

    assert isinstance(result.problem, IntegrityError)
    assert words in str(result.problem)
    assert result.verified_by == "none"


def test_a_zip_with_a_lying_size_is_stopped_by_the_bytes_it_produces() -> None:
    """SE13: a member that says 10 bytes and holds a gigabyte is inflated for one block only."""
    body = bytes(50 * 2**20)
    content = zipped(bomb=body)
    start = directory_at(content)
    liar = patched(patched(content, 22, 10, 0, 0, 0), start + 24, 10, 0, 0, 0)
    tracemalloc.start()
    try:
        result = inspect(liar, extension=".zip")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert "is not 10 bytes long" in str(result.problem)
    assert peak < 4 * 2**20


def test_junk_before_a_zip_is_refused_even_when_its_offsets_are_right() -> None:
    """TR13: such a file starts as something else, whatever its end says."""
    made = io.BytesIO(b"\x00\x01junk")
    made.seek(0, io.SEEK_END)
    with zipfile.ZipFile(made, "a") as archive:
        archive.writestr("a", b"b")

    assert isinstance(inspect(made.getvalue(), extension=".zip").problem, IntegrityError)
    assert isinstance(inspect(b"PK\x03\x04" + made.getvalue(), extension=".zip").problem, IntegrityError)


@given(st.data())
def test_no_cut_and_no_flip_of_a_zip_passes_for_whole(data: st.DataObject) -> None:
    """TR13: a cut is always seen; a flip is seen wherever it changes what would be unpacked."""
    at = data.draw(st.integers(0, len(ZIP) - 1))
    bit = data.draw(st.integers(0, 7))
    flipped = patched(ZIP, at, ZIP[at] ^ (1 << bit))

    assert inspect(ZIP[:at], extension=".zip").verified_by == "none"
    result = inspect(flipped, extension=".zip")
    if result.verified_by == "crc":
        assert [unpacked(flipped, name) for name in ("one", "two", "three")] == [
            unpacked(ZIP, name) for name in ("one", "two", "three")
        ]


def unpacked(content: bytes, name: str) -> bytes:
    """Unpack a member with another reader."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return archive.read(name)


@given(st.binary(max_size=200))
@example(EMPTY_ZIP * 2)
@example(b"PK\x03\x04" + EMPTY_ZIP)
def test_nothing_makes_the_checks_fail_otherwise(content: bytes) -> None:
    """Whatever comes, there is a verdict."""
    for start in (b"", b"PK\x03\x04", b"\x1f\x8b", b"PK\x05\x06", b"{", b"Obj\x01"):
        result = inspect(start + content + ZIP[-22:] * (len(content) % 2), extension=".zip", block=50)
        assert result.problem is None or isinstance(result.problem, TransferError)


# ------------------------------------------------------------------------------------------------- something else came


@pytest.mark.parametrize("extension", [".csv.gz", ".zip", ".csv", ".avro"])
@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"<!DOCTYPE html><html><body>Sign in</body></html>", "a web page"),
        (b"\n  <html lang='en'>" + b"x" * 5000, "a web page"),
        (b"\xef\xbb\xbf<?xml version='1.0'?><Error><Code>BlobNotFound</Code></Error>", "an XML document"),
        (b"<Error><Code>ServerBusy</Code></Error>", "an XML document"),
        (b"<meta http-equiv='refresh' content='0;url=/portal'>\n", "a web page"),
        (b" " * 600 + b"<html></html>", "a web page"),
        (b'[{"error": "expired"}]', "a JSON document"),
        (b'{"status":400,"errors":[{"code":3028,"message":"no content"}]}', "a JSON document"),
        (b'\xef\xbb\xbf {"Message": "Unauthorized"}', "a JSON document"),
    ],
)
def test_an_answer_that_is_no_file_is_refused(extension: str, content: bytes, what: str) -> None:
    """TR46: a captive portal, an error with status 200; even when the length is right."""
    result = inspect(content, extension=extension, length=len(content))

    assert isinstance(result.problem, ContentError)
    assert f"{what}" in str(result.problem)
    assert "Sign in" not in str(result.problem)
    assert result.verified_by == "none"


@pytest.mark.parametrize(
    ("content", "extension"),
    [
        (b"<html></html>", ".html"),
        (b'{"error": 1}', ".json"),
        (b"<html></html>", ""),
        (b"a,b\n1,2\n", ".csv"),
        (b'{"rows": []}', ".csv"),
        (b"{not json", ".csv"),
        (b"{" * 30_000, ".csv"),
        (b"message,code\n1,2\n", ".csv.gz"),
        (b"Obj\x01" + b"\0" * 50, ".avro"),
    ],
)
def test_content_that_may_be_right_is_taken(content: bytes, extension: str) -> None:
    """Only what clearly is something else is refused."""
    result = inspect(content, extension=extension, length=len(content))

    assert (result.problem, result.verified_by) == (None, "length")


@pytest.mark.parametrize("extension", [".csv.gz", ".zip", ".avro"])
def test_content_that_lost_its_first_bytes_is_damaged(extension: str) -> None:
    """Binary content that is none of the kinds cannot be what the name promises."""
    result = inspect(b"\x00" + GZ[1:], extension=extension, length=len(GZ))

    assert isinstance(result.problem, IntegrityError)


@pytest.mark.parametrize("extension", [".zip", ".avro"])
def test_text_is_no_zip(extension: str) -> None:
    """TR13: junk before a zip, as long as it likes; only ``.csv.gz`` may turn out to be plain."""
    result = inspect(b"junk\n" * 1000 + ZIP, extension=extension)

    assert isinstance(result.problem, IntegrityError)


def test_a_zip_where_gzip_was_promised_is_checked_as_a_zip_and_said_so() -> None:
    """TR47: the vendor's own pages disagree about it."""
    result = inspect(ZIP, extension=".csv.gz")

    assert (result.verified_by, result.kind, result.problem) == ("crc", "zip", None)
    assert result.notice == "the name promises gzip content and it is zip"


@pytest.mark.parametrize("block", [1, 7, 100_000])
def test_gzip_content_that_was_packed_once_more_on_its_way_is_foreign(block: int) -> None:
    """TR10: only where the answer called itself encoded; a gzip file inside a gzip file is allowed to be one."""
    twice = gzip.compress(GZ, mtime=0)

    result = inspect(twice, extension=".csv.gz", block=block, encoded=True)

    assert isinstance(result.problem, ContentError)
    assert "packed once more" in str(result.problem)
    assert inspect(twice, extension=".csv.gz", block=block).verified_by == "crc"
    assert inspect(GZ, extension=".csv.gz", block=block, encoded=True).verified_by == "crc"


def test_a_resumed_file_is_judged_as_a_whole() -> None:
    """The bytes of an earlier attempt are fed first, in other blocks."""
    verifier = ContentVerifier(name="x", extension=".gz")
    verifier.feed(GZ[:777])
    for start in range(777, len(GZ), 100):
        verifier.feed(memoryview(GZ)[start : start + 100])

    result = verifier.finish(lambda offset, size: GZ[offset : offset + size])

    assert (result.verified_by, result.sha256) == ("crc", hashlib.sha256(GZ).hexdigest())


def test_random_content_in_random_blocks_gives_the_digest_of_the_whole() -> None:
    """The size of blocks never matters."""
    chance = random.Random(5)
    body = chance.randbytes(20_000)
    whole = zlib.compress(body)

    assert {inspect(whole, block=block, length=len(whole)).sha256 for block in (1, 511, 512, 513, 4096)} == {
        hashlib.sha256(whole).hexdigest()
    }
