"""How the protections of the security rows are taken away."""

from __future__ import annotations

import logging
import tomllib
from typing import Any

import aiohttp
import pytest
from sabotage import protection

from arena_async.net import session
from arena_async.providers.arena import dialect
from arena_async.wire import messages, urls


@protection("links are shown without their query")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(messages, "show_url", lambda url: url)
    patch.setattr(messages.Request, "line", property(lambda self: f"{self.method} {self.path}"))


@protection("text of the server is scrubbed")
def _(patch: pytest.MonkeyPatch) -> None:
    def as_it_is(text: str, **_: Any) -> str:
        return text

    for module in (messages, dialect, session):
        for name in ("scrub", "printable", "show_url"):
            if hasattr(module, name):
                patch.setattr(module, name, as_it_is)


@protection("secrets are masked wherever they are shown")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(messages.Secret, "__repr__", lambda self: repr(self._text))
    patch.setattr(messages.Secret, "__reduce__", lambda self: (messages.Secret, (self._text,)))


@protection("the HTTP client is shown no secret that it might log")
def _(patch: pytest.MonkeyPatch) -> None:
    real = aiohttp.ClientSession._request

    async def telling(self: Any, method: str, url: Any, **how: Any) -> Any:
        logging.getLogger("aiohttp.client").debug("%s %s %r", method, url, dict(how.get("headers") or {}))
        return await real(self, method, url, **how)

    patch.setattr(aiohttp.ClientSession, "_request", telling)


@protection("a link may not lead into a private network")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(urls.UrlPolicy, "check", lambda self, url: None)
    patch.setattr(urls.UrlPolicy, "check_address", lambda self, ip: None)


@protection("proxies and netrc count only when they are asked for")
def _(patch: pytest.MonkeyPatch) -> None:
    real = aiohttp.ClientSession.__init__

    def trusting(self: Any, **how: Any) -> None:
        real(self, **{**how, "trust_env": True})

    patch.setattr(aiohttp.ClientSession, "__init__", trusting)


@protection("the proxy's password is not shown")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(session.Session, "__repr__", lambda self: f"<Session {self._wire._proxy!r}>", raising=False)


@protection("an identifier is one segment of a path")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(messages, "segment", lambda value, **_: str(value))


@protection("nothing in the environment loosens TLS")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(session, "_checked_context", lambda context: None)
    real = aiohttp.ClientSession._request

    async def careless(self: Any, method: str, url: Any, **how: Any) -> Any:
        return await real(self, method, url, **{**how, "ssl": False})

    patch.setattr(aiohttp.ClientSession, "_request", careless)


@protection("plain http is for this machine only")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(urls, "_is_loopback", lambda host: True)


@protection("the floor of the HTTP client has its fixes")
def _(patch: pytest.MonkeyPatch) -> None:
    real = tomllib.loads

    def lowered(text: str) -> dict[str, Any]:
        project = real(text)
        project["project"]["dependencies"] = ["aiohttp>=3.13.0"]
        return project

    patch.setattr(tomllib, "loads", lowered)
