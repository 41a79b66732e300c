"""Pages that are asked for ahead, over a real session: in order, exactly once, four at a time, and none too many."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import attrs
import pytest
from leaks import stray_tasks
from listings import take
from plain_provider import new_session
from scripted import RawServer, Reply, Seen, json_reply, reply

from arena_async import Paginator
from arena_async.errors import (
    ApiError,
    ClosedError,
    ConfigurationError,
    DecodeError,
    ListingError,
    NotFoundError,
    ServerError,
)
from arena_async.http.paginator import ListQuery
from arena_async.http.session import Session
from arena_async.protocol.messages import Request
from arena_async.protocol.pagination import ListShape
from arena_async.protocol.quota import SlidingWindow

SHAPE = ListShape(max_page_size=10, total=True, key="id")
ROWS = Request(method="GET", path="/rows", scope=None)


class Listing:
    """A list of rows with a true total, whose pages can be held back."""

    def __init__(self, server: RawServer, count: int) -> None:
        self.count = count
        #: Offsets whose page waits for its event.
        self.held: dict[int, asyncio.Event] = {}
        self.max_at_once = self._at_once = 0
        self.echoed_limit: int | None = None
        server.on("GET", "/rows", self.answer)

    async def answer(self, seen: Seen) -> Reply:
        self._at_once += 1
        self.max_at_once = max(self.max_at_once, self._at_once)
        query = {name: int(value) for name, value in (pair.split("=") for pair in seen.query.split("&"))}
        first, limit = query["offset"], min(query["limit"], self.echoed_limit or query["limit"])
        try:
            if first in self.held:
                await self.held[first].wait()
        finally:
            self._at_once -= 1
        numbers = range(first, min(first + limit, self.count))
        return json_reply({"count": self.count, "limit": limit, "results": [{"id": n} for n in numbers]})


@pytest.fixture
async def server() -> AsyncIterator[RawServer]:
    """Yield a server."""
    async with RawServer() as running:
        yield running


@pytest.fixture
async def session(server: RawServer) -> AsyncIterator[Session]:
    """Yield a session with that server."""
    running = new_session(server.base_url, limiter=SlidingWindow(limit=5000))
    yield running
    await running.aclose()


QUERY: ListQuery[int] = ListQuery(ROWS, SHAPE, lambda row: row["id"])


def paginator(session: Session, **how: Any) -> Paginator[int]:
    """Build the pager of the tests; an item is the number of its row."""
    return Paginator(session, QUERY, **how)


def offsets(server: RawServer) -> list[int]:
    """Return the offsets that were asked for, in the order they arrived."""
    return [int(line.partition("offset=")[2].partition("&")[0]) for line in server.lines("GET /rows*")]


async def test_all_rows_come_in_order_and_once_with_four_pages_at_a_time(server: RawServer, session: Session) -> None:
    """The first page alone, since it tells how many there are; then four at once; no page twice and none too many."""
    listing = Listing(server, 95)
    listing.held = {10: asyncio.Event()}
    walk = asyncio.ensure_future(paginator(session).collect())
    await server.arrived(5, "GET /rows*")
    assert sorted(offsets(server)) == [0, 10, 20, 30, 40]
    listing.held[10].set()
    assert await walk == list(range(95))
    assert Counter(offsets(server)) == Counter(range(0, 95, 10))
    assert listing.max_at_once <= 4


async def test_pages_that_overtake_each_other_are_put_in_order(server: RawServer, session: Session) -> None:
    """PG26: the page that was asked for first comes last, one fails three times, and nothing of that shows."""
    listing = Listing(server, 60)
    listing.held = {10: asyncio.Event()}
    failures = iter([503, 503, 503])

    async def answer(seen: Seen) -> Reply:
        if "offset=30" in seen.target and (status := next(failures, None)) is not None:
            return reply(status)
        return await listing.answer(seen)

    server.on("GET", "/rows", answer)
    walk = asyncio.ensure_future(paginator(session).collect())
    await server.arrived(8, "GET /rows*")
    listing.held[10].set()
    assert await walk == list(range(60))
    assert Counter(offsets(server)) == Counter([0, 10, 20, 30, 30, 30, 30, 40, 50])


async def test_a_slow_reader_holds_four_pages_and_no_more(server: RawServer, session: Session) -> None:
    """PG25: the one that is read and three after it; reading on makes room for one."""
    Listing(server, 1000)
    rows = aiter(paginator(session))
    for _ in range(11):
        await anext(rows)
    await server.arrived(5, "GET /rows*")
    assert sorted(offsets(server)) == [0, 10, 20, 30, 40]
    for _ in range(9):
        await anext(rows)
    assert len(server.requests) == 5
    await anext(rows)
    await server.arrived(6, "GET /rows*")
    assert len(server.requests) == 6
    await rows.aclose()


async def over(known: set[asyncio.Task[Any]]) -> None:
    """Wait until no page is on its way any more."""
    async with asyncio.timeout(5):
        while running := stray_tasks(known):
            await asyncio.wait(running)


async def test_a_loop_that_is_left_early_leaves_nothing_running(server: RawServer, session: Session) -> None:
    """PG24: what is on its way ends with the loop, and no request follows."""
    before = asyncio.all_tasks()
    listing = Listing(server, 1000)
    listing.held = {offset: asyncio.Event() for offset in (20, 30, 40)}
    async for row in paginator(session):
        if row == 12:
            break
    await server.arrived(5, "GET /rows*")
    await over(before)
    assert len(server.requests) == 5


async def test_pages_can_be_closed_and_are_then_at_their_end(server: RawServer, session: Session) -> None:
    """Closing waits for what is on its way; twice does no harm."""
    before = asyncio.all_tasks()
    listing = Listing(server, 1000)
    listing.held = {20: asyncio.Event()}
    async with aclosing(paginator(session).pages()) as pages:
        await anext(pages)
        await anext(pages)
        await server.arrived(5, "GET /rows*")
        await pages.aclose()
        assert stray_tasks(before) == []
        with pytest.raises(StopAsyncIteration):
            await anext(pages)
    assert len(server.requests) == 5


async def test_a_reader_that_is_cancelled_ends_what_is_on_its_way(server: RawServer, session: Session) -> None:
    """Whoever waits for a page takes the others along."""
    before = asyncio.all_tasks()
    listing = Listing(server, 1000)
    listing.held = {10: asyncio.Event()}
    walk = asyncio.ensure_future(paginator(session).collect())
    await server.arrived(5, "GET /rows*")
    walk.cancel()
    with pytest.raises(asyncio.CancelledError):
        await walk
    assert stray_tasks(before) == []


async def test_a_client_that_is_closed_ends_what_is_on_its_way(server: RawServer) -> None:
    """And whoever reads gets our own error, not a cancellation nobody asked for."""
    session = new_session(server.base_url, limiter=SlidingWindow(limit=5000))
    listing = Listing(server, 1000)
    listing.held = {10: asyncio.Event()}
    walk = asyncio.ensure_future(paginator(session).collect())
    await server.arrived(5, "GET /rows*")
    await session.aclose()
    with pytest.raises(ClosedError):
        await walk


async def test_so_many_rows_need_no_page_beyond_them(server: RawServer, session: Session) -> None:
    """A limit on the rows is a limit on what is asked for ahead."""
    Listing(server, 1000)
    assert await paginator(session).collect(max_items=25) == list(range(25))
    assert await paginator(session).first() == 0
    assert offsets(server) == [0, 10, 20, 0]


@pytest.mark.parametrize(("count", "pages"), [(0, 1), (1, 1), (10, 1), (11, 2), (20, 2), (50, 5)])
async def test_no_page_is_asked_for_beyond_the_total(
    server: RawServer, session: Session, count: int, pages: int
) -> None:
    """PG01: an exact multiple ends with its last page."""
    Listing(server, count)
    assert await paginator(session).collect() == list(range(count))
    assert len(server.requests) == pages


async def test_one_page_at_a_time_can_be_asked_for(server: RawServer, session: Session) -> None:
    """As for rows whose links begin to end when they are listed."""
    listing = Listing(server, 95)
    listing.held = {20: asyncio.Event()}
    rows = aiter(paginator(session, ahead=1))
    for _ in range(11):
        await anext(rows)
    assert offsets(server) == [0, 10]
    await rows.aclose()
    with pytest.raises(ConfigurationError):
        paginator(session, ahead=0)


async def test_a_total_that_is_none_is_no_reason_to_hurry(server: RawServer, session: Session) -> None:
    """Where the number may be just the page's, each page tells whether there is another."""
    listing = Listing(server, 40)
    plain: Paginator[int] = Paginator(
        session, ListQuery(ROWS, ListShape(max_page_size=10, key="id"), lambda row: row["id"])
    )
    assert await plain.collect() == list(range(40))
    assert listing.max_at_once == 1


async def test_a_service_that_grants_smaller_pages_is_followed(server: RawServer, session: Session) -> None:
    """PG03: every row once, and nobody goes on guessing after the first surprise."""
    listing = Listing(server, 60)
    listing.echoed_limit = 6
    assert await paginator(session).collect() == list(range(60))
    assert Counter(offsets(server)) == Counter(range(0, 60, 6))


async def test_a_page_in_the_middle_that_is_short_costs_the_pages_beyond_it_once(
    server: RawServer, session: Session
) -> None:
    """Nothing says how many rows were granted, so the walk goes on where the rows ended, one page at a time."""

    def answer(seen: Seen) -> Reply:
        query = {name: int(value) for name, value in (pair.split("=") for pair in seen.query.split("&"))}
        first = query["offset"]
        last = 17 if first == 10 else min(first + 10, 60)
        return json_reply({"count": 60, "results": [{"id": n} for n in range(first, last)]})

    server.on("GET", "/rows", answer)
    assert await paginator(session).collect() == list(range(60))
    requested = offsets(server)
    assert [offset for offset in requested if offset % 10 == 7] == [17, 27, 37, 47, 57]
    assert len(requested) <= 2 + 3 + 5


async def test_an_error_comes_in_its_turn_and_says_where_to_go_on(server: RawServer, session: Session) -> None:
    """Rows before it are given first, although it came first; what is on its way behind it ends."""
    before = asyncio.all_tasks()
    listing = Listing(server, 100)
    listing.held = {10: asyncio.Event()}

    async def answer(seen: Seen) -> Reply:
        return reply(501) if "offset=30" in seen.target else await listing.answer(seen)

    server.on("GET", "/rows", answer)
    requested = paginator(session)
    reading = asyncio.ensure_future(take(requested))
    await server.arrived(5, "GET /rows*")
    listing.held[10].set()
    found, error = await reading
    assert found == list(range(30))
    assert isinstance(error, ApiError)
    assert error.status == 501
    assert requested.cursor == 30
    assert stray_tasks(before) == []


@pytest.mark.parametrize(
    ("bad", "error"), [(json_reply({"count": 30, "results": []}), ListingError), (reply(body=b"<html>"), DecodeError)]
)
async def test_a_list_that_shrinks_or_breaks_is_an_error(
    server: RawServer, session: Session, bad: Reply, error: type[Exception]
) -> None:
    """PG06, PG14: never silently short, however many pages are on their way."""
    listing = Listing(server, 100)

    async def answer(seen: Seen) -> Reply:
        return bad if "offset=50" in seen.target else await listing.answer(seen)

    server.on("GET", "/rows", answer)
    found, came = await take(paginator(session))
    assert type(came) is error
    assert found == list(range(50))


async def test_an_allowance_a_minute_holds_for_pages_ahead(server: RawServer) -> None:
    """QU15: four at a time, and still no more than the window lets through."""
    now = [0.0]
    sent: list[float] = []

    async def sleep(seconds: float) -> None:
        now[0] += seconds
        await asyncio.sleep(0)

    listing = Listing(server, 600)

    async def answer(seen: Seen) -> Reply:
        sent.append(now[0])
        return await listing.answer(seen)

    server.on("GET", "/rows", answer)
    session = new_session(
        server.base_url, limiter=SlidingWindow(limit=7, seconds=60.0), clock=lambda: now[0], sleep=sleep
    )
    assert await paginator(session).collect() == list(range(600))
    await session.aclose()
    assert len(sent) == 60
    assert all(later - earlier >= 59.9 for earlier, later in zip(sent, sent[7:], strict=False))


async def test_a_page_says_how_long_it_lay_here(server: RawServer) -> None:
    """What is stamped when it is listed, a link for instance, is older than the moment it is handed out."""
    before = asyncio.all_tasks()
    now = [100.0]
    session = new_session(server.base_url, limiter=SlidingWindow(limit=100), clock=lambda: now[0])
    Listing(server, 50)
    async with aclosing(paginator(session).pages()) as pages:
        first, second = await anext(pages), await anext(pages)
        await server.arrived(5, "GET /rows*")
        await over(before)
        now[0] += 30
        third = await anext(pages)
    await session.aclose()
    assert (first.waited, second.waited, third.waited) == (0, 0, 30)


async def test_a_hundred_thousand_rows_are_never_held(server: RawServer, session: Session) -> None:
    """Their JSON is 41 MB; what is held while they pass is four pages and a number for each key."""
    padding = "x" * 380

    def answer(seen: Seen) -> Reply:
        first = int(seen.query.partition("offset=")[2].partition("&")[0])
        rows = ",".join(f'{{"id":"row {number:>12}","text":"{padding}"}}' for number in range(first, first + 100))
        return reply(body=f'{{"count":100000,"results":[{rows}]}}'.encode())

    server.on("GET", "/rows", answer)
    rows: Paginator[str] = Paginator(
        session, ListQuery(ROWS, ListShape(max_page_size=100, total=True, key="id"), lambda row: row["id"])
    )
    count = 0
    tracemalloc.start()
    try:
        async for _ in rows:
            count += 1
            if not count % 1000:
                server.requests.clear()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 100_000
    assert peak < 15_000_000, peak


# What is asked


async def test_what_to_ask_may_have_to_be_found_out_first(server: RawServer, session: Session) -> None:
    """Once for each pass, before its first page; every page goes to the address that was found."""
    requested: list[str] = []

    async def settle() -> ListQuery[int]:
        requested.append("once")
        return ListQuery(Request(method="GET", path="/rows", scope=None), SHAPE, lambda row: -row["id"])

    Listing(server, 25)
    shown = Request(method="GET", path="/rows of somebody", scope=None)
    late: Paginator[int] = Paginator(session, ListQuery(shown, SHAPE, lambda row: row["id"], settle))
    assert repr(late) == "<Paginator GET /rows of somebody>"
    assert await late.collect() == [-number for number in range(25)]
    assert requested == ["once"]
    assert await late.first() == 0
    assert requested == ["once", "once"]


@pytest.mark.parametrize("exists", [True, False])
async def test_not_found_may_mean_an_empty_list(server: RawServer, session: Session, exists: bool) -> None:
    """Only if somebody can say so; it is empty then, and not known to be whole."""
    server.on("GET", "/rows", reply(404))
    requested: list[NotFoundError] = []

    async def empty_if(error: NotFoundError) -> bool:
        requested.append(error)
        return exists

    listing = Paginator(session, attrs.evolve(QUERY, empty_if=empty_if))
    pages, error = await take(listing.pages())
    if exists:
        assert [page.items for page in pages] == [()]
        assert isinstance(error, ListingError)
        assert "taken as an empty list" in str(error)
    else:
        assert pages == []
        assert isinstance(error, NotFoundError)
    assert len(requested) == 1


async def test_not_found_in_the_middle_is_an_error(server: RawServer, session: Session) -> None:
    """The list was there a moment ago."""
    listing = Listing(server, 50)

    async def empty_if(error: NotFoundError) -> bool:
        return True

    async def answer(seen: Seen) -> Reply:
        return reply(404) if "offset=20" in seen.target else await listing.answer(seen)

    server.on("GET", "/rows", answer)
    with pytest.raises(NotFoundError):
        await Paginator(session, attrs.evolve(QUERY, empty_if=empty_if)).collect()


async def test_an_error_of_the_first_page_is_raised_as_it_is(server: RawServer, session: Session) -> None:
    """Nothing was asked for ahead yet."""
    server.on("GET", "/rows", reply(503))
    with pytest.raises(ServerError):
        await paginator(session).collect()
