"""How the protections of the transfer rows are taken away."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Callable
from typing import Any

import aiohttp
import attrs
from sabotage import Patch, protection

from arena_async.errors import ApiError, TransportError
from arena_async.net import connections, receiving, session
from arena_async.providers.arena import files as arena_files
from arena_async.providers.arena.dialect import ArenaDialect
from arena_async.transfer import fetching, planning
from arena_async.wire import ranges
from arena_async.wire.contracts import BodyHead, RemoteFile
from arena_async.wire.messages import Request, Response
from arena_async.wire.ranges import HeadVerdict, Held, Step


def _always(value: object) -> Callable[..., Any]:
    """Make a function that gives one value whatever it is asked."""
    return lambda *_, **__: value


def _rejudged(patch: Patch, rejudge: Callable[[planning.Recovery, planning.Tries], planning.Move]) -> None:
    """Let somebody else have the last word about what follows a failure."""
    judge = planning.judge_failure

    def judge_failure(error: Exception, tries: planning.Tries, **facts: Any) -> planning.Recovery:
        recovery = judge(error, tries, **facts)
        return attrs.evolve(recovery, move=rejudge(recovery, tries))

    patch.replace("arena_async.transfer.fetching:judge_failure", judge_failure)


@protection("a cut body is taken up where it broke")
def _(patch: Patch) -> None:
    patch.replace("arena_async.wire.ranges:Held.resumable", property(_always(False)))


@protection("the length that is known beforehand is compared")
def _(patch: Patch) -> None:
    patch.replace("arena_async.transfer.fetching:_Journey.check_length", _always(None))
    patch.replace("arena_async.transfer.integrity:Inspector._wrong_length", _always(None))


@protection("the structure of content is followed to its end")
def _(patch: Patch) -> None:
    patch.replace("arena_async.transfer.integrity:Inspector._check_structure", _always(True))


@protection("content without any proof is not called verified")
def _(patch: Patch) -> None:
    patch.replace("arena_async.transfer.integrity:choose_proof", _always("length"))


@protection("a body that breaks is told from one that ends")
def _(patch: Patch) -> None:
    read = receiving.IncomingBody.readinto

    async def readinto(self: receiving.IncomingBody, buffer: memoryview) -> int:
        try:
            return await read(self, buffer)
        except TransportError:
            return 0

    patch.replace("arena_async.net.receiving:IncomingBody.readinto", readinto)


@protection("an announced length that contradicts the listing is not believed")
def _(patch: Patch) -> None:
    patch.replace("arena_async.wire.ranges:_differ", _always(False))


@protection("a body is stopped where it has to end")
def _(patch: Patch) -> None:
    patch.add("arena_async.transfer.fetching:min", _always(None))
    patch.replace("arena_async.transfer.integrity:Inspector._too_long", _always(False))


@protection("an empty body is a file only where one can be")
def _(patch: Patch) -> None:
    patch.replace("arena_async.transfer.integrity:Inspector._wrong_kind", _always(None))


@protection("a byte is no progress")
def _(patch: Patch) -> None:
    patch.replace("arena_async.transfer.planning:LEAST_PROGRESS", 1)
    patch.add("arena_async.transfer.planning:max", _always(1))


@protection("a size is a number of bytes or nothing")
def _(patch: Patch) -> None:
    patch.replace("arena_async.wire.decoding:_is_size", _always(True))


@protection("bodies are stored as they were sent")
def _(patch: Patch) -> None:
    request = connections.Connections._request

    async def decoding_request(self: connections.Connections, outgoing: connections.Outgoing) -> Any:
        return await request(self, attrs.evolve(outgoing, decode=True))

    patch.replace("arena_async.net.connections:Connections._request", decoding_request)


@protection("an encoding that nobody asked for is refused")
def _(patch: Patch) -> None:
    patch.replace("arena_async.wire.ranges:is_encoded", _always(False))


@protection("a gzip file that was packed once more is refused")
def _(patch: Patch) -> None:
    patch.replace("arena_async.transfer.gzip_content:GzipCheck._look_inside", _always(None))


@protection("gzip content is followed to its last member")
def _(patch: Patch) -> None:
    patch.replace("arena_async.transfer.gzip_content:GzipCheck.feed", _always(None))
    patch.replace("arena_async.transfer.gzip_content:GzipCheck.finish", _always(None))


@protection("every member of a zip is read back")
def _(patch: Patch) -> None:
    patch.replace("arena_async.transfer.zip_content:ZipCheck.check", _always(True))


@protection("the check sum of the server is compared")
def _(patch: Patch) -> None:
    patch.replace("arena_async.transfer.integrity:Inspector._wrong_digest", _always(None))


@protection("a check sum of a range is not taken for one of the file")
def _(patch: Patch) -> None:
    read = session._read_head

    def believing(response: Any) -> BodyHead:
        return attrs.evolve(read(response), md5=session._hexadecimal(response.headers.get("Content-MD5")))

    patch.replace("arena_async.net.session:_read_head", believing)


@protection("a check sum that is none is not believed")
def _(patch: Patch) -> None:
    patch.replace("arena_async.net.session:_hexadecimal", lambda text: text)
    patch.replace("arena_async.transfer.integrity:_is_digest", lambda text, **_: text is not None)


@protection("an answer that is no file is told by its first bytes")
def _(patch: Patch) -> None:
    patch.replace("arena_async.transfer.integrity:_PAGE", re.compile(rb"(?!)"))
    patch.replace("arena_async.transfer.integrity:Inspector._wrong_kind", _always(None))


@protection("the check is chosen by the first bytes")
def _(patch: Patch) -> None:
    patch.replace("arena_async.transfer.integrity:_MAGIC", ())


@protection("a whole answer to a range begins anew")
def _(patch: Patch) -> None:
    patch.replace("arena_async.wire.ranges:_judge_range", _always(HeadVerdict(step=Step.APPEND, reason="")))


@protection("a host without ranges is asked for one only once")
def _(patch: Patch) -> None:
    def held(self: fetching._Journey) -> Held:
        return Held(offset=self.end, validator=self.validator, total=self.total)

    patch.replace("arena_async.transfer.fetching:_Journey.held", held)


@protection("the start of a range is checked")
def _(patch: Patch) -> None:
    judge = ranges._judge_range

    def believing(head: BodyHead, held: Held, expected: int | None) -> HeadVerdict:
        return judge(attrs.evolve(head, offset=held.offset, length=None), held, expected)

    patch.replace("arena_async.wire.ranges:_judge_range", believing)


@protection("a range has to belong to the same file")
def _(patch: Patch) -> None:
    judge = ranges._judge_range

    def believing(head: BodyHead, held: Held, expected: int | None) -> HeadVerdict:
        return judge(attrs.evolve(head, etag=held.validator, total=held.total), held, expected)

    patch.replace("arena_async.wire.ranges:_judge_range", believing)


@protection("a slice is told by its Content-Range")
def _(patch: Patch) -> None:
    patch.replace("arena_async.net.session:read_content_range", _always(None))


@protection("only what says where it belongs is written")
def _(patch: Patch) -> None:
    judge = ranges.judge_head

    def believing(head: BodyHead, held: Held, *, expected: int | None, gzipped: bool) -> HeadVerdict:
        if head.status == 206:
            return HeadVerdict(step=Step.APPEND, reason="")
        return judge(head, held, expected=expected, gzipped=gzipped)

    patch.replace("arena_async.transfer.fetching:judge_head", believing)


@protection("a file is begun anew twice at the most")
def _(patch: Patch) -> None:
    patch.replace("arena_async.transfer.planning:MOST_RESTARTS", 20)


@protection("a refused precondition means another file")
def _(patch: Patch) -> None:
    patch.replace("arena_async.wire.ranges:_judge_refusal", _always(HeadVerdict(step=Step.COMPLETE, reason="")))


@protection("a link that is over is renewed by listing")
def _(patch: Patch) -> None:
    def never_renewing(recovery: planning.Recovery, _: planning.Tries) -> planning.Move:
        return planning.Move.GIVE_UP if recovery.move is planning.Move.RENEW else recovery.move

    _rejudged(patch, never_renewing)


@protection("what came outlives its link")
def _(patch: Patch) -> None:
    look_up, hold = fetching._Journey.look_up, fetching._Journey.held

    async def look_up_and_drop(self: fetching._Journey, failure: Exception) -> None:
        await look_up(self, failure)
        await self.put_down(drop=True)

    def hold_what_this_run_brought(self: fetching._Journey) -> Held:
        return Held() if self.recovered else hold(self)

    patch.replace("arena_async.transfer.fetching:_Journey.look_up", look_up_and_drop)
    patch.replace("arena_async.transfer.fetching:_Journey.held", hold_what_this_run_brought)


@protection("a refused link is renewed once")
def _(patch: Patch) -> None:
    make_ready = fetching._Journey.make_ready

    async def make_ready_and_forget(self: fetching._Journey, recovery: planning.Recovery, failure: Exception) -> None:
        await make_ready(self, recovery, failure)
        self.tries = attrs.evolve(self.tries, renewals=0)

    patch.replace("arena_async.transfer.fetching:_Journey.make_ready", make_ready_and_forget)


@protection("the files of a page go by its newest links")
def _(patch: Patch) -> None:
    async def none_newer(*_: object) -> None:
        return None

    patch.replace("arena_async.providers.centrepoint.renewing:FreshLinks._newest", none_newer)


@protection("a fresh entry of another content begins anew")
def _(patch: Patch) -> None:
    patch.replace("arena_async.transfer.fetching:is_same_content", _always(True))


@protection("the earlier end of a link counts")
def _(patch: Patch) -> None:
    patch.add("arena_async.providers.centrepoint.links:min", max)


@protection("the time of the service is told by its answers")
def _(patch: Patch) -> None:
    patch.replace("arena_async.net.session:Session._note_time", _always(None))


@protection("what may pass is tried again")
def _(patch: Patch) -> None:
    _rejudged(patch, _always(planning.Move.GIVE_UP))


@protection("attempts come to an end")
def _(patch: Patch) -> None:
    _rejudged(patch, lambda _, tries: planning.Move.AGAIN if tries.asked < 8 else planning.Move.GIVE_UP)


@protection("a refusal that stays is believed")
def _(patch: Patch) -> None:
    _rejudged(patch, lambda _, tries: planning.Move.AGAIN if tries.asked < 5 else planning.Move.GIVE_UP)


@protection("silence has a limit")
def _(patch: Patch) -> None:
    receive, send = receiving.IncomingBody._receive, connections.Connections._request

    async def receive_patiently(self: receiving.IncomingBody, buffer: memoryview, left: float | None) -> int:
        self._timeouts = attrs.evolve(self._timeouts, read=3600.0)
        return await receive(self, buffer, left)

    async def request_patiently(self: connections.Connections, outgoing: connections.Outgoing) -> Any:
        self._timeouts = attrs.evolve(self._timeouts, read=3600.0)
        return await send(self, outgoing)

    patch.replace("arena_async.net.receiving:IncomingBody._receive", receive_patiently)
    patch.replace("arena_async.net.connections:Connections._request", request_patiently)


@protection("a trickle is no download")
def _(patch: Patch) -> None:
    patch.replace("arena_async.net.receiving:IncomingBody._measure", _always(None))


@protection("no limit on the whole of a body")
def _(patch: Patch) -> None:
    make = connections.Connections._new_session

    def new_session(self: connections.Connections, *arguments: Any, **options: Any) -> aiohttp.ClientSession:
        made = make(self, *arguments, **options)
        made._timeout = aiohttp.ClientTimeout(total=300)
        return made

    patch.replace("arena_async.net.connections:Connections._new_session", new_session)
    receive, begun = receiving.IncomingBody._receive, dict[int, float]()

    async def receive_for_a_while(self: receiving.IncomingBody, buffer: memoryview, left: float | None) -> int:
        now = asyncio.get_running_loop().time()
        if now - begun.setdefault(id(self), now) > 300:
            self._stall("it took too long")
            return 0
        return await receive(self, buffer, left)

    # The limit of the HTTP client does not reach a connection that was handed over.
    patch.replace("arena_async.net.receiving:IncomingBody._receive", receive_for_a_while)


@protection("time in which our disk is slow is not the body's fault")
def _(patch: Patch) -> None:
    read, left_at = receiving.IncomingBody.readinto, dict[int, float]()

    async def readinto(self: receiving.IncomingBody, buffer: memoryview) -> int:
        self._measure(self._clock() - left_at.get(id(self), self._clock()), 0)
        count = await read(self, buffer)
        left_at[id(self)] = self._clock()
        return count

    patch.replace("arena_async.net.receiving:IncomingBody.readinto", readinto)


@protection("certificates are checked")
def _(patch: Patch) -> None:
    send = connections.Connections._request

    async def request_unchecked(self: connections.Connections, outgoing: connections.Outgoing) -> Any:
        self._ssl = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._ssl.check_hostname, self._ssl.verify_mode = False, ssl.CERT_NONE
        return await send(self, outgoing)

    patch.replace("arena_async.net.connections:Connections._request", request_unchecked)


@protection("a range behind the last byte is the end")
def _(patch: Patch) -> None:
    patch.replace("arena_async.wire.ranges:_judge_refusal", _always(ranges._plain("")))


@protection("retries are shared")
def _(patch: Patch) -> None:
    patch.replace("arena_async.transfer.planning:RetryBudget.spend", _always(True))


@protection("a request is sent once for each attempt")
def _(patch: Patch) -> None:
    async def as_it_likes(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        return await handler(request)

    patch.replace("arena_async.net.connections:_never_twice", as_it_likes)


@protection("credentials go to the origin of the API only")
def _(patch: Patch) -> None:
    patch.replace("arena_async.net.session:origin", _always("everywhere"))


@protection("where a redirect leads is checked")
def _(patch: Patch) -> None:
    patch.replace("arena_async.wire.urls:UrlPolicy.check", _always(None))
    patch.replace("arena_async.wire.urls:UrlPolicy.check_address", _always(None))


@protection("redirects are counted")
def _(patch: Patch) -> None:
    patch.replace("arena_async.net.session:_MOST_HOPS", 20)


@protection("a relative redirect stays at home")
def _(patch: Patch) -> None:
    patch.replace("arena_async.net.session:urljoin", lambda _, location: location)


@protection("a file server that is away is given time")
def _(patch: Patch) -> None:
    read = ArenaDialect.read_error

    def read_error(self: ArenaDialect, request: Request, response: Response) -> ApiError:
        error = read(self, request, response)
        error.transient = False
        return error

    patch.replace("arena_async.providers.arena.dialect:ArenaDialect.read_error", read_error)


@protection("a status is understood in every spelling")
def _(patch: Patch) -> None:
    patch.replace("arena_async.providers.arena.models:status_word", lambda text: text or "")


@protection("files that a run does not tell are no empty list")
def _(patch: Patch) -> None:
    patch.replace("arena_async.providers.arena.files:ExportFiles._is_old", _always(True))
    patch.replace("arena_async.providers.arena.files:RunFailedError", _Nothing)


class _Nothing(Exception):  # noqa: N818
    """Nothing that anybody expects."""


@protection("every file of a run is fetched")
def _(patch: Patch) -> None:
    of_run = arena_files.ExportFiles._of_run

    async def first_of_run(self: arena_files.ExportFiles, *run: Any) -> list[RemoteFile]:
        return (await of_run(self, *run))[:1]

    patch.replace("arena_async.providers.arena.files:ExportFiles._of_run", first_of_run)


@protection("the stamp of the service is not believed")
def _(patch: Patch) -> None:
    make = arena_files._extract_file

    def extract_file(tenant: str, extract: str, run: Any, association: Any) -> RemoteFile:
        file = make(tenant, extract, run, association)
        return attrs.evolve(file, skip="downloaded") if association.download_date_time else file

    patch.replace("arena_async.providers.arena.files:_extract_file", extract_file)
    patch.replace("arena_async.providers.arena.models:_DONE", frozenset({"complete", "completed"}))


@protection("a redirect names one address of the web")
def _(patch: Patch) -> None:
    def redirected(_: session.Session, request: Request, url: str, response: Response, seen: int) -> str:
        if seen >= 8:
            raise TransportError(f"{request.line}: it goes on for ever.", request=request.line)
        return session.urljoin(url, (response.headers.get("Location") or "").replace("[", ""))

    patch.replace("arena_async.net.session:Session._redirected", redirected)
    patch.replace("arena_async.net.session:origin", lambda url: url.partition("/x")[0])
