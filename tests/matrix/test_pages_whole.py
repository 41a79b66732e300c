"""Rows PG27 to PG36: what a list states has to hold, and nothing is concluded from one for which it does not."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from filesets import zipped
from listings import take
from matrix import World, case, control, row
from scripted import RawServer, Reply, Seen, json_reply, reply
from services import ArenaScript, CentrePointScript, page, requested, studies

from arena_async import Mirror, TransferOptions
from arena_async.errors import ListingError
from arena_async.providers.arena import EventQueue, OutboundEvent
from arena_async.providers.centrepoint import DayQuery
from arena_async.testing import CentrePointSimulator, faults
from arena_async.transfer.models import Action

EXTRACT = "FXH0EBFHS9SK3M5O7QS1"
NEVER_CAME = "rows that never came are noticed"
NOT_WHOLE = "a list that is not known to be whole is an error"
STUDIES = "/centrepoint/v3/Studies"
#: A file that was never corrected, so that its list says all there is.
FIRST = {"guid": "F", "edition": "1", "corrected": False}
ZIP = zipped(random.Random(7).randbytes(1_000))


def offsets(server: RawServer) -> list[int]:
    """Return the offsets that were asked for, sorted."""
    return sorted(requested(seen)[0] for seen in server.requests if seen.method == "GET")


def guids(numbers: Iterable[int]) -> list[dict[str, str]]:
    """Write rows of Arena."""
    return [{"guid": f"G{number}"} for number in numbers]


class Extract:
    """
    An extract with so many runs of one file each, which are listed with the runs or run by run.

    Attributes:
        runs: The answer to each request for a page of runs, given its offset and limit.
        files: What is answered for the files of a run instead of its one file, by the number of the run.
    """

    def __init__(self, world: World, server: RawServer, count: int, *, with_files: bool = False) -> None:
        self.server = server
        self.count = count
        self.with_files = with_files
        self.looked = 0
        self.service = ArenaScript(world, server)
        self.runs: Callable[[int, int], Reply] = lambda offset, limit: page(self.rows(offset, limit))
        self.files: dict[int, Reply] = {}
        path = f"/extracts/{EXTRACT}/runs"
        self.service.on("GET", path, lambda seen: self.runs(*requested(seen)))
        self.service.on("GET", f"{path}/*/files", self._files)
        self.service.on("GET", f"{path}/*/content", reply(body=ZIP))
        for number in range(count):
            world.allow(f"arena/extracts/{EXTRACT}/R{number}/A{number}.zip", ZIP)

    def rows(self, offset: int, limit: int) -> list[dict[str, Any]]:
        """Return the rows of a page of runs."""
        numbers = range(offset, min(offset + limit, self.count))
        done = {"status": "COMPLETED", "completionDateTime": "2026-05-01T06:00:00Z"}
        files = [{"files": [{"guid": f"A{number}"}]} if self.with_files else {} for number in numbers]
        return [{"guid": f"R{number}", **done, **more} for number, more in zip(numbers, files, strict=True)]

    def _files(self, seen: Seen) -> Reply:
        number = int(seen.path.split("/")[-2][1:])
        return self.files.get(number) or page([{"guid": f"A{number}"}])

    def listed(self) -> Counter[str]:
        """Return how often the files of each run were requested since the last time."""
        new, self.looked = self.server.requests[self.looked :], len(self.server.requests)
        return Counter(seen.path.split("/")[-2] for seen in new if seen.path.endswith("/files"))


@row("PG27", protection=NEVER_CAME)
async def test_one_row_less_than_its_total_is_an_error_after_the_others(world: World) -> None:
    """PG27: CentrePoint states 150 rows and has 149: all of them come, then an error; once, since nothing moved."""

    def answer(seen: Seen) -> Reply:
        offset, limit = requested(seen)
        numbers = [number for number in range(offset, min(offset + limit, 150)) if number != 120]
        return studies(numbers, total=150, offset=offset, limit=limit)

    async with RawServer() as server:
        script = CentrePointScript(world, server)
        script.on("GET", STUDIES, answer)
        async with script.client() as centrepoint:
            rows, error = await take(centrepoint.studies.search())
            first = await centrepoint.studies.search().first()
            some = await centrepoint.studies.search().collect(max_items=100)
    world.saw(error)
    assert [study.id for study in rows] == [number for number in range(150) if number != 120]
    assert isinstance(error, ListingError)
    assert "149 of 150 rows" in str(error)
    assert offsets(server) == [0, 0, 0, 100]
    # What is not walked to its end is nothing to complain about.
    assert first is not None
    assert len(some) == 100


@row("PG28", protection=NEVER_CAME)
@pytest.mark.parametrize(
    ("there", "counted", "found"),
    [
        case(499, 510, "empty, of 510 rows", protection=NOT_WHOLE),
        case(350, 360, "empty, of 360 rows", protection=NOT_WHOLE),
        (350, 340, "350 of 340 rows"),
        control(350, 350, None, reason="nothing contradicts it"),
        control(500, 500, None, reason="nothing contradicts it"),
    ],
)
async def test_a_count_of_arena_is_compared(world: World, there: int, counted: int, found: str | None) -> None:
    """PG28: above the limit with the whole walk, else with its page; rows that are missing are looked for first."""

    def answer(seen: Seen) -> Reply:
        offset, limit = requested(seen)
        rows = guids(range(offset, min(offset + limit, there)))
        return page(rows, count=len(rows) if offset and counted == there else counted)

    async with RawServer() as server:
        script = ArenaScript(world, server)
        script.on("GET", "/extracts", answer)
        async with script.client() as arena:
            rows, error = await take(arena.extracts.search())
    world.saw(error)
    assert [extract.guid for extract in rows] == [f"G{number}" for number in range(there)]
    assert (error is None) if found is None else (found in str(error))


@row("PG29", protection="files of a run that are not all are not cached")
@pytest.mark.parametrize(
    ("gap", "left"),
    [
        (json_reply({"count": 2, "results": [{"guid": "A7"}]}), 21),
        case(json_reply({"count": 2, "results": None}), 20, protection="the gap of one list hides no other"),
        case(json_reply({"count": 2}), 20, protection="the gap of one list hides no other"),
        case(json_reply({"message": "?"}), 20, protection="the gap of one list hides no other"),
        case(reply(404), 20, protection="the gap of one list hides no other"),
    ],
    ids=["short", "null", "missing", "no list", "not found"],
)
async def test_the_gap_of_one_run_hides_no_other_and_is_not_remembered(world: World, gap: Reply, left: int) -> None:
    """PG29: of 21 runs one says it has more files than it lists: all others come, an error, and the gap is closed."""
    async with RawServer() as server:
        extract = Extract(world, server, 21)
        extract.files[7] = gap
        async with extract.service.client() as arena, Mirror(world.root) as mirror:
            files = arena.extracts.files(EXTRACT)
            with pytest.raises(Exception, match="GET /extracts/FXH") as caught:
                await mirror.sync(files)
            world.saw(caught.value)
            assert len(list(world.root.rglob("*.zip"))) == left
            assert extract.listed().keys() == {f"R{number}" for number in range(21)}

            del extract.files[7]
            report = await mirror.sync(files)
            # The files of the others are known, and no watermark leaves the run out.
            assert extract.listed() == {"R7": 1}
            assert report.counts[Action.FETCH] == 21 - left
            assert report.failures == ()


@row("PG36", protection="the gap of one list hides no other")
@pytest.mark.parametrize("where", ["runs", case("definitions", protection=NOT_WHOLE)])
async def test_the_gap_of_one_definition_hides_no_other(world: World, where: str) -> None:
    """PG36: the runs of one of three extracts are not whole, or one more extract is counted: all others come first."""
    gap = {"count": 3, "results": None}
    done = {"status": "COMPLETED", "completionDateTime": "2026-05-01T06:00:00Z"}

    def runs(seen: Seen) -> Reply:
        name = seen.path.split("/")[-2]
        if name == "E0" and where == "runs":
            return json_reply(gap)
        return page([{"guid": f"{name}R", **done, "files": [{"guid": f"{name}A"}]}])

    def definitions(seen: Seen) -> Reply:
        if where == "definitions":
            return page([] if requested(seen)[0] else [{"guid": f"E{number}"} for number in range(3)], count=4)
        return page([{"guid": f"E{number}"} for number in range(3)])

    async with RawServer() as server:
        script = ArenaScript(world, server)
        script.on("GET", "/extracts", definitions)
        script.on("GET", "/extracts/*/runs", runs)
        async with script.client() as arena:
            files, error = await take(arena.extracts.files())
    world.saw(error)
    assert [file.fields["extract"] for file in files] == ["E0", "E1", "E2"][where == "runs" :]
    assert isinstance(error, ListingError)


@row("PG30", protection="a list that moved is walked once more")
@pytest.mark.parametrize("moved", [1, -1])
async def test_a_total_that_moves_lets_the_list_be_walked_once_more(world: World, moved: int) -> None:
    """PG30: CentrePoint: a row comes or goes while four pages are on their way; every row comes once."""
    totals = [500]

    def answer(seen: Seen) -> Reply:
        offset, limit = requested(seen)
        if offset == 100:
            totals.append(500 + moved)
        numbers = range(offset, min(offset + limit, totals[-1]))
        return studies(numbers, total=totals[-1], offset=offset, limit=limit)

    async with RawServer() as server:
        script = CentrePointScript(world, server)
        script.on("GET", STUDIES, answer)
        async with script.client() as centrepoint:
            found = [study.id async for study in centrepoint.studies.search()]
    assert sorted(found) == list(range(500 + moved)) or (moved < 0 and sorted(found) == list(range(500)))
    assert offsets(server).count(0) == 2


@row("PG31", protection="pages have one row in common")
@pytest.mark.parametrize("broken", ["empty", "slid"])
async def test_a_row_that_slides_over_the_border_of_a_page_is_noticed(world: World, broken: str) -> None:
    """PG31: of 450 runs one is removed, or the second page is empty, once: the list is walked again, and none lost."""
    once = [True]

    async with RawServer() as server:
        extract = Extract(world, server, 450, with_files=True)

        def answer(offset: int, limit: int) -> Reply:
            if offset and once:
                once.clear()
                return page([] if broken == "empty" else extract.rows(offset + 1, limit))
            return page(extract.rows(offset, limit))

        extract.runs = answer
        async with extract.service.client() as arena:
            found = [file.fields["run"] async for file in arena.extracts.files(EXTRACT)]
    assert sorted(found) == sorted(f"R{number}" for number in range(450))
    assert offsets(server) == [0, 0, 399, 399]


@row("PG31", protection="pages have one row in common")
async def test_rows_that_go_on_sliding_are_an_error_after_those_that_came(world: World) -> None:
    """PG31: the second page is empty whenever it is requested."""
    async with RawServer() as server:
        extract = Extract(world, server, 450, with_files=True)
        extract.runs = lambda offset, limit: page([] if offset else extract.rows(offset, limit))
        async with extract.service.client() as arena:
            files, error = await take(arena.extracts.files(EXTRACT))
    world.saw(error)
    assert [file.fields["run"] for file in files] == [f"R{number}" for number in range(400)]
    assert isinstance(error, ListingError)
    assert "should begin with the last row of the page before" in str(error)
    assert offsets(server) == [0, 0, 399, 399]


@row("PG27", protection=NOT_WHOLE)
async def test_nothing_is_removed_for_seven_rows_that_do_not_come_once(world: World) -> None:
    """PG27: 150 files are counted on each page, and once the second lacks 7: all stay, and the next run is whole."""
    async with CentrePointSimulator(files=150) as simulator, simulator.client() as centrepoint:
        files = centrepoint.datasets.files(simulator.study)
        async with Mirror(world.root, options=TransferOptions(durability="off")) as mirror:
            await mirror.sync(files)
            here = sorted(path for path in world.root.rglob("*.gz"))
            simulator.inject(faults.lose_rows(at=10, count=7), on="GET *datasetfiles", after=1)
            with pytest.raises(ListingError, match="143 of 150 rows") as caught:
                await mirror.sync(files, prune=True)
            world.saw(caught.value)
            assert sorted(path for path in world.root.rglob("*.gz")) == here
            report = await mirror.sync(files, prune=True)
    assert report.counts[Action.KEEP] == len(here) == 150


@row("PG28", protection=NOT_WHOLE)
async def test_nothing_is_removed_for_a_list_that_is_not_whole(world: World) -> None:
    """PG28: three files are here; one of them is counted and not listed, and stays."""
    async with RawServer() as server:
        extract = Extract(world, server, 3, with_files=True)
        async with extract.service.client() as arena, Mirror(world.root) as mirror:
            files = arena.extracts.files(EXTRACT)
            assert (await mirror.sync(files)).counts[Action.FETCH] == 3
            extract.runs = lambda offset, limit: page([] if offset else extract.rows(0, 2), count=3)
            with pytest.raises(ListingError) as caught:
                await mirror.sync(files, prune=True)
            world.saw(caught.value)
    assert len(list(world.root.rglob("*.zip"))) == 3


@row("PG32", protection="the default number of rows is no whole list")
@pytest.mark.parametrize(
    ("limit", "pages"), [(None, [0, 20, 40]), (100, [0, 20, 40]), (10, [0, 20, 40])], ids=["400", "100", "10"]
)
async def test_exactly_twenty_rows_are_followed_by_one_more_request(
    world: World, limit: int | None, pages: list[int]
) -> None:
    """PG32: the limit is ignored, and the default comes: also where fewer rows than that were asked for."""

    def answer(seen: Seen) -> Reply:
        offset, _ = requested(seen)
        return page(guids(range(offset, min(offset + 20, 45))))

    async with RawServer() as server:
        script = ArenaScript(world, server)
        script.on("GET", "/extracts", answer)
        async with script.client() as arena:
            found = await arena.extracts.search(limit=limit).collect()
    assert [extract.guid for extract in found] == [f"G{number}" for number in range(45)]
    assert offsets(server) == pages


@row("PG33", protection=NOT_WHOLE)
async def test_a_list_that_is_not_found_is_empty_and_not_whole(world: World) -> None:
    """PG33: 404 for the day files of a subject that exists: no row, and an error: nothing may be concluded from it."""
    async with RawServer() as server:
        script = CentrePointScript(world, server)
        script.on("GET", "/dataaccess/*", reply(404))
        script.on("GET", "/centrepoint/*", json_reply({"id": 10821}))
        async with script.client() as centrepoint:
            files, error = await take(centrepoint.day_files.files(DayQuery(234, 10821, "imu")))
    world.saw(error)
    assert files == []
    assert isinstance(error, ListingError)
    assert "is 404, although the object that the list belongs to exists" in str(error)


@row("PG34", protection=NOT_WHOLE)
async def test_what_is_missing_in_a_list_that_is_not_whole_is_not_gone(world: World) -> None:
    """PG34: of three files two are looked up where one is listed and three are counted: an error, and no "gone"."""
    async with RawServer() as server:
        extract = Extract(world, server, 3)
        async with extract.service.client() as arena:
            files = arena.extracts.files(EXTRACT)
            keys = [file.key async for file in files]
            extract.runs = lambda offset, limit: page(extract.rows(0, 1) if offset == 0 else [], count=3)
            assert [file.key for file in await files.find(keys[:1])] == keys[:1]
            with pytest.raises(ListingError) as caught:
                await files.find(keys[1:])
            world.saw(caught.value)


@row("PG34", protection=NOT_WHOLE)
async def test_a_definition_is_not_created_where_the_list_may_lack_it(world: World) -> None:
    """PG34: definitions cannot be removed, so that "not there" has to be certain before another one is made."""
    async with RawServer() as server:
        script = ArenaScript(world, server)
        script.on("GET", "/imports", json_reply({"count": 1, "results": None}))
        script.on("POST", "/imports", json_reply({"guid": "I2", "name": "Mine"}))
        async with script.client() as arena:
            with pytest.raises(ListingError) as caught:
                await arena.imports.define("Mine", resource="ITEM_SPECS", mode="CREATE", reuse=True)
            world.saw(caught.value)
    assert server.lines("POST /v1/imports") == []


@row("PG35", protection="a list without pages is as long as it states")
@pytest.mark.parametrize("rows", [[{"guid": "A1", "file": FIRST}], [], None])
async def test_a_list_without_pages_is_as_long_as_it_states(world: World, rows: Any) -> None:
    """PG35: the files of one of two items; the other one's still come."""
    async with RawServer() as server:
        script = ArenaScript(world, server)
        script.on("GET", "/items/I1/files", json_reply({"count": 2, "results": rows}))
        script.on("GET", "/items/I2/files", page([{"guid": "A2", "file": FIRST}]))
        async with script.client() as arena:
            files, error = await take(arena.items.files("I1", "I2"))
    world.saw(error)
    assert [file.stem for file in files] == [*(row["guid"] for row in rows or ()), "A2"]
    assert isinstance(error, ListingError)
    assert f"{len(rows or ())} of 2 rows" in str(error)
    assert len(server.lines("GET *")) == 2


@row("PG35", protection="a number beside guids is compared with them")
@pytest.mark.parametrize("answer", [{"count": 2, "results": ["A"]}, {"count": 2, "results": None}, {"count": 2}])
async def test_guids_of_an_event_are_as_many_as_it_states(world: World, answer: dict[str, Any]) -> None:
    """PG35: an export of some of them would be taken for one of all."""
    async with RawServer() as server:
        script = ArenaScript(world, server)
        script.on("GET", "/outboundintegrations/*", json_reply(answer))
        async with script.client() as arena:
            with pytest.raises(ListingError, match="of 2 guids") as caught:
                await EventQueue(arena.session).item_guids(OutboundEvent(guid="E", integration="I"))
            world.saw(caught.value)
