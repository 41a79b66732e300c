"""
The committed directory ``tests/fixtures/interrupted``: what a killed process has left, and how a test takes it up.

::

    mirror/           the directory of a ``Mirror``: complete files, rows that are committing, two partial files
    sessions/         the session store of an Arena user
    plan.json         a plan as ``Plan.to_json`` writes it, made while the two partial files were there
    manifest.json     modes, the times that the ledger knows, when the session was used, which control record is whose

``leave_interrupted.py`` made it. It is never made anew: what an older version left behind has to be taken up.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp
import attrs
from aiohttp.abc import AbstractResolver, ResolveResult

__all__ = [
    "API",
    "BODIES",
    "EXTRACT",
    "HOST",
    "USER",
    "WORKSPACE",
    "Interrupted",
    "Pinned",
    "body_of",
    "restore",
    "url_of",
]

FIXTURE = Path(__file__).parents[1] / "fixtures" / "interrupted"
#: The host of all files, and the one of the API whose session is stored.
HOST, API = "files.example.org", "api.arenasolutions.com"
#: Whose session is stored, and what it was used for.
USER, WORKSPACE, EXTRACT = "robot@everyroadgps.com", 896256783, "A1B2C3D4E5F6G7H8I9J0"
#: The files and their sizes.
BODIES = {
    "complete-1.bin": 5_000,
    "complete-2.bin": 3_001,
    "renamed.bin": 6_000,
    "verified.bin": 7_000,
    "partial.bin": 300_000,
    "split.bin": 655_360,
    "missing.bin": 4_000,
}


def body_of(name: str) -> bytes:
    """Return the content of a file."""
    return hashlib.shake_256(name.encode()).digest(BODIES[name])


def url_of(name: str) -> str:
    """Return the address of a file."""
    return f"https://{HOST}/data/{name}"


class Pinned(AbstractResolver):
    """Resolves every host to one port of this machine, so that keys do not depend on the port of a test."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = ResolveResult(hostname=host, host="127.0.0.1", port=self._port, family=socket.AF_INET, proto=0, flags=0)
        return [found]

    async def close(self) -> None:
        """Do nothing: nothing is open."""

    @classmethod
    def connector(cls, port: int) -> aiohttp.TCPConnector:
        """Return a connector that leads there."""
        return aiohttp.TCPConnector(resolver=cls(port))


@attrs.frozen
class Interrupted:
    """
    A copy of the directory.

    Args:
        root: Where it lies.
        facts: What the manifest says besides modes and times.
    """

    root: Path
    facts: dict[str, Any]

    @property
    def mirror(self) -> Path:
        """The directory of the mirror."""
        return self.root / "mirror"

    @property
    def store(self) -> Path:
        """The session store."""
        return self.root / "sessions" / "arena.json"

    @property
    def used_at(self) -> datetime:
        """When the stored session was used."""
        return datetime.fromisoformat(self.facts["session_used_at"])

    def record(self, name: str) -> dict[str, Any]:
        """Return the control record of a file."""
        found: dict[str, Any] = json.loads((self.mirror / ".arena-async" / "partial" / self.facts[name]).read_bytes())
        return found


def restore(to: Path) -> Interrupted:
    """Copy the directory, with the modes and times that it was left with."""
    manifest = json.loads((FIXTURE / "manifest.json").read_bytes())
    root = to / "interrupted"
    for name, (mode, mtime_ns) in manifest["files"].items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(FIXTURE / name, path)
        path.chmod(mode)
        if mtime_ns is not None:
            os.utime(path, ns=(mtime_ns, mtime_ns))
    for name, mode in manifest["directories"].items():
        (root / name).chmod(mode)
    return Interrupted(root, manifest["facts"])
