"""How a process is measured from outside: whole, from its start to its end, whatever it is written in."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs

__all__ = ["Took", "run"]

#: Seconds between two looks at the memory of a process. Its peak only grows, so the last look is the one that counts.
_LOOK = 0.01


@attrs.frozen(kw_only=True)
class Took:
    """
    What a process took.

    Args:
        seconds: Wall time, from its start to its end.
        cpu_seconds: Processor time, user and system, its children included.
        peak_memory: Bytes of its own that were resident at once, at the most.
        output: What it wrote to standard output.
    """

    seconds: float
    cpu_seconds: float
    peak_memory: int
    output: str


def run(
    command: Sequence[str | Path], *, cwd: Path | None = None, env: Mapping[str, str] | None = None, limit: float = 280
) -> Took:
    """
    Run a command to its end.

    Args:
        command: What to run.
        cwd: Where.
        env: What its environment has beside ours.
        limit: Seconds after which it is killed.

    Raises:
        SystemExit: It failed. What it wrote to standard error is part of the message.
    """
    # Files, since a pipe has to be emptied by somebody, who would then be measured too.
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        surroundings = {**os.environ, **(env or {})}
        started = time.perf_counter()
        child = subprocess.Popen(
            [str(word) for word in command], cwd=cwd, env=surroundings, stdin=subprocess.DEVNULL, stdout=out, stderr=err
        )
        watch = _Watch(child.pid)
        killer = threading.Timer(limit, child.kill)
        killer.start()
        try:
            _, status, used = os.wait4(child.pid, 0)
            seconds = time.perf_counter() - started
        finally:
            killer.cancel()
            watch.end()
        child.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        if child.returncode:
            said = (out.read() + err.read()).decode(errors="replace").strip()
            raise SystemExit(f"{' '.join(str(word) for word in command)[:300]} ended with {child.returncode}.\n{said}")
        counted = used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        return Took(
            seconds=seconds,
            cpu_seconds=used.ru_utime + used.ru_stime,
            peak_memory=watch.peak or counted,
            output=out.read().decode(),
        )


class _Watch:
    """
    Looks at the peak of a process's memory while it runs.

    The kernel's own count at the end (``ru_maxrss``) is of no use for small processes: what this process had when it
    started them counts as theirs.
    """

    def __init__(self, pid: int) -> None:
        self.peak = 0
        self._ended = threading.Event()
        self._status = Path(f"/proc/{pid}/status")
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Look no more."""
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(_LOOK):
            with contextlib.suppress(OSError, ValueError, IndexError):
                text = self._status.read_text()
                self.peak = max(self.peak, int(text.partition("VmHWM:")[2].split(maxsplit=1)[0]) * 1024)
