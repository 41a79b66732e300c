"""
Bearer tokens of OAuth 2 token endpoints, for client credentials.

https://www.rfc-editor.org/rfc/rfc6749#section-5.1
"""

from __future__ import annotations

import math
import re

from arena_async.errors import DecodeError
from arena_async.protocol.adapter import Credential
from arena_async.protocol.decoding import parse_json
from arena_async.protocol.messages import Response, Secret

__all__ = ["is_unknown_client", "is_wrong_scope", "read_token"]

#: Limits of the lifetime of a token, in seconds. The minimum prevents one token per request after a lifetime of a few
#: seconds; a token that expires sooner causes a 401 and then one new token.
_MIN_LENGTH, _MAX_LENGTH = 120.0, 86_400.0

#: A bearer token as a header can carry it. A JWT is far below the upper bound.
_TOKEN = re.compile(r"[\x21-\x7e]{1,8000}\Z")


def read_token(response: Response, *, lifetime: float, advice: str, workspace: str = "") -> Credential:
    """
    Read a bearer token from a successful response.

    Args:
        response: The response of the token endpoint.
        lifetime: Lifetime of a token in seconds, if the response does not state it.
        advice: What to do about a response without a token, as a sentence.
        workspace: The tenant of the token, if known.

    Raises:
        DecodeError: There is no usable bearer token in it. Nothing of the body is shown.
    """
    payload = parse_json(response.body, request=response.request)
    if not isinstance(payload, dict):
        raise _unusable(response, f"$: a JSON object was expected, got {type(payload).__name__}", advice)
    kind = payload.get("token_type", "Bearer")
    if not isinstance(kind, str) or kind.lower() != "bearer":
        raise _unusable(response, "$.token_type: is not Bearer", advice)
    token = payload.get("access_token")
    if not isinstance(token, str) or not _TOKEN.match(token):
        raise _unusable(response, "$.access_token: is not text that a header can carry", advice)
    seconds = _seconds(payload.get("expires_in"))
    if seconds is None:
        raise _unusable(response, "$.expires_in: is not a number of seconds", advice)
    return Credential(
        headers=(("Authorization", Secret(f"Bearer {token}")),),
        lifetime=min(max(seconds, _MIN_LENGTH), _MAX_LENGTH) if seconds > 0 else lifetime,
        workspace=workspace,
    )


def is_wrong_scope(response: Response) -> bool:
    """Return whether the error is about the requested scope."""
    return b"invalid_scope" in response.body or b"unauthorized_client" in response.body


def is_unknown_client(response: Response) -> bool:
    """Return whether the error is about the client id or its secret."""
    return b"invalid_client" in response.body


def _seconds(value: object) -> float | None:
    """Read ``expires_in``, a number or numeric text; 0 if it is missing, None if it is not a number."""
    if value is None:
        return 0.0
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return None if math.isnan(number) else number


def _unusable(response: Response, problem: str, advice: str) -> DecodeError:
    """Return the error for a response of status 200 without a usable token."""
    return DecodeError(
        f"{response.request}: the response has no usable bearer token ({problem}). {advice}",
        problems=(problem,),
        request=response.request,
    )
