"""Running exports and importing spreadsheets from the command line, against the simulator."""

from __future__ import annotations

import asyncio
import hashlib
import signal
from pathlib import Path

import pytest
from command_line import environment, run, start

from arena_async.testing import ArenaSimulator, faults

pytestmark = pytest.mark.process

SHEET = b"number,price\r\n900-1,5\r\n900-2,6\r\n"
QUICK = ("--every", "0.05")


@pytest.fixture
def sheet(tmp_path: Path) -> str:
    """Return a CSV file."""
    path = tmp_path / "prices.csv"
    path.write_bytes(SHEET)
    return str(path)


async def test_an_export_is_run_and_brought_home(tmp_path: Path) -> None:
    """People read how it goes on stderr; stdout has the summary; the bytes are the service's."""
    out = tmp_path / "out"
    async with ArenaSimulator() as arena:
        done = await run("export", "run", arena.export, "--to", str(out), *QUICK, env=environment(arena))
        made = arena.exports[arena.export].runs[-1]
        place = f"arena/exports/{arena.export}/{made.guid}/{made.files[0].guid}.zip"
        digest = arena.sha256[place]

    assert done.code == 0, done.err
    assert hashlib.sha256((out / place).read_bytes()).hexdigest() == digest
    assert done.out.splitlines()[0].startswith("1 fetched  (")
    assert done.out.splitlines()[1] == f"1 file in {out}"
    notes = done.err.splitlines()
    assert notes[0] == f"run {made.guid} was started"
    assert notes[1].startswith(f"run {made.guid} is RUNNING, next poll in ")
    assert notes[-1].startswith("fetched  ")


async def test_json_tells_each_sight_of_the_run_and_each_file(tmp_path: Path) -> None:
    """One object a line, a summary at the end."""
    async with ArenaSimulator() as arena:
        command = ("export", "run", arena.export, "--to", str(tmp_path / "out"), *QUICK, "--json", "--quiet")
        done = await run(*command, env=environment(arena))

    kinds = [(record["type"], record.get("how"), record.get("status")) for record in done.records]
    assert kinds == [
        ("run", "started", "CREATED"),
        ("run", "asked", "RUNNING"),
        ("run", "asked", "COMPLETE"),
        ("file", None, None),
        ("summary", None, None),
    ]
    assert done.err == ""


async def test_an_interrupted_export_is_taken_up_by_the_same_command(tmp_path: Path) -> None:
    """One start in the log of the service, and a hint that says what to type."""
    async with ArenaSimulator(run_polls=3) as arena:
        command = ("export", "run", arena.export, "--to", str(tmp_path / "out"), "--every", "60")
        child = await start(*command, env=environment(arena))
        assert child.stderr is not None
        async with asyncio.timeout(100):
            assert b"was started" in await child.stderr.readline()
        child.send_signal(signal.SIGINT)
        _, err = await child.communicate()
        again = await run(*command[:-1], "0.05", env=environment(arena))
        posts = arena.seen("POST */runs")

    assert child.returncode == 130
    assert "A started run continues at the service. Run it again to continue:" in err.decode()
    assert f"arena-async export run {arena.export} --to" in err.decode()
    assert again.code == 0, again.err
    assert "was started before and is waited for" in again.err
    assert len(posts) == 1


async def test_a_failed_run_is_a_sentence(tmp_path: Path) -> None:
    """And exit code 1."""
    async with ArenaSimulator() as arena:
        arena.run_outcome = "FAILED"
        command = ("export", "run", arena.export, "--to", str(tmp_path / "out"), *QUICK)
        done = await run(*command, env=environment(arena))

    assert done.code == 1
    assert "its status is FAILED, so it has no files. Start another run." in done.err


async def test_files_that_did_not_come_are_exit_code_3_and_the_same_command_brings_them(tmp_path: Path) -> None:
    """The run is not started again."""
    async with ArenaSimulator() as arena:
        command = ("export", "run", arena.export, "--to", str(tmp_path / "out"), *QUICK)
        arena.inject(faults.status(403), on="GET */content")
        first = await run(*command, env=environment(arena))
        second = await run(*command, env=environment(arena))
        posts = arena.seen("POST */runs")

    assert first.code == 3, first.err
    assert "not all of its files are here; the same command fetches the rest" in first.err
    assert second.code == 0, second.err
    assert len(posts) == 1


async def test_an_allowance_that_is_used_up_is_exit_code_5(tmp_path: Path) -> None:
    """Whether it ends the wait or the transfer."""
    async with ArenaSimulator() as arena:
        command = ("export", "run", arena.export, "--to", str(tmp_path / "out"), *QUICK)
        waiting = await run(*command, env=environment(arena, ARENA_QUOTA_RESERVE="9998"))
        fetching = await run(*command, env=environment(arena, ARENA_QUOTA_RESERVE=str(arena.remaining - 1)))

    assert waiting.code == 5, waiting.err
    assert fetching.code == 5, fetching.err


async def test_a_wrong_wait_is_a_usage_error(tmp_path: Path) -> None:
    """Before anything is started."""
    async with ArenaSimulator() as arena:
        command = ("export", "run", arena.export, "--to", str(tmp_path / "out"), "--timeout", "0")
        done = await run(*command, env=environment(arena))

    assert done.code == 2
    assert "PollPolicy.timeout is 0.0" in done.err
    assert arena.seen("POST */runs") == []


async def test_a_check_says_what_would_be_imported_and_how_to_do_it(tmp_path: Path, sheet: str) -> None:
    """Then the commit does it, once."""
    async with ArenaSimulator() as arena:
        env = environment(arena)
        checked = await run("import", "check", arena.import_, sheet, "--to", str(tmp_path / "out"), *QUICK, env=env)
        made = arena.imports[arena.import_].runs[-1]
        committed = await run("import", "commit", arena.import_, made.guid, *QUICK, env=env)
        again = await run("import", "commit", arena.import_, made.guid, *QUICK, env=env)
        puts = arena.seen("PUT */runs/*")

    assert checked.code == 0, checked.err
    assert checked.out.splitlines()[-1] == "2 rows: 2 would be imported, 0 failed, 1 warning"
    assert "warning 331: Column 'Descrptn' ignored." in checked.err
    assert f"To do it: arena-async import commit {arena.import_} {made.guid}" in checked.err
    assert (tmp_path / "out" / "arena" / "imports" / arena.import_ / made.guid / "result.csv").is_file()
    assert (committed.code, again.code) == (0, 0), committed.err
    assert committed.out == again.out == "2 rows: 2 imported, 0 failed, 1 warning\n"
    assert made.commit
    assert len(puts) == 1


async def test_rows_that_failed_are_not_silent(tmp_path: Path, sheet: str) -> None:
    """Exit code 3, the error file by its path, and no commit without another word."""
    async with ArenaSimulator() as arena:
        arena.import_errors = 1
        env = environment(arena)
        checked = await run("import", "check", arena.import_, sheet, "--to", str(tmp_path / "out"), *QUICK, env=env)
        made = arena.imports[arena.import_].runs[-1]
        refused = await run("import", "commit", arena.import_, made.guid, env=env)
        untouched = made.commit
        forced = await run("import", "commit", arena.import_, made.guid, "--despite-errors", "--json", env=env)
        error = tmp_path / "out" / "arena" / "imports" / arena.import_ / made.guid / "error.csv"

    assert checked.code == 3
    assert checked.out.splitlines()[-1] == "2 rows: 1 would be imported, 1 failed, 1 warning"
    assert f"Rows failed, and nothing was imported. They are in {error}." in checked.err
    assert error.is_file()
    assert refused.code == 1
    assert "1 of 2 rows failed, so it was not committed" in refused.err
    assert not untouched
    assert forced.code == 3
    (record,) = (record for record in forced.records if record["type"] == "import")
    assert (record["guid"], record["commit"], record["error_count"], record["exit_code"]) == (made.guid, True, 1, 3)


async def test_a_worksheet_goes_with_an_excel_file(tmp_path: Path) -> None:
    """And what is no Excel file is refused before anything is sent."""
    good, bad = tmp_path / "items.xlsx", tmp_path / "bad.xlsx"
    good.write_bytes(b"PK\x03\x04 a worksheet")
    bad.write_bytes(SHEET)
    async with ArenaSimulator() as arena:
        env = environment(arena)
        words = ("--worksheet", "Item Master", "--to", str(tmp_path / "out"), *QUICK)
        done = await run("import", "check", arena.import_, str(good), *words, env=env)
        made = arena.imports[arena.import_].runs[-1]
        requested = len(arena.log)
        refused = await run("import", "check", arena.import_, str(bad), *words, env=env)

    assert done.code == 0, done.err
    assert made.worksheet == "Item Master"
    assert refused.code == 2
    assert "it is no XLSX file. Nothing was sent." in refused.err
    assert len(arena.log) == requested
