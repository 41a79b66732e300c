"""
Where a row is played: servers on loopback, folders, and contenders in processes of their own, each with a deadline.

::

    home/                 what nobody may touch but below `to`
    └── a/b/files/        `to`, where the contender is told to bring the files
    desk/                 the working directory of the contender, where some write logs
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import hashlib
import importlib.util
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from benchmarks.rivals.contenders import CLAIM

__all__ = [
    "DEADLINE",
    "ROOT",
    "Contender",
    "Ended",
    "File",
    "Stage",
    "asks_for_content",
    "body",
    "offer",
    "read_range",
    "scripted",
    "serve",
    "stalled_in_the_middle",
]

ROOT = Path(__file__).resolve().parents[2]

#: What goes wrong with an answer, given the bytes it has: further fields of a reply.
How = Callable[[bytes], dict[str, Any]]

#: Seconds after which a contender that has not ended is killed.
DEADLINE = 30.0


def _load(path: Path) -> Any:
    """Load a module of the tests that stands for itself."""
    spec = importlib.util.spec_from_file_location(f"rivals_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module
    spec.loader.exec_module(module)
    return module


#: The raw server of the tests: it cuts, stalls and lies on order.
scripted = _load(ROOT / "tests" / "support" / "scripted.py")


def body(size: int, seed: str) -> bytes:
    """Return a gzip file of about so many bytes, the same for the same seed."""
    text = b"".join(hashlib.sha256(f"{seed} {number}".encode()).digest() for number in range(size // 32))
    return gzip.compress(text, compresslevel=0, mtime=0)


@attrs.frozen(kw_only=True)
class Contender:
    """
    Somebody who is asked.

    Args:
        name: Its name in `contenders.CONTENDERS`.
        title: Its column.
        python: The interpreter that has it.
        careful: Whether it is given the digests beforehand.
    """

    name: str
    title: str
    python: str
    careful: bool = False


@attrs.frozen(kw_only=True)
class File:
    """
    One file that is asked for.

    Args:
        url: Where it lies.
        content: What it is.
        name: The name it is to get; None lets the contender choose one.
    """

    url: str
    content: bytes
    name: str | None = None


@attrs.frozen(kw_only=True)
class Ended:
    """
    How a contender ended.

    Args:
        code: Its exit code, less than 0 for a signal; None when it was still running at the deadline.
        seconds: From its start, or from the signal it was sent, to its end.
        done: The files it says it has brought, by number; None when it did not come to say so.
        text: Everything it printed and logged.
    """

    code: int | None
    seconds: float
    done: frozenset[int] | None
    text: str


class Stage:
    """
    One contender in one row.

    Attributes:
        server: Who serves the files.
        other: A server of another origin.
        to: Where the files are to go.
    """

    def __init__(self, contender: Contender, directory: Path, server: Any, other: Any) -> None:
        self.contender = contender
        self.server = server
        self.other = other
        self.home = directory / "home"
        self.to = self.home / "a" / "b" / "files"
        self._executor = directory / "desk"
        self.to.mkdir(parents=True)
        self._executor.mkdir()
        (self.home / "mine.txt").write_text("not yours")

    async def download(
        self,
        files: Sequence[File],
        *,
        headers: Mapping[str, str] | None = None,
        frugal: bool = False,
        keeping: bool = False,
        before: Callable[[], None] | None = None,
        when: Callable[[], object] | None = None,
        number: signal.Signals = signal.SIGKILL,
    ) -> Ended:
        """
        Let the contender bring files, and wait for its end.

        Args:
            files: What to bring.
            headers: Headers for every request.
            frugal: Whether files are to be asked for in one piece, where there is such an option.
            keeping: Whether to use what an earlier run left, where there is such an option.
            before: Called in the child before the contender is started, for limits.
            when: Tells when to send it a signal; None for never.
            number: The signal.
        """
        job = {
            "to": str(self.to),
            "headers": dict(headers or {}),
            "careful": self.contender.careful,
            "frugal": frugal,
            "keeping": keeping,
            "files": [
                {"url": file.url, "name": file.name, "sha256": hashlib.sha256(file.content).hexdigest()}
                for file in files
            ],
        }
        child = await asyncio.create_subprocess_exec(
            self.contender.python,
            "-m",
            "benchmarks.rivals.contenders",
            self.contender.name,
            json.dumps(job),
            cwd=self._executor,
            env=self._environment(),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            preexec_fn=before,
            start_new_session=True,
        )
        reading = asyncio.create_task(child.communicate())
        began = time.monotonic()
        if when is not None and await _quiet_after(when, reading):
            began = time.monotonic()
            child.send_signal(number)
        await asyncio.wait([reading], timeout=DEADLINE if when is None else 10)
        seconds, late = time.monotonic() - began, not reading.done()
        if late:
            os.killpg(child.pid, signal.SIGKILL)
        said = (await reading)[0].decode(errors="replace")
        claims = [line for line in said.splitlines() if line.startswith(CLAIM)]
        logs = "".join(path.read_text(errors="replace") for path in self._executor.glob("*.log"))
        return Ended(
            code=None if late else child.returncode,
            seconds=seconds,
            done=frozenset(json.loads(claims[-1].removeprefix(CLAIM))) if claims else None,
            text=said + logs,
        )

    def _environment(self) -> dict[str, str]:
        """Return an environment in which nothing speaks of proxies, settings or other homes."""
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL", "TMPDIR") if name in os.environ}
        return {**kept, "HOME": str(self._executor), "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}

    def found(self, name: str) -> bytes | None:
        """Return what lies under a final name, or None."""
        with contextlib.suppress(FileNotFoundError):
            return (self.to / name).read_bytes()
        return None

    def names(self) -> list[str]:
        """Name every file that the contender has left, state files of its own included."""
        return sorted(path.relative_to(self.home).as_posix() for path in self.home.rglob("*") if path.is_file())

    def strays(self) -> list[str]:
        """Name what was written outside the folder."""
        inside = self.to.relative_to(self.home).as_posix()
        return [name for name in self.names() if not name.startswith(f"{inside}/") and name != "mine.txt"]


async def _quiet_after(when: Callable[[], object], reading: asyncio.Task[Any]) -> bool:
    """Wait until it is so and has been for a second; False when the child ended before, or it took too long."""
    began = time.monotonic()
    while not when():
        await asyncio.wait([reading], timeout=0.05)
        if reading.done() or time.monotonic() - began > DEADLINE:
            return False
    await asyncio.wait([reading], timeout=1)
    return not reading.done()


# ----------------------------------------------------------------------------------------------------- an honest server


def serve(content: bytes, *, headers: Mapping[str, str] | None = None, how: How | None = None) -> Callable[[Any], Any]:
    """
    Serve a file as an honest host does: whole, or the range that is asked for, with a strong ETag.

    Args:
        content: The file.
        headers: Further headers.
        how: What goes wrong with it, or None.
    """

    def answer(seen: Any) -> Any:
        given = {"ETag": '"v1"', "Accept-Ranges": "bytes", "Content-Type": "application/gzip", **(headers or {})}
        if seen.header("If-Match") not in (None, '"v1"'):
            return scripted.reply(412, headers=given)
        span = read_range(seen.header("Range"), len(content))
        part = content if span is None else content[span[0] : span[1] + 1]
        if span is not None:
            given["Content-Range"] = f"bytes {span[0]}-{span[1]}/{len(content)}"
        wrong = how(part) if how and seen.method == "GET" else {}
        return scripted.reply(200 if span is None else 206, body=part, headers=given, **wrong)

    return answer


def offer(stage: Stage, count: int, through: Callable[[Any], Any] = lambda honest: honest) -> list[File]:
    """
    Serve some small files, and name them.

    Args:
        stage: Where.
        count: How many.
        through: Makes of an honest answer the one that is given.
    """
    files = []
    for number in range(count):
        content = body(20_000, str(number))
        files.append(File(url=f"{stage.server.base_url}/f{number}", content=content, name=f"f{number}.csv.gz"))
        stage.server.on("*", f"/f{number}", through(serve(content)))
    return files


def asks_for_content(seen: Any) -> bool:
    """Return whether a request is for more than a look: neither HEAD nor GET for a byte."""
    span = read_range(seen.header("Range"), 1 << 60)
    return seen.method == "GET" and (span is None or span[1] > span[0])


def read_range(text: str | None, size: int) -> tuple[int, int] | None:
    """Read the first and the last byte that are asked for, or None for the whole."""
    if text is None:
        return None
    first, _, last = text.removeprefix("bytes=").partition("-")
    return int(first), min(int(last), size - 1) if last else size - 1


def stalled_in_the_middle(part: bytes) -> dict[str, Any]:
    """Let an answer stop in its middle and say nothing more; small ones, which only ask about the file, go through."""
    return {"cut": len(part) // 2, "stall": True} if len(part) > 1000 else {}
