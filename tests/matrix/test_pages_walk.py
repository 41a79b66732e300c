"""Rows PG01 to PG07, PG10 to PG12 and PG19 to PG23: a listing is whole or it is an error, at the fewest requests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from listings import take
from matrix import World, case, row
from scripted import RawServer, Reply, Seen, json_reply, reply
from services import ArenaScript, CentrePointScript, arena_error, page, requested, studies

from arena_async.errors import ArenaAsyncError, DecodeError, ListingError, QuotaExhaustedError
from arena_async.http.paginator import ListQuery, Paginator
from arena_async.protocol.messages import Request
from arena_async.protocol.pagination import Page, PageRequest
from arena_async.providers.arena.adapter import LIST, ArenaAdapter
from arena_async.providers.centrepoint.adapter import CentrePointAdapter, list_shape
from arena_async.providers.centrepoint.auth import CENTREPOINT

AT_THE_END = "a list that has come to its end is not asked for more"
STUDIES = "/centrepoint/v3/Studies"
EXTRACTS = "/extracts"


@asynccontextmanager
async def arena_list(world: World, answer: Callable[[Seen], Reply]) -> AsyncIterator[tuple[Any, RawServer]]:
    """Yield an Arena whose list of extracts answers as told."""
    async with RawServer() as server:
        script = ArenaScript(world, server)
        script.on("GET", EXTRACTS, answer)
        async with script.client() as arena:
            yield arena.extracts, server


@asynccontextmanager
async def centrepoint_list(world: World, answer: Callable[[Seen], Reply]) -> AsyncIterator[tuple[Any, RawServer]]:
    """Yield a CentrePoint whose list of studies answers as told."""
    async with RawServer() as server:
        script = CentrePointScript(world, server)
        script.on("GET", STUDIES, answer)
        async with script.client() as centrepoint:
            yield centrepoint.studies, server


def offsets(server: RawServer) -> list[int]:
    """Return the offsets that were asked for, sorted: pages that are asked for ahead may overtake each other."""
    return sorted(requested(seen)[0] for seen in server.requests if seen.method == "GET")


def extracts(numbers: Iterable[int]) -> list[dict[str, str]]:
    """Write extracts."""
    return [{"guid": f"G{number}"} for number in numbers]


async def taken(rows: Any) -> tuple[list[Any], ArenaAsyncError | None]:
    """Walk to the end or to the error, and give what came before it."""
    found: list[Any] = []
    try:
        async for item in rows:
            found.append(getattr(item, "guid", None) or item.id)  # noqa: PERF401 - what came before the error is wanted
    except (ListingError, QuotaExhaustedError) as error:
        return found, error
    return found, None


@row("PG01", protection="a total that can be trusted ends a list")
@pytest.mark.parametrize(
    ("count", "requests"),
    [
        case(0, 1, protection=AT_THE_END),
        case(1, 1, protection=AT_THE_END),
        (100, 1),
        case(101, 2, protection=AT_THE_END),
        (200, 2),
    ],
)
async def test_a_known_total_costs_no_surplus_request(world: World, count: int, requests: int) -> None:
    """PG01: a multiple of the page, nothing, one row: as many pages as there are."""
    async with RawServer() as server:
        script = CentrePointScript(world, server)
        script.studies(count)
        async with script.client() as centrepoint:
            found = await centrepoint.studies.search().collect()
    assert [study.id for study in found] == list(range(count))
    assert len(server.lines("GET *")) == requests


@row("PG01", protection="a page that is shorter than asked is the last")
@pytest.mark.parametrize(
    ("count", "requests"),
    [
        case(0, 1, protection=AT_THE_END),
        (1, 1),
        (9, 1),
        case(10, 2, protection=AT_THE_END),
        (11, 2),
        case(30, 4, protection=AT_THE_END),
    ],
)
async def test_without_a_total_one_short_page_is_the_end(world: World, count: int, requests: int) -> None:
    """PG01: the count of Arena may be the page's, so that a full page is followed by one more, which may be empty."""
    async with RawServer() as server:
        script = ArenaScript(world, server)
        script.extracts(count)
        async with script.client() as arena:
            found = await arena.extracts.search(limit=10).collect()
    assert [extract.guid for extract in found] == [f"G{number}" for number in range(count)]
    assert len(server.lines("GET *")) == requests


@row("PG02", protection="a number that may be the page's ends nothing")
@pytest.mark.parametrize(
    ("counted", "pages"),
    [
        (lambda rows: rows, [0, 10, 20]),
        case(lambda _: 25, [0, 9, 18], protection="a page that is shorter than asked is the last"),
        (lambda _: None, [0, 10, 20]),
        case(lambda _: "25", [0, 9, 18], protection="a page that is shorter than asked is the last"),
    ],
)
async def test_a_count_of_either_kind_loses_nothing(
    world: World, counted: Callable[[int], object], pages: list[int]
) -> None:
    """
    PG02: rows of this page, rows in all, nothing, text: all 25 rows come in three pages.

    By the design pages have one row in common where that takes no further request, which the number in all tells.
    """
    async with RawServer() as server:
        script = ArenaScript(world, server)
        script.extracts(25, counted=counted)
        async with script.client() as arena:
            found = await arena.extracts.search(limit=10).collect()
    assert [extract.guid for extract in found] == [f"G{number}" for number in range(25)]
    assert offsets(server) == pages


@row("PG02", protection="a number that may be the page's ends nothing")
async def test_a_count_that_is_nonsense_ends_nothing(world: World) -> None:
    """PG02: always 1: all 25 rows come, and by the design they are not known to be all."""
    async with RawServer() as server:
        script = ArenaScript(world, server)
        script.extracts(25, counted=lambda _: 1)
        async with script.client() as arena:
            rows, error = await taken(arena.extracts.search(limit=10))
    world.saw(error)
    assert rows == [f"G{number}" for number in range(25)]
    assert "25 of 1 rows" in str(error)
    assert offsets(server) == [0, 10, 20]


@row("PG03", protection="a walk goes on by what was granted")
@pytest.mark.parametrize("echoed", [40, None], ids=["says so", "says nothing"])
async def test_a_page_that_was_capped_is_followed_by_what_came(world: World, echoed: int | None) -> None:
    """PG03: 100 rows are asked for and 40 are given: the next page begins at 40."""

    def answer(seen: Seen) -> Reply:
        offset, _ = requested(seen)
        return studies(range(offset, min(offset + 40, 110)), total=110, offset=offset, limit=echoed)

    async with centrepoint_list(world, answer) as (found, server):
        assert await taken(found.search()) == (list(range(110)), None)
    assert offsets(server) == [0, 40, 80]


@row("PG03", protection="a walk goes on by what was granted")
@pytest.mark.parametrize("counted", [lambda rows: rows, lambda _: 95], ids=["of the page", "in all"])
async def test_a_limit_that_is_ignored_is_noticed(world: World, counted: Callable[[int], object]) -> None:
    """
    PG03: Arena gives its documented default of 20 rows whatever is asked for: the walk goes on by twenties.

    The design bounds this: a cap of another size shows only where the count is above the rows of the page.
    """

    def answer(seen: Seen) -> Reply:
        offset, _ = requested(seen)
        rows = extracts(range(offset, min(offset + 20, 95)))
        return page(rows, count=counted(len(rows)))

    async with arena_list(world, answer) as (found, server):
        assert await taken(found.search()) == ([f"G{n}" for n in range(95)], None)
    assert offsets(server) == [0, 20, 40, 60, 80]


@row("PG04", protection="rows that come again are noticed")
async def test_a_service_that_ignores_offset_and_limit_gives_the_whole_list_at_once(world: World) -> None:
    """PG04: 950 rows where 400 were asked for are the list, from either service; nothing more is asked."""
    whole = page(extracts(range(950)))
    async with arena_list(world, lambda _: whole) as (found, server):
        assert await taken(found.search()) == ([f"G{n}" for n in range(950)], None)
    assert offsets(server) == [0]
    listed = studies(range(950), total=950)
    async with centrepoint_list(world, lambda _: listed) as (found, server):
        assert await taken(found.search()) == (list(range(950)), None)
    assert offsets(server) == [0]

    def again(seen: Seen) -> Reply:
        """Return the first page for ever, and an end to the test."""
        return page(extracts(range(10))) if requested(seen)[0] < 300 else reply(404)

    async with arena_list(world, again) as (found, server):
        rows, error = await taken(found.search(limit=10))
    world.saw(error)
    assert rows == [f"G{n}" for n in range(10)]
    assert isinstance(error, ListingError)
    assert (error.cursor, offsets(server)) == (10, [0, 10])


@row("PG05", protection="rows that come again are noticed")
async def test_a_last_page_that_is_given_for_ever_is_noticed(world: World) -> None:
    """PG05: past its end of thirty rows the service gives the last ten again: an error that says where, no loop."""

    def answer(seen: Seen) -> Reply:
        offset = requested(seen)[0]
        return page(extracts(range(min(offset, 20), min(offset, 20) + 10))) if offset < 300 else reply(404)

    async with arena_list(world, answer) as (found, server):
        rows, error = await taken(found.search(limit=10))
    world.saw(error)
    assert rows == [f"G{n}" for n in range(30)]
    assert isinstance(error, ListingError)
    assert (error.cursor, offsets(server)) == (30, [0, 10, 20, 30])


@row("PG06", protection="an early empty page is no end")
@pytest.mark.parametrize("again", [True, False], ids=["for good", "once"])
async def test_an_early_empty_page_is_asked_for_once_more(world: World, again: bool) -> None:
    """PG06: empty at 200 of 500: once more; rows then, or an error with offset and number: never a short list."""
    empty = [200, 200] if again else [200]

    def answer(seen: Seen) -> Reply:
        offset, limit = requested(seen)
        if offset in empty:
            empty.remove(offset)
            return studies([], total=500, offset=offset, limit=limit)
        return studies(range(offset, offset + limit), total=500, offset=offset, limit=limit)

    async with centrepoint_list(world, answer) as (found, server):
        rows, error = await taken(found.search())
    world.saw(error)
    assert offsets(server).count(200) == 2
    if not again:
        assert (rows, error) == (list(range(500)), None)
        return
    assert rows == list(range(200))
    assert isinstance(error, ListingError)
    assert error.cursor == 200
    assert "offset 200" in str(error)
    assert "500 rows" in str(error)


@row("PG06", protection="an early empty page is no end")
async def test_an_early_empty_page_of_arena_is_asked_for_once_more(world: World) -> None:
    """PG06: Arena counts 25 rows and has 20: an empty page is asked for once more; then an error after the rows."""

    def answer(seen: Seen) -> Reply:
        offset, limit = requested(seen)
        return page(extracts(range(offset, min(offset + limit, 20))), count=25)

    async with arena_list(world, answer) as (found, server):
        rows, error = await taken(found.search(limit=10))
    world.saw(error)
    assert rows == [f"G{n}" for n in range(20)]
    assert "offset 20 is empty, of 25 rows, twice in a row" in str(error)
    assert offsets(server) == [0, 9, 18, 20, 20]


@row("PG07", protection="the end of a list is judged by the offset")
async def test_hidden_rows_shorten_pages_and_are_missing(world: World) -> None:
    """
    PG07: pages of 93, 0 hidden in the last: the next page begins where the limit ends, and the total is the end.

    By the design rows that are counted and do not come are an error, after those that did.
    """
    hidden = set(range(20, 27)) | set(range(110, 113))

    def answer(seen: Seen) -> Reply:
        offset, limit = requested(seen)
        numbers = (number for number in range(offset, min(offset + limit, 250)) if number not in hidden)
        return studies(numbers, total=250, offset=offset, limit=limit)

    async with centrepoint_list(world, answer) as (found, server):
        rows, error = await taken(found.search())
    world.saw(error)
    assert rows == [n for n in range(250) if n not in hidden]
    assert "240 of 250 rows" in str(error)
    assert offsets(server) == [0, 100, 200]


def moved(seen: Seen) -> list[int]:
    """Return 25 rows in tens of which the last of the first page comes again: rows moved by one meanwhile."""
    offset, limit = requested(seen)
    return [number - (offset > 0) for number in range(offset, min(offset + limit, 25))]


@row("PG10", protection="a row that came before is dropped")
@pytest.mark.parametrize(
    ("counted", "pages"), [(lambda rows: rows, [0, 0, 10, 10, 20]), (lambda _: 25, [0, 0, 9, 9, 18])]
)
async def test_a_row_that_moves_across_the_border_of_a_page_comes_once(
    world: World, counted: Callable[[int], object], pages: list[int]
) -> None:
    """PG10: Arena: no row twice; the list is walked once more, and where rows move then too it is an error."""
    async with arena_list(world, lambda seen: page(extracts(moved(seen)), count=counted(len(moved(seen))))) as (
        found,
        server,
    ):
        rows, error = await taken(found.search(limit=10))
    world.saw(error)
    assert rows == [f"G{n}" for n in range(24)]
    assert isinstance(error, ListingError)
    assert offsets(server) == pages


@row("PG10", protection="rows that never came are noticed")
async def test_a_row_that_never_came_is_noticed(world: World) -> None:
    """PG10: CentrePoint: its total shows that one of 250 rows is missing: no duplicate, and an error at the end."""

    def answer(seen: Seen) -> Reply:
        offset, limit = requested(seen)
        numbers = [number - (offset > 0) for number in range(offset, min(offset + limit, 250))]
        return studies(numbers, total=250, offset=offset, limit=limit)

    async with centrepoint_list(world, answer) as (found, server):
        rows, error = await taken(found.search())
    world.saw(error)
    assert rows == list(range(249))
    assert isinstance(error, ListingError)
    assert "repeats 1 of the rows received before" in str(error)
    # Twice: a page that was on its way when the rows moved is not used.
    assert [offset for offset in offsets(server) if offset < 200] == [0, 0, 100, 100]


@row("PG11", protection="a row that came before is dropped")
async def test_one_key_with_two_contents_comes_once(world: World) -> None:
    """PG11: on one page the last one counts; of two pages the first one does, since it was given already."""
    first = [{"guid": "A", "name": "old"}, {"guid": "B"}, {"guid": "A", "name": "new"}]
    first += extracts(range(7))
    second = [{"guid": "B", "name": "late"}, {"guid": "C"}]
    async with arena_list(world, lambda seen: page(second if requested(seen)[0] else first)) as (found, server):
        rows, error = await take(found.search(limit=10))
    world.saw(error)
    # By the design one row on two pages shows that rows moved: the list is walked once more, then it is an error.
    assert isinstance(error, ListingError)
    assert [(extract.guid, extract.name) for extract in rows] == [
        ("A", "new"),
        ("B", None),
        *((f"G{n}", None) for n in range(7)),
        ("C", None),
    ]
    assert offsets(server) == [0, 0, 10, 10]


@row("PG12", protection="rows without a key are never taken for repeats")
@pytest.mark.parametrize("service", ["arena", "centrepoint"])
async def test_rows_without_a_key_pass_through(world: World, service: str) -> None:
    """PG12: rows that nothing tells apart all come, equal ones too, from lists with a key and from those without."""
    rows = [{"value": 1}, {"value": 1}, {"guid": None, "value": 2}, {"guid": "", "value": 3}, {"guid": ["odd"]}]

    def answer(seen: Seen) -> Reply:
        offset, limit = requested(seen)
        items = [*rows, {"value": 4}][offset : offset + limit]
        if service == "arena":
            return page(items)
        return json_reply({"items": items, "totalCount": 6, "offset": offset, "limit": limit})

    async with RawServer() as server:
        script = ArenaScript(world, server) if service == "arena" else CentrePointScript(world, server)
        script.on("GET", "/rows", answer)
        async with script.client() as client:
            scope = "" if service == "arena" else CENTREPOINT
            request = Request(method="GET", path="/rows", scope=scope)
            shape = LIST if service == "arena" else list_shape()
            found = await Paginator(client.session, ListQuery(request, shape, lambda item: item), limit=5).collect()
    assert found == [*rows, {"value": 4}]
    assert offsets(server) == [0, 5]


@row("PG19", protection="the next page is computed and never followed")
@pytest.mark.parametrize("what", ["other host", "plain http", "other path", "itself"])
async def test_a_link_to_the_next_page_is_never_followed(world: World, what: str) -> None:
    """PG19: whatever ``links.next`` says, the next page is computed from the offset, and the total is the end."""
    async with RawServer() as stranger:
        places = {
            "other host": f"{stranger.base_url}{STUDIES}?limit=100&offset=100",
            "plain http": f"http://api.example.com{STUDIES}?limit=100&offset=100",
            "other path": "/DataRetrieval/v3/Studies?limit=100&offset=100",
            "itself": f"{STUDIES}?limit=100&offset=0",
        }

        def answer(seen: Seen) -> Reply:
            offset, limit = requested(seen)
            numbers = range(offset, min(offset + limit, 250))
            return studies(numbers, total=250, offset=offset, limit=limit, links={"next": places[what]})

        async with centrepoint_list(world, answer) as (found, server):
            assert await taken(found.search()) == (list(range(250)), None)
    assert stranger.connections == 0
    assert offsets(server) == [0, 100, 200]
    assert {seen.path for seen in server.requests} == {STUDIES, CentrePointScript.TOKENS}


REQUESTED = PageRequest(offset=0, limit=100)


@row("PG20", protection="a number of rows is one")
@pytest.mark.parametrize(
    ("total", "read"),
    [
        ("500", 500),
        case(0, 0, protection="a number of rows is read"),
        case(500, 500, protection="a number of rows is read"),
    ],
)
def test_a_total_may_be_text(total: object, read: int) -> None:
    """PG20: digits are digits."""
    payload = {"items": [], "totalCount": total}
    assert CentrePointAdapter().read_page(payload, REQUESTED, list_shape("id")) == Page(
        items=(), offset=0, limit=100, total=read
    )
    assert ArenaAdapter().read_page({"count": total, "results": []}, REQUESTED, LIST).total == read


@row("PG20", protection="a number of rows is one")
@pytest.mark.parametrize("total", [-1, 500.5, "5e2", "-1", "", True, 2**63, [], {}, "\uff19"])
def test_what_is_no_number_of_rows_is_refused(total: object) -> None:
    """PG20: by both services."""
    with pytest.raises(DecodeError, match="totalCount"):
        CentrePointAdapter().read_page({"items": [], "totalCount": total}, REQUESTED, list_shape("id"))
    with pytest.raises(DecodeError, match="count"):
        ArenaAdapter().read_page({"count": total, "results": []}, REQUESTED, LIST)


@row("PG20", protection="a number of rows is one")
@pytest.mark.parametrize("total", [case(None, protection="nothing is no number of rows"), 500.0])
def test_a_total_that_ends_a_list_is_held_to_more(total: object) -> None:
    """
    PG20: where the number decides about the end, ``null`` and 500.0 are no total.

    By the design the count of Arena ends nothing: there ``null`` is no count, and 500.0 is 500.
    """
    with pytest.raises(DecodeError, match="totalCount"):
        CentrePointAdapter().read_page({"items": [], "totalCount": total}, REQUESTED, list_shape("id"))
    read = ArenaAdapter().read_page({"count": total, "results": []}, REQUESTED, LIST).total
    assert read == (None if total is None else 500)


@row("PG21", protection="the page that came is the page that was asked for")
@pytest.mark.parametrize("times", [1, 2], ids=["once", "for good"])
async def test_a_page_of_another_offset_is_asked_for_once_more(world: World, times: int) -> None:
    """PG21: a cache answers the second page with the first: once more; then its rows, or an error."""
    lies = [100] * times

    def answer(seen: Seen) -> Reply:
        offset, limit = requested(seen)
        if offset in lies:
            lies.remove(offset)
            return studies(range(limit), total=250, offset=0, limit=limit)
        return studies(range(offset, min(offset + limit, 250)), total=250, offset=offset, limit=limit)

    async with centrepoint_list(world, answer) as (found, server):
        rows, error = await taken(found.search())
    world.saw(error)
    assert offsets(server).count(100) == 2
    if times == 1:
        assert (rows, error) == (list(range(250)), None)
        return
    assert rows == list(range(100))
    assert isinstance(error, ListingError)
    assert error.cursor == 100
    assert "says it starts at 0" in str(error)


@row("PG22", protection="a rejected token is replaced once")
async def test_a_session_that_dies_on_page_seven_costs_one_login_and_one_page(world: World) -> None:
    """PG22: 401 on page 7: one login, page 7 once more, and nothing is lost or comes twice."""
    async with RawServer() as server:
        script = ArenaScript(world, server)

        def answer(seen: Seen) -> Reply:
            offset, limit = requested(seen)
            if offset == 60 and script.logins == 1:
                script.alive = ""
                return reply(401)
            return page(extracts(range(offset, min(offset + limit, 95))))

        script.on("GET", EXTRACTS, answer)
        async with script.client() as arena:
            found = await arena.extracts.search(limit=10).collect()

    assert [extract.guid for extract in found] == [f"G{n}" for n in range(95)]
    assert offsets(server) == [0, 10, 20, 30, 40, 50, 60, 60, 70, 80, 90]
    assert len(server.lines("POST *")) == 2


@row("PG23", protection="an interrupted list says where to go on")
async def test_a_list_that_the_day_did_not_suffice_for_goes_on_tomorrow(world: World) -> None:
    """PG23: the day ends on page 7: the error and the pager say 60, and tomorrow the walk goes on there."""
    async with RawServer() as server:
        script = ArenaScript(world, server)
        days = [True, False]

        def answer(seen: Seen) -> Reply:
            offset, limit = requested(seen)
            if offset == 60 and days.pop(0):
                return arena_error(429, 4084, headers={"X-Arena-Requests-Remaining": "0"})
            return page(extracts(range(offset, min(offset + limit, 95))))

        script.on("GET", EXTRACTS, answer)
        async with script.client() as arena:
            today = arena.extracts.search(limit=10)
            rows, error = await taken(today)
        world.saw(error)
        assert isinstance(error, QuotaExhaustedError)
        assert (error.cursor, today.cursor) == (60, 60)
        assert rows == [f"G{n}" for n in range(60)]
        async with script.client() as arena:
            rows += [extract.guid async for extract in arena.extracts.search(limit=10, offset=today.cursor)]

    assert rows == [f"G{n}" for n in range(95)]
    assert offsets(server) == [0, 10, 20, 30, 40, 50, 60, 60, 70, 80, 90]
