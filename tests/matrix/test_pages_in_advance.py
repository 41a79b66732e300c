"""Rows PG24 to PG26: pages that were asked for before they are wanted."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest
from matrix import World, row
from scripted import RawServer, Reply, Seen, reply
from services import CentrePointScript, requested, studies
from session_files import Hours

from arena_async.http.paginator import ListQuery, Paginator
from arena_async.protocol.messages import Request
from arena_async.providers.centrepoint.adapter import list_shape
from arena_async.providers.centrepoint.auth import CENTREPOINT

STUDIES = "/centrepoint/v3/Studies"


def offsets(server: RawServer) -> list[int]:
    """Return the offsets that were asked for, in the order they arrived."""
    return [requested(seen)[0] for seen in server.requests if seen.method == "GET"]


async def settled(rounds: int = 30) -> None:
    """Let everything run that can run."""
    for _ in range(rounds):
        await asyncio.sleep(0.001)


@row("PG24", protection="leaving a list ends what is on its way", seconds=15)
@pytest.mark.parametrize("how", ["break", "drop", "cancel"])
async def test_leaving_a_list_ends_what_is_on_its_way(world: World, how: str) -> None:
    """PG24: four pages are on their way when the reader leaves; what they would have asked again is never sent."""
    go = asyncio.Event()

    async def answer(seen: Seen) -> Reply:
        offset, limit = requested(seen)
        if offset < 200:
            return studies(range(offset, offset + limit), total=1000, offset=offset, limit=limit)
        await go.wait()
        return reply(503)

    async with RawServer() as server:
        script = CentrePointScript(world, server)
        script.on("GET", STUDIES, answer)
        async with script.client() as centrepoint:
            rows = aiter(centrepoint.studies.search())

            async def read() -> int:
                async for study in rows:
                    if study.id == 150 and how == "break":
                        return study.id
                raise AssertionError

            if how == "drop":
                for _ in range(150):
                    await anext(rows)
                await server.arrived(5, "GET *")
                del rows
                gc.collect()
            elif how == "cancel":
                reading = asyncio.create_task(read())
                await server.arrived(6, "GET *")
                reading.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await reading
            else:
                assert await read() == 150
                await server.arrived(5, "GET *")
                await rows.aclose()
            await settled()
            seen_before = len(server.requests)
            go.set()
            await settled()
            assert len(server.requests) == seen_before
            assert max(offsets(server)) <= 500


@row("PG25", protection="no more than four pages are held")
async def test_a_slow_reader_holds_four_pages_and_outlives_tokens(world: World) -> None:
    """PG25: ten seconds a row, 200 rows in pages of ten: four pages held, and tokens that end are replaced before."""
    hours = Hours()
    given: dict[str, float] = {}
    refused = 0
    async with RawServer() as server:
        script = CentrePointScript(world, server)
        script.expires_in = 300

        def answer(seen: Seen) -> Reply:
            nonlocal refused
            token = (seen.header("Authorization") or "").removeprefix("Bearer ")
            if hours.passed - given.setdefault(token, hours.passed) > 300:
                refused += 1
                return reply(401)
            offset, limit = requested(seen)
            return studies(range(offset, offset + limit), total=200, offset=offset, limit=limit)

        script.on("GET", STUDIES, answer)
        async with script.session(hours) as session:
            request = Request(method="GET", path=STUDIES, scope=CENTREPOINT)
            rows: Paginator[int] = Paginator(
                session, ListQuery(request, list_shape("id"), lambda item: item["id"]), limit=10
            )
            found = []
            async for number in rows:
                found.append(number)
                hours.passed += 10
                for _ in range(3):  # what can be asked for ahead is
                    await asyncio.sleep(0)
                assert len(offsets(server)) <= number // 10 + 1 + 4

    assert found == list(range(200))
    assert sorted(offsets(server)) == list(range(0, 200, 10))
    assert refused == 0
    # A token serves for nine tenths of its five minutes, and the last pages are asked for after 1,600 s.
    assert len(script.scopes) == 6


@row("PG26", protection="pages are handed out in order")
async def test_pages_that_overtake_each_other_are_handed_out_in_order(world: World) -> None:
    """PG26: the first of four comes last, one is 500 three times: every row once and in order, no page too many."""
    last, failures = asyncio.Event(), [500, 500, 500]

    async def answer(seen: Seen) -> Reply:
        offset, limit = requested(seen)
        if offset == 100:
            await last.wait()
        if offset == 300 and failures:
            return reply(failures.pop())
        if offset == 400:
            last.set()
        return studies(range(offset, min(offset + limit, 650)), total=650, offset=offset, limit=limit)

    async with RawServer() as server:
        script = CentrePointScript(world, server)
        script.on("GET", STUDIES, answer)
        async with script.client() as centrepoint:
            found: list[Any] = [study.id async for study in centrepoint.studies.search()]

    assert found == list(range(650))
    assert sorted(offsets(server)) == [0, 100, 200, 300, 300, 300, 300, 400, 500, 600]
