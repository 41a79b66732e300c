"""Day files on the command line, as a child process against the simulator."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import environment, run

from arena_async.testing import CentrePointSimulator

pytestmark = pytest.mark.process

RAW = "raw-accelerometer"
#: The first subject's number and identifier.
NUMBER, IDENTIFIER = "10821", "A-001"


def below(directory: Path) -> dict[str, bytes]:
    """Return the final files of a folder by their path."""
    found = [path for path in directory.glob("centrepoint/**/*") if path.is_file()]
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in found}


async def test_days_are_synced_by_number_and_by_identifier_and_only_once(tmp_path: Path) -> None:
    """Both name the same files; the second run fetches none, by the service's own log."""
    async with CentrePointSimulator(days=5) as service:
        env = environment(service)
        words = ("sync", "centrepoint", "day-files", str(service.study))
        first = await run(*words, IDENTIFIER, RAW, "--to", str(tmp_path), env=env)
        service.clear()
        second = await run(*words, NUMBER, RAW.upper(), "--to", str(tmp_path), env=env)
        fetched = service.seen("GET *", listener="files")
        offered = {key.path: service.day_files.content(key) for key in service.day_files.keys(10821, RAW)}

    assert (first.code, second.code) == (0, 0), first.err + second.err
    assert first.out.splitlines()[0].startswith("10 fetched  (")
    assert second.out.splitlines()[0].startswith("nothing new  (0 B, ")
    assert fetched == []
    assert below(tmp_path) == offered


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (("--format", "avro"), ["2021-01-01.avro", "2021-01-02.avro", "2021-01-03.avro"]),
        (("--first-day", "2021-01-02", "--last-day", "2021-01-02"), ["2021-01-02.avro", "2021-01-02.csv.gz"]),
        (("--year", "2021", "--month", "1", "--day", "3", "--format", "csv"), ["2021-01-03.csv.gz"]),
    ],
)
async def test_options_narrow_what_is_synced(tmp_path: Path, options: tuple[str, ...], names: list[str]) -> None:
    """A range, a year, month or day, and the format."""
    async with CentrePointSimulator() as service:
        words = ("sync", "centrepoint", "day-files", str(service.study), NUMBER, RAW, *options)
        done = await run(*words, "--to", str(tmp_path), env=environment(service))

    assert done.code == 0, done.err
    assert sorted(path.rpartition("/")[2] for path in below(tmp_path)) == names


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ((NUMBER, RAW, "--first-day", "soon"), 2, "'soon' is no day"),
        ((NUMBER, RAW, "--month", "1"), 2, "A month needs its year"),
        ((NUMBER, RAW, "--format", "c/sv"), 2, "'c/sv' is no format of day files"),
        ((NUMBER, "gait"), 1, "Data category was not found"),
        (("A-01", RAW), 1, "Similar: A-001"),
    ],
)
async def test_what_cannot_be_meant_is_told(tmp_path: Path, words: tuple[str, ...], code: int, said: str) -> None:
    """One sentence on stderr, nothing in the folder."""
    async with CentrePointSimulator() as service:
        line = ("sync", "centrepoint", "day-files", str(service.study), *words, "--to", str(tmp_path / "out"))
        done = await run(*line, env=environment(service))

    assert (done.code, done.out) == (code, "")
    assert said in done.err
    assert below(tmp_path / "out") == {}


async def test_days_are_listed_and_planned(tmp_path: Path) -> None:
    """The list has a row for each file and shows no link; the plan costs the listing and touches nothing."""
    async with CentrePointSimulator() as service:
        env = environment(service)
        words = ("centrepoint", "day-files", str(service.study), NUMBER, RAW)
        listed = await run("list", *words, "--json", env=env)
        planned = await run("plan", *words, "--to", str(tmp_path), "--json", env=env)

    rows = listed.records
    assert [(row["date_text"][:10], row["file_format"]) for row in rows[:2]] == [
        ("2021-01-01", "csv"),
        ("2021-01-01", "avro"),
    ]
    assert len(rows) == 6
    assert "sig=" not in listed.out + planned.out
    summary = planned.records[-1]
    assert (summary["counts"]["fetch"], summary["content"]) == (6, 0)
    assert below(tmp_path) == {}
