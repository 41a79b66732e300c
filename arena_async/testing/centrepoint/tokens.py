"""Tokens of the simulated CentrePoint: its token endpoint, and the claims of a token."""

from __future__ import annotations

import base64
import binascii
import hmac
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

from arena_async.testing.centrepoint.settings import CentrePointSettings
from arena_async.testing.replies import Call, Reply

__all__ = ["Tokens"]


class Tokens:
    """Issues tokens and reads them."""

    def __init__(self, settings: CentrePointSettings) -> None:
        self._settings = settings
        #: Tokens that have been revoked.
        self.revoked: set[str] = set()
        self._issued = 0

    def issue(self, call: Call) -> Reply:
        """Respond to a request for a token."""
        if not call.headers.get("Content-Type", "").startswith("application/x-www-form-urlencoded"):
            return _oauth_error("invalid_request")
        form = dict(parse_qsl(call.body.decode("utf-8", "replace"), keep_blank_values=True))
        if form.get("grant_type") != "client_credentials":
            return _oauth_error("unsupported_grant_type")
        if (form.get("client_id"), form.get("client_secret")) != (
            self._settings.client_id,
            self._settings.client_secret,
        ):
            return _oauth_error("invalid_client")
        wanted = form.get("scope", "").split()
        if not wanted or not set(wanted) <= set(self._settings.scopes):
            return _oauth_error("invalid_scope")
        self._issued += 1
        claims = {
            "client_id": self._settings.client_id,
            "scope": wanted,
            "exp": self._settings.clock() + self._settings.token_lifetime,
        }
        signed = f"{_base64({'alg': 'HS256', 'typ': 'JWT'})}.{_base64({**claims, 'jti': self._issued})}"
        token = f"{signed}.{_mac(self._settings.client_secret.encode(), signed)}"
        return Reply.json(
            {"access_token": token, "expires_in": int(self._settings.token_lifetime), "token_type": "Bearer"}
        )

    def claims(self, token: str) -> Mapping[str, Any] | None:
        """Return the claims of a valid token, or None."""
        signed, _, mac = token.rpartition(".")
        if token in self.revoked or not hmac.compare_digest(
            mac.encode("utf-8", "replace"), _mac(self._settings.client_secret.encode(), signed).encode()
        ):
            return None
        claims: Mapping[str, Any] = json.loads(_unbase64(signed.partition(".")[2]))
        return claims if claims["exp"] > self._settings.clock() else None


def _oauth_error(name: str) -> Reply:
    """Return an error of the token endpoint."""
    return Reply.json({"error": name}, status=400)


def _base64(value: object) -> str:
    """Encode a part of a token."""
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def _unbase64(text: str) -> bytes:
    """Decode a part of a token."""
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (ValueError, binascii.Error):
        return b"{}"


def _mac(key: bytes, text: str) -> str:
    """Sign text."""
    return base64.urlsafe_b64encode(hmac.digest(key, text.encode("utf-8", "replace"), "sha256")).rstrip(b"=").decode()
