"""How a command ends, seen from outside: exit codes, sentences, signals. Each runs in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import suppress

import pytest

from arena_async import errors
from arena_async.cli import running
from arena_async.cli.exit_codes import ExitCode, exit_code
from arena_async.cli.output import error_message

pytestmark = pytest.mark.process

_HEAD = """
import asyncio, sys
from arena_async import errors
from arena_async.cli.output import Output
from arena_async.cli.running import run_job
output = Output(json="--json" in sys.argv)
async def job():
"""


#: What a child does first to have each kind of event loop: with the extra ``fast``, and without.
_LOOPS = {"uvloop": "import uvloop", "asyncio": "import sys; sys.modules['uvloop'] = None"}
both_loops = pytest.mark.parametrize("loop", list(_LOOPS))


def start(body: str, *arguments: str, loop: str = "uvloop") -> subprocess.Popen[str]:
    """Run the body of a job in a child process."""
    job = textwrap.indent(textwrap.dedent(body), "    ")
    script = f"{_LOOPS[loop]}{_HEAD}{job}\noutput.hint = 'Run it again.'\nsys.exit(run_job(job, output))"
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_each_kind_of_error_has_its_exit_code() -> None:
    """Scripts tell settings, logins and the quota from every other failure."""
    codes = {
        errors.ConfigurationError("x"): 2,
        errors.AuthenticationError("x"): 4,
        errors.AccountLockedError("x"): 4,
        errors.SessionDisplacedError("x"): 4,
        errors.QuotaExhaustedError("x"): 5,
        errors.ThrottledError("x"): 1,
        errors.HostPausedError("x", lasting=True): 1,
        errors.TransportError("x"): 1,
        errors.DiskFullError("x"): 1,
        RuntimeError("x"): 1,
    }

    assert {error: int(exit_code(error)) for error in codes} == codes


def test_an_unexpected_error_is_told_without_a_secret() -> None:
    """What is not ours is scrubbed before it is shown."""
    shown = error_message(ValueError("no https://files/x?sig=s3cr3t for you\nand more"))

    assert "s3cr3t" not in shown
    assert "\n" not in shown
    assert shown.startswith("unexpected ValueError: no https://files/x?sig=***")


@both_loops
def test_an_error_ends_the_command_with_its_sentence_and_code(loop: str) -> None:
    """One line on stderr, nothing on stdout, no traceback."""
    child = start(
        "raise errors.AuthenticationError('POST /login: 401; the password is wrong. Check ARENA_PASSWORD.')", loop=loop
    )

    out, err = child.communicate(timeout=20)

    assert (child.returncode, out) == (4, "")
    assert err == "arena-async: POST /login: 401; the password is wrong. Check ARENA_PASSWORD.\n"


def test_with_json_an_error_is_an_object_too() -> None:
    """Whoever reads stdout learns of the end as well."""
    child = start("raise errors.QuotaExhaustedError('nothing left')", "--json")

    out, _ = child.communicate(timeout=20)

    assert child.returncode == 5
    assert out == '{"type": "error", "error": "QuotaExhaustedError", "message": "nothing left"}\n'


def test_an_error_in_a_group_is_told_as_itself() -> None:
    """A group is how tasks hand errors up; people want the error."""
    child = start(
        "raise ExceptionGroup('g', [ExceptionGroup('h', [errors.ConfigurationError('ARENA_EMAIL is missing')])])"
    )

    _, err = child.communicate(timeout=20)

    assert (child.returncode, err) == (2, "arena-async: ARENA_EMAIL is missing\n")


@both_loops
def test_the_event_loop_is_uvloop_where_that_is_installed(loop: str) -> None:
    """The extra ``fast`` is used and never needed."""
    child = start('print(type(asyncio.get_running_loop()).__module__.split(".")[0])\nreturn 0', loop=loop)

    out, err = child.communicate(timeout=20)

    assert (child.returncode, out, err) == (0, f"{loop}\n", "")


def test_windows_keeps_its_own_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no uvloop for it, and nothing looks for one."""
    assert running._loop_factory() is not None

    monkeypatch.setattr(sys, "platform", "win32")

    assert running._loop_factory() is None


@both_loops
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_command_after_its_clean_up(number: signal.Signals, loop: str) -> None:
    """SIGINT and SIGTERM cancel the job, let it close what is open, and end with 130 and a hint."""
    child = start(
        """
        try:
            print("ready", flush=True)
            await asyncio.sleep(60)
        finally:
            print("closed", flush=True)
        """,
        loop=loop,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"

    child.send_signal(number)
    out, err = child.communicate(timeout=20)

    assert (child.returncode, out, err) == (130, "closed\n", "Run it again.\n")


@both_loops
def test_a_clean_up_that_hangs_is_cut_short(loop: str) -> None:
    """The process is gone within two seconds, whatever the job is waiting for."""
    child = start(
        """
        try:
            print("ready", flush=True)
            await asyncio.sleep(60)
        finally:
            import time
            time.sleep(60)
        """,
        loop=loop,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"

    before = time.monotonic()
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=20)

    # What a busy machine adds to that is not ours; the job itself would take a minute.
    assert running._GRACE_SECONDS < 2.0
    assert time.monotonic() - before < 20
    assert (child.returncode, err) == (130, "Run it again.\n")


@both_loops
def test_a_second_signal_ends_it_at_once(loop: str) -> None:
    """Whoever presses Ctrl-C twice does not wait for the clean-up, even where that may take a minute."""
    child = start(
        """
        from arena_async.cli import running
        running._GRACE_SECONDS = 60
        try:
            print("ready", flush=True)
            await asyncio.sleep(60)
        finally:
            print("closing", flush=True)
            await asyncio.sleep(60)
        """,
        loop=loop,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"

    before = time.monotonic()
    child.send_signal(signal.SIGINT)
    assert child.stdout.readline() == "closing\n"
    for _ in range(5):
        # A signal that comes while the first one is still taken in is one with it; who presses again is heard.
        child.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            child.communicate(timeout=5)
            break

    assert time.monotonic() - before < 30
    assert child.returncode == 130


@both_loops
def test_a_signal_ends_a_command_that_waits_for_its_reader(loop: str) -> None:
    """A full pipe that nobody empties does not hold the process."""
    child = start(
        """
        sys.stderr.write("ready\\n"); sys.stderr.flush()
        while True:
            output.data("x" * 1000)
        """,
        loop=loop,
    )
    assert child.stderr is not None
    assert child.stderr.readline() == "ready\n"

    child.send_signal(signal.SIGTERM)
    code = child.wait(timeout=20)
    child.communicate()

    assert code == 130


@both_loops
def test_a_reader_that_leaves_ends_the_command_quietly(loop: str) -> None:
    """``... | head -1`` gives no complaint, and the work behind it stops."""
    child = start(
        """
        while True:
            output.data("x" * 1000)
            await asyncio.sleep(0)
        """,
        loop=loop,
    )
    assert child.stdout is not None
    child.stdout.read(10)

    child.stdout.close()
    assert child.stderr is not None
    err = child.stderr.read()
    child.stderr.close()

    assert (child.wait(timeout=20), err) == (1, "")


def test_exit_codes_are_the_documented_numbers() -> None:
    """They are promises."""
    assert {code.name: int(code) for code in ExitCode} == {
        "OK": 0,
        "FAILED": 1,
        "USAGE": 2,
        "SOME_FAILED": 3,
        "AUTHENTICATION": 4,
        "QUOTA": 5,
        "INTERRUPTED": 130,
    }


def test_without_the_extra_one_line_says_what_to_install() -> None:
    """A base installation tells how to get the command line, and exits like any wrong use."""
    script = (
        "import sys\nsys.modules['cyclopts'] = None\nimport importlib.util\n"
        "real = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name: None if name == 'cyclopts' else real(name)\n"
        "from arena_async.__main__ import main\nsys.exit(main())"
    )

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, env=os.environ)

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "arena-async: the command line needs cyclopts; install it with: pip install 'arena-async[cli]'\n"
    )
