"""Imports: a file of this machine goes up in one piece, is checked first, and is committed on purpose."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest
from arena_scripts import QUOTA, arena_client, page_reply
from fake_clock import FakeTime
from scripted import RawServer, json_reply, reply

from arena_async.errors import ConfigurationError, ConflictError, DeadlineError, RunFailedError, TransportError
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


async def test_the_words_go_as_parts_of_the_form(simulator: ArenaSimulator, time: FakeTime, sheet: Path) -> None:
    """The way the vendor's pages show; a dry run unless something else is said."""
    async with simulator.client() as arena:
        run = await imports_of(arena, time).start(simulator.import_, sheet)
    (seen,) = simulator.seen("POST */runs")

    assert dict(seen.query) == {}
    assert parts(simulator) == {
        "submitFileType": (None, b"CSV"),
        "commit": (None, b"false"),
        "submitContent": ("prices.csv", CSV),
    }
    assert (run.status, run.commit, run.total_count) == ("CREATED", False, 2)


async def test_the_words_go_as_a_query_where_that_is_chosen(
    simulator: ArenaSimulator, time: FakeTime, tmp_path: Path
) -> None:
    """The way the vendor's OpenAPI document shows; only files are parts then."""
    (tmp_path / "items.xlsx").write_bytes(XLSX)
    (tmp_path / "drawings.zip").write_bytes(b"drawings")
    async with simulator.client(import_parameters="query") as arena:
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
        "submitContent": ("items.xlsx", XLSX),
        "fileContent": ("drawings.zip", b"drawings"),
    }
    assert (run.submit_worksheet_name, run.commit) == ("Item Master", True)


async def test_a_way_that_is_not_documented_is_refused() -> None:
    """Before anything is sent."""
    async with RawServer() as server:
        with pytest.raises(ConfigurationError, match="import_parameters is 'body'; it takes parts or query"):
            arena_client(server, import_parameters="body")


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

    @pytest.mark.parametrize(
        ("parameters", "query", "body"), [("parts", "", b'{"commit": true}'), ("query", "?commit=true", b"")]
    )
    async def test_a_dry_run_is_committed_after_a_look_at_it(
        self, simulator: ArenaSimulator, time: FakeTime, sheet: Path, parameters: str, query: str, body: bytes
    ) -> None:
        """In a body or as a query, as the client is set."""
        async with simulator.client(import_parameters=parameters) as arena:
            imports = imports_of(arena, time)
            run = await imports.wait(simulator.import_, await imports.start(simulator.import_, sheet))
            committed = await imports.commit(simulator.import_, run.guid)
            (put,) = simulator.seen("PUT */runs/*")

        assert committed.commit
        assert (put.target.partition("/runs/")[2], put.body) == (f"{run.guid}{query}", body)

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

    async def test_a_commit_whose_answer_was_lost_is_not_repeated_and_shows_when_asked_again(
        self, simulator: ArenaSimulator, time: FakeTime, sheet: Path
    ) -> None:
        """The second call finds that it is done, and sends nothing."""
        async with simulator.client() as arena:
            imports = imports_of(arena, time)
            run = await imports.wait(simulator.import_, await imports.start(simulator.import_, sheet))
            simulator.inject(faults.lose_answer(), on="PUT */runs/*")
            with pytest.raises(TransportError):
                await imports.commit(simulator.import_, run.guid)
            again = await imports.commit(simulator.import_, run.guid)

        assert again.commit
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
            with pytest.raises(ConflictError, match="several runs may be the one that was started: A, B"):
                await imports_of(arena, time).start("I", sheet)

            assert len(server.lines(f"POST {RUNS}")) == 1

    @pytest.mark.parametrize(
        "other",
        [
            {"creationDateTime": "2026-03-02T11:58:59Z"},
            {"submitFileType": "EXCEL_WORKSHEET"},
            {"commit": True},
            {"submitWorksheetName": "Sheet1"},
        ],
    )
    async def test_a_run_with_something_else_is_not_taken_for_it(
        self, time: FakeTime, sheet: Path, other: dict[str, Any]
    ) -> None:
        """Committing it would import another file."""
        found = {"guid": "A", "status": "RUNNING", "creationDateTime": "2026-03-02T12:00:00Z", **other}
        async with RawServer() as server, arena_client(server) as arena:
            server.on("POST", RUNS, reply(mute=True), json_reply({"guid": "NEW", "status": "CREATED"}, headers=QUOTA))
            server.on("GET", RUNS, page_reply(found))

            assert (await imports_of(arena, time).start("I", sheet)).guid == "NEW"
