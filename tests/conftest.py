"""What every test gets: no leak goes unnoticed, no skip unexplained where it counts, and hypothesis in two profiles."""

from __future__ import annotations

import asyncio
import inspect
import os
import re
import signal
from collections.abc import Generator, Iterator
from typing import Any, TypeVar
from unittest.mock import Mock

import aiohttp
import anyio
import anyio.lowlevel
import hypothesis
import pytest
import warm
from aioresponses import aioresponses
from aioresponses import core as mocking
from leaks import Holdings, watched_tasks

#: Skips that are allowed where CI is set: a pattern for the reason a test gives, and why that is all right.
ALLOWED_SKIPS = {
    "Windows does not list its descriptors": "The leak is looked for on the other systems.",
    "Only Linux lists the children": "The leak is looked for on Linux.",
}

#: Where CI is set, pytest writes out whole how two values differ. For two bodies that takes minutes, so it is not told.
os.environ["TESTS_IN_CI"] = os.environ.pop("CI", os.environ.get("TESTS_IN_CI", ""))
IN_CI = os.environ["TESTS_IN_CI"].lower() not in ("", "0", "false")

hypothesis.settings.register_profile("dev", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, database=None, print_blob=True)
hypothesis.settings.load_profile("ci" if IN_CI else "dev")

#: Bytes of a parameter that are shown in the name of a test, at the most.
_MAX_NAME = 40

Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)

_holdings = pytest.StashKey[Holdings]()
_unfinished = pytest.StashKey[list[str]]()
_passed = pytest.StashKey[bool]()


def pytest_sessionstart() -> None:
    """
    Load what the first wait for a thread would load on the event loop of whichever test comes first.

    A child ignores what its parent ignores, and ``nohup`` ignores the signal that some tests send to theirs.
    """
    anyio.run(anyio.lowlevel.checkpoint)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """
    Call long bytes by the name of their parameter: nobody reads them in the name of a test.

    Some have the time of day in them, so that processes that share the tests out would not agree on their names.
    """
    return argname if isinstance(val, bytes) and len(val) > _MAX_NAME else None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Remember what the process held before the test and its fixtures, and watch the event loops it ends."""
    if item.get_closest_marker("process") is not None:
        warm.prepare()
    item.stash[_holdings] = Holdings.now()
    item.stash[_passed] = False
    with watched_tasks() as item.stash[_unfinished]:
        return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, object, object]:
    """Fail a test that passed and left something behind. Fixtures wider than one test may hold no file and no task."""
    result = yield
    if item.stash[_passed]:
        left = item.stash[_unfinished] + item.stash[_holdings].leaks()
        if left:
            pytest.fail("The test left behind:\n  " + "\n  ".join(left), pytrace=False)
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note whether the test passed, and turn a skip that nobody has explained into a failure."""
    report = yield
    if call.when == "call":
        item.stash[_passed] = report.passed
    return _unexplained_skip_fails(report)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Treat a whole file that is skipped like a test that is."""
    return _unexplained_skip_fails((yield))


def _unexplained_skip_fails(report: Report) -> Report:
    if not IN_CI or not report.skipped:
        return report
    reason = getattr(report, "wasxfail", None) or str(report.longrepr)
    if not any(re.search(pattern, reason) for pattern in ALLOWED_SKIPS):
        report.outcome = "failed"
        report.longrepr = (
            f"Skipped, and ALLOWED_SKIPS in tests/conftest.py does not say why that is all right: {reason}"
        )
    return report


@pytest.fixture(autouse=True)
def _state_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep what belongs to a user away from the one who runs the tests, in child processes too."""
    monkeypatch.setenv("ARENA_ASYNC_STATE", str(tmp_path_factory.mktemp("state")))


@pytest.fixture
def mocked_http(monkeypatch: pytest.MonkeyPatch) -> Iterator[aioresponses]:
    """
    Yield aioresponses in working order, for small JSON answers only: nothing that streams may be tested with it.

    aioresponses 0.7.9 does not know the ``stream_writer`` that aiohttp 3.14 asks for (its issue 289), and its stream of
    64 KiB pauses a parser that is not there.
    """
    parameters = inspect.signature(aiohttp.ClientResponse.__init__).parameters

    class MockedResponse(aiohttp.ClientResponse):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            if "stream_writer" in parameters:
                kwargs.setdefault("stream_writer", Mock(output_size=0))
            super().__init__(*args, **kwargs)

    def stream(loop: asyncio.AbstractEventLoop | None = None) -> aiohttp.StreamReader:
        return aiohttp.StreamReader(Mock(_reading_paused=False), limit=2**30, loop=loop or asyncio.get_running_loop())

    monkeypatch.setattr(mocking, "ClientResponse", MockedResponse)
    monkeypatch.setattr(mocking, "stream_reader_factory", stream)
    with aioresponses() as mocked:
        yield mocked
