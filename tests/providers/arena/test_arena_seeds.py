"""The documented requests and answers of extracts, exports and imports, played over a raw socket."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from arena_scripts import QUOTA, SESSION_ID, arena_client, error_reply, page_reply, payload
from listings import take
from scripted import RawServer, json_reply, reply

from arena_async.errors import ApiError, ListingError, PermissionDeniedError, ServerError
from arena_async.protocol.decoding import decode
from arena_async.protocol.messages import Request
from arena_async.protocol.pagination import PageRequest
from arena_async.protocol.quota import Quota
from arena_async.providers.arena import (
    ArenaFile,
    ExportQuery,
    ExportRun,
    ExportRunQuery,
    ExtractRunQuery,
    FileAssociation,
    FileQuery,
    ImportQuery,
    ImportRun,
    ImportRunQuery,
    ItemQuery,
)
from arena_async.providers.arena.adapter import LIST, ArenaAdapter

EXTRACT, RUN, ASSOCIATION = "N5O7Q9SYH0W5SPPV", "FXH0EBFHS9SK3M5O7QS1", "3L5O2Z35GXG6P8R88MYW"
EXPORT, EXPORT_RUN, EXPORT_FILE = "HZJ2GDHJUBRATCQ5TNJX", "M407Q30F25L3M5WZUF9M", "VDXGZCX0BEXDWF5CV9RE"
IMPORT, IMPORT_RUN = "TDFGHJKL3N6KHLNYFY8R", "R9TCQNRT4L47Q9VQWUF3"
PACIFIC = timezone(timedelta(hours=-7))


async def test_the_files_of_an_extract_run_are_listed_as_documented() -> None:
    """Seed 000: path, both headers, every parameter, the sample body, and the quota of the answer."""
    sample = payload("arena_extract_run_files.json")
    async with RawServer() as server, arena_client(server) as arena:
        server.on("GET", f"/v1/extracts/{EXTRACT}/runs/{RUN}/files", json_reply(sample, headers=QUOTA))

        found = await arena.extracts.run_files(
            EXTRACT,
            RUN,
            downloaded_from=datetime(2015, 8, 1, tzinfo=UTC),
            downloaded_to=datetime(2015, 8, 31, 16, 59, 59, 999, tzinfo=PACIFIC),
            offset=40,
            limit=200,
        ).collect()

        assert found == [decode(sample["results"][0], FileAssociation)]
        login, listing = server.requests
        assert login.line == "POST /v1/login"
        assert login.json == {
            "email": "robot@everyroadgps.com",
            "password": "planted-password",
            "workspaceId": 896256783,
        }
        assert listing.line == (
            f"GET /v1/extracts/{EXTRACT}/runs/{RUN}/files?downloadDateTimeFrom=2015-08-01T00%3A00%3A00Z"
            "&downloadDateTimeTo=2015-08-31T23%3A59%3A59Z&offset=40&limit=200"
        )
        assert listing.header("arena_session_id") == SESSION_ID
        assert listing.header("content-type") == "application/json"
        assert (listing.header("Arena-Usage-Reason") or "").startswith("arena_async/")
        assert listing.header("Cookie") is None
        assert listing.body == b""
        assert arena.quota == Quota(remaining=9000, resets_at=datetime(2036, 5, 2, 21, 22, 13, tzinfo=UTC), limit=10000)


async def test_one_file_of_an_extract_run_is_given_by_the_guid_of_its_association() -> None:
    """Seed 000: "appending a file association GUID returns the file association with that GUID"."""
    sample = payload("arena_extract_run_files.json")["results"][0]
    path = f"/v1/extracts/{EXTRACT}/runs/{RUN}/files/{ASSOCIATION}"
    async with RawServer() as server, arena_client(server) as arena:
        server.on("GET", path, json_reply(sample, headers=QUOTA))

        found = await arena.extracts.association(EXTRACT, RUN, ASSOCIATION)

        assert found == decode(sample, FileAssociation)
        assert server.lines("GET *") == [f"GET {path}"]


async def test_the_documented_errors_of_an_extract_run_are_typed() -> None:
    """Seed 000: a guid that is not valid, a file server that refuses, and one that says nothing at all."""
    async with RawServer() as server, arena_client(server) as arena:
        server.on("GET", "/v1/extracts/*/files", error_reply("arena_error_3011.json"))
        server.on("GET", "*/content", error_reply("arena_error_3017.json"), reply(400, headers=QUOTA))
        file = Request(method="GET", path=f"/extracts/{EXTRACT}/runs/{RUN}/files/{ASSOCIATION}/content")

        with pytest.raises(ApiError) as invalid:
            await arena.extracts.run_files(EXTRACT, "XFWQ0GZGZDJ015J12").collect()
        with pytest.raises(ServerError) as later:
            await arena.session.stream(file)
        with pytest.raises(ServerError) as away:
            await arena.session.stream(file)

        assert (type(invalid.value), invalid.value.code, invalid.value.transient) == (ApiError, 3011, False)
        assert (later.value.code, later.value.transient, later.value.retry_after) == (3017, True, 60.0)
        assert (away.value.code, away.value.transient, away.value.status) == (None, True, 400)
        assert len(server.lines("GET *")) == 3


async def test_export_runs_are_listed_with_every_filter() -> None:
    """Seed 001: five parameters, and the rows of an object that holds objects."""
    sample = payload("arena_export_runs.json")
    async with RawServer() as server, arena_client(server) as arena:
        server.on("GET", f"/v1/exports/{EXPORT}/runs", json_reply(sample, headers=QUOTA))

        found = await arena.exports.runs(
            EXPORT,
            ExportRunQuery(
                completed_from=datetime(2020, 3, 9, tzinfo=UTC),
                completed_to=datetime(2020, 3, 10, tzinfo=UTC),
                latest=True,
                number=2,
                status="COMPLETE",
            ),
        ).collect()

        rows = ArenaAdapter().read_page(sample, PageRequest(offset=0, limit=400), LIST).items
        assert found == [decode(row, ExportRun) for row in rows]
        assert server.lines("GET *") == [
            (
                f"GET /v1/exports/{EXPORT}/runs?completionDateTimeFrom=2020-03-09T00%3A00%3A00Z"
                "&completionDateTimeTo=2020-03-10T00%3A00%3A00Z&latestCompleted=true&number=2&status=COMPLETE"
                "&offset=0&limit=400"
            )
        ]


async def test_filters_that_are_not_given_are_not_sent() -> None:
    """False is a value, None is none."""
    async with RawServer() as server, arena_client(server) as arena:
        server.on("GET", "/v1/exports/X/runs", page_reply())

        await arena.exports.runs("X").collect()
        await arena.exports.runs("X", ExportRunQuery(latest=False)).collect()

        assert server.lines("GET *") == [
            "GET /v1/exports/X/runs?offset=0&limit=400",
            "GET /v1/exports/X/runs?latestCompleted=false&offset=0&limit=400",
        ]


async def test_one_export_run_is_asked_for_as_documented() -> None:
    """Seed 002: the page prints a definition in the place of the run, and nothing of it is lost."""
    sample = payload("arena_export_definition.json")
    async with RawServer() as server, arena_client(server) as arena:
        server.on("GET", f"/v1/exports/{EXPORT}/runs/{EXPORT_RUN}", json_reply(sample, headers=QUOTA))

        run = await arena.exports.run(EXPORT, EXPORT_RUN)

        assert run == decode(sample, ExportRun)
        assert run.unknown["options"] == sample["options"]
        assert server.lines("GET *") == [f"GET /v1/exports/{EXPORT}/runs/{EXPORT_RUN}"]


async def test_the_documented_errors_of_an_export_run_are_typed() -> None:
    """Seed 002: the run of another user, without a second login, and a guid that is not valid."""
    async with RawServer() as server, arena_client(server) as arena:
        server.on("GET", "/v1/exports/*", error_reply("arena_error_3024.json"), error_reply("arena_error_3011.json"))

        with pytest.raises(PermissionDeniedError, match="Only the user who started an export run") as others:
            await arena.exports.run(EXPORT, EXPORT_RUN)
        with pytest.raises(ApiError) as invalid:
            await arena.exports.run(EXPORT, "L3N6PX663K3K3HOBOOT0")

        assert (others.value.status, others.value.code, others.value.transient) == (403, 3024, False)
        assert (type(invalid.value), invalid.value.code) == (ApiError, 3011)
        assert len(server.lines("POST *")) == 1
        assert len(server.lines("GET *")) == 2


async def test_the_file_of_an_export_run_is_described() -> None:
    """Reference 6.1: metadata of a file by its guid."""
    path = f"/v1/exports/{EXPORT}/runs/{EXPORT_RUN}/files/{EXPORT_FILE}"
    async with RawServer() as server, arena_client(server) as arena:
        server.on("GET", path, json_reply(payload("arena_export_file.json"), headers=QUOTA))

        file = await arena.exports.file(EXPORT, EXPORT_RUN, EXPORT_FILE)

        assert file == decode(payload("arena_export_file.json"), ArenaFile)
        assert file.size == 2154


async def test_import_runs_are_listed_with_every_filter() -> None:
    """
    Seed 003: five parameters.

    The sample says count 20 beside one row, so that its row is delivered and the list is not known to be whole.
    """
    sample = payload("arena_import_runs.json")
    async with RawServer() as server, arena_client(server) as arena:
        server.on("GET", f"/v1/imports/{IMPORT}/runs", json_reply(sample, headers=QUOTA), page_reply())

        runs = arena.imports.runs(
            IMPORT,
            ImportRunQuery(
                creator="Roy Arena & 100%+",
                creator_email="rjones@arenasolutions.com",
                creator_guid="4M6P3046HYFYH0J258QJ",
                number=14,
                status="COMPLETE",
            ),
        )

        found, error = await take(runs)
        assert found == [decode(sample["results"][0], ImportRun)]
        assert isinstance(error, ListingError)
        assert "empty, of 20 rows" in str(error)
        assert server.lines("GET *")[0] == (
            f"GET /v1/imports/{IMPORT}/runs?creator.fullName=Roy%20Arena%20%26%20100%25%2B"
            "&creator.email=rjones%40arenasolutions.com&creator.guid=4M6P3046HYFYH0J258QJ&number=14&status=COMPLETE"
            "&offset=0&limit=400"
        )


async def test_searches_send_every_documented_parameter_and_leave_the_wildcard_alone() -> None:
    """Reference 5, 6.1, 7, 8 and 9: the vendor's names, a trailing asterisk as it is."""
    async with RawServer() as server, arena_client(server) as arena:
        server.on("GET", "*", page_reply())

        await arena.extracts.search("Night*", enabled=True, creator="Heidi Walker").collect()
        await arena.extracts.runs(
            "E",
            ExtractRunQuery(
                status="Completed",
                scheduled_from=datetime(2026, 1, 1, tzinfo=UTC),
                scheduled_to=datetime(2026, 1, 2, tzinfo=UTC),
                run_from=datetime(2026, 1, 3, tzinfo=UTC),
                run_to=datetime(2026, 1, 4, tzinfo=UTC),
                completed_from=datetime(2026, 1, 5, tzinfo=UTC),
                completed_to=datetime(2026, 1, 6, tzinfo=UTC),
                downloaded_from=datetime(2026, 1, 7, tzinfo=UTC),
                downloaded_to=datetime(2026, 1, 8, tzinfo=UTC),
                with_files=True,
            ),
        ).collect()
        await arena.exports.search(
            ExportQuery(
                name="Weekly*", number=12, description="d", creator="H W", creator_email="h@w", creator_guid="G"
            )
        ).collect()
        await arena.imports.search(
            ImportQuery(
                name="I*",
                number=3,
                description="d",
                creator="H W",
                creator_email="h@w",
                creator_guid="G",
                mode="CREATE",
                resource="ITEM_SPECS",
            )
        ).collect()
        await arena.files.search(
            FileQuery(
                name="d.pdf", number="1", title="t", format="pdf", category_guid="C", include_child_categories=True
            )
        ).collect()
        await arena.files.editions("F").collect()
        await arena.items.search(
            ItemQuery(
                number="900-*",
                name="n",
                description="d",
                revision_number="A",
                category_guid="C",
                include_child_categories=False,
                owner="O",
                creator="H",
                creator_guid="G",
                lifecycle_phase_guid="L",
                assembly_type="ASSEMBLY",
                view="full",
            )
        ).collect()

        page = "&offset=0&limit=400"
        assert server.lines("GET *") == [
            f"GET /v1/extracts?name=Night*&enabled=true&creator.fullName=Heidi%20Walker{page}",
            (
                "GET /v1/extracts/E/runs?status=Completed"
                "&scheduledDateTimeFrom=2026-01-01T00%3A00%3A00Z&scheduledDateTimeTo=2026-01-02T00%3A00%3A00Z"
                "&runDateTimeFrom=2026-01-03T00%3A00%3A00Z&runDateTimeTo=2026-01-04T00%3A00%3A00Z"
                "&completionDateTimeFrom=2026-01-05T00%3A00%3A00Z&completionDateTimeTo=2026-01-06T00%3A00%3A00Z"
                "&downloadDateTimeFrom=2026-01-07T00%3A00%3A00Z&downloadDateTimeTo=2026-01-08T00%3A00%3A00Z"
                f"&view=withFiles{page}"
            ),
            (
                "GET /v1/exports?name=Weekly*&number=12&description=d&creator.fullName=H%20W&creator.email=h%40w"
                f"&creator.guid=G{page}"
            ),
            (
                "GET /v1/imports?name=I*&number=3&description=d&creator.fullName=H%20W&creator.email=h%40w"
                f"&creator.guid=G&mode=CREATE&resource=ITEM_SPECS{page}"
            ),
            "GET /v1/files?name=d.pdf&number=1&title=t&format=pdf&category.guid=C&includeChildCategories=true" + page,
            "GET /v1/files/F/editions",
            (
                "GET /v1/items?number=900-*&name=n&description=d&revisionNumber=A&category.guid=C"
                "&includeChildCategories=false&owner.fullName=O&creator.fullName=H&creator.guid=G&lifecyclePhase.guid=L"
                f"&assemblyType=ASSEMBLY&responseview=full{page}"
            ),
        ]


async def test_single_objects_are_asked_for_by_guid() -> None:
    """One request each, without a query unless one is documented."""
    async with RawServer() as server, arena_client(server) as arena:
        server.on("GET", "*", json_reply({"guid": "G"}, headers=QUOTA))

        await arena.extracts.get("E")
        await arena.extracts.run("E", "R")
        await arena.extracts.latest_run("E")
        await arena.extracts.latest_run("E", with_files=True)
        await arena.exports.get("X", include_empty_additional_attributes=True)
        await arena.imports.get("I")
        await arena.imports.run("I", "R")
        await arena.files.get("F")
        await arena.items.get("I")

        assert server.lines("GET *") == [
            "GET /v1/extracts/E",
            "GET /v1/extracts/E/runs/R",
            "GET /v1/extracts/E/runs/latestCompleted",
            "GET /v1/extracts/E/runs/latestCompleted?view=withFiles",
            "GET /v1/exports/X?includeEmptyAdditionalAttributes=true",
            "GET /v1/imports/I",
            "GET /v1/imports/I/runs/R",
            "GET /v1/files/F",
            "GET /v1/items/I",
        ]
