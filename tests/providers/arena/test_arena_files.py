"""The files of runs as sets: what they list, in how many requests, and how each is opened and found again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest
from arena_scripts import QUOTA, error_reply, page_reply, payload
from scripted import RawServer, json_reply, reply

from arena_async.errors import (
    ApiError,
    ConfigurationError,
    DecodeError,
    NotFoundError,
    PermissionDeniedError,
    RunFailedError,
)
from arena_async.protocol.files import Cost, FileSet, RemoteFile
from arena_async.providers.arena import ArenaClient

DAY = datetime(2026, 5, 1, tzinfo=UTC)


def when(day: int) -> str:
    """Write a day of May 2026 as the service does."""
    return f"2026-05-{day:02}T06:00:00Z"


def extract_run(guid: str, day: int, status: str = "COMPLETED", **more: Any) -> dict[str, Any]:
    """Write a run of an extract."""
    return {"guid": guid, "status": status, "completionDateTime": when(day), **more}


def export_run(guid: str, day: int, *files: str, status: str = "COMPLETE") -> dict[str, Any]:
    """Write a run of an export."""
    listed = [{"guid": file, "title": None} for file in files]
    return {"guid": guid, "status": status, "completionDateTime": when(day), "files": listed}


def with_file(guid: str) -> dict[str, Any]:
    """Write the files of a run as the view shows them: by the guid of the association only."""
    return {"files": [{"guid": guid, "downloadDateTime": None}]}


def association(guid: str, **file: Any) -> dict[str, Any]:
    """Write an association as the list of files shows it."""
    return {
        "guid": guid,
        "downloadDateTime": None,
        "file": {"guid": "F", "name": f"Extract_{guid}.zip", "size": 8989, **file},
    }


async def every(files: FileSet) -> list[RemoteFile]:
    """Walk a whole set."""
    return [file async for file in files]


def names(files: list[RemoteFile]) -> list[str]:
    """Return the path of each file below the folder."""
    return ["/".join((*file.parts, f"{file.stem}{file.extension}")) for file in files]


# --- extracts ---------------------------------------------------------------------------------------------------------


async def test_the_newest_zip_of_a_known_extract_costs_two_requests(server: RawServer, arena: ArenaClient) -> None:
    """Reference 5: one for the listing and one for the content, whatever the view leaves out."""
    server.on(
        "GET",
        "/v1/extracts/E/runs/latestCompleted",
        json_reply(payload("arena_extract_run_latest.json"), headers=QUOTA),
    )
    server.on("GET", "*/content", reply(body=b"PK zip", headers=QUOTA))
    files = arena.extracts.files("E", latest=True)

    (file,) = await every(files)
    async with await files.open(file) as opened:
        buffer = bytearray(10)
        length = await opened.stream.readinto(memoryview(buffer))

    assert bytes(buffer[:length]) == b"PK zip"
    assert server.lines("GET *") == [
        "GET /v1/extracts/E/runs/latestCompleted?view=withFiles",
        "GET /v1/extracts/E/runs/FXH0EBFHS9SK3M5O7QS1/files/3L5O2Z35GXG6P8R88MYW/content",
    ]
    assert file == RemoteFile(
        key=file.key,
        service="arena",
        tenant=f"{server.base_url}/v1 workspace 896256783",
        parts=("arena", "extracts", "E", "FXH0EBFHS9SK3M5O7QS1"),
        stem="3L5O2Z35GXG6P8R88MYW",
        extension=".zip",
        name="",
        size=None,
        change="3L5O2Z35GXG6P8R88MYW",
        changed_at=datetime(2015, 8, 17, 16, 48, 30, tzinfo=UTC),
    )
    assert file.fields == {"extract": "E", "run": "FXH0EBFHS9SK3M5O7QS1", "association": "3L5O2Z35GXG6P8R88MYW"}
    assert opened.head.total == 6


async def test_content_is_asked_for_as_it_is_and_from_where_it_broke_off(server: RawServer, arena: ArenaClient) -> None:
    """No gzip on top, the session header, and a range only with a strong validator."""
    server.on("GET", "/v1/extracts/E/runs/R/files", page_reply(association("A")))
    server.on("GET", "/v1/extracts/E/runs/R", json_reply(extract_run("R", 1), headers=QUOTA))
    server.on("GET", "*/content", reply(206, headers={**QUOTA, "Content-Range": "bytes 4-5/6"}, body=b"zi"))
    files = arena.extracts.files("E", "R")
    (file,) = await every(files)

    async with await files.open(file, offset=4, validator='"strong"') as opened:
        assert (opened.head.status, opened.head.offset, opened.head.total) == (206, 4, 6)

    seen = server.requests[-1]
    assert seen.header("Accept-Encoding") == "identity"
    assert seen.header("Range") == "bytes=4-"
    assert seen.header("If-Match") == '"strong"'
    assert seen.header("arena_session_id") == "ML4nT3dS3ss10n1dOfAnArenaUser"
    assert arena.session.requests_sent == 3


async def test_runs_since_a_date_cost_one_listing(server: RawServer, arena: ArenaClient) -> None:
    """1 + n: the view gives the files of every run; runs that are not completed have none."""
    server.on(
        "GET",
        "/v1/extracts/E/runs",
        page_reply(
            extract_run("R1", 2, **with_file("A1")),
            extract_run("R2", 3, "Completed", **with_file("A2")),
            extract_run("R3", 4, "InProcess", files=[]),
            extract_run("R4", 5, "FAILED", files=None),
            extract_run("R5", 6, "Completed", files=[]),
        ),
    )

    files = await every(arena.extracts.files("E", completed_from=DAY))

    assert names(files) == ["arena/extracts/E/R1/A1.zip", "arena/extracts/E/R2/A2.zip"]
    assert server.lines("GET *") == [
        "GET /v1/extracts/E/runs?completionDateTimeFrom=2026-05-01T00%3A00%3A00Z&view=withFiles&offset=0&limit=400"
    ]


async def test_a_filter_that_the_service_ignores_is_applied_here_too(server: RawServer, arena: ArenaClient) -> None:
    """Reference 4: some filters are ignored without a word, and everything comes."""
    server.on(
        "GET",
        "/v1/extracts/E/runs",
        page_reply(
            extract_run("OLD", 1, **with_file("A1")),
            extract_run("SAME", 2, **with_file("A2")),
            extract_run("NEW", 3, **with_file("A3")),
            {"guid": "UNDATED", "status": "COMPLETED", **with_file("A4")},
        ),
    )
    # The service knows whole seconds: what was completed within the one that is named counts.
    timestamp = datetime(2026, 5, 2, 6, 0, 0, 999999, tzinfo=UTC)

    files = await every(arena.extracts.files("E", completed_from=timestamp))

    assert [file.fields["run"] for file in files] == ["SAME", "NEW", "UNDATED"]


@pytest.mark.parametrize("ignored", [{}, {"files": None}, {"files": []}])
async def test_a_view_that_is_not_honoured_costs_a_request_for_each_run(
    ignored: dict[str, Any], server: RawServer, arena: ArenaClient
) -> None:
    """A listing is whole: no run with files beside it is proof, so each run is asked for its own."""
    server.on(
        "GET", "/v1/extracts/E/runs", page_reply(extract_run("R1", 2, **ignored), extract_run("R2", 3, **ignored))
    )
    server.on("GET", "/v1/extracts/E/runs/R1/files", page_reply(association("A1")))
    server.on("GET", "/v1/extracts/E/runs/R2/files", page_reply(association("A2", size="77"), association("A3")))

    files = await every(arena.extracts.files("E"))

    assert [(file.stem, file.name, file.size) for file in files] == [
        ("A1", "Extract_A1.zip", 8989),
        ("A2", "Extract_A2.zip", 77),
        ("A3", "Extract_A3.zip", 8989),
    ]
    assert server.lines("GET *") == [
        "GET /v1/extracts/E/runs?view=withFiles&offset=0&limit=400",
        "GET /v1/extracts/E/runs/R1/files?offset=0&limit=400",
        "GET /v1/extracts/E/runs/R2/files?offset=0&limit=400",
    ]


@pytest.mark.parametrize("code", [3004, 3019, 3200])
async def test_a_view_that_is_refused_is_left_out(code: int, server: RawServer, arena: ArenaClient) -> None:
    """Some endpoints take no query that they do not know, and 3200 may be about the pages: they are left out first."""
    refused = json_reply({"status": 400, "errors": [{"code": code, "message": "view"}]}, 400, headers=QUOTA)
    refusals = [refused] * (2 if code == 3200 else 1)
    server.on("GET", "/v1/extracts/E/runs", *refusals, page_reply(extract_run("R1", 2)))
    server.on("GET", "/v1/extracts/E/runs/R1/files", page_reply(association("A1")))

    files = await every(arena.extracts.files("E"))

    assert names(files) == ["arena/extracts/E/R1/A1.zip"]
    assert server.lines("GET *")[: len(refusals) + 1] == [
        "GET /v1/extracts/E/runs?view=withFiles&offset=0&limit=400",
        *(["GET /v1/extracts/E/runs?view=withFiles"] if code == 3200 else []),
        "GET /v1/extracts/E/runs?offset=0&limit=400",
    ]


async def test_any_other_refusal_of_a_listing_is_an_error(server: RawServer, arena: ArenaClient) -> None:
    """An unknown extract is not an empty one."""
    server.on("GET", "/v1/extracts/E/runs", error_reply("arena_error_3011.json"))

    with pytest.raises(ApiError) as caught:
        await every(arena.extracts.files("E"))

    assert caught.value.code == 3011
    assert len(server.lines("GET *")) == 1


async def test_without_a_guid_every_extract_of_the_workspace_is_listed(server: RawServer, arena: ArenaClient) -> None:
    """One request to look them up, then as for each."""
    server.on("GET", "/v1/extracts", page_reply({"guid": "E1"}, {"guid": "E2"}))
    for extract in ("E1", "E2"):
        latest = extract_run(f"R{extract}", 2, **with_file(f"A{extract}"))
        server.on("GET", f"/v1/extracts/{extract}/runs/latestCompleted", json_reply(latest, headers=QUOTA))

    files = await every(arena.extracts.files(latest=True))

    assert names(files) == ["arena/extracts/E1/RE1/AE1.zip", "arena/extracts/E2/RE2/AE2.zip"]
    assert len(server.lines("GET *")) == 3


async def test_nothing_new_costs_one_request(server: RawServer, arena: ArenaClient) -> None:
    """Reference 5: the latest run tells by its guid; asked with a date it gives nothing older."""
    latest = json_reply(extract_run("R", 2, **with_file("A")), headers=QUOTA)
    server.on("GET", "/v1/extracts/E/runs/latestCompleted", latest)

    assert await every(arena.extracts.files("E", latest=True, completed_from=DAY + timedelta(days=5))) == []
    assert len(server.lines("GET *")) == 1


async def test_an_older_run_hides_no_run_without_a_time(server: RawServer, arena: ArenaClient) -> None:
    """The service may ignore the filter for the latest run; what is too old is left out before the newest is taken."""
    old = {"guid": "OLD", "status": "COMPLETE", "completionDateTime": "2026-04-01T00:00:00Z", "files": [{"guid": "F1"}]}
    new = {"guid": "NEW", "status": "COMPLETE", "files": [{"guid": "F2"}]}
    server.on("GET", "/v1/exports/X/runs", page_reply(old, new))

    listed = await every(arena.exports.files("X", latest=True, completed_from=DAY))

    assert names(listed) == ["arena/exports/X/NEW/F2.zip"]


async def test_a_file_that_got_one_more_field_is_still_opened(server: RawServer, arena: ArenaClient) -> None:
    """A set that wraps this one may add fields for a layout of its own."""
    run = {"guid": "R", "status": "COMPLETE", "completionDateTime": "2026-05-01T00:00:00Z", "files": [{"guid": "F"}]}
    server.on("GET", "/v1/exports/X/runs", page_reply(run))
    server.on("GET", "/v1/exports/X/runs/R/files/F/content", reply(body=b"zip"))
    files = arena.exports.files("X")
    (file,) = await every(files)

    async with await files.open(attrs.evolve(file, fields={**file.fields, "site": "Oslo"})) as opened:
        assert opened.head.status == 200


async def test_one_run_brings_its_own_files_if_they_came_with_it(server: RawServer, arena: ArenaClient) -> None:
    """The newest documents show files with a single run, which saves a request."""
    server.on("GET", "/v1/extracts/E/runs/R", json_reply(extract_run("R", 2, **with_file("A")), headers=QUOTA))

    assert names(await every(arena.extracts.files("E", "R"))) == ["arena/extracts/E/R/A.zip"]
    assert server.lines("GET *") == ["GET /v1/extracts/E/runs/R"]


async def test_a_run_that_is_still_open_has_no_files_yet(server: RawServer, arena: ArenaClient) -> None:
    """Files are listed of completed runs only, so that a half-written zip is never fetched."""
    server.on("GET", "/v1/extracts/E/runs/R", json_reply(extract_run("R", 2, "InProcess"), headers=QUOTA))

    assert await every(arena.extracts.files("E", "R")) == []
    assert server.lines("GET *") == ["GET /v1/extracts/E/runs/R"]


async def test_a_run_that_failed_is_an_error_when_it_is_asked_for(server: RawServer, arena: ArenaClient) -> None:
    """Whoever names a run wants its files, and there will be none."""
    server.on("GET", "/v1/extracts/E/runs/R", json_reply(extract_run("R", 2, "Aborted"), headers=QUOTA))

    with pytest.raises(RunFailedError, match="extract run R: its status is Aborted") as caught:
        await every(arena.extracts.files("E", "R"))

    assert caught.value.run.guid == "R"


async def test_files_without_content_say_why_they_are_skipped(server: RawServer, arena: ArenaClient) -> None:
    """No request is spent on what the service does not hold."""
    server.on("GET", "/v1/extracts/E/runs/R", json_reply(extract_run("R", 2), headers=QUOTA))
    server.on(
        "GET",
        "/v1/extracts/E/runs/R/files",
        page_reply(association("A", storageMethodName="WEB", location="https://elsewhere.example/x"), association("B")),
    )

    web, plain = await every(arena.extracts.files("E", "R"))

    assert web.skip == "its storage method is WEB, so the service holds no content of it"
    assert plain.skip is None


async def test_a_file_has_the_same_key_path_and_change_whichever_query_found_it(
    server: RawServer, arena: ArenaClient
) -> None:
    """The latest run, all runs, one run, and a second look: nothing is fetched twice because it was found otherwise."""
    run = extract_run("R", 2, **with_file("A"))
    server.on("GET", "/v1/extracts/E/runs/latestCompleted", json_reply(run, headers=QUOTA))
    server.on("GET", "/v1/extracts/E/runs/R", json_reply(extract_run("R", 2), headers=QUOTA))
    server.on("GET", "/v1/extracts/E/runs/R/files", page_reply(association("A")))
    server.on("GET", "/v1/extracts/E/runs", page_reply(run))
    server.on("GET", "/v1/extracts", page_reply({"guid": "E"}))
    sets = [
        arena.extracts.files(),
        arena.extracts.files("E"),
        arena.extracts.files("E", "R"),
        arena.extracts.files("E", latest=True),
        arena.extracts.files("E", completed_from=DAY),
    ]

    found = [file for files in sets for file in await every(files)]
    found += await sets[0].find([found[0].key])

    assert len(found) == 6
    assert len({(file.key, file.change, file.parts, file.stem, file.extension) for file in found}) == 1


# --- exports ----------------------------------------------------------------------------------------------------------


async def test_the_files_of_completed_export_runs_are_listed_with_the_runs(
    server: RawServer, arena: ArenaClient
) -> None:
    """DOWNLOADED is completed; one request for all."""
    server.on(
        "GET",
        "/v1/exports/X/runs",
        page_reply(
            export_run("R1", 2, "F1"),
            export_run("R2", 3, "F2", status="DOWNLOADED"),
            export_run("R3", 4, "F3", status="RUNNING"),
            export_run("R4", 5, status="FAILED"),
        ),
    )

    files = await every(arena.exports.files("X", completed_from=DAY))

    assert names(files) == ["arena/exports/X/R1/F1.zip", "arena/exports/X/R2/F2.zip"]
    assert [(file.change, file.changed_at) for file in files] == [
        ("F1", datetime(2026, 5, 2, 6, tzinfo=UTC)),
        ("F2", datetime(2026, 5, 3, 6, tzinfo=UTC)),
    ]
    assert server.lines("GET *") == [
        "GET /v1/exports/X/runs?completionDateTimeFrom=2026-05-01T00%3A00%3A00Z&offset=0&limit=400"
    ]


async def test_the_latest_export_is_the_newest_even_if_the_filter_is_ignored(
    server: RawServer, arena: ArenaClient
) -> None:
    """latestCompleted=true asks for one run; of several the newest completed one counts."""
    server.on(
        "GET",
        "/v1/exports/X/runs",
        page_reply(export_run("OLD", 2, "F1"), export_run("NEW", 4, "F2"), export_run("OPEN", 5, status="RUNNING")),
    )

    assert names(await every(arena.exports.files("X", latest=True))) == ["arena/exports/X/NEW/F2.zip"]
    assert server.lines("GET *") == ["GET /v1/exports/X/runs?latestCompleted=true&offset=0&limit=400"]


async def test_an_export_that_has_never_been_completed_has_no_latest_file(
    server: RawServer, arena: ArenaClient
) -> None:
    """An empty page is an empty set."""
    server.on("GET", "/v1/exports/X/runs", page_reply())

    assert await every(arena.exports.files("X", latest=True)) == []


async def test_one_export_run_is_one_request(server: RawServer, arena: ArenaClient) -> None:
    """Its files stand on the run."""
    server.on("GET", "/v1/exports/X/runs/R", json_reply(export_run("R", 2, "F"), headers=QUOTA))

    assert names(await every(arena.exports.files("X", "R"))) == ["arena/exports/X/R/F.zip"]
    assert server.lines("GET *") == ["GET /v1/exports/X/runs/R"]


async def test_a_definition_in_the_place_of_an_export_run_is_not_believed(
    server: RawServer, arena: ArenaClient
) -> None:
    """Seed 002 prints a definition there: the run is then looked for in the list."""
    server.on("GET", "/v1/exports/X/runs/R", json_reply(payload("arena_export_definition.json"), headers=QUOTA))
    server.on("GET", "/v1/exports/X/runs", page_reply(export_run("Q", 1, "F0"), export_run("R", 2, "F")))

    assert names(await every(arena.exports.files("X", "R"))) == ["arena/exports/X/R/F.zip"]
    assert await every(arena.exports.files("X", "R").since({"arena/exports/X": DAY})) != []
    assert server.lines("GET *")[:2] == ["GET /v1/exports/X/runs/R", "GET /v1/exports/X/runs?offset=0&limit=400"]


async def test_the_files_of_an_export_run_that_the_list_leaves_out_are_asked_for(
    server: RawServer, arena: ArenaClient
) -> None:
    """A missing list of files is no empty one."""
    bare = {"guid": "R", "status": "COMPLETE", "completionDateTime": when(2)}
    server.on("GET", "/v1/exports/X/runs", page_reply(bare))
    server.on("GET", "/v1/exports/X/runs/R", json_reply(export_run("R", 2, "F"), headers=QUOTA))

    assert names(await every(arena.exports.files("X"))) == ["arena/exports/X/R/F.zip"]
    assert len(server.lines("GET *")) == 2


@pytest.mark.parametrize("named", [True, False])
async def test_an_export_run_that_never_tells_its_files_is_an_error(
    server: RawServer, arena: ArenaClient, named: bool
) -> None:
    """TR53: unless it is so old that the service has removed them."""
    young = {"guid": "R", "status": "COMPLETE", "completionDateTime": "2096-05-02T06:00:00Z"}
    server.on("GET", "/v1/exports/X/runs", page_reply(young))
    server.on("GET", "/v1/exports/X/runs/R", json_reply(young, headers=QUOTA))
    with pytest.raises(DecodeError, match="does not list its files"):
        await every(arena.exports.files("X", "R" if named else None))

    server.on("GET", "/v1/exports/X/runs", page_reply({**young, "completionDateTime": "2020-05-02T06:00:00Z"}))
    assert await every(arena.exports.files("X")) == []


async def test_a_named_export_run_without_files_is_an_error(server: RawServer, arena: ArenaClient) -> None:
    """TR53: whoever names a run wants its files; among others it has simply none."""
    server.on("GET", "/v1/exports/X/runs", page_reply(export_run("R", 2)))
    server.on("GET", "/v1/exports/X/runs/R", json_reply(export_run("R", 2), headers=QUOTA))

    with pytest.raises(RunFailedError, match="has no files"):
        await every(arena.exports.files("X", "R"))
    assert await every(arena.exports.files("X")) == []


async def test_content_of_another_users_export_is_refused_once_and_for_good(
    server: RawServer, arena: ArenaClient
) -> None:
    """SA13: 403 with 3024, no second login, no second try."""
    server.on("GET", "/v1/exports/X/runs", page_reply(export_run("R", 2, "F")))
    server.on("GET", "*/content", error_reply("arena_error_3024.json"))
    files = arena.exports.files("X")
    (file,) = await every(files)

    with pytest.raises(PermissionDeniedError) as caught:
        await files.open(file)

    assert not caught.value.transient
    assert server.lines("POST *") == ["POST /v1/login"]
    assert server.lines("*/content") == ["GET /v1/exports/X/runs/R/files/F/content"]


# --- imports ----------------------------------------------------------------------------------------------------------


def import_run(guid: str, **more: Any) -> dict[str, Any]:
    """Write a run of an import."""
    base = {"guid": guid, "status": "COMPLETE", "completionDateTime": when(2), "commit": False, "errorCount": 19}
    return {**base, "submitFileType": "EXCEL_WORKSHEET", **more}


async def test_the_three_contents_of_import_runs_are_listed_without_a_request_more(
    server: RawServer, arena: ArenaClient
) -> None:
    """The form of what was submitted gives the extension; a run without errors has no error file."""
    server.on(
        "GET",
        "/v1/imports/I/runs",
        page_reply(
            import_run("R1"),
            import_run("R2", submitFileType="CSV", errorCount=0),
            import_run("R3", submitFileType="SOMETHING"),
            import_run("R4", status="RUNNING"),
            import_run("R5", status="ERROR"),
            import_run("R6", status="PURGED"),
        ),
    )

    files = await every(arena.imports.files("I"))

    assert names(files) == [
        "arena/imports/I/R1/result.xlsx",
        "arena/imports/I/R1/error.xlsx",
        "arena/imports/I/R1/submit.xlsx",
        "arena/imports/I/R2/result.csv",
        "arena/imports/I/R2/error.csv",
        "arena/imports/I/R2/submit.csv",
        "arena/imports/I/R3/result.dat",
        "arena/imports/I/R3/error.dat",
        "arena/imports/I/R3/submit.dat",
    ]
    assert [file.skip for file in files if file.skip] == ["no row of the run failed, so it has no error file"]
    assert files[0].change == "2026-05-02T06:00:00+00:00 commit=False"
    assert server.lines("GET *") == ["GET /v1/imports/I/runs?offset=0&limit=400"]


@pytest.mark.parametrize(
    ("part", "path"), [("result", "resultContent"), ("error", "errorContent"), ("submit", "submitContent")]
)
async def test_each_content_of_an_import_run_has_its_own_address(
    part: Any, path: str, server: RawServer, arena: ArenaClient
) -> None:
    """Reference 7: three endpoints."""
    server.on("GET", "/v1/imports/I/runs/R", json_reply(import_run("R"), headers=QUOTA))
    server.on("GET", f"/v1/imports/I/runs/R/{path}", reply(body=b"rows", headers=QUOTA))
    files = arena.imports.files("I", "R", parts=[part])
    (file,) = await every(files)

    async with await files.open(file) as opened:
        assert opened.head.total == 4

    assert server.requests[-1].line == f"GET /v1/imports/I/runs/R/{path}"


async def test_a_dry_run_that_was_committed_has_other_contents(server: RawServer, arena: ArenaClient) -> None:
    """The address stays the same, the change mark does not."""
    dry, committed = (json_reply(import_run("R", commit=commit), headers=QUOTA) for commit in (False, True))
    server.on("GET", "/v1/imports/I/runs/R", dry, committed)
    files = arena.imports.files("I", "R", parts=("result",))

    (before,), (after,) = await every(files), await every(files)

    assert before.key == after.key
    assert before.change != after.change


# --- sets -------------------------------------------------------------------------------------------------------------


async def test_entries_of_one_run_are_found_again_in_one_request(server: RawServer, arena: ArenaClient) -> None:
    """With names and sizes; what is gone is missing, and so is what belongs to somebody else."""
    server.on("GET", "/v1/extracts/E/runs", page_reply(extract_run("R", 2, files=[{"guid": "A"}, {"guid": "GONE"}])))
    server.on("GET", "/v1/extracts/E/runs/R/files", page_reply(association("A"), association("NEW")))
    files = arena.extracts.files("E")
    listed = await every(files)
    other = listed[0].key.replace("896256783", "5")

    assert await files.find([other, "centrepoint/x/y", "arena/x"]) == []
    found = await files.find([*(file.key for file in listed), other])

    assert [(file.key, file.size) for file in found] == [(listed[0].key, 8989)]
    assert server.lines("GET *")[1:] == ["GET /v1/extracts/E/runs/R/files?offset=0&limit=400"]


async def test_entries_of_many_runs_are_found_again_with_their_list(server: RawServer, arena: ArenaClient) -> None:
    """One request for all of them, not one for each, and no page beyond the last that is wanted."""
    rows = [extract_run(f"R{number}", 2, **with_file(f"A{number}")) for number in range(500)]
    server.on("GET", "/v1/extracts/E/runs", page_reply(*rows[:400], count=500))
    files = arena.extracts.files("E")
    listed = []
    async for file in files:
        listed.append(file)
        if len(listed) == 100:
            break

    found = await files.find([file.key for file in listed])

    assert found == listed
    assert len(server.lines("GET *")) == 2


async def test_a_run_that_is_gone_has_no_entries_any_more(server: RawServer, arena: ArenaClient) -> None:
    """Both answers mean it: not found, and a guid that is not valid any more. Anything else is an error."""
    gone = json_reply({"status": 400, "errors": [{"code": 3012, "message": "gone"}]}, 400, headers=QUOTA)
    server.on("GET", "/v1/extracts/E/runs", page_reply(extract_run("R", 2, **with_file("A"))))
    server.on(
        "GET",
        "/v1/extracts/E/runs/R/files",
        gone,
        error_reply("arena_error_3011.json"),
        json_reply({"status": 403, "errors": []}, 403, headers=QUOTA),
    )
    files = arena.extracts.files("E")
    (file,) = await every(files)

    assert await files.find([file.key]) == []
    assert await files.find([file.key]) == []
    with pytest.raises(PermissionDeniedError):
        await files.find([file.key])


async def test_exports_of_somebody_else_are_found_in_the_list(server: RawServer, arena: ArenaClient) -> None:
    """The run itself cannot be asked for; its entry is there all the same, and only its content is refused."""
    server.on("GET", "/v1/exports/X/runs", page_reply(export_run("Q", 1, "F0"), export_run("R", 2, "F")))
    server.on("GET", "/v1/exports/X/runs/R", error_reply("arena_error_3024.json"))
    server.on("GET", "/v1/exports/X/runs/Q", json_reply(export_run("Q", 1, "F0"), headers=QUOTA))
    files = arena.exports.files("X")
    own, others = await every(files)

    assert await files.find([own.key]) == [own]
    assert await files.find([others.key]) == [others]
    assert await files.find([own.key, others.key]) == [own, others]


async def test_imports_are_found_again_alone_and_together(server: RawServer, arena: ArenaClient) -> None:
    """One run by itself, several with their list."""
    server.on("GET", "/v1/imports/I/runs", page_reply(import_run("R1"), import_run("R2"), import_run("R3")))
    server.on("GET", "/v1/imports/I/runs/R1", json_reply(import_run("R1"), headers=QUOTA))
    files = arena.imports.files("I", parts=("result",))
    listed = await every(files)

    assert await files.find([listed[0].key]) == [listed[0]]
    assert await files.find([listed[0].key, listed[1].key]) == listed[:2]
    assert server.lines("GET *")[1:] == ["GET /v1/imports/I/runs/R1", "GET /v1/imports/I/runs?offset=0&limit=400"]


async def test_a_watermark_narrows_what_is_asked_for_and_not_the_name_of_the_query(
    server: RawServer, arena: ArenaClient
) -> None:
    """The later of watermark and wish counts; whole seconds, downwards."""
    server.on("GET", "*", page_reply())
    whole = arena.extracts.files("E")
    narrowed = whole.since({"arena/extracts/E": datetime(2026, 5, 3, 12, 0, 59, 999999, tzinfo=UTC)})

    await every(narrowed)
    await every(arena.exports.files("X", completed_from=DAY).since({"arena/exports/X": DAY + timedelta(days=1)}))
    await every(arena.exports.files("X", completed_from=DAY).since({"arena/exports/X": DAY - timedelta(days=1)}))

    assert (whole.narrowed, narrowed.narrowed) == (False, True)
    assert narrowed.scope == whole.scope == "arena/extracts/E"
    assert [line.partition("completionDateTimeFrom=")[2][:23] for line in server.lines("GET *")] == [
        "2026-05-03T12%3A00%3A59",
        "2026-05-02T00%3A00%3A00",
        "2026-05-01T00%3A00%3A00",
    ]


def test_a_watermark_without_a_zone_is_refused_at_once() -> None:
    """It could be any hour."""
    files = arena_client_without_server().extracts.files("E", completed_from=DAY)

    with pytest.raises(ConfigurationError, match="without a time zone"):
        files.since({"arena/extracts/E": datetime(2026, 5, 2)})  # noqa: DTZ001  naive on purpose


def test_a_set_that_the_service_cannot_narrow_stays_itself() -> None:
    """Imports have no filter on time; one run and the latest one need none."""
    arena = arena_client_without_server()

    for files in (
        arena.imports.files("I"),
        arena.extracts.files("E", "R"),
        arena.extracts.files("E", latest=True),
        arena.exports.files("X", "R"),
        arena.exports.files("X", latest=True),
    ):
        assert files.since({"arena/exports/X": DAY}) is files
    whole = arena.extracts.files("E")
    assert whole.since({}) is whole


def arena_client_without_server() -> ArenaClient:
    """Build a client that is asked pure questions only."""
    return ArenaClient.from_env(environ={"ARENA_EMAIL": "pure@everyroadgps.com", "ARENA_PASSWORD": "x"})


def test_every_query_has_a_name_and_says_whether_it_is_narrowed() -> None:
    """Only the whole of a definition, or of all of them, may ever be pruned."""
    arena = arena_client_without_server()
    since = datetime(2026, 5, 1, 2, 0, tzinfo=UTC)

    named = {
        files.scope: files.narrowed
        for files in (
            arena.extracts.files(),
            arena.extracts.files("E"),
            arena.extracts.files("E", "R"),
            arena.extracts.files("E", latest=True),
            arena.extracts.files("E", latest=True, completed_from=since),
            arena.extracts.files(completed_from=since),
            arena.exports.files("X"),
            arena.imports.files("I"),
            arena.imports.files("I", parts=["submit", "error"]),
            arena.imports.files("I", "R", parts=["result"]),
        )
    }

    assert named == {
        "arena/extracts": False,
        "arena/extracts/E": False,
        "arena/extracts/E?run=R": True,
        "arena/extracts/E?latest": True,
        "arena/extracts/E?latest&completed_since=2026-05-01T02:00:00+00:00": True,
        "arena/extracts?completed_since=2026-05-01T02:00:00+00:00": True,
        "arena/exports/X": False,
        "arena/imports/I": False,
        "arena/imports/I?parts=error,submit": True,
        "arena/imports/I?run=R&parts=result": True,
    }


def test_a_set_says_what_it_costs_before_anything_is_sent() -> None:
    """Requests of one listing at the least, one for each content; the allowance is not known yet."""
    arena = arena_client_without_server()

    assert arena.extracts.files("E", latest=True).cost() == Cost(listing=1, per_file=1, exact=True)
    assert arena.extracts.files("E").cost() == Cost(listing=1, per_file=1)
    assert arena.extracts.files().cost() == Cost(listing=2, per_file=1)
    assert arena.exports.files("X").cost() == Cost(listing=1, per_file=1)
    assert arena.imports.files("I").cost() == Cost(listing=1, per_file=1)
    assert arena.imports.files("I", "R").cost() == Cost(listing=1, per_file=1, exact=True)


async def test_a_price_knows_what_is_left_once_the_service_has_said_so(server: RawServer, arena: ArenaClient) -> None:
    """The numbers of the last answer."""
    server.on("GET", "*", page_reply())
    files = arena.extracts.files("E")

    await every(files)

    assert files.cost() == Cost(
        listing=1, per_file=1, remaining=9000, resets_at=datetime(2036, 5, 2, 21, 22, 13, tzinfo=UTC)
    )
    assert files.requests_sent == 1


@pytest.mark.parametrize(
    ("collection", "arguments", "options"),
    [
        ("extracts", ("E", "R"), {"latest": True}),
        ("extracts", ("E", "R"), {"completed_from": DAY}),
        ("extracts", (None, "R"), {}),
        ("extracts", ("E",), {"completed_from": datetime(2026, 5, 1)}),  # noqa: DTZ001  naive on purpose
        ("exports", ("X", "R"), {"latest": True}),
        ("imports", ("I",), {"parts": ()}),
        ("imports", ("I",), {"parts": ("result", "content")}),
    ],
)
def test_wishes_that_contradict_each_other_are_refused_at_once(
    collection: str, arguments: tuple[Any, ...], options: dict[str, Any]
) -> None:
    """Before anything is sent."""
    arena = arena_client_without_server()

    with pytest.raises(ConfigurationError):
        getattr(arena, collection).files(*arguments, **options)


@pytest.mark.parametrize("guid", ["", "..", "a/b", "a\\b", "a\nb"])
async def test_a_guid_that_would_change_the_path_is_never_sent(
    guid: str, server: RawServer, arena: ArenaClient
) -> None:
    """Whoever puts together a guid from somewhere cannot reach another endpoint with it."""
    with pytest.raises(ConfigurationError):
        await arena.extracts.get(guid)

    assert server.requests == []


async def test_a_file_is_opened_by_the_kind_of_set_that_lists_it(server: RawServer, arena: ArenaClient) -> None:
    """Nothing is asked for under a wrong address."""
    server.on("GET", "/v1/exports/X/runs", page_reply(export_run("R", 2, "F")))
    (file,) = await every(arena.exports.files("X"))

    with pytest.raises(ConfigurationError, match="open it with the set that listed it"):
        await arena.extracts.files("E").open(file)

    assert len(server.lines("GET *")) == 1


async def test_odd_guids_keep_keys_apart(server: RawServer, arena: ArenaClient) -> None:
    """A guid with a slash or a percent sign in it cannot be mistaken for another file, and is opened as it is."""
    server.on("GET", "/v1/exports/X/runs", page_reply(export_run("R%2F", 2, "F/1", "F%2F1")))
    files = arena.exports.files("X")

    first, second = await every(files)

    assert first.key != second.key
    with pytest.raises(ConfigurationError):
        await files.open(first)
    with pytest.raises(NotFoundError):
        await files.open(second)
    assert server.requests[-1].line == "GET /v1/exports/X/runs/R%252F/files/F%252F1/content"
