"""The commands that let the service work: run an export, check an import, commit it."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

from arena_async.cli.exits import Exit
from arena_async.cli.jobs import Connect, Options, Teller, conclude, count_files
from arena_async.cli.output import Output, show_count
from arena_async.cli.render import View
from arena_async.cli.running import exit_code
from arena_async.cli.values import shown
from arena_async.errors import QuotaExhaustedError, TransfersFailedError
from arena_async.options import PollPolicy, TransferOptions
from arena_async.providers.arena import Submission
from arena_async.transfer.mirror import Mirror
from arena_async.wire.messages import printable

__all__ = ["export_run", "import_check", "import_commit"]

#: Makes the policy by which a run is waited for; a wrong one is a complaint of the command.
Poll = Callable[[], PollPolicy]

#: Warnings of an import that are told one by one.
_MOST_WARNINGS = 20


async def export_run(
    connect: Connect, definition: str, output: Output, *, to: Path, options: Options, poll: Poll, fresh: bool
) -> int:
    """Start an export run, wait for it, and bring its files home."""

    async def fetch(client: Any, mirror: Mirror, watch: Any) -> Any:
        return await client.exports.fetch(definition, mirror, poll=poll(), fresh=fresh, watch=watch)

    code, _ = await _fetch(connect, fetch, output, to=to, options=options())
    return code


async def import_check(
    connect: Connect, definition: str, file: Path, output: Output, *, worksheet: str | None, to: Path, poll: Poll
) -> int:
    """Let the service check a file without importing it, and bring what it says about each row."""

    async def fetch(client: Any, mirror: Mirror, watch: Any) -> Any:
        return await client.imports.fetch(
            definition, Submission(file, worksheet=worksheet), mirror, poll=poll(), watch=watch
        )

    code, fetched = await _fetch(connect, fetch, output, to=to, options=TransferOptions(workers=2))
    if fetched is None:
        return code
    told = _tell_import(fetched.run, output, done="would be imported")
    errors = [path for path in fetched.paths if path.stem == "error"]
    if told is not Exit.OK:
        where = f" They are in {errors[0]}." if errors else ""
        output.complain(f"Rows failed, and nothing was imported.{where} Mend the file and check it again.")
    elif not output.json:
        commit = shlex.join(["arena-async", "import", "commit", definition, fetched.run.guid])
        output.note(f"Nothing was imported yet. To do it: {commit}")
    return max(code, told)


async def import_commit(
    connect: Connect, definition: str, run: str, output: Output, *, despite_errors: bool, poll: Poll
) -> int:
    """Commit a run that was checked, and wait until that is done."""
    async with connect() as client:
        committed = await client.imports.commit(definition, run, despite_errors=despite_errors)
        done = await client.imports.wait(definition, committed, poll=poll(), watch=_Watcher(output))
    told = _tell_import(done, output, done="imported")
    if told is not Exit.OK:
        output.complain("Rows failed; the others were imported.")
    return told


async def _fetch(
    connect: Connect, fetch: Any, output: Output, *, to: Path, options: TransferOptions
) -> tuple[Exit, Any]:
    """Do a whole job, and give its exit code and what came of it, or None where files failed."""
    fetched = None
    async with connect() as client, View(output) as view:
        teller = Teller(output, view, to)
        async with Mirror(to, options=options, observer=teller) as mirror:
            try:
                fetched = await fetch(client, mirror, _Watcher(output))
            except TransfersFailedError as failed:
                code = _code_of(failed)
            here = await count_files(mirror)
    teller.say_rest()
    if fetched is None:
        output.complain("The run is done, but not all of its files are here; the same command fetches the rest.")
        return code, None
    return Exit(conclude(fetched.report, output, here=here, to=to, told=teller.told)), fetched


def _code_of(failed: TransfersFailedError) -> Exit:
    """Tell how a command ends whose files did not all come."""
    spent = [error for error in failed.exceptions if isinstance(error, QuotaExhaustedError)]
    return exit_code(spent[0]) if spent else Exit.SOME_FAILED


class _Watcher:
    """
    Tells about a run while it is waited for.

    Args:
        output: Where to.
    """

    def __init__(self, output: Output) -> None:
        self._output = output

    def __call__(self, seen: Any) -> None:
        """Take what is seen of a run."""
        run = seen.run
        if self._output.json:
            self._output.record(
                {
                    "type": "run",
                    "how": seen.how,
                    "guid": run.guid if run else None,
                    "status": run.status if run else None,
                    "asked": seen.asked,
                    "again_in": seen.again_in,
                }
            )
        again = "" if seen.again_in is None else f", next question in {seen.again_in:.0f} s"
        if run is None:
            self._output.note(f"Another export is in progress; this one waits in line{again}.")
            return
        words = {
            "started": "was started",
            "found": "was started, as the list shows",
            "resumed": "was started before and is waited for",
        }
        said = words.get(seen.how, f"is {printable(str(run.status))}{again}")
        self._output.note(f"run {printable(run.guid)} {said}")


def _tell_import(run: Any, output: Output, *, done: str) -> Exit:
    """Write what an import run came to, and give the exit code that says whether rows failed."""
    code = Exit.SOME_FAILED if run.has_errors else Exit.OK
    if output.json:
        output.record({"type": "import", **shown(run), "has_errors": run.has_errors, "exit_code": int(code)})
        return code
    warnings = run.warnings.results if run.warnings else ()
    count = run.warnings.count if run.warnings and run.warnings.count is not None else len(warnings)
    if not output.quiet:
        output.data(
            f"{show_count(run.total_count or 0, 'row')}: {run.success_count or 0:,} {done}, "
            f"{run.error_count or 0:,} failed, {show_count(count, 'warning')}"
        )
    for warning in warnings[:_MOST_WARNINGS]:
        output.note(f"warning {warning.code}: {printable(warning.message or '')}")
    if count > _MOST_WARNINGS:
        output.note(f"and {count - _MOST_WARNINGS:,} more warnings; --json shows all that the service gave")
    return code
