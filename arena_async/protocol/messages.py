"""Requests and responses as plain values, and how they are shown without secrets."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from hmac import compare_digest
from typing import Any
from urllib.parse import quote, urlsplit

import attrs

from arena_async.errors import ConfigurationError

__all__ = [
    "Headers",
    "Request",
    "Response",
    "Secret",
    "UploadBody",
    "UploadedFile",
    "join_path",
    "printable",
    "read_http_date",
    "scrub",
    "segment",
    "show_url",
]


class Secret:
    """
    Text that must not be shown: its ``repr``, ``str``, copies for ``attrs.asdict`` and pickles are masked.

    Only :meth:`reveal` returns the text, and only code that sends it calls that.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str | None) -> None:
        self._text = text

    def reveal(self) -> str:
        """
        Return the text.

        Raises:
            ConfigurationError: It was lost in a pickle.
        """
        if self._text is None:
            raise ConfigurationError("A secret does not survive pickling; create the credentials again on this side.")
        return self._text

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and compare_digest(
            (self._text or "").encode("utf-8", "surrogatepass"), (other._text or "").encode("utf-8", "surrogatepass")
        )

    def __hash__(self) -> int:
        return hash((Secret, self._text or ""))

    def __repr__(self) -> str:
        return "***"

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: object) -> Secret:
        return self

    def __reduce__(self) -> tuple[type[Secret], tuple[None]]:
        return Secret, (None,)


def _pairs(values: Mapping[str, object] | Iterable[tuple[str, object]]) -> tuple[tuple[str, str], ...]:
    """Return pairs of text for a mapping or pairs, without those whose value is None."""
    if not values:
        return ()
    items = values.items() if isinstance(values, Mapping) else values
    # The services write ``true`` and ``false`` in lower case.
    return tuple(
        (str(name), str(value).lower() if isinstance(value, bool) else str(value))
        for name, value in items
        if value is not None
    )


@attrs.frozen(repr=False)
class Headers:
    """
    The headers of a response, looked up ignoring case. Repeated headers keep their order.

    Its ``repr`` shows the names only.
    """

    pairs: tuple[tuple[str, str], ...] = attrs.field(default=(), converter=_pairs)

    def get(self, name: str, default: str | None = None) -> str | None:
        """Return the first value of ``name``, or ``default``."""
        return next(iter(self.get_all(name)), default)

    def get_all(self, name: str) -> tuple[str, ...]:
        """Return every value of ``name``, in order."""
        wanted = name.lower()
        return tuple([value for key, value in self.pairs if key.lower() == wanted])

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and bool(self.get_all(name))

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(name for name, _ in self.pairs))

    def __len__(self) -> int:
        return len(self.pairs)

    def __repr__(self) -> str:
        return f"Headers({', '.join(self)})"


@attrs.frozen(kw_only=True)
class UploadedFile:
    """
    A file that is sent as one part of a form, read in chunks while it is sent.

    Args:
        part: The name of the part.
        name: The file name that is sent.
        size: Bytes of its content, declared before the first of them is sent.
        content_type: Its media type.
        read: Yields the chunks of the content from the beginning, ``size`` bytes in all; called for every attempt.
    """

    part: str
    name: str
    size: int
    content_type: str = "application/octet-stream"
    read: Callable[[], AsyncIterator[bytes]] = attrs.field(repr=False, eq=False)


@attrs.frozen(kw_only=True)
class UploadBody:
    """
    A multipart form with files.

    Args:
        fields: Small values, one part each, as a mapping or pairs; None is left out.
        files: The files, which follow the values.
    """

    fields: tuple[tuple[str, str], ...] = attrs.field(default=(), converter=_pairs, repr=False)
    files: tuple[UploadedFile, ...] = attrs.field(default=(), converter=tuple[UploadedFile, ...])


@attrs.frozen(kw_only=True)
class Request:
    """
    One request, without the time and the credential with which it is sent.

    Args:
        method: ``GET``, ``POST``, ``PUT`` and so on.
        path: Below the base URL and starting with ``/`` (build it with :func:`join_path`), or an absolute URL, which is
            sent byte for byte and gets a credential only at the API's own origin.
        params: The query, as a mapping or pairs; None is left out.
        headers: Headers of this request alone.
        json: A small JSON body.
        form: A form body, as pairs.
        upload: A multipart body with files; such a request has no total time limit.
        scope: Which credential is sent: ``""`` for the only one, the vendor's scope name if there are several, None for
            none.
        metered: Whether it counts against the quota of the service.
        shown_as: What to show instead of the URL, if even the path is secret.

    Attributes:
        repeatable: Whether sending it twice has the same effect as sending it once, by its method.
    """

    method: str
    path: str
    params: tuple[tuple[str, str], ...] = attrs.field(default=(), converter=_pairs)
    headers: tuple[tuple[str, str], ...] = attrs.field(default=(), converter=_pairs, repr=False)
    json: Any = attrs.field(default=None, repr=False)
    form: tuple[tuple[str, str], ...] = attrs.field(default=(), converter=_pairs, repr=False)
    upload: UploadBody | None = attrs.field(default=None, repr=False)
    scope: str | None = ""
    metered: bool = True
    shown_as: str | None = None
    repeatable: bool = attrs.field(
        init=False, eq=False, default=attrs.Factory(lambda self: self.method in ("GET", "HEAD"), takes_self=True)
    )

    @property
    def line(self) -> str:
        """Method and URL without the query: the form that may be shown and logged."""
        return f"{self.method} {self.shown_as or show_url(self.path)}"

    @property
    def absolute(self) -> bool:
        """Whether ``path`` is a complete URL."""
        return not self.path.startswith("/")

    def __repr__(self) -> str:
        return f"<Request {self.line}>"


@attrs.frozen(kw_only=True)
class Response:
    """
    One complete, small response.

    Args:
        status: The HTTP status.
        headers: Its headers.
        body: Its body, decoded from any transfer or content encoding.
        request: The line of its request, without the query.
    """

    status: int
    headers: Headers = Headers()
    body: bytes = attrs.field(default=b"", repr=False)
    request: str = ""


def segment(value: object, *, what: str = "identifier") -> str:
    """
    Encode one value as exactly one path segment.

    Raises:
        ConfigurationError: It is empty, ``.`` or ``..``, or has control characters, so that it would identify
            something else than one object.
    """
    text = str(value)
    if isinstance(value, bool | bytes) or value is None or not text.strip() or text in (".", ".."):
        raise ConfigurationError(f"The {what} is {value!r}; it must be an identifier from the service.")
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in text) or "\\" in text or "/" in text:
        raise ConfigurationError(
            f"The {what} {printable(text)!r} has characters that no identifier of the service has."
        )
    try:
        return quote(text, safe="")
    except UnicodeEncodeError:
        raise ConfigurationError(f"The {what} {printable(text)!r} is not valid text.") from None


def join_path(template: str, **parts: object) -> str:
    """
    Fill a path template such as ``/extracts/{extract}/runs`` with encoded segments.

    Raises:
        ConfigurationError: One of the parts is not a single safe segment.
    """
    return template.format(**{name: segment(value, what=name.replace("_", " ")) for name, value in parts.items()})


#: Characters of a URL that are shown.
_MAX_SHOWN = 300
#: Most URLs are of this kind: before the query there is nothing to hide and nothing to escape.
_PLAIN_URL = re.compile(r"(?:https?://[a-z0-9.-]+(?::(?:[1-9][0-9]{0,3}|[1-5][0-9]{4}))?/|/(?!/))[\w./~-]*", re.ASCII)
_ENDS = ("", "?", "#")


def show_url(url: str) -> str:
    """Return a URL without user, query and fragment: host and path of an absolute URL, the path of a relative one."""
    plain = _PLAIN_URL.match(url)
    if plain is not None and plain.end() <= _MAX_SHOWN and url[plain.end() : plain.end() + 1] in _ENDS:
        return plain[0]
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return "<not a URL>"
    named = f"[{host}]" if ":" in host else host
    place = f"{parts.scheme}://{named}{f':{port}' if port else ''}" if parts.scheme or host else ""
    shown = f"{place}{parts.path}"
    suspicious = _SUSPICIOUS.search(host) or _SUSPICIOUS.search(parts.path)
    return printable(_mask(shown) if suspicious else shown, maximum=_MAX_SHOWN)


def printable(text: str, *, maximum: int = 200) -> str:
    """Return text with control, bidirectional and unpaired characters escaped, cut after ``maximum`` characters."""
    cut = text if len(text) <= maximum else f"{text[:maximum]}... ({len(text)} characters)"
    if cut.isprintable():
        return cut
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode("ascii") for c in cut
    )


#: Secrets in any text: signed URLs, tokens, sessions and logins, as a query, a form, JSON, XML, a header, or the
#: ``repr`` of any of them, escaped once more or not. One word too many is better than one too few, so the text before
#: the name does not matter. This and the next three are compiled when they are first used: that takes milliseconds.
_SENSITIVE = r"""(?ixs)
    ( (?: sig | skoid | sktid | signature | x-amz-[a-z-]{1,40} | token | secret | passw(?:or)?d | pwd | session_?id
        | authorization | api_?key )
      (?: \\*["'] \s* ,
        | (?: \\*["'] | &(?:quot|\#34|\#39); )? \s* (?: = | : | > | %(?:25)*3[ad] | \\u003[ad] ) )
      \s* (?: b (?=["']) )? )
    (?: "(?:[^"\\]|\\.)*"? | '(?:[^'\\]|\\.)*'? | \\+["'].*?(?:\\+["']|\Z) | &(?:quot|\#34|\#39);[^&]*
      | (?:bearer|basic)\s+[^\s"'<>,;]+ | [^\s"'&<>,;}]+ )
    """
_BEARER = r"(?i)\b(bearer +)[\w.~+/=-]{8,}"
_COOKIE = r"""(?i)(cookie["']?\s*[:=,]\s*)[^\r\n]+"""
_USER = r"(//)[^/\s@\"'<>]+(?=@)"
#: Without any of these there is nothing that the patterns could match; most paths have none.
_SUSPICIOUS = re.compile(r"""[^\w./~-]""", re.ASCII)


def scrub(text: str, *, maximum: int = 400) -> str:
    """Return external text for messages and logs: possible secrets become ``***``; the rest is escaped and cut."""
    return printable(_mask(text), maximum=maximum)


def _mask(text: str) -> str:
    """Replace every value that may be secret by ``***``."""
    for pattern in (_COOKIE, _SENSITIVE, _BEARER, _USER):
        text = re.sub(pattern, r"\1***", text)
    return text


def read_http_date(text: str | None, *, far: datetime | None = None) -> datetime | None:
    """
    Return the date (aware) of a header such as ``Date``, in any format of mail headers; None if it is not one.

    A year before 1970 is none, and so is one after 2999 unless ``far`` stands for it: with such a distance to the clock
    here, times could not be computed.
    """
    try:
        timestamp = parsedate_to_datetime(text or "")
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    if not 1970 <= timestamp.year < 3000:
        return far if timestamp.year >= 3000 else None
    return timestamp if timestamp.tzinfo else timestamp.replace(tzinfo=UTC)
