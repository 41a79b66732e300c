"""How the protections of the security rows are removed."""

from __future__ import annotations

import logging
import os
import tomllib
import types
import zipfile
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from sabotage import Patch, protection

from arena_async.errors import StorageError
from arena_async.protocol.messages import Secret


@protection("links are shown without their query")
def _(patch: Patch) -> None:
    patch.replace("arena_async.protocol.messages:show_url", lambda url: url)
    patch.replace("arena_async.protocol.messages:Request.line", property(lambda self: f"{self.method} {self.path}"))


@protection("text of the server is scrubbed")
def _(patch: Patch) -> None:
    def as_it_is(text: str, **_: Any) -> str:
        return text

    for name in ("scrub", "printable", "show_url"):
        patch.replace(f"arena_async.protocol.messages:{name}", as_it_is)


@protection("secrets are masked wherever they are shown")
def _(patch: Patch) -> None:
    patch.replace("arena_async.protocol.messages:Secret.__repr__", lambda self: repr(self._text))
    patch.replace("arena_async.protocol.messages:Secret.__reduce__", lambda self: (Secret, (self._text,)))


@protection("the HTTP client is shown no secret that it might log")
def _(patch: Patch) -> None:
    real = aiohttp.ClientSession._request

    async def log_lines(self: Any, method: str, url: Any, **how: Any) -> Any:
        logging.getLogger("aiohttp.client").debug("%s %s %r", method, url, dict(how.get("headers") or {}))
        return await real(self, method, url, **how)

    patch.replace("aiohttp:ClientSession._request", log_lines)


@protection("a link may not lead into a private network")
def _(patch: Patch) -> None:
    patch.replace("arena_async.protocol.urls:UrlPolicy.check", lambda self, url: None)
    patch.replace("arena_async.protocol.urls:UrlPolicy.check_address", lambda self, ip: None)


@protection("a URL of an odd shape is refused")
def _(patch: Patch) -> None:
    parts = patch.current("arena_async.protocol.urls:_UrlParts")

    def lenient(url: str) -> Any:
        read = urlsplit(url)
        return parts("https", read.hostname or "files.example.com", 443)

    patch.replace("arena_async.protocol.urls:_split", lenient)
    patch.replace("arena_async.protocol.urls:UrlPolicy.check", lambda self, url: None)
    patch.replace("arena_async.protocol.urls:UrlPolicy.check_address", lambda self, ip: None)


@protection("proxies and netrc count only when they are asked for")
def _(patch: Patch) -> None:
    real = aiohttp.ClientSession.__init__

    def trusting(self: Any, **how: Any) -> None:
        real(self, **{**how, "trust_env": True})

    patch.replace("aiohttp:ClientSession.__init__", trusting)


@protection("the proxy's password is not shown")
def _(patch: Patch) -> None:
    patch.add(
        "arena_async.http.session:Session.__repr__", lambda self: f"<Session {self._exchange.connections._options!r}>"
    )


@protection("an identifier is one segment of a path")
def _(patch: Patch) -> None:
    patch.replace("arena_async.protocol.messages:segment", lambda value, **_: str(value))


@protection("nothing in the environment loosens TLS")
def _(patch: Patch) -> None:
    patch.replace("arena_async.http.exchange:_ssl", types.SimpleNamespace(SSLContext=object))
    real = aiohttp.ClientSession._request

    async def careless(self: Any, method: str, url: Any, **how: Any) -> Any:
        return await real(self, method, url, **{**how, "ssl": False})

    patch.replace("aiohttp:ClientSession._request", careless)


@protection("plain http is for this machine only")
def _(patch: Patch) -> None:
    patch.replace("arena_async.protocol.urls:_is_loopback", lambda host: True)


@protection("this machine may be asked in plain http")
def _(patch: Patch) -> None:
    patch.replace("arena_async.protocol.urls:_is_loopback", lambda host: False)


@protection("the floor of the HTTP client has its fixes")
def _(patch: Patch) -> None:
    real = tomllib.loads

    def lowered(text: str) -> dict[str, Any]:
        project = real(text)
        project["project"]["dependencies"] = ["aiohttp>=3.13.0"]
        return project

    patch.replace("tomllib:loads", lowered)


@protection("a final name comes about by a rename")
def _(patch: Patch) -> None:
    def copy(self: Any, directory: Any, name: str, to: Any, new: str) -> None:
        source = os.open(name, os.O_RDONLY, dir_fd=directory)
        target = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600, dir_fd=to)
        os.write(target, os.read(source, 10_000_000))
        os.close(source)
        os.close(target)
        os.unlink(name, dir_fd=directory)

    patch.replace("arena_async.transfer.filesystem:FileSystem.rename", copy)


@protection("a partial file is made anew and never opened through a link")
def _(patch: Patch) -> None:
    def careless(self: Any, directory: Any, name: str, mode: int) -> int:
        return os.open(name, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK, mode, dir_fd=directory)

    def following(self: Any, directory: Any, name: str, *, writable: bool = False) -> int:
        return os.open(name, os.O_RDWR if writable else os.O_RDONLY, dir_fd=directory)

    patch.replace("arena_async.transfer.filesystem:FileSystem.create", careless)
    patch.replace("arena_async.transfer.filesystem:FileSystem.open_file", following)
    patch.replace("arena_async.transfer:PartialFiles._judge", lambda self, file, directory, name: file)
    patch.replace("arena_async.transfer:_has_name", lambda *_: True)


@protection("what lies under the key of a partial file is no partial file by that")
def _(patch: Patch) -> None:
    create = patch.current("arena_async.transfer.filesystem:FileSystem.create")

    def believing(self: Any, directory: Any, name: str, mode: int) -> Any:
        for found in self.names(directory):
            if name.endswith(".part") and found.partition("-")[0] == name.partition("-")[0]:
                return os.open(found, os.O_RDWR | os.O_NONBLOCK, dir_fd=directory)
        return create(self, directory, name, mode)

    patch.replace("arena_async.transfer.filesystem:FileSystem.create", believing)
    patch.replace("arena_async.transfer:PartialFiles.find", lambda self, key: None)
    patch.replace("arena_async.transfer:_has_name", lambda *_: True)


@protection("directories are opened one inside the other, without following links")
def _(patch: Patch) -> None:
    def following(self: Any, parent: Any, name: str) -> int:
        return os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=parent)

    patch.replace("arena_async.transfer.filesystem:FileSystem.open_directory", following)


@protection("an archive is stored and never unpacked")
def _(patch: Patch) -> None:
    def unpacking(partials: Any, files: Any, **how: Any) -> Any:
        found = publish(partials, files, **how)
        root = partials.directory.root
        for partial in files:
            with zipfile.ZipFile(root / partial.path) as archive:
                archive.extractall(root)
        return found

    publish = patch.replace("arena_async.transfer:publish", unpacking)


@protection("what a check may produce is bounded")
def _(patch: Patch) -> None:
    patch.replace("arena_async.transfer:Meter.member", lambda self: None)
    patch.replace("arena_async.transfer:Meter.produced", lambda self, count, *, taken: None)


@protection("a member is as long as it says")
def _(patch: Patch) -> None:
    patch.replace("arena_async.transfer:ContentVerifier._check_structure", lambda self, *_, **__: True)


@protection("a stored session is for its owner alone")
def _(patch: Patch) -> None:
    given = patch.current("arena_async.transfer.filesystem:FileSystem.create")
    patch.replace(
        "arena_async.transfer.filesystem:FileSystem.create",
        lambda self, directory, name, _: given(self, directory, name, 0o666),
    )


@protection("what another user made is not believed")
def _(patch: Patch) -> None:
    patch.replace("arena_async.transfer:Directory._check_owner", lambda self, handle, us: None)


@protection("those who may write in a folder share its state")
def _(patch: Patch) -> None:
    given = patch.current("arena_async.transfer:Directory._check_owner")

    def to_myself(self: Any, handle: Any, us: int) -> None:
        given(self, handle, us)
        if self.files.look_open(handle).st_uid != us:
            raise StorageError(f"{self.root}: it belongs to another user.")

    patch.replace("arena_async.transfer:Directory._check_owner", to_myself)


@protection("names in the ledger are checked like those of a server")
def _(patch: Patch) -> None:
    patch.replace("arena_async.transfer.ledger_rows:_is_ours", lambda fields: isinstance(fields["key"], str))


@protection("a ledger has our tables and numbers and nothing else")
def _(patch: Patch) -> None:
    patch.replace("arena_async.transfer.ledger:is_damage", lambda error: False)


@protection("leases and claims that no run can have written are removed")
def _(patch: Patch) -> None:
    # It stays, and is only left out of what is read.
    patch.replace("arena_async.transfer.leases:_FORGET_ODD", "DELETE FROM leases WHERE 0")
    given = patch.current("arena_async.transfer.leases:select")
    patch.replace(
        "arena_async.transfer.leases:select",
        lambda db, but: [one for one in given(db, but) if isinstance(one.process.pid, int)],
    )
    patch.replace("arena_async.transfer.leases:_FORGET_ORPHANS", "DELETE FROM claims WHERE 0 AND run <> ?")


@protection("a control record has a validator and numbers that a server can have sent")
def _(patch: Patch) -> None:
    patch.replace("arena_async.transfer:ControlRecord.is_valid", lambda self: True)
