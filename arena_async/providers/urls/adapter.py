"""Any web server: errors by their status; there are no logins and no lists. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from arena_async.errors import (
    ApiError,
    ConfigurationError,
    NotFoundError,
    PermissionDeniedError,
    ServerError,
    ThrottledError,
)
from arena_async.protocol.adapter import Adapter, Auth, Credential
from arena_async.protocol.messages import Request, Response

if TYPE_CHECKING:  # Downloads of URLs have no pages.
    from arena_async.protocol.pagination import ListShape, Page, PageRequest

__all__ = ["PlainWeb"]

# https://www.rfc-editor.org/rfc/rfc9110#section-15.6
_TRANSIENT = frozenset({408, 425, 500, 502, 503, 504})


class PlainWeb(Auth, Adapter):
    """The login and the adapter of any web server: no account, no pages, no quota, and errors by their status alone."""

    def login(self, scope: str) -> Request:
        """Raise: no request of a list of addresses needs a credential."""
        raise ConfigurationError(f"A list of addresses has no account to log in to (scope {scope!r}).")

    def read_login(self, response: Response) -> Credential:
        """Raise, as :meth:`login` does."""
        raise ConfigurationError(f"{response.request}: a list of addresses has no account to log in to.")

    def page_params(self, requested: PageRequest) -> tuple[tuple[str, str], ...]:
        """Return nothing: no server lists the files."""
        del requested
        return ()

    def read_page(self, payload: Any, requested: PageRequest, shape: ListShape) -> Page:
        """Raise: no server lists the files."""
        del payload, requested, shape
        raise ConfigurationError("A list of addresses has no pages.")

    def read_error(self, request: Request, response: Response) -> ApiError:
        """Return the typed error of a response. Nothing of its text is shown: it may echo the address."""
        status = response.status
        kind, meaning = _meaning(status)
        transient = status == 429 or status in _TRANSIENT
        return kind(f"{request.line}: {status}. {meaning}", status=status, request=request.line, transient=transient)


def _meaning(status: int) -> tuple[type[ApiError], str]:
    """Return the error class of a status, and what it means."""
    if status in (404, 410):
        return NotFoundError, "There is nothing at this address. Check it, or its source."
    if status in (401, 403, 407):
        return PermissionDeniedError, (
            "The server rejects the request. If the address is a signed one, it may be expired: get a new one. "
            "Otherwise it needs a header, such as Authorization."
        )
    if status == 429:
        return ThrottledError, "The server receives too many requests at once; wait, or use fewer workers."
    if status >= 500 or status in _TRANSIENT:
        return ServerError, "The server is busy or failed; the same request may work later."
    return ApiError, "The server does not accept this request."
