"""The base of every client: one session, its settings and its life."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ssl import SSLContext
from typing import Any, Self, TypedDict, TypeVar

from aiohttp import BaseConnector

from arena_async.errors import ConfigurationError
from arena_async.http.session import Session
from arena_async.options import Clock, HttpOptions, RetryPolicy, Timeouts
from arena_async.protocol.quota import Quota

__all__ = ["BaseClient", "BaseConnector", "ClientSettings", "NetworkSettings", "http_options", "named_by"]

T = TypeVar("T")


class NetworkSettings(TypedDict, total=False):
    """
    How every client and every set of addresses uses the network.

    Args:
        timeouts: Timeouts of the network; None for the defaults.
        ssl: A TLS context, for instance for a company's own authority; None for the system's.
        proxy: The address of an HTTP proxy, or None for none; the environment is not read.
        user_agent: Text before this library's own name in ``User-Agent``.
        connector: An aiohttp connector whose pool, TLS and DNS are shared; its owner closes it.
    """

    timeouts: Timeouts | None
    ssl: SSLContext | None
    proxy: str | None
    user_agent: str | None
    connector: BaseConnector | None


class ClientSettings(NetworkSettings, total=False):
    """
    The settings that every client takes, and its ``from_env`` too.

    Args:
        retry: How requests are retried; None for the defaults.
        clock: Time and randomness, for tests.
    """

    retry: RetryPolicy | None
    clock: Clock | None


class BaseClient:
    """
    A client of one service: an async context manager that closes its session.

    Its attributes have no side effects. Nothing is sent before the first request.

    Args:
        session: The session that sends its requests.
    """

    def __init__(self, session: Session) -> None:
        self._session = session

    @property
    def session(self) -> Session:
        """The session that sends the requests; its ``send`` and ``stream`` reach endpoints without a method here."""
        return self._session

    @property
    def quota(self) -> Quota | None:
        """What is known about the quota, or None before the service said anything about it."""
        return self._session.quota

    @property
    def requests_sent(self) -> int:
        """Metered requests that were sent so far, repeated ones included."""
        return self._session.requests_sent

    async def aclose(self) -> None:
        """Log out, which takes at most 5 seconds and never fails, and close all connections. Safe to call twice."""
        await self._session.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


def http_options(settings: Mapping[str, object], **others: Any) -> HttpOptions:
    """Return the options of a session; settings that are None have their defaults."""
    given: dict[str, Any] = {name: value for name, value in settings.items() if value is not None}
    return HttpOptions(**given, **others)


def named_by(name: str, check: Callable[[], T]) -> T:
    """
    Return the result of a check of an environment variable; its error names the variable.

    Raises:
        ConfigurationError: The check raises it.
    """
    try:
        return check()
    except ConfigurationError as error:
        raise ConfigurationError(f"{name}: {error}") from None
