"""Rows ST, NM, CC, CR and SE: disks, names, signals, runs and secrets."""

from __future__ import annotations

import asyncio
import re
import resource
import shutil
import signal
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
    state,
    the_file,
    worst,
)
from benchmarks.rivals.stage import (
    File,
    Stage,
    asks_for_content,
    body,
    offer,
    read_range,
    scripted,
    serve,
    stalled_in_the_middle,
)

__all__ = ["DIRECTORIES"]

SIG = "canarySig77f5"
GIVEN_NAMES = {"loop": "The loop gets its names from the caller."}


async def _no_room(stage: Stage) -> VerificationResult:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(CONTENT) // 2, len(CONTENT) // 2))

    stage.server.on("*", "/day.csv.gz", serve(CONTENT))
    return judge(stage, await stage.download(the_file(stage), before=limit), refusing=True)


async def _leftover(stage: Stage) -> VerificationResult:
    stage.server.on("*", "/day.csv.gz", serve(CONTENT))
    (stage.to / NAME).write_bytes(CONTENT[:1000])
    return judge(stage, await stage.download(the_file(stage)))


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
        return VerificationResult(Mark.GIVES_UP, claim(ended))
    called = ", ".join(path.name for path in stage.to.iterdir() if path.is_file())
    return VerificationResult(Mark.YES, f"named `{re.sub('[0-9a-f]{32}', '<32 hex digits>', called)}`")


async def _refused_signed_link(stage: Stage) -> VerificationResult:
    stage.server.on("*", "/blob/day.csv.gz", scripted.reply(403, body=b"<Code>AuthorizationPermissionMismatch</Code>"))
    ended = await stage.download(the_file(stage, f"/blob/day.csv.gz?se=2030-01-01&sig={SIG}"))
    if SIG in ended.text:
        line = next(line for line in ended.text.splitlines() if SIG in line).replace(SIG, "***")
        return VerificationResult(Mark.NO, f"the signature is in what it printed or logged: `{_short(line)}`")
    if any(SIG in name for name in stage.names()):
        return VerificationResult(Mark.NO, "the signature is in a file name")
    return judge(stage, ended, refusing=True)


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
        f"`{name}` holds {state(stage.found(name), content)}"
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


async def _copied(stage: Stage) -> VerificationResult:
    files = offer(stage, 6)
    first = judge_all(stage, await stage.download(files, frugal=True, keeping=True), files)
    if first.mark is not Mark.YES:
        return first
    stage.to = shutil.copytree(stage.to, stage.to.with_name("copy"), copy_function=shutil.copyfile)
    stage.server.requests.clear()
    result = judge_all(stage, await stage.download(files, frugal=True, keeping=True), files)
    requested, content = len(stage.server.requests), sum(map(asks_for_content, stage.server.requests))
    mark = Mark.NO if result.mark is Mark.YES and requested else result.mark
    return VerificationResult(mark, f"requests of the next run: {requested}, for content: {content}; {result.seen}")


async def _taken_up(stage: Stage) -> VerificationResult:
    content = body(8_000_000, "large")
    files = [File(url=f"{stage.server.base_url}/large", content=content, name="large.csv.gz")]

    def requested() -> int:
        """Count the bytes of the content that were requested."""
        asked = [seen.header("Range") for seen in stage.server.requests if asks_for_content(seen)]
        spans = [read_range(text, len(content)) or (0, len(content) - 1) for text in asked]
        return sum(last - first + 1 for first, last in spans)

    stage.server.on("*", "/large", serve(content, how=stalled_in_the_middle))
    await stage.download(files, keeping=True, when=requested, number=signal.SIGINT)
    received = requested() // 2
    stage.server.requests.clear()
    stage.server.on("*", "/large", serve(content))
    result = judge_all(stage, await stage.download(files, keeping=True), files)
    again = max(requested() - (len(content) - received), 0)
    mark = Mark.NO if result.mark is Mark.YES and again > 65_536 else result.mark
    return VerificationResult(mark, f"{again:,} of {received:,} received bytes requested again; {result.seen}")


async def _absurd_size(stage: Stage) -> VerificationResult:
    files = offer(stage, 6)
    stage.server.on("*", "/huge", scripted.reply(body=CONTENT, cut=1000, length=99_999_999_999_999))
    huge = File(url=f"{stage.server.base_url}/huge", content=CONTENT, name=NAME)
    ended = await stage.download([*files, huge])
    result = judge_all(stage, ended, files)
    mark = Mark.NO if ended.done is None or len(files) in ended.done else result.mark
    return VerificationResult(mark, f"the others: {result.seen}")


async def _two_at_once(stage: Stage) -> VerificationResult:
    async def pause() -> None:
        await asyncio.sleep(0.5)

    def through(honest: Any) -> Any:
        return lambda seen: attrs.evolve(honest(seen), piece=4000, between=pause)

    async def run() -> VerificationResult:
        return judge_all(stage, await stage.download(files, frugal=True), files)

    files = offer(stage, WORKERS, through)
    first = asyncio.create_task(run())
    while not first.done() and not any(map(asks_for_content, stage.server.requests)):
        await asyncio.wait([first], timeout=0.05)
    results = await asyncio.gather(first, run())
    requested, mark = sum(map(asks_for_content, stage.server.requests)), worst(results).mark
    seen = "; the other run: ".join(dict.fromkeys(result.seen for result in results))
    mark = Mark.NO if requested > len(files) else mark
    return VerificationResult(mark, f"{requested} requests for content; {seen}")


DIRECTORIES = (
    Row(
        id="ST01",
        short="no space for the file",
        world="no file may grow larger than half of this one (RLIMIT_FSIZE)",
        owed="the tool ends, reports the failure, and leaves nothing under the final name",
        said={"parfive", "pypdl", "loop"},
        play=_no_room,
        notice="Writing fails with EFBIG, as it does with ENOSPC on a full disk.",
    ),
    Row(
        id="ST10",
        short="a leftover under the final name",
        world="1,000 bytes under the final name, left by a killed process",
        owed="they are not taken for the complete file",
        said={"parfive"},
        play=_leftover,
    ),
    Row(
        id="ST26",
        short="a copied directory",
        world="6 files are downloaded, and the directory is copied (`cp -r`: the files have other times)",
        owed="the next run, in the copy, sends no request",
        said={"parfive", "pypdl"},
        play=_copied,
        unasked={"loop": "The loop has no memory of earlier runs."},
        notice="A HEAD counts: where a quota counts requests, it costs as much as a file.",
    ),
    Row(
        id="ST33",
        short="SIGINT, and the rest in a next run",
        world="SIGINT when half of 8 MB has been received, from a host with a strong ETag and ranges",
        owed="the next run requests the other half, and at most 64 KiB of the first one again",
        said=(),
        play=_taken_up,
        unasked=dict.fromkeys(("parfive", "pooch", "loop"), "It begins each file anew."),
        notice="Where a file is requested in segments, half of each one has been received.",
    ),
    Row(
        id="ST36",
        short="an absurd size",
        world="one of 7 files has `Content-Length: 99999999999999`, and the connection is closed after 1,000 bytes",
        owed="the other 6 files, and that one is reported as failed",
        said=(),
        play=_absurd_size,
    ),
    Row(
        id="NM01",
        short="path traversal in names",
        world="path traversal: `../../evil` in Content-Disposition, `..%2f..%2fevil2` in the path",
        owed="nothing is written outside the directory",
        said={"parfive"},
        play=_names_that_climb,
        unasked=GIVEN_NAMES,
    ),
    Row(
        id="NM09",
        short="a name from a signed URL",
        world="the name is taken from a signed URL",
        owed="the signature is not part of the name",
        said={"parfive"},
        play=_name_of_a_signed_link,
        unasked=GIVEN_NAMES,
    ),
    Row(
        id="CC04",
        short="SIGINT and SIGTERM",
        world="SIGINT, and SIGTERM, when three small files are complete and two stall in the middle",
        owed="end within 2 s, an exit code other than 0, nothing truncated under a final name",
        said={"parfive", "pypdl", "loop"},
        play=_signals,
        notice=(
            "One of the two comes from a host without ranges. The exit code is that of a script that checks the "
            "reported errors: parfive handles the signal itself and returns with errors as usual, so a script that "
            "ignores them exits with 0."
        ),
    ),
    Row(
        id="CC30",
        short="two runs at once",
        world=f"a second process is started with the same {WORKERS} files and directory while the first one downloads",
        owed="no content is requested twice, both report success, and all files are complete when one does",
        said=EVERYBODY,
        play=_two_at_once,
        notice="Each file takes 2.5 s, and the directory is looked at when each of the two ends.",
    ),
    Row(
        id="CR01",
        short="SIGKILL, and a next run",
        world="SIGKILL at the same point; then the fault ends and the tool is run again",
        owed="nothing truncated under a final name at the kill, and the complete directory after the next run",
        said={"parfive", "pypdl", "loop"},
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
