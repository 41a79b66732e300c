"""One session for all processes of a user: found, shared, taken back, and never ended by one of them."""

from __future__ import annotations

import asyncio
import json
import logging
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fake_clock import FakeTime
from jumping_loop import Leaps

from arena_async.errors import AuthenticationError, ClosedError, ConfigurationError, SessionDisplacedError
from arena_async.http.credential_store import LoginTurn, SharedCredential
from arena_async.options import Clock, RetryPolicy
from arena_async.protocol.adapter import Credential
from arena_async.protocol.messages import Secret
from arena_async.providers.arena import ArenaClient, ArenaCredentials, SessionStore
from arena_async.providers.arena.sessions import SharedSessions
from arena_async.testing import ArenaSimulator, faults
from arena_async.transfer.filesystem import FileSystem, machine

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


def client(service: ArenaSimulator, store: Path | SessionStore, **options: Any) -> ArenaClient:
    """Build a client that shares its session and never waits before it tries again."""
    given = {
        "retry": RetryPolicy(wait_initial=0, wait_jitter=0),
        "session_store": store,
        "workspace_id": service.workspace_id,
        **options,
    }
    return service.client(**given)


async def ask(arena: ArenaClient, service: ArenaSimulator) -> None:
    """Ask for anything."""
    await arena.extracts.get(service.extract)


def logins(service: ArenaSimulator) -> int:
    """Count the logins."""
    return len(service.seen("POST */login"))


def files_of(store: Path) -> list[Path]:
    """Return the files of the users of a store."""
    return sorted(store.parent.glob(f"{store.stem}-*{store.suffix}"))


def stored(store: Path) -> list[dict[str, Any]]:
    """Read what the store holds, of each of its users."""
    return [json.loads(path.read_bytes()) for path in files_of(store)]


def plant(store: Path, **record: Any) -> None:
    """Change what the store says about its only user."""
    (path,) = files_of(store)
    write(path, json.dumps({**json.loads(path.read_bytes()), **record}).encode())


def looked_at(store: Path) -> tuple[int, str]:
    """Return who may read the file of the only user, and its name and text."""
    (path,) = files_of(store)
    return stat.S_IMODE(path.stat().st_mode), path.name + path.read_text()


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
    async with client(service, store) as first, client(service, SessionStore(store)) as second:
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
    children = [await start_child(service, store, times=5) for _ in range(4)]
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


@pytest.mark.process
async def test_a_process_that_was_killed_while_it_logged_in_is_not_waited_for(
    service: ArenaSimulator, store: Path
) -> None:
    """Its lock ends with it: the next process logs in at once, and until then not."""
    service.inject(faults.delay(asyncio.Event()), on="POST */login", times=1)
    child = await start_child(service, store)
    while not service.seen("POST */login"):
        await asyncio.sleep(0.01)
    arena = client(service, store)
    requesting = asyncio.create_task(ask(arena, service))
    await asyncio.sleep(0.5)
    before = logins(service)
    child.kill()
    await child.communicate()
    async with asyncio.timeout(5):
        await requesting
    await arena.aclose()

    assert (before, logins(service)) == (1, 2)


async def start_child(service: ArenaSimulator, store: Path, **settings: Any) -> asyncio.subprocess.Process:
    """Start a process that requests, waits for a line, requests once more and ends."""
    given = {
        "base_url": service.base_url,
        "store": str(store),
        "extract": service.extract,
        "email": service.email,
        "password": service.password,
        "workspace_id": service.workspace_id,
        **settings,
    }
    return await asyncio.create_subprocess_exec(
        sys.executable, CHILD, json.dumps(given), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )


@pytest.mark.parametrize("step", [timedelta(days=-1), timedelta(minutes=-1), timedelta(minutes=4), timedelta(days=3)])
async def test_a_login_is_waited_for_however_long_it_takes_and_whatever_the_date(
    service: ArenaSimulator, store: Path, step: timedelta
) -> None:
    """An hour passes, and the date is set: the second client waits, and both use one login."""
    clock, go = FakeTime(), asyncio.Event()
    date = [clock.now()]
    service.inject(faults.delay(go), on="POST */login")
    naps: list[float] = []

    async def sleep(seconds: float) -> None:
        naps.append(seconds)
        clock.at += 60
        if len(naps) == 60:
            date[0] += step
        if len(naps) == 90:
            go.set()
        await asyncio.sleep(0.001)

    timing = Clock(monotonic=clock, now=lambda: date[0], sleep=sleep)
    async with client(service, store, clock=timing) as first, client(service, store, clock=timing) as second:
        begun = asyncio.create_task(ask(first, service))
        while not service.seen("POST */login"):
            await asyncio.sleep(0.001)
        await ask(second, service)
        await begun
        date[0] -= 2 * step
        async with client(service, store, clock=timing) as third:
            await ask(third, service)

    assert logins(service) == 1
    assert len(naps) >= 90


async def test_hundreds_of_users_share_a_store(store: Path) -> None:
    """Each has a file, so that the one of the first is there when the last one has logged in."""
    users = [f"user{number}" for number in range(300)]
    for user in users:
        sessions = SharedSessions(SessionStore(store), user, clock=Clock())
        assert await sessions.take(rejected=None) == LoginTurn()
        headers = (("arena_session_id", Secret(f"{user}'s")),)
        await sessions.put(Credential(headers=headers, idle_lifetime=5400.0), relogin=False)
        await sessions.aclose()
    found = []
    for user in users:
        sessions = SharedSessions(SessionStore(store), user, clock=Clock())
        shared = await sessions.take(rejected=None)
        found.append(shared.credential.headers[0][1].reveal() if isinstance(shared, SharedCredential) else shared)
        await sessions.aclose()

    assert found == [f"{user}'s" for user in users]
    assert len(files_of(store)) == 300


# ---- where files cannot be locked


@pytest.fixture
def without_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Grant every lock to everyone, as some network file systems do."""
    monkeypatch.setattr(FileSystem, "lock", lambda self, file: True)


@pytest.mark.usefixtures("without_locks")
async def test_without_locks_clients_that_begin_together_log_in_once(service: ArenaSimulator, store: Path) -> None:
    """A claim that another one replaced is none."""
    queue = Queue(service, waiting=9)
    async with AsyncExitStack() as stack:
        arenas = [
            await stack.enter_async_context(client(service, store, clock=Clock(sleep=queue.sleep))) for _ in range(4)
        ]
        await asyncio.gather(*(ask(arena, service) for arena in arenas))

    assert logins(service) == 1


@pytest.mark.usefixtures("without_locks")
async def test_without_locks_a_dead_process_is_not_waited_for(service: ArenaSimulator, store: Path) -> None:
    """Its claim names a process that is gone."""
    async with client(service, store) as arena:
        await ask(arena, service)
    gone = await asyncio.create_subprocess_exec(sys.executable, "-c", "pass")
    await gone.wait()
    plant(store, session=None, claim={"by": "another", "count": 0, "machine": machine(), "pid": gone.pid, "start": "1"})

    async with asyncio.timeout(10), client(service, store) as arena:
        await ask(arena, service)

    assert logins(service) == 2


@pytest.mark.usefixtures("without_locks")
async def test_without_locks_a_login_elsewhere_is_waited_for_as_long_as_it_counts(
    service: ArenaSimulator, store: Path
) -> None:
    """And for a minute after its last count, by the clock of the one that waits."""
    clock = FakeTime()
    began = clock.at
    async with client(service, store) as arena:
        await ask(arena, service)
    claim: dict[str, Any] = {"by": "another", "count": 0, "machine": "elsewhere", "pid": 1, "start": "1"}
    plant(store, session=None, claim=claim)

    async def sleep(seconds: float) -> None:
        clock.at += 10
        if clock.at < began + 600:
            claim["count"] += 1
            plant(store, claim=claim)
        await asyncio.sleep(0)

    async with client(service, store, clock=Clock(monotonic=clock, sleep=sleep)) as arena:
        await ask(arena, service)

    assert logins(service) == 2
    assert 650 <= clock.at - began <= 680


@pytest.mark.usefixtures("without_locks")
async def test_without_locks_a_login_counts_as_long_as_it_takes(service: ArenaSimulator, store: Path) -> None:
    """Every ten seconds, so that others know that it goes on."""
    go, leaps = asyncio.Event(), Leaps()
    service.inject(faults.delay(go), on="POST */login")
    async with client(service, store, clock=Clock(sleep=asyncio.sleep)) as arena:
        requesting = asyncio.create_task(ask(arena, service))
        while not service.seen("POST */login"):
            await asyncio.sleep(0.01)
        counts = []
        for _ in range(3):
            counts.append(stored(store)[0]["claim"]["count"])
            leaps.leap(10.5)
            async with asyncio.timeout(60):
                while stored(store)[0]["claim"]["count"] == counts[-1]:
                    await asyncio.sleep(0.01)
        go.set()
        await requesting

    assert counts == [0, 1, 2]
    assert logins(service) == 1


# ---- who logs out


@pytest.mark.parametrize("first_to_leave", [0, 1])
async def test_the_last_one_logs_out_where_the_store_says_so(
    service: ArenaSimulator, store: Path, first_to_leave: int
) -> None:
    """Whoever that is; then the next one logs in anew."""
    leaving = SessionStore(store, log_out=True)
    arenas = [client(service, leaving) for _ in range(2)]
    for arena in arenas:
        await ask(arena, service)
    await arenas[first_to_leave].aclose()
    before = len(service.seen("PUT */logout"))
    await ask(arenas[1 - first_to_leave], service)
    await arenas[1 - first_to_leave].aclose()
    after = [seen.status for seen in service.seen("PUT */logout")]
    async with client(service, leaving) as arena:
        await ask(arena, service)

    assert (before, after) == (0, [200])
    assert logins(service) == 2
    assert "session_id" not in stored(store)[0]


async def test_the_session_that_is_logged_out_is_the_newest(service: ArenaSimulator, store: Path) -> None:
    """The last one has an older one, which another one renewed and left."""
    leaving = SessionStore(store, log_out=True)
    one, two = client(service, leaving), client(service, leaving)
    await ask(one, service)
    await ask(two, service)
    service.end_sessions()
    await ask(two, service)
    renewed = service.log[-1].headers["arena_session_id"]
    await two.aclose()
    await one.aclose()

    (logout,) = service.seen("PUT */logout")
    assert (logout.status, logout.headers["arena_session_id"]) == (200, renewed)


@pytest.mark.process
async def test_a_process_that_was_killed_keeps_no_session_open(service: ArenaSimulator, store: Path) -> None:
    """The last one that lives logs out."""
    child = await start_child(service, store)
    assert child.stdout is not None
    assert await child.stdout.readline() == b"ok\n"
    arena = client(service, SessionStore(store, log_out=True))
    await ask(arena, service)
    child.kill()
    await child.communicate()
    await arena.aclose()

    assert (logins(service), len(service.seen("PUT */logout"))) == (1, 1)


@pytest.mark.process
async def test_a_process_that_lives_keeps_the_session(service: ArenaSimulator, store: Path) -> None:
    """The other one does not log out under it."""
    child = await start_child(service, store)
    assert child.stdout is not None
    assert await child.stdout.readline() == b"ok\n"
    async with client(service, SessionStore(store, log_out=True)) as arena:
        await ask(arena, service)
    said, _ = await child.communicate(b"\n")

    assert said == b"ok\n"
    assert (logins(service), service.seen("PUT */logout")) == (1, [])


# ---- the store of a user


async def test_a_shared_client_of_the_environment_keeps_its_session_in_the_state_directory(
    service: ArenaSimulator, tmp_path: Path
) -> None:
    """For its owner alone; the last one logs out and leaves no session id."""
    state = tmp_path / "state"
    environ = {**service.describe()["environment"], "ARENA_ASYNC_STATE": str(state)}
    one, two = (ArenaClient.from_env(environ=environ, shared=True) for _ in range(2))
    await ask(one, service)
    await ask(two, service)
    mode, content = looked_at(state / "arena-sessions.json")
    session_id = service.log[-1].headers["arena_session_id"]
    await one.aclose()
    await two.aclose()

    assert (stat.S_IMODE(state.stat().st_mode), mode) == (0o700, 0o600)
    assert session_id in content
    assert [path.name for path in state.iterdir() if session_id in path.read_text()] == []
    assert (logins(service), len(service.seen("PUT */logout"))) == (1, 1)


@pytest.mark.parametrize("state", ["/dev/null/state", "open", None])
async def test_without_a_directory_that_can_be_written_nothing_is_shared(
    service: ArenaSimulator, open_directory: Path, state: str | None
) -> None:
    """The client logs in and out as one that shares nothing."""
    directory = {"ARENA_ASYNC_STATE": str(open_directory) if state == "open" else state} if state else {}
    environ = {**service.describe()["environment"], **directory}
    async with ArenaClient.from_env(environ=environ, shared=True) as arena:
        await ask(arena, service)

    assert (logins(service), len(service.seen("PUT */logout"))) == (1, 1)
    assert files_of(open_directory / "arena-sessions.json") == []


async def test_a_given_session_is_not_shared(service: ArenaSimulator, tmp_path: Path) -> None:
    """Nor is a machine user, who needs no sharing."""
    environ = {"ARENA_BASE_URL": service.base_url, "ARENA_ASYNC_STATE": str(tmp_path / "state")}
    given = {"ARENA_SESSION_ID": "abc"}
    user = {"ARENA_CLIENT_ID": "i", "ARENA_CLIENT_SECRET": "s", "ARENA_TOKEN_URL": f"{service.base_url}/token"}
    for credentials in (given, user):
        await ArenaClient.from_env(environ=environ | credentials, shared=True).aclose()

    assert not (tmp_path / "state").exists()


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
    "content",
    [b"{", b"[]", b'{"arena_async_sessions": 99}', b'{"arena_async_sessions": 2}', b"", b"\xff", b'{"users": {}}'],
)
async def test_a_damaged_store_costs_one_login(service: ArenaSimulator, store: Path, content: bytes) -> None:
    """Whatever lies there says nothing, and is replaced; so does what an earlier version left for all users."""
    async with client(service, store) as arena:
        await ask(arena, service)
    write(files_of(store)[0], content)
    write(store, content)
    for _ in range(2):
        async with client(service, store) as arena:
            await ask(arena, service)

    assert logins(service) == 2


@pytest.mark.parametrize("headers", [[["arena_session_id", "a\r\nEvil: 1"]], [["arena_session_id", ""]], "x", None])
async def test_a_stored_session_that_no_header_carries_is_not_sent(
    service: ArenaSimulator, store: Path, headers: Any
) -> None:
    """It counts as none."""
    async with client(service, store) as arena:
        await ask(arena, service)
    plant(store, session={**stored(store)[0]["session"], "headers": headers})

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
