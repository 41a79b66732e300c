"""What the system says about processes: whether one lives, where its number means something, what it may open."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
from pathlib import Path

__all__ = ["machine", "max_open_files", "start_of"]


def machine() -> str:
    """Return where the numbers of processes mean something: the host, its boot, and the namespace of the numbers."""
    boot = namespace = ""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        namespace = str(Path("/proc/self/ns/pid").readlink())
    return f"{platform.node()} {boot} {namespace}"


def start_of(pid: int) -> str | None:
    """Return when a process of this machine started, as the system counts; "" if unknown, None if it has ended."""
    if os.name != "posix":
        return ""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return None
    except OSError:
        pass  # That of another user.
    try:
        # https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html - the name may have spaces and brackets
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return ""
    return None if fields[0] in (b"Z", b"X") else fields[19].decode()


def max_open_files() -> int:
    """Return how many files this process may have open at a time; a large number where that has no limit."""
    try:
        import resource  # noqa: PLC0415 - Windows has none.
    except ImportError:
        return sys.maxsize
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft
