"""What ``--sabotage`` takes for a proof: a small row file with sound and unsound removals, run by a child."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytestmark = pytest.mark.process

TESTS = Path(__file__).parent

SAMPLES = {
    "guarded.py": """
        def check():
            return True

        def quiet_check():
            try:
                return check()
            except Exception:
                return False
        """,
    "test_sample.py": """
        import subprocess
        import sys

        import guarded
        import pytest
        from matrix import case, control, row
        from sabotage import protection

        from arena_async.protocol import ranges
        from arena_async.protocol.files import BodyHead

        @protection("the check")
        def _(patch):
            patch.replace("guarded:check", lambda: False)

        @protection("a removal that raises")
        def _(patch):
            patch.replace("guarded:check", lambda: False)
            raise ValueError("no such thing")

        @protection("a name that has moved")
        def _(patch):
            patch.replace("guarded:elsewhere", lambda: False)

        @protection("a replacement with other arguments")
        def _(patch):
            patch.replace("guarded:check", lambda needed: False)

        @protection("a value of another type")
        def _(patch):
            patch.replace("guarded:check", None)

        @protection("a wanted misfit", raises=TypeError)
        def _(patch):
            patch.replace("guarded:check", None)

        @protection("the one module of a package that defines it")
        def _(patch):
            patch.replace("arena_async.protocol:is_encoded", lambda head: True)

        @protection("a name that no module of a package defines")
        def _(patch):
            patch.replace("arena_async.protocol:is_elsewhere", lambda head: True)

        @row("ST01", protection="the check")
        def test_fails_without_it():
            assert guarded.check()

        @row("ST02", protection="the check")
        def test_passes_without_it():
            pass

        @row("ST02", protection="the check")
        def test_fails_beside_one_that_passes():
            assert guarded.check()

        @row("ST03", protection="the check")
        @pytest.mark.parametrize("number", [1, 2, control(3, reason="the check is not for it")])
        def test_cases(number):
            assert guarded.check() or number > 1

        @row("ST05", protection="the check")
        @pytest.mark.control("it only looks like one")
        def test_is_no_control():
            assert guarded.check()

        @row("ST06", protection="the check")
        def test_breaks_an_invariant(world):
            if not guarded.check():
                (world.outside / "mine.txt").write_text("changed")

        @pytest.fixture
        def prepared():
            assert guarded.check()

        @row("ST08", protection="the check")
        def test_fails_in_its_setup(prepared):
            pass

        @row("ST10", protection="a removal that raises")
        def test_removal_raises():
            assert guarded.check()

        @row("ST11", protection="a name that has moved")
        def test_name_has_moved():
            assert guarded.check()

        @row("ST12", protection="nobody has registered this")
        def test_unregistered():
            assert guarded.check()

        @row("ST13", protection="a replacement with other arguments")
        def test_misfit_that_is_swallowed():
            assert guarded.quiet_check()

        @row("ST14", protection="a value of another type")
        def test_misfit_that_ends_the_test():
            assert guarded.check()

        @row("ST17", protection="a wanted misfit")
        def test_misfit_that_is_wanted():
            assert guarded.check()

        @row("ST19", protection="the check")
        def test_removal_raises_in_a_child():
            # The child knows the protections beside the harness only.
            ended = subprocess.run([sys.executable, "-c", "import inherited; inherited.take_over()"], check=False)
            assert ended.returncode == 0

        @row("ST21", protection="the one module of a package that defines it")
        def test_defined_in_a_package():
            assert not ranges.is_encoded(BodyHead(status=200))

        @row("ST22", protection="a name that no module of a package defines")
        def test_defined_nowhere_in_a_package():
            assert guarded.check()

        @row("ST20", protection="a name that has moved")
        @pytest.mark.parametrize("number", [case(1, protection="the check")])
        def test_case_of_its_own(number):
            assert guarded.check()
        """,
}


def run(directory: Path, *options: str) -> tuple[int, str]:
    """Run the rows; give the exit status and what pytest printed."""
    for name, text in SAMPLES.items():
        (directory / name).write_text(textwrap.dedent(text), encoding="utf-8")
    shutil.copy(TESTS / "matrix" / "conftest.py", directory)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-c", str(TESTS.parent / "pyproject.toml"), "-v", *options, str(directory)],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(directory), str(TESTS / "support")]),
            "PYTEST_ADDOPTS": "-p no:cacheprovider -p no:arena_async",
        },
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def sabotaged(tmp_path_factory: pytest.TempPathFactory) -> tuple[int, str]:
    """Run the rows without their protections."""
    return run(tmp_path_factory.mktemp("samples"), "--sabotage")


def test_with_the_protections_every_row_passes(tmp_path: Path) -> None:
    """Nothing is removed where nobody asks for it."""
    status, said = run(tmp_path)

    assert status == 0, said
    assert "19 passed" in said


@pytest.mark.parametrize(
    "name",
    [
        "test_fails_without_it",
        "test_fails_beside_one_that_passes",
        "test_cases[1]",
        "test_cases[3]",
        "test_breaks_an_invariant",
        "test_misfit_that_is_wanted",
        "test_case_of_its_own[1]",
        "test_defined_in_a_package",
    ],
)
def test_a_failure_in_the_call_phase_is_a_proof(sabotaged: tuple[int, str], name: str) -> None:
    """An assertion or an invariant that fails is what the run is for; a control passes as it says."""
    assert f"::{name} PASSED" in sabotaged[1]


@pytest.mark.parametrize("name", ["test_passes_without_it", "test_cases[2]"])
def test_a_test_that_passes_is_hollow_whatever_its_row_does(sabotaged: tuple[int, str], name: str) -> None:
    """The verdict is about each test, and not about the row."""
    status, said = sabotaged

    assert status == 1
    assert f"::{name} FAILED" in said
    assert "HOLLOW: It passes without 'the check'." in said


@pytest.mark.parametrize(
    ("name", "phase", "reason"),
    [
        ("test_is_no_control", "FAILED", "It is a control, and fails without 'the check'."),
        ("test_fails_in_its_setup", "ERROR", "The setup fails without 'the check': AssertionError"),
        ("test_removal_raises", "ERROR", "'a removal that raises': HarnessError: the removal raised ValueError"),
        ("test_name_has_moved", "ERROR", "'a name that has moved': HarnessError: guarded:elsewhere does not exist"),
        (
            "test_defined_nowhere_in_a_package",
            "ERROR",
            "HarnessError: arena_async.protocol:is_elsewhere does not exist",
        ),
        ("test_unregistered", "ERROR", "'nobody has registered this': HarnessError: it is not registered"),
        ("test_misfit_that_is_swallowed", "FAILED", "'a replacement with other arguments' does not work"),
        ("test_misfit_that_ends_the_test", "FAILED", "the test ended with TypeError"),
        ("test_removal_raises_in_a_child", "FAILED", "in a child process it is not registered"),
    ],
)
def test_a_removal_that_does_not_work_is_an_error(
    sabotaged: tuple[int, str], name: str, phase: str, reason: str
) -> None:
    """It proves nothing; the run fails and names the protection."""
    status, said = sabotaged

    assert status == 1
    assert f"::{name} {phase}" in said
    assert reason in said
