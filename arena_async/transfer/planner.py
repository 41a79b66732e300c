"""
Decisions of the transfer layer, as pure functions over plain values.

::

    decide(file, entry, on_disk)      fetch, refresh, keep or skip it
    decide_retry(error, tries)        what follows a failed request: retry, renew the URL, restart, give up
"""

from __future__ import annotations

import enum
import errno
from collections.abc import Callable
from datetime import datetime
from typing import Literal

import attrs

from arena_async.errors import (
    ApiError,
    ArenaAsyncError,
    AuthenticationError,
    ClosedError,
    ContentError,
    DeadlineError,
    DestinationBusyError,
    HostPausedError,
    IntegrityError,
    LinkExpiredError,
    NotFoundError,
    PermissionDeniedError,
    QuotaExhaustedError,
    SourceChangedError,
    StalledError,
    StorageError,
    ThrottledError,
    TlsError,
    TransportError,
    UnsafeNameError,
)
from arena_async.options import KIB, RetryPolicy
from arena_async.protocol.filenames import duplicate_key, duplicate_path, target_path
from arena_async.protocol.files import RemoteFile
from arena_async.protocol.retry import backoff
from arena_async.transfer.models import Action, FileState, LedgerEntry
from arena_async.transfer.refusals import Refusal, is_due, postponed

__all__ = [
    "WANTED",
    "Decision",
    "Move",
    "PlannedRow",
    "Rank",
    "Recovery",
    "Tries",
    "decide",
    "decide_retry",
    "host_of",
    "is_of_host",
    "is_overload",
    "is_same_content",
    "is_too_many_gone",
    "may_adopt",
    "new_row",
    "service_of",
]

#: Fresh URLs that are requested in a row without a response that delivers content.
MAX_RENEWALS = 3

#: Seconds of a ``Retry-After`` that is waited for; the file, or all of its host, are left when the service states more.
MAX_RETRY_AFTER = 300.0

#: How often a file is restarted because the service has another version now.
MAX_RESTARTS = 2

#: A request that delivered fewer new bytes than this, or than a hundredth of the file, made no progress.
MIN_PROGRESS = 64 * KIB

#: Requests for the content of one file, as a multiple of the attempts without progress, whatever the progress.
_MAX_REQUESTS = 10

#: Files, and the share of all files of a set, that may be removed without a person who says that this is meant.
_MAX_GONE, _MAX_SHARE_GONE = 10, 0.2

#: What orders the rows of one key: change mark, then the vendor's name.
Rank = tuple[str, str]

#: The delays between two requests for the content of one file.
BACKOFF = RetryPolicy()


# ---- what to do


@attrs.frozen
class Decision:
    """
    What to do with a file.

    Args:
        action: The action.
        reason: Why it is skipped, or "".
        error: Why it counts as failed without a request, or None.
        again: When it is due again (aware), or None.
        group: The refused run of which one file is requested before the others, or "".
        proof: What the local file has to be read for before it is kept, or "".
    """

    action: Action
    reason: str = ""
    error: ArenaAsyncError | None = None
    again: datetime | None = None
    group: str = ""
    proof: Literal["", "digest", "content"] = ""


_KEEP = Decision(Action.KEEP)
#: It is kept if its digest is the recorded one.
_PROVE = Decision(Action.KEEP, proof="digest")
_FETCH = Decision(Action.FETCH)
_REFRESH = Decision(Action.REFRESH)
WANTED = (_FETCH, _REFRESH)


def decide(
    file: RemoteFile,
    entry: LedgerEntry | None,
    on_disk: FileState | None,
    *,
    path: str,
    refusal: Refusal | None = None,
    now: datetime | None = None,
) -> Decision:
    """
    Return what to do with a file.

    It is kept only when the ledger knows it under this path with this change mark, and the local file has the size and
    the time that the ledger recorded, or where only that differs, the digest: that some file is there proves nothing.

    Args:
        file: As listed now.
        entry: What the ledger knows about it, or None.
        on_disk: What lies under its final name, or None.
        path: Its target path now, below the root.
        refusal: What is remembered about its failure, or None.
        now: The time (aware), where there is a refusal.
    """
    wanted = _FETCH
    if entry is not None and on_disk is not None and entry.state != "skipped" and entry.path == path:
        wanted = _REFRESH
        if (entry.size, entry.change) == (on_disk.size, file.change):
            # Also where the service does not deliver it any more: what was downloaded in time stays known.
            if entry.mtime_ns == on_disk.mtime_ns:
                return _KEEP
            if entry.provable:
                return _PROVE
    if file.skip is not None:
        return Decision(Action.SKIP, file.skip)
    if refusal is None or now is None or refusal.change != file.change:
        return wanted
    return _of_refusal(wanted, refusal, now)


def may_adopt(file: RemoteFile, on_disk: FileState | None) -> bool:
    """
    Return whether a local file that no ledger knows may be proved to be the listed one by reading it.

    A listed digest proves it; so do the check sums in it where the change mark is among the fields that identify the
    file, so that no other content can have come under this name. A listed size has to be the same.
    """
    if on_disk is None or file.skip is not None or file.size not in (None, on_disk.size):
        return False
    fixed = bool(file.change) and file.change in file.fields.values()
    return fixed or bool(file.sha256 or file.md5)


def _of_refusal(wanted: Decision, refusal: Refusal, now: datetime) -> Decision:
    """Return what to do with a file that failed before."""
    if refusal.kind == "damaged":
        since = f"{refusal.since:%Y-%m-%d}"
        return Decision(
            Action.SKIP, f"its content has not been right since {since}, and is unchanged: {refusal.reason}"
        )
    if is_due(refusal, now):
        return wanted if refusal.kind == "failed" else attrs.evolve(wanted, reason=refusal.reason, group=refusal.group)
    if refusal.kind == "failed":
        return Decision(Action.SKIP, error=postponed(refusal), again=refusal.again)
    return Decision(Action.SKIP, refusal.reason)


def is_too_many_gone(gone: int, known: int) -> bool:
    """Return whether so many of the known files of a set are gone that the listing is rather wrong."""
    return gone > _MAX_GONE and gone > _MAX_SHARE_GONE * known


def is_same_content(fresh: RemoteFile, old: RemoteFile) -> bool:
    """
    Return whether a fresh entry stands for the bytes that an older one stood for, so that a download can be continued.

    It is another content when its change mark, its size or the path of its URL is another one.
    """
    moved = bool(fresh.link and old.link) and _url_path(fresh) != _url_path(old)
    return not moved and (fresh.change, fresh.size) == (old.change, old.size)


def _url_path(file: RemoteFile) -> str:
    """Return the URL of a file without its query, which is signed anew each time."""
    return file.link.reveal().partition("?")[0] if file.link else ""


def host_of(file: RemoteFile) -> str:
    """Return the host that serves the content of a file, as far as the listing tells."""
    return f"{file.service} {file.host or file.tenant}"


def service_of(file: RemoteFile) -> str:
    """Return what an error response about all requests concerns: the tenant of a service."""
    return f"{file.service} {file.tenant}"


# ---- rows of a page


@attrs.frozen
class PlannedRow:
    """
    A listed file with its target path and the key under which it is remembered; or why it has none.

    Args:
        number: Its position in the listing, from 0.
        file: As listed.
        key: That of the file, but for rows whose key a newer row has.
        path: Below the root, with slashes; "" where no safe one can be made.
        entry: What the ledger knows about the key, or None.
        rejected: Why it is not downloaded, or None.
        several: Whether its key is known to have several rows: the file of another one is moved aside for it.
    """

    number: int
    file: RemoteFile
    key: str
    path: str
    entry: LedgerEntry | None = None
    rejected: ArenaAsyncError | None = None
    several: bool = False

    @property
    def rank(self) -> Rank:
        """What orders the rows of one key: change mark, then the vendor's name."""
        return self.file.change, self.file.name

    def as_duplicate(self) -> PlannedRow:
        """Return it with the path and key of a row whose key a newer row has."""
        key = duplicate_key(self.file.key, self.file.name)
        path = duplicate_path(self.path, self.file.name, self.file.extension) if self.rejected is None else self.path
        return attrs.evolve(self, key=key, path=path, entry=None, several=False)


def new_row(number: int, file: RemoteFile, layout: str | None) -> PlannedRow:
    """
    Return a row with its target path.

    Raises:
        ConfigurationError: The layout names a field that the file does not have.
    """
    try:
        path = target_path(file, layout)
    except UnsafeNameError as error:
        return PlannedRow(number, file, file.key, "", None, error)
    return PlannedRow(number, file, file.key, path)


# ---- after a failed request


@attrs.frozen
class Tries:
    """
    What was tried for one file so far.

    Args:
        sent: Requests for its content.
        without_progress: How many of the last of them made no progress.
        restarts: Restarts because the service has another version now.
        corrupt: Restarts because the content was not right.
        renewals: Fresh URLs since the last response that delivered content.
        logins: Requests in a row that were rejected for a stale login.
        lost: Requests in a row that were lost with a reused connection.
    """

    sent: int = 0
    without_progress: int = 0
    restarts: int = 0
    corrupt: int = 0
    renewals: int = 0
    logins: int = 0
    lost: int = 0

    def sending(self) -> Tries:
        """Count a request for the content."""
        return Tries(
            self.sent + 1, self.without_progress, self.restarts, self.corrupt, self.renewals, self.logins, self.lost
        )

    def after(self, *, received: int, progress: int, total: int | None) -> Tries:
        """
        Return the counts after a failed request, by what it received.

        Args:
            received: Bytes of content that it received.
            progress: Those of them that no request had received before.
            total: Bytes of the whole file, or None.
        """
        enough = progress >= max(MIN_PROGRESS, (total or 0) // 100)
        tries = attrs.evolve(self, without_progress=0 if enough else self.without_progress + 1)
        return attrs.evolve(tries, renewals=0, logins=0, lost=0) if received else tries


class Move(enum.Enum):
    """What to do after a request for content failed."""

    #: Request again, from where the content ends.
    AGAIN = "again"
    #: Look up a fresh entry with a fresh URL, then request again.
    RENEW = "renew"
    #: Look up a fresh entry, drop what was received, request the whole again.
    RESTART = "restart"
    #: Drop what was received, request the whole again.
    CORRUPT = "corrupt"
    #: The file has failed.
    GIVE_UP = "give up"


@attrs.frozen(kw_only=True)
class Recovery:
    """
    A move, and what belongs to it.

    Args:
        move: What to do with this file.
        wait: Seconds to wait before that.
        drop: Whether what came must go when the file has failed; else the next run goes on with it.
        stop: Whether other files need not be begun: those of the same service, those at the same host, those for the
            same disk, or None.
    """

    move: Move
    wait: float = 0.0
    drop: bool = False
    stop: Literal["service", "host", "disk"] | None = None


def decide_retry(
    error: Exception,
    tries: Tries,
    *,
    attempts: int,
    linked: bool = False,
    missing: bool = False,
    whole: bool = False,
    random: Callable[[], float],
) -> Recovery:
    """
    Return what to do after a request for content failed.

    This decides for the loop over the body of one file. The loop over API requests is in the session; neither runs
    inside the other, so that what is allowed here is what is sent.

    Args:
        error: How it failed.
        tries: What was tried so far, the failed request included.
        attempts: Requests without progress after which the file has failed.
        linked: Whether the content is behind a signed link that may have become stale.
        missing: The body ended early: what came is right, and not all.
        whole: Whether the whole file was requested, not a range.
        random: Returns a number from 0 to 1.
    """
    if isinstance(error, StorageError):
        return Recovery(move=Move.GIVE_UP, stop="disk" if _is_the_disk(error) else None)
    if isinstance(error, QuotaExhaustedError | ClosedError):
        return Recovery(move=Move.GIVE_UP, stop="service")
    if isinstance(error, HostPausedError):
        return _decide_paused(error)
    ended = tries.sent >= _MAX_REQUESTS * attempts
    if isinstance(error, SourceChangedError):
        # A whole answer that contradicts the listing is checked against a fresh listing once: when that says the same,
        # the service contradicts itself, and further requests would not end.
        again = not ended and tries.restarts < (1 if whole else MAX_RESTARTS)
        return Recovery(move=Move.RESTART if again else Move.GIVE_UP, drop=True)
    if isinstance(error, IntegrityError) and not missing:
        again = not ended and tries.corrupt < 1
        return Recovery(move=Move.CORRUPT if again else Move.GIVE_UP, drop=True)
    if isinstance(error, LinkExpiredError) or (linked and isinstance(error, PermissionDeniedError)):
        wait = backoff(BACKOFF, tries.renewals, random) if tries.renewals else 0.0
        again = not ended and tries.renewals < MAX_RENEWALS
        return Recovery(move=Move.RENEW, wait=wait) if again else Recovery(move=Move.GIVE_UP)
    if isinstance(error, AuthenticationError):
        again = not ended and error.stale_login and error.transient and tries.logins < 1
        return Recovery(move=Move.AGAIN) if again else Recovery(move=Move.GIVE_UP, stop="service")
    if isinstance(error, ContentError) and error.page:
        return _decide_page(tries, again=not ended and tries.without_progress < min(attempts, 2), random=random)
    if isinstance(error, ContentError | NotFoundError):
        return Recovery(move=Move.GIVE_UP, drop=True)
    if not missing and not _may_pass(error):
        return Recovery(move=Move.GIVE_UP)
    return _decide_temporary(error, tries, exhausted=ended or tries.without_progress >= attempts, random=random)


def _decide_page(tries: Tries, *, again: bool, random: Callable[[], float]) -> Recovery:
    """
    Decide about a file in whose place a page of another server came. What was received before that is right.

    Most likely it came for all files, such as that of a sign-in; once more shows whether it is of this one.
    """
    if not again:
        return Recovery(move=Move.GIVE_UP)
    return Recovery(move=Move.AGAIN, wait=backoff(BACKOFF, tries.without_progress, random))


def _decide_paused(error: HostPausedError) -> Recovery:
    """Decide about a file whose host is left alone: it waits, unless that lasts for too long."""
    if error.lasting or error.retry_after is None:
        return Recovery(move=Move.GIVE_UP, stop="host")
    return Recovery(move=Move.AGAIN, wait=error.retry_after)


def _decide_temporary(error: Exception, tries: Tries, *, exhausted: bool, random: Callable[[], float]) -> Recovery:
    """Decide about a failure that may be temporary."""
    requested_wait = error.retry_after if isinstance(error, ApiError) else None
    if requested_wait is not None and requested_wait > MAX_RETRY_AFTER:
        return Recovery(move=Move.GIVE_UP, stop="host" if is_of_host(error) else None)
    if exhausted:
        return Recovery(move=Move.GIVE_UP)
    if isinstance(error, TransportError) and error.unanswered_reuse and tries.lost < 1:
        return Recovery(move=Move.AGAIN)
    wait = backoff(BACKOFF, tries.without_progress, random)
    return Recovery(move=Move.AGAIN, wait=max(wait, requested_wait or 0.0))


def _may_pass(error: Exception) -> bool:
    """Return whether the same request may succeed later without any change."""
    if isinstance(error, TlsError):
        return False
    if isinstance(error, ApiError):
        return error.transient or isinstance(error, ThrottledError)
    return isinstance(error, TransportError | StalledError | DeadlineError)


def is_of_host(error: Exception) -> bool:
    """Return whether a failure concerns all files of a host: it is paused, or no response, 429, 5xx, or a page came."""
    if isinstance(error, ApiError):
        return isinstance(error, ThrottledError | HostPausedError) or (error.status or 0) >= 500
    if isinstance(error, ContentError):
        return error.page
    return isinstance(error, TransportError | DeadlineError)


def is_overload(error: Exception) -> bool:
    """Return whether a service shows an overload: 429, 503, or a body that stalls."""
    return isinstance(error, ThrottledError | StalledError) or (isinstance(error, ApiError) and error.status == 503)


#: Errors that concern one name or directory, or the size of one file, so that others may still be written.
_OF_ONE_PLACE = frozenset(
    {errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EEXIST, errno.EFBIG}
)


def _is_the_disk(error: StorageError) -> bool:
    """Return whether no other file could be written either."""
    if isinstance(error, DestinationBusyError | UnsafeNameError):
        return False
    cause = error.__cause__ or error.__context__
    return not (isinstance(cause, OSError) and cause.errno in _OF_ONE_PLACE)
