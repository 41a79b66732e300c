"""The rules that tests/conftest.py lays on every test, seen from outside: a small file of tests, run by a child."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import aiohttp
import pytest
from aioresponses import aioresponses

pytestmark = pytest.mark.process

TESTS = Path(__file__).parent


SAMPLES = {
    "test_sample.py": """
        import asyncio
        import socket

        import pytest

        kept = []

        async def test_forgets_a_task():
            kept.append(asyncio.create_task(asyncio.Event().wait(), name="forgotten"))
            await asyncio.sleep(0)

        def test_forgets_a_socket():
            kept.append(socket.socket())

        def test_does_not_run():
            pytest.skip("no reason at all")
        """,
    "test_skipped_file.py": """
        import pytest

        pytest.skip("no such system", allow_module_level=True)
        """,
}


@pytest.fixture(scope="module", params=["", "true"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[bool, str]:
    """Run two files of bad tests under our conftest; say whether CI was set, and what pytest printed."""
    directory = tmp_path_factory.mktemp("samples")
    for name, text in SAMPLES.items():
        (directory / name).write_text(textwrap.dedent(text), encoding="utf-8")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "conftest",
            "-c",
            str(TESTS.parent / "pyproject.toml"),
            "-v",
            str(directory),
        ],
        env={
            **os.environ,
            "CI": request.param,
            "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS / "support")]),
            "PYTEST_ADDOPTS": "-p no:cacheprovider -p no:arena_async --continue-on-collection-errors",
        },
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return bool(request.param), done.stdout + done.stderr


@pytest.mark.parametrize(
    ("name", "left"), [("test_forgets_a_task", "name='forgotten'"), ("test_forgets_a_socket", "open: socket:")]
)
def test_a_test_that_leaves_something_behind_fails(run: tuple[bool, str], name: str, left: str) -> None:
    """A task that nobody ended and a socket that nobody closed are errors of the test that passed before."""
    _, said = run

    assert f"::{name} PASSED" in said
    assert f"::{name} ERROR" in said
    assert left in said


def test_a_skip_that_nobody_explained_is_a_failure_in_ci_only(run: tuple[bool, str]) -> None:
    """Where CI is set, a skip without an entry in the table of allowed ones fails."""
    ci, said = run

    assert ("::test_does_not_run FAILED" in said) is ci
    assert ("::test_does_not_run SKIPPED" in said) is not ci
    assert "no reason at all" in said


def test_a_skipped_file_counts_like_a_skipped_test(run: tuple[bool, str]) -> None:
    """A file that skips itself as a whole does not get past the rule."""
    ci, said = run

    assert (
        bool(re.search(r"ERROR collecting .*test_skipped_file\.py|^ERROR .*test_skipped_file\.py", said, re.MULTILINE))
        is ci
    )
    assert "no such system" in said


async def test_mocked_answers_work_with_the_aiohttp_in_use(mocked_http: aioresponses) -> None:
    """A mocked JSON answer of more than 128 KiB is read whole."""
    mocked_http.get("https://api.example/rows", payload={"text": "x" * 200_000}, headers={"X-Left": "7"})

    async with aiohttp.ClientSession() as session, session.get("https://api.example/rows") as answer:
        payload = await answer.json()

    assert answer.status == 200
    assert answer.headers["X-Left"] == "7"
    assert len(payload["text"]) == 200_000


async def test_mocked_failures_are_raised(mocked_http: aioresponses) -> None:
    """A mocked exception reaches the caller."""
    mocked_http.get("https://api.example/rows", exception=aiohttp.ClientConnectionError("gone"))

    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientConnectionError, match="gone"):
            await session.get("https://api.example/rows")
