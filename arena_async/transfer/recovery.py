"""
What follows a failed attempt: drop what is wrong, look up a fresh entry, and prepare the next attempt; or give up.

What a failed request received is kept and resumed: within the run from where it ends, in a later run from where it is
known to be on the disk.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable

import attrs

from arena_async.errors import (
    ApiError,
    LinkExpiredError,
    PermissionDeniedError,
    SourceChangedError,
    StorageError,
)
from arena_async.transfer.context import Context
from arena_async.transfer.download import put_down
from arena_async.transfer.jobs import DownloadAttempt, Job, Source
from arena_async.transfer.models import Action
from arena_async.transfer.outcomes import Outcome, as_error
from arena_async.transfer.planner import Move, Recovery, decide_retry, is_same_content
from arena_async.transfer.refusals import Refusal, group_of, reason_of, refusal_kind

__all__ = ["decide", "fail", "recover", "stop_after"]

_log = logging.getLogger("arena_async")


async def recover(job: Job, failure: Exception, source: Source, *, shared: bool = False) -> Recovery:
    """
    Prepare the next attempt after a failed one, and return what was decided.

    Args:
        job: The file.
        failure: How its attempt failed.
        source: Where it comes from.
        shared: Whether it failed because of its host, for which others wait: that does not count against the file.

    Raises:
        Exception: ``failure``, when no further request may help; or what made the preparation fail.
    """
    context, state = source.context, job.last or DownloadAttempt()
    if state.sent:
        progress = max(0, job.held - job.max_offset)
        job.max_offset += progress
        idle = job.tries.without_progress
        job.tries = job.tries.after(received=state.received, progress=progress, total=job.total)
        if shared:
            job.tries = attrs.evolve(job.tries, without_progress=min(idle, job.tries.without_progress))
    state.buffered = 0
    recovery = decide(job, failure, context)
    if recovery.move is Move.GIVE_UP:
        raise failure
    if job.order is not None and job.order.broken:
        await put_down(job, context)
        job.order = None  # What comes next is judged by its own connection.
    await _prepare(job, recovery, failure, source)
    return recovery


def decide(job: Job, failure: Exception, context: Context) -> Recovery:
    """Decide about a failure with what is known about the job."""
    state = job.last or DownloadAttempt()
    return decide_retry(
        failure,
        job.tries,
        attempts=context.options.attempts,
        linked=job.file.link is not None,
        missing=state.missing,
        whole=state.whole,
        random=context.clock.random,
    )


def stop_after(job: Job, failure: Exception, context: Context) -> str | None:
    """Return ``"service"``, ``"host"`` or ``"disk"`` when a failure shows that no other file needs to be begun."""
    if isinstance(failure, ApiError | StorageError):
        return decide(job, failure, context).stop
    return None


async def _prepare(job: Job, recovery: Recovery, failure: Exception, source: Source) -> None:
    """Drop what has to go and look up a fresh entry where one is needed."""
    tries, context = job.tries, source.context
    if recovery.move is Move.CORRUPT:
        job.tries, job.damage = attrs.evolve(tries, corrupt=tries.corrupt + 1), reason_of(failure, job.path)
        await put_down(job, context, drop=True)
    elif recovery.move is Move.RESTART:
        job.tries = attrs.evolve(tries, restarts=tries.restarts + 1)
        was_recovered = job.recovered
        await put_down(job, context, drop=True)
        if not was_recovered:  # What an earlier run left may be old; the entry is of this run.
            await _look_up(job, failure, source)
    elif recovery.move is Move.RENEW:
        job.tries = attrs.evolve(tries, renewals=tries.renewals + 1)
        await _look_up(job, failure, source)
    elif job.last is None or not job.last.received:
        logins = tries.logins + int(getattr(failure, "stale_login", False))
        lost = tries.lost + int(getattr(failure, "unanswered_reuse", False))
        job.tries = attrs.evolve(tries, logins=logins, lost=lost)


async def _look_up(job: Job, failure: Exception, source: Source) -> None:
    """
    Look up a fresh entry, and restart if it is of another content.

    Raises:
        SourceChangedError: The file is no longer listed, or changes with each look-up.
        LinkExpiredError: The fresh entry has the same expired URL.
        PermissionDeniedError: It has the same URL that was rejected.
    """
    found = [file for file in await source.files.find([job.file.key]) if file.key == job.file.key]
    same_name = [file for file in found if file.name == job.file.name]
    is_duplicate = job.key != job.file.key
    if not found or (is_duplicate and not same_name):
        raise SourceChangedError(
            f"{job.path}: it is no longer listed; it was removed while it was fetched. Nothing was kept."
        )
    fresh = (same_name or found)[0]
    old, job.file = job.file, fresh
    if old.link is not None and fresh.link == old.link and isinstance(failure, PermissionDeniedError):
        raise failure
    if old.link is not None and fresh.link == old.link and isinstance(failure, LinkExpiredError):
        raise LinkExpiredError(
            f"{job.path}: its URL has expired and the listing still has the same one; it was not requested twice. "
            "Run again later."
        )
    if not is_same_content(fresh, old) and job.partial is not None:
        job.tries = attrs.evolve(job.tries, restarts=job.tries.restarts + 1)
        await put_down(job, source.context, drop=True)
        if decide(job, SourceChangedError(), source.context).move is Move.GIVE_UP:
            raise SourceChangedError(f"{job.path}: it changes faster than it can be fetched. Run again later.")


async def fail(job: Job, error: Exception, source: Source) -> tuple[Outcome, int, str | None]:
    """
    Return the outcome of a file that failed, and remember what that means for later runs.

    Returns:
        The outcome, the bytes that are kept, and what other files need not be begun (see :func:`stop_after`).
    """
    context = source.context
    recovery = decide(job, error, context)
    done = 0 if recovery.drop else job.end
    await _quietly(put_down(job, context, drop=recovery.drop, keep=True))
    known = as_error(error, file=job.key, attempts=job.tries.sent)
    action = job.action
    # Damage that differs is that of the network, and not of the file.
    twice = job.damage == reason_of(error, job.path) and not (job.last or DownloadAttempt()).missing
    kind = refusal_kind(error, job.file, twice=twice) if job.tries.sent else None
    if kind is not None:
        action = Action.SKIP if kind == "denied" else action
        now, reason = context.clock.now(), reason_of(error, job.path)
        refusal = Refusal(
            key=job.key,
            kind=kind,
            group=group_of(job.key),
            change=job.file.change,
            reason=reason,
            since=now,
            again=now,
        )
        await _quietly(context.run(context.ledger.refuse, refusal, source.account, source.files.scope, now=now))
    outcome = Outcome(
        job.without_url(),
        action,
        context.root / job.path,
        attempts=job.tries.sent,
        bytes_written=job.bytes_written,
        error=known,
    )
    return outcome, done, recovery.stop


async def _quietly(step: Awaitable[object]) -> None:
    """Do a last step whose error must not hide the failure that led to it."""
    try:
        await step
    except Exception as error:  # noqa: BLE001 - the failure that led here is the one to report
        _log.debug("A step of tidying up failed: %s: %s", type(error).__name__, error)
