"""What a killed process of an older version has left is taken up where it was: nothing that is here comes again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
import trustme
from broken_wire import serving, trusting
from interrupted import API, BODIES, EXTRACT, HOST, USER, WORKSPACE, Interrupted, Pinned, body_of, restore, url_of
from scripted import RawServer, Seen, json_reply
from session_files import ranged

from arena_async import Action, ArenaClient, ArenaCredentials, Mirror, Plan, Report, UrlSet
from arena_async.options import Clock

#: Files that need no request, and those of which something or all is missing.
HERE = ("complete-1.bin", "complete-2.bin", "renamed.bin", "verified.bin")
MISSING = ("missing.bin", "partial.bin", "split.bin")


@pytest.fixture
def left(tmp_path: Path) -> Interrupted:
    """Return what was left, as it was left."""
    return restore(tmp_path)


@pytest.fixture
def authority() -> trustme.CA:
    """Return who vouches for the server."""
    return trustme.CA()


@pytest.fixture
async def server(left: Interrupted, authority: trustme.CA) -> AsyncIterator[RawServer]:
    """
    Serve the files over TLS, as an honest file host does, but for the bytes that are recorded as being here.

    Those are all zero: who takes them from the server and not from the disk ends with another file.
    """
    async with RawServer(ssl_context=serving(authority, HOST)) as server:
        for name in BODIES:
            body, etag = bytearray(body_of(name)), f'"{name.removesuffix(".bin")}"'
            for first, end in here(left, name):
                body[first:end] = bytes(end - first)
            served = ranged(bytes(body), etag=etag, headers={"Accept-Ranges": "bytes"})
            server.on("GET", f"/data/{name}", served)
        yield server


def here(left: Interrupted, name: str) -> list[tuple[int, int]]:
    """Return the parts of a file that its control record knows to be on the disk."""
    if name not in left.facts:
        return []
    record = left.record(name)
    return [(0, record["offset"]), *((first, end) for first, end, _ in record["ahead"])]


@asynccontextmanager
async def files_of(server: RawServer, authority: trustme.CA) -> AsyncIterator[UrlSet]:
    """Open the set that was listed when it was left."""
    async with (
        Pinned.connector(server.port) as connector,
        UrlSet([url_of(name) for name in BODIES], ssl=trusting(authority), connector=connector) as files,
    ):
        yield files


def named(mirror: Path) -> dict[str, str]:
    """Return the digest of every file with a final name."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in mirror.iterdir() if path.is_file()}


def requested(server: RawServer, name: str) -> list[Seen]:
    """Return the requests for a file."""
    return [seen for seen in server.requests if seen.path == f"/data/{name}"]


def check_end(report: Report, left: Interrupted) -> None:
    """Check that everything is here and right, and nothing is on its way any more."""
    report.raise_for_failures()
    assert named(left.mirror) == {name: hashlib.sha256(body_of(name)).hexdigest() for name in BODIES}
    assert list((left.mirror / ".arena-async" / "partial").iterdir()) == []


async def test_verified_files_get_their_names_without_a_request(left: Interrupted, server: RawServer) -> None:
    """One had its name already, and the other one gets it; both are complete then."""
    assert sorted(named(left.mirror)) == ["complete-1.bin", "complete-2.bin", "renamed.bin"]
    async with Mirror(left.mirror) as mirror:
        entries = {entry.path: entry.state async for entry in mirror.entries()}
        seen = await mirror.verify()

    assert named(left.mirror) == {name: hashlib.sha256(body_of(name)).hexdigest() for name in HERE}
    assert entries == dict.fromkeys(HERE, "complete")
    assert (seen.ok, seen.bad, seen.unknown) == (4, (), ())
    assert server.requests == []


async def test_a_sync_asks_only_for_what_is_missing(
    left: Interrupted, server: RawServer, authority: trustme.CA
) -> None:
    """Complete files are kept, a partial file goes on at the recorded byte, a split one fills its gaps."""
    (_, offset), *_ = here(left, "partial.bin")
    split = here(left, "split.bin")
    async with files_of(server, authority) as files, Mirror(left.mirror) as mirror:
        report = await mirror.sync(files)
        sent = files.requests_sent

    check_end(report, left)
    counts = {action: count for action, count in report.counts.items() if count}
    assert counts == {Action.KEEP: 4, Action.RESUME: 2, Action.FETCH: 1}
    assert sent == len(server.requests)
    assert {seen.path for seen in server.requests} == {f"/data/{name}" for name in MISSING}
    (whole,), (rest,) = requested(server, "missing.bin"), requested(server, "partial.bin")
    assert (whole.header("Range"), whole.header("If-Match")) == (None, None)
    assert (offset, rest.header("Range"), rest.header("If-Match")) == (32_768, "bytes=32768-", '"partial"')
    check_gaps(requested(server, "split.bin"), split)


def check_gaps(requests: list[Seen], held: list[tuple[int, int]]) -> None:
    """Check that each request begins in a gap, the first gap included, and one that says its end ends in the same."""
    assert held == [(0, 49_152), (65_536, 114_688)]
    gaps = [(49_152, 65_536), (114_688, BODIES["split.bin"])]
    begins = []
    for seen in requests:
        assert seen.header("If-Match") == '"split"'
        first, _, last = (seen.header("Range") or "").removeprefix("bytes=").partition("-")
        begins.append(int(first))
        (gap,) = [(begin, end) for begin, end in gaps if begin <= int(first) < end]
        assert not last or int(last) < gap[1]
    assert {49_152, 114_688} <= set(begins)


async def test_a_written_plan_is_carried_out(left: Interrupted, server: RawServer, authority: trustme.CA) -> None:
    """What has become complete since it was made is not asked for, and the rest as without the plan."""
    plan = Plan.from_json((left.root / "plan.json").read_text())
    async with files_of(server, authority) as files, Mirror(left.mirror) as mirror:
        report = await mirror.sync(files, plan=plan)

    check_end(report, left)
    assert {row.path: row.action for row in plan.files} == {
        "complete-2.bin": Action.FETCH,
        "missing.bin": Action.FETCH,
        "partial.bin": Action.RESUME,
        "renamed.bin": Action.FETCH,
        "split.bin": Action.RESUME,
        "verified.bin": Action.FETCH,
    }
    assert {seen.path for seen in server.requests} == {f"/data/{name}" for name in MISSING}
    assert [seen.header("Range") for seen in requested(server, "partial.bin")] == ["bytes=32768-"]


async def test_a_plan_says_the_same_again(left: Interrupted, server: RawServer, authority: trustme.CA) -> None:
    """Written down once more, nothing of it has changed."""
    text = (left.root / "plan.json").read_text()

    assert json.loads(Plan.from_json(text).to_json()) == json.loads(text)


async def test_a_stored_session_is_used_without_a_login(left: Interrupted, authority: trustme.CA) -> None:
    """Within its 90 minutes, and nobody logs out of it."""
    async with RawServer(ssl_context=serving(authority, API)) as server:
        server.on("GET", "/v1/*", json_reply({"guid": EXTRACT, "name": "All parts"}))
        async with (
            Pinned.connector(server.port) as connector,
            ArenaClient(
                ArenaCredentials(USER, "planted-password"),
                workspace_id=WORKSPACE,
                session_store=left.store,
                ssl=trusting(authority),
                connector=connector,
                clock=Clock(now=lambda: left.used_at + timedelta(minutes=20)),
            ) as arena,
        ):
            extract = await arena.extracts.get(EXTRACT)

    assert extract.guid == EXTRACT
    assert [seen.method for seen in server.requests] == ["GET"]
    assert server.requests[0].header("arena_session_id") == "ML4nT3dS3ss10n1dOfAnArenaUser"
