"""Definitions of exports and imports: looked for before they are made, because nobody can remove one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import attrs
import pytest
from arena_scripts import arena_client, page_reply
from fake_clock import FakeTime
from scripted import RawServer, json_reply, reply

from arena_async.errors import ConfigurationError, ServerError, TransportError
from arena_async.providers.arena import (
    ITEM,
    ExportFileContent,
    ExportOptions,
    ImportMapping,
    ImportOptions,
    all_of,
)
from arena_async.providers.arena.exports import Exports
from arena_async.providers.arena.imports import Imports

OPTIONS = ExportOptions(export_views=["SPECS", "BOM"], bom_levels="FULL")
CRITERIA = all_of(ITEM.number.starts_with("900-"))
SENT = {"exportViews": ["SPECS", "BOM"], "bomLevels": "FULL"}
NESTED = [[{"attribute": "number", "operator": "STARTS_WITH", "value": "900-"}]]


def definition(guid: str, **more: Any) -> dict[str, Any]:
    """Write an export definition as the service shows it, with its own defaults."""
    shown = {"guid": guid, "name": "Released", "options": {**SENT, "header": "apiName", "format": "csv"}}
    return {**shown, "criteria": NESTED, **more}


@pytest.fixture
async def server() -> AsyncIterator[RawServer]:
    """Yield a server that makes what is asked for."""
    async with RawServer() as running:
        running.on("POST", "/v1/exports", json_reply(definition("NEW"), 201))
        running.on("POST", "/v1/imports", json_reply({"guid": "NEW"}, 201))
        yield running


@pytest.fixture
async def exports(server: RawServer) -> AsyncIterator[Exports]:
    """Yield the exports of a client, on a clock that only sleeping moves."""
    async with arena_client(server) as arena:
        yield attrs.evolve(arena.exports, timing=FakeTime().timing)


@pytest.fixture
async def imports(server: RawServer) -> AsyncIterator[Imports]:
    """Yield the imports of a client, on a clock that only sleeping moves."""
    async with arena_client(server) as arena:
        yield attrs.evolve(arena.imports, timing=FakeTime().timing)


async def test_a_definition_is_made_in_one_request(server: RawServer, exports: Exports) -> None:
    """What is not said is not sent."""
    made = await exports.define("Released", criteria=CRITERIA, options=OPTIONS, description="For the ERP")

    assert made.guid == "NEW"
    assert server.requests[-1].json == {
        "name": "Released",
        "world": "ITEMS",
        "options": SENT,
        "criteria": NESTED,
        "description": "For the ERP",
    }
    assert len(server.lines("* /v1/exports*")) == 1


async def test_criteria_may_be_left_to_the_runs(server: RawServer, exports: Exports) -> None:
    """Then the definition has none."""
    await exports.define("Released", options=OPTIONS)

    assert "criteria" not in server.requests[-1].json


@pytest.mark.parametrize(
    ("listed", "found"),
    [
        ([definition("OLD")], "OLD"),
        ([definition("A", criteria=None), definition("OLD")], "OLD"),
        ([definition("A", options={**SENT, "format": "json"}), definition("OLD")], "OLD"),
        ([definition("OLD", options={"exportViews": ["BOM", "SPECS"], "bomLevels": "full"})], "OLD"),
        ([], "NEW"),
        ([definition("A", name="released")], "NEW"),
        ([definition("A", options=None)], "NEW"),
        ([definition("A", criteria=[[{"attribute": "number", "operator": "CONTAINS", "value": "9"}]])], "NEW"),
    ],
)
async def test_one_that_does_the_same_is_given_where_that_is_asked_for(
    server: RawServer, exports: Exports, listed: list[dict[str, Any]], found: str
) -> None:
    """A name need not be unique, so the criteria and the options are compared, too."""
    server.on("GET", "/v1/exports", page_reply(*listed))
    given = await exports.define("Released", criteria=CRITERIA, options=OPTIONS, reuse=True)

    assert given.guid == found
    assert server.lines("GET *") == ["GET /v1/exports?name=Released&offset=0&limit=400"]
    assert len(server.lines("POST /v1/exports")) == (found == "NEW")


@pytest.mark.parametrize(
    ("name", "description", "options", "complaint"),
    [
        ("", None, OPTIONS, "name has 0 characters"),
        ("   ", None, OPTIONS, "not all blank"),
        ("x" * 101, None, OPTIONS, "name has 101 characters"),
        ("x", "y" * 4001, OPTIONS, "description has 4,001 characters"),
        ("x", None, ExportOptions(export_views=["FILES"], format="json"), "would be empty"),
        (
            "x",
            None,
            ExportOptions(export_views=["SPECS"], file_content=ExportFileContent(supplier_item="PRIMARY")),
            "takes one of NONE, ALL",
        ),
    ],
)
async def test_what_would_be_refused_or_empty_is_not_sent(
    server: RawServer, exports: Exports, name: str, description: str | None, options: ExportOptions, complaint: str
) -> None:
    """Not even a login."""
    with pytest.raises(ConfigurationError, match=complaint):
        await exports.define(name, options=options, description=description)

    assert server.requests == []


async def test_a_definition_whose_answer_was_lost_is_found_in_the_list(server: RawServer, exports: Exports) -> None:
    """One that was made years ago is not taken for it."""
    server.on("POST", "/v1/exports", reply(mute=True))
    server.on(
        "GET",
        "/v1/exports",
        page_reply(
            definition("OLD", creationDateTime="2020-01-01T00:00:00Z"),
            definition("NEW", creationDateTime="2026-03-02T12:00:01Z", creator={"email": "robot@everyroadgps.com"}),
        ),
    )

    assert (await exports.define("Released", criteria=CRITERIA, options=OPTIONS)).guid == "NEW"
    assert len(server.lines("POST /v1/exports")) == 1


async def test_a_definition_that_is_not_in_the_list_is_not_made_again(server: RawServer, exports: Exports) -> None:
    """It could not be removed if the first one turned up."""
    server.on("POST", "/v1/exports", reply(mute=True))
    server.on("GET", "/v1/exports", page_reply())
    with pytest.raises(TransportError, match=r"not sent again.*A definition cannot be removed.*reuse=True"):
        await exports.define("Released", options=OPTIONS)

    assert len(server.lines("POST /v1/exports")) == 1


async def test_a_definition_that_was_certainly_not_made_is_not_looked_for(server: RawServer, exports: Exports) -> None:
    """The service says that nothing was started."""
    busy = {"status": 500, "errors": [{"code": 3514, "message": "Too many."}]}
    server.on("POST", "/v1/exports", json_reply(busy, 500))

    with pytest.raises(ServerError):
        await exports.define("Released", options=OPTIONS)
    assert server.lines("GET *") == []


async def test_an_import_definition_is_written_in_the_documented_words(server: RawServer, imports: Imports) -> None:
    """Options under their documented names, in any case of the words, and nothing that is not said."""
    options = ImportOptions(
        create_duplicates="ERROR",
        merge_identical_bom_lines=True,
        multi_select_delimiter=";",
        mapping=(ImportMapping(resource="ITEM", api_name="number", source_name="Item Number"),),
        unknown={"newOption": 1},
    )
    await imports.define("Prices", resource="item_bom", mode="Replace", options=options)

    assert server.requests[-1].json == {
        "name": "Prices",
        "resource": "ITEM_BOM",
        "mode": "REPLACE",
        "options": {
            "newOption": 1,
            "createDuplicates": "ERROR",
            "mergeIdenticalBOMLines": True,
            "multiSelectDelimiter": ";",
            "mapping": [{"resource": "ITEM", "apiName": "number", "sourceName": "Item Number"}],
        },
    }


@pytest.mark.parametrize(
    ("resource", "mode", "complaint"),
    [
        ("ITEMS", "EDIT", "resource is 'ITEMS'; it takes one of ITEM_SPECS, ITEM_BOM"),
        ("ITEM_SPECS", "UPDATE", "mode is 'UPDATE'; it takes one of CREATE, EDIT"),
        ("ITEM_SPECS", "REPLACE", "REPLACE goes with the resource ITEM_BOM only"),
    ],
)
async def test_an_import_that_would_be_refused_is_not_sent(
    server: RawServer, imports: Imports, resource: str, mode: str, complaint: str
) -> None:
    """With the words that are taken."""
    with pytest.raises(ConfigurationError, match=complaint):
        await imports.define("Prices", resource=resource, mode=mode)

    assert server.requests == []


async def test_an_import_definition_is_used_again_where_that_is_asked_for(server: RawServer, imports: Imports) -> None:
    """What is not asked for may be anything; resource, mode and the options asked for must be the same."""
    shown = {"guid": "OLD", "name": "Prices", "resource": "Item_Specs", "mode": "EDIT", "options": {"timeZone": "UTC"}}
    server.on("GET", "/v1/imports", page_reply({**shown, "guid": "A", "mode": "CREATE"}, shown))

    assert (await imports.define("Prices", resource="ITEM_SPECS", mode="EDIT", reuse=True)).guid == "OLD"
    requested = ImportOptions(time_zone="US/Pacific")
    assert (
        await imports.define("Prices", resource="ITEM_SPECS", mode="EDIT", options=requested, reuse=True)
    ).guid == "NEW"


async def test_a_definition_of_an_import_can_be_renamed(server: RawServer, imports: Imports) -> None:
    """What is not said stays as it is."""
    server.on("PUT", "/v1/imports/I", json_reply({"guid": "I", "name": "New"}, 201))

    assert (await imports.rename("I", name="New")).name == "New"
    assert server.requests[-1].json == {"name": "New"}
    with pytest.raises(ConfigurationError, match="without a new name"):
        await imports.rename("I")
