"""Results of a command as text and JSON: of a transfer, a plan, a verification, a run, and the quota."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from arena_async.cli.exit_codes import ExitCode, exit_code
from arena_async.cli.output import Output, error_message, error_record, fields_of, show_count, show_size, show_when
from arena_async.protocol.files import Notice, RemoteFile
from arena_async.protocol.messages import printable
from arena_async.protocol.quota import Quota
from arena_async.transfer.local_proof import Verification
from arena_async.transfer.models import Action, Plan
from arena_async.transfer.outcomes import Outcome, Report

if TYPE_CHECKING:
    from arena_async.providers.arena import ApiUsage, ExportRun, ImportRun, RunSeen

__all__ = [
    "DONE",
    "PRESENT",
    "cost_record",
    "describe_plan",
    "describe_report",
    "describe_verification",
    "label_of",
    "outcome_record",
    "report_exit_code",
    "write_import",
    "write_notices",
    "write_plan",
    "write_quota",
    "write_report",
    "write_run_status",
    "write_verification",
]

#: What was done, by action.
DONE = {
    Action.FETCH: "fetched",
    Action.RESUME: "resumed",
    Action.REFRESH: "refreshed",
    Action.SKIP: "skipped",
    Action.GONE: "gone",
    Action.PRUNE: "pruned",
}
#: Reasons to skip files that are written, and files that are named with each.
_MAX_REASONS, _MAX_LABELS = 10, 3
#: Warnings of an import that are written one by one.
_MAX_WARNINGS = 20
#: Actions after which the file is complete on disk.
PRESENT = (Action.FETCH, Action.RESUME, Action.REFRESH, Action.KEEP)


def label_of(file: RemoteFile) -> str:
    """Return the path of a file in the documented layout, without the cleaning that a real path needs."""
    return printable(str(PurePosixPath(*file.parts, file.stem + file.extension)), maximum=300)


def outcome_record(outcome: Outcome, to: Path) -> dict[str, Any]:
    """Return an outcome as a JSON object."""
    return {
        "type": "file",
        "action": outcome.action.value,
        "key": outcome.file.key,
        "path": None if outcome.path is None else _relative(outcome.path, to),
        "bytes": outcome.bytes_written,
        "verified_by": outcome.verified_by,
        "sha256": outcome.sha256,
        "attempts": outcome.attempts,
        "reason": outcome.reason or None,
        "again_at": outcome.again_at,
        "error": None if outcome.error is None else error_record(outcome.error),
    }


def write_report(report: Report, output: Output, *, present: int, to: Path, written: Collection[str]) -> ExitCode:
    """
    Write the summary of a transfer and return the exit code.

    Args:
        report: The result of the transfer.
        output: The output of the command.
        present: The number of complete files in the target directory.
        to: The target directory.
        written: Error messages that were written already.
    """
    code = report_exit_code(report)
    summary = {
        "type": "summary",
        "counts": {action.value: number for action, number in report.counts.items()},
        "failed": len(report.failures),
        "not_started": report.not_started,
        "bytes": report.bytes_written,
        "requests": report.requests,
        "here": present,
        "error": None if report.error is None else error_record(report.error),
        "exit_code": int(code),
    }
    output.result(summary, describe_report(report), f"{show_count(present, 'file')} in {to}")
    if report.error is not None and error_message(report.error) not in written:
        output.error(error_message(report.error))
    _write_reasons(report, output)
    if report.not_started:
        output.error(f"{show_count(report.not_started, 'file')} not started; the next run downloads them.")
    return code


def _write_reasons(report: Report, output: Output) -> None:
    """Write why files were skipped or not requested, each reason once, with a few of its files."""
    if output.json:
        return
    groups: dict[str, list[str]] = {}
    for outcome in report.outcomes:
        if outcome.action is Action.SKIP and outcome.error is None:
            groups.setdefault(outcome.reason, []).append(label_of(outcome.file))
    for reason, labels in list(groups.items())[:_MAX_REASONS]:
        output.note(f"skipped {show_count(len(labels), 'file')}: {printable(reason)} ({_some(labels)})")
    if len(groups) > _MAX_REASONS:
        output.note(f"and {len(groups) - _MAX_REASONS:,} more reasons; --json lists them all")
    waiting = [outcome for outcome in report.outcomes if outcome.again_at is not None]
    if waiting:
        first = min(outcome.again_at for outcome in waiting if outcome.again_at is not None)
        output.error(
            f"{show_count(len(waiting), 'file')} failed in earlier runs and not requested now: the next is due "
            f"{show_when(first)}, --ask-again requests all ({_some([label_of(one.file) for one in waiting])})."
        )


def _some(labels: Sequence[str]) -> str:
    """Return the first few of some labels, and how many more there are."""
    more = f", and {len(labels) - _MAX_LABELS:,} more" if len(labels) > _MAX_LABELS else ""
    return ", ".join(labels[:_MAX_LABELS]) + more


def report_exit_code(report: Report) -> ExitCode:
    """Return the exit code for the result of a transfer."""
    if report.error is not None:
        return exit_code(report.error)
    if not report.failures:
        return ExitCode.OK
    refused = any(outcome.action is Action.SKIP and outcome.again_at is None for outcome in report.failures)
    if refused or any(report.counts.get(action, 0) for action in PRESENT):
        return ExitCode.SOME_FAILED
    codes = {exit_code(outcome.error) for outcome in report.failures if outcome.error is not None}
    return codes.pop() if len(codes) == 1 else ExitCode.FAILED


def describe_report(report: Report) -> str:
    """
    Return the result of a transfer as one line.

    Files that were kept are left out: where the service lists only changes, most of them are not listed.
    """
    counts = [f"{number:,} {word}" for action, word in DONE.items() if (number := report.counts.get(action, 0))]
    if report.failures:
        counts.append(f"{len(report.failures):,} failed")
    size, requests = show_size(report.bytes_written), show_count(report.requests, "request")
    return f"{', '.join(counts) or 'nothing new'}  ({size}, {requests})"


def cost_record(plan: Plan) -> dict[str, Any]:
    """Return the metered requests of a sync that lists once more, beside the quota, as a JSON object."""
    requests = plan.listing + plan.content
    return {
        "requests": requests,
        "listing": plan.listing,
        "content": plan.content,
        "remaining": plan.remaining,
        "reserve": plan.reserve,
        "resets_at": plan.resets_at,
        "fits": plan.cost.fits(requests),
    }


def describe_plan(plan: Plan) -> list[str]:
    """Return what a sync would do, and its cost, as a few lines."""
    counts = ", ".join(f"{action.value} {number:,}" for action, number in plan.counts.items() if number)
    size = "size not listed" if plan.bytes_to_fetch is None else show_size(plan.bytes_to_fetch)
    requests = plan.listing + plan.content
    lines = [
        f"{counts or 'no files'}  ({size})",
        f"costs {show_count(requests, 'request')}: {plan.listing:,} to list, {plan.content:,} for content",
    ]
    if plan.remaining is not None:
        fits = "fits" if plan.cost.fits(requests) else "does not fit"
        reserve = f", {plan.reserve:,} of them in reserve" if plan.reserve else ""
        reset = f" until {show_when(plan.resets_at)}" if plan.resets_at else ""
        lines.append(f"{fits}: {plan.remaining:,} left{reserve}{reset}")
    return lines


def write_plan(plan: Plan, output: Output) -> ExitCode:
    """Write what a sync would do, and its cost; return the exit code."""
    for file in plan.files:
        line = f"{file.action.value:<8} {show_size(file.size):>7}  {printable(file.path, maximum=300)}"
        output.result({"type": "file", **fields_of(file)}, line)
    counts = {action.value: number for action, number in plan.counts.items()}
    summary = {"type": "summary", "counts": counts, "bytes": plan.bytes_to_fetch, **cost_record(plan)}
    output.result(summary, *describe_plan(plan))
    return ExitCode.OK


def write_verification(result: Verification, output: Output, directory: Path) -> ExitCode:
    """Write the result of a verification and return the exit code."""
    code = ExitCode.SOME_FAILED if result.bad else ExitCode.OK
    groups = {"changed": result.changed, "missing": result.missing, "unknown": result.unknown}
    for name, rows in groups.items():
        for row in rows:
            path = _relative(row.path, directory)
            if output.json:
                output.record({"type": "file", "verdict": name, **fields_of(row), "path": path})
            elif name != "unknown":
                output.data(f"{name:<8} {printable(path, maximum=300)}")
    counts = {name: len(rows) for name, rows in groups.items()}
    summary = {"type": "summary", "ok": result.ok, **counts, "exit_code": int(code)}
    output.result(summary, describe_verification(result))
    if result.bad and not output.json:
        output.error("Files are missing or have other content; the next sync downloads them again.")
    return code


def describe_verification(result: Verification) -> str:
    """Return the result of a verification as one line."""
    parts = [f"{show_count(result.ok, 'file')} verified"]
    for name, rows in (("changed", result.changed), ("missing", result.missing), ("not verifiable", result.unknown)):
        if rows:
            parts.append(f"{len(rows):,} {name}")
    return ", ".join(parts)


def write_notices(notices: Sequence[Notice], output: Output) -> None:
    """Write what a service says about a file set."""
    for notice in notices:
        if not output.json:
            output.note(notice.text)
        for row in notice.rows if output.json else ():
            output.record({"type": notice.kind, **fields_of(row)})


def write_run_status(output: Output, seen: RunSeen[ExportRun] | RunSeen[ImportRun]) -> None:
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


def write_import(run: ImportRun, output: Output, *, done: str) -> ExitCode:
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


def write_quota(left: Quota | None, usages: list[ApiUsage], output: Output) -> None:
    """Write the remaining requests of the day, and who sent how many to which endpoint, the largest numbers first."""
    if left is None or left.remaining is None:
        output.note("Arena PLM: the service did not return the number of remaining requests.")
    elif output.json:
        output.record({"type": "quota", "service": "arena", **fields_of(left)})
    else:
        limit = f" of {left.limit:,}" if left.limit is not None else ""
        output.data(f"Arena PLM: {left.remaining:,}{limit} requests left until {show_when(left.resets_at)}")
    rows = sorted(usages, key=lambda row: row.count or 0, reverse=True)
    if output.json:
        for row in rows:
            output.record({"type": "usage", "service": "arena", **fields_of(row)})
    elif rows and not output.quiet:
        columns = ("count", "who", "method", "endpoint", "date")
        output.table(columns, rows)


def _relative(path: Path, directory: Path) -> str:
    """Return a path relative to the directory, with forward slashes."""
    return (path.relative_to(directory) if path.is_relative_to(directory) else path).as_posix()
