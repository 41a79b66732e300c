"""One file on its way home, whatever happens to it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import attrs
import pytest
from cancel_everywhere import HOW, How, cancel_at_every_await
from directory_bench import Bench, one
from disks import FaultyDisk
from filesets import Asked, MemoryFiles, Source, content, remote

from arena_async import Action, Finished, Progress, Retrying, Started
from arena_async.errors import (
    ApiError,
    AuthenticationError,
    ContentError,
    DiskFullError,
    IntegrityError,
    LinkExpiredError,
    NotFoundError,
    PermissionDeniedError,
    QuotaExhaustedError,
    ServerError,
    SourceChangedError,
    TransferError,
    TransportError,
)
from arena_async.options import KIB, MIB
from arena_async.protocol.files import OpenedFile, RemoteFile, ResponseOrder
from arena_async.protocol.messages import Secret

SIZE = 300_000
BODY = content(SIZE)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Return a directory in which partial files are recorded every 64 KiB."""
    return Bench(tmp_path / "out")


async def test_a_file_is_fetched_verified_and_named(bench: Bench) -> None:
    """One request, the right bytes, nothing left beside them."""
    files = one(Source(body=BODY), size=SIZE)

    outcome = await bench.fetch(files)

    assert outcome.error is None
    assert (outcome.action, outcome.attempts, outcome.bytes_written) == (Action.FETCH, 1, SIZE)
    assert (outcome.verified_by, outcome.sha256) == ("length", hashlib.sha256(BODY).hexdigest())
    assert outcome.path == bench.root / "files" / "a.bin"
    assert outcome.path.read_bytes() == BODY
    assert files.requested == [Asked(key="test/a", offset=0, validator=None)]
    assert bench.partials() == []
    assert files.open_bodies == 0


async def test_an_empty_file_is_a_file(bench: Bench) -> None:
    """TR08: really empty."""
    outcome = await bench.fetch(one(Source(body=b""), size=0))

    assert outcome.error is None
    assert (bench.root / "files" / "a.bin").read_bytes() == b""


async def test_a_file_that_should_not_be_empty_is_asked_for_again(bench: Bench) -> None:
    """TR08: 200 with nothing in it."""
    files = one(Source(body=BODY, announced=False, faults=[0]), size=SIZE)

    outcome = await bench.fetch(files)

    assert outcome.error is None
    assert outcome.attempts == 2


async def test_a_cut_body_goes_on_at_the_byte_it_reached(bench: Bench) -> None:
    """TR01: the rest, and only the rest, under the strong ETag."""
    files = one(Source(body=BODY, faults=[200_000]), size=SIZE)

    outcome = await bench.fetch(files)

    assert outcome.error is None
    assert (outcome.attempts, outcome.bytes_written) == (2, SIZE)
    assert files.requested[1] == Asked(key="test/a", offset=200_000, validator='"v1"')
    assert (bench.root / "files" / "a.bin").read_bytes() == BODY
    assert bench.waits == [0.625]


async def test_a_cut_body_without_a_strong_etag_begins_anew(bench: Bench) -> None:
    """A weak validator proves nothing, so no range is ever asked for."""
    files = one(Source(body=BODY, etag='W/"v1"', faults=[200_000]), size=SIZE)

    outcome = await bench.fetch(files)

    assert outcome.error is None
    assert [requested.offset for requested in files.requested] == [0, 0]
    assert (bench.root / "files" / "a.bin").read_bytes() == BODY


async def test_a_server_without_ranges_is_asked_for_one_only_once(bench: Bench) -> None:
    """TR17: its whole answer is used, and the next cut does not try a range again."""
    files = one(Source(body=BODY, ranges=False, faults=[200_000, 200_000, 250_000]), size=SIZE)

    outcome = await bench.fetch(files)

    assert outcome.error is None
    assert [requested.offset for requested in files.requested] == [0, 200_000, 0, 0]
    assert (bench.root / "files" / "a.bin").read_bytes() == BODY


async def test_what_an_earlier_run_left_is_continued(bench: Bench) -> None:
    """The bytes known to be on the disk are not asked for again, and are hashed all the same."""
    files = one(Source(body=BODY, faults=[200_000]), size=SIZE)
    stopped = await bench.sync(_Once(files), attempts=1)
    assert isinstance(stopped.error, QuotaExhaustedError)
    assert len(bench.partials()) == 2

    outcome = await bench.fetch(files)

    assert outcome.error is None
    assert outcome.action is Action.RESUME
    assert files.requested[-1].offset >= 196_608
    assert outcome.bytes_written == SIZE - files.requested[-1].offset
    assert outcome.sha256 == hashlib.sha256(BODY).hexdigest()
    assert (bench.root / "files" / "a.bin").read_bytes() == BODY
    assert bench.partials() == []


@pytest.mark.parametrize("broken", [True, False])
async def test_what_came_out_of_order_is_not_recorded(bench: Bench, broken: bool) -> None:
    """It may be the content of another file, so that a later run begins anew; else it goes on."""
    files = one(Source(body=BODY, faults=[200_000, QuotaExhaustedError("It is used up.")]), size=SIZE)
    in_order, order = files.open, ResponseOrder()
    order.broken = broken

    async def out_of_order(*args: Any, **how: Any) -> OpenedFile:
        return attrs.evolve(await in_order(*args, **how), order=order)

    files.open = out_of_order  # type: ignore[method-assign]
    await bench.sync(files, attempts=1)
    left = bench.partials("*.part")
    files.open = in_order  # type: ignore[method-assign]
    outcome = await bench.fetch(files)

    assert len(left) == (0 if broken else 1)
    assert files.requested[-1].offset == (0 if broken else 200_000)
    assert outcome.sha256 == hashlib.sha256(BODY).hexdigest()


async def test_what_a_second_interruption_leaves_is_continued_too(bench: Bench) -> None:
    """CR03: what comes behind a continued part is recorded as it comes, just like the first."""
    files = one(Source(body=BODY, faults=[100_000, 100_000]), size=SIZE)
    for _ in range(2):
        files.requested.clear()
        await bench.sync(_Once(files), attempts=1)

    outcome = await bench.fetch(files)

    assert [requested.offset for requested in files.requested] == [100_000, 200_000]
    assert outcome.sha256 == hashlib.sha256(BODY).hexdigest()
    assert bench.partials() == []


async def test_a_part_of_a_content_of_another_size_is_not_asked_about(bench: Bench) -> None:
    """The listing says that it is another content: one request for the whole, and none that finds that out."""
    files = one(Source(body=BODY, faults=[200_000]), size=SIZE)
    await bench.sync(_Once(files), attempts=1)
    newer = one(Source(body=BODY[:-1], etag='"v2"'), size=SIZE - 1, change="2")

    outcome = await bench.fetch(newer)

    assert outcome.error is None
    assert outcome.action is Action.FETCH
    assert [requested.offset for requested in newer.requested] == [0]
    assert bench.partials() == []


class _Once(MemoryFiles):
    """A set whose allowance ends after one request."""

    def __init__(self, files: MemoryFiles) -> None:
        self.__dict__.update(files.__dict__)

    async def open(self, file: RemoteFile, *, offset: int = 0, validator: str | None = None) -> Any:
        if self.requested:
            raise QuotaExhaustedError("GET /content: the allowance is used up.")
        return await super().open(file, offset=offset, validator=validator)


async def test_an_old_part_of_a_changed_file_is_dropped(bench: Bench) -> None:
    """TR25: 412, then the whole of the new content, without another listing: the entry is fresh."""
    files = one(Source(body=BODY, faults=[200_000]), size=SIZE)
    await bench.sync(_Once(files))
    new = content(SIZE, "new")
    changed = one(Source(body=new, etag='"v2"'), size=SIZE, change="2")

    outcome = await bench.fetch(changed)

    assert outcome.error is None
    assert [requested.offset > 0 for requested in changed.requested] == [True, False]
    assert changed.found == []
    assert (bench.root / "files" / "a.bin").read_bytes() == new


async def test_a_file_that_changes_meanwhile_begins_anew(bench: Bench) -> None:
    """TR25: 412 within a run; the entry is looked up again, and nothing is spliced."""
    new = content(SIZE, "new")
    files = one(Source(body=BODY, faults=[200_000]), size=SIZE)

    async def change(requested: Asked) -> None:
        if requested.offset:
            files.sources["test/a"] = Source(body=new, etag='"v2"')

    files.before_open = change
    outcome = await bench.fetch(files)

    assert outcome.error is None
    assert files.found == [("test/a",)]
    assert (bench.root / "files" / "a.bin").read_bytes() == new


async def test_a_file_that_changes_with_every_answer_fails_after_two_restarts(bench: Bench) -> None:
    """TR24: unequal mirrors; nothing is kept of any of them."""
    files = one(Source(body=BODY), size=SIZE)

    async def flip(_: Asked) -> None:
        number = len(files.requested)
        files.sources["test/a"] = Source(body=BODY, etag=f'"v{number}"', faults=[150_000])

    files.before_open = flip
    outcome = await bench.fetch(files)

    assert isinstance(outcome.error, SourceChangedError)
    assert [requested.offset for requested in files.requested] == [0, 150_000, 0, 150_000, 0, 150_000]
    assert bench.partials() == []


async def test_a_size_that_contradicts_the_listing_is_looked_up_once(bench: Bench) -> None:
    """TR05: the fresh entry agrees, and the file comes."""
    files = one(Source(body=BODY), size=SIZE - 1)
    files.fresh["test/a"] = remote("a", size=SIZE)

    outcome = await bench.fetch(files)

    assert outcome.error is None
    assert files.found == [("test/a",)]
    assert outcome.attempts == 2


async def test_a_service_that_contradicts_itself_fails(bench: Bench) -> None:
    """TR05: the fresh entry says the same wrong size; nothing is committed."""
    files = one(Source(body=BODY), size=SIZE - 1)

    outcome = await bench.fetch(files)

    assert isinstance(outcome.error, SourceChangedError)
    assert outcome.attempts == 2
    assert not (bench.root / "files" / "a.bin").exists()
    assert bench.partials() == []


async def test_an_expired_link_is_renewed_once(bench: Bench) -> None:
    """TR26 and TR27: a fresh entry, a fresh link, and on from the byte that was reached."""
    expired = LinkExpiredError("GET /content: the link is over.")
    files = one(Source(body=BODY, faults=[expired, 200_000, expired]), size=SIZE, link=Secret("/a?n=1&sig=s"))
    files.fresh["test/a"] = remote("a", size=SIZE, link=Secret("/a?n=2&sig=s"))

    async def generation(_: Asked) -> None:
        files.fresh["test/a"] = remote("a", size=SIZE, link=Secret(f"/a?n={len(files.requested) + 1}&sig=s"))

    files.before_open = generation
    outcome = await bench.fetch(files)

    assert outcome.error is None
    assert [requested.offset for requested in files.requested] == [0, 0, 200_000, 200_000]
    assert len(files.found) == 2
    assert (bench.root / "files" / "a.bin").read_bytes() == BODY


async def test_a_dead_link_is_not_asked_twice(bench: Bench) -> None:
    """TR26: the listing still gives the same link."""
    expired = LinkExpiredError("GET /content: the link is over.")
    files = one(Source(body=BODY, faults=[expired]), size=SIZE, link=Secret("/1?sig=secret"))

    outcome = await bench.fetch(files)

    assert isinstance(outcome.error, LinkExpiredError)
    assert len(files.requested) == 1
    assert "secret" not in str(outcome.error)


async def test_a_forbidden_link_is_renewed_until_the_same_comes_and_then_believed(bench: Bench) -> None:
    """TR28: a 403 for another reason."""
    refused = [PermissionDeniedError("403", status=403) for _ in range(9)]
    files = one(Source(body=BODY, faults=list(refused)), size=SIZE, link=Secret("/a?n=1&sig=s"))
    files.fresh["test/a"] = remote("a", size=SIZE, link=Secret("/a?n=2&sig=s"))

    outcome = await bench.fetch(files)

    assert isinstance(outcome.error, PermissionDeniedError)
    assert (len(files.requested), len(files.found)) == (2, 2)
    assert outcome.action is Action.FETCH


async def test_a_renewed_entry_of_another_content_begins_anew(bench: Bench) -> None:
    """TR29: never a splice of two versions."""
    new = content(260_000, "new")
    files = one(Source(body=BODY, faults=[200_000, LinkExpiredError("over")]), size=SIZE, link=Secret("/a?n=1&sig=s"))
    files.fresh["test/a"] = remote("a", size=260_000, change="2", link=Secret("/a?n=2&sig=s"))

    async def replace(requested: Asked) -> None:
        if len(files.requested) == 3:
            files.sources["test/a"] = Source(body=new, etag='"v2"')

    files.before_open = replace
    outcome = await bench.fetch(files)

    assert outcome.error is None
    assert [requested.offset for requested in files.requested] == [0, 200_000, 0]
    assert (bench.root / "files" / "a.bin").read_bytes() == new
    assert outcome.file.change == "2"


async def test_a_file_that_is_gone_meanwhile_fails_and_leaves_nothing(bench: Bench) -> None:
    """Its entry cannot be renewed."""
    files = one(Source(body=BODY, faults=[200_000, LinkExpiredError("over")]), size=SIZE, link=Secret("/1"))

    async def remove(_: Asked) -> None:
        files.rows = []

    files.before_open = remove
    outcome = await bench.fetch(files)

    assert isinstance(outcome.error, SourceChangedError)
    assert bench.partials() == []


@pytest.mark.parametrize("status", [400, 404, 409, 410, 501])
async def test_a_permanent_refusal_is_asked_for_once(status: int, bench: Bench) -> None:
    """TR34."""
    files = one(Source(body=BODY, faults=[ApiError(f"GET: {status}.", status=status)]))

    outcome = await bench.fetch(files)

    assert isinstance(outcome.error, ApiError)
    assert outcome.attempts == 1


async def test_a_refusal_for_ever_is_remembered_with_its_reason(bench: Bench) -> None:
    """TR36 and TR55: an error now, a reason to skip from the next run on."""
    files = one(Source(body=BODY, faults=[NotFoundError("GET: no content.", status=400, code=3028)]))

    outcome = await bench.fetch(files)

    assert isinstance(outcome.error, NotFoundError)
    assert outcome.action is Action.SKIP
    assert bench.rows("key", "kind", "reason", "change", table="refusals") == [
        ("test/a", "denied", "GET: no content.", "1")
    ]


async def test_what_may_pass_is_tried_as_often_as_allowed(bench: Bench) -> None:
    """TR33: five requests, waits that grow, then the last answer as a typed error."""
    files = one(Source(body=BODY, faults=[ServerError("GET: 503.", status=503, transient=True)] * 9))

    outcome = await bench.fetch(files)

    assert isinstance(outcome.error, ServerError)
    assert outcome.attempts == len(files.requested) == 5
    assert bench.waits == [0.75, 1.0, 1.5, 2.5]


async def test_the_wait_the_service_asks_for_is_kept_within_reason(bench: Bench) -> None:
    """QU17: 17 seconds are waited, a day is not."""
    slow = [
        ServerError("400", status=400, transient=True, retry_after=17.0),
        ServerError("400", status=400, transient=True, retry_after=86_400.0),
    ]
    files = one(Source(body=BODY, faults=list(slow)))

    outcome = await bench.fetch(files)

    assert isinstance(outcome.error, ServerError)
    assert bench.waits == [17.0]


async def test_one_byte_for_each_request_is_no_progress(bench: Bench) -> None:
    """TR49: the requests have an end."""
    files = one(Source(body=BODY, faults=[1] * 100), size=SIZE)

    outcome = await bench.fetch(files)

    assert isinstance(outcome.error, TransportError)
    assert len(files.requested) == 5


async def test_progress_resets_the_patience(bench: Bench) -> None:
    """Many cuts with bytes between them are not a failure."""
    body = content(2_000_000)
    files = one(Source(body=body, faults=[100_000] * 15), size=len(body))

    outcome = await bench.fetch(files)

    assert outcome.error is None
    assert outcome.attempts == 16
    assert outcome.bytes_written == len(body)


async def test_a_stale_login_is_tried_again_once(bench: Bench) -> None:
    """The session logs in again with the next request."""
    stale = [AuthenticationError("401", status=401, stale_login=True, transient=True) for _ in range(3)]
    once = one(Source(body=BODY, faults=stale[:1]), size=SIZE)
    twice = one(Source(body=BODY, faults=stale[1:]), size=SIZE, change="2")

    first, second = await bench.sync(once), await bench.sync(twice)

    assert (first.outcomes[0].error, first.outcomes[0].attempts, first.error) == (None, 2, None)
    assert isinstance(second.error, AuthenticationError)
    assert (len(twice.requested), second.outcomes, second.not_started) == (2, (), 1)


async def test_a_used_up_allowance_stops_the_service(bench: Bench) -> None:
    """One request, and a word to the pool."""
    files = one(Source(body=BODY, faults=[QuotaExhaustedError("used up")]))

    report = await bench.sync(files)

    assert isinstance(report.error, QuotaExhaustedError)
    assert (len(files.requested), report.outcomes, report.not_started) == (1, (), 1)


async def test_a_wrong_digest_gets_one_more_chance(bench: Bench) -> None:
    """TR14: one restart from zero, then an error, and nothing stays."""
    files = one(Source(body=BODY, md5="0" * 32), size=SIZE)

    outcome = await bench.fetch(files)

    assert isinstance(outcome.error, IntegrityError)
    assert [requested.offset for requested in files.requested] == [0, 0]
    assert bench.partials() == []
    assert not (bench.root / "files" / "a.bin").exists()


async def test_a_right_digest_is_the_proof(bench: Bench) -> None:
    """I9: the strongest proof there is."""
    outcome = await bench.fetch(one(Source(body=BODY, md5=hashlib.md5(BODY).hexdigest())))  # noqa: S324

    assert outcome.verified_by == "md5"


async def test_content_without_any_proof_says_so(bench: Bench) -> None:
    """I9: ``none`` is never called verified."""
    outcome = await bench.fetch(one(Source(body=BODY, announced=False)))

    assert outcome.error is None
    assert outcome.verified_by == "none"


async def test_a_body_without_end_is_stopped_one_byte_too_far(bench: Bench) -> None:
    """TR07: more than listed, without an announced length."""
    files = one(Source(body=BODY, announced=False), size=100_000)

    outcome = await bench.fetch(files)

    assert isinstance(outcome.error, ContentError)
    assert outcome.attempts == 1
    assert outcome.bytes_written <= 100_000
    assert bench.partials() == []


async def test_a_file_above_the_limit_is_not_asked_for(bench: Bench) -> None:
    """TR07: announced in the listing, in the head, or nowhere."""
    listed = one(Source(body=BODY), size=SIZE)
    announced, silent = one(Source(body=BODY)), one(Source(body=BODY, announced=False))

    outcomes = [await bench.fetch(files, max_file_size=100_000) for files in (listed, announced, silent)]

    assert [type(outcome.error) for outcome in outcomes] == [ContentError] * 3
    assert [len(files.requested) for files in (listed, announced, silent)] == [0, 1, 1]
    assert [outcome.bytes_written <= 100_000 for outcome in outcomes] == [True] * 3
    assert bench.partials() == []


async def test_the_old_file_stays_until_the_new_one_is_whole(bench: Bench) -> None:
    """I1: at every instant the one or the other."""
    old = bench.root / "files" / "a.bin"
    await bench.fetch(one(Source(body=b"old"), change="0"))
    seen: list[bytes] = []
    files = one(Source(body=BODY, faults=[200_000, ApiError("GET: 409.", status=409)]), size=SIZE)

    async def look(_: Asked) -> None:
        seen.append(old.read_bytes())

    files.before_open = look
    failed = await bench.fetch(files)
    came = await bench.fetch(files)

    assert isinstance(failed.error, ApiError)
    assert came.action is Action.REFRESH
    assert seen == [b"old"] * 3
    assert old.read_bytes() == BODY


async def test_a_full_disk_is_no_reason_to_ask_again(tmp_path: Path) -> None:
    """ST01: no further file is begun, and no further request leaves."""
    disk = FaultyDisk()
    disk.fill_up(100_000)
    bench = Bench(tmp_path / "out", disk=disk)
    files = one(Source(body=BODY), size=SIZE)

    report = await bench.sync(files)

    assert isinstance(report.outcomes[0].error, DiskFullError)
    assert (report.error, len(files.requested)) == (report.outcomes[0].error, 1)
    assert not (bench.root / "files" / "a.bin").exists()


async def test_a_known_size_that_does_not_fit_is_not_asked_for(tmp_path: Path) -> None:
    """ST02: before any body byte."""
    disk = FaultyDisk()
    disk.replace("free", lambda real, directory: 1000)
    files = one(Source(body=BODY), size=SIZE)

    outcome = await Bench(tmp_path / "out", disk=disk).fetch(files)

    assert isinstance(outcome.error, DiskFullError)
    assert files.requested == []


async def test_an_unexpected_exception_is_the_outcome_of_its_file(bench: Bench) -> None:
    """CR12: a fault of a set fails its file and nothing else, and the slot comes back."""
    files = one(Source(body=BODY, faults=[MemoryError("no more"), KeyError("https://h/x?sig=secret")]))

    async with bench.mirror(workers=1) as mirror:
        first, second, third = [(await mirror.sync(files)).outcomes[0] for _ in range(3)]

    assert isinstance(first.error, TransferError)
    assert "MemoryError" in str(first.error)
    assert "secret" not in str(second.error)
    assert third.error is None


async def test_events_tell_the_way_of_a_file(bench: Bench) -> None:
    """Absolute bytes, the wait before the next try, and no link."""
    files = one(Source(body=BODY, faults=[200_000]), size=SIZE, link=Secret("/x?sig=secret"))

    await bench.fetch(files)

    shown = remote("a", size=SIZE)
    kinds = [type(event) for event in bench.events]
    assert kinds == [Started, Progress, Retrying, Finished]
    assert bench.events[0] == Started(file=shown, action=Action.FETCH, bytes_done=0, total=SIZE)
    retrying = bench.events[2]
    assert isinstance(retrying, Retrying)
    assert (retrying.attempt, retrying.bytes_done, retrying.wait) == (1, 200_000, 0.625)
    assert all(event.file.link is None for event in bench.events if not hasattr(event, "outcome"))  # type: ignore[union-attr]


@pytest.mark.parametrize("how", HOW)
async def test_a_cancellation_at_any_await_leaves_a_whole_file_or_none(how: How, tmp_path: Path) -> None:
    """CC01: the right bytes under the final name or none, no open body, no busy worker, and the rerun is clean."""
    bench = Bench(tmp_path / "out", workers=1, durability="off")
    runs: dict[int, MemoryFiles] = {}
    results = []
    async with bench.mirror() as mirror:

        def start(at: int) -> Any:
            file = remote(f"f{at}", size=SIZE)
            runs[at] = MemoryFiles([file], {file.key: Source(body=BODY, faults=[200_000])})
            return mirror.sync(runs[at])

        async for stopped in cancel_at_every_await(start, how=how, everywhere=True):
            final = bench.root / "files" / f"f{stopped.at}.bin"
            assert not final.exists() or final.read_bytes() == BODY
            assert stopped.cancelled or (stopped.result is not None and stopped.result.failures == ())
            assert runs[stopped.at].open_bodies == 0
            results.append(stopped)
        assert len(results) > 30
        for at, files in runs.items():
            again = await mirror.sync(files)
            assert again.failures == ()
            assert (bench.root / "files" / f"f{at}.bin").read_bytes() == BODY
    assert bench.partials() == []


async def test_no_more_than_two_buffers_a_slot_are_ever_filled(bench: Bench) -> None:
    """I7: the buffers handed to the body are the slot's own two, whatever the size of the file."""
    body = content(4 * MIB)
    files = one(Source(body=body), size=len(body))
    seen: set[int] = set()
    plain = MemoryFiles._opened

    class Watched(MemoryFiles):
        def _opened(self, *args: Any) -> Any:
            opened = plain(self, *args)
            readinto = opened.stream.readinto

            async def watched(buffer: memoryview) -> int:
                seen.add(id(buffer.obj))
                assert len(buffer) <= 64 * KIB
                return await readinto(buffer)

            opened.stream.readinto = watched  # type: ignore[method-assign]
            return opened

    watched = Watched(files.rows, files.sources)
    await bench.run(watched, workers=1)

    assert len(seen) == 2
