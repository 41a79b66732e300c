"""Signed links that end on the way, over real sockets."""

from __future__ import annotations

from pathlib import Path

import pytest
from filesets import SocketFiles, content, remote
from internals import rig
from scripted import RawServer, Reply, Seen, reply

from arena_async import Action, Downloader, Mirror
from arena_async.errors import LinkExpiredError, TransfersFailedError
from arena_async.options import KIB, Clock, TransferOptions
from arena_async.protocol.files import RemoteFile

BODY = content(400_000)
EXPIRED = reply(403, body=b"<Code>AuthenticationFailed</Code> expired")


def rest(seen: Seen) -> Reply:
    """Serve what is asked for."""
    requested = seen.header("Range")
    headers = {"ETag": '"v1"'}
    if requested is None:
        return reply(body=BODY, headers=headers)
    first = int(requested.removeprefix("bytes=").rstrip("-"))
    headers["Content-Range"] = f"bytes {first}-{len(BODY) - 1}/{len(BODY)}"
    return reply(206, body=BODY[first:], headers=headers)


def everything(root: Path) -> tuple[str, bytes]:
    """Return all names below a folder, and all bytes."""
    paths = list(root.rglob("*"))
    return "".join(map(str, paths)), b"".join(path.read_bytes() for path in paths if path.is_file())


class Renewing(SocketFiles):
    """A set whose listing mints a new link each time."""

    minted = 0

    def _row(self, row: RemoteFile) -> RemoteFile:
        self.minted += 1
        self.links[row.key] = f"/{row.stem}?sig=canary{self.minted}"
        return super()._row(row)


async def test_a_link_that_expires_between_two_resumes_is_renewed_and_the_rest_comes(tmp_path: Path) -> None:
    """TR27: the new link, the same ETag, and only the bytes that are missing."""
    async with RawServer() as server:
        server.on("GET", "/a?sig=canary1", reply(body=BODY, headers={"ETag": '"v1"'}, cut=262_144), EXPIRED)
        server.on("GET", "/a?sig=canary2", rest)
        files = Renewing(server.base_url, [remote("a", size=len(BODY))], {})
        async with Downloader(
            tmp_path, options=TransferOptions(chunk_size=64 * KIB), clock=Clock(random=lambda: 0.0)
        ) as downloads:
            report = await downloads.run(files)

        requested = [(seen.target, seen.header("Range"), seen.header("If-Match")) for seen in server.requests]

    assert report.failures == ()
    assert report.outcomes[0].attempts == 3
    assert (tmp_path / "files" / "a.bin").read_bytes() == BODY
    assert requested == [
        ("/a?sig=canary1", None, None),
        ("/a?sig=canary1", "bytes=262144-", '"v1"'),
        ("/a?sig=canary2", "bytes=262144-", '"v1"'),
    ]


async def test_no_signature_is_shown_or_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """I4: not in events, errors, logs, names or the ledger, though every link fails."""
    caplog.set_level("DEBUG")
    reported: list[str] = []
    async with RawServer() as server:
        server.on("GET", "/*", EXPIRED)
        files = Renewing(server.base_url, [remote("a", size=len(BODY)), remote("b")], {})
        async with Mirror(
            tmp_path, observer=lambda event: reported.append(repr(event)), clock=Clock(random=lambda: 0.0)
        ) as mirror:
            report = await mirror.sync(files)
            plan = await mirror.plan(files)

    with pytest.raises(TransfersFailedError) as caught:
        report.raise_for_failures()
    assert all(isinstance(error, LinkExpiredError) for error in caught.value.exceptions)
    names, kept = everything(tmp_path)
    shown = "".join([*reported, repr(report), repr(caught.value.exceptions), plan.to_json(), caplog.text])
    assert "canary" not in shown + names
    assert b"canary" not in kept


async def test_a_rerun_after_an_expired_link_goes_on_with_a_fresh_one(tmp_path: Path) -> None:
    """The link is not kept with the partial file, and is not needed: the listing gives another."""
    async with RawServer() as server:
        server.on("GET", "/a", rest)
        server.on("GET", "/a?sig=canary1", reply(body=BODY, headers={"ETag": '"v1"'}, cut=262_144), EXPIRED)
        for number in (2, 3, 4):
            server.on("GET", f"/a?sig=canary{number}", EXPIRED)
        files = Renewing(server.base_url, [remote("a", size=len(BODY))], {})
        options = TransferOptions(chunk_size=64 * KIB)
        async with Mirror(tmp_path, options=options, clock=Clock(random=lambda: 0.0)) as mirror:
            rig(mirror, record_every=64 * KIB)
            first = await mirror.sync(files)
        async with Mirror(tmp_path, options=options) as mirror:
            second = await mirror.sync(files)
        last = server.requests[-1]

    assert isinstance(first.outcomes[0].error, LinkExpiredError)
    assert second.counts[Action.RESUME] == 1
    assert (last.target, last.header("Range")) == ("/a?sig=canary5", "bytes=262144-")
    assert (tmp_path / "files" / "a.bin").read_bytes() == BODY
