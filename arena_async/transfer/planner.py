"""
Decisions of the transfer layer, as pure functions over plain values.

::

    Duplicates.settle(rows, known)    which row of a page gets which path and key
    decide(file, entry, on_disk)      fetch, refresh, keep or skip it
    decide_retry(error, tries)        what follows a failed request: retry, renew the URL, restart, give up
"""

from __future__ import annotations

import enum
import errno
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
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
from arena_async.protocol.messages import printable
from arena_async.protocol.retry import backoff
from arena_async.transfer.models import Action, FileState, KnownRow, LedgerEntry

__all__ = [
    "Decision",
    "Duplicates",
    "Move",
    "PlannedRow",
    "Recovery",
    "Tries",
    "decide",
    "decide_retry",
    "host_of",
    "is_newer",
    "is_of_host",
    "is_overload",
    "is_permanent",
    "is_same_content",
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
    """

    action: Action
    reason: str = ""


_KEEP = Decision(Action.KEEP)
_FETCH = Decision(Action.FETCH)
_REFRESH = Decision(Action.REFRESH)


def decide(
    file: RemoteFile, entry: LedgerEntry | None, on_disk: FileState | None, *, path: str, ask_again: bool
) -> Decision:
    """
    Return what to do with a file.

    It is kept only when the ledger knows it under this path with this change mark, and the local file has the size and
    the time that the ledger recorded: that some file is there proves nothing.

    Args:
        file: As listed now.
        entry: What the ledger knows about it, or None.
        on_disk: What lies under its final name, or None.
        path: Its target path now, below the root.
        ask_again: Whether to request what the service rejected permanently the last time.
    """
    if entry is None:
        return _FETCH if file.skip is None else Decision(Action.SKIP, file.skip)
    same = entry.change == file.change
    is_here = entry.state != "skipped" and on_disk is not None and entry.path == path
    if is_here and same and on_disk is not None and (on_disk.size, on_disk.mtime_ns) == (entry.size, entry.mtime_ns):
        # Also where the service does not deliver it any more: what was downloaded in time stays known.
        return _KEEP
    if file.skip is not None:
        return Decision(Action.SKIP, file.skip)
    if entry.state == "skipped" and same and not ask_again:
        return Decision(Action.SKIP, entry.reason)
    return _REFRESH if is_here else _FETCH


def is_newer(change: str, name: str, *, than: tuple[str, str]) -> bool:
    """Return whether one of two listed rows of a key is the newer one, by change mark and then by the vendor's name."""
    return (change, name) > than


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


def is_permanent(error: Exception, file: RemoteFile) -> bool:
    """
    Return whether an error response is permanent, so that later runs need not request: no content, not allowed, gone.

    An error response for a signed URL says something about the URL only. A 400 counts if it has a code of the vendor's:
    an empty one is a file server that is unavailable.
    """
    if not isinstance(error, ApiError) or error.transient or error.stale_login or file.link is not None:
        return False
    if isinstance(error, NotFoundError | PermissionDeniedError):
        return True
    return type(error) is ApiError and error.status in (400, 410) and (error.status == 410 or error.code is not None)


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
    """

    number: int
    file: RemoteFile
    key: str
    path: str
    entry: LedgerEntry | None = None
    rejected: ArenaAsyncError | None = None

    @property
    def rank(self) -> tuple[str, str]:
        """What orders the rows of one key: change mark, then the vendor's name."""
        return self.file.change, self.file.name

    def as_duplicate(self) -> PlannedRow:
        """Return it with the path and key of a row whose key a newer row has."""
        key = duplicate_key(self.file.key, self.file.name)
        path = duplicate_path(self.path, self.file.name, self.file.extension) if self.rejected is None else self.path
        return attrs.evolve(self, key=key, path=path, entry=None)


@attrs.define
class Duplicates:
    """
    The rows of one key in a listing: the newest has the plain path, the others a path with a mark of the vendor's name.

    Attributes:
        newest: The newest row of each key that came more than once: change mark and name.
        evicted: Names of older rows that came on an earlier page, by key: they are looked up at the end of the listing.
        repeated: Rows that only repeat another.
    """

    newest: dict[str, tuple[str, str]] = attrs.field(factory=dict)
    evicted: dict[str, set[str]] = attrs.field(factory=dict)
    repeated: int = 0

    def settle(
        self, rows: Sequence[PlannedRow], known: Sequence[KnownRow], moved: Mapping[str, LedgerEntry]
    ) -> tuple[dict[str, PlannedRow], list[PlannedRow]]:
        """
        Return the rows of a page that have their plain path, by key, and those that are moved aside.

        Args:
            rows: As :func:`new_row` made them.
            known: What the ledger knows about each.
            moved: Entries under :func:`duplicate_key` of rows that an earlier run may have moved aside for a newer one.
        """
        settled: dict[str, PlannedRow] = {}
        aside: list[PlannedRow] = []
        for listed, facts in zip(rows, known, strict=True):
            row = listed if facts.entry is None else attrs.evolve(listed, entry=facts.entry)
            if facts.earlier is not None:
                self._settle_again(row, facts, settled, aside)
            elif moved and _was_moved(row, moved):
                aside.append(row.as_duplicate())
            else:
                settled[row.key] = row if facts.conflict is None else unless_taken(row, facts)
        return settled, aside

    def _settle_again(
        self, row: PlannedRow, facts: KnownRow, settled: dict[str, PlannedRow], aside: list[PlannedRow]
    ) -> None:
        """Settle a row whose key this listing has delivered before."""
        earlier = facts.earlier
        holder = self.newest.get(row.key, (earlier.change, earlier.name) if earlier is not None else ("", ""))
        if row.rank == holder:
            self.repeated += 1
            return
        if not is_newer(*row.rank, than=holder):
            self.newest[row.key] = holder
            aside.append(row.as_duplicate())
            return
        self.newest[row.key] = row.rank
        before = settled.get(row.key)
        if before is not None:
            aside.append(before.as_duplicate())
        else:
            self.evicted.setdefault(row.key, set()).add(holder[1])
        settled[row.key] = unless_taken(row, facts)

    def add_aside(
        self, settled: dict[str, PlannedRow], aside: Sequence[PlannedRow], known: Sequence[KnownRow]
    ) -> list[PlannedRow]:
        """Return all rows of a page in order, those that were moved aside included unless they only repeat another."""
        for row, facts in zip(aside, known, strict=True):
            if facts.earlier is not None:
                self.repeated += 1
            else:
                settled[row.key] = unless_taken(attrs.evolve(row, entry=facts.entry), facts)
        return sorted(settled.values(), key=attrgetter("number"))


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


def _was_moved(row: PlannedRow, moved: Mapping[str, LedgerEntry]) -> bool:
    """Return whether an earlier run moved this row aside for a newer one."""
    entry, found = row.entry, moved.get(duplicate_key(row.file.key, row.file.name))
    if entry is None or entry.name == row.file.name or found is None or found.change != row.file.change:
        return False
    return is_newer(entry.change, entry.name, than=row.rank)


def unless_taken(row: PlannedRow, facts: KnownRow) -> PlannedRow:
    """Return the row, rejected if another key of this listing has its path."""
    if facts.conflict is None or row.rejected is not None:
        return row
    error = DestinationBusyError(
        f"{printable(row.path)}: {printable(facts.conflict)} of the same listing goes there already, so "
        f"{printable(row.key)} was not fetched. Use a layout with more identifying fields.",
        file=row.key,
    )
    return attrs.evolve(row, rejected=error)


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
    if isinstance(error, ContentError) and error.page and tries.without_progress < min(attempts, 2) and not ended:
        # Most likely a page for all files, such as that of a sign-in; once more shows whether it is of this one.
        return Recovery(move=Move.AGAIN, wait=backoff(BACKOFF, tries.without_progress, random), drop=True)
    if isinstance(error, ContentError | NotFoundError):
        return Recovery(move=Move.GIVE_UP, drop=True)
    if not missing and not _may_pass(error):
        return Recovery(move=Move.GIVE_UP)
    return _decide_temporary(error, tries, exhausted=ended or tries.without_progress >= attempts, random=random)


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


#: Errors that concern one name or directory, so that files elsewhere may still be written.
_OF_ONE_PLACE = frozenset(
    {errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EEXIST}
)


def _is_the_disk(error: StorageError) -> bool:
    """Return whether no other file could be written either."""
    if isinstance(error, DestinationBusyError | UnsafeNameError):
        return False
    cause = error.__cause__ or error.__context__
    return not (isinstance(cause, OSError) and cause.errno in _OF_ONE_PLACE)
