"""
What is remembered about requests that change a service: starts of runs, commits, definitions, data requests.

::

    record           then
    none, over       write "sending", and send
    sending          no response was received: look it up for 10 minutes after it was sent, and do not send it
    started          it was carried out, and its result is still wanted: read that, and send nothing

A record is written before its request leaves, in a file that all processes of a user share, one for each object that
requests are sent to. No secret is in it: names are hashed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final, Literal, get_args

import attrs

__all__ = [
    "MAX_SKEW",
    "SHOWN_AFTER",
    "RequestRecord",
    "RequestRecords",
    "load_records",
    "may_send",
    "record_name",
    "replaced_name",
]

#: Until then a service shows what it has carried out, and its clock and ours may be so far apart.
SHOWN_AFTER: Final = timedelta(minutes=10)
MAX_SKEW: Final = timedelta(minutes=5)

_State = Literal["sending", "started", "over"]
_VERSION: Final = 1
#: Records of one file, besides those without a response; and results that are known.
_MAX_RECORDS: Final = 100
_MAX_KNOWN: Final = 200


@attrs.frozen(kw_only=True)
class RequestRecord:
    """
    What is remembered about one request.

    Args:
        state: ``sending``: it was or is about to be sent, and no response was received, or none that was checked.
            ``started``: it was carried out and its result is still wanted. ``over``: nothing is left to do.
        sender: Identifies the attempt that sent it.
        at: When it was sent, by the clock of the service as far as that is known (aware).
        written: When the record was written, by the clock of this machine (aware).
        result: The service's identifier of what it made, or "".
        took: Seconds that the last result needed, or None.
    """

    state: _State = "over"
    sender: str = ""
    at: datetime | None = None
    written: datetime | None = None
    result: str = ""
    took: float | None = None


@attrs.frozen
class RequestRecords:
    """
    The records of one object, such as a definition.

    Args:
        records: By the names of the requests.
        known: Identifiers of results that are known to be of some request, the oldest first.
    """

    records: Mapping[str, RequestRecord] = attrs.field(factory=dict)
    known: tuple[str, ...] = ()

    def with_record(self, name: str, record: RequestRecord) -> RequestRecords:
        """
        Return them with one of them replaced; old ones that nothing waits for are left out.

        A request without a response whose place another one takes is kept under :func:`replaced_name`: its result may
        still be shown, and must not be taken for that of another request.
        """
        found, replaced = {**self.records, name: record}, self.records.get(name)
        if replaced is not None and replaced.state == "sending" and replaced.sender != record.sender:
            found[replaced_name(name, replaced.sender)] = replaced
        closed = sorted(
            (one for one in found if found[one].state != "sending"),
            key=lambda one: (one == name, str(found[one].written or "")),
        )
        for old in closed[:-_MAX_RECORDS]:
            del found[old]
        new = [record.result] if record.result and record.result not in self.known else []
        return RequestRecords(found, (*self.known, *new)[-_MAX_KNOWN:])

    def dump(self, about: str) -> bytes:
        """Return the content of their file; ``about`` says to a person what they are about."""
        rows = {name: _dump(record) for name, record in self.records.items()}
        content = {"arena_async_requests": _VERSION, "about": about, "records": rows, "known": list(self.known)}
        return json.dumps(content, indent=1).encode()


def replaced_name(name: str, sender: str) -> str:
    """Return the name of a request whose place another one has taken."""
    return f"{name} {sender}"


def load_records(content: bytes | None) -> RequestRecords:
    """
    Read the file of records; None is an empty one.

    Raises:
        ValueError: It is damaged, or of a newer version.
    """
    if content is None:
        return RequestRecords()
    try:
        data = json.loads(content)
        if data["arena_async_requests"] != _VERSION:
            raise ValueError("another version")
        records = {str(name): _load(row) for name, row in data["records"].items()}
        return RequestRecords(records, tuple(str(one) for one in data["known"]))
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError("no records") from error


def record_name(*parts: str) -> str:
    """Return the name of a request, which does not show what it is made of."""
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:32]


def may_send(
    record: RequestRecord | None,
    *,
    replaces: RequestRecord | None,
    resumes: bool,
    since: datetime,
    now: datetime,
) -> bool:
    """
    Return whether a request may be sent now.

    Args:
        record: What is remembered about it.
        replaces: A record that is known to stand in the way of nothing any more, or None.
        resumes: Whether the result of an earlier call will do.
        since: When this call began (aware): what another process has finished since then will do as well.
        now: The time (aware), by the same clock.
    """
    if record is None or record == replaces:
        return True
    if record.state == "sending":
        return False
    if not resumes:
        return True
    lately = record.written is not None and since < record.written <= now
    return record.state == "over" and not (lately and record.result)


def _dump(record: RequestRecord) -> dict[str, Any]:
    times = {name: at and at.isoformat() for name, at in (("at", record.at), ("written", record.written))}
    return {**attrs.asdict(record), **times}


def _load(row: Mapping[str, Any]) -> RequestRecord:
    if row["state"] not in get_args(_State):
        raise ValueError("another state")
    times = {name: datetime.fromisoformat(row[name]) if row[name] else None for name in ("at", "written")}
    if any(at is not None and at.tzinfo is None for at in times.values()):
        raise ValueError("a time without a zone")
    took = None if row["took"] is None else float(row["took"])
    return RequestRecord(state=row["state"], sender=str(row["sender"]), result=str(row["result"]), took=took, **times)
