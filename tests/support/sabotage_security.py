"""How the protections of the security rows are taken away."""

from __future__ import annotations

import logging
import os
import pathlib
import tomllib
import zipfile
from typing import Any

import aiohttp
import pytest
from sabotage import protection

from arena_async.net import session
from arena_async.providers.arena import dialect
from arena_async.transfer import checking, integrity, storage
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


@protection("a final name comes about by a rename")
def _(patch: pytest.MonkeyPatch) -> None:
    def copy(self: Any, folder: Any, name: str, to: Any, new: str) -> None:
        source = os.open(name, os.O_RDONLY, dir_fd=folder)
        target = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600, dir_fd=to)
        os.write(target, os.read(source, 10_000_000))
        os.close(source)
        os.close(target)
        os.unlink(name, dir_fd=folder)

    patch.setattr(storage.FileSystem, "rename", copy)


@protection("a partial file is made anew and never opened through a link")
def _(patch: pytest.MonkeyPatch) -> None:
    def careless(self: Any, folder: Any, name: str, mode: int) -> int:
        return os.open(name, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK, mode, dir_fd=folder)

    def following(self: Any, folder: Any, name: str, *, writable: bool = False) -> int:
        return os.open(name, os.O_RDWR if writable else os.O_RDONLY, dir_fd=folder)

    patch.setattr(storage.FileSystem, "create", careless)
    patch.setattr(storage.FileSystem, "open_file", following)
    patch.setattr(storage.Storage, "_judge", lambda self, file, name: file)
    patch.setattr(storage.Storage, "_is_named", lambda self, file, name: True)


@protection("folders are opened one in the other, without following links")
def _(patch: pytest.MonkeyPatch) -> None:
    def following(self: Any, parent: Any, name: str) -> int:
        return os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=parent)

    patch.setattr(storage.FileSystem, "open_folder", following)


@protection("an archive is stored and never unpacked")
def _(patch: pytest.MonkeyPatch) -> None:
    real = storage.Storage.publish

    def unpacking(self: Any, files: Any, **how: Any) -> Any:
        found = real(self, files, **how)
        for staged in files:
            with zipfile.ZipFile(self.root / staged.path) as archive:
                archive.extractall(self.root)
        return found

    patch.setattr(storage.Storage, "publish", unpacking)


@protection("what a check may produce is bounded")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(checking.Meter, "member", lambda self: None)
    patch.setattr(checking.Meter, "produced", lambda self, count, *, taken: None)


@protection("a member is as long as it says")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(integrity.Inspector, "_check_structure", lambda self, *_, **__: True)


@protection("a stored session is for its owner alone")
def _(patch: pytest.MonkeyPatch) -> None:
    def careless(self: Any, folder: Any, content: bytes) -> None:
        with pathlib.Path(str(self.path)).open("wb") as file:
            file.write(content)

    patch.setattr(storage.PrivateFile, "_replace", careless)
