"""Requests: what leaves, how often, and what comes of the answer."""

from __future__ import annotations

import asyncio
import errno
import gzip
import logging
import os
import socket
import ssl
import traceback
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest
import trustme
from plain_provider import new_session
from scripted import RawServer, json_reply, reply, unused_port
from session_files import Hours

from arena_async.errors import (
    ApiError,
    ClosedError,
    ConfigurationError,
    DeadlineError,
    DecodeError,
    HostPausedError,
    QuotaExhaustedError,
    ServerError,
    ThrottledError,
    TlsError,
    TransportError,
    UnsafeUrlError,
)
from arena_async.options import RetryPolicy, Timeouts
from arena_async.protocol.messages import Request
from arena_async.protocol.quota import DailyQuota, SlidingWindow
from arena_async.protocol.urls import UrlPolicy

OPEN = Request(method="GET", path="/things", scope=None)
THINGS = Request(method="GET", path="/things")
POST = Request(method="POST", path="/things", json={"a": 1}, scope=None)
TOMORROW = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)


@pytest.fixture
async def server() -> AsyncIterator[RawServer]:
    """Yield a server with a login and a list of things."""
    async with RawServer() as running:
        running.on("POST", "/login", json_reply({"id": "S1"}), json_reply({"id": "S2"}), json_reply({"id": "S3"}))
        running.on("PUT", "/logout", reply())
        running.on("GET", "/things", json_reply({"ok": True}))
        running.on("POST", "/things", json_reply({"ok": True}))
        yield running


def remaining(number: int, *, at: datetime = TOMORROW, **how: Any) -> Any:
    """Build an answer that tells the allowance."""
    return json_reply({}, headers={"X-Remaining": str(number), "X-Resets-At": at.isoformat()}, **how)


class TestWhatLeaves:
    """What leaves."""

    async def test_a_query_is_encoded_as_the_services_read_it(self, server: RawServer) -> None:
        """A star stays, a percent sign and a plus sign are escaped, a space is no plus."""
        async with closing(new_session(server.base_url + "/v1/")) as session:
            server.on("GET", "/v1/things", json_reply({}))
            params = {"q": "A*", "p": "50%+1 é", "on": True, "none": None}
            await session.send(Request(method="GET", path="/things", params=params, scope=None))
        assert server.requests[0].target == "/v1/things?q=A*&p=50%25%2B1%20%C3%A9&on=true"

    async def test_an_absolute_address_is_sent_byte_for_byte(self, server: RawServer) -> None:
        """Whatever is escaped stays escaped in the same way, and only the fragment stays at home."""
        server.on("GET", "/a*", reply())
        url = f"{server.base_url}/a%2fb/~x?sig=a%2Bb%2fc%3D&x=%7E+%20*'()"
        async with closing(new_session(server.base_url)) as session:
            await session.send(Request(method="GET", path=url, scope=None))
        assert server.requests[0].target == "/a%2fb/~x?sig=a%2Bb%2fc%3D&x=%7E+%20*'()"

    async def test_json_and_forms_are_written_with_their_type(self, server: RawServer) -> None:
        """A body says what it is."""
        async with closing(new_session(server.base_url)) as session:
            await session.send(POST)
            await session.send(Request(method="POST", path="/things", form={"a": "b c&"}, scope=None))
        one, two = server.requests
        assert (one.body, one.header("Content-Type")) == (b'{"a": 1}', "application/json")
        assert (two.body, two.header("Content-Type")) == (b"a=b+c%26", "application/x-www-form-urlencoded")

    async def test_headers_of_the_client_go_with_every_request(self, server: RawServer) -> None:
        """The session's own headers, the caller's name and ours."""
        async with closing(new_session(server.base_url, headers={"Usage": "nightly"}, user_agent="ACME/1")) as session:
            await session.send(OPEN)
        seen = server.requests[0]
        assert seen.header("Usage") == "nightly"
        assert (seen.header("User-Agent") or "").startswith("ACME/1 arena-async/")
        assert seen.header("Accept-Encoding") == "gzip"

    @pytest.mark.parametrize("value", ["a\r\nEvil: 1", "a\x00", "\ud800", "\x1b[0m"])
    def test_a_header_that_cannot_be_sent_is_refused_before_sending(self, value: str) -> None:
        """Control characters and lone surrogates never reach the wire."""
        with pytest.raises(ConfigurationError):
            new_session("https://api.example.com", headers={"Usage": value})

    async def test_cookies_are_never_kept(self, server: RawServer) -> None:
        """A cookie that a server sets does not come back to it."""
        server.on("GET", "/things", json_reply({}, headers={"Set-Cookie": "a=b; Path=/"}))
        # Cookies of bare addresses are kept by nobody.
        async with closing(new_session(f"http://localhost:{server.port}")) as session:
            await session.send(OPEN)
            await session.send(OPEN)
        assert [seen.header("Cookie") for seen in server.requests] == [None, None]

    async def test_the_environment_is_not_asked_for_proxies_or_logins(
        self, server: RawServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
    ) -> None:
        """SE08: proxy variables and netrc change nothing unless a proxy is handed in."""
        netrc = tmp_path / "netrc"
        netrc.write_text("machine 127.0.0.1 login u password netrc-canary\n")
        monkeypatch.setenv("NETRC", str(netrc))
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "https_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{unused_port()}")
        async with closing(new_session(server.base_url)) as session:
            await session.send(OPEN)
        assert server.requests[0].header("Authorization") is None

    async def test_a_proxy_that_was_handed_in_is_used(self, server: RawServer) -> None:
        """SE08: the request goes through the proxy, with the proxy's own login."""
        server.on("GET", "http://api.example.com/things", json_reply({}))
        proxy = f"http://user:proxy-canary@127.0.0.1:{server.port}"
        session = new_session("http://api.example.com", proxy=proxy, urls=_open_policy("http://api.example.com"))
        async with closing(session):
            await session.send(OPEN)
        assert server.requests[0].target == "http://api.example.com/things"
        assert server.requests[0].header("Proxy-Authorization")


class TestTryingAgain:
    """Trying again."""

    async def test_an_answer_that_never_came_is_asked_for_as_often_as_the_policy_says(self, server: RawServer) -> None:
        """QU11: the HTTP client sends nothing on its own; every request on the wire is a try of ours."""
        server.on("GET", "/things", reply(mute=True))
        async with closing(new_session(server.base_url, retry=_attempts(3))) as session:
            with pytest.raises(TransportError) as caught:
                await session.send(OPEN)
            assert session.requests_sent == 3
        assert len(server.requests) == 3
        assert caught.value.attempts == 3

    async def test_with_one_attempt_exactly_one_request_leaves(self, server: RawServer) -> None:
        """QU11: not even a broken connection makes it two."""
        server.on("GET", "/things", reply(mute=True))
        async with closing(new_session(server.base_url, retry=_attempts(1))) as session:
            with pytest.raises(TransportError):
                await session.send(OPEN)
        assert len(server.requests) == 1

    async def test_a_post_is_not_repeated_once_it_was_sent(self, server: RawServer) -> None:
        """Nobody knows whether it was done."""
        server.on("POST", "/things", reply(mute=True))
        async with closing(new_session(server.base_url)) as session:
            with pytest.raises(TransportError) as caught:
                await session.send(POST)
        assert caught.value.sent is True
        assert len(server.requests) == 1

    async def test_a_post_is_not_repeated_after_a_failing_service(self, server: RawServer) -> None:
        """A 503 does not say that nothing was done."""
        server.on("POST", "/things", reply(503))
        async with closing(new_session(server.base_url)) as session:
            with pytest.raises(ServerError):
                await session.send(POST)
        assert len(server.requests) == 1

    async def test_a_post_is_repeated_when_the_service_says_that_nothing_was_done(self, server: RawServer) -> None:
        """A 429 refuses before doing."""
        server.on("POST", "/things", reply(429), json_reply({}))
        async with closing(new_session(server.base_url)) as session:
            await session.send(POST)
        assert len(server.requests) == 2

    async def test_a_post_takes_a_connection_of_its_own(self, server: RawServer) -> None:
        """An idle connection that dies at that moment would leave open what happened."""
        async with closing(new_session(server.base_url)) as session:
            await session.send(OPEN)
            await session.send(POST)
            await session.send(OPEN)
            await session.send(POST)
        assert [seen.connection for seen in server.requests] == [1, 2, 1, 3]

    async def test_an_idle_connection_that_was_closed_costs_no_request(self, server: RawServer) -> None:
        """TR56: the server sees each request once."""
        async with closing(new_session(server.base_url)) as session:
            await session.send(OPEN)
            await server.hang_up()
            await session.send(OPEN)
            assert session.requests_sent == len(server.requests) == 2

    async def test_a_reused_connection_that_dies_unanswered_is_tried_again_at_once(self, server: RawServer) -> None:
        """TR56: no waiting, and both requests are counted."""
        pauses: list[float] = []

        async def sleep(seconds: float) -> None:
            pauses.append(seconds)

        server.on("GET", "/things", json_reply({}), reply(mute=True), json_reply({"n": 3}))
        async with closing(new_session(server.base_url, retry=RetryPolicy(), sleep=sleep)) as session:
            await session.send(OPEN)
            answer = await session.send(OPEN)
            assert session.requests_sent == len(server.requests) == 3
        assert answer.body == b'{"n": 3}'
        assert pauses == [0.0]

    @pytest.mark.parametrize("status", [500, 502, 503, 504, 429])
    async def test_a_temporary_refusal_is_tried_again(self, server: RawServer, status: int) -> None:
        """TR33: a status that passes is asked for again."""
        server.on("GET", "/things", reply(status), json_reply({}))
        async with closing(new_session(server.base_url)) as session:
            assert (await session.send(OPEN)).status == 200
        assert len(server.requests) == 2

    @pytest.mark.parametrize("status", [400, 404, 405, 409, 410, 501])
    async def test_a_final_refusal_is_not(self, server: RawServer, status: int) -> None:
        """TR34: asking again would not change it."""
        server.on("GET", "/things", reply(status))
        async with closing(new_session(server.base_url)) as session:
            with pytest.raises(ApiError):
                await session.send(OPEN)
        assert len(server.requests) == 1

    async def test_a_retry_after_is_waited_for(self, server: RawServer) -> None:
        """QU18: seconds on a 503 are honoured."""
        hours = Hours()
        server.on("GET", "/things", reply(503, headers={"Retry-After": "17"}), json_reply({}))
        async with closing(new_session(server.base_url, clock=hours.clock, sleep=hours.sleep)) as session:
            await session.send(OPEN)
        assert hours.waits == [17.0]

    async def test_a_retry_after_beyond_all_patience_is_an_error_that_says_so(self, server: RawServer) -> None:
        """QU17: nobody sleeps for days."""
        server.on("GET", "/things", reply(429, headers={"Retry-After": "99999999999"}))
        async with closing(new_session(server.base_url)) as session:
            with pytest.raises(ThrottledError) as caught:
                await session.send(OPEN)
            with pytest.raises(HostPausedError) as later:
                await session.send(OPEN)
        assert caught.value.retry_after == 366 * 86_400
        assert later.value.lasting
        assert len(server.requests) == 1

    async def test_a_refused_connection_is_tried_again_and_costs_nothing(self) -> None:
        """TR41: nothing was sent, so nothing is counted, and even a POST is tried again."""
        pauses: list[float] = []

        async def sleep(seconds: float) -> None:
            pauses.append(seconds)

        async with closing(new_session(f"http://127.0.0.1:{unused_port()}", sleep=sleep)) as session:
            with pytest.raises(TransportError) as caught:
                await session.send(POST)
            assert session.requests_sent == 0
        assert caught.value.attempts == 5
        assert caught.value.sent is False
        assert len(pauses) == 4

    async def test_a_refused_connection_says_where_to_in_the_systems_words(self) -> None:
        """TR41: the host and the port, and no tuple of anybody's inside."""
        port = unused_port()
        async with closing(new_session(f"http://127.0.0.1:{port}", retry=RetryPolicy(attempts=1))) as session:
            with pytest.raises(TransportError) as caught:
                await session.send(POST)
        assert str(caught.value) == (
            f"POST /things: no connection to 127.0.0.1, port {port} ({os.strerror(errno.ECONNREFUSED)})."
            " It can be tried again."
        )

    async def test_a_name_that_is_not_found_is_named(self) -> None:
        """TR41: the address of the API is a setting, so that the message has to say which name is wrong."""

        class Nowhere(aiohttp.abc.AbstractResolver):
            async def resolve(
                self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
            ) -> list[aiohttp.abc.ResolveResult]:
                raise OSError(socket.EAI_NONAME, "Name or service not known")

            async def close(self) -> None:
                pass

        connector = aiohttp.TCPConnector(resolver=Nowhere())
        retry = RetryPolicy(attempts=1)
        async with closing(new_session("https://api.example.test", connector=connector, retry=retry)) as session:
            with pytest.raises(TransportError) as caught:
                await session.send(POST)
        await connector.close()
        assert str(caught.value) == (
            "POST /things: the name of the host api.example.test was not found. It can be tried again."
        )

    async def test_a_head_that_never_comes_ends_in_time(self, server: RawServer) -> None:
        """TR37: silence before the head is bounded, and tried again."""
        server.on("GET", "/things", reply(before=asyncio.Event()))
        timeouts = Timeouts(read=0.05)
        async with closing(new_session(server.base_url, timeouts=timeouts, retry=_attempts(2))) as session:
            with pytest.raises(DeadlineError) as caught:
                await session.send(OPEN)
        assert caught.value.attempts == 2
        assert len(server.requests) == 2

    async def test_a_body_that_stops_ends_in_time(self, server: RawServer) -> None:
        """TR37: silence in the middle of a page is bounded as well."""
        server.on("GET", "/things", reply(body=b"x" * 100, cut=10, stall=True))
        timeouts = Timeouts(read=0.05)
        async with closing(new_session(server.base_url, timeouts=timeouts, retry=_attempts(2))) as session:
            with pytest.raises(DeadlineError):
                await session.send(OPEN)
        assert len(server.requests) == 2

    async def test_a_page_that_is_cut_is_asked_for_again(self, server: RawServer) -> None:
        """TR41: a connection that breaks in the body is no answer."""
        server.on("GET", "/things", reply(body=b"x" * 100, cut=10), reply(body=b"x" * 100, cut=10, reset=True))
        server.on("GET", "/things", reply(body=b"x" * 100, cut=10), json_reply({}))
        async with closing(new_session(server.base_url)) as session:
            assert (await session.send(OPEN)).body == b"{}"
        assert len(server.requests) == 2

    async def test_a_cancelled_back_off_returns_at_once(self, server: RawServer) -> None:
        """CC16: cancelling does not wait for the pause."""
        resting = asyncio.Event()

        async def sleep(seconds: float) -> None:
            resting.set()
            await asyncio.Event().wait()

        server.on("GET", "/things", reply(503))
        async with closing(new_session(server.base_url, sleep=sleep)) as session:
            task = asyncio.create_task(session.send(OPEN))
            await resting.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task


class TestBodies:
    """What is read of an answer."""

    async def test_a_gzip_page_is_decoded(self, server: RawServer) -> None:
        """A page may come compressed."""
        packed = gzip.compress(b'{"a": 1}')
        server.on("GET", "/things", reply(body=packed, headers={"Content-Encoding": "gzip"}))
        async with closing(new_session(server.base_url)) as session:
            assert (await session.send(OPEN)).body == b'{"a": 1}'

    @pytest.mark.parametrize("packed", [False, True])
    async def test_a_page_beyond_the_cap_is_refused(self, server: RawServer, packed: bool) -> None:
        """PG17: 16 MiB are the most, counted after decoding."""
        page = b" " * (16 * 2**20 + 1)
        body, headers = (gzip.compress(page), {"Content-Encoding": "gzip"}) if packed else (page, {})
        server.on("GET", "/things", reply(body=body, headers=headers))
        async with closing(new_session(server.base_url)) as session:
            with pytest.raises(DecodeError) as caught:
                await session.send(OPEN)
        assert caught.value.problems == ("too large",)
        assert len(server.requests) == 1

    async def test_of_a_refusal_only_the_beginning_is_read(self, server: RawServer) -> None:
        """QU09: a refusal that never ends is cut at 64 KiB and still typed by its status."""
        server.on("GET", "/things", reply(404, body=b"x" * 200_000, length=10**9, stall=True))
        async with closing(new_session(server.base_url)) as session:
            with pytest.raises(ApiError) as caught:
                await session.send(OPEN)
        assert caught.value.status == 404

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    async def test_a_redirect_is_not_followed(self, server: RawServer, status: int) -> None:
        """Credentials stay where they are, and the error says where it would have gone, without the query."""
        server.on("GET", "/things", reply(status, headers={"Location": "https://evil.example/x?sig=canary"}))
        async with closing(new_session(server.base_url)) as session:
            with pytest.raises(UnsafeUrlError, match=r"https://evil\.example/x") as caught:
                await session.send(THINGS)
        assert "canary" not in str(caught.value)
        assert server.lines() == ["POST /login", "GET /things", "PUT /logout"]

    @pytest.mark.parametrize("status", [300, 304])
    async def test_a_status_that_nobody_asked_for_is_an_error(self, server: RawServer, status: int) -> None:
        """TR45: neither an answer nor a refusal."""
        server.on("GET", "/things", reply(status))
        async with closing(new_session(server.base_url)) as session:
            with pytest.raises(ApiError) as caught:
                await session.send(OPEN)
        assert caught.value.status == status

    async def test_what_is_not_http_is_a_transport_error(self, server: RawServer) -> None:
        """Whatever answers there, it is not the service."""
        server.on("GET", "/things", reply(raw=b"220 mail.example ESMTP\r\n\r\n", close=True))
        async with closing(new_session(server.base_url, retry=_attempts(1))) as session:
            with pytest.raises(TransportError):
                await session.send(OPEN)


class TestAllowance:
    """The daily allowance."""

    async def test_one_request_flies_alone_until_the_number_is_known(self, server: RawServer) -> None:
        """Before the first answer nobody knows what is left."""
        go = asyncio.Event()
        server.on("GET", "/things", remaining(100, before=go), remaining(99))
        async with closing(new_session(server.base_url)) as session:
            calls = [asyncio.create_task(session.send(OPEN)) for _ in range(5)]
            await server.arrived(1)
            for _ in range(20):
                await asyncio.sleep(0)
            assert len(server.requests) == 1
            go.set()
            await asyncio.gather(*calls)
        assert len(server.requests) == 5

    async def test_the_reserve_is_never_touched(self, server: RawServer) -> None:
        """QU03: of eight callers at 101 left and a reserve of 100 exactly one gets through."""
        server.on("GET", "/things", remaining(101), remaining(100))
        async with closing(new_session(server.base_url, limiter=DailyQuota(reserve=100))) as session:
            await session.send(OPEN)
            found = await asyncio.gather(*(session.send(OPEN) for _ in range(8)), return_exceptions=True)
        assert len(server.requests) == 2
        refused = [error for error in found if isinstance(error, QuotaExhaustedError)]
        assert len(refused) == 7
        assert {(error.remaining, error.reserve, error.resets_at) for error in refused} == {(100, 100, TOMORROW)}

    async def test_the_answer_that_says_zero_is_delivered_and_the_next_call_fails_here(self, server: RawServer) -> None:
        """QU02: nothing leaves after that."""
        server.on("GET", "/things", remaining(0))
        async with closing(new_session(server.base_url)) as session:
            assert (await session.send(OPEN)).status == 200
            with pytest.raises(QuotaExhaustedError) as caught:
                await session.send(OPEN)
        assert len(server.requests) == 1
        assert (caught.value.status, caught.value.resets_at) == (None, TOMORROW)

    async def test_a_refusal_for_the_allowance_closes_the_gate_for_everybody(self, server: RawServer) -> None:
        """QU01: one refusal, no repetition, and who waits fails without a request."""
        refusal = reply(429, body=b'{"errors":[{"code":4084}]}', headers={"X-Remaining": "0"})
        server.on("GET", "/things", refusal)
        async with closing(new_session(server.base_url)) as session:
            calls = (session.send(OPEN) for _ in range(5))
            found = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(error) for error in found] == [QuotaExhaustedError] * 5
        assert len(server.requests) == 1

    async def test_requests_that_do_not_count_go_on(self, server: RawServer) -> None:
        """QU01: what is not metered does not stand behind the gate."""
        server.on("GET", "/things", remaining(0))
        async with closing(new_session(server.base_url)) as session:
            await session.send(OPEN)
            free = Request(method="GET", path="/things", scope=None, metered=False)
            assert (await session.send(free)).status == 200
            assert (session.requests_sent, len(server.requests)) == (1, 2)

    async def test_an_answer_without_a_number_costs_one(self, server: RawServer) -> None:
        """QU21: what the service does not say is counted here."""
        server.on("GET", "/things", remaining(2), json_reply({}))
        async with closing(new_session(server.base_url)) as session:
            await session.send(OPEN)
            await session.send(OPEN)
            assert session.quota is not None
            assert session.quota.remaining == 1
            await session.send(OPEN)
            with pytest.raises(QuotaExhaustedError):
                await session.send(OPEN)
        assert len(server.requests) == 3

    async def test_a_throttled_service_is_left_alone_by_everybody(self, server: RawServer) -> None:
        """QU07: Retry-After holds back the other tasks as well."""
        clock = Clock()
        server.on("GET", "/things", reply(429, headers={"Retry-After": "30"}), json_reply({}))
        gate = SlidingWindow(limit=10)
        async with closing(new_session(server.base_url, limiter=gate, clock=clock, sleep=clock.sleep)) as session:
            await session.send(OPEN)
            assert clock.monotonic == 30.0
        assert len(server.requests) == 2

    async def test_no_window_holds_more_than_the_limit(self, server: RawServer) -> None:
        """QU15: the 11th request waits until the first one is a minute old."""
        clock = Clock()
        async with closing(
            new_session(server.base_url, limiter=SlidingWindow(limit=10), clock=clock, sleep=clock.sleep)
        ) as session:
            for _ in range(10):
                await session.send(OPEN)
            assert clock.monotonic == 0.0
            await session.send(OPEN)
            assert clock.monotonic == 60.0
        assert len(server.requests) == 11

    async def test_our_own_pace_is_no_error_however_short_the_patience(self, server: RawServer) -> None:
        """QU15: only a wait that the service asks for is held against the policy."""
        clock = Clock()
        gate, retry = SlidingWindow(limit=1), RetryPolicy(timeout=5)
        async with closing(
            new_session(server.base_url, limiter=gate, retry=retry, clock=clock, sleep=clock.sleep)
        ) as session:
            await session.send(OPEN)
            await session.send(OPEN)
            assert clock.monotonic == 60.0


class TestAddresses:
    """Whom we talk to."""

    @pytest.mark.parametrize(
        "url",
        [
            "http://files.example.com/x",
            "https://127.0.0.1/x",
            "https://169.254.169.254/latest",
            "https://[fd00::1]/x",
            "https://user:pw@files.example.com/x",
            "https://files.example.com:8080/x",
            "file:///etc/passwd",
            "https://2130706433/x",
        ],
    )
    async def test_an_address_that_a_service_may_not_send_us_to_is_refused(self, url: str) -> None:
        """SE07: nothing is contacted."""
        async with closing(new_session("https://api.example.com")) as session:
            with pytest.raises(UnsafeUrlError):
                await session.send(Request(method="GET", path=url, scope=None, metered=False))

    async def test_a_name_that_leads_to_a_private_address_is_refused_while_connecting(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """SE07: a public looking name may point anywhere."""
        requested = []

        def look_up(host: str, port: int, *_: object, **__: object) -> list[Any]:
            requested.append(host)
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.5", port))]

        monkeypatch.setattr(socket, "getaddrinfo", look_up)
        async with closing(new_session("https://api.example.com", retry=_attempts(3))) as session:
            with pytest.raises(UnsafeUrlError, match="not a public address"):
                await session.send(Request(method="GET", path="https://files.example.com/x", scope=None))
            assert session.requests_sent == 0
        assert requested == ["files.example.com"]

    async def test_the_credential_goes_to_the_own_origin_only(self, server: RawServer) -> None:
        """SA26: another port is another origin."""
        async with RawServer() as other, closing(new_session(server.base_url, headers={"Usage": "x"})) as session:
            other.on("GET", "/file", reply())
            await session.send(Request(method="GET", path=f"{other.base_url}/file"))
            await session.send(Request(method="GET", path=f"{server.base_url}/things"))
            assert other.requests[0].header("Session-Id") is None
            assert other.requests[0].header("Usage") is None
        assert [seen.header("Session-Id") for seen in server.requests] == [None, "S1", "S1"]


class TestTls:
    """Certificates."""

    @pytest.fixture
    def authority(self) -> trustme.CA:
        return trustme.CA()

    async def test_an_unknown_certificate_ends_it_at_once(self, authority: trustme.CA) -> None:
        """TR42: one try, no fallback."""
        async with RawServer(ssl_context=_serving(authority)) as server:
            async with closing(new_session(server.base_url)) as session:
                with pytest.raises(TlsError) as caught:
                    await session.send(OPEN)
            assert caught.value.attempts == 1
            assert server.requests == []

    async def test_a_certificate_for_another_name_ends_it_at_once(self, authority: trustme.CA) -> None:
        """TR42: trusted, but somebody else's."""
        async with RawServer(ssl_context=_serving(authority, name="other.example")) as server:
            async with closing(new_session(server.base_url, ssl=_trusting(authority))) as session:
                with pytest.raises(TlsError) as caught:
                    await session.send(OPEN)
            assert caught.value.attempts == 1
            assert server.requests == []

    async def test_a_context_that_was_handed_in_decides_whom_to_trust(self, authority: trustme.CA) -> None:
        """SE18: an explicit context, for reading and for writing requests."""
        async with RawServer(ssl_context=_serving(authority)) as server:
            server.on("*", "/things", json_reply({}))
            async with closing(new_session(server.base_url, ssl=_trusting(authority))) as session:
                await session.send(OPEN)
                await session.send(POST)
            assert len(server.requests) == 2

    @pytest.mark.parametrize("switch", [False, True, "no"])
    def test_there_is_no_switch(self, switch: object) -> None:
        """SE18: only a context is taken."""
        with pytest.raises(ConfigurationError):
            new_session("https://api.example.com", ssl=switch)

    async def test_the_environment_cannot_switch_checking_off(
        self, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """SE18: variables that do so elsewhere do nothing here."""
        for name in ("PYTHONHTTPSVERIFY", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "NODE_TLS_REJECT_UNAUTHORIZED"):
            monkeypatch.setenv(name, "0" if name.startswith(("PY", "NODE")) else "")
        async with (
            RawServer(ssl_context=_serving(authority)) as server,
            closing(new_session(server.base_url)) as session,
        ):
            with pytest.raises(TlsError):
                await session.send(OPEN)

    async def test_a_handshake_that_is_cut_is_the_networks_doing(self) -> None:
        """TR41: it is tried again."""
        accepted = []

        def cut(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            accepted.append(1)
            writer.close()

        async with await asyncio.start_server(cut, "127.0.0.1", 0) as listening:
            port = listening.sockets[0].getsockname()[1]
            async with closing(new_session(f"https://127.0.0.1:{port}", retry=_attempts(3))) as session:
                with pytest.raises(TransportError):
                    await session.send(OPEN)
        assert len(accepted) == 3


class TestBorrowedConnector:
    """A connector of the caller."""

    async def test_it_is_used_and_not_closed(self, server: RawServer) -> None:
        """Pools are shared, headers and cookies of the caller's own session are not."""
        async with aiohttp.ClientSession(headers={"Authorization": "X"}, cookies={"k": "v"}) as theirs:
            assert theirs.connector is not None
            async with closing(new_session(server.base_url, connector=theirs.connector)) as session:
                await session.send(OPEN)
            assert not theirs.connector.closed
            async with theirs.get(server.base_url + "/things") as answer:
                assert answer.status == 200
        assert (server.requests[0].header("Authorization"), server.requests[0].header("Cookie")) == (None, None)
        assert [seen.connection for seen in server.requests] == [1, 1]

    async def test_a_post_gets_a_connection_of_its_own_there_too(self, server: RawServer) -> None:
        """No idle connection is taken for it, and none is left behind."""
        connector = aiohttp.TCPConnector()
        async with connector, closing(new_session(server.base_url, connector=connector)) as session:
            await session.send(OPEN)
            await session.send(POST)
            await session.send(POST)
            await session.send(OPEN)
        assert [seen.connection for seen in server.requests] == [1, 2, 3, 1]


class TestLife:
    """Opening, closing, and being in the wrong place."""

    async def test_nothing_is_sent_before_the_first_request(self, server: RawServer) -> None:
        """A session that was never used needs no connection to be closed."""
        session = new_session(server.base_url)
        await session.aclose()
        await session.aclose()
        assert server.connections == 0

    async def test_a_closed_session_says_so(self, server: RawServer) -> None:
        """Nothing leaves a closed session."""
        session = new_session(server.base_url)
        await session.send(OPEN)
        await session.aclose()
        with pytest.raises(ClosedError):
            await session.send(OPEN)
        with pytest.raises(ClosedError):
            await session.stream(OPEN)
        with pytest.raises(ClosedError):
            await session.credential()
        assert len(server.requests) == 1

    async def test_another_event_loop_is_refused_at_once(self, server: RawServer) -> None:
        """SA25: a clear error and no hang."""
        async with closing(new_session(server.base_url)) as session:
            await session.send(OPEN)

            def elsewhere() -> type[BaseException]:
                with pytest.raises(ClosedError) as caught:
                    asyncio.run(session.send(OPEN))
                return caught.type

            assert await asyncio.to_thread(elsewhere) is ClosedError

    async def test_after_a_fork_the_child_is_refused(self, server: RawServer, monkeypatch: pytest.MonkeyPatch) -> None:
        """SA25: two processes on one connection would read each other's answers."""
        async with closing(new_session(server.base_url)) as session:
            await session.send(OPEN)
            parent = os.getpid()
            with monkeypatch.context() as child:
                child.setattr(os, "getpid", lambda: parent + 1)
                with pytest.raises(ClosedError):
                    await session.send(OPEN)

    async def test_who_waits_at_the_gate_is_let_go_at_close(self, server: RawServer) -> None:
        """Nobody hangs in a session that is gone."""
        server.on("GET", "/things", reply(before=asyncio.Event()))
        session = new_session(server.base_url)
        calls = [asyncio.create_task(session.send(OPEN)) for _ in range(3)]
        await server.arrived(1)
        await session.aclose()
        found = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(error) for error in found} <= {ClosedError, TransportError}
        assert len(server.requests) == 1


class TestSecrets:
    """What is said about requests."""

    async def test_no_message_log_or_frame_shows_a_query_or_a_credential(
        self, server: RawServer, caplog: pytest.LogCaptureFixture
    ) -> None:
        """SE02, SE05: refusals, silence and broken connections on a signed address."""
        caplog.set_level(logging.DEBUG)
        url = f"{server.base_url}/blob/x.zip?sig=sig-canary&se=1"
        server.on("GET", "/blob/x.zip", reply(404, body=b"no"), reply(mute=True), reply(before=asyncio.Event()))
        server.on("POST", "/login", json_reply({"id": "session-canary"}))
        timeouts = Timeouts(read=0.05)
        errors: list[BaseException] = []
        async with closing(new_session(server.base_url, timeouts=timeouts, retry=_attempts(1))) as session:
            for _ in range(3):
                for act in (session.send, session.stream):
                    with pytest.raises(Exception) as caught:
                        await act(Request(method="GET", path=url))
                    errors.append(caught.value)
        dead = f"http://127.0.0.1:{unused_port()}/x?sig=sig-canary"
        async with closing(new_session(server.base_url, retry=_attempts(1))) as session:
            with pytest.raises(TransportError) as caught:
                await session.send(Request(method="GET", path=dead, scope=None))
            errors.append(caught.value)
        shown = [caplog.text]
        for error in errors:
            assert error.__cause__ is None
            assert error.__context__ is None
            frames = traceback.TracebackException.from_exception(error, capture_locals=True)
            ours = [frame for frame in frames.stack if "arena_async" in frame.filename]
            shown += [str(error), repr(error), repr(error.__dict__), *(str(frame.locals) for frame in ours)]
        assert {
            canary for canary in ("sig-canary", "session-canary", "pass-canary") if canary in "".join(shown)
        } == set()

    async def test_the_time_is_that_of_the_service_once_it_has_said_it(self, server: RawServer) -> None:
        """TR31: by the ``Date`` of its own answers; nobody else's counts, and nonsense changes nothing."""
        ours = datetime(2024, 3, 1, 12, tzinfo=UTC)
        reported = {"Date": "Fri, 01 Mar 2024 12:10:00 GMT"}
        async with RawServer() as other, closing(new_session(server.base_url, now=lambda: ours)) as session:
            other.on("GET", "/x", reply(headers={"Date": "Sat, 02 Mar 2024 12:00:00 GMT"}))
            server.on(
                "GET", "/x", json_reply({}), json_reply({}, headers=reported), json_reply({}, headers={"Date": "now"})
            )
            seen = [session.now()]
            for path in ("/x", "/x", "/x", f"{other.base_url}/x"):
                request = Request(method="GET", path=path, scope=None)
                if request.absolute:
                    async with await session.stream(request):
                        pass
                else:
                    await session.send(request)
                seen.append(session.now())
        ten = timedelta(minutes=10)
        assert [timestamp - ours for timestamp in seen] == [timedelta(), timedelta(), ten, ten, ten]

    def test_a_proxy_with_a_password_is_not_shown_when_it_is_refused(self) -> None:
        """SE08: a malformed proxy is named without its login."""
        with pytest.raises(ConfigurationError) as caught:
            new_session("https://api.example.com", proxy="socks5://user:proxy-canary@127.0.0.1:1")
        assert "proxy-canary" not in str(caught.value)


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.monotonic = 0.0

    def __call__(self) -> float:
        return self.monotonic

    async def sleep(self, seconds: float) -> None:
        self.monotonic += seconds


class closing:  # noqa: N801
    """Close a session at the end of a block."""

    def __init__(self, session: Any) -> None:
        self._session = session

    async def __aenter__(self) -> Any:
        return self._session

    async def __aexit__(self, *_: object) -> None:
        await self._session.aclose()


def _attempts(number: int) -> RetryPolicy:
    return RetryPolicy(attempts=number, wait_initial=0, wait_jitter=0)


def _open_policy(base: str) -> UrlPolicy:
    return UrlPolicy.for_base(base, allow_http=True)


def _serving(authority: trustme.CA, *, name: str = "localhost") -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(name).configure_cert(context)
    return context


def _trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context
