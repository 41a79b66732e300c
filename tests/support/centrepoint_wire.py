"""The local CentrePoint over bare streams: a token and a request with it."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

from http_streams import Answer, ask

from arena_async.testing.centrepoint.simulator import CentrePointSimulator

__all__ = ["call"]


async def call(
    simulator: CentrePointSimulator, path: str, *, scope: str = "DataAccess", method: str = "GET", body: Any = None
) -> Answer:
    """Ask for a token and with it for a path of the API."""
    form = {
        "client_id": simulator.client_id,
        "client_secret": simulator.client_secret,
        "grant_type": "client_credentials",
        "scope": scope,
    }
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    token = await ask(simulator.auth_url, "POST", headers=kind, body=urlencode(form).encode())
    headers = {"Authorization": f"Bearer {token.json['access_token']}", "Content-Type": "application/json"}
    sent = b"" if body is None else json.dumps(body).encode()
    return await ask(f"{simulator.base_url}{path}", method, headers=headers, body=sent)
