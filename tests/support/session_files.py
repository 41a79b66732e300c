"""
Files over the real session: what a `RawServer` serves goes through every layer between a socket and a final name.

::

    async def test_something(world: World) -> None:
        async with RawServer() as server, session_files(world, server, remote("a", size=len(BODY))) as files:
            server.on("GET", "/a", reply(body=BODY, headers={"ETag": '"v1"'}, cut=40_000), ranged(BODY))
            world.allow("files/a.bin", BODY)
            report = await bring(world, files)

Links are signed with the planted signature unless ``signed=False``, the requests are metered so that the server's count
and ours can be compared, and no wait takes time: `Hours` writes them down.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import attrs
from filesets import remote
from internals import rig
from matrix import World
from plain_provider import new_session
from scripted import RawServer, Reply, Seen, reply

from arena_async import Downloader, Mirror, Report
from arena_async.http.session import Session
from arena_async.options import KIB, Clock, TransferOptions
from arena_async.protocol.files import Cost, FileSet, OpenedFile, RemoteFile
from arena_async.protocol.messages import Request, Secret
from arena_async.protocol.quota import SlidingWindow
from arena_async.providers.centrepoint.links import read_refusal
from arena_async.transfer.filesystem import FileSystem

__all__ = ["ETAG", "Hours", "SessionFiles", "download", "ranged", "ranges", "remote", "session_files"]

#: The headers of a file that may be taken up again.
ETAG = {"ETag": '"v1"'}

START = datetime(2024, 3, 1, 12, 0, tzinfo=UTC)


class Hours:
    """
    Time that passes only when somebody waits: give ``clock``, ``sleep`` and ``now`` to what would wait.

    ``waits`` holds the seconds of each wait in order.
    """

    def __init__(self, start: datetime = START) -> None:
        self.passed = 0.0
        self.waits: list[float] = []
        self.start = start
        self.woken: Callable[[], object] = lambda: None

    def clock(self) -> float:
        """Seconds since the start."""
        return self.passed

    def now(self) -> datetime:
        """The date and time."""
        return self.start + timedelta(seconds=self.passed)

    async def sleep(self, seconds: float) -> None:
        """Let so many seconds pass at once."""
        self.waits.append(seconds)
        self.passed += seconds
        self.woken()
        await asyncio.sleep(0)


def ranges(server: RawServer) -> list[str | None]:
    """Return the range that each request asked for, None for the whole."""
    return [seen.header("Range") for seen in server.requests]


def ranged(
    body: bytes, *, etag: str = '"v1"', headers: Mapping[str, str] | None = None, **how: Any
) -> Callable[[Seen], Reply]:
    """Serve a body as an honest file host does: whole, from a byte on, 412 for another ETag, 416 behind its end."""

    def answer(seen: Seen) -> Reply:
        given = {"ETag": etag, **(headers or {})}
        requested = seen.header("Range")
        if seen.header("If-Match") not in (None, etag):
            return reply(412, headers=given)
        if requested is None:
            return reply(body=body, headers=given, **how)
        start, _, end = requested.removeprefix("bytes=").partition("-")
        first = int(start)
        if first >= len(body):
            return reply(416, headers={**given, "Content-Range": f"bytes */{len(body)}"})
        part = body[first : int(end) + 1] if end else body[first:]
        given["Content-Range"] = f"bytes {first}-{first + len(part) - 1}/{len(body)}"
        return reply(206, body=part, headers=given, **how)

    return answer


class SessionFiles:
    """
    Some files that a server serves, as a set of files over a session.

    ``looked_up`` holds the keys of each look-up; ``fresh`` what one gives instead of the row, by key (None for gone).

    Args:
        session: What sends the requests.
        rows: What is listed.
        link: Where the content of a row lies, given the number of look-ups so far: a path, or a whole URL.
        signature: What the links are signed with, or None for files without a signed link.
    """

    scope = "test/session"
    narrowed = False

    def __init__(
        self,
        session: Session,
        rows: Iterable[RemoteFile],
        *,
        link: Callable[[RemoteFile, int], str] = lambda row, _: f"/{row.stem}",
        signature: str | None = None,
    ) -> None:
        self.session = session
        self.rows = list(rows)
        self.metered = True
        self.fresh: dict[str, RemoteFile | None] = {}
        self.looked_up: list[tuple[str, ...]] = []
        self.listings = 0
        self._link = link
        self._signature = signature

    @property
    def requests_sent(self) -> int:
        """Requests that left the session."""
        return self.session.requests_sent

    def entry(self, row: RemoteFile) -> RemoteFile:
        """Return a row as it is listed now, with its link."""
        if self._signature is None:
            return row
        place = self._link(row, len(self.looked_up))
        url = place if "://" in place else f"{self.session.base_url}{place}"
        mark = "&" if "?" in url else "?"
        return attrs.evolve(row, link=Secret(f"{url}{mark}sig={self._signature}"))

    async def __aiter__(self) -> AsyncIterator[RemoteFile]:
        self.listings += 1
        for row in list(self.rows):
            yield self.entry(row)

    async def find(self, keys: Collection[str]) -> list[RemoteFile]:
        self.looked_up.append(tuple(keys))
        found = [self.fresh.get(row.key, row) for row in self.rows if row.key in keys]
        return [self.entry(row) for row in found if row is not None]

    async def open(
        self, file: RemoteFile, *, offset: int = 0, validator: str | None = None, until: int | None = None
    ) -> OpenedFile:
        if file.link is None:
            request = Request(method="GET", path=self._link(file, len(self.looked_up)), scope=None)
            return await self.session.stream(request, offset=offset, validator=validator, until=until)
        request = Request(method="GET", path=file.link.reveal(), scope=None)
        refusal = partial(read_refusal, file=file, now=datetime.now(UTC))
        return await self.session.stream(request, offset=offset, validator=validator, until=until, read_error=refusal)

    def since(self, watermarks: Mapping[str, datetime]) -> SessionFiles:
        del watermarks
        return self

    def cost(self) -> Cost:
        return Cost(listing=0, per_file=1, exact=True, metered=self.metered)


@asynccontextmanager
async def session_files(
    world: World,
    server: RawServer,
    *rows: RemoteFile,
    signed: bool = True,
    link: Callable[[RemoteFile, int], str] = lambda row, _: f"/{row.stem}",
    hours: Hours | None = None,
    **options: Any,
) -> AsyncIterator[SessionFiles]:
    """
    Yield files that a server serves; at the end the requests it saw have to be those that were booked (I5).

    Args:
        world: The row's.
        server: Who serves them, at ``/<stem>``.
        rows: What is listed; see :func:`filesets.remote`.
        signed: Whether the links carry the planted signature. Refusals of signed links are read as those of a file
            host, others as those of the plain provider.
        link: As for :class:`SessionFiles`.
        hours: Where the session's time comes from, or None for the real one.
        options: Those of the session.
    """
    time = {} if hours is None else {"clock": hours.clock, "sleep": hours.sleep, "now": hours.now}
    session = new_session(server.base_url, limiter=SlidingWindow(limit=1_000_000), **{**time, **options})
    files = SessionFiles(session, rows, link=link, signature=world.secrets["sig"] if signed else None)
    world.counted(server=lambda: len(server.requests), client=lambda: files.requests_sent)
    try:
        yield files
    finally:
        await session.aclose()


async def download(
    world: World,
    files: FileSet,
    *,
    hours: Hours | None = None,
    remember: bool = False,
    flush_unit: int = 64 * KIB,
    disk: FileSystem | None = None,
    random: Callable[[], float] = lambda: 0.5,
    shown: bool = True,
    prepare: Callable[[Downloader | Mirror], Awaitable[object] | None] = lambda _: None,
    **options: Any,
) -> Report:
    """
    Bring a set home into the row's folder, and show the row whatever a user would see.

    Args:
        world: The row's.
        files: What to bring.
        hours: Where time comes from; None for one that is thrown away, so that no wait takes time.
        remember: By a mirror and not by a downloader.
        flush_unit: Bytes after which what came is made safe, so that a later run may go on from there.
        disk: The file system to work on, or None for the real one.
        random: Chance.
        shown: Whether the row looks at every event and outcome, which takes its time; else it chooses itself.
        prepare: Called with the downloader or mirror before it starts.
        options: Those of :class:`TransferOptions`; small chunks and two workers unless said otherwise.
    """
    time = hours or Hours()
    engine = Mirror if remember else Downloader
    found = TransferOptions(**{"chunk_size": 64 * KIB, "workers": 2, **options})
    observer = world.observe if shown else None
    made = engine(
        world.root, options=found, observer=observer, clock=Clock(monotonic=time.clock, sleep=time.sleep, random=random)
    )
    rig(made, record_every=flush_unit, disk=disk or FileSystem())
    async with made as running:
        prepared = prepare(running)
        if prepared is not None:
            await prepared
        report = await (running.sync(files) if isinstance(running, Mirror) else running.run(files))
    if shown:
        world.saw(report)
    return report
