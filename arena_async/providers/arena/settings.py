"""
The settings of a client: the regions of the service, the checks, and the environment variables.

https://ptc-arena.github.io/arena-dev-help/
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, get_args
from urllib.parse import urlsplit

import attrs

from arena_async.errors import ConfigurationError
from arena_async.http.client import named_by
from arena_async.options import VERSION
from arena_async.protocol.messages import printable
from arena_async.protocol.urls import UrlPolicy
from arena_async.providers.arena.auth import ArenaCredentials, ArenaMachineCredentials
from arena_async.providers.arena.import_files import ImportParameters

__all__ = [
    "NORTH_AMERICA",
    "REGIONS",
    "Region",
    "check_choices",
    "find_base_url",
    "read_address",
    "read_credentials",
    "read_number",
    "written_reason",
]

_PERSON = ("ARENA_EMAIL", "ARENA_PASSWORD")
_MACHINE = ("ARENA_CLIENT_ID", "ARENA_CLIENT_SECRET")
_MEANING = {
    "ARENA_EMAIL": "the e-mail address of the Arena user",
    "ARENA_PASSWORD": "the password of the Arena user",
    "ARENA_CLIENT_ID": "the client id of the machine user",
    "ARENA_CLIENT_SECRET": "the client secret of the machine user",
}


@attrs.frozen
class Region:
    """
    One region of the service.

    Args:
        name: The short name.
        title: The usual name.
        web: The host of the web application.
        api: The API, with its version.
        token_url: The token endpoint of machine users, or None where it is issued with their credentials.
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
    Return the base URL of the API.

    Args:
        base_url: The complete URL, or None.
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
    """Return the host of an address, with or without its scheme; "" where there is none."""
    try:
        return (urlsplit(url if "//" in url else f"//{url}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def check_choices(workspace_id: object, import_parameters: object) -> None:
    """
    Check the settings that have few valid values.

    Raises:
        ConfigurationError: One of them is something else.
    """
    if workspace_id is not None and (isinstance(workspace_id, bool) or not isinstance(workspace_id, int)):
        raise ConfigurationError(f"ArenaClient.workspace_id is {workspace_id!r}; it takes the number or None.")
    if import_parameters not in get_args(ImportParameters):
        raise ConfigurationError(f"ArenaClient.import_parameters is {import_parameters!r}; it takes parts or query.")


def written_reason(text: str | None) -> str:
    """
    Return the value of the ``Arena-Usage-Reason`` header.

    Raises:
        ConfigurationError: It is not valid in a header.
    """
    if text is None:
        return f"arena_async/{VERSION}"
    if not text.strip() or len(text) > 200 or not (text.isascii() and text.isprintable()):
        raise ConfigurationError(
            f"The usage reason is {printable(text)!r}; it takes 1 to 200 printable ASCII characters, for instance "
            "'Vendor Product/1.0 nightly-sync'."
        )
    return text.strip()


def read_address(variables: Mapping[str, str], *, allow_http: bool) -> str:
    """
    Return the base URL that the environment names.

    Raises:
        ConfigurationError: ``ARENA_BASE_URL`` or ``ARENA_REGION`` is wrong, or both are set.
    """
    base_url = variables.get("ARENA_BASE_URL", "").strip() or None
    region = variables.get("ARENA_REGION", "").strip() or None
    address = named_by("ARENA_BASE_URL" if region is None else "ARENA_REGION", lambda: find_base_url(base_url, region))
    named_by("ARENA_BASE_URL", lambda: UrlPolicy.for_base(address, allow_http=allow_http))
    return address


def read_number(variables: Mapping[str, str], name: str) -> int | None:
    """
    Return a variable that is a number, or None where it is not set.

    Raises:
        ConfigurationError: It is something else.
    """
    text = variables.get(name, "").strip()
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise ConfigurationError(f"{name} is {printable(text)!r}; it takes an integer of at least 0.")
    return int(text)


def read_credentials(variables: Mapping[str, str]) -> ArenaCredentials | ArenaMachineCredentials | None:
    """
    Read the credentials of a person or of a machine user from the environment; None where there is only a session.

    Raises:
        ConfigurationError: There are none, half of them is missing, or both are set; the message names the variables.
    """
    given = {name for name in _MEANING if variables.get(name, "").strip()}
    if given & set(_PERSON) and given & set(_MACHINE):
        raise ConfigurationError(
            "ARENA_EMAIL and ARENA_PASSWORD name a person, ARENA_CLIENT_ID and ARENA_CLIENT_SECRET a machine user; set "
            "one pair of them."
        )
    if not given and not variables.get("ARENA_SESSION_ID", "").strip():
        raise ConfigurationError(
            "ARENA_EMAIL is not set, nor is ARENA_CLIENT_ID or ARENA_SESSION_ID; set ARENA_EMAIL and ARENA_PASSWORD to "
            "those of the Arena user."
        )
    for pair in (_PERSON, _MACHINE):
        missing = [name for name in pair if name not in given]
        if len(missing) == 1:
            raise ConfigurationError(f"{missing[0]} is not set; it takes {_MEANING[missing[0]]}.")
    if given == set(_MACHINE):
        token_url = variables.get("ARENA_TOKEN_URL", "").strip() or None
        client_id, client_secret = (variables[name].strip() for name in _MACHINE)
        return ArenaMachineCredentials(client_id, client_secret, token_url)
    return ArenaCredentials(*(variables[name] for name in _PERSON)) if given == set(_PERSON) else None
