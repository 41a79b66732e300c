"""
The smallest provider there can be, for tests of the network room: it logs in, spells pages and reads refusals.

``POST /login`` gives ``{"id": ..., "idle": ..., "lifetime": ...}``, the credential goes into the header ``Session-Id``,
``PUT /logout`` ends it, lists are ``{"count": ..., "results": [...]}``, and ``X-Remaining`` / ``X-Resets-At`` tell the
allowance.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from arena_async.errors import (
    AccountLockedError,
    ApiError,
    AuthenticationError,
    DecodeError,
    NotFoundError,
    PermissionDeniedError,
    QuotaExhaustedError,
    ServerError,
    ThrottledError,
)
from arena_async.http.login import Authentication
from arena_async.http.session import Session
from arena_async.options import Clock, HttpOptions, RetryPolicy
from arena_async.protocol.adapter import Credential
from arena_async.protocol.messages import Headers, Request, Response, Secret
from arena_async.protocol.pagination import ListShape, Page, PageRequest
from arena_async.protocol.quota import DailyQuota, Quota, RateLimiter

__all__ = ["PASSWORD", "PlainAuth", "PlainDialect", "new_session", "session_with"]

PASSWORD = "pass-canary-77"
#: Tries again at once, so that no test waits.
EAGER = RetryPolicy(wait_initial=0, wait_jitter=0)


class PlainAuth:
    """Logs in with a password."""

    def __init__(self, login_url: str = "/login") -> None:
        self._login_url = login_url

    def login(self, scope: str) -> Request:
        return Request(method="POST", path=self._login_url, json={"password": PASSWORD, "scope": scope}, scope=None)

    def read_login(self, response: Response) -> Credential:
        if response.status != 200:
            raise _login_refused(response)
        payload = json.loads(response.body)
        if not isinstance(payload.get("id"), str):
            raise DecodeError("The answer to the login has no id.")
        return Credential(
            headers=(("Session-Id", Secret(payload["id"])),),
            idle_lifetime=payload.get("idle"),
            lifetime=payload.get("lifetime"),
            request_limit=payload.get("limit"),
        )

    def logout(self, credential: Credential) -> Request | None:
        return Request(method="PUT", path="/logout", metered=False)


def _login_refused(response: Response) -> ApiError:
    if response.status == 423:
        at = datetime.fromisoformat(json.loads(response.body)["until"])
        return AccountLockedError("Locked.", status=423, retry_at=at)
    if response.status >= 500:
        return ServerError("Away.", status=response.status, transient=True)
    return AuthenticationError("The login was refused.", status=response.status)


class PlainDialect:
    """Spells pages, allowance and refusals."""

    def page_params(self, requested: PageRequest) -> tuple[tuple[str, str], ...]:
        return (("offset", str(requested.offset)), ("limit", str(requested.limit)))

    def read_page(self, payload: Any, requested: PageRequest, shape: ListShape) -> Page:
        if not isinstance(payload, dict) or not isinstance(payload.get("results"), list):
            raise DecodeError("It is no page.")
        return Page(
            items=tuple(payload["results"]),
            offset=requested.offset,
            limit=requested.limit,
            total=payload.get("count"),
            echoed_offset=payload.get("offset"),
            echoed_limit=payload.get("limit"),
        )

    def read_quota(self, headers: Headers) -> Quota | None:
        remaining, resets_at = headers.get("X-Remaining"), headers.get("X-Resets-At")
        if remaining is None:
            return None
        return Quota(
            remaining=int(remaining), resets_at=datetime.fromisoformat(resets_at).astimezone(UTC) if resets_at else None
        )

    def read_error(self, request: Request, response: Response) -> ApiError:
        status, line = response.status, request.line
        if status == 401:
            return AuthenticationError(f"{line}: 401.", status=401, stale_login=True, request=line)
        if status == 403:
            return PermissionDeniedError(f"{line}: 403.", status=403, request=line)
        if status == 404:
            return NotFoundError(f"{line}: 404.", status=404, request=line)
        if status == 429 and b"4084" in response.body:
            quota = self.read_quota(response.headers)
            resets_at = quota.resets_at if quota else None
            return QuotaExhaustedError(f"{line}: used up.", status=429, code=4084, resets_at=resets_at, remaining=0)
        if status == 429:
            return ThrottledError(f"{line}: too fast.", status=429, request=line, transient=True)
        if status in (500, 502, 503, 504):
            return ServerError(f"{line}: {status}.", status=status, request=line, transient=True)
        return ApiError(f"{line}: {status}.", status=status, request=line)


def new_session(
    base_url: str, *, limiter: RateLimiter | None = None, auth: PlainAuth | None = None, **options: Any
) -> Session:
    """Build a session for the plain provider that tries again without waiting."""
    return session_with(
        auth or PlainAuth(), PlainDialect(), limiter or DailyQuota(), base_url, **{"retry": EAGER, **options}
    )


def session_with(auth: Any, adapter: Any, limiter: RateLimiter, base_url: str, **options: Any) -> Session:
    """Build a session from single settings, in whichever of its values they belong."""
    ways = {name: options.pop(name) for name in ("store", "given", "renewable") if name in options}
    times = {name: options.pop(name) for name in ("clock", "sleep", "random", "now") if name in options}
    clock = Clock(**{"monotonic" if name == "clock" else name: value for name, value in times.items()})
    urls = options.pop("urls", None)
    found = {name: value for name, value in options.items() if value is not None}
    return Session(
        Authentication(auth=auth, **ways),
        adapter,
        limiter,
        base_url=base_url,
        urls=urls,
        options=HttpOptions(**found, clock=clock),
    )
