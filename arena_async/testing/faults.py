"""
What can go wrong between a service and its client, as frozen values to hand to :meth:`SimulatedService.inject`.

============================================  =========================================================================
Answers that are not the service's
``status(503, body=..., headers=...)``        this status; the service never sees the request
``html_page()``                               a captive portal: 200 and an HTML page
``empty_400()``                               400 without any body, as a content endpoint whose file server is away
``redirect("http://...")``                    302 to another address (``code=`` for another status)
No answer
``mute()``                                    the request is read and the connection closed without a byte of an answer
``lose_answer()``                             the request is carried out, but its answer never comes
``hang()``                                    the request is read and never answered; the connection stays open
``delay(event)``                              the request waits until the event is set, then everything is as usual
Broken bodies
``drop(after_bytes=n)``                       the connection is closed in order after ``n`` bytes of the body
``reset(after_bytes=n)``                      the connection is reset (TCP RST) after ``n`` bytes of the body
``stall(after_bytes=n)``                      nothing comes after ``n`` bytes of the body; the connection stays open
``trickle(bytes_per_second=n)``               the body comes at this rate
``truncate(to=n)``                            only the first ``n`` bytes, announced honestly: a short file
``corrupt(at=n)``                             the byte at ``n`` of this body is another one
``wrong_length(n)``                           ``n`` bytes are announced, the body is as it is
``unannounced(drop_after=None)``              no length, no chunks: the end of the connection ends the body
``chunked(drop_after=None)``                  chunked framing; with ``drop_after`` it is cut inside a chunk
``with_headers({...})``                       headers added to the answer or replaced; a value None takes one away
``ignore_range()``                            ``Range`` is overlooked: the whole body with 200
Things that happen to the service
``change()``                                  the content asked for changes just before the answer, ETag included
``expire_session()``                          the session or token of the request is over just before it is looked at
``expire_links()``                            every signed link given out so far is over
============================================  =========================================================================

Every answer counts as the service counts it: a request that meets a fault is metered like any other.
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
        answer: Status, headers and body to send instead of asking the service, or None.
        event: What happens to the service before it answers: ``"change"``, ``"expire_session"`` or ``"expire_links"``.
        silence: What comes instead of an answer: ``"close"``, ``"close_after"`` (carried out first) or ``"hang"``.
        until: The request waits for it before anything else happens.
        stop_after: Bytes of the body after which ``ending`` happens, or None.
        ending: How a body that stops early ends.
        framing: How the end of the body is told.
        announced: Bytes to announce instead of the true number, or None.
        rate: Bytes a second, or None for as fast as it goes.
        cut_to: Bytes of the body that are sent and announced, or None for all.
        flip: Position in the body whose byte is changed, or None.
        headers: Headers to add, to replace, or (None) to take away.
        without_range: Whether the request is treated as if it had no ``Range``.
    """

    name: str
    answer: tuple[int, tuple[tuple[str, str], ...], bytes] | None = None
    event: str | None = None
    silence: Literal["close", "close_after", "hang"] | None = None
    until: asyncio.Event | None = None
    stop_after: int | None = None
    ending: Ending = "close"
    framing: Framing = "length"
    announced: int | None = None
    rate: float | None = None
    cut_to: int | None = None
    flip: int | None = None
    headers: tuple[tuple[str, str | None], ...] = ()
    without_range: bool = False


def status(code: int, *, body: bytes | str = b"", headers: Mapping[str, str] | None = None) -> Fault:
    """Answer with ``code`` instead of asking the service. Text that starts like JSON is labelled as JSON."""
    raw = body.encode() if isinstance(body, str) else body
    kind = "application/json" if raw.lstrip()[:1] in (b"{", b"[") else "text/plain; charset=utf-8"
    given = dict(headers or {})
    if raw and not any(name.lower() == "content-type" for name in given):
        given["Content-Type"] = kind
    return Fault(name="status", answer=(code, tuple(given.items()), raw))


def html_page(body: bytes = _PORTAL) -> Fault:
    """Answer 200 with an HTML page, as a captive portal does."""
    return Fault(name="html_page", answer=(200, (("Content-Type", "text/html; charset=utf-8"),), body))


def empty_400() -> Fault:
    """Answer 400 without a body, as the vendor documents it for a file server that is away."""
    return Fault(name="empty_400", answer=(400, (), b""))


def redirect(to: str, *, code: int = 302) -> Fault:
    """Send the client to ``to``."""
    return Fault(name="redirect", answer=(code, (("Location", to),), b""))


def mute() -> Fault:
    """Read the request and close the connection without a byte of an answer. The service does not carry it out."""
    return Fault(name="mute", silence="close")


def lose_answer() -> Fault:
    """Carry the request out, then close the connection without a byte of an answer."""
    return Fault(name="lose_answer", silence="close_after")


def hang() -> Fault:
    """Read the request and never answer, until the client leaves or the service is closed."""
    return Fault(name="hang", silence="hang")


def delay(until: asyncio.Event) -> Fault:
    """Let the request wait until the event is set (in the loop of the service); then all is as usual."""
    return Fault(name="delay", until=until)


def drop(*, after_bytes: int = 0) -> Fault:
    """Close the connection after ``after_bytes`` bytes of the body, with the whole length announced."""
    return Fault(name="drop", stop_after=after_bytes, ending="close")


def reset(*, after_bytes: int = 0) -> Fault:
    """Reset the connection after ``after_bytes`` bytes of the body."""
    return Fault(name="reset", stop_after=after_bytes, ending="reset")


def stall(*, after_bytes: int = 0) -> Fault:
    """Send ``after_bytes`` bytes of the body and then nothing, until the client leaves or the service is closed."""
    return Fault(name="stall", stop_after=after_bytes, ending="stall")


def trickle(*, bytes_per_second: float) -> Fault:
    """Send the body at this rate, in pieces of a twentieth of a second (one byte at the least)."""
    return Fault(name="trickle", rate=bytes_per_second)


def truncate(*, to: int) -> Fault:
    """Send only the first ``to`` bytes and announce just these: the framing is honest, the file is short."""
    return Fault(name="truncate", cut_to=to)


def corrupt(*, at: int = 0) -> Fault:
    """Change the byte at ``at`` of this body (of the part that is sent, where a range is answered)."""
    return Fault(name="corrupt", flip=at)


def wrong_length(announced: int) -> Fault:
    """
    Announce ``announced`` bytes and send the true body.

    With too many announced the connection is closed where the body ends; with too few the surplus follows all the same
    and then the connection is closed.
    """
    return Fault(name="wrong_length", announced=announced)


def unannounced(*, drop_after: int | None = None) -> Fault:
    """Send the body (or its first ``drop_after`` bytes) without any length; closing the connection ends it."""
    return Fault(name="unannounced", framing="none", stop_after=drop_after)


def chunked(*, drop_after: int | None = None) -> Fault:
    """Send the body in chunks without announcing its length; ``drop_after`` closes the connection inside a chunk."""
    return Fault(name="chunked", framing="chunked", stop_after=drop_after)


def with_headers(headers: Mapping[str, str | None]) -> Fault:
    """Add or replace headers of the service's own answer; None takes one away."""
    return Fault(name="with_headers", headers=tuple(headers.items()))


def ignore_range() -> Fault:
    """Overlook ``Range`` and ``If-Range``: the whole content comes with 200."""
    return Fault(name="ignore_range", without_range=True)


def change() -> Fault:
    """Let the content that is asked for change, ETag included, just before the service answers."""
    return Fault(name="change", event="change")


def expire_session() -> Fault:
    """Let the session or token that the request carries be over, just before the service looks at it."""
    return Fault(name="expire_session", event="expire_session")


def expire_links() -> Fault:
    """Let every signed link given out so far be over, just before the service answers."""
    return Fault(name="expire_links", event="expire_links")
