"""Rows TR44 and TR45: content that lies elsewhere, and redirects that lead nowhere good."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest
import trustme
from arena_runs import EXTRACT, EXTRACT_PLACE, ZIP, extract_of_one
from broken_wire import serving, trusting
from filesets import content
from matrix import World, case, row
from scripted import RawServer, Seen, reply
from services import ArenaScript
from session_files import ETAG, Hours, download, ranged, remote, session_files

from arena_async.errors import ApiError, UnsafeUrlError
from arena_async.protocol.urls import UrlPolicy, origin

FILE = content(50_000)


def is_a_stranger(seen: Seen, world: World) -> bool:
    """Whether the headers of a request show nobody's credentials."""
    names = {name.lower() for name, _ in seen.headers}
    private = {"arena_session_id", "authorization", "cookie", "arena-usage-reason"}
    return not private & names and not any(secret in repr(seen.headers) for secret in world.secrets.values())


@row("TR44", protection="credentials go to the origin of the API only")
@pytest.mark.parametrize("where", ["port", "host", "subdomain", "there and back"])
async def test_content_that_lies_elsewhere_is_fetched_as_a_stranger(
    world: World, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TR44: another port, another name for the same machine, a name below it; the session and cookies stay at home."""
    loop = asyncio.get_running_loop()

    async def getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
    final = world.allow(EXTRACT_PLACE, ZIP)
    async with RawServer() as api, RawServer() as host:
        service = ArenaScript(world, api)
        names = {"port": "127.0.0.1", "host": "localhost", "subdomain": "files.localhost"}
        name = names.get(where, "localhost")
        elsewhere = f"http://{name}:{host.port}/blob.zip?sig={world.secrets['sig']}"
        sent_away = {"Location": elsewhere, "Set-Cookie": "a=b; Domain=localhost"}
        extract_of_one(service, reply(302, headers=sent_away))
        back = f"{api.base_url}/open/blob.zip"
        answer = reply(307, headers={"Location": back}) if where == "there and back" else reply(body=ZIP, headers=ETAG)
        host.on("GET", "/blob.zip", answer)
        api.on("GET", "/open/blob.zip", reply(body=ZIP, headers=ETAG))
        async with service.client() as arena:
            report = await download(world, arena.extracts.files(EXTRACT, latest=True))

    assert report.failures == ()
    assert final.read_bytes() == ZIP
    (requested,) = host.requests
    assert requested.target == f"/blob.zip?sig={world.secrets['sig']}"
    assert is_a_stranger(requested, world)
    returned = [seen for seen in api.requests if seen.path.startswith("/open/")]
    assert all(is_a_stranger(seen, world) for seen in returned)
    assert service.sent_with("*/content") == [1]


@row("TR44", protection="where a redirect leads is checked")
@pytest.mark.parametrize("allowed", [case(True, protection="what the caller named is contacted"), False])
async def test_content_is_not_followed_from_https_to_http(world: World, allowed: bool) -> None:
    """TR44: https only, unless the caller has named the other origin."""
    world.allow("files/a.bin", *([FILE] if allowed else []))
    authority = trustme.CA()
    async with RawServer(ssl_context=serving(authority)) as api, RawServer() as host:
        named = {origin(api.base_url)} | ({origin(host.base_url)} if allowed else set())
        urls = UrlPolicy(origins=frozenset(named))
        rows = [remote("a", size=len(FILE))]
        async with session_files(world, api, *rows, signed=False, urls=urls, ssl=trusting(authority)) as files:
            api.on("GET", "/a", reply(302, headers={"Location": f"{host.base_url}/a"}))
            host.on("GET", "/a", ranged(FILE))
            report = await download(world, files)

    assert len(host.requests) == allowed
    assert len(api.requests) == 1
    assert (report.failures == ()) is allowed
    assert allowed or isinstance(report.outcomes[0].error, UnsafeUrlError)


@row("TR45", protection="redirects are counted")
@pytest.mark.parametrize(
    "hops",
    [case(1, protection="a few redirects are followed"), case(5, protection="a few redirects are followed"), 6, 1000],
)
async def test_redirects_end_after_five(world: World, hops: int) -> None:
    """TR45: five are followed; a chain that is longer, or goes in circles, costs six requests and no more."""
    world.allow("files/a.bin", FILE)
    hours = Hours()
    async with RawServer() as server, session_files(world, server, remote("a", size=len(FILE)), signed=False) as files:
        server.on("GET", "/hop/*", ranged(FILE))
        steps = [reply(302, headers={"Location": f"/hop/{number}"}) for number in range(1, min(hops, 30))]
        chain = [reply(302, headers={"Location": "/hop/0"}), *steps]
        server.on("GET", "/*", *(chain if hops > 100 else [*chain, ranged(FILE)]))
        report = await download(world, files, hours=hours)

    if hops <= 5:
        assert report.failures == ()
        assert len(server.requests) == hops + 1
    else:
        assert isinstance(report.outcomes[0].error, UnsafeUrlError)
        assert len(server.requests) == 6
        assert hours.waits == []


@row("TR45", protection="where a redirect leads is checked")
@pytest.mark.parametrize(
    "location",
    [
        "http://169.254.169.254/latest/meta-data",
        "//169.254.169.254/x",
        "https://10.0.0.1/x",
        "https://files.example.com:22/x",
    ],
)
async def test_a_redirect_that_leads_nowhere_good_is_not_followed(world: World, location: str) -> None:
    """TR45: one request, a typed error, and nothing asked again."""
    await is_refused(world, location)


@row("TR45", protection="a redirect names one address of the web")
@pytest.mark.parametrize(
    "location",
    [
        None,
        "",
        "file:///etc/passwd",
        "https://user:canary@files.example.com/x",
        "//user@127.0.0.1/x",
        "http://[::1",
        "gopher:x",
        "data:,x",
    ],
)
async def test_a_redirect_that_names_no_address_is_not_followed(world: World, location: str | None) -> None:
    """TR45: nothing at all, something that is no web address, or one with a login in it."""
    await is_refused(world, location)


async def is_refused(world: World, location: str | None) -> None:
    """Check that a redirect costs its one request, and is an error that says so."""
    world.allow("files/a.bin")
    hours = Hours()
    headers = {} if location is None else {"Location": location}
    async with RawServer() as server, session_files(world, server, remote("a", size=len(FILE)), signed=False) as files:
        server.on("GET", "/a", reply(302, headers=headers))
        report = await download(world, files, hours=hours)

    assert isinstance(report.outcomes[0].error, UnsafeUrlError)
    assert len(server.requests) == 1
    assert "canary" not in str(report.outcomes[0].error)
    assert hours.waits == []


@row("TR45", protection="a relative redirect stays at home")
@pytest.mark.parametrize("location", ["b", "/b", "./x/../b", "?b", "//{host}/b"])
async def test_a_relative_redirect_is_read_from_where_it_stands(world: World, location: str) -> None:
    """TR45: it is the same service, whose requests are all booked."""
    final = world.allow("files/a.bin", FILE)
    async with RawServer() as server, session_files(world, server, remote("a", size=len(FILE)), signed=False) as files:
        place = location.replace("{host}", f"127.0.0.1:{server.port}")
        server.on("GET", "/a", reply(302, headers={"Location": place}))
        server.on("GET", "/a?b", ranged(FILE))
        server.on("GET", "/b", ranged(FILE))
        report = await download(world, files)

    assert report.failures == ()
    assert final.read_bytes() == FILE
    assert len(server.requests) == 2


@row("TR45", protection="a refusal that stays is believed")
@pytest.mark.parametrize("status", [300, 304, 305, 306])
async def test_a_status_that_is_no_redirect_is_none(world: World, status: int) -> None:
    """TR45: nobody asked for a choice or for what is cached; wherever they point, they are not followed."""
    world.allow("files/a.bin")
    async with RawServer() as server, session_files(world, server, remote("a", size=len(FILE)), signed=False) as files:
        server.on("GET", "/a", reply(status, headers={"Location": "/b"}))
        server.on("GET", "/b", ranged(FILE))
        report = await download(world, files)

    error = report.outcomes[0].error
    assert isinstance(error, ApiError)
    assert error.status == status
    assert len(server.requests) == 1
