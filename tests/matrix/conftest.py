"""
Runs the invariants after every row of the fault matrix, and prints the table.

On demand it takes protections away, and lets the bodies come by one road or by both.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path

import attrs
import pytest
import roads
import sabotage
from matrix import ROWS, World

TABLE = pytest.StashKey["Table"]()


@attrs.define
class Line:
    """What became of one row."""

    protection: str
    tests: int = 0
    failed: int = 0
    seconds: float = 0.0


@attrs.define
class Table:
    """All rows that were run."""

    sabotaged: bool
    lines: dict[str, Line] = attrs.field(factory=dict)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the ways to run the matrix."""
    group = parser.getgroup("fault matrix")
    group.addoption("--matrix-table", action="store_true", help="print the rows; a row without a test is a failure")
    group.addoption("--sabotage", action="store_true", help="remove each protection; a row that passes is a failure")
    group.addoption("--road", choices=(*roads.ROADS, "both"), help="let every body come by one road, or run on both")


def pytest_configure(config: pytest.Config) -> None:
    """Prepare the table."""
    config.stash[TABLE] = Table(sabotaged=bool(config.getoption("--sabotage", default=False)))
    config.pluginmanager.register(_Lines(config.stash[TABLE]))
    if config.stash[TABLE].sabotaged:
        # Every row is to fail; nobody reads how, and to read the sources for each takes longer than to run it.
        config.option.tbstyle = "native"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the rows on the roads that are asked for."""
    asked = metafunc.config.getoption("--road", default=None)
    if asked is not None:
        metafunc.parametrize("road", roads.ROADS if asked == "both" else (asked,), indirect=True)


def _row_of(item: pytest.Item) -> tuple[str, str] | None:
    mark = item.get_closest_marker("row")
    return None if mark is None else (str(mark.args[0]), str(mark.args[1]))


@pytest.fixture(autouse=True)
def road(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the bodies of a row, and those of its child processes, come by the road that is asked for."""
    asked: str | None = getattr(request, "param", None)
    if asked is not None:
        monkeypatch.setenv(roads.VARIABLE, asked)
        roads.narrow(asked, monkeypatch)


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Give a row its folders and secrets."""
    return World(tmp_path)


@pytest.fixture(autouse=True)
def invariants(
    request: pytest.FixtureRequest, world: World, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[None]:
    """Check I1 to I5 and I7 to I9 after every row, without its protection where that is asked for."""
    found = _row_of(request.node)
    if found is not None and request.config.stash[TABLE].sabotaged:
        removal = sabotage.load().get(found[1])
        if removal is None:
            pytest.fail(f"The protection {found[1]!r} is not registered in tests/support/sabotage_*.py.", pytrace=False)
        monkeypatch.setenv(sabotage.VARIABLE, found[1])
        removal(monkeypatch)
    world.begin()
    yield
    printed = capfd.readouterr()
    faults = world.check(printed.out + printed.err)
    if faults:
        pytest.fail("\n".join(faults), pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note what became of each row. Without its protection a row is expected to fail."""
    report = yield
    found = _row_of(item)
    if found is not None:
        # What a report is given goes with it from a worker of pytest-xdist to where the table is.
        report.row = (*found, report.failed)  # type: ignore[attr-defined]
        if item.config.stash[TABLE].sabotaged and report.failed and found[1] in sabotage.PROTECTIONS:
            report.outcome = "passed"
    return report


class _Lines:
    """Takes down what becomes of each row."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take down one part of a test."""
        found: tuple[str, str, bool] | None = getattr(report, "row", None)
        if found is None:
            return
        identifier, protection, failed = found
        line = self._table.lines.setdefault(identifier, Line(protection))
        line.seconds += report.duration
        line.tests += report.when == "call"
        line.failed += failed


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the table where it is asked for."""
    table = config.stash[TABLE]
    if not (table.sabotaged or config.getoption("--matrix-table", default=False)):
        return
    terminalreporter.section("fault matrix")
    for identifier in ROWS:
        line = table.lines.get(identifier)
        if line is None:
            terminalreporter.line(f"{identifier}  no test")
            continue
        verdict = _verdict(line, sabotaged=table.sabotaged)
        terminalreporter.line(
            f"{identifier}  {verdict:7} {line.seconds:6.2f} s  {line.tests:3} tests  {line.protection}"
        )


def _verdict(line: Line, *, sabotaged: bool) -> str:
    if sabotaged:
        return "failed" if line.failed else "HOLLOW"
    return "FAILED" if line.failed else "passed"


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail the run for rows without a test, and for rows that do not need their protection."""
    config = session.config
    if hasattr(config, "workerinput"):
        return  # A worker of pytest-xdist sees some of the rows only.
    table = config.stash[TABLE]
    if config.getoption("--matrix-table", default=False) and len(table.lines) < len(ROWS):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    if table.sabotaged and any(not line.failed for line in table.lines.values()):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
