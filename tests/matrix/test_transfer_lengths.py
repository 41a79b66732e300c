"""Rows TR01 to TR08: bodies that end too early, too late or not at all."""

from __future__ import annotations

from filesets import content, remote
from matrix import World, row
from scripted import RawServer, reply
from session_files import ETAG, bring, ranged, session_files

from arena_async.options import KIB, MIB

TEN = content(10 * MIB)


@row("TR01", protection="a cut body is taken up where it broke")
async def test_a_cut_body_is_taken_up_where_it_broke(world: World) -> None:
    """TR01: 10 MiB announced, cut after 4 MiB: the second request asks for the rest and nothing before it."""
    final = world.allow("files/a.bin", TEN)
    async with RawServer() as server, session_files(world, server, remote("a", size=len(TEN))) as files:
        server.on("GET", "/a", reply(body=TEN, headers=ETAG, cut=4 * MIB), ranged(TEN))
        report = await bring(world, files)

    assert report.failures == ()
    assert final.read_bytes() == TEN
    first, second = server.requests
    assert (first.header("Range"), second.header("If-Match")) == (None, '"v1"')
    start = int((second.header("Range") or "")[6:-1])
    assert 4 * MIB - 64 * KIB <= start <= 4 * MIB
    assert report.bytes_written == len(TEN)
