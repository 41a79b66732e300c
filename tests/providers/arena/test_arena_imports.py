"""Imports: a file of this machine goes up in one piece, is checked first, and is committed on purpose."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest
from arena_scripts import QUOTA, arena_client, page_reply
from fake_clock import FakeTime
from scripted import RawServer, json_reply, reply

from arena_async.errors import (
    ConfigurationError,
    ConflictError,
    DeadlineError,
    NotAsRequestedError,
    RunFailedError,
    TransportError,
)
from arena_async.options import PollPolicy
from arena_async.providers.arena import ArenaClient, ImportRun, Submission
from arena_async.providers.arena.imports import Imports
from arena_async.testing import ArenaSimulator, faults
from arena_async.testing.replies import Call

CSV = b"number,price\r\n900-1,5\r\n900-2,6\r\n"
XLSX = b"PK\x03\x04 a worksheet is a zip inside"
RUNS = "/v1/imports/I/runs"


@pytest.fixture
def sheet(tmp_path: Path) -> Path:
    """Return a CSV file."""
    path = tmp_path / "prices.csv"
    path.write_bytes(CSV)
    return path


def imports_of(arena: ArenaClient, time: FakeTime) -> Imports:
    """Return the imports of a client, on the clock of the test."""
    return attrs.evolve(arena.imports, timing=time.timing)


def parts(simulator: ArenaSimulator, which: int = -1) -> dict[str, tuple[str | None, bytes]]:
    """Take the last upload apart."""
    seen = simulator.seen("POST */runs")[which]
    return {part.name: (part.filename, part.body) for part in Call(seen=seen, headers=seen.headers).parts()}


@pytest.mark.parametrize("read", ["query", "parts", "both"])
async def test_the_words_go_as_parts_of_the_form_and_as_a_query(
    simulator: ArenaSimulator, time: FakeTime, sheet: Path, read: Any
) -> None:
    """The vendor's documents disagree about where they belong, and only a service that reads one says so in a run."""
    simulator.import_parameters = read
    async with simulator.client() as arena:
        run = await imports_of(arena, time).start(simulator.import_, sheet)
    (seen,) = simulator.seen("POST */runs")

    assert dict(seen.query) == {"submitFileType": "CSV", "commit": "false"}
    assert parts(simulator) == {
        "submitFileType": (None, b"CSV"),
        "commit": (None, b"false"),
        "submitContent": ("prices.csv", CSV),
    }
    assert (run.status, run.commit, run.total_count) == ("CREATED", False, 2)


@pytest.mark.parametrize("read", ["query", "parts", "both"])
async def test_a_worksheet_is_imported_at_once_where_that_is_said(
    simulator: ArenaSimulator, time: FakeTime, tmp_path: Path, read: Any
) -> None:
    """With a file of files beside it."""
    simulator.import_parameters = read
    (tmp_path / "items.xlsx").write_bytes(XLSX)
    (tmp_path / "drawings.zip").write_bytes(b"drawings")
    async with simulator.client() as arena:
        run = await imports_of(arena, time).start(
            simulator.import_,
            Submission(
                tmp_path / "items.xlsx",
                worksheet="Item Master",
                commit=True,
                content=tmp_path / "drawings.zip",
            ),
        )
    (seen,) = simulator.seen("POST */runs")

    assert dict(seen.query) == {
        "submitFileType": "EXCEL_WORKSHEET",
        "submitWorksheetName": "Item Master",
        "commit": "true",
    }
    assert parts(simulator) == {
        "submitFileType": (None, b"EXCEL_WORKSHEET"),
        "submitWorksheetName": (None, b"Item Master"),
        "commit": (None, b"true"),
        "submitContent": ("items.xlsx", XLSX),
        "fileContent": ("drawings.zip", b"drawings"),
    }
    assert (run.submit_worksheet_name, run.commit) == ("Item Master", True)


@pytest.mark.parametrize(
    ("commit", "said", "happened"),
    [
        (False, {"commit": True}, "the service has committed it: the workspace is changed for good"),
        (True, {"commit": False}, "it was to be committed, and the service responds that it is not"),
        (False, {}, "the service does not say whether it is committed: the workspace may be changed"),
    ],
)
async def test_a_run_that_does_something_else_than_requested_is_an_error_that_says_what_happened(
    server: RawServer, time: FakeTime, sheet: Path, commit: bool, said: dict[str, bool], happened: str
) -> None:
    """With the run; where the response does not say it, the run is looked up first."""
    server.on("POST", RUNS, json_reply({"guid": "R", "status": "CREATED", **said}, 201))
    server.on("GET", f"{RUNS}/R", json_reply({"guid": "R", "status": "CREATED", **said}))
    async with arena_client(server) as arena:
        with pytest.raises(NotAsRequestedError, match=f"import run R: .*{happened}") as caught:
            await imports_of(arena, time).start("I", Submission(sheet, commit=commit))

    assert caught.value.result.guid == "R"
    assert len(server.lines(f"POST {RUNS}*")) == 1
    assert (server.lines("GET *") == []) is bool(said)


async def test_a_run_that_does_not_say_whether_it_commits_is_looked_up(
    server: RawServer, time: FakeTime, sheet: Path
) -> None:
    """It may not be shown at once."""
    unknown = json_reply({"status": 404, "errors": [{"code": 404, "message": "Not found."}]}, 404, headers=QUOTA)
    server.on("POST", RUNS, json_reply({"guid": "R", "status": "CREATED"}, 201))
    server.on("GET", f"{RUNS}/R", unknown, json_reply({"guid": "R", "status": "CREATED", "commit": False}))
    async with arena_client(server) as arena:
        run = await imports_of(arena, time).start("I", sheet)

    assert (run.guid, run.commit) == ("R", False)
    assert len(server.lines("GET *")) == 2


@pytest.mark.parametrize(
    ("name", "content", "more", "complaint"),
    [
        ("none.csv", None, {}, "there is no such file; nothing was sent"),
        ("empty.csv", b"", {}, "it is empty"),
        ("prices.txt", CSV, {}, r"takes \.xlsx and \.csv files"),
        ("prices.xls", b"\xd0\xcf\x11\xe0", {}, r"takes \.xlsx and \.csv files"),
        ("old.xlsx", b"\xd0\xcf\x11\xe0\xa1", {}, r"an \.xls file of an old Excel; save it as \.xlsx"),
        ("prices.xlsx", CSV, {}, "it is no XLSX file"),
        ("prices.csv", XLSX, {}, "it is an XLSX file, or another kind of zip"),
        ("prices.csv", "number".encode("utf-16"), {}, "UTF-16"),
        ("prices.csv", CSV, {"worksheet": "Sheet1"}, "a CSV file has no worksheets"),
        ("prices.csv", CSV, {"file_type": "TSV"}, "takes one of EXCEL_WORKSHEET, CSV"),
        ("prices.csv", CSV, {"content": "none.zip"}, "none.zip: there is no such file"),
    ],
)
async def test_a_file_that_the_service_cannot_read_is_not_sent(
    tmp_path: Path, name: str, content: bytes | None, more: dict[str, Any], complaint: str
) -> None:
    """Not even a login."""
    if content is not None:
        (tmp_path / name).write_bytes(content)
    async with RawServer() as server, arena_client(server) as arena:
        with pytest.raises(ConfigurationError, match=complaint):
            await arena.imports.start("I", Submission(tmp_path / name, **more))
        assert server.requests == []


async def test_the_kind_of_a_file_can_be_said(simulator: ArenaSimulator, time: FakeTime, tmp_path: Path) -> None:
    """Where its name does not."""
    (tmp_path / "export.dat").write_bytes(CSV)
    async with simulator.client() as arena:
        run = await imports_of(arena, time).start(
            simulator.import_, Submission(tmp_path / "export.dat", file_type="CSV")
        )

    assert run.submit_file_type == "CSV"


async def test_a_check_brings_counts_warnings_and_the_error_file(
    simulator: ArenaSimulator, time: FakeTime, sheet: Path, tmp_path: Path
) -> None:
    """COMPLETE says that the engine has finished, not that all rows are right."""
    simulator.import_errors = 1
    async with simulator.client() as arena:
        checked = await imports_of(arena, time).fetch(simulator.import_, sheet, tmp_path / "out")
    run = checked.run

    assert (run.status, run.done, run.has_errors) == ("COMPLETE", True, True)
    assert (run.total_count, run.success_count, run.error_count) == (2, 1, 1)
    assert run.warnings is not None
    assert run.warnings.results[0].message == "Column 'Descrptn' ignored."
    directory = tmp_path / "out" / "arena" / "imports" / simulator.import_ / run.guid
    assert sorted(checked.paths) == [directory / "error.csv", directory / "result.csv"]
    assert (directory / "error.csv").read_bytes().splitlines()[1] == b"ERROR,3003,The value is not valid."


async def test_a_check_without_errors_has_no_error_file(
    simulator: ArenaSimulator, time: FakeTime, sheet: Path, tmp_path: Path
) -> None:
    """It is not even asked for, and neither is what we sent ourselves."""
    async with simulator.client() as arena:
        checked = await imports_of(arena, time).fetch(simulator.import_, sheet, tmp_path / "out")

    assert not checked.run.has_errors
    assert [path.name for path in checked.paths] == ["result.csv"]
    assert len(simulator.seen("GET *Content")) == 1


async def test_a_check_that_was_cut_short_uploads_nothing_again(
    simulator: ArenaSimulator, time: FakeTime, sheet: Path, tmp_path: Path
) -> None:
    """The run is known by the content of the file; another file is another job."""
    async with simulator.client() as arena:
        imports = imports_of(arena, time)
        with pytest.raises(DeadlineError, match="not finished after 20 s"):
            await imports.fetch(simulator.import_, sheet, tmp_path / "out", poll=PollPolicy(timeout=20))
        other = sheet.with_name("other.csv")
        other.write_bytes(CSV + b"900-3,7\r\n")
        second = await imports.fetch(simulator.import_, other, tmp_path / "out")
        moved = sheet.with_name("moved.csv")
        moved.write_bytes(CSV)
        first = await imports.fetch(simulator.import_, moved, tmp_path / "out")

    assert not second.resumed
    assert first.resumed
    assert (first.run.total_count, second.run.total_count) == (2, 3)
    assert len(simulator.seen("POST */runs")) == 2


async def test_a_file_that_the_engine_cannot_read_is_a_failed_run(
    simulator: ArenaSimulator, time: FakeTime, sheet: Path, tmp_path: Path
) -> None:
    """ERROR is the end of it."""
    simulator.run_outcome = "ERROR"
    async with simulator.client() as arena:
        with pytest.raises(RunFailedError, match="its status is ERROR") as caught:
            await imports_of(arena, time).fetch(simulator.import_, sheet, tmp_path / "out")

    assert isinstance(caught.value.run, ImportRun)


class TestCommitting:
    """There is no way back."""

    @pytest.mark.parametrize("read", ["query", "parts", "both"])
    async def test_a_dry_run_is_committed_after_a_look_at_it(
        self, simulator: ArenaSimulator, time: FakeTime, sheet: Path, read: Any
    ) -> None:
        """In a body and as a query, wherever the service looks for it."""
        simulator.import_parameters = read
        async with simulator.client() as arena:
            imports = imports_of(arena, time)
            run = await imports.wait(simulator.import_, await imports.start(simulator.import_, sheet))
            committed = await imports.commit(simulator.import_, run.guid)
            (put,) = simulator.seen("PUT */runs/*")

        assert committed.commit
        assert (put.target.partition("/runs/")[2], put.body) == (f"{run.guid}?commit=true", b'{"commit": true}')

    async def test_rows_that_failed_stand_in_the_way(
        self, simulator: ArenaSimulator, time: FakeTime, sheet: Path
    ) -> None:
        """Unless they are accepted."""
        simulator.import_errors = 1
        async with simulator.client() as arena:
            imports = imports_of(arena, time)
            run = await imports.wait(simulator.import_, await imports.start(simulator.import_, sheet))
            with pytest.raises(ConflictError, match="1 of 2 rows failed, so it was not committed"):
                await imports.commit(simulator.import_, run.guid)
            assert simulator.seen("PUT */runs/*") == []
            committed = await imports.commit(simulator.import_, run.guid, despite_errors=True)

        assert committed.commit
        assert committed.has_errors

    async def test_a_run_that_is_not_done_is_not_committed(
        self, simulator: ArenaSimulator, time: FakeTime, sheet: Path
    ) -> None:
        """Nobody knows yet what it would do."""
        async with simulator.client() as arena:
            imports = imports_of(arena, time)
            run = await imports.start(simulator.import_, sheet)
            with pytest.raises(ConflictError, match="its status is RUNNING; only a dry run that is done"):
                await imports.commit(simulator.import_, run.guid)

        assert simulator.seen("PUT */runs/*") == []

    async def test_a_commit_whose_answer_was_lost_is_looked_up_and_not_repeated(
        self, simulator: ArenaSimulator, time: FakeTime, sheet: Path
    ) -> None:
        """The run shows that it is done; so it does for the second call."""
        async with simulator.client() as arena:
            imports = imports_of(arena, time)
            run = await imports.wait(simulator.import_, await imports.start(simulator.import_, sheet))
            simulator.inject(faults.lose_answer(), on="PUT */runs/*")
            first = await imports.commit(simulator.import_, run.guid)
            again = await imports.commit(simulator.import_, run.guid)

        assert (first.commit, again.commit) == (True, True)
        assert len(simulator.seen("PUT */runs/*")) == 1

    async def test_a_run_can_be_marked_as_finished(self, simulator: ArenaSimulator, time: FakeTime) -> None:
        """One request."""
        run = simulator.add_import_run(status="RUNNING")
        async with simulator.client() as arena:
            finished = await imports_of(arena, time).complete(simulator.import_, run.guid)

        assert finished.done
        assert len(simulator.seen("PUT */complete")) == 1


class TestLostUploads:
    """The file was sent, and no answer came."""

    async def test_the_run_is_found_in_the_list_and_nothing_is_uploaded_again(
        self, simulator: ArenaSimulator, time: FakeTime, sheet: Path
    ) -> None:
        """By user, time, kind and whether it commits."""
        simulator.inject(faults.lose_answer(), on="POST */runs")
        async with simulator.client() as arena:
            run = await imports_of(arena, time).start(simulator.import_, Submission(sheet, commit=True))
            runs = simulator.imports[simulator.import_].runs

        assert run.guid == runs[-1].guid
        assert len(simulator.seen("POST */runs")) == 1

    async def test_a_dry_run_that_was_not_heard_is_sent_again(
        self, simulator: ArenaSimulator, time: FakeTime, sheet: Path
    ) -> None:
        """The file is read anew."""
        simulator.inject(faults.mute(), on="POST */runs")
        async with simulator.client() as arena:
            await imports_of(arena, time).start(simulator.import_, sheet)

        assert [parts(simulator, which)["submitContent"][1] for which in (0, 1)] == [CSV, CSV]

    async def test_one_that_commits_is_never_sent_again(
        self, simulator: ArenaSimulator, time: FakeTime, sheet: Path
    ) -> None:
        """It may turn up later, and would have been done twice."""
        simulator.inject(faults.mute(), on="POST */runs")
        async with simulator.client() as arena:
            with pytest.raises(TransportError, match="it was not sent again"):
                await imports_of(arena, time).start(simulator.import_, Submission(sheet, commit=True))

        assert len(simulator.seen("POST */runs")) == 1

    async def test_where_it_may_be_one_of_several_nobody_guesses(self, time: FakeTime, sheet: Path) -> None:
        """They may hold other files."""
        found = {"status": "RUNNING", "creationDateTime": "2026-03-02T12:00:00Z", "commit": False}
        async with RawServer() as server, arena_client(server) as arena:
            server.on("POST", RUNS, reply(mute=True))
            server.on("GET", RUNS, page_reply({**found, "guid": "A"}, {**found, "guid": "B"}))
            with pytest.raises(ConflictError, match="it is not certain which run was started: A, B"):
                await imports_of(arena, time).start("I", sheet)

            assert len(server.lines(f"POST {RUNS}*")) == 1

    @pytest.mark.parametrize(
        "other",
        [
            {"creationDateTime": "2026-03-02T11:54:59Z"},
            {"submitFileType": "EXCEL_WORKSHEET"},
            {"submitWorksheetName": "Sheet1"},
            {"creator": {"email": "other@example.com"}},
        ],
    )
    async def test_a_run_with_something_else_is_not_taken_for_it(
        self, time: FakeTime, sheet: Path, other: dict[str, Any]
    ) -> None:
        """Committing it would import another file."""
        found = {"guid": "A", "status": "RUNNING", "creationDateTime": "2026-03-02T12:00:00Z", **other}
        async with RawServer() as server, arena_client(server) as arena:
            new = json_reply({"guid": "NEW", "status": "CREATED", "commit": False}, headers=QUOTA)
            server.on("POST", RUNS, reply(mute=True), new)
            server.on("GET", RUNS, page_reply(found))

            assert (await imports_of(arena, time).start("I", sheet)).guid == "NEW"

    @pytest.mark.parametrize(
        "other",
        [
            {"creationDateTime": "2026-03-02T11:58:59Z"},
            {"creationDateTime": "2026-03-02T13:00:01Z"},
            {"commit": True},
        ],
    )
    async def test_a_run_that_may_be_another_one_is_neither_taken_for_it_nor_started_again(
        self, time: FakeTime, sheet: Path, other: dict[str, Any]
    ) -> None:
        """The clocks may be minutes apart, and a service may have committed a dry run: a person has to look."""
        found = {"guid": "A", "status": "RUNNING", "creationDateTime": "2026-03-02T12:00:00Z", **other}
        async with RawServer() as server, arena_client(server) as arena:
            server.on("POST", RUNS, reply(mute=True))
            server.on("GET", RUNS, page_reply(found))
            with pytest.raises(ConflictError, match="it is not certain which run was started: A"):
                await imports_of(arena, time).start("I", sheet)

            assert len(server.lines(f"POST {RUNS}*")) == 1

    async def test_a_run_of_another_file_of_this_user_is_not_taken_for_it(
        self, simulator: ArenaSimulator, time: FakeTime, sheet: Path
    ) -> None:
        """It was started half a minute before, and it is known whose run it is."""
        other = sheet.with_name("other.csv")
        other.write_bytes(CSV + b"900-3,7\r\n")
        async with simulator.client() as arena:
            imports = imports_of(arena, time)
            first = await imports.start(simulator.import_, other)
            time.at += 30
            simulator.inject(faults.mute(), on="POST */runs")
            second = await imports.start(simulator.import_, sheet)

        assert second.guid != first.guid
        assert (first.total_count, second.total_count) == (3, 2)
