"""
The steps of a download on the disk. All are for a thread, and those of one file run in order.

A cancelled task does not receive the result of its thread: what must not be lost is noted by the thread itself.
Those that may read much are given a function that is called before each block, and raises once the task is cancelled.
"""

from __future__ import annotations

from collections.abc import Callable

from arena_async.errors import ContentError, StorageError
from arena_async.protocol.files import BodyHead
from arena_async.protocol.ranges import is_encoded
from arena_async.transfer.context import Context
from arena_async.transfer.jobs import Job
from arena_async.transfer.models import Action
from arena_async.transfer.partial_file import PartialFile, drop_partial
from arena_async.transfer.verify import ContentVerifier, VerificationResult

__all__ = ["begin", "catch_up", "go_on", "new_verifier", "pick_up", "take", "verify"]


def pick_up(proceed: Callable[[], None], job: Job, context: Context) -> None:
    """Look for the partial file of an earlier run, once, and check that the rest fits on the disk."""
    if job.partial is not None:
        return
    partials = context.partials
    found = None if job.looked else partials.find(job.key)
    job.looked = True
    if found is not None and job.file.size is not None and found.total not in (None, job.file.size):
        # Of an older content: the service would only say so, for a request.
        drop_partial(context.directory, found.name)
    elif found is not None:
        job.partial = partials.resume(found, job.key, job.path, proceed=proceed)
        if job.partial is not None:
            job.validator, job.total, job.recovered = found.validator, found.total, True
            job.action = Action.RESUME if job.action is Action.FETCH else job.action
    context.directory.check_room(job.path, None if job.file.size is None else job.file.size - job.held)


def begin(job: Job, context: Context) -> None:
    """Open an empty partial file, or empty the one that exists."""
    if job.partial is None:
        context.directory.check_room(job.path, job.total)
        job.partial = context.partials.create(job.key, job.path)
    else:
        job.partial.restart()
    job.recovered, job.action = False, job.planned
    job.partial.describe(validator=job.validator, total=job.total)


def go_on(proceed: Callable[[], None], job: Job, head: BodyHead, offset: int, context: Context) -> None:
    """Continue the partial file; one of an earlier run is read back first, so that the whole of it is hashed."""
    if job.verifier is not None and job.verifier.length == offset:
        return
    job.verifier = new_verifier(job, head, context)
    staged, verifier = _parts_of(job)
    # What is received now is recorded as it comes, or a second interruption would lose all of it.
    staged.describe(validator=job.validator, total=job.total)
    staged.replay(verifier.feed, end=offset, proceed=proceed)


def take(job: Job, data: memoryview | bytes) -> None:
    """Hash a chunk and write it."""
    staged, verifier = _parts_of(job)
    # In one call: between two of them the thread would wait for the interpreter lock.
    verifier.feed(data)
    staged.write(data)


def catch_up(job: Job, end: int, reached: int) -> None:
    """Hash what others wrote from ``end`` on."""
    staged, verifier = _parts_of(job)
    staged.reach(reached)
    staged.replay(verifier.feed, start=end, end=reached)


def verify(proceed: Callable[[], None], job: Job, context: Context) -> VerificationResult:
    """Verify the whole content; meanwhile the system begins to write it to the disk."""
    staged, verifier = _parts_of(job)
    if context.options.durability != "off":
        staged.begin_sync()

    def read(offset: int, size: int) -> bytes:
        proceed()
        return staged.read(offset, size)

    result = verifier.finish(read)
    if isinstance(result.problem, ContentError):
        staged.drop()  # A page in the place of a range leaves what was received before; here the page is in it.
        job.partial = job.verifier = None
    return result


def _parts_of(job: Job) -> tuple[PartialFile, ContentVerifier]:
    """Return what the content goes into."""
    if job.partial is None or job.verifier is None:
        raise StorageError(f"{job.path}: its partial file is gone.")
    return job.partial, job.verifier


def new_verifier(job: Job, head: BodyHead, context: Context) -> ContentVerifier:
    """Return what verifies the content of a response."""
    return ContentVerifier(
        name=job.path,
        extension=job.file.extension,
        length=job.total,
        md5=head.md5,
        listed_md5=job.file.md5,
        listed_sha256=job.file.sha256,
        digest=context.options.digest,
        max_length=context.options.max_file_size,
        encoded=is_encoded(head),
        listed=job.file.size is not None,
        uploaded=job.file.uploaded,
        content_type=head.content_type,
        clock=context.clock.monotonic,
    )
