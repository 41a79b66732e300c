"""One session for all processes of a user: found, shared, taken back, and never ended by one of them."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fake_clock import FakeTime

from arena_async.errors import AuthenticationError, ClosedError, ConfigurationError, SessionDisplacedError
from arena_async.options import Clock, RetryPolicy
from arena_async.providers.arena import ArenaClient, ArenaCredentials, SessionStore
from arena_async.testing import ArenaSimulator, faults

CHILD = Path(__file__).parents[2] / "support" / "session_child.py"


@pytest.fixture
async def service() -> AsyncIterator[ArenaSimulator]:
    """Yield a service that accepts every guid of its own."""
    async with ArenaSimulator(files=1) as service:
        yield service


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Return the path of a store in a folder that is not there yet."""
    return tmp_path / "sessions" / "arena.json"


def client(service: ArenaSimulator, store: Path, **options: Any) -> ArenaClient:
    """Build a client that shares its session and never waits before it tries again."""
    given = {"retry": RetryPolicy(wait_initial=0, wait_jitter=0), "session_store": store, **options}
    return service.client(**given)


async def ask(arena: ArenaClient, service: ArenaSimulator) -> None:
    """Ask for anything."""
    await arena.extracts.get(service.extract)


def logins(service: ArenaSimulator) -> int:
    """Count the logins."""
    return len(service.seen("POST */login"))


def stored(store: Path) -> dict[str, Any]:
    """Read what the store holds, of all its users."""
    users: dict[str, Any] = json.loads(store.read_bytes())["users"]
    return users


def plant(store: Path, **record: Any) -> None:
    """Change what the store says about its only user."""
    data = json.loads(store.read_bytes())
    (user,) = data["users"]
    data["users"][user].update(record)
    write(store, json.dumps(data).encode())


def looked_at(store: Path) -> tuple[int, str]:
    """Return who may read the store, and all of its text."""
    return stat.S_IMODE(store.stat().st_mode), store.read_text()


def write(store: Path, content: bytes) -> None:
    """Put something in the place of the store, for its owner alone."""
    store.parent.mkdir(mode=0o700, exist_ok=True)
    store.write_bytes(content)
    store.chmod(0o600)


class Queue:
    """Lets a login go on when so many others have been told to wait for it."""

    def __init__(self, service: ArenaSimulator, waiting: int) -> None:
        self.go = asyncio.Event()
        self._missing = waiting
        service.inject(faults.delay(self.go), on="POST */login")

    async def sleep(self, _: float) -> None:
        self._missing -= 1
        if self._missing <= 0:
            self.go.set()
        await asyncio.sleep(0.01)


async def test_the_next_client_takes_over_the_session_of_the_one_before(service: ArenaSimulator, store: Path) -> None:
    """One login for two clients one after the other, and no logout: whoever comes next begins with the session."""
    for _ in range(2):
        async with client(service, store) as arena:
            await ask(arena, service)

    assert [seen.method + " " + seen.path for seen in service.log] == [
        "POST /v1/login",
        f"GET /v1/extracts/{service.extract}",
        f"GET /v1/extracts/{service.extract}",
    ]
    assert len({seen.headers["arena_session_id"] for seen in service.log[1:]}) == 1


async def test_two_clients_of_one_user_may_be_open_where_they_share_their_session(
    service: ArenaSimulator, store: Path
) -> None:
    """Without the store the second one is refused; another store is as bad as none."""
    async with client(service, store) as first, client(service, SessionStore(store)) as second:  # type: ignore[arg-type]
        await asyncio.gather(ask(first, service), ask(second, service))
        elsewhere = client(service, store.with_name("other.json"))
        with pytest.raises(ConfigurationError, match="another client of the same user"):
            await ask(elsewhere, service)
        await elsewhere.aclose()

    assert logins(service) == 1


async def test_clients_that_begin_together_log_in_once(service: ArenaSimulator, store: Path) -> None:
    """The first one logs in, and the others wait for it."""
    queue = Queue(service, waiting=9)
    async with AsyncExitStack() as stack:
        arenas = [
            await stack.enter_async_context(client(service, store, clock=Clock(sleep=queue.sleep))) for _ in range(4)
        ]
        await asyncio.gather(*(ask(arena, service) for arena in arenas))

    assert logins(service) == 1


@pytest.mark.process
async def test_four_processes_of_one_user_log_in_once(service: ArenaSimulator, store: Path) -> None:
    """Started together; none ends the session of another, not at their ends either."""
    settings = {
        "base_url": service.base_url,
        "store": str(store),
        "extract": service.extract,
        "email": service.email,
        "password": service.password,
        "workspace_id": service.workspace_id,
        "times": 5,
    }
    children = [
        await asyncio.create_subprocess_exec(
            sys.executable, CHILD, json.dumps(settings), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        for _ in range(4)
    ]
    said = []
    for child in children:
        assert child.stdout is not None
        said.append((await child.stdout.readline()).decode().strip())
    for child in children:
        said += (await child.communicate(b"\n"))[0].decode().split()

    assert said == ["ok"] * 8
    assert logins(service) == 1
    assert len(service.seen("GET */extracts/*")) == 4 * 6
    assert service.seen("PUT */logout") == []


async def test_a_session_that_a_sibling_renewed_is_found_before_logging_in(
    service: ArenaSimulator, store: Path
) -> None:
    """The store is read again after a 401: two clients, one session that dies, one new login."""
    async with client(service, store) as first, client(service, store) as second:
        await ask(first, service)
        await ask(second, service)
        service.end_sessions()
        await ask(first, service)
        await ask(second, service)

    assert logins(service) == 2
    assert [seen.status for seen in service.seen("GET */extracts/*")] == [200, 200, 401, 200, 401, 200]


async def test_a_war_with_somebody_else_is_given_up_by_all_together(service: ArenaSimulator, store: Path) -> None:
    """Three clients take a session back twice in all, not twice each, and say why they stop."""
    async with AsyncExitStack() as stack:
        arenas = [await stack.enter_async_context(client(service, store)) for _ in range(3)]
        for arena in arenas:
            await ask(arena, service)
        for arena in arenas[:2]:
            service.end_sessions()
            await ask(arena, service)
        service.end_sessions()
        with pytest.raises(SessionDisplacedError, match="use one user per integration, or let all programs"):
            await ask(arenas[2], service)
        with pytest.raises(SessionDisplacedError):
            await ask(arenas[0], service)

    assert logins(service) == 1 + 2


async def test_a_refused_login_is_the_answer_for_those_who_wait_for_it(service: ArenaSimulator, store: Path) -> None:
    """Four clients with a wrong password send it once, and do not lock the account."""
    queue = Queue(service, waiting=9)
    wrong = {"credentials": ArenaCredentials(service.email, "not the password"), "clock": Clock(sleep=queue.sleep)}
    async with AsyncExitStack() as stack:
        arenas = [await stack.enter_async_context(client(service, store, **wrong)) for _ in range(4)]
        found = await asyncio.gather(*(ask(arena, service) for arena in arenas), return_exceptions=True)

    assert [type(error) for error in found] == [AuthenticationError] * 4
    assert logins(service) == 1
    assert sum("which was waited for" in str(error) for error in found) == 3


async def test_after_a_refusal_the_next_process_may_try(service: ArenaSimulator, store: Path) -> None:
    """The password may be the right one now."""
    async with client(service, store, credentials=ArenaCredentials(service.email, "not the password")) as arena:
        with pytest.raises(AuthenticationError):
            await ask(arena, service)
    async with client(service, store) as arena:
        await ask(arena, service)

    assert logins(service) == 2


async def test_a_process_that_died_while_it_logged_in_is_not_waited_for(service: ArenaSimulator, store: Path) -> None:
    """Its claim names a process that is gone."""
    async with client(service, store) as arena:
        await ask(arena, service)
    gone = await asyncio.create_subprocess_exec(sys.executable, "-c", "pass")
    await gone.wait()
    claim = {"by": "somebody", "pid": gone.pid, "host": os.uname().nodename, "at": datetime.now(UTC).timestamp()}
    plant(store, session=None, claim=claim)

    async with asyncio.timeout(5), client(service, store) as arena:
        await ask(arena, service)

    assert logins(service) == 2


async def test_a_login_of_another_machine_is_waited_for_only_so_long(service: ArenaSimulator, store: Path) -> None:
    """Nobody can tell whether it still runs, so three minutes are enough."""
    clock = FakeTime()
    user_of = client(service, store, clock=Clock(now=clock.now))
    async with user_of as arena:
        await ask(arena, service)
    plant(store, session=None, claim={"by": "somebody", "pid": 1, "host": "elsewhere", "at": clock.at})
    naps: list[float] = []

    async def sleep(seconds: float) -> None:
        naps.append(seconds)
        clock.at += 20
        await asyncio.sleep(0)

    async with client(service, store, clock=Clock(now=clock.now, sleep=sleep)) as arena:
        await ask(arena, service)

    assert (logins(service), len(naps)) == (2, 9)


async def test_a_session_that_nobody_used_for_long_is_not_tried(tmp_path: Path, store: Path) -> None:
    """90 minutes of rest end it, and the use by anybody is noted within ten."""
    clock = FakeTime()
    async with ArenaSimulator(files=1, clock=clock) as service:
        async with client(service, store, clock=Clock(monotonic=clock, now=clock.now)) as arena:
            await ask(arena, service)
            clock.at += 60 * 60
            await ask(arena, service)
        clock.at += 60 * 60
        async with client(service, store, clock=Clock(monotonic=clock, now=clock.now)) as arena:
            await ask(arena, service)
        assert logins(service) == 1
        clock.at += 101 * 60
        async with client(service, store, clock=Clock(monotonic=clock, now=clock.now)) as arena:
            await ask(arena, service)

    assert logins(service) == 2
    assert {seen.status for seen in service.log} == {200}


@pytest.mark.parametrize(
    "content", [b"{", b"[]", b'{"arena_async_sessions": 99}', b'{"arena_async_sessions": 1}', b"", b"\xff"]
)
async def test_a_damaged_store_costs_one_login(service: ArenaSimulator, store: Path, content: bytes) -> None:
    """Whatever lies there says nothing, and is replaced."""
    write(store, content)
    for _ in range(2):
        async with client(service, store) as arena:
            await ask(arena, service)

    assert logins(service) == 1


@pytest.mark.parametrize("headers", [[["arena_session_id", "a\r\nEvil: 1"]], [["arena_session_id", ""]], "x", None])
async def test_a_stored_session_that_no_header_carries_is_not_sent(
    service: ArenaSimulator, store: Path, headers: Any
) -> None:
    """It counts as none."""
    async with client(service, store) as arena:
        await ask(arena, service)
    plant(store, session={**next(iter(stored(store).values()))["session"], "headers": headers})

    async with client(service, store) as arena:
        await ask(arena, service)

    assert logins(service) == 2


async def test_users_and_workspaces_keep_their_sessions_apart_in_one_store(
    service: ArenaSimulator, store: Path
) -> None:
    """Another user of the same file has a session of its own."""
    service.add_user("other@example.com", "word")
    other = ArenaCredentials("other@example.com", "word")
    for _ in range(2):
        async with client(service, store) as one, client(service, store, credentials=other) as two:
            await ask(one, service)
            await ask(two, service)

    assert logins(service) == 2
    assert len(stored(store)) == 2


async def test_the_store_is_private_and_holds_no_password_and_no_name(
    service: ArenaSimulator, store: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It holds the session id, for its owner alone; no log shows it."""
    caplog.set_level(logging.DEBUG)
    async with client(service, store) as arena:
        await ask(arena, service)
    session_id = service.log[-1].headers["arena_session_id"]
    mode, content = looked_at(store)

    assert mode == 0o600
    assert session_id in content
    assert [word for word in (service.password, service.email) if word in content] == []
    assert session_id not in caplog.text
    assert session_id not in repr([arena, SessionStore(store)])


@pytest.fixture
def open_directory(tmp_path: Path) -> Path:
    """Return a folder that everybody may look into."""
    directory = tmp_path / "open"
    directory.mkdir()
    directory.chmod(0o755)
    return directory


async def test_a_folder_that_others_may_look_into_is_refused_at_the_first_request(
    service: ArenaSimulator, open_directory: Path
) -> None:
    """Nothing is sent."""
    async with client(service, open_directory / "arena.json") as arena:
        with pytest.raises(ConfigurationError, match="others may read or change"):
            await ask(arena, service)

    assert service.log == []


async def test_a_login_under_way_at_the_end_of_a_client_is_there_for_the_next_one(
    service: ArenaSimulator, store: Path
) -> None:
    """It arrives while the client closes; nobody logs out of it."""
    go = asyncio.Event()
    service.inject(faults.delay(go), on="POST */login")
    arena = client(service, store)
    requesting = asyncio.create_task(ask(arena, service))
    while not service.seen("POST */login"):
        await asyncio.sleep(0.01)
    closing = asyncio.create_task(arena.aclose())
    with pytest.raises(ClosedError):
        await requesting
    go.set()
    await closing
    async with client(service, store) as arena:
        await ask(arena, service)

    assert logins(service) == 1


async def test_a_login_that_is_given_up_lets_the_next_one_try(
    service: ArenaSimulator, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that had no time to wait for its own login does not make the others wait for it."""
    monkeypatch.setattr("arena_async.http.session._CLOSING_SECONDS", 0.05)
    service.inject(faults.delay(asyncio.Event()), on="POST */login")
    arena = client(service, store)
    requesting = asyncio.create_task(ask(arena, service))
    while not service.seen("POST */login"):
        await asyncio.sleep(0.01)
    await arena.aclose()
    with pytest.raises(ClosedError):
        await requesting
    async with asyncio.timeout(5), client(service, store) as arena:
        await ask(arena, service)

    assert logins(service) == 2
