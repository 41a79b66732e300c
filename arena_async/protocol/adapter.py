"""What a provider supplies to the HTTP session: an :class:`Auth` and an :class:`Adapter`, both pure."""

from __future__ import annotations

from typing import Any, Protocol

import attrs

from arena_async.errors import ApiError
from arena_async.protocol.messages import Headers, Request, Response, Secret
from arena_async.protocol.pagination import ListShape, Page, PageRequest
from arena_async.protocol.quota import Quota

__all__ = ["Adapter", "Auth", "Credential"]


@attrs.frozen(kw_only=True)
class Credential:
    """
    What a login gave. Its ``repr`` shows no secret.

    Args:
        headers: The headers that carry it, by name.
        lifetime: Seconds from the login after which it is over, or None.
        idle_lifetime: Seconds without any request after which it is over, or None.
        workspace: The workspace or tenant the login landed in, as text, or "".
        request_limit: Requests a day that the login announced, or None.
    """

    headers: tuple[tuple[str, Secret], ...]
    lifetime: float | None = None
    idle_lifetime: float | None = None
    workspace: str = ""
    request_limit: int | None = None


class Auth(Protocol):
    """How a provider logs in. Pure: it says what to send and reads what came."""

    def login(self, scope: str) -> Request:
        """Give the request that logs in for ``scope``; it needs no credential (``scope=None``)."""
        ...

    def read_login(self, response: Response) -> Credential:
        """
        Read the answer to a login.

        Raises:
            ApiError: The login was refused.
            DecodeError: The answer is not what the service documents.
        """
        ...

    def logout(self, credential: Credential) -> Request | None:
        """Give the request that ends the session, or None where there is nothing to end."""
        ...


class Adapter(Protocol):
    """How a provider spells pages, quota and refusals. Pure."""

    def page_params(self, requested: PageRequest) -> tuple[tuple[str, str], ...]:
        """Give the query that asks for a page."""
        ...

    def read_page(self, payload: Any, requested: PageRequest, shape: ListShape) -> Page:
        """
        Read the rows of a page out of its parsed JSON.

        Raises:
            DecodeError: It is no page.
        """
        ...

    def read_quota(self, headers: Headers) -> Quota | None:
        """Read what is left of the allowance, or None when the answer does not say."""
        ...

    def read_error(self, request: Request, response: Response) -> ApiError:
        """Make the typed error of an answer that is a refusal, ``transient`` and ``stale_login`` included."""
        ...
