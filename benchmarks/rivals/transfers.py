"""Rows TR and QU: what hosts do to a transfer."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import attrs

from benchmarks.rivals.contenders import WORKERS
from benchmarks.rivals.judging import (
    CONTENT,
    EVERYBODY,
    NAME,
    Mark,
    Row,
    VerificationResult,
    claim,
    judge,
    judge_all,
    the_file,
    worst,
)
from benchmarks.rivals.stage import Stage, asks_for_content, body, offer, read_range, scripted, serve

__all__ = ["TRANSFERS"]

SESSION = "canarySession77f2"


async def _half_without_length(stage: Stage) -> VerificationResult:
    half = scripted.reply(body=CONTENT, length=None, cut=len(CONTENT) // 2)
    stage.server.on("*", "/day.csv.gz", half)
    return judge(stage, await stage.download(the_file(stage)), refusing=True)


async def _encoding_that_is_none(stage: Stage) -> VerificationResult:
    honest, results = serve(CONTENT, headers={"Content-Encoding": "gzip"}), []
    whole = scripted.reply(body=CONTENT, headers={"Content-Encoding": "gzip", "ETag": '"v1"'})
    for host, answer in (("without ranges", whole), ("with ranges", honest)):
        stage.server.on("*", "/day.csv.gz", answer)
        (stage.to / NAME).unlink(missing_ok=True)
        result = judge(stage, await stage.download(the_file(stage)))
        results.append(VerificationResult(result.mark, f"{host}: {result.seen}"))
    return worst(results)


async def _range_from_elsewhere(stage: Stage) -> VerificationResult:
    honest, cut = serve(CONTENT), [True]

    def answer(seen: Any) -> Any:
        span = read_range(seen.header("Range"), len(CONTENT))
        if span is None or span[0] == 0:
            once = span is None and seen.method == "GET" and cut and cut.pop()
            reply = honest(seen)
            return attrs.evolve(reply, cut=len(CONTENT) // 2) if once else reply
        part = CONTENT[: span[1] + 1 - span[0]]
        where = f"bytes 0-{len(part) - 1}/{len(CONTENT)}"
        return scripted.reply(206, body=part, headers={"ETag": '"v1"', "Content-Range": where})

    stage.server.on("*", "/day.csv.gz", answer)
    return judge(stage, await stage.download(the_file(stage)))


async def _away_once(stage: Stage) -> VerificationResult:
    honest, left = serve(CONTENT), {"HEAD", "GET"}

    def answer(seen: Any) -> Any:
        if seen.method in left:
            left.remove(seen.method)
            return scripted.reply(503)
        return honest(seen)

    stage.server.on("*", "/day.csv.gz", answer)
    return judge(stage, await stage.download(the_file(stage)))


async def _redirected_elsewhere(stage: Stage) -> VerificationResult:
    stage.server.on("*", "/day.csv.gz", scripted.reply(302, headers={"Location": f"{stage.other.base_url}/blob"}))
    stage.other.on("*", "/blob", serve(CONTENT))
    ended = await stage.download(the_file(stage), headers={"X-Session-Id": SESSION})
    reported = sum(seen.header("X-Session-Id") is not None for seen in stage.other.requests)
    if reported:
        return VerificationResult(
            Mark.NO,
            f"the session header was sent with {reported} of {len(stage.other.requests)} requests to the other origin",
        )
    return judge(stage, ended)


async def _captive_portal(stage: Stage) -> VerificationResult:
    page = b"<!DOCTYPE html><html><title>Welcome</title><body>Please accept our terms.</body></html>"
    stage.server.on("*", "/day.csv.gz", scripted.reply(302, headers={"Location": "/welcome"}))
    stage.server.on("*", "/welcome", scripted.reply(body=page, headers={"Content-Type": "text/html"}))
    return judge(stage, await stage.download(the_file(stage)), refusing=True)


#: Seconds that a server takes for a response.
THINKING = 0.05


async def _response_too_many(stage: Stage) -> VerificationResult:
    requested: Counter[int] = Counter()
    stale, thinking = body(30_000, "stale"), [THINKING]

    async def think_once() -> None:
        await asyncio.sleep(thinking.pop() if thinking else 0)

    def through(honest: Any) -> Any:
        async def answer(seen: Any) -> Any:
            requested[seen.connection] += asks_for_content(seen)
            reply = honest(seen)
            if not (thinking and asks_for_content(seen) and requested[seen.connection] == 2):
                await asyncio.sleep(THINKING)
                return reply
            both = stale + reply.head() + reply.body
            return scripted.reply(body=both, length=len(stale), piece=len(stale), between=think_once)

        return answer

    files = offer(stage, 120, through)
    return judge_all(stage, await stage.download(files, frugal=True), files)


async def _more_behind_the_end(stage: Stage) -> VerificationResult:
    def through(honest: Any) -> Any:
        def answer(seen: Any) -> Any:
            reply = honest(seen)
            whole = reply.head() + reply.body + b"no response\r\n"
            return attrs.evolve(reply, raw=whole if asks_for_content(seen) else None)

        return answer

    files = offer(stage, 1, through)
    return judge_all(stage, await stage.download(files), files)


#: What comes with status 200 in the place of a file.
TEXTS = (
    b"Service temporarily unavailable. Please try again later.\n",
    b"Warning: mysql_connect(): Too many connections in /var/www/x.php on line 3",
    b"<Error><Code>ServerBusy</Code></Error>",
    b'[{"error":"x"}]',
)


async def _text_about_an_error(stage: Stage) -> VerificationResult:
    results, claims, kept = [], [], 0
    for text in TEXTS:
        stage.server.on(
            "*", f"/{NAME}", scripted.reply(body=text, headers={"Content-Type": "application/octet-stream"})
        )
        (stage.to / NAME).unlink(missing_ok=True)
        ended = await stage.download(the_file(stage))
        results.append(judge(stage, ended, refusing=True))
        claims.append(claim(ended))
        kept += stage.found(NAME) is not None
    seen = f"{kept} of {len(TEXTS)} texts under the final name, {', '.join(dict.fromkeys(claims))}"
    return VerificationResult(worst(results).mark, seen)


async def _coding_that_is_none(stage: Stage) -> VerificationResult:
    results = []
    for coding in ("utf-8", "aws-chunked"):
        stage.server.on("*", f"/{NAME}", serve(CONTENT, headers={"Content-Encoding": coding}))
        (stage.to / NAME).unlink(missing_ok=True)
        result = judge(stage, await stage.download(the_file(stage)))
        results.append(VerificationResult(result.mark, f"{coding}: {result.seen}"))
    return worst(results)


async def _away_for_a_while(
    stage: Stage, away: Any, *, count: int, seconds: float, few: Callable[[list[float]], bool]
) -> VerificationResult:
    """
    Let a host be away for some seconds, when it has served ten files.

    Args:
        stage: Where it is played.
        away: What it answers meanwhile.
        count: Files that are asked for.
        seconds: How long it is away.
        few: Tells from the seconds at which requests met it whether these were few.
    """
    met: list[float] = []
    began, served = 0.0, 0

    def through(honest: Any) -> Any:
        def answer(seen: Any) -> Any:
            nonlocal began, served
            if served == 10 and not began:
                began = time.monotonic()
            if began and time.monotonic() - began < seconds:
                met.append(time.monotonic() - began)
                return away
            served += asks_for_content(seen)
            return honest(seen)

        return answer

    files = offer(stage, count, through)
    result = judge_all(stage, await stage.download(files, frugal=True), files)
    mark = Mark.NO if result.mark is Mark.YES and not few(met) else result.mark
    late = sum(at > 0.5 for at in met)
    return VerificationResult(mark, f"requests meanwhile: {len(met)}, after 0.5 s: {late}; {result.seen}")


async def _away_for_three_seconds(stage: Stage) -> VerificationResult:
    away = scripted.reply(503)
    return await _away_for_a_while(stage, away, count=200, seconds=3, few=lambda met: len(met) <= WORKERS + 20)


async def _asked_to_wait(stage: Stage) -> VerificationResult:
    def few(met: list[float]) -> bool:
        return len(met) <= 2 * WORKERS and max(met, default=0) <= 0.5

    away = scripted.reply(429, headers={"Retry-After": "2"})
    return await _away_for_a_while(stage, away, count=40, seconds=2, few=few)


async def _twenty_files(stage: Stage) -> VerificationResult:
    files = offer(stage, 20)
    result = judge_all(stage, await stage.download(files, frugal=True), files)
    requested = len(stage.server.requests)
    mark = Mark.NO if result.mark is Mark.YES and requested > 20 else result.mark
    return VerificationResult(mark, f"{requested} requests; {result.seen}")


TRANSFERS = (
    Row(
        id="TR03",
        short="half a body, no Content-Length",
        world="no Content-Length, and the connection is closed in the middle of a `.csv.gz`, every time",
        owed="a truncated file is never reported as complete",
        said=EVERYBODY,
        play=_half_without_length,
    ),
    Row(
        id="TR09",
        short="a wrong Content-Encoding",
        world="a stored `.csv.gz` is served with `Content-Encoding: gzip`",
        owed="the bytes on the disk are the stored bytes",
        said=EVERYBODY,
        play=_encoding_that_is_none,
        notice=(
            "The file is requested twice, from a host with ranges and from one without, since some tools behave "
            "differently with ranges."
        ),
    ),
    Row(
        id="TR18",
        short="a wrong range",
        world=(
            "the first complete response is truncated; a 206 has the right number of bytes from another offset, and "
            "states that offset"
        ),
        owed="no bytes from another offset; the file",
        said={"parfive", "pypdl"},
        play=_range_from_elsewhere,
    ),
    Row(
        id="TR33",
        short="503, once",
        world="503, once",
        owed="the file",
        said={"parfive", "pooch", "loop"},
        play=_away_once,
        notice="Each method gets one 503, so that a HEAD does not use up the error for the GET.",
    ),
    Row(
        id="TR44",
        short="a redirect to another origin",
        world="a file that is requested with a session header redirects to another origin",
        owed="the file, and the header is not sent to the other origin",
        said=EVERYBODY,
        play=_redirected_elsewhere,
        notice="The header is a service's own one, as Arena's is, and not `Authorization`.",
    ),
    Row(
        id="TR46",
        short="a captive portal",
        world="a captive portal: a redirect to an HTML page with status 200",
        owed="the page is not kept as the `.csv.gz`",
        said=EVERYBODY,
        play=_captive_portal,
    ),
    Row(
        id="TR58",
        short="a response too many",
        world=(
            "120 files; once, the second response of a connection is preceded by one that was not requested, so that "
            "each later request over it gets the response to the one before"
        ),
        owed="no file has the content of another one; all files",
        said={"parfive", "pypdl", "loop"},
        play=_response_too_many,
        notice=(
            "The server takes 0.05 s for each response. pooch opens a connection for each file, the loop up to 100 at "
            "a time, so that few of them get a second request."
        ),
    ),
    Row(
        id="TR59",
        short="surplus bytes behind the body",
        world="some bytes follow the last one of the announced length, in the same segment, every time",
        owed="the file",
        said={"parfive", "pypdl", "loop"},
        play=_more_behind_the_end,
    ),
    Row(
        id="TR60",
        short="an error text with status 200",
        world=(
            "status 200, `application/octet-stream`, and an error text in place of the `.csv.gz`: a sentence, a PHP "
            "warning, `<Error>` without an XML declaration, JSON"
        ),
        owed="the text is not kept as the `.csv.gz`",
        said=EVERYBODY,
        play=_text_about_an_error,
    ),
    Row(
        id="TR61",
        short="a Content-Encoding that is none",
        world="a stored `.csv.gz` is served with `Content-Encoding: utf-8`, and with `aws-chunked`",
        owed="the file",
        said=(),
        play=_coding_that_is_none,
    ),
    Row(
        id="TR70",
        short="503 for 3 seconds",
        world="200 files, and from the eleventh on the host answers 503 for 3 seconds",
        owed=f"all files, and at most {WORKERS + 20} requests meanwhile: {WORKERS} that were in flight, and 20",
        said={"parfive", "loop"},
        play=_away_for_three_seconds,
        notice=(
            "`retry()` of parfive is called at once, as in its documentation; a script that waits before it gets more "
            "files. pypdl waits for 3 s after a failed look at a file, pooch for 1, 2 and 3 s after a failed download."
        ),
    ),
    Row(
        id="TR72",
        short="429 with Retry-After",
        world="40 files, and from the eleventh on the host answers 429 with `Retry-After: 2` for 2 seconds",
        owed="all files, and no requests meanwhile but those in flight",
        said={"parfive", "pooch", "loop"},
        play=_asked_to_wait,
        notice=(
            f"At most {2 * WORKERS} requests in the first half second count as in flight. No other tool here reads "
            "`Retry-After`: pypdl waits for 3 s anyway, which is longer, and pooch for 1 s at first, which is shorter."
        ),
    ),
    Row(
        id="QU12",
        short="20 files, no fault",
        world="20 files without any fault",
        owed="20 requests: where a quota counts requests, a HEAD costs as much as a file",
        said={"parfive", "pypdl"},
        play=_twenty_files,
    ),
)
