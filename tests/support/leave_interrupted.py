"""
The program that left ``tests/fixtures/interrupted``, run once with the code of commit b27d719 and kept to show how.

``python leave_interrupted.py DIRECTORY`` starts itself once for each step, and each step is killed where it says. It
reaches into that version, so it does not run with a later one; nothing runs it.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import signal
import ssl
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import trustme
from disks import Call, RecordingDisk
from interrupted import API, BODIES, EXTRACT, HOST, USER, WORKSPACE, Pinned, body_of, url_of
from scripted import RawServer, Reply, Seen, json_reply, reply

from arena_async import ArenaClient, ArenaCredentials, Mirror, TransferOptions, UrlSet
from arena_async.options import KIB
from arena_async.transfer import segments
from arena_async.transfer.rate import Splitting

SUPPORT = Path(__file__).parent

# ------------------------------------------------------------------------------------------------------------ the child


@asynccontextmanager
async def _files(settings: dict[str, Any], names: Iterable[str]) -> AsyncIterator[UrlSet]:
    context = ssl.create_default_context(cafile=settings["authority"])
    async with (
        Pinned.connector(settings["port"]) as connector,
        UrlSet([url_of(name) for name in names], ssl=context, connector=connector) as files,
    ):
        yield files


def _mirror(settings: dict[str, Any], before: Callable[[Call], object] | None = None) -> Mirror:
    segments._FIRST = 16 * KIB  # type: ignore[misc]
    options = TransferOptions(workers=4)
    object.__setattr__(options, "chunk_size", 16 * KIB)  # So that what is left stays small.
    mirror = Mirror(Path(settings["to"]) / "mirror", options=options)
    storage = mirror._destination.storage
    storage.files, storage.flush_unit = RecordingDisk(before), 16 * KIB
    mirror._destination.splitting = Splitting(
        min_size=512 * KIB,
        min_piece=16 * KIB,
        max_piece=16 * KIB,
        interval=0.0,
        head_start=0.0,
        fast=math.inf,
    )
    return mirror


async def _sync(settings: dict[str, Any]) -> None:
    async with _files(settings, settings["names"]) as files, _mirror(settings) as mirror:
        await mirror.sync(files)


async def _plan(settings: dict[str, Any]) -> None:
    async with _files(settings, BODIES) as files, _mirror(settings) as mirror:
        plan = await mirror.plan(files)
        (Path(settings["to"]) / "plan.json").write_text(plan.to_json() + "\n")


async def _commit(settings: dict[str, Any]) -> None:
    """Let the first file hold its group up until the two others wait for the next one, and die between their names."""
    renames = []

    def before(call: Call) -> None:
        if call.verb == "sync" and call.name.endswith(".part") and not renames:
            time.sleep(1)
        if call.verb == "rename" and call.name.endswith(".part"):
            renames.append(call.new)
            if call.new == "verified.bin":
                os.kill(os.getpid(), signal.SIGKILL)

    async with (
        _files(settings, ["complete-2.bin", "renamed.bin", "verified.bin"]) as files,
        _mirror(settings, before) as mirror,
    ):
        await mirror.sync(files)


async def _login(settings: dict[str, Any]) -> None:
    async with (
        Pinned.connector(settings["port"]) as connector,
        ArenaClient(
            ArenaCredentials(USER, "planted-password"),
            workspace_id=WORKSPACE,
            session_store=Path(settings["to"]) / "sessions" / "arena.json",
            ssl=ssl.create_default_context(cafile=settings["authority"]),
            connector=connector,
        ) as arena,
    ):
        await arena.extracts.get(EXTRACT)


# ----------------------------------------------------------------------------------------------------------- the parent


def _partial(seen: Seen) -> Reply:
    return reply(body=body_of("partial.bin"), headers={"ETag": '"partial"'}, cut=40_000, stall=True)


def _split() -> Callable[[Seen], Reply]:
    """The first piece stalls on its way, the three behind it come, and nothing more after that."""
    body, pieces = body_of("split.bin"), [5_000, None, None, None]

    def answer(seen: Seen) -> Reply:
        headers = {"ETag": '"split"', "Accept-Ranges": "bytes"}
        requested = seen.header("Range")
        if requested is None:
            return reply(body=body, headers=headers)
        first, _, last = requested.removeprefix("bytes=").partition("-")
        part = body[int(first) : int(last) + 1]
        headers["Content-Range"] = f"bytes {first}-{last}/{len(body)}"
        cut = pieces.pop(0) if pieces else 0
        return reply(206, body=part, headers=headers, cut=cut, stall=cut is not None)

    return answer


def _script(server: RawServer) -> None:
    late = {"complete-2.bin": 0.0, "renamed.bin": 0.2, "verified.bin": 0.4}

    def honest(name: str) -> Callable[[Seen], Any]:
        async def answer(seen: Seen) -> Reply:
            await asyncio.sleep(late.get(name, 0))
            return reply(body=body_of(name), headers={"ETag": f'"{name}"', "Accept-Ranges": "bytes"})

        return answer

    for name in BODIES:
        server.on("GET", f"/data/{name}", honest(name))
    server.on("GET", "/data/partial.bin", _partial)
    server.on("GET", "/data/split.bin", _split())
    payload = json.loads((SUPPORT.parent / "payloads" / "arena_login.json").read_text("utf-8"))
    server.on("POST", "/v1/login", json_reply(payload))
    server.on("GET", "/v1/*", json_reply({"guid": EXTRACT, "name": "All parts"}))


async def _child(step: str, settings: dict[str, Any]) -> asyncio.subprocess.Process:
    text = json.dumps(settings)
    return await asyncio.create_subprocess_exec(sys.executable, __file__, "--step", step, text)


async def _killed_when(step: str, settings: dict[str, Any], done: Callable[[], bool]) -> None:
    child = await _child(step, settings)
    while not done():
        assert child.returncode is None
        await asyncio.sleep(0.05)
    child.kill()
    await child.wait()


def _records(root: Path) -> dict[str, dict[str, Any]]:
    found = {}
    for path in (root / "mirror" / ".arena-async" / "partial").glob("*.json"):
        record = json.loads(path.read_bytes())
        found[record["validator"].strip('"')] = record | {"file": path.name}
    return found


async def _leave(root: Path) -> None:
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(HOST, API).configure_cert(context)
    with authority.cert_pem.tempfile() as pem:
        async with RawServer(ssl_context=context) as server:
            _script(server)
            settings = {"port": server.port, "to": str(root), "authority": pem}
            await _killed_when(
                "sync",
                {**settings, "names": ["split.bin"]},
                lambda: len(_records(root).get("split", {"ahead": ()})["ahead"]) >= 1,
            )
            await _killed_when(
                "sync",
                {**settings, "names": ["complete-1.bin", "partial.bin"]},
                lambda: _records(root).get("partial", {"offset": 0})["offset"] >= 32_768,
            )
            await (await _child("plan", settings)).wait()
            await (await _child("commit", settings)).wait()
            used_at = datetime.now(UTC)
            await (await _child("login", settings)).wait()
    for name in ("mirror/.arena-async/ledger.sqlite-shm", "mirror/.arena-async/lock", "sessions/arena.json.lock"):
        (root / name).unlink()
    (root / "manifest.json").write_text(json.dumps(_manifest(root, used_at), indent=1) + "\n")


def _manifest(root: Path, used_at: datetime) -> dict[str, Any]:
    """Note modes, and times where the ledger knows them; who left a partial file is as old as its copy."""
    records, files, directories = _records(root), {}, {}
    stems = {Path(record["file"]).stem for record in records.values()}
    for path in sorted(root.rglob("*")):
        seen, name = path.stat(), path.relative_to(root).as_posix()
        if path.is_dir():
            directories[name] = seen.st_mode & 0o777
        else:
            known = path.suffix in (".bin", ".part") and path.stem not in stems
            files[name] = (seen.st_mode & 0o777, seen.st_mtime_ns if known else None)
    facts = {"session_used_at": used_at.isoformat(), **{f"{name}.bin": records[name]["file"] for name in records}}
    return {"files": files, "directories": directories, "facts": facts}


if __name__ == "__main__":
    if sys.argv[1] == "--step":
        steps = {"sync": _sync, "plan": _plan, "commit": _commit, "login": _login}
        asyncio.run(steps[sys.argv[2]](json.loads(sys.argv[3])))
    else:
        asyncio.run(_leave(Path(sys.argv[1])))
