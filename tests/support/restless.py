"""
A service that is never the same twice, what it may find in the folder of its client, and the client itself.

Some of its files lie behind its login and count against a daily allowance, the others behind signed links on a second
origin. They are listed by two definitions, of which one may become visible later. Between two lives of a client and in
the middle of them, files are added, replaced and withdrawn, sessions and links expire, the allowance runs out, bodies
are cut, stalled, damaged and served whole where a rest was asked for, pages lack rows, hosts are out of order for some
requests, and a response is sent that nobody asked for.

:class:`Service` is the service; it looks at the client's folder whenever it is asked for anything. :func:`live` is one
life of the client, as `lives` wants it.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from base64 import b64encode
from collections import Counter, deque
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from hashlib import md5
from pathlib import Path
from typing import Any, Self

import attrs
from filesets import content, remote
from internals import rig
from plain_provider import new_session
from scripted import RawServer, Reply, Seen, json_reply, reply
from sync_child import Life

from arena_async import Mirror
from arena_async.errors import ArenaAsyncError, ListingError
from arena_async.http.paginator import AHEAD, ListQuery, Paginator
from arena_async.http.session import Session
from arena_async.options import KIB, Clock, Timeouts, TransferOptions
from arena_async.protocol.files import Cost, OpenedFile, RemoteFile
from arena_async.protocol.messages import Request, Secret
from arena_async.protocol.pagination import ListShape
from arena_async.protocol.quota import DailyQuota
from arena_async.providers.centrepoint.links import read_refusal

__all__ = [
    "CANARY",
    "DEFINITIONS",
    "PAGE",
    "PAGE_TROUBLES",
    "RESERVE",
    "TROUBLES",
    "Offer",
    "Service",
    "live",
    "state_files",
]

#: Found in no log, no line and no file of the client.
CANARY = "canary7f9"
#: Rows of one page.
PAGE = 3
#: Requests that the client is told to leave to others.
RESERVE = 2
#: The definitions, each with a list of its own: the first is always visible.
DEFINITIONS = ("x", "y")
#: Seconds of the client's clock in one of ours.
SPEED = 20
#: Seconds of the client's clock that a host in trouble asks it to wait.
PAUSE = 4


@attrs.define
class Offer:
    """One file as the service has it now."""

    name: str
    linked: bool
    declared: bool
    version: int = 1
    size: int = 0
    withdrawn: bool = False
    changed_at: int = 0

    @property
    def definition(self) -> str:
        """The definition that lists it."""
        return DEFINITIONS[self.name > "d"]

    @property
    def body(self) -> bytes:
        """Its bytes; no two versions of any two files are the same, unless they are empty."""
        return content(self.size, f"{self.name}/{self.version}")

    @property
    def etag(self) -> str:
        """Its ETag."""
        return f'"{self.version}"'


#: What may happen to the next request for content.
TROUBLES = (
    "cut", "reset", "stall", "busy", "pause", "damage", "whole", "change", "links expire", "session expires", "gone",
)  # fmt: skip
#: What may happen to the next page of the listing.
PAGE_TROUBLES = ("busy", "pause", "cut", "session expires", "short", "null", "slide", "grow")


class Service:
    """
    The service: an async context manager, on two origins.

    Attributes:
        wrong: In words, what a client must never do and did.
        seen_whole: What lay under each final name when it was looked at last.
        metered: Requests of this life that count.
        expiries: Sessions that ended in this life before their time.
        requested: How often content was requested in this life, by name.
        pages: The pages of lists that were requested in this life: the list, and where it starts.
        changed: Names whose content was replaced in the middle of this life.
        at_end: Names of which nothing was missing when the rest was requested in this life: a 416 states no digest.
        pruning: Whether the client may remove what is not listed.
        out_of_step: Whether a response may come that nobody asked for: what is wrong until the end of the life is right
            at its end.
    """

    def __init__(self) -> None:
        self.api = RawServer()
        self.host = RawServer()
        self.begin(Path())

    def begin(self, root: Path) -> None:
        """Forget everything, and have a client at another folder."""
        self.root = root
        self.offers: dict[str, Offer] = {}
        self.visible = [DEFINITIONS[0]]
        self.changes = 0
        self.versions: dict[str, set[bytes]] = {}
        self.seen_whole: dict[str, bytes] = {}
        self.wrong: list[str] = []
        self.remaining = 100
        self.troubles: deque[tuple[str, int]] = deque()
        self.page_troubles: deque[str] = deque()
        self.sessions = 0
        self.valid_from = 0
        self.minted = 0
        self.new_life()

    def new_life(self, *, workers: int = 1, pruning: bool = False) -> None:
        """Count anew."""
        self.metered = self.logins = self.expiries = 0
        self.requested: Counter[str] = Counter()
        self.pages: dict[str, list[int]] = {}
        self.changed: set[str] = set()
        self.at_end: set[str] = set()
        self.pruning, self.out_of_step = pruning, False
        self._workers = workers
        self._pauses: dict[str, tuple[float, int]] = {}

    # What happens to it

    def offer(self, name: str, size: int, *, linked: bool, declared: bool) -> None:
        """Have one file more, or another version of it."""
        offer = self.offers.setdefault(name, Offer(name, linked, declared, version=0))
        self.changes += 1
        offer.version, offer.size, offer.withdrawn, offer.changed_at = offer.version + 1, size, False, self.changes
        self.versions.setdefault(name, set()).add(offer.body)

    def listed(self) -> list[Offer]:
        """Return what is listed now."""
        return [offer for offer in self.offers.values() if not offer.withdrawn and offer.definition in self.visible]

    def forget(self, name: str) -> None:
        """Take it as given that nothing lies under a final name."""
        self.seen_whole.pop(name, None)

    def due(self) -> list[Offer]:
        """Return what is listed and does not lie in the folder as it is listed."""
        return [each for each in self.listed() if self.seen_whole.get(each.name) != each.body]

    def _change(self, offer: Offer) -> None:
        self.changed.add(offer.name)
        self.offer(offer.name, offer.size + 1, linked=offer.linked, declared=offer.declared)

    def expire_session(self) -> None:
        """End the session that is."""
        self.valid_from = self.sessions + 1
        self.expiries += 1

    def expire_links(self) -> None:
        """End all links that were minted."""
        self.minted += 1

    # What it answers

    async def __aenter__(self) -> Self:
        await self.api.__aenter__()
        await self.host.__aenter__()
        self.api.on("*", "*", self._answer)
        self.host.on("*", "*", self._answer_link)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.host.__aexit__()
        await self.api.__aexit__()

    async def settle(self) -> None:
        """Wait until everything that was sent by a client that is no more has been read."""
        await self.api.drained()
        await self.host.drained()

    def look(self) -> None:
        """See that every final name is absent, or a whole version, and not absent again when it was there once."""
        if self.out_of_step:
            return
        listed = {offer.name for offer in self.listed()}
        for name, versions in self.versions.items():
            path = self.root / "files" / f"{name}.bin"
            try:
                found = path.read_bytes()
            except FileNotFoundError:
                if name in self.seen_whole and not (self.pruning and name not in listed):
                    self.wrong.append(f"{name} was there and is gone")
                self.forget(name)
                continue
            if found not in versions:
                self.wrong.append(f"{name} holds {len(found)} bytes that were never offered")
            self.seen_whole[name] = found

    def _answer(self, seen: Seen) -> Reply:
        self.look()
        if seen.path == "/logout":
            return reply(204)
        self._see_no_pause_broken("API")
        if seen.path == "/login":
            self.logins += 1
            self.sessions += 1
            return json_reply({"id": f"{CANARY}-{self.sessions}"})
        self.metered += 1
        if self.remaining <= 0:
            return json_reply({"code": 4084}, 429, headers={"X-Remaining": "0"})
        self.remaining -= 1
        left = {"X-Remaining": str(self.remaining)}
        number = int((seen.header("Session-Id") or "-0").rpartition("-")[2])
        if number < self.valid_from or not number:
            return reply(401, headers=left)
        if seen.path == "/definitions":
            return json_reply(self.visible, headers=left)
        if seen.path == "/list":
            return self._list(seen, left)
        return self._content(seen, left)

    def _list(self, seen: Seen, left: dict[str, str]) -> Reply:
        trouble = self.page_troubles.popleft() if self.page_troubles else ""
        if trouble == "busy":
            return reply(503, headers=left)
        if trouble == "pause":
            return self._pause("API", left)
        if trouble == "session expires":
            self.expire_session()
            return reply(401, headers=left)
        query = dict(pair.split("=") for pair in seen.query.split("&"))
        start, since = int(query["offset"]), int(query["since"])
        rows = [offer for offer in self.listed() if offer.definition == query["definition"]]
        rows = [offer for offer in rows if offer.changed_at >= since]
        self.pages.setdefault(f"{query['definition']} {since}: {len(rows)}", []).append(start)
        if trouble == "slide" and start:
            rows.pop(0).withdrawn = True
        if trouble == "grow" and start:
            self._change(rows[-1])
            rows.append(rows.pop(0))
        part: list[Any] | None = [self._row(offer) for offer in rows[start : start + int(query["limit"])]]
        if trouble == "short" and part:
            part.pop()
        if trouble == "null" and part:
            part = None
        return json_reply({"count": len(rows), "results": part}, headers=left, cut=10 if trouble == "cut" else None)

    def _pause(self, host: str, headers: dict[str, str]) -> Reply:
        """Ask for a pause; what may still come is what is on its way: of each other worker, and pages in advance."""
        under_way = self._workers - 1 + (AHEAD if host == "API" else 0)
        self._pauses[host] = time.monotonic() + PAUSE / SPEED, under_way
        return reply(503, headers={**headers, "Retry-After": str(PAUSE)})

    def _see_no_pause_broken(self, host: str) -> None:
        until, under_way = self._pauses.get(host, (0.0, 0))
        if time.monotonic() >= until:
            return
        if not under_way:
            self.wrong.append(f"a request was sent to the {host} host during a pause")
        self._pauses[host] = until, max(0, under_way - 1)

    def _row(self, offer: Offer) -> dict[str, Any]:
        link = f"{self.host.base_url}/{offer.name}?sig={CANARY}%2B{self.minted}"
        return {
            "name": offer.name,
            "size": offer.size,
            "change": str(offer.version),
            "changed": offer.changed_at,
            "link": link if offer.linked else None,
        }

    def _answer_link(self, seen: Seen) -> Reply:
        self.look()
        self._see_no_pause_broken("file")
        if seen.header("Session-Id") is not None:
            self.wrong.append("the session was sent to another origin")
        if not seen.query.startswith(f"sig={CANARY}%2B"):
            self.wrong.append("a signed link was not sent as it was given")
        if int(seen.query.rpartition("%2B")[2]) < self.minted:
            return reply(403, headers={"x-ms-error-code": "AuthenticationFailed"})
        return self._content(seen, {})

    def _content(self, seen: Seen, headers: dict[str, str]) -> Reply:
        offer = self.offers[seen.path.rpartition("/")[2]]
        self.requested[offer.name] += 1
        trouble, size = self.troubles.popleft() if self.troubles else ("", 0)
        if trouble == "busy":
            return reply(503, headers=headers)
        if trouble == "pause":
            return self._pause("file" if offer.linked else "API", headers)
        if trouble == "gone":
            offer.withdrawn = True
            return reply(404, headers=headers)
        if trouble == "links expire" and offer.linked:
            self.expire_links()
            return reply(403, headers={"x-ms-error-code": "AuthenticationFailed"})
        if trouble == "session expires" and not offer.linked:
            self.expire_session()
            return reply(401, headers=headers)
        if trouble == "change":
            self._change(offer)
        return self._serve(seen, offer, headers, trouble, size)

    def _serve(self, seen: Seen, offer: Offer, headers: dict[str, str], trouble: str, size: int) -> Reply:
        body = offer.body
        given = {**headers, "ETag": offer.etag}
        if offer.declared:
            given["x-ms-blob-content-md5"] = _md5(body)
        if seen.header("If-Match") not in (None, offer.etag):
            return reply(412, headers=given)
        requested = seen.header("Range")
        status, part = 200, body
        if requested is not None and trouble != "whole":
            first = int(requested.removeprefix("bytes=").rstrip("-"))
            if first >= len(body):
                self.at_end.add(offer.name)
                return reply(416, headers={**headers, "ETag": offer.etag, "Content-Range": f"bytes */{len(body)}"})
            given["Content-Range"] = f"bytes {first}-{len(body) - 1}/{len(body)}"
            status, part = 206, body[first:]
        if trouble == "damage" and offer.declared and part:
            part = part[:-1] + bytes([part[-1] ^ 1])
        if trouble in ("cut", "reset", "stall") and size < len(part):
            return reply(status, body=part, headers=given, cut=size, reset=trouble == "reset", stall=trouble == "stall")
        if trouble == "surplus":
            other = content(offer.size or 10, "nobody asked for this")
            surplus = reply(body=other, headers={"ETag": '"0"', "x-ms-blob-content-md5": _md5(other)}).head() + other
            if size:  # At once; else when the response has come, and the connection may be in use again.
                return reply(raw=reply(status, body=part, headers=given).head() + part + surplus)
            at, piece = partial(asyncio.sleep, 0), max(1, len(part))
            return reply(status, body=part + surplus, length=len(part), headers=given, piece=piece, between=at)
        return reply(status, body=part, headers=given)


def _md5(body: bytes) -> str:
    return b64encode(md5(body, usedforsecurity=False).digest()).decode()


# --- the client -------------------------------------------------------------------------------------------------------


class RestlessFiles:
    """The files of the service, as a set of files over a session."""

    def __init__(self, session: Session, only: str = "", since: Mapping[str, datetime] | None = None) -> None:
        self.scope = f"restless {only}".rstrip()
        self.narrowed = since is not None
        self._session, self._only, self._since = session, only, since or {}

    @property
    def requests_sent(self) -> int:
        return self._session.requests_sent

    async def __aiter__(self) -> AsyncIterator[RemoteFile]:
        visible = json.loads((await self._session.send(Request(method="GET", path="/definitions"))).body)
        not_whole: list[ListingError] = []
        for definition in visible if not self._only else [self._only]:
            try:
                async for row in self._rows(definition):
                    yield row
            except ListingError as error:
                not_whole.append(error)
        if not_whole:
            raise not_whole[0]

    def _rows(self, definition: str) -> Paginator[RemoteFile]:
        since = (self._since.get(definition, _FIRST) - _FIRST) // _CHANGE
        params = (("definition", definition), ("since", str(since)))
        request = Request(method="GET", path="/list", params=params)
        return Paginator(self._session, ListQuery(request, _SHAPE, partial(_read_row, definition)))

    async def open(self, file: RemoteFile, *, offset: int = 0, validator: str | None = None) -> OpenedFile:
        if file.link is None:
            request = Request(method="GET", path=f"/content/{file.stem}")
            return await self._session.stream(request, offset=offset, validator=validator)
        request = Request(method="GET", path=file.link.reveal(), scope=None, metered=False)
        refusal = partial(read_refusal, file=file, now=datetime.now(UTC))
        return await self._session.stream(request, offset=offset, validator=validator, read_error=refusal)

    async def find(self, keys: Collection[str]) -> list[RemoteFile]:
        return [row async for row in RestlessFiles(self._session, self._only) if row.key in keys]

    def since(self, watermarks: Mapping[str, datetime]) -> RestlessFiles:
        return RestlessFiles(self._session, self._only, watermarks)

    def cost(self) -> Cost:
        return Cost(listing=1, per_file=1)


#: When the first change was made, and the time between two: further apart than what is listed once more.
_FIRST, _CHANGE = datetime(2026, 1, 1, tzinfo=UTC), timedelta(hours=2)
_SHAPE = ListShape(max_page_size=PAGE, total=True, key="name")


def _read_row(definition: str, row: dict[str, Any]) -> RemoteFile:
    link = row["link"]
    return remote(
        row["name"],
        size=row["size"],
        change=row["change"],
        changed_at=_FIRST + row["changed"] * _CHANGE,
        listed_in=definition,
        name=row["name"],
        link=None if link is None else Secret(link),
    )


def _now() -> float:
    return time.monotonic() * SPEED


async def _wait(seconds: float) -> None:
    await asyncio.sleep(seconds / SPEED)


_CLOCK = Clock(monotonic=_now, sleep=_wait, random=lambda: 0.5)


async def live(settings: dict[str, Any]) -> None:
    """Sync once with a session of its own, and print what came of it."""
    life = Life({**settings, "powered": True})
    session = new_session(
        settings["base_url"],
        limiter=DailyQuota(reserve=RESERVE),
        timeouts=Timeouts(read=settings["patience"]),
        clock=_CLOCK.monotonic,
        sleep=_CLOCK.sleep,
    )
    files = RestlessFiles(session, settings.get("only", ""))
    options = TransferOptions(workers=settings["workers"], chunk_size=64 * KIB)
    mirror = Mirror(settings["to"], options=options, clock=_CLOCK)
    rig(mirror, disk=life.disk(), record_every=64 * KIB)

    async def sync() -> dict[str, Any]:
        async with mirror:
            report = await mirror.sync(files, prune=settings.get("prune", False))
        outcomes = [
            [
                outcome.file.key.removeprefix("test/"),
                outcome.action.value,
                _kind(outcome.error),
                outcome.verified_by,
                outcome.attempts,
            ]
            for outcome in report.outcomes
        ]
        counts = {action.value: count for action, count in report.counts.items() if count}
        return {"outcomes": outcomes, "counts": counts, "error": _kind(report.error), "left": report.not_started}

    loop, task = asyncio.get_running_loop(), asyncio.ensure_future(sync())
    life.cancel = lambda: loop.call_soon_threadsafe(task.cancel)
    found: dict[str, Any] = {"error": "CancelledError", "outcomes": [], "counts": {}, "left": 0}
    try:
        found = await task
    except asyncio.CancelledError:
        pass
    except ArenaAsyncError as error:
        found["error"] = f"raised {_kind(error)}"
        sys.stdout.write(f"{error}\n")
    finally:
        await session.aclose()
    sys.stdout.write(json.dumps({**found, "requests": files.requests_sent, "steps": life.steps}) + "\n")


def _kind(error: BaseException | None) -> str:
    return "" if error is None else type(error).__name__


def state_files(root: Path) -> dict[str, bytes]:
    """Return what the client keeps for itself, but for content on its way."""
    found: dict[str, bytes] = {}
    for path in (root / ".arena-async").rglob("*"):
        with suppress(OSError):
            if path.is_file() and path.suffix != ".part":
                found[path.name] = path.read_bytes()
    return found
