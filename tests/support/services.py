"""
Both services as scripts on a `RawServer`, and the real clients that talk to them, with a row's secrets planted.

::

    async def test_something(world: World) -> None:
        async with RawServer() as server:
            service = ArenaScript(world, server)
            service.on("GET", "/extracts/E", json_reply({"guid": "E"}))
            async with service.client() as arena:
                await arena.extracts.get("E")
        assert server.lines() == ["POST /v1/login", "GET /v1/extracts/E", "PUT /v1/logout"]

Sessions and tokens are numbered and hold the planted secret; only the living ones are accepted. What a script counts is
compared with what the clients booked when the row is over (I5).
"""

from __future__ import annotations

import inspect
import io
import json
import zipfile
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import attrs
from matrix import World
from plain_provider import session_with
from scripted import Answer, RawServer, Reply, Seen, json_reply, reply
from session_files import Hours

from arena_async.http.session import Session
from arena_async.options import RetryPolicy
from arena_async.protocol.messages import Secret
from arena_async.protocol.quota import DailyQuota, OnExhausted, SlidingWindow
from arena_async.providers.arena import ArenaClient, ArenaCredentials
from arena_async.providers.arena.adapter import ArenaAdapter
from arena_async.providers.arena.auth import PasswordAuth
from arena_async.providers.centrepoint import CentrePointClient, CentrePointCredentials
from arena_async.providers.centrepoint.adapter import CentrePointAdapter
from arena_async.providers.centrepoint.auth import CentrePointAuth

__all__ = [
    "EAGER",
    "EXPORT",
    "EXPORT_RUN",
    "FILE",
    "RESET",
    "RUN",
    "ArenaScript",
    "CentrePointScript",
    "arena_error",
    "page",
    "requested",
    "studies",
    "under",
    "zipped",
]

#: Tries again at once, so that no row waits.
EAGER = RetryPolicy(wait_initial=0, wait_jitter=0)
#: When the allowance starts anew, in the vendor's own shape: 2036-05-02 21:22:13 UTC.
RESET = "Fri, 02-May-2036 14:22:13 GMT-0700 (PDT)"
PAYLOADS = Path(__file__).parents[1] / "payloads"
WORKSPACE = 896256783
#: An export definition, a run of it and a file of that run, and where the run is.
EXPORT, RUN, FILE = "M407Q30F25L3M5WZUF9M", "Q8SBU7SJ69P7Q903YJD6", "L3N6P2NE14N3M5V2LZFC"
EXPORT_RUN = f"/exports/{EXPORT}/runs/{RUN}"


def zipped(size: int) -> bytes:
    """Return a zip of a little more than so many bytes."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("items.csv", b"0123456789abcdef" * (size // 16))
    return target.getvalue()


def under(hours: Hours) -> dict[str, Any]:
    """Return the options that let a session live on a time of the test's own."""
    return {"clock": hours.clock, "sleep": hours.sleep, "now": hours.now}


def requested(seen: Seen) -> tuple[int, int]:
    """Return the offset and the limit that a request asks for."""
    query = parse_qs(seen.query)
    return int(query["offset"][0]), int(query["limit"][0])


def page(rows: Iterable[object], *, count: object = None) -> Reply:
    """Answer with a page of Arena; ``count`` is the number of its rows unless it is given."""
    found = list(rows)
    return json_reply({"count": len(found) if count is None else count, "results": found})


def arena_error(status: int, code: int, message: str = "No.", **how: Any) -> Reply:
    """Refuse as Arena does."""
    return json_reply({"status": status, "errors": [{"code": code, "message": message}]}, status, **how)


def studies(
    numbers: Iterable[int], *, total: object, offset: int | None = None, limit: int | None = None, **more: Any
) -> Reply:
    """Answer with a page of CentrePoint studies; what it says of itself beside the total is left out where None."""
    echoes = {"offset": offset, "limit": limit}
    said = {name: value for name, value in echoes.items() if value is not None}
    items = [{"id": number, "name": f"Study {number}"} for number in numbers]
    return json_reply({"items": items, "totalCount": total, **said, **more})


class _Script:
    """What both scripts share: answers for whoever has the credential that lives, and sessions whose books are kept."""

    def __init__(self, world: World, server: RawServer) -> None:
        self.world = world
        self.server = server
        self.sessions: list[Session] = []
        #: Requests that clients of other processes say they booked.
        self.elsewhere = 0
        world.counted(server=self.metered, client=self.booked)

    def booked(self) -> int:
        """Requests that the clients booked."""
        return self.elsewhere + sum(session.requests_sent for session in self.sessions)

    def metered(self) -> int:
        """Requests that count by the rules of the service."""
        raise NotImplementedError

    def welcomes(self, seen: Seen) -> bool:
        """Whether a request carries a credential that lives."""
        raise NotImplementedError

    def finish(self, answer: Reply) -> Reply:
        """Add what stands on every answer."""
        return answer

    def guarded(self, answers: tuple[Answer, ...]) -> Callable[[Seen], Any]:
        """Return the answers one after the other, and 401 to strangers; the last one repeats."""
        waiting = list(answers)

        async def answer(seen: Seen) -> Reply:
            if not self.welcomes(seen):
                return self.finish(reply(401))
            found: Any = waiting.pop(0) if len(waiting) > 1 else waiting[0]
            found = found(seen) if callable(found) else found
            return self.finish(await found if inspect.isawaitable(found) else found)

        return answer


class ArenaScript(_Script):
    """
    Arena: one session of the user lives at a time, and every answer says what is left of the day.

    Attributes:
        logins: Sessions that were given out.
        alive: The session that is accepted; set it to "" to let it die.
        remaining: What the next answer will say is left, before it is counted; None for no such header.
    """

    def __init__(self, world: World, server: RawServer, *, remaining: int | None = 9000) -> None:
        super().__init__(world, server)
        self.logins = 0
        self.alive = ""
        self.remaining = remaining
        server.on("POST", "/v1/login", self.log_in)
        server.on("PUT", "/v1/logout", lambda _: self.finish(reply()))

    def metered(self) -> int:
        return sum(seen.path.startswith("/v1/") and seen.path != "/v1/login" for seen in self.server.requests)

    def log_in(self, seen: Seen) -> Reply:
        """Return the next session."""
        if seen.json["password"] != self.world.secrets["password"]:
            return arena_error(400, 4001)
        self.logins += 1
        self.alive = self.session_id(self.logins)
        return json_reply({"arenaSessionId": self.alive, "workspaceId": WORKSPACE, "workspaceRequestLimit": 10_000})

    def session_id(self, number: int) -> str:
        """Return the id of a session that was given out, counted from 1."""
        return f"{self.world.secrets['session']}-{number}"

    def sent_with(self, pattern: str = "/v1/*") -> list[int]:
        """Return the number of the session that each request for a path carried; 0 for none."""
        given = [seen for seen in self.server.requests if seen.line in self.server.lines(f"* {pattern}")]
        return [int((seen.header("arena_session_id") or "-0").rpartition("-")[2]) for seen in given]

    def welcomes(self, seen: Seen) -> bool:
        return seen.header("arena_session_id") == self.alive != ""

    def finish(self, answer: Reply) -> Reply:
        """Return what is left, unless the answer says it itself."""
        named = {name.lower() for name, _ in answer.headers}
        if self.remaining is None or "x-arena-requests-remaining" in named:
            return answer
        self.remaining = max(self.remaining - 1, 0)
        headers = (("X-Arena-Requests-Remaining", str(self.remaining)), ("X-Arena-Next-Request-Limit-Reset", RESET))
        return attrs.evolve(answer, headers=answer.headers + headers)

    def on(self, method: str, path: str, *answers: Answer) -> None:
        """Answer requests below the API, one after the other; the last answer repeats."""
        self.server.on(method, f"/v1{path}", self.guarded(answers))

    def extracts(self, count: int, *, counted: Callable[[int], object] = lambda rows: rows) -> None:
        """Serve a list of so many extracts that honours offset and limit; ``counted`` makes its count of the rows."""

        def answer(seen: Seen) -> Reply:
            offset, limit = requested(seen)
            rows = [{"guid": f"G{number}"} for number in range(offset, min(offset + limit, count))]
            return page(rows, count=counted(len(rows)))

        self.on("GET", "/extracts", answer)

    def export(self, *files: str, content: Answer | None = None) -> None:
        """Serve a run of the export that is complete, and what each of its files holds."""
        listed = [{"guid": guid} for guid in files]
        run = {"guid": RUN, "status": "COMPLETE", "completionDateTime": "2026-05-01T06:00:00Z", "files": listed}
        self.on("GET", EXPORT_RUN, json_reply(run))
        if content is not None:
            self.on("GET", f"{EXPORT_RUN}/files/*/content", content)

    @asynccontextmanager
    async def client(self, **options: Any) -> AsyncIterator[ArenaClient]:
        """Yield a client that never waits before it tries again."""
        credentials = ArenaCredentials("robot@example.com", self.world.secrets["password"])
        options = {"retry": EAGER, **options}
        async with ArenaClient(credentials, base_url=f"{self.server.base_url}/v1", **options) as client:
            self.sessions.append(client.session)
            self.world.saw(client)
            yield client

    @asynccontextmanager
    async def session(
        self,
        hours: Hours,
        *,
        reserve: int = 0,
        on_exhausted: OnExhausted = "stop",
        workspace_id: int | None = None,
        **options: Any,
    ) -> AsyncIterator[Session]:
        """Yield what such a client is made of, on a time of the test's own."""
        adapter = ArenaAdapter(now=hours.now)
        credentials = ArenaCredentials("robot@example.com", self.world.secrets["password"])
        session = session_with(
            PasswordAuth(credentials=credentials, adapter=adapter, workspace_id=workspace_id),
            adapter,
            DailyQuota(reserve=reserve, on_exhausted=on_exhausted),
            f"{self.server.base_url}/v1",
            **{**under(hours), **options},
        )
        self.sessions.append(session)
        try:
            yield session
        finally:
            await session.aclose()


class CentrePointScript(_Script):
    """
    CentrePoint with its token endpoint on one server: a token per scope and login, and each lives until it is killed.

    What lies below ``/blob/`` is no part of it, and does not count.

    Attributes:
        scopes: The scope of each token that was given out, in order.
        alive: The tokens that are accepted.
        expires_in: What the answer to a login says, or None for nothing.
    """

    TOKENS = "/connect/token"

    def __init__(self, world: World, server: RawServer) -> None:
        super().__init__(world, server)
        self.scopes: list[str] = []
        self.alive: set[str] = set()
        self.expires_in: object = 3600
        server.on("POST", self.TOKENS, self.log_in)

    def metered(self) -> int:
        return sum(not seen.path.startswith((self.TOKENS, "/blob/")) for seen in self.server.requests)

    def log_in(self, seen: Seen) -> Reply:
        """Return the next token."""
        form = parse_qs(seen.body.decode())
        if form["client_secret"] != [self.world.secrets["client_secret"]]:
            return json_reply({"error": "invalid_client"}, 400)
        self.scopes += form["scope"]
        token = f"{self.world.secrets['token']}.{len(self.scopes)}"
        self.alive.add(token)
        return self.token_reply(access_token=token)

    def token_reply(self, **fields: object) -> Reply:
        """Answer a login."""
        said = {"token_type": "Bearer", "expires_in": self.expires_in, **fields}
        body = json.dumps({name: value for name, value in said.items() if value is not None}).encode()
        return reply(body=body, headers={"Content-Type": "application/json"})

    def sent_with(self, pattern: str = "/centrepoint/*") -> list[int]:
        """Return the number of the token that each request for a path carried; 0 for none."""
        given = [seen for seen in self.server.requests if seen.line in self.server.lines(f"* {pattern}")]
        return [int((seen.header("Authorization") or ".0").rpartition(".")[2]) for seen in given]

    def welcomes(self, seen: Seen) -> bool:
        return (seen.header("Authorization") or "").removeprefix("Bearer ") in self.alive

    def on(self, method: str, path: str, *answers: Answer) -> None:
        """Answer requests, one after the other; the last answer repeats."""
        self.server.on(method, path, self.guarded(answers))

    def studies(self, count: int, **said: Any) -> None:
        """Serve a list of so many studies that honours offset and limit and echoes them."""

        def answer(seen: Seen) -> Reply:
            offset, limit = requested(seen)
            numbers = range(offset, min(offset + limit, count))
            return studies(numbers, **{"total": count, "offset": offset, "limit": limit, **said})

        self.on("GET", "/centrepoint/v3/Studies", answer)

    def dataset_file(self, link: str, **headers: str) -> None:
        """Serve a list of one dataset file of study 234, with its link."""
        listed = json.loads(
            (Path(__file__).parents[1] / "payloads" / "centrepoint_datasetfiles.json").read_text("utf-8")
        )
        listed["totalCount"] = 1
        listed["items"][0] |= {"fileUrl": link, "downloadUrlExpiresOn": "2099-06-04T18:31:23+00:00"}
        self.on("GET", "/dataaccess/v3/studies/234/datasetfiles", json_reply(listed, headers=headers))

    @asynccontextmanager
    async def client(self, **options: Any) -> AsyncIterator[CentrePointClient]:
        """Yield a client that never waits before it tries again."""
        options = {"retry": EAGER, "rate_limit": 100_000, "auth_url": f"{self.server.base_url}{self.TOKENS}", **options}
        async with CentrePointClient(self._credentials(), base_url=self.server.base_url, **options) as client:
            self.sessions.append(client.session)
            self.world.saw(client)
            yield client

    @asynccontextmanager
    async def session(self, hours: Hours, *, rate_limit: int = 100_000, **options: Any) -> AsyncIterator[Session]:
        """Yield what such a client is made of, on a time of the test's own."""
        session = session_with(
            CentrePointAuth(credentials=self._credentials(), auth_url=f"{self.server.base_url}{self.TOKENS}"),
            CentrePointAdapter(),
            SlidingWindow(limit=rate_limit),
            self.server.base_url,
            **{**under(hours), **options},
        )
        self.sessions.append(session)
        try:
            yield session
        finally:
            await session.aclose()

    def _credentials(self) -> CentrePointCredentials:
        return CentrePointCredentials("canary-client", Secret(self.world.secrets["client_secret"]))
