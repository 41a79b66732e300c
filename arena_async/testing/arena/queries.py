"""
Reading and rejecting requests of the simulated Arena.

Search attributes are functions of a row and the requested text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from arena_async.testing.replies import Call, ErrorReply, Reply

__all__ = [
    "BY_CREATOR",
    "BY_DEFINITION",
    "Match",
    "check_criteria",
    "error_reply",
    "find",
    "forbidden",
    "formatted_with",
    "match_attribute",
    "match_flag",
    "match_span",
    "match_text",
    "match_word",
    "newest_first",
    "read_object",
    "read_whole",
    "reject_query",
    "unknown_guid",
]

T = TypeVar("T")
#: Returns whether a row matches the requested text.
Match = Callable[[Any, str], bool]


# ---------------------------------------------------------------------- errors


def error_reply(status: int, code: int, message: str) -> ErrorReply:
    """Return an error response of the service, to be raised."""
    return ErrorReply(Reply.json({"status": status, "errors": [{"code": code, "message": message}]}, status=status))


def forbidden() -> ErrorReply:
    """Return the error that hides whether the object exists."""
    message = "Either you do not have privileges to access the requested data or it does not exist."
    return error_reply(403, 3024, message)


def unknown_guid(kind: str, guid: str) -> ErrorReply:
    """Return the error for a well-formed guid of no object."""
    return error_reply(400, 3012, f'The {kind} with guid "{guid}" was not found.')


def find(call: Call, name: str, among: Mapping[str, T]) -> T:
    """Return the object that a part of the path names."""
    guid = call.vars[name]
    if re.fullmatch(r"[0-9A-Z]{15,24}", guid) is None:
        raise error_reply(400, 3011, f'The guid "{guid}" is not valid.')
    found = among.get(guid)
    if found is None:
        raise unknown_guid(name.strip("_"), guid)
    return found


def read_object(call: Call) -> dict[str, Any]:
    """Read a JSON object; no body is an empty one."""
    try:
        payload_ = call.json()
    except ValueError:
        raise error_reply(400, 400, "The request has bad syntax.") from None
    if payload_ is None:
        return {}
    if not isinstance(payload_, dict):
        raise error_reply(400, 400, "The request has bad syntax.")
    return payload_


def read_whole(call: Call, name: str, default: int, *, minimum: int, maximum: int | None, code: int) -> int:
    """Read offset or limit."""
    text = call.query.get(name)
    if text is None:
        return default
    if (
        re.fullmatch(r"-?[0-9]{1,18}", text) is None
        or int(text) < minimum
        or (maximum is not None and int(text) > maximum)
    ):
        raise error_reply(400, code, f'The value of "{name}" is not valid.')
    return int(text)


def reject_query(call: Call) -> None:
    """Reject any query."""
    if call.query:
        raise error_reply(400, 3200, "The endpoint takes no query parameters.")


# ---------------------------------------------------------------------- search


def match_text(read: Callable[[Any], str]) -> Match:
    """Match complete text, or its beginning if the requested text ends with ``*``."""

    def fits(row: Any, wanted: str) -> bool:
        return read(row).startswith(wanted[:-1]) if wanted.endswith("*") else read(row) == wanted

    return fits


def match_attribute(guid: str) -> Match:
    """Match the value of a custom attribute."""
    return lambda row, wanted: bool(row.attributes.get(guid) == wanted)


def check_criteria(text: str) -> None:
    """Reject criteria that are not lists of lists; they are not evaluated."""
    try:
        groups = json.loads(text)
    except ValueError:
        groups = None
    if not isinstance(groups, list) or not all(isinstance(group, list | str) for group in groups):
        raise error_reply(400, 3003, 'The value of the attribute "criteria" is not valid.')


def match_flag(read: Callable[[Any], bool]) -> Match:
    """Match true, false, or any."""
    return lambda row, wanted: wanted.lower() in ("any", str(read(row)).lower())


def match_word(read: Callable[[Any], str]) -> Match:
    """Match a value of an enumeration, regardless of case and separators."""

    def plain(text: str) -> str:
        return re.sub(r"[\s_-]", "", text).lower()

    return lambda row, wanted: plain(read(row)) == plain(wanted)


def match_span(name: str, read: Callable[[Any], float | None], *, inclusive: bool = False) -> dict[str, Match]:
    """Match times after ``...From`` (or from it on) and up to ``...To``; missing times do not match."""

    def after(row: Any, wanted: str) -> bool:
        at, bound = read(row), _instant(wanted)
        return at is not None and (at > bound or (inclusive and at == bound))

    def until(row: Any, wanted: str) -> bool:
        at, bound = read(row), _instant(wanted)
        return at is not None and at <= bound

    return {f"{name}From": after, f"{name}To": until}


def _instant(text: str) -> float:
    """Read a time in the documented form, in UTC."""
    try:
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()
    except ValueError:
        raise error_reply(400, 3003, f"The value {json.dumps(text)} is not a valid date and time.") from None


BY_CREATOR: dict[str, Match] = {
    "creator.email": match_text(lambda one: one.creator.email),
    "creator.fullName": match_text(lambda one: one.creator.full_name),
    "creator.guid": match_text(lambda one: one.creator.guid),
}
BY_DEFINITION: dict[str, Match] = {
    "name": match_text(lambda one: one.name),
    "number": match_text(lambda one: str(one.number)),
    "description": match_text(lambda one: one.description or ""),
    **BY_CREATOR,
}


def newest_first(runs: Sequence[T]) -> list[T]:
    """Return the newest first, so that pages shift while runs are added."""
    return list(reversed(runs))


def formatted_with(
    format_status: Callable[[str], str], show: Callable[[T, Callable[[str], str]], dict[str, Any]]
) -> Callable[[T], dict[str, Any]]:
    """Return a function that shows a run with the configured status names."""
    return lambda row: show(row, format_status)
