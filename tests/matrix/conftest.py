"""
Checks the invariants in every row of the fault matrix, and prints the table.

On demand it runs each test without its protection (``sabotage`` says what is a proof), and reads the bodies with one
reader or with both.
"""

from __future__ import annotations

import gc
import warnings
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import attrs
import body_readers
import pytest
import sabotage
from matrix import ROWS, World

TABLE = pytest.StashKey["Table"]()


#: What the removal of the protection did wrong in the test.
FAULTS = pytest.StashKey[list[str]]()
#: Whether the test before hung without its protection, and the seconds from which that is assumed.
HUNG, _HANGS = pytest.StashKey[bool](), 5.0


@attrs.frozen
class Case:
    """Which row a test is of, and what it depends on."""

    identifier: str
    protection: str
    control: str | None


@attrs.define
class Line:
    """What became of the tests of one row: their names, by verdict."""

    protections: list[str] = attrs.field(factory=list)
    results: dict[str, list[str]] = attrs.field(factory=dict)
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
    group.addoption("--sabotage", action="store_true", help="remove each protection; a test that passes is a failure")
    group.addoption(
        "--body-reader",
        choices=(*body_readers.BODY_READERS, "both"),
        help="read every body with one reader, or run with both",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Prepare the table."""
    config.stash[TABLE] = Table(sabotaged=bool(config.getoption("--sabotage", default=False)))
    config.pluginmanager.register(_Lines(config.stash[TABLE]))
    if config.stash[TABLE].sabotaged:
        # Every row is to fail; how is not read, and to read the sources for each takes longer than to run it.
        config.option.tbstyle = "native"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the rows with the requested readers of bodies."""
    requested = metafunc.config.getoption("--body-reader", default=None)
    if requested is not None:
        metafunc.parametrize(
            "body_reader", body_readers.BODY_READERS if requested == "both" else (requested,), indirect=True
        )


def _case_of(item: pytest.Item) -> Case | None:
    row, other, control = map(item.get_closest_marker, ("row", "protection", "control"))
    if row is None:
        return None
    identifier, protection = row.args
    return Case(identifier, other.args[0] if other else protection, control.args[0] if control else None)


@pytest.fixture(autouse=True)
def body_reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read the bodies of a row, and those of its child processes, with the requested reader."""
    requested: str | None = getattr(request, "param", None)
    if requested is not None:
        monkeypatch.setenv(body_readers.VARIABLE, requested)
        body_readers.narrow(requested, monkeypatch)


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Return the directories and secrets of a row."""
    return World(tmp_path)


@pytest.fixture(autouse=True)
def invariants(
    request: pytest.FixtureRequest,
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> Iterator[None]:
    """Watch I1 to I5 and I7 to I9 in every row, without its protection where that is asked for."""
    with ExitStack() as stack:
        case = _case_of(request.node)
        if case is not None and request.config.stash[TABLE].sabotaged:
            sabotage.import_all()
            faults = request.node.stash[FAULTS] = []
            monkeypatch.setenv(sabotage.VARIABLE, case.protection)
            monkeypatch.setenv(sabotage.FAULTS, str(_faults_of_children(tmp_path)))
            stack.callback(sabotage.load(case.protection).apply(faults.append).undo)
        world.begin()
        stack.callback(world.end)
        yield


def _faults_of_children(directory: Path) -> Path:
    return directory.with_name(f"{directory.name}-faults")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Collect what a test without its protection left open when it came to its deadline: the next one is not blamed."""
    if item.config.stash.get(HUNG, False):
        item.config.stash[HUNG] = False
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            gc.collect()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Check the invariants as a part of the test."""
    arguments: dict[str, Any] = getattr(item, "funcargs", {})
    world, capfd = arguments.get("world"), arguments.get("capfd")
    if not isinstance(world, World) or capfd is None:
        return (yield)
    try:
        result = yield
    except Exception as error:
        for fault in world.check("".join(capfd.readouterr())):
            error.add_note(fault)
        raise
    if faults := world.check("".join(capfd.readouterr())):
        pytest.fail("\n".join(faults), pytrace=False)
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note what became of each test. Without its protection a test is expected to fail, in its call phase."""
    report = yield
    case = _case_of(item)
    if case is None:
        return report
    if not item.config.stash[TABLE].sabotaged:
        result = "FAILED" if report.failed else "passed"
    elif report.when == "call":
        item.config.stash[HUNG] = call.duration > _HANGS
        result = _judge(item, case, call, report)
    else:
        result = _judge_around(item, case, call, report)
    # What a report is given goes with it from a worker of pytest-xdist to where the table is.
    report.row = (case.identifier, case.protection, result)  # type: ignore[attr-defined]
    return report


def _judge(item: pytest.Item, case: Case, call: pytest.CallInfo[None], report: pytest.TestReport) -> str:
    """Return the verdict on a test without its protection, and make its report tell it."""
    faults = item.stash[FAULTS]
    path = _faults_of_children(item.funcargs["tmp_path"])  # type: ignore[attr-defined]
    if path.exists():
        faults += path.read_text(encoding="utf-8").splitlines()
    error = None if call.excinfo is None else call.excinfo.value
    if isinstance(error, pytest.skip.Exception):
        return "skipped"
    if error is not None and not sabotage.load(case.protection).is_proof(error):
        faults.append(f"the test ended with {type(error).__name__}: {error}")
    if faults:
        return _fail(report, "ERROR", f"The removal of {case.protection!r} does not work: {'; '.join(faults)}")
    if case.control is not None and error is None:
        return "control"
    if case.control is not None:
        return _fail(report, "ERROR", f"It is a control, and fails without {case.protection!r}.")
    if error is None:
        return _fail(report, "HOLLOW", f"It passes without {case.protection!r}.")
    report.outcome = "passed"
    return "failed"


def _judge_around(item: pytest.Item, case: Case, call: pytest.CallInfo[None], report: pytest.TestReport) -> str:
    """Return the verdict on the setup and the teardown of a test without its protection."""
    if not report.failed:
        return "skipped" if report.skipped else "passed"
    error = None if call.excinfo is None else call.excinfo.value
    if report.when == "setup":
        return _fail(report, "ERROR", f"The setup fails without {case.protection!r}: {type(error).__name__}: {error}")
    # A test that fails in the middle may leave something behind.
    report.outcome = "passed"
    return "passed"


def _fail(report: pytest.TestReport, result: str, reason: str) -> str:
    shown = f"\n{report.longrepr}" if report.longrepr else ""
    report.outcome, report.longrepr = "failed", f"{result}: {reason}{shown}"
    return result


class _Lines:
    """Takes down what becomes of each row."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take down one part of a test."""
        found: tuple[str, str, str] | None = getattr(report, "row", None)
        if found is None:
            return
        identifier, protection, result = found
        line = self._table.lines.setdefault(identifier, Line())
        line.seconds += report.duration
        if protection not in line.protections:
            line.protections.append(protection)
        if report.when == "call" or result != "passed":
            line.results.setdefault(result, []).append(report.nodeid)


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
        counts = ", ".join(f"{len(tests)} {result}" for result, tests in sorted(line.results.items()))
        terminalreporter.line(
            f"{identifier}  {_result(line):7} {line.seconds:6.2f} s  {counts:20}  {'; '.join(line.protections)}"
        )
    for line in table.lines.values():
        for test in line.results.get("control", ()):
            terminalreporter.line(f"control  {test}")


def _result(line: Line) -> str:
    """Return the worst that became of a test of a row; a row needs more than controls."""
    order = ("ERROR", "FAILED", "HOLLOW", "failed", "passed")
    return next((result for result in order if result in line.results), "HOLLOW")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail the run for rows without a test, and for rows that do not need their protection."""
    config = session.config
    if hasattr(config, "workerinput"):
        return  # A worker of pytest-xdist sees some of the rows only.
    table = config.stash[TABLE]
    if config.getoption("--matrix-table", default=False) and len(table.lines) < len(ROWS):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    if table.sabotaged and any(_result(line) != "failed" for line in table.lines.values()):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
