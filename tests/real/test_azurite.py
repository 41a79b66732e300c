"""
Files that lie in real storage behind real signed links, brought home through the client of CentrePoint.

The lists come from the simulator, the content and every refusal from Azurite, and what was asked is in Azurite's log.
"""

from __future__ import annotations

import asyncio
import traceback
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from azurite import ACCOUNT, CONTAINER, Answered, AzureLinks, Azurite
from cutting_proxy import CuttingDoor
from filesets import content

from arena_async import Action, Mirror, Report
from arena_async.errors import ArenaAsyncError, PermissionDeniedError, SourceChangedError
from arena_async.options import Clock, RetryPolicy, TransferOptions
from arena_async.protocol.files import FileSet
from arena_async.providers.centrepoint import CentrePointClient, CentrePointCredentials, DayQuery, RawQuery
from arena_async.testing.centrepoint.simulator import CentrePointSimulator, FileKey

pytestmark = pytest.mark.real

#: Files come in pieces of this size, and are known to be on the disk piece by piece.
PIECES = 65_536
RAW = "raw-accelerometer"


class World:
    """A simulated CentrePoint whose links lead to Azurite, and a client of it."""

    def __init__(self, azurite: Azurite, simulator: CentrePointSimulator, client: CentrePointClient) -> None:
        self.azurite = azurite
        self.simulator = simulator
        self.client = client

    @property
    def links(self) -> AzureLinks:
        """What makes the links."""
        assert isinstance(self.simulator.storage, AzureLinks)
        return self.simulator.storage

    def use(self, links: AzureLinks) -> None:
        """Let other links be given out from now on."""
        self.simulator.storage = links

    async def store_datasets(self) -> None:
        """Put the content of every dataset file where its link leads."""
        async for row in self.client.datasets.search(self.simulator.study):
            key = FileKey(row.study_id, row.study_program_id, row.data_set_name, row.subject_id)
            assert row.file_url is not None
            await self.azurite.put(blob_of(row.file_url.reveal()), self.simulator.content(key))
        self.links.given.clear()

    async def store_big(self, body: bytes) -> str:
        """Put one body where the link of the only dataset file leads, and give the name of the blob."""
        (row,) = [row async for row in self.client.datasets.search(self.simulator.study)]
        assert row.file_url is not None
        await self.azurite.put(blob_of(row.file_url.reveal()), body)
        self.links.given.clear()
        return blob_of(row.file_url.reveal())

    def datasets(self) -> FileSet:
        """Return all dataset files."""
        return self.client.datasets.files(self.simulator.study)

    def offered(self) -> dict[str, bytes]:
        """Return what should be in a folder."""
        return {key.path: self.simulator.content(key) for key in self.simulator.files}


@pytest.fixture
async def azurite(tmp_path: Path) -> AsyncIterator[Azurite]:
    """Yield storage that is empty."""
    home = tmp_path / "azurite"
    home.mkdir()
    async with Azurite(home) as running:
        yield running


Make = Callable[..., Awaitable[World]]


@pytest.fixture
async def make(azurite: Azurite) -> AsyncIterator[Make]:
    """Yield what makes a world; it ends with the test."""
    made: list[Any] = []

    async def build(*, links: AzureLinks | None = None, **options: Any) -> World:
        simulator = CentrePointSimulator(**{"subjects": 3, "file_size": 20_000, **options})
        simulator.storage = links or AzureLinks(azurite)
        await simulator.start()
        client = CentrePointClient(
            CentrePointCredentials(simulator.client_id, simulator.client_secret),
            base_url=simulator.base_url,
            auth_url=simulator.auth_url,
            retry=RetryPolicy(wait_initial=0, wait_jitter=0),
            ssl=azurite.trust,
        )
        made.extend((client, simulator))
        return World(azurite, simulator, client)

    yield build
    for one in made:
        await one.aclose()


def blob_of(url: str) -> str:
    """Return the name of the blob a link leads to."""
    return unquote(urlsplit(url).path.removeprefix(f"/{ACCOUNT}/{CONTAINER}/"))


def below(directory: Path) -> dict[str, bytes]:
    """Return the final files of a folder by their path."""
    found = [path for path in directory.glob("centrepoint/**/*") if path.is_file()]
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in found}


async def sync(
    files: FileSet,
    directory: Path,
    *,
    sleep: Callable[[float], Awaitable[None]] | None = None,
    attempts: int = 5,
    workers: int = 8,
) -> Report:
    """Bring a set home; ``sleep`` is what happens between two tries."""

    async def at_once(_: float) -> None:
        await asyncio.sleep(0)

    options = TransferOptions(chunk_size=PIECES, attempts=attempts, workers=workers)
    async with Mirror(directory, options=options, clock=Clock(sleep=sleep or at_once)) as mirror:
        return await mirror.sync(files)


async def wait_until(timestamp: datetime) -> None:
    """Wait for the clock of this machine, by which links end."""
    while (left := (timestamp - datetime.now(UTC)).total_seconds()) > -1:
        await asyncio.sleep(max(left + 1, 0.05))


def end_of(link: str) -> datetime:
    """Return the end that a link states."""
    return datetime.fromisoformat(parse_qs(urlsplit(link).query)["se"][0])


# What goes well


@pytest.mark.parametrize("service", [False, True], ids=["user delegation", "service"])
async def test_a_study_comes_home_through_signed_links_and_only_once(
    make: Make, azurite: Azurite, tmp_path: Path, service: bool
) -> None:
    """Each file costs one request at the storage, verified by its MD5; the second run asks it for nothing."""
    world = await make(links=AzureLinks(azurite, service=service))
    await world.store_datasets()

    first = await sync(world.datasets(), tmp_path / "home")
    answered = await azurite.log(12)
    second = await sync(world.datasets(), tmp_path / "home")

    first.raise_for_failures()
    assert (first.counts[Action.FETCH], second.counts[Action.KEEP]) == (12, 12)
    assert {outcome.verified_by for outcome in first.outcomes} == {"md5"}
    assert below(tmp_path / "home") == world.offered()
    assert [row.status for row in answered] == [200] * 12
    assert len({row.blob for row in answered}) == 12
    assert len(await azurite.log()) == 12


async def test_days_come_home_as_gzip_and_avro(make: Make, azurite: Azurite, tmp_path: Path) -> None:
    """By links as those of the page: signed for the account, and what a file is its bytes say."""
    world = await make(links=AzureLinks(azurite, service=True), subjects=1, days=20)
    simulator = world.simulator
    async for row in world.client.day_files.search(DayQuery(simulator.study, "A-001", RAW)):
        (key,) = (
            key
            for key in simulator.day_files.keys(simulator.subject, RAW, row.file_format)
            if key.day.isoformat() == row.day
        )
        assert row.download_url is not None
        await azurite.put(blob_of(row.download_url.reveal()), simulator.day_files.content(key))

    report = await sync(world.client.day_files.files(DayQuery(simulator.study, "A-001", RAW)), tmp_path / "home")

    report.raise_for_failures()
    assert report.counts[Action.FETCH] == 40
    keys = simulator.day_files.keys(simulator.subject, RAW)
    assert below(tmp_path / "home") == {key.path: simulator.day_files.content(key) for key in keys}
    assert Counter(row.status for row in await azurite.log(40)) == {200: 40}


async def test_a_request_for_raw_data_comes_home_by_links_made_for_each_file(
    make: Make, azurite: Azurite, tmp_path: Path
) -> None:
    """One link and one answer for each file, the summary included."""
    world = await make(subjects=1)
    executor, raw = world.simulator.data_requests, world.client.raw_requests
    executor.pending = executor.working = 0
    span = {"time_from": "2024-02-01T00:00:00Z", "time_to": "2024-02-02T00:00:00Z"}
    started = await raw.start(RawQuery(world.simulator.study, "A-001", file_format="avro", **span))
    (request,) = executor.requests
    for file in executor.files_of(request):
        blob = f"dataretrieval-study-{world.simulator.study:010d}/{file.id}"
        await azurite.put(blob, b"".join(file.content.chunks()))

    report = await sync(raw.files(await raw.wait(started)), tmp_path / "home")

    report.raise_for_failures()
    assert {outcome.verified_by for outcome in report.outcomes} == {"md5"}
    assert sorted(below(tmp_path / "home").values()) == sorted(
        b"".join(file.content.chunks()) for file in executor.files_of(request)
    )
    assert len(world.links.given) == len(await azurite.log(3)) == 3


# Links that end


class DeadFirst(AzureLinks):
    """Returns links that are over until so many were given."""

    def __init__(self, azurite: Azurite, count: int) -> None:
        super().__init__(azurite)
        self._count = count

    def link(self, origin: str, path: str, *, now: datetime, ends: datetime) -> str:
        if len(self.given) < self._count:
            ends = datetime.now(UTC) - timedelta(minutes=2)
        return super().link(origin, path, now=now, ends=ends)


async def test_links_that_are_over_are_renewed_and_never_asked_twice(
    make: Make, azurite: Azurite, tmp_path: Path
) -> None:
    """Every file arrives; each link that was refused was tried once."""
    world = await make()
    await world.store_datasets()
    world.use(DeadFirst(azurite, 12))

    report = await sync(world.datasets(), tmp_path / "home")

    report.raise_for_failures()
    assert below(tmp_path / "home") == world.offered()
    answered = await azurite.log(13)
    dead = [row.target for row in answered if row.status == 403]
    assert len(dead) == len(set(dead)) > 0
    assert [row.status for row in answered].count(200) == 12


async def test_many_short_links_end_while_the_pool_works(make: Make, azurite: Azurite, tmp_path: Path) -> None:
    """Links of a second or two for hundreds of files: nothing fails, and no dead link is asked twice."""
    world = await make(subjects=75, file_size=30_000)
    await world.store_datasets()
    world.simulator.link_lifetime = 2

    report = await sync(world.datasets(), tmp_path / "home")

    report.raise_for_failures()
    assert report.counts[Action.FETCH] == 300
    assert below(tmp_path / "home") == world.offered()
    dead = [row.target for row in await azurite.log(300) if row.status == 403]
    assert len(dead) == len(set(dead))


async def test_a_body_that_is_cut_after_its_link_ended_goes_on_with_a_new_link(
    make: Make, azurite: Azurite, tmp_path: Path
) -> None:
    """The old link is refused, the new one gives the rest of the same content; no byte comes twice."""
    body = content(3_000_000)
    async with CuttingDoor(azurite.origin) as door:
        world = await make(
            links=AzureLinks(azurite, origin=door.origin), subjects=1, programs=1, data_sets=1, link_lifetime=2
        )
        await world.store_big(body)
        door.cuts = [1_500_000]

        async def sleep(_: float) -> None:
            world.simulator.link_lifetime = 600
            await wait_until(end_of(world.links.given[0]))

        report = await sync(world.datasets(), tmp_path / "home", sleep=sleep)

    report.raise_for_failures()
    (outcome,) = report.outcomes
    assert list(below(tmp_path / "home").values()) == [body]
    assert (outcome.verified_by, outcome.bytes_written) == ("md5", 3_000_000)
    ended = [row.status for row in await azurite.log(2)]
    assert ended[-1] == 206
    assert ended.count(403) <= 1
    assert len(world.links.given) == 2


# Content that changes, and bodies that break


async def test_a_body_that_is_cut_goes_on_where_it_was(make: Make, azurite: Azurite, tmp_path: Path) -> None:
    """In the same run: a range, and no byte twice."""
    body = content(3_000_000)
    async with CuttingDoor(azurite.origin) as door:
        world = await make(links=AzureLinks(azurite, origin=door.origin), subjects=1, programs=1, data_sets=1)
        await world.store_big(body)
        door.cuts = [1_500_000]

        report = await sync(world.datasets(), tmp_path / "home")

    report.raise_for_failures()
    assert (report.outcomes[0].bytes_written, report.outcomes[0].verified_by) == (3_000_000, "md5")
    assert list(below(tmp_path / "home").values()) == [body]
    assert [row.status for row in await azurite.log(1)][-1] == 206


async def test_a_run_that_failed_is_taken_up_by_the_next_one(make: Make, azurite: Azurite, tmp_path: Path) -> None:
    """With new links to the same content; what was on the disk does not come again."""
    body = content(24_000_000)
    async with CuttingDoor(azurite.origin) as door:
        world = await make(links=AzureLinks(azurite, origin=door.origin), subjects=1, programs=1, data_sets=1)
        await world.store_big(body)
        door.cuts = [20_000_000, 0]

        failed = await sync(world.datasets(), tmp_path / "home", attempts=1)
        later = await sync(world.datasets(), tmp_path / "home")

    assert len(failed.failures) == 1
    later.raise_for_failures()
    assert later.counts[Action.RESUME] == 1
    assert later.outcomes[0].bytes_written < 24_000_000 - 8_000_000
    assert later.outcomes[0].verified_by == "md5"
    assert list(below(tmp_path / "home").values()) == [body]
    assert [row.status for row in await azurite.log(1)][-1] == 206


async def test_content_that_was_replaced_between_two_tries_comes_new_and_whole(
    make: Make, azurite: Azurite, tmp_path: Path
) -> None:
    """The storage says 412: nothing of the old content is joined to the new one."""
    old, new = content(3_000_000, seed="old"), content(2_900_000, seed="new")
    async with CuttingDoor(azurite.origin) as door:
        world = await make(links=AzureLinks(azurite, origin=door.origin), subjects=1, programs=1, data_sets=1)
        blob = await world.store_big(old)

        async def sleep(_: float) -> None:
            await azurite.put(blob, new)

        door.cuts = [1_500_000]
        report = await sync(world.datasets(), tmp_path / "home", sleep=sleep)

    report.raise_for_failures()
    assert list(below(tmp_path / "home").values()) == [new]
    assert [row.status for row in await azurite.log(2)][-2:] == [412, 200]


# Refusals


def said(error: BaseException) -> str:
    """Return all that an error shows: its text, its fields, its traceback and what it came from."""
    return "".join(traceback.format_exception(error)) + repr(error) + repr(vars(error))


async def fail(world: World, directory: Path) -> ArenaAsyncError:
    """Bring home what cannot come, and give the error of the only file."""
    report = await sync(world.datasets(), directory)
    (failed,) = report.failures
    assert failed.error is not None
    assert below(directory) == {}
    for link in world.links.given:
        assert parse_qs(urlsplit(link).query)["sig"][0] not in said(failed.error)
        assert urlsplit(link).query not in said(failed.error)
    return failed.error


def assert_refused_once_each(answered: list[Answered]) -> None:
    """Insist that a link and its successor, which may be the same if it is of the same second, were asked once each."""
    assert {row.status for row in answered} == {403}
    assert len({row.target for row in answered}) == len(answered) <= 2


async def test_a_link_without_the_permission_is_renewed_once_and_then_an_error(
    make: Make, azurite: Azurite, tmp_path: Path
) -> None:
    """403 for another reason than its end: no loop, and the signature is shown nowhere."""
    world = await make(subjects=1, programs=1, data_sets=1)
    await world.store_datasets()
    world.links.permissions = "w"

    error = await fail(world, tmp_path / "home")

    assert isinstance(error, PermissionDeniedError)
    assert "AuthorizationPermissionMismatch" in str(error)
    assert_refused_once_each(await azurite.log(1))


class Forged(AzureLinks):
    """Returns links whose signature is that of another blob."""

    def link(self, origin: str, path: str, *, now: datetime, ends: datetime) -> str:
        good = super().link(origin, path, now=now, ends=ends)
        other = super().link(origin, f"{path}.other", now=now, ends=ends)
        return f"{good.rpartition('&sig=')[0]}&sig={other.rpartition('&sig=')[2]}"


async def test_a_forged_link_is_no_link_that_is_over(make: Make, azurite: Azurite, tmp_path: Path) -> None:
    """The storage gives the same code for both; the end that the link states tells them apart."""
    world = await make(subjects=1, programs=1, data_sets=1)
    await world.store_datasets()
    world.use(Forged(azurite))

    error = await fail(world, tmp_path / "home")

    assert isinstance(error, PermissionDeniedError)
    assert "AuthorizationFailure" in str(error)
    assert_refused_once_each(await azurite.log(1))


async def test_content_that_is_not_there_is_listed_again_and_then_an_error(
    make: Make, azurite: Azurite, tmp_path: Path
) -> None:
    """404 BlobNotFound: a later run may have replaced it; it had not."""
    world = await make(subjects=1, programs=1, data_sets=1)

    error = await fail(world, tmp_path / "home")

    assert isinstance(error, SourceChangedError)
    assert {row.status for row in await azurite.log(1)} == {404}
    assert len(await azurite.log()) <= 3
