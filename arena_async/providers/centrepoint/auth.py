"""
How a CentrePoint client proves who it is: client credentials, traded for one bearer token per scope.

Pure: it says what to send to the token endpoint and reads what came back.
"""

from __future__ import annotations

import math
import re
from typing import Any

import attrs

from arena_async.errors import (
    ApiError,
    AuthenticationError,
    ConfigurationError,
    DecodeError,
    ServerError,
    ThrottledError,
)
from arena_async.providers.centrepoint.dialect import retry_after, server_text
from arena_async.wire.contracts import Credential
from arena_async.wire.decoding import parse_json
from arena_async.wire.messages import Request, Response, Secret, show_url

__all__ = [
    "ANALYTICS",
    "CENTREPOINT",
    "DATA_ACCESS",
    "DATA_RETRIEVAL",
    "SCOPES",
    "CentrePointAuth",
    "CentrePointCredentials",
]

#: Studies, sites, subjects, monitors, assignments, uploads, webhooks.
CENTREPOINT = "CentrePoint"
#: Dataset files, day files, study programs, dataset export subjects.
DATA_ACCESS = "DataAccess"
#: Daily statistics, minute summaries, sleep periods, event markers.
ANALYTICS = "Analytics"
#: Raw and epoch requests and their files.
DATA_RETRIEVAL = "DataRetrieval"

SCOPES = (CENTREPOINT, DATA_ACCESS, ANALYTICS, DATA_RETRIEVAL)

#: Seconds a token is taken to live when the answer does not say, and the most and least that is believed. The least
#: keeps an answer of a few seconds from costing one token per request; a token that dies sooner earns a 401, and
#: that is answered by one new token.
_LIFETIME, _SHORTEST, _LONGEST = 600.0, 120.0, 86_400.0

#: A bearer token as a header can carry it. A JWT is far below the upper bound.
_TOKEN = re.compile(r"[\x21-\x7e]{1,8000}\Z")


def _text_of_client(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    """Refuse what cannot be a client id or secret, without showing it."""
    text = value.reveal() if isinstance(value, Secret) else value
    whole = isinstance(text, str) and text.strip() == text and text.isprintable()
    if not whole or not text:
        raise ConfigurationError(
            f"CentrePointCredentials.{attribute.name} is empty, or has blanks around it or unprintable characters; "
            "it takes the text that ActiGraph issued."
        )


def _secret(value: Any) -> Any:
    """Wrap plain text, so that it is masked from here on."""
    return Secret(value) if isinstance(value, str) else value


@attrs.frozen
class CentrePointCredentials:
    """
    What ActiGraph issues on request: a client id and its secret. The secret is masked in every ``repr``.

    Args:
        client_id: The client id.
        client_secret: The client secret, as text or as a :class:`~arena_async.wire.messages.Secret`.

    Raises:
        ConfigurationError: One of them is empty or cannot be sent.
    """

    client_id: str = attrs.field(validator=_text_of_client)
    client_secret: Secret = attrs.field(
        converter=_secret, validator=[attrs.validators.instance_of(Secret), _text_of_client]
    )


@attrs.frozen(kw_only=True)
class CentrePointAuth:
    """
    The login of CentrePoint: a form to the token endpoint, one token per scope, nothing to log out of.

    A client may lack a scope, and a combined set is then refused as a whole; asking for each scope alone, when a
    request first needs it, names the one that is missing.

    Args:
        credentials: Who asks.
        auth_url: The whole address of the token endpoint.
    """

    credentials: CentrePointCredentials
    auth_url: str

    def login(self, scope: str) -> Request:
        """Give the request for a token that opens ``scope``."""
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
        Read the token out of the answer.

        Raises:
            AuthenticationError: The client or the scope was refused; the message names the scope.
            ThrottledError: Too many tokens were asked for.
            ServerError: The token endpoint failed; it may work later.
            DecodeError: There is no usable bearer token in it.
        """
        if response.status != 200:
            raise _refusal(response)
        payload = parse_json(response.body, request=response.request)
        if not isinstance(payload, dict):
            raise _unusable(response, f"$: a JSON object was expected, got {type(payload).__name__}")
        kind = payload.get("token_type", "Bearer")
        if not isinstance(kind, str) or kind.lower() != "bearer":
            raise _unusable(response, "$.token_type: is not Bearer")
        token = payload.get("access_token")
        if not isinstance(token, str) or not _TOKEN.match(token):
            raise _unusable(response, "$.access_token: is no text that a header can carry")
        return Credential(
            headers=(("Authorization", Secret(f"Bearer {token}")),),
            lifetime=_lifetime(payload.get("expires_in"), response),
        )

    def logout(self, credential: Credential) -> Request | None:
        """Give None: a token cannot be given back, it ends by itself."""
        del credential
        return None


def _lifetime(value: object, response: Response) -> float:
    """Read ``expires_in`` in seconds: numbers and numeric text, a default for nothing, bounds for the absurd."""
    if value is None:
        return _LIFETIME
    number = math.nan
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        try:
            number = float(value)
        except (ValueError, OverflowError):
            number = math.nan
    if math.isnan(number):
        raise _unusable(response, "$.expires_in: is no number of seconds")
    if number <= 0:
        return _LIFETIME
    return min(max(number, _SHORTEST), _LONGEST)


def _unusable(response: Response, problem: str) -> DecodeError:
    """Make the error for an answer that says 200 and holds no usable token; nothing of the token is shown."""
    return DecodeError(
        f"{response.request}: the answer holds no usable bearer token ({problem}). "
        "Check that CENTREPOINT_AUTH_URL is the token endpoint.",
        problems=(problem,),
        request=response.request,
    )


def _refusal(response: Response) -> ApiError:
    """Make the error for a login that was refused. The request line names the scope."""
    line, status, said = response.request, response.status, server_text(response)
    if status == 429:
        wait = retry_after(response)
        return ThrottledError(
            f"{line}: 429{said}. Too many tokens were asked for; wait before the next try.",
            status=status,
            request=line,
            transient=True,
            retry_after=wait,
        )
    if status >= 500 or status == 408:
        return ServerError(
            f"{line}: {status}{said}. The token endpoint failed; it may work later.",
            status=status,
            request=line,
            transient=True,
            retry_after=retry_after(response),
        )
    return AuthenticationError(f"{line}: {status}{said}. {_advice(response)}", status=status, request=line)


def _advice(response: Response) -> str:
    """Say what a refused login means, by the error name that OAuth 2 gives."""
    body = response.body
    if b"invalid_scope" in body or b"unauthorized_client" in body:
        return "This client is not allowed that scope; ask ActiGraph to add it to the contract."
    if b"invalid_client" in body:
        return "The client id or the client secret is wrong; check CENTREPOINT_CLIENT_ID and CENTREPOINT_CLIENT_SECRET."
    return "No token was given; check the credentials and the address of the token endpoint."
