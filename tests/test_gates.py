"""The rules that tests/conftest.py lays on every test, seen from outside: a small file of tests, run by a child."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import aiohttp
import pytest
from aioresponses import aioresponses

pytestmark = pytest.mark.process

TESTS = Path(__file__).parent


def run_tests(folder: Path, text: str, *, ci: str = "") -> str:
    """Run a file of tests under our conftest and give what pytest says."""
    file = folder / "test_sample.py"
    file.write_text(textwrap.dedent(text), encoding="utf-8")
    options = ["-p", "conftest", "-c", str(TESTS.parent / "pyproject.toml"), "--rootdir", str(folder), "-q", str(file)]
    environment = {
        **os.environ,
        "CI": ci,
        "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS / "support")]),
        "PYTEST_ADDOPTS": "-p no:cacheprovider -p no:arena_async",
    }
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done.stdout + done.stderr


def test_a_test_that_leaves_a_task_fails(tmp_path: Path) -> None:
    """A task that nobody ended is an error of the test that started it."""
    said = run_tests(
        tmp_path,
        """
        import asyncio

        kept = []

        async def test_forgets_a_task():
            kept.append(asyncio.create_task(asyncio.Event().wait(), name="forgotten"))
            await asyncio.sleep(0)
        """,
    )

    assert "1 passed, 1 error" in said
    assert "name='forgotten'" in said


def test_a_test_that_leaves_a_socket_fails(tmp_path: Path) -> None:
    """A socket that nobody closed is an error of the test that opened it."""
    said = run_tests(
        tmp_path,
        """
        import socket

        kept = []

        def test_forgets_a_socket():
            kept.append(socket.socket())
        """,
    )

    assert "1 passed, 1 error" in said
    assert "open: socket:" in said


@pytest.mark.parametrize(("ci", "ending"), [("", "1 skipped"), ("true", "1 failed")])
def test_a_skip_nobody_explained_is_a_failure_in_ci_only(tmp_path: Path, ci: str, ending: str) -> None:
    """Where CI is set, a skip without an entry in the table of allowed ones fails."""
    said = run_tests(
        tmp_path,
        """
        import pytest

        def test_does_not_run():
            pytest.skip("no reason at all")
        """,
        ci=ci,
    )

    assert ending in said
    assert "no reason at all" in said


@pytest.mark.parametrize(("ci", "ending"), [("", "1 skipped"), ("true", "1 error")])
def test_a_skipped_file_counts_like_a_skipped_test(tmp_path: Path, ci: str, ending: str) -> None:
    """A file that skips itself as a whole does not get past the rule."""
    said = run_tests(
        tmp_path,
        """
        import pytest

        pytest.skip("no such system", allow_module_level=True)
        """,
        ci=ci,
    )

    assert ending in said


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
