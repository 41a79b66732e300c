"""
URL policy: allowed hosts and addresses.

A listing, a signed URL or a redirect may name any host. It is checked twice: the URL before it is used, and each IP
address of the host when a connection is opened.
"""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from urllib.parse import urlsplit

import attrs

from arena_async.errors import ConfigurationError, UnsafeUrlError
from arena_async.protocol.messages import show_url

__all__ = ["UrlPolicy", "authority", "host_of", "origin"]

_DEFAULT_PORTS = {"http": 80, "https": 443}
#: One label or several of letters, digits, hyphens and underscores. Other scripts use ``xn--`` labels.
_HOST = re.compile(r"(?=.{1,253}\.?\Z)[a-z0-9_](?:[a-z0-9_-]{0,62})(?:\.[a-z0-9_](?:[a-z0-9_-]{0,62}))*\.?", re.ASCII)
#: IPv4 addresses in other notations that resolvers accept: ``127.1``, ``0x7f000001``, ``2130706433``.
_NUMBERS = re.compile(r"(?:0x[0-9a-f]*|[0-9]+)(?:\.(?:0x[0-9a-f]*|[0-9]+))*\.?", re.ASCII)
_LOOPBACK_NAMES = ("localhost", "localhost.")
#: Printable ASCII without the space and the backslash.
_VALID = re.compile(r"[!-\[\]-~]*")
#: Scheme and authority of a URL: all that is checked here besides its characters.
_AUTHORITY = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#]*", re.ASCII | re.IGNORECASE)
#: Authorities that are cached: listings have thousands of URLs with the same one.
_MAX_CACHED = 1024
#: Characters of a cached authority; host names have at most 253.
_MAX_AUTHORITY = 300
_UNREADABLE = "is not a valid URL"
#: RFC 6052: IPv4 addresses behind an IPv6-only network.
_NAT64 = ipaddress.ip_network("64:ff9b::/96")

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@attrs.frozen
class _UrlParts:
    scheme: str
    host: str
    port: int
    origin: str = attrs.field(init=False)

    @origin.default
    def _origin(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def authority(url: str) -> str | None:
    """Return scheme and authority of a URL as written; None if the URL has to be checked on its own."""
    found = _AUTHORITY.match(url)
    if found is None or len(found[0]) > _MAX_AUTHORITY or not _VALID.fullmatch(url):
        return None
    return found[0]


def origin(url: str) -> str:
    """
    Return scheme, host and port of a URL as ``"https://host:port"``, in lower case and always with the port.

    Raises:
        UnsafeUrlError: It is not an absolute ``http`` or ``https`` URL.
    """
    return _split(url).origin


def host_of(url: str) -> str:
    """
    Return the host of a URL in lower case, without brackets.

    Raises:
        UnsafeUrlError: It is not an absolute ``http`` or ``https`` URL.
    """
    return _split(url).host


@attrs.frozen(kw_only=True)
class UrlPolicy:
    """
    Which URLs may be contacted.

    By default: ``https`` only, on its usual port, and public addresses only. ``origins`` were named by the caller and
    are therefore contacted at any address.

    Args:
        allow_http: Plain ``http`` is allowed everywhere.
        allow_ports: Any port is allowed, not only the usual one.
        allow_private: Loopback, link-local, private and reserved addresses and any port are allowed.
        allow_loopback: Loopback is allowed, on any port and with plain ``http``.
        origins: Origins as :func:`origin` writes them.
    """

    allow_http: bool = False
    allow_ports: bool = False
    allow_private: bool = False
    allow_loopback: bool = False
    origins: frozenset[str] = frozenset()

    @classmethod
    def for_base(cls, base_url: str, *, allow_http: bool = False) -> UrlPolicy:
        """
        Return the policy of an API for its base URL.

        If the API itself is on loopback, its signed URLs may use loopback and plain http too.

        Args:
            base_url: The base URL of the API.
            allow_http: Whether the caller explicitly allowed plain http.

        Raises:
            ConfigurationError: It is not a URL, has user information, a query or a fragment, or is plain http and
                not on loopback.
        """
        problem = ""
        try:
            parts = _split(base_url)
        except UnsafeUrlError as error:
            problem = str(error)
        if problem:
            raise ConfigurationError(f"The base URL cannot be used. {problem}")
        if any(mark in base_url for mark in "?#"):
            raise ConfigurationError(
                f"The base URL {show_url(base_url)} has a query or a fragment; pass scheme, host and path only."
            )
        loopback = _is_loopback(parts.host)
        if parts.scheme == "http" and not (loopback or allow_http):
            raise ConfigurationError(
                f"The base URL {show_url(base_url)} is plain http, so that credentials would be sent unencrypted; use"
                " https, or allow plain http explicitly."
            )
        return cls(allow_http=allow_http, allow_loopback=loopback, origins=frozenset({parts.origin}))

    def trusting(self, url: str) -> UrlPolicy:
        """
        Return the same policy with one more origin that the caller named.

        Raises:
            UnsafeUrlError: ``url`` is not an absolute http or https URL.
        """
        return attrs.evolve(self, origins=self.origins | {origin(url)})

    def check(self, url: str) -> None:
        """
        Raise if a URL must not be contacted, as far as its text shows that.

        Raises:
            UnsafeUrlError: Its scheme, its user information, its port or its literal address is not allowed, or two
                programs could parse it differently.
        """
        parts = _split(url)
        if parts.origin in self.origins:
            return
        loopback = self.allow_loopback and _is_loopback(parts.host)
        if parts.scheme == "http" and not (self.allow_http or loopback):
            raise UnsafeUrlError(f"{show_url(url)} is plain http; only https is contacted.")
        if parts.port != _DEFAULT_PORTS[parts.scheme] and not (self.allow_ports or self.allow_private or loopback):
            raise UnsafeUrlError(f"{show_url(url)} has an unusual port; only the usual one is contacted.")
        address = _address(parts.host)
        if address is not None or parts.host in _LOOPBACK_NAMES:
            self.check_address(parts.host if address is not None else "127.0.0.1")

    def check_address(self, ip: str) -> None:
        """
        Raise if an IP address must not be contacted.

        Raises:
            UnsafeUrlError: It is not public, and the policy does not allow it.
        """
        address = _address(ip)
        if address is None:
            raise UnsafeUrlError(f"{show_url(ip)} is not an IP address; it is not contacted.")
        if self.allow_private or (self.allow_loopback and address.is_loopback):
            return
        if not address.is_global or address.is_multicast or address.is_reserved:
            raise UnsafeUrlError(
                f"{address} is not a public address; it is not contacted. A URL in a private network has to be"
                " allowed explicitly."
            )


def _split(url: str) -> _UrlParts:
    """Parse a URL, and reject every form that two programs might parse differently."""
    found = authority(url)
    if found is None and not _VALID.fullmatch(url):
        raise UnsafeUrlError(f"{show_url(url)} has characters that are invalid in a URL; it is not contacted.")
    # URLs with a password are rejected before they are cached.
    parts = _known_authority(found) if found is not None and "@" not in found else _read_authority(url)
    if isinstance(parts, str):
        what = "The URL" if parts == _UNREADABLE else show_url(url)
        raise UnsafeUrlError(f"{what} {parts}; it is not contacted.")
    return parts


def _read_authority(url: str) -> _UrlParts | str:
    """Return scheme, host and port of a URL, or what is wrong with them."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return _UNREADABLE
    if parts.scheme not in _DEFAULT_PORTS:
        return "is not an absolute http or https URL"
    if "@" in parts.netloc:
        return "has user information"
    if not host or port == 0 or parts.netloc.endswith(":"):
        return "has no host or no port"
    if len(host) > _MAX_AUTHORITY or (
        _address(host) is None and (_NUMBERS.fullmatch(host) or not _HOST.fullmatch(host))
    ):
        return "has an invalid host"
    return _UrlParts(parts.scheme, host, port or _DEFAULT_PORTS[parts.scheme])


#: The same, cached.
_known_authority = lru_cache(_MAX_CACHED)(_read_authority)


@lru_cache(_MAX_CACHED)
def _address(text: str) -> _Address | None:
    """Parse an IP address; of one that contains an IPv4 address, return that."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv4Address):
        return address
    inner = address.ipv4_mapped or address.sixtofour
    if inner is None and address in _NAT64:
        inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return inner or address


def _is_loopback(host: str) -> bool:
    """Return whether a host is this machine, by name or IP address."""
    address = _address(host)
    return address.is_loopback if address is not None else host in _LOOPBACK_NAMES or host.endswith(".localhost")
