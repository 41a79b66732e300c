"""File systems behind the port: one that writes down every call, and one that refuses or misbehaves on order."""

from __future__ import annotations

import asyncio
import errno
import fnmatch
import os
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import attrs

from arena_async.transfer.filesystem import FileSystem

__all__ = ["CALLS", "Call", "DyingDisk", "FaultyDisk", "Killed", "RateLimiter", "RecordingDisk"]

CALLS = (
    "make_root", "open_root", "open_directory", "make_directory", "remove_directory", "names", "sync_directory",
    "free", "create", "open_file", "write", "read", "allocate", "truncate", "begin_sync", "sync", "sync_data",
    "close", "chmod", "look",
    "look_open", "rename", "unlink", "lock",
)  # fmt: skip


@attrs.frozen
class Call:
    """
    One call to the system.

    Args:
        verb: The method of the port.
        name: What it was about: the last component of a path, or of what was opened.
        new: The new name, for a rename.
        offset: Where it wrote, read or cut, or None.
        size: How many bytes, or None.
    """

    verb: str
    name: str
    new: str = ""
    offset: int | None = None
    size: int | None = None

    def __str__(self) -> str:
        return f"{self.verb} {self.name}{f' -> {self.new}' if self.new else ''}"


class RecordingDisk(FileSystem):
    """
    The real file system, with a list of everything that was asked of it.

    Args:
        before: Called before each call; what it raises comes out of the call instead.
    """

    def __init__(self, before: Callable[[Call], object] | None = None) -> None:
        self.calls: list[Call] = []
        self.before = before
        self._names: dict[int, str] = {}
        for verb in CALLS:
            setattr(self, verb, partial(self._record, verb, getattr(FileSystem, verb)))

    def lines(self, *operations: str) -> list[str]:
        """Show the calls, or those of some verbs, one line each."""
        return [str(call) for call in self.calls if not operations or call.verb in operations]

    def _record(self, verb: str, real: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        call = self._describe(verb, args)
        self.calls.append(call)
        if self.before is not None:
            self.before(call)
        result = self.perform(call, partial(real, self), args, kwargs)
        if verb in ("create", "open_file", "open_directory", "open_root") and isinstance(result, int):
            self._names[result] = call.name
        if verb == "close":
            self._names.pop(args[0], None)
        return result

    def perform(self, call: Call, real: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Do it."""
        return real(*args, **kwargs)

    def _describe(self, verb: str, args: tuple[Any, ...]) -> Call:
        first = args[0]
        if verb in ("make_root", "open_root"):
            return Call(verb, Path(first).name)
        if verb in ("write", "read", "truncate", "allocate"):
            size = len(args[1]) if verb == "write" else args[1]
            return Call(verb, self._name(first), offset=args[2] if len(args) > 2 else None, size=size)
        if verb == "rename":
            return Call(verb, args[1], new=args[3])
        return Call(verb, str(args[1]) if len(args) > 1 and isinstance(args[1], str) else self._name(first))

    def _name(self, opened: object) -> str:
        return self._names.get(opened, "?") if isinstance(opened, int) else Path(str(opened)).name


@attrs.define
class _Fault:
    verb: str
    name: str
    skip: int
    times: int
    act: Callable[[Call, Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]


class FaultyDisk(RecordingDisk):
    """A recording disk that refuses, shortens or lies, on order."""

    def __init__(self, before: Callable[[Call], object] | None = None) -> None:
        super().__init__(before)
        self._faults: list[_Fault] = []

    def fail(
        self,
        verb: str,
        number: int,
        *,
        name: str = "*",
        skip: int = 0,
        times: int = 1_000_000,
        winerror: int | None = None,
    ) -> None:
        """Let calls of a verb, on names of a pattern, fail with an error number: ``times`` of them after ``skip``."""

        def act(call: Call, real: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            error = OSError(number, os.strerror(number))
            if winerror is not None:
                error.winerror = winerror  # type: ignore[attr-defined]
            raise error

        self._faults.append(_Fault(verb, name, skip, times, act))

    def replace(
        self, verb: str, act: Callable[..., Any], *, name: str = "*", skip: int = 0, times: int = 1_000_000
    ) -> None:
        """Call ``act(real, *args, **kwargs)`` instead; ``real`` does what would have been done."""
        self._faults.append(
            _Fault(verb, name, skip, times, lambda call, real, args, kwargs: act(real, *args, **kwargs))
        )

    def shorten_writes(self, maximum: int) -> None:
        """Take at most so many bytes at a time."""
        self.replace("write", lambda real, file, data, offset: real(file, memoryview(data)[:maximum], offset))

    def fill_up(self, after: int) -> None:
        """Take so many bytes of content, and then no more."""
        left = [after]

        def act(real: Callable[..., Any], file: int, data: Any, offset: int) -> Any:
            if left[0] <= 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            taken: int = real(file, memoryview(data)[: left[0]], offset)
            left[0] -= taken
            return taken

        self.replace("write", act)

    def perform(self, call: Call, real: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Misbehave if that was ordered for this call, else do it."""
        for fault in self._faults:
            if fault.verb != call.verb or not fnmatch.fnmatch(call.name, fault.name):
                continue
            if fault.skip > 0:
                fault.skip -= 1
                continue
            if fault.times > 0:
                fault.times -= 1
                return fault.act(call, real, args, kwargs)
        return super().perform(call, real, args, kwargs)


class Killed(BaseException):
    """The process is dead: nobody handles this, and nothing of it reaches the disk any more."""


#: Calls that leave something behind; a kill before any other one is the kill before the next of these.
CHANGES = frozenset(
    {
        "make_root",
        "make_directory",
        "remove_directory",
        "sync_directory",
        "create",
        "write",
        "allocate",
        "truncate",
        "sync",
    }
    | {"sync_data", "chmod", "rename", "unlink"}
)


class DyingDisk(RecordingDisk):
    """
    A disk whose process is killed right before a call: that one and all later ones change nothing.

    Args:
        at: The number of the call among those that change something, from 1 on.
    """

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at

    @property
    def died(self) -> bool:
        """Whether it has come to that."""
        return sum(call.verb in CHANGES for call in self.calls) >= self.at

    def bury(self) -> None:
        """Close what the dead process had open, as the system does."""
        for opened in list(self._names):
            os.close(opened)
        self._names.clear()

    def perform(self, call: Call, real: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Do it, unless the process is dead."""
        if self.died and call.verb != "close":
            raise Killed
        return real(*args, **kwargs)


class RateLimiter:
    """
    Holds the first call of a verb, on a name of a pattern, until it is opened: the ``before`` of a disk.

    Args:
        verb: The method of the port.
        name: The pattern.
        armed: Whether it holds from the start; else from :meth:`arm` on.
    """

    def __init__(self, verb: str, name: str = "*.part", *, armed: bool = True) -> None:
        self._verb, self._pattern = verb, name
        self._armed = armed
        self._reached, self._open = threading.Event(), threading.Event()

    def __call__(self, call: Call) -> None:
        """Hold it, on its thread."""
        if self._armed and call.verb == self._verb and fnmatch.fnmatch(call.name, self._pattern):
            self._reached.set()
            assert self._open.wait(20), f"{call} was held for too long"

    def arm(self) -> None:
        """Hold the next call."""
        self._armed = True

    def open(self) -> None:
        """Let it go on, and all later ones."""
        self._armed = False
        self._open.set()

    async def reached(self) -> None:
        """Wait until a call is held."""
        assert await asyncio.to_thread(self._reached.wait, 20)
