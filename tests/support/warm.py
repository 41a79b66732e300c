"""
Child processes that start warm: forks of one process that has imported the package already.

A command of the command line is under way in a few milliseconds instead of most of a second, and everything after the
imports is as in an interpreter of its own: ``__main__``, streams, environment, folder, signals, the way it ends. What
has to be seen from the first import on is started with ``sys.executable``.

::

    child = await start("-m", "arena_async", "quota", env=env)
    out, err = await child.communicate()

``python warm.py NUMBER`` is the process that forks; it listens at that descriptor, has no thread and no event loop, and
ends when the other side of the descriptor is closed. Where a fork is not safe, each child is an interpreter of its own.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import gc
import importlib
import json
import os
import pkgutil
import runpy
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

__all__ = ["Child", "prepare", "start"]

#: The libraries of other systems may not be used in a fork that executes nothing.
_FORKS = sys.platform == "linux"

#: The process that forks, started once for a process of tests, and our end of the line to it.
_line: list[socket.socket] = []

#: What the commands import by and by, beside all of the package.
_NEEDED = (
    "aiofiles", "aiohttp.web", "anyio", "cattrs", "cyclopts", "rich.console", "rich.progress", "rich.table", "uvloop",
)  # fmt: skip


def prepare() -> None:
    """Have the process that forks started, without waiting for it: tests that count what is open do it beforehand."""
    if _line or not _FORKS:
        return
    here, there = socket.socketpair()
    with there:
        forker = subprocess.Popen(
            [sys.executable, "-W", "error", __file__, str(there.fileno())],
            pass_fds=[there.fileno()],
            stdin=subprocess.DEVNULL,
            env={name: value for name, value in os.environ.items() if not name.startswith("COV_")},
        )
    _line.append(here)

    def end() -> None:
        here.close()
        forker.wait()

    atexit.register(end)


class Child:
    """
    As much of ``asyncio.subprocess.Process`` as tests need, for a process that another one forked.

    Attributes:
        pid: Its number.
        returncode: How it ended, as far as somebody has waited for that.
        worked: Seconds of the processor that it took, once that is known.
        stdin, stdout, stderr: The streams that are pipes.
    """

    stdin: asyncio.StreamWriter | None = None
    stdout: asyncio.StreamReader | None = None
    stderr: asyncio.StreamReader | None = None

    def __init__(self, said: asyncio.StreamReader, saying: asyncio.StreamWriter, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self.worked = 0.0
        self._said = said
        self._saying = saying
        self._waiting = asyncio.Lock()

    async def wait(self) -> int:
        """Return the code it ended with: less than 0 is the signal that killed it."""
        async with self._waiting:
            if self.returncode is None:
                code, worked = (await self._said.readline()).split()
                self._saying.close()
                if self.stdin is not None:
                    self.stdin.close()
                self.returncode, self.worked = int(code), float(worked)
        return self.returncode

    async def communicate(self, typed: bytes | None = None) -> tuple[bytes, bytes]:
        """Send it what is typed, and give what it wrote, once it has ended."""
        _, out, err = await asyncio.gather(self._type(typed), _all_of(self.stdout), _all_of(self.stderr))
        await self.wait()
        return out, err

    async def _type(self, typed: bytes | None) -> None:
        if self.stdin is None:
            return
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.stdin.write(typed or b"")
            await self.stdin.drain()
        self.stdin.close()

    def send_signal(self, number: int) -> None:
        """Send it a signal; nothing happens when it has ended."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it."""
        self.send_signal(signal.SIGKILL)


async def _all_of(stream: asyncio.StreamReader | None) -> bytes:
    return b"" if stream is None else await stream.read()


async def start(
    *arguments: str,
    env: Mapping[str, str],
    cwd: Path | None = None,
    stdin: int = asyncio.subprocess.DEVNULL,
    terminal: int | None = None,
) -> Child | asyncio.subprocess.Process:
    """
    Start ``python`` with some arguments: ``-m MODULE …``, ``-c CODE …`` or ``SCRIPT …``.

    Args:
        arguments: What stands behind ``python``.
        env: The whole environment. What the interpreter itself reads at its start is that of the tests, and a warning
            is an error.
        cwd: The folder it works in.
        stdin: ``DEVNULL`` or ``PIPE``; its other streams are pipes.
        terminal: A descriptor that is all three streams instead, and its controlling terminal.
    """
    if not _FORKS:
        return await _start_cold(arguments, env=env, cwd=cwd, stdin=stdin, terminal=terminal)
    prepare()
    ours: list[int] = []
    theirs = [terminal] * 3 if terminal is not None else _pipes(stdin, ours)
    here, there = socket.socketpair()
    try:
        socket.send_fds(_line[0], [b"!"], [there.fileno(), *theirs])
    finally:
        there.close()
        for descriptor in () if terminal is not None else theirs:
            os.close(descriptor)
    order = {"arguments": arguments, "env": dict(env), "cwd": str(cwd or Path.cwd()), "own": terminal is not None}
    said, saying = await asyncio.open_unix_connection(sock=here)
    saying.write(json.dumps(order).encode() + b"\n")
    child = Child(said, saying, int(await said.readline()))
    if terminal is None:
        await _open_streams(child, ours)
    return child


async def _start_cold(
    arguments: Sequence[str], *, env: Mapping[str, str], cwd: Path | None, stdin: int, terminal: int | None
) -> asyncio.subprocess.Process:
    """Start an interpreter of its own."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        env=dict(env),
        cwd=cwd,
        stdin=stdin if terminal is None else terminal,
        stdout=asyncio.subprocess.PIPE if terminal is None else terminal,
        stderr=asyncio.subprocess.PIPE if terminal is None else terminal,
        preexec_fn=None if terminal is None else _take_terminal,
    )


def _take_terminal() -> None:
    """Make the terminal the controlling one, so that Ctrl-C becomes a signal. Runs in the child."""
    import fcntl  # noqa: PLC0415 - there is none on Windows
    import termios  # noqa: PLC0415

    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _pipes(stdin: int, ours: list[int]) -> list[int]:
    """Open the three streams of a child: give its ends, and put ours, stdin only if it is a pipe, into the list."""
    if stdin == asyncio.subprocess.PIPE:
        its_stdin, typing = os.pipe()
        ours.append(typing)
    else:
        its_stdin = os.open(os.devnull, os.O_RDONLY)
    out, its_stdout = os.pipe()
    err, its_stderr = os.pipe()
    ours += [err, out]
    return [its_stdin, its_stdout, its_stderr]


async def _open_streams(child: Child, ours: list[int]) -> None:
    loop = asyncio.get_running_loop()
    child.stdout, child.stderr = asyncio.StreamReader(limit=1 << 24), asyncio.StreamReader(limit=1 << 24)
    for stream in (child.stdout, child.stderr):
        reading = partial(asyncio.StreamReaderProtocol, stream)
        await loop.connect_read_pipe(reading, os.fdopen(ours.pop(), "rb", 0))
    if ours:
        writing = partial(asyncio.StreamReaderProtocol, asyncio.StreamReader())
        transport, protocol = await loop.connect_write_pipe(writing, os.fdopen(ours.pop(), "wb", 0))
        child.stdin = asyncio.StreamWriter(transport, protocol, None, loop)


# The process that forks


def _serve(line: socket.socket) -> dict[str, Any] | None:
    """Fork for each order, and give the order in the fork; nothing in the process that forks, at its end."""
    # Whoever watches over a child waits for it; nobody waits for those.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        requested, descriptors, _, _ = socket.recv_fds(line, 1, 4)
        if not requested:
            return None
        if os.fork() == 0:
            line.close()
            return _watch_over(*descriptors)
        for descriptor in descriptors:
            os.close(descriptor)


def _watch_over(said: int, *streams: int) -> dict[str, Any]:
    """Return the order in a further fork, and never come back in this one: say its number, and later how it ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with os.fdopen(said, "rb", closefd=False) as orders:
        order: dict[str, Any] = json.loads(orders.readline())
    child = os.fork()
    if child == 0:
        os.close(said)
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
        for stream in streams:
            os.close(stream)
        return order
    try:
        os.closerange(0, said)
        os.closerange(said + 1, max(streams) + 1)
        os.write(said, b"%d\n" % child)
        _, status, used = os.wait4(child, 0)
        os.write(said, b"%d %f\n" % (os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime))
    finally:
        os._exit(0)


def _begin(order: dict[str, Any]) -> None:
    """Make this fork what a new interpreter would be."""
    if order["own"]:
        _take_terminal()
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["env"])
    encoding = sys.stdout.encoding
    sys.stdin = sys.__stdin__ = open(0, encoding=encoding, closefd=False)  # type: ignore[misc]  # noqa: SIM115
    sys.stdout = sys.__stdout__ = open(  # type: ignore[misc]  # noqa: SIM115
        1, "w", encoding=encoding, closefd=False, buffering=1 if os.isatty(1) else -1
    )
    sys.stderr = sys.__stderr__ = open(  # type: ignore[misc]  # noqa: SIM115
        2, "w", encoding=encoding, errors="backslashreplace", closefd=False, buffering=1
    )


def _run(first: str, *others: str) -> None:
    """Run what stands behind ``python``, as ``__main__``."""
    if first == "-m":
        sys.argv = list(others)
        runpy.run_module(others[0], run_name="__main__", alter_sys=True)
    elif first == "-c":
        sys.argv = ["-c", *others[1:]]
        exec(compile(others[0], "<string>", "exec"), {"__name__": "__main__"})  # noqa: S102 - that is what -c means
    else:
        sys.argv = [first, *others]
        sys.path.insert(0, str(Path(first).parent))
        runpy.run_path(first, run_name="__main__")


def _import_all() -> None:
    import arena_async  # noqa: PLC0415 - the process of the tests needs this module without

    for name in _NEEDED:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    for found in pkgutil.walk_packages(arena_async.__path__, "arena_async."):
        # The plugin asks for pytest, which no command does.
        if found.name not in ("arena_async.__main__", "arena_async.testing.pytest_plugin"):
            importlib.import_module(found.name)


if __name__ == "__main__":
    # Only what a new interpreter would find there may be found by a child.
    sys.path.pop(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _import_all()
    gc.freeze()
    with socket.socket(fileno=int(sys.argv[1])) as listening:
        taken = _serve(listening)
    if taken is not None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        _begin(taken)
        _run(*taken["arguments"])
