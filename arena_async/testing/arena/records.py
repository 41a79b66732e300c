"""
Records of the simulated Arena workspace, and their JSON.

Records change as the simulator runs; ``as_json`` returns the documented fields, deprecated duplicates
and nulls included.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import attrs

from arena_async.testing.content import Bytes
from arena_async.testing.payloads import Payload, payload

__all__ = [
    "Association",
    "Guids",
    "Item",
    "Session",
    "StoredFile",
    "User",
    "pacific_midnight_after",
    "write_reset",
    "write_time",
]

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_STORAGE = {"FILE": 0, "PLACE_HOLDER": 1, "FTP": 2, "WEB": 3}
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class Guids:
    """Generates guids like those of the service: 20 upper-case letters and digits, reproducible by seed."""

    def __init__(self, seed: str = "") -> None:
        self._seed, self._given = seed, 0

    def __call__(self) -> str:
        """Return the next one."""
        self._given += 1
        digest = hashlib.sha256(f"{self._seed}|{self._given}".encode()).digest()
        return "".join(_ALPHABET[byte % 36] for byte in digest[:20])


def write_time(at: float | None) -> str | None:
    """Write seconds since 1970 as the service does: UTC, whole seconds, ``Z``."""
    return None if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _pacific_hours(utc: datetime) -> int:
    """Return the hours from UTC to US Pacific time; summer is the second Sunday of March to the first of November."""
    march = datetime(utc.year, 3, 8, 10, tzinfo=UTC)
    november = datetime(utc.year, 11, 1, 9, tzinfo=UTC)
    begins = march + timedelta(days=(6 - march.weekday()) % 7)
    ends = november + timedelta(days=(6 - november.weekday()) % 7)
    return -7 if begins <= utc < ends else -8


def pacific_midnight_after(at: float) -> float:
    """Return the next midnight of US Pacific time, in seconds since 1970."""
    now = datetime.fromtimestamp(at, UTC)
    local = now + timedelta(hours=_pacific_hours(now))
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    guess = midnight - timedelta(hours=_pacific_hours(now))
    return (midnight - timedelta(hours=_pacific_hours(guess))).timestamp()


def write_reset(at: float) -> str:
    """Write an instant in the shape of the vendor's reset header: ``Fri, 02-May-2014 14:22:13 GMT-0700 (PDT)``."""
    utc = datetime.fromtimestamp(at, UTC)
    hours = _pacific_hours(utc)
    local = utc + timedelta(hours=hours)
    day = f"{_DAYS[local.weekday()]}, {local.day:02d}-{_MONTHS[local.month - 1]}-{local.year}"
    return f"{day} {local:%H:%M:%S} GMT-{-hours:02d}00 ({'PDT' if hours == -7 else 'PST'})"


@attrs.define(eq=False)
class User:
    """A user of the workspace."""

    email: str
    password: str = attrs.field(repr=False)
    full_name: str
    guid: str
    rejected: int = 0
    locked_until: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """Show the user as creator or author."""
        return {"email": self.email, "fullName": self.full_name, "guid": self.guid}


@attrs.define(eq=False)
class Session:
    """A session of a user, or a token of the machine user."""

    id: str = attrs.field(repr=False)
    user: User
    workspace: int
    last_action: float
    alive: bool = True
    ends: float | None = None


@attrs.define(eq=False)
class StoredFile:
    """A file of the vault, of an extract run or of an export run."""

    guid: str
    name: str
    content: Payload | Bytes | None
    created: float
    modified: float = attrs.field(default=attrs.Factory(lambda self: self.created, takes_self=True))
    number: str | None = None
    title: str | None = None
    edition: str | None = None
    storage: Literal["FILE", "PLACE_HOLDER", "FTP", "WEB"] = "FILE"
    location: str | None = None
    mime_type: str | None = None
    latest: bool = False
    locked: bool = False
    corrected: bool = False
    author: User | None = None
    family: str = ""
    gone: bool = False
    listed_size: int | None = None

    @property
    def format(self) -> str:
        """The extension without its dot."""
        return self.name.rpartition(".")[2]

    @property
    def etag(self) -> str:
        """The strong validator of the current content."""
        digest = b"" if self.content is None else b"".join(self.content.chunks(0, 4096))
        size = 0 if self.content is None else self.content.size
        return f'"{hashlib.sha256(b"%d|" % size + digest).hexdigest()[:20]}"'

    def change(self, at: float) -> None:
        """Correct the edition: replace its content by other bytes of the same size."""
        if isinstance(self.content, Payload):
            self.content = payload(self.content.name, self.content.size, seed=f"{self.content.seed}+")
        elif self.content is not None:
            self.content = Bytes(bytes(byte ^ 1 for byte in self.content.body))
        self.modified = at
        self.corrected = True

    def as_json(self, *, size_as_text: bool = False) -> dict[str, Any]:
        """Return the complete file object."""
        declared = self.listed_size
        if declared is None and self.content is not None:
            declared = self.content.size
        return {
            "author": None if self.author is None else {"fullName": self.author.full_name},
            "category": {},
            "corrected": self.corrected,
            "creationDateTime": write_time(self.created),
            "description": None,
            "edition": self.edition,
            "format": self.format,
            "guid": self.guid,
            "hasMarkup": False,
            "lastModifiedDateTime": write_time(self.modified),
            "latest": self.latest,
            "location": self.location,
            "locked": self.locked,
            "mimeType": self.mime_type,
            "name": self.name,
            "number": self.number,
            "private": False,
            "size": str(declared) if size_as_text and declared is not None else declared,
            "storageMethod": _STORAGE[self.storage],
            "storageMethodName": self.storage,
            "title": self.title,
        }

    def as_compact_json(self) -> dict[str, Any]:
        """Return the compact file object of ``GET /files``: without size and without its last modification."""
        left_out = {"size", "lastModifiedDateTime", "mimeType", "description", "private", "hasMarkup"}
        return {name: value for name, value in self.as_json().items() if name not in left_out}


@attrs.define(eq=False)
class Association:
    """The association of a file with an extract run or an item; its guid is used to request content."""

    guid: str
    file: StoredFile
    downloaded: float | None = None
    primary: bool = False


@attrs.define(eq=False, kw_only=True)
class Item:
    """An item with its files."""

    guid: str
    number: str
    name: str
    created: float
    files: list[Association] = attrs.field(factory=list)
    attributes: dict[str, str] = attrs.field(factory=dict)

    def as_json(self, *, view: str = "compact") -> dict[str, Any]:
        """Return the item in one of the documented views."""
        if view == "minimum":
            return {"guid": self.guid, "number": self.number, "name": self.name}
        shown = self._compact()
        if view == "full":
            shown |= {
                "additionalAttributes": [
                    {"apiName": guid, "fieldType": "SINGLE_LINE_TEXT", "guid": guid, "name": "Finish", "value": value}
                    for guid, value in self.attributes.items()
                ],
                "description": None,
                "owner": {"fullName": "Ida Integration"},
                "revisionStatus": "EFFECTIVE",
            }
        return shown

    def _compact(self) -> dict[str, Any]:
        return {
            "assemblyType": "NOT_AN_ASSEMBLY",
            "category": {"guid": "ABCDEFGHIJKLMNOPQRST", "name": "Part"},
            "creationDateTime": write_time(self.created),
            "effectiveDateTime": None,
            "guid": self.guid,
            "inAssembly": False,
            "lifecyclePhase": {"guid": "KLMNOPQRSTABCDEFGHIJ", "name": "In Production"},
            "name": self.name,
            "number": self.number,
            "revisionNumber": "A",
            "url": {"api": f"https://api.arenasolutions.com/v1/items/{self.guid}", "app": None},
        }
