"""Values of the transfer layer: what was listed, what the ledger knows, what is planned. Pure."""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, Protocol, runtime_checkable

import attrs

from arena_async.errors import ConfigurationError
from arena_async.protocol.files import Cost, FileSet, RemoteFile
from arena_async.protocol.messages import printable

__all__ = [
    "PAGE",
    "Action",
    "FileState",
    "KnownRow",
    "LedgerEntry",
    "ListingRecord",
    "Plan",
    "PlannedFile",
    "Proof",
    "Restoring",
    "RunState",
    "StartedRun",
    "State",
    "account_of",
    "can_restore",
    "is_partial_name",
]

#: Rows that are planned, looked up and written at a time.
PAGE = 400

#: How content was verified, the strongest first. ``"none"`` is not verified.
Proof = Literal["sha256", "md5", "crc", "length", "none"]

State = Literal["committing", "complete", "skipped"]
RunState = Literal["starting", "started", "over"]


class Action(enum.StrEnum):
    """What is done with a file, and why."""

    #: It is not in the directory.
    FETCH = "fetch"
    #: A partial file of it exists and is resumed.
    RESUME = "resume"
    #: It is in the directory, but the service has another version, or the local file is not the recorded one.
    REFRESH = "refresh"
    #: It is in the directory and unchanged.
    KEEP = "keep"
    #: It is not requested: it has no content, was refused, or failed for good.
    SKIP = "skip"
    #: It is in the directory and no longer listed; it stays.
    GONE = "gone"
    #: It was in the directory, is no longer listed, and was removed on request.
    PRUNE = "prune"


@attrs.frozen(kw_only=True)
class FileState:
    """
    What lies under a final name.

    Args:
        size: Bytes.
        mtime_ns: Time of the last change, nanoseconds since 1970.
    """

    size: int
    mtime_ns: int


@attrs.frozen(kw_only=True)
class LedgerEntry:
    """
    What the ledger knows about one file.

    Args:
        key: Identifies the file permanently.
        state: ``complete``: it was committed. ``committing``: it was verified and is about to get its final name, or
            has it already. ``skipped``: the service will never deliver it.
        path: Below the root, with slashes; "" for what was skipped before it was ever downloaded.
        size: Bytes on disk.
        mtime_ns: Time of the file on disk, nanoseconds since 1970.
        change: The change mark of the content.
        sha256: In hexadecimal, or None.
        md5: In hexadecimal, or None.
        verified_by: How the content was verified.
        name: The vendor's own file name.
        partial: The name of its partial file while it is committing, or a slash and the path below the root that it is
            moved from; else "".
        reason: Why it was skipped, else "".
        at: When this was written (aware), or None.
    """

    key: str
    state: State = "complete"
    path: str = ""
    size: int = 0
    mtime_ns: int = 0
    change: str = ""
    sha256: str | None = None
    md5: str | None = None
    verified_by: Proof = "none"
    name: str = ""
    partial: str = ""
    reason: str = ""
    at: datetime | None = None

    @property
    def provable(self) -> bool:
        """Whether a local file of which only the time is another one is the recorded one if its digest is."""
        # A time before 1970 marks a file that was found to be wrong.
        return self.mtime_ns >= 0 and self.sha256 is not None


#: The digest of a key, what is drawn at random, and whether it is the content or its control record.
_PARTIAL_NAME = re.compile(r"[0-9a-f]{32}-[0-9a-f]{16,40}\.(?:part|json)", re.ASCII)


def is_partial_name(name: str) -> bool:
    """Return whether a name is one that we give to partial files and their control records, exactly."""
    return _PARTIAL_NAME.fullmatch(name) is not None


@attrs.frozen
class ListingRecord:
    """
    One row of a listing.

    Args:
        key: Of the file.
        name: The vendor's name for it.
        change: Its change mark.
        path: Its target path below the root; "" where there is none.
    """

    key: str
    name: str = ""
    change: str = ""
    path: str = ""


@attrs.frozen
class KnownRow:
    """
    What the ledger knows about one row of a listing.

    Args:
        entry: The entry of its key, or None.
        earlier: The row of the same key that this listing delivered before, or None.
        conflict: Another key of this listing with the same target path (or one that differs in case or composition
            only), or None.
        several: Whether other rows of its key are here as well; known only for a row with another name than the entry.
    """

    entry: LedgerEntry | None = None
    earlier: ListingRecord | None = None
    conflict: str | None = None
    several: bool = False


@attrs.frozen(kw_only=True)
class StartedRun:
    """
    What the ledger remembers about a run of the service that was started for this directory.

    Args:
        key: Identifies the run's definition: service, tenant, and what was requested.
        state: ``starting``: the start was or is about to be sent, and no response arrived. ``started``: ``run`` was
            started and its result is not here yet. ``over``: nothing is left to do.
        run: The service's identifier of the run, or "".
        began: When it was started (aware), or None.
        took: Seconds that the last run needed, or None.
    """

    key: str
    state: RunState = "over"
    run: str = ""
    began: datetime | None = None
    took: float | None = None


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
    """A file set that can download planned files without looking them up again."""

    @property
    def restores(self) -> bool:
        """Whether it can for all of its files."""
        ...

    async def restore(self, rows: Sequence[PlannedFile]) -> list[RemoteFile]:
        """Return the entries of planned files, without a metered request; those it cannot restore are missing."""
        ...


def can_restore(files: FileSet) -> bool:
    """Return whether a plan of a set can be carried out without looking its files up again."""
    return isinstance(files, Restoring) and files.restores


def account_of(files: FileSet) -> str:
    """Return whose login a set uses, or "": a set that inherits nothing need not state it."""
    return getattr(files, "account", "")


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
        cost: What the query costs, and what is left of the quota, as it was when the plan was made.
        listing: Metered requests that the listing took.
        look_up: Metered requests to look the files of the plan up again, or None where that is not known beforehand.
        made_at: When it was made (aware).
    """

    scope: str
    files: tuple[PlannedFile, ...]
    kept: int = 0
    whole: bool = False
    cost: Cost
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
        """The files whose content would be requested."""
        return tuple(file for file in self.files if file.action in (Action.FETCH, Action.RESUME, Action.REFRESH))

    @property
    def bytes_to_fetch(self) -> int | None:
        """How many bytes would come, or None when the listing does not say for each file."""
        sizes = [file.size for file in self.to_fetch]
        return None if None in sizes else sum(size for size in sizes if size is not None)

    @property
    def content(self) -> int:
        """Metered requests for the content of all files to fetch, if nothing fails."""
        return self.cost.per_file * len(self.to_fetch)

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
        """Requests that were left when the plan was made, or None where that is not known."""
        return self.cost.remaining

    @property
    def reserve(self) -> int:
        """Requests that are to be left untouched."""
        return self.cost.reserve

    @property
    def resets_at(self) -> datetime | None:
        """When the quota is reset (aware), or None."""
        return self.cost.resets_at

    @property
    def fits(self) -> bool | None:
        """Whether carrying it out fits into what was left without the reserve; None where the rest is not known."""
        return self.cost.fits(self.requests)

    def to_json(self) -> str:
        """Return the plan as JSON."""
        data = attrs.asdict(self, value_serializer=_plain)
        # Written plans have had the key "price" since the first version.
        data = {"price" if name == "cost" else name: value for name, value in data.items()}
        return json.dumps({"arena_async_plan": 1, **data}, indent=1)

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
                cost=Cost(**{**data["price"], "resets_at": _instant(data["price"]["resets_at"])}),
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
