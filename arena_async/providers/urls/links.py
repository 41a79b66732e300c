"""One row of a list: where a file is, its local name, and what is known about it beforehand."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from arena_async.errors import ConfigurationError, UnsafeUrlError
from arena_async.protocol.filenames import file_name_from_url
from arena_async.protocol.messages import Secret, printable, scrub, show_url
from arena_async.protocol.urls import origin

__all__ = ["Link", "bears_secret"]

#: Headers that decide how a body is sent; the transfer sets them.
_OURS = re.compile(
    r"(?i)accept-encoding|connection|content-length|expect|host|if-.*|keep-alive|proxy-authorization|proxy-connection"
    r"|range|te|trailer|transfer-encoding|upgrade"
)
#: Names that the session sends as well, in its own case, so that those of the row replace them.
_CASED = {"user-agent": "User-Agent", "accept": "Accept"}
# https://www.rfc-editor.org/rfc/rfc9110#section-5.6.2
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,256}")
#: Text without any character that could separate a name from its secret.
_PLAIN = re.compile(r"[A-Za-z0-9/._~-]*")
_MAX_HEADERS = 64
_MAX_SIZE = 2**63 - 1


def bears_secret(text: str) -> bool:
    """Return whether something in an address looks like a signature, a token or a password."""
    return not _PLAIN.fullmatch(text) and scrub(text, maximum=1 << 20) != printable(text, maximum=1 << 20)


def _secret(value: object) -> Secret:
    """Return an address as a secret, without its fragment, which is never sent."""
    text = value.reveal() if isinstance(value, Secret) else value
    if not isinstance(text, str):
        raise ConfigurationError(f"An address is text and not {type(text).__name__}.")
    return Secret(text.partition("#")[0])


def _headers(value: Mapping[str, str | Secret] | Iterable[tuple[str, str | Secret]]) -> tuple[tuple[str, Secret], ...]:
    """Return the headers of a mapping or of pairs, with their values as secrets."""
    pairs: list[tuple[Any, Any]] = []
    try:
        pairs = list(value.items() if isinstance(value, Mapping) else value)
        pairs = [(name, text.reveal() if isinstance(text, Secret) else text) for name, text in pairs]
    except (TypeError, ValueError):
        problem: str | None = "headers are not a mapping of names to values"
    else:
        problem = _headers_problem(pairs)
    if problem is not None:
        raise ConfigurationError(f"The {problem}.")
    return tuple((_CASED.get(name.lower(), name), Secret(text)) for name, text in pairs)


def _headers_problem(pairs: list[tuple[Any, Any]]) -> str | None:
    """Return what is wrong with headers without showing a value, or None."""
    seen: set[str] = set()
    for name, text in pairs:
        if not isinstance(name, str) or not _HEADER_NAME.fullmatch(name):
            return "name of a header has characters that cannot be sent"
        shown = printable(name)
        if not isinstance(text, str) or not text.isprintable() or not text.isascii():
            return f"header {shown} has a value that cannot be sent: it takes one line of plain text"
        if _OURS.fullmatch(name):
            return f"header {shown} cannot be set: it decides how the body is sent, which the transfer does"
        if name.lower() in seen:
            return f"header {shown} is given twice"
        seen.add(name.lower())
    return "headers are too many" if len(pairs) > _MAX_HEADERS else None


def _sha256(value: object) -> str | None:
    return _digest(value, 64, "SHA-256")


def _md5(value: object) -> str | None:
    return _digest(value, 32, "MD5")


def _digest(value: object, digits: int, what: str) -> str | None:
    """Return a digest in hexadecimal, in lower case."""
    text = value.strip().lower() if isinstance(value, str) else ""
    if value is not None and not re.fullmatch(rf"[0-9a-f]{{{digits}}}", text):
        raise ConfigurationError(f"The {what} is not one: it takes {digits} hexadecimal digits.")
    return text or None


def _name(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise ConfigurationError("The name is no text.")


def _size(value: object) -> int | None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MAX_SIZE):
        return value
    raise ConfigurationError(f"The size {printable(repr(value))} is not a number of bytes.")


@attrs.frozen(repr=False)
class Link:
    """
    One file to download: its address, and what is known about it.

    Its ``repr`` shows host and path only. Headers and whatever is in the query are secrets.

    Args:
        url: The address, with its scheme. It is sent byte for byte.
        name: What to call the file, after directories if wanted (``"site-01/day-1.csv"``); without it, the last part of
            the address is its name.
        size: Bytes it has; any other number is an error.
        sha256: Its SHA-256 in hexadecimal; other content is an error.
        md5: Its MD5 in hexadecimal; other content is an error.
        headers: Headers for this address. They go along to its own origin only, not wherever it redirects to.

    Raises:
        ConfigurationError: Something of it cannot be used; no secret is in the message.
    """

    url: Secret = attrs.field(converter=_secret)
    name: str | None = attrs.field(default=None, kw_only=True, converter=_name)
    size: int | None = attrs.field(default=None, kw_only=True, converter=_size)
    sha256: str | None = attrs.field(default=None, kw_only=True, converter=_sha256)
    md5: str | None = attrs.field(default=None, kw_only=True, converter=_md5)
    headers: tuple[tuple[str, Secret], ...] = attrs.field(default=(), kw_only=True, converter=_headers)

    def __attrs_post_init__(self) -> None:
        """Reject an address or a name that cannot be one."""
        problem = _address_problem(self.url.reveal()) or self._name_problem()
        if problem is not None:
            raise ConfigurationError(problem)

    @property
    def path(self) -> tuple[str, ...]:
        """Directories and name, not cleaned yet: the name, else the last part of the address."""
        return tuple(self.name.split("/")) if self.name is not None else (file_name_from_url(self.url.reveal()),)

    def _name_problem(self) -> str | None:
        if self.name is None:
            derived, problem = self.path[0], None
            if not derived.strip(". "):
                problem = "no file name"
            elif bears_secret(derived):
                problem = "something that looks like a secret"
            shown = show_url(self.url.reveal()) if problem else ""
            return f"{shown} ends in {problem}. Set the name of the file: name." if problem else None
        quoted = repr(printable(self.name))
        if not self.name.isprintable() or "\\" in self.name:
            return f"The name {quoted} has characters that no file name has; directories are written with /."
        if any(not part.strip() or part in (".", "..") for part in self.name.split("/")):
            return f"The name {quoted} leads out of the directory, or has an empty part; it takes a/b/name."
        return None

    def __repr__(self) -> str:
        return f"<Link {show_url(self.url.reveal())}>"


def _address_problem(url: str) -> str | None:
    """Return what is wrong with the shape of an address, or None."""
    if not url.strip():
        return "The address is empty."
    if " " in url and url.isprintable():
        return f"{show_url(url)} has a space in it; an address has %20 there."
    if not url.isascii() and url.isprintable():
        return f"{show_url(url)} has letters that no address has; write them percent-encoded, as a browser copies it."
    try:
        origin(url)
    except UnsafeUrlError as error:
        return str(error)
    return None
