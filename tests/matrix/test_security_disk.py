"""Rows SE09 to SE14 and SE17: links, pipes and bombs that lie in wait on the disk or in the content."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from disks import Call, RecordingDisk
from filesets import content
from internals import rig
from matrix import World, case, row
from scripted import RawServer, json_reply, reply
from session_files import download, ranged, remote, session_files

from arena_async import ArenaClient, ArenaCredentials, Downloader, Mirror, Outcome
from arena_async.errors import DestinationBusyError, IntegrityError
from arena_async.transfer.archives import Caps
from arena_async.transfer.verify import ContentVerifier

BODY = gzip.compress(content(60_000), mtime=0)
FINAL = "files/a.csv.gz"
STATE = ".arena-async"
#: What somebody who knows us well may expect as the random part of a name.
GUESSED = "00112233aabbccdd"


async def _bring_one(world: World, body: bytes = BODY, extension: str = ".csv.gz", **how: Any) -> Outcome:
    """Bring one file home whose content is as given, and give its outcome."""
    async with RawServer() as server:
        server.on("GET", "/a", ranged(body))
        async with session_files(world, server, remote("a", extension=extension)) as files:
            report = await download(world, files, **how)
    (outcome,) = report.outcomes
    return outcome


@row("SE09", protection="a final name comes about by a rename")
async def test_a_link_under_a_final_name_is_replaced_and_not_followed(world: World) -> None:
    """SE09: what the link led to stays as it was."""
    final = world.root / FINAL
    final.parent.mkdir(parents=True)
    final.symlink_to(world.outside / "mine.txt")

    outcome = await _bring_one(world)

    assert outcome.error is None
    assert not final.is_symlink()
    assert final.read_bytes() == BODY
    assert (world.outside / "mine.txt").read_bytes() == b"not yours"


def _trap_link(path: Path, outside: Path) -> None:
    path.symlink_to(outside / "mine.txt")


def _trap_pipe(path: Path, outside: Path) -> None:
    os.mkfifo(path)


def _trap_duplicate(path: Path, outside: Path) -> None:
    path.hardlink_to(outside / "mine.txt")


@row("SE10", protection="a partial file is made anew and never opened through a link")
@pytest.mark.parametrize("trap", [_trap_link, _trap_pipe, _trap_duplicate])
@pytest.mark.parametrize(
    "known",
    [
        case("the key", protection="what lies under the key of a partial file is no partial file by that"),
        "the whole name",
    ],
)
async def test_a_trap_under_the_name_of_a_partial_file_catches_nobody(
    world: World, trap: Callable[[Path, Path], None], known: str
) -> None:
    """SE10: neither one that guessed the key nor one that guessed the whole name; the file comes home all the same."""
    place = world.root / STATE / "partial" / f"{hashlib.sha256(b'test/a').hexdigest()[:32]}-{GUESSED}.part"
    # The state of the folder takes names as well; the one that counts is the one for the partial file.
    names = iter([GUESSED] * 4 + [str(number) for number in range(100)])
    world.allow(FINAL, BODY)
    world.keeps_partials = known == "the whole name"  # The trap itself, which the next start sweeps away.

    def draw() -> str:
        """Lay the trap at the last moment, when everything that lay there has been looked at."""
        name = next(names)
        if name == GUESSED and not os.path.lexists(place):
            trap(place, world.outside)
        return name

    def lay(engine: Downloader | Mirror) -> None:
        """Lay it when the folder is open already, so that nothing sweeps it away first."""
        if known == "the whole name":
            rig(engine, draw_name=draw)
        else:
            trap(place, world.outside)
            rig(engine, known_partial=place.name)  # As if it had been there all along.

    outcome = await _bring_one(world, prepare=lay)

    assert outcome.error is None
    assert (world.root / FINAL).read_bytes() == BODY
    assert (world.outside / "mine.txt").read_bytes() == b"not yours"


@row("SE11", protection="directories are opened one inside the other, without following links")
@pytest.mark.parametrize("when", ["before", "between check and rename"])
async def test_a_folder_that_becomes_a_link_leads_nowhere(world: World, when: str) -> None:
    """SE11: the file does not land where the link leads."""
    world.keeps_partials = True
    directory = world.root / "files"

    def swap(call: Call) -> None:
        """Put the link there when the file has come and been verified."""
        if when != "before" and call.verb == "sync" and call.name.endswith(".part") and directory.is_dir():
            directory.rmdir()
            directory.symlink_to(world.outside / "folder")

    world.root.mkdir(exist_ok=True)
    if when == "before":
        directory.symlink_to(world.outside / "folder")
    else:
        directory.mkdir()
    outcome = await _bring_one(world, disk=RecordingDisk(swap))

    assert isinstance(outcome.error, DestinationBusyError)
    assert directory.is_symlink()
    assert sorted(path.name for path in (world.outside / "folder").iterdir()) == ["deep.bin"]


def _zip(members: dict[str, bytes], *, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", method) as archive:
        for name, body in members.items():
            archive.writestr(zipfile.ZipInfo(name), body, compress_type=method)
    return packed.getvalue()


EVIL = ["../../outside/evil.txt", "/etc/evil", "C:\\evil", "..\\..\\evil", "a/../../b", "CON", "x\x1by"]


@row("SE12", protection="an archive is stored and never unpacked")
async def test_an_archive_with_evil_names_stays_an_archive(world: World) -> None:
    """SE12: unpacking is not offered, so nothing but the archive itself comes into being, whatever its members say."""
    body = _zip(dict.fromkeys(EVIL, b"evil"))
    world.allow("files/a.zip", body)

    outcome = await _bring_one(world, body, ".zip")

    assert outcome.error is None
    assert (world.root / "files/a.zip").read_bytes() == body
    found = [path for path in world.root.rglob("*") if path.is_file() and STATE not in path.parts]
    assert found == [world.root / "files/a.zip"]


def _inspect(body: bytes, **how: Any) -> Any:
    verifier = ContentVerifier(name="a", length=len(body), **how)
    for at in range(0, len(body), 65_536):
        verifier.feed(body[at : at + 65_536])
    return verifier.finish(lambda offset, size: body[offset : offset + size])


@row("SE13", protection="what a check may produce is bounded")
async def test_a_zip_bomb_costs_a_bounded_check_and_no_disk(world: World) -> None:
    """SE13: 200 MB of nothing in a small zip: kept as it is, its check sums unchecked, and that is said."""
    world.memory = 24 * 1024 * 1024
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("bomb.csv", "w") as pour:
        for _ in range(200):
            pour.write(bytes(2**20))
    body = packed.getvalue()
    world.allow("files/a.zip", body)

    outcome = await _bring_one(world, body, ".zip")

    assert outcome.error is None
    assert outcome.verified_by == "length"
    assert "times its size" in outcome.reason
    assert sum(path.stat().st_size for path in world.root.rglob("*") if path.is_file()) < 1_000_000


@row("SE13", protection="what a check may produce is bounded")
def test_a_zip_of_very_many_members_is_not_walked_to_its_end(world: World) -> None:
    """SE13: the count of members has a cap of its own."""
    body = _zip({f"{number}": b"" for number in range(2_000)}, method=zipfile.ZIP_STORED)
    result = _inspect(body, extension=".zip", caps=Caps(members=1_000))
    assert result.problem is None
    assert result.verified_by == "length"
    assert "more than 1000 members" in result.notice


@row("SE13", protection="a member is as long as it says")
def test_a_zip_that_lies_about_a_size_is_refused(world: World) -> None:
    """SE13: both headers say 10 bytes, the data is longer."""
    body = bytearray(_zip({"a": content(100_000)}, method=zipfile.ZIP_STORED))
    directory = body.rindex(b"PK\x01\x02")
    body[22:26] = body[directory + 24 : directory + 28] = (10).to_bytes(4, "little")
    result = _inspect(bytes(body), extension=".zip")
    assert isinstance(result.problem, IntegrityError)


@row("SE14", protection="what a check may produce is bounded")
async def test_a_gzip_bomb_costs_a_constant(world: World) -> None:
    """SE14: 200 MB of nothing in 200 KB, brought home in a few megabytes of memory and called verified by length."""
    world.memory = 24 * 1024 * 1024
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=9, mtime=0) as pour:
        for _ in range(200):
            pour.write(bytes(2**20))
    body = packed.getvalue()
    world.allow(FINAL, body)

    outcome = await _bring_one(world, body)

    assert outcome.error is None
    assert outcome.verified_by == "length"
    assert "times its size" in outcome.reason


@row("SE17", protection="a stored session is for its owner alone")
async def test_a_stored_session_is_private_and_never_in_an_open_folder(world: World, tmp_path: Path) -> None:
    """SE17: only where it is asked for, 0600, and refused in a folder that others may write to."""
    session = world.secrets["session"]
    private, open_directory = tmp_path / "private", tmp_path / "open"
    private.mkdir(mode=0o700)
    open_directory.mkdir()
    open_directory.chmod(0o777)
    credentials = ArenaCredentials("me@example.com", world.secrets["password"])
    async with RawServer() as server:
        server.on("POST", "/login", json_reply({"arenaSessionId": session, "workspaceId": 7}))
        server.on("PUT", "/logout", reply())
        server.on("GET", "*", json_reply({"count": 0, "results": []}))
        async with ArenaClient(credentials, base_url=server.base_url) as arena:
            await arena.extracts.search().first()
        assert not any(path.is_file() for path in private.rglob("*"))

        store = private / "session"
        before = os.umask(0)
        try:
            async with ArenaClient(credentials, base_url=server.base_url, session_store=store) as arena:
                await arena.extracts.search().first()
                (stored,) = [path for path in private.iterdir() if session.encode() in path.read_bytes()]
                assert stat.S_IMODE(stored.stat().st_mode) == 0o600
        finally:
            os.umask(before)

        with pytest.raises(Exception, match=r"(?i)folder|others|private") as caught:
            async with ArenaClient(credentials, base_url=server.base_url, session_store=open_directory / "s") as arena:
                await arena.extracts.search().first()
        world.saw(caught.value)
        assert list(open_directory.iterdir()) == []
