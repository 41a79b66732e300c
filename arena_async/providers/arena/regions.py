"""
Where the service is: its regions by name, and what to say when somebody gives the address of the web application.

https://ptc-arena.github.io/arena-dev-help/
"""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

import attrs

from arena_async.errors import ConfigurationError
from arena_async.wire.messages import printable

__all__ = ["NORTH_AMERICA", "REGIONS", "Region", "find_base_url"]


@attrs.frozen
class Region:
    """
    One region of the service.

    Args:
        name: The short name.
        title: The name people know.
        web: The host of the web application.
        api: The API, with its version.
        token_url: Where machine users get their tokens, or None where it comes with their credentials.
    """

    name: str
    title: str
    web: str
    api: str
    token_url: str | None = None


#: Every region, by its short name.
REGIONS: Final = {
    region.name: region
    for region in (
        Region(
            "us",
            "North America",
            "app.bom.com",
            "https://api.arenasolutions.com/v1",
            "https://oauth.bom.com/oauth2/token",
        ),
        Region("gov", "GovCloud", "app.arenagov.com", "https://api.arenagov.com/v1"),
        Region("eu", "Europe", "app.europe.arenaplm.com", "https://api.europe.arenaplm.com/v1"),
        Region("uk", "United Kingdom", "app.uk.arenaplm.com", "https://api.uk.arenaplm.com/v1"),
        Region("cn", "China", "app.arenaplm.cn", "https://api.arenaplm.cn/v1"),
    )
}

#: The API of the default region, with its version.
NORTH_AMERICA: Final = REGIONS["us"].api


def find_base_url(base_url: str | None, region: str | None) -> str:
    """
    Give the address of the API.

    Args:
        base_url: The whole address, or None.
        region: The name of a region, or None. Without either, North America.

    Raises:
        ConfigurationError: Both were given, the region is unknown, or the address is that of the web application.
    """
    if region is not None:
        return _of_region(base_url, region)
    if base_url is None:
        return NORTH_AMERICA
    host = _host(base_url)
    for known in REGIONS.values():
        if host == known.web:
            raise ConfigurationError(
                f"The address {printable(base_url)} is that of the web application of {known.title}; its API is at "
                f"{known.api}. Give that as the base URL, or region={known.name!r} in its place."
            )
    return base_url


def _of_region(base_url: str | None, region: str) -> str:
    if base_url is not None:
        raise ConfigurationError(
            f"Both a base URL and the region {printable(str(region))!r} are given; give one of them."
        )
    found = REGIONS.get(str(region).strip().lower())
    if found is None:
        names = ", ".join(f"{name} ({known.title})" for name, known in REGIONS.items())
        raise ConfigurationError(f"The region {printable(str(region))!r} is not known; there are {names}.")
    return found.api


def _host(url: str) -> str:
    """Give the host of an address, with or without its scheme; "" where there is none."""
    try:
        return (urlsplit(url if "//" in url else f"//{url}").hostname or "").rstrip(".")
    except ValueError:
        return ""
