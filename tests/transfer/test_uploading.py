"""Files of this machine on their way to a service."""

from __future__ import annotations

import os
from contextlib import aclosing
from pathlib import Path

import pytest
from cancel_everywhere import HOW, How, cancel_at_every_await

from arena_async.errors import ConfigurationError, SourceChangedError, StorageError
from arena_async.options import MIB
from arena_async.transfer.local_files import LocalFile


async def test_a_file_is_given_in_pieces_of_a_megabyte_as_often_as_it_is_asked_for(tmp_path: Path) -> None:
    """A second try reads it anew."""
    content = bytes(range(256)) * 4096 * 2 + b"end"
    (tmp_path / "prices.csv").write_bytes(content)
    async with await LocalFile.open(tmp_path / "prices.csv") as file:
        assert (file.name, file.size) == ("prices.csv", 2 * MIB + 3)
        for _ in range(2):
            pieces = [piece async for piece in file.pieces()]
            assert [len(piece) for piece in pieces] == [MIB, MIB, 3]
            assert b"".join(pieces) == content


async def test_the_digest_and_the_beginning_are_those_of_the_content(tmp_path: Path) -> None:
    """The SHA-256 of ``abc`` is in the standard."""
    (tmp_path / "a").write_bytes(b"abc")
    async with await LocalFile.open(tmp_path / "a") as file:
        assert await file.sha256() == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        assert await file.head(2) == b"ab"
        assert await file.head(10) == b"abc"


@pytest.mark.parametrize("change", [b"abcd", b"ab", b"xyz"], ids=["longer", "shorter", "other"])
async def test_a_file_that_is_changed_while_it_is_sent_is_not_sent_to_its_end(tmp_path: Path, change: bytes) -> None:
    """The last piece is held back, so that what was announced never becomes whole."""
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    os.utime(path, ns=(1, 1))
    async with await LocalFile.open(path) as file:
        path.write_bytes(change)
        with pytest.raises(SourceChangedError, match=r"^a: the file was changed while it was read"):
            [piece async for piece in file.pieces()]


async def test_a_file_that_is_replaced_is_still_the_one_that_was_opened(tmp_path: Path) -> None:
    """Editors save by renaming; what is sent is what was looked at."""
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    async with await LocalFile.open(path) as file:
        (tmp_path / "new").write_bytes(b"other")
        (tmp_path / "new").rename(path)
        assert [piece async for piece in file.pieces()] == [b"abc"]


async def test_what_is_no_file_is_refused_with_its_name(tmp_path: Path) -> None:
    """Nothing was sent."""
    with pytest.raises(ConfigurationError, match=r"none\.csv: there is no such file; nothing was sent"):
        await LocalFile.open(tmp_path / "none.csv")
    with pytest.raises(ConfigurationError, match="there is no such file"):
        await LocalFile.open(f"{tmp_path}/a\0b.csv")
    with pytest.raises(ConfigurationError, match="it is a folder and no file"):
        await LocalFile.open(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigurationError, match="it is a FIFO and no file"):
        await LocalFile.open(tmp_path / "pipe")


async def test_what_the_system_refuses_is_an_error_of_the_disk(tmp_path: Path) -> None:
    """A path through a file leads nowhere."""
    (tmp_path / "a").write_bytes(b"abc")
    with pytest.raises(StorageError, match="could not be read"):
        await LocalFile.open(tmp_path / "a" / "b")


async def test_closing_twice_is_safe_and_reading_afterwards_is_an_error(tmp_path: Path) -> None:
    """Nothing of it is left open."""
    (tmp_path / "a").write_bytes(b"abc")
    file = await LocalFile.open(tmp_path / "a")
    await file.aclose()
    await file.aclose()
    with pytest.raises(Exception, match="can no longer be given"):
        await file.head(1)


async def test_leaving_in_the_middle_leaves_nothing_open(tmp_path: Path) -> None:
    """An upload may be refused after its first piece."""
    (tmp_path / "a").write_bytes(bytes(3 * MIB))
    async with await LocalFile.open(tmp_path / "a") as file, aclosing(file.pieces()) as pieces:
        async for _ in pieces:
            break


@pytest.mark.parametrize("how", HOW)
async def test_a_cancellation_anywhere_leaves_nothing_open(tmp_path: Path, how: How) -> None:
    """Opening, reading and closing."""
    (tmp_path / "a").write_bytes(bytes(MIB + 1))

    async def read(_: int) -> str:
        async with await LocalFile.open(tmp_path / "a") as file:
            return await file.sha256()

    stopped = [one async for one in cancel_at_every_await(read, how=how)]

    assert len(stopped) > 5
    assert all(one.cancelled for one in stopped[:-1])
