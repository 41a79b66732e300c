"""Walking a listing: every row once, the fewest requests that can be trusted, or an error."""

from __future__ import annotations

import contextlib
import tracemalloc
from collections.abc import Callable
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arena_async.errors import ConfigurationError, ListingError
from arena_async.protocol.pagination import ListShape, Page, PageRequest, Pagination, _PageFingerprints

ARENA = ListShape(max_page_size=400, default=20)
CENTREPOINT = ListShape(max_page_size=100, total=True, key="id")

Answer = Callable[[PageRequest], Page]


def row(number: int, **more: Any) -> dict[str, Any]:
    """Return row ``number``, with a key for either service."""
    return {"guid": f"G{number}", "id": number, **more}


def rows(first: int, last: int) -> tuple[dict[str, Any], ...]:
    """Return the rows from ``first`` up to and without ``last``."""
    return tuple(map(row, range(first, last)))


@attrs.define
class Service:
    """A service with so many rows, and how it spells what it says beside them."""

    count: int
    total: Callable[[int, int], int | None] = lambda count, page: None
    cap: int | None = None
    ignores_limit: int | None = None
    echoes: bool = False
    hidden: frozenset[int] = frozenset()
    requested: list[PageRequest] = attrs.field(factory=list)

    def __call__(self, requested: PageRequest) -> Page:
        self.requested.append(requested)
        limit = self.ignores_limit or (min(requested.limit, self.cap) if self.cap else requested.limit)
        found = tuple(
            row(number)
            for number in range(requested.offset, min(requested.offset + limit, self.count))
            if number not in self.hidden
        )
        return Page(
            items=found,
            offset=requested.offset,
            limit=requested.limit,
            total=self.total(self.count, len(found)),
            echoed_offset=requested.offset if self.echoes else None,
            echoed_limit=limit if self.echoes else None,
        )


def walk(shape: ListShape, answer: Answer, found: list[Any] | None = None, **how: Any) -> list[Any]:
    """Walk to the end and give the rows; in ``found`` also those that came before an error."""
    found = [] if found is None else found
    one = Pagination(shape, **how)
    requested: PageRequest | None = one.requested
    while requested is not None:
        step = one.take(answer(requested))
        found += step.rows
        requested = step.then
        if step.error is not None:
            raise step.error
    return found


def in_all(count: int, page: int) -> int:
    """Return the number of rows in all."""
    return count


def in_page(count: int, page: int) -> int:
    """Return the number of rows of the page."""
    return page


class TestWithoutATotal:
    """Lists whose number may be just the page's."""

    @pytest.mark.parametrize(
        ("count", "requests"),
        [(0, 1), (1, 1), (19, 1), (20, 2), (21, 1), (399, 1), (400, 2), (401, 2), (800, 3), (4000, 11)],
    )
    @pytest.mark.parametrize("total", [in_all, in_page, lambda count, page: None])
    def test_it_takes_the_fewest_requests_that_can_be_trusted(
        self, count: int, requests: int, total: Callable[[int, int], int | None]
    ) -> None:
        """PG01, PG02: a short page ends it, an empty one does after full ones, and exactly 20 rows are suspicious."""
        service = Service(count, total)
        assert walk(ARENA, service) == list(rows(0, count))
        assert len(service.requested) == requests

    @pytest.mark.parametrize("total", [in_all, in_page])
    def test_a_limit_that_is_ignored_is_noticed(self, total: Callable[[int, int], int | None]) -> None:
        """PG03: pages of 20 although 400 were asked for: the walk goes on by what came."""
        service = Service(95, total, ignores_limit=20)
        assert walk(ARENA, service) == list(rows(0, 95))
        assert [requested.offset for requested in service.requested] == [0, 20, 40, 60, 80]

    def test_a_count_beyond_the_rows_prolongs_the_walk(self) -> None:
        """PG02: 300 of 325 rows in a short page are not the end."""
        service = Service(325, in_all, cap=300)
        assert walk(ARENA, service) == list(rows(0, 325))
        assert [requested.offset for requested in service.requested] == [0, 300]

    def test_a_count_beyond_what_is_there_is_an_error_after_the_rows(self) -> None:
        """PG02, PG06: 300 of 325: the empty page is requested once more, then what was received is not whole."""
        service = Service(300, lambda count, page: 325)
        found: list[Any] = []
        with pytest.raises(ListingError, match="empty, of 325 rows") as caught:
            walk(ARENA, service, found)
        assert found == list(rows(0, 300))
        assert caught.value.cursor == 300
        assert [requested.offset for requested in service.requested] == [0, 300, 300]

    @pytest.mark.parametrize(("count", "said"), [(500, 500), (500, 499), (499, 510)])
    def test_a_number_above_the_limit_is_compared_with_the_whole_walk(self, count: int, said: int) -> None:
        """PG06: it cannot be that of a page."""
        service = Service(count, lambda count, page: said)
        found: list[Any] = []
        with pytest.raises(ListingError, match=f"of {said} rows") if count != said else contextlib.nullcontext():
            walk(ARENA, service, found)
        assert found == list(rows(0, count))

    @pytest.mark.parametrize("said", [1, 340, 360, 400])
    def test_a_number_within_the_limit_is_compared_with_its_page(self, said: int) -> None:
        """A page of 350 rows that says so is whole; one that states another number is not."""
        service = Service(350, lambda count, page: said)
        found: list[Any] = []
        with pytest.raises(ListingError):
            walk(ARENA, service, found)
        assert found == list(rows(0, 350))

    @pytest.mark.parametrize("times", [1, 2])
    def test_rows_that_moved_to_an_earlier_page_are_noticed(self, times: int) -> None:
        """PG10: where 10 rows are removed behind the first page, the next one does not begin as it should."""
        asked: list[int] = []
        found: list[Any] = []

        def answer(requested: PageRequest) -> Page:
            asked.append(requested.offset)
            gone = 10 if requested.offset and asked.count(requested.offset) <= times else 0
            items = rows(requested.offset + gone, min(requested.offset + gone + 400, 450))
            return Page(items=items, offset=requested.offset, limit=400, total=len(items))

        with pytest.raises(ListingError, match="does not begin with") if times == 2 else contextlib.nullcontext():
            walk(ARENA, answer, found)
        assert sorted(one["id"] for one in found) == [n for n in range(450) if times == 1 or not 399 < n < 409]
        assert asked == [0, 399, 0, 399]

    @pytest.mark.parametrize("short", [0, 20, 50])
    def test_a_page_in_the_middle_that_has_nothing_or_too_little(self, short: int) -> None:
        """PG06: empty, it lacks even the row that both pages have; short, the list is at its end as far as is known."""
        asked: list[int] = []

        def answer(requested: PageRequest) -> Page:
            asked.append(requested.offset)
            items = rows(requested.offset, min(requested.offset + 400, 1000))
            items = items[:short] if asked == [0, 399] else items
            return Page(items=items, offset=requested.offset, limit=400, total=len(items))

        expected = {0: [0, 399, 0, 399, 798], 20: [0, 399, 419, 818], 50: [0, 399]}[short]
        assert walk(ARENA, answer) == list(rows(0, 449 if short == 50 else 1000))
        assert asked == expected

    def test_a_row_that_came_before_shows_that_rows_moved(self) -> None:
        """PG10: the list is walked once more; what moved then as well is not whole."""
        asked: list[int] = []

        def answer(requested: PageRequest) -> Page:
            asked.append(requested.offset)
            moved = requested.offset > 0 and len(asked) == 2
            items = rows(requested.offset - moved, min(requested.offset + 10, 25) - moved)
            return Page(items=items, offset=requested.offset, limit=10, total=len(items))

        assert walk(ARENA, answer, limit=10) == list(rows(0, 25))
        assert asked == [0, 10, 0, 10, 20]

    @pytest.mark.parametrize(
        ("count", "limit", "total", "offsets"),
        [
            (25, 10, 25, [0, 9, 18]),  # the number is known, and no further page is needed
            (29, 10, 29, [0, 10, 20]),  # one would be
            (28, 10, 28, [0, 9, 19]),  # one row more has room
            (25, 10, None, [0, 10, 20]),  # a small page would often cost one more
            (350, 100, None, [0, 99, 198, 297]),
            (3, 1, 3, [0, 1, 2, 3]),  # a page of one row has no room for another
        ],
    )
    def test_pages_have_one_row_in_common_where_that_is_free(
        self, count: int, limit: int, total: int | None, offsets: list[int]
    ) -> None:
        """It takes as many requests as without it."""
        service = Service(count, lambda _, page: page if total is None else total)
        assert walk(ARENA, service, limit=limit) == list(rows(0, count))
        assert [requested.offset for requested in service.requested] == offsets
        assert len(offsets) == count // limit + 1

    @pytest.mark.parametrize(("stop", "offsets"), [(800, [0, 400]), (799, [0, 399]), (401, [0, 399]), (400, [0])])
    def test_so_many_rows_take_no_further_page_either(self, stop: int, offsets: list[int]) -> None:
        """Whoever wants 800 rows gets them in two pages."""
        service, one = Service(2000), Pagination(ARENA, stop=stop)
        found: list[Any] = []
        while len(found) < stop:
            found += one.take(service(one.requested)).rows
        assert found[:stop] == list(rows(0, stop))
        assert [requested.offset for requested in service.requested] == offsets

    def test_rows_without_keys_have_none_in_common(self) -> None:
        """Nothing would tell that one from another."""
        service = Service(800)
        assert walk(attrs.evolve(ARENA, key=None), service) == list(rows(0, 800))
        assert [requested.offset for requested in service.requested] == [0, 400, 800]

    def test_an_early_empty_page_may_have_been_a_hiccup(self) -> None:
        """PG06: the second look brings the rows."""
        service = Service(500, in_all, cap=200)
        hiccups = iter([False, True, False, False, False])

        def answer(requested: PageRequest) -> Page:
            page = service(requested)
            return attrs.evolve(page, items=()) if next(hiccups) else page

        assert walk(ARENA, answer) == list(rows(0, 500))
        assert [requested.offset for requested in service.requested] == [0, 200, 200, 400]

    def test_a_count_below_the_rows_ends_nothing(self) -> None:
        """PG02: nonsense does not stop a full page from being followed; it fits neither a page nor the list."""
        service = Service(800, lambda count, page: 1)
        found: list[Any] = []
        with pytest.raises(ListingError, match="800 of 1 rows"):
            walk(ARENA, service, found)
        assert found == list(rows(0, 800))

    def test_the_default_is_no_whole_list(self) -> None:
        """PG03: pages of 20 although 10 were asked for."""
        service = Service(95, in_page, ignores_limit=20)
        assert walk(ARENA, service, limit=10) == list(rows(0, 95))

    def test_a_page_longer_than_asked_is_the_whole_list(self) -> None:
        """PG04: offset and limit are ignored, and everything is there."""
        service = Service(950, ignores_limit=950)
        assert walk(ARENA, service) == list(rows(0, 950))
        assert len(service.requested) == 1

    def test_a_granted_limit_that_is_echoed_is_the_step(self) -> None:
        """PG03: a page of what was granted is a full one."""
        service = Service(250, cap=100, echoes=True)
        assert walk(ARENA, service) == list(rows(0, 250))
        assert [requested.offset for requested in service.requested] == [0, 100, 200]

    def test_a_service_that_ignores_the_offset_is_an_error(self) -> None:
        """PG04: the first row comes again."""
        with pytest.raises(ListingError, match="same row") as caught:
            walk(ARENA, lambda requested: Page(items=rows(0, 400), offset=requested.offset, limit=400))
        # The request was for 399 and all that follow.
        assert caught.value.cursor == 400

    def test_a_last_page_that_comes_for_ever_is_an_error(self) -> None:
        """PG05: past the end the last full page is given."""
        service = Service(800)
        found: list[Any] = []
        with pytest.raises(ListingError) as caught:
            walk(ARENA, lambda requested: service(attrs.evolve(requested, offset=min(requested.offset, 400))), found)
        assert caught.value.cursor == 1198
        assert found == list(rows(0, 800))
        # That page does not begin with the last row before it, so the list is walked once more.
        assert [requested.offset for requested in service.requested] == [0, 399, 400, 0, 399, 400, 400]

    def test_rows_that_all_came_before_are_an_error(self) -> None:
        """PG04: even where the page begins elsewhere."""
        pages = iter([rows(0, 400), rows(200, 400) + rows(0, 200)])
        with pytest.raises(ListingError, match="received before"):
            walk(ARENA, lambda requested: Page(items=next(pages), offset=0, limit=400))

    def test_a_row_that_moved_across_the_border_comes_once(self) -> None:
        """PG10: no duplicate is given."""
        pages = iter([rows(0, 400), rows(399, 500)])
        assert walk(ARENA, lambda requested: Page(items=next(pages), offset=0, limit=400)) == list(rows(0, 500))

    def test_of_two_rows_with_one_key_on_a_page_the_last_counts(self) -> None:
        """PG11: never both."""
        page = (row(1, state="old"), row(2), row(1, state="new"))
        found = walk(ARENA, lambda requested: Page(items=page, offset=0, limit=400))
        assert found == [row(1, state="new"), row(2)]

    def test_rows_without_a_key_pass_through(self) -> None:
        """PG12: nothing tells them apart, so nothing is dropped."""
        page = ({"a": 1}, {"a": 1}, "text", {"guid": ""}, {"guid": ["odd"]})
        assert walk(ARENA, lambda requested: Page(items=page, offset=0, limit=400)) == list(page)

    def test_pages_without_keys_that_repeat_are_an_error(self) -> None:
        """PG04: the same page twice is a loop."""
        with pytest.raises(ListingError, match="same rows"):
            walk(ARENA, lambda requested: Page(items=({"a": 1},) * 400, offset=0, limit=400))


class TestWithATotal:
    """Lists whose number is the number of rows."""

    @pytest.mark.parametrize(("count", "requests"), [(0, 1), (1, 1), (99, 1), (100, 1), (101, 2), (200, 2), (950, 10)])
    def test_it_takes_no_surplus_request(self, count: int, requests: int) -> None:
        """PG01: the end is known."""
        service = Service(count, in_all, echoes=True)
        assert walk(CENTREPOINT, service) == list(rows(0, count))
        assert len(service.requested) == requests

    def test_hidden_rows_shorten_pages_and_are_missing(self) -> None:
        """PG07: the end is judged by the offset, and whether the list is whole by the rows."""
        service = Service(250, in_all, echoes=True, hidden=frozenset(range(10, 150, 3)))
        found: list[Any] = []
        with pytest.raises(ListingError, match="203 of 250 rows") as caught:
            walk(CENTREPOINT, service, found)
        assert found == [row(n) for n in range(250) if n not in service.hidden]
        assert caught.value.cursor is None
        assert [requested.offset for requested in service.requested] == [0, 100, 200]

    def test_a_capped_page_is_followed_by_what_came(self) -> None:
        """PG03: where nothing is echoed, the step is what was received."""
        service = Service(120, in_all, cap=50)
        assert walk(CENTREPOINT, service) == list(rows(0, 120))
        assert [requested.offset for requested in service.requested] == [0, 50, 100]

    def test_an_early_empty_page_is_asked_for_once_more(self) -> None:
        """PG06: a hiccup is mended."""
        service = Service(250, in_all)
        hiccups = iter([False, True, False, False])

        def answer(requested: PageRequest) -> Page:
            page = service(requested)
            return attrs.evolve(page, items=()) if next(hiccups) else page

        assert walk(CENTREPOINT, answer) == list(rows(0, 250))
        assert [requested.offset for requested in service.requested] == [0, 100, 100, 200]

    def test_an_early_empty_page_twice_is_an_error(self) -> None:
        """PG06: never a short list."""
        service = Service(200, lambda count, page: 500)
        with pytest.raises(ListingError, match="empty, of 500 rows") as caught:
            walk(CENTREPOINT, service)
        assert caught.value.cursor == 200
        assert [requested.offset for requested in service.requested] == [0, 100, 200, 200]

    def test_another_offset_than_asked_is_asked_for_once_more(self) -> None:
        """PG21: a cache answered; the second answer counts."""
        service = Service(150, in_all, echoes=True)
        lies = iter([False, True, False])

        def answer(requested: PageRequest) -> Page:
            page = service(requested)
            return attrs.evolve(page, echoed_offset=0) if next(lies) else page

        assert walk(CENTREPOINT, answer) == list(rows(0, 150))
        assert len(service.requested) == 3

    def test_another_offset_twice_is_an_error(self) -> None:
        """PG21: it is not our page."""
        service = Service(150, in_all)
        with pytest.raises(ListingError, match="starts at 0") as caught:
            walk(CENTREPOINT, lambda requested: attrs.evolve(service(requested), echoed_offset=0))
        assert caught.value.cursor == 100

    @pytest.mark.parametrize(
        ("totals", "offsets", "error"),
        [
            ([250, 249, 249, 249, 249], [0, 100, 0, 100, 200], None),
            ([250, 249, 249, 248, 248], [0, 100, 0, 100, 200], "states 248 rows, after 249"),
            ([150, 230, 230, 230, 230], [0, 100, 0, 100, 200], None),
            ([150, 151, 151, 230, 230], [0, 100, 0, 100, 200], None),
        ],
        ids=["falls", "goes on falling", "rises", "goes on rising"],
    )
    def test_a_total_that_moves_lets_the_list_be_walked_once_more(
        self, totals: list[int], offsets: list[int], error: str | None
    ) -> None:
        """Rows may have moved past the border unseen; a list that only grows is whole where all of it was received."""
        left = iter(totals)
        found: list[Any] = []
        service = Service(totals[-1], lambda count, page: next(left))
        with pytest.raises(ListingError, match=error) if error else contextlib.nullcontext():
            walk(CENTREPOINT, service, found)
        assert found == list(rows(0, totals[-1]))
        assert [requested.offset for requested in service.requested] == offsets

    def test_a_row_that_is_delivered_was_not_delivered_by_the_walk_before(self) -> None:
        """Of the second walk only what is new."""
        asked: list[int] = []

        def answer(requested: PageRequest) -> Page:
            asked.append(requested.offset)
            count = 150 if len(asked) == 1 else 149
            numbers = [n for n in range(150) if count == 150 or n != 7]
            items = tuple(map(row, numbers[requested.offset : requested.offset + 100]))
            return Page(items=items, offset=requested.offset, limit=100, total=count)

        found = walk(CENTREPOINT, answer)
        assert [one["id"] for one in found] == [*range(100), *range(101, 150), 100]
        assert asked == [0, 100, 0, 100]

    def test_one_row_less_than_stated_is_an_error(self) -> None:
        """Nothing moved, so that walking once more would show the same."""
        service = Service(150, in_all, hidden=frozenset([120]), echoes=True)
        found: list[Any] = []
        with pytest.raises(ListingError, match="149 of 150 rows"):
            walk(CENTREPOINT, service, found)
        assert len(found) == 149
        assert [requested.offset for requested in service.requested] == [0, 100]

    def test_a_row_that_was_inserted_unseen_is_noticed(self) -> None:
        """PG10: one row came twice, so another one never did; in the second walk as well."""
        service, asked = Service(150), []

        def answer(requested: PageRequest) -> Page:
            asked.append(requested.offset)
            page = service(attrs.evolve(requested, offset=requested.offset - (requested.offset > 0)))
            return attrs.evolve(page, total=150, offset=requested.offset)

        found: list[Any] = []
        with pytest.raises(ListingError, match="repeats 1 of the rows"):
            walk(CENTREPOINT, answer, found)
        assert found == list(rows(0, 150))
        assert asked == [0, 100, 0, 100]

    def test_rows_without_keys_are_never_walked_again(self) -> None:
        """Nothing would tell which of them were delivered."""
        totals = iter([150, 149])
        service = Service(149, lambda count, page: next(totals))
        with pytest.raises(ListingError, match="states 149 rows, after 150"):
            walk(attrs.evolve(CENTREPOINT, key=None), service)
        assert len(service.requested) == 2

    def test_without_a_number_a_short_page_ends_it(self) -> None:
        """A service that forgets its total is walked like one that has none."""
        service = Service(150)
        assert walk(CENTREPOINT, service) == list(rows(0, 150))
        assert len(service.requested) == 2


class TestWithoutPages:
    """Lists that take no offset."""

    def test_one_request_is_all(self) -> None:
        """However many rows come."""
        shape = ListShape(max_page_size=400, paged=False)
        service = Service(950, ignores_limit=950)
        assert walk(shape, service) == list(rows(0, 950))
        assert len(service.requested) == 1

    @pytest.mark.parametrize("total", [True, False])
    @pytest.mark.parametrize("said", [0, 2, 5])
    def test_another_number_of_rows_than_stated_is_an_error(self, total: bool, said: int) -> None:
        """Nothing can be asked for beyond them; what was received is delivered."""
        shape = ListShape(max_page_size=100, paged=False, total=total, key="id")
        found: list[Any] = []
        with pytest.raises(ListingError, match=f"3 of {said} rows"):
            walk(shape, lambda requested: Page(items=rows(0, 3), offset=0, limit=100, total=said), found)
        assert found == list(rows(0, 3))

    def test_rows_before_the_start_are_left_out(self) -> None:
        """They were received, and are no reason for doubt."""
        shape = ListShape(max_page_size=100, paged=False, key="id")
        answer = Page(items=rows(0, 30), offset=0, limit=100, total=30)
        assert walk(shape, lambda _: answer, start=20) == list(rows(20, 30))


class TestWhereItStarts:
    """Where a walk starts and how much it asks for."""

    @pytest.mark.parametrize(("shape", "count"), [(ARENA, 1000), (CENTREPOINT, 250)])
    def test_an_interrupted_walk_goes_on(self, shape: ListShape, count: int) -> None:
        """PG23: the pages before the cursor are not paid for again."""
        service = Service(count, in_all)
        assert walk(shape, service, start=200) == list(rows(200, count))
        assert service.requested[0].offset == 200

    @pytest.mark.parametrize("limit", [0, -1, 401])
    def test_a_limit_out_of_range_is_refused(self, limit: int) -> None:
        """Before anything is asked."""
        with pytest.raises(ConfigurationError):
            Pagination(ARENA, limit=limit)

    def test_a_negative_start_is_refused(self) -> None:
        """Offsets are counted from 0."""
        with pytest.raises(ConfigurationError):
            Pagination(ARENA, start=-1)


@given(
    count=st.integers(0, 900),
    limit=st.integers(1, 100),
    cap=st.none() | st.integers(1, 100),
    total=st.sampled_from([in_all, in_page, lambda count, page: None]),
    echoes=st.booleans(),
)
def test_any_honest_service_is_walked_whole(
    count: int, limit: int, cap: int | None, total: Callable[[int, int], int | None], echoes: bool
) -> None:
    """Whatever it prints beside the rows: a capped page has to be noticed by its echo, its total or its size."""
    shape = ListShape(max_page_size=100, default=cap, total=total is in_all)
    service = Service(count, total, cap=cap, echoes=echoes)
    assert walk(shape, service, limit=limit) == list(rows(0, count))
    assert len(service.requested) <= count // min(limit, cap or limit) + 2


@given(data=st.data(), shape=st.sampled_from([ARENA, CENTREPOINT, attrs.evolve(ARENA, key=None)]))
def test_any_dishonest_service_comes_to_an_end(data: st.DataObject, shape: ListShape) -> None:
    """Pages drawn at will: no row twice, and an end or an error after a bounded number of requests."""
    drawn = st.lists(st.integers(0, 30), max_size=12)
    requests = 0

    def answer(requested: PageRequest) -> Page:
        nonlocal requests
        requests += 1
        assert requests < 60
        return Page(
            items=tuple(map(row, data.draw(drawn))),
            offset=requested.offset,
            limit=requested.limit,
            total=data.draw(st.none() | st.integers(0, 40)),
            echoed_offset=data.draw(st.sampled_from([None, requested.offset, requested.offset, 0])),
            echoed_limit=data.draw(st.sampled_from([None, 5])),
        )

    found: list[Any] = []
    with contextlib.suppress(ListingError):
        found = walk(shape, answer)
    keys = [one[shape.key] for one in found] if shape.key else []
    assert len(keys) == len(set(keys))


# Pages that may be asked for ahead


def requested_ahead(one: Pagination, maximum: int = 4) -> list[int]:
    """Return the offsets of the pages that may be asked for now."""
    return [requested.offset for requested in one.ahead(maximum)]


def test_nothing_is_asked_for_ahead_before_the_total_is_known() -> None:
    """The first page says how many rows there are."""
    one = Pagination(CENTREPOINT)
    assert requested_ahead(one) == [0]
    one.take(Page(items=rows(0, 100), offset=0, limit=100, total=730))
    assert one.ahead(4) == tuple(PageRequest(offset=offset, limit=100) for offset in (100, 200, 300, 400))


@pytest.mark.parametrize(
    ("total", "maximum", "stop", "offsets"),
    [
        (730, 1, None, [100]),
        (730, 99, None, [100, 200, 300, 400, 500, 600, 700]),
        (700, 99, None, [100, 200, 300, 400, 500, 600]),
        (201, 4, None, [100, 200]),
        (200, 4, None, [100]),
        (730, 4, 250, [100, 200]),
        (730, 4, 200, [100]),
        (730, 4, 50, [100]),
    ],
)
def test_no_page_ahead_lies_beyond_what_is_wanted(
    total: int, maximum: int, stop: int | None, offsets: list[int]
) -> None:
    """So many pages, to the end of the list or of what somebody wants of it; the next one in any case."""
    one = Pagination(CENTREPOINT, stop=stop)
    one.take(Page(items=rows(0, 100), offset=0, limit=100, total=total))
    assert requested_ahead(one, maximum) == offsets


def test_a_number_that_is_no_total_lets_nothing_be_asked_for_ahead() -> None:
    """It may be just the page's, or shrink; and a list without pages has no other page."""
    one = Pagination(ARENA)
    one.take(Page(items=rows(0, 400), offset=0, limit=400, total=4000))
    assert requested_ahead(one) == [399]
    assert requested_ahead(Pagination(ListShape(max_page_size=100, total=True, paged=False))) == [0]


def test_pages_ahead_follow_the_size_that_was_granted() -> None:
    """A service that gives 40 rows for 100 has its next pages 40 rows apart."""
    one = Pagination(CENTREPOINT)
    one.take(Page(items=rows(0, 40), offset=0, limit=100, total=200, echoed_limit=40))
    assert requested_ahead(one) == [40, 80, 120, 160]


def test_a_page_that_is_asked_for_again_is_ahead_again() -> None:
    """What lies behind it stays where it was."""
    one = Pagination(CENTREPOINT)
    one.take(Page(items=rows(0, 100), offset=0, limit=100, total=300))
    one.take(Page(items=(), offset=100, limit=100, total=300))
    assert requested_ahead(one) == [100, 200]


def test_a_long_walk_costs_little_memory() -> None:
    """Eight bytes and a little for each key, however long it is; and a row that comes again is still noticed."""
    shape, count = ListShape(max_page_size=400, total=True, key=("a", "b")), 40_000
    one = Pagination(shape)
    pages = [tuple({"a": "x" * 100, "b": at + number} for number in range(400)) for at in range(0, count, 400)]
    tracemalloc.start()
    try:
        for at, items in zip(range(0, count, 400), pages, strict=True):
            one.take(Page(items=items, offset=at, limit=400, total=count + 400))
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 40 * count
    error = one.take(Page(items=pages[7], offset=count, limit=400, total=count + 400)).error
    assert "same row" in str(error)


@given(st.lists(st.one_of(st.integers(), st.text(max_size=2)), max_size=60), st.lists(st.integers(), max_size=20))
def test_marks_of_keys_are_a_set_of_them(put_in: list[Any], requested: list[int]) -> None:
    """What was put in is found, however often, and nothing else is."""
    marks = _PageFingerprints()
    for key in put_in:
        marks.add(key)
    assert not any(marks.add(key) for key in put_in)
    known = {hash(key) for key in put_in}
    for key in requested:
        assert marks.add(key) == (hash(key) not in known)
        known.add(hash(key))
