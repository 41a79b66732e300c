"""One file on its way home, whatever happens to it."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path, PurePosixPath
from typing import Any

import attrs
import pytest
from cancelling import HOW, How, cancel_at_every_await
from disks import FaultyDisk
from filesets import Asked, MemoryFiles, Source, content, remote

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
    ThrottledError,
    TransferError,
    TransportError,
)
from arena_async.options import KIB, MIB, TransferOptions
from arena_async.transfer.destination import Destination, Timing
from arena_async.transfer.events import Action, Advanced, Event, Retrying, Started
from arena_async.transfer.fetching import Fetched, Job, fetch_one
from arena_async.transfer.storage import Storage
from arena_async.wire.contracts import RemoteFile
from arena_async.wire.messages import Secret

SIZE = 300_000
BODY = content(SIZE)


class Bench:
    """A folder with a clock that stands still, where waits take no time and are written down."""

    def __init__(self, root: Path, **options: Any) -> None:
        self.root = root
        self.waits: list[float] = []
        self.events: list[Event] = []
        self.options = TransferOptions(**{"chunk_size": 64 * KIB, **options})

    def destination(self, **options: Any) -> Destination:
        """Make the folder; the part of a file that is known to be on the disk grows in steps of 64 KiB."""
        timing = Timing(clock=lambda: 0.0, sleep=self.sleep, random=lambda: 0.5)
        destination = Destination(
            self.root,
            options=attrs.evolve(self.options, **options),
            observer=self.events.append,
            remember=True,
            timing=timing,
            owner="Bench",
        )
        destination.storage = Storage(self.root, flush_unit=64 * KIB)
        return destination

    async def sleep(self, seconds: float) -> None:
        """Write the wait down."""
        self.waits.append(seconds)

    def partials(self) -> list[str]:
        """Name what lies among the partial files."""
        return sorted(path.name for path in (self.root / ".arena-async" / "partial").iterdir())


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Give a bench."""
    return Bench(tmp_path / "out")


@pytest.fixture
async def destination(bench: Bench) -> AsyncIterator[Destination]:
    """Give an open folder."""
    destination = bench.destination()
    await destination.open()
    yield destination
    await destination.aclose()


def job(file: RemoteFile, action: Action = Action.FETCH) -> Job:
    """Make the job of a file."""
    path = PurePosixPath("files") / f"{file.stem}{file.extension}"
    return Job(number=0, file=file, key=file.key, path=path, action=action)


async def fetch(files: MemoryFiles, destination: Destination, action: Action = Action.FETCH) -> Fetched:
    """Bring the only file of a set home."""
    assert isinstance(files.rows, list)
    fetched = await fetch_one(job(files.rows[0], action), files, destination)
    assert fetched is not None
    return fetched


def one(source: Source, **fields: Any) -> MemoryFiles:
    """Make a set of one file."""
    return MemoryFiles([remote("a", **fields)], {"test/a": source})


async def test_a_file_is_fetched_verified_and_named(bench: Bench, destination: Destination) -> None:
    """One request, the right bytes, nothing left beside them."""
    files = one(Source(body=BODY), size=SIZE)

    fetched = await fetch(files, destination)

    outcome = fetched.outcome
    assert outcome.error is None
    assert (outcome.action, outcome.attempts, outcome.bytes_written) == (Action.FETCH, 1, SIZE)
    assert (outcome.verified_by, outcome.sha256) == ("length", hashlib.sha256(BODY).hexdigest())
    assert outcome.path == bench.root / "files" / "a.bin"
    assert outcome.path.read_bytes() == BODY
    assert files.asked == [Asked(key="test/a", offset=0, validator=None)]
    assert bench.partials() == []
    assert files.open_bodies == 0


async def test_an_empty_file_is_a_file(bench: Bench, destination: Destination) -> None:
    """TR08: really empty."""
    fetched = await fetch(one(Source(body=b""), size=0), destination)

    assert fetched.outcome.error is None
    assert (bench.root / "files" / "a.bin").read_bytes() == b""


async def test_a_file_that_should_not_be_empty_is_asked_for_again(destination: Destination) -> None:
    """TR08: 200 with nothing in it."""
    files = one(Source(body=BODY, announced=False, faults=[0]), size=SIZE)

    fetched = await fetch(files, destination)

    assert fetched.outcome.error is None
    assert fetched.outcome.attempts == 2


async def test_a_cut_body_goes_on_at_the_byte_it_reached(bench: Bench, destination: Destination) -> None:
    """TR01: the rest, and only the rest, under the strong ETag."""
    files = one(Source(body=BODY, faults=[200_000]), size=SIZE)

    fetched = await fetch(files, destination)

    assert fetched.outcome.error is None
    assert (fetched.outcome.attempts, fetched.outcome.bytes_written) == (2, SIZE)
    assert files.asked[1] == Asked(key="test/a", offset=200_000, validator='"v1"')
    assert (bench.root / "files" / "a.bin").read_bytes() == BODY
    assert bench.waits == [0.625]


async def test_a_cut_body_without_a_strong_etag_begins_anew(bench: Bench, destination: Destination) -> None:
    """A weak validator proves nothing, so no range is ever asked for."""
    files = one(Source(body=BODY, etag='W/"v1"', faults=[200_000]), size=SIZE)

    fetched = await fetch(files, destination)

    assert fetched.outcome.error is None
    assert [asked.offset for asked in files.asked] == [0, 0]
    assert (bench.root / "files" / "a.bin").read_bytes() == BODY


async def test_a_server_without_ranges_is_asked_for_one_only_once(bench: Bench, destination: Destination) -> None:
    """TR17: its whole answer is used, and the next cut does not try a range again."""
    files = one(Source(body=BODY, ranges=False, faults=[200_000, 200_000, 250_000]), size=SIZE)

    fetched = await fetch(files, destination)

    assert fetched.outcome.error is None
    assert [asked.offset for asked in files.asked] == [0, 200_000, 0, 0]
    assert (bench.root / "files" / "a.bin").read_bytes() == BODY


async def test_what_an_earlier_run_left_is_continued(bench: Bench) -> None:
    """The bytes known to be on the disk are not asked for again, and are hashed all the same."""
    files = one(Source(body=BODY, faults=[200_000]), size=SIZE)
    first = bench.destination(attempts=1)
    await first.open()
    stopped = await fetch_one(job(remote("a", size=SIZE)), _Once(files), first)
    await first.aclose()
    assert stopped is not None
    assert isinstance(stopped.outcome.error, QuotaExhaustedError)
    assert len(bench.partials()) == 2

    second = bench.destination()
    await second.open()
    fetched = await fetch(files, second)
    await second.aclose()

    assert fetched.outcome.error is None
    assert fetched.outcome.action is Action.RESUME
    assert files.asked[-1].offset >= 196_608
    assert fetched.outcome.bytes_written == SIZE - files.asked[-1].offset
    assert fetched.outcome.sha256 == hashlib.sha256(BODY).hexdigest()
    assert (bench.root / "files" / "a.bin").read_bytes() == BODY
    assert bench.partials() == []


async def test_what_a_second_interruption_leaves_is_continued_too(bench: Bench) -> None:
    """CR03: what comes behind a continued part is recorded as it comes, just like the first."""
    files = one(Source(body=BODY, faults=[100_000, 100_000]), size=SIZE)
    for _ in range(2):
        interrupted = bench.destination(attempts=1)
        await interrupted.open()
        files.asked.clear()
        await fetch_one(job(remote("a", size=SIZE)), _Once(files), interrupted)
        await interrupted.aclose()

    last = bench.destination()
    await last.open()
    fetched = await fetch(files, last)
    await last.aclose()

    assert [asked.offset for asked in files.asked] == [65_536, 131_072]
    assert fetched.outcome.sha256 == hashlib.sha256(BODY).hexdigest()
    assert bench.partials() == []


async def test_a_part_of_a_content_of_another_size_is_not_asked_about(bench: Bench) -> None:
    """The listing says that it is another content: one request for the whole, and none that finds that out."""
    files = one(Source(body=BODY, faults=[200_000]), size=SIZE)
    first = bench.destination(attempts=1)
    await first.open()
    await fetch_one(job(remote("a", size=SIZE)), _Once(files), first)
    await first.aclose()
    newer = one(Source(body=BODY[:-1], etag='"v2"'), size=SIZE - 1, change="2")

    second = bench.destination()
    await second.open()
    fetched = await fetch(newer, second)
    await second.aclose()

    assert fetched.outcome.error is None
    assert fetched.outcome.action is Action.FETCH
    assert [asked.offset for asked in newer.asked] == [0]
    assert bench.partials() == []


class _Once(MemoryFiles):
    """A set whose allowance ends after one request."""

    def __init__(self, files: MemoryFiles) -> None:
        self.__dict__.update(files.__dict__)

    async def open(self, file: RemoteFile, *, offset: int = 0, validator: str | None = None) -> Any:
        if self.asked:
            raise QuotaExhaustedError("GET /content: the allowance is used up.")
        return await super().open(file, offset=offset, validator=validator)


async def test_an_old_part_of_a_changed_file_is_dropped(bench: Bench) -> None:
    """TR25: 412, then the whole of the new content, without another listing: the entry is fresh."""
    files = one(Source(body=BODY, faults=[200_000]), size=SIZE)
    first = bench.destination()
    await first.open()
    await fetch_one(job(remote("a", size=SIZE)), _Once(files), first)
    await first.aclose()
    new = content(SIZE, "new")
    changed = one(Source(body=new, etag='"v2"'), size=SIZE, change="2")

    second = bench.destination()
    await second.open()
    fetched = await fetch(changed, second)
    await second.aclose()

    assert fetched.outcome.error is None
    assert [asked.offset > 0 for asked in changed.asked] == [True, False]
    assert changed.found == []
    assert (bench.root / "files" / "a.bin").read_bytes() == new


async def test_a_file_that_changes_meanwhile_begins_anew(bench: Bench, destination: Destination) -> None:
    """TR25: 412 within a run; the entry is looked up again, and nothing is spliced."""
    new = content(SIZE, "new")
    files = one(Source(body=BODY, faults=[200_000]), size=SIZE)

    async def change(asked: Asked) -> None:
        if asked.offset:
            files.sources["test/a"] = Source(body=new, etag='"v2"')

    files.before_open = change
    fetched = await fetch(files, destination)

    assert fetched.outcome.error is None
    assert files.found == [("test/a",)]
    assert (bench.root / "files" / "a.bin").read_bytes() == new


async def test_a_file_that_changes_with_every_answer_fails_after_two_restarts(
    bench: Bench, destination: Destination
) -> None:
    """TR24: unequal mirrors; nothing is kept of any of them."""
    files = one(Source(body=BODY), size=SIZE)

    async def flip(_: Asked) -> None:
        number = len(files.asked)
        files.sources["test/a"] = Source(body=BODY, etag=f'"v{number}"', faults=[150_000])

    files.before_open = flip
    fetched = await fetch(files, destination)

    assert isinstance(fetched.outcome.error, SourceChangedError)
    assert [asked.offset for asked in files.asked] == [0, 150_000, 0, 150_000, 0, 150_000]
    assert bench.partials() == []


async def test_a_size_that_contradicts_the_listing_is_looked_up_once(destination: Destination) -> None:
    """TR05: the fresh entry agrees, and the file comes."""
    files = one(Source(body=BODY), size=SIZE - 1)
    files.fresh["test/a"] = remote("a", size=SIZE)

    fetched = await fetch(files, destination)

    assert fetched.outcome.error is None
    assert files.found == [("test/a",)]
    assert fetched.outcome.attempts == 2


async def test_a_service_that_contradicts_itself_fails(bench: Bench, destination: Destination) -> None:
    """TR05: the fresh entry says the same wrong size; nothing is committed."""
    files = one(Source(body=BODY), size=SIZE - 1)

    fetched = await fetch(files, destination)

    assert isinstance(fetched.outcome.error, SourceChangedError)
    assert fetched.outcome.attempts == 2
    assert not (bench.root / "files" / "a.bin").exists()
    assert bench.partials() == []


async def test_an_expired_link_is_renewed_once(bench: Bench, destination: Destination) -> None:
    """TR26 and TR27: a fresh entry, a fresh link, and on from the byte that was reached."""
    expired = LinkExpiredError("GET /content: the link is over.")
    files = one(Source(body=BODY, faults=[expired, 200_000, expired]), size=SIZE, link=Secret("/a?n=1&sig=s"))
    files.fresh["test/a"] = remote("a", size=SIZE, link=Secret("/a?n=2&sig=s"))

    async def mint(_: Asked) -> None:
        files.fresh["test/a"] = remote("a", size=SIZE, link=Secret(f"/a?n={len(files.asked) + 1}&sig=s"))

    files.before_open = mint
    fetched = await fetch(files, destination)

    assert fetched.outcome.error is None
    assert [asked.offset for asked in files.asked] == [0, 0, 200_000, 200_000]
    assert len(files.found) == 2
    assert (bench.root / "files" / "a.bin").read_bytes() == BODY


async def test_a_dead_link_is_not_asked_twice(destination: Destination) -> None:
    """TR26: the listing still gives the same link."""
    expired = LinkExpiredError("GET /content: the link is over.")
    files = one(Source(body=BODY, faults=[expired]), size=SIZE, link=Secret("/1?sig=secret"))

    fetched = await fetch(files, destination)

    assert isinstance(fetched.outcome.error, LinkExpiredError)
    assert len(files.asked) == 1
    assert "secret" not in str(fetched.outcome.error)


async def test_a_forbidden_link_is_renewed_once_and_then_believed(destination: Destination) -> None:
    """TR28: a 403 for another reason."""
    refused = [PermissionDeniedError("403", status=403) for _ in range(9)]
    files = one(Source(body=BODY, faults=list(refused)), size=SIZE, link=Secret("/a?n=1&sig=s"))
    files.fresh["test/a"] = remote("a", size=SIZE, link=Secret("/a?n=2&sig=s"))

    fetched = await fetch(files, destination)

    assert isinstance(fetched.outcome.error, PermissionDeniedError)
    assert (len(files.asked), len(files.found)) == (2, 1)
    assert fetched.outcome.action is Action.FETCH


async def test_a_renewed_entry_of_another_content_begins_anew(bench: Bench, destination: Destination) -> None:
    """TR29: never a splice of two versions."""
    new = content(260_000, "new")
    files = one(Source(body=BODY, faults=[200_000, LinkExpiredError("over")]), size=SIZE, link=Secret("/a?n=1&sig=s"))
    files.fresh["test/a"] = remote("a", size=260_000, change="2", link=Secret("/a?n=2&sig=s"))

    async def replace(asked: Asked) -> None:
        if len(files.asked) == 3:
            files.sources["test/a"] = Source(body=new, etag='"v2"')

    files.before_open = replace
    fetched = await fetch(files, destination)

    assert fetched.outcome.error is None
    assert [asked.offset for asked in files.asked] == [0, 200_000, 0]
    assert (bench.root / "files" / "a.bin").read_bytes() == new
    assert fetched.outcome.file.change == "2"


async def test_a_file_that_is_gone_meanwhile_fails_and_leaves_nothing(bench: Bench, destination: Destination) -> None:
    """Its entry cannot be renewed."""
    files = one(Source(body=BODY, faults=[200_000, LinkExpiredError("over")]), size=SIZE, link=Secret("/1"))

    async def remove(_: Asked) -> None:
        files.rows = []

    files.before_open = remove
    fetched = await fetch_one(job(remote("a", size=SIZE, link=Secret("/1"))), files, destination)

    assert fetched is not None
    assert isinstance(fetched.outcome.error, SourceChangedError)
    assert bench.partials() == []


@pytest.mark.parametrize("status", [400, 404, 409, 410, 501])
async def test_a_permanent_refusal_is_asked_for_once(status: int, destination: Destination) -> None:
    """TR34."""
    files = one(Source(body=BODY, faults=[ApiError(f"GET: {status}.", status=status)]))

    fetched = await fetch(files, destination)

    assert isinstance(fetched.outcome.error, ApiError)
    assert fetched.outcome.attempts == 1


async def test_a_refusal_for_ever_is_remembered_with_its_reason(destination: Destination) -> None:
    """TR36 and TR55: an error now, a reason to skip from the next run on."""
    files = one(Source(body=BODY, faults=[NotFoundError("GET: no content.", status=400, code=3028)]))

    fetched = await fetch(files, destination)

    assert isinstance(fetched.outcome.error, NotFoundError)
    assert fetched.outcome.action is Action.SKIP
    entry = (await destination.ledger.look_up(["test/a"]))["test/a"]
    assert (entry.state, entry.reason, entry.change) == ("skipped", "GET: no content.", "1")


async def test_what_may_pass_is_tried_as_often_as_allowed(bench: Bench, destination: Destination) -> None:
    """TR33: five requests, waits that grow, then the last answer as a typed error."""
    files = one(Source(body=BODY, faults=[ServerError("GET: 503.", status=503, transient=True)] * 9))

    fetched = await fetch(files, destination)

    assert isinstance(fetched.outcome.error, ServerError)
    assert fetched.outcome.attempts == len(files.asked) == 5
    assert bench.waits == [0.75, 1.0, 1.5, 2.5]


async def test_the_wait_the_service_asks_for_is_kept_within_reason(bench: Bench, destination: Destination) -> None:
    """QU17: 17 seconds are waited, a day is not."""
    slow = [
        ThrottledError("429", status=429, retry_after=17.0),
        ThrottledError("429", status=429, retry_after=86_400.0),
    ]
    files = one(Source(body=BODY, faults=list(slow)))

    fetched = await fetch(files, destination)

    assert isinstance(fetched.outcome.error, ThrottledError)
    assert bench.waits == [17.0]


async def test_one_byte_for_each_request_is_no_progress(destination: Destination) -> None:
    """TR49: the requests have an end."""
    files = one(Source(body=BODY, faults=[1] * 100), size=SIZE)

    fetched = await fetch(files, destination)

    assert isinstance(fetched.outcome.error, TransportError)
    assert len(files.asked) == 5


async def test_progress_resets_the_patience(destination: Destination) -> None:
    """Many cuts with bytes between them are not a failure."""
    body = content(2_000_000)
    files = one(Source(body=body, faults=[100_000] * 15), size=len(body))

    fetched = await fetch(files, destination)

    assert fetched.outcome.error is None
    assert fetched.outcome.attempts == 16
    assert fetched.outcome.bytes_written == len(body)


async def test_a_stale_login_is_tried_again_once(destination: Destination) -> None:
    """The session logs in again with the next request."""
    stale = [AuthenticationError("401", status=401, stale_login=True, transient=True) for _ in range(3)]
    once = await fetch(one(Source(body=BODY, faults=stale[:1]), size=SIZE), destination)
    twice = await fetch(one(Source(body=BODY, faults=stale[1:]), size=SIZE), destination)

    assert (once.outcome.error, once.outcome.attempts, once.stop) == (None, 2, None)
    assert isinstance(twice.outcome.error, AuthenticationError)
    assert (twice.outcome.attempts, twice.stop) == (2, "service")


async def test_a_used_up_allowance_stops_the_service(destination: Destination) -> None:
    """One request, and a word to the pool."""
    fetched = await fetch(one(Source(body=BODY, faults=[QuotaExhaustedError("used up")])), destination)

    assert isinstance(fetched.outcome.error, QuotaExhaustedError)
    assert (fetched.outcome.attempts, fetched.stop) == (1, "service")


async def test_a_wrong_digest_gets_one_more_chance(bench: Bench, destination: Destination) -> None:
    """TR14: one restart from zero, then an error, and nothing stays."""
    files = one(Source(body=BODY, md5="0" * 32), size=SIZE)

    fetched = await fetch(files, destination)

    assert isinstance(fetched.outcome.error, IntegrityError)
    assert [asked.offset for asked in files.asked] == [0, 0]
    assert bench.partials() == []
    assert not (bench.root / "files" / "a.bin").exists()


async def test_a_right_digest_is_the_proof(destination: Destination) -> None:
    """I9: the strongest proof there is."""
    fetched = await fetch(one(Source(body=BODY, md5=hashlib.md5(BODY).hexdigest())), destination)  # noqa: S324

    assert fetched.outcome.verified_by == "md5"


async def test_content_without_any_proof_says_so(destination: Destination) -> None:
    """I9: ``none`` is never called verified."""
    fetched = await fetch(one(Source(body=BODY, announced=False)), destination)

    assert fetched.outcome.error is None
    assert fetched.outcome.verified_by == "none"


async def test_a_body_without_end_is_stopped_one_byte_too_far(bench: Bench, destination: Destination) -> None:
    """TR07: more than listed, without an announced length."""
    files = one(Source(body=BODY, announced=False), size=100_000)

    fetched = await fetch(files, destination)

    assert isinstance(fetched.outcome.error, ContentError)
    assert fetched.outcome.attempts == 1
    assert fetched.outcome.bytes_written <= 100_000
    assert bench.partials() == []


async def test_a_file_above_the_limit_is_not_asked_for(bench: Bench) -> None:
    """TR07: announced in the listing, in the head, or nowhere."""
    destination = bench.destination(max_file_size=100_000)
    await destination.open()
    listed = one(Source(body=BODY), size=SIZE)
    announced, silent = one(Source(body=BODY)), one(Source(body=BODY, announced=False))

    outcomes = [(await fetch(files, destination)).outcome for files in (listed, announced, silent)]

    assert [type(outcome.error) for outcome in outcomes] == [ContentError] * 3
    assert [len(files.asked) for files in (listed, announced, silent)] == [0, 1, 1]
    assert [outcome.bytes_written <= 100_000 for outcome in outcomes] == [True] * 3
    assert bench.partials() == []
    await destination.aclose()


async def test_the_old_file_stays_until_the_new_one_is_whole(bench: Bench, destination: Destination) -> None:
    """I1: at every instant the one or the other."""
    old = bench.root / "files" / "a.bin"
    old.parent.mkdir(parents=True)
    old.write_bytes(b"old")
    seen: list[bytes] = []
    files = one(Source(body=BODY, faults=[200_000, NotFoundError("gone", status=404)]), size=SIZE)

    async def look(_: Asked) -> None:
        seen.append(old.read_bytes())

    files.before_open = look
    failed = await fetch(files, destination, Action.REFRESH)
    came = await fetch(files, destination, Action.REFRESH)

    assert isinstance(failed.outcome.error, NotFoundError)
    assert came.outcome.action is Action.REFRESH
    assert seen == [b"old"] * 3
    assert old.read_bytes() == BODY


async def test_a_full_disk_is_no_reason_to_ask_again(bench: Bench) -> None:
    """ST01: the pool is told to stop feeding, and no further request leaves."""
    destination = bench.destination()
    disk = FaultyDisk()
    destination.storage = Storage(bench.root, files=disk)
    await destination.open()
    disk.fill_up(100_000)
    files = one(Source(body=BODY), size=SIZE)

    fetched = await fetch(files, destination)

    assert isinstance(fetched.outcome.error, DiskFullError)
    assert (fetched.stop, len(files.asked)) == ("disk", 1)
    assert not (bench.root / "files" / "a.bin").exists()
    await destination.aclose()


async def test_a_known_size_that_does_not_fit_is_not_asked_for(bench: Bench) -> None:
    """ST02: before any body byte."""
    destination = bench.destination()

    disk = FaultyDisk()
    disk.replace("free", lambda real, folder: 1000)
    destination.storage = Storage(bench.root, files=disk)
    await destination.open()
    files = one(Source(body=BODY), size=SIZE)

    fetched = await fetch(files, destination)

    assert isinstance(fetched.outcome.error, DiskFullError)
    assert files.asked == []
    await destination.aclose()


async def test_an_unexpected_exception_is_the_outcome_of_its_file(destination: Destination) -> None:
    """CR12: a fault of a set fails its file and nothing else, and the slot comes back."""
    files = one(Source(body=BODY, faults=[MemoryError("no more"), KeyError("https://h/x?sig=secret")]))

    first, second = await fetch(files, destination), await fetch(files, destination)
    third = await fetch(files, destination)

    assert isinstance(first.outcome.error, TransferError)
    assert "MemoryError" in str(first.outcome.error)
    assert "secret" not in str(second.outcome.error)
    assert third.outcome.error is None


async def test_events_tell_the_way_of_a_file(bench: Bench, destination: Destination) -> None:
    """Absolute bytes, the wait before the next try, and no link."""
    files = one(Source(body=BODY, faults=[200_000]), size=SIZE, link=Secret("/x?sig=secret"))

    await fetch(files, destination)

    shown = remote("a", size=SIZE)
    kinds = [type(event) for event in bench.events]
    assert kinds == [Started, Advanced, Retrying]
    assert bench.events[0] == Started(file=shown, action=Action.FETCH, bytes_done=0, total=SIZE)
    retrying = bench.events[2]
    assert isinstance(retrying, Retrying)
    assert (retrying.attempt, retrying.bytes_done, retrying.wait) == (1, 200_000, 0.625)
    assert all(event.file.link is None for event in bench.events if not hasattr(event, "outcome"))  # type: ignore[union-attr]


@pytest.mark.parametrize("how", HOW)
async def test_a_cancellation_at_any_await_leaves_a_whole_file_or_none(how: How, tmp_path: Path) -> None:
    """CC01: the right bytes under the final name or none, no open body, no busy slot, and the rerun is clean."""
    bench = Bench(tmp_path / "out", workers=1)
    destination = bench.destination()
    await destination.open()
    runs: dict[int, MemoryFiles] = {}

    def start(at: int) -> Any:
        file = remote(f"f{at}", size=SIZE)
        runs[at] = MemoryFiles([file], {file.key: Source(body=BODY, faults=[200_000])})
        return fetch_one(job(file), runs[at], destination)

    results = []
    async for stopped in cancel_at_every_await(start, how=how):
        final = bench.root / "files" / f"f{stopped.at}.bin"
        assert not final.exists() or final.read_bytes() == BODY
        assert stopped.cancelled or (stopped.result is not None and stopped.result.outcome.error is None)
        assert runs[stopped.at].open_bodies == 0
        assert destination.slots.free == 1
        results.append(stopped)
    assert len(results) > 10
    for at, files in runs.items():
        again = await fetch(files, destination)
        assert again.outcome.error is None
        assert (bench.root / "files" / f"f{at}.bin").read_bytes() == BODY
    assert bench.partials() == []
    await destination.aclose()


async def test_no_more_than_two_buffers_a_slot_are_ever_filled(bench: Bench, destination: Destination) -> None:
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
    await fetch(watched, destination)

    assert len(seen) == 2
