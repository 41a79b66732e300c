"""
Signed URLs: when they expire, how they are opened, and what the errors of the file host mean.

The file host is Azure Blob Storage. The URL is the credential: it is sent byte for byte, nothing is added to it, and
nothing of its query is ever shown. Its lifetime is not documented, so the dates are hints: they may save a request for
an expired URL, and never keep a fresh one from being tried.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Hashable, Mapping
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
from arena_async.protocol.decoding import read_datetime
from arena_async.protocol.files import OpenedFile, RemoteFile
from arena_async.protocol.messages import Request, Response, Secret, printable, read_http_date
from arena_async.providers.centrepoint.adapter import error_of
from arena_async.providers.centrepoint.api import Api

__all__ = ["LinkOnDemand", "ListedLink", "SignedLink", "expired_error", "link_end", "open_link", "read_refusal", "sign"]

#: A URL counts as expired this long before its end, or a quarter of its life if that is less, so that a request that is
#: on its way does not meet the end.
_MARGIN = timedelta(seconds=60)
#: How far our clock may be off where the file host does not send the time.
_SKEW = timedelta(minutes=15)

#: Characters of a date in a URL, quoted; what is longer is none.
_MAX_DATE = 100

_CODE = re.compile(rb"<Code>\s*([A-Za-z0-9]{1,64})\s*</Code>")
# Real storage sends AuthenticationFailed for an expired URL; its emulator sends AuthorizationFailure.
_EXPIRED_CODES = frozenset({"AuthenticationFailed", "AuthorizationFailure"})
_MEANINGS: Mapping[type[ApiError], str] = {
    ThrottledError: "The file host receives too many requests at once; wait, then go on.",
    ServerError: "The file host is busy or failed; the same request may work later.",
    ApiError: "The file host does not accept this request.",
}


@attrs.frozen
class ListedLink:
    """
    Where a URL was listed.

    Args:
        page: What identifies the page: the query, which can be compared and hashed, and the offset.
        number: The number of the listing; of two, the later one has the higher number.
    """

    page: tuple[Hashable, int]
    number: int


class SignedLink(Secret):
    """
    A signed URL.

    Args:
        text: The URL.
        ends_at: When it expires (aware), or None when no date is trusted.
        expired_at: When it stops being used, a little before its end; None for never.
        listed: Where it was listed, or None.
    """

    __slots__ = ("ends_at", "expired_at", "listed")

    def __init__(
        self,
        text: str | None,
        ends_at: datetime | None = None,
        *,
        expired_at: datetime | None = None,
        listed: ListedLink | None = None,
    ) -> None:
        super().__init__(text)
        self.ends_at = ends_at
        self.expired_at = expired_at or ends_at
        self.listed = listed

    def is_expired(self, now: datetime) -> bool:
        """Return whether it is expired by its own date."""
        return self.expired_at is not None and now > self.expired_at


class LinkOnDemand(Secret):
    """Marker for a signed URL that is requested immediately before use. Compares unequal to any other."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(None)

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = object.__hash__


def link_end(url: str) -> datetime | None:
    """Return the end that the URL itself states: the earlier of ``se`` and of the end of its key, ``ske``."""
    query = url.partition("#")[0].partition("?")[2]
    pairs = (pair.partition("=") for pair in query.split("&"))
    dates = (_date(value) for name, _, value in pairs if name in ("se", "ske") and len(value) < _MAX_DATE)
    return min((date for date in dates if date is not None), default=None)


# All URLs of a page expire at the same time.
@functools.lru_cache(maxsize=8)
def _date(value: str) -> datetime | None:
    """Read a date of a URL; one without a zone is UTC."""
    date = read_datetime(unquote(value))
    return date.replace(tzinfo=UTC) if date is not None and date.tzinfo is None else date


def sign(
    url: Secret | None, *, announced: datetime | None, now: datetime, listed: ListedLink | None = None
) -> SignedLink | None:
    """
    Return a URL that was listed at ``now``, with the earlier of the ends that it and the service state.

    An end before ``now`` is not trusted: in the vendor's own sample the announced end is before the URL begins to be
    valid, and our clock may be wrong. What was just listed is tried.
    """
    if not url:
        return None
    text = url.reveal()
    ends = (link_end(text), announced)
    trusted = [end for end in ends if end is not None and end.tzinfo is not None and end > now]
    if not trusted:
        return SignedLink(text, listed=listed)
    end = min(trusted)
    return SignedLink(text, end, expired_at=end - min(_MARGIN, (end - now) / 4), listed=listed)


async def open_link(api: Api, file: RemoteFile, *, offset: int, validator: str | None, until: int | None) -> OpenedFile:
    """
    Request the content behind the URL of ``file`` once, whatever its dates are.

    Args:
        api: Sends the request.
        file: The file, with its link.
        offset: The byte to begin at.
        validator: The ETag of the bytes received earlier.
        until: The byte to end before, or None.

    Raises:
        LinkExpiredError: The URL is expired, or is not known any more; a listing returns a new one.
        UnsafeUrlError: The URL leads where no URL of the service leads.
        SourceChangedError: The content does not exist any more; a listing returns what replaced it.
        PermissionDeniedError: The file host rejects the request for another reason.
        ApiError: Another error response; ``transient`` says whether it may work later.
        TransportError: No usable response was received.
    """
    if not file.link:
        raise LinkExpiredError(
            f"{_shown(file)}: its signed URL is not known here, since it is never stored. List again for a new one.",
            file=file.key,
        )
    request = Request(method="GET", path=file.link.reveal(), scope=None, metered=False)
    if not request.absolute:
        raise UnsafeUrlError(
            f"{_shown(file)}: its signed URL has no host, so it is not used. The service has to send a complete one."
        )
    read_error = functools.partial(read_refusal, file=file, now=api.clock.now())
    return await api.session.stream(request, offset=offset, validator=validator, until=until, read_error=read_error)


def expired_error(file: RemoteFile, link: SignedLink) -> LinkExpiredError:
    """Return the error of a URL that is known to be expired."""
    ends = f" at {link.ends_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC" if link.ends_at is not None else ""
    return LinkExpiredError(
        f"{_shown(file)}: its signed URL expired{ends}, or is about to, and was not used any more. List again for a "
        "new one.",
        file=file.key,
    )


def read_refusal(request: Request, response: Response, *, file: RemoteFile, now: datetime) -> ArenaAsyncError:
    """Return the typed error of the file host. Nothing of its text is shown, it may echo the signature."""
    status, code = response.status, _code(response)
    prefix = f"{_shown(file)}: {request.line}: {status}{f' {code}' if code else ''}."
    if status == 403 and _is_expired(request.path, code, response, now):
        return LinkExpiredError(f"{prefix} The signed URL is expired. List again for a new one.", file=file.key)
    if status in (404, 410):
        return SourceChangedError(
            f"{prefix} The content does not exist any more; a later run of the study program has most likely replaced "
            "it. List again and take the new entry.",
            file=file.key,
        )
    if status in (401, 403):
        return PermissionDeniedError(
            f"{prefix} The file host rejects the signed URL although it is not expired. Check whether a proxy changes "
            "addresses or adds headers, and whether the host allows this network.",
            status=status,
            request=request.line,
        )
    return error_of(request, response, prefix, _MEANINGS)


def _shown(file: RemoteFile) -> str:
    """Return the documented path of a file, for messages."""
    return printable("/".join((*file.parts, f"{file.stem}{file.extension}")), maximum=300)


def _code(response: Response) -> str:
    """Return the error name of the storage service, from its header or its XML, or ""."""
    header = response.headers.get("x-ms-error-code")
    found = _CODE.search(response.body)
    code = header or (found[1].decode("ascii") if found else "")
    return code if code.isascii() and code.isalnum() and len(code) <= 64 else ""


def _is_expired(url: str, code: str, response: Response, now: datetime) -> bool:
    """Return whether a 403 means an expired URL: by its code and its end, on the file host's own clock."""
    if code not in _EXPIRED_CODES:
        return False
    end = link_end(url)
    if end is None:
        return code == "AuthenticationFailed"
    theirs = read_http_date(response.headers.get("Date"))
    return end <= theirs + _MARGIN if theirs is not None else end <= now + _SKEW
