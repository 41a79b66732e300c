"""Rows SA05 and SA24 to SA26: how long a session is good, and where it may be used and shown."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import sys
from datetime import datetime, timedelta
from pathlib import Path

from matrix import World, row
from scripted import RawServer, Reply, Seen, json_reply, reply
from services import ArenaScript, CentrePointScript, zipped
from session_files import Hours, download

from arena_async.protocol.messages import Request

THINGS = Request(method="GET", path="/things")
LOGIN, THING, LOGOUT = "POST /v1/login", "GET /v1/things", "PUT /v1/logout"
MINUTE = 60.0


@row("SA05", protection="a session is renewed before it has idled away")
async def test_a_session_is_renewed_before_it_dies_of_idleness(world: World) -> None:
    """
    SA05: after 91 minutes of rest a login comes first, and after 89 too; a call in between begins the time anew.

    The service ends a session after 90 minutes of rest, and no request ever meets a session that is over.
    """
    hours = Hours()
    async with RawServer() as server:
        script, used = ArenaScript(world, server), 0.0

        def things(_: Seen) -> Reply:
            nonlocal used
            rested, used = hours.passed - used, hours.passed
            return json_reply({}) if rested < 90 * MINUTE or script.logins > given[-1] else reply(401)

        given = [0]
        script.on("GET", "/things", things)
        async with script.session(hours) as session:
            for minutes in (0, 91, 89, 60, 60, 60):
                hours.passed += minutes * MINUTE
                assert (await session.send(THINGS)).status == 200
                given.append(script.logins)

    assert given == [0, 1, 2, 3, 3, 3, 3]
    assert server.lines() == [LOGIN, THING, LOGIN, THING, LOGIN, *[THING] * 4, LOGOUT]


class Jumping(Hours):
    """Time whose date can be set by hand."""

    shift = timedelta(0)

    def now(self) -> datetime:
        return super().now() + self.shift


@row("SA24", protection="lifetimes are measured on a clock that never jumps")
async def test_the_date_may_jump(world: World) -> None:
    """SA24: a day on, a day back: no login; 91 minutes of rest on a day set back: one; a session that died: one 401."""
    hours = Jumping()
    async with RawServer() as server:
        script = ArenaScript(world, server)
        script.on("GET", "/things", json_reply({}))
        async with script.session(hours) as session:
            for days in (0, 1, -1, 1, -400, 400):
                hours.shift = timedelta(days=days)
                for _ in range(3):
                    await session.send(THINGS)
            assert script.logins == 1
            hours.shift = timedelta(days=-1)
            hours.passed += 91 * MINUTE
            await session.send(THINGS)
            assert (script.logins, script.sent_with("/v1/things")) == (2, [1] * 18 + [2])
            hours.shift, script.alive = timedelta(days=1), ""
            await session.send(THINGS)

    assert script.sent_with("/v1/things") == [1] * 18 + [2, 2, 3]
    assert len(server.lines("POST *")) == 3


@row("SA25", protection="a client belongs to one event loop of one process")
async def test_another_loop_or_process_is_refused_at_once(world: World) -> None:
    """SA25: a second event loop, a fork inside a running loop, a loop of the forked child: an error in plain words."""
    async with RawServer() as server:
        script = ArenaScript(world, server)
        script.on("GET", "/things", json_reply({}))
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            str(Path(__file__).parents[1] / "support" / "misuse_child.py"),
            json.dumps({"base_url": f"{server.base_url}/v1", "password": world.secrets["password"]}),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        said, complained = await child.communicate()

    world.saw(said.decode(), complained.decode())
    *reported, last = [json.loads(line) for line in said.decode().splitlines()]
    script.elsewhere = last["booked"]
    forked = ["forked, same loop", "forked, own loop"] if hasattr(os, "fork") else []
    assert [line["how"] for line in reported] == ["second loop", *forked, *(["parent goes on"] if forked else [])]
    for line in reported:
        if line["how"] == "parent goes on":
            assert line["error"] is None
            continue
        assert line["error"] == "ClosedError", complained.decode()
        assert "another event loop or another process" in line["message"]
        assert line["seconds"] < 10
    assert server.lines("GET *") == [THING] * (3 if forked else 1)


@row("SA26", protection="credentials go to the own origin only")
async def test_a_host_that_content_is_redirected_to_sees_no_credential(world: World) -> None:
    """SA26: content of Arena behind a signed link of somebody else: neither session header nor cookie goes there."""
    body = zipped(64)
    async with RawServer() as server, RawServer() as blobs:
        script = ArenaScript(world, server)
        link = f"{blobs.base_url}/blob/a.zip?sig={world.secrets['sig']}"
        run = {"guid": "R", "status": "COMPLETED", "completionDateTime": "2026-05-01T06:00:00Z"}
        script.on("GET", "/extracts/E/runs/R", json_reply({**run, "files": [{"guid": "A"}]}))
        association = {"guid": "A", "file": {"guid": "F", "name": "a.zip", "size": len(body)}}
        script.on("GET", "/extracts/E/runs/R/files", json_reply({"count": 1, "results": [association]}))
        cookie = {"Location": link, "Set-Cookie": f"session={world.secrets['session']}; Path=/"}
        script.on("GET", "/extracts/E/runs/R/files/A/content", reply(302, headers=cookie))
        blobs.on("GET", "/blob/a.zip", reply(body=body))
        async with script.client() as arena:
            report = await download(world, arena.extracts.files("E", "R"))

    report.raise_for_failures()
    (seen,) = blobs.requests
    assert seen.target == f"/blob/a.zip?sig={world.secrets['sig']}"
    assert {name.lower() for name, _ in seen.headers} == {"host", "user-agent", "accept", "accept-encoding"}


@row("SA26", protection="a signed link needs no token")
async def test_the_host_of_a_signed_link_sees_no_credential(world: World) -> None:
    """SA26: a dataset file of CentrePoint: the host of its link gets the link byte for byte, no token and no cookie."""
    body = gzip.compress(b"Timestamp,Axis\n1,2\n")
    async with RawServer() as server, RawServer() as blobs:
        script = CentrePointScript(world, server)
        link = f"{blobs.base_url}/day/a.csv.gz?se=2099-06-04T18%3A31%3A23Z&sig={world.secrets['sig']}"
        script.dataset_file(link, **{"Set-Cookie": f"session={world.secrets['session']}; Path=/"})
        blobs.on("GET", "/day/a.csv.gz", reply(body=body))
        async with script.client() as centrepoint:
            report = await download(world, centrepoint.datasets.files(234))

    report.raise_for_failures()
    (seen,) = blobs.requests
    assert seen.target == f"/day/a.csv.gz?se=2099-06-04T18%3A31%3A23Z&sig={world.secrets['sig']}"
    assert {name.lower() for name, _ in seen.headers} == {"host", "user-agent", "accept", "accept-encoding"}
