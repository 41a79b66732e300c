"""What the simulators serve: real files of exact sizes, the same on every machine."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import time
import tracemalloc
import zipfile
import zlib

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from arena_async.testing.payloads import payload


@given(size=st.integers(128, 300_000), seed=st.text(max_size=5))
@settings(max_examples=60, deadline=None)
def test_a_zip_has_the_size_asked_for_and_sound_members(size: int, seed: str) -> None:
    """Any size gives a zip the standard library accepts, CRCs included."""
    data = payload("extract.zip", size, seed=seed).read()
    assert len(data) == size
    with zipfile.ZipFile(io.BytesIO(data)) as opened:
        assert opened.testzip() is None
        assert all(name.endswith(".csv") for name in opened.namelist())
        assert len(opened.namelist()) == (4 if size >= 1000 else 1)


@given(size=st.integers(28, 300_000), seed=st.text(max_size=5))
@example(size=22148, seed="010")
@settings(max_examples=60, deadline=None)
def test_a_gzip_has_the_size_asked_for_and_a_sound_end(size: int, seed: str) -> None:
    """Any size gives one gzip member whose CRC and length are right."""
    data = payload("10821_activity.csv.gz", size, seed=seed).read()
    assert len(data) == size
    text = gzip.decompress(data)
    assert size < 100 or text.startswith(b"guid,value")


@given(name=st.sampled_from(["a.csv", "b.bin", "c.zip", "d.csv.gz"]), size=st.integers(128, 900_000), data=st.data())
@settings(max_examples=60, deadline=None)
def test_any_part_can_be_read_alone(name: str, size: int, data: st.DataObject) -> None:
    """A part read on its own is that part of the whole."""
    recipe = payload(name, size)
    start = data.draw(st.integers(0, size))
    stop = data.draw(st.integers(start, size))
    whole = recipe.read()
    assert len(whole) == size
    assert b"".join(recipe.chunks(start, stop)) == whole[start:stop]


def test_the_bytes_depend_on_name_size_and_seed_alone() -> None:
    """The same recipe gives the same bytes again; another seed gives others."""
    one = payload("a.zip", 8989, seed="1")
    assert one.read() == payload("a.zip", 8989, seed="1").read()
    assert one.sha256 == hashlib.sha256(one.read()).hexdigest()
    assert one.md5 == hashlib.md5(one.read(), usedforsecurity=False).digest()
    assert one.read() != payload("a.zip", 8989, seed="2").read()
    assert one.read() != payload("b.zip", 8989, seed="1").read()


def test_the_members_of_a_zip_are_csv() -> None:
    """Every member is text a CSV reader takes, and they differ."""
    with zipfile.ZipFile(io.BytesIO(payload("a.zip", 50_000).read())) as opened:
        texts = [opened.read(name).decode() for name in opened.namelist()]
    assert len(set(texts)) == 4
    assert all(len(list(csv.reader(io.StringIO(text, newline="")))) > 10 for text in texts)


@pytest.mark.parametrize(
    ("name", "size"), [("a.zip", 127), ("a.zip", 4 << 30), ("a.csv.gz", 27), ("a.csv", -1)], ids=str
)
def test_impossible_sizes_are_refused(name: str, size: int) -> None:
    """What cannot be a sound file is not made."""
    with pytest.raises(ValueError, match="cannot be made"):
        payload(name, size)


def test_a_huge_file_is_described_in_no_time_and_little_memory() -> None:
    """Five gigabytes cost no more than a page of memory to serve the end of."""
    began = time.thread_time()
    tracemalloc.start()
    recipe = payload("day.csv.gz", 5 << 30)
    tail = b"".join(recipe.chunks((5 << 30) - 13))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert tail[:5] == b"\x01\x00\x00\xff\xff"
    assert peak < 4 << 20
    assert time.thread_time() - began < 5


def test_a_repeated_stretch_has_the_crc_that_reading_it_gives() -> None:
    """A gzip of some megabytes has the CRC-32 of its text, although nobody read the text."""
    data = payload("a.csv.gz", 3_000_000).read()
    text = gzip.decompress(data)
    assert int.from_bytes(data[-8:-4], "little") == zlib.crc32(text)
    assert len(text) > 5_000_000
