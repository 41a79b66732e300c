"""What a provider supplies to the HTTP session: an :class:`Auth` and an :class:`Adapter`, both pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import attrs

from arena_async.errors import ApiError
from arena_async.protocol.messages import Headers, Request, Response, Secret
from arena_async.protocol.quota import Quota

if TYPE_CHECKING:  # Downloads of URLs have no pages.
    from arena_async.protocol.pagination import ListShape, Page, PageRequest

__all__ = ["Adapter", "Auth", "Credential"]


@attrs.frozen(kw_only=True)
class Credential:
    """
    The result of a login. Its ``repr`` shows no secret.

    Args:
        headers: The headers that carry it, by name.
        lifetime: Seconds from the login until it expires, or None.
        idle_lifetime: Seconds without any request until it expires, or None.
        workspace: The workspace or tenant of the login, as text, or "".
        request_limit: Requests per day as stated by the login, or None.
    """

    headers: tuple[tuple[str, Secret], ...]
    lifetime: float | None = None
    idle_lifetime: float | None = None
    workspace: str = ""
    request_limit: int | None = None


class Auth(Protocol):
    """
    How a provider logs in. Pure: it builds requests and reads responses.

    A class that inherits from it has no logout, unless it defines one. An attribute ``account`` may state whose login
    it is, in a text that is the same for each login and no secret.
    """

    def login(self, scope: str) -> Request:
        """Return the request that logs in for ``scope``; it needs no credential (``scope=None``)."""
        ...

    def read_login(self, response: Response) -> Credential:
        """
        Read the response to a login.

        Raises:
            ApiError: The login was rejected.
            DecodeError: The response is not what the service documents.
        """
        ...

    def logout(self, credential: Credential) -> Request | None:
        """Return the request that ends the session, or None if there is nothing to end."""
        del credential
        return None


class Adapter(Protocol):
    """
    How a provider formats pages, quota and errors. Pure.

    A class that inherits from it reads no quota, unless it defines how.
    """

    def page_params(self, requested: PageRequest) -> tuple[tuple[str, str], ...]:
        """Return the query parameters of a page."""
        ...

    def read_page(self, payload: Any, requested: PageRequest, shape: ListShape) -> Page:
        """
        Read the rows of a page from its parsed JSON.

        Raises:
            DecodeError: It is not a page.
        """
        ...

    def read_quota(self, headers: Headers) -> Quota | None:
        """Read the remaining quota, or return None if the response does not state it."""
        del headers
        return None

    def read_error(self, request: Request, response: Response) -> ApiError:
        """Return the typed error of an error response, with ``transient`` and ``stale_login`` set."""
        ...
