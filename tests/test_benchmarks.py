"""The benchmarks: what is made of their figures, and that the suite runs at a tiny scale."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections import defaultdict
from pathlib import Path
from typing import Any

import attrs
import pytest

ROOT = Path(__file__).parents[1]

OURS = {"mirror", "mirror-no-digest", "mirror-not-durable", "mirror-centrepoint", "downloader"}
LOADS = {"S", "M", "L", "S15", "S-tls", "M-tls", "L-tls", "L-gzip", "S-far", "M-far", "one-far"}


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a module of the benchmarks, which stand beside the package."""
    monkeypatch.syspath_prepend(ROOT)
    return lambda name: importlib.import_module(f"benchmarks.{name}")


@pytest.mark.parametrize(
    ("values", "others", "expected"),
    [
        ([2.0], [1.0], (2.0, 2.0, 2.0)),
        ([1.0, 2.0, 6.0], [1.0, 4.0, 2.0], (1.0, 0.5, 3.0)),
        ([1.0, 3.0], [1.0, 1.0], (2.0, 1.0, 3.0)),
        # A slow round is slow for both: the ratio does not see it.
        ([1.0, 10.0, 1.0], [2.0, 20.0, 2.0], (0.5, 0.5, 0.5)),
    ],
)
def test_ratios_are_made_within_a_round(
    module: Any, values: list[float], others: list[float], expected: tuple[float, float, float]
) -> None:
    """Median, least and most of the ratios of each round."""
    found = module("comparing").ratios(values, others)

    assert (found.middle, found.minimum, found.maximum) == expected


@pytest.mark.parametrize(("values", "others"), [([], []), ([1.0], []), ([1.0, 2.0], [1.0])])
def test_what_did_not_run_in_the_same_rounds_is_not_compared(
    module: Any, values: list[float], others: list[float]
) -> None:
    """Nothing, or another number of rounds, is an error and no figure."""
    with pytest.raises(ValueError, match=r"median of nothing|zip\(\) argument"):
        module("comparing").ratios(values, others)


def test_the_fastest_peer_is_one_peer_for_all_rounds(module: Any) -> None:
    """It is the one with the least median, and not the fastest of each round."""
    peers = {"one": [1.0, 9.0, 2.0], "other": [3.0, 3.0, 1.5], "slow": [5.0, 5.0, 5.0]}

    name, spread = module("comparing").ratios_to_fastest([4.0, 9.0, 2.0], peers)

    assert name == "one"
    assert (spread.middle, spread.minimum, spread.maximum) == (1.0, 1.0, 4.0)


@pytest.mark.parametrize(
    ("name", "scale", "files", "size"),
    [
        ("S", 1.0, 3000, 20_000),
        ("S", 0.01, 30, 20_000),
        ("L", 0.5, 3, 400_000_000),
        ("L", 0.02, 1, 48_000_000),
        ("one-far", 0.01, 1, 4_000_000),
        ("S15", 0.000001, 1, 1000),
    ],
)
def test_a_part_of_a_load_has_fewer_files_and_then_a_smaller_one(
    module: Any, name: str, scale: float, files: int, size: int
) -> None:
    """The bytes in all go down with the scale."""
    (load,) = (load for load in module("loads").LOADS if load.name == name)

    part = load.scaled(scale)

    assert (part.files, part.size) == (files, size)


def laps(module: Any, **seconds: list[float]) -> Any:
    """Make a table of some runs."""
    racing = module("racing")
    return racing.Table(
        laps=tuple(
            racing.Lap(
                load="S",
                contender=name.replace("_", "-"),
                round=number,
                seconds=value,
                cpu_seconds=value / 2,
                peak_memory=50_000_000,
                requests=3000,
                files=3000,
                bytes=60_000_000,
            )
            for name, values in seconds.items()
            for number, value in enumerate(values)
        )
    )


def test_the_page_says_who_is_faster(module: Any) -> None:
    """Each contender that is faster than the mirror is named, with the ratio within the rounds."""
    report = module("report")

    behind = laps(module, curl=[1.0, 2.0, 1.0], loop=[8.0, 8.0, 8.0], mirror=[2.0, 4.0, 3.0])
    ahead = laps(module, curl=[4.0], mirror=[2.0])

    assert report.slower([behind]) == [
        "S: 3,000 files of 20 KB: `mirror` takes this many times as long as curl (2.00)."
    ]
    assert report.slower([ahead]) == ["S: 3,000 files of 20 KB: no contender is faster than `mirror`."]


def test_the_page_and_the_picture_are_made_of_the_laps(module: Any) -> None:
    """A row for everybody with ratios to curl; the picture is well-formed and the same every time."""
    report, costs = module("report"), module("costs")
    table = laps(module, curl=[1.0, 2.0, 1.0], mirror=[2.0, 4.0, 3.0], mirror_no_digest=[1.5, 3.0, 1.5])
    at = report.Surroundings(date="2026-01-02", system="a machine", versions={"curl": "8.0"}, connections=32)
    cost = costs.Cost(benchmark="ledger", what="1 & 2 files", value=1.5, unit="s")

    page = report.as_page([table], [cost], [], at)
    picture = report.as_picture([table])

    assert "Measured on 2026-01-02 (UTC): a machine, curl 8.0." in page
    assert "### S: 3,000 files of 20 KB\n\n3 rounds.\n" in page
    assert "| curl | 1.00 | 1.00-2.00 | 60 | 0.50 | 50 | 1.00 (1.00-1.00) | 1.00 | - | 1.00 |" in page
    assert "| **mirror** | 3.00 | 2.00-4.00 | 20 | 1.50 | 50 | 2.00 (2.00-3.00) | 2.00 | - | 1.00 |" in page
    assert "The fastest of the others is curl; `mirror` takes 2.00 (2.00-3.00) of its time." in page
    assert "| ledger | 1 & 2 files | 1.5 s |" in page
    drawn = ET.fromstring(picture)  # noqa: S314 - it was drawn here
    assert [
        text.text for text in drawn.iter("{http://www.w3.org/2000/svg}text") if text.get("text-anchor") == "end"
    ] == [
        "curl",
        "mirror-no-digest",
        "mirror",
    ]
    assert picture == report.as_picture([table])


def test_goals_are_judged_by_the_medians_of_ratios(module: Any) -> None:
    """At the goal is reached, above it is missed, and what was not measured is said to be so."""
    goals, costs = module("goals"), module("costs")
    table = laps(module, curl=[1.0, 2.0, 1.0], loop=[8.0, 8.0, 4.0], mirror=[2.5, 5.0, 9.0])
    peak = costs.Cost(benchmark="million", what="9 listed files: peak memory of a sync", value=130.0, unit="MB")

    lines = {line.goal.what: line for line in goals.judged(goals.Figures({"S": table}, [peak]))}

    by_curl, by_loop = lines["S: wall, against curl"], lines["S: wall, against the loop of the tutorials"]
    assert (by_curl.allowed, by_curl.measured, by_curl.result) == ("<= 2.5 x", "2.50 x (2.50-9.00)", "reached")
    assert (by_loop.allowed, by_loop.measured, by_loop.result) == ("<= 1 x", "0.62 x (0.31-2.25)", "reached")
    assert lines["S: peak memory"].measured == "50 MB"
    assert lines["a long listing, to sync: peak memory"].result == "missed"
    assert lines["M: wall, against curl"].result == "not measured"
    assert "not measured" in list(goals.show(lines.values()))[6]


def test_processor_time_on_large_files_is_judged_beside_curl_and_the_hash(module: Any) -> None:
    """What the hash takes alone is put on curl's side; what zlib takes alone is only shown."""
    goals, costs, racing = module("goals"), module("costs"), module("racing")
    lap = laps(module, curl=[2.0], mirror=[6.0]).laps
    gigabyte = [attrs.evolve(one, load=name, bytes=10**9) for name in ("L", "L-gzip") for one in lap]
    tables = {name: racing.Table(laps=tuple(one for one in gigabyte if one.load == name)) for name in ("L", "L-gzip")}
    figures = [
        costs.Cost(benchmark="digests", what="1 GB through SHA-256", value=0.5, unit="s"),
        costs.Cost(benchmark="digests", what="1 GB of gzip inflated by zlib alone", value=4.0, unit="s"),
    ]

    lines = {line.goal.what: line for line in goals.judged(goals.Figures(tables, figures))}

    assert lines["L: processor time, against curl's and the hash"].measured == "2.00 x"
    shown = lines["gzip: processor seconds for the checksum of 1 GB"]
    assert (shown.allowed, shown.measured, shown.result, shown.note) == ("-", "1.50 s", "shown", "zlib alone: 4.00")


def test_the_page_shows_the_goals_above_the_tables(module: Any) -> None:
    """Missed ones stand out; without any figure there is no such section."""
    report, goals = module("report"), module("goals")
    table = laps(module, curl=[1.0], mirror=[3.0])
    at = report.Surroundings(date="2026-01-02", system="a machine", versions={"curl": "8.0"}, connections=32)

    page = report.as_page([table], [], [], at, goals=goals.judged(goals.Figures({"S": table}, [])))
    without = report.as_page([table], [], [], at, goals=goals.judged(goals.Figures({}, [])))

    assert "| S: wall, against curl | <= 2.5 x | 3.00 x | **missed** |" in page
    assert "| M: wall, against curl | <= 1 x | - | not measured |" in page
    assert page.index("## Goals") < page.index("## What is slower") < page.index("## All contenders")
    assert "## Goals" not in without
    assert "## What is slower" in without


def test_every_goal_has_what_it_needs(module: Any) -> None:
    """Each load that the goals look at is run by name, and everybody of them is known."""
    goals, racing = module("goals"), module("racing")
    everybody = {*module("peers").PEERS, *racing.OURS}

    assert set(goals.NEEDED) == LOADS
    assert all(set(names) <= everybody for names in goals.NEEDED.values())
    assert set(goals.FIGURES) <= set(module("costs").COSTS)
    assert goals.needs("one-far") == (["aria2"], ["mirror"])


def test_a_round_counts_only_if_everybody_ran(module: Any) -> None:
    """What was stopped in the middle of a round is run again, and nothing is left of a single broken one."""
    racing = module("racing")
    cut = laps(module, curl=[1.0, 2.0], mirror=[2.0]).laps

    assert racing.Table.of_whole_rounds(cut, everybody={"curl", "mirror"}).rounds == [0]
    assert racing.Table.of_whole_rounds(cut, everybody={"curl", "mirror", "loop"}).rounds == []


def run_suite(*arguments: str) -> list[dict[str, Any]]:
    """Run the suite once at a tiny scale, and give its lines."""
    command = [sys.executable, "-m", "benchmarks", *arguments, "--scale", "0.001", "--rounds", "1", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def raced(lines: list[dict[str, Any]]) -> dict[str, set[str]]:
    """Return who ran with each load."""
    found: dict[str, set[str]] = defaultdict(set)
    for line in lines:
        if line["kind"] == "lap":
            found[line["load"]].add(line["contender"])
            # Nobody of ours asks for a file twice.
            assert line["requests"] == line["files"] > 0
            assert line["seconds"] > 0
            assert line["peak_memory"] > 1_000_000
    return found


@pytest.mark.process
def test_every_load_is_brought_home_at_a_tiny_scale(module: Any) -> None:
    """One line of JSON for each contender of each load."""
    assert {load.name for load in module("loads").LOADS} == LOADS

    lines = run_suite(*LOADS, "--ours", "mirror", "--peers", "loop")

    assert raced(lines) == {load: {"loop", "mirror"} for load in LOADS}


@pytest.mark.process
def test_every_figure_is_taken_at_a_tiny_scale(module: Any) -> None:
    """Lines for each benchmark that compares nothing or needs a simulator only."""
    names = {"small_files", "listing", "start-up", "resume", "ledger", "digests", "million"}
    assert {"small_files", "listing", *module("costs").COSTS} == names

    lines = run_suite(*names)

    assert {line["benchmark"] for line in lines if line["kind"] in ("cost", "row")} == names


@pytest.mark.process
def test_goals_are_measured_in_parts(tmp_path: Path) -> None:
    """What stands in the file is not run again; a cut round is, and everything is judged together."""
    lines = tmp_path / "lines.jsonl"
    suite = [
        sys.executable,
        "-m",
        "benchmarks",
        "--goals",
        "--scale",
        "0.001",
        "--lines",
        str(lines),
        "--peers",
        "loop",
    ]

    def measured(*arguments: str) -> tuple[str, list[dict[str, Any]]]:
        done = subprocess.run([*suite, *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stderr
        return done.stdout, [json.loads(line) for line in lines.read_text().splitlines()]

    _, first = measured("S", "--rounds", "1")
    lines.write_text("".join(f"{json.dumps(line)}\n" for line in first[:-1]))
    said, second = measured("S", "digests", "--rounds", "1")
    _, third = measured("S", "digests", "--rounds", "1")

    assert [line["kind"] for line in first] == ["surroundings", "lap", "lap", "lap"]
    assert [line.get("round") for line in second[:-2]] == [None, 0, 0, 1, 1, 1]
    assert [line["kind"] for line in second[-2:]] == ["cost", "cost"]
    assert third == second
    assert "S: wall, against the loop of the tutorials" in said


@pytest.mark.process
def test_all_of_ours_bring_a_load_home_from_afar() -> None:
    """Over TLS and through the proxy too."""
    lines = run_suite("S", "--peers", "loop", "--tls", "--rtt", "5", "--cap", "1000000")

    assert raced(lines) == {"S": {"loop", *OURS}}


def test_a_round_that_was_cut_short_is_left_out(module: Any) -> None:
    """Whoever is missing in a round takes it away from everybody; a single broken round is kept for what it tells."""
    racing = module("racing")
    whole = laps(module, curl=[1.0, 2.0], mirror=[2.0, 4.0]).laps
    cut = laps(module, curl=[1.0, 2.0, 9.0], mirror=[2.0, 4.0]).laps

    assert racing.Table.of_whole_rounds(cut) == racing.Table.of_whole_rounds(whole)
    assert racing.Table.of_whole_rounds(cut).column("curl", "seconds") == [1.0, 2.0]
    assert len(racing.Table.of_whole_rounds(laps(module, curl=[1.0]).laps).laps) == 1
