"""
Faults between a service and its client, as frozen values for :meth:`SimulatedService.inject`.

============================================  =========================================================================
Responses that are not the service's
``status(503, body=..., headers=...)``        this status; the service never sees the request
``html_page()``                               a captive portal: 200 and an HTML page
``empty_400()``                               400 without any body, as a content endpoint whose file server is away
``redirect("http://...")``                    302 to another address (``code=`` for another status)
No response
``mute()``                                    the request is read and the connection closed without a response
``lose_answer()``                             the request is processed, but no response is sent
``hang()``                                    no response to the request; the connection stays open
``delay(event)``                              the request waits until the event is set, then it is processed
Broken bodies
``drop(after_bytes=n)``                       the connection is closed normally after ``n`` bytes of the body
``reset(after_bytes=n)``                      the connection is reset (TCP RST) after ``n`` bytes of the body
``stall(after_bytes=n)``                      nothing is sent after ``n`` bytes; the connection stays open
``trickle(bytes_per_second=n)``               the body is sent at this rate
``truncate(to=n)``                            only the first ``n`` bytes, correctly declared: a short file
``lose_rows(at=n, count=None)``               a page of a list lacks rows from ``n`` on
``corrupt(at=n)``                             the byte at ``n`` of this body is another one
``wrong_length(n)``                           ``n`` bytes are declared, the body is unchanged
``unannounced(drop_after=None)``              no length, no chunks: the end of the connection ends the body
``chunked(drop_after=None)``                  chunked framing; with ``drop_after`` it is cut inside a chunk
``with_headers({...})``                       headers added or replaced; a value None removes one
``ignore_range()``                            ``Range`` is ignored: the complete body with 200
Changes of the service
``change()``                                  the requested content changes just before the response, ETag included
``expire_session()``                          the session or token of the request ends just before it is checked
``expire_links()``                            all signed URLs issued so far expire
============================================  =========================================================================

A request with a fault is metered like any other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Literal

import attrs

__all__ = [
    "Fault",
    "change",
    "chunked",
    "corrupt",
    "delay",
    "drop",
    "empty_400",
    "expire_links",
    "expire_session",
    "hang",
    "html_page",
    "ignore_range",
    "lose_answer",
    "lose_rows",
    "mute",
    "redirect",
    "reset",
    "stall",
    "status",
    "trickle",
    "truncate",
    "unannounced",
    "with_headers",
    "wrong_length",
]

Ending = Literal["close", "reset", "stall"]
Framing = Literal["length", "chunked", "none"]

_PORTAL = (
    b"<!DOCTYPE html><html><head><title>Sign in to the network</title></head>"
    b"<body><h1>Welcome</h1><p>Please accept the terms to go on.</p></body></html>"
)


@attrs.frozen(kw_only=True)
class Fault:
    """
    One thing that goes wrong, as data; build it with the functions of this module.

    Args:
        name: The function that built it.
        response: Status, headers and body to send instead of the response of the service, or None.
        event: What happens to the service before it responds: ``"change"``, ``"expire_session"`` or ``"expire_links"``.
        silence: What happens instead of a response: ``"close"``, ``"close_after"`` (after processing) or ``"hang"``.
        until: The request waits for it before anything else happens.
        stop_after: Bytes of the body after which ``ending`` happens, or None.
        ending: How a body that stops early ends.
        framing: How the end of the body is marked.
        declared: Bytes to declare instead of the true number, or None.
        rate: Bytes a second, or None for as fast as it goes.
        cut_to: Bytes of the body that are sent and declared, or None for all.
        flip: Position in the body whose byte is changed, or None.
        headers: Headers to add, to replace, or (None) to take away.
        without_range: Whether the request is treated as if it had no ``Range``.
        lost: The position of the first row that a page lacks, and the number of those (None: all after it), or None.
    """

    name: str
    response: tuple[int, tuple[tuple[str, str], ...], bytes] | None = None
    event: str | None = None
    silence: Literal["close", "close_after", "hang"] | None = None
    until: asyncio.Event | None = None
    stop_after: int | None = None
    ending: Ending = "close"
    framing: Framing = "length"
    declared: int | None = None
    rate: float | None = None
    cut_to: int | None = None
    flip: int | None = None
    headers: tuple[tuple[str, str | None], ...] = ()
    without_range: bool = False
    lost: tuple[int, int | None] | None = None


def status(code: int, *, body: bytes | str = b"", headers: Mapping[str, str] | None = None) -> Fault:
    """Respond with ``code`` instead of the service. Text that starts like JSON has the JSON content type."""
    raw = body.encode() if isinstance(body, str) else body
    kind = "application/json" if raw.lstrip()[:1] in (b"{", b"[") else "text/plain; charset=utf-8"
    given = dict(headers or {})
    if raw and not any(name.lower() == "content-type" for name in given):
        given["Content-Type"] = kind
    return Fault(name="status", response=(code, tuple(given.items()), raw))


def html_page(body: bytes = _PORTAL) -> Fault:
    """Respond with 200 and an HTML page, as a captive portal does."""
    return Fault(name="html_page", response=(200, (("Content-Type", "text/html; charset=utf-8"),), body))


def empty_400() -> Fault:
    """Respond with 400 without a body, as the vendor documents it for an unavailable file server."""
    return Fault(name="empty_400", response=(400, (), b""))


def redirect(to: str, *, code: int = 302) -> Fault:
    """Redirect the client to ``to``."""
    return Fault(name="redirect", response=(code, (("Location", to),), b""))


def mute() -> Fault:
    """Read the request and close the connection without a response. The service does not process it."""
    return Fault(name="mute", silence="close")


def lose_answer() -> Fault:
    """Process the request, then close the connection without a response."""
    return Fault(name="lose_answer", silence="close_after")


def hang() -> Fault:
    """Read the request and send no response, until the client leaves or the service is closed."""
    return Fault(name="hang", silence="hang")


def delay(until: asyncio.Event) -> Fault:
    """Delay the request until the event is set (in the loop of the service); then process it as usual."""
    return Fault(name="delay", until=until)


def drop(*, after_bytes: int = 0) -> Fault:
    """Close the connection after ``after_bytes`` bytes of the body, with the complete length declared."""
    return Fault(name="drop", stop_after=after_bytes, ending="close")


def reset(*, after_bytes: int = 0) -> Fault:
    """Reset the connection after ``after_bytes`` bytes of the body."""
    return Fault(name="reset", stop_after=after_bytes, ending="reset")


def stall(*, after_bytes: int = 0) -> Fault:
    """Send ``after_bytes`` bytes of the body and then nothing, until the client leaves or the service is closed."""
    return Fault(name="stall", stop_after=after_bytes, ending="stall")


def trickle(*, bytes_per_second: float) -> Fault:
    """Send the body at this rate, 20 times a second (at least one byte each)."""
    return Fault(name="trickle", rate=bytes_per_second)


def truncate(*, to: int) -> Fault:
    """Send only the first ``to`` bytes and declare only these: the framing is correct, the file is short."""
    return Fault(name="truncate", cut_to=to)


def lose_rows(*, at: int = 0, count: int | None = None) -> Fault:
    """
    Leave ``count`` rows of a page of a list out, from position ``at`` on; None for all of them.

    A number of rows beside them that is that of the page stays so, and a total stays as it is. Where the first row of
    a later page is left out, it looks as if a row had slid to the page before.
    """
    return Fault(name="lose_rows", lost=(at, count))


def corrupt(*, at: int = 0) -> Fault:
    """Change the byte at ``at`` of this body (of the range, if one is sent)."""
    return Fault(name="corrupt", flip=at)


def wrong_length(declared: int) -> Fault:
    """
    Declare ``declared`` bytes and send the true body.

    With too many declared the connection is closed where the body ends; with too few the surplus is sent
    and then the connection is closed.
    """
    return Fault(name="wrong_length", declared=declared)


def unannounced(*, drop_after: int | None = None) -> Fault:
    """Send the body (or its first ``drop_after`` bytes) without any length; closing the connection ends it."""
    return Fault(name="unannounced", framing="none", stop_after=drop_after)


def chunked(*, drop_after: int | None = None) -> Fault:
    """Send the body in chunks without declaring its length; ``drop_after`` closes the connection inside a chunk."""
    return Fault(name="chunked", framing="chunked", stop_after=drop_after)


def with_headers(headers: Mapping[str, str | None]) -> Fault:
    """Add or replace headers of the service's own response; None removes one."""
    return Fault(name="with_headers", headers=tuple(headers.items()))


def ignore_range() -> Fault:
    """Ignore ``Range`` and ``If-Range``: the complete content is sent with 200."""
    return Fault(name="ignore_range", without_range=True)


def change() -> Fault:
    """Change the requested content, ETag included, just before the service responds."""
    return Fault(name="change", event="change")


def expire_session() -> Fault:
    """End the session or token of the request just before the service checks it."""
    return Fault(name="expire_session", event="expire_session")


def expire_links() -> Fault:
    """Expire all signed URLs issued so far, just before the service responds."""
    return Fault(name="expire_links", event="expire_links")
