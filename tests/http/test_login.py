"""Logging in: once for everybody, once per credential that died, and never into a locked account."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from jumping_loop import Leaps
from plain_provider import PlainAuth, new_session
from scripted import RawServer, Reply, Seen, json_reply, reply

from arena_async.errors import (
    AccountLockedError,
    AuthenticationError,
    ClosedError,
    DecodeError,
    PermissionDeniedError,
    SessionDisplacedError,
    TransportError,
    UnsafeUrlError,
)
from arena_async.options import RetryPolicy
from arena_async.protocol.adapter import Credential
from arena_async.protocol.messages import Request
from arena_async.protocol.quota import DailyQuota, SlidingWindow

THINGS = Request(method="GET", path="/things")


class Service:
    """A service that gives out numbered sessions and knows which one is alive."""

    def __init__(self, server: RawServer) -> None:
        self.server = server
        self.logins = 0
        self.alive = ""
        self.idle: float | None = None
        server.on("POST", "/login", self.login)
        server.on("GET", "/things", self.things)
        server.on("PUT", "/logout", reply())

    def login(self, _: Seen) -> Reply:
        self.logins += 1
        self.alive = f"S{self.logins}"
        return json_reply({"id": self.alive, "idle": self.idle})

    def things(self, seen: Seen) -> Reply:
        return json_reply({}) if seen.header("Session-Id") == self.alive else reply(401)

    def session(self, **options: Any) -> Any:
        return new_session(self.server.base_url, limiter=SlidingWindow(limit=1000), **options)


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    """Yield a service on a real socket."""
    async with RawServer() as server:
        yield Service(server)


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.monotonic = 1000.0

    def __call__(self) -> float:
        return self.monotonic


async def test_fifty_callers_share_one_login(service: Service) -> None:
    """SA01: exactly one login, fifty replies."""
    session = service.session()
    answers = await asyncio.gather(*(session.send(THINGS) for _ in range(50)))
    await session.aclose()
    assert [answer.status for answer in answers] == [200] * 50
    assert service.logins == 1
    assert service.server.lines()[-1] == "PUT /logout"


async def test_fifty_requests_that_die_with_their_session_need_one_new_login(service: Service) -> None:
    """SA02: each is sent once more with the new session, and nobody logs in twice."""
    session = service.session()
    await session.send(THINGS)
    service.alive = "somebody else's"
    answers = await asyncio.gather(*(session.send(THINGS) for _ in range(50)))
    await session.aclose()
    assert [answer.status for answer in answers] == [200] * 50
    assert service.logins == 2
    assert len(service.server.lines("GET /things")) == 1 + 50 + 50


async def test_a_late_rejection_of_an_old_session_takes_the_new_one(service: Service) -> None:
    """SA03: a 401 that arrives after the new session was fetched costs no login."""
    late = asyncio.Event()
    service.server.on("GET", "/slow", reply(401, before=late), json_reply({}))
    session = service.session()
    await session.send(THINGS)
    slow = asyncio.create_task(session.send(Request(method="GET", path="/slow")))
    await service.server.arrived(1, "GET /slow")
    service.alive = "somebody else's"
    await session.send(THINGS)
    late.set()
    assert (await slow).status == 200
    await session.aclose()
    assert service.logins == 2
    sent = [seen.header("Session-Id") for seen in service.server.requests if seen.path == "/slow"]
    assert sent == ["S1", "S2"]


async def test_a_post_is_sent_again_after_a_rejection(service: Service) -> None:
    """A 401 says that nothing was done."""
    service.server.on("POST", "/things", service.things)
    session = service.session()
    await session.credential()
    service.alive = "somebody else's"
    assert (await session.send(Request(method="POST", path="/things", json={}))).status == 200
    await session.aclose()
    assert service.logins == 2


async def test_a_session_is_renewed_before_it_dies_of_idleness(service: Service) -> None:
    """SA05: at 91 and at 89 idle minutes a login comes first; 60 minutes, a call, and 60 minutes more need none."""
    clock = Clock()
    service.idle = 90 * 60.0
    session = service.session(clock=clock)
    await session.send(THINGS)
    for minutes, logins in ((60, 1), (60, 1), (91, 2), (89, 3)):
        clock.monotonic += minutes * 60
        await session.send(THINGS)
        assert service.logins == logins
    await session.aclose()
    assert len(service.server.lines("GET /things")) == 5


async def test_a_token_is_renewed_a_minute_before_its_end(service: Service) -> None:
    """SA19: not earlier, and use does not prolong it."""
    clock = Clock()
    service.server.on("POST", "/login", json_reply({"id": "T1", "lifetime": 3600}), json_reply({"id": "T2"}))
    service.server.on("GET", "/things", json_reply({}))
    session = service.session(clock=clock)
    for passed in (0, 3539, 2):
        clock.monotonic += passed
        await session.send(THINGS)
    await session.aclose()
    sent = [seen.header("Session-Id") for seen in service.server.requests if seen.path == "/things"]
    assert sent == ["T1", "T1", "T2"]


async def test_the_date_may_jump(service: Service) -> None:
    """SA24: durations live on another clock."""
    dates = iter(datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=days) for days in range(0, 4000, 40))
    service.idle = 90 * 60.0
    session = service.session(now=lambda: next(dates))
    for _ in range(5):
        await session.send(THINGS)
    await session.aclose()
    assert service.logins == 1


async def test_each_scope_has_a_credential_of_its_own(service: Service) -> None:
    """SA19: three scopes, thirty calls each, three logins."""
    service.server.on("GET", "/things", json_reply({}))
    session = service.session()
    calls = [session.send(Request(method="GET", path="/things", scope=scope)) for scope in "abc" * 30]
    await asyncio.gather(*calls)
    await session.aclose()
    assert service.logins == 3


async def test_a_wrong_password_is_sent_once(service: Service) -> None:
    """SA06: everybody who waits gets the error, and later calls fail without sending it again."""
    service.server.on("POST", "/login", reply(400))
    session = service.session()
    found = await asyncio.gather(*(session.send(THINGS) for _ in range(10)), return_exceptions=True)
    with pytest.raises(AuthenticationError):
        await session.send(THINGS)
    await session.aclose()
    assert [type(error) for error in found] == [AuthenticationError] * 10
    assert len({id(error) for error in found}) == 10
    assert service.server.lines() == ["POST /login"]


async def test_after_a_while_a_refused_login_may_be_tried_again(service: Service) -> None:
    """SA06: the password may have been changed."""
    clock = Clock()
    service.server.on("POST", "/login", reply(400), service.login)
    session = service.session(clock=clock)
    with pytest.raises(AuthenticationError):
        await session.send(THINGS)
    clock.monotonic += 301
    assert (await session.send(THINGS)).status == 200
    await session.aclose()


async def test_a_locked_account_is_left_alone_until_it_opens(service: Service) -> None:
    """SA07: no login before the instant that the service gave."""
    clock = Clock()
    until = datetime(2026, 1, 1, 12, 5, tzinfo=UTC)
    service.server.on("POST", "/login", json_reply({"until": until.isoformat()}, 423), service.login)
    session = service.session(clock=clock, now=lambda: until - timedelta(minutes=5))
    for passed in (0, 299):
        clock.monotonic += passed
        with pytest.raises(AccountLockedError) as caught:
            await session.send(THINGS)
        assert caught.value.retry_at == until
    assert service.server.lines() == ["POST /login"]
    clock.monotonic += 2
    await session.send(THINGS)
    await session.aclose()
    assert service.logins == 1


@pytest.mark.parametrize("value", ["", "a\r\nEvil: 1", "\ud800", "x" * 300_000, "a\x00b", "é"])
async def test_an_identifier_that_cannot_be_sent_is_not_sent(service: Service, value: str) -> None:
    """SA09, SA22: nothing ever leaves with it, not even a logout."""
    service.server.on("POST", "/login", json_reply({"id": value}))
    session = service.session()
    with pytest.raises(DecodeError) as caught:
        await session.send(THINGS)
    await session.aclose()
    assert service.server.lines() == ["POST /login"]
    assert "Evil" not in str(caught.value)


async def test_a_login_whose_answer_got_lost_is_tried_once_more(service: Service) -> None:
    """SA11: the connection dropped after the request was read."""
    service.server.on("POST", "/login", reply(mute=True), service.login)
    session = service.session()
    assert (await session.send(THINGS)).status == 200
    await session.aclose()
    assert len(service.server.lines("POST /login")) == 2


async def test_a_login_that_never_answers_is_tried_twice_and_no_more(service: Service) -> None:
    """SA11: the tries of the request do not multiply with those of the login."""
    service.server.on("POST", "/login", reply(mute=True))
    session = service.session()
    with pytest.raises(TransportError):
        await session.send(THINGS)
    await session.aclose()
    assert service.server.lines() == ["POST /login"] * 2


async def test_a_login_at_a_service_that_is_away_is_tried_again(service: Service) -> None:
    """A 503 refuses before anything was done."""
    service.server.on("POST", "/login", reply(503), reply(503), reply(503), service.login)
    session = service.session()
    assert (await session.send(THINGS)).status == 200
    await session.aclose()


async def test_a_login_that_is_redirected_sends_the_password_nowhere_else(service: Service) -> None:
    """SA27: not to the other host, and not again to this one."""
    async with RawServer() as other:
        service.server.on("POST", "/login", reply(307, headers={"Location": f"{other.base_url}/login"}))
        session = service.session()
        for _ in range(2):
            with pytest.raises(UnsafeUrlError):
                await session.send(THINGS)
        await session.aclose()
        assert (other.connections, service.server.lines()) == (0, ["POST /login"])


async def test_a_login_in_plain_text_is_refused(service: Service) -> None:
    """A password does not travel readable, whatever the API itself does."""
    session = service.session(auth=PlainAuth("http://login.example.com/token"))
    with pytest.raises(Exception, match="plain http"):
        await session.send(THINGS)
    await session.aclose()
    assert service.server.requests == []


async def test_a_service_that_rejects_every_session_is_asked_twice(service: Service) -> None:
    """SA12, SA23: two requests and two logins in all."""
    service.server.on("GET", "/things", reply(401))
    session = service.session()
    with pytest.raises(AuthenticationError):
        await session.send(THINGS)
    await session.aclose()
    assert service.server.lines()[:4] == ["POST /login", "GET /things"] * 2
    assert len(service.server.lines("GET *")) == service.logins == 2


async def test_a_refusal_that_is_no_rejection_changes_nothing_about_the_session(service: Service) -> None:
    """SA13: a 403 is not mended by logging in."""
    service.server.on("GET", "/things", reply(403))
    session = service.session()
    with pytest.raises(PermissionDeniedError):
        await session.send(THINGS)
    await session.aclose()
    assert service.server.lines() == ["POST /login", "GET /things", "PUT /logout"]


async def test_two_programs_do_not_fight_over_a_session_for_ever(service: Service) -> None:
    """A session that is taken away again and again is taken back twice; the error says why, and says it for a while."""
    clock = Clock()
    session = service.session(clock=clock)
    for _ in range(3):
        await session.send(THINGS)
        service.alive = "somebody else's"
    for _ in range(2):
        with pytest.raises(SessionDisplacedError, match="one user per integration"):
            await session.send(THINGS)
    spent = len(service.server.lines("GET *"))
    clock.monotonic += 301
    assert (await session.send(THINGS)).status == 200
    await session.aclose()
    assert (service.logins, spent) == (4, 3 + 3)


async def test_a_session_that_is_taken_away_now_and_then_is_taken_back_each_time(service: Service) -> None:
    """Twice in five minutes is a war; twice in an hour is somebody who looks at the web application."""
    clock = Clock()
    session = service.session(clock=clock)
    for _ in range(6):
        assert (await session.send(THINGS)).status == 200
        service.alive = "somebody else's"
        clock.monotonic += 200
    await session.aclose()
    assert service.logins == 6


async def test_a_waiter_that_is_cancelled_takes_nothing_from_the_others(service: Service) -> None:
    """SA17: nine of ten still get the session, from the one login."""
    go = asyncio.Event()
    service.server.on("POST", "/login", json_reply({"id": "S1"}, before=go))
    service.alive = "S1"
    session = service.session()
    calls = [asyncio.create_task(session.send(THINGS)) for _ in range(10)]
    await service.server.arrived(1)
    calls[0].cancel()
    with pytest.raises(asyncio.CancelledError):
        await calls[0]
    go.set()
    answers = await asyncio.gather(*calls[1:])
    await session.aclose()
    assert [answer.status for answer in answers] == [200] * 9
    assert len(service.server.lines("POST /login")) == 1


async def test_a_login_under_way_at_close_is_logged_out_when_it_arrives(service: Service) -> None:
    """SA16: no session is left behind at the service, and who waited is told."""
    go = asyncio.Event()
    service.server.on("POST", "/login", json_reply({"id": "S9"}, before=go))
    session = service.session()
    call = asyncio.create_task(session.send(THINGS))
    await service.server.arrived(1)
    closing = asyncio.create_task(session.aclose())
    with pytest.raises(ClosedError):
        await call
    go.set()
    await closing
    assert service.server.lines() == ["POST /login", "PUT /logout"]
    assert service.server.requests[1].header("Session-Id") == "S9"


@pytest.mark.parametrize("answer", [reply(401), reply(body=b"<html>"), reply(mute=True), reply(503)])
async def test_a_logout_that_fails_is_nobodys_business(service: Service, answer: Reply) -> None:
    """SA15: it is tried once and swallowed."""
    service.server.on("PUT", "/logout", answer)
    session = service.session()
    await session.send(THINGS)
    await session.aclose()
    assert service.server.lines("PUT *") == ["PUT /logout"]


async def test_a_logout_that_hangs_is_given_up(service: Service) -> None:
    """SA15: closing takes no longer than its limit."""
    clock = Leaps()
    service.server.on("PUT", "/logout", reply(before=asyncio.Event()))
    session = service.session()
    await session.send(THINGS)
    closing = asyncio.create_task(session.aclose())
    await service.server.arrived(1, "PUT /logout")
    assert not closing.done()
    clock.leap(5)
    async with asyncio.timeout(20):
        await closing
    assert service.server.lines("PUT *") == ["PUT /logout"]


class CountedLogout(PlainAuth):
    """Its logout counts against the allowance."""

    def logout(self, credential: Credential) -> Request | None:
        return Request(method="PUT", path="/logout")


@pytest.mark.parametrize(("remaining", "sent"), [("11", ["GET /things", "PUT /logout"]), ("10", ["GET /things"])])
async def test_a_logout_that_counts_is_booked_and_never_taken_from_the_reserve(
    service: Service, remaining: str, sent: list[str]
) -> None:
    """QU03: a session that nobody ends is over by itself; a request of the reserve is somebody else's."""
    service.server.on("GET", "/things", json_reply({}, headers={"X-Remaining": remaining}))
    session = new_session(service.server.base_url, auth=CountedLogout(), limiter=DailyQuota(reserve=10))
    await session.send(THINGS)
    await session.aclose()
    assert service.server.lines() == ["POST /login", *sent]
    assert session.requests_sent == len(sent)


async def test_a_session_that_was_taken_away_is_not_logged_out(service: Service) -> None:
    """SA15: what was rejected is over already."""
    session = service.session(retry=RetryPolicy(attempts=1))
    await session.send(THINGS)
    service.server.on("POST", "/login", reply(400))
    service.alive = "somebody else's"
    with pytest.raises(AuthenticationError):
        await session.send(THINGS)
    await session.aclose()
    assert service.server.lines("PUT *") == []
