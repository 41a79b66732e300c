"""What the commands do: one function each, from the words to an exit code."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from arena_async.cli.costs import Bill, describe
from arena_async.cli.exits import Exit
from arena_async.cli.output import Output, show_count, show_size, show_when
from arena_async.cli.render import View, align
from arena_async.cli.running import exit_code, sentence
from arena_async.cli.values import cells, shown
from arena_async.errors import ArenaAsyncError, ConfigurationError
from arena_async.options import TransferOptions
from arena_async.providers.registry import PROVIDERS, Provider, Source
from arena_async.transfer.events import Action, Advanced, Event, Outcome, Report, Retrying, Settled, Started
from arena_async.transfer.mirror import Mirror, Verification
from arena_async.transfer.planning import Plan
from arena_async.wire.contracts import FileSet, Remark, RemoteFile
from arena_async.wire.messages import printable

__all__ = [
    "Teller",
    "bring",
    "code_of",
    "conclude",
    "findings",
    "plan",
    "quota",
    "show",
    "summarize",
    "sync",
    "tell_plan",
    "verify",
]

_DONE = {
    Action.FETCH: "fetched",
    Action.RESUME: "resumed",
    Action.REFRESH: "refreshed",
    Action.SKIP: "skipped",
    Action.GONE: "gone",
    Action.PRUNE: "pruned",
}
#: Makes a client that is not entered yet.
Connect = Callable[[], Any]
#: Makes the options of a transfer, or raises what is wrong with them.
Options = Callable[[], TransferOptions]

#: Files whose failure is told one by one.
_MOST_COMPLAINTS = 20

_HERE = (Action.FETCH, Action.RESUME, Action.REFRESH, Action.KEEP)


async def sync(
    connect: Connect, source: Source, words: Mapping[str, Any], output: Output, *, to: Path, options: Options
) -> int:
    """Make a folder equal to what a file set offers."""
    chosen = options()
    async with connect() as client, View(output) as view:
        files = source.make(client)(**words)
        teller = Teller(output, view, to)
        report, here = await bring(files, teller, to=to, options=chosen)
        remarks = await _remarks(files, source, report)
    teller.say_rest()
    for remark in remarks:
        _tell_remark(remark, output)
    return conclude(report, output, here=here, to=to, told=teller.told)


async def bring(files: FileSet, teller: Teller, *, to: Path, options: TransferOptions) -> tuple[Report, int]:
    """Sync a set into a folder, and say how many complete files are there then."""
    async with Mirror(to, options=options, observer=teller) as mirror:
        report = await mirror.sync(files)
        return report, await count_files(mirror)


async def _remarks(files: FileSet, source: Source, report: Report) -> Sequence[Remark]:
    """Give what people should hear of besides the files; a sync does not fail because that cannot be found out."""
    if not source.remarks or report.error is not None:
        return ()
    try:
        remarks: Sequence[Remark] = await getattr(files, source.remarks)()
    except ArenaAsyncError as error:
        said = f"The files are here, but nobody could say whether they are up to date. {sentence(error)}"
        return (Remark(kind="remark", text=said),)
    return remarks


def _tell_remark(remark: Remark, output: Output) -> None:
    if not output.json:
        output.note(remark.text)
    for row in remark.rows if output.json else ():
        output.record({"type": remark.kind, **shown(row)})


async def count_files(mirror: Mirror) -> int:
    """Count the complete files of a folder, those of other runs and services included."""
    count = 0
    async for _ in mirror.entries():
        count += 1
    return count


class Teller:
    """
    Shows what happens to files: on the view, as lines, or as JSON.

    Args:
        output: Where records and complaints go.
        view: What draws files under way.
        to: The folder, for paths relative to it.
    """

    def __init__(self, output: Output, view: View, to: Path) -> None:
        self._output = output
        self._view = view
        self._to = to
        self._failed = 0
        #: What was complained about so far.
        self.told: set[str] = set()

    def say_rest(self) -> None:
        """Say how many files failed beyond those that were complained about one by one."""
        if self._failed > _MOST_COMPLAINTS:
            self._output.complain(f"{self._failed - _MOST_COMPLAINTS:,} more files failed; --json tells about each.")

    def __call__(self, event: Event) -> None:
        """Take an event of a transfer."""
        board = self._view.board
        match event:
            case Started(file=file):
                board.started(file.key, _label(file), done=event.bytes_done, total=event.total or file.size)
            case Advanced(file=file):
                board.advanced(file.key, event.bytes_done, total=event.total)
            case Retrying(file=file):
                trouble = f"try {event.attempt} failed, next in {event.wait:.0f} s: {sentence(event.error)}"
                board.retrying(file.key, trouble)
                self._view.note(f"retrying  {_label(file)}  {trouble}")
            case Settled(outcome=outcome):
                board.settled(outcome.file.key, failed=outcome.error is not None)
                self._settle(outcome)

    def _settle(self, outcome: Outcome) -> None:
        if self._output.json:
            self._output.record(_record_of(outcome, self._to))
        if outcome.error is not None:
            self._failed += 1
            if self._failed <= _MOST_COMPLAINTS:
                self.told.add(sentence(outcome.error))
                self._output.complain(sentence(outcome.error))
        elif outcome.action in _HERE:
            size = show_size(outcome.bytes_written)
            self._view.note(f"{_DONE[outcome.action]}  {_label(outcome.file)}  {size}  {outcome.verified_by}")


def conclude(report: Report, output: Output, *, here: int, to: Path, told: Collection[str] = ()) -> int:
    """
    Write the summary of a run and give its exit code.

    Args:
        report: What became of the files.
        output: Where to.
        here: Complete files in the folder.
        to: The folder.
        told: Sentences that need not be said again.
    """
    code = code_of(report)
    if output.json:
        output.record(
            {
                "type": "summary",
                "counts": {action.value: number for action, number in report.counts.items()},
                "failed": len(report.failures),
                "not_started": report.not_started,
                "bytes": report.bytes_written,
                "requests": report.requests,
                "here": here,
                "error": None if report.error is None else _error_record(report.error),
                "exit_code": int(code),
            }
        )
    elif not output.quiet:
        output.data(summarize(report))
        output.data(f"{show_count(here, 'file')} in {to}")
    if report.error is not None and sentence(report.error) not in told:
        output.complain(sentence(report.error))
    if report.not_started:
        output.complain(f"{show_count(report.not_started, 'file')} not started; the next run takes them up.")
    return code


def code_of(report: Report) -> Exit:
    """Tell from a report how the command ends."""
    if report.error is not None:
        return exit_code(report.error)
    if not report.failures:
        return Exit.OK
    if any(report.counts.get(action, 0) for action in _HERE):
        return Exit.SOME_FAILED
    codes = {exit_code(outcome.error) for outcome in report.failures if outcome.error is not None}
    return codes.pop() if len(codes) == 1 else Exit.FAILED


def summarize(report: Report) -> str:
    """
    Say in a line what was done.

    Files that were kept are left out: where a listing begins at the last change, most of them are not even listed.
    """
    counts = [f"{number:,} {word}" for action, word in _DONE.items() if (number := report.counts.get(action, 0))]
    if report.failures:
        counts.append(f"{len(report.failures):,} failed")
    size, requests = show_size(report.bytes_written), show_count(report.requests, "request")
    return f"{', '.join(counts) or 'nothing new'}  ({size}, {requests})"


def _label(file: RemoteFile) -> str:
    """Name a file as the documented layout does; for people, so not cleaned as a path would be."""
    return printable(str(PurePosixPath(*file.parts, file.stem + file.extension)), most=300)


def _record_of(outcome: Outcome, to: Path) -> dict[str, Any]:
    return {
        "type": "file",
        "action": outcome.action.value,
        "key": outcome.file.key,
        "path": None if outcome.path is None else _below(outcome.path, to),
        "bytes": outcome.bytes_written,
        "verified_by": outcome.verified_by,
        "sha256": outcome.sha256,
        "attempts": outcome.attempts,
        "reason": outcome.reason or None,
        "error": None if outcome.error is None else _error_record(outcome.error),
    }


def _error_record(error: BaseException) -> dict[str, str]:
    return {"error": type(error).__name__, "message": sentence(error)}


def _below(path: Path, to: Path) -> str:
    """Write a path below the folder, with forward slashes."""
    return (path.relative_to(to) if path.is_relative_to(to) else path).as_posix()


async def plan(connect: Connect, source: Source, words: Mapping[str, Any], output: Output, *, to: Path) -> int:
    """Say what sync would do, and what it costs."""
    async with connect() as client:
        files = source.make(client)(**words)
        async with Mirror(to) as mirror:
            planned = await mirror.plan(files)
    return tell_plan(planned, output)


def tell_plan(planned: Plan, output: Output) -> int:
    """Write what a sync would do, and what it costs."""
    bill = Bill.of(planned)
    if output.json:
        for file in planned.files:
            output.record({"type": "file", **shown(file)})
        counts = {action.value: number for action, number in planned.counts.items()}
        output.record({"type": "summary", "counts": counts, "bytes": planned.bytes_to_fetch, **shown(bill)})
    elif not output.quiet:
        for file in planned.files:
            output.data(f"{file.action.value:<8} {show_size(file.size):>7}  {printable(file.path, most=300)}")
        for line in describe(planned, bill):
            output.data(line)
    return Exit.OK


async def show(connect: Connect, source: Source, path: tuple[Any, ...], output: Output) -> int:
    """List what a service offers."""
    columns = source.listings[len(path)].columns
    found = 0
    async with connect() as client:
        rows = source.rows(client, path)
        if output.json or not output.data_is_shown:
            async for row in rows:
                found += 1
                if output.json:
                    output.record(shown(row))
                else:
                    output.data("\t".join(cells(row, columns)))
        else:
            kept = [cells(row, columns) async for row in rows]
            found = len(kept)
            if kept:
                align(columns, kept, output)
    if not found:
        output.note("Nothing is listed.")
    return Exit.OK


def _insist_on_mirror(folder: Path) -> None:
    """Refuse a folder that was never synced, before one is made of it."""
    if not (folder / ".arena-async").is_dir():
        raise ConfigurationError(f"{folder}: nothing was ever synced to this folder; give the one after --to.")


async def verify(folder: Path, output: Output) -> int:
    """Read every file of a folder again and compare it with what was brought home."""
    _insist_on_mirror(folder)
    async with Mirror(folder) as mirror:
        found = await mirror.verify()
    code = Exit.SOME_FAILED if found.bad else Exit.OK
    if output.json:
        for verdict in ("changed", "missing", "unknown"):
            for row in getattr(found, verdict):
                output.record({"type": "file", "verdict": verdict, **shown(row), "path": _below(row.path, folder)})
        counts = {verdict: len(getattr(found, verdict)) for verdict in ("changed", "missing", "unknown")}
        output.record({"type": "summary", "ok": found.ok, **counts, "exit_code": int(code)})
        return code
    for row in found.bad:
        verdict = "missing" if row in found.missing else "changed"
        output.data(f"{verdict:<8} {printable(_below(row.path, folder), most=300)}")
    if not output.quiet:
        output.data(findings(found))
    if found.bad:
        output.complain("Files are not as they were brought home; the next sync fetches them again.")
    return code


def findings(found: Verification) -> str:
    """Say in a line what reading all files again has shown."""
    parts = [f"{show_count(found.ok, 'file')} as they were brought home"]
    for verdict, rows in (("changed", found.changed), ("missing", found.missing), ("not verifiable", found.unknown)):
        if rows:
            parts.append(f"{len(rows):,} {verdict}")
    return ", ".join(parts)


async def quota(connect: Callable[[Provider], Any], output: Output, *, who: bool = False) -> int:
    """Say how many requests of the day are left, for every service that counts them, and who spent the others."""
    for provider in (one for one in PROVIDERS.values() if one.probe):
        async with connect(provider) as client:
            spent = await getattr(client, provider.usages)().collect() if who and provider.usages else []
            if client.quota is None or client.quota.remaining is None:
                await getattr(client, provider.probe).search(limit=1).first()
            left = client.quota
        if left is None or left.remaining is None:
            output.note(f"{provider.title}: the service did not say how many requests are left.")
        elif output.json:
            output.record({"type": "quota", "service": provider.name, **shown(left)})
        else:
            of = f" of {left.limit:,}" if left.limit is not None else ""
            output.data(f"{provider.title}: {left.remaining:,}{of} requests left until {show_when(left.resets_at)}")
        if who:
            _tell_who(provider, spent, output)
    return Exit.OK


def _tell_who(provider: Provider, spent: Sequence[Any], output: Output) -> None:
    """Write who spent how many requests on what, the largest numbers first."""
    rows = sorted(spent, key=lambda row: row.count or 0, reverse=True)
    if output.json:
        for row in rows:
            output.record({"type": "usage", "service": provider.name, **shown(row)})
    elif rows and not output.quiet:
        columns = ("count", "who", "method", "endpoint", "date")
        align(columns, [cells(row, columns) for row in rows], output)
