"""
Azurite, the emulator of Azure Blob Storage, and links to what it holds, signed the way the real service wants them.

It belongs to the test that starts it: certificate, log and process are in that test's hands, what it holds is in its
memory. Facts about it: it reports usage unless told not to, and it takes unsigned tokens over TLS.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import io
import json
import os
import re
import secrets
import shutil
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote, urlencode, urlsplit
from xml.etree import ElementTree as ET

import aiohttp
import attrs
import trustme
import yarl

from arena_async.testing.centrepoint.storage import Storage

__all__ = ["Answered", "AzureLinks", "Azurite"]

#: Seconds that it may take to listen, or to end.
PATIENCE = 60.0
#: The version of the protocol whose signatures are made here; Azurite 3.35.0 does not know the fields of later ones.
VERSION = "2024-11-04"
ACCOUNT, CONTAINER = "arenatests", "studies"
TENANT, OBJECT = "c004fd6f-8ed9-42bd-9303-191038d839e2", "444eeefb-b1cf-4b7b-804f-65129cd5fa9e"

_LISTENS = re.compile(rb"successfully listens? on (https://127\.0\.0\.1:[0-9]+)")
_LINE = re.compile(r'"(?P<method>[A-Z]+) (?P<target>\S+) HTTP/1\.1" (?P<status>[0-9]{3})')


@attrs.frozen
class Answered:
    """One line of its own log: what was asked, with its query, and what it answered."""

    method: str
    target: str
    status: int

    @property
    def blob(self) -> str:
        """The name of the blob."""
        return urlsplit(self.target).path.removeprefix(f"/{ACCOUNT}/{CONTAINER}/")


class Azurite:
    """
    One Azurite with one container; an async context manager.

    Args:
        home: A folder of its own.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.origin = ""
        authority = trustme.CA()
        self.trust = ssl.create_default_context()
        authority.configure_trust(self.trust)
        issued = authority.issue_cert("127.0.0.1")
        self._key = home / "azurite-key.pem"
        self._certificate = home / "azurite-cert.pem"
        issued.private_key_pem.write_to_path(str(self._key))
        for pem in issued.cert_chain_pems:
            pem.write_to_path(str(self._certificate), append=True)
        self._account_key = base64.b64encode(secrets.token_bytes(64)).decode()
        self._delegated: dict[str, str] = {}
        self._process: asyncio.subprocess.Process | None = None
        self._log = bytearray()
        self._reader: asyncio.Task[None] | None = None
        self._http: aiohttp.ClientSession | None = None

    # Its life

    async def __aenter__(self) -> Self:
        program = shutil.which("azurite-blob")
        assert program, "azurite-blob is not installed; the nox session `real` does that with npm"
        options = ["--blobHost", "127.0.0.1", "--blobPort", "0", "--inMemoryPersistence", "--extentMemoryLimit", "512"]
        options += ["--disableTelemetry", "--skipApiVersionCheck", "--oauth", "basic"]
        options += ["--cert", str(self._certificate), "--key", str(self._key)]
        self._process = await asyncio.create_subprocess_exec(
            program,
            *options,
            cwd=self.home,
            env={**os.environ, "AZURITE_ACCOUNTS": f"{ACCOUNT}:{self._account_key}"},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        self._reader = asyncio.create_task(self._read_log(self._process), name="log of azurite")
        try:
            await self._until(lambda: _LISTENS.search(self._log))
            found = _LISTENS.search(self._log)
            assert found, self._log.decode()
            self.origin = found[1].decode()
            self._http = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=self.trust))
            await self._request("PUT", f"/{CONTAINER}", {"restype": "container"})
            await self._get_delegated_key()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._http is not None:
            await self._http.close()
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            process.terminate()
            async with asyncio.timeout(PATIENCE):
                await process.wait()
        if self._reader is not None:
            await self._reader

    async def _read_log(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while piece := await process.stdout.read(65_536):
            self._log += piece

    async def _until(self, condition: Any) -> None:
        """Wait until its log shows something, or it ends."""
        async with asyncio.timeout(PATIENCE):
            while not condition():
                assert self._reader is not None
                assert not self._reader.done(), self._log.decode()
                await asyncio.sleep(0.01)

    async def log(self, at_least: int = 0) -> list[Answered]:
        """
        Return what was asked of the links so far, in the order it ended.

        Args:
            at_least: Wait until there are so many; a line is written a moment after the last byte of its answer.
        """

        def lines() -> list[Answered]:
            rows = (_LINE.search(line) for line in self._log.decode("utf-8", "replace").splitlines())
            requested = [Answered(row["method"], row["target"], int(row["status"])) for row in rows if row]
            return [row for row in requested if row.method == "GET" and "sig=" in row.target]

        await self._until(lambda: len(lines()) >= at_least)
        return lines()

    # What it holds

    async def put(self, blob: str, body: bytes) -> None:
        """Store a blob, or store it anew under another ETag."""
        await self._request("PUT", f"/{CONTAINER}/{quote(blob)}", body=body, headers={"x-ms-blob-type": "BlockBlob"})

    async def delete(self, blob: str) -> None:
        """Remove a blob."""
        await self._request("DELETE", f"/{CONTAINER}/{quote(blob)}")

    async def _request(
        self,
        method: str,
        path: str,
        params: dict[str, str] | None = None,
        *,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
    ) -> bytes:
        """Ask with a token, as its owner does."""
        assert self._http is not None
        url = yarl.URL(f"{self.origin}/{ACCOUNT}{path}?{urlencode(params or {})}", encoded=True)
        given = {"Authorization": f"Bearer {_token()}", "x-ms-version": VERSION, **(headers or {})}
        async with self._http.request(method, url, data=io.BytesIO(body), headers=given) as answer:
            text = await answer.read()
            assert answer.status < 300, (method, path, answer.status, text)
            return text

    async def _get_delegated_key(self) -> None:
        """Get the key with which links are signed on behalf of a user; a link cannot outlive it."""
        now = datetime.now(UTC)
        began, ends = _written(now - timedelta(minutes=5)), _written(now + timedelta(days=1))
        requested = (
            f'<?xml version="1.0" encoding="utf-8"?><KeyInfo><Start>{began}</Start><Expiry>{ends}</Expiry></KeyInfo>'
        )
        text = await self._request(
            "POST", "/", {"restype": "service", "comp": "userdelegationkey"}, body=requested.encode()
        )
        self._delegated = {node.tag: node.text or "" for node in ET.fromstring(text)}  # noqa: S314 - our own process

    # Links

    def delegated_link(self, blob: str, *, ends: datetime, permissions: str = "r", origin: str | None = None) -> str:
        """
        Sign a link as the documented sample is signed: on behalf of a user, with a key of the service.

        https://learn.microsoft.com/rest/api/storageservices/create-user-delegation-sas
        """
        key, until = self._delegated, _written(ends)
        began = _written(datetime.now(UTC) - timedelta(minutes=5))
        fields = [
            *(permissions, began, until, f"/blob/{ACCOUNT}/{CONTAINER}/{blob}"),
            *(key["SignedOid"], key["SignedTid"], key["SignedStart"], key["SignedExpiry"]),
            *(key["SignedService"], key["SignedVersion"]),
            *("", "", ""),  # authorized and unauthorized user, correlation
            *("", "https", VERSION, "b"),  # address, protocol, version, resource
            *("", ""),  # snapshot, encryption scope
            *("", "", "", "", ""),  # headers to answer with
        ]
        assert len(fields) == 24
        query = {
            "sp": permissions,
            "st": began,
            "se": until,
            "spr": "https",
            "sv": VERSION,
            "sr": "b",
            "skoid": key["SignedOid"],
            "sktid": key["SignedTid"],
            "skt": key["SignedStart"],
            "ske": key["SignedExpiry"],
            "sks": key["SignedService"],
            "skv": key["SignedVersion"],
        }
        return self._signed(blob, fields, base64.b64decode(key["Value"]), query, origin)

    def service_link(self, blob: str, *, ends: datetime, permissions: str = "r", origin: str | None = None) -> str:
        """
        Sign a link with the key of the account, as in the sample of the day files.

        https://learn.microsoft.com/rest/api/storageservices/create-service-sas
        """
        until = _written(ends)
        began = _written(datetime.now(UTC) - timedelta(minutes=5))
        fields = [
            *(permissions, began, until, f"/blob/{ACCOUNT}/{CONTAINER}/{blob}"),
            *("", "", "https", VERSION, "b"),  # identifier, address, protocol, version, resource
            *("", "", "", "", "", "", ""),  # snapshot, encryption scope, headers to answer with
        ]
        query = {"sp": permissions, "st": began, "se": until, "spr": "https", "sv": VERSION, "sr": "b"}
        return self._signed(blob, fields, base64.b64decode(self._account_key), query, origin)

    def _signed(self, blob: str, fields: list[str], key: bytes, query: dict[str, str], origin: str | None) -> str:
        signature = base64.b64encode(hmac.digest(key, "\n".join(fields).encode(), "sha256")).decode()
        path = f"/{ACCOUNT}/{CONTAINER}/{quote(blob)}"
        return f"{origin or self.origin}{path}?{urlencode({**query, 'sig': signature})}"


class AzureLinks(Storage):
    """
    Makes the links that a simulated CentrePoint lists lead to Azurite.

    Args:
        azurite: Where the content lies, under the paths of the file host.
        origin: Where links lead, where that is not Azurite itself but something before it.
        service: Sign with the key of the account.
    """

    def __init__(self, azurite: Azurite, *, origin: str | None = None, service: bool = False) -> None:
        super().__init__(clock=lambda: datetime.now(UTC).timestamp())
        self.azurite = azurite
        self.origin = origin
        #: Every link that was given out.
        self.given: list[str] = []
        #: The permissions that the next links give.
        self.permissions = "r"
        self._sign = azurite.service_link if service else azurite.delegated_link

    def link(self, origin: str, path: str, *, now: datetime, ends: datetime) -> str:
        """Sign a link to the blob that has the path for a name."""
        del origin, now
        link = self._sign(path.lstrip("/"), ends=ends, permissions=self.permissions, origin=self.origin)
        self.given.append(link)
        return link


def _written(timestamp: datetime) -> str:
    return f"{timestamp.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def _token() -> str:
    """Make a token that nobody has signed; with its basic checks Azurite looks at the claims only."""
    now = datetime.now(UTC)
    claims = {
        "aud": "https://storage.azure.com",
        "iss": f"https://sts.windows.net/{TENANT}/",
        "iat": int((now - timedelta(minutes=5)).timestamp()),
        "nbf": int((now - timedelta(minutes=5)).timestamp()),
        "exp": int((now + timedelta(hours=1)).timestamp()),
        "oid": OBJECT,
        "tid": TENANT,
    }
    parts = ({"typ": "JWT", "alg": "RS256"}, claims, "signed by nobody")
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts)
