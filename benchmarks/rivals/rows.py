"""
The rows: what the world does, what is owed then, and how an outcome is judged.

Each row is a row of the fault matrix of the tests that downloaders of links can be asked as well, at one point of it.
"""

from __future__ import annotations

import re
import resource
import signal
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Any

import attrs

from benchmarks.rivals.stage import Ended, File, Stage, body, read_range, scripted, serve, stalled_in_the_middle

__all__ = ["ROWS", "Mark", "Row", "VerificationResult"]

SIG = "canarySig77f5"
SESSION = "canarySession77f2"

NAME = "day.csv.gz"
CONTENT = body(400_000, "day")


class Mark(StrEnum):
    """What became of what is owed."""

    #: Everything that is owed.
    YES = "yes"
    #: No harm: it says that it has failed, and nothing wrong is there. But what could be had is not there either.
    GIVES_UP = "gives up"
    #: Harm, or the user is not told.
    NO = "NO"
    #: It cannot be asked.
    UNASKED = "-"


@attrs.frozen
class VerificationResult:
    """A mark, and what was seen."""

    mark: Mark
    seen: str


@attrs.frozen(kw_only=True)
class Row:
    """
    One row.

    Args:
        id: Its name in the fault matrix.
        short: It in some words.
        world: What the world does.
        owed: What a user may expect.
        said: Who was said to fail it when it was written down: names of contenders.
        play: Plays it to one contender.
        unasked: Who cannot be asked, with the reason.
        notice: What has to be known to judge fairly, in whole sentences.
    """

    id: str
    short: str
    world: str
    owed: str
    said: frozenset[str]
    play: Callable[[Stage], Awaitable[VerificationResult]]
    unasked: dict[str, str] = attrs.field(factory=dict)
    notice: str = ""


# ------------------------------------------------------------------------------------------------------------ judgement


def _state(found: bytes | None, content: bytes) -> str:
    """Return what lies under a final name."""
    if found is None:
        return "nothing"
    if found == content:
        return "the complete file"
    kind = "the first" if content.startswith(found) else "wrong bytes:"
    return f"{kind} {len(found):,} of {len(content):,} bytes"


def _claim(ended: Ended) -> str:
    """Return what it says of itself."""
    if ended.code is None:
        return f"still running after {ended.seconds:.0f} s"
    if ended.done is None:
        return f"ended with {ended.code}"
    return "reported as downloaded" if 0 in ended.done else "reported as failed"


def _judge(stage: Stage, ended: Ended, *, refusing: bool = False) -> VerificationResult:
    """
    Judge the one file of a row.

    Args:
        stage: Where it was played.
        ended: How it ended.
        refusing: Whether a refusal is what is owed, and not the file.
    """
    found = stage.found(NAME)
    seen = f"{_state(found, CONTENT)} under the final name, {_claim(ended)}"
    if ended.code is None:
        return VerificationResult(Mark.NO, seen)
    downloaded = ended.done is not None and 0 in ended.done
    right = found == CONTENT
    if downloaded:
        return VerificationResult(Mark.YES if right and not refusing else Mark.NO, seen)
    if found is not None:
        return VerificationResult(Mark.GIVES_UP if right else Mark.NO, seen)
    return VerificationResult(Mark.YES if refusing else Mark.GIVES_UP, seen)


def _the_file(stage: Stage, path: str = "/day.csv.gz") -> list[File]:
    return [File(url=stage.server.base_url + path, content=CONTENT, name=NAME)]


# ----------------------------------------------------------------------------------------------------------------- rows


async def _half_without_length(stage: Stage) -> VerificationResult:
    half = scripted.reply(body=CONTENT, length=None, cut=len(CONTENT) // 2)
    stage.server.on("*", "/day.csv.gz", half)
    return _judge(stage, await stage.download(_the_file(stage)), refusing=True)


async def _encoding_that_is_none(stage: Stage) -> VerificationResult:
    honest, results = serve(CONTENT, headers={"Content-Encoding": "gzip"}), []
    whole = scripted.reply(body=CONTENT, headers={"Content-Encoding": "gzip", "ETag": '"v1"'})
    for host, answer in (("without ranges", whole), ("with ranges", honest)):
        stage.server.on("*", "/day.csv.gz", answer)
        (stage.to / NAME).unlink(missing_ok=True)
        result = _judge(stage, await stage.download(_the_file(stage)))
        results.append(VerificationResult(result.mark, f"{host}: {result.seen}"))
    worst = max(results, key=lambda result: list(Mark).index(result.mark))
    return VerificationResult(worst.mark, "; ".join(result.seen for result in results))


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
    return _judge(stage, await stage.download(_the_file(stage)))


async def _away_once(stage: Stage) -> VerificationResult:
    honest, left = serve(CONTENT), {"HEAD", "GET"}

    def answer(seen: Any) -> Any:
        if seen.method in left:
            left.remove(seen.method)
            return scripted.reply(503)
        return honest(seen)

    stage.server.on("*", "/day.csv.gz", answer)
    return _judge(stage, await stage.download(_the_file(stage)))


async def _redirected_elsewhere(stage: Stage) -> VerificationResult:
    stage.server.on("*", "/day.csv.gz", scripted.reply(302, headers={"Location": f"{stage.other.base_url}/blob"}))
    stage.other.on("*", "/blob", serve(CONTENT))
    ended = await stage.download(_the_file(stage), headers={"X-Session-Id": SESSION})
    reported = sum(seen.header("X-Session-Id") is not None for seen in stage.other.requests)
    if reported:
        return VerificationResult(
            Mark.NO,
            f"the session header was sent with {reported} of {len(stage.other.requests)} requests to the other origin",
        )
    return _judge(stage, ended)


async def _captive_portal(stage: Stage) -> VerificationResult:
    page = b"<!DOCTYPE html><html><title>Welcome</title><body>Please accept our terms.</body></html>"
    stage.server.on("*", "/day.csv.gz", scripted.reply(302, headers={"Location": "/welcome"}))
    stage.server.on("*", "/welcome", scripted.reply(body=page, headers={"Content-Type": "text/html"}))
    return _judge(stage, await stage.download(_the_file(stage)), refusing=True)


async def _twenty_files(stage: Stage) -> VerificationResult:
    contents = {f"f{number}.csv.gz": body(20_000, str(number)) for number in range(20)}
    for name, content in contents.items():
        stage.server.on("*", f"/{name}", serve(content))
    base = stage.server.base_url
    files = [File(url=f"{base}/{name}", content=content, name=name) for name, content in contents.items()]
    ended = await stage.download(files, frugal=True)
    whole = sum(stage.found(name) == content for name, content in contents.items())
    requested = len(stage.server.requests)
    seen = f"{requested} requests for 20 files, {whole} of them complete"
    if whole < 20 or ended.done != frozenset(range(20)):
        return VerificationResult(Mark.GIVES_UP if ended.code is not None else Mark.NO, seen)
    return VerificationResult(Mark.YES if requested == 20 else Mark.NO, seen)


async def _no_room(stage: Stage) -> VerificationResult:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(CONTENT) // 2, len(CONTENT) // 2))

    stage.server.on("*", "/day.csv.gz", serve(CONTENT))
    return _judge(stage, await stage.download(_the_file(stage), before=limit), refusing=True)


async def _leftover(stage: Stage) -> VerificationResult:
    stage.server.on("*", "/day.csv.gz", serve(CONTENT))
    (stage.to / NAME).write_bytes(CONTENT[:1000])
    return _judge(stage, await stage.download(_the_file(stage)))


async def _names_that_climb(stage: Stage) -> VerificationResult:
    stage.server.on("*", "/named", serve(CONTENT, headers={"Content-Disposition": 'attachment; filename="../../evil"'}))
    stage.server.on("*", "/x/..%2f..%2fevil2", serve(CONTENT))
    urls = ("/named", "/x/..%2f..%2fevil2")
    await stage.download([File(url=stage.server.base_url + url, content=CONTENT) for url in urls])
    strays = stage.strays()
    if strays:
        return VerificationResult(Mark.NO, f"written outside the directory: {', '.join(strays)}")
    return VerificationResult(Mark.YES, "nothing outside the directory")


async def _name_of_a_signed_link(stage: Stage) -> VerificationResult:
    stage.server.on("*", "/blob/day.csv.gz", serve(CONTENT))
    url = f"{stage.server.base_url}/blob/day.csv.gz?se=2030-01-01&sig={SIG}"
    ended = await stage.download([File(url=url, content=CONTENT)])
    log_lines = [name for name in stage.names() if "sig" in name]
    if log_lines:
        return VerificationResult(Mark.NO, f"the signature is in the name: `{log_lines[0].rpartition('/')[2]}`")
    if not ended.done:
        return VerificationResult(Mark.GIVES_UP, _claim(ended))
    called = ", ".join(path.name for path in stage.to.iterdir() if path.is_file())
    return VerificationResult(Mark.YES, f"named `{re.sub('[0-9a-f]{32}', '<32 hex digits>', called)}`")


async def _refused_signed_link(stage: Stage) -> VerificationResult:
    stage.server.on("*", "/blob/day.csv.gz", scripted.reply(403, body=b"<Code>AuthorizationPermissionMismatch</Code>"))
    ended = await stage.download(_the_file(stage, f"/blob/day.csv.gz?se=2030-01-01&sig={SIG}"))
    if SIG in ended.text:
        line = next(line for line in ended.text.splitlines() if SIG in line).replace(SIG, "***")
        return VerificationResult(Mark.NO, f"the signature is in what it printed or logged: `{_short(line)}`")
    if any(SIG in name for name in stage.names()):
        return VerificationResult(Mark.NO, "the signature is in a file name")
    return _judge(stage, ended, refusing=True)


def _short(line: str) -> str:
    """Return the place of a line where the signature was, from the path on."""
    at = line.index("***")
    return f"...{line[max(0, line.rfind('/', 0, at)) : at + 3]}".replace("`", "'")


SMALL = {f"small{number}.csv.gz": body(20_000, f"small{number}") for number in range(3)}
#: The file of a host that knows no ranges.
PLAIN, PLAIN_CONTENT = "night.csv.gz", body(400_000, "night")
BATCH = {**SMALL, NAME: CONTENT, PLAIN: PLAIN_CONTENT}


def _batch(stage: Stage) -> tuple[list[File], Callable[[], bool]]:
    """Offer three small files and two that stop in their middle, and tell when one of these is under way."""
    for name, content in SMALL.items():
        stage.server.on("*", f"/{name}", serve(content))
    stage.server.on("*", f"/{NAME}", serve(CONTENT, how=stalled_in_the_middle))
    stage.server.on("*", f"/{PLAIN}", scripted.reply(body=PLAIN_CONTENT))
    stage.server.on("GET", f"/{PLAIN}", scripted.reply(body=PLAIN_CONTENT, **stalled_in_the_middle(PLAIN_CONTENT)))

    def under_way() -> bool:
        requested = [seen for seen in stage.server.requests if seen.method == "GET" and seen.path == f"/{NAME}"]
        spans = [read_range(seen.header("Range"), len(CONTENT)) for seen in requested]
        return any(span is None or span[1] - span[0] > 1000 for span in spans)

    base = stage.server.base_url
    return [File(url=f"{base}/{name}", content=content, name=name) for name, content in BATCH.items()], under_way


def _cut(stage: Stage) -> list[str]:
    """Name the final names that do not hold the whole file, with what they hold."""
    return [
        f"`{name}` holds {_state(stage.found(name), content)}"
        for name, content in BATCH.items()
        if stage.found(name) not in (None, content)
    ]


async def _signals(stage: Stage) -> VerificationResult:
    results = []
    for number in (signal.SIGINT, signal.SIGTERM):
        files, under_way = _batch(stage)
        stage.server.requests.clear()
        for name in BATCH:
            (stage.to / name).unlink(missing_ok=True)
        ended = await stage.download(files, when=under_way, number=number)
        faults = _cut(stage)
        if ended.code is None or ended.seconds >= 2:
            faults.append(f"still running {ended.seconds:.0f} s later")
        if ended.code == 0:
            faults.append("exit code 0")
        results += [f"{number.name}: {fault}" for fault in faults]
    if results:
        return VerificationResult(Mark.NO, "; ".join(results))
    return VerificationResult(
        Mark.YES, "ended within 2 s, nothing truncated under a final name, the exit code is not 0"
    )


async def _killed(stage: Stage) -> VerificationResult:
    files, under_way = _batch(stage)
    await stage.download(files, when=under_way)
    at_the_kill = _cut(stage)
    stage.server.on("*", f"/{NAME}", serve(CONTENT))
    stage.server.on("*", f"/{PLAIN}", scripted.reply(body=PLAIN_CONTENT))
    ended = await stage.download(files)
    after, all_downloaded = _cut(stage), ended.done == frozenset(range(len(BATCH)))
    reported = "reports success" if all_downloaded else "reports a failure"
    if after:
        return VerificationResult(
            Mark.NO, f"at the kill: {'; '.join(at_the_kill) or 'well'}; the next run {reported}: {after[0]}"
        )
    if at_the_kill:
        return VerificationResult(Mark.NO, f"at the kill: {at_the_kill[0]}; the next run repairs it")
    if not all_downloaded:
        return VerificationResult(Mark.GIVES_UP, f"nothing truncated at the kill; the next run {reported}")
    return VerificationResult(
        Mark.YES, "nothing truncated at the kill, and the next run ends in the complete directory"
    )


def _said(*names: str) -> frozenset[str]:
    return frozenset(names)


EVERYBODY = _said("parfive", "pypdl", "pooch", "loop")
GIVEN_NAMES = {"loop": "The loop gets its names from the caller."}

ROWS = (
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
        said=_said("parfive", "pypdl"),
        play=_range_from_elsewhere,
    ),
    Row(
        id="TR33",
        short="503, once",
        world="503, once",
        owed="the file",
        said=_said("parfive", "pooch", "loop"),
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
        id="QU12",
        short="20 files, no fault",
        world="20 files without any fault",
        owed="20 requests: where a quota counts requests, a HEAD costs as much as a file",
        said=_said("parfive", "pypdl"),
        play=_twenty_files,
    ),
    Row(
        id="ST01",
        short="no space for the file",
        world="no file may grow larger than half of this one (RLIMIT_FSIZE)",
        owed="the tool ends, reports the failure, and leaves nothing under the final name",
        said=_said("parfive", "pypdl", "loop"),
        play=_no_room,
        notice="Writing fails with EFBIG, as it does with ENOSPC on a full disk.",
    ),
    Row(
        id="ST10",
        short="a leftover under the final name",
        world="1,000 bytes under the final name, left by a killed process",
        owed="they are not taken for the complete file",
        said=_said("parfive"),
        play=_leftover,
    ),
    Row(
        id="NM01",
        short="path traversal in names",
        world="path traversal: `../../evil` in Content-Disposition, `..%2f..%2fevil2` in the path",
        owed="nothing is written outside the directory",
        said=_said("parfive"),
        play=_names_that_climb,
        unasked=GIVEN_NAMES,
    ),
    Row(
        id="NM09",
        short="a name from a signed URL",
        world="the name is taken from a signed URL",
        owed="the signature is not part of the name",
        said=_said("parfive"),
        play=_name_of_a_signed_link,
        unasked=GIVEN_NAMES,
    ),
    Row(
        id="CC04",
        short="SIGINT and SIGTERM",
        world="SIGINT, and SIGTERM, when three small files are complete and two stall in the middle",
        owed="end within 2 s, an exit code other than 0, nothing truncated under a final name",
        said=_said("parfive", "pypdl", "loop"),
        play=_signals,
        notice=(
            "One of the two comes from a host without ranges. The exit code is that of a script that checks the "
            "reported errors: parfive handles the signal itself and returns with errors as usual, so a script that "
            "ignores them exits with 0."
        ),
    ),
    Row(
        id="CR01",
        short="SIGKILL, and a next run",
        world="SIGKILL at the same point; then the fault ends and the tool is run again",
        owed="nothing truncated under a final name at the kill, and the complete directory after the next run",
        said=_said("parfive", "pypdl", "loop"),
        play=_killed,
    ),
    Row(
        id="SE02",
        short="a signed URL that is rejected",
        world="a signed URL is rejected with 403",
        owed="the failure is reported without the signature, in everything that is printed and logged",
        said=EVERYBODY,
        play=_refused_signed_link,
        notice="This covers what the tool prints or logs at INFO by itself, its log files, and its own error messages.",
    ),
)
