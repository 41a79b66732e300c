"""What the tests of the Arena client need around a raw server: a client that talks to it, and answers as documented."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scripted import RawServer, Reply, json_reply

from arena_async.options import RetryPolicy
from arena_async.providers.arena import ArenaClient, ArenaCredentials

__all__ = ["CREDENTIALS", "QUOTA", "SESSION_ID", "arena_client", "error_reply", "page_reply", "payload", "script_login"]

CREDENTIALS = ArenaCredentials("robot@everyroadgps.com", "planted-password")
SESSION_ID = "ML4nT3dS3ss10n1dOfAnArenaUser"
#: The headers that stand on every answer.
QUOTA = {
    "X-Arena-Requests-Remaining": "9000",
    "X-Arena-Next-Request-Limit-Reset": "Fri, 02-May-2036 14:22:13 GMT-0700 (PDT)",
}


def payload(name: str) -> Any:
    """Return a payload as the pages print it."""
    return json.loads((Path(__file__).parents[1] / "payloads" / name).read_text("utf-8"))


def script_login(server: RawServer) -> None:
    """Let the server answer login and logout as the pages say."""
    server.on("POST", "/v1/login", json_reply(payload("arena_login.json")))
    server.on("PUT", "/v1/logout", Reply(headers=tuple(QUOTA.items())))


def arena_client(server: RawServer, **options: Any) -> ArenaClient:
    """Build a client of a scripted server that never waits before it tries again."""
    script_login(server)
    options = {"workspace_id": 896256783, "retry": RetryPolicy(wait_initial=0, wait_jitter=0), **options}
    return ArenaClient(CREDENTIALS, base_url=f"{server.base_url}/v1", **options)


def page_reply(*rows: Mapping[str, Any], count: int | None = None) -> Reply:
    """Answer with a page of rows."""
    return json_reply({"count": len(rows) if count is None else count, "results": list(rows)}, headers=QUOTA)


def error_reply(name: str) -> Reply:
    """Answer with an error as the pages print it."""
    content = payload(name)
    return json_reply(content, content["status"], headers=QUOTA)
