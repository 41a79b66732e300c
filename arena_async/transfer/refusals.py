"""
What a failed file means for the runs that follow: who is not to request it again, and until when.

========  =============================================================================================================
denied    the service rejected it with a code of its own: remembered for the account that met it; after a day one file
          of each refused run is requested, the others only if that succeeds
failed    rejected without such a code, as by a gateway: requested again in each run, after half of the time it has
          failed for, a week at most
damaged   its content came twice and was not right: not requested again before its change mark moves
========  =============================================================================================================

Pure.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal

import attrs

from arena_async.errors import (
    ApiError,
    ArenaAsyncError,
    ContentError,
    IntegrityError,
    NotFoundError,
    PermissionDeniedError,
    SourceChangedError,
    TransferError,
)
from arena_async.protocol.files import RemoteFile
from arena_async.protocol.messages import printable

__all__ = [
    "DAY",
    "WEEK",
    "Refusal",
    "RefusalKind",
    "group_of",
    "is_due",
    "postponed",
    "reason_of",
    "refusal_kind",
    "renewed",
]

RefusalKind = Literal["denied", "failed", "damaged"]

#: What is done once a day is done again after so long: runs of every night do not begin at the same second.
DAY = timedelta(hours=20)
#: What fails for long is requested once in so long.
WEEK = timedelta(days=7)


@attrs.frozen(kw_only=True)
class Refusal:
    """
    What is remembered about a file that failed.

    Args:
        key: Its key.
        kind: What it means (see the table of this module).
        group: What is refused together: the run that the file belongs to.
        change: The change mark it had.
        reason: What was wrong, without the address.
        since: When it failed first (aware).
        tries: Runs that requested it.
        again: When it is due again (aware).
    """

    key: str
    kind: RefusalKind
    group: str = ""
    change: str = ""
    reason: str = ""
    since: datetime
    tries: int = 1
    again: datetime


def group_of(key: str) -> str:
    """Return what is refused together: everything but the last identifying field of a key."""
    return key.rpartition("/")[0]


def refusal_kind(error: Exception, file: RemoteFile, *, twice: bool) -> RefusalKind | None:
    """
    Return what a failed file means for later runs, or None where it is requested as if nothing had happened.

    Args:
        error: How it failed, after all attempts of the run.
        file: As listed.
        twice: Whether its whole content came twice, with the same damage.
    """
    if isinstance(error, IntegrityError):
        if not twice:
            return None
        return "damaged" if file.change else "failed"
    if isinstance(error, ContentError | SourceChangedError):
        # A page in place of the content says something about a server between, and not about the file.
        return "failed"
    if not isinstance(error, ApiError) or error.transient or error.stale_login:
        return None
    client_error = type(error) is ApiError and 400 <= (error.status or 0) < 500
    if not (client_error or isinstance(error, NotFoundError | PermissionDeniedError)):
        return None
    # What a signed URL is answered says something about the URL.
    return "denied" if error.code is not None and file.link is None else "failed"


def reason_of(error: Exception, path: str) -> str:
    """Return the message of an error without the address or path it begins with, so that equal reasons are equal."""
    return str(error).removeprefix(f"{getattr(error, 'request', None)}: ").removeprefix(f"{path}: ")


def renewed(refusal: Refusal, before: Refusal | None, *, now: datetime) -> Refusal:
    """Return what to remember about a file that has just failed, given what was remembered before."""
    if before is not None and (before.kind, before.change) == (refusal.kind, refusal.change) and before.since <= now:
        refusal = attrs.evolve(refusal, since=before.since, tries=before.tries + 1)
    delay = DAY if refusal.kind == "denied" else min(WEEK, (now - refusal.since) / 2)
    return attrs.evolve(refusal, again=now + delay)


def is_due(refusal: Refusal, now: datetime) -> bool:
    """Return whether a file is to be requested again; a time that no run can have written down has passed."""
    return refusal.kind != "damaged" and not now < refusal.again <= now + WEEK


def postponed(refusal: Refusal) -> ArenaAsyncError:
    """Return the error of a file that is not requested in this run, since it has failed for long."""
    return TransferError(
        f"{printable(refusal.key)}: it was not requested. It has failed since {refusal.since:%Y-%m-%d}, in "
        f"{refusal.tries} runs: {refusal.reason} It is requested again after {refusal.again:%Y-%m-%d %H:%M} UTC; "
        "ask_again (--ask-again) requests it now.",
        file=refusal.key,
    )
