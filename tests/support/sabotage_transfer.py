"""How the protections of the transfer rows are taken away."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Callable
from typing import Any

import aiohttp
import attrs
import pytest
from sabotage import protection

from arena_async.errors import ApiError, TransportError
from arena_async.net import connections, receiving, session
from arena_async.providers.arena import exports as arena_exports
from arena_async.providers.arena import extracts as arena_extracts
from arena_async.providers.arena import models as arena_models
from arena_async.providers.arena.dialect import ArenaDialect
from arena_async.providers.centrepoint import links, renewing
from arena_async.transfer import fetching, gzip_content, integrity, planning, zip_content
from arena_async.wire import decoding, ranges
from arena_async.wire.contracts import BodyHead
from arena_async.wire.messages import Request, Response
from arena_async.wire.ranges import HeadVerdict, Held, Step
from arena_async.wire.urls import UrlPolicy


def _always(value: object) -> Callable[..., Any]:
    """Make a function that gives one value whatever it is asked."""
    return lambda *_, **__: value


def _rejudged(patch: pytest.MonkeyPatch, rejudge: Callable[[planning.Recovery, planning.Tries], planning.Move]) -> None:
    """Let somebody else have the last word about what follows a failure."""
    judge = planning.judge_failure

    def judge_failure(error: Exception, tries: planning.Tries, **facts: Any) -> planning.Recovery:
        recovery = judge(error, tries, **facts)
        return attrs.evolve(recovery, move=rejudge(recovery, tries))

    patch.setattr(fetching, "judge_failure", judge_failure)


@protection("a cut body is taken up where it broke")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ranges.Held, "resumable", property(_always(False)))


@protection("the length that is known beforehand is compared")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(fetching._Journey, "check_length", _always(None))
    patch.setattr(integrity.Inspector, "_wrong_length", _always(None))


@protection("the structure of content is followed to its end")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(integrity.Inspector, "_check_structure", _always(True))


@protection("content without any proof is not called verified")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(integrity, "choose_proof", _always("length"))


@protection("a body that breaks is told from one that ends")
def _(patch: pytest.MonkeyPatch) -> None:
    read = receiving.IncomingBody.readinto

    async def readinto(self: receiving.IncomingBody, buffer: memoryview) -> int:
        try:
            return await read(self, buffer)
        except TransportError:
            return 0

    patch.setattr(receiving.IncomingBody, "readinto", readinto)


@protection("an announced length that contradicts the listing is not believed")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ranges, "_differ", _always(False))


@protection("a body is stopped where it has to end")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(fetching, "min", _always(None), raising=False)
    patch.setattr(integrity.Inspector, "_too_long", _always(False))


@protection("an empty body is a file only where one can be")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(integrity.Inspector, "_wrong_kind", _always(None))


@protection("a byte is no progress")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(planning, "LEAST_PROGRESS", 1)
    patch.setattr(planning, "max", _always(1), raising=False)


@protection("a size is a number of bytes or nothing")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(decoding, "_is_size", _always(True))


@protection("bodies are stored as they were sent")
def _(patch: pytest.MonkeyPatch) -> None:
    request = connections.Connections._request

    async def decoding_request(self: connections.Connections, outgoing: connections.Outgoing) -> Any:
        return await request(self, attrs.evolve(outgoing, decode=True))

    patch.setattr(connections.Connections, "_request", decoding_request)


@protection("an encoding that nobody asked for is refused")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ranges, "is_encoded", _always(False))


@protection("a gzip file that was packed once more is refused")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(gzip_content.GzipCheck, "_look_inside", _always(None))


@protection("gzip content is followed to its last member")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(gzip_content.GzipCheck, "feed", _always(None))
    patch.setattr(gzip_content.GzipCheck, "finish", _always(None))


@protection("every member of a zip is read back")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(zip_content.ZipCheck, "check", _always(True))


@protection("the check sum of the server is compared")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(integrity.Inspector, "_wrong_digest", _always(None))


@protection("a check sum of a range is not taken for one of the file")
def _(patch: pytest.MonkeyPatch) -> None:
    read = session._read_head

    def believing(response: Any) -> BodyHead:
        return attrs.evolve(read(response), md5=session._hexadecimal(response.headers.get("Content-MD5")))

    patch.setattr(session, "_read_head", believing)


@protection("a check sum that is none is not believed")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(session, "_hexadecimal", lambda text: text)
    patch.setattr(integrity, "_is_digest", lambda text, **_: text is not None)


@protection("an answer that is no file is told by its first bytes")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(integrity, "_PAGE", re.compile(rb"(?!)"))
    patch.setattr(integrity.Inspector, "_wrong_kind", _always(None))


@protection("the check is chosen by the first bytes")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(integrity, "_MAGIC", ())


@protection("a whole answer to a range begins anew")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ranges, "_judge_range", _always(HeadVerdict(step=Step.APPEND, reason="")))


@protection("a host without ranges is asked for one only once")
def _(patch: pytest.MonkeyPatch) -> None:
    def held(self: fetching._Journey) -> Held:
        return Held(offset=self.end, validator=self.validator, total=self.total)

    patch.setattr(fetching._Journey, "held", held)


@protection("the start of a range is checked")
def _(patch: pytest.MonkeyPatch) -> None:
    judge = ranges._judge_range

    def believing(head: BodyHead, held: Held, expected: int | None) -> HeadVerdict:
        return judge(attrs.evolve(head, offset=held.offset, length=None), held, expected)

    patch.setattr(ranges, "_judge_range", believing)


@protection("a range has to belong to the same file")
def _(patch: pytest.MonkeyPatch) -> None:
    judge = ranges._judge_range

    def believing(head: BodyHead, held: Held, expected: int | None) -> HeadVerdict:
        return judge(attrs.evolve(head, etag=held.validator, total=held.total), held, expected)

    patch.setattr(ranges, "_judge_range", believing)


@protection("a slice is told by its Content-Range")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(session, "read_content_range", _always(None))


@protection("only what says where it belongs is written")
def _(patch: pytest.MonkeyPatch) -> None:
    judge = ranges.judge_head

    def believing(head: BodyHead, held: Held, *, expected: int | None, gzipped: bool) -> HeadVerdict:
        if head.status == 206:
            return HeadVerdict(step=Step.APPEND, reason="")
        return judge(head, held, expected=expected, gzipped=gzipped)

    patch.setattr(fetching, "judge_head", believing)


@protection("a file is begun anew twice at the most")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(planning, "MOST_RESTARTS", 20)


@protection("a refused precondition means another file")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ranges, "_judge_refusal", _always(HeadVerdict(step=Step.COMPLETE, reason="")))


@protection("a link that is over is renewed by listing")
def _(patch: pytest.MonkeyPatch) -> None:
    def never_renewing(recovery: planning.Recovery, _: planning.Tries) -> planning.Move:
        return planning.Move.GIVE_UP if recovery.move is planning.Move.RENEW else recovery.move

    _rejudged(patch, never_renewing)


@protection("what came outlives its link")
def _(patch: pytest.MonkeyPatch) -> None:
    look_up, hold = fetching._Journey.look_up, fetching._Journey.held

    async def look_up_and_drop(self: fetching._Journey, failure: Exception) -> None:
        await look_up(self, failure)
        await self.put_down(drop=True)

    def hold_what_this_run_brought(self: fetching._Journey) -> Held:
        return Held() if self.recovered else hold(self)

    patch.setattr(fetching._Journey, "look_up", look_up_and_drop)
    patch.setattr(fetching._Journey, "held", hold_what_this_run_brought)


@protection("a refused link is renewed once")
def _(patch: pytest.MonkeyPatch) -> None:
    make_ready = fetching._Journey.make_ready

    async def make_ready_and_forget(self: fetching._Journey, recovery: planning.Recovery, failure: Exception) -> None:
        await make_ready(self, recovery, failure)
        self.tries = attrs.evolve(self.tries, renewals=0)

    patch.setattr(fetching._Journey, "make_ready", make_ready_and_forget)


@protection("the files of a page go by its newest links")
def _(patch: pytest.MonkeyPatch) -> None:
    async def none_newer(*_: object) -> None:
        return None

    patch.setattr(renewing.FreshLinks, "_newest", none_newer)


@protection("a fresh entry of another content begins anew")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(fetching, "is_same_content", _always(True))


@protection("the earlier end of a link counts")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(links, "min", max, raising=False)


@protection("the time of the service is told by its answers")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(session.Session, "_note_time", _always(None))


@protection("what may pass is tried again")
def _(patch: pytest.MonkeyPatch) -> None:
    _rejudged(patch, _always(planning.Move.GIVE_UP))


@protection("attempts come to an end")
def _(patch: pytest.MonkeyPatch) -> None:
    _rejudged(patch, lambda _, tries: planning.Move.AGAIN if tries.asked < 8 else planning.Move.GIVE_UP)


@protection("a refusal that stays is believed")
def _(patch: pytest.MonkeyPatch) -> None:
    _rejudged(patch, lambda _, tries: planning.Move.AGAIN if tries.asked < 5 else planning.Move.GIVE_UP)


@protection("silence has a limit")
def _(patch: pytest.MonkeyPatch) -> None:
    receive, send = receiving.IncomingBody._receive, connections.Connections._request

    async def receive_patiently(self: receiving.IncomingBody, buffer: memoryview, left: float | None) -> int:
        self._timeouts = attrs.evolve(self._timeouts, read=3600.0)
        return await receive(self, buffer, left)

    async def request_patiently(self: connections.Connections, outgoing: connections.Outgoing) -> Any:
        self._timeouts = attrs.evolve(self._timeouts, read=3600.0)
        return await send(self, outgoing)

    patch.setattr(receiving.IncomingBody, "_receive", receive_patiently)
    patch.setattr(connections.Connections, "_request", request_patiently)


@protection("a trickle is no download")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(receiving.IncomingBody, "_measure", _always(None))


@protection("no limit on the whole of a body")
def _(patch: pytest.MonkeyPatch) -> None:
    make = connections.Connections._new_session

    def new_session(self: connections.Connections, *arguments: Any, **options: Any) -> aiohttp.ClientSession:
        made = make(self, *arguments, **options)
        made._timeout = aiohttp.ClientTimeout(total=300)
        return made

    patch.setattr(connections.Connections, "_new_session", new_session)
    receive, begun = receiving.IncomingBody._receive, dict[int, float]()

    async def receive_for_a_while(self: receiving.IncomingBody, buffer: memoryview, left: float | None) -> int:
        now = asyncio.get_running_loop().time()
        if now - begun.setdefault(id(self), now) > 300:
            self._stall("it took too long")
            return 0
        return await receive(self, buffer, left)

    # The limit of the HTTP client does not reach a connection that was handed over.
    patch.setattr(receiving.IncomingBody, "_receive", receive_for_a_while)


@protection("time in which our disk is slow is not the body's fault")
def _(patch: pytest.MonkeyPatch) -> None:
    read, left_at = receiving.IncomingBody.readinto, dict[int, float]()

    async def readinto(self: receiving.IncomingBody, buffer: memoryview) -> int:
        self._measure(self._clock() - left_at.get(id(self), self._clock()), 0)
        count = await read(self, buffer)
        left_at[id(self)] = self._clock()
        return count

    patch.setattr(receiving.IncomingBody, "readinto", readinto)


@protection("certificates are checked")
def _(patch: pytest.MonkeyPatch) -> None:
    send = connections.Connections._request

    async def request_unchecked(self: connections.Connections, outgoing: connections.Outgoing) -> Any:
        self._ssl = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._ssl.check_hostname, self._ssl.verify_mode = False, ssl.CERT_NONE
        return await send(self, outgoing)

    patch.setattr(connections.Connections, "_request", request_unchecked)


@protection("a range behind the last byte is the end")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ranges, "_judge_refusal", _always(ranges._plain("")))


@protection("retries are shared")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(planning.RetryBudget, "spend", _always(True))


@protection("a request is sent once for each attempt")
def _(patch: pytest.MonkeyPatch) -> None:
    async def as_it_likes(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        return await handler(request)

    patch.setattr(connections, "_never_twice", as_it_likes)


@protection("credentials go to the origin of the API only")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(session, "origin", _always("everywhere"))


@protection("where a redirect leads is checked")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(UrlPolicy, "check", _always(None))
    patch.setattr(UrlPolicy, "check_address", _always(None))


@protection("redirects are counted")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(session, "_MOST_HOPS", 20)


@protection("a relative redirect stays at home")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(session, "urljoin", lambda _, location: location)


@protection("a file server that is away is given time")
def _(patch: pytest.MonkeyPatch) -> None:
    read = ArenaDialect.read_error

    def read_error(self: ArenaDialect, request: Request, response: Response) -> ApiError:
        error = read(self, request, response)
        error.transient = False
        return error

    patch.setattr(ArenaDialect, "read_error", read_error)


@protection("a status is understood in every spelling")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(arena_models, "status_word", lambda text: text or "")


@protection("files that a run does not tell are no empty list")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(arena_exports.ExportFiles, "_is_old", _always(True))
    patch.setattr(arena_exports, "RunFailedError", _Nothing)


class _Nothing(Exception):  # noqa: N818
    """Nothing that anybody expects."""


@protection("every file of a run is fetched")
def _(patch: pytest.MonkeyPatch) -> None:
    listed = arena_exports.ExportFiles._listed

    def first_of_each(self: arena_exports.ExportFiles, runs: Any) -> dict[str, Any]:
        return {run: files[:1] for run, files in listed(self, runs).items()}

    patch.setattr(arena_exports.ExportFiles, "_listed", first_of_each)


@protection("the stamp of the service is not believed")
def _(patch: pytest.MonkeyPatch) -> None:
    facts_of = arena_extracts._facts_of

    def without_downloaded(association: Any) -> Any:
        facts = facts_of(association)
        return attrs.evolve(facts, skip="downloaded") if association.download_date_time else facts

    patch.setattr(arena_extracts, "_facts_of", without_downloaded)
    patch.setattr(arena_models, "_DONE", frozenset({"complete", "completed"}))


@protection("a redirect names one address of the web")
def _(patch: pytest.MonkeyPatch) -> None:
    def redirected(_: session.Session, request: Request, url: str, response: Response, seen: int) -> str:
        if seen >= 8:
            raise TransportError(f"{request.line}: it goes on for ever.", request=request.line)
        return session.urljoin(url, (response.headers.get("Location") or "").replace("[", ""))

    patch.setattr(session.Session, "_redirected", redirected)
    patch.setattr(session, "origin", lambda url: url.partition("/x")[0])
