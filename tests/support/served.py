"""
Files that any web server serves, through our own session, and nginx to serve them.

nginx belongs to the test that starts it: its configuration, its log and its files lie in that test's folder.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Self

import attrs

from arena_async.http.session import Session
from arena_async.protocol.files import Cost, OpenedFile, RemoteFile
from arena_async.protocol.messages import Request
from arena_async.transfer.events import Event, Progress

__all__ = ["Nginx", "Restart", "Served", "ServedFiles"]

#: Seconds that nginx may take to listen, or to end.
PATIENCE = 20.0

CONFIGURATION = """
daemon off;
master_process off;
pid {home}/nginx.pid;
error_log {home}/error.log;
events {{ worker_connections 256; }}
http {{
    log_format asked '$request_method $uri $status "$http_range" "$http_if_match" $body_bytes_sent';
    access_log {home}/access.log asked;
    client_body_temp_path {home}/body;
    proxy_temp_path {home}/proxy;
    fastcgi_temp_path {home}/fastcgi;
    uwsgi_temp_path {home}/uwsgi;
    scgi_temp_path {home}/scgi;
    types {{ text/csv csv; application/zip zip; application/gzip gz; }}
    gzip on;
    gzip_types text/csv;
    gzip_min_length 1;
    limit_conn_zone $server_port zone=crowd:1m;
    limit_conn_status 429;
    server {{
        listen 127.0.0.1:{port}{tls};
        root {home}/files;
        limit_rate {rate};
        location = /moved.csv {{ return 302 /plain.csv; }}
        location /rangeless/ {{ max_ranges 0; }}
        location /packed/ {{ gzip off; gzip_static on; }}
        location /always-packed/ {{ gzip off; gzip_static always; }}
        location /cut/ {{ return 444; }}
        location /slow/ {{ limit_rate 4k; }}
        location /crowded/ {{
            limit_conn crowd 4;
            limit_rate 1m;
            error_page 429 @crowded;
        }}
        location @crowded {{
            internal;
            add_header Retry-After 7 always;
            return 429;
        }}
    }}
}}
"""


@attrs.frozen
class Served:
    """One line of nginx's own log: what was asked, and what it answered."""

    method: str
    path: str
    status: int
    range: str
    if_match: str
    sent: int


class Nginx:
    """
    One nginx that serves ``files`` below ``home``; an async context manager.

    Args:
        home: A folder of its own.
        certificate: A PEM file with key and chain, for TLS.
        rate: Bytes a second for each answer; 0 for as many as it can.
    """

    def __init__(self, home: Path, *, certificate: Path | None = None, rate: int = 0) -> None:
        self.home = home
        self.files = home / "files"
        self.files.mkdir()
        self._certificate = certificate
        self._rate = rate
        self._process: asyncio.subprocess.Process | None = None
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port: int = free.getsockname()[1]

    @property
    def base_url(self) -> str:
        """Where it listens."""
        return f"http{'s' if self._certificate else ''}://127.0.0.1:{self._port}"

    @property
    def log(self) -> list[Served]:
        """Every answer so far, in the order they ended."""
        rows = (line.replace('"', "").split(" ") for line in (self.home / "access.log").read_text().splitlines())
        return [Served(row[0], row[1], int(row[2]), row[3], row[4], int(row[5])) for row in rows]

    async def start(self, *, rate: int = 0) -> None:
        """Start it, with another rate than before perhaps, and wait until it listens."""
        key = self._certificate
        tls = f" ssl; ssl_certificate {key}; ssl_certificate_key {key}" if key else ""
        configuration = self.home / "nginx.conf"
        configuration.write_text(CONFIGURATION.format(home=self.home, port=self._port, tls=tls, rate=rate))
        program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/opt/homebrew/bin")
        assert program, "nginx is not installed"
        self._process = await asyncio.create_subprocess_exec(program, "-p", self.home, "-c", configuration)
        async with asyncio.timeout(PATIENCE):
            while not await self._listens():
                assert self._process.returncode is None, (self.home / "error.log").read_text()
                await asyncio.sleep(0.01)

    async def _listens(self) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            return False
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return True

    async def stop(self, *, at_once: bool = False) -> None:
        """End it; ``at_once`` cuts every answer off where it stands."""
        process, self._process = self._process, None
        if process is None:
            return
        if at_once:
            process.kill()
        else:
            process.terminate()
        async with asyncio.timeout(PATIENCE):
            await process.wait()

    async def __aenter__(self) -> Self:
        await self.start(rate=self._rate)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()


class Restart:
    """
    An observer that ends the server in the middle of a body and starts it anew, once.

    Args:
        server: The server.
        after: When so many bytes of the body are here.
        meanwhile: What ``big.bin`` is when the server comes back; None for what it was.
    """

    def __init__(self, server: Nginx, *, after: int, meanwhile: bytes | None = None) -> None:
        self._server = server
        self._after = after
        self._meanwhile = meanwhile
        self._done = False

    async def __call__(self, event: Event) -> None:
        if self._done or not isinstance(event, Progress) or event.bytes_done < self._after:
            return
        self._done = True
        await self._server.stop(at_once=True)
        if self._meanwhile is not None:
            (self._server.files / "big.bin").write_bytes(self._meanwhile)
        await self._server.start()


class ServedFiles:
    """
    A list of names on a web server, as a set of files without login.

    Args:
        session: What sends the requests; nothing of it but :meth:`~arena_async.http.session.Session.stream` is used.
        names: Paths below the base URL.
    """

    scope = "served"
    narrowed = False

    def __init__(self, session: Session, names: Iterable[str]) -> None:
        self._session = session
        self._names = tuple(names)

    @property
    def requests_sent(self) -> int:
        return self._session.requests_sent

    async def __aiter__(self) -> AsyncIterator[RemoteFile]:
        for name in self._names:
            yield self._entry(name)

    @staticmethod
    def _entry(name: str) -> RemoteFile:
        *folders, leaf = name.split("/")
        stem, dot, extension = leaf.partition(".")
        return RemoteFile(
            key=f"served/{name}",
            service="served",
            tenant="127.0.0.1",
            parts=("served", *folders),
            stem=stem,
            extension=dot + extension,
            name=name,
        )

    async def open(
        self, file: RemoteFile, *, offset: int = 0, validator: str | None = None, until: int | None = None
    ) -> OpenedFile:
        request = Request(method="GET", path=f"/{file.name}", scope=None)
        return await self._session.stream(request, offset=offset, validator=validator, until=until)

    async def find(self, keys: Collection[str]) -> list[RemoteFile]:
        return [self._entry(name) for name in self._names if f"served/{name}" in keys]

    def since(self, watermarks: Mapping[str, datetime]) -> ServedFiles:
        del watermarks
        return self

    def cost(self) -> Cost:
        return Cost(listing=0, per_file=1, exact=True)
