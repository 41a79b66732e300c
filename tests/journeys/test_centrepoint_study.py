"""A whole study from the command line: brought home, kept equal, and told about; with links that die all the time."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from command_line import environment, run
from studies import is_whole

from arena_async.testing import CentrePointSimulator


def count_files(directory: Path) -> int:
    """Count the dataset files of a folder."""
    return len(list(directory.glob("centrepoint/study-234/program-*/subject-*/*.csv.gz")))


@pytest.mark.process
async def test_a_study_of_2400_files_comes_home_with_links_that_live_three_seconds(tmp_path: Path) -> None:
    """
    200 subjects, 6 data sets, 2 programs, two files to each name; a second run costs the listing, a third ten files.

    The links die in the queue and are renewed there, with 8 workers: nothing fails, and no dead link is asked twice.
    """
    async with CentrePointSimulator(subjects=200, data_sets=6, file_size=2000, link_lifetime=3) as simulator:
        names = Counter(simulator.file_name(key) for key in simulator.files)
        assert (len(simulator.files), set(names.values())) == (2400, {2})
        sync = ("sync", "centrepoint", "study", "234", "--workers", "8", "--json", "--quiet", "--to", str(tmp_path))

        first = await run(*sync, env=environment(simulator), seconds=180)
        *files, summary = first.records
        assert (first.code, first.err) == (0, "")
        assert len(files) == 2400
        assert {(file["action"], file["verified_by"], file["error"]) for file in files} == {("fetch", "md5", None)}
        assert summary["counts"]["fetch"] == 2400
        assert is_whole(simulator, tmp_path)
        blobs = simulator.seen(listener="files")
        dead = Counter(seen.target for seen in blobs if seen.status == 403)
        assert set(dead.values()) <= {1}
        assert len(blobs) - dead.total() == 2400
        # 24 pages, each listed again a few times for all of its links, and two for what is stale.
        assert len(simulator.seen(listener="api")) < 24 * 5

        simulator.clear()
        second = await run(*sync, env=environment(simulator), seconds=180)
        assert second.code == 0
        assert second.records[-1]["counts"]["keep"] == 2400
        assert simulator.seen(listener="files") == []
        assert len(simulator.seen(listener="api")) == second.records[-1]["requests"] == 2 + 24

        for key in simulator.files[::240]:
            simulator.change_file(key)
        simulator.clear()
        third = await run(*sync, env=environment(simulator), seconds=180)
        assert third.records[-1]["counts"]["refresh"] == 10
        assert len({seen.path for seen in simulator.seen(listener="files")}) == 10
        assert is_whole(simulator, tmp_path)
        assert simulator.breaches == []

    check = await run("verify", str(tmp_path), "--json", env=environment(), seconds=60)
    assert check.records[-1]["ok"] == 2400


@pytest.mark.process
async def test_a_sync_says_what_is_stale(tmp_path: Path) -> None:
    """A note for people on stderr, and rows for programs; quiet means quiet."""
    async with CentrePointSimulator(file_size=300) as simulator:
        sync = ("sync", "centrepoint", "study", "234", "--to", str(tmp_path))
        env = environment(simulator)
        assert "stale:" not in (await run(*sync, env=env)).err
        simulator.upload_raw(10822)

        done = await run(*sync, env=env)
        assert done.code == 0
        assert "stale: study 234: raw data of 1 subject (10822) was uploaded after a study program last ran" in done.err
        assert "stale:" not in done.out
        assert (await run(*sync, "--quiet", env=env)).err == ""
        rows = [row for row in (await run(*sync, "--json", env=env)).records if row["type"] == "stale"]
        assert [(row["subject_id"], row["study_program_id"]) for row in rows] == [
            (10822, p) for p in simulator.programs
        ]


@pytest.mark.process
async def test_a_subject_is_named_as_people_know_it(tmp_path: Path) -> None:
    """By identifier or number, on the command line where all is text; a wrong one names what is spelled alike."""
    async with CentrePointSimulator(file_size=300) as simulator:
        sync = ("sync", "centrepoint", "datasets", "234", "--to", str(tmp_path), "--subject")
        env = environment(simulator)
        assert "4 fetched" in (await run(*sync, "A-002", env=env)).out
        assert (await run(*sync, "10822", env=env)).code == 0
        assert count_files(tmp_path) == 4
        wrong = await run(*sync, "a-002", env=env)
        assert wrong.code == 1
        assert "Similar: A-002" in wrong.err
        simulator.identifiers = {10821: "10822"}
        clash = await run(*sync, "10822", env=env)
        assert clash.code == 2
        assert "identifier of subject 10821, and the number of another one" in clash.err


@pytest.mark.process
@pytest.mark.parametrize(
    ("words", "columns"),
    [
        (("studies",), ["234", "Simulated Study", "Active", "Simulated Organization"]),
        (("subjects", "234"), ["10821", "A-001", "A", "Not Assigned"]),
        (("programs", "234"), ["5b342a11-2fb9-4ad9-a7be-4d410181f51c", "Activity (30)"]),
    ],
)
async def test_what_a_study_has_is_listed(words: tuple[str, ...], columns: list[str]) -> None:
    """Studies, subjects with their identifiers, programs; without anything personal, in JSON too."""
    async with CentrePointSimulator() as simulator:
        listed = await run("list", "centrepoint", *words, env=environment(simulator))
        assert listed.out.splitlines()[0].split("\t") == columns
        rows = (await run("list", "centrepoint", *words, "--json", env=environment(simulator))).records
        assert not {"gender", "weight", "dob", "height", "unknown"} & set(rows[0])
