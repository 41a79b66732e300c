"""What refusals of any web server mean, and that there is nothing to log in to. Pure."""

from __future__ import annotations

from typing import Any

from arena_async.errors import (
    ApiError,
    ConfigurationError,
    NotFoundError,
    PermissionDeniedError,
    ServerError,
    ThrottledError,
)
from arena_async.wire.contracts import Credential
from arena_async.wire.messages import Headers, Request, Response
from arena_async.wire.paging import ListShape, Page, PageRequest
from arena_async.wire.quota import Quota

__all__ = ["NoLogin", "PlainWeb"]

# https://www.rfc-editor.org/rfc/rfc9110#section-15.6
_TRANSIENT = frozenset({408, 425, 500, 502, 503, 504})


class NoLogin:
    """There is no account: each address carries what it needs."""

    def login(self, scope: str) -> Request:
        """Refuse: no request of a list of addresses asks for a credential."""
        del scope
        raise ConfigurationError("A list of addresses has no account to log in to.")

    def read_login(self, response: Response) -> Credential:
        """Refuse, as :meth:`login` does."""
        del response
        raise ConfigurationError("A list of addresses has no account to log in to.")

    def logout(self, credential: Credential) -> Request | None:
        """Give None: there is nothing to end."""
        del credential
        return None


class PlainWeb:
    """Any web server: no pages, no allowance, and refusals by their status alone."""

    def page_params(self, asked: PageRequest) -> tuple[tuple[str, str], ...]:
        """Give none: nothing is listed by a server."""
        del asked
        return ()

    def read_page(self, payload: Any, asked: PageRequest, shape: ListShape) -> Page:
        """Refuse: nothing is listed by a server."""
        del payload, asked, shape
        raise ConfigurationError("A list of addresses has no pages.")

    def read_quota(self, headers: Headers) -> Quota | None:
        """Give None: nobody counts."""
        del headers
        return None

    def read_error(self, request: Request, response: Response) -> ApiError:
        """Make the typed error of a refusal. Nothing of its text is shown: it may echo the address."""
        line, status = request.line, response.status
        if status in (404, 410):
            return NotFoundError(
                f"{line}: {status}. There is nothing at this address. Check it, or ask whoever gave it.",
                status=status,
                request=line,
            )
        if status in (401, 403, 407):
            return PermissionDeniedError(
                f"{line}: {status}. The server does not give this file to us. If the address is a signed one, it may "
                "be over: get a new one. Otherwise it needs a header, such as Authorization.",
                status=status,
                request=line,
            )
        if status == 429:
            return ThrottledError(
                f"{line}: {status}. The server is asked for too much at once; wait, or use fewer workers.",
                status=status,
                request=line,
                transient=True,
            )
        if status >= 500 or status in _TRANSIENT:
            return ServerError(
                f"{line}: {status}. The server is busy or failed; the same request may work later.",
                status=status,
                request=line,
                transient=status in _TRANSIENT,
            )
        return ApiError(f"{line}: {status}. The server does not accept this request.", status=status, request=line)
