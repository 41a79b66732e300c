"""The commands that only Arena has: run an export, check and commit an import, show the quota."""

from __future__ import annotations

import shlex
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from arena_async.cli.exit_codes import ExitCode, exit_code
from arena_async.cli.jobs import count_files
from arena_async.cli.options import ServiceOptions, SyncOptions, TargetOptions, WaitOptions
from arena_async.cli.output import Output, cells, fields_of, show_count, show_when, write_table
from arena_async.cli.progress import ProgressReporter
from arena_async.cli.reports import write_report
from arena_async.errors import QuotaExhaustedError, TransfersFailedError
from arena_async.options import TransferOptions
from arena_async.protocol.messages import printable
from arena_async.providers.arena import ApiUsage, ArenaClient, ExportRun, Fetched, ImportRun, RunSeen, Submission
from arena_async.transfer.mirror import Mirror

__all__ = ["export_run", "import_check", "import_commit", "quota"]

_R = TypeVar("_R", ExportRun, ImportRun)

#: Warnings of an import that are written one by one.
_MAX_WARNINGS = 20


async def export_run(definition: str, options: SyncOptions, wait: WaitOptions, output: Output, *, fresh: bool) -> int:
    """Start an export, wait for it and download its files."""
    poll, watch = wait.poll_policy(), partial(_write_status, output)
    code, _ = await _download_run(
        lambda arena, mirror: arena.exports.fetch(definition, mirror, poll=poll, fresh=fresh, on_status=watch),
        options,
        options.transfer_options(),
        output,
    )
    return code


async def import_check(
    definition: str, file: Path, options: TargetOptions, wait: WaitOptions, output: Output, *, worksheet: str | None
) -> int:
    """Upload a file for a dry run and download the results."""
    poll, watch = wait.poll_policy(), partial(_write_status, output)
    code, fetched = await _download_run(
        lambda arena, mirror: arena.imports.fetch(
            definition, Submission(file, worksheet=worksheet), mirror, poll=poll, on_status=watch
        ),
        options,
        TransferOptions(workers=2),
        output,
    )
    if fetched is None:
        return code
    import_code = _write_import(fetched.run, output, done="would be imported")
    if import_code is not ExitCode.OK:
        errors = [path for path in fetched.paths if path.stem == "error"]
        where = f" They are in {errors[0]}." if errors else ""
        output.error(f"Rows failed, and nothing was imported.{where} Correct the file and check it again.")
    elif not output.json:
        command = shlex.join(["arena-async", "import", "commit", definition, fetched.run.guid])
        output.note(f"Nothing was imported yet. To do it: {command}")
    return max(code, import_code)


async def import_commit(
    definition: str, run: str, options: ServiceOptions, wait: WaitOptions, output: Output, *, despite_errors: bool
) -> int:
    """Commit a dry run and wait for it."""
    poll = wait.poll_policy()
    async with options.connect("arena") as arena:
        committed = await arena.imports.commit(definition, run, despite_errors=despite_errors)
        done = await arena.imports.wait(definition, committed, poll=poll, on_status=partial(_write_status, output))
    code = _write_import(done, output, done="imported")
    if code is not ExitCode.OK:
        output.error("Rows failed; the others were imported.")
    return code


async def _download_run(
    fetch: Callable[[ArenaClient, Mirror], Awaitable[Fetched[_R]]],
    options: TargetOptions,
    transfer_options: TransferOptions,
    output: Output,
) -> tuple[ExitCode, Fetched[_R] | None]:
    """Return the exit code and the downloaded run, or None if files failed."""
    async with (
        options.connect("arena") as arena,
        ProgressReporter(output, options.to) as progress,
        Mirror(options.to, options=transfer_options, observer=progress) as mirror,
    ):
        try:
            fetched = await fetch(arena, mirror)
        except TransfersFailedError as failed:
            output.error("The run is done, but not all of its files are here; the same command fetches the rest.")
            quota = [error for error in failed.exceptions if isinstance(error, QuotaExhaustedError)]
            return exit_code(quota[0]) if quota else ExitCode.SOME_FAILED, None
        present = await count_files(mirror)
    code = write_report(fetched.report, output, present=present, to=options.to, written=progress.messages)
    return code, fetched


def _write_status(output: Output, seen: RunSeen[ExportRun] | RunSeen[ImportRun]) -> None:
    """Write the status of a run that is waited for."""
    run = seen.run
    if output.json:
        output.record(
            {
                "type": "run",
                "how": seen.how,
                "guid": run.guid if run else None,
                "status": run.status if run else None,
                "asked": seen.polls,
                "again_in": seen.again_in,
            }
        )
    again = "" if seen.again_in is None else f", next poll in {seen.again_in:.0f} s"
    if run is None:
        output.note(f"Another export is in progress; this one waits for it{again}.")
        return
    states = {
        "started": "was started",
        "found": "was started, as the list shows",
        "resumed": "was started before and is waited for",
    }
    output.note(f"run {printable(run.guid)} {states.get(seen.how, f'is {printable(str(run.status))}{again}')}")


def _write_import(run: ImportRun, output: Output, *, done: str) -> ExitCode:
    """Write the result of an import run, and return the exit code that says whether rows failed."""
    code = ExitCode.SOME_FAILED if run.has_errors else ExitCode.OK
    if output.json:
        output.record({"type": "import", **fields_of(run), "has_errors": run.has_errors, "exit_code": int(code)})
        return code
    warnings = run.warnings.results if run.warnings else ()
    count = run.warnings.count if run.warnings and run.warnings.count is not None else len(warnings)
    if not output.quiet:
        output.data(
            f"{show_count(run.total_count or 0, 'row')}: {run.success_count or 0:,} {done}, "
            f"{run.error_count or 0:,} failed, {show_count(count, 'warning')}"
        )
    for warning in warnings[:_MAX_WARNINGS]:
        output.note(f"warning {warning.code}: {printable(warning.message or '')}")
    if count > _MAX_WARNINGS:
        output.note(f"and {count - _MAX_WARNINGS:,} more warnings; --json lists all that the service returned")
    return code


async def quota(options: ServiceOptions, output: Output, *, who: bool) -> int:
    """Write the remaining requests of the day, and with ``who`` who used them."""
    async with options.connect("arena") as arena:
        usages = await arena.usages().collect() if who else []
        if arena.quota is None or arena.quota.remaining is None:
            await arena.extracts.search(limit=1).first()
        left = arena.quota
    if left is None or left.remaining is None:
        output.note("Arena PLM: the service did not return the number of remaining requests.")
    elif output.json:
        output.record({"type": "quota", "service": "arena", **fields_of(left)})
    else:
        limit = f" of {left.limit:,}" if left.limit is not None else ""
        output.data(f"Arena PLM: {left.remaining:,}{limit} requests left until {show_when(left.resets_at)}")
    _write_usages(usages, output)
    return ExitCode.OK


def _write_usages(usages: list[ApiUsage], output: Output) -> None:
    """Write who sent how many requests to which endpoint, the largest numbers first."""
    rows = sorted(usages, key=lambda row: row.count or 0, reverse=True)
    if output.json:
        for row in rows:
            output.record({"type": "usage", "service": "arena", **fields_of(row)})
    elif rows and not output.quiet:
        columns = ("count", "who", "method", "endpoint", "date")
        write_table(columns, [cells(row, columns) for row in rows], output)
