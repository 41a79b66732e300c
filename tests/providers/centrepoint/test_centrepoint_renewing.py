"""Links that end, over real sockets: one list for all files of a page, and no expired URL requested twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from pathlib import Path

import attrs
import pytest
from studies import Clock, api_of, is_whole

import arena_async
from arena_async import Action, Mirror
from arena_async.errors import ClosedError, LinkExpiredError, ListingError, PermissionDeniedError, ServerError
from arena_async.options import RetryPolicy, TransferOptions
from arena_async.protocol.files import OpenedFile
from arena_async.providers.centrepoint import CentrePointClient
from arena_async.providers.centrepoint.datasets import DatasetQuery, StudyFileSet
from arena_async.providers.centrepoint.linked_files import worth_listing
from arena_async.testing import CentrePointSimulator, faults
from arena_async.testing.replies import Call

LISTS = "GET /dataaccess/*/datasetfiles"
BLOBS = "GET *datasetexports*"
QUICK = RetryPolicy(attempts=2, wait_initial=0, wait_jitter=0, wait_max=0)


class SlowService(CentrePointSimulator):
    """A service whose every answer takes a while by its own clock."""

    each = 0.0

    def admit(self, call: Call) -> None:
        super().admit(call)
        if isinstance(self.clock, Clock):
            self.clock.seconds += self.each


@pytest.fixture
def clock() -> Clock:
    """Return a clock that a test moves."""
    return Clock()


@pytest.fixture
async def simulator(clock: Clock) -> AsyncIterator[SlowService]:
    """Yield a running service of 60 subjects x 2 programs x 2 data sets = 240 files."""
    async with SlowService(subjects=60, file_size=3000, clock=clock, rate_limit=None) as running:
        yield running


@pytest.fixture
async def client(simulator: SlowService) -> AsyncIterator[CentrePointClient]:
    """Yield a client of it."""
    async with simulator.client(rate_limit=10_000, retry=QUICK) as made:
        yield made


def files_of(client: CentrePointClient, now: Callable[[], datetime]) -> StudyFileSet:
    """Return the set of all files, by some clock."""
    return StudyFileSet(api_of(client, now), DatasetQuery(234))


async def whole(opened: OpenedFile) -> bytes:
    """Read a body to its end."""
    buffer, body = bytearray(5000), b""
    async with opened:
        while count := await opened.stream.readinto(memoryview(buffer)):
            body += buffer[:count]
    return body


def refused(simulator: CentrePointSimulator) -> Counter[str]:
    """Count the links that were rejected, by the whole of them."""
    return Counter(seen.target for seen in simulator.seen(BLOBS) if seen.status == 403)


async def test_eight_files_whose_links_are_over_take_one_list(
    client: CentrePointClient, simulator: SlowService, clock: Clock
) -> None:
    """Whoever comes while the page is listed waits for it; whoever comes later finds its link there."""
    files = files_of(client, clock.now)
    listed = [file async for file in files]
    simulator.clear()
    clock.seconds += 14_400

    opened = await asyncio.gather(*[files.open(file) for file in listed[:8]])
    later = await files.open(listed[99])

    assert [await whole(one) for one in opened] == [simulator.content(key) for key in simulator.files[:8]]
    assert await whole(later) == simulator.content(simulator.files[99])
    # The token is over too.
    assert [seen.query["offset"] for seen in simulator.seen(LISTS) if seen.status == 200] == ["0"]
    assert refused(simulator) == Counter()


async def test_links_of_three_seconds_and_eight_workers(
    client: CentrePointClient, simulator: SlowService, clock: Clock, tmp_path: Path
) -> None:
    """Every answer takes a twentieth of a second, so that links die in the queue over and over; none is asked then."""
    simulator.link_lifetime, simulator.each = 3, 0.05

    async with Mirror(tmp_path, options=TransferOptions(workers=8)) as mirror:
        report = await mirror.sync(files_of(client, clock.now))

    report.raise_for_failures()
    assert report.counts[Action.FETCH] == 240
    assert is_whole(simulator, tmp_path)
    assert refused(simulator) == Counter()
    assert len(simulator.seen(BLOBS)) == 240
    # Each file took at most one try; pages were listed again as they died, and not once for each file.
    assert {outcome.attempts for outcome in report.outcomes} == {1}
    assert len(simulator.seen(LISTS)) < 40


@pytest.mark.parametrize("hours", [-24, -1])
async def test_a_clock_of_ours_that_is_late_costs_each_worker_one_dead_link(
    client: CentrePointClient, simulator: SlowService, clock: Clock, tmp_path: Path, hours: int
) -> None:
    """The file host says that it is over; whatever was listed before that is not tried any more."""
    # Longer than the 72 files take that may wait for a slot, so that a new link is still good when its file has one.
    simulator.link_lifetime, simulator.each = 8, 0.05

    async with Mirror(tmp_path, options=TransferOptions(workers=8)) as mirror:
        report = await mirror.sync(files_of(client, lambda: clock.now() + timedelta(hours=hours)))

    report.raise_for_failures()
    assert is_whole(simulator, tmp_path)
    dead = refused(simulator)
    assert set(dead.values()) <= {1}
    assert 0 < len(dead) <= 8 * 4


async def test_links_that_are_revoked_cost_each_worker_one_dead_link_a_page(
    client: CentrePointClient, simulator: SlowService, clock: Clock, tmp_path: Path
) -> None:
    """Their dates are not reached, so only a rejection shows it; then the page has the new ones for all files."""
    simulator.inject(faults.expire_links(), on=BLOBS, after=40)

    async with Mirror(tmp_path, options=TransferOptions(workers=8)) as mirror:
        report = await mirror.sync(files_of(client, clock.now))

    report.raise_for_failures()
    assert is_whole(simulator, tmp_path)
    dead = refused(simulator)
    assert set(dead.values()) == {1}
    assert len(dead) <= 8 * 3
    assert len(simulator.seen(LISTS)) <= 3 + 3


async def test_links_may_be_revoked_twice(client: CentrePointClient, simulator: SlowService, clock: Clock) -> None:
    """New links that were good before they were rejected are renewed too; each time one file of the page meets it."""
    files = files_of(client, clock.now)
    listed = [file async for file in files]
    simulator.clear()
    for at in (0, 10):
        simulator.expire_links()
        with pytest.raises(PermissionDeniedError):
            await files.open(listed[at])
        (fresh,) = await files.find([listed[at].key])
        for file in (fresh, *listed[at + 1 : at + 10]):
            await whole(await files.open(file))

    assert [seen.status for seen in simulator.seen(BLOBS)] == [403, *[200] * 10] * 2
    assert len(simulator.seen(LISTS)) == 2


async def test_a_link_is_not_tried_while_its_page_is_listed_for_another(
    client: CentrePointClient, simulator: SlowService, clock: Clock
) -> None:
    """It waits for the new one; where the list fails, its own is tried after all."""
    files = files_of(client, clock.now)
    first, second, third = [file async for file in files][:3]
    simulator.expire_links()
    with pytest.raises(PermissionDeniedError):
        await files.open(first)
    gate = asyncio.Event()
    simulator.clear()
    simulator.inject(faults.delay(gate), on=LISTS)
    finding = asyncio.ensure_future(files.find([first.key]))
    await simulator.until(lambda: simulator.seen(LISTS))
    opening = asyncio.ensure_future(files.open(second))
    await asyncio.wait([opening], timeout=0.05)
    assert simulator.seen(BLOBS) == []
    gate.set()
    await whole(await opening)
    assert len(await finding) == 1

    simulator.expire_links()
    with pytest.raises(PermissionDeniedError):
        await files.open(third)
    simulator.clear()
    simulator.inject(faults.status(503), on=LISTS, times=QUICK.attempts)
    finding = asyncio.ensure_future(files.find([third.key]))
    await simulator.until(lambda: simulator.seen(LISTS))
    opening = asyncio.ensure_future(files.open(second))
    with pytest.raises(PermissionDeniedError):
        await opening
    with pytest.raises(ServerError):
        await finding


async def test_files_that_are_refused_one_by_one_cost_few_lists(
    client: CentrePointClient, simulator: SlowService, clock: Clock, tmp_path: Path
) -> None:
    """Every second file of each page is rejected, whatever its link: that is said of them, and all others come."""
    kept = {key.data_set for key in simulator.files[:1]}
    barred = [key for key in simulator.files if key.data_set not in kept]
    assert len(barred) == 120
    body = "<Error><Code>AuthorizationPermissionMismatch</Code></Error>"
    for name in {key.data_set for key in barred}:
        simulator.inject(faults.status(403, body=body), on=f"GET *datasetexports*/{name.casefold()}/*", times=None)

    async with Mirror(tmp_path) as mirror:
        report = await mirror.sync(files_of(client, clock.now))

    assert report.counts[Action.FETCH] == 120
    assert len(report.failures) == 120
    assert {type(outcome.error) for outcome in report.failures} == {PermissionDeniedError}
    assert set(refused(simulator).values()) == {1}
    assert len(simulator.seen(LISTS)) <= 3 + 3 * 3


@pytest.mark.parametrize(
    ("worked", "wasted", "worth"),
    [(False, 0, False), (True, 0, True), (True, 1, True), (True, 2, False)],
)
def test_when_a_page_is_worth_listing_again(worked: bool, wasted: int, worth: bool) -> None:
    """A rejection that a new link does not change does not concern the link's age."""
    assert worth_listing(worked=worked, wasted=wasted) is worth


@pytest.mark.parametrize("each", [0.0, 1.0])
async def test_a_host_that_refuses_everybody_costs_few_lists(
    client: CentrePointClient, simulator: SlowService, clock: Clock, tmp_path: Path, each: float
) -> None:
    """A rule of the network: pages are listed a few times and not 240 times, and no link is requested twice."""
    simulator.each = each
    body = "<Error><Code>AuthorizationFailure</Code></Error>"
    simulator.inject(faults.status(403, body=body), on=BLOBS, times=None)

    async with Mirror(tmp_path) as mirror:
        report = await mirror.sync(files_of(client, clock.now))

    assert len(report.failures) == 240
    assert {type(outcome.error) for outcome in report.failures} == {PermissionDeniedError}
    assert set(refused(simulator).values()) == {1}
    assert len(simulator.seen(LISTS)) <= 3 + 3 + 3


async def test_a_file_goes_on_where_it_was_when_its_link_ends(
    client: CentrePointClient, simulator: SlowService, clock: Clock, tmp_path: Path
) -> None:
    """The new link leads to the same place, and the strong ETag still matches: no byte is requested twice."""
    simulator.inject(faults.drop(after_bytes=2000), on=BLOBS)
    (key,) = simulator.files[:1]
    files = files_of(client, clock.now)
    first = await anext(aiter(files))

    opened = await files.open(first)
    etag = opened.head.etag
    buffer = bytearray(2000)
    async with opened:
        assert await opened.stream.readinto(memoryview(buffer)) == 2000
    clock.seconds += 14_400
    rest = await whole(await files.open(first, offset=2000, validator=etag))

    assert bytes(buffer) + rest == simulator.content(key)
    requested = simulator.seen(BLOBS)
    assert [(seen.status, seen.headers.get("Range"), seen.headers.get("If-Match")) for seen in requested] == [
        (200, None, None),
        (206, "bytes=2000-", etag),
    ]
    assert requested[0].path == requested[1].path
    assert requested[0].target != requested[1].target


async def test_a_cut_body_is_continued_in_a_mirror_after_its_link_ended(
    client: CentrePointClient, simulator: SlowService, clock: Clock, tmp_path: Path
) -> None:
    """Half of some files comes, then their links end; the other halves come by new links, and no dead one twice."""
    simulator.link_lifetime, simulator.each = 60, 1.0
    simulator.inject(faults.drop(after_bytes=1500), on=BLOBS, times=20)

    waiting, ended = 0, asyncio.Event()

    async def wait_for_all(_: float) -> None:
        # All files that are cut wait until the links of all of them have ended, so that none ends while it is used.
        nonlocal waiting
        waiting += 1
        if waiting == 20:
            clock.seconds += 60
            ended.set()
        await ended.wait()

    async with Mirror(tmp_path, clock=arena_async.Clock(sleep=wait_for_all)) as mirror:
        report = await mirror.sync(files_of(client, clock.now))

    report.raise_for_failures()
    assert is_whole(simulator, tmp_path)
    requested = simulator.seen(BLOBS)
    assert set(Counter(seen.path for seen in requested if seen.status == 200).values()) == {1}
    parts = [seen.headers["Range"] for seen in requested if seen.status == 206]
    assert set(parts) == {"bytes=1500-"}
    assert len(parts) >= 10
    assert set(refused(simulator).values()) <= {1}


@pytest.mark.parametrize("change", ["run again", "removed", "elsewhere"])
async def test_a_new_link_to_something_else_is_not_taken_for_the_old_file(
    client: CentrePointClient, simulator: SlowService, clock: Clock, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another version, another path, or nothing: the download of the old one must decide."""
    files = files_of(client, clock.now)
    file = await anext(aiter(files))
    clock.seconds += 14_400
    if change == "run again":
        simulator.change_file(simulator.files[0])
    elif change == "removed":
        simulator.remove_file(simulator.files[0])
    else:
        monkeypatch.setattr(simulator.storage, "link", lambda origin, path, **_: f"{origin}/elsewhere{path}?sig=1")

    with pytest.raises(LinkExpiredError, match="List again"):
        await files.open(file)

    assert simulator.seen(BLOBS) == []
    found = await files.find([file.key])
    assert [fresh.key for fresh in found] == ([] if change == "removed" else [file.key])


async def test_a_file_that_was_refused_is_found_on_its_page(
    client: CentrePointClient, simulator: SlowService, clock: Clock
) -> None:
    """And the next ones of that page cost nothing; one that moved away is looked for by its subject."""
    files = files_of(client, clock.now)
    listed = [file async for file in files]
    simulator.expire_links()
    for file in listed[:3]:
        with pytest.raises(PermissionDeniedError):
            await files.open(file)
    simulator.remove_file(simulator.files[2])
    simulator.clear()

    fresh = [(await files.find([file.key])) for file in listed[:3]]

    assert [[found.key for found in one] for one in fresh] == [[listed[0].key], [listed[1].key], []]
    queries = [{name: value for name, value in seen.query.items() if name != "limit"} for seen in simulator.seen(LISTS)]
    assert queries[0] == {"offset": "0"}
    assert [query.get("subjectId") for query in queries[1:]] == ["10821"]
    for one in fresh[:2]:
        await whole(await files.open(one[0]))


async def test_a_list_that_fails_fails_for_everybody_who_waits(
    client: CentrePointClient, simulator: SlowService, clock: Clock
) -> None:
    """Each gets an error of its own, and the next one requests it again."""
    files = files_of(client, clock.now)
    listed = [file async for file in files]
    await client.session.send(files._query.request)
    clock.seconds += 14_400
    simulator.inject(faults.status(503), on=LISTS, times=3)
    simulator.clear()
    simulator.inject(faults.status(503), on=LISTS, times=2)

    errors = await asyncio.gather(*[files.open(file) for file in listed[:4]], return_exceptions=True)

    assert {type(error) for error in errors} == {ServerError}
    assert len({id(error) for error in errors}) == 4
    await whole(await files.open(listed[0]))


async def test_closing_ends_whoever_waits_for_a_link(simulator: SlowService, clock: Clock) -> None:
    """With our own error."""
    client = simulator.client(retry=QUICK)
    files = files_of(client, clock.now)
    file = await anext(aiter(files))
    clock.seconds += 14_400
    simulator.clear()
    simulator.inject(faults.hang(), on=LISTS)
    waiting = asyncio.ensure_future(files.open(file))
    await simulator.until(lambda: simulator.seen(LISTS))
    await client.aclose()
    with pytest.raises(ClosedError):
        await waiting


async def test_a_reader_that_leaves_takes_no_link_away_from_the_others(
    client: CentrePointClient, simulator: SlowService, clock: Clock
) -> None:
    """The list belongs to the set and not to its first caller."""
    files = files_of(client, clock.now)
    listed = [file async for file in files]
    clock.seconds += 14_400
    gate = asyncio.Event()
    simulator.clear()
    simulator.inject(faults.delay(gate), on=LISTS)
    first, second = (asyncio.ensure_future(files.open(file)) for file in listed[:2])
    await simulator.until(lambda: simulator.seen(LISTS))
    first.cancel()
    gate.set()
    assert await whole(await second) == simulator.content(simulator.files[1])
    assert first.cancelled()


async def test_links_from_elsewhere_are_judged_by_their_dates_alone(
    client: CentrePointClient, simulator: SlowService, clock: Clock
) -> None:
    """A set can only list again what it listed itself."""
    one, other = files_of(client, clock.now), files_of(client, clock.now)
    file = await anext(aiter(one))
    assert file.link is not None
    bare = attrs.evolve(file, link=type(file.link)(file.link.reveal(), clock.now() + timedelta(seconds=5)))
    await whole(await other.open(bare))
    clock.seconds += 6
    with pytest.raises(LinkExpiredError):
        await other.open(bare)


async def test_a_filter_that_is_overlooked_is_noticed_in_a_set_too(
    client: CentrePointClient, simulator: SlowService
) -> None:
    """Renewing compares keys; listing compares what was requested."""
    simulator.filters_ignored = True
    with pytest.raises(ListingError):
        [file async for file in client.datasets.files(234, subject=10822)]
