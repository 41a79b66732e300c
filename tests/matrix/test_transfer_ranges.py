"""Rows TR17 to TR25: what servers really do when they are asked for the rest of a file."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from filesets import content
from matrix import World, row
from scripted import RawServer, Reply, Seen, reply
from session_files import ETAG, Hours, download, ranged, ranges, remote, session_files

from arena_async.errors import IntegrityError, SourceChangedError

BODY = content(300_000)
NEW = content(280_000, "another version")
CUT = 200_000
PART = reply(body=BODY, headers=ETAG, cut=CUT)
WHOLE = reply(body=BODY, headers=ETAG)

REST = f"bytes={CUT}-"


def slice_of(
    body: bytes, first: int, last: int, *, total: int | None = None, status: int = 206, etag: str = '"v1"'
) -> Reply:
    """Answer with a slice that says what it is, be that right or wrong."""
    headers = {"ETag": etag, "Content-Range": f"bytes {first}-{last}/{total or len(body)}"}
    return reply(status, body=body[first : last + 1], headers=headers)


@row("TR17", protection="a whole answer to a range begins anew")
@pytest.mark.parametrize("size", [len(BODY), None])
async def test_a_whole_answer_to_a_range_is_used_from_its_first_byte(world: World, size: int | None) -> None:
    """TR17: the server has no ranges; its answer is not appended, and not asked for a second time."""
    final = world.allow("files/a.bin", BODY)
    async with RawServer() as server, session_files(world, server, remote("a", size=size)) as files:
        server.on("GET", "/a", PART, WHOLE)
        report = await download(world, files)

    assert report.failures == ()
    assert final.read_bytes() == BODY
    assert ranges(server) == [None, REST]


@row("TR17", protection="a host without ranges is asked for one only once")
async def test_a_host_without_ranges_is_not_asked_for_one_again(world: World) -> None:
    """TR17: neither for this file, whose second answer is cut too, nor for the next one."""
    finals = [world.allow(f"files/{name}.bin", BODY) for name in "ab"]
    rows = [remote(name, size=len(BODY)) for name in "ab"]
    async with RawServer() as server, session_files(world, server, *rows) as files:
        server.on("GET", "/a", PART, PART, WHOLE)
        server.on("GET", "/b", PART, WHOLE)
        report = await download(world, files, workers=1)

    assert report.failures == ()
    assert [final.read_bytes() for final in finals] == [BODY, BODY]
    assert sorted(filter(None, ranges(server))) == [REST]
    assert len(server.requests) == 5


@row("TR18", protection="the start of a range is checked")
@pytest.mark.parametrize(("first", "last"), [(100_000, 199_999), (200_001, 299_999), (0, 99_999), (199_999, 299_999)])
async def test_a_range_that_starts_elsewhere_is_never_spliced(world: World, first: int, last: int) -> None:
    """TR18: one of them would even give the right length; the file is asked for as a whole instead."""
    final = world.allow("files/a.bin", BODY)
    async with RawServer() as server, session_files(world, server, remote("a")) as files:
        server.on("GET", "/a", PART, slice_of(BODY, first, last), WHOLE)
        report = await download(world, files)

    assert report.failures == ()
    assert final.read_bytes() == BODY
    assert ranges(server) == [None, REST, None]


@row("TR19", protection="a range has to belong to the same file")
@pytest.mark.parametrize(
    "rest",
    [
        slice_of(NEW, CUT, len(NEW) - 1, etag='"v2"'),
        slice_of(NEW, CUT, len(NEW) - 1),
        slice_of(content(len(BODY), "v2"), CUT, len(BODY) - 1, etag='"v2"'),
    ],
    ids=["ETag and total", "total", "ETag"],
)
async def test_a_range_of_another_version_begins_the_file_anew_once(world: World, rest: Reply) -> None:
    """TR19: another total or another ETag; the listing is asked once, and the new version fetched from zero."""
    final = world.allow("files/a.bin", NEW)
    async with RawServer() as server, session_files(world, server, remote("a")) as files:
        server.on("GET", "/a", PART, rest, reply(body=NEW, headers={"ETag": '"v2"'}))
        report = await download(world, files)

    assert report.failures == ()
    assert final.read_bytes() == NEW
    assert ranges(server) == [None, REST, None]
    assert len(files.looked_up) == 1


@row("TR21", protection="a slice is told by its Content-Range")
async def test_a_slice_under_status_200_is_judged_by_its_content_range(world: World) -> None:
    """TR21: the rest comes under the wrong status, and is what was asked for all the same."""
    final = world.allow("files/a.bin", BODY)
    async with RawServer() as server, session_files(world, server, remote("a")) as files:
        server.on("GET", "/a", PART, slice_of(BODY, CUT, len(BODY) - 1, status=200))
        report = await download(world, files)

    assert report.failures == ()
    assert final.read_bytes() == BODY
    assert ranges(server) == [None, REST]


@row("TR21", protection="a slice is told by its Content-Range")
async def test_a_slice_that_nobody_asked_for_is_not_the_file(world: World) -> None:
    """TR21: the whole was asked for; a cache answers with a piece it had, under status 200."""
    final = world.allow("files/a.bin", BODY)
    async with RawServer() as server, session_files(world, server, remote("a")) as files:
        server.on("GET", "/a", slice_of(BODY, 0, 99_999, status=200), slice_of(BODY, 5, 99_999, status=200), WHOLE)
        report = await download(world, files)

    assert report.failures == ()
    assert final.read_bytes() == BODY
    assert ranges(server) == [None, None, None]


MULTIPART = reply(
    206,
    body=b"--x\r\nContent-Range: bytes 200000-299999/300000\r\n\r\n" + BODY[CUT:] + b"\r\n--x--\r\n",
    headers={**ETAG, "Content-Type": "multipart/byteranges; boundary=x"},
)


@row("TR22", protection="only what says where it belongs is written")
@pytest.mark.parametrize(
    "odd",
    [reply(206, body=BODY[CUT:], headers=ETAG), MULTIPART],
    ids=["the rest", "multipart"],
)
async def test_a_range_that_does_not_say_where_it_starts_is_not_written(world: World, odd: Reply) -> None:
    """TR22: status 206 without ``Content-Range``, or with several ranges in one body: asked again, as a whole."""
    final = world.allow("files/a.bin", BODY)
    async with RawServer() as server, session_files(world, server, remote("a")) as files:
        server.on("GET", "/a", PART, odd, WHOLE)
        report = await download(world, files)

    assert report.failures == ()
    assert final.read_bytes() == BODY
    assert ranges(server) == [None, REST, None]


@row("TR22", protection="only what says where it belongs is written")
async def test_a_range_in_answer_to_a_plain_request_is_never_the_file(world: World) -> None:
    """TR22: asked again as often as allowed, in vain."""
    world.allow("files/a.bin")
    async with RawServer() as server, session_files(world, server, remote("a")) as files:
        server.on("GET", "/a", slice_of(BODY, 0, 99_999))
        report = await download(world, files, attempts=3)

    assert isinstance(report.outcomes[0].error, IntegrityError)
    assert ranges(server) == [None, None, None]


def unequal(*, cut_wholes: int | None, honest: bool) -> Callable[[Seen], Reply]:
    """Play two mirrors of the same bytes that number them differently and are asked in turn."""
    replies = iter(range(1000))

    def answer(seen: Seen) -> Reply:
        number = next(replies)
        given = ranged(BODY, etag=f'"mirror {number % 2}"'.replace(" ", "-"))(seen)
        if seen.header("Range") is None:
            cut = CUT if cut_wholes is None or number < cut_wholes else None
            return reply(body=BODY, headers=given.headers, cut=cut)
        return given if honest else slice_of(BODY, CUT, len(BODY) - 1, etag=f'"mirror-{number % 2}"')

    return answer


@row("TR24", protection="a file is restarted twice at most")
@pytest.mark.parametrize("honest", [True, False])
async def test_a_source_that_changes_with_every_answer_ends_after_two_restarts(world: World, honest: bool) -> None:
    """TR24: every whole answer is cut, and every rest is of another ETag: refused by 412, or sent all the same."""
    world.allow("files/a.bin")
    hours = Hours()
    async with RawServer() as server, session_files(world, server, remote("a", size=len(BODY))) as files:
        server.on("GET", "/a", unequal(cut_wholes=None, honest=honest))
        report = await download(world, files, hours=hours)

    assert isinstance(report.outcomes[0].error, SourceChangedError)
    assert ranges(server) == [None, REST] * 3
    assert len(files.looked_up) == 2


@row("TR24", protection="a range has to belong to the same file")
async def test_a_source_that_changes_with_every_answer_is_finished_by_a_whole_one(world: World) -> None:
    """TR24: as soon as an answer comes without a cut."""
    final = world.allow("files/a.bin", BODY)
    async with RawServer() as server, session_files(world, server, remote("a", size=len(BODY))) as files:
        server.on("GET", "/a", unequal(cut_wholes=1, honest=False))
        report = await download(world, files)

    assert report.failures == ()
    assert final.read_bytes() == BODY
    assert ranges(server) == [None, REST, None]


@row("TR25", protection="a refused precondition means another file")
@pytest.mark.parametrize("listed", [True, False])
async def test_a_refused_precondition_begins_the_file_anew_with_a_fresh_entry(world: World, listed: bool) -> None:
    """TR25: 412 to ``If-Match``; the listing knows the new version already, or not yet."""
    final = world.allow("files/a.bin", NEW)
    old = remote("a", size=len(BODY) if listed else None)
    async with RawServer() as server, session_files(world, server, old) as files:
        if listed:
            files.fresh[old.key] = remote("a", size=len(NEW), change="2")
        server.on("GET", "/a", PART, ranged(NEW, etag='"v2"'))
        report = await download(world, files)

    assert report.failures == ()
    assert final.read_bytes() == NEW
    assert [seen.header("If-Match") for seen in server.requests] == [None, '"v1"', None]
    assert len(files.looked_up) == 1
