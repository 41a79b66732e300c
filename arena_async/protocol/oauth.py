"""
Bearer tokens, as token endpoints of OAuth 2 give them out for client credentials.

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

#: The most and least seconds that a token is believed to live. The least keeps an answer of a few seconds from costing
#: one token per request; a token that dies sooner earns a 401, and that is answered by one new token.
_MIN_LENGTH, _MAX_LENGTH = 120.0, 86_400.0

#: A bearer token as a header can carry it. A JWT is far below the upper bound.
_TOKEN = re.compile(r"[\x21-\x7e]{1,8000}\Z")


def read_token(response: Response, *, lifetime: float, advice: str, workspace: str = "") -> Credential:
    """
    Read a bearer token out of an answer of success.

    Args:
        response: The answer of the token endpoint.
        lifetime: Seconds that a token lives where the answer does not say.
        advice: What to do about an answer without a token, as a whole sentence.
        workspace: The tenant that the token opens, where that is known.

    Raises:
        DecodeError: There is no usable bearer token in it. Nothing of what came is shown.
    """
    payload = parse_json(response.body, request=response.request)
    if not isinstance(payload, dict):
        raise _unusable(response, f"$: a JSON object was expected, got {type(payload).__name__}", advice)
    kind = payload.get("token_type", "Bearer")
    if not isinstance(kind, str) or kind.lower() != "bearer":
        raise _unusable(response, "$.token_type: is not Bearer", advice)
    token = payload.get("access_token")
    if not isinstance(token, str) or not _TOKEN.match(token):
        raise _unusable(response, "$.access_token: is no text that a header can carry", advice)
    seconds = _seconds(payload.get("expires_in"))
    if seconds is None:
        raise _unusable(response, "$.expires_in: is no number of seconds", advice)
    return Credential(
        headers=(("Authorization", Secret(f"Bearer {token}")),),
        lifetime=min(max(seconds, _MIN_LENGTH), _MAX_LENGTH) if seconds > 0 else lifetime,
        workspace=workspace,
    )


def is_wrong_scope(response: Response) -> bool:
    """Say whether a refusal is about what the client asked to be allowed."""
    return b"invalid_scope" in response.body or b"unauthorized_client" in response.body


def is_unknown_client(response: Response) -> bool:
    """Say whether a refusal is about the client id or its secret."""
    return b"invalid_client" in response.body


def _seconds(value: object) -> float | None:
    """Read ``expires_in``: numbers and numeric text; 0 where nothing is said, None for what is no number."""
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
    """Make the error for an answer that says 200 and holds no usable token."""
    return DecodeError(
        f"{response.request}: the answer holds no usable bearer token ({problem}). {advice}",
        problems=(problem,),
        request=response.request,
    )
