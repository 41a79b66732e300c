"""
Authentication for CentrePoint: client credentials, exchanged for one bearer token per scope.

Pure: it builds the request to the token endpoint and reads the response.
"""

from __future__ import annotations

from typing import Any

import attrs

from arena_async.errors import ApiError, AuthenticationError, ConfigurationError, ServerError, ThrottledError
from arena_async.protocol.adapter import Auth, Credential
from arena_async.protocol.messages import Request, Response, Secret, show_url
from arena_async.protocol.oauth import is_unknown_client, is_wrong_scope, read_token
from arena_async.providers.centrepoint.adapter import retry_after, server_text

__all__ = ["ANALYTICS", "CENTREPOINT", "DATA_ACCESS", "DATA_RETRIEVAL", "CentrePointAuth", "CentrePointCredentials"]

#: Studies, sites, subjects, monitors, assignments, uploads, webhooks.
CENTREPOINT = "CentrePoint"
#: Dataset files, day files, study programs, dataset export subjects.
DATA_ACCESS = "DataAccess"
#: Daily statistics, minute summaries, sleep periods, event markers.
ANALYTICS = "Analytics"
#: Raw and epoch requests and their files.
DATA_RETRIEVAL = "DataRetrieval"

#: Lifetime of a token, in seconds, when the response does not state it.
_LIFETIME = 600.0


def _text_of_client(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    """Reject what cannot be a client id or secret, without showing it."""
    text = value.reveal() if isinstance(value, Secret) else value
    complete = isinstance(text, str) and text.strip() == text and text.isprintable()
    if not complete or not text:
        raise ConfigurationError(
            f"CentrePointCredentials.{attribute.name} is empty, or has blanks around it or unprintable characters; "
            "it takes the text that ActiGraph issued."
        )


def _secret(value: str | Secret) -> Secret:
    """Wrap plain text, so that it is masked from here on."""
    return Secret(value) if isinstance(value, str) else value


@attrs.frozen
class CentrePointCredentials:
    """
    What ActiGraph issues on request: a client id and its secret. The secret is masked in every ``repr``.

    Args:
        client_id: The client id.
        client_secret: The client secret, as text or as a :class:`~arena_async.protocol.messages.Secret`.

    Raises:
        ConfigurationError: One of them is empty or cannot be sent.
    """

    client_id: str = attrs.field(validator=_text_of_client)
    client_secret: Secret = attrs.field(
        converter=_secret, validator=[attrs.validators.instance_of(Secret), _text_of_client]
    )


@attrs.frozen(kw_only=True)
class CentrePointAuth(Auth):
    """
    The login of CentrePoint: a form to the token endpoint, one token per scope, nothing to log out of.

    A client may lack a scope, and a combined set is then rejected completely; requesting each scope alone, when it is
    first needed, names the one that is missing.

    Args:
        credentials: The client.
        auth_url: The complete address of the token endpoint.
    """

    credentials: CentrePointCredentials
    auth_url: str

    @property
    def account(self) -> str:
        """The client."""
        return self.credentials.client_id

    def login(self, scope: str) -> Request:
        """Return the request for a token of ``scope``."""
        return Request(
            method="POST",
            path=self.auth_url,
            form=(
                ("client_id", self.credentials.client_id),
                ("client_secret", self.credentials.client_secret.reveal()),
                ("grant_type", "client_credentials"),
                ("scope", scope),
            ),
            headers={"Accept": "application/json"},
            scope=None,
            metered=False,
            shown_as=f"{show_url(self.auth_url)} (scope {scope})",
        )

    def read_login(self, response: Response) -> Credential:
        """
        Return the token of a response.

        Raises:
            AuthenticationError: The client or the scope was rejected; the message names the scope.
            ThrottledError: Too many tokens were requested.
            ServerError: The token endpoint failed; it may work later.
            DecodeError: There is no usable bearer token in it.
        """
        if response.status != 200:
            raise _login_error(response)
        return read_token(response, lifetime=_LIFETIME, advice="Check that CENTREPOINT_AUTH_URL is the token endpoint.")


def _login_error(response: Response) -> ApiError:
    """Return the error of a rejected login. The request line names the scope."""
    line, status, text = response.request, response.status, server_text(response)
    kind: type[ApiError] = AuthenticationError
    if status == 429:
        kind, meaning = ThrottledError, "Too many tokens were requested; wait before the next try."
    elif status >= 500 or status == 408:
        kind, meaning = ServerError, "The token endpoint failed; it may work later."
    elif is_wrong_scope(response):
        meaning = "This client is not allowed that scope; ask ActiGraph to add it to the contract."
    elif is_unknown_client(response):
        meaning = (
            "The client id or the client secret is wrong; check CENTREPOINT_CLIENT_ID and CENTREPOINT_CLIENT_SECRET."
        )
    else:
        meaning = "No token was issued; check the credentials and the address of the token endpoint."
    later = kind is not AuthenticationError
    return kind(
        f"{line}: {status}{text}. {meaning}",
        status=status,
        request=line,
        transient=later,
        retry_after=retry_after(response) if later else None,
    )
