"""Several sets as one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from pathlib import Path
from typing import Any

import pytest
from filesets import MemoryFiles, Source, remote

from arena_async import Action, Downloader, union
from arena_async.errors import ConfigurationError, LinkExpiredError, ListingError
from arena_async.options import TransferOptions
from arena_async.protocol.files import Cost, RemoteFile
from arena_async.protocol.messages import Secret


def named(*names: str, scope: str, **fields: Any) -> MemoryFiles:
    """Make a set."""
    rows = [remote(name, **fields) for name in names]
    return MemoryFiles(rows, {row.key: Source(body=row.key.encode()) for row in rows}, scope=scope)


async def test_a_union_lists_and_opens_each_file_where_it_came_from(tmp_path: Path) -> None:
    """One report, one pool of slots."""
    one, two = named("a", "b", scope="one"), named("c", scope="two")

    async with Downloader(tmp_path, options=TransferOptions(durability="off")) as downloads:
        report = await downloads.run(union(one, two))

    assert report.counts[Action.FETCH] == 3
    assert [requested.key for requested in two.requested] == ["test/c"]
    assert (tmp_path / "files" / "c.bin").read_bytes() == b"test/c"
    assert report.requests == 5


async def test_a_fresh_link_is_asked_for_where_the_old_one_came_from(tmp_path: Path) -> None:
    """The other set is not asked."""
    one, two = named("a", scope="one"), named("b", scope="two", link=Secret("/1"))
    two.sources["test/b"].faults = [LinkExpiredError("over")]
    two.fresh["test/b"] = remote("b", link=Secret("/2"))

    async with Downloader(tmp_path, options=TransferOptions(durability="off")) as downloads:
        report = await downloads.run(union(one, two))

    assert report.failures == ()
    assert (one.found, two.found) == ([], [("test/b",)])


async def test_a_listing_that_fails_does_not_keep_the_others_back(tmp_path: Path) -> None:
    """Its error comes in the end."""

    async def broken() -> AsyncIterator[RemoteFile]:
        yield remote("a")
        raise ListingError("it shrank")

    one = MemoryFiles(broken, {"test/a": Source(body=b"a")}, scope="one")
    two = named("b", scope="two")
    async with Downloader(tmp_path, options=TransferOptions(durability="off")) as downloads:
        with pytest.raises(ListingError, match="shrank"):
            await downloads.run(union(one, two))

    assert sorted(path.name for path in (tmp_path / "files").iterdir()) == ["a.bin", "b.bin"]
    assert one.listings_closed == 1


def test_a_union_says_what_its_sets_say() -> None:
    """Names, narrowing and price."""
    one, two = named("a", scope="one"), named("b", scope="two")
    two.narrowed = True

    both = union(one, two)

    assert both.scope == "one + two"
    assert both.narrowed
    assert both.cost() == Cost(listing=2, per_file=1, exact=True)
    assert both.since({}) is both
    assert union(one) is one
    with pytest.raises(ConfigurationError):
        union()


async def test_a_stranger_is_not_opened() -> None:
    """A file that no member listed has no set to open it."""
    both = union(named("a", scope="one"), named("b", scope="two"))

    with pytest.raises(ConfigurationError, match="did not come from this union"):
        await both.open(remote("x"))


async def test_shared_sessions_are_counted_once() -> None:
    """Two sets of one client report the same number."""
    one, two = named("a", scope="one"), named("b", scope="two")
    one.session = two.session = object()  # type: ignore[attr-defined]
    two.listings = one.listings = 7

    assert union(one, two).requests_sent == 7


async def test_a_key_that_a_set_cannot_look_up_may_be_found_in_another() -> None:
    """Where it is in none, the error of the first one says that it is not known to be gone."""

    class Doubtful(MemoryFiles):
        async def find(self, keys: Collection[str]) -> list[RemoteFile]:
            raise ListingError("one row is missing")

    both = union(Doubtful([], {}, scope="one"), named("b", scope="two"))

    assert [file.key for file in await both.find(["test/b"])] == ["test/b"]
    with pytest.raises(ListingError, match="one row is missing"):
        await both.find(["test/b", "test/c"])
