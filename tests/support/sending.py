"""
A service that imports and exports, keeps the truth, and loses responses on order; and the client that changes it.

The service answers over sockets. The client is ``live``, for :class:`lives.Lives`: one command of a user, in a process
of its own, on a time that only sleeping moves and that all processes of a test share.
"""

from __future__ import annotations

import asyncio
import json
import logging
import mmap
import os
import re
import signal
import struct
import sys
from collections import Counter, deque
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs

import attrs
from disks import Call, FaultyDisk
from filesets import zipped
from scripted import RawServer, Reply, Seen, json_reply, reply
from services import arena_error, page

from arena_async import Mirror
from arena_async.errors import ArenaAsyncError
from arena_async.options import Clock, Timeouts
from arena_async.providers.arena import ArenaClient, ArenaCredentials, Submission
from arena_async.transfer import local_files

__all__ = ["CANARY", "LONG", "LOOK_TROUBLES", "TROUBLES", "USER", "Run", "Service", "SharedTime", "live", "sheet"]

#: Found in no line and no file of the client.
CANARY = "canary7f9"
USER, WORKSPACE, IMPORT, EXPORT = "ada@example.com", 896256783, "I0000000000000000001", "E0000000000000000001"
#: 2026-03-02 12:00 UTC.
NOON = 1_772_452_800.0
#: Seconds that pass with each look at the time, so that no two looks see the same.
TICK = 0.001
#: Bytes of three cells.
_CELLS = 24
#: Seconds after which a run is done.
LONG = 30.0

#: What may happen to the next request that changes the service, before or after the work is done.
TROUBLES = (
    "kill", "reset", "mute", "stall", "cut", "html", "500", "502", "503", "session", "refuse", "throttle",
    "says no", "says nothing", "disobeys",
)  # fmt: skip
#: What may happen to the next look at it.
LOOK_TROUBLES = ("reset", "mute", "503", "html", "session", "kill")


def sheet(name: str) -> bytes:
    """Return a file to import."""
    return f"number\r\nrow-{name}\r\n".encode()


class SharedTime:
    """
    The time of all processes of a test: each adds what it sleeps to a cell of its own in a file.

    Args:
        path: The file.
        cell: The number of the cell.
        ahead: Seconds by which the clock of this machine is ahead.
        nap: Seconds that a sleep really takes.
    """

    def __init__(self, path: Path, cell: int, *, ahead: float = 0.0, nap: float = 0.0) -> None:
        self._cell, self._ahead, self._nap = cell, ahead, nap
        with path.open("a+b") as file:
            file.truncate(_CELLS)
            self._memory = mmap.mmap(file.fileno(), 0)

    def begin(self) -> None:
        """Begin at noon."""
        self._memory[:] = bytes(_CELLS)

    def close(self) -> None:
        """Let the file go."""
        self._memory.close()

    def pass_by(self, seconds: float) -> None:
        """Let time pass."""
        at = 8 * self._cell
        slept = struct.unpack_from("d", self._memory, at)[0]
        struct.pack_into("d", self._memory, at, slept + seconds)

    def __call__(self) -> float:
        """Return the seconds since 1970."""
        self.pass_by(TICK)
        return NOON + self._ahead + sum(struct.unpack_from("3d", self._memory))

    def now(self) -> datetime:
        """Return the date and time."""
        return datetime.fromtimestamp(self(), UTC)

    async def sleep(self, seconds: float) -> None:
        """Let that much time pass at once."""
        self.pass_by(seconds)
        await asyncio.sleep(self._nap)


# --- the service ------------------------------------------------------------------------------------------------------


@attrs.define
class Run:
    """
    A run as it is in truth.

    Args:
        guid: Its guid.
        key: What was to be done: ``import``, ``check`` or ``export``, and the file.
        began: When.
        shown_at: When the list shows it.
        commit: Whether it has changed the workspace; None for an export.
        creator: Who has started it.
        committed: How often a request has committed it after it was started.
        commit_shown_at: When that is shown.
    """

    guid: str
    key: str
    began: datetime
    shown_at: datetime
    commit: bool | None = None
    creator: str = USER
    committed: int = 0
    commit_shown_at: datetime | None = None

    def over(self, now: datetime) -> bool:
        """Return whether it has ended."""
        return now >= self.began + timedelta(seconds=LONG)

    def as_json(self, now: datetime) -> dict[str, Any]:
        """Show it."""
        ends, over = self.began + timedelta(seconds=LONG), self.over(now)
        shown: dict[str, Any] = {
            "guid": self.guid,
            "creationDateTime": f"{self.began:%Y-%m-%dT%H:%M:%SZ}",
            "creator": {"email": self.creator, "fullName": "Ada", "guid": "ADA00000000000000001"},
            "completionDateTime": f"{ends:%Y-%m-%dT%H:%M:%SZ}" if over else None,
            "status": "COMPLETE" if over else "RUNNING",
        }
        if self.commit is None:
            return {**shown, "criteria": None, "files": [{"guid": f"F{self.guid[1:]}", "title": None}] if over else []}
        commit = self.commit and (self.commit_shown_at is None or now >= self.commit_shown_at)
        counts = {"totalCount": 1, "successCount": 1, "errorCount": 0}
        return {**shown, **counts, "commit": commit, "submitFileType": "CSV", "submitWorksheetName": None}


class Service:
    """
    The service: an async context manager.

    Attributes:
        runs: All runs.
        works: How often something was done, by its key.
        changes: The same, in this life.
        excused: Runs that the service did not show in time, by key.
        answered: Proper responses to requests that change it, in this life.
        wrong: In words, what a client must never do and did.
        reads: Where an import reads its values: in the ``query``, where a run commits unless it says no, in the
            ``parts``, or in ``both``, of which the query counts.
        dated: Whether responses say the time.
        troubles: What happens to the next requests that change it, and whether the work is done all the same.
        look_troubles: What happens to the next looks.
        hidden: Seconds for which the next results are not shown.
    """

    def __init__(self, time: SharedTime) -> None:
        self.api = RawServer()
        self.time = time
        self.begin("query", dated=True)

    def begin(self, reads: str, *, dated: bool) -> None:
        """Forget everything."""
        self.time.begin()
        self.reads, self.dated = reads, dated
        self.runs: dict[str, Run] = {}
        self.works: Counter[str] = Counter()
        self.excused: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.troubles: deque[tuple[str, bool]] = deque()
        self.look_troubles: deque[str] = deque()
        self.hidden: deque[float] = deque()
        self.sessions = self.valid_from = 0
        self.new_life()

    def new_life(self, clients: int = 1) -> None:
        """Count anew. Several clients begin when all have come."""
        self.changes: Counter[str] = Counter()
        self.answered = 0
        self._awaited, self._sent = clients, asyncio.Event()
        self._all_here = asyncio.Event()
        if clients == 1:
            self._sent.set()

    def add_dry_run(self, name: str) -> Run:
        """Have a dry run that was made in the browser."""
        began = self.time.now() - timedelta(hours=1)
        return self._add(f"check {name}", began, began, commit=False, creator="bob@example.com")

    def _add(self, key: str, began: datetime, shown_at: datetime, **more: Any) -> Run:
        run = Run(f"R{len(self.runs):019d}", key, began, shown_at, **more)
        self.runs[run.guid] = run
        return run

    async def __aenter__(self) -> Self:
        await self.api.__aenter__()
        self.api.on("*", "*", self._answer)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.api.__aexit__()

    async def _answer(self, seen: Seen) -> Reply:
        answer = await self._answer_dateless(seen)
        more = {"Date": format_datetime(self.time.now(), usegmt=True)} if self.dated else {}
        more |= {"X-Arena-Requests-Remaining": "9000"}
        return attrs.evolve(answer, headers=(*answer.headers, *more.items()))

    async def _answer_dateless(self, seen: Seen) -> Reply:
        path = seen.path.removeprefix("/v1/").split("/")
        if path[0] == "login":
            await self._meet()
            self.sessions += 1
            session = {"arenaSessionId": f"{CANARY}-{self.sessions}", "workspaceId": WORKSPACE}
            return json_reply({**session, "workspaceRequestLimit": 10_000})
        if path[0] == "logout":
            return reply()
        number = int((seen.header("arena_session_id") or "-0").rpartition("-")[2])
        if not number or number < self.valid_from:
            return reply(401)
        if seen.method != "GET":
            return self._change(seen, path)
        if len(path) == 3:
            # A client that looks at once must not be done before the request of the other one has come.
            with suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await self._sent.wait()
            self._sent.set()
        return self._look(seen, path)

    async def _meet(self) -> None:
        self._awaited -= 1
        if self._awaited <= 0:
            self._all_here.set()
        async with asyncio.timeout(20):
            await self._all_here.wait()

    def _expire_session(self) -> None:
        self.valid_from = self.sessions + 1

    # What changes it

    def _change(self, seen: Seen, path: list[str]) -> Reply:
        trouble, done = self.troubles.popleft() if self.troubles else ("", True)
        if trouble in ("refuse", "throttle"):
            done = False
        elif trouble in ("says no", "says nothing", "disobeys"):
            done = True
        self._sent.set()
        answer = self._carry_out(seen, path, trouble) if done else reply(401 if trouble == "session" else 503)
        if trouble in ("", "session", "says no", "says nothing", "disobeys"):
            self.answered += done
            if trouble == "session":
                self._expire_session()
            return answer
        if trouble == "refuse":
            return arena_error(500, 3514)
        if trouble == "throttle":
            return reply(429, headers={"Retry-After": "30"})
        return self._lose(seen, trouble, answer)

    def _lose(self, seen: Seen, trouble: str, answer: Reply) -> Reply:
        """Lose a response."""
        if trouble == "kill":
            found = re.search(r"life-(\d+)-", seen.header("User-Agent") or "")
            assert found is not None
            os.kill(int(found[1]), signal.SIGKILL)
        if trouble == "stall":
            return reply(raw=b"", stall=True)
        if trouble == "cut":
            return attrs.evolve(answer, status=201, cut=len(answer.body) // 2)
        if trouble == "html":
            return reply(
                body=b"<!DOCTYPE html><html><body>Sign in</body></html>", headers={"Content-Type": "text/html"}
            )
        if trouble.isdigit():
            return reply(int(trouble))
        return reply(mute=True, reset=trouble == "reset")

    def _carry_out(self, seen: Seen, path: list[str], trouble: str) -> Reply:
        query = {name: values[-1] for name, values in parse_qs(seen.query).items()}
        if seen.method == "PUT":
            run = self._commit(path[3], query, seen.json, trouble)
        elif path[0] == "imports":
            run = self._import(query, seen.body, trouble)
        elif any(run.key == "export" and not run.over(self.time.now()) for run in self.runs.values()):
            return arena_error(400, 3144)
        else:
            run = self._run("export", commit=None)
        shown = run.as_json(self.time.now())
        if trouble == "says nothing":
            shown.pop("commit", None)
        elif trouble == "says no" and run.commit is not None:
            shown["commit"] = not run.commit
        return json_reply(shown, 201)

    def _import(self, query: dict[str, str], body: bytes, trouble: str) -> Run:
        name, part = re.search(rb"row-(\w)", body), re.search(rb'name="commit"\r\n[^-]*\r\n(true|false)\r\n', body)
        assert name is not None
        assert part is not None
        wanted = part[1].decode()
        commit = wanted if self.reads == "parts" else query.get("commit", "true" if self.reads == "query" else wanted)
        if commit != wanted:
            self.wrong.append(f"an import that was to commit ({wanted}) commits ({commit}) by the vendor's document")
        kind = "import" if wanted == "true" else "check"
        return self._run(f"{kind} {name[1].decode()}", commit=(commit == "true") != (trouble == "disobeys"))

    def _run(self, key: str, *, commit: bool | None) -> Run:
        now, hidden = self.time.now(), self.hidden.popleft() if self.hidden else 0.0
        self._count(key)
        if hidden > 600 and not key.startswith("import"):
            self.excused[key] += 1
        return self._add(key, now, now + timedelta(seconds=hidden), commit=commit)

    def _commit(self, guid: str, query: dict[str, str], body: dict[str, Any], trouble: str) -> Run:
        run = self.runs[guid]
        commit = body["commit"] if self.reads == "parts" else query.get("commit") == "true"
        if not commit:
            self.wrong.append("a commit was sent that commits nothing")
        self._count(f"commit {guid}")
        if trouble != "disobeys":
            hidden = self.hidden.popleft() if self.hidden else 0.0
            run.commit, run.committed = True, run.committed + 1
            run.commit_shown_at = self.time.now() + timedelta(seconds=hidden)
        return run

    def _count(self, key: str) -> None:
        self.works[key] += 1
        self.changes[key] += 1

    # What looks at it

    def _content(self, path: list[str]) -> Reply:
        run = self.runs[path[3]]
        if not run.over(self.time.now()):
            return arena_error(400, 3028)
        if path[4] == "submitContent":
            return reply(body=sheet(run.key[-1]))
        return reply(body=zipped(b"number\r\n1\r\n") if path[0] == "exports" else b"status,code\r\nSUCCESS,\r\n")

    def _look(self, seen: Seen, path: list[str]) -> Reply:
        if len(path) > 4:
            return self._content(path)
        trouble = self.look_troubles.popleft() if self.look_troubles else ""
        if trouble == "session":
            self._expire_session()
            return reply(401)
        if trouble:
            return self._lose(seen, trouble, reply())
        now = self.time.now()
        if len(path) == 4:
            run = self.runs.get(path[3])
            return arena_error(400, 3012) if run is None or now < run.shown_at else json_reply(run.as_json(now))
        query = parse_qs(seen.query)
        begin, limit = int(query.get("offset", ["0"])[0]), int(query.get("limit", ["20"])[0])
        rows = [
            run.as_json(now)
            for run in reversed(self.runs.values())
            if (run.commit is None) == (path[0] == "exports") and now >= run.shown_at
        ]
        return page(rows[begin : begin + limit])


# --- the client -------------------------------------------------------------------------------------------------------


async def live(settings: dict[str, Any]) -> None:
    """Give one command, and print what came of it."""
    os.environ["ARENA_ASYNC_STATE"] = settings["state"]
    logging.basicConfig(level=logging.DEBUG, stream=sys.stdout, format="%(message)s")
    time = SharedTime(Path(settings["time"]), settings["cell"], ahead=settings["ahead"], nap=settings["nap"])
    left = settings.get("kill_at") or 0

    def step(_: Call) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    local_files.FileSystem = lambda: FaultyDisk(step)  # type: ignore[assignment, misc]
    clock = Clock(monotonic=time, sleep=time.sleep, random=lambda: 0.5, now=time.now)
    client = ArenaClient(
        ArenaCredentials(USER, f"{CANARY} password"),
        base_url=settings["base_url"],
        workspace_id=WORKSPACE,
        timeouts=Timeouts(read=settings["patience"]),
        user_agent=f"life-{os.getpid()}-",
        clock=clock,
    )
    async with client:
        try:
            async with Mirror(settings["to"], clock=clock) as mirror:
                found = await _command(client, mirror, settings)
        except ArenaAsyncError as error:
            found = {"error": type(error).__name__, "text": str(error)}
        sys.stdout.write(f"result {json.dumps(found)}\n")
        sys.stdout.flush()


async def _command(client: ArenaClient, mirror: Mirror, settings: dict[str, Any]) -> dict[str, Any]:
    anew, verb, name = settings["start_anew"], settings["verb"], settings["name"]
    if verb == "export":
        exported = await client.exports.fetch(EXPORT, mirror, start_anew=anew)
        return {"run": exported.run.guid}
    if verb == "import":
        file = Submission(settings["file"], commit=True)
        run = (await client.imports.fetch(IMPORT, file, mirror, start_anew=anew)).run
    elif verb in ("check", "start"):
        file = Submission(settings["file"], commit=verb == "start")
        run = await client.imports.start(IMPORT, file, start_anew=anew)
    else:
        run = await client.imports.commit(IMPORT, name, start_anew=anew)
    return {"run": run.guid, "commit": run.commit}
