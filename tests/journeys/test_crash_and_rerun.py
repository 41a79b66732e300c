"""Killed without warning, then run again: the folder ends as if nothing had happened, and nothing comes twice."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from filesets import content
from scripted import RawServer, Reply, Seen, reply

pytestmark = pytest.mark.process

SUPPORT = Path(__file__).parent.parent / "support"


async def start(**settings: Any) -> asyncio.subprocess.Process:
    """Start a process that syncs."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        str(SUPPORT / "sync_child.py"),
        json.dumps(settings),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(SUPPORT)},
    )


async def finish(child: asyncio.subprocess.Process) -> tuple[int | None, dict[str, Any] | None, str]:
    """Wait for its end: exit code, report if it came that far, and what it complained about."""
    out, err = await child.communicate()
    last = out.decode().strip().rpartition("\n")[2]
    return child.returncode, json.loads(last) if last.startswith("{") else None, err.decode()


def tree(root: Path) -> dict[str, bytes]:
    """Return every file that is not ours."""
    return {path.name: path.read_bytes() for path in (root / "files").glob("*")} if (root / "files").exists() else {}


def recorded(root: Path) -> list[Path]:
    """Return the control records: what says how far a file is safely on the disk."""
    return list((root / ".arena-async" / "partial").glob("*.json"))


def partials(root: Path) -> list[str]:
    """Name what is left of files on their way."""
    return [path.name for path in (root / ".arena-async" / "partial").iterdir()]


def ranged(body: bytes, *, stall_after: int | None = None) -> Any:
    """Serve a body with ranges; the first whole answer stalls somewhere."""
    stalls = iter([stall_after])

    def answer(seen: Seen) -> Reply:
        headers = {"ETag": '"v1"'}
        requested = seen.header("Range")
        if requested is None:
            stall = next(stalls, None)
            return reply(body=body, headers=headers, cut=stall, stall=stall is not None)
        first = int(requested.removeprefix("bytes=").rstrip("-"))
        headers["Content-Range"] = f"bytes {first}-{len(body) - 1}/{len(body)}"
        return reply(206, body=body[first:], headers=headers)

    return answer


async def test_a_killed_sync_goes_on_where_it_was(tmp_path: Path) -> None:
    """SIGKILL in the middle of a large body: only its rest is asked for, and nothing that was complete."""
    files = {f"small{number}": 20_000 for number in range(12)} | {"large": 1_000_000}
    async with RawServer() as server:
        for name, size in files.items():
            stall = 700_000 if name == "large" else None
            server.on("GET", f"/{name}", ranged(content(size, name), stall_after=stall))
        settings = {"to": str(tmp_path), "base_url": server.base_url, "files": files}

        child = await start(**settings)
        assert child.stdout is not None
        settled = 0
        while settled < 12:
            line = (await child.stdout.readline()).decode()
            assert line
            settled += line.startswith("settled small")
        async with asyncio.timeout(10):
            while not await asyncio.to_thread(recorded, tmp_path):
                pass
        child.send_signal(signal.SIGKILL)
        assert (await finish(child))[0] == -signal.SIGKILL
        assert tree(tmp_path).keys() == {f"{name}.bin" for name in files if name != "large"}
        before = len(server.requests)

        code, report, complaints = await finish(await start(**settings))
        again = [seen.path for seen in server.requests[before:]]
        start_of_rest = server.requests[before].header("Range")

    assert (code, complaints) == (0, "")
    assert report is not None
    assert report["counts"] == {"keep": 12, "resume": 1}
    assert again == ["/large"]
    assert start_of_rest is not None
    assert int(start_of_rest[6:-1]) >= 65_536
    assert tree(tmp_path) == {f"{name}.bin": content(size, name) for name, size in files.items()}


async def test_two_processes_on_one_folder_never_show_a_wrong_byte(tmp_path: Path) -> None:
    """CC09: every final name is absent or whole at every look, and each file comes at most once for each process."""
    files = {f"f{number}": 30_000 + number for number in range(40)}
    whole = {f"{name}.bin": content(size, name) for name, size in files.items()}
    async with RawServer() as server:
        for name, size in files.items():
            server.on("GET", f"/{name}", ranged(content(size, name)))
        settings = {"to": str(tmp_path), "base_url": server.base_url, "files": files}

        children = [await start(**settings) for _ in range(2)]
        ends = [asyncio.create_task(finish(child)) for child in children]
        looks = 0
        while not all(end.done() for end in ends):
            assert (await asyncio.to_thread(tree, tmp_path)).items() <= whole.items()
            looks += 1
        results = [end.result() for end in ends]
        counts = Counter(seen.path for seen in server.requests)

    assert [(code, complaints) for code, _, complaints in results] == [(0, ""), (0, "")]
    assert [report["failures"] for _, report, _ in results if report is not None] == [0, 0]
    assert tree(tmp_path) == whole
    assert max(counts.values()) <= 2
    assert looks > 0
    assert partials(tmp_path) == []
