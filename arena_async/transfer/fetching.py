"""
One file on its way home.

::

    take a slot ── open ─┬─ stage ── while readinto: take ── verify ── leave the slot ── commit
         ▲               └─ gather, if it is small ─────────────────── leave the slot ── verify, commit
         │                                │
         └──── wait, renew the link, ─────┘  each request that fails is judged by `planning.judge_failure`
               or begin anew

A small file is gathered in memory and never meets the thread of the slot (see `small`). Else, while that thread writes
and hashes one buffer, the other one is filled. What came before a break is kept and continued, within the run from
where it ends, in a later run from where it is known to be on the disk. This loop and the one over API requests in the
session are the only two that try again, and neither runs inside the other.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from pathlib import PurePosixPath

import attrs

from arena_async.errors import (
    ApiError,
    ArenaAsyncError,
    AuthenticationError,
    ContentError,
    IntegrityError,
    LinkExpiredError,
    PermissionDeniedError,
    SourceChangedError,
    StorageError,
)
from arena_async.transfer import small
from arena_async.transfer.committing import Committed
from arena_async.transfer.destination import Destination
from arena_async.transfer.events import Action, Advanced, Outcome, Retrying, Started, as_error
from arena_async.transfer.integrity import Inspector, Proof, Verdict
from arena_async.transfer.ledger import Entry
from arena_async.transfer.planning import (
    Move,
    Recovery,
    Tries,
    is_same_content,
    judge_failure,
    worth_remembering,
)
from arena_async.transfer.segments import Segments
from arena_async.transfer.small import SmallFile, goes_short
from arena_async.transfer.storage import Staged
from arena_async.transfer.threads import Lane
from arena_async.wire.contracts import BodyHead, FileSet, OpenedFile, RemoteFile
from arena_async.wire.messages import printable
from arena_async.wire.ranges import Held, Step, is_encoded, judge_head, validator_of

__all__ = ["Fetched", "Job", "fetch_one"]

_log = logging.getLogger("arena_async")

#: Seconds between two `Advanced` events of one file, at the least.
_EVENTS_EVERY = 0.1


@attrs.frozen(kw_only=True)
class Job:
    """
    A file that was decided on.

    Args:
        number: Its place in the listing, from 0.
        file: The file as listed.
        key: The key under which it is remembered; that of the file but for rows whose key a newer row has.
        path: Where it goes, below the folder.
        action: Fetch it, or refresh what is there.
        clear: Whether somebody has looked: no part of it is here, a file can go there, and it fits on the disk.
    """

    number: int
    file: RemoteFile
    key: str
    path: PurePosixPath
    action: Action
    clear: bool = False


@attrs.frozen(kw_only=True)
class Fetched:
    """
    What fetching one file came to.

    Args:
        outcome: What became of it.
        bytes_done: Bytes that are here.
        stop: ``"service"`` or ``"disk"`` when others need not be begun, or None.
    """

    outcome: Outcome
    bytes_done: int = 0
    stop: str | None = None


async def fetch_one(
    job: Job,
    files: FileSet,
    destination: Destination,
    *,
    may_start: Callable[[], bool] = lambda: True,
    on_stop: Callable[[str], object] = lambda _: None,
) -> Fetched | None:
    """
    Bring one file home: fetch, verify, commit. A failure is an outcome with an error; cancellation goes through.

    Args:
        job: The file.
        files: The set it comes from: opens it, and gives a fresh entry when its link is over.
        destination: The folder, open.
        may_start: Asked once, when it has its slot: whether it may begin at all. None comes back where it may not.
        on_stop: Told ``"service"`` or ``"disk"`` when others need not be begun, while this one still has its slot.
    """
    return await _Journey(job, files, destination, on_stop).go(may_start)


class _NotStartedError(Exception):
    """Something stopped the run before this file had its slot."""


class _Journey:
    """The state of one file on its way."""

    def __init__(self, job: Job, files: FileSet, destination: Destination, on_stop: Callable[[str], object]) -> None:
        self.job = job
        self.on_stop = on_stop
        self.file = job.file
        self.files = files
        self.destination = destination
        self.options = destination.options
        self.shown = attrs.evolve(job.file, link=None)
        self.service = f"{job.file.service} {job.file.host or job.file.tenant}"
        self.tries = Tries()
        self.action = job.action
        self.written = 0
        # Of the partial file
        self.looked = job.clear
        self.staged: Staged | None = None
        self.small: SmallFile | None = None
        self.inspector: Inspector | None = None
        self.validator: str | None = None
        self.total: int | None = None
        self.recovered = False
        self.split_from = 0
        self.furthest = 0
        # Of the request under way
        self.came = 0
        self.in_hand = 0
        self.begun: BodyHead | None = None
        self.asked_whole = True
        self.missing = False
        self.tell_at = 0.0

    # ----------------------------------------------------------------------------------------------------- the journey

    async def go(self, may_start: Callable[[], bool]) -> Fetched | None:
        """Fetch it, try again as long as that may help, commit it, and say what became of it."""
        try:
            verdict, committed = await self.fetch(may_start)
            if committed is None:
                committed = await self.commit(verdict)
        except _NotStartedError:
            return None
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the outcome of this file alone
            return await self.fail(error)
        finally:
            await self.put_down(drop=False)
        outcome = self.outcome(
            verified_by=verdict.verified_by, sha256=verdict.sha256, durable=committed.durable, reason=verdict.remark
        )
        return Fetched(outcome=outcome, bytes_done=verdict.length)

    async def fetch(self, may_start: Callable[[], bool]) -> tuple[Verdict, Committed | None]:
        """Ask for the content until it is here, whole and verified, or no further request may help."""
        while True:
            self.came, self.missing, self.begun = 0, False, None
            asked_before = self.tries.asked
            try:
                async with self.destination.lane(self.files) as lane:
                    if self.tries.asked == 0 and not may_start():
                        raise _NotStartedError
                    verdict = await self.attempt_or_stop(lane)
                    await self.destination.committer.room()
                return (verdict, None) if verdict is not None else await self.commit_small()
            except _NotStartedError:
                raise
            except Exception as error:  # noqa: BLE001 - judged below, outside, so that nothing is chained to it
                failure = error
            self.destination.note_failure(failure)
            if self.tries.asked > asked_before:
                progress = max(0, self.held_bytes - self.furthest)
                self.furthest += progress
                self.tries = self.tries.after(came=self.came, progress=progress, total=self.total)
            self.in_hand = 0
            await self.recover(failure)

    async def commit(self, verdict: Verdict) -> Committed:
        """
        Give the partial file its final name, with its group.

        Raises:
            StorageError: The disk or the ledger refused.
        """
        staged, self.staged = self.staged, None  # It belongs to the committer now.
        if staged is None:
            raise StorageError(f"{self.name}: its partial file is gone.")
        return await self.destination.committer.commit(staged, self.entry(verdict))

    async def commit_small(self) -> tuple[Verdict, Committed]:
        """
        Let a small file be verified and written, with its group.

        Raises:
            IntegrityError: It is not right.
            ContentError: It is something else.
            StorageError: The disk or the ledger refused.
        """
        small, self.small = self.small, None
        if small is None:
            raise StorageError(f"{self.name}: what came is gone.")
        try:
            committed = await self.destination.committer.commit_small(small)
        except StorageError as error:
            self.tell_others(error)
            raise
        finally:
            self.written += small.written
        return small.verdict or Verdict(verified_by="none", length=small.size), committed

    async def recover(self, failure: Exception) -> None:
        """
        Do what may help after a request failed, and return to try again.

        Raises:
            Exception: ``failure``, when nothing may help.
        """
        recovery = self.judge(failure)
        if recovery.move is Move.GIVE_UP:
            raise failure
        # A request that brought something is worth another one, and a new link or login is asked for only once; other
        # requests share what all files may spend.
        free = recovery.move is Move.RENEW or isinstance(failure, AuthenticationError) or not self.tries.fruitless
        if not free and not self.destination.budget.spend(self.service):
            raise failure
        await self.make_ready(recovery, failure)
        self.announce_retry(recovery, failure)
        if recovery.wait > 0:
            await self.destination.timing.sleep(recovery.wait)

    def judge(self, failure: Exception) -> Recovery:
        """Judge a failure with what is known here."""
        return judge_failure(
            failure,
            self.tries,
            attempts=self.options.attempts,
            linked=self.file.link is not None,
            missing=self.missing,
            whole=self.asked_whole,
            random=self.destination.timing.random,
        )

    async def make_ready(self, recovery: Recovery, failure: Exception) -> None:
        """Drop what has to go and get a fresh entry where one is needed."""
        if recovery.move is Move.SPOILED:
            self.tries = attrs.evolve(self.tries, spoiled=self.tries.spoiled + 1)
            await self.put_down(drop=True)
        elif recovery.move is Move.RESTART:
            self.tries = attrs.evolve(self.tries, restarts=self.tries.restarts + 1)
            was_recovered = self.recovered
            await self.put_down(drop=True)
            if not was_recovered:  # What an earlier run left may be old; the entry is of this run.
                await self.look_up(failure)
        elif recovery.move is Move.RENEW:
            self.tries = attrs.evolve(self.tries, renewals=self.tries.renewals + 1)
            await self.look_up(failure)
        elif not self.came:
            logins = self.tries.logins + int(getattr(failure, "stale_login", False))
            lost = self.tries.lost + int(getattr(failure, "unanswered_reuse", False))
            self.tries = attrs.evolve(self.tries, logins=logins, lost=lost)

    async def look_up(self, failure: Exception) -> None:
        """
        Get a fresh entry, and begin anew if it is of another content.

        Raises:
            SourceChangedError: The file is no longer listed, or changes each time somebody looks.
            LinkExpiredError: The fresh entry has the same dead link.
            PermissionDeniedError: It has the same link that was refused.
        """
        found = [file for file in await self.files.find([self.file.key]) if file.key == self.file.key]
        same_name = [file for file in found if file.name == self.file.name]
        is_twin = self.job.key != self.file.key
        if not found or (is_twin and not same_name):
            raise SourceChangedError(
                f"{self.name}: it is no longer listed; it was removed while it was fetched. Nothing was kept."
            )
        fresh = (same_name or found)[0]
        old, self.file = self.file, fresh
        self.shown = attrs.evolve(fresh, link=None)
        if old.link is not None and fresh.link == old.link and isinstance(failure, PermissionDeniedError):
            raise failure
        if old.link is not None and fresh.link == old.link and isinstance(failure, LinkExpiredError):
            raise LinkExpiredError(
                f"{self.name}: its link is over and the listing still gives the same one; it was not asked twice. "
                "Run again later."
            )
        if not is_same_content(fresh, old) and self.staged is not None:
            self.tries = attrs.evolve(self.tries, restarts=self.tries.restarts + 1)
            await self.put_down(drop=True)
            if self.judge(SourceChangedError()).move is Move.GIVE_UP:
                raise SourceChangedError(f"{self.name}: it changes faster than it can be fetched. Run again later.")

    # ----------------------------------------------------------------------------------------------------- one request

    async def attempt_or_stop(self, lane: Lane) -> Verdict | None:
        """Ask once; what stops the others is told before the next of them gets the slot and sends a request in vain."""
        try:
            return await self.attempt(lane)
        except (ApiError, StorageError) as error:
            self.tell_others(error)
            raise

    def tell_others(self, error: Exception) -> None:
        """Say that others need not be begun, if that follows from how this one failed."""
        stop = self.judge(error).stop
        if stop is not None:
            self.on_stop(stop)

    async def attempt(self, lane: Lane) -> Verdict | None:
        """
        Ask for the content once and take what comes. None comes back for a small file, which is verified later.

        Raises:
            ArenaAsyncError: It did not come, or not whole, or not right.
        """
        self.check_size(self.file.size)
        if self.tries.asked or not self.job.clear:
            await lane.run(self.pick_up)
        if self.tries.asked == 0:
            self.destination.budget.begin(self.service)
            self.announce_start(self.held())
        while await self.ask(lane):
            pass
        self.check_length()
        return None if self.small is not None else await self.verify(lane)

    async def ask(self, lane: Lane) -> bool:
        """Send one request and take what comes; True when it ended before a part that is here, and more is missing."""
        held = self.held()
        self.asked_whole = held.offset == 0
        self.tries = self.tries.asking()
        validator = held.validator if held.offset else None
        async with await self.files.open(self.file, offset=held.offset, validator=validator) as opened:
            complete = await self.heed(opened.head, held, lane)
            begin, ahead = self.end, None if complete else self.split(opened.head)
            if not complete:
                await self.copy(opened, lane, ahead)
        return ahead is not None and ahead.stopped and begin < self.end < (self.total or 0) and self.is_sound

    def held(self) -> Held:
        """Say what is here and may be continued."""
        held = Held(offset=self.end, validator=self.validator, total=self.total)
        return held if held.resumable and self.service not in self.destination.rangeless else Held()

    async def heed(self, head: BodyHead, held: Held, lane: Lane) -> bool:
        """
        Do what the table says about the head of the answer, and say whether nothing is missing already.

        Raises:
            SourceChangedError: It is another file now.
            ContentError: It is not the content, or more than is allowed.
            IntegrityError: It cannot be joined to what is here.
        """
        gzipped = self.file.extension.lower().endswith(".gz")
        verdict = judge_head(head, held, expected=self.file.size, gzipped=gzipped)
        if verdict.ranges_ignored:
            self.destination.rangeless.add(self.service)
        if verdict.step is Step.REFUSE:
            raise ContentError(f"{self.name}: the answer is not the content: {verdict.reason}. Nothing was kept.")
        if verdict.step is Step.CHANGED:
            raise SourceChangedError(f"{self.name}: the file at the service is another one now: {verdict.reason}.")
        if verdict.step is Step.RESTART_PLAIN:
            await self.put_down(drop=True)
            self.missing = True
            raise IntegrityError(f"{self.name}: the answer does not fit: {verdict.reason}. It is asked for as a whole.")
        total = head.total if head.total is not None else self.file.size
        self.check_size(total)
        if verdict.step is Step.RESTART_HERE or held.offset == 0:
            self.total, self.begun = total, head
            most = min(small.MOST, self.options.chunk_size - 1)
            if not goes_short(offset=0, has_part=self.staged is not None, total=total, most=most):
                await self.begin_long(lane)
        else:
            await lane.run(self.go_on, head, total, held.offset)
        return verdict.step is Step.COMPLETE

    @property
    def is_sound(self) -> bool:
        """Whether nothing is wrong with what came so far."""
        return self.inspector is None or self.inspector.problem is None

    async def copy(self, opened: OpenedFile, lane: Lane, ahead: Segments | None) -> None:
        """
        Take the body: one buffer is filled while the thread writes and hashes the other.

        Raises:
            ContentError: More comes than the file has, or than is allowed.
            TransportError: The connection broke; what came before is written.
            StalledError: It stopped; what came before is written.
            StorageError: The disk refused.
        """
        limits = [limit for limit in (self.total, self.options.max_file_size) if limit is not None]
        most = min(limits, default=None)
        if self.begun is not None and await self.gather(opened, lane, most):
            return
        end = self.end
        piece = self.piece
        try:
            while True:
                # One byte more than there may be is enough to see that there is more.
                room = piece if most is None else min(piece, most - end + 1)
                room = room if ahead is None else min(room, ahead.room(end))
                if ahead is not None and not room:
                    await lane.settle()
                    await opened.stream.aclose()
                    await self.follow(ahead, lane)
                    break
                count = await opened.stream.readinto(lane.buffer()[:room])
                if not count:
                    break
                end += count
                if most is not None and end > most:
                    raise self.too_much(most)
                await lane.put(self.take, count)
                self.came += count
                self.written += count
                self.announce_advance(end)
                await self.destination.take_in(count)
                if ahead is not None:
                    ahead.came(count, end=end)
                if not self.is_sound:
                    break
        except ArenaAsyncError:
            await lane.settle()  # What was received is written first, and a disk that refused it is the worse news.
            raise
        finally:
            if ahead is not None:
                await ahead.aclose()
                self.came += ahead.count
                self.written += ahead.count
        await lane.settle()

    async def gather(self, opened: OpenedFile, lane: Lane, most: int | None) -> bool:
        """
        Take a small body into the buffer of the slot; False when it is not small after all: what came is written then.

        Raises:
            ContentError: More comes than the file has, or than is allowed.
            TransportError: The connection broke; what came before is written.
            StalledError: It stopped; what came before is written.
            StorageError: The disk refused.
        """
        # One byte of the buffer more than may come is enough to see that there is more.
        buffer = lane.buffer()
        room = min(small.MOST, len(buffer) - 1) if most is None else min(small.MOST, len(buffer) - 1, most)
        end, failure = 0, None
        try:
            while end <= room:
                count = await opened.stream.readinto(buffer[end : min(end + self.piece, room + 1)])
                if not count:
                    break
                end += count
                self.came = end
                self.announce_advance(end)
                await self.destination.take_in(count)
        except ArenaAsyncError as error:
            failure = error
        if most is not None and end > most:
            raise self.too_much(most)
        if failure is None and end <= room:
            self.in_hand, self.small = end, self.new_small(bytes(buffer[:end]))
            return True
        if end or failure is None:
            await self.begin_long(lane)
            await lane.put(self.take, end)
            self.written += end
            await lane.settle()
        if failure is not None:
            raise failure
        return False

    @property
    def piece(self) -> int:
        """Bytes to take at a time."""
        return self.destination.rate.piece if self.destination.rate is not None else self.options.chunk_size

    def new_small(self, content: bytes) -> SmallFile:
        """Make what is handed to the committer."""
        head = self.begun or BodyHead(status=200)
        inspector = self.new_inspector(head, self.total)
        return SmallFile(self.job.key, self.job.path, content, inspector=inspector, entry=self.entry)

    async def begin_long(self, lane: Lane) -> None:
        """Begin the partial file, on the long way."""
        head, self.begun = self.begun, None
        if head is not None:
            await lane.run(self.begin, head, self.total)

    def split(self, head: BodyHead) -> Segments | None:
        """Let free lanes fetch what is far ahead of a large file, where ranges of it may be asked for at no price."""
        staged, total, validator = self.staged, self.total, self.validator
        if staged is None:
            return None
        if total is None or validator is None or not self.may_split(head):
            staged.watch(tuple)  # One request for all the rest, over parts that are here too.
            return None
        least = self.destination.splitting.least_size
        if not staged.ahead and (total - self.end < least or self.end < self.split_from):
            return None
        # Whatever ended the connections ahead, the front brings as much again before they are tried anew.
        self.split_from = self.end + least
        return Segments(
            self.file, self.files, self.destination, staged, validator=validator, total=total, service=self.service
        )

    def may_split(self, head: BodyHead) -> bool:
        """Say whether more than one request may be sent for the content, each for a part of it."""
        price, storage = self.files.price(), self.destination.storage
        return (
            head.ranges
            and not (price.per_file and price.metered)
            and self.options.max_rate is None
            and storage.files.writes_anywhere
            and not self.tries.spoiled
            and self.service not in self.destination.rangeless | self.destination.unsplit
        )

    async def follow(self, ahead: Segments, lane: Lane) -> None:
        """Take over what others wrote behind the end, in order, until nothing is missing or nobody is ahead."""
        end = self.end
        while self.is_sound and (reached := await ahead.reach(end)) is not None:
            await lane.run(self.catch_up, end, reached)
            end = reached
            self.announce_advance(end)

    async def verify(self, lane: Lane) -> Verdict:
        """
        Say what the content is worth.

        Raises:
            IntegrityError: It is not right.
            ContentError: It is something else.
        """
        inspector, staged = self.inspector, self.staged
        if inspector is None or staged is None:
            raise StorageError(f"{self.name}: its partial file is gone.")
        verdict = await lane.run(self.look_over, inspector, staged)
        if verdict.problem is not None:
            raise verdict.problem
        return verdict

    # ----------------------------------------------------------------------------- on the thread of the slot, in order
    #
    # A cancelled task does not get what its thread returns: what must not be lost is noted by the thread itself.

    def pick_up(self) -> None:
        """Look for a part that an earlier run left, once, and check that the rest fits on the disk."""
        if self.staged is not None:
            return
        storage = self.destination.storage
        partial = None if self.looked else storage.find_partial(self.job.key)
        self.looked = True
        if partial is not None and self.file.size is not None and partial.total not in (None, self.file.size):
            storage.drop(partial.name)  # Of an older content: the service would only say so, for a request.
            partial = None
        if partial is not None:
            self.staged = storage.resume(partial, self.job.path)
        if partial is not None and self.staged is not None:
            self.validator, self.total, self.recovered = partial.validator, partial.total, True
            self.action = Action.RESUME if self.action is Action.FETCH else self.action
        storage.look(self.job.path)
        if self.file.size is not None:
            storage.check_space(max(0, self.file.size - self.held_bytes), path=self.job.path)

    def begin(self, head: BodyHead, total: int | None) -> None:
        """Open an empty partial file, or empty the one that is there."""
        if self.staged is None:
            self.staged = self.destination.storage.stage(self.job.key, self.job.path, size=total)
        else:
            self.staged.restart()
        self.recovered, self.action = False, self.job.action
        self.validator, self.total = validator_of(head), total
        self.staged.describe(validator=self.validator, total=total)
        self.inspector = self.new_inspector(head, total)

    def go_on(self, head: BodyHead, total: int | None, offset: int) -> None:
        """Continue the partial file; one of an earlier run is read back first, so that the whole of it is hashed."""
        self.total = total
        staged, inspector = self.staged, self.inspector
        if staged is None:
            raise StorageError(f"{self.name}: its partial file is gone.")
        if inspector is not None and inspector.length == offset:
            return
        # What comes now is recorded as it comes, or a second interruption would lose all of it.
        staged.describe(validator=self.validator, total=total)
        self.inspector = inspector = self.new_inspector(head, total)
        staged.replay(inspector.feed, end=offset)

    def new_inspector(self, head: BodyHead, total: int | None) -> Inspector:
        """Make what looks at the content."""
        return Inspector(
            name=self.name,
            extension=self.file.extension,
            length=total,
            md5=head.md5,
            listed_md5=self.file.md5,
            listed_sha256=self.file.sha256,
            digest=self.options.digest,
            max_length=self.options.max_file_size,
            encoded=is_encoded(head),
            clock=self.destination.timing.clock,
        )

    def take(self, data: memoryview) -> None:
        """Look at a block and write it."""
        if self.staged is None or self.inspector is None:
            raise StorageError(f"{self.name}: its partial file is gone.")
        # In one piece: between two calls the thread would queue for the interpreter behind all others.
        self.inspector.feed(data)
        self.staged.write(data, self.staged.end)

    def look_over(self, inspector: Inspector, staged: Staged) -> Verdict:
        """Say what the whole content is worth; meanwhile, and while it waits for its group, the disk begins with it."""
        if self.options.durability != "off":
            staged.begin_sync()
        return inspector.finish(staged.read)

    def catch_up(self, end: int, reached: int) -> None:
        """Look at what others wrote from ``end`` on."""
        if self.staged is None or self.inspector is None:
            raise StorageError(f"{self.name}: its partial file is gone.")
        self.staged.reach(reached)
        self.staged.replay(self.inspector.feed, start=end, end=reached)

    # ---------------------------------------------------------------------------------------------------------- checks

    @property
    def name(self) -> str:
        """What to call the file in errors."""
        return printable(str(self.job.path))

    @property
    def end(self) -> int:
        """Bytes that are here."""
        return self.staged.end if self.staged is not None else self.in_hand

    @property
    def held_bytes(self) -> int:
        """Bytes that are here, wherever they belong."""
        return self.staged.held if self.staged is not None else self.in_hand

    def check_size(self, size: int | None) -> None:
        """Refuse a file that is known to be larger than allowed."""
        most = self.options.max_file_size
        if size is not None and most is not None and size > most:
            raise self.too_much(most)

    def too_much(self, most: int) -> ContentError:
        """Make the error of a body without end."""
        return ContentError(
            f"{self.name}: more than {most} bytes came or were announced, which is all that it has or may have; it was "
            "dropped. Raise TransferOptions.max_file_size if that is the limit."
        )

    def check_length(self) -> None:
        """Refuse a body that ended before the file does."""
        end = self.end
        if self.total is not None and end < self.total and not (self.inspector and self.inspector.problem):
            self.missing = True
            raise IntegrityError(
                f"{self.name}: the body ended after {end} of {self.total} bytes.", expected=self.total, actual=end
            )

    # --------------------------------------------------------------------------------------------------- the end of it

    async def put_down(self, *, drop: bool, keep: bool = False) -> None:
        """Close the partial file, remove it, or see first that as much as possible of it is kept; safe without one."""
        staged, self.staged, self.inspector = self.staged, None, None
        if staged is not None:
            self.validator, self.total, self.recovered = None, None, False
            await self.destination.desk.run(staged.drop if drop else staged.keep if keep else staged.close)

    async def fail(self, error: Exception) -> Fetched:
        """Make the outcome of a failure; a refusal that is for ever is remembered."""
        recovery = self.judge(error)
        done = self.end
        await _quietly(self.put_down(drop=recovery.drop, keep=True))
        known = as_error(error, file=self.job.key, attempts=self.tries.asked)
        action = self.action
        if worth_remembering(error, self.file):
            action = Action.SKIP
            await _quietly(self.remember_refusal(str(error)))
        outcome = self.outcome(action=action, error=known)
        return Fetched(outcome=outcome, bytes_done=0 if recovery.drop else done, stop=recovery.stop)

    async def remember_refusal(self, reason: str) -> None:
        """Write down that the service will never give it."""
        file, now = self.file, self.destination.timing.now()
        await self.destination.ledger.skip(self.job.key, reason, at=now, change=file.change, name=file.name)

    def entry(self, verdict: Verdict) -> Entry:
        """Make the row of the ledger."""
        return Entry(
            key=self.job.key,
            path=str(self.job.path),
            size=verdict.length,
            change=self.file.change,
            sha256=verdict.sha256,
            md5=verdict.md5,
            verified_by=verdict.verified_by,
            name=self.file.name,
            at=self.destination.timing.now(),
        )

    def outcome(
        self,
        *,
        action: Action | None = None,
        verified_by: Proof = "none",
        error: ArenaAsyncError | None = None,
        reason: str = "",
        sha256: str | None = None,
        durable: bool = False,
    ) -> Outcome:
        """Make the outcome."""
        return Outcome(
            file=self.shown,
            action=action or self.action,
            path=self.destination.root / self.job.path,
            verified_by=verified_by,
            attempts=self.tries.asked,
            bytes_written=self.written,
            error=error,
            reason=reason,
            sha256=sha256,
            durable=durable,
        )

    # --------------------------------------------------------------------------------------------------------- telling

    def announce_start(self, held: Held) -> None:
        """Tell that the content is asked for the first time."""
        total = held.total if held.total is not None else self.file.size
        started = Started(file=self.shown, action=self.action, bytes_done=held.offset, total=total)
        self.destination.announcer.announce(started)

    def announce_advance(self, end: int) -> None:
        """Tell how far it is, now and then."""
        now = self.destination.timing.clock()
        if now >= self.tell_at:
            self.tell_at = now + _EVENTS_EVERY
            self.destination.announcer.announce(Advanced(file=self.shown, bytes_done=end, total=self.total))

    def announce_retry(self, recovery: Recovery, failure: Exception) -> None:
        """Tell that it is asked for again."""
        self.destination.announcer.announce(
            Retrying(
                file=self.shown,
                attempt=self.tries.asked,
                wait=recovery.wait,
                error=as_error(failure, file=self.job.key, attempts=self.tries.asked),
                bytes_done=self.end,
            )
        )


async def _quietly(step: Awaitable[object]) -> None:
    """Do a last step whose failure must not hide the failure that led to it."""
    try:
        await step
    except Exception as error:  # noqa: BLE001 - the failure that led here is the one to tell
        _log.debug("A step of tidying up failed: %s: %s", type(error).__name__, error)
