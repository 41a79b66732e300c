"""The settings of a client: what is refused before anything is sent, and how they are spelt in the environment."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import TypeVar, get_args

from arena_async.errors import ConfigurationError
from arena_async.providers.arena.import_files import ImportParameters
from arena_async.providers.arena.regions import find_base_url
from arena_async.wire.messages import printable
from arena_async.wire.urls import UrlPolicy

__all__ = ["blame", "check_choices", "read_address", "read_number", "written_reason"]

T = TypeVar("T")


def check_choices(workspace_id: object, import_parameters: object) -> None:
    """
    Refuse what no workspace and no import can mean.

    Raises:
        ConfigurationError: One of them is something else.
    """
    if workspace_id is not None and (isinstance(workspace_id, bool) or not isinstance(workspace_id, int)):
        raise ConfigurationError(f"ArenaClient.workspace_id is {workspace_id!r}; it takes the number or None.")
    if import_parameters not in get_args(ImportParameters):
        raise ConfigurationError(f"ArenaClient.import_parameters is {import_parameters!r}; it takes parts or query.")


def written_reason(text: str | None) -> str:
    """
    Give the value of the ``Arena-Usage-Reason`` header.

    Raises:
        ConfigurationError: A header cannot carry it.
    """
    if text is None:
        return f"arena_async/{version('arena-async')}"
    if not text.strip() or len(text) > 200 or not (text.isascii() and text.isprintable()):
        raise ConfigurationError(
            f"The usage reason is {printable(text)!r}; it takes 1 to 200 printable ASCII characters, for instance "
            "'Vendor Product/1.0 nightly-sync'."
        )
    return text.strip()


def read_address(variables: Mapping[str, str], *, allow_http: bool) -> str:
    """
    Give the address of the API that the environment names.

    Raises:
        ConfigurationError: ``ARENA_BASE_URL`` or ``ARENA_REGION`` is wrong, or both are set.
    """
    base_url = variables.get("ARENA_BASE_URL", "").strip() or None
    region = variables.get("ARENA_REGION", "").strip() or None
    address = blame("ARENA_BASE_URL" if region is None else "ARENA_REGION", lambda: find_base_url(base_url, region))
    blame("ARENA_BASE_URL", lambda: UrlPolicy.for_base(address, allow_http=allow_http))
    return address


def read_number(variables: Mapping[str, str], name: str) -> int | None:
    """
    Give a variable that is a number, or None where it is not set.

    Raises:
        ConfigurationError: It is something else.
    """
    text = variables.get(name, "").strip()
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise ConfigurationError(f"{name} is {printable(text)!r}; it takes a whole number of at least 0.")
    return int(text)


def blame(name: str, check: Callable[[], T]) -> T:
    """
    Run a check and give its result, or name the variable in its complaint.

    Raises:
        ConfigurationError: The check complains.
    """
    try:
        return check()
    except ConfigurationError as error:
        raise ConfigurationError(f"{name}: {error}") from None
