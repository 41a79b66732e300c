"""How the protections of the transfer rows are removed."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urljoin

import aiohttp
import attrs
from sabotage import Always, Patch, protection

from arena_async.errors import ApiError, HostPausedError, TransportError
from arena_async.http import connections
from arena_async.protocol.files import BodyHead, RemoteFile
from arena_async.protocol.messages import Request, Response
from arena_async.protocol.ranges import HeadDecision, PartialContent, ResumeStep
from arena_async.protocol.urls import UrlPolicy
from arena_async.transfer.planner import Move, Recovery, Tries


def _always(value: object) -> Callable[..., Any]:
    """Make a function that gives one value whatever it is asked."""
    return lambda *_, **__: value


def _rejudged(patch: Patch, rejudge: Callable[[Recovery, Tries], Move]) -> None:
    """Let a removal have the last word about what follows a failure."""

    def decide_retry(error: Exception, tries: Tries, **facts: Any) -> Recovery:
        recovery = judge(error, tries, **facts)
        return attrs.evolve(recovery, move=rejudge(recovery, tries))

    judge = patch.replace("arena_async.transfer:decide_retry", decide_retry)


def _read_within(patch: Patch, around: Callable[[Any], AbstractContextManager[None]]) -> None:
    """Let a removal do something around each read of a body."""

    def surround(name: str) -> None:
        async def read(self: Any, memory: Any) -> Any:
            with around(self):
                return await given(self, memory)

        given = patch.replace(f"arena_async.http.body:Body.{name}", read)

    surround("readinto")
    surround("read")


@protection("a cut body is taken up where it broke")
def _(patch: Patch) -> None:
    patch.replace("arena_async.protocol.ranges:PartialContent.resumable", property(_always(False)))


@protection("the length that is known beforehand is compared")
def _(patch: Patch) -> None:
    patch.replace("arena_async.transfer:Job.total", Always(None))
    patch.replace("arena_async.transfer:ContentVerifier._wrong_length", _always(None))


@protection("the structure of content is followed to its end")
def _(patch: Patch) -> None:
    patch.replace("arena_async.transfer:ContentVerifier._check_structure", _always(True))


@protection("content without any proof is not called verified")
def _(patch: Patch) -> None:
    patch.replace("arena_async.transfer:choose_proof", _always("length"))


@protection("content that is whole is not called damaged")
def _(patch: Patch) -> None:
    wrong = patch.current("arena_async.transfer:WrongContent")

    def refuse(*_: object) -> None:
        raise wrong("it looks odd")

    patch.replace("arena_async.transfer:GzipCheck.finish", refuse)
    patch.replace("arena_async.transfer:ZipCheck.check", refuse)


@protection("a body that breaks is told from one that ends")
def _(patch: Patch) -> None:
    def ending(name: str, nothing: object) -> None:
        async def read(self: Any, memory: Any) -> Any:
            try:
                return await given(self, memory)
            except TransportError:
                self.at_end = True
                return nothing

        given = patch.replace(f"arena_async.http.body:Body.{name}", read)

    ending("readinto", 0)
    ending("read", b"")


@protection("an announced length that contradicts the listing is not believed")
def _(patch: Patch) -> None:
    patch.replace("arena_async.protocol.ranges:_differ", _always(False))


@protection("a body is stopped where it has to end")
def _(patch: Patch) -> None:
    patch.replace("arena_async.transfer:_limit", _always(None))
    patch.replace("arena_async.transfer:ContentVerifier._too_long", _always(False))


@protection("an empty body is a file only where one can be")
def _(patch: Patch) -> None:
    patch.replace("arena_async.transfer:ContentVerifier._wrong_kind", _always(None))


@protection("an empty body is a file where one can be")
def _(patch: Patch) -> None:
    def refuse(self: Any) -> None:
        recognize(self)
        if self._kind == "empty":
            self.problem = self._damaged("it is empty")

    recognize = patch.replace("arena_async.transfer:ContentVerifier._recognize", refuse)


@protection("a byte is no progress")
def _(patch: Patch) -> None:
    def pleased(self: Tries, *, received: int, progress: int, total: int | None) -> Tries:
        return given(self, received=received, progress=progress << 40, total=total)  # type: ignore[no-any-return]

    given = patch.replace("arena_async.transfer:Tries.after", pleased)


@protection("a size is a number of bytes or nothing")
def _(patch: Patch) -> None:
    patch.replace("arena_async.protocol.decoding:_is_size", _always(True))


@protection("a size that is one is read")
def _(patch: Patch) -> None:
    patch.replace("arena_async.protocol.decoding:_is_size", _always(False))


@protection("bodies are stored as they were sent")
def _(patch: Patch) -> None:
    async def decoding(self: Any, *args: Any, **how: Any) -> Any:
        return await given(self, *args, **{**how, "auto_decompress": True})

    given = patch.replace("aiohttp:ClientSession._request", decoding)


@protection("an encoding that was not requested is rejected")
def _(patch: Patch) -> None:
    patch.replace("arena_async.protocol.ranges:is_encoded", _always(False))


@protection("a gzip file that was packed once more is refused")
def _(patch: Patch) -> None:
    patch.replace("arena_async.transfer:GzipCheck._look_inside", _always(None))


@protection("gzip content is followed to its last member")
def _(patch: Patch) -> None:
    patch.replace("arena_async.transfer:GzipCheck.feed", _always(None))
    patch.replace("arena_async.transfer:GzipCheck.finish", _always(None))


@protection("every member of a zip is read back")
def _(patch: Patch) -> None:
    patch.replace("arena_async.transfer:ZipCheck.check", _always(True))


@protection("the check sum of the server is compared")
def _(patch: Patch) -> None:
    patch.replace("arena_async.transfer:ContentVerifier._wrong_digest", _always(None))


@protection("a check sum of a range is not taken for one of the file")
def _(patch: Patch) -> None:
    read_digest = patch.current("arena_async.http.body:_hexadecimal")

    def believing(response: Any) -> BodyHead:
        return attrs.evolve(read(response), md5=read_digest(response.headers.get("Content-MD5")))

    read = patch.replace("arena_async.http.body:read_head", believing)


@protection("a check sum that is none is not believed")
def _(patch: Patch) -> None:
    def believing(response: Any) -> BodyHead:
        return attrs.evolve(read(response), md5=response.headers.get("Content-MD5"))

    read = patch.replace("arena_async.http.body:read_head", believing)
    patch.replace("arena_async.transfer:_is_digest", lambda text, **_: text is not None)


@protection("an answer that is no file is told by its first bytes")
def _(patch: Patch) -> None:
    patch.replace("arena_async.protocol.text_content:document_in", _always(""))
    patch.replace("arena_async.transfer:ContentVerifier._wrong_kind", _always(None))


@protection("the check is chosen by the first bytes")
def _(patch: Patch) -> None:
    patch.replace("arena_async.transfer:_MAGIC", ())


@protection("a whole answer to a range begins anew")
def _(patch: Patch) -> None:
    patch.replace("arena_async.protocol.ranges:_judge_range", _always(HeadDecision(step=ResumeStep.APPEND, reason="")))


@protection("a host without ranges is asked for one only once")
def _(patch: Patch) -> None:
    patch.replace("arena_async.protocol.ranges:HeadDecision.ranges_ignored", Always(False))


@protection("the start of a range is checked")
def _(patch: Patch) -> None:
    judge = patch.current("arena_async.protocol.ranges:_judge_range")

    def believing(head: BodyHead, held: PartialContent, expected: int | None) -> HeadDecision:
        return judge(attrs.evolve(head, offset=held.offset, length=None), held, expected)

    patch.replace("arena_async.protocol.ranges:_judge_range", believing)


@protection("a range has to belong to the same file")
def _(patch: Patch) -> None:
    judge = patch.current("arena_async.protocol.ranges:_judge_range")

    def believing(head: BodyHead, held: PartialContent, expected: int | None) -> HeadDecision:
        return judge(attrs.evolve(head, etag=held.validator, total=held.total), held, expected)

    patch.replace("arena_async.protocol.ranges:_judge_range", believing)


@protection("a slice is told by its Content-Range")
def _(patch: Patch) -> None:
    patch.replace("arena_async.protocol.ranges:read_content_range", _always(None))


@protection("only what says where it belongs is written")
def _(patch: Patch) -> None:
    def believing(head: BodyHead, held: PartialContent | None = None, **known: Any) -> HeadDecision:
        if head.status == 206:
            return HeadDecision(step=ResumeStep.APPEND, reason="")
        return judge(head, held, **known)  # type: ignore[no-any-return]

    judge = patch.replace("arena_async.protocol.ranges:judge_head", believing)


@protection("a file is restarted twice at most")
def _(patch: Patch) -> None:
    patch.replace("arena_async.transfer:MAX_RESTARTS", 20)


@protection("a refused precondition means another file")
def _(patch: Patch) -> None:
    patch.replace(
        "arena_async.protocol.ranges:_judge_refusal", _always(HeadDecision(step=ResumeStep.COMPLETE, reason=""))
    )


@protection("a link that is over is renewed by listing")
def _(patch: Patch) -> None:
    def never_renewing(recovery: Any, _: Any) -> Any:
        return Move.GIVE_UP if recovery.move is Move.RENEW else recovery.move

    _rejudged(patch, never_renewing)


@protection("what came outlives its link")
def _(patch: Patch) -> None:
    _rejudged(patch, lambda recovery, _: Move.RESTART if recovery.move is Move.RENEW else recovery.move)


@protection("a refused link is renewed once")
def _(patch: Patch) -> None:
    def forgetful(error: Exception, tries: Tries, **facts: Any) -> Recovery:
        return judge(error, attrs.evolve(tries, renewals=0), **facts)  # type: ignore[no-any-return]

    judge = patch.replace("arena_async.transfer:decide_retry", forgetful)
    patch.replace("arena_async.providers.centrepoint.linked_files:worth_listing", _always(True))


@protection("the files of a page go by its newest links")
def _(patch: Patch) -> None:
    async def none_newer(*_: object) -> None:
        return None

    patch.replace("arena_async.providers.centrepoint.linked_files:FreshLinks._newest", none_newer)


@protection("a fresh entry of another content begins anew")
def _(patch: Patch) -> None:
    patch.replace("arena_async.transfer:is_same_content", _always(True))


def _resigned(patch: Patch, end: Callable[[list[datetime]], datetime], margin: timedelta) -> None:
    """Let a removal say when a link is over."""
    read_end = patch.current("arena_async.providers.centrepoint.links:link_end")
    link_type = patch.current("arena_async.providers.centrepoint.links:SignedLink")

    def sign(url: Any, *, announced: datetime | None, now: datetime, listed: Any = None) -> Any:
        if not url:
            return None
        known = [found for found in (read_end(url.reveal()), announced) if found is not None and found > now]
        if not known:
            return link_type(url.reveal(), listed=listed)
        return link_type(url.reveal(), end(known), expired_at=end(known) - margin, listed=listed)

    patch.replace("arena_async.providers.centrepoint.links:sign", sign)


@protection("the earlier end of a link counts")
def _(patch: Patch) -> None:
    _resigned(patch, max, timedelta(minutes=1))


@protection("a link is used until shortly before its end")
def _(patch: Patch) -> None:
    _resigned(patch, min, timedelta(minutes=10))


@protection("a link is not used in its last minute")
def _(patch: Patch) -> None:
    _resigned(patch, min, timedelta(minutes=-10))


@protection("the time of the service is told by its answers")
def _(patch: Patch) -> None:
    patch.replace("arena_async.http.exchange:read_http_date", _always(None))


@protection("what may pass is tried again")
def _(patch: Patch) -> None:
    _rejudged(patch, _always(Move.GIVE_UP))


@protection("attempts come to an end")
def _(patch: Patch) -> None:
    _rejudged(patch, lambda _, tries: Move.AGAIN if tries.sent < 8 else Move.GIVE_UP)


@protection("a refusal that stays is believed")
def _(patch: Patch) -> None:
    _rejudged(patch, lambda _, tries: Move.AGAIN if tries.sent < 5 else Move.GIVE_UP)


@protection("silence has a limit")
def _(patch: Patch) -> None:
    patch.replace("arena_async.options:Timeouts.read", Always(3600.0))


@protection("a trickle is no download")
def _(patch: Patch) -> None:
    patch.replace("arena_async.options:Timeouts.slowest_rate", Always(0.0))


@protection("no limit on the whole of a body")
def _(patch: Patch) -> None:
    make, begun = patch.current("arena_async.http.connections:Connections._new_client"), dict[int, float]()

    async def new_client(self: Any, **options: Any) -> aiohttp.ClientSession:
        made = await make(self, **options)
        made._timeout = aiohttp.ClientTimeout(total=300)
        return made  # type: ignore[no-any-return]

    @contextmanager
    def for_a_while(body: Any) -> Iterator[None]:
        now = asyncio.get_running_loop().time()
        if now - begun.setdefault(id(body), now) > 300:
            body._stall("it took too long")
        yield

    patch.replace("arena_async.http.connections:Connections._new_client", new_client)
    # The limit of the HTTP client does not reach a connection that was handed over.
    _read_within(patch, for_a_while)


@protection("time in which our disk is slow is not the body's fault")
def _(patch: Patch) -> None:
    left_at = dict[int, float]()

    @contextmanager
    def counting_all(body: Any) -> Iterator[None]:
        clock = body._connections.clock.monotonic
        body._waited += clock() - left_at.get(id(body), clock())
        yield
        left_at[id(body)] = clock()

    _read_within(patch, counting_all)


@protection("certificates are checked")
def _(patch: Patch) -> None:
    async def careless(self: Any, *args: Any, **how: Any) -> Any:
        return await given(self, *args, **{**how, "ssl": False})

    given = patch.replace("aiohttp:ClientSession._request", careless)


@protection("a range behind the last byte is the end")
def _(patch: Patch) -> None:
    plain = HeadDecision(step=ResumeStep.RESTART_PLAIN, reason="")
    patch.replace("arena_async.protocol.ranges:_judge_refusal", _always(plain))


@protection("what came before a connection ended is read")
def _(patch: Patch) -> None:
    begun: set[int] = set()

    def hurry(name: str, some: Callable[[Any], Any]) -> None:
        async def hasty(self: Any, memory: Any) -> Any:
            if id(self) in begun:
                raise TransportError("The connection has ended.")
            begun.add(id(self))
            return await given(self, some(memory))

        given = patch.replace(f"arena_async.http.body:Body.{name}", hasty)

    hurry("readinto", lambda buffer: buffer[:65_536])
    hurry("read", lambda limit: min(limit, 65_536))


@protection("a host in trouble is left alone")
def _(patch: Patch) -> None:
    patch.replace("arena_async.protocol.breaker:Breaker._pause", _always(None))


@protection("what a host asks to wait counts for all of its files")
def _(patch: Patch) -> None:
    given = patch.current("arena_async.protocol.breaker:Breaker.fail")

    def deaf(self: Any, now: float, why: str, *, placed: bool = False, **_: Any) -> None:
        given(self, now, why, placed=placed)

    patch.replace("arena_async.protocol.breaker:Breaker.fail", deaf)


@protection("workers come back to a host one by one")
def _(patch: Patch) -> None:
    def all_at_once(self: Any) -> None:
        self.limited, self.healthy = False, True

    patch.replace("arena_async.protocol.breaker:Breaker._recover", all_at_once)
    patch.replace("arena_async.transfer:JobQueue.has_to_wait", _always(False))


@protection("a page in the place of content counts against its host")
def _(patch: Patch) -> None:
    patch.replace("arena_async.http.admission:Admission.judge", _always(None))

    def of_this_file(self: Any, what: str, **_: Any) -> Any:
        return foreign(self, what, page=False)

    foreign = patch.replace("arena_async.transfer:ContentVerifier._foreign", of_this_file)


@protection("what belongs to one file pauses nobody")
def _(patch: Patch) -> None:
    answered = patch.current("arena_async.http.admission:Admission.note_answer")

    def suspicious(self: Any, sent: Any, status: int, headers: Any) -> None:
        if status == 400:
            self.note_failure(sent, "status 400", wait=60.0)
        else:
            answered(self, sent, status, headers)

    patch.replace("arena_async.http.admission:Admission.note_answer", suspicious)


@protection("content that is not ready is waited for")
def _(patch: Patch) -> None:
    patch.replace("arena_async.http.session:_CONTENT", frozenset({200, 202, 206, 412, 416}))


@protection("a link that is withdrawn again is renewed again")
def _(patch: Patch) -> None:
    patch.replace("arena_async.transfer:MAX_RENEWALS", 1)


@protection("a pause is told")
def _(patch: Patch) -> None:
    given = patch.current("arena_async.transfer:EventEmitter.emit")

    def silent(self: Any, event: Any) -> None:
        if not isinstance(getattr(event, "error", None), HostPausedError):
            given(self, event)

    patch.replace("arena_async.transfer:EventEmitter.emit", silent)


@protection("a request is sent once for each attempt")
def _(patch: Patch) -> None:
    def repeating(self: Any, *args: Any, **how: Any) -> None:
        given(self, *args, **{**how, "middlewares": ()})

    given = patch.replace("aiohttp:ClientSession.__init__", repeating)


@protection("credentials go to the origin of the API only")
def _(patch: Patch) -> None:
    patch.replace("arena_async.http.exchange:origin", _always("everywhere"))


@protection("where a redirect leads is checked")
def _(patch: Patch) -> None:
    patch.replace("arena_async.protocol.urls:UrlPolicy.check", _always(None))
    patch.replace("arena_async.protocol.urls:UrlPolicy.check_address", _always(None))


@protection("what the caller named is contacted")
def _(patch: Patch) -> None:
    def forgetful(self: UrlPolicy, url: str) -> None:
        given(attrs.evolve(self, origins=frozenset()), url)

    given = patch.replace("arena_async.protocol.urls:UrlPolicy.check", forgetful)


@protection("redirects are counted")
def _(patch: Patch) -> None:
    patch.replace("arena_async.http.exchange:_MAX_REDIRECTS", 20)


@protection("a few redirects are followed")
def _(patch: Patch) -> None:
    patch.replace("arena_async.http.exchange:_MAX_REDIRECTS", 0)


@protection("a relative redirect stays at home")
def _(patch: Patch) -> None:
    patch.replace("arena_async.http.exchange:urljoin", lambda _, location: location)


@protection("a file server that is away is given time")
def _(patch: Patch) -> None:
    read = patch.current("arena_async.providers.arena.adapter:ArenaAdapter.read_error")

    def read_error(self: Any, request: Request, response: Response) -> ApiError:
        error = read(self, request, response)
        error.transient = False
        return error

    patch.replace("arena_async.providers.arena.adapter:ArenaAdapter.read_error", read_error)


@protection("a status is understood in every spelling")
def _(patch: Patch) -> None:
    patch.replace("arena_async.providers.arena.models:status_word", lambda text: text or "")


@protection("a run that is complete is done")
def _(patch: Patch) -> None:
    patch.replace("arena_async.providers.arena.models:_DONE", frozenset())


@protection("an unknown status is no end")
def _(patch: Patch) -> None:
    patch.replace("arena_async.providers.arena.models:status_word", _always("completed"))


@protection("files that a run does not tell are no empty list")
def _(patch: Patch) -> None:
    patch.replace("arena_async.providers.arena.exports:ExportFiles._is_old", _always(True))
    patch.replace("arena_async.providers.arena.exports:RunFailedError", _Nothing)


class _Nothing(Exception):  # noqa: N818
    """Nothing that a caller expects."""

    def __init__(self, *_: object, **__: object) -> None:
        super().__init__()


@protection("every file of a run is fetched")
def _(patch: Patch) -> None:
    listed = patch.current("arena_async.providers.arena.exports:ExportFiles._listed")

    def first_of_each(self: Any, runs: Any) -> dict[str, Any]:
        return {run: files[:1] for run, files in listed(self, runs).items()}

    patch.replace("arena_async.providers.arena.exports:ExportFiles._listed", first_of_each)


@protection("the stamp of the service is not believed")
def _(patch: Patch) -> None:
    def believing(association: Any) -> Any:
        facts = given(association)
        return attrs.evolve(facts, skip="downloaded") if association.download_date_time else facts

    given = patch.replace("arena_async.providers.arena.extracts:_facts_of", believing)
    patch.replace("arena_async.providers.arena.models:_DONE", frozenset({"complete", "completed"}))


@protection("a redirect names one address of the web")
def _(patch: Patch) -> None:
    def redirected(self: Any, request: Request, target: Any, response: Response) -> Any:
        if target.redirects >= 8:
            raise TransportError(f"{request.line}: it goes on for ever.", request=request.line)
        url = urljoin(target.url, (response.headers.get("Location") or "").replace("[", ""))
        return attrs.evolve(target, url=url, origin=self._check_origin(url), redirects=target.redirects + 1)

    patch.replace("arena_async.http.exchange:Exchange.redirected", redirected)
    patch.replace("arena_async.http.exchange:origin", lambda url: url.partition("/x")[0])
    patch.replace("arena_async.protocol.urls:UrlPolicy.check", lambda self, url: None)


@protection("a change mark moves with the content")
def _(patch: Patch) -> None:
    patch.replace("arena_async.providers.arena.items:_may_hide_a_change", lambda _: False)


@protection("a connection on which something is unread is not used again")
def _(patch: Patch) -> None:
    async def send(self: Any, conn: Any) -> Any:
        sending, protocol = connections._SENDING.get(), conn.protocol
        response = await aiohttp.ClientRequest.send(self, conn)
        if sending is not None:
            sending[0].note_sent(sending[1], protocol)
        return response

    patch.replace("arena_async.http.connections:_CountedRequest.send", send)


@protection("a file is reported when its connection was empty")
def _(patch: Patch) -> None:
    patch.replace("arena_async.http.framing:ConnectionOrder.check", _always(None))
    patch.replace("arena_async.http.framing:ConnectionOrder.note_surplus", _always(None))


@protection("what follows a whole body is not of it")
def _(patch: Patch) -> None:
    patch.replace("arena_async.http.framing:OneResponse.take_over", classmethod(_always(None)))
    salvage = patch.current("arena_async.http.body:ReaderBody._salvage")

    def forgetting(self: Any, failure: Exception) -> bytes:
        self._declared = None
        return bytes(salvage(self, failure))

    patch.replace("arena_async.http.body:ReaderBody._salvage", forgetting)


@protection("the end of a compressed page is checked")
def _(patch: Patch) -> None:
    class Lenient:
        """Unpacks without a look at the end."""

        eof = True

        def __init__(self) -> None:
            self._inner = zlib.decompressobj(wbits=-15)
            self._first = True

        def decompress(self, data: bytes, limit: int) -> bytes:
            """Return what is inside; the header of a gzip file without a name has ten bytes."""
            first, self._first = self._first, False
            return self._inner.decompress(data[10:] if first else data, limit)

    patch.replace("arena_async.http.framing:new_inflater", lambda coding: Lenient() if coding else None)


@protection("text is taken for a table only if it is one")
def _(patch: Patch) -> None:
    patch.replace("arena_async.protocol.text_content:is_table", _always(True))


@protection("what people uploaded is theirs")
def _(patch: Patch) -> None:
    given = patch.current("arena_async.transfer:new_verifier")

    def strict(job: Any, *args: Any) -> Any:
        job.file = attrs.evolve(job.file, uploaded=False)
        return given(job, *args)

    patch.replace("arena_async.transfer:new_verifier", strict)


@protection("a coding is one only if it is registered")
def _(patch: Patch) -> None:
    def coded(head: BodyHead) -> frozenset[str]:
        return frozenset({head.encoding if head.encoding is not None else "identity"}) - {"identity"}

    patch.replace("arena_async.protocol.ranges:_codings", coded)


@protection("a page is told from a changed file")
def _(patch: Patch) -> None:
    async def believe(*_: object) -> None:
        return None

    patch.replace("arena_async.transfer:_check_document", believe)


@protection("a page leaves what was received before")
def _(patch: Patch) -> None:
    given = patch.current("arena_async.transfer:decide_retry")

    def dropping(error: Exception, tries: Tries, **facts: Any) -> Recovery:
        recovery = given(error, tries, **facts)
        return attrs.evolve(recovery, drop=recovery.drop or getattr(error, "page", False))

    patch.replace("arena_async.transfer:decide_retry", dropping)


@protection("bodies wait for open files")
def _(patch: Patch) -> None:
    patch.replace("arena_async.transfer.filesystem:is_out_of_files", _always(False))


# ------------------------------------------------------------------------------------------------ what failed before


@protection("a refusal is that of an account")
def _(patch: Patch) -> None:
    patch.replace("arena_async.transfer:account_of", lambda *_args, **_options: "")


@protection("one file of a refused run is requested first")
def _(patch: Patch) -> None:
    patch.replace("arena_async.transfer:RefusedRuns.admit", lambda _self, step, **_options: step)


@protection("a refused run that changed is requested")
def _(patch: Patch) -> None:
    patch.replace("arena_async.transfer:RefusedRuns.replace", lambda *_args, **_options: [])


def _kind_instead(patch: Patch, was: str, kind: str | None) -> None:
    """Let what failed in one way count as failed in another."""

    def judge(error: Exception, file: RemoteFile, *, twice: bool) -> str | None:
        found = real(error, file, twice=twice)
        return kind if found == was else found

    real = patch.replace("arena_async.transfer:refusal_kind", judge)


@protection("a rejection without a code is a failure")
def _(patch: Patch) -> None:
    _kind_instead(patch, "failed", "denied")


@protection("damaged content is remembered")
def _(patch: Patch) -> None:
    _kind_instead(patch, "damaged", None)


@protection("damage that differs is that of the network")
def _(patch: Patch) -> None:
    patch.replace("arena_async.transfer.recovery:reason_of", lambda *_: "the same")


@protection("a page in place of content is no damaged content")
def _(patch: Patch) -> None:
    _kind_instead(patch, "failed", "damaged")


@protection("what fails for long is requested less often")
def _(patch: Patch) -> None:
    patch.replace("arena_async.transfer:is_due", lambda *_args, **_options: True)


@protection("a watermark hides nothing that is due")
def _(patch: Patch) -> None:
    patch.replace("arena_async.transfer:Ledger.has_unsettled", lambda *_args, **_options: False)
