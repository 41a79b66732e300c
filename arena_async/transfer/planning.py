"""
What to do with each file, and what to do when its content does not come: pure decisions over plain values.

::

    decide(file, entry, on_disk)      fetch, refresh, keep or skip it
    place(file, layout)               where it goes below the folder
    judge_failure(error, tries)       ask again after t, renew the link, start over, give up, stop feeding
    RetryBudget                       retries that all files of one service share
    Plan                              what a sync would do, as values that can be written down
"""

from __future__ import annotations

import enum
import errno
import json
import re
import string
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any, Literal, Protocol, runtime_checkable

import attrs

from arena_async.errors import (
    ApiError,
    AuthenticationError,
    ClosedError,
    ConfigurationError,
    ContentError,
    DeadlineError,
    DestinationBusyError,
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
from arena_async.transfer.events import Action
from arena_async.transfer.filesystem import FileState
from arena_async.transfer.ledger import Entry
from arena_async.wire.contracts import FileSet, Price, RemoteFile
from arena_async.wire.messages import printable
from arena_async.wire.names import safe_name, safe_path, suffix_for_twin
from arena_async.wire.retrying import backoff

__all__ = [
    "BACKOFF",
    "LEAST_PROGRESS",
    "LONGEST_RETRY_AFTER",
    "MOST_RESTARTS",
    "Decision",
    "Move",
    "Plan",
    "PlannedFile",
    "Recovery",
    "Restoring",
    "RetryBudget",
    "Tries",
    "can_restore",
    "decide",
    "is_newer",
    "is_same_content",
    "is_too_much",
    "judge_failure",
    "layout_problem",
    "place",
    "twin_key",
    "twin_path",
    "without_mark",
    "worth_remembering",
]

#: Seconds of a ``Retry-After`` that is waited for; the file fails when the service asks for more.
LONGEST_RETRY_AFTER = 300.0

#: How often a file is begun anew because the service has another one now.
MOST_RESTARTS = 2

#: An attempt that brought fewer bytes than this, or than a hundredth of the file, counts as one without progress.
LEAST_PROGRESS = 64 * KIB

#: Requests for the content of one file, as a multiple of the attempts without progress, whatever the progress.
_MOST_ASKED = 10

#: The waits between two requests for the content of one file.
BACKOFF = RetryPolicy()


# -------------------------------------------------------------------------------------------------- what to do with it


@attrs.frozen(kw_only=True)
class Decision:
    """
    What to do with a file.

    Args:
        action: The action.
        reason: Why it is skipped, or "".
    """

    action: Action
    reason: str = ""


def decide(file: RemoteFile, entry: Entry | None, on_disk: FileState | None, *, path: str, ask_again: bool) -> Decision:
    """
    Decide what to do with a file.

    It is kept only when the ledger knows it under this path with this change mark, and what lies there has the size and
    the time that the ledger wrote down: that something lies there proves nothing.

    Args:
        file: As listed now.
        entry: What the ledger knows about it, or None.
        on_disk: What lies under its final name, or None.
        path: Where it goes now, below the root.
        ask_again: Whether to ask for what the service refused for ever the last time.
    """
    same = entry is not None and entry.change == file.change
    is_here = entry is not None and entry.state != "skipped" and on_disk is not None and entry.path == path
    untouched = entry is not None and on_disk is not None and _stamp(on_disk) == (entry.size, entry.mtime_ns)
    if is_here and same and untouched:
        # Also where the service does not give it any more: what was brought in time stays known.
        return Decision(action=Action.KEEP)
    if file.skip is not None:
        return Decision(action=Action.SKIP, reason=file.skip)
    if entry is not None and entry.state == "skipped" and same and not ask_again:
        return Decision(action=Action.SKIP, reason=entry.reason)
    return Decision(action=Action.REFRESH if is_here else Action.FETCH)


def _stamp(state: FileState) -> tuple[int, int]:
    """Give what shows that nobody has touched a file."""
    return state.size, state.mtime_ns


def is_newer(change: str, name: str, *, than: tuple[str, str]) -> bool:
    """Say whether one of two listed rows of the same key is the newer one, by change mark and then by vendor's name."""
    return (change, name) > than


def is_same_content(fresh: RemoteFile, old: RemoteFile) -> bool:
    """
    Say whether a fresh entry stands for the bytes that an older one stood for, so that what came can be continued.

    It is another content when its change mark, its size or the place its link leads to is another one.
    """
    moved = bool(fresh.link and old.link) and _link_place(fresh) != _link_place(old)
    return not moved and (fresh.change, fresh.size) == (old.change, old.size)


def _link_place(file: RemoteFile) -> str:
    """Give where the link of a file leads; its query is signed anew each time."""
    return file.link.reveal().partition("?")[0] if file.link else ""


def worth_remembering(error: Exception, file: RemoteFile) -> bool:
    """
    Say whether a refusal is for ever, so that later runs need not ask: no content, not allowed, gone.

    A refusal of a signed link says something about the link only. A 400 counts if it bears a number of the vendor's: an
    empty one is a file server that is away.
    """
    if not isinstance(error, ApiError) or error.transient or error.stale_login or file.link is not None:
        return False
    if isinstance(error, NotFoundError | PermissionDeniedError):
        return True
    return type(error) is ApiError and error.status in (400, 410) and (error.status == 410 or error.code is not None)


# ------------------------------------------------------------------------------------------------------- where it goes


def layout_problem(layout: str) -> str | None:
    """Say what is wrong with a layout template, or None: only plain ``{field}`` and text, below the folder."""
    try:
        pieces = list(string.Formatter().parse(layout))
    except ValueError as error:
        return f"it cannot be read: {error}"
    for _, field, form, conversion in pieces:
        if field is None:
            continue
        if form or conversion or not field.isidentifier():
            return f"{{{field}}} is more than the name of a field"
    folders = layout.split("/")
    if any(folder.strip() in ("", ".", "..") for folder in folders):
        return "it has an empty folder, or . or .. among them"
    if not any(field is not None for _, field, _, _ in pieces):
        return "it names no field, so that all files would go to one place"
    return None


def place(file: RemoteFile, layout: str | None = None) -> PurePosixPath:
    """
    Say where a file goes below the folder: the documented layout of its service, or a template of identifying fields.

    Each component is cleaned on its own after its fields were filled in, and no field can add a component.

    Raises:
        ConfigurationError: The template is wrong, or names a field that this file does not have.
        UnsafeNameError: No safe path can be made.
    """
    if layout is None and file.as_named:
        return PurePosixPath(*map(safe_name, file.parts), safe_name(file.stem + file.extension))
    if layout is None:
        return safe_path(file.parts, file.stem, file.extension)
    problem = layout_problem(layout)
    if problem is not None:
        raise ConfigurationError(f"The layout {printable(layout)!r} cannot be used: {problem}.")
    fields = {"service": file.service, "stem": file.stem, "extension": file.extension, **file.fields}
    *folders, last = (_fill(component, fields, layout) for component in layout.split("/"))
    if file.extension and last.endswith(file.extension):
        return safe_path(folders, last[: -len(file.extension)], file.extension)
    return safe_path(folders, last)


def _fill(component: str, fields: Mapping[str, str], layout: str) -> str:
    """Fill one component of a template."""
    filled = ""
    for text, field, _, _ in string.Formatter().parse(component):
        filled += text
        if field is None:
            continue
        if field not in fields:
            raise ConfigurationError(
                f"The layout {printable(layout)!r} names {{{field}}}, which these files do not have; they have "
                f"{', '.join(sorted(fields))}."
            )
        filled += fields[field]
    return filled


def twin_path(path: PurePosixPath, name: str, extension: str) -> PurePosixPath:
    """Say where a row goes whose key a newer row of the listing has: a mark of its name stands before the extension."""
    end = extension if extension and path.name.endswith(extension) else path.suffix
    stem = path.name[: -len(end)] if end else path.name
    return path.with_name(f"{stem}{suffix_for_twin(name)}{end}")


def twin_key(key: str, name: str) -> str:
    """Give the key under which such a row is remembered."""
    return f"{key}{suffix_for_twin(name)}"


def without_mark(key: str) -> str:
    """Give the key of the file itself, for a key that :func:`twin_key` made."""
    return re.sub(r"~[0-9a-f]{8}\Z", "", key)


# ----------------------------------------------------------------------------------------------- when it does not come


@attrs.frozen(kw_only=True)
class Tries:
    """
    What was tried for one file so far.

    Args:
        asked: Requests for its content.
        fruitless: How many of the last of them brought no progress worth the name.
        restarts: Times it was begun anew because the service has another file now.
        spoiled: Times it was begun anew because the content was not right.
        renewals: Fresh links since the last answer that brought content.
        logins: Requests in a row that were refused for a stale login.
        lost: Requests in a row that a dying connection swallowed.
    """

    asked: int = 0
    fruitless: int = 0
    restarts: int = 0
    spoiled: int = 0
    renewals: int = 0
    logins: int = 0
    lost: int = 0

    def asking(self) -> Tries:
        """Count a request for the content."""
        return attrs.evolve(self, asked=self.asked + 1)

    def after(self, *, came: int, progress: int, total: int | None) -> Tries:
        """
        Judge the last request, which has failed, by what it brought.

        Args:
            came: Bytes of content that it brought.
            progress: Those of them that no request had brought before.
            total: Bytes of the whole file, or None.
        """
        enough = progress >= max(LEAST_PROGRESS, (total or 0) // 100)
        tries = attrs.evolve(self, fruitless=0 if enough else self.fruitless + 1)
        return attrs.evolve(tries, renewals=0, logins=0, lost=0) if came else tries


class Move(enum.Enum):
    """What to do after a request for content failed."""

    #: Ask again, from where the content ends.
    AGAIN = "again"
    #: Get a fresh entry with a fresh link, then ask again.
    RENEW = "renew"
    #: Get a fresh entry, drop what came, ask for the whole again.
    RESTART = "restart"
    #: Drop what came, ask for the whole again.
    SPOILED = "spoiled"
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
        stop: Whether other files need not be begun: those of the same service, those for the same disk, or None.
    """

    move: Move
    wait: float = 0.0
    drop: bool = False
    stop: Literal["service", "disk"] | None = None


def judge_failure(
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
    Judge what to do after a request for content failed.

    This decides for the loop over the body of one file. The loop over API requests is in the session; neither runs
    inside the other, so that what is allowed here is what is sent.

    Args:
        error: How it failed.
        tries: What was tried so far, the failed request included.
        attempts: Requests without progress after which the file has failed.
        linked: Whether the content is behind a signed link that may have become stale.
        missing: The body ended early: what came is right, and not all.
        whole: The whole was asked for, and not a range.
        random: Gives a number from 0 to 1.
    """
    if isinstance(error, StorageError):
        return Recovery(move=Move.GIVE_UP, stop="disk" if _is_the_disk(error) else None)
    if isinstance(error, QuotaExhaustedError | ClosedError):
        return Recovery(move=Move.GIVE_UP, stop="service")
    ended = tries.asked >= _MOST_ASKED * attempts
    if isinstance(error, SourceChangedError):
        # A whole answer that contradicts the listing is checked against a fresh listing once: when that says the same,
        # the service contradicts itself, and asking again would not end.
        again = not ended and tries.restarts < (1 if whole else MOST_RESTARTS)
        return Recovery(move=Move.RESTART if again else Move.GIVE_UP, drop=True)
    if isinstance(error, IntegrityError) and not missing:
        again = not ended and tries.spoiled < 1
        return Recovery(move=Move.SPOILED if again else Move.GIVE_UP, drop=True)
    if isinstance(error, LinkExpiredError) or (linked and isinstance(error, PermissionDeniedError)):
        again = not ended and tries.renewals < 1
        return Recovery(move=Move.RENEW if again else Move.GIVE_UP)
    if isinstance(error, AuthenticationError):
        again = not ended and error.stale_login and error.transient and tries.logins < 1
        return Recovery(move=Move.AGAIN) if again else Recovery(move=Move.GIVE_UP, stop="service")
    if isinstance(error, ContentError | NotFoundError):
        return Recovery(move=Move.GIVE_UP, drop=True)
    if not missing and not _may_pass(error):
        return Recovery(move=Move.GIVE_UP)
    return _judge_patience(error, tries, worn_out=ended or tries.fruitless >= attempts, random=random)


def _judge_patience(error: Exception, tries: Tries, *, worn_out: bool, random: Callable[[], float]) -> Recovery:
    """Judge something that may pass."""
    asked_for = error.retry_after if isinstance(error, ApiError) else None
    if worn_out or (asked_for is not None and asked_for > LONGEST_RETRY_AFTER):
        return Recovery(move=Move.GIVE_UP)
    if isinstance(error, TransportError) and error.unanswered_reuse and tries.lost < 1:
        return Recovery(move=Move.AGAIN)
    wait = backoff(BACKOFF, tries.fruitless, random)
    return Recovery(move=Move.AGAIN, wait=max(wait, asked_for or 0.0))


def _may_pass(error: Exception) -> bool:
    """Say whether the same request may succeed later without any change."""
    if isinstance(error, TlsError):
        return False
    if isinstance(error, ApiError):
        return error.transient or isinstance(error, ThrottledError)
    return isinstance(error, TransportError | StalledError | DeadlineError)


def is_too_much(error: Exception) -> bool:
    """Say whether a service shows that it is asked for too much at a time: 429, 503, or a body that stalls."""
    return isinstance(error, ThrottledError | StalledError) or (isinstance(error, ApiError) and error.status == 503)


#: What the system says about one name or folder, so that files elsewhere may still be written.
_OF_ONE_PLACE = frozenset(
    {errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EEXIST}
)


def _is_the_disk(error: StorageError) -> bool:
    """Say whether no other file could be written either."""
    if isinstance(error, DestinationBusyError | UnsafeNameError):
        return False
    cause = error.__cause__ or error.__context__
    return not (isinstance(cause, OSError) and cause.errno in _OF_ONE_PLACE)


class RetryBudget:
    """
    A bucket of retries that all files of one service share: one that is away is not asked five times for each file.

    Each file that is begun puts ``share`` of a retry in, each retry takes one out, and the bucket starts with
    ``first``: when everything fails, there are at most ``(1 + share) * files + first`` requests.

    Args:
        first: Retries at the start, so that a few files have all their attempts.
        share: Retries added by each file.
        most: Retries the bucket holds at the most.
    """

    def __init__(self, *, first: float, share: float = 0.2, most: float = 1000.0) -> None:
        self._first = first
        self._share = share
        self._most = max(most, first)
        self._left: dict[str, float] = {}

    def begin(self, service: str) -> None:
        """Count a file that is asked for the first time."""
        self._left[service] = min(self._most, self._left.get(service, self._first) + self._share)

    def spend(self, service: str) -> bool:
        """Take a retry out if there is one."""
        left = self._left.get(service, self._first)
        if left < 1:
            return False
        self._left[service] = left - 1
        return True


# -------------------------------------------------------------------------------------------------------- a plan of it


@attrs.frozen(kw_only=True)
class PlannedFile:
    """
    One file of a plan.

    Args:
        key: The key of the file.
        action: What would be done.
        path: Where it lies or would lie, below the folder, with slashes.
        size: Bytes as listed (or as they lie here, for what is gone), or None.
        name: The vendor's own file name.
        reason: Why, where there is more to say; else "".
        extension: The extension with its dot.
        change: The change mark as listed.
    """

    key: str
    action: Action
    path: str
    size: int | None = None
    name: str = ""
    reason: str = ""
    extension: str = ""
    change: str = ""


@runtime_checkable
class Restoring(Protocol):
    """A set of files that can bring what was planned without looking it up again."""

    @property
    def restores(self) -> bool:
        """Whether it can for all of its files."""
        ...

    async def restore(self, rows: Sequence[PlannedFile]) -> list[RemoteFile]:
        """Give the entries of planned files, without a metered request; those it cannot give are missing."""
        ...


def can_restore(files: FileSet) -> bool:
    """Say whether a plan of a set can be carried out without looking its files up again."""
    return isinstance(files, Restoring) and files.restores


@attrs.frozen(kw_only=True)
class Plan:
    """
    What a sync would do, as plain values that can be written down. It holds no link and no secret.

    What it costs stands in its steps: :attr:`listing` was spent to make it; ``sync(files, plan=plan)`` spends
    :attr:`requests`, which are :attr:`look_up` and :attr:`content`, if nothing fails.

    Args:
        scope: The name of the query.
        files: One row for each file with something to do; files that are kept are only counted.
        kept: Files that are here and the same.
        whole: Whether the listing was whole and not narrowed, so that what it lacks is gone.
        price: What the query costs, and what is left of the allowance, as it was when the plan was made.
        listing: Metered requests that the listing took.
        look_up: Metered requests to look the files of the plan up again, or None where that is not known beforehand.
        made_at: When it was made (aware).
    """

    scope: str
    files: tuple[PlannedFile, ...]
    kept: int = 0
    whole: bool = False
    price: Price
    listing: int = 0
    look_up: int | None = None
    made_at: datetime | None = None

    @property
    def counts(self) -> Mapping[Action, int]:
        """How many files there are of each action."""
        counts = dict.fromkeys(Action, 0)
        counts[Action.KEEP] = self.kept
        for file in self.files:
            counts[file.action] += 1
        return counts

    @property
    def to_fetch(self) -> tuple[PlannedFile, ...]:
        """The files whose content would be asked for."""
        return tuple(file for file in self.files if file.action in (Action.FETCH, Action.RESUME, Action.REFRESH))

    @property
    def bytes_to_fetch(self) -> int | None:
        """How many bytes would come, or None when the listing does not say for each file."""
        sizes = [file.size for file in self.to_fetch]
        return None if None in sizes else sum(size for size in sizes if size is not None)

    @property
    def content(self) -> int:
        """Metered requests for the content of all files to fetch, if nothing fails."""
        return self.price.per_file * len(self.to_fetch)

    @property
    def requests(self) -> int:
        """Metered requests that carrying it out takes, if nothing fails; a look-up of unknown cost is left out."""
        return (self.look_up or 0) + self.content

    @property
    def steps(self) -> Mapping[str, int | None]:
        """Metered requests by step: what the listing took, the look-up (None where not known) and the content."""
        return {"listing": self.listing, "look_up": self.look_up, "content": self.content}

    @property
    def remaining(self) -> int | None:
        """Requests that were left when the plan was made, or None where nobody said."""
        return self.price.remaining

    @property
    def reserve(self) -> int:
        """Requests that are to be left untouched."""
        return self.price.reserve

    @property
    def resets_at(self) -> datetime | None:
        """When the allowance starts anew (aware), or None."""
        return self.price.resets_at

    @property
    def fits(self) -> bool | None:
        """Whether carrying it out fits into what was left without the reserve; None where nobody said what was left."""
        return self.price.fits(self.requests)

    def to_json(self) -> str:
        """Write the plan down."""
        return json.dumps({"arena_async_plan": 1, **attrs.asdict(self, value_serializer=_plain)}, indent=1)

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """
        Read a plan that was written down.

        Raises:
            ConfigurationError: It is not a plan, or one of a newer version of this library.
        """
        try:
            data = json.loads(text)
            if data.pop("arena_async_plan") != 1:
                raise ConfigurationError("The plan was written by a newer version of this library; make it anew.")
            return cls(
                scope=_typed(data["scope"], str),
                files=tuple(_planned(row) for row in data["files"]),
                kept=_typed(data["kept"], int),
                whole=_typed(data["whole"], bool),
                price=Price(**{**data["price"], "resets_at": _instant(data["price"]["resets_at"])}),
                listing=_typed(data.get("listing", 0), int),
                look_up=None if data.get("look_up") is None else _typed(data["look_up"], int),
                made_at=_instant(data["made_at"]),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigurationError(f"This is not a plan as Plan.to_json writes it: {error!r}.") from None


def _plain(_owner: object, _attribute: object, value: Any) -> Any:
    """Make JSON of what is not."""
    if isinstance(value, Action):
        return value.value
    return value.isoformat() if isinstance(value, datetime) else value


def _planned(row: Mapping[str, Any]) -> PlannedFile:
    """Read one file of a plan."""
    texts = {name: _typed(row[name], str) for name in ("key", "path", "name", "reason")}
    texts |= {name: _typed(row.get(name, ""), str) for name in ("extension", "change")}
    size = None if row["size"] is None else _typed(row["size"], int)
    return PlannedFile(action=Action(row["action"]), size=size, **texts)


def _typed(value: Any, kind: type) -> Any:
    """Insist on a type."""
    if type(value) is not kind:
        raise TypeError(f"{printable(repr(value))} is no {kind.__name__}")
    return value


def _instant(text: str | None) -> datetime | None:
    """Read an instant."""
    return None if text is None else datetime.fromisoformat(text)
