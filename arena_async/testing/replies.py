"""Requests and replies of a simulated service: plain values, and the reply that sends a file."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import attrs

from arena_async.testing.content import Content, Slice

__all__ = ["Call", "ErrorReply", "Part", "Reply", "Route", "Seen", "content_reply"]


@attrs.frozen(kw_only=True)
class Part:
    """One part of a multipart form: ``name``, ``filename`` (or None), ``content_type`` (or None) and ``body``."""

    name: str
    body: bytes = attrs.field(repr=False)
    filename: str | None = None
    content_type: str | None = None


@attrs.frozen(kw_only=True)
class Seen:
    """
    One received request, in the log of the service.

    Args:
        listener: The port of the service that received it, by name.
        method: Its method.
        path: Its path, decoded, without the query.
        target: Path and query byte for byte as sent.
        query: Its query, decoded; ``[]`` returns the first value, ``getall`` all.
        headers: Its headers, looked up regardless of case.
        body: Its body.
        status: The status of the response; None before it is sent, or if none was sent.
        sent: Bytes of the response body that were written.
        at: When it was received, by the clock of the service.
        connection: The client's port, which shows whether a connection was reused.
    """

    listener: str
    method: str
    path: str
    target: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes = attrs.field(default=b"", repr=False)
    status: int | None = None
    sent: int = 0
    at: float = 0.0
    connection: int = 0


@attrs.frozen(kw_only=True)
class Call:
    """
    A request for a handler: the :class:`Seen` request, and the variables of its route.

    Args:
        seen: The request as received.
        vars: The named parts of the path, decoded.
        headers: The headers for the handler (a fault may have removed some).
    """

    seen: Seen
    vars: Mapping[str, str] = attrs.field(factory=dict)
    headers: Mapping[str, str] = attrs.field(factory=dict)

    @property
    def query(self) -> Mapping[str, str]:
        """The decoded query."""
        return self.seen.query

    @property
    def body(self) -> bytes:
        """The body as sent."""
        return self.seen.body

    def values(self, name: str) -> list[str]:
        """Return every value of a query parameter, in order."""
        many: Any = self.seen.query
        found: list[str] = many.getall(name, [])
        return found

    def json(self) -> Any:
        """
        Parse the body as JSON; an empty body is None.

        Raises:
            ValueError: It is not JSON.
        """
        return json.loads(self.body) if self.body.strip() else None

    def parts(self) -> list[Part]:
        """Return the parts of a multipart body; any other body has none."""
        found = re.search(r'boundary="?([^";,]+)"?', self.headers.get("Content-Type", ""))
        if found is None:
            return []
        fence = b"--" + found[1].encode("latin-1")
        sections = (b"\r\n" + self.body).split(b"\r\n" + fence)
        return [_read_part(section) for section in sections[1:] if not section.startswith(b"--")]


def _pairs(given: Mapping[str, str] | Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Return headers as pairs."""
    return tuple(given.items() if isinstance(given, Mapping) else given)


@attrs.frozen(kw_only=True)
class Reply:
    """The response of a handler: status, headers and a body, as bytes or as :class:`Content`."""

    status: int = 200
    headers: tuple[tuple[str, str], ...] = attrs.field(default=(), converter=_pairs)
    body: bytes | Content = attrs.field(default=b"", repr=False)

    @classmethod
    def json(cls, payload: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
        """Return a reply with JSON."""
        kind = {"Content-Type": "application/json;charset=UTF-8", **(headers or {})}
        return cls(status=status, headers=kind, body=json.dumps(payload).encode())

    def adding(self, headers: Mapping[str, str | None]) -> Reply:
        """Return the reply with headers added or replaced; a value None removes one."""
        touched = {name.lower() for name in headers}
        kept = tuple((name, value) for name, value in self.headers if name.lower() not in touched)
        new = tuple((name, value) for name, value in headers.items() if value is not None)
        return attrs.evolve(self, headers=kept + new)

    def lacking(self, at: int, count: int | None) -> Reply:
        """Return a page of a list without rows from a position on; any other reply as it is."""
        page = json.loads(self.body) if isinstance(self.body, bytes) and self.body[:1] in (b"{", b"[") else None
        named = {name: rows for name, rows in page.items() if isinstance(rows, list)} if isinstance(page, dict) else {}
        name, rows = next(iter(named.items()), ("", page))
        if not isinstance(rows, list):
            return self
        left = rows[:at] + ([] if count is None else rows[at + count :])
        if isinstance(page, dict):
            own = {"count": len(left)} if page.get("count") == len(rows) else {}
            page |= {name: left, **own}
        return attrs.evolve(self, body=json.dumps(page if named else left).encode())


class ErrorReply(Exception):  # noqa: N818 - a response of the service, not an error of this package
    """Raised by a handler to respond with ``reply``."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(f"response {reply.status}")
        #: The response.
        self.reply = reply


@attrs.frozen
class Route:
    """
    One row of a service's table.

    Args:
        method: The HTTP method.
        template: The path, with named segments in braces: ``/v1/extracts/{extract}``.
        handler: Returns the reply; it may raise :class:`ErrorReply`.
        listener: The port it is offered at; None for the first one.
    """

    method: str
    template: str
    handler: Callable[[Call], Reply]
    listener: str | None = None


def content_reply(
    call: Call,
    content: Content,
    *,
    etag: str | None = None,
    ranges: bool = False,
    headers: Mapping[str, str] | None = None,
) -> Reply:
    """
    Return a reply with a file.

    Args:
        call: The request.
        content: The bytes.
        etag: The validator, quotes included; None for none (then ``If-Match`` means nothing to the service).
        ranges: Whether a single ``Range`` is honoured (206, 416) or ignored (200, as HTTP allows).
        headers: More headers of the reply.
    """
    given = {"Content-Type": "application/octet-stream", **(headers or {})}
    if etag is not None:
        given["ETag"] = etag
        wanted = call.headers.get("If-Match")
        if wanted is not None and wanted.strip() != "*" and etag not in [one.strip() for one in wanted.split(",")]:
            return Reply(status=412, headers=given)
    if ranges:
        given["Accept-Ranges"] = "bytes"
    if_range = call.headers.get("If-Range")
    requested = _read_range(call.headers.get("Range"), content.size) if ranges and if_range in (None, etag) else None
    if requested is None:
        return Reply(headers=given, body=content)
    start, stop = requested
    if start >= stop:
        return Reply(status=416, headers={**given, "Content-Range": f"bytes */{content.size}"})
    given["Content-Range"] = f"bytes {start}-{stop - 1}/{content.size}"
    return Reply(status=206, headers=given, body=Slice(content, start, stop))


def _read_range(text: str | None, size: int) -> tuple[int, int] | None:
    """Read ``bytes=first-last`` as a half-open span; None without one, for several and for malformed ones."""
    found = re.fullmatch(r"bytes=(\d*)-(\d*)", (text or "").strip())
    if found is None or found[0] == "bytes=-":
        return None
    if not found[1]:
        return max(0, size - int(found[2])), size
    start = int(found[1])
    stop = size if not found[2] else min(int(found[2]) + 1, size)
    if found[2] and int(found[2]) < start:
        return None
    return (start, stop) if start < size else (size, size)


def _read_part(section: bytes) -> Part:
    """Read one part of a multipart body."""
    head, _, body = section.partition(b"\r\n\r\n")
    lines = head.decode("utf-8", "replace").split("\r\n")
    fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    where = fields.get("content-disposition", "")
    name = re.search(r'[; ]name="([^"]*)"', where)
    file = re.search(r'filename="([^"]*)"', where)
    return Part(
        name=name[1] if name else "",
        body=body,
        filename=file[1] if file else None,
        content_type=fields.get("content-type"),
    )
