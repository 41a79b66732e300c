"""Rows SE01 to SE08, SE15 and SE18 to SE20: secrets that stay secret, and whom the library does not talk to."""

from __future__ import annotations

import asyncio
import copy
import gzip
import logging
import pickle
import re
import ssl
import tomllib
from pathlib import Path
from typing import Any

import attrs
import pytest
import trustme
from filesets import content
from matrix import World, case, control, row
from packaging.requirements import Requirement
from packaging.version import Version
from plain_provider import new_session
from scripted import RawServer, json_reply, reply, unused_port
from session_files import download, ranged, remote, session_files

from arena_async import ArenaClient, ArenaCredentials, CentrePointClient, CentrePointCredentials, RetryPolicy
from arena_async.errors import ArenaAsyncError, ConfigurationError, TlsError, UnsafeUrlError
from arena_async.protocol.messages import Request, Secret
from arena_async.protocol.urls import UrlPolicy

BODY = gzip.compress(content(60_000), mtime=0)
FINAL = "files/a.csv.gz"
ONCE = RetryPolicy(attempts=1)
EAGER = RetryPolicy(wait_initial=0, wait_jitter=0)
REPOSITORY = Path(__file__).parents[2]


@row("SE01", protection="links are shown without their query")
async def test_a_run_in_which_much_goes_wrong_shows_no_secret(world: World) -> None:
    """SE01: cut, refused, gone and odd links, everything logged at DEBUG; the invariants search all that was shown."""
    rows = [remote(name, extension=".csv.gz") for name in ("a", "b", "c", "d")]
    world.allow(FINAL, BODY)
    world.keeps_partials = True
    async with RawServer() as server, session_files(world, server, *rows) as files:
        server.on("GET", "/a", ranged(BODY, cut=20_000), ranged(BODY))
        server.on("GET", "/b", reply(403, body=b"<Code>AuthorizationPermissionMismatch</Code>"))
        server.on("GET", "/c", reply(500))
        server.on("GET", "/d", reply(body=b"<html>sig=" + world.secrets["sig"].encode()))
        report = await download(world, files, attempts=2)
        for outcome in report.failures:
            logging.getLogger("arena_async").warning("%s", outcome.error, exc_info=outcome.error)
    assert len(report.failures) == 3
    assert (world.root / FINAL).read_bytes() == BODY


async def _failure(world: World, server: RawServer, **options: Any) -> ArenaAsyncError:
    """Fetch one signed file in vain and give the error, as a user and as a log would see it."""
    async with session_files(world, server, remote("blob", extension=".csv.gz"), **options) as files:
        report = await download(world, files, attempts=1)
    (outcome,) = report.failures
    assert outcome.error is not None
    world.saw(outcome.error)
    return outcome.error


@row("SE02", protection="links are shown without their query")
@pytest.mark.parametrize("status", [403, 404, 500])
async def test_a_refused_link_is_named_by_host_and_path(world: World, status: int) -> None:
    """SE02: the message says where, and nothing of the query."""
    async with RawServer() as server:
        server.on("GET", "/blob", reply(status))
        error = await _failure(world, server)
        assert f"127.0.0.1:{server.port}/blob" in str(error)
    assert "sig=" not in str(error)


@row("SE02", protection="links are shown without their query")
async def test_a_connection_that_fails_is_named_by_host_and_path(world: World) -> None:
    """SE02: a link that nobody answers, and one that is cut before its head."""
    port = unused_port()
    async with RawServer() as server:
        server.on("GET", "/blob", reply(mute=True))
        mute = await _failure(world, server)
    assert "/blob" in str(mute)

    async with RawServer() as server:
        refused = await _failure(world, server, link=lambda _, __: f"http://127.0.0.1:{port}/blob")
        assert server.requests == []
    assert f"127.0.0.1:{port}" in str(refused)
    assert "sig=" not in str(mute) + str(refused)


@row("SE02", protection="links are shown without their query")
async def test_a_certificate_that_is_refused_is_named_by_host_and_path(world: World) -> None:
    """SE02: nothing of the link is in the error of the handshake."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost").configure_cert(context)
    async with RawServer() as api, RawServer(ssl_context=context) as host:
        error = await _failure(world, api, link=lambda _, __: f"{host.base_url}/blob")
    assert isinstance(error, TlsError)
    assert "sig=" not in str(error)


@row("SE03", protection="text of the server is scrubbed")
@pytest.mark.parametrize("status", [400, 403, 500])
async def test_a_refusal_that_echoes_the_signature_is_not_quoted(world: World, status: int) -> None:
    """SE03: Arena's refusals are quoted, so what they echo is masked first; a file host's are not quoted at all."""
    sig, session = world.secrets["sig"], world.secrets["session"]
    words = f"no access to https://h/x?sig={sig} with arena_session_id: {session}"
    async with RawServer() as server:
        server.on("POST", "/login", json_reply({"arenaSessionId": session, "workspaceId": 7}))
        server.on("PUT", "/logout", reply())
        refusal = {"status": status, "errors": [{"code": 3012, "message": words}]}
        server.on("GET", "/extracts*", json_reply(refusal, status))
        credentials = ArenaCredentials("me@example.com", world.secrets["password"])
        async with ArenaClient(credentials, base_url=server.base_url, retry=ONCE) as arena:
            with pytest.raises(ArenaAsyncError) as caught:
                await arena.extracts.get("GUID1234567890123456")
        world.saw(caught.value)
        assert "no access to" in str(caught.value)

    async with RawServer() as host:
        host.on("GET", "/blob", reply(status, body=f"<Message>sig={sig}</Message>".encode()))
        await _failure(world, host)


@row("SE03", protection="text of the server is scrubbed")
async def test_a_redirect_that_echoes_the_signature_is_not_quoted(world: World) -> None:
    """SE03: where it leads is said by host and path."""
    sig = world.secrets["sig"]
    async with RawServer() as server:
        server.on("GET", "/blob", reply(302, headers={"Location": f"ftp://elsewhere.example/x?sig={sig}"}))
        error = await _failure(world, server)
    assert isinstance(error, UnsafeUrlError)


@row("SE04", protection="secrets are masked wherever they are shown")
async def test_credentials_and_clients_show_nothing(world: World) -> None:
    """SE04: repr, copies, pickles and dumps of everything that holds a secret."""
    password, secret, sig = world.secrets["password"], world.secrets["client_secret"], world.secrets["sig"]
    arena = ArenaCredentials("me@example.com", password)
    centrepoint = CentrePointCredentials("client", secret)
    file = remote("a", link=Secret(f"https://host/x?sig={sig}"))
    request = Request(
        method="GET", path=f"https://host/x?sig={sig}", headers={"arena_session_id": world.secrets["session"]}
    )
    for value in (arena, centrepoint, file, request, copy.deepcopy(arena), copy.copy(file)):
        world.saw(value, _dump(value))
    for value in (arena, centrepoint, file):
        pickled = pickle.dumps(value)
        world.saw(pickled.decode("latin-1"))
    async with (
        ArenaClient(arena, base_url="https://api.example.com/v1") as one,
        CentrePointClient(centrepoint, base_url="https://api.example.com") as other,
    ):
        world.saw(one, other, one.session, other.session, vars(one), vars(other))


def _dump(value: Any) -> object:
    """Take a value apart as a debugger or a serialiser would."""
    return attrs.asdict(value) if attrs.has(type(value)) and not isinstance(value, Request) else repr(value)


@row("SE05", protection="the HTTP client is shown no secret that it might log")
async def test_debug_logs_of_every_layer_show_nothing(world: World) -> None:
    """SE05: asyncio's debug mode and every logger at DEBUG, through login, listing and content."""
    asyncio.get_running_loop().set_debug(True)
    session = world.secrets["session"]
    async with RawServer() as server:
        server.on("POST", "/login", json_reply({"arenaSessionId": session, "workspaceId": 7}))
        server.on("PUT", "/logout", reply())
        server.on("GET", "/extracts*", reply(500), json_reply({"count": 0, "results": []}))
        credentials = ArenaCredentials("me@example.com", world.secrets["password"])
        async with ArenaClient(credentials, base_url=server.base_url, retry=EAGER) as arena:
            assert await arena.extracts.search().collect(max_items=10) == []
        assert [seen.header("arena_session_id") for seen in server.requests if seen.method == "GET"] == [session] * 2
    asyncio.get_running_loop().set_debug(False)


UNSAFE = [
    "http://files.example.com/x",
    "https://127.0.0.1/x",
    "https://localhost/x",
    "https://169.254.169.254/latest",
    "https://[fd00::1]/x",
    "https://[::1]/x",
    "https://[::ffff:127.0.0.1]/x",
    "https://10.1.2.3/x",
    "https://files.example.com:8443/x",
    case("https://user:pass@files.example.com/x", protection="a URL of an odd shape is refused"),
    case("file:///etc/passwd", protection="a URL of an odd shape is refused"),
    case("ftp://files.example.com/x", protection="a URL of an odd shape is refused"),
    case("https://0x7f000001/x", protection="a URL of an odd shape is refused"),
    case("https://2130706433/x", protection="a URL of an odd shape is refused"),
]


@row("SE07", protection="a link may not lead into a private network")
@pytest.mark.parametrize("url", UNSAFE)
async def test_a_link_to_somewhere_private_is_refused_before_anything_is_sent(world: World, url: str) -> None:
    """SE07: the API is a public one, so none of these is where a link of it leads."""
    session = new_session("https://api.example.com")
    try:
        with pytest.raises(UnsafeUrlError) as caught:
            async with asyncio.timeout(5):
                await session.stream(Request(method="GET", path=url, scope=None, metered=False))
    finally:
        await session.aclose()
    world.saw(caught.value)


@row("SE07", protection="a link may not lead into a private network")
async def test_a_name_that_leads_into_a_private_network_is_refused_when_connecting(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SE07: the name is public, its address is this machine: what counts is the address that is connected to."""
    real = asyncio.base_events.BaseEventLoop.getaddrinfo

    async def resolve(self: Any, host: Any, port: Any, **how: Any) -> Any:
        return await real(self, "127.0.0.1", port, **how)

    monkeypatch.setattr(asyncio.base_events.BaseEventLoop, "getaddrinfo", resolve)
    session = new_session("https://api.example.com")
    try:
        with pytest.raises(UnsafeUrlError) as caught:
            async with asyncio.timeout(5):
                await session.stream(Request(method="GET", path="https://rebound.example.com/x", scope=None))
    finally:
        await session.aclose()
    world.saw(caught.value)


@row("SE08", protection="proxies and netrc count only when they are asked for")
async def test_proxy_and_netrc_of_the_environment_are_ignored(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """SE08: neither a proxy nor a password of the environment takes part in a request."""
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine 127.0.0.1 login me password {world.secrets['password']}\n")
    netrc.chmod(0o600)
    async with RawServer() as server, RawServer() as proxy:
        for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://me:{world.secrets['proxy']}@127.0.0.1:{proxy.port}")
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.setenv("NETRC", str(netrc))
        server.on("GET", "/a", ranged(BODY))
        world.allow(FINAL, BODY)
        async with session_files(world, server, remote("a", extension=".csv.gz")) as files:
            report = await download(world, files)
        assert report.failures == ()
        assert proxy.requests == []
        assert [seen.header("Authorization") for seen in server.requests] == [None]


@row("SE08", protection="the proxy's password is not shown")
async def test_a_proxy_that_was_asked_for_keeps_its_password_to_itself(world: World) -> None:
    """SE08: it is used, and its password appears nowhere but on the way to it."""
    async with RawServer() as proxy:
        session = new_session(
            "http://127.0.0.1:9", proxy=f"http://me:{world.secrets['proxy']}@127.0.0.1:{proxy.port}", retry=ONCE
        )
        proxy.on("GET", "*", reply(502))
        try:
            world.saw(session, vars(session))
            with pytest.raises(ArenaAsyncError) as caught:
                await session.send(Request(method="GET", path="/x", scope=None))
            world.saw(caught.value)
        finally:
            await session.aclose()
        (seen,) = proxy.requests
        assert seen.target == "http://127.0.0.1:9/x"
        assert (seen.header("Proxy-Authorization") or "").startswith("Basic ")


NOT_A_GUID = ["x/../../logout?y=", "..", ".", "", "a\r\nX: y", "a/b", "a\\b", "a\x00b", " "]


@row("SE15", protection="an identifier is one segment of a path")
@pytest.mark.parametrize("guid", NOT_A_GUID)
async def test_an_identifier_never_leads_to_another_endpoint(world: World, guid: str) -> None:
    """SE15: refused before anything is sent, the login included."""
    async with RawServer() as server:
        server.on("POST", "/login", json_reply({"arenaSessionId": world.secrets["session"], "workspaceId": 7}))
        credentials = ArenaCredentials("me@example.com", world.secrets["password"])
        async with ArenaClient(credentials, base_url=server.base_url) as arena:
            with pytest.raises(ConfigurationError):
                await arena.extracts.get(guid)
            with pytest.raises(ConfigurationError):
                await arena.extracts.runs(guid).first()
        assert server.requests == []


@row("SE15", protection="an identifier is one segment of a path")
async def test_an_odd_identifier_is_sent_as_one_encoded_segment(world: World) -> None:
    """SE15: question marks, percent signs and spaces stay inside their segment."""
    async with RawServer() as server:
        server.on("POST", "/login", json_reply({"arenaSessionId": world.secrets["session"], "workspaceId": 7}))
        server.on("PUT", "/logout", reply())
        server.on("GET", "*", json_reply({"guid": "G"}))
        credentials = ArenaCredentials("me@example.com", world.secrets["password"])
        async with ArenaClient(credentials, base_url=server.base_url) as arena:
            await arena.extracts.get("a?b#c%2e d")
        assert server.lines("GET *") == ["GET /extracts/a%3Fb%23c%252e%20d"]


@row("SE18", protection="nothing in the environment loosens TLS")
@pytest.mark.parametrize(
    "variables",
    [
        {"PYTHONHTTPSVERIFY": "0"},
        {"CURL_CA_BUNDLE": "", "REQUESTS_CA_BUNDLE": ""},
        {"NODE_TLS_REJECT_UNAUTHORIZED": "0", "GIT_SSL_NO_VERIFY": "1"},
    ],
)
async def test_a_strange_certificate_is_refused_whatever_the_environment_says(
    world: World, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    """SE18: one attempt, no request, a typed error."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost").configure_cert(context)
    async with RawServer(ssl_context=context) as server:
        session = new_session(server.base_url)
        try:
            with pytest.raises(TlsError) as caught:
                await session.send(Request(method="GET", path="/x", scope=None))
        finally:
            await session.aclose()
        assert server.requests == []
    world.saw(caught.value)
    assert caught.value.attempts == 1


@row("SE18", protection="nothing in the environment loosens TLS")
async def test_only_a_context_says_whom_to_trust(world: World) -> None:
    """SE18: a context that trusts the certificate works; a switch in its place is refused; TLS 1.1 is not spoken."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    async with RawServer(ssl_context=context) as server:
        server.on("GET", "/x", json_reply({}))
        session = new_session(server.base_url, ssl=trusting)
        try:
            assert (await session.send(Request(method="GET", path="/x", scope=None))).status == 200
        finally:
            await session.aclose()
    with pytest.raises(ConfigurationError):
        new_session("https://api.example.com", ssl=False)
    assert ssl.create_default_context().minimum_version >= ssl.TLSVersion.TLSv1_2


@row("SE19", protection="plain http is for this machine only")
@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("http://api.arenasolutions.com/v1", False),
        ("http://10.0.0.1/v1", False),
        ("http://localhost.example.com/v1", False),
        case("http://127.0.0.1:8080/v1", True, protection="this machine may be asked in plain http"),
        case("http://localhost:8080/v1", True, protection="this machine may be asked in plain http"),
        case("http://[::1]:8080/v1", True, protection="this machine may be asked in plain http"),
        control("https://api.arenasolutions.com/v1", True, reason="https is never refused"),
    ],
)
def test_plain_http_is_refused_but_for_this_machine(world: World, url: str, *, allowed: bool) -> None:
    """SE19: and taken where it is asked for in so many words."""
    if allowed:
        UrlPolicy.for_base(url)
    else:
        with pytest.raises(ConfigurationError):
            UrlPolicy.for_base(url)
        with pytest.raises(ConfigurationError):
            ArenaClient(ArenaCredentials("me@example.com", world.secrets["password"]), base_url=url)
    UrlPolicy.for_base(url, allow_http=True)


@row("SE20", protection="the floor of the HTTP client has its fixes")
def test_the_oldest_permitted_http_client_has_the_fixes_and_is_tested(world: World) -> None:
    """SE20: 3.14.4 drops credentials at redirects and completes bodies; CI runs every row on the declared floor."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    floors = {
        requirement.name: min(Version(specifier.version) for specifier in requirement.specifier)
        for requirement in map(Requirement, project["project"]["dependencies"])
    }
    # Its issues 13180 and 13348.
    assert floors["aiohttp"] >= Version("3.14.4")
    script = (REPOSITORY / ".ci" / "run").read_text(encoding="utf-8")
    assert re.search(r"nox -s .*\blowest\b", script)
