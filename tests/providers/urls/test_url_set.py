# ruff: noqa: ASYNC240 - a test may look at the disk; nothing else runs meanwhile.
"""Files at any addresses, over real sockets: the same pool, the same promises, and no secret to any other host."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme
from scripted import RawServer, reply
from session_files import ETAG, ranged, ranges

from arena_async import (
    Downloader,
    IntegrityError,
    Link,
    Mirror,
    NotFoundError,
    PermissionDeniedError,
    Report,
    UnsafeUrlError,
    UrlSet,
)
from arena_async.options import Clock, TransferOptions
from arena_async.transfer.models import Action

BODY = bytes(range(256)) * 400
SHA256 = hashlib.sha256(BODY).hexdigest()
MD5 = hashlib.md5(BODY, usedforsecurity=False).hexdigest()
WRONG = "0" * 64


def links(*rows: str | Link, **settings: Any) -> UrlSet:
    """Return a set that may go to this machine."""
    return UrlSet(rows, allow_http=True, allow_private=True, **settings)


async def no_wait(_: float) -> None:
    """Let no time pass."""


async def download(files: UrlSet, to: Path, **how: Any) -> Report:
    """Download a set without waiting between attempts."""
    async with files, Downloader(to, clock=Clock(sleep=no_wait), **how) as downloads:
        return await downloads.run(files)


async def mirrored(files: UrlSet, to: Path) -> Report:
    """Sync a set into a directory."""
    async with files, Mirror(to, clock=Clock(sleep=no_wait)) as mirror:
        return await mirror.sync(files)


def kept(directory: Path) -> dict[str, bytes]:
    """Return the final files of a directory."""
    found = (path for path in directory.rglob("*") if path.is_file() and ".arena-async" not in path.parts)
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in found}


async def test_files_come_home_under_the_names_of_their_addresses(tmp_path: Path) -> None:
    """One request each, and the count is the count of the server."""
    async with RawServer() as server:
        server.on("GET", "/*", ranged(BODY))
        rows = [f"{server.base_url}/a/One.BIN", Link(f"{server.base_url}/b?id=2", name="sub/two.bin", size=len(BODY))]
        report = await download(links(*rows), tmp_path)

    assert kept(tmp_path) == {"One.BIN": BODY, "sub/two.bin": BODY}
    assert report.failures == ()
    assert report.requests == len(server.requests) == 2
    assert sorted(server.lines()) == ["GET /a/One.BIN", "GET /b?id=2"]


async def test_https_to_public_addresses_is_all_that_is_taken_unless_more_is_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that leads to this machine is rejected when it is looked up; another port than the usual one is not."""

    async def getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
        del host
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    authority = trustme.CA()
    ours, theirs = _contexts(authority)
    async with RawServer(ssl_context=theirs) as server:
        server.on("GET", "/a", ranged(BODY))
        report = await download(UrlSet([f"{server.base_url}/a"], allow_private=True, ssl=ours), tmp_path)
        refused = await download(UrlSet([f"https://files.example.org:{server.port}/a"], ssl=ours), tmp_path / "no")

    assert report.failures == ()
    assert isinstance(refused.outcomes[0].error, UnsafeUrlError)
    assert len(server.requests) == 1


def _contexts(authority: trustme.CA) -> tuple[Any, Any]:
    ours, theirs = ssl.create_default_context(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.configure_trust(ours)
    authority.issue_cert("localhost").configure_cert(theirs)
    return ours, theirs


@pytest.mark.parametrize(
    ("known", "proof"),
    [
        ({"sha256": SHA256}, "sha256"),
        ({"md5": MD5}, "md5"),
        ({"sha256": SHA256, "md5": MD5}, "sha256"),
        ({"size": len(BODY)}, "length"),
        ({}, "length"),
    ],
)
@pytest.mark.parametrize("digest", ["sha256", None])
async def test_the_strongest_proof_is_said(tmp_path: Path, known: dict[str, Any], proof: str, digest: Any) -> None:
    """What the list knows is compared with what came, whatever goes into the ledger."""
    async with RawServer() as server:
        server.on("GET", "/a", ranged(BODY))
        report = await download(links(Link(f"{server.base_url}/a", **known)), tmp_path, options=_digest(digest))

    assert [outcome.verified_by for outcome in report.outcomes] == [proof]
    assert kept(tmp_path) == {"a": BODY}


def _digest(digest: Any) -> TransferOptions:
    return TransferOptions(digest=digest)


@pytest.mark.parametrize(
    ("known", "expected", "actual"),
    [
        ({"sha256": WRONG}, WRONG, SHA256),
        ({"md5": WRONG[:32]}, WRONG[:32], MD5),
        ({"sha256": SHA256, "md5": WRONG[:32]}, WRONG[:32], MD5),
        ({"sha256": WRONG, "md5": MD5}, WRONG, SHA256),
    ],
)
async def test_content_with_another_digest_gets_no_name(
    tmp_path: Path, known: dict[str, Any], expected: str, actual: str
) -> None:
    """It is requested once more, then it is an error with both digests, and nothing is left of it."""
    async with RawServer() as server:
        server.on("GET", "/a", ranged(BODY))
        report = await download(links(Link(f"{server.base_url}/a", **known)), tmp_path)

    error = report.outcomes[0].error
    assert isinstance(error, IntegrityError)
    assert (error.expected, error.actual) == (expected, actual)
    assert "and the list says" in str(error)
    assert kept(tmp_path) == {}
    assert len(server.requests) == 2
    assert not list((tmp_path / ".arena-async" / "partial").glob("*"))


async def test_a_digest_of_the_list_and_one_of_the_server_must_both_hold(tmp_path: Path) -> None:
    """The content cannot be two things at once."""
    lying = reply(body=BODY, headers={"Content-MD5": "AAAAAAAAAAAAAAAAAAAAAA=="})
    async with RawServer() as server:
        server.on("GET", "/a", lying)
        report = await download(links(Link(f"{server.base_url}/a", sha256=SHA256)), tmp_path)

    assert "and the server says" in str(report.outcomes[0].error)
    assert kept(tmp_path) == {}


async def test_another_size_than_listed_gets_no_name(tmp_path: Path) -> None:
    """The list is believed, and what comes is not."""
    async with RawServer() as server:
        server.on("GET", "/a", ranged(BODY))
        report = await download(links(Link(f"{server.base_url}/a", size=len(BODY) - 1)), tmp_path)

    assert len(report.failures) == 1
    assert kept(tmp_path) == {}


async def test_what_was_cut_off_is_continued(tmp_path: Path) -> None:
    """From where it ended, with the validator of what came, and verified as a whole."""
    async with RawServer() as server:
        server.on("GET", "/a", reply(body=BODY, headers=ETAG, cut=70_000), ranged(BODY))
        report = await download(links(Link(f"{server.base_url}/a", sha256=SHA256)), tmp_path)

    assert ranges(server) == [None, "bytes=70000-"]
    assert report.outcomes[0].verified_by == "sha256"
    assert kept(tmp_path) == {"a": BODY}


async def test_headers_of_a_row_stay_at_its_origin(tmp_path: Path) -> None:
    """They go along where the same origin redirects within itself, and not to another one, nor back from there."""
    async with RawServer() as server, RawServer() as other:
        server.on("GET", "/a", reply(302, headers={"Location": "/b?sig=canary"}))
        server.on("GET", "/b", reply(302, headers={"Location": f"{other.base_url}/c"}))
        other.on("GET", "/c", reply(307, headers={"Location": f"{server.base_url}/d"}))
        server.on("GET", "/d", ranged(BODY))
        headers = {"authorization": "Bearer canary", "X-Key": "canary", "accept": "application/zip", "User-agent": "me"}
        report = await download(links(Link(f"{server.base_url}/a", headers=headers)), tmp_path)

    a, b, d = server.requests
    [c] = other.requests
    assert [seen.header("Authorization") for seen in (a, b, c, d)] == ["Bearer canary", "Bearer canary", None, None]
    assert [seen.header("X-Key") for seen in (a, b, c, d)] == ["canary", "canary", None, None]
    assert [name.lower() for name, _ in a.headers].count("accept") == 1
    assert (a.header("Accept"), a.header("User-Agent")) == ("application/zip", "me")
    assert report.failures == ()
    assert report.requests == 4


@pytest.mark.parametrize(
    ("status", "error"),
    [(404, NotFoundError), (410, NotFoundError), (401, PermissionDeniedError), (403, PermissionDeniedError)],
)
async def test_a_refusal_is_the_outcome_of_that_file_alone(tmp_path: Path, status: int, error: type[Exception]) -> None:
    """The others come, it is requested once, and requested again by the next run."""
    async with RawServer() as server:
        server.on("GET", "/*", ranged(BODY))
        server.on("GET", "/gone", reply(status, body=b"you sent sig=canary"))
        rows = [f"{server.base_url}/gone?sig=canary", f"{server.base_url}/b", f"{server.base_url}/c"]
        report = await mirrored(links(*rows), tmp_path)
        again = await mirrored(links(*rows), tmp_path)

    assert [type(outcome.error) for outcome in report.failures] == [error]
    assert "canary" not in str(report.failures[0].error)
    assert sorted(kept(tmp_path)) == ["b", "c"]
    assert (report.requests, again.requests, len(server.requests)) == (3, 1, 4)


async def test_a_second_run_of_a_mirror_asks_for_nothing(tmp_path: Path) -> None:
    """Nor does it when only the signatures are new; another digest, size or a touched file is requested."""
    async with RawServer() as server:
        server.on("GET", "/*", ranged(BODY))
        url = f"{server.base_url}/a"
        first = await mirrored(links(Link(f"{url}?sig=one", size=len(BODY)), f"{server.base_url}/b"), tmp_path)
        second = await mirrored(links(Link(f"{url}?sig=two", size=len(BODY)), f"{server.base_url}/b"), tmp_path)
        other = await mirrored(links(f"{server.base_url}/c"), tmp_path)
        checked = await mirrored(links(Link(f"{url}?sig=two", sha256=SHA256)), tmp_path)
        (tmp_path / "b").write_bytes(b"mine")
        mended = await mirrored(links(f"{server.base_url}/b"), tmp_path)

    assert (first.counts[Action.FETCH], first.requests) == (2, 2)
    assert (second.counts[Action.KEEP], second.requests) == (2, 0)
    # Another list says nothing about the files of the first one.
    assert (other.counts[Action.FETCH], other.counts[Action.GONE]) == (1, 0)
    assert (checked.counts[Action.REFRESH], checked.outcomes[0].verified_by) == (1, "sha256")
    assert mended.counts[Action.REFRESH] == 1
    assert kept(tmp_path) == {"a": BODY, "b": BODY, "c": BODY}


async def test_a_plan_asks_for_nothing_and_is_carried_out_as_it_says(tmp_path: Path) -> None:
    """Its price is one request for each file, and the list is all that is needed to look them up again."""
    async with RawServer() as server:
        server.on("GET", "/*", ranged(BODY))
        files = links(*(f"{server.base_url}/{number}?sig=canary" for number in range(5)))
        async with files, Mirror(tmp_path) as mirror:
            plan = await mirror.plan(files)
            requested = len(server.requests)
            report = await mirror.sync(files, plan=plan)

    assert (requested, plan.listing, plan.look_up, plan.content) == (0, 0, 0, 5)
    assert "canary" not in str(plan)
    assert report.requests == len(server.requests) == 5
    assert len(kept(tmp_path)) == 5


async def test_a_bad_row_far_down_stops_everything_before_the_first_request(tmp_path: Path) -> None:
    """No list is downloaded in part."""
    async with RawServer() as server:
        rows = "\n".join(f"{server.base_url}/{number}" for number in range(3000))
        files = UrlSet.parse(f"{rows}\nnowhere\n", allow_http=True, allow_private=True)
        with pytest.raises(Exception, match="line 3001"):
            await download(files, tmp_path)

    assert server.requests == []


async def test_no_secret_of_a_list_is_written_anywhere(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Not into logs, events, outcomes, errors, names, the ledger, or what is left of a file that failed."""
    caplog.set_level(logging.DEBUG)
    reported: list[str] = []
    note: Callable[[object], None] = lambda event: reported.append(repr(event))  # noqa: E731
    async with RawServer() as server:
        server.on("GET", "/a", reply(500, body=b"canary"), reply(body=BODY, headers=ETAG, cut=70_000), ranged(BODY))
        server.on("GET", "/b", reply(403, body=b"canary"))
        server.on("GET", "/c", reply(body=BODY, headers=ETAG, cut=70_000))
        server.on("GET", "/d", reply(302, headers={"Location": "http://127.0.0.1:1/x?sig=canary"}))
        query = "sig=canary&token=canary&X-Amz-Signature=canary&se=canary"
        rows = [Link(f"{server.base_url}/{name}?{query}", headers={"X-Key": "canary"}) for name in "abcd"]
        async with links(*rows) as files, Mirror(tmp_path, clock=Clock(sleep=no_wait), observer=note) as mirror:
            report = await mirror.sync(files)
            shown = [repr(files), repr(rows)]

    assert [outcome.file.name for outcome in report.failures] == ["b", "c", "d"]
    shown += [*reported, *caplog.messages, repr(report), *(str(outcome.error) for outcome in report.outcomes)]
    assert reported
    assert [text for text in shown if "canary" in text] == []
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path for path in written if "canary" in path.name or b"canary" in path.read_bytes()] == []
