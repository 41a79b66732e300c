"""Listings over a real session: rows as they are asked for, and nothing paid for twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from listings import take
from plain_provider import new_session
from scripted import RawServer, Reply, Seen, json_reply, reply

from arena_async import Paginator
from arena_async.errors import (
    ConfigurationError,
    DecodeError,
    ListingError,
    QuotaExhaustedError,
    ServerError,
)
from arena_async.http.paginator import ListQuery
from arena_async.http.session import Session
from arena_async.options import MIB
from arena_async.protocol.messages import Request
from arena_async.protocol.pagination import ListShape
from arena_async.protocol.quota import SlidingWindow

SHAPE = ListShape(max_page_size=10, default=None)
RUNS = Request(method="GET", path="/runs", params={"status": "A*"}, scope=None)


class Listing:
    """A list of rows that honours offset and limit."""

    def __init__(self, server: RawServer, count: int) -> None:
        self.server = server
        self.count = count
        server.on("GET", "/runs", self.answer)

    def answer(self, seen: Seen) -> Reply:
        query = dict(pair.split("=") for pair in seen.query.split("&"))
        first = int(query["offset"])
        numbers = range(first, min(first + int(query["limit"]), self.count))
        return json_reply({"count": len(numbers), "results": [{"guid": f"G{n}", "n": n} for n in numbers]})


@pytest.fixture
async def server() -> AsyncIterator[RawServer]:
    """Yield a server."""
    async with RawServer() as running:
        yield running


@pytest.fixture
async def session(server: RawServer) -> AsyncIterator[Session]:
    """Yield a session with that server."""
    running = new_session(server.base_url, limiter=SlidingWindow(limit=1000))
    yield running
    await running.aclose()


def paginator(session: Session, **how: Any) -> Paginator[int]:
    """Build the pager of the tests; an item is the number of its row."""
    return Paginator(session, ListQuery(RUNS, SHAPE, lambda row: row["n"]), **how)


async def test_all_rows_come_in_order(server: RawServer, session: Session) -> None:
    """The query of the request goes with every page."""
    Listing(server, 25)
    assert [item async for item in paginator(session)] == list(range(25))
    assert server.lines() == [
        "GET /runs?status=A*&offset=0&limit=10",
        "GET /runs?status=A*&offset=10&limit=10",
        "GET /runs?status=A*&offset=20&limit=10",
    ]


async def test_four_thousand_rows_cost_eleven_requests(server: RawServer, session: Session) -> None:
    """Ten full pages, and the empty one that ends it."""
    Listing(server, 4000)
    arena = ListShape(max_page_size=400, default=20)
    found = await Paginator(session, ListQuery(RUNS, arena, lambda row: row["n"])).collect()
    assert found == list(range(4000))
    assert len(server.requests) == 11


async def test_nothing_is_asked_before_it_is_wanted_and_nothing_after(server: RawServer, session: Session) -> None:
    """PG24: a loop that is left early costs the pages it saw, and leaves nothing running."""
    Listing(server, 95)
    listing = paginator(session)
    assert server.requests == []
    tasks = asyncio.all_tasks()
    async for item in listing:
        if item == 12:
            break
    assert len(server.requests) == 2
    assert {task.get_name() for task in asyncio.all_tasks() - tasks} <= {"scripted connection"}


async def test_every_pass_asks_anew(server: RawServer, session: Session) -> None:
    """A pager is a question, not a list."""
    Listing(server, 5)
    listing = paginator(session)
    assert [item async for item in listing] == [item async for item in listing] == list(range(5))
    assert len(server.requests) == 2


async def test_pages_come_as_pages(server: RawServer, session: Session) -> None:
    """With decoded items; the empty page that ends a list is left out."""
    Listing(server, 20)
    pages = [page async for page in paginator(session).pages()]
    assert [(page.offset, page.items) for page in pages] == [(0, tuple(range(10))), (10, tuple(range(10, 20)))]


async def test_an_empty_list_is_one_empty_page(server: RawServer, session: Session) -> None:
    """There was an answer, and it held nothing."""
    Listing(server, 0)
    assert [page.items async for page in paginator(session).pages()] == [()]
    assert await paginator(session).collect() == []


async def test_the_first_row_costs_one_request(server: RawServer, session: Session) -> None:
    """And no more than one row."""
    Listing(server, 95)
    assert await paginator(session).first() == 0
    assert server.lines() == ["GET /runs?status=A*&offset=0&limit=1"]


async def test_there_may_be_no_first_row(server: RawServer, session: Session) -> None:
    """None says so."""
    Listing(server, 0)
    assert await paginator(session).first() is None


@pytest.mark.parametrize(
    ("max_items", "count", "requests"), [(0, 0, 0), (7, 7, 1), (10, 10, 1), (11, 11, 2), (99, 25, 3)]
)
async def test_so_many_rows_and_no_more(
    server: RawServer, session: Session, max_items: int, count: int, requests: int
) -> None:
    """No page is asked for beyond the one that holds the last row."""
    Listing(server, 25)
    assert await paginator(session).collect(max_items=max_items) == list(range(count))
    assert len(server.requests) == requests


async def test_a_list_without_pages_is_asked_for_as_it_is(server: RawServer, session: Session) -> None:
    """Some endpoints refuse parameters they do not know."""
    server.on("GET", "/runs", json_reply({"results": [{"guid": str(n), "n": n} for n in range(50)]}))
    shape = ListShape(max_page_size=10, paged=False)
    assert await Paginator(session, ListQuery(RUNS, shape, lambda row: row["n"])).collect() == list(range(50))
    assert server.lines() == ["GET /runs?status=A*"]


async def test_a_page_that_cannot_be_read_is_asked_for_once_more(server: RawServer, session: Session) -> None:
    """PG14: it may have been cut by something on the way."""
    server.on("GET", "/runs", reply(body=b'{"results": [{"gu'), json_reply({"results": []}))
    assert await paginator(session).collect() == []
    assert len(server.requests) == 2


@pytest.mark.parametrize("body", [b'{"results": [{"gu', b"<html>", b"", b"[]", b"\xff", b"[" * 100_000])
async def test_a_page_that_cannot_be_read_twice_is_an_error(server: RawServer, session: Session, body: bytes) -> None:
    """PG14, PG16: with the offset to go on from."""
    listing = Listing(server, 25)
    server.on("GET", "/runs", listing.answer, reply(body=body))
    requested = paginator(session)
    found, error = await take(requested)
    assert isinstance(error, DecodeError)
    assert found == list(range(10))
    assert len(server.requests) == 3
    assert requested.cursor == 10


async def test_a_page_that_is_too_large_is_not_asked_for_again(server: RawServer, session: Session) -> None:
    """PG17: it is as large the second time."""
    server.on("GET", "/runs", reply(body=b" " * (17 * MIB)))
    with pytest.raises(DecodeError, match="16 MiB"):
        await paginator(session).collect()
    assert len(server.requests) == 1


async def test_rows_that_were_counted_and_did_not_come_are_an_error(server: RawServer, session: Session) -> None:
    """PG06: after the rows that came."""
    counted = {"count": 12, "results": [{"guid": "G0", "n": 0}]}
    server.on("GET", "/runs", json_reply(counted), json_reply({"count": 12, "results": []}))
    found, error = await take(paginator(session))
    assert found == [0]
    assert isinstance(error, ListingError)
    assert len(server.requests) == 3
    assert str(error).startswith("GET /runs: the page at offset 1 is empty, of 12 rows, twice in a row.")


async def test_an_allowance_that_ends_in_the_middle_says_where(server: RawServer) -> None:
    """PG23: the pages before are not paid for again."""
    listing = Listing(server, 25)
    left = iter([5, 0])

    def answer(seen: Seen) -> Reply:
        page = listing.answer(seen)
        return Reply(body=page.body, headers=(("X-Remaining", str(next(left, 3))),))

    server.on("GET", "/runs", answer)
    session = new_session(server.base_url)
    requested = paginator(session)
    found, error = await take(requested)
    await session.aclose()
    assert isinstance(error, QuotaExhaustedError)
    assert (error.cursor, requested.cursor) == (20, 20)

    tomorrow = new_session(server.base_url)
    found += await paginator(tomorrow, start=requested.cursor).collect()
    await tomorrow.aclose()
    assert found == list(range(25))
    assert len(server.requests) == 3


async def test_a_session_that_dies_in_the_middle_costs_one_page_more(server: RawServer, session: Session) -> None:
    """PG22: nothing is lost or repeated."""
    listing = Listing(server, 25)
    server.on("POST", "/login", json_reply({"id": "S1"}), json_reply({"id": "S2"}))
    server.on("PUT", "/logout", reply())
    server.on("GET", "/runs", listing.answer, reply(401), listing.answer)
    request = Request(method="GET", path="/runs")
    found = await Paginator(session, ListQuery(request, SHAPE, lambda row: row["n"])).collect()
    assert found == list(range(25))
    assert len(server.lines("GET *")) == 4


async def test_an_error_ends_the_pass(server: RawServer, session: Session) -> None:
    """Whoever goes on asking gets the end, and a new pass from the cursor gets the rest."""
    listing = Listing(server, 25)
    server.on("GET", "/runs", listing.answer, *[reply(503)] * 5, listing.answer)
    requested = paginator(session)
    pages = requested.pages()
    await anext(pages)
    with pytest.raises(ServerError):
        await anext(pages)
    with pytest.raises(StopAsyncIteration):
        await anext(pages)
    assert await paginator(session, start=requested.cursor).collect() == list(range(10, 25))


async def test_a_list_that_lies_is_an_error(server: RawServer, session: Session) -> None:
    """PG04: the offset is ignored."""
    server.on("GET", "/runs", json_reply({"results": [{"guid": str(n), "n": n} for n in range(10)]}))
    with pytest.raises(ListingError, match="GET /runs: the page at offset 10"):
        await paginator(session).collect()
    assert len(server.requests) == 2


@pytest.mark.parametrize("how", [{"limit": 0}, {"limit": 11}, {"start": -1}])
async def test_a_page_out_of_range_is_refused_at_once(session: Session, how: dict[str, int]) -> None:
    """Where the pager is made, not where it is used."""
    with pytest.raises(ConfigurationError):
        paginator(session, **how)
