"""Row TR90: a list that shows a file without its size and its date, and a content that is corrected in between."""

from __future__ import annotations

import pytest
from matrix import World, row
from scripted import RawServer, Reply, Seen, json_reply, reply
from services import ArenaScript, page

from arena_async.transfer.mirror import Mirror

GUID, ITEM, ASSOCIATION = "VDXGURVX8P8O7QH2PO36", "NZ3FOZX7M2KLZOMBPE5H", "DFZI1EZP8QYGH1ZPKRMS"


@row("TR90", protection="a change mark moves with the content")
@pytest.mark.parametrize("found", ["in the vault", "at an item"])
async def test_a_correction_that_a_list_does_not_date_arrives(world: World, found: str) -> None:
    """TR90: the second correction too, and nothing is requested twice on a day without one."""
    contents = [b"the first", b"corrected", b"corrected again"]
    day = 0

    def compact() -> dict[str, object]:
        return {"guid": GUID, "edition": "1", "format": "txt", "name": "a.txt", "corrected": day > 0}

    def complete(_: Seen) -> Reply:
        return json_reply(
            {**compact(), "size": len(contents[day]), "lastModifiedDateTime": f"2026-01-0{day + 1}T00:00:00Z"}
        )

    def content(_: Seen) -> Reply:
        return reply(body=contents[day], headers={"Content-Type": "application/octet-stream"})

    async with RawServer() as server:
        script = ArenaScript(world, server)
        script.on("GET", "/files", lambda _: page([compact()]))
        script.on("GET", f"/items/{ITEM}/files", lambda _: page([{"guid": ASSOCIATION, "file": compact()}]))
        script.on("GET", f"/files/{GUID}", complete)
        script.on("GET", f"/files/{GUID}/content", content)
        script.on("GET", f"/items/{ITEM}/files/{ASSOCIATION}/content", content)
        final = world.root / (
            f"arena/items/{ITEM}/{ASSOCIATION}.txt" if found == "at an item" else f"arena/files/{GUID}/1.txt"
        )
        world.allow(final.relative_to(world.root), *contents)
        here = []
        async with script.client() as arena, Mirror(world.root) as mirror:
            for day in (0, 0, 1, 1, 2, 2):  # noqa: B007 - the service reads it
                at_item = arena.items.files(ITEM)
                listed = await arena.files.search().collect()
                report = await mirror.sync(at_item if found == "at an item" else arena.files.content(*listed))
                world.saw(report)
                assert report.error is None
                assert report.failures == ()
                here.append(final.read_bytes())

    assert here == [contents[0], contents[0], contents[1], contents[1], contents[2], contents[2]]
    assert len(server.lines("GET *content")) == 3
