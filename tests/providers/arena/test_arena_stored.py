"""Files of the vault and of items: searched, listed, brought home, and skipped where the service has no content."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from arena_scripts import arena_client, error_reply, page_reply, payload
from scripted import RawServer, json_reply

from arena_async.errors import ApiError, ConfigurationError
from arena_async.options import TransferOptions
from arena_async.protocol.files import FileSet, RemoteFile
from arena_async.providers.arena import ITEM, ArenaClient, ArenaFile, FileQuery, Item, ItemQuery, all_of
from arena_async.testing import ArenaSimulator
from arena_async.transfer.mirror import Mirror
from arena_async.transfer.models import Action
from arena_async.transfer.outcomes import Report

DRAWING = "arena/items/ITEM1/DFZI1EZP8QYGH1ZPKRMS.pdf"


@pytest.fixture
async def server() -> AsyncIterator[RawServer]:
    """Yield a server with one item as the pages show its files."""
    async with RawServer() as server:
        server.on("GET", "/v1/items/ITEM1/files", json_reply(payload("arena_item_files.json")))
        yield server


@pytest.fixture
async def service() -> AsyncIterator[ArenaSimulator]:
    """Yield a service with an item and a vault."""
    async with ArenaSimulator(files=0) as service:
        yield service


async def every(files: FileSet) -> list[RemoteFile]:
    """Walk a whole set."""
    return [file async for file in files]


async def sync(to: Path, files: FileSet, **arguments: Any) -> Report:
    """Sync once, with a mirror of its own."""
    async with Mirror(to, options=TransferOptions(durability="off")) as mirror:
        return await mirror.sync(files, **arguments)


def digests(directory: Path) -> dict[str, str]:
    """Return the digest of every file that was brought home."""
    found = [path for path in directory.rglob("*") if path.is_file() and ".arena-async" not in path.parts]
    return {path.relative_to(directory).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


# --- files of items ---------------------------------------------------------------------------------------------------


async def test_the_files_of_an_item_are_laid_out_by_what_identifies_them(server: RawServer, arena: ArenaClient) -> None:
    """By item and association, whatever the vendor calls them; what has no content says why."""
    drawing, datasheet, to_come = await every(arena.items.files("ITEM1"))

    assert "/".join((*drawing.parts, drawing.stem + drawing.extension)) == DRAWING
    assert drawing.key.endswith("/items/ITEM1/DFZI1EZP8QYGH1ZPKRMS")
    assert (drawing.name, drawing.size, drawing.skip) == ("drawing.pdf", 8989, None)
    assert drawing.change == "VDXGURVX8P8O7QH2PO36 2 2015-08-17T16:48:26+00:00"
    assert drawing.fields == {"item": "ITEM1", "association": "DFZI1EZP8QYGH1ZPKRMS"}
    assert (datasheet.extension, datasheet.skip) == (
        ".html",
        "its storage method is WEB, so the service holds no content of it",
    )
    assert (to_come.extension, to_come.skip) == (
        "",
        "its storage method is PLACE_HOLDER, so the service holds no content of it",
    )
    assert server.lines("GET *") == ["GET /v1/items/ITEM1/files"]


async def test_the_primary_file_alone_can_be_asked_for(arena: ArenaClient) -> None:
    """Then the set is narrowed, so that nothing looks gone."""
    files = arena.items.files(Item(guid="ITEM1"), primary=True)

    assert [file.stem for file in await every(files)] == ["DFZI1EZP8QYGH1ZPKRMS"]
    assert files.narrowed
    assert files.scope == "arena/items/ITEM1?primary"
    assert not arena.items.files("ITEM1").narrowed


async def test_a_price_is_one_request_for_each_item_and_one_for_each_content(arena: ArenaClient) -> None:
    """At least: a file that was corrected costs one more where the list does not say when."""
    cost = arena.items.files("ITEM1", "ITEM2", "ITEM1").cost()

    assert (cost.listing, cost.per_file, cost.exact) == (2, 1, False)


async def test_files_of_items_are_found_again_with_one_request_for_each_item(
    server: RawServer, arena: ArenaClient
) -> None:
    """What is gone is missing, and so is what belongs to another set."""
    server.on("GET", "/v1/items/ITEM2/files", error_reply("arena_error_3011.json"))
    files = arena.items.files("ITEM1", "ITEM2")
    drawing = (await every(arena.items.files("ITEM1")))[0]
    server.requests.clear()
    gone = drawing.key.replace("ITEM1", "ITEM2")

    found = await files.find([drawing.key, gone, drawing.key.replace("/items/", "/files/"), "other"])

    assert [file.key for file in found] == [drawing.key]
    assert server.lines("GET *") == ["GET /v1/items/ITEM1/files", "GET /v1/items/ITEM2/files"]


async def test_an_item_that_is_not_there_is_an_error_of_the_listing(server: RawServer, arena: ArenaClient) -> None:
    """A list is whole or it is an error."""
    server.on("GET", "/v1/items/ITEM2/files", error_reply("arena_error_3011.json"))

    with pytest.raises(ApiError) as caught:
        await every(arena.items.files("ITEM1", "ITEM2"))
    assert caught.value.code == 3011


async def test_the_scope_of_many_items_is_short_and_knows_no_order(arena: ArenaClient) -> None:
    """It names the query in the ledger."""
    one = arena.items.files(*(f"ITEM{number}" for number in range(500))).scope
    other = arena.items.files(*(f"ITEM{number}" for number in reversed(range(500)))).scope

    assert one == other
    assert one.startswith("arena/items/500 ")
    assert len(one) < 60


async def test_the_files_of_an_item_come_home_once(service: ArenaSimulator, tmp_path: Path) -> None:
    """What has content is fetched, the rest is skipped with its reason; a second sync costs the listing."""
    drawing, sheet, later = list(service.vault.values())[:3]
    item = service.add_item("900-00002", files=[drawing, sheet, later])
    async with service.client() as arena:
        files = arena.items.files(item.guid)
        first = await sync(tmp_path, files)
        service.log.clear()
        second = await sync(tmp_path, files)

    place = f"arena/items/{item.guid}/{item.files[0].guid}.pdf"
    assert digests(tmp_path) == {place: service.stored_files[place].sha256}
    assert {outcome.reason for outcome in first.outcomes if outcome.action is Action.SKIP} == {
        "its storage method is WEB, so the service holds no content of it",
        "its storage method is PLACE_HOLDER, so the service holds no content of it",
    }
    assert first.failures == ()
    assert second.requests == 1
    assert len(service.seen("GET */content")) == 0


async def test_a_newer_edition_replaces_the_file_of_an_item(service: ArenaSimulator, tmp_path: Path) -> None:
    """The association stays, the file it means is another one."""
    (item,) = service.items.values()
    async with service.client() as arena:
        files = arena.items.files(item.guid)
        await sync(tmp_path, files)
        newer = service.add_file("drawing.pdf", size=5000)
        newer.edition = "2"
        item.files[0].file = newer
        report = await sync(tmp_path, files)

    assert report.counts[Action.REFRESH] == 1
    assert digests(tmp_path) == {
        place: content.sha256 for place, content in service.stored_files.items() if "/items/" in place
    }


async def test_a_file_that_left_an_item_is_gone_and_can_be_pruned(service: ArenaSimulator, tmp_path: Path) -> None:
    """It is reported and stays, unless it is meant to go."""
    extra = service.add_file("extra.pdf", size=700)
    item = service.add_item("900-00002", files=[next(iter(service.vault.values())), extra])
    async with service.client() as arena:
        files = arena.items.files(item.guid)
        await sync(tmp_path, files)
        item.files.pop()
        gone = await sync(tmp_path, files)
        pruned = await sync(tmp_path, files, prune=True)

    assert (gone.counts[Action.GONE], pruned.counts[Action.PRUNE]) == (1, 1)
    assert len(digests(tmp_path)) == 1


async def test_a_plan_for_the_files_of_items_is_carried_out_without_listing_again(
    service: ArenaSimulator, tmp_path: Path
) -> None:
    """One request for the item while planning, then one for the content."""
    (item,) = service.items.values()
    async with service.client() as arena:
        files = arena.items.files(item.guid)
        async with Mirror(tmp_path, options=TransferOptions(durability="off")) as mirror:
            plan = await mirror.plan(files)
            service.log.clear()
            await mirror.sync(files, plan=plan)

    assert (plan.steps, plan.bytes_to_fetch) == ({"listing": 1, "look_up": 0, "content": 1}, 4000)
    assert [seen.path.rpartition("/")[2] for seen in service.log if seen.method == "GET"] == ["content"]
    assert len(digests(tmp_path)) == 1


# --- files of the vault -----------------------------------------------------------------------------------------------


async def test_files_of_the_vault_come_home_by_their_guids(service: ArenaSimulator, tmp_path: Path) -> None:
    """One request to look each up, one for each content; the layout is by guid and edition."""
    drawing, sheet, later = list(service.vault.values())
    async with service.client() as arena:
        report = await sync(tmp_path, arena.files.content(drawing.guid, sheet.guid, later.guid))
        requested = [seen for seen in service.log if seen.method == "GET"]

    place = f"arena/files/{drawing.guid}/1.pdf"
    assert digests(tmp_path) == {place: service.stored_files[place].sha256}
    assert report.counts[Action.SKIP] == 2
    assert len(requested) == 3 + 1


async def test_files_that_were_listed_already_are_not_looked_up_again(service: ArenaSimulator, tmp_path: Path) -> None:
    """One page of the search, and the contents."""
    async with service.client() as arena:
        found = await arena.files.search(FileQuery(format="pdf")).collect()
        files = arena.files.content(*found)
        cost = files.cost()
        report = await sync(tmp_path, files)

    assert (cost.listing, cost.per_file, cost.exact) == (0, 1, True)
    assert report.requests == 1
    assert len([seen for seen in service.log if seen.method == "GET"]) == 2


async def test_files_of_the_vault_are_found_again_by_their_guids(server: RawServer, arena: ArenaClient) -> None:
    """In the edition that the key names; another edition under the guid is another file."""
    facts = payload("arena_item_files.json")["results"][0]["file"]
    server.on("GET", "/v1/files/VDXGURVX8P8O7QH2PO36", json_reply(facts))
    server.on("GET", "/v1/files/GONE", error_reply("arena_error_3011.json"))
    files = arena.files.content("VDXGURVX8P8O7QH2PO36")
    (drawing,) = await every(files)

    assert drawing.fields == {"file": "VDXGURVX8P8O7QH2PO36", "edition": "2"}
    assert [file.key for file in await files.find([drawing.key])] == [drawing.key]
    assert await files.find([drawing.key[:-1] + "3", drawing.key.replace("VDXGURVX8P8O7QH2PO36", "GONE")]) == []


@pytest.mark.parametrize("given", [(), ("",), (ArenaFile(),)])
async def test_a_file_that_cannot_be_named_is_refused_at_once(arena: ArenaClient, given: tuple[Any, ...]) -> None:
    """Before anything is sent."""
    with pytest.raises(ConfigurationError):
        arena.files.content(*given)
    with pytest.raises(ConfigurationError):
        arena.items.files(*("" for _ in given))


async def test_a_file_of_another_set_is_not_opened(arena: ArenaClient) -> None:
    """Each set opens its own."""
    (drawing, *_) = await every(arena.items.files("ITEM1"))

    with pytest.raises(ConfigurationError, match="no file of files"):
        await arena.files.content("F").open(drawing)


# --- items ------------------------------------------------------------------------------------------------------------


async def test_one_association_and_the_list_of_them_can_be_looked_at(server: RawServer, arena: ArenaClient) -> None:
    """With their facts and without their content."""
    server.on(
        "GET", "/v1/items/ITEM1/files/DFZI1EZP8QYGH1ZPKRMS", json_reply(payload("arena_item_files.json")["results"][0])
    )

    one = await arena.items.association("ITEM1", "DFZI1EZP8QYGH1ZPKRMS")
    listed = await arena.items.associations("ITEM1").collect()

    assert one == listed[0]
    assert one.file is not None
    assert (one.primary, one.file.name, one.file.checked_out) == (True, "drawing.pdf", False)


async def test_the_full_view_gives_the_custom_attributes_of_all_items_in_one_request(service: ArenaSimulator) -> None:
    """Reference 9: one request for 400 items instead of 401."""
    for number in range(60):
        service.add_item(f"900-1{number:04}").attributes["N5O7Q9SYH0W5SPPVABCD"] = f"finish {number % 2}"
    async with service.client() as arena:
        found = await arena.items.search(ItemQuery(number="900-1*", view="full")).collect()
        half = await arena.items.search(ItemQuery(attributes={"N5O7Q9SYH0W5SPPVABCD": "finish 1"})).collect()

    assert len(found) == 60
    assert {item.additional_attributes[0]["value"] for item in found} == {"finish 0", "finish 1"}
    assert len(half) == 30
    assert len(service.seen("GET */items")) == 2


async def test_criteria_of_items_are_sent_as_json(server: RawServer, arena: ArenaClient) -> None:
    """In the form that exports take, and escaped as a query."""
    server.on("GET", "/v1/items", page_reply({"guid": "I"}))

    await arena.items.search(ItemQuery(criteria=all_of(ITEM.number.starts_with("50%+")))).collect()

    assert server.requests[-1].query == (
        "criteria=%5B%5B%7B%22attribute%22%3A%22number%22%2C%22operator%22%3A%22STARTS_WITH%22%2C%22value%22%3A%2250%25"
        "%2B%22%7D%5D%5D&offset=0&limit=400"
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"assembly_type": "ASSEMBLY", "in_assembly": True}, "exclude each other"),
        ({"view": "large"}, "minimum, compact, full"),
        ({"attributes": {"responseview": "full"}}, "no guid of a custom attribute"),
        ({"attributes": {"a&b": "full"}}, "no guid of a custom attribute"),
    ],
)
async def test_a_search_that_the_service_would_refuse_is_not_sent(
    server: RawServer, arena: ArenaClient, options: dict[str, Any], said: str
) -> None:
    """The refusal costs no request."""
    with pytest.raises(ConfigurationError, match=said):
        arena.items.search(ItemQuery(**options))

    assert server.requests == []


# --- corrections of an edition ----------------------------------------------------------------------------------------

GUID = "VDXGURVX8P8O7QH2PO36"


def compact(**changed: Any) -> dict[str, Any]:
    """Return a file as lists show it: without its size and without when it was last modified."""
    row = {"guid": GUID, "number": "F-1", "name": "a.txt", "edition": "1", "format": "txt", "corrected": False}
    return {**row, "creationDateTime": "2025-01-01T00:00:00Z", **changed}


def complete(**changed: Any) -> dict[str, Any]:
    """Return a file as a request for it shows it."""
    return {**compact(), "size": 5, "lastModifiedDateTime": "2026-01-01T00:00:00Z", **changed}


CORRECTED = {"corrected": True, "lastModifiedDateTime": "2026-02-01T00:00:00Z"}


@pytest.mark.parametrize(
    ("listed", "looked_up", "mark", "requests"),
    [
        pytest.param(compact(), complete(), f"{GUID} 1", 0, id="never corrected"),
        pytest.param(
            compact(corrected=True),
            complete(**CORRECTED),
            f"{GUID} 1 2026-02-01T00:00:00+00:00",
            1,
            id="corrected, and the list does not say when",
        ),
        pytest.param(
            complete(**CORRECTED),
            complete(**CORRECTED),
            f"{GUID} 1 2026-02-01T00:00:00+00:00",
            0,
            id="listed with both",
        ),
        pytest.param(
            compact(corrected=None), complete(), f"{GUID} 1", 1, id="the list does not say whether it was corrected"
        ),
        pytest.param(
            compact(corrected=None),
            complete(corrected=None),
            f"{GUID} 1 2026-01-01T00:00:00+00:00",
            1,
            id="the service never says whether it was corrected",
        ),
        pytest.param(
            compact(corrected=True, storageMethodName="WEB"),
            complete(**CORRECTED),
            f"{GUID} 1 2025-01-01T00:00:00+00:00",
            0,
            id="without content there is nothing to correct",
        ),
    ],
)
async def test_the_change_mark_moves_with_the_content_however_a_file_was_found(
    listed: dict[str, Any], looked_up: dict[str, Any], mark: str, requests: int
) -> None:
    """A file is looked up only where what was listed of it cannot show a change of its content."""
    async with RawServer() as server, arena_client(server) as client:
        server.on("GET", "/v1/files", json_reply({"count": 1, "results": [listed]}))
        server.on("GET", "/v1/items/I/files", json_reply({"count": 1, "results": [{"guid": "A", "file": listed}]}))
        server.on("GET", f"/v1/files/{GUID}", json_reply(looked_up))
        given = await client.files.search().collect()
        for files, listing in ((client.files.content(*given), requests), (client.items.files("I"), requests + 1)):
            server.requests.clear()
            (file,) = await every(files)
            assert (file.change, len(server.lines("GET *"))) == (mark, listing)
        assert client.files.content(*given).cost().listing == requests
        if listed.get("storageMethodName") is None:
            (by_guid,) = await every(client.files.content(GUID))
            assert by_guid.change == mark


async def test_an_association_that_is_listed_by_its_guid_alone_is_looked_up(
    server: RawServer, arena: ArenaClient
) -> None:
    """Else nothing would show that it means another edition now."""
    server.on("GET", "/v1/items/I/files", json_reply({"count": 1, "results": [{"guid": "A"}]}))
    server.on("GET", "/v1/items/I/files/A", json_reply({"guid": "A", "file": compact()}))
    (file,) = await every(arena.items.files("I"))

    assert (file.change, file.name) == (f"{GUID} 1", "a.txt")
    assert server.lines("GET *") == ["GET /v1/items/I/files", "GET /v1/items/I/files/A"]


async def test_corrected_content_arrives_from_a_list_that_shows_neither_size_nor_date(
    service: ArenaSimulator, tmp_path: Path
) -> None:
    """Also the second time; and a file that was found in a list is the same one when it is named by its guid."""
    file = next(one for one in service.vault.values() if one.content is not None)
    place = f"arena/files/{file.guid}/1.pdf"
    async with service.client() as arena:
        actions = []
        for day in range(3):
            for files in (await arena.files.search().collect(), [file.guid]):
                report = await sync(tmp_path, arena.files.content(*files))
                actions.append([str(one.action) for one in report.outcomes if one.file.fields["file"] == file.guid])
                assert digests(tmp_path) == {place: service.stored_files[place].sha256}
            file.change(file.modified + 86_400 * (day + 1))

    assert actions == [["fetch"], [], ["refresh"], [], ["refresh"], []]
