"""
The download of one file: one request after the other until its content is here, or no further request may help.

::

    attempt ──▶ request ──▶ headers: append, restart, complete, reject
                   │
                   ├── small: the body in memory ──────────────────────────────┐
                   └── larger: two buffers, one written and hashed on a thread ┤
                                                                               ▼
                                                           a Pending for the committer, or a failure
    failure ──▶ recover: drop what is wrong, look up a fresh entry, wait ──▶ attempt

What a failed request received is kept and resumed: within the run from where it ends, in a later run from where it is
known to be on the disk. This loop and the one over API requests in the session are the only two that retry, and neither
runs inside the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from functools import partial

from arena_async.errors import (
    ArenaAsyncError,
    ContentError,
    HostPausedError,
    IntegrityError,
    SourceChangedError,
)
from arena_async.protocol.files import OpenedFile
from arena_async.protocol.ranges import HeadDecision, PartialContent, ResumeStep, judge_head, validator_of
from arena_async.protocol.text_content import document_in, is_document_type, may_be_document
from arena_async.transfer import download_steps as steps
from arena_async.transfer.commit import Pending
from arena_async.transfer.context import Context
from arena_async.transfer.events import Progress, Started
from arena_async.transfer.jobs import DownloadAttempt, Job, Source
from arena_async.transfer.multipart import Multipart, split
from arena_async.transfer.verify import VerificationResult, may_be_packed
from arena_async.transfer.workers import Writer

__all__ = ["attempt", "put_down"]

_log = logging.getLogger("arena_async")

#: Seconds between two progress events of one file at least.
_EVENT_INTERVAL = 0.1
#: Nothing that can be resumed.
_NOTHING = PartialContent()


# ---- one attempt


async def attempt(job: Job, source: Source) -> Pending:
    """
    Request the content of a file and return it, ready for its commit.

    Raises:
        ArenaAsyncError: It was not received, not completely, or is not right.
    """
    context = source.context
    first = not job.tries.sent
    state = job.last = DownloadAttempt()
    _check_size(job, job.file.size, context)
    if first:
        job.action, job.looked = job.planned, job.clear
    if not first or not job.clear:
        await context.when_files_close(partial(context.run_until_cancelled, steps.pick_up, job, context))
    content: bytes | None = None
    more = True
    while more:
        content, more = await _request(job, state, source)
    result: VerificationResult | None = None
    end = job.end if content is None else len(content)
    if job.total is not None and end < job.total and job.sound:
        del content  # The error keeps this frame.
        state.missing = True
        raise IntegrityError(
            f"{job.path}: the body ended after {end} of {job.total} bytes.", expected=job.total, actual=end
        )
    if content is None:
        result = await context.run_until_cancelled(steps.verify, job, context)
        if result.problem is not None:
            raise result.problem
    staged, verifier, job.partial, job.verifier = job.partial, job.verifier, None, None  # The committer has them now.
    return Pending(
        run=source.run,
        job=job,
        file=job.file,
        key=job.key,
        path=job.path,
        verifier=verifier,
        content=content,
        partial=staged,
        result=result,
        order=job.order,
        several=job.several,
    )


async def _request(job: Job, state: DownloadAttempt, source: Source) -> tuple[bytes | None, bool]:
    """
    Send one request and receive the body.

    Returns:
        The content of a small file, else None, which is in the partial file; and whether it ended before a part that
        was downloaded already, and more is missing.
    """
    context, held = source.context, _NOTHING
    if job.partial is not None and job.host not in context.no_ranges:
        kept = PartialContent(offset=job.partial.end, validator=job.validator, total=job.total)
        held = kept if kept.resumable else _NOTHING
    if not job.begun and context.emitter.active:
        job.begun = True
        total = held.total if held.total is not None else job.file.size
        context.emitter.emit(Started(file=job.without_url(), action=job.action, bytes_done=held.offset, total=total))
    before, state.sent, state.whole = job.tries, True, held.offset == 0
    job.tries = before.sending()
    try:
        opened = await source.files.open(job.file, offset=held.offset, validator=held.validator)
    except HostPausedError:
        job.tries, state.sent = before, False  # Nothing was requested.
        raise
    state.judge = opened.judge
    try:
        step = await _handle_headers(job, state, opened, held, context)
        if step.step is ResumeStep.RESTART_HERE or not held.offset:
            # A digest of the list proves it anyway; a validator proves what is received after an interruption.
            job.order = None if job.file.md5 or job.file.sha256 else opened.order
        if step.step is ResumeStep.COMPLETE:
            return None, False
        if held.offset == 0 and job.partial is None:
            content = await _receive_small(job, state, opened, context)
            if content is not None:
                return content, False
        begin, multipart = job.end, None
        if held.offset or (job.total or 0) >= context.splitting.min_size:
            multipart = split(job, opened.head, source)
        await _receive(job, state, opened, context, multipart)
    finally:
        await opened.stream.aclose()
    stopped = multipart is not None and multipart.stopped
    return None, stopped and begin < job.end < (job.total or 0) and job.sound


async def _handle_headers(
    job: Job, state: DownloadAttempt, opened: OpenedFile, held: PartialContent, context: Context
) -> HeadDecision:
    """
    Decide about the response by its headers, and prepare the partial file.

    Raises:
        SourceChangedError: The service has another version now.
        ContentError: It is not the content, or more than is allowed.
        IntegrityError: It cannot be joined to what was received before.
    """
    head = opened.head
    step = judge_head(head, held, expected=job.file.size, gzipped=may_be_packed(job.file))
    if step.ranges_ignored:
        context.no_ranges.add(job.host)
    if step.step is ResumeStep.REFUSE:
        raise ContentError(f"{job.path}: the response is not the content: {step.reason}. Nothing was kept.")
    if head.status == 200 and (
        step.step is ResumeStep.CHANGED or (held.offset and is_document_type(head.content_type))
    ):
        await _check_document(job, opened)
    if step.step is ResumeStep.CHANGED:
        raise SourceChangedError(f"{job.path}: the file at the service is another one now: {step.reason}.")
    if step.step is ResumeStep.RESTART_PLAIN:
        await put_down(job, context, drop=True)
        state.missing = True
        raise IntegrityError(f"{job.path}: the response does not fit: {step.reason}. The whole file is requested.")
    total = head.total if head.total is not None else job.file.size
    _check_size(job, total, context)
    job.total = total
    if step.step is ResumeStep.RESTART_HERE or held.offset == 0:
        small = job.partial is None and (total is None or total <= context.max_in_memory)
        job.verifier = steps.new_verifier(job, head, context)
        job.validator = validator_of(head)
        if not small:
            await context.when_files_close(partial(context.run, steps.begin, job, context))
    else:
        await context.run_until_cancelled(steps.go_on, job, head, held.offset, context)
    return step


async def _check_document(job: Job, opened: OpenedFile) -> None:
    """
    Look at what came instead of the file before it is said that the file has changed.

    Raises:
        ContentError: It is a document of another server. What was received before stays.
    """
    if may_be_document(job.file.extension):
        return
    what = "a web page" if is_document_type(opened.head.content_type) else document_in(await opened.stream.read(1))
    if what:
        raise ContentError(
            f"{job.path}: {what} came instead of the file: a sign-in or maintenance page, most likely. Look whether a"
            " proxy or a login page answers for the service, and run again.",
            page=True,
        )


async def _receive_small(job: Job, state: DownloadAttempt, opened: OpenedFile, context: Context) -> bytes | None:
    """
    Receive a body into memory; None when it is not small after all: what was received is in the partial file then.

    Raises:
        ContentError: More is received than the file has, or than is allowed.
        TransportError: The connection broke; what was received is in the partial file.
        StalledError: It stalled; what was received is in the partial file.
        StorageError: The disk failed.
    """
    limit, stream = _limit(job, context), opened.stream
    room = context.max_in_memory if limit is None else min(context.max_in_memory, limit)
    piece = room + 1 if context.rate is None else min(context.rate.piece, room + 1)
    chunks: list[bytes] = []
    failure: ArenaAsyncError | None = None
    ended = False
    try:
        while not ended and state.buffered <= room:
            chunk = await stream.read(min(piece, room + 1 - state.buffered))
            ended = stream.at_end or not chunk
            if chunk:
                chunks.append(chunk)
                state.received = state.buffered = state.buffered + len(chunk)
                if context.emitter.active:
                    _emit_progress(job, state.buffered, context)
                if context.paced:
                    await context.note_received(len(chunk))
    except ArenaAsyncError as error:
        failure = error
    except asyncio.CancelledError:
        chunks.append(stream.take())
        await _save_small(job, b"".join(chunks), context)
        raise
    content = chunks[0] if len(chunks) == 1 else b"".join(chunks)
    chunks.clear()
    chunk = b""
    if limit is not None and state.buffered > limit:
        failure = _too_long(job, limit)
    elif failure is None and ended:
        return content
    elif content or failure is None:
        await context.when_files_close(partial(context.run, steps.begin, job, context))
        await context.run(steps.take, job, content)
        job.bytes_written += len(content)
    if failure is not None:
        del content, chunk  # The error keeps this frame.
        raise failure
    return None


async def _save_small(job: Job, content: bytes, context: Context) -> None:
    """Write what a cancelled download has in memory, where a later run can go on with it."""
    if content and job.validator is not None:
        # Where the disk fails, those bytes are downloaded again.
        with contextlib.suppress(ArenaAsyncError):
            await context.run(steps.begin, job, context)
            await context.run(steps.take, job, content)


async def _receive(
    job: Job, state: DownloadAttempt, opened: OpenedFile, context: Context, multipart: Multipart | None
) -> None:
    """
    Receive a body into the partial file: one buffer is filled while the other is written and hashed on a thread.

    Raises:
        ContentError: More is received than the file has, or than is allowed.
        TransportError: The connection broke; what was received is written.
        StalledError: It stalled; what was received is written.
        StorageError: The disk failed.
    """
    writer = context.take_writer()
    try:
        try:
            await _copy(job, opened, context, state=state, writer=writer, multipart=multipart)
        except ArenaAsyncError:
            await writer.settle()  # What was received is written first, and an error of the disk takes precedence.
            raise
        finally:
            if multipart is not None:
                await multipart.aclose()
                state.received += multipart.count
                job.bytes_written += multipart.count
        await writer.settle()
    finally:
        await context.return_writer(writer)


async def _copy(
    job: Job,
    opened: OpenedFile,
    context: Context,
    *,
    state: DownloadAttempt,
    writer: Writer,
    multipart: Multipart | None,
) -> None:
    """Receive chunk after chunk, as far as no other connection receives what follows."""
    limit, end = _limit(job, context), job.end
    piece = context.options.chunk_size if context.rate is None else context.rate.piece
    while job.sound:
        # One byte more than there may be is enough to see that there is more.
        room = piece if limit is None else min(piece, limit - end + 1)
        if multipart is not None:
            room = min(room, multipart.room(end))
            if not room:
                await opened.stream.aclose()
                await _follow(job, multipart, writer, context)
                return
        at, count = end, 0
        try:
            count = await opened.stream.readinto(writer.buffer()[:room])
            if not count:
                return
            end += count
            if limit is not None and end > limit:
                raise _too_long(job, limit)
            await writer.put(partial(steps.take, job), count)
        except asyncio.CancelledError:
            await _save(job, writer, at, count or opened.stream.filled)
            raise
        state.received += count
        job.bytes_written += count
        if context.emitter.active:
            _emit_progress(job, end, context)
        if context.paced:
            await context.note_received(count)
        if multipart is not None:
            multipart.received(count, end=end)


async def _save(job: Job, writer: Writer, at: int, count: int) -> None:
    """Write what a cancelled download has received for the offset ``at``, where a later run can go on with it."""
    # Where the disk fails, those bytes are downloaded again.
    with contextlib.suppress(ArenaAsyncError):
        await writer.settle()
        fits = job.end == at and (job.total is None or at + count <= job.total)
        if count and fits and job.validator is not None and job.sound:
            await writer.run(steps.take, job, writer.buffer()[:count])


async def _follow(job: Job, multipart: Multipart, writer: Writer, context: Context) -> None:
    """Hash what other connections wrote, in order, until nothing is missing or none of them is ahead."""
    await writer.settle()
    end = job.end
    while job.sound and (reached := await multipart.reach(end)) is not None:
        await writer.run(steps.catch_up, job, end, reached)
        end = reached
        if context.emitter.active:
            _emit_progress(job, end, context)


# ---- checks


def _limit(job: Job, context: Context) -> int | None:
    """Return the bytes that the file may have, or None. A total above the maximum was rejected with the headers."""
    return context.options.max_file_size if job.total is None else job.total


def _check_size(job: Job, size: int | None, context: Context) -> None:
    """Reject a file that is known to be larger than allowed."""
    maximum = context.options.max_file_size
    if size is not None and maximum is not None and size > maximum:
        raise _too_long(job, maximum)


def _too_long(job: Job, limit: int) -> ContentError:
    return ContentError(
        f"{job.path}: more than {limit} bytes came or were announced, which is all that it has or may have; it was "
        "dropped. Raise TransferOptions.max_file_size if that is the limit."
    )


async def put_down(job: Job, context: Context, *, drop: bool = False, keep: bool = False) -> int:
    """
    Close the partial file, or remove it, or record first everything that was received; safe without one.

    What came over a connection that was out of order is removed: it may be the content of another file.

    Returns:
        Bytes that a later run goes on with.
    """
    staged, job.partial, job.verifier = job.partial, None, None
    if staged is None:
        return 0
    job.validator, job.total, job.recovered = None, None, False
    drop = drop or (job.order is not None and job.order.broken)
    await context.run(staged.drop if drop else staged.keep if keep else staged.close)
    return staged.recorded_bytes


# ---- events


def _emit_progress(job: Job, end: int, context: Context) -> None:
    """Report received bytes now and then."""
    now = context.clock.monotonic()
    if now >= job.event_at:
        job.event_at = now + _EVENT_INTERVAL
        context.emitter.emit(Progress(file=job.without_url(), bytes_done=end, total=job.total))
