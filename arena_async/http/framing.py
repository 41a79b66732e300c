"""
Where responses end: which one answers which request, and what follows that belongs to none.

::

    ConnectionOrder   notices a response that was not requested, and when there can be none
    OneResponse       finds the end of a response beforehand, for servers that send bytes behind it
    new_inflater      unpacks a compressed page up to its check sum
"""

from __future__ import annotations

import math
import select
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from aiohttp.http_exceptions import HttpProcessingError

from arena_async.options import Clock
from arena_async.protocol.files import ResponseOrder

if TYPE_CHECKING:
    from aiohttp.client_proto import ResponseHandler

__all__ = ["MARGIN", "MAX_QUIET", "ConnectionOrder", "OneResponse", "new_inflater"]

#: So many times as long as its slowest response took does a connection have to be quiet: a late one may take longer.
#: And so many seconds at most.
MARGIN, MAX_QUIET = 2, 1.0
_END = b"\r\n\r\n"


class ConnectionOrder(ResponseOrder):
    """
    The responses of one connection since it was last known to be empty.

    Args:
        protocol: The connection.
        clock: Time.
        quiet: Seconds that it has to be idle and empty before it is known to be in step.
        fresh: Whether nothing was sent over the connection before.

    Attributes:
        requests: Requests that were sent over it.
        sent_at: When the last one was sent.
        idle_since: When the last response was received; infinite before that.
        known: Whether it needs no further check.
    """

    def __init__(self, protocol: ResponseHandler, clock: Clock, *, quiet: float = 0.0, fresh: bool) -> None:
        self.quiet = quiet
        self.fresh = fresh
        self.requests = 0
        self.sent_at, self.idle_since = 0.0, math.inf
        self._protocol = protocol
        self._clock = clock
        self.known = False
        transport = protocol.transport
        connected = transport.get_extra_info("socket") if transport is not None else None
        #: Returns whether the system has received bytes (or the end) that the event loop does not know about yet.
        self.unread: Callable[[int], object] = lambda _: connected and select.select([connected], [], [], 0)[0]
        if connected is not None and hasattr(select, "poll"):
            self.unread = (waiting := select.poll()).poll
            waiting.register(connected, select.POLLIN)

    def note_surplus(self) -> None:
        """Note that something arrived that was not requested, and end the connection."""
        self.broken = self.known = True
        self._protocol.force_close()

    def check(self) -> float | None:
        """Return None once the order is known, as :attr:`broken` states; else the seconds to wait for that."""
        if self.known:
            return None
        now, connected = self._clock.monotonic(), self._protocol.transport is not None
        rest = self.idle_since + self.quiet - now
        if rest < math.inf:
            if len(self._protocol) or isinstance(self._protocol.exception(), HttpProcessingError):
                self.note_surplus()
            elif not connected or (rest <= 0 and not self.unread(0)):
                self.known = True
        elif not connected:
            self.idle_since = now  # What reads the last response has that time to note how it ended.
        return None if self.known else min(max(rest, 0.0), MAX_QUIET)


class OneResponse:
    """
    Feeds a parser with one response of announced length, and drops what follows.

    The parser of aiohttp drops a whole response together with the bytes behind it that are none, if both come at once.

    Args:
        parser: The parser of the connection.
        note_surplus: Called before the response is complete, if anything follows it.
    """

    def __init__(self, parser: Any, note_surplus: Callable[[], None]) -> None:
        self._parser = parser
        self._note_surplus = note_surplus
        #: The last bytes of an unfinished head, and the bytes of the body that are missing; None while unknown.
        self._tail = b""
        self._missing: int | None = None
        self._framed = True

    @classmethod
    def take_over(cls, protocol: ResponseHandler, order: ConnectionOrder) -> None:
        """Put one before the parser of a connection, for its next response."""
        protocol._parser = cls(protocol._parser, order.note_surplus)  # type: ignore[assignment]  # noqa: SLF001

    def __getattr__(self, name: str) -> Any:
        return getattr(self._parser, name)

    def feed_data(self, data: bytes) -> tuple[list[Any], bool, bytes]:
        """Parse the next bytes."""
        messages: list[Any] = []
        if self._framed and self._missing is None:
            at = (self._tail + data).find(_END)
            if at < 0:
                self._tail = (self._tail + data)[1 - len(_END) :]
                return self._fed(data)
            begin = at + len(_END) - len(self._tail)
            messages, upgraded, tail = self._fed(data[:begin])
            self._tail, data = b"", data[begin:]
            self._missing = _length(messages)
            self._framed = self._missing is not None
            if not data or upgraded:
                return messages, upgraded, tail
        if self._missing is not None:
            if len(data) > self._missing:
                self._note_surplus()
            data = data[: self._missing]
            self._missing -= len(data)
        more, upgraded, tail = self._fed(data)
        return [*messages, *more], upgraded, tail

    def _fed(self, data: bytes) -> tuple[list[Any], bool, bytes]:
        messages, upgraded, tail = self._parser.feed_data(data)
        return list(messages), upgraded, tail


def _length(messages: list[Any]) -> int | None:
    """Return the bytes of the body that a head announces; None for a body that is framed otherwise, or a 1xx."""
    if len(messages) != 1 or messages[0][0].chunked or messages[0][0].code < 200:
        return None
    text = messages[0][0].headers.get("Content-Length", "")
    return int(text) if text.isascii() and text.isdigit() else None


def new_inflater(coding: str | None) -> zlib._Decompress | None:
    """Return what unpacks a body of that coding; None for one that is plain or packed otherwise."""
    name = (coding or "").strip().lower()
    if name in ("gzip", "x-gzip"):
        return zlib.decompressobj(wbits=31)
    return zlib.decompressobj() if name == "deflate" else None
