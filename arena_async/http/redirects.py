"""Where a request goes, and where a redirect leads."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

__all__ = ["MAX_REDIRECTS", "REDIRECTS", "Origin", "Target"]

#: Statuses that redirect.
REDIRECTS = frozenset({301, 302, 303, 307, 308})
#: Redirects of one body, at most.
MAX_REDIRECTS = 5


@attrs.frozen
class Origin:
    """
    What is the same for all requests to one origin.

    Args:
        name: Scheme, host and port, as :func:`~arena_async.protocol.urls.origin` writes them.
        is_api: Whether it is the origin of the API.
        headers: The headers of every request to it.
    """

    name: str
    is_api: bool
    headers: Mapping[str, str] = attrs.field(repr=False)


@attrs.frozen(repr=False)
class Target:
    """
    Where a request goes.

    Args:
        url: The URL, byte for byte.
        origin: Its origin.
        ours: Whether it gets the headers and the credential of the API: not once a redirect has left the API.
        start: The origin that the request began at.
        away: Whether a redirect has left that origin, so that the headers of the request itself stay behind.
        redirects: The number of redirects so far.
    """

    url: str
    origin: Origin
    ours: bool
    start: str
    away: bool = False
    redirects: int = 0

    def redirected(self, url: str, origin: Origin) -> Target:
        """Return where a redirect to ``url`` leads."""
        return Target(
            url.partition("#")[0],
            origin,
            ours=self.ours and origin.is_api,
            start=self.start,
            away=self.away or origin.name != self.start,
            redirects=self.redirects + 1,
        )
