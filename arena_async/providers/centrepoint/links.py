"""
Signed links: when they end, how they are opened, and what the refusals of the file host mean.

The file host is Azure Blob Storage. The link is the credential: it is sent byte for byte, nothing else goes with it,
and nothing of its query is ever shown. Its lifetime is promised nowhere, so the dates are hints: they may save a
request for a link that is over, and never keep a fresh link from being tried.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Hashable
from datetime import UTC, datetime, timedelta
from urllib.parse import unquote

import attrs

from arena_async.errors import (
    ApiError,
    ArenaAsyncError,
    LinkExpiredError,
    PermissionDeniedError,
    ServerError,
    SourceChangedError,
    ThrottledError,
    UnsafeUrlError,
)
from arena_async.net.session import Session
from arena_async.providers.centrepoint.dialect import retry_after
from arena_async.wire.contracts import OpenedFile, RemoteFile
from arena_async.wire.decoding import read_datetime
from arena_async.wire.messages import Request, Response, Secret, printable
from arena_async.wire.retrying import read_http_date

__all__ = ["LinkOnDemand", "Listed", "SignedLink", "link_end", "open_link", "over", "read_refusal", "shown", "sign"]

#: Before its end a link counts as over, so that a request that is on its way at that moment does not meet the end: this
#: long before, or a quarter of its life if that is less.
_MARGIN = timedelta(seconds=60)
#: How far our clock may be off where the file host does not say what time it is.
_SKEW = timedelta(minutes=15)

#: Characters of a date in a link, quoted; what is longer is none.
_LONGEST = 100

_CODE = re.compile(rb"<Code>\s*([A-Za-z0-9]{1,64})\s*</Code>")
# Real storage says AuthenticationFailed for a link that is over; its emulator says AuthorizationFailure.
_EXPIRED_CODES = frozenset({"AuthenticationFailed", "AuthorizationFailure"})
_TRANSIENT = frozenset({408, 500, 502, 503, 504})


@attrs.frozen
class Listed:
    """
    Where a link was listed.

    Args:
        query: What was asked for; it can be compared and hashed.
        offset: The offset of the page.
        mint: The number of the listing; of two, the later one has the higher number.
    """

    query: Hashable
    offset: int
    mint: int


class SignedLink(Secret):
    """A signed link that knows when it ends, as far as anybody can tell, and where it was listed."""

    __slots__ = ("ends_at", "listed", "over_at")

    def __init__(
        self,
        text: str | None,
        ends_at: datetime | None = None,
        *,
        over_at: datetime | None = None,
        listed: Listed | None = None,
    ) -> None:
        super().__init__(text)
        #: When it ends (aware), or None when nothing that can be believed says so.
        self.ends_at = ends_at
        #: From when on it is not used any more, a little before its end; None for never.
        self.over_at = over_at if over_at is not None else ends_at
        #: Where it was listed, or None.
        self.listed = listed

    def is_over(self, now: datetime) -> bool:
        """Say whether it is over by its own word."""
        return self.over_at is not None and now > self.over_at


class LinkOnDemand(Secret):
    """The place of a link that the service makes just before it is used. No two are the same."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(None)

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = object.__hash__


def link_end(url: str) -> datetime | None:
    """Give the end that the link itself states: the earlier of ``se`` and of the end of its key, ``ske``."""
    query = url.partition("#")[0].partition("?")[2]
    pairs = (pair.partition("=") for pair in query.split("&"))
    return _earliest(*(_instant(value) for name, _, value in pairs if name in ("se", "ske") and len(value) < _LONGEST))


# All links of a page end at the same time.
@functools.lru_cache(maxsize=8)
def _instant(value: str) -> datetime | None:
    return read_datetime(unquote(value))


def sign(
    url: Secret | None, *, announced: datetime | None, now: datetime, listed: Listed | None = None
) -> SignedLink | None:
    """
    Give a link that was listed at ``now``, with the earlier of the ends that it and the service state.

    An end that was over already is not believed: in the vendor's own sample the announced end lies before the link
    begins to be valid, and our clock may be wrong. What was just listed is tried.
    """
    if not url:
        return None
    text = url.reveal()
    ends = (link_end(text), announced)
    believed = [end for end in ends if end is not None and end.tzinfo is not None and end > now]
    if not believed:
        return SignedLink(text, listed=listed)
    end = min(believed)
    return SignedLink(text, end, over_at=end - min(_MARGIN, (end - now) / 4), listed=listed)


async def open_link(
    session: Session,
    file: RemoteFile,
    *,
    offset: int,
    validator: str | None,
    until: int | None = None,
    now: Callable[[], datetime],
    fresh: bool = False,
) -> OpenedFile:
    """
    Ask the file host once for the content behind the link of ``file``, from ``offset`` on.

    Args:
        session: What sends the request.
        file: The file, with its link.
        offset: The byte to begin at.
        validator: The ETag that the earlier bytes came with.
        until: The byte to end before, or None.
        now: Gives the time (aware).
        fresh: The link was looked at already, or was just listed, so that no date keeps it from being tried.

    Raises:
        LinkExpiredError: The link is over, or is not known any more; a listing gives a new one.
        UnsafeUrlError: The link leads where no link of the service leads.
        SourceChangedError: The content is not there any more; a listing gives what took its place.
        PermissionDeniedError: The file host refuses for another reason.
        ApiError: Another refusal; ``transient`` says whether it may work later.
        TransportError: No usable answer came.
    """
    link = file.link
    if not link:
        raise LinkExpiredError(
            f"{shown(file)}: its signed link is not known here, links are never stored. List again for a new one.",
            file=file.key,
        )
    if not fresh and isinstance(link, SignedLink) and link.is_over(now()):
        raise over(file, link)
    request = Request(method="GET", path=link.reveal(), scope=None, metered=False)
    if not request.absolute:
        raise UnsafeUrlError(
            f"{shown(file)}: its link names no host, so it is not followed. The service has to give one."
        )
    refusal = functools.partial(read_refusal, file=file, now=now())
    return await session.stream(request, offset=offset, validator=validator, until=until, read_error=refusal)


def over(file: RemoteFile, link: SignedLink) -> LinkExpiredError:
    """Make the error of a link that is known to be over."""
    ends = f" at {link.ends_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC" if link.ends_at is not None else ""
    return LinkExpiredError(
        f"{shown(file)}: its signed link ended{ends}, or is about to, and was not used any more. List again for a new "
        "one.",
        file=file.key,
    )


def read_refusal(request: Request, response: Response, *, file: RemoteFile, now: datetime) -> ArenaAsyncError:
    """Make the typed error of a refusal by the file host. Nothing of its text is shown, it may echo the signature."""
    line, status, code = request.line, response.status, _code(response)
    said = f"{shown(file)}: {line}: {status}{f' {code}' if code else ''}."
    if status == 403 and _is_over(request.path, code, response, now):
        return LinkExpiredError(f"{said} The signed link is over. List again for a new one.", file=file.key)
    if status in (401, 403):
        return PermissionDeniedError(
            f"{said} The file host refuses the signed link although it is not over. Check whether a proxy changes "
            "addresses or adds headers, and whether the host allows this network.",
            status=status,
            request=line,
        )
    if status in (404, 410):
        return SourceChangedError(
            f"{said} The content is not there any more; a later run of the study program has most likely replaced it. "
            "List again and take the new entry.",
            file=file.key,
        )
    if status == 429:
        return ThrottledError(
            f"{said} The file host is asked for too much at once; wait, then go on.",
            status=status,
            request=line,
            transient=True,
            retry_after=retry_after(response),
        )
    if status >= 500 or status in _TRANSIENT:
        return ServerError(
            f"{said} The file host is busy or failed; the same request may work later.",
            status=status,
            request=line,
            transient=status in _TRANSIENT,
            retry_after=retry_after(response),
        )
    return ApiError(f"{said} The file host does not accept this request.", status=status, request=line)


def shown(file: RemoteFile) -> str:
    """Give the documented place of a file, for messages."""
    return printable("/".join((*file.parts, f"{file.stem}{file.extension}")), most=300)


def _code(response: Response) -> str:
    """Give the error name of the storage service, from its header or its XML, or ""."""
    header = response.headers.get("x-ms-error-code")
    found = _CODE.search(response.body)
    code = header or (found[1].decode("ascii") if found else "")
    return code if code.isascii() and code.isalnum() and len(code) <= 64 else ""


def _is_over(url: str, code: str, response: Response, now: datetime) -> bool:
    """Say whether a 403 means that the link is over: by its code and its end, measured by the file host's own clock."""
    if code not in _EXPIRED_CODES:
        return False
    end = link_end(url)
    if end is None or end.tzinfo is None:
        return code == "AuthenticationFailed"
    theirs = read_http_date(response.headers.get("Date"))
    return end <= theirs + _MARGIN if theirs is not None else end <= now + _SKEW


def _earliest(*moments: datetime | None) -> datetime | None:
    """Give the earliest of some moments; one without a zone is UTC, as in every signed link."""
    aware = [m if m.tzinfo else m.replace(tzinfo=UTC) for m in moments if m is not None]
    return min(aware, default=None)
